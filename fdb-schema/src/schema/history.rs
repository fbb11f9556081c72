//! A key's history: its current object, the versions that it hides, and delete markers, as writes and deletes change them.
//! Invariants: the object row is the newest version of its key; a key without one has a delete marker as its newest
//! version row, or none; of a key's null versions there is at most one, and a null-version row names it exactly when it
//! is among the version rows; what is locked is never removed; every change reads and writes a bounded number of rows.
//! Not here: conditions and bytes (`object`, `upload`), listing (`list_versions`). Why: docs/why/versions.md.

use shardstore_reactor::Executor;

use super::bucket::bucket;
use super::data::{drop_reference, signed};
use super::error::{Failure, Refusal, damaged};
use super::keyspace::{self, BucketId};
use super::object::{DeleteCondition, object};
use super::record::{BucketRecord, ObjectRecord, Versioning, decode_counter};
use super::retry::{Metadata, rows};
use super::version::{DeleteMarker, Version, VersionId, VersionRecord};
use crate::{Engine, Isolation, Transaction};

/// An object as an operation found or left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundObject {
    /// The version.
    pub record: ObjectRecord,
    /// Its id as clients see it; `None` in a bucket whose versioning was never set.
    pub version: Option<VersionId>,
}

impl FoundObject {
    pub(crate) fn of(bucket: &BucketRecord, record: ObjectRecord) -> FoundObject {
        let version = shown(bucket, record.listed.version);
        FoundObject { record, version }
    }
}

/// The id of a version as clients of its bucket see it.
pub(crate) fn shown(bucket: &BucketRecord, version: Version) -> Option<VersionId> {
    (bucket.versioning != Versioning::Never).then(|| version.id())
}

/// What a delete did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// There was something to delete.
    pub existed: bool,
    /// The delete marker that was made, or the version that was asked for.
    pub version: Option<VersionId>,
    /// Whether that is a delete marker.
    pub is_marker: bool,
}

/// One delete.
#[derive(Clone, Debug, Default)]
pub struct Delete<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// The version to remove; `None`: the current one, which a bucket with versioning hides behind a marker.
    pub version: Option<VersionId>,
    /// If what holds of what it deletes.
    pub condition: DeleteCondition,
    /// Whoever asks may bypass governance, and does.
    pub bypass_governance: bool,
}

impl<E: Engine, X: Executor> Metadata<E, X> {
    /// Makes `new` the newest version of a key, and accounts for what it replaces. `old` is the object row.
    pub(crate) async fn replace(
        &self,
        txn: &mut E::Txn,
        bucket: &BucketRecord,
        key: &[u8],
        old: Option<ObjectRecord>,
        new: &mut ObjectRecord,
    ) -> Result<(), Failure> {
        let now_ms = new.listed.modified_ms;
        if bucket.versioning == Versioning::Never {
            new.listed.version = Version::UNVERSIONED;
            if let Some(old) = &old {
                self.discard(txn, bucket.id, old, now_ms).await?;
            }
        } else {
            new.listed.version = self.next_version(txn, bucket, key, old.as_ref(), now_ms).await?;
            self.make_way(txn, bucket, key, old, now_ms).await?;
        }
        txn.set(&keyspace::object(bucket.id, key), &new.encode());
        self.add_usage(txn, bucket.id, 1, signed(new.listed.size_bytes));
        Ok(())
    }

    /// One delete, with its condition.
    pub(crate) async fn delete_in(
        &self,
        txn: &mut E::Txn,
        bucket: &BucketRecord,
        delete: &Delete<'_>,
        now_ms: u64,
    ) -> Result<Deleted, Failure> {
        if let Some(id) = delete.version {
            return self.remove_version(txn, bucket, delete, id, now_ms).await;
        }
        let key = delete.key;
        let old = object(txn, bucket.id, key, Isolation::Serializable).await?;
        if old.is_none() && delete.condition.if_match.is_some() {
            return Err(nothing_to_match(txn, bucket, key).await?.into());
        }
        delete.condition.check(old.as_ref())?;
        let existed = old.is_some();
        if bucket.versioning != Versioning::Never {
            let version = self.next_version(txn, bucket, key, old.as_ref(), now_ms).await?;
            self.make_way(txn, bucket, key, old, now_ms).await?;
            hide(txn, bucket.id, key, &VersionRecord::Marker(DeleteMarker { version, modified_ms: now_ms }));
            txn.clear(&keyspace::object(bucket.id, key));
            return Ok(Deleted { existed, version: Some(version.id()), is_marker: true });
        }
        if let Some(old) = &old {
            self.discard(txn, bucket.id, old, now_ms).await?;
            txn.clear(&keyspace::object(bucket.id, key));
        }
        Ok(Deleted { existed, version: None, is_marker: false })
    }

