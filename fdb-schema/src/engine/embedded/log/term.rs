//! The term file `identity/term`, kept on every drive of the pool: which drives hold the log, and since when.
//! Invariants: replaced whole; a term number is never given to two member lists.
//! Bytes (little-endian): magic "BASALTTM" | format version u32 | pool u128 | term u64 | member count u32 | members,
//! 16 bytes each | previous term u64 (0: none) | previous member count u32 | previous members | CRC32C of all before.

use shardstore_format::{DriveId, PoolId};

use super::format::{NUMBER_END, crc32c_of};

/// Where the term lies on each drive.
pub(crate) const TERM_PATH: &str = "identity/term";
/// Its directory.
pub(crate) const TERM_DIR: &str = "identity";
/// The longest term file: 64 members twice make 2,108 bytes.
pub(crate) const TERM_MAX_BYTES: usize = 4096;
/// The most members: m is at most 31.
pub(crate) const MEMBERS_MAX: usize = 64;

const MAGIC: [u8; 8] = *b"BASALTTM";
const FORMAT_VERSION: u32 = 1;

/// A term and its log set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    pub(crate) number: u64,
    pub(crate) members: Vec<DriveId>,
    /// The term before and its members, for the operator; nothing is decided by it.
    pub(crate) previous: Option<(u64, Vec<DriveId>)>,
}

impl Term {
    pub(crate) fn encode(&self, pool: PoolId) -> Vec<u8> {
        assert!(self.number > 0);
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&pool.0.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        put_members(&mut out, &self.members);
        let (previous, members) = self.previous.clone().unwrap_or_default();
        out.extend_from_slice(&previous.to_le_bytes());
        put_members(&mut out, &members);
        let crc = crc32c_of(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// The version of a term file that a later version of this program wrote; its checksum and magic never change.
    pub(crate) fn future_version(bytes: &[u8]) -> Option<u32> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        let (magic, rest) = body.split_first_chunk::<8>()?;
        let version = u32::from_le_bytes(*rest.first_chunk()?);
        let is_intact = crc32c_of(body) == u32::from_le_bytes(*crc) && *magic == MAGIC;
        (is_intact && version > FORMAT_VERSION).then_some(version)
    }

    /// `None`: damaged, of another pool or of another format.
    pub(crate) fn decode(bytes: &[u8], pool: PoolId) -> Option<Term> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32c_of(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (magic, rest) = body.split_first_chunk::<8>()?;
        let (version, rest) = rest.split_first_chunk()?;
        let (owner, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (members, rest) = take_members(rest)?;
        let (previous, rest) = rest.split_first_chunk()?;
        let (previous_members, rest) = take_members(rest)?;
        let ours = *magic == MAGIC
            && u32::from_le_bytes(*version) == FORMAT_VERSION
            && u128::from_le_bytes(*owner) == pool.0;
        let number = u64::from_le_bytes(*number);
        let previous = u64::from_le_bytes(*previous);
        if !ours || number == 0 || number >= NUMBER_END || members.is_empty() || !rest.is_empty() {
            return None;
        }
        Some(Term { number, members, previous: (previous > 0).then_some((previous, previous_members)) })
    }
}

fn put_members(out: &mut Vec<u8>, members: &[DriveId]) {
    assert!(members.len() <= MEMBERS_MAX);
    let count = u32::try_from(members.len()).expect("at most 64");
    out.extend_from_slice(&count.to_le_bytes());
    for member in members {
        out.extend_from_slice(&member.0.to_le_bytes());
    }
}

fn take_members(bytes: &[u8]) -> Option<(Vec<DriveId>, &[u8])> {
    let (count, rest) = bytes.split_first_chunk()?;
    let count = usize::try_from(u32::from_le_bytes(*count)).ok().filter(|&count| count <= MEMBERS_MAX)?;
    let (members, rest) = rest.split_at_checked(16 * count)?;
    let (members, _) = members.as_chunks::<16>();
    Some((members.iter().map(|member| DriveId(u128::from_le_bytes(*member))).collect(), rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_term_reads_back_and_flips_cuts_and_other_pools_are_refused() {
        let members = vec![DriveId(4), DriveId(u128::MAX)];
        for previous in [None, Some((6, vec![DriveId(1)]))] {
            let term = Term { number: 7, members: members.clone(), previous };
            let bytes = term.encode(PoolId(1));
            assert_eq!(Term::decode(&bytes, PoolId(1)).unwrap(), term);
            assert_eq!(Term::decode(&bytes, PoolId(2)), None);
            for cut in 0..bytes.len() {
                assert_eq!(Term::decode(&bytes[..cut], PoolId(1)), None);
            }
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Term::decode(&flipped, PoolId(1)), None);
            }
        }
        let largest = Term {
            number: 1,
            members: vec![DriveId(1); MEMBERS_MAX],
            previous: Some((1, vec![DriveId(1); MEMBERS_MAX])),
        };
        assert!(largest.encode(PoolId(1)).len() <= TERM_MAX_BYTES);
    }
}
