//! `RealDrive`: a directory on a file system with O_DIRECT, reached through one core's io_uring.
//! Invariants: the fence is one flag for all cores; after it every operation says [`IoError::Fenced`]; system calls
//! that may block run on the core's pool, at most [`BLOCKING_OPS_MAX`] at a time; a change of names that was begun
//! happens even if its future is dropped; paths never leave the drive.
//! Not here: bytes (`real_file`), locks between processes (`lock`).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_channel::oneshot;
use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use crate::cores::{run_off_core, uptime};
use crate::permits::{Permit, Permits};
use crate::real_file::{FileFd, RealFile};
use crate::{
    AlignedBuf, Drive, DriveSpace, FenceReason, IoError, OpenMode, SECTOR_BYTES, WRITE_DEADLINE,
    WriteOutcome, read_small_file, write_small_file,
};

/// Data operations in flight on one drive from one core. An NVMe queue is saturated at 32 to 64; with 16 drives
/// of 64 and 128 KiB each, a core pins at most 128 MiB. More wait in order, holding buffers of the bounded pool.
pub const INFLIGHT_OPS_MAX: usize = 64;
/// Blocking calls under way on one drive from one core: a hung drive holds at most 4 of a core's threads.
pub const BLOCKING_OPS_MAX: usize = 4;
/// How often writes are compared with their deadline, while there are any.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// New files: read and written by the server's user alone.
const FILE_MODE: Mode = Mode::from_raw_mode(0o600);
const DIR_MODE: Mode = Mode::from_raw_mode(0o700);

/// Why a directory cannot be a drive; its text says what to do.
#[derive(Debug)]
pub enum DriveOpenError {
    /// There is no such directory: mount the drive, or create the directory.
    Missing(PathBuf),
    /// The path is a file or a device.
    NotADirectory(PathBuf),
    /// The file system has no direct I/O at all.
    NoDirectIo(PathBuf),
    /// Direct I/O wants larger units than a sector of 4 KiB.
    CoarseDirectIo {
        /// The drive.
        path: PathBuf,
        /// Bytes that memory and offsets must be multiples of.
        align_bytes: u64,
    },
    /// The kernel refused to open it, or to write and read a file without a name.
    Device(PathBuf, std::io::Error),
}

impl std::fmt::Display for DriveOpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DriveOpenError::Missing(path) => {
                write!(f, "drive {}: no such directory; mount it or create it", path.display())
            }
            DriveOpenError::NotADirectory(path) => {
                write!(f, "drive {}: not a directory; give the mount point, not the device", path.display())
            }
            DriveOpenError::NoDirectIo(path) => write!(
                f,
                "drive {}: its file system has no direct I/O (O_DIRECT); use xfs or ext4 on a local device",
                path.display()
            ),
            DriveOpenError::CoarseDirectIo { path, align_bytes } => write!(
                f,
                "drive {}: direct I/O needs units of {align_bytes} bytes, 4096 is the most; format the device \
                 with sectors of at most 4 KiB",
                path.display()
            ),
            DriveOpenError::Device(path, source) => {
                write!(f, "drive {}: cannot be read and written: {source}", path.display())
            }
        }
    }
}

impl std::error::Error for DriveOpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DriveOpenError::Device(_, source) => Some(source),
            _ => None,
        }
    }
}

/// A drive of the process; every core makes its own [`RealDrive`] from it, all with one fence.
#[derive(Clone)]
pub struct RealDriveFactory {
    shared: Arc<DriveShared>,
}

struct DriveShared {
    /// Gone once the drive was let go of.
    root: ArcSwapOption<OwnedFd>,
    label: String,
    fence: AtomicU8,
}

