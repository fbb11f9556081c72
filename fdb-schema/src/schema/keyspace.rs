//! Keys: the one table of prefixes, and how each row's key is built and read.
//! Invariants: a key is a prefix byte and fixed-width big-endian numbers, then at most one string; keys of a kind sort
//! by those parts, strings by their raw bytes; the longest key (an upload of a 1,024-byte key of zeros) is under 2,100.
//! Not here: values (`record`).

use bytes::Bytes;
use shardstore_format::{DataId, Extent, VolumeId, WriterId};

use super::accounts::AccountId;

/// The first byte of every key. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Prefix {
    /// (counter) -> next value.
    Counter = 0x01,
    /// (name) -> sealed bytes.
    Identity = 0x02,
    /// (writer, sequence) -> attempt that committed.
    Done = 0x03,
    /// (account) -> account.
    Account = 0x04,
    /// (name) -> account id.
    AccountName = 0x05,
    /// (account, access key) -> sealed secret and state.
    AccessKey = 0x06,
    /// (access key) -> account id.
    AccessKeyOwner = 0x07,
    /// (name) -> bucket.
    Bucket = 0x10,
    /// (bucket, key) -> current version.
    Object = 0x11,
    /// (bucket, key, inverted count) -> older versions and delete markers.
    Version = 0x12,
    /// (bucket, what, part of the count) -> exact numbers by atomic add.
    Usage = 0x13,
    /// (bucket, kind, part) -> a configuration document.
    BucketConfig = 0x14,
    /// (account, bucket name) -> nothing: the buckets that an account owns.
    OwnedBucket = 0x16,
    /// (bucket, key) -> count of the null version, if that is among the version rows.
    NullVersion = 0x15,
    /// (data id, n) -> header and items of a byte sequence.
    Data = 0x20,
    /// (data id) -> bytes.
    Inline = 0x21,
    /// (data id) -> to be swept.
    Garbage = 0x22,
    /// (bucket, key, upload id) -> upload.
    Upload = 0x30,
    /// (upload id, part number) -> part.
    Part = 0x31,
    /// (upload id) -> what its completion answered.
    Completed = 0x32,
    /// (bucket, token) -> what a client's token renamed.
    Renamed = 0x33,
    /// (time, key of a row of [`Prefix::Renamed`]) -> nothing: the order in which tokens are forgotten.
    RenamedAt = 0x34,
    /// () -> the members of the pool.
    Members = 0x50,
    /// (name) -> how far background work came.
    Upkeep = 0x51,
    /// (volume) -> record.
    Volume = 0x40,
    /// (volume) -> live bytes by atomic add.
    Live = 0x41,
    /// (volume, sector, byte) -> extent and data id.
    Owner = 0x42,
}

/// Counters, each a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Counter {
    /// Next bucket id.
    Bucket = 1,
    /// Next volume id.
    Volume = 2,
    /// Next writer id.
    Writer = 3,
}

/// What usage rows count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum UsageKind {
    /// Objects.
    Objects = 1,
    /// Bytes of objects.
    Bytes = 2,
}

/// A bucket's number; from a counter, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BucketId(pub u64);

/// An upload's identity: 16 bytes that sort by the time of its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadKey(pub [u8; 16]);

/// Keys from `begin` up to but without `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyRange {
    pub(crate) begin: Vec<u8>,
    pub(crate) end: Vec<u8>,
}

