//! Rename: a name moves within its bucket, its bytes, headers and time with it.
//! Invariants: of the old name and the new one exactly one points at the bytes at any moment; a client's token does its
//! rename once within a day, however often it is sent.
//! Not here: copies (`object`), the conditions of a rename (the caller's).

use std::time::Duration;

use bytes::Bytes;
use shardstore_reactor::Executor;

use super::bucket::unversioned;
use super::data::{drop_reference, signed};
use super::error::{Failure, Refusal};
use super::keyspace;
use super::object::object;
use super::record::{ObjectRecord, RenamedRecord};
use super::retry::{Metadata, rows};
use crate::{Engine, Isolation, Transaction};

/// How long a client's token is remembered.
const TOKEN_KEPT: Duration = Duration::from_hours(24);
/// Tokens forgotten at a time.
const TOKEN_ROWS: usize = 1_000;

/// What to rename.
#[derive(Clone, Copy, Debug)]
pub struct Rename<'a> {
    /// Bucket name.
    pub bucket: &'a str,
    /// The key that the object has.
    pub source_key: &'a [u8],
    /// The key that it gets.
    pub key: &'a [u8],
    /// The client's token, at most 64 bytes.
    pub token: Option<&'a str>,
}

impl<E: Engine, X: Executor> Metadata<E, X> {
    /// Renames an object, replacing what has the new name. `check` sees the source and what is to be replaced in the
    /// same transaction; what it refuses with is the inner result.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::KeepsVersions`], [`Refusal::NoSuchKey`], [`Refusal::TokenReused`],
    /// [`Failure::Engine`].
    pub async fn rename_object<R>(
        &self,
        rename: Rename<'_>,
        check: impl Fn(&ObjectRecord, Option<&ObjectRecord>) -> Result<(), R>,
    ) -> Result<Result<(), R>, Failure> {
        assert!(rename.source_key != rename.key, "a rename has two names");
        let now_ms = self.executor.unix_ms();
        self.write(async |txn| {
            let bucket = unversioned(txn, rename.bucket).await?;
            let done = RenamedRecord {
                source_key: Bytes::copy_from_slice(rename.source_key),
                key: Bytes::copy_from_slice(rename.key),
            };
            let token = rename.token.map(|token| keyspace::renamed(bucket, token.as_bytes()));
            if let Some(token) = &token
                && let Some(before) = txn.get(token, Isolation::Serializable).await?
            {
                let is_repeated = RenamedRecord::decode(&before)? == done;
                return if is_repeated { Ok(Ok(())) } else { Err(Refusal::TokenReused.into()) };
            }
            let source = object(txn, bucket, rename.source_key, Isolation::Serializable).await?;
            let source = source.ok_or(Refusal::NoSuchKey)?;
            let old = object(txn, bucket, rename.key, Isolation::Serializable).await?;
            if let Err(refused) = check(&source, old.as_ref()) {
                return Ok(Err(refused));
            }
            // Nothing is set before the last thing that can refuse: an inner refusal commits.
            if let Some(token) = &token {
                txn.set(token, &done.encode());
                txn.set(&keyspace::renamed_at(now_ms, token), &[]);
            }
            if let Some(old) = &old {
                drop_reference(txn, old, now_ms).await?;
                self.add_usage(txn, bucket, -1, -signed(old.listed.size_bytes));
            }
            txn.set(&keyspace::object(bucket, rename.key), &source.encode());
            txn.clear(&keyspace::object(bucket, rename.source_key));
            Ok(Ok(()))
        })
        .await
    }

    /// One bounded step of forgetting tokens of over 24 h ago; true when none is left to forget now.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn forget_renames(&self) -> Result<bool, Failure> {
        let kept_ms = u64::try_from(TOKEN_KEPT.as_millis()).expect("a day");
        let before_ms = self.executor.unix_ms().saturating_sub(kept_ms);
        self.write(async |txn| {
            let old = keyspace::renamed_before(before_ms);
            let found = rows(txn, &old, TOKEN_ROWS, Isolation::Snapshot).await?;
            for row in &found {
                if let Some(token) = keyspace::token_of_renamed_at(&row.key) {
                    txn.clear(token);
                }
                txn.clear(&row.key);
            }
            Ok(found.len() < TOKEN_ROWS)
        })
        .await
    }
}
