//! One core's way to run transactions: retries with a bound, outcomes that survive a lost answer, data ids.
//! Invariants: a body runs again only after its last attempt certainly did not commit, or when the `done` row says so;
//! a data id is given out once, ever.
//! Not here: what the transactions do.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use shardstore_format::{DataId, WriterId};
use shardstore_reactor::Executor;

use super::error::{Failure, damaged};
use super::keyspace::{self, Counter};
use super::record::decode_counter;
use crate::{Engine, EngineError, Isolation, RangeRead, Row, Transaction};

/// Attempts of one transaction. The first 3 follow at once; waits then double from 1 ms to 64 ms, half of each at
/// random, so 100 attempts last under 7 s: longer than any queue of single writers that we admit.
const ATTEMPTS_MAX: u32 = 100;
const ATTEMPTS_AT_ONCE: u32 = 3;
const WAIT_MAX_MS: u64 = 64;
/// A body that outlives the engine's 5 s this often is too large for one transaction.
const TOO_OLD_MAX: u32 = 3;
/// Finished `done` rows are removed so many at a time.
const DONE_ROWS_KEPT: u64 = 1_024;

/// Whether an engine always knows what became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcomes {
    /// It does: `memory`, `embedded`.
    Known,
    /// An answer can be lost: FoundationDB. Every transaction leaves a `done` row.
    MayBeUnknown,
}

/// One core's access to the keyspace. Cheap to clone; not shared between threads.
pub struct Metadata<E: Engine, X: Executor> {
    pub(crate) engine: E,
    pub(crate) executor: X,
    state: Rc<State>,
}

struct State {
    /// None while metadata could not be written since this core started: the first write that can takes it.
    writer: Cell<Option<WriterId>>,
    next_data: Cell<u64>,
    outcomes: Outcomes,
    next_sequence: Cell<u64>,
    running: RefCell<BTreeSet<u64>>,
    done_cleared: Cell<u64>,
}

impl<E: Engine, X: Executor> Clone for Metadata<E, X> {
    fn clone(&self) -> Metadata<E, X> {
        Metadata {
            engine: self.engine.clone(),
            executor: self.executor.clone(),
            state: Rc::clone(&self.state),
        }
    }
}

impl<E: Engine, X: Executor> Metadata<E, X> {
    /// Takes a writer number for this core and this start, committed before its first use. An engine that is
    /// read-only now gives none: reads are served, and every write asks for it again before anything else.
    ///
    /// # Errors
    /// [`Failure::Engine`].
    pub async fn open(engine: E, executor: X, outcomes: Outcomes) -> Result<Metadata<E, X>, Failure> {
        let writer = match take_writer(&engine, &executor, || None).await {
            Ok(writer) => Some(writer),
            Err(Failure::Engine(EngineError::ReadOnly)) => None,
            Err(failure) => return Err(failure),
        };
        let state = State {
            writer: Cell::new(writer),
            next_data: Cell::new(0),
            outcomes,
            next_sequence: Cell::new(0),
            running: RefCell::default(),
            done_cleared: Cell::new(0),
        };
        Ok(Metadata { engine, executor, state: Rc::new(state) })
    }

    /// This core's number, if metadata could be written since it started.
    pub fn writer(&self) -> Option<WriterId> {
        self.state.writer.get()
    }

    /// This core's number, taken now if metadata could not be written before.
    async fn as_writer(&self) -> Result<WriterId, Failure> {
        if let Some(writer) = self.state.writer.get() {
            return Ok(writer);
        }
        let taken = take_writer(&self.engine, &self.executor, || self.state.writer.get()).await;
        // Two may have asked at once; numbers are plenty.
        let writer = match self.state.writer.get() {
            Some(writer) => writer,
            None => taken?,
        };
        self.state.writer.set(Some(writer));
        Ok(writer)
    }

    /// A data id that no one had before.
    ///
    /// # Errors
    /// [`EngineError::ReadOnly`], and what else may become of taking a writer number.
    pub async fn new_data_id(&self) -> Result<DataId, Failure> {
        let writer = self.as_writer().await?;
        let counter = self.state.next_data.get();
        self.state.next_data.set(counter.checked_add(1).expect("2^64 objects"));
        Ok(DataId { writer, counter })
    }

