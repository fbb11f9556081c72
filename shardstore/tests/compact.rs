//! Compaction: sparse volumes give their room back, and nothing that lives is lost, changed or held up by it.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests")]

mod common;

use std::time::Duration;

use common::census::census;
use common::{Process, Stored, World, content};
use shardstore::{Catalog, PutError, ReadError};
use shardstore_format::{Profile, VolumeId, VolumeRecord};
use shardstore_reactor::{Clock, Drive, Executor};

fn four_two(seed: u64, drives: usize) -> World {
    World::new(seed, drives, Some(Profile { k: 4, m: 2 }))
}

const SIZES: [u64; 6] = [3_000, 20_000, 150_000, 60_000, 900_000, 2_500_000];

async fn put_all(process: &Process, seeds: std::ops::Range<u64>) -> Vec<Stored> {
    let mut stored = Vec::new();
    for (seed, len) in seeds.zip(SIZES.into_iter().cycle()) {
        stored.push(process.put(seed, len).await.unwrap());
    }
    stored
}

/// What metadata says of an object now.
fn resolved(process: &Process, stored: &Stored) -> Stored {
    let crc = stored.extents.first().and_then(|(_, crc)| *crc);
    let extents = process.catalog.extents_of(stored.data_id);
    let crc = crc.filter(|_| extents.len() == 1);
    Stored { extents: extents.into_iter().map(|extent| (extent, crc)).collect(), ..stored.clone() }
}

async fn check_all(process: &Process, stored: &[Stored]) {
    for stored in stored {
        process.check(&resolved(process, stored)).await;
    }
}

async fn used_bytes(world: &World) -> u64 {
    let mut used = 0;
    for drive in &world.drives {
        let space = drive.space().await.unwrap();
        used += space.total_bytes - space.free_bytes;
    }
    used
}

async fn records(process: &Process) -> Vec<VolumeRecord> {
    let usages = process.catalog.volumes(VolumeId(0), 1_000).await.unwrap();
    usages.into_iter().map(|usage| usage.record).collect()
}

async fn delete_most(process: &Process, stored: Vec<Stored>, keep_one_in: usize) -> Vec<Stored> {
    let mut kept = Vec::new();
    for (index, one) in stored.into_iter().enumerate() {
        if index % keep_one_in == 0 {
            kept.push(one);
        } else {
            process.catalog.delete(one.data_id).await;
        }
    }
    process.store().sweep_now().await.unwrap();
    kept
}

#[test]
fn a_sparse_volume_gives_its_room_back_and_what_lived_in_it_reads_on() {
    for seed in 0..4 {
        let world = four_two(seed, 6);
        world.sim.block_on(async {
            let process = world.start(1).await;
            let stored = put_all(&process, 0..72).await;
            process.store().seal_open().await;
            let before = used_bytes(&world).await;
            let kept = delete_most(&process, stored, 7).await;
            let report = process.store().compact_now().await.unwrap();
            assert!(report.volumes > 0 && report.moved_bytes > 0, "{report:?}");
            process.store().reclaim_now().await.unwrap();
            check_all(&process, &kept).await;
            process.store().seal_open().await;
            let after = used_bytes(&world).await;
            assert!(after * 3 < before, "seed={seed}: {before} bytes before, {after} after");
            let pool = world.open_pool().await.unwrap();
            let now: Vec<Stored> = kept.iter().map(|stored| resolved(&process, stored)).collect();
            census(&pool, &records(&process).await, &now).await;
            assert_eq!(process.shared.stats().pages_corrupt, 0);
            let again = process.store().compact_now().await.unwrap();
            assert!(again.moved_bytes < report.moved_bytes / 4, "it settles: {again:?}");
            check_all(&process, &kept).await;
        });
    }
}

#[test]
fn a_reader_that_began_before_ends_with_its_bytes_though_the_volume_went() {
    let world = four_two(11, 6);
    world.sim.block_on(async {
        let process = world.start(1).await;
        let slow = process.put(1, 6_000_000).await.unwrap();
        let rest = put_all(&process, 2..40).await;
        process.store().seal_open().await;
        delete_most(&process, rest, 1_000).await;
        let hold = process.store().hold(slow.data_id);
        let mut reader = process.store().open_read(slow.extents.clone(), 0..slow.len);
        let mut bytes = Vec::new();
        let append = |parts: Vec<bytes::Bytes>, bytes: &mut Vec<u8>| {
            parts.iter().for_each(|part| bytes.extend_from_slice(part));
        };
        append(reader.next().await.unwrap().unwrap(), &mut bytes);
        assert!(bytes.len() < 6_000_000);
        process.store().compact_now().await.unwrap();
        assert!(process.store().reclaim_now().await.unwrap() > 0);
        // The cache is too small for the rest, and its pages are gone: the reader is told to ask where they are now.
        loop {
            match reader.next().await {
                Some(Ok(parts)) => append(parts, &mut bytes),
                Some(Err(ReadError::Stale(_))) => {
                    let now = resolved(&process, &slow);
                    reader = process.store().open_read(now.extents, bytes.len() as u64..slow.len);
                }
                Some(Err(error)) => panic!("{error}"),
                None => break,
            }
        }
        drop(hold);
        assert!(bytes == content(1, 6_000_000));
        assert_eq!(process.shared.stats().pages_corrupt, 0, "nothing was damaged");
    });
}

