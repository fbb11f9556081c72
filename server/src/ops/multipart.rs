//! Multipart uploads: S3's rules of parts and completions over the schema's transactions.
//! Invariants: a part is never inline; the rules of a completion are decided inside its transaction, on the parts as
//! they are then.
//! Not here: the transactions (`fdb_schema::schema`), checksums of parts (`checksum`).

use std::cell::Cell;

use bytes::Bytes;
use fdb_schema::Engine;
use fdb_schema::schema::{
    Composed, Encryption, ListQuery, NewPart, NewUpload, PartRecord, UploadKey, UploadPath, UploadRecord,
    opened_len, owner_of_list,
};
use shardstore::Evidence;
use shardstore_reactor::{Drive, Executor};

use super::api::{
    BodySource, BucketName, ChecksumAlgorithm, ChecksumKind, CompleteUpload, CompletedPart, CreateUpload,
    CustomerKey, ETag, EncryptedBy, ListUploads, ObjectKey, OpError, PAGE_MAX, PART_MIN_BYTES, PARTS_MAX,
    PartInfo, PartPage, PutPart, StoredChecksum, UploadId, UploadInfo, UploadPage, Written,
};
use super::checksum::{checksum_of_parts, etag_of_parts};
use super::core::{CoreInner, last_entry};
use super::error::{of_conditional, of_failure, of_put};
use super::seal::{BodyOf, Sealing};
use super::write::{Received, check_headers, check_length, receive};

impl<D: Drive, E: Engine, X: Executor> CoreInner<D, E, X> {
    pub(crate) async fn create_upload(&self, create: CreateUpload) -> Result<UploadInfo, OpError> {
        check_headers(&create.headers)?;
        let (algorithm, kind) = upload_checksum(create.checksum)?;
        let new = NewUpload {
            bucket: create.bucket.as_str(),
            key: create.key.as_bytes(),
            initiator: &create.initiator,
            algorithm,
            kind,
            checksum_named: create.checksum.is_some(),
            storage_class: create.storage_class,
            headers: create.headers,
            lock: create.lock,
            encryption: create
                .encrypt
                .map(|encrypt| Sealing::new(&encrypt, &self.master_key).encryption().clone()),
        };
        let (upload, record) = self.metadata.create_upload(new).await.map_err(of_failure)?;
        Ok(upload_info(upload, create.key.to_bytes(), record))
    }

    pub(crate) async fn put_part(
        &self,
        put: PutPart,
        body: &mut impl BodySource,
    ) -> Result<PartInfo, OpError> {
        let part_number = put.part_number;
        if !(1..=PARTS_MAX).contains(&part_number) {
            return Err(OpError::PartNumberOutOfRange);
        }
        check_length(put.len_bytes)?;
        let path = path(&put.bucket, &put.key, put.upload);
        let upload = self.metadata.upload(path).await.map_err(of_failure)?;
        let sealing = match (&upload.encryption, &put.customer_key) {
            (Some(encryption), key) => Some(Sealing::open(encryption, key.as_ref(), &self.master_key)?),
            (None, Some(_)) => return Err(OpError::CustomerKeyUnexpected),
            (None, None) => None,
        };
        body.need_checksum(upload.algorithm);
        let data = self.metadata.new_data_id().await.map_err(of_failure)?;
        let key = sealing.as_ref().map(|sealing| sealing.body_key(BodyOf::Part(data)));
        let (received, summary) = receive(&self.store, put.len_bytes, 0, key, body).await?;
        let given = summary.checksum.as_ref().map(|checksum| checksum.algorithm);
        if let Some(actual) = given.filter(|given| upload.checksum_named && *given != upload.algorithm) {
            return Err(OpError::ChecksumAlgorithmMismatch { expected: upload.algorithm, actual });
        }
        let evidence = self.evidence(received).await?;
        let crc32c = evidence.crc32c();
        let md5 = sealing.as_ref().map_or(summary.md5, |sealing| sealing.etag(summary.md5));
        let new = NewPart { part_number, data, md5, checksum: summary.needed };
        let record = self.metadata.put_part(path, new, evidence, crc32c).await.map_err(of_failure)?;
        // The client sees what it sent verified; what the object is made of is that of its upload.
        let by = upload.encryption.as_ref().map(Encryption::by);
        Ok(PartInfo { checksum: summary.checksum, ..part_info((part_number, record), by)? })
    }

