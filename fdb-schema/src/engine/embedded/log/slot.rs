//! One drive as the log sees it: every operation runs to its end, and is waited for only so long.
//! Invariants: an operation is a task of its own, so giving up on it cancels nothing; while one that was given up on
//! is still under way the drive is not healthy, so no later operation can meet it on the device.
//! Not here: which drives are members (`writer`).

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_channel::{mpsc, oneshot};
use futures_util::future::{Either, select};
use shardstore_format::DriveId;
use shardstore_reactor::{AlignedBuf, Drive, DriveFile, Executor, IoError, PendingWrite, RecentLatency};

/// How long an operation other than the write of a record may take: opening, listing, a read of 1 MiB, a small file.
pub(crate) const SETUP_DEADLINE: Duration = Duration::from_secs(2);

/// The least that a member may be silent before it is replaced.
const RECORD_DEADLINE_MIN: Duration = Duration::from_millis(250);
/// The most: a drive that always takes seconds is no member.
const RECORD_DEADLINE_MAX: Duration = Duration::from_secs(10);

/// How long the next record's write may take: max(250 ms, 10 x p99).
fn deadline_of(latency: &RecentLatency) -> Duration {
    (latency.p99().unwrap_or_default() * 10).clamp(RECORD_DEADLINE_MIN, RECORD_DEADLINE_MAX)
}

/// Why a drive did not do what it was asked.
#[derive(Debug)]
pub(crate) enum SlotError {
    /// It said so.
    Io(IoError),
    /// It said nothing before the deadline; the operation is still under way.
    Silent,
}

impl SlotError {
    pub(crate) fn is_no_space(&self) -> bool {
        matches!(self, SlotError::Io(IoError::NoSpace))
    }

    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, SlotError::Io(IoError::NotFound))
    }
}

impl From<IoError> for SlotError {
    fn from(source: IoError) -> SlotError {
        SlotError::Io(source)
    }
}

impl std::fmt::Display for SlotError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SlotError::Io(source) => write!(f, "{source}"),
            SlotError::Silent => f.write_str("no answer before the deadline"),
        }
    }
}

/// Told when a drive that was given up on has answered after all.
#[derive(Clone)]
pub(crate) struct Returned(pub(crate) mpsc::UnboundedSender<()>);

/// What outlives an exchange of the drive's handle.
struct Health {
    /// Operations that were given up on and are still under way.
    abandoned: Cell<u32>,
    /// It failed since it was last offered.
    failed: Cell<bool>,
    /// The last term written to its term file by this process.
    term: Cell<u64>,
    /// Of the writes of records.
    latency: RefCell<RecentLatency>,
}

/// One drive. Clones share its health.
#[derive(Clone)]
pub(crate) struct Slot<D, X> {
    pub(crate) id: DriveId,
    pub(crate) drive: D,
    executor: X,
    health: Rc<Health>,
    returned: Returned,
}

impl<D: Drive, X: Executor> Slot<D, X> {
    pub(crate) fn new(id: DriveId, drive: D, executor: X, returned: Returned) -> Slot<D, X> {
        let health = Health {
            abandoned: Cell::new(0),
            failed: Cell::new(false),
            term: Cell::new(0),
            latency: RefCell::new(RecentLatency::default()),
        };
        Slot { id, drive, executor, health: Rc::new(health), returned }
    }

    /// The same drive behind a new handle, offered again after it failed.
    pub(crate) fn offered_again(&self, drive: D) -> Slot<D, X> {
        self.health.failed.set(false);
        self.health.term.set(0);
        Slot { drive, ..self.clone() }
    }

    /// It may be given work.
    pub(crate) fn is_healthy(&self) -> bool {
        !self.health.failed.get() && self.is_usable()
    }

    /// It may be given work if no healthy drive is left: no durable write has failed, since that fences.
    pub(crate) fn is_usable(&self) -> bool {
        self.health.abandoned.get() == 0 && self.drive.fenced().is_none()
    }

    /// Others are preferred from now on.
    pub(crate) fn mark_failed(&self) {
        self.health.failed.set(true);
    }

    /// It did its part again.
    pub(crate) fn clear_failed(&self) {
        self.health.failed.set(false);
    }

    /// The last term that this process has written to the drive; 0 if none.
    pub(crate) fn term_written(&self) -> u64 {
        self.health.term.get()
    }

    pub(crate) fn note_term(&self, term: u64) {
        self.health.term.set(term);
    }

    /// Operations that were given up on are still under way.
    pub(crate) fn is_silent(&self) -> bool {
        self.health.abandoned.get() > 0
    }

    /// Runs `operation` to its end as a task of its own, and waits for it until the set-up deadline.
    pub(crate) async fn run<T: 'static>(
        &self,
        operation: impl Future<Output = Result<T, IoError>> + 'static,
    ) -> Result<T, SlotError> {
        let (sender, receiver) = oneshot::channel();
        self.executor.spawn(async move {
            // The caller may have given up; the operation stands all the same.
            drop(sender.send(operation.await));
        });
        let deadline = pin!(self.executor.sleep(SETUP_DEADLINE));
        match select(receiver, deadline).await {
            Either::Left((result, _)) => Ok(result.unwrap_or(Err(IoError::Fenced))?),
            Either::Right(((), receiver)) => {
                self.abandon(receiver);
                Err(SlotError::Silent)
            }
        }
    }

    /// Waits for the write of a record until the member's own deadline.
    pub(crate) async fn record_write(&self, write: PendingWrite) -> Result<(), SlotError> {
        let begin = self.executor.now();
        let deadline = deadline_of(&self.health.latency.borrow());
        let result = self.wait_write(write, deadline).await;
        if result.is_ok() {
            self.health.latency.borrow_mut().note(self.executor.now().since(begin));
        }
        result
    }

    /// Writes `bufs` durably; for heads, copies and zeros, whose time says nothing of a record's.
    pub(crate) async fn write(
        &self,
        file: &D::File,
        offset_bytes: u64,
        bufs: Vec<AlignedBuf>,
    ) -> Result<(), SlotError> {
        self.wait_write(file.write_durable(offset_bytes, bufs), SETUP_DEADLINE).await
    }

    async fn wait_write(&self, write: PendingWrite, deadline: Duration) -> Result<(), SlotError> {
        let deadline = pin!(self.executor.sleep(deadline));
        match select(write, deadline).await {
            Either::Left((outcome, _)) => Ok(outcome.result?),
            Either::Right(((), write)) => {
                self.abandon(write);
                Err(SlotError::Silent)
            }
        }
    }

    fn abandon(&self, rest: impl Future + 'static) {
        let (health, returned) = (Rc::clone(&self.health), self.returned.clone());
        health.abandoned.set(health.abandoned.get() + 1);
        self.executor.spawn(async move {
            rest.await;
            health.abandoned.set(health.abandoned.get() - 1);
            // The log may have ended.
            drop(returned.0.unbounded_send(()));
        });
    }

    /// Starts a task that nobody waits for.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.executor.spawn(task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_is_ten_times_the_slow_writes_and_never_under_250_ms() {
        let mut latency = RecentLatency::default();
        assert_eq!(deadline_of(&latency), RECORD_DEADLINE_MIN);
        for _ in 0..3_000 {
            latency.note(Duration::from_millis(60));
        }
        let deadline = deadline_of(&latency);
        assert!((600..=800).contains(&deadline.as_millis()), "{deadline:?}");
        for _ in 0..3_000 {
            latency.note(Duration::from_secs(5));
        }
        assert_eq!(deadline_of(&latency), RECORD_DEADLINE_MAX);
    }
}
