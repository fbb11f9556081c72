//! Rows compared with each other, for fsck: names, byte sequences, owners and volumes, in both directions.
//! Invariants: changes nothing; an audit sees one snapshot from its begin to its end, so what is in flight is never a
//! problem; a call reads a bounded number of rows; a row that cannot be decoded is a problem, never an end.
//! Not here: segment files (`shardstore`), sums over the whole keyspace and sentences (`server`).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use shardstore_format::{DataId, Extent, VolumeId, VolumeRecord};
use shardstore_reactor::Executor;

use super::bucket::{Usage, successor};
use super::bucket_config;
use super::data::{header, row_items};
use super::error::{Failure, damaged};
use super::keyspace::{self, BucketId, Counter, KeyRange, Prefix, UploadKey, UsageKind};
use super::record::{
    BucketRecord, DataHeader, DataItems, ObjectRecord, PartRecord, Place, decode_counter, decode_owner,
};
use super::retry::{Metadata, rows};
use super::version::VersionRecord;
use super::volume::Owner;
use crate::{Engine, Isolation, Row, Transaction};

/// Rows read at a time.
const PAGE_ROWS: usize = 1_000;

/// A row that names bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameRow {
    /// An object.
    Object {
        /// Its bucket.
        bucket: BucketId,
        /// Its key.
        key: Bytes,
    },
    /// An older version of an object.
    Version {
        /// Its bucket.
        bucket: BucketId,
        /// Its key.
        key: Bytes,
        /// Where it stands among those of its key.
        count: u64,
    },
    /// A part of an upload under way.
    Part {
        /// The upload.
        upload: UploadKey,
        /// Its number.
        part_number: u16,
    },
    /// A part of a byte sequence that is made of parts.
    Whole(DataId),
    /// Bytes that wait to be swept.
    Garbage,
}

/// What one row says about how often bytes are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The bytes themselves: so many names point at them.
    Held {
        /// Which.
        data: DataId,
        /// How many.
        count: u32,
    },
    /// A name.
    Named {
        /// Of which bytes.
        data: DataId,
        /// By what.
        by: NameRow,
    },
    /// A row that cannot be decoded.
    Unreadable {
        /// Its key.
        row_key: Bytes,
        /// What is wrong with it.
        why: String,
    },
}

/// An object whose bytes are not what its row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostName {
    /// Its bucket.
    pub bucket: BucketId,
    /// Its key.
    pub key: Bytes,
    /// Where it stands among the versions of its key, if it is not the current one.
    pub hidden_count: Option<u64>,
    /// Its bytes.
    pub data: DataId,
    /// What is wrong.
    pub problem: NameProblem,
}

/// What is wrong with an object's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameProblem {
    /// There are no rows of its bytes.
    NoData,
    /// They are of another length.
    Length {
        /// By the object.
        named_bytes: u64,
        /// By the bytes' own rows.
        held_bytes: u64,
    },
}

/// What is wrong with the rows of a byte sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataProblem {
    /// Rows of items without their header.
    NoHeader,
    /// A row that the header counts is not there.
    RowMissing(u32),
    /// A row that the header does not count.
    RowExtra(u32),
    /// A row cannot be decoded.
    Unreadable(String),
    /// The items are not as long as the header says.
    Length {
        /// By the header.
        said_bytes: u64,
        /// By the items.
        items_bytes: u64,
    },
    /// An extent has no owner row.
    NoOwner(Extent),
    /// An extent's owner row says something else.
    OtherOwner(Extent),
}

/// An owner row and whether the bytes that it names say the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerAudit {
    /// Its place in the volume: sector, byte in the stripe.
    pub place: (u32, u32),
    /// What it says, if it can be decoded.
    pub owner: Option<Owner>,
    /// What is wrong.
    pub problem: Option<OwnerProblem>,
}

/// What is wrong with an owner row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnerProblem {
    /// It cannot be decoded, or its key and value differ.
    Unreadable(String),
    /// The bytes that it names have no rows.
    NoData,
    /// The bytes that it names have no such extent.
    NotInData,
}

