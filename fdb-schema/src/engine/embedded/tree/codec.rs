//! Small codecs shared by the parts of a run and the manifest: lengths of 7 bits a byte, checked cursors, CRC32C.
//! Invariants: decoding never panics and never reads past its slice.

use crc_fast::{CrcAlgorithm, Digest};
use shardstore_format::VolumeId;

/// CRC32C of `body`, bound to the volume and the payload offset that it belongs to.
pub(crate) fn checksum(volume: VolumeId, offset_bytes: u64, body: &[u8]) -> u32 {
    let mut address = [0u8; 16];
    address[..8].copy_from_slice(&volume.0.to_le_bytes());
    address[8..].copy_from_slice(&offset_bytes.to_le_bytes());
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(&address);
    digest.update(body);
    low_u32(digest.finalize())
}

/// The low 32 bits; a CRC32C comes in a u64.
pub(crate) fn low_u32(wide: u64) -> u32 {
    (wide & 0xffff_ffff) as u32
}

/// A length known to be under 4 GiB.
pub(crate) fn len_u32(len: usize) -> u32 {
    u32::try_from(len).expect("lengths within a run are under 4 GiB")
}

/// Appends `value` in groups of 7 bits, low first; the high bit says that more follow.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Reads what [`put_varint`] wrote at `*at` and moves past it; `None` if it is cut short or over 32 bits.
#[inline]
pub(crate) fn varint(bytes: &[u8], at: &mut usize) -> Option<u32> {
    let first = *bytes.get(*at)?;
    *at += 1;
    if first < 0x80 {
        return Some(u32::from(first));
    }
    let mut value = u32::from(first & 0x7f);
    for shift in [7u32, 14, 21, 28] {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if shift == 28 && byte > 0x0f {
            return None;
        }
        value |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Takes fields off the front of a slice.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A length of 4 bytes, then that many bytes.
    pub(crate) fn sized(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()?;
        self.bytes(usize::try_from(len).ok()?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_width_of_varint_reads_back_and_cut_short_ones_are_refused() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 1 << 21, 1 << 28, u32::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut at = 0;
            assert_eq!(varint(&out, &mut at), Some(value));
            assert_eq!(at, out.len());
            assert_eq!(varint(&out[..out.len() - 1], &mut 0), None);
        }
        assert_eq!(varint(&[0xff, 0xff, 0xff, 0xff, 0x10], &mut 0), None);
    }

    #[test]
    fn a_checksum_differs_by_place() {
        let here = checksum(VolumeId(1), 0, b"x");
        assert_ne!(here, checksum(VolumeId(2), 0, b"x"));
        assert_ne!(here, checksum(VolumeId(1), 1, b"x"));
    }
}
