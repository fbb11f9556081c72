//! What breaks on drives, and what readers and writers see of it: one named case each.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Process, Stored, World, content};
use shardstore::{Catalog, DriveState, PutError, ReadError, RecoverError};
use shardstore_format::{Profile, VolumeId, VolumeState};
use shardstore_reactor::{AlignedBuf, Clock, Drive, DriveFile, FenceReason, OpenMode};
use shardstore_sim::SimDrive;

fn four_two(seed: u64) -> World {
    World::new(seed, 6, Some(Profile { k: 4, m: 2 }))
}

async fn segments(drive: &SimDrive) -> Vec<String> {
    let mut names = drive.list("segments").await.unwrap();
    names.sort();
    names.into_iter().map(|name| format!("segments/{name}")).collect()
}

/// Reads on a core whose cache is empty: a new process on the same drives.
async fn check_cold(world: &World, stored: &[Stored]) -> Process {
    let process = world.start(1).await;
    for stored in stored {
        process.check(stored).await;
    }
    process
}

#[test]
fn every_page_of_two_drives_flipped_is_mended_while_it_is_read() {
    let world = four_two(1);
    world.sim.block_on(async {
        let process = world.start(1).await;
        let mut stored = Vec::new();
        for (seed, len) in (0..).zip([500, 5_000, 60_000, 400_000, 1_048_576, 5_000_000]) {
            stored.push(process.put(seed, len).await.unwrap());
        }
        process.store().seal_open().await;
        for drive in &world.drives[1..3] {
            for path in segments(drive).await {
                let file = drive.open(&path, OpenMode::Read).await.unwrap();
                let len = file.len_bytes().await.unwrap();
                for sector in 0..len / 4096 {
                    assert!(drive.corrupt(&path, sector * 4096 + 77));
                }
            }
        }
        let process = check_cold(&world, &stored).await;
        let stats = process.shared.stats();
        assert!(stats.pages_rebuilt > 0, "{stats:?}");
        assert!(stats.pages_corrupt > 0, "{stats:?}");
    });
}

#[test]
fn short_stripes_rebuild_with_any_two_drives_gone() {
    let mut world = four_two(2);
    let stored = world.sim.block_on(async {
        let process = world.start(1).await;
        let mut stored = Vec::new();
        for (seed, len) in (0..).zip([1, 4032, 4096, 20_000, 65_536, 150_000, 1_050_000]) {
            stored.push(process.put(seed, len).await.unwrap());
        }
        process.store().seal_open().await;
        stored
    });
    world.crash();
    for first in 0..6 {
        for second in first + 1..6 {
            let gone = [&world.drives[first], &world.drives[second]];
            gone.iter().for_each(|drive| drive.vanish());
            let process = world.sim.block_on(check_cold(&world, &stored));
            // A page that a short stripe never had is not a damaged one.
            assert_eq!(process.shared.stats().pages_corrupt, 0, "drives {first} and {second}");
            gone.iter().for_each(|drive| drive.come_back());
        }
    }
}

#[test]
fn a_torn_a_stale_and_a_misdirected_page_are_each_noticed_and_rebuilt() {
    let world = four_two(3);
    world.sim.block_on(async {
        let process = world.start(1).await;
        let old = process.put(1, 3_000_000).await.unwrap();
        process.store().seal_open().await;
        let new = process.put(2, 3_000_000).await.unwrap();
        process.store().seal_open().await;
        let (from, to) = (old.extents[0].0.volume, new.extents[0].0.volume);
        assert_ne!(from, to);
        let drive = &world.drives[0];
        let names = segments(drive).await;
        let file_of = async |volume: VolumeId| {
            let prefix = format!("segments/{:016x}", volume.0);
            let path = names.iter().find(|name| name.starts_with(&prefix)).unwrap();
            drive.open(path, OpenMode::ReadWrite).await.unwrap()
        };
        let (source, target) = (file_of(from).await, file_of(to).await);
        let read = async |offset| {
            let (result, buf) = source.read_at(offset, AlignedBuf::zeroed(65_536)).await;
            result.unwrap();
            buf
        };
        // Stale: a valid page of another volume at the same place.
        target.write_durable(0, vec![read(0).await]).await.result.unwrap();
        // Misdirected: a valid page of the same volume at another place.
        let (result, own) = target.read_at(65_536, AlignedBuf::zeroed(65_536)).await;
        result.unwrap();
        target.write_durable(2 * 65_536, vec![own]).await.result.unwrap();
        // Torn: half of it from before.
        target.write_durable(65_536, vec![AlignedBuf::zeroed(32_768)]).await.result.unwrap();
        let process = check_cold(&world, &[old, new]).await;
        assert!(process.shared.stats().pages_corrupt >= 2);
    });
}

