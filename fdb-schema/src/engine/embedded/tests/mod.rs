//! The embedded engine on simulated drives.
#![allow(clippy::unwrap_used, reason = "tests")]

mod engine;
mod model;

use shardstore_format::{DriveId, PoolId};
use shardstore_reactor::{BufPool, Executor};
use shardstore_sim::{Sim, SimDrive, SimExecutor};

use super::testing::MemoryRunStore;
use super::{EmbeddedConfig, EmbeddedFactory, LogDrives, Opened, open};

pub(super) type Handle = super::Embedded<MemoryRunStore, SimExecutor>;

const POOL: PoolId = PoolId(0xba5a);

pub(super) fn config(log_members: usize) -> EmbeddedConfig {
    EmbeddedConfig::new(log_members, b"volumes".to_vec())
}

pub(super) fn drives(sim: &Sim, count: u128) -> Vec<(DriveId, SimDrive)> {
    (1..=count).map(|id| (DriveId(id), sim.drive(&format!("seed{}-d{id}", sim.seed()), 1 << 30))).collect()
}

pub(super) async fn open_on(
    config: EmbeddedConfig,
    drives: &[(DriveId, SimDrive)],
    store: &MemoryRunStore,
    executor: &SimExecutor,
) -> Opened<SimDrive, MemoryRunStore, SimExecutor> {
    let buf_pool = BufPool::new(64 << 20);
    open(config, drives.to_vec(), POOL, store.clone(), executor.clone(), buf_pool).await.unwrap()
}

/// Opens, spawns the core and returns a handle.
pub(super) async fn start(
    config: EmbeddedConfig,
    drives: &[(DriveId, SimDrive)],
    store: &MemoryRunStore,
    executor: &SimExecutor,
) -> (EmbeddedFactory, Handle, LogDrives<SimDrive, SimExecutor>) {
    let (factory, core, report) = open_on(config, drives, store, executor).await;
    store.keep_only(&report.run_volumes);
    let log_drives = core.log_drives();
    executor.spawn(core.run());
    let handle = factory.handle(store.clone(), executor.clone());
    (factory, handle, log_drives)
}