    /// Parts have data rows even when they are empty.
    pub(crate) async fn evidence(&self, received: Received) -> Result<Evidence, OpError> {
        match received {
            Received::Stored(evidence) => Ok(evidence),
            Received::Inline(bytes) => {
                assert!(bytes.is_empty(), "parts are never inline");
                self.store.put(Some(0)).map_err(of_put)?.finish().await.map_err(of_put)
            }
        }
    }

    pub(crate) async fn list_parts(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        upload: UploadId,
        after: u16,
        max_parts: usize,
    ) -> Result<PartPage, OpError> {
        let limit = max_parts.min(PAGE_MAX);
        let asked = if limit == 0 { 0 } else { limit + 1 };
        let found = self.metadata.list_parts(path(bucket, key, upload), after, asked).await;
        let (record, mut parts) = found.map_err(of_failure)?;
        let is_truncated = parts.len() > limit;
        parts.truncate(limit);
        let next = parts.last().filter(|_| is_truncated).map(|(number, _)| *number);
        let upload = upload_info(UploadKey(upload.0), key.to_bytes(), record);
        let parts = parts.into_iter().map(|part| part_info(part, upload.encryption));
        let parts = parts.collect::<Result<_, OpError>>()?;
        Ok(PartPage { upload, parts, next })
    }

    pub(crate) async fn list_uploads(&self, list: ListUploads) -> Result<UploadPage, OpError> {
        let query = ListQuery {
            prefix: &list.prefix,
            delimiter: list.delimiter.as_deref(),
            limit: list.max_uploads.min(PAGE_MAX),
        };
        let after_upload = list.after_upload.map(|upload| UploadKey(upload.0));
        let page = self
            .metadata
            .list_uploads(list.bucket.as_str(), query, &list.after_key, after_upload)
            .await
            .map_err(of_failure)?;
        let last = last_entry(&page).filter(|_| page.is_truncated);
        let last_upload = page.items.last().map(|(key, (upload, _))| (key.clone(), UploadId(upload.0)));
        let next = last.map(|entry| {
            let upload = last_upload.filter(|(key, _)| *key == entry).map(|(_, upload)| upload);
            (entry, upload)
        });
        let uploads =
            page.items.into_iter().map(|(key, (upload, record))| upload_info(upload, key, record)).collect();
        Ok(UploadPage { uploads, common_prefixes: page.common_prefixes, next })
    }

    pub(crate) async fn complete_upload(&self, complete: CompleteUpload) -> Result<Written, OpError> {
        let part_numbers = part_numbers(&complete.parts)?;
        let path = path(&complete.bucket, &complete.key, complete.upload);
        // A repetition is answered without it, and then nobody has looked at its key.
        let has_key = Cell::new(false);
        let compose = |upload: &UploadRecord, parts: &[(u16, PartRecord)]| {
            self.check_upload_key(upload, complete.customer_key.as_ref())?;
            has_key.set(complete.customer_key.is_some());
            compose(&complete, upload, parts)
        };
        let condition = &complete.condition;
        let completed = self.metadata.complete_upload(path, &part_numbers, condition, compose).await;
        let completed = completed.map_err(of_conditional)??;
        let is_told = completed.encryption != Some(EncryptedBy::Customer) || has_key.get();
        Ok(Written {
            etag: completed.etag,
            checksum: completed.checksums.into_iter().next().filter(|_| is_told),
            size_bytes: completed.size_bytes,
            modified_ms: completed.modified_ms,
            version: completed.version,
            encryption: completed.encryption,
        })
    }

    pub(crate) async fn check_key_of_upload(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        upload: UploadId,
        customer_key: Option<&CustomerKey>,
    ) -> Result<(), OpError> {
        let upload = self.metadata.upload(path(bucket, key, upload)).await.map_err(of_failure)?;
        self.check_upload_key(&upload, customer_key)
    }

    /// The parts are sealed already, but as in S3 checksums are told to who has their key only.
    fn check_upload_key(&self, upload: &UploadRecord, key: Option<&CustomerKey>) -> Result<(), OpError> {
        match &upload.encryption {
            Some(encryption) if encryption.by() == EncryptedBy::Customer => match key {
                None if !upload.checksum_named => Ok(()),
                key => Sealing::open(encryption, key, &self.master_key).map(drop),
            },
            _ if key.is_some() => Err(OpError::CustomerKeyUnexpected),
            _ => Ok(()),
        }
    }

