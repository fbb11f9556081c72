//! Repair: a shard whose drive is gone, failed or to be emptied, or whose file is gone, is made anew on a drive that
//! holds no other shard of its volume, whole segment by whole segment, in sequential I/O.
//! Invariants: the new segment is durable, name included, before metadata says that the shard lies there, and readers
//! go there only after that; until then, and after a crash in between, the old state stands, a file in place included,
//! and the new file is an orphan; two shards of a volume never come to lie on one drive, also when both are made at
//! once; what is copied from a drive that is emptied was verified page by page.
//! Not here: single bad pages (`mend`), shards of healthy drives (`balance`), who decides that a drive leaves (`server`),
//! metadata's transaction.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::stream::{FuturesUnordered, StreamExt};
use shardstore_format::{
    PAGE_HEADER_BYTES, PageAddress, StripeHeader, VolumeClass, VolumeId, VolumeState, page_bytes, seal_page,
};
use shardstore_reactor::{
    AlignedBuf, Drive, DriveFile, DriveSpace, Executor, IoError, MonotonicTime, PendingWrite,
};

use crate::balance::BalanceRounds;
use crate::catalog::{Catalog, CatalogError};
use crate::health::DriveState;
use crate::media::MediaInner;
use crate::mend::ReadPage;
use crate::options::{
    BACKGROUND_PERIOD, OVERLOAD_WAIT, REPAIR_WRITE_BYTES, REPAIRS_AT_ONCE, in_memory, sector_offset_bytes,
};
use crate::pace::Pace;
use crate::place::{Room, remove_segment};
use crate::scrub::Owned;
use crate::shared::count;
use crate::store::{Store, StoreInner};
use crate::table::{SEGMENTS_DIR, Volume, unfinished_path};
use crate::upkeep::RepairStatus;
use crate::walk::{PageFound, Step, Walk};

/// Attempts at the small transaction of a finished shard before it is made anew another time.
const COMMITS_MAX: u32 = 20;

/// A shard that must be made anew.
pub(crate) struct Due {
    pub(crate) volume: Arc<Volume>,
    pub(crate) shard: u8,
    /// The drive can be read: its pages are copied where they verify.
    pub(crate) is_copy: bool,
    /// Only its file is wrong: it is made anew where it was.
    pub(crate) in_place: Option<usize>,
}

/// Why a shard was not made anew.
pub(crate) enum RepairError {
    /// The volume went, or somebody else moved the shard: nothing is left to do.
    Gone,
    /// Fewer than k pages of a stripe that objects need are left.
    Lost,
    /// The target failed or is full: another one, another time.
    Target,
    /// Metadata refused: another time.
    Metadata(CatalogError),
}

/// What one round of repair did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Shards that are whole on a healthy drive again.
    pub repaired: usize,
    /// Shards that wait for a drive, for room or for metadata.
    pub waiting: usize,
    /// Volumes that have lost more than parity mends.
    pub lost: usize,
}

/// What the drives have room for in one round.
struct RoomOfRound {
    spaces: Vec<(usize, DriveSpace)>,
    /// Drives that were chosen for a shard of a volume. Until it lies there the volume does not say so.
    taken: BTreeSet<(VolumeId, usize)>,
}

/// What one core remembers between rounds.
pub(crate) struct RepairRounds {
    /// Since when a member is missing.
    missing_since: RefCell<BTreeMap<usize, MonotonicTime>>,
    tempo: Tempo,
}

/// How fast shards are made.
pub(crate) struct Tempo {
    pub(crate) pace: Pace,
    /// Bytes a second that are read at most; none for as fast as the drives allow.
    pub(crate) bytes_per_s: Option<u64>,
}

impl<D: Drive, X: Executor, C: Catalog> Store<D, X, C> {
    /// Makes anew what is due now, drives that are missing included, as fast as the drives allow.
    ///
    /// Cost: for each shard, k sequential reads and one sequential write of its segment.
    pub async fn repair_now(&self) -> RepairReport {
        for (member, slot) in self.shared().drives.slots().iter().enumerate() {
            if self.shared().drives.slots()[member].state == DriveState::Missing {
                self.shared().repair.ask(slot.id);
            }
        }
        let rounds = RepairRounds {
            missing_since: RefCell::default(),
            tempo: Tempo { pace: Pace::new(self.inner.media.executor.now()), bytes_per_s: None },
        };
        let mut all = RepairReport::default();
        loop {
            let report = self.inner.repair_round(&rounds).await;
            all.repaired += report.repaired;
            (all.waiting, all.lost) = (report.waiting, report.lost);
            if report.repaired == 0 {
                return all;
            }
        }
    }

