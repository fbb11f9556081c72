//! What every core reads: the memtables and runs of one moment, behind one pointer, and what the cores share.
//! Invariants: a view is never changed, only replaced; every commit up to the published version is in the newest
//! view; runs hold the newest row of each key up to `flushed_version`, memtables all later ones.
//! Not here: who replaces it (`commit`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_channel::mpsc;

use super::config::{QUEUED_BYTES_MAX, QUEUED_COMMITS_MAX};
use super::memtable::Memtable;
use super::request::{Message, Request};
use super::tree::{Levels, TreeError};
use crate::engine::EngineError;
use crate::run_store::{RunError, RunStore};

/// Memtables and runs of one moment.
pub(crate) struct View {
    pub(crate) active: Arc<Memtable>,
    pub(crate) frozen: Option<Arc<Memtable>>,
    pub(crate) levels: Levels,
    /// Every commit up to this version is in `levels`.
    pub(crate) flushed_version: u64,
}

impl View {
    /// Memtables, newest first.
    pub(crate) fn memtables(&self) -> impl Iterator<Item = &Arc<Memtable>> {
        std::iter::once(&self.active).chain(&self.frozen)
    }

    /// What `snapshot` sees of `key`.
    pub(crate) async fn get<R: RunStore>(
        &self,
        store: &R,
        key: &[u8],
        snapshot: u64,
    ) -> Result<Option<Bytes>, EngineError> {
        if let Some(found) = self.memtables().find_map(|table| table.get(key, snapshot)) {
            return Ok(found);
        }
        let found = self.levels.get(store, key).await.map_err(read_error)?;
        Ok(found.flatten())
    }
}

/// What a failed read of the tree means to a transaction.
pub(crate) fn read_error(error: TreeError) -> EngineError {
    match error {
        TreeError::Store(RunError::Overloaded) => EngineError::Overloaded,
        TreeError::Store(RunError::NoSpace | RunError::DrivesLost | RunError::Damaged { .. })
        | TreeError::Damaged { .. } => EngineError::Damaged(error.to_string()),
    }
}

/// What all cores share.
pub(crate) struct Shared {
    pub(crate) view: ArcSwap<View>,
    /// The last commit that transactions may see.
    version: AtomicU64,
    read_only: AtomicBool,
    messages: mpsc::UnboundedSender<Message>,
    queued_commits: AtomicUsize,
    queued_bytes: AtomicUsize,
    pub(crate) stats: Counters,
}

impl Shared {
    pub(crate) fn new(view: View, version: u64, messages: mpsc::UnboundedSender<Message>) -> Shared {
        Shared {
            view: ArcSwap::from_pointee(view),
            version: AtomicU64::new(version),
            read_only: AtomicBool::new(false),
            messages,
            queued_commits: AtomicUsize::new(0),
            queued_bytes: AtomicUsize::new(0),
            stats: Counters::default(),
        }
    }

    /// The newest snapshot: a view and a version that it holds whole.
    ///
    /// The version is read first, so the view is at least as new. If a flush ended in between, its runs hold rows
    /// above that version; then the snapshot is the flush's, which is published too.
    pub(crate) fn snapshot(&self) -> (Arc<View>, u64) {
        let version = self.version.load(Ordering::Acquire);
        let view = self.view.load_full();
        let version = version.max(view.flushed_version);
        (view, version)
    }

    pub(crate) fn published(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn publish(&self, version: u64) {
        debug_assert!(version >= self.published());
        self.version.store(version, Ordering::Release);
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Acquire)
    }

    pub(crate) fn set_read_only(&self, read_only: bool) {
        self.read_only.store(read_only, Ordering::Release);
    }

    /// Hands a message to the metadata thread; false if it has stopped.
    pub(crate) fn send(&self, message: Message) -> bool {
        self.messages.unbounded_send(message).is_ok()
    }

