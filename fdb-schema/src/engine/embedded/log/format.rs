//! The bytes of log files: their names, the head with the manifest, and the records.
//! Invariants: heads and records are whole sectors; a record's CRC covers pool, term, file number, sequence number and
//! the CRC of what precedes it, so neither stale bytes of a recycled file nor a record of another term ever parse;
//! the same file has the same bytes on every member; decoding never panics.
//!
//! File `log/TTTTTTTTTTTTTTTT-NNNNNNNNNNNNNNNN`: term and file number, 16 hex digits each; head | records | zeros or
//! stale bytes. All integers little-endian.
//! Head: magic "BASALTLG" | format version u32 | CRC32C u32 | pool u128 | term u64 | file number u64 |
//! first sequence u64 | keep-from sequence u64 | previous CRC u32 | has manifest u32 (0 or 1) | manifest length u64 |
//! manifest CRC u32 | 36 zero bytes to 120 | manifest | zeros to a sector. The head CRC covers bytes 16 to 120.
//! Record: magic "BREC" | payload length u32 | pool u128 | term u64 | file number u64 | sequence u64 |
//! previous CRC u32 | CRC32C u32 | 8 zero bytes to 64 | payload | zeros to a sector. The CRC covers all of it but
//! itself. The previous CRC of a file's first record is the CRC of its head; a head's previous CRC is that of the
//! last record (or head) of the file before it in the same term, 0 if there is none.

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use shardstore_format::PoolId;
use shardstore_reactor::SECTOR_BYTES;

use crate::engine::embedded::tree::MANIFEST_MAX_BYTES;

/// The longest payload of a record: a transaction is at most 10 MB, and a batch takes what waits.
pub const RECORD_MAX_BYTES: usize = 32 * 1024 * 1024;
/// The directory of log files on each drive.
pub(crate) const LOG_DIR: &str = "log";
/// The fixed part of a head.
const HEAD_FIXED_BYTES: usize = 120;
/// The part of a record before its payload.
pub(crate) const RECORD_HEADER_BYTES: usize = 64;
const FORMAT_VERSION: u32 = 1;
const HEAD_MAGIC: [u8; 8] = *b"BASALTLG";
const RECORD_MAGIC: [u8; 4] = *b"BREC";
/// Where the head's CRC lies, and where what it covers begins.
const HEAD_CRC_AT: usize = 12;
const HEAD_COVERED_AT: usize = 16;
/// Where a record's CRC lies.
const RECORD_CRC_AT: usize = 52;

const _: () = assert!(HEAD_FIXED_BYTES <= SECTOR_BYTES);
const _: () = assert!(RECORD_HEADER_BYTES <= SECTOR_BYTES);
const _: () = assert!(RECORD_CRC_AT + 4 <= RECORD_HEADER_BYTES);

/// Terms, file numbers and sequence numbers read from a drive are below this, so that the next one exists.
pub(crate) const NUMBER_END: u64 = 1 << 62;

/// A log file: its term and its number, which increases within and across terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileId {
    pub(crate) term: u64,
    pub(crate) number: u64,
}

impl FileId {
    pub(crate) fn path(self) -> String {
        format!("{LOG_DIR}/{:016x}-{:016x}", self.term, self.number)
    }

    /// `None`: not the name of a log file.
    pub(crate) fn parse(name: &str) -> Option<FileId> {
        let (term, number) = name.split_once('-')?;
        let hex = |digits: &str| {
            let plain = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
        };
        let id = FileId { term: hex(term)?, number: hex(number)? };
        let bounded = id.term < NUMBER_END && id.number < NUMBER_END;
        (bounded && id.path() == format!("{LOG_DIR}/{name}")).then_some(id)
    }
}

/// Which file of which pool bytes belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileAddress {
    pub(crate) pool: PoolId,
    pub(crate) file: FileId,
}

/// What a file begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The sequence number of the first record of this file.
    pub(crate) first_sequence: u64,
    /// Records from here on are needed; those below `first_sequence` lie in earlier files.
    pub(crate) keep_from_sequence: u64,
    /// The CRC of what precedes this file in its term.
    pub(crate) previous_crc: u32,
    pub(crate) manifest: Option<Bytes>,
}

