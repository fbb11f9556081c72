//! CopyObject and UploadPartCopy.
//! Invariants: of a whole object no bytes move, and the source's conditions are decided in the transaction that copies; a
//! part, and an object that is to be encrypted another way, is read and written inside the server, from the source as it was
//! when its conditions were decided.
//! Not here: the rest of an upload in parts (`multipart`).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Range;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;

use super::documents::xml_reply;
use super::multipart::{of_upload, part_number, upload_id};
use super::{Reply, Request, S3Service};
use crate::auth::{Credentials, decode_query_escapes};
use crate::checksum_stream::{ChecksumStream, crc_of};
use crate::http::HeaderText;
use crate::ops::api::{
    ACL_HEADER, BODY_MAX_BYTES, BodyError, BodyEvent, BodyReader, BodySource, BodySummary, BucketName,
    ChecksumAlgorithm, ChecksumKind, Copied, CopyObject, CustomerKey, ETag, Encrypt, EncryptedBy, Header,
    ObjectEncryption, ObjectInfo, ObjectKey, OpError, OpenedObject, Operations, PAGE_MAX, PutObject, PutPart,
    REDIRECT_HEADER, StoredChecksum, TAGGING_HEADER, VersionId,
};
use crate::ops::checksum::combine_two;
use crate::s3::checksum::{Digests, Expected, parse_algorithm};
use crate::s3::conditions::{ReadConditions, failed, write_condition};
use crate::s3::encryption::{AskedEncryption, check_taken, key_of_existing, key_of_source, push_encryption};
use crate::s3::error::{Code, S3Error};
use crate::s3::headers::{kept_headers, redirect_location, storage_class};
use crate::s3::object_lock::asked_lock;
use crate::s3::tagging::kept_tagging;
use crate::s3::versions::{parse_version_id, push_made_version};
use crate::s3::xml;

/// How often the sum of a source that changes all the time is begun.
const SUMS_MAX: u32 = 3;

impl<O: Operations, C: Credentials> S3Service<O, C> {
    pub(super) async fn copy_object(&self, request: &Request<'_>, now_ms: u64) -> Result<Reply<O>, S3Error> {
        let head = request.head;
        let asker = request.access.asker();
        let asked_encryption = AskedEncryption::of_write(asker)?;
        let source_key = key_of_source(asker)?.map(|given| given.key);
        let source = copy_source(head.header("x-amz-copy-source").unwrap_or_default())?;
        let replace_headers = match head.header_str("x-amz-metadata-directive") {
            None => None,
            Some(word) if word.eq_ignore_ascii_case("COPY") => None,
            Some(word) if word.eq_ignore_ascii_case("REPLACE") => Some(kept_headers(head)?),
            Some(word) => {
                return Err(S3Error::argument(
                    "x-amz-metadata-directive",
                    word,
                    "Unknown metadata directive.",
                ));
            }
        };
        let replace_tagging = match head.header_str("x-amz-tagging-directive") {
            None => None,
            Some(word) if word.eq_ignore_ascii_case("COPY") => None,
            Some(word) if word.eq_ignore_ascii_case("REPLACE") => {
                Some(kept_tagging(head)?.map(|header| header.value))
            }
            Some(word) => {
                return Err(S3Error::argument("x-amz-tagging-directive", word, "Unknown tagging directive."));
            }
        };
        let (mut replace_headers, as_read) = self.with_new_acl(request, replace_headers, &source).await?;
        let redirect = redirect_location(head)?;
        if let Some(headers) = &mut replace_headers {
            // They may be the source's, whose redirect stays with it.
            headers.retain(|header| header.name != REDIRECT_HEADER);
            let given = redirect.clone().map(|value| Header { name: REDIRECT_HEADER.to_owned(), value });
            headers.extend(given);
        }
        let conditions = ReadConditions::of_copy_source(head, now_ms);
        let asked = head.header_str("x-amz-checksum-algorithm").map(parse_algorithm).transpose()?;
        let summed = match asked {
            Some(algorithm) => self.summed(&source, source_key.as_ref(), algorithm).await?,
            None => None,
        };
        let (summed, replace_checksum) = summed.unzip();
        let copy = CopyObject {
            source_bucket: source.bucket,
            source_key: source.key,
            bucket: request.bucket()?,
            key: request.key()?,
            replace_headers,
            replace_tagging,
            storage_class: storage_class(head, &self.config.storage_classes)?,
            replace_checksum,
            redirect,
            condition: write_condition(head)?,
            source_version: source.version,
            lock: asked_lock(head, now_ms)?,
            encrypt: asked_encryption.in_bucket(request.access.settings()?)?,
            source_key_of_customer: source_key,
        };
        // A copy onto itself stays what it is.
        let is_same = (&copy.source_bucket, &copy.source_key) == (&copy.bucket, &copy.key);
        let check = SourceCheck {
            conditions,
            summed: RefCell::new(summed),
            sums: Cell::new(asked.is_none() && !is_same),
            to_sum: Cell::new(None),
            is_unasked: Cell::new(false),
            encrypt: copy.encrypt.as_ref().map(Encrypt::by),
            as_read,
            failing: Cell::new(None),
        };
        let copied = self.copy_checked(copy, check).await?;
        asker.note.set_object_bytes(copied.written.size_bytes);
        let document = xml::copy_object(&copied.written);
        let mut response = xml_reply(document);
        push_made_version(&mut response.headers, copied.written.version);
        push_source_version(&mut response.headers, copied.source_version);
        push_encryption(&mut response.headers, copied.written.encryption, asked_encryption.key());
        self.push_expiration_of_made(request, &mut response.headers, &copied.written).await;
        Ok(response)
    }

