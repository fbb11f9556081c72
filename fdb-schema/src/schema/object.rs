//! Objects: put, get, delete, copy.
//! Invariants: a name points only at durable bytes; what it pointed at before is garbage, or has one reference less,
//! in the same transaction; conditions are decided in it too.
//! Not here: bodies, listing (`list`), multipart (`upload`).

use bytes::Bytes;
use shardstore_format::Durable;
use shardstore_reactor::Executor;

use super::bucket::bucket;
use super::data::{add_reference, drop_reference, items_of, signed, write_extents};
use super::error::{Failure, Refusal, damaged};
use super::keyspace::{self, BucketId};
use super::record::{HINT_EXTENTS_MAX, INLINE_MAX_BYTES, ListedRecord, ObjectRecord, Place};
use super::retry::Metadata;
use super::value::{ACL_HEADER, ETag, Header, StoredChecksum, TAGGING_HEADER};
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

/// What a delete demands; an object that is not there satisfies everything but `If-Match: *`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteCondition {
    /// Unquoted tag, or `*`.
    pub if_match: Option<String>,
    /// `x-amz-if-match-size`.
    pub size_bytes: Option<u64>,
    /// `x-amz-if-match-last-modified-time`, in seconds since 1970.
    pub modified_s: Option<u64>,
}

