//! Evening out: a drive that joined takes its part of what the others hold, and nothing is lost or disturbed by it.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests")]

mod common;

use std::time::Duration;

use common::census::census;
use common::{Process, Stored, World};
use shardstore::{BalanceStatus, Catalog};
use shardstore_format::{DriveId, Profile, VolumeId, VolumeRecord};
use shardstore_reactor::{Clock, Drive, Executor};
use shardstore_sim::{Faults, SimDrive};

const CAPACITY_BYTES: u64 = 256 << 20;
const JOINED: DriveId = DriveId(99);

/// A pool of 4+2 on six drives that are more than a third full.
async fn filled(world: &World) -> (Process, Vec<Stored>) {
    for drive in &world.drives {
        drive.set_capacity(CAPACITY_BYTES);
    }
    let process = world.start(1).await;
    let mut stored = Vec::new();
    for seed in 0..220 {
        stored.push(process.put(seed, [2_500_000, 900_000, 60_000][seed as usize % 3]).await.unwrap());
        if seed % 10 == 9 {
            process.store().seal_open().await;
        }
    }
    process.store().seal_open().await;
    (process, stored)
}

fn four_two(seed: u64) -> (World, SimDrive) {
    let world = World::new(seed, 6, Some(Profile { k: 4, m: 2 }));
    let spare = world.sim.drive("/d6", CAPACITY_BYTES);
    (world, spare)
}

fn join(process: &Process, spare: &SimDrive) {
    process.shared.drive_joined(JOINED, "/d6");
    process.store().media().set_drive(JOINED, spare.clone());
}

async fn used_percent(drive: &SimDrive) -> u64 {
    let space = drive.space().await.unwrap();
    (space.total_bytes - space.free_bytes) * 100 / space.total_bytes
}

async fn spread_percent(world: &World, spare: &SimDrive) -> u64 {
    let mut used = vec![used_percent(spare).await];
    for drive in &world.drives {
        used.push(used_percent(drive).await);
    }
    used.iter().max().unwrap() - used.iter().min().unwrap()
}

async fn records(process: &Process) -> Vec<VolumeRecord> {
    let usages = process.catalog.volumes(VolumeId(0), 1_000).await.unwrap();
    usages.into_iter().map(|usage| usage.record).collect()
}

/// Each volume lies on drives of its own, and what metadata says of that is what readers do.
async fn check_all(process: &Process, stored: &[Stored]) {
    for record in records(process).await {
        let mut drives = record.segments.clone();
        drives.sort_unstable();
        drives.dedup();
        assert_eq!(drives.len(), record.segments.len(), "two shards on one drive");
    }
    for stored in stored {
        process.check(stored).await;
    }
}

#[test]
fn a_drive_that_joined_takes_its_part_while_the_store_serves() {
    let (world, spare) = four_two(1);
    world.sim.block_on(async {
        let (process, mut stored) = filled(&world).await;
        let clock = world.executor();
        clock.spawn(process.store().clone().run_background());
        clock.sleep(Duration::from_secs(60)).await;
        assert_eq!(process.shared.stats().shards_balanced, 0, "they are alike");
        assert!(process.shared.balance_status().is_even);
        join(&process, &spare);
        assert!(!process.shared.balance_status().is_even, "nobody has looked yet");
        clock.sleep(Duration::from_secs(30)).await;
        assert!(process.shared.balance_status().is_even && process.shared.stats().shards_balanced > 5);
        assert!(spread_percent(&world, &spare).await <= 10, "{:?}", process.shared.stats());
        for seed in 1_000..1_040 {
            clock.sleep(Duration::from_secs(2)).await;
            stored.push(process.put(seed, 70_000).await.unwrap());
            process.check(&stored[seed as usize % 200]).await;
        }
        assert!(spread_percent(&world, &spare).await <= 10, "{:?}", process.shared.stats());
        let moved = process.shared.stats().shards_balanced;
        assert!(moved > 5 && process.shared.shards_on(JOINED) as u64 >= moved);
        assert_eq!(process.shared.stats().shards_repaired, 0);
        clock.sleep(Duration::from_secs(120)).await;
        assert_eq!(process.shared.stats().shards_balanced, moved, "it comes to rest");
        assert_eq!(process.shared.balance_status(), BalanceStatus { shards_left: 0, is_even: true });
        check_all(&process, &stored).await;
        process.shared.stop();
    });
}

