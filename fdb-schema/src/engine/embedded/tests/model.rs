//! Model: random concurrent transactions over tiny memtables, with crashes at any poll, against a `BTreeMap`.
//! What holds after every crash: each acknowledged commit is there, each other one is there whole or not at all, and
//! replaying all of them in the order of their versionstamps gives every transaction the reads that it had and the map
//! the rows that the engine has. A failure prints its seed; run one seed with `MODEL_SEED=n`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use shardstore_format::DriveId;
use shardstore_reactor::Clock;
use shardstore_sim::{Sim, SimDrive, SimExecutor};

use super::super::testing::MemoryRunStore;
use super::super::{EmbeddedConfig, EmbeddedStats, LogDrives};
use super::{Handle, config, drives, start};
use crate::engine::write_set::add_to;
use crate::engine::{Direction, Engine, EngineError, Isolation, RangeRead, Row, Transaction, Versionstamp};

/// Seeds in every run of the tests.
const SEEDS: u64 = 200;
/// Crashes and restarts under one seed.
const LIVES: usize = 4;
const WORKERS: usize = 5;

type Map = BTreeMap<Bytes, Bytes>;

#[derive(Clone, Debug)]
enum Op {
    Get(Bytes, Option<Bytes>),
    Range(RangeRead, Vec<Row>),
    Set(Bytes, Bytes),
    Clear(Bytes),
    ClearRange(Bytes, Bytes),
    Add(Bytes, i64),
}

#[derive(Debug)]
struct Attempt {
    marker: Bytes,
    ops: Vec<Op>,
    stamp: Option<Versionstamp>,
}

/// What happened since the last restart, and the rows before it.
#[derive(Default)]
struct History {
    rows: Map,
    attempts: BTreeMap<u64, Attempt>,
    next_id: u64,
    acknowledged: u64,
    unknown_kept: u64,
    unknown_lost: u64,
}

