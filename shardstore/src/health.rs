//! The drives of the pool as the store sees them: which are there, which can be written.
//! Invariants: a drive that failed stays failed for the life of the process; every change raises the generation,
//! by which open volumes notice that they must be sealed.
//! Not here: fencing itself (`reactor`), repair.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use shardstore_format::DriveId;

/// One member of the pool.
pub(crate) struct DriveSlot {
    pub(crate) id: DriveId,
    pub(crate) label: String,
    /// It was there at the start.
    present: bool,
    failed: AtomicBool,
}

/// Whether a drive takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriveState {
    /// Reads and writes.
    Healthy,
    /// Not there when the process started.
    Missing,
    /// Fenced after a failed write.
    Failed,
}

/// All members, in the pool's order.
pub(crate) struct DriveTable {
    slots: Box<[DriveSlot]>,
    generation: AtomicU64,
}

impl DriveTable {
    pub(crate) fn new(members: impl Iterator<Item = (DriveId, String, bool)>) -> DriveTable {
        let slots = members.map(|(id, label, present)| {
            let failed = AtomicBool::new(false);
            DriveSlot { id, label, present, failed }
        });
        DriveTable { slots: slots.collect(), generation: AtomicU64::new(0) }
    }

    pub(crate) fn slots(&self) -> &[DriveSlot] {
        &self.slots
    }

    pub(crate) fn index_of(&self, id: DriveId) -> Option<usize> {
        self.slots.iter().position(|slot| slot.id == id)
    }

    pub(crate) fn state(&self, index: usize) -> DriveState {
        let slot = &self.slots[index];
        if !slot.present {
            DriveState::Missing
        } else if slot.failed.load(Ordering::SeqCst) {
            DriveState::Failed
        } else {
            DriveState::Healthy
        }
    }

    /// Takes a drive out of all writing; true for the first to notice.
    pub(crate) fn mark_failed(&self, index: usize) -> bool {
        let is_first = !self.slots[index].failed.swap(true, Ordering::SeqCst);
        if is_first {
            self.generation.fetch_add(1, Ordering::SeqCst);
        }
        is_first
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    pub(crate) fn healthy(&self) -> impl Iterator<Item = usize> {
        (0..self.slots.len()).filter(|&index| self.state(index) == DriveState::Healthy)
    }
}
