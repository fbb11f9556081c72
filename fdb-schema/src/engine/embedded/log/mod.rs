//! The metadata log: every commit, on every member of the log set, before it is acknowledged.
//! Invariants: an acknowledged record is on all members of its term, and a term has m + 1 members, so it outlives the
//! loss of any m drives; sequence numbers increase by one and are never used for two payloads that could both be
//! read; a term is changed in this order: log on the new members, term on the members, term on the other drives, next
//! acknowledgement; what `open` returns is durable under a new term first.
//! Not here: what the records mean (`embedded`), which drives make up the pool and how many may be missing (`server`).
//! Bytes: `format` (files, heads, records) and `term` (the term file); drawn in docs/format.md.

mod error;
mod format;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod open;
mod reader;
mod replica;
mod slot;
mod term;
mod term_change;
#[cfg(test)]
mod tests;
mod writer;

pub use error::LogError;
pub use format::RECORD_MAX_BYTES;
pub(crate) use open::IfLost;
pub use open::{LogRecord, Recovered};
pub use writer::Log;
