//! Byte sequences: their rows, their references, and finding the extents of a range.
//! Invariants: whoever writes an owner row adds its length to the volume's live bytes in the same transaction; bytes
//! are named only in volumes that are open or sealed; reference counts are read and written, never added to.
//! Not here: names (`object`, `upload`), parts by number (`parts`), sweeping (`sweep`).

use std::collections::BTreeMap;
use std::ops::Range;

use shardstore_format::{DataId, Durable, VolumeId, VolumeRecord, VolumeState};
use shardstore_reactor::Executor;

use super::error::{Failure, Refusal, damaged};
use super::keyspace;
use super::record::{
    DataExtent, DataHeader, DataItems, DataPart, HEADER_ITEMS_MAX, ObjectRecord, Place, ROW_ITEMS_MAX,
    encode_owner,
};
use super::retry::Metadata;
use super::value::StoredChecksum;
use crate::{Engine, Isolation, Transaction};

/// A stretch of a byte sequence, resolved to extents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Offset in the byte sequence of the first extent's first byte.
    pub start_bytes: u64,
    /// Extents, in order and without a gap.
    pub extents: Vec<DataExtent>,
}

impl Resolved {
    /// Offset in the byte sequence just after the last extent.
    pub fn end_bytes(&self) -> u64 {
        let len: u64 = self.extents.iter().map(|item| item.extent.len_bytes).sum();
        self.start_bytes + len
    }
}

impl<E: Engine, X: Executor> Metadata<E, X> {
    /// The extents that hold `range` of a byte sequence, or its beginning: it stops after about `extents_max`, so the
    /// caller asks again from [`Resolved::end_bytes`]. Reads only the rows that the answer needs.
    ///
    /// # Errors
    /// [`Refusal::NoSuchKey`] if the data id is gone: look the name up again. [`Failure::Engine`].
    pub async fn resolve(
        &self,
        data: DataId,
        range: Range<u64>,
        extents_max: usize,
    ) -> Result<Resolved, Failure> {
        assert!(range.start < range.end, "an empty range has no extents");
        self.read(async |txn| resolve(txn, data, &range, extents_max).await).await
    }
}

async fn resolve<T: Transaction>(
    txn: &T,
    data: DataId,
    range: &Range<u64>,
    extents_max: usize,
) -> Result<Resolved, Failure> {
    let header = header(txn, data, Isolation::Snapshot).await?.ok_or(Refusal::NoSuchKey)?;
    if range.end > header.len_bytes {
        return Err(damaged("an object is longer than its data"));
    }
    let mut found = Found { range: range.clone(), start_bytes: None, extents: Vec::new(), extents_max };
    for (mut at_bytes, items) in covering_rows(txn, data, &header, range).await? {
        match items {
            DataItems::Extents(items) => {
                found.add(at_bytes, &items);
            }
            DataItems::Parts(parts) => {
                for part in parts {
                    let end_bytes = at_bytes + part.len_bytes;
                    if end_bytes > range.start && at_bytes < range.end && !found.is_full() {
                        resolve_part(txn, part, at_bytes, &mut found).await?;
                    }
                    at_bytes = end_bytes;
                }
            }
        }
        if found.is_full() {
            break;
        }
    }
    let start_bytes = found.start_bytes.ok_or_else(|| damaged("data rows do not cover their length"))?;
    let resolved = Resolved { start_bytes, extents: found.extents };
    let is_short = resolved.end_bytes() < range.end && resolved.extents.len() < extents_max;
    if resolved.start_bytes > range.start || is_short {
        return Err(damaged("data rows do not cover their length"));
    }
    Ok(resolved)
}

struct Found {
    range: Range<u64>,
    start_bytes: Option<u64>,
    extents: Vec<DataExtent>,
    extents_max: usize,
}

impl Found {
    fn is_full(&self) -> bool {
        self.extents.len() >= self.extents_max
    }

