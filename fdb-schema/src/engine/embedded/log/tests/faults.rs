//! Damage that the log must mend, ignore or report.

use super::*;
use crate::engine::embedded::log::term::{TERM_PATH, Term};

/// Where record `n` of a log without a manifest lies, while each record takes one sector.
fn place_of(n: u64) -> u64 {
    4096 * n
}

/// A log of records 1 to `count` on the first drives, then a power loss.
fn written(seed: u64, drive_count: usize, set_size: usize, count: u64) -> World {
    let mut world = World::new(seed, drive_count, set_size);
    let (log, _) = world.open(&world.all());
    for n in 1..=count {
        world.append(&log, &format!("record {n}")).unwrap();
    }
    world.sim.run_until_idle();
    drop(log);
    world.crash();
    world
}

fn current_file(world: &World, drive: usize) -> String {
    format!("log/{}", world.files(drive)[0])
}

fn assert_damaged(result: Result<(SimLog, Recovered), LogError>) -> String {
    match result {
        Err(LogError::Damaged { what }) => what,
        Err(error) => panic!("{error}"),
        Ok((_, recovered)) => panic!("{recovered:?}"),
    }
}

#[test]
fn a_damaged_record_is_taken_from_another_member() {
    let world = written(1, 2, 2, 9);
    assert!(world.drives[0].corrupt(&current_file(&world, 0), place_of(4) + 70));
    assert!(world.drives[1].corrupt(&current_file(&world, 1), place_of(7) + 8));
    let (_, recovered) = world.open(&[0, 1]);
    assert_eq!(payloads(&recovered), expected(1..=9));
    assert!(recovered.notes.iter().any(|note| note.starts_with("d0") || note.starts_with("d1")));
}

#[test]
fn a_record_damaged_on_every_member_is_reported_and_later_ones_are_not_dropped_in_silence() {
    let world = written(2, 2, 2, 9);
    for drive in 0..2 {
        assert!(world.drives[drive].corrupt(&current_file(&world, drive), place_of(4) + 70));
    }
    let what = assert_damaged(world.try_open(&[0, 1]));
    assert!(what.contains("record 4"), "{what}");
}

#[test]
fn a_damaged_head_is_taken_from_another_member_and_reported_if_there_is_none() {
    let world = written(3, 2, 2, 3);
    assert!(world.drives[0].corrupt(&current_file(&world, 0), 30));
    let (log, recovered) = world.open(&[0, 1]);
    assert_eq!(payloads(&recovered), expected(1..=3));
    world.sim.run_until_idle();
    drop(log);
    for drive in 0..2 {
        assert!(world.drives[drive].corrupt(&current_file(&world, drive), 30));
    }
    assert_damaged(world.try_open(&[0, 1]));
}

#[test]
fn any_one_flipped_byte_of_a_member_changes_nothing() {
    for seed in 0..120 {
        let world = written(seed, 2, 2, 6);
        let drive = usize::from(seed % 2 == 0);
        let (path, offset_bytes) = world.drives[drive].corrupt_random().unwrap();
        let (_, recovered) = world.open(&[0, 1]);
        assert_eq!(payloads(&recovered), expected(1..=6), "{path} at {offset_bytes}");
    }
}

#[test]
fn any_m_drives_lost_lose_nothing_wiped_or_absent() {
    // Every pair of five drives; the set has three.
    for (seed, (first, second)) in (0..5).flat_map(|a| (0..a).map(move |b| (a, b))).enumerate() {
        for wiped in [true, false] {
            let world = written(seed as u64, 5, 3, 12);
            let mut present = world.all();
            if wiped {
                world.drives[first].wipe();
                world.drives[second].wipe();
            } else {
                present.retain(|&drive| drive != first && drive != second);
            }
            let (log, recovered) = world.open(&present);
            assert_eq!(payloads(&recovered), expected(1..=12), "without {first} and {second}");
            assert!(recovered.writable);
            assert_eq!(world.append(&log, "record 13"), Ok(13));
        }
    }
}

#[test]
fn a_wiped_drive_is_not_a_fresh_pool_and_a_pool_of_wiped_members_is_refused() {
    let world = written(4, 4, 2, 5);
    for drive in 0..2 {
        world.drives[drive].wipe();
    }
    let what = assert_damaged(world.try_open(&[0, 1, 2, 3]));
    assert!(what.contains("term 1"), "{what}");
}

#[test]
fn records_without_any_term_file_are_not_a_fresh_pool() {
    let world = written(5, 2, 2, 5);
    for drive in &world.drives {
        let drive = drive.clone();
        world.sim.block_on(async move { drive.remove(TERM_PATH).await.unwrap() });
    }
    assert_damaged(world.try_open(&[0, 1]));
}

