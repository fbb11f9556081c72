//! The file of a metadata dump: its bytes out and in.
//! Invariants: a dump that was cut off, changed in any bit, or put together of two, is refused; rows come in the order of
//! their keys, each once; memory is one group of rows.
//! Not here: where rows come from or go (`fdb_schema::schema`), who asks. Bytes: docs/format.md.

#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;

use std::io::Read;

use bytes::Bytes;
use fdb_schema::{KEY_MAX_BYTES, Row, VALUE_MAX_BYTES};
use shardstore_format::{PoolId, Profile, VolumeId};

const MAGIC: &[u8; 8] = b"BASALTMD";
const VERSION: u32 = 1;
/// Magic, version, k, m, two zeros, pool, dump, made at, next volume, CRC32C.
const HEAD_BYTES: usize = 8 + 4 + 4 + 16 + 16 + 8 + 8 + 4;
/// Length, rows, number, CRC32C.
const GROUP_HEAD_BYTES: usize = 4 + 4 + 8 + 4;
/// Groups are cut at about this much, and one more read of rows goes in.
pub(crate) const GROUP_BYTES: usize = 1024 * 1024;
/// Longer groups are damage: 128 rows of the largest value come on top.
const GROUP_MAX_BYTES: u32 = 16 * 1024 * 1024;
/// Of a row beside key and value.
const ROW_HEAD_BYTES: usize = 2 + 4;

const _: () = assert!(GROUP_BYTES + 128 * (VALUE_MAX_BYTES + KEY_MAX_BYTES) < GROUP_MAX_BYTES as usize);

/// What a dump is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DumpHead {
    /// The deployment.
    pub pool: PoolId,
    /// Its redundancy.
    pub profile: Profile,
    /// The dump's own identity: 128 random bits.
    pub dump: [u8; 16],
    /// When it was made, in milliseconds since 1970.
    pub made_unix_ms: u64,
    /// The first volume id that was not given out.
    pub next_volume: VolumeId,
}

/// Why a file is no dump that can be used.
#[derive(Debug)]
pub enum DumpError {
    /// It cannot be read.
    Device(std::io::Error),
    /// It does not begin as one.
    NotADump,
    /// Written by a later version of this program.
    FutureVersion(u32),
    /// It ends before its end.
    CutShort {
        /// Groups that were whole.
        groups: u64,
    },
    /// Bytes were changed.
    Damaged {
        /// Groups that were whole.
        groups: u64,
    },
}

impl std::fmt::Display for DumpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DumpError::Device(source) => write!(f, "it cannot be read: {source}"),
            DumpError::NotADump => f.write_str("it is no metadata dump"),
            DumpError::FutureVersion(version) => {
                write!(
                    f,
                    "it is of version {version}, which a later version of basalt writes: use that version"
                )
            }
            DumpError::CutShort { groups } => {
                write!(f, "it ends after {groups} groups of rows and before its end: make another")
            }
            DumpError::Damaged { groups } => {
                write!(f, "it is damaged after {groups} groups of rows: take another copy of it")
            }
        }
    }
}

impl std::error::Error for DumpError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DumpError::Device(source) => Some(source),
            _ => None,
        }
    }
}

fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    parts.iter().for_each(|part| digest.update(part));
    u32::try_from(digest.finalize()).expect("a CRC of 32 bits")
}

impl DumpHead {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[self.profile.k, self.profile.m, 0, 0]);
        out.extend_from_slice(&self.pool.0.to_le_bytes());
        out.extend_from_slice(&self.dump);
        out.extend_from_slice(&self.made_unix_ms.to_le_bytes());
        out.extend_from_slice(&self.next_volume.0.to_le_bytes());
        let crc = crc32c(&[&out]);
        out.extend_from_slice(&crc.to_le_bytes());
        assert_eq!(out.len(), HEAD_BYTES);
        out
    }

    fn decode(bytes: &[u8; HEAD_BYTES]) -> Result<DumpHead, DumpError> {
        let mut from = Fields(bytes);
        if from.array::<8>() != *MAGIC {
            return Err(DumpError::NotADump);
        }
        let version = from.u32();
        if version != VERSION {
            return Err(DumpError::FutureVersion(version));
        }
        let damaged = DumpError::Damaged { groups: 0 };
        let (body, crc) = bytes.split_at(HEAD_BYTES - 4);
        if crc != crc32c(&[body]).to_le_bytes() {
            return Err(damaged);
        }
        let [k, m, zero, also_zero] = from.array::<4>();
        if k == 0 || zero != 0 || also_zero != 0 {
            return Err(damaged);
        }
        Ok(DumpHead {
            profile: Profile { k, m },
            pool: PoolId(u128::from_le_bytes(from.array())),
            dump: from.array(),
            made_unix_ms: from.u64(),
            next_volume: VolumeId(from.u64()),
        })
    }
}

