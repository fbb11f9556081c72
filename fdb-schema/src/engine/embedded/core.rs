//! The metadata thread: gathers commits, logs them, publishes them, installs runs.
//! Invariants: one record at a time is on its way into the log, while the next is gathered; versions are published in
//! order, after their record is durable on every member, before their callers are told; the view changes only between
//! records; an installed change is named by a durable manifest first.
//! Not here: the decision of a commit (`commit`), the writing of runs (`maintain`).

use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use futures_channel::{mpsc, oneshot};
use futures_util::{FutureExt, StreamExt};
use shardstore_format::DriveId;
use shardstore_reactor::{Drive, Executor, SECTOR_BYTES};

use super::commit::{Batch, Committer};
use super::config::{EmbeddedConfig, RECORD_COMMITS_MAX, RECORD_TARGET_BYTES};
use super::log::{Log, LogError};
use super::maintain::{Background, FlushJob, Progress, VolumeIds, may_flush};
use super::memtable::Memtable;
use super::pace::yield_now;
use super::request::{Install, Message, Nudge, Request};
use super::tree::{Backlog, Levels, Manifest, Run};
use super::view::{Shared, View, count};
use crate::engine::EngineError;
use crate::run_store::RunStore;

/// The header of a log record (docs/format.md).
const RECORD_HEADER_BYTES: usize = 64;
/// How often retired memtables and runs, and a log that cannot write, are looked at while there are any.
const HOUSEKEEPING_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// The owner of the log and of everything that decides commits. One thread runs it.
pub struct EmbeddedCore<D: Drive, R: RunStore, X: Executor> {
    log: Log<D, X>,
    messages: mpsc::UnboundedReceiver<Message>,
    state: State<R, X>,
}

/// The drives under the metadata log, for whoever watches drives come and go. Lives on the metadata thread.
pub struct LogDrives<D: Drive, X: Executor> {
    log: Log<D, X>,
}

impl<D: Drive, X: Executor> LogDrives<D, X> {
    /// Says which drives can be used from now on, all of them; one that failed is offered again by being listed.
    pub fn set_drives(&self, drives: Vec<(DriveId, D)>) {
        self.log.set_drives(drives);
    }

    /// The drives that hold the log.
    pub fn members(&self) -> Vec<DriveId> {
        self.log.members()
    }

    /// The current term.
    pub fn term(&self) -> u64 {
        self.log.term()
    }
}

/// Everything of the core but the log and the inbox, so that a record can be under way meanwhile.
struct State<R: RunStore, X: Executor> {
    config: EmbeddedConfig,
    shared: Arc<Shared>,
    run_store: R,
    executor: X,
    committer: Committer,
    progress: Rc<Progress>,
    waiting: VecDeque<Request>,
    urgent: VecDeque<Request>,
    installs: VecDeque<(Install, oneshot::Sender<bool>)>,
    stopping: bool,
    /// Log bytes of the active memtable.
    active_log_bytes: u64,
    /// The sequence number of the next log record.
    next_sequence: u64,
    /// The first log record that is not wholly in runs.
    keep_from_sequence: u64,
    frozen: Option<Frozen>,
    flush_jobs: mpsc::UnboundedSender<FlushJob>,
    compaction_nudges: mpsc::UnboundedSender<Nudge>,
    /// Runs that no manifest names; removed once no view holds them.
    obsolete: Vec<Arc<Run>>,
    /// Memtables that only views still hold. Kept here so that it is never a reader that frees one.
    retired: Vec<Arc<Memtable>>,
}

/// The memtable being flushed.
struct Frozen {
    last_version: u64,
    /// The first log record after it.
    keep_from_sequence: u64,
    /// Not begun: merging is too far behind.
    job: Option<FlushJob>,
}

/// What open found, and a core begins with.
pub(crate) struct CoreStart<D: Drive, R: RunStore, X: Executor> {
    pub(crate) config: EmbeddedConfig,
    pub(crate) log: Log<D, X>,
    pub(crate) messages: mpsc::UnboundedReceiver<Message>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) run_store: R,
    pub(crate) executor: X,
    /// Log bytes replayed into the active memtable.
    pub(crate) replayed_bytes: u64,
    pub(crate) next_sequence: u64,
    pub(crate) keep_from_sequence: u64,
}

