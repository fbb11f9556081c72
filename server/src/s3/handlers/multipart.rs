//! Uploads in parts: create, upload, complete, abort, list.
//! Invariants: part numbers, tags and checksums are read before anything is done.
//! Not here: copies of parts (`copy`).

use shardstore_reactor::{Executor, Stream};

use super::documents::xml_reply;
use super::listing::{Page, encoding, utf8_bytes};
use super::objects::{push_checksum, push_etag};
use super::{Reply, Request, S3Service};
use crate::auth::{Credentials, encode_escapes};
use crate::http::{BodyFraming, Response};
use crate::ops::api::{
    ChecksumKind, CompleteUpload, CompletedPart, CreateUpload, EncryptedBy, ListUploads, OpError, Operations,
    PAGE_MAX, PutPart, StoredChecksum, UploadId,
};
use crate::s3::body::S3Body;
use crate::s3::checksum::{
    algorithm_name, header_checksum, kind_name, parse_algorithm, parse_kind, parse_value,
};
use crate::s3::conditions::{unquote, write_condition};
use crate::s3::encryption::{AskedEncryption, check_taken, key_of_existing, key_of_object, push_encryption};
use crate::s3::error::{Code, S3Error};
use crate::s3::headers::{kept_headers, storage_class};
use crate::s3::object_lock::asked_lock;
use crate::s3::tagging::kept_tagging;
use crate::s3::versions::push_made_version;
use crate::s3::xml::{self, CompletePart};

/// Longest completion: 10,000 parts of up to 400 bytes.
const COMPLETION_BYTES_MAX: usize = 4 << 20;

impl<O: Operations, C: Credentials> S3Service<O, C> {
    pub(super) async fn create_upload(
        &self,
        request: &Request<'_>,
        now_ms: u64,
    ) -> Result<Reply<O>, S3Error> {
        let head = request.head;
        let asked = AskedEncryption::of_write(request.access.asker())?;
        let algorithm = head.header_str("x-amz-checksum-algorithm").map(parse_algorithm).transpose()?;
        let kind = head.header_str("x-amz-checksum-type").map(parse_kind).transpose()?;
        if algorithm.is_none() && kind.is_some() {
            return Err(S3Error::with_message(
                Code::InvalidRequest,
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
            ));
        }
        let create = CreateUpload {
            bucket: request.bucket()?,
            key: request.key()?,
            headers: kept_headers(head)?
                .into_iter()
                .chain(kept_tagging(head)?)
                .chain(self.new_object_acl(request)?)
                .collect(),
            checksum: algorithm.map(|algorithm| (algorithm, kind)),
            storage_class: storage_class(head, &self.config.storage_classes)?,
            initiator: request.identity.canonical_id().to_owned(),
            lock: asked_lock(head, now_ms)?,
            encrypt: asked.in_bucket(request.access.settings()?)?,
        };
        let _permit = self.ops.admit(Some(0))?;
        let upload = self.ops.create_upload(create).await?;
        let document =
            xml::initiate_upload(request.bucket()?.as_str(), &upload.key, &upload.upload.to_string());
        let mut response = xml_reply(document);
        if upload.checksum_named {
            response.headers.push("x-amz-checksum-algorithm", algorithm_name(upload.checksum.0));
            response.headers.push("x-amz-checksum-type", kind_name(upload.checksum.1));
        }
        push_encryption(&mut response.headers, upload.encryption, asked.key());
        self.push_abort(request, &mut response.headers, upload.initiated_ms);
        Ok(response)
    }

    pub(super) async fn put_part<S: Stream, E: Executor>(
        &self,
        request: &Request<'_>,
        mut body: S3Body<'_, '_, S, E>,
    ) -> Result<Reply<O>, S3Error> {
        let head = request.head;
        let given = key_of_existing(request.access.asker())?;
        check_taken(given.as_ref(), request.access.settings()?)?;
        if head.framing() == BodyFraming::Length(0) && head.header("content-length").is_none() {
            return Err(Code::MissingContentLength.into());
        }
        let put = PutPart {
            bucket: request.bucket()?,
            key: request.key()?,
            upload: upload_id(request)?,
            part_number: part_number(request)?,
            len_bytes: body.len_bytes(),
            customer_key: given.as_ref().map(|given| given.key.clone()),
        };
        let _permit = self.ops.admit(body.len_bytes())?;
        let part = self.ops.put_part(put, &mut body).await.map_err(of_upload)?;
        let mut response = Response::new(200);
        push_encryption(&mut response.headers, part.encryption, given.as_ref());
        push_etag(&mut response.headers, &part.etag);
        push_checksum(&mut response.headers, part.checksum.as_ref(), None);
        Ok(response)
    }

