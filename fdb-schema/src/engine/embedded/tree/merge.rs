//! One sorted view over memtables and runs: newest wins, each key once, either way.
//! Invariants: sources come newest first; of equal keys the newest source's row is served and the others are passed;
//! tombstones are served as rows without a value, since only the caller knows whether they end here.
//! Cost: sources are kept in order of their keys, so a row that follows another of the same source costs one
//! comparison, whatever the number of sources.

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;

use super::cursor::{LevelCursor, Step};
use super::error::TreeError;
use super::levels::Levels;
use super::run::Run;
use crate::engine::Direction;
use crate::run_store::RunStore;

/// A sorted source in memory, such as a memtable at a version.
pub trait SortedSource {
    /// Forward: to the first row of at least `bound`. Reverse: to the last row below it.
    fn seek(&mut self, bound: &[u8], direction: Direction);
    /// One row further in the direction of the last seek.
    fn step(&mut self);
    /// The key of the current row; `None` at the end.
    fn key(&self) -> Option<&[u8]>;
    /// The value of the current row; `None` for a tombstone.
    fn value(&self) -> Option<Bytes>;
}

/// The source of those who merge runs alone.
pub(crate) enum NoMemtable {}

impl SortedSource for NoMemtable {
    fn seek(&mut self, _bound: &[u8], _direction: Direction) {
        match *self {}
    }

    fn step(&mut self) {
        match *self {}
    }

    fn key(&self) -> Option<&[u8]> {
        match *self {}
    }

    fn value(&self) -> Option<Bytes> {
        match *self {}
    }
}

enum Source<M> {
    Memory(M),
    Level(LevelCursor),
}

impl<M: SortedSource> Source<M> {
    #[inline]
    fn key(&self) -> Option<&[u8]> {
        match self {
            Source::Memory(memory) => memory.key(),
            Source::Level(level) => level.key(),
        }
    }
}

/// A place in the merged view.
pub struct MergeCursor<M> {
    sources: Vec<Source<M>>,
    /// Indices of the sources that stand on a row, by key in the direction of travel, then newest first.
    order: Vec<usize>,
    /// How many at the front of `order` stand on the current key.
    equal: usize,
    direction: Direction,
    /// Every source stands where the current key says; false after an error or a dropped future.
    placed: bool,
}

impl<M: SortedSource> MergeCursor<M> {
    /// A cursor without a place over `memtables` (newest first) and `levels`; seek first.
    pub fn new(memtables: Vec<M>, levels: &Levels, direction: Direction) -> MergeCursor<M> {
        let memory = memtables.into_iter().map(Source::Memory);
        let runs = levels.sorted_parts().map(|runs| Source::Level(LevelCursor::new(runs, direction)));
        MergeCursor::of(memory.chain(runs).collect(), direction)
    }

    /// Over parts alone, newest first; each is runs with disjoint, increasing ranges.
    pub(crate) fn of_parts(parts: Vec<Arc<[Arc<Run>]>>, direction: Direction) -> MergeCursor<M> {
        let level = |runs| Source::Level(LevelCursor::new(runs, direction));
        MergeCursor::of(parts.into_iter().map(level).collect(), direction)
    }

    fn of(sources: Vec<Source<M>>, direction: Direction) -> MergeCursor<M> {
        let order = Vec::with_capacity(sources.len());
        MergeCursor { sources, order, equal: 0, direction, placed: false }
    }

    /// Forward: to the first row of at least `bound`. Reverse: to the last row below it. Onward seeks leave alone
    /// the sources that are there already.
    ///
    /// # Errors
    /// [`TreeError`]: see there.
    pub async fn seek<R: RunStore>(&mut self, store: &R, bound: &[u8]) -> Result<(), TreeError> {
        // The rows that any source has passed lie before the current key, so none of them lies past `bound`.
        let onward = self.placed
            && self.key().is_some_and(|key| match self.direction {
                Direction::Forward => key <= bound,
                Direction::Reverse => key >= bound,
            });
        self.placed = false;
        for source in &mut self.sources {
            let there = match (source.key(), self.direction) {
                (None, _) => true,
                (Some(key), Direction::Forward) => key >= bound,
                (Some(key), Direction::Reverse) => key < bound,
            };
            if onward && there {
                continue;
            }
            match source {
                Source::Memory(memory) => memory.seek(bound, self.direction),
                Source::Level(level) => level.seek(store, bound).await?,
            }
        }
        self.placed = true;
        self.order.clear();
        self.order.extend((0..self.sources.len()).filter(|&index| self.sources[index].key().is_some()));
        let (sources, direction) = (&self.sources, self.direction);
        self.order.sort_unstable_by(|&a, &b| compare(sources, direction, a, b));
        self.count_equal();
        Ok(())
    }

    /// The key of the current row; `None` at the end.
    #[inline]
    pub fn key(&self) -> Option<&[u8]> {
        self.sources[*self.order.first()?].key()
    }

    /// The value of the current row; `None` for a tombstone.
    #[inline]
    pub fn value(&self) -> Option<Bytes> {
        match &self.sources[*self.order.first()?] {
            Source::Memory(memory) => memory.value(),
            Source::Level(level) => level.value(),
        }
    }

    /// To the next key. Suspends only where a block must be read.
    ///
    /// # Errors
    /// [`TreeError`]: see there; the cursor must be sought again.
    #[inline]
    pub async fn next<R: RunStore>(&mut self, store: &R) -> Result<(), TreeError> {
        self.placed = false;
        // From the back of the equal ones, so that each is sifted into what is already in order.
        for place in (0..self.equal).rev() {
            let source = &mut self.sources[self.order[place]];
            match source {
                Source::Memory(memory) => memory.step(),
                Source::Level(level) => {
                    if level.step()? == Step::MustRead {
                        level.read_next(store).await?;
                    }
                }
            }
            self.sift(place);
        }
        self.placed = true;
        self.count_equal();
        Ok(())
    }

    /// Moves the source at `place` back to where it belongs, or out if it is at its end.
    fn sift(&mut self, mut place: usize) {
        if self.sources[self.order[place]].key().is_none() {
            self.order.remove(place);
            return;
        }
        while place + 1 < self.order.len() {
            let (here, next) = (self.order[place], self.order[place + 1]);
            if compare(&self.sources, self.direction, here, next) == Ordering::Less {
                break;
            }
            self.order.swap(place, place + 1);
            place += 1;
        }
    }

    fn count_equal(&mut self) {
        let key = self.key();
        let rest = self.order.iter().skip(1);
        let equal = rest.take_while(|&&index| self.sources[index].key() == key).count();
        self.equal = if key.is_none() { 0 } else { 1 + equal };
    }
}

fn compare<M: SortedSource>(sources: &[Source<M>], direction: Direction, a: usize, b: usize) -> Ordering {
    let by_key = sources[a].key().cmp(&sources[b].key());
    let by_key = if direction == Direction::Forward { by_key } else { by_key.reverse() };
    by_key.then(a.cmp(&b))
}
