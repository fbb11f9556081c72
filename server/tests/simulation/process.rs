//! One process on the simulated machine: put together as `server::startup` does it, below HTTP.
//! Invariants: the same parts in the same order as in the server; each simulated core has its own media, engine handle
//! and store, and shares what cores share.
//! Not here: threads, sockets, credentials.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fdb_schema::engine::embedded::{self, Embedded, EmbeddedConfig, EmbeddedFactory};
use fdb_schema::schema::{Metadata, Outcomes, volume_counter_key};
use server::keys::MasterKey;
use server::ops::api::{BucketName, NewBucket, OpError, Operations, Versioning};
use server::ops::{Admission, AdmissionLimits, Core, MetadataRuns, StoreCatalog};
use shardstore::{Media, Pool, PoolOptions, Store, StoreOptions, StoreShared, open_pool};
use shardstore_reactor::{BufPool, Executor};
use shardstore_sim::SimExecutor;

use crate::drive::TestDrive;
use crate::engine::TestEngine;
use crate::keeper::Keeper;
use crate::mutation::Mutation;
use crate::plan::Keeping;
use crate::runs::TestRuns;
use crate::world::World;

pub(crate) type Runs = TestRuns<MetadataRuns<TestDrive, SimExecutor>>;
pub(crate) type Engine = TestEngine<Embedded<Runs, SimExecutor>>;
pub(crate) type Ops = Core<TestDrive, Engine, SimExecutor>;

/// Buffers for everything: no seed comes near it.
const BUFS_BYTES: usize = 512 << 20;
/// A missing drive is waited for so long: short, so that repair happens within a life.
const REPAIR_DELAY: Duration = Duration::from_secs(20);

/// A running process.
pub(crate) struct Process {
    pub(crate) cores: Vec<Ops>,
    pub(crate) factory: EmbeddedFactory,
    pub(crate) keeper: Rc<Keeper>,
    pub(crate) shared: Arc<StoreShared>,
    /// Too few drives were there: no core can write before the next start.
    pub(crate) started_read_only: bool,
}

impl Process {
    /// Starts it. Panics if it does not start: no more than m drives are ever broken.
    pub(crate) async fn start(world: &Rc<World>) -> Process {
        let (plan, executor) = (&world.plan, &world.executor);
        let drives = world.drives.borrow().clone();
        let options = PoolOptions { redundancy: Some(plan.profile), set_aside: Vec::new() };
        let pool = open_pool(drives, options, executor).await;
        let pool = pool.unwrap_or_else(|error| panic!("the pool does not open: {error}"));
        let shared = StoreShared::new(&pool, store_options(world));
        let media = media_of(&shared, &pool, world, plan.cores);
        let runs = Runs::new(MetadataRuns::new(media.clone()), world.mutation);
        let log_drives =
            pool.members().iter().filter_map(|member| Some((member.id, member.drive.clone()?))).collect();
        let opened =
            embedded::open(engine_config(world), log_drives, pool.id(), runs, executor.clone(), bufs()).await;
        let (factory, commits, report) =
            opened.unwrap_or_else(|error| panic!("metadata does not open: {error}"));
        if report.writable {
            world.began_term();
        }
        let log = commits.log_drives();
        executor.spawn(commits.run());

        let keeper = Keeper::new(world, &shared, &pool, log, media_of(&shared, &pool, world, plan.cores + 1));
        keeper.follow(media);
        let mut cores = Vec::new();
        for index in 0..plan.cores {
            let core = start_core(world, &shared, &pool, &factory, &keeper, index).await;
            if index == 0 {
                let runs: Vec<_> = factory.run_volumes().into_iter().map(|run| run.record).collect();
                let recovered = core.store().recover(&runs).await;
                recovered.unwrap_or_else(|error| panic!("the store does not recover: {error}"));
            }
            cores.push(core);
        }
        for (index, core) in cores.iter().enumerate() {
            core.spawn_background(index == 0);
        }
        keeper.begin(cores[0].metadata().clone());
        let started_read_only = !report.writable;
        let process = Process { cores, factory, keeper, shared, started_read_only };
        process.create_bucket(world).await;
        process
    }

    async fn create_bucket(&self, world: &World) {
        if world.has_bucket.get() {
            return;
        }
        let is_locked = world.plan.keeping == Keeping::Locked;
        let new = NewBucket { object_lock: is_locked, ..NewBucket::default() };
        match self.cores[0].create_bucket(bucket(), "root".to_owned(), new).await {
            Ok(()) | Err(OpError::BucketAlreadyOwnedByYou) => {}
            Err(error) => panic!("the bucket cannot be made: {error}"),
        }
        if world.plan.keeping == Keeping::Versions {
            let set = self.cores[0].set_versioning(bucket(), Versioning::Enabled).await;
            set.unwrap_or_else(|error| panic!("versioning cannot be enabled: {error}"));
        }
        world.has_bucket.set(true);
    }

    /// What a clean stop does.
    pub(crate) async fn stop(&self) {
        self.shared.stop();
        for core in &self.cores {
            core.store().shut_down().await;
        }
        self.factory.stop();
    }
}

pub(crate) fn bucket() -> BucketName {
    BucketName::parse("bucket").expect("a name")
}

fn bufs() -> BufPool {
    BufPool::new(BUFS_BYTES)
}

fn store_options(world: &World) -> StoreOptions {
    // The metadata thread and the keeper are cores too.
    let mut options = StoreOptions::new(bufs(), world.plan.cache_bytes, world.plan.cores + 2);
    options.segment_bytes = world.plan.segment_bytes;
    options.growth_step_bytes = world.plan.growth_step_bytes;
    options.repair_delay = REPAIR_DELAY;
    options
}

fn engine_config(world: &World) -> EmbeddedConfig {
    let promised = usize::from(world.plan.profile.m) + 1;
    let members = match world.mutation {
        Some(Mutation::ShortLogSet) => promised.saturating_sub(1).max(1),
        _ => promised,
    };
    let mut config = EmbeddedConfig::new(members, volume_counter_key());
    config.freeze_log_bytes = world.plan.freeze_log_bytes;
    config
}

fn media_of(
    shared: &Arc<StoreShared>,
    pool: &Pool<TestDrive>,
    world: &World,
    index: usize,
) -> Media<TestDrive, SimExecutor> {
    Media::new(Arc::clone(shared), pool, world.executor.clone(), index)
}

async fn start_core(
    world: &World,
    shared: &Arc<StoreShared>,
    pool: &Pool<TestDrive>,
    factory: &EmbeddedFactory,
    keeper: &Rc<Keeper>,
    index: usize,
) -> Ops {
    let executor = &world.executor;
    let media = media_of(shared, pool, world, index);
    let runs = Runs::new(MetadataRuns::new(media.clone()), world.mutation);
    let engine = TestEngine::new(factory.handle(runs, executor.clone()), world.mutation, executor.clone());
    let opened = Metadata::open(engine, executor.clone(), Outcomes::Known).await;
    let metadata = opened.unwrap_or_else(|error| panic!("metadata cannot be written at the start: {error}"));
    keeper.follow(media.clone());
    let store = Store::new(&media, StoreCatalog::new(metadata.clone()));
    let limits = AdmissionLimits { requests_max: 1_000, memory_bytes: 1 << 30 };
    let admission = Admission::new(limits, pool.profile());
    Core::new(metadata, store, executor.clone(), admission, MasterKey::from_bytes([0x5a; 32]))
}
