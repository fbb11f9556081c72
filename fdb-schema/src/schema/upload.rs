//! Multipart uploads: create, parts, complete, abort.
//! Invariants: a part's bytes have one owner at a time: the upload's part row, then the completed object's rows; what
//! is neither listed nor kept is garbage in the same transaction; a completion answers the same when repeated.
//! Not here: sizes, ETag and checksum rules of a completion (the caller's `compose`), listing of uploads (`list`).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use shardstore_format::{DataId, Durable};
use shardstore_reactor::Executor;

use super::bucket::{bucket, successor};
use super::data::{add_garbage, items_of, write_extents, write_rows};
use super::encryption::{EncryptedBy, Encryption, opened_len};
use super::error::{Failure, Refusal, damaged};
use super::keyspace::{self, BucketId, UploadKey};
use super::lock::{check_lockable, lock_of_new};
use super::object::{WriteCondition, object};
use super::record::{
    BucketRecord, CompletedRecord, DataItems, DataPart, ListedRecord, ObjectRecord, PartRecord, Place,
    SealedBytes, UploadRecord, Versioning,
};
use super::retry::{Metadata, rows};
use super::value::{ChecksumAlgorithm, ChecksumKind, ETag, Header, StoredChecksum};
use super::version::{ObjectLock, Version, VersionId};
use crate::{Engine, Isolation, Transaction};

/// How long a completion's answer is kept for its repetition.
const COMPLETED_KEPT: Duration = Duration::from_hours(24);
/// Rows of one read of parts.
const PART_ROWS: usize = 1_000;

/// The start of an upload.
#[derive(Clone, Debug)]
pub struct NewUpload<'a> {
    /// Bucket name.
    pub bucket: &'a str,
    /// Key, at most 1,024 bytes.
    pub key: &'a [u8],
    /// The account that begins it.
    pub initiator: &'a str,
    /// The checksum of its parts and object.
    pub algorithm: ChecksumAlgorithm,
    /// What the object's checksum will cover.
    pub kind: ChecksumKind,
    /// Whether the client named the algorithm.
    pub checksum_named: bool,
    /// The storage class if it is not STANDARD.
    pub storage_class: Option<String>,
    /// What the client gave to keep.
    pub headers: Vec<Header>,
    /// What will keep the object from being removed.
    pub lock: ObjectLock,
    /// How its parts will be sealed.
    pub encryption: Option<Encryption>,
}

/// Which upload.
#[derive(Clone, Copy, Debug)]
pub struct UploadPath<'a> {
    /// Bucket name.
    pub bucket: &'a str,
    /// The object's key.
    pub key: &'a [u8],
    /// Its id.
    pub upload: UploadKey,
}

/// What a part commits, besides its bytes.
#[derive(Clone, Debug)]
pub struct NewPart {
    /// 1 to 10,000.
    pub part_number: u16,
    /// The identity of its bytes, of [`Metadata::new_data_id`]: the key of a sealed part depends on it.
    pub data: DataId,
    /// Its tag.
    pub md5: [u8; 16],
    /// Its checksum.
    pub checksum: Option<StoredChecksum>,
}

/// What a completed object is called.
#[derive(Clone, Debug)]
pub struct Composed {
    /// Its tag.
    pub etag: ETag,
    /// Its checksums.
    pub checksums: Vec<StoredChecksum>,
}

/// What a completion made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    /// Its tag.
    pub etag: ETag,
    /// Its checksums.
    pub checksums: Vec<StoredChecksum>,
    /// Its length.
    pub size_bytes: u64,
    /// Milliseconds since 1970.
    pub modified_ms: u64,
    /// The version as clients see it.
    pub version: Option<VersionId>,
    /// How it is encrypted.
    pub encryption: Option<EncryptedBy>,
}

