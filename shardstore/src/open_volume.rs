//! A volume that this core appends to: its append point, its growth, and the frontier of durable stripes.
//! Invariants: places are given out in order and never twice; a place counts as durable only when every place
//! before it is, so all stripes below the frontier are whole; once a write failed nothing more is given out.
//! Not here: I/O (`append`).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use futures_channel::oneshot;
use shardstore_reactor::MonotonicTime;

use crate::lane::Lane;
use crate::place::PutError;
use crate::table::{Pin, Volume};
use crate::wait::{Waiters, answer};

/// What became of a written place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It and all before it are on stable media.
    Durable,
    /// It lies past the end that the volume will be sealed at.
    Rewrite,
}

/// A place to write a run to.
pub(crate) struct Reservation {
    slot: u64,
    pub(crate) sector: u32,
    pub(crate) pin: Pin,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// The rest of the segment is too short: seal and go on elsewhere.
    Full,
    /// Growth has not come this far: wait for it.
    NotReady,
}

/// An open volume; `files` by shard.
pub(crate) struct OpenVolume<F> {
    pub(crate) volume: Arc<Volume>,
    pub(crate) lane: Lane,
    pub(crate) files: Vec<F>,
    /// Health of the pool when its drives were chosen.
    pub(crate) generation: u64,
    segment_sectors: u32,
    state: RefCell<State>,
    drained: Waiters,
}

struct State {
    next_sector: u32,
    ready_sector: u32,
    frontier_sector: u32,
    slots: VecDeque<Slot>,
    slots_given: u64,
    is_closing: bool,
    is_sealer_found: bool,
    is_broken: bool,
    is_growing: bool,
    growth_waiters: Vec<oneshot::Sender<Result<(), PutError>>>,
    appended_bytes: u64,
    last_append: MonotonicTime,
}

struct Slot {
    number: u64,
    end_sector: u32,
    state: SlotState,
}

enum SlotState {
    Writing,
    Written(oneshot::Sender<Outcome>),
    Failed(oneshot::Sender<Outcome>),
}

impl<F> OpenVolume<F> {
    pub(crate) fn new(
        volume: Arc<Volume>,
        lane: Lane,
        files: Vec<F>,
        generation: u64,
        segment_sectors: u32,
        now: MonotonicTime,
    ) -> OpenVolume<F> {
        assert_eq!(files.len(), volume.profile.shards());
        let state = State {
            next_sector: 0,
            ready_sector: 0,
            frontier_sector: 0,
            slots: VecDeque::new(),
            slots_given: 0,
            is_closing: false,
            is_sealer_found: false,
            is_broken: false,
            is_growing: false,
            growth_waiters: Vec::new(),
            appended_bytes: 0,
            last_append: now,
        };
        OpenVolume {
            volume,
            lane,
            files,
            generation,
            segment_sectors,
            state: RefCell::new(state),
            drained: Waiters::default(),
        }
    }

    /// Takes the next place of so many sectors.
    pub(crate) fn reserve(
        &self,
        sectors: u32,
        payload_bytes: u64,
        now: MonotonicTime,
    ) -> Result<Reservation, NoPlace> {
        let mut state = self.state.borrow_mut();
        assert!(!state.is_closing);
        assert!(sectors > 0);
        let end_sector = state.next_sector + sectors;
        if end_sector > self.segment_sectors {
            return Err(NoPlace::Full);
        }
        if end_sector > state.ready_sector {
            return Err(NoPlace::NotReady);
        }
        let (slot, sector) = (state.slots_given, state.next_sector);
        state.slots.push_back(Slot { number: slot, end_sector, state: SlotState::Writing });
        state.slots_given += 1;
        state.next_sector = end_sector;
        state.appended_bytes += payload_bytes;
        state.last_append = now;
        Ok(Reservation { slot, sector, pin: Pin::new(&self.volume) })
    }