    /// Copies by reference, or by moving the bytes where they are to be encrypted another way. A checksum of parts' checksums
    /// becomes one of all bytes first, as at AWS: what is copied is not made of the parts that a client knows.
    async fn copy_checked(&self, mut copy: CopyObject, check: SourceCheck) -> Result<Copied, S3Error> {
        let check = Rc::new(check);
        let mut tries = 0;
        loop {
            let in_transaction = Rc::clone(&check);
            let permit = self.ops.admit(Some(0))?;
            let copied = self.ops.copy_object(copy.clone(), move |info| in_transaction.check(info)).await;
            drop(permit);
            match (copied, check.to_sum.take()) {
                (Err(OpError::CopyMovesBytes), Some(algorithm)) => {
                    let (bucket, key) = (copy.source_bucket.clone(), copy.source_key.clone());
                    let source = CopySource { bucket, key, version: copy.source_version };
                    let source_key = copy.source_key_of_customer.as_ref();
                    let (info, checksum) = self.summed(&source, source_key, algorithm).await?.unzip();
                    copy.replace_checksum = checksum;
                    check.is_summed(info);
                }
                (Err(OpError::CopyMovesBytes), None) => return self.move_bytes(copy, &check).await,
                // Nobody asked for the sum of a source that changed meanwhile: it is made anew.
                (Err(OpError::ConditionalRequestConflict), None)
                    if check.is_outdated() && tries < SUMS_MAX =>
                {
                    tries += 1;
                    copy.replace_checksum = None;
                    check.sum_again();
                }
                (copied, _) => return copied.map_err(|error| check.told(error)),
            }
        }
    }

    async fn move_bytes(&self, copy: CopyObject, check: &SourceCheck) -> Result<Copied, S3Error> {
        let (bucket, key) = (copy.source_bucket.clone(), copy.source_key.clone());
        let mut object = self.ops.open_object(bucket, key, copy.source_version).await.map_err(of_source)?;
        object.unlock(copy.source_key_of_customer.as_ref())?;
        let info = object.info().clone();
        // It is computed as the bytes pass.
        check.sums.set(false);
        check.check(&ObjectInfo { version: None, ..info.clone() }).map_err(|error| check.told(error))?;
        let len_bytes = info.size_bytes;
        if len_bytes > BODY_MAX_BYTES {
            return Err(source_too_large());
        }
        let kept = copy.replace_checksum.as_ref().or(info.checksums.first());
        let mut body = CopiedBody::new(object.read(0..len_bytes));
        body.algorithm = kept.map(|checksum| checksum.algorithm);
        let put = PutObject {
            headers: target_headers(&copy, &info),
            bucket: copy.bucket,
            key: copy.key,
            condition: copy.condition,
            len_bytes: Some(len_bytes),
            storage_class: copy.storage_class,
            lock: copy.lock,
            encrypt: copy.encrypt.or_else(|| info.encryption.is_some().then_some(Encrypt::Managed)),
        };
        let _permits = (self.ops.admit_read(len_bytes)?, self.ops.admit(Some(len_bytes))?);
        let written = self.ops.put_object(put, &mut body).await;
        let written = written.map_err(|error| body.failure.take().unwrap_or(error))?;
        Ok(Copied { written, source_version: info.version })
    }