impl<E: Engine, X: Executor> Metadata<E, X> {
    /// Begins an upload.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::NoObjectLock`], [`Failure::Engine`].
    pub async fn create_upload(&self, new: NewUpload<'_>) -> Result<(UploadKey, UploadRecord), Failure> {
        let initiated_ms = self.executor.unix_ms();
        let mut id = [0u8; 16];
        id[..6].copy_from_slice(&initiated_ms.to_be_bytes()[2..]);
        id[6..14].copy_from_slice(&self.executor.random_u64().to_be_bytes());
        id[14..].copy_from_slice(&self.executor.random_u64().to_be_bytes()[..2]);
        let upload = UploadKey(id);
        let record = UploadRecord {
            initiator: new.initiator.to_owned(),
            initiated_ms,
            algorithm: new.algorithm,
            kind: new.kind,
            checksum_named: new.checksum_named,
            storage_class: new.storage_class,
            headers: new.headers,
            lock: new.lock,
            encryption: new.encryption,
        };
        let value = record.encode();
        self.write(async |txn| {
            let bucket = bucket(txn, new.bucket, Isolation::Serializable).await?;
            check_lockable(&bucket, new.lock)?;
            txn.set(&keyspace::upload(bucket.id, new.key, upload), &value);
            Ok(())
        })
        .await?;
        Ok((upload, record))
    }

    /// Looks an upload up.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::NoSuchUpload`], [`Failure::Engine`].
    pub async fn upload(&self, path: UploadPath<'_>) -> Result<UploadRecord, Failure> {
        self.read(async |txn| Ok(find(txn, path, Isolation::Snapshot).await?.1)).await
    }

    /// Adds a part, or replaces it. The evidence is dropped when the outcome is known.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::NoSuchUpload`], [`Refusal::VolumeGone`], [`Failure::Engine`].
    pub async fn put_part(
        &self,
        path: UploadPath<'_>,
        new: NewPart,
        evidence: impl Durable,
        crc32c: Option<u32>,
    ) -> Result<PartRecord, Failure> {
        let (data, modified_ms) = (new.data, self.executor.unix_ms());
        let items = items_of(&evidence, crc32c);
        let size_bytes = items.iter().map(|item| item.extent.len_bytes).sum();
        let record = PartRecord { data, size_bytes, md5: new.md5, modified_ms, checksum: new.checksum };
        let value = record.encode();
        let outcome = self
            .write(async |txn| {
                find(txn, path, Isolation::Serializable).await?;
                let row_key = keyspace::part(path.upload, new.part_number);
                if let Some(old) = txn.get(&row_key, Isolation::Serializable).await? {
                    add_garbage(txn, PartRecord::decode(&old)?.data, modified_ms);
                }
                write_extents(txn, data, items.clone(), record.checksum.clone()).await?;
                txn.set(&row_key, &value);
                Ok(())
            })
            .await;
        drop(evidence);
        outcome.map(|()| record)
    }

    /// The upload and up to `limit` of its parts with numbers above `after`.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::NoSuchUpload`], [`Failure::Engine`].
    pub async fn list_parts(
        &self,
        path: UploadPath<'_>,
        after: u16,
        limit: usize,
    ) -> Result<(UploadRecord, Vec<(u16, PartRecord)>), Failure> {
        self.read(async |txn| {
            let (_, record) = find(txn, path, Isolation::Snapshot).await?;
            let mut range = keyspace::parts(path.upload);
            range.begin = range.begin.max(successor(keyspace::part(path.upload, after)));
            let found = match limit {
                0 => Vec::new(),
                limit => rows(txn, &range, limit, Isolation::Snapshot).await?,
            };
            let parts = found.iter().map(|row| numbered(&row.key, &row.value)).collect::<Result<_, _>>()?;
            Ok((record, parts))
        })
        .await
    }

