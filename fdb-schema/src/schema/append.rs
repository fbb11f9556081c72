//! Append: bytes put at the end of an object by reference, as one more part of its byte sequence.
//! Invariants: no byte that is there moves, but for those kept inline; a byte sequence only ever grows at its end, and
//! only while one object points at it, so whoever reads what it was before reads on; a part that another byte sequence
//! or object may hold too is marked, so that its count is looked at when this one goes.
//! Not here: what the appended object is called (the caller's `compose`), sweeping (`sweep`).

use shardstore_format::{DataId, Durable};
use shardstore_reactor::Executor;

use super::bucket::unversioned;
use super::data::{add_reference, header, items_of, row_items, signed, write_extents, write_rows};
use super::error::{Failure, Refusal, damaged};
use super::keyspace;
use super::object::{WriteCondition, object};
use super::record::{DataHeader, DataItems, DataPart, HEADER_ITEMS_MAX, ObjectRecord, Place};
use super::retry::Metadata;
use super::upload::Composed;
use super::value::StoredChecksum;
use crate::{Engine, Isolation, Transaction};

/// Most parts of an object, those of its upload included.
pub const OBJECT_PARTS_MAX: u16 = 10_000;
/// Items of a row that grows: an append writes the last row again, so at most 4 kB, and 10,000 parts are 40 rows.
const GROWING_ROW_ITEMS_MAX: usize = 256;
/// Most parts of a copied object that is appended to: each part's count is read and written once, in one transaction.
const SHARED_PARTS_MAX: u16 = 1_000;

/// What to append to.
#[derive(Clone, Debug)]
pub struct Append<'a> {
    /// Bucket name.
    pub bucket: &'a str,
    /// Key.
    pub key: &'a [u8],
    /// The length that the object must have.
    pub offset_bytes: u64,
    /// The byte sequence that the object had when the bytes were taken.
    pub seen: DataId,
    /// Of the appended bytes.
    pub checksum: Option<StoredChecksum>,
    /// Of what it adds to.
    pub condition: WriteCondition,
}

/// Bytes that are durable, with the CRC32C of all of them if they are one extent of up to 64 KiB.
#[derive(Debug)]
pub struct StoredBytes<D: Durable> {
    /// That they are, and where.
    pub evidence: D,
    /// Their CRC32C.
    pub crc32c: Option<u32>,
}

impl<E: Engine, X: Executor> Metadata<E, X> {
    /// Adds bytes, at least one, to an object's end. `base` is the object's own bytes stored anew if they are inline. `compose` sees
    /// the object as it is and how many parts it will have, and names the new one. Cost: one row of at most 256 items is
    /// written again.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBucket`], [`Refusal::KeepsVersions`], [`Refusal::NoSuchKey`], [`Refusal::WriteOffset`],
    /// [`Refusal::ObjectChanged`], [`Refusal::PreconditionFailed`], [`Refusal::TooManyParts`], [`Refusal::TooManySharedParts`],
    /// [`Refusal::VolumeGone`], [`Failure::Engine`].
    pub async fn append_object(
        &self,
        append: Append<'_>,
        base: Option<StoredBytes<impl Durable>>,
        bytes: StoredBytes<impl Durable>,
        compose: impl Fn(&ObjectRecord, u16) -> Composed,
    ) -> Result<ObjectRecord, Failure> {
        let (whole, base_data) = (self.new_data_id().await?, self.new_data_id().await?);
        let data = self.new_data_id().await?;
        let now_ms = self.executor.unix_ms();
        let items = items_of(&bytes.evidence, bytes.crc32c);
        let len_bytes: u64 = items.iter().map(|item| item.extent.len_bytes).sum();
        // Reading relies on it: parts without bytes would make a stretch of rows without an extent.
        assert!(len_bytes > 0, "an append adds something");
        let base_items = base.as_ref().map(|base| items_of(&base.evidence, base.crc32c));
        let outcome = self
            .write(async |txn| {
                let bucket = unversioned(txn, append.bucket).await?;
                let old = object(txn, bucket, append.key, Isolation::Serializable).await?;
                let old = old.ok_or(Refusal::NoSuchKey)?;
                check(&append, &old)?;
                write_extents(txn, data, items.clone(), append.checksum.clone()).await?;
                let part = DataPart { data, len_bytes };
                let of_object = old.listed.checksums.first().cloned();
                let (new_data, part_count) = match (&old.place, &base_items) {
                    (Place::Inline, Some(base_items)) => {
                        txn.clear(&keyspace::inline(old.data));
                        write_extents(txn, base_data, base_items.clone(), of_object).await?;
                        let base = DataPart { data: base_data, len_bytes: old.listed.size_bytes };
                        compose_rows(txn, whole, vec![base, part], false)
                    }
                    (Place::Inline, None) => {
                        // Empty, by the check above: there is nothing to keep.
                        txn.clear(&keyspace::inline(old.data));
                        compose_rows(txn, whole, vec![part], false)
                    }
                    (Place::Rows { .. }, _) => add_part(txn, &old, whole, part, of_object).await?,
                };
                let composed = compose(&old, part_count);
                let mut new = old.clone();
                new.listed.size_bytes += len_bytes;
                new.listed.etag = composed.etag;
                new.listed.checksums = composed.checksums;
                new.listed.modified_ms = now_ms;
                new.data = new_data;
                new.place = Place::Rows { hint: Vec::new() };
                txn.set(&keyspace::object(bucket, append.key), &new.encode());
                self.add_usage(txn, bucket, 0, signed(len_bytes));
                Ok(new)
            })
            .await;
        drop((base, bytes));
        outcome
    }
}