impl RealDriveFactory {
    /// Opens a directory as a drive; blocks, for start-up. Leaves no trace in the directory.
    ///
    /// # Errors
    /// [`DriveOpenError`], whose text tells the operator what to do.
    pub fn open(path: &Path) -> Result<RealDriveFactory, DriveOpenError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT => DriveOpenError::Missing(path.into()),
            Errno::NOTDIR => DriveOpenError::NotADirectory(path.into()),
            errno => DriveOpenError::Device(path.into(), errno.into()),
        })?;
        try_direct_io(&root, path)?;
        let label = path.display().to_string();
        let root = ArcSwapOption::from_pointee(root);
        Ok(RealDriveFactory { shared: Arc::new(DriveShared { root, label, fence: AtomicU8::new(0) }) })
    }

    /// As [`RealDriveFactory::open`], on a thread of the core's pool: a mount that hangs holds up no core.
    ///
    /// # Errors
    /// [`DriveOpenError`], whose text tells the operator what to do.
    pub async fn open_off_core(path: PathBuf) -> Result<RealDriveFactory, DriveOpenError> {
        run_off_core(move || RealDriveFactory::open(&path)).await
    }

    /// Which directory this is; it can be told from others without keeping it open.
    pub fn place(&self) -> DrivePlace {
        let root = self.shared.root.load_full();
        let stat = root.and_then(|root| rustix::fs::fstat(&*root).ok());
        DrivePlace(stat.map(|stat| (stat.st_dev, stat.st_ino)))
    }

    /// The drive for the core that calls; once per core, since each one brings its own limits.
    pub fn on_core(&self) -> RealDrive {
        RealDrive {
            core: Rc::new(CoreDrive {
                shared: Arc::clone(&self.shared),
                data_permits: Permits::new(INFLIGHT_OPS_MAX),
                blocking_permits: Permits::new(BLOCKING_OPS_MAX),
                writes: RefCell::new(BTreeMap::new()),
                next_write: Cell::new(0),
                watched: Cell::new(false),
            }),
        }
    }

    /// The path as it was given.
    pub fn label(&self) -> &str {
        &self.shared.label
    }

    /// Refuses all further I/O, on every core.
    pub fn fence(&self, reason: FenceReason) {
        self.shared.fence(reason);
    }

    /// The reason if the drive is fenced.
    pub fn fenced(&self) -> Option<FenceReason> {
        self.shared.fenced()
    }

    /// Fences the drive, on every core, and closes its directory, so that its file system can be unmounted once the
    /// files that are open on it are closed too.
    pub fn let_go(&self) {
        self.shared.fence(FenceReason::Asked);
        self.shared.root.store(None);
    }
}

/// Which directory a drive is, by device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrivePlace(Option<(u64, u64)>);

impl DrivePlace {
    /// Whether `path` leads to this directory now: nothing was unmounted, mounted over or renamed. Off the core.
    pub async fn is_at(self, path: PathBuf) -> bool {
        let found = run_off_core(move || rustix::fs::stat(&path)).await;
        found.is_ok_and(|there| self.0 == Some((there.st_dev, there.st_ino)))
    }
}

/// Writes and reads one sector of a file without a name.
fn try_direct_io(root: &OwnedFd, path: &Path) -> Result<(), DriveOpenError> {
    let device = |errno: Errno| DriveOpenError::Device(path.into(), errno.into());
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::DIRECT | OFlags::DSYNC | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(root, ".", flags, FILE_MODE) {
        Err(Errno::INVAL) => return Err(DriveOpenError::NoDirectIo(path.into())),
        // What a full drive holds can still be read, and deleted.
        Err(Errno::NOSPC | Errno::DQUOT) => return Ok(()),
        opened => opened.map_err(device)?,
    };
    check_alignment(&file, path)?;
    let mut buf = AlignedBuf::zeroed(SECTOR_BYTES);
    buf.fill(0xa5);
    match rustix::io::pwrite(&file, &buf, 0) {
        Err(Errno::INVAL) => return Err(DriveOpenError::NoDirectIo(path.into())),
        Err(Errno::NOSPC | Errno::DQUOT) => return Ok(()),
        written => written.map_err(device)?,
    };
    let mut back = AlignedBuf::zeroed(SECTOR_BYTES);
    rustix::io::pread(&file, &mut back[..], 0).map_err(device)?;
    if back[..] != buf[..] {
        let source = std::io::Error::other("what was read is not what was written");
        return Err(DriveOpenError::Device(path.into(), source));
    }
    Ok(())
}

fn check_alignment(file: &OwnedFd, path: &Path) -> Result<(), DriveOpenError> {
    let mask = rustix::fs::StatxFlags::DIOALIGN;
    // Kernels before 6.1 do not say; the test write then decides.
    let Ok(stat) = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, mask) else { return Ok(()) };
    if stat.stx_mask & mask.bits() == 0 {
        return Ok(());
    }
    let align_bytes = u64::from(stat.stx_dio_mem_align.max(stat.stx_dio_offset_align));
    match align_bytes {
        0 => Err(DriveOpenError::NoDirectIo(path.into())),
        1..=4096 => Ok(()),
        _ => Err(DriveOpenError::CoarseDirectIo { path: path.into(), align_bytes }),
    }
}

impl DriveShared {
    fn fence(&self, reason: FenceReason) {
        let code = match reason {
            FenceReason::FailedWrite => 1,
            FenceReason::Hung => 2,
            FenceReason::Asked => 3,
        };
        // The first reason stays.
        let fenced = self.fence.compare_exchange(0, code, Ordering::Release, Ordering::Relaxed);
        debug_assert!(fenced.is_ok() || self.fenced().is_some());
    }

