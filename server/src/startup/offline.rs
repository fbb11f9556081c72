//! What is done to the drives of a stopped server: looking whether all agrees.
//! Invariants: the directories are locked as a server locks them, so none runs meanwhile; a directory is never made or
//! formatted; nothing is served.
//! Not here: the work itself (`ops::fsck`).

use std::sync::Arc;
use std::sync::mpsc;

use fdb_schema::engine::embedded;
use shardstore::{Media, Offered, Pool, PoolOptions, StoreShared, look_at, open_pool};
use shardstore_format::FormatPhase;
use shardstore_reactor::{CoreConfig, CoreExecutor, Drive, RealDrive, RealDriveFactory, probe, spawn_core};

use super::budget::Budget;
use super::drives::{LockedDrives, lock_existing};
use super::{StartError, open_metadata, refused};
use crate::config::Config;
use crate::ops::{FsckReport, FsckScope, JobProgress, MetadataRuns, run_fsck};

/// Compares metadata and volumes on the drives of a stopped server, and changes nothing.
///
/// # Errors
/// [`StartError`]: a server has the drives, they are no pool, or metadata cannot be read.
pub fn fsck(config: Config) -> Result<FsckReport, StartError> {
    probe().map_err(refused)?;
    let locked = lock_existing(&config.drives)?;
    on_a_core("fsck", async move |executor| look(&config, &locked, &executor).await)
}

/// Runs work on a thread with a ring of its own, and waits for it.
pub(super) fn on_a_core<T: Send + 'static>(
    name: &str,
    work: impl AsyncFnOnce(CoreExecutor) -> Result<T, StartError> + Send + 'static,
) -> Result<T, StartError> {
    let (sender, receiver) = mpsc::channel();
    let thread = spawn_core(CoreConfig::new(None, name), move |executor| async move {
        drop(sender.send(work(executor).await));
    });
    let thread = thread.map_err(refused)?;
    let done = receiver.recv().map_err(|_| StartError("the work ended before its result".to_owned()))?;
    thread.join();
    done
}

async fn look(
    config: &Config,
    locked: &LockedDrives,
    executor: &CoreExecutor,
) -> Result<FsckReport, StartError> {
    let pool = formed_pool(locked, executor).await?;
    let budget = Budget::new(config.memory_bytes, config.cpus.len());
    let shared = StoreShared::new(&pool, budget.store_options());
    let media = Media::new(Arc::clone(&shared), &pool, executor.clone(), 0);
    let runs = MetadataRuns::new(media.clone());
    let looked =
        embedded::look(log_drives(&pool), pool.id(), runs.clone(), executor.clone(), budget.bufs()).await;
    let (tree, report) = looked.map_err(refused)?;
    for note in pool.notes().iter().chain(&report.notes) {
        tracing::warn!("{note}");
    }
    let metadata = open_metadata(tree.handle(runs, executor.clone()), executor).await?;
    let scope = FsckScope {
        metadata: &metadata,
        media: &media,
        runs: &|| tree.run_volumes(),
        executor,
        is_live: false,
    };
    run_fsck(scope, &JobProgress::default()).await.map_err(StartError)
}

pub(super) fn log_drives(pool: &Pool<RealDrive>) -> Vec<(shardstore_format::DriveId, RealDrive)> {
    pool.members().iter().filter_map(|member| Some((member.id, member.drive.clone()?))).collect()
}

/// The pool that the drives are of; refused if they were never formed into one.
pub(super) async fn formed_pool(
    locked: &LockedDrives,
    executor: &CoreExecutor,
) -> Result<Pool<RealDrive>, StartError> {
    let drives: Vec<RealDrive> = locked.factories().iter().map(RealDriveFactory::on_core).collect();
    let mut is_formed = false;
    for drive in &drives {
        let looked = look_at(drive).await.map_err(|error| {
            StartError(format!("{} cannot be read: {error}; look at the kernel's log", drive.label()))
        })?;
        is_formed |= matches!(&looked, Offered::Drive(identity) if identity.phase == FormatPhase::Ready);
    }
    if !is_formed {
        return Err(StartError(
            "none of the directories is a drive of a formed pool: name the drives as `basalt serve` does"
                .to_owned(),
        ));
    }
    let options = PoolOptions { redundancy: None, set_aside: locked.set_aside().to_vec() };
    open_pool(drives, options, executor).await.map_err(refused)
}
