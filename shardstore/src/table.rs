//! The volumes that this process knows: a read-mostly table shared by all cores.
//! Invariants: a lookup takes no lock; a volume's profile never changes while it is in the table, and a shard's drive
//! only once repair has committed that; its state only moves forward: open, sealed, reclaimed.
//! Not here: records on disk (`Catalog`), open files (`media`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use shardstore_format::{DriveId, Profile, VolumeClass, VolumeId, VolumeRecord, VolumeState};

use crate::shared::StoreShared;

/// Parts of the table: an insertion copies one of them, so at 500,000 volumes (1 PB at 8+4) about 500 pointers.
const PARTS: usize = 1024;

/// What a core must know of a volume to read or write it.
pub(crate) struct Volume {
    pub(crate) id: VolumeId,
    pub(crate) profile: Profile,
    pub(crate) class: VolumeClass,
    /// Member index of each shard's drive, or [`NO_MEMBER`].
    members: Box<[AtomicU32]>,
    /// One past the last sector up to which all stripes are durable: stripes below it never change.
    frontier_sector: AtomicU32,
    state: AtomicU64,
    pins: AtomicU32,
    /// How often a file of it was made anew: handles opened before lead to files that are gone.
    edition: AtomicU32,
}

/// A shard whose drive is no member any more.
const NO_MEMBER: u32 = u32::MAX;
const OPEN: u64 = u64::MAX;
const RECLAIMED: u64 = u64::MAX - 1;

impl Volume {
    pub(crate) fn new(record: &VolumeRecord, member_of: impl Fn(DriveId) -> Option<usize>) -> Volume {
        Volume {
            id: record.id,
            profile: record.profile,
            class: record.class,
            members: record
                .segments
                .iter()
                .map(|drive| AtomicU32::new(encode_member(member_of(*drive))))
                .collect(),
            frontier_sector: AtomicU32::new(match record.state {
                VolumeState::Sealed { end_sector } => end_sector,
                VolumeState::Open | VolumeState::Reclaimed => 0,
            }),
            state: AtomicU64::new(encode_state(record.state)),
            pins: AtomicU32::new(0),
            edition: AtomicU32::new(0),
        }
    }

    pub(crate) fn state(&self) -> VolumeState {
        match self.state.load(Ordering::SeqCst) {
            OPEN => VolumeState::Open,
            RECLAIMED => VolumeState::Reclaimed,
            end => VolumeState::Sealed { end_sector: u32::try_from(end).expect("stored from 32 bits") },
        }
    }

    pub(crate) fn set_state(&self, state: VolumeState) {
        let before = self.state.swap(encode_state(state), Ordering::SeqCst);
        assert!(before != RECLAIMED || state == VolumeState::Reclaimed, "a reclaimed volume stays so");
        assert!(before == OPEN || state != VolumeState::Open, "a sealed volume stays so");
    }

    /// The member whose drive holds a shard; `None`: the drive is no member any more, or there is no such shard.
    pub(crate) fn member(&self, shard: usize) -> Option<usize> {
        match self.members.get(shard)?.load(Ordering::SeqCst) {
            NO_MEMBER => None,
            member => usize::try_from(member).ok(),
        }
    }

    /// The members of all shards, by shard.
    pub(crate) fn members(&self) -> Vec<Option<usize>> {
        (0..self.members.len()).map(|shard| self.member(shard)).collect()
    }

    /// A shard lies on another drive from now on: its bytes are durable there and metadata says so.
    pub(crate) fn set_member(&self, shard: usize, member: usize) {
        self.members[shard].store(encode_member(Some(member)), Ordering::SeqCst);
    }

    /// One past the last sector up to which every stripe is durable on every shard that it has, and final.
    pub(crate) fn frontier_sector(&self) -> u32 {
        self.frontier_sector.load(Ordering::Acquire)
    }