/// The first key after every key that begins with `start`; `None` if there is none.
pub(crate) fn after_prefix(start: &[u8]) -> Option<Vec<u8>> {
    let last = start.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = start[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// Every key that begins with `start`, which begins with a [`Prefix`] and so never is all `0xff`.
fn starting_with(start: Vec<u8>) -> KeyRange {
    let end = after_prefix(&start).expect("a prefix byte is below 0xff");
    KeyRange { begin: start, end }
}

fn key(prefix: Prefix, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let mut key = Vec::with_capacity(1 + len);
    key.push(prefix as u8);
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

pub(crate) fn counter(counter: Counter) -> Vec<u8> {
    key(Prefix::Counter, &[&[counter as u8]])
}

/// The key of the volume counter, for the engine that takes ids of runs from it: 8 bytes little-endian.
pub fn volume_counter_key() -> Vec<u8> {
    counter(Counter::Volume)
}

pub(crate) fn identity(name: &[u8]) -> Vec<u8> {
    key(Prefix::Identity, &[name])
}

pub(crate) fn account(id: AccountId) -> Vec<u8> {
    key(Prefix::Account, &[&id.0])
}

/// Every account.
pub(crate) fn accounts() -> KeyRange {
    starting_with(vec![Prefix::Account as u8])
}

/// The account in an account row's key.
pub(crate) fn account_of(row_key: &[u8]) -> Option<AccountId> {
    row_key.get(1..)?.try_into().ok().map(AccountId)
}

pub(crate) fn account_name(name: &[u8]) -> Vec<u8> {
    key(Prefix::AccountName, &[name])
}

pub(crate) fn access_key(id: AccountId, access_key: &[u8]) -> Vec<u8> {
    key(Prefix::AccessKey, &[&id.0, access_key])
}

/// The access keys of one account.
pub(crate) fn access_keys_of(id: AccountId) -> KeyRange {
    starting_with(access_key(id, b""))
}

/// Every access key.
pub(crate) fn all_access_keys() -> KeyRange {
    starting_with(vec![Prefix::AccessKey as u8])
}

/// The account and the access key in an access key row's key.
pub(crate) fn access_key_of(row_key: &[u8]) -> Option<(AccountId, Vec<u8>)> {
    let (id, access_key) = row_key.get(1..)?.split_first_chunk::<32>()?;
    Some((AccountId(*id), access_key.to_vec()))
}

pub(crate) fn access_key_owner(access_key: &[u8]) -> Vec<u8> {
    key(Prefix::AccessKeyOwner, &[access_key])
}

pub(crate) fn owned_bucket(id: AccountId, name: &[u8]) -> Vec<u8> {
    key(Prefix::OwnedBucket, &[&id.0, name])
}

/// The buckets that an account owns whose names begin with `prefix`.
pub(crate) fn owned_buckets(id: AccountId, prefix: &[u8]) -> KeyRange {
    starting_with(owned_bucket(id, prefix))
}

/// The bucket in the key of an owned bucket's row.
pub(crate) fn owned_bucket_of(row_key: &[u8]) -> Option<&[u8]> {
    row_key.get(33..)
}

/// The one row of the pool's members.
pub(crate) fn members() -> Vec<u8> {
    key(Prefix::Members, &[])
}

pub(crate) fn upkeep(name: &[u8]) -> Vec<u8> {
    key(Prefix::Upkeep, &[name])
}

pub(crate) fn done(writer: WriterId, sequence: u64) -> Vec<u8> {
    key(Prefix::Done, &[&writer.0.to_be_bytes(), &sequence.to_be_bytes()])
}

pub(crate) fn bucket(name: &[u8]) -> Vec<u8> {
    key(Prefix::Bucket, &[name])
}

/// Buckets whose names begin with `prefix`.
pub(crate) fn buckets(prefix: &[u8]) -> KeyRange {
    starting_with(key(Prefix::Bucket, &[prefix]))
}

pub(crate) fn object(bucket: BucketId, object_key: &[u8]) -> Vec<u8> {
    key(Prefix::Object, &[&bucket.0.to_be_bytes(), object_key])
}

/// Objects of a bucket whose keys begin with `prefix`.
pub(crate) fn objects(bucket: BucketId, prefix: &[u8]) -> KeyRange {
    starting_with(object(bucket, prefix))
}

/// The object key in a row's key.
pub(crate) fn object_key_of(row_key: &Bytes) -> Bytes {
    row_key.slice(OBJECT_HEAD_BYTES.min(row_key.len())..)
}

const OBJECT_HEAD_BYTES: usize = 1 + 8;

/// A version: those of a key follow each other, the newest first.
pub(crate) fn version(bucket: BucketId, object_key: &[u8], count: u64) -> Vec<u8> {
    let mut out = versions_head(bucket, object_key);
    out.extend_from_slice(&TEXT_END);
    out.extend_from_slice(&(!count).to_be_bytes());
    out
}

fn versions_head(bucket: BucketId, key_prefix: &[u8]) -> Vec<u8> {
    escaped_head(Prefix::Version, bucket, key_prefix)
}

/// Versions of a bucket whose keys begin with `prefix`.
pub(crate) fn versions(bucket: BucketId, prefix: &[u8]) -> KeyRange {
    starting_with(versions_head(bucket, prefix))
}

/// Versions of exactly one key.
pub(crate) fn versions_of(bucket: BucketId, object_key: &[u8]) -> KeyRange {
    let mut start = versions_head(bucket, object_key);
    start.extend_from_slice(&TEXT_END);
    starting_with(start)
}

/// The object key and count in a version row's key.
pub(crate) fn version_of(row_key: &[u8]) -> Option<(Vec<u8>, u64)> {
    let (text, rest) = unescape(row_key.get(OBJECT_HEAD_BYTES..)?)?;
    Some((text, !u64::from_be_bytes(rest.try_into().ok()?)))
}

/// Where a key's null version is, if it is among the version rows.
pub(crate) fn null_version(bucket: BucketId, object_key: &[u8]) -> Vec<u8> {
    key(Prefix::NullVersion, &[&bucket.0.to_be_bytes(), object_key])
}

pub(crate) fn usage(bucket: BucketId, kind: UsageKind, part: u8) -> Vec<u8> {
    key(Prefix::Usage, &[&bucket.0.to_be_bytes(), &[kind as u8, part]])
}

/// All parts of one number of a bucket.
pub(crate) fn usage_of(bucket: BucketId, kind: UsageKind) -> KeyRange {
    starting_with(key(Prefix::Usage, &[&bucket.0.to_be_bytes(), &[kind as u8]]))
}

/// All numbers of a bucket.
pub(crate) fn usages(bucket: BucketId) -> KeyRange {
    starting_with(key(Prefix::Usage, &[&bucket.0.to_be_bytes()]))
}

/// The bucket of a usage row, and what it counts.
pub(crate) fn usage_of_row(row_key: &[u8]) -> Option<(BucketId, UsageKind)> {
    let bucket = bucket_id_of(row_key)?;
    let named = *row_key.get(1 + 8)?;
    let kind = [UsageKind::Objects, UsageKind::Bytes].into_iter().find(|kind| *kind as u8 == named)?;
    Some((bucket, kind))
}

/// One part of a configuration document of a bucket.
pub(crate) fn bucket_config(bucket: BucketId, kind: u8, part: u8) -> Vec<u8> {
    key(Prefix::BucketConfig, &[&bucket.0.to_be_bytes(), &[kind, part]])
}

/// All parts of one configuration document.
pub(crate) fn bucket_config_parts(bucket: BucketId, kind: u8) -> KeyRange {
    starting_with(key(Prefix::BucketConfig, &[&bucket.0.to_be_bytes(), &[kind]]))
}

/// All configuration of a bucket.
pub(crate) fn bucket_configs(bucket: BucketId) -> KeyRange {
    starting_with(key(Prefix::BucketConfig, &[&bucket.0.to_be_bytes()]))
}

/// The kind and part in the key of a configuration row.
pub(crate) fn bucket_config_of(row_key: &[u8]) -> Option<(u8, u8)> {
    match row_key.get(9..)? {
        [kind, part] => Some((*kind, *part)),
        _ => None,
    }
}

fn data_key(prefix: Prefix, id: DataId, rest: &[u8]) -> Vec<u8> {
    key(prefix, &[&id.writer.0.to_be_bytes(), &id.counter.to_be_bytes(), rest])
}

/// Row 0 is the header, the others hold items.
pub(crate) fn data(id: DataId, row_index: u32) -> Vec<u8> {
    data_key(Prefix::Data, id, &row_index.to_be_bytes())
}

pub(crate) fn inline(id: DataId) -> Vec<u8> {
    data_key(Prefix::Inline, id, &[])
}

pub(crate) fn garbage(id: DataId) -> Vec<u8> {
    data_key(Prefix::Garbage, id, &[])
}

/// All garbage, by data id.
pub(crate) fn all_garbage() -> KeyRange {
    starting_with(vec![Prefix::Garbage as u8])
}

/// The data id in a garbage row's key.
pub(crate) fn data_id_of(row_key: &[u8]) -> Option<DataId> {
    let (writer, rest) = row_key.get(1..)?.split_first_chunk::<4>()?;
    let counter: [u8; 8] = rest.try_into().ok()?;
    let writer = WriterId(u32::from_be_bytes(*writer));
    Some(DataId { writer, counter: u64::from_be_bytes(counter) })
}

/// Appends `text` so that something may follow it and the order stays that of the raw bytes: 0x00 becomes 00 ff.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
}

/// Ends an escaped text; below every byte that could follow in a longer one.
const TEXT_END: [u8; 2] = [0x00, 0x01];

/// The beginning of a key with a text that something follows.
fn escaped_head(prefix: Prefix, bucket: BucketId, text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(OBJECT_HEAD_BYTES + text.len() + 18);
    out.push(prefix as u8);
    out.extend_from_slice(&bucket.0.to_be_bytes());
    escape(text, &mut out);
    out
}

/// Takes an escaped text off; what follows its end comes with it.
fn unescape(escaped: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut rest = escaped;
    let mut text = Vec::with_capacity(rest.len());
    loop {
        let (first, after) = rest.split_first()?;
        rest = after;
        if *first != 0 {
            text.push(*first);
            continue;
        }
        let (second, after) = rest.split_first()?;
        rest = after;
        match second {
            0xff => text.push(0),
            0x01 => return Some((text, rest)),
            _ => return None,
        }
    }
}

fn upload_head(bucket: BucketId, key_prefix: &[u8]) -> Vec<u8> {
    escaped_head(Prefix::Upload, bucket, key_prefix)
}

pub(crate) fn upload(bucket: BucketId, object_key: &[u8], upload: UploadKey) -> Vec<u8> {
    let mut out = upload_head(bucket, object_key);
    out.extend_from_slice(&TEXT_END);
    out.extend_from_slice(&upload.0);
    out
}

/// Uploads of a bucket whose keys begin with `prefix`.
pub(crate) fn uploads(bucket: BucketId, prefix: &[u8]) -> KeyRange {
    starting_with(upload_head(bucket, prefix))
}

/// Uploads of exactly one key.
pub(crate) fn uploads_of(bucket: BucketId, object_key: &[u8]) -> KeyRange {
    let mut start = upload_head(bucket, object_key);
    start.extend_from_slice(&TEXT_END);
    starting_with(start)
}

/// The object key and upload id in an upload row's key.
pub(crate) fn upload_of(row_key: &[u8]) -> Option<(Vec<u8>, UploadKey)> {
    let (text, rest) = unescape(row_key.get(OBJECT_HEAD_BYTES..)?)?;
    Some((text, UploadKey(rest.try_into().ok()?)))
}

pub(crate) fn part(upload: UploadKey, part_number: u16) -> Vec<u8> {
    key(Prefix::Part, &[&upload.0, &part_number.to_be_bytes()])
}

/// All parts of an upload.
pub(crate) fn parts(upload: UploadKey) -> KeyRange {
    starting_with(key(Prefix::Part, &[&upload.0]))
}

/// The part number in a part row's key.
pub(crate) fn part_number_of(row_key: &[u8]) -> Option<u16> {
    let number: [u8; 2] = row_key.get(17..)?.try_into().ok()?;
    Some(u16::from_be_bytes(number))
}

pub(crate) fn completed(upload: UploadKey) -> Vec<u8> {
    key(Prefix::Completed, &[&upload.0])
}

/// All completions, by the start of their uploads.
pub(crate) fn all_completed() -> KeyRange {
    starting_with(vec![Prefix::Completed as u8])
}

pub(crate) fn volume(volume: VolumeId) -> Vec<u8> {
    key(Prefix::Volume, &[&volume.0.to_be_bytes()])
}

/// Volumes with ids from `from` up.
pub(crate) fn volumes_from(from: VolumeId) -> KeyRange {
    KeyRange { begin: volume(from), end: vec![Prefix::Volume as u8 + 1] }
}

pub(crate) fn live(volume: VolumeId) -> Vec<u8> {
    key(Prefix::Live, &[&volume.0.to_be_bytes()])
}

pub(crate) fn owner(extent: &Extent) -> Vec<u8> {
    let place = [extent.sector.to_be_bytes(), extent.byte_in_stripe.to_be_bytes()];
    key(Prefix::Owner, &[&extent.volume.0.to_be_bytes(), place.as_flattened()])
}

/// The first owner that may lie at a place or after it.
pub(crate) fn owner_from(volume: VolumeId, sector: u32, byte_in_stripe: u32) -> Vec<u8> {
    let place = [sector.to_be_bytes(), byte_in_stripe.to_be_bytes()];
    key(Prefix::Owner, &[&volume.0.to_be_bytes(), place.as_flattened()])
}

/// What a client's token renamed.
pub(crate) fn renamed(bucket: BucketId, token: &[u8]) -> Vec<u8> {
    key(Prefix::Renamed, &[&bucket.0.to_be_bytes(), token])
}

/// When; `renamed_key` is a whole key.
pub(crate) fn renamed_at(at_ms: u64, renamed_key: &[u8]) -> Vec<u8> {
    key(Prefix::RenamedAt, &[&at_ms.to_be_bytes(), renamed_key])
}

/// Tokens of before `at_ms`, the oldest first.
pub(crate) fn renamed_before(at_ms: u64) -> KeyRange {
    KeyRange { begin: vec![Prefix::RenamedAt as u8], end: renamed_at(at_ms, &[]) }
}

/// The key of the token in the key of its time.
pub(crate) fn token_of_renamed_at(row_key: &[u8]) -> Option<&[u8]> {
    row_key.get(1 + 8..)
}

/// What an audit walks: every row of so many kinds that follow each other.
pub(crate) fn of_kinds(first: Prefix, last: Prefix) -> KeyRange {
    assert!(first as u8 <= last as u8);
    KeyRange { begin: vec![first as u8], end: vec![last as u8 + 1] }
}

/// The kind of a row's key, of those that an audit walks.
pub(crate) fn kind_of(row_key: &[u8]) -> Option<Prefix> {
    let known = [
        Prefix::Object,
        Prefix::Version,
        Prefix::Data,
        Prefix::Inline,
        Prefix::Garbage,
        Prefix::Part,
        Prefix::Upload,
    ];
    known.into_iter().find(|prefix| row_key.first() == Some(&(*prefix as u8)))
}

/// The bucket in the key of an object, a version, usage, configuration or an upload.
pub(crate) fn bucket_id_of(row_key: &[u8]) -> Option<BucketId> {
    row_key.get(1..)?.first_chunk::<8>().map(|id| BucketId(u64::from_be_bytes(*id)))
}

/// The volume in the key of a volume, live or owner row.
pub(crate) fn volume_id_of(row_key: &[u8]) -> Option<VolumeId> {
    row_key.get(1..)?.first_chunk::<8>().map(|id| VolumeId(u64::from_be_bytes(*id)))
}

/// The place, a sector and a byte in its stripe, in an owner row's key.
pub(crate) fn place_of(row_key: &[u8]) -> Option<(u32, u32)> {
    let (sector, byte) = row_key.get(9..)?.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*sector), u32::from_be_bytes(byte.try_into().ok()?)))
}

