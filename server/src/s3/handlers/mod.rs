//! Joins the S3 protocol to the operations: one request in, one response out.
//! Invariants: nothing is done for a request before it was authenticated and admitted; every error leaves through
//! `s3::error`; an operation that is not built answers 501.
//! Not here: what operations do (`ops`), sockets (`http`).

mod access;
mod append;
mod attributes;
mod bucket_config;
mod bucket_tagging;
mod buckets;
mod copy;
mod cors;
mod delete_many;
mod documents;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod listing;
mod logging;
mod multipart;
mod object_lock;
mod objects;
mod observe;
mod post_object;
mod rename;
mod restore;
mod snowball;
mod sub_resources;
mod tagging;
mod versioning;
mod website;
mod zip;

use shardstore_reactor::{Executor, Stream};

use self::logging::Answered;
use self::objects::ObjectSource;
use self::observe::Observer;
use crate::auth::{Account, BodySignature, Credentials, Identity, Person, Verifier};
use crate::http::{Arrival, Method, RequestBody, RequestHead, RequestIds, Response, Service};
use crate::ops::api::{BucketName, ConfigKind, ObjectKey, ObjectLock, OpenedObject, Operations, VersionId};
use crate::policy::Network;
use crate::s3::access_log::{AccessLog, RequestNote};
use crate::s3::address::Address;
use crate::s3::authorize::{self, Asker, Authorized, Authorizer, Named, client_address, client_is_secure};
use crate::s3::body::S3Body;
use crate::s3::bucket_access::Ownership;
use crate::s3::bucket_settings::SettingsCache;
use crate::s3::config::cors::Cors;
use crate::s3::config::encryption::DefaultEncryption;
use crate::s3::config::lifecycle::DayLength;
use crate::s3::config::switches::SuspendedAcceleration;
use crate::s3::config::website::Website;
use crate::s3::error::{Code, S3Error};
use crate::s3::headers::has_overrides;
use crate::s3::query::Query;
use crate::s3::route::{Operation, misrouted, route};
use crate::s3::versions::{asks_to_bypass_governance, parse_version_id};

/// What the S3 front end needs to know of its deployment.
#[derive(Clone, Debug)]
pub struct S3Config {
    /// The region that scopes must name.
    pub region: String,
    /// Domains below which a host names a bucket.
    pub domains: Vec<String>,
    /// Domains whose hosts are websites, each before those that it lies below.
    pub website_domains: Vec<String>,
    /// Proxies whose `X-Forwarded-For` counts.
    pub trusted_proxies: Vec<Network>,
    /// Who owns the objects of a bucket that is made without saying so.
    pub object_ownership: Ownership,
    /// How long a day of lifecycle rules is.
    pub lifecycle_day: DayLength,
    /// Storage classes beside STANDARD and REDUCED_REDUNDANCY that the operator maps to the pool's redundancy.
    pub storage_classes: Vec<String>,
}

/// The S3 service of one core.
pub struct S3Service<O, C> {
    ops: O,
    verifier: Verifier<C>,
    config: S3Config,
    settings: SettingsCache,
    authorizer: Authorizer,
    observer: Observer,
    access_log: AccessLog,
}

/// A response of the service.
type Reply<O> = Response<Source<O>>;
/// What streams the payload of a GET.
type Source<O> = ObjectSource<<<O as Operations>::Object as OpenedObject>::Reader, <O as Operations>::Permit>;

impl<O: Operations, C: Credentials> S3Service<O, C> {
    /// For one core, whose buckets' requests go into `access_log`. Metrics register here: install the recorder first.
    pub fn new(ops: O, credentials: C, config: S3Config, access_log: AccessLog) -> S3Service<O, C> {
        let verifier = Verifier::new(credentials, &config.region);
        S3Service {
            ops,
            verifier,
            config,
            settings: SettingsCache::default(),
            authorizer: Authorizer::default(),
            observer: Observer::new(),
            access_log,
        }
    }
}

/// One authenticated request.
struct Request<'r> {
    head: &'r RequestHead,
    query: Query<'r>,
    bucket: Option<BucketName>,
    key: Option<ObjectKey>,
    identity: Identity,
    /// Its bucket was named by the host.
    by_host: bool,
    /// Proof that it may be dispatched, and what its handler may ask further.
    access: Authorized<'r>,
}

