//! Answers the visitors of websites: requests whose host names a bucket below a website domain.
//! Invariants: a visitor is nobody: signatures, queries and fields of the API are not looked at, and the one evaluator
//! decides as for an unsigned request; every error is a page; no request looks at more than the key, its index document
//! and the error document.
//! Not here: what a site says (`s3::config::website`), S3's own pages (`s3::html`).

use super::{Reply, Request, S3Service, log_fault};
use crate::auth::{Credentials, Identity, decode_escapes};
use crate::http::{Method, RequestHead, RequestIds, Response};
use crate::ops::api::{BucketName, ObjectKey, OpError, OpenedObject, Operations, REDIRECT_HEADER};
use crate::s3::access_log::RequestNote;
use crate::s3::address::{Address, website_bucket};
use crate::s3::authorize::client_is_secure;
use crate::s3::bucket_settings::BucketSettings;
use crate::s3::config::website::{Pages, Protocol, Redirect, Website, escaped};
use crate::s3::error::{Code, S3Error};
use crate::s3::html::{self, error_page, push_error_fields};
use crate::s3::route::Operation;

/// A request to a site.
struct Visit<'r> {
    ids: &'r RequestIds,
    /// As sent.
    head: &'r RequestHead,
    bucket: BucketName,
    operation: Operation,
    now_ms: u64,
    note: &'r RequestNote,
}

/// A visit that ends with S3's own page.
struct Failure {
    error: S3Error,
    /// Why it is not the site's.
    of_document: Option<S3Error>,
}

impl From<S3Error> for Failure {
    fn from(error: S3Error) -> Failure {
        Failure { error, of_document: None }
    }
}

impl<O: Operations, C: Credentials> S3Service<O, C> {
    /// The bucket whose site a request is for, as its host names it.
    pub(super) fn site_of(&self, head: &RequestHead) -> Option<String> {
        if self.config.website_domains.is_empty() {
            return None;
        }
        website_bucket(head.header_str("host")?, &self.config.website_domains)
    }

    /// Answers a request to a site.
    pub(super) async fn answer_visitor(
        &self,
        ids: &RequestIds,
        head: &RequestHead,
        site: &str,
        now_ms: u64,
        note: &RequestNote,
    ) -> (Operation, Reply<O>) {
        note.asks(&Identity::Anonymous);
        let operation = match head.method() {
            Method::Get => Operation::GetObject,
            Method::Head => Operation::HeadObject,
            Method::Options => Operation::OptionsPreflight,
            _ => Operation::Unknown,
        };
        let Ok(bucket) = BucketName::parse(site) else {
            let error = S3Error::from(Code::NoSuchBucket).and("BucketName", site.to_owned());
            return (operation, page_reply(&error.into(), ids));
        };
        let visit = Visit { ids, head, bucket, operation, now_ms, note };
        let mut response = match self.visit(&visit).await {
            Ok(response) => response,
            Err(failure) => {
                note.fail(failure.error.code);
                log_fault(operation, ids, head, &failure.error);
                page_reply(&failure, ids)
            }
        };
        if operation != Operation::OptionsPreflight {
            self.push_cors_of(&visit.bucket, head, &mut response.headers).await;
        }
        (operation, response)
    }

    async fn visit(&self, visit: &Visit<'_>) -> Result<Reply<O>, Failure> {
        match visit.operation {
            Operation::GetObject | Operation::HeadObject => {}
            Operation::OptionsPreflight => {
                let address = visit.address(visit.key()?);
                return Ok(self.preflight(visit.head, &address, visit.note).await?);
            }
            _ => return Err(not_allowed(visit.head.method_token()).into()),
        }
        let settings = self.settings.get(&self.ops, &visit.bucket).await;
        visit.note.found(settings.as_ref().ok(), |settings| visit.asked_key(settings));
        let settings = match settings {
            Err(error) if error.code == Code::NoSuchBucket => return Err(visit.without(error).into()),
            settings => settings?,
        };
        match &settings.website {
            None => Err(visit.without(Code::NoSuchWebsiteConfiguration.into()).into()),
            Some(Website::RedirectAll { host, protocol }) => {
                Ok(moved(301, self.location_of_all(visit, host, *protocol)))
            }
            Some(Website::Pages(pages)) => self.visit_pages(visit, pages).await,
        }
    }

