//! Digests of bodies: which ones a request demands, and their computation over the body as it passes.
//! Invariants: exactly the digests that are needed are computed, once, over the decoded payload; a body is right
//! only if every digest that the client gave is.
//! Not here: framing and signatures of bodies (`http`, `auth`), storing checksums (`ops`).

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use md5::{Digest as _, Md5};

use crate::http::{RequestHead, Trailers};
use crate::ops::api::{BodyError, ChecksumAlgorithm, ChecksumKind, StoredChecksum};
use crate::s3::error::{Code, S3Error};

/// All algorithms, by the names of their header fields.
const ALGORITHMS: [(ChecksumAlgorithm, &str, &str); 5] = [
    (ChecksumAlgorithm::Crc32, "CRC32", "x-amz-checksum-crc32"),
    (ChecksumAlgorithm::Crc32c, "CRC32C", "x-amz-checksum-crc32c"),
    (ChecksumAlgorithm::Crc64Nvme, "CRC64NVME", "x-amz-checksum-crc64nvme"),
    (ChecksumAlgorithm::Sha1, "SHA1", "x-amz-checksum-sha1"),
    (ChecksumAlgorithm::Sha256, "SHA256", "x-amz-checksum-sha256"),
];

/// The name in headers' values and XML, such as `CRC32C`.
pub fn algorithm_name(algorithm: ChecksumAlgorithm) -> &'static str {
    row(algorithm).1
}

/// The header field, such as `x-amz-checksum-crc32c`.
pub fn header_name(algorithm: ChecksumAlgorithm) -> &'static str {
    row(algorithm).2
}

/// The XML element, such as `ChecksumCRC32C`.
pub fn element_name(algorithm: ChecksumAlgorithm) -> &'static str {
    match algorithm {
        ChecksumAlgorithm::Crc32 => "ChecksumCRC32",
        ChecksumAlgorithm::Crc32c => "ChecksumCRC32C",
        ChecksumAlgorithm::Crc64Nvme => "ChecksumCRC64NVME",
        ChecksumAlgorithm::Sha1 => "ChecksumSHA1",
        ChecksumAlgorithm::Sha256 => "ChecksumSHA256",
    }
}

fn row(algorithm: ChecksumAlgorithm) -> &'static (ChecksumAlgorithm, &'static str, &'static str) {
    let at = match algorithm {
        ChecksumAlgorithm::Crc32 => 0,
        ChecksumAlgorithm::Crc32c => 1,
        ChecksumAlgorithm::Crc64Nvme => 2,
        ChecksumAlgorithm::Sha1 => 3,
        ChecksumAlgorithm::Sha256 => 4,
    };
    &ALGORITHMS[at]
}

/// `FULL_OBJECT` or `COMPOSITE`.
pub fn kind_name(kind: ChecksumKind) -> &'static str {
    match kind {
        ChecksumKind::FullObject => "FULL_OBJECT",
        ChecksumKind::Composite => "COMPOSITE",
    }
}

/// Reads `FULL_OBJECT` or `COMPOSITE`.
///
/// # Errors
/// `InvalidRequest`.
pub fn parse_kind(text: &str) -> Result<ChecksumKind, S3Error> {
    match text {
        "FULL_OBJECT" => Ok(ChecksumKind::FullObject),
        "COMPOSITE" => Ok(ChecksumKind::Composite),
        _ => Err(S3Error::with_message(
            Code::InvalidRequest,
            "Value for x-amz-checksum-type header is invalid.",
        )),
    }
}

/// Reads an algorithm's name without case.
///
/// # Errors
/// `InvalidRequest` for a name that S3 does not know; `NotImplemented` for one that we do not compute.
pub fn parse_algorithm(name: &str) -> Result<ChecksumAlgorithm, S3Error> {
    if let Some((algorithm, ..)) = ALGORITHMS.iter().find(|(_, known, _)| known.eq_ignore_ascii_case(name)) {
        return Ok(*algorithm);
    }
    Err(S3Error::with_message(
        Code::InvalidRequest,
        "Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, \
         CRC64NVME, SHA1, SHA256]",
    ))
}

