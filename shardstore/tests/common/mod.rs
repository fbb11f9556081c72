//! A simulated machine with a store on it: drives, cores, a catalog and the names that users see.
//! Invariants: what the model holds was acknowledged; everything comes from one seed.
//! Not here: what is tested (the files beside this folder).
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    dead_code,
    reason = "shared by several test files"
)]

pub(crate) mod catalog;
pub(crate) mod census;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use shardstore::{
    Media, OpenError, Pool, PoolOptions, PutError, ReadError, RecoverError, Store, StoreOptions, StoreShared,
    open_pool,
};
use shardstore_format::{DataId, Durable, Extent, Profile, WriterId};
use shardstore_reactor::{BufPool, Drive};
use shardstore_sim::{Sim, SimDrive, SimExecutor};

use catalog::{MemoryCatalog, Rows};

pub(crate) type TestStore = Store<SimDrive, SimExecutor, MemoryCatalog>;

pub(crate) const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
pub(crate) const STEP_BYTES: u64 = 256 * 1024;

/// What the catalog's data record of an object says.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) data_id: DataId,
    pub(crate) extents: Vec<(Extent, Option<u32>)>,
    pub(crate) len: u64,
    /// Seed of its bytes.
    pub(crate) content: u64,
}

/// The machine.
pub(crate) struct World {
    pub(crate) sim: Sim,
    pub(crate) drives: Vec<SimDrive>,
    pub(crate) rows: Rc<RefCell<Rows>>,
    pub(crate) redundancy: Option<Profile>,
    next_data_id: Rc<Cell<u64>>,
    pub(crate) segment_bytes: u64,
    pub(crate) step_bytes: u64,
}

/// One run of the process.
#[derive(Clone)]
pub(crate) struct Process {
    pub(crate) shared: Arc<StoreShared>,
    /// One store a core.
    pub(crate) cores: Vec<TestStore>,
    pub(crate) catalog: MemoryCatalog,
    next_data_id: Rc<Cell<u64>>,
}

impl World {
    pub(crate) fn new(seed: u64, drives: usize, redundancy: Option<Profile>) -> World {
        let sim = Sim::new(seed);
        let drives = (0..drives).map(|index| sim.drive(&format!("/d{index}"), 1 << 30)).collect();
        World {
            sim,
            drives,
            rows: Rc::default(),
            redundancy,
            next_data_id: Rc::default(),
            segment_bytes: SEGMENT_BYTES,
            step_bytes: STEP_BYTES,
        }
    }

    pub(crate) fn executor(&self) -> SimExecutor {
        self.sim.executor()
    }

    pub(crate) async fn open_pool(&self) -> Result<Pool<SimDrive>, OpenError> {
        let options = PoolOptions { redundancy: self.redundancy, ..PoolOptions::default() };
        open_pool(self.drives.clone(), options, &self.executor()).await
    }

    pub(crate) fn options(&self, cores: usize) -> StoreOptions {
        let mut options = StoreOptions::new(BufPool::new(512 << 20), 8 << 20, cores);
        options.segment_bytes = self.segment_bytes;
        options.growth_step_bytes = self.step_bytes;
        options
    }

    /// Starts the process on what the drives hold.
    pub(crate) async fn start(&self, cores: usize) -> Process {
        self.try_start(cores).await.unwrap()
    }

    /// As [`World::start`], for starts that should be refused.
    pub(crate) async fn try_start(&self, cores: usize) -> Result<Process, RecoverError> {
        self.start_with(cores, MemoryCatalog::new(&self.rows, self.executor())).await
    }

