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
