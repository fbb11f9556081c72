//! The drives of the pool as the store sees them: which are there, which can be read, which take new volumes.
//! Invariants: a member keeps its index for the life of the process, also after it was removed; a drive whose write
//! failed is never used again under the same handle; every change of who takes new volumes raises the generation, by
//! which open volumes notice that they must be sealed.
//! Not here: fencing itself (`reactor`), the handles (`media`), repair.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};
use shardstore_format::DriveId;

/// One member of the pool.
pub(crate) struct DriveSlot {
    pub(crate) id: DriveId,
    pub(crate) label: String,
    pub(crate) state: DriveState,
    /// How often it came (back): a core whose handle is older opens another.
    pub(crate) arrival: u64,
}

/// Whether a drive takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriveState {
    /// Reads and writes.
    Healthy,
    /// Reads, and no new volumes: its shards are being moved elsewhere.
    Draining,
    /// Not there when the process started, or gone since.
    Missing,
    /// Fenced after a failed write, or because it hung.
    Failed,
    /// No member any more.
    Removed,
}

impl DriveState {
    /// Whether what lies on it can be read.
    pub fn is_readable(self) -> bool {
        matches!(self, DriveState::Healthy | DriveState::Draining)
    }
}

/// A member of the pool, for whoever watches them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriveInfo {
    /// Its identity.
    pub id: DriveId,
    /// The name that an operator knows it by.
    pub label: String,
    /// Whether it takes part.
    pub state: DriveState,
}

type Slots = Vec<Arc<DriveSlot>>;

/// All members, in the pool's order; those that joined while the process ran come last.
pub(crate) struct DriveTable {
    slots: ArcSwap<Slots>,
    generation: AtomicU64,
}

impl DriveTable {
    pub(crate) fn new(members: impl Iterator<Item = (DriveId, String, bool)>) -> DriveTable {
        let slots = members.map(|(id, label, present)| {
            let state = if present { DriveState::Healthy } else { DriveState::Missing };
            Arc::new(DriveSlot { id, label, state, arrival: 0 })
        });
        DriveTable { slots: ArcSwap::from_pointee(slots.collect()), generation: AtomicU64::new(0) }
    }

    /// All members as they are now.
    pub(crate) fn slots(&self) -> Guard<Arc<Slots>> {
        self.slots.load()
    }

    pub(crate) fn slot(&self, index: usize) -> Arc<DriveSlot> {
        Arc::clone(&self.slots.load()[index])
    }

    pub(crate) fn index_of(&self, id: DriveId) -> Option<usize> {
        self.slots.load().iter().position(|slot| slot.id == id)
    }

    /// Takes a drive that takes part out of all reading and writing; true for the first to notice.
    pub(crate) fn mark_failed(&self, index: usize) -> bool {
        let failed =
            |slot: &DriveSlot| slot.state.is_readable().then_some((DriveState::Failed, slot.arrival));
        self.change(index, failed).is_some()
    }

    /// A drive is not there any more; true for the first to notice. One that had failed is only missing then: what
    /// comes back in its place is looked at anew.
    pub(crate) fn mark_missing(&self, index: usize) -> bool {
        let is_there = |state: DriveState| state.is_readable() || state == DriveState::Failed;
        let missing = |slot: &DriveSlot| is_there(slot.state).then_some((DriveState::Missing, slot.arrival));
        self.change(index, missing).is_some()
    }

    /// A drive came back under a new handle, which every core opens for itself.
    pub(crate) fn mark_returned(&self, index: usize) {
        self.change(index, |slot| Some((DriveState::Healthy, slot.arrival + 1)));
    }

    /// No new volumes go to the drive; or, after a drain that was called off, they do again.
    pub(crate) fn set_draining(&self, index: usize, draining: bool) {
        let (from, to) = match draining {
            true => (DriveState::Healthy, DriveState::Draining),
            false => (DriveState::Draining, DriveState::Healthy),
        };
        self.change(index, |slot| (slot.state == from).then_some((to, slot.arrival)));
    }

    /// The drive is no member any more.
    pub(crate) fn mark_removed(&self, index: usize) {
        self.change(index, |slot| Some((DriveState::Removed, slot.arrival)));
    }

    /// A drive joins; returns its index. One that is there already stays as it is.
    pub(crate) fn join(&self, id: DriveId, label: &str) -> usize {
        self.slots.rcu(|slots| {
            let mut slots = Slots::clone(slots);
            if !slots.iter().any(|slot| slot.id == id) {
                let (label, state) = (label.to_owned(), DriveState::Healthy);
                slots.push(Arc::new(DriveSlot { id, label, state, arrival: 0 }));
            }
            slots
        });
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.index_of(id).expect("pushed above, and never taken out")
    }

    /// Replaces a slot's state and arrival if `next` says so; returns the state before.
    fn change(
        &self,
        index: usize,
        next: impl Fn(&DriveSlot) -> Option<(DriveState, u64)>,
    ) -> Option<DriveState> {
        let mut before = None;
        self.slots.rcu(|slots| {
            let mut slots = Slots::clone(slots);
            let slot = &slots[index];
            before = None;
            if let Some((state, arrival)) = next(slot) {
                before = Some(slot.state);
                slots[index] = Arc::new(DriveSlot { id: slot.id, label: slot.label.clone(), state, arrival });
            }
            slots
        });
        if before.is_some() {
            self.generation.fetch_add(1, Ordering::SeqCst);
        }
        before
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Members that take new volumes.
    pub(crate) fn healthy(&self) -> Vec<usize> {
        let slots = self.slots.load();
        (0..slots.len()).filter(|&index| slots[index].state == DriveState::Healthy).collect()
    }

    /// Members that can be read.
    pub(crate) fn readable(&self) -> Vec<usize> {
        let slots = self.slots.load();
        (0..slots.len()).filter(|&index| slots[index].state.is_readable()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> DriveTable {
        DriveTable::new((1..=3).map(|id| (DriveId(id), format!("d{id}"), id != 3)))
    }

    #[test]
    fn a_drive_fails_once_and_comes_back_as_a_new_arrival() {
        let drives = table();
        assert_eq!(drives.healthy(), [0, 1]);
        let generation = drives.generation();
        assert!(drives.mark_failed(0));
        assert!(!drives.mark_failed(0));
        assert_eq!(drives.generation(), generation + 1);
        assert_eq!((drives.slot(0).state, drives.slot(0).arrival), (DriveState::Failed, 0));
        assert!(drives.mark_missing(0) && !drives.mark_missing(0));
        drives.mark_returned(0);
        assert_eq!((drives.slot(0).state, drives.slot(0).arrival), (DriveState::Healthy, 1));
        assert_eq!(drives.generation(), generation + 3);
    }

    #[test]
    fn a_draining_drive_is_read_and_takes_no_new_volumes() {
        let drives = table();
        drives.set_draining(1, true);
        assert_eq!((drives.healthy(), drives.readable()), (vec![0], vec![0, 1]));
        drives.set_draining(2, true);
        assert_eq!(drives.slot(2).state, DriveState::Missing, "a drive that is not there cannot be drained");
        drives.set_draining(1, false);
        assert_eq!(drives.healthy(), [0, 1]);
    }

    #[test]
    fn members_keep_their_index_when_others_join_or_go() {
        let drives = table();
        let joined = drives.join(DriveId(9), "d9");
        assert_eq!((joined, drives.join(DriveId(9), "d9")), (3, 3));
        drives.mark_removed(0);
        assert_eq!(drives.index_of(DriveId(9)), Some(3));
        assert_eq!(drives.healthy(), [1, 3]);
    }
}