#[test]
fn a_full_pool_of_half_dead_volumes_recovers_by_itself() {
    let world = four_two(12, 6);
    for drive in &world.drives {
        drive.set_capacity(48 << 20);
    }
    world.sim.block_on(async {
        let process = world.start(1).await;
        let clock = world.executor();
        let mut stored = Vec::new();
        for seed in 0.. {
            match process.put(seed, 400_000).await {
                Ok(one) => stored.push(one),
                Err(PutError::NoSpace) => break,
                Err(error) => panic!("{error}"),
            }
        }
        process.store().seal_open().await;
        let kept = delete_most(&process, stored, 2).await;
        assert!(
            matches!(process.put(9_999, 400_000).await, Err(PutError::NoSpace)),
            "every volume is half dead"
        );
        clock.spawn(process.store().clone().run_background());
        let mut waited = 0;
        while process.put(10_000, 400_000).await.is_err() {
            clock.sleep(Duration::from_secs(1)).await;
            waited += 1;
            assert!(waited < 600, "{:?}", process.shared.stats());
        }
        check_all(&process, &kept).await;
        process.shared.stop();
    });
}

#[test]
fn a_crash_at_any_moment_of_compaction_loses_nothing_and_leaks_nothing() {
    for seed in 0..25 {
        let mut world = four_two(seed, 6);
        let process = world.sim.block_on(world.start(1));
        let kept = world.sim.block_on(async {
            let stored = put_all(&process, 0..36).await;
            process.store().seal_open().await;
            delete_most(&process, stored, 5).await
        });
        let polls = 10 + seed * 60;
        world.sim.run(
            async {
                process.store().compact_now().await.unwrap();
                process.store().reclaim_now().await.unwrap();
            },
            polls,
        );
        drop(process);
        if seed % 2 == 0 {
            world.crash()
        } else {
            world.kill()
        }
        world.sim.block_on(async {
            let process = world.start(1).await;
            check_all(&process, &kept).await;
            process.store().compact_now().await.unwrap();
            process.store().reclaim_now().await.unwrap();
            check_all(&process, &kept).await;
            for stored in &kept {
                process.catalog.delete(stored.data_id).await;
            }
            process.store().seal_open().await;
            process.store().sweep_now().await.unwrap();
            process.store().reclaim_now().await.unwrap();
            assert_eq!(process.catalog.volume_count(), 0, "seed={seed}");
        });
    }
}

#[test]
fn compaction_reads_around_lost_drives_and_bad_pages() {
    let world = four_two(13, 8);
    world.sim.block_on(async {
        let process = world.start(1).await;
        let stored = put_all(&process, 0..36).await;
        process.store().seal_open().await;
        let kept = delete_most(&process, stored, 5).await;
        let process = world.start(1).await;
        world.drives[0].vanish();
        let gone = process.shared.drives()[0].id;
        process.shared.drive_went(gone);
        process.catalog.refuse_some(200);
        for _ in 0..3 {
            process.store().compact_now().await.ok();
        }
        process.catalog.refuse_some(0);
        process.store().compact_now().await.unwrap();
        process.store().reclaim_now().await.unwrap();
        check_all(&process, &kept).await;
    });
}

/// Steady overwrites on drives that the bound would fill to three quarters and to 80 %. The full share was once only
/// wanted from 80 % on, so just below it a run in ten took 1.31 bytes for each that lives.
#[test]
fn the_space_that_a_steady_overwrite_takes_stays_within_the_bound() {
    for (seed, live_percent) in [(19, 58), (23, 61)] {
        overwrite_steadily(seed, live_percent);
    }
}

fn overwrite_steadily(world_seed: u64, live_percent: u64) {
    let world = World::new(world_seed, 3, Some(Profile { k: 2, m: 1 }));
    let capacity = 96_u64 << 20;
    for drive in &world.drives {
        drive.set_capacity(capacity);
    }
    world.sim.block_on(async {
        let process = world.start(1).await;
        let clock = world.executor();
        clock.spawn(process.store().clone().run_background());
        let mut rng = fastrand::Rng::with_seed(world_seed);
        let live_target = capacity * 3 * 2 / 3 * live_percent / 100;
        let (len, mut stored): (u64, Vec<Stored>) = (200_000, Vec::new());
        let mut seed = 0;
        let mut worst = 0;
        for step in 0..4_000 {
            seed += 1;
            match process.put(seed, len).await {
                Ok(one) => {
                    if (stored.len() as u64) * len < live_target {
                        stored.push(one);
                    } else {
                        let index = rng.usize(..stored.len());
                        let old = std::mem::replace(&mut stored[index], one);
                        process.catalog.delete(old.data_id).await;
                    }
                }
                Err(PutError::NoSpace) => {}
                Err(error) => panic!("{error}"),
            }
            if step % 20 == 19 {
                clock.sleep(Duration::from_secs(2)).await;
            }
            if step > 1_500 && step % 100 == 0 {
                clock.sleep(Duration::from_secs(30)).await;
                let live = stored.len() as u64 * len * 3 / 2;
                worst = worst.max(used_bytes(&world).await * 100 / live);
            }
        }
        assert!(process.shared.stats().volumes_compacted > 10, "{:?}", process.shared.stats());
        assert!(worst <= 130, "seed={world_seed}: {worst} % of what lives");
        for stored in stored.iter().step_by(13) {
            process.check(&resolved(&process, stored)).await;
        }
        process.shared.stop();
    });
}
