//! Identities as newtypes, so that one cannot be taken for another.

/// A deployment: 128 random bits, made at first start, bound into every checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(pub u128);

/// A drive of a pool: 128 random bits, made when the drive is formatted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DriveId(pub u128);

/// A volume; from a metadata counter, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VolumeId(pub u64);

/// One core in one run of the process; from a metadata counter, committed before its first use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WriterId(pub u32);

/// An immutable byte sequence: its writer and that writer's own count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DataId {
    /// Who named it.
    pub writer: WriterId,
    /// The writer's count, from 0.
    pub counter: u64,
}
