//! The embedded engine: a log-structured merge tree on the drives that hold the data.
//! Invariants: a commit is answered after its log record is durable on every member; reads run on the core that asks and
//! never wait for a commit; memory is three memtables and the runs' indexes.
//! Parts: `handle` (a core), `commit` and `core` (the metadata thread), `maintain` (flush and compaction), `log`, `tree`.

mod commit;
mod config;
mod core;
mod handle;
pub mod log;
mod maintain;
mod memtable;
mod open;
mod pace;
mod record;
mod request;
pub mod testing;
#[cfg(test)]
mod tests;
pub mod tree;
mod view;

pub use config::{
    EmbeddedConfig, FREEZE_LOG_BYTES, FREEZE_MEMORY_BYTES, QUEUED_BYTES_MAX, QUEUED_COMMITS_MAX,
};
pub use core::{EmbeddedCore, LogDrives};
pub use handle::{Embedded, EmbeddedFactory, EmbeddedSnapshot};
pub use log::LogError;
pub use open::{OpenError, OpenReport, Opened, look, open};
pub use tree::{ManifestError, TreeError, block_reads_of_thread};
pub use view::EmbeddedStats;