impl Request<'_> {
    /// The caller's account; nobody else may do what only an account can.
    fn account(&self) -> Result<&Account, S3Error> {
        self.identity.account().map(|account| &**account).ok_or(Code::AccessDenied.into())
    }

    fn bucket(&self) -> Result<BucketName, S3Error> {
        self.bucket.clone().ok_or(Code::InvalidBucketName.into())
    }

    fn key(&self) -> Result<ObjectKey, S3Error> {
        self.key.clone().ok_or(Code::InvalidURI.into())
    }

    /// The version that the request names.
    fn version(&self) -> Result<Option<VersionId>, S3Error> {
        self.query.text("versionId")?.map(|text| parse_version_id("versionId", &text)).transpose()
    }

    /// Whether the request asks to pass over governance retention, and may; `given` is the retention of its body.
    fn bypasses_governance(&self, given: Option<&ObjectLock>) -> Result<bool, S3Error> {
        let (key, version) = (self.key()?, self.query.text("versionId")?);
        let may = || self.access.may_bypass_governance(&key, version.as_deref(), given);
        Ok(asks_to_bypass_governance(self.head) && may())
    }
}

impl<E: Executor, O: Operations, C: Credentials + 'static> Service<E> for S3Service<O, C> {
    type Source = Source<O>;

    async fn serve<S: Stream>(
        &self,
        ids: &RequestIds,
        head: &RequestHead,
        body: &mut RequestBody<'_, S, E>,
    ) -> Reply<O> {
        let started = body.executor().now();
        let note = RequestNote::default();
        let site = self.site_of(head);
        let (operation, mut response) = match &site {
            // In a box: it would only make the state of every other request larger.
            Some(site) => {
                let now_ms = body.executor().unix_ms();
                Box::pin(self.answer_visitor(ids, head, site, now_ms, &note)).await
            }
            None => self.answer_client(ids, head, body, &note).await,
        };
        let elapsed = body.executor().now().since(started);
        self.observer.observe(operation, ids, head, &response, elapsed);
        if note.is_logged() || note.needs_look_up() {
            let answered = Answered { operation, ids, head, site, started, body_ended: body.ended() };
            // In a box, too.
            Box::pin(self.log_access(answered, note, body.executor(), &mut response)).await;
        }
        response
    }

    fn refuse(&self, ids: &RequestIds, why: Arrival) -> Reply<O> {
        S3Error::from(why).to_response(ids, "/")
    }
}

impl<O: Operations, C: Credentials> S3Service<O, C> {
    /// Answers a request to the API.
    async fn answer_client<S: Stream, E: Executor>(
        &self,
        ids: &RequestIds,
        head: &RequestHead,
        body: &mut RequestBody<'_, S, E>,
        note: &RequestNote,
    ) -> (Operation, Reply<O>) {
        let (operation, result) = self.answer(ids, head, body, note).await;
        let is_head = head.method() == Method::Head;
        let mut response = match result {
            Ok(response) => response,
            Err(error) => {
                note.fail(error.code);
                let error = self.about(error, head);
                log_fault(operation, ids, head, &error);
                let mut response = error.to_response(ids, head.raw_path());
                if is_head {
                    // minio-go reads the code here, since HEAD has no body.
                    response.headers.push("x-minio-error-code", error.code.as_str());
                }
                response
            }
        };
        if operation != Operation::OptionsPreflight {
            self.push_cors(head, &mut response.headers).await;
        }
        (operation, response)
    }

    async fn answer<S: Stream, E: Executor>(
        &self,
        ids: &RequestIds,
        head: &RequestHead,
        body: &mut RequestBody<'_, S, E>,
        note: &RequestNote,
    ) -> (Operation, Result<Reply<O>, S3Error>) {
        let address = match Address::parse(head.header_str("host"), head.raw_path(), &self.config.domains) {
            Ok(address) => address,
            Err(error) => return (Operation::Unknown, Err(error)),
        };
        let operation = route(head, &address);
        if operation == Operation::Unknown
            && let Some(error) = misrouted(head, &address)
        {
            note.asks(&Identity::Anonymous);
            return (operation, Err(error));
        }
        if operation == Operation::PostObject {
            // Its signature is in the form.
            return (operation, self.post_object(ids, head, address, body, note).await);
        }
        if operation == Operation::OptionsPreflight {
            return (operation, self.preflight(head, &address, note).await);
        }
        let host_bucket = address.bucket.as_deref().filter(|_| address.by_host);
        let now_ms = body.executor().unix_ms();
        let authenticated = match self.verifier.authenticate(head, host_bucket, now_ms) {
            Ok(authenticated) => authenticated,
            Err(error) => return (operation, Err(error.into())),
        };
        let (identity, signature) = authenticated.into_parts();
        note.asks(&identity);
        let asker = self.asker(head, ids, identity, now_ms, note);
        let request = match self.permitted(operation, address, asker).await {
            Ok(request) => request,
            Err(error) => return (operation, Err(error)),
        };
        if note.is_logged() {
            body.time_end();
        }
        let is_read = matches!(operation, Operation::GetObject | Operation::HeadObject);
        if is_read && request.identity.account().is_none() && has_overrides(&request.query) {
            let what = "Request specific response headers cannot be used for anonymous GET requests.";
            return (operation, Err(S3Error::with_message(Code::InvalidRequest, what)));
        }
        let may_know = self.authorizer.may_know(operation, &request.access, request.key.as_ref());
        let result = self.dispatch(operation, request, signature, body).await;
        (operation, if may_know { result } else { self.authorizer.hide_missing(result) })
    }

