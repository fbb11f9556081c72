//! The catalog as a map in memory: what the store asks of metadata, with delays, refusals and crashes.
//! Invariants: what a call committed survives a crash of the simulated machine; a commit into a volume that was
//! reclaimed, and owners that overlap, are bugs of the store and panic.
//! Not here: names of objects (`world`).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use shardstore::{Catalog, CatalogError, Evidence, OwnerRow, VolumeUsage};
use shardstore_format::{
    DataId, DriveId, Durable, Extent, Layout, VolumeClass, VolumeId, VolumeRecord, VolumeState,
};
use shardstore_reactor::Executor;
use shardstore_sim::SimExecutor;

/// Rows of the catalog, shared by all cores and kept over crashes.
#[derive(Default)]
pub(crate) struct Rows {
    next_volume: u64,
    volumes: BTreeMap<VolumeId, (VolumeRecord, i64)>,
    owners: BTreeMap<(VolumeId, u32, u32), OwnerRow>,
    data: BTreeMap<DataId, Vec<Extent>>,
    garbage: BTreeSet<DataId>,
    /// Volumes of metadata runs, which the manifest would name.
    pub(crate) runs: Vec<VolumeRecord>,
    marks: BTreeMap<&'static str, Vec<u8>>,
}

#[derive(Clone)]
pub(crate) struct MemoryCatalog<X = SimExecutor> {
    pub(crate) rows: Rc<RefCell<Rows>>,
    executor: X,
    retries_per_mille: Rc<Cell<u16>>,
    stalls: Rc<Cell<bool>>,
    is_read_only: Rc<Cell<bool>>,
}

impl<X: Executor> MemoryCatalog<X> {
    pub(crate) fn new(rows: &Rc<RefCell<Rows>>, executor: X) -> MemoryCatalog<X> {
        MemoryCatalog {
            rows: Rc::clone(rows),
            executor,
            retries_per_mille: Rc::default(),
            stalls: Rc::default(),
            is_read_only: Rc::default(),
        }
    }

    pub(crate) fn refuse_some(&self, per_mille: u16) {
        self.retries_per_mille.set(per_mille);
    }

    /// Nothing is answered from now on, as while the metadata log waits for drives.
    pub(crate) fn stall(&self) {
        self.stalls.set(true);
    }

    /// Ends [`MemoryCatalog::stall`].
    pub(crate) fn go_on(&self) {
        self.stalls.set(false);
    }

    /// What changes something is refused, as while too few drives take the metadata log.
    pub(crate) fn set_read_only(&self, is_read_only: bool) {
        self.is_read_only.set(is_read_only);
    }

    async fn transaction<T>(&self, change: impl FnOnce(&mut Rows) -> T) -> Result<T, CatalogError> {
        self.delay().await;
        if self.is_read_only.get() {
            return Err(CatalogError::ReadOnly);
        }
        self.run(change).await
    }

    async fn read<T>(&self, look: impl FnOnce(&mut Rows) -> T) -> Result<T, CatalogError> {
        self.delay().await;
        self.run(look).await
    }

    async fn run<T>(&self, change: impl FnOnce(&mut Rows) -> T) -> Result<T, CatalogError> {
        if self.executor.random_u64() % 1000 < u64::from(self.retries_per_mille.get()) {
            return Err(CatalogError::Retry);
        }
        let result = change(&mut self.rows.borrow_mut());
        self.delay().await;
        Ok(result)
    }

    async fn delay(&self) {
        while self.stalls.get() {
            self.executor.sleep(Duration::from_millis(1)).await;
        }
        self.executor.sleep(Duration::from_micros(self.executor.random_u64() % 200)).await;
    }

    /// The commit of an object: owner rows and live bytes, in one step.
    pub(crate) async fn commit(&self, data_id: DataId, extents: &[Extent]) {
        self.delay().await;
        let mut rows = self.rows.borrow_mut();
        for extent in extents {
            let (record, live) =
                rows.volumes.get_mut(&extent.volume).expect("an owner's volume has a record");
            assert_ne!(record.state, VolumeState::Reclaimed, "a commit into a reclaimed volume");
            let end = Layout::of_extent(extent, record.profile.k).end_sector().expect("a sane extent");
            if let VolumeState::Sealed { end_sector } = record.state {
                assert!(end <= end_sector, "an extent past the end of its sealed volume");
            }
            *live += i64::try_from(extent.len_bytes).expect("lengths are small");
            let key = (extent.volume, extent.sector, extent.byte_in_stripe);
            let before = rows.owners.insert(key, OwnerRow { extent: *extent, data_id });
            assert_eq!(before, None, "two owners of one place");
        }
        rows.data.insert(data_id, extents.to_vec());
    }

