//! A bucket's configuration: one document a kind, and the fields of the bucket's row that requests change.
//! Invariants: every change raises `config_generation` in its transaction, so who remembers documents under a
//! generation is right as long as the bucket's row says the same; a document is read whole at one snapshot.
//! Not here: what documents say (`server`).

use std::collections::BTreeMap;

use bytes::Bytes;
use shardstore_reactor::Executor;

use super::bucket::bucket;
use super::codec::{DecodeError, Decoder, Encoder};
use super::error::{Failure, Refusal, damaged};
use super::keyspace::{self, BucketId};
use super::record::{BucketRecord, Versioning};
use super::retry::{Metadata, rows};
use crate::{Engine, Isolation, Transaction};

/// Longest document: 1,000 rules of lifecycle, each with its tags, are under it.
pub const DOCUMENT_MAX_BYTES: usize = 1024 * 1024;
/// Of a document in one row; a value is at most 100 kB.
const PART_BYTES: usize = 64 * 1024;
const PARTS_MAX: usize = DOCUMENT_MAX_BYTES / PART_BYTES;
const VERSION: u8 = 1;

const _: () = assert!(PARTS_MAX <= 256);

/// What a document configures. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ConfigKind {
    /// Bucket policy, JSON.
    Policy = 1,
    /// Public access block.
    PublicAccessBlock = 2,
    /// Object ownership.
    Ownership = 3,
    /// Access control list of the bucket itself.
    Acl = 4,
    /// Cross-origin rules.
    Cors = 5,
    /// Tags of the bucket.
    Tagging = 6,
    /// Expiry of objects and uploads.
    Lifecycle = 7,
    /// Default retention of new versions.
    ObjectLock = 8,
    /// Transfer acceleration, if it was suspended.
    Accelerate = 9,
    /// Static website.
    Website = 10,
    /// Server access logging.
    Logging = 11,
    /// Encryption of new objects whose requests ask for none.
    Encryption = 12,
}

impl ConfigKind {
    /// All of them.
    pub const ALL: [ConfigKind; 12] = [
        ConfigKind::Policy,
        ConfigKind::PublicAccessBlock,
        ConfigKind::Ownership,
        ConfigKind::Acl,
        ConfigKind::Cors,
        ConfigKind::Tagging,
        ConfigKind::Lifecycle,
        ConfigKind::ObjectLock,
        ConfigKind::Accelerate,
        ConfigKind::Website,
        ConfigKind::Logging,
        ConfigKind::Encryption,
    ];

    fn of(number: u8) -> Option<ConfigKind> {
        ConfigKind::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// A bucket with all its documents, at one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketConfigs {
    /// Its row.
    pub record: BucketRecord,
    /// Its documents.
    pub documents: BTreeMap<ConfigKind, Bytes>,
}

impl<E: Engine, X: Executor> Metadata<E, X> {
    /// A bucket and its whole configuration.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Failure::Engine`].
    pub async fn bucket_with_configs(&self, name: &str) -> Result<BucketConfigs, Failure> {
        self.read(async |txn| {
            let record = bucket(txn, name, Isolation::Snapshot).await?;
            let limit = ConfigKind::ALL.len() * PARTS_MAX + 1;
            let found = rows(txn, &keyspace::bucket_configs(record.id), limit, Isolation::Snapshot).await?;
            let mut documents: BTreeMap<ConfigKind, Vec<u8>> = BTreeMap::new();
            for row in found {
                let kind = keyspace::bucket_config_of(&row.key).and_then(|(kind, _)| ConfigKind::of(kind));
                let kind = kind.ok_or_else(|| damaged("a configuration row is of an unknown kind"))?;
                documents.entry(kind).or_default().extend_from_slice(&decode(&row.value)?);
            }
            let documents = documents.into_iter().map(|(kind, text)| (kind, Bytes::from(text))).collect();
            Ok(BucketConfigs { record, documents })
        })
        .await
    }

    /// One document of a bucket.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Failure::Engine`].
    pub async fn bucket_config(&self, name: &str, kind: ConfigKind) -> Result<Option<Bytes>, Failure> {
        self.read(async |txn| {
            let id = bucket(txn, name, Isolation::Snapshot).await?.id;
            read_document(txn, id, kind).await
        })
        .await
    }

