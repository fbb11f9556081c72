//! A finished run: its index and filter in memory, its blocks read through the store.
//! Invariants: immutable, `Send` and `Sync`; holds no store, so every core reads it through its own; no row of a block
//! is served before the block's CRC has matched once.
//! Memory: see `index`, and 1.25 bytes a row for the filter; [`Run::memory_bytes`] says the sum.

use std::cell::Cell;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use shardstore_format::DriveId;

use super::block::{Block, Malformed};
use super::build::PAGE_BYTES;
use super::codec::{Fields, checksum};
use super::error::TreeError;
use super::filter::{Filter, hash_key};
use super::footer::{FOOTER_BYTES, Footer, Part};
use super::index::Index;
use crate::run_store::{RunStore, RunVolume};

thread_local! {
    static BLOCK_READS: Cell<u64> = const { Cell::new(0) };
}

/// Blocks that this thread has read through its store, from cache or not: what tests of cost count.
pub fn block_reads_of_thread() -> u64 {
    BLOCK_READS.get()
}

/// Everything of a run but its blocks.
pub(crate) struct RunParts {
    pub(crate) footer: Footer,
    pub(crate) index: Index,
    pub(crate) filter: Filter,
    pub(crate) first_key: Bytes,
    pub(crate) last_key: Bytes,
}

/// An immutable sorted run.
pub struct Run {
    volume: RunVolume,
    parts: Arc<RunParts>,
    /// A bit a block: its CRC matched once in this process. Later reads rely on the store, which verifies every page
    /// that it reads from a drive; a CRC over 16 KiB of a cached page would cost more than the read.
    checked: Arc<[AtomicU64]>,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Run(volume {}, {} rows)", self.volume.record.id.0, self.parts.footer.rows)
    }
}

impl Run {
    pub(crate) fn from_parts(volume: RunVolume, parts: RunParts) -> Run {
        assert!(parts.first_key <= parts.last_key);
        let words = parts.index.block_count().div_ceil(64);
        let checked = (0..words).map(|_| AtomicU64::new(0)).collect();
        Run { volume, parts: Arc::new(parts), checked }
    }

    /// The same run with one shard on another drive.
    pub(crate) fn with_shard_on(&self, shard: u8, drive: DriveId) -> Run {
        let mut volume = self.volume.clone();
        let mut others = volume.record.segments.iter().enumerate().filter(|(n, _)| *n != usize::from(shard));
        assert!(others.all(|(_, other)| *other != drive), "a drive has one shard of a run");
        volume.record.segments[usize::from(shard)] = drive;
        Run { volume, parts: Arc::clone(&self.parts), checked: Arc::clone(&self.checked) }
    }

    /// Reads footer, index and filter of the run in `volume`: about 2 % of its bytes.
    ///
    /// # Errors
    /// [`TreeError::Damaged`]: the run cannot be read; its manifest is wrong or its volume is beyond mending.
    pub async fn open<R: RunStore>(store: &R, volume: RunVolume) -> Result<Arc<Run>, TreeError> {
        let damaged =
            |offset_bytes, what| TreeError::Damaged { volume: volume.record.id, offset_bytes, what };
        let Some(footer_offset_bytes) = volume.len_bytes.checked_sub(FOOTER_BYTES as u64) else {
            return Err(damaged(0, "the run is shorter than a footer"));
        };
        let bytes = store.read(&volume, footer_offset_bytes, FOOTER_BYTES).await?;
        let footer = Footer::decode(&bytes, volume.record.id, footer_offset_bytes)
            .map_err(|what| damaged(footer_offset_bytes, what))?;
        let bytes = read_part(store, &volume, footer.index).await?;
        let (first_key, last_key, index) = decode_index(&bytes, &footer)
            .ok_or_else(|| damaged(footer.index.offset_bytes, "the index has a field outside its bounds"))?;
        let bytes = read_part(store, &volume, footer.filter).await?;
        let filter = Filter::decode(&bytes)
            .ok_or_else(|| damaged(footer.filter.offset_bytes, "the filter is not whole groups"))?;
        let parts = RunParts { footer, index, filter, first_key, last_key };
        Ok(Arc::new(Run::from_parts(volume, parts)))
    }

    /// The newest value of `key` in this run: `None` if the run lacks it, `Some(None)` for a tombstone.
    /// Cost: a filter probe of one cache line; if that says maybe, one block.
    ///
    /// # Errors
    /// [`TreeError`]: see there.
    pub async fn get<R: RunStore>(&self, store: &R, key: &[u8]) -> Result<Option<Option<Bytes>>, TreeError> {
        self.get_hashed(store, key, hash_key(key)).await
    }

