//! The log on simulated drives: crashes at every point, lost, hung, full, wiped and damaged drives, by seed.
//! What is checked each time: no acknowledged record is lost or changed, none that was read at a start is unread at a
//! later one, numbers have no gaps, and at most the one record that was under way is found beside those acknowledged.

#![allow(clippy::unwrap_used, reason = "tests")]

mod faults;
mod model;

use std::time::Duration;

use bytes::Bytes;
use shardstore_format::{DriveId, PoolId};
use shardstore_reactor::{BufPool, Clock, Drive, Executor};
use shardstore_sim::{Sim, SimDrive, SimExecutor};

use super::{Log, LogError, Recovered};

const POOL: PoolId = PoolId(0xb5a1);

/// A machine with `drive_count` drives and the log opened on some of them.
struct World {
    sim: Sim,
    drives: Vec<SimDrive>,
    set_size: usize,
}

type SimLog = Log<SimDrive, SimExecutor>;

impl World {
    fn new(seed: u64, drive_count: usize, set_size: usize) -> World {
        let sim = Sim::new(seed);
        let drives = (0..drive_count).map(|index| sim.drive(&format!("d{index}"), 1 << 30)).collect();
        World { sim, drives, set_size }
    }

    fn listed(&self, present: &[usize]) -> Vec<(DriveId, SimDrive)> {
        present.iter().map(|&index| (id(index), self.drives[index].clone())).collect()
    }

    fn all(&self) -> Vec<usize> {
        (0..self.drives.len()).collect()
    }

    fn try_open(&self, present: &[usize]) -> Result<(SimLog, Recovered), LogError> {
        self.sim.block_on(open(self.listed(present), self.set_size, self.sim.executor()))
    }

    fn open(&self, present: &[usize]) -> (SimLog, Recovered) {
        self.try_open(present).unwrap()
    }

    fn append(&self, log: &SimLog, payload: &str) -> Result<u64, LogError> {
        self.sim.block_on(log.append(vec![Bytes::copy_from_slice(payload.as_bytes())]))
    }

    /// Power loss and new handles.
    fn crash(&mut self) {
        self.sim.crash();
        self.reopen();
    }

    fn reopen(&mut self) {
        self.drives = self.drives.iter().map(SimDrive::reopen).collect();
    }

    /// Names of the log files on a drive, sorted.
    fn files(&self, drive: usize) -> Vec<String> {
        let drive = self.drives[drive].clone();
        let mut files = self.sim.block_on(async move { drive.list("log").await.unwrap_or_default() });
        files.sort();
        files
    }
}

async fn open(
    drives: Vec<(DriveId, SimDrive)>,
    set_size: usize,
    executor: SimExecutor,
) -> Result<(SimLog, Recovered), LogError> {
    Log::open(drives, POOL, set_size, executor, BufPool::new(64 << 20)).await
}

fn id(index: usize) -> DriveId {
    DriveId(index as u128 + 1)
}

fn payloads(recovered: &Recovered) -> Vec<(u64, String)> {
    let text = |payload: &Bytes| String::from_utf8(payload.to_vec()).unwrap();
    recovered.records.iter().map(|record| (record.sequence, text(&record.payload))).collect()
}

fn expected(range: std::ops::RangeInclusive<u64>) -> Vec<(u64, String)> {
    range.map(|n| (n, format!("record {n}"))).collect()
}

#[test]
fn a_fresh_pool_begins_at_term_1_and_a_restart_reads_everything_back_under_a_new_term() {
    let mut world = World::new(1, 3, 2);
    let (log, recovered) = world.open(&[0, 1, 2]);
    assert_eq!(
        recovered,
        Recovered {
            manifest: None,
            records: vec![],
            next_sequence: 1,
            term: 1,
            writable: true,
            notes: vec![]
        }
    );
    assert_eq!(log.members(), [id(0), id(1)]);
    for n in 1..=20 {
        assert_eq!(world.append(&log, &format!("record {n}")), Ok(n));
    }
    drop(log);
    world.crash();
    let (log, recovered) = world.open(&[0, 1, 2]);
    assert_eq!(payloads(&recovered), expected(1..=20));
    assert_eq!((recovered.term, recovered.next_sequence, recovered.notes), (2, 21, vec![]));
    assert_eq!(world.append(&log, "record 21"), Ok(21));
}

