//! Scrub, mending and repair: whatever breaks on up to m drives ends whole again, and nothing else changes.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::census::census;
use common::{Process, Stored, World};
use shardstore::{Catalog, DriveState, Pool, RepairReport, ScrubPhase};
use shardstore_format::{DriveId, Profile, VolumeClass, VolumeId, VolumeRecord};
use shardstore_reactor::{AlignedBuf, Clock, Drive, DriveFile, OpenMode};
use shardstore_sim::SimDrive;

const SIZES: [u64; 9] = [1, 500, 5_000, 60_000, 65_472, 150_000, 1_048_576, 2_500_000, 5_000_000];

fn four_two(seed: u64, drives: usize) -> World {
    World::new(seed, drives, Some(Profile { k: 4, m: 2 }))
}

async fn put_all(process: &Process, seeds: std::ops::Range<u64>) -> Vec<Stored> {
    let mut stored = Vec::new();
    for (seed, len) in seeds.zip(SIZES.into_iter().cycle()) {
        stored.push(process.put(seed, len).await.unwrap());
    }
    stored
}

async fn records(process: &Process) -> Vec<VolumeRecord> {
    let usages = process.catalog.volumes(VolumeId(0), 1_000).await.unwrap();
    usages.into_iter().map(|usage| usage.record).collect()
}

/// Every page of every acknowledged stripe verifies on its drive.
async fn all_whole(world: &World, process: &Process, stored: &[Stored]) -> usize {
    let pool: Pool<SimDrive> = world.open_pool().await.unwrap();
    census(&pool, &records(process).await, stored).await
}

async fn check_all(process: &Process, stored: &[Stored]) {
    for stored in stored {
        process.check(stored).await;
    }
}

async fn segments(drive: &SimDrive) -> Vec<String> {
    let mut names = drive.list("segments").await.unwrap();
    names.sort();
    names.into_iter().map(|name| format!("segments/{name}")).collect()
}

fn id_of(process: &Process, label: &str) -> DriveId {
    process.shared.drives().into_iter().find(|drive| drive.label == label).unwrap().id
}

/// Flips a bit in many places of a drive's segments; returns how many.
async fn flip_some(drive: &SimDrive, rng: &mut fastrand::Rng, one_in: u64) -> usize {
    let mut flipped = 0;
    for path in segments(drive).await {
        let len = drive.open(&path, OpenMode::Read).await.unwrap().len_bytes().await.unwrap();
        for sector in 0..len / 4096 {
            if rng.u64(..one_in) == 0 {
                flipped += usize::from(drive.corrupt(&path, sector * 4096 + rng.u64(..4096)));
            }
        }
    }
    flipped
}

#[test]
fn a_scrub_finds_and_mends_every_flipped_bit_on_two_drives_also_in_open_volumes() {
    for seed in 0..6 {
        let world = four_two(seed, 6);
        world.sim.block_on(async {
            let process = world.start(1).await;
            let stored = put_all(&process, 0..18).await;
            if seed % 2 == 0 {
                process.store().seal_open().await;
            }
            let pages = all_whole(&world, &process, &stored).await;
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut flipped = 0;
            for drive in &world.drives[1..3] {
                flipped += flip_some(drive, &mut rng, 3).await;
            }
            assert!(flipped > 50, "{flipped}");
            process.store().scrub_now().await.unwrap();
            assert_eq!(all_whole(&world, &process, &stored).await, pages, "seed={seed}");
            let stats = process.shared.stats();
            assert!(stats.pages_mended > 20, "{stats:?}");
            assert_eq!((stats.pages_bad, stats.stripes_lost), (stats.pages_mended, 0), "{stats:?}");
            process.store().scrub_now().await.unwrap();
            assert_eq!(process.shared.stats().pages_bad, stats.pages_bad, "the second pass finds nothing");
            check_all(&process, &stored).await;
        });
    }
}

