//! The start of a process on drives that were used before: sealing what was open, freeing what nobody names.
//! Invariants: no data is scanned, metadata knows every live byte; nothing is removed whose id metadata has not
//! given out; a volume that was open is never appended to again.
//! Not here: recognising drives (`pool`), the metadata log.

use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use shardstore_format::{Layout, VolumeId, VolumeRecord, VolumeState};
use shardstore_reactor::{Drive, DriveFile, Executor, IoError, OpenMode};

use crate::catalog::{Catalog, CatalogError, VolumeUsage};
use crate::media::MediaInner;
use crate::options::{VOLUMES_BATCH, sector_offset_bytes};
use crate::place::remove_segment;
use crate::store::{Store, StoreInner};
use crate::table::{SEGMENTS_DIR, is_unfinished_name, parse_segment_name, segment_path};

/// How often metadata that was read-only at the start is tried again: it takes an operator to bring drives.
const WRITABLE_WAIT: Duration = Duration::from_secs(1);

/// What was found at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Volumes that metadata names.
    pub volumes: usize,
    /// Of these, volumes that were open and are sealed now.
    pub sealed: usize,
    /// Volumes whose removal was cut off and is done now.
    pub removed: usize,
    /// Segment files that nothing named.
    pub orphans: usize,
}

/// Why the store cannot start: one sentence each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoverError {
    /// The catalog refused.
    Metadata(CatalogError),
    /// A segment file that metadata has not given out yet.
    MetadataWentBack {
        /// The drive.
        drive: String,
        /// The file.
        file: String,
        /// The first id that metadata has not given out.
        next: VolumeId,
    },
    /// An owner row that contradicts itself or its volume.
    DamagedOwner(VolumeId),
}

impl std::fmt::Display for RecoverError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RecoverError::Metadata(source) => write!(f, "volumes cannot be recovered: {source}"),
            RecoverError::MetadataWentBack { drive, file, next } => write!(
                f,
                "{drive} holds {file} and metadata has given out volume ids only below {:016x}: metadata went back \
                 to an older state; bring back the newest drives of the metadata log, or restore a dump with \
                 `basalt import-metadata`",
                next.0
            ),
            RecoverError::DamagedOwner(volume) => write!(
                f,
                "the last owner row of volume {:016x} does not fit the volume: metadata is damaged; restore it",
                volume.0
            ),
        }
    }
}

impl std::error::Error for RecoverError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RecoverError::Metadata(source) => Some(source),
            _ => None,
        }
    }
}

impl From<CatalogError> for RecoverError {
    fn from(error: CatalogError) -> RecoverError {
        RecoverError::Metadata(error)
    }
}

impl<D: Drive, X: Executor, C: Catalog> Store<D, X, C> {
    /// Learns all volumes and puts right what the last process left. Called once, on one core, before any other
    /// core serves; `runs` are the volumes that the metadata manifest names.
    ///
    /// Cost: one pass over the volume rows and the directories of segments; no data is read.
    ///
    /// # Errors
    /// [`RecoverError`]: its text is the sentence for the operator.
    pub async fn recover(&self, runs: &[VolumeRecord]) -> Result<RecoveryReport, RecoverError> {
        let mut report = RecoveryReport::default();
        for run in runs {
            self.shared().know_volume(run);
            self.inner.media.note_doubled(run);
        }
        // Before anything is cut or removed: metadata that went back would take live bytes for dead.
        let found = self.inner.media.list_segments().await;
        let next = self.inner.catalog.next_volume_id().await?;
        self.inner.media.refuse_beyond(&found, next)?;
        let mut from = VolumeId(0);
        let mut unfinished = Vec::new();
        loop {
            let usages = self.inner.catalog.volumes(from, VOLUMES_BATCH).await?;
            let Some(last) = usages.last() else { break };
            from = VolumeId(last.record.id.0 + 1);
            for usage in usages {
                unfinished.extend(self.inner.recover_volume(usage, &mut report).await?);
            }
        }
        if !unfinished.is_empty() {
            let store = Rc::clone(&self.inner);
            self.inner.media.executor.spawn(async move { store.finish_once_writable(unfinished).await });
        }
        report.orphans = self.inner.media.free_orphans(found).await;
        Ok(report)
    }
}

