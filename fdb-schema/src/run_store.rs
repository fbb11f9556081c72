//! What the metadata tree needs of storage: immutable runs, each a volume of its own.
//! Invariants: a run's bytes are durable on every shard before `finish` returns; reads are verified; a run is never
//! changed; the manifest alone names runs, so the tree is not needed to read itself.
//! Not here: an implementation. `server` joins this trait to `shardstore`.

use std::future::Future;

use bytes::Bytes;
use shardstore_format::{VolumeId, VolumeRecord};

/// A finished run: its volume and the number of payload bytes appended to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunVolume {
    /// The sealed volume, of class `Run`.
    pub record: VolumeRecord,
    /// Payload bytes.
    pub len_bytes: u64,
}

/// Why a run could not be written or read.
#[derive(Debug)]
pub enum RunError {
    /// No room: stop making runs, go on serving.
    NoSpace,
    /// Too few healthy drives for a new volume, or drives failed under the writer: try again on what is left.
    DrivesLost,
    /// More shards are missing or corrupt than parity mends: report; never serve.
    Damaged {
        /// The run's volume.
        volume: VolumeId,
        /// Payload offset of the first byte that cannot be read.
        offset_bytes: u64,
    },
    /// The page budget is spent: retry later or answer `SlowDown`.
    Overloaded,
}

impl std::fmt::Display for RunError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RunError::NoSpace => f.write_str("no room for a metadata run"),
            RunError::DrivesLost => f.write_str("too few healthy drives for a metadata run"),
            RunError::Damaged { volume, offset_bytes } => {
                write!(f, "metadata run in volume {} cannot be read at byte {offset_bytes}", volume.0)
            }
            RunError::Overloaded => f.write_str("the page budget is spent"),
        }
    }
}

impl std::error::Error for RunError {}

/// One core's access to runs. Cheap to clone.
pub trait RunStore: Clone + 'static {
    /// A run under way.
    type Writer: RunWriter;
    /// Begins a run in a new volume; the engine took `volume` from the volume counter and committed that.
    fn create(&self, volume: VolumeId) -> impl Future<Output = Result<Self::Writer, RunError>>;
    /// Exactly `len_bytes` verified payload bytes from `offset_bytes`; shared with the page cache where it can be.
    /// Cheapest when the range lies within one page's payload (offsets in steps of 65,472 begin pages).
    fn read(
        &self,
        run: &RunVolume,
        offset_bytes: u64,
        len_bytes: usize,
    ) -> impl Future<Output = Result<Bytes, RunError>>;
    /// Removes a run's files; called once no view holds it and no manifest names it.
    fn remove(&self, run: &RunVolume) -> impl Future<Output = Result<(), RunError>>;
}

/// A run being written; dropping it abandons the volume, whose files are freed at the next start or by the store.
pub trait RunWriter: 'static {
    /// Appends bytes; waits while too many writes are under way.
    fn append(&mut self, bytes: Bytes) -> impl Future<Output = Result<(), RunError>>;
    /// Makes everything durable and seals the volume.
    fn finish(self) -> impl Future<Output = Result<RunVolume, RunError>>;
}
