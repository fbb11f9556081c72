//! `SimDrive` and `SimFile`: the drive traits over a [`Disk`], with latency, faults and crashes.
//! Invariants: a write begins when it is called and ends whether or not anybody waits; a change of names or
//! room that was begun happens even if its future is dropped; a failed durable write fences the drive; a rule
//! broken by the caller (unaligned I/O, a write through a read-only handle) panics with the seed.
//! Not here: the media (`disk`), the order of tasks (`executor`).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::future::{Either, select};
use shardstore_reactor::{
    AlignedBuf, Drive, DriveFile, DriveSpace, FenceReason, IoError, OpenMode, PendingWrite, SECTOR_BYTES,
    WRITE_DEADLINE, WriteOutcome, read_small_file, write_small_file,
};

use crate::disk::{Disk, Ino, SECTOR, WriteId, normal_path};
use crate::executor::SimCore;
use crate::faults::Faults;

/// Latency of one operation in microseconds: usual range, and the rare slow one (2 %).
const LATENCY_MICROS: std::ops::Range<u64> = 8..250;
const SLOW_LATENCY_MICROS: std::ops::Range<u64> = 250..6_000;
/// How many times longer an operation takes that [`Faults::stall_per_mille`] hits.
const STALL_FACTOR: u64 = 100;
/// Parts of one write: what one vectored write of the kernel takes, as on a real drive times a few calls.
const WRITE_PARTS_MAX: usize = 65_536;

/// A drive in memory. Clones share it; it stays valid until the next crash, then [`SimDrive::reopen`].
#[derive(Clone)]
pub struct SimDrive {
    cell: Rc<DriveCell>,
    generation: u64,
}

/// What a drive would hold after a power loss; cheap, for trying many crashes of one state.
#[derive(Clone)]
pub struct DriveImage {
    disk: Disk,
}

impl DriveImage {
    pub(crate) fn disk(&self) -> Disk {
        self.disk.clone()
    }
}

impl SimDrive {
    pub(crate) fn of(cell: Rc<DriveCell>) -> SimDrive {
        let generation = cell.generation.get();
        SimDrive { cell, generation }
    }

    /// The drive after a crash or a restart: unfenced, with what it holds now.
    pub fn reopen(&self) -> SimDrive {
        self.cell.fenced.set(None);
        SimDrive::of(Rc::clone(&self.cell))
    }

    /// What a power loss now would leave; `variant` chooses among the possible outcomes.
    pub fn crash_image(&self, variant: u64) -> DriveImage {
        let mut disk = self.cell.disk.borrow().clone();
        // Spread, since neighbouring seeds of a small generator begin alike.
        let spread = (variant + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.cell.core.seed;
        let mut rng = fastrand::Rng::with_seed(spread);
        disk.crash(&mut rng.fork());
        DriveImage { disk }
    }

    /// Sets the chances of misbehaviour from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.cell.faults.set(faults);
    }

    /// The next `count` reads fail with EIO.
    pub fn fail_reads(&self, count: u32) {
        self.cell.reads_to_fail.set(count);
    }

    /// The next `count` durable writes that end fail with EIO; the first of them fences the drive.
    pub fn fail_writes(&self, count: u32) {
        self.cell.writes_to_fail.set(count);
    }

    /// The next `count` durable writes are acknowledged but dropped.
    pub fn lose_writes(&self, count: u32) {
        self.cell.writes_to_lose.set(count);
    }

    /// The next `count` durable writes are acknowledged but land elsewhere on the drive.
    pub fn misdirect_writes(&self, count: u32) {
        self.cell.writes_to_misdirect.set(count);
    }

    /// Acknowledges durable writes out of a volatile cache from now on: a power loss takes back any of them. No drive
    /// may do that; tests of tests want one that does.
    pub fn set_volatile_cache(&self, is_volatile: bool) {
        self.cell.disk.borrow_mut().set_volatile(is_volatile);
    }

    /// Changes the size of the file system; less than what is used leaves no free room.
    pub fn set_capacity(&self, capacity_bytes: u64) {
        self.cell.disk.borrow_mut().set_capacity(capacity_bytes);
    }

