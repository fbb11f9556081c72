//! Behaviour of one open engine: conformance, flushes, compactions, pacing, drives that go.

use std::time::Duration;

use bytes::Bytes;
use shardstore_format::DriveId;
use shardstore_reactor::{BufPool, Clock, Drive, DriveFile, Executor, OpenMode};
use shardstore_sim::{Sim, SimDrive, SimExecutor};

use super::super::testing::MemoryRunStore;
use super::super::{EmbeddedConfig, EmbeddedFactory, block_reads_of_thread, look, open};
use super::{Handle, POOL, config, drives, open_on, start};
use crate::engine::{
    Direction, Engine, EngineError, Isolation, RangeRead, Row, ShardMove, TXN_MAX_AGE, Transaction,
    conformance,
};

fn small(log_members: usize) -> EmbeddedConfig {
    EmbeddedConfig { freeze_log_bytes: 64 * 1024, ..config(log_members) }
}

async fn put(engine: &Handle, key: impl AsRef<[u8]>, value: &[u8]) -> Result<(), EngineError> {
    let mut txn = engine.begin();
    txn.set(key.as_ref(), value);
    txn.commit().await.map(|_| ())
}

/// Puts, again while the engine says that it is full.
async fn put_patiently(engine: &Handle, executor: &SimExecutor, key: impl AsRef<[u8]>, value: &[u8]) {
    loop {
        match put(engine, key.as_ref(), value).await {
            Ok(()) => return,
            Err(EngineError::Overloaded) => executor.sleep(Duration::from_millis(1)).await,
            Err(error) => panic!("a put failed: {error}"),
        }
    }
}

async fn get(engine: &Handle, key: impl AsRef<[u8]>) -> Option<Bytes> {
    engine.begin().get(key.as_ref(), Isolation::Snapshot).await.unwrap()
}

async fn range(engine: &Handle, begin: &str, end: &str, limit: usize) -> Vec<Row> {
    let read = RangeRead {
        begin: Bytes::copy_from_slice(begin.as_bytes()),
        end: Bytes::copy_from_slice(end.as_bytes()),
        limit,
        direction: Direction::Forward,
        isolation: Isolation::Snapshot,
    };
    engine.begin().range(read).await.unwrap()
}

/// Waits until nothing is left to flush or merge.
async fn settle(factory: &EmbeddedFactory, executor: &SimExecutor) {
    let mut before = factory.stats();
    loop {
        executor.sleep(Duration::from_secs(10)).await;
        let now = factory.stats();
        if now == before {
            return;
        }
        before = now;
    }
}

#[test]
fn a_factory_goes_to_every_core() {
    fn is_send_and_clone<T: Send + Sync + Clone>() {}
    is_send_and_clone::<EmbeddedFactory>();
}

#[test]
fn the_embedded_engine_conforms() {
    for seed in 0..2 {
        let sim = Sim::new(seed);
        let executor = sim.executor();
        let drives = drives(&sim, 2);
        sim.block_on(async move {
            let store = MemoryRunStore::suspending();
            let (_factory, engine, _drives) = start(config(2), &drives, &store, &executor).await;
            conformance::run_all(&engine, &executor).await;
        });
    }
}

/// The suite with a memtable so small that it is flushed and merged all the time.
#[test]
fn the_embedded_engine_conforms_across_flushes() {
    for seed in 0..2 {
        let sim = Sim::new(seed);
        let executor = sim.executor();
        let drives = drives(&sim, 2);
        sim.block_on(async move {
            let store = MemoryRunStore::suspending();
            let (factory, engine, _drives) = start(small(2), &drives, &store, &executor).await;
            conformance::run_all(&engine, &executor).await;
            assert!(factory.stats().flushes > 1);
        });
    }
}

