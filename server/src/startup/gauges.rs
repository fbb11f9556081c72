//! What `/metrics` and `/readyz` say of drives, store, metadata and memory, read when somebody asks.
//! Invariants: reading touches only atomics and the newest view, so a scrape delays no request; names never change
//! their meaning.
//! Not here: what is measured per request (`s3::handlers::observe`).

use std::sync::Arc;

use fdb_schema::engine::embedded::{EmbeddedFactory, EmbeddedStats};
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use shardstore::{DriveInfo, DriveState, StoreShared, StoreStats};
use shardstore_reactor::BufPool;

use crate::admin::Live;

/// Name, help and source of one number.
type Row<S> = (&'static str, &'static str, fn(&S) -> u64);

const STORE_COUNTERS: &[Row<StoreStats>] = &[
    ("basalt_store_pages_read_total", "Device reads of pages or parts of pages", |s| s.pages_read),
    ("basalt_store_pages_rebuilt_total", "Pages rebuilt from parity for a reader", |s| s.pages_rebuilt),
    ("basalt_store_pages_corrupt_total", "Pages that did not verify", |s| s.pages_corrupt),
    ("basalt_store_flushes_total", "Flushes of small objects", |s| s.flushes),
    ("basalt_store_packed_extents_total", "Small objects flushed", |s| s.packed_extents),
    ("basalt_store_runs_rewritten_total", "Runs written again after a drive failed", |s| s.runs_rewritten),
    ("basalt_store_volumes_opened_total", "Volumes created", |s| s.volumes_opened),
    ("basalt_store_volumes_reclaimed_total", "Volumes whose files were removed", |s| s.volumes_reclaimed),
    ("basalt_store_data_ids_swept_total", "Data ids swept after deletion", |s| s.data_ids_swept),
    ("basalt_scrub_read_bytes_total", "Device bytes read by scrub", |s| s.scrubbed_bytes),
    ("basalt_scrub_pages_bad_total", "Pages found bad on drives that answer", |s| s.pages_bad),
    ("basalt_scrub_pages_mended_total", "Bad pages written anew that verify again", |s| s.pages_mended),
    ("basalt_scrub_stripes_lost_total", "Findings of stripes that parity cannot mend", |s| s.stripes_lost),
    ("basalt_repair_shards_total", "Shards made anew, or moved off a drive", |s| s.shards_repaired),
    ("basalt_compaction_volumes_total", "Sparse volumes emptied", |s| s.volumes_compacted),
    ("basalt_compaction_moved_bytes_total", "Live bytes moved out of sparse volumes", |s| s.compacted_bytes),
    ("basalt_repair_read_bytes_total", "Device bytes read by repair and evening out", |s| s.repair_bytes),
    ("basalt_balance_shards_total", "Shards moved from fuller drives to emptier ones", |s| s.shards_balanced),
];
const STORE_GAUGES: &[Row<StoreStats>] = &[
    ("basalt_cache_bytes", "Bytes in the page cache", |s| s.cache_bytes),
    ("basalt_scrub_last_full_seconds", "When the last full scrub ended, since 1970; 0: never", |s| {
        s.last_full_scrub_s
    }),
    ("basalt_repair_shards_left", "Shards that must be made anew", |s| s.shards_to_repair),
];
const METADATA_COUNTERS: &[Row<EmbeddedStats>] = &[
    ("basalt_metadata_commits_total", "Commits that succeeded", |s| s.commits),
    ("basalt_metadata_conflicts_total", "Commits that conflicted", |s| s.conflicts),
    ("basalt_metadata_refused_full_total", "Commits refused because the memtable was full", |s| {
        s.refused_full
    }),
    ("basalt_metadata_log_records_total", "Log records, each one batch of commits", |s| s.records),
    ("basalt_metadata_log_bytes_total", "Payload bytes of log records", |s| s.record_bytes),
    ("basalt_metadata_flushes_total", "Memtables written as runs", |s| s.flushes),
    ("basalt_metadata_flushed_bytes_total", "Payload bytes of flushed runs", |s| s.flushed_bytes),
    ("basalt_metadata_compactions_total", "Compactions installed", |s| s.compactions),
    ("basalt_metadata_compacted_bytes_total", "Payload bytes written by compactions", |s| s.compacted_bytes),
    ("basalt_metadata_failed_flushes_total", "Flushes and compactions tried again", |s| s.failed_flushes),
    ("basalt_metadata_runs_removed_total", "Runs removed after no view held them", |s| s.runs_removed),
];
const METADATA_GAUGES: &[Row<EmbeddedStats>] = &[
    ("basalt_metadata_queued_commits", "Commits waiting", |s| s.queued_commits as u64),
    ("basalt_metadata_memtable_bytes", "Memory of the memtables", |s| s.memtable_bytes as u64),
    ("basalt_metadata_memtable_rows", "Rows in the memtables, all versions", |s| s.memtable_rows as u64),
    ("basalt_metadata_runs", "Runs", |s| s.runs as u64),
    ("basalt_metadata_level0_runs", "Flushes not merged yet", |s| s.level0_runs as u64),
    ("basalt_metadata_run_memory_bytes", "Memory of the runs' indexes and filters", |s| {
        s.run_memory_bytes as u64
    }),
    ("basalt_metadata_read_only", "1 while writes are refused", |s| u64::from(s.read_only)),
];
const BUFFER_GAUGES: &[Row<BufPool>] = &[
    ("basalt_buffers_taken_bytes", "Buffer memory handed out", |b| b.taken_bytes() as u64),
    ("basalt_buffers_owned_bytes", "Buffer memory handed out or kept for reuse", |b| b.owned_bytes() as u64),
    ("basalt_buffers_budget_bytes", "The most that buffers may take", |b| b.budget_bytes() as u64),
];

