//! The metadata engines behind one trait with FoundationDB's semantics.
//! Invariants: transactions are written against [`Engine`] alone; the transaction buffer, and with it every limit,
//! is shared by all engines.
//! Not here: the keyspace and its transactions. Engines: `memory` (the model), `embedded` (one machine);
//! `foundationdb` is a later issue.

mod buffered;
pub mod conformance;
pub mod embedded;
mod memory;
mod read_set;
mod traits;
mod write_set;

pub use buffered::Buffered;
pub use memory::{MemoryEngine, MemorySnapshot};
pub use traits::{
    Direction, Engine, EngineError, Isolation, KEY_MAX_BYTES, RangeRead, Row, ShardMove, TXN_MAX_AGE,
    TXN_MAX_BYTES, Transaction, VALUE_MAX_BYTES, Versionstamp,
};