    pub(super) async fn complete_upload<S: Stream, E: Executor>(
        &self,
        request: &Request<'_>,
        body: S3Body<'_, '_, S, E>,
    ) -> Result<Reply<O>, S3Error> {
        let head = request.head;
        // MinIO's clients repeat here how they began the upload; that is decided already.
        let given = key_of_object(request.access.asker())?;
        let (bucket, key, upload) = (request.bucket()?, request.key()?, upload_id(request)?);
        let checksum = header_checksum(head)?;
        let checksum_kind = head.header_str("x-amz-checksum-type").map(parse_kind).transpose()?;
        let size_bytes = head
            .header_str("x-amz-mp-object-size")
            .map(|text| {
                text.parse()
                    .map_err(|_| S3Error::argument("x-amz-mp-object-size", text, "The size is not a number"))
            })
            .transpose()?;
        let condition = write_condition(head)?;
        // A completion's x-amz-checksum-* is the object's, not the document's: only its signature is checked.
        let body = body.without_checksums();
        let (_permit, document) = self.read_document(body, COMPLETION_BYTES_MAX).await?;
        let parsed = xml::parse_complete_upload(&document)?;
        let parts = parsed.parts.into_iter().map(completed_part).collect::<Result<Vec<_>, _>>()?;
        let location = location(request, bucket.as_str(), key.as_bytes());
        let written = self
            .ops
            .complete_upload(CompleteUpload {
                bucket: bucket.clone(),
                key: key.clone(),
                upload,
                parts,
                size_bytes,
                checksum,
                checksum_kind,
                condition,
                customer_key: given.map(|given| given.key),
            })
            .await
            .map_err(of_upload)?;
        request.access.asker().note.set_object_bytes(written.size_bytes);
        let document = xml::complete_upload(&location, bucket.as_str(), key.as_bytes(), &written);
        let mut response = xml_reply(document);
        push_made_version(&mut response.headers, written.version);
        push_encryption(&mut response.headers, written.encryption, None);
        self.push_expiration_of_made(request, &mut response.headers, &written).await;
        Ok(response)
    }

    pub(super) async fn abort_upload(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let upload = upload_id(request)?;
        let _permit = self.ops.admit(Some(0))?;
        self.ops.abort_upload(request.bucket()?, request.key()?, upload).await?;
        Ok(Response::new(204))
    }

    pub(super) async fn list_parts(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let query = &request.query;
        let given = key_of_object(request.access.asker())?;
        let upload = upload_id(request)?;
        let max_parts = query
            .number("max-parts")?
            .map_or(PAGE_MAX, |asked| usize::try_from(asked).unwrap_or(PAGE_MAX).min(PAGE_MAX));
        let after = query.number("part-number-marker")?.unwrap_or(0);
        let after = u16::try_from(after).unwrap_or(u16::MAX);
        let encoding = encoding(query)?;
        let _permit = self.ops.admit(Some(0))?;
        let bucket = request.bucket()?;
        let page = self.ops.list_parts(bucket.clone(), request.key()?, upload, after, max_parts).await?;
        // The parts' checksums are of their plain bytes.
        if given.is_some() || page.upload.encryption == Some(EncryptedBy::Customer) {
            let given = given.as_ref().map(|given| &given.key);
            let checked = self.ops.check_key_of_upload(bucket.clone(), request.key()?, upload, given);
            checked.await.map_err(of_upload)?;
        }
        let initiator = self.verifier.credentials().person(&page.upload.initiator);
        let named = page.upload.owner.as_ref();
        let owners = self.owners(request, named.into_iter())?;
        let (owner, max) = (owners.of(named), max_parts as u64);
        let document = xml::list_parts(bucket.as_str(), owner, &initiator, after, max, encoding, &page);
        let mut response = xml_reply(document);
        self.push_abort(request, &mut response.headers, page.upload.initiated_ms);
        Ok(response)
    }

