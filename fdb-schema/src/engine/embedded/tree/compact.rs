//! Writes runs: a flush of a memtable, and the merge of a compaction.
//! Invariants: the outputs hold exactly the newest row of every key of the inputs, less the tombstones that shadow
//! nothing deeper; no output is named before all are durable; at most [`PACE_BYTES`] of rows pass between two calls of
//! the pacer, under 1 ms of work, so a commit on the same thread is not held up longer.
//! Not here: when (`policy`), the switch of the view (`Levels::apply`), removal of the inputs.

use std::ops::RangeInclusive;
use std::sync::Arc;

use shardstore_format::VolumeId;

use super::build::RunBuilder;
use super::error::TreeError;
use super::levels::{Levels, SortedRuns};
use super::merge::{MergeCursor, NoMemtable, SortedSource};
use super::policy::Compaction;
use super::run::Run;
use crate::engine::Direction;
use crate::run_store::RunStore;

/// An output is closed at the first row past this much payload.
pub const OUTPUT_TARGET_BYTES: u64 = 64 * 1024 * 1024;
/// Rows, keys and values, between two calls of the pacer: 0.3 ms at 400 MB/s.
pub const PACE_BYTES: u64 = 128 * 1024;
/// What a row costs the pacer beside its bytes, so that tiny rows pace as well.
const ROW_COST_BYTES: u64 = 64;
/// An output is closed as well where it would overlap more than this in the level after: bounds the next merge.
const OVERLAP_MAX_BYTES: u64 = 10 * OUTPUT_TARGET_BYTES;

/// Writes all rows of `source`, tombstones too, as one run: a flush. `None` if there are no rows.
///
/// `volume` takes an id from the volume counter; `pace` is told the bytes passed since it was last called.
///
/// # Errors
/// [`TreeError`]: nothing was made; what was written is freed with its volume. Try again.
pub async fn write_runs<R: RunStore, S: SortedSource>(
    store: &R,
    source: &mut S,
    versions: RangeInclusive<u64>,
    mut volume: impl AsyncFnMut() -> Result<VolumeId, TreeError>,
    mut pace: impl AsyncFnMut(u64),
) -> Result<Option<Arc<Run>>, TreeError> {
    source.seek(&[], Direction::Forward);
    if source.key().is_none() {
        return Ok(None);
    }
    let id = volume().await?;
    let mut builder = RunBuilder::new(store.create(id).await?, id);
    let mut passed_bytes = 0;
    while let Some(key) = source.key() {
        let value = source.value();
        passed_bytes += row_bytes(key, value.as_deref());
        builder.add(key, value.as_deref()).await?;
        source.step();
        if passed_bytes >= PACE_BYTES {
            pace(std::mem::take(&mut passed_bytes)).await;
        }
    }
    builder.finish_paced(versions, &mut pace).await.map(Some)
}

/// Merges the inputs of `compaction` as `levels` had them when it was picked; returns what takes their place.
/// A mere move returns the input itself and writes nothing.
///
/// # Errors
/// [`TreeError`]: the inputs stay; outputs written so far are abandoned, their volumes named nowhere. Try again.
pub async fn compact<R: RunStore>(
    store: &R,
    levels: &Levels,
    compaction: &Compaction,
    mut volume: impl AsyncFnMut() -> Result<VolumeId, TreeError>,
    mut pace: impl AsyncFnMut(u64),
) -> Result<Vec<Arc<Run>>, TreeError> {
    if compaction.is_move() {
        return Ok(compaction.inputs.clone());
    }
    let merged = inputs_of(compaction);
    let versions = versions_of(compaction);
    let mut cursor = MergeCursor::<NoMemtable>::of_parts(merged, Direction::Forward);
    let mut shadow =
        Deeper::new((compaction.target + 1..levels.level_count()).map(|level| levels.level(level)));
    let mut overlap = Overlap::new(levels.level(compaction.target + 1));
    let mut outputs = Vec::new();
    let mut builder: Option<RunBuilder<R::Writer>> = None;
    let mut passed_bytes = 0;
    cursor.seek(store, &[]).await?;
    while let Some(key) = cursor.key() {
        let value = cursor.value();
        passed_bytes += row_bytes(key, value.as_deref());
        if value.is_some() || shadow.may_hold(key) {
            let full = builder.as_ref().is_some_and(|open| open.payload_bytes() >= OUTPUT_TARGET_BYTES);
            if (overlap.pass(key) || full)
                && let Some(open) = builder.take()
            {
                outputs.push(open.finish_paced(versions.clone(), &mut pace).await?);
                overlap.begin_output();
            }
            if builder.is_none() {
                let id = volume().await?;
                builder = Some(RunBuilder::new(store.create(id).await?, id));
            }
            if let Some(open) = builder.as_mut() {
                open.add(key, value.as_deref()).await?;
            }
        }
        cursor.next(store).await?;
        if passed_bytes >= PACE_BYTES {
            pace(std::mem::take(&mut passed_bytes)).await;
        }
    }
    if let Some(open) = builder {
        outputs.push(open.finish_paced(versions, &mut pace).await?);
    }
    Ok(outputs)
}

fn row_bytes(key: &[u8], value: Option<&[u8]>) -> u64 {
    (key.len() + value.map_or(0, <[u8]>::len)) as u64 + ROW_COST_BYTES
}

/// Newest first: flushes one by one, a level's runs together, then what they overlap.
fn inputs_of(compaction: &Compaction) -> Vec<SortedRuns> {
    let mut parts: Vec<SortedRuns> = if compaction.level == 0 {
        compaction.inputs.iter().map(|run| SortedRuns::from([Arc::clone(run)])).collect()
    } else {
        vec![compaction.inputs.clone().into()]
    };
    parts.push(compaction.overlapped.clone().into());
    parts
}

fn versions_of(compaction: &Compaction) -> RangeInclusive<u64> {
    let all = || compaction.inputs.iter().chain(&compaction.overlapped).map(|run| run.versions());
    let lowest = all().map(|versions| *versions.start()).min().unwrap_or(0);
    let highest = all().map(|versions| *versions.end()).max().unwrap_or(0);
    lowest..=highest
}

/// The levels below the target, asked about increasing keys.
struct Deeper {
    levels: Vec<(Vec<Arc<Run>>, usize)>,
}

impl Deeper {
    fn new(levels: impl Iterator<Item = Vec<Arc<Run>>>) -> Deeper {
        Deeper { levels: levels.map(|runs| (runs, 0)).collect() }
    }

    /// Whether a deeper run's range holds `key`, so that a tombstone for it must stay.
    fn may_hold(&mut self, key: &[u8]) -> bool {
        self.levels.iter_mut().any(|(runs, at)| {
            while runs.get(*at).is_some_and(|run| **run.last_key() < *key) {
                *at += 1;
            }
            runs.get(*at).is_some_and(|run| **run.first_key() <= *key)
        })
    }
}

/// How much of the level after the target the open output overlaps.
struct Overlap {
    runs: Vec<Arc<Run>>,
    at: usize,
    bytes: u64,
}

impl Overlap {
    fn new(runs: Vec<Arc<Run>>) -> Overlap {
        Overlap { runs, at: 0, bytes: 0 }
    }

    /// Notes the next key; true if the output should end before it.
    fn pass(&mut self, key: &[u8]) -> bool {
        while let Some(run) = self.runs.get(self.at)
            && **run.last_key() < *key
        {
            self.bytes += run.len_bytes();
            self.at += 1;
        }
        self.bytes >= OVERLAP_MAX_BYTES
    }

    fn begin_output(&mut self) {
        self.bytes = 0;
    }
}
