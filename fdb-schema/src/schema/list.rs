//! Listing of objects and uploads: prefix, delimiter, marker, page.
//! Invariants: an entry is a key or a common prefix, and every entry of a page sorts after the marker; a common prefix
//! costs one seek however much is under it; a page without common prefixes reads one row more than it shows.
//! Not here: how pages and tokens look to a client (`server`).

use bytes::Bytes;
use shardstore_reactor::Executor;

use super::bucket::{bucket, successor};
use super::error::{Failure, damaged};
use super::keyspace::{self, BucketId, KeyRange, UploadKey};
use super::record::{ListedRecord, ObjectRecord, UploadRecord};
use super::retry::{Metadata, rows};
use super::value::owner_of_list;
use crate::{Engine, Isolation, Row, Transaction};

/// Rows of a first read when a delimiter may skip most of what follows.
const BATCH_FIRST_ROWS: usize = 32;
/// After batches that were mostly skipped: a row to see the next prefix, and one to see past it.
pub(super) const BATCH_MIN_ROWS: usize = 2;
/// The most rows of one read.
pub(super) const BATCH_MAX_ROWS: usize = 1_001;

/// Which entries.
#[derive(Clone, Copy, Debug)]
pub struct ListQuery<'a> {
    /// Only keys that begin so.
    pub prefix: &'a [u8],
    /// Keys that hold it after the prefix are rolled up; not empty.
    pub delimiter: Option<&'a [u8]>,
    /// At most so many entries.
    pub limit: usize,
}

/// A page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<I> {
    /// Items with their keys, in order.
    pub items: Vec<(Bytes, I)>,
    /// Rolled-up prefixes, in order.
    pub common_prefixes: Vec<Bytes>,
    /// Whether entries follow.
    pub is_truncated: bool,
}

impl<E: Engine, X: Executor> Metadata<E, X> {
    /// Objects and common prefixes that sort after `after`.
    ///
    /// # Errors
    /// [`super::Refusal::NoSuchBucket`], [`Failure::Engine`].
    pub async fn list_objects(
        &self,
        bucket_name: &str,
        query: ListQuery<'_>,
        after: &[u8],
    ) -> Result<Page<ListedRecord>, Failure> {
        self.read(async |txn| {
            let kind = Objects(bucket(txn, bucket_name, Isolation::Snapshot).await?.id);
            let begin = begin_after(&kind, &query, after, None);
            walk(txn, &kind, &query, begin).await
        })
        .await
    }

    /// The same with the owner that each object's access list names. Cost: the same reads; rows are decoded whole.
    ///
    /// # Errors
    /// The same.
    pub async fn list_owned_objects(
        &self,
        bucket_name: &str,
        query: ListQuery<'_>,
        after: &[u8],
    ) -> Result<Page<(ListedRecord, Option<Bytes>)>, Failure> {
        self.read(async |txn| {
            let kind = Decoded(Objects(bucket(txn, bucket_name, Isolation::Snapshot).await?.id), |record| {
                let owner = owner_of_list(&record.headers);
                (record.listed, owner)
            });
            let begin = begin_after(&kind, &query, after, None);
            walk(txn, &kind, &query, begin).await
        })
        .await
    }

    /// The same with whole rows.
    ///
    /// # Errors
    /// The same.
    pub async fn list_whole_objects(
        &self,
        bucket_name: &str,
        query: ListQuery<'_>,
        after: &[u8],
    ) -> Result<Page<ObjectRecord>, Failure> {
        self.read(async |txn| {
            let kind =
                Decoded(Objects(bucket(txn, bucket_name, Isolation::Snapshot).await?.id), |record| record);
            let begin = begin_after(&kind, &query, after, None);
            walk(txn, &kind, &query, begin).await
        })
        .await
    }

    /// Whole rows of objects whose keys sort after `after`, at most `limit`: for those who look at every object.
    ///
    /// # Errors
    /// [`super::Refusal::NoSuchBucket`], [`Failure::Engine`].
    pub async fn scan_objects(
        &self,
        bucket_name: &str,
        after: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, ObjectRecord)>, Failure> {
        self.read(async |txn| {
            let kind = Objects(bucket(txn, bucket_name, Isolation::Snapshot).await?.id);
            let mut range = kind.starting_with(&[]);
            if !after.is_empty() {
                range.begin = kind.after(after, None);
            }
            let found = rows(txn, &range, limit, Isolation::Snapshot).await?;
            found.iter().map(|row| Ok((kind.key_of(row)?, ObjectRecord::decode(&row.value)?))).collect()
        })
        .await
    }

    /// Uploads and common prefixes that sort after the key `after`, and those of that key after `after_upload`.
    ///
    /// # Errors
    /// [`super::Refusal::NoSuchBucket`], [`Failure::Engine`].
    pub async fn list_uploads(
        &self,
        bucket_name: &str,
        query: ListQuery<'_>,
        after: &[u8],
        after_upload: Option<UploadKey>,
    ) -> Result<Page<(UploadKey, UploadRecord)>, Failure> {
        self.read(async |txn| {
            let kind = Uploads(bucket(txn, bucket_name, Isolation::Snapshot).await?.id);
            let begin = begin_after(&kind, &query, after, after_upload);
            walk(txn, &kind, &query, begin).await
        })
        .await
    }
}

/// A kind of rows that sort by an object key.
trait Kind {
    type Item;
    /// Rows whose object keys begin with `prefix`.
    fn starting_with(&self, prefix: &[u8]) -> KeyRange;
    /// The first row key after the marker.
    fn after(&self, key: &[u8], upload: Option<UploadKey>) -> Vec<u8>;
    /// The object key of a row.
    fn key_of(&self, row: &Row) -> Result<Bytes, Failure>;
    /// The item of a row.
    fn item_of(&self, row: &Row) -> Result<Self::Item, Failure>;
}