    /// Flips one bit of the stored byte at `offset_bytes`; false if there is no such file or byte.
    pub fn corrupt(&self, path: &str, offset_bytes: u64) -> bool {
        let path = normal_path(path, self.cell.core.seed);
        let bit = self.cell.rng.borrow_mut().u32(..8);
        let mut disk = self.cell.disk.borrow_mut();
        disk.look_up(&path).is_some_and(|ino| disk.flip_bit(ino, offset_bytes, bit))
    }

    /// Flips one bit of a random stored byte and says where; `None` if nothing is stored.
    pub fn corrupt_random(&self) -> Option<(String, u64)> {
        let place = self.cell.disk.borrow().random_stored_byte(&mut self.cell.rng.borrow_mut())?;
        assert!(self.corrupt(&place.0, place.1), "seed={}: a stored byte is there", self.cell.core.seed);
        Some(place)
    }

    /// Multiplies the time of every operation; 1 is normal.
    pub fn slow_by(&self, factor: u64) {
        self.cell.slow_factor.set(factor.max(1));
    }

    /// No operation ends until [`SimDrive::resume`].
    pub fn hang(&self) {
        self.cell.hung.set(true);
    }

    /// Reads of a file from `from_bytes` on do not end until [`SimDrive::resume`]. All else does, as where the kernel
    /// needs no device for it: files are opened, and what lies before is read.
    pub fn hang_reads(&self, from_bytes: u64) {
        self.cell.reads_hang_from.set(Some(from_bytes));
    }

    /// Ends [`SimDrive::hang`] and [`SimDrive::hang_reads`]: what waited goes on, late writes land.
    pub fn resume(&self) {
        self.cell.hung.set(false);
        self.cell.reads_hang_from.set(None);
        for waker in self.cell.hung_wakers.take() {
            waker.wake();
        }
    }

    /// Every operation fails with ENODEV, as if the device had been pulled.
    pub fn vanish(&self) {
        self.cell.vanished.set(true);
    }

    /// Ends [`SimDrive::vanish`]; a fence stays until [`SimDrive::reopen`].
    pub fn come_back(&self) {
        self.cell.vanished.set(false);
    }

    /// Removes every file: a new, formatted, empty drive in the same place. Open handles lead nowhere.
    pub fn wipe(&self) {
        let empty = self.cell.disk.borrow().empty_like();
        self.cell.detach_handles();
        drop(self.cell.disk.replace(empty));
    }

    /// Exchanges the contents of two drives, as if two mount points were mixed up. Open handles lead nowhere.
    pub fn swap_contents(&self, other: &SimDrive) {
        self.cell.detach_handles();
        other.cell.detach_handles();
        self.cell.disk.swap(&other.cell.disk);
    }

    /// Puts an image in place of the content, such as an older state of this drive. Open handles lead nowhere.
    pub fn replace_contents(&self, image: &DriveImage) {
        self.cell.detach_handles();
        drop(self.cell.disk.replace(image.disk()));
    }

    /// Durable writes under way.
    pub fn writes_in_flight(&self) -> u64 {
        self.cell.writes_in_flight.get()
    }

    /// Operations on names and room begun so far, opens included.
    pub fn name_operations(&self) -> u64 {
        self.cell.name_operations.get()
    }

    /// Operations begun so far: (reads, durable writes, bytes of durable writes).
    pub fn counts(&self) -> (u64, u64, u64) {
        (self.cell.reads.get(), self.cell.writes.get(), self.cell.written_bytes.get())
    }

    fn path(&self, path: &str) -> String {
        normal_path(path, self.cell.core.seed)
    }

    /// Runs a change of names or room to its end, even if the caller goes away.
    async fn detached<T: 'static>(
        &self,
        change: impl FnOnce(&DriveCell) -> Result<T, IoError> + 'static,
    ) -> Result<T, IoError> {
        let (cell, generation) = (Rc::clone(&self.cell), self.generation);
        cell.name_operations.set(cell.name_operations.get() + 1);
        let (sender, receiver) = oneshot::channel();
        self.cell.core.spawn(async move {
            let result = cell.meta_operation(generation, change).await;
            // The caller may have gone; the change stands all the same.
            drop(sender.send(result));
        });
        receiver.await.unwrap_or(Err(IoError::Fenced))
    }

    fn file(&self, ino: Ino, mode: OpenMode) -> SimFile {
        let handle = Handle { ino, writable: mode != OpenMode::Read, generation: self.generation };
        SimFile { drive: self.clone(), handle: Rc::new(OpenHandle { handle, cell: Rc::clone(&self.cell) }) }
    }
}