#[test]
fn every_acknowledged_commit_survives_crashes_and_nothing_else_is_half_there() {
    let only = std::env::var("MODEL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = only.map_or(0..SEEDS, |seed: u64| seed..seed + 1);
    let mut total = History::default();
    let mut stats = EmbeddedStats::default();
    for seed in seeds {
        let (history, last) = run_seed(seed);
        total.acknowledged += history.acknowledged;
        total.unknown_kept += history.unknown_kept;
        total.unknown_lost += history.unknown_lost;
        stats.flushes += last.flushes;
        stats.compactions += last.compactions;
        stats.conflicts += last.conflicts;
        stats.runs_removed += last.runs_removed;
    }
    eprintln!(
        "{} acknowledged, {} kept and {} lost unanswered; {stats:?}",
        total.acknowledged, total.unknown_kept, total.unknown_lost
    );
    if only.is_none() {
        // The campaign reached what it is for.
        assert!(total.acknowledged > 20_000, "{} commits", total.acknowledged);
        assert!(total.unknown_kept > 50, "{} commits outlived a crash unanswered", total.unknown_kept);
        assert!(total.unknown_lost > 50, "{} commits were lost unanswered", total.unknown_lost);
        assert!(stats.flushes > 500, "{stats:?}");
        assert!(stats.compactions > 50, "{stats:?}");
        assert!(stats.runs_removed > 50, "{stats:?}");
        assert!(stats.conflicts > 500, "{stats:?}");
    }
}

fn run_seed(seed: u64) -> (History, EmbeddedStats) {
    let sim = Sim::new(seed);
    let mut rng = fastrand::Rng::with_seed(seed);
    let log_members = rng.usize(1..=3);
    let mut drives = drives(&sim, u128::try_from(log_members).unwrap() + rng.u128(0..2));
    let store = MemoryRunStore::suspending();
    let history = Rc::new(RefCell::new(History::default()));
    let mut stats = EmbeddedStats::default();
    for life in 0..LIVES {
        let config = EmbeddedConfig {
            freeze_log_bytes: 1 << rng.u32(10..15),
            freeze_memory_bytes: 1 << rng.u32(12..18),
            ..config(log_members)
        };
        let polls_max = if life + 1 == LIVES { u64::MAX } else { rng.u64(300..9_000) };
        let world = World {
            drives: drives.clone(),
            store: store.clone(),
            executor: sim.executor(),
            history: Rc::clone(&history),
            whole: Rc::default(),
        };
        let whole = Rc::clone(&world.whole);
        match sim.run(world.live(config, rng.fork()), polls_max) {
            Some(last) => stats = add_stats(stats, last),
            None => sim.crash(),
        }
        for (_, drive) in &mut drives {
            drive.come_back();
            drive.resume();
            *drive = drive.reopen();
        }
        if whole.get() && rng.bool() {
            // Any m drives may be gone for good, if the log was on a full set.
            rng.shuffle(&mut drives);
            drives.iter().take(rng.usize(..log_members)).for_each(|(_, drive)| drive.wipe());
        }
    }
    let history = Rc::try_unwrap(history).ok().expect("all tasks have ended").into_inner();
    (history, stats)
}

fn add_stats(a: EmbeddedStats, b: EmbeddedStats) -> EmbeddedStats {
    EmbeddedStats {
        flushes: a.flushes + b.flushes,
        compactions: a.compactions + b.compactions,
        conflicts: a.conflicts + b.conflicts,
        runs_removed: a.runs_removed + b.runs_removed,
        ..a
    }
}

/// What outlives the process, and whether the log is on a full set of drives now.
struct World {
    drives: Vec<(DriveId, SimDrive)>,
    store: MemoryRunStore,
    executor: SimExecutor,
    history: Rc<RefCell<History>>,
    whole: Rc<Cell<bool>>,
}

impl World {
    /// One life of the engine: recovers, checks, works among failing drives, checks again, stops.
    async fn live(mut self, config: EmbeddedConfig, mut rng: fastrand::Rng) -> EmbeddedStats {
        let (factory, engine, log_drives) = start(config, &self.drives, &self.store, &self.executor).await;
        self.whole.set(!factory.stats().read_only);
        check(&engine, &self.history).await;
        let worker = |_| work(engine.clone(), self.executor.clone(), Rc::clone(&self.history), rng.fork());
        let workers: Vec<_> = (0..WORKERS).map(worker).collect();
        let trouble = self.trouble(log_drives, rng);
        futures_util::join!(futures_util::future::join_all(workers), trouble);
        check(&engine, &self.history).await;
        // Views of five seconds ago let go of merged runs.
        self.executor.sleep(Duration::from_secs(8)).await;
        let stats = factory.stats();
        assert_eq!(self.store.volumes().len(), stats.runs, "runs that no view holds are removed");
        factory.stop();
        stats
    }

    /// Runs that cannot be written, drives that hang, vanish and return.
    async fn trouble(&mut self, log_drives: LogDrives<SimDrive, SimExecutor>, mut rng: fastrand::Rng) {
        for _ in 0..rng.u32(0..4) {
            self.executor.sleep(Duration::from_millis(rng.u64(1..40))).await;
            if rng.bool() {
                self.store.fail_writes(rng.u32(1..3));
                continue;
            }
            let index = rng.usize(..self.drives.len());
            let drive = self.drives[index].1.clone();
            self.whole.set(false);
            if rng.bool() {
                drive.hang()
            } else {
                drive.vanish()
            }
            self.executor.sleep(Duration::from_millis(rng.u64(1..2_000))).await;
            drive.resume();
            drive.come_back();
            self.drives[index].1 = drive.reopen();
            log_drives.set_drives(self.drives.clone());
        }
    }
}

async fn work(engine: Handle, executor: SimExecutor, history: Rc<RefCell<History>>, mut rng: fastrand::Rng) {
    for _ in 0..rng.u32(20..120) {
        let mut txn = engine.begin();
        let id = {
            let mut history = history.borrow_mut();
            history.next_id += 1;
            history.next_id
        };
        let Ok(ops) = random_ops(&mut txn, &mut rng).await else { continue };
        if rng.u8(..4) == 0 {
            executor.sleep(Duration::from_micros(rng.u64(..3_000))).await;
        }
        let marker = Bytes::from(format!("m/{id:06}"));
        txn.set_versionstamped_value(&marker, &[0; 10], 0);
        history.borrow_mut().attempts.insert(id, Attempt { marker, ops, stamp: None });
        let committed = txn.commit().await;
        let mut history = history.borrow_mut();
        match committed {
            Ok(stamp) => {
                history.acknowledged += 1;
                history.attempts.get_mut(&id).unwrap().stamp = Some(stamp);
            }
            Err(
                EngineError::Conflict | EngineError::TooOld | EngineError::Overloaded | EngineError::ReadOnly,
            ) => {
                history.attempts.remove(&id);
            }
            // Found out at the next check.
            Err(EngineError::CommitUnknown | EngineError::Stopped) => {}
            Err(error) => panic!("a commit failed: {error}"),
        }
    }
}

async fn random_ops(txn: &mut impl Transaction, rng: &mut fastrand::Rng) -> Result<Vec<Op>, EngineError> {
    let mut ops = Vec::new();
    for _ in 0..rng.u32(1..8) {
        let op = match rng.u8(..16) {
            0..4 => {
                let key = random_key(rng);
                let value = txn.get(&key, Isolation::Serializable).await?;
                Op::Get(key, value)
            }
            4..7 => {
                let read = random_range(rng);
                let rows = txn.range(read.clone()).await?;
                Op::Range(read, rows)
            }
            7..11 => {
                let (key, value) = (random_key(rng), Bytes::from(vec![rng.u8(..); rng.usize(..200)]));
                txn.set(&key, &value);
                Op::Set(key, value)
            }
            11..13 => {
                let key = random_key(rng);
                txn.clear(&key);
                Op::Clear(key)
            }
            13 => {
                let (begin, end) = (random_key(rng), random_key(rng));
                txn.clear_range(&begin, &end);
                Op::ClearRange(begin, end)
            }
            _ => {
                let (key, delta) = (random_key(rng), rng.i64(..));
                txn.atomic_add(&key, delta);
                Op::Add(key, delta)
            }
        };
        ops.push(op);
    }
    Ok(ops)
}

fn random_key(rng: &mut fastrand::Rng) -> Bytes {
    Bytes::from(format!("k/{:02}", rng.u32(..40)))
}

fn random_range(rng: &mut fastrand::Rng) -> RangeRead {
    RangeRead {
        begin: random_key(rng),
        end: random_key(rng),
        limit: if rng.bool() { rng.usize(1..6) } else { usize::MAX },
        direction: if rng.bool() { Direction::Forward } else { Direction::Reverse },
        isolation: Isolation::Serializable,
    }
}

/// Replays what committed since the last check and compares every row.
async fn check(engine: &Handle, history: &Rc<RefCell<History>>) {
    let rows = all_rows(engine).await;
    let mut history = history.borrow_mut();
    let history = &mut *history;
    let mut committed: Vec<(Versionstamp, Attempt)> = Vec::new();
    for (_, attempt) in std::mem::take(&mut history.attempts) {
        let kept = rows.get(&attempt.marker).map(|stamp| Versionstamp(stamp.as_ref().try_into().unwrap()));
        match (kept, attempt.stamp) {
            (Some(kept), Some(acknowledged)) => assert_eq!(kept, acknowledged),
            (None, Some(stamp)) => panic!("acknowledged commit {stamp:?} is gone"),
            (Some(_), None) => history.unknown_kept += 1,
            (None, None) => history.unknown_lost += 1,
        }
        if let Some(stamp) = kept {
            committed.push((stamp, attempt));
        }
    }
    committed.sort_by_key(|(stamp, _)| *stamp);
    for (stamp, attempt) in committed {
        replay(&mut history.rows, stamp, attempt);
    }
    let difference = rows.iter().find(|(key, value)| history.rows.get(*key) != Some(value));
    assert_eq!(difference, None, "the engine has a row that the model has not");
    assert_eq!(rows.len(), history.rows.len(), "the model has a row that the engine has not");
}

async fn all_rows(engine: &Handle) -> Map {
    let read = RangeRead {
        begin: Bytes::from_static(b"k"),
        end: Bytes::from_static(b"n"),
        limit: usize::MAX,
        direction: Direction::Forward,
        isolation: Isolation::Snapshot,
    };
    let rows = engine.begin().range(read).await.unwrap();
    rows.into_iter().map(|row| (row.key, row.value)).collect()
}

fn replay(rows: &mut Map, stamp: Versionstamp, attempt: Attempt) {
    for op in attempt.ops {
        match op {
            Op::Get(key, seen) => assert_eq!(rows.get(&key), seen.as_ref(), "a read was not serializable"),
            Op::Range(read, seen) => assert_eq!(range_of(rows, &read), seen, "a range was not serializable"),
            Op::Set(key, value) => {
                rows.insert(key, value);
            }
            Op::Clear(key) => {
                rows.remove(&key);
            }
            Op::ClearRange(begin, end) => rows.retain(|key, _| *key < begin || *key >= end),
            Op::Add(key, delta) => {
                let sum = add_to(rows.get(&key).map(Bytes::as_ref), delta);
                rows.insert(key, sum);
            }
        }
    }
    rows.insert(attempt.marker, Bytes::copy_from_slice(&stamp.0));
}

fn range_of(rows: &Map, read: &RangeRead) -> Vec<Row> {
    let end = if read.end < read.begin { &read.begin } else { &read.end };
    let inside = rows.range(read.begin.clone()..end.clone());
    let row = |(key, value): (&Bytes, &Bytes)| Row { key: key.clone(), value: value.clone() };
    match read.direction {
        Direction::Forward => inside.map(row).take(read.limit).collect(),
        Direction::Reverse => inside.rev().map(row).take(read.limit).collect(),
    }
}
