//! Appending runs: a place in this core's open volume, one write per drive, and elsewhere if a drive fails.
//! Invariants: between taking a place and beginning its writes nothing is awaited, so writes begin in the order
//! of places; a run's buffers are kept until all stripes up to its own are durable; appends run in tasks of
//! their own and are never dropped.
//! Not here: the frontier (`open_volume`), filling runs (`put`, `packed`).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::future::{OptionFuture, join_all};
use shardstore_format::{Profile, VolumeClass, VolumeState};
use shardstore_reactor::{AlignedBuf, Drive, DriveFile, Executor, IoError, WriteOutcome};

use crate::catalog::{Catalog, CatalogError};
use crate::lane::Lane;
use crate::open_volume::{NoPlace, OpenVolume, Outcome, Reservation};
use crate::options::{LARGE_GROWTH_MAX_BYTES, ZERO_WRITE_BYTES, in_memory, sector_offset_bytes, sectors_in};
use crate::place::PutError;
use crate::run::Run;
use crate::shared::count;
use crate::store::StoreInner;
use crate::table::Pin;
use crate::wait::Waiters;

/// Times that a run is written again after drives failed, and that a volume is tried elsewhere: as many as the
/// parity of any profile, and one for a full drive.
const ATTEMPTS_MAX: usize = 9;
/// First and longest wait before metadata is asked again.
const RETRY_WAIT: Duration = Duration::from_millis(10);
const RETRY_WAIT_MAX: Duration = Duration::from_secs(1);

/// One lane of one core.
pub(crate) struct Appender<F> {
    current: RefCell<Option<Rc<OpenVolume<F>>>>,
    prepared: RefCell<Option<Rc<OpenVolume<F>>>>,
    is_preparing: Cell<bool>,
    is_opening: Cell<bool>,
    open_waiters: Waiters,
}

impl<F> Appender<F> {
    pub(crate) fn new() -> Appender<F> {
        Appender {
            current: RefCell::new(None),
            prepared: RefCell::new(None),
            is_preparing: Cell::new(false),
            is_opening: Cell::new(false),
            open_waiters: Waiters::default(),
        }
    }

    pub(crate) fn current(&self) -> Option<Rc<OpenVolume<F>>> {
        self.current.borrow().clone()
    }

    fn end_opening(&self) {
        self.is_opening.set(false);
        self.open_waiters.wake_all();
    }
}

/// A durable run.
pub(crate) struct Placed {
    pub(crate) pin: Pin,
    pub(crate) sector: u32,
    /// What it was striped for in the end.
    pub(crate) profile: Profile,
}

impl<D: Drive, X: Executor, C: Catalog> StoreInner<D, X, C> {
    pub(crate) fn appender(&self, lane: Lane) -> &Appender<D::File> {
        &self.appenders[lane.index()]
    }

    /// The redundancy that the next run will most likely be written with.
    pub(crate) fn likely_profile(&self, lane: Lane) -> Profile {
        let wanted = self.media.shared.profile;
        let shrunk = |healthy: usize| {
            let k = usize::from(wanted.k).min(healthy.saturating_sub(usize::from(wanted.m))).max(1);
            Profile { k: u8::try_from(k).unwrap_or(1), m: wanted.m }
        };
        match self.appender(lane).current() {
            Some(open) if self.is_usable(&open) => open.volume.profile,
            _ => shrunk(self.media.shared.drives.healthy().len()),
        }
    }

    /// Writes a run and returns once it and all before it in its volume are durable.
    ///
    /// Cost: k + m device writes, begun together. Call it from a task that is never dropped.
    pub(crate) async fn append(self: &Rc<Self>, lane: Lane, mut run: Run) -> Result<Placed, PutError> {
        for _ in 0..ATTEMPTS_MAX {
            let (open, reservation) = self.reserve(lane, &mut run).await?;
            let profile = run.profile();
            run.seal(self.media.shared.pool, open.volume.id, reservation.sector);
            let offset_bytes = sector_offset_bytes(reservation.sector);
            let shards = open.files.iter().zip(run.take_shards());
            let writes = shards.map(|(file, pages)| {
                OptionFuture::from((!pages.is_empty()).then(|| file.write_durable(offset_bytes, pages)))
            });
            // Begun here, all of them: `write_durable` does not wait to be polled.
            let writes: Vec<_> = writes.collect();
            let outcomes = join_all(writes).await;
            let (written, returned) = self.judge(&open, outcomes);
            let outcome = open.finish(&reservation, written).await;
            if !written {
                self.seal(&open);
            }
            match outcome {
                Ok(Outcome::Durable) => {
                    let Reservation { pin, sector, .. } = reservation;
                    return Ok(Placed { pin, sector, profile });
                }
                Ok(Outcome::Rewrite) | Err(oneshot::Canceled) => {
                    count(&self.media.shared.counts.runs_rewritten, 1);
                    let codec = self.media.codec(profile).ok_or(PutError::DrivesLost)?;
                    if !run.put_back(returned, self.media.shared.bufs(), &codec) {
                        return Err(PutError::DrivesLost);
                    }
                    // Parity is made anew: its pages went with the failed write.
                    self.restripe(&mut run, profile)?;
                }
            }
        }
        Err(PutError::DrivesLost)
    }