struct Objects(BucketId);

impl Kind for Objects {
    type Item = ListedRecord;

    fn starting_with(&self, prefix: &[u8]) -> KeyRange {
        keyspace::objects(self.0, prefix)
    }

    fn after(&self, key: &[u8], _upload: Option<UploadKey>) -> Vec<u8> {
        successor(keyspace::object(self.0, key))
    }

    fn key_of(&self, row: &Row) -> Result<Bytes, Failure> {
        Ok(keyspace::object_key_of(&row.key))
    }

    fn item_of(&self, row: &Row) -> Result<ListedRecord, Failure> {
        Ok(ListedRecord::decode(&row.value)?)
    }
}

/// Objects of which more is told than a listing needs: whole rows are decoded.
struct Decoded<T>(Objects, fn(ObjectRecord) -> T);

impl<T> Kind for Decoded<T> {
    type Item = T;

    fn starting_with(&self, prefix: &[u8]) -> KeyRange {
        self.0.starting_with(prefix)
    }

    fn after(&self, key: &[u8], upload: Option<UploadKey>) -> Vec<u8> {
        self.0.after(key, upload)
    }

    fn key_of(&self, row: &Row) -> Result<Bytes, Failure> {
        self.0.key_of(row)
    }

    fn item_of(&self, row: &Row) -> Result<T, Failure> {
        Ok(self.1(ObjectRecord::decode(&row.value)?))
    }
}

struct Uploads(BucketId);

impl Uploads {
    fn parts_of(row: &Row) -> Result<(Vec<u8>, UploadKey), Failure> {
        keyspace::upload_of(&row.key).ok_or_else(|| damaged("an upload row has a malformed key"))
    }
}

impl Kind for Uploads {
    type Item = (UploadKey, UploadRecord);

    fn starting_with(&self, prefix: &[u8]) -> KeyRange {
        keyspace::uploads(self.0, prefix)
    }

    fn after(&self, key: &[u8], upload: Option<UploadKey>) -> Vec<u8> {
        match upload {
            Some(upload) => successor(keyspace::upload(self.0, key, upload)),
            None => keyspace::uploads_of(self.0, key).end,
        }
    }

    fn key_of(&self, row: &Row) -> Result<Bytes, Failure> {
        Ok(Bytes::from(Uploads::parts_of(row)?.0))
    }

    fn item_of(&self, row: &Row) -> Result<(UploadKey, UploadRecord), Failure> {
        Ok((Uploads::parts_of(row)?.1, UploadRecord::decode(&row.value)?))
    }
}

/// The first row key that can be of an entry after the marker. A marker inside a common prefix, or that prefix itself,
/// is past all of it: the prefix as an entry does not sort after the marker.
fn begin_after(
    kind: &impl Kind,
    query: &ListQuery<'_>,
    after: &[u8],
    after_upload: Option<UploadKey>,
) -> Vec<u8> {
    if after.is_empty() {
        return Vec::new();
    }
    match common_prefix(query, after) {
        Some(len) => kind.starting_with(&after[..len]).end,
        None => kind.after(after, after_upload),
    }
}

/// The length of the common prefix that `key` is rolled up into.
pub(super) fn common_prefix(query: &ListQuery<'_>, key: &[u8]) -> Option<usize> {
    let delimiter = query.delimiter?;
    let rest = key.strip_prefix(query.prefix)?;
    let at = match delimiter {
        [] => return None,
        [byte] => rest.iter().position(|other| other == byte)?,
        more => rest.windows(more.len()).position(|window| window == more)?,
    };
    Some(query.prefix.len() + at + delimiter.len())
}

async fn walk<T: Transaction, K: Kind>(
    txn: &T,
    kind: &K,
    query: &ListQuery<'_>,
    begin: Vec<u8>,
) -> Result<Page<K::Item>, Failure> {
    let mut page = Page { items: Vec::new(), common_prefixes: Vec::new(), is_truncated: false };
    let mut range = kind.starting_with(query.prefix);
    range.begin = range.begin.max(begin);
    let mut batch_rows = query.limit.saturating_add(1).min(BATCH_MAX_ROWS);
    if query.delimiter.is_some() {
        batch_rows = batch_rows.min(BATCH_FIRST_ROWS);
    }
    while query.limit > 0 && range.begin < range.end {
        let batch = rows(txn, &range, batch_rows, Isolation::Snapshot).await?;
        let is_last = batch.len() < batch_rows;
        let mut skipped = 0;
        for row in &batch {
            if row.key < range.begin {
                skipped += 1;
                continue;
            }
            if page.items.len() + page.common_prefixes.len() == query.limit {
                page.is_truncated = true;
                return Ok(page);
            }
            let key = kind.key_of(row)?;
            match common_prefix(query, &key) {
                Some(len) => {
                    range.begin = kind.starting_with(&key[..len]).end;
                    page.common_prefixes.push(key.slice(..len));
                }
                None => page.items.push((key, kind.item_of(row)?)),
            }
        }
        if is_last {
            break;
        }
        let after_batch = batch.last().map(|row| successor(row.key.to_vec()));
        range.begin = range.begin.max(after_batch.unwrap_or_default());
        // One row more than the page still holds says whether it is the last.
        let left_rows = query.limit - page.items.len() - page.common_prefixes.len() + 1;
        batch_rows = if skipped * 2 > batch.len() {
            (batch_rows / 4).max(BATCH_MIN_ROWS)
        } else {
            (batch_rows * 2).min(left_rows).min(BATCH_MAX_ROWS)
        };
    }
    Ok(page)
}
