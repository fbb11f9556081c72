//! Decides commits, in order: conflicts, version, stamps, sums, rows into the memtable.
//! Invariants: versions strictly ascend; a commit is checked against all before it, those still on their way into the
//! log included; every memtable younger than the snapshot of a checked commit is still here, else the commit is
//! `TooOld`; rows of a record that failed are taken back, so nothing unacknowledged is ever published.
//! Not here: the log and the order of events (`core`), flushes (`maintain`).

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_channel::oneshot;
use shardstore_reactor::MonotonicTime;

use super::memtable::Memtable;
use super::record::{MalformedPart, Part, decode_record};
use super::request::{AddPatch, Request};
use crate::engine::buffered::stamp_of;
use crate::engine::write_set::add_to;
use crate::engine::{EngineError, TXN_MAX_AGE, Versionstamp};

/// Ranges declared as written that are remembered: 4,096 are checked in some 50 us. Past that, the oldest
/// transactions are told that they are too old.
const DECLARED_MAX: usize = 4_096;

/// A memtable that a conflict check may need, and the last commit in it (none while it is active).
struct Table {
    rows: Arc<Memtable>,
    last_version: u64,
    /// When no younger commit could join it.
    frozen_at: Option<MonotonicTime>,
    /// Its rows are in a run, so only conflict checks need it.
    flushed: bool,
}

type Reply = oneshot::Sender<Result<Versionstamp, EngineError>>;

/// A commit in a record: who waits for it, and its versionstamp.
struct Waiting {
    reply: Reply,
    version: u64,
}

/// Commits that go into one log record.
#[derive(Default)]
pub(crate) struct Batch {
    parts: Vec<Bytes>,
    waiting: Vec<Waiting>,
    bytes: usize,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The record's payload; cheap clones.
    pub(crate) fn parts(&self) -> Vec<Bytes> {
        self.parts.clone()
    }

    /// The version of the last commit.
    pub(crate) fn last_version(&self) -> Option<u64> {
        self.waiting.last().map(|waiting| waiting.version)
    }

    /// Tells everyone that their commit is durable.
    pub(crate) fn succeed(self) {
        for waiting in self.waiting {
            // A caller that has gone does not want to know.
            drop(waiting.reply.send(Ok(stamp_of(waiting.version))));
        }
    }

    fn fail(self, error: &EngineError) {
        for waiting in self.waiting {
            drop(waiting.reply.send(Err(error.clone())));
        }
    }
}

/// The state that decides commits.
pub(crate) struct Committer {
    last_version: u64,
    /// Newest first; the first is active.
    tables: VecDeque<Table>,
    /// Snapshots below this cannot be checked any more.
    floor: u64,
    /// Ranges declared as written, by version.
    declared: VecDeque<(u64, Bytes, Bytes)>,
    /// Commits that conflicted with something up to this version, which may not be published yet.
    conflicted: Vec<(u64, Reply)>,
}

impl Committer {
    /// `active` holds every commit after `flushed_version` up to `last_version`.
    pub(crate) fn new(active: Arc<Memtable>, last_version: u64) -> Committer {
        let table = Table { rows: active, last_version: u64::MAX, frozen_at: None, flushed: false };
        Committer {
            last_version,
            tables: VecDeque::from([table]),
            floor: last_version,
            declared: VecDeque::new(),
            conflicted: Vec::new(),
        }
    }

    fn active(&self) -> &Arc<Memtable> {
        &self.tables[0].rows
    }

    /// Decides one commit: adds it to `batch`, or answers why not, or keeps it among those that conflicted.
    pub(crate) fn prepare(&mut self, request: Request, batch: &mut Batch) {
        match self.check(&request) {
            Ok(()) => self.accept(request, batch),
            Err(EngineError::Conflict) => self.conflicted.push((self.last_version, request.reply)),
            Err(error) => drop(request.reply.send(Err(error))),
        }
    }

    /// Answers the commits that conflicted with something up to `published`; returns how many.
    ///
    /// Not before: a transaction that tried again at once would begin at the same snapshot and conflict again.
    pub(crate) fn answer_conflicts(&mut self, published: u64) -> u64 {
        let (now, later) =
            std::mem::take(&mut self.conflicted).into_iter().partition(|(version, _)| *version <= published);
        self.conflicted = later;
        let now: Vec<(u64, Reply)> = now;
        let count = now.len() as u64;
        for (_, reply) in now {
            drop(reply.send(Err(EngineError::Conflict)));
        }
        count
    }

    fn accept(&mut self, request: Request, batch: &mut Batch) {
        let version = self.last_version + 1;
        self.last_version = version;
        if let Some(part) = self.inserted_into_cleared(&request, version) {
            self.apply(&part);
            batch.bytes += part.len();
            batch.parts.push(part);
        }
        let mut part = request.part;
        for offset in request.stamps {
            part.put_stamp(offset, stamp_of(version));
        }
        for add in request.adds {
            let sum = self.sum(&part, &add);
            part.put_sum(add.sum_offset, &sum);
        }
        let part = part.finish(version);
        self.apply(&part);
        batch.bytes += part.len();
        batch.parts.push(part);
        batch.waiting.push(Waiting { reply: request.reply, version });
        for (begin, end) in request.declared {
            self.declare(version, begin, end);
        }
    }

    fn check(&self, request: &Request) -> Result<(), EngineError> {
        if request.snapshot < self.floor {
            return Err(EngineError::TooOld);
        }
        if request.snapshot < self.last_version && self.conflicts(request) {
            return Err(EngineError::Conflict);
        }
        Ok(())
    }

