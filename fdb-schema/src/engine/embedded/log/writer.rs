//! The log while it runs: a handle, and the one task that writes.
//! Invariants: one record is under way at a time; an append is answered when its record is durable on every member of
//! a full set, or refused before a byte of it was written; one that drives failed under waits until it is completed
//! with its own number; dropping a future that the handle returned changes nothing.
//! Memory: payloads stay until a roll trims them (at most what is not yet in runs, 64 MiB and what comes during the
//! flush), since a new term writes them again; buffers of 1 MiB a member while a record is written.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_channel::{mpsc, oneshot};
use futures_util::future::{Either, join_all, select};
use futures_util::stream::StreamExt;
use shardstore_format::{DriveId, PoolId};
use shardstore_reactor::{AlignedBuf, BufPool, Drive, Executor, MonotonicTime, SECTOR_BYTES};

use super::error::LogError;
use super::format::{
    FileAddress, FileId, Head, RECORD_MAX_BYTES, ZEROS, encode_record, payload_len, record_bytes,
};
use super::open::{self, IfLost, Recovered};
use super::replica::{Piece, Replica};
use super::slot::{Returned, Slot, SlotError};
use super::term::Term;

/// The most that one write carries: longer records are written piece by piece.
const PIECE_BYTES: usize = 1024 * 1024;
/// How long to wait for buffers, or before drives are tried again that are there and do not do.
const RETRY: Duration = Duration::from_millis(1);
const RETRY_DRIVES: Duration = Duration::from_secs(1);

/// A handle to the log. Clones share it; the log's task ends when the last one is dropped.
pub struct Log<D, X> {
    commands: mpsc::UnboundedSender<Command<D>>,
    shared: Rc<Shared>,
    executor: PhantomData<X>,
}

impl<D, X> Clone for Log<D, X> {
    fn clone(&self) -> Self {
        Log { commands: self.commands.clone(), shared: Rc::clone(&self.shared), executor: PhantomData }
    }
}

impl<D: Drive, X: Executor> Log<D, X> {
    /// Reads the log from `drives`, puts what it holds on a full set under a new term, and starts the log's task.
    ///
    /// `drives` are all drives of the pool that answer, members or not; the caller has made sure that at most m of
    /// the pool are missing. `set_size` is m + 1. With fewer than that many healthy drives the log is read-only.
    /// Cost: reads what is not yet in runs (at most some 64 MiB a member) and writes it once.
    ///
    /// # Errors
    /// [`LogError::Damaged`]: acknowledged records are on none of the drives. [`LogError::NoSpace`] and
    /// [`LogError::ReadOnly`]: not one drive takes the copy that must be made before anything is served.
    pub async fn open(
        drives: Vec<(DriveId, D)>,
        pool: PoolId,
        set_size: usize,
        executor: X,
        buf_pool: BufPool,
    ) -> Result<(Log<D, X>, Recovered), LogError> {
        Log::open_or(IfLost::Refuse, drives, pool, set_size, executor, buf_pool).await
    }

    /// As [`Log::open`], for a log that may be on no drive any more.
    pub(crate) async fn open_or(
        if_lost: IfLost,
        drives: Vec<(DriveId, D)>,
        pool: PoolId,
        set_size: usize,
        executor: X,
        buf_pool: BufPool,
    ) -> Result<(Log<D, X>, Recovered), LogError> {
        assert!(set_size > 0);
        let (sender, returned) = mpsc::unbounded();
        let slot = |(id, drive)| Slot::new(id, drive, executor.clone(), Returned(sender.clone()));
        let slots: Vec<Slot<D, X>> = drives.into_iter().map(slot).collect();
        let task = LogTask::new(pool, set_size, executor.clone(), buf_pool, slots, Returned(sender.clone()));
        let (task, recovered) = open::recover(task, if_lost).await?;
        let (commands, received) = mpsc::unbounded();
        let shared = Rc::clone(&task.shared);
        executor.spawn(task.run(Events { commands: received, returned }));
        Ok((Log { commands, shared, executor: PhantomData }, recovered))
    }

