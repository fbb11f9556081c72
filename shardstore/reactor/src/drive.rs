//! The `Drive` and `DriveFile` traits: a directory of files reached by direct I/O.
//! Invariants: a write begins when it is called, not when it is polled, and runs to its completion whether
//! or not anybody waits for it (DESIGN rule 4); a failed durable write fences the drive for good; offsets and
//! lengths of data I/O are whole sectors.
//! Changes of names, room and length happen even if their future is dropped once it was polled; of those not yet
//! followed by a sync, a crash keeps any part. A drive is the empty path.
//! Not here: what the files mean. Paths are relative to the drive, with `/` between components.

use std::future::Future;
use std::time::Duration;

use crate::{AlignedBuf, IoError};

/// A durable write under way for longer than this fences its drive as [`FenceReason::Hung`]: 30 s is the time
/// after which the kernel's own NVMe driver resets a controller. Its caller is told; its buffers stay with it.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(30);

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Existing file, reads only.
    Read,
    /// Existing file, reads and durable writes.
    ReadWrite,
    /// New file, reads and durable writes; [`IoError::AlreadyExists`] if there is one.
    CreateNew,
}

/// Room on the drive's file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriveSpace {
    /// Size of the file system in bytes.
    pub total_bytes: u64,
    /// Bytes that an unprivileged writer can still take.
    pub free_bytes: u64,
}

/// Why a drive was fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FenceReason {
    /// A durable write or flush failed: what the device holds is unknown.
    FailedWrite,
    /// A write passed its deadline.
    Hung,
    /// Its owner said so.
    Asked,
}

/// The result of a durable write, with the buffers it owned meanwhile.
#[derive(Debug)]
pub struct WriteOutcome {
    /// Ok: every byte is on stable media.
    pub result: Result<(), IoError>,
    /// The buffers, in the order they were given; empty if the drive's task ended without returning them.
    pub bufs: Vec<AlignedBuf>,
}

/// A write under way. Dropping it forgets the outcome; it does not cancel the write.
pub struct PendingWrite(futures_channel::oneshot::Receiver<WriteOutcome>);

impl PendingWrite {
    /// Wraps the receiving end on which the drive's detached task reports.
    pub fn new(receiver: futures_channel::oneshot::Receiver<WriteOutcome>) -> PendingWrite {
        PendingWrite(receiver)
    }
}

impl Future for PendingWrite {
    type Output = WriteOutcome;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<WriteOutcome> {
        std::pin::Pin::new(&mut self.0)
            .poll(cx)
            .map(|sent| sent.unwrap_or(WriteOutcome { result: Err(IoError::Fenced), bufs: Vec::new() }))
    }
}

/// One drive as one core sees it. Clones share the drive; every core opens its own.
pub trait Drive: Clone + 'static {
    /// An open file.
    type File: DriveFile;

    /// The mount point or name that an operator knows the drive by.
    fn label(&self) -> &str;
    /// Opens a file. A new file's name is durable only after [`Drive::sync_dir`] of its directory.
    fn open(&self, path: &str, mode: OpenMode) -> impl Future<Output = Result<Self::File, IoError>>;
    /// Removes a file; open handles keep working. [`IoError::NotFound`] if there is none.
    fn remove(&self, path: &str) -> impl Future<Output = Result<(), IoError>>;
    /// Renames a file over `to`, atomically.
    fn rename(&self, from: &str, to: &str) -> impl Future<Output = Result<(), IoError>>;
    /// Makes a directory and its parents, durably; fine if they exist.
    fn create_dir(&self, path: &str) -> impl Future<Output = Result<(), IoError>>;
    /// Names in a directory, in no order; a missing directory is [`IoError::NotFound`].
    fn list(&self, path: &str) -> impl Future<Output = Result<Vec<String>, IoError>>;
    /// Makes creations, renames and removals in a directory durable.
    fn sync_dir(&self, path: &str) -> impl Future<Output = Result<(), IoError>>;
    /// Room on the file system.
    fn space(&self) -> impl Future<Output = Result<DriveSpace, IoError>>;
    /// Refuses all further I/O on this drive, on every core; the first reason stays.
    fn fence(&self, reason: FenceReason);
    /// The reason if the drive is fenced.
    fn fenced(&self) -> Option<FenceReason>;

    /// Reads a whole small file (identity, term): at most `len_max_bytes`, else [`IoError::ShortRead`].
    fn read_small(&self, path: &str, len_max_bytes: usize) -> impl Future<Output = Result<Vec<u8>, IoError>>;
    /// Replaces a small file durably: new file, flush, rename, flush of the directory.
    fn write_small(&self, path: &str, bytes: Vec<u8>) -> impl Future<Output = Result<(), IoError>>;
}

/// An open file on a drive. Clones share the handle.
pub trait DriveFile: Clone + 'static {
    /// Fills `buf` (its whole length, whole sectors) from `offset_bytes`; the buffer always comes back. After
    /// [`IoError::ShortRead`] its first `got_bytes` are the file's. Safe to drop: the buffer goes back to its pool
    /// when the device lets go of it.
    fn read_at(
        &self,
        offset_bytes: u64,
        buf: AlignedBuf,
    ) -> impl Future<Output = (Result<(), IoError>, AlignedBuf)>;
    /// Writes `bufs` one after the other from `offset_bytes`, durably. Begins now; never cancelled.
    fn write_durable(&self, offset_bytes: u64, bufs: Vec<AlignedBuf>) -> PendingWrite;
    /// Reserves room so that later writes there cannot fail for space; grows the file; zeros until written.
    fn allocate(&self, offset_bytes: u64, len_bytes: u64) -> impl Future<Output = Result<(), IoError>>;
    /// Gives room back to the file system; the range reads as zeros.
    fn punch(&self, offset_bytes: u64, len_bytes: u64) -> impl Future<Output = Result<(), IoError>>;
    /// Flushes the file's data and metadata.
    fn sync(&self) -> impl Future<Output = Result<(), IoError>>;
    /// Cuts or extends the file to `len_bytes`.
    fn set_len(&self, len_bytes: u64) -> impl Future<Output = Result<(), IoError>>;
    /// Length of the file in bytes.
    fn len_bytes(&self) -> impl Future<Output = Result<u64, IoError>>;
}