/// The data id and row index in a data row's key.
pub(crate) fn data_row_of(row_key: &[u8]) -> Option<(DataId, u32)> {
    let (head, index) = row_key.split_last_chunk::<4>()?;
    Some((data_id_of(head)?, u32::from_be_bytes(*index)))
}

/// The upload in a part row's key.
pub(crate) fn upload_key_of_part(row_key: &[u8]) -> Option<UploadKey> {
    row_key.get(1..)?.first_chunk::<16>().map(|id| UploadKey(*id))
}

/// All rows of one byte sequence, header first.
pub(crate) fn data_rows(id: DataId) -> KeyRange {
    starting_with(data_key(Prefix::Data, id, &[]))
}

/// All owners in a volume, by place.
pub(crate) fn owners(volume: VolumeId) -> KeyRange {
    starting_with(key(Prefix::Owner, &[&volume.0.to_be_bytes()]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn odd_keys() -> Vec<Vec<u8>> {
        let texts: [&[u8]; 12] = [
            b"",
            b"a",
            b"a\0",
            b"a\0\0",
            b"a\0\x01",
            b"a\x01",
            b"a/",
            b"b",
            b"\0",
            b"\0\xff",
            b"\xff",
            b"\xff\xff",
        ];
        let mut keys: Vec<Vec<u8>> = texts.iter().map(|text| text.to_vec()).collect();
        keys.push(vec![0; 1024]);
        keys.sort();
        keys
    }

    #[test]
    fn object_and_upload_keys_sort_as_the_raw_keys_do() {
        let keys = odd_keys();
        for pair in keys.windows(2) {
            assert!(object(BucketId(1), &pair[0]) < object(BucketId(1), &pair[1]));
            let (low, high) = (UploadKey([0; 16]), UploadKey([0xff; 16]));
            assert!(upload(BucketId(1), &pair[0], high) < upload(BucketId(1), &pair[1], low), "{pair:?}");
        }
        assert!(object(BucketId(1), &[0xff; 1024]) < object(BucketId(2), b""));
    }

    #[test]
    fn an_upload_key_reads_back() {
        for text in odd_keys() {
            for id in [UploadKey([0; 16]), UploadKey([0xff; 16])] {
                let row_key = upload(BucketId(7), &text, id);
                assert!(row_key.len() < 2100);
                assert_eq!(upload_of(&row_key), Some((text.clone(), id)));
            }
        }
        assert_eq!(upload_of(b"0"), None);
    }

    #[test]
    fn a_range_of_uploads_holds_the_keys_with_the_prefix_and_no_other() {
        for prefix in odd_keys() {
            let range = uploads(BucketId(1), &prefix);
            for text in odd_keys() {
                let row_key = upload(BucketId(1), &text, UploadKey([0xff; 16]));
                let inside = row_key >= range.begin && row_key < range.end;
                assert_eq!(inside, text.starts_with(&prefix), "{prefix:?} {text:?}");
            }
        }
    }

    #[test]
    fn the_key_after_a_prefix_skips_trailing_ff() {
        assert_eq!(after_prefix(b"a"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b"a\xff"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b"\xff"), None);
    }

    #[test]
    fn ids_read_back_from_keys() {
        let id = DataId { writer: WriterId(9), counter: 1 << 40 };
        assert_eq!(data_id_of(&garbage(id)), Some(id));
        assert_eq!(data_id_of(b"x"), None);
        assert_eq!(part_number_of(&part(UploadKey([1; 16]), 10_000)), Some(10_000));
        assert_eq!(upload_key_of_part(&part(UploadKey([1; 16]), 10_000)), Some(UploadKey([1; 16])));
        assert_eq!(data_row_of(&data(id, 7)), Some((id, 7)));
        assert_eq!(bucket_id_of(&object(BucketId(5), b"key")), Some(BucketId(5)));
        let owner_key = owner_from(VolumeId(3), 16, 9);
        assert_eq!((volume_id_of(&owner_key), place_of(&owner_key)), (Some(VolumeId(3)), Some((16, 9))));
        for cut in 0..owner_key.len() {
            assert_eq!(place_of(&owner_key[..cut]), None);
        }
    }
}
