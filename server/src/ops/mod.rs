//! S3 operations over the store and the metadata: they know no HTTP and no XML.
//! Invariants: bytes durable, then metadata commit, then reply; the types of `api` are all that callers see.

pub mod api;

mod admission;
mod append;
mod background;
mod catalog;
mod census;
pub(crate) mod checksum;
mod core;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod dump;
#[cfg(not(any(test, feature = "fuzz")))]
mod dump;
mod error;
mod export;
mod fsck;
mod gc;
mod multipart;
mod progress;
mod read;
mod run_store;
mod seal;
#[cfg(test)]
mod tests;
mod write;

pub use admission::{Admission, AdmissionLimits, Permit};
pub use catalog::StoreCatalog;
pub use census::{CensusCounts, CensusFinding, CensusProgress, CensusReport, CensusStatus, take_census};
pub use core::Core;
pub use dump::{DumpError, DumpHead, DumpReader};
pub use export::{ExportError, ExportPart, Exports};
pub use fsck::{FsckFinding, FsckReport, FsckScope, run_fsck};
pub use gc::{GcHandle, GcPart, GcReport, collector};
pub use progress::{JobProgress, JobStatus};
pub use read::{Opened, Reader};
pub use run_store::{MetadataRunWriter, MetadataRuns};
