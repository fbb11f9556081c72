//! Objects: what is put is what is read, at every size and range; bodies that fail; conditions; names.

use super::*;
use crate::ops::api::{
    CopyObject, DeleteEntry, Header, ListBuckets, ListObjects, NewBucket, ObjectInfo, ObjectLock, PAGE_MAX,
};

/// Around every threshold: inline, own checksum, page, large.
const SIZES: [usize; 14] = [
    0, 1, 1_023, 1_024, 1_025, 4_096, 65_472, 65_536, 65_537, 200_000, 1_048_575, 1_048_576, 1_048_577,
    3_500_000,
];

#[test]
fn what_is_put_is_read_back_at_every_size_and_range() {
    for drive_count in [1, 6] {
        machine(1, drive_count, async |machine| {
            let mut numbers = fastrand::Rng::with_seed(1);
            for size in SIZES {
                let (name, bytes) = (format!("k{size}"), noise(size as u64, size));
                let written = machine.put(&name, &bytes).await;
                assert_eq!(written.etag.to_string(), hex::encode(Md5::digest(&bytes)));
                assert_eq!(machine.get_whole(&name).await.unwrap(), bytes, "{size}");
                let info = machine.core.head_object(bucket(), key(&name), None).await.unwrap();
                assert_eq!((info.size_bytes, info.etag), (size as u64, written.etag));
                assert_eq!(info.checksums, written.checksum.into_iter().collect::<Vec<_>>());
                for _ in 0..20 {
                    let begin = numbers.usize(..=size);
                    let end = numbers.usize(begin..=size);
                    let got = machine.get(&name, begin as u64..end as u64).await.unwrap();
                    assert_eq!(got, bytes[begin..end], "{size} {begin}..{end}");
                }
            }
        });
    }
}

#[test]
fn the_length_need_not_be_known_and_pieces_may_be_of_any_size() {
    machine(2, 1, async |machine| {
        for size in [0, 1_024, 1_025, 300_000, 1_500_000] {
            for piece_len in [1_000, 7, 1 << 20] {
                let bytes = noise(size as u64, size);
                let unknown = PutObject { len_bytes: None, ..put("k", &bytes) };
                let mut body = Body::pieces(&bytes, piece_len);
                machine.core.put_object(unknown, &mut body).await.unwrap();
                assert_eq!(machine.get_whole("k").await.unwrap(), bytes, "{size} {piece_len}");
            }
        }
    });
}

#[test]
fn a_body_that_fails_commits_nothing_and_leaves_what_was_there() {
    machine(3, 1, async |machine| {
        machine.put("old", b"was here").await;
        let errors = [
            BodyError::Md5Mismatch { given: [0; 16], computed: [1; 16] },
            BodyError::Incomplete,
            BodyError::ClientGone,
            BodyError::SignatureMismatch,
        ];
        for error in errors {
            for size in [0, 500, 50_000, 2_000_000] {
                let bytes = noise(3, size);
                for name in ["new", "old"] {
                    let failed =
                        machine.core.put_object(put(name, &bytes), &mut Body::failing(&bytes, error)).await;
                    assert_eq!(failed, Err(OpError::Body(error)));
                }
            }
        }
        assert_eq!(machine.get_whole("new").await, Err(OpError::NoSuchKey));
        assert_eq!(machine.get_whole("old").await.unwrap(), b"was here");
        assert_eq!(machine.space().await.0, 0);
        machine.clean().await;
        assert_eq!(machine.space().await, (0, 0), "what was written for them is reclaimed");
    });
}

#[test]
fn what_must_be_refused_is_refused_before_the_body_is_pulled() {
    machine(4, 1, async |machine| {
        let refused = async |put: PutObject, expected: OpError| {
            let mut body = Body::whole(b"12345");
            assert_eq!(machine.core.put_object(put, &mut body).await, Err(expected));
            assert_eq!(body.pulled, 0);
        };
        let other = BucketName::parse("other").unwrap();
        refused(PutObject { bucket: other, ..put("k", b"12345") }, OpError::NoSuchBucket).await;
        let huge = PutObject { len_bytes: Some((5 << 30) + 1), ..put("k", b"") };
        refused(huge, OpError::EntityTooLarge).await;
        let header = Header { name: "x-amz-meta-a".into(), value: Bytes::from(vec![b'v'; 70_000]) };
        let heavy = PutObject { headers: vec![header], ..put("k", b"12345") };
        refused(heavy, OpError::MetadataTooLarge).await;
        let matching = PutObject { condition: WriteCondition::IfMatch("*".into()), ..put("k", b"12345") };
        refused(matching, OpError::NoSuchKey).await;
        machine.put("k", b"12345").await;
        let exclusive = PutObject { condition: WriteCondition::IfAbsent, ..put("k", b"12345") };
        refused(exclusive, OpError::PreconditionFailed).await;
    });
}

#[test]
fn a_read_ends_with_the_bytes_that_it_began_with_whatever_happens_meanwhile() {
    machine(5, 6, async |machine| {
        let bytes = noise(5, 5_000_000);
        machine.put("k", &bytes).await;
        let opened = machine.core.open_object(bucket(), key("k"), None).await.unwrap();
        let mut reader = opened.read(0..5_000_000);
        let mut got = Vec::new();
        for slice in reader.next().await.unwrap().unwrap() {
            got.extend_from_slice(&slice);
        }
        machine.put("k", b"something else").await;
        machine.clean().await;
        machine.core.delete_object(bucket(), entry("k")).await.unwrap();
        machine.clean().await;
        got.extend(read_all(reader).await.unwrap());
        assert!(got == bytes, "a slow read saw other bytes");
        machine.clean().await;
        assert_eq!(machine.space().await, (0, 0), "once it ended its space comes back");
    });
}