impl Drive for SimDrive {
    type File = SimFile;

    fn label(&self) -> &str {
        self.cell.label()
    }

    async fn open(&self, path: &str, mode: OpenMode) -> Result<SimFile, IoError> {
        let path = self.path(path);
        let opened = self.clone();
        // The handle is made inside, so that a dropped caller leaves none open.
        self.detached(move |cell| {
            let mut disk = cell.disk.borrow_mut();
            let ino = match mode {
                OpenMode::CreateNew => disk.create(&path)?,
                OpenMode::Read | OpenMode::ReadWrite => disk.look_up(&path).ok_or(IoError::NotFound)?,
            };
            disk.open(ino);
            drop(disk);
            Ok(opened.file(ino, mode))
        })
        .await
    }

    async fn remove(&self, path: &str) -> Result<(), IoError> {
        let path = self.path(path);
        self.detached(move |cell| cell.disk.borrow_mut().remove(&path)).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), IoError> {
        let (from, to) = (self.path(from), self.path(to));
        self.detached(move |cell| cell.disk.borrow_mut().rename(&from, &to)).await
    }

    async fn create_dir(&self, path: &str) -> Result<(), IoError> {
        let path = self.path(path);
        self.detached(move |cell| cell.disk.borrow_mut().create_dir(&path)).await
    }

    async fn list(&self, path: &str) -> Result<Vec<String>, IoError> {
        let path = self.path(path);
        self.detached(move |cell| {
            let mut names = cell.disk.borrow().list(&path)?;
            cell.rng.borrow_mut().shuffle(&mut names);
            Ok(names)
        })
        .await
    }

    async fn sync_dir(&self, path: &str) -> Result<(), IoError> {
        let path = self.path(path);
        self.detached(move |cell| {
            cell.check_flush()?;
            cell.disk.borrow_mut().sync_dir(&path)
        })
        .await
    }

    async fn space(&self) -> Result<DriveSpace, IoError> {
        self.detached(|cell| Ok(cell.disk.borrow().space())).await
    }

    fn fence(&self, reason: FenceReason) {
        if self.generation == self.cell.generation.get() {
            self.cell.fence(reason);
        }
    }

    fn fenced(&self) -> Option<FenceReason> {
        self.cell.fenced.get()
    }

    async fn read_small(&self, path: &str, len_max_bytes: usize) -> Result<Vec<u8>, IoError> {
        read_small_file(self, path, len_max_bytes).await
    }

    async fn write_small(&self, path: &str, bytes: Vec<u8>) -> Result<(), IoError> {
        write_small_file(self, path, bytes).await
    }
}

/// An open file of a [`SimDrive`].
#[derive(Clone)]
pub struct SimFile {
    drive: SimDrive,
    handle: Rc<OpenHandle>,
}

#[derive(Clone, Copy)]
struct Handle {
    ino: Ino,
    writable: bool,
    generation: u64,
}

/// Counts as open until the last clone is dropped.
struct OpenHandle {
    handle: Handle,
    cell: Rc<DriveCell>,
}

impl Drop for OpenHandle {
    fn drop(&mut self) {
        if self.handle.generation == self.cell.generation.get() {
            self.cell.disk.borrow_mut().close(self.handle.ino);
        }
    }
}

impl SimFile {
    fn ino(&self) -> Ino {
        self.handle.handle.ino
    }

    async fn change<T: 'static>(
        &self,
        change: impl FnOnce(&DriveCell, Ino) -> Result<T, IoError> + 'static,
    ) -> Result<T, IoError> {
        let handle = Rc::clone(&self.handle);
        self.drive.detached(move |cell| change(cell, handle.handle.ino)).await
    }

    fn check_writable(&self) {
        assert!(
            self.handle.handle.writable,
            "seed={}: a write through a handle opened for Read on {}",
            self.drive.cell.core.seed,
            self.drive.label()
        );
    }
}

