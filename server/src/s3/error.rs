//! The one table of S3 errors: code, status, message, and how every error of ours maps to it.
//! Invariants: each enum is mapped by a total `match`; an error body is exactly what AWS's clients parse.
//! Not here: what went wrong inside (the log has it, under the request id).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::auth::AuthError;
use crate::http::{Arrival, HeadError, RequestIds, Response};
use crate::ops::api::{BodyError, OpError, Unavailable};
use crate::s3::checksum::{algorithm_name, header_name, kind_name};
use crate::s3::time_text::{http_date, iso_8601};
use crate::s3::xml::{MalformedXml, XmlWriter};

macro_rules! codes {
    ($($name:ident $status:literal $message:literal)*) => {
        /// An S3 error code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the table below says what each one is, in AWS's words")]
        pub enum Code { $($name),* }

        impl Code {
            /// As it stands in the XML.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => stringify!($name)),* }
            }

            /// The HTTP status.
            pub fn status(self) -> u16 {
                match self { $(Code::$name => $status),* }
            }

            /// The message, unless an error has its own.
            pub fn message(self) -> &'static str {
                match self { $(Code::$name => $message),* }
            }
        }
    };
}

codes! {
    AccessControlListNotSupported 400 "The bucket does not allow ACLs"
    AccessDenied 403 "Access Denied"
    AccessForbidden 403 "CORSResponse: This CORS request is not allowed."
    AuthorizationHeaderMalformed 400 "The authorization header you provided is invalid."
    AuthorizationQueryParametersError 400 "The query parameters of the signature are invalid."
    BadDigest 400 "The Content-MD5 or checksum value that you specified did not match what the server received."
    BadRequest 400 "An error occurred when parsing the HTTP request."
    BucketAlreadyExists 409 "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again."
    BucketAlreadyOwnedByYou 409 "Your previous request to create the named bucket succeeded and you already own it."
    BucketNotEmpty 409 "The bucket you tried to delete is not empty"
    ConditionalRequestConflict 409 "The conditional request cannot succeed due to a conflicting operation against this resource."
    EntityTooLarge 400 "Your proposed upload exceeds the maximum allowed size"
    EntityTooSmall 400 "Your proposed upload is smaller than the minimum allowed size"
    IdempotencyParameterMismatch 400 "Parameters on this idempotent request are inconsistent with parameters used in previous request(s)."
    IllegalVersioningConfigurationException 400 "The Versioning element must be specified"
    IncompleteBody 400 "You did not provide the number of bytes specified by the Content-Length HTTP header"
    IncorrectNumberOfFilesInPostRequest 400 "POST requires exactly one file upload per request."
    InsufficientStorage 507 "The drives have reached their reserve; nothing more can be stored."
    InternalError 500 "We encountered an internal error. Please try again."
    InvalidAccessKeyId 403 "The AWS Access Key Id you provided does not exist in our records."
    InvalidArgument 400 "Invalid Argument"
    InvalidBucketAclWithObjectOwnership 400 "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting"
    InvalidBucketName 400 "The specified bucket is not valid."
    InvalidBucketState 409 "The request is not valid with the current state of the bucket."
    InvalidDigest 400 "The Content-MD5 or checksum value that you specified is not valid."
    InvalidEncryptionAlgorithmError 400 "The Encryption request you specified is not valid. Supported value: AES256."
    InvalidObjectState 403 "The operation is not valid for the object's storage class"
    InvalidPart 400 "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag."
    InvalidPartNumber 416 "The requested partnumber is not satisfiable"
    InvalidPartOrder 400 "The list of parts was not in ascending order. Parts must be ordered by part number."
    InvalidPolicyDocument 400 "The content of the form does not meet the conditions specified in the policy document."
    InvalidRange 416 "The requested range is not satisfiable"
    InvalidRedirectLocation 400 "The website redirect location must have a prefix of 'http://' or 'https://' or '/'."
    InvalidRequest 400 "Invalid Request"
    InvalidRetentionPeriod 400 "Default retention period must be a positive integer value."
    InvalidStorageClass 400 "The storage class you specified is not valid"
    InvalidTag 400 "The tag provided was not a valid tag."
    InvalidTargetBucketForLogging 400 "The target bucket for logging does not exist"
    InvalidToken 400 "The provided token is malformed or otherwise invalid."
    InvalidURI 400 "Couldn't parse the specified URI."
    InvalidWriteOffset 400 "The write offset value that you specified does not match the current object size."
    KeyTooLongError 400 "Your key is too long"
    MalformedACLError 400 "The XML you provided was not well-formed or did not validate against our published schema"
    MalformedPolicy 400 "This policy contains invalid Json"
    MalformedPOSTRequest 400 "The body of your POST request is not well-formed multipart/form-data."
    MalformedTrailerError 400 "The request contained trailing data that was not well-formed or did not conform to our published schema."
    MalformedXML 400 "The XML you provided was not well-formed or did not validate against our published schema"
    MaxPostPreDataLengthExceededError 400 "Your POST request fields preceding the upload file were too large."
    MetadataTooLarge 400 "Your metadata headers exceed the maximum allowed metadata size"
    MethodNotAllowed 405 "The specified method is not allowed against this resource."
    MissingContentLength 411 "You must provide the Content-Length HTTP header."
    MissingSecurityHeader 400 "Your request was missing a required header"
    NoSuchBucket 404 "The specified bucket does not exist"
    NoSuchBucketPolicy 404 "The bucket policy does not exist"
    NoSuchCORSConfiguration 404 "The CORS configuration does not exist"
    NoSuchConfiguration 404 "The specified configuration does not exist."
    NoSuchKey 404 "The specified key does not exist."
    NoSuchLifecycleConfiguration 404 "The lifecycle configuration does not exist"
    NoSuchObjectLockConfiguration 404 "The specified object does not have a ObjectLock configuration"
    NoSuchPublicAccessBlockConfiguration 404 "The public access block configuration was not found"
    NoSuchTagSet 404 "The TagSet does not exist"
    NoSuchUpload 404 "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."
    NoSuchVersion 404 "The specified version does not exist."
    NoSuchWebsiteConfiguration 404 "The specified bucket does not have a website configuration"
    NotImplemented 501 "A header or query you provided implies functionality that is not implemented."
    ObjectLockConfigurationNotFoundError 404 "Object Lock configuration does not exist for this bucket"
    OwnershipControlsNotFoundError 404 "The bucket ownership controls were not found"
    PolicyTooLarge 400 "Policy exceeds the maximum allowed document size."
    PreconditionFailed 412 "At least one of the pre-conditions you specified did not hold"
    ReplicationConfigurationNotFoundError 404 "The replication configuration was not found"
    RequestHeaderSectionTooLarge 431 "Your request header section exceeds the maximum allowed size."
    RequestTimeTooSkewed 403 "The difference between the request time and the server's time is too large."
    RequestTimeout 400 "Your socket connection to the server was not read from or written to within the timeout period."
    ServerSideEncryptionConfigurationNotFoundError 404 "The server side encryption configuration was not found"
    ServiceUnavailable 503 "Service is unable to handle request."
    SignatureDoesNotMatch 403 "The request signature we calculated does not match the signature you provided. Check your key and signing method."
    SlowDown 503 "Please reduce your request rate."
    TooManyBuckets 400 "You have attempted to create more buckets than allowed"
    TooManyParts 400 "You have attempted to add more parts than the maximum of 10000 that are allowed for this object."
    UnexpectedContent 400 "This request does not support content"
    UnresolvableGrantByEmailAddress 400 "The e-mail address you provided does not match any account on record."
    UnsupportedHttpVersion 505 "The HTTP version is not supported."
    UriTooLong 414 "The request target is too long."
    XAmzContentSHA256Mismatch 400 "The provided 'x-amz-content-sha256' header does not match what was computed."
}