fn check(append: &Append<'_>, old: &ObjectRecord) -> Result<(), Refusal> {
    append.condition.check(Some(old))?;
    let size_bytes = old.listed.size_bytes;
    if size_bytes != append.offset_bytes {
        return Err(Refusal::WriteOffset { size_bytes });
    }
    if old.data == append.seen && old.sealed.is_none() { Ok(()) } else { Err(Refusal::ObjectChanged) }
}

/// A byte sequence of these parts, and how many they are.
fn compose_rows<T: Transaction>(
    txn: &mut T,
    whole: DataId,
    parts: Vec<DataPart>,
    is_sharing: bool,
) -> (DataId, u16) {
    let part_count = u16::try_from(parts.len()).expect("at most 10,000 parts");
    write_rows(txn, whole, DataItems::Parts(parts), None, is_sharing);
    (whole, part_count)
}

/// One more part after the bytes of an object: in their rows if they are parts and only its own, else in new rows.
async fn add_part<T: Transaction>(
    txn: &mut T,
    old: &ObjectRecord,
    whole: DataId,
    part: DataPart,
    checksum: Option<StoredChecksum>,
) -> Result<(DataId, u16), Failure> {
    let missing = || damaged("an object names data that has no rows");
    let mut header = header(txn, old.data, Isolation::Serializable).await?.ok_or_else(missing)?;
    let is_shared = header.reference_count > 1;
    if let DataItems::Extents(_) = header.items {
        // The object's reference becomes the new rows'.
        header.checksum = checksum;
        txn.set(&keyspace::data(old.data, 0), &header.encode());
        let base = DataPart { data: old.data, len_bytes: header.len_bytes };
        return Ok(compose_rows(txn, whole, vec![base, part], is_shared));
    }
    let no_count = || damaged("an object of parts does not say how many");
    let part_count = old.listed.etag.part_count.ok_or_else(no_count)?;
    if part_count >= OBJECT_PARTS_MAX {
        return Err(Refusal::TooManyParts.into());
    }
    if !is_shared {
        grow(txn, old.data, header, part).await?;
        return Ok((old.data, part_count + 1));
    }
    if part_count > SHARED_PARTS_MAX {
        return Err(Refusal::TooManySharedParts.into());
    }
    let mut parts = all_parts(txn, old.data, &header).await?;
    for part in &parts {
        add_reference(txn, part.data).await?;
    }
    header.reference_count -= 1;
    header.is_sharing = true;
    txn.set(&keyspace::data(old.data, 0), &header.encode());
    parts.push(part);
    Ok(compose_rows(txn, whole, parts, true))
}

async fn all_parts<T: Transaction>(
    txn: &T,
    data: DataId,
    header: &DataHeader,
) -> Result<Vec<DataPart>, Failure> {
    let mut parts = parts_of(header.items.clone())?;
    for row_index in 1..=header.row_starts.len() {
        parts.extend(parts_of(row_items(txn, data, row_index).await?)?);
    }
    Ok(parts)
}

fn parts_of(items: DataItems) -> Result<Vec<DataPart>, Failure> {
    match items {
        DataItems::Parts(parts) => Ok(parts),
        DataItems::Extents(_) => Err(damaged("a byte sequence has extents among its parts")),
    }
}

/// Adds a part to the rows of a byte sequence of parts.
async fn grow<T: Transaction>(
    txn: &mut T,
    data: DataId,
    mut header: DataHeader,
    part: DataPart,
) -> Result<(), Failure> {
    let at_bytes = header.len_bytes;
    header.len_bytes += part.len_bytes;
    match u32::try_from(header.row_starts.len()).expect("at most 40 rows") {
        0 => {
            let mut parts = parts_of(std::mem::replace(&mut header.items, DataItems::Parts(Vec::new())))?;
            parts.push(part);
            if parts.len() > HEADER_ITEMS_MAX {
                header.row_starts.push(0);
                txn.set(&keyspace::data(data, 1), &DataItems::Parts(parts).encode());
            } else {
                header.items = DataItems::Parts(parts);
            }
        }
        last => {
            let mut parts = parts_of(row_items(txn, data, header.row_starts.len()).await?)?;
            if parts.len() < GROWING_ROW_ITEMS_MAX {
                parts.push(part);
                txn.set(&keyspace::data(data, last), &DataItems::Parts(parts).encode());
            } else {
                header.row_starts.push(at_bytes);
                txn.set(&keyspace::data(data, last + 1), &DataItems::Parts(vec![part]).encode());
            }
        }
    }
    txn.set(&keyspace::data(data, 0), &header.encode());
    Ok(())
}
