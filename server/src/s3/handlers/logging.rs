//! Access logging of a bucket: its configuration, and the records of requests.
//! Invariants: a configuration is kept only if its target can be one; a request is recorded once its response was sent,
//! refused ones too; nothing is recorded of a request whose bucket cannot be known or whose signature is wrong.
//! Not here: documents (`s3::config::logging`), the form of records and their delivery (`s3::access_log`).

use std::time::Duration;

use bytes::Bytes;
use shardstore_reactor::{Executor, MonotonicTime, Stream};

use super::documents::xml_reply;
use super::{Reply, Request, S3Service};
use crate::auth::{Credentials, SignedBy, signed_by};
use crate::http::{AfterSent, BodyFraming, Payload, RequestHead, RequestIds, Response, Sent};
use crate::ops::api::{BucketName, ConfigKind, ObjectKey, Operations};
use crate::s3::access_log::{
    BatchDelete, Exchange, Record, RequestNote, Source, Subject, operation_name, site_operation_name,
};
use crate::s3::acl::{GRANTS_MAX, Grantee};
use crate::s3::address::Address;
use crate::s3::authorize::client_address;
use crate::s3::body::S3Body;
use crate::s3::config::Document as _;
use crate::s3::config::logging::Logging;
use crate::s3::error::{Code, S3Error};
use crate::s3::query::Query;
use crate::s3::route::Operation;
use crate::s3::xml;

/// Longest document: 100 grants.
const DOCUMENT_BYTES_MAX: usize = 128 * 1024;

/// What the service knows of a request when its response is ready.
pub(super) struct Answered<'a> {
    pub(super) operation: Operation,
    pub(super) ids: &'a RequestIds,
    pub(super) head: &'a RequestHead,
    /// The bucket whose website it was for.
    pub(super) site: Option<String>,
    pub(super) started: MonotonicTime,
    /// When the last byte of its body was read.
    pub(super) body_ended: Option<MonotonicTime>,
}

impl<O: Operations, C: Credentials> S3Service<O, C> {
    pub(super) fn get_logging(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let _permit = self.ops.admit(Some(0))?;
        let document = match &request.access.settings()?.logging {
            None => xml::unset("BucketLoggingStatus"),
            Some(logging) => logging.to_document(|id| Some(self.verifier.credentials().person(id).name)),
        };
        Ok(xml_reply(document))
    }

    pub(super) async fn put_logging<S: Stream, E: Executor>(
        &self,
        request: &Request<'_>,
        body: S3Body<'_, '_, S, E>,
    ) -> Result<Reply<O>, S3Error> {
        let bucket = request.bucket()?;
        let (_permit, document) = self.read_document(body, DOCUMENT_BYTES_MAX).await?;
        match Logging::parse_status(&document)? {
            None => self.ops.delete_bucket_config(bucket, ConfigKind::Logging).await?,
            Some(logging) => {
                self.check_log_target(request, &logging).await?;
                self.ops.put_bucket_config(bucket, ConfigKind::Logging, logging.to_kept()).await?;
            }
        }
        Ok(Response::new(200))
    }

