//! SigV4 of S3: what a request claims, and the text that its signature covers.
//! Invariants: pure; a [`Claim`] holds well-formed fields and proves nothing; every `x-amz-` header and the host
//! are covered by the signature or the claim is refused; no field is covered twice, so that the text that is hashed
//! for a stranger is never much longer than his head.
//! Not here: keys and comparison (`verify`), bodies (`chunk_signer`).

use std::borrow::Cow;
use std::fmt::Write as _;

use aws_lc_rs::digest;
use smallvec::SmallVec;
use time::{Date, OffsetDateTime, PrimitiveDateTime, Time};

use super::canonical::{SignedQuery, decode_value, push_header, push_path, push_query};
use super::chunk_signer::write_hex;
use crate::http::RequestHead;

/// The only algorithm in use.
pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Longest life of a presigned URL: a week.
const EXPIRES_MAX_S: u64 = 604_800;

/// Why a request was not authenticated. `s3::error` maps each to its S3 code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// Fields of the Authorization header are missing or malformed.
    HeaderMalformed(Cow<'static, str>),
    /// Parameters of a presigned URL are missing or malformed.
    QueryMalformed(Cow<'static, str>),
    /// More than one way of signing in one request.
    Ambiguous,
    /// A SigV2 header that is none.
    V2Malformed,
    /// A field of a browser's upload is missing.
    MissingField(&'static str),
    /// A field of a browser's upload says something else than it may.
    WrongField {
        /// Which.
        field: &'static str,
        /// As sent.
        value: String,
        /// For the client.
        message: Cow<'static, str>,
    },
    /// A scheme that we do not know; the header as sent.
    UnsupportedScheme(String),
    /// The path or query has a broken escape.
    BadEscape,
    /// Neither `x-amz-date` nor `Date` is usable.
    MissingDate,
    /// `x-amz-content-sha256` is missing.
    MissingContentSha256,
    /// `x-amz-content-sha256` is neither a digest nor a known word; as sent.
    BadContentSha256(String),
    /// The scope names another region: the client should use this one.
    WrongRegion {
        /// What the client signed for.
        given: String,
        /// Ours.
        expected: String,
        /// It stood in a query or a form.
        in_query: bool,
    },
    /// Fields that must be signed are not.
    UnsignedHeaders(String),
    /// The clocks differ by more than 15 minutes.
    TimeSkewed {
        /// As the client sent it.
        request_time: String,
        /// Ours, in milliseconds since 1970.
        server_ms: u64,
    },
    /// A presigned URL past its end.
    Expired {
        /// Its end, in milliseconds since 1970.
        expired_ms: u64,
        /// Now.
        server_ms: u64,
        /// Its life in seconds.
        expires_s: u64,
    },
    /// A presigned URL before its time.
    NotYetValid,
    /// No such access key.
    UnknownAccessKey(String),
    /// Session tokens are not issued here.
    SessionToken,
    /// The signature is not the one that the key makes.
    Mismatch(Box<SignatureMismatch>),
}

impl std::fmt::Display for AuthError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not authenticated: {self:?}")
    }
}

impl std::error::Error for AuthError {}

/// What a client needs to find its mistake, as AWS gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureMismatch {
    /// As claimed.
    pub access_key: String,
    /// As we computed it.
    pub string_to_sign: String,
    /// As sent.
    pub signature: String,
    /// As we computed it; empty for SigV2.
    pub canonical_request: String,
}

/// What the head says of the body's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadHash {
    /// Not covered by the signature.
    Unsigned,
    /// SHA-256 of the whole body.
    Sha256([u8; 32]),
    /// aws-chunked, each chunk signed.
    StreamingSigned,
    /// aws-chunked, each chunk and the trailers signed.
    StreamingSignedTrailer,
    /// aws-chunked with trailers, unsigned.
    StreamingUnsignedTrailer,
}