#[test]
fn a_clean_restart_finds_every_row_and_replays_only_what_is_not_in_runs() {
    let sim = Sim::new(11);
    let executor = sim.executor();
    let drives = drives(&sim, 3);
    sim.block_on(async move {
        let store = MemoryRunStore::suspending();
        let (factory, engine, log_drives) = start(small(3), &drives, &store, &executor).await;
        for n in 0..3_000_u32 {
            let value = [&n.to_le_bytes()[..], &[0; 200]].concat();
            put_patiently(&engine, &executor, format!("k{:05}", n * 7_919 % 3_000), &value).await;
        }
        assert!(factory.stats().flushes > 3, "{:?}", factory.stats());
        assert!(factory.stats().compactions > 0, "{:?}", factory.stats());
        factory.stop();
        drop((engine, factory, log_drives));
        executor.sleep(Duration::from_secs(1)).await;

        let (factory, core, report) = super::open_on(small(3), &drives, &store, &executor).await;
        assert!(report.writable);
        assert!(report.replayed_bytes <= 2 * 64 * 1024 + 1_000, "{report:?}");
        shardstore_reactor::Executor::spawn(&executor, core.run());
        let engine = factory.handle(store.clone(), executor.clone());
        for n in 0..3_000_u32 {
            let value = get(&engine, format!("k{:05}", n * 7_919 % 3_000)).await;
            assert_eq!(value.as_deref().map(|value| &value[..4]), Some(&n.to_le_bytes()[..]));
        }
        assert_eq!(range(&engine, "k", "l", usize::MAX).await.len(), 3_000);
    });
}

#[test]
fn a_long_snapshot_outlives_flushes_merges_and_five_seconds_and_only_reads() {
    let sim = Sim::new(31);
    let executor = sim.executor();
    let drives = drives(&sim, 1);
    sim.block_on(async move {
        let store = MemoryRunStore::new();
        let (factory, engine, _drives) = start(small(1), &drives, &store, &executor).await;
        for n in 0..2_000_u32 {
            put_patiently(&engine, &executor, format!("k{:05}", n % 500), &padded(n)).await;
        }
        let mut long = engine.begin_long();
        for n in 2_000..8_000_u32 {
            put_patiently(&engine, &executor, format!("k{:05}", n % 700), &padded(n)).await;
        }
        settle(&factory, &executor).await;
        executor.sleep(Duration::from_secs(60)).await;
        let removed = factory.stats().runs_removed;
        assert!(factory.stats().flushes > 3 && factory.stats().compactions > 0, "{:?}", factory.stats());
        for n in 1_500..2_000_u32 {
            let value = long.get(format!("k{:05}", n % 500).as_bytes(), Isolation::Snapshot).await.unwrap();
            assert_eq!(value.map(|value| value[..4].to_vec()), Some(n.to_le_bytes().to_vec()));
        }
        assert_eq!(long.get(b"k00600", Isolation::Snapshot).await, Ok(None));
        long.set(b"k", b"");
        assert_eq!(long.commit().await.err(), Some(EngineError::TooOld), "it only reads");
        // What it held is given back.
        executor.sleep(Duration::from_secs(5)).await;
        put(&engine, b"after", b"").await.unwrap();
        executor.sleep(Duration::from_secs(5)).await;
        assert!(factory.stats().runs_removed > removed, "{:?}", factory.stats());
    });
}

#[test]
fn a_look_reads_everything_and_changes_nothing() {
    let sim = Sim::new(32);
    let executor = sim.executor();
    let drives = drives(&sim, 2);
    let store = MemoryRunStore::new();
    let (kept, clock, given) = (store.clone(), executor.clone(), drives.clone());
    let files = sim.block_on(async move {
        let (factory, engine, _drives) = start(small(2), &given, &kept, &clock).await;
        for n in 0..1_000_u32 {
            put_patiently(&engine, &clock, format!("k{n:05}"), &padded(n)).await;
        }
        settle(&factory, &clock).await;
        factory.stop();
        clock.sleep(Duration::from_secs(1)).await;
        log_files(&given).await
    });
    sim.crash();
    let drives: Vec<_> = drives.iter().map(|(id, drive)| (*id, drive.reopen())).collect();
    let executor = sim.executor();
    sim.block_on(async move {
        let buf_pool = BufPool::new(64 << 20);
        let looked = look(drives.clone(), POOL, store.clone(), executor.clone(), buf_pool).await;
        let (factory, report) = looked.unwrap();
        assert!(!report.writable);
        let engine = factory.handle(store, executor);
        for n in 0..1_000_u32 {
            let value = get(&engine, format!("k{n:05}")).await;
            assert_eq!(value.map(|value| value[..4].to_vec()), Some(n.to_le_bytes().to_vec()));
        }
        assert_eq!(put(&engine, b"k", b"").await, Err(EngineError::ReadOnly));
        assert_eq!(log_files(&drives).await, files);
    });
}

