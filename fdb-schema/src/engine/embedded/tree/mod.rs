//! The metadata tree: immutable sorted runs in levels, and the cursors that merge them.
//! Invariants: a run is written once and never changed; every block is checked against its CRC32C before a row of it
//! is served; newer levels shadow older ones; within a level past 0 the runs' key ranges are disjoint.
//! Not here: memtables and commits (`embedded`), the log (`log`), where a run's bytes lie (`RunStore`).

mod block;
mod build;
mod codec;
mod compact;
mod cursor;
mod error;
mod filter;
mod footer;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod index;
mod levels;
mod manifest;
mod merge;
mod policy;
mod run;
#[cfg(test)]
mod tests;

pub use build::{RUN_MAX_BYTES, RunBuilder};
pub use compact::{OUTPUT_TARGET_BYTES, PACE_BYTES, compact, write_runs};
pub use cursor::RunCursor;
pub use error::TreeError;
pub use levels::Levels;
pub use manifest::{ENGINE_STATE_MAX_BYTES, MANIFEST_MAX_BYTES, Manifest, ManifestError, ManifestRun};
pub use merge::{MergeCursor, SortedSource};
pub use policy::{Backlog, Compaction, LEVELS_MAX};
pub use run::{Run, block_reads_of_thread};
