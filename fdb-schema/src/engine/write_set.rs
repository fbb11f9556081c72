//! What a transaction is about to write: an ordered map of pending writes and the ranges it cleared.
//! Invariants: one pending write per key, the last; a key inside a cleared range and without a pending write reads
//! as absent; cleared ranges are disjoint, not empty, and do not touch; `size_bytes` only grows.
//! Not here: what was read (`read_set`), values in the engine (`buffered`).

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::traits::{KEY_MAX_BYTES, TXN_MAX_BYTES, VALUE_MAX_BYTES};

/// Bytes of a versionstamp inside a key or a value.
pub(crate) const STAMP_BYTES: usize = 10;

/// The last thing that a transaction did to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// The key will have this value.
    Set(Bytes),
    /// The key will be absent.
    Clear,
    /// The key's value at commit, plus this.
    Add(i64),
    /// The key will have this value with the stamp written over its placeholder.
    Stamped {
        /// The value with a placeholder of [`STAMP_BYTES`].
        value: Bytes,
        /// Where the placeholder begins.
        stamp_offset: usize,
    },
}

/// A key whose stamp is known only at commit, and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StampedKey {
    /// The key with a placeholder of [`STAMP_BYTES`].
    pub(crate) key: Bytes,
    /// Where the placeholder begins.
    pub(crate) stamp_offset: usize,
    /// The value.
    pub(crate) value: Bytes,
}

/// What a pending write says about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pending<'a> {
    /// Nothing: the snapshot decides.
    Unwritten,
    /// Present with this value, or absent, whatever the snapshot holds.
    Known(Option<&'a Bytes>),
    /// The snapshot's value plus this.
    Plus(i64),
}

/// The pending writes of one transaction.
#[derive(Clone, Debug, Default)]
pub struct WriteSet {
    writes: BTreeMap<Bytes, Write>,
    /// begin -> end of each cleared range.
    cleared: BTreeMap<Bytes, Bytes>,
    stamped_keys: Vec<StampedKey>,
    conflicts: Vec<(Bytes, Bytes)>,
    size_bytes: usize,
    too_large: bool,
}

impl WriteSet {
    /// Nothing to commit: no write, and no write conflict.
    pub(crate) fn is_empty(&self) -> bool {
        self.writes.is_empty()
            && self.cleared.is_empty()
            && self.stamped_keys.is_empty()
            && self.conflicts.is_empty()
            && !self.too_large
    }

    /// Bytes of all keys and values ever written, overwritten ones included.
    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Whether a key, a value or the whole is over its limit.
    pub(crate) fn is_too_large(&self) -> bool {
        self.too_large || self.size_bytes > TXN_MAX_BYTES
    }

    /// Pending writes in key order.
    pub(crate) fn writes(&self) -> &BTreeMap<Bytes, Write> {
        &self.writes
    }

    /// Cleared ranges in key order.
    pub(crate) fn cleared(&self) -> &BTreeMap<Bytes, Bytes> {
        &self.cleared
    }

    /// Keys that get their stamp at commit.
    pub(crate) fn stamped_keys(&self) -> &[StampedKey] {
        &self.stamped_keys
    }

    /// Ranges declared as written.
    pub(crate) fn conflicts(&self) -> &[(Bytes, Bytes)] {
        &self.conflicts
    }

