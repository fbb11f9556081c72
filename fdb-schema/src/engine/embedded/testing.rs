//! A run store in memory, for the tests and benchmarks of the engine alone; the server joins the real one.
//! Invariants: a run exists once `finish` returned, as on drives; what a crash interrupts never exists.
//! Not here: drives and parity. `shardstore` is tested for those.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use shardstore_format::{Profile, VolumeClass, VolumeId, VolumeRecord, VolumeState};

use super::pace::yield_now;
use crate::run_store::{RunError, RunStore, RunVolume, RunWriter};

/// Runs by volume, in memory. Clones share them; a clone that outlives a simulated crash is what the drives kept.
#[derive(Clone, Default)]
pub struct MemoryRunStore {
    shared: Rc<Shared>,
}

#[derive(Default)]
struct Shared {
    runs: RefCell<BTreeMap<VolumeId, Pieces>>,
    /// Ids ever used: a volume is written once.
    used: RefCell<BTreeMap<VolumeId, ()>>,
    failing_writes: Cell<u32>,
    yields: Cell<bool>,
}

/// A run's bytes as they were appended. Never one buffer: growing that copies 64 MiB in one step, which a benchmark
/// would take for the engine's (it held commits for 17 ms).
#[derive(Clone, Default)]
struct Pieces {
    /// Offset just after each piece, and the piece.
    pieces: Vec<(usize, Bytes)>,
}

impl Pieces {
    fn len(&self) -> usize {
        self.pieces.last().map_or(0, |(end, _)| *end)
    }

    fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.pieces.push((self.len() + bytes.len(), bytes));
        }
    }

    /// `None`: not all of it is there. Shared if it lies in one piece, else a copy.
    fn read(&self, begin: usize, len: usize) -> Option<Bytes> {
        let end = begin.checked_add(len).filter(|end| *end <= self.len())?;
        let first = self.pieces.partition_point(|(piece_end, _)| *piece_end <= begin);
        let mut copied = Vec::new();
        for (piece_end, piece) in &self.pieces[first..] {
            let piece_begin = piece_end - piece.len();
            let part = begin.saturating_sub(piece_begin)..end.min(*piece_end) - piece_begin;
            if part.len() == len {
                return Some(piece.slice(part));
            }
            copied.extend_from_slice(&piece[part]);
            if *piece_end >= end {
                break;
            }
        }
        Some(copied.into())
    }

    fn flip_bit(&mut self, offset: usize, bit: u32) -> bool {
        let index = self.pieces.partition_point(|(end, _)| *end <= offset);
        let Some((end, piece)) = self.pieces.get_mut(index) else { return false };
        let mut flipped = piece.to_vec();
        let within = offset - (*end - flipped.len());
        flipped[within] ^= 1 << (bit % 8);
        *piece = flipped.into();
        true
    }
}

impl MemoryRunStore {
    /// An empty store that never suspends: what a hot page cache is at best.
    pub fn new() -> MemoryRunStore {
        MemoryRunStore::default()
    }

    /// An empty store that suspends at every call, so that a simulator can interleave.
    pub fn suspending() -> MemoryRunStore {
        let store = MemoryRunStore::default();
        store.shared.yields.set(true);
        store
    }

    /// Volumes of the runs that exist.
    pub fn volumes(&self) -> Vec<VolumeId> {
        self.shared.runs.borrow().keys().copied().collect()
    }

    /// Removes the runs that a crash left unnamed, as a store does at its start.
    pub fn keep_only(&self, named: &[RunVolume]) {
        let named = |volume: &VolumeId| named.iter().any(|run| run.record.id == *volume);
        self.shared.runs.borrow_mut().retain(|volume, _| named(volume));
    }

    /// Payload bytes of all runs.
    pub fn len_bytes(&self) -> u64 {
        self.shared.runs.borrow().values().map(|bytes| bytes.len() as u64).sum()
    }

    /// The next `count` calls that write fail with [`RunError::NoSpace`].
    pub fn fail_writes(&self, count: u32) {
        self.shared.failing_writes.set(count);
    }

    /// Flips a bit of a run; false if there is no such byte.
    pub fn flip_bit(&self, volume: VolumeId, offset_bytes: usize, bit: u32) -> bool {
        let mut runs = self.shared.runs.borrow_mut();
        runs.get_mut(&volume).is_some_and(|pieces| pieces.flip_bit(offset_bytes, bit))
    }

    async fn pause(&self) {
        if self.shared.yields.get() {
            yield_now().await;
        }
    }

    fn check_write(&self) -> Result<(), RunError> {
        let failing = self.shared.failing_writes.get();
        self.shared.failing_writes.set(failing.saturating_sub(1));
        if failing > 0 { Err(RunError::NoSpace) } else { Ok(()) }
    }
}

impl RunStore for MemoryRunStore {
    type Writer = MemoryRunWriter;

    async fn create(&self, volume: VolumeId) -> Result<MemoryRunWriter, RunError> {
        self.pause().await;
        self.check_write()?;
        let before = self.shared.used.borrow_mut().insert(volume, ());
        assert!(before.is_none(), "volume {} is written a second time", volume.0);
        Ok(MemoryRunWriter { store: self.clone(), volume, bytes: Pieces::default() })
    }

    async fn read(&self, run: &RunVolume, offset_bytes: u64, len_bytes: usize) -> Result<Bytes, RunError> {
        self.pause().await;
        let volume = run.record.id;
        let damaged = RunError::Damaged { volume, offset_bytes };
        let runs = self.shared.runs.borrow();
        let Some(bytes) = runs.get(&volume) else { return Err(damaged) };
        let begin = usize::try_from(offset_bytes).unwrap_or(usize::MAX);
        bytes.read(begin, len_bytes).ok_or(damaged)
    }

    async fn remove(&self, run: &RunVolume) -> Result<(), RunError> {
        self.pause().await;
        let removed = self.shared.runs.borrow_mut().remove(&run.record.id);
        assert!(removed.is_some(), "volume {} is removed once", run.record.id.0);
        Ok(())
    }
}

/// A run under way in a [`MemoryRunStore`].
pub struct MemoryRunWriter {
    store: MemoryRunStore,
    volume: VolumeId,
    bytes: Pieces,
}

impl RunWriter for MemoryRunWriter {
    async fn append(&mut self, bytes: Bytes) -> Result<(), RunError> {
        self.store.pause().await;
        self.store.check_write()?;
        self.bytes.push(bytes);
        Ok(())
    }

    async fn finish(self) -> Result<RunVolume, RunError> {
        self.store.pause().await;
        self.store.check_write()?;
        let record = VolumeRecord {
            id: self.volume,
            profile: Profile { k: 1, m: 1 },
            class: VolumeClass::Run,
            state: VolumeState::Sealed { end_sector: 1 },
            segments: vec![shardstore_format::DriveId(1), shardstore_format::DriveId(9)],
        };
        let run = RunVolume { record, len_bytes: self.bytes.len() as u64 };
        self.store.shared.runs.borrow_mut().insert(self.volume, self.bytes);
        Ok(run)
    }
}