    /// Repairs, and evens the drives out while there is nothing to repair, until the store stops. Runs on one core of
    /// the process.
    pub(crate) async fn run_repair(self) {
        let shared = Arc::clone(self.shared());
        let executor = self.inner.media.executor.clone();
        let tempo = |bytes_per_s| Tempo { pace: Pace::new(executor.now()), bytes_per_s: Some(bytes_per_s) };
        let rounds = RepairRounds {
            missing_since: RefCell::default(),
            tempo: tempo(shared.options.repair_bytes_per_s),
        };
        let balance = BalanceRounds::new(tempo(shared.options.balance_bytes_per_s));
        while !shared.stopping.load(Ordering::SeqCst) {
            executor.sleep(BACKGROUND_PERIOD).await;
            self.inner.repair_round(&rounds).await;
            self.inner.balance_round(&rounds, &balance).await;
        }
    }
}

impl<D: Drive, X: Executor, C: Catalog> StoreInner<D, X, C> {
    async fn repair_round(self: &Rc<Self>, rounds: &RepairRounds) -> RepairReport {
        let due = self.due(rounds);
        let shared = Arc::clone(&self.media.shared);
        if due.is_empty() {
            if shared.repair.status() != RepairStatus::default() {
                shared.repair.set_status(RepairStatus::default());
            }
            return RepairReport::default();
        }
        let left = Cell::new(due.len());
        let room = RoomOfRound {
            spaces: self.media.spaces_of(&shared.drives.healthy()).await,
            taken: BTreeSet::new(),
        };
        let room = RefCell::new(room);
        let mut report = RepairReport::default();
        let mut waits_for = String::new();
        let mut running = FuturesUnordered::new();
        let mut due = due.into_iter();
        loop {
            while running.len() < REPAIRS_AT_ONCE && !shared.stopping.load(Ordering::SeqCst) {
                let Some(next) = due.next() else { break };
                match self.choose_target(&next, &mut room.borrow_mut()) {
                    Ok(target) => running.push(async move {
                        let result = self.repair_shard(&next, target, &rounds.tempo).await;
                        (next, result)
                    }),
                    Err(why) => {
                        report.waiting += 1;
                        waits_for = why;
                    }
                }
            }
            let Some((done, result)) = running.next().await else { break };
            left.set(left.get() - 1);
            let (volume, shard) = (done.volume.id.0, done.shard);
            match result {
                Ok(()) => {
                    report.repaired += 1;
                    count(&shared.counts.shards_repaired, 1);
                }
                Err(RepairError::Gone) => {}
                Err(RepairError::Lost) => {
                    tracing::error!(
                        volume,
                        shard,
                        "a shard cannot be rebuilt: too little of its volume is left"
                    );
                    report.lost += 1;
                }
                Err(RepairError::Target) => {
                    report.waiting += 1;
                    waits_for = "the drive that was to take a shard failed or is full".to_owned();
                }
                Err(RepairError::Metadata(error)) => {
                    report.waiting += 1;
                    waits_for = format!("metadata: {error}");
                }
            }
            shared.repair.set_status(RepairStatus {
                shards_left: left.get(),
                shards_waiting: report.waiting,
                waits_for: waits_for.clone(),
                volumes_lost: report.lost,
            });
        }
        shared.repair.set_status(RepairStatus {
            shards_left: report.waiting + report.lost,
            shards_waiting: report.waiting,
            waits_for,
            volumes_lost: report.lost,
        });
        report
    }