    /// Whether all shards are written; fences the drives whose write failed. Returns the buffers by shard.
    fn judge(
        &self,
        open: &OpenVolume<D::File>,
        outcomes: Vec<Option<WriteOutcome>>,
    ) -> (bool, Vec<Vec<AlignedBuf>>) {
        let mut written = true;
        let mut returned = Vec::with_capacity(outcomes.len());
        for (shard, outcome) in outcomes.into_iter().enumerate() {
            let Some(WriteOutcome { result, bufs }) = outcome else {
                returned.push(Vec::new());
                continue;
            };
            returned.push(bufs);
            if let Err(error) = result {
                written = false;
                let member = open.volume.member(shard);
                // Space is allocated before it is written, and a full drive is no broken one.
                if let (Some(member), false) = (member, matches!(error, IoError::NoSpace)) {
                    self.media.fence(member, &error);
                }
            }
        }
        (written, returned)
    }

    pub(crate) fn is_usable(&self, open: &OpenVolume<D::File>) -> bool {
        !open.is_closing() && open.generation == self.media.generation()
    }

    /// Takes a place for `run`, which is restriped if the open volume has another profile.
    async fn reserve(
        self: &Rc<Self>,
        lane: Lane,
        run: &mut Run,
    ) -> Result<(Rc<OpenVolume<D::File>>, Reservation), PutError> {
        let mut volumes_left = ATTEMPTS_MAX;
        let mut failure = PutError::DrivesLost;
        loop {
            self.media.notice_fenced();
            let open = match self.appender(lane).current() {
                Some(open) if self.is_usable(&open) => open,
                _ if volumes_left == 0 => return Err(failure),
                stale => {
                    volumes_left -= 1;
                    self.open_next(lane, stale).await?;
                    continue;
                }
            };
            if open.volume.profile != run.profile() {
                self.restripe(run, open.volume.profile)?;
            }
            let now = self.media.executor.now();
            match open.reserve(run.sectors(), run.payload_len_bytes(), now) {
                Ok(reservation) => {
                    self.grow_ahead(lane, &open);
                    return Ok((open, reservation));
                }
                Err(NoPlace::Full) => self.seal(&open),
                Err(NoPlace::NotReady) => {
                    if let Err(error) = self.wait_for_growth(lane, &open, run.sectors()).await {
                        // Other drives may have room; if none has, opening a volume says so.
                        self.seal(&open);
                        failure = error;
                    }
                }
            }
        }
    }

    fn restripe(&self, run: &mut Run, profile: Profile) -> Result<(), PutError> {
        let codec = self.media.codec(profile).ok_or(PutError::DrivesLost)?;
        let again = run.restriped(self.media.shared.bufs(), &codec, profile);
        *run = again.map_err(|_| PutError::Overloaded)?;
        Ok(())
    }

    /// Makes another volume current in place of `stale`, once for all who wait.
    async fn open_next(
        self: &Rc<Self>,
        lane: Lane,
        stale: Option<Rc<OpenVolume<D::File>>>,
    ) -> Result<(), PutError> {
        if let Some(stale) = stale {
            self.seal(&stale);
        }
        let appender = self.appender(lane);
        if let Some(prepared) = appender.prepared.take() {
            if self.is_usable(&prepared) {
                *appender.current.borrow_mut() = Some(prepared);
                return Ok(());
            }
            self.seal(&prepared);
        }
        if appender.is_opening.get() {
            // Opened or not, the caller looks again.
            appender.open_waiters.wait().await;
            return Ok(());
        }
        appender.is_opening.set(true);
        let opened = self.create_volume(lane).await;
        appender.end_opening();
        let before = appender.current.replace(Some(opened?));
        if let Some(before) = before {
            // Prepared meanwhile, and taken by another append.
            self.seal(&before);
        }
        Ok(())
    }

