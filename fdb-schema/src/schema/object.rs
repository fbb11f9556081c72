//! Objects: put, get, delete, copy.
//! Invariants: a name points only at durable bytes; what it pointed at before is garbage, or has one reference less,
//! in the same transaction; conditions are decided in it too.
//! Not here: bodies, listing (`list`), multipart (`upload`), what becomes of older versions (`history`).

use bytes::Bytes;
use shardstore_format::Durable;
use shardstore_reactor::Executor;

use super::bucket::bucket;
use super::data::{add_reference, items_of, write_extents};
use super::encryption::{Encryption, opened_len};
use super::error::{Failure, Refusal, damaged};
use super::history::{Delete, Deleted, FoundObject, find, shown};
use super::keyspace::{self, BucketId};
use super::lock::lock_of_new;
use super::record::{HINT_EXTENTS_MAX, INLINE_MAX_BYTES, ListedRecord, ObjectRecord, Place, SealedBytes};
use super::retry::Metadata;
use super::value::{ACL_HEADER, ETag, Header, REDIRECT_HEADER, StoredChecksum, TAGGING_HEADER};
use super::version::{ObjectLock, Version, VersionId};
use crate::{Engine, Isolation, Transaction};

/// Keys of one transaction of a bulk delete: 100 x (object, header, garbage, usage) rows stay far below 10 MB, and a
/// conflict repeats little.
const DELETES_PER_TXN: usize = 100;

/// What a write demands of what it replaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WriteCondition {
    /// Nothing.
    #[default]
    Always,
    /// `If-None-Match: *`: no such object, else [`Refusal::PreconditionFailed`].
    IfAbsent,
    /// `If-Match`: an object with this unquoted tag (or any, for `*`); [`Refusal::NoSuchKey`] if there is none.
    IfMatch(String),
}

impl WriteCondition {
    /// Whether it holds for what is there.
    ///
    /// # Errors
    /// [`Refusal::PreconditionFailed`], [`Refusal::NoSuchKey`].
    pub fn check(&self, old: Option<&ObjectRecord>) -> Result<(), Refusal> {
        match (self, old) {
            (WriteCondition::Always, _) | (WriteCondition::IfAbsent, None) => Ok(()),
            (WriteCondition::IfAbsent, Some(_)) => Err(Refusal::PreconditionFailed),
            (WriteCondition::IfMatch(_), None) => Err(Refusal::NoSuchKey),
            (WriteCondition::IfMatch(tag), Some(old)) => check_tag(tag, old),
        }
    }
}

/// What a delete demands; an object that is not there satisfies everything but [`DeleteCondition::must_exist`] and
/// `If-Match`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteCondition {
    /// There must be an object: where none is, nothing is deleted and no marker is made.
    pub must_exist: bool,
    /// Unquoted tag, or `*`. Of a current version that is not there [`Refusal::NoSuchKey`], of a named one
    /// [`Refusal::NoSuchVersion`]; of a delete marker, or behind one, [`Refusal::PreconditionFailed`].
    pub if_match: Option<String>,
    /// `x-amz-if-match-size`.
    pub size_bytes: Option<u64>,
    /// `x-amz-if-match-last-modified-time`, in seconds since 1970.
    pub modified_s: Option<u64>,
}

impl DeleteCondition {
    pub(crate) fn check(&self, old: Option<&ObjectRecord>) -> Result<(), Refusal> {
        let Some(old) = old else {
            let needs_one = self.must_exist || self.if_match.is_some();
            return if needs_one { Err(Refusal::PreconditionFailed) } else { Ok(()) };
        };
        if let Some(tag) = &self.if_match {
            check_tag(tag, old)?;
        }
        let size_differs = self.size_bytes.is_some_and(|size| size != old.listed.size_bytes);
        let time_differs = self.modified_s.is_some_and(|time| time != old.listed.modified_ms / 1000);
        if size_differs || time_differs { Err(Refusal::PreconditionFailed) } else { Ok(()) }
    }
}

