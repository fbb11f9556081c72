//! Digests of bodies: which ones a request demands, and their computation over the body as it passes.
//! Invariants: exactly the digests that are needed are computed, once, over the decoded payload; a body is right
//! only if every digest that the client gave is.
//! Not here: framing and signatures of bodies (`http`, `auth`), storing checksums (`ops`).

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use md5::{Digest as _, Md5};

use crate::checksum_stream::ChecksumStream;
use crate::http::{RequestHead, Trailers};
use crate::ops::api::{BodyError, ChecksumAlgorithm, ChecksumKind, StoredChecksum};
use crate::s3::error::{Code, S3Error};

/// The name in headers' values and XML, the header field and the XML element of each.
const ALGORITHMS: [(ChecksumAlgorithm, &str, &str, &str); 10] = [
    (ChecksumAlgorithm::Crc32, "CRC32", "x-amz-checksum-crc32", "ChecksumCRC32"),
    (ChecksumAlgorithm::Crc32c, "CRC32C", "x-amz-checksum-crc32c", "ChecksumCRC32C"),
    (ChecksumAlgorithm::Crc64Nvme, "CRC64NVME", "x-amz-checksum-crc64nvme", "ChecksumCRC64NVME"),
    (ChecksumAlgorithm::Sha1, "SHA1", "x-amz-checksum-sha1", "ChecksumSHA1"),
    (ChecksumAlgorithm::Sha256, "SHA256", "x-amz-checksum-sha256", "ChecksumSHA256"),
    (ChecksumAlgorithm::Sha512, "SHA512", "x-amz-checksum-sha512", "ChecksumSHA512"),
    (ChecksumAlgorithm::Md5, "MD5", "x-amz-checksum-md5", "ChecksumMD5"),
    (ChecksumAlgorithm::XxHash64, "XXHASH64", "x-amz-checksum-xxhash64", "ChecksumXXHASH64"),
    (ChecksumAlgorithm::XxHash3, "XXHASH3", "x-amz-checksum-xxhash3", "ChecksumXXHASH3"),
    (ChecksumAlgorithm::XxHash128, "XXHASH128", "x-amz-checksum-xxhash128", "ChecksumXXHASH128"),
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
    row(algorithm).3
}

/// The algorithm of an XML element such as `ChecksumCRC32C`.
pub fn algorithm_of_element(element: &str) -> Option<ChecksumAlgorithm> {
    ALGORITHMS.iter().find(|(.., known)| *known == element).map(|(algorithm, ..)| *algorithm)
}

fn row(
    algorithm: ChecksumAlgorithm,
) -> &'static (ChecksumAlgorithm, &'static str, &'static str, &'static str) {
    let mut rows = ALGORITHMS.iter();
    rows.find(|(known, ..)| *known == algorithm).expect("every algorithm has a row; a test says so")
}

/// `FULL_OBJECT` or `COMPOSITE`.
pub fn kind_name(kind: ChecksumKind) -> &'static str {
    match kind {
        ChecksumKind::FullObject => "FULL_OBJECT",
        ChecksumKind::Composite => "COMPOSITE",
    }
}

/// Reads `FULL_OBJECT` or `COMPOSITE` without case.
///
/// # Errors
/// `InvalidRequest`.
pub fn parse_kind(text: &str) -> Result<ChecksumKind, S3Error> {
    [ChecksumKind::FullObject, ChecksumKind::Composite]
        .into_iter()
        .find(|kind| text.eq_ignore_ascii_case(kind_name(*kind)))
        .ok_or_else(|| {
            S3Error::with_message(Code::InvalidRequest, "Value for x-amz-checksum-type header is invalid.")
        })
}

/// Reads an algorithm's name without case.
///
/// # Errors
/// `InvalidRequest` for a name that S3 does not know.
pub fn parse_algorithm(name: &str) -> Result<ChecksumAlgorithm, S3Error> {
    if let Some((algorithm, ..)) = ALGORITHMS.iter().find(|(_, known, ..)| known.eq_ignore_ascii_case(name)) {
        return Ok(*algorithm);
    }
    Err(S3Error::with_message(
        Code::InvalidRequest,
        "Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, \
         CRC64NVME, SHA1, SHA256, SHA512, MD5, XXHASH64, XXHASH3, XXHASH128]",
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
            return Err(several_checksums());
        }
        let algorithm = parse_algorithm(rest)?;
        let text = std::str::from_utf8(value).unwrap_or_default();
        found = Some((algorithm, parse_value(algorithm, text)?));
    }
    Ok(found)
}

