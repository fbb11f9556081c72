//! Cores: named, pinned threads that each own an io_uring runtime.
//! Invariants: a core's tasks never leave it; storage writes under way when a core's main future ends are waited
//! for (at most [`crate::WRITE_DEADLINE`]), never cancelled; a panic on a core ends the process.
//! Not here: which cores there are and what they do (`server`).

use std::cell::Cell;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use compio::runtime::{Runtime, RuntimeBuilder};
use rustix::thread::CpuSet;

use crate::ring::{self, RingError};
use crate::{Clock, Executor, MonotonicTime, WRITE_DEADLINE};

/// Entries of a core's submission queue: a loop of the core submits what its tasks queued in one system call,
/// and 1,024 is more than 64 connections and 16 drives queue in one loop; a full queue is flushed, not an error.
pub const RING_ENTRIES: u32 = 1024;
/// Blocking file system calls (open, rename, ...) of one core run on at most this many threads: 16 drives times
/// the 4 of [`crate::BLOCKING_OPS_MAX`], so that a thread is always free and handing over never spins.
const BLOCKING_THREADS_MAX: usize = 128;
/// Wake-ups from other threads that a core holds before the waker has to wait: one per task at most.
const REMOTE_WAKES: usize = 1024;
/// How often a closing core looks whether its storage writes have ended.
const DRAIN_INTERVAL: Duration = Duration::from_millis(1);

/// How to start a core.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// The CPU to pin the thread to; `None` leaves it to the scheduler.
    pub cpu: Option<usize>,
    /// Name of the thread, as `top -H` shows it (15 bytes).
    pub name: String,
    /// Entries of the submission queue; a power of two.
    pub ring_entries: u32,
}

impl CoreConfig {
    /// A core of that name with [`RING_ENTRIES`].
    pub fn new(cpu: Option<usize>, name: &str) -> CoreConfig {
        CoreConfig { cpu, name: name.into(), ring_entries: RING_ENTRIES }
    }
}

/// Why a core did not start.
#[derive(Debug)]
pub enum CoreError {
    /// The system has no room for a thread.
    Thread(std::io::Error),
    /// The CPU cannot be had: it is offline or outside this process's set.
    Pin {
        /// The CPU asked for.
        cpu: usize,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// There is no io_uring.
    Ring(RingError),
}

impl std::fmt::Display for CoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CoreError::Thread(source) => write!(f, "no thread for a core: {source}"),
            CoreError::Pin { cpu, source } => {
                write!(f, "cannot pin a core to CPU {cpu} ({source}): see `taskset -p` and the cpuset")
            }
            CoreError::Ring(source) => source.fmt(f),
        }
    }
}

impl std::error::Error for CoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CoreError::Thread(source) | CoreError::Pin { source, .. } => Some(source),
            CoreError::Ring(source) => Some(source),
        }
    }
}