    /// The shards that must be made anew. Open volumes are sealed soon after their drives changed, and come then.
    pub(crate) fn due(&self, rounds: &RepairRounds) -> Vec<Due> {
        let shared = &self.media.shared;
        let slots = shared.drives.slots();
        let now = self.media.executor.now();
        let mut missing_since = rounds.missing_since.borrow_mut();
        missing_since
            .retain(|member, _| slots.get(*member).is_some_and(|slot| slot.state == DriveState::Missing));
        let mut is_due = Vec::with_capacity(slots.len());
        for (member, slot) in slots.iter().enumerate() {
            is_due.push(match slot.state {
                DriveState::Healthy => false,
                DriveState::Draining | DriveState::Failed | DriveState::Removed => true,
                DriveState::Missing => {
                    let since = *missing_since.entry(member).or_insert(now);
                    shared.repair.is_asked(slot.id) || now.since(since) >= shared.options.repair_delay
                }
            });
        }
        let broken = shared.repair.broken();
        if broken.is_empty() && !is_due.contains(&true) {
            return Vec::new();
        }
        let mut due = Vec::new();
        let is_sealed = |volume: &Volume| matches!(volume.state(), VolumeState::Sealed { .. });
        for volume in shared.volumes.from(VolumeId(0)) {
            for (shard, member) in (0u8..).zip(volume.members()) {
                let Some(member) = member.filter(|member| is_due[*member] && is_sealed(&volume)) else {
                    continue;
                };
                let is_copy = slots[member].state == DriveState::Draining;
                due.push(Due { volume: Arc::clone(&volume), shard, is_copy, in_place: None });
            }
        }
        for (id, shard) in broken {
            let known = shared.volumes.get(id);
            let member = known.as_ref().and_then(|volume| volume.member(usize::from(shard)));
            match (known, member) {
                (Some(volume), Some(member)) if !is_due[member] => {
                    if is_sealed(&volume) {
                        let its_drive = |other: &&Option<usize>| **other == Some(member);
                        let is_copy = volume.members().iter().filter(its_drive).count() > 1;
                        due.push(Due { volume, shard, is_copy, in_place: (!is_copy).then_some(member) });
                    }
                }
                _ => shared.repair.forget_broken(id, shard),
            }
        }
        due
    }

    /// A healthy drive without another shard of the volume, none that is made now either, the freest; its room is taken.
    fn choose_target(&self, due: &Due, of_round: &mut RoomOfRound) -> Result<usize, String> {
        if let Some(member) = due.in_place {
            return Ok(member);
        }
        let len_bytes = sector_offset_bytes(due.volume.frontier_sector());
        let room = if due.volume.class == VolumeClass::Run { Room::All } else { Room::AboveReserve };
        let held = due.volume.members();
        let RoomOfRound { spaces, taken } = of_round;
        let is_other =
            |member: usize| !held.contains(&Some(member)) && !taken.contains(&(due.volume.id, member));
        let others: Vec<&mut (usize, DriveSpace)> =
            spaces.iter_mut().filter(|(member, _)| is_other(*member)).collect();
        if others.is_empty() {
            let shards = due.volume.profile.shards();
            return Err(format!(
                "every healthy drive holds a shard of the volumes already, {shards} each: add or replace a drive"
            ));
        }
        let roomy = others.into_iter().filter(|(_, space)| room.holds(*space, len_bytes));
        let target = roomy.max_by_key(|(_, space)| space.free_bytes);
        let Some((member, space)) = target else {
            return Err("the other drives have no room: add a drive or delete objects".to_owned());
        };
        space.free_bytes = space.free_bytes.saturating_sub(len_bytes);
        taken.insert((due.volume.id, *member));
        Ok(*member)
    }