/// An error as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Error {
    /// The code.
    pub code: Code,
    /// Instead of the code's message.
    pub message: Option<Cow<'static, str>>,
    /// Further elements of the body.
    pub extra: Vec<(&'static str, String)>,
    /// Further header fields of the response.
    pub headers: Vec<(&'static str, String)>,
    /// For the log, never for the client.
    pub detail: Option<String>,
}

impl From<Code> for S3Error {
    fn from(code: Code) -> S3Error {
        S3Error { code, message: None, extra: Vec::new(), headers: Vec::new(), detail: None }
    }
}

impl S3Error {
    /// An error with its own message.
    pub fn with_message(code: Code, message: impl Into<Cow<'static, str>>) -> S3Error {
        S3Error { message: Some(message.into()), ..S3Error::from(code) }
    }

    /// `InvalidArgument` for a named argument.
    pub fn argument(name: &str, value: &str, message: impl Into<Cow<'static, str>>) -> S3Error {
        S3Error::with_message(Code::InvalidArgument, message)
            .and("ArgumentName", name.to_owned())
            .and("ArgumentValue", value.to_owned())
    }

    /// The same with one more element in its body.
    #[must_use]
    pub fn and(mut self, name: &'static str, value: String) -> S3Error {
        self.extra.push((name, value));
        self
    }

    /// Its message.
    pub fn text(&self) -> &str {
        self.message.as_deref().unwrap_or(self.code.message())
    }

    /// The response. `resource` is the path as sent.
    pub fn to_response<P>(&self, ids: &RequestIds, resource: &str) -> Response<P> {
        let mut xml = XmlWriter::document();
        xml.open("Error");
        xml.leaf("Code", self.code.as_str());
        xml.leaf("Message", self.text());
        for (name, value) in &self.extra {
            xml.leaf(name, value);
        }
        xml.leaf("Resource", resource);
        xml.leaf("RequestId", ids.request_id());
        xml.leaf("HostId", ids.host_id());
        xml.close("Error");
        // Exactly this type: the CRT reads ActualObjectSize only where no charset is given.
        let mut response = Response::new(self.code.status()).with_bytes("application/xml", xml.finish());
        if self.code == Code::SlowDown {
            response.headers.push("Retry-After", "1");
        }
        for (name, value) in &self.headers {
            response.headers.push(name, value);
        }
        response
    }
}

/// The error of what is done to an object itself and not only read of it: AWS refuses that to a delete marker, also where
/// the request names no version.
pub fn of_subject(error: OpError) -> S3Error {
    match error {
        OpError::DeleteMarker { version, modified_ms, .. } => {
            OpError::DeleteMarker { version, modified_ms, is_current: false }.into()
        }
        other => other.into(),
    }
}

impl std::fmt::Display for S3Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.text())
    }
}

