//! Memtable: the newest commits in memory, every version of every key, ordered by key and then newest first.
//! Invariants: one thread writes (the metadata thread), any core reads; a row is never changed; rows above the
//! published version are there but no snapshot sees them, and they are taken out again if their log record failed.
//! Memory: a row costs its key, its value and [`ROW_OVERHEAD_BYTES`]. Values are slices of the commit's log record; keys
//! up to [`INLINE_KEY_BYTES`] lie in the map's node, where a search finds them without a second cache miss.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::atomic::{self, AtomicUsize};

use bytes::Bytes;
use crossbeam_skiplist::SkipMap;
use crossbeam_skiplist::map::Entry;
use shardstore_reactor::Executor;
use smallvec::SmallVec;

use super::pace::give_way;
use super::tree::SortedSource;
use crate::engine::Direction;

/// The longest key kept in the node: most keys of objects, and all of data and owner rows.
const INLINE_KEY_BYTES: usize = 64;
/// Memory of a row beside its bytes: 88 of key and version, 32 of value, 16 of node header, 16 of tower (2 levels on
/// average), 16 of allocator, and its share of the commit's allocation, which holds the key a second time.
pub(crate) const ROW_OVERHEAD_BYTES: usize = 200;

/// Versions of one key that a cursor passes before it seeks beyond them instead.
const STEPS_BEFORE_SEEK: usize = 4;

/// Rows freed between two turns of other tasks: 0.2 ms.
const ROWS_FREED_AT_ONCE: usize = 1_000;

type InlineKey = SmallVec<[u8; INLINE_KEY_BYTES]>;

/// A key at one commit; newer commits come first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowKey {
    pub(crate) key: InlineKey,
    pub(crate) version: u64,
}

/// What rows are found by, without owning a key.
trait Place {
    fn place(&self) -> (&[u8], u64);
}

impl Place for RowKey {
    fn place(&self) -> (&[u8], u64) {
        (&self.key, self.version)
    }
}

impl Place for (&[u8], u64) {
    fn place(&self) -> (&[u8], u64) {
        *self
    }
}

fn compare(a: (&[u8], u64), b: (&[u8], u64)) -> Ordering {
    a.0.cmp(b.0).then(b.1.cmp(&a.1))
}

impl Ord for RowKey {
    fn cmp(&self, other: &RowKey) -> Ordering {
        compare(self.place(), other.place())
    }
}

impl PartialOrd for RowKey {
    fn partial_cmp(&self, other: &RowKey) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn Place + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.place(), other.place())
    }
}

impl PartialOrd for dyn Place + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Place + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for dyn Place + '_ {}

impl<'a> Borrow<dyn Place + 'a> for RowKey {
    fn borrow(&self) -> &(dyn Place + 'a) {
        self
    }
}

type MapEntry<'a> = Entry<'a, RowKey, Option<Bytes>>;

/// The rows of the commits since the last freeze.
#[derive(Default)]
pub(crate) struct Memtable {
    rows: SkipMap<RowKey, Option<Bytes>>,
    memory_bytes: AtomicUsize,
}

impl Memtable {
    /// Adds a row: a value, or a tombstone.
    pub(crate) fn insert(&self, key: &[u8], version: u64, value: Option<Bytes>) {
        let bytes = row_bytes(key, value.as_ref());
        self.rows.insert(RowKey { key: InlineKey::from_slice(key), version }, value);
        self.memory_bytes.fetch_add(bytes, atomic::Ordering::Relaxed);
    }

