//! A counting semaphore of one core: bounds the operations in flight.
//! Invariants: permits out plus permits free is constant, but for those of [`Permits::let_all_through`]; waiters are
//! served in order; a waiter that went away passes its turn on.
//! Not here: other threads; a permit never leaves its core.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use futures_channel::oneshot;

/// Waiters that gave up are swept out when the queue reaches this length, and at each doubling.
const GONE_WAITERS_MAX: usize = 64;

/// A number of permits. Clones share them.
#[derive(Clone)]
pub(crate) struct Permits {
    inner: Rc<Inner>,
}

struct Inner {
    free: Cell<usize>,
    waiters: RefCell<VecDeque<oneshot::Sender<Permit>>>,
}

/// One permit, given back when dropped.
pub(crate) struct Permit {
    /// `None` once given back, and of those let through.
    inner: Option<Rc<Inner>>,
}

impl Permits {
    pub(crate) fn new(count: usize) -> Permits {
        assert!(count > 0);
        Permits { inner: Rc::new(Inner { free: Cell::new(count), waiters: RefCell::new(VecDeque::new()) }) }
    }

    /// Waits for a permit, in order of asking.
    pub(crate) async fn acquire(&self) -> Permit {
        let free = self.inner.free.get();
        // A permit is free only while nobody waits: given-back permits go to waiters directly.
        if free > 0 {
            self.inner.free.set(free - 1);
            return Permit { inner: Some(Rc::clone(&self.inner)) };
        }
        let receiver = self.inner.join_queue();
        receiver.await.expect("the queue outlives its waiters: they hold it")
    }

    pub(crate) fn has_waiters(&self) -> bool {
        !self.inner.waiters.borrow().is_empty()
    }

    /// Gives every waiter a permit that counts for nothing: what they wait for will not be done.
    pub(crate) fn let_all_through(&self) {
        let waiters = std::mem::take(&mut *self.inner.waiters.borrow_mut());
        for waiter in waiters {
            drop(waiter.send(Permit { inner: None }));
        }
    }
}

impl Inner {
    fn join_queue(&self) -> oneshot::Receiver<Permit> {
        let (sender, receiver) = oneshot::channel();
        let mut waiters = self.waiters.borrow_mut();
        if waiters.len() >= GONE_WAITERS_MAX && waiters.len().is_power_of_two() {
            waiters.retain(|waiter| !waiter.is_canceled());
        }
        waiters.push_back(sender);
        receiver
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        let mut permit = Permit { inner: Some(Rc::clone(&inner)) };
        loop {
            let waiter = inner.waiters.borrow_mut().pop_front();
            let Some(waiter) = waiter else { break };
            match waiter.send(permit) {
                Ok(()) => return,
                // That waiter is gone: the next one's turn.
                Err(returned) => permit = returned,
            }
        }
        permit.inner = None;
        inner.free.set(inner.free.get() + 1);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn waiters_are_served_in_order_and_the_gone_are_passed_over() {
        let permits = Permits::new(1);
        let held = permits.acquire().now_or_never().expect("one is free");
        let mut first = Box::pin(permits.acquire());
        let mut gone = Box::pin(permits.acquire());
        let mut last = Box::pin(permits.acquire());
        assert!(first.as_mut().now_or_never().is_none());
        assert!(gone.as_mut().now_or_never().is_none());
        assert!(last.as_mut().now_or_never().is_none());
        drop(held);
        drop(gone);
        let held = first.now_or_never().expect("first in the queue");
        assert!(last.as_mut().now_or_never().is_none());
        drop(held);
        drop(last.now_or_never().expect("the one before it is gone"));
        assert_eq!(permits.inner.free.get(), 1);
    }

    #[test]
    fn a_permit_handed_to_a_waiter_that_never_looks_is_not_lost() {
        let permits = Permits::new(1);
        let held = permits.acquire().now_or_never().expect("one is free");
        let mut waiter = Box::pin(permits.acquire());
        assert!(waiter.as_mut().now_or_never().is_none());
        drop(held);
        assert_eq!(permits.inner.free.get(), 0);
        drop(waiter);
        assert_eq!(permits.inner.free.get(), 1);
    }

    #[test]
    fn all_are_let_through_and_the_count_stays_right() {
        let permits = Permits::new(1);
        let held = permits.acquire().now_or_never().expect("one is free");
        let mut waiters: Vec<_> = (0..3).map(|_| Box::pin(permits.acquire())).collect();
        assert!(waiters.iter_mut().all(|waiter| waiter.as_mut().now_or_never().is_none()));
        permits.let_all_through();
        assert!(waiters.into_iter().all(|waiter| waiter.now_or_never().is_some()));
        assert!(!permits.has_waiters());
        assert_eq!(permits.inner.free.get(), 0);
        drop(held);
        assert_eq!(permits.inner.free.get(), 1);
    }

    #[test]
    fn waiters_that_gave_up_do_not_pile_up_behind_a_hung_drive() {
        let permits = Permits::new(1);
        let _held = permits.acquire().now_or_never().expect("one is free");
        for _ in 0..10_000 {
            assert!(permits.acquire().now_or_never().is_none());
        }
        assert!(permits.inner.waiters.borrow().len() <= 2 * GONE_WAITERS_MAX);
    }
}