    /// The target must be there, be the same owner's and keep nothing from being removed. Whether its policy or its list
    /// lets logs be written is asked at each delivery, as with AWS.
    async fn check_log_target(&self, request: &Request<'_>, logging: &Logging) -> Result<(), S3Error> {
        let refused = |message: &'static str| {
            let error = S3Error::with_message(Code::InvalidTargetBucketForLogging, message);
            Err(error.and("TargetBucket", logging.target_bucket.clone()))
        };
        let target = match BucketName::parse(&logging.target_bucket) {
            Ok(target) => self.settings.get(&self.ops, &target).await,
            Err(error) => Err(error.into()),
        };
        let target = match target {
            Err(error) if matches!(error.code, Code::NoSuchBucket | Code::InvalidBucketName) => {
                return refused("The target bucket for logging does not exist");
            }
            target => target?,
        };
        let owner = &request.access.settings()?.info.owner;
        if self.access_log.owner_id(&target.info.owner) != self.access_log.owner_id(owner) {
            return refused("The owner for the bucket to be logged and the target bucket must be the same.");
        }
        if target.document(ConfigKind::ObjectLock).is_some() {
            return refused("The target bucket must not have a default retention period configuration.");
        }
        if !target.access.has_acls() {
            let what = "Target grants not allowed for bucket owner enforced buckets";
            let is_fine = logging.grants.is_empty();
            return if is_fine {
                Ok(())
            } else {
                Err(S3Error::with_message(Code::AccessControlListNotSupported, what))
            };
        }
        // The owner's own stands in a log's list besides.
        if logging.grants.len() >= GRANTS_MAX {
            return Err(Code::MalformedXML.into());
        }
        let is_public = logging.grants.iter().any(|grant| grant.grantee.is_public());
        if is_public && target.access.switches().refuse_acls {
            return Err(Code::AccessDenied.into());
        }
        for grant in &logging.grants {
            if let Grantee::Account(id) = &grant.grantee
                && self.verifier.credentials().name_of(id).is_none()
            {
                return Err(S3Error::argument("CanonicalUser/ID", id, "Invalid id"));
            }
        }
        Ok(())
    }

    /// Sees to it that a request is recorded once its response was sent, if its bucket is logged.
    pub(super) async fn log_access<E: Executor>(
        &self,
        answered: Answered<'_>,
        note: RequestNote,
        executor: &E,
        response: &mut Reply<O>,
    ) {
        let (by_acl, object_bytes, error) = (note.by_acl(), note.object_bytes(), note.error());
        let needs_look_up = note.needs_look_up();
        let (mut subject, source, deletes) = note.into_parts();
        if needs_look_up {
            self.look_up(&answered, &mut subject).await;
        }
        if subject.settings.is_none() && source.is_none() {
            return;
        }
        let ready = executor.now();
        let elapsed_ms = millis(ready.since(answered.started));
        let received_ms = executor.unix_ms().saturating_sub(elapsed_ms);
        let mut record = self.record(&answered, &subject, received_ms, response.status);
        record.error_code = error.map(Code::as_str);
        record.by_acl = by_acl;
        record.object_bytes = object_bytes.or_else(|| object_len(&answered, response));
        let waited = ready.since(answered.body_ended.unwrap_or(answered.started));
        record.exchange = Some(exchange(answered.head, waited));
        let (log, clock, started) = (self.access_log.clone(), executor.clone(), answered.started);
        let is_part = answered.operation == Operation::UploadPartCopy;
        response.after_sent = Some(AfterSent::new(move |sent| {
            finish(&mut record, sent, millis(clock.now().since(started)));
            if let Some(source) = &source {
                let owner = log.owner_id(&source.settings.info.owner);
                log.record(&source.settings, &of_source(&record, source, owner, is_part));
            }
            if let Some(settings) = &subject.settings {
                log.record(settings, &record);
                deletes.iter().for_each(|delete| log.record(settings, &of_delete(&record, delete)));
            }
        }));
    }

    /// The bucket of a request that was refused too early to know whether it is logged: the one read of its row.
    async fn look_up(&self, answered: &Answered<'_>, subject: &mut Subject) {
        let head = answered.head;
        let address = match &answered.site {
            Some(site) => Ok(Address { bucket: Some(site.clone()), ..Address::default() }),
            None => Address::parse(head.header_str("host"), head.raw_path(), &self.config.domains),
        };
        let Ok(address) = address else { return };
        subject.key = address.key.and_then(|key| ObjectKey::parse(key).ok());
        let bucket = address.bucket.and_then(|name| BucketName::parse(&name).ok());
        let Some(bucket) = bucket else { return };
        // Why it cannot be read does not matter to the response.
        let settings = self.settings.get(&self.ops, &bucket).await.ok();
        subject.settings = settings.filter(|settings| settings.logging.is_some());
    }

    fn record(&self, answered: &Answered<'_>, subject: &Subject, received_ms: u64, status: u16) -> Record {
        let Answered { operation, ids, head, ref site, .. } = *answered;
        let info = subject.settings.as_ref().map(|settings| &settings.info);
        let version = Query::new(head.raw_query()).get("versionId").map(|text| text.into_owned());
        let account = subject.identity.account();
        Record {
            bucket_owner: info
                .map(|info| self.access_log.owner_id(&info.owner).to_owned())
                .unwrap_or_default(),
            bucket: info.map(|info| info.name.as_str().to_owned()).unwrap_or_default(),
            received_ms,
            address: Some(client_address(head, ids.peer.ip(), &self.config.trusted_proxies)),
            requester: account.map(|account| account.id.to_string()),
            request_id: ids.request_id().to_owned(),
            operation: match site {
                Some(_) => site_operation_name(head.method()),
                None => operation_name(operation, head.method()),
            },
            key: subject.key.as_ref().map(ObjectKey::to_bytes),
            status: Some(status),
            version: version.filter(|version| !version.is_empty() && site.is_none()),
            host_id: Some(ids.host_id().to_owned()),
            // A visitor is nobody, whatever it says.
            signature: signature(head).filter(|_| site.is_none()),
            seal: ids.seal,
            host: head.header("host").map(Bytes::copy_from_slice),
            ..Record::default()
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What became known while the response was sent.
fn finish(record: &mut Record, sent: Sent, total_ms: u64) {
    if record.status != Some(sent.status) {
        // The payload could not be read: the answer was another one.
        (record.status, record.error_code) = (Some(sent.status), Some(Code::InternalError.as_str()));
    }
    record.sent_bytes = sent.payload_bytes;
    if let Some(exchange) = &mut record.exchange {
        exchange.total_ms = total_ms;
    }
}

/// The record that the bucket of a copy's source gets.
fn of_source(copy: &Record, source: &Source, owner: &str, is_part: bool) -> Record {
    Record {
        bucket_owner: owner.to_owned(),
        bucket: source.settings.info.name.as_str().to_owned(),
        operation: if is_part { "REST.COPY.PART_GET" } else { "REST.COPY.OBJECT_GET" },
        key: Some(source.key.to_bytes()),
        version: source.version.clone(),
        exchange: None,
        sent_bytes: 0,
        ..copy.clone()
    }
}

/// The record of one key of DeleteObjects.
fn of_delete(all: &Record, delete: &BatchDelete) -> Record {
    Record {
        operation: "BATCH.DELETE.OBJECT",
        key: Some(delete.key.clone()),
        version: delete.version.clone(),
        status: Some(delete.error.map_or(204, Code::status)),
        error_code: delete.error.map(Code::as_str),
        exchange: None,
        sent_bytes: 0,
        object_bytes: None,
        ..all.clone()
    }
}

fn exchange(head: &RequestHead, turn_around: Duration) -> Exchange {
    let version = if head.is_http11() { "HTTP/1.1" } else { "HTTP/1.0" };
    let query = head.raw_query().map(|query| format!("?{query}")).unwrap_or_default();
    let field = |name| head.header(name).map(Bytes::copy_from_slice);
    Exchange {
        request_line: format!("{} {}{query} {version}", head.method_token(), head.raw_path()).into_bytes(),
        referer: field("referer"),
        user_agent: field("user-agent"),
        total_ms: 0,
        turn_around_ms: millis(turn_around),
    }
}

/// The size of the object, as far as head and response say it.
fn object_len<P>(answered: &Answered<'_>, response: &Response<P>) -> Option<u64> {
    let head = answered.head;
    match answered.operation {
        Operation::GetObject | Operation::HeadObject if response.status == 206 => {
            let (_, total) = response.headers.get("Content-Range")?.rsplit_once('/')?;
            total.parse().ok()
        }
        Operation::GetObject | Operation::HeadObject if response.status == 200 => match &response.payload {
            Payload::Stream { len_bytes, .. } | Payload::HeadOf { len_bytes } => Some(*len_bytes),
            Payload::Empty => Some(0),
            Payload::Full(_) => None,
        },
        Operation::PutObject | Operation::UploadPart => match head.framing() {
            _ if head.header("x-amz-decoded-content-length").is_some() => {
                head.header_str("x-amz-decoded-content-length")?.parse().ok()
            }
            BodyFraming::Length(len_bytes) => Some(len_bytes),
            BodyFraming::Chunked => None,
        },
        _ => None,
    }
}

/// The version of the signature that a request claims, and where it stands.
fn signature(head: &RequestHead) -> Option<(&'static str, &'static str)> {
    signed_by(head).map(|SignedBy { is_v4, in_query }| {
        (if is_v4 { "SigV4" } else { "SigV2" }, if in_query { "QueryString" } else { "AuthHeader" })
    })
}
