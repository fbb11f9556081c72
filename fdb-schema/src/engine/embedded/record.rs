//! The payload of a log record: the rows of one or more commits, one part after the other.
//! Invariants: a part is complete when it is sent to the metadata thread but for the version, the stamps and the sums,
//! which are patched in place; decoding checks every length and never panics.
//! Bytes of a part: format, u8 (1) | zeros, 3 | length of its rows, u32 | version, u64 | rows. A row: key length, u16
//! | value length, u32 (all ones: a tombstone) | key | value. Integers are little-endian. docs/format.md.

use std::ops::Range;

use bytes::Bytes;

use crate::engine::{KEY_MAX_BYTES, VALUE_MAX_BYTES, Versionstamp};

const FORMAT: u8 = 1;
/// Format, padding, length, version.
pub(crate) const PART_HEADER_BYTES: usize = 1 + 3 + 4 + 8;
/// Lengths of key and value.
const ROW_HEADER_BYTES: usize = 2 + 4;
const TOMBSTONE: u32 = u32::MAX;

const _: () = assert!(KEY_MAX_BYTES <= u16::MAX as usize);
const _: () = assert!(VALUE_MAX_BYTES < TOMBSTONE as usize);

/// A log record's payload is not what this version writes, though its checksum matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MalformedPart(pub(crate) &'static str);

/// One commit's rows under construction.
#[derive(Debug)]
pub(crate) struct Part {
    bytes: Vec<u8>,
}

impl Part {
    /// An empty part with room for `rows_bytes`.
    pub(crate) fn new(rows_bytes: usize) -> Part {
        let mut bytes = Vec::with_capacity(PART_HEADER_BYTES + rows_bytes);
        bytes.resize(PART_HEADER_BYTES, 0);
        bytes[0] = FORMAT;
        Part { bytes }
    }

    /// Appends a row and returns where its key and value lie.
    pub(crate) fn push(&mut self, key: &[u8], value: Option<&[u8]>) -> (Range<usize>, Range<usize>) {
        let key_len = u16::try_from(key.len()).expect("keys are within their limit");
        let value_len = value
            .map_or(TOMBSTONE, |value| u32::try_from(value.len()).expect("values are within their limit"));
        self.bytes.extend_from_slice(&key_len.to_le_bytes());
        self.bytes.extend_from_slice(&value_len.to_le_bytes());
        let key_begin = self.bytes.len();
        self.bytes.extend_from_slice(key);
        let value_begin = self.bytes.len();
        self.bytes.extend_from_slice(value.unwrap_or_default());
        (key_begin..value_begin, value_begin..self.bytes.len())
    }

    /// Length so far.
    pub(crate) fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes at a place that [`Part::push`] returned.
    pub(crate) fn at(&self, place: Range<usize>) -> &[u8] {
        &self.bytes[place]
    }

    /// Writes a versionstamp at `offset`.
    pub(crate) fn put_stamp(&mut self, offset: usize, stamp: Versionstamp) {
        self.bytes[offset..offset + stamp.0.len()].copy_from_slice(&stamp.0);
    }

    /// Writes a sum at `offset`.
    pub(crate) fn put_sum(&mut self, offset: usize, sum: &[u8]) {
        self.bytes[offset..offset + sum.len()].copy_from_slice(sum);
    }

    /// The part as it goes into the log.
    pub(crate) fn finish(mut self, version: u64) -> Bytes {
        let rows_bytes = u32::try_from(self.bytes.len() - PART_HEADER_BYTES).expect("within the limit");
        self.bytes[4..8].copy_from_slice(&rows_bytes.to_le_bytes());
        self.bytes[8..16].copy_from_slice(&version.to_le_bytes());
        self.bytes.into()
    }
}

/// A decoded row; key and value are slices of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordRow {
    pub(crate) key: Bytes,
    pub(crate) value: Option<Bytes>,
}

/// Calls `row` with each commit's version and row, in order; returns the last version.
pub(crate) fn decode_record(
    payload: &Bytes,
    mut row: impl FnMut(u64, RecordRow),
) -> Result<Option<u64>, MalformedPart> {
    let mut rest = payload.clone();
    let mut last = None;
    while !rest.is_empty() {
        let header = rest.first_chunk::<PART_HEADER_BYTES>();
        let header = *header.ok_or(MalformedPart("a commit's header is cut short"))?;
        if header[..4] != [FORMAT, 0, 0, 0] {
            return Err(MalformedPart("a commit has an unknown format"));
        }
        let rows_bytes = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        let mut version = [0; 8];
        version.copy_from_slice(&header[8..]);
        let version = u64::from_le_bytes(version);
        let rows_bytes = usize::try_from(rows_bytes).unwrap_or(usize::MAX);
        if rows_bytes > rest.len() - PART_HEADER_BYTES {
            return Err(MalformedPart("a commit runs past its record"));
        }
        let mut rows = rest.slice(PART_HEADER_BYTES..PART_HEADER_BYTES + rows_bytes);
        rest = rest.slice(PART_HEADER_BYTES + rows_bytes..);
        while !rows.is_empty() {
            let (decoded, after) = decode_row(&rows).ok_or(MalformedPart("a row runs past its commit"))?;
            rows = after;
            row(version, decoded);
        }
        last = Some(version);
    }
    Ok(last)
}

fn decode_row(rows: &Bytes) -> Option<(RecordRow, Bytes)> {
    let header = rows.first_chunk::<ROW_HEADER_BYTES>()?;
    let key_len = usize::from(u16::from_le_bytes([header[0], header[1]]));
    let value_len = u32::from_le_bytes([header[2], header[3], header[4], header[5]]);
    let present = value_len != TOMBSTONE;
    let value_len = if present { usize::try_from(value_len).ok()? } else { 0 };
    let value_begin = ROW_HEADER_BYTES + key_len;
    let end = value_begin.checked_add(value_len)?;
    if key_len > KEY_MAX_BYTES || value_len > VALUE_MAX_BYTES || end > rows.len() {
        return None;
    }
    let key = rows.slice(ROW_HEADER_BYTES..value_begin);
    let value = present.then(|| rows.slice(value_begin..end));
    Some((RecordRow { key, value }, rows.slice(end..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut bytes = Vec::new();
        for version in [7, 8] {
            let mut part = Part::new(0);
            part.push(b"key", Some(b"value"));
            part.push(b"gone", None);
            part.push(b"", Some(b""));
            bytes.extend_from_slice(&part.finish(version));
        }
        bytes
    }

    #[test]
    fn commits_read_back_row_by_row() {
        let mut rows = Vec::new();
        let last = decode_record(&sample().into(), |version, row| rows.push((version, row.key, row.value)));
        assert_eq!(last, Ok(Some(8)));
        assert_eq!(rows.len(), 6);
        assert_eq!(rows[0], (7, Bytes::from_static(b"key"), Some(Bytes::from_static(b"value"))));
        assert_eq!(rows[1], (7, Bytes::from_static(b"gone"), None));
        assert_eq!(rows[5], (8, Bytes::new(), Some(Bytes::new())));
    }

    #[test]
    fn damaged_payloads_are_refused_or_read_but_never_panic() {
        let good = sample();
        for cut in 1..good.len() {
            let decoded = decode_record(&Bytes::copy_from_slice(&good[..cut]), |_, _| {});
            assert!(decoded.is_err() || cut == good.len() / 2);
        }
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                decode_record(&bad.into(), |_, _| {}).ok();
            }
        }
    }
}
