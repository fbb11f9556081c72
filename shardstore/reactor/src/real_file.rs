//! `RealFile`: direct reads and durable writes of one file through the core's io_uring.
//! Invariants: what the kernel reads from or writes to is owned by the operation, permit included, until its
//! completion, whoever is dropped meanwhile; a durable write is a detached task from the moment it is called; a
//! failed one fences the drive, but for want of space.
//! Not here: names and directories (`real_drive`).

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use compio::buf::{BufResult, IntoInner, IoBuf, IoBufMut, IoVectoredBuf, SetLen};
use compio::driver::op::{ReadAt, WriteVectoredAt};
use futures_channel::oneshot;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::cores::{StorageOp, close_off_core};
use crate::permits::Permit;
use crate::real_drive::{CoreDrive, Flushed, io_error};
use crate::{AlignedBuf, DriveFile, FenceReason, IoError, PendingWrite, SECTOR_BYTES, WriteOutcome};

const SECTOR: u64 = SECTOR_BYTES as u64;
/// Parts of one vectored system call: IOV_MAX of Linux.
const IOV_MAX: usize = 1024;
/// Times a call that the kernel did not begin (EINTR, EAGAIN) is made again before it counts as failed.
const RESTARTS_MAX: u32 = 16;

/// An open file of a drive on one core. Clones share the handle.
#[derive(Clone)]
pub struct RealFile {
    drive: Rc<CoreDrive>,
    fd: Arc<FileFd>,
    writable: bool,
}

/// Closes off the core: closing the last handle of a removed file frees its room, which takes time.
pub(crate) struct FileFd(Option<OwnedFd>);

impl FileFd {
    pub(crate) fn new(fd: OwnedFd) -> FileFd {
        FileFd(Some(fd))
    }
}

impl AsFd for FileFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_ref().expect("taken only in drop").as_fd()
    }
}

impl Drop for FileFd {
    fn drop(&mut self) {
        if let Some(fd) = self.0.take() {
            close_off_core(fd);
        }
    }
}

impl RealFile {
    pub(crate) fn new(drive: Rc<CoreDrive>, fd: FileFd, writable: bool) -> RealFile {
        RealFile { drive, fd: Arc::new(fd), writable }
    }

    async fn change(
        &self,
        call: impl FnOnce(BorrowedFd<'_>) -> Result<(), Errno> + Send + 'static,
    ) -> Result<(), IoError> {
        let fd = Arc::clone(&self.fd);
        self.drive.blocking(move |_| call(fd.as_fd())).await
    }

    fn check_io(&self, offset_bytes: u64, buf: &AlignedBuf) {
        let label = self.drive.label();
        assert!(offset_bytes.is_multiple_of(SECTOR), "{label}: I/O at {offset_bytes}, not a sector");
        assert!(!buf.is_empty(), "{label}: I/O of no bytes");
        assert!(buf.len().is_multiple_of(SECTOR_BYTES), "{label}: I/O of {} bytes", buf.len());
    }

    fn check_writable(&self) {
        assert!(self.writable, "{}: a write through a handle opened for Read", self.drive.label());
    }
}

impl DriveFile for RealFile {
    async fn read_at(&self, offset_bytes: u64, buf: AlignedBuf) -> (Result<(), IoError>, AlignedBuf) {
        self.check_io(offset_bytes, &buf);
        if let Err(error) = self.drive.check() {
            return (Err(error), buf);
        }
        let permit = self.drive.data_permit().await;
        if let Err(error) = self.drive.check() {
            return (Err(error), buf);
        }
        let (result, target) =
            read_whole(&self.fd, offset_bytes, ReadTarget { buf, filled: 0, permit }).await;
        (result, target.buf)
    }

    fn write_durable(&self, offset_bytes: u64, bufs: Vec<AlignedBuf>) -> PendingWrite {
        self.check_writable();
        assert!(!bufs.is_empty(), "{}: an empty write", self.drive.label());
        for buf in &bufs {
            self.check_io(offset_bytes, buf);
        }
        let (sender, receiver) = oneshot::channel();
        if let Err(error) = self.drive.check() {
            drop(sender.send(WriteOutcome { result: Err(error), bufs }));
            return PendingWrite::new(receiver);
        }
        let id = self.drive.begin_write(sender);
        let task = write_task(self.clone(), id, offset_bytes, bufs, StorageOp::begin());
        compio::runtime::spawn(task).detach();
        PendingWrite::new(receiver)
    }