    /// What the log on `drives` holds. Nothing is changed, so nothing may be served from it: a later start may read
    /// more or, with other drives, less.
    ///
    /// # Errors
    /// [`LogError::Damaged`]: acknowledged records are on none of the drives.
    pub(crate) async fn look(
        drives: Vec<(DriveId, D)>,
        pool: PoolId,
        executor: X,
        buf_pool: BufPool,
    ) -> Result<Recovered, LogError> {
        let (sender, _returned) = mpsc::unbounded();
        let slot = |(id, drive)| Slot::new(id, drive, executor.clone(), Returned(sender.clone()));
        let slots: Vec<Slot<D, X>> = drives.into_iter().map(slot).collect();
        open::look(LogTask::new(pool, 1, executor.clone(), buf_pool, slots, Returned(sender.clone()))).await
    }

    /// Appends one record and returns its sequence number once it is durable on every member. Numbers increase by
    /// one in the order of the calls.
    ///
    /// If drives fail under the record and no full set is left, the future waits until there is one: the outcome is
    /// unknown meanwhile, which [`Log::stalled`] tells. Dropping the future does not take the record back.
    ///
    /// # Errors
    /// [`LogError::ReadOnly`], [`LogError::NoSpace`], [`LogError::TooLarge`]: certainly not written, the number is
    /// given to the next record. [`LogError::Stopped`]: unknown.
    pub fn append(&self, payload: Vec<Bytes>) -> impl Future<Output = Result<u64, LogError>> + use<D, X> {
        self.ask(move |reply| Command::Append { payload, reply })
    }

    /// Begins a new file with `manifest` on every member, then forgets records below `keep_from_sequence`.
    ///
    /// # Errors
    /// [`LogError::NoSpace`]: not done. [`LogError::ReadOnly`]: the next start may find this manifest or the one
    /// before, so keep the runs of both, and call again once the log is writable.
    pub fn roll(
        &self,
        manifest: Bytes,
        keep_from_sequence: u64,
    ) -> impl Future<Output = Result<(), LogError>> + use<D, X> {
        self.ask(move |reply| Command::Roll { manifest, keep_from_sequence, reply })
    }

    /// Says which drives can be used from now on, all of them; one that failed is offered again by being listed. A
    /// drive that returns must not have missed a format: its old log files are ignored and removed.
    pub fn set_drives(&self, drives: Vec<(DriveId, D)>) {
        // A log that has stopped needs no drives.
        drop(self.commands.unbounded_send(Command::SetDrives(drives)));
    }

    fn ask<T, C>(&self, command: C) -> impl Future<Output = Result<T, LogError>> + use<D, X, T, C>
    where
        C: FnOnce(oneshot::Sender<Result<T, LogError>>) -> Command<D>,
    {
        let (sender, receiver) = oneshot::channel();
        // A send that fails drops the sender, which the receiver reports.
        drop(self.commands.unbounded_send(command(sender)));
        async move { receiver.await.unwrap_or(Err(LogError::Stopped)) }
    }

    /// Bytes of records in the current file: what a start would replay at least.
    pub fn bytes_since_roll(&self) -> u64 {
        self.shared.bytes_since_roll.get()
    }

    /// Whether the log is on a full set of drives.
    pub fn is_writable(&self) -> bool {
        self.shared.writable.get()
    }

    /// The current term; 0 if none was ever begun.
    pub fn term(&self) -> u64 {
        self.shared.term.get()
    }

    /// The drives that hold the log.
    pub fn members(&self) -> Vec<DriveId> {
        self.shared.members.borrow().clone()
    }

