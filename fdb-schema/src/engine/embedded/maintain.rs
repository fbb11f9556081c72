//! Background tasks of the metadata thread: writing frozen memtables as runs, and merging runs.
//! Invariants: one flush and one compaction at a time; both give way after some 128 KiB of rows; a run is durable before
//! its install is asked for; an install that failed is asked for again with the same runs, because the manifest that
//! names them may be durable somewhere.
//! Not here: the install itself (`core`), which runs to merge (`tree::policy`).

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use futures_channel::{mpsc, oneshot};
use futures_util::StreamExt;
use shardstore_format::VolumeId;
use shardstore_reactor::Executor;

use super::config::{RETRY_DELAY, VOLUME_IDS_RESERVED};
use super::handle::{Embedded, EmbeddedFactory};
use super::memtable::Memtable;
use super::pace::{give_way, yield_now};
use super::request::{Install, Message, Nudge};
use super::tree::{Backlog, Compaction, Run, TreeError, compact, write_runs};
use super::view::{Shared, count};
use crate::engine::{Engine, EngineError, Isolation, ShardMove, Transaction};
use crate::run_store::{RunError, RunStore};

/// Bytes of a compaction that earn one byte of commits while merging is behind: what a byte is merged again costs.
const COMPACTION_BYTES_PER_COMMIT_BYTE: u64 = 4;

/// A frozen memtable to write.
pub(crate) struct FlushJob {
    pub(crate) table: Arc<Memtable>,
    /// The last commit in it; it holds all since the flush before.
    pub(crate) last_version: u64,
    pub(crate) first_version: u64,
    /// Bytes of its commits in the log: what writing its rows is compared with. Its memory is no measure, being twice its
    /// rows: commits were held at three quarters until the flush was installed.
    pub(crate) log_bytes: u64,
}

/// How far the background is; the commit loop paces itself by it.
#[derive(Default)]
pub(crate) struct Progress {
    flush_total_bytes: Cell<u64>,
    flush_done_bytes: Cell<u64>,
    /// A flush failed and waits for its next attempt.
    stalled: Cell<bool>,
    /// Commit bytes allowed while merging is behind.
    credit_bytes: Cell<u64>,
    compacting: Cell<bool>,
    /// The commit loop waits for progress.
    awaited: Cell<bool>,
}

impl Progress {
    /// How much of the flush is done, in 1/1024; all of it if there is nothing to wait for.
    pub(crate) fn flush_done_1024ths(&self) -> u64 {
        let total = self.flush_total_bytes.get();
        if self.stalled.get() || total == 0 {
            return 1024;
        }
        (self.flush_done_bytes.get().min(total)) * 1024 / total
    }

    /// A flush of `total_bytes` begins.
    pub(crate) fn begin_flush(&self, total_bytes: u64) {
        self.flush_total_bytes.set(total_bytes);
        self.flush_done_bytes.set(0);
        self.stalled.set(false);
    }

    /// The flush is part of the view.
    pub(crate) fn end_flush(&self) {
        self.flush_total_bytes.set(0);
    }

    /// Whether commits may go on although merging is behind.
    pub(crate) fn has_credit(&self) -> bool {
        !self.compacting.get() || self.credit_bytes.get() > 0
    }

    pub(crate) fn spend(&self, bytes: u64) {
        self.credit_bytes.set(self.credit_bytes.get().saturating_sub(bytes));
    }

    /// Asks for a [`Message::Progress`].
    pub(crate) fn wait_for_more(&self) {
        self.awaited.set(true);
    }
}

/// What both tasks work with.
pub(crate) struct Background<R: RunStore, X: Executor> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) run_store: R,
    pub(crate) executor: X,
    pub(crate) progress: Rc<Progress>,
    pub(crate) volume_ids: Rc<VolumeIds<R, X>>,
}

impl<R: RunStore, X: Executor> Clone for Background<R, X> {
    fn clone(&self) -> Self {
        Background {
            shared: Arc::clone(&self.shared),
            run_store: self.run_store.clone(),
            executor: self.executor.clone(),
            progress: Rc::clone(&self.progress),
            volume_ids: Rc::clone(&self.volume_ids),
        }
    }
}

impl<R: RunStore, X: Executor> Background<R, X> {
    /// Writes each memtable that comes, until the sender has gone.
    pub(crate) async fn flush_all(self, mut jobs: mpsc::UnboundedReceiver<FlushJob>) {
        while let Some(job) = jobs.next().await {
            let run = loop {
                self.progress.begin_flush(job.log_bytes);
                match self.flush(&job).await {
                    Ok(run) => break run,
                    Err(error) => {
                        self.progress.stalled.set(true);
                        self.note_failure("flush", &error).await;
                    }
                }
            };
            let bytes = run.as_ref().map_or(0, |run| run.len_bytes());
            if !self.install(|| Install::Flush(run.clone())).await {
                return;
            }
            count(&self.shared.stats.flushes, 1);
            count(&self.shared.stats.flushed_bytes, bytes);
        }
    }

    async fn flush(&self, job: &FlushJob) -> Result<Option<Arc<Run>>, TreeError> {
        let mut rows = job.table.cursor(u64::MAX);
        let pace = async |bytes| {
            let progress = &self.progress;
            progress.flush_done_bytes.set(progress.flush_done_bytes.get() + bytes);
            self.give_way().await;
        };
        let versions = job.first_version..=job.last_version;
        write_runs(&self.run_store, &mut rows, versions, async || self.volume_ids.take().await, pace).await
    }

