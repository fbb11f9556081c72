//! The transaction that all engines share: a snapshot of the engine under a buffer of own writes.
//! Invariants: reads see own writes, snapshot reads too; what own writes alone decide never joins the read conflict
//! set; a range read conflicts only on the part that it returned; limits are those of `traits`.
//! Not here: where a snapshot's rows come from and how a commit is decided ([`Snapshot`], one per engine).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;

use bytes::Bytes;

use super::read_set::ReadSet;
use super::traits::{
    Direction, EngineError, Isolation, KEY_MAX_BYTES, RangeRead, Row, TXN_MAX_BYTES, Transaction,
    Versionstamp,
};
use super::write_set::{Pending, Write, WriteSet, add_to, is_range_key, successor};

/// Rows asked of the snapshot at a time when own writes may hide some of them.
const MERGE_ROWS_MIN: usize = 128;

/// What an engine gives a transaction: the rows of one moment, and a way to commit against them.
pub trait Snapshot: 'static {
    /// The commit number up to which this snapshot sees.
    fn read_version(&self) -> u64;
    /// [`EngineError::TooOld`] once the transaction has lasted too long.
    ///
    /// # Errors
    /// As said, and [`EngineError::Stopped`].
    fn check_age(&self) -> Result<(), EngineError>;
    /// The value of one key.
    fn get(&self, key: &[u8]) -> impl Future<Output = Result<Option<Bytes>, EngineError>>;
    /// Rows of `[begin, end)`, at most `limit`; fewer mean that there are no more.
    fn rows(
        &self,
        begin: &Bytes,
        end: &Bytes,
        limit: usize,
        direction: Direction,
    ) -> impl Future<Output = Result<Vec<Row>, EngineError>>;
    /// Commits writes that are not empty and, with `reads`, within every limit.
    fn commit(
        self,
        writes: WriteSet,
        reads: ReadSet,
    ) -> impl Future<Output = Result<Versionstamp, EngineError>>;
}

/// A transaction over one engine's snapshot.
#[derive(Debug)]
pub struct Buffered<S> {
    snapshot: S,
    writes: WriteSet,
    reads: RefCell<ReadSet>,
}

impl<S: Snapshot> Buffered<S> {
    pub(crate) fn new(snapshot: S) -> Buffered<S> {
        Buffered { snapshot, writes: WriteSet::default(), reads: RefCell::default() }
    }

    /// The first `limit` rows, own writes included.
    async fn merged_rows(&self, read: &RangeRead) -> Result<Vec<Row>, EngineError> {
        if !self.writes.touches(&read.begin, &read.end) {
            return self.snapshot.rows(&read.begin, &read.end, read.limit, read.direction).await;
        }
        let page_rows = read.limit.max(MERGE_ROWS_MIN);
        let (mut begin, mut end) = (read.begin.clone(), read.end.clone());
        let mut rows = Vec::new();
        while rows.len() < read.limit {
            let page = self.snapshot.rows(&begin, &end, page_rows, read.direction).await?;
            let last = page.last().filter(|_| page.len() == page_rows).map(|row| row.key.clone());
            // The page settles all keys up to its last row; a short page settles all that are left.
            let settled = match (&last, read.direction) {
                (Some(last), Direction::Forward) => (begin.clone(), successor(last)),
                (Some(last), Direction::Reverse) => (last.clone(), end.clone()),
                (None, _) => (begin.clone(), end.clone()),
            };
            let merged = self.overlay(page, &settled.0, &settled.1);
            match read.direction {
                Direction::Forward => rows.extend(merged),
                Direction::Reverse => rows.extend(merged.into_iter().rev()),
            }
            if last.is_none() {
                break;
            }
            match read.direction {
                Direction::Forward => begin = settled.1,
                Direction::Reverse => end = settled.0,
            }
        }
        rows.truncate(read.limit);
        Ok(rows)
    }

    /// All rows of `[begin, end)` in ascending order: `page` from the snapshot under own writes.
    fn overlay(&self, page: Vec<Row>, begin: &Bytes, end: &Bytes) -> Vec<Row> {
        let kept = page.into_iter().filter(|row| !self.writes.is_cleared(&row.key));
        let mut rows: BTreeMap<Bytes, Bytes> = kept.map(|row| (row.key, row.value)).collect();
        for (key, write) in self.writes.pending_in(begin, end) {
            match write {
                Write::Set(value) => {
                    rows.insert(key.clone(), value.clone());
                }
                Write::Clear => {
                    rows.remove(key);
                }
                Write::Add(delta) => {
                    let sum = add_to(rows.get(key).map(Bytes::as_ref), *delta);
                    rows.insert(key.clone(), sum);
                }
                Write::Stamped { .. } => panic!("a versionstamped value has no value before its commit"),
            }
        }
        rows.into_iter().map(|(key, value)| Row { key, value }).collect()
    }

