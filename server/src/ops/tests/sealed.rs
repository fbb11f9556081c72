//! Encryption at rest end to end: what is written sealed reads back, by the right key only, and lies nowhere in plain.

use super::fsck::{fsck, kinds};
use super::objects::entry;
use super::*;
use crate::ops::api::{
    AppendObject, CompleteUpload, CopyObject, CreateUpload, CustomerKey, Encrypt, EncryptedBy, ObjectInfo,
    ObjectLock, PutPart, RenameObject, UploadId,
};
use crate::ops::{CensusProgress, take_census};
use proptest::prelude::{Strategy as _, any, prop};
use proptest::test_runner::{Config, TestRunner};

const PART: usize = 5 << 20;

fn customer_key(byte: u8) -> CustomerKey {
    CustomerKey::new([byte; 32])
}

fn customer(byte: u8) -> Encrypt {
    Encrypt::Customer(customer_key(byte))
}

/// The key that reads what was written so.
fn key_of(encrypt: &Encrypt) -> Option<&CustomerKey> {
    match encrypt {
        Encrypt::Managed => None,
        Encrypt::Customer(key) => Some(key),
    }
}

impl Machine {
    pub(super) async fn put_sealed(&self, name: &str, bytes: &[u8], encrypt: &Encrypt) -> Written {
        let put = PutObject { encrypt: Some(encrypt.clone()), ..put(name, bytes) };
        self.core.put_object(put, &mut Body::whole(bytes)).await.unwrap()
    }

    pub(super) async fn read_sealed(
        &self,
        name: &str,
        range: Option<Range<u64>>,
        key_given: Option<&CustomerKey>,
    ) -> Result<Vec<u8>, OpError> {
        let mut opened = self.core.open_object(bucket(), key(name), None).await?;
        opened.unlock(key_given)?;
        let whole = 0..opened.info().size_bytes;
        read_all(opened.read(range.unwrap_or(whole))).await
    }

    async fn info(&self, name: &str) -> ObjectInfo {
        self.core.head_object(bucket(), key(name), None).await.unwrap()
    }

    /// The bytes of an object as they are stored.
    async fn stored(&self, name: &str) -> Vec<u8> {
        let metadata = self.core.metadata();
        let found = metadata.object_and_inline("bucket", name.as_bytes(), None).await.unwrap();
        let (record, inline) = (found.0.record, found.1);
        if let Some(inline) = inline {
            return inline.to_vec();
        }
        let mut all = Vec::new();
        while (all.len() as u64) < record.stored_bytes() {
            let range = all.len() as u64..record.stored_bytes();
            let resolved = metadata.resolve(record.data, range.clone(), 256).await.unwrap();
            let within = range.start - resolved.start_bytes..resolved.end_bytes() - resolved.start_bytes;
            let extents = resolved.extents.into_iter().map(|item| (item.extent, item.crc32c)).collect();
            let mut reader = self.core.store().open_read(extents, within);
            while let Some(slices) = reader.next().await {
                slices.unwrap().iter().for_each(|slice| all.extend_from_slice(slice));
            }
        }
        all
    }

    async fn upload_sealed(&self, name: &str, parts: &[&[u8]], encrypt: &Encrypt) -> Written {
        let upload = self.begin_sealed(name, encrypt).await;
        let mut completed = Vec::new();
        for (number, bytes) in (1u16..).zip(parts) {
            let part = part_of(name, upload, number, bytes.len(), key_of(encrypt));
            let info = self.core.put_part(part, &mut Body::pieces(bytes, 1 << 20)).await.unwrap();
            assert_eq!((info.size_bytes, info.encryption), (bytes.len() as u64, Some(encrypt.by())));
            completed.push((number, info.etag.to_string()));
        }
        self.core.complete_upload(complete(name, upload, &completed)).await.unwrap()
    }

    async fn begin_sealed(&self, name: &str, encrypt: &Encrypt) -> UploadId {
        let create = CreateUpload {
            bucket: bucket(),
            key: key(name),
            headers: Vec::new(),
            checksum: None,
            storage_class: None,
            initiator: "root".to_owned(),
            lock: ObjectLock::NONE,
            encrypt: Some(encrypt.clone()),
        };
        let info = self.core.create_upload(create).await.unwrap();
        assert_eq!(info.encryption, Some(encrypt.by()));
        info.upload
    }
}

fn part_of(
    name: &str,
    upload: UploadId,
    part_number: u16,
    len: usize,
    customer_key: Option<&CustomerKey>,
) -> PutPart {
    PutPart {
        bucket: bucket(),
        key: key(name),
        upload,
        part_number,
        len_bytes: Some(len as u64),
        customer_key: customer_key.cloned(),
    }
}

