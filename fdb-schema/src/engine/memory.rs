//! The model engine: every version of every key in one ordered map in memory.
//! Invariants: the commit numbers of a key's versions ascend; a version is dropped only when no transaction young
//! enough to read it can exist.
//! Not here: durability. It is the oracle of the other engines and the engine of tests.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::rc::Rc;

use bytes::Bytes;
use shardstore_reactor::{Clock, MonotonicTime};

use super::buffered::{Buffered, Snapshot, put_stamp, stamp_of};
use super::read_set::ReadSet;
use super::traits::{Direction, Engine, EngineError, Row, TXN_MAX_AGE, TXN_MAX_BYTES, Versionstamp};
use super::write_set::{Write, WriteSet, add_to};

/// Versions of one key: commit number and value, ascending.
type Versions = Vec<(u64, Option<Bytes>)>;

/// The model. Clones share the rows; one thread.
#[derive(Clone)]
pub struct MemoryEngine<C: Clock> {
    state: Rc<RefCell<State>>,
    clock: C,
}

#[derive(Default)]
struct State {
    version: u64,
    rows: BTreeMap<Bytes, Versions>,
    /// Ranges declared as written.
    conflicts: Vec<(u64, Bytes, Bytes)>,
    /// Commits of the last five seconds and the keys they wrote.
    recent: VecDeque<(MonotonicTime, u64, Vec<Bytes>)>,
    unknown_next: Option<bool>,
}

/// One moment of a [`MemoryEngine`].
pub struct MemorySnapshot<C: Clock> {
    engine: MemoryEngine<C>,
    version: u64,
    /// `None`: it only reads, for as long as it likes.
    began: Option<MonotonicTime>,
}

impl<C: Clock> MemoryEngine<C> {
    /// An empty engine.
    pub fn new(clock: C) -> MemoryEngine<C> {
        MemoryEngine { state: Rc::default(), clock }
    }

    /// The next commit answers [`EngineError::CommitUnknown`], whether it `happens` or not: the case that the
    /// embedded engine never has while it runs, and FoundationDB does.
    pub fn lose_next_answer(&self, happens: bool) {
        self.state.borrow_mut().unknown_next = Some(happens);
    }
}

impl<C: Clock> Engine for MemoryEngine<C> {
    type Txn = Buffered<MemorySnapshot<C>>;

    fn begin(&self) -> Self::Txn {
        let version = self.state.borrow().version;
        Buffered::new(MemorySnapshot { engine: self.clone(), version, began: Some(self.clock.now()) })
    }

    /// On a copy of all rows: versions are dropped by age.
    fn begin_long(&self) -> Self::Txn {
        let (rows, version) = (self.state.borrow().rows.clone(), self.state.borrow().version);
        let state = Rc::new(RefCell::new(State { version, rows, ..State::default() }));
        let engine = MemoryEngine { state, clock: self.clock.clone() };
        Buffered::new(MemorySnapshot { engine, version, began: None })
    }
}

impl<C: Clock> Snapshot for MemorySnapshot<C> {
    fn read_version(&self) -> u64 {
        self.version
    }

    fn check_age(&self) -> Result<(), EngineError> {
        let Some(began) = self.began else { return Ok(()) };
        let age = self.engine.clock.now().since(began);
        if age > TXN_MAX_AGE { Err(EngineError::TooOld) } else { Ok(()) }
    }

    fn get(&self, key: &[u8]) -> impl Future<Output = Result<Option<Bytes>, EngineError>> {
        let state = self.engine.state.borrow();
        std::future::ready(Ok(state
            .rows
            .get(key)
            .and_then(|versions| visible(versions, self.version).cloned())))
    }

    fn rows(
        &self,
        begin: &Bytes,
        end: &Bytes,
        limit: usize,
        direction: Direction,
    ) -> impl Future<Output = Result<Vec<Row>, EngineError>> {
        let state = self.engine.state.borrow();
        let bounds = (Bound::Included(begin), Bound::Excluded(end));
        let found = state.rows.range::<Bytes, _>(bounds).filter_map(|(key, versions)| {
            visible(versions, self.version).map(|value| Row { key: key.clone(), value: value.clone() })
        });
        let rows: Vec<Row> = match direction {
            Direction::Forward => found.take(limit).collect(),
            Direction::Reverse => found.rev().take(limit).collect(),
        };
        std::future::ready(Ok(rows))
    }

    fn commit(
        self,
        writes: WriteSet,
        reads: ReadSet,
    ) -> impl Future<Output = Result<Versionstamp, EngineError>> {
        if self.began.is_none() {
            return std::future::ready(Err(EngineError::TooOld));
        }
        let now = self.engine.clock.now();
        let mut state = self.engine.state.borrow_mut();
        let unknown = state.unknown_next.take();
        if unknown == Some(false) {
            return std::future::ready(Err(EngineError::CommitUnknown));
        }
        let committed = state.commit(self.version, &writes, &reads, now);
        std::future::ready(if unknown.is_some() { Err(EngineError::CommitUnknown) } else { committed })
    }
}

fn visible(versions: &[(u64, Option<Bytes>)], snapshot: u64) -> Option<&Bytes> {
    let newest = versions.iter().rev().find(|(version, _)| *version <= snapshot);
    newest.and_then(|(_, value)| value.as_ref())
}