    /// The checksum that a copy is to have, combined from those of the source's parts or computed by reading it, and the
    /// source as it was then; `None` if it has that checksum already.
    async fn summed(
        &self,
        source: &CopySource,
        source_key: Option<&CustomerKey>,
        algorithm: ChecksumAlgorithm,
    ) -> Result<Option<(ObjectInfo, StoredChecksum)>, S3Error> {
        let (bucket, key) = (source.bucket.clone(), source.key.clone());
        let mut object = self.ops.open_object(bucket, key, source.version).await.map_err(of_source)?;
        object.unlock(source_key)?;
        // The check in the transaction sees the source without its version.
        let info = ObjectInfo { version: None, ..object.info().clone() };
        let is_so = |checksum: &StoredChecksum| {
            checksum.algorithm == algorithm && checksum.kind == ChecksumKind::FullObject
        };
        if info.checksums.iter().any(is_so) {
            return Ok(None);
        }
        let of_all = |value| StoredChecksum { algorithm, kind: ChecksumKind::FullObject, value };
        if let Some(value) = combined(&object, algorithm).await? {
            return Ok(Some((info, of_all(value))));
        }
        if info.size_bytes > BODY_MAX_BYTES {
            return Err(source_too_large());
        }
        let _permit = self.ops.admit_read(info.size_bytes)?;
        let mut reader = object.read(0..info.size_bytes);
        let mut stream = ChecksumStream::new(algorithm);
        while let Some(slices) = reader.next().await {
            slices?.iter().for_each(|slice| stream.update(slice));
            // What is cached is there at once: others of this core have their turn between.
            give_way().await;
        }
        Ok(Some((info, of_all(stream.finish()))))
    }

    pub(super) async fn copy_part(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let head = request.head;
        let asker = request.access.asker();
        let (given, source_key) = (key_of_existing(asker)?, key_of_source(asker)?);
        check_taken(given.as_ref(), request.access.settings()?)?;
        let source = copy_source(head.header("x-amz-copy-source").unwrap_or_default())?;
        let asked = head.header_str("x-amz-copy-source-range").map(copy_range).transpose()?;
        let (upload, part_number) = (upload_id(request)?, part_number(request)?);
        let opened = self.ops.open_object(source.bucket, source.key, source.version).await;
        let mut object = opened.map_err(of_source)?;
        object.unlock(source_key.as_ref().map(|given| &given.key))?;
        let info = object.info();
        let source_version = info.version;
        let conditions = ReadConditions::of_copy_source(head, request.access.asker().now_ms);
        if let Some(name) = conditions.check_source(&info.etag.to_string(), info.modified_ms) {
            return Err(failed(name));
        }
        let range = asked.unwrap_or(0..info.size_bytes);
        if range.end > info.size_bytes {
            return Err(S3Error::with_message(
                Code::InvalidRange,
                format!("Range specified is not valid for source object of size: {}", info.size_bytes),
            )
            .and("ActualObjectSize", info.size_bytes.to_string()));
        }
        let len_bytes = range.end - range.start;
        if len_bytes > BODY_MAX_BYTES {
            return Err(source_too_large());
        }
        let put = PutPart {
            bucket: request.bucket()?,
            key: request.key()?,
            upload,
            part_number,
            len_bytes: Some(len_bytes),
            customer_key: given.as_ref().map(|given| given.key.clone()),
        };
        let _permit = self.ops.admit(Some(len_bytes))?;
        let mut body = CopiedBody::new(object.read(range));
        let part = match (self.ops.put_part(put, &mut body).await, body.failure) {
            (Ok(part), _) => part,
            // The source could not be read: that is the reason, not that its body was cut short.
            (Err(_), Some(failure)) => return Err(failure.into()),
            (Err(error), None) => return Err(of_upload(error)),
        };
        let mut response = xml_reply(xml::copy_part(&part));
        push_encryption(&mut response.headers, part.encryption, given.as_ref());
        push_source_version(&mut response.headers, source_version);
        Ok(response)
    }
}