/// The pool is opened anew after each crash, with the member that joined among its identities.
#[test]
fn a_crash_in_the_middle_of_a_move_leaves_every_byte_and_no_stray_file() {
    for seed in 0..12 {
        let mut world = World::new(seed, 7, Some(Profile { k: 4, m: 2 }));
        for drive in &world.drives {
            drive.set_capacity(CAPACITY_BYTES);
        }
        let stored = world.sim.block_on(async {
            let process = world.start(1).await;
            // One drive is there and gets nothing at first.
            let late = process.shared.drives()[6].id;
            process.shared.set_draining(late, true);
            let mut stored = Vec::new();
            for seed in 0..60 {
                stored.push(process.put(seed, 2_500_000).await.unwrap());
                if seed % 4 == 3 {
                    process.store().seal_open().await;
                }
            }
            process.store().seal_open().await;
            process.shared.set_draining(late, false);
            stored
        });
        let polls_max = 200 + seed * 900;
        let cut = world.sim.run(
            async {
                let process = world.start(1).await;
                process.store().balance_now().await
            },
            polls_max,
        );
        if seed % 2 == 0 {
            world.crash();
        } else {
            world.kill();
        }
        world.sim.block_on(async {
            let process = world.start(1).await;
            check_all(&process, &stored).await;
            let rest = process.store().balance_now().await;
            assert!(rest > 0 || cut.is_some(), "seed={seed}");
            check_all(&process, &stored).await;
            let pool = world.open_pool().await.unwrap();
            let records = records(&process).await;
            census(&pool, &records, &stored).await;
            let mut files = 0;
            for drive in &world.drives {
                files += drive.list("segments").await.unwrap().len();
            }
            let named: usize = records.iter().map(|record| record.segments.len()).sum();
            assert_eq!(files, named, "seed={seed}");
        });
    }
}

#[test]
fn faults_inside_a_move_cost_time_and_nothing_else() {
    for seed in 0..6 {
        let (world, spare) = four_two(seed);
        world.sim.block_on(async {
            let (process, stored) = filled(&world).await;
            join(&process, &spare);
            match seed % 3 {
                // The drive that joined fails: what it was to have stays where it is.
                0 => spare.fail_writes(1),
                // What is copied has flipped bits, and cannot be read at times: it is rebuilt on the way.
                1 => {
                    for _ in 0..30 {
                        world.drives[2].corrupt_random();
                    }
                    world.drives[2].set_faults(Faults { read_error_per_mille: 20, ..Faults::default() });
                }
                _ => spare.set_capacity(40 << 20),
            }
            process.store().balance_now().await;
            world.drives[2].set_faults(Faults::default());
            check_all(&process, &stored).await;
            // A fenced drive does not say.
            let Ok(space) = spare.space().await else { return };
            assert!(space.free_bytes * 16 >= space.total_bytes, "the reserve stays");
        });
    }
}

/// They were tried every second, for ever: read, written to the target and thrown away.
#[test]
fn moves_that_cannot_be_made_are_not_tried_again_without_a_pause_and_stay_planned() {
    let (world, spare) = four_two(7);
    world.sim.block_on(async {
        let (process, stored) = filled(&world).await;
        let clock = world.executor();
        join(&process, &spare);
        spare.set_faults(Faults { no_space_per_mille: 1_000, ..Faults::default() });
        let before = spare.name_operations();
        assert_eq!(process.store().balance_now().await, 0);
        let of_one_try = spare.name_operations() - before;
        clock.spawn(process.store().clone().run_background());
        let before = spare.name_operations();
        clock.sleep(Duration::from_secs(60)).await;
        let tries = (spare.name_operations() - before) / of_one_try;
        assert!((2..=6).contains(&tries), "{tries} tries in a minute");
        let status = process.shared.balance_status();
        assert!(status.shards_left > 0 && !status.is_even, "{status:?}");
        // What was in the way is gone.
        spare.set_faults(Faults::default());
        clock.sleep(Duration::from_secs(60)).await;
        assert_eq!(process.shared.balance_status(), BalanceStatus { shards_left: 0, is_even: true });
        check_all(&process, &stored).await;
        process.shared.stop();
    });
}
