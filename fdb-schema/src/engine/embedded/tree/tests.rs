//! The tree against a `BTreeMap`: runs, cursors both ways, flushes and compactions at random, and flipped bits.
//! The store of these tests keeps runs in memory and mends nothing, so every flipped bit reaches the tree.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use shardstore_format::{DriveId, Profile, VolumeClass, VolumeId, VolumeRecord, VolumeState};
use shardstore_sim::Sim;

use super::{
    Levels, Manifest, MergeCursor, PACE_BYTES, Run, RunBuilder, RunCursor, SortedSource, TreeError,
    block_reads_of_thread, compact, write_runs,
};
use crate::engine::Direction;
use crate::run_store::{RunError, RunStore, RunVolume, RunWriter};

#[derive(Clone, Default)]
struct TestStore {
    runs: Rc<RefCell<BTreeMap<VolumeId, Vec<u8>>>>,
    next: Rc<Cell<u64>>,
}

struct TestWriter {
    store: TestStore,
    volume: VolumeId,
    bytes: Vec<u8>,
}

impl TestStore {
    fn next_volume(&self) -> VolumeId {
        self.next.set(self.next.get() + 1);
        VolumeId(self.next.get())
    }
}

impl RunStore for TestStore {
    type Writer = TestWriter;

    async fn create(&self, volume: VolumeId) -> Result<TestWriter, RunError> {
        Ok(TestWriter { store: self.clone(), volume, bytes: Vec::new() })
    }

    async fn read(&self, run: &RunVolume, offset_bytes: u64, len_bytes: usize) -> Result<Bytes, RunError> {
        let offset = usize::try_from(offset_bytes).unwrap();
        let runs = self.runs.borrow();
        let bytes = runs.get(&run.record.id).and_then(|bytes| bytes.get(offset..offset + len_bytes));
        let damaged = RunError::Damaged { volume: run.record.id, offset_bytes };
        bytes.map(Bytes::copy_from_slice).ok_or(damaged)
    }

    async fn remove(&self, run: &RunVolume) -> Result<(), RunError> {
        self.runs.borrow_mut().remove(&run.record.id);
        Ok(())
    }
}

impl RunWriter for TestWriter {
    async fn append(&mut self, bytes: Bytes) -> Result<(), RunError> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn finish(self) -> Result<RunVolume, RunError> {
        let record = VolumeRecord {
            id: self.volume,
            profile: Profile { k: 1, m: 0 },
            class: VolumeClass::Run,
            state: VolumeState::Sealed { end_sector: 1 },
            segments: vec![DriveId(1)],
        };
        let len_bytes = self.bytes.len() as u64;
        self.store.runs.borrow_mut().insert(self.volume, self.bytes);
        Ok(RunVolume { record, len_bytes })
    }
}

type Model = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A memtable for tests.
struct TestSource {
    rows: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    at: Option<usize>,
    direction: Direction,
}

impl TestSource {
    fn new(model: &Model) -> TestSource {
        let rows = model.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        TestSource { rows, at: None, direction: Direction::Forward }
    }
}

impl SortedSource for TestSource {
    fn seek(&mut self, bound: &[u8], direction: Direction) {
        let index = self.rows.partition_point(|(key, _)| key.as_slice() < bound);
        self.direction = direction;
        self.at = match direction {
            Direction::Forward => Some(index).filter(|&index| index < self.rows.len()),
            Direction::Reverse => index.checked_sub(1),
        };
    }

    fn step(&mut self) {
        self.at = match (self.at, self.direction) {
            (Some(at), Direction::Forward) => Some(at + 1).filter(|&index| index < self.rows.len()),
            (Some(at), Direction::Reverse) => at.checked_sub(1),
            (None, _) => None,
        };
    }

    fn key(&self) -> Option<&[u8]> {
        self.at.map(|at| self.rows[at].0.as_slice())
    }

    fn value(&self) -> Option<Bytes> {
        self.at.and_then(|at| self.rows[at].1.clone()).map(Bytes::from)
    }
}

fn random_key(rng: &mut fastrand::Rng) -> Vec<u8> {
    match rng.u8(..20) {
        0 => Vec::new(),
        1 => vec![b'k'; rng.usize(1..10_000)],
        2..6 => vec![rng.u8(..); rng.usize(1..4)],
        _ => format!("bucket/{:03}/{:05}", rng.u32(..40), rng.u32(..500)).into_bytes(),
    }
}

