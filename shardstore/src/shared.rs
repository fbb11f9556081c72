//! What the cores of one process share: page cache, volume table, epochs, holds, drive health, buffers, counts.
//! Invariants: nothing here blocks; every part is an atomic, a sharded library map, or swapped whole.
//! Not here: files and rings, which each core has of its own (`media`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;
use shardstore_format::{DriveId, PoolId, Profile, VolumeId, VolumeRecord};
use shardstore_reactor::{BufPool, Drive};

use crate::balance::{BalanceControl, BalanceStatus};
use crate::cache::PageCache;
use crate::epoch::{Epochs, Holds};
use crate::health::{DriveInfo, DriveSlot, DriveState, DriveTable};
use crate::mend::Suspect;
use crate::options::{SUSPECTS_MAX, StoreOptions};
use crate::pool::Pool;
use crate::table::{Opening, OpeningGuard, Volume, VolumeTable};
use crate::upkeep::{RepairControl, RepairStatus, ScrubControl, ScrubStatus};

/// The shared half of a store: one per process, behind an `Arc`.
pub struct StoreShared {
    pub(crate) pool: PoolId,
    pub(crate) profile: Profile,
    pub(crate) created_unix_ms: u64,
    pub(crate) options: StoreOptions,
    pub(crate) drives: DriveTable,
    pub(crate) cache: PageCache,
    pub(crate) volumes: VolumeTable,
    /// Volumes whose files exist before their record does.
    pub(crate) opening: Opening,
    pub(crate) epochs: Epochs,
    pub(crate) holds: Holds,
    pub(crate) counts: Counts,
    /// Stripes that readers found bad.
    pub(crate) suspects: ArrayQueue<Suspect>,
    pub(crate) scrub: ScrubControl,
    pub(crate) repair: RepairControl,
    pub(crate) balance: BalanceControl,
    pub(crate) stopping: AtomicBool,
    pub(crate) sweeper_taken: AtomicBool,
    /// Some drive is at its reserve.
    pub(crate) is_full: AtomicBool,
}

impl StoreShared {
    /// The shared half of the store of a pool.
    pub fn new<D: Drive>(pool: &Pool<D>, options: StoreOptions) -> Arc<StoreShared> {
        options.check();
        let members = pool.members().iter();
        let drives =
            DriveTable::new(members.map(|member| (member.id, member.label.clone(), member.drive.is_some())));
        Arc::new(StoreShared {
            pool: pool.id(),
            profile: pool.profile(),
            created_unix_ms: pool.created_unix_ms(),
            drives,
            cache: PageCache::new(options.cache_bytes, options.cores_max),
            volumes: VolumeTable::new(),
            opening: Opening::default(),
            epochs: Epochs::new(options.cores_max),
            holds: Holds::new(),
            counts: Counts::default(),
            suspects: ArrayQueue::new(SUSPECTS_MAX),
            scrub: ScrubControl::default(),
            repair: RepairControl::default(),
            balance: BalanceControl::default(),
            stopping: AtomicBool::new(false),
            sweeper_taken: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            options,
        })
    }

    /// Redundancy of new volumes while all drives are there.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// All members, those that joined while the process ran last; removed ones too.
    pub fn drives(&self) -> Vec<DriveInfo> {
        let info =
            |slot: &Arc<DriveSlot>| DriveInfo { id: slot.id, label: slot.label.clone(), state: slot.state };
        self.drives.slots().iter().map(info).collect()
    }

    /// Shards of volumes, metadata runs included, that lie on a drive. Cost: one pass over all volumes.
    pub fn shards_on(&self, id: DriveId) -> usize {
        self.drives.index_of(id).map_or(0, |member| self.volumes.shards_on(member))
    }

    /// A drive is not there any more; true for the first who says so. Its volumes are sealed and read around it.
    pub fn drive_went(&self, id: DriveId) -> bool {
        self.drives.index_of(id).is_some_and(|member| self.drives.mark_missing(member))
    }