    fn fenced(&self) -> Option<FenceReason> {
        match self.fence.load(Ordering::Acquire) {
            0 => None,
            1 => Some(FenceReason::FailedWrite),
            2 => Some(FenceReason::Hung),
            _ => Some(FenceReason::Asked),
        }
    }
}

/// A drive as one core sees it. Clones share it; it stays on its core.
#[derive(Clone)]
pub struct RealDrive {
    core: Rc<CoreDrive>,
}

pub(crate) struct CoreDrive {
    shared: Arc<DriveShared>,
    data_permits: Permits,
    blocking_permits: Permits,
    /// Durable writes that were not answered yet, the oldest first.
    writes: RefCell<BTreeMap<u64, UnansweredWrite>>,
    next_write: Cell<u64>,
    watched: Cell<bool>,
}

struct UnansweredWrite {
    begun: Duration,
    /// False while it waits for a permit.
    submitted: bool,
    answer: oneshot::Sender<WriteOutcome>,
}

impl CoreDrive {
    pub(crate) fn check(&self) -> Result<(), IoError> {
        if self.shared.fenced().is_some() { Err(IoError::Fenced) } else { Ok(()) }
    }

    pub(crate) fn fence(&self, reason: FenceReason) {
        self.shared.fence(reason);
    }

    pub(crate) fn label(&self) -> &str {
        &self.shared.label
    }

    /// Registers a write whose outcome goes to `answer`, at the latest when its deadline passes.
    pub(crate) fn begin_write(self: &Rc<Self>, answer: oneshot::Sender<WriteOutcome>) -> u64 {
        let id = self.next_write.get();
        self.next_write.set(id + 1);
        let write = UnansweredWrite { begun: uptime(), submitted: false, answer };
        self.writes.borrow_mut().insert(id, write);
        self.watch();
        id
    }

    /// Waits for a turn at the device; after it, look at the fence again.
    pub(crate) async fn data_permit(self: &Rc<Self>) -> Permit {
        self.watch();
        self.data_permits.acquire().await
    }

    fn watch(self: &Rc<Self>) {
        if !self.watched.replace(true) {
            compio::runtime::spawn(watch(Rc::clone(self))).detach();
        }
    }

    pub(crate) fn submit_write(&self, id: u64) {
        if let Some(write) = self.writes.borrow_mut().get_mut(&id) {
            write.submitted = true;
        }
    }

    /// Answers the write unless its deadline passed; the buffers then go back to their pool here.
    pub(crate) fn end_write(&self, id: u64, outcome: WriteOutcome) {
        let write = self.writes.borrow_mut().remove(&id);
        if let Some(write) = write {
            // The caller may have gone: the write stands all the same.
            drop(write.answer.send(outcome));
        }
    }

    /// Answers the writes that are past their deadline, and after a fence everything that never began.
    fn answer_overdue(&self, now: Duration) {
        let oldest = self.writes.borrow().first_key_value().map(|(_, write)| write.begun);
        if oldest.is_some_and(|begun| now.saturating_sub(begun) > WRITE_DEADLINE) {
            self.fence(FenceReason::Hung);
        }
        if self.check().is_ok() {
            return;
        }
        let overdue = |write: &mut UnansweredWrite| {
            !write.submitted || now.saturating_sub(write.begun) > WRITE_DEADLINE
        };
        let answered: Vec<(u64, UnansweredWrite)> =
            self.writes.borrow_mut().extract_if(.., |_, write| overdue(write)).collect();
        for (_, write) in answered {
            drop(write.answer.send(WriteOutcome { result: Err(IoError::Fenced), bufs: Vec::new() }));
        }
        self.data_permits.let_all_through();
        self.blocking_permits.let_all_through();
    }

    fn is_idle(&self) -> bool {
        let waiting = self.data_permits.has_waiters() || self.blocking_permits.has_waiters();
        !waiting && self.writes.borrow().is_empty()
    }

