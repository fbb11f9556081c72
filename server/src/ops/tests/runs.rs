//! Metadata runs over the store: written, read at any place with drives missing, removed.

use fdb_schema::{RunError, RunStore, RunWriter};

use super::*;
use crate::ops::MetadataRuns;

#[test]
fn a_run_reads_back_at_any_place_with_any_m_drives_missing_and_is_removed() {
    machine(1, 6, async |machine| {
        let runs = MetadataRuns::new(machine.core.store().media());
        let bytes = noise(1, 3_000_000);
        let volume = machine.core.metadata().allocate_volume_ids(1).await.unwrap();
        let mut writer = runs.create(volume).await.unwrap();
        for piece in bytes.chunks(10_007) {
            writer.append(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        let run = writer.finish().await.unwrap();
        assert_eq!((run.record.id, run.len_bytes), (volume, 3_000_000));
        for (at, len) in [(0, 65_472), (65_471, 2), (2_999_999, 1), (1_000_000, 200_000), (5, 0)] {
            let got = runs.read(&run, at as u64, len).await.unwrap();
            assert_eq!(got, bytes[at..at + len], "{at} {len}");
        }
        let past = runs.read(&run, 2_999_999, 2).await;
        assert!(matches!(past, Err(RunError::Damaged { .. })), "no byte is made up");

        // Another start, with two drives gone.
        let Machine { drives, engine, executor, core } = machine;
        drop((core, runs));
        let left: Vec<SimDrive> = drives[2..].iter().map(SimDrive::reopen).collect();
        let core = start(&left, &engine, &executor, std::slice::from_ref(&run.record)).await;
        let runs = MetadataRuns::new(core.store().media());
        let got = runs.read(&run, 0, bytes.len()).await.unwrap();
        assert!(got == bytes, "degraded");
        runs.remove(&run).await.unwrap();
    });
}
