//! The keyspace and its transactions: what the rows are, and every way they change.
//! Invariants: each operation is one transaction, written once for all engines; every decode checks.
//! Not here: engines (`engine`), what moves bytes (`shardstore`).

mod value;

pub use value::{ChecksumAlgorithm, ChecksumKind, ETag, Header, StoredChecksum};