    /// Takes the extents that overlap the range; the first begins at `at_bytes`.
    fn add(&mut self, mut at_bytes: u64, items: &[DataExtent]) {
        for item in items {
            let end_bytes = at_bytes + item.extent.len_bytes;
            if end_bytes > self.range.start && at_bytes < self.range.end && !self.is_full() {
                self.start_bytes.get_or_insert(at_bytes);
                self.extents.push(*item);
            }
            at_bytes = end_bytes;
        }
    }
}

/// The rows that may overlap `range`, each with the offset of its first byte.
async fn covering_rows<T: Transaction>(
    txn: &T,
    data: DataId,
    header: &DataHeader,
    range: &Range<u64>,
) -> Result<Vec<(u64, DataItems)>, Failure> {
    if header.row_starts.is_empty() {
        return Ok(vec![(0, header.items.clone())]);
    }
    let first = header.row_starts.partition_point(|start| *start <= range.start).saturating_sub(1);
    let mut found = Vec::new();
    for (index, start) in header.row_starts.iter().enumerate().skip(first) {
        // Two rows are always enough for a call: extents_max is at most one row's.
        if *start >= range.end || found.len() == 2 {
            break;
        }
        found.push((*start, row_items(txn, data, index + 1).await?));
    }
    Ok(found)
}

/// Adds the extents of one part; parts have no parts.
async fn resolve_part<T: Transaction>(
    txn: &T,
    part: DataPart,
    at_bytes: u64,
    found: &mut Found,
) -> Result<(), Failure> {
    let missing = || damaged("a part of an object has no data rows");
    let header = header(txn, part.data, Isolation::Snapshot).await?.ok_or_else(missing)?;
    if header.len_bytes != part.len_bytes {
        return Err(damaged("a part is not as long as the object says"));
    }
    let inside = found.range.start.saturating_sub(at_bytes)..found.range.end - at_bytes;
    for (row_bytes, items) in covering_rows(txn, part.data, &header, &inside).await? {
        let DataItems::Extents(items) = items else {
            return Err(damaged("a part of an object has parts"));
        };
        found.add(at_bytes + row_bytes, &items);
    }
    Ok(())
}

pub(crate) async fn header<T: Transaction>(
    txn: &T,
    data: DataId,
    isolation: Isolation,
) -> Result<Option<DataHeader>, Failure> {
    let value = txn.get(&keyspace::data(data, 0), isolation).await?;
    Ok(value.as_ref().map(DataHeader::decode).transpose()?)
}

/// Items of row `row_index`, from 1.
pub(crate) async fn row_items<T: Transaction>(
    txn: &T,
    data: DataId,
    row_index: usize,
) -> Result<DataItems, Failure> {
    let missing = || damaged("a data row is missing");
    let index = u32::try_from(row_index).map_err(|_| missing())?;
    let value = txn.get(&keyspace::data(data, index), Isolation::Serializable).await?;
    Ok(DataItems::decode(&value.ok_or_else(missing)?)?)
}

/// The extents of the evidence as items; the checksum belongs to an only extent.
pub(crate) fn items_of(evidence: &impl Durable, crc32c: Option<u32>) -> Vec<DataExtent> {
    let extents = evidence.extents();
    let crc32c = crc32c.filter(|_| extents.len() == 1);
    extents.iter().map(|extent| DataExtent { extent: *extent, crc32c }).collect()
}

/// Writes the rows of a new byte sequence of extents: data, owners, live bytes. `checksum`: of a part.
pub(crate) async fn write_extents<T: Transaction>(
    txn: &mut T,
    data: DataId,
    items: Vec<DataExtent>,
    checksum: Option<StoredChecksum>,
) -> Result<(), Failure> {
    let mut live: BTreeMap<VolumeId, i64> = BTreeMap::new();
    for item in &items {
        *live.entry(item.extent.volume).or_default() += signed(item.extent.len_bytes);
        txn.set(&keyspace::owner(&item.extent), &encode_owner(&item.extent, data));
    }
    for (volume, added_bytes) in live {
        check_volume(txn, volume).await?;
        txn.atomic_add(&keyspace::live(volume), added_bytes);
    }
    write_rows(txn, data, DataItems::Extents(items), checksum, false);
    Ok(())
}