fn random_value(rng: &mut fastrand::Rng) -> Option<Vec<u8>> {
    let len = match rng.u8(..100) {
        0..20 => return None,
        20 => rng.usize(60_000..=100_000),
        21..24 => rng.usize(10_000..30_000),
        24..30 => 0,
        _ => rng.usize(1..400),
    };
    Some(vec![rng.u8(..); len])
}

fn random_model(rng: &mut fastrand::Rng, rows: usize) -> Model {
    (0..rows).map(|_| (random_key(rng), random_value(rng))).collect()
}

async fn build(store: &TestStore, model: &Model) -> Arc<Run> {
    let volume = store.next_volume();
    let mut builder = RunBuilder::new(store.create(volume).await.unwrap(), volume);
    for (key, value) in model {
        builder.add(key, value.as_deref()).await.unwrap();
    }
    builder.finish(1..=9).await.unwrap()
}

/// Rows by the cursor from `bound` on, at most `limit`.
async fn scan(
    store: &TestStore,
    cursor: &mut MergeCursor<TestSource>,
    bound: &[u8],
    limit: usize,
) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let mut rows = Vec::new();
    cursor.seek(store, bound).await.unwrap();
    while let Some(key) = cursor.key()
        && rows.len() < limit
    {
        rows.push((key.to_vec(), cursor.value().map(|value| value.to_vec())));
        cursor.next(store).await.unwrap();
    }
    rows
}

fn model_scan(
    model: &Model,
    bound: &[u8],
    direction: Direction,
    limit: usize,
) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let owned = |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| (key.clone(), value.clone());
    match direction {
        Direction::Forward => model.range(bound.to_vec()..).take(limit).map(owned).collect(),
        Direction::Reverse => model.range(..bound.to_vec()).rev().take(limit).map(owned).collect(),
    }
}

#[test]
fn a_run_answers_like_a_map_whatever_the_sizes_of_rows_and_after_being_opened_again() {
    for seed in 0..12 {
        let sim = Sim::new(seed);
        sim.block_on(async move {
            let mut rng = fastrand::Rng::with_seed(seed);
            let row_count = [1, 2, 17, 300, 2_000][rng.usize(..5)];
            let model = random_model(&mut rng, row_count);
            let store = TestStore::default();
            let built = build(&store, &model).await;
            let opened = Run::open(&store, built.volume().clone()).await.unwrap();
            for run in [built, opened] {
                assert_eq!(run.rows(), model.len() as u64);
                assert_eq!(run.tombstones(), model.values().filter(|value| value.is_none()).count() as u64);
                assert_eq!(run.first_key(), model.keys().next().unwrap());
                assert_eq!(run.last_key(), model.keys().next_back().unwrap());
                for key in model.keys().cloned().chain((0..200).map(|_| random_key(&mut rng))) {
                    let before = block_reads_of_thread();
                    let got =
                        run.get(&store, &key).await.unwrap().map(|value| value.map(|value| value.to_vec()));
                    assert_eq!(got, model.get(&key).cloned());
                    assert!(block_reads_of_thread() - before <= 1);
                }
                for direction in [Direction::Forward, Direction::Reverse] {
                    let mut cursor = RunCursor::new(Arc::clone(&run), direction);
                    for _ in 0..60 {
                        let bound = random_key(&mut rng);
                        let wanted = model_scan(&model, &bound, direction, 40);
                        cursor.seek(&store, &bound).await.unwrap();
                        for (key, value) in &wanted {
                            assert_eq!(cursor.key(), Some(key.as_slice()), "{direction:?}");
                            assert_eq!(cursor.value().as_deref(), value.as_deref());
                            cursor.next(&store).await.unwrap();
                        }
                        assert_eq!(cursor.key().is_none(), wanted.len() < 40);
                    }
                }
            }
        });
    }
}

#[test]
fn memtables_flushes_and_compactions_answer_like_a_map_both_ways() {
    for seed in 0..25 {
        Sim::new(seed).block_on(tree_against_model(seed));
    }
}