impl<D: Drive, X: Executor, C: Catalog> StoreInner<D, X, C> {
    /// Puts a volume right; returns what metadata cannot be told now.
    async fn recover_volume(
        &self,
        usage: VolumeUsage,
        report: &mut RecoveryReport,
    ) -> Result<Option<Unfinished>, RecoverError> {
        let mut unfinished = None;
        let VolumeUsage { mut record, .. } = usage;
        match record.state {
            VolumeState::Sealed { .. } => {}
            VolumeState::Reclaimed => {
                report.removed += 1;
                let members = self.media.members_of(&record);
                if self.media.remove_files(record.id, &members).await
                    && !if_writable(self.catalog.forget_volume(record.id).await)?
                {
                    return Ok(Some(Unfinished::Forget(record.id)));
                }
                return Ok(None);
            }
            VolumeState::Open => {
                report.sealed += 1;
                let end_sector = match self.catalog.last_owner(record.id).await? {
                    Some(owner) => Layout::of_extent(&owner.extent, record.profile.k).end_sector(),
                    None => Some(0),
                };
                let end_sector = end_sector.ok_or(RecoverError::DamagedOwner(record.id))?;
                let is_sealed = if_writable(self.catalog.seal_volume(record.id, end_sector).await)?;
                record.state = VolumeState::Sealed { end_sector };
                if is_sealed {
                    self.media.cut_files(&record, end_sector).await;
                } else {
                    unfinished = Some(Unfinished::Seal(record.clone(), end_sector));
                }
            }
        }
        report.volumes += 1;
        self.media.shared.know_volume(&record);
        Ok(unfinished)
    }

    /// Tells metadata what it could not be told at the start, once enough drives are back for its log: until then these
    /// volumes would be neither repaired, moved nor reclaimed.
    async fn finish_once_writable(&self, unfinished: Vec<Unfinished>) {
        for one in unfinished {
            loop {
                let done = match &one {
                    Unfinished::Seal(record, end_sector) => {
                        self.catalog.seal_volume(record.id, *end_sector).await
                    }
                    Unfinished::Forget(volume) => self.catalog.forget_volume(*volume).await,
                };
                match done {
                    Ok(()) => break,
                    Err(CatalogError::Retry | CatalogError::ReadOnly) if !self.is_shut.get() => {
                        self.media.executor.sleep(WRITABLE_WAIT).await;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "what the start left open is left to the next start");
                        return;
                    }
                }
            }
            if let Unfinished::Seal(record, end_sector) = one {
                self.media.cut_files(&record, end_sector).await;
            }
        }
    }
}

/// What a start without enough drives for the metadata log leaves to be done.
enum Unfinished {
    /// A volume that was open ends at this sector.
    Seal(VolumeRecord, u32),
    /// The files of a reclaimed volume are gone.
    Forget(VolumeId),
}

/// Whether a write of metadata was made; a pool with too few drives to log it serves reads, and puts nothing right.
fn if_writable(done: Result<(), CatalogError>) -> Result<bool, CatalogError> {
    match done {
        Ok(()) => Ok(true),
        Err(CatalogError::ReadOnly) => Ok(false),
        Err(error) => Err(error),
    }
}

impl<D: Drive, X: Executor> MediaInner<D, X> {
    pub(crate) fn members_of(&self, record: &VolumeRecord) -> Vec<Option<usize>> {
        record.segments.iter().map(|drive| self.shared.drives.index_of(*drive)).collect()
    }

    /// A run that lies twice on one drive has less redundancy than it should: repair moves one of the two shards.
    fn note_doubled(&self, run: &VolumeRecord) {
        for shard in run.doubled_shards() {
            tracing::warn!(
                volume = run.id.0,
                shard,
                "a metadata run has two shards on one drive: one is moved"
            );
            self.shared.repair.note_broken(run.id, shard);
        }
    }

