//! Limits of the embedded engine, each with its arithmetic.
//! Invariants: the defaults bound memory to three memtables and start-up to a replay of 64 MiB; tests lower them.

use std::time::Duration;

use super::log::IfLost;

/// Log bytes at which the memtable is frozen: while it is flushed the next one may log as much, so start-up replays at
/// most twice this, 64 MiB.
pub const FREEZE_LOG_BYTES: u64 = 32 * 1024 * 1024;
/// Memory at which the memtable is frozen. With the frozen one, and the one kept for five seconds to check conflicts
/// against, that is 3 x 192 MiB at most, and 3 x 50 MiB with rows of 300 bytes.
pub const FREEZE_MEMORY_BYTES: usize = 192 * 1024 * 1024;
/// Bytes of one log record after which no further commit joins it: 1 MiB is some 10 ms of a slow drive.
pub(crate) const RECORD_TARGET_BYTES: usize = 1024 * 1024;
/// Commits in one log record: each takes some 10 us to check and apply, so a record holds the core for 5 ms at most.
pub(crate) const RECORD_COMMITS_MAX: usize = 512;
/// Commits that wait: 8,192 at 30,000 a second are answered within 300 ms.
pub const QUEUED_COMMITS_MAX: usize = 8_192;
/// Bytes of commits that wait.
pub const QUEUED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Volume ids reserved at a time: one commit for every 16 runs.
pub(crate) const VOLUME_IDS_RESERVED: u64 = 16;
/// Rows passed by a range read before it lets others run: about 1 ms.
pub(crate) const ROWS_BETWEEN_YIELDS: usize = 10_000;
/// Wait before a failed flush or compaction is tried again.
pub(crate) const RETRY_DELAY: Duration = Duration::from_secs(1);

/// What differs between deployments and tests.
#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    /// Members of the log: m + 1 drives, m the largest parity of any class.
    pub log_members: usize,
    /// The key of the volume counter: an 8-byte little-endian integer, the lowest id never given out; absent is 0.
    pub volume_counter_key: Vec<u8>,
    /// What is done about a log that is on no drive any more: [`EmbeddedConfig::begin_anew`].
    pub(crate) if_lost: IfLost,
    /// See [`FREEZE_LOG_BYTES`].
    pub freeze_log_bytes: u64,
    /// See [`FREEZE_MEMORY_BYTES`].
    pub freeze_memory_bytes: usize,
}

impl EmbeddedConfig {
    /// The defaults.
    pub fn new(log_members: usize, volume_counter_key: Vec<u8>) -> EmbeddedConfig {
        EmbeddedConfig {
            log_members,
            volume_counter_key,
            if_lost: IfLost::Refuse,
            freeze_log_bytes: FREEZE_LOG_BYTES,
            freeze_memory_bytes: FREEZE_MEMORY_BYTES,
        }
    }
    /// Where no drive holds a record of the log any more, an empty one is begun instead of a refusal: for restoring
    /// from a dump. Where one does, opening is refused.
    #[must_use]
    pub fn begin_anew(mut self) -> EmbeddedConfig {
        self.if_lost = IfLost::BeginAnew;
        self
    }
}
