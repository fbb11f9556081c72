//! Behaviour of one open engine: conformance, flushes, compactions, pacing, limits.

use std::time::Duration;

use shardstore_reactor::Clock;
use shardstore_sim::Sim;

use super::super::testing::MemoryRunStore;
use super::super::{EmbeddedConfig, block_reads_of_thread};
use super::{config, drives, start};
use crate::engine::{Direction, Engine, EngineError, Isolation, RangeRead, Transaction, conformance};

fn small(log_members: usize) -> EmbeddedConfig {
    EmbeddedConfig { freeze_log_bytes: 16 * 1024, ..config(log_members) }
}

#[test]
fn the_embedded_engine_conforms() {
    for seed in 0..2 {
        let sim = Sim::new(seed);
        let executor = sim.executor();
        let drives = drives(&sim, 2);
        sim.block_on(async move {
            let store = MemoryRunStore::suspending();
            let (_factory, engine) = start(config(2), &drives, &store, &executor).await;
            conformance::run_all(&engine, &executor).await;
        });
    }
}

/// The suite with a memtable so small that nearly every case spans flushes and compactions.
#[test]
fn the_embedded_engine_conforms_across_flushes() {
    for seed in 0..2 {
        let sim = Sim::new(seed);
        let executor = sim.executor();
        let drives = drives(&sim, 2);
        sim.block_on(async move {
            let store = MemoryRunStore::suspending();
            let config = EmbeddedConfig { freeze_log_bytes: 64 * 1024, ..config(2) };
            let (factory, engine) = start(config, &drives, &store, &executor).await;
            conformance::run_all(&engine, &executor).await;
            assert!(factory.stats().flushes > 0);
        });
    }
}
