//! The embedded engine over a log on a real drive.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use fdb_schema::engine::embedded::testing::MemoryRunStore;
use fdb_schema::engine::embedded::{Embedded, EmbeddedConfig, EmbeddedFactory, block_reads_of_thread, open};
use fdb_schema::{Direction, Engine, EngineError, Isolation, RangeRead, Transaction};
use futures_util::future::join_all;
use shardstore_format::{DriveId, PoolId};
use shardstore_reactor::{
    BufPool, Clock, CoreConfig, CoreExecutor, Executor, RealDrive, RealDriveFactory, spawn_core,
};

use crate::{
    CLIENTS, COMMIT_ROWS, POINT_READS, ROWS, SCAN_ROWS, SCANS, Setup, Times, cpu_us, key, now, report_cpu,
    report_rate, shuffled, value,
};

const NAME: &str = "embedded";
/// Rows a commit while loading.
const LOAD_ROWS: usize = 200;

type Handle = Embedded<MemoryRunStore, CoreExecutor>;

pub(crate) fn run(setup: &Setup) {
    let directory = setup.directory.join("embedded");
    std::fs::create_dir_all(&directory).expect("a directory for the log");
    let drive = RealDriveFactory::open(&directory).expect("a drive");
    let commit_time = setup.commit_time;
    let core = spawn_core(CoreConfig::new(setup.cpu, "metadata"), move |executor| {
        measure(drive.on_core(), executor, commit_time)
    });
    core.expect("a core").join();
    std::fs::remove_dir_all(&directory).expect("the log is removed");
}

async fn measure(drive: RealDrive, executor: CoreExecutor, commit_time: Duration) {
    let store = MemoryRunStore::new();
    let config = EmbeddedConfig::new(1, b"volumes".to_vec());
    let drives = vec![(DriveId(1), drive)];
    let buf_pool = BufPool::new(256 << 20);
    let opened = open(config, drives, PoolId(1), store.clone(), executor.clone(), buf_pool).await;
    let (factory, core, report) = opened.expect("a fresh engine");
    assert!(report.writable);
    executor.spawn(core.run());
    let engine = factory.handle(store, executor.clone());

    load(&engine, &executor).await;
    settle(&factory, &executor).await;
    println!("{NAME:8} loaded: {:?}", factory.stats());
    read_points(&engine, "point read").await;
    scan(&engine, "scan of 1,000 keys").await;
    list_prefixes(&engine, &factory).await;
    commit(&engine, &executor, &factory, commit_time).await;
    read_points(&engine, "point read right after the commits").await;
    scan(&engine, "scan right after the commits").await;
    factory.stop();
}

async fn load(engine: &Handle, executor: &CoreExecutor) {
    let begin = now();
    for group in shuffled().chunks(LOAD_ROWS) {
        loop {
            let mut txn = engine.begin();
            for &n in group {
                txn.set(&key(n), &value(n));
            }
            match txn.commit().await {
                Ok(_) => break,
                Err(EngineError::Overloaded) => executor.sleep(Duration::from_millis(5)).await,
                Err(error) => panic!("loading failed: {error}"),
            }
        }
    }
    report_rate(NAME, "rows loaded in random order", u64::from(ROWS), begin.elapsed());
}

/// Until nothing is left to flush or merge.
async fn settle(factory: &EmbeddedFactory, executor: &CoreExecutor) {
    let mut before = factory.stats();
    loop {
        executor.sleep(Duration::from_secs(3)).await;
        let now = factory.stats();
        if (now.flushes, now.compactions, now.runs_removed)
            == (before.flushes, before.compactions, before.runs_removed)
        {
            return;
        }
        before = now;
    }
}

async fn read_points(engine: &Handle, what: &str) {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut times = Times::default();
    let keys: Vec<Vec<u8>> = (0..POINT_READS).map(|_| key(rng.u32(..ROWS))).collect();
    let blocks = block_reads_of_thread();
    let cpu = cpu_us();
    for key in &keys {
        let begin = now();
        let found = engine.begin().get(key, Isolation::Serializable).await.expect("a read");
        assert!(found.is_some());
        times.note(begin.elapsed());
    }
    let cpu = cpu_us() - cpu;
    let blocks = (block_reads_of_thread() - blocks) as f64 / POINT_READS as f64;
    times.report(NAME, what);
    report_cpu(NAME, what, cpu, POINT_READS);
    println!("{NAME:8} {what:34} {blocks:.2} blocks each");
}