impl std::error::Error for S3Error {}

impl From<MalformedXml> for S3Error {
    fn from(_: MalformedXml) -> S3Error {
        Code::MalformedXML.into()
    }
}

impl From<OpError> for S3Error {
    fn from(error: OpError) -> S3Error {
        match error {
            OpError::InvalidBucketName => Code::InvalidBucketName.into(),
            OpError::InvalidKey => Code::InvalidURI.into(),
            OpError::KeyTooLong => Code::KeyTooLongError.into(),
            OpError::NoSuchBucket => Code::NoSuchBucket.into(),
            OpError::NoSuchKey => Code::NoSuchKey.into(),
            OpError::NoSuchVersion => Code::NoSuchVersion.into(),
            OpError::DeleteMarker { version, modified_ms, is_current } => {
                let code = if is_current { Code::NoSuchKey } else { Code::MethodNotAllowed };
                let mut headers = vec![
                    ("x-amz-delete-marker", "true".to_owned()),
                    ("x-amz-version-id", version.to_string()),
                ];
                if is_current {
                    return S3Error { headers, ..S3Error::from(code) };
                }
                let modified = http_date(modified_ms);
                headers.push(("Last-Modified", String::from_utf8_lossy(&modified).into_owned()));
                headers.push(("Allow", "DELETE".to_owned()));
                S3Error { headers, ..S3Error::from(code) }.and("ResourceType", "DeleteMarker".to_owned())
            }
            OpError::ObjectLocked => S3Error::with_message(
                Code::AccessDenied,
                "Access Denied because object protected by object lock.",
            ),
            OpError::NoObjectLock => {
                S3Error::with_message(Code::InvalidRequest, "Bucket is missing Object Lock Configuration")
            }
            OpError::NoSuchUpload => Code::NoSuchUpload.into(),
            OpError::BucketAlreadyOwnedByYou => Code::BucketAlreadyOwnedByYou.into(),
            OpError::BucketAlreadyExists => Code::BucketAlreadyExists.into(),
            OpError::BucketNotEmpty => Code::BucketNotEmpty.into(),
            OpError::NoSuchAccount => Code::InvalidAccessKeyId.into(),
            OpError::TooManyBuckets => Code::TooManyBuckets.into(),
            OpError::ObjectLockNeedsVersioning => S3Error::with_message(
                Code::InvalidBucketState,
                "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.",
            ),
            OpError::PreconditionFailed => Code::PreconditionFailed.into(),
            OpError::ConditionalRequestConflict => Code::ConditionalRequestConflict.into(),
            OpError::CopyOntoItself => S3Error::with_message(
                Code::InvalidRequest,
                "This copy request is illegal because it is trying to copy an object to itself without changing the \
                 object's metadata, storage class, website redirect location or encryption attributes.",
            ),
            OpError::InvalidWriteOffset { size_bytes } => {
                S3Error::from(Code::InvalidWriteOffset).and("ObjectSize", size_bytes.to_string())
            }
            OpError::KeepsVersions => S3Error::with_message(
                Code::InvalidBucketState,
                "A bucket with versioning takes neither appends nor renames.",
            ),
            OpError::TokenReused => Code::IdempotencyParameterMismatch.into(),
            OpError::TooManyParts => Code::TooManyParts.into(),
            OpError::TooManySharedParts => S3Error::with_message(
                Code::InvalidRequest,
                "The object was copied from one of more than 1000 parts, or to one; it cannot be appended to.",
            ),
            OpError::AppendToEncrypted => S3Error::with_message(
                Code::InvalidRequest,
                "An encrypted object cannot be appended to, and an append cannot ask for encryption.",
            ),
            OpError::CustomerKeyMissing => S3Error::with_message(
                Code::InvalidRequest,
                "The object was stored using a form of Server Side Encryption. The correct parameters must be \
                 provided to retrieve the object.",
            ),
            OpError::CustomerKeyWrong => S3Error::with_message(
                Code::AccessDenied,
                "Requests specifying Server Side Encryption with Customer provided keys must provide the correct secret \
                 key.",
            ),
            OpError::CustomerKeyUnexpected => S3Error::with_message(
                Code::InvalidRequest,
                "The encryption parameters are not applicable to this object.",
            ),
            // A copy that hears it reads and writes.
            OpError::CopyMovesBytes => S3Error {
                detail: Some("a copy between encryptions was left undone".to_owned()),
                ..S3Error::from(Code::InternalError)
            },
            OpError::EntityTooSmall { part_number, size_bytes } => S3Error::from(Code::EntityTooSmall)
                .and("ProposedSize", size_bytes.to_string())
                .and("MinSizeAllowed", crate::ops::api::PART_MIN_BYTES.to_string())
                .and("PartNumber", part_number.to_string()),
            OpError::InvalidPart { part_number } => {
                S3Error::from(Code::InvalidPart).and("PartNumber", part_number.to_string())
            }
            OpError::InvalidPartOrder => Code::InvalidPartOrder.into(),
            OpError::PartNumberOutOfRange => S3Error::with_message(
                Code::InvalidArgument,
                "Part number must be an integer between 1 and 10000, inclusive",
            ),
            OpError::NoSuchPart { part_count } => {
                S3Error::from(Code::InvalidPartNumber).and("ActualPartCount", part_count.to_string())
            }
            OpError::BadPartList => Code::MalformedXML.into(),
            OpError::ObjectSizeMismatch => S3Error::with_message(
                Code::InvalidRequest,
                "The provided 'x-amz-mp-object-size' header value does not match what was computed.",
            ),
            OpError::CompletionChecksumMismatch => Code::BadDigest.into(),
            OpError::ChecksumKindUnsupported { algorithm, kind } => S3Error::with_message(
                Code::InvalidRequest,
                format!(
                    "The {} checksum type cannot be used with the {} checksum algorithm.",
                    kind_name(kind),
                    algorithm_name(algorithm).to_ascii_lowercase()
                ),
            ),
            OpError::ChecksumAlgorithmMismatch { expected, actual } => S3Error::with_message(
                Code::InvalidRequest,
                format!(
                    "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
                    algorithm_name(expected).to_ascii_lowercase(),
                    algorithm_name(actual).to_ascii_lowercase()
                ),
            ),
            OpError::ChecksumKindMismatch { expected } => S3Error::with_message(
                Code::InvalidRequest,
                format!(
                    "The upload was created using the {0} checksum mode. The complete request must use the same \
                     checksum mode.",
                    kind_name(expected)
                ),
            ),
            OpError::PartChecksumMissing { algorithm, part_number } => S3Error::with_message(
                Code::InvalidRequest,
                format!(
                    "The upload was created using a {} checksum. The complete request must include the checksum for \
                     each part. It was missing for part {part_number} in the request.",
                    algorithm_name(algorithm).to_ascii_lowercase()
                ),
            ),
            OpError::EntityTooLarge => S3Error::from(Code::EntityTooLarge)
                .and("MaxSizeAllowed", crate::ops::api::BODY_MAX_BYTES.to_string()),
            OpError::MetadataTooLarge => Code::MetadataTooLarge.into(),
            OpError::Body(error) => error.into(),
            OpError::SlowDown => Code::SlowDown.into(),
            OpError::ServiceUnavailable(Unavailable::ReadOnly) => S3Error::with_message(
                Code::ServiceUnavailable,
                "Too few healthy drives to write; reads go on.",
            ),
            OpError::ServiceUnavailable(Unavailable::ShardsLost) => S3Error::with_message(
                Code::ServiceUnavailable,
                "Too many of the object's shards are out of reach.",
            ),
            OpError::ServiceUnavailable(Unavailable::Stopping) => {
                S3Error::with_message(Code::ServiceUnavailable, "The server is shutting down.")
            }
            OpError::InsufficientStorage => Code::InsufficientStorage.into(),
            OpError::Damaged(detail) | OpError::Internal(detail) => {
                S3Error { detail: Some(detail), ..S3Error::from(Code::InternalError) }
            }
        }
    }
}