#[test]
fn a_page_that_a_reader_finds_bad_is_mended_soon() {
    let world = four_two(11, 6);
    world.sim.block_on(async {
        let process = world.start(1).await;
        let stored = put_all(&process, 0..9).await;
        process.store().seal_open().await;
        let process = world.start(1).await;
        let pages = all_whole(&world, &process, &stored).await;
        flip_some(&world.drives[4], &mut fastrand::Rng::with_seed(1), 1).await;
        shardstore_reactor::Executor::spawn(&world.executor(), process.store().clone().run_background());
        check_all(&process, &stored).await;
        world.executor().sleep(Duration::from_secs(5)).await;
        assert!(process.shared.stats().pages_mended > 0);
        process.store().scrub_now().await.unwrap();
        assert_eq!(all_whole(&world, &process, &stored).await, pages);
        process.shared.stop();
    });
}

#[test]
fn more_bad_pages_than_parity_mends_are_reported_and_not_touched() {
    let world = four_two(12, 6);
    world.sim.block_on(async {
        let process = world.start(1).await;
        let stored = process.put(7, 200_000).await.unwrap();
        process.store().seal_open().await;
        for drive in &world.drives[..3] {
            flip_some(drive, &mut fastrand::Rng::with_seed(2), 1).await;
        }
        let writes: u64 = world.drives.iter().map(|drive| drive.counts().1).sum();
        process.store().scrub_now().await.unwrap();
        let stats = process.shared.stats();
        assert!(stats.stripes_lost > 0, "{stats:?}");
        assert_eq!(stats.pages_mended, 0);
        assert_eq!(world.drives.iter().map(|drive| drive.counts().1).sum::<u64>(), writes);
        let process = world.start(1).await;
        assert!(process.get(&stored).await.is_err());
    });
}

#[test]
fn a_lost_drive_is_rebuilt_onto_a_spare_one_and_reads_rebuild_nothing_then() {
    for seed in 0..4 {
        let world = four_two(seed, 7);
        world.sim.block_on(async {
            let process = world.start(1).await;
            let stored = put_all(&process, 0..27).await;
            let gone = id_of(&process, "/d2");
            let held = process.shared.shards_on(gone);
            world.drives[2].vanish();
            process.shared.drive_went(gone);
            // What was open lies on the lost drive: it is sealed, also without another put.
            process.store().seal_open().await;
            let report = process.store().repair_now().await;
            assert_eq!(report, RepairReport { repaired: held, waiting: 0, lost: 0 }, "seed={seed}");
            assert_eq!(process.shared.shards_on(gone), 0);
            all_whole(&world, &process, &stored).await;
            check_all(&process, &stored).await;
            let process = world.start(1).await;
            check_all(&process, &stored).await;
            // A slow read now and then is hedged.
            assert!(process.shared.stats().pages_rebuilt < 5, "seed={seed}");
        });
    }
}

/// Two shards of a volume were made at once on the same, freest drive. Metadata refused the second for data; for a
/// metadata run it did not, and a manifest that names a drive twice for a run is refused at the next start.
#[test]
fn two_shards_that_are_made_at_once_come_to_lie_on_two_drives() {
    for seed in 0..4 {
        let world = four_two(seed, 9);
        world.sim.block_on(async {
            let process = world.start(1).await;
            let stored = put_all(&process, 0..27).await;
            let mut held = 0;
            for (label, drive) in [("/d2", 2), ("/d5", 5)] {
                let gone = id_of(&process, label);
                held += process.shared.shards_on(gone);
                world.drives[drive].vanish();
                process.shared.drive_went(gone);
            }
            process.store().seal_open().await;
            let report = process.store().repair_now().await;
            assert_eq!(report, RepairReport { repaired: held, waiting: 0, lost: 0 }, "seed={seed}");
            all_whole(&world, &process, &stored).await;
            check_all(&process, &stored).await;
        });
    }
}

