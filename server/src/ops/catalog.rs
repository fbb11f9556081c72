//! The store's catalog over the metadata: `shardstore::Catalog`, each call one transaction of `fdb-schema`.
//! Invariants: what can pass is `Retry`; what cannot is a sentence.
//! Not here: the transactions (`fdb_schema::schema`).

use fdb_schema::schema::{Failure, Metadata};
use fdb_schema::{Engine, EngineError, ShardMove};
use shardstore::{Catalog, CatalogError, Evidence, OwnerRow, VolumeUsage};
use shardstore_format::{DataId, DriveId, VolumeClass, VolumeId, VolumeRecord};
use shardstore_reactor::Executor;

/// One core's catalog.
pub struct StoreCatalog<E: Engine, X: Executor>(Metadata<E, X>);

impl<E: Engine, X: Executor> StoreCatalog<E, X> {
    /// The catalog in this metadata.
    pub fn new(metadata: Metadata<E, X>) -> StoreCatalog<E, X> {
        StoreCatalog(metadata)
    }
}

impl<E: Engine, X: Executor> Clone for StoreCatalog<E, X> {
    fn clone(&self) -> StoreCatalog<E, X> {
        StoreCatalog(self.0.clone())
    }
}

fn catalog_error(failure: Failure) -> CatalogError {
    match failure {
        Failure::Engine(error) => match error {
            EngineError::Conflict
            | EngineError::TooOld
            | EngineError::CommitUnknown
            | EngineError::Overloaded => CatalogError::Retry,
            EngineError::ReadOnly => CatalogError::ReadOnly,
            EngineError::TooLarge | EngineError::Damaged(_) | EngineError::Stopped => {
                CatalogError::Failed(error.to_string())
            }
        },
        Failure::Refused(refusal) => CatalogError::Failed(format!("{refusal:?}")),
    }
}

impl<E: Engine, X: Executor> Catalog for StoreCatalog<E, X> {
    async fn allocate_volume_ids(&self, count: u64) -> Result<VolumeId, CatalogError> {
        self.0.allocate_volume_ids(count).await.map_err(catalog_error)
    }

    async fn next_volume_id(&self) -> Result<VolumeId, CatalogError> {
        self.0.next_volume_id().await.map_err(catalog_error)
    }

    async fn create_volume(&self, record: &VolumeRecord) -> Result<(), CatalogError> {
        self.0.create_volume(record).await.map_err(catalog_error)
    }

    async fn seal_volume(&self, volume: VolumeId, end_sector: u32) -> Result<(), CatalogError> {
        self.0.seal_volume(volume, end_sector).await.map_err(catalog_error)
    }

    async fn volume(&self, volume: VolumeId) -> Result<Option<VolumeRecord>, CatalogError> {
        self.0.volume(volume).await.map_err(catalog_error)
    }

    async fn volumes(&self, from: VolumeId, limit: usize) -> Result<Vec<VolumeUsage>, CatalogError> {
        let volumes = self.0.volumes(from, limit).await.map_err(catalog_error)?;
        let usage = |volume: fdb_schema::schema::LiveVolume| VolumeUsage {
            record: volume.record,
            live_bytes: volume.live_bytes,
        };
        Ok(volumes.into_iter().map(usage).collect())
    }

    async fn last_owner(&self, volume: VolumeId) -> Result<Option<OwnerRow>, CatalogError> {
        let owner = self.0.last_owner(volume).await.map_err(catalog_error)?;
        Ok(owner.map(|owner| OwnerRow { extent: owner.extent, data_id: owner.data }))
    }

    async fn owners(
        &self,
        volume: VolumeId,
        from: (u32, u32),
        limit: usize,
    ) -> Result<Vec<OwnerRow>, CatalogError> {
        let owners = self.0.owners(volume, from, limit).await.map_err(catalog_error)?;
        let row = |owner: fdb_schema::schema::Owner| OwnerRow { extent: owner.extent, data_id: owner.data };
        Ok(owners.into_iter().map(row).collect())
    }

    async fn relocate(&self, moves: Vec<(OwnerRow, Evidence)>) -> Result<usize, CatalogError> {
        let owner = |row: OwnerRow| fdb_schema::schema::Owner { extent: row.extent, data: row.data_id };
        let moves = moves.into_iter().map(|(row, evidence)| (owner(row), evidence)).collect();
        self.0.relocate(moves).await.map_err(catalog_error)
    }

    async fn move_shard(
        &self,
        volume: VolumeId,
        class: VolumeClass,
        shard: u8,
        from: DriveId,
        to: DriveId,
    ) -> Result<bool, CatalogError> {
        let moved = ShardMove { volume, shard, from, to };
        match class {
            VolumeClass::Run => self.0.move_run_shard(moved).await.map_err(catalog_error),
            VolumeClass::Packed | VolumeClass::Large => self.0.move_shard(moved).await.map_err(catalog_error),
        }
    }

    async fn upkeep_mark(&self, name: &'static str) -> Result<Option<Vec<u8>>, CatalogError> {
        let mark = self.0.upkeep_mark(name).await.map_err(catalog_error)?;
        Ok(mark.map(|mark| mark.to_vec()))
    }

    async fn set_upkeep_mark(&self, name: &'static str, mark: Vec<u8>) -> Result<(), CatalogError> {
        self.0.set_upkeep_mark(name, &mark).await.map_err(catalog_error)
    }

    async fn reclaim_volume(&self, volume: VolumeId) -> Result<bool, CatalogError> {
        self.0.reclaim_volume(volume).await.map_err(catalog_error)
    }

    async fn forget_volume(&self, volume: VolumeId) -> Result<(), CatalogError> {
        self.0.forget_volume(volume).await.map_err(catalog_error)
    }

    async fn garbage(&self, limit: usize) -> Result<Vec<DataId>, CatalogError> {
        self.0.garbage(limit).await.map_err(catalog_error)
    }

    async fn sweep(&self, data_id: DataId) -> Result<bool, CatalogError> {
        self.0.sweep(data_id).await.map_err(catalog_error)
    }
}
