//! What background work says of itself and is told, shared by all threads.
//! Invariants: only atomics and whole swaps; reading it delays nobody.
//! Not here: the work (`scrub`, `repair`).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use shardstore_format::{DriveId, VolumeId};

/// What scrub is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubPhase {
    /// Waiting for its next pass.
    Idle,
    /// In a pass.
    Running,
}

/// How scrub stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubStatus {
    /// What it is doing.
    pub phase: ScrubPhase,
    /// Told to wait.
    pub is_paused: bool,
    /// Volumes of this pass done since this process took it up, and all of them.
    pub volumes: (usize, usize),
    /// When the last full pass ended, in milliseconds since 1970; 0 if none did.
    pub last_full_ms: u64,
}

/// The shared side of scrub.
#[derive(Default)]
pub(crate) struct ScrubControl {
    running: AtomicU8,
    paused: AtomicBool,
    requested: AtomicBool,
    volumes_done: AtomicUsize,
    volumes: AtomicUsize,
    pub(crate) last_full_ms: AtomicU64,
}

impl ScrubControl {
    pub(crate) fn enter(&self, phase: ScrubPhase, volumes: usize) {
        self.volumes_done.store(0, Ordering::Relaxed);
        self.volumes.store(volumes, Ordering::Relaxed);
        self.running.store(u8::from(phase == ScrubPhase::Running), Ordering::Release);
    }

    pub(crate) fn volume_done(&self) {
        self.volumes_done.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    pub(crate) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
    }

    /// Waits as it was told to before this start, unless it was told to run since.
    pub(crate) fn pause_as_before(&self) {
        if !self.requested.load(Ordering::Acquire) {
            self.paused.store(true, Ordering::Release);
        }
    }

    pub(crate) fn request(&self) {
        self.paused.store(false, Ordering::Release);
        self.requested.store(true, Ordering::Release);
    }

    pub(crate) fn take_request(&self) -> bool {
        self.requested.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn status(&self) -> ScrubStatus {
        let is_running = self.running.load(Ordering::Acquire) == 1 || self.requested.load(Ordering::Acquire);
        ScrubStatus {
            phase: if is_running { ScrubPhase::Running } else { ScrubPhase::Idle },
            is_paused: self.is_paused(),
            volumes: (self.volumes_done.load(Ordering::Relaxed), self.volumes.load(Ordering::Relaxed)),
            last_full_ms: self.last_full_ms.load(Ordering::Relaxed),
        }
    }
}

/// How repair stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairStatus {
    /// Shards that must be rebuilt or moved, those under way included.
    pub shards_left: usize,
    /// Of these, shards that no drive can take: each volume has its drives already, or there is no room.
    pub shards_waiting: usize,
    /// Why they wait: a sentence, empty if none does.
    pub waits_for: String,
    /// Volumes whose shard could not be rebuilt, as too little of them is left.
    pub volumes_lost: usize,
}

/// The shared side of repair.
#[derive(Default)]
pub(crate) struct RepairControl {
    status: ArcSwap<RepairStatus>,
    /// Drives that are not waited for to come back.
    asked: ArcSwap<BTreeSet<DriveId>>,
    /// Shards whose file is gone or cannot be read though the drive answers, or whose drive has another of the volume.
    broken: ArcSwap<BTreeSet<(VolumeId, u8)>>,
}

/// Most shards that are remembered as broken: more are found again by the next scrub.
const BROKEN_MAX: usize = 65_536;

impl RepairControl {
    pub(crate) fn status(&self) -> RepairStatus {
        RepairStatus::clone(&self.status.load())
    }

    pub(crate) fn set_status(&self, status: RepairStatus) {
        self.status.store(std::sync::Arc::new(status));
    }

    pub(crate) fn ask(&self, drive: DriveId) {
        self.asked.rcu(|asked| {
            let mut asked = BTreeSet::clone(asked);
            asked.insert(drive);
            asked
        });
    }

    pub(crate) fn is_asked(&self, drive: DriveId) -> bool {
        self.asked.load().contains(&drive)
    }

    pub(crate) fn note_broken(&self, volume: VolumeId, shard: u8) {
        if self.broken.load().contains(&(volume, shard)) {
            return;
        }
        self.broken.rcu(|broken| {
            let mut broken = BTreeSet::clone(broken);
            if broken.len() < BROKEN_MAX {
                broken.insert((volume, shard));
            }
            broken
        });
    }

    pub(crate) fn broken(&self) -> Vec<(VolumeId, u8)> {
        self.broken.load().iter().copied().collect()
    }

    pub(crate) fn forget_broken(&self, volume: VolumeId, shard: u8) {
        if self.broken.load().contains(&(volume, shard)) {
            self.broken.rcu(|broken| {
                let mut broken = BTreeSet::clone(broken);
                broken.remove(&(volume, shard));
                broken
            });
        }
    }
}