/// How the body is to be verified, for those that need to know only that.
#[derive(Debug)]
pub enum BodySignature {
    /// Not at all.
    Unsigned,
    /// SHA-256 of the whole body.
    Sha256([u8; 32]),
    /// aws-chunked with signatures; and of the trailers too, if true.
    Chunks(Box<super::ChunkSigner>, bool),
    /// aws-chunked without signatures.
    UnsignedChunks,
}

impl PayloadHash {
    pub(super) fn parse(text: &str) -> Option<PayloadHash> {
        Some(match text {
            "UNSIGNED-PAYLOAD" => PayloadHash::Unsigned,
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => PayloadHash::StreamingSigned,
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => PayloadHash::StreamingSignedTrailer,
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => PayloadHash::StreamingUnsignedTrailer,
            _ => {
                let mut digest = [0; 32];
                hex::decode_to_slice(text, &mut digest).ok()?;
                PayloadHash::Sha256(digest)
            }
        })
    }
}

/// A moment as SigV4 writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SignedTime {
    pub(super) unix_s: i64,
    pub(super) text: [u8; 16],
}

impl SignedTime {
    /// `20130524T000000Z`.
    pub(super) fn parse_basic(text: &str) -> Option<SignedTime> {
        let bytes: [u8; 16] = text.as_bytes().try_into().ok()?;
        if bytes[8] != b'T' || bytes[15] != b'Z' {
            return None;
        }
        let number = |range: std::ops::Range<usize>| -> Option<u16> {
            let digits = &bytes[range];
            if !digits.iter().all(u8::is_ascii_digit) {
                return None;
            }
            std::str::from_utf8(digits).ok()?.parse().ok()
        };
        let small = |range| number(range).and_then(|value| u8::try_from(value).ok());
        let month = time::Month::try_from(small(4..6)?).ok()?;
        let date = Date::from_calendar_date(i32::from(number(0..4)?), month, small(6..8)?).ok()?;
        let time = Time::from_hms(small(9..11)?, small(11..13)?, small(13..15)?).ok()?;
        Some(SignedTime {
            unix_s: PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp(),
            text: bytes,
        })
    }

    /// An RFC 7231 or RFC 2822 date, as a `Date` header holds.
    pub(super) fn parse_http(text: &str) -> Option<SignedTime> {
        let text = text.trim().replace("GMT", "+0000").replace("UTC", "+0000");
        let at = OffsetDateTime::parse(&text, &time::format_description::well_known::Rfc2822).ok()?;
        Some(SignedTime::from_utc(at.to_offset(time::UtcOffset::UTC)))
    }

    fn from_utc(at: OffsetDateTime) -> SignedTime {
        let mut text = String::with_capacity(16);
        let (date, time) = (at.date(), at.time());
        let written = write!(
            text,
            "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
            date.year(),
            u8::from(date.month()),
            date.day(),
            time.hour(),
            time.minute(),
            time.second()
        );
        let bytes = text.as_bytes().try_into().unwrap_or(*b"19700101T000000Z");
        debug_assert!(written.is_ok());
        SignedTime { unix_s: at.unix_timestamp(), text: bytes }
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text).unwrap_or_default()
    }
}

/// What a signed request claims.
#[derive(Clone, Debug)]
pub struct Claim<'h> {
    credential: Cow<'h, str>,
    scope: ScopeSpans,
    pub(super) signed_headers: Cow<'h, str>,
    pub(super) signature: Cow<'h, str>,
    pub(super) time: SignedTime,
    /// Of a presigned URL: its life in seconds.
    pub(super) expires_s: Option<u64>,
    pub(super) payload: PayloadHash,
    pub(super) payload_text: Cow<'h, str>,
}

