//! Objects: put, get, head, delete.
//! Invariants: GET and HEAD of the same request carry the same fields; a checksum of the whole object never
//! stands on a part of it; a read's place in the budget is held as long as its reader.
//! Not here: copies (`copy`), many deletes at once (`delete_many`), uploads in parts (`multipart`).

use std::ops::Range;

use bytes::Bytes;
use shardstore_reactor::{Executor, Stream};

use super::append::OFFSET_HEADER;
use super::snowball::is_archive;
use super::zip::{Inflate, archive_path};
use super::{Reply, Request, S3Service, Source};
use crate::auth::Credentials;
use crate::http::{BodyFraming, HeaderText, Payload, PayloadSource, Response, StreamFailed};
use crate::ops::api::{
    BodyReader, ChecksumAlgorithm, DeleteEntry, ETag, ObjectEncryption, ObjectInfo, ObjectLock, OpError,
    OpenedObject, Operations, PutObject, StoredChecksum,
};
use crate::policy::Action;
use crate::s3::body::S3Body;
use crate::s3::checksum::{header_name, kind_name, value_text};
use crate::s3::conditions::{ReadConditions, Verdict, delete_condition, failed, unquote, write_condition};
use crate::s3::encryption::{AskedEncryption, GivenKey, key_of_existing, push_encryption};
use crate::s3::error::{Code, S3Error};
use crate::s3::headers::{kept_headers, push_object_headers, storage_class};
use crate::s3::object_lock::{asked_lock, push_lock};
use crate::s3::range::RangeSpec;
use crate::s3::tagging::{TagSet, kept_tagging};
use crate::s3::time_text::{http_date, parse_date_s};
use crate::s3::versions::{push_deleted, push_made_version, push_version};
use crate::s3::zip::Entry;

/// Streams an object, holding the request's place in the budget.
pub struct ObjectSource<R, P> {
    reader: R,
    /// For a packed member of an archive.
    inflate: Option<Box<Inflate>>,
    _permit: P,
}

impl<R: BodyReader, P: 'static> ObjectSource<R, P> {
    fn new(reader: R, permit: P) -> ObjectSource<R, P> {
        ObjectSource { reader, inflate: None, _permit: permit }
    }

    /// Of a member of an archive; `reader` reads it as it is packed.
    pub(super) fn of_member(reader: R, permit: P, entry: &Entry) -> ObjectSource<R, P> {
        ObjectSource { reader, inflate: Inflate::of(entry), _permit: permit }
    }
}

impl<R: BodyReader, P: 'static> PayloadSource for ObjectSource<R, P> {
    async fn next(&mut self) -> Result<Option<Vec<Bytes>>, StreamFailed> {
        if let Some(inflate) = &mut self.inflate {
            return Ok(inflate.next(&mut self.reader).await?.map(|bytes| vec![bytes]));
        }
        match self.reader.next().await {
            None => Ok(None),
            Some(Ok(parts)) => Ok(Some(parts)),
            Some(Err(error)) => {
                tracing::warn!(%error, "a read failed after its response had begun");
                Err(StreamFailed)
            }
        }
    }
}

/// Which bytes of an object a response carries.
struct Selection {
    range: Range<u64>,
    /// Whether the response is 206.
    partial: bool,
    /// With `partNumber`: how many parts the object has, if it has parts.
    parts_count: Option<u16>,
    /// Of the part that `partNumber` names.
    part_checksum: Option<StoredChecksum>,
}

impl Selection {
    fn whole(size_bytes: u64) -> Selection {
        Selection { range: 0..size_bytes, partial: false, parts_count: None, part_checksum: None }
    }
}