    /// Merges whatever is due after each install, until the sender has gone. Moves of shards come in between, so that
    /// no merge holds a run that was exchanged for another.
    pub(crate) async fn compact_all(self, mut nudges: mpsc::UnboundedReceiver<Nudge>) {
        while let Some(nudge) = nudges.next().await {
            if let Nudge::Move(moved, reply) = nudge {
                // Whoever asked may have gone.
                reply.send(self.move_shard(moved).await).ok();
                continue;
            }
            loop {
                let levels = self.shared.view.load().levels.clone();
                let Some(compaction) = levels.pick_compaction() else { break };
                self.progress.compacting.set(true);
                let merged = compact(
                    &self.run_store,
                    &levels,
                    &compaction,
                    async || self.volume_ids.take().await,
                    async |bytes| {
                        let credit_bytes = self.progress.credit_bytes.get();
                        let earned_bytes = bytes / COMPACTION_BYTES_PER_COMMIT_BYTE;
                        self.progress.credit_bytes.set(credit_bytes + earned_bytes);
                        self.give_way().await;
                    },
                )
                .await;
                drop(levels);
                match merged {
                    Ok(outputs) => {
                        if !self.install_merged(compaction, outputs).await {
                            return;
                        }
                    }
                    Err(error) => self.note_failure("compaction", &error).await,
                }
                self.progress.compacting.set(false);
                self.progress.credit_bytes.set(0);
                self.tell_progress();
            }
        }
    }

    async fn move_shard(&self, moved: ShardMove) -> bool {
        let levels = self.shared.view.load().levels.clone();
        match levels.shard_of(&moved) {
            Some(drive) if drive == moved.to => true,
            // A run that has two shards on one drive is one that the next start refuses.
            Some(drive) if drive == moved.from && !levels.has_shard_on(moved.volume, moved.to) => {
                self.install(|| Install::Move(moved)).await
            }
            _ => false,
        }
    }

    async fn install_merged(&self, compaction: Compaction, outputs: Vec<Arc<Run>>) -> bool {
        let written = if compaction.is_move() { 0 } else { outputs.iter().map(|run| run.len_bytes()).sum() };
        if !self.install(|| Install::Compaction(compaction.clone(), outputs.clone())).await {
            return false;
        }
        count(&self.shared.stats.compactions, 1);
        count(&self.shared.stats.compacted_bytes, written);
        true
    }

    /// Asks until the manifest names the change; false if the engine has stopped.
    async fn install(&self, change: impl Fn() -> Install) -> bool {
        loop {
            let (reply, answer) = oneshot::channel();
            if !self.shared.send(Message::Install(change(), reply)) {
                return false;
            }
            match answer.await {
                Ok(true) => return true,
                Ok(false) => self.executor.sleep(RETRY_DELAY).await,
                Err(oneshot::Canceled) => return false,
            }
        }
    }

    async fn give_way(&self) {
        self.tell_progress();
        give_way(&self.executor).await;
    }

    fn tell_progress(&self) {
        if self.progress.awaited.take() {
            self.shared.send(Message::Progress);
        }
    }

    async fn note_failure(&self, what: &str, error: &TreeError) {
        tracing::warn!(%error, "metadata {what} failed; trying again");
        count(&self.shared.stats.failed_flushes, 1);
        self.tell_progress();
        self.executor.sleep(RETRY_DELAY).await;
    }
}

/// Volume ids for runs, reserved in the volume counter before their first use.
pub(crate) struct VolumeIds<R: RunStore, X: Executor> {
    engine: Embedded<R, X>,
    counter_key: Vec<u8>,
    reserved: RefCell<Range<u64>>,
}

impl<R: RunStore, X: Executor> VolumeIds<R, X> {
    pub(crate) fn new(shared: &Arc<Shared>, run_store: R, executor: X, counter_key: Vec<u8>) -> Self {
        let engine = EmbeddedFactory::new(Arc::clone(shared)).handle(run_store, executor).urgent();
        VolumeIds { engine, counter_key, reserved: RefCell::new(0..0) }
    }

    async fn take(&self) -> Result<VolumeId, TreeError> {
        loop {
            if let Some(id) = self.reserved.borrow_mut().next() {
                return Ok(VolumeId(id));
            }
            match self.reserve().await {
                Ok(ids) => *self.reserved.borrow_mut() = ids,
                Err(EngineError::Conflict | EngineError::TooOld) => yield_now().await,
                // Not a failed run, but a run that cannot be named now: try again later.
                Err(_) => return Err(TreeError::Store(RunError::DrivesLost)),
            }
        }
    }

    async fn reserve(&self) -> Result<Range<u64>, EngineError> {
        let mut txn = self.engine.begin();
        let value = txn.get(&self.counter_key, Isolation::Serializable).await?;
        let next = counter(value.as_ref())?;
        let end = next + VOLUME_IDS_RESERVED;
        txn.set(&self.counter_key, &end.to_le_bytes());
        txn.commit().await?;
        Ok(next..end)
    }
}

fn counter(value: Option<&Bytes>) -> Result<u64, EngineError> {
    let Some(value) = value else { return Ok(0) };
    let bytes = value.as_ref().try_into();
    let bytes = bytes.map_err(|_| EngineError::Damaged("the volume counter is not 8 bytes long".into()))?;
    Ok(u64::from_le_bytes(bytes))
}

/// How a backlog of merging is shown to the commit loop.
pub(crate) fn may_flush(shared: &Shared) -> bool {
    shared.view.load().levels.backlog() != Backlog::Stop
}
