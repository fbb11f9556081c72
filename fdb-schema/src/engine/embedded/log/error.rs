//! Why the log refused.

/// Why the log could not do what it was asked, by what the caller must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogError {
    /// Fewer healthy drives than a log set needs: refuse writes, serve reads, offer drives with `set_drives`.
    ReadOnly,
    /// No room for the log on enough drives: refuse writes until there is; nothing was written.
    NoSpace,
    /// The record is longer than [`super::RECORD_MAX_BYTES`]: a bug of the caller; nothing was written.
    TooLarge,
    /// Records that were acknowledged cannot be read from any member: refuse to start and say this.
    Damaged {
        /// What is missing, and where it should be.
        what: String,
    },
    /// A later version of this program wrote the log: start that one.
    FutureVersion {
        /// The drive.
        label: String,
        /// The version of its term file.
        version: u32,
    },
    /// The log's task has ended; the outcome of what was asked is unknown. Restart.
    Stopped,
}

impl std::fmt::Display for LogError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LogError::ReadOnly => f.write_str("too few healthy drives to log metadata"),
            LogError::NoSpace => f.write_str("no room for the metadata log"),
            LogError::TooLarge => f.write_str("the record is longer than a log record may be"),
            LogError::Damaged { what } => write!(f, "the metadata log is damaged: {what}"),
            LogError::FutureVersion { label, version } => write!(
                f,
                "the metadata log on {label} was written by a later version of basalt (log version {version}): start \
                 that version"
            ),
            LogError::Stopped => f.write_str("the metadata log has stopped"),
        }
    }
}

impl std::error::Error for LogError {}