    /// Says how far stripes are durable.
    pub(crate) fn set_frontier(&self, sector: u32) {
        self.frontier_sector.fetch_max(sector, Ordering::Release);
    }

    /// Uncommitted extents in the volume.
    pub(crate) fn pins(&self) -> u32 {
        self.pins.load(Ordering::SeqCst)
    }

    /// Changes whenever a file of the volume was made anew; part of what an open file is known by.
    pub(crate) fn edition(&self) -> u32 {
        self.edition.load(Ordering::SeqCst)
    }

    /// A file of the volume was made anew, whole and durable: every core opens it again.
    pub(crate) fn next_edition(&self) {
        self.edition.fetch_add(1, Ordering::SeqCst);
    }

    /// The file name of a shard.
    pub(crate) fn segment_path(&self, shard: usize) -> String {
        segment_path(self.id, shard)
    }
}

fn encode_member(member: Option<usize>) -> u32 {
    member.map_or(NO_MEMBER, |member| u32::try_from(member).expect("a pool has at most 1,024 members"))
}

fn encode_state(state: VolumeState) -> u64 {
    match state {
        VolumeState::Open => OPEN,
        VolumeState::Sealed { end_sector } => u64::from(end_sector),
        VolumeState::Reclaimed => RECLAIMED,
    }
}

/// The directory of segment files on every drive.
pub(crate) const SEGMENTS_DIR: &str = "segments";

/// The file of one shard of a volume.
pub(crate) fn segment_path(volume: VolumeId, shard: usize) -> String {
    format!("{SEGMENTS_DIR}/{:016x}.{shard:02x}", volume.0)
}

/// The file in which a shard is made anew beside the one that is there.
pub(crate) fn unfinished_path(volume: VolumeId, shard: usize) -> String {
    format!("{}{UNFINISHED_SUFFIX}", segment_path(volume, shard))
}

const UNFINISHED_SUFFIX: &str = ".new";

/// Whether a name in the directory of segments is of a file that was being made when its process ended.
pub(crate) fn is_unfinished_name(name: &str) -> bool {
    name.strip_suffix(UNFINISHED_SUFFIX).and_then(parse_segment_name).is_some()
}

/// The volume and shard that a name in the directory of segments stands for.
pub(crate) fn parse_segment_name(name: &str) -> Option<(VolumeId, usize)> {
    let (volume, shard) = name.split_once('.')?;
    let digits = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if volume.len() != 16 || shard.len() != 2 || !digits(volume) || !digits(shard) {
        return None;
    }
    Some((VolumeId(u64::from_str_radix(volume, 16).ok()?), usize::from_str_radix(shard, 16).ok()?))
}

/// Keeps a volume from being reclaimed while extents in it are not committed.
pub(crate) struct Pin(Arc<Volume>);

impl Pin {
    pub(crate) fn new(volume: &Arc<Volume>) -> Pin {
        assert_eq!(volume.state(), VolumeState::Open, "pins begin while a volume is open, so they run out");
        volume.pins.fetch_add(1, Ordering::SeqCst);
        Pin(Arc::clone(volume))
    }

    /// One more, for as long as another one stands: the volume may be sealed by now.
    pub(crate) fn new_beside(other: &Pin) -> Pin {
        let before = other.0.pins.fetch_add(1, Ordering::SeqCst);
        assert!(before > 0);
        Pin(Arc::clone(&other.0))
    }

    pub(crate) fn volume(&self) -> &Arc<Volume> {
        &self.0
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let before = self.0.pins.fetch_sub(1, Ordering::SeqCst);
        assert!(before > 0);
    }
}

type Part = HashMap<VolumeId, Arc<Volume>>;

/// All volumes by id.
pub(crate) struct VolumeTable {
    parts: Box<[ArcSwap<Part>]>,
}

impl VolumeTable {
    pub(crate) fn new() -> VolumeTable {
        VolumeTable { parts: (0..PARTS).map(|_| ArcSwap::from_pointee(Part::new())).collect() }
    }

