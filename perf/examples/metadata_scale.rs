//! The metadata engine with very many keys on a real directory: load, memory, amplification, reads, start-up.
//!
//! Invariants: rows of 100 to 160 bytes in random order, as many small objects would bring; runs, log and page cache are
//! those of the server; everything is durable; a second core opens what the first one wrote.
//! Usage: `cargo run --release -p perf --example metadata_scale -- DIRECTORY ROWS [CACHE_MIB]`.
//! Not here: correctness (the tests of `fdb-schema`), the comparison with other engines (`metadata`).
#![allow(clippy::print_stdout, reason = "a command-line tool")]
#![allow(clippy::cast_precision_loss, reason = "figures of a report")]

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fdb_schema::engine::embedded::{
    Embedded, EmbeddedConfig, EmbeddedFactory, EmbeddedStats, block_reads_of_thread, open,
};
use fdb_schema::schema::volume_counter_key;
use fdb_schema::{Direction, Engine, EngineError, Isolation, RangeRead, Transaction};
use futures_util::future::join_all;
use server::ops::MetadataRuns;
use shardstore::{Media, PoolOptions, StoreOptions, StoreShared, open_pool};
use shardstore_reactor::{
    BufPool, Clock, CoreConfig, CoreExecutor, Executor, RealDrive, RealDriveFactory, spawn_core,
};

/// Rows of one commit while loading, and commits under way.
const COMMIT_ROWS: u64 = 256;
const LOADERS: u64 = 16;
const POINT_READS: u64 = 100_000;
const MIB: u64 = 1 << 20;

type Handle = Embedded<MetadataRuns<RealDrive, CoreExecutor>, CoreExecutor>;

#[derive(Clone)]
struct Setup {
    directory: PathBuf,
    rows: u64,
    cache_bytes: u64,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: metadata_scale DIRECTORY ROWS [CACHE_MIB]";
    let directory = PathBuf::from(arguments.next().expect(usage));
    let rows = arguments.next().expect(usage).parse().expect("a number of rows");
    let cache_mib: u64 = arguments.next().map_or(256, |text| text.parse().expect("a number of MiB"));
    let setup = Setup { directory, rows, cache_bytes: cache_mib * MIB };
    std::fs::create_dir_all(&setup.directory).expect("the directory");
    println!("{rows} rows; page cache {cache_mib} MiB");
    on_core(&setup, async |setup, handle, factory, executor| {
        load(&setup, &handle, &executor).await;
        settle(&factory, &executor).await;
        report_amplification(&setup, &factory.stats());
        read(&setup, &handle).await;
    });
    on_core(&setup, async |setup, handle, _, _| read(&setup, &handle).await);
}

/// Opens the engine on a core of its own, as a start of the process does, and runs `work` there.
fn on_core(setup: &Setup, work: impl AsyncFn(Setup, Handle, EmbeddedFactory, CoreExecutor) + Send + 'static) {
    let setup = setup.clone();
    let drive = RealDriveFactory::open(&setup.directory).expect("a drive");
    let core = spawn_core(CoreConfig::new(None, "metadata"), move |executor| async move {
        let begin = now();
        let drives = vec![drive.on_core()];
        let pool = open_pool(drives, PoolOptions::default(), &executor).await.expect("a pool");
        let bufs = BufPool::new(usize::try_from(setup.cache_bytes + 1024 * MIB).expect("64 bits"));
        let shared = StoreShared::new(&pool, StoreOptions::new(bufs.clone(), setup.cache_bytes, 1));
        let media = Media::new(Arc::clone(&shared), &pool, executor.clone(), 0);
        let runs = MetadataRuns::new(media);
        let members: Vec<_> =
            pool.members().iter().filter_map(|member| Some((member.id, member.drive.clone()?))).collect();
        let config = EmbeddedConfig::new(1, volume_counter_key());
        let opened = open(config, members, pool.id(), runs.clone(), executor.clone(), bufs).await;
        let (factory, commits, report) = opened.expect("the engine opens");
        println!(
            "opened in {:.3} s: {} runs, {:.1} MiB replayed, {:.1} MiB of memory for runs, RSS {:.0} MiB",
            begin.elapsed().as_secs_f64(),
            report.run_volumes.len(),
            mib(report.replayed_bytes),
            mib(factory.stats().run_memory_bytes as u64),
            rss_mib()
        );
        executor.spawn(commits.run());
        let handle = factory.handle(runs, executor.clone());
        let value = handle.begin().get(&key(0), Isolation::Snapshot).await.expect("a read");
        println!("first read after {:.3} s ({})", begin.elapsed().as_secs_f64(), value.is_some());
        work(setup, handle, factory.clone(), executor).await;
        factory.stop();
    });
    core.expect("a core").join();
}

/// A key of 50 to 60 bytes whose order has nothing to do with `n`.
fn key(n: u64) -> Vec<u8> {
    let scattered = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("\u{11}bucket01dataset-{:04x}/sample-{scattered:016x}.bin", scattered >> 48).into_bytes()
}

