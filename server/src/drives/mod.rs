//! The pool's drives while the process runs: those that go and come back, join, are drained, replaced or removed.
//! Invariants: one thread decides; a change of members is durable in metadata before a drive hears of it; cores only
//! follow, each opening its own handles.
//! Not here: moving what lies on a drive (`shardstore` repair), the start (`startup`), the admin API's wire form.

mod forget;
mod keeper;
mod requests;
mod set;

pub use keeper::{Keeper, KeeperParts};
pub use requests::{DriveHandle, DriveReport, DriveRequest, RequestError};
pub use set::{DriveSet, LogChanges, follow_drives, log_changes};