fn copy(from: &str, to: &str, source: Option<CustomerKey>, encrypt: Option<Encrypt>) -> CopyObject {
    CopyObject {
        source_bucket: bucket(),
        source_key: key(from),
        bucket: bucket(),
        key: key(to),
        replace_headers: None,
        replace_tagging: None,
        storage_class: None,
        replace_checksum: None,
        redirect: None,
        condition: WriteCondition::Always,
        source_version: None,
        lock: ObjectLock::NONE,
        encrypt,
        source_key_of_customer: source,
    }
}

fn holds(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

#[test]
fn encrypted_objects_of_all_sizes_read_back_and_lie_nowhere_in_plain() {
    machine(1, 6, async |machine| {
        for encrypt in [Encrypt::Managed, customer(3)] {
            for len in [0, 1, 1_008, 1_009, 1_024, 65_535, 65_536, 65_537, 200_000, 2_500_000] {
                let bytes = noise(len as u64, len);
                let written = machine.put_sealed("k", &bytes, &encrypt).await;
                assert_eq!((written.size_bytes, written.encryption), (len as u64, Some(encrypt.by())));
                let info = machine.info("k").await;
                assert_eq!((info.size_bytes, info.etag), (len as u64, written.etag));
                let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &bytes);
                assert_eq!(info.checksums[0].value, crc.to_be_bytes().as_slice(), "of the plain bytes");
                assert!(machine.read_sealed("k", None, key_of(&encrypt)).await.unwrap() == bytes, "{len}");
                let stored = machine.stored("k").await;
                assert_eq!(stored.len(), len + len.div_ceil(65_536) * 16);
                assert!(len < 16 || !holds(&stored, &bytes[..16]), "{len}");
                let is_md5 = written.etag.md5 == <[u8; 16]>::from(Md5::digest(&bytes));
                assert_eq!(is_md5, encrypt == Encrypt::Managed, "{len}");
            }
        }
        let stored = machine.stored("k").await;
        machine.put_sealed("k", &noise(2_500_000, 2_500_000), &customer(3)).await;
        assert!(machine.stored("k").await != stored, "each object has a data key of its own");
    });
}

#[test]
fn a_body_whose_length_is_not_known_is_sealed_the_same() {
    machine(2, 1, async |machine| {
        for len in [0, 700, 1_009, 65_536, 300_000] {
            let bytes = noise(len as u64, len);
            let unknown = PutObject { len_bytes: None, encrypt: Some(Encrypt::Managed), ..put("k", &bytes) };
            machine.core.put_object(unknown, &mut Body::pieces(&bytes, 777)).await.unwrap();
            assert!(machine.read_sealed("k", None, None).await.unwrap() == bytes, "{len}");
        }
    });
}

#[test]
fn only_the_right_key_reads_and_a_locked_object_reads_as_an_error() {
    machine(3, 1, async |machine| {
        let bytes = noise(1, 100_000);
        machine.put("plain", &bytes).await;
        machine.put_sealed("managed", &bytes, &Encrypt::Managed).await;
        machine.put_sealed("theirs", &bytes, &customer(3)).await;
        let right = customer_key(3);
        let wrong = customer_key(4);
        let cases = [
            ("plain", None, Ok(())),
            ("plain", Some(&right), Err(OpError::CustomerKeyUnexpected)),
            ("managed", None, Ok(())),
            ("managed", Some(&right), Err(OpError::CustomerKeyUnexpected)),
            ("theirs", None, Err(OpError::CustomerKeyMissing)),
            ("theirs", Some(&wrong), Err(OpError::CustomerKeyWrong)),
            ("theirs", Some(&right), Ok(())),
        ];
        for (name, given, expected) in cases {
            let checked = machine.core.check_key(&machine.info(name).await, given);
            assert_eq!(checked, expected, "{name} {}", given.is_some());
            let read = machine.read_sealed(name, None, given).await;
            assert_eq!(read.map(|read| assert!(read == bytes)), expected, "{name} {}", given.is_some());
        }
        for name in ["managed", "theirs"] {
            let read = machine.get_whole(name).await;
            assert!(matches!(read, Err(OpError::Internal(_))), "{name}");
        }
    });
}

