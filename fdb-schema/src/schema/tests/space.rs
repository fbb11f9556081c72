//! Space: live bytes are what the owner rows say, reclaim sees them, sweeping is idempotent, ranges resolve.

use super::super::{DeleteCondition, ROW_ITEMS_MAX};
use super::*;

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
                            storage_class: None,
                            condition: WriteCondition::Always,
                        };
                        match world.metadata.copy_object(copy, |_| Ok::<(), ()>(())).await {
                            Ok(_) | Err(Failure::Refused(Refusal::NoSuchKey)) => {}
                            Err(failure) => panic!("seed={seed}: {failure}"),
                        }
                    }
                    4 => {
                        world.metadata.delete_object("b", &key, &DeleteCondition::default()).await.unwrap();
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
                world.metadata.delete_object("b", &[key], &DeleteCondition::default()).await.unwrap();
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
        world.metadata.delete_object("b", b"k", &DeleteCondition::default()).await.unwrap();
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
        world.metadata.delete_object("b", b"k", &DeleteCondition::default()).await.unwrap();
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
        world.metadata.delete_object("b", b"k", &DeleteCondition::default()).await.unwrap();
        let sweeps = (0..5).map(async |_| world.metadata.sweep(object.data).await);
        let results = futures_util::future::join_all(sweeps).await;
        assert!(results.iter().all(|result| *result == Ok(true)));
        let live = world.live().await;
        assert_eq!((live[&0], live[&1]), (30, 0));
    });
}
