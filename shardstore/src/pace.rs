//! How fast background work goes: a budget of bytes a second, less while requests find the drives slower than usual.
//! Invariants: a step waits before it reads, never in the middle; work goes on at a sixteenth of its rate at worst, so
//! that it ends.
//! Not here: what the work is.

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shardstore_reactor::{Executor, MonotonicTime};

use crate::shared::StoreShared;

/// How often the latency of foreground reads is compared with what is usual.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Foreground reads may take so many times what is usual before background work gives way.
const SLOWER_MAX: u64 = 2;
/// What is usual rises by a 64th a look, so that a drive which became slower for good does not hold up work for ever.
const USUAL_RISE_DIVISOR: u64 = 64;
/// The rate is halved at most so often.
const HALVINGS_MAX: u32 = 4;

/// The pace of one background task.
pub(crate) struct Pace {
    /// When the next step may begin.
    free_at: Cell<u64>,
    halvings: Cell<u32>,
    looked_at: Cell<MonotonicTime>,
    /// Mean foreground read in microseconds, at its best lately; 0 before there was any.
    usual_micros: Cell<u64>,
    reads_before: Cell<(u64, u64)>,
}

impl Pace {
    pub(crate) fn new(now: MonotonicTime) -> Pace {
        Pace {
            free_at: Cell::new(0),
            halvings: Cell::new(0),
            looked_at: Cell::new(now),
            usual_micros: Cell::new(0),
            reads_before: Cell::new((0, 0)),
        }
    }

    /// Waits until another `bytes` fit into `bytes_per_s`.
    pub(crate) async fn take<X: Executor>(
        &self,
        shared: &StoreShared,
        executor: &X,
        bytes: u64,
        bytes_per_s: u64,
    ) {
        let now = executor.now();
        self.look(shared, now);
        let rate = (bytes_per_s >> self.halvings.get()).max(1);
        let begin = self.free_at.get().max(now.micros);
        self.free_at.set(begin + bytes.saturating_mul(1_000_000) / rate);
        if begin > now.micros {
            executor.sleep(Duration::from_micros(begin - now.micros)).await;
        }
    }

    fn look(&self, shared: &StoreShared, now: MonotonicTime) {
        if now.since(self.looked_at.get()) < LOOK_INTERVAL {
            return;
        }
        self.looked_at.set(now);
        let reads = shared.counts.foreground_reads.load(Ordering::Relaxed);
        let micros = shared.counts.foreground_read_micros.load(Ordering::Relaxed);
        let (reads_before, micros_before) = self.reads_before.replace((reads, micros));
        let count = reads.saturating_sub(reads_before);
        if count == 0 {
            self.halvings.set(0);
            return;
        }
        let mean = (micros.saturating_sub(micros_before) / count).max(1);
        let usual = match self.usual_micros.get() {
            0 => mean,
            usual => (usual + usual / USUAL_RISE_DIVISOR + 1).min(mean.max(1)),
        };
        self.usual_micros.set(usual);
        let halvings = self.halvings.get();
        self.halvings.set(if mean > usual * SLOWER_MAX {
            HALVINGS_MAX.min(halvings + 1)
        } else {
            halvings.saturating_sub(1)
        });
    }
}
