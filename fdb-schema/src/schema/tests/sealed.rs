//! Encrypted objects in rows: plain lengths are shown, stored ones are kept, and the sealed key goes where the bytes go.

use super::*;
use crate::schema::{
    Append, EncryptedBy, Encryption, SEGMENT_PLAIN_BYTES, SealedPart, StoredBytes, sealed_len,
};

fn encryption(by: EncryptedBy, key: &'static [u8]) -> Encryption {
    Encryption::new(by, Bytes::from_static(key))
}

impl World {
    /// An encrypted object of so many plain bytes.
    async fn put_sealed(&self, key: &[u8], plain_bytes: u64, encryption: Encryption) -> ObjectRecord {
        let new = NewObject { encryption: Some(encryption), ..new_object(key, WriteCondition::Always) };
        let stored = Stored(vec![self.extent(0, sealed_len(plain_bytes))]);
        let bytes = NewBytes::Stored { evidence: stored, crc32c: None };
        self.metadata.put_object(new, bytes).await.unwrap().record
    }

    async fn is_sound(&self) {
        let audit = self.metadata.audit();
        let (lost, _, _) = audit.audit_objects(&Bytes::new(), 1_000).await.unwrap();
        assert_eq!(lost, []);
    }
}

#[test]
fn an_encrypted_object_shows_its_plain_length_and_keeps_its_stored_one() {
    world(1, async |world| {
        let managed = encryption(EncryptedBy::Managed, b"sealed");
        world.put_sealed(b"k", 100_000, managed.clone()).await;
        let record = world.metadata.object("b", b"k", None).await.unwrap().record;
        assert_eq!((record.listed.size_bytes, record.stored_bytes()), (100_000, 100_032));
        assert_eq!(record.encryption(), Some(&managed));
        assert_eq!((world.usage().await, world.live().await[&0]), ((1, 100_000), 100_032));
        let whole = world.metadata.resolve(record.data, 0..100_032, 10).await.unwrap();
        assert_eq!(whole.end_bytes(), 100_032);
        world.is_sound().await;
        world.metadata.delete_object("b", &delete(b"k")).await.unwrap();
        world.sweep_all().await;
        assert_eq!((world.usage().await, world.live().await[&0]), ((0, 0), 0));
    });
}

#[test]
fn inline_bytes_that_are_sealed_are_looked_for_at_their_stored_length() {
    world(2, async |world| {
        let encryption = Some(encryption(EncryptedBy::Managed, b"sealed"));
        let new = NewObject { encryption, ..new_object(b"k", WriteCondition::Always) };
        let bytes: NewBytes<Stored> = NewBytes::Inline(Bytes::from_static(&[7; 21]));
        world.metadata.put_object(new, bytes).await.unwrap();
        let (found, inline) = world.metadata.object_and_inline("b", b"k", None).await.unwrap();
        assert_eq!((found.record.listed.size_bytes, inline.unwrap().len()), (5, 21));
        let copied = world.metadata.copy_object(copy(b"k", b"c"), same_seal).await.unwrap().unwrap();
        assert_eq!(copied.target.record.encryption(), found.record.encryption());
        assert!(world.metadata.object_and_inline("b", b"c", None).await.unwrap().1.is_some());
        world.is_sound().await;
    });
}

#[test]
fn a_copy_shares_the_sealed_bytes_under_the_seal_that_is_asked_for() {
    world(3, async |world| {
        let first = encryption(EncryptedBy::Customer, b"first");
        let source = world.put_sealed(b"a", 70_000, first.clone()).await;
        let second = encryption(EncryptedBy::Customer, b"second");
        let again = |source: &ObjectRecord| {
            assert_eq!(source.encryption().unwrap().sealed_key(), &b"first"[..]);
            Ok::<_, ()>(Some(second.clone()))
        };
        let copied = world.metadata.copy_object(copy(b"a", b"b"), again).await.unwrap().unwrap();
        let target = copied.target.record;
        assert_eq!((target.data, target.stored_bytes()), (source.data, source.stored_bytes()));
        assert_eq!(target.encryption(), Some(&second));
        // Another seal is a change, the same one is none.
        let onto = world.metadata.copy_object(copy(b"a", b"a"), again).await.unwrap().unwrap();
        assert_eq!(onto.target.record.encryption(), Some(&second));
        let same = world.metadata.copy_object(copy(b"a", b"a"), same_seal).await;
        assert_eq!(refused(same), Refusal::CopyOntoItself);
        world.is_sound().await;
    });
}

