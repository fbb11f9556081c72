//! Listing of versions: every object, older version and delete marker, by key and then the newest first.
//! Invariants: object rows and version rows are read as one sequence, in which the object row of a key comes first; an
//! entry is a version or a common prefix; a page begins exactly after its marker, also when what that named is gone; a
//! common prefix costs two seeks however much is under it.
//! Not here: listing of current objects (`list`), how pages look to a client (`server`).

use std::collections::VecDeque;

use bytes::Bytes;
use shardstore_reactor::Executor;

use super::bucket::{bucket, successor};
use super::error::{Failure, damaged};
use super::history::hidden_null_count;
use super::keyspace::{self, BucketId, KeyRange};
use super::list::{BATCH_MAX_ROWS, BATCH_MIN_ROWS, ListQuery, common_prefix};
use super::object::object;
use super::record::{ListedRecord, ObjectRecord};
use super::retry::{Metadata, rows};
use super::value::owner_of_list;
use super::version::{DeleteMarker, VersionId, VersionRecord};
use crate::{Engine, Isolation, Row, Transaction};

/// Rows of a first read: of one of the two sequences, and a delimiter may skip most of them.
const BATCH_FIRST_ROWS: usize = 32;

/// Where a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterVersion<'a> {
    /// With the first version of all.
    Nothing,
    /// After all versions of this key, or after this common prefix.
    Key(&'a [u8]),
    /// After this version of this key.
    Version(&'a [u8], VersionId),
}

/// A version in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedVersion {
    /// What it is.
    pub kind: ListedKind,
    /// Whether it is the newest of its key.
    pub is_latest: bool,
    /// The owner that an object's access list names, if the listing tells owners.
    pub owner: Option<Bytes>,
}

/// What is listed as a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListedKind {
    /// An object.
    Object(ListedRecord),
    /// A delete marker.
    Marker(DeleteMarker),
}

impl ListedVersion {
    /// Its id.
    pub fn id(&self) -> VersionId {
        match &self.kind {
            ListedKind::Object(listed) => listed.version.id(),
            ListedKind::Marker(marker) => marker.version.id(),
        }
    }

    /// Where it stands, as an id that leads here even after the version is gone: `null` alone says no place.
    pub fn place(&self) -> VersionId {
        let version = match &self.kind {
            ListedKind::Object(listed) => listed.version,
            ListedKind::Marker(marker) => marker.version,
        };
        VersionId::Named { count: version.count, nonce: version.nonce.unwrap_or(0) }
    }
}

/// A page of versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionPage {
    /// Versions with their keys, in order.
    pub items: Vec<(Bytes, ListedVersion)>,
    /// Rolled-up prefixes, in order.
    pub common_prefixes: Vec<Bytes>,
    /// If entries follow: the last entry of this page. A version is said by its place.
    pub next: Option<(Bytes, Option<VersionId>)>,
}

impl<E: Engine, X: Executor> Metadata<E, X> {
    /// Versions and common prefixes after `after`.
    ///
    /// # Errors
    /// [`super::Refusal::NoSuchBucket`], [`Failure::Engine`].
    pub async fn list_versions(
        &self,
        bucket_name: &str,
        query: ListQuery<'_>,
        after: AfterVersion<'_>,
    ) -> Result<VersionPage, Failure> {
        self.versions_page(bucket_name, query, after, false).await
    }

    /// The same with the owner that each object's access list names. Cost: the same reads; rows are decoded whole.
    ///
    /// # Errors
    /// The same.
    pub async fn list_owned_versions(
        &self,
        bucket_name: &str,
        query: ListQuery<'_>,
        after: AfterVersion<'_>,
    ) -> Result<VersionPage, Failure> {
        self.versions_page(bucket_name, query, after, true).await
    }

    async fn versions_page(
        &self,
        bucket_name: &str,
        query: ListQuery<'_>,
        after: AfterVersion<'_>,
        with_owners: bool,
    ) -> Result<VersionPage, Failure> {
        self.read(async |txn| {
            let bucket = bucket(txn, bucket_name, Isolation::Snapshot).await?.id;
            let mut walk = Walk::begin(txn, bucket, &query, after).await?;
            walk.with_owners = with_owners;
            let mut page = VersionPage::default();
            if query.limit == 0 {
                return Ok(page);
            }
            while let Some((key, item)) = walk.next(&query).await? {
                if page.items.len() + page.common_prefixes.len() == query.limit {
                    page.next = page.last();
                    break;
                }
                match common_prefix(&query, &key) {
                    Some(len) => {
                        walk.skip(&key[..len]);
                        page.common_prefixes.push(key.slice(..len));
                    }
                    None => page.items.push((key, item)),
                }
            }
            Ok(page)
        })
        .await
    }

