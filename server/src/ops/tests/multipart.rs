//! Multipart uploads end to end: parts, completion, ranges across parts, refusals.

use super::objects::entry;
use super::*;
use crate::ops::api::{CompleteUpload, CreateUpload, ListUploads, ObjectLock, PartInfo, PutPart, UploadId};

const PART: usize = 5 << 20;

async fn begin(machine: &Machine, name: &str) -> UploadId {
    let create = CreateUpload {
        bucket: bucket(),
        key: key(name),
        headers: Vec::new(),
        checksum: None,
        storage_class: None,
        initiator: "root".to_owned(),
        lock: ObjectLock::NONE,
        encrypt: None,
    };
    machine.core.create_upload(create).await.unwrap().upload
}

async fn put_part(
    machine: &Machine,
    name: &str,
    upload: UploadId,
    part_number: u16,
    bytes: &[u8],
) -> Result<PartInfo, OpError> {
    let len_bytes = Some(bytes.len() as u64);
    let put =
        PutPart { bucket: bucket(), key: key(name), upload, part_number, len_bytes, customer_key: None };
    machine.core.put_part(put, &mut Body::pieces(bytes, 1 << 20)).await
}

#[test]
fn an_object_of_parts_reads_as_one_by_range_and_by_part() {
    machine(1, 6, async |machine| {
        let bytes = noise(1, 2 * PART + 1_234);
        let upload = begin(&machine, "k").await;
        let mut tags = Vec::new();
        for (number, piece) in (1u16..).zip(bytes.chunks(PART)) {
            put_part(&machine, "k", upload, number, b"first try").await.unwrap();
            let part = put_part(&machine, "k", upload, number, piece).await.unwrap();
            tags.push((number, part.etag.to_string()));
        }
        let page = machine.core.list_parts(bucket(), key("k"), upload, 0, 2).await.unwrap();
        assert_eq!((page.parts.len(), page.next), (2, Some(2)));
        let request = complete("k", upload, &tags);
        let written = machine.core.complete_upload(request.clone()).await.unwrap();
        let md5s: Vec<u8> = bytes.chunks(PART).flat_map(|piece| Md5::digest(piece).to_vec()).collect();
        assert_eq!(written.etag.to_string(), format!("{}-3", hex::encode(Md5::digest(&md5s))));
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &bytes);
        assert_eq!(written.checksum.clone().unwrap().value, crc.to_be_bytes().as_slice());
        assert_eq!(machine.core.complete_upload(request).await, Ok(written), "a repetition answers the same");

        assert!(machine.get_whole("k").await.unwrap() == bytes);
        for range in [PART - 10..PART + 10, 2 * PART - 1..2 * PART + 1_234, 0..1, 7..2 * PART + 7] {
            let got = machine.get("k", range.start as u64..range.end as u64).await.unwrap();
            assert!(got == bytes[range.clone()], "{range:?}");
        }
        let opened = machine.core.open_object(bucket(), key("k"), None).await.unwrap();
        assert_eq!(opened.info().part_count, Some(3));
        let second = opened.part(2).await.unwrap();
        assert_eq!(second.range, PART as u64..2 * PART as u64);
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &bytes[PART..2 * PART]);
        assert_eq!(second.checksum.unwrap().value, crc.to_be_bytes().as_slice());
        let page = opened.parts(1, 10).await.unwrap();
        let numbers: Vec<u16> = page.parts.iter().map(|part| part.part_number).collect();
        assert_eq!((numbers, page.part_count), (vec![2, 3], 3));
        assert_eq!(opened.part(4).await, Err(OpError::NoSuchPart { part_count: 3 }));
        drop(opened);

        machine.core.delete_object(bucket(), entry("k")).await.unwrap();
        machine.clean().await;
        assert_eq!(machine.space().await, (0, 0));
    });
}