    fn conflicts(&self, request: &Request) -> bool {
        let snapshot = request.snapshot;
        let points = request.reads.points();
        let ranges = request.reads.ranges();
        for table in self.newer_tables(snapshot) {
            let newer = |key: &Bytes| table.newest_version(key).is_some_and(|version| version > snapshot);
            if points.iter().any(newer) {
                return true;
            }
            if ranges.iter().any(|(begin, end)| table.has_newer_in(begin, end, snapshot)) {
                return true;
            }
        }
        let declared = self.declared.iter().rev().take_while(|(version, ..)| *version > snapshot);
        declared.into_iter().any(|(_, begin, end)| {
            points.iter().any(|key| begin <= key && key < end)
                || ranges.iter().any(|(read_begin, read_end)| begin < read_end && read_begin < end)
        })
    }

    /// The tables that can hold commits after `snapshot`, newest first.
    fn newer_tables(&self, snapshot: u64) -> impl Iterator<Item = &Arc<Memtable>> {
        let newer = self.tables.iter().take_while(move |table| table.last_version > snapshot);
        newer.map(|table| &table.rows)
    }

    /// Tombstones for what came into the cleared ranges after the snapshot at which they were expanded.
    fn inserted_into_cleared(&self, request: &Request, version: u64) -> Option<Bytes> {
        if request.cleared.is_empty() || request.snapshot == version - 1 {
            return None;
        }
        let mut part = Part::new(0);
        let empty_bytes = part.len_bytes();
        for table in self.newer_tables(request.snapshot) {
            for (begin, end) in &request.cleared {
                for row in table.newest_in(begin, end) {
                    if row.key().version > request.snapshot && row.value().is_some() {
                        part.push(&row.key().key, None);
                    }
                }
            }
        }
        (part.len_bytes() > empty_bytes).then(|| part.finish(version))
    }

    /// The value at this point of the order: the newest in any memtable, else what the snapshot had. A run's row can
    /// only be superseded through a memtable, and all since the snapshot are here.
    fn sum(&self, part: &Part, add: &AddPatch) -> Bytes {
        let key = part.at(add.key.clone());
        let newest = self.tables.iter().find_map(|table| table.rows.newest(key));
        let base = newest.map_or_else(|| add.base.clone(), |(_, value)| value);
        add_to(base.as_deref(), add.delta)
    }

    fn apply(&self, part: &Bytes) {
        let active = self.active();
        let decoded = decode_record(part, |version, row| active.insert(&row.key, version, row.value));
        assert!(decoded.is_ok(), "a part that this process encoded decodes");
    }

    fn declare(&mut self, version: u64, begin: Bytes, end: Bytes) {
        self.declared.push_back((version, begin, end));
        if self.declared.len() > DECLARED_MAX
            && let Some((version, ..)) = self.declared.pop_front()
        {
            self.floor = self.floor.max(version);
        }
    }

    /// Takes back a batch that is not in the log, and tells its callers why. Later batches went before.
    ///
    /// Its versions are given out again: with the last one above what is published, the floor could rise above every
    /// snapshot, and no transaction would ever be young enough again.
    pub(crate) fn undo(&mut self, batch: Batch, error: &EngineError) {
        if let Some(first) = batch.waiting.first().map(|waiting| waiting.version) {
            self.last_version = first - 1;
            self.declared.retain(|(version, ..)| *version < first);
        }
        for part in &batch.parts {
            let active = self.active();
            let undone = decode_record(part, |version, row| active.remove(&row.key, version));
            assert!(undone.is_ok(), "a part that this process encoded decodes");
        }
        batch.fail(error);
    }

    /// Makes `active` the active table; the one before is complete up to the last version.
    pub(crate) fn freeze(&mut self, active: Arc<Memtable>, now: MonotonicTime) {
        let frozen = &mut self.tables[0];
        frozen.last_version = self.last_version;
        frozen.frozen_at = Some(now);
        let table = Table { rows: active, last_version: u64::MAX, frozen_at: None, flushed: false };
        self.tables.push_front(table);
    }

    /// The frozen table is in a run.
    pub(crate) fn flushed(&mut self) {
        for table in self.tables.iter_mut().skip(1) {
            table.flushed = true;
        }
    }

    /// Drops flushed tables and declared ranges that no young transaction needs, and beyond `memory_max_bytes` also
    /// those that one might. Returns the tables, for whoever frees them.
    pub(crate) fn forget(&mut self, now: MonotonicTime, memory_max_bytes: usize) -> Vec<Arc<Memtable>> {
        let mut gone = Vec::new();
        while let Some(oldest) = self.tables.back()
            && let Some(frozen_at) = oldest.frozen_at
            && oldest.flushed
        {
            let retired = self.tables.iter().filter(|table| table.flushed);
            let memory_bytes: usize = retired.map(|table| table.rows.memory_bytes()).sum();
            if now.since(frozen_at) <= TXN_MAX_AGE && memory_bytes <= memory_max_bytes {
                break;
            }
            self.floor = self.floor.max(oldest.last_version);
            gone.extend(self.tables.pop_back().map(|table| table.rows));
        }
        while self.declared.front().is_some_and(|(version, ..)| *version <= self.floor) {
            self.declared.pop_front();
        }
        gone
    }

    /// Whether [`Committer::forget`] has something to wait for.
    pub(crate) fn has_retired(&self) -> bool {
        self.tables.iter().any(|table| table.flushed)
    }
}

/// Replays one log record into `table`, without what `flushed_version` covers; returns its last version.
pub(crate) fn replay(
    payload: &Bytes,
    table: &Memtable,
    flushed_version: u64,
) -> Result<Option<u64>, MalformedPart> {
    decode_record(payload, |version, row| {
        if version > flushed_version {
            table.insert(&row.key, version, row.value);
        }
    })
}