    /// Makes a shard on `target`, says so in metadata, and removes it where it was.
    pub(crate) async fn repair_shard(
        self: &Rc<Self>,
        due: &Due,
        target: usize,
        tempo: &Tempo,
    ) -> Result<(), RepairError> {
        let (volume, shard) = (&due.volume, due.shard);
        let source = volume.member(usize::from(shard)).ok_or(RepairError::Gone)?;
        // Until it has ended there are files that no record names.
        let _making = self.media.shared.opening_guard(volume.id);
        if let Err(error) = self.make_shard(due, target, tempo).await {
            self.discard(volume, shard, source, target).await;
            return Err(if self.media.is_gone(volume) { RepairError::Gone } else { error });
        }
        self.media.shared.repair.forget_broken(volume.id, shard);
        volume.next_edition();
        if source == target {
            return Ok(());
        }
        let committed = self.commit_move(volume, shard, source, target).await;
        match committed {
            Ok(true) => {}
            Ok(false) => {
                self.discard(volume, shard, source, target).await;
                return Err(RepairError::Gone);
            }
            // It may have been committed: the file stays, and the next start or round knows more.
            Err(error) => return Err(RepairError::Metadata(error)),
        }
        volume.set_member(usize::from(shard), target);
        if let Some(drive) = self.media.drive(source) {
            // Readers that looked before find the old file until they are done with it.
            self.leave_epochs().await;
            let path = volume.segment_path(usize::from(shard));
            if let Err(error) = self.media.bounded(source, remove_segment(&drive, &path)).await {
                tracing::debug!(%error, "a segment that moved stays until its drive is opened next");
            }
        }
        Ok(())
    }

    async fn commit_move(
        &self,
        volume: &Volume,
        shard: u8,
        source: usize,
        target: usize,
    ) -> Result<bool, CatalogError> {
        let drives = &self.media.shared.drives;
        let (from, to) = (drives.slot(source).id, drives.slot(target).id);
        let mut tries = 0;
        loop {
            tries += 1;
            match self.catalog.move_shard(volume.id, volume.class, shard, from, to).await {
                Err(CatalogError::Retry) if tries < COMMITS_MAX => {
                    self.media.executor.sleep(OVERLOAD_WAIT).await;
                }
                result => return result,
            }
        }
    }

    /// Removes what was made for nothing.
    async fn discard(&self, volume: &Volume, shard: u8, source: usize, target: usize) {
        if let Some(drive) = self.media.drive(target) {
            let path = path_of_new(volume, shard, source == target);
            if let Err(error) = self.media.bounded(target, remove_segment(&drive, &path)).await {
                tracing::debug!(%error, "a segment that was not finished stays until its drive is opened next");
            }
        }
    }

    /// Makes the segment of a shard on `target`, durable with its name. In place it is made beside the file that is
    /// there, which stays until the new one is whole: what cannot be rebuilt today may be read again tomorrow.
    async fn make_shard(&self, due: &Due, target: usize, tempo: &Tempo) -> Result<(), RepairError> {
        let (volume, shard) = (&due.volume, due.shard);
        let drive = self.media.drive(target).ok_or(RepairError::Target)?;
        let path = path_of_new(volume, shard, due.in_place.is_some());
        let end_bytes = sector_offset_bytes(volume.frontier_sector());
        let opening = async {
            // An earlier attempt may have left one.
            remove_segment(&drive, &path).await?;
            let file = self.media.make_file_at(&path, target).await?;
            if end_bytes > 0 {
                file.allocate(0, end_bytes).await?;
            }
            Ok(file)
        };
        let file = self.media.bounded(target, opening).await;
        let file = file.map_err(|error| self.target_failed(target, &error))?;
        let writer = SegmentWriter::new(&file);
        self.fill_shard(due, writer, target, tempo).await?;
        let closing = async {
            file.set_len(end_bytes).await?;
            file.sync().await?;
            if due.in_place.is_some() {
                drive.rename(&path, &volume.segment_path(usize::from(shard))).await?;
            }
            drive.sync_dir(SEGMENTS_DIR).await
        };
        self.media.bounded(target, closing).await.map_err(|error| self.target_failed(target, &error))
    }

    fn target_failed(&self, target: usize, error: &IoError) -> RepairError {
        if !matches!(error, IoError::NoSpace | IoError::Fenced) {
            self.media.fence(target, error);
        }
        RepairError::Target
    }