impl<'h> Claim<'h> {
    /// Reads the `Authorization` header, whose text it is given.
    ///
    /// # Errors
    /// [`AuthError`], by what is wrong.
    pub(super) fn from_header(head: &'h RequestHead, authorization: &'h str) -> Result<Claim<'h>, AuthError> {
        let fields = authorization
            .strip_prefix(ALGORITHM)
            .filter(|rest| rest.starts_with([' ', '\t']))
            .ok_or_else(|| AuthError::UnsupportedScheme(authorization.to_owned()))?;
        let [credential, signed_headers, signature] = components(fields)?;
        let scope = ScopeSpans::parse(credential).map_err(|why| header_malformed(&why.to_string()))?;
        let time = match head.header_str("x-amz-date") {
            Some(text) => SignedTime::parse_basic(text),
            None => head
                .header_str("date")
                .and_then(|text| SignedTime::parse_http(text).or_else(|| SignedTime::parse_basic(text))),
        };
        let time = time.ok_or(AuthError::MissingDate)?;
        if !time.as_str().starts_with(scope.date(credential)) {
            return Err(header_malformed("Invalid credential date. Date is not the same as X-Amz-Date."));
        }
        let payload_text = head.header_str("x-amz-content-sha256").ok_or(AuthError::MissingContentSha256)?;
        let payload = PayloadHash::parse(payload_text)
            .ok_or_else(|| AuthError::BadContentSha256(payload_text.to_owned()))?;
        if head.header("x-amz-security-token").is_some() {
            return Err(AuthError::SessionToken);
        }
        let claim = Claim {
            credential: Cow::Borrowed(credential),
            scope,
            signed_headers: Cow::Borrowed(signed_headers),
            signature: Cow::Borrowed(signature),
            time,
            expires_s: None,
            payload,
            payload_text: Cow::Borrowed(payload_text),
        };
        claim.check_signed_headers(head)?;
        Ok(claim)
    }

    /// Reads the parameters of a presigned URL.
    ///
    /// # Errors
    /// [`AuthError`], by what is wrong.
    pub(super) fn from_query(head: &'h RequestHead, query: &SignedQuery<'h>) -> Result<Claim<'h>, AuthError> {
        let need = |raw: Option<&'h [u8]>| -> Result<Cow<'h, str>, AuthError> {
            let raw = raw.ok_or(AuthError::QueryMalformed(Cow::Borrowed(
                "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, \
                 X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
            )))?;
            decode_value(raw).map_err(|_| AuthError::BadEscape)
        };
        if need(query.algorithm)? != ALGORITHM {
            return Err(query_malformed("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\""));
        }
        let credential = need(query.credential)?;
        let scope = ScopeSpans::parse(&credential).map_err(|why| credential_malformed(&why))?;
        let time = SignedTime::parse_basic(&need(query.date)?).ok_or(query_malformed(
            "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"",
        ))?;
        let expires_s: i64 =
            need(query.expires)?.parse().map_err(|_| query_malformed("X-Amz-Expires should be a number"))?;
        let expires_s = match u64::try_from(expires_s) {
            Err(_) => return Err(query_malformed("X-Amz-Expires must be non-negative")),
            Ok(seconds) if seconds > EXPIRES_MAX_S => {
                return Err(query_malformed(
                    "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must \
                     be less than 604800 seconds",
                ));
            }
            Ok(seconds) => seconds,
        };
        check_date(&time, scope.date(&credential))
            .map_err(|why| AuthError::QueryMalformed(Cow::Owned(why)))?;
        if query.security_token.is_some() || head.header("x-amz-security-token").is_some() {
            return Err(AuthError::SessionToken);
        }
        let payload_text = match head.header_str("x-amz-content-sha256") {
            Some(text) => Cow::Borrowed(text),
            None => match query.content_sha256 {
                Some(raw) => decode_value(raw).map_err(|_| AuthError::BadEscape)?,
                None => Cow::Borrowed("UNSIGNED-PAYLOAD"),
            },
        };
        let payload = PayloadHash::parse(&payload_text)
            .ok_or_else(|| AuthError::BadContentSha256(payload_text.clone().into_owned()))?;
        let claim = Claim {
            credential,
            scope,
            signed_headers: need(query.signed_headers)?,
            signature: need(query.signature)?,
            time,
            expires_s: Some(expires_s),
            payload,
            payload_text,
        };
        claim.check_signed_headers(head)?;
        Ok(claim)
    }

    /// The host and every `x-amz-` field that was sent must be signed, and none twice.
    fn check_signed_headers(&self, head: &RequestHead) -> Result<(), AuthError> {
        if has_repeated_name(&self.signed_headers) {
            const REPEATED: &str = "A header is named twice in SignedHeaders.";
            return Err(match self.expires_s {
                Some(_) => query_malformed(REPEATED),
                None => AuthError::HeaderMalformed(Cow::Borrowed(REPEATED)),
            });
        }
        let signed =
            |name: &str| self.signed_headers.split(';').any(|field| field.eq_ignore_ascii_case(name));
        let mut unsigned: SmallVec<[String; 2]> = SmallVec::new();
        for (name, _) in head.headers() {
            let must = name.eq_ignore_ascii_case("host")
                || name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("x-amz-"));
            if must && !signed(name) {
                unsigned.push(name.to_ascii_lowercase());
            }
        }
        if unsigned.is_empty() { Ok(()) } else { Err(AuthError::UnsignedHeaders(unsigned.join(", "))) }
    }

    /// As claimed.
    pub(super) fn access_key(&self) -> &str {
        self.scope.access_key(&self.credential)
    }

    /// `20130524`.
    pub(super) fn date(&self) -> &str {
        self.scope.date(&self.credential)
    }

    /// Of the scope.
    pub(super) fn region(&self) -> &str {
        self.scope.region(&self.credential)
    }

    /// `20130524/us-east-1/s3/aws4_request`.
    pub(super) fn scope(&self) -> &str {
        self.credential.get(self.scope.key_end + 1..).unwrap_or_default()
    }

    /// Appends the canonical request.
    pub(super) fn push_canonical_request(
        &self,
        head: &RequestHead,
        out: &mut Vec<u8>,
    ) -> Result<(), AuthError> {
        out.extend_from_slice(head.method_token().as_bytes());
        out.push(b'\n');
        push_path(head.raw_path(), out).map_err(|_| AuthError::BadEscape)?;
        out.push(b'\n');
        let omit = self.expires_s.is_some().then_some("X-Amz-Signature");
        push_query(head.raw_query().unwrap_or_default(), omit, out).map_err(|_| AuthError::BadEscape)?;
        out.push(b'\n');
        for name in self.signed_headers.split(';') {
            push_header(head, name, out);
        }
        out.push(b'\n');
        out.extend_from_slice(self.signed_headers.as_bytes());
        out.push(b'\n');
        out.extend_from_slice(self.payload_text.as_bytes());
        Ok(())
    }

    /// The text that the signature covers.
    pub(super) fn string_to_sign(&self, canonical_request: &[u8]) -> Vec<u8> {
        let mut hash = [0; 64];
        write_hex(digest::digest(&digest::SHA256, canonical_request).as_ref(), &mut hash);
        let mut text = Vec::with_capacity(160);
        for part in
            [ALGORITHM.as_bytes(), b"\n", &self.time.text, b"\n", self.scope().as_bytes(), b"\n", &hash]
        {
            text.extend_from_slice(part);
        }
        text
    }
}

