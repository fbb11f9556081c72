//! Metadata: the keyspace, its transactions, and the engines that run them.
//! Invariants: each operation is one transaction written once, for all engines; every engine enforces the same limits.
//! Not here: object bytes (`shardstore`), HTTP (`server`).
#![forbid(unsafe_code)]

pub mod engine;
mod run_store;
pub mod schema;

pub use engine::{
    Buffered, Direction, Engine, EngineError, Isolation, KEY_MAX_BYTES, MemoryEngine, MemorySnapshot,
    RangeRead, Row, ShardMove, TXN_MAX_AGE, TXN_MAX_BYTES, Transaction, VALUE_MAX_BYTES, Versionstamp,
    conformance,
};
pub use run_store::{RunError, RunStore, RunVolume, RunWriter};