#[test]
fn a_lost_log_is_begun_anew_only_when_asked_and_only_if_no_record_is_left() {
    let sim = Sim::new(33);
    let executor = sim.executor();
    let drives = drives(&sim, 2);
    sim.block_on(async move {
        let store = MemoryRunStore::new();
        let (factory, engine, log) = start(config(2), &drives, &store, &executor).await;
        put(&engine, b"k", b"v").await.unwrap();
        let term = log.term();
        factory.stop();
        executor.sleep(Duration::from_secs(1)).await;
        let reopened: Vec<_> = drives.iter().map(|(id, drive)| (*id, drive.reopen())).collect();
        let open_as = |config: EmbeddedConfig| {
            open(config, reopened.clone(), POOL, store.clone(), executor.clone(), BufPool::new(64 << 20))
        };
        let refused = open_as(config(2).begin_anew()).await.err().unwrap().to_string();
        assert!(refused.contains("there are records of term"), "{refused}");
        for (_, drive) in &reopened {
            for name in drive.list("log").await.unwrap() {
                drive.remove(&format!("log/{name}")).await.unwrap();
            }
        }
        let refused = open_as(config(2)).await.err().unwrap().to_string();
        assert!(refused.contains("no drive holds the log of term"), "{refused}");
        let (factory, core, report) = open_as(config(2).begin_anew()).await.unwrap();
        assert!(report.writable && report.term > term, "{report:?}");
        executor.spawn(core.run());
        let engine = factory.handle(store.clone(), executor.clone());
        assert_eq!(get(&engine, b"k").await, None);
        put(&engine, b"k", b"again").await.unwrap();
    });
}

/// A value that is long enough for flushes.
fn padded(n: u32) -> Vec<u8> {
    [&n.to_le_bytes()[..], &[0; 200]].concat()
}

/// Names and lengths of all files of the log.
async fn log_files(drives: &[(DriveId, SimDrive)]) -> Vec<(String, u64)> {
    let mut files = Vec::new();
    for (_, drive) in drives {
        for name in drive.list("log").await.unwrap() {
            let file = drive.open(&format!("log/{name}"), OpenMode::Read).await.unwrap();
            files.push((format!("{}/{name}", drive.label()), file.len_bytes().await.unwrap()));
        }
    }
    files.sort();
    files
}

/// LIST of a delimiter over 1,000,000 keys under one prefix and 10 others: one row and one seek for each common prefix,
/// however many keys it has.
#[test]
fn skipping_a_prefix_of_a_million_keys_costs_a_block_or_two() {
    let sim = Sim::new(12);
    let executor = sim.executor();
    let drives = drives(&sim, 1);
    sim.block_on(async move {
        let store = MemoryRunStore::new();
        let config = EmbeddedConfig { freeze_log_bytes: 8 * 1024 * 1024, ..config(1) };
        let (factory, engine, _drives) = start(config, &drives, &store, &executor).await;
        let mut names: Vec<String> = (0..10).map(|n| format!("other{n}/only")).collect();
        names.extend((0..1_000_000).map(|n| format!("big/{n:06}")));
        for group in names.chunks(5_000) {
            loop {
                let mut txn = engine.begin();
                group.iter().for_each(|name| txn.set(name.as_bytes(), &[7; 16]));
                match txn.commit().await {
                    Ok(_) => break,
                    Err(EngineError::Overloaded) => executor.sleep(Duration::from_millis(10)).await,
                    Err(error) => panic!("filling failed: {error}"),
                }
            }
        }
        settle(&factory, &executor).await;
        assert!(factory.stats().runs > 0);
        let before = block_reads_of_thread();
        let (mut begin, mut prefixes) = (String::new(), Vec::new());
        while let Some(row) = range(&engine, &begin, "p", 1).await.pop() {
            let key = String::from_utf8(row.key.to_vec()).unwrap();
            let (prefix, _) = key.split_once('/').unwrap();
            prefixes.push(prefix.to_owned());
            begin = format!("{prefix}0");
        }
        assert_eq!(prefixes.len(), 11);
        let reads = block_reads_of_thread() - before;
        // Twelve seeks, each at most two blocks in each sorted part of the tree.
        let parts = factory.stats().runs as u64;
        assert!(reads <= 24 * parts.min(5), "{reads} block reads over {parts} runs");
    });
}