impl State {
    fn commit(
        &mut self,
        snapshot: u64,
        writes: &WriteSet,
        reads: &ReadSet,
        now: MonotonicTime,
    ) -> Result<Versionstamp, EngineError> {
        if self.conflicts_with(snapshot, reads) {
            return Err(EngineError::Conflict);
        }
        let version = self.version + 1;
        let rows = self.resolve(version, writes)?;
        self.version = version;
        let keys = rows.iter().map(|(key, _)| key.clone()).collect();
        for (key, value) in rows {
            let versions = self.rows.entry(key).or_default();
            // A key written twice by one commit keeps the later value.
            versions.retain(|(other, _)| *other != version);
            versions.push((version, value));
        }
        for (begin, end) in writes.conflicts() {
            self.conflicts.push((version, begin.clone(), end.clone()));
        }
        self.recent.push_back((now, version, keys));
        self.forget_before(now);
        Ok(stamp_of(version))
    }

    fn conflicts_with(&self, snapshot: u64, reads: &ReadSet) -> bool {
        let newer = |versions: &Versions| versions.last().is_some_and(|(version, _)| *version > snapshot);
        let point = reads.points().iter().any(|key| self.rows.get(key).is_some_and(newer));
        let range = reads.ranges().iter().any(|(begin, end)| {
            let bounds = (Bound::Included(begin), Bound::Excluded(end));
            self.rows.range::<Bytes, _>(bounds).any(|(_, versions)| newer(versions))
        });
        let declared =
            self.conflicts.iter().filter(|(version, ..)| *version > snapshot).any(|(_, begin, end)| {
                reads.points().iter().any(|key| begin <= key && key < end)
                    || reads
                        .ranges()
                        .iter()
                        .any(|(read_begin, read_end)| begin < read_end && read_begin < end)
            });
        point || range || declared
    }

    /// The rows to write, in the order in which later ones win.
    fn resolve(&self, version: u64, writes: &WriteSet) -> Result<Vec<(Bytes, Option<Bytes>)>, EngineError> {
        let mut rows = Vec::new();
        for (begin, end) in writes.cleared() {
            let bounds = (Bound::Included(begin), Bound::Excluded(end));
            let live = self.rows.range::<Bytes, _>(bounds).filter(|(_, versions)| newest(versions).is_some());
            rows.extend(live.map(|(key, _)| (key.clone(), None)));
        }
        let expanded_bytes: usize = rows.iter().map(|(key, _)| key.len()).sum();
        if writes.size_bytes() + expanded_bytes > TXN_MAX_BYTES {
            return Err(EngineError::TooLarge);
        }
        let stamp = stamp_of(version);
        for (key, write) in writes.writes() {
            let value = match write {
                Write::Set(value) => Some(value.clone()),
                Write::Clear => None,
                Write::Add(delta) => {
                    let stored = self.rows.get(key).and_then(newest);
                    Some(add_to(stored.map(Bytes::as_ref), *delta))
                }
                Write::Stamped { value, stamp_offset } => Some(put_stamp(value, *stamp_offset, stamp)),
            };
            rows.push((key.clone(), value));
        }
        for stamped in writes.stamped_keys() {
            let key = put_stamp(&stamped.key, stamped.stamp_offset, stamp);
            rows.push((key, Some(stamped.value.clone())));
        }
        Ok(rows)
    }

    /// Drops versions that only transactions older than five seconds could see.
    fn forget_before(&mut self, now: MonotonicTime) {
        while let Some((committed, version, _)) = self.recent.front()
            && now.since(*committed) > TXN_MAX_AGE
        {
            let oldest = *version;
            let keys = self.recent.pop_front().map(|(_, _, keys)| keys).unwrap_or_default();
            for key in keys {
                self.forget_versions(&key, oldest);
            }
            self.conflicts.retain(|(version, ..)| *version > oldest);
        }
    }

    fn forget_versions(&mut self, key: &Bytes, oldest: u64) {
        let Some(versions) = self.rows.get_mut(key) else { return };
        let hidden = versions.iter().rposition(|(version, _)| *version <= oldest).unwrap_or(0);
        versions.drain(..hidden);
        if let [(version, None)] = versions.as_slice()
            && *version <= oldest
        {
            self.rows.remove(key);
        }
    }
}

fn newest(versions: &Versions) -> Option<&Bytes> {
    versions.last().and_then(|(_, value)| value.as_ref())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shardstore_reactor::Clock;

    use super::super::conformance;
    use super::super::traits::Transaction;
    use super::*;

    #[test]
    fn the_model_conforms() {
        let sim = shardstore_sim::Sim::new(1);
        let clock = sim.executor();
        sim.block_on(async move { conformance::run_all(&MemoryEngine::new(clock.clone()), &clock).await });
    }

    #[test]
    fn versions_that_nobody_can_read_are_dropped() {
        let sim = shardstore_sim::Sim::new(2);
        let clock = sim.executor();
        sim.block_on(async move {
            let engine = MemoryEngine::new(clock.clone());
            for n in 0..100_u8 {
                let mut txn = engine.begin();
                txn.set(b"k", &[n]);
                txn.clear(b"gone");
                txn.commit().await.unwrap();
                clock.sleep(Duration::from_secs(1)).await;
            }
            let state = engine.state.borrow();
            assert!(state.rows[&b"k"[..]].len() <= 7);
        });
    }

    #[test]
    fn a_lost_answer_says_nothing_about_the_commit() {
        let sim = shardstore_sim::Sim::new(3);
        let clock = sim.executor();
        sim.block_on(async move {
            let engine = MemoryEngine::new(clock);
            for happens in [false, true] {
                engine.lose_next_answer(happens);
                let mut txn = engine.begin();
                txn.set(b"k", b"v");
                assert_eq!(txn.commit().await, Err(EngineError::CommitUnknown));
                let found = engine.begin().get(b"k", super::super::Isolation::Snapshot).await.unwrap();
                assert_eq!(found.is_some(), happens);
            }
        });
    }
}
