//! Space: live bytes are what the owner rows say, reclaim sees them, sweeping is idempotent, ranges resolve.

use super::super::{Owner, ROW_ITEMS_MAX};
use super::*;
use crate::ShardMove;

#[test]
fn live_bytes_are_the_recount_of_the_owners_after_any_operations() {
    for seed in 0..20 {
        world(seed, async |world| {
            let mut numbers = fastrand::Rng::with_seed(seed);
            for _ in 0..200 {
                let key = [b'a' + numbers.u8(..5)];
                match numbers.u8(..6) {
                    0 | 1 => {
                        let lens: Vec<(u64, u64)> = (0..numbers.usize(1..12))
                            .map(|_| (numbers.u64(..VOLUMES), numbers.u64(1..99)))
                            .collect();
                        world.put_stored(&key, &lens).await;
                    }
                    2 => world.put_inline(&key, b"tiny").await,
                    3 => {
                        let source = [b'a' + numbers.u8(..5)];
                        let copy = super::super::Copy {
                            source_bucket: "b",
                            source_key: &source,
                            bucket: "b",
                            key: &key,
                            replace_headers: Some(Vec::new()),
                            replace_tagging: None,
                            storage_class: None,
                            replace_checksum: None,
                            redirect: None,
                            condition: WriteCondition::Always,
                            source_version: None,
                            lock: ObjectLock::NONE,
                        };
                        match world.metadata.copy_object(copy, same_seal).await {
                            Ok(_) | Err(Failure::Refused(Refusal::NoSuchKey)) => {}
                            Err(failure) => panic!("seed={seed}: {failure}"),
                        }
                    }
                    4 => {
                        world.metadata.delete_object("b", &delete(&key)).await.unwrap();
                    }
                    _ => {
                        for data in world.metadata.garbage(3).await.unwrap() {
                            world.metadata.sweep(data).await.unwrap();
                        }
                    }
                }
                world.live().await;
            }
            for key in b'a'..=b'e' {
                world.metadata.delete_object("b", &delete(&[key])).await.unwrap();
            }
            world.sweep_all().await;
            assert!(world.live().await.values().all(|live| *live == 0), "seed={seed}");
            assert_eq!((world.byte_rows().await, world.usage().await), (0, (0, 0)), "seed={seed}");
        });
    }
}

#[test]
fn a_volume_is_reclaimed_only_when_sealed_and_without_owners() {
    world(1, async |world| {
        let object = world.put_stored(b"k", &[(0, 5_000)]).await;
        let volume = VolumeId(0);
        let owner = world.metadata.last_owner(volume).await.unwrap().unwrap();
        assert_eq!((owner.data, owner.extent.len_bytes), (object.data, 5_000));
        assert_eq!(world.metadata.reclaim_volume(volume).await, Ok(false), "open");
        world.metadata.seal_volume(volume, 16).await.unwrap();
        world.metadata.seal_volume(volume, 99).await.unwrap();
        let record = world.metadata.volume(volume).await.unwrap().unwrap();
        assert_eq!(record.state, VolumeState::Sealed { end_sector: 16 }, "sealed once");
        assert_eq!(world.metadata.reclaim_volume(volume).await, Ok(false), "live");
        world.metadata.delete_object("b", &delete(b"k")).await.unwrap();
        assert_eq!(world.metadata.reclaim_volume(volume).await, Ok(false), "not swept");
        assert!(world.metadata.forget_volume(volume).await.is_err());
        world.sweep_all().await;
        assert_eq!(world.metadata.reclaim_volume(volume).await, Ok(true));
        assert_eq!(world.metadata.reclaim_volume(volume).await, Ok(true), "again");
        world.metadata.forget_volume(volume).await.unwrap();
        world.metadata.forget_volume(volume).await.unwrap();
        assert_eq!(world.metadata.volume(volume).await, Ok(None));
        assert_eq!(world.metadata.volumes(VolumeId(0), 10).await.unwrap().len(), 2);
    });
}