impl<O: Operations, C: Credentials> S3Service<O, C> {
    pub(super) async fn put_object<S: Stream, E: Executor>(
        &self,
        request: &Request<'_>,
        mut body: S3Body<'_, '_, S, E>,
        now_ms: u64,
    ) -> Result<Reply<O>, S3Error> {
        let head = request.head;
        let asked = AskedEncryption::of_write(request.access.asker())?;
        let lock = asked_lock(head, now_ms)?;
        if lock != ObjectLock::NONE && !body.has_integrity() {
            return Err(S3Error::with_message(
                Code::InvalidRequest,
                "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock \
                 parameters",
            ));
        }
        if head.framing() == BodyFraming::Length(0) && head.header("content-length").is_none() {
            return Err(Code::MissingContentLength.into());
        }
        let put = PutObject {
            bucket: request.bucket()?,
            key: request.key()?,
            headers: kept_headers(head)?
                .into_iter()
                .chain(kept_tagging(head)?)
                .chain(self.new_object_acl(request)?)
                .collect(),
            condition: write_condition(head)?,
            len_bytes: body.len_bytes(),
            storage_class: storage_class(head, &self.config.storage_classes)?,
            lock,
            encrypt: asked.in_bucket(request.access.settings()?)?,
        };
        if is_archive(head) {
            return self.put_archive(request, put, body).await;
        }
        if head.header(OFFSET_HEADER).is_some() {
            return self.append_object(request, put, body).await;
        }
        let _permit = self.ops.admit(body.len_bytes())?;
        let written = self.ops.put_object(put, &mut body).await?;
        request.access.asker().note.set_object_bytes(written.size_bytes);
        let mut response = Response::new(200);
        push_etag(&mut response.headers, &written.etag);
        push_checksum(&mut response.headers, written.checksum.as_ref(), None);
        push_made_version(&mut response.headers, written.version);
        push_encryption(&mut response.headers, written.encryption, asked.key());
        let tags = || head.header("x-amz-tagging").map_or(Ok(TagSet::default()), TagSet::of_header);
        self.push_expiration(request, &mut response.headers, (written.size_bytes, written.modified_ms), tags);
        Ok(response)
    }

    pub(super) async fn get_object(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        if let Some(path) = archive_path(request)? {
            return self.get_member(request, path, false).await;
        }
        let version = request.version()?;
        asked_part(request)?;
        let given = key_of_existing(request.access.asker())?;
        let object = self.ops.open_object(request.bucket()?, request.key()?, version).await?;
        self.get_opened(request, object, given.as_ref()).await
    }

    /// Answers a GET of an object that is open; `given` is the customer's key.
    pub(super) async fn get_opened(
        &self,
        request: &Request<'_>,
        mut object: O::Object,
        given: Option<&GivenKey>,
    ) -> Result<Reply<O>, S3Error> {
        // Before any condition: without its key nothing is told of an object.
        object.unlock(given.map(|given| &given.key))?;
        let verdict = check(request, object.info())?;
        if verdict == Verdict::NotModified {
            return Ok(not_modified(object.info()));
        }
        let selection = select(request, &object).await?;
        let mut response = described(request, object.info(), &selection, given);
        self.push_expiration_of(request, &mut response.headers, object.info());
        let len_bytes = selection.range.end - selection.range.start;
        if len_bytes > 0 {
            let permit = self.ops.admit_read(object.info().held_bytes(&selection.range))?;
            let source: Source<O> = ObjectSource::new(object.read(selection.range), permit);
            response.payload = Payload::Stream { len_bytes, source };
        }
        Ok(response)
    }

    pub(super) async fn head_object(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        if let Some(path) = archive_path(request)? {
            return self.get_member(request, path, true).await;
        }
        let version = request.version()?;
        let given = key_of_existing(request.access.asker())?;
        let _permit = self.ops.admit(Some(0))?;
        let (bucket, key) = (request.bucket()?, request.key()?);
        if asked_part(request)?.is_some() {
            let object = self.ops.open_object(bucket, key, version).await?;
            self.ops.check_key(object.info(), given.as_ref().map(|given| &given.key))?;
            if check(request, object.info())? == Verdict::NotModified {
                return Ok(not_modified(object.info()));
            }
            let selection = select(request, &object).await?;
            let mut response = head_of(request, object.info(), &selection, given.as_ref());
            self.push_expiration_of(request, &mut response.headers, object.info());
            return Ok(response);
        }
        let info = self.ops.head_object(bucket, key, version).await?;
        self.head_found(request, &info, given.as_ref())
    }

    /// Answers a HEAD of an object that was found; `given` is the customer's key.
    pub(super) fn head_found(
        &self,
        request: &Request<'_>,
        info: &ObjectInfo,
        given: Option<&GivenKey>,
    ) -> Result<Reply<O>, S3Error> {
        self.ops.check_key(info, given.map(|given| &given.key))?;
        if check(request, info)? == Verdict::NotModified {
            return Ok(not_modified(info));
        }
        let selection = select_range(request, info)?;
        let mut response = head_of(request, info, &selection, given);
        self.push_expiration_of(request, &mut response.headers, info);
        Ok(response)
    }

