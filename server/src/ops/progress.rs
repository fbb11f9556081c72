//! How a long piece of work of an operator stands; shared between who does it and who asks.
//! Invariants: one runs at a time; the result of the last one stays until the next begins.
//! Not here: the work (`fsck`, `gc`), asking (`admin`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use serde::Serialize;

/// How work that ends in an `R` stands.
pub struct JobProgress<R> {
    running: AtomicBool,
    phase: ArcSwap<&'static str>,
    done: AtomicU64,
    last: ArcSwapOption<Result<R, String>>,
}

/// A moment of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobStatus<R> {
    /// It is under way.
    pub running: bool,
    /// With what; empty if it is not.
    pub phase: &'static str,
    /// Rows, files or volumes done in this phase.
    pub done: u64,
    /// What the last one found.
    pub report: Option<R>,
    /// Why the last one ended early.
    pub error: Option<String>,
}

impl<R> Default for JobProgress<R> {
    fn default() -> JobProgress<R> {
        JobProgress {
            running: AtomicBool::new(false),
            phase: ArcSwap::from_pointee(""),
            done: AtomicU64::new(0),
            last: ArcSwapOption::empty(),
        }
    }
}

impl<R: Clone> JobProgress<R> {
    /// Takes the right to run; false if one is running.
    pub fn begin(&self) -> bool {
        if self.running.swap(true, Ordering::SeqCst) {
            return false;
        }
        self.enter("");
        self.last.store(None);
        true
    }

    /// Gives the right back.
    pub fn end(&self, result: Result<R, String>) {
        self.enter("");
        self.last.store(Some(Arc::new(result)));
        self.running.store(false, Ordering::SeqCst);
    }

    /// How it stands.
    pub fn status(&self) -> JobStatus<R> {
        let running = self.running.load(Ordering::SeqCst);
        let (report, error) = match self.last.load_full().as_deref() {
            Some(Ok(report)) => (Some(report.clone()), None),
            Some(Err(error)) => (None, Some(error.clone())),
            None => (None, None),
        };
        JobStatus {
            running,
            phase: **self.phase.load(),
            done: self.done.load(Ordering::Relaxed),
            report,
            error,
        }
    }

    pub(crate) fn enter(&self, phase: &'static str) {
        self.done.store(0, Ordering::Relaxed);
        self.phase.store(Arc::new(phase));
    }

    pub(crate) fn add(&self, done: usize) {
        self.done.fetch_add(done as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_runs_at_a_time_and_its_result_stays_until_the_next() {
        let progress = JobProgress::<u32>::default();
        assert!(progress.begin());
        assert!(!progress.begin());
        progress.enter("names");
        progress.add(3);
        let status = progress.status();
        assert_eq!((status.running, status.phase, status.done), (true, "names", 3));
        progress.end(Ok(7));
        assert_eq!((progress.status().running, progress.status().report), (false, Some(7)));
        assert!(progress.begin());
        assert_eq!(progress.status().report, None);
        progress.end(Err("no".to_owned()));
        assert_eq!(progress.status().error.as_deref(), Some("no"));
    }
}