#[test]
fn a_shard_moves_only_from_where_it_is_and_never_to_the_drive_of_another() {
    world(1, async |world| {
        let drives = [DriveId(1), DriveId(2)];
        let profile = Profile { k: 1, m: 1 };
        let record = VolumeRecord { profile, segments: drives.to_vec(), ..open_volume(77) };
        world.metadata.create_volume(&record).await.unwrap();
        let moved = ShardMove { volume: record.id, shard: 0, from: DriveId(1), to: DriveId(3) };
        assert_eq!(world.metadata.move_shard(moved).await, Ok(false), "open");
        world.metadata.seal_volume(record.id, 16).await.unwrap();
        let onto_another = ShardMove { to: DriveId(2), ..moved };
        assert_eq!(world.metadata.move_shard(onto_another).await, Ok(false), "two shards on one drive");
        assert_eq!(world.metadata.move_shard(ShardMove { from: DriveId(9), ..moved }).await, Ok(false));
        assert_eq!(world.metadata.move_shard(moved).await, Ok(true));
        assert_eq!(world.metadata.move_shard(moved).await, Ok(true), "again");
        let kept = world.metadata.volume(record.id).await.unwrap().unwrap();
        assert_eq!(kept.segments, [DriveId(3), DriveId(2)]);
    });
}

#[test]
fn a_commit_into_a_reclaimed_or_unknown_volume_is_refused() {
    world(2, async |world| {
        world.metadata.seal_volume(VolumeId(1), 0).await.unwrap();
        assert_eq!(world.metadata.reclaim_volume(VolumeId(1)).await, Ok(true));
        for volume in [1, 77] {
            let evidence = Stored(vec![world.extent(volume, 10)]);
            let result = world.put(b"k", NewBytes::Stored { evidence, crc32c: None }).await;
            assert_eq!(refused(result), Refusal::VolumeGone(VolumeId(volume)));
        }
        assert_eq!(world.byte_rows().await, 0);
    });
}

#[test]
fn a_put_that_races_reclaim_is_live_or_refused() {
    let mut reclaimed_count = 0;
    for seed in 0..50 {
        let sim = Sim::new(seed);
        let executor = sim.executor();
        reclaimed_count += sim.block_on(async {
            let world = World::new(executor, Outcomes::Known).await;
            world.metadata.seal_volume(VolumeId(0), 16).await.unwrap();
            let evidence = Stored(vec![world.extent(0, 10)]);
            let put = world.put(b"k", NewBytes::Stored { evidence, crc32c: None });
            let reclaim = world.metadata.reclaim_volume(VolumeId(0));
            match futures_util::future::join(put, reclaim).await {
                (Ok(_), Ok(false)) => 0,
                (Err(Failure::Refused(Refusal::VolumeGone(_))), Ok(true)) => 1,
                other => panic!("seed={seed}: {other:?}"),
            }
        });
    }
    assert!((1..50).contains(&reclaimed_count), "both ways are seen: {reclaimed_count}");
}

#[test]
fn an_object_of_many_extents_resolves_row_by_row_and_sweeps_in_bounded_steps() {
    world(3, async |world| {
        let count = 2 * ROW_ITEMS_MAX + 100;
        let lens: Vec<(u64, u64)> =
            (0..count).map(|index| (u64::try_from(index).unwrap() % VOLUMES, 10)).collect();
        let object = world.put_stored(b"k", &lens).await;
        let size_bytes = object.listed.size_bytes;
        let mut at_bytes = 5;
        let mut extents = 0;
        while at_bytes < size_bytes {
            let resolved = world.metadata.resolve(object.data, at_bytes..size_bytes, 700).await.unwrap();
            assert!(resolved.start_bytes <= at_bytes && resolved.start_bytes + 10 > at_bytes);
            assert!(resolved.extents.len() <= 700);
            extents += resolved.extents.len();
            at_bytes = resolved.end_bytes();
        }
        assert_eq!(extents, count);
        let middle = world.metadata.resolve(object.data, 20_005..20_011, 700).await.unwrap();
        assert_eq!((middle.start_bytes, middle.extents.len()), (20_000, 2));
        world.metadata.delete_object("b", &delete(b"k")).await.unwrap();
        assert_eq!(world.sweep_all().await, 4, "three rows of items, then the header");
        assert_eq!((world.live().await[&0], world.byte_rows().await), (0, 0));
    });
}

