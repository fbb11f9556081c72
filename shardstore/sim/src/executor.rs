//! The simulated core: tasks, timers and randomness from one seed.
//! Invariants: among the ready tasks the next one is chosen at random; time jumps to the next timer only when
//! none is ready; a future that waits with no task ready and no timer set is a deadlock and panics with the seed.
//! Not here: threads. Several simulated cores are several groups of tasks of one `Sim`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crossbeam_queue::SegQueue;
use shardstore_reactor::{Clock, Executor, MonotonicTime};

use crate::disk::Disk;
use crate::drive::{DriveCell, DriveImage, SimDrive};

/// Polls at one instant of simulated time before the run counts as a livelock: far above any honest burst.
const POLLS_AT_ONE_INSTANT_MAX: u64 = 20_000_000;
/// Simulated time that one `run` may take: 30 days. Beyond it, something only ever waits.
const RUN_MICROS_MAX: u64 = 30 * 24 * 3600 * 1_000_000;
/// 2026-01-01 00:00 UTC: where the wall clock of a simulation starts.
const UNIX_START_MS: u64 = 1_767_225_600_000;

thread_local! {
    static SEED_OF_THREAD: Cell<Option<u64>> = const { Cell::new(None) };
}

/// One simulated machine: an executor, a clock and any number of drives, all from one seed.
pub struct Sim {
    core: Rc<SimCore>,
}

impl Sim {
    /// A machine without drives. The same seed and the same calls give the same run.
    pub fn new(seed: u64) -> Sim {
        print_seed_on_panic();
        SEED_OF_THREAD.with(|cell| cell.set(Some(seed)));
        let mut root = fastrand::Rng::with_seed(seed);
        let core = SimCore {
            seed,
            order: RefCell::new(root.fork()),
            numbers: RefCell::new(root.fork()),
            drive_seeds: RefCell::new(root.fork()),
            now_micros: Cell::new(1),
            unix_start_ms: Cell::new(UNIX_START_MS),
            tasks: RefCell::new(BTreeMap::new()),
            ready: RefCell::new(Vec::new()),
            woken: Arc::new(SegQueue::new()),
            timers: RefCell::new(BTreeMap::new()),
            next_id: Cell::new(1),
            polls_at_instant: Cell::new(0),
            polls: Cell::new(0),
            polling: Cell::new(false),
            crash_requested: Cell::new(false),
            trace: Cell::new(seed),
            drives: RefCell::new(Vec::new()),
        };
        Sim { core: Rc::new(core) }
    }

    /// The seed that this machine came from.
    pub fn seed(&self) -> u64 {
        self.core.seed
    }

    /// A handle for product code.
    pub fn executor(&self) -> SimExecutor {
        SimExecutor { core: Rc::clone(&self.core) }
    }

    /// A new empty drive of `capacity_bytes`.
    pub fn drive(&self, label: &str, capacity_bytes: u64) -> SimDrive {
        self.add_drive(label, Disk::new(capacity_bytes))
    }

    /// A new drive with the content of `image`.
    pub fn drive_from_image(&self, label: &str, image: &DriveImage) -> SimDrive {
        self.add_drive(label, image.disk())
    }

    fn add_drive(&self, label: &str, disk: Disk) -> SimDrive {
        let rng = self.core.drive_seeds.borrow_mut().fork();
        let cell = DriveCell::new(label, Rc::clone(&self.core), disk, rng);
        self.core.drives.borrow_mut().push(Rc::clone(&cell));
        SimDrive::of(cell)
    }