/// A volume's sums at one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeRecount {
    /// Its record, or why that cannot be decoded; `None` if there is none.
    pub record: Option<Result<VolumeRecord, String>>,
    /// As kept by atomic adds.
    pub live_bytes: i64,
    /// Sum of its owner rows.
    pub owned_bytes: u64,
    /// Owner rows.
    pub owners: u64,
}

/// What is kept of how much each bucket holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptUsages {
    /// Objects and bytes by bucket. A sum below zero is as it was found.
    pub sums: BTreeMap<BucketId, (i64, i64)>,
    /// Rows that cannot be decoded and are in no sum: key, and what is wrong.
    pub unreadable: Vec<(Bytes, String)>,
}

/// All rows as they are at one moment, for as long as this lives.
pub struct Audit<E: Engine> {
    pub(super) txn: E::Txn,
}

impl<E: Engine, X: Executor> Metadata<E, X> {
    /// A look at all rows as they are now. Cost: while it lives it keeps the memtables and runs of this moment.
    pub fn audit(&self) -> Audit<E> {
        Audit { txn: self.engine.begin_long() }
    }
}

impl<E: Engine> Audit<E> {
    /// What up to `limit` rows say about how often bytes are named, from the row key `begin` on (empty: from the
    /// first), and where to go on; `None` when that was all.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn references(
        &self,
        begin: &Bytes,
        limit: usize,
    ) -> Result<(Vec<Reference>, Option<Bytes>), Failure> {
        let kinds = [
            keyspace::of_kinds(Prefix::Object, Prefix::Version),
            keyspace::of_kinds(Prefix::Data, Prefix::Garbage),
            keyspace::of_kinds(Prefix::Part, Prefix::Part),
        ];
        let (found, next) = self.walk(&kinds, begin, limit).await?;
        let mut references = Vec::with_capacity(found.len());
        found.iter().for_each(|row| references_of(row, &mut references));
        Ok((references, next))
    }

    /// Of up to `limit` rows of buckets' configuration from the row key `begin` on: the bucket, and what is wrong with
    /// the row itself; and where to go on.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn audit_configs(
        &self,
        begin: &Bytes,
        limit: usize,
    ) -> Result<(Vec<(BucketId, Option<String>)>, Option<Bytes>), Failure> {
        let range = from(keyspace::of_kinds(Prefix::BucketConfig, Prefix::BucketConfig), begin);
        let found = rows(&self.txn, &range, limit, Isolation::Snapshot).await?;
        let audited = found.iter().filter_map(|row| {
            let problem = bucket_config::problem_of(&row.key, &row.value);
            keyspace::bucket_id_of(&row.key).map(|bucket| (bucket, problem))
        });
        Ok((audited.collect(), next_begin(&found, limit)))
    }

    /// Objects among up to `limit` rows of objects and versions from the row key `begin` on whose bytes are not what they
    /// say, the buckets of those rows with what these rows hold, and where to go on.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn audit_objects(
        &self,
        begin: &Bytes,
        limit: usize,
    ) -> Result<(Vec<LostName>, BTreeMap<BucketId, Usage>, Option<Bytes>), Failure> {
        let range = from(keyspace::of_kinds(Prefix::Object, Prefix::Version), begin);
        let txn = &self.txn;
        let found = rows(txn, &range, limit, Isolation::Snapshot).await?;
        let (mut lost, mut buckets) = (Vec::new(), BTreeMap::<BucketId, Usage>::new());
        for row in &found {
            let Some(bucket) = keyspace::bucket_id_of(&row.key) else { continue };
            let held = buckets.entry(bucket).or_default();
            // What cannot be decoded is told by `references`.
            let Some((key, hidden_count, record)) = object_of(row) else { continue };
            held.objects += 1;
            held.bytes = held.bytes.saturating_add(record.listed.size_bytes);
            if let Some(problem) = name_problem(txn, &record).await? {
                lost.push(LostName { bucket, key, hidden_count, data: record.data, problem });
            }
        }
        Ok((lost, buckets, next_begin(&found, limit)))
    }

    /// What is kept of how much each bucket holds.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn usages(&self) -> Result<KeptUsages, Failure> {
        let mut range = keyspace::of_kinds(Prefix::Usage, Prefix::Usage);
        let mut usages = KeptUsages::default();
        loop {
            let found = rows(&self.txn, &range, PAGE_ROWS, Isolation::Snapshot).await?;
            for row in &found {
                let Some((bucket, kind)) = keyspace::usage_of_row(&row.key) else {
                    usages.unreadable.push((row.key.clone(), "its key is malformed".to_owned()));
                    continue;
                };
                let part = match decode_counter("usage", Some(&row.value)) {
                    Ok(part) => part.cast_signed(),
                    Err(error) => {
                        usages.unreadable.push((row.key.clone(), error.to_string()));
                        continue;
                    }
                };
                let sums = usages.sums.entry(bucket).or_default();
                let sum = match kind {
                    UsageKind::Objects => &mut sums.0,
                    UsageKind::Bytes => &mut sums.1,
                };
                *sum = sum.wrapping_add(part);
            }
            match next_begin(&found, PAGE_ROWS) {
                Some(begin) => range.begin = begin.to_vec(),
                None => return Ok(usages),
            }
        }
    }

    /// Up to `limit` byte sequences that have rows, with ids after `after`, in order.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn data_ids(&self, after: Option<DataId>, limit: usize) -> Result<Vec<DataId>, Failure> {
        let mut range = keyspace::of_kinds(Prefix::Data, Prefix::Data);
        if let Some(after) = after {
            range.begin = keyspace::data_rows(after).end;
        }
        let txn = &self.txn;
        let found = rows(txn, &range, limit, Isolation::Snapshot).await?;
        let malformed = || damaged("a data row has a malformed key");
        let mut ids: Vec<DataId> = Vec::with_capacity(found.len());
        for row in &found {
            let (id, _) = keyspace::data_row_of(&row.key).ok_or_else(malformed)?;
            if ids.last() != Some(&id) {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    /// Up to `limit` byte sequences that wait to be swept, with ids after `after`, in order.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn garbage(&self, after: Option<DataId>, limit: usize) -> Result<Vec<DataId>, Failure> {
        let mut range = keyspace::all_garbage();
        if let Some(after) = after {
            range.begin = successor(keyspace::garbage(after));
        }
        let found = rows(&self.txn, &range, limit, Isolation::Snapshot).await?;
        Ok(found.iter().filter_map(|row| keyspace::data_id_of(&row.key)).collect())
    }

    /// The extents of a byte sequence, or of its parts.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn extents(&self, data: DataId) -> Result<Vec<Extent>, Failure> {
        let found = rows(&self.txn, &keyspace::data_rows(data), usize::MAX, Isolation::Snapshot).await?;
        let mut extents = Vec::new();
        for items in items_of_rows(&found, &mut Vec::new()).unwrap_or_default() {
            let DataItems::Parts(parts) = items else {
                extents.extend(extents_of(&items));
                continue;
            };
            for part in parts {
                // A copy may hold the part on.
                let held = header(&self.txn, part.data, Isolation::Snapshot).await?;
                if held.is_some_and(|held| held.reference_count > 1) {
                    continue;
                }
                let of_part = all_extents(&self.txn, part.data).await?;
                extents.extend(of_part.unwrap_or_default());
            }
        }
        Ok(extents)
    }

    /// Everything that is wrong with the rows of one byte sequence and the owners of its extents, and how many extents
    /// were compared.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn audit_data(&self, data: DataId) -> Result<(Vec<DataProblem>, u64), Failure> {
        let txn = &self.txn;
        let mut problems = Vec::new();
        let found = rows(txn, &keyspace::data_rows(data), usize::MAX, Isolation::Snapshot).await?;
        let Some(items) = items_of_rows(&found, &mut problems) else { return Ok((problems, 0)) };
        let is_garbage = txn.get(&keyspace::garbage(data), Isolation::Snapshot).await?.is_some();
        if is_garbage {
            // A sweep takes rows from the end and leaves the header's length.
            problems.retain(|problem| !matches!(problem, DataProblem::Length { .. }));
        }
        let mut compared = 0;
        for item in items.iter().flat_map(extents_of) {
            compared += 1;
            let owner = txn.get(&keyspace::owner(&item), Isolation::Snapshot).await?;
            match owner.as_ref().map(decode_owner) {
                None => problems.push(DataProblem::NoOwner(item)),
                Some(Ok(owner)) if owner == (item, data) => {}
                Some(_) => problems.push(DataProblem::OtherOwner(item)),
            }
        }
        Ok((problems, compared))
    }

    /// Up to `limit` owner rows of a volume whose place is `from` or after it, each compared with the rows of its
    /// bytes.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn audit_owners(
        &self,
        volume: VolumeId,
        from: (u32, u32),
        limit: usize,
    ) -> Result<Vec<OwnerAudit>, Failure> {
        let mut range = keyspace::owners(volume);
        range.begin = keyspace::owner_from(volume, from.0, from.1);
        let txn = &self.txn;
        let found = rows(txn, &range, limit, Isolation::Snapshot).await?;
        // Neighbours mostly belong to one byte sequence.
        let mut last: Option<(DataId, Option<BTreeSet<Extent>>)> = None;
        let mut audits = Vec::with_capacity(found.len());
        for row in &found {
            let place = keyspace::place_of(&row.key);
            let place = place.ok_or_else(|| damaged("an owner row has a malformed key"))?;
            let owner = match decode_owner(&row.value) {
                Ok((extent, data)) if row.key == keyspace::owner(&extent) => Owner { extent, data },
                Ok(_) => {
                    let problem = OwnerProblem::Unreadable("its key and value differ".to_owned());
                    audits.push(OwnerAudit { place, owner: None, problem: Some(problem) });
                    continue;
                }
                Err(error) => {
                    let problem = OwnerProblem::Unreadable(error.to_string());
                    audits.push(OwnerAudit { place, owner: None, problem: Some(problem) });
                    continue;
                }
            };
            let extents = match last.take() {
                Some((data, extents)) if data == owner.data => extents,
                _ => all_extents(txn, owner.data).await?,
            };
            let problem = match &extents {
                None => Some(OwnerProblem::NoData),
                Some(extents) if extents.contains(&owner.extent) => None,
                Some(_) => Some(OwnerProblem::NotInData),
            };
            last = Some((owner.data, extents));
            audits.push(OwnerAudit { place, owner: Some(owner), problem });
        }
        Ok(audits)
    }

    /// The first volume from `from` on that a volume, live or owner row names.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn next_named_volume(&self, from: VolumeId) -> Result<Option<VolumeId>, Failure> {
        let txn = &self.txn;
        let mut first: Option<VolumeId> = None;
        for (kind, begin) in [
            (Prefix::Volume, keyspace::volume(from)),
            (Prefix::Live, keyspace::live(from)),
            (Prefix::Owner, keyspace::owner_from(from, 0, 0)),
        ] {
            let range = KeyRange { begin, end: keyspace::of_kinds(kind, kind).end };
            let found = rows(txn, &range, 1, Isolation::Snapshot).await?;
            let id = found.first().and_then(|row| keyspace::volume_id_of(&row.key));
            first = first.into_iter().chain(id).min();
        }
        Ok(first)
    }

    /// A volume's record, its live bytes, and the sum of its owners at the same snapshot.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn recount_volume(&self, volume: VolumeId) -> Result<VolumeRecount, Failure> {
        let txn = &self.txn;
        let record = txn.get(&keyspace::volume(volume), Isolation::Snapshot).await?;
        let record = record.map(|value| VolumeRecord::decode(&value).map_err(|error| error.to_string()));
        let live = txn.get(&keyspace::live(volume), Isolation::Snapshot).await?;
        let live_bytes = decode_counter("live", live.as_ref())?.cast_signed();
        let (mut owned_bytes, mut owners) = (0, 0);
        let mut range = keyspace::owners(volume);
        loop {
            let found = rows(txn, &range, PAGE_ROWS, Isolation::Snapshot).await?;
            let lens = found.iter().filter_map(|row| decode_owner(&row.value).ok());
            owned_bytes += lens.map(|(extent, _)| extent.len_bytes).sum::<u64>();
            owners += found.len() as u64;
            match next_begin(&found, PAGE_ROWS) {
                Some(begin) => range.begin = begin.to_vec(),
                None => return Ok(VolumeRecount { record, live_bytes, owned_bytes, owners }),
            }
        }
    }

    /// One volume's record; `None` if there is none, or it cannot be decoded, which [`Audit::recount_volume`] tells.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn volume(&self, volume: VolumeId) -> Result<Option<VolumeRecord>, Failure> {
        let value = self.txn.get(&keyspace::volume(volume), Isolation::Snapshot).await?;
        Ok(value.and_then(|value| VolumeRecord::decode(&value).ok()))
    }

    /// The next id that will be given out.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn next_volume_id(&self) -> Result<VolumeId, Failure> {
        let value = self.txn.get(&keyspace::counter(Counter::Volume), Isolation::Snapshot).await?;
        Ok(VolumeId(decode_counter("counter", value.as_ref())?))
    }

    /// All buckets: number and name.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn buckets(&self) -> Result<BTreeMap<BucketId, String>, Failure> {
        let mut range = keyspace::buckets(b"");
        let mut buckets = BTreeMap::new();
        loop {
            let found = rows(&self.txn, &range, PAGE_ROWS, Isolation::Snapshot).await?;
            for row in &found {
                let name = String::from_utf8_lossy(&row.key[1..]).into_owned();
                buckets.insert(BucketRecord::decode(&row.value)?.id, name);
            }
            match next_begin(&found, PAGE_ROWS) {
                Some(begin) => range.begin = begin.to_vec(),
                None => return Ok(buckets),
            }
        }
    }

    /// Up to `limit` uploads that have part rows, with ids after `after`, in order.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn uploads_with_parts(
        &self,
        after: Option<UploadKey>,
        limit: usize,
    ) -> Result<Vec<UploadKey>, Failure> {
        let txn = &self.txn;
        let mut range = keyspace::of_kinds(Prefix::Part, Prefix::Part);
        let mut uploads = Vec::new();
        let mut after = after;
        while uploads.len() < limit {
            if let Some(after) = after {
                range.begin = keyspace::parts(after).end;
            }
            let found = rows(txn, &range, 1, Isolation::Snapshot).await?;
            let Some(row) = found.first() else { break };
            let malformed = || damaged("a part row has a malformed key");
            let upload = keyspace::upload_key_of_part(&row.key).ok_or_else(malformed)?;
            uploads.push(upload);
            after = Some(upload);
        }
        Ok(uploads)
    }

    /// The uploads of up to `limit` upload rows from the row key `begin` on, and where to go on.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn upload_keys(
        &self,
        begin: &Bytes,
        limit: usize,
    ) -> Result<(Vec<UploadKey>, Option<Bytes>), Failure> {
        let kinds = [keyspace::of_kinds(Prefix::Upload, Prefix::Upload)];
        let (found, next) = self.walk(&kinds, begin, limit).await?;
        let uploads = found.iter().filter_map(|row| keyspace::upload_of(&row.key));
        Ok((uploads.map(|(_, upload)| upload).collect(), next))
    }

    /// Rows of some kinds, given in the order of their keys, from a row key on.
    pub(crate) async fn walk(
        &self,
        kinds: &[KeyRange],
        begin: &Bytes,
        limit: usize,
    ) -> Result<(Vec<Row>, Option<Bytes>), Failure> {
        let Some(place) = kinds.iter().position(|range| range.end.as_slice() > begin.as_ref()) else {
            return Ok((Vec::new(), None));
        };
        let range = from(kinds[place].clone(), begin);
        let found = rows(&self.txn, &range, limit, Isolation::Snapshot).await?;
        let after_kind = || kinds.get(place + 1).map(|range| Bytes::copy_from_slice(&range.begin));
        let next = next_begin(&found, limit).or_else(after_kind);
        Ok((found, next))
    }
}