    async fn visit_pages(&self, visit: &Visit<'_>, pages: &Pages) -> Result<Reply<O>, Failure> {
        let key = visit.key()?;
        if let Some(redirect) = pages.redirect(&key, None) {
            return Ok(moved(redirect.status, self.location(visit, &redirect)));
        }
        let head = visit.head.bare(|name| !is_of_api(name));
        let error = match self.read_page(visit, &head, pages.key_of(&key)).await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        if matches!(error.code, Code::NoSuchKey | Code::AccessDenied)
            && self.is_folder(visit, &head, pages, &key).await?
        {
            return Ok(to_folder(&key));
        }
        let status = error.code.status();
        if let Some(redirect) = pages.redirect(&key, Some(status)) {
            return Ok(moved(redirect.status, self.location(visit, &redirect)));
        }
        visit.note.fail(error.code);
        self.error_document(visit, pages, error).await
    }

    /// An object as the anonymous may read it; `key` is the object's.
    async fn read_page(
        &self,
        visit: &Visit<'_>,
        head: &RequestHead,
        key: String,
    ) -> Result<Reply<O>, S3Error> {
        let request = self.anonymous(visit, head, key.clone()).await.map_err(|error| about(error, &key))?;
        let may_know = self.authorizer.may_know(Operation::GetObject, &request.access, request.key.as_ref());
        let result = self.read_permitted(&request).await;
        let result = if may_know { result } else { self.authorizer.hide_missing(result) };
        result.map_err(|error| about(error, &key))
    }

    async fn read_permitted(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let is_head = request.head.method() == Method::Head;
        let permit = if is_head { Some(self.ops.admit(Some(0))?) } else { None };
        let object = self.ops.open_object(request.bucket()?, request.key()?, None).await?;
        // Before the redirect too: without its key nothing is told of an object, and visitors have none.
        self.ops.check_key(object.info(), None)?;
        let sent_to = object.info().headers.iter().find(|header| header.name == REDIRECT_HEADER);
        if let Some(header) = sent_to {
            return Ok(moved(301, &header.value));
        }
        let result = match is_head {
            true => self.head_found(request, object.info(), None),
            false => self.get_opened(request, object, None).await,
        };
        drop(permit);
        result
    }

