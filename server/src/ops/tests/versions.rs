//! Versions end to end: their bytes stay through sweeps, compaction and restarts, census and fsck count them, and they
//! give their space back one by one.

use super::objects::entry;
use super::*;
use crate::ops::api::{DeleteEntry, ObjectLock, Retention, RetentionMode, VersionId, Versioning};
use crate::ops::{CensusProgress, FsckScope, JobProgress, run_fsck, take_census};

async fn read(machine: &Machine, name: &str, version: VersionId) -> Result<Vec<u8>, OpError> {
    let opened = machine.core.open_object(bucket(), key(name), Some(version)).await?;
    let size_bytes = opened.info().size_bytes;
    read_all(opened.read(0..size_bytes)).await
}

async fn remove(machine: &Machine, name: &str, version: VersionId, bypass_governance: bool) -> bool {
    let delete = DeleteEntry { version: Some(version), bypass_governance, ..entry(name) };
    match machine.core.delete_object(bucket(), delete).await {
        Ok(deleted) => deleted.existed,
        Err(error) => {
            assert_eq!(error, OpError::ObjectLocked);
            false
        }
    }
}

/// Everything that can be compared agrees, and so many objects and versions have their bytes in volumes.
async fn agree(machine: &Machine, stored: u64, inline: u64) {
    let media = machine.core.store().media();
    let census = take_census(machine.core.metadata(), &media, &CensusProgress::default()).await.unwrap();
    assert!(census.all_whole, "{census:?}");
    assert_eq!((census.objects.whole, census.inline_objects), (stored, inline));
    let scope = FsckScope {
        metadata: machine.core.metadata(),
        media: &media,
        runs: &Vec::new,
        executor: &machine.executor,
        is_live: true,
    };
    let report = run_fsck(scope, &JobProgress::default()).await.unwrap();
    assert!(report.all_agree, "{:?}", report.findings);
}

#[test]
fn hidden_versions_keep_their_bytes_over_sweeps_and_restarts_and_give_them_back_when_removed() {
    machine(1, 6, async |machine| {
        machine.core.set_versioning(bucket(), Versioning::Enabled).await.unwrap();
        let bodies: Vec<Vec<u8>> =
            [700, 5_000, 90_000, 1_300_000].into_iter().zip(0..).map(|(len, n)| noise(n, len)).collect();
        let mut versions = Vec::new();
        for bytes in &bodies {
            versions.push(machine.put("k", bytes).await.version.unwrap());
        }
        let hidden = machine.core.delete_object(bucket(), entry("k")).await.unwrap();
        assert!(hidden.is_marker);
        machine.clean().await;
        let machine = machine.restart().await;
        agree(&machine, 3, 1).await;
        assert!(matches!(machine.get_whole("k").await, Err(OpError::DeleteMarker { is_current: true, .. })));
        for (version, bytes) in versions.iter().zip(&bodies) {
            assert!(read(&machine, "k", *version).await.unwrap() == *bytes);
        }
        assert!(remove(&machine, "k", hidden.version.unwrap(), false).await);
        assert!(machine.get_whole("k").await.unwrap() == bodies[3], "the newest version is current again");
        assert!(remove(&machine, "k", versions[3], false).await);
        assert!(machine.get_whole("k").await.unwrap() == bodies[2]);
        machine.clean().await;
        assert_eq!(machine.space().await.0, 95_000, "what is left is what is named");
        agree(&machine, 2, 1).await;
        for version in &versions[..3] {
            assert!(remove(&machine, "k", *version, false).await);
        }
        machine.clean().await;
        assert_eq!(machine.space().await, (0, 0));
        machine.core.delete_bucket(bucket()).await.unwrap();
    });
}

#[test]
fn a_read_of_a_version_that_is_removed_meanwhile_ends_with_its_bytes() {
    machine(2, 6, async |machine| {
        machine.core.set_versioning(bucket(), Versioning::Enabled).await.unwrap();
        let bytes = noise(1, 2_000_000);
        let version = machine.put("k", &bytes).await.version.unwrap();
        machine.put("k", b"newer").await;
        let opened = machine.core.open_object(bucket(), key("k"), Some(version)).await.unwrap();
        assert!(remove(&machine, "k", version, false).await);
        machine.clean().await;
        assert!(read_all(opened.read(0..2_000_000)).await.unwrap() == bytes);
        machine.clean().await;
        assert_eq!(machine.space().await, (0, 0));
    });
}

#[test]
fn a_locked_version_outlives_every_way_to_free_space() {
    machine(3, 6, async |machine| {
        machine.core.set_versioning(bucket(), Versioning::Enabled).await.unwrap();
        machine.core.set_object_lock(bucket(), None).await.unwrap();
        let bytes = noise(1, 200_000);
        let until_ms = shardstore_reactor::Clock::unix_ms(&machine.executor) + 1_000_000;
        let retention = Some(Retention { mode: RetentionMode::Governance, until_ms });
        let lock = ObjectLock { retention, legal_hold: None };
        let locked = PutObject { lock, ..put("k", &bytes) };
        let version =
            machine.core.put_object(locked, &mut Body::whole(&bytes)).await.unwrap().version.unwrap();
        assert!(!remove(&machine, "k", version, false).await);
        machine.put("k", b"over it").await;
        machine.core.delete_object(bucket(), entry("k")).await.unwrap();
        assert!(machine.core.delete_bucket(bucket()).await.is_err());
        machine.clean().await;
        let machine = machine.restart().await;
        assert!(read(&machine, "k", version).await.unwrap() == bytes);
        assert!(remove(&machine, "k", version, true).await, "governance yields to who may bypass it");
        machine.clean().await;
        assert_eq!(machine.space().await, (0, 0));
    });
}
