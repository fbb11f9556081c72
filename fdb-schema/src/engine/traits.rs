//! The engine trait: FoundationDB's semantics, whatever stands behind it.
//! Invariants: transactions are strictly serializable and optimistic; keys are ordered bytes; every engine enforces
//! the same limits, so what passes on one passes on all; reads see the transaction's own writes.
//! Not here: the keyspace (`keyspace`), what is stored (`object`, `bucket`, ...), retries (`retry`).
//! Source: FoundationDB 7.3 developer guide, "Transactions", "Known limitations".

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use shardstore_format::{DriveId, VolumeId};

/// Longest key in bytes.
pub const KEY_MAX_BYTES: usize = 10_000;
/// Longest value in bytes.
pub const VALUE_MAX_BYTES: usize = 100_000;
/// Largest transaction: keys and values written, plus keys of conflict ranges.
pub const TXN_MAX_BYTES: usize = 10_000_000;
/// A transaction older than this can neither read nor commit.
pub const TXN_MAX_AGE: Duration = Duration::from_secs(5);

/// Which end of a range comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Ascending keys.
    Forward,
    /// Descending keys.
    Reverse,
}

/// Whether a read can conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// The read joins the read conflict set.
    Serializable,
    /// The read sees the same snapshot, and never conflicts.
    Snapshot,
}

/// A half-open range of keys to read, at most `limit` rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeRead {
    /// First key inside.
    pub begin: Bytes,
    /// First key outside.
    pub end: Bytes,
    /// The most rows to return; at least 1.
    pub limit: usize,
    /// Which end first.
    pub direction: Direction,
    /// Whether it joins the read conflict set.
    pub isolation: Isolation,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
}

/// Why a read or a commit failed, by what the caller must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineError {
    /// Another transaction wrote what this one read: run it again.
    Conflict,
    /// The transaction is older than [`TXN_MAX_AGE`]: run it again, in smaller steps.
    TooOld,
    /// A key, value or transaction is over its limit: a bug or a request too large; never retried.
    TooLarge,
    /// The commit may or may not have happened: the `done` row says which (retry does that).
    CommitUnknown,
    /// The memtable is full or commits are paced: answer `SlowDown`.
    Overloaded,
    /// Too few healthy drives for the log: writes are refused, reads go on.
    ReadOnly,
    /// Stored metadata is damaged beyond its redundancy: the sentence says what and where.
    Damaged(String),
    /// The engine is shutting down or was fenced.
    Stopped,
}

impl std::fmt::Display for EngineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            EngineError::Conflict => f.write_str("the transaction conflicted with another"),
            EngineError::TooOld => f.write_str("the transaction is older than 5 s"),
            EngineError::TooLarge => f.write_str("a key, a value or the transaction is over its limit"),
            EngineError::CommitUnknown => f.write_str("the commit's outcome is unknown"),
            EngineError::Overloaded => f.write_str("metadata commits are at their limit"),
            EngineError::ReadOnly => f.write_str("too few healthy drives to log metadata"),
            EngineError::Damaged(what) => write!(f, "metadata is damaged: {what}"),
            EngineError::Stopped => f.write_str("the metadata engine has stopped"),
        }
    }
}

impl std::error::Error for EngineError {}

/// Commit number and place in the batch; ordered, unique; 10 bytes big-endian inside keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Versionstamp(pub [u8; 10]);

/// One core's handle to the metadata. Cheap to clone; not shared between threads.
pub trait Engine: Clone + 'static {
    /// Its transactions.
    type Txn: Transaction;
    /// Begins a transaction at the newest committed snapshot.
    fn begin(&self) -> Self::Txn;
    /// Begins a transaction at the newest committed snapshot that only reads and may do so for longer than
    /// [`TXN_MAX_AGE`]: a commit with writes is [`EngineError::TooOld`]. While it lives it keeps what its snapshot
    /// needs, so there are few. An engine that keeps no snapshot for longer gives an ordinary transaction.
    fn begin_long(&self) -> Self::Txn {
        self.begin()
    }
    /// Says that a shard of a run that holds rows of this engine lies on another drive from now on, durably. False: no
    /// such run has that shard on `moved.from`; an engine that keeps no runs always says so.
    fn move_run_shard(&self, moved: ShardMove) -> impl Future<Output = Result<bool, EngineError>> {
        tracing::debug!(volume = moved.volume.0, "this engine keeps no runs in volumes");
        std::future::ready(Ok(false))
    }
}

/// A shard of a volume that was made anew on another drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardMove {
    /// The volume.
    pub volume: VolumeId,
    /// Which shard.
    pub shard: u8,
    /// Where it lies by the record.
    pub from: DriveId,
    /// Where it lies now.
    pub to: DriveId,
}

/// One transaction. Writes are buffered until [`Transaction::commit`].
pub trait Transaction: 'static {
    /// The value of one key.
    fn get(
        &self,
        key: &[u8],
        isolation: Isolation,
    ) -> impl Future<Output = Result<Option<Bytes>, EngineError>>;
    /// Rows of a range, own writes included.
    fn range(&self, read: RangeRead) -> impl Future<Output = Result<Vec<Row>, EngineError>>;
    /// Sets a key.
    fn set(&mut self, key: &[u8], value: &[u8]);
    /// Removes a key.
    fn clear(&mut self, key: &[u8]);
    /// Removes every key of `[begin, end)`.
    fn clear_range(&mut self, begin: &[u8], end: &[u8]);
    /// Adds to a little-endian integer of 8 bytes, absent counting as 0, wrapping; never conflicts.
    fn atomic_add(&mut self, key: &[u8], delta: i64);
    /// Sets a key whose 10 bytes from `stamp_offset` become the commit's versionstamp.
    fn set_versionstamped_key(&mut self, key: &[u8], stamp_offset: usize, value: &[u8]);
    /// Sets a value whose 10 bytes from `stamp_offset` become the commit's versionstamp.
    fn set_versionstamped_value(&mut self, key: &[u8], value: &[u8], stamp_offset: usize);
    /// Adds `[begin, end)` to the read conflict set without reading it.
    fn add_read_conflict(&mut self, begin: &[u8], end: &[u8]);
    /// Adds `[begin, end)` to the write conflict set without writing it.
    fn add_write_conflict(&mut self, begin: &[u8], end: &[u8]);
    /// Commits; a transaction without writes always succeeds.
    fn commit(self) -> impl Future<Output = Result<Versionstamp, EngineError>>;
}