/// Reads a checksum's Base64; a composite one ends in `-N`, which is dropped.
///
/// # Errors
/// `InvalidRequest` for what is no value of that algorithm.
pub fn parse_value(algorithm: ChecksumAlgorithm, text: &str) -> Result<Bytes, S3Error> {
    let text = text.split_once('-').map_or(text, |(value, _)| value);
    match STANDARD.decode(text.trim()) {
        Ok(value) if value.len() == algorithm.len_bytes() => Ok(Bytes::from(value)),
        _ => Err(S3Error::with_message(
            Code::InvalidRequest,
            format!("Value for {} header is invalid.", header_name(algorithm)),
        )),
    }
}

/// The text of a checksum: Base64, and `-N` for a composite one of N parts.
pub fn value_text(checksum: &StoredChecksum, part_count: Option<u16>) -> String {
    let mut text = STANDARD.encode(&checksum.value);
    if checksum.kind == ChecksumKind::Composite
        && let Some(count) = part_count
    {
        text.push('-');
        text.push_str(&count.to_string());
    }
    text
}

/// The one checksum header of a request.
///
/// # Errors
/// `InvalidRequest` for several, for an unknown algorithm, for a malformed value.
pub fn header_checksum(head: &RequestHead) -> Result<Option<(ChecksumAlgorithm, Bytes)>, S3Error> {
    let mut found = None;
    for (name, value) in head.headers() {
        let Some(rest) = strip_prefix_no_case(name, "x-amz-checksum-") else { continue };
        if ["mode", "algorithm", "type"].iter().any(|other| rest.eq_ignore_ascii_case(other)) {
            continue;
        }
        if found.is_some() {
            return Err(S3Error::with_message(
                Code::InvalidRequest,
                "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
            ));
        }
        let algorithm = parse_algorithm(rest)?;
        let text = std::str::from_utf8(value).unwrap_or_default();
        found = Some((algorithm, parse_value(algorithm, text)?));
    }
    Ok(found)
}

fn strip_prefix_no_case<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let start = name.get(..prefix.len())?;
    if start.eq_ignore_ascii_case(prefix) { name.get(prefix.len()..) } else { None }
}

/// What a request says of its body's digests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    content_md5: Option<[u8; 16]>,
    sha256: Option<[u8; 32]>,
    header: Option<(ChecksumAlgorithm, Bytes)>,
    trailer: Option<ChecksumAlgorithm>,
    /// Named without a value: to be computed and stored.
    named: Option<ChecksumAlgorithm>,
}

impl Expected {
    /// Reads the head; `signed_sha256` is the digest that the signature covers.
    ///
    /// # Errors
    /// `InvalidDigest` for a malformed Content-MD5; `InvalidRequest` as [`header_checksum`].
    pub fn of(head: &RequestHead, signed_sha256: Option<[u8; 32]>) -> Result<Expected, S3Error> {
        let content_md5 = head.header("content-md5").map(parse_md5).transpose()?;
        let header = header_checksum(head)?;
        let trailer = match head.header_str("x-amz-trailer") {
            None => None,
            Some(names) => trailer_algorithm(names)?,
        };
        let named = head.header_str("x-amz-sdk-checksum-algorithm").map(parse_algorithm).transpose()?;
        if let Some(named) = named {
            let given = header.as_ref().map(|(algorithm, _)| *algorithm).or(trailer);
            if given.is_some_and(|given| given != named) {
                return Err(S3Error::with_message(
                    Code::InvalidRequest,
                    "Value for x-amz-sdk-checksum-algorithm header is invalid.",
                ));
            }
        }
        if header.is_some() && trailer.is_some() {
            return Err(S3Error::with_message(
                Code::InvalidRequest,
                "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
            ));
        }
        Ok(Expected { content_md5, sha256: signed_sha256, header, trailer, named })
    }

    /// The algorithm whose value the client gives.
    pub fn given_algorithm(&self) -> Option<ChecksumAlgorithm> {
        self.header.as_ref().map(|(algorithm, _)| *algorithm).or(self.trailer)
    }

    /// Whether anything but the signature vouches for the body.
    pub fn has_integrity(&self) -> bool {
        self.content_md5.is_some() || self.header.is_some() || self.trailer.is_some()
    }
}

fn parse_md5(value: &[u8]) -> Result<[u8; 16], S3Error> {
    STANDARD.decode(value).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        S3Error::with_message(Code::InvalidDigest, "The Content-MD5 you specified was invalid.")
    })
}

fn trailer_algorithm(names: &str) -> Result<Option<ChecksumAlgorithm>, S3Error> {
    let mut found = None;
    for name in names.split(',') {
        if let Some(rest) = strip_prefix_no_case(name.trim(), "x-amz-checksum-") {
            found = Some(parse_algorithm(rest)?);
        }
    }
    Ok(found)
}

