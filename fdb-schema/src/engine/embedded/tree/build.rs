//! Writes a run: rows in, blocks out, then index, filter and footer.
//! Invariants: keys strictly increase; a block never straddles a page's payload boundary unless it is longer than a
//! page, and then it begins one; nothing is a run before the store's `finish` returned.
//! Memory: one page of rows, 8 bytes a key for the filter (a run of 64 MiB with rows of 60 bytes: 9 MiB), the index.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use shardstore_format::{PAGE_PAYLOAD_MAX_BYTES, VolumeId};

use super::block::BlockBuilder;
use super::codec::{checksum, len_u32};
use super::error::TreeError;
use super::filter::{Filter, hash_key};
use super::footer::{Footer, Part};
use super::index::{BlockPlace, Index, separator_between};
use super::run::{Run, RunParts};
use crate::engine::{KEY_MAX_BYTES, VALUE_MAX_BYTES};
use crate::run_store::RunWriter;

/// The most payload that a run may have: a volume of one data segment of 256 MiB, less its page headers and a reserve
/// for index and filter. Flushes (64 MiB) and compactions (64 MiB outputs) stay far below.
pub const RUN_MAX_BYTES: u64 = 192 * 1024 * 1024;
/// Hashes kept in one piece and put into the filter in one step: 128 KiB, 0.2 ms.
const HASH_PIECE_KEYS: usize = 16 * 1024;
/// A page's payload holds exactly four full blocks.
const BLOCK_MAX_BYTES: usize = PAGE_BYTES / 4;
#[expect(clippy::cast_possible_truncation, reason = "a constant of 65,472")]
pub(crate) const PAGE_BYTES: usize = PAGE_PAYLOAD_MAX_BYTES as usize;

const _: () = assert!(BLOCK_MAX_BYTES * 4 == PAGE_BYTES);

/// A run under way. Dropping it abandons the volume.
pub struct RunBuilder<W> {
    writer: W,
    volume: VolumeId,
    block: BlockBuilder,
    index: Index,
    /// Hashes of all keys, in pieces, so that no growth copies them all.
    hashes: Vec<Vec<u64>>,
    /// Payload not yet given to the writer; the writer has `appended_bytes`.
    pending: Vec<u8>,
    appended_bytes: u64,
    /// The last sealed block, whose separator awaits the next key.
    sealed: Option<BlockPlace>,
    first_key: Bytes,
    rows: u64,
    tombstones: u64,
}

impl<W: RunWriter> RunBuilder<W> {
    /// Begins a run in `volume`, which `writer` was created for.
    pub fn new(writer: W, volume: VolumeId) -> RunBuilder<W> {
        RunBuilder {
            writer,
            volume,
            block: BlockBuilder::default(),
            index: Index::default(),
            hashes: Vec::new(),
            pending: Vec::with_capacity(2 * PAGE_BYTES),
            appended_bytes: 0,
            sealed: None,
            first_key: Bytes::new(),
            rows: 0,
            tombstones: 0,
        }
    }

