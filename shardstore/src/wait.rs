//! Waiting within one core: who waits for something, and telling them.
//! Invariants: a waiter that went away is no error; waking wakes all who waited before it.
//! Not here: waiting across cores.

use std::cell::RefCell;

use futures_channel::oneshot;

/// Tells someone who may have gone.
pub(crate) fn answer<T>(waiter: oneshot::Sender<T>, value: T) {
    if waiter.send(value).is_err() {
        tracing::trace!("whoever waited has gone");
    }
}

/// Those who wait for one thing.
#[derive(Default)]
pub(crate) struct Waiters(RefCell<Vec<oneshot::Sender<()>>>);

impl Waiters {
    /// Returns at the next waking.
    pub(crate) fn wait(&self) -> impl Future<Output = ()> + 'static {
        let (sender, receiver) = oneshot::channel();
        self.0.borrow_mut().push(sender);
        // Woken, or whoever would wake has gone: the caller looks again either way.
        async move { receiver.await.unwrap_or(()) }
    }

    /// Wakes all.
    pub(crate) fn wake_all(&self) {
        for waiter in self.0.take() {
            answer(waiter, ());
        }
    }
}