/// A delete marker cannot be copied.
pub(super) fn of_source(error: OpError) -> S3Error {
    match error {
        OpError::DeleteMarker { is_current: false, .. } => S3Error::with_message(
            Code::InvalidRequest,
            "The source of a copy request may not specifically refer to a delete marker by version id.",
        ),
        OpError::DeleteMarker { is_current: true, .. } => Code::NoSuchKey.into(),
        other => other.into(),
    }
}

fn push_source_version(headers: &mut HeaderText, version: Option<VersionId>) {
    if let Some(version) = version {
        headers.push("x-amz-copy-source-version-id", version.to_string());
    }
}

fn source_too_large() -> S3Error {
    S3Error::with_message(
        Code::InvalidRequest,
        format!(
            "The specified copy source is larger than the maximum allowable size for a copy source: {BODY_MAX_BYTES}"
        ),
    )
}

/// What must hold of the source of a copy.
struct SourceCheck {
    conditions: ReadConditions,
    /// The source whose checksum was computed.
    summed: RefCell<Option<ObjectInfo>>,
    /// A checksum of parts' checksums is not to be kept.
    sums: Cell<bool>,
    /// Who is to hold the key of the target, if that is asked.
    encrypt: Option<EncryptedBy>,
    /// What stands for one is to be computed first.
    to_sum: Cell<Option<ChecksumAlgorithm>>,
    /// `summed` is there though no request asked for it.
    is_unasked: Cell<bool>,
    /// Tag and time of the source whose headers were read.
    as_read: Option<(ETag, u64)>,
    /// Which condition failed.
    failing: Cell<Option<&'static str>>,
}

impl SourceCheck {
    fn check(&self, info: &ObjectInfo) -> Result<(), OpError> {
        let is_as_summed = self.summed.borrow().as_ref().is_none_or(|summed| has_same_bytes(summed, info));
        let is_as_read = self.as_read.is_none_or(|as_read| as_read == (info.etag, info.modified_ms));
        self.failing.set(self.conditions.check_source(&info.etag.to_string(), info.modified_ms));
        match self.failing.get() {
            // It was replaced since its checksum was computed or its list was read.
            _ if !is_as_summed || !is_as_read => Err(OpError::ConditionalRequestConflict),
            None => {
                self.to_sum.set(composite(info).filter(|_| self.sums.get() && !self.moves_bytes(info)));
                self.to_sum.get().map_or(Ok(()), |_| Err(OpError::CopyMovesBytes))
            }
            Some(_) => Err(OpError::PreconditionFailed),
        }
    }

    /// Whether the target's bytes are others: their checksum is computed as they pass.
    fn moves_bytes(&self, source: &ObjectInfo) -> bool {
        let by = source.encryption.as_ref().map(ObjectEncryption::by);
        by != self.encrypt.or(by.map(|_| EncryptedBy::Managed))
    }

    /// Nothing more is to be computed, and the source must be the one of which it was.
    fn is_summed(&self, info: Option<ObjectInfo>) {
        self.sums.set(false);
        self.summed.replace(info);
        self.is_unasked.set(true);
    }

    /// Whether the source may be another than the one that was summed without being asked for it.
    fn is_outdated(&self) -> bool {
        self.is_unasked.get() && self.summed.borrow().is_some()
    }

    fn sum_again(&self) {
        self.summed.replace(None);
        self.is_unasked.set(false);
        self.sums.set(true);
    }

    /// The error of a copy, with the condition that failed.
    fn told(&self, error: OpError) -> S3Error {
        match (error, self.failing.get()) {
            (OpError::PreconditionFailed, Some(name)) => failed(name),
            (error, _) => of_source(error),
        }
    }
}

/// Whether two looks at a source saw the same bytes; its tags, its list and its lock may have changed between.
fn has_same_bytes(before: &ObjectInfo, now: &ObjectInfo) -> bool {
    (before.etag, before.modified_ms, before.size_bytes) == (now.etag, now.modified_ms, now.size_bytes)
        && before.checksums == now.checksums
        && before.encryption == now.encryption
}