    /// A drive is there again: every core opens a handle of its own (`Media::drives_to_open`).
    pub fn drive_came_back(&self, id: DriveId) {
        if let Some(member) = self.drives.index_of(id) {
            self.drives.mark_returned(member);
        }
    }

    /// A drive became a member: every core opens a handle of its own.
    pub fn drive_joined(&self, id: DriveId, label: &str) {
        self.drives.join(id, label);
    }

    /// Nothing new goes to a drive, or does again.
    pub fn set_draining(&self, id: DriveId, draining: bool) {
        if let Some(member) = self.drives.index_of(id) {
            self.drives.set_draining(member, draining);
        }
    }

    /// A drive is no member any more.
    pub fn drive_removed(&self, id: DriveId) {
        if let Some(member) = self.drives.index_of(id) {
            self.drives.mark_removed(member);
        }
    }

    /// Counts since the start.
    pub fn stats(&self) -> StoreStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreStats {
            pages_read: read(&self.counts.pages_read),
            pages_rebuilt: read(&self.counts.pages_rebuilt),
            pages_corrupt: read(&self.counts.pages_corrupt),
            flushes: read(&self.counts.flushes),
            packed_extents: read(&self.counts.packed_extents),
            runs_rewritten: read(&self.counts.runs_rewritten),
            volumes_opened: read(&self.counts.volumes_opened),
            volumes_reclaimed: read(&self.counts.volumes_reclaimed),
            data_ids_swept: read(&self.counts.data_ids_swept),
            scrubbed_bytes: read(&self.counts.scrubbed_bytes),
            pages_bad: read(&self.counts.pages_bad),
            pages_mended: read(&self.counts.pages_mended),
            stripes_lost: read(&self.counts.stripes_lost),
            shards_repaired: read(&self.counts.shards_repaired),
            repair_bytes: read(&self.counts.repair_bytes),
            shards_balanced: read(&self.counts.shards_balanced),
            volumes_compacted: read(&self.counts.volumes_compacted),
            compacted_bytes: read(&self.counts.compacted_bytes),
            last_full_scrub_s: self.scrub.status().last_full_ms / 1000,
            shards_to_repair: self.repair_status().shards_left as u64,
            cache_bytes: self.cache.weight_bytes(),
        }
    }

    /// How scrub stands.
    pub fn scrub_status(&self) -> ScrubStatus {
        self.scrub.status()
    }

    /// Begins a scrub, or goes on with one that was paused.
    pub fn start_scrub(&self) {
        self.scrub.request();
    }

    /// Holds scrub until it is started again; a pass under way goes on from the volume it was in.
    pub fn pause_scrub(&self) {
        self.scrub.set_paused(true);
    }

    /// How evening out the drives stands.
    pub fn balance_status(&self) -> BalanceStatus {
        self.balance.status(self.drives.generation())
    }

    /// How repair stands now: also what its next round will only find. Cost: a pass over all volumes if a drive is out.
    pub fn repair_status(&self) -> RepairStatus {
        let mut status = self.repair.status();
        let mut off_healthy = 0;
        for (member, slot) in self.drives.slots().iter().enumerate() {
            let shards = match slot.state {
                DriveState::Healthy => 0,
                DriveState::Draining | DriveState::Missing | DriveState::Failed | DriveState::Removed => {
                    self.volumes.shards_on(member)
                }
            };
            off_healthy += shards;
            let may_return = slot.state == DriveState::Missing && !self.repair.is_asked(slot.id);
            if shards > 0 && may_return && status.waits_for.is_empty() {
                let minutes = self.options.repair_delay.as_secs() / 60;
                status.waits_for =
                    format!("{} may come back within {minutes} minutes of its loss", slot.label);
            }
        }
        status.shards_left = status.shards_left.max(off_healthy);
        status
    }

    /// Says that a missing drive is not waited for: what it held is made anew elsewhere.
    pub fn repair_without(&self, drive: DriveId) {
        self.repair.ask(drive);
    }

    /// Asks background work to end at its next step.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    pub(crate) fn bufs(&self) -> &BufPool {
        &self.options.bufs
    }

    /// Says that files of a volume may exist that no record names yet.
    pub(crate) fn opening_guard(self: &Arc<Self>, id: VolumeId) -> OpeningGuard {
        OpeningGuard::new(Arc::clone(self), id)
    }

    /// The volume of a record, known from now on.
    pub(crate) fn know_volume(&self, record: &VolumeRecord) -> Arc<Volume> {
        if let Some(volume) = self.volumes.get(record.id) {
            return volume;
        }
        let volume = Arc::new(Volume::new(record, |drive| self.drives.index_of(drive)));
        self.volumes.insert(&volume);
        self.volumes.get(record.id).unwrap_or(volume)
    }
}

