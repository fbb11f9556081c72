//! What the transactions promise, on the model engine: listings, references, space, uploads, outcomes.

#![allow(clippy::unwrap_used, reason = "tests")]

mod accounts;
mod append;
mod audit;
mod buckets;
mod listing;
mod members;
mod objects;
mod outcomes;
mod paused;
mod rename;
mod sealed;
mod space;
mod uploads;
mod versions;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;
use shardstore_format::{
    DataId, DriveId, Durable, Extent, Profile, VolumeClass, VolumeId, VolumeRecord, VolumeState,
};
use shardstore_sim::{Sim, SimExecutor};

use self::paused::Paused;
use super::bucket::Usage;
use super::keyspace::{self, KeyRange};
use super::record::decode_owner;
use super::retry::rows;
use super::{
    ChecksumAlgorithm, ChecksumKind, Composed, Copy, Delete, ETag, Encryption, Failure, NewBucket, NewBytes,
    NewObject, NewPart, NewUpload, ObjectLock, ObjectRecord, Outcomes, PartRecord, Refusal, UploadKey,
    UploadPath, UploadRecord, WriteCondition,
};
use crate::{Engine, EngineError, Isolation, MemoryEngine};

type Model = Paused<MemoryEngine<SimExecutor>, SimExecutor>;
type Metadata = super::Metadata<Model, SimExecutor>;

/// Evidence as the store would give it.
#[derive(Debug)]
struct Stored(Vec<Extent>);

impl Durable for Stored {
    fn extents(&self) -> &[Extent] {
        &self.0
    }
}

/// One core over the model engine, with a bucket `b` and three volumes.
struct World {
    engine: Model,
    metadata: Metadata,
    next_sector: Cell<u32>,
}

const VOLUMES: u64 = 3;

/// A copy within the bucket that changes nothing.
fn copy<'a>(source: &'a [u8], target: &'a [u8]) -> Copy<'a> {
    Copy {
        source_bucket: "b",
        source_key: source,
        bucket: "b",
        key: target,
        replace_headers: None,
        replace_tagging: None,
        storage_class: None,
        replace_checksum: None,
        redirect: None,
        condition: WriteCondition::Always,
        source_version: None,
        lock: ObjectLock::NONE,
    }
}

fn new_upload(key: &[u8], encryption: Option<Encryption>) -> NewUpload<'_> {
    NewUpload {
        bucket: "b",
        key,
        initiator: "root",
        algorithm: ChecksumAlgorithm::Crc64Nvme,
        kind: ChecksumKind::FullObject,
        checksum_named: false,
        storage_class: None,
        headers: Vec::new(),
        lock: ObjectLock::NONE,
        encryption,
    }
}

impl World {
    async fn new(executor: SimExecutor, outcomes: Outcomes) -> World {
        let inner = MemoryEngine::new(executor.clone());
        let engine = Paused {
            inner,
            executor: executor.clone(),
            rows_read: Rc::default(),
            is_read_only: Rc::default(),
        };
        let metadata = Metadata::open(engine.clone(), executor, outcomes).await.unwrap();
        metadata.create_bucket("b", "root", &NewBucket::default()).await.unwrap();
        let first = metadata.allocate_volume_ids(VOLUMES).await.unwrap();
        assert_eq!(first, VolumeId(0));
        for id in 0..VOLUMES {
            metadata.create_volume(&open_volume(id)).await.unwrap();
        }
        World { engine, metadata, next_sector: Cell::new(0) }
    }

    fn extent(&self, volume: u64, len_bytes: u64) -> Extent {
        let sector = self.next_sector.get();
        self.next_sector.set(sector + 16);
        let volume = VolumeId(volume);
        Extent { volume, sector, byte_in_stripe: 0, len_bytes, page_len_sectors: 16 }
    }

    async fn put(&self, key: &[u8], bytes: NewBytes<Stored>) -> Result<ObjectRecord, Failure> {
        let put = self.metadata.put_object(new_object(key, WriteCondition::Always), bytes).await;
        put.map(|found| found.record)
    }

    async fn put_inline(&self, key: &[u8], bytes: &'static [u8]) {
        self.put(key, NewBytes::Inline(Bytes::from_static(bytes))).await.unwrap();
    }

    /// An object with one extent in each named volume.
    async fn put_stored(&self, key: &[u8], lens: &[(u64, u64)]) -> ObjectRecord {
        let extents = lens.iter().map(|(volume, len)| self.extent(*volume, *len)).collect();
        self.put(key, NewBytes::Stored { evidence: Stored(extents), crc32c: None }).await.unwrap()
    }

    async fn usage(&self) -> (u64, u64) {
        let Usage { objects, bytes } = self.metadata.usage("b").await.unwrap();
        (objects, bytes)
    }

    /// Sweeps until no garbage is left; the number of steps.
    async fn sweep_all(&self) -> usize {
        let mut steps = 0;
        loop {
            let garbage = self.metadata.garbage(10).await.unwrap();
            if garbage.is_empty() {
                return steps;
            }
            for data in garbage {
                while !self.metadata.sweep(data).await.unwrap() {
                    steps += 1;
                }
                steps += 1;
            }
        }
    }