#[test]
fn more_shards_lost_than_parity_mends_is_an_error_and_never_wrong_bytes() {
    let world = four_two(4);
    world.sim.block_on(async {
        let process = world.start(1).await;
        let stored = process.put(1, 1_500_000).await.unwrap();
        process.store().seal_open().await;
        for drive in &world.drives[..3] {
            for path in segments(drive).await {
                assert!(drive.corrupt(&path, 4096));
            }
        }
        let process = world.start(1).await;
        let volume = stored.extents[0].0.volume;
        match process.get(&stored).await {
            Err(ReadError::Lost { volume: lost, .. }) => assert_eq!(lost, volume),
            other => panic!("{:?}", other.map(|bytes| bytes.len())),
        }
    });
}

#[test]
fn a_drive_lost_in_mid_append_loses_nothing() {
    for seed in 0..20 {
        let mut world = four_two(seed);
        let stored = world.sim.block_on(async {
            let process = world.start(1).await;
            let mut rng = fastrand::Rng::with_seed(seed);
            let (sender, receiver) = futures_channel::mpsc::unbounded();
            for object in 0..24 {
                let (process, sender) = (process.clone(), sender.clone());
                let len = if object % 3 == 0 { rng.u64(1_048_576..6_000_000) } else { rng.u64(1..200_000) };
                let start = Duration::from_micros(rng.u64(0..30_000));
                let task = async move {
                    process.store().media().shared();
                    sleep(&process, start).await;
                    let stored = process.put(object, len).await.unwrap();
                    process.check(&stored).await;
                    sender.unbounded_send(stored).unwrap();
                };
                shardstore_reactor::Executor::spawn(&world.executor(), task);
            }
            drop(sender);
            for drive in world.drives.iter().take(1 + (seed as usize % 2)) {
                sleep(&process, Duration::from_micros(rng.u64(0..20_000))).await;
                match seed % 3 {
                    0 => drive.fail_writes(1),
                    1 => drive.vanish(),
                    _ => drive.hang(),
                }
            }
            let stored: Vec<Stored> = futures_util::StreamExt::collect(receiver).await;
            assert_eq!(stored.len(), 24, "every put was acknowledged");
            for stored in &stored {
                process.check(stored).await;
            }
            stored
        });
        world.drives.iter().for_each(|drive| {
            drive.come_back();
            drive.resume();
        });
        world.crash();
        world.sim.block_on(check_cold(&world, &stored));
    }
}

#[test]
fn what_is_acknowledged_is_whole_on_every_shard_also_when_a_write_failed() {
    for seed in 0..12 {
        let mut world = four_two(seed);
        let stored = world.sim.block_on(async {
            let process = world.start(1).await;
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut stored = Vec::new();
            for round in 0..3 {
                let lens: Vec<u64> =
                    (0..12).map(|_| [700, 5_000, 90_000, 1_300_000][rng.usize(..4)]).collect();
                let puts = (0..).zip(lens).map(|(put, len)| process.put(round * 100 + put, len));
                let breaking = async {
                    sleep(&process, Duration::from_micros(rng.u64(..3_000))).await;
                    // The write is refused, what the drive held before it stays.
                    world.drives[round as usize].fail_writes(u32::from(round > 0));
                };
                let (puts, ()) =
                    futures_util::future::join(futures_util::future::join_all(puts), breaking).await;
                stored.extend(puts.into_iter().map(Result::unwrap));
            }
            stored
        });
        world.kill();
        world.sim.block_on(async {
            let process = world.start(1).await;
            let pool = world.open_pool().await.unwrap();
            let pages = common::census::census(&pool, &process.catalog.records(), &stored).await;
            assert!(pages > 100, "{pages} pages of {} objects", stored.len());
        });
    }
}

async fn sleep(process: &Process, time: Duration) {
    process.catalog.executor().sleep(time).await;
}