/// The digests of one body as it passes.
pub struct Digests {
    expected: Expected,
    md5: Md5Stream,
    sha256: Option<digest::Context>,
    checksum: Option<Running>,
    len_bytes: u64,
}

/// What a whole body came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digested {
    /// MD5.
    pub md5: [u8; 16],
    /// The checksum to store.
    pub checksum: Option<StoredChecksum>,
    /// Length.
    pub len_bytes: u64,
}

impl Digests {
    /// For a body of which the client said `expected`.
    pub fn new(expected: Expected) -> Digests {
        let sha256 = expected.sha256.map(|_| digest::Context::new(&digest::SHA256));
        let checksum = expected.given_algorithm().or(expected.named).map(Running::new);
        Digests { expected, md5: Md5Stream::default(), sha256, checksum, len_bytes: 0 }
    }

    /// As [`Expected::has_integrity`].
    pub fn has_integrity(&self) -> bool {
        self.expected.has_integrity()
    }

    /// Leaves `x-amz-checksum-*` out: in a completion it speaks of the object, not of the body.
    #[must_use]
    pub fn without_checksums(mut self) -> Digests {
        self.expected.header = None;
        self.expected.trailer = None;
        self.checksum = None;
        self
    }

    /// Before the first byte: the checksum to compute if the client gave none.
    pub fn want(&mut self, algorithm: ChecksumAlgorithm) {
        if self.checksum.is_none() && self.len_bytes == 0 {
            self.checksum = Some(Running::new(algorithm));
        }
    }

    /// Adds payload. Cost: one pass for each digest.
    pub fn update(&mut self, data: &[u8]) {
        self.len_bytes += data.len() as u64;
        self.md5.update(data);
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(data);
        }
        if let Some(checksum) = &mut self.checksum {
            checksum.update(data);
        }
    }

    /// Bytes so far.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Ends the body and compares everything that the client gave.
    ///
    /// # Errors
    /// The first [`BodyError`] that holds.
    pub fn finish(self, trailers: Option<&Trailers>) -> Result<Digested, BodyError> {
        let md5 = self.md5.finish();
        if self.expected.content_md5.is_some_and(|given| given != md5) {
            return Err(BodyError::Md5Mismatch);
        }
        if let (Some(given), Some(sha256)) = (self.expected.sha256, self.sha256)
            && sha256.finish().as_ref() != given
        {
            return Err(BodyError::ContentSha256Mismatch);
        }
        let Some(running) = self.checksum else {
            return Ok(Digested { md5, checksum: None, len_bytes: self.len_bytes });
        };
        let (algorithm, value) = running.finish();
        let given = match (&self.expected.header, self.expected.trailer) {
            (Some((_, given)), _) => Some(given.clone()),
            (None, Some(algorithm)) => {
                let text = trailers
                    .and_then(|trailers| trailers.get(header_name(algorithm)))
                    .ok_or(BodyError::MalformedTrailer)?;
                Some(parse_value(algorithm, text).map_err(|_| BodyError::MalformedTrailer)?)
            }
            (None, None) => None,
        };
        if given.is_some_and(|given| given != value) {
            return Err(BodyError::ChecksumMismatch(algorithm));
        }
        let checksum = StoredChecksum { algorithm, kind: ChecksumKind::FullObject, value };
        Ok(Digested { md5, checksum: Some(checksum), len_bytes: self.len_bytes })
    }
}

/// MD5 of one body; the seam behind which a kernel over several bodies can stand.
#[derive(Clone, Default)]
pub struct Md5Stream {
    state: Md5,
}

impl Md5Stream {
    /// Adds bytes.
    pub fn update(&mut self, data: &[u8]) {
        self.state.update(data);
    }

    /// The digest.
    pub fn finish(self) -> [u8; 16] {
        self.state.finalize().into()
    }
}

enum Running {
    Crc(ChecksumAlgorithm, Box<crc_fast::Digest>),
    Sha(ChecksumAlgorithm, digest::Context),
}

