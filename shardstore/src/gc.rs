//! What background work would give back now, and doing it at once instead of by and by.
//! Invariants: nothing is freed that background work would not free; compaction keeps its pace; a dry run changes
//! nothing.
//! Not here: the passes themselves (`reclaim`, `compact`), what deleted bytes come to (`server`).

use std::collections::BTreeMap;

use shardstore_format::{DataId, DriveId, SECTOR_BYTES, VolumeId, VolumeRecord, VolumeState};
use shardstore_reactor::{Drive, Executor};

use crate::catalog::{Catalog, CatalogError, VolumeUsage};
use crate::compact::share_of;
use crate::media::Media;
use crate::options::VOLUMES_BATCH;
use crate::pace::Pace;
use crate::reclaim::SweepReport;
use crate::store::Store;

/// How many of something, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// How many.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Freed {
    /// One more.
    pub fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// What can be given back, or was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceReport {
    /// What sweeping did; nothing of it in a dry run.
    pub swept: SweepReport,
    /// Volumes with nothing live, in bytes of all their segments.
    pub dead: Freed,
    /// Sparse volumes that are due to be emptied, in bytes of all their segments.
    pub sparse: Freed,
    /// Live bytes in those, which are written again elsewhere.
    pub moved_bytes: u64,
    /// Segment files that no volume names.
    pub unnamed: Freed,
}

/// Bytes of all segments of a sealed volume.
pub(crate) fn device_bytes(record: &VolumeRecord) -> u64 {
    match record.state {
        VolumeState::Sealed { end_sector } => {
            u64::from(end_sector) * SECTOR_BYTES * record.segments.len() as u64
        }
        VolumeState::Open | VolumeState::Reclaimed => 0,
    }
}

impl<D: Drive, X: Executor> Media<D, X> {
    /// Whether somebody reads these bytes, or others that are hard to tell from them: then they are not swept yet.
    pub fn is_held(&self, data_id: DataId) -> bool {
        self.inner.shared.holds.is_held(data_id)
    }
}

impl<D: Drive, X: Executor, C: Catalog> Store<D, X, C> {
    /// What could be given back now, once `swept` bytes are gone from each volume. Changes nothing.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn space_to_free(&self, swept: &BTreeMap<VolumeId, u64>) -> Result<SpaceReport, CatalogError> {
        let mut report = SpaceReport::default();
        let wanted = self.inner.wanted_share_now().await;
        let mut from = VolumeId(0);
        loop {
            let usages = self.inner.catalog.volumes(from, VOLUMES_BATCH).await?;
            let Some(last) = usages.last() else { break };
            from = VolumeId(last.record.id.0 + 1);
            for usage in usages {
                let gone = swept.get(&usage.record.id).copied().unwrap_or(0);
                let live_bytes = usage.live_bytes.saturating_sub_unsigned(gone).max(0);
                let usage = VolumeUsage { live_bytes, ..usage };
                if self.inner.is_dead(&usage) {
                    report.dead.add(device_bytes(&usage.record));
                } else if live_bytes > 0 && share_of(&usage).is_some_and(|share| share < wanted) {
                    report.sparse.add(device_bytes(&usage.record));
                    report.moved_bytes += live_bytes.unsigned_abs();
                }
            }
        }
        let next = self.inner.catalog.next_volume_id().await?;
        for (drive, volume, shard) in self.unnamed_files(next).await {
            let len_bytes = self.media().segment_len(drive, volume, shard).await;
            report.unnamed.add(len_bytes.unwrap_or(0));
        }
        Ok(report)
    }

    /// Gives back what can be given back now: sweeps, drops dead volumes, empties sparse ones and drops those, removes
    /// files that nothing names.
    ///
    /// # Errors
    /// [`CatalogError`]: what is left comes back another time.
    pub async fn free_space_now(&self) -> Result<SpaceReport, CatalogError> {
        let swept = self.sweep_now().await?;
        let mut dead = self.inner.reclaim().await?;
        let pace = Pace::new(self.inner.media.executor.now());
        let compaction = self.inner.compact_alone(Some(&pace)).await?;
        // What compaction emptied is dead once it is swept off its volumes, which its transactions did.
        let emptied = self.inner.reclaim().await?;
        let compacted = compaction.volumes as u64;
        let sparse = Freed { count: compacted, bytes: if compacted > 0 { emptied.bytes } else { 0 } };
        if compacted == 0 {
            dead = Freed { count: dead.count + emptied.count, bytes: dead.bytes + emptied.bytes };
        }
        let mut unnamed = Freed::default();
        let next = self.inner.catalog.next_volume_id().await?;
        for (drive, volume, shard) in self.unnamed_files(next).await {
            let len_bytes = self.media().segment_len(drive, volume, shard).await;
            match self.media().remove_unnamed(drive, volume, shard, next).await {
                Ok(true) => unnamed.add(len_bytes.unwrap_or(0)),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(volume = volume.0, shard, %error, "a file that nothing names stays")
                }
            }
        }
        Ok(SpaceReport { swept, dead, sparse, moved_bytes: compaction.moved_bytes, unnamed })
    }

    /// Segment files whose number was given out and that no volume has, known or in the making.
    async fn unnamed_files(&self, next: VolumeId) -> Vec<(DriveId, VolumeId, u8)> {
        let media = self.media();
        let mut unnamed = Vec::new();
        for drive in media.shared().drives() {
            let files = match media.drive_files(drive.id).await {
                Ok(files) => files.unwrap_or_default(),
                Err(error) => {
                    tracing::warn!(drive = %drive.label, %error, "segments cannot be listed");
                    continue;
                }
            };
            let of_drive = files.segments.into_iter();
            let nobodys = of_drive.filter(|(volume, _)| *volume < next && !media.has_volume(*volume));
            unnamed.extend(nobodys.map(|(volume, shard)| (drive.id, volume, shard)));
        }
        unnamed
    }
}