fn from(range: KeyRange, begin: &[u8]) -> KeyRange {
    KeyRange { begin: range.begin.max(begin.to_vec()), end: range.end }
}

/// Where to go on after a page; `None` if it was the last.
fn next_begin(found: &[Row], limit: usize) -> Option<Bytes> {
    let last = found.last().filter(|_| found.len() == limit)?;
    Some(Bytes::from(successor(last.key.to_vec())))
}

fn references_of(row: &Row, out: &mut Vec<Reference>) {
    let unreadable = |why: String| Reference::Unreadable { row_key: row.key.clone(), why };
    let malformed = || unreadable("its key is malformed".to_owned());
    match keyspace::kind_of(&row.key) {
        Some(Prefix::Object) => {
            out.extend(match (keyspace::bucket_id_of(&row.key), ObjectRecord::decode(&row.value)) {
                (None, _) => Some(malformed()),
                (_, Err(error)) => Some(unreadable(error.to_string())),
                (Some(bucket), Ok(record)) => {
                    let by = NameRow::Object { bucket, key: keyspace::object_key_of(&row.key) };
                    Some(Reference::Named { data: record.data, by })
                }
            })
        }
        Some(Prefix::Version) => {
            let place = keyspace::bucket_id_of(&row.key).zip(keyspace::version_of(&row.key));
            out.extend(match (place, VersionRecord::decode(&row.value)) {
                (None, _) => Some(malformed()),
                (_, Err(error)) => Some(unreadable(error.to_string())),
                (Some((bucket, (key, count))), Ok(VersionRecord::Object(record))) => {
                    let by = NameRow::Version { bucket, key: Bytes::from(key), count };
                    Some(Reference::Named { data: record.data, by })
                }
                (Some(_), Ok(VersionRecord::Marker(_))) => None,
            })
        }
        Some(Prefix::Data) => match keyspace::data_row_of(&row.key) {
            None => out.push(malformed()),
            Some((data, 0)) => match DataHeader::decode(&row.value) {
                Ok(header) => {
                    out.push(Reference::Held { data, count: header.reference_count });
                    parts_named(data, &header.items, out);
                }
                Err(error) => out.push(unreadable(error.to_string())),
            },
            Some((data, _)) => match DataItems::decode(&row.value) {
                Ok(items) => parts_named(data, &items, out),
                Err(error) => out.push(unreadable(error.to_string())),
            },
        },
        Some(Prefix::Inline) => out.push(match keyspace::data_id_of(&row.key) {
            Some(data) => Reference::Held { data, count: 1 },
            None => malformed(),
        }),
        Some(Prefix::Garbage) => out.push(match keyspace::data_id_of(&row.key) {
            Some(data) => Reference::Named { data, by: NameRow::Garbage },
            None => malformed(),
        }),
        Some(Prefix::Part) => {
            let (upload, number) =
                (keyspace::upload_key_of_part(&row.key), keyspace::part_number_of(&row.key));
            out.push(match (upload.zip(number), PartRecord::decode(&row.value)) {
                (None, _) => malformed(),
                (_, Err(error)) => unreadable(error.to_string()),
                (Some((upload, part_number)), Ok(record)) => {
                    Reference::Named { data: record.data, by: NameRow::Part { upload, part_number } }
                }
            });
        }
        _ => {}
    }
}