/// `Credential=, SignedHeaders=, Signature=`, in any order.
fn components(fields: &str) -> Result<[&str; 3], AuthError> {
    const NAMES: [&str; 3] = ["Credential", "SignedHeaders", "Signature"];
    let mut found = [None; 3];
    let mut count = 0;
    for field in fields.split(',').map(str::trim).filter(|field| !field.is_empty()) {
        let (name, value) = field.split_once('=').ok_or_else(|| {
            header_malformed(&format!("the authorization component \"{field}\" is malformed."))
        })?;
        if let Some(at) = NAMES.iter().position(|known| *known == name) {
            found[at] = Some(value);
        }
        count += 1;
    }
    if count < NAMES.len() {
        return Err(header_malformed(
            "the authorization header requires three components: Credential, SignedHeaders, and Signature.",
        ));
    }
    let mut components = [""; 3];
    for ((component, found), name) in components.iter_mut().zip(found).zip(NAMES) {
        *component = found.ok_or_else(|| header_malformed(&format!("missing {name}.")))?;
    }
    Ok(components)
}

fn header_malformed(why: &str) -> AuthError {
    AuthError::HeaderMalformed(Cow::Owned(format!("The authorization header is malformed; {why}")))
}

pub(super) fn query_malformed(why: &'static str) -> AuthError {
    AuthError::QueryMalformed(Cow::Borrowed(why))
}