#[test]
fn objects_of_the_pool_do_not_open_under_another_master_key_and_a_customers_do() {
    machine(4, 1, async |machine| {
        machine.put_sealed("managed", b"secret", &Encrypt::Managed).await;
        machine.put_sealed("theirs", b"secret", &customer(3)).await;
        let limits = AdmissionLimits { requests_max: 10, memory_bytes: 16 << 20 };
        let admission = Admission::new(limits, machine.core.store().shared().profile());
        let (metadata, store) = (machine.core.metadata().clone(), machine.core.store().clone());
        let core =
            Core::new(metadata, store, machine.executor.clone(), admission, MasterKey::from_bytes([1; 32]));
        let other = Machine { core, ..machine };
        let read = other.read_sealed("managed", None, None).await;
        assert!(matches!(read, Err(OpError::Damaged(_))), "{read:?}");
        assert_eq!(other.read_sealed("theirs", None, Some(&customer_key(3))).await.unwrap(), b"secret");
    });
}

#[test]
fn any_range_of_an_encrypted_object_reads_as_of_its_plain_bytes() {
    machine(5, 6, async |machine| {
        let whole = noise(1, 400_000);
        machine.put_sealed("whole", &whole, &Encrypt::Managed).await;
        let parts = noise(2, 2 * PART + 70_001);
        machine
            .upload_sealed(
                "parts",
                &[&parts[..PART], &parts[PART..2 * PART], &parts[2 * PART..]],
                &customer(3),
            )
            .await;
        let small = noise(3, 900);
        machine.put_sealed("inline", &small, &Encrypt::Managed).await;
        let objects = [("whole", &whole), ("parts", &parts), ("inline", &small)];
        let index = any::<prop::sample::Index>;
        let cases = (0usize..3, index(), index()).prop_map(|(which, begin, end)| {
            let len = objects[which].1.len();
            let begin = begin.index(len + 1);
            (which, begin, begin + end.index(len - begin + 1))
        });
        let mut runner = TestRunner::new(Config::with_cases(60));
        let mut drawn: Vec<(usize, usize, usize)> = (0..60)
            .map(|_| proptest::strategy::ValueTree::current(&cases.new_tree(&mut runner).unwrap()))
            .collect();
        // Across the edges of segments and of parts.
        drawn.extend([
            (0, 65_535, 65_537),
            (1, PART - 1, PART + 1),
            (1, PART, 2 * PART),
            (1, 7, 2 * PART + 9),
        ]);
        for (which, begin, end) in drawn {
            let (name, bytes) = objects[which];
            let key_given = (name == "parts").then(|| customer_key(3));
            let read = machine.read_sealed(name, Some(begin as u64..end as u64), key_given.as_ref()).await;
            assert!(read.unwrap() == bytes[begin..end], "{name} {begin}..{end}");
        }
    });
}

#[test]
fn an_encrypted_upload_makes_an_object_of_its_plain_parts() {
    machine(6, 6, async |machine| {
        let bytes = noise(1, 2 * PART + 1_234);
        let pieces: Vec<&[u8]> = bytes.chunks(PART).collect();
        for encrypt in [Encrypt::Managed, customer(3)] {
            let written = machine.upload_sealed("k", &pieces, &encrypt).await;
            assert_eq!((written.size_bytes, written.encryption), (bytes.len() as u64, Some(encrypt.by())));
            let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &bytes);
            let told = written.checksum.map(|checksum| checksum.value.to_vec());
            // Under a customer's key only who sent that key is told it.
            assert_eq!(told, (encrypt == Encrypt::Managed).then(|| crc.to_be_bytes().to_vec()));
            let kept = &machine.info("k").await.checksums[0];
            assert_eq!(kept.value, crc.to_be_bytes().as_slice());
            let md5s: Vec<u8> = pieces.iter().flat_map(|piece| Md5::digest(piece).to_vec()).collect();
            let is_of_md5s = written.etag.md5 == <[u8; 16]>::from(Md5::digest(&md5s));
            assert_eq!(is_of_md5s, encrypt == Encrypt::Managed);
            assert!(machine.read_sealed("k", None, key_of(&encrypt)).await.unwrap() == bytes);
            let opened = machine.core.open_object(bucket(), key("k"), None).await.unwrap();
            let ranges: Vec<_> =
                opened.parts(0, 10).await.unwrap().parts.into_iter().map(|part| part.range).collect();
            let (part, end) = (PART as u64, bytes.len() as u64);
            assert_eq!(ranges, [0..part, part..2 * part, 2 * part..end]);
            assert_eq!(opened.part(3).await.unwrap().range, 2 * part..end);
            let stored = machine.stored("k").await;
            assert!(!holds(&stored, &bytes[..32]) && !holds(&stored, &bytes[2 * PART..2 * PART + 32]));
        }
    });
}