    /// Frees what lies past the end of a sealed volume, on the drives that answer.
    async fn cut_files(&self, record: &VolumeRecord, end_sector: u32) {
        let end_bytes = sector_offset_bytes(end_sector);
        let members = self.members_of(record);
        let cuts = members.iter().enumerate().map(|(shard, member)| async move {
            let Some(member) = *member else { return Ok(()) };
            let Some(drive) = self.drive(member) else { return Ok(()) };
            let path = segment_path(record.id, shard);
            let cut = async {
                let file = match drive.open(&path, OpenMode::ReadWrite).await {
                    Err(IoError::NotFound) => return Ok(()),
                    opened => opened?,
                };
                if file.len_bytes().await? > end_bytes {
                    file.set_len(end_bytes).await?;
                }
                Ok(())
            };
            self.bounded(member, cut).await
        });
        for result in join_all(cuts).await {
            if let Err(error) = result {
                tracing::warn!(volume = record.id.0, %error, "unwritten steps could not be freed");
            }
        }
    }

    /// All segment files on the drives that answer.
    async fn list_segments(&self) -> Vec<FoundSegment> {
        let mut found = Vec::new();
        for (member, drive) in self.readable_drives() {
            let names = match self.bounded(member, drive.list(SEGMENTS_DIR)).await {
                Ok(names) => names,
                Err(IoError::NotFound) => continue,
                Err(error) => {
                    tracing::warn!(drive = drive.label(), %error, "segments cannot be listed");
                    continue;
                }
            };
            for name in names {
                match parse_segment_name(&name) {
                    Some((volume, shard)) => found.push(FoundSegment { member, volume, shard }),
                    None if is_unfinished_name(&name) => self.free_unfinished(member, &drive, &name).await,
                    None => {
                        tracing::warn!(
                            drive = drive.label(),
                            name,
                            "a file that is no segment is left alone"
                        );
                    }
                }
            }
        }
        found
    }

    /// Removes what a repair that was cut off left beside a segment.
    async fn free_unfinished(&self, member: usize, drive: &D, name: &str) {
        let file = format!("{SEGMENTS_DIR}/{name}");
        if let Err(error) = self.bounded(member, remove_segment(drive, &file)).await {
            tracing::warn!(drive = drive.label(), file, %error, "an unfinished segment is not removed");
        }
    }

    /// Refuses files whose id was not given out: `next` is the first such id.
    fn refuse_beyond(&self, found: &[FoundSegment], next: VolumeId) -> Result<(), RecoverError> {
        let beyond = found.iter().find(|segment| segment.volume >= next && !self.is_named(segment));
        beyond.map_or(Ok(()), |segment| {
            let drive = self.shared.drives.slot(segment.member).label.clone();
            let file = segment_path(segment.volume, segment.shard);
            Err(RecoverError::MetadataWentBack { drive, file, next })
        })
    }

    /// Removes segment files that no record names.
    async fn free_orphans(&self, found: Vec<FoundSegment>) -> usize {
        let mut orphans = 0;
        for segment in found.iter().filter(|segment| !self.is_named(segment)) {
            let Some(drive) = self.drive(segment.member) else { continue };
            let file = segment_path(segment.volume, segment.shard);
            match self.bounded(segment.member, remove_segment(&drive, &file)).await {
                Ok(()) => orphans += 1,
                Err(error) => tracing::warn!(drive = drive.label(), file, %error, "orphan not removed"),
            }
        }
        orphans
    }

    fn is_named(&self, segment: &FoundSegment) -> bool {
        if self.shared.opening.contains(segment.volume) {
            return true;
        }
        let known = self.shared.volumes.get(segment.volume);
        known.is_some_and(|known| known.member(segment.shard) == Some(segment.member))
    }
}

/// A segment file that lies on a drive.
struct FoundSegment {
    member: usize,
    volume: VolumeId,
    shard: usize,
}
