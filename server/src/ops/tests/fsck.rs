//! fsck over simulated drives: whole pools agree while work goes on, and each file that contradicts metadata is named.

use std::time::Duration;

use fdb_schema::{Engine as _, Isolation, RangeRead, Transaction};
use shardstore_reactor::{Clock, Drive, DriveFile, OpenMode};

use super::objects::entry;
use super::*;
use crate::ops::{FsckFinding, FsckReport, FsckScope, JobProgress, run_fsck};

pub(super) async fn fsck(machine: &Machine, is_live: bool) -> FsckReport {
    let media = machine.core.store().media();
    let scope = FsckScope {
        metadata: machine.core.metadata(),
        media: &media,
        runs: &Vec::new,
        executor: &machine.executor,
        is_live,
    };
    run_fsck(scope, &JobProgress::default()).await.unwrap()
}

pub(super) fn kinds(report: &FsckReport) -> Vec<&'static str> {
    report.findings.iter().map(|finding| finding.kind).collect()
}

async fn fill(machine: &Machine) {
    for (n, len) in [0, 700, 5_000, 90_000, 1_300_000, 3_000_000].into_iter().enumerate() {
        machine.put(&format!("k{n}"), &noise(n as u64, len)).await;
    }
}

/// The first segment file on some drive.
async fn some_segment(machine: &Machine) -> (SimDrive, String) {
    for drive in &machine.drives {
        let mut names = drive.list("segments").await.unwrap();
        names.sort();
        if let Some(name) = names.first() {
            return (drive.clone(), format!("segments/{name}"));
        }
    }
    panic!("something was put");
}

#[test]
fn a_whole_pool_agrees_and_everything_in_it_is_counted() {
    machine(1, 6, async |machine| {
        fill(&machine).await;
        let report = fsck(&machine, true).await;
        assert!(report.all_agree, "{report:?}");
        assert_eq!((report.names, report.byte_sequences, report.findings_count), (6, 4, 0));
        assert_eq!(report.extents, report.owners);
        assert_eq!(report.segment_files, report.volumes * 6);
        machine.core.store().seal_open().await;
        assert!(fsck(&machine, false).await.all_agree);
    });
}

#[test]
fn work_that_goes_on_is_no_finding() {
    for seed in 0..10 {
        machine(seed, 6, async |machine| {
            fill(&machine).await;
            machine.core.spawn_background(true);
            let working = async {
                let mut numbers = fastrand::Rng::with_seed(seed);
                for step in 0..150 {
                    let name = format!("k{}", numbers.u8(..6));
                    match numbers.u8(..3) {
                        0 => drop(machine.core.delete_object(bucket(), entry(&name)).await.unwrap()),
                        _ => drop(
                            machine
                                .put(&name, &noise(step, [900, 70_000, 1_200_000][numbers.usize(..3)]))
                                .await,
                        ),
                    }
                    machine.executor.sleep(Duration::from_millis(numbers.u64(..200))).await;
                }
            };
            let looking = async {
                for _ in 0..5 {
                    let report = fsck(&machine, true).await;
                    assert!(report.all_agree, "seed={seed} {:?}", report.findings);
                    machine.executor.sleep(Duration::from_secs(1)).await;
                }
            };
            futures_util::future::join(working, looking).await;
            machine.core.store().shared().stop();
        });
    }
}

#[test]
fn shards_that_move_are_no_finding() {
    machine(5, 8, async |machine| {
        for n in 0..12 {
            machine.put(&format!("k{n}"), &noise(n, 3_000_000)).await;
        }
        machine.core.store().seal_open().await;
        let shared = std::sync::Arc::clone(machine.core.store().shared());
        let full = shared.drives().into_iter().max_by_key(|drive| shared.shards_on(drive.id)).unwrap().id;
        machine.core.spawn_background(true);
        shared.set_draining(full, true);
        shared.repair_without(full);
        let mut looks = 0;
        while shared.shards_on(full) > 0 {
            let report = fsck(&machine, true).await;
            assert!(report.all_agree, "{:?}", report.findings);
            machine.executor.sleep(Duration::from_millis(100)).await;
            looks += 1;
        }
        assert!(looks > 0, "something was to be moved");
        assert!(fsck(&machine, true).await.all_agree);
        shared.stop();
    });
}

