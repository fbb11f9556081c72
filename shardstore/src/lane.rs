//! Lanes: the append points of a core. New bytes and bytes that compaction moves do not share volumes, so that what lived
//! long stays together and is moved seldom.
//! Invariants: a lane has at most one current and one prepared volume on a core.
//! Not here: appending (`append`).

use shardstore_format::VolumeClass;

use crate::place::Room;

/// One append point of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Small objects as they come.
    Packed,
    /// Large ones as they come.
    Large,
    /// Small extents that compaction moves.
    MovedPacked,
    /// Large extents that compaction moves.
    MovedLarge,
}

impl Lane {
    pub(crate) const ALL: [Lane; 4] = [Lane::Packed, Lane::Large, Lane::MovedPacked, Lane::MovedLarge];

    /// The class of its volumes.
    pub(crate) fn class(self) -> VolumeClass {
        match self {
            Lane::Packed | Lane::MovedPacked => VolumeClass::Packed,
            Lane::Large | Lane::MovedLarge => VolumeClass::Large,
        }
    }

    /// What of the drives' room it may take.
    pub(crate) fn room(self) -> Room {
        match self {
            Lane::Packed | Lane::Large => Room::AboveReserve,
            Lane::MovedPacked | Lane::MovedLarge => Room::ForMoves,
        }
    }

    /// Its place among all lanes.
    pub(crate) fn index(self) -> usize {
        match self {
            Lane::Packed => 0,
            Lane::Large => 1,
            Lane::MovedPacked => 2,
            Lane::MovedLarge => 3,
        }
    }
}