    async fn allocate(&self, offset_bytes: u64, len_bytes: u64) -> Result<(), IoError> {
        self.check_writable();
        self.change(move |fd| {
            check_room(fd, offset_bytes.saturating_add(len_bytes))?;
            rustix::io::retry_on_intr(|| {
                rustix::fs::fallocate(fd, FallocateFlags::empty(), offset_bytes, len_bytes)
            })
        })
        .await
    }

    async fn punch(&self, offset_bytes: u64, len_bytes: u64) -> Result<(), IoError> {
        self.check_writable();
        assert!(offset_bytes.is_multiple_of(SECTOR), "punch at {offset_bytes}, not a sector");
        assert!(len_bytes.is_multiple_of(SECTOR), "punch of {len_bytes} bytes");
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        self.change(move |fd| {
            rustix::io::retry_on_intr(|| rustix::fs::fallocate(fd, flags, offset_bytes, len_bytes))
        })
        .await
    }

    async fn sync(&self) -> Result<(), IoError> {
        let fd = Arc::clone(&self.fd);
        self.drive.flush(move |_| Ok(Flushed(rustix::fs::fsync(fd.as_fd())))).await
    }

    async fn set_len(&self, len_bytes: u64) -> Result<(), IoError> {
        self.check_writable();
        self.change(move |fd| rustix::io::retry_on_intr(|| rustix::fs::ftruncate(fd, len_bytes))).await
    }

