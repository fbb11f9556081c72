//! Cursors over one run, and over a level's runs one after the other.
//! Invariants: a cursor moves one way, fixed when it is made; it suspends only where a block must be read.
//! Not here: which of several sources wins (`merge`).

use std::sync::Arc;

use bytes::Bytes;

use super::block::BlockCursor;
use super::error::TreeError;
use super::run::Run;
use crate::engine::Direction;
use crate::run_store::RunStore;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// On a row.
    Row,
    /// The next row lies in a block that must be read first.
    MustRead,
    /// Past the last row.
    End,
}

/// A place in one run.
pub struct RunCursor {
    run: Arc<Run>,
    direction: Direction,
    block_index: usize,
    block: Option<BlockCursor>,
}

impl RunCursor {
    /// A cursor without a place; seek first.
    pub fn new(run: Arc<Run>, direction: Direction) -> RunCursor {
        RunCursor { run, direction, block_index: usize::MAX, block: None }
    }

    /// Forward: to the first row of at least `bound`. Reverse: to the last row below it. Reads at most two blocks,
    /// none if the row lies in the current one.
    ///
    /// # Errors
    /// [`TreeError`]: see there.
    pub async fn seek<R: RunStore>(&mut self, store: &R, bound: &[u8]) -> Result<(), TreeError> {
        let block_count = self.run.index().block_count();
        let found = self.run.index().block_of(bound);
        let forward = self.direction == Direction::Forward;
        if found == block_count && forward {
            self.block = None;
            return Ok(());
        }
        // Past the last separator in reverse: every row of the last block is below `bound`.
        let index = found.min(block_count - 1);
        if self.block.is_none() || self.block_index != index {
            let block = self.run.read_block(store, index).await?;
            self.block = Some(BlockCursor::new(block));
            self.block_index = index;
        }
        let Some(block) = self.block.as_mut() else { return Ok(()) };
        let on_row = if forward { block.seek_forward(bound) } else { block.seek_reverse(Some(bound)) };
        if !on_row.map_err(|malformed| self.run.damaged(index, malformed))? {
            self.read_next(store).await?;
        }
        Ok(())
    }

    /// One row further.
    ///
    /// # Errors
    /// [`TreeError`]: see there.
    pub async fn next<R: RunStore>(&mut self, store: &R) -> Result<(), TreeError> {
        if self.step()? == Step::MustRead {
            self.read_next(store).await?;
        }
        Ok(())
    }

    /// The key of the current row; `None` at the end.
    pub fn key(&self) -> Option<&[u8]> {
        self.block.as_ref().map(BlockCursor::key)
    }

    /// The value of the current row; `None` for a tombstone.
    pub fn value(&self) -> Option<Bytes> {
        self.block.as_ref().and_then(BlockCursor::value)
    }

    #[inline]
    pub(crate) fn step(&mut self) -> Result<Step, TreeError> {
        let Some(block) = self.block.as_mut() else { return Ok(Step::End) };
        if block.step().map_err(|malformed| self.run.damaged(self.block_index, malformed))? {
            return Ok(Step::Row);
        }
        if self.neighbour().is_some() {
            return Ok(Step::MustRead);
        }
        self.block = None;
        Ok(Step::End)
    }

    fn neighbour(&self) -> Option<usize> {
        match self.direction {
            Direction::Forward => {
                Some(self.block_index + 1).filter(|&index| index < self.run.index().block_count())
            }
            Direction::Reverse => self.block_index.checked_sub(1),
        }
    }

    /// Reads the neighbouring block and stands on its nearest row, or at the end if there is no such block.
    pub(crate) async fn read_next<R: RunStore>(&mut self, store: &R) -> Result<(), TreeError> {
        let Some(index) = self.neighbour() else {
            self.block = None;
            return Ok(());
        };
        let block = self.run.read_block(store, index).await?;
        let placed = match self.direction {
            Direction::Forward => BlockCursor::at_first(block),
            Direction::Reverse => {
                let mut cursor = BlockCursor::new(block);
                cursor.seek_reverse(None).map(|_| cursor)
            }
        };
        self.block = Some(placed.map_err(|malformed| self.run.damaged(index, malformed))?);
        self.block_index = index;
        Ok(())
    }
}

/// A place in a level: runs with disjoint, increasing key ranges.
pub(crate) struct LevelCursor {
    runs: Arc<[Arc<Run>]>,
    direction: Direction,
    run_index: usize,
    cursor: Option<RunCursor>,
}

impl LevelCursor {
    pub(crate) fn new(runs: Arc<[Arc<Run>]>, direction: Direction) -> LevelCursor {
        LevelCursor { runs, direction, run_index: 0, cursor: None }
    }

    pub(crate) async fn seek<R: RunStore>(&mut self, store: &R, bound: &[u8]) -> Result<(), TreeError> {
        let index = match self.direction {
            Direction::Forward => Some(self.runs.partition_point(|run| **run.last_key() < *bound)),
            Direction::Reverse => self.runs.partition_point(|run| **run.first_key() < *bound).checked_sub(1),
        };
        let Some(run) = index.and_then(|index| self.runs.get(index)) else {
            self.cursor = None;
            return Ok(());
        };
        let index = index.unwrap_or(0);
        if self.cursor.is_none() || self.run_index != index {
            self.cursor = Some(RunCursor::new(Arc::clone(run), self.direction));
            self.run_index = index;
        }
        match self.cursor.as_mut() {
            Some(cursor) => cursor.seek(store, bound).await,
            None => Ok(()),
        }
    }

    #[inline]
    pub(crate) fn key(&self) -> Option<&[u8]> {
        self.cursor.as_ref().and_then(RunCursor::key)
    }

    pub(crate) fn value(&self) -> Option<Bytes> {
        self.cursor.as_ref().and_then(RunCursor::value)
    }

    #[inline]
    pub(crate) fn step(&mut self) -> Result<Step, TreeError> {
        let Some(cursor) = self.cursor.as_mut() else { return Ok(Step::End) };
        let step = cursor.step()?;
        Ok(if step == Step::End && self.neighbour().is_some() { Step::MustRead } else { step })
    }

    fn neighbour(&self) -> Option<usize> {
        match self.direction {
            Direction::Forward => Some(self.run_index + 1).filter(|&index| index < self.runs.len()),
            Direction::Reverse => self.run_index.checked_sub(1),
        }
    }

    /// After [`Step::MustRead`].
    pub(crate) async fn read_next<R: RunStore>(&mut self, store: &R) -> Result<(), TreeError> {
        let Some(cursor) = self.cursor.as_mut() else { return Ok(()) };
        if cursor.key().is_some() {
            return cursor.read_next(store).await;
        }
        let Some(index) = self.neighbour() else { return Ok(()) };
        let run = Arc::clone(&self.runs[index]);
        self.run_index = index;
        let edge = match self.direction {
            Direction::Forward => run.first_key().to_vec(),
            Direction::Reverse => above(run.last_key()),
        };
        let mut cursor = RunCursor::new(run, self.direction);
        cursor.seek(store, &edge).await?;
        self.cursor = Some(cursor);
        Ok(())
    }
}

/// The lowest key above `key`.
fn above(key: &[u8]) -> Vec<u8> {
    let mut above = Vec::with_capacity(key.len() + 1);
    above.extend_from_slice(key);
    above.push(0);
    above
}
