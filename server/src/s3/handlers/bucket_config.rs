//! Put and get of configuration documents: CORS, lifecycle, and those of one possible value.
//! Invariants: a document is kept only after all of it was understood; what is answered is what is kept.
//! Not here: what documents say (`s3::config`), tags (`bucket_tagging`), policies and access lists.

use bytes::Bytes;
use shardstore_reactor::{Executor, Stream};

use super::documents::{absent, xml_reply};
use super::{Reply, Request, S3Service};
use crate::auth::{Credentials, encode_escapes};
use crate::http::{HeaderText, Response};
use crate::ops::api::{BucketName, DOCUMENT_MAX_BYTES, Operations, Written};
use crate::s3::body::S3Body;
use crate::s3::config::Document;
use crate::s3::config::encryption::DefaultEncryption;
use crate::s3::config::lifecycle::{Lifecycle, Subject, TRANSITION_MINIMUM, TransitionMinimum};
use crate::s3::config::switches::{SuspendedAcceleration, check_notification, check_request_payment};
use crate::s3::error::{Code, S3Error};
use crate::s3::route::Operation;
use crate::s3::tagging::TagSet;
use crate::s3::time_text::http_date;
use crate::s3::xml;

/// Longest document as sent; AWS takes 64 KiB of CORS and 1,000 rules of lifecycle.
const SENT_BYTES_MAX: usize = 512 * 1024;
const _: () = assert!(SENT_BYTES_MAX < DOCUMENT_MAX_BYTES);

impl<O: Operations, C: Credentials> S3Service<O, C> {
    pub(super) fn get_document<D: Document>(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let _permit = self.ops.admit(Some(0))?;
        let settings = request.access.settings()?;
        let Some(kept) = settings.document(D::KIND) else {
            return Err(absent(request, D::ABSENT));
        };
        Ok(xml_reply(D::parse(kept)?.to_reply()))
    }

    pub(super) async fn put_document<D: Document, S: Stream, E: Executor>(
        &self,
        request: &Request<'_>,
        body: S3Body<'_, '_, S, E>,
    ) -> Result<Reply<O>, S3Error> {
        let (_permit, document) = self.read_document(body, SENT_BYTES_MAX).await?;
        let document = D::parse(&document)?;
        self.keep(request.bucket()?, &document).await?;
        Ok(Response::new(200))
    }

    async fn keep<D: Document>(&self, bucket: BucketName, document: &D) -> Result<(), S3Error> {
        let kept = document.to_kept();
        if kept.len() > DOCUMENT_MAX_BYTES {
            return Err(Code::MalformedXML.into());
        }
        Ok(self.ops.put_bucket_config(bucket, D::KIND, kept).await?)
    }

    pub(super) async fn put_default_encryption<S: Stream, E: Executor>(
        &self,
        request: &Request<'_>,
        body: S3Body<'_, '_, S, E>,
    ) -> Result<Reply<O>, S3Error> {
        let (_permit, document) = self.read_document(body, SENT_BYTES_MAX).await?;
        let default = DefaultEncryption::parse(&document)?;
        // Not what authorization saw: another request may have come before this one's body did.
        let change = move |kept: Option<&Bytes>| {
            let before = kept.map(|kept| DefaultEncryption::parse(kept)).transpose().ok()?;
            Some(default.clone().after(before.as_ref()).to_kept())
        };
        self.ops.change_bucket_config(request.bucket()?, DefaultEncryption::KIND, change).await?;
        Ok(Response::new(200))
    }

    pub(super) fn get_lifecycle(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let mut response = self.get_document::<Lifecycle>(request)?;
        let settings = request.access.settings()?;
        if let Some(lifecycle) = &settings.lifecycle {
            response.headers.push(TRANSITION_MINIMUM, lifecycle.transition_minimum.as_str());
        }
        Ok(response)
    }

