//! Why the tree could not answer.
//! Invariants: damage names the run's volume and the payload offset; a damaged row is never served.

use shardstore_format::VolumeId;

use crate::run_store::RunError;

/// Why a read, a flush or a compaction failed.
#[derive(Debug)]
pub enum TreeError {
    /// Bytes of a run passed the store's own checks and are wrong all the same: report; never serve.
    Damaged {
        /// The run's volume.
        volume: VolumeId,
        /// Payload offset of the part that is wrong.
        offset_bytes: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// The store could not read or write: its variant says what to do.
    Store(RunError),
}

impl From<RunError> for TreeError {
    fn from(source: RunError) -> TreeError {
        TreeError::Store(source)
    }
}

impl std::fmt::Display for TreeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TreeError::Damaged { volume, offset_bytes, what } => {
                write!(f, "metadata run in volume {} is damaged at byte {offset_bytes}: {what}", volume.0)
            }
            TreeError::Store(source) => write!(f, "{source}"),
        }
    }
}

impl std::error::Error for TreeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TreeError::Damaged { .. } => None,
            TreeError::Store(source) => Some(source),
        }
    }
}
