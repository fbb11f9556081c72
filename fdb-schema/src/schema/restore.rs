//! Rows out of one metadata and into another, whatever they hold: for a dump.
//! Invariants: an empty metadata is one in which nothing was ever stored, rows of start-up aside; while a restore is
//! under way a row says so, and only the same dump goes on with it; the volume counter never goes back.
//! Not here: the dump's file (`server`), which segment files are there.

use std::time::Duration;

use bytes::Bytes;
use shardstore_format::{VolumeId, VolumeRecord};
use shardstore_reactor::Executor;

use super::audit::Audit;
use super::data::decode_volume;
use super::error::Failure;
use super::keyspace::{self, Counter, KeyRange, Prefix};
use super::record::decode_counter;
use super::retry::{Metadata, rows};
use crate::{Engine, EngineError, Isolation, Row, Transaction};

/// The row of a restore under way: the identity of its dump.
const MARK: &[u8] = b"restore";
/// Bytes of one transaction: far below the limit, and a record or so of the log.
const TXN_BYTES: usize = 1024 * 1024;
/// Wait before rows that the engine is too busy for are tried again.
const BUSY_WAIT: Duration = Duration::from_millis(10);

/// What lies in a metadata that is to be restored into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreTarget {
    /// Nothing was ever stored.
    Empty,
    /// The restore of this dump was cut off.
    CutOff([u8; 16]),
    /// Rows that it would overwrite.
    InUse,
}

/// The record in a volume's row; `None` if the row is another's or cannot be decoded.
pub fn volume_of_row(row: &Row) -> Option<VolumeRecord> {
    let is_volume = row.key.first() == Some(&(Prefix::Volume as u8));
    if is_volume { decode_volume(&row.value).ok() } else { None }
}

impl<E: Engine> Audit<E> {
    /// Up to `limit` rows of every kind from the row key `begin` on, and where to go on.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn all_rows(&self, begin: &Bytes, limit: usize) -> Result<(Vec<Row>, Option<Bytes>), Failure> {
        let everything = [KeyRange { begin: vec![0], end: vec![0xff] }];
        self.walk(&everything, begin, limit).await
    }
}

impl<E: Engine, X: Executor> Metadata<E, X> {
    /// Whether a restore was cut off: then half of the rows are missing, and nothing may be served.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn is_restore_cut_off(&self) -> Result<bool, Failure> {
        let mark = keyspace::upkeep(MARK);
        self.read(async |txn| Ok(txn.get(&mark, Isolation::Snapshot).await?.is_some())).await
    }
}

/// Writes the rows of a dump into an engine that nothing else uses.
pub struct Restore<E: Engine, X: Executor> {
    engine: E,
    executor: X,
}

impl<E: Engine, X: Executor> Restore<E, X> {
    /// Into this engine.
    pub fn new(engine: E, executor: X) -> Restore<E, X> {
        Restore { engine, executor }
    }

    /// What lies there now.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn target(&self) -> Result<RestoreTarget, Failure> {
        let txn = self.engine.begin();
        let mark = txn.get(&keyspace::upkeep(MARK), Isolation::Snapshot).await?;
        if let Some(dump) = mark.and_then(|mark| mark.as_ref().try_into().ok()) {
            return Ok(RestoreTarget::CutOff(dump));
        }
        // Numbers, credentials and members are what every start writes.
        let stored = keyspace::of_kinds(Prefix::Bucket, Prefix::Owner);
        for range in [stored, keyspace::all_access_keys()] {
            if !rows(&txn, &range, 1, Isolation::Snapshot).await?.is_empty() {
                return Ok(RestoreTarget::InUse);
            }
        }
        Ok(RestoreTarget::Empty)
    }

    /// Begins: says which dump is restored, and that volume ids below `next_volume` are taken, so that the engine's own
    /// runs get others.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn begin(&self, dump: [u8; 16], next_volume: VolumeId) -> Result<(), Failure> {
        let counter = keyspace::counter(Counter::Volume);
        loop {
            let mut txn = self.engine.begin();
            let taken = txn.get(&counter, Isolation::Serializable).await?;
            let next = decode_counter("counter", taken.as_ref())?.max(next_volume.0);
            txn.set(&counter, &next.to_le_bytes());
            txn.set(&keyspace::upkeep(MARK), &dump);
            match txn.commit().await {
                Err(EngineError::Conflict | EngineError::Overloaded) => self.executor.sleep(BUSY_WAIT).await,
                done => return Ok(done.map(drop)?),
            }
        }
    }

    /// Writes rows; the volume counter and the members stay as they are here.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn put(&self, rows: &[Row]) -> Result<(), Failure> {
        let own = [keyspace::counter(Counter::Volume), keyspace::members(), keyspace::upkeep(MARK)];
        let mut left: Vec<&Row> = rows.iter().filter(|row| !own.iter().any(|key| row.key == key)).collect();
        left.reverse();
        while !left.is_empty() {
            let (mut group, mut bytes) = (Vec::new(), 0);
            while let Some(row) = left.pop() {
                bytes += row.key.len() + row.value.len();
                group.push(row);
                if bytes >= TXN_BYTES {
                    break;
                }
            }
            self.write(&group).await?;
        }
        Ok(())
    }

    async fn write(&self, group: &[&Row]) -> Result<(), Failure> {
        loop {
            let mut txn = self.engine.begin();
            group.iter().for_each(|row| txn.set(&row.key, &row.value));
            match txn.commit().await {
                Err(EngineError::Conflict | EngineError::Overloaded) => self.executor.sleep(BUSY_WAIT).await,
                done => return Ok(done.map(drop)?),
            }
        }
    }

    /// Ends: everything is there.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn finish(&self) -> Result<(), Failure> {
        loop {
            let mut txn = self.engine.begin();
            txn.clear(&keyspace::upkeep(MARK));
            match txn.commit().await {
                Err(EngineError::Conflict | EngineError::Overloaded) => self.executor.sleep(BUSY_WAIT).await,
                done => return Ok(done.map(drop)?),
            }
        }
    }
}
