//! The metadata tree's runs over the store's drives: `fdb_schema::RunStore` on `shardstore::Media`.
//! Invariants: needs no catalog, so metadata can be read before there is any; bytes are verified.
//! Not here: how runs lie in volumes (`shardstore`), what they hold (`fdb_schema`).

use bytes::Bytes;
use fdb_schema::{RunError, RunStore, RunVolume, RunWriter};
use shardstore::{Media, PutError, ReadError, RunVolumeWriter};
use shardstore_format::VolumeId;
use shardstore_reactor::{Drive, Executor};

/// One core's access to runs.
pub struct MetadataRuns<D: Drive, X: Executor>(Media<D, X>);

impl<D: Drive, X: Executor> MetadataRuns<D, X> {
    /// Runs on these drives.
    pub fn new(media: Media<D, X>) -> MetadataRuns<D, X> {
        MetadataRuns(media)
    }
}

impl<D: Drive, X: Executor> Clone for MetadataRuns<D, X> {
    fn clone(&self) -> MetadataRuns<D, X> {
        MetadataRuns(self.0.clone())
    }
}

fn run_error(error: PutError) -> RunError {
    match error {
        PutError::NoSpace => RunError::NoSpace,
        // Runs never ask the catalog.
        PutError::TooFewDrives { .. } | PutError::DrivesLost | PutError::Metadata(_) => RunError::DrivesLost,
        PutError::Overloaded => RunError::Overloaded,
    }
}

impl<D: Drive, X: Executor> RunStore for MetadataRuns<D, X> {
    type Writer = MetadataRunWriter<D, X>;

    async fn create(&self, volume: VolumeId) -> Result<MetadataRunWriter<D, X>, RunError> {
        self.0.create_run(volume).await.map(MetadataRunWriter).map_err(run_error)
    }

    async fn read(&self, run: &RunVolume, offset_bytes: u64, len_bytes: usize) -> Result<Bytes, RunError> {
        let read = self.0.read_run(&run.record, run.len_bytes, offset_bytes, len_bytes).await;
        read.map_err(|error| match error {
            ReadError::Overloaded => RunError::Overloaded,
            ReadError::Lost { volume, .. } | ReadError::Stale(volume) => {
                RunError::Damaged { volume, offset_bytes }
            }
        })
    }

    async fn remove(&self, run: &RunVolume) -> Result<(), RunError> {
        self.0.remove_run(&run.record).await.map_err(run_error)
    }
}

/// A run being written.
pub struct MetadataRunWriter<D: Drive, X: Executor>(RunVolumeWriter<D, X>);

impl<D: Drive, X: Executor> RunWriter for MetadataRunWriter<D, X> {
    async fn append(&mut self, bytes: Bytes) -> Result<(), RunError> {
        self.0.append(bytes).await.map_err(run_error)
    }

    async fn finish(self) -> Result<RunVolume, RunError> {
        let (record, len_bytes) = self.0.finish().await.map_err(run_error)?;
        Ok(RunVolume { record, len_bytes })
    }
}
