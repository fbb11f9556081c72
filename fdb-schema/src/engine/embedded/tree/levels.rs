//! The levels of a view: which runs there are, newest first.
//! Invariants: immutable; level 0 holds flushes, newest first, with ranges that may overlap; every deeper level holds
//! runs in key order with disjoint ranges; a row in a level shadows the same key in deeper ones.
//! Not here: what to merge next (`policy`), how (`compact`), the bytes (`manifest`).

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join_all;
use shardstore_format::{DriveId, VolumeId};

use super::error::TreeError;
use super::filter::hash_key;
use super::manifest::{Manifest, ManifestRun};
use super::policy::{Compaction, LEVELS_MAX};
use super::run::Run;
use crate::engine::ShardMove;
use crate::run_store::RunStore;

/// Runs opened at a time at start-up: each reads about 1 MiB.
const OPENS_AT_ONCE: usize = 16;

/// A level past 0, or one flush: runs in key order with disjoint ranges.
pub(crate) type SortedRuns = Arc<[Arc<Run>]>;

/// All runs of a view. Cheap to clone; `Send` and `Sync`.
#[derive(Clone, Debug, Default)]
pub struct Levels {
    /// One part a flush, newest first.
    level0: Vec<SortedRuns>,
    /// Levels 1 and up.
    deeper: Vec<SortedRuns>,
}

impl Levels {
    /// Opens every run that `manifest` names.
    ///
    /// # Errors
    /// [`TreeError`]: a run cannot be read or is not the one that the manifest describes.
    pub async fn open<R: RunStore>(store: &R, manifest: &Manifest) -> Result<Levels, TreeError> {
        let mut levels: Vec<Vec<Arc<Run>>> = Vec::new();
        for named in &manifest.levels {
            let mut opened = Vec::with_capacity(named.len());
            for group in named.chunks(OPENS_AT_ONCE) {
                opened.extend(try_join_all(group.iter().map(|run| open_named(store, run))).await?);
            }
            levels.push(opened);
        }
        let mut levels = levels.into_iter();
        let level0 = levels.next().unwrap_or_default();
        let deeper: Vec<SortedRuns> = levels.map(SortedRuns::from).collect();
        Ok(Levels { level0: level0.into_iter().map(|run| SortedRuns::from([run])).collect(), deeper })
    }

