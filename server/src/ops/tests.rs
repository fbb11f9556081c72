//! The operations over simulated drives and the model engine: what users of S3 rely on, and where space goes.

#![allow(clippy::unwrap_used, reason = "tests")]

mod append;
mod export;
mod fsck;
mod gc;
mod multipart;
mod objects;
mod runs;
mod sealed;
mod space;
mod versions;

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use fdb_schema::MemoryEngine;
use fdb_schema::schema::{Metadata, Outcomes};
use md5::{Digest, Md5};
use shardstore::{Media, PoolOptions, Store, StoreOptions, StoreShared, open_pool};
use shardstore_format::{Profile, VolumeId, VolumeRecord};
use shardstore_reactor::BufPool;
use shardstore_sim::{Sim, SimDrive, SimExecutor};

use super::api::{
    BodyError, BodyEvent, BodyReader, BodySource, BodySummary, BucketName, ChecksumAlgorithm, ChecksumKind,
    CompleteUpload, CompletedPart, NewBucket, ObjectKey, OpError, OpenedObject, Operations, PutObject,
    StoredChecksum, UploadId, WriteCondition, Written,
};
use super::{Admission, AdmissionLimits, StoreCatalog};
use crate::keys::MasterKey;

type Engine = MemoryEngine<SimExecutor>;
type Core = super::Core<SimDrive, Engine, SimExecutor>;

/// One machine: drives, metadata that outlives the process, and one core.
struct Machine {
    drives: Vec<SimDrive>,
    engine: Engine,
    executor: SimExecutor,
    core: Core,
}

const DRIVE_BYTES: u64 = 1 << 30;

impl Machine {
    /// A new pool of so many drives, with the bucket `b`.
    async fn new(sim: &Sim, drive_count: usize) -> Machine {
        let executor = sim.executor();
        let drives: Vec<SimDrive> =
            (0..drive_count).map(|index| sim.drive(&format!("d{index}"), DRIVE_BYTES)).collect();
        let engine = MemoryEngine::new(executor.clone());
        let core = start(&drives, &engine, &executor, &[]).await;
        core.create_bucket(bucket(), "root".to_owned(), NewBucket::default()).await.unwrap();
        Machine { drives, engine, executor, core }
    }

    /// The process ends, perhaps in mid-write, and another begins on the same drives.
    async fn restart(self) -> Machine {
        let Machine { drives, engine, executor, core } = self;
        drop(core);
        let drives: Vec<SimDrive> = drives.iter().map(SimDrive::reopen).collect();
        let core = start(&drives, &engine, &executor, &[]).await;
        Machine { drives, engine, executor, core }
    }

    async fn put(&self, name: &str, bytes: &[u8]) -> Written {
        self.core.put_object(put(name, bytes), &mut Body::whole(bytes)).await.unwrap()
    }