fn parts_named(whole: DataId, items: &DataItems, out: &mut Vec<Reference>) {
    if let DataItems::Parts(parts) = items {
        let named = |data| Reference::Named { data, by: NameRow::Whole(whole) };
        out.extend(parts.iter().map(|part| named(part.data)));
    }
}

/// The object of a row of objects or versions, its key, and for a version its count.
fn object_of(row: &Row) -> Option<(Bytes, Option<u64>, ObjectRecord)> {
    if row.key.first() == Some(&(Prefix::Object as u8)) {
        return Some((keyspace::object_key_of(&row.key), None, ObjectRecord::decode(&row.value).ok()?));
    }
    let (key, count) = keyspace::version_of(&row.key)?;
    match VersionRecord::decode(&row.value).ok()? {
        VersionRecord::Object(record) => Some((Bytes::from(key), Some(count), record)),
        VersionRecord::Marker(_) => None,
    }
}

async fn name_problem<T: Transaction>(
    txn: &T,
    record: &ObjectRecord,
) -> Result<Option<NameProblem>, Failure> {
    let held_bytes = match record.place {
        Place::Inline => {
            let value = txn.get(&keyspace::inline(record.data), Isolation::Snapshot).await?;
            value.map(|value| value.len() as u64)
        }
        Place::Rows { .. } => {
            let value = txn.get(&keyspace::data(record.data, 0), Isolation::Snapshot).await?;
            match value.as_ref().map(DataHeader::decode) {
                None => None,
                Some(Ok(header)) => Some(header.len_bytes),
                // Told by `audit_data`.
                Some(Err(_)) => return Ok(None),
            }
        }
    };
    let named_bytes = record.stored_bytes();
    Ok(match held_bytes {
        None => Some(NameProblem::NoData),
        Some(held_bytes) if held_bytes == named_bytes => None,
        Some(held_bytes) => Some(NameProblem::Length { named_bytes, held_bytes }),
    })
}