#[test]
fn below_k_healthy_drives_new_volumes_shrink_and_below_m_plus_one_puts_are_refused() {
    let world = four_two(6);
    world.sim.block_on(async {
        let process = world.start(1).await;
        for gone in 0..4 {
            let stored = process.put(gone, 2_000_000).await.unwrap();
            process.check(&stored).await;
            let volume = stored.extents[0].0.volume;
            let record = process.catalog.volume(volume).await.unwrap().unwrap();
            assert_eq!(record.profile, Profile { k: 4.min(4 - gone as u8), m: 2 });
            world.drives[gone as usize].fence(FenceReason::Asked);
        }
        let refused = process.put(9, 10).await.unwrap_err();
        assert_eq!(refused, PutError::TooFewDrives { healthy: 2, needed: 3 });
    });
}

#[test]
fn a_full_drive_refuses_puts_fences_nothing_and_deletes_make_room() {
    let world = World::new(7, 2, Some(Profile { k: 1, m: 1 }));
    world.drives[0].set_capacity(64 << 20);
    world.sim.block_on(async {
        let process = world.start(1).await;
        let mut stored = Vec::new();
        let error = loop {
            match process.put(stored.len() as u64, 3_000_000).await {
                Ok(one) => stored.push(one),
                Err(error) => break error,
            }
            assert!(stored.len() < 100, "64 MiB hold fewer");
        };
        assert_eq!(error, PutError::NoSpace);
        assert!(stored.len() >= 15, "{} of about 18 fit below the reserve", stored.len());
        let space = world.drives[0].space().await.unwrap();
        assert!(space.free_bytes >= shardstore::reserve_bytes(space.total_bytes), "{space:?}");
        for drive in &world.drives {
            assert_eq!(drive.fenced(), None);
        }
        for one in stored.drain(..10) {
            process.check(&one).await;
            process.catalog.delete(one.data_id).await;
        }
        process.store().sweep_now().await.unwrap();
        process.store().reclaim_now().await.unwrap();
        stored.push(process.put(99, 3_000_000).await.unwrap());
        for one in &stored {
            process.check(one).await;
        }
    });
}

#[test]
fn after_deleting_everything_the_drives_hold_no_more_than_two_percent() {
    let mut world = four_two(8);
    let process = world.sim.block_on(async {
        let process = world.start(2).await;
        let mut stored = Vec::new();
        for object in 0..60u64 {
            let len = [700, 9_000, 100_000, 2_500_000][(object % 4) as usize];
            let put = process.put_on((object % 2) as usize, object, len, Some(len), 65_536).await;
            stored.push(put.unwrap());
        }
        process.shared.stats();
        (process, stored)
    });
    let (process, stored) = process;
    let full = world.used_bytes();
    world.sim.block_on(async {
        for one in &stored {
            process.catalog.delete(one.data_id).await;
        }
        let report = process.store().sweep_now().await.unwrap();
        assert_eq!((report.swept, report.held), (60, 0));
        process.store().reclaim_now().await.unwrap();
        // Open volumes with dead bytes are sealed after ten idle minutes, and dropped.
        for core in &process.cores {
            shardstore_reactor::Executor::spawn(&world.executor(), core.clone().run_background());
        }
        world.executor().sleep(Duration::from_secs(660)).await;
        process.shared.stop();
    });
    let left = world.used_bytes();
    assert!(left * 50 <= full, "{left} of {full} bytes are left");
    assert_eq!(process.catalog.volume_count(), 0);
    world.crash();
    world.sim.block_on(world.start(1));
}

#[test]
fn a_held_object_is_read_to_its_end_though_it_was_deleted() {
    let world = four_two(9);
    world.sim.block_on(async {
        let process = world.start(2).await;
        let stored = process.put(1, 6_000_000).await.unwrap();
        let small = process.put(2, 3_000).await.unwrap();
        let epoch = process.cores[1].enter_epoch();
        let hold = process.cores[1].hold(stored.data_id);
        drop(epoch);
        process.store().seal_open().await;
        let mut reader = process.cores[1].open_read(stored.extents.clone(), 0..stored.len);
        let mut got = Vec::new();
        for part in reader.next().await.unwrap().unwrap() {
            got.extend_from_slice(&part);
        }
        process.catalog.delete(stored.data_id).await;
        process.catalog.delete(small.data_id).await;
        let report = process.store().sweep_now().await.unwrap();
        assert_eq!((report.swept, report.held), (1, 1));
        assert_eq!(process.store().reclaim_now().await.unwrap(), 1);
        while let Some(parts) = reader.next().await {
            parts.unwrap().iter().for_each(|part| got.extend_from_slice(part));
        }
        assert!(got == content(1, 6_000_000));
        drop((reader, hold));
        assert_eq!(process.store().sweep_now().await.unwrap().swept, 1);
        assert_eq!(process.store().reclaim_now().await.unwrap(), 1);
        let gone = process.get(&stored).await.map(|bytes| bytes.len());
        assert!(matches!(gone, Err(ReadError::Stale(_)) | Ok(_)), "{gone:?}");
    });
}