impl Running {
    fn new(algorithm: ChecksumAlgorithm) -> Running {
        let crc = |kind| Running::Crc(algorithm, Box::new(crc_fast::Digest::new(kind)));
        match algorithm {
            ChecksumAlgorithm::Crc32 => crc(crc_fast::CrcAlgorithm::Crc32IsoHdlc),
            ChecksumAlgorithm::Crc32c => crc(crc_fast::CrcAlgorithm::Crc32Iscsi),
            ChecksumAlgorithm::Crc64Nvme => crc(crc_fast::CrcAlgorithm::Crc64Nvme),
            ChecksumAlgorithm::Sha1 => {
                Running::Sha(algorithm, digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY))
            }
            ChecksumAlgorithm::Sha256 => Running::Sha(algorithm, digest::Context::new(&digest::SHA256)),
        }
    }

    fn update(&mut self, data: &[u8]) {
        match self {
            Running::Crc(_, crc) => crc.update(data),
            Running::Sha(_, sha) => sha.update(data),
        }
    }

    fn finish(self) -> (ChecksumAlgorithm, Bytes) {
        match self {
            Running::Crc(algorithm, crc) => {
                let value = crc.finalize().to_be_bytes();
                (algorithm, Bytes::copy_from_slice(&value[8 - algorithm.len_bytes()..]))
            }
            Running::Sha(algorithm, sha) => (algorithm, Bytes::copy_from_slice(sha.finish().as_ref())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::s3::test_heads::head;

    fn digest_of(fields: &str, data: &[u8]) -> Result<Digested, BodyError> {
        let mut digests = Digests::new(Expected::of(&head("PUT /b/k", fields), None).unwrap());
        digests.want(ChecksumAlgorithm::Crc64Nvme);
        for piece in data.chunks(3) {
            digests.update(piece);
        }
        digests.finish(None)
    }

    #[test]
    fn each_algorithm_agrees_with_its_published_check_value() {
        let data = b"123456789";
        for (field, value) in [
            ("crc32", "y/Q5Jg=="),
            ("crc32c", "4waSgw=="),
            ("crc64nvme", "rosUhgp5mIg="),
            ("sha1", "98O8HYCOBHMq32eZZczDTKeuNEE="),
            ("sha256", "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="),
        ] {
            let digested = digest_of(&format!("x-amz-checksum-{field}: {value}\r\n"), data).unwrap();
            let checksum = digested.checksum.unwrap();
            assert_eq!(value_text(&checksum, None), value);
            assert_eq!(header_name(checksum.algorithm), format!("x-amz-checksum-{field}"));
        }
    }

    #[test]
    fn without_a_checksum_the_wanted_one_is_computed() {
        let digested = digest_of("", b"123456789").unwrap();
        assert_eq!(digested.checksum.unwrap().algorithm, ChecksumAlgorithm::Crc64Nvme);
        assert_eq!(hex::encode(digested.md5), "25f9e794323b453885f5181f1b624d0b");
        assert_eq!(digested.len_bytes, 9);
    }

    #[test]
    fn wrong_digests_are_told_apart() {
        assert_eq!(
            digest_of("x-amz-checksum-crc32: AAAAAA==\r\n", b"x"),
            Err(BodyError::ChecksumMismatch(ChecksumAlgorithm::Crc32))
        );
        assert_eq!(digest_of("Content-MD5: 1B2M2Y8AsgTpgAmY7PhCfg==\r\n", b"x"), Err(BodyError::Md5Mismatch));
        assert!(digest_of("Content-MD5: 1B2M2Y8AsgTpgAmY7PhCfg==\r\n", b"").is_ok());
        assert_eq!(
            digest_of("x-amz-trailer: x-amz-checksum-crc32\r\n", b"x"),
            Err(BodyError::MalformedTrailer)
        );
    }

    #[test]
    fn malformed_and_unknown_checksums_are_refused() {
        let code = |fields: &str| Expected::of(&head("PUT /b/k", fields), None).unwrap_err().code;
        assert_eq!(code("Content-MD5: abc\r\n"), Code::InvalidDigest);
        assert_eq!(code("x-amz-checksum-crc32: abc\r\n"), Code::InvalidRequest);
        assert_eq!(code("x-amz-checksum-xxhash64: AAAAAAAAAAA=\r\n"), Code::InvalidRequest);
        assert_eq!(code("x-amz-sdk-checksum-algorithm: NONE\r\n"), Code::InvalidRequest);
        assert_eq!(
            code("x-amz-checksum-crc32: AAAAAA==\r\nx-amz-checksum-crc32c: AAAAAA==\r\n"),
            Code::InvalidRequest
        );
    }
}
