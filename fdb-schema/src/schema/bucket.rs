//! Buckets: create, look up, list, delete, and their exact usage.
//! Invariants: a bucket id is never reused; a bucket is deleted only when it holds no object, version or upload, and a
//! write that races the deletion conflicts with it.
//! Not here: what is in a bucket (`object`, `upload`).

use bytes::Bytes;
use shardstore_reactor::Executor;

use super::accounts::{self, AccountId};
use super::bucket_config::{ConfigKind, write_document};
use super::error::{Failure, Refusal};
use super::keyspace::{self, BucketId, Counter, KeyRange, UsageKind};
use super::record::{BucketRecord, Versioning, decode_counter};
use super::retry::{Metadata, rows, take};
use crate::{Engine, Isolation, Transaction};

/// Usage is kept in so many parts, by writer: adds from different cores rarely meet in one row of the log's batch.
const USAGE_PARTS: u32 = 32;

/// A bucket with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedBucket {
    /// Its name.
    pub name: String,
    /// The rest.
    pub record: BucketRecord,
}

/// What a bucket begins with.
#[derive(Clone, Debug, Default)]
pub struct NewBucket {
    /// Its versions can be locked; then versioning is enabled too.
    pub object_lock: bool,
    /// Its configuration.
    pub configs: Vec<(ConfigKind, Bytes)>,
}

/// What a bucket holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Objects.
    pub objects: u64,
    /// Sum of their lengths.
    pub bytes: u64,
}

impl<E: Engine, X: Executor> Metadata<E, X> {
    /// Creates a bucket. An owner that is no [`AccountId`] needs no account.
    ///
    /// # Errors
    /// [`Refusal::BucketExists`], [`Refusal::NoSuchAccount`], [`Failure::Engine`].
    pub async fn create_bucket(
        &self,
        name: &str,
        owner: &str,
        new: &NewBucket,
    ) -> Result<BucketRecord, Failure> {
        let created_ms = self.executor.unix_ms();
        self.write(async |txn| {
            let row_key = keyspace::bucket(name.as_bytes());
            if let Some(value) = txn.get(&row_key, Isolation::Serializable).await? {
                let owner = BucketRecord::decode(&value)?.owner;
                return Err(Refusal::BucketExists { owner }.into());
            }
            let id = BucketId(take(txn, Counter::Bucket, 1).await?);
            let mut record = BucketRecord::new(id, owner, created_ms);
            if new.object_lock {
                record.object_lock = true;
                record.versioning = Versioning::Enabled;
            }
            for (kind, document) in &new.configs {
                write_document(txn, id, *kind, document);
                record.config_generation = 1;
            }
            txn.set(&row_key, &record.encode());
            if let Some(account) = AccountId::parse(owner) {
                accounts::account(txn, account).await?;
                txn.set(&keyspace::owned_bucket(account, name.as_bytes()), b"");
            }
            Ok(record)
        })
        .await
    }

    /// Looks a bucket up.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Failure::Engine`].
    pub async fn bucket(&self, name: &str) -> Result<BucketRecord, Failure> {
        self.read(async |txn| bucket(txn, name, Isolation::Snapshot).await).await
    }

    /// Up to `limit` buckets of `owner` (of all, for `None`) whose names begin with `prefix` and follow `after`.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn list_buckets(
        &self,
        owner: Option<&str>,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<NamedBucket>, Failure> {
        if let Some(account) = owner.and_then(AccountId::parse) {
            return self.owned_buckets(account, prefix, after, limit).await;
        }
        self.read(async |txn| {
            let mut range = keyspace::buckets(prefix.as_bytes());
            if !after.is_empty() {
                range.begin = range.begin.max(successor(keyspace::bucket(after.as_bytes())));
            }
            let mut found = Vec::new();
            while found.len() < limit && range.begin < range.end {
                let page = rows(txn, &range, PAGE_ROWS, Isolation::Snapshot).await?;
                let is_last = page.len() < PAGE_ROWS;
                for row in page {
                    let record = BucketRecord::decode(&row.value)?;
                    if found.len() < limit && owner.is_none_or(|owner| owner == record.owner) {
                        let name = String::from_utf8_lossy(&row.key[1..]).into_owned();
                        found.push(NamedBucket { name, record });
                    }
                    range.begin = successor(row.key.to_vec());
                }
                if is_last {
                    break;
                }
            }
            Ok(found)
        })
        .await
    }

