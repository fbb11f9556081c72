//! The suite that every engine passes: what FoundationDB's semantics promise to a transaction.
//! Invariants: each case works under a key prefix of its own, so one engine can run all, and run them again; a case
//! fails by panicking with a sentence.
//! Not here: durability and faults (the model test of `embedded`). The FoundationDB run needs `FDB_CLUSTER_FILE`.

mod conflicts;
mod limits;
mod reads;
mod writes;

use bytes::Bytes;
use shardstore_reactor::Clock;

use super::traits::{Direction, Engine, Isolation, RangeRead, Row, Transaction, Versionstamp};

/// Runs every case against `engine`, whose time is `clock`'s. Takes about a minute of that time.
pub async fn run_all<E: Engine, C: Clock>(engine: &E, clock: &C) {
    let bench = |name: &'static str| Bench { engine, prefix: prefix_of(name) };
    conflicts::run(&bench).await;
    reads::run(&bench).await;
    writes::run(&bench).await;
    limits::run(&bench, clock).await;
}

/// The prefix byte keeps the suite apart from the keyspace.
fn prefix_of(name: &str) -> Vec<u8> {
    let mut prefix = vec![0xfe];
    prefix.extend_from_slice(name.as_bytes());
    prefix.push(0);
    prefix
}

/// One case's engine and its part of the keys.
struct Bench<'a, E> {
    engine: &'a E,
    prefix: Vec<u8>,
}

impl<E: Engine> Bench<'_, E> {
    fn key(&self, suffix: impl AsRef<[u8]>) -> Vec<u8> {
        [&self.prefix[..], suffix.as_ref()].concat()
    }

    fn begin(&self) -> E::Txn {
        self.engine.begin()
    }

    /// Commits rows, each a suffix and a value, after clearing what an earlier run left.
    async fn fill(&self, rows: &[(&str, &str)]) {
        let mut txn = self.begin();
        txn.clear_range(&self.key(""), &self.key([0xff]));
        for (suffix, value) in rows {
            txn.set(&self.key(suffix), value.as_bytes());
        }
        txn.commit().await.expect("filling conflicts with nothing");
    }

    async fn set(&self, suffix: &str, value: &str) {
        let mut txn = self.begin();
        txn.set(&self.key(suffix), value.as_bytes());
        txn.commit().await.expect("a blind write conflicts with nothing");
    }

    async fn get(&self, suffix: impl AsRef<[u8]>) -> Option<Bytes> {
        let txn = self.begin();
        txn.get(&self.key(suffix), Isolation::Snapshot).await.expect("a point read succeeds")
    }

    async fn add(&self, suffix: &str, delta: i64) -> Versionstamp {
        let mut txn = self.begin();
        txn.atomic_add(&self.key(suffix), delta);
        txn.commit().await.expect("an atomic add conflicts with nothing")
    }

    async fn sum(&self, suffix: &str) -> Option<i64> {
        let value = self.get(suffix).await?;
        Some(i64::from_le_bytes(value.as_ref().try_into().expect("a sum has eight bytes")))
    }

    fn span(&self, begin: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> RangeRead {
        RangeRead {
            begin: self.key(begin).into(),
            end: self.key(end).into(),
            limit: usize::MAX,
            direction: Direction::Forward,
            isolation: Isolation::Serializable,
        }
    }

    /// All rows of the case in a new transaction, as text.
    async fn rows(&self) -> Vec<(String, String)> {
        let txn = self.begin();
        self.text(txn.range(self.span("", [0xff])).await.expect("a range read succeeds"))
    }

    fn text(&self, rows: Vec<Row>) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        rows.iter().map(|row| (text(&row.key[self.prefix.len()..]), text(&row.value))).collect()
    }
}

fn pairs(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    rows.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::io::Write;

    /// Past the test runner's capture, so that nobody takes a green run for a run against FoundationDB.
    #[test]
    fn the_foundationdb_run_says_that_it_was_skipped() {
        let why = match std::env::var_os("FDB_CLUSTER_FILE") {
            None => "FDB_CLUSTER_FILE is not set",
            Some(_) => "this build has no FoundationDB engine",
        };
        writeln!(std::io::stderr(), "SKIPPED: conformance of the foundationdb engine: {why}").unwrap();
    }
}