async fn scan(engine: &Handle, what: &str) {
    let mut rng = fastrand::Rng::with_seed(2);
    let mut times = Times::default();
    let cpu = cpu_us();
    for _ in 0..SCANS {
        let n = rng.u32(..ROWS - 2_000);
        let read = RangeRead {
            begin: key(n).into(),
            end: Bytes::from_static(b"\xfe"),
            limit: SCAN_ROWS,
            direction: Direction::Forward,
            isolation: Isolation::Snapshot,
        };
        let begin = now();
        let rows = engine.begin().range(read).await.expect("a scan");
        times.note(begin.elapsed());
        assert_eq!(rows.len(), SCAN_ROWS);
    }
    report_cpu(NAME, what, cpu_us() - cpu, SCANS);
    times.report(NAME, what);
}

/// LIST with a delimiter over a thousand directories of a thousand keys: one seek each.
async fn list_prefixes(engine: &Handle, factory: &EmbeddedFactory) {
    let blocks = block_reads_of_thread();
    let begin = now();
    let mut at = key(0);
    let mut found = 0_u32;
    loop {
        let read = RangeRead {
            begin: at.into(),
            end: Bytes::from_static(b"\xfe"),
            limit: 1,
            direction: Direction::Forward,
            isolation: Isolation::Snapshot,
        };
        let rows = engine.begin().range(read).await.expect("a seek");
        let Some(row) = rows.first().filter(|row| row.key.starts_with(b"\x02")) else { break };
        found += 1;
        let slash = row.key.iter().rposition(|&byte| byte == b'/').expect("a directory");
        at = row.key[..slash].to_vec();
        at.push(b'/' + 1);
    }
    let blocks = block_reads_of_thread() - blocks;
    println!(
        "{NAME:8} {found} common prefixes of 1,000 keys each: {blocks} block reads, {:.1} ms, {} runs",
        begin.elapsed().as_secs_f64() * 1e3,
        factory.stats().runs
    );
}

async fn commit(engine: &Handle, executor: &CoreExecutor, factory: &EmbeddedFactory, time: Duration) {
    let before = factory.stats();
    let (begin, cpu) = (now(), cpu_us());
    let times = Rc::new(RefCell::new(Times::default()));
    let refused = Rc::new(RefCell::new(0_u64));
    let clients = (0..CLIENTS).map(|client| {
        let (engine, times, refused) = (engine.clone(), Rc::clone(&times), Rc::clone(&refused));
        async move {
            let mut rng = fastrand::Rng::with_seed(client as u64);
            while begin.elapsed() < time {
                let start = now();
                let mut txn = engine.begin();
                for _ in 0..COMMIT_ROWS {
                    let n = rng.u32(..ROWS);
                    txn.set(&key(n), &[0x5a; crate::VALUE_BYTES]);
                }
                match txn.commit().await {
                    Ok(_) => times.borrow_mut().note(start.elapsed()),
                    Err(EngineError::Overloaded) => {
                        *refused.borrow_mut() += 1;
                        executor.sleep(Duration::from_millis(1)).await;
                    }
                    Err(error) => panic!("a commit failed: {error}"),
                }
            }
        }
    });
    join_all(clients).await;
    let elapsed = begin.elapsed();
    let after = factory.stats();
    let mut times = times.borrow_mut();
    report_cpu(NAME, "durable commits of 5 rows", cpu_us() - cpu, times.nanos.len());
    report_rate(NAME, "durable commits of 5 rows", times.nanos.len() as u64, elapsed);
    times.report(NAME, "commit latency");
    let slow = times.nanos.iter().filter(|&&nanos| nanos > 20_000_000).count();
    println!(
        "{NAME:8} {slow} commits over 20 ms, {} refused; {:.1} commits a record; {} flushes, {} compactions, {} MB merged",
        refused.borrow(),
        (after.commits - before.commits) as f64 / (after.records - before.records).max(1) as f64,
        after.flushes - before.flushes,
        after.compactions - before.compactions,
        (after.compacted_bytes - before.compacted_bytes) / 1_000_000
    );
    println!("{NAME:8} after the commits: {after:?}");
}
