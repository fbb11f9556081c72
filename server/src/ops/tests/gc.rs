//! gc: a dry run says what a run then frees, and what is read, named or being made stays.

use shardstore_reactor::{Drive, OpenMode};

use super::objects::entry;
use super::*;
use crate::ops::{GcReport, JobProgress};

async fn dry_run(machine: &Machine) -> GcReport {
    machine.core.gc_dry_run(&JobProgress::default()).await.unwrap()
}

async fn gc(machine: &Machine) -> GcReport {
    machine.core.gc_now(&JobProgress::default()).await.unwrap()
}

#[test]
fn a_dry_run_changes_nothing_and_says_what_a_run_then_frees() {
    machine(1, 6, async |machine| {
        for n in 0..6 {
            machine.put(&format!("k{n}"), &noise(n, 2_000_000)).await;
        }
        assert_eq!(dry_run(&machine).await, GcReport { dry_run: true, ..GcReport::default() });
        for n in 0..6 {
            machine.core.delete_object(bucket(), entry(&format!("k{n}"))).await.unwrap();
        }
        machine.core.store().seal_open().await;
        let would = dry_run(&machine).await;
        assert_eq!((would.deleted.count, would.deleted.bytes), (6, 12_000_000));
        // 4+2: half as much again on the drives, and headers.
        assert!((18_000_000..19_000_000).contains(&would.dead_volumes.bytes), "{would:?}");
        assert_eq!(would, dry_run(&machine).await);
        let freed = gc(&machine).await;
        assert_eq!(freed, GcReport { dry_run: false, ..would });
        assert_eq!(machine.space().await, (0, 0));
        assert_eq!(gc(&machine).await, GcReport::default());
    });
}

#[test]
fn sparse_volumes_are_emptied_and_what_is_in_them_stays_readable() {
    machine(2, 6, async |machine| {
        for n in 0..8 {
            machine.put(&format!("k{n}"), &noise(n, 1_500_000)).await;
        }
        machine.core.store().seal_open().await;
        for n in 1..8 {
            machine.core.delete_object(bucket(), entry(&format!("k{n}"))).await.unwrap();
        }
        let would = dry_run(&machine).await;
        assert_eq!((would.sparse_volumes.count, would.moved_bytes), (1, 1_500_000), "{would:?}");
        let freed = gc(&machine).await;
        assert_eq!(freed.sparse_volumes, would.sparse_volumes);
        assert_eq!(freed.moved_bytes, 1_500_000);
        assert!(machine.get_whole("k0").await.unwrap() == noise(0, 1_500_000));
    });
}

#[test]
fn bytes_that_are_read_stay_until_the_reader_has_ended() {
    machine(3, 6, async |machine| {
        machine.put("k", &noise(3, 2_000_000)).await;
        let opened = machine.core.open_object(bucket(), key("k"), None).await.unwrap();
        machine.core.delete_object(bucket(), entry("k")).await.unwrap();
        let would = dry_run(&machine).await;
        assert_eq!((would.deleted.count, would.held.count, would.held.bytes), (0, 1, 2_000_000));
        let freed = gc(&machine).await;
        assert_eq!((freed.deleted.count, freed.held.count), (0, 1));
        assert!(read_all(opened.read(0..2_000_000)).await.unwrap() == noise(3, 2_000_000));
        assert_eq!(gc(&machine).await.deleted.count, 1);
    });
}

#[test]
fn left_over_files_go_and_no_other_file_does() {
    machine(4, 6, async |machine| {
        machine.put("k", &noise(4, 2_000_000)).await;
        let drive = &machine.drives[2];
        let next = machine.core.metadata().allocate_volume_ids(1).await.unwrap();
        let left_over = format!("segments/{:016x}.01", next.0);
        drive.open(&left_over, OpenMode::CreateNew).await.unwrap();
        // Beyond what metadata has given out, and no segment at all: not ours to remove.
        let kept = ["segments/00000000ffffffff.00", "segments/notes.txt"];
        for name in kept {
            drive.open(name, OpenMode::CreateNew).await.unwrap();
        }
        assert_eq!(dry_run(&machine).await.left_over_files.count, 1);
        assert_eq!(gc(&machine).await.left_over_files.count, 1);
        assert!(drive.open(&left_over, OpenMode::Read).await.is_err());
        for name in kept {
            drive.open(name, OpenMode::Read).await.unwrap();
        }
        assert!(machine.get_whole("k").await.unwrap() == noise(4, 2_000_000));
    });
}

#[test]
fn a_gc_beside_background_work_and_requests_loses_nothing() {
    for seed in 0..5 {
        machine(seed, 6, async |machine| {
            machine.core.spawn_background(true);
            let mut model = std::collections::BTreeMap::new();
            let mut numbers = fastrand::Rng::with_seed(seed);
            for step in 0..60 {
                let name = format!("k{}", numbers.u8(..6));
                let bytes = noise(seed * 1_000 + step, [900, 70_000, 1_200_000][numbers.usize(..3)]);
                let (put, _) = futures_util::future::join(machine.put(&name, &bytes), async {
                    if step % 5 == 0 { gc(&machine).await } else { dry_run(&machine).await }
                })
                .await;
                drop(put);
                model.insert(name, bytes);
            }
            for (name, bytes) in &model {
                assert!(machine.get_whole(name).await.unwrap() == *bytes, "seed={seed} {name}");
            }
            machine.core.store().shared().stop();
        });
    }
}
