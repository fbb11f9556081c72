//! A core's handle: begins transactions, reads on the core itself, sends commits to the metadata thread.
//! Invariants: a read never waits for a commit; a transaction keeps the view that it began with.
//! Not here: the decision of a commit (`commit`).

use std::sync::Arc;

use bytes::Bytes;
use futures_channel::oneshot;
use shardstore_reactor::{Executor, MonotonicTime};

use super::config::ROWS_BETWEEN_YIELDS;
use super::memtable::Memtable;
use super::pace::give_way;
use super::record::Part;
use super::request::{AddPatch, Message, Request};
use super::tree::MergeCursor;
use super::view::{EmbeddedStats, Shared, View, read_error};
use crate::engine::buffered::{Buffered, Snapshot};
use crate::engine::read_set::ReadSet;
use crate::engine::write_set::{Write, WriteSet, successor};
use crate::engine::{
    Direction, Engine, EngineError, Row, ShardMove, TXN_MAX_AGE, TXN_MAX_BYTES, Versionstamp,
};
use crate::run_store::{RunStore, RunVolume};

/// Rows of a cleared range read at a time.
const CLEAR_PAGE_ROWS: usize = 1_000;

/// Makes handles; one clone for each core's thread.
#[derive(Clone)]
pub struct EmbeddedFactory {
    shared: Arc<Shared>,
}

impl EmbeddedFactory {
    pub(crate) fn new(shared: Arc<Shared>) -> EmbeddedFactory {
        EmbeddedFactory { shared }
    }

    /// A handle for the core that owns `run_store` and `clock`.
    pub fn handle<R: RunStore, C: Executor>(&self, run_store: R, clock: C) -> Embedded<R, C> {
        Embedded { shared: Arc::clone(&self.shared), run_store, clock, urgent: false }
    }

    /// Counts and state, for metrics.
    pub fn stats(&self) -> EmbeddedStats {
        self.shared.stats()
    }

    /// The volumes of the runs that the newest view holds: what scrub and census must know beside the catalog.
    pub fn run_volumes(&self) -> Vec<RunVolume> {
        self.shared.view.load().levels.runs().map(|run| run.volume().clone()).collect()
    }

    /// Ends the metadata thread's future after the record under way. Later commits are `Stopped`; those that wait
    /// get [`EngineError::CommitUnknown`] or `Stopped`. Reads go on.
    pub fn stop(&self) {
        self.shared.send(Message::Stop);
    }
}

/// One core's engine.
#[derive(Clone)]
pub struct Embedded<R: RunStore, C: Executor> {
    shared: Arc<Shared>,
    run_store: R,
    clock: C,
    urgent: bool,
}

impl<R: RunStore, C: Executor> Embedded<R, C> {
    /// A handle whose commits are neither paced nor refused, for what a flush needs.
    pub(crate) fn urgent(&self) -> Embedded<R, C> {
        Embedded { urgent: true, ..self.clone() }
    }
}

impl<R: RunStore, C: Executor> Engine for Embedded<R, C> {
    type Txn = Buffered<EmbeddedSnapshot<R, C>>;

    fn begin(&self) -> Self::Txn {
        let (view, version) = self.shared.snapshot();
        let began = Some(self.clock.now());
        Buffered::new(EmbeddedSnapshot { engine: self.clone(), view, version, began })
    }

    fn begin_long(&self) -> Self::Txn {
        let (view, version) = self.shared.snapshot();
        Buffered::new(EmbeddedSnapshot { engine: self.clone(), view, version, began: None })
    }

    async fn move_run_shard(&self, moved: ShardMove) -> Result<bool, EngineError> {
        let (reply, answer) = oneshot::channel();
        if !self.shared.send(Message::Move(moved, reply)) {
            return Err(EngineError::Stopped);
        }
        answer.await.map_err(|oneshot::Canceled| EngineError::Stopped)
    }
}

/// One moment of an [`Embedded`] engine.
pub struct EmbeddedSnapshot<R: RunStore, C: Executor> {
    engine: Embedded<R, C>,
    view: Arc<View>,
    version: u64,
    /// `None`: it only reads, for as long as it likes.
    began: Option<MonotonicTime>,
}

impl<R: RunStore, C: Executor> Snapshot for EmbeddedSnapshot<R, C> {
    fn read_version(&self) -> u64 {
        self.version
    }