    /// Runs tasks until `future` is done; the other tasks stay for the next call.
    ///
    /// Panics with the seed on a deadlock, or if a task asked for a crash.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        match self.run(future, u64::MAX) {
            Some(output) => output,
            None => panic!("seed={}: a crash was requested inside block_on", self.core.seed),
        }
    }

    /// Runs tasks until `future` is done, or `polls_max` polls were made, or a task called
    /// [`SimExecutor::request_crash`]. `None` means cut short: the future is dropped, call [`Sim::crash`] next.
    pub fn run<T>(&self, future: impl Future<Output = T>, polls_max: u64) -> Option<T> {
        let mut future = pin!(future);
        let root = RootTask::new(&self.core);
        let begin_micros = self.core.now_micros.get();
        for _ in 0..polls_max {
            let Some(id) = self.core.next_ready() else { self.core.deadlock() };
            assert!(
                self.core.now_micros.get() - begin_micros < RUN_MICROS_MAX,
                "seed={}: not done after 30 simulated days; only timers still fire",
                self.core.seed
            );
            if id == root.id {
                root.flag.queued.store(false, Ordering::Release);
                let _guard = self.core.enter();
                if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&root.waker)) {
                    return Some(output);
                }
            } else {
                self.core.poll_task(id);
            }
            if self.core.crash_requested.get() {
                return None;
            }
        }
        None
    }

    /// Runs tasks until none is ready and no timer is set, or a crash was requested.
    pub fn run_until_idle(&self) {
        while !self.core.crash_requested.get() {
            let Some(id) = self.core.next_ready() else { return };
            self.core.poll_task(id);
        }
    }

    /// Power loss: every task is dropped, and each drive keeps what was durable and a random part of what was
    /// not. Drives are used again through [`SimDrive::reopen`].
    pub fn crash(&self) {
        self.drop_tasks();
        for drive in self.core.drives.borrow().iter() {
            drive.crash();
        }
    }

    /// `kill -9`: every task is dropped, writes already under way land whole, nothing else is lost.
    pub fn kill_process(&self) {
        self.drop_tasks();
        for drive in self.core.drives.borrow().iter() {
            drive.kill();
        }
    }

    fn drop_tasks(&self) {
        assert!(
            !self.core.polling.get(),
            "seed={}: inside a task call request_crash() instead",
            self.core.seed
        );
        self.core.drop_tasks();
        self.core.crash_requested.set(false);
    }

    /// Tasks that have not ended.
    pub fn task_count(&self) -> usize {
        self.core.tasks.borrow().len()
    }

    /// Polls made so far: the unit of [`Sim::run`]'s limit.
    pub fn polls(&self) -> u64 {
        self.core.polls.get()
    }

    /// A digest of the run so far; equal for equal seeds and equal calls.
    pub fn trace_digest(&self) -> u64 {
        self.core.trace.get()
    }

    /// Lets the wall clock jump; the monotonic clock does not notice.
    pub fn set_unix_ms(&self, unix_ms: u64) {
        self.core.unix_start_ms.set(unix_ms.saturating_sub(self.core.now_micros.get() / 1000));
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        // Tasks hold the core and the core holds the tasks: cut the knot.
        self.core.drop_tasks();
        self.core.drives.borrow_mut().clear();
    }
}

/// The executor as product code sees it. Clones share the machine.
#[derive(Clone)]
pub struct SimExecutor {
    core: Rc<SimCore>,
}

impl SimExecutor {
    /// Ends the run at once, from inside a task; the test then calls [`Sim::crash`].
    pub fn request_crash(&self) {
        self.core.crash_requested.set(true);
    }

    /// The seed of the machine, for messages.
    pub fn seed(&self) -> u64 {
        self.core.seed
    }
}

impl Clock for SimExecutor {
    fn now(&self) -> MonotonicTime {
        MonotonicTime { micros: self.core.now_micros.get() }
    }

    fn unix_ms(&self) -> u64 {
        self.core.unix_start_ms.get() + self.core.now_micros.get() / 1000
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        self.core.sleep(duration)
    }
}

impl Executor for SimExecutor {
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.core.spawn(task);
    }

    fn random_u64(&self) -> u64 {
        self.core.numbers.borrow_mut().u64(..)
    }
}

pub(crate) struct SimCore {
    pub(crate) seed: u64,
    order: RefCell<fastrand::Rng>,
    numbers: RefCell<fastrand::Rng>,
    drive_seeds: RefCell<fastrand::Rng>,
    now_micros: Cell<u64>,
    unix_start_ms: Cell<u64>,
    /// `None` while the task is being polled.
    tasks: RefCell<BTreeMap<u64, Option<Task>>>,
    ready: RefCell<Vec<u64>>,
    /// Ids woken since the last look; wakers may fire on any thread.
    woken: Arc<SegQueue<u64>>,
    timers: RefCell<BTreeMap<(u64, u64), Waker>>,
    next_id: Cell<u64>,
    polls_at_instant: Cell<u64>,
    polls: Cell<u64>,
    polling: Cell<bool>,
    crash_requested: Cell<bool>,
    trace: Cell<u64>,
    drives: RefCell<Vec<Rc<DriveCell>>>,
}

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    waker: Waker,
    flag: Arc<WakeFlag>,
}