/// What a PUT commits, besides the bytes.
#[derive(Clone, Debug)]
pub struct NewObject<'a> {
    /// Bucket name.
    pub bucket: &'a str,
    /// Key, at most 1,024 bytes.
    pub key: &'a [u8],
    /// What the client gave to keep.
    pub headers: Vec<Header>,
    /// Its tag.
    pub etag: ETag,
    /// Its checksums.
    pub checksums: Vec<StoredChecksum>,
    /// The storage class if it is not STANDARD.
    pub storage_class: Option<String>,
    /// Of what it replaces.
    pub condition: WriteCondition,
    /// What keeps it from being removed; without a retention it gets the bucket's default.
    pub lock: ObjectLock,
    /// How its bytes are sealed, if they are.
    pub encryption: Option<Encryption>,
}

/// The bytes of a new object.
#[derive(Debug)]
pub enum NewBytes<D: Durable> {
    /// At most [`INLINE_MAX_BYTES`]: durable with the commit itself.
    Inline(Bytes),
    /// Durable already, in volumes.
    Stored {
        /// That they are, and where.
        evidence: D,
        /// CRC32C of all bytes, if they are one extent of up to 64 KiB.
        crc32c: Option<u32>,
    },
}

impl<D: Durable> NewBytes<D> {
    fn len_bytes(&self) -> u64 {
        match self {
            NewBytes::Inline(bytes) => u64::try_from(bytes.len()).expect("usize fits"),
            NewBytes::Stored { evidence, .. } => {
                evidence.extents().iter().map(|extent| extent.len_bytes).sum()
            }
        }
    }
}

/// A copy's source and target.
#[derive(Clone, Debug)]
pub struct Copy<'a> {
    /// Bucket of the source.
    pub source_bucket: &'a str,
    /// Key of the source.
    pub source_key: &'a [u8],
    /// Bucket of the target.
    pub bucket: &'a str,
    /// Key of the target.
    pub key: &'a [u8],
    /// What the target keeps instead of the source's headers; the tag set has a rule of its own.
    pub replace_headers: Option<Vec<Header>>,
    /// The target's tag set instead of the source's, as [`Metadata::put_tagging`] takes it.
    pub replace_tagging: Option<Option<Bytes>>,
    /// The target's storage class if it is not STANDARD.
    pub storage_class: Option<String>,
    /// The target's checksum instead of the source's; of the same bytes.
    pub replace_checksum: Option<StoredChecksum>,
    /// The target's [`REDIRECT_HEADER`] where the source's other headers are kept.
    pub redirect: Option<Bytes>,
    /// Of what it replaces.
    pub condition: WriteCondition,
    /// Which version of the source; `None`: the current one.
    pub source_version: Option<VersionId>,
    /// As [`NewObject::lock`]: the source's is not copied.
    pub lock: ObjectLock,
}

/// What a copy made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The target.
    pub target: FoundObject,
    /// The source's version as clients see it.
    pub source_version: Option<VersionId>,
}