    /// Runs a blocking call to its end, even if the caller goes away.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Rc<Self>,
        call: impl FnOnce(&OwnedFd) -> Result<T, Errno> + Send + 'static,
    ) -> Result<T, IoError> {
        self.check()?;
        self.watch();
        let core = Rc::clone(self);
        let (sender, receiver) = oneshot::channel();
        compio::runtime::spawn(async move {
            let permit = core.blocking_permits.acquire().await;
            let result = match core.check() {
                Ok(()) => {
                    let shared = Arc::clone(&core.shared);
                    let on_root = move || match shared.root.load_full() {
                        Some(root) => call(&root),
                        // Fenced meanwhile, which is what the caller is told.
                        None => Err(Errno::NODEV),
                    };
                    run_off_core(on_root).await.map_err(io_error)
                }
                Err(error) => Err(error),
            };
            drop(permit);
            // The caller may have gone; what was done stands.
            drop(sender.send(result));
        })
        .detach();
        let result = receiver.await.unwrap_or(Err(IoError::Fenced));
        self.check()?;
        result
    }

    /// As [`CoreDrive::blocking`] for a call that ends with a flush: a failed flush fences the drive.
    pub(crate) async fn flush(
        self: &Rc<Self>,
        call: impl FnOnce(&OwnedFd) -> Result<Flushed, Errno> + Send + 'static,
    ) -> Result<(), IoError> {
        match self.blocking(call).await? {
            Flushed(Ok(())) => Ok(()),
            Flushed(Err(errno)) => {
                self.fence(FenceReason::FailedWrite);
                Err(IoError::Device(errno.into()))
            }
        }
    }
}

/// What the flush itself said, apart from what came before it.
pub(crate) struct Flushed(pub(crate) Result<(), Errno>);

async fn watch(core: Rc<CoreDrive>) {
    loop {
        compio::runtime::time::sleep(WATCH_INTERVAL).await;
        core.answer_overdue(uptime());
        if core.is_idle() {
            break;
        }
    }
    core.watched.set(false);
}

pub(crate) fn io_error(errno: Errno) -> IoError {
    match errno {
        Errno::NOENT | Errno::NOTDIR => IoError::NotFound,
        Errno::EXIST => IoError::AlreadyExists,
        Errno::NOSPC | Errno::DQUOT => IoError::NoSpace,
        errno => IoError::Device(errno.into()),
    }
}

/// The path without empty components; `.` for the drive itself. A path out of the drive is a bug.
fn normal_path(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    assert!(!parts.contains(&".."), "a path leaves its drive: {path:?}");
    if parts.is_empty() { ".".into() } else { parts.join("/") }
}

fn open_dir(root: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(root, path, flags, Mode::empty())
}

