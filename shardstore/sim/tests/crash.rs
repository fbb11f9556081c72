//! What a crash may and may not take back on a simulated drive.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use shardstore_reactor::{AlignedBuf, Clock, Drive, DriveFile, Executor, FenceReason, IoError, OpenMode};
use shardstore_sim::{Faults, Sim, SimDrive, SimFile, seeds};

const SEEDS: u64 = 100;
const DRIVE_BYTES: u64 = 64 << 20;

fn filled(len_bytes: usize, byte: u8) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(len_bytes);
    buf.fill(byte);
    buf
}

async fn new_file(drive: &SimDrive, path: &str) -> SimFile {
    let file = drive.open(path, OpenMode::CreateNew).await.unwrap();
    drive.sync_dir("").await.unwrap();
    file
}

async fn read(file: &SimFile, offset_bytes: u64, len_bytes: usize) -> Result<Vec<u8>, IoError> {
    let (result, buf) = file.read_at(offset_bytes, AlignedBuf::zeroed(len_bytes)).await;
    result.map(|()| buf.to_vec())
}

#[test]
fn acknowledged_writes_and_synced_names_survive_every_crash() {
    for seed in seeds(SEEDS) {
        let sim = Sim::new(seed);
        let drive = sim.drive("d0", DRIVE_BYTES);
        let writer = drive.clone();
        let acked = std::rc::Rc::new(std::cell::Cell::new(0_u64));
        let count = acked.clone();
        let cut = sim.run(
            async move {
                let file = new_file(&writer, "f").await;
                for index in 0..50_u8 {
                    file.write_durable(u64::from(index) * 4096, vec![filled(4096, index)])
                        .await
                        .result
                        .unwrap();
                    count.set(u64::from(index) + 1);
                }
            },
            20 + seed % 60,
        );
        assert!(cut.is_none(), "seed={seed}");
        sim.crash();
        let drive = drive.reopen();
        sim.block_on(async move {
            let file = match drive.open("f", OpenMode::Read).await {
                Ok(file) => file,
                Err(error) => {
                    assert_eq!(acked.get(), 0, "seed={seed}: {error}");
                    return;
                }
            };
            for index in 0..acked.get() {
                let bytes = read(&file, index * 4096, 4096).await.unwrap();
                assert!(bytes.iter().all(|&byte| u64::from(byte) == index), "seed={seed}");
            }
        });
    }
}

#[test]
fn a_write_under_way_lands_wholly_partly_or_not_at_all() {
    let (mut whole, mut part, mut none) = (0, 0, 0);
    for seed in 0..SEEDS {
        let sim = Sim::new(seed);
        let drive = sim.drive("d0", DRIVE_BYTES);
        let file = sim.block_on(new_file(&drive, "f"));
        sim.block_on(file.write_durable(0, vec![filled(8 * 4096, 1)])).result.unwrap();
        drop(file.write_durable(0, vec![filled(8 * 4096, 2)]));
        sim.crash();
        let drive = drive.reopen();
        let bytes = sim.block_on(async move {
            let file = drive.open("f", OpenMode::Read).await.unwrap();
            read(&file, 0, 8 * 4096).await.unwrap()
        });
        let landed = bytes.chunks(4096).filter(|sector| sector.iter().all(|&byte| byte == 2)).count();
        let kept = bytes.chunks(4096).filter(|sector| sector.iter().all(|&byte| byte == 1)).count();
        assert_eq!(landed + kept, 8, "seed={seed}: sectors are never torn inside");
        match landed {
            8 => whole += 1,
            0 => none += 1,
            _ => part += 1,
        }
    }
    assert!(whole > 10 && part > 10 && none > 10, "{whole} {part} {none}");
}