/// Lets the core's other tasks go on.
async fn give_way() {
    let mut is_back = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut is_back, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The algorithm of an object's checksum if that is one of its parts' checksums. Of an object that is too long to be read
/// through it is kept as it is, unless the parts' can be combined.
fn composite(info: &ObjectInfo) -> Option<ChecksumAlgorithm> {
    let checksum = info.checksums.iter().find(|checksum| checksum.kind == ChecksumKind::Composite)?;
    let is_small = info.size_bytes <= BODY_MAX_BYTES;
    Some(checksum.algorithm).filter(|algorithm| is_small || crc_of(*algorithm).is_some())
}

/// The checksum of all bytes, from those of the parts; `None` where that cannot be.
async fn combined(
    object: &impl OpenedObject,
    algorithm: ChecksumAlgorithm,
) -> Result<Option<Bytes>, OpError> {
    let Some(part_count) = object.info().part_count else { return Ok(None) };
    let (mut all, mut after) = (None::<Bytes>, 0);
    while after < part_count {
        let page = object.parts(after, PAGE_MAX).await?;
        let Some(last) = page.parts.last() else { return Ok(None) };
        after = last.part_number;
        for part in page.parts {
            let len_bytes = part.range.end - part.range.start;
            let next = part.checksum.filter(|checksum| checksum.algorithm == algorithm);
            all = match (all, next) {
                (None, Some(first)) => Some(first.value),
                (Some(before), Some(next)) => combine_two(algorithm, &before, &next.value, len_bytes),
                (_, None) => None,
            };
            if all.is_none() {
                return Ok(None);
            }
        }
    }
    Ok(all)
}

/// What the target of a copy keeps, as a copy by reference does it: the tags go along unless they are replaced, the list of
/// access and the redirect stay with the source.
fn target_headers(copy: &CopyObject, source: &ObjectInfo) -> Vec<Header> {
    let is_plain =
        |header: &&Header| ![ACL_HEADER, REDIRECT_HEADER, TAGGING_HEADER].contains(&header.name.as_str());
    let header = |name: &str, value| Header { name: name.to_owned(), value };
    let mut headers = match &copy.replace_headers {
        Some(headers) => headers.clone(),
        None => {
            let redirect = copy.redirect.clone().map(|value| header(REDIRECT_HEADER, value));
            source.headers.iter().filter(is_plain).cloned().chain(redirect).collect()
        }
    };
    let of_source = source.headers.iter().find(|header| header.name == TAGGING_HEADER);
    let tags = copy.replace_tagging.clone().unwrap_or_else(|| of_source.map(|tags| tags.value.clone()));
    headers.extend(tags.map(|value| header(TAGGING_HEADER, value)));
    headers
}

/// A range of an object on its way to be a part or another object.
struct CopiedBody<R> {
    reader: R,
    /// The checksum to compute if none is needed, instead of the default.
    algorithm: Option<ChecksumAlgorithm>,
    /// Read and not passed on yet.
    pending: VecDeque<Bytes>,
    /// Taken at the end.
    digests: Option<Digests>,
    /// Why the source could not be read.
    failure: Option<OpError>,
}

impl<R: BodyReader> CopiedBody<R> {
    fn new(reader: R) -> CopiedBody<R> {
        let digests = Some(Digests::new(Expected::default()));
        CopiedBody { reader, algorithm: None, pending: VecDeque::new(), digests, failure: None }
    }
}

impl<R: BodyReader> BodySource for CopiedBody<R> {
    fn want_checksum(&mut self, algorithm: ChecksumAlgorithm) {
        if let Some(digests) = &mut self.digests {
            digests.want(self.algorithm.unwrap_or(algorithm));
        }
    }

    fn need_checksum(&mut self, algorithm: ChecksumAlgorithm) {
        if let Some(digests) = &mut self.digests {
            digests.need(algorithm);
        }
    }

    async fn next(&mut self) -> Result<BodyEvent, BodyError> {
        loop {
            let digests = self.digests.as_mut().ok_or(BodyError::Incomplete)?;
            if let Some(data) = self.pending.pop_front() {
                digests.update(&data);
                return Ok(BodyEvent::Data(data));
            }
            match self.reader.next().await {
                Some(Ok(slices)) => self.pending.extend(slices.into_iter().filter(|slice| !slice.is_empty())),
                Some(Err(error)) => {
                    self.failure = Some(error);
                    return Err(BodyError::Incomplete);
                }
                None => {
                    let digests = self.digests.take().ok_or(BodyError::Incomplete)?;
                    let digested = digests.finish(None)?;
                    return Ok(BodyEvent::End(BodySummary {
                        md5: digested.md5,
                        checksum: digested.checksum,
                        needed: digested.needed,
                        len_bytes: digested.len_bytes,
                    }));
                }
            }
        }
    }
}

/// `bytes=first-last`, both given and inclusive; AWS takes no other form here.
fn copy_range(text: &str) -> Result<Range<u64>, S3Error> {
    let invalid = || {
        S3Error::argument(
            "x-amz-copy-source-range",
            text,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the \
             zero-based offsets of the first and last bytes to copy",
        )
    };
    let (first, last) =
        text.strip_prefix("bytes=").and_then(|range| range.split_once('-')).ok_or_else(invalid)?;
    let number = |digits: &str| -> Option<u64> {
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..last.checked_add(1).ok_or_else(invalid)?),
        _ => Err(invalid()),
    }
}