    /// The place of a new version: after all others of its key.
    async fn next_version(
        &self,
        txn: &E::Txn,
        bucket: &BucketRecord,
        key: &[u8],
        current: Option<&ObjectRecord>,
        now_ms: u64,
    ) -> Result<Version, Failure> {
        let newest = match current {
            Some(current) => Some(current.listed.version.count),
            None => newest_hidden(txn, bucket.id, key, Isolation::Serializable)
                .await?
                .map(|newest| newest.version().count),
        };
        let after = newest.map_or(Some(0), |newest| newest.checked_add(1));
        let after = after.ok_or_else(|| damaged("the versions of a key are used up"))?;
        let is_named = bucket.versioning == Versioning::Enabled;
        let nonce = is_named.then(|| self.executor.random_u64());
        Ok(Version { count: now_ms.saturating_mul(1_000).max(after), nonce })
    }

    /// The current version goes among the older ones; in a suspended bucket the null version goes for good.
    async fn make_way(
        &self,
        txn: &mut E::Txn,
        bucket: &BucketRecord,
        key: &[u8],
        old: Option<ObjectRecord>,
        now_ms: u64,
    ) -> Result<(), Failure> {
        if bucket.versioning == Versioning::Suspended {
            if let Some(old) = old.as_ref().filter(|old| old.listed.version.is_null()) {
                // The only null version: none is among the version rows.
                return self.discard_unlocked(txn, bucket.id, old, now_ms, false).await;
            }
            // First, since what is locked refuses, and a refused delete of many leaves the others.
            if let Some(null) = hidden_null(txn, bucket.id, key, Isolation::Serializable).await? {
                if let VersionRecord::Object(record) = &null {
                    self.discard_unlocked(txn, bucket.id, record, now_ms, false).await?;
                }
                unhide(txn, bucket.id, key, null.version());
            }
        }
        if let Some(old) = old {
            hide(txn, bucket.id, key, &VersionRecord::Object(old));
        }
        Ok(())
    }

    /// Removes one version for good; the newest of those that are left becomes current, if it is an object.
    async fn remove_version(
        &self,
        txn: &mut E::Txn,
        bucket: &BucketRecord,
        delete: &Delete<'_>,
        id: VersionId,
        now_ms: u64,
    ) -> Result<Deleted, Failure> {
        let (key, bypass) = (delete.key, delete.bypass_governance);
        let current = object(txn, bucket.id, key, Isolation::Serializable).await?;
        if let Some(current) = current.as_ref().filter(|current| current.listed.version.id() == id) {
            delete.condition.check(Some(current))?;
            self.discard_unlocked(txn, bucket.id, current, now_ms, bypass).await?;
            txn.clear(&keyspace::object(bucket.id, key));
            restore_newest(txn, bucket, key).await?;
            return Ok(Deleted { existed: true, version: Some(id), is_marker: false });
        }
        let found = match bucket.versioning {
            Versioning::Never => None,
            Versioning::Enabled | Versioning::Suspended => {
                hidden(txn, bucket.id, key, id, Isolation::Serializable).await?
            }
        };
        if found.is_none() && delete.condition.if_match.is_some() {
            return Err(Refusal::NoSuchVersion.into());
        }
        delete.condition.check(found.as_ref().and_then(VersionRecord::object))?;
        let Some(found) = found else {
            return Ok(Deleted { existed: false, version: Some(id), is_marker: false });
        };
        if let VersionRecord::Object(record) = &found {
            self.discard_unlocked(txn, bucket.id, record, now_ms, bypass).await?;
        }
        unhide(txn, bucket.id, key, found.version());
        if current.is_none() {
            restore_newest(txn, bucket, key).await?;
        }
        Ok(Deleted { existed: true, version: Some(id), is_marker: found.object().is_none() })
    }