#[test]
fn the_sweeper_waits_for_a_core_that_is_still_in_the_epoch_of_the_delete() {
    let world = four_two(10);
    world.sim.block_on(async {
        let process = world.start(2).await;
        let stored = process.put(1, 3_000).await.unwrap();
        let epoch = process.cores[1].enter_epoch();
        process.catalog.delete(stored.data_id).await;
        let sweeping = std::cell::Cell::new(true);
        let sweep = async {
            let report = process.store().sweep_now().await.unwrap();
            sweeping.set(false);
            report
        };
        let reader = async {
            world.executor().sleep(Duration::from_secs(3)).await;
            assert!(sweeping.get(), "the reader's core is still in its epoch");
            let hold = process.cores[1].hold(stored.data_id);
            drop(epoch);
            hold
        };
        let (report, hold) = futures_util::future::join(sweep, reader).await;
        assert_eq!((report.swept, report.held), (0, 1));
        process.check(&stored).await;
        drop(hold);
        assert_eq!(process.store().sweep_now().await.unwrap().swept, 1);
    });
}

#[test]
fn a_volume_with_uncommitted_extents_is_not_reclaimed() {
    let world = four_two(11);
    world.sim.block_on(async {
        let process = world.start(1).await;
        let mut writer = process.store().put(Some(10)).unwrap();
        writer.write(b"0123456789").await.unwrap();
        let evidence = writer.finish().await.unwrap();
        process.store().seal_open().await;
        assert_eq!(process.store().reclaim_now().await.unwrap(), 0);
        drop(evidence);
        assert_eq!(process.store().reclaim_now().await.unwrap(), 1);
    });
}

#[test]
fn after_a_crash_open_volumes_are_sealed_at_their_last_owner_and_orphans_are_freed() {
    let mut world = four_two(12);
    let stored = world.sim.block_on(async {
        let process = world.start(1).await;
        let stored = process.put(1, 30_000).await.unwrap();
        let mut writer = process.store().put(Some(2_000_000)).unwrap();
        writer.write(&content(5, 2_000_000)).await.unwrap();
        // Durable and never committed: an orphan.
        drop(writer.finish().await.unwrap());
        let stray = world.drives[2].open("segments/0000000000000000.05", OpenMode::CreateNew).await.unwrap();
        stray.sync().await.unwrap();
        world.drives[2].sync_dir("segments").await.unwrap();
        stored
    });
    world.crash();
    world.sim.block_on(async {
        let process = check_cold(&world, std::slice::from_ref(&stored)).await;
        for record in process.catalog.records() {
            let VolumeState::Sealed { end_sector } = record.state else { panic!("{record:?}") };
            let is_owners = record.id == stored.extents[0].0.volume;
            assert_eq!(end_sector > 0, is_owners);
        }
        assert!(!segments(&world.drives[2]).await.contains(&"segments/0000000000000000.05".into()));
        assert_eq!(process.store().reclaim_now().await.unwrap(), 1);
    });
}

#[test]
fn a_segment_beyond_the_volume_counter_means_that_metadata_went_back() {
    let world = four_two(13);
    world.sim.block_on(async {
        let process = world.start(1).await;
        let stored = process.put(1, 30_000).await.unwrap();
        let volume = stored.extents[0].0.volume;
        process.catalog.forget_record(volume);
        process.catalog.set_next_volume(volume.0);
        let error = world.try_start(1).await.err().unwrap();
        assert!(matches!(error, RecoverError::MetadataWentBack { .. }), "{error}");
        assert!(error.to_string().contains("metadata went back"));
        assert!(!segments(&world.drives[0]).await.is_empty(), "nothing was removed");
    });
}