/// A commit into a volume reads its state: reclaim writes it and so conflicts.
pub(crate) async fn check_volume<T: Transaction>(txn: &T, volume: VolumeId) -> Result<(), Failure> {
    let value = txn.get(&keyspace::volume(volume), Isolation::Serializable).await?;
    let value = value.ok_or(Refusal::VolumeGone(volume))?;
    match decode_volume(&value)?.state {
        VolumeState::Open | VolumeState::Sealed { .. } => Ok(()),
        VolumeState::Reclaimed => Err(Refusal::VolumeGone(volume).into()),
    }
}

pub(crate) fn decode_volume(value: &[u8]) -> Result<VolumeRecord, Failure> {
    VolumeRecord::decode(value).map_err(|error| damaged(&error.to_string()))
}

/// Writes header and item rows with a reference count of 1.
pub(crate) fn write_rows<T: Transaction>(
    txn: &mut T,
    data: DataId,
    items: DataItems,
    checksum: Option<StoredChecksum>,
    is_sharing: bool,
) {
    let len_bytes = items.len_bytes();
    let mut header =
        DataHeader { reference_count: 1, len_bytes, row_starts: Vec::new(), items, is_sharing, checksum };
    if header.items.len() > HEADER_ITEMS_MAX {
        let none = header.items.none_like();
        let groups = std::mem::replace(&mut header.items, none).split(ROW_ITEMS_MAX);
        let mut at_bytes = 0;
        for (index, group) in (1u32..).zip(groups) {
            header.row_starts.push(at_bytes);
            at_bytes += group.len_bytes();
            txn.set(&keyspace::data(data, index), &group.encode());
        }
    }
    txn.set(&keyspace::data(data, 0), &header.encode());
}

/// One more object points at `data`.
pub(crate) async fn add_reference<T: Transaction>(txn: &mut T, data: DataId) -> Result<(), Failure> {
    let missing = || damaged("an object names data that has no rows");
    let mut header = header(txn, data, Isolation::Serializable).await?.ok_or_else(missing)?;
    let full = || damaged("a reference count is used up");
    header.reference_count = header.reference_count.checked_add(1).ok_or_else(full)?;
    txn.set(&keyspace::data(data, 0), &header.encode());
    Ok(())
}

/// The object's row goes away or points elsewhere: lowers the count; the last one leaves garbage.
pub(crate) async fn drop_reference<T: Transaction>(
    txn: &mut T,
    object: &ObjectRecord,
    now_ms: u64,
) -> Result<(), Failure> {
    if object.place == Place::Inline {
        txn.clear(&keyspace::inline(object.data));
        return Ok(());
    }
    drop_data(txn, object.data, now_ms).await
}

/// One name less for `data`; the last one leaves garbage.
pub(crate) async fn drop_data<T: Transaction>(txn: &mut T, data: DataId, now_ms: u64) -> Result<(), Failure> {
    let missing = || damaged("an object names data that has no rows");
    let mut header = header(txn, data, Isolation::Serializable).await?.ok_or_else(missing)?;
    if header.reference_count > 1 {
        header.reference_count -= 1;
        txn.set(&keyspace::data(data, 0), &header.encode());
    } else {
        add_garbage(txn, data, now_ms);
    }
    Ok(())
}

/// Nothing points at `data` any more: the sweeper may take it.
pub(crate) fn add_garbage<T: Transaction>(txn: &mut T, data: DataId, now_ms: u64) {
    txn.set(&keyspace::garbage(data), &now_ms.to_le_bytes());
}

pub(crate) fn signed(len_bytes: u64) -> i64 {
    i64::try_from(len_bytes).expect("lengths are below 2^63")
}
