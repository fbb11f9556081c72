//! The volume record: which drives hold a volume's segments, and what state the volume is in.
//! Invariants: segments lie on distinct drives; there are `k + m` of them; shard index is position.

use crate::id::{DriveId, VolumeId};

/// The unit of direct I/O.
pub const SECTOR_BYTES: u64 = 4096;
/// The longest page on disk, header and payload.
pub const PAGE_MAX_BYTES: u64 = 64 * 1024;
/// The header of every page.
pub const PAGE_HEADER_BYTES: u64 = 64;
/// The most payload that a page holds.
pub const PAGE_PAYLOAD_MAX_BYTES: u64 = PAGE_MAX_BYTES - PAGE_HEADER_BYTES;
/// Length of a full segment.
pub const SEGMENT_BYTES: u64 = 256 * 1024 * 1024;
/// Segments grow by this much at a time, so that a fresh pool stays small.
pub const GROWTH_STEP_BYTES: u64 = 4 * 1024 * 1024;

const _: () = assert!(SEGMENT_BYTES.is_multiple_of(GROWTH_STEP_BYTES));
const _: () = assert!(GROWTH_STEP_BYTES.is_multiple_of(PAGE_MAX_BYTES));

/// Redundancy: k data shards and m parity shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Profile {
    /// Data shards, at least 1.
    pub k: u8,
    /// Parity shards; any m shards may be lost.
    pub m: u8,
}

/// What a volume is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VolumeClass {
    /// Small extents that share stripes, over space written before.
    Packed,
    /// Runs of whole stripes, over fallocated space.
    Large,
    /// One immutable run of the metadata tree; named by the manifest, not by a volume row.
    Run,
}

/// Where a volume is in its life. Reclaimed volumes have no record once their files are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VolumeState {
    /// A core may append.
    Open,
    /// Nothing is appended ever again; `end_sector` is one past the last sector that may hold live bytes.
    Sealed {
        /// One past the last sector in use, in every segment.
        end_sector: u32,
    },
    /// No live bytes, decided by a committed transaction; the files may be removed.
    Reclaimed,
}

/// What metadata knows of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeRecord {
    /// Its identity.
    pub id: VolumeId,
    /// Its redundancy.
    pub profile: Profile,
    /// What it is written for.
    pub class: VolumeClass,
    /// Its state.
    pub state: VolumeState,
    /// The drive of each shard, data first: `k + m` distinct drives.
    pub segments: Vec<DriveId>,
}

/// Why bytes are not a volume record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeDecodeError {
    /// Fewer bytes than the record has.
    Truncated,
    /// A field is outside its bounds, or bytes follow the record.
    Invalid,
}

impl std::fmt::Display for VolumeDecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            VolumeDecodeError::Truncated => "volume record is cut short",
            VolumeDecodeError::Invalid => "volume record has a field outside its bounds",
        })
    }
}

impl std::error::Error for VolumeDecodeError {}

const RECORD_VERSION: u8 = 1;
/// version, id, k, m, class, state, end sector, segment count.
const FIXED_BYTES: usize = 1 + 8 + 1 + 1 + 1 + 1 + 4 + 1;

impl VolumeRecord {
    /// The encoded form: `FIXED_BYTES`, then 16 bytes a segment.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED_BYTES + 16 * self.segments.len());
        out.push(RECORD_VERSION);
        out.extend_from_slice(&self.id.0.to_le_bytes());
        out.push(self.profile.k);
        out.push(self.profile.m);
        out.push(match self.class {
            VolumeClass::Packed => 1,
            VolumeClass::Large => 2,
            VolumeClass::Run => 3,
        });
        let (state, end_sector) = match self.state {
            VolumeState::Open => (1u8, 0u32),
            VolumeState::Sealed { end_sector } => (2, end_sector),
            VolumeState::Reclaimed => (3, 0),
        };
        out.push(state);
        out.extend_from_slice(&end_sector.to_le_bytes());
        out.push(u8::try_from(self.segments.len()).expect("k + m <= 32"));
        for drive in &self.segments {
            out.extend_from_slice(&drive.0.to_le_bytes());
        }
        out
    }

    /// Decodes a whole record.
    ///
    /// # Errors
    /// [`VolumeDecodeError`]: the row or manifest that holds it is damaged or from the future.
    pub fn decode(bytes: &[u8]) -> Result<VolumeRecord, VolumeDecodeError> {
        let record = VolumeRecord::decode_of_run(bytes)?;
        if record.doubled_shards().is_empty() { Ok(record) } else { Err(VolumeDecodeError::Invalid) }
    }

    /// As [`VolumeRecord::decode`] for metadata runs, of which two shards may lie on one drive: repair once moved them
    /// so. Both are whole there; [`VolumeRecord::doubled_shards`] are to be moved.
    ///
    /// # Errors
    /// As [`VolumeRecord::decode`].
    pub fn decode_of_run(bytes: &[u8]) -> Result<VolumeRecord, VolumeDecodeError> {
        let (fixed, rest) = bytes.split_first_chunk::<FIXED_BYTES>().ok_or(VolumeDecodeError::Truncated)?;
        let [version, id @ .., k, m, class, state, e0, e1, e2, e3, count] = *fixed;
        let end_sector = u32::from_le_bytes([e0, e1, e2, e3]);
        let class = match class {
            1 => VolumeClass::Packed,
            2 => VolumeClass::Large,
            3 => VolumeClass::Run,
            _ => return Err(VolumeDecodeError::Invalid),
        };
        let state = match (state, end_sector) {
            (1, 0) => VolumeState::Open,
            (2, end_sector) => VolumeState::Sealed { end_sector },
            (3, 0) => VolumeState::Reclaimed,
            _ => return Err(VolumeDecodeError::Invalid),
        };
        let shards_agree = usize::from(count) == usize::from(k) + usize::from(m);
        if version != RECORD_VERSION || k == 0 || count > 32 || !shards_agree {
            return Err(VolumeDecodeError::Invalid);
        }
        if rest.len() != usize::from(count) * 16 {
            return Err(VolumeDecodeError::Truncated);
        }
        let (drives, _) = rest.as_chunks::<16>();
        let segments: Vec<DriveId> =
            drives.iter().map(|drive| DriveId(u128::from_le_bytes(*drive))).collect();
        let id = VolumeId(u64::from_le_bytes(id));
        Ok(VolumeRecord { id, profile: Profile { k, m }, class, state, segments })
    }

    /// Shards on a drive that holds an earlier shard of the volume: none in what this version writes.
    pub fn doubled_shards(&self) -> Vec<u8> {
        let is_doubled = |place: usize| self.segments[..place].contains(&self.segments[place]);
        let places = (0..self.segments.len()).filter(|place| is_doubled(*place));
        places.filter_map(|place| u8::try_from(place).ok()).collect()
    }
}