    pub(super) async fn put_lifecycle<S: Stream, E: Executor>(
        &self,
        request: &Request<'_>,
        body: S3Body<'_, '_, S, E>,
        executor: &E,
    ) -> Result<Reply<O>, S3Error> {
        let (_permit, document) = self.read_document(body, SENT_BYTES_MAX).await?;
        let mut lifecycle = Lifecycle::parse(&document)?;
        if let Some(word) = request.head.header_str(TRANSITION_MINIMUM) {
            lifecycle.transition_minimum = TransitionMinimum::parse(word)?;
        }
        lifecycle.name_rules(|| executor.random_u64());
        self.keep(request.bucket()?, &lifecycle).await?;
        Ok(Response::new(200).with_header(TRANSITION_MINIMUM, lifecycle.transition_minimum.as_str()))
    }

    pub(super) fn get_acceleration(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        match self.get_document::<SuspendedAcceleration>(request) {
            Err(error) if error.code == SuspendedAcceleration::ABSENT => {
                Ok(xml_reply(xml::unset("AccelerateConfiguration")))
            }
            answer => answer,
        }
    }

    /// A document that may only say what is so already; nothing of it is kept.
    pub(super) async fn put_switch<S: Stream, E: Executor>(
        &self,
        operation: Operation,
        body: S3Body<'_, '_, S, E>,
    ) -> Result<Reply<O>, S3Error> {
        let (_permit, document) = self.read_document(body, SENT_BYTES_MAX).await?;
        match operation {
            Operation::PutBucketRequestPayment => check_request_payment(&document)?,
            _ => check_notification(&document)?,
        }
        Ok(Response::new(200))
    }

    /// Adds when a current object goes by the bucket's rules, and by which. `tags` are read only where there are rules.
    pub(super) fn push_expiration(
        &self,
        request: &Request<'_>,
        headers: &mut HeaderText,
        (size_bytes, modified_ms): (u64, u64),
        tags: impl FnOnce() -> Result<TagSet, S3Error>,
    ) {
        let settings = request.access.settings().ok();
        let Some(lifecycle) = settings.and_then(|settings| settings.lifecycle.as_ref()) else { return };
        let (Ok(key), Ok(tags)) = (request.key(), tags()) else { return };
        let subject = Subject { key: key.as_bytes(), size_bytes, tags: tags.tags() };
        if let Some((at_ms, id)) = lifecycle.expiry(&subject, modified_ms, self.config.lifecycle_day) {
            let mut text = b"expiry-date=\"".to_vec();
            text.extend_from_slice(&http_date(at_ms));
            text.extend_from_slice(b"\", rule-id=\"");
            encode_escapes(id.as_bytes(), &mut text);
            text.push(b'"');
            headers.push("x-amz-expiration", text);
        }
    }

    /// The same of what a copy or a completion made. Cost: where there are rules one read, since its tags came from
    /// elsewhere than the request.
    pub(super) async fn push_expiration_of_made(
        &self,
        request: &Request<'_>,
        headers: &mut HeaderText,
        written: &Written,
    ) {
        let has_rules = request.access.settings().is_ok_and(|settings| settings.lifecycle.is_some());
        let (Ok(bucket), Ok(key)) = (request.bucket(), request.key()) else { return };
        if !has_rules {
            return;
        }
        // The write is done: what cannot be read of it now is left out of the answer.
        let Ok(info) = self.ops.head_object(bucket, key, written.version).await else { return };
        let made = (info.size_bytes, info.modified_ms);
        self.push_expiration(request, headers, made, || TagSet::of_object(&info));
    }

    /// Adds when an unfinished upload goes by the bucket's rules, and by which.
    pub(super) fn push_abort(&self, request: &Request<'_>, headers: &mut HeaderText, initiated_ms: u64) {
        let settings = request.access.settings().ok();
        let Some(lifecycle) = settings.and_then(|settings| settings.lifecycle.as_ref()) else { return };
        let Ok(key) = request.key() else { return };
        if let Some((at_ms, id)) = lifecycle.abort(key.as_bytes(), initiated_ms, self.config.lifecycle_day) {
            let mut escaped = Vec::with_capacity(id.len());
            encode_escapes(id.as_bytes(), &mut escaped);
            headers.push("x-amz-abort-date", http_date(at_ms));
            headers.push("x-amz-abort-rule-id", escaped);
        }
    }
}