    fn check_age(&self) -> Result<(), EngineError> {
        let Some(began) = self.began else { return Ok(()) };
        let age = self.engine.clock.now().since(began);
        if age > TXN_MAX_AGE { Err(EngineError::TooOld) } else { Ok(()) }
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.view.get(&self.engine.run_store, key, self.version).await
    }

    async fn rows(
        &self,
        begin: &Bytes,
        end: &Bytes,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<Row>, EngineError> {
        let store = &self.engine.run_store;
        let tables = self.view.memtables().map(Arc::as_ref).filter(|table: &&Memtable| !table.is_empty());
        let cursors = tables.map(|table| table.cursor(self.version)).collect();
        let mut cursor = MergeCursor::new(cursors, &self.view.levels, direction);
        let start = if direction == Direction::Forward { begin } else { end };
        cursor.seek(store, start).await.map_err(read_error)?;
        let mut rows = Vec::with_capacity(limit.min(1_000));
        let mut passed = 0;
        while let Some(key) = cursor.key() {
            let inside =
                if direction == Direction::Forward { key < end.as_ref() } else { key >= begin.as_ref() };
            if !inside {
                break;
            }
            if let Some(value) = cursor.value() {
                rows.push(Row { key: Bytes::copy_from_slice(key), value });
                if rows.len() == limit {
                    break;
                }
            }
            passed += 1;
            if passed % ROWS_BETWEEN_YIELDS == 0 {
                give_way(&self.engine.clock).await;
                self.check_age()?;
            }
            cursor.next(store).await.map_err(read_error)?;
        }
        Ok(rows)
    }

    async fn commit(self, writes: WriteSet, reads: ReadSet) -> Result<Versionstamp, EngineError> {
        if self.began.is_none() {
            return Err(EngineError::TooOld);
        }
        let (reply, answer) = oneshot::channel();
        let mut request = Request {
            snapshot: self.version,
            reads,
            part: Part::new(writes.size_bytes() + 8 * writes.writes().len()),
            stamps: Vec::new(),
            adds: Vec::new(),
            cleared: Vec::new(),
            declared: writes.conflicts().to_vec(),
            urgent: self.engine.urgent,
            reply,
        };
        self.expand_clears(&writes, &mut request).await?;
        self.encode_writes(&writes, &mut request).await?;
        let shared = Arc::clone(&self.engine.shared);
        // The view is not needed while the commit waits.
        drop(self);
        shared.send_commit(request)?;
        answer.await.unwrap_or(Err(EngineError::CommitUnknown))
    }
}

impl<R: RunStore, C: Executor> EmbeddedSnapshot<R, C> {
    /// A tombstone for every key that the snapshot has in a cleared range.
    async fn expand_clears(&self, writes: &WriteSet, request: &mut Request) -> Result<(), EngineError> {
        let mut size_bytes = writes.size_bytes();
        for (begin, end) in writes.cleared() {
            let mut from = begin.clone();
            loop {
                self.check_age()?;
                let page = self.rows(&from, end, CLEAR_PAGE_ROWS, Direction::Forward).await?;
                for row in &page {
                    request.part.push(&row.key, None);
                    size_bytes += row.key.len();
                }
                if size_bytes > TXN_MAX_BYTES {
                    return Err(EngineError::TooLarge);
                }
                match page.last() {
                    Some(last) if page.len() == CLEAR_PAGE_ROWS => from = successor(&last.key),
                    _ => break,
                }
            }
            request.cleared.push((begin.clone(), end.clone()));
        }
        Ok(())
    }

    async fn encode_writes(&self, writes: &WriteSet, request: &mut Request) -> Result<(), EngineError> {
        for (key, write) in writes.writes() {
            match write {
                Write::Set(value) => {
                    request.part.push(key, Some(value));
                }
                Write::Clear => {
                    request.part.push(key, None);
                }
                Write::Add(delta) => {
                    let base = self.get(key).await?;
                    let (key, sum) = request.part.push(key, Some(&[0; size_of::<i64>()]));
                    request.adds.push(AddPatch { key, sum_offset: sum.start, delta: *delta, base });
                }
                Write::Stamped { value, stamp_offset } => {
                    let (_, value) = request.part.push(key, Some(value));
                    request.stamps.push(value.start + stamp_offset);
                }
            }
        }
        for stamped in writes.stamped_keys() {
            let (key, _) = request.part.push(&stamped.key, Some(&stamped.value));
            request.stamps.push(key.start + stamped.stamp_offset);
        }
        Ok(())
    }
}