impl<D: Drive, R: RunStore, X: Executor> EmbeddedCore<D, R, X> {
    pub(crate) fn new(start: CoreStart<D, R, X>) -> EmbeddedCore<D, R, X> {
        let CoreStart { config, log, messages, shared, run_store, executor, .. } = start;
        let active = Arc::clone(&shared.view.load().active);
        let progress = Rc::new(Progress::default());
        let volume_ids =
            VolumeIds::new(&shared, run_store.clone(), executor.clone(), config.volume_counter_key.clone());
        let background = Background {
            shared: Arc::clone(&shared),
            run_store: run_store.clone(),
            executor: executor.clone(),
            progress: Rc::clone(&progress),
            volume_ids: Rc::new(volume_ids),
        };
        let (flush_jobs, jobs) = mpsc::unbounded();
        let (compaction_nudges, nudges) = mpsc::unbounded();
        executor.spawn(background.clone().flush_all(jobs));
        executor.spawn(background.compact_all(nudges));
        let state = State {
            committer: Committer::new(active, shared.published()),
            config,
            shared,
            run_store,
            executor,
            progress,
            waiting: VecDeque::new(),
            urgent: VecDeque::new(),
            installs: VecDeque::new(),
            stopping: false,
            active_log_bytes: start.replayed_bytes,
            next_sequence: start.next_sequence,
            keep_from_sequence: start.keep_from_sequence,
            frozen: None,
            flush_jobs,
            compaction_nudges,
            obsolete: Vec::new(),
            retired: Vec::new(),
        };
        state.nudge_compaction();
        EmbeddedCore { log, messages, state }
    }

    /// The drives under the log; outlives [`EmbeddedCore::run`].
    pub fn log_drives(&self) -> LogDrives<D, X> {
        LogDrives { log: self.log.clone() }
    }

    /// Serves commits until [`super::EmbeddedFactory::stop`].
    pub async fn run(mut self) {
        let mut batch = Batch::default();
        loop {
            self.take_messages();
            self.install_all().await;
            if batch.is_empty() {
                if self.state.stopping {
                    break;
                }
                self.state.shared.set_read_only(!self.log.is_writable());
                self.state.housekeep();
                self.state.fill(&mut batch);
                if batch.is_empty() {
                    let idle = self.wait().await;
                    if idle && self.state.shared.is_read_only() {
                        // An empty record asks whether the log can write again.
                        batch = self.log_record(Batch::default()).await;
                    }
                    continue;
                }
                // Tasks that are ready to commit join this record rather than wait for the next.
                yield_now().await;
                self.take_messages();
                self.state.fill(&mut batch);
            }
            batch = self.log_record(batch).await;
        }
        self.refuse_the_rest();
    }

    fn take_messages(&mut self) {
        while let Ok(message) = self.messages.try_recv() {
            self.state.note(message);
        }
    }

    /// Waits for a message; true if it is time for housekeeping instead.
    async fn wait(&mut self) -> bool {
        let message = if self.state.needs_housekeeping() {
            let mut sleep = pin!(self.state.executor.sleep(HOUSEKEEPING_INTERVAL).fuse());
            futures_util::select_biased! {
                message = self.messages.next() => message,
                () = sleep => return true,
            }
        } else {
            self.messages.next().await
        };
        match message {
            Some(message) => self.state.note(message),
            None => self.state.stopping = true,
        }
        false
    }

    /// Makes the batch durable and answers it; gathers the next meanwhile.
    async fn log_record(&mut self, batch: Batch) -> Batch {
        let EmbeddedCore { log, messages, state } = self;
        let mut next = Batch::default();
        let mut append = pin!(log.append(batch.parts()).fuse());
        // The drives begin before this core prepares the next record.
        let mut begun = pin!(yield_now().fuse());
        let mut stalled = pin!(log.stalled().fuse());
        let result = loop {
            futures_util::select_biased! {
                result = append => break result,
                () = stalled => state.stall(std::mem::take(&mut next)),
                () = begun => state.fill(&mut next),
                message = messages.next() => {
                    let Some(message) = message else { continue };
                    state.note(message);
                    while let Ok(message) = messages.try_recv() {
                        state.note(message);
                    }
                    state.fill(&mut next);
                }
            }
            if state.stopping && !log.is_writable() {
                break Err(LogError::Stopped);
            }
        };
        match result {
            Ok(sequence) => {
                state.succeed(sequence, batch);
                next
            }
            Err(error) => {
                state.fail(error, batch, next);
                Batch::default()
            }
        }
    }