    async fn get(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>, OpError> {
        let opened = self.core.open_object(bucket(), key(name), None).await?;
        read_all(opened.read(range)).await
    }

    async fn get_whole(&self, name: &str) -> Result<Vec<u8>, OpError> {
        let opened = self.core.open_object(bucket(), key(name), None).await?;
        let size_bytes = opened.info().size_bytes;
        read_all(opened.read(0..size_bytes)).await
    }

    /// Live bytes of all volumes, and how many volumes there are.
    async fn space(&self) -> (i64, usize) {
        let volumes = self.core.metadata().volumes(VolumeId(0), 1_000).await.unwrap();
        (volumes.iter().map(|volume| volume.live_bytes).sum(), volumes.len())
    }

    /// Sweeps, and drops every volume with nothing live.
    async fn clean(&self) {
        self.core.store().seal_open().await;
        self.core.store().sweep_now().await.unwrap();
        self.core.store().reclaim_now().await.unwrap();
    }
}

/// A process begins; `runs` are what its metadata's manifest would name.
async fn start(drives: &[SimDrive], engine: &Engine, executor: &SimExecutor, runs: &[VolumeRecord]) -> Core {
    let pool = open_pool(drives.to_vec(), PoolOptions::default(), executor).await.unwrap();
    let mut options = StoreOptions::new(BufPool::new(256 << 20), 16 << 20, 1);
    options.segment_bytes = 16 << 20;
    options.growth_step_bytes = 256 << 10;
    let shared = StoreShared::new(&pool, options);
    let profile: Profile = shared.profile();
    let media = Media::new(shared, &pool, executor.clone(), 0);
    let metadata = Metadata::open(engine.clone(), executor.clone(), Outcomes::Known).await.unwrap();
    let store = Store::new(&media, StoreCatalog::new(metadata.clone()));
    store.recover(runs).await.unwrap();
    let limits = AdmissionLimits { requests_max: 100, memory_bytes: 256 << 20 };
    let key = MasterKey::from_bytes([0x5a; 32]);
    Core::new(metadata, store, executor.clone(), Admission::new(limits, profile), key)
}

fn bucket() -> BucketName {
    BucketName::parse("bucket").unwrap()
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::parse(name.to_owned()).unwrap()
}

fn put(name: &str, bytes: &[u8]) -> PutObject {
    PutObject {
        bucket: bucket(),
        key: key(name),
        headers: Vec::new(),
        condition: WriteCondition::Always,
        len_bytes: Some(bytes.len() as u64),
        storage_class: None,
        lock: crate::ops::api::ObjectLock::NONE,
        encrypt: None,
    }
}

/// Bytes that differ everywhere.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

async fn read_all(mut reader: impl BodyReader) -> Result<Vec<u8>, OpError> {
    let mut all = Vec::new();
    while let Some(slices) = reader.next().await {
        slices?.iter().for_each(|slice| all.extend_from_slice(slice));
    }
    Ok(all)
}

/// A body in pieces, as the wire would bring it.
struct Body {
    pieces: VecDeque<Bytes>,
    fails: Option<BodyError>,
    md5: Md5,
    crc: crc_fast::Digest,
    len_bytes: u64,
    pulled: usize,
}

impl Body {
    fn whole(bytes: &[u8]) -> Body {
        Body::pieces(bytes, 16 * 1024)
    }

    fn pieces(bytes: &[u8], piece_len: usize) -> Body {
        Body {
            pieces: bytes.chunks(piece_len).map(Bytes::copy_from_slice).collect(),
            fails: None,
            md5: Md5::new(),
            crc: crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme),
            len_bytes: 0,
            pulled: 0,
        }
    }

    /// Ends in an error instead of its end.
    fn failing(bytes: &[u8], error: BodyError) -> Body {
        Body { fails: Some(error), ..Body::whole(bytes) }
    }
}

impl BodySource for Body {
    fn want_checksum(&mut self, algorithm: ChecksumAlgorithm) {
        assert_eq!(algorithm, ChecksumAlgorithm::Crc64Nvme);
    }

    fn need_checksum(&mut self, algorithm: ChecksumAlgorithm) {
        self.want_checksum(algorithm);
    }

    async fn next(&mut self) -> Result<BodyEvent, BodyError> {
        self.pulled += 1;
        if let Some(piece) = self.pieces.pop_front() {
            self.md5.update(&piece);
            self.crc.update(&piece);
            self.len_bytes += piece.len() as u64;
            return Ok(BodyEvent::Data(piece));
        }
        if let Some(error) = self.fails {
            return Err(error);
        }
        let checksum = StoredChecksum {
            algorithm: ChecksumAlgorithm::Crc64Nvme,
            kind: ChecksumKind::FullObject,
            value: Bytes::copy_from_slice(&self.crc.finalize().to_be_bytes()),
        };
        let md5 = self.md5.clone().finalize().into();
        Ok(BodyEvent::End(BodySummary {
            md5,
            checksum: Some(checksum.clone()),
            needed: Some(checksum),
            len_bytes: self.len_bytes,
        }))
    }
}

/// Runs a test on a new machine of so many drives.
fn machine<T>(seed: u64, drive_count: usize, body: impl AsyncFnOnce(Machine) -> T) -> T {
    let sim = Sim::new(seed);
    sim.block_on(async { body(Machine::new(&sim, drive_count).await).await })
}

/// The completion of an upload of these parts, with their tags.
fn complete(name: &str, upload: UploadId, parts: &[(u16, String)]) -> CompleteUpload {
    let part = |(part_number, etag): &(u16, String)| CompletedPart {
        part_number: *part_number,
        etag: etag.clone(),
        checksum: None,
    };
    CompleteUpload {
        bucket: bucket(),
        key: key(name),
        upload,
        parts: parts.iter().map(part).collect(),
        size_bytes: None,
        checksum: None,
        checksum_kind: None,
        condition: WriteCondition::Always,
        customer_key: None,
    }
}