    /// Whole version rows from the row after `after` on, at most `limit`, each with its key and count as the row's key has
    /// them: for those who look at every version. Object rows are not among them ([`Metadata::scan_objects`]).
    ///
    /// # Errors
    /// [`super::Refusal::NoSuchBucket`], [`Failure::Engine`].
    pub async fn scan_versions(
        &self,
        bucket_name: &str,
        after: Option<(&[u8], u64)>,
        limit: usize,
    ) -> Result<Vec<((Bytes, u64), VersionRecord)>, Failure> {
        self.read(async |txn| {
            let bucket = bucket(txn, bucket_name, Isolation::Snapshot).await?.id;
            let mut range = keyspace::versions(bucket, b"");
            if let Some((key, count)) = after {
                range.begin = successor(keyspace::version(bucket, key, count));
            }
            let found = rows(txn, &range, limit, Isolation::Snapshot).await?;
            found.iter().map(|row| Ok((version_key(row)?, VersionRecord::decode(&row.value)?))).collect()
        })
        .await
    }
}

impl VersionPage {
    /// The greater of the last version's key and the last common prefix.
    fn last(&self) -> Option<(Bytes, Option<VersionId>)> {
        let version = self.items.last().map(|(key, item)| (key.clone(), Some(item.place())));
        let prefix = self.common_prefixes.last().map(|prefix| (prefix.clone(), None));
        match (version, prefix) {
            (Some(version), Some(prefix)) => Some(if version.0 > prefix.0 { version } else { prefix }),
            (version, prefix) => version.or(prefix),
        }
    }
}

/// Object rows and version rows of a bucket as one sequence.
struct Walk<'t, T> {
    bucket: BucketId,
    objects: Rows<'t, T>,
    versions: Rows<'t, T>,
    /// The key that the last entry was of, so that the next one of it is known not to be the newest.
    last_key: Option<Bytes>,
    /// Whether entries tell their owners.
    with_owners: bool,
}

impl<'t, T: Transaction> Walk<'t, T> {
    async fn begin(
        txn: &'t T,
        bucket: BucketId,
        query: &ListQuery<'_>,
        after: AfterVersion<'_>,
    ) -> Result<Walk<'t, T>, Failure> {
        let objects = Rows::of(txn, keyspace::objects(bucket, query.prefix));
        let versions = Rows::of(txn, keyspace::versions(bucket, query.prefix));
        let mut walk = Walk { bucket, objects, versions, last_key: None, with_owners: false };
        let marker_key = match after {
            AfterVersion::Nothing => return Ok(walk),
            AfterVersion::Key(key) | AfterVersion::Version(key, _) => key,
        };
        if let Some(len) = common_prefix(query, marker_key) {
            // Inside a common prefix, or that prefix itself: it does not sort after the marker.
            walk.skip(&marker_key[..len]);
            return Ok(walk);
        }
        match after {
            AfterVersion::Version(key, id) => walk.begin_after(txn, key, id).await?,
            AfterVersion::Nothing | AfterVersion::Key(_) => {
                walk.objects.skip_to(successor(keyspace::object(bucket, marker_key)));
                walk.versions.skip_to(keyspace::versions_of(bucket, marker_key).end);
            }
        }
        Ok(walk)
    }

    /// Begins after a version of a key: with those of it that are older.
    async fn begin_after(&mut self, txn: &T, key: &[u8], id: VersionId) -> Result<(), Failure> {
        let current = object(txn, self.bucket, key, Isolation::Snapshot).await?;
        let current = current.map(|record| record.listed.version);
        let count = match id {
            VersionId::Named { count, .. } => Some(count),
            VersionId::Null => match current.filter(|version| version.is_null()) {
                Some(version) => Some(version.count),
                None => hidden_null_count(txn, self.bucket, key, Isolation::Snapshot).await?,
            },
        };
        // The null version is gone, and with it where it was: rather a version twice than one left out.
        let Some(count) = count else {
            self.objects.skip_to(keyspace::object(self.bucket, key));
            self.versions.skip_to(keyspace::versions_of(self.bucket, key).begin);
            return Ok(());
        };
        // An object row that stands at or before the marker was listed; a newer one came later and is not listed
        // either; an older one became current when what was newer went.
        if current.is_some_and(|version| version.count < count) {
            self.objects.skip_to(keyspace::object(self.bucket, key));
        } else {
            self.objects.skip_to(successor(keyspace::object(self.bucket, key)));
            let is_hidden = current.is_some()
                || newest_count(txn, self.bucket, key).await?.is_some_and(|newest| newest >= count);
            self.last_key = is_hidden.then(|| Bytes::copy_from_slice(key));
        }
        self.versions.skip_to(successor(keyspace::version(self.bucket, key, count)));
        Ok(())
    }

    /// The next entry's key and what it is.
    async fn next(&mut self, query: &ListQuery<'_>) -> Result<Option<(Bytes, ListedVersion)>, Failure> {
        let object_key = self.objects.peek(query).await?.map(|row| keyspace::object_key_of(&row.key));
        let version_key = self.versions.peek(query).await?.map(version_key).transpose()?;
        let is_object = match (&object_key, &version_key) {
            (None, None) => return Ok(None),
            (Some(object), Some((version, _))) => object <= version,
            (object, _) => object.is_some(),
        };
        let (key, (kind, owner)) = if is_object {
            let row = self.objects.take();
            let (key, row) = object_key.zip(row).ok_or_else(|| damaged("a listing lost its row"))?;
            let entry = match self.with_owners {
                true => entry_of(VersionRecord::Object(ObjectRecord::decode(&row.value)?)),
                false => (ListedKind::Object(ListedRecord::decode(&row.value)?), None),
            };
            (key, entry)
        } else {
            let row = self.versions.take();
            let ((key, _), row) = version_key.zip(row).ok_or_else(|| damaged("a listing lost its row"))?;
            (key, entry_of(VersionRecord::decode(&row.value)?))
        };
        let is_latest = self.last_key.as_ref() != Some(&key);
        self.last_key = Some(key.clone());
        let owner = owner.filter(|_| self.with_owners);
        Ok(Some((key, ListedVersion { kind, is_latest, owner })))
    }

    /// Passes everything under a common prefix.
    fn skip(&mut self, prefix: &[u8]) {
        self.objects.skip_to(keyspace::objects(self.bucket, prefix).end);
        self.versions.skip_to(keyspace::versions(self.bucket, prefix).end);
    }
}