/// Of a query.
fn credential_malformed(why: &ScopeError) -> AuthError {
    AuthError::QueryMalformed(Cow::Owned(format!("Error parsing the X-Amz-Credential parameter; {why}")))
}

/// The day of the scope, in a query or a form, is that of the request.
pub(super) fn check_date(time: &SignedTime, date: &str) -> Result<(), String> {
    if time.as_str().starts_with(date) {
        return Ok(());
    }
    let day = &time.as_str()[..8];
    Err(format!("Invalid credential date \"{date}\". This date is not the same as X-Amz-Date: \"{day}\"."))
}

/// Whether a list of header names, separated by semicolons, names one twice, in whatever case.
fn has_repeated_name(names: &str) -> bool {
    let lower = |name: &str| -> SmallVec<[u8; 32]> { name.bytes().map(|b| b.to_ascii_lowercase()).collect() };
    let ascends = |(before, name): (&str, &str)| lower(before) < lower(name);
    // Clients sort the names, as the specification asks.
    if names.split(';').zip(names.split(';').skip(1)).all(ascends) {
        return false;
    }
    let mut names: Vec<_> = names.split(';').map(lower).collect();
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

/// Where the parts of a credential end: `KEY/20130524/us-east-1/s3/aws4_request`; a key may hold slashes.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScopeSpans {
    key_end: usize,
    date_end: usize,
    region_end: usize,
}

/// What is wrong with a credential; its text is the end of AWS's sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ScopeError {
    Form,
    Terminal(String),
    Service(String),
    Date(String),
}

impl std::fmt::Display for ScopeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ScopeError::Form => f.write_str(
                "the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".",
            ),
            ScopeError::Terminal(given) => {
                write!(f, "incorrect terminal \"{given}\". This endpoint uses \"aws4_request\".")
            }
            ScopeError::Service(given) => {
                write!(f, "incorrect service \"{given}\". This endpoint belongs to \"s3\".")
            }
            ScopeError::Date(given) => write!(
                f,
                "incorrect date format \"{given}\". This date in the credential must be in the format \"yyyyMMdd\"."
            ),
        }
    }
}

impl ScopeSpans {
    pub(super) fn parse(credential: &str) -> Result<ScopeSpans, ScopeError> {
        let (rest, terminal) = credential.rsplit_once('/').ok_or(ScopeError::Form)?;
        let (region, service) = rest.rsplit_once('/').ok_or(ScopeError::Form)?;
        let (date, _) = region.rsplit_once('/').ok_or(ScopeError::Form)?;
        let (key, date_text) = date.rsplit_once('/').ok_or(ScopeError::Form)?;
        if key.is_empty() {
            return Err(ScopeError::Form);
        }
        if terminal != "aws4_request" {
            return Err(ScopeError::Terminal(terminal.to_owned()));
        }
        if service != "s3" {
            return Err(ScopeError::Service(service.to_owned()));
        }
        if date_text.len() != 8 || !date_text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ScopeError::Date(date_text.to_owned()));
        }
        Ok(ScopeSpans { key_end: key.len(), date_end: date.len(), region_end: region.len() })
    }

    pub(super) fn access_key(self, credential: &str) -> &str {
        credential.get(..self.key_end).unwrap_or_default()
    }

    pub(super) fn region(self, credential: &str) -> &str {
        credential.get(self.date_end + 1..self.region_end).unwrap_or_default()
    }

    pub(super) fn date(self, credential: &str) -> &str {
        credential.get(self.key_end + 1..self.date_end).unwrap_or_default()
    }
}