async fn tree_against_model(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let store = TestStore::default();
    let (mut model, mut memtable, mut levels) = (Model::new(), Model::new(), Levels::default());
    for _ in 0..40 {
        match rng.u8(..4) {
            0 => {
                let source = &mut TestSource::new(&memtable);
                let volume = async || Ok(store.next_volume());
                if let Some(run) = write_runs(&store, source, 1..=2, volume, async |_| {}).await.unwrap() {
                    levels = levels.with_flush(run);
                }
                memtable.clear();
            }
            1 => {
                if let Some(compaction) = any_compaction(&levels, &mut rng) {
                    let volume = async || Ok(store.next_volume());
                    let outputs = compact(&store, &levels, &compaction, volume, async |_| {}).await.unwrap();
                    levels = levels.apply(&compaction, &outputs);
                }
            }
            _ => {
                let rows = rng.usize(1..80);
                let added = random_model(&mut rng, rows);
                model.extend(added.clone());
                memtable.extend(added);
            }
        }
        check_levels(&store, &levels, &memtable, &model, &mut rng).await;
    }
    let manifest = Manifest { levels: levels.manifest_levels(), ..Manifest::default() };
    let manifest = Manifest::decode(&manifest.encode()).unwrap();
    let levels = Levels::open(&store, &manifest).await.unwrap();
    assert_eq!(levels.manifest_levels(), manifest.levels);
    check_levels(&store, &levels, &memtable, &model, &mut rng).await;
}

/// A compaction that the rules allow, due or not.
fn any_compaction(levels: &Levels, rng: &mut fastrand::Rng) -> Option<super::Compaction> {
    let level = rng.usize(..levels.level_count());
    let runs = levels.level(level);
    if runs.is_empty() || level + 1 >= super::LEVELS_MAX {
        return None;
    }
    let inputs = if level == 0 {
        runs[rng.usize(..runs.len())..].to_vec()
    } else {
        vec![Arc::clone(&runs[rng.usize(..runs.len())])]
    };
    Some(levels.compaction(level, inputs))
}