impl From<BodyError> for S3Error {
    fn from(error: BodyError) -> S3Error {
        match error {
            BodyError::Md5Mismatch { given, computed } => S3Error::with_message(
                Code::BadDigest,
                "The Content-MD5 you specified did not match what we received.",
            )
            .and("ExpectedDigest", hex::encode(given))
            .and("CalculatedDigest", STANDARD.encode(computed)),
            BodyError::ChecksumMismatch(algorithm) => S3Error::with_message(
                Code::BadDigest,
                format!(
                    "The {} you specified did not match the calculated checksum.",
                    algorithm_name(algorithm)
                ),
            ),
            BodyError::ContentSha256Mismatch { given, computed } => {
                S3Error::from(Code::XAmzContentSHA256Mismatch)
                    .and("ClientComputedContentSHA256", hex::encode(given))
                    .and("S3ComputedContentSHA256", hex::encode(computed))
            }
            BodyError::SignatureMismatch => Code::SignatureDoesNotMatch.into(),
            // As AWS: what cannot be read on is told as an early end.
            BodyError::MalformedFraming => {
                S3Error::with_message(Code::IncompleteBody, "The request body terminated unexpectedly")
            }
            BodyError::MalformedForm => Code::MalformedPOSTRequest.into(),
            BodyError::MalformedTrailer => Code::MalformedTrailerError.into(),
            BodyError::InvalidTrailer(algorithm) => S3Error::with_message(
                Code::InvalidRequest,
                format!("Value for {} trailing header is invalid.", header_name(algorithm)),
            ),
            BodyError::Incomplete | BodyError::ClientGone => Code::IncompleteBody.into(),
            BodyError::TooLarge => Code::EntityTooLarge.into(),
            BodyError::TooSmall => Code::EntityTooSmall.into(),
            BodyError::TimedOut => Code::RequestTimeout.into(),
        }
    }
}

