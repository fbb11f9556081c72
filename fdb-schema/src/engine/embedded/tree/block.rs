//! A block: some 16 KiB of prefix-compressed rows with restart points, sealed by a CRC32C.
//! Invariants: rows are in strictly increasing key order; the row at a restart point shares nothing with the one
//! before it; a block is parsed only after its CRC matched, and still every length in it is checked.
//! Bytes: rows | restart offsets, u16 each | restart count, u16 | CRC32C of (volume, payload offset, all before).
//! A row: varint shared | varint unshared | varint (0: tombstone, else value length + 1) | unshared key | value.

use std::cmp::Ordering;
use std::ops::Range;

use bytes::Bytes;
use shardstore_format::VolumeId;

use super::codec::{checksum, len_u32, put_varint, varint};
use crate::engine::{KEY_MAX_BYTES, VALUE_MAX_BYTES};

/// The most rows, and about the most bytes, from one restart point to the next. Rows after a restart are passed one by
/// one, each a cache miss if rows are long; a whole key every 1 KiB costs some 3 %.
const RESTART_ROWS: usize = 16;
const RESTART_BYTES: usize = 1024;
/// Restart count and CRC.
const TRAILER_BYTES: usize = 2 + 4;
/// Lengths of a row: two for the key (10 kB fits 2 bytes each), 3 for the value.
const ROW_LENGTHS_MAX_BYTES: usize = 2 + 2 + 3;

/// A block's bytes contradict themselves though the CRC matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Collects rows of one block.
#[derive(Default)]
pub(crate) struct BlockBuilder {
    rows: Vec<u8>,
    restarts: Vec<u16>,
    rows_since_restart: usize,
    last_key: Vec<u8>,
}

impl BlockBuilder {
    pub(crate) fn is_empty(&self) -> bool {
        self.restarts.is_empty()
    }

    pub(crate) fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    /// An upper bound of the sealed length with one more row.
    pub(crate) fn sealed_bytes_with(&self, key: &[u8], value: Option<&[u8]>) -> usize {
        let row = ROW_LENGTHS_MAX_BYTES + key.len() + value.map_or(0, <[u8]>::len);
        self.rows.len() + row + 2 * (self.restarts.len() + 1) + TRAILER_BYTES
    }

    /// Adds a row; the caller keeps keys increasing and closes the block before it outgrows a u16, except for a
    /// block of a single row.
    pub(crate) fn add(&mut self, key: &[u8], value: Option<&[u8]>) {
        let restart = self.restarts.last().is_none_or(|&restart| {
            self.rows_since_restart == RESTART_ROWS || self.rows.len() - usize::from(restart) >= RESTART_BYTES
        });
        let shared = if restart {
            let offset = u16::try_from(self.rows.len()).expect("only a block's first row may be long");
            self.restarts.push(offset);
            self.rows_since_restart = 0;
            0
        } else {
            shared_prefix(&self.last_key, key)
        };
        put_varint(&mut self.rows, len_u32(shared));
        put_varint(&mut self.rows, len_u32(key.len() - shared));
        put_varint(&mut self.rows, value.map_or(0, |value| len_u32(value.len()) + 1));
        self.rows.extend_from_slice(&key[shared..]);
        self.rows.extend_from_slice(value.unwrap_or_default());
        self.rows_since_restart += 1;
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(&key[shared..]);
    }

    /// Length of the block if it were sealed now.
    pub(crate) fn sealed_bytes(&self) -> usize {
        self.rows.len() + 2 * self.restarts.len() + TRAILER_BYTES
    }

    /// Appends the sealed block to `out` and begins another.
    pub(crate) fn seal(&mut self, volume: VolumeId, offset_bytes: u64, out: &mut Vec<u8>) {
        assert!(!self.restarts.is_empty());
        let begin = out.len();
        out.extend_from_slice(&self.rows);
        for restart in &self.restarts {
            out.extend_from_slice(&restart.to_le_bytes());
        }
        let count = u16::try_from(self.restarts.len()).expect("a block has few restarts");
        out.extend_from_slice(&count.to_le_bytes());
        let crc = checksum(volume, offset_bytes, &out[begin..]);
        out.extend_from_slice(&crc.to_le_bytes());
        self.rows.clear();
        self.restarts.clear();
        self.rows_since_restart = 0;
    }
}

pub(crate) fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Where a row's parts lie within its block.
struct Row {
    shared: usize,
    unshared: Range<usize>,
    value: Option<Range<usize>>,
    end: usize,
}

/// A verified block. Cheap to clone; values are slices of it.
#[derive(Clone)]
pub(crate) struct Block {
    bytes: Bytes,
    rows_end: usize,
    restart_count: usize,
}