/// What is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CopySource {
    pub(super) bucket: BucketName,
    pub(super) key: ObjectKey,
    pub(super) version: Option<VersionId>,
}

/// `[/]bucket/key[?versionId=...]`, percent-encoded.
pub(super) fn copy_source(value: &[u8]) -> Result<CopySource, S3Error> {
    let shown = String::from_utf8_lossy(value);
    let invalid = |message: &'static str| S3Error::argument("x-amz-copy-source", &shown, message);
    let invalid_encoding = || invalid("Invalid copy source encoding.");
    let text = std::str::from_utf8(value).map_err(|_| invalid_encoding())?;
    let (path, version) = match text.split_once("?versionId=") {
        Some((path, version)) => (path, Some(version)),
        None => (text, None),
    };
    let version = version.map(|text| parse_version_id("x-amz-copy-source", text)).transpose()?;
    let mut decoded = Vec::with_capacity(path.len());
    // As AWS: a plus is a space here, as in a query.
    decode_query_escapes(path.as_bytes(), &mut decoded).map_err(|_| invalid_encoding())?;
    let path = decoded.strip_prefix(b"/").unwrap_or(&decoded);
    let slash = path.iter().position(|&byte| byte == b'/').unwrap_or(path.len());
    let (bucket, key) = (&path[..slash], path.get(slash + 1..).unwrap_or_default());
    let bucket = std::str::from_utf8(bucket).ok().and_then(|bucket| BucketName::parse(bucket).ok());
    let bucket = bucket.ok_or_else(|| invalid("Invalid copy source bucket name"))?;
    if key.is_empty() {
        return Err(invalid("Invalid copy source object key"));
    }
    Ok(CopySource { bucket, key: ObjectKey::parse(key.to_vec())?, version })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn ranges_of_parts_have_two_ends() {
        assert_eq!(copy_range("bytes=0-0").unwrap(), 0..1);
        assert_eq!(copy_range("bytes=5-11").unwrap(), 5..12);
        for text in [
            "0-2",
            "bytes=0",
            "bytes=",
            "bytes=-5",
            "bytes=5-",
            "bytes=5-2",
            "bytes=hello-world",
            "bytes=0-bar",
            "bytes=0-2,3-5",
            "bytes=+1-2",
            "bytes=0-18446744073709551615",
            "bytes=0-99999999999999999999999",
        ] {
            assert_eq!(copy_range(text).unwrap_err().code, Code::InvalidArgument, "{text}");
        }
    }

    #[test]
    fn sources_are_decoded_once_with_or_without_a_slash() {
        for text in ["/bkt/a%20b%2Bc/d+e", "bkt/a%20b%2Bc/d+e", "bkt%2Fa%20b%2Bc/d+e?versionId=null"] {
            let source = copy_source(text.as_bytes()).unwrap();
            assert_eq!((source.bucket.as_str(), source.key.as_bytes()), ("bkt", &b"a b+c/d e"[..]), "{text}");
        }
        let named = copy_source(b"bkt/k?versionId=ffffffffffffff000000000000000009").unwrap().version;
        assert_eq!(named, Some(VersionId::Named { count: 0xff, nonce: 9 }));
        assert_eq!(copy_source(b"bkt/k?versionId=abc").unwrap_err().code, Code::InvalidArgument);
        for text in ["", "bkt", "/bkt/", "bkt/%"] {
            assert_eq!(copy_source(text.as_bytes()).unwrap_err().code, Code::InvalidArgument, "{text}");
        }
    }
}