    /// Adds a row, a tombstone if `value` is `None`. Keys strictly increase.
    ///
    /// # Errors
    /// [`TreeError::Store`]: the run is lost; begin another.
    pub async fn add(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), TreeError> {
        assert!(key.len() <= KEY_MAX_BYTES);
        assert!(value.is_none_or(|value| value.len() <= VALUE_MAX_BYTES));
        assert!(self.rows == 0 || self.block.last_key() < key, "keys of a run increase");
        if !self.block.is_empty() && self.block.sealed_bytes_with(key, value) > BLOCK_MAX_BYTES {
            self.seal_block();
            self.append_full_pages().await?;
        }
        if let Some(place) = self.sealed.take() {
            self.index.push(separator_between(self.block.last_key(), key), place);
        }
        if self.rows == 0 {
            self.first_key = Bytes::copy_from_slice(key);
        }
        self.block.add(key, value);
        if self.hashes.last().is_none_or(|piece| piece.len() == HASH_PIECE_KEYS) {
            self.hashes.push(Vec::with_capacity(HASH_PIECE_KEYS));
        }
        if let Some(piece) = self.hashes.last_mut() {
            piece.push(hash_key(key));
        }
        self.rows += 1;
        self.tombstones += u64::from(value.is_none());
        Ok(())
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Payload bytes so far, rows of the open block included, index and filter not.
    pub fn payload_bytes(&self) -> u64 {
        self.appended_bytes + (self.pending.len() + self.block.sealed_bytes()) as u64
    }

    /// Writes the rest and seals the volume. At least one row was added. `versions`: the lowest and highest commit
    /// version among the rows.
    ///
    /// # Errors
    /// [`TreeError::Store`]: the run is lost; begin another.
    pub async fn finish(self, versions: RangeInclusive<u64>) -> Result<Arc<Run>, TreeError> {
        self.finish_paced(versions, &mut async |_| {}).await
    }

    /// The same, calling `pace` between steps of less than a millisecond.
    ///
    /// # Errors
    /// [`TreeError::Store`]: the run is lost; begin another.
    pub(crate) async fn finish_paced(
        mut self,
        versions: RangeInclusive<u64>,
        pace: &mut impl AsyncFnMut(u64),
    ) -> Result<Arc<Run>, TreeError> {
        assert!(self.rows > 0);
        assert!(!versions.is_empty());
        let last_key = Bytes::copy_from_slice(self.block.last_key());
        self.seal_block();
        if let Some(place) = self.sealed.take() {
            self.index.push(&last_key, place);
        }
        self.append_full_pages().await?;
        let mut filter = Filter::for_keys(self.hashes.iter().map(Vec::len).sum());
        for hashes in std::mem::take(&mut self.hashes) {
            filter.insert(&hashes);
            pace(8 * hashes.len() as u64).await;
        }
        let index_part = self.append_part(|builder, out| {
            encode_bounds(&builder.first_key, &last_key, out);
            builder.index.encode(out);
        });
        let filter_part = self.append_part(|_, out| filter.encode(out));
        let footer = Footer {
            index: index_part,
            filter: filter_part,
            block_count: len_u32(self.index.block_count()),
            rows: self.rows,
            tombstones: self.tombstones,
            versions,
        };
        let footer_offset_bytes = self.offset_bytes();
        footer.encode(self.volume, footer_offset_bytes, &mut self.pending);
        let len_bytes = self.offset_bytes();
        self.append_full_pages().await?;
        if !self.pending.is_empty() {
            let rest = std::mem::take(&mut self.pending);
            self.writer.append(Bytes::from(rest)).await?;
        }
        let volume = self.writer.finish().await?;
        assert_eq!(volume.record.id, self.volume);
        assert_eq!(volume.len_bytes, len_bytes);
        let parts = RunParts { footer, index: self.index, filter, first_key: self.first_key, last_key };
        Ok(Arc::new(Run::from_parts(volume, parts)))
    }

    fn offset_bytes(&self) -> u64 {
        self.appended_bytes + self.pending.len() as u64
    }

    /// Moves the open block to the pending bytes, after padding to the next page if it would straddle.
    fn seal_block(&mut self) {
        let len = self.block.sealed_bytes();
        let in_page = self.pending.len() % PAGE_BYTES;
        if in_page > 0 && in_page + len > PAGE_BYTES {
            self.pending.resize(self.pending.len() - in_page + PAGE_BYTES, 0);
        }
        let offset_bytes = self.offset_bytes();
        self.block.seal(self.volume, offset_bytes, &mut self.pending);
        let offset_bytes = u32::try_from(offset_bytes).expect("runs are far under 4 GiB");
        self.sealed = Some(BlockPlace { offset_bytes, len_bytes: len_u32(len) });
    }

    fn append_part(&mut self, encode: impl FnOnce(&RunBuilder<W>, &mut Vec<u8>)) -> Part {
        let mut bytes = Vec::new();
        encode(self, &mut bytes);
        let offset_bytes = self.offset_bytes();
        let crc = checksum(self.volume, offset_bytes, &bytes);
        self.pending.extend_from_slice(&bytes);
        Part { offset_bytes, len_bytes: bytes.len() as u64, crc }
    }

    /// Gives whole pages to the writer, so that `pending` always begins a page.
    async fn append_full_pages(&mut self) -> Result<(), TreeError> {
        let whole = self.pending.len() - self.pending.len() % PAGE_BYTES;
        if whole == 0 {
            return Ok(());
        }
        let mut rest = Vec::with_capacity(2 * PAGE_BYTES);
        rest.extend_from_slice(&self.pending[whole..]);
        let mut pages = std::mem::replace(&mut self.pending, rest);
        pages.truncate(whole);
        self.appended_bytes += whole as u64;
        self.writer.append(Bytes::from(pages)).await?;
        Ok(())
    }
}

fn encode_bounds(first_key: &[u8], last_key: &[u8], out: &mut Vec<u8>) {
    for key in [first_key, last_key] {
        out.extend_from_slice(&len_u32(key.len()).to_le_bytes());
        out.extend_from_slice(key);
    }
}
