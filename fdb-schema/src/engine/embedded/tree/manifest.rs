//! The manifest: which runs make up the tree, and from where the log must be replayed.
//! Invariants: encoded whole into the head of every log file; self-checking; decoding never panics and refuses what
//! breaks the rules of levels.
//! Size: a run takes 62 bytes, 16 a segment, and its two outer keys; 6 segments and keys of 60 bytes make 280 bytes,
//! so 1e8 rows of 300 bytes (450 runs of 64 MiB) make 126 kB. Bound: [`MANIFEST_MAX_BYTES`].
//! Bytes (little-endian): magic 8 | format version u32 | flushed version u64 | keep-from sequence u64 |
//! engine state (u32 length, bytes) | level count u32 | per level: run count u32, runs | CRC32C of all before, u32.
//! A run: volume record (u32 length, bytes) | payload length u64 | rows u64 | tombstones u64 | lowest version u64 |
//! highest u64 | first key (u32 length, bytes) | last key (u32 length, bytes).

use std::ops::RangeInclusive;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};
use shardstore_format::{VolumeClass, VolumeRecord};

use super::codec::{Fields, len_u32, low_u32};
use super::policy::LEVELS_MAX;
use super::run::Run;
use crate::engine::KEY_MAX_BYTES;
use crate::run_store::RunVolume;

const MAGIC: [u8; 8] = *b"BASALTMF";
const FORMAT_VERSION: u32 = 1;
/// The longest manifest: 100,000 runs (6 TiB of metadata) at 280 bytes, with room for long keys.
pub const MANIFEST_MAX_BYTES: usize = 32 * 1024 * 1024;
/// The most that the engine keeps in a manifest for itself.
pub const ENGINE_STATE_MAX_BYTES: usize = 64 * 1024;

/// A run as the manifest describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestRun {
    /// Where it lies.
    pub volume: RunVolume,
    /// Rows, tombstones included.
    pub rows: u64,
    /// Rows that say "removed".
    pub tombstones: u64,
    /// Lowest and highest commit version among the rows.
    pub versions: RangeInclusive<u64>,
    /// The lowest key.
    pub first_key: Bytes,
    /// The highest key.
    pub last_key: Bytes,
}

impl ManifestRun {
    pub(crate) fn of(run: &Run) -> ManifestRun {
        ManifestRun {
            volume: run.volume().clone(),
            rows: run.rows(),
            tombstones: run.tombstones(),
            versions: run.versions(),
            first_key: run.first_key().clone(),
            last_key: run.last_key().clone(),
        }
    }
}

/// The whole tree in one record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Every commit up to this version is in runs.
    pub flushed_version: u64,
    /// The first log record that is not wholly in runs.
    pub keep_from_sequence: u64,
    /// What the engine keeps here for itself, such as counters; at most [`ENGINE_STATE_MAX_BYTES`].
    pub engine_state: Bytes,
    /// Runs by level: level 0 newest first, deeper ones in key order.
    pub levels: Vec<Vec<ManifestRun>>,
}

/// Why bytes are not a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestError {
    /// They do not match their checksum: take another copy.
    Corrupt,
    /// A newer version of this program wrote them: start that one.
    UnknownVersion(u32),
    /// The checksum matches and a field is outside its bounds: a bug; report it.
    Invalid,
}

impl std::fmt::Display for ManifestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ManifestError::Corrupt => f.write_str("the manifest does not match its checksum"),
            ManifestError::UnknownVersion(version) => {
                write!(f, "the manifest has format {version}, which this version does not know")
            }
            ManifestError::Invalid => f.write_str("the manifest has a field outside its bounds"),
        }
    }
}

impl std::error::Error for ManifestError {}

impl Manifest {
    /// The encoded form.
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.engine_state.len() <= ENGINE_STATE_MAX_BYTES);
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&self.flushed_version.to_le_bytes());
        out.extend_from_slice(&self.keep_from_sequence.to_le_bytes());
        put_sized(&mut out, &self.engine_state);
        out.extend_from_slice(&len_u32(self.levels.len()).to_le_bytes());
        for runs in &self.levels {
            out.extend_from_slice(&len_u32(runs.len()).to_le_bytes());
            runs.iter().for_each(|run| encode_run(run, &mut out));
        }
        let crc = low_u32(checksum(CrcAlgorithm::Crc32Iscsi, &out));
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Decodes a whole manifest.
    ///
    /// # Errors
    /// [`ManifestError`]: see there.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or(ManifestError::Corrupt)?;
        if low_u32(checksum(CrcAlgorithm::Crc32Iscsi, body)) != u32::from_le_bytes(*crc) {
            return Err(ManifestError::Corrupt);
        }
        let mut fields = Fields(body);
        if fields.array() != Some(MAGIC) {
            return Err(ManifestError::Invalid);
        }
        match fields.u32() {
            Some(FORMAT_VERSION) => decode_body(&mut fields).ok_or(ManifestError::Invalid),
            Some(version) => Err(ManifestError::UnknownVersion(version)),
            None => Err(ManifestError::Invalid),
        }
    }
}

fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&len_u32(bytes.len()).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn encode_run(run: &ManifestRun, out: &mut Vec<u8>) {
    put_sized(out, &run.volume.record.encode());
    let (lowest, highest) = (*run.versions.start(), *run.versions.end());
    for number in [run.volume.len_bytes, run.rows, run.tombstones, lowest, highest] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    put_sized(out, &run.first_key);
    put_sized(out, &run.last_key);
}

fn decode_body(fields: &mut Fields<'_>) -> Option<Manifest> {
    let (flushed_version, keep_from_sequence) = (fields.u64()?, fields.u64()?);
    let engine_state = Bytes::copy_from_slice(fields.sized()?);
    let level_count = fields.u32()? as usize;
    if engine_state.len() > ENGINE_STATE_MAX_BYTES || level_count > LEVELS_MAX {
        return None;
    }
    let mut levels = Vec::with_capacity(level_count);
    for level in 0..level_count {
        let mut runs: Vec<ManifestRun> = Vec::new();
        for _ in 0..fields.u32()? {
            let run = decode_run(fields)?;
            if level > 0 && runs.last().is_some_and(|before| before.last_key >= run.first_key) {
                return None;
            }
            runs.push(run);
        }
        levels.push(runs);
    }
    let manifest = Manifest { flushed_version, keep_from_sequence, engine_state, levels };
    fields.0.is_empty().then_some(manifest)
}

fn decode_run(fields: &mut Fields<'_>) -> Option<ManifestRun> {
    let record = VolumeRecord::decode_of_run(fields.sized()?).ok()?;
    let volume = RunVolume { record, len_bytes: fields.u64()? };
    let (rows, tombstones) = (fields.u64()?, fields.u64()?);
    let versions = fields.u64()?..=fields.u64()?;
    let first_key = Bytes::copy_from_slice(fields.sized()?);
    let last_key = Bytes::copy_from_slice(fields.sized()?);
    let keys_hold =
        first_key <= last_key && last_key.len() <= KEY_MAX_BYTES && first_key.len() <= KEY_MAX_BYTES;
    let counts_hold = rows > 0 && tombstones <= rows && !versions.is_empty();
    let holds = keys_hold && counts_hold && volume.record.class == VolumeClass::Run;
    holds.then_some(ManifestRun { volume, rows, tombstones, versions, first_key, last_key })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use shardstore_format::{DriveId, Profile, VolumeId, VolumeState};

    use super::*;

    /// Story: repair once put two shards of a run onto one drive, and such a manifest was refused at the next start.
    #[test]
    fn a_run_with_two_shards_on_one_drive_is_read_and_told_from_others() {
        let mut doubled = run(7, "a", "b");
        doubled.volume.record.segments = vec![DriveId(1), DriveId(1)];
        let manifest = Manifest { levels: vec![vec![doubled]], ..Manifest::default() };
        let read = Manifest::decode(&manifest.encode()).unwrap();
        assert_eq!(read, manifest);
        assert_eq!(read.levels[0][0].volume.record.doubled_shards(), [1]);
        assert!(run(7, "a", "b").volume.record.doubled_shards().is_empty());
        let row = VolumeRecord {
            class: shardstore_format::VolumeClass::Large,
            ..read.levels[0][0].volume.record.clone()
        };
        assert!(VolumeRecord::decode(&row.encode()).is_err(), "volumes of objects never were like that");
    }

    fn run(volume: u64, first: &str, last: &str) -> ManifestRun {
        let record = VolumeRecord {
            id: VolumeId(volume),
            profile: Profile { k: 1, m: 1 },
            class: VolumeClass::Run,
            state: VolumeState::Sealed { end_sector: 16 },
            segments: vec![DriveId(1), DriveId(2)],
        };
        ManifestRun {
            volume: RunVolume { record, len_bytes: 999 },
            rows: 3,
            tombstones: 1,
            versions: 4..=8,
            first_key: Bytes::copy_from_slice(first.as_bytes()),
            last_key: Bytes::copy_from_slice(last.as_bytes()),
        }
    }

    #[test]
    fn a_manifest_reads_back_and_every_flipped_bit_and_cut_is_refused() {
        let manifest = Manifest {
            flushed_version: 8,
            keep_from_sequence: 5,
            engine_state: Bytes::from_static(b"counters"),
            levels: vec![vec![run(3, "b", "x"), run(2, "a", "z")], vec![run(1, "a", "m"), run(4, "n", "z")]],
        };
        let bytes = manifest.encode();
        assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Manifest::decode(&flipped), Err(ManifestError::Corrupt));
        }
        for cut in 0..bytes.len() {
            assert!(Manifest::decode(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn a_level_with_overlapping_runs_is_refused() {
        let levels = vec![vec![], vec![run(1, "a", "m"), run(4, "m", "z")]];
        let manifest = Manifest { levels, ..Manifest::default() };
        assert_eq!(Manifest::decode(&manifest.encode()), Err(ManifestError::Invalid));
    }
}
