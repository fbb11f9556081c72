//! Compaction: what is live in a sparse volume moves to others, and the emptied volume is dropped by reclaim.
//! Invariants: bytes are durable in their new place before metadata says that they lie there; a crash in between leaves
//! dead bytes; a volume is emptied at most by one task of a process; what is moved was verified when it was read.
//! Not here: dropping emptied volumes (`reclaim`), the transaction (`Catalog::relocate`).
//!
//! Which volumes: those whose live bytes are under a share of what their sectors hold, the emptiest first. The share
//! follows how full the drives are ([`wanted_share`]): moving costs u / (1 - u) bytes written for each byte won at a
//! share u, so while there is room little is moved, and from 75 % full no volume keeps more than 23 % dead bytes: the
//! space amplification is at most 1 / 0.77 = 1.3.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_channel::oneshot;
use shardstore_format::{
    Extent, PAGE_HEADER_BYTES, PAGE_MAX_BYTES, SECTOR_BYTES, VolumeClass, VolumeId, VolumeState,
};
use shardstore_reactor::{Drive, Executor};

use crate::catalog::{Catalog, CatalogError, OwnerRow, VolumeUsage};
use crate::lane::Lane;
use crate::options::{
    BACKGROUND_PERIOD, FLUSH_MAX_BYTES, LARGE_MIN_BYTES, OVERLOAD_WAIT, VOLUMES_BATCH, in_memory,
    reserve_bytes,
};
use crate::pace::Pace;
use crate::packed::PackedItem;
use crate::put::Evidence;
use crate::shared::count;
use crate::store::{Store, StoreInner};

/// Shares in thousandths, so that they are compared without floating point.
const SHARE_ONE: u64 = 1_000;
/// Below this much of the drives in use only volumes that are mostly dead are emptied.
const FULL_LOW: u64 = 500;
const SHARE_LOW: u64 = 250;
/// From here on the stated bound holds; below the 80 % at which it is promised, because open volumes come on top.
const FULL_HIGH: u64 = 750;
const SHARE_HIGH: u64 = 770;
/// With a drive at its reserve PUT is refused: whatever wins a tenth is worth it.
const SHARE_AT_RESERVE: u64 = 900;
/// A volume is emptied only if that wins so much: what a restart seals early is small, and is left alone.
const WON_MIN_BYTES: u64 = 1024 * 1024;
/// Owner rows moved by one transaction: each is a few hundred bytes of it, far below the limits of 10 MB and 5 s.
const MOVES_AT_ONCE: usize = 256;
/// Attempts at a batch that metadata is too busy for.
const TRIES_MAX: u32 = 20;
/// Rounds of the background between two looks for sparse volumes.
const ROUNDS_BETWEEN_LOOKS: u32 = 10;

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionReport {
    /// Volumes that were emptied.
    pub volumes: usize,
    /// Live bytes that were moved.
    pub moved_bytes: u64,
}

/// The share of live bytes below which a volume is emptied, in thousandths, by how full the fullest drive is.
fn wanted_share(full: u64, is_at_reserve: bool) -> u64 {
    if is_at_reserve {
        return SHARE_AT_RESERVE;
    }
    match full {
        ..FULL_LOW => SHARE_LOW,
        FULL_HIGH.. => SHARE_HIGH,
        _ => SHARE_LOW + (SHARE_HIGH - SHARE_LOW) * (full - FULL_LOW) / (FULL_HIGH - FULL_LOW),
    }
}

/// Payload that the sectors of a volume can hold.
fn capacity_bytes(usage: &VolumeUsage) -> Option<u64> {
    let VolumeState::Sealed { end_sector } = usage.record.state else { return None };
    let segment_bytes = u64::from(end_sector) * SECTOR_BYTES;
    let payload_bytes = segment_bytes - segment_bytes / PAGE_MAX_BYTES * PAGE_HEADER_BYTES;
    Some(payload_bytes * u64::from(usage.record.profile.k))
}

/// Live bytes of what a volume can hold, in thousandths; `None` if emptying it would win next to nothing.
pub(crate) fn share_of(usage: &VolumeUsage) -> Option<u64> {
    let live_bytes = u64::try_from(usage.live_bytes).unwrap_or(0);
    let capacity_bytes = capacity_bytes(usage)?;
    let won_bytes = capacity_bytes.saturating_sub(live_bytes);
    (won_bytes >= WON_MIN_BYTES).then(|| live_bytes * SHARE_ONE / capacity_bytes)
}

impl<D: Drive, X: Executor, C: Catalog> Store<D, X, C> {
    /// Empties every volume that is due now; what they held is dropped by the next reclaim.
    ///
    /// # Errors
    /// [`CatalogError`]: what is left is moved another time.
    pub async fn compact_now(&self) -> Result<CompactionReport, CatalogError> {
        self.inner.compact_alone(None).await
    }

