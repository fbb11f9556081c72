//! Append: a body that goes to the end of an object, by reference.
//! Invariants: what can be refused without the body is refused before its first byte; a CRC of the whole object is
//! combined, never computed again; an append of nothing changes nothing; sealed bytes stay as they are: their last
//! segment says that it is the last.
//! Not here: the transaction (`fdb_schema::schema`), the checksums of parts (`checksum`).

use fdb_schema::Engine;
use fdb_schema::schema::{
    Append, Composed, Failure, FoundObject, OBJECT_PARTS_MAX, ObjectRecord, Refusal, StoredBytes,
};
use md5::{Digest as _, Md5};
use shardstore::Evidence;
use shardstore_reactor::{Drive, Executor};

use super::api::{
    AppendObject, BodySource, BodySummary, ChecksumKind, ETag, OpError, PutObject, StoredChecksum,
    Versioning, WriteCondition, Written,
};
use super::checksum::combine_two;
use super::core::{CoreInner, written};
use super::error::{of_conditional, of_failure, of_put};
use super::write::{check_length, put_object, receive};

impl<D: Drive, E: Engine, X: Executor> CoreInner<D, E, X> {
    pub(crate) async fn append_object(
        &self,
        append: AppendObject,
        body: &mut impl BodySource,
    ) -> Result<Written, OpError> {
        let AppendObject { put, offset_bytes } = append;
        check_length(put.len_bytes)?;
        if put.encrypt.is_some() {
            return Err(OpError::AppendToEncrypted);
        }
        let bucket = self.metadata.bucket(put.bucket.as_str()).await.map_err(of_failure)?;
        if bucket.versioning != Versioning::Never {
            return Err(OpError::KeepsVersions);
        }
        let found = self.metadata.object_and_inline(put.bucket.as_str(), put.key.as_bytes(), None).await;
        let (old, inline) = match found {
            Ok((found, inline)) => (found.record, inline),
            Err(Failure::Refused(Refusal::NoSuchKey)) if offset_bytes == 0 => {
                let condition = match put.condition {
                    WriteCondition::Always => WriteCondition::IfAbsent,
                    other => other,
                };
                return put_object(self, PutObject { condition, ..put }, body).await;
            }
            Err(Failure::Refused(Refusal::NoSuchKey)) => {
                return Err(OpError::InvalidWriteOffset { size_bytes: 0 });
            }
            Err(failure) => return Err(of_failure(failure)),
        };
        check(&put.condition, &old, offset_bytes)?;
        if let Some(checksum) = old.listed.checksums.first() {
            body.need_checksum(checksum.algorithm);
        }
        let (received, summary) = receive(&self.store, put.len_bytes, 0, None, body).await?;
        if summary.len_bytes == 0 {
            return Ok(unversioned(old));
        }
        let bytes = stored(self.evidence(received).await?);
        let base = match inline.filter(|inline| !inline.is_empty()) {
            None => None,
            Some(inline) => {
                let mut writer = self.store.put(Some(old.listed.size_bytes)).map_err(of_put)?;
                writer.write(&inline).await.map_err(of_put)?;
                Some(stored(writer.finish().await.map_err(of_put)?))
            }
        };
        let append = Append {
            bucket: put.bucket.as_str(),
            key: put.key.as_bytes(),
            offset_bytes,
            seen: old.data,
            checksum: summary.needed.clone().or_else(|| summary.checksum.clone()),
            condition: put.condition,
        };
        let compose = |old: &ObjectRecord, part_count: u16| composed(old, part_count, &summary);
        let appended = self.metadata.append_object(append, base, bytes, compose).await;
        Ok(unversioned(appended.map_err(of_conditional)?))
    }
}

/// Only buckets without versions take appends.
fn unversioned(record: ObjectRecord) -> Written {
    written(FoundObject { record, version: None })
}

fn stored(evidence: Evidence) -> StoredBytes<Evidence> {
    let crc32c = evidence.crc32c();
    StoredBytes { evidence, crc32c }
}

/// What would be refused after the body too, as things stand. The commit decides again.
fn check(condition: &WriteCondition, old: &ObjectRecord, offset_bytes: u64) -> Result<(), OpError> {
    if old.sealed.is_some() {
        return Err(OpError::AppendToEncrypted);
    }
    condition.check(Some(old)).map_err(|refusal| of_failure(refusal.into()))?;
    let size_bytes = old.listed.size_bytes;
    if size_bytes != offset_bytes {
        return Err(OpError::InvalidWriteOffset { size_bytes });
    }
    if old.listed.etag.part_count.is_some_and(|count| count >= OBJECT_PARTS_MAX) {
        return Err(OpError::TooManyParts);
    }
    Ok(())
}

/// The tag and checksum of an object with more bytes at its end. A hash of the whole cannot be had from those of its
/// parts, so an object that had one has none then, as in S3; the parts keep theirs.
fn composed(old: &ObjectRecord, part_count: u16, summary: &BodySummary) -> Composed {
    let mut md5 = Md5::new();
    md5.update(old.listed.etag.md5);
    md5.update(summary.md5);
    let etag = ETag { md5: md5.finalize().into(), part_count: Some(part_count) };
    let combined = old.listed.checksums.first().filter(|old| old.kind == ChecksumKind::FullObject);
    // Its checksum may have been exchanged for one of another algorithm while the bytes came.
    let same = combined.zip(summary.needed.as_ref()).filter(|(old, new)| old.algorithm == new.algorithm);
    let combined = same.and_then(|(old, new)| {
        let value = combine_two(old.algorithm, &old.value, &new.value, summary.len_bytes)?;
        Some(StoredChecksum { algorithm: old.algorithm, kind: ChecksumKind::FullObject, value })
    });
    Composed { etag, checksums: combined.into_iter().collect() }
}
