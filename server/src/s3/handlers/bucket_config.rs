//! Put, get and delete of configuration documents: CORS, website, lifecycle, logging, and those of one possible value.
//! Invariants: a document is kept only after all of it was understood; what is answered is what is kept.
//! Not here: what documents say (`s3::config`), tags (`bucket_tagging`), policies and access lists.

use shardstore_reactor::{Executor, Stream};

use super::{Reply, Request, S3Service};
use crate::auth::{Credentials, encode_escapes};
use crate::http::{HeaderText, Response};
use crate::ops::api::{BucketName, ConfigKind, DOCUMENT_MAX_BYTES, Operations};
use crate::s3::body::S3Body;
use crate::s3::config::Document;
use crate::s3::config::lifecycle::{Lifecycle, Subject, TRANSITION_MINIMUM, TransitionMinimum};
use crate::s3::config::logging::Logging;
use crate::s3::config::switches::{SuspendedAcceleration, check_notification, check_request_payment};
use crate::s3::config::website::Website;
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
            return Err(S3Error::from(D::ABSENT).and("BucketName", settings.info.name.as_str().to_owned()));
        };
        Ok(Response::new(200).with_bytes("application/xml", D::parse(kept)?.to_reply()))
    }

    pub(super) async fn put_document<D: Document, S: Stream, E: Executor>(
        &self,
        request: &Request<'_>,
        body: S3Body<'_, '_, S, E>,
    ) -> Result<Reply<O>, S3Error> {
        let _permit = self.ops.admit(body.len_bytes())?;
        let document = D::parse(&body.collect(SENT_BYTES_MAX).await?)?;
        self.keep(request.bucket()?, &document).await?;
        Ok(Response::new(200))
    }

    /// Sites are not served yet: a right document is refused rather than kept for nothing.
    pub(super) async fn put_website<S: Stream, E: Executor>(
        &self,
        request: &Request<'_>,
        body: S3Body<'_, '_, S, E>,
    ) -> Result<Reply<O>, S3Error> {
        let _permit = self.ops.admit(body.len_bytes())?;
        Website::parse(&body.collect(SENT_BYTES_MAX).await?)?;
        self.ops.head_bucket(request.bucket()?).await?;
        Err(S3Error::from(Code::NotImplemented).and("Operation", "PutBucketWebsite".to_owned()))
    }

    async fn keep<D: Document>(&self, bucket: BucketName, document: &D) -> Result<(), S3Error> {
        let kept = document.to_kept();
        if kept.len() > DOCUMENT_MAX_BYTES {
            return Err(Code::MalformedXML.into());
        }
        Ok(self.ops.put_bucket_config(bucket, D::KIND, kept).await?)
    }

    pub(super) async fn delete_document(
        &self,
        request: &Request<'_>,
        kind: ConfigKind,
    ) -> Result<Reply<O>, S3Error> {
        let _permit = self.ops.admit(Some(0))?;
        self.ops.delete_bucket_config(request.bucket()?, kind).await?;
        Ok(Response::new(204))
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
        let _permit = self.ops.admit(body.len_bytes())?;
        let mut lifecycle = Lifecycle::parse(&body.collect(SENT_BYTES_MAX).await?)?;
        if let Some(word) = request.head.header_str(TRANSITION_MINIMUM) {
            lifecycle.transition_minimum = TransitionMinimum::parse(word)?;
        }
        lifecycle.name_rules(|| executor.random_u64());
        self.keep(request.bucket()?, &lifecycle).await?;
        Ok(Response::new(200).with_header(TRANSITION_MINIMUM, lifecycle.transition_minimum.as_str()))
    }

    pub(super) fn get_logging(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        match self.get_document::<Logging>(request) {
            Err(error) if error.code == Logging::ABSENT => {
                Ok(Response::new(200).with_bytes("application/xml", xml::unset("BucketLoggingStatus")))
            }
            answer => answer,
        }
    }

    pub(super) async fn put_logging<S: Stream, E: Executor>(
        &self,
        request: &Request<'_>,
        body: S3Body<'_, '_, S, E>,
    ) -> Result<Reply<O>, S3Error> {
        let bucket = request.bucket()?;
        let _permit = self.ops.admit(body.len_bytes())?;
        match Logging::parse_status(&body.collect(SENT_BYTES_MAX).await?)? {
            None => self.ops.delete_bucket_config(bucket, ConfigKind::Logging).await?,
            Some(logging) => {
                // No line would be delivered yet: a right document is refused rather than kept for nothing.
                self.check_log_target(&bucket, &logging).await?;
                return Err(
                    S3Error::from(Code::NotImplemented).and("Operation", "PutBucketLogging".to_owned())
                );
            }
        }
        Ok(Response::new(200))
    }

    /// The target must be there and be the same owner's, who alone may be granted anything.
    async fn check_log_target(&self, bucket: &BucketName, logging: &Logging) -> Result<(), S3Error> {
        let refused = |message| Err(S3Error::with_message(Code::InvalidTargetBucketForLogging, message));
        let owner = self.owner_of(bucket.clone()).await?;
        let target = match BucketName::parse(&logging.target_bucket) {
            Ok(target) => self.owner_of(target).await,
            Err(error) => Err(error.into()),
        };
        match target {
            Ok(target) if target == owner => {}
            Ok(_) => {
                return refused(
                    "The owner for the bucket to be logged and the target bucket must be the same.",
                );
            }
            Err(error) if matches!(error.code, Code::NoSuchBucket | Code::InvalidBucketName) => {
                return refused("The target bucket for logging does not exist");
            }
            Err(error) => return Err(error),
        }
        if logging.grantees.iter().any(|id| *id != owner.id) {
            return Err(S3Error::from(Code::NotImplemented).and("Element", "TargetGrants".to_owned()));
        }
        Ok(())
    }

    pub(super) fn get_acceleration(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        match self.get_document::<SuspendedAcceleration>(request) {
            Err(error) if error.code == SuspendedAcceleration::ABSENT => {
                Ok(Response::new(200).with_bytes("application/xml", xml::unset("AccelerateConfiguration")))
            }
            answer => answer,
        }
    }

    /// A document that may only say what is so already; nothing of it is kept.
    pub(super) async fn put_switch<S: Stream, E: Executor>(
        &self,
        operation: Operation,
        request: &Request<'_>,
        body: S3Body<'_, '_, S, E>,
    ) -> Result<Reply<O>, S3Error> {
        let _permit = self.ops.admit(body.len_bytes())?;
        let document = body.collect(SENT_BYTES_MAX).await?;
        match operation {
            Operation::PutBucketRequestPayment => check_request_payment(&document)?,
            _ => check_notification(&document)?,
        }
        self.ops.head_bucket(request.bucket()?).await?;
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
}