impl DeleteCondition {
    fn check(&self, old: Option<&ObjectRecord>) -> Result<(), Refusal> {
        let Some(old) = old else {
            let any = self.if_match.as_deref() == Some("*");
            return if any { Err(Refusal::PreconditionFailed) } else { Ok(()) };
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
    /// Of what it replaces.
    pub condition: WriteCondition,
}

impl<E: Engine, X: Executor> Metadata<E, X> {
    /// Makes a name point at new bytes. The evidence is dropped when the outcome is known.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::PreconditionFailed`], [`Refusal::NoSuchKey`] for `If-Match`,
    /// [`Refusal::VolumeGone`], [`Failure::Engine`].
    pub async fn put_object(
        &self,
        new: NewObject<'_>,
        bytes: NewBytes<impl Durable>,
    ) -> Result<ObjectRecord, Failure> {
        let (data, now_ms) = (self.new_data_id(), self.executor.unix_ms());
        let listed = ListedRecord {
            size_bytes: bytes.len_bytes(),
            etag: new.etag,
            modified_ms: now_ms,
            checksums: new.checksums,
            storage_class: new.storage_class,
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
        let record = ObjectRecord { listed, data, place, headers: new.headers };
        let value = record.encode();
        let outcome = self
            .write(async |txn| {
                let bucket = bucket(txn, new.bucket, Isolation::Serializable).await?;
                let old = object(txn, bucket.id, new.key, Isolation::Serializable).await?;
                new.condition.check(old.as_ref())?;
                match &bytes {
                    NewBytes::Inline(bytes) => txn.set(&keyspace::inline(data), bytes),
                    NewBytes::Stored { .. } => write_extents(txn, data, items.clone(), None).await?,
                }
                self.replace(txn, bucket.id, new.key, old.as_ref(), &record, &value).await
            })
            .await;
        drop(bytes);
        outcome.map(|()| record)
    }

    /// Sets an object's row, and accounts for what it replaces.
    pub(crate) async fn replace(
        &self,
        txn: &mut E::Txn,
        bucket: BucketId,
        key: &[u8],
        old: Option<&ObjectRecord>,
        new: &ObjectRecord,
        new_value: &[u8],
    ) -> Result<(), Failure> {
        if let Some(old) = old {
            drop_reference(txn, old, new.listed.modified_ms).await?;
        }
        let old_bytes = old.map_or(0, |old| signed(old.listed.size_bytes));
        txn.set(&keyspace::object(bucket, key), new_value);
        let added = i64::from(old.is_none());
        self.add_usage(txn, bucket, added, signed(new.listed.size_bytes) - old_bytes);
        Ok(())
    }

    /// An object's current version. Cost: two row reads.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::NoSuchKey`], [`Failure::Engine`].
    pub async fn object(&self, bucket_name: &str, key: &[u8]) -> Result<ObjectRecord, Failure> {
        self.read(async |txn| current(txn, bucket_name, key).await).await
    }

    /// As [`Metadata::object`], with the bytes if they are inline, at the same snapshot.
    ///
    /// # Errors
    /// The same.
    pub async fn object_and_inline(
        &self,
        bucket_name: &str,
        key: &[u8],
    ) -> Result<(ObjectRecord, Option<Bytes>), Failure> {
        self.read(async |txn| {
            let record = current(txn, bucket_name, key).await?;
            let bytes = match record.place {
                Place::Inline => Some(inline(txn, &record, Isolation::Snapshot).await?),
                Place::Rows { .. } => None,
            };
            Ok((record, bytes))
        })
        .await
    }

    /// Deletes an object; false if there was none.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::PreconditionFailed`], [`Failure::Engine`].
    pub async fn delete_object(
        &self,
        bucket_name: &str,
        key: &[u8],
        condition: &DeleteCondition,
    ) -> Result<bool, Failure> {
        let now_ms = self.executor.unix_ms();
        self.write(async |txn| {
            let bucket = bucket(txn, bucket_name, Isolation::Serializable).await?;
            self.delete_one(txn, bucket.id, key, condition, now_ms).await
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
        deletes: &[(Bytes, DeleteCondition)],
    ) -> Result<Vec<Result<bool, Failure>>, Failure> {
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
        group: &[(Bytes, DeleteCondition)],
    ) -> Result<Vec<Result<bool, Failure>>, Failure> {
        let now_ms = self.executor.unix_ms();
        self.write(async |txn| {
            let bucket = bucket(txn, bucket_name, Isolation::Serializable).await?;
            let mut results = Vec::with_capacity(group.len());
            for (key, condition) in group {
                match self.delete_one(txn, bucket.id, key, condition, now_ms).await {
                    Err(Failure::Engine(error)) => return Err(error.into()),
                    result => results.push(result),
                }
            }
            Ok(results)
        })
        .await
    }

    async fn delete_one(
        &self,
        txn: &mut E::Txn,
        bucket: BucketId,
        key: &[u8],
        condition: &DeleteCondition,
        now_ms: u64,
    ) -> Result<bool, Failure> {
        let old = object(txn, bucket, key, Isolation::Serializable).await?;
        condition.check(old.as_ref())?;
        let Some(old) = old else { return Ok(false) };
        drop_reference(txn, &old, now_ms).await?;
        txn.clear(&keyspace::object(bucket, key));
        self.add_usage(txn, bucket, -1, -signed(old.listed.size_bytes));
        Ok(true)
    }

    /// Replaces an object's tag set, as [`TAGGING_HEADER`] keeps it, and nothing else of it.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::NoSuchKey`], [`Failure::Engine`].
    pub async fn put_tagging(
        &self,
        bucket_name: &str,
        key: &[u8],
        tagging: Option<Bytes>,
    ) -> Result<(), Failure> {
        self.write(async |txn| {
            let bucket = bucket(txn, bucket_name, Isolation::Serializable).await?.id;
            let record = object(txn, bucket, key, Isolation::Serializable).await?;
            let mut record = record.ok_or(Refusal::NoSuchKey)?;
            set_tagging(&mut record.headers, tagging.clone());
            txn.set(&keyspace::object(bucket, key), &record.encode());
            Ok(())
        })
        .await
    }

    /// Makes a second name for an object's bytes. `source_check` sees the source in the same transaction; what it
    /// refuses with is the inner result.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::NoSuchKey`], [`Refusal::CopyOntoItself`],
    /// [`Refusal::PreconditionFailed`], [`Failure::Engine`].
    pub async fn copy_object<R>(
        &self,
        copy: Copy<'_>,
        source_check: impl Fn(&ObjectRecord) -> Result<(), R>,
    ) -> Result<Result<ObjectRecord, R>, Failure> {
        let (new_data, now_ms) = (self.new_data_id(), self.executor.unix_ms());
        self.write(async |txn| {
            let source_bucket = bucket(txn, copy.source_bucket, Isolation::Serializable).await?.id;
            let target_bucket = bucket(txn, copy.bucket, Isolation::Serializable).await?.id;
            let source = object(txn, source_bucket, copy.source_key, Isolation::Serializable).await?;
            let source = source.ok_or(Refusal::NoSuchKey)?;
            if let Err(refused) = source_check(&source) {
                return Ok(Err(refused));
            }
            let is_same = source_bucket == target_bucket && copy.source_key == copy.key;
            let is_changed =
                copy.replace_headers.is_some() || copy.storage_class != source.listed.storage_class;
            if is_same && !is_changed {
                return Err(Refusal::CopyOntoItself.into());
            }
            let old = object(txn, target_bucket, copy.key, Isolation::Serializable).await?;
            copy.condition.check(old.as_ref())?;
            let mut target = source.clone();
            // Who may read the source says nothing of who may read the target.
            target.headers.retain(|header| header.name != ACL_HEADER);
            target.listed.modified_ms = now_ms;
            target.listed.storage_class.clone_from(&copy.storage_class);
            if let Some(headers) = &copy.replace_headers {
                let kept = tagging(&target.headers);
                target.headers.clone_from(headers);
                set_tagging(&mut target.headers, kept);
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
            let value = target.encode();
            self.replace(txn, target_bucket, copy.key, old.as_ref(), &target, &value).await?;
            Ok(Ok(target))
        })
        .await
    }
}

fn tagging(headers: &[Header]) -> Option<Bytes> {
    headers.iter().find(|header| header.name == TAGGING_HEADER).map(|header| header.value.clone())
}

fn set_tagging(headers: &mut Vec<Header>, tagging: Option<Bytes>) {
    headers.retain(|header| header.name != TAGGING_HEADER);
    headers.extend(tagging.map(|value| Header { name: TAGGING_HEADER.to_owned(), value }));
}

async fn current<T: Transaction>(txn: &T, bucket_name: &str, key: &[u8]) -> Result<ObjectRecord, Failure> {
    let bucket = bucket(txn, bucket_name, Isolation::Snapshot).await?;
    Ok(object(txn, bucket.id, key, Isolation::Snapshot).await?.ok_or(Refusal::NoSuchKey)?)
}

async fn inline<T: Transaction>(
    txn: &T,
    record: &ObjectRecord,
    isolation: Isolation,
) -> Result<Bytes, Failure> {
    let bytes = txn.get(&keyspace::inline(record.data), isolation).await?;
    let bytes = bytes.ok_or_else(|| damaged("an object's inline bytes are missing"))?;
    if u64::try_from(bytes.len()).ok() != Some(record.listed.size_bytes) {
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
