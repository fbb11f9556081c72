//! The footer of a run: its last 112 bytes, from which the rest is found.
//! Invariants: the parts lie in the order blocks, bounds and index, filter, footer, without gaps after the blocks;
//! the footer's CRC covers the volume and its own offset, so another run's footer is refused.
//! Bytes (little-endian): magic 8 | format version u32 | volume u64 | index offset u64 | index length u64 |
//! index CRC u32 | filter offset u64 | filter length u64 | filter CRC u32 | block count u32 | rows u64 |
//! tombstones u64 | lowest commit version u64 | highest u64 | zero u32 | CRC32C u32.

use std::ops::RangeInclusive;

use shardstore_format::VolumeId;

use super::codec::{Fields, checksum};

const MAGIC: [u8; 8] = *b"BASALTRN";
const FORMAT_VERSION: u32 = 1;
/// The length of the footer.
pub(crate) const FOOTER_BYTES: usize = 8 + 4 + 8 + 8 + 8 + 4 + 8 + 8 + 4 + 4 + 8 + 8 + 8 + 8 + 4 + 4;
/// No part but the blocks is longer: an index of 2 GiB of rows is 12 MiB, its worst case (keys of 10 kB) the rows.
const PART_MAX_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// A part of the run and its CRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) offset_bytes: u64,
    pub(crate) len_bytes: u64,
    pub(crate) crc: u32,
}

impl Part {
    fn end_bytes(self) -> Option<u64> {
        self.offset_bytes.checked_add(self.len_bytes).filter(|_| self.len_bytes <= PART_MAX_BYTES)
    }
}

/// What the last bytes of a run say of the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) index: Part,
    pub(crate) filter: Part,
    pub(crate) block_count: u32,
    pub(crate) rows: u64,
    pub(crate) tombstones: u64,
    pub(crate) versions: RangeInclusive<u64>,
}

impl Footer {
    /// The encoded form for a footer at `offset_bytes` of `volume`.
    pub(crate) fn encode(&self, volume: VolumeId, offset_bytes: u64, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&volume.0.to_le_bytes());
        for part in [self.index, self.filter] {
            out.extend_from_slice(&part.offset_bytes.to_le_bytes());
            out.extend_from_slice(&part.len_bytes.to_le_bytes());
            out.extend_from_slice(&part.crc.to_le_bytes());
        }
        out.extend_from_slice(&self.block_count.to_le_bytes());
        for number in [self.rows, self.tombstones, *self.versions.start(), *self.versions.end()] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&[0; 4]);
        let crc = checksum(volume, offset_bytes, &out[begin..]);
        out.extend_from_slice(&crc.to_le_bytes());
        assert_eq!(out.len() - begin, FOOTER_BYTES);
    }

    /// Decodes the footer at `offset_bytes`; the sentence says what is wrong.
    pub(crate) fn decode(bytes: &[u8], volume: VolumeId, offset_bytes: u64) -> Result<Footer, &'static str> {
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or("the footer is cut short")?;
        if checksum(volume, offset_bytes, body) != u32::from_le_bytes(*crc) {
            return Err("the footer does not match its checksum");
        }
        Footer::decode_body(body, volume, offset_bytes).ok_or("the footer has a field outside its bounds")
    }

    fn decode_body(body: &[u8], volume: VolumeId, offset_bytes: u64) -> Option<Footer> {
        let mut fields = Fields(body);
        let known = fields.array()? == MAGIC && fields.u32()? == FORMAT_VERSION && fields.u64()? == volume.0;
        let index = decode_part(&mut fields)?;
        let filter = decode_part(&mut fields)?;
        let block_count = fields.u32()?;
        let (rows, tombstones) = (fields.u64()?, fields.u64()?);
        let versions = fields.u64()?..=fields.u64()?;
        let zero = fields.array()? == [0u8; 4] && fields.0.is_empty();
        let adjoin = index.end_bytes()? == filter.offset_bytes && filter.end_bytes()? == offset_bytes;
        let counted = rows > 0 && tombstones <= rows && block_count > 0 && !versions.is_empty();
        (known && zero && adjoin && counted).then_some(Footer {
            index,
            filter,
            block_count,
            rows,
            tombstones,
            versions,
        })
    }
}

fn decode_part(fields: &mut Fields<'_>) -> Option<Part> {
    Some(Part { offset_bytes: fields.u64()?, len_bytes: fields.u64()?, crc: fields.u32()? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_footer_reads_back_only_in_its_own_place_and_with_every_bit_right() {
        let footer = Footer {
            index: Part { offset_bytes: 100, len_bytes: 20, crc: 1 },
            filter: Part { offset_bytes: 120, len_bytes: 32, crc: 2 },
            block_count: 1,
            rows: 3,
            tombstones: 1,
            versions: 5..=9,
        };
        let mut bytes = Vec::new();
        footer.encode(VolumeId(7), 152, &mut bytes);
        assert_eq!(Footer::decode(&bytes, VolumeId(7), 152).unwrap(), footer);
        assert!(Footer::decode(&bytes, VolumeId(8), 152).is_err());
        assert!(Footer::decode(&bytes, VolumeId(7), 153).is_err());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Footer::decode(&flipped, VolumeId(7), 152).is_err(), "bit {bit}");
        }
    }
}