#[test]
fn names_that_were_not_synced_survive_some_crashes_and_not_others() {
    let (mut survived, mut renamed) = (0, 0);
    for seed in 0..SEEDS {
        let sim = Sim::new(seed);
        let drive = sim.drive("d0", DRIVE_BYTES);
        sim.block_on(async {
            drop(new_file(&drive, "old").await);
            drop(drive.open("created", OpenMode::CreateNew).await.unwrap());
            drive.rename("old", "new").await.unwrap();
        });
        sim.crash();
        let drive = drive.reopen();
        let mut names = sim.block_on(drive.list("")).unwrap();
        names.sort();
        survived += u32::from(names.contains(&"created".to_owned()));
        let new = names.contains(&"new".to_owned());
        assert_ne!(new, names.contains(&"old".to_owned()), "seed={seed}: a rename is atomic");
        renamed += u32::from(new);
    }
    assert!((20..80).contains(&survived), "{survived}");
    assert!((20..80).contains(&renamed), "{renamed}");
}

#[test]
fn unsynced_allocation_is_lost_in_some_crashes_but_never_written_bytes() {
    let mut lost = 0;
    for seed in 0..SEEDS {
        let sim = Sim::new(seed);
        let drive = sim.drive("d0", DRIVE_BYTES);
        sim.block_on(async {
            let file = new_file(&drive, "f").await;
            file.allocate(0, 1 << 20).await.unwrap();
            file.write_durable(8192, vec![filled(4096, 9)]).await.result.unwrap();
        });
        sim.crash();
        let drive = drive.reopen();
        let len_bytes = sim.block_on(async {
            let file = drive.open("f", OpenMode::Read).await.unwrap();
            assert!(read(&file, 8192, 4096).await.unwrap().iter().all(|&byte| byte == 9));
            assert!(read(&file, 0, 4096).await.unwrap().iter().all(|&byte| byte == 0));
            file.len_bytes().await.unwrap()
        });
        assert!(len_bytes == 12288 || len_bytes == 1 << 20, "seed={seed}: {len_bytes}");
        lost += u32::from(len_bytes == 12288);
    }
    assert!((20..80).contains(&lost), "{lost}");
}