    /// Puts or replaces a document of at most [`DOCUMENT_MAX_BYTES`].
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Failure::Engine`].
    pub async fn put_bucket_config(
        &self,
        name: &str,
        kind: ConfigKind,
        document: &Bytes,
    ) -> Result<(), Failure> {
        self.change_bucket(name, async |txn, record| {
            write_document(txn, record.id, kind, document);
            Ok(())
        })
        .await
    }

    /// Puts what `change` makes of the document that is there, in one transaction; it may be called several times, and
    /// says `None` where it cannot read what is there.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Failure::Engine`].
    pub async fn change_bucket_config(
        &self,
        name: &str,
        kind: ConfigKind,
        change: impl Fn(Option<&Bytes>) -> Option<Bytes>,
    ) -> Result<(), Failure> {
        self.change_bucket(name, async |txn, record| {
            // The bucket's row, which every change of a document writes, was read serializably.
            let before = read_document(txn, record.id, kind).await?;
            let after = change(before.as_ref()).ok_or_else(|| damaged("a kept document does not read"))?;
            write_document(txn, record.id, kind, &after);
            Ok(())
        })
        .await
    }

    /// Deletes a document; one that is not there is fine.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Failure::Engine`].
    pub async fn delete_bucket_config(&self, name: &str, kind: ConfigKind) -> Result<(), Failure> {
        self.change_bucket(name, async |txn, record| {
            let range = keyspace::bucket_config_parts(record.id, kind as u8);
            txn.clear_range(&range.begin, &range.end);
            Ok(())
        })
        .await
    }

    /// Enables or suspends versioning.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::ObjectLockNeedsVersioning`], [`Failure::Engine`].
    pub async fn set_versioning(&self, name: &str, versioning: Versioning) -> Result<(), Failure> {
        self.change_bucket(name, async |_, record| {
            if record.object_lock && versioning != Versioning::Enabled {
                return Err(Refusal::ObjectLockNeedsVersioning.into());
            }
            record.versioning = versioning;
            Ok(())
        })
        .await
    }

    /// Changes a bucket's row and what hangs on it, under the next generation.
    pub(crate) async fn change_bucket(
        &self,
        name: &str,
        change: impl AsyncFn(&mut E::Txn, &mut BucketRecord) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.write(async |txn| {
            let mut record = bucket(txn, name, Isolation::Serializable).await?;
            change(txn, &mut record).await?;
            record.config_generation += 1;
            txn.set(&keyspace::bucket(name.as_bytes()), &record.encode());
            Ok(())
        })
        .await
    }
}

/// A document of a bucket whose row was read in the same transaction.
pub(crate) async fn read_document<T: Transaction>(
    txn: &T,
    bucket: BucketId,
    kind: ConfigKind,
) -> Result<Option<Bytes>, Failure> {
    let range = keyspace::bucket_config_parts(bucket, kind as u8);
    let found = rows(txn, &range, PARTS_MAX, Isolation::Snapshot).await?;
    if found.is_empty() {
        return Ok(None);
    }
    let parts = found.iter().map(|row| decode(&row.value)).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(Bytes::from(parts.concat())))
}

/// Removes a document; one that is not there is fine.
pub(crate) fn clear_document<T: Transaction>(txn: &mut T, bucket: BucketId, kind: ConfigKind) {
    let range = keyspace::bucket_config_parts(bucket, kind as u8);
    txn.clear_range(&range.begin, &range.end);
}

/// Writes a document's parts in place of those before.
pub(crate) fn write_document<T: Transaction>(
    txn: &mut T,
    bucket: BucketId,
    kind: ConfigKind,
    document: &Bytes,
) {
    assert!(document.len() <= DOCUMENT_MAX_BYTES, "the caller refuses longer documents");
    let range = keyspace::bucket_config_parts(bucket, kind as u8);
    txn.clear_range(&range.begin, &range.end);
    // An empty document is one empty part: it is there.
    let count = document.len().div_ceil(PART_BYTES).max(1);
    for part in 0..count {
        let end = document.len().min((part + 1) * PART_BYTES);
        let value = encode(&document[part * PART_BYTES..end]);
        let part = u8::try_from(part).expect("at most 16 parts");
        txn.set(&keyspace::bucket_config(bucket, kind as u8, part), &value);
    }
}

/// What is wrong with a configuration row, if anything is.
pub(crate) fn problem_of(row_key: &[u8], value: &Bytes) -> Option<String> {
    match keyspace::bucket_config_of(row_key).and_then(|(kind, _)| ConfigKind::of(kind)) {
        None => Some("its key is malformed".to_owned()),
        Some(_) => decode(value).err().map(|error| error.to_string()),
    }
}

/// The value of one part.
pub(crate) fn encode(part: &[u8]) -> Vec<u8> {
    let mut out = Encoder::new(VERSION);
    out.text(part);
    out.finish()
}

pub(crate) fn decode(value: &Bytes) -> Result<Bytes, DecodeError> {
    let mut from = Decoder::new("bucket configuration", VERSION, value)?;
    let part = from.text()?;
    from.finish()?;
    Ok(part)
}