#[test]
fn parts_need_the_key_of_their_upload_and_the_rules_count_plain_bytes() {
    machine(7, 1, async |machine| {
        let upload = machine.begin_sealed("k", &customer(3)).await;
        let put = async |number, bytes: &[u8], given: Option<&CustomerKey>| {
            let part = part_of("k", upload, number, bytes.len(), given);
            let mut body = Body::whole(bytes);
            let result = machine.core.put_part(part, &mut body).await;
            (result.map(|info| info.etag.to_string()), body.pulled)
        };
        let right = customer_key(3);
        assert_eq!(put(1, b"x", None).await, (Err(OpError::CustomerKeyMissing), 0));
        assert_eq!(put(1, b"x", Some(&customer_key(4))).await, (Err(OpError::CustomerKeyWrong), 0));
        // Sealed it would be long enough.
        let small = noise(1, PART - 1);
        let (first, _) = put(1, &small, Some(&right)).await;
        let (second, _) = put(2, b"last", Some(&right)).await;
        let (first, second) = (first.unwrap(), second.unwrap());
        let page = machine.core.list_parts(bucket(), key("k"), upload, 0, 10).await.unwrap();
        let sizes: Vec<u64> = page.parts.iter().map(|part| part.size_bytes).collect();
        assert_eq!((sizes, page.upload.encryption), (vec![PART as u64 - 1, 4], Some(EncryptedBy::Customer)));
        let request = complete("k", upload, &[(1, first), (2, second)]);
        let refused = machine.core.complete_upload(request.clone()).await;
        let size_bytes = PART as u64 - 1;
        assert_eq!(refused, Err(OpError::EntityTooSmall { part_number: 1, size_bytes }));
        let other = CompleteUpload { customer_key: Some(customer_key(4)), ..request.clone() };
        assert_eq!(machine.core.complete_upload(other).await, Err(OpError::CustomerKeyWrong));
        let alone = CompleteUpload {
            parts: request.parts[1..].to_vec(),
            size_bytes: Some(4),
            customer_key: Some(right.clone()),
            ..request
        };
        let first = machine.core.complete_upload(alone.clone()).await.unwrap();
        assert_eq!((first.size_bytes, first.checksum.is_some()), (4, true));
        // A repetition is answered from what was kept, which opens under no key.
        for customer_key in [None, Some(customer_key(4)), Some(right.clone())] {
            let again = CompleteUpload { customer_key, ..alone.clone() };
            let told = machine.core.complete_upload(again).await.unwrap();
            assert_eq!((told.etag, told.checksum), (first.etag, None));
        }
        assert_eq!(machine.read_sealed("k", None, Some(&right)).await.unwrap(), b"last");

        let managed = machine.begin_sealed("m", &Encrypt::Managed).await;
        let part = part_of("m", managed, 1, 1, Some(&right));
        let refused = machine.core.put_part(part, &mut Body::whole(b"x")).await;
        assert_eq!(refused, Err(OpError::CustomerKeyUnexpected));
    });
}

#[test]
fn copies_share_sealed_bytes_where_they_can_and_say_so_where_they_cannot() {
    machine(8, 6, async |machine| {
        for len in [500, 100_000] {
            let bytes = noise(1, len);
            machine.put("plain", &bytes).await;
            machine.put_sealed("managed", &bytes, &Encrypt::Managed).await;
            machine.put_sealed("theirs", &bytes, &customer(3)).await;
            let sources =
                [("plain", None), ("managed", Some(Encrypt::Managed)), ("theirs", Some(customer(3)))];
            for (source, was) in &sources {
                for encrypt in [None, Some(Encrypt::Managed), Some(customer(4))] {
                    let given = was.as_ref().and_then(key_of).cloned();
                    let request = copy(source, "target", given, encrypt.clone());
                    let copied = machine.core.copy_object(request, |_| Ok(())).await;
                    let by = was.as_ref().map(Encrypt::by);
                    // What was encrypted does not become plain by being copied.
                    let expected = encrypt.as_ref().map(Encrypt::by).or(by.map(|_| EncryptedBy::Managed));
                    if by != expected {
                        assert_eq!(copied, Err(OpError::CopyMovesBytes), "{source} {encrypt:?}");
                        continue;
                    }
                    let written = copied.unwrap().written;
                    assert_eq!(written.encryption, expected);
                    let key_given = encrypt.as_ref().and_then(key_of);
                    let read = machine.read_sealed("target", None, key_given).await.unwrap();
                    assert!(read == bytes, "{source} {len}");
                }
            }
            let missing = copy("theirs", "target", None, Some(customer(4)));
            let refused = machine.core.copy_object(missing, |_| Ok(())).await;
            assert_eq!(refused, Err(OpError::CustomerKeyMissing));
            let wrong = copy("theirs", "target", Some(customer_key(5)), Some(customer(4)));
            let refused = machine.core.copy_object(wrong, |_| Ok(())).await;
            assert_eq!(refused, Err(OpError::CustomerKeyWrong));
            let unexpected = copy("plain", "target", Some(customer_key(3)), None);
            let refused = machine.core.copy_object(unexpected, |_| Ok(())).await;
            assert_eq!(refused, Err(OpError::CustomerKeyUnexpected));
            // The conditions on the source come first.
            let checked = copy("theirs", "target", None, None);
            let refused = machine.core.copy_object(checked, |_| Err(OpError::PreconditionFailed)).await;
            assert_eq!(refused, Err(OpError::PreconditionFailed));
        }
    });
}

