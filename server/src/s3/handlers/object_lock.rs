//! Object lock: the bucket's default, retention and legal holds of versions.
//! Invariants: nothing is set on what cannot be locked; governance is passed over only by who asks for it and may.
//! Not here: locks that come with a write (`s3::object_lock`), what a lock forbids (`ops`).

use shardstore_reactor::{Executor, Stream};

use super::documents::{absent, xml_reply};
use super::{Reply, Request, S3Service};
use crate::auth::Credentials;
use crate::http::Response;
use crate::ops::api::{
    ConfigKind, DefaultRetention, ObjectLock, OpError, Operations, Retention, RetentionPeriod,
};
use crate::s3::body::S3Body;
use crate::s3::error::{Code, S3Error};
use crate::s3::object_lock::parse_until;
use crate::s3::versions::push_version;
use crate::s3::xml::{self, AskedDefault};

/// Longest document: its words and numbers are under 1 KiB.
const DOCUMENT_BYTES_MAX: usize = 16 * 1024;
/// S3's longest default retention.
const DAYS_MAX: i64 = 36_500;
const YEARS_MAX: i64 = 100;

impl<O: Operations, C: Credentials> S3Service<O, C> {
    pub(super) fn get_object_lock(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let _permit = self.ops.admit(Some(0))?;
        let settings = request.access.settings()?;
        if !settings.info.object_lock {
            return Err(absent(request, Code::ObjectLockConfigurationNotFoundError));
        }
        let default = settings.document(ConfigKind::ObjectLock).map(DefaultRetention::decode);
        let default = default.transpose().map_err(|error| OpError::Damaged(error.to_string()))?;
        Ok(xml_reply(xml::object_lock(default)))
    }

    pub(super) async fn put_object_lock<S: Stream, E: Executor>(
        &self,
        request: &Request<'_>,
        body: S3Body<'_, '_, S, E>,
    ) -> Result<Reply<O>, S3Error> {
        need_integrity(&body)?;
        let (_permit, document) = self.read_document(body, DOCUMENT_BYTES_MAX).await?;
        let asked = xml::parse_object_lock(&document)?;
        let default = asked.map(default_retention).transpose()?;
        self.ops.set_object_lock(request.bucket()?, default).await?;
        Ok(Response::new(200))
    }

    pub(super) async fn get_object_retention(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let retention = self.lock_of(request).await?.retention;
        let retention = retention.ok_or(Code::NoSuchObjectLockConfiguration)?;
        Ok(xml_reply(xml::retention(retention)))
    }

    pub(super) async fn put_object_retention<S: Stream, E: Executor>(
        &self,
        request: &Request<'_>,
        body: S3Body<'_, '_, S, E>,
        now_ms: u64,
    ) -> Result<Reply<O>, S3Error> {
        let version = request.version()?;
        need_integrity(&body)?;
        let (_permit, document) = self.read_document(body, DOCUMENT_BYTES_MAX).await?;
        let asked = xml::parse_retention(&document)?;
        let retention = asked
            .map(|(mode, until)| Ok::<_, S3Error>(Retention { mode, until_ms: parse_until(&until, now_ms)? }))
            .transpose()?;
        let (bucket, key) = (request.bucket()?, request.key()?);
        let given = ObjectLock { retention, legal_hold: None };
        self.authorizer.authorize_lock(&self.ops, &request.access, &key, &given).await?;
        self.need_object_lock(request)?;
        let bypass = request.bypasses_governance(Some(&given))?;
        let version = self.ops.put_retention(bucket, key, version, retention, bypass).await?;
        let mut response = Response::new(200);
        push_version(&mut response.headers, version);
        Ok(response)
    }

    pub(super) async fn get_object_legal_hold(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let is_held = self.lock_of(request).await?.legal_hold;
        let is_held = is_held.ok_or(Code::NoSuchObjectLockConfiguration)?;
        Ok(xml_reply(xml::legal_hold(is_held)))
    }

    pub(super) async fn put_object_legal_hold<S: Stream, E: Executor>(
        &self,
        request: &Request<'_>,
        body: S3Body<'_, '_, S, E>,
    ) -> Result<Reply<O>, S3Error> {
        let version = request.version()?;
        need_integrity(&body)?;
        let (_permit, document) = self.read_document(body, DOCUMENT_BYTES_MAX).await?;
        let is_held = xml::parse_legal_hold(&document)?;
        let (bucket, key) = (request.bucket()?, request.key()?);
        let given = ObjectLock { retention: None, legal_hold: Some(is_held) };
        self.authorizer.authorize_lock(&self.ops, &request.access, &key, &given).await?;
        self.need_object_lock(request)?;
        let version = self.ops.put_legal_hold(bucket, key, version, is_held).await?;
        let mut response = Response::new(200);
        push_version(&mut response.headers, version);
        Ok(response)
    }

    async fn lock_of(&self, request: &Request<'_>) -> Result<ObjectLock, S3Error> {
        let version = request.version()?;
        let _permit = self.ops.admit(Some(0))?;
        self.need_object_lock(request)?;
        let info = self.ops.head_object(request.bucket()?, request.key()?, version).await?;
        Ok(info.lock)
    }

    fn need_object_lock(&self, request: &Request<'_>) -> Result<(), S3Error> {
        let has_lock = request.access.settings()?.info.object_lock;
        if has_lock { Ok(()) } else { Err(OpError::NoObjectLock.into()) }
    }
}

/// As AWS: a document that locks must not be one that was damaged on its way.
fn need_integrity<S: Stream, E: Executor>(body: &S3Body<'_, '_, S, E>) -> Result<(), S3Error> {
    if body.has_integrity() {
        return Ok(());
    }
    Err(S3Error::with_message(
        Code::InvalidRequest,
        "Missing required header for this request: Content-MD5 OR x-amz-checksum-*",
    ))
}

fn default_retention(asked: AskedDefault) -> Result<DefaultRetention, S3Error> {
    let within = |number: i64, max: i64| {
        let number = u32::try_from(number).ok().filter(|_| (1..=max).contains(&number));
        number.ok_or(Code::InvalidRetentionPeriod)
    };
    let period = match (asked.days, asked.years) {
        (Some(days), _) => RetentionPeriod::Days(within(days, DAYS_MAX)?),
        (None, Some(years)) => RetentionPeriod::Years(within(years, YEARS_MAX)?),
        (None, None) => return Err(Code::MalformedXML.into()),
    };
    Ok(DefaultRetention { mode: asked.mode, period })
}
