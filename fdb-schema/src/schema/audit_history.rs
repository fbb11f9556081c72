//! The histories of keys compared with themselves, for fsck: what is current, what is hidden, where null versions are.
//! Invariants: as `audit`: changes nothing, one snapshot, a bounded number of rows a call.
//! Not here: bytes of versions (`audit`), sentences (`server`).

use bytes::Bytes;

use super::audit::Audit;
use super::error::Failure;
use super::history::hidden_null_count;
use super::keyspace::{self, BucketId, Prefix};
use super::object::object;
use super::record::decode_counter;
use super::retry::rows;
use super::version::VersionRecord;
use crate::{Engine, Isolation, Row, Transaction};

/// A key whose versions contradict each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenHistory {
    /// Its bucket.
    pub bucket: BucketId,
    /// The key.
    pub key: Bytes,
    /// The count of the version.
    pub count: u64,
    /// What is wrong with it.
    pub problem: HistoryProblem,
}

/// What is wrong with a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryProblem {
    /// It says another count than its key.
    Misplaced,
    /// It is not older than the current object.
    NotOlder,
    /// It is an object and the newest of its key, but not current.
    NotCurrent,
    /// It is a null version, and the null-version row does not lead to it.
    NullUnnamed,
    /// A null-version row leads to no null version.
    NullNowhere,
}

impl<E: Engine> Audit<E> {
    /// What is wrong among up to `limit` rows of versions and null versions from the row key `begin` on (empty: from the
    /// first), and where to go on; `None` when that was all. What cannot be decoded is told by [`Audit::references`].
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn audit_histories(
        &self,
        begin: &Bytes,
        limit: usize,
    ) -> Result<(Vec<BrokenHistory>, Option<Bytes>), Failure> {
        let kinds = [
            keyspace::of_kinds(Prefix::Version, Prefix::Version),
            keyspace::of_kinds(Prefix::NullVersion, Prefix::NullVersion),
        ];
        let (found, next) = self.walk(&kinds, begin, limit).await?;
        let mut broken = Vec::new();
        for row in &found {
            let Some(bucket) = keyspace::bucket_id_of(&row.key) else { continue };
            let found = if row.key.first() == Some(&(Prefix::Version as u8)) {
                self.version_problem(bucket, row).await?
            } else {
                self.null_problem(bucket, row).await?
            };
            broken.extend(found);
        }
        Ok((broken, next))
    }

    async fn version_problem(&self, bucket: BucketId, row: &Row) -> Result<Option<BrokenHistory>, Failure> {
        let (Some((key, count)), Ok(record)) =
            (keyspace::version_of(&row.key), VersionRecord::decode(&row.value))
        else {
            return Ok(None);
        };
        let txn = &self.txn;
        let problem = if record.version().count != count {
            Some(HistoryProblem::Misplaced)
        } else if record.version().is_null()
            && hidden_null_count(txn, bucket, &key, Isolation::Snapshot).await? != Some(count)
        {
            Some(HistoryProblem::NullUnnamed)
        } else {
            match object(txn, bucket, &key, Isolation::Snapshot).await {
                Ok(Some(current)) if current.listed.version.count > count => None,
                Ok(Some(_)) => Some(HistoryProblem::NotOlder),
                Ok(None) => {
                    let of_key = keyspace::versions_of(bucket, &key);
                    let newest = rows(txn, &of_key, 1, Isolation::Snapshot).await?;
                    let is_newest = newest.first().is_some_and(|newest| newest.key == row.key);
                    (is_newest && record.object().is_some()).then_some(HistoryProblem::NotCurrent)
                }
                // Its own row is told by `references`.
                Err(_) => None,
            }
        };
        Ok(problem.map(|problem| BrokenHistory { bucket, key: Bytes::from(key), count, problem }))
    }

    async fn null_problem(&self, bucket: BucketId, row: &Row) -> Result<Option<BrokenHistory>, Failure> {
        let key = keyspace::object_key_of(&row.key);
        let count = decode_counter("null version", Some(&row.value)).unwrap_or(u64::MAX);
        let value = self.txn.get(&keyspace::version(bucket, &key, count), Isolation::Snapshot).await?;
        let leads = match value.as_ref().map(VersionRecord::decode) {
            None => false,
            Some(Ok(record)) => record.version().is_null(),
            Some(Err(_)) => true,
        };
        let problem = HistoryProblem::NullNowhere;
        Ok((!leads).then_some(BrokenHistory { bucket, key, count, problem }))
    }
}