    /// Takes back a row whose commit failed.
    pub(crate) fn remove(&self, key: &[u8], version: u64) {
        if let Some(entry) = self.rows.remove::<dyn Place>(&(key, version)) {
            let bytes = row_bytes(&entry.key().key, entry.value().as_ref());
            self.memory_bytes.fetch_sub(bytes, atomic::Ordering::Relaxed);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Rows, all versions counted.
    pub(crate) fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// Memory of its rows.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes.load(atomic::Ordering::Relaxed)
    }

    /// What `snapshot` sees of `key`: `None` if this table says nothing, `Some(None)` for a tombstone.
    pub(crate) fn get(&self, key: &[u8], snapshot: u64) -> Option<Option<Bytes>> {
        let entry = self.at_or_after(key, snapshot)?;
        (*entry.key().key == *key).then(|| entry.value().clone())
    }

    /// The newest version of `key`, published or not.
    pub(crate) fn newest(&self, key: &[u8]) -> Option<(u64, Option<Bytes>)> {
        let entry = self.at_or_after(key, u64::MAX)?;
        (*entry.key().key == *key).then(|| (entry.key().version, entry.value().clone()))
    }

    /// The version of the newest row of `key`, published or not.
    pub(crate) fn newest_version(&self, key: &[u8]) -> Option<u64> {
        let entry = self.at_or_after(key, u64::MAX)?;
        (*entry.key().key == *key).then(|| entry.key().version)
    }

    /// Whether a key of `[begin, end)` has a version above `snapshot`. Cost: a step or two for each key there.
    pub(crate) fn has_newer_in(&self, begin: &[u8], end: &[u8], snapshot: u64) -> bool {
        self.newest_in(begin, end).any(|row| row.key().version > snapshot)
    }

    /// The newest row of each key in `[begin, end)`, published or not.
    pub(crate) fn newest_in<'a>(
        &'a self,
        begin: &[u8],
        end: &'a [u8],
    ) -> impl Iterator<Item = MapEntry<'a>> + use<'a> {
        let first = self.at_or_after(begin, u64::MAX);
        let next = |entry: &MapEntry<'a>| self.next_key(entry.clone());
        std::iter::successors(first, next).take_while(move |entry| *entry.key().key < *end)
    }

    /// Frees the rows slice by slice: all at once would hold the core for some 150 ns a row.
    pub(crate) async fn dismantle<X: Executor>(self, executor: &X) {
        let mut rows = self.rows.into_iter();
        while rows.by_ref().take(ROWS_FREED_AT_ONCE).count() == ROWS_FREED_AT_ONCE {
            give_way(executor).await;
        }
    }

    /// All rows, in order; for a flush, of a table that no one writes any more.
    pub(crate) fn cursor(&self, snapshot: u64) -> MemtableCursor<'_> {
        MemtableCursor { table: self, snapshot, direction: Direction::Forward, entry: None }
    }

    fn at_or_after(&self, key: &[u8], version: u64) -> Option<MapEntry<'_>> {
        let place: &dyn Place = &(key, version);
        self.rows.lower_bound(Bound::Included(place))
    }

    fn before(&self, key: &[u8], version: u64) -> Option<MapEntry<'_>> {
        let place: &dyn Place = &(key, version);
        self.rows.upper_bound(Bound::Excluded(place))
    }

    /// The newest row of the next key.
    fn next_key<'a>(&'a self, entry: MapEntry<'a>) -> Option<MapEntry<'a>> {
        let key = entry.key().key.clone();
        let mut entry = entry;
        for _ in 0..STEPS_BEFORE_SEEK {
            if !entry.move_next() {
                return None;
            }
            if entry.key().key != key {
                return Some(entry);
            }
        }
        let place: &dyn Place = &(key.as_ref(), 0);
        self.rows.lower_bound(Bound::Excluded(place))
    }

    /// The row that `snapshot` sees at `entry`'s key or, if it sees none, at the next key that it sees.
    fn visible_from<'a>(&'a self, entry: Option<MapEntry<'a>>, snapshot: u64) -> Option<MapEntry<'a>> {
        let mut entry = entry?;
        loop {
            if entry.key().version <= snapshot {
                return Some(entry);
            }
            let key = entry.key().key.clone();
            // The next row is an older version of this key, or the newest of the next key.
            entry = self.at_or_after(&key, snapshot)?;
        }
    }

    /// The row that `snapshot` sees at the key of `entry`, which may be any version, or at an earlier key.
    fn visible_back_from<'a>(&'a self, entry: Option<MapEntry<'a>>, snapshot: u64) -> Option<MapEntry<'a>> {
        let mut entry = entry?;
        loop {
            let key = entry.key().key.clone();
            if let Some(seen) = self.at_or_after(&key, snapshot).filter(|seen| seen.key().key == key) {
                return Some(seen);
            }
            entry = self.before(&key, u64::MAX)?;
        }
    }
}

fn row_bytes(key: &[u8], value: Option<&Bytes>) -> usize {
    key.len() + value.map_or(0, Bytes::len) + ROW_OVERHEAD_BYTES
}