#[test]
fn sweeping_again_changes_nothing() {
    world(4, async |world| {
        let object = world.put_stored(b"k", &[(0, 10), (1, 20)]).await;
        world.put_stored(b"other", &[(0, 30)]).await;
        assert_eq!(world.metadata.sweep(object.data).await, Ok(true), "not garbage: untouched");
        assert_eq!(world.live().await[&0], 40);
        world.metadata.delete_object("b", &delete(b"k")).await.unwrap();
        let sweeps = (0..5).map(async |_| world.metadata.sweep(object.data).await);
        let results = futures_util::future::join_all(sweeps).await;
        assert!(results.iter().all(|result| *result == Ok(true)));
        let live = world.live().await;
        assert_eq!((live[&0], live[&1]), (30, 0));
    });
}

impl World {
    /// All owners in a volume.
    async fn owners(&self, volume: u64) -> Vec<Owner> {
        self.metadata.owners(VolumeId(volume), (0, 0), 1_000).await.unwrap()
    }

    /// New places for the bytes of some owners, in another volume; large ones in two pieces.
    fn moved(&self, owners: &[Owner], volume: u64) -> Vec<(Owner, Stored)> {
        let to = |owner: &Owner| {
            let len = owner.extent.len_bytes;
            let lens = if len > 50 { vec![len / 2, len - len / 2] } else { vec![len] };
            let extents = lens.into_iter().map(|len| self.extent(volume, len)).collect();
            (*owner, Stored(extents))
        };
        owners.iter().map(to).collect()
    }
}

#[test]
fn moved_bytes_are_found_where_they_lie_now_and_the_emptied_volume_can_go() {
    world(5, async |world| {
        let small = world.put_stored(b"small", &[(0, 40)]).await;
        let lens: Vec<(u64, u64)> = (0..1_500).map(|n| (n % 2, 10 + n % 90)).collect();
        let large = world.put_stored(b"large", &lens).await;
        let upload = world.begin_upload(b"parts").await;
        world.put_part(path(b"parts", upload), 1, &[(0, 70), (1, 30)]).await;
        let total: u64 = lens.iter().map(|(_, len)| len).sum();
        world.metadata.seal_volume(VolumeId(0), 1 << 30).await.unwrap();
        loop {
            let owners: Vec<Owner> = world.owners(0).await.into_iter().take(256).collect();
            if owners.is_empty() {
                break;
            }
            let count = owners.len();
            assert_eq!(world.metadata.relocate(world.moved(&owners, 2)).await, Ok(count));
            world.live().await;
        }
        assert_eq!(world.live().await[&0], 0);
        assert_eq!(world.metadata.reclaim_volume(VolumeId(0)).await, Ok(true));
        let resolved = world.metadata.resolve(small.data, 0..40, 10).await.unwrap();
        assert_eq!(resolved.extents.len(), 1);
        assert_eq!(resolved.extents[0].extent.volume, VolumeId(2));
        // Whatever range is asked for, the extents still cover it, in order and without a gap.
        let mut at = 0;
        while at < total {
            let resolved = world.metadata.resolve(large.data, at..total, 100).await.unwrap();
            assert!(resolved.start_bytes <= at && resolved.end_bytes() > at);
            assert!(resolved.extents.iter().all(|item| item.extent.volume != VolumeId(0)));
            at = resolved.end_bytes();
        }
        assert_eq!(at, total);
        for key in [&b"small"[..], b"large"] {
            world.metadata.delete_object("b", &delete(key)).await.unwrap();
        }
        world.metadata.abort_upload(path(b"parts", upload)).await.unwrap();
        world.sweep_all().await;
        assert!(world.live().await.values().all(|live| *live == 0));
        assert_eq!(world.byte_rows().await, 0);
    });
}