async fn check_levels(
    store: &TestStore,
    levels: &Levels,
    memtable: &Model,
    model: &Model,
    rng: &mut fastrand::Rng,
) {
    let live: Model =
        model.iter().filter(|(_, value)| value.is_some()).map(|(k, v)| (k.clone(), v.clone())).collect();
    for _ in 0..20 {
        let key = random_key(rng);
        let found = match memtable.get(&key) {
            Some(value) => value.clone(),
            None => levels.get(store, &key).await.unwrap().flatten().map(|value| value.to_vec()),
        };
        assert_eq!(found, live.get(&key).cloned().flatten());
    }
    for direction in [Direction::Forward, Direction::Reverse] {
        let mut cursor = MergeCursor::new(vec![TestSource::new(memtable)], levels, direction);
        for _ in 0..6 {
            let bound = random_key(rng);
            // Tombstones may or may not still be there: compare what lives.
            let rows = scan(store, &mut cursor, &bound, usize::MAX).await;
            let rows: Vec<_> = rows.into_iter().filter(|(_, value)| value.is_some()).collect();
            assert_eq!(rows, model_scan(&live, &bound, direction, usize::MAX));
        }
        // Onward seeks, as LIST with a delimiter makes them.
        let mut bounds: Vec<Vec<u8>> = (0..10).map(|_| random_key(rng)).collect();
        bounds.sort();
        if direction == Direction::Reverse {
            bounds.reverse();
        }
        for bound in bounds {
            let few = rng.usize(..4);
            let rows = scan(store, &mut cursor, &bound, few).await;
            let mut fresh = MergeCursor::new(vec![TestSource::new(memtable)], levels, direction);
            assert_eq!(rows, scan(store, &mut fresh, &bound, few).await);
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_run_is_reported_and_never_served() {
    let mut rng = fastrand::Rng::with_seed(5);
    let sim = Sim::new(5);
    sim.block_on(async move {
        let store = TestStore::default();
        let model: Model = (0..700u32)
            .map(|n| {
                (format!("key/{n:06}").into_bytes(), (n % 7 > 0).then(|| vec![b'v'; (n % 300) as usize]))
            })
            .collect();
        let volume = build(&store, &model).await.volume().clone();
        let whole = store.runs.borrow()[&volume.record.id].clone();
        let mut reported = 0;
        for _ in 0..1_500 {
            let at = rng.usize(..whole.len());
            store.runs.borrow_mut().get_mut(&volume.record.id).unwrap()[at] ^= 1 << rng.u8(..8);
            match read_all(&store, &volume).await {
                // Padding between blocks, which nobody reads.
                Ok(rows) => assert_eq!(rows, model),
                Err(TreeError::Damaged { volume: named, offset_bytes, .. }) => {
                    assert_eq!(named, volume.record.id);
                    assert!(offset_bytes <= at as u64);
                    reported += 1;
                }
                Err(error) => panic!("{error}"),
            }
            *store.runs.borrow_mut().get_mut(&volume.record.id).unwrap() = whole.clone();
        }
        assert!(reported > 1_300, "{reported}");
    });
}

async fn read_all(store: &TestStore, volume: &RunVolume) -> Result<Model, TreeError> {
    let run = Run::open(store, volume.clone()).await?;
    let mut cursor = RunCursor::new(run, Direction::Forward);
    let mut rows = Model::new();
    cursor.seek(store, b"").await?;
    while let Some(key) = cursor.key() {
        rows.insert(key.to_vec(), cursor.value().map(|value| value.to_vec()));
        cursor.next(store).await?;
    }
    Ok(rows)
}

#[test]
fn tombstones_go_when_nothing_lies_deeper_and_stay_while_something_does() {
    Sim::new(1).block_on(async {
        let store = TestStore::default();
        let volume = async || Ok(store.next_volume());
        let rows: Model = (0..100u8).map(|n| (vec![n], Some(vec![n; 100]))).collect();
        let gone: Model = (0..100u8).map(|n| (vec![n], None)).collect();
        let mut levels = Levels::default().with_flush(build(&store, &rows).await);
        // Down to level 2.
        for level in 0..2 {
            let compaction = levels.compaction(level, levels.level(level));
            let outputs = compact(&store, &levels, &compaction, volume, async |_| {}).await.unwrap();
            levels = levels.apply(&compaction, &outputs);
        }
        levels = levels.with_flush(build(&store, &gone).await);
        let compaction = levels.compaction(0, levels.level(0));
        let outputs = compact(&store, &levels, &compaction, volume, async |_| {}).await.unwrap();
        levels = levels.apply(&compaction, &outputs);
        assert_eq!(levels.level(1)[0].tombstones(), 100, "the rows in level 2 still need them");
        let due = levels.pick_compaction().expect("a run of tombstones is merged though nothing is full");
        assert_eq!((due.level, due.target), (1, 2));
        let outputs = compact(&store, &levels, &due, volume, async |_| {}).await.unwrap();
        assert!(outputs.is_empty());
        levels = levels.apply(&due, &outputs);
        assert_eq!(levels.runs().count(), 0);
        assert!(levels.pick_compaction().is_none());
    });
}

#[test]
fn a_scan_reads_each_block_once_and_a_point_read_one_block() {
    Sim::new(1).block_on(async {
        let store = TestStore::default();
        let model: Model =
            (0..5_000u32).map(|n| (format!("key/{n:08}").into_bytes(), Some(vec![1; 300]))).collect();
        let levels = Levels::default().with_flush(build(&store, &model).await);
        let before = block_reads_of_thread();
        let mut cursor: MergeCursor<TestSource> = MergeCursor::new(vec![], &levels, Direction::Forward);
        assert_eq!(scan(&store, &mut cursor, b"key/00001000", 1_000).await.len(), 1_000);
        let reads = block_reads_of_thread() - before;
        // 1,000 rows of some 310 bytes in blocks of 16,368.
        assert!((19..=22).contains(&reads), "{reads}");
        let before = block_reads_of_thread();
        assert!(levels.get(&store, b"key/00002000").await.unwrap().is_some());
        assert_eq!(block_reads_of_thread() - before, 1);
        let absent = (0..1_000u32).map(|n| format!("key/{n:08}x"));
        for key in absent {
            assert!(levels.get(&store, key.as_bytes()).await.unwrap().is_none());
        }
        let reads = block_reads_of_thread() - before - 1;
        assert!(reads < 30, "the filter let {reads} of 1000 absent keys through");
    });
}

#[test]
fn a_merge_calls_its_pacer_at_every_step() {
    Sim::new(1).block_on(async {
        let store = TestStore::default();
        let model: Model = (0..6_000u32).map(|n| (n.to_be_bytes().to_vec(), Some(vec![1; 300]))).collect();
        let levels =
            Levels::default().with_flush(build(&store, &model).await).with_flush(build(&store, &model).await);
        let compaction = levels.compaction(0, levels.level(0));
        let largest = Cell::new(0);
        let calls = Cell::new(0);
        let volume = async || Ok(store.next_volume());
        let pace = async |bytes: u64| {
            largest.set(bytes.max(largest.get()));
            calls.set(calls.get() + 1);
        };
        let outputs = compact(&store, &levels, &compaction, volume, pace).await.unwrap();
        assert_eq!(outputs.iter().map(|run| run.rows()).sum::<u64>(), 6_000);
        assert!(calls.get() >= 15, "{}", calls.get());
        assert!(largest.get() < PACE_BYTES + 1_000);
    });
}
