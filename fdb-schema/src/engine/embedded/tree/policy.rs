//! What to merge next: a levelled tree with bounds that can be stated.
//!
//! Level 0 holds flushes of up to 64 MiB. Level i >= 1 holds disjoint runs of 64 MiB, [`LEVEL1_BYTES`] x
//! [`FANOUT`]^(i-1) in all. A level over its size gives one run to the next, the one that overlaps least there for its
//! size; a run that overlaps nothing moves without being written.
//!
//! - Runs per point read: every flush and one run a level, at most [`LEVEL0_STOP_RUNS`] + 5, in the usual state 4 + 3 for
//!   1e8 rows of 300 bytes. The filters turn that into 1 + 0.013 x the others blocks read.
//! - Write amplification: 1 for the flush, at most 2 into level 1 (4 flushes merge with as many bytes), at most
//!   [`FANOUT`] + 2 into each level after, half of that on average. In all, with random keys (the tests below make the
//!   sum): 1.8 for 1e6 rows, 5.6 for 1e7, 12.1 for 1e8; with increasing keys (data ids, owners) 1.9 for any number.
//! - Space amplification: what shadowed rows can take is level 0 and the levels above the deepest, 1/8 + 1/64 + ...
//!   of it, so 1.15 and at most 768 MiB of flushes; during a merge its outputs beside its inputs, some 600 MiB.
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

#[cfg(test)]
mod tests {
    //! The policy on made-up runs, which have a size and a key range and no rows.
    use bytes::Bytes;
    use shardstore_format::{DriveId, Profile, VolumeClass, VolumeId, VolumeRecord, VolumeState};

    use super::*;
    use crate::engine::embedded::tree::OUTPUT_TARGET_BYTES;
    use crate::engine::embedded::tree::filter::Filter;
    use crate::engine::embedded::tree::footer::{Footer, Part};
    use crate::engine::embedded::tree::index::Index;
    use crate::engine::embedded::tree::run::RunParts;
    use crate::run_store::RunVolume;

    fn made_up(first: u64, last: u64, len_bytes: u64) -> Arc<Run> {
        let record = VolumeRecord {
            id: VolumeId(1),
            profile: Profile { k: 1, m: 0 },
            class: VolumeClass::Run,
            state: VolumeState::Sealed { end_sector: 1 },
            segments: vec![DriveId(1)],
        };
        let part = Part { offset_bytes: 0, len_bytes: 0, crc: 0 };
        let rows = len_bytes / 300;
        let footer =
            Footer { index: part, filter: part, block_count: 1, rows, tombstones: 0, versions: 1..=1 };
        let key = |key: u64| Bytes::copy_from_slice(&key.to_be_bytes());
        let (index, filter) = (Index::default(), Filter::for_keys(1));
        let parts = RunParts { footer, index, filter, first_key: key(first), last_key: key(last) };
        Arc::new(Run::from_parts(RunVolume { record, len_bytes }, parts))
    }

    fn number(key: &Bytes) -> u64 {
        key.first_chunk().map_or(0, |key| u64::from_be_bytes(*key))
    }

    /// What a merge would write if rows lie evenly: the same bytes over the same range.
    fn merged(compaction: &Compaction) -> Vec<Arc<Run>> {
        if compaction.is_move() {
            return compaction.inputs.clone();
        }
        let all = || compaction.inputs.iter().chain(&compaction.overlapped);
        let first = all().map(|run| number(run.first_key())).min().unwrap_or(0);
        let last = all().map(|run| number(run.last_key())).max().unwrap_or(0);
        let count = compaction.input_bytes().div_ceil(OUTPUT_TARGET_BYTES);
        let step = (last - first) / count;
        (0..count)
            .map(|index| {
                let begin = first + index * step;
                let end = if index + 1 == count { last } else { begin + step - 1 };
                made_up(begin, end, compaction.input_bytes() / count)
            })
            .collect()
    }

    struct Load {
        levels: Levels,
        flushed_bytes: u64,
        written_bytes: u64,
        level0_most: usize,
        merge_most_bytes: u64,
    }

    /// Flushes `flush_count` memtables whose ranges `range` gives, compacting after each what is due.
    fn load(flush_count: u64, range: impl Fn(u64) -> (u64, u64)) -> Load {
        let mut load = Load {
            levels: Levels::default(),
            flushed_bytes: 0,
            written_bytes: 0,
            level0_most: 0,
            merge_most_bytes: 0,
        };
        for flush in 0..flush_count {
            let (first, last) = range(flush);
            load.levels = load.levels.with_flush(made_up(first, last, OUTPUT_TARGET_BYTES));
            load.flushed_bytes += OUTPUT_TARGET_BYTES;
            load.level0_most = load.level0_most.max(load.levels.level0_count());
            while let Some(compaction) = load.levels.pick_compaction() {
                if !compaction.is_move() {
                    load.written_bytes += compaction.input_bytes();
                    load.merge_most_bytes = load.merge_most_bytes.max(compaction.input_bytes());
                }
                load.levels = load.levels.apply(&compaction, &merged(&compaction));
            }
        }
        load
    }

    #[test]
    fn random_keys_are_rewritten_as_often_as_stated_and_level_0_stays_short() {
        // 64 MiB a flush: 1e6, 1e7 and 1e8 rows of 300 bytes are 4.5, 45 and 450 flushes.
        for (flushes, rewrites_max, levels_max) in [(5, 1, 3), (45, 5, 4), (450, 12, 5)] {
            let load = load(flushes, |_| (0, u64::MAX));
            let rewrites = load.written_bytes / load.flushed_bytes;
            assert!(rewrites <= rewrites_max, "{flushes} flushes: {rewrites}");
            assert!(load.levels.level_count() <= levels_max, "{flushes}: {}", load.levels.level_count());
            assert!(load.level0_most <= LEVEL0_DUE_RUNS);
            assert!(load.merge_most_bytes <= 10 * OUTPUT_TARGET_BYTES, "{}", load.merge_most_bytes >> 20);
        }
    }

    #[test]
    fn increasing_keys_are_written_twice() {
        let load = load(450, |flush| (flush << 32, (flush << 32) + 0xffff_ffff));
        let rewrites = load.written_bytes * 10 / load.flushed_bytes;
        assert!(rewrites <= 10, "{rewrites} tenths");
    }
}