#[test]
fn files_that_are_missing_short_or_left_over_are_named() {
    machine(2, 6, async |machine| {
        fill(&machine).await;
        machine.core.store().seal_open().await;
        let (drive, path) = some_segment(&machine).await;
        let file = drive.open(&path, OpenMode::ReadWrite).await.unwrap();
        let len_bytes = file.len_bytes().await.unwrap();
        file.set_len(len_bytes - 4096).await.unwrap();
        let report = fsck(&machine, true).await;
        assert_eq!(kinds(&report), ["file"]);
        let said = &report.findings[0].what;
        assert!(
            said.contains(&path) && said.contains(drive.label()) && said.contains("scrub start"),
            "{said}"
        );
        drive.remove(&path).await.unwrap();
        let report = fsck(&machine, true).await;
        assert!(report.findings[0].what.contains("named and not there"), "{report:?}");
        assert_eq!(report.findings_count, 1);
        let left_over = "segments/0000000000000000.05";
        drive.open(left_over, OpenMode::CreateNew).await.unwrap();
        drive.open("segments/notes.txt", OpenMode::CreateNew).await.unwrap();
        let beyond = "segments/00000000ffffffff.00";
        drive.open(beyond, OpenMode::CreateNew).await.unwrap();
        let report = fsck(&machine, true).await;
        assert!(report.findings.iter().any(|finding| finding.what.contains("left over")), "{report:?}");
        assert!(report.findings.iter().any(|finding| finding.what.contains("notes.txt")), "{report:?}");
        assert!(report.findings.iter().any(|finding| finding.what.contains("went back")), "{report:?}");
        assert_eq!(report.findings_count, 4);
    });
}

#[test]
fn rows_that_contradict_each_other_are_told_with_the_objects_name() {
    machine(3, 6, async |machine| {
        fill(&machine).await;
        // Every owner row of the pool goes.
        let mut txn = machine.engine.begin();
        let owners = RangeRead {
            begin: Bytes::from_static(&[0x42]),
            end: Bytes::from_static(&[0x43]),
            limit: 1_000,
            direction: fdb_schema::Direction::Forward,
            isolation: Isolation::Snapshot,
        };
        let rows = txn.range(owners).await.unwrap();
        txn.clear_range(&[0x42], &[0x43]);
        txn.commit().await.unwrap();
        let report = fsck(&machine, true).await;
        let lost = kinds(&report).iter().filter(|kind| **kind == "byte sequence").count();
        assert_eq!(lost, rows.len());
        assert!(kinds(&report).contains(&"live bytes") && !report.all_agree);
        let mut txn = machine.engine.begin();
        rows.iter().for_each(|row| txn.set(&row.key, &row.value));
        // The bytes of all objects go.
        txn.clear_range(&[0x20], &[0x21]);
        txn.commit().await.unwrap();
        let report = fsck(&machine, true).await;
        assert!(
            report.findings.iter().any(|finding| finding.what.starts_with("object bucket/k5 ")),
            "{report:?}"
        );
        assert!(kinds(&report).contains(&"owner"), "{report:?}");
    });
}

#[test]
fn a_count_of_names_that_is_wrong_is_told_with_the_names() {
    machine(4, 6, async |machine| {
        fill(&machine).await;
        let mut txn = machine.engine.begin();
        let objects = RangeRead {
            begin: Bytes::from_static(&[0x11]),
            end: Bytes::from_static(&[0x12]),
            limit: 1_000,
            direction: fdb_schema::Direction::Forward,
            isolation: Isolation::Snapshot,
        };
        let rows = txn.range(objects).await.unwrap();
        let twin = [&rows[5].key[..], b"-twin"].concat();
        txn.set(&twin, &rows[5].value);
        txn.clear(&rows[4].key);
        txn.commit().await.unwrap();
        let report = fsck(&machine, false).await;
        assert_eq!(kinds(&report), ["usage", "references", "references"]);
        let said: Vec<&str> = report.findings.iter().map(|finding| finding.what.as_str()).collect();
        assert!(said.iter().any(|what| what.contains("count 1 names and have 0;")), "{said:?}");
        let both = "count 1 names and have 2 (bucket/k5, bucket/k5-twin)";
        assert!(said.iter().any(|what| what.contains(both)), "{said:?}");
    });
}

