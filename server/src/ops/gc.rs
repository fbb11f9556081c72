//! gc on an operator's word: what sweep, reclaim, compaction and the removal of left-over files would free, or freed.
//! Invariants: runs on the core that does the same work in the background; a dry run changes nothing and reads metadata
//! at one snapshot; memory is a number for each volume.
//! Not here: the passes (`shardstore`), fsck.

use std::collections::BTreeMap;
use std::sync::Arc;

use fdb_schema::Engine;
use fdb_schema::schema::Failure;
use futures_channel::mpsc;
use futures_util::StreamExt;
use serde::Serialize;
use shardstore::Freed;
use shardstore_format::VolumeId;
use shardstore_reactor::{Drive, Executor};

use super::core::Core;
use super::progress::JobProgress;

/// Rows read at a time.
const BATCH: usize = 1_000;

/// How many of something, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GcPart {
    /// How many.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
}

impl From<Freed> for GcPart {
    fn from(freed: Freed) -> GcPart {
        GcPart { count: freed.count, bytes: freed.bytes }
    }
}

/// What a gc freed or would free, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GcReport {
    /// Nothing was changed.
    pub dry_run: bool,
    /// Bytes of deleted and replaced objects and of parts that nothing names, without parity.
    pub deleted: GcPart,
    /// Such bytes that somebody reads: they come back when the reader has ended.
    pub held: GcPart,
    /// Volumes with nothing live, once what is deleted is swept; bytes of all their segments.
    pub dead_volumes: GcPart,
    /// Sparse volumes that are due for compaction; bytes of all their segments.
    pub sparse_volumes: GcPart,
    /// Live bytes that compaction writes again elsewhere.
    pub moved_bytes: u64,
    /// Segment files that no volume names.
    pub left_over_files: GcPart,
}

/// The way to the core that collects.
#[derive(Clone)]
pub struct GcHandle {
    asks: mpsc::UnboundedSender<bool>,
    progress: Arc<JobProgress<GcReport>>,
}

impl GcHandle {
    /// How it stands.
    pub fn progress(&self) -> &JobProgress<GcReport> {
        &self.progress
    }

    /// Begins one; false if one is running, or the server is stopping.
    pub fn start(&self, dry_run: bool) -> bool {
        self.progress.begin() && self.asks.unbounded_send(dry_run).is_ok()
    }
}

/// A collector over a core's store: the way to ask it, and the task that does it.
pub fn collector<D: Drive, E: Engine, X: Executor>(
    core: Core<D, E, X>,
) -> (GcHandle, impl Future<Output = ()> + 'static) {
    let (asks, mut asked) = mpsc::unbounded();
    let progress = Arc::new(JobProgress::default());
    let handle = GcHandle { asks, progress: Arc::clone(&progress) };
    let collecting = async move {
        while let Some(dry_run) = asked.next().await {
            let done = if dry_run { core.gc_dry_run(&progress).await } else { core.gc_now(&progress).await };
            progress.end(done);
        }
    };
    (handle, collecting)
}

impl<D: Drive, E: Engine, X: Executor> Core<D, E, X> {
    /// What a gc would free now.
    ///
    /// # Errors
    /// A sentence: metadata cannot be read.
    pub async fn gc_dry_run(&self, progress: &JobProgress<GcReport>) -> Result<GcReport, String> {
        progress.enter("deleted bytes");
        let mut swept = BTreeMap::new();
        let report = self.deleted(progress, &mut swept).await.map_err(|failure| failure.to_string())?;
        progress.enter("volumes and files");
        let space = self.store().space_to_free(&swept).await.map_err(|error| error.to_string())?;
        Ok(GcReport {
            dry_run: true,
            dead_volumes: space.dead.into(),
            sparse_volumes: space.sparse.into(),
            moved_bytes: space.moved_bytes,
            left_over_files: space.unnamed.into(),
            ..report
        })
    }

    /// Frees what can be freed now.
    ///
    /// # Errors
    /// A sentence: metadata cannot be read or written; what was freed stays so.
    pub async fn gc_now(&self, progress: &JobProgress<GcReport>) -> Result<GcReport, String> {
        progress.enter("deleted bytes");
        let before =
            self.deleted(progress, &mut BTreeMap::new()).await.map_err(|failure| failure.to_string())?;
        progress.enter("sweep, reclaim, compaction");
        let space = self.store().free_space_now().await.map_err(|error| error.to_string())?;
        progress.enter("what is left");
        let after =
            self.deleted(progress, &mut BTreeMap::new()).await.map_err(|failure| failure.to_string())?;
        let left_bytes = after.deleted.bytes + after.held.bytes;
        Ok(GcReport {
            dry_run: false,
            deleted: GcPart {
                count: space.swept.swept as u64,
                bytes: (before.deleted.bytes + before.held.bytes).saturating_sub(left_bytes),
            },
            held: after.held,
            dead_volumes: space.dead.into(),
            sparse_volumes: space.sparse.into(),
            moved_bytes: space.moved_bytes,
            left_over_files: space.unnamed.into(),
        })
    }

    /// What waits to be swept, and how much of that lies in each volume.
    async fn deleted(
        &self,
        progress: &JobProgress<GcReport>,
        swept: &mut BTreeMap<VolumeId, u64>,
    ) -> Result<GcReport, Failure> {
        let audit = self.metadata().audit();
        let (mut report, mut after) = (GcReport::default(), None);
        loop {
            let garbage = audit.garbage(after, BATCH).await?;
            let Some(last) = garbage.last() else { return Ok(report) };
            after = Some(*last);
            for data in &garbage {
                let extents = audit.extents(*data).await?;
                let bytes: u64 = extents.iter().map(|extent| extent.len_bytes).sum();
                let is_held = self.store().media().is_held(*data);
                let part = if is_held { &mut report.held } else { &mut report.deleted };
                part.count += 1;
                part.bytes += bytes;
                for extent in extents.iter().filter(|_| !is_held) {
                    *swept.entry(extent.volume).or_default() += extent.len_bytes;
                }
            }
            progress.add(garbage.len());
        }
    }
}
