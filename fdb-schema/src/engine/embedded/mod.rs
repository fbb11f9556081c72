//! The embedded engine's parts: the replicated log and the tree of runs.
//! Invariants: every byte of it goes through `Drive` or `RunStore`, so the simulator owns it.

pub mod log;
pub mod tree;