/// Makes the directory and its parents, and makes their names durable even if they existed already: an earlier
/// process may have died before it could.
fn make_dirs(root: &OwnedFd, path: &str) -> Result<Flushed, Errno> {
    let mut parent = open_dir(root, ".")?;
    for name in path.split('/').filter(|name| *name != ".") {
        match rustix::fs::mkdirat(&parent, name, DIR_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        if let Err(errno) = rustix::fs::fsync(&parent) {
            return Ok(Flushed(Err(errno)));
        }
        parent = open_dir(&parent, name).map_err(|errno| match errno {
            Errno::NOTDIR => Errno::EXIST,
            errno => errno,
        })?;
    }
    Ok(Flushed(Ok(())))
}

fn list_dir(root: &OwnedFd, path: &str) -> Result<Vec<String>, Errno> {
    let dir = Dir::new(open_dir(root, path)?)?;
    let mut names = Vec::new();
    for entry in dir {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

impl Drive for RealDrive {
    type File = RealFile;

    fn label(&self) -> &str {
        self.core.label()
    }

    async fn open(&self, path: &str, mode: OpenMode) -> Result<RealFile, IoError> {
        let path = normal_path(path);
        let flags = OFlags::DIRECT
            | OFlags::CLOEXEC
            | match mode {
                OpenMode::Read => OFlags::RDONLY,
                OpenMode::ReadWrite => OFlags::RDWR | OFlags::DSYNC,
                OpenMode::CreateNew => OFlags::RDWR | OFlags::DSYNC | OFlags::CREATE | OFlags::EXCL,
            };
        let open = move |root: &OwnedFd| rustix::fs::openat(root, path, flags, FILE_MODE);
        let fd = self.core.blocking(move |root| open(root).map(FileFd::new)).await?;
        Ok(RealFile::new(Rc::clone(&self.core), fd, mode != OpenMode::Read))
    }

    async fn remove(&self, path: &str) -> Result<(), IoError> {
        let path = normal_path(path);
        self.core.blocking(move |root| rustix::fs::unlinkat(root, path, AtFlags::empty())).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), IoError> {
        let (from, to) = (normal_path(from), normal_path(to));
        self.core.blocking(move |root| rustix::fs::renameat(root, from, root, to)).await
    }

    async fn create_dir(&self, path: &str) -> Result<(), IoError> {
        let path = normal_path(path);
        self.core.flush(move |root| make_dirs(root, &path)).await
    }

    async fn list(&self, path: &str) -> Result<Vec<String>, IoError> {
        let path = normal_path(path);
        self.core.blocking(move |root| list_dir(root, &path)).await
    }

    async fn sync_dir(&self, path: &str) -> Result<(), IoError> {
        let path = normal_path(path);
        self.core.flush(move |root| Ok(Flushed(rustix::fs::fsync(open_dir(root, &path)?)))).await
    }

    async fn space(&self) -> Result<DriveSpace, IoError> {
        let stat = self.core.blocking(|root| rustix::fs::fstatvfs(root)).await?;
        Ok(DriveSpace {
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }

    fn fence(&self, reason: FenceReason) {
        self.core.fence(reason);
    }

    fn fenced(&self) -> Option<FenceReason> {
        self.core.shared.fenced()
    }

    async fn read_small(&self, path: &str, len_max_bytes: usize) -> Result<Vec<u8>, IoError> {
        read_small_file(self, path, len_max_bytes).await
    }

    async fn write_small(&self, path: &str, bytes: Vec<u8>) -> Result<(), IoError> {
        write_small_file(self, path, bytes).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CoreConfig, PendingWrite, spawn_core};

    fn with_drive<F: Future<Output = ()>>(test: impl FnOnce(RealDrive) -> F + Send + 'static) {
        let factory = RealDriveFactory::open(&std::env::current_dir().expect("the crate's folder"));
        let factory = factory.expect("the checkout's file system has O_DIRECT");
        let core = spawn_core(CoreConfig::new(None, "test"), move |_| test(factory.on_core()));
        core.expect("a core").join();
    }

    #[test]
    fn a_write_past_its_deadline_fences_the_drive_and_its_caller_is_told() {
        with_drive(|drive| async move {
            let (sender, receiver) = oneshot::channel();
            let id = drive.core.begin_write(sender);
            drive.core.submit_write(id);
            drive.core.answer_overdue(uptime());
            assert_eq!(drive.fenced(), None, "in time");
            drive.core.answer_overdue(uptime() + WRITE_DEADLINE + WATCH_INTERVAL);
            assert_eq!(drive.fenced(), Some(FenceReason::Hung));
            let outcome = PendingWrite::new(receiver).await;
            assert!(matches!(outcome.result, Err(IoError::Fenced)));
            assert!(outcome.bufs.is_empty(), "the buffers are still the kernel's");
            // The kernel answers after all: nobody listens any more.
            drive.core.end_write(id, WriteOutcome { result: Ok(()), bufs: Vec::new() });
        });
    }

    #[test]
    fn writes_that_wait_behind_a_fence_are_told_before_their_deadline() {
        with_drive(|drive| async move {
            let (sender, begun) = oneshot::channel();
            let id = drive.core.begin_write(sender);
            drive.core.submit_write(id);
            let (sender, waiting) = oneshot::channel();
            drive.core.begin_write(sender);
            drive.fence(FenceReason::Asked);
            drive.core.answer_overdue(uptime());
            assert!(matches!(PendingWrite::new(waiting).await.result, Err(IoError::Fenced)));
            // One that the kernel has may still succeed, and is waited for.
            drive.core.end_write(id, WriteOutcome { result: Ok(()), bufs: Vec::new() });
            assert!(PendingWrite::new(begun).await.result.is_ok());
            assert_eq!(drive.fenced(), Some(FenceReason::Asked));
        });
    }

    #[test]
    fn whoever_waits_for_a_turn_is_told_of_the_fence() {
        with_drive(|drive| async move {
            let mut held = Vec::new();
            for _ in 0..INFLIGHT_OPS_MAX {
                held.push(drive.core.data_permit().await);
            }
            for _ in 0..BLOCKING_OPS_MAX {
                held.push(drive.core.blocking_permits.acquire().await);
            }
            let fencing = async {
                compio::runtime::time::sleep(Duration::from_millis(1)).await;
                drive.fence(FenceReason::Asked);
            };
            let waiting = drive.core.data_permit();
            let (_, listed, ()) = futures_util::future::join3(waiting, drive.list(""), fencing).await;
            assert!(matches!(listed, Err(IoError::Fenced)));
            drop(held);
        });
    }

    #[test]
    fn paths_are_normal_and_stay_inside() {
        assert_eq!(normal_path("/a//b/./c/"), "a/b/c");
        assert_eq!(normal_path(""), ".");
        assert_eq!(normal_path("/"), ".");
    }
}