#[test]
fn without_a_spare_drive_repair_waits_says_why_and_goes_on_when_one_joins() {
    let world = four_two(21, 6);
    let spare = world.sim.drive("/d6", 1 << 30);
    world.sim.block_on(async {
        let process = world.start(1).await;
        let stored = put_all(&process, 0..9).await;
        let gone = id_of(&process, "/d5");
        world.drives[5].vanish();
        process.shared.drive_went(gone);
        process.store().seal_open().await;
        let report = process.store().repair_now().await;
        assert_eq!((report.repaired, report.lost), (0, 0));
        assert!(report.waiting > 0);
        let status = process.shared.repair_status();
        assert!(status.waits_for.contains("add or replace a drive"), "{status:?}");
        process.shared.drive_joined(DriveId(99), "/d6");
        process.store().media().set_drive(DriveId(99), spare.clone());
        let report = process.store().repair_now().await;
        assert_eq!((report.repaired, report.waiting), (process.shared.shards_on(DriveId(99)), 0));
        assert_eq!(process.shared.shards_on(gone), 0);
        assert_eq!(process.shared.repair_status().shards_left, 0);
        check_all(&process, &stored).await;
    });
}

#[test]
fn a_missing_drive_is_waited_for_and_a_failed_one_is_not() {
    let world = four_two(22, 8);
    world.sim.block_on(async {
        let process = world.start(1).await;
        put_all(&process, 0..9).await;
        let clock = world.executor();
        shardstore_reactor::Executor::spawn(&clock, process.store().clone().run_background());
        let (missing, failed) = (id_of(&process, "/d0"), id_of(&process, "/d1"));
        process.shared.drive_went(missing);
        world.drives[1].fail_writes(1);
        for round in 1..20 {
            put_all(&process, round * 9..round * 9 + 9).await;
            process.store().seal_open().await;
        }
        clock.sleep(Duration::from_secs(60)).await;
        assert_eq!(process.shared.drives()[1].state, DriveState::Failed);
        assert_eq!(process.shared.shards_on(failed), 0);
        assert!(process.shared.shards_on(missing) > 0, "it may come back");
        clock.sleep(Duration::from_secs(15 * 60)).await;
        assert_eq!(process.shared.shards_on(missing), 0);
        process.shared.stop();
    });
}

#[test]
fn a_drained_drive_is_emptied_by_copying_what_verifies_metadata_runs_too() {
    let world = four_two(23, 7);
    world.sim.block_on(async {
        let process = world.start(1).await;
        let stored = put_all(&process, 0..18).await;
        let media = process.store().media();
        let id = process.catalog.allocate_volume_ids(1).await.unwrap();
        let mut writer = media.create_run(id).await.unwrap();
        let rows = Bytes::from(common::content(5, 700_000));
        writer.append(rows.clone()).await.unwrap();
        let (record, len) = writer.finish().await.unwrap();
        world.rows.borrow_mut().runs.push(record.clone());
        assert_eq!(record.class, VolumeClass::Run);
        let label = process
            .shared
            .drives()
            .iter()
            .find(|drive| drive.id == record.segments[1])
            .unwrap()
            .label
            .clone();
        let index: usize = label[2..].parse().unwrap();
        let drained = record.segments[1];
        process.store().seal_open().await;
        flip_some(&world.drives[index], &mut fastrand::Rng::with_seed(3), 40).await;
        process.shared.set_draining(drained, true);
        let held = process.shared.shards_on(drained);
        let report = process.store().repair_now().await;
        assert_eq!(report, RepairReport { repaired: held, waiting: 0, lost: 0 });
        assert_eq!(process.shared.shards_on(drained), 0);
        assert!(segments(&world.drives[index]).await.is_empty(), "its files are gone");
        assert!(!world.rows.borrow().runs[0].segments.contains(&drained), "the manifest would say so");
        all_whole(&world, &process, &stored).await;
        check_all(&process, &stored).await;
        assert!(media.read_run(&record, len, 0, rows.len()).await.unwrap() == rows);
    });
}