    /// The part of the range that `rows` prove: all of it, unless the limit cut it short.
    fn note_range(&self, read: RangeRead, rows: &[Row]) {
        if read.isolation == Isolation::Snapshot {
            return;
        }
        let cut = rows.last().filter(|_| rows.len() == read.limit);
        let (begin, end) = match (cut, read.direction) {
            (Some(last), Direction::Forward) => (read.begin, successor(&last.key)),
            (Some(last), Direction::Reverse) => (last.key.clone(), read.end),
            (None, _) => (read.begin, read.end),
        };
        self.reads.borrow_mut().add_range(begin, end);
    }
}

impl<S: Snapshot> Transaction for Buffered<S> {
    async fn get(&self, key: &[u8], isolation: Isolation) -> Result<Option<Bytes>, EngineError> {
        self.snapshot.check_age()?;
        if key.len() > KEY_MAX_BYTES {
            return Err(EngineError::TooLarge);
        }
        let delta = match self.writes.pending(key) {
            Pending::Known(value) => return Ok(value.cloned()),
            Pending::Plus(delta) => Some(delta),
            Pending::Unwritten => None,
        };
        if isolation == Isolation::Serializable {
            self.reads.borrow_mut().add_point(key);
        }
        let stored = self.snapshot.get(key).await?;
        Ok(match delta {
            Some(delta) => Some(add_to(stored.as_deref(), delta)),
            None => stored,
        })
    }

    async fn range(&self, read: RangeRead) -> Result<Vec<Row>, EngineError> {
        self.snapshot.check_age()?;
        if !is_range_key(&read.begin) || !is_range_key(&read.end) {
            return Err(EngineError::TooLarge);
        }
        if read.begin >= read.end || read.limit == 0 {
            return Ok(Vec::new());
        }
        let rows = self.merged_rows(&read).await?;
        self.note_range(read, &rows);
        Ok(rows)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.writes.set(key, value);
    }

    fn clear(&mut self, key: &[u8]) {
        self.writes.clear(key);
    }

    fn clear_range(&mut self, begin: &[u8], end: &[u8]) {
        self.writes.clear_range(begin, end);
    }

    fn atomic_add(&mut self, key: &[u8], delta: i64) {
        self.writes.atomic_add(key, delta);
    }

    fn set_versionstamped_key(&mut self, key: &[u8], stamp_offset: usize, value: &[u8]) {
        self.writes.set_stamped_key(key, stamp_offset, value);
    }

    fn set_versionstamped_value(&mut self, key: &[u8], value: &[u8], stamp_offset: usize) {
        self.writes.set_stamped_value(key, value, stamp_offset);
    }

    fn add_read_conflict(&mut self, begin: &[u8], end: &[u8]) {
        self.reads.get_mut().add_range(Bytes::copy_from_slice(begin), Bytes::copy_from_slice(end));
    }

    fn add_write_conflict(&mut self, begin: &[u8], end: &[u8]) {
        self.writes.add_conflict(begin, end);
    }

    async fn commit(self) -> Result<Versionstamp, EngineError> {
        if self.writes.is_empty() {
            return Ok(stamp_of(self.snapshot.read_version()));
        }
        self.snapshot.check_age()?;
        let reads = self.reads.into_inner();
        let size_bytes = self.writes.size_bytes() + reads.size_bytes();
        if self.writes.is_too_large() || reads.is_too_large() || size_bytes > TXN_MAX_BYTES {
            return Err(EngineError::TooLarge);
        }
        self.snapshot.commit(self.writes, reads).await
    }
}

/// The versionstamp of a commit number. Every commit has a number of its own, so its place in the batch is 0.
pub(crate) fn stamp_of(version: u64) -> Versionstamp {
    let mut stamp = [0; 10];
    stamp[..8].copy_from_slice(&version.to_be_bytes());
    Versionstamp(stamp)
}

/// Writes `stamp` over the placeholder at `stamp_offset`, which the write set checked to lie inside.
pub(crate) fn put_stamp(bytes: &Bytes, stamp_offset: usize, stamp: Versionstamp) -> Bytes {
    let mut stamped = bytes.to_vec();
    stamped[stamp_offset..stamp_offset + stamp.0.len()].copy_from_slice(&stamp.0);
    stamped.into()
}