    /// As [`World::try_start`], on a catalog that the test has prepared.
    pub(crate) async fn start_with(
        &self,
        cores: usize,
        catalog: MemoryCatalog,
    ) -> Result<Process, RecoverError> {
        let pool = self.open_pool().await.unwrap();
        let shared = StoreShared::new(&pool, self.options(cores));
        let core = |index| {
            let media = Media::new(Arc::clone(&shared), &pool, self.executor(), index);
            Store::new(&media, catalog.clone())
        };
        let cores: Vec<TestStore> = (0..cores).map(core).collect();
        let runs = self.rows.borrow().runs.clone();
        cores[0].recover(&runs).await?;
        Ok(Process { shared, cores, catalog, next_data_id: Rc::clone(&self.next_data_id) })
    }

    /// Power loss; the next [`World::start`] finds what was durable.
    pub(crate) fn crash(&mut self) {
        self.sim.crash();
        self.drives = self.drives.iter().map(SimDrive::reopen).collect();
    }

    /// `kill -9`: what was written stays.
    pub(crate) fn kill(&mut self) {
        self.sim.kill_process();
        self.drives = self.drives.iter().map(SimDrive::reopen).collect();
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        let spaces = self.drives.iter().map(|drive| self.sim.block_on(drive.space()).unwrap());
        spaces.map(|space| space.total_bytes - space.free_bytes).sum()
    }
}

/// The bytes of an object: a random pattern whose period, a prime, fits no page or sector.
pub(crate) fn content(seed: u64, len: u64) -> Vec<u8> {
    let mut pattern = vec![0; 4099];
    fastrand::Rng::with_seed(seed ^ 0x5eed).fill(&mut pattern);
    let mut bytes = pattern.repeat(len as usize / pattern.len() + 1);
    bytes.truncate(len as usize);
    bytes
}

impl Process {
    pub(crate) fn store(&self) -> &TestStore {
        &self.cores[0]
    }

    /// Puts an object on a core and commits it; the body comes in pieces of `piece` bytes.
    pub(crate) async fn put_on(
        &self,
        core: usize,
        seed: u64,
        len: u64,
        hint: Option<u64>,
        piece: usize,
    ) -> Result<Stored, PutError> {
        let mut writer = self.cores[core].put(hint)?;
        for part in content(seed, len).chunks(piece.max(1)) {
            writer.write(part).await?;
        }
        let evidence = writer.finish().await?;
        let data_id = DataId { writer: WriterId(1), counter: self.next_data_id.get() };
        self.next_data_id.set(data_id.counter + 1);
        self.catalog.commit(data_id, evidence.extents()).await;
        let total: u64 = evidence.extents().iter().map(|extent| extent.len_bytes).sum();
        assert_eq!(total, len);
        let crc = evidence.crc32c();
        let extents = evidence.extents().iter().map(|extent| (*extent, crc)).collect();
        Ok(Stored { data_id, extents, len, content: seed })
    }

    pub(crate) async fn put(&self, seed: u64, len: u64) -> Result<Stored, PutError> {
        self.put_on(0, seed, len, Some(len), 100_000).await
    }

    pub(crate) async fn get_on(
        &self,
        core: usize,
        stored: &Stored,
        range: Range<u64>,
    ) -> Result<Vec<u8>, ReadError> {
        let mut reader = self.cores[core].open_read(stored.extents.clone(), range);
        let mut bytes = Vec::new();
        while let Some(parts) = reader.next().await {
            for part in parts? {
                assert!(!part.is_empty());
                bytes.extend_from_slice(&part);
            }
        }
        Ok(bytes)
    }

    pub(crate) async fn get(&self, stored: &Stored) -> Result<Vec<u8>, ReadError> {
        self.get_on(0, stored, 0..stored.len).await
    }

    /// Reads an object whole and compares.
    pub(crate) async fn check(&self, stored: &Stored) {
        let bytes = self.get(stored).await;
        let bytes = bytes.unwrap_or_else(|error| panic!("{error} reading {stored:?}"));
        assert!(bytes == content(stored.content, stored.len), "wrong bytes of {stored:?}");
    }
}

/// Objects by name, as acknowledged.
pub(crate) type Model = BTreeMap<u32, Stored>;