/// Moves a file from one drive to another.
async fn carry(from: &SimDrive, to: &SimDrive, path: &str) {
    let file = from.open(path, OpenMode::Read).await.unwrap();
    let len = file.len_bytes().await.unwrap();
    let (read, buf) = file.read_at(0, AlignedBuf::zeroed(usize::try_from(len).unwrap())).await;
    read.unwrap();
    let copy = to.open(path, OpenMode::CreateNew).await.unwrap();
    copy.allocate(0, len).await.unwrap();
    copy.write_durable(0, vec![buf]).await.result.unwrap();
    copy.sync().await.unwrap();
    to.sync_dir("segments").await.unwrap();
    from.remove(path).await.unwrap();
    from.sync_dir("segments").await.unwrap();
}

/// What the story above left behind: it is read, and one of the two shards moves.
#[test]
fn a_metadata_run_with_two_shards_on_one_drive_is_spread_again_after_a_start() {
    let world = four_two(24, 7);
    world.sim.block_on(async {
        let process = world.start(1).await;
        let id = process.catalog.allocate_volume_ids(1).await.unwrap();
        let mut writer = process.store().media().create_run(id).await.unwrap();
        let rows = Bytes::from(common::content(5, 700_000));
        writer.append(rows.clone()).await.unwrap();
        let (mut record, len) = writer.finish().await.unwrap();
        let drives = process.shared.drives();
        let index_of = |id| -> usize {
            let label = &drives.iter().find(|drive| drive.id == id).unwrap().label;
            label[2..].parse().unwrap()
        };
        let (stays, leaves) = (index_of(record.segments[1]), index_of(record.segments[4]));
        let files = segments(&world.drives[leaves]).await;
        carry(&world.drives[leaves], &world.drives[stays], &files[0]).await;
        record.segments[4] = record.segments[1];
        world.rows.borrow_mut().runs.push(record.clone());

        let process = world.start(1).await;
        assert_eq!(segments(&world.drives[stays]).await.len(), 2, "no start takes either for nobody's");
        let media = process.store().media();
        assert!(media.read_run(&record, len, 0, rows.len()).await.unwrap() == rows);
        let report = process.store().repair_now().await;
        assert_eq!(report, RepairReport { repaired: 1, waiting: 0, lost: 0 });
        let spread = world.rows.borrow().runs[0].clone();
        assert!(spread.doubled_shards().is_empty());
        assert_eq!(segments(&world.drives[stays]).await.len(), 1);
        assert_eq!(process.store().repair_now().await, RepairReport::default());
        assert!(media.read_run(&spread, len, 0, rows.len()).await.unwrap() == rows);
    });
}

/// Seed 1568 of the whole-system simulation: the next volume of a lane, prepared ahead, was sealed only when something
/// was appended, so a drive that held a shard of it could not leave an idle pool.
#[test]
fn a_volume_prepared_ahead_keeps_no_drive_from_leaving() {
    let mut world = four_two(28, 8);
    world.segment_bytes = 4 << 20;
    world.sim.block_on(async {
        let process = world.start(1).await;
        let clock = world.executor();
        shardstore_reactor::Executor::spawn(&clock, process.store().clone().run_background());
        // Past three quarters of a volume of 16 MiB, and then nothing more.
        for seed in 0..5 {
            process.put(seed, 2_900_000).await.unwrap();
        }
        clock.sleep(Duration::from_secs(5)).await;
        assert_eq!(process.catalog.open_volumes(), 2, "one in use and the next");
        for index in 0..2 {
            process.shared.set_draining(id_of(&process, &format!("/d{index}")), true);
        }
        clock.sleep(Duration::from_secs(60)).await;
        for index in 0..2 {
            assert_eq!(process.shared.shards_on(id_of(&process, &format!("/d{index}"))), 0);
        }
        process.shared.stop();
    });
}