impl SimCore {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let (id, flag, waker) = self.new_waker();
        self.tasks.borrow_mut().insert(id, Some(Task { future: Box::pin(task), waker, flag }));
    }

    pub(crate) fn sleep(self: &Rc<Self>, duration: Duration) -> Sleep {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Sleep {
            core: Rc::clone(self),
            deadline_micros: self.now_micros.get().saturating_add(micros),
            timer: None,
        }
    }

    pub(crate) fn note(&self, value: u64) {
        self.trace.set(self.trace.get().rotate_left(5).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ value);
    }

    fn new_id(&self) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        id
    }

    /// An id that is ready at once, and what wakes it.
    fn new_waker(&self) -> (u64, Arc<WakeFlag>, Waker) {
        let id = self.new_id();
        let flag = Arc::new(WakeFlag { id, queued: AtomicBool::new(true), woken: Arc::clone(&self.woken) });
        self.woken.push(id);
        let waker = Waker::from(Arc::clone(&flag));
        (id, flag, waker)
    }

    /// A ready task, chosen at random; moves time forward if it must. `None`: nothing will ever be ready.
    fn next_ready(&self) -> Option<u64> {
        loop {
            let mut ready = self.ready.borrow_mut();
            while let Some(id) = self.woken.pop() {
                ready.push(id);
            }
            if !ready.is_empty() {
                let index = self.order.borrow_mut().usize(..ready.len());
                let id = ready.swap_remove(index);
                self.count_poll(id);
                return Some(id);
            }
            drop(ready);
            self.jump_to_next_timer()?;
        }
    }

    fn count_poll(&self, id: u64) {
        self.note(id);
        self.polls.set(self.polls.get() + 1);
        self.polls_at_instant.set(self.polls_at_instant.get() + 1);
        assert!(
            self.polls_at_instant.get() < POLLS_AT_ONE_INSTANT_MAX,
            "seed={}: livelock, tasks wake each other and time stands still",
            self.seed
        );
    }

    fn jump_to_next_timer(&self) -> Option<()> {
        let ((at_micros, _), waker) = self.timers.borrow_mut().pop_first()?;
        assert!(at_micros >= self.now_micros.get());
        if at_micros > self.now_micros.get() {
            self.now_micros.set(at_micros);
            self.polls_at_instant.set(0);
            self.note(at_micros);
        }
        waker.wake();
        Some(())
    }

    fn poll_task(&self, id: u64) {
        let taken = self.tasks.borrow_mut().get_mut(&id).and_then(Option::take);
        // A wake-up of a task that has ended, or of a root future of an earlier run.
        let Some(mut task) = taken else { return };
        task.flag.queued.store(false, Ordering::Release);
        let guard = self.enter();
        let polled = task.future.as_mut().poll(&mut Context::from_waker(&task.waker));
        drop(guard);
        if polled.is_pending() {
            self.tasks.borrow_mut().insert(id, Some(task));
        } else {
            self.tasks.borrow_mut().remove(&id);
        }
    }

    fn enter(&self) -> PollGuard<'_> {
        assert!(!self.polling.replace(true), "seed={}: block_on inside a task", self.seed);
        PollGuard(&self.polling)
    }

    fn drop_tasks(&self) {
        // Dropping a task may spawn or wake others: repeat until none is left.
        loop {
            let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
            if tasks.is_empty() {
                break;
            }
            drop(tasks);
        }
        self.timers.borrow_mut().clear();
        self.ready.borrow_mut().clear();
        while self.woken.pop().is_some() {}
    }

    fn deadlock(&self) -> ! {
        let hung: Vec<String> =
            self.drives.borrow().iter().filter(|drive| drive.is_hung()).map(|d| d.label().into()).collect();
        panic!(
            "seed={}: deadlock, {} tasks wait, none is ready, no timer is set; hung drives: {hung:?}",
            self.seed,
            self.tasks.borrow().len()
        );
    }
}

struct PollGuard<'a>(&'a Cell<bool>);

impl Drop for PollGuard<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// The future of one `run` call, which lives on the caller's stack.
struct RootTask {
    id: u64,
    flag: Arc<WakeFlag>,
    waker: Waker,
}

impl RootTask {
    fn new(core: &SimCore) -> RootTask {
        let (id, flag, waker) = core.new_waker();
        RootTask { id, flag, waker }
    }
}

struct WakeFlag {
    id: u64,
    queued: AtomicBool,
    woken: Arc<SegQueue<u64>>,
}

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.woken.push(self.id);
        }
    }
}

pub(crate) struct Sleep {
    core: Rc<SimCore>,
    deadline_micros: u64,
    timer: Option<(u64, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.core.now_micros.get() >= self.deadline_micros {
            return Poll::Ready(());
        }
        let key = self.timer.unwrap_or_else(|| (self.deadline_micros, self.core.new_id()));
        self.core.timers.borrow_mut().insert(key, cx.waker().clone());
        self.timer = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.timer {
            let removed = self.core.timers.borrow_mut().remove(&key);
            drop(removed);
        }
    }
}

/// Adds `seed=` to every panic of a thread that runs a simulation, whoever panics.
fn print_seed_on_panic() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if let Ok(Some(seed)) = SEED_OF_THREAD.try_with(Cell::get) {
                eprintln!("simulation failed: seed={seed} commit={}", commit());
            }
            before(info);
        }));
    });
}

/// The commit of the working tree, if it can be told.
fn commit() -> String {
    let git = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.git/");
    let read = |name: &str| std::fs::read_to_string(format!("{git}{name}")).unwrap_or_default();
    let head = read("HEAD");
    let id = head.trim().strip_prefix("ref: ").map_or_else(|| head.clone(), read);
    if id.trim().is_empty() { "unknown".into() } else { id.trim().into() }
}

/// The seeds that a test should try: `0..count`, or `SIM_SEEDS` of them, or `SIM_SEED` alone to replay one.
pub fn seeds(count: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_SEEDS").unwrap_or(count),
    }
}