    /// Makes finished flushes and compactions part of the view.
    async fn install_all(&mut self) {
        while let Some((install, reply)) = self.state.installs.pop_front() {
            let change = self.state.plan(install);
            let manifest = Bytes::from(change.manifest.encode());
            let rolled = self.log.roll(manifest, change.manifest.keep_from_sequence).await;
            let installed = rolled.is_ok();
            match rolled {
                Ok(()) => self.state.install(change),
                Err(error) => tracing::warn!(%error, "the manifest could not be written"),
            }
            // A background task that has gone does not want to know.
            reply.send(installed).ok();
        }
    }

    fn refuse_the_rest(&mut self) {
        self.messages.close();
        self.take_messages();
        self.state.refuse(&EngineError::Stopped, true);
    }
}

/// A planned change of the view and the manifest that names it.
struct Change {
    view: View,
    manifest: Manifest,
    flushed: bool,
    gone: Vec<Arc<Run>>,
}

impl<R: RunStore, X: Executor> State<R, X> {
    fn note(&mut self, message: Message) {
        match message {
            Message::Commit(request) if request.urgent => self.urgent.push_back(request),
            Message::Commit(request) => self.waiting.push_back(request),
            Message::Install(install, reply) => self.installs.push_back((install, reply)),
            // The task ends only with this core.
            Message::Move(moved, reply) => {
                drop(self.compaction_nudges.unbounded_send(Nudge::Move(moved, reply)))
            }
            Message::Progress => {}
            Message::Stop => self.stopping = true,
        }
    }

    /// Decides waiting commits until the record is full or none is admitted.
    fn fill(&mut self, batch: &mut Batch) {
        while batch.len() < RECORD_COMMITS_MAX && batch.bytes() < RECORD_TARGET_BYTES {
            let Some(request) = self.next_admitted() else { break };
            let bytes = request.part.len_bytes();
            self.shared.left_queue(bytes);
            let before = batch.bytes();
            self.committer.prepare(request, batch);
            let logged = (batch.bytes() - before) as u64;
            self.active_log_bytes += logged;
            self.progress.spend(logged);
        }
        self.answer_conflicts();
    }

    fn answer_conflicts(&mut self) {
        let answered = self.committer.answer_conflicts(self.shared.published());
        count(&self.shared.stats.conflicts, answered);
    }

    fn next_admitted(&mut self) -> Option<Request> {
        if self.shared.is_read_only() {
            self.refuse(&EngineError::ReadOnly, true);
            return None;
        }
        // The freeze comes first, and needs a moment without a commit on its way.
        if self.freeze_is_due() || self.stopping {
            return None;
        }
        if let Some(request) = self.urgent.pop_front() {
            return Some(request);
        }
        if self.waiting.is_empty() {
            return None;
        }
        match self.admission() {
            Admission::Open => self.waiting.pop_front(),
            Admission::Paced => {
                self.progress.wait_for_more();
                None
            }
            Admission::Full => {
                count(&self.shared.stats.refused_full, self.waiting.len() as u64);
                self.refuse(&EngineError::Overloaded, false);
                None
            }
        }
    }

    fn admission(&self) -> Admission {
        if self.frozen.is_some() {
            let used = self.used_1024ths();
            if used >= 1024 {
                return Admission::Full;
            }
            // From half full on, commits take what the flush has made room for.
            if used >= 512 + self.progress.flush_done_1024ths() / 2 {
                return Admission::Paced;
            }
        }
        let behind = self.shared.view.load().levels.backlog() != Backlog::None;
        if behind && !self.progress.has_credit() { Admission::Paced } else { Admission::Open }
    }