    /// As `discard`, of a version that may be locked.
    async fn discard_unlocked(
        &self,
        txn: &mut E::Txn,
        bucket: BucketId,
        record: &ObjectRecord,
        now_ms: u64,
        bypass_governance: bool,
    ) -> Result<(), Failure> {
        if !record.lock.permits_removal(now_ms, bypass_governance) {
            return Err(Refusal::Locked.into());
        }
        self.discard(txn, bucket, record, now_ms).await
    }

    /// A version's row goes or is written over: its bytes have one name less.
    async fn discard(
        &self,
        txn: &mut E::Txn,
        bucket: BucketId,
        record: &ObjectRecord,
        now_ms: u64,
    ) -> Result<(), Failure> {
        drop_reference(txn, record, now_ms).await?;
        self.add_usage(txn, bucket, -1, -signed(record.listed.size_bytes));
        Ok(())
    }

    /// Changes what a version says of itself, not its bytes, wherever its row is; the id as clients see it.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::NoSuchKey`], [`Refusal::NoSuchVersion`], [`Refusal::DeleteMarker`], what
    /// `change` refuses with, [`Failure::Engine`].
    pub(crate) async fn change_version(
        &self,
        bucket_name: &str,
        key: &[u8],
        version: Option<VersionId>,
        change: impl Fn(&BucketRecord, &mut ObjectRecord) -> Result<(), Failure>,
    ) -> Result<Option<VersionId>, Failure> {
        self.write(async |txn| {
            let bucket = bucket(txn, bucket_name, Isolation::Serializable).await?;
            let current = object(txn, bucket.id, key, Isolation::Serializable).await?;
            let current = current.map(|record| record.listed.version);
            let mut record = find(txn, &bucket, key, version, Isolation::Serializable).await?;
            change(&bucket, &mut record)?;
            let version = record.listed.version;
            if current == Some(version) {
                txn.set(&keyspace::object(bucket.id, key), &record.encode());
            } else {
                let row_key = keyspace::version(bucket.id, key, version.count);
                txn.set(&row_key, &VersionRecord::Object(record).encode());
            }
            Ok(shown(&bucket, version))
        })
        .await
    }
}

/// The version that a request names, or the current one.
///
/// # Errors
/// [`Refusal::NoSuchKey`], [`Refusal::NoSuchVersion`], [`Refusal::DeleteMarker`], [`Failure::Engine`].
pub(crate) async fn find<T: Transaction>(
    txn: &T,
    bucket: &BucketRecord,
    key: &[u8],
    version: Option<VersionId>,
    isolation: Isolation,
) -> Result<ObjectRecord, Failure> {
    let current = object(txn, bucket.id, key, isolation).await?;
    let is_asked = |current: &ObjectRecord| version.is_none_or(|id| current.listed.version.id() == id);
    if let Some(current) = current.filter(is_asked) {
        return Ok(current);
    }
    let (missing, is_current) = match version {
        None => (Refusal::NoSuchKey, true),
        Some(_) => (Refusal::NoSuchVersion, false),
    };
    let found = match (bucket.versioning, version) {
        (Versioning::Never, _) => None,
        (_, None) => newest_hidden(txn, bucket.id, key, isolation).await?,
        (_, Some(id)) => hidden(txn, bucket.id, key, id, isolation).await?,
    };
    match found {
        Some(VersionRecord::Object(record)) if !is_current => Ok(record),
        Some(VersionRecord::Object(_)) => Err(damaged("the newest version of a key is not its object row")),
        Some(VersionRecord::Marker(marker)) => {
            let DeleteMarker { version, modified_ms } = marker;
            Err(Refusal::DeleteMarker { version: version.id(), modified_ms, is_current }.into())
        }
        None => Err(missing.into()),
    }
}

