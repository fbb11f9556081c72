//! One log file on one member: its room, the zeros written ahead of its end, and the next file made ready.
//! Invariants: a record is written only where room was allocated, so it cannot fail for space; zeros are never under
//! way where a record is being written; a file made ready has no head, so it is not begun.
//! Why zeros: a synchronous write into space never written makes ext4 commit its journal (12.9k/s against 22.3k/s).

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use futures_channel::oneshot;
use shardstore_reactor::{AlignedBuf, BufPool, Drive, DriveFile, Executor, IoError, OpenMode};

use super::format::{FileId, LOG_DIR};
use super::slot::{Slot, SlotError};
use super::term::TERM_DIR;

/// Room is taken in steps of this much.
const GROWTH_STEP_BYTES: u64 = 4 * 1024 * 1024;
/// Zeros are written ahead once less than this lies ahead: 10 ms at 200 MB/s.
const AHEAD_MIN_BYTES: u64 = 2 * 1024 * 1024;
/// One write of zeros; small, so that records wait little behind it on the device.
const ZERO_WRITE_BYTES: usize = 256 * 1024;

/// What a write is part of: it decides the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A record on its way to its acknowledgement.
    Record,
    /// A head, or the copy of records for a new term.
    Copy,
}

/// A log file on a member. Clones share it.
pub(crate) struct Replica<D: Drive, X> {
    pub(crate) slot: Slot<D, X>,
    pub(crate) file: D::File,
    pub(crate) id: FileId,
    room: Rc<Room>,
}

impl<D: Drive, X: Clone> Clone for Replica<D, X> {
    fn clone(&self) -> Self {
        Replica { slot: self.slot.clone(), file: self.file.clone(), id: self.id, room: Rc::clone(&self.room) }
    }
}

#[derive(Default)]
struct Room {
    /// Below: room is allocated.
    allocated_bytes: Cell<u64>,
    /// Below: everything was written once, as records or zeros.
    written_bytes: Cell<u64>,
    /// Zeros are under way at or past `written_bytes`.
    filling: Cell<bool>,
    /// Who waits for them.
    waker: RefCell<Option<Waker>>,
}

impl<D: Drive, X: Executor> Replica<D, X> {
    /// Makes a new file with `len_bytes` allocated, its name durable. A file of that name that an earlier attempt
    /// left is replaced.
    pub(crate) async fn create(
        slot: &Slot<D, X>,
        id: FileId,
        len_bytes: u64,
    ) -> Result<Replica<D, X>, SlotError> {
        let drive = slot.drive.clone();
        let len_bytes = len_bytes.next_multiple_of(GROWTH_STEP_BYTES);
        let file = slot.run(async move { create_file(&drive, &id.path(), len_bytes).await }).await?;
        let room = Room { allocated_bytes: Cell::new(len_bytes), ..Room::default() };
        Ok(Replica { slot: slot.clone(), file, id, room: Rc::new(room) })
    }

    /// Makes a file ready from `old`, which nothing needs any more: what was written in it stays written.
    pub(crate) async fn recycle(old: Replica<D, X>, id: FileId) -> Result<Replica<D, X>, SlotError> {
        let drive = old.slot.drive.clone();
        let (from, to) = (old.id.path(), id.path());
        old.slot
            .run(async move {
                drive.rename(&from, &to).await?;
                drive.sync_dir(LOG_DIR).await
            })
            .await?;
        Ok(Replica { id, ..old })
    }

    /// Waits until `[.., end_bytes)` is allocated and no zeros are under way below it.
    pub(crate) async fn make_room(&self, end_bytes: u64) -> Result<(), SlotError> {
        if end_bytes > self.room.written_bytes.get() {
            self.filled().await;
        }
        self.allocate(end_bytes).await
    }

    async fn allocate(&self, end_bytes: u64) -> Result<(), SlotError> {
        let begin_bytes = self.room.allocated_bytes.get();
        if end_bytes <= begin_bytes {
            return Ok(());
        }
        let end_bytes = end_bytes.next_multiple_of(GROWTH_STEP_BYTES);
        let file = self.file.clone();
        self.slot.run(async move { file.allocate(begin_bytes, end_bytes - begin_bytes).await }).await?;
        self.room.allocated_bytes.set(end_bytes);
        Ok(())
    }

    /// Notes that records reach up to `end_bytes`, durable or about to be.
    pub(crate) fn advance(&self, end_bytes: u64) {
        self.room.written_bytes.set(end_bytes.max(self.room.written_bytes.get()));
    }