    /// Queues a commit, within the limits on what waits.
    pub(crate) fn send_commit(&self, request: Request) -> Result<(), EngineError> {
        if self.is_read_only() {
            return Err(EngineError::ReadOnly);
        }
        let bytes = request.part.len_bytes();
        let commits = self.queued_commits.fetch_add(1, Ordering::Relaxed) + 1;
        let queued_bytes = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if !request.urgent && (commits > QUEUED_COMMITS_MAX || queued_bytes > QUEUED_BYTES_MAX) {
            self.left_queue(bytes);
            return Err(EngineError::Overloaded);
        }
        if self.send(Message::Commit(request)) {
            return Ok(());
        }
        self.left_queue(bytes);
        Err(EngineError::Stopped)
    }

    /// A commit of `bytes` waits no more.
    pub(crate) fn left_queue(&self, bytes: usize) {
        self.queued_commits.fetch_sub(1, Ordering::Relaxed);
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn queued_commits(&self) -> usize {
        self.queued_commits.load(Ordering::Relaxed)
    }
}

/// Counts since start, for metrics.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) record_bytes: AtomicU64,
    pub(crate) flushes: AtomicU64,
    pub(crate) flushed_bytes: AtomicU64,
    pub(crate) compactions: AtomicU64,
    pub(crate) compacted_bytes: AtomicU64,
    pub(crate) runs_removed: AtomicU64,
    pub(crate) refused_full: AtomicU64,
    pub(crate) failed_flushes: AtomicU64,
}

/// Adds to a counter of [`Counters`].
pub(crate) fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// The engine's state and counts, for metrics and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EmbeddedStats {
    /// Commits that succeeded.
    pub commits: u64,
    /// Commits that conflicted.
    pub conflicts: u64,
    /// Log records, each one batch of commits.
    pub records: u64,
    /// Payload bytes of log records.
    pub record_bytes: u64,
    /// Memtables written as runs.
    pub flushes: u64,
    /// Payload bytes of those runs.
    pub flushed_bytes: u64,
    /// Compactions installed.
    pub compactions: u64,
    /// Payload bytes that they wrote.
    pub compacted_bytes: u64,
    /// Runs removed after no view held them.
    pub runs_removed: u64,
    /// Commits refused because the memtable was full.
    pub refused_full: u64,
    /// Flushes and compactions that failed and are tried again.
    pub failed_flushes: u64,
    /// Commits waiting now.
    pub queued_commits: usize,
    /// Memory of the memtables now.
    pub memtable_bytes: usize,
    /// Rows in the memtables now, all versions.
    pub memtable_rows: usize,
    /// Runs now.
    pub runs: usize,
    /// Flushes not merged yet.
    pub level0_runs: usize,
    /// Memory of the runs' indexes and filters now.
    pub run_memory_bytes: usize,
    /// Writes are refused.
    pub read_only: bool,
}

impl Shared {
    pub(crate) fn stats(&self) -> EmbeddedStats {
        let view = self.view.load();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.stats;
        EmbeddedStats {
            commits: read(&counters.commits),
            conflicts: read(&counters.conflicts),
            records: read(&counters.records),
            record_bytes: read(&counters.record_bytes),
            flushes: read(&counters.flushes),
            flushed_bytes: read(&counters.flushed_bytes),
            compactions: read(&counters.compactions),
            compacted_bytes: read(&counters.compacted_bytes),
            runs_removed: read(&counters.runs_removed),
            refused_full: read(&counters.refused_full),
            failed_flushes: read(&counters.failed_flushes),
            queued_commits: self.queued_commits(),
            memtable_bytes: view.memtables().map(|table| table.memory_bytes()).sum(),
            memtable_rows: view.memtables().map(|table| table.row_count()).sum(),
            runs: view.levels.runs().count(),
            level0_runs: view.levels.level0_count(),
            run_memory_bytes: view.levels.memory_bytes(),
            read_only: self.is_read_only(),
        }
    }
}