#[test]
fn a_full_memtable_refuses_commits_and_takes_them_again_after_the_flush() {
    let sim = Sim::new(13);
    let executor = sim.executor();
    let drives = drives(&sim, 1);
    sim.block_on(async move {
        let store = MemoryRunStore::suspending();
        let (factory, engine, _drives) = start(small(1), &drives, &store, &executor).await;
        store.fail_writes(u32::MAX);
        let mut refused = 0;
        for n in 0..200_u32 {
            refused +=
                u32::from(put(&engine, n.to_be_bytes(), &[1; 1_000]).await == Err(EngineError::Overloaded));
        }
        assert!(refused > 20, "{refused}");
        assert!(refused < 180, "{refused}");
        assert!(factory.stats().memtable_bytes < 400_000, "{:?}", factory.stats());
        assert!(get(&engine, 0_u32.to_be_bytes()).await.is_some(), "reads go on");
        store.fail_writes(0);
        executor.sleep(Duration::from_secs(5)).await;
        put(&engine, b"after", b"").await.unwrap();
        assert!(factory.stats().flushes > 0);
    });
}

#[test]
fn without_enough_drives_writes_are_refused_and_reads_go_on_until_a_drive_returns() {
    let sim = Sim::new(14);
    let executor = sim.executor();
    let drives = drives(&sim, 2);
    sim.block_on(async move {
        let store = MemoryRunStore::suspending();
        let (_factory, engine, log_drives) = start(config(2), &drives, &store, &executor).await;
        put(&engine, b"a", b"1").await.unwrap();
        drives[0].1.vanish();
        // The commit under way waits for its outcome; those after it are refused.
        let under_way = {
            let engine = engine.clone();
            async move { put(&engine, b"b", b"2").await }
        };
        let others = async {
            executor.sleep(Duration::from_secs(3)).await;
            assert_eq!(put(&engine, b"c", b"3").await, Err(EngineError::ReadOnly));
            assert_eq!(get(&engine, b"a").await.as_deref(), Some(&b"1"[..]));
            assert_eq!(get(&engine, b"b").await, None, "not acknowledged, not visible");
            drives[0].1.come_back();
            let back = vec![(drives[0].0, drives[0].1.reopen()), drives[1].clone()];
            log_drives.set_drives(back);
        };
        let (outcome, ()) = futures_util::join!(under_way, others);
        outcome.unwrap();
        executor.sleep(Duration::from_secs(3)).await;
        assert_eq!(get(&engine, b"b").await.as_deref(), Some(&b"2"[..]));
        assert_eq!(get(&engine, b"c").await, None);
        put(&engine, b"c", b"3").await.unwrap();
    });
}

/// Story: commits that the log could not take were taken back, but their versions counted as given out. The next
/// flush left the oldest snapshot that can be checked above all that was published, and every commit from then on was
/// refused as too old, until a restart. Found by the whole-system simulation, seed 2052.
#[test]
fn commits_that_were_taken_back_do_not_make_all_later_ones_too_old() {
    let sim = Sim::new(21);
    let executor = sim.executor();
    let drives = drives(&sim, 2);
    sim.block_on(async move {
        let store = MemoryRunStore::suspending();
        let (factory, engine, log_drives) = start(small(2), &drives, &store, &executor).await;
        for n in 0..40_u32 {
            put_patiently(&engine, &executor, n.to_be_bytes(), &[1; 1_000]).await;
        }
        settle(&factory, &executor).await;
        let flushes = factory.stats().flushes;
        drives[0].1.fail_writes(1);
        let stalled = put(&engine, b"b", b"2");
        let refused = async {
            // Decided while the record before is on its way, and taken back when that fails.
            executor.sleep(Duration::from_micros(5)).await;
            let puts = (0..8_u32).map(|n| put(&engine, n.to_be_bytes(), &[3; 10_000]));
            for refused in futures_util::future::join_all(puts).await {
                assert_eq!(refused, Err(EngineError::ReadOnly));
            }
            log_drives.set_drives(vec![(drives[0].0, drives[0].1.reopen()), drives[1].clone()]);
        };
        let (outcome, ()) = futures_util::join!(stalled, refused);
        outcome.unwrap();
        // What was taken back had filled the memtable: it is flushed, and after five seconds forgotten.
        settle(&factory, &executor).await;
        assert!(factory.stats().flushes > flushes);
        put(&engine, b"after", b"5").await.unwrap();
        assert_eq!(get(&engine, b"after").await.as_deref(), Some(&b"5"[..]));
    });
}