/// Story: a term file of a later format counted as damaged. After a downgrade the log would have begun where the last
/// term of the old format ended, without what the later version had acknowledged since.
#[test]
fn a_log_that_a_later_version_went_on_with_is_refused_by_name() {
    let world = written(15, 3, 2, 5);
    let drive = world.drives[1].clone();
    world.sim.block_on(async move {
        let mut bytes = drive.read_small(TERM_PATH, 4096).await.unwrap();
        bytes[8..12].copy_from_slice(&9u32.to_le_bytes());
        let body = bytes.len() - 4;
        let crc = crate::engine::embedded::log::format::crc32c_of(&bytes[..body]);
        bytes[body..].copy_from_slice(&crc.to_le_bytes());
        drive.write_small(TERM_PATH, bytes).await.unwrap();
    });
    match world.try_open(&[0, 1, 2]) {
        Err(error @ LogError::FutureVersion { version: 9, .. }) => {
            assert!(error.to_string().contains("d1"), "{error}");
        }
        other => panic!("{:?}", other.map(|(_, recovered)| recovered)),
    }
}

#[test]
fn an_old_state_of_a_drive_is_ignored_when_it_returns() {
    let mut world = World::new(6, 3, 2);
    let (log, _) = world.open(&[0, 1, 2]);
    world.append(&log, "record 1").unwrap();
    let old = world.drives[0].crash_image(1);
    world.append(&log, "record 2").unwrap();
    drop(log);
    world.crash();
    let (log, _) = world.open(&[1, 2]);
    world.append(&log, "record 3").unwrap();
    drop(log);
    world.crash();
    world.drives[0].replace_contents(&old);
    world.reopen();
    let (_, recovered) = world.open(&[0, 1, 2]);
    assert_eq!(payloads(&recovered), expected(1..=3));
    assert_eq!(recovered.term, 3);
}

#[test]
fn members_that_disagree_about_a_term_are_refused() {
    let world = written(7, 3, 2, 2);
    let drive = world.drives[2].clone();
    let other = Term { number: 1, members: vec![id(1), id(2)], previous: None };
    world.sim.block_on(async move { drive.write_small(TERM_PATH, other.encode(POOL)).await.unwrap() });
    let what = assert_damaged(world.try_open(&[0, 1, 2]));
    assert!(what.contains("two drives name different members"), "{what}");
}

#[test]
fn a_write_that_a_member_acknowledged_and_lost_is_taken_from_another() {
    let mut world = World::new(8, 2, 2);
    let (log, _) = world.open(&[0, 1]);
    world.append(&log, "record 1").unwrap();
    world.sim.run_until_idle();
    world.drives[0].lose_writes(2);
    for n in 2..=6 {
        world.append(&log, &format!("record {n}")).unwrap();
    }
    world.crash();
    assert_eq!(payloads(&world.open(&[0, 1]).1), expected(1..=6));
}

#[test]
fn another_pools_term_is_not_ours() {
    let world = written(9, 2, 2, 2);
    let listed = world.listed(&[0, 1]);
    let executor = world.sim.executor();
    let opened = world.sim.block_on(Log::open(listed, PoolId(1), 2, executor, BufPool::new(64 << 20)));
    // Its records do not parse as ours, so the pool is fresh as far as the log can tell; the drive's identity file,
    // which the store checks first, is what refuses it.
    assert!(opened.unwrap().1.records.is_empty());
}

#[test]
fn a_slow_drive_that_does_not_answer_at_start_takes_no_part() {
    let world = written(10, 3, 2, 4);
    world.drives[0].hang();
    let (log, recovered) = world.open(&[0, 1, 2]);
    assert_eq!(payloads(&recovered), expected(1..=4));
    assert!(recovered.writable);
    assert_eq!(log.members(), [id(1), id(2)]);
    assert!(recovered.notes[0].starts_with("d0"), "{:?}", recovered.notes);
}

#[test]
fn after_a_change_of_term_that_came_half_way_nothing_is_acknowledged_under_the_old_one() {
    // The first member is full, so a record that needs room calls for a new set; the new member vanishes at every
    // point of that; a short record would still fit the old set.
    for polls_before_it_vanishes in 0..160 {
        let mut world = World::new(polls_before_it_vanishes, 3, 2);
        let (log, _) = world.open(&[0, 1, 2]);
        world.append(&log, "record 1").unwrap();
        world.sim.run_until_idle();
        world.drives[0].set_capacity(0);
        let long = log.append(vec![Bytes::from(vec![b'l'; 9 << 20])]);
        let executor = world.sim.executor();
        let (answered, answer) = futures_channel::oneshot::channel();
        executor.spawn(async move { drop(answered.send(long.await)) });
        assert!(world.sim.run(std::future::pending::<()>(), polls_before_it_vanishes).is_none());
        world.drives[2].vanish();
        let long = world.sim.block_on(answer).unwrap();
        let short = world.append(&log, "short");
        drop(log);
        world.drives[0].set_capacity(1 << 30);
        world.drives[2].come_back();
        world.crash();
        let (_, recovered) = world.open(&[0, 1, 2]);
        let found = |sequence| recovered.records.iter().any(|record| record.sequence == sequence);
        for sequence in [long, short].into_iter().flatten() {
            assert!(found(sequence), "{sequence} is lost, {polls_before_it_vanishes}");
        }
    }
}