fn value(n: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(n);
    (0..50 + n % 50).map(|_| rng.u8(..)).collect()
}

async fn load(setup: &Setup, handle: &Handle, executor: &CoreExecutor) {
    let (begin, next, refused) = (now(), Rc::new(Cell::new(0_u64)), Rc::new(Cell::new(0_u64)));
    let (rows, last_said) = (setup.rows, Rc::new(Cell::new(0_u64)));
    let loaders = (0..LOADERS).map(|_| {
        let (handle, next, refused) = (handle.clone(), Rc::clone(&next), Rc::clone(&refused));
        let last_said = Rc::clone(&last_said);
        async move {
            loop {
                let first = next.get();
                if first >= rows {
                    return;
                }
                next.set(first + COMMIT_ROWS);
                loop {
                    let mut txn = handle.begin();
                    for n in first..(first + COMMIT_ROWS).min(rows) {
                        txn.set(&key(n), &value(n));
                    }
                    match txn.commit().await {
                        Ok(_) => break,
                        Err(EngineError::Overloaded) => {
                            refused.set(refused.get() + 1);
                            executor.sleep(Duration::from_millis(5)).await;
                        }
                        Err(error) => panic!("loading failed: {error}"),
                    }
                }
                if first / 10_000_000 > last_said.get() {
                    last_said.set(first / 10_000_000);
                    println!("  {first} rows after {:.0} s", begin.elapsed().as_secs_f64());
                }
            }
        }
    });
    join_all(loaders).await;
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "loaded in {seconds:.0} s: {:.0} rows/s, {} commits refused",
        rows as f64 / seconds,
        refused.get()
    );
}

/// Until nothing is left to flush or merge.
async fn settle(factory: &EmbeddedFactory, executor: &CoreExecutor) {
    let (begin, work) =
        (now(), |stats: EmbeddedStats| (stats.flushes, stats.compactions, stats.runs_removed));
    let mut before = factory.stats();
    loop {
        executor.sleep(Duration::from_secs(3)).await;
        let after = factory.stats();
        if work(after) == work(before) {
            println!("merging settled after {:.0} s", begin.elapsed().as_secs_f64());
            return;
        }
        before = after;
    }
}

fn report_amplification(setup: &Setup, stats: &EmbeddedStats) {
    let live_bytes: u64 =
        (0..1_000).map(|n| (key(n).len() + value(n).len()) as u64).sum::<u64>() * setup.rows / 1_000;
    let written = stats.flushed_bytes + stats.compacted_bytes;
    let on_disk = directory_bytes(&setup.directory.join("segments"));
    println!(
        "{} runs, {} not merged; rows {:.0} MiB; log {:.2} x, runs written {:.2} x, on disk {:.2} x of that",
        stats.runs,
        stats.level0_runs,
        mib(live_bytes),
        stats.record_bytes as f64 / live_bytes as f64,
        written as f64 / live_bytes as f64,
        on_disk as f64 / live_bytes as f64,
    );
    println!(
        "memory: runs {:.1} MiB ({:.2} bytes a row), memtables {:.1} MiB, RSS {:.0} MiB",
        mib(stats.run_memory_bytes as u64),
        stats.run_memory_bytes as f64 / setup.rows as f64,
        mib(stats.memtable_bytes as u64),
        rss_mib()
    );
}

async fn read(setup: &Setup, handle: &Handle) {
    let mut rng = fastrand::Rng::with_seed(3);
    let (mut micros, blocks) = (Vec::new(), block_reads_of_thread());
    for _ in 0..POINT_READS {
        let key = key(rng.u64(..setup.rows));
        let begin = now();
        let found = handle.begin().get(&key, Isolation::Snapshot).await.expect("a read");
        assert!(found.is_some());
        micros.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    let blocks = (block_reads_of_thread() - blocks) as f64 / POINT_READS as f64;
    micros.sort_unstable_by(f64::total_cmp);
    let at = |per_mille: usize| micros[(micros.len() - 1) * per_mille / 1000];
    println!(
        "random point reads: p50 {:.1} us, p99 {:.1}, worst {:.0}; {blocks:.3} blocks each",
        at(500),
        at(990),
        at(1000)
    );
    let begin = now();
    let mut scanned = 0;
    for _ in 0..200 {
        let read = RangeRead {
            begin: key(rng.u64(..setup.rows)).into(),
            end: Bytes::from_static(b"\x12"),
            limit: 1_000,
            direction: Direction::Forward,
            isolation: Isolation::Snapshot,
        };
        scanned += handle.begin().range(read).await.expect("a scan").len();
    }
    println!("scans of 1,000 rows: {:.0} rows/s", scanned as f64 / begin.elapsed().as_secs_f64());
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}

fn rss_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    let kib: u64 = line.split_whitespace().nth(1).and_then(|field| field.parse().ok()).unwrap_or(0);
    kib as f64 / 1024.0
}

fn directory_bytes(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).sum()
}

/// The time that benchmarks measure by.
#[allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}
