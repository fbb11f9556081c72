//! The index of a run: for each block its place, and a separator at or above its last key and below the next block.
//! Invariants: separators strictly increase; blocks lie one after the other within the payload.
//! Memory: the separators plus 12 bytes a block. A block holds 16 KiB, so with separators of 60 bytes the index costs
//! 0.45 % of the rows: 1.4 bytes a row of 300 bytes, 300 KiB a run of 64 MiB. Keys of 10 kB that differ only at
//! their end are the worst case: the index is then as large as the keys.
//! Bytes: block count, u32 | per block: separator length, u16; separator; payload offset, u32; length, u32.

use super::codec::{Fields, len_u32};
use crate::engine::KEY_MAX_BYTES;

/// Where a block lies in the run's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockPlace {
    pub(crate) offset_bytes: u32,
    pub(crate) len_bytes: u32,
}

/// Separators and places, flat.
#[derive(Default)]
pub(crate) struct Index {
    separators: Vec<u8>,
    separator_ends: Vec<u32>,
    places: Vec<BlockPlace>,
}

impl Index {
    pub(crate) fn push(&mut self, separator: &[u8], place: BlockPlace) {
        self.separators.extend_from_slice(separator);
        self.separator_ends.push(len_u32(self.separators.len()));
        self.places.push(place);
    }

    pub(crate) fn block_count(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn place(&self, index: usize) -> BlockPlace {
        self.places[index]
    }

    /// The only block that can hold `key`, and the first that can hold a key of at least `key`; the block count
    /// if none can.
    pub(crate) fn block_of(&self, key: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.places.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.separator(middle) < key { low = middle + 1 } else { high = middle }
        }
        low
    }

    fn separator(&self, index: usize) -> &[u8] {
        let begin = if index == 0 { 0 } else { self.separator_ends[index - 1] };
        &self.separators[begin as usize..self.separator_ends[index] as usize]
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.separators.len() + 12 * self.places.len()
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&len_u32(self.places.len()).to_le_bytes());
        for (index, place) in self.places.iter().enumerate() {
            let separator = self.separator(index);
            let len = u16::try_from(separator.len()).expect("separators are no longer than keys");
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(separator);
            out.extend_from_slice(&place.offset_bytes.to_le_bytes());
            out.extend_from_slice(&place.len_bytes.to_le_bytes());
        }
    }

    /// `None`: a field is outside its bounds. `payload_bytes`: where the blocks end.
    pub(crate) fn decode(bytes: &[u8], payload_bytes: u64) -> Option<Index> {
        let mut fields = Fields(bytes);
        let count = fields.u32()?;
        let mut index = Index::default();
        let mut end_before = 0u64;
        for position in 0..count as usize {
            let len = usize::from(fields.u16()?);
            let separator = fields.bytes(len)?;
            let place = BlockPlace { offset_bytes: fields.u32()?, len_bytes: fields.u32()? };
            let ascends = position == 0 || index.separator(position - 1) < separator;
            let begin = u64::from(place.offset_bytes);
            let end = begin + u64::from(place.len_bytes);
            if !ascends || len > KEY_MAX_BYTES || begin < end_before || end > payload_bytes {
                return None;
            }
            end_before = end;
            index.push(separator, place);
        }
        (fields.0.is_empty() && count > 0).then_some(index)
    }
}

/// The shortest key of at least `last` and below `next`, for the separator between two blocks.
pub(crate) fn separator_between<'a>(last: &'a [u8], next: &'a [u8]) -> &'a [u8] {
    assert!(last < next);
    let shared = super::block::shared_prefix(last, next);
    // A prefix of `next` one byte past the shared part is above `last`; it is below `next` unless it is `next`.
    let candidate = &next[..shared + 1];
    if candidate.len() < next.len() && candidate.len() < last.len() { candidate } else { last }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn separators_are_short_and_between_their_blocks() {
        for (last, next) in [("abcdef", "abxyz"), ("a", "b"), ("abc", "abcd"), ("abc1", "abc2"), ("", "a")] {
            let separator = separator_between(last.as_bytes(), next.as_bytes());
            assert!(last.as_bytes() <= separator, "{last} {next}");
            assert!(separator < next.as_bytes(), "{last} {next}");
        }
        assert_eq!(separator_between(b"abcdef", b"abxyz"), b"abx");
    }

    #[test]
    fn a_damaged_index_is_refused_whatever_bit_flips() {
        let mut index = Index::default();
        index.push(b"b", BlockPlace { offset_bytes: 0, len_bytes: 10 });
        index.push(b"d", BlockPlace { offset_bytes: 10, len_bytes: 10 });
        let mut bytes = Vec::new();
        index.encode(&mut bytes);
        let back = Index::decode(&bytes, 20).unwrap();
        assert_eq!(
            (back.block_of(b"a"), back.block_of(b"b"), back.block_of(b"c"), back.block_of(b"e")),
            (0, 0, 1, 2)
        );
        assert!(Index::decode(&bytes, 19).is_none());
        for cut in 0..bytes.len() {
            assert!(Index::decode(&bytes[..cut], 20).is_none());
        }
    }
}
