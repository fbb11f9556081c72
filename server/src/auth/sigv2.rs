//! SigV2, for boto3's default presigned links and for s3-benchmark.
//! Invariants: as for SigV4; a date in a form that V2 does not specify is accepted as it was signed.
//! Not here: SigV4 (`sigv4`).

use std::borrow::Cow;

use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::canonical::{SignedQuery, decode, decode_value};
use super::identity::Secret;
use super::sigv4::{AuthError, SignedTime, query_malformed};
use crate::http::RequestHead;

/// Query parameters that belong to the signed resource: those that AWS lists, and those that botocore signs besides.
const SUB_RESOURCES: [&str; 48] = [
    "accelerate",
    "acl",
    "analytics",
    "attributes",
    "cors",
    "defaultObjectAcl",
    "delete",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "lifecycle",
    "location",
    "logging",
    "metadataConfiguration",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "partNumber",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "renameObject",
    "replication",
    "requestPayment",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "retention",
    "select",
    "select-type",
    "session",
    "storageClass",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
    "x-amz-security-token",
];

/// What a request signed with V2 claims.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) access_key: String,
    pub(super) signature: String,
    /// Of a presigned URL: its end in seconds since 1970.
    expires_s: Option<i64>,
    /// Of a header: when it was signed, if its form is known.
    time: Option<SignedTime>,
    time_text: String,
}

impl Claim {
    /// `AWS key:signature`.
    pub(super) fn from_header(head: &RequestHead, authorization: &str) -> Result<Claim, AuthError> {
        let fields = authorization.strip_prefix("AWS ").ok_or(AuthError::V2Malformed)?;
        let (access_key, signature) = fields.trim().rsplit_once(':').ok_or(AuthError::V2Malformed)?;
        if head.header("x-amz-security-token").is_some() {
            return Err(AuthError::SessionToken);
        }
        let time_text = head
            .header_str("x-amz-date")
            .or_else(|| head.header_str("date"))
            .ok_or(AuthError::MissingDate)?
            .to_owned();
        let time = SignedTime::parse_http(&time_text).or_else(|| SignedTime::parse_basic(&time_text));
        // A date before 1970 is none, and not a clock that is wrong.
        let time = time.filter(|time| time.unix_s >= 0);
        Ok(Claim {
            access_key: access_key.to_owned(),
            signature: signature.to_owned(),
            expires_s: None,
            time: Some(time.ok_or(AuthError::MissingDate)?),
            time_text,
        })
    }

    /// `?AWSAccessKeyId=&Expires=&Signature=`.
    pub(super) fn from_query(head: &RequestHead, query: &SignedQuery<'_>) -> Result<Claim, AuthError> {
        let need = |raw: Option<&[u8]>| -> Result<String, AuthError> {
            let raw = raw.ok_or(query_malformed(
                "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters",
            ))?;
            decode_value(raw).map(Cow::into_owned).map_err(|_| AuthError::BadEscape)
        };
        if head.header("x-amz-security-token").is_some() || query.security_token.is_some() {
            return Err(AuthError::SessionToken);
        }
        let time_text = need(query.v2_expires)?;
        let expires_s =
            time_text.parse().map_err(|_| query_malformed("Invalid date (should be seconds since epoch)"))?;
        Ok(Claim {
            access_key: need(query.v2_access_key)?,
            signature: need(query.v2_signature)?,
            expires_s: Some(expires_s),
            time: None,
            time_text,
        })
    }

    pub(super) fn check_time(&self, now_ms: u64, skew_max_s: i64) -> Result<(), AuthError> {
        let now_s = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
        if let Some(expires_s) = self.expires_s
            && now_s > expires_s
        {
            return Err(AuthError::Expired {
                expired_ms: u64::try_from(expires_s).unwrap_or(0).saturating_mul(1000),
                server_ms: now_ms,
                expires_s: 0,
            });
        }
        match self.time {
            Some(time) if now_s.saturating_sub(time.unix_s).saturating_abs() > skew_max_s => {
                Err(AuthError::TimeSkewed { request_time: self.time_text.clone(), server_ms: now_ms })
            }
            _ => Ok(()),
        }
    }

    /// What was signed; `end_of_path` follows the path as sent.
    pub(super) fn string_to_sign(
        &self,
        head: &RequestHead,
        host_bucket: Option<&str>,
        end_of_path: &str,
    ) -> Result<Vec<u8>, AuthError> {
        let mut text = Vec::with_capacity(256);
        let mut line = |value: &[u8]| {
            text.extend_from_slice(value);
            text.push(b'\n');
        };
        line(head.method_token().as_bytes());
        line(head.header("content-md5").unwrap_or_default());
        line(head.header("content-type").unwrap_or_default());
        match self.expires_s {
            Some(_) => line(self.time_text.as_bytes()),
            None if head.header("x-amz-date").is_some() => line(b""),
            None => line(self.time_text.as_bytes()),
        }
        push_amz_headers(head, &mut text);
        if let Some(bucket) = host_bucket {
            text.push(b'/');
            text.extend_from_slice(bucket.as_bytes());
        }
        text.extend_from_slice(head.raw_path().as_bytes());
        text.extend_from_slice(end_of_path.as_bytes());
        push_sub_resources(head.raw_query().unwrap_or_default(), &mut text)?;
        Ok(text)
    }

    pub(super) fn matches(&self, secret: &Secret, string_to_sign: &[u8]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
        let wanted = STANDARD.encode(hmac::sign(&key, string_to_sign));
        constant_time::verify_slices_are_equal(wanted.as_bytes(), self.signature.as_bytes()).is_ok()
    }
}

fn push_amz_headers(head: &RequestHead, text: &mut Vec<u8>) {
    let mut names: Vec<String> = head
        .headers()
        .map(|(name, _)| name.to_ascii_lowercase())
        .filter(|name| name.starts_with("x-amz-"))
        .collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        text.extend_from_slice(name.as_bytes());
        text.push(b':');
        let values = head.headers().filter(|(field, _)| field.eq_ignore_ascii_case(&name));
        for (at, (_, value)) in values.enumerate() {
            if at > 0 {
                text.push(b',');
            }
            text.extend_from_slice(value);
        }
        text.push(b'\n');
    }
}

fn push_sub_resources(query: &str, text: &mut Vec<u8>) -> Result<(), AuthError> {
    let mut pairs: Vec<(&str, Option<&str>)> = query
        .split('&')
        .map(|pair| pair.split_once('=').map_or((pair, None), |(name, value)| (name, Some(value))))
        .filter(|(name, _)| SUB_RESOURCES.contains(name))
        .collect();
    pairs.sort_unstable();
    for (at, (name, value)) in pairs.into_iter().enumerate() {
        text.push(if at == 0 { b'?' } else { b'&' });
        text.extend_from_slice(name.as_bytes());
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            text.push(b'=');
            decode(value.as_bytes(), true, text).map_err(|_| AuthError::BadEscape)?;
        }
    }
    Ok(())
}