impl Block {
    /// Checks the CRC.
    pub(crate) fn check(bytes: &[u8], volume: VolumeId, offset_bytes: u64) -> Result<(), Malformed> {
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or(Malformed("a block is cut short"))?;
        if checksum(volume, offset_bytes, body) != u32::from_le_bytes(*crc) {
            return Err(Malformed("a block does not match its checksum"));
        }
        Ok(())
    }

    /// Finds the restart points of bytes that were checked.
    pub(crate) fn parse(bytes: Bytes) -> Result<Block, Malformed> {
        let (body, _crc) = bytes.split_last_chunk::<4>().ok_or(Malformed("a block is cut short"))?;
        let (rest, count) = body.split_last_chunk::<2>().ok_or(Malformed("a block is cut short"))?;
        let restart_count = usize::from(u16::from_le_bytes(*count));
        let rows_end = rest.len().checked_sub(2 * restart_count);
        let rows_end = rows_end.filter(|_| restart_count > 0).ok_or(Malformed("a block has no rows"))?;
        Ok(Block { bytes, rows_end, restart_count })
    }

    /// The value of `key`: `None` if the block lacks it, `Some(None)` for a tombstone.
    pub(crate) fn find(&self, key: &[u8]) -> Result<Option<Option<Bytes>>, Malformed> {
        let group = self.restart_at_or_before(key)?;
        let Some(group) = group else { return Ok(None) };
        let mut at = self.restart(group)?;
        // `matched`: bytes of `key` that the last row began with; the last row was below `key`.
        let (mut matched, mut len_before) = (0, 0);
        while at < self.rows_end {
            let row = self.row(at)?;
            if row.shared > len_before {
                return Err(Malformed("a row shares more than the key before it has"));
            }
            len_before = row.shared + row.unshared.len();
            at = row.end;
            match row.shared.cmp(&matched) {
                // Like the row before, it parts from `key` at `matched`, downwards.
                Ordering::Greater => continue,
                // It is above the row before at a byte where that equalled `key`.
                Ordering::Less => return Ok(None),
                Ordering::Equal => {}
            }
            let unshared = &self.bytes[row.unshared];
            let wanted = &key[matched..];
            let common = shared_prefix(unshared, wanted);
            match (unshared.get(common), wanted.get(common)) {
                (None, None) => return Ok(Some(row.value.map(|value| self.bytes.slice(value)))),
                (Some(_), None) => return Ok(None),
                (Some(have), Some(want)) if have > want => return Ok(None),
                _ => matched += common,
            }
        }
        Ok(None)
    }

    /// The last restart point whose key is at or below `key`.
    fn restart_at_or_before(&self, key: &[u8]) -> Result<Option<usize>, Malformed> {
        let (mut low, mut high) = (0, self.restart_count);
        while low < high {
            let middle = low.midpoint(high);
            if self.restart_key(middle)? <= key { low = middle + 1 } else { high = middle }
        }
        Ok(low.checked_sub(1))
    }

    fn restart(&self, index: usize) -> Result<usize, Malformed> {
        let at = self.rows_end + 2 * index;
        let offset = usize::from(u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]]));
        if offset >= self.rows_end {
            return Err(Malformed("a restart point lies past the rows"));
        }
        Ok(offset)
    }

    fn restart_key(&self, index: usize) -> Result<&[u8], Malformed> {
        let row = self.row(self.restart(index)?)?;
        if row.shared != 0 {
            return Err(Malformed("a restart point shares a prefix"));
        }
        Ok(&self.bytes[row.unshared])
    }

    #[inline]
    fn row(&self, at: usize) -> Result<Row, Malformed> {
        self.row_checked(at).ok_or(Malformed("a row runs past its bounds"))
    }

    #[inline]
    fn row_checked(&self, at: usize) -> Option<Row> {
        let rows = self.bytes.get(..self.rows_end)?;
        let mut at = at;
        let shared = usize::try_from(varint(rows, &mut at)?).ok()?;
        let unshared = usize::try_from(varint(rows, &mut at)?).ok()?;
        let value = usize::try_from(varint(rows, &mut at)?).ok()?;
        if shared > KEY_MAX_BYTES || unshared > KEY_MAX_BYTES || value > VALUE_MAX_BYTES + 1 {
            return None;
        }
        let key_end = at + unshared;
        let end = key_end + value.saturating_sub(1);
        if end > rows.len() {
            return None;
        }
        Some(Row { shared, unshared: at..key_end, value: (value > 0).then_some(key_end..end), end })
    }
}