impl From<AuthError> for S3Error {
    fn from(error: AuthError) -> S3Error {
        match error {
            AuthError::HeaderMalformed(message) => {
                S3Error::with_message(Code::AuthorizationHeaderMalformed, message)
            }
            AuthError::QueryMalformed(message) => {
                S3Error::with_message(Code::AuthorizationQueryParametersError, message)
            }
            AuthError::Ambiguous => S3Error::with_message(
                Code::InvalidArgument,
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string \
                 parameter or the Authorization header should be specified",
            ),
            AuthError::V2Malformed => S3Error::with_message(
                Code::InvalidArgument,
                "AWS authorization header is invalid.  Expected AwsAccessKeyId:signature",
            ),
            AuthError::MissingField(name) => crate::s3::post::missing_field(name),
            AuthError::WrongField { field, value, message } => S3Error::argument(field, &value, message),
            AuthError::UnsupportedScheme(given) => {
                let message = match given.split_ascii_whitespace().count() {
                    1 => "Authorization header is invalid -- one and only one ' ' (space) required.",
                    _ => "Unsupported Authorization Type",
                };
                S3Error::argument("Authorization", &given, message)
            }
            AuthError::BadEscape => Code::InvalidURI.into(),
            AuthError::MissingDate => S3Error::with_message(
                Code::AccessDenied,
                "AWS authentication requires a valid Date or x-amz-date header",
            ),
            AuthError::MissingContentSha256 => S3Error::with_message(
                Code::InvalidRequest,
                "Missing required header for this request: x-amz-content-sha256",
            ),
            AuthError::BadContentSha256(given) => S3Error::argument(
                "x-amz-content-sha256",
                &given,
                "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, \
                 STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 \
                 value.",
            ),
            AuthError::WrongRegion { given, expected, in_query } => {
                let (code, where_) = if in_query {
                    (Code::AuthorizationQueryParametersError, "Error parsing the X-Amz-Credential parameter")
                } else {
                    (Code::AuthorizationHeaderMalformed, "The authorization header is malformed")
                };
                let message = format!("{where_}; the region '{given}' is wrong; expecting '{expected}'");
                S3Error {
                    headers: vec![("x-amz-bucket-region", expected.clone())],
                    ..S3Error::with_message(code, message).and("Region", expected)
                }
            }
            AuthError::UnsignedHeaders(names) => S3Error::with_message(
                Code::AccessDenied,
                "There were headers present in the request which were not signed",
            )
            .and("HeadersNotSigned", names),
            AuthError::TimeSkewed { request_time, server_ms } => S3Error::from(Code::RequestTimeTooSkewed)
                .and("RequestTime", request_time)
                .and("ServerTime", iso_8601(server_ms))
                .and("MaxAllowedSkewMilliseconds", "900000".to_owned()),
            AuthError::Expired { expired_ms, server_ms, expires_s } => {
                let mut error = S3Error::with_message(Code::AccessDenied, "Request has expired");
                if expires_s > 0 {
                    error = error.and("X-Amz-Expires", expires_s.to_string());
                }
                error.and("Expires", iso_8601(expired_ms)).and("ServerTime", iso_8601(server_ms))
            }
            AuthError::NotYetValid => S3Error::with_message(Code::AccessDenied, "Request is not valid yet"),
            AuthError::UnknownAccessKey(key) => {
                S3Error::from(Code::InvalidAccessKeyId).and("AWSAccessKeyId", key)
            }
            AuthError::SessionToken => Code::InvalidToken.into(),
            AuthError::Mismatch(mismatch) => {
                let error = S3Error::from(Code::SignatureDoesNotMatch)
                    .and("AWSAccessKeyId", mismatch.access_key)
                    .and("StringToSignBytes", hex_of(&mismatch.string_to_sign))
                    .and("StringToSign", mismatch.string_to_sign)
                    .and("SignatureProvided", mismatch.signature);
                if mismatch.canonical_request.is_empty() {
                    return error;
                }
                error
                    .and("CanonicalRequestBytes", hex_of(&mismatch.canonical_request))
                    .and("CanonicalRequest", mismatch.canonical_request)
            }
        }
    }
}