    /// The commit of a delete: the data id becomes garbage.
    pub(crate) async fn delete(&self, data_id: DataId) {
        self.delay().await;
        let mut rows = self.rows.borrow_mut();
        assert!(rows.data.contains_key(&data_id));
        rows.garbage.insert(data_id);
    }

    pub(crate) fn executor(&self) -> &X {
        &self.executor
    }

    pub(crate) fn volume_count(&self) -> usize {
        self.rows.borrow().volumes.len()
    }

    /// Every data id becomes garbage, also those whose put was never acknowledged.
    pub(crate) fn delete_all(&self) {
        let mut rows = self.rows.borrow_mut();
        rows.garbage = rows.data.keys().copied().collect();
    }

    /// Volumes that metadata still calls open: their seal was refused.
    pub(crate) fn open_volumes(&self) -> usize {
        let rows = self.rows.borrow();
        rows.volumes.values().filter(|(record, _)| record.state == VolumeState::Open).count()
    }

    /// Where the bytes of a data id lie now.
    pub(crate) fn extents_of(&self, data_id: DataId) -> Vec<Extent> {
        self.rows.borrow().data.get(&data_id).cloned().unwrap_or_default()
    }

    pub(crate) fn garbage_count(&self) -> usize {
        self.rows.borrow().garbage.len()
    }

    pub(crate) fn records(&self) -> Vec<VolumeRecord> {
        self.rows.borrow().volumes.values().map(|(record, _)| record.clone()).collect()
    }

    /// Metadata goes back in time: the counter as it was.
    pub(crate) fn set_next_volume(&self, next: u64) {
        self.rows.borrow_mut().next_volume = next;
    }

    pub(crate) fn forget_record(&self, volume: VolumeId) {
        self.rows.borrow_mut().volumes.remove(&volume);
    }
}

impl<X: Executor> Catalog for MemoryCatalog<X> {
    async fn allocate_volume_ids(&self, count: u64) -> Result<VolumeId, CatalogError> {
        self.transaction(|rows| {
            rows.next_volume += count;
            VolumeId(rows.next_volume - count)
        })
        .await
    }

    async fn next_volume_id(&self) -> Result<VolumeId, CatalogError> {
        self.read(|rows| VolumeId(rows.next_volume)).await
    }

    async fn create_volume(&self, record: &VolumeRecord) -> Result<(), CatalogError> {
        assert_eq!(VolumeRecord::decode(&record.encode()).as_ref(), Ok(record));
        self.transaction(|rows| {
            let before = rows.volumes.insert(record.id, (record.clone(), 0));
            assert!(before.is_none(), "a volume id was used twice");
        })
        .await
    }

    async fn seal_volume(&self, volume: VolumeId, end_sector: u32) -> Result<(), CatalogError> {
        self.transaction(|rows| {
            let (record, _) = rows.volumes.get_mut(&volume).expect("a volume that is sealed has a record");
            if record.state == VolumeState::Open {
                record.state = VolumeState::Sealed { end_sector };
            }
        })
        .await
    }

    async fn volume(&self, volume: VolumeId) -> Result<Option<VolumeRecord>, CatalogError> {
        self.read(|rows| rows.volumes.get(&volume).map(|(record, _)| record.clone())).await
    }

    async fn volumes(&self, from: VolumeId, limit: usize) -> Result<Vec<VolumeUsage>, CatalogError> {
        self.read(|rows| {
            let range = rows.volumes.range(from..).take(limit);
            range
                .map(|(_, (record, live))| VolumeUsage { record: record.clone(), live_bytes: *live })
                .collect()
        })
        .await
    }

    async fn last_owner(&self, volume: VolumeId) -> Result<Option<OwnerRow>, CatalogError> {
        self.read(|rows| {
            let range = (volume, 0, 0)..=(volume, u32::MAX, u32::MAX);
            rows.owners.range(range).next_back().map(|(_, row)| *row)
        })
        .await
    }

    async fn owners(
        &self,
        volume: VolumeId,
        from: (u32, u32),
        limit: usize,
    ) -> Result<Vec<OwnerRow>, CatalogError> {
        self.read(|rows| {
            let range = (volume, from.0, from.1)..=(volume, u32::MAX, u32::MAX);
            rows.owners.range(range).take(limit).map(|(_, row)| *row).collect()
        })
        .await
    }