    /// Says how a place's write ended; the answer comes once that of every place before it is known.
    pub(crate) fn finish(&self, reservation: &Reservation, written: bool) -> oneshot::Receiver<Outcome> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state.borrow_mut();
        let slot = state.slots.iter_mut().find(|slot| slot.number == reservation.slot);
        let slot = slot.expect("a place is finished once");
        slot.state = if written { SlotState::Written(sender) } else { SlotState::Failed(sender) };
        state.is_closing |= !written;
        state.settle();
        self.volume.set_frontier(state.frontier_sector);
        drop(state);
        self.wake_if_drained();
        receiver
    }

    /// No more places from now on. True for the first caller, who seals the volume.
    pub(crate) fn close(&self) -> bool {
        let mut state = self.state.borrow_mut();
        state.growth_waiters.clear();
        state.is_closing = true;
        !std::mem::replace(&mut state.is_sealer_found, true)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.state.borrow().is_closing
    }

    /// Returns once nothing is in flight.
    pub(crate) async fn drained(&self) {
        while !self.state.borrow().is_drained() {
            self.drained.wait().await;
        }
    }

    fn wake_if_drained(&self) {
        if self.state.borrow().is_drained() {
            self.drained.wake_all();
        }
    }

    /// One past the last sector of the last stripe up to which all are durable.
    pub(crate) fn frontier_sector(&self) -> u32 {
        self.state.borrow().frontier_sector
    }

    /// The append point.
    pub(crate) fn next_sector(&self) -> u32 {
        self.state.borrow().next_sector
    }

    /// Payload appended so far, and when last.
    pub(crate) fn appended(&self) -> (u64, MonotonicTime) {
        let state = self.state.borrow();
        (state.appended_bytes, state.last_append)
    }

    /// Whether the next volume should be prepared.
    pub(crate) fn is_three_quarters_full(&self) -> bool {
        self.state.borrow().next_sector > self.segment_sectors / 4 * 3
    }

    /// First sector to grow from and how many, if the append point is within `ahead_sectors` of what is ready
    /// and no growth is under way. Growth is under way from then on.
    pub(crate) fn begin_growth(&self, ahead_sectors: u32, step: impl Fn(u32) -> u32) -> Option<(u32, u32)> {
        let mut state = self.state.borrow_mut();
        let (from, ahead) = (state.ready_sector, state.ready_sector - state.next_sector);
        if state.is_growing || state.is_closing || ahead >= ahead_sectors || from >= self.segment_sectors {
            return None;
        }
        state.is_growing = true;
        Some((from, step(from).min(self.segment_sectors - from)))
    }

    /// Ends the growth that [`OpenVolume::begin_growth`] began.
    pub(crate) fn end_growth(&self, sectors: u32, result: &Result<(), PutError>) {
        let mut state = self.state.borrow_mut();
        assert!(state.is_growing);
        state.is_growing = false;
        if result.is_ok() {
            state.ready_sector += sectors;
        }
        for waiter in std::mem::take(&mut state.growth_waiters) {
            answer(waiter, result.clone());
        }
        drop(state);
        self.wake_if_drained();
    }

    /// The result of the growth under way, if there is one; it is cancelled when the volume is closed.
    pub(crate) fn growth(&self) -> Option<oneshot::Receiver<Result<(), PutError>>> {
        let mut state = self.state.borrow_mut();
        if !state.is_growing {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        state.growth_waiters.push(sender);
        Some(receiver)
    }
}

