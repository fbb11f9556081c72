//! Server access logs: what buckets are asked for, recorded in AWS's format and delivered as objects of other buckets.
//! Invariants: a bucket without logging costs its requests one branch and no allocation; records wait in memory that
//! is bounded, and what does not fit is dropped and counted; a delivery makes no record, so no log feeds itself.
//! Not here: the configuration (`config::logging`), which requests are recorded (`handlers::logging`). Operators:
//! docs/access-logs.md.

mod buffer;
mod delivery;
mod line;
mod names;
mod note;
mod rights;

pub use buffer::AccessLog;
pub use delivery::Delivery;
pub use line::{Exchange, Record};
pub use names::{operation_name, site_operation_name};
pub use note::{BatchDelete, RequestNote, Source, Subject};
