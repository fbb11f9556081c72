//! Identity file of a drive, and the file that holds the master key.
//! Invariants: a file that decodes is whole (CRC32C over all of it); the drive is one of its members; a version
//! from the future is told apart from damage.
//! Not here: the rules of start (`shardstore`), permissions, `identity/term` (`fdb-schema`). Bytes: docs/format.md.

use crate::id::{DriveId, PoolId};
use crate::page::SHARDS_MAX;
use crate::volume::Profile;

/// Longest identity file: 1,024 members with labels of 255 bytes are 279,620 bytes.
pub const IDENTITY_MAX_BYTES: usize = 512 * 1024;
/// Most drives of a pool on one machine.
pub const MEMBERS_MAX: usize = 1024;
/// Longest label of a member, in bytes of UTF-8.
pub const LABEL_MAX_BYTES: usize = 255;

const MAGIC: [u8; 8] = *b"BASALTID";
const VERSION: u32 = 2;
/// Without a revision and without plans; still read.
const VERSION_1: u32 = 1;
const KEY_MAGIC: [u8; 8] = *b"BASALTMK";
const KEY_VERSION: u32 = 1;

/// How far formatting came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatPhase {
    /// Some drives may lack their identity: no data was ever written.
    Forming,
    /// Every drive has had its identity.
    Ready,
}

/// What is to become of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemberPlan {
    /// It stays.
    #[default]
    Stay,
    /// Its shards go to other drives and nothing new comes; it stays a member.
    Drain,
    /// As `Drain`, and once nothing lies on it, it is no member any more.
    Leave,
}

/// One drive of the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its identity.
    pub drive: DriveId,
    /// The name that the operator knew it by when it joined: at most [`LABEL_MAX_BYTES`].
    pub label: String,
    /// What is to become of it.
    pub plan: MemberPlan,
}

/// The drives of a pool at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Counts changes: of two lists the one with the higher revision is true.
    pub revision: u64,
    /// All drives, in the order in which they joined.
    pub members: Vec<Member>,
}

/// What a drive knows of itself and its pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriveIdentity {
    /// How far formatting came.
    pub phase: FormatPhase,
    /// The pool.
    pub pool: PoolId,
    /// This drive.
    pub drive: DriveId,
    /// Redundancy of new volumes.
    pub profile: Profile,
    /// When the pool was made, in milliseconds since 1970-01-01 UTC.
    pub created_unix_ms: u64,
    /// All drives of the pool, this one included.
    pub membership: Membership,
}

/// Why bytes are not an identity or a master key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityError {
    /// Written by a later version of this program: use that.
    FutureVersion(u32),
    /// Not such a file, cut short or damaged.
    Damaged,
}

impl std::fmt::Display for IdentityError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            IdentityError::FutureVersion(version) => write!(f, "it has the future version {version}"),
            IdentityError::Damaged => f.write_str("it is damaged"),
        }
    }
}

impl std::error::Error for IdentityError {}

impl DriveIdentity {
    /// The encoded form.
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.is_valid(), "{self:?}");
        let mut out = Vec::with_capacity(64 + self.membership.members.len() * 64);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.push(match self.phase {
            FormatPhase::Forming => 1,
            FormatPhase::Ready => 2,
        });
        out.push(self.profile.k);
        out.push(self.profile.m);
        out.push(0);
        out.extend_from_slice(&self.pool.0.to_le_bytes());
        out.extend_from_slice(&self.drive.0.to_le_bytes());
        out.extend_from_slice(&self.created_unix_ms.to_le_bytes());
        self.membership.encode(&mut out);
        append_crc(out)
    }

    /// Decodes a whole file.
    ///
    /// # Errors
    /// [`IdentityError`]: what is wrong with the file.
    pub fn decode(bytes: &[u8]) -> Result<DriveIdentity, IdentityError> {
        let (version, body) = checked_body(bytes, MAGIC, VERSION)?;
        let identity = Self::decode_body(version, body).ok_or(IdentityError::Damaged)?;
        if identity.is_valid() { Ok(identity) } else { Err(IdentityError::Damaged) }
    }

    fn decode_body(version: u32, body: &[u8]) -> Option<DriveIdentity> {
        let (&[phase, k, m, reserved], rest) = body.split_first_chunk()?;
        let (&pool, rest) = rest.split_first_chunk()?;
        let (&drive, rest) = rest.split_first_chunk()?;
        let (&created, rest) = rest.split_first_chunk()?;
        let phase = match (phase, reserved) {
            (1, 0) => FormatPhase::Forming,
            (2, 0) => FormatPhase::Ready,
            _ => return None,
        };
        let membership = Membership::decode_version(version, rest)?;
        Some(DriveIdentity {
            phase,
            pool: PoolId(u128::from_le_bytes(pool)),
            drive: DriveId(u128::from_le_bytes(drive)),
            profile: Profile { k, m },
            created_unix_ms: u64::from_le_bytes(created),
            membership,
        })
    }

    fn is_valid(&self) -> bool {
        let shards = self.profile.shards();
        self.profile.k > 0
            && shards <= SHARDS_MAX
            && shards <= self.membership.members.len()
            && self.membership.is_valid()
            && self.membership.member(self.drive).is_some()
    }
}