    async fn relocate(&self, moves: Vec<(OwnerRow, Evidence)>) -> Result<usize, CatalogError> {
        let made = self
            .transaction(|rows| {
                let mut made = 0;
                for (owner, evidence) in &moves {
                    let key = |extent: &Extent| (extent.volume, extent.sector, extent.byte_in_stripe);
                    if rows.owners.get(&key(&owner.extent)) != Some(owner) {
                        continue;
                    }
                    let extents = rows.data.get_mut(&owner.data_id).expect("an owner has data");
                    let place = extents.iter().position(|extent| *extent == owner.extent).unwrap();
                    extents.splice(place..=place, evidence.extents().iter().copied());
                    rows.owners.remove(&key(&owner.extent));
                    let live = |bytes: u64| i64::try_from(bytes).unwrap();
                    rows.volumes.get_mut(&owner.extent.volume).unwrap().1 -= live(owner.extent.len_bytes);
                    for extent in evidence.extents() {
                        let row = OwnerRow { extent: *extent, data_id: owner.data_id };
                        assert_eq!(rows.owners.insert(key(extent), row), None, "two owners of one place");
                        let (record, bytes) = rows.volumes.get_mut(&extent.volume).expect("a record");
                        assert_ne!(record.state, VolumeState::Reclaimed, "a move into a reclaimed volume");
                        *bytes += live(extent.len_bytes);
                    }
                    made += 1;
                }
                made
            })
            .await;
        drop(moves);
        made
    }

    async fn move_shard(
        &self,
        volume: VolumeId,
        class: VolumeClass,
        shard: u8,
        from: DriveId,
        to: DriveId,
    ) -> Result<bool, CatalogError> {
        self.transaction(|rows| {
            let record = match class {
                VolumeClass::Run => rows.runs.iter_mut().find(|record| record.id == volume),
                VolumeClass::Packed | VolumeClass::Large => {
                    rows.volumes.get_mut(&volume).map(|(record, _)| record)
                }
            };
            let Some(record) = record else { return false };
            let is_sealed = matches!(record.state, VolumeState::Sealed { .. });
            assert!(!record.segments.contains(&to), "two shards of a volume on one drive");
            let segment = &mut record.segments[usize::from(shard)];
            let is_moved = is_sealed && *segment == from;
            if is_moved {
                *segment = to;
            }
            is_moved
        })
        .await
    }

    async fn upkeep_mark(&self, name: &'static str) -> Result<Option<Vec<u8>>, CatalogError> {
        self.read(|rows| rows.marks.get(name).cloned()).await
    }

    async fn set_upkeep_mark(&self, name: &'static str, mark: Vec<u8>) -> Result<(), CatalogError> {
        self.transaction(|rows| {
            rows.marks.insert(name, mark);
        })
        .await
    }

    async fn reclaim_volume(&self, volume: VolumeId) -> Result<bool, CatalogError> {
        self.transaction(|rows| {
            let has_owner = rows.owners.range((volume, 0, 0)..=(volume, u32::MAX, u32::MAX)).next().is_some();
            let Some((record, live)) = rows.volumes.get_mut(&volume) else { return false };
            let is_sealed = matches!(record.state, VolumeState::Sealed { .. });
            if !is_sealed || *live != 0 || has_owner {
                return false;
            }
            record.state = VolumeState::Reclaimed;
            true
        })
        .await
    }

    async fn forget_volume(&self, volume: VolumeId) -> Result<(), CatalogError> {
        self.transaction(|rows| {
            if let Some((record, _)) = rows.volumes.remove(&volume) {
                assert_eq!(record.state, VolumeState::Reclaimed);
            }
        })
        .await
    }

    async fn garbage(&self, limit: usize) -> Result<Vec<DataId>, CatalogError> {
        self.read(|rows| rows.garbage.iter().take(limit).copied().collect()).await
    }

    async fn sweep(&self, data_id: DataId) -> Result<bool, CatalogError> {
        self.transaction(|rows| {
            let Some(extents) = rows.data.get_mut(&data_id) else { return true };
            // Two owners a step, so that sweeps take several.
            for extent in extents.split_off(extents.len().saturating_sub(2)) {
                rows.owners
                    .remove(&(extent.volume, extent.sector, extent.byte_in_stripe))
                    .expect("its owner row");
                let (_, live) = rows.volumes.get_mut(&extent.volume).expect("live bytes keep the record");
                *live -= i64::try_from(extent.len_bytes).expect("lengths are small");
            }
            if !extents.is_empty() {
                return false;
            }
            rows.data.remove(&data_id);
            rows.garbage.remove(&data_id);
            true
        })
        .await
    }
}