    /// How full the active memtable is.
    fn used_1024ths(&self) -> u64 {
        let memory_bytes = self.shared.view.load().active.memory_bytes() as u64;
        let log = self.active_log_bytes * 1024 / self.config.freeze_log_bytes.max(1);
        let memory = memory_bytes * 1024 / (self.config.freeze_memory_bytes as u64).max(1);
        log.max(memory)
    }

    fn freeze_is_due(&self) -> bool {
        self.frozen.is_none() && self.used_1024ths() >= 1024
    }

    fn refuse(&mut self, error: &EngineError, urgent_too: bool) {
        let urgent = if urgent_too { std::mem::take(&mut self.urgent) } else { VecDeque::new() };
        for request in std::mem::take(&mut self.waiting).into_iter().chain(urgent) {
            self.shared.left_queue(request.part.len_bytes());
            drop(request.reply.send(Err(error.clone())));
        }
    }

    fn succeed(&mut self, sequence: u64, batch: Batch) {
        assert!(sequence >= self.next_sequence, "records are logged in order");
        self.next_sequence = sequence + 1;
        self.active_log_bytes += padding_bytes(batch.bytes());
        if let Some(version) = batch.last_version() {
            self.shared.publish(version);
        }
        count(&self.shared.stats.commits, batch.len() as u64);
        count(&self.shared.stats.records, 1);
        count(&self.shared.stats.record_bytes, batch.bytes() as u64);
        batch.succeed();
        self.answer_conflicts();
    }

    /// The log waits for drives with a record under way: that one will be completed, others are refused meanwhile.
    fn stall(&mut self, next: Batch) {
        self.shared.set_read_only(true);
        self.committer.undo(next, &EngineError::ReadOnly);
        self.committer.answer_conflicts(u64::MAX);
        self.refuse(&EngineError::ReadOnly, true);
    }

    fn fail(&mut self, error: LogError, batch: Batch, next: Batch) {
        if !batch.is_empty() {
            tracing::error!(%error, "the metadata log refused a record");
        }
        let (told, told_next) = match error {
            // Certainly not written.
            LogError::ReadOnly | LogError::NoSpace => (EngineError::ReadOnly, EngineError::ReadOnly),
            LogError::TooLarge => (EngineError::TooLarge, EngineError::Overloaded),
            LogError::Damaged { .. } | LogError::FutureVersion { .. } => {
                (EngineError::Damaged(error.to_string()), EngineError::ReadOnly)
            }
            LogError::Stopped => {
                self.stopping = true;
                (EngineError::CommitUnknown, EngineError::Stopped)
            }
        };
        // What came after was decided in the light of it, so it goes too.
        self.committer.undo(next, &told_next);
        self.committer.undo(batch, &told);
        self.committer.answer_conflicts(u64::MAX);
    }

    /// Freezes if due, starts a flush that may start, and lets go of what no transaction needs.
    fn housekeep(&mut self) {
        if self.freeze_is_due() {
            self.freeze();
        }
        if may_flush(&self.shared)
            && let Some(job) = self.frozen.as_mut().and_then(|frozen| frozen.job.take())
        {
            // The task ends only with this core.
            drop(self.flush_jobs.unbounded_send(job));
        }
        self.retired.extend(self.committer.forget(self.executor.now(), self.config.freeze_memory_bytes));
        self.free_retired();
        self.remove_obsolete();
    }

    fn freeze(&mut self) {
        assert!(self.frozen.is_none());
        // Nothing is on its way, so what was decided is published, or was taken back.
        let last_version = self.shared.published();
        let view = self.shared.view.load_full();
        let active = Arc::new(Memtable::default());
        self.committer.freeze(Arc::clone(&active), self.executor.now());
        let table = Arc::clone(&view.active);
        let (first_version, log_bytes) = (view.flushed_version + 1, self.active_log_bytes);
        let job = FlushJob { table, first_version, last_version, log_bytes };
        self.frozen = Some(Frozen { last_version, keep_from_sequence: self.next_sequence, job: Some(job) });
        self.active_log_bytes = 0;
        self.shared.view.store(Arc::new(View {
            active,
            frozen: Some(Arc::clone(&view.active)),
            levels: view.levels.clone(),
            flushed_version: view.flushed_version,
        }));
    }