#[test]
fn a_segment_that_vanished_or_was_cut_is_found_by_scrub_and_made_anew() {
    let world = four_two(24, 6);
    world.sim.block_on(async {
        let process = world.start(1).await;
        let stored = put_all(&process, 0..18).await;
        process.store().seal_open().await;
        let process = world.start(1).await;
        let pages = all_whole(&world, &process, &stored).await;
        let (first, second) = (&world.drives[0], &world.drives[3]);
        let path = segments(first).await.swap_remove(0);
        first.remove(&path).await.unwrap();
        let path = segments(second).await.pop().unwrap();
        second.open(&path, OpenMode::ReadWrite).await.unwrap().set_len(4096).await.unwrap();
        process.store().scrub_now().await.unwrap();
        let report = process.store().repair_now().await;
        assert_eq!((report.repaired, report.waiting, report.lost), (1, 0, 0));
        assert_eq!(all_whole(&world, &process, &stored).await, pages);
    });
}

/// Seed 23 of the whole-system simulation: a drive refused some reads, its shard was made anew in place, and every core
/// went on reading the old file, which was gone: all its pages counted as bad, were rebuilt for each reader, and could
/// not be mended until the next start.
#[test]
fn a_shard_made_anew_in_place_is_read_from_its_new_file_on_every_core() {
    let world = four_two(25, 6);
    world.sim.block_on(async {
        let process = world.start(2).await;
        put_all(&process, 0..9).await;
        process.store().seal_open().await;
        let process = world.start(2).await;
        let bad_stripes = async |core: usize| {
            let media = process.cores[core].media();
            let mut bad = 0;
            for (volume, _, _) in media.known_volumes() {
                bad += media.survey_volume(volume, &media.survey_pace()).await.unwrap().bad.len();
            }
            bad
        };
        assert_eq!((bad_stripes(0).await, bad_stripes(1).await), (0, 0), "both cores opened every file");
        world.drives[2].fail_reads(1_000);
        process.store().scrub_now().await.unwrap();
        world.drives[2].fail_reads(0);
        assert!(process.store().repair_now().await.repaired > 0);
        assert_eq!((bad_stripes(0).await, bad_stripes(1).await), (0, 0));
    });
}

/// Seed 459 of the whole-system simulation: with other drives away, a drive refused some reads. Repair removed that
/// drive's file, which was whole, before it knew that it could make another, and could not.
#[test]
fn a_repair_in_place_that_cannot_succeed_leaves_the_file_that_is_there() {
    let world = four_two(26, 6);
    world.sim.block_on(async {
        let process = world.start(1).await;
        let stored = put_all(&process, 0..9).await;
        process.store().seal_open().await;
        let process = world.start(1).await;
        for drive in [&world.drives[0], &world.drives[1]] {
            drive.vanish();
        }
        world.drives[2].fail_reads(1_000);
        process.store().scrub_now().await.unwrap();
        world.drives[2].fail_reads(3);
        process.store().repair_now().await;
        world.drives[2].fail_reads(0);
        check_all(&process, &stored).await;
        let left = segments(&world.drives[2]).await;
        assert!(left.iter().all(|path| !path.ends_with(".new")), "{left:?}");
    });
}

#[test]
fn what_a_repair_in_place_left_unfinished_goes_at_the_next_start() {
    let world = four_two(27, 6);
    world.sim.block_on(async {
        let process = world.start(1).await;
        let stored = put_all(&process, 0..9).await;
        process.store().seal_open().await;
        let drive = &world.drives[2];
        let before = segments(drive).await;
        let unfinished = format!("{}.new", before[0]);
        drop(drive.open(&unfinished, OpenMode::CreateNew).await.unwrap());
        let process = world.start(1).await;
        assert_eq!(segments(drive).await, before);
        all_whole(&world, &process, &stored).await;
    });
}