    /// Who asks, and by which way.
    fn asker<'r>(
        &self,
        head: &'r RequestHead,
        ids: &RequestIds,
        identity: Identity,
        now_ms: u64,
        note: &'r RequestNote,
    ) -> Asker<'r> {
        let proxies = &self.config.trusted_proxies;
        Asker {
            head,
            identity,
            address: client_address(head, ids.peer.ip(), proxies),
            is_secure: client_is_secure(head, ids.peer.ip(), ids.seal.is_some(), proxies),
            now_ms,
            note,
        }
    }

    /// The request, once it is known that its caller may do what it asks.
    async fn permitted<'r>(
        &self,
        operation: Operation,
        address: Address,
        asker: Asker<'r>,
    ) -> Result<Request<'r>, S3Error> {
        let (head, identity) = (asker.head, asker.identity.clone());
        let by_host = address.by_host;
        let bucket = address.bucket.map(|name| BucketName::parse(&name)).transpose()?;
        let key = address.key.map(ObjectKey::parse).transpose()?;
        let source = source_of(operation, head, bucket.as_ref())?;
        let named = Named { bucket: bucket.as_ref(), key: key.as_ref(), source };
        let access = self.authorizer.authorize(&self.ops, &self.settings, operation, asker, named).await?;
        Ok(Request { head, query: Query::new(head.raw_query()), bucket, key, identity, by_host, access })
    }

    /// The same error with what it is about, which clients show and compare: the key, the bucket, the upload, the method
    /// or the condition.
    fn about(&self, error: S3Error, head: &RequestHead) -> S3Error {
        let address = Address::parse(head.header_str("host"), head.raw_path(), &self.config.domains);
        let Ok(address) = address else { return error };
        let is_said = |name: &str| error.extra.iter().any(|(said, _)| *said == name);
        let (name, value) = match error.code {
            Code::MethodNotAllowed => {
                let kind = match (&address.bucket, &address.key) {
                    (None, _) => "SERVICE",
                    (Some(_), None) => "BUCKET",
                    (Some(_), Some(_)) => "OBJECT",
                };
                let has_kind = is_said("ResourceType");
                let error = error.and("Method", head.method_token().to_owned());
                return if has_kind { error } else { error.and("ResourceType", kind.to_owned()) };
            }
            // A read said which of its conditions failed; a write has one.
            Code::PreconditionFailed if !is_said("Condition") => {
                let of_write = ["If-None-Match", "If-Match"];
                let condition = of_write.into_iter().find(|name| head.header(name).is_some());
                return condition
                    .into_iter()
                    .fold(error, |error, name| error.and("Condition", name.to_owned()));
            }
            Code::NoSuchKey | Code::NoSuchVersion => {
                ("Key", address.key.map(|key| String::from_utf8_lossy(&key).into_owned()))
            }
            Code::NoSuchBucket
            | Code::InvalidBucketName
            | Code::BucketNotEmpty
            | Code::BucketAlreadyOwnedByYou
            | Code::BucketAlreadyExists => ("BucketName", address.bucket),
            Code::NoSuchUpload | Code::InvalidPart | Code::InvalidPartOrder => {
                let upload = Query::new(head.raw_query()).get("uploadId");
                ("UploadId", upload.map(|upload| upload.into_owned()))
            }
            _ => return error,
        };
        match value {
            // Of a copy the source is meant as often as the target.
            Some(value) if !is_said(name) && head.header("x-amz-copy-source").is_none() => {
                error.and(name, value)
            }
            _ => error,
        }
    }

    /// The owner of the request's bucket, and so of what is in it, as S3 shows it.
    fn bucket_owner(&self, request: &Request<'_>) -> Result<Person, S3Error> {
        Ok(self.verifier.credentials().person(&request.access.settings()?.info.owner))
    }

    async fn dispatch<S: Stream, E: Executor>(
        &self,
        operation: Operation,
        request: Request<'_>,
        signature: BodySignature,
        body: &mut RequestBody<'_, S, E>,
    ) -> Result<Reply<O>, S3Error> {
        let head = request.head;
        let now_ms = body.executor().unix_ms();
        match operation {
            Operation::GetObject => self.get_object(&request).await,
            Operation::HeadObject => self.head_object(&request).await,
            Operation::PutObject => {
                self.put_object(&request, S3Body::new(head, signature, body)?, now_ms).await
            }
            Operation::DeleteObject => self.delete_object(&request).await,
            Operation::DeleteObjects => {
                self.delete_objects(&request, S3Body::new(head, signature, body)?).await
            }
            Operation::CopyObject => self.copy_object(&request, now_ms).await,
            Operation::RenameObject => self.rename_object(&request).await,
            Operation::RestoreObject => {
                self.restore_object(&request, S3Body::new(head, signature, body)?).await
            }
            Operation::GetObjectAttributes => self.get_object_attributes(&request).await,
            Operation::GetObjectTagging => self.get_object_tagging(&request).await,
            Operation::PutObjectTagging => {
                self.put_object_tagging(&request, S3Body::new(head, signature, body)?).await
            }
            Operation::DeleteObjectTagging => self.delete_object_tagging(&request).await,
            Operation::ListBuckets => self.list_buckets(&request).await,
            Operation::CreateBucket => {
                self.create_bucket(&request, S3Body::new(head, signature, body)?).await
            }
            Operation::HeadBucket => self.head_bucket(&request),
            Operation::DeleteBucket => self.delete_bucket(&request).await,
            Operation::GetBucketTagging => self.get_bucket_tagging(&request),
            Operation::PutBucketTagging => {
                self.put_bucket_tagging(&request, S3Body::new(head, signature, body)?).await
            }
            Operation::DeleteBucketTagging => self.delete_document(&request, ConfigKind::Tagging).await,
            Operation::GetBucketPolicy => self.get_bucket_policy(&request),
            Operation::PutBucketPolicy => {
                self.put_bucket_policy(&request, S3Body::new(head, signature, body)?).await
            }
            Operation::DeleteBucketPolicy => self.delete_document(&request, ConfigKind::Policy).await,
            Operation::GetBucketPolicyStatus => self.get_bucket_policy_status(&request),
            Operation::GetPublicAccessBlock => self.get_public_access_block(&request),
            Operation::PutPublicAccessBlock => {
                self.put_public_access_block(&request, S3Body::new(head, signature, body)?).await
            }
            Operation::DeletePublicAccessBlock => {
                self.delete_document(&request, ConfigKind::PublicAccessBlock).await
            }
            Operation::GetBucketOwnershipControls => self.get_ownership_controls(&request),
            Operation::PutBucketOwnershipControls => {
                self.put_ownership_controls(&request, S3Body::new(head, signature, body)?).await
            }
            Operation::DeleteBucketOwnershipControls => self.delete_ownership_controls(&request).await,
            Operation::GetBucketAcl => self.get_bucket_acl(&request),
            Operation::PutBucketAcl => {
                self.put_bucket_acl(&request, S3Body::new(head, signature, body)?).await
            }
            Operation::GetObjectAcl => self.get_object_acl(&request).await,
            Operation::PutObjectAcl => {
                self.put_object_acl(&request, S3Body::new(head, signature, body)?).await
            }
            Operation::GetBucketCors => self.get_document::<Cors>(&request),
            Operation::PutBucketCors => {
                self.put_document::<Cors, _, _>(&request, S3Body::new(head, signature, body)?).await
            }
            Operation::DeleteBucketCors => self.delete_document(&request, ConfigKind::Cors).await,
            Operation::GetBucketLifecycleConfiguration => self.get_lifecycle(&request),
            Operation::PutBucketLifecycleConfiguration => {
                let executor = body.executor().clone();
                self.put_lifecycle(&request, S3Body::new(head, signature, body)?, &executor).await
            }
            Operation::DeleteBucketLifecycle => self.delete_document(&request, ConfigKind::Lifecycle).await,
            Operation::GetBucketAccelerateConfiguration => self.get_acceleration(&request),
            Operation::PutBucketAccelerateConfiguration => {
                let body = S3Body::new(head, signature, body)?;
                self.put_document::<SuspendedAcceleration, _, _>(&request, body).await
            }
            Operation::GetBucketWebsite => self.get_document::<Website>(&request),
            Operation::PutBucketWebsite => {
                self.put_document::<Website, _, _>(&request, S3Body::new(head, signature, body)?).await
            }
            Operation::DeleteBucketWebsite => self.delete_document(&request, ConfigKind::Website).await,
            Operation::GetBucketEncryption => self.get_document::<DefaultEncryption>(&request),
            Operation::PutBucketEncryption => {
                self.put_default_encryption(&request, S3Body::new(head, signature, body)?).await
            }
            Operation::DeleteBucketEncryption => self.delete_document(&request, ConfigKind::Encryption).await,
            Operation::GetBucketLogging => self.get_logging(&request),
            Operation::PutBucketLogging => {
                self.put_logging(&request, S3Body::new(head, signature, body)?).await
            }
            Operation::PutBucketNotificationConfiguration | Operation::PutBucketRequestPayment => {
                self.put_switch(operation, S3Body::new(head, signature, body)?).await
            }
            Operation::ListObjects => self.list_objects(&request).await,
            Operation::ListObjectsV2 => self.list_objects_v2(&request).await,
            Operation::ListObjectVersions => self.list_object_versions(&request).await,
            Operation::GetBucketVersioning => self.get_bucket_versioning(&request),
            Operation::PutBucketVersioning => {
                self.put_bucket_versioning(&request, S3Body::new(head, signature, body)?).await
            }
            Operation::GetObjectLockConfiguration => self.get_object_lock(&request),
            Operation::PutObjectLockConfiguration => {
                self.put_object_lock(&request, S3Body::new(head, signature, body)?).await
            }
            Operation::GetObjectRetention => self.get_object_retention(&request).await,
            Operation::PutObjectRetention => {
                self.put_object_retention(&request, S3Body::new(head, signature, body)?, now_ms).await
            }
            Operation::GetObjectLegalHold => self.get_object_legal_hold(&request).await,
            Operation::PutObjectLegalHold => {
                self.put_object_legal_hold(&request, S3Body::new(head, signature, body)?).await
            }
            Operation::CreateMultipartUpload => self.create_upload(&request, now_ms).await,
            Operation::UploadPart => self.put_part(&request, S3Body::new(head, signature, body)?).await,
            Operation::UploadPartCopy => self.copy_part(&request).await,
            Operation::CompleteMultipartUpload => {
                self.complete_upload(&request, S3Body::new(head, signature, body)?).await
            }
            Operation::AbortMultipartUpload => self.abort_upload(&request).await,
            Operation::ListParts => self.list_parts(&request).await,
            Operation::ListMultipartUploads => self.list_uploads(&request).await,
            _ if request.head.method() == Method::Other => Err(Code::MethodNotAllowed.into()),
            other => self.sub_resource(other, &request).await,
        }
    }
}