    /// What the transaction's own writes say about `key`.
    pub(crate) fn pending(&self, key: &[u8]) -> Pending<'_> {
        if self.writes.is_empty() && self.cleared.is_empty() {
            return Pending::Unwritten;
        }
        match self.writes.get(key) {
            Some(Write::Set(value)) => Pending::Known(Some(value)),
            Some(Write::Clear) => Pending::Known(None),
            Some(Write::Add(delta)) => Pending::Plus(*delta),
            Some(Write::Stamped { .. }) => panic!("a versionstamped value has no value before its commit"),
            None if self.is_cleared(key) => Pending::Known(None),
            None => Pending::Unwritten,
        }
    }

    /// Whether `key` lies in a cleared range (a later write may have replaced that).
    pub(crate) fn is_cleared(&self, key: &[u8]) -> bool {
        let before = self.cleared.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back();
        before.is_some_and(|(_, end)| key < end.as_ref())
    }

    /// Whether a read of `[begin, end)` may see one of these writes.
    pub(crate) fn touches(&self, begin: &[u8], end: &[u8]) -> bool {
        assert!(
            !self.stamped_keys.iter().any(|stamped| {
                let (low, high) = stamped.bounds();
                low.as_slice() < end && begin <= high.as_slice()
            }),
            "a range over a versionstamped key cannot be read before its commit"
        );
        self.pending_in(begin, end).next().is_some() || self.clears_in(begin, end)
    }

    fn clears_in(&self, begin: &[u8], end: &[u8]) -> bool {
        let last = self.cleared.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(end))).next_back();
        last.is_some_and(|(_, cleared_end)| begin < cleared_end.as_ref())
    }

    /// Pending writes with keys in `[begin, end)`, in order.
    pub(crate) fn pending_in(&self, begin: &[u8], end: &[u8]) -> impl Iterator<Item = (&Bytes, &Write)> {
        let bounds = (Bound::Included(begin), Bound::Excluded(end.max(begin)));
        self.writes.range::<[u8], _>(bounds)
    }

    /// Sets a key.
    pub(crate) fn set(&mut self, key: &[u8], value: &[u8]) {
        if self.take_room(key, value.len()) {
            self.writes.insert(Bytes::copy_from_slice(key), Write::Set(Bytes::copy_from_slice(value)));
        }
    }

    /// Removes a key.
    pub(crate) fn clear(&mut self, key: &[u8]) {
        if self.take_room(key, 0) {
            self.writes.insert(Bytes::copy_from_slice(key), Write::Clear);
        }
    }

    /// Removes every key of `[begin, end)`; an empty range is nothing.
    pub(crate) fn clear_range(&mut self, begin: &[u8], end: &[u8]) {
        if begin >= end || !self.take_range_room(begin, end) {
            return;
        }
        self.drop_stamped_keys(begin, end);
        self.drop_writes(begin, end);
        self.join_cleared(begin, end);
    }

    fn drop_stamped_keys(&mut self, begin: &[u8], end: &[u8]) {
        self.stamped_keys.retain(|stamped| {
            let (low, high) = stamped.bounds();
            let outside = high.as_slice() < begin || end <= low.as_slice();
            let inside = begin <= low.as_slice() && high.as_slice() < end;
            assert!(outside || inside, "a cleared range splits the keys that a versionstamp may give");
            outside
        });
    }

    fn drop_writes(&mut self, begin: &[u8], end: &[u8]) {
        let dropped: Vec<Bytes> = self.pending_in(begin, end).map(|(key, _)| key.clone()).collect();
        for key in dropped {
            self.writes.remove(&key);
        }
    }

    fn join_cleared(&mut self, begin: &[u8], end: &[u8]) {
        let (mut begin, mut end) = (Bytes::copy_from_slice(begin), Bytes::copy_from_slice(end));
        // Ranges that touch the new one, from the last that begins at or before its end.
        while let Some((other_begin, other_end)) =
            self.cleared.range::<[u8], _>((Bound::Unbounded, Bound::Included(end.as_ref()))).next_back()
            && *other_end >= begin
        {
            let (other_begin, other_end) = (other_begin.clone(), other_end.clone());
            self.cleared.remove(&other_begin);
            begin = begin.min(other_begin);
            end = end.max(other_end);
        }
        self.cleared.insert(begin, end);
    }

    /// Adds to a little-endian integer, on top of what is pending.
    pub(crate) fn atomic_add(&mut self, key: &[u8], delta: i64) {
        if !self.take_room(key, size_of::<i64>()) {
            return;
        }
        let write = match self.pending(key) {
            Pending::Unwritten => Write::Add(delta),
            Pending::Plus(before) => Write::Add(before.wrapping_add(delta)),
            Pending::Known(value) => Write::Set(add_to(value.map(Bytes::as_ref), delta)),
        };
        self.writes.insert(Bytes::copy_from_slice(key), write);
    }

    /// Sets a key that gets its stamp at commit.
    pub(crate) fn set_stamped_key(&mut self, key: &[u8], stamp_offset: usize, value: &[u8]) {
        assert!(stamp_offset + STAMP_BYTES <= key.len(), "the placeholder lies inside the key");
        if self.take_room(key, value.len()) {
            let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            self.stamped_keys.push(StampedKey { key, stamp_offset, value });
        }
    }

    /// Sets a value that gets its stamp at commit.
    pub(crate) fn set_stamped_value(&mut self, key: &[u8], value: &[u8], stamp_offset: usize) {
        assert!(stamp_offset + STAMP_BYTES <= value.len(), "the placeholder lies inside the value");
        if self.take_room(key, value.len()) {
            let value = Bytes::copy_from_slice(value);
            self.writes.insert(Bytes::copy_from_slice(key), Write::Stamped { value, stamp_offset });
        }
    }

    /// Declares `[begin, end)` as written; an empty range is nothing.
    pub(crate) fn add_conflict(&mut self, begin: &[u8], end: &[u8]) {
        if begin < end && self.take_range_room(begin, end) {
            self.conflicts.push((Bytes::copy_from_slice(begin), Bytes::copy_from_slice(end)));
        }
    }

    fn take_room(&mut self, key: &[u8], value_len: usize) -> bool {
        assert!(key.first() != Some(&0xff), "keys from 0xff up belong to FoundationDB");
        self.too_large |= key.len() > KEY_MAX_BYTES || value_len > VALUE_MAX_BYTES;
        self.grow(key.len() + value_len)
    }

    fn take_range_room(&mut self, begin: &[u8], end: &[u8]) -> bool {
        self.too_large |= !is_range_key(begin) || !is_range_key(end);
        self.grow(begin.len() + end.len())
    }

    /// Once over a limit, nothing more is kept: the transaction cannot commit, and memory stays bounded.
    fn grow(&mut self, bytes: usize) -> bool {
        self.size_bytes = self.size_bytes.saturating_add(bytes);
        !self.is_too_large()
    }
}

