//! The embedded engine as the operations see it: as it is, or with a deliberate bug between.
//! Invariants: without a mutation every call goes through unchanged. The first byte of a key says what a row is
//! (docs/format.md, "Metadata rows").
//! Not here: the engine (`fdb_schema::engine::embedded`).

use bytes::Bytes;
use fdb_schema::{
    Direction, Engine, EngineError, Isolation, RangeRead, Row, ShardMove, Transaction, Versionstamp,
};
use shardstore_format::{VolumeRecord, VolumeState};
use shardstore_reactor::Executor;
use shardstore_sim::SimExecutor;

use crate::mutation::Mutation;

const OBJECT: u8 = 0x11;
const GARBAGE: u8 = 0x22;
const VOLUME: u8 = 0x40;
const LIVE: u8 = 0x41;
const OWNER: u8 = 0x42;
/// Version of the row of an encrypted object.
const SEALED: u8 = 3;
/// From the end of such a row into its sealed key.
const KEY_END: usize = 10;

/// One core's engine.
#[derive(Clone)]
pub(crate) struct TestEngine<E> {
    engine: E,
    mutation: Option<Mutation>,
    executor: SimExecutor,
}

/// A transaction of a [`TestEngine`].
pub(crate) struct TestTxn<T> {
    txn: T,
    mutation: Option<Mutation>,
    executor: SimExecutor,
    writes_object: bool,
}

impl<E> TestEngine<E> {
    pub(crate) fn new(engine: E, mutation: Option<Mutation>, executor: SimExecutor) -> TestEngine<E> {
        TestEngine { engine, mutation, executor }
    }
}

impl<E: Engine> Engine for TestEngine<E> {
    type Txn = TestTxn<E::Txn>;

    fn begin(&self) -> TestTxn<E::Txn> {
        TestTxn {
            txn: self.engine.begin(),
            mutation: self.mutation,
            executor: self.executor.clone(),
            writes_object: false,
        }
    }

    async fn move_run_shard(&self, moved: ShardMove) -> Result<bool, EngineError> {
        self.engine.move_run_shard(moved).await
    }
}

impl<T: Transaction> TestTxn<T> {
    fn is(&self, mutation: Mutation, prefix: u8, key: &[u8]) -> bool {
        self.mutation == Some(mutation) && key.first() == Some(&prefix)
    }

    /// One in four, always the same for a key.
    fn is_chosen(key: &[u8]) -> bool {
        key.iter().fold(0u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(*byte)) % 4 == 0
    }

    fn isolation(&self, asked: Isolation) -> Isolation {
        if self.mutation == Some(Mutation::BlindReads) { Isolation::Snapshot } else { asked }
    }
}

impl<T: Transaction> Transaction for TestTxn<T> {
    async fn get(&self, key: &[u8], isolation: Isolation) -> Result<Option<Bytes>, EngineError> {
        if self.is(Mutation::ReclaimOwned, LIVE, key) {
            return Ok(None);
        }
        self.txn.get(key, self.isolation(isolation)).await
    }

    async fn range(&self, read: RangeRead) -> Result<Vec<Row>, EngineError> {
        let asks_for_any_owner = read.limit == 1 && read.direction == Direction::Forward;
        if self.is(Mutation::ReclaimOwned, LIVE, &read.begin)
            || (asks_for_any_owner && self.is(Mutation::ReclaimOwned, OWNER, &read.begin))
        {
            return Ok(Vec::new());
        }
        let isolation = self.isolation(read.isolation);
        self.txn.range(RangeRead { isolation, ..read }).await
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.writes_object |= key.first() == Some(&OBJECT);
        let forgets_seal = self.is(Mutation::ForgetSeal, VOLUME, key)
            && VolumeRecord::decode(value)
                .is_ok_and(|record| matches!(record.state, VolumeState::Sealed { .. }));
        let forgets =
            self.is(Mutation::ForgetOwner, OWNER, key) || self.is(Mutation::ForgetGarbage, GARBAGE, key);
        if forgets_seal || (forgets && Self::is_chosen(key)) {
            return;
        }
        if self.is(Mutation::KeepOtherKey, OBJECT, key) && value[0] == SEALED && Self::is_chosen(key) {
            let mut other = value.to_vec();
            // Before the stored length, which is a number of at most five bytes here.
            other[value.len() - KEY_END] ^= 1;
            return self.txn.set(key, &other);
        }
        self.txn.set(key, value);
    }

    fn clear(&mut self, key: &[u8]) {
        self.txn.clear(key);
    }

    fn clear_range(&mut self, begin: &[u8], end: &[u8]) {
        self.txn.clear_range(begin, end);
    }

    fn atomic_add(&mut self, key: &[u8], delta: i64) {
        if self.is(Mutation::ForgetLiveBytes, LIVE, key) && delta % 4 == 0 {
            return;
        }
        self.txn.atomic_add(key, delta);
    }

    fn set_versionstamped_key(&mut self, key: &[u8], stamp_offset: usize, value: &[u8]) {
        self.txn.set_versionstamped_key(key, stamp_offset, value);
    }

    fn set_versionstamped_value(&mut self, key: &[u8], value: &[u8], stamp_offset: usize) {
        self.txn.set_versionstamped_value(key, value, stamp_offset);
    }

    fn add_read_conflict(&mut self, begin: &[u8], end: &[u8]) {
        if self.mutation != Some(Mutation::BlindReads) {
            self.txn.add_read_conflict(begin, end);
        }
    }

    fn add_write_conflict(&mut self, begin: &[u8], end: &[u8]) {
        self.txn.add_write_conflict(begin, end);
    }

    async fn commit(self) -> Result<Versionstamp, EngineError> {
        if self.mutation == Some(Mutation::AcknowledgeBeforeCommit) && self.writes_object {
            self.executor.spawn(async move {
                // Nobody waits for it any more: that is the bug.
                drop(self.txn.commit().await);
            });
            return Ok(Versionstamp([0; 10]));
        }
        self.txn.commit().await
    }
}
