//! What to merge next: a levelled tree with bounds that can be stated.
//!
//! Level 0 holds flushes of up to 64 MiB. Level i >= 1 holds disjoint runs of 64 MiB, [`LEVEL1_BYTES`] x
//! [`FANOUT`]^(i-1) in all. A level over its size gives one run to the next, the one that overlaps least there for its
//! size; a run that overlaps nothing moves without being written.
//!
//! - Runs per point read: every flush and one run a level, at most [`LEVEL0_STOP_RUNS`] + 5, in the usual state 4 + 3 for
//!   1e8 rows of 300 bytes. The filters turn that into 1 + 0.013 x the others blocks read.
//! - Write amplification: 1 for the flush, at most 2 into level 1 (4 flushes merge with as many bytes), at most
//!   [`FANOUT`] + 2 into each level after; a level is on average half full of its ratio, so about 5. With 1e6 rows: 3 to
//!   8; 1e7: 8 to 13; 1e8: 13 to 18. Rows with increasing keys (data ids, owners) move and are written twice.
//! - Space amplification: what shadowed rows can take is level 0 and the levels above the deepest, 1/8 + 1/64 + ...
//!   of it, so 1.15 and at most 768 MiB of flushes; during a merge its outputs beside its inputs, 12 runs.
//!
//! Invariants: flushes merge oldest first and all together, so that level 0 shadows level 1; one compaction at a time.

use std::sync::Arc;

use super::levels::Levels;
use super::run::Run;

/// Levels, level 0 included: 256 MiB x 8^5 is 8 TiB in the deepest.
pub const LEVELS_MAX: usize = 7;
/// Flushes that make a merge due.
const LEVEL0_DUE_RUNS: usize = 4;
/// Flushes from which commits should be paced.
const LEVEL0_SLOW_RUNS: usize = 8;
/// Flushes at which commits should wait for a merge.
pub(crate) const LEVEL0_STOP_RUNS: usize = 12;
/// Flushes merged at once: bounds the work of one compaction.
const LEVEL0_INPUTS_MAX: usize = 8;
/// What level 1 holds.
const LEVEL1_BYTES: u64 = 256 * 1024 * 1024;
/// How much more each level holds than the one above.
const FANOUT: u64 = 8;

/// Which runs to merge, and where to.
#[derive(Clone, Debug)]
pub struct Compaction {
    /// The level that the inputs come from.
    pub level: usize,
    /// The level that the outputs go to.
    pub target: usize,
    /// Runs of `level`, newest first.
    pub inputs: Vec<Arc<Run>>,
    /// Runs of `target` that overlap them, in key order; they come back within the outputs.
    pub overlapped: Vec<Arc<Run>>,
}

impl Compaction {
    /// Bytes to read.
    pub fn input_bytes(&self) -> u64 {
        self.inputs.iter().chain(&self.overlapped).map(|run| run.len_bytes()).sum()
    }

    /// The inputs can change level as they are.
    pub fn is_move(&self) -> bool {
        self.overlapped.is_empty() && self.inputs.len() == 1 && !is_mostly_tombstones(&self.inputs[0])
    }
}

/// How far compaction is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backlog {
    /// Commit at will.
    None,
    /// Pace commits to the compaction's progress.
    Slow,
    /// Flush no more until a compaction ended.
    Stop,
}

impl Levels {
    /// How far compaction is behind.
    pub fn backlog(&self) -> Backlog {
        match self.level0_count() {
            LEVEL0_STOP_RUNS.. => Backlog::Stop,
            LEVEL0_SLOW_RUNS.. => Backlog::Slow,
            _ => Backlog::None,
        }
    }

    /// The most urgent compaction, if any is due.
    pub fn pick_compaction(&self) -> Option<Compaction> {
        let deepest = self.level_count() - 1;
        // In 1/1000 of what the level may hold.
        let fullness = |level: usize| {
            if level == 0 {
                return self.level0_count() as u64 * 1000 / LEVEL0_DUE_RUNS as u64;
            }
            let bytes: u64 = self.level(level).iter().map(|run| run.len_bytes()).sum();
            bytes / (level_bytes(level) / 1000)
        };
        let fullest = (0..=deepest.min(LEVELS_MAX - 2)).max_by_key(|&level| (fullness(level), level))?;
        if fullness(fullest) >= 1000 {
            return Some(if fullest == 0 { self.merge_flushes() } else { self.move_down(fullest)? });
        }
        self.drop_tombstones()
    }

    fn merge_flushes(&self) -> Compaction {
        let flushes = self.level(0);
        let oldest = flushes.len().saturating_sub(LEVEL0_INPUTS_MAX);
        self.compaction(0, flushes[oldest..].to_vec())
    }

    /// The run of `level` that overlaps the fewest bytes below for its own.
    fn move_down(&self, level: usize) -> Option<Compaction> {
        let below = self.level(level + 1);
        let cost = |run: &Arc<Run>| {
            let overlapped = overlapping(&below, run.first_key(), run.last_key());
            let bytes: u64 = overlapped.iter().map(|run| run.len_bytes()).sum();
            bytes * 1000 / run.len_bytes().max(1)
        };
        let cheapest = self.level(level).into_iter().min_by_key(cost)?;
        Some(self.compaction(level, vec![cheapest]))
    }

    /// With nothing else due, a run of mostly tombstones goes down, so that scans need not pass them for ever.
    fn drop_tombstones(&self) -> Option<Compaction> {
        (1..self.level_count()).find_map(|level| {
            let run = self.level(level).into_iter().find(|run| is_mostly_tombstones(run))?;
            // In the deepest level they are dropped in place.
            let in_place = level + 1 == self.level_count();
            Some(if in_place {
                Compaction { level, target: level, inputs: vec![run], overlapped: Vec::new() }
            } else {
                self.compaction(level, vec![run])
            })
        })
    }

    pub(crate) fn compaction(&self, level: usize, inputs: Vec<Arc<Run>>) -> Compaction {
        let target = level + 1;
        let first = inputs.iter().map(|run| run.first_key()).min().cloned().unwrap_or_default();
        let last = inputs.iter().map(|run| run.last_key()).max().cloned().unwrap_or_default();
        let overlapped = overlapping(&self.level(target), &first, &last);
        Compaction { level, target, inputs, overlapped }
    }
}

fn level_bytes(level: usize) -> u64 {
    assert!(level >= 1);
    (1..level).fold(LEVEL1_BYTES, |bytes, _| bytes * FANOUT)
}

fn is_mostly_tombstones(run: &Run) -> bool {
    run.tombstones() * 2 > run.rows()
}

pub(crate) fn overlapping(runs: &[Arc<Run>], first: &[u8], last: &[u8]) -> Vec<Arc<Run>> {
    runs.iter().filter(|run| run.overlaps(first, last)).cloned().collect()
}
