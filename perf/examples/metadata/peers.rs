//! The same work on redb and fjall, each with its own way to be durable.

use std::path::Path;
use std::time::Duration;

use fjall::{KeyspaceCreateOptions, PersistMode};
use redb::{Database, Durability, ReadableDatabase, TableDefinition};

use crate::{
    CLIENTS, COMMIT_ROWS, POINT_READS, ROWS, SCAN_ROWS, SCANS, Setup, Times, VALUE_BYTES, cpu_us, key, now,
    report_cpu, report_rate, shuffled, value,
};

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
const CACHE_BYTES: usize = 2 << 30;
/// Rows a commit while loading.
const LOAD_ROWS: usize = 10_000;

/// Durable commits one after the other: `rows_each` rows at a time for `time`.
fn commit_for(
    engine: &str,
    what: &str,
    time: Duration,
    rows_each: usize,
    mut commit: impl FnMut(&[Vec<u8>]),
) {
    let mut rng = fastrand::Rng::with_seed(3);
    let mut times = Times::default();
    let begin = now();
    while begin.elapsed() < time {
        let keys: Vec<Vec<u8>> = (0..rows_each).map(|_| key(rng.u32(..ROWS))).collect();
        let start = now();
        commit(&keys);
        times.note(start.elapsed());
    }
    let commits = (times.nanos.len() * rows_each / COMMIT_ROWS) as u64;
    report_rate(engine, what, commits, begin.elapsed());
    times.report(engine, "latency");
}

fn fresh(directory: &Path) {
    if directory.exists() {
        std::fs::remove_dir_all(directory).expect("what an earlier run left is removed");
    }
    std::fs::create_dir_all(directory).expect("a directory");
}

pub(crate) fn redb(setup: &Setup) {
    const NAME: &str = "redb";
    let directory = setup.directory.join(NAME);
    fresh(&directory);
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    let db = builder.create(directory.join("db")).expect("a database");
    let begin = now();
    for group in shuffled().chunks(LOAD_ROWS) {
        let mut txn = db.begin_write().expect("a transaction");
        txn.set_durability(Durability::None).expect("no reader needs more");
        {
            let mut table = txn.open_table(TABLE).expect("a table");
            for &n in group {
                table.insert(key(n).as_slice(), value(n).as_slice()).expect("a row");
            }
        }
        txn.commit().expect("a commit");
    }
    report_rate(NAME, "rows loaded in random order", u64::from(ROWS), begin.elapsed());

    let mut rng = fastrand::Rng::with_seed(1);
    let mut times = Times::default();
    let cpu = cpu_us();
    for _ in 0..POINT_READS {
        let key = key(rng.u32(..ROWS));
        let start = now();
        let txn = db.begin_read().expect("a snapshot");
        let table = txn.open_table(TABLE).expect("a table");
        let found = table.get(key.as_slice()).expect("a read").expect("a row");
        assert_eq!(found.value().to_vec().len(), VALUE_BYTES);
        times.note(start.elapsed());
    }
    report_cpu(NAME, "point read", cpu_us() - cpu, POINT_READS);
    times.report(NAME, "point read");

    let mut times = Times::default();
    let cpu = cpu_us();
    for _ in 0..SCANS {
        let from = key(rng.u32(..ROWS - 2_000));
        let start = now();
        let txn = db.begin_read().expect("a snapshot");
        let table = txn.open_table(TABLE).expect("a table");
        let rows = table.range(from.as_slice()..).expect("a range").take(SCAN_ROWS);
        let rows: Vec<(Vec<u8>, Vec<u8>)> = rows
            .map(|row| {
                let (key, value) = row.expect("a row");
                (key.value().to_vec(), value.value().to_vec())
            })
            .collect();
        times.note(start.elapsed());
        assert_eq!(rows.len(), SCAN_ROWS);
    }
    report_cpu(NAME, "scan of 1,000 keys", cpu_us() - cpu, SCANS);
    times.report(NAME, "scan of 1,000 keys");

    let commit = |keys: &[Vec<u8>]| {
        let txn = db.begin_write().expect("a transaction");
        {
            let mut table = txn.open_table(TABLE).expect("a table");
            for key in keys {
                table.insert(key.as_slice(), [0x5a; VALUE_BYTES].as_slice()).expect("a row");
            }
        }
        txn.commit().expect("a commit");
    };
    commit_for(NAME, "durable commits, one by one", setup.commit_time / 2, COMMIT_ROWS, commit);
    let together = COMMIT_ROWS * CLIENTS;
    commit_for(NAME, "durable commits, 64 joined by hand", setup.commit_time / 2, together, commit);
    drop(db);
    std::fs::remove_dir_all(&directory).expect("the database is removed");
}

pub(crate) fn fjall(setup: &Setup) {
    const NAME: &str = "fjall";
    let directory = setup.directory.join(NAME);
    fresh(&directory);
    let builder = fjall::Database::builder(&directory).cache_size(CACHE_BYTES as u64);
    let db = builder.open().expect("a database");
    let rows = db.keyspace("rows", KeyspaceCreateOptions::default).expect("a keyspace");
    let begin = now();
    for n in shuffled() {
        rows.insert(key(n), value(n)).expect("a row");
    }
    rows.rotate_memtable_and_wait().expect("a flush");
    report_rate(NAME, "rows loaded in random order", u64::from(ROWS), begin.elapsed());
    rows.major_compact().expect("merged");

    let mut rng = fastrand::Rng::with_seed(1);
    let mut times = Times::default();
    let cpu = cpu_us();
    for _ in 0..POINT_READS {
        let key = key(rng.u32(..ROWS));
        let start = now();
        let found = rows.get(&key).expect("a read").expect("a row");
        times.note(start.elapsed());
        assert_eq!(found.len(), VALUE_BYTES);
    }
    report_cpu(NAME, "point read", cpu_us() - cpu, POINT_READS);
    times.report(NAME, "point read");

    let mut times = Times::default();
    let cpu = cpu_us();
    for _ in 0..SCANS {
        let from = key(rng.u32(..ROWS - 2_000));
        let start = now();
        let found: Vec<_> =
            rows.range(from..).take(SCAN_ROWS).map(|row| row.into_inner().expect("a row")).collect();
        times.note(start.elapsed());
        assert_eq!(found.len(), SCAN_ROWS);
    }
    report_cpu(NAME, "scan of 1,000 keys", cpu_us() - cpu, SCANS);
    times.report(NAME, "scan of 1,000 keys");

    let commit = |keys: &[Vec<u8>]| {
        let mut batch = db.batch();
        for key in keys {
            batch.insert(&rows, key.as_slice(), [0x5a; VALUE_BYTES].as_slice());
        }
        batch.commit().expect("a commit");
        db.persist(PersistMode::SyncAll).expect("durable");
    };
    commit_for(NAME, "durable commits, one by one", setup.commit_time / 2, COMMIT_ROWS, commit);
    let together = COMMIT_ROWS * CLIENTS;
    commit_for(NAME, "durable commits, 64 joined by hand", setup.commit_time / 2, together, commit);
    drop(rows);
    drop(db);
    std::fs::remove_dir_all(&directory).expect("the database is removed");
}
