//! What the store needs of metadata: volume records, owners and garbage, each call one transaction.
//! Invariants: a method that returns `Ok` is durable; none is called on the path of a GET.
//! Not here: an implementation. `server` joins this trait to `fdb-schema`.

use std::future::Future;

use shardstore_format::{DataId, DriveId, Extent, VolumeClass, VolumeId, VolumeRecord};

use crate::put::Evidence;

/// Why a catalog call failed, by what the store must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogError {
    /// Contention or load: try again later.
    Retry,
    /// Writes of metadata are refused: too few healthy drives.
    ReadOnly,
    /// Metadata is damaged or stopped: the sentence goes to the operator.
    Failed(String),
}

impl std::fmt::Display for CatalogError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CatalogError::Retry => f.write_str("metadata is busy"),
            CatalogError::ReadOnly => f.write_str("metadata is read-only"),
            CatalogError::Failed(what) => write!(f, "metadata failed: {what}"),
        }
    }
}

impl std::error::Error for CatalogError {}

/// An owner row: the extent that begins at a place in a volume, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerRow {
    /// Where; the row's key is (volume, sector, byte in stripe).
    pub extent: Extent,
    /// Whose bytes.
    pub data_id: DataId,
}

/// A volume with what decides its reclaim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeUsage {
    /// The record.
    pub record: VolumeRecord,
    /// Live bytes: the sum of its owners' lengths.
    pub live_bytes: i64,
}

/// One core's access to the catalog.
pub trait Catalog: Clone + 'static {
    /// Takes `count` volume ids from the counter, committed before they are used; returns the first.
    fn allocate_volume_ids(&self, count: u64) -> impl Future<Output = Result<VolumeId, CatalogError>>;
    /// The counter's next value: ids at or above it were never given out.
    fn next_volume_id(&self) -> impl Future<Output = Result<VolumeId, CatalogError>>;
    /// Commits the record of a new, open volume.
    fn create_volume(&self, record: &VolumeRecord) -> impl Future<Output = Result<(), CatalogError>>;
    /// Seals a volume; a no-op if it is sealed already.
    fn seal_volume(
        &self,
        volume: VolumeId,
        end_sector: u32,
    ) -> impl Future<Output = Result<(), CatalogError>>;
    /// One volume's record.
    fn volume(&self, volume: VolumeId) -> impl Future<Output = Result<Option<VolumeRecord>, CatalogError>>;
    /// Volumes with ids from `from` up, at most `limit`, in order.
    fn volumes(
        &self,
        from: VolumeId,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<VolumeUsage>, CatalogError>>;
    /// The owner row with the highest place in the volume.
    fn last_owner(&self, volume: VolumeId) -> impl Future<Output = Result<Option<OwnerRow>, CatalogError>>;
    /// Owner rows of a volume whose place is (`sector`, `byte`) or after it, in order, at most `limit`.
    fn owners(
        &self,
        volume: VolumeId,
        from: (u32, u32),
        limit: usize,
    ) -> impl Future<Output = Result<Vec<OwnerRow>, CatalogError>>;
    /// Says that bytes lie elsewhere now: in the data records, the owner rows and the live bytes, in one transaction. A
    /// move whose owner row changed or went since is left out. Returns how many were made.
    fn relocate(&self, moves: Vec<(OwnerRow, Evidence)>)
    -> impl Future<Output = Result<usize, CatalogError>>;
    /// Says that a shard of a sealed volume, metadata runs included, lies on `to` from now on, if it lies on `from`
    /// now; false if it does not, or the volume is gone.
    fn move_shard(
        &self,
        volume: VolumeId,
        class: VolumeClass,
        shard: u8,
        from: DriveId,
        to: DriveId,
    ) -> impl Future<Output = Result<bool, CatalogError>>;
    /// What [`Catalog::set_upkeep_mark`] kept under a name.
    fn upkeep_mark(&self, name: &'static str) -> impl Future<Output = Result<Option<Vec<u8>>, CatalogError>>;
    /// Keeps a few bytes under a name: how far background work came.
    fn set_upkeep_mark(
        &self,
        name: &'static str,
        mark: Vec<u8>,
    ) -> impl Future<Output = Result<(), CatalogError>>;
    /// The transaction of reclaim: if the volume is sealed, has no live bytes and no owner row, marks it
    /// `Reclaimed` and returns true.
    fn reclaim_volume(&self, volume: VolumeId) -> impl Future<Output = Result<bool, CatalogError>>;
    /// Removes the record of a reclaimed volume whose files are gone.
    fn forget_volume(&self, volume: VolumeId) -> impl Future<Output = Result<(), CatalogError>>;
    /// Data ids waiting to be swept, oldest first.
    fn garbage(&self, limit: usize) -> impl Future<Output = Result<Vec<DataId>, CatalogError>>;
    /// One bounded, idempotent step of sweeping `data_id`: removes some owner rows, lowers live bytes. True when
    /// the data id is gone for good.
    fn sweep(&self, data_id: DataId) -> impl Future<Output = Result<bool, CatalogError>>;
}