    async fn fill_shard(
        &self,
        due: &Due,
        mut writer: SegmentWriter<'_, D>,
        target: usize,
        tempo: &Tempo,
    ) -> Result<(), RepairError> {
        let (media, volume, shard) = (&self.media, &due.volume, due.shard);
        let shared = &media.shared;
        let mut walk = Walk::new(volume, media.sources_of(due)).reading_ahead();
        loop {
            let before = walk.read_bytes;
            let step = match walk.next(media).await {
                Ok(step) => step,
                Err(_) => {
                    media.executor.sleep(OVERLOAD_WAIT).await;
                    continue;
                }
            };
            if let Some(rate) = tempo.bytes_per_s.filter(|_| walk.read_bytes > before) {
                tempo.pace.take(shared, &media.executor, walk.read_bytes - before, rate).await;
            }
            if media.is_gone(volume) {
                return Err(RepairError::Gone);
            }
            match step {
                Step::End => break,
                Step::Stripe(sector, header) => {
                    let page = match media.page_from_walk(&walk, volume, sector, &header, due) {
                        FromWalk::Page(page) => Some(page),
                        FromWalk::NoPage => None,
                        FromWalk::NotEnough => self.page_from_stripe(volume, sector, shard).await?.1,
                    };
                    let put = writer.put(sector, page).await;
                    put.map_err(|error| self.target_failed(target, &error))?;
                }
                Step::Unreadable(sector) => {
                    let next = self.next_owned_stripe(volume, sector).await.map_err(RepairError::Metadata)?;
                    match next {
                        Owned::Here => {
                            // The walked shards say nothing; perhaps the others do.
                            let (header, page) = self.page_from_stripe(volume, sector, shard).await?;
                            let put = writer.put(sector, page).await;
                            put.map_err(|error| self.target_failed(target, &error))?;
                            walk.skip_to(sector + u32::from(header.shape.page_len_sectors));
                        }
                        Owned::At(next) => walk.skip_to(next),
                        Owned::None => break,
                    }
                }
            }
        }
        writer.finish().await.map_err(|error| self.target_failed(target, &error))?;
        count(&shared.counts.repair_bytes, walk.read_bytes);
        Ok(())
    }

    /// A page from whatever is whole of its stripe, itself included; none if the stripe has no such page.
    async fn page_from_stripe(
        &self,
        volume: &Arc<Volume>,
        sector: u32,
        shard: u8,
    ) -> Result<(StripeHeader, Option<AlignedBuf>), RepairError> {
        loop {
            if let Ok(read) = self.media.read_stripe(volume, sector).await {
                let mut stripe = read.ok_or(RepairError::Lost)?;
                let own = std::mem::replace(&mut stripe.pages[usize::from(shard)], ReadPage::Unread);
                match own {
                    ReadPage::Absent => return Ok((stripe.header, None)),
                    ReadPage::Whole(page) => return Ok((stripe.header, Some(page))),
                    ReadPage::Bad | ReadPage::Unread => {}
                }
                if let Ok(page) = self.media.compute_page(volume, sector, &stripe, shard) {
                    return Ok((stripe.header, Some(page.ok_or(RepairError::Lost)?)));
                }
            }
            self.media.executor.sleep(OVERLOAD_WAIT).await;
        }
    }
}

/// Where a shard is made anew.
fn path_of_new(volume: &Volume, shard: u8, is_in_place: bool) -> String {
    let shard = usize::from(shard);
    if is_in_place { unfinished_path(volume.id, shard) } else { volume.segment_path(shard) }
}

/// What a walk's window has of the wanted page.
enum FromWalk {
    Page(AlignedBuf),
    /// A short stripe has no such page.
    NoPage,
    NotEnough,
}

impl<D: Drive, X: Executor> MediaInner<D, X> {
    /// Room on these members, as far as they answer.
    pub(crate) async fn spaces_of(&self, members: &[usize]) -> Vec<(usize, DriveSpace)> {
        let mut spaces = Vec::new();
        for member in members {
            let Some(drive) = self.drive(*member) else { continue };
            if let Ok(space) = self.bounded(*member, drive.space()).await {
                spaces.push((*member, space));
            }
        }
        spaces
    }

    /// The shards to read: for a copy the shard itself and one that every stripe has; else any k others.
    fn sources_of(&self, due: &Due) -> Vec<u8> {
        let (volume, shard) = (&due.volume, due.shard);
        let k = volume.profile.k;
        let shards = u8::try_from(volume.profile.shards()).unwrap_or(u8::MAX);
        let is_readable = |other: &u8| {
            volume.member(usize::from(*other)).is_some_and(|member| self.drive(member).is_some())
        };
        // Shard 0 and parity are in every stripe, also in short ones.
        let always = |other: &u8| *other == 0 || *other >= k;
        let others = (0..shards).filter(|other| *other != shard).filter(is_readable);
        if due.is_copy {
            return std::iter::once(shard).chain(others.filter(always).take(1)).collect();
        }
        others.take(usize::from(k)).collect()
    }

