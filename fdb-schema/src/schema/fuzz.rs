//! Where the fuzzer enters the parsers of rows: their keys and their values.
//! Invariants: each function takes any bytes and returns; what decodes reads back the same when it is encoded again.
//! Not here: the fuzzer (`tools/fuzz`). The tests run the seeds and what is one byte away from them.

use bytes::Bytes;
use shardstore_format::{DataId, DriveId, Extent, Member, MemberPlan, Membership, VolumeId, WriterId};

use super::accounts::{AccessKeyRecord, AccountRecord};
use super::bucket_config;
use super::encryption::{EncryptedBy, Encryption};
use super::keyspace::{self, BucketId, UploadKey};
use super::lock::{DefaultRetention, RetentionPeriod};
use super::record::{
    BucketRecord, CompletedRecord, DataExtent, DataHeader, DataItems, DataPart, ListedRecord, ObjectRecord,
    PartRecord, Place, SealedBytes, UploadRecord, decode_counter, decode_owner, encode_owner,
};
use super::value::{ChecksumAlgorithm, ChecksumKind, ETag, Header, StoredChecksum};
use super::version::{ObjectLock, Retention, RetentionMode, Version, VersionRecord};

/// A row's key.
pub fn key(bytes: &[u8]) {
    let row_key = Bytes::copy_from_slice(bytes);
    assert!(keyspace::object_key_of(&row_key).len() <= bytes.len());
    keyspace::part_number_of(bytes);
    if let Some(id) = keyspace::data_id_of(bytes) {
        assert_eq!(keyspace::garbage(id)[1..], bytes[1..]);
    }
    if let Some((text, upload)) = keyspace::upload_of(bytes) {
        assert_eq!(keyspace::upload(BucketId(0), &text, upload)[9..], bytes[9..]);
    }
    if let Some((text, count)) = keyspace::version_of(bytes) {
        assert_eq!(keyspace::version(BucketId(0), &text, count)[9..], bytes[9..]);
    }
    if let Some((kind, part)) = keyspace::bucket_config_of(bytes) {
        assert_eq!(keyspace::bucket_config(BucketId(0), kind, part)[9..], bytes[9..]);
    }
    if let Some(after) = keyspace::after_prefix(bytes) {
        assert!(after.as_slice() > bytes);
        assert!(!after.starts_with(bytes));
    }
}

/// A row's value; the first byte says of which kind of row.
pub fn value(bytes: &[u8]) {
    let Some((kind, value)) = bytes.split_first() else { return };
    let value = Bytes::copy_from_slice(value);
    match kind % 15 {
        0 => again(&value, BucketRecord::decode, BucketRecord::encode),
        1 => {
            again(&value, ObjectRecord::decode, ObjectRecord::encode);
            if let Ok(whole) = ObjectRecord::decode(&value) {
                assert_eq!(ListedRecord::decode(&value), Ok(whole.listed));
            }
        }
        2 => again(&value, DataHeader::decode, DataHeader::encode),
        3 => again(&value, DataItems::decode, DataItems::encode),
        4 => again(&value, UploadRecord::decode, UploadRecord::encode),
        5 => again(&value, PartRecord::decode, PartRecord::encode),
        6 => again(&value, CompletedRecord::decode, CompletedRecord::encode),
        7 => again(&value, decode_owner, |(extent, data)| encode_owner(extent, *data)),
        8 => again(&value, |value| Membership::decode(value), encode_members),
        9 => again(&value, bucket_config::decode, |document| bucket_config::encode(document)),
        10 => {
            again(&value, |value| decode_counter("counter", Some(value)), |sum| sum.to_le_bytes().to_vec());
        }
        11 => again(&value, AccountRecord::decode, AccountRecord::encode),
        12 => again(&value, AccessKeyRecord::decode, AccessKeyRecord::encode),
        13 => again(&value, VersionRecord::decode, VersionRecord::encode),
        _ => again(&value, DefaultRetention::decode, |default| default.encode().to_vec()),
    }
}

fn again<T: PartialEq + std::fmt::Debug, E: PartialEq + std::fmt::Debug>(
    value: &Bytes,
    decode: impl Fn(&Bytes) -> Result<T, E>,
    encode: impl Fn(&T) -> Vec<u8>,
) {
    if let Ok(found) = decode(value) {
        assert_eq!(decode(&Bytes::from(encode(&found))), Ok(found));
    }
}

fn encode_members(members: &Membership) -> Vec<u8> {
    let mut out = Vec::new();
    members.encode(&mut out);
    out
}

/// What to begin with, by the name of the function.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let id = DataId { writer: WriterId(9), counter: 1 << 40 };
    let extent =
        Extent { volume: VolumeId(5), sector: 16, byte_in_stripe: 3, len_bytes: 70_000, page_len_sectors: 2 };
    let keys = [
        keyspace::object(BucketId(1), b"a/b"),
        keyspace::upload(BucketId(1), b"a\0b", UploadKey([7; 16])),
        keyspace::version(BucketId(1), b"a\0b", 1_790_000_000_000_000),
        keyspace::null_version(BucketId(1), b"a/b"),
        keyspace::part(UploadKey([7; 16]), 10_000),
        keyspace::garbage(id),
        keyspace::owner(&extent),
        keyspace::volume(VolumeId(5)),
        keyspace::bucket_config(BucketId(1), 5, 1),
    ];
    let values = seed_values(id, extent).into_iter().zip(0u8..);
    let values = values.map(|(value, kind)| ("value", [&[kind][..], &value].concat()));
    keys.into_iter().map(|key| ("key", key)).chain(values).collect()
}

