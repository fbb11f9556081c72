//! The store on real directories with direct I/O: the same code as in the simulator.
//! Runs in the build's own directory, whose file system must have O_DIRECT.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use common::catalog::{MemoryCatalog, Rows};
use common::content;
use shardstore::{Media, PoolOptions, Store, StoreOptions, StoreShared, open_pool};
use shardstore_format::{DataId, Durable, Extent, WriterId};
use shardstore_reactor::{BufPool, CoreConfig, CoreExecutor, RealDrive, RealDriveFactory, spawn_core};

struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> TempDir {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        TempDir(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

type RealStore = Store<RealDrive, CoreExecutor, MemoryCatalog<CoreExecutor>>;

async fn start(
    paths: &[PathBuf],
    rows: &Rc<RefCell<Rows>>,
    executor: &CoreExecutor,
) -> (RealStore, MemoryCatalog<CoreExecutor>) {
    let drives = paths.iter().map(|path| RealDriveFactory::open(path).unwrap().on_core()).collect();
    let pool = open_pool(drives, PoolOptions::default(), executor).await.unwrap();
    let shared = StoreShared::new(&pool, StoreOptions::new(BufPool::new(256 << 20), 16 << 20, 1));
    let media = Media::new(Arc::clone(&shared), &pool, executor.clone(), 0);
    let catalog = MemoryCatalog::new(rows, executor.clone());
    let store = Store::new(&media, catalog.clone());
    store.recover(&[]).await.unwrap();
    (store, catalog)
}

async fn put(
    store: &RealStore,
    catalog: &MemoryCatalog<CoreExecutor>,
    seed: u64,
    len: u64,
) -> Vec<(Extent, Option<u32>)> {
    let mut writer = store.put(Some(len)).unwrap();
    writer.write(&content(seed, len)).await.unwrap();
    let evidence = writer.finish().await.unwrap();
    catalog.commit(DataId { writer: WriterId(1), counter: seed }, evidence.extents()).await;
    evidence.extents().iter().map(|extent| (*extent, evidence.crc32c())).collect()
}

async fn check(store: &RealStore, extents: &[(Extent, Option<u32>)], seed: u64, len: u64) {
    let mut reader = store.open_read(extents.to_vec(), 0..len);
    let mut got = Vec::new();
    while let Some(parts) = reader.next().await {
        parts.unwrap().iter().for_each(|part| got.extend_from_slice(part));
    }
    assert!(got == content(seed, len), "{len} bytes of {extents:?}");
}

const SIZES: [u64; 6] = [1, 4_096, 70_000, 1_000_000, 1_048_576, 20_000_000];

#[test]
fn objects_on_real_directories_survive_a_restart_and_the_loss_of_two_of_six() {
    let dir = TempDir::new("store");
    for count in [1, 6] {
        let paths: Vec<PathBuf> = (0..count).map(|index| dir.0.join(format!("{count}-{index}"))).collect();
        paths.iter().for_each(|path| std::fs::create_dir(path).unwrap());
        spawn_core(CoreConfig::new(None, "test"), move |executor| async move {
            let rows = Rc::<RefCell<Rows>>::default();
            let (store, catalog) = start(&paths, &rows, &executor).await;
            let puts = (0..).zip(SIZES).map(|(seed, len)| put(&store, &catalog, seed, len));
            let stored = futures_util::future::join_all(puts).await;
            for ((seed, len), extents) in (0..).zip(SIZES).zip(&stored) {
                check(&store, extents, seed, len).await;
            }
            // No clean stop: the volumes are still open.
            drop(store);
            if count == 6 {
                for path in [&paths[0], &paths[4]] {
                    std::fs::remove_dir_all(path).unwrap();
                    std::fs::create_dir(path).unwrap();
                }
            }
            let (store, catalog) = start(&paths, &rows, &executor).await;
            for ((seed, len), extents) in (0..).zip(SIZES).zip(&stored) {
                check(&store, extents, seed, len).await;
            }
            if count == 1 {
                catalog.delete_all();
                store.sweep_now().await.unwrap();
                store.reclaim_now().await.unwrap();
                assert_eq!(std::fs::read_dir(paths[0].join("segments")).unwrap().count(), 0);
            }
        })
        .unwrap()
        .join();
    }
}