/// A place in a block, moving one way.
pub(crate) struct BlockCursor {
    block: Block,
    /// Forward: the key of the current row. Reverse: keys of the restart group, one after the other.
    keys: Vec<u8>,
    value: Option<Range<usize>>,
    /// Forward: offset of the row after the current one.
    next_at: usize,
    /// Reverse: rows of the group up to the current one, which is the last.
    group: Vec<(Range<usize>, Option<Range<usize>>)>,
    group_index: usize,
    reverse: bool,
}

impl BlockCursor {
    /// At the first row of at least `bound`; false (and no row) if there is none.
    pub(crate) fn seek_forward(&mut self, bound: &[u8]) -> Result<bool, Malformed> {
        self.reverse = false;
        self.keys.clear();
        let group = self.block.restart_at_or_before(bound)?.unwrap_or(0);
        self.next_at = self.block.restart(group)?;
        while self.step_forward()? {
            if self.keys.as_slice() >= bound {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// At the last row below `bound` (any row, without one); false if there is none.
    pub(crate) fn seek_reverse(&mut self, bound: Option<&[u8]>) -> Result<bool, Malformed> {
        self.reverse = true;
        let last = match bound {
            Some(bound) => self.block.restart_at_or_before(bound)?,
            None => self.block.restart_count.checked_sub(1),
        };
        self.group.clear();
        let Some(last) = last else { return Ok(false) };
        self.fill_group(last, bound)?;
        // The restart itself may equal `bound`.
        if self.group.is_empty() && last > 0 {
            self.fill_group(last - 1, None)?;
        }
        Ok(!self.group.is_empty())
    }

    pub(crate) fn at_first(block: Block) -> Result<BlockCursor, Malformed> {
        let mut cursor = BlockCursor::new(block);
        if !cursor.step_forward()? {
            return Err(Malformed("a block has no rows"));
        }
        Ok(cursor)
    }

    pub(crate) fn new(block: Block) -> BlockCursor {
        BlockCursor {
            block,
            keys: Vec::with_capacity(256),
            value: None,
            next_at: 0,
            group: Vec::new(),
            group_index: 0,
            reverse: false,
        }
    }

    /// One row further the way it was sought; false at the block's end.
    #[inline]
    pub(crate) fn step(&mut self) -> Result<bool, Malformed> {
        if self.reverse { self.step_reverse() } else { self.step_forward() }
    }

    #[inline]
    fn step_forward(&mut self) -> Result<bool, Malformed> {
        if self.next_at >= self.block.rows_end {
            return Ok(false);
        }
        let row = self.block.row(self.next_at)?;
        if row.shared > self.keys.len() || row.shared + row.unshared.len() > KEY_MAX_BYTES {
            return Err(Malformed("a row shares more than the key before it has"));
        }
        self.keys.truncate(row.shared);
        self.keys.extend_from_slice(&self.block.bytes[row.unshared]);
        self.value = row.value;
        self.next_at = row.end;
        Ok(true)
    }

    fn step_reverse(&mut self) -> Result<bool, Malformed> {
        self.group.pop();
        if self.group.is_empty() {
            let Some(before) = self.group_index.checked_sub(1) else { return Ok(false) };
            self.fill_group(before, None)?;
        }
        Ok(!self.group.is_empty())
    }

    /// Decodes the rows of one restart group, those below `bound` only.
    fn fill_group(&mut self, index: usize, bound: Option<&[u8]>) -> Result<(), Malformed> {
        let mut at = self.block.restart(index)?;
        let next = index + 1;
        let end =
            if next < self.block.restart_count { self.block.restart(next)? } else { self.block.rows_end };
        self.group.clear();
        self.group_index = index;
        self.keys.clear();
        let mut before = 0..0;
        while at < end {
            let row = self.block.row(at)?;
            if row.shared > before.len() || row.shared + row.unshared.len() > KEY_MAX_BYTES {
                return Err(Malformed("a row shares more than the key before it has"));
            }
            let begin = self.keys.len();
            self.keys.extend_from_within(before.start..before.start + row.shared);
            self.keys.extend_from_slice(&self.block.bytes[row.unshared]);
            let key = begin..self.keys.len();
            if bound.is_some_and(|bound| &self.keys[key.clone()] >= bound) {
                break;
            }
            self.group.push((key.clone(), row.value));
            before = key;
            at = row.end;
        }
        Ok(())
    }

    /// The key of the current row; meaningless after a step that said false.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        if self.reverse {
            self.group.last().map_or(&[], |(key, _)| &self.keys[key.clone()])
        } else {
            &self.keys
        }
    }

    /// The value of the current row, as a slice of the block; `None` for a tombstone.
    pub(crate) fn value(&self) -> Option<Bytes> {
        let value = if self.reverse { self.group.last()?.1.clone() } else { self.value.clone() };
        value.map(|value| self.block.bytes.slice(value))
    }
}