impl State {
    fn settle(&mut self) {
        while !self.is_broken {
            match self.slots.pop_front() {
                None => break,
                Some(Slot { end_sector, state: SlotState::Written(waiter), .. }) => {
                    assert!(end_sector > self.frontier_sector);
                    self.frontier_sector = end_sector;
                    answer(waiter, Outcome::Durable);
                }
                Some(Slot { state: SlotState::Failed(waiter), .. }) => {
                    self.is_broken = true;
                    answer(waiter, Outcome::Rewrite);
                }
                Some(writing) => {
                    self.slots.push_front(writing);
                    break;
                }
            }
        }
        if self.is_broken {
            // Everything from the failed place on is past the end, as soon as its own write has ended.
            let (writing, ended): (VecDeque<Slot>, VecDeque<Slot>) = std::mem::take(&mut self.slots)
                .into_iter()
                .partition(|slot| matches!(slot.state, SlotState::Writing));
            self.slots = writing;
            for slot in ended {
                if let SlotState::Written(waiter) | SlotState::Failed(waiter) = slot.state {
                    answer(waiter, Outcome::Rewrite);
                }
            }
        }
    }

    fn is_drained(&self) -> bool {
        self.slots.is_empty() && !self.is_growing
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use shardstore_format::{DriveId, Profile, VolumeClass, VolumeId, VolumeRecord, VolumeState};

    const NOW: MonotonicTime = MonotonicTime { micros: 1 };

    fn open() -> OpenVolume<()> {
        let record = VolumeRecord {
            id: VolumeId(1),
            profile: Profile { k: 1, m: 0 },
            class: VolumeClass::Large,
            state: VolumeState::Open,
            segments: vec![DriveId(1)],
        };
        let open =
            OpenVolume::new(Arc::new(Volume::new(&record, |_| Some(0))), Lane::Large, vec![()], 0, 100, NOW);
        assert_eq!(open.begin_growth(1, |_| 64), Some((0, 64)));
        open.end_growth(64, &Ok(()));
        open
    }

    #[test]
    fn a_place_is_durable_only_after_all_before_it() {
        let open = open();
        let (first, second) = (open.reserve(16, 1, NOW).unwrap(), open.reserve(4, 1, NOW).unwrap());
        assert_eq!((first.sector, second.sector), (0, 16));
        let mut late = open.finish(&second, true);
        assert_eq!(late.try_recv(), Ok(None));
        assert_eq!(open.frontier_sector(), 0);
        let mut early = open.finish(&first, true);
        assert_eq!(early.try_recv(), Ok(Some(Outcome::Durable)));
        assert_eq!(late.try_recv(), Ok(Some(Outcome::Durable)));
        assert_eq!(open.frontier_sector(), 20);
    }

    #[test]
    fn all_from_the_failed_place_on_is_rewritten_and_what_came_before_stays() {
        let open = open();
        let places: Vec<Reservation> = (0..4).map(|_| open.reserve(8, 1, NOW).unwrap()).collect();
        let mut third = open.finish(&places[2], true);
        let mut second = open.finish(&places[1], false);
        assert!(open.is_closing());
        assert_eq!((third.try_recv(), second.try_recv()), (Ok(None), Ok(None)));
        let mut first = open.finish(&places[0], true);
        assert_eq!(first.try_recv(), Ok(Some(Outcome::Durable)));
        assert_eq!(second.try_recv(), Ok(Some(Outcome::Rewrite)));
        assert_eq!(third.try_recv(), Ok(Some(Outcome::Rewrite)));
        let mut fourth = open.finish(&places[3], true);
        assert_eq!(fourth.try_recv(), Ok(Some(Outcome::Rewrite)));
        assert_eq!(open.frontier_sector(), 8);
    }

    #[test]
    fn places_stop_at_what_is_ready_and_at_the_end() {
        let open = open();
        assert_eq!(open.reserve(65, 1, NOW).err(), Some(NoPlace::NotReady));
        assert_eq!(open.reserve(101, 1, NOW).err(), Some(NoPlace::Full));
        assert_eq!(open.begin_growth(65, |_| 64), Some((64, 36)));
        assert_eq!(open.begin_growth(65, |_| 64), None);
        open.end_growth(36, &Ok(()));
        assert!(open.reserve(100, 1, NOW).is_ok());
    }
}