    /// Makes one object of the listed parts, in their order. `compose` sees them and names the object, or refuses;
    /// what it refuses with is the inner result. Parts that are not listed become garbage. A repetition within 24 h
    /// answers the same.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::NoSuchUpload`], [`Refusal::InvalidPart`],
    /// [`Refusal::PreconditionFailed`], [`Refusal::NoSuchKey`] for `If-Match`, [`Failure::Engine`].
    pub async fn complete_upload<R>(
        &self,
        path: UploadPath<'_>,
        part_numbers: &[u16],
        condition: &WriteCondition,
        compose: impl Fn(&UploadRecord, &[(u16, PartRecord)]) -> Result<Composed, R>,
    ) -> Result<Result<Completed, R>, Failure> {
        let (data, now_ms) = (self.new_data_id().await?, self.executor.unix_ms());
        self.write(async |txn| {
            let (bucket, record) = match find(txn, path, Isolation::Serializable).await {
                Err(Failure::Refused(Refusal::NoSuchUpload)) => {
                    return Ok(Ok(repeated(txn, path).await?));
                }
                found => found?,
            };
            let mut uploaded = all_parts(txn, path.upload).await?;
            let mut listed = Vec::with_capacity(part_numbers.len());
            for &part_number in part_numbers {
                let part = uploaded.remove(&part_number).ok_or(Refusal::InvalidPart { part_number })?;
                listed.push((part_number, part));
            }
            let composed = match compose(&record, &listed) {
                Ok(composed) => composed,
                Err(refused) => return Ok(Err(refused)),
            };
            let old = object(txn, bucket.id, path.key, Isolation::Serializable).await?;
            condition.check(old.as_ref())?;
            let parts = listed
                .iter()
                .map(|(_, part)| DataPart { data: part.data, len_bytes: part.size_bytes })
                .collect();
            let items = DataItems::Parts(parts);
            let stored_bytes = items.len_bytes();
            let size_bytes = match &record.encryption {
                None => stored_bytes,
                Some(_) => opened_len_of(&listed)?,
            };
            let sealed = record
                .encryption
                .clone()
                .map(|encryption| Box::new(SealedBytes { encryption, stored_bytes }));
            let mut new = ObjectRecord {
                listed: ListedRecord {
                    size_bytes,
                    etag: composed.etag,
                    modified_ms: now_ms,
                    checksums: composed.checksums,
                    storage_class: record.storage_class.clone(),
                    version: Version::UNVERSIONED,
                },
                data,
                place: Place::Rows { hint: Vec::new() },
                headers: record.headers.clone(),
                lock: lock_of_new(txn, &bucket, record.lock, now_ms).await?,
                sealed,
            };
            write_rows(txn, data, items, None, false);
            for part in uploaded.values() {
                add_garbage(txn, part.data, now_ms);
            }
            clear_upload(txn, bucket.id, path);
            self.replace(txn, &bucket, path.key, old, &mut new).await?;
            let answer = completed_record(&bucket, path.key, &new);
            txn.set(&keyspace::completed(path.upload), &answer.encode());
            Ok(Ok(completed_of(answer)))
        })
        .await
    }

    /// Gives an upload up; its parts become garbage.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::NoSuchUpload`], [`Failure::Engine`].
    pub async fn abort_upload(&self, path: UploadPath<'_>) -> Result<(), Failure> {
        let now_ms = self.executor.unix_ms();
        self.write(async |txn| {
            let (bucket, _) = find(txn, path, Isolation::Serializable).await?;
            for part in all_parts(txn, path.upload).await?.values() {
                add_garbage(txn, part.data, now_ms);
            }
            clear_upload(txn, bucket.id, path);
            Ok(())
        })
        .await
    }

    /// One bounded step of forgetting what completions answered over 24 h ago; true when none is left to forget now.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn forget_completions(&self) -> Result<bool, Failure> {
        let kept_ms = u64::try_from(COMPLETED_KEPT.as_millis()).expect("a day");
        let before_ms = self.executor.unix_ms().saturating_sub(kept_ms);
        self.write(async |txn| {
            let oldest = rows(txn, &keyspace::all_completed(), PART_ROWS, Isolation::Snapshot).await?;
            let mut forgotten = 0;
            for row in &oldest {
                if CompletedRecord::decode(&row.value)?.completed_ms < before_ms {
                    txn.clear(&row.key);
                    forgotten += 1;
                }
            }
            Ok(forgotten < PART_ROWS)
        })
        .await
    }
}