    /// Starts writing zeros past `end_bytes` if little lies ahead. What fails here shows again at the next record.
    pub(crate) fn write_ahead(&self, end_bytes: u64, pool: &BufPool) {
        let from_bytes = self.room.written_bytes.get().max(end_bytes);
        if self.room.filling.get() || from_bytes - end_bytes >= AHEAD_MIN_BYTES || !self.slot.is_healthy() {
            return;
        }
        self.advance(from_bytes);
        self.room.filling.set(true);
        let (replica, pool) = (self.clone(), pool.clone());
        self.slot.spawn(async move {
            let target_bytes = (from_bytes + 1).next_multiple_of(GROWTH_STEP_BYTES);
            // A full drive or a failed one is found again by the next record, which says so.
            drop(replica.fill(from_bytes, target_bytes, &pool).await);
            replica.room.filling.set(false);
            if let Some(waker) = replica.room.waker.take() {
                waker.wake();
            }
        });
    }

    async fn fill(&self, from_bytes: u64, target_bytes: u64, pool: &BufPool) -> Result<(), SlotError> {
        self.allocate(target_bytes).await?;
        let mut at_bytes = from_bytes;
        while at_bytes < target_bytes {
            let left = usize::try_from(target_bytes - at_bytes).unwrap_or(ZERO_WRITE_BYTES);
            let Ok(mut zeros) = pool.take(left.min(ZERO_WRITE_BYTES)) else { return Ok(()) };
            zeros.fill(0);
            let end_bytes = at_bytes + zeros.len() as u64;
            self.slot.write(&self.file, at_bytes, vec![zeros]).await?;
            at_bytes = end_bytes;
            self.advance(at_bytes);
        }
        Ok(())
    }

    /// Waits until no zeros are under way.
    async fn filled(&self) {
        poll_fn(|cx| {
            if !self.room.filling.get() {
                return Poll::Ready(());
            }
            *self.room.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Removes the file; nobody waits.
    pub(crate) fn remove_in_background(self) {
        let slot = self.slot.clone();
        slot.spawn(async move {
            let (drive, path) = (self.slot.drive.clone(), self.id.path());
            // What stays behind is removed when the log is opened next.
            drop(self.slot.run(async move { drive.remove(&path).await }).await);
        });
    }

    /// Makes the next file ready, with a first step of zeros; nobody waits.
    pub(crate) fn prepare(
        slot: &Slot<D, X>,
        id: FileId,
        old: Option<Replica<D, X>>,
        pool: &BufPool,
    ) -> oneshot::Receiver<Replica<D, X>> {
        let (sender, receiver) = oneshot::channel();
        let (slot, pool) = (slot.clone(), pool.clone());
        slot.clone().spawn(async move {
            let ready = match old {
                Some(old) => Replica::recycle(old, id).await,
                None => Replica::create(&slot, id, GROWTH_STEP_BYTES).await,
            };
            // Without one the roll makes its own.
            let Ok(ready) = ready else { return };
            if ready.room.written_bytes.get() < GROWTH_STEP_BYTES
                && ready.fill(ready.room.written_bytes.get(), GROWTH_STEP_BYTES, &pool).await.is_err()
            {
                return;
            }
            drop(sender.send(ready));
        });
        receiver
    }

    /// Writes one durable piece of a record, or of anything else.
    pub(crate) async fn write(
        &self,
        offset_bytes: u64,
        buf: AlignedBuf,
        piece: Piece,
    ) -> Result<(), SlotError> {
        match piece {
            Piece::Record => self.slot.record_write(self.file.write_durable(offset_bytes, vec![buf])).await,
            Piece::Copy => self.slot.write(&self.file, offset_bytes, vec![buf]).await,
        }
    }
}

async fn create_file<D: Drive>(drive: &D, path: &str, len_bytes: u64) -> Result<D::File, IoError> {
    drive.create_dir(LOG_DIR).await?;
    let file = match drive.open(path, OpenMode::CreateNew).await {
        Err(IoError::AlreadyExists) => {
            drive.remove(path).await?;
            drive.open(path, OpenMode::CreateNew).await?
        }
        opened => opened?,
    };
    file.allocate(0, len_bytes).await?;
    file.sync().await?;
    drive.sync_dir(LOG_DIR).await?;
    drive.sync_dir("").await?;
    Ok(file)
}

/// Writes the term file, its directory durable as well.
pub(crate) async fn write_term_file<D: Drive>(drive: &D, path: &str, bytes: Vec<u8>) -> Result<(), IoError> {
    drive.create_dir(TERM_DIR).await?;
    drive.sync_dir("").await?;
    drive.write_small(path, bytes).await
}