    fn len_bytes(&self) -> impl Future<Output = Result<u64, IoError>> {
        // The inode of an open file is in memory: this call does not wait for the device.
        let len_bytes = self.drive.check().and_then(|()| {
            let stat = rustix::fs::fstat(self.fd.as_fd()).map_err(io_error)?;
            Ok(u64::try_from(stat.st_size).unwrap_or(0))
        });
        std::future::ready(len_bytes)
    }
}

/// Refuses to grow a file past the room there is: ext4 would take all of it first and then fail.
fn check_room(fd: BorrowedFd<'_>, end_bytes: u64) -> Result<(), Errno> {
    let len_bytes = u64::try_from(rustix::fs::fstat(fd)?.st_size).unwrap_or(0);
    let room = rustix::fs::fstatvfs(fd)?;
    let growth_bytes = end_bytes.saturating_sub(len_bytes);
    if growth_bytes > room.f_bavail.saturating_mul(room.f_frsize) {
        return Err(Errno::NOSPC);
    }
    Ok(())
}

/// What a read fills; owned by the kernel's operation while it runs, even if the reader is gone.
struct ReadTarget {
    buf: AlignedBuf,
    filled: usize,
    #[expect(dead_code, reason = "held so that the operation counts until its completion")]
    permit: Permit,
}

impl IoBuf for ReadTarget {
    fn as_init(&self) -> &[u8] {
        &self.buf[self.filled..]
    }
}

impl SetLen for ReadTarget {
    unsafe fn set_len(&mut self, _len: usize) {
        // All bytes are initialised from the start and the length is the caller's.
    }
}

impl IoBufMut for ReadTarget {
    fn as_uninit(&mut self) -> &mut [MaybeUninit<u8>] {
        let spare: &mut [u8] = &mut self.buf[self.filled..];
        let len_bytes = spare.len();
        // SAFETY: same memory, same length, same lifetime; MaybeUninit<u8> has the layout of u8; the kernel, the only
        // writer through this slice, stores initialised bytes only.
        unsafe { std::slice::from_raw_parts_mut(spare.as_mut_ptr().cast::<MaybeUninit<u8>>(), len_bytes) }
    }
}

async fn read_whole(
    fd: &Arc<FileFd>,
    offset_bytes: u64,
    mut target: ReadTarget,
) -> (Result<(), IoError>, ReadTarget) {
    let mut restarts = 0;
    loop {
        let op = ReadAt::new(Arc::clone(fd), offset_bytes + target.filled as u64, target);
        let BufResult(result, op) = compio::runtime::submit(op).await;
        target = op.into_inner();
        match result {
            Ok(got_bytes) => {
                target.filled += got_bytes;
                if target.filled == target.buf.len() {
                    return (Ok(()), target);
                }
                // Direct I/O stops inside a sector only at the end of the file.
                if got_bytes == 0 || !target.filled.is_multiple_of(SECTOR_BYTES) {
                    return (Err(IoError::ShortRead { got_bytes: target.filled }), target);
                }
            }
            Err(error) if not_begun(&error) && restarts < RESTARTS_MAX => restarts += 1,
            Err(error) => return (Err(IoError::Device(error)), target),
        }
    }
}

/// One durable write from its call to its completion; nothing can cancel it.
async fn write_task(file: RealFile, id: u64, offset_bytes: u64, bufs: Vec<AlignedBuf>, op: StorageOp) {
    let drive = Rc::clone(&file.drive);
    let permit = drive.data_permit().await;
    let outcome = match drive.check() {
        Ok(()) => {
            drive.submit_write(id);
            let source = WriteSource { bufs, first: 0, written: 0, permit };
            let (result, source) = write_whole(&file.fd, offset_bytes, source).await;
            if matches!(result, Err(IoError::Device(_))) {
                drive.fence(FenceReason::FailedWrite);
            }
            WriteOutcome { result, bufs: source.bufs }
        }
        Err(error) => WriteOutcome { result: Err(error), bufs },
    };
    drop(op);
    drive.end_write(id, outcome);
}

/// What a write takes its bytes from; owned by the kernel's operation while it runs.
struct WriteSource {
    bufs: Vec<AlignedBuf>,
    /// The first buffer that is not wholly written.
    first: usize,
    /// Bytes of it that are.
    written: usize,
    #[expect(dead_code, reason = "held so that the operation counts until its completion")]
    permit: Permit,
}

impl IoVectoredBuf for WriteSource {
    fn iter_slice(&self) -> impl Iterator<Item = &[u8]> {
        let skip = |index: usize| if index == 0 { self.written } else { 0 };
        let rest = self.bufs[self.first..].iter().take(IOV_MAX).enumerate();
        rest.map(move |(index, buf)| &buf[skip(index)..])
    }
}

impl WriteSource {
    fn is_done(&self) -> bool {
        self.first == self.bufs.len()
    }

    fn advance(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let left_bytes = self.bufs[self.first].len() - self.written;
            if bytes < left_bytes {
                self.written += bytes;
                return;
            }
            bytes -= left_bytes;
            self.first += 1;
            self.written = 0;
        }
    }
}

async fn write_whole(
    fd: &Arc<FileFd>,
    mut offset_bytes: u64,
    mut source: WriteSource,
) -> (Result<(), IoError>, WriteSource) {
    let mut restarts = 0;
    while !source.is_done() {
        let op = WriteVectoredAt::new(Arc::clone(fd), offset_bytes, source);
        let BufResult(result, op) = compio::runtime::submit(op).await;
        source = op.into_inner();
        match result {
            // A part of a sector is written again whole, so that the next call is aligned.
            Ok(bytes) if bytes >= SECTOR_BYTES => {
                let whole_bytes = bytes - bytes % SECTOR_BYTES;
                source.advance(whole_bytes);
                offset_bytes += whole_bytes as u64;
            }
            Ok(_) => return (Err(IoError::Device(std::io::ErrorKind::WriteZero.into())), source),
            Err(error) if not_begun(&error) && restarts < RESTARTS_MAX => restarts += 1,
            Err(error) => {
                let errno = Errno::from_io_error(&error);
                let no_space = matches!(errno, Some(Errno::NOSPC | Errno::DQUOT));
                let error = if no_space { IoError::NoSpace } else { IoError::Device(error) };
                return (Err(error), source);
            }
        }
    }
    (Ok(()), source)
}

/// The kernel gave up before it touched anything.
fn not_begun(error: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INTR | Errno::AGAIN))
}