    /// Runs a transaction that reads only, at one snapshot.
    pub(crate) async fn read<T>(
        &self,
        body: impl AsyncFn(&E::Txn) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut too_old_count = 0;
        loop {
            let result = body(&self.engine.begin()).await;
            match result {
                Err(Failure::Engine(EngineError::TooOld)) if too_old_count < TOO_OLD_MAX => {
                    too_old_count += 1;
                }
                result => return result,
            }
        }
    }

    /// Runs a transaction until it commits, is refused, or its retries are used up.
    pub(crate) async fn write<T>(
        &self,
        body: impl AsyncFn(&mut E::Txn) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let writer = self.as_writer().await?;
        match self.state.outcomes {
            Outcomes::Known => self.write_known(body).await,
            Outcomes::MayBeUnknown => {
                let sequence = self.begin_sequence();
                let result = self.write_unknown(writer, sequence, body).await;
                self.state.running.borrow_mut().remove(&sequence);
                result
            }
        }
    }

    async fn write_known<T>(
        &self,
        body: impl AsyncFn(&mut E::Txn) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut retries = Retries::default();
        loop {
            let mut txn = self.engine.begin();
            let error = match body(&mut txn).await {
                Ok(output) => match txn.commit().await {
                    Ok(_) => return Ok(output),
                    Err(error) => error,
                },
                Err(Failure::Engine(error)) => error,
                Err(refused) => return Err(refused),
            };
            retries.after(&self.executor, error).await?;
        }
    }

    /// As `write_known`, with a `done` row that says which attempt committed.
    async fn write_unknown<T>(
        &self,
        writer: WriterId,
        sequence: u64,
        body: impl AsyncFn(&mut E::Txn) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let row_key = keyspace::done(writer, sequence);
        let mut unknown: Vec<(u32, T)> = Vec::new();
        let mut retries = Retries::default();
        for attempt in 0u32.. {
            let mut txn = self.engine.begin();
            if let Some(output) = self.earlier(&txn, &row_key, &mut unknown).await? {
                return Ok(output);
            }
            let error = match body(&mut txn).await {
                Ok(output) => {
                    txn.set(&row_key, &attempt.to_le_bytes());
                    self.clear_done(&mut txn, writer);
                    match txn.commit().await {
                        Ok(_) => return Ok(output),
                        Err(EngineError::CommitUnknown) => {
                            unknown.push((attempt, output));
                            EngineError::CommitUnknown
                        }
                        Err(error) => error,
                    }
                }
                Err(Failure::Engine(error)) => error,
                Err(refused) if unknown.is_empty() => return Err(refused),
                Err(refused) => match self.fence(&row_key, attempt, &mut unknown).await? {
                    Fenced::Committed(output) => return Ok(output),
                    Fenced::Never => return Err(refused),
                    Fenced::Unclear(error) => error,
                },
            };
            retries.after(&self.executor, error).await?;
        }
        Err(EngineError::Conflict.into())
    }

    /// Before a refusal: makes sure that no earlier attempt commits any more.
    async fn fence<T>(
        &self,
        row_key: &[u8],
        attempt: u32,
        unknown: &mut Vec<(u32, T)>,
    ) -> Result<Fenced<T>, Failure> {
        let mut txn = self.engine.begin();
        if let Some(output) = self.earlier(&txn, row_key, unknown).await? {
            return Ok(Fenced::Committed(output));
        }
        txn.set(row_key, &attempt.to_le_bytes());
        Ok(match txn.commit().await {
            Ok(_) => Fenced::Never,
            Err(error) => Fenced::Unclear(error),
        })
    }

    /// The output of the attempt that committed after all. The read conflicts with one that still may.
    async fn earlier<T>(
        &self,
        txn: &E::Txn,
        row_key: &[u8],
        unknown: &mut Vec<(u32, T)>,
    ) -> Result<Option<T>, Failure> {
        if unknown.is_empty() {
            return Ok(None);
        }
        let Some(value) = txn.get(row_key, Isolation::Serializable).await? else { return Ok(None) };
        let attempt = value.as_ref().try_into().map(u32::from_le_bytes).ok();
        let index = unknown.iter().position(|(number, _)| Some(*number) == attempt);
        let index = index.ok_or_else(|| damaged("a done row names no attempt of its transaction"))?;
        Ok(Some(unknown.swap_remove(index).1))
    }