/// Fixed fields, one after the other; zeros past the end.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk::<N>() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => [0; N],
        }
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }
}

/// Makes a dump, piece by piece.
pub(crate) struct DumpWriter {
    head: DumpHead,
    groups: u64,
    rows: u64,
}

impl DumpWriter {
    pub(crate) fn new(head: DumpHead) -> DumpWriter {
        DumpWriter { head, groups: 0, rows: 0 }
    }

    /// The beginning of the file.
    pub(crate) fn head(&self) -> Vec<u8> {
        self.head.encode()
    }

    /// The next group; its rows follow those before in the order of their keys.
    pub(crate) fn group(&mut self, rows: &[Row]) -> Vec<u8> {
        assert!(!rows.is_empty(), "an empty group is the end");
        let mut payload = Vec::with_capacity(GROUP_BYTES);
        for row in rows {
            let key_len = u16::try_from(row.key.len()).expect("the engine's limit of a key");
            let value_len = u32::try_from(row.value.len()).expect("the engine's limit of a value");
            payload.extend_from_slice(&key_len.to_le_bytes());
            payload.extend_from_slice(&value_len.to_le_bytes());
            payload.extend_from_slice(&row.key);
            payload.extend_from_slice(&row.value);
        }
        let out = self.sealed(&payload, rows.len(), self.groups);
        self.groups += 1;
        self.rows += rows.len() as u64;
        out
    }

    /// The end of the file.
    pub(crate) fn end(&self) -> Vec<u8> {
        self.sealed(&self.rows.to_le_bytes(), 0, self.groups)
    }

    fn sealed(&self, payload: &[u8], rows: usize, number: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(GROUP_HEAD_BYTES + payload.len());
        let len = u32::try_from(payload.len()).expect("groups are cut far below");
        let rows = u32::try_from(rows).expect("fewer rows than bytes");
        assert!(len <= GROUP_MAX_BYTES);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&rows.to_le_bytes());
        out.extend_from_slice(&number.to_le_bytes());
        let crc = crc32c(&[&self.head.dump, &out, payload]);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(payload);
        out
    }
}

/// Reads a dump, group by group.
pub struct DumpReader<R> {
    source: R,
    head: DumpHead,
    groups: u64,
    rows: u64,
    last_key: Option<Bytes>,
    is_ended: bool,
}

impl<R: Read> DumpReader<R> {
    /// Reads the beginning.
    ///
    /// # Errors
    /// [`DumpError`].
    pub fn open(mut source: R) -> Result<DumpReader<R>, DumpError> {
        let mut bytes = [0; HEAD_BYTES];
        fill(&mut source, &mut bytes).map_err(|error| error.unwrap_or(DumpError::NotADump))?;
        let head = DumpHead::decode(&bytes)?;
        Ok(DumpReader { source, head, groups: 0, rows: 0, last_key: None, is_ended: false })
    }

    /// What the dump is of.
    pub fn head(&self) -> &DumpHead {
        &self.head
    }

    /// Rows read so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The next rows; `None` at the end, which is proven to be the end.
    ///
    /// # Errors
    /// [`DumpError`].
    pub fn next_group(&mut self) -> Result<Option<Vec<Row>>, DumpError> {
        if self.is_ended {
            return Ok(None);
        }
        let groups = self.groups;
        let cut_short = |error: Option<DumpError>| error.unwrap_or(DumpError::CutShort { groups });
        let damaged = || DumpError::Damaged { groups };
        let mut group_head = [0; GROUP_HEAD_BYTES];
        fill(&mut self.source, &mut group_head).map_err(cut_short)?;
        let mut from = Fields(&group_head);
        let (len, row_count, number, crc) = (from.u32(), from.u32(), from.u64(), from.u32());
        if len > GROUP_MAX_BYTES || number != groups {
            return Err(damaged());
        }
        let mut payload = vec![0; usize::try_from(len).map_err(|_| damaged())?];
        fill(&mut self.source, &mut payload).map_err(cut_short)?;
        if crc != crc32c(&[&self.head.dump, &group_head[..GROUP_HEAD_BYTES - 4], &payload]) {
            return Err(damaged());
        }
        if row_count == 0 {
            let is_whole = payload == self.rows.to_le_bytes();
            let is_last = matches!(fill(&mut self.source, &mut [0; 1]), Err(None));
            self.is_ended = true;
            return if is_whole && is_last { Ok(None) } else { Err(damaged()) };
        }
        let rows = decode_rows(Bytes::from(payload), row_count).ok_or_else(damaged)?;
        let firsts = self.last_key.iter().chain(rows.iter().map(|row| &row.key));
        if !firsts.is_sorted_by(|left, right| left < right) {
            return Err(damaged());
        }
        self.last_key = rows.last().map(|row| row.key.clone());
        self.groups += 1;
        self.rows += rows.len() as u64;
        Ok(Some(rows))
    }
}

