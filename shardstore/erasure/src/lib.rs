//! Reed-Solomon and hash kernels: pure functions over slices.
//!
//! * [`Codec`] encodes, verifies and rebuilds the shards of a stripe, with the [`Kernel`] that fits the CPU.
//! * [`checksum`] has the CRCs of pages and of S3, and joins them without reading data again.
//! * [`md5`] hashes many independent streams at once, one to a SIMD lane.
//!
//! Invariants: nothing here allocates per byte, performs I/O or keeps state between calls; every kernel gives
//! the same bytes as every other. Unsafe code is allowed here and stays inside `kernel` and `md5`.
//! Not here: pages, headers and stripes' places on drives (`shardstore-format`, `shardstore`).

pub mod checksum;
mod codec;
mod galois;
mod kernel;
mod matrix;
pub mod md5;
mod rebuild;

pub use codec::{Codec, CodecError};
pub use kernel::Kernel;
pub use matrix::SHARDS_MAX;
pub use rebuild::RebuildError;