    fn begin_sequence(&self) -> u64 {
        let sequence = self.state.next_sequence.get();
        self.state.next_sequence.set(sequence + 1);
        self.state.running.borrow_mut().insert(sequence);
        sequence
    }

    /// Removes the rows of transactions that all ended, now and then.
    fn clear_done(&self, txn: &mut E::Txn, writer: WriterId) {
        let oldest = self.state.running.borrow().first().copied().unwrap_or(0);
        let cleared = self.state.done_cleared.get();
        if oldest < cleared + DONE_ROWS_KEPT {
            return;
        }
        txn.clear_range(&keyspace::done(writer, cleared), &keyspace::done(writer, oldest));
        self.state.done_cleared.set(oldest);
    }
}

enum Fenced<T> {
    Committed(T),
    Never,
    Unclear(EngineError),
}

#[derive(Default)]
struct Retries {
    attempts: u32,
    too_old: u32,
}

impl Retries {
    /// Waits before the next attempt, or gives up with the error.
    async fn after(&mut self, executor: &impl Executor, error: EngineError) -> Result<(), Failure> {
        self.attempts += 1;
        let again = match error {
            EngineError::Conflict | EngineError::CommitUnknown => self.attempts < ATTEMPTS_MAX,
            EngineError::TooOld => {
                self.too_old += 1;
                self.too_old < TOO_OLD_MAX
            }
            EngineError::TooLarge
            | EngineError::Overloaded
            | EngineError::ReadOnly
            | EngineError::Damaged(_)
            | EngineError::Stopped => false,
        };
        if !again {
            return Err(error.into());
        }
        if self.attempts > ATTEMPTS_AT_ONCE {
            let doublings = (self.attempts - ATTEMPTS_AT_ONCE - 1).min(6);
            let wait_ms = (1u64 << doublings).min(WAIT_MAX_MS);
            let micros = wait_ms * 500 + executor.random_u64() % (wait_ms * 500);
            executor.sleep(Duration::from_micros(micros)).await;
        }
        Ok(())
    }
}

/// A new writer number, or the one that `known` has by then: all writes of a core may wait for it at once, and of those
/// that conflict one is enough.
async fn take_writer<E: Engine, X: Executor>(
    engine: &E,
    executor: &X,
    known: impl Fn() -> Option<WriterId>,
) -> Result<WriterId, Failure> {
    let mut retries = Retries::default();
    loop {
        if let Some(writer) = known() {
            return Ok(writer);
        }
        let mut txn = engine.begin();
        let error = match take(&mut txn, Counter::Writer, 1).await {
            // If the answer was lost the number is lost too: numbers are plenty.
            Ok(number) => match txn.commit().await {
                Ok(_) => {
                    let number = u32::try_from(number).map_err(|_| damaged("writer numbers are used up"))?;
                    return Ok(WriterId(number));
                }
                Err(error) => error,
            },
            Err(Failure::Engine(error)) => error,
            Err(refused) => return Err(refused),
        };
        retries.after(executor, error).await?;
    }
}

/// Takes `count` numbers from a counter; returns the first.
pub(crate) async fn take<T: Transaction>(txn: &mut T, counter: Counter, count: u64) -> Result<u64, Failure> {
    let row_key = keyspace::counter(counter);
    let value = txn.get(&row_key, Isolation::Serializable).await?;
    let first = decode_counter("counter", value.as_ref())?;
    let next = first.checked_add(count).ok_or_else(|| damaged("a counter is used up"))?;
    txn.set(&row_key, &next.to_le_bytes());
    Ok(first)
}

/// Rows of a range, ascending.
pub(crate) async fn rows<T: Transaction>(
    txn: &T,
    range: &keyspace::KeyRange,
    limit: usize,
    isolation: Isolation,
) -> Result<Vec<Row>, EngineError> {
    let read = RangeRead {
        begin: Bytes::copy_from_slice(&range.begin),
        end: Bytes::copy_from_slice(&range.end),
        limit,
        direction: crate::Direction::Forward,
        isolation,
    };
    txn.range(read).await
}