impl Membership {
    /// A member by its identity.
    pub fn member(&self, drive: DriveId) -> Option<&Member> {
        self.members.iter().find(|member| member.drive == drive)
    }

    /// Appends the encoded form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.is_valid(), "{self:?}");
        out.extend_from_slice(&self.revision.to_le_bytes());
        out.extend_from_slice(&u32::try_from(self.members.len()).expect("at most 1024").to_le_bytes());
        for member in &self.members {
            out.extend_from_slice(&member.drive.0.to_le_bytes());
            out.push(match member.plan {
                MemberPlan::Stay => 0,
                MemberPlan::Drain => 1,
                MemberPlan::Leave => 2,
            });
            out.push(u8::try_from(member.label.len()).expect("at most 255"));
            out.extend_from_slice(member.label.as_bytes());
        }
    }

    /// Decodes what [`Membership::encode`] wrote, whole.
    ///
    /// # Errors
    /// [`IdentityError::Damaged`].
    pub fn decode(bytes: &[u8]) -> Result<Membership, IdentityError> {
        let membership = Self::decode_version(VERSION, bytes).ok_or(IdentityError::Damaged)?;
        if membership.is_valid() { Ok(membership) } else { Err(IdentityError::Damaged) }
    }

    fn decode_version(version: u32, bytes: &[u8]) -> Option<Membership> {
        let (revision, bytes) = match version {
            VERSION_1 => (0, bytes),
            _ => {
                let (&revision, rest) = bytes.split_first_chunk()?;
                (u64::from_le_bytes(revision), rest)
            }
        };
        let (&count, mut rest) = bytes.split_first_chunk()?;
        let mut members = Vec::new();
        for _ in 0..u32::from_le_bytes(count) {
            let (&drive, after) = rest.split_first_chunk()?;
            let (plan, after) = match version {
                VERSION_1 => (MemberPlan::Stay, after),
                _ => {
                    let (&plan, after) = after.split_first()?;
                    (decode_plan(plan)?, after)
                }
            };
            let (&label_len, after) = after.split_first()?;
            let (label, after) = after.split_at_checked(usize::from(label_len))?;
            let label = std::str::from_utf8(label).ok()?.to_owned();
            members.push(Member { drive: DriveId(u128::from_le_bytes(drive)), label, plan });
            rest = after;
        }
        rest.is_empty().then_some(Membership { revision, members })
    }

    fn is_valid(&self) -> bool {
        let ids: std::collections::BTreeSet<DriveId> =
            self.members.iter().map(|member| member.drive).collect();
        self.members.len() <= MEMBERS_MAX
            && ids.len() == self.members.len()
            && self.members.iter().all(|member| member.label.len() <= LABEL_MAX_BYTES)
    }
}

fn decode_plan(plan: u8) -> Option<MemberPlan> {
    match plan {
        0 => Some(MemberPlan::Stay),
        1 => Some(MemberPlan::Drain),
        2 => Some(MemberPlan::Leave),
        _ => None,
    }
}

/// The master key as it lies on every drive.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKeyFile {
    /// The pool that the key belongs to.
    pub pool: PoolId,
    /// The key.
    pub key: [u8; 32],
}

impl std::fmt::Debug for MasterKeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MasterKeyFile").field("pool", &self.pool).finish_non_exhaustive()
    }
}

impl MasterKeyFile {
    /// Length of the encoded form: magic, version, pool, key, CRC32C.
    pub const ENCODED_BYTES: usize = 8 + 4 + 16 + 32 + 4;

    /// The encoded form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::ENCODED_BYTES);
        out.extend_from_slice(&KEY_MAGIC);
        out.extend_from_slice(&KEY_VERSION.to_le_bytes());
        out.extend_from_slice(&self.pool.0.to_le_bytes());
        out.extend_from_slice(&self.key);
        append_crc(out)
    }

    /// Decodes a whole file.
    ///
    /// # Errors
    /// [`IdentityError`]: what is wrong with the file.
    pub fn decode(bytes: &[u8]) -> Result<MasterKeyFile, IdentityError> {
        let (_, body) = checked_body(bytes, KEY_MAGIC, KEY_VERSION)?;
        let (&pool, key) = body.split_first_chunk().ok_or(IdentityError::Damaged)?;
        let key = <[u8; 32]>::try_from(key).map_err(|_| IdentityError::Damaged)?;
        Ok(MasterKeyFile { pool: PoolId(u128::from_le_bytes(pool)), key })
    }
}