impl DriveFile for SimFile {
    async fn read_at(&self, offset_bytes: u64, mut buf: AlignedBuf) -> (Result<(), IoError>, AlignedBuf) {
        let cell = &self.drive.cell;
        cell.check_aligned(offset_bytes, &buf);
        cell.reads.set(cell.reads.get() + 1);
        let result = match cell.read_operation(self.drive.generation, offset_bytes).await {
            Ok(()) => cell.read(self.ino(), offset_bytes, &mut buf),
            Err(error) => Err(error),
        };
        (result, buf)
    }

    fn write_durable(&self, offset_bytes: u64, bufs: Vec<AlignedBuf>) -> PendingWrite {
        let cell = &self.drive.cell;
        self.check_writable();
        assert!(!bufs.is_empty(), "seed={}: an empty write", cell.core.seed);
        assert!(bufs.len() <= WRITE_PARTS_MAX, "seed={}: too many parts in one write", cell.core.seed);
        for buf in &bufs {
            cell.check_aligned(offset_bytes, buf);
        }
        let (sender, receiver) = oneshot::channel();
        if let Err(error) = cell.check(self.drive.generation) {
            if cell.vanished.get() {
                cell.fence(FenceReason::FailedWrite);
            }
            drop(sender.send(WriteOutcome { result: Err(error), bufs }));
            return PendingWrite::new(receiver);
        }
        let sectors: Vec<Rc<[u8]>> =
            bufs.iter().flat_map(|buf| buf.chunks(SECTOR_BYTES)).map(Rc::from).collect();
        cell.writes.set(cell.writes.get() + 1);
        cell.written_bytes.set(cell.written_bytes.get() + sectors.len() as u64 * SECTOR);
        let id = cell.disk.borrow_mut().begin_write(self.ino(), offset_bytes, sectors);
        cell.writes_in_flight.set(cell.writes_in_flight.get() + 1);
        let task = write_task(self.clone(), id, bufs, sender);
        cell.core.spawn(task);
        PendingWrite::new(receiver)
    }

    async fn allocate(&self, offset_bytes: u64, len_bytes: u64) -> Result<(), IoError> {
        self.check_writable();
        self.change(move |cell, ino| {
            if cell.roll(|faults| faults.no_space_per_mille) {
                return Err(IoError::NoSpace);
            }
            cell.disk.borrow_mut().allocate(ino, offset_bytes, len_bytes)
        })
        .await
    }

    async fn punch(&self, offset_bytes: u64, len_bytes: u64) -> Result<(), IoError> {
        self.check_writable();
        let seed = self.drive.cell.core.seed;
        assert!(offset_bytes.is_multiple_of(SECTOR), "seed={seed}: punch at {offset_bytes}");
        assert!(len_bytes.is_multiple_of(SECTOR), "seed={seed}: punch of {len_bytes}");
        self.change(move |cell, ino| {
            cell.disk.borrow_mut().punch(ino, offset_bytes, len_bytes);
            Ok(())
        })
        .await
    }

    async fn sync(&self) -> Result<(), IoError> {
        self.change(|cell, ino| {
            cell.check_flush()?;
            cell.disk.borrow_mut().sync(ino);
            Ok(())
        })
        .await
    }

    async fn set_len(&self, len_bytes: u64) -> Result<(), IoError> {
        self.check_writable();
        self.change(move |cell, ino| {
            cell.disk.borrow_mut().set_len(ino, len_bytes);
            Ok(())
        })
        .await
    }

    async fn len_bytes(&self) -> Result<u64, IoError> {
        self.change(|cell, ino| Ok(cell.disk.borrow().len_bytes(ino))).await
    }
}

/// Runs one durable write to its end; past the deadline the caller is told, and the write may still land.
async fn write_task(
    file: SimFile,
    id: WriteId,
    bufs: Vec<AlignedBuf>,
    sender: oneshot::Sender<WriteOutcome>,
) {
    let cell = Rc::clone(&file.drive.cell);
    let device = Box::pin(cell.device_time());
    match select(device, cell.core.sleep(WRITE_DEADLINE)).await {
        Either::Left(_) => {
            let result = cell.end_write(file.drive.generation, id);
            drop(sender.send(WriteOutcome { result, bufs }));
        }
        Either::Right(((), device)) => {
            cell.fence(FenceReason::Hung);
            drop(sender.send(WriteOutcome { result: Err(IoError::Fenced), bufs: Vec::new() }));
            device.await;
            drop(cell.end_write(file.drive.generation, id));
        }
    }
    cell.writes_in_flight.set(cell.writes_in_flight.get() - 1);
}

