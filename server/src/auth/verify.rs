//! Proves who sent a request.
//! Invariants: [`Authenticated`] is built only here, after a constant-time match or for a request that claims nothing;
//! signing keys are cached per
//! (access key, date, region) and dropped when the secret changes; the cache is bounded.
//! Not here: parsing claims (`sigv4`, `sigv2`), permissions.

use std::cell::RefCell;
use std::sync::Arc;

use aws_lc_rs::{constant_time, hmac};

use super::canonical::SignedQuery;
use super::chunk_signer::{ChunkSigner, write_hex};
use super::identity::{Account, Credential, Credentials, Identity, Secret};
use super::shown::shown_text;
use super::sigv2;
use super::sigv4::{AuthError, BodySignature, Claim, PayloadHash, SignatureMismatch};
use crate::http::RequestHead;

/// Clocks may differ by 15 minutes either way.
const SKEW_MAX_S: i64 = 15 * 60;
/// Signing keys kept: one a day for each of 1,024 active access keys; each is about 600 bytes.
const KEYS_MAX: usize = 1024;

/// Proof that the sender of a request holds a secret, or that the request does not claim so.
#[derive(Debug)]
pub struct Authenticated {
    identity: Identity,
    body: BodySignature,
}

impl Authenticated {
    /// Who.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// How the body is to be verified.
    pub fn body(&self) -> &BodySignature {
        &self.body
    }

    /// Who, and the means to verify the body.
    pub fn into_parts(self) -> (Identity, BodySignature) {
        (self.identity, self.body)
    }
}

/// Verifies the requests of one core.
pub struct Verifier<C> {
    credentials: C,
    region: String,
    /// Keys in use move towards the front.
    keys: RefCell<Vec<SigningKey>>,
    scratch: RefCell<Vec<u8>>,
}

struct SigningKey {
    account: Arc<Account>,
    date: String,
    secret: Secret,
    key: hmac::Key,
}

impl<C: Credentials> Verifier<C> {
    /// Verifies against `credentials` for a server in `region`.
    pub fn new(credentials: C, region: &str) -> Verifier<C> {
        Verifier {
            credentials,
            region: region.to_owned(),
            keys: RefCell::new(Vec::new()),
            scratch: RefCell::new(Vec::with_capacity(2048)),
        }
    }

    /// The access keys that it verifies against.
    pub fn credentials(&self) -> &C {
        &self.credentials
    }

    /// The region that scopes must name.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Authenticates a request received at `now_ms` (milliseconds since 1970). `resource` is the path that SigV2
    /// signs: `/bucket/key` also where the bucket was named by the host.
    ///
    /// # Errors
    /// [`AuthError`], by what is wrong.
    pub fn authenticate(
        &self,
        head: &RequestHead,
        host_bucket: Option<&str>,
        now_ms: u64,
    ) -> Result<Authenticated, AuthError> {
        let query = head.raw_query().map(SignedQuery::read).unwrap_or_default();
        // An empty field claims nothing.
        let authorization = head.header("authorization").filter(|text| !text.trim_ascii().is_empty());
        let presigned_v4 = query.algorithm.is_some() || query.signature.is_some();
        let presigned_v2 = query.v2_access_key.is_some() && query.v2_signature.is_some();
        match (authorization, presigned_v4, presigned_v2) {
            (None, false, false) => {
                let body = anonymous_body(head)?;
                Ok(Authenticated { identity: Identity::Anonymous, body })
            }
            (Some(text), false, false) => {
                let text = std::str::from_utf8(text).map_err(|_| {
                    AuthError::HeaderMalformed("The authorization header is malformed.".into())
                })?;
                if text.starts_with("AWS ") {
                    return self.verify_v2(head, sigv2::Claim::from_header(head, text)?, host_bucket, now_ms);
                }
                self.verify_v4(head, &Claim::from_header(head, text)?, now_ms)
            }
            (None, true, false) => self.verify_v4(head, &Claim::from_query(head, &query)?, now_ms),
            (None, false, true) => {
                self.verify_v2(head, sigv2::Claim::from_query(head, &query)?, host_bucket, now_ms)
            }
            _ => Err(AuthError::Ambiguous),
        }
    }