    /// As `list_buckets`, by the index of an account's buckets.
    async fn owned_buckets(
        &self,
        account: AccountId,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<NamedBucket>, Failure> {
        self.read(async |txn| {
            let mut range = keyspace::owned_buckets(account, prefix.as_bytes());
            if !after.is_empty() {
                range.begin = range.begin.max(successor(keyspace::owned_bucket(account, after.as_bytes())));
            }
            let mut found = Vec::new();
            while found.len() < limit && range.begin < range.end {
                let asked = PAGE_ROWS.min(limit - found.len());
                let page = rows(txn, &range, asked, Isolation::Snapshot).await?;
                let is_last = page.len() < asked;
                for row in page {
                    let name = keyspace::owned_bucket_of(&row.key).unwrap_or_default();
                    let name = String::from_utf8_lossy(name).into_owned();
                    let record = bucket(txn, &name, Isolation::Snapshot).await?;
                    found.push(NamedBucket { name, record });
                    range.begin = successor(row.key.to_vec());
                }
                if is_last {
                    break;
                }
            }
            Ok(found)
        })
        .await
    }

    /// Deletes an empty bucket.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::BucketNotEmpty`], [`Refusal::BucketHasUploads`], [`Failure::Engine`].
    pub async fn delete_bucket(&self, name: &str) -> Result<(), Failure> {
        self.write(async |txn| {
            let record = bucket(txn, name, Isolation::Serializable).await?;
            let contents = [
                (keyspace::objects(record.id, b""), Refusal::BucketNotEmpty),
                (keyspace::versions(record.id, b""), Refusal::BucketNotEmpty),
                (keyspace::uploads(record.id, b""), Refusal::BucketHasUploads),
            ];
            for (range, refusal) in contents {
                if !rows(txn, &range, 1, Isolation::Serializable).await?.is_empty() {
                    return Err(refusal.into());
                }
            }
            txn.clear(&keyspace::bucket(name.as_bytes()));
            if let Some(account) = AccountId::parse(&record.owner) {
                txn.clear(&keyspace::owned_bucket(account, name.as_bytes()));
            }
            for range in [keyspace::usages(record.id), keyspace::bucket_configs(record.id)] {
                txn.clear_range(&range.begin, &range.end);
            }
            Ok(())
        })
        .await
    }

    /// Exactly what a bucket holds.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Failure::Engine`].
    pub async fn usage(&self, name: &str) -> Result<Usage, Failure> {
        self.read(async |txn| {
            let id = bucket(txn, name, Isolation::Snapshot).await?.id;
            let objects = sum(txn, &keyspace::usage_of(id, UsageKind::Objects)).await?;
            let bytes = sum(txn, &keyspace::usage_of(id, UsageKind::Bytes)).await?;
            Ok(Usage { objects, bytes })
        })
        .await
    }

    /// Adds to a bucket's usage in the transaction that changes what it holds.
    pub(crate) fn add_usage(&self, txn: &mut E::Txn, bucket: BucketId, objects: i64, bytes: i64) {
        let writer = self.writer().map_or(0, |writer| writer.0);
        let part = u8::try_from(writer % USAGE_PARTS).expect("below 32");
        if objects != 0 {
            txn.atomic_add(&keyspace::usage(bucket, UsageKind::Objects, part), objects);
        }
        if bytes != 0 {
            txn.atomic_add(&keyspace::usage(bucket, UsageKind::Bytes, part), bytes);
        }
    }
}

const PAGE_ROWS: usize = 1_000;

/// The first key after `key`.
pub(crate) fn successor(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

/// A bucket's row. Serializable for writers: they then conflict with the bucket's deletion.
pub(crate) async fn bucket<T: Transaction>(
    txn: &T,
    name: &str,
    isolation: Isolation,
) -> Result<BucketRecord, Failure> {
    let value: Option<Bytes> = txn.get(&keyspace::bucket(name.as_bytes()), isolation).await?;
    Ok(BucketRecord::decode(&value.ok_or(Refusal::NoSuchBucket)?)?)
}

/// A bucket that keeps no versions and never did; for writers.
pub(crate) async fn unversioned<T: Transaction>(txn: &T, name: &str) -> Result<BucketId, Failure> {
    let bucket = bucket(txn, name, Isolation::Serializable).await?;
    if bucket.versioning == Versioning::Never { Ok(bucket.id) } else { Err(Refusal::KeepsVersions.into()) }
}

/// The sum of a range of atomic counters; parts may be negative, the sum is not.
async fn sum<T: Transaction>(txn: &T, range: &KeyRange) -> Result<u64, Failure> {
    let parts = rows(txn, range, 256, Isolation::Snapshot).await?;
    let mut sum = 0u64;
    for part in parts {
        sum = sum.wrapping_add(decode_counter("usage", Some(&part.value))?);
    }
    Ok(sum)
}