#[test]
fn a_row_that_would_grow_too_long_is_left_as_it_is() {
    world(7, async |world| {
        let lens = vec![(0, 60); ROW_ITEMS_MAX];
        let object = world.put_stored(b"full", &lens).await;
        let owners = world.owners(0).await;
        assert_eq!(world.metadata.relocate(world.moved(&owners[..1], 1)).await, Ok(0), "two in place of one");
        let one = vec![(owners[0], Stored(vec![world.extent(1, 60)]))];
        assert_eq!(world.metadata.relocate(one).await, Ok(1));
        let resolved = world.metadata.resolve(object.data, 0..60, 10).await.unwrap();
        assert_eq!(resolved.extents[0].extent.volume, VolumeId(1));
        world.live().await;
    });
}

#[test]
fn a_move_that_comes_too_late_changes_nothing() {
    world(6, async |world| {
        world.put_stored(b"k", &[(0, 40), (0, 60)]).await;
        let owners = world.owners(0).await;
        let late = world.moved(&owners, 1);
        assert_eq!(world.metadata.relocate(world.moved(&owners, 2)).await, Ok(2), "another move came first");
        assert_eq!(world.metadata.relocate(late).await, Ok(0));
        let owners = world.owners(2).await;
        world.metadata.delete_object("b", &delete(b"k")).await.unwrap();
        world.sweep_all().await;
        assert_eq!(world.metadata.relocate(world.moved(&owners, 1)).await, Ok(0), "the object is gone");
        assert!(world.live().await.values().all(|live| *live == 0));
        assert_eq!(world.byte_rows().await, 0);
        world.put_stored(b"k", &[(1, 40)]).await;
        world.metadata.seal_volume(VolumeId(2), 1 << 30).await.unwrap();
        assert_eq!(world.metadata.reclaim_volume(VolumeId(2)).await, Ok(true));
        let owners = world.owners(1).await;
        assert_eq!(world.metadata.relocate(world.moved(&owners, 2)).await, Ok(0), "the target is gone");
        world.live().await;
    });
}

#[test]
fn a_move_that_races_deletes_sweeps_and_copies_leaves_live_bytes_right_and_every_name_whole() {
    for seed in 0..60 {
        world(seed, async |world| {
            let lens = [(0, 30), (0, 80), (0, 20)];
            world.put_stored(b"a", &lens).await;
            world.put_stored(b"b", &lens).await;
            let copy = || copy(b"a", b"copy");
            let owners = world.owners(0).await;
            let (first, second) = (world.moved(&owners, 1), world.moved(&owners, 2));
            let deleting = async {
                world.metadata.delete_object("b", &delete(b"b")).await.unwrap();
                world.sweep_all().await
            };
            let copying = world.metadata.copy_object(copy(), same_seal);
            let moving =
                futures_util::future::join(world.metadata.relocate(first), world.metadata.relocate(second));
            let (moved, _, copied) = futures_util::future::join3(moving, deleting, copying).await;
            copied.unwrap().unwrap();
            let made = moved.0.unwrap() + moved.1.unwrap();
            assert!(made <= owners.len(), "seed={seed}: an extent moved twice");
            world.live().await;
            for key in [&b"a"[..], b"copy"] {
                let object = world.metadata.object("b", key, None).await.unwrap();
                let resolved = world.metadata.resolve(object.record.data, 0..130, 10).await.unwrap();
                assert_eq!((resolved.start_bytes, resolved.end_bytes()), (0, 130), "seed={seed}");
            }
            for key in [&b"a"[..], b"copy"] {
                world.metadata.delete_object("b", &delete(key)).await.unwrap();
            }
            world.sweep_all().await;
            assert_eq!(world.byte_rows().await, 0, "seed={seed}");
            assert!(world.live().await.values().all(|live| *live == 0), "seed={seed}");
        });
    }
}