    fn verify_v4(
        &self,
        head: &RequestHead,
        claim: &Claim<'_>,
        now_ms: u64,
    ) -> Result<Authenticated, AuthError> {
        if claim.region() != self.region {
            return Err(AuthError::WrongRegion {
                given: claim.region().to_owned(),
                expected: self.region.clone(),
                in_query: claim.expires_s.is_some(),
            });
        }
        check_time(claim, now_ms)?;
        let at = self.signing_key(claim)?;
        let keys = self.keys.borrow();
        let signing = &keys[at];
        let mut canonical = self.scratch.borrow_mut();
        canonical.clear();
        claim.push_canonical_request(head, &mut canonical)?;
        let string_to_sign = claim.string_to_sign(&canonical);
        let mut wanted = [0; 64];
        write_hex(hmac::sign(&signing.key, &string_to_sign).as_ref(), &mut wanted);
        if constant_time::verify_slices_are_equal(&wanted, claim.signature.as_bytes()).is_err() {
            return Err(AuthError::Mismatch(Box::new(SignatureMismatch {
                access_key: claim.access_key().to_owned(),
                string_to_sign: String::from_utf8_lossy(&string_to_sign).into_owned(),
                signature: claim.signature.clone().into_owned(),
                canonical_request: shown_text(&canonical),
            })));
        }
        signing.account.note_use(now_ms);
        let chunks = |trailers: bool| {
            let (time, scope) = (claim.time.as_str().to_owned(), claim.scope().to_owned());
            let signer = ChunkSigner::new(signing.key.clone(), time, scope, wanted);
            BodySignature::Chunks(Box::new(signer), trailers)
        };
        let body = match claim.payload {
            PayloadHash::Unsigned => BodySignature::Unsigned,
            PayloadHash::Sha256(digest) => BodySignature::Sha256(digest),
            PayloadHash::StreamingSigned => chunks(false),
            PayloadHash::StreamingSignedTrailer => chunks(true),
            PayloadHash::StreamingUnsignedTrailer => BodySignature::UnsignedChunks,
        };
        Ok(Authenticated { identity: Identity::Account(Arc::clone(&signing.account)), body })
    }

    /// Where the claim's signing key stands in `keys`.
    fn signing_key(&self, claim: &Claim<'_>) -> Result<usize, AuthError> {
        let access_key = claim.access_key();
        let Credential { secret, account } = self.find(access_key)?;
        let mut keys = self.keys.borrow_mut();
        let named = |key: &SigningKey| *key.account.access_key == *access_key && key.date == claim.date();
        if let Some(at) = keys.iter().position(named) {
            if keys[at].secret == secret && Arc::ptr_eq(&keys[at].account, &account) {
                keys.swap(at, at / 2);
                return Ok(at / 2);
            }
            keys.swap_remove(at);
        }
        keys.truncate(KEYS_MAX - 1);
        let key = derive_key(&secret, claim.date(), claim.region());
        keys.push(SigningKey { account, date: claim.date().to_owned(), secret, key });
        Ok(keys.len() - 1)
    }

    fn verify_v2(
        &self,
        head: &RequestHead,
        claim: sigv2::Claim,
        host_bucket: Option<&str>,
        now_ms: u64,
    ) -> Result<Authenticated, AuthError> {
        claim.check_time(now_ms, SKEW_MAX_S)?;
        let Credential { secret, account } = self.find(&claim.access_key)?;
        let string_to_sign = claim.string_to_sign(head, host_bucket, "")?;
        // boto3 signs `/bucket/` where it sends `/bucket`, and AWS takes either.
        let is_bucket_alone = host_bucket.is_none() && head.raw_path().rfind('/') == Some(0);
        let is_signed = claim.matches(&secret, &string_to_sign)
            || (is_bucket_alone && claim.matches(&secret, &claim.string_to_sign(head, None, "/")?));
        if !is_signed {
            return Err(AuthError::Mismatch(Box::new(SignatureMismatch {
                access_key: claim.access_key,
                string_to_sign: shown_text(&string_to_sign),
                signature: claim.signature,
                canonical_request: String::new(),
            })));
        }
        account.note_use(now_ms);
        Ok(Authenticated { identity: Identity::Account(account), body: BodySignature::Unsigned })
    }