    fn push_expiration_of(&self, request: &Request<'_>, headers: &mut HeaderText, info: &ObjectInfo) {
        // Only a current object expires: a version that is named may be an older one.
        if request.query.may_hold("versionId") {
            return;
        }
        let made = (info.size_bytes, info.modified_ms);
        self.push_expiration(request, headers, made, || TagSet::of_object(info));
    }

    pub(super) async fn delete_object(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let delete = DeleteEntry {
            key: request.key()?,
            version: request.version()?,
            condition: delete_condition(request.head)?,
            bypass_governance: request.bypasses_governance(None)?,
        };
        let _permit = self.ops.admit(Some(0))?;
        // Only who may know that there is no such object may be told that there is none to match.
        let may_know = delete.condition.if_match.is_none() || request.access.may_know_missing(&delete.key);
        let deleted = self.ops.delete_object(request.bucket()?, delete).await.map_err(S3Error::from);
        let deleted = if may_know { deleted? } else { self.authorizer.hide_missing(deleted)? };
        let mut response = Response::new(204);
        push_deleted(&mut response.headers, deleted);
        Ok(response)
    }
}

/// The conditions of a read; most requests have none, and then nothing is rendered.
pub(super) fn check(request: &Request<'_>, info: &ObjectInfo) -> Result<Verdict, S3Error> {
    let conditions = ReadConditions::of_read(request.head, request.access.asker().now_ms);
    if conditions.is_empty() {
        return Ok(Verdict::Proceed);
    }
    match conditions.check(&info.etag.to_string(), info.modified_ms) {
        Verdict::Failed(name) => Err(failed(name)),
        verdict => Ok(verdict),
    }
}

async fn select(request: &Request<'_>, object: &impl OpenedObject) -> Result<Selection, S3Error> {
    let Some(part_number) = asked_part(request)? else { return select_range(request, object.info()) };
    let part = object.part(part_number).await.map_err(|error| match error {
        OpError::NoSuchPart { .. } => {
            S3Error::from(error).and("PartNumberRequested", part_number.to_string())
        }
        other => other.into(),
    })?;
    let partial = part.range.start < part.range.end;
    // Only of what was uploaded in parts, as AWS: where a count stands the CRT leaves the checksum of part 1 unread.
    let parts_count = object.info().part_count;
    Ok(Selection { range: part.range, partial, parts_count, part_checksum: part.checksum })
}

/// The part that is asked for, if one is.
fn asked_part(request: &Request<'_>) -> Result<Option<u16>, S3Error> {
    if !request.query.may_hold("partNumber") {
        return Ok(None);
    }
    let Some(text) = request.query.text("partNumber")? else { return Ok(None) };
    if request.head.header("range").is_some() {
        return Err(S3Error::with_message(
            Code::InvalidRequest,
            "Cannot specify both Range header and partNumber query parameter",
        ));
    }
    let number = text.parse().ok().filter(|number| (1..=10_000).contains(number));
    let message = "Part number must be an integer between 1 and 10000, inclusive";
    number.map(Some).ok_or_else(|| S3Error::argument("partNumber", &text, message))
}

fn select_range(request: &Request<'_>, info: &ObjectInfo) -> Result<Selection, S3Error> {
    let Some(header) = request.head.header("range") else { return Ok(Selection::whole(info.size_bytes)) };
    let Some(spec) = RangeSpec::parse(header).filter(|_| if_range_holds(request, info)) else {
        return Ok(Selection::whole(info.size_bytes));
    };
    match spec.resolve(info.size_bytes) {
        Ok(range) => Ok(Selection { partial: true, range, ..Selection::whole(info.size_bytes) }),
        Err(_) => Err(S3Error {
            headers: vec![("Content-Range", format!("bytes */{}", info.size_bytes))],
            ..S3Error::from(Code::InvalidRange)
                .and("RangeRequested", String::from_utf8_lossy(header).into_owned())
                .and("ActualObjectSize", info.size_bytes.to_string())
        }),
    }
}

/// RFC 9110 13.1.5: a range of an object that changed is the whole object.
fn if_range_holds(request: &Request<'_>, info: &ObjectInfo) -> bool {
    request.head.header_str("if-range").is_none_or(|text| match parse_date_s(text) {
        Some(at_s) => info.modified_ms / 1000 == at_s,
        None => unquote(text) == info.etag.to_string(),
    })
}