#[test]
fn a_crash_at_any_moment_of_repair_leaves_every_byte_and_no_stray_file() {
    for seed in 0..30 {
        let mut world = four_two(seed, 7);
        let process = world.sim.block_on(world.start(1));
        let stored = world.sim.block_on(async {
            let stored = put_all(&process, 0..12).await;
            process.store().seal_open().await;
            stored
        });
        let gone = id_of(&process, "/d1");
        process.shared.drive_went(gone);
        let polls = 20 + seed * 40;
        world.sim.run(process.store().repair_now(), polls);
        drop(process);
        if seed % 2 == 0 {
            world.crash()
        } else {
            world.kill()
        }
        world.sim.block_on(async {
            let process = world.start(1).await;
            check_all(&process, &stored).await;
            process.shared.set_draining(gone, true);
            let report = process.store().repair_now().await;
            assert_eq!((report.waiting, report.lost), (0, 0), "seed={seed}");
            assert_eq!(process.shared.shards_on(gone), 0, "seed={seed}");
            all_whole(&world, &process, &stored).await;
            let mut files = 0;
            for drive in &world.drives {
                files += segments(drive).await.len();
            }
            let named: usize = records(&process).await.iter().map(|record| record.segments.len()).sum();
            assert_eq!(files, named, "seed={seed}");
        });
    }
}

#[test]
fn faults_inside_repair_cost_time_and_nothing_else() {
    for seed in 0..20 {
        let world = four_two(100 + seed, 8);
        world.sim.block_on(async {
            let process = world.start(1).await;
            let stored = put_all(&process, 0..12).await;
            process.store().seal_open().await;
            let gone = id_of(&process, "/d0");
            process.shared.drive_went(gone);
            let victim = &world.drives[1 + seed as usize % 7];
            match seed % 4 {
                0 => victim.fail_reads(5),
                1 => victim.fail_writes(1),
                2 => {
                    flip_some(victim, &mut fastrand::Rng::with_seed(seed), 5).await;
                }
                _ => victim.slow_by(50),
            }
            process.catalog.refuse_some(300);
            for _ in 0..4 {
                process.store().repair_now().await;
            }
            victim.fail_reads(0);
            process.catalog.refuse_some(0);
            process.store().repair_now().await;
            assert_eq!(process.shared.shards_on(gone), 0, "seed={seed}");
            process.store().scrub_now().await.unwrap();
            process.store().repair_now().await;
            check_all(&process, &stored).await;
            let states = process.shared.drives();
            if states.iter().all(|drive| drive.state != DriveState::Failed) {
                all_whole(&world, &process, &stored).await;
            }
        });
    }
}

#[test]
fn a_scrub_goes_on_after_a_restart_and_can_be_paused() {
    let mut world = four_two(31, 6);
    let stored = world.sim.block_on(async {
        let process = world.start(1).await;
        let mut stored = Vec::new();
        for round in 0..4 {
            stored.extend(put_all(&process, round * 9..round * 9 + 9).await);
            process.store().seal_open().await;
        }
        shardstore_reactor::Executor::spawn(&world.executor(), process.store().clone().run_background());
        process.shared.start_scrub();
        world.executor().sleep(Duration::from_millis(1_200)).await;
        let status = process.shared.scrub_status();
        assert_eq!(status.phase, ScrubPhase::Running);
        assert!(status.volumes.0 < status.volumes.1, "{status:?}");
        process.shared.pause_scrub();
        world.executor().sleep(Duration::from_secs(30)).await;
        let paused = process.shared.stats().scrubbed_bytes;
        world.executor().sleep(Duration::from_secs(60)).await;
        assert_eq!(process.shared.stats().scrubbed_bytes, paused);
        assert_eq!(process.shared.scrub_status().last_full_ms, 0);
        stored
    });
    world.kill();
    world.sim.block_on(async {
        let process = world.start(1).await;
        shardstore_reactor::Executor::spawn(&world.executor(), process.store().clone().run_background());
        world.executor().sleep(Duration::from_secs(120)).await;
        assert!(process.shared.scrub_status().is_paused, "the operator's word outlives the process");
        assert_eq!(process.shared.scrub_status().last_full_ms, 0);
        process.shared.start_scrub();
        world.executor().sleep(Duration::from_secs(120)).await;
        assert!(!process.shared.scrub_status().is_paused);
        assert!(process.shared.scrub_status().last_full_ms > 0);
        let whole_pass = records(&process).await.len();
        assert!(whole_pass >= 4);
        check_all(&process, &stored).await;
        process.shared.stop();
    });
}