/// What a copy or a rename reads.
fn source_of(
    operation: Operation,
    head: &RequestHead,
    bucket: Option<&BucketName>,
) -> Result<Option<authorize::Source>, S3Error> {
    match (operation, bucket) {
        (Operation::CopyObject | Operation::UploadPartCopy, _) => {
            let source = copy::copy_source(head.header("x-amz-copy-source").unwrap_or_default())?;
            let version = source.version.map(|version| version.to_string());
            Ok(Some(authorize::Source { bucket: source.bucket, key: source.key, version }))
        }
        (Operation::RenameObject, Some(bucket)) => {
            let key = rename::rename_source(head, bucket)?;
            Ok(Some(authorize::Source { bucket: bucket.clone(), key, version: None }))
        }
        _ => Ok(None),
    }
}

/// Tells the operator of a request that failed by no fault of its client.
fn log_fault(operation: Operation, ids: &RequestIds, head: &RequestHead, error: &S3Error) {
    // Refusing under load is what the server is asked to do; the metrics count it.
    let is_fault =
        error.code.status() >= 500 && error.code.status() != 501 && !matches!(error.code, Code::SlowDown);
    if is_fault {
        tracing::warn!(
            request_id = ids.request_id(),
            operation = operation.name(),
            path = head.raw_path(),
            %error,
            detail = error.detail.as_deref(),
            "request failed"
        );
    }
}

#[cfg(test)]
mod tests;