/// Status and fields of a GET or HEAD.
fn described<P>(
    request: &Request<'_>,
    info: &ObjectInfo,
    selection: &Selection,
    given: Option<&GivenKey>,
) -> Response<P> {
    let mut response = Response::new(if selection.partial { 206 } else { 200 });
    let headers = &mut response.headers;
    push_validators(headers, info);
    headers.push("Accept-Ranges", "bytes");
    push_object_headers(headers, info, &request.query);
    push_encryption(headers, info.encryption.as_ref().map(ObjectEncryption::by), given);
    push_lock(headers, &shown_lock(request, info));
    if selection.partial {
        let Range { start, end } = selection.range;
        headers.push("Content-Range", format!("bytes {start}-{}/{}", end - 1, info.size_bytes));
    }
    if let Some(count) = selection.parts_count {
        headers.push_number("x-amz-mp-parts-count", u64::from(count));
    }
    let wants_checksum =
        request.head.header("x-amz-checksum-mode").is_some_and(|mode| mode.eq_ignore_ascii_case(b"enabled"));
    if wants_checksum && selection.parts_count.is_some() {
        push_part_checksum(headers, info, selection.part_checksum.as_ref());
    } else if wants_checksum && selection.range == (0..info.size_bytes) {
        for checksum in &info.checksums {
            push_checksum(headers, Some(checksum), info.etag.part_count);
        }
    }
    response
}

/// What the caller may be told of an object's lock.
fn shown_lock(request: &Request<'_>, info: &ObjectInfo) -> ObjectLock {
    if info.lock == ObjectLock::NONE {
        return ObjectLock::NONE;
    }
    let may = |action| {
        request.key.as_ref().is_some_and(|key| request.access.also_on(action, key, &info.headers).is_ok())
    };
    ObjectLock {
        retention: info.lock.retention.filter(|_| may(Action::GetObjectRetention)),
        legal_hold: info.lock.legal_hold.filter(|_| may(Action::GetObjectLegalHold)),
    }
}

/// A part's own checksum, with the type of its object's.
fn push_part_checksum(headers: &mut HeaderText, info: &ObjectInfo, checksum: Option<&StoredChecksum>) {
    let Some(checksum) = checksum else { return };
    let of_object = info.checksums.iter().find(|of_object| of_object.algorithm == checksum.algorithm);
    headers.push(header_name(checksum.algorithm), value_text(checksum, None));
    headers.push("x-amz-checksum-type", kind_name(of_object.map_or(checksum.kind, |object| object.kind)));
}

fn head_of<P>(
    request: &Request<'_>,
    info: &ObjectInfo,
    selection: &Selection,
    given: Option<&GivenKey>,
) -> Response<P> {
    let mut response = described(request, info, selection, given);
    response.payload = Payload::HeadOf { len_bytes: selection.range.end - selection.range.start };
    response
}

pub(super) fn not_modified<P>(info: &ObjectInfo) -> Response<P> {
    let mut response = Response::new(304);
    push_validators(&mut response.headers, info);
    let fresh = ["cache-control", "expires"];
    for header in info.headers.iter().filter(|header| fresh.contains(&header.name.as_str())) {
        response.headers.push(&header.name, &header.value);
    }
    response
}

fn push_validators(headers: &mut HeaderText, info: &ObjectInfo) {
    push_etag(headers, &info.etag);
    push_version(headers, info.version);
    headers.push("Last-Modified", http_date(info.modified_ms));
}

/// Adds the quoted tag without going through a formatter: it stands on every GET and PUT.
pub(super) fn push_etag(headers: &mut HeaderText, etag: &ETag) {
    let mut text = [0u8; 34];
    text[0] = b'"';
    text[33] = b'"';
    // The slice is twice as long as the digest, so this does not fail.
    if etag.part_count.is_none() && hex::encode_to_slice(etag.md5, &mut text[1..33]).is_ok() {
        headers.push("ETag", text);
    } else {
        headers.push("ETag", format!("\"{etag}\""));
    }
}

/// Adds `x-amz-checksum-*` and its type.
pub(super) fn push_checksum(
    headers: &mut HeaderText,
    checksum: Option<&StoredChecksum>,
    part_count: Option<u16>,
) {
    let Some(checksum) = checksum else { return };
    let algorithm: ChecksumAlgorithm = checksum.algorithm;
    headers.push(header_name(algorithm), value_text(checksum, part_count));
    headers.push("x-amz-checksum-type", kind_name(checksum.kind));
}