pub(crate) struct DriveCell {
    label: String,
    core: Rc<SimCore>,
    disk: RefCell<Disk>,
    rng: RefCell<fastrand::Rng>,
    /// Handles of an earlier generation are dead.
    generation: Cell<u64>,
    fenced: Cell<Option<FenceReason>>,
    faults: Cell<Faults>,
    reads_to_fail: Cell<u32>,
    writes_to_fail: Cell<u32>,
    writes_to_lose: Cell<u32>,
    writes_to_misdirect: Cell<u32>,
    slow_factor: Cell<u64>,
    hung: Cell<bool>,
    reads_hang_from: Cell<Option<u64>>,
    hung_wakers: RefCell<Vec<Waker>>,
    vanished: Cell<bool>,
    writes_in_flight: Cell<u64>,
    reads: Cell<u64>,
    writes: Cell<u64>,
    written_bytes: Cell<u64>,
    name_operations: Cell<u64>,
}

impl DriveCell {
    pub(crate) fn new(label: &str, core: Rc<SimCore>, disk: Disk, rng: fastrand::Rng) -> Rc<DriveCell> {
        Rc::new(DriveCell {
            label: label.into(),
            core,
            disk: RefCell::new(disk),
            rng: RefCell::new(rng),
            generation: Cell::new(0),
            fenced: Cell::new(None),
            faults: Cell::new(Faults::default()),
            reads_to_fail: Cell::new(0),
            writes_to_fail: Cell::new(0),
            writes_to_lose: Cell::new(0),
            writes_to_misdirect: Cell::new(0),
            slow_factor: Cell::new(1),
            hung: Cell::new(false),
            reads_hang_from: Cell::new(None),
            hung_wakers: RefCell::new(Vec::new()),
            vanished: Cell::new(false),
            writes_in_flight: Cell::new(0),
            reads: Cell::new(0),
            writes: Cell::new(0),
            written_bytes: Cell::new(0),
            name_operations: Cell::new(0),
        })
    }

    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    pub(crate) fn is_hung(&self) -> bool {
        self.hung.get()
    }

    pub(crate) fn crash(&self) {
        self.disk.borrow_mut().crash(&mut self.rng.borrow_mut());
        self.restart();
    }

    pub(crate) fn kill(&self) {
        self.disk.borrow_mut().kill();
        self.restart();
    }

    fn restart(&self) {
        self.generation.set(self.generation.get() + 1);
        self.writes_in_flight.set(0);
        self.hung_wakers.borrow_mut().clear();
    }

    /// Ends every handle while tasks live on; writes under way land in the content that leaves.
    fn detach_handles(&self) {
        self.disk.borrow_mut().kill();
        self.generation.set(self.generation.get() + 1);
    }

    fn fence(&self, reason: FenceReason) {
        if self.fenced.get().is_none() {
            self.fenced.set(Some(reason));
        }
    }

    fn check(&self, generation: u64) -> Result<(), IoError> {
        if self.fenced.get().is_some() {
            return Err(IoError::Fenced);
        }
        if self.vanished.get() || generation != self.generation.get() {
            return Err(no_device());
        }
        Ok(())
    }

    fn check_aligned(&self, offset_bytes: u64, buf: &AlignedBuf) {
        let seed = self.core.seed;
        assert!(offset_bytes.is_multiple_of(SECTOR), "seed={seed}: I/O at {offset_bytes}, not a sector");
        assert!(!buf.is_empty(), "seed={seed}: I/O of no bytes");
        assert!(buf.len().is_multiple_of(SECTOR_BYTES), "seed={seed}: I/O of {} bytes", buf.len());
    }

    /// Lets the device take its time, then says whether it may answer at all.
    async fn operation(&self, generation: u64) -> Result<(), IoError> {
        self.check(generation)?;
        self.device_time().await;
        self.check(generation)
    }

    /// As [`DriveCell::operation`] of a read.
    async fn read_operation(&self, generation: u64, offset_bytes: u64) -> Result<(), IoError> {
        self.check(generation)?;
        self.device_time().await;
        self.until_resumed(|| self.reads_hang_from.get().is_some_and(|from| offset_bytes >= from)).await;
        self.check(generation)
    }