/// The items of a byte sequence's rows, and what is wrong with those; `None` without a header.
fn items_of_rows(found: &[Row], problems: &mut Vec<DataProblem>) -> Option<Vec<DataItems>> {
    let mut header = None;
    let mut others = Vec::new();
    for row in found {
        match keyspace::data_row_of(&row.key) {
            Some((_, 0)) => match DataHeader::decode(&row.value) {
                Ok(decoded) => header = Some(decoded),
                Err(error) => {
                    problems.push(DataProblem::Unreadable(error.to_string()));
                    return None;
                }
            },
            Some((_, index)) => match DataItems::decode(&row.value) {
                Ok(items) => others.push((index, items)),
                Err(error) => {
                    problems.push(DataProblem::Unreadable(error.to_string()));
                    return None;
                }
            },
            None => problems.push(DataProblem::Unreadable("its key is malformed".to_owned())),
        }
    }
    let Some(header) = header else {
        // Gone meanwhile, or rows that nothing leads to.
        problems.extend((!others.is_empty()).then_some(DataProblem::NoHeader));
        return None;
    };
    let counted = u32::try_from(header.row_starts.len()).unwrap_or(u32::MAX);
    let is_there = |index: u32| others.iter().any(|(other, _)| *other == index);
    problems.extend((1..=counted).filter(|index| !is_there(*index)).map(DataProblem::RowMissing));
    let extra = others.iter().filter(|(index, _)| *index > counted);
    problems.extend(extra.map(|(index, _)| DataProblem::RowExtra(*index)));
    let said_bytes = header.len_bytes;
    let items: Vec<DataItems> =
        std::iter::once(header.items).chain(others.into_iter().map(|(_, items)| items)).collect();
    let items_bytes = items.iter().map(DataItems::len_bytes).sum();
    if said_bytes != items_bytes {
        problems.push(DataProblem::Length { said_bytes, items_bytes });
    }
    Some(items)
}

fn extents_of(items: &DataItems) -> Vec<Extent> {
    match items {
        DataItems::Extents(items) => items.iter().map(|item| item.extent).collect(),
        DataItems::Parts(_) => Vec::new(),
    }
}

/// All extents of a byte sequence; `None` if it has no header.
async fn all_extents<T: Transaction>(txn: &T, data: DataId) -> Result<Option<BTreeSet<Extent>>, Failure> {
    // Rows that are missing or cannot be decoded are told by `audit_data`.
    let Ok(Some(header)) = header(txn, data, Isolation::Snapshot).await else {
        let is_there = txn.get(&keyspace::data(data, 0), Isolation::Snapshot).await?.is_some();
        return Ok(is_there.then(BTreeSet::new));
    };
    let mut extents: BTreeSet<Extent> = extents_of(&header.items).into_iter().collect();
    for row_index in 1..=header.row_starts.len() {
        if let Ok(items) = row_items(txn, data, row_index).await {
            extents.extend(extents_of(&items));
        }
    }
    Ok(Some(extents))
}