    pub(super) async fn list_uploads(&self, request: &Request<'_>) -> Result<Reply<O>, S3Error> {
        let query = &request.query;
        let page = Page::read(query, "max-uploads")?;
        let key_marker = utf8_bytes(query, "key-marker")?;
        // Without a key marker S3 ignores this one.
        let upload_marker =
            query.text("upload-id-marker")?.filter(|_| !key_marker.is_empty()).unwrap_or_default();
        let after_upload = Some(upload_marker.as_ref())
            .filter(|marker| !marker.is_empty())
            .map(|marker| {
                UploadId::parse(marker)
                    .map_err(|_| S3Error::argument("upload-id-marker", marker, "Invalid uploadId marker"))
            })
            .transpose()?;
        let bucket = request.bucket()?;
        let _permit = self.ops.admit(Some(0))?;
        let uploads = self
            .ops
            .list_uploads(ListUploads {
                bucket: bucket.clone(),
                prefix: page.prefix.clone(),
                delimiter: page.delimiter.clone(),
                after_key: key_marker.clone(),
                after_upload,
                max_uploads: page.max,
            })
            .await?;
        let echo = page.echo(bucket.as_str());
        let owners =
            self.owners(request, uploads.uploads.iter().filter_map(|upload| upload.owner.as_ref()))?;
        let person = |id: &str| self.verifier.credentials().person(id);
        let document = xml::list_uploads(&echo, &key_marker, &upload_marker, &owners, person, &uploads);
        Ok(xml_reply(document))
    }
}

/// The error of a part, of a completion or of a listing of parts, whose key must be the upload's.
pub(super) fn of_upload(error: OpError) -> S3Error {
    let refused = |what: &'static str| S3Error::with_message(Code::InvalidRequest, what);
    match error {
        OpError::CustomerKeyMissing | OpError::CustomerKeyUnexpected => refused(
            "The multipart upload initiate requested encryption. Subsequent part requests must include the appropriate \
             encryption parameters.",
        ),
        OpError::CustomerKeyWrong => {
            refused("The provided encryption parameters did not match the ones used originally.")
        }
        other => other.into(),
    }
}

pub(super) fn upload_id(request: &Request<'_>) -> Result<UploadId, S3Error> {
    let text = request.query.text("uploadId")?.unwrap_or_default();
    Ok(UploadId::parse(&text)?)
}

pub(super) fn part_number(request: &Request<'_>) -> Result<u16, S3Error> {
    let text = request.query.text("partNumber")?.unwrap_or_default();
    text.parse().ok().filter(|number| (1..=10_000).contains(number)).ok_or_else(|| {
        S3Error::argument(
            "partNumber",
            &text,
            "Part number must be an integer between 1 and 10000, inclusive",
        )
    })
}

fn completed_part(part: CompletePart) -> Result<CompletedPart, S3Error> {
    let part_number = u16::try_from(part.part_number)
        .ok()
        .filter(|number| (1..=10_000).contains(number))
        .ok_or_else(|| S3Error::from(Code::InvalidPart).and("PartNumber", part.part_number.to_string()))?;
    let checksum = part
        .checksum
        .map(|(algorithm, text)| {
            parse_value(algorithm, &text).map(|value| StoredChecksum {
                algorithm,
                kind: ChecksumKind::FullObject,
                value,
            })
        })
        .transpose()?;
    Ok(CompletedPart { part_number, etag: unquote(&part.etag).to_owned(), checksum })
}

fn location(request: &Request<'_>, bucket: &str, key: &[u8]) -> String {
    let mut encoded = Vec::with_capacity(key.len() + 16);
    encode_escapes(key, &mut encoded);
    let host = request.head.header_str("host").unwrap_or_default();
    let scheme = if request.access.asker().is_secure { "https" } else { "http" };
    let bucket = if request.by_host { String::new() } else { format!("{bucket}/") };
    format!("{scheme}://{host}/{bucket}{}", String::from_utf8_lossy(&encoded))
}