/// How many plain bytes sealed parts hold.
fn opened_len_of(parts: &[(u16, PartRecord)]) -> Result<u64, Failure> {
    let opened = parts.iter().map(|(_, part)| opened_len(part.size_bytes));
    opened.sum::<Option<u64>>().ok_or_else(|| damaged("a sealed part is not as long as one can be"))
}

/// The upload's row, in its bucket and under its key.
async fn find<T: Transaction>(
    txn: &T,
    path: UploadPath<'_>,
    isolation: Isolation,
) -> Result<(BucketRecord, UploadRecord), Failure> {
    let bucket = bucket(txn, path.bucket, isolation).await?;
    let value = txn.get(&keyspace::upload(bucket.id, path.key, path.upload), isolation).await?;
    Ok((bucket, UploadRecord::decode(&value.ok_or(Refusal::NoSuchUpload)?)?))
}

/// What an earlier completion of the same upload answered.
async fn repeated<T: Transaction>(txn: &T, path: UploadPath<'_>) -> Result<Completed, Failure> {
    let bucket = bucket(txn, path.bucket, Isolation::Serializable).await?.id;
    let value = txn.get(&keyspace::completed(path.upload), Isolation::Serializable).await?;
    let record = CompletedRecord::decode(&value.ok_or(Refusal::NoSuchUpload)?)?;
    if record.bucket != bucket || record.key != path.key {
        return Err(Refusal::NoSuchUpload.into());
    }
    Ok(completed_of(record))
}

fn completed_record(bucket: &BucketRecord, key: &[u8], object: &ObjectRecord) -> CompletedRecord {
    CompletedRecord {
        bucket: bucket.id,
        key: Bytes::copy_from_slice(key),
        completed_ms: object.listed.modified_ms,
        size_bytes: object.listed.size_bytes,
        etag: object.listed.etag,
        checksums: object.listed.checksums.clone(),
        version: (bucket.versioning != Versioning::Never).then_some(object.listed.version),
        encryption: object.encryption().map(Encryption::by),
    }
}

fn completed_of(record: CompletedRecord) -> Completed {
    Completed {
        etag: record.etag,
        checksums: record.checksums,
        size_bytes: record.size_bytes,
        modified_ms: record.completed_ms,
        version: record.version.map(Version::id),
        encryption: record.encryption,
    }
}

fn numbered(row_key: &[u8], value: &Bytes) -> Result<(u16, PartRecord), Failure> {
    let number = keyspace::part_number_of(row_key);
    let number = number.ok_or_else(|| damaged("a part row has a malformed key"))?;
    Ok((number, PartRecord::decode(value)?))
}

async fn all_parts<T: Transaction>(txn: &T, upload: UploadKey) -> Result<BTreeMap<u16, PartRecord>, Failure> {
    let mut range = keyspace::parts(upload);
    let mut parts = BTreeMap::new();
    loop {
        let page = rows(txn, &range, PART_ROWS, Isolation::Serializable).await?;
        for row in &page {
            let (number, part) = numbered(&row.key, &row.value)?;
            parts.insert(number, part);
        }
        match page.last() {
            Some(last) if page.len() == PART_ROWS => range.begin = successor(last.key.to_vec()),
            _ => return Ok(parts),
        }
    }
}

fn clear_upload<T: Transaction>(txn: &mut T, bucket: BucketId, path: UploadPath<'_>) {
    let parts = keyspace::parts(path.upload);
    txn.clear_range(&parts.begin, &parts.end);
    txn.clear(&keyspace::upload(bucket, path.key, path.upload));
}