    /// The request for a key that an unsigned one to the API would be, if that may read it.
    async fn anonymous<'r>(
        &self,
        visit: &Visit<'r>,
        head: &'r RequestHead,
        key: String,
    ) -> Result<Request<'r>, S3Error> {
        let asker = self.asker(head, visit.ids, Identity::Anonymous, visit.now_ms, visit.note);
        self.permitted(Operation::GetObject, visit.address(key), asker).await
    }

    /// Whether a key that could not be read is not there, and is a folder whose index document the visitor may read.
    async fn is_folder(
        &self,
        visit: &Visit<'_>,
        head: &RequestHead,
        pages: &Pages,
        key: &str,
    ) -> Result<bool, S3Error> {
        if key.is_empty() || key.ends_with('/') {
            return Ok(false);
        }
        let index = match self.anonymous(visit, head, pages.key_of(&format!("{key}/"))).await {
            Ok(request) => request.key()?,
            Err(error) if error.code.status() < 500 => return Ok(false),
            Err(error) => return Err(error),
        };
        let key = ObjectKey::parse(key.as_bytes().to_vec())?;
        for (key, is_there) in [(index, true), (key, false)] {
            match self.ops.head_object(visit.bucket.clone(), key, None).await {
                Ok(_) if is_there => {}
                Err(OpError::NoSuchKey | OpError::DeleteMarker { .. }) if !is_there => {}
                Ok(_) | Err(OpError::NoSuchKey | OpError::DeleteMarker { .. }) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// The site's own page for an error, with the error's status.
    async fn error_document(
        &self,
        visit: &Visit<'_>,
        pages: &Pages,
        error: S3Error,
    ) -> Result<Reply<O>, Failure> {
        let status = error.code.status();
        let Some(key) = pages.error_key.clone().filter(|_| (400..500).contains(&status)) else {
            return Err(error.into());
        };
        // Whole, whatever range or condition the page itself was asked for with.
        let head = visit.head.bare(|name| !is_of_api(name) && !is_selective(name));
        match self.read_page(visit, &head, key).await {
            // The document sends its readers elsewhere.
            Ok(response) if response.status == 301 => Ok(response),
            Ok(mut response) => {
                response.status = status;
                push_error_fields(&mut response.headers, &error);
                Ok(response)
            }
            Err(of_document) => Err(Failure { error, of_document: Some(of_document) }),
        }
    }

    /// The path and the query go along, so that one host can stand for another.
    fn location_of_all(&self, visit: &Visit<'_>, host: &str, protocol: Option<Protocol>) -> String {
        let protocol = protocol.unwrap_or_else(|| self.protocol_of(visit)).as_str();
        let path = visit.head.raw_path().strip_prefix('/').unwrap_or_default();
        let query = visit.head.raw_query().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{protocol}://{host}/{path}{query}")
    }

    fn location(&self, visit: &Visit<'_>, redirect: &Redirect) -> String {
        let protocol = redirect.protocol.unwrap_or_else(|| self.protocol_of(visit)).as_str();
        let host = redirect.host.as_deref().or_else(|| visit.head.header_str("host")).unwrap_or_default();
        format!("{protocol}://{host}/{}", redirect.path)
    }

    fn protocol_of(&self, visit: &Visit<'_>) -> Protocol {
        let (ids, proxies) = (visit.ids, &self.config.trusted_proxies);
        let is_secure = client_is_secure(visit.head, ids.peer.ip(), ids.seal.is_some(), proxies);
        if is_secure { Protocol::Https } else { Protocol::Http }
    }
}

impl Visit<'_> {
    /// Which object is asked for, as the access log has it: of a folder its index document.
    fn asked_key(&self, settings: &BucketSettings) -> Option<ObjectKey> {
        let key = self.key().ok()?;
        let key = match &settings.website {
            Some(Website::Pages(pages)) => pages.key_of(&key),
            _ => key,
        };
        ObjectKey::parse(key.into_bytes()).ok()
    }

    /// The key that the path names; empty for the root.
    fn key(&self) -> Result<String, S3Error> {
        let path = self.head.raw_path();
        let path = path.strip_prefix('/').unwrap_or(path);
        let mut key = Vec::with_capacity(path.len());
        decode_escapes(path.as_bytes(), &mut key).map_err(|_| S3Error::from(Code::InvalidURI))?;
        String::from_utf8(key).map_err(|_| Code::InvalidURI.into())
    }

    fn address(&self, key: String) -> Address {
        let key = Some(key.into_bytes()).filter(|key| !key.is_empty());
        Address { bucket: Some(self.bucket.as_str().to_owned()), key, by_host: true }
    }

    /// An error of the site as a whole.
    fn without(&self, error: S3Error) -> S3Error {
        error.and("BucketName", self.bucket.as_str().to_owned())
    }
}

fn about(error: S3Error, key: &str) -> S3Error {
    if error.code == Code::NoSuchKey { error.and("Key", key.to_owned()) } else { error }
}

fn not_allowed(method: &str) -> S3Error {
    let error = S3Error::from(Code::MethodNotAllowed)
        .and("Method", method.to_owned())
        .and("ResourceType", "OBJECT".to_owned());
    S3Error { headers: vec![("Allow", "GET, HEAD, OPTIONS".to_owned())], ..error }
}

/// Fields by which clients of the API sign and ask for more; a browser sends none.
fn is_of_api(name: &str) -> bool {
    let begins = |start: &str| name.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start));
    name.eq_ignore_ascii_case("authorization") || begins("x-amz-") || begins("x-minio-")
}

/// Fields by which only a part of a page is asked for, or only a page that changed.
fn is_selective(name: &str) -> bool {
    const NAMES: [&str; 6] =
        ["range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"];
    NAMES.iter().any(|selective| name.eq_ignore_ascii_case(selective))
}

fn moved<P>(status: u16, location: impl AsRef<[u8]>) -> Response<P> {
    Response::new(status).with_header("Location", location)
}

/// To the folder of that name. A slash in front would make its first part a host.
fn to_folder<P>(key: &str) -> Response<P> {
    let path = match key.strip_prefix('/') {
        Some(rest) => format!("%2F{}", escaped(rest)),
        None => escaped(key),
    };
    moved(302, format!("/{path}/"))
        .with_header("x-amz-error-code", "Found")
        .with_header("x-amz-error-message", "Resource Found")
}

fn page_reply<P>(failure: &Failure, ids: &RequestIds) -> Response<P> {
    let Failure { error, of_document } = failure;
    let page = error_page(error, of_document.as_ref(), ids);
    let mut response = Response::new(error.code.status()).with_bytes(html::CONTENT_TYPE, page);
    push_error_fields(&mut response.headers, error);
    if error.code == Code::SlowDown {
        response.headers.push("Retry-After", "1");
    }
    response
}
