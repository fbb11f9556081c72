//! One core's access to the drives of the pool: open files, codecs, its epochs.
//! Invariants: knows nothing of the catalog, so metadata runs can be read before there is one; a drive that is
//! missing or failed is never asked.
//! Not here: reading pages (`page_read`), how long that may take (`answers`), appending (`append`), runs (`runs`).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::FixedState;
use futures_util::future::{Either, select};
use quick_cache::UnitWeighter;
use quick_cache::unsync::{Cache, DefaultLifecycle};
use shardstore_erasure::Codec;
use shardstore_format::{DriveId, Profile, VolumeId, VolumeState};
use shardstore_reactor::{Drive, Executor, FenceReason, IoError, OpenMode, WRITE_DEADLINE, timeout};

use crate::answers::Answers;
use crate::epoch::{CoreEpochs, EpochGuard, HoldGuard};
use crate::health::{DriveSlot, DriveState};
use crate::mend::Suspect;
use crate::options::OPEN_FILES_MAX;
use crate::page_read::{Hedges, Loads};
use crate::pool::Pool;
use crate::shared::StoreShared;
use crate::table::Volume;

/// One core's drives. Clones share them.
pub struct Media<D: Drive, X: Executor> {
    pub(crate) inner: Rc<MediaInner<D, X>>,
}

impl<D: Drive, X: Executor> Clone for Media<D, X> {
    fn clone(&self) -> Self {
        Media { inner: Rc::clone(&self.inner) }
    }
}

/// Files by volume, shard, the member that held it and the volume's edition when they were opened.
type OpenFiles<F> = Cache<(VolumeId, usize, usize, u32), F, UnitWeighter, FixedState>;

pub(crate) struct MediaInner<D: Drive, X> {
    pub(crate) shared: Arc<StoreShared>,
    pub(crate) executor: X,
    /// By member index; members that joined later may have no place yet.
    handles: RefCell<Vec<Option<Handle<D>>>>,
    /// Drives that this core opened later.
    opened_later: Cell<u64>,
    files: RefCell<OpenFiles<D::File>>,
    codecs: RefCell<HashMap<Profile, Codec>>,
    pub(crate) loads: Loads,
    pub(crate) hedges: Hedges,
    pub(crate) answers: Answers,
    pub(crate) epochs: Rc<CoreEpochs>,
}

/// A drive as this core opened it.
#[derive(Clone)]
pub(crate) struct Handle<D> {
    pub(crate) drive: D,
    /// The arrival of the drive that it belongs to; the drive may have come back since.
    pub(crate) arrival: u64,
}

/// A shard's file, open for reading, and the drive that it was opened on: the shard may have moved since.
pub(crate) struct OpenShard<D: Drive> {
    pub(crate) member: usize,
    pub(crate) asked: Handle<D>,
    pub(crate) file: D::File,
}

impl<D: Drive, X: Executor> Media<D, X> {
    /// The drives of `pool` as core `core_index` opened them; the index is below `cores_max` and no other
    /// living core has it.
    pub fn new(shared: Arc<StoreShared>, pool: &Pool<D>, executor: X, core_index: usize) -> Media<D, X> {
        assert_eq!(pool.id(), shared.pool);
        assert!(pool.members().iter().all(|member| shared.drives.index_of(member.id).is_some()));
        let epochs = CoreEpochs::new(Arc::clone(&shared), core_index);
        let handles = pool.members().iter().map(|member| {
            let arrival = shared.drives.slot(shared.drives.index_of(member.id)?).arrival;
            Some(Handle { drive: member.drive.clone()?, arrival })
        });
        let handles = RefCell::new(handles.collect());
        let inner = MediaInner {
            shared,
            executor,
            handles,
            opened_later: Cell::new(0),
            files: RefCell::new(Cache::with(
                OPEN_FILES_MAX,
                OPEN_FILES_MAX as u64,
                UnitWeighter,
                FixedState::default(),
                DefaultLifecycle::default(),
            )),
            codecs: RefCell::new(HashMap::new()),
            loads: Loads::default(),
            hedges: Hedges::default(),
            answers: Answers::default(),
            epochs,
        };
        Media { inner: Rc::new(inner) }
    }

    /// The half that all cores share.
    pub fn shared(&self) -> &Arc<StoreShared> {
        &self.inner.shared
    }

