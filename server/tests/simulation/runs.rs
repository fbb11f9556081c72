//! Metadata runs as the engine sees them: as they are, or with a deliberate bug between.
//! Invariants: without a mutation every call goes through unchanged.
//! Not here: runs in volumes (`shardstore`).

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use fdb_schema::{RunError, RunStore, RunVolume, RunWriter};
use shardstore_format::VolumeId;

use crate::mutation::Mutation;

/// One core's runs.
#[derive(Clone)]
pub(crate) struct TestRuns<R> {
    runs: R,
    mutation: Option<Mutation>,
    /// The last run that was finished.
    last: Rc<RefCell<Option<RunVolume>>>,
}

/// A run of [`TestRuns`] being written.
pub(crate) struct TestRunWriter<R: RunStore> {
    store: TestRuns<R>,
    writer: R::Writer,
}

impl<R> TestRuns<R> {
    pub(crate) fn new(runs: R, mutation: Option<Mutation>) -> TestRuns<R> {
        TestRuns { runs, mutation, last: Rc::default() }
    }
}

impl<R: RunStore> RunStore for TestRuns<R> {
    type Writer = TestRunWriter<R>;

    async fn create(&self, volume: VolumeId) -> Result<TestRunWriter<R>, RunError> {
        let writer = self.runs.create(volume).await?;
        Ok(TestRunWriter { store: self.clone(), writer })
    }

    async fn read(&self, run: &RunVolume, offset_bytes: u64, len_bytes: usize) -> Result<Bytes, RunError> {
        self.runs.read(run, offset_bytes, len_bytes).await
    }

    async fn remove(&self, run: &RunVolume) -> Result<(), RunError> {
        if self.mutation == Some(Mutation::KeepMergedRuns) {
            return Ok(());
        }
        self.runs.remove(run).await
    }
}

impl<R: RunStore> RunWriter for TestRunWriter<R> {
    async fn append(&mut self, bytes: Bytes) -> Result<(), RunError> {
        self.writer.append(bytes).await
    }

    async fn finish(self) -> Result<RunVolume, RunError> {
        let run = self.writer.finish().await?;
        let before = self.store.last.replace(Some(run.clone()));
        if self.store.mutation == Some(Mutation::RemoveRunEarly)
            && let Some(before) = before
        {
            self.store.runs.remove(&before).await?;
        }
        Ok(run)
    }
}