    pub(crate) async fn abort_upload(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        upload: UploadId,
    ) -> Result<(), OpError> {
        self.metadata.abort_upload(path(bucket, key, upload)).await.map_err(of_failure)
    }
}

fn path<'a>(bucket: &'a BucketName, key: &'a ObjectKey, upload: UploadId) -> UploadPath<'a> {
    UploadPath { bucket: bucket.as_str(), key: key.as_bytes(), upload: UploadKey(upload.0) }
}

/// CRC64NVME covers the whole object only, hashes only the parts' checksums; the other CRCs can do both.
fn upload_checksum(
    named: Option<(ChecksumAlgorithm, Option<ChecksumKind>)>,
) -> Result<(ChecksumAlgorithm, ChecksumKind), OpError> {
    let Some((algorithm, kind)) = named else {
        return Ok((ChecksumAlgorithm::Crc64Nvme, ChecksumKind::FullObject));
    };
    let (default, other) = match algorithm {
        ChecksumAlgorithm::Crc64Nvme => (ChecksumKind::FullObject, None),
        ChecksumAlgorithm::Crc32 | ChecksumAlgorithm::Crc32c => {
            (ChecksumKind::Composite, Some(ChecksumKind::FullObject))
        }
        ChecksumAlgorithm::Sha1
        | ChecksumAlgorithm::Sha256
        | ChecksumAlgorithm::Sha512
        | ChecksumAlgorithm::Md5
        | ChecksumAlgorithm::XxHash64
        | ChecksumAlgorithm::XxHash3
        | ChecksumAlgorithm::XxHash128 => (ChecksumKind::Composite, None),
    };
    match kind {
        None => Ok((algorithm, default)),
        Some(kind) if kind == default || Some(kind) == other => Ok((algorithm, kind)),
        Some(kind) => Err(OpError::ChecksumKindUnsupported { algorithm, kind }),
    }
}

/// The listed part numbers, if they are a list that a completion may have.
fn part_numbers(parts: &[CompletedPart]) -> Result<Vec<u16>, OpError> {
    if parts.is_empty() || parts.len() > usize::from(PARTS_MAX) {
        return Err(OpError::BadPartList);
    }
    let numbers: Vec<u16> = parts.iter().map(|part| part.part_number).collect();
    if numbers.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(OpError::InvalidPartOrder);
    }
    Ok(numbers)
}

/// Decides a completion's rules on the parts as they are, and names the object.
fn compose(
    complete: &CompleteUpload,
    upload: &UploadRecord,
    parts: &[(u16, PartRecord)],
) -> Result<Composed, OpError> {
    if upload.encryption.is_some() {
        let plain = |(number, part): &(u16, PartRecord)| {
            Ok((*number, PartRecord { size_bytes: opened(part)?, ..part.clone() }))
        };
        return compose_plain(
            complete,
            upload,
            &parts.iter().map(plain).collect::<Result<Vec<_>, OpError>>()?,
        );
    }
    compose_plain(complete, upload, parts)
}

/// The same, of parts whose lengths are those of their plain bytes.
fn compose_plain(
    complete: &CompleteUpload,
    upload: &UploadRecord,
    parts: &[(u16, PartRecord)],
) -> Result<Composed, OpError> {
    let mut size_bytes = 0u64;
    for (index, (listed, (_, part))) in complete.parts.iter().zip(parts).enumerate() {
        check_part(listed, part)?;
        size_bytes += part.size_bytes;
        if index + 1 < parts.len() && part.size_bytes < PART_MIN_BYTES {
            let part_number = listed.part_number;
            return Err(OpError::EntityTooSmall { part_number, size_bytes: part.size_bytes });
        }
    }
    if complete.size_bytes.is_some_and(|expected| expected != size_bytes) {
        return Err(OpError::ObjectSizeMismatch);
    }
    let checksum = checksum_of_parts(upload.algorithm, upload.kind, parts);
    check_checksum(complete, upload, checksum.as_ref())?;
    Ok(Composed { etag: etag_of_parts(parts), checksums: checksum.into_iter().collect() })
}

