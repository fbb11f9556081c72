//! DeleteObjects.
//! Invariants: a document without a digest of its own is refused; one result a key, in the order sent; a key that is
//! refused does not stop the others.
//! Not here: single deletes (`objects`).

use bytes::Bytes;
use shardstore_reactor::{Executor, Stream};

use super::documents::xml_reply;
use super::{Reply, Request, S3Service};
use crate::auth::Credentials;
use crate::ops::api::{DeleteCondition, DeleteEntry, ObjectKey, Operations, VersionId};
use crate::s3::access_log::BatchDelete;
use crate::s3::body::S3Body;
use crate::s3::conditions::unquote;
use crate::s3::error::{Code, S3Error};
use crate::s3::time_text::parse_date_s;
use crate::s3::versions::{asks_to_bypass_governance, no_such_version};
use crate::s3::xml::{self, DeleteKey, DeletedKey};

/// Longest document: 1,000 keys of 1,024 bytes, some of them escaped.
const DOCUMENT_BYTES_MAX: usize = 2 << 20;

impl<O: Operations, C: Credentials> S3Service<O, C> {
    pub(super) async fn delete_objects<S: Stream, E: Executor>(
        &self,
        request: &Request<'_>,
        body: S3Body<'_, '_, S, E>,
    ) -> Result<Reply<O>, S3Error> {
        let bucket = request.bucket()?;
        if !body.has_integrity() {
            return Err(S3Error::with_message(
                Code::InvalidRequest,
                "Missing required header for this request: Content-MD5 OR x-amz-checksum-*",
            ));
        }
        let (_permit, document) = self.read_document(body, DOCUMENT_BYTES_MAX).await?;
        let parsed = xml::parse_delete(&document)?;
        let bypass_governance = asks_to_bypass_governance(request.head);
        let mut entries = Vec::with_capacity(parsed.keys.len());
        // Of each key: whether its caller may know that there is no such object.
        let mut asked: Vec<Result<bool, S3Error>> = Vec::with_capacity(parsed.keys.len());
        for key in &parsed.keys {
            asked.push(self.entry(request, key, bypass_governance).await.map(|entry| {
                let may_know =
                    entry.condition.if_match.is_none() || request.access.may_know_missing(&entry.key);
                entries.push(entry);
                may_know
            }));
        }
        let mut results = self.ops.delete_objects(bucket, entries).await?.into_iter();
        let mut result_of = |may_know: bool| {
            let result = match results.next() {
                Some(result) => result.map_err(S3Error::from),
                None => Err(Code::InternalError.into()),
            };
            if may_know { result } else { self.authorizer.hide_missing(result) }
        };
        let deleted: Vec<DeletedKey<'_>> = parsed
            .keys
            .iter()
            .zip(asked)
            .map(|(key, asked)| DeletedKey {
                key: &key.key,
                version_id: key.version_id.as_deref(),
                result: asked.and_then(&mut result_of),
            })
            .collect();
        note_deletes(request, &deleted);
        let document = xml::delete_result(&deleted, parsed.quiet);
        Ok(xml_reply(document))
    }

    /// What a key of the document asks for, if its caller may.
    async fn entry(
        &self,
        request: &Request<'_>,
        key: &DeleteKey,
        bypass_governance: bool,
    ) -> Result<DeleteEntry, S3Error> {
        let version_text = key.version_id.as_deref().filter(|version| !version.is_empty());
        let parsed = |text| VersionId::parse(text).ok_or_else(|| no_such_version(text));
        let version = version_text.map(parsed).transpose()?;
        let object_key = ObjectKey::parse(key.key.clone())?;
        let if_match = key.etag.as_deref().map(unquote);
        let access = &request.access;
        self.authorizer.authorize_delete(&self.ops, access, &object_key, version_text, if_match).await?;
        let bypass_governance =
            bypass_governance && access.may_bypass_governance(&object_key, version_text, None);
        Ok(DeleteEntry { key: object_key, version, condition: condition(key)?, bypass_governance })
    }
}

/// Each key has a record of its own in the access log.
fn note_deletes(request: &Request<'_>, deleted: &[DeletedKey<'_>]) {
    let note = request.access.asker().note;
    if !note.has_logged_bucket() {
        return;
    }
    for key in deleted {
        note.push_delete(BatchDelete {
            key: Bytes::copy_from_slice(key.key.as_bytes()),
            version: key.version_id.map(str::to_owned),
            error: key.result.as_ref().err().map(|error| error.code),
        });
    }
}

fn condition(key: &DeleteKey) -> Result<DeleteCondition, S3Error> {
    let invalid = |message: &'static str| S3Error::with_message(Code::InvalidArgument, message);
    let size_bytes = key.size.as_deref().map(str::parse).transpose();
    let modified_s = key
        .last_modified
        .as_deref()
        .map(|text| parse_date_s(text).ok_or_else(|| invalid("LastModifiedTime is not a date")))
        .transpose()?;
    Ok(DeleteCondition {
        must_exist: false,
        if_match: key.etag.as_deref().map(|tag| unquote(tag).to_owned()),
        size_bytes: size_bytes.map_err(|_| invalid("Size is not a number"))?,
        modified_s,
    })
}