    fn plan(&self, install: Install) -> Change {
        let view = self.shared.view.load_full();
        match install {
            Install::Flush(run) => {
                let frozen = self.frozen.as_ref().expect("only a frozen memtable is flushed");
                let levels = run.map_or_else(|| view.levels.clone(), |run| view.levels.with_flush(run));
                let manifest = manifest_of(&levels, frozen.last_version, frozen.keep_from_sequence);
                let flushed_version = frozen.last_version;
                let active = Arc::clone(&view.active);
                let view = View { active, frozen: None, levels, flushed_version };
                Change { view, manifest, flushed: true, gone: Vec::new() }
            }
            Install::Compaction(compaction, outputs) => {
                let levels = view.levels.apply(&compaction, &outputs);
                let manifest = manifest_of(&levels, view.flushed_version, self.keep_from_sequence);
                let inputs = compaction.inputs.into_iter().chain(compaction.overlapped);
                let stays = |run: &Arc<Run>| outputs.iter().any(|output| Arc::ptr_eq(run, output));
                let gone = inputs.filter(|run| !stays(run)).collect();
                let view = View {
                    active: Arc::clone(&view.active),
                    frozen: view.frozen.clone(),
                    levels,
                    flushed_version: view.flushed_version,
                };
                Change { view, manifest, flushed: false, gone }
            }
            Install::Move(moved) => {
                let levels = view.levels.with_moved(&moved);
                let manifest = manifest_of(&levels, view.flushed_version, self.keep_from_sequence);
                let view = View {
                    active: Arc::clone(&view.active),
                    frozen: view.frozen.clone(),
                    levels,
                    flushed_version: view.flushed_version,
                };
                Change { view, manifest, flushed: false, gone: Vec::new() }
            }
        }
    }

    fn install(&mut self, change: Change) {
        self.keep_from_sequence = change.manifest.keep_from_sequence;
        self.shared.view.store(Arc::new(change.view));
        if change.flushed {
            self.frozen = None;
            self.committer.flushed();
            self.progress.end_flush();
        }
        self.obsolete.extend(change.gone);
        self.nudge_compaction();
    }

    fn nudge_compaction(&self) {
        // The task ends only with this core.
        drop(self.compaction_nudges.unbounded_send(Nudge::Look));
    }

    fn free_retired(&mut self) {
        for table in std::mem::take(&mut self.retired) {
            match Arc::try_unwrap(table) {
                Ok(table) => {
                    let executor = self.executor.clone();
                    self.executor.spawn(async move { table.dismantle(&executor).await });
                }
                Err(held) => self.retired.push(held),
            }
        }
    }

    fn remove_obsolete(&mut self) {
        let (free, held): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.obsolete).into_iter().partition(|run| Arc::strong_count(run) == 1);
        self.obsolete = held;
        for run in free {
            let (store, shared) = (self.run_store.clone(), Arc::clone(&self.shared));
            self.executor.spawn(async move {
                match store.remove(run.volume()).await {
                    Ok(()) => count(&shared.stats.runs_removed, 1),
                    // Its files go at the next start: no manifest names the volume.
                    Err(error) => tracing::warn!(%error, "a merged metadata run could not be removed"),
                }
            });
        }
    }

    fn needs_housekeeping(&self) -> bool {
        let waits = !self.obsolete.is_empty() || !self.retired.is_empty() || self.committer.has_retired();
        waits || self.shared.is_read_only()
    }
}

/// What a record takes in the log beside its payload: a header, and zeros up to a sector.
fn padding_bytes(payload_bytes: usize) -> u64 {
    let record_bytes = (RECORD_HEADER_BYTES + payload_bytes).next_multiple_of(SECTOR_BYTES);
    (record_bytes - payload_bytes) as u64
}

enum Admission {
    Open,
    Paced,
    Full,
}

pub(crate) fn manifest_of(levels: &Levels, flushed_version: u64, keep_from_sequence: u64) -> Manifest {
    Manifest {
        flushed_version,
        keep_from_sequence,
        engine_state: Bytes::new(),
        levels: levels.manifest_levels(),
    }
}
