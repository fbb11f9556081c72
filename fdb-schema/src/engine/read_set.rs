//! What a transaction read and must still be so when it commits.
//! Invariants: ranges are half-open and not empty; once over the transaction limit nothing more is kept.
//! Not here: what it writes (`write_set`); the check itself (each engine's commit).

use bytes::Bytes;

use super::traits::TXN_MAX_BYTES;
use super::write_set::is_range_key;

/// Keys and ranges in the read conflict set.
#[derive(Clone, Debug, Default)]
pub struct ReadSet {
    points: Vec<Bytes>,
    ranges: Vec<(Bytes, Bytes)>,
    size_bytes: usize,
    too_large: bool,
}

impl ReadSet {
    /// Keys read one by one.
    pub(crate) fn points(&self) -> &[Bytes] {
        &self.points
    }

    /// Ranges read.
    pub(crate) fn ranges(&self) -> &[(Bytes, Bytes)] {
        &self.ranges
    }

    /// Bytes of the keys that stand for what was read.
    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Whether it alone is over the transaction's limit.
    pub(crate) fn is_too_large(&self) -> bool {
        self.too_large || self.size_bytes > TXN_MAX_BYTES
    }

    /// Adds one key.
    pub(crate) fn add_point(&mut self, key: &[u8]) {
        if self.grow(key.len()) {
            self.points.push(Bytes::copy_from_slice(key));
        }
    }

    /// Adds `[begin, end)`; an empty range is nothing.
    pub(crate) fn add_range(&mut self, begin: Bytes, end: Bytes) {
        if begin >= end {
            return;
        }
        self.too_large |= !is_range_key(&begin) || !is_range_key(&end);
        if self.grow(begin.len() + end.len()) {
            self.ranges.push((begin, end));
        }
    }

    fn grow(&mut self, bytes: usize) -> bool {
        self.size_bytes = self.size_bytes.saturating_add(bytes);
        !self.is_too_large()
    }
}