/// The fixed part of a head, decoded: enough to know how long the head is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeadFixed {
    pub(crate) crc: u32,
    head: Head,
    manifest_len: Option<usize>,
    manifest_crc: u32,
}

impl Head {
    /// The encoded head, whole sectors, and its CRC.
    pub(crate) fn encode(&self, address: FileAddress) -> (Vec<u8>, u32) {
        let manifest = self.manifest.as_deref().unwrap_or_default();
        assert!(manifest.len() <= MANIFEST_MAX_BYTES);
        assert!(self.keep_from_sequence <= self.first_sequence);
        let mut out = Vec::with_capacity(head_bytes(manifest.len()));
        out.extend_from_slice(&HEAD_MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&address.pool.0.to_le_bytes());
        for number in [address.file.term, address.file.number, self.first_sequence, self.keep_from_sequence] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.previous_crc.to_le_bytes());
        out.extend_from_slice(&u32::from(self.manifest.is_some()).to_le_bytes());
        out.extend_from_slice(&(manifest.len() as u64).to_le_bytes());
        out.extend_from_slice(&crc32c(&[manifest]).to_le_bytes());
        out.resize(HEAD_FIXED_BYTES, 0);
        let crc = crc32c(&[&out[HEAD_COVERED_AT..]]);
        out[HEAD_CRC_AT..HEAD_COVERED_AT].copy_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(manifest);
        out.resize(out.len().next_multiple_of(SECTOR_BYTES), 0);
        (out, crc)
    }
}

fn head_bytes(manifest_len: usize) -> usize {
    (HEAD_FIXED_BYTES + manifest_len).next_multiple_of(SECTOR_BYTES)
}

impl HeadFixed {
    /// Decodes the first sector of a file; `None` if it is not the head of this very file.
    pub(crate) fn decode(sector: &[u8], address: FileAddress) -> Option<HeadFixed> {
        let fixed = sector.first_chunk::<HEAD_FIXED_BYTES>()?;
        let crc = u32_at(fixed, HEAD_CRC_AT);
        if fixed[..8] != HEAD_MAGIC || u32_at(fixed, 8) != FORMAT_VERSION {
            return None;
        }
        if crc32c(&[&fixed[HEAD_COVERED_AT..]]) != crc || !belongs(fixed, 16, address) {
            return None;
        }
        let (first_sequence, keep_from_sequence) = (u64_at(fixed, 48), u64_at(fixed, 56));
        let manifest_len =
            usize::try_from(u64_at(fixed, 72)).ok().filter(|&len| len <= MANIFEST_MAX_BYTES)?;
        let manifest_len = match (u32_at(fixed, 68), manifest_len) {
            (0, 0) => None,
            (1, len) => Some(len),
            _ => return None,
        };
        let zeros = fixed[84..].iter().all(|&byte| byte == 0);
        if !zeros
            || first_sequence == 0
            || first_sequence >= NUMBER_END
            || keep_from_sequence > first_sequence
        {
            return None;
        }
        let head =
            Head { first_sequence, keep_from_sequence, previous_crc: u32_at(fixed, 64), manifest: None };
        Some(HeadFixed { crc, head, manifest_len, manifest_crc: u32_at(fixed, 80) })
    }

    /// Length of the whole head in the file.
    pub(crate) fn head_bytes(&self) -> usize {
        head_bytes(self.manifest_len.unwrap_or(0))
    }

    /// Decodes the whole head, of [`HeadFixed::head_bytes`]; `None` if the manifest is damaged.
    pub(crate) fn finish(self, bytes: &[u8]) -> Option<Head> {
        let manifest_end = HEAD_FIXED_BYTES + self.manifest_len.unwrap_or(0);
        let manifest = bytes.get(HEAD_FIXED_BYTES..manifest_end)?;
        let zeros = bytes.get(manifest_end..self.head_bytes())?.iter().all(|&byte| byte == 0);
        if crc32c(&[manifest]) != self.manifest_crc || !zeros {
            return None;
        }
        let manifest = self.manifest_len.map(|_| Bytes::copy_from_slice(manifest));
        Some(Head { manifest, ..self.head })
    }
}