/// A place in a memtable as one snapshot sees it: each key once, tombstones included.
pub(crate) struct MemtableCursor<'a> {
    table: &'a Memtable,
    snapshot: u64,
    direction: Direction,
    entry: Option<MapEntry<'a>>,
}

impl SortedSource for MemtableCursor<'_> {
    fn seek(&mut self, bound: &[u8], direction: Direction) {
        self.direction = direction;
        self.entry = match direction {
            Direction::Forward => {
                self.table.visible_from(self.table.at_or_after(bound, u64::MAX), self.snapshot)
            }
            Direction::Reverse => {
                self.table.visible_back_from(self.table.before(bound, u64::MAX), self.snapshot)
            }
        };
    }

    fn step(&mut self) {
        let Some(entry) = self.entry.take() else { return };
        self.entry = match self.direction {
            Direction::Forward => self.table.visible_from(self.table.next_key(entry), self.snapshot),
            Direction::Reverse => {
                let before = self.table.before(&entry.key().key, u64::MAX);
                self.table.visible_back_from(before, self.snapshot)
            }
        };
    }

    fn key(&self) -> Option<&[u8]> {
        self.entry.as_ref().map(|entry| entry.key().key.as_slice())
    }

    fn value(&self) -> Option<Bytes> {
        self.entry.as_ref().and_then(|entry| entry.value().clone())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn seen(
        table: &Memtable,
        snapshot: u64,
        direction: Direction,
        bound: &[u8],
    ) -> Vec<(Vec<u8>, Option<Bytes>)> {
        let mut cursor = table.cursor(snapshot);
        cursor.seek(bound, direction);
        let mut rows = Vec::new();
        while let Some(key) = cursor.key() {
            rows.push((key.to_vec(), cursor.value()));
            cursor.step();
        }
        rows
    }

    #[test]
    fn every_snapshot_sees_its_own_rows_from_any_bound_either_way() {
        for seed in 0..20 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let table = Memtable::default();
            let mut model: BTreeMap<Vec<u8>, BTreeMap<u64, Option<Bytes>>> = BTreeMap::new();
            for version in 1..=120 {
                let key = vec![rng.u8(..12); rng.usize(1..3)];
                let value = rng.bool().then(|| Bytes::from(vec![rng.u8(..); 3]));
                table.insert(&key, version, value.clone());
                model.entry(key).or_default().insert(version, value);
            }
            for _ in 0..60 {
                let (snapshot, bound) = (rng.u64(..130), vec![rng.u8(..13)]);
                let visible: Vec<_> = model
                    .iter()
                    .filter_map(|(key, versions)| {
                        versions.range(..=snapshot).next_back().map(|(_, value)| (key.clone(), value.clone()))
                    })
                    .collect();
                let forward: Vec<_> = visible.iter().filter(|(key, _)| *key >= bound).cloned().collect();
                let mut reverse: Vec<_> = visible.iter().filter(|(key, _)| *key < bound).cloned().collect();
                reverse.reverse();
                assert_eq!(seen(&table, snapshot, Direction::Forward, &bound), forward, "seed={seed}");
                assert_eq!(seen(&table, snapshot, Direction::Reverse, &bound), reverse, "seed={seed}");
                for (key, value) in &visible {
                    assert_eq!(table.get(key, snapshot).as_ref(), Some(value), "seed={seed}");
                }
                let newer = model.range(bound.clone()..).any(|(_, versions)| {
                    versions.last_key_value().is_some_and(|(version, _)| *version > snapshot)
                });
                assert_eq!(table.has_newer_in(&bound, &[0xff], snapshot), newer, "seed={seed}");
            }
        }
    }

    #[test]
    fn a_row_taken_back_leaves_the_older_one_and_no_memory() {
        let table = Memtable::default();
        table.insert(b"k", 1, Some(Bytes::from_static(b"old")));
        let before = table.memory_bytes();
        table.insert(b"k", 2, Some(Bytes::from_static(b"new")));
        table.remove(b"k", 2);
        assert_eq!(table.newest(b"k"), Some((1, Some(Bytes::from_static(b"old")))));
        assert_eq!(table.memory_bytes(), before);
    }
}