    pub(crate) fn get(&self, id: VolumeId) -> Option<Arc<Volume>> {
        self.part(id).load().get(&id).cloned()
    }

    pub(crate) fn contains(&self, id: VolumeId) -> bool {
        self.part(id).load().contains_key(&id)
    }

    /// Adds a volume; one that is there already stays.
    pub(crate) fn insert(&self, volume: &Arc<Volume>) {
        self.part(volume.id).rcu(|part| {
            let mut part = Part::clone(part);
            part.entry(volume.id).or_insert_with(|| Arc::clone(volume));
            part
        });
    }

    pub(crate) fn remove(&self, id: VolumeId) {
        self.part(id).rcu(|part| {
            let mut part = Part::clone(part);
            part.remove(&id);
            part
        });
    }

    /// All known volumes with ids from `from` up, in order of their ids.
    pub(crate) fn from(&self, from: VolumeId) -> Vec<Arc<Volume>> {
        let mut found: Vec<Arc<Volume>> = Vec::new();
        for part in &self.parts {
            found.extend(part.load().values().filter(|volume| volume.id >= from).cloned());
        }
        found.sort_unstable_by_key(|volume| volume.id);
        found
    }

    /// Shards of known volumes that lie on a member. Cost: one pass over all volumes.
    pub(crate) fn shards_on(&self, member: usize) -> usize {
        let on_member = |volume: &Arc<Volume>| {
            volume.members().into_iter().filter(|holder| *holder == Some(member)).count()
        };
        self.parts.iter().map(|part| part.load().values().map(on_member).sum::<usize>()).sum()
    }

    fn part(&self, id: VolumeId) -> &ArcSwap<Part> {
        let index = id.0 % (PARTS as u64);
        &self.parts[usize::try_from(index).expect("below PARTS")]
    }
}

/// Volumes some of whose files this process is making, and how many times over: few at any time.
#[derive(Default)]
pub(crate) struct Opening(ArcSwap<BTreeMap<VolumeId, u32>>);

impl Opening {
    pub(crate) fn contains(&self, id: VolumeId) -> bool {
        self.0.load().contains_key(&id)
    }

    fn change(&self, change: impl Fn(&mut BTreeMap<VolumeId, u32>)) {
        self.0.rcu(|counts| {
            let mut counts = BTreeMap::clone(counts);
            change(&mut counts);
            counts
        });
    }
}

/// Lists a volume among those being made for as long as it lives.
pub(crate) struct OpeningGuard {
    shared: Arc<StoreShared>,
    id: VolumeId,
}

impl OpeningGuard {
    pub(crate) fn new(shared: Arc<StoreShared>, id: VolumeId) -> OpeningGuard {
        shared.opening.change(|counts| *counts.entry(id).or_default() += 1);
        OpeningGuard { shared, id }
    }
}

impl Drop for OpeningGuard {
    fn drop(&mut self) {
        self.shared.opening.change(|counts| match counts.get_mut(&self.id) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.id)),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_names_read_back_and_foreign_names_do_not() {
        let path = segment_path(VolumeId(0xabc), 11);
        assert_eq!(path, "segments/0000000000000abc.0b");
        assert_eq!(parse_segment_name("0000000000000abc.0b"), Some((VolumeId(0xabc), 11)));
        assert_eq!(unfinished_path(VolumeId(0xabc), 11), "segments/0000000000000abc.0b.new");
        assert!(is_unfinished_name("0000000000000abc.0b.new"));
        assert!(!is_unfinished_name("0000000000000abc.0b") && !is_unfinished_name("abc.new"));
        for name in ["", "abc.0b", "0000000000000ABC.0b", "0000000000000abc.0b.new", "+000000000000abc.0b"] {
            assert_eq!(parse_segment_name(name), None, "{name}");
        }
    }
}