    /// Drives that joined or came back since this core opened its handles: it opens each and gives it to
    /// [`Media::set_drive`], and until then reads around it.
    pub fn drives_to_open(&self) -> Vec<DriveId> {
        let handles = self.inner.handles.borrow();
        let slots = self.inner.shared.drives.slots();
        let is_old = |(member, slot): &(usize, &Arc<DriveSlot>)| {
            let handle = handles.get(*member).and_then(Option::as_ref);
            slot.state.is_readable() && handle.is_none_or(|handle| handle.arrival != slot.arrival)
        };
        slots.iter().enumerate().filter(is_old).map(|(_, slot)| slot.id).collect()
    }

    /// Lets go of handles and files of drives that take no part any more, so that their file systems can be unmounted.
    pub fn let_go_of_drives(&self) {
        let slots = self.inner.shared.drives.slots();
        let is_out = |member: usize| slots.get(member).is_none_or(|slot| !slot.state.is_readable());
        for (member, handle) in self.inner.handles.borrow_mut().iter_mut().enumerate() {
            if handle.is_some() && is_out(member) {
                *handle = None;
                self.inner.files.borrow_mut().retain(|(_, _, opened_on, _), _| *opened_on != member);
            }
        }
    }

    /// Takes this core's handle of a drive in its present arrival; a drive that is no member is left alone.
    pub fn set_drive(&self, id: DriveId, drive: D) {
        let Some(member) = self.inner.shared.drives.index_of(id) else { return };
        let arrival = self.inner.shared.drives.slot(member).arrival;
        let mut handles = self.inner.handles.borrow_mut();
        if handles.len() <= member {
            handles.resize_with(member + 1, || None);
        }
        handles[member] = Some(Handle { drive, arrival });
        self.inner.opened_later.set(self.inner.opened_later.get() + 1);
        self.inner.files.borrow_mut().retain(|(_, _, opened_on, _), _| *opened_on != member);
    }

    /// Takes drives out of use that were fenced behind the store's back. Whoever watches drives calls it too: of a drive that
    /// was fenced before any core opened it, nobody else has a handle.
    pub fn notice_fenced(&self) {
        self.inner.notice_fenced();
    }

    /// Enters the current epoch; take it before the metadata snapshot of a read, and leave it once the read's
    /// data id is held. Cost: one atomic store.
    pub fn enter_epoch(&self) -> EpochGuard {
        self.inner.epochs.enter()
    }

    /// Keeps the bytes of a data id until the guard is dropped. Cost: two atomic adds.
    pub fn hold(&self, data_id: shardstore_format::DataId) -> HoldGuard {
        self.inner.epochs.hold(data_id)
    }
}

impl<D: Drive, X: Executor> MediaInner<D, X> {
    /// A member's drive, if it can be used.
    pub(crate) fn drive(&self, member: usize) -> Option<D> {
        self.handle(member).map(|handle| handle.drive)
    }

    fn handle(&self, member: usize) -> Option<Handle<D>> {
        let slots = self.shared.drives.slots();
        let slot = slots.get(member).filter(|slot| slot.state.is_readable())?;
        let handles = self.handles.borrow();
        handles.get(member)?.as_ref().filter(|handle| handle.arrival == slot.arrival).cloned()
    }

    /// Rises whenever this core's choice of drives for new volumes may be another. Drives come and go for all cores at
    /// once, but a core opens one that came a little later, and until then places volumes without it.
    pub(crate) fn generation(&self) -> u64 {
        self.shared.drives.generation() + self.opened_later.get()
    }

    /// The members that take new volumes.
    pub(crate) fn healthy_drives(&self) -> Vec<(usize, D)> {
        self.of_members(self.shared.drives.healthy())
    }

    /// The members that can be read; those that are being drained too.
    pub(crate) fn readable_drives(&self) -> Vec<(usize, D)> {
        self.of_members(self.shared.drives.readable())
    }

    fn of_members(&self, members: Vec<usize>) -> Vec<(usize, D)> {
        members.into_iter().filter_map(|member| Some((member, self.drive(member)?))).collect()
    }

    /// Notices drives that were fenced behind the store's back, by a flush or by another core.
    pub(crate) fn notice_fenced(&self) {
        for (member, drive) in self.readable_drives() {
            if let Some(reason) = drive.fenced() {
                self.mark_failed(member, &format!("fenced: {reason:?}"));
            }
        }
    }