/// Bytes as AWS shows them to whoever looks for a difference: `41 57 53`.
fn hex_of(text: &str) -> String {
    let mut shown = String::with_capacity(3 * text.len());
    for byte in text.bytes() {
        if !shown.is_empty() {
            shown.push(' ');
        }
        shown.push_str(&hex::encode([byte]));
    }
    shown
}

impl From<Arrival> for S3Error {
    fn from(why: Arrival) -> S3Error {
        match why {
            Arrival::BadHead(error) => {
                let code = match error {
                    HeadError::Malformed | HeadError::Host | HeadError::AmbiguousLength => Code::BadRequest,
                    HeadError::TooLarge => Code::RequestHeaderSectionTooLarge,
                    HeadError::TargetTooLong => Code::UriTooLong,
                    HeadError::Version => Code::UnsupportedHttpVersion,
                    HeadError::TransferCoding => Code::NotImplemented,
                };
                S3Error::with_message(code, error.to_string())
            }
            Arrival::SlowHead => Code::RequestTimeout.into(),
            Arrival::TooManyConnections => Code::SlowDown.into(),
            Arrival::PlainHttp => S3Error::with_message(
                Code::BadRequest,
                "The plain HTTP request was sent to an HTTPS port; write https:// in the endpoint.",
            ),
            Arrival::PayloadFailed => Code::InternalError.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::http::Payload;
    use crate::ops::api::VersionId;

    #[test]
    fn an_error_is_the_xml_that_clients_parse() {
        let ids = RequestIds::for_tests();
        let error = S3Error::from(Code::InvalidRange)
            .and("ActualObjectSize", "0".to_owned())
            .and("RangeRequested", "bytes=0-1".to_owned());
        let response: Response<()> = error.to_response(&ids, "/b/k<&>");
        let Payload::Full(parts) = response.payload else { panic!("a body") };
        let text = std::str::from_utf8(&parts[0]).unwrap().to_owned();
        assert_eq!(response.status, 416);
        assert!(text.starts_with(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>InvalidRange</Code><Message>"
        ));
        assert!(text.contains("<ActualObjectSize>0</ActualObjectSize><RangeRequested>bytes=0-1<"));
        assert!(text.contains("<Resource>/b/k&lt;&amp;&gt;</Resource><RequestId>"));
        assert_eq!(response.headers.as_bytes(), b"Content-Type: application/xml\r\n");
    }

    #[test]
    fn what_is_done_to_a_delete_marker_is_not_allowed_and_what_is_read_of_it_is_not_there() {
        let marker = || OpError::DeleteMarker { version: VersionId::Null, modified_ms: 0, is_current: true };
        assert_eq!(S3Error::from(marker()).code, Code::NoSuchKey);
        let error = of_subject(marker());
        assert_eq!(error.code, Code::MethodNotAllowed);
        assert_eq!(error.extra, [("ResourceType", "DeleteMarker".to_owned())]);
        assert_eq!(of_subject(OpError::NoSuchKey).code, Code::NoSuchKey);
    }

    #[test]
    fn slow_down_says_when_to_come_back() {
        let response: Response<()> =
            S3Error::from(OpError::SlowDown).to_response(&RequestIds::for_tests(), "/");
        assert_eq!(response.status, 503);
        assert!(String::from_utf8_lossy(response.headers.as_bytes()).contains("Retry-After: 1\r\n"));
    }
}