impl<E: Engine, X: Executor> Metadata<E, X> {
    /// Makes a name point at new bytes. The evidence is dropped when the outcome is known.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::PreconditionFailed`], [`Refusal::NoSuchKey`] for `If-Match`,
    /// [`Refusal::NoObjectLock`], [`Refusal::VolumeGone`], [`Failure::Engine`].
    pub async fn put_object(
        &self,
        new: NewObject<'_>,
        bytes: NewBytes<impl Durable>,
    ) -> Result<FoundObject, Failure> {
        let (data, now_ms) = (self.new_data_id().await?, self.executor.unix_ms());
        let stored_bytes = bytes.len_bytes();
        let size_bytes = match &new.encryption {
            None => stored_bytes,
            Some(_) => opened_len(stored_bytes).expect("who sealed the bytes made them so long"),
        };
        let sealed = new.encryption.map(|encryption| Box::new(SealedBytes { encryption, stored_bytes }));
        let listed = ListedRecord {
            size_bytes,
            etag: new.etag,
            modified_ms: now_ms,
            checksums: new.checksums,
            storage_class: new.storage_class,
            version: Version::UNVERSIONED,
        };
        let (place, items) = match &bytes {
            NewBytes::Inline(bytes) => {
                assert!(bytes.len() <= INLINE_MAX_BYTES);
                (Place::Inline, Vec::new())
            }
            NewBytes::Stored { evidence, crc32c } => {
                let items = items_of(evidence, *crc32c);
                let hint = if items.len() <= HINT_EXTENTS_MAX { items.clone() } else { Vec::new() };
                (Place::Rows { hint }, items)
            }
        };
        let record = ObjectRecord { listed, data, place, headers: new.headers, lock: new.lock, sealed };
        let outcome = self
            .write(async |txn| {
                let bucket = bucket(txn, new.bucket, Isolation::Serializable).await?;
                let old = object(txn, bucket.id, new.key, Isolation::Serializable).await?;
                new.condition.check(old.as_ref())?;
                match &bytes {
                    NewBytes::Inline(bytes) => txn.set(&keyspace::inline(data), bytes),
                    NewBytes::Stored { .. } => write_extents(txn, data, items.clone(), None).await?,
                }
                let mut record = record.clone();
                record.lock = lock_of_new(txn, &bucket, new.lock, now_ms).await?;
                self.replace(txn, &bucket, new.key, old, &mut record).await?;
                Ok(FoundObject::of(&bucket, record))
            })
            .await;
        drop(bytes);
        outcome
    }

    /// A version of an object, or the current one. Cost: two row reads for what is there; up to two more for an older
    /// version, and one more for what is not there in a bucket with versioning.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::NoSuchKey`], [`Refusal::NoSuchVersion`], [`Refusal::DeleteMarker`],
    /// [`Failure::Engine`].
    pub async fn object(
        &self,
        bucket_name: &str,
        key: &[u8],
        version: Option<VersionId>,
    ) -> Result<FoundObject, Failure> {
        self.read(async |txn| found(txn, bucket_name, key, version).await).await
    }

    /// As [`Metadata::object`], with the bytes if they are inline, at the same snapshot.
    ///
    /// # Errors
    /// The same.
    pub async fn object_and_inline(
        &self,
        bucket_name: &str,
        key: &[u8],
        version: Option<VersionId>,
    ) -> Result<(FoundObject, Option<Bytes>), Failure> {
        self.read(async |txn| {
            let found = found(txn, bucket_name, key, version).await?;
            let bytes = match found.record.place {
                Place::Inline => Some(inline(txn, &found.record, Isolation::Snapshot).await?),
                Place::Rows { .. } => None,
            };
            Ok((found, bytes))
        })
        .await
    }

    /// Deletes an object, or one version of it.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::PreconditionFailed`], [`Refusal::NoSuchKey`] and
    /// [`Refusal::NoSuchVersion`] for `If-Match`, [`Refusal::Locked`], [`Failure::Engine`].
    pub async fn delete_object(&self, bucket_name: &str, delete: &Delete<'_>) -> Result<Deleted, Failure> {
        let now_ms = self.executor.unix_ms();
        self.write(async |txn| {
            let bucket = bucket(txn, bucket_name, Isolation::Serializable).await?;
            self.delete_in(txn, &bucket, delete, now_ms).await
        })
        .await
    }