    /// Returns once the log is not writable; at once if it is not. One caller waits at a time.
    pub fn stalled(&self) -> impl Future<Output = ()> + use<D, X> {
        let shared = Rc::clone(&self.shared);
        poll_fn(move |cx| {
            if !shared.writable.get() {
                return Poll::Ready(());
            }
            *shared.stalled.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
    }
}

enum Command<D> {
    Append { payload: Vec<Bytes>, reply: oneshot::Sender<Result<u64, LogError>> },
    Roll { manifest: Bytes, keep_from_sequence: u64, reply: oneshot::Sender<Result<(), LogError>> },
    SetDrives(Vec<(DriveId, D)>),
}

/// What the handles read.
#[derive(Default)]
pub(crate) struct Shared {
    writable: Cell<bool>,
    bytes_since_roll: Cell<u64>,
    term: Cell<u64>,
    members: RefCell<Vec<DriveId>>,
    stalled: RefCell<Option<Waker>>,
}

/// A record that is not yet wholly in runs.
pub(crate) struct Kept {
    pub(crate) sequence: u64,
    pub(crate) payload: Vec<Bytes>,
}

impl Kept {
    pub(crate) fn len(&self) -> usize {
        payload_len(&self.payload)
    }
}

/// A member of the current term.
pub(crate) struct Member<D: Drive, X> {
    replica: Replica<D, X>,
    /// Files before it in the term, each with its last sequence number.
    old: Vec<(Replica<D, X>, u64)>,
    /// The next file, being made ready.
    next: Option<oneshot::Receiver<Replica<D, X>>>,
}

impl<D: Drive, X> Member<D, X> {
    pub(crate) fn new(replica: Replica<D, X>) -> Member<D, X> {
        Member { replica, old: Vec::new(), next: None }
    }
}

/// The task that owns the log.
pub(crate) struct LogTask<D: Drive, X> {
    pub(crate) pool: PoolId,
    pub(crate) set_size: usize,
    pub(crate) slots: Vec<Slot<D, X>>,
    executor: X,
    buf_pool: BufPool,
    returned: Returned,
    shared: Rc<Shared>,
    pub(crate) term: Term,
    /// No drive has shown a higher term, in a term file or in the name of a log file.
    pub(crate) highest_term: u64,
    pub(crate) highest_file: u64,
    pub(crate) members: Vec<Member<D, X>>,
    pub(crate) file: FileId,
    pub(crate) head_bytes: u64,
    pub(crate) end_bytes: u64,
    pub(crate) tail_crc: u32,
    pub(crate) manifest: Option<Bytes>,
    pub(crate) keep_from_sequence: u64,
    pub(crate) next_sequence: u64,
    pub(crate) records: VecDeque<Kept>,
    /// A higher term, or a file after the current one, may be on some drive: nothing may be acknowledged before a
    /// change of term succeeds.
    pub(crate) superseded: bool,
    tried_drives: Option<MonotonicTime>,
}

struct Events<D> {
    commands: mpsc::UnboundedReceiver<Command<D>>,
    returned: mpsc::UnboundedReceiver<()>,
}

enum Event<D> {
    Command(Command<D>),
    Returned,
    Closed,
}

impl<D> Events<D> {
    async fn next(&mut self) -> Event<D> {
        match select(self.commands.next(), self.returned.next()).await {
            Either::Left((Some(command), _)) => Event::Command(command),
            Either::Left((None, _)) => Event::Closed,
            Either::Right(_) => Event::Returned,
        }
    }
}

impl<D: Drive, X: Executor> LogTask<D, X> {
    fn new(
        pool: PoolId,
        set_size: usize,
        executor: X,
        buf_pool: BufPool,
        slots: Vec<Slot<D, X>>,
        returned: Returned,
    ) -> LogTask<D, X> {
        LogTask {
            pool,
            set_size,
            slots,
            executor,
            buf_pool,
            returned,
            shared: Rc::default(),
            term: Term { number: 0, members: Vec::new(), previous: None },
            highest_term: 0,
            highest_file: 0,
            members: Vec::new(),
            file: FileId { term: 0, number: 0 },
            head_bytes: 0,
            end_bytes: 0,
            tail_crc: 0,
            manifest: None,
            keep_from_sequence: 1,
            next_sequence: 1,
            records: VecDeque::new(),
            superseded: false,
            tried_drives: None,
        }
    }

    async fn run(mut self, mut events: Events<D>) {
        loop {
            match events.next().await {
                Event::Closed => return,
                Event::Returned => self.try_again().await,
                Event::Command(Command::SetDrives(drives)) => {
                    self.set_drives(drives);
                    self.try_again().await;
                }
                // A caller that went away learns nothing; what it asked for is done all the same.
                Event::Command(Command::Append { payload, reply }) => {
                    drop(reply.send(self.append(payload, &mut events).await));
                }
                Event::Command(Command::Roll { manifest, keep_from_sequence, reply }) => {
                    drop(reply.send(self.roll(manifest, keep_from_sequence).await));
                }
            }
        }
    }

    async fn append(&mut self, payload: Vec<Bytes>, events: &mut Events<D>) -> Result<u64, LogError> {
        let len = payload_len(&payload);
        if len > RECORD_MAX_BYTES {
            return Err(LogError::TooLarge);
        }
        self.ready_for(record_bytes(len)).await?;
        let sequence = self.next_sequence;
        let address = FileAddress { pool: self.pool, file: self.file };
        let (header, crc, padding) = encode_record(address, sequence, self.tail_crc, &payload);
        let mut parts = Vec::with_capacity(payload.len() + 2);
        parts.push(Bytes::copy_from_slice(&header));
        parts.extend(payload.iter().cloned());
        parts.push(Bytes::from_static(&ZEROS[..padding]));
        let replicas: Vec<Replica<D, X>> = self.members.iter().map(|member| member.replica.clone()).collect();
        let (end_bytes, results) = self.write_to_all(&replicas, self.end_bytes, &parts, Piece::Record).await;
        // From here on the record may be durable somewhere: it keeps its number whatever happens.
        self.records.push_back(Kept { sequence, payload });
        self.next_sequence += 1;
        if self.note_failures(results) {
            self.complete(events).await?;
        } else {
            self.tail_crc = crc;
            self.end_bytes = end_bytes;
            self.start_write_ahead();
            self.publish();
        }
        Ok(sequence)
    }

    /// Makes sure of a full set with room for `bytes` more.
    async fn ready_for(&mut self, bytes: usize) -> Result<(), LogError> {
        loop {
            if !self.is_whole() {
                self.change_term_if_due().await?;
                continue;
            }
            let end_bytes = self.end_bytes + bytes as u64;
            let rooms = self.members.iter().map(|member| member.replica.make_room(end_bytes));
            let results = join_all(rooms).await;
            let full = results.iter().any(|result| matches!(result, Err(error) if error.is_no_space()));
            if !self.note_failures(results) {
                return Ok(());
            }
            if full && self.tried_lately() {
                return Err(LogError::NoSpace);
            }
            self.tried_drives = Some(self.executor.now());
            match self.change_term().await {
                // No record was written, and no term: the set is as good as it was, and full.
                Err(_) if full && !self.superseded => return Err(LogError::NoSpace),
                other => self.note_change(other)?,
            }
        }
    }

    /// Completes the last record on another set, however long that takes.
    async fn complete(&mut self, events: &mut Events<D>) -> Result<(), LogError> {
        loop {
            let changed = self.change_term().await;
            if self.note_change(changed).is_ok() {
                return Ok(());
            }
            let (next, retry) = (pin!(events.next()), pin!(self.executor.sleep(RETRY_DRIVES)));
            let event = match select(next, retry).await {
                Either::Left((event, _)) => event,
                Either::Right(_) => continue,
            };
            match event {
                Event::Closed => return Err(LogError::Stopped),
                Event::Returned => {}
                Event::Command(Command::SetDrives(drives)) => self.set_drives(drives),
                Event::Command(Command::Append { reply, .. }) => drop(reply.send(Err(LogError::ReadOnly))),
                Event::Command(Command::Roll { reply, .. }) => drop(reply.send(Err(LogError::ReadOnly))),
            }
        }
    }

    async fn roll(&mut self, manifest: Bytes, keep_from_sequence: u64) -> Result<(), LogError> {
        assert!(keep_from_sequence >= self.keep_from_sequence, "the log is trimmed forwards");
        assert!(
            keep_from_sequence <= self.next_sequence,
            "what is kept begins at the next record at the latest"
        );
        self.ready_for(0).await?;
        let file = FileId { number: self.highest_file + 1, ..self.file };
        let head = Head {
            first_sequence: self.next_sequence,
            keep_from_sequence,
            previous_crc: self.tail_crc,
            manifest: Some(manifest.clone()),
        };
        let (head, crc) = head.encode(FileAddress { pool: self.pool, file });
        let head = Bytes::from(head);
        let len_bytes = head.len() as u64;
        let next = self.members.iter_mut().map(|member| next_file(member, file, len_bytes));
        let results = join_all(next).await;
        let replicas: Vec<Replica<D, X>> = results.iter().flatten().cloned().collect();
        if results.iter().any(|result| matches!(result, Err(error) if error.is_no_space())) {
            return Err(LogError::NoSpace);
        }
        self.highest_file += 1;
        let before = (self.manifest.replace(manifest), self.keep_from_sequence);
        let mut failed = self.note_failures(results);
        if !failed {
            let (_, results) = self.write_to_all(&replicas, 0, &[head], Piece::Copy).await;
            failed = self.note_failures(results);
        }
        self.keep_from_sequence = keep_from_sequence;
        if failed {
            // A start may find the new file: nothing is acknowledged in the old one any more.
            self.superseded = true;
            return self.roll_by_new_term(before).await;
        }
        let last_sequence = self.next_sequence - 1;
        for (member, replica) in self.members.iter_mut().zip(replicas) {
            let old = std::mem::replace(&mut member.replica, replica);
            member.old.push((old, last_sequence));
        }
        self.file = file;
        self.tail_crc = crc;
        self.head_bytes = len_bytes;
        self.end_bytes = len_bytes;
        self.records.retain(|record| record.sequence >= keep_from_sequence);
        self.start_write_ahead();
        let trimmed = self.trim();
        self.prepare_next_file(trimmed);
        self.publish();
        Ok(())
    }

    /// A member failed under the roll: a new term begins with the new manifest, or the old one stays.
    async fn roll_by_new_term(&mut self, before: (Option<Bytes>, u64)) -> Result<(), LogError> {
        let kept = self.keep_from_sequence;
        let (trimmed, records) =
            std::mem::take(&mut self.records).into_iter().partition(|r| r.sequence < kept);
        self.records = records;
        let changed = self.change_term().await;
        if changed.is_err() {
            let mut trimmed: VecDeque<Kept> = trimmed;
            trimmed.append(&mut self.records);
            self.records = trimmed;
            (self.manifest, self.keep_from_sequence) = before;
        }
        // With no room the set may be whole and the manifest on some of it: unknown, like read-only.
        self.note_change(changed).map_err(|_| LogError::ReadOnly)
    }

    /// Takes from each member the files that nothing needs; keeps one to be used again, removes the others.
    fn trim(&mut self) -> Vec<Option<Replica<D, X>>> {
        let keep_from_sequence = self.keep_from_sequence;
        let trim_member = |member: &mut Member<D, X>| {
            let (gone, kept) = std::mem::take(&mut member.old)
                .into_iter()
                .partition(|(_, last_sequence)| *last_sequence < keep_from_sequence);
            member.old = kept;
            let mut gone: Vec<(Replica<D, X>, u64)> = gone;
            let again = gone.pop().map(|(replica, _)| replica);
            gone.into_iter().for_each(|(replica, _)| replica.remove_in_background());
            again
        };
        self.members.iter_mut().map(trim_member).collect()
    }

    /// Has every member make its next file ready, from a trimmed one if there is one.
    pub(crate) fn prepare_next_file(&mut self, mut trimmed: Vec<Option<Replica<D, X>>>) {
        let id = FileId { number: self.highest_file + 1, ..self.file };
        trimmed.resize_with(self.members.len(), || None);
        for (member, old) in self.members.iter_mut().zip(trimmed) {
            member.next = Some(Replica::prepare(&member.replica.slot, id, old, &self.buf_pool));
        }
    }

    pub(crate) fn start_write_ahead(&self) {
        for member in &self.members {
            member.replica.advance(self.end_bytes);
            member.replica.write_ahead(self.end_bytes, &self.buf_pool);
        }
    }

    /// Writes the same bytes, whole sectors, to all replicas, piece by piece; stops at a piece that fails anywhere.
    pub(crate) async fn write_to_all(
        &self,
        replicas: &[Replica<D, X>],
        offset_bytes: u64,
        parts: &[Bytes],
        piece: Piece,
    ) -> (u64, Vec<Result<(), SlotError>>) {
        let mut source = Parts { parts, at: 0 };
        let mut left = payload_len(parts);
        assert!(left.is_multiple_of(SECTOR_BYTES));
        let mut at_bytes = offset_bytes;
        let mut results = Vec::new();
        while left > 0 {
            let len = left.min(PIECE_BYTES);
            let mut first = self.take_buf(len).await;
            source.fill(&mut first);
            let mut bufs = Vec::with_capacity(replicas.len());
            for _ in 1..replicas.len() {
                let mut copy = self.take_buf(len).await;
                copy.copy_from_slice(&first);
                bufs.push(copy);
            }
            bufs.push(first);
            let writes = replicas.iter().zip(bufs).map(|(replica, buf)| replica.write(at_bytes, buf, piece));
            results = join_all(writes).await;
            if results.iter().any(Result::is_err) {
                break;
            }
            at_bytes += len as u64;
            left -= len;
        }
        (at_bytes, results)
    }

    async fn take_buf(&self, len: usize) -> AlignedBuf {
        loop {
            match self.buf_pool.take(len) {
                Ok(buf) => return buf,
                Err(_) => self.executor.sleep(RETRY).await,
            }
        }
    }

    /// Marks members that did not do their part; true if there are any.
    fn note_failures<T>(&self, results: Vec<Result<T, SlotError>>) -> bool {
        let mut failed = false;
        for (member, result) in self.members.iter().zip(results) {
            let Err(error) = result else { continue };
            failed = true;
            let slot = &member.replica.slot;
            tracing::warn!(drive = slot.drive.label(), %error, "a member of the metadata log failed");
            if !error.is_no_space() {
                slot.mark_failed();
            }
        }
        failed
    }

    /// Passes on what came of a change of term; a failed one makes the log read-only.
    fn note_change(&mut self, changed: Result<(), LogError>) -> Result<(), LogError> {
        if let Err(error) = &changed {
            tracing::warn!(%error, "the metadata log is read-only");
            self.set_writable(false);
        }
        changed
    }

    async fn change_term_if_due(&mut self) -> Result<(), LogError> {
        if !self.shared.writable.get() && self.tried_lately() {
            return Err(LogError::ReadOnly);
        }
        self.tried_drives = Some(self.executor.now());
        let changed = self.change_term().await;
        self.note_change(changed)
    }

    fn tried_lately(&self) -> bool {
        self.tried_drives.is_some_and(|tried| self.executor.now().since(tried) < RETRY_DRIVES)
    }

    /// Drives have come: a full set if there was none, else the term for those that missed it.
    async fn try_again(&mut self) {
        if self.is_whole() {
            self.write_term_to_others().await;
            return;
        }
        let changed = self.change_term().await;
        // Read-only is a state, which `is_writable` tells.
        drop(self.note_change(changed));
    }

    fn set_drives(&mut self, drives: Vec<(DriveId, D)>) {
        let old = std::mem::take(&mut self.slots);
        for (id, drive) in drives {
            self.slots.push(match old.iter().find(|slot| slot.id == id) {
                // A healthy drive goes on with the handle that it is written through.
                Some(slot) if slot.is_healthy() => slot.clone(),
                Some(slot) => slot.offered_again(drive),
                None => Slot::new(id, drive, self.executor.clone(), self.returned.clone()),
            });
        }
        let listed = |id: DriveId| self.slots.iter().any(|slot| slot.id == id);
        self.members.retain(|member| listed(member.replica.slot.id));
    }

    /// On a full set, and nothing is known against any member.
    fn is_whole(&self) -> bool {
        self.is_full() && self.members.iter().all(|member| member.replica.slot.is_healthy())
    }

    pub(crate) fn is_full(&self) -> bool {
        self.term.number > 0 && !self.superseded && self.members.len() == self.set_size
    }

    fn set_writable(&self, writable: bool) {
        self.shared.writable.set(writable);
        if !writable && let Some(waker) = self.shared.stalled.take() {
            waker.wake();
        }
    }

    /// Shows the handles where the log stands.
    pub(crate) fn publish(&self) {
        self.shared.bytes_since_roll.set(self.end_bytes - self.head_bytes);
        self.shared.term.set(self.term.number);
        if *self.shared.members.borrow() != self.term.members {
            self.shared.members.borrow_mut().clone_from(&self.term.members);
        }
        self.set_writable(self.is_full());
    }
}

/// The next file of a member: the one made ready, or one made now.
async fn next_file<D: Drive, X: Executor>(
    member: &mut Member<D, X>,
    id: FileId,
    len_bytes: u64,
) -> Result<Replica<D, X>, SlotError> {
    let slot = member.replica.slot.clone();
    if let Some(next) = member.next.take()
        && let Ok(ready) = next.await
        && ready.id == id
    {
        ready.make_room(len_bytes).await?;
        return Ok(ready);
    }
    Replica::create(&slot, id, len_bytes).await
}

/// Reads a list of slices as one.
struct Parts<'a> {
    parts: &'a [Bytes],
    at: usize,
}

impl Parts<'_> {
    fn fill(&mut self, mut target: &mut [u8]) {
        while let Some((part, rest)) = self.parts.split_first() {
            let len = target.len().min(part.len() - self.at);
            let (here, after) = target.split_at_mut(len);
            here.copy_from_slice(&part[self.at..self.at + len]);
            target = after;
            self.at += len;
            if self.at < part.len() {
                break;
            }
            self.parts = rest;
            self.at = 0;
        }
        assert!(target.is_empty(), "the parts are as long as was said");
    }
}