    async fn meta_operation<T>(
        &self,
        generation: u64,
        change: impl FnOnce(&DriveCell) -> Result<T, IoError>,
    ) -> Result<T, IoError> {
        self.operation(generation).await?;
        if self.roll(|faults| faults.meta_error_per_mille) {
            return Err(io_error());
        }
        let result = change(self);
        // The answer takes its own time, so that a crash can fall between the change and the answer.
        self.device_time().await;
        result
    }

    async fn device_time(&self) {
        let micros = self.latency_micros();
        self.core.sleep(Duration::from_micros(micros)).await;
        self.until_resumed(|| self.hung.get()).await;
    }

    async fn until_resumed(&self, hangs: impl Fn() -> bool) {
        std::future::poll_fn(|cx| {
            if hangs() {
                self.hung_wakers.borrow_mut().push(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    fn latency_micros(&self) -> u64 {
        let stalls = self.roll(|faults| faults.stall_per_mille);
        let mut rng = self.rng.borrow_mut();
        let usual = if rng.u8(..50) == 0 { rng.u64(SLOW_LATENCY_MICROS) } else { rng.u64(LATENCY_MICROS) };
        usual * self.slow_factor.get() * if stalls { STALL_FACTOR } else { 1 }
    }

    fn read(&self, ino: Ino, offset_bytes: u64, buf: &mut AlignedBuf) -> Result<(), IoError> {
        if take_one(&self.reads_to_fail) || self.roll(|faults| faults.read_error_per_mille) {
            return Err(io_error());
        }
        let wanted_bytes = buf.len();
        let got_bytes = self.disk.borrow().read(ino, offset_bytes, buf, &mut self.rng.borrow_mut());
        self.core.note(got_bytes as u64);
        if got_bytes < wanted_bytes { Err(IoError::ShortRead { got_bytes }) } else { Ok(()) }
    }

    /// Decides what became of a durable write.
    fn end_write(&self, generation: u64, id: WriteId) -> Result<(), IoError> {
        if generation != self.generation.get() {
            return Err(no_device());
        }
        let mut disk = self.disk.borrow_mut();
        if self.vanished.get() {
            disk.end_write(id, || false);
            self.fence(FenceReason::FailedWrite);
            return Err(no_device());
        }
        let (new_sectors, fits) = disk.room_for_write(id);
        if !fits || (new_sectors > 0 && self.roll(|faults| faults.no_space_per_mille)) {
            disk.end_write(id, || false);
            return Err(IoError::NoSpace);
        }
        if take_one(&self.writes_to_fail) || self.roll(|faults| faults.write_error_per_mille) {
            let mut rng = self.rng.borrow_mut();
            disk.end_write(id, || rng.bool());
            self.fence(FenceReason::FailedWrite);
            return Err(io_error());
        }
        if take_one(&self.writes_to_lose) || self.roll(|faults| faults.lost_write_per_mille) {
            disk.end_write(id, || false);
            return Ok(());
        }
        if take_one(&self.writes_to_misdirect) || self.roll(|faults| faults.misdirected_write_per_mille) {
            disk.misdirect_write(id, &mut self.rng.borrow_mut());
            return Ok(());
        }
        if self.roll(|faults| faults.bit_flip_per_mille) {
            disk.bit_flip_in_write(id, &mut self.rng.borrow_mut());
        }
        disk.end_write(id, || true);
        Ok(())
    }

    fn roll(&self, knob: impl Fn(&Faults) -> u16) -> bool {
        let per_mille = knob(&self.faults.get());
        per_mille > 0 && self.rng.borrow_mut().u16(..1000) < per_mille
    }

    /// A flush that fails leaves the media unknown: it fences, like a failed write.
    fn check_flush(&self) -> Result<(), IoError> {
        if self.roll(|faults| faults.meta_error_per_mille) {
            self.fence(FenceReason::FailedWrite);
            return Err(io_error());
        }
        Ok(())
    }
}

fn take_one(count: &Cell<u32>) -> bool {
    let left = count.get();
    count.set(left.saturating_sub(1));
    left > 0
}

/// EIO of Linux.
fn io_error() -> IoError {
    IoError::Device(std::io::Error::from_raw_os_error(5))
}

/// ENODEV of Linux.
fn no_device() -> IoError {
    IoError::Device(std::io::Error::from_raw_os_error(19))
}