/// Whether a first sector shows that this file was never begun: zeros, or the intact head of the file that it was
/// recycled from. Anything else may be a damaged head.
pub(crate) fn is_untouched(sector: &[u8], address: FileAddress) -> bool {
    let written = sector.get(..HEAD_FIXED_BYTES).filter(|fixed| fixed.iter().any(|&byte| byte != 0));
    let Some(fixed) = written else { return true };
    let other = FileId { term: u64_at(fixed, 32), number: u64_at(fixed, 40) };
    let intact = HeadFixed::decode(sector, FileAddress { pool: address.pool, file: other }).is_some();
    intact && other != address.file
}

/// Encodes a record's header for `payload`, in parts; returns it, the record's CRC and the zeros that follow.
pub(crate) fn encode_record(
    address: FileAddress,
    sequence: u64,
    previous_crc: u32,
    payload: &[Bytes],
) -> ([u8; RECORD_HEADER_BYTES], u32, usize) {
    let len = payload_len(payload);
    assert!(len <= RECORD_MAX_BYTES);
    let mut header = [0; RECORD_HEADER_BYTES];
    header[..4].copy_from_slice(&RECORD_MAGIC);
    header[4..8].copy_from_slice(&u32::try_from(len).expect("at most 32 MiB").to_le_bytes());
    header[8..24].copy_from_slice(&address.pool.0.to_le_bytes());
    header[24..32].copy_from_slice(&address.file.term.to_le_bytes());
    header[32..40].copy_from_slice(&address.file.number.to_le_bytes());
    header[40..48].copy_from_slice(&sequence.to_le_bytes());
    header[48..52].copy_from_slice(&previous_crc.to_le_bytes());
    let padding = record_bytes(len) - RECORD_HEADER_BYTES - len;
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(&header[..RECORD_CRC_AT]);
    digest.update(&header[RECORD_CRC_AT + 4..]);
    payload.iter().for_each(|part| digest.update(part));
    digest.update(&ZEROS[..padding]);
    let crc = low_u32(digest.finalize());
    header[RECORD_CRC_AT..RECORD_CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    (header, crc, padding)
}

/// Zeros that pad a record to a sector.
pub(crate) static ZEROS: [u8; SECTOR_BYTES] = [0; SECTOR_BYTES];

pub(crate) fn payload_len(payload: &[Bytes]) -> usize {
    payload.iter().map(Bytes::len).sum()
}

/// Length of a record in the file.
pub(crate) fn record_bytes(payload_len: usize) -> usize {
    (RECORD_HEADER_BYTES + payload_len).next_multiple_of(SECTOR_BYTES)
}

/// A record's header, not yet checked against its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) sequence: u64,
    pub(crate) previous_crc: u32,
    pub(crate) crc: u32,
    payload_len: usize,
}

impl RecordHeader {
    /// Decodes the first bytes of a sector; `None` if no record of this file begins there.
    pub(crate) fn decode(sector: &[u8], address: FileAddress) -> Option<RecordHeader> {
        let header = sector.first_chunk::<RECORD_HEADER_BYTES>()?;
        let payload_len = usize::try_from(u32_at(header, 4)).ok()?;
        let bounded = u64_at(header, 40) < NUMBER_END;
        let ours = header[..4] == RECORD_MAGIC && belongs(header, 8, address) && bounded;
        (ours && payload_len <= RECORD_MAX_BYTES).then(|| RecordHeader {
            sequence: u64_at(header, 40),
            previous_crc: u32_at(header, 48),
            crc: u32_at(header, RECORD_CRC_AT),
            payload_len,
        })
    }

    /// Length of the whole record in the file.
    pub(crate) fn record_bytes(&self) -> usize {
        record_bytes(self.payload_len)
    }

    /// The payload within the whole record's bytes; `None` if the CRC does not match.
    pub(crate) fn payload<'a>(&self, record: &'a [u8]) -> Option<&'a [u8]> {
        let record = record.get(..self.record_bytes())?;
        let (before, after) = (&record[..RECORD_CRC_AT], &record[RECORD_CRC_AT + 4..]);
        let payload = &record[RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + self.payload_len];
        (crc32c(&[before, after]) == self.crc).then_some(payload)
    }
}