    /// Makes a volume: files, then its record. Its growth has begun when this returns.
    async fn create_volume(self: &Rc<Self>, lane: Lane) -> Result<Rc<OpenVolume<D::File>>, PutError> {
        let media = &self.media;
        let first_bytes = media.shared.options.growth_step_bytes;
        let mut failure = PutError::DrivesLost;
        for _ in 0..ATTEMPTS_MAX {
            let placement = media.place(lane.room(), first_bytes).await?;
            let id = self.catalog.allocate_volume_ids(1).await?;
            let opening = media.shared.opening_guard(id);
            let made = match media.make_files(id, lane.class(), &placement).await {
                Ok(made) => made,
                Err(error) => {
                    failure = error;
                    continue;
                }
            };
            if let Err(error) = self.catalog.create_volume(&made.record).await {
                let members: Vec<Option<usize>> = placement.members.iter().copied().map(Some).collect();
                media.remove_files(id, &members).await;
                return Err(error.into());
            }
            let volume = media.shared.know_volume(&made.record);
            drop(opening);
            count(&media.shared.counts.volumes_opened, 1);
            let segment_sectors = sectors_in(placement.segment_bytes);
            let now = media.executor.now();
            let open = OpenVolume::new(volume, lane, made.files, placement.generation, segment_sectors, now);
            let open = Rc::new(open);
            self.start_growth(lane, &open, 0);
            return Ok(open);
        }
        Err(failure)
    }

    /// Keeps growth and the next volume ahead of the append point.
    fn grow_ahead(self: &Rc<Self>, lane: Lane, open: &Rc<OpenVolume<D::File>>) {
        self.start_growth(lane, open, 0);
        let appender = self.appender(lane);
        let has_next = appender.is_preparing.get() || appender.prepared.borrow().is_some();
        if has_next || !open.is_three_quarters_full() {
            return;
        }
        appender.is_preparing.set(true);
        let store = Rc::clone(self);
        self.media.executor.spawn(async move {
            let prepared = store.create_volume(lane).await;
            let appender = store.appender(lane);
            appender.is_preparing.set(false);
            match prepared {
                Ok(prepared) if store.is_shut.get() => store.seal(&prepared),
                Ok(prepared) => *appender.prepared.borrow_mut() = Some(prepared),
                // Whoever needs the volume will ask again and hear why.
                Err(error) => tracing::debug!(%error, "the next volume could not be prepared"),
            }
        });
    }

    async fn wait_for_growth(
        self: &Rc<Self>,
        lane: Lane,
        open: &Rc<OpenVolume<D::File>>,
        sectors: u32,
    ) -> Result<(), PutError> {
        self.start_growth(lane, open, sectors);
        let Some(growth) = open.growth() else {
            // Closed meanwhile: the caller finds another volume.
            return Ok(());
        };
        // Cancelled when the volume is closed: the same.
        growth.await.unwrap_or(Ok(()))
    }

    /// Begins a growth step if less than one step, or than `needed_sectors`, is ready past the append point.
    fn start_growth(self: &Rc<Self>, lane: Lane, open: &Rc<OpenVolume<D::File>>, needed_sectors: u32) {
        let step_bytes = self.media.shared.options.growth_step_bytes;
        let step = |from: u32| match lane.class() {
            VolumeClass::Large => {
                let doubled = sector_offset_bytes(from) / step_bytes * step_bytes;
                sectors_in(doubled.clamp(step_bytes, LARGE_GROWTH_MAX_BYTES.max(step_bytes)))
            }
            VolumeClass::Packed | VolumeClass::Run => sectors_in(step_bytes),
        };
        // One step ahead while little is written, so that a fresh pool stays small; then two, since a step of
        // zeros takes about as long as a busy core needs to fill one.
        let steps = if open.next_sector() > sectors_in(step_bytes) { 2 } else { 1 };
        let ahead_sectors = needed_sectors.max(steps * sectors_in(step_bytes));
        let Some((from, sectors)) = open.begin_growth(ahead_sectors, step) else { return };
        let (store, open) = (Rc::clone(self), Rc::clone(open));
        self.media.executor.spawn(async move {
            let result = store.grow(lane, &open, from, sectors).await;
            open.end_growth(sectors, &result);
        });
    }

    /// Room on every shard, written with zeros where small appends will go.
    async fn grow(
        &self,
        lane: Lane,
        open: &OpenVolume<D::File>,
        from: u32,
        sectors: u32,
    ) -> Result<(), PutError> {
        let shards = open.files.iter().zip(open.volume.members());
        let grown = join_all(shards.map(|(file, member)| async move {
            let member = member.ok_or(PutError::DrivesLost)?;
            let result = self.grow_shard(lane, member, file, from, sectors).await;
            result.map_err(|error| match error {
                IoError::NoSpace => PutError::NoSpace,
                error => {
                    self.media.fence(member, &error);
                    PutError::DrivesLost
                }
            })
        }));
        grown.await.into_iter().collect()
    }