    /// Compacts until the store stops. Runs on one core of the process.
    pub(crate) async fn run_compaction(self) {
        let shared = Arc::clone(self.shared());
        let executor = self.inner.media.executor.clone();
        let pace = Pace::new(executor.now());
        let mut round = 0;
        while !shared.stopping.load(Ordering::SeqCst) {
            executor.sleep(BACKGROUND_PERIOD).await;
            round += 1;
            let is_due = round % ROUNDS_BETWEEN_LOOKS == 0 || shared.is_full.load(Ordering::Relaxed);
            if is_due && let Err(error) = self.inner.compact_alone(Some(&pace)).await {
                tracing::debug!(%error, "compaction was put off");
            }
        }
    }
}

impl<D: Drive, X: Executor, C: Catalog> StoreInner<D, X, C> {
    /// Compacts once nobody else of this core does.
    pub(crate) async fn compact_alone(
        self: &Rc<Self>,
        pace: Option<&Pace>,
    ) -> Result<CompactionReport, CatalogError> {
        while self.is_compacting.replace(true) {
            self.media.executor.sleep(BACKGROUND_PERIOD).await;
        }
        let done = self.compact(pace).await;
        self.is_compacting.set(false);
        done
    }

    async fn compact(self: &Rc<Self>, pace: Option<&Pace>) -> Result<CompactionReport, CatalogError> {
        let wanted = self.wanted_share_now().await;
        let mut due = Vec::new();
        let mut from = VolumeId(0);
        loop {
            let usages = self.catalog.volumes(from, VOLUMES_BATCH).await?;
            let Some(last) = usages.last() else { break };
            from = VolumeId(last.record.id.0 + 1);
            for usage in usages {
                let share = share_of(&usage).filter(|share| *share < wanted && usage.live_bytes > 0);
                due.extend(share.map(|share| (share, usage.record.id)));
            }
        }
        due.sort_unstable();
        let mut report = CompactionReport::default();
        for (_, id) in due {
            if self.media.shared.stopping.load(Ordering::SeqCst) {
                break;
            }
            match self.empty_volume(id, pace).await? {
                Some(moved_bytes) => {
                    report.volumes += 1;
                    report.moved_bytes += moved_bytes;
                }
                // No room, no drives, or something in it cannot be read.
                None => continue,
            }
        }
        Ok(report)
    }

    pub(crate) async fn wanted_share_now(&self) -> u64 {
        let (mut full, mut is_at_reserve) = (0, false);
        for (member, drive) in self.media.healthy_drives() {
            let Ok(space) = self.media.bounded(member, drive.space()).await else { continue };
            let used_bytes = space.total_bytes.saturating_sub(space.free_bytes);
            full = full.max(used_bytes * SHARE_ONE / space.total_bytes.max(1));
            is_at_reserve |= space.free_bytes
                < reserve_bytes(space.total_bytes) + self.media.shared.options.growth_step_bytes;
        }
        self.media.shared.is_full.store(is_at_reserve, Ordering::Relaxed);
        wanted_share(full, is_at_reserve)
    }

    /// Moves everything live out of a volume; the bytes moved, or `None` if some of it had to stay.
    async fn empty_volume(
        self: &Rc<Self>,
        id: VolumeId,
        pace: Option<&Pace>,
    ) -> Result<Option<u64>, CatalogError> {
        let Some(volume) = self.media.shared.volumes.get(id) else { return Ok(None) };
        if !matches!(volume.state(), VolumeState::Sealed { .. }) || volume.pins() > 0 {
            return Ok(None);
        }
        assert_ne!(volume.class, VolumeClass::Run, "metadata runs have no owners");
        let (mut from, mut moved_bytes, mut is_whole) = ((0, 0), 0, true);
        loop {
            let owners = self.catalog.owners(id, from, MOVES_AT_ONCE).await?;
            let Some(last) = owners.last() else { break };
            from = (last.extent.sector, last.extent.byte_in_stripe + 1);
            let len_bytes: u64 = owners.iter().map(|owner| owner.extent.len_bytes).sum();
            if let Some(pace) = pace {
                let rate = self.media.shared.options.compact_bytes_per_s;
                pace.take(&self.media.shared, &self.media.executor, len_bytes, rate).await;
            }
            let count_before = owners.len();
            let moves = self.move_bytes(owners).await;
            is_whole &= moves.len() == count_before;
            let bytes: u64 = moves.iter().map(|(owner, _)| owner.extent.len_bytes).sum();
            let wanted = moves.len();
            if wanted > 0 {
                let made = self.commit_moves(moves).await?;
                is_whole &= made == wanted;
                moved_bytes += bytes;
                count(&self.media.shared.counts.compacted_bytes, bytes);
            }
        }
        if is_whole {
            count(&self.media.shared.counts.volumes_compacted, 1);
        }
        Ok(is_whole.then_some(moved_bytes))
    }