#[test]
fn metadata_runs_read_back_degraded_and_go_when_removed() {
    let world = four_two(14);
    world.sim.block_on(async {
        let process = world.start(1).await;
        let media = process.store().media();
        let all = content(3, 5_000_123);
        let volume = process.catalog.allocate_volume_ids(1).await.unwrap();
        let mut writer = media.create_run(volume).await.unwrap();
        for part in all.chunks(16_000) {
            writer.append(Bytes::copy_from_slice(part)).await.unwrap();
        }
        let (record, len) = writer.finish().await.unwrap();
        assert_eq!(len, all.len() as u64);
        world.drives[0].fence(FenceReason::Asked);
        world.drives[3].vanish();
        for (offset, len) in
            [(0, 16_000), (65_472, 65_472), (60_000, 300_000), (5_000_122, 1), (0, 5_000_123)]
        {
            let got = media.read_run(&record, len_u64(all.len()), offset, len).await.unwrap();
            assert!(got == all[offset as usize..offset as usize + len], "{offset} {len}");
        }
        world.drives[3].come_back();
        let abandoned = process.catalog.allocate_volume_ids(1).await.unwrap();
        let mut writer = media.create_run(abandoned).await.unwrap();
        writer.append(Bytes::from(vec![1; 3_000_000])).await.unwrap();
        drop(writer);
        media.remove_run(&record).await.unwrap();
        world.executor().sleep(Duration::from_secs(1)).await;
        for drive in &world.drives[1..] {
            assert_eq!(segments(drive).await, Vec::<String>::new());
        }
    });
}

fn len_u64(len: usize) -> u64 {
    len as u64
}

#[test]
fn small_objects_of_many_clients_share_flushes_and_stripes() {
    let world = four_two(15);
    world.sim.block_on(async {
        let process = world.start(1).await;
        let puts = (0..64u64).map(|object| process.put(object, 4096));
        let stored: Vec<Stored> =
            futures_util::future::join_all(puts).await.into_iter().map(Result::unwrap).collect();
        let stats = process.shared.stats();
        assert_eq!(stats.packed_extents, 64);
        assert!(stats.flushes <= 8, "{} flushes for 64 objects at once", stats.flushes);
        let before = process.shared.stats().pages_read;
        for stored in &stored {
            process.check(stored).await;
            process.check(stored).await;
        }
        let reads = process.shared.stats().pages_read - before;
        assert!(reads <= 3 * 64, "{reads} reads: only their own sectors, and once");
    });
}

#[test]
fn a_page_that_many_connections_want_is_read_once_and_held_once() {
    let world = four_two(16);
    world.sim.block_on(async {
        let process = world.start(1).await;
        let stored = process.put(1, 200_000).await.unwrap();
        let before = process.shared.stats().pages_read;
        let reads = futures_util::future::join_all((0..64).map(|_| process.get(&stored))).await;
        assert!(reads.into_iter().all(|read| read.unwrap() == content(1, 200_000)));
        assert!(process.shared.stats().pages_read - before <= 4);
    });
}

#[test]
fn a_drive_that_turns_slow_is_read_around_after_its_own_recent_percentile() {
    let world = four_two(31);
    world.sim.block_on(async {
        let process = world.start(1).await;
        let mut stored = Vec::new();
        for seed in 0..40 {
            stored.push(process.put(seed, 1_000_000).await.unwrap());
        }
        process.store().seal_open().await;
        // A new process, whose cache is empty, learns what is usual.
        let process = world.start(1).await;
        for stored in &stored[..30] {
            process.check(stored).await;
        }
        let rebuilt = process.shared.stats().pages_rebuilt;
        world.drives[2].slow_by(10_000);
        let clock = world.executor();
        let begin = clock.now();
        for stored in &stored[30..] {
            process.check(stored).await;
        }
        let took = clock.now().since(begin);
        assert!(process.shared.stats().pages_rebuilt > rebuilt);
        // Its reads take a second or more now; each object waits a few milliseconds for them and goes on.
        assert!(took < Duration::from_millis(10 * 20), "{took:?} for ten objects");
    });
}

/// Puts objects that lie cold on every drive, and starts a process that has opened none of their files.
async fn cold(world: &World) -> (Process, Vec<Stored>) {
    let process = world.start(1).await;
    let mut stored = Vec::new();
    for seed in 0..30 {
        stored.push(process.put(seed, 1_000_000).await.unwrap());
    }
    process.store().seal_open().await;
    (world.start(1).await, stored)
}