    async fn grow_shard(
        &self,
        lane: Lane,
        member: usize,
        file: &D::File,
        from: u32,
        sectors: u32,
    ) -> Result<(), IoError> {
        let drive = self.media.drive(member).ok_or(IoError::Fenced)?;
        let (mut offset_bytes, len_bytes) = (sector_offset_bytes(from), sector_offset_bytes(sectors));
        let allocate = async {
            if !lane.room().holds(drive.space().await?, len_bytes) {
                return Err(IoError::NoSpace);
            }
            file.allocate(offset_bytes, len_bytes).await
        };
        self.media.bounded(member, allocate).await?;
        if lane.class() != VolumeClass::Packed {
            return Ok(());
        }
        let end_bytes = offset_bytes + len_bytes;
        let mut zeros = vec![AlignedBuf::zeroed(in_memory(ZERO_WRITE_BYTES.min(len_bytes)))];
        while offset_bytes < end_bytes {
            let now_bytes = ZERO_WRITE_BYTES.min(end_bytes - offset_bytes);
            for buf in &mut zeros {
                buf.set_len(in_memory(now_bytes));
            }
            let outcome = file.write_durable(offset_bytes, zeros).await;
            outcome.result?;
            zeros = outcome.bufs;
            offset_bytes += now_bytes;
        }
        Ok(())
    }

    /// Closes a volume and, in a task of its own, seals it at the last stripe up to which all are durable.
    pub(crate) fn seal(self: &Rc<Self>, open: &Rc<OpenVolume<D::File>>) {
        let appender = self.appender(open.lane);
        let is_current = appender.current.borrow().as_ref().is_some_and(|current| Rc::ptr_eq(current, open));
        if is_current {
            appender.current.take();
        }
        if open.close() {
            self.seals_under_way.set(self.seals_under_way.get() + 1);
            let (store, open) = (Rc::clone(self), Rc::clone(open));
            self.media.executor.spawn(async move {
                open.drained().await;
                store.commit_seal(&open).await;
                store.end_seal();
            });
        }
    }

    async fn commit_seal(&self, open: &OpenVolume<D::File>) {
        let end_sector = open.frontier_sector();
        // First the room, durably: once a volume is sealed nobody looks for unwritten steps in it again.
        self.cut(open, end_sector).await;
        let mut wait = RETRY_WAIT;
        loop {
            match self.catalog.seal_volume(open.volume.id, end_sector).await {
                Ok(()) => break,
                // Both pass, and until the next start nobody else seals it: its shards would be neither repaired nor moved.
                Err(CatalogError::Retry | CatalogError::ReadOnly) if !self.is_shut.get() => {
                    self.media.executor.sleep(wait).await;
                    wait = RETRY_WAIT_MAX.min(wait * 2);
                }
                Err(error) => {
                    // It stays open in metadata and is sealed at the next start, at its highest owner.
                    let volume = open.volume.id.0;
                    tracing::warn!(volume, %error, "volume could not be sealed");
                    return;
                }
            }
        }
        open.volume.set_state(VolumeState::Sealed { end_sector });
        count(&self.media.shared.counts.volumes_sealed, 1);
    }

    async fn cut(&self, open: &OpenVolume<D::File>, end_sector: u32) {
        let end_bytes = sector_offset_bytes(end_sector);
        let shards = open.files.iter().zip(open.volume.members());
        let cuts = shards.filter_map(|(file, member)| {
            let member = member.filter(|member| self.media.drive(*member).is_some())?;
            let cut = async move {
                file.set_len(end_bytes).await?;
                file.sync().await
            };
            Some(self.media.bounded(member, cut))
        });
        for result in join_all(cuts).await {
            if let Err(error) = result {
                tracing::warn!(volume = open.volume.id.0, %error, "unwritten steps could not be freed");
            }
        }
    }

    fn end_seal(&self) {
        self.seals_under_way.set(self.seals_under_way.get() - 1);
        if self.seals_under_way.get() == 0 {
            self.seal_waiters.wake_all();
        }
    }

    /// Seals a lane's next volume if drives came or went since it was prepared: its shards would keep a drive that is to
    /// leave from leaving for as long as nothing is appended.
    pub(crate) fn seal_stale_prepared(self: &Rc<Self>, lane: Lane) {
        let appender = self.appender(lane);
        let is_stale = appender.prepared.borrow().as_ref().is_some_and(|prepared| !self.is_usable(prepared));
        if let Some(stale) = is_stale.then(|| appender.prepared.take()).flatten() {
            self.seal(&stale);
        }
    }

    /// Takes all lanes' volumes out of use; returns once they are sealed.
    pub(crate) async fn seal_all(self: &Rc<Self>) {
        for lane in Lane::ALL {
            let appender = self.appender(lane);
            let volumes = [appender.current.take(), appender.prepared.take()];
            for open in volumes.into_iter().flatten() {
                self.seal(&open);
            }
        }
        while self.seals_under_way.get() > 0 {
            self.seal_waiters.wait().await;
        }
    }
}