#[test]
fn completions_that_break_a_rule_are_refused_and_the_upload_goes_on() {
    machine(2, 1, async |machine| {
        let upload = begin(&machine, "k").await;
        let small = put_part(&machine, "k", upload, 1, b"small").await.unwrap().etag.to_string();
        let last = put_part(&machine, "k", upload, 2, b"last").await.unwrap().etag.to_string();
        let refuse = async |request: CompleteUpload, expected: OpError| {
            assert_eq!(machine.core.complete_upload(request).await, Err(expected));
        };
        let parts = [(1, small.clone()), (2, last.clone())];
        let too_small = OpError::EntityTooSmall { part_number: 1, size_bytes: 5 };
        refuse(complete("k", upload, &parts), too_small).await;
        refuse(complete("k", upload, &[]), OpError::BadPartList).await;
        refuse(complete("k", upload, &[(2, last.clone()), (1, small.clone())]), OpError::InvalidPartOrder)
            .await;
        refuse(complete("k", upload, &[(3, last.clone())]), OpError::InvalidPart { part_number: 3 }).await;
        refuse(complete("k", upload, &[(1, last.clone())]), OpError::InvalidPart { part_number: 1 }).await;
        let sized = CompleteUpload { size_bytes: Some(9), ..complete("k", upload, &[(2, last.clone())]) };
        refuse(sized, OpError::ObjectSizeMismatch).await;
        let wrong = (ChecksumAlgorithm::Crc64Nvme, Bytes::from_static(&[0; 8]));
        let summed = CompleteUpload { checksum: Some(wrong), ..complete("k", upload, &[(2, last.clone())]) };
        refuse(summed, OpError::CompletionChecksumMismatch).await;
        let (expected, actual) = (ChecksumAlgorithm::Crc64Nvme, ChecksumAlgorithm::Crc32);
        let other = Some((actual, Bytes::from_static(&[0; 4])));
        let other = CompleteUpload { checksum: other, ..complete("k", upload, &[(2, last.clone())]) };
        refuse(other, OpError::ChecksumAlgorithmMismatch { expected, actual }).await;
        let checksum_kind = Some(ChecksumKind::Composite);
        let kind = CompleteUpload { checksum_kind, ..complete("k", upload, &[(2, last.clone())]) };
        refuse(kind, OpError::ChecksumKindMismatch { expected: ChecksumKind::FullObject }).await;
        refuse(complete("other", upload, &[(2, last.clone())]), OpError::NoSuchUpload).await;
        assert_eq!(put_part(&machine, "k", upload, 0, b"").await, Err(OpError::PartNumberOutOfRange));
        assert_eq!(put_part(&machine, "k", upload, 10_001, b"").await, Err(OpError::PartNumberOutOfRange));
        machine.core.complete_upload(complete("k", upload, &[(2, last)])).await.unwrap();
        assert_eq!(machine.get_whole("k").await.unwrap(), b"last");
    });
}

#[test]
fn an_empty_part_makes_an_empty_object() {
    machine(3, 1, async |machine| {
        let upload = begin(&machine, "k").await;
        let tag = put_part(&machine, "k", upload, 1, b"").await.unwrap().etag.to_string();
        machine.core.complete_upload(complete("k", upload, &[(1, tag)])).await.unwrap();
        assert_eq!(machine.get_whole("k").await.unwrap(), b"");
        let opened = machine.core.open_object(bucket(), key("k"), None).await.unwrap();
        assert_eq!(opened.part(1).await.unwrap().range, 0..0);
    });
}

#[test]
fn a_bucket_with_nothing_but_unfinished_uploads_is_deleted_and_their_space_comes_back() {
    machine(9, 1, async |machine| {
        for name in ["a", "a", "b"] {
            let upload = begin(&machine, name).await;
            put_part(&machine, name, upload, 1, &noise(9, 100_000)).await.unwrap();
        }
        machine.core.delete_bucket(bucket()).await.unwrap();
        assert_eq!(machine.core.delete_bucket(bucket()).await, Err(OpError::NoSuchBucket));
        machine.clean().await;
        assert_eq!(machine.space().await, (0, 0));
    });
}

#[test]
fn aborted_uploads_vanish_from_the_listing_and_give_their_space_back() {
    machine(4, 1, async |machine| {
        let mut uploads = Vec::new();
        for name in ["a/1", "a/1", "b"] {
            let upload = begin(&machine, name).await;
            put_part(&machine, name, upload, 1, &noise(4, 100_000)).await.unwrap();
            uploads.push((name, upload));
        }
        let list = |after: (Bytes, Option<UploadId>), max_uploads| ListUploads {
            bucket: bucket(),
            prefix: Bytes::new(),
            delimiter: None,
            after_key: after.0,
            after_upload: after.1,
            max_uploads,
        };
        let first = machine.core.list_uploads(list((Bytes::new(), None), 1)).await.unwrap();
        let second = machine.core.list_uploads(list(first.next.unwrap(), 2)).await.unwrap();
        let found: Vec<UploadId> =
            first.uploads.iter().chain(&second.uploads).map(|upload| upload.upload).collect();
        let mut expected: Vec<UploadId> = uploads.iter().map(|(_, upload)| *upload).collect();
        expected[..2].sort();
        assert_eq!((found, second.next), (expected, None));
        for (name, upload) in uploads {
            machine.core.abort_upload(bucket(), key(name), upload).await.unwrap();
            let again = machine.core.abort_upload(bucket(), key(name), upload).await;
            assert_eq!(again, Err(OpError::NoSuchUpload));
        }
        machine.clean().await;
        assert_eq!(machine.space().await, (0, 0));
        machine.core.delete_bucket(bucket()).await.unwrap();
    });
}