#[test]
fn a_small_file_is_the_old_or_the_new_one_after_any_crash() {
    for seed in seeds(400) {
        let sim = Sim::new(seed);
        let drive = sim.drive("d0", DRIVE_BYTES);
        let (old, new) = (vec![1_u8; 5000], vec![2_u8; 700]);
        sim.block_on(drive.write_small("id", old.clone())).unwrap();
        let done = sim.run(drive.write_small("id", new.clone()), 1 + seed / 4);
        sim.crash();
        let drive = drive.reopen();
        let found = sim.block_on(drive.read_small("id", 1 << 20)).unwrap();
        assert!(found == new || (found == old && done.is_none()), "seed={seed}: neither");
        // The leftover of the crash does not stand in the way.
        sim.block_on(drive.write_small("id", old.clone())).unwrap();
        assert_eq!(sim.block_on(drive.read_small("id", 1 << 20)).unwrap(), old, "seed={seed}");
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_submitted() {
    for seed in 0..SEEDS {
        let sim = Sim::new(seed);
        let drive = sim.drive("d0", DRIVE_BYTES);
        let file = sim.block_on(drive.open("f", OpenMode::CreateNew)).unwrap();
        drop(file.write_durable(0, vec![filled(4096, 3), filled(8192, 4)]));
        sim.kill_process();
        let stale = sim.block_on(read(&file, 0, 4096));
        assert!(matches!(stale, Err(IoError::Device(_))), "seed={seed}: an old handle is dead");
        let drive = drive.reopen();
        sim.block_on(async move {
            let file = drive.open("f", OpenMode::Read).await.unwrap();
            let bytes = read(&file, 0, 12288).await.unwrap();
            assert!(bytes[..4096].iter().all(|&byte| byte == 3), "seed={seed}");
            assert!(bytes[4096..].iter().all(|&byte| byte == 4), "seed={seed}");
        });
    }
}

#[test]
fn crash_images_differ_by_variant_and_leave_the_drive_alone() {
    let sim = Sim::new(5);
    let drive = sim.drive("d0", DRIVE_BYTES);
    let file = sim.block_on(new_file(&drive, "f"));
    let pending = file.write_durable(0, vec![filled(64 * 4096, 2)]);
    let mut lengths = std::collections::BTreeSet::new();
    // All taken first: time passes while the copies are looked at.
    let images: Vec<_> = (0..50).map(|variant| drive.crash_image(variant)).collect();
    for image in images {
        let copy = sim.drive_from_image("copy", &image);
        let opened = sim.run(
            async move { copy.open("f", OpenMode::Read).await.unwrap().len_bytes().await.unwrap() },
            10_000,
        );
        lengths.insert(opened.unwrap());
    }
    assert!(lengths.len() > 3, "{lengths:?}");
    sim.block_on(pending).result.unwrap();
}

#[test]
fn faults_do_what_they_say() {
    let sim = Sim::new(11);
    let drive = sim.drive("d0", 16 * 4096);
    sim.block_on(async {
        let file = new_file(&drive, "f").await;
        let full = file.write_durable(0, vec![filled(17 * 4096, 1)]).await;
        assert!(matches!(full.result, Err(IoError::NoSpace)));
        assert_eq!(full.bufs.len(), 1);
        assert_eq!(drive.fenced(), None, "a full drive is not a broken one");
        file.write_durable(0, vec![filled(8 * 4096, 1)]).await.result.unwrap();
        assert_eq!(drive.space().await.unwrap().free_bytes, 8 * 4096);

        drive.lose_writes(1);
        file.write_durable(0, vec![filled(4096, 7)]).await.result.unwrap();
        assert!(read(&file, 0, 4096).await.unwrap().iter().all(|&byte| byte == 1));

        drive.misdirect_writes(1);
        file.write_durable(0, vec![filled(4096, 8)]).await.result.unwrap();
        let bytes = read(&file, 0, 8 * 4096).await.unwrap();
        assert_eq!(bytes.iter().filter(|&&byte| byte == 8).count(), 4096);

        file.write_durable(0, vec![filled(4096, 1)]).await.result.unwrap();
        assert!(drive.corrupt("f", 4000));
        assert!(!drive.corrupt("f", 1 << 30));
        let bytes = read(&file, 0, 4096).await.unwrap();
        assert_eq!(bytes.iter().filter(|&&byte| byte != 1).count(), 1);
        assert!(drive.corrupt_random().is_some());

        drive.fail_reads(1);
        assert!(matches!(read(&file, 0, 4096).await, Err(IoError::Device(_))));
        assert!(read(&file, 0, 4096).await.is_ok());

        drive.vanish();
        assert!(matches!(read(&file, 0, 4096).await, Err(IoError::Device(_))));
        drive.come_back();
        drive.fail_writes(1);
        let failed = file.write_durable(0, vec![filled(4096, 1)]).await;
        assert!(matches!(failed.result, Err(IoError::Device(_))));
        assert_eq!(drive.fenced(), Some(FenceReason::FailedWrite));
        assert!(matches!(read(&file, 0, 4096).await, Err(IoError::Fenced)));
        let reopened = drive.reopen();
        assert_eq!(reopened.fenced(), None);
        reopened.wipe();
        assert!(matches!(reopened.reopen().open("f", OpenMode::Read).await, Err(IoError::NotFound)));
    });
}

#[test]
fn a_hung_write_fences_its_drive_after_the_deadline_and_may_land_later() {
    let sim = Sim::new(3);
    let drive = sim.drive("d0", DRIVE_BYTES);
    let clock = sim.executor();
    sim.block_on(async {
        let file = new_file(&drive, "f").await;
        drive.hang();
        let begin = clock.now();
        let outcome = file.write_durable(0, vec![filled(4096, 5)]).await;
        assert!(matches!(outcome.result, Err(IoError::Fenced)));
        assert_eq!(drive.fenced(), Some(FenceReason::Hung));
        assert_eq!(clock.now().since(begin), shardstore_reactor::WRITE_DEADLINE);
        assert_eq!(drive.writes_in_flight(), 1);
        drive.resume();
        clock.sleep(Duration::from_secs(1)).await;
        assert_eq!(drive.writes_in_flight(), 0);
        let reopened = drive.reopen().open("f", OpenMode::Read).await.unwrap();
        assert!(read(&reopened, 0, 4096).await.unwrap().iter().all(|&byte| byte == 5));
    });
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let digest = |seed| {
        let sim = Sim::new(seed);
        let drive = sim.drive("d0", DRIVE_BYTES);
        drive.set_faults(Faults { read_error_per_mille: 100, stall_per_mille: 50, ..Faults::default() });
        let executor = sim.executor();
        sim.block_on(async {
            let file = new_file(&drive, "f").await;
            let (sender, mut receiver) = futures_channel::mpsc::channel::<u64>(4);
            for index in 0..20_u64 {
                let (file, mut sender, task) = (file.clone(), sender.clone(), executor.clone());
                executor.spawn(async move {
                    let buf = filled(4096, 1);
                    file.write_durable(index * 4096, vec![buf]).await.result.unwrap();
                    drop(read(&file, index * 4096, 4096).await);
                    sender.try_send(task.random_u64()).unwrap();
                });
            }
            drop(sender);
            let mut sum = 0_u64;
            while let Some(number) = futures_util::StreamExt::next(&mut receiver).await {
                sum = sum.rotate_left(1) ^ number;
            }
            sum
        }) ^ sim.trace_digest()
    };
    assert_eq!(digest(1), digest(1));
    assert_ne!(digest(1), digest(2));
}

#[test]
fn wakers_work_from_another_thread() {
    let sim = Sim::new(1);
    let (sender, receiver) = futures_channel::oneshot::channel::<u32>();
    let clock = sim.executor();
    let thread = std::thread::spawn(move || sender.send(7).unwrap());
    let value = sim.block_on(async move {
        // The other thread is not simulated: keep simulated time going while it runs.
        let mut receiver = receiver;
        loop {
            match futures_util::future::select(receiver, Box::pin(clock.sleep(Duration::from_millis(1))))
                .await
            {
                futures_util::future::Either::Left((value, _)) => return value.unwrap(),
                futures_util::future::Either::Right(((), again)) => receiver = again,
            }
            std::thread::yield_now();
        }
    });
    assert_eq!(value, 7);
    thread.join().unwrap();
}

#[test]
#[should_panic(expected = "seed=42: deadlock")]
fn a_deadlock_panics_with_its_seed() {
    let sim = Sim::new(42);
    let (_sender, receiver) = futures_channel::oneshot::channel::<()>();
    assert!(sim.block_on(receiver).is_ok());
}

#[test]
#[should_panic(expected = "seed=43: I/O at 100")]
fn unaligned_access_panics_with_its_seed() {
    let sim = Sim::new(43);
    let drive = sim.drive("d0", DRIVE_BYTES);
    let file = sim.block_on(drive.open("f", OpenMode::CreateNew)).unwrap();
    drop(file.write_durable(100, vec![filled(4096, 1)]));
}

#[test]
#[should_panic(expected = "seed=44: a write through a handle opened for Read")]
fn a_write_through_a_read_handle_panics_with_its_seed() {
    let sim = Sim::new(44);
    let drive = sim.drive("d0", DRIVE_BYTES);
    sim.block_on(async {
        drop(drive.open("f", OpenMode::CreateNew).await.unwrap());
        let file = drive.open("f", OpenMode::Read).await.unwrap();
        drop(file.write_durable(0, vec![filled(4096, 1)]));
    });
}
