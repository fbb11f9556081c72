//! An engine that pauses at every read and commit, so that transactions of one test really interleave, counts the rows
//! that it returns, and is read-only for as long as a test wants.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use shardstore_reactor::{Clock, Executor};

use crate::{Engine, EngineError, Isolation, RangeRead, Row, Transaction, Versionstamp};

/// Another engine, paused by the simulator's clock.
#[derive(Clone)]
pub(super) struct Paused<E, X> {
    pub(super) inner: E,
    pub(super) executor: X,
    pub(super) rows_read: Rc<Cell<usize>>,
    pub(super) is_read_only: Rc<Cell<bool>>,
}

pub(super) struct PausedTxn<T, X> {
    inner: T,
    executor: X,
    rows_read: Rc<Cell<usize>>,
    is_read_only: Rc<Cell<bool>>,
}

impl<E: Engine, X: Executor> Engine for Paused<E, X> {
    type Txn = PausedTxn<E::Txn, X>;

    fn begin(&self) -> Self::Txn {
        self.paused(self.inner.begin())
    }

    fn begin_long(&self) -> Self::Txn {
        self.paused(self.inner.begin_long())
    }
}

impl<E: Engine, X: Executor> Paused<E, X> {
    fn paused(&self, inner: E::Txn) -> PausedTxn<E::Txn, X> {
        PausedTxn {
            inner,
            executor: self.executor.clone(),
            rows_read: Rc::clone(&self.rows_read),
            is_read_only: Rc::clone(&self.is_read_only),
        }
    }
}

async fn pause(executor: &impl Executor) {
    let micros = executor.random_u64() % 20;
    Clock::sleep(executor, Duration::from_micros(micros)).await;
}

impl<T: Transaction, X: Executor> Transaction for PausedTxn<T, X> {
    async fn get(&self, key: &[u8], isolation: Isolation) -> Result<Option<Bytes>, EngineError> {
        pause(&self.executor).await;
        self.inner.get(key, isolation).await
    }

    async fn range(&self, read: RangeRead) -> Result<Vec<Row>, EngineError> {
        pause(&self.executor).await;
        let rows = self.inner.range(read).await?;
        self.rows_read.set(self.rows_read.get() + rows.len());
        Ok(rows)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.inner.set(key, value);
    }

    fn clear(&mut self, key: &[u8]) {
        self.inner.clear(key);
    }

    fn clear_range(&mut self, begin: &[u8], end: &[u8]) {
        self.inner.clear_range(begin, end);
    }

    fn atomic_add(&mut self, key: &[u8], delta: i64) {
        self.inner.atomic_add(key, delta);
    }

    fn set_versionstamped_key(&mut self, key: &[u8], stamp_offset: usize, value: &[u8]) {
        self.inner.set_versionstamped_key(key, stamp_offset, value);
    }

    fn set_versionstamped_value(&mut self, key: &[u8], value: &[u8], stamp_offset: usize) {
        self.inner.set_versionstamped_value(key, value, stamp_offset);
    }

    fn add_read_conflict(&mut self, begin: &[u8], end: &[u8]) {
        self.inner.add_read_conflict(begin, end);
    }

    fn add_write_conflict(&mut self, begin: &[u8], end: &[u8]) {
        self.inner.add_write_conflict(begin, end);
    }

    async fn commit(self) -> Result<Versionstamp, EngineError> {
        pause(&self.executor).await;
        if self.is_read_only.get() {
            return Err(EngineError::ReadOnly);
        }
        self.inner.commit().await
    }
}
