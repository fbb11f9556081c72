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

/// Calls `enter` with `seed`, every prefix of it, and it with each byte changed in some ways: for the tests of what
/// the fuzzer enters.
#[cfg(test)]
fn near(seed: &[u8], enter: impl Fn(&[u8])) {
    enter(seed);
    for at in 0..seed.len().min(600) {
        enter(&seed[..at]);
        for changed in [0, 1, 0x7f, 0x80, 0xff, seed[at] ^ 1, seed[at] ^ 0x10] {
            let mut near = seed.to_vec();
            near[at] = changed;
            enter(&near);
        }
    }
}