#[test]
fn a_full_drive_refuses_writes_and_takes_them_again_by_itself_when_there_is_room() {
    let sim = Sim::new(20);
    let executor = sim.executor();
    let drives = drives(&sim, 1);
    sim.block_on(async move {
        let store = MemoryRunStore::suspending();
        let (_factory, engine, _drives) = start(config(1), &drives, &store, &executor).await;
        put(&engine, b"a", b"1").await.unwrap();
        drives[0].1.set_capacity(0);
        let mut refused = Ok(());
        for n in 0..20_000_u32 {
            refused = put(&engine, n.to_be_bytes(), &[1; 50_000]).await;
            if refused.is_err() {
                break;
            }
        }
        assert_eq!(refused, Err(EngineError::ReadOnly));
        drives[0].1.set_capacity(1 << 30);
        executor.sleep(Duration::from_secs(10)).await;
        put(&engine, b"b", b"2").await.unwrap();
        assert_eq!(get(&engine, b"a").await.as_deref(), Some(&b"1"[..]));
    });
}

#[test]
fn sums_are_exact_when_their_key_moves_from_memtable_to_run_under_them() {
    let sim = Sim::new(15);
    let executor = sim.executor();
    let drives = drives(&sim, 1);
    sim.block_on(async move {
        let store = MemoryRunStore::suspending();
        let (factory, engine, _drives) = start(small(1), &drives, &store, &executor).await;
        let adder = |task: u32| {
            let (engine, executor) = (engine.clone(), executor.clone());
            async move {
                let mut sum = 0;
                for n in 0..200_u32 {
                    let mut txn = engine.begin();
                    if task.is_multiple_of(2) {
                        // A snapshot older than a flush or two.
                        executor.sleep(Duration::from_millis(u64::from(n % 7))).await;
                    }
                    txn.atomic_add(b"sum", i64::from(n));
                    txn.set(format!("fill{task}-{n}").as_bytes(), &[0; 900]);
                    match txn.commit().await {
                        Ok(_) => sum += i64::from(n),
                        Err(EngineError::Overloaded) => executor.sleep(Duration::from_millis(2)).await,
                        Err(error) => panic!("an add failed: {error}"),
                    }
                }
                sum
            }
        };
        let sums = futures_util::future::join_all((0..8).map(adder)).await;
        assert!(factory.stats().flushes > 5, "{:?}", factory.stats());
        let stored = get(&engine, b"sum").await.unwrap();
        let stored = i64::from_le_bytes(stored.as_ref().try_into().unwrap());
        assert_eq!(stored, sums.iter().sum::<i64>());
    });
}

#[test]
fn a_transaction_keeps_its_view_while_runs_are_merged_and_removed() {
    let sim = Sim::new(16);
    let executor = sim.executor();
    let drives = drives(&sim, 1);
    sim.block_on(async move {
        let store = MemoryRunStore::suspending();
        let (factory, engine, _drives) = start(small(1), &drives, &store, &executor).await;
        let fill = async |generation: u8| {
            for n in 0..600_u32 {
                put_patiently(&engine, &executor, format!("k{n:04}"), &[generation; 300]).await;
            }
        };
        fill(1).await;
        settle(&factory, &executor).await;
        let old = engine.begin();
        fill(2).await;
        let read = RangeRead {
            begin: Bytes::from_static(b"k"),
            end: Bytes::from_static(b"l"),
            limit: usize::MAX,
            direction: Direction::Reverse,
            isolation: Isolation::Serializable,
        };
        let rows = old.range(read).await.unwrap();
        assert_eq!(rows.len(), 600);
        assert!(rows.iter().all(|row| row.value[0] == 1), "one moment, whatever was merged since");
        drop(old);
        settle(&factory, &executor).await;
        let stats = factory.stats();
        assert!(stats.runs_removed > 0, "{stats:?}");
        assert_eq!(store.volumes().len(), stats.runs);
        assert_eq!(factory.run_volumes().len(), stats.runs);
    });
}