#[test]
fn records_of_every_size_come_back_whole_and_too_long_ones_are_refused() {
    let mut world = World::new(2, 2, 2);
    let (log, _) = world.open(&[0, 1]);
    let sizes = [0, 1, 4032, 4033, 70_000, 1 << 20, (1 << 20) + 5_000, 5 << 20];
    for (fill, size) in (1u8..).zip(sizes) {
        let half = Bytes::from(vec![fill; size / 2]);
        let rest = Bytes::from(vec![fill; size - size / 2]);
        assert_eq!(world.sim.block_on(log.append(vec![half, rest])), Ok(u64::from(fill)));
    }
    let long = Bytes::from(vec![0; super::RECORD_MAX_BYTES + 1]);
    assert_eq!(world.sim.block_on(log.append(vec![long])), Err(LogError::TooLarge));
    assert_eq!(world.append(&log, "after"), Ok(sizes.len() as u64 + 1));
    world.crash();
    let (_, recovered) = world.open(&[0, 1]);
    for (fill, (size, record)) in (1u8..).zip(sizes.into_iter().zip(&recovered.records)) {
        assert_eq!(record.payload, vec![fill; size]);
    }
}

#[test]
fn a_roll_keeps_the_manifest_and_what_is_asked_and_recycles_old_files() {
    let mut world = World::new(3, 2, 2);
    let (log, _) = world.open(&[0, 1]);
    let mut next = 1;
    for roll in 0..6u64 {
        for _ in 0..10 {
            world.append(&log, &format!("record {next}")).unwrap();
            next += 1;
        }
        let before = log.bytes_since_roll();
        let keep_from = next - 3;
        world.sim.block_on(log.roll(Bytes::from(format!("manifest {roll}")), keep_from)).unwrap();
        assert!(log.bytes_since_roll() < before);
        world.sim.run_until_idle();
        // The current one, those with records still kept, and the one made ready.
        assert!(world.files(0).len() <= 4, "{:?}", world.files(0));
        assert_eq!(world.files(0), world.files(1));
    }
    world.append(&log, &format!("record {next}")).unwrap();
    world.crash();
    let (_, recovered) = world.open(&[0, 1]);
    assert_eq!(recovered.manifest, Some(Bytes::from_static(b"manifest 5")));
    assert_eq!(payloads(&recovered), expected(next - 3..=next));
    world.sim.run_until_idle();
    assert_eq!(world.files(0).len(), 2, "one file and the one made ready: {:?}", world.files(0));
}

#[test]
fn dropping_the_future_of_an_append_loses_nothing_and_appends_keep_the_order_of_calls() {
    let mut world = World::new(4, 2, 2);
    let (log, _) = world.open(&[0, 1]);
    for n in 1..=10 {
        drop(log.append(vec![Bytes::from(format!("record {n}"))]));
    }
    assert_eq!(world.append(&log, "record 11"), Ok(11));
    world.crash();
    assert_eq!(payloads(&world.open(&[0, 1]).1), expected(1..=11));
}

#[test]
fn a_hung_member_delays_one_append_by_its_deadline_and_is_replaced() {
    let world = World::new(5, 3, 2);
    let (log, _) = world.open(&[0, 1, 2]);
    world.append(&log, "record 1").unwrap();
    world.sim.run_until_idle();
    world.drives[1].hang();
    let executor = world.sim.executor();
    let begin = executor.now();
    assert_eq!(world.append(&log, "record 2"), Ok(2));
    let took = executor.now().since(begin);
    assert!(took >= Duration::from_millis(250), "{took:?}");
    assert!(took < Duration::from_millis(600), "{took:?}");
    assert_eq!(log.members(), [id(0), id(2)]);
    assert_eq!(log.term(), 2);
    let begin = executor.now();
    for n in 3..=10 {
        assert_eq!(world.append(&log, &format!("record {n}")), Ok(n));
    }
    assert!(executor.now().since(begin) < Duration::from_millis(200), "only the first one waits");
    // The late write lands in a file of an old term, and the drive learns of the new term when it answers.
    world.drives[1].resume();
    world.sim.run_until_idle();
    drop(log);
    let (_, recovered) = world.open(&[1, 2]);
    assert_eq!(payloads(&recovered), expected(1..=10));
}