    async fn commit_moves(&self, moves: Vec<(OwnerRow, Evidence)>) -> Result<usize, CatalogError> {
        // The evidence goes into the call, so a busy catalog is waited for inside it.
        let mut tries = 0;
        let mut waiting = Some(moves);
        loop {
            tries += 1;
            let moves = waiting.take().unwrap_or_default();
            let again: Vec<(OwnerRow, Evidence)> =
                moves.iter().map(|(owner, evidence)| (*owner, evidence.beside())).collect();
            match self.catalog.relocate(moves).await {
                Err(CatalogError::Retry) if tries < TRIES_MAX => {
                    waiting = Some(again);
                    self.media.executor.sleep(OVERLOAD_WAIT).await;
                }
                result => return result,
            }
        }
    }

    /// Writes the bytes of extents elsewhere; those that cannot be read or written are left out.
    async fn move_bytes(self: &Rc<Self>, owners: Vec<OwnerRow>) -> Vec<(OwnerRow, Evidence)> {
        let mut moved = Vec::with_capacity(owners.len());
        let mut batch: Vec<(OwnerRow, PackedItem, Moving)> = Vec::new();
        let mut batch_bytes = 0;
        for owner in owners {
            if owner.extent.len_bytes >= LARGE_MIN_BYTES {
                if let Some(evidence) = self.move_large_extent(&owner.extent).await {
                    moved.push((owner, evidence));
                }
                continue;
            }
            if batch_bytes + owner.extent.len_bytes > FLUSH_MAX_BYTES {
                moved.extend(self.flush_moves(std::mem::take(&mut batch)).await);
                batch_bytes = 0;
            }
            if let Some((item, moving)) = self.gather_small(&owner.extent).await {
                batch_bytes += owner.extent.len_bytes;
                batch.push((owner, item, moving));
            }
        }
        moved.extend(self.flush_moves(batch).await);
        moved
    }

    async fn flush_moves(
        self: &Rc<Self>,
        batch: Vec<(OwnerRow, PackedItem, Moving)>,
    ) -> Vec<(OwnerRow, Evidence)> {
        if batch.is_empty() {
            return Vec::new();
        }
        let mut items = Vec::with_capacity(batch.len());
        let mut waiting = Vec::with_capacity(batch.len());
        for (owner, item, moving) in batch {
            items.push(item);
            waiting.push((owner, moving));
        }
        self.flush(Lane::MovedPacked, items).await;
        let mut moved = Vec::with_capacity(waiting.len());
        for (owner, moving) in waiting {
            if let Ok(Ok((extent, pin))) = moving.await {
                moved.push((owner, Evidence::of_moved(extent, pin)));
            }
        }
        moved
    }

    /// The bytes of a small extent in page buffers.
    async fn gather_small(&self, extent: &Extent) -> Option<(PackedItem, Moving)> {
        let bytes = self.read_extent(extent).await?;
        let len = in_memory(extent.len_bytes);
        let mut part = loop {
            match self.media.shared.bufs().take(len) {
                Ok(part) => break part,
                Err(_) => self.media.executor.sleep(OVERLOAD_WAIT).await,
            }
        };
        let mut at = 0;
        for slice in bytes {
            part[at..at + slice.len()].copy_from_slice(&slice);
            at += slice.len();
        }
        part.set_len(len);
        let (reply, receiver) = oneshot::channel();
        Some((PackedItem { parts: vec![part], len_bytes: extent.len_bytes, reply }, receiver))
    }

    async fn read_extent(&self, extent: &Extent) -> Option<Vec<Bytes>> {
        let media = crate::media::Media { inner: Rc::clone(&self.media) };
        let mut reader = media.open_read(vec![(*extent, None)], 0..extent.len_bytes);
        let (mut slices, mut got_bytes) = (Vec::new(), 0);
        while let Some(next) = reader.next().await {
            let next = next.ok()?;
            got_bytes += next.iter().map(|slice| slice.len() as u64).sum::<u64>();
            slices.extend(next);
        }
        (got_bytes == extent.len_bytes).then_some(slices)
    }

    async fn move_large_extent(self: &Rc<Self>, extent: &Extent) -> Option<Evidence> {
        let media = crate::media::Media { inner: Rc::clone(&self.media) };
        let mut reader = media.open_read(vec![(*extent, None)], 0..extent.len_bytes);
        let mut writer = self.move_large(extent.len_bytes);
        while let Some(next) = reader.next().await {
            for slice in next.ok()? {
                writer.write(&slice).await.ok()?;
            }
        }
        writer.finish().await.ok()
    }
}

type Moving = oneshot::Receiver<Result<(Extent, crate::table::Pin), crate::place::PutError>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_rises_with_the_drives_and_reaches_the_bound_before_80_percent() {
        assert_eq!(wanted_share(0, false), 250);
        assert_eq!(wanted_share(499, false), 250);
        assert_eq!(wanted_share(625, false), 510);
        assert_eq!((wanted_share(750, false), wanted_share(990, false)), (770, 770));
        assert_eq!(wanted_share(300, true), 900);
        let shares: Vec<u64> = (0..=1_000).map(|full| wanted_share(full, false)).collect();
        assert!(shares.is_sorted());
        const { assert!(SHARE_ONE * 10 / SHARE_HIGH < 13, "the stated bound of 1.3") };
    }
}
