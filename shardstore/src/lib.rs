//! Erasure-coded volumes on drives: write, read, recover, reclaim.
//! Invariants: no byte is acknowledged before it is durable on every shard; no byte is returned unverified.
//! Not here: keys, buckets, HTTP, the metadata engines.
#![forbid(unsafe_code)]

mod catalog;

pub use catalog::{Catalog, CatalogError, OwnerRow, VolumeUsage};