fn append_crc(mut out: Vec<u8>) -> Vec<u8> {
    let crc = crc_fast::crc32_iscsi(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// The version, at most `newest`, and what lies between it and the CRC at the end.
fn checked_body(bytes: &[u8], magic: [u8; 8], newest: u32) -> Result<(u32, &[u8]), IdentityError> {
    let (found_magic, rest) = bytes.split_first_chunk::<8>().ok_or(IdentityError::Damaged)?;
    let (&found_version, _) = rest.split_first_chunk::<4>().ok_or(IdentityError::Damaged)?;
    let found_version = u32::from_le_bytes(found_version);
    if *found_magic != magic || found_version == 0 {
        return Err(IdentityError::Damaged);
    }
    // Every version ends with the CRC32C of all before it, so damage is not taken for the future.
    let (covered, &crc) = bytes.split_last_chunk::<4>().ok_or(IdentityError::Damaged)?;
    if u32::from_le_bytes(crc) != crc_fast::crc32_iscsi(covered) {
        return Err(IdentityError::Damaged);
    }
    if found_version > newest {
        return Err(IdentityError::FutureVersion(found_version));
    }
    Ok((found_version, covered.get(12..).ok_or(IdentityError::Damaged)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> DriveIdentity {
        DriveIdentity {
            phase: FormatPhase::Ready,
            pool: PoolId(0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100),
            drive: DriveId(2),
            profile: Profile { k: 1, m: 1 },
            created_unix_ms: 1_790_000_000_000,
            membership: Membership {
                revision: 3,
                members: vec![
                    Member { drive: DriveId(1), label: "/d1".into(), plan: MemberPlan::Leave },
                    Member { drive: DriveId(2), label: "/d2".into(), plan: MemberPlan::Stay },
                ],
            },
        }
    }

    fn bytes_of(hex: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits");
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn identity_bytes_of_version_2_never_change() {
        let golden = [
            "424153414c544944",
            "02000000",
            "02",
            "01",
            "01",
            "00",
            "000102030405060708090a0b0c0d0e0f",
            "02000000000000000000000000000000",
            "006c50c4a0010000",
            "0300000000000000",
            "02000000",
            "01000000000000000000000000000000",
            "02",
            "03",
            "2f6431",
            "02000000000000000000000000000000",
            "00",
            "03",
            "2f6432",
            "fce4ddfc",
        ]
        .concat();
        assert_eq!(hex(&identity().encode()), golden);
        assert_eq!(DriveIdentity::decode(&identity().encode()), Ok(identity()));
    }

    #[test]
    fn an_identity_of_version_1_is_read_as_revision_0() {
        let golden = [
            "424153414c544944",
            "01000000",
            "02",
            "01",
            "01",
            "00",
            "000102030405060708090a0b0c0d0e0f",
            "02000000000000000000000000000000",
            "006c50c4a0010000",
            "02000000",
            "01000000000000000000000000000000",
            "03",
            "2f6431",
            "02000000000000000000000000000000",
            "03",
            "2f6432",
            "8b5dc87a",
        ]
        .concat();
        let mut first = identity();
        first.membership.revision = 0;
        first.membership.members[0].plan = MemberPlan::Stay;
        assert_eq!(DriveIdentity::decode(&bytes_of(&golden)), Ok(first));
    }

    #[test]
    fn master_key_bytes_of_version_1_never_change() {
        let file = MasterKeyFile { pool: PoolId(1), key: [7; 32] };
        let golden = [
            "424153414c544d4b",
            "01000000",
            "01000000000000000000000000000000",
            "0707070707070707070707070707070707070707070707070707070707070707",
            "1163c11c",
        ]
        .concat();
        assert_eq!(hex(&file.encode()), golden);
        assert_eq!(file.encode().len(), MasterKeyFile::ENCODED_BYTES);
        assert_eq!(MasterKeyFile::decode(&file.encode()), Ok(file.clone()));
        assert!(!format!("{file:?}").contains('7'), "the key is never printed");
    }

    #[test]
    fn a_damaged_identity_is_never_accepted() {
        let bytes = identity().encode();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(DriveIdentity::decode(&damaged), Err(IdentityError::Damaged), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(DriveIdentity::decode(&bytes[..len]), Err(IdentityError::Damaged), "length {len}");
        }
    }

    #[test]
    fn a_future_version_is_told_apart_from_damage() {
        let mut bytes = identity().encode();
        bytes.truncate(bytes.len() - 4);
        bytes[8] = 9;
        assert_eq!(DriveIdentity::decode(&append_crc(bytes)), Err(IdentityError::FutureVersion(9)));
    }

    #[test]
    fn impossible_members_are_damage() {
        for break_it in [
            |id: &mut DriveIdentity| id.membership.members[1].drive = DriveId(1),
            |id: &mut DriveIdentity| id.drive = DriveId(9),
            |id: &mut DriveIdentity| id.profile = Profile { k: 2, m: 1 },
            |id: &mut DriveIdentity| id.profile = Profile { k: 0, m: 1 },
        ] {
            let mut wrong = identity();
            break_it(&mut wrong);
            assert!(!wrong.is_valid());
        }
    }
}
