//! What rows say of an object besides where its bytes lie: ETag, checksums, headers.
//! Invariants: an `ETag` is an MD5 and, for a multipart object, a part count; a checksum's length fits its algorithm.
//! Not here: how they are encoded (`codec`), how they are computed (`server`).

use bytes::Bytes;

/// An entity tag as S3 users compare it: an MD5, and for a multipart object the number of its parts.
///
/// Shown without quotes: `9bb58f26192e4ba00f01e2e7b136bbd8` or `...-3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ETag {
    /// MD5 of the bytes, or of the parts' MD5s.
    pub md5: [u8; 16],
    /// Number of parts, 1 to 10,000, if it was a multipart upload.
    pub part_count: Option<u16>,
}

impl ETag {
    /// The tag of bytes uploaded in one piece.
    pub fn whole(md5: [u8; 16]) -> ETag {
        ETag { md5, part_count: None }
    }

    /// Reads the unquoted text; `None` if no object of ours can have such a tag.
    pub fn parse(text: &str) -> Option<ETag> {
        let (hex, part_count) = match text.split_once('-') {
            Some((hex, count)) => (hex, Some(count.parse::<u16>().ok().filter(|count| *count > 0)?)),
            None => (text, None),
        };
        let digits = hex.as_bytes();
        if digits.len() != 32 {
            return None;
        }
        let mut md5 = [0u8; 16];
        let (pairs, _) = digits.as_chunks::<2>();
        for (byte, [high, low]) in md5.iter_mut().zip(pairs) {
            *byte = (hex_digit(*high)? << 4) | hex_digit(*low)?;
        }
        Some(ETag { md5, part_count })
    }
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

impl std::fmt::Display for ETag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in self.md5 {
            write!(f, "{byte:02x}")?;
        }
        match self.part_count {
            Some(count) => write!(f, "-{count}"),
            None => Ok(()),
        }
    }
}

/// A checksum algorithm of S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChecksumAlgorithm {
    /// CRC-32 (ISO-HDLC), 4 bytes.
    Crc32,
    /// CRC-32C (Castagnoli), 4 bytes.
    Crc32c,
    /// CRC-64/NVME, 8 bytes; full-object only.
    Crc64Nvme,
    /// SHA-1, 20 bytes; composite only for multipart objects.
    Sha1,
    /// SHA-256, 32 bytes; composite only for multipart objects.
    Sha256,
    /// SHA-512, 64 bytes; composite only for multipart objects.
    Sha512,
    /// MD5, 16 bytes; composite only for multipart objects.
    Md5,
    /// XXH64 with seed 0, 8 bytes; composite only for multipart objects.
    XxHash64,
    /// XXH3 of 64 bits with seed 0, 8 bytes; composite only for multipart objects.
    XxHash3,
    /// XXH3 of 128 bits with seed 0, 16 bytes; composite only for multipart objects.
    XxHash128,
}

impl ChecksumAlgorithm {
    /// All of them.
    pub const ALL: [ChecksumAlgorithm; 10] = [
        ChecksumAlgorithm::Crc32,
        ChecksumAlgorithm::Crc32c,
        ChecksumAlgorithm::Crc64Nvme,
        ChecksumAlgorithm::Sha1,
        ChecksumAlgorithm::Sha256,
        ChecksumAlgorithm::Sha512,
        ChecksumAlgorithm::Md5,
        ChecksumAlgorithm::XxHash64,
        ChecksumAlgorithm::XxHash3,
        ChecksumAlgorithm::XxHash128,
    ];

    /// Length of a value.
    pub fn len_bytes(self) -> usize {
        match self {
            ChecksumAlgorithm::Crc32 | ChecksumAlgorithm::Crc32c => 4,
            ChecksumAlgorithm::Crc64Nvme | ChecksumAlgorithm::XxHash64 | ChecksumAlgorithm::XxHash3 => 8,
            ChecksumAlgorithm::Md5 | ChecksumAlgorithm::XxHash128 => 16,
            ChecksumAlgorithm::Sha1 => 20,
            ChecksumAlgorithm::Sha256 => 32,
            ChecksumAlgorithm::Sha512 => 64,
        }
    }
}

/// What a checksum of a multipart object covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChecksumKind {
    /// The object's bytes.
    FullObject,
    /// The concatenated checksums of its parts.
    Composite,
}

/// A checksum as stored and returned. Its bytes are big-endian, as S3 shows them in Base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredChecksum {
    /// How it was computed.
    pub algorithm: ChecksumAlgorithm,
    /// Over what.
    pub kind: ChecksumKind,
    /// The value, [`ChecksumAlgorithm::len_bytes`] long.
    pub value: Bytes,
}

/// The header under which an object keeps its tag set, URL-encoded: set with the object or by itself, copied by a rule of
/// its own, never returned as it is.
pub const TAGGING_HEADER: &str = "x-amz-tagging";
/// The access list of an object that is not its bucket's owner's alone; never one of a client's headers, and never
/// taken along by a copy. It begins with the id of the object's owner; a `;` stands before each grant.
pub const ACL_HEADER: &str = "x-basalt-acl";

/// The owner that an access list among these headers names, without the row that it was read from: a page of a listing
/// keeps a thousand of them, and lists may have a hundred grants.
pub fn owner_of_list(headers: &[Header]) -> Option<Bytes> {
    let kept = headers.iter().find(|header| header.name == ACL_HEADER)?;
    let owner = kept.value.split(|&byte| byte == b';').next()?;
    Some(Bytes::copy_from_slice(owner))
}

/// The header of a website's redirect, which belongs to a name and not to its bytes: no copy takes it along.
pub const REDIRECT_HEADER: &str = "x-amz-website-redirect-location";

/// A header that comes back as it was sent: `content-type`, `x-amz-meta-*` and the like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Lower-case name.
    pub name: String,
    /// The value's bytes.
    pub value: Bytes,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_etag_reads_back_from_its_text() {
        for part_count in [None, Some(1), Some(10_000)] {
            let tag = ETag { md5: *b"0123456789abcdef", part_count };
            assert_eq!(ETag::parse(&tag.to_string()), Some(tag));
        }
    }

    #[test]
    fn text_that_is_no_etag_of_ours_is_none() {
        let texts =
            ["", "*", "abc", "-", "9bb58f26192e4ba00f01e2e7b136bbd8-", "9bb58f26192e4ba00f01e2e7b136bbd8-0"];
        for text in texts {
            assert_eq!(ETag::parse(text), None, "{text}");
        }
    }
}