/// Reads an object a second until drive 2, which hangs, is fenced; no reader waits for it.
async fn read_until_fenced(world: &World, process: &Process, stored: &[Stored]) {
    let clock = world.executor();
    let hung = clock.now();
    for stored in stored.iter().cycle() {
        let begin = clock.now();
        process.check(stored).await;
        let took = clock.now().since(begin);
        assert!(took < Duration::from_secs(2), "{took:?} for one object");
        if process.shared.drives()[2].state == DriveState::Failed {
            break;
        }
        assert!(clock.now().since(hung) < Duration::from_secs(40), "nobody notices");
        sleep(process, Duration::from_secs(1)).await;
    }
    assert_eq!(world.drives[2].fenced(), Some(FenceReason::Hung));
}

#[test]
fn a_drive_that_hangs_while_files_are_opened_for_reading_delays_no_reader_and_is_fenced_by_deadline() {
    let world = four_two(32);
    world.sim.block_on(async {
        let (process, stored) = cold(&world).await;
        let clock = world.executor();
        world.drives[2].hang();
        read_until_fenced(&world, &process, &stored).await;
        // Nobody waits for it any more.
        let begin = clock.now();
        for stored in &stored {
            process.check(stored).await;
        }
        let took = clock.now().since(begin);
        assert!(took < Duration::from_millis(10) * 30, "{took:?} for thirty objects");
    });
}

/// Opens were taken for answers: the kernel opens files whose names it knows without the device, so a drive that hung was
/// never fenced while readers came to further files of it.
#[test]
fn a_drive_that_hangs_under_reads_is_fenced_though_files_of_it_are_still_opened() {
    let world = four_two(35);
    world.sim.block_on(async {
        let process = world.start(1).await;
        let mut stored = Vec::new();
        for seed in 0..60 {
            stored.push(process.put(seed, 600_000).await.unwrap());
            process.store().seal_open().await;
        }
        let process = world.start(1).await;
        world.drives[2].hang_reads(0);
        read_until_fenced(&world, &process, &stored).await;
    });
}

/// The drive was asked for the begin of the file, which the kernel may know, or which lies where the device is well.
#[test]
fn a_drive_that_hangs_where_somebody_reads_is_asked_there_and_fenced() {
    let world = four_two(36);
    world.sim.block_on(async {
        let (process, mut stored) = cold(&world).await;
        let first_sector = 256;
        stored.retain(|stored| stored.extents.iter().all(|(extent, _)| extent.sector >= first_sector));
        assert!(stored.len() > 10, "most objects lie behind the first");
        world.drives[2].hang_reads(u64::from(first_sector) * 4096);
        read_until_fenced(&world, &process, &stored).await;
    });
}

/// A reader that found all turns taken when its patience ended did not ask again: it waited for the drive's deadline.
#[test]
fn of_more_readers_than_may_rebuild_at_once_none_waits_for_drives_that_hang() {
    let world = four_two(37);
    world.sim.block_on(async {
        let (process, stored) = cold(&world).await;
        world.drives[1].hang();
        world.drives[2].hang();
        let begin = world.executor().now();
        futures_util::future::join_all(stored.iter().map(|stored| process.check(stored))).await;
        let took = world.executor().now().since(begin);
        let rebuilt = process.shared.stats().pages_rebuilt;
        assert!(rebuilt > 64, "{rebuilt} pages at once are more than there are turns");
        assert!(took < Duration::from_secs(1), "{took:?} for thirty objects at once");
    });
}

#[test]
fn without_parity_a_read_of_a_drive_that_hangs_while_a_file_is_opened_ends() {
    let world = World::new(33, 1, None);
    world.sim.block_on(async {
        let (process, stored) = cold(&world).await;
        world.drives[0].hang();
        let begin = world.executor().now();
        assert!(process.get(&stored[0]).await.is_err());
        let took = world.executor().now().since(begin);
        assert!(took < Duration::from_secs(31), "{took:?}");
    });
}

#[test]
fn a_drive_that_is_only_slow_is_not_fenced_though_every_read_of_it_is_given_up() {
    let world = four_two(34);
    world.sim.block_on(async {
        let (process, stored) = cold(&world).await;
        // 32 ms to a second, now and then up to 24 seconds.
        world.drives[2].slow_by(4_000);
        for stored in stored.iter().cycle().take(120) {
            process.check(stored).await;
            sleep(&process, Duration::from_secs(1)).await;
        }
        assert_eq!(process.shared.drives()[2].state, DriveState::Healthy);
    });
}