#[test]
fn headers_and_class_come_back_and_a_copy_keeps_or_replaces_them() {
    machine(6, 1, async |machine| {
        let header = |value: &'static str| Header {
            name: "x-amz-meta-a".into(),
            value: Bytes::from_static(value.as_bytes()),
        };
        let bytes = noise(6, 100_000);
        let with = PutObject { headers: vec![header("1")], ..put("source", &bytes) };
        let written = machine.core.put_object(with, &mut Body::whole(&bytes)).await.unwrap();
        let copy = |replace_headers| CopyObject {
            source_bucket: bucket(),
            source_key: key("source"),
            bucket: bucket(),
            key: key("target"),
            replace_headers,
            replace_tagging: None,
            storage_class: None,
            replace_checksum: None,
            redirect: None,
            condition: WriteCondition::Always,
            source_version: None,
            lock: ObjectLock::NONE,
            encrypt: None,
            source_key_of_customer: None,
        };
        let kept = machine.core.copy_object(copy(None), |_| Ok(())).await.unwrap();
        assert_eq!(
            (kept.written.etag, kept.written.checksum, kept.source_version),
            (written.etag, written.checksum, None)
        );
        let info = machine.core.head_object(bucket(), key("target"), None).await.unwrap();
        assert_eq!(info.headers, [header("1")]);
        machine.core.copy_object(copy(Some(vec![header("2")])), |_| Ok(())).await.unwrap();
        let info = machine.core.head_object(bucket(), key("target"), None).await.unwrap();
        assert_eq!(info.headers, [header("2")]);
        let check = |info: &ObjectInfo| {
            if info.size_bytes == 100_000 { Err(OpError::PreconditionFailed) } else { Ok(()) }
        };
        assert_eq!(machine.core.copy_object(copy(None), check).await, Err(OpError::PreconditionFailed));
        machine.core.delete_object(bucket(), entry("source")).await.unwrap();
        machine.clean().await;
        assert!(machine.get_whole("target").await.unwrap() == bytes);
    });
}

#[test]
fn buckets_and_listings_page_to_their_end() {
    machine(7, 1, async |machine| {
        for name in ["other", "zoo"] {
            let name = BucketName::parse(name).unwrap();
            machine.core.create_bucket(name.clone(), "root".into(), NewBucket::default()).await.unwrap();
            let again = machine.core.create_bucket(name.clone(), "root".into(), NewBucket::default()).await;
            assert_eq!(again, Err(OpError::BucketAlreadyOwnedByYou));
            let stolen = machine.core.create_bucket(name, "else".into(), NewBucket::default()).await;
            assert_eq!(stolen, Err(OpError::BucketAlreadyExists));
        }
        let list =
            |after: &str| ListBuckets { after: after.into(), max_buckets: 2, ..ListBuckets::default() };
        let first = machine.core.list_buckets(list("")).await.unwrap();
        let next = first.next.unwrap();
        let second = machine.core.list_buckets(list(&next)).await.unwrap();
        let names: Vec<&str> =
            first.buckets.iter().chain(&second.buckets).map(|bucket| bucket.name.as_str()).collect();
        assert_eq!((names, second.next), (vec!["bucket", "other", "zoo"], None));

        for index in 0..25 {
            machine.put(&format!("dir{}/{index}", index % 3), b"").await;
        }
        machine.put("top", b"12").await;
        let list = |after: Bytes, max_keys| ListObjects {
            bucket: bucket(),
            prefix: Bytes::new(),
            delimiter: Some(Bytes::from_static(b"/")),
            after,
            max_keys,
            with_headers: false,
            with_acl: false,
        };
        let first = machine.core.list_objects(list(Bytes::new(), 2)).await.unwrap();
        assert_eq!(first.common_prefixes, [Bytes::from_static(b"dir0/"), Bytes::from_static(b"dir1/")]);
        let rest = machine.core.list_objects(list(first.next.unwrap(), PAGE_MAX + 1)).await.unwrap();
        assert_eq!((rest.common_prefixes.len(), rest.objects.len(), rest.next), (1, 1, None));
        assert_eq!((rest.objects[0].size_bytes, rest.objects[0].checksum.is_some()), (2, true));
        let none = machine.core.list_objects(list(Bytes::new(), 0)).await.unwrap();
        assert_eq!((none.objects.len(), none.next), (0, None));
        assert_eq!(machine.core.delete_bucket(bucket()).await, Err(OpError::BucketNotEmpty));
    });
}

#[test]
fn deletes_are_idempotent_and_bulk_deletes_answer_for_each_key() {
    machine(8, 1, async |machine| {
        machine.put("a", b"1").await;
        machine.put("b", b"2").await;
        machine.core.delete_object(bucket(), entry("a")).await.unwrap();
        machine.core.delete_object(bucket(), entry("a")).await.unwrap();
        let mut conditional = entry("b");
        conditional.condition.if_match = Some("not this".into());
        let results = machine.core.delete_objects(bucket(), vec![entry("a"), conditional, entry("c")]).await;
        let results: Vec<_> = results.unwrap().into_iter().map(|result| result.map(drop)).collect();
        assert_eq!(results, [Ok(()), Err(OpError::PreconditionFailed), Ok(())]);
        assert_eq!(machine.get_whole("b").await.unwrap(), b"2");
    });
}

pub(super) fn entry(name: &str) -> DeleteEntry {
    DeleteEntry::current(key(name))
}