/// Pool, term and file number at `at`.
fn belongs(bytes: &[u8], at: usize, address: FileAddress) -> bool {
    bytes[at..at + 16] == address.pool.0.to_le_bytes()
        && u64_at(bytes, at + 16) == address.file.term
        && u64_at(bytes, at + 24) == address.file.number
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |field| u32::from_le_bytes(*field))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |field| u64::from_le_bytes(*field))
}

fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    parts.iter().for_each(|part| digest.update(part));
    low_u32(digest.finalize())
}

/// CRC32C of one slice.
pub(crate) fn crc32c_of(bytes: &[u8]) -> u32 {
    crc32c(&[bytes])
}

fn low_u32(wide: u64) -> u32 {
    u32::try_from(wide & 0xffff_ffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const ADDRESS: FileAddress = FileAddress { pool: PoolId(7), file: FileId { term: 3, number: 9 } };

    fn other_addresses() -> [FileAddress; 3] {
        let file = |term, number| FileId { term, number };
        [
            FileAddress { pool: PoolId(8), ..ADDRESS },
            FileAddress { file: file(4, 9), ..ADDRESS },
            FileAddress { file: file(3, 8), ..ADDRESS },
        ]
    }

    #[test]
    fn file_names_read_back_and_strangers_are_not_log_files() {
        let id = FileId { term: 0x1f, number: NUMBER_END - 1 };
        assert_eq!(id.path(), "log/000000000000001f-3fffffffffffffff");
        assert_eq!(FileId::parse("000000000000001f-3fffffffffffffff"), Some(id));
        for name in [
            "",
            "x",
            "1f-2",
            "000000000000001F-0000000000000001",
            "+00000000000001f-0000000000000001",
            "ffffffffffffffff-0000000000000001",
        ] {
            assert_eq!(FileId::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_head_reads_back_only_in_its_own_file_and_with_every_bit_right() {
        let manifest = Some(Bytes::from(vec![5; 5_000]));
        let head = Head { first_sequence: 12, keep_from_sequence: 3, previous_crc: 99, manifest };
        let (bytes, crc) = head.encode(ADDRESS);
        assert_eq!(bytes.len(), 2 * SECTOR_BYTES);
        let decode = |bytes: &[u8], address| {
            let fixed = HeadFixed::decode(&bytes[..SECTOR_BYTES], address)?;
            assert_eq!((fixed.crc, fixed.head_bytes()), (crc, bytes.len()));
            fixed.finish(bytes)
        };
        assert_eq!(decode(&bytes, ADDRESS), Some(head));
        assert!(!is_untouched(&bytes, ADDRESS));
        assert!(is_untouched(&bytes, FileAddress { file: FileId { term: 3, number: 10 }, ..ADDRESS }));
        assert!(is_untouched(&[0; SECTOR_BYTES], ADDRESS));
        for address in other_addresses() {
            assert_eq!(decode(&bytes, address), None);
        }
        for bit in (0..bytes.len() * 8).step_by(3) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped, ADDRESS).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn a_record_reads_back_only_in_its_own_file_and_with_every_bit_right() {
        let payload = [Bytes::from_static(b"one"), Bytes::from(vec![2; 100])];
        let (header, crc, padding) = encode_record(ADDRESS, 5, 77, &payload);
        let mut bytes = header.to_vec();
        payload.iter().for_each(|part| bytes.extend_from_slice(part));
        bytes.extend_from_slice(&ZEROS[..padding]);
        let decode = |bytes: &[u8], address| {
            let header = RecordHeader::decode(bytes, address)?;
            let payload = header.payload(bytes)?.to_vec();
            Some((header.sequence, header.previous_crc, payload))
        };
        let whole = payload.concat();
        assert_eq!(decode(&bytes, ADDRESS), Some((5, 77, whole)));
        assert_eq!(RecordHeader::decode(&bytes, ADDRESS).unwrap().crc, crc);
        for address in other_addresses() {
            assert_eq!(decode(&bytes, address), None);
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped, ADDRESS), None, "bit {bit}");
        }
    }
}
