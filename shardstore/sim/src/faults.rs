//! Probabilities of a drive's misbehaviour.
//! Invariants: all zero by default; each is rolled once per operation, with the drive's own seeded generator.

/// Chances per mille, per operation, that a drive misbehaves. Zero is a perfect drive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A read fails with EIO; the next may succeed.
    pub read_error_per_mille: u16,
    /// A durable write fails with EIO after any subset of its sectors landed; this fences the drive.
    pub write_error_per_mille: u16,
    /// Opening, renaming, removing, syncing and the like fail with EIO and do nothing; a failed `sync` or
    /// `sync_dir` fences the drive.
    pub meta_error_per_mille: u16,
    /// A write or an allocation that takes new room is told that there is none.
    pub no_space_per_mille: u16,
    /// A durable write is acknowledged, and one bit of what was stored is wrong.
    pub bit_flip_per_mille: u16,
    /// A durable write is acknowledged, and landed at another place of the same drive.
    pub misdirected_write_per_mille: u16,
    /// A durable write is acknowledged, and landed nowhere.
    pub lost_write_per_mille: u16,
    /// An operation takes a hundred times as long.
    pub stall_per_mille: u16,
}