#[test]
fn a_run_whose_shard_moved_says_so_after_a_restart_and_is_read_merged_and_removed_as_before() {
    let sim = Sim::new(18);
    let executor = sim.executor();
    let drives = drives(&sim, 1);
    sim.block_on(async move {
        let store = MemoryRunStore::suspending();
        let (factory, engine, log_drives) = start(small(1), &drives, &store, &executor).await;
        for n in 0..600_u32 {
            put_patiently(&engine, &executor, format!("k{n:04}"), &[1; 300]).await;
        }
        let (from, to) = (DriveId(1), DriveId(2));
        let segments = |factory: &EmbeddedFactory| -> Vec<DriveId> {
            factory.run_volumes().iter().map(|run| run.record.segments[0]).collect()
        };
        // Flushes and merges go on meanwhile: a run may be gone by its turn.
        for run in factory.run_volumes() {
            let moved = ShardMove { volume: run.record.id, shard: 0, from, to };
            engine.move_run_shard(moved).await.unwrap();
        }
        settle(&factory, &executor).await;
        for run in factory.run_volumes() {
            let moved = ShardMove { volume: run.record.id, shard: 0, from, to };
            assert!(engine.move_run_shard(moved).await.unwrap());
            assert!(engine.move_run_shard(moved).await.unwrap(), "again is no harm");
            let elsewhere = ShardMove { from: DriveId(7), to: DriveId(8), ..moved };
            assert!(!engine.move_run_shard(elsewhere).await.unwrap());
            // A manifest with such a run was written, and refused at the next start.
            let beside = ShardMove { shard: 1, from: DriveId(9), ..moved };
            assert!(!engine.move_run_shard(beside).await.unwrap(), "two shards on one drive");
        }
        assert!(segments(&factory).iter().all(|drive| *drive == to));
        factory.stop();
        drop((engine, factory, log_drives));
        executor.sleep(Duration::from_secs(1)).await;

        let (factory, engine, _log_drives) = start(small(1), &drives, &store, &executor).await;
        assert!(!segments(&factory).is_empty());
        assert!(segments(&factory).iter().all(|drive| *drive == to));
        for n in 0..600_u32 {
            assert_eq!(get(&engine, format!("k{n:04}").as_bytes()).await.unwrap(), Bytes::from(vec![1; 300]));
            put_patiently(&engine, &executor, format!("k{n:04}"), &[2; 300]).await;
        }
        settle(&factory, &executor).await;
        assert_eq!(store.volumes().len(), factory.stats().runs, "what was merged is removed once");
        assert_eq!(get(&engine, b"k0599").await.unwrap(), Bytes::from(vec![2; 300]));
    });
}

/// The store verifies every read and mends what it can; what it lets through, the tree finds when it first reads it.
#[test]
fn a_flipped_bit_in_a_run_is_reported_and_never_served() {
    let sim = Sim::new(17);
    let executor = sim.executor();
    let drives = drives(&sim, 1);
    sim.block_on(async move {
        let store = MemoryRunStore::new();
        let (factory, engine, log_drives) = start(small(1), &drives, &store, &executor).await;
        for n in 0..100_u32 {
            put_patiently(&engine, &executor, format!("k{n:04}"), &[9; 300]).await;
        }
        settle(&factory, &executor).await;
        factory.stop();
        drop((engine, factory, log_drives));
        executor.sleep(Duration::from_secs(1)).await;
        let volumes = store.volumes();
        assert!(!volumes.is_empty());
        for volume in volumes {
            assert!(store.flip_bit(volume, 500, 3));
            let (factory, engine, log_drives) = start(small(1), &drives, &store, &executor).await;
            let read = RangeRead {
                begin: Bytes::from_static(b"k"),
                end: Bytes::from_static(b"l"),
                limit: usize::MAX,
                direction: Direction::Forward,
                isolation: Isolation::Snapshot,
            };
            match engine.begin().range(read).await {
                Err(EngineError::Damaged(what)) => {
                    assert!(what.contains(&format!("volume {}", volume.0)), "{what}");
                }
                other => panic!("a damaged run was served: {:?}", other.map(|rows| rows.len())),
            }
            factory.stop();
            drop((engine, factory, log_drives));
            executor.sleep(Duration::from_secs(1)).await;
            assert!(store.flip_bit(volume, 500, 3));
        }
    });
}