/// Starts a core and runs `main` on it; returns once its ring exists.
///
/// # Errors
/// [`CoreError`]: nothing was started.
pub fn spawn_core<T, M, F>(config: CoreConfig, main: M) -> Result<CoreHandle<T>, CoreError>
where
    T: Send + 'static,
    M: FnOnce(CoreExecutor) -> F + Send + 'static,
    F: Future<Output = T>,
{
    let name = config.name.clone();
    let (started, starting) = std::sync::mpsc::channel();
    let body = move || {
        let runtime = start(&config);
        let (runtime, answer) = match runtime {
            Ok(runtime) => (Some(runtime), Ok(())),
            Err(error) => (None, Err(error)),
        };
        // The receiver waits until this answer comes.
        drop(started.send(answer));
        runtime.map(|runtime| run(runtime, main))
    };
    let thread = std::thread::Builder::new().name(name).spawn(body).map_err(CoreError::Thread)?;
    match starting.recv() {
        Ok(Ok(())) => Ok(CoreHandle { thread }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(CoreError::Thread(std::io::Error::other("the core's thread ended at its start"))),
    }
}

/// A core that runs.
pub struct CoreHandle<T> {
    thread: std::thread::JoinHandle<Option<T>>,
}

impl<T> CoreHandle<T> {
    /// Blocks until the core's main future has ended and its storage writes are done.
    pub fn join(self) -> T {
        let output = self.thread.join().expect("a panic on a core aborts the process");
        output.expect("a core that started has an output")
    }

    /// Whether [`CoreHandle::join`] would return at once.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

fn start(config: &CoreConfig) -> Result<Runtime, CoreError> {
    if let Some(cpu) = config.cpu {
        pin_to(cpu).map_err(|source| CoreError::Pin { cpu, source })?;
    }
    let flags = ring::probe().map_err(CoreError::Ring)?;
    let built = ring::when_memory_is_back(ring::MEMORY_TRIES, || {
        let mut ring = flags.builder(config.ring_entries);
        ring.thread_pool_limit(BLOCKING_THREADS_MAX);
        let mut builder = RuntimeBuilder::new();
        builder.with_proactor(ring).sync_queue_size(REMOTE_WAKES);
        builder.build()
    });
    built.map_err(|error| CoreError::Ring(ring::explain(error)))
}

fn pin_to(cpu: usize) -> std::io::Result<()> {
    let mut set = CpuSet::new();
    if cpu >= CpuSet::MAX_CPU {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    let before = rustix::thread::sched_getaffinity(None)?;
    PROCESS_CPUS.get_or_init(|| before);
    set.set(cpu);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

fn run<T, M, F>(runtime: Runtime, main: M) -> T
where
    M: FnOnce(CoreExecutor) -> F,
    F: Future<Output = T>,
{
    let executor = CoreExecutor::new();
    let output = runtime.block_on(main(executor.clone()));
    let drained = runtime.block_on(drain_storage(&executor));
    CLOSING.with(|closing| closing.set(true));
    if drained {
        drop(runtime);
    } else {
        leak(runtime);
    }
    output
}

/// Waits for the storage writes under way; false if some hang.
async fn drain_storage(executor: &CoreExecutor) -> bool {
    let begin = executor.now();
    while StorageOp::count() > 0 {
        if executor.now().since(begin) > WRITE_DEADLINE {
            return false;
        }
        executor.sleep(DRAIN_INTERVAL).await;
    }
    true
}

#[expect(
    clippy::mem_forget,
    reason = "dropping the ring would cancel storage writes that hang; the process ends anyway"
)]
fn leak(runtime: Runtime) {
    std::mem::forget(runtime);
}

thread_local! {
    static STORAGE_OPS: Cell<usize> = const { Cell::new(0) };
    static CLOSING: Cell<bool> = const { Cell::new(false) };
}

/// Runs a call that may block on a thread of the core's pool.
pub(crate) async fn run_off_core<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    let unpinned_call = || {
        leave_the_cores_cpu();
        call()
    };
    let output = compio::runtime::spawn_blocking(unpinned_call).await;
    output.expect("the call is not cancelled, and a panic aborts the process")
}

/// The pool's threads inherit the pin of the core that started them: let them run where the process may.
fn leave_the_cores_cpu() {
    thread_local! {
        static LEFT: Cell<bool> = const { Cell::new(false) };
    }
    let Some(cpus) = PROCESS_CPUS.get().filter(|_| !LEFT.with(Cell::get)) else { return };
    // A thread that stays pinned is slower, not wrong.
    let left = rustix::thread::sched_setaffinity(None, cpus).is_ok();
    LEFT.with(|cell| cell.set(left));
}

/// Where the process might run before any core was pinned.
static PROCESS_CPUS: OnceLock<CpuSet> = OnceLock::new();

/// Closes a file on a thread of the core's pool; here if this is no core, or one that is closing.
pub(crate) fn close_off_core(fd: OwnedFd) {
    if CLOSING.with(Cell::get) {
        return drop(fd);
    }
    // Without a runtime the closure comes back as the error, and dropping it closes the file.
    drop(Runtime::try_with_current(move |runtime| runtime.spawn_blocking(move || drop(fd)).detach()));
}

/// Time since the process's first look at the clock.
pub(crate) fn uptime() -> Duration {
    let start = process_start();
    monotonic().saturating_duration_since(start)
}

/// Counts as one storage write of this core under way, from its call to its completion.
pub(crate) struct StorageOp(());

impl StorageOp {
    pub(crate) fn begin() -> StorageOp {
        STORAGE_OPS.with(|ops| ops.set(ops.get() + 1));
        StorageOp(())
    }

    fn count() -> usize {
        STORAGE_OPS.with(Cell::get)
    }
}

impl Drop for StorageOp {
    fn drop(&mut self) {
        STORAGE_OPS.with(|ops| {
            assert!(ops.get() > 0);
            ops.set(ops.get() - 1);
        });
    }
}

/// The clock, the tasks and the randomness of the core that it was made for.
#[derive(Clone)]
pub struct CoreExecutor {
    numbers: Rc<Numbers>,
}

struct Numbers {
    /// SipHash with keys from the kernel: without them its outputs cannot be told from random ones.
    keyed: RandomState,
    next: Cell<u64>,
}

impl CoreExecutor {
    fn new() -> CoreExecutor {
        CoreExecutor { numbers: Rc::new(Numbers { keyed: RandomState::new(), next: Cell::new(0) }) }
    }
}

impl Clock for CoreExecutor {
    fn now(&self) -> MonotonicTime {
        MonotonicTime { micros: u64::try_from(uptime().as_micros()).unwrap_or(u64::MAX) }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the Clock that others must use")]
    fn unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        // A time beyond what the clock can name is a century away: never.
        let far = Duration::from_secs(100 * 365 * 86_400);
        compio::runtime::time::sleep_until(monotonic() + duration.min(far))
    }
}

impl Executor for CoreExecutor {
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        compio::runtime::spawn(task).detach();
    }

    fn random_u64(&self) -> u64 {
        let count = self.numbers.next.get();
        self.numbers.next.set(count.wrapping_add(1));
        self.numbers.keyed.hash_one(count)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the Clock that others must use")]
fn monotonic() -> Instant {
    Instant::now()
}

/// One start for all cores, so that times of different cores compare.
fn process_start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(monotonic)
}