#[test]
fn a_copy_onto_itself_changes_the_customers_key() {
    machine(9, 1, async |machine| {
        let bytes = noise(1, 70_000);
        machine.put_sealed("k", &bytes, &customer(3)).await;
        let onto = copy("k", "k", Some(customer_key(3)), Some(customer(4)));
        machine.core.copy_object(onto, |_| Ok(())).await.unwrap();
        let old = machine.read_sealed("k", None, Some(&customer_key(3))).await;
        assert_eq!(old.unwrap_err(), OpError::CustomerKeyWrong);
        assert!(machine.read_sealed("k", None, Some(&customer_key(4))).await.unwrap() == bytes);
    });
}

#[test]
fn nothing_is_appended_to_encrypted_objects_nor_encrypted_by_an_append() {
    machine(10, 1, async |machine| {
        machine.put("plain", b"12345").await;
        machine.put_sealed("managed", b"12345", &Encrypt::Managed).await;
        let append = async |put: PutObject, offset_bytes| {
            let mut body = Body::whole(b"6");
            let refused = machine.core.append_object(AppendObject { put, offset_bytes }, &mut body).await;
            assert_eq!((refused, body.pulled), (Err(OpError::AppendToEncrypted), 0));
        };
        append(put("managed", b"6"), 5).await;
        append(PutObject { encrypt: Some(Encrypt::Managed), ..put("plain", b"6") }, 5).await;
        append(PutObject { encrypt: Some(customer(3)), ..put("new", b"6") }, 0).await;
    });
}

#[test]
fn an_encrypted_object_reads_back_after_a_rename_and_a_restart() {
    machine(11, 6, async |machine| {
        let bytes = noise(1, 3_000_000);
        machine.put_sealed("a", &bytes, &Encrypt::Managed).await;
        let rename = RenameObject { bucket: bucket(), source_key: key("a"), key: key("b"), token: None };
        machine.core.rename_object(rename, |_, _| Ok(())).await.unwrap();
        let machine = machine.restart().await;
        assert!(machine.read_sealed("b", None, None).await.unwrap() == bytes);
        let range = 65_530..200_000;
        let read = machine.read_sealed("b", Some(range), None).await.unwrap();
        assert!(read == bytes[65_530..200_000]);
    });
}

#[test]
fn what_is_encrypted_is_sound_to_fsck_and_census_and_leaves_nothing_behind() {
    machine(12, 6, async |machine| {
        for (n, len) in [0, 700, 5_000, 90_000, 1_300_000].into_iter().enumerate() {
            machine.put_sealed(&format!("k{n}"), &noise(n as u64, len), &Encrypt::Managed).await;
        }
        let bytes = noise(9, PART + 70_000);
        machine.upload_sealed("k9", &[&bytes[..PART], &bytes[PART..]], &customer(3)).await;
        let pending = machine.begin_sealed("pending", &Encrypt::Managed).await;
        let part = part_of("pending", pending, 1, 100_000, None);
        machine.core.put_part(part, &mut Body::whole(&bytes[..100_000])).await.unwrap();

        let report = fsck(&machine, true).await;
        assert!(report.all_agree, "{:?}", kinds(&report));
        machine.core.store().seal_open().await;
        let media = machine.core.store().media();
        let census = take_census(machine.core.metadata(), &media, &CensusProgress::default()).await.unwrap();
        assert!(census.all_whole, "{census:?}");
        assert_eq!((census.inline_objects, census.objects.whole, census.parts.whole), (2, 4, 1));

        for name in ["k0", "k1", "k2", "k3", "k4", "k9"] {
            machine.core.delete_object(bucket(), entry(name)).await.unwrap();
        }
        machine.core.abort_upload(bucket(), key("pending"), pending).await.unwrap();
        machine.clean().await;
        assert_eq!(machine.space().await, (0, 0));
    });
}