/// The sources and the handles that their numbers go to.
pub(super) struct Gauges {
    store: Arc<StoreShared>,
    metadata: EmbeddedFactory,
    bufs: BufPool,
    store_counters: Vec<Counter>,
    store_gauges: Vec<Gauge>,
    metadata_counters: Vec<Counter>,
    metadata_gauges: Vec<Gauge>,
    buffer_gauges: Vec<Gauge>,
}

impl Gauges {
    pub(super) fn new(store: Arc<StoreShared>, metadata: EmbeddedFactory, bufs: BufPool) -> Gauges {
        describe_gauge!("basalt_drive_healthy", "1 while the drive takes reads and writes");
        Gauges {
            store_counters: counters(STORE_COUNTERS),
            store_gauges: gauges(STORE_GAUGES),
            metadata_counters: counters(METADATA_COUNTERS),
            metadata_gauges: gauges(METADATA_GAUGES),
            buffer_gauges: gauges(BUFFER_GAUGES),
            store,
            metadata,
            bufs,
        }
    }
}

impl Live for Gauges {
    fn publish(&self) {
        for drive in self.store.drives() {
            let healthy = if drive.state == DriveState::Healthy { 1.0 } else { 0.0 };
            gauge!("basalt_drive_healthy", "drive" => drive.label).set(healthy);
        }
        let store = self.store.stats();
        set_counters(&self.store_counters, STORE_COUNTERS, &store);
        set_gauges(&self.store_gauges, STORE_GAUGES, &store);
        let metadata = self.metadata.stats();
        set_counters(&self.metadata_counters, METADATA_COUNTERS, &metadata);
        set_gauges(&self.metadata_gauges, METADATA_GAUGES, &metadata);
        set_gauges(&self.buffer_gauges, BUFFER_GAUGES, &self.bufs);
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for DriveInfo { label: drive, state, .. } in self.store.drives() {
            match state {
                DriveState::Healthy => {}
                DriveState::Missing => notes.push(format!("missing drive: {drive}")),
                DriveState::Draining => notes.push(format!("drive being drained: {drive}")),
                DriveState::Removed => {}
                DriveState::Failed => notes.push(format!("drive taken out of use: {drive}")),
            }
        }
        let repair = self.store.repair_status();
        if repair.shards_left > 0 {
            notes.push(format!("repair: {} shards are to be made anew", repair.shards_left));
        }
        if !repair.waits_for.is_empty() {
            notes.push(format!("repair waits: {}", repair.waits_for));
        }
        if repair.volumes_lost > 0 {
            notes.push(format!(
                "repair: {} shards cannot be rebuilt, too little is left",
                repair.volumes_lost
            ));
        }
        if self.metadata.stats().read_only {
            notes.push("the metadata log is read-only: writes are refused".to_owned());
        }
        notes
    }
}

fn counters<S>(rows: &[Row<S>]) -> Vec<Counter> {
    let named = |&(name, help, _): &Row<S>| {
        describe_counter!(name, help);
        counter!(name)
    };
    rows.iter().map(named).collect()
}

fn gauges<S>(rows: &[Row<S>]) -> Vec<Gauge> {
    let named = |&(name, help, _): &Row<S>| {
        describe_gauge!(name, help);
        gauge!(name)
    };
    rows.iter().map(named).collect()
}

fn set_counters<S>(handles: &[Counter], rows: &[Row<S>], source: &S) {
    for (handle, (_, _, read)) in handles.iter().zip(rows) {
        handle.absolute(read(source));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; bytes beyond 2^53 may be rounded")]
fn set_gauges<S>(handles: &[Gauge], rows: &[Row<S>], source: &S) {
    for (handle, (_, _, read)) in handles.iter().zip(rows) {
        handle.set(read(source) as f64);
    }
}