/// The rows of a kind, by the first byte of their keys.
async fn rows_of(machine: &Machine, kind: u8) -> Vec<fdb_schema::Row> {
    let range = RangeRead {
        begin: Bytes::copy_from_slice(&[kind]),
        end: Bytes::copy_from_slice(&[kind + 1]),
        limit: 1_000,
        direction: fdb_schema::Direction::Forward,
        isolation: Isolation::Snapshot,
    };
    machine.engine.begin().range(range).await.unwrap()
}

#[test]
fn a_buckets_usage_that_is_not_what_it_holds_is_told_and_one_without_a_bucket() {
    machine(5, 6, async |machine| {
        fill(&machine).await;
        let usages = rows_of(&machine, 0x13).await;
        let mut txn = machine.engine.begin();
        txn.atomic_add(&usages[0].key, 2);
        let mut of_nobody = usages[0].key.to_vec();
        of_nobody[1..9].copy_from_slice(&77u64.to_be_bytes());
        txn.set(&of_nobody, &usages[0].value);
        txn.commit().await.unwrap();
        let report = fsck(&machine, true).await;
        assert_eq!(kinds(&report), ["usage", "usage"]);
        let said: Vec<&str> = report.findings.iter().map(|finding| finding.what.as_str()).collect();
        assert!(said[0].starts_with("bucket bucket is said to hold 8 objects of "), "{said:?}");
        assert!(said[0].contains(" and holds 6 of "), "{said:?}");
        assert!(
            said[1].starts_with("the usage of bucket number 77 is kept and there is no such"),
            "{said:?}"
        );
    });
}

#[test]
fn usage_rows_that_cannot_be_decoded_are_told_and_all_else_is_compared() {
    machine(7, 6, async |machine| {
        fill(&machine).await;
        let (usages, owners) = (rows_of(&machine, 0x13).await, rows_of(&machine, 0x42).await);
        let mut txn = machine.engine.begin();
        txn.set(&usages[0].key, b"odd");
        txn.set(&[0x13; 3], &usages[0].value);
        txn.clear(&owners[0].key);
        txn.commit().await.unwrap();
        let report = fsck(&machine, true).await;
        let unreadable =
            |finding: &&FsckFinding| finding.kind == "usage" && finding.what.contains("cannot be decoded");
        assert_eq!(report.findings.iter().filter(unreadable).count(), 2, "{report:?}");
        assert!(kinds(&report).contains(&"byte sequence"), "what comes after usages is compared: {report:?}");
    });
}

#[test]
fn bytes_that_lie_over_others_are_told() {
    machine(6, 6, async |machine| {
        fill(&machine).await;
        let owners = rows_of(&machine, 0x42).await;
        let mut txn = machine.engine.begin();
        // The same bytes once more, one further: the place ends the key, and in the value it follows version and sector.
        let (mut key, mut value) = (owners[0].key.to_vec(), owners[0].value.to_vec());
        let byte_in_key = key.len() - 4;
        let byte = u32::from_be_bytes(key[byte_in_key..].try_into().unwrap()) + 1;
        key[byte_in_key..].copy_from_slice(&byte.to_be_bytes());
        value[13..17].copy_from_slice(&byte.to_le_bytes());
        txn.set(&key, &value);
        txn.commit().await.unwrap();
        let report = fsck(&machine, true).await;
        let said: Vec<&str> = report
            .findings
            .iter()
            .filter(|found| found.kind == "overlap")
            .map(|found| &found.what[..])
            .collect();
        assert!(said.len() == 1 && said[0].contains("lie in the same place"), "{report:?}");
        // Its length is counted nowhere, and its byte sequence does not have it.
        assert!(kinds(&report).contains(&"owner") && kinds(&report).contains(&"live bytes"), "{report:?}");
    });
}