/// Fills a buffer; `None` for an error if the source ends before.
fn fill(source: &mut impl Read, bytes: &mut [u8]) -> Result<(), Option<DumpError>> {
    source.read_exact(bytes).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => None,
        _ => Some(DumpError::Device(error)),
    })
}

fn decode_rows(payload: Bytes, count: u32) -> Option<Vec<Row>> {
    let mut rest = payload;
    let mut rows = Vec::new();
    for _ in 0..count {
        if rest.len() < ROW_HEAD_BYTES {
            return None;
        }
        let mut from = Fields(&rest);
        let key_len = usize::from(u16::from_le_bytes(from.array()));
        let value_len = usize::try_from(from.u32()).ok()?;
        if key_len > KEY_MAX_BYTES || value_len > VALUE_MAX_BYTES {
            return None;
        }
        let end = ROW_HEAD_BYTES + key_len + value_len;
        if rest.len() < end {
            return None;
        }
        let row = rest.split_to(end);
        let key = row.slice(ROW_HEAD_BYTES..ROW_HEAD_BYTES + key_len);
        rows.push(Row { key, value: row.slice(ROW_HEAD_BYTES + key_len..) });
    }
    rest.is_empty().then_some(rows)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn head() -> DumpHead {
        DumpHead {
            pool: PoolId(7),
            profile: Profile { k: 4, m: 2 },
            dump: [9; 16],
            made_unix_ms: 1_790_000_000_000,
            next_volume: VolumeId(77),
        }
    }

    fn rows(from: u32, count: u32) -> Vec<Row> {
        let row = |n: u32| Row {
            key: Bytes::copy_from_slice(&n.to_be_bytes()),
            value: Bytes::from(vec![7; usize::try_from(n % 50).unwrap()]),
        };
        (from..from + count).map(row).collect()
    }

    fn file() -> Vec<u8> {
        let mut writer = DumpWriter::new(head());
        let mut file = writer.head();
        for from in [0, 10, 20] {
            file.extend(writer.group(&rows(from, 10)));
        }
        file.extend(writer.end());
        file
    }

    fn read(file: &[u8]) -> Result<Vec<Row>, DumpError> {
        let mut reader = DumpReader::open(file)?;
        let mut all = Vec::new();
        while let Some(rows) = reader.next_group()? {
            all.extend(rows);
        }
        assert_eq!(reader.rows(), all.len() as u64);
        Ok(all)
    }

    #[test]
    fn a_dump_reads_back_and_an_empty_one_too() {
        assert_eq!(read(&file()).unwrap(), rows(0, 30));
        assert_eq!(*DumpReader::open(&file()[..]).unwrap().head(), head());
        let writer = DumpWriter::new(head());
        assert_eq!(read(&[writer.head(), writer.end()].concat()).unwrap(), Vec::new());
    }

    #[test]
    fn a_dump_that_is_cut_lengthened_or_changed_in_any_bit_is_refused() {
        let whole = file();
        for len in 0..whole.len() {
            assert!(read(&whole[..len]).is_err(), "cut at {len}");
        }
        assert!(read(&[&whole[..], b"x"].concat()).is_err());
        for bit in 0..whole.len() * 8 {
            let mut changed = whole.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&changed).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn groups_of_another_dump_in_another_order_or_left_out_are_refused() {
        let mut writer = DumpWriter::new(head());
        let (begin, first, second) = (writer.head(), writer.group(&rows(0, 3)), writer.group(&rows(3, 3)));
        let end = writer.end();
        assert!(read(&[&begin[..], &first, &second, &end].concat()).is_ok());
        assert!(read(&[&begin[..], &second, &first, &end].concat()).is_err());
        assert!(read(&[&begin[..], &first, &end].concat()).is_err());
        let mut other = DumpWriter::new(DumpHead { dump: [8; 16], ..head() });
        let foreign = other.group(&rows(0, 3));
        assert!(read(&[&begin[..], &foreign, &second, &end].concat()).is_err());
        let mut unsorted = DumpWriter::new(head());
        let (first, second) = (unsorted.group(&rows(5, 3)), unsorted.group(&rows(0, 3)));
        assert!(read(&[&begin[..], &first, &second, &unsorted.end()].concat()).is_err());
    }

    #[test]
    fn other_files_and_later_versions_are_told_apart() {
        assert!(matches!(read(b"PK\x03\x04"), Err(DumpError::NotADump)));
        assert!(matches!(read(&[b'x'; 500]), Err(DumpError::NotADump)));
        let mut later = file();
        later[8] = 2;
        assert!(matches!(read(&later), Err(DumpError::FutureVersion(2))));
        assert!(matches!(read(&file()[..200]), Err(DumpError::CutShort { .. })));
    }
}
