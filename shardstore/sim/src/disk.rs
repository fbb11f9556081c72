//! What a drive holds: inodes made of sectors, names, and which of it all a power loss may take back.
//! Invariants: a write changes the durable image only when it completes (or, torn, in a crash); changes of
//! length, of room and of names are undone by a crash unless a sync followed; cloning a disk copies no bytes.
//! Not here: time, faults, handles (`drive`).

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use shardstore_reactor::{DriveSpace, IoError, SECTOR_BYTES};

pub(crate) const SECTOR: u64 = SECTOR_BYTES as u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ino(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WriteId(u64);

/// The state of one drive's file system.
#[derive(Clone)]
pub(crate) struct Disk {
    capacity_sectors: u64,
    inodes: BTreeMap<Ino, Inode>,
    /// What the process sees.
    live: Names,
    /// What a power loss leaves for sure.
    durable: Names,
    /// Changes of names since, in order.
    unsynced: Vec<NameChange>,
    /// Writes under way: their bytes may be on the media in any part.
    inflight: BTreeMap<WriteId, Inflight>,
    next_id: u64,
    zeros: Rc<[u8]>,
    /// Completed writes stay in a cache that a power loss empties: a broken drive.
    is_volatile: bool,
}

#[derive(Clone, Default)]
struct Names {
    dirs: BTreeSet<String>,
    files: BTreeMap<String, Ino>,
}

#[derive(Clone)]
struct NameChange {
    ino: Ino,
    /// The name that goes, if any.
    from: Option<String>,
    /// The name that comes, if any.
    to: Option<String>,
}

#[derive(Clone)]
struct Inflight {
    ino: Ino,
    first_sector: u64,
    sectors: Vec<Rc<[u8]>>,
}

#[derive(Clone, Default)]
struct Inode {
    len_bytes: u64,
    sectors: BTreeMap<u64, Sector>,
    /// Changes of length and room since the last sync, in order.
    unsynced: Vec<MetaChange>,
    /// What volatile writes replaced, in order.
    cached: Vec<(u64, Option<Sector>)>,
    open_handles: u64,
}

#[derive(Clone)]
struct Sector {
    data: Rc<[u8]>,
    /// False: allocated, reads as zeros.
    written: bool,
}

#[derive(Clone)]
enum MetaChange {
    Length { old_bytes: u64, cut: Vec<(u64, Sector)> },
    Allocated { old_bytes: u64, added: Vec<u64> },
    Punched { taken: Vec<(u64, Sector)> },
}

impl Disk {
    pub(crate) fn new(capacity_bytes: u64) -> Disk {
        let root = Names { dirs: BTreeSet::from([String::new()]), files: BTreeMap::new() };
        Disk {
            capacity_sectors: capacity_bytes / SECTOR,
            inodes: BTreeMap::new(),
            live: root.clone(),
            durable: root,
            unsynced: Vec::new(),
            inflight: BTreeMap::new(),
            next_id: 1,
            zeros: Rc::from(vec![0; SECTOR_BYTES]),
            is_volatile: false,
        }
    }

    pub(crate) fn empty_like(&self) -> Disk {
        Disk { is_volatile: self.is_volatile, ..Disk::new(self.capacity_sectors * SECTOR) }
    }

    pub(crate) fn set_volatile(&mut self, is_volatile: bool) {
        self.is_volatile = is_volatile;
    }

    pub(crate) fn set_capacity(&mut self, capacity_bytes: u64) {
        self.capacity_sectors = capacity_bytes / SECTOR;
    }

    pub(crate) fn space(&self) -> DriveSpace {
        let total_bytes = self.capacity_sectors * SECTOR;
        DriveSpace { total_bytes, free_bytes: self.free_sectors() * SECTOR }
    }

    fn free_sectors(&self) -> u64 {
        // A removed file's room is free at once, though a crash may still bring the name back.
        let named: BTreeSet<Ino> = self.live.files.values().copied().collect();
        let held = self.inodes.iter().filter(|(ino, inode)| inode.open_handles > 0 || named.contains(ino));
        let used: usize = held.map(|(_, inode)| inode.sectors.len()).sum();
        self.capacity_sectors.saturating_sub(used as u64)
    }

    // Names.

    pub(crate) fn look_up(&self, path: &str) -> Option<Ino> {
        self.live.files.get(path).copied()
    }

    pub(crate) fn create(&mut self, path: &str) -> Result<Ino, IoError> {
        if !self.live.dirs.contains(parent(path)) {
            return Err(IoError::NotFound);
        }
        if self.live.files.contains_key(path) || self.live.dirs.contains(path) {
            return Err(IoError::AlreadyExists);
        }
        let ino = Ino(self.new_id());
        self.inodes.insert(ino, Inode::default());
        self.change_name(NameChange { ino, from: None, to: Some(path.into()) });
        Ok(ino)
    }

    pub(crate) fn remove(&mut self, path: &str) -> Result<(), IoError> {
        let ino = self.look_up(path).ok_or(IoError::NotFound)?;
        self.change_name(NameChange { ino, from: Some(path.into()), to: None });
        self.forget_unreachable();
        Ok(())
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) -> Result<(), IoError> {
        let ino = self.look_up(from).ok_or(IoError::NotFound)?;
        if !self.live.dirs.contains(parent(to)) {
            return Err(IoError::NotFound);
        }
        if from != to {
            self.change_name(NameChange { ino, from: Some(from.into()), to: Some(to.into()) });
            self.forget_unreachable();
        }
        Ok(())
    }

    fn change_name(&mut self, change: NameChange) {
        self.live.apply(&change);
        self.unsynced.push(change);
    }

    /// Makes a directory and its parents, durably.
    pub(crate) fn create_dir(&mut self, path: &str) -> Result<(), IoError> {
        let mut at = path;
        loop {
            if self.live.files.contains_key(at) {
                return Err(IoError::AlreadyExists);
            }
            self.live.dirs.insert(at.into());
            self.durable.dirs.insert(at.into());
            if at.is_empty() {
                return Ok(());
            }
            at = parent(at);
        }
    }

    pub(crate) fn list(&self, path: &str) -> Result<Vec<String>, IoError> {
        if !self.live.dirs.contains(path) {
            return Err(IoError::NotFound);
        }
        let names = self.live.files.keys().chain(&self.live.dirs);
        let inside = names.filter(|name| !name.is_empty()).filter(|name| parent(name) == path);
        Ok(inside.map(|name| last_component(name).to_owned()).collect())
    }

    pub(crate) fn sync_dir(&mut self, path: &str) -> Result<(), IoError> {
        if !self.live.dirs.contains(path) {
            return Err(IoError::NotFound);
        }
        let (now, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.unsynced).into_iter().partition(|change| change.is_in(path));
        for change in &now {
            self.durable.apply(change);
        }
        self.unsynced = later;
        self.forget_unreachable();
        Ok(())
    }

    // Handles.

    pub(crate) fn open(&mut self, ino: Ino) {
        self.inode_mut(ino).open_handles += 1;
    }

    pub(crate) fn close(&mut self, ino: Ino) {
        let Some(inode) = self.inodes.get_mut(&ino) else { return };
        assert!(inode.open_handles > 0);
        inode.open_handles -= 1;
        self.forget_unreachable();
    }

    // Bytes.

    /// Fills `buf`; a sector that a write under way covers shows, per sector, the old or the new bytes.
    pub(crate) fn read(&self, ino: Ino, offset_bytes: u64, buf: &mut [u8], rng: &mut fastrand::Rng) -> usize {
        let Some(inode) = self.inodes.get(&ino) else { return 0 };
        let there_bytes = inode.len_bytes.saturating_sub(offset_bytes);
        let got_bytes = usize::try_from(there_bytes).unwrap_or(usize::MAX).min(buf.len());
        let first_sector = offset_bytes / SECTOR;
        for (index, part) in (first_sector..).zip(buf[..got_bytes].chunks_mut(SECTOR_BYTES)) {
            let stored = inode.sectors.get(&index).map_or(&self.zeros, |sector| &sector.data);
            let racing = self.inflight.values().filter_map(|write| write.sector(ino, index));
            let seen = racing.fold(stored, |seen, new| if rng.bool() { new } else { seen });
            part.copy_from_slice(&seen[..part.len()]);
        }
        got_bytes
    }

    pub(crate) fn begin_write(&mut self, ino: Ino, offset_bytes: u64, bytes: Vec<Rc<[u8]>>) -> WriteId {
        let id = WriteId(self.new_id());
        self.inflight.insert(id, Inflight { ino, first_sector: offset_bytes / SECTOR, sectors: bytes });
        id
    }

    /// Sectors that the write would add to what its file holds, and whether there is room for them.
    pub(crate) fn room_for_write(&self, id: WriteId) -> (u64, bool) {
        let Some(write) = self.inflight.get(&id) else { return (0, true) };
        let Some(inode) = self.inodes.get(&write.ino) else { return (0, true) };
        let new = write.indexes().filter(|index| !inode.sectors.contains_key(index)).count() as u64;
        (new, new == 0 || new <= self.free_sectors())
    }

    /// Lands the sectors that `lands` picks and ends the write.
    pub(crate) fn end_write(&mut self, id: WriteId, mut lands: impl FnMut() -> bool) {
        let Some(write) = self.inflight.remove(&id) else { return };
        let Some(inode) = self.inodes.get_mut(&write.ino) else { return };
        for (index, data) in (write.first_sector..).zip(write.sectors) {
            if lands() {
                let before = inode.sectors.insert(index, Sector { data, written: true });
                if self.is_volatile {
                    inode.cached.push((index, before));
                }
                inode.len_bytes = inode.len_bytes.max((index + 1) * SECTOR);
            }
        }
    }

    /// Lands the whole write somewhere else on the drive, within what some file already holds.
    pub(crate) fn misdirect_write(&mut self, id: WriteId, rng: &mut fastrand::Rng) {
        let Some(write) = self.inflight.remove(&id) else { return };
        let targets: Vec<Ino> = self.inodes.keys().copied().collect();
        let Some(&target) = targets.get(rng.usize(..targets.len().max(1))) else { return };
        let inode = self.inode_mut(target);
        let held: Vec<u64> = inode.sectors.keys().copied().collect();
        let Some(&first) = held.get(rng.usize(..held.len().max(1))) else { return };
        for (index, data) in (first..).zip(write.sectors) {
            if let Some(sector) = inode.sectors.get_mut(&index) {
                *sector = Sector { data, written: true };
            }
        }
    }

    /// Flips one bit; false if the file does not reach there.
    pub(crate) fn flip_bit(&mut self, ino: Ino, offset_bytes: u64, bit: u32) -> bool {
        let zeros = Rc::clone(&self.zeros);
        let Some(inode) = self.inodes.get_mut(&ino) else { return false };
        if offset_bytes >= inode.len_bytes {
            return false;
        }
        let sector =
            inode.sectors.entry(offset_bytes / SECTOR).or_insert(Sector { data: zeros, written: true });
        let mut bytes = sector.data.to_vec();
        let in_sector = usize::try_from(offset_bytes % SECTOR).unwrap_or(0);
        bytes[in_sector] ^= 1 << (bit % 8);
        *sector = Sector { data: bytes.into(), written: true };
        true
    }

    /// A random stored byte: its file and offset.
    pub(crate) fn random_stored_byte(&self, rng: &mut fastrand::Rng) -> Option<(String, u64)> {
        let mut places = Vec::new();
        for (path, ino) in &self.live.files {
            let Some(inode) = self.inodes.get(ino) else { continue };
            let written = inode.sectors.iter().filter(|(_, sector)| sector.written);
            places.extend(written.map(|(&index, _)| (path, index)));
        }
        let &(path, index) = places.get(rng.usize(..places.len().max(1)))?;
        Some((path.clone(), index * SECTOR + rng.u64(..SECTOR)))
    }

    pub(crate) fn bit_flip_in_write(&mut self, id: WriteId, rng: &mut fastrand::Rng) {
        let Some(write) = self.inflight.get_mut(&id) else { return };
        let index = rng.usize(..write.sectors.len());
        let mut bytes = write.sectors[index].to_vec();
        bytes[rng.usize(..SECTOR_BYTES)] ^= 1 << rng.u32(..8);
        write.sectors[index] = bytes.into();
    }

    // Room and length.

    pub(crate) fn allocate(&mut self, ino: Ino, offset_bytes: u64, len_bytes: u64) -> Result<(), IoError> {
        let free = self.free_sectors();
        let zeros = Rc::clone(&self.zeros);
        let inode = self.inode_mut(ino);
        let range = offset_bytes / SECTOR..(offset_bytes + len_bytes).div_ceil(SECTOR);
        let added: Vec<u64> = range.filter(|index| !inode.sectors.contains_key(index)).collect();
        if added.len() as u64 > free {
            return Err(IoError::NoSpace);
        }
        for &index in &added {
            inode.sectors.insert(index, Sector { data: Rc::clone(&zeros), written: false });
        }
        let old_bytes = inode.len_bytes;
        inode.len_bytes = old_bytes.max(offset_bytes + len_bytes);
        inode.unsynced.push(MetaChange::Allocated { old_bytes, added });
        Ok(())
    }

    pub(crate) fn punch(&mut self, ino: Ino, offset_bytes: u64, len_bytes: u64) {
        let inode = self.inode_mut(ino);
        let range = offset_bytes / SECTOR..(offset_bytes + len_bytes) / SECTOR;
        let taken = inode.take_range(range);
        inode.unsynced.push(MetaChange::Punched { taken });
    }

    pub(crate) fn set_len(&mut self, ino: Ino, len_bytes: u64) {
        let inode = self.inode_mut(ino);
        let old_bytes = inode.len_bytes;
        let cut = inode.take_range(len_bytes.div_ceil(SECTOR)..u64::MAX);
        let tail_bytes = usize::try_from(len_bytes % SECTOR).unwrap_or(0);
        let tail = inode.sectors.get_mut(&(len_bytes / SECTOR)).filter(|_| tail_bytes > 0);
        if let Some(sector) = tail.filter(|_| len_bytes < old_bytes) {
            // What lies past the new end reads as zeros if the file grows again.
            let mut bytes = sector.data.to_vec();
            bytes[tail_bytes..].fill(0);
            let zeroed = Sector { data: bytes.into(), written: sector.written };
            *sector = zeroed;
        }
        inode.len_bytes = len_bytes;
        inode.unsynced.push(MetaChange::Length { old_bytes, cut });
    }

    pub(crate) fn sync(&mut self, ino: Ino) {
        self.inode_mut(ino).unsynced.clear();
    }

    pub(crate) fn len_bytes(&self, ino: Ino) -> u64 {
        self.inodes.get(&ino).map_or(0, |inode| inode.len_bytes)
    }

    // Ends of the world.

    /// Power loss: what is not durable survives in a random part, and what is left is all durable.
    pub(crate) fn crash(&mut self, rng: &mut fastrand::Rng) {
        self.crash_writes(rng);
        for inode in self.inodes.values_mut() {
            inode.lose_cached(rng);
            let kept = chance_of_crash(rng).prefix(inode.unsynced.len(), rng);
            inode.undo_from(kept);
            inode.open_handles = 0;
        }
        let survival = chance_of_crash(rng);
        for change in std::mem::take(&mut self.unsynced) {
            if survival.one(rng) {
                self.durable.apply(&change);
            }
        }
        self.live = self.durable.clone();
        self.forget_unreachable();
    }

    /// A process death: the kernel carries on, so every write under way lands.
    pub(crate) fn kill(&mut self) {
        let ids: Vec<WriteId> = self.inflight.keys().copied().collect();
        for id in ids {
            self.end_write(id, || true);
        }
        for inode in self.inodes.values_mut() {
            inode.open_handles = 0;
        }
        self.forget_unreachable();
    }

    fn crash_writes(&mut self, rng: &mut fastrand::Rng) {
        let mut ids: Vec<WriteId> = self.inflight.keys().copied().collect();
        rng.shuffle(&mut ids);
        for id in ids {
            let survival = chance_of_crash(rng);
            let (_, fits) = self.room_for_write(id);
            self.end_write(id, || fits && survival.one(rng));
        }
    }

    fn forget_unreachable(&mut self) {
        let named: BTreeSet<Ino> =
            self.live.files.values().chain(self.durable.files.values()).copied().collect();
        let changed: BTreeSet<Ino> = self.unsynced.iter().map(|change| change.ino).collect();
        let written: BTreeSet<Ino> = self.inflight.values().map(|write| write.ino).collect();
        self.inodes.retain(|ino, inode| {
            inode.open_handles > 0 || named.contains(ino) || changed.contains(ino) || written.contains(ino)
        });
    }

    fn inode_mut(&mut self, ino: Ino) -> &mut Inode {
        self.inodes.entry(ino).or_default()
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

/// What of the unsynced state a crash keeps: three cases of equal weight, so that the extremes are common.
#[derive(Clone, Copy)]
enum Survival {
    All,
    Nothing,
    Some,
}

fn chance_of_crash(rng: &mut fastrand::Rng) -> Survival {
    match rng.u8(..3) {
        0 => Survival::All,
        1 => Survival::Nothing,
        _ => Survival::Some,
    }
}

impl Survival {
    fn one(self, rng: &mut fastrand::Rng) -> bool {
        match self {
            Survival::All => true,
            Survival::Nothing => false,
            Survival::Some => rng.bool(),
        }
    }

    fn prefix(self, count: usize, rng: &mut fastrand::Rng) -> usize {
        match self {
            Survival::All => count,
            Survival::Nothing => 0,
            Survival::Some => rng.usize(..=count),
        }
    }
}

impl Names {
    fn apply(&mut self, change: &NameChange) {
        if let Some(from) = &change.from
            && self.files.get(from) == Some(&change.ino)
        {
            self.files.remove(from);
        }
        if let Some(to) = &change.to {
            self.files.insert(to.clone(), change.ino);
        }
    }
}

impl NameChange {
    fn is_in(&self, dir: &str) -> bool {
        self.from.iter().chain(&self.to).any(|path| parent(path) == dir)
    }
}

impl Inflight {
    fn indexes(&self) -> std::ops::Range<u64> {
        self.first_sector..self.first_sector + self.sectors.len() as u64
    }

    fn sector(&self, ino: Ino, index: u64) -> Option<&Rc<[u8]>> {
        let within = index.checked_sub(self.first_sector).filter(|_| self.ino == ino)?;
        self.sectors.get(usize::try_from(within).ok()?)
    }
}

impl Inode {
    fn take_range(&mut self, range: std::ops::Range<u64>) -> Vec<(u64, Sector)> {
        if range.is_empty() {
            return Vec::new();
        }
        let indexes: Vec<u64> = self.sectors.range(range).map(|(&index, _)| index).collect();
        indexes.into_iter().filter_map(|index| Some((index, self.sectors.remove(&index)?))).collect()
    }

    /// Takes back a random part of the volatile writes, the last first.
    fn lose_cached(&mut self, rng: &mut fastrand::Rng) {
        let cached = std::mem::take(&mut self.cached);
        if cached.is_empty() {
            return;
        }
        let survival = chance_of_crash(rng);
        for (index, before) in cached.into_iter().rev() {
            if survival.one(rng) {
                continue;
            }
            match before {
                Some(before) => self.sectors.insert(index, before),
                None => self.sectors.remove(&index),
            };
        }
    }

    /// Undoes the unsynced changes from the `kept`th on, the last first; durable writes since then stay.
    fn undo_from(&mut self, kept: usize) {
        let changes = std::mem::take(&mut self.unsynced);
        for change in changes.into_iter().skip(kept).rev() {
            match change {
                MetaChange::Length { old_bytes, cut } => {
                    self.put_back(cut);
                    self.len_bytes = old_bytes.max(self.written_end_bytes());
                }
                MetaChange::Allocated { old_bytes, added } => {
                    for index in added {
                        if self.sectors.get(&index).is_some_and(|sector| !sector.written) {
                            self.sectors.remove(&index);
                        }
                    }
                    self.len_bytes = old_bytes.max(self.written_end_bytes());
                }
                MetaChange::Punched { taken } => self.put_back(taken),
            }
        }
    }

    fn put_back(&mut self, sectors: Vec<(u64, Sector)>) {
        for (index, sector) in sectors {
            self.sectors.entry(index).or_insert(sector);
        }
    }

    fn written_end_bytes(&self) -> u64 {
        let last = self.sectors.iter().rev().find(|(_, sector)| sector.written);
        // A file cut inside a sector ends there, not at the sector's end.
        last.map_or(0, |(&index, _)| ((index + 1) * SECTOR).min(self.len_bytes))
    }
}

/// `a/b/c` without empty components; panics on what no drive path may hold.
pub(crate) fn normal_path(path: &str, seed: u64) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    assert!(!parts.contains(&".."), "seed={seed}: a path leaves its drive: {path:?}");
    parts.join("/")
}

pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

fn last_component(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}