    /// Deletes objects, 100 a transaction; one result a key, in order. A later transaction's engine error leaves the
    /// earlier keys deleted and stands in the results of the others.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`].
    pub async fn delete_objects(
        &self,
        bucket_name: &str,
        deletes: &[Delete<'_>],
    ) -> Result<Vec<Result<Deleted, Failure>>, Failure> {
        let mut results = Vec::with_capacity(deletes.len());
        for group in deletes.chunks(DELETES_PER_TXN) {
            match self.delete_group(bucket_name, group).await {
                Ok(group_results) => results.extend(group_results),
                Err(Failure::Refused(refusal)) => return Err(refusal.into()),
                Err(failure) => results.extend(group.iter().map(|_| Err(failure.clone()))),
            }
        }
        Ok(results)
    }

    async fn delete_group(
        &self,
        bucket_name: &str,
        group: &[Delete<'_>],
    ) -> Result<Vec<Result<Deleted, Failure>>, Failure> {
        let now_ms = self.executor.unix_ms();
        self.write(async |txn| {
            let bucket = bucket(txn, bucket_name, Isolation::Serializable).await?;
            let mut results = Vec::with_capacity(group.len());
            for delete in group {
                match self.delete_in(txn, &bucket, delete, now_ms).await {
                    Err(Failure::Engine(error)) => return Err(error.into()),
                    result => results.push(result),
                }
            }
            Ok(results)
        })
        .await
    }

    /// Replaces the tag set of an object's version, as [`TAGGING_HEADER`] keeps it, and nothing else of it; the version
    /// as clients see it.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::NoSuchKey`], [`Refusal::NoSuchVersion`], [`Refusal::DeleteMarker`],
    /// [`Failure::Engine`].
    pub async fn put_tagging(
        &self,
        bucket_name: &str,
        key: &[u8],
        version: Option<VersionId>,
        tagging: Option<Bytes>,
    ) -> Result<Option<VersionId>, Failure> {
        self.change_version(bucket_name, key, version, |_, record| {
            set_tagging(&mut record.headers, tagging.clone());
            Ok(())
        })
        .await
    }

    /// Makes a second name for an object's bytes. `source_check` sees the source in the same transaction and says how
    /// the target's data key is sealed, the same key as the source's; what it refuses with is the inner result.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::NoSuchKey`], [`Refusal::NoSuchVersion`], [`Refusal::DeleteMarker`],
    /// [`Refusal::CopyOntoItself`], [`Refusal::PreconditionFailed`], [`Refusal::NoObjectLock`], [`Failure::Engine`].
    pub async fn copy_object<R>(
        &self,
        copy: Copy<'_>,
        source_check: impl Fn(&ObjectRecord) -> Result<Option<Encryption>, R>,
    ) -> Result<Result<Copied, R>, Failure> {
        let (new_data, now_ms) = (self.new_data_id().await?, self.executor.unix_ms());
        self.write(async |txn| {
            let source_bucket = bucket(txn, copy.source_bucket, Isolation::Serializable).await?;
            let target_bucket = bucket(txn, copy.bucket, Isolation::Serializable).await?;
            let (source_key, version) = (copy.source_key, copy.source_version);
            let source = find(txn, &source_bucket, source_key, version, Isolation::Serializable).await?;
            let old = object(txn, target_bucket.id, copy.key, Isolation::Serializable).await?;
            // First: what the check asks for may be long work, for nothing if the target may not be replaced.
            copy.condition.check(old.as_ref())?;
            let encryption = match source_check(&source) {
                Ok(encryption) => encryption,
                Err(refused) => return Ok(Err(refused)),
            };
            assert_eq!(encryption.is_some(), source.sealed.is_some(), "a copy does not seal");
            // An older version of the same key is another object: that is how one is brought back.
            let is_same = source_bucket.id == target_bucket.id
                && copy.source_key == copy.key
                && old.as_ref().is_some_and(|old| old.listed.version == source.listed.version);
            let is_changed = copy.replace_headers.is_some()
                || copy.replace_checksum.is_some()
                || copy.redirect.is_some()
                || encryption.as_ref() != source.encryption()
                || copy.storage_class != source.listed.storage_class;
            if is_same && !is_changed {
                return Err(Refusal::CopyOntoItself.into());
            }
            let mut target = source.clone();
            if let (Some(sealed), Some(encryption)) = (&mut target.sealed, encryption) {
                sealed.encryption = encryption;
            }
            // Who may read the source says nothing of who may read the target.
            target.headers.retain(|header| header.name != ACL_HEADER);
            target.listed.modified_ms = now_ms;
            target.listed.storage_class.clone_from(&copy.storage_class);
            if let Some(checksum) = &copy.replace_checksum {
                target.listed.checksums = vec![checksum.clone()];
            }
            match &copy.replace_headers {
                Some(headers) => {
                    let kept = tagging(&target.headers);
                    target.headers.clone_from(headers);
                    set_tagging(&mut target.headers, kept);
                }
                None => set_header(&mut target.headers, REDIRECT_HEADER, copy.redirect.clone()),
            }
            if let Some(replaced) = &copy.replace_tagging {
                set_tagging(&mut target.headers, replaced.clone());
            }
            // The new reference comes first, so that replacing an earlier copy never drops the last one.
            match source.place {
                Place::Inline => {
                    let bytes = inline(txn, &source, Isolation::Serializable).await?;
                    target.data = new_data;
                    txn.set(&keyspace::inline(new_data), &bytes);
                }
                Place::Rows { .. } => add_reference(txn, source.data).await?,
            }
            target.lock = lock_of_new(txn, &target_bucket, copy.lock, now_ms).await?;
            self.replace(txn, &target_bucket, copy.key, old, &mut target).await?;
            let source_version = shown(&source_bucket, source.listed.version);
            Ok(Ok(Copied { target: FoundObject::of(&target_bucket, target), source_version }))
        })
        .await
    }
}

fn tagging(headers: &[Header]) -> Option<Bytes> {
    headers.iter().find(|header| header.name == TAGGING_HEADER).map(|header| header.value.clone())
}

fn set_tagging(headers: &mut Vec<Header>, tagging: Option<Bytes>) {
    set_header(headers, TAGGING_HEADER, tagging);
}

fn set_header(headers: &mut Vec<Header>, name: &str, value: Option<Bytes>) {
    headers.retain(|header| header.name != name);
    headers.extend(value.map(|value| Header { name: name.to_owned(), value }));
}

async fn found<T: Transaction>(
    txn: &T,
    bucket_name: &str,
    key: &[u8],
    version: Option<VersionId>,
) -> Result<FoundObject, Failure> {
    let bucket = bucket(txn, bucket_name, Isolation::Snapshot).await?;
    let record = find(txn, &bucket, key, version, Isolation::Snapshot).await?;
    Ok(FoundObject::of(&bucket, record))
}

async fn inline<T: Transaction>(
    txn: &T,
    record: &ObjectRecord,
    isolation: Isolation,
) -> Result<Bytes, Failure> {
    let bytes = txn.get(&keyspace::inline(record.data), isolation).await?;
    let bytes = bytes.ok_or_else(|| damaged("an object's inline bytes are missing"))?;
    if u64::try_from(bytes.len()).ok() != Some(record.stored_bytes()) {
        return Err(damaged("an object's inline bytes are not as long as it"));
    }
    Ok(bytes)
}

/// An object's row.
pub(crate) async fn object<T: Transaction>(
    txn: &T,
    bucket: BucketId,
    key: &[u8],
    isolation: Isolation,
) -> Result<Option<ObjectRecord>, Failure> {
    let value = txn.get(&keyspace::object(bucket, key), isolation).await?;
    Ok(value.as_ref().map(ObjectRecord::decode).transpose()?)
}

fn check_tag(tag: &str, old: &ObjectRecord) -> Result<(), Refusal> {
    let holds = tag == "*" || ETag::parse(tag) == Some(old.listed.etag);
    if holds { Ok(()) } else { Err(Refusal::PreconditionFailed) }
}