#[test]
fn a_renamed_object_is_encrypted_as_it_was() {
    world(4, async |world| {
        let record = world.put_sealed(b"a", 5_000, encryption(EncryptedBy::Managed, b"sealed")).await;
        let rename = crate::schema::Rename { bucket: "b", source_key: b"a", key: b"b", token: None };
        world.metadata.rename_object(rename, |_, _| Ok::<(), ()>(())).await.unwrap().unwrap();
        assert_eq!(world.metadata.object("b", b"b", None).await.unwrap().record.sealed, record.sealed);
        world.is_sound().await;
    });
}

#[test]
fn sealed_parts_make_an_object_of_their_plain_lengths() {
    world(5, async |world| {
        let managed = encryption(EncryptedBy::Managed, b"sealed");
        let new = new_upload(b"k", Some(managed.clone()));
        let (upload, _) = world.metadata.create_upload(new).await.unwrap();
        let path = path(b"k", upload);
        assert_eq!(world.metadata.upload(path).await.unwrap().encryption, Some(managed.clone()));
        let plain = [70_000, 0, SEGMENT_PLAIN_BYTES, 9];
        let mut parts = Vec::new();
        for (number, plain_bytes) in (1..).zip(plain) {
            let lens = [(0, sealed_len(plain_bytes))];
            parts.push(world.put_part(path, number, if plain_bytes > 0 { &lens } else { &[] }).await);
        }
        let condition = WriteCondition::Always;
        let complete =
            async || world.metadata.complete_upload(path, &[1, 2, 3, 4], &condition, compose).await;
        let completed = complete().await.unwrap().unwrap();
        assert_eq!(completed.size_bytes, plain.iter().sum::<u64>());
        assert_eq!(completed.encryption, Some(EncryptedBy::Managed));
        assert_eq!(complete().await.unwrap().unwrap(), completed, "a repetition answers the same");

        let record = world.metadata.object("b", b"k", None).await.unwrap().record;
        assert_eq!(record.stored_bytes(), plain.iter().map(|plain| sealed_len(*plain)).sum::<u64>());
        assert_eq!(record.encryption(), Some(&managed));
        let ranges = world.metadata.parts(record.data, true, 0, 10).await.unwrap().parts;
        let ranges: Vec<_> = ranges.into_iter().map(|part| part.range).collect();
        assert_eq!(ranges, [0..70_000, 70_000..70_000, 70_000..135_536, 135_536..135_545]);

        let second = SealedPart { data: parts[2].data, stored: 70_032..135_584, plain: 70_000..135_536 };
        let third = SealedPart { data: parts[3].data, stored: 135_584..135_609, plain: 135_536..135_545 };
        let from = async |from_bytes, limit| {
            world.metadata.sealed_parts(record.data, from_bytes, limit).await.unwrap()
        };
        assert_eq!(from(0, 10).await.len(), 3, "an empty part holds nothing");
        assert_eq!(from(70_000, 10).await, [second.clone(), third.clone()]);
        assert_eq!(from(135_535, 1).await, [second]);
        assert_eq!(from(135_536, 10).await, [third]);
        assert_eq!(from(135_545, 10).await, []);
        world.is_sound().await;
    });
}

#[test]
fn parts_of_many_rows_are_found_by_their_plain_offsets() {
    world(6, async |world| {
        let new = new_upload(b"k", Some(encryption(EncryptedBy::Customer, b"sealed")));
        let (upload, _) = world.metadata.create_upload(new).await.unwrap();
        let path = path(b"k", upload);
        let numbers: Vec<u16> = (1..=2_100).collect();
        for number in &numbers {
            world.put_part(path, *number, &[(0, 10 + 16)]).await;
        }
        let done = world.metadata.complete_upload(path, &numbers, &WriteCondition::Always, compose).await;
        assert_eq!(done.unwrap().unwrap().size_bytes, 21_000);
        let data = world.metadata.object("b", b"k", None).await.unwrap().record.data;
        let found = world.metadata.sealed_parts(data, 20_015, 2).await.unwrap();
        let places: Vec<_> = found.into_iter().map(|part| (part.plain, part.stored)).collect();
        assert_eq!(places, [(20_010..20_020, 52_026..52_052), (20_020..20_030, 52_052..52_078)]);
    });
}

#[test]
fn nothing_is_appended_to_sealed_bytes() {
    world(7, async |world| {
        let record = world.put_sealed(b"k", 100, encryption(EncryptedBy::Managed, b"sealed")).await;
        let append = Append {
            bucket: "b",
            key: b"k",
            offset_bytes: 100,
            seen: record.data,
            checksum: None,
            condition: WriteCondition::Always,
        };
        let stored = || StoredBytes { evidence: Stored(vec![world.extent(0, 5)]), crc32c: None };
        let compose = |old: &ObjectRecord, _| Composed { etag: old.listed.etag, checksums: Vec::new() };
        let result = world.metadata.append_object(append, None::<StoredBytes<Stored>>, stored(), compose);
        assert_eq!(refused(result.await), Refusal::ObjectChanged);
    });
}