/// The checksum of the object as the client computed it, and what it must have said of its parts' for one made of
/// those.
fn check_checksum(
    complete: &CompleteUpload,
    upload: &UploadRecord,
    computed: Option<&StoredChecksum>,
) -> Result<(), OpError> {
    if complete.checksum_kind.is_some_and(|kind| kind != upload.kind) {
        return Err(OpError::ChecksumKindMismatch { expected: upload.kind });
    }
    let algorithm = upload.algorithm;
    if let (Some((given, value)), Some(computed)) = (&complete.checksum, computed) {
        if *given != algorithm {
            return Err(OpError::ChecksumAlgorithmMismatch { expected: algorithm, actual: *given });
        }
        if *value != computed.value {
            return Err(OpError::CompletionChecksumMismatch);
        }
    }
    let is_made_of_parts = upload.checksum_named && upload.kind == ChecksumKind::Composite;
    match complete.parts.iter().find(|part| part.checksum.is_none()) {
        Some(part) if is_made_of_parts => {
            Err(OpError::PartChecksumMissing { algorithm, part_number: part.part_number })
        }
        _ => Ok(()),
    }
}

fn check_part(listed: &CompletedPart, part: &PartRecord) -> Result<(), OpError> {
    let tag_matches = ETag::parse(&listed.etag) == Some(ETag::whole(part.md5));
    let checksum_matches = match (&listed.checksum, &part.checksum) {
        (Some(listed), Some(part)) => listed.algorithm != part.algorithm || listed.value == part.value,
        (Some(_), None) => false,
        (None, _) => true,
    };
    if tag_matches && checksum_matches {
        Ok(())
    } else {
        Err(OpError::InvalidPart { part_number: listed.part_number })
    }
}

fn upload_info(upload: UploadKey, key: Bytes, record: UploadRecord) -> UploadInfo {
    UploadInfo {
        owner: owner_of_list(&record.headers),
        upload: UploadId(upload.0),
        key,
        initiator: record.initiator,
        initiated_ms: record.initiated_ms,
        checksum: (record.algorithm, record.kind),
        checksum_named: record.checksum_named,
        storage_class: record.storage_class,
        encryption: record.encryption.as_ref().map(Encryption::by),
    }
}

fn part_info(
    (part_number, record): (u16, PartRecord),
    encryption: Option<EncryptedBy>,
) -> Result<PartInfo, OpError> {
    Ok(PartInfo {
        part_number,
        etag: ETag::whole(record.md5),
        size_bytes: if encryption.is_some() { opened(&record)? } else { record.size_bytes },
        modified_ms: record.modified_ms,
        checksum: record.checksum,
        encryption,
    })
}

/// How many plain bytes a sealed part holds.
fn opened(part: &PartRecord) -> Result<u64, OpError> {
    let wrong = || OpError::Damaged("a sealed part is not as long as one can be".to_owned());
    opened_len(part.size_bytes).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn only_the_kinds_that_s3_has_are_taken() {
        use ChecksumAlgorithm::{Crc32, Crc64Nvme, Sha256};
        use ChecksumKind::{Composite, FullObject};
        assert_eq!(upload_checksum(None), Ok((Crc64Nvme, FullObject)));
        assert_eq!(upload_checksum(Some((Crc32, None))), Ok((Crc32, Composite)));
        assert_eq!(upload_checksum(Some((Crc32, Some(FullObject)))), Ok((Crc32, FullObject)));
        assert_eq!(upload_checksum(Some((Crc64Nvme, None))), Ok((Crc64Nvme, FullObject)));
        let unsupported = |algorithm, kind| Err(OpError::ChecksumKindUnsupported { algorithm, kind });
        assert_eq!(upload_checksum(Some((Crc64Nvme, Some(Composite)))), unsupported(Crc64Nvme, Composite));
        assert_eq!(upload_checksum(Some((Sha256, Some(FullObject)))), unsupported(Sha256, FullObject));
    }

    #[test]
    fn part_lists_are_ascending_and_not_empty() {
        let list = |numbers: &[u16]| {
            let part = |n: &u16| CompletedPart { part_number: *n, etag: String::new(), checksum: None };
            part_numbers(&numbers.iter().map(part).collect::<Vec<_>>())
        };
        assert_eq!(list(&[]), Err(OpError::BadPartList));
        assert_eq!(list(&[1, 1]), Err(OpError::InvalidPartOrder));
        assert_eq!(list(&[2, 1]), Err(OpError::InvalidPartOrder));
        assert_eq!(list(&[3, 7]), Ok(vec![3, 7]));
    }
}
