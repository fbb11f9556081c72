//! What a core sends to the metadata thread: a commit with everything that it takes to decide and log it.
//! Invariants: a request owns plain bytes and no closure; its part lacks only what is known at its turn: the version,
//! stamps, sums, and keys inserted into cleared ranges since its snapshot.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_channel::oneshot;

use super::record::Part;
use super::tree::{Compaction, Run};
use crate::engine::read_set::ReadSet;
use crate::engine::{EngineError, ShardMove, Versionstamp};

/// Where a sum goes, and what it is made of.
#[derive(Debug)]
pub(crate) struct AddPatch {
    /// The key, within the part.
    pub(crate) key: Range<usize>,
    /// Where the sum goes.
    pub(crate) sum_offset: usize,
    pub(crate) delta: i64,
    /// The value at the request's snapshot; it counts if no memtable has a newer one.
    pub(crate) base: Option<Bytes>,
}

/// A transaction that wants to commit.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) snapshot: u64,
    pub(crate) reads: ReadSet,
    pub(crate) part: Part,
    /// Offsets in the part where the versionstamp goes.
    pub(crate) stamps: Vec<usize>,
    pub(crate) adds: Vec<AddPatch>,
    /// Cleared ranges, for keys inserted since the snapshot.
    pub(crate) cleared: Vec<(Bytes, Bytes)>,
    /// Ranges declared as written.
    pub(crate) declared: Vec<(Bytes, Bytes)>,
    /// Neither paced nor refused: without it no flush can make room.
    pub(crate) urgent: bool,
    pub(crate) reply: oneshot::Sender<Result<Versionstamp, EngineError>>,
}

/// A change of the tree that is durable and wants to be named by the manifest.
pub(crate) enum Install {
    /// The frozen memtable is in this run; none if it held no rows.
    Flush(Option<Arc<Run>>),
    /// The inputs are in these runs.
    Compaction(Compaction, Vec<Arc<Run>>),
    /// A shard of a run lies on another drive.
    Move(ShardMove),
}

/// What the compaction task is told. It alone changes runs that the view holds, one change at a time.
pub(crate) enum Nudge {
    /// Something may be due.
    Look,
    /// A shard of a run was made anew.
    Move(ShardMove, oneshot::Sender<bool>),
}

/// What the metadata thread is told.
pub(crate) enum Message {
    Commit(Request),
    /// Answered with whether the manifest names it now.
    Install(Install, oneshot::Sender<bool>),
    /// A shard of a run was made anew; answered with whether the manifest says so now.
    Move(ShardMove, oneshot::Sender<bool>),
    /// A flush or compaction went on; commits may be waiting for that.
    Progress,
    Stop,
}