/// One of each kind, in the order of `value`.
fn seed_values(id: DataId, extent: Extent) -> [Vec<u8>; 15] {
    let headers = vec![Header { name: "content-type".into(), value: Bytes::from_static(b"text/plain") }];
    let checksum = StoredChecksum {
        algorithm: ChecksumAlgorithm::Crc32c,
        kind: ChecksumKind::FullObject,
        value: Bytes::from_static(b"abcd"),
    };
    let etag = ETag { md5: [3; 16], part_count: Some(2) };
    let item = DataExtent { extent, crc32c: Some(9) };
    let listed = ListedRecord {
        size_bytes: 70_000,
        etag,
        modified_ms: 1_790_000_000_000,
        checksums: vec![checksum.clone()],
        storage_class: Some("STANDARD_IA".into()),
        version: Version { count: 1_790_000_000_000_000, nonce: Some(7) },
    };
    let items = DataItems::Extents(vec![item]);
    let encryption = Encryption::new(EncryptedBy::Customer, Bytes::from_static(b"sealed key"));
    let upload = UploadRecord {
        initiator: "root".into(),
        initiated_ms: 5,
        algorithm: ChecksumAlgorithm::Sha256,
        kind: ChecksumKind::Composite,
        checksum_named: true,
        storage_class: None,
        headers: headers.clone(),
        lock: ObjectLock { retention: None, legal_hold: Some(true) },
        encryption: Some(encryption.clone()),
    };
    let checked = Some(checksum.clone());
    let completed = CompletedRecord {
        bucket: BucketId(1),
        key: Bytes::from_static(b"a/b"),
        completed_ms: 7,
        size_bytes: 300,
        etag,
        checksums: vec![checksum],
        version: Some(Version { count: 9, nonce: None }),
        encryption: Some(EncryptedBy::Managed),
    };
    let retention = Some(Retention { mode: RetentionMode::Governance, until_ms: 1_790_000_000_000 });
    let lock = ObjectLock { retention, legal_hold: Some(false) };
    let place = Place::Rows { hint: vec![item] };
    let sealed = Some(Box::new(SealedBytes { encryption, stored_bytes: 70_032 }));
    let object = ObjectRecord { listed, data: id, place, headers, lock, sealed };
    let default = DefaultRetention { mode: RetentionMode::Compliance, period: RetentionPeriod::Years(3) };
    let member = Member { drive: DriveId(1), label: "/d1".into(), plan: MemberPlan::Drain };
    [
        BucketRecord::new(BucketId(1), "root", 4).encode(),
        object.encode(),
        DataHeader {
            reference_count: 1,
            len_bytes: 70_000,
            row_starts: vec![],
            items,
            is_sharing: true,
            checksum: checked.clone(),
        }
        .encode(),
        DataItems::Parts(vec![DataPart { data: id, len_bytes: 300 }]).encode(),
        upload.encode(),
        PartRecord { data: id, size_bytes: 300, md5: [4; 16], modified_ms: 6, checksum: checked }.encode(),
        completed.encode(),
        encode_owner(&extent, id),
        encode_members(&Membership { revision: 3, members: vec![member] }),
        bucket_config::encode(b"<CORSConfiguration/>"),
        7u64.to_le_bytes().to_vec(),
        AccountRecord { name: "ann".into(), created_ms: 4 }.encode(),
        AccessKeyRecord {
            sealed: Bytes::from_static(b"sealed"),
            created_ms: 4,
            is_enabled: true,
            last_used_ms: 9,
        }
        .encode(),
        VersionRecord::Object(object).encode(),
        default.encode().to_vec(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_what_is_near_them_are_read_without_a_panic() {
        for (name, seed) in seeds() {
            crate::near(&seed, if name == "key" { key } else { value });
        }
    }

    #[test]
    fn every_seed_of_a_value_decodes() {
        let values = seeds().into_iter().filter(|(name, _)| *name == "value").map(|(_, seed)| seed);
        for (seed, kind) in values.zip(0u8..) {
            assert_eq!(seed[0], kind);
            let value = Bytes::copy_from_slice(&seed[1..]);
            let decodes = match kind {
                0 => BucketRecord::decode(&value).is_ok(),
                1 => ObjectRecord::decode(&value).is_ok(),
                2 => DataHeader::decode(&value).is_ok(),
                3 => DataItems::decode(&value).is_ok(),
                4 => UploadRecord::decode(&value).is_ok(),
                5 => PartRecord::decode(&value).is_ok(),
                6 => CompletedRecord::decode(&value).is_ok(),
                7 => decode_owner(&value).is_ok(),
                8 => Membership::decode(&value).is_ok(),
                9 => bucket_config::decode(&value).is_ok(),
                10 => decode_counter("counter", Some(&value)).is_ok(),
                11 => AccountRecord::decode(&value).is_ok(),
                12 => AccessKeyRecord::decode(&value).is_ok(),
                13 => VersionRecord::decode(&value).is_ok(),
                _ => DefaultRetention::decode(&value).is_ok(),
            };
            assert!(decodes, "kind {kind}");
        }
    }
}