fn several_checksums() -> S3Error {
    S3Error::with_message(
        Code::InvalidRequest,
        "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
    )
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
        if header.is_some() && trailer.is_some() {
            return Err(several_checksums());
        }
        let given = header.as_ref().map(|(algorithm, _)| *algorithm).or(trailer);
        match (named, given) {
            (Some(named), Some(given)) if named != given => Err(S3Error::with_message(
                Code::InvalidRequest,
                "Value for x-amz-sdk-checksum-algorithm header is invalid.",
            )),
            (Some(_), None) => Err(S3Error::with_message(
                Code::InvalidRequest,
                "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer \
                 headers were found.",
            )),
            _ => Ok(Expected { content_md5, sha256: signed_sha256, header, trailer }),
        }
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
            .and("Content-MD5", String::from_utf8_lossy(value).into_owned())
    })
}

fn trailer_algorithm(names: &str) -> Result<Option<ChecksumAlgorithm>, S3Error> {
    let mut found = None;
    for name in names.split(',') {
        if let Some(rest) = strip_prefix_no_case(name.trim(), "x-amz-checksum-") {
            if found.is_some() {
                return Err(several_checksums());
            }
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
    checksum: Option<ChecksumStream>,
    needed: Needed,
    len_bytes: u64,
    /// `x-amz-checksum-*` speaks of this body.
    are_of_body: bool,
}

/// A checksum that is wanted whether or not the client gave one.
enum Needed {
    Nothing,
    /// It is the one that is computed anyway.
    Same,
    Other(ChecksumStream),
}

/// What a whole body came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digested {
    /// MD5.
    pub md5: [u8; 16],
    /// The checksum to store.
    pub checksum: Option<StoredChecksum>,
    /// The one that [`Digests::need`] asked for.
    pub needed: Option<StoredChecksum>,
    /// Length.
    pub len_bytes: u64,
}

impl Digests {
    /// For a body of which the client said `expected`.
    pub fn new(expected: Expected) -> Digests {
        let sha256 = expected.sha256.map(|_| digest::Context::new(&digest::SHA256));
        let checksum = expected.given_algorithm().map(ChecksumStream::new);
        let (md5, needed) = (Md5Stream::default(), Needed::Nothing);
        Digests { expected, md5, sha256, checksum, needed, len_bytes: 0, are_of_body: true }
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
        self.are_of_body = false;
        self
    }

    /// Before the first byte: the checksum to compute if the client gave none.
    pub fn want(&mut self, algorithm: ChecksumAlgorithm) {
        if self.checksum.is_none() && self.len_bytes == 0 {
            self.checksum = Some(ChecksumStream::new(algorithm));
        }
    }

    /// Before the first byte: the checksum to compute whether or not the client gave another.
    pub fn need(&mut self, algorithm: ChecksumAlgorithm) {
        self.want(algorithm);
        let is_same = self.checksum.as_ref().is_some_and(|checksum| checksum.algorithm() == algorithm);
        self.needed = if is_same { Needed::Same } else { Needed::Other(ChecksumStream::new(algorithm)) };
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
        if let Needed::Other(needed) = &mut self.needed {
            needed.update(data);
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
        if let Some(given) = self.expected.content_md5.filter(|given| *given != md5) {
            return Err(BodyError::Md5Mismatch { given, computed: md5 });
        }
        if let (Some(given), Some(sha256)) = (self.expected.sha256, self.sha256) {
            let digest = sha256.finish();
            if digest.as_ref() != given {
                let computed = digest.as_ref().try_into().unwrap_or_default();
                return Err(BodyError::ContentSha256Mismatch { given, computed });
            }
        }
        let is_announced = self.expected.trailer.is_some() || !self.are_of_body;
        if !is_announced && trailers.is_some_and(Trailers::have_checksum) {
            return Err(BodyError::MalformedTrailer);
        }
        let Some(stream) = self.checksum else {
            return Ok(Digested { md5, checksum: None, needed: None, len_bytes: self.len_bytes });
        };
        let checksum = stored(stream);
        let given = match (&self.expected.header, self.expected.trailer) {
            (Some((_, given)), _) => Some(given.clone()),
            (None, Some(algorithm)) => {
                let text = trailers
                    .and_then(|trailers| trailers.get(header_name(algorithm)))
                    .ok_or(BodyError::MalformedTrailer)?;
                Some(parse_value(algorithm, text).map_err(|_| BodyError::InvalidTrailer(algorithm))?)
            }
            (None, None) => None,
        };
        if given.is_some_and(|given| given != checksum.value) {
            return Err(BodyError::ChecksumMismatch(checksum.algorithm));
        }
        let needed = match self.needed {
            Needed::Nothing => None,
            Needed::Same => Some(checksum.clone()),
            Needed::Other(stream) => Some(stored(stream)),
        };
        Ok(Digested { md5, checksum: Some(checksum), needed, len_bytes: self.len_bytes })
    }
}

fn stored(stream: ChecksumStream) -> StoredChecksum {
    StoredChecksum { algorithm: stream.algorithm(), kind: ChecksumKind::FullObject, value: stream.finish() }
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
            (
                "sha512",
                "2eZ2LdHI6vbWGzxhkvxAjU1tXxF20MKRabwk5xw/J0rSf81YEbMT1oH35V7ALXPUmclUVba1u1A6z1dPuo/+hQ==",
            ),
            ("md5", "JfnnlDI7RTiF9RgfG2JNCw=="),
            ("xxhash64", "jLhB20DmroM="),
            ("xxhash3", "ctyxi2ehff8="),
            ("xxhash128", "MxGUd+3l3NXpcWQnaB1YYA=="),
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
    fn a_needed_checksum_is_computed_beside_that_of_the_client() {
        let mut digests = Digests::new(
            Expected::of(&head("PUT /b/k", "x-amz-checksum-crc32: y/Q5Jg==\r\n"), None).unwrap(),
        );
        digests.need(ChecksumAlgorithm::Crc64Nvme);
        digests.update(b"123456789");
        let digested = digests.finish(None).unwrap();
        assert_eq!(value_text(&digested.checksum.unwrap(), None), "y/Q5Jg==");
        assert_eq!(value_text(&digested.needed.unwrap(), None), "rosUhgp5mIg=");
    }

    #[test]
    fn every_algorithm_has_its_names() {
        for algorithm in ChecksumAlgorithm::ALL {
            assert_eq!(parse_algorithm(algorithm_name(algorithm)).unwrap(), algorithm);
            assert_eq!(algorithm_of_element(element_name(algorithm)), Some(algorithm));
            let field = header_name(algorithm).strip_prefix("x-amz-checksum-").unwrap();
            assert!(field.eq_ignore_ascii_case(algorithm_name(algorithm)));
        }
    }

    #[test]
    fn wrong_digests_are_told_apart() {
        assert_eq!(
            digest_of("x-amz-checksum-crc32: AAAAAA==\r\n", b"x"),
            Err(BodyError::ChecksumMismatch(ChecksumAlgorithm::Crc32))
        );
        assert!(matches!(
            digest_of("Content-MD5: 1B2M2Y8AsgTpgAmY7PhCfg==\r\n", b"x"),
            Err(BodyError::Md5Mismatch { .. })
        ));
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
        assert_eq!(code("x-amz-checksum-xxhash32: AAAAAA==\r\n"), Code::InvalidRequest);
        assert_eq!(
            code("x-amz-trailer: x-amz-checksum-crc32, x-amz-checksum-sha1\r\n"),
            Code::InvalidRequest
        );
        assert_eq!(code("x-amz-sdk-checksum-algorithm: CRC32\r\n"), Code::InvalidRequest);
        assert_eq!(code("x-amz-sdk-checksum-algorithm: NONE\r\n"), Code::InvalidRequest);
        assert_eq!(
            code("x-amz-checksum-crc32: AAAAAA==\r\nx-amz-checksum-crc32c: AAAAAA==\r\n"),
            Code::InvalidRequest
        );
    }
}