#[test]
fn volume_ids_of_runs_come_from_the_counter_that_others_use() {
    let sim = Sim::new(18);
    let executor = sim.executor();
    let drives = drives(&sim, 1);
    sim.block_on(async move {
        let store = MemoryRunStore::suspending();
        let (factory, engine, _drives) = start(small(1), &drives, &store, &executor).await;
        put(&engine, b"volumes", &100_u64.to_le_bytes()).await.unwrap();
        for n in 0..300_u32 {
            put_patiently(&engine, &executor, n.to_be_bytes(), &[9; 300]).await;
        }
        settle(&factory, &executor).await;
        let volumes = store.volumes();
        assert!(!volumes.is_empty());
        let counter = get(&engine, b"volumes").await.unwrap();
        let counter = u64::from_le_bytes(counter.as_ref().try_into().unwrap());
        assert!(volumes.iter().all(|volume| (100..counter).contains(&volume.0)), "{volumes:?} {counter}");
    });
}

#[test]
fn after_stop_commits_are_refused_and_reads_go_on() {
    let sim = Sim::new(19);
    let executor = sim.executor();
    let drives = drives(&sim, 1);
    sim.block_on(async move {
        let store = MemoryRunStore::suspending();
        let (factory, engine, _drives) = start(config(1), &drives, &store, &executor).await;
        put(&engine, b"a", b"1").await.unwrap();
        factory.stop();
        executor.sleep(TXN_MAX_AGE).await;
        assert_eq!(put(&engine, b"b", b"2").await, Err(EngineError::Stopped));
        assert_eq!(get(&engine, b"a").await.as_deref(), Some(&b"1"[..]));
    });
}

#[test]
fn a_stop_ends_the_metadata_thread_though_a_record_waits_for_a_drive() {
    let sim = Sim::new(20);
    let executor = sim.executor();
    let drives = drives(&sim, 2);
    sim.block_on(async move {
        let store = MemoryRunStore::suspending();
        let (factory, core, _) = open_on(config(2), &drives, &store, &executor).await;
        let log_drives = core.log_drives();
        let (ended, end) = futures_channel::oneshot::channel();
        executor.spawn(async move {
            core.run().await;
            ended.send(()).unwrap();
        });
        let engine = factory.handle(store.clone(), executor.clone());
        put(&engine, b"a", b"1").await.unwrap();
        drives[1].1.vanish();
        let (answer, answered) = futures_channel::oneshot::channel();
        let stuck = engine.clone();
        executor.spawn(async move { answer.send(put(&stuck, b"b", b"2").await).unwrap() });
        executor.sleep(Duration::from_secs(60)).await;
        assert_eq!(put(&engine, b"c", b"3").await, Err(EngineError::ReadOnly), "the record waits");
        factory.stop();
        let ended = shardstore_reactor::timeout(&executor, Duration::from_secs(5), end).await;
        assert!(matches!(ended, Ok(Ok(()))), "the thread joins");
        assert_eq!(answered.await, Ok(Err(EngineError::CommitUnknown)));
        drop(log_drives);
        // What was acknowledged is there at the next start, on both drives.
        drives[1].1.come_back();
        let drives: Vec<_> = drives.iter().map(|(id, drive)| (*id, drive.reopen())).collect();
        let (_factory, engine, _drives) = start(config(2), &drives, &store, &executor).await;
        assert_eq!(get(&engine, b"a").await.as_deref(), Some(&b"1"[..]));
        assert_eq!(get(&engine, b"c").await, None);
    });
}
