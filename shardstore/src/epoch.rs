//! Epochs of readers and holds on data ids: what rule 8 of the design makes a sweeper wait for.
//! Invariants: a core's slot is at most the epoch of any guard it has out, and `NONE` without guards; a hold
//! counted before its guard's epoch is left is seen by every sweep that waited for that epoch.
//! Not here: what is swept (`reclaim`).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use shardstore_format::DataId;

use crate::shared::StoreShared;

/// A core without guards.
const NONE: u64 = u64::MAX;
/// Counters per table of holds: 2 x 65,536 x 4 bytes are 512 KiB. A data id counts as held only if both of its
/// counters are above zero, so one that is not held is taken for held with (held / 65,536)^2.
const HOLD_COUNTERS: usize = 65_536;

/// The epochs of all cores.
pub(crate) struct Epochs {
    current: AtomicU64,
    /// The oldest epoch that each core may be in, a cache line apart.
    cores: Box<[CoreSlot]>,
}

#[repr(align(128))]
struct CoreSlot(AtomicU64);

impl Epochs {
    pub(crate) fn new(cores_max: usize) -> Epochs {
        let cores = (0..cores_max).map(|_| CoreSlot(AtomicU64::new(NONE))).collect();
        Epochs { current: AtomicU64::new(1), cores }
    }

    /// Begins a new epoch: whoever enters from now on sees what is committed now.
    pub(crate) fn advance(&self) -> u64 {
        self.current.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Whether every core has left all epochs before `epoch`.
    pub(crate) fn all_left_before(&self, epoch: u64) -> bool {
        self.cores.iter().all(|slot| slot.0.load(Ordering::SeqCst) >= epoch)
    }
}

/// Counts of holds per data id, in two tables with independent hashes.
pub(crate) struct Holds {
    counters: [Box<[AtomicU32]>; 2],
}

impl Holds {
    pub(crate) fn new() -> Holds {
        let table = || (0..HOLD_COUNTERS).map(|_| AtomicU32::new(0)).collect();
        Holds { counters: [table(), table()] }
    }

    pub(crate) fn is_held(&self, data_id: DataId) -> bool {
        self.of(data_id).into_iter().all(|counter| counter.load(Ordering::SeqCst) > 0)
    }

    fn of(&self, data_id: DataId) -> [&AtomicU32; 2] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&data_id.writer.0.to_le_bytes());
        bytes[4..].copy_from_slice(&data_id.counter.to_le_bytes());
        let hash = xxhash_rust::xxh3::xxh3_64(&bytes);
        let [first, second] = &self.counters;
        [&first[index_of(hash)], &second[index_of(hash >> 32)]]
    }
}

/// The low 16 bits of a hash.
fn index_of(hash: u64) -> usize {
    usize::from(u16::try_from(hash & 0xffff).expect("16 bits"))
}

/// One core's epochs.
pub(crate) struct CoreEpochs {
    shared: Arc<StoreShared>,
    core_index: usize,
    /// Epochs with guards out, oldest first; few, since epochs advance only with sweeps.
    entered: RefCell<VecDeque<(u64, u32)>>,
}

impl CoreEpochs {
    pub(crate) fn new(shared: Arc<StoreShared>, core_index: usize) -> Rc<CoreEpochs> {
        assert!(core_index < shared.epochs.cores.len(), "core {core_index} is beyond cores_max");
        Rc::new(CoreEpochs { shared, core_index, entered: RefCell::new(VecDeque::new()) })
    }

    /// Enters the current epoch.
    pub(crate) fn enter(self: &Rc<Self>) -> EpochGuard {
        let mut entered = self.entered.borrow_mut();
        let slot = &self.shared.epochs.cores[self.core_index].0;
        let epoch = self.shared.epochs.current.load(Ordering::SeqCst);
        if entered.is_empty() {
            // Published before the caller takes its snapshot: a sweeper that still sees NONE has committed
            // before that snapshot.
            slot.store(epoch, Ordering::SeqCst);
        }
        match entered.back_mut() {
            Some((newest, count)) if *newest == epoch => *count += 1,
            _ => entered.push_back((epoch, 1)),
        }
        EpochGuard { core: Rc::clone(self), epoch }
    }

    fn leave(&self, epoch: u64) {
        let mut entered = self.entered.borrow_mut();
        let place = entered.iter_mut().find(|(entered, _)| *entered == epoch);
        let (_, count) = place.expect("a guard's epoch is listed until the guard is gone");
        *count -= 1;
        while entered.front().is_some_and(|(_, count)| *count == 0) {
            entered.pop_front();
        }
        let oldest = entered.front().map_or(NONE, |(epoch, _)| *epoch);
        self.shared.epochs.cores[self.core_index].0.store(oldest, Ordering::SeqCst);
    }

    /// Keeps the sweeper off a data id.
    pub(crate) fn hold(self: &Rc<Self>, data_id: DataId) -> HoldGuard {
        for counter in self.shared.holds.of(data_id) {
            counter.fetch_add(1, Ordering::SeqCst);
        }
        HoldGuard { core: Rc::clone(self), data_id }
    }
}

/// Keeps what a snapshot taken now can see; lasts one metadata or device read. Leaving is dropping.
pub struct EpochGuard {
    core: Rc<CoreEpochs>,
    epoch: u64,
}

impl Drop for EpochGuard {
    fn drop(&mut self) {
        self.core.leave(self.epoch);
    }
}

/// Keeps the bytes of one data id for as long as it lives: a whole read, however slow its client.
pub struct HoldGuard {
    core: Rc<CoreEpochs>,
    data_id: DataId,
}

impl Drop for HoldGuard {
    fn drop(&mut self) {
        for counter in self.core.shared.holds.of(self.data_id) {
            counter.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