#[test]
fn with_too_few_drives_the_record_under_way_waits_others_are_refused_and_it_completes_when_a_drive_returns() {
    let mut world = World::new(6, 2, 2);
    let (log, _) = world.open(&[0, 1]);
    world.append(&log, "record 1").unwrap();
    world.drives[1].fail_writes(1);
    let executor = world.sim.executor();
    let waiting = log.append(vec![Bytes::from_static(b"record 2")]);
    let (answered, answer) = futures_channel::oneshot::channel();
    executor.spawn(async move { drop(answered.send(waiting.await)) });
    world.sim.block_on(log.stalled());
    assert!(!log.is_writable());
    assert_eq!(world.append(&log, "refused"), Err(LogError::ReadOnly));
    assert_eq!(world.sim.block_on(log.roll(Bytes::new(), 1)), Err(LogError::ReadOnly));
    world.reopen();
    log.set_drives(world.listed(&[0, 1]));
    assert_eq!(world.sim.block_on(answer), Ok(Ok(2)), "completed with its own number");
    assert!(log.is_writable());
    assert_eq!(world.append(&log, "record 3"), Ok(3));
    world.crash();
    assert_eq!(payloads(&world.open(&[1]).1), expected(1..=3));
}

#[test]
fn a_pool_too_small_for_a_set_serves_reads_until_a_drive_comes() {
    let mut world = World::new(7, 3, 2);
    let (log, _) = world.open(&[0, 1]);
    world.append(&log, "record 1").unwrap();
    world.crash();
    let (log, recovered) = world.open(&[1]);
    assert_eq!(payloads(&recovered), expected(1..=1));
    assert!(!recovered.writable);
    assert_eq!(world.append(&log, "refused"), Err(LogError::ReadOnly));
    log.set_drives(world.listed(&[1, 2]));
    world.sim.run_until_idle();
    assert!(log.is_writable());
    assert_eq!(world.append(&log, "record 2"), Ok(2));
    world.crash();
    let (_, recovered) = world.open(&[0, 2]);
    assert_eq!(payloads(&recovered), expected(1..=2), "what the first drive holds is of an old term");
}

#[test]
fn a_full_member_is_replaced_and_without_a_replacement_the_append_is_refused_and_later_goes_on() {
    let world = World::new(8, 2, 2);
    let (log, _) = world.open(&[0, 1]);
    let long = Bytes::from(vec![7; 3 << 20]);
    world.sim.block_on(log.append(vec![long.clone()])).unwrap();
    world.sim.run_until_idle();
    world.drives[0].set_capacity(0);
    let refused = loop {
        match world.sim.block_on(log.append(vec![long.clone()])) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(refused, LogError::NoSpace);
    assert!(world.drives[0].fenced().is_none(), "no space fences nothing");
    let files = world.files(1).len();
    for _ in 0..20 {
        assert_eq!(world.sim.block_on(log.append(vec![long.clone()])), Err(LogError::NoSpace));
        world.sim.block_on(world.sim.executor().sleep(Duration::from_secs(2)));
    }
    assert!(world.files(1).len() <= files + 1, "attempts leave nothing behind: {:?}", world.files(1));
    world.drives[0].set_capacity(1 << 30);
    world.sim.block_on(world.sim.executor().sleep(Duration::from_secs(2)));
    assert!(world.sim.block_on(log.append(vec![long])).is_ok());
}

#[test]
fn a_fresh_log_takes_under_10_mib_a_member() {
    let world = World::new(9, 2, 2);
    let (log, _) = world.open(&[0, 1]);
    world.append(&log, "record 1").unwrap();
    world.sim.run_until_idle();
    let drive = world.drives[0].clone();
    let space = world.sim.block_on(async move { drive.space().await.unwrap() });
    assert!(space.total_bytes - space.free_bytes < 10 << 20, "{space:?}");
}