    fn page_from_walk(
        &self,
        walk: &Walk,
        volume: &Volume,
        sector: u32,
        header: &StripeHeader,
        due: &Due,
    ) -> FromWalk {
        let shard = due.shard;
        if shard >= header.shape.data_pages && shard < header.profile.k {
            return FromWalk::NoPage;
        }
        let len = in_memory(page_bytes(header.shape.page_len_sectors));
        let Ok(mut page) = self.shared.bufs().take(len) else { return FromWalk::NotEnough };
        if due.is_copy
            && let PageFound::Whole(bytes) = walk.page(self, shard)
        {
            page.copy_from_slice(bytes);
            return FromWalk::Page(page);
        }
        let payload = in_memory(PAGE_HEADER_BYTES);
        let shards = u8::try_from(volume.profile.shards()).unwrap_or(u8::MAX);
        let mut present: Vec<(usize, &[u8])> = Vec::with_capacity(usize::from(header.profile.k));
        for other in (0..shards).filter(|other| *other != shard) {
            match walk.page(self, other) {
                PageFound::Whole(bytes) => present.push((usize::from(other), &bytes[payload..])),
                PageFound::Bad => self.note_suspect(volume.id, sector),
                PageFound::Absent | PageFound::Unread => {}
            }
        }
        present.truncate(usize::from(header.profile.k));
        let Some(codec) = self.codec(header.profile) else { return FromWalk::NotEnough };
        let mut missing = [(usize::from(shard), &mut page[payload..])];
        if codec.rebuild(&present, &mut missing, usize::from(header.shape.data_pages)).is_err() {
            return FromWalk::NotEnough;
        }
        let address = PageAddress { pool: self.shared.pool, volume: volume.id, sector, shard };
        seal_page(&mut page, &address, header);
        FromWalk::Page(page)
    }
}

/// Writes pages of a segment in order, gathered into writes of [`REPAIR_WRITE_BYTES`], two of them under way.
struct SegmentWriter<'a, D: Drive> {
    file: &'a D::File,
    gathered: Vec<AlignedBuf>,
    gathered_bytes: usize,
    begin_sector: u32,
    end_sector: u32,
    under_way: Option<PendingWrite>,
}

impl<'a, D: Drive> SegmentWriter<'a, D> {
    fn new(file: &'a D::File) -> SegmentWriter<'a, D> {
        SegmentWriter {
            file,
            gathered: Vec::new(),
            gathered_bytes: 0,
            begin_sector: 0,
            end_sector: 0,
            under_way: None,
        }
    }

    /// Puts a page at a sector at or after the end of the last one; none leaves a hole.
    async fn put(&mut self, sector: u32, page: Option<AlignedBuf>) -> Result<(), IoError> {
        let Some(page) = page else { return Ok(()) };
        assert!(sector >= self.end_sector);
        if sector > self.end_sector || self.gathered_bytes >= REPAIR_WRITE_BYTES {
            self.flush().await?;
        }
        if self.gathered.is_empty() {
            self.begin_sector = sector;
        }
        let sectors = page.len() / in_memory(sector_offset_bytes(1));
        self.gathered_bytes += page.len();
        self.end_sector = sector + u32::try_from(sectors).expect("a page has at most 16 sectors");
        self.gathered.push(page);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), IoError> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let pages = std::mem::take(&mut self.gathered);
        self.gathered_bytes = 0;
        let write = self.file.write_durable(sector_offset_bytes(self.begin_sector), pages);
        match self.under_way.replace(write) {
            Some(before) => before.await.result,
            None => Ok(()),
        }
    }

    async fn finish(mut self) -> Result<(), IoError> {
        self.flush().await?;
        match self.under_way.take() {
            Some(last) => last.await.result,
            None => Ok(()),
        }
    }
}
