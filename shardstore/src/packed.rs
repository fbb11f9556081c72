//! Group commit of small objects: a flush takes the whole batch that waits at this core, without a timer.
//! Invariants: objects of a batch lie one after the other in one run of stripes; each gets its extent only when
//! the run is durable; a flush runs in a task of its own and is never dropped.
//! Not here: places and writes (`append`).

use std::rc::Rc;

use futures_channel::oneshot;
use shardstore_format::{Extent, PAGE_MAX_SECTORS, Profile};
use shardstore_reactor::{AlignedBuf, Drive, Executor};

use crate::append::Placed;
use crate::catalog::Catalog;
use crate::lane::Lane;
use crate::options::{FLUSH_MAX_BYTES, FLUSHES_IN_FLIGHT_MAX};
use crate::place::PutError;
use crate::run::{Run, TailRule, page_len_at};
use crate::shared::count;
use crate::store::StoreInner;
use crate::table::Pin;
use crate::wait::answer;

/// A small object that waits for its flush.
pub(crate) struct PackedItem {
    pub(crate) parts: Vec<AlignedBuf>,
    pub(crate) len_bytes: u64,
    pub(crate) reply: oneshot::Sender<Result<(Extent, Pin), PutError>>,
}

impl<D: Drive, X: Executor, C: Catalog> StoreInner<D, X, C> {
    /// Hands an object to the next flush, and begins one if few are in flight.
    pub(crate) fn enqueue(self: &Rc<Self>, item: PackedItem) {
        assert!(item.len_bytes > 0);
        self.waiting.borrow_mut().push_back(item);
        if self.flushes_in_flight.get() < FLUSHES_IN_FLIGHT_MAX {
            self.flushes_in_flight.set(self.flushes_in_flight.get() + 1);
            let store = Rc::clone(self);
            self.media.executor.spawn(async move {
                while let Some(batch) = store.take_batch() {
                    store.flush(Lane::Packed, batch).await;
                }
                store.flushes_in_flight.set(store.flushes_in_flight.get() - 1);
            });
        }
    }

    fn take_batch(&self) -> Option<Vec<PackedItem>> {
        let mut waiting = self.waiting.borrow_mut();
        let mut batch = Vec::new();
        let mut len_bytes = 0;
        while let Some(item) = waiting.front() {
            if !batch.is_empty() && len_bytes + item.len_bytes > FLUSH_MAX_BYTES {
                break;
            }
            len_bytes += item.len_bytes;
            batch.extend(waiting.pop_front());
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// Writes a batch as one run and answers each of its items.
    pub(crate) async fn flush(self: &Rc<Self>, lane: Lane, batch: Vec<PackedItem>) {
        count(&self.media.shared.counts.flushes, 1);
        count(&self.media.shared.counts.packed_extents, batch.len() as u64);
        let len_bytes = batch.iter().map(|item| item.len_bytes).sum();
        let placed = match self.gather(lane, &batch, len_bytes) {
            Ok(run) => self.append(lane, run).await,
            Err(error) => Err(error),
        };
        let mut offset_bytes = 0;
        for item in batch {
            let reply = match &placed {
                Ok(placed) => {
                    let extent = extent_in(placed, len_bytes, offset_bytes, item.len_bytes);
                    Ok((extent, Pin::new_beside(&placed.pin)))
                }
                Err(error) => Err(error.clone()),
            };
            offset_bytes += item.len_bytes;
            // If whoever waited has gone, its bytes are dead.
            answer(item.reply, reply);
        }
    }

    fn gather(&self, lane: Lane, batch: &[PackedItem], len_bytes: u64) -> Result<Run, PutError> {
        let profile = self.likely_profile(lane);
        let codec = self.media.codec(profile).ok_or(PutError::DrivesLost)?;
        let parts = batch.iter().flat_map(|item| item.parts.iter().map(|part| &part[..]));
        let bufs = self.media.shared.bufs();
        let run = Run::gather(bufs, &codec, profile, TailRule::Cheapest, len_bytes, parts);
        run.map_err(|_| PutError::Overloaded)
    }
}

/// Where bytes of a durable run lie.
pub(crate) fn extent_in(placed: &Placed, run_len_bytes: u64, offset_bytes: u64, len_bytes: u64) -> Extent {
    let Placed { pin, sector, profile } = placed;
    let stripe_payload = profile.stripe_payload_bytes();
    let stripe = u32::try_from(offset_bytes / stripe_payload).expect("runs are short");
    let last_byte = offset_bytes + len_bytes - 1;
    Extent {
        volume: pin.volume().id,
        sector: sector + stripe * u32::from(PAGE_MAX_SECTORS),
        byte_in_stripe: u32::try_from(offset_bytes % stripe_payload).expect("a stripe is at most 2 MiB"),
        len_bytes,
        page_len_sectors: page_len_at(*profile, TailRule::Cheapest, run_len_bytes, last_byte),
    }
}

/// Whether `next` goes on where `extent` ends, all of whose stripes are full.
pub(crate) fn continues(extent: &Extent, next: &Extent, profile: Profile) -> bool {
    let end_bytes = u64::from(extent.byte_in_stripe) + extent.len_bytes;
    let stripes = end_bytes / profile.stripe_payload_bytes();
    let is_full = end_bytes.is_multiple_of(profile.stripe_payload_bytes());
    let end_sector = u64::from(extent.sector) + stripes * u64::from(PAGE_MAX_SECTORS);
    is_full
        && extent.page_len_sectors == PAGE_MAX_SECTORS
        && next.volume == extent.volume
        && next.byte_in_stripe == 0
        && u64::from(next.sector) == end_sector
}
