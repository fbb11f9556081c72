//! Time, tasks and randomness of one core.
//! Invariants: product code reads no other clock and starts no other task, so the simulator owns both.

use std::future::Future;
use std::time::Duration;

/// A point on a clock that never goes back, in microseconds since an arbitrary start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MonotonicTime {
    /// Microseconds since the clock's own start.
    pub micros: u64,
}

impl MonotonicTime {
    /// Time passed since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: MonotonicTime) -> Duration {
        Duration::from_micros(self.micros.saturating_sub(earlier.micros))
    }
}

/// The clocks that product code may read.
pub trait Clock: Clone + 'static {
    /// Now, on the clock that never goes back.
    fn now(&self) -> MonotonicTime;
    /// Milliseconds since 1970-01-01 UTC, as the machine believes; may jump either way.
    fn unix_ms(&self) -> u64;
    /// Returns once `duration` has passed.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static;
}

/// A core's executor: its clock, its tasks, its randomness.
pub trait Executor: Clock {
    /// Runs `task` on this core until it ends; it is never cancelled.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);
    /// A random number, unpredictable to clients on a real core, seeded in the simulator.
    fn random_u64(&self) -> u64;
}

/// The time of a [`timeout`] passed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl std::fmt::Display for Elapsed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the deadline passed")
    }
}

impl std::error::Error for Elapsed {}

/// Runs `future` for at most `duration`, then drops it.
///
/// Only for futures that are safe to drop at any await: sockets that are closed next, channels, sleeps. A storage
/// write survives the drop (DESIGN rule 4), but its outcome is lost.
///
/// # Errors
/// [`Elapsed`]: the time passed, the future is gone.
pub async fn timeout<C: Clock, F: Future>(
    clock: &C,
    duration: Duration,
    future: F,
) -> Result<F::Output, Elapsed> {
    let future = std::pin::pin!(future);
    let sleep = std::pin::pin!(clock.sleep(duration));
    match futures_util::future::select(future, sleep).await {
        futures_util::future::Either::Left((output, _)) => Ok(output),
        futures_util::future::Either::Right(((), _)) => Err(Elapsed),
    }
}