    /// The newest value of `key`: `None` if no run has it, `Some(None)` for a tombstone.
    /// Cost: a filter probe for each flush and level, and about one block.
    ///
    /// # Errors
    /// [`TreeError`]: see there.
    pub async fn get<R: RunStore>(&self, store: &R, key: &[u8]) -> Result<Option<Option<Bytes>>, TreeError> {
        let hash = hash_key(key);
        for runs in self.level0.iter().chain(&self.deeper) {
            let index = if runs.len() == 1 { 0 } else { runs.partition_point(|run| **run.last_key() < *key) };
            let Some(run) = runs.get(index) else { continue };
            if let Some(found) = run.get_hashed(store, key, hash).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// These levels and one more flush, newer than all others.
    #[must_use]
    pub fn with_flush(&self, run: Arc<Run>) -> Levels {
        let mut levels = self.clone();
        levels.level0.insert(0, SortedRuns::from([run]));
        levels
    }

    /// These levels with the inputs of `compaction` replaced by `outputs`. Flushes that came since it was picked stay.
    #[must_use]
    pub fn apply(&self, compaction: &Compaction, outputs: &[Arc<Run>]) -> Levels {
        let gone: Vec<&Arc<Run>> = compaction.inputs.iter().chain(&compaction.overlapped).collect();
        let is_gone = |run: &Arc<Run>| gone.iter().any(|other| Arc::ptr_eq(run, other));
        let run_count = self.runs().count();
        let mut levels = self.clone();
        levels.level0.retain(|runs| !runs.iter().any(is_gone));
        while levels.deeper.len() < compaction.target {
            levels.deeper.push(SortedRuns::from([]));
        }
        for (index, runs) in levels.deeper.iter_mut().enumerate() {
            let mut kept: Vec<Arc<Run>> = runs.iter().filter(|run| !is_gone(run)).cloned().collect();
            if index + 1 == compaction.target {
                kept.extend(outputs.iter().cloned());
                kept.sort_by(|a, b| a.first_key().cmp(b.first_key()));
            }
            *runs = kept.into();
        }
        while levels.deeper.last().is_some_and(|runs| runs.is_empty()) {
            levels.deeper.pop();
        }
        assert_eq!(levels.runs().count() + gone.len(), run_count + outputs.len(), "inputs are still there");
        levels.assert_disjoint();
        levels
    }

    /// The drive of a shard by the record of its run; `None` if no run here lies in that volume.
    pub(crate) fn shard_of(&self, moved: &ShardMove) -> Option<DriveId> {
        let run = self.runs().find(|run| run.volume().record.id == moved.volume)?;
        run.volume().record.segments.get(usize::from(moved.shard)).copied()
    }

    /// Whether a run in that volume has a shard on that drive.
    pub(crate) fn has_shard_on(&self, volume: VolumeId, drive: DriveId) -> bool {
        let run = self.runs().find(|run| run.volume().record.id == volume);
        run.is_some_and(|run| run.volume().record.segments.contains(&drive))
    }

    /// These levels with one shard of a run on another drive.
    #[must_use]
    pub(crate) fn with_moved(&self, moved: &ShardMove) -> Levels {
        let moved_run = |run: &Arc<Run>| match run.volume().record.id == moved.volume {
            true => Arc::new(run.with_shard_on(moved.shard, moved.to)),
            false => Arc::clone(run),
        };
        let part = |runs: &SortedRuns| runs.iter().map(moved_run).collect();
        Levels {
            level0: self.level0.iter().map(part).collect(),
            deeper: self.deeper.iter().map(part).collect(),
        }
    }

    fn assert_disjoint(&self) {
        assert!(self.deeper.len() < LEVELS_MAX);
        for runs in &self.deeper {
            debug_assert!(runs.windows(2).all(|pair| pair[0].last_key() < pair[1].first_key()));
        }
    }

    /// Every run, newest first.
    pub fn runs(&self) -> impl Iterator<Item = &Arc<Run>> {
        self.level0.iter().chain(&self.deeper).flat_map(|runs| runs.iter())
    }

    /// Flushes that are not yet merged.
    pub fn level0_count(&self) -> usize {
        self.level0.len()
    }

    /// The runs of a level, 0 included; empty past the deepest.
    pub fn level(&self, level: usize) -> Vec<Arc<Run>> {
        match level {
            0 => self.level0.iter().flat_map(|runs| runs.iter().cloned()).collect(),
            _ => self.deeper.get(level - 1).map(|runs| runs.to_vec()).unwrap_or_default(),
        }
    }

    /// Levels in use, counting level 0.
    pub fn level_count(&self) -> usize {
        1 + self.deeper.len()
    }

    /// Memory that indexes and filters hold.
    pub fn memory_bytes(&self) -> usize {
        self.runs().map(|run| run.memory_bytes()).sum()
    }

    /// What a manifest says of these levels.
    pub fn manifest_levels(&self) -> Vec<Vec<ManifestRun>> {
        let named = |run: &Arc<Run>| ManifestRun::of(run);
        (0..self.level_count()).map(|level| self.level(level).iter().map(named).collect()).collect()
    }

    /// Flushes and levels, newest first, each with disjoint ranges.
    pub(crate) fn sorted_parts(&self) -> impl Iterator<Item = SortedRuns> {
        self.level0.iter().chain(&self.deeper).filter(|runs| !runs.is_empty()).cloned()
    }
}

async fn open_named<R: RunStore>(store: &R, named: &ManifestRun) -> Result<Arc<Run>, TreeError> {
    let run = Run::open(store, named.volume.clone()).await?;
    if ManifestRun::of(&run) != *named {
        let what = "the run is not the one that the manifest names";
        return Err(TreeError::Damaged { volume: named.volume.record.id, offset_bytes: 0, what });
    }
    Ok(run)
}