    /// Takes a drive out after a failed write.
    ///
    /// An operation that was refused because its handle is fenced says nothing new: whoever fenced that handle took the
    /// drive out, and it may be back under another since.
    pub(crate) fn fence(&self, member: usize, error: &IoError) {
        if matches!(error, IoError::Fenced) {
            return self.notice_fenced();
        }
        if let Some(drive) = self.drive(member) {
            drive.fence(FenceReason::FailedWrite);
        }
        self.mark_failed(member, &error.to_string());
    }

    pub(crate) fn mark_failed(&self, member: usize, why: &str) {
        if self.shared.drives.mark_failed(member) {
            let label = &self.shared.drives.slot(member).label;
            tracing::error!(drive = %label, why, "drive taken out of use; its volumes are sealed");
        }
    }

    /// Runs an operation on names or room with an end: a drive that does not answer is fenced.
    pub(crate) async fn bounded<T>(
        &self,
        member: usize,
        operation: impl Future<Output = Result<T, IoError>>,
    ) -> Result<T, IoError> {
        let asked = self.handle(member);
        let operation = std::pin::pin!(operation);
        let deadline = std::pin::pin!(self.executor.sleep(WRITE_DEADLINE));
        match select(operation, deadline).await {
            Either::Left((result, _)) => result,
            Either::Right(((), _)) => {
                // Without a handle of its present arrival the drive that was asked is out of use already.
                if let Some(asked) = asked {
                    self.fence_hung(member, &asked);
                }
                Err(IoError::Fenced)
            }
        }
    }

    /// As [`MediaInner::bounded`] of a drive that no core uses yet: there is nothing to fence.
    pub(crate) async fn in_time<T>(
        &self,
        operation: impl Future<Output = Result<T, IoError>>,
    ) -> Result<T, IoError> {
        let ended = timeout(&self.executor, WRITE_DEADLINE, operation).await;
        ended.unwrap_or_else(|_| Err(IoError::Device(std::io::ErrorKind::TimedOut.into())))
    }

    /// The file of a shard for reading.
    pub(crate) async fn segment(&self, volume: &Volume, shard: usize) -> Result<OpenShard<D>, IoError> {
        let member = volume.member(shard).ok_or(IoError::NotFound)?;
        let asked = self.handle(member).ok_or(IoError::Fenced)?;
        let key = (volume.id, shard, member, volume.edition());
        let opened = self.files.borrow().get(&key).cloned();
        if let Some(file) = opened {
            return Ok(OpenShard { member, asked, file });
        }
        let path = volume.segment_path(shard);
        let file = self.answered(member, &asked, asked.drive.open(&path, OpenMode::Read)).await?;
        self.files.borrow_mut().insert(key, file.clone());
        Ok(OpenShard { member, asked, file })
    }

    /// A stripe has a page that does not verify: it is mended soon.
    pub(crate) fn note_suspect(&self, volume: VolumeId, sector: u32) {
        if self.shared.suspects.push(Suspect { volume, sector }).is_err() {
            tracing::debug!(
                volume = volume.0,
                sector,
                "too many bad stripes at once: the next reader finds it again"
            );
        }
    }

    /// A shard's file cannot be read: if its drive answers otherwise, the file is made anew.
    pub(crate) fn note_unread(&self, volume: &Volume, shard: u8) {
        let member = volume.member(usize::from(shard));
        let answers = member.is_some_and(|member| {
            self.drive(member).is_some() && self.shared.drives.slot(member).state == DriveState::Healthy
        });
        if answers && !self.is_gone(volume) {
            self.shared.repair.note_broken(volume.id, shard);
        }
    }

    /// Whether a volume's bytes are not needed any more.
    pub(crate) fn is_gone(&self, volume: &Volume) -> bool {
        volume.state() == VolumeState::Reclaimed || !self.shared.volumes.contains(volume.id)
    }

    /// Closes files of volumes that are gone or were made anew, so that their space comes back. Cost: one pass over open
    /// files.
    pub(crate) fn close_stale_files(&self) {
        let is_current = |volume: VolumeId, edition: u32| {
            self.shared.volumes.get(volume).is_some_and(|known| known.edition() == edition)
        };
        self.files.borrow_mut().retain(|(volume, _, _, edition), _| is_current(*volume, *edition));
    }

    /// The codec of a profile, made at its first use on this core.
    pub(crate) fn codec(&self, profile: Profile) -> Option<Codec> {
        if let Some(codec) = self.codecs.borrow().get(&profile) {
            return Some(codec.clone());
        }
        let codec = Codec::new(usize::from(profile.k), usize::from(profile.m)).ok()?;
        self.codecs.borrow_mut().insert(profile, codec.clone());
        Some(codec)
    }
}