    async fn count(&self, range: &KeyRange) -> usize {
        rows(&self.engine.begin(), range, 100_000, Isolation::Snapshot).await.unwrap().len()
    }

    /// Rows that hold or lead to bytes: all are gone when no object, upload or garbage is left.
    async fn byte_rows(&self) -> usize {
        let range = KeyRange { begin: vec![0x20], end: vec![0x23] };
        let parts = KeyRange { begin: vec![0x31], end: vec![0x32] };
        let owners = KeyRange { begin: vec![0x42], end: vec![0x43] };
        self.count(&range).await + self.count(&parts).await + self.count(&owners).await
    }

    /// Every volume's live bytes are the sum of its owner rows; returns them.
    async fn live(&self) -> BTreeMap<u64, i64> {
        let mut live = BTreeMap::new();
        for volume in self.metadata.volumes(VolumeId(0), 1_000).await.unwrap() {
            let owners = keyspace::owners(volume.record.id);
            let owners = rows(&self.engine.begin(), &owners, 100_000, Isolation::Snapshot).await.unwrap();
            let recount: u64 = owners.iter().map(|row| decode_owner(&row.value).unwrap().0.len_bytes).sum();
            assert_eq!(u64::try_from(volume.live_bytes), Ok(recount), "volume {:?}", volume.record.id);
            live.insert(volume.record.id.0, volume.live_bytes);
        }
        live
    }

    async fn begin_upload(&self, key: &[u8]) -> UploadKey {
        self.metadata.create_upload(new_upload(key, None)).await.unwrap().0
    }

    async fn put_part(&self, path: UploadPath<'_>, part_number: u16, lens: &[(u64, u64)]) -> PartRecord {
        let extents = lens.iter().map(|(volume, len)| self.extent(*volume, *len)).collect();
        let data = self.metadata.new_data_id().await.unwrap();
        let new = NewPart { part_number, data, md5: [7; 16], checksum: None };
        self.metadata.put_part(path, new, Stored(extents), None).await.unwrap()
    }

    /// The range of a part, if there is one of that number, and how many there are.
    async fn part(&self, data: DataId, part_number: u16) -> (Option<Range<u64>>, u16) {
        let found = self.metadata.parts(data, false, part_number - 1, 1).await.unwrap();
        (found.parts.into_iter().next().map(|part| part.range), found.part_count)
    }
}

fn open_volume(id: u64) -> VolumeRecord {
    VolumeRecord {
        id: VolumeId(id),
        profile: Profile { k: 1, m: 0 },
        class: VolumeClass::Packed,
        state: VolumeState::Open,
        segments: vec![DriveId(1)],
    }
}

fn new_object(key: &[u8], condition: WriteCondition) -> NewObject<'_> {
    NewObject {
        bucket: "b",
        key,
        headers: Vec::new(),
        etag: ETag::whole([1; 16]),
        checksums: Vec::new(),
        storage_class: None,
        condition,
        lock: ObjectLock::NONE,
        encryption: None,
    }
}

/// A copy under the seal of its source.
fn same_seal(source: &ObjectRecord) -> Result<Option<Encryption>, ()> {
    Ok(source.encryption().cloned())
}

fn delete(key: &[u8]) -> Delete<'_> {
    Delete { key, ..Delete::default() }
}

fn path(key: &[u8], upload: UploadKey) -> UploadPath<'_> {
    UploadPath { bucket: "b", key, upload }
}

fn compose(_: &UploadRecord, parts: &[(u16, PartRecord)]) -> Result<Composed, ()> {
    let part_count = Some(u16::try_from(parts.len()).unwrap());
    Ok(Composed { etag: ETag { md5: [9; 16], part_count }, checksums: Vec::new() })
}

fn refused<T: std::fmt::Debug>(result: Result<T, Failure>) -> Refusal {
    match result.unwrap_err() {
        Failure::Refused(refusal) => refusal,
        Failure::Engine(error) => panic!("not a refusal: {error}"),
    }
}

/// Runs a test body in the simulator.
fn world<T>(seed: u64, body: impl AsyncFnOnce(World) -> T) -> T {
    let sim = Sim::new(seed);
    let executor = sim.executor();
    sim.block_on(async move { body(World::new(executor, Outcomes::Known).await).await })
}

#[test]
fn a_writer_number_is_never_given_twice() {
    world(1, async |world| {
        let executor = world.metadata.executor.clone();
        let again = Metadata::open(world.engine.clone(), executor, Outcomes::Known).await.unwrap();
        assert!(again.writer() > world.metadata.writer());
        assert_ne!(again.new_data_id().await.unwrap(), world.metadata.new_data_id().await.unwrap());
    });
}

#[test]
fn a_damaged_row_is_reported_and_never_a_panic() {
    world(1, async |world| {
        world.put_inline(b"k", b"v").await;
        let row_key = keyspace::object(super::BucketId(0), b"k");
        let mut txn = world.engine.begin();
        crate::Transaction::set(&mut txn, &row_key, &[9, 9, 9]);
        crate::Transaction::commit(txn).await.unwrap();
        let error = world.metadata.object("b", b"k", None).await.unwrap_err();
        assert!(matches!(error, Failure::Engine(EngineError::Damaged(_))), "{error}");
    });
}