    pub(crate) async fn get_hashed<R: RunStore>(
        &self,
        store: &R,
        key: &[u8],
        hash: u64,
    ) -> Result<Option<Option<Bytes>>, TreeError> {
        let inside = *self.parts.first_key <= *key && *key <= *self.parts.last_key;
        if !inside || !self.parts.filter.may_contain(hash) {
            return Ok(None);
        }
        let index = self.parts.index.block_of(key);
        if index == self.parts.index.block_count() {
            return Ok(None);
        }
        let block = self.read_block(store, index).await?;
        block.find(key).map_err(|malformed| self.damaged(index, malformed))
    }

    pub(crate) async fn read_block<R: RunStore>(&self, store: &R, index: usize) -> Result<Block, TreeError> {
        let place = self.parts.index.place(index);
        let offset_bytes = u64::from(place.offset_bytes);
        BLOCK_READS.set(BLOCK_READS.get() + 1);
        let bytes = store.read(&self.volume, offset_bytes, place.len_bytes as usize).await?;
        let (word, bit) = (&self.checked[index / 64], 1 << (index % 64));
        if word.load(Ordering::Relaxed) & bit == 0 {
            Block::check(&bytes, self.volume.record.id, offset_bytes)
                .map_err(|malformed| self.damaged(index, malformed))?;
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Block::parse(bytes).map_err(|malformed| self.damaged(index, malformed))
    }

    pub(crate) fn damaged(&self, block_index: usize, Malformed(what): Malformed) -> TreeError {
        let offset_bytes = u64::from(self.parts.index.place(block_index).offset_bytes);
        TreeError::Damaged { volume: self.volume.record.id, offset_bytes, what }
    }

    pub(crate) fn index(&self) -> &Index {
        &self.parts.index
    }

    /// Where the run lies.
    pub fn volume(&self) -> &RunVolume {
        &self.volume
    }

    /// The lowest key.
    pub fn first_key(&self) -> &Bytes {
        &self.parts.first_key
    }

    /// The highest key.
    pub fn last_key(&self) -> &Bytes {
        &self.parts.last_key
    }

    /// Rows, tombstones included.
    pub fn rows(&self) -> u64 {
        self.parts.footer.rows
    }

    /// Rows that say "removed".
    pub fn tombstones(&self) -> u64 {
        self.parts.footer.tombstones
    }

    /// The lowest and highest commit version among the rows.
    pub fn versions(&self) -> RangeInclusive<u64> {
        self.parts.footer.versions.clone()
    }

    /// Payload bytes of the run.
    pub fn len_bytes(&self) -> u64 {
        self.volume.len_bytes
    }

    /// Memory that index and filter hold.
    pub fn memory_bytes(&self) -> usize {
        let keys = self.parts.first_key.len() + self.parts.last_key.len();
        self.parts.index.memory_bytes() + self.parts.filter.memory_bytes() + keys
    }

    /// Whether a key of `[first, last]` can be in the run.
    pub(crate) fn overlaps(&self, first: &[u8], last: &[u8]) -> bool {
        *self.parts.first_key <= *last && *first <= *self.parts.last_key
    }
}

/// Reads one part, a page's payload at a time, and checks its CRC.
async fn read_part<R: RunStore>(store: &R, volume: &RunVolume, part: Part) -> Result<Vec<u8>, TreeError> {
    let end_bytes = part.offset_bytes + part.len_bytes;
    let page_bytes = PAGE_BYTES as u64;
    let mut bytes = Vec::new();
    let mut at_bytes = part.offset_bytes;
    while at_bytes < end_bytes {
        let next_bytes = end_bytes.min((at_bytes / page_bytes + 1) * page_bytes);
        let len = usize::try_from(next_bytes - at_bytes).expect("at most a page");
        bytes.extend_from_slice(&store.read(volume, at_bytes, len).await?);
        at_bytes = next_bytes;
    }
    if checksum(volume.record.id, part.offset_bytes, &bytes) != part.crc {
        let what = "the index or filter does not match its checksum";
        return Err(TreeError::Damaged { volume: volume.record.id, offset_bytes: part.offset_bytes, what });
    }
    Ok(bytes)
}

fn decode_index(bytes: &[u8], footer: &Footer) -> Option<(Bytes, Bytes, Index)> {
    let mut fields = Fields(bytes);
    let first_key = Bytes::copy_from_slice(fields.sized()?);
    let last_key = Bytes::copy_from_slice(fields.sized()?);
    let index = Index::decode(fields.0, footer.index.offset_bytes)?;
    let agrees = first_key <= last_key && index.block_count() == footer.block_count as usize;
    agrees.then_some((first_key, last_key, index))
}