/// Counters behind [`StoreStats`].
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) pages_read: AtomicU64,
    pub(crate) pages_rebuilt: AtomicU64,
    pub(crate) pages_corrupt: AtomicU64,
    pub(crate) flushes: AtomicU64,
    pub(crate) packed_extents: AtomicU64,
    pub(crate) runs_rewritten: AtomicU64,
    pub(crate) volumes_opened: AtomicU64,
    pub(crate) volumes_sealed: AtomicU64,
    pub(crate) volumes_reclaimed: AtomicU64,
    pub(crate) data_ids_swept: AtomicU64,
    pub(crate) foreground_reads: AtomicU64,
    pub(crate) foreground_read_micros: AtomicU64,
    pub(crate) scrubbed_bytes: AtomicU64,
    pub(crate) pages_bad: AtomicU64,
    pub(crate) pages_mended: AtomicU64,
    pub(crate) stripes_lost: AtomicU64,
    pub(crate) shards_repaired: AtomicU64,
    pub(crate) repair_bytes: AtomicU64,
    pub(crate) shards_balanced: AtomicU64,
    pub(crate) volumes_compacted: AtomicU64,
    pub(crate) compacted_bytes: AtomicU64,
}

/// Adds to a counter that only [`StoreShared::stats`] reads.
pub(crate) fn count(counter: &AtomicU64, delta: u64) {
    counter.fetch_add(delta, Ordering::Relaxed);
}

/// What the store did since the start, over all cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Device reads of pages or parts of pages.
    pub pages_read: u64,
    /// Pages rebuilt from parity for a reader.
    pub pages_rebuilt: u64,
    /// Pages that did not verify.
    pub pages_corrupt: u64,
    /// Flushes of small objects.
    pub flushes: u64,
    /// Small objects flushed.
    pub packed_extents: u64,
    /// Runs written again elsewhere after a drive failed.
    pub runs_rewritten: u64,
    /// Volumes created.
    pub volumes_opened: u64,
    /// Volumes whose files were removed.
    pub volumes_reclaimed: u64,
    /// Data ids swept.
    pub data_ids_swept: u64,
    /// Device bytes read by scrub.
    pub scrubbed_bytes: u64,
    /// Pages that scrub, or a reader before it, found bad on drives that answer.
    pub pages_bad: u64,
    /// Bad pages that were written anew and verify again.
    pub pages_mended: u64,
    /// Stripes found with fewer than k whole pages; each finding counts.
    pub stripes_lost: u64,
    /// Shards that repair made anew, or moved off a drive.
    pub shards_repaired: u64,
    /// Device bytes read by repair and by evening out the drives.
    pub repair_bytes: u64,
    /// Shards moved from a fuller drive to an emptier one.
    pub shards_balanced: u64,
    /// Sparse volumes that compaction emptied.
    pub volumes_compacted: u64,
    /// Live bytes that compaction moved.
    pub compacted_bytes: u64,
    /// When the last full scrub ended, in seconds since 1970; 0 if none did.
    pub last_full_scrub_s: u64,
    /// Shards that must be made anew now.
    pub shards_to_repair: u64,
    /// Bytes in the page cache.
    pub cache_bytes: u64,
}