/// One range, read in batches.
struct Rows<'t, T> {
    txn: &'t T,
    range: KeyRange,
    batch: VecDeque<Row>,
    batch_rows: usize,
    /// The last batch was the end of the range.
    is_whole: bool,
    passed_rows: usize,
}

impl<'t, T: Transaction> Rows<'t, T> {
    fn of(txn: &'t T, range: KeyRange) -> Rows<'t, T> {
        let batch_rows = BATCH_FIRST_ROWS;
        Rows { txn, range, batch: VecDeque::new(), batch_rows, is_whole: false, passed_rows: 0 }
    }

    /// Goes on at `begin` or, if that is behind, where it is.
    fn skip_to(&mut self, begin: Vec<u8>) {
        while self.batch.front().is_some_and(|row| row.key < begin) {
            self.batch.pop_front();
            self.passed_rows += 1;
        }
        if begin > self.range.begin {
            self.range.begin = begin;
        }
    }

    async fn peek(&mut self, query: &ListQuery<'_>) -> Result<Option<&Row>, Failure> {
        if self.batch.is_empty() && !self.is_whole && self.range.begin < self.range.end {
            let asked = self.batch_rows.min(query.limit.saturating_add(1));
            self.batch = rows(self.txn, &self.range, asked, Isolation::Snapshot).await?.into();
            self.is_whole = self.batch.len() < asked;
            if let Some(last) = self.batch.back() {
                self.range.begin = successor(last.key.to_vec());
            }
            // Batches that were mostly passed over get smaller, others larger.
            self.batch_rows = if self.passed_rows * 2 > asked {
                (asked / 4).max(BATCH_MIN_ROWS)
            } else {
                (asked * 2).min(BATCH_MAX_ROWS)
            };
            self.passed_rows = 0;
        }
        Ok(self.batch.front())
    }

    fn take(&mut self) -> Option<Row> {
        self.batch.pop_front()
    }
}

/// Where the newest of a key's version rows stands.
async fn newest_count<T: Transaction>(txn: &T, bucket: BucketId, key: &[u8]) -> Result<Option<u64>, Failure> {
    let found = rows(txn, &keyspace::versions_of(bucket, key), 1, Isolation::Snapshot).await?;
    Ok(found.first().map(version_key).transpose()?.map(|(_, count)| count))
}

fn version_key(row: &Row) -> Result<(Bytes, u64), Failure> {
    let (key, count) =
        keyspace::version_of(&row.key).ok_or_else(|| damaged("a version row has a malformed key"))?;
    Ok((Bytes::from(key), count))
}

/// What is listed of a version, and the owner that its access list names.
fn entry_of(record: VersionRecord) -> (ListedKind, Option<Bytes>) {
    match record {
        VersionRecord::Object(ObjectRecord { listed, headers, .. }) => {
            (ListedKind::Object(listed), owner_of_list(&headers))
        }
        VersionRecord::Marker(marker) => (ListedKind::Marker(marker), None),
    }
}
