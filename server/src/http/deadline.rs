//! Time limits of a core's connections, kept by one ticking task instead of a timer for each read.
//! Invariants: the ticking task lives only while connections do; arming a limit costs no clock call; a limit
//! fires at its tick or up to one tick later.
//! Not here: which limit applies when (`connection`).

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use shardstore_reactor::Executor;

/// Grain of all limits: they are tens of seconds, and a scan of 10,000 slots takes about 20 us.
const TICK: Duration = Duration::from_millis(500);

/// Why a wait ended without its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// The limit passed.
    Expired,
    /// The core is stopping and the wait was idle.
    Stopping,
}

/// The limits of one core. Clones share them.
#[derive(Clone)]
pub struct Deadlines {
    inner: Rc<Inner>,
}

struct Inner {
    now_ticks: Cell<u64>,
    stopping: Cell<bool>,
    ticking: Cell<bool>,
    slots: RefCell<Vec<SlotState>>,
    free: RefCell<Vec<usize>>,
    stop_wakers: RefCell<Vec<Waker>>,
}

#[derive(Default)]
struct SlotState {
    used: bool,
    /// `u64::MAX`: no limit.
    deadline_ticks: u64,
    idle: bool,
    waker: Option<Waker>,
}

impl Default for Deadlines {
    fn default() -> Deadlines {
        Deadlines::new()
    }
}

impl Deadlines {
    /// No connections, not stopping.
    pub fn new() -> Deadlines {
        Deadlines {
            inner: Rc::new(Inner {
                now_ticks: Cell::new(0),
                stopping: Cell::new(false),
                ticking: Cell::new(false),
                slots: RefCell::new(Vec::new()),
                free: RefCell::new(Vec::new()),
                stop_wakers: RefCell::new(Vec::new()),
            }),
        }
    }

    /// Ends idle waits now and from now on.
    pub fn stop(&self) {
        self.inner.stopping.set(true);
        let mut wakers = std::mem::take(&mut *self.inner.stop_wakers.borrow_mut());
        for slot in self.inner.slots.borrow_mut().iter_mut().filter(|slot| slot.idle) {
            wakers.extend(slot.waker.take());
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whether [`Deadlines::stop`] was called.
    pub fn is_stopping(&self) -> bool {
        self.inner.stopping.get()
    }

    /// Returns once [`Deadlines::stop`] was called.
    pub async fn stopped(&self) {
        poll_fn(|cx| {
            if self.is_stopping() {
                return Poll::Ready(());
            }
            let mut wakers = self.inner.stop_wakers.borrow_mut();
            if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                wakers.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// A slot for one connection; the first one starts the ticking task.
    pub(super) fn slot<E: Executor>(&self, executor: &E) -> DeadlineSlot {
        let index = match self.inner.free.borrow_mut().pop() {
            Some(index) => index,
            None => {
                let mut slots = self.inner.slots.borrow_mut();
                slots.push(SlotState::default());
                slots.len() - 1
            }
        };
        self.inner.slots.borrow_mut()[index] =
            SlotState { used: true, deadline_ticks: u64::MAX, idle: false, waker: None };
        if !self.inner.ticking.replace(true) {
            let deadlines = self.clone();
            let clock = executor.clone();
            executor.spawn(async move {
                while deadlines.has_slots() {
                    clock.sleep(TICK).await;
                    deadlines.tick();
                }
                deadlines.inner.ticking.set(false);
            });
        }
        DeadlineSlot { deadlines: self.clone(), index }
    }

    fn has_slots(&self) -> bool {
        self.inner.slots.borrow().len() > self.inner.free.borrow().len()
    }

    fn tick(&self) {
        let now = self.inner.now_ticks.get() + 1;
        self.inner.now_ticks.set(now);
        let mut expired = Vec::new();
        for slot in self.inner.slots.borrow_mut().iter_mut() {
            if slot.used && slot.deadline_ticks <= now {
                expired.extend(slot.waker.take());
            }
        }
        expired.into_iter().for_each(Waker::wake);
    }
}

/// One connection's place; dropped with it.
pub(super) struct DeadlineSlot {
    deadlines: Deadlines,
    index: usize,
}

impl DeadlineSlot {
    /// Ticks since the start: a coarse clock that costs nothing.
    pub(super) fn elapsed(&self, since_ticks: u64) -> Duration {
        let ticks = self.now_ticks().saturating_sub(since_ticks);
        TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX))
    }

    /// The current tick.
    pub(super) fn now_ticks(&self) -> u64 {
        self.deadlines.inner.now_ticks.get()
    }

    /// Awaits `future` for at most `limit`; an `idle` wait also ends when the core stops.
    pub(super) async fn within<F: Future>(
        &self,
        limit: Duration,
        idle: bool,
        future: F,
    ) -> Result<F::Output, Interrupt> {
        let ticks = u64::try_from(limit.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u64::MAX);
        let deadline_ticks = self.now_ticks().saturating_add(ticks).saturating_add(1);
        let mut future = pin!(future);
        let result = poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll_limit(cx, deadline_ticks, idle).map(Err),
        })
        .await;
        let mut slots = self.deadlines.inner.slots.borrow_mut();
        let slot = &mut slots[self.index];
        slot.deadline_ticks = u64::MAX;
        slot.idle = false;
        result
    }

    fn poll_limit(&self, cx: &mut Context<'_>, deadline_ticks: u64, idle: bool) -> Poll<Interrupt> {
        if self.now_ticks() >= deadline_ticks {
            return Poll::Ready(Interrupt::Expired);
        }
        if idle && self.deadlines.is_stopping() {
            return Poll::Ready(Interrupt::Stopping);
        }
        let mut slots = self.deadlines.inner.slots.borrow_mut();
        let slot = &mut slots[self.index];
        slot.deadline_ticks = deadline_ticks;
        slot.idle = idle;
        if !slot.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            slot.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for DeadlineSlot {
    fn drop(&mut self) {
        self.deadlines.inner.slots.borrow_mut()[self.index] = SlotState::default();
        self.deadlines.inner.free.borrow_mut().push(self.index);
    }
}
