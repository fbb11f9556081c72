//! Checksums and tags of a completed multipart upload, from those of its parts.
//! Invariants: the ETag is the MD5 of the parts' MD5s; a composite checksum is the hash of the parts' checksums; a
//! full-object CRC is combined from the parts' and their lengths, no byte is read.
//! Not here: the algorithms (`checksum_stream`), hashing of bodies (`s3::checksum`).

use bytes::Bytes;
use fdb_schema::schema::PartRecord;
use md5::{Digest, Md5};

use super::api::{ChecksumAlgorithm, ChecksumKind, ETag, StoredChecksum};
use crate::checksum_stream::{ChecksumStream, big_endian, crc_of};

/// The tag of an object of these parts.
pub(crate) fn etag_of_parts(parts: &[(u16, PartRecord)]) -> ETag {
    let mut md5 = Md5::new();
    for (_, part) in parts {
        md5.update(part.md5);
    }
    let part_count = u16::try_from(parts.len()).expect("at most 10,000 parts");
    ETag { md5: md5.finalize().into(), part_count: Some(part_count) }
}

/// The object's checksum; `None` if a part has none of this algorithm, or the algorithm has no such kind.
pub(crate) fn checksum_of_parts(
    algorithm: ChecksumAlgorithm,
    kind: ChecksumKind,
    parts: &[(u16, PartRecord)],
) -> Option<StoredChecksum> {
    let of_part = |part: &PartRecord| {
        let checksum = part.checksum.as_ref().filter(|checksum| checksum.algorithm == algorithm)?;
        Some((checksum.value.clone(), part.size_bytes))
    };
    let values: Vec<(Bytes, u64)> = parts.iter().map(|(_, part)| of_part(part)).collect::<Option<_>>()?;
    let value = match kind {
        ChecksumKind::Composite => {
            let joined: Vec<u8> = values.iter().flat_map(|(value, _)| value.iter().copied()).collect();
            hash(algorithm, &joined)
        }
        ChecksumKind::FullObject => combine(algorithm, &values)?,
    };
    Some(StoredChecksum { algorithm, kind, value })
}

fn hash(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> Bytes {
    let mut stream = ChecksumStream::new(algorithm);
    stream.update(bytes);
    stream.finish()
}

/// A CRC as a number.
fn number_of(value: &[u8]) -> u64 {
    value.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

/// The CRC of two stretches of bytes, from theirs; `None` for what is no CRC.
pub(crate) fn combine_two(
    algorithm: ChecksumAlgorithm,
    first: &[u8],
    second: &[u8],
    second_len_bytes: u64,
) -> Option<Bytes> {
    let crc = crc_of(algorithm)?;
    let (first, second) = (number_of(first), number_of(second));
    let both = match second_len_bytes {
        0 => first,
        len_bytes => crc_fast::checksum_combine(crc, first, second, len_bytes),
    };
    Some(big_endian(algorithm, both))
}

fn combine(algorithm: ChecksumAlgorithm, values: &[(Bytes, u64)]) -> Option<Bytes> {
    crc_of(algorithm)?;
    let mut values = values.iter();
    let (first, _) = values.next()?;
    values.try_fold(first.clone(), |all, (next, len_bytes)| combine_two(algorithm, &all, next, *len_bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use shardstore_format::{DataId, WriterId};

    fn part(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> (u16, PartRecord) {
        let value = hash(algorithm, bytes);
        let record = PartRecord {
            data: DataId { writer: WriterId(0), counter: 0 },
            size_bytes: bytes.len() as u64,
            md5: Md5::digest(bytes).into(),
            modified_ms: 0,
            checksum: Some(StoredChecksum { algorithm, kind: ChecksumKind::FullObject, value }),
        };
        (1, record)
    }

    #[test]
    fn a_full_object_crc_of_parts_is_that_of_all_the_bytes() {
        let bytes: Vec<u8> = (0..10_000u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        for algorithm in [ChecksumAlgorithm::Crc32, ChecksumAlgorithm::Crc32c, ChecksumAlgorithm::Crc64Nvme] {
            let pieces = [&bytes[..1], &bytes[1..4_000], &bytes[4_000..], &bytes[10_000..]];
            let parts: Vec<_> = pieces.iter().map(|piece| part(algorithm, piece)).collect();
            let checksum = checksum_of_parts(algorithm, ChecksumKind::FullObject, &parts).unwrap();
            assert_eq!(checksum.value, hash(algorithm, &bytes), "{algorithm:?}");
        }
    }

    #[test]
    fn a_composite_checksum_is_the_hash_of_the_parts_checksums() {
        let parts = [part(ChecksumAlgorithm::Sha256, b"a"), part(ChecksumAlgorithm::Sha256, b"b")];
        let checksum = checksum_of_parts(ChecksumAlgorithm::Sha256, ChecksumKind::Composite, &parts).unwrap();
        let joined = [hash(ChecksumAlgorithm::Sha256, b"a"), hash(ChecksumAlgorithm::Sha256, b"b")].concat();
        assert_eq!(checksum.value, hash(ChecksumAlgorithm::Sha256, &joined));
        let full = checksum_of_parts(ChecksumAlgorithm::Sha256, ChecksumKind::FullObject, &parts);
        assert_eq!(full, None, "a SHA of the whole cannot be had from parts");
        let other = checksum_of_parts(ChecksumAlgorithm::Crc32, ChecksumKind::Composite, &parts);
        assert_eq!(other, None, "parts of another algorithm");
    }

    #[test]
    fn the_tag_of_parts_is_the_md5_of_their_md5s_and_their_count() {
        let parts = [part(ChecksumAlgorithm::Crc32, b"hello "), part(ChecksumAlgorithm::Crc32, b"world")];
        let tag = etag_of_parts(&parts);
        let joined = [Md5::digest(b"hello "), Md5::digest(b"world")].concat();
        assert_eq!((tag.md5, tag.part_count), (Md5::digest(joined).into(), Some(2)));
    }
}