impl StampedKey {
    /// The lowest and highest key that the commit can give.
    fn bounds(&self) -> (Vec<u8>, Vec<u8>) {
        let stamped = |byte: u8| {
            let mut key = self.key.to_vec();
            key[self.stamp_offset..self.stamp_offset + STAMP_BYTES].fill(byte);
            key
        };
        (stamped(0), stamped(0xff))
    }
}

/// Whether `key` may begin or end a range: the successor of the longest key may.
pub(crate) fn is_range_key(key: &[u8]) -> bool {
    key.len() <= KEY_MAX_BYTES + 1
}

/// The little-endian integer in `value`, plus `delta`, wrapping. As in FoundationDB an absent or short value is
/// extended with zeros and a long one is cut to 8 bytes.
pub(crate) fn add_to(value: Option<&[u8]>, delta: i64) -> Bytes {
    let mut operand = [0; size_of::<i64>()];
    for (target, source) in operand.iter_mut().zip(value.unwrap_or_default()) {
        *target = *source;
    }
    Bytes::copy_from_slice(&i64::from_le_bytes(operand).wrapping_add(delta).to_le_bytes())
}

/// `key` and everything up to it, as an exclusive end: the key followed by a zero byte.
pub(crate) fn successor(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleared(set: &WriteSet) -> Vec<(&[u8], &[u8])> {
        set.cleared().iter().map(|(begin, end)| (begin.as_ref(), end.as_ref())).collect()
    }

    #[test]
    fn cleared_ranges_that_touch_become_one() {
        let mut set = WriteSet::default();
        set.clear_range(b"b", b"c");
        set.clear_range(b"e", b"f");
        assert_eq!(cleared(&set), [(&b"b"[..], &b"c"[..]), (b"e", b"f")]);
        set.clear_range(b"c", b"e");
        assert_eq!(cleared(&set), [(&b"b"[..], &b"f"[..])]);
        set.clear_range(b"a", b"z");
        assert_eq!(cleared(&set), [(&b"a"[..], &b"z"[..])]);
        set.clear_range(b"x", b"x");
        assert_eq!(cleared(&set), [(&b"a"[..], &b"z"[..])]);
    }

    #[test]
    fn a_write_after_a_clear_wins_and_a_clear_after_a_write_wins() {
        let mut set = WriteSet::default();
        set.set(b"k", b"1");
        set.clear_range(b"a", b"z");
        assert_eq!(set.pending(b"k"), Pending::Known(None));
        set.set(b"k", b"2");
        assert_eq!(set.pending(b"k"), Pending::Known(Some(&Bytes::from_static(b"2"))));
        assert_eq!(set.pending(b"j"), Pending::Known(None));
        assert_eq!(set.pending(b"z"), Pending::Unwritten);
    }

    #[test]
    fn adds_fold_into_what_is_pending() {
        let mut set = WriteSet::default();
        set.atomic_add(b"k", 5);
        set.atomic_add(b"k", -7);
        assert_eq!(set.pending(b"k"), Pending::Plus(-2));
        set.clear(b"k");
        set.atomic_add(b"k", 3);
        assert_eq!(set.pending(b"k"), Pending::Known(Some(&add_to(None, 3))));
    }

    #[test]
    fn an_integer_of_another_length_counts_as_eight_bytes() {
        assert_eq!(add_to(Some(&[255]), 1).as_ref(), 256_i64.to_le_bytes());
        assert_eq!(add_to(Some(&[1; 12]), 0).as_ref(), [1; 8]);
        assert_eq!(add_to(Some(&i64::MAX.to_le_bytes()), 1).as_ref(), i64::MIN.to_le_bytes());
    }

    #[test]
    fn past_its_limit_a_transaction_keeps_nothing_more() {
        let mut set = WriteSet::default();
        let value = vec![0; VALUE_MAX_BYTES];
        for n in 0..200_u32 {
            set.set(&n.to_be_bytes(), &value);
        }
        assert!(set.is_too_large());
        assert!(set.writes().len() <= TXN_MAX_BYTES / VALUE_MAX_BYTES);
    }

    #[test]
    #[should_panic(expected = "versionstamped")]
    fn reading_a_value_that_has_no_stamp_yet_is_a_bug() {
        let mut set = WriteSet::default();
        set.set_stamped_value(b"k", &[0; 10], 0);
        set.pending(b"k");
    }
}
