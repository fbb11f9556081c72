//! Encoding of values: explicit little-endian numbers, LEB128 lengths, no padding.
//! Invariants: decoding never panics and never allocates more than its input holds; a row of an unknown version or
//! with bytes left over is damaged, not guessed at.
//! Not here: which fields a row has (`record`).

use bytes::Bytes;
use shardstore_format::{DataId, Extent, WriterId};

use crate::EngineError;

/// Why a row's value cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// The kind of row.
    pub row: &'static str,
    /// What is wrong with it.
    pub why: DecodeReason,
}

/// What is wrong with a row's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeReason {
    /// Fewer bytes than its fields need.
    Truncated,
    /// Written by a newer release, or not by us.
    UnknownVersion(u8),
    /// A field is outside its bounds, or bytes follow the last.
    Invalid,
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.why {
            DecodeReason::Truncated => write!(f, "{} row is cut short", self.row),
            DecodeReason::UnknownVersion(version) => {
                write!(f, "{} row has unknown version {version}", self.row)
            }
            DecodeReason::Invalid => write!(f, "{} row has a field outside its bounds", self.row),
        }
    }
}

impl std::error::Error for DecodeError {}

impl From<DecodeError> for EngineError {
    fn from(error: DecodeError) -> EngineError {
        EngineError::Damaged(error.to_string())
    }
}

/// Builds a value.
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    pub(crate) fn new(version: u8) -> Encoder {
        let mut out = Vec::with_capacity(96);
        out.push(version);
        Encoder(out)
    }

    pub(crate) fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn number(&mut self, value: u64) {
        let mut rest = value;
        while rest >= 0x80 {
            self.0.push(u8::try_from(rest & 0x7f).expect("7 bits") | 0x80);
            rest >>= 7;
        }
        self.0.push(u8::try_from(rest).expect("7 bits"));
    }

    pub(crate) fn count(&mut self, count: usize) {
        self.number(u64::try_from(count).expect("usize fits"));
    }

    pub(crate) fn text(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }

    pub(crate) fn data_id(&mut self, id: DataId) {
        self.raw(&id.writer.0.to_le_bytes());
        self.raw(&id.counter.to_le_bytes());
    }

    pub(crate) fn extent(&mut self, extent: &Extent) {
        extent.encode(&mut self.0);
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads a value; slices share the row's memory.
pub(crate) struct Decoder<'a> {
    row: &'static str,
    source: &'a Bytes,
    at: usize,
}

impl<'a> Decoder<'a> {
    /// Begins after the version byte, which must be `version`.
    pub(crate) fn new(row: &'static str, version: u8, source: &'a Bytes) -> Result<Decoder<'a>, DecodeError> {
        let mut decoder = Decoder { row, source, at: 0 };
        let found = decoder.byte()?;
        if found != version {
            return Err(DecodeError { row, why: DecodeReason::UnknownVersion(found) });
        }
        Ok(decoder)
    }

    /// Begins after the version byte, which may be any up to `newest`; the version.
    pub(crate) fn up_to(
        row: &'static str,
        newest: u8,
        source: &'a Bytes,
    ) -> Result<(u8, Decoder<'a>), DecodeError> {
        let found = source.first().copied().filter(|found| (1..=newest).contains(found)).unwrap_or(newest);
        Ok((found, Decoder::new(row, found, source)?))
    }

    pub(crate) fn invalid(&self) -> DecodeError {
        DecodeError { row: self.row, why: DecodeReason::Invalid }
    }

    fn rest(&self) -> &'a [u8] {
        &self.source[self.at..]
    }

    fn truncated(&self) -> DecodeError {
        DecodeError { row: self.row, why: DecodeReason::Truncated }
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        let byte = *self.rest().first().ok_or_else(|| self.truncated())?;
        self.at += 1;
        Ok(byte)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let array = *self.rest().first_chunk().ok_or_else(|| self.truncated())?;
        self.at += N;
        Ok(array)
    }

    pub(crate) fn number(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.invalid())
    }

    pub(crate) fn number_u32(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.number()?).map_err(|_| self.invalid())
    }

    pub(crate) fn number_u16(&mut self) -> Result<u16, DecodeError> {
        u16::try_from(self.number()?).map_err(|_| self.invalid())
    }

    /// A count of things that take at least a byte each.
    pub(crate) fn count(&mut self) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.number()?).map_err(|_| self.invalid())?;
        if count > self.rest().len() {
            return Err(self.truncated());
        }
        Ok(count)
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        if len > self.rest().len() {
            return Err(self.truncated());
        }
        let slice = self.source.slice(self.at..self.at + len);
        self.at += len;
        Ok(slice)
    }

    pub(crate) fn text(&mut self) -> Result<Bytes, DecodeError> {
        let len = self.count()?;
        self.take(len)
    }

    pub(crate) fn string(&mut self) -> Result<String, DecodeError> {
        let text = self.text()?;
        std::str::from_utf8(&text).map(str::to_owned).map_err(|_| self.invalid())
    }

    pub(crate) fn data_id(&mut self) -> Result<DataId, DecodeError> {
        let writer = WriterId(u32::from_le_bytes(self.array()?));
        Ok(DataId { writer, counter: u64::from_le_bytes(self.array()?) })
    }

    pub(crate) fn extent(&mut self) -> Result<Extent, DecodeError> {
        let (extent, _) = Extent::decode(self.rest()).map_err(|_| self.invalid())?;
        self.at += Extent::ENCODED_BYTES;
        Ok(extent)
    }

    /// Ends a value that must have no more bytes.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.rest().is_empty() { Ok(()) } else { Err(self.invalid()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn numbers_of_every_length_read_back() {
        for bits in 0..64 {
            for value in [1u64 << bits, (1u64 << bits) - 1, u64::MAX >> bits] {
                let mut out = Encoder::new(1);
                out.number(value);
                let bytes = Bytes::from(out.finish());
                let mut decoder = Decoder::new("test", 1, &bytes).unwrap();
                assert_eq!(decoder.number(), Ok(value));
                assert_eq!(decoder.finish(), Ok(()));
            }
        }
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_invalid() {
        let bytes = Bytes::from_static(&[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
        let mut decoder = Decoder::new("test", 1, &bytes).unwrap();
        assert_eq!(decoder.number().unwrap_err().why, DecodeReason::Invalid);
    }

    #[test]
    fn a_count_beyond_the_row_is_truncated_before_anything_is_allocated() {
        let mut out = Encoder::new(1);
        out.number(u64::MAX);
        let bytes = Bytes::from(out.finish());
        let mut decoder = Decoder::new("test", 1, &bytes).unwrap();
        assert_eq!(decoder.count().unwrap_err().why, DecodeReason::Truncated);
    }
}
