//! Append: what grows in place, what is made anew, and what a copy shares with it.

use super::super::{Append, Place, StoredBytes, Versioning};
use super::*;

fn append<'a>(key: &'a [u8], old: &ObjectRecord) -> Append<'a> {
    Append {
        bucket: "b",
        key,
        offset_bytes: old.listed.size_bytes,
        seen: old.data,
        checksum: None,
        condition: WriteCondition::Always,
    }
}

impl World {
    fn stored(&self, volume: u64, len_bytes: u64) -> StoredBytes<Stored> {
        StoredBytes { evidence: Stored(vec![self.extent(volume, len_bytes)]), crc32c: None }
    }

    async fn try_append(
        &self,
        append: Append<'_>,
        base: Option<StoredBytes<Stored>>,
        len_bytes: u64,
    ) -> Result<ObjectRecord, Failure> {
        let compose = |_: &ObjectRecord, part_count: u16| Composed {
            etag: ETag { md5: [5; 16], part_count: Some(part_count) },
            checksums: Vec::new(),
        };
        let bytes = self.stored(1, len_bytes);
        self.metadata.append_object(append, base, bytes, compose).await
    }

    async fn append(&self, key: &[u8], len_bytes: u64) -> ObjectRecord {
        let old = self.metadata.object("b", key, None).await.unwrap().record;
        self.try_append(append(key, &old), None, len_bytes).await.unwrap()
    }

    async fn copy(&self, source: &[u8], target: &[u8]) {
        self.metadata.copy_object(copy(source, target), same_seal).await.unwrap().unwrap();
    }

    async fn delete(&self, key: &[u8]) {
        self.metadata.delete_object("b", &delete(key)).await.unwrap();
    }

    /// The lengths of all extents of an object, in order.
    async fn lens(&self, key: &[u8]) -> Vec<u64> {
        let object = self.metadata.object("b", key, None).await.unwrap().record;
        let size_bytes = object.listed.size_bytes;
        let (mut lens, mut at_bytes) = (Vec::new(), 0);
        while at_bytes < size_bytes {
            let found = self.metadata.resolve(object.data, at_bytes..size_bytes, 256).await.unwrap();
            at_bytes = found.end_bytes();
            lens.extend(found.extents.iter().map(|item| item.extent.len_bytes));
        }
        lens
    }

    async fn is_empty(&self) -> bool {
        self.sweep_all().await;
        self.live().await.values().all(|live| *live == 0)
            && (self.byte_rows().await, self.usage().await) == (0, (0, 0))
    }
}

#[test]
fn an_append_adds_a_part_and_moves_nothing() {
    world(1, async |world| {
        let old = world.put_stored(b"k", &[(0, 1_000), (0, 500)]).await;
        let once = world.append(b"k", 30).await;
        assert_eq!((once.listed.size_bytes, once.listed.etag.part_count), (1_530, Some(2)));
        let twice = world.append(b"k", 4).await;
        assert_eq!(twice.data, once.data, "rows of parts grow in place");
        assert_eq!(world.lens(b"k").await, [1_000, 500, 30, 4]);
        assert_eq!(world.part(twice.data, 1).await, (Some(0..1_500), 3));
        assert_eq!(world.part(twice.data, 3).await, (Some(1_530..1_534), 3));
        assert_eq!(world.usage().await, (1, 1_534));
        let before = world.metadata.resolve(old.data, 0..1_500, 10).await.unwrap();
        assert_eq!(before.end_bytes(), 1_500, "who reads what it was reads on");
        world.delete(b"k").await;
        assert!(world.is_empty().await);
    });
}

#[test]
fn inline_bytes_are_stored_anew_and_empty_objects_have_none() {
    world(2, async |world| {
        world.put_inline(b"k", b"hello").await;
        let old = world.metadata.object("b", b"k", None).await.unwrap().record;
        let base = Some(world.stored(0, 5));
        let new = world.try_append(append(b"k", &old), base, 9).await.unwrap();
        assert_eq!((new.listed.size_bytes, new.listed.etag.part_count), (14, Some(2)));
        assert_eq!(world.lens(b"k").await, [5, 9]);
        world.put_inline(b"empty", b"").await;
        assert_eq!(world.append(b"empty", 9).await.listed.etag.part_count, Some(1));
        assert_eq!(world.lens(b"empty").await, [9]);
        for key in [&b"k"[..], b"empty"] {
            world.delete(key).await;
        }
        assert!(world.is_empty().await);
    });
}

#[test]
fn an_append_must_meet_the_end_of_the_object_that_was_looked_at() {
    world(3, async |world| {
        let old = world.put_stored(b"k", &[(0, 1_000)]).await;
        let wrong = Append { offset_bytes: 999, ..append(b"k", &old) };
        let refusal = refused(world.try_append(wrong, None, 1).await);
        assert_eq!(refusal, Refusal::WriteOffset { size_bytes: 1_000 });
        world.put_stored(b"k", &[(0, 1_000)]).await;
        assert_eq!(refused(world.try_append(append(b"k", &old), None, 1).await), Refusal::ObjectChanged);
        let missing = append(b"none", &old);
        assert_eq!(refused(world.try_append(missing, None, 1).await), Refusal::NoSuchKey);
        assert_eq!(world.usage().await, (1, 1_000));
        let now = world.metadata.object("b", b"k", None).await.unwrap().record;
        world.metadata.set_versioning("b", Versioning::Enabled).await.unwrap();
        assert_eq!(refused(world.try_append(append(b"k", &now), None, 1).await), Refusal::KeepsVersions);
    });
}

#[test]
fn copies_and_appended_objects_share_bytes_until_both_are_gone() {
    for first_gone in [&b"k"[..], b"copy"] {
        world(4, async |world| {
            world.put_stored(b"k", &[(0, 1_000)]).await;
            world.copy(b"k", b"copy").await;
            world.append(b"k", 7).await;
            world.append(b"copy", 8).await;
            world.copy(b"k", b"second").await;
            world.append(b"k", 9).await;
            assert_eq!(world.lens(b"k").await, [1_000, 7, 9]);
            assert_eq!(world.lens(b"copy").await, [1_000, 8]);
            assert_eq!(world.lens(b"second").await, [1_000, 7]);
            world.delete(first_gone).await;
            world.sweep_all().await;
            assert_eq!(world.lens(b"second").await, [1_000, 7]);
            for key in [&b"k"[..], b"copy", b"second"] {
                world.delete(key).await;
            }
            assert!(world.is_empty().await, "{first_gone:?}");
        });
    }
}

#[test]
fn ten_thousand_appends_resolve_and_one_more_is_refused() {
    world(5, async |world| {
        let mut object = world.put_stored(b"k", &[(0, 10)]).await;
        for _ in 1..10_000 {
            object = world.try_append(append(b"k", &object), None, 10).await.unwrap();
        }
        assert_eq!(object.listed.etag.part_count, Some(10_000));
        let more = world.try_append(append(b"k", &object), None, 10).await;
        assert_eq!(refused(more), Refusal::TooManyParts);
        assert_eq!(world.lens(b"k").await.len(), 10_000);
        assert_eq!(world.part(object.data, 9_999).await, (Some(99_980..99_990), 10_000));
        assert!(matches!(object.place, Place::Rows { hint } if hint.is_empty()));
        world.delete(b"k").await;
        assert!(world.is_empty().await);
    });
}