    pub(super) fn find(&self, access_key: &str) -> Result<Credential, AuthError> {
        let found = self.credentials.find(access_key);
        found.ok_or_else(|| AuthError::UnknownAccessKey(access_key.to_owned()))
    }
}

/// How a request claims to be signed; whether rightly is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedBy {
    /// By SigV4 and not by SigV2.
    pub is_v4: bool,
    /// In the query and not in a field.
    pub in_query: bool,
}

/// What a head claims of its signature; a form's stands in its body.
pub fn signed_by(head: &RequestHead) -> Option<SignedBy> {
    if let Some(text) = head.header("authorization").filter(|text| !text.trim_ascii().is_empty()) {
        return Some(SignedBy { is_v4: !text.starts_with(b"AWS "), in_query: false });
    }
    let query = head.raw_query().map(SignedQuery::read)?;
    if query.algorithm.is_some() || query.signature.is_some() {
        return Some(SignedBy { is_v4: true, in_query: true });
    }
    query.v2_signature.map(|_| SignedBy { is_v4: false, in_query: true })
}

/// What an unsigned head says of its body; a chain of signatures has no beginning there.
fn anonymous_body(head: &RequestHead) -> Result<BodySignature, AuthError> {
    let Some(text) = head.header_str("x-amz-content-sha256") else {
        let is_framed = head.header("x-amz-decoded-content-length").is_some();
        return Ok(if is_framed { BodySignature::UnsignedChunks } else { BodySignature::Unsigned });
    };
    match PayloadHash::parse(text) {
        Some(PayloadHash::Unsigned) => Ok(BodySignature::Unsigned),
        Some(PayloadHash::Sha256(digest)) => Ok(BodySignature::Sha256(digest)),
        Some(PayloadHash::StreamingUnsignedTrailer) => Ok(BodySignature::UnsignedChunks),
        Some(PayloadHash::StreamingSigned | PayloadHash::StreamingSignedTrailer) | None => {
            Err(AuthError::BadContentSha256(text.to_owned()))
        }
    }
}

fn check_time(claim: &Claim<'_>, now_ms: u64) -> Result<(), AuthError> {
    let now_s = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
    let age_s = now_s.saturating_sub(claim.time.unix_s);
    match claim.expires_s {
        None if age_s.saturating_abs() > SKEW_MAX_S => {
            Err(AuthError::TimeSkewed { request_time: claim.time.as_str().to_owned(), server_ms: now_ms })
        }
        None => Ok(()),
        Some(_) if age_s < -SKEW_MAX_S => Err(AuthError::NotYetValid),
        // One of no life is past its end at once.
        Some(expires_s) if expires_s == 0 || age_s > i64::try_from(expires_s).unwrap_or(i64::MAX) => {
            Err(AuthError::Expired {
                expired_ms: u64::try_from(claim.time.unix_s).unwrap_or(0).saturating_add(expires_s) * 1000,
                server_ms: now_ms,
                expires_s,
            })
        }
        Some(_) => Ok(()),
    }
}

pub(super) fn derive_key(secret: &Secret, date: &str, region: &str) -> hmac::Key {
    let mut first = Vec::with_capacity(4 + secret.as_bytes().len());
    first.extend_from_slice(b"AWS4");
    first.extend_from_slice(secret.as_bytes());
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, &first);
    for part in [date, region, "s3", "aws4_request"] {
        key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
    }
    key
}

#[cfg(test)]
mod tests;