/// Why `If-Match` of a delete does not hold where there is no object: none ever was, or a delete marker hides it.
async fn nothing_to_match<T: Transaction>(
    txn: &T,
    bucket: &BucketRecord,
    key: &[u8],
) -> Result<Refusal, Failure> {
    let newest = match bucket.versioning {
        Versioning::Never => None,
        Versioning::Enabled | Versioning::Suspended => {
            newest_hidden(txn, bucket.id, key, Isolation::Serializable).await?
        }
    };
    Ok(newest.map_or(Refusal::NoSuchKey, |_| Refusal::PreconditionFailed))
}

/// A version among the version rows.
async fn hidden<T: Transaction>(
    txn: &T,
    bucket: BucketId,
    key: &[u8],
    id: VersionId,
    isolation: Isolation,
) -> Result<Option<VersionRecord>, Failure> {
    let VersionId::Named { count, .. } = id else { return hidden_null(txn, bucket, key, isolation).await };
    let value = txn.get(&keyspace::version(bucket, key, count), isolation).await?;
    let found = value.as_ref().map(VersionRecord::decode).transpose()?;
    Ok(found.filter(|found| found.version().id() == id))
}

/// The null version, if it is among the version rows.
async fn hidden_null<T: Transaction>(
    txn: &T,
    bucket: BucketId,
    key: &[u8],
    isolation: Isolation,
) -> Result<Option<VersionRecord>, Failure> {
    let Some(count) = hidden_null_count(txn, bucket, key, isolation).await? else { return Ok(None) };
    let value = txn.get(&keyspace::version(bucket, key, count), isolation).await?;
    let found = value.as_ref().map(VersionRecord::decode).transpose()?;
    let found = found.filter(|found| found.version() == Version { count, nonce: None });
    Ok(Some(found.ok_or_else(|| damaged("a null version is not where its row says"))?))
}

/// Where the null version stands, if it is among the version rows.
pub(crate) async fn hidden_null_count<T: Transaction>(
    txn: &T,
    bucket: BucketId,
    key: &[u8],
    isolation: Isolation,
) -> Result<Option<u64>, Failure> {
    let place = txn.get(&keyspace::null_version(bucket, key), isolation).await?;
    Ok(place.map(|place| decode_counter("null version", Some(&place))).transpose()?)
}

/// The newest of the version rows of a key.
async fn newest_hidden<T: Transaction>(
    txn: &T,
    bucket: BucketId,
    key: &[u8],
    isolation: Isolation,
) -> Result<Option<VersionRecord>, Failure> {
    let found = rows(txn, &keyspace::versions_of(bucket, key), 1, isolation).await?;
    Ok(found.first().map(|row| VersionRecord::decode(&row.value)).transpose()?)
}

/// Puts a version among the version rows.
fn hide<T: Transaction>(txn: &mut T, bucket: BucketId, key: &[u8], record: &VersionRecord) {
    let version = record.version();
    txn.set(&keyspace::version(bucket, key, version.count), &record.encode());
    if version.is_null() {
        txn.set(&keyspace::null_version(bucket, key), &version.count.to_le_bytes());
    }
}

/// Takes a version from the version rows.
fn unhide<T: Transaction>(txn: &mut T, bucket: BucketId, key: &[u8], version: Version) {
    txn.clear(&keyspace::version(bucket, key, version.count));
    if version.is_null() {
        txn.clear(&keyspace::null_version(bucket, key));
    }
}

/// The object row of a key is gone: the newest version that is left takes its place, unless it is a marker.
async fn restore_newest<T: Transaction>(
    txn: &mut T,
    bucket: &BucketRecord,
    key: &[u8],
) -> Result<(), Failure> {
    if bucket.versioning == Versioning::Never {
        return Ok(());
    }
    let newest = newest_hidden(txn, bucket.id, key, Isolation::Serializable).await?;
    if let Some(VersionRecord::Object(record)) = newest {
        unhide(txn, bucket.id, key, record.listed.version);
        txn.set(&keyspace::object(bucket.id, key), &record.encode());
    }
    Ok(())
}
