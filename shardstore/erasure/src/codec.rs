//! The code of one redundancy profile: k data shards, m parity shards, any k of which give back all.
//!
//! Invariants: 1 <= k and k + m <= [`SHARDS_MAX`]; a codec never changes, so clones and cores may share it; the
//! bytes it makes depend on (k, m) only, never on the kernel.
//! Not here: which shards exist or where they lie; rebuilding (`rebuild`).

use std::fmt;
use std::sync::Arc;

use crate::kernel::Kernel;
use crate::matrix::{self, Row, SHARDS_MAX};

/// Encodes, verifies and rebuilds stripes of k data and m parity shards. Cloning copies a pointer.
///
/// Short stripes: where a stripe has fewer than k data shards the others count as zeros, and cost nothing.
#[derive(Clone, Debug)]
pub struct Codec {
    k: usize,
    /// Row `p` makes parity shard `p` of the k data shards; m rows.
    parity_rows: Arc<[Row]>,
    kernel: Kernel,
}

/// Why there is no codec for a (k, m).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodecError {
    /// k is 0: choose at least one data shard.
    NoDataShards,
    /// k + m is over [`SHARDS_MAX`]: choose fewer.
    TooManyShards {
        /// k + m as asked for.
        shards: usize,
    },
}

/// Verification encodes into a tile of this size and compares it: all tiles of a group of 8 parity shards fit
/// into 16 KiB of stack, a third of the smallest L1 cache of interest.
const VERIFY_TILE_BYTES: usize = 2048;

/// Parity shards verified in one pass over the data.
const VERIFY_SHARDS: usize = 8;

impl Codec {
    /// The codec of `k` data and `m` parity shards with the fastest kernel of this CPU.
    ///
    /// Cost: k^3 field products; make it once.
    ///
    /// # Errors
    /// [`CodecError`] if `k` is 0 or `k + m` is over [`SHARDS_MAX`].
    pub fn new(k: usize, m: usize) -> Result<Codec, CodecError> {
        Codec::with_kernel(k, m, Kernel::detect())
    }

    /// As [`Codec::new`], with a kernel of the caller's choice.
    ///
    /// # Errors
    /// As [`Codec::new`].
    pub fn with_kernel(k: usize, m: usize, kernel: Kernel) -> Result<Codec, CodecError> {
        if k == 0 {
            return Err(CodecError::NoDataShards);
        }
        let shards = k.saturating_add(m);
        if shards > SHARDS_MAX {
            return Err(CodecError::TooManyShards { shards });
        }
        Ok(Codec { k, parity_rows: Arc::from(&matrix::parity_rows(k, m)[..m]), kernel })
    }

    /// Number of data shards, k.
    pub fn data_shards(&self) -> usize {
        self.k
    }

    /// Number of parity shards, m.
    pub fn parity_shards(&self) -> usize {
        self.parity_rows.len()
    }

    /// The kernel in use.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Writes every parity shard of `data`, which may be fewer than k shards: those absent count as zeros.
    ///
    /// Any length in bytes. Panics if there are more than k data shards or not exactly m parity shards, or if
    /// lengths differ: the caller made these buffers.
    pub fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) {
        assert!(data.len() <= self.k, "{} data shards, k is {}", data.len(), self.k);
        assert_eq!(parity.len(), self.parity_rows.len(), "parity shards");
        self.kernel.multiply(&self.parity_rows, data, parity);
    }

    /// Whether `parity` is the parity of `data`, which may be fewer than k shards as in [`Codec::encode`].
    ///
    /// Shards of differing lengths or of a wrong number are no stripe of this code: false.
    pub fn verify(&self, data: &[&[u8]], parity: &[&[u8]]) -> bool {
        if data.len() > self.k || parity.len() != self.parity_rows.len() {
            return false;
        }
        let Some(len_bytes) = parity.first().map(|shard| shard.len()) else { return true };
        if data.iter().chain(parity).any(|shard| shard.len() != len_bytes) {
            return false;
        }
        (0..len_bytes).step_by(VERIFY_TILE_BYTES).all(|at_bytes| {
            let tile_bytes = VERIFY_TILE_BYTES.min(len_bytes - at_bytes);
            self.verify_tile(data, parity, at_bytes, tile_bytes)
        })
    }

    fn verify_tile(&self, data: &[&[u8]], parity: &[&[u8]], at_bytes: usize, tile_bytes: usize) -> bool {
        let range = at_bytes..at_bytes + tile_bytes;
        let mut inputs: [&[u8]; SHARDS_MAX] = [&[]; SHARDS_MAX];
        for (input, shard) in inputs.iter_mut().zip(data) {
            *input = &shard[range.clone()];
        }
        let mut tiles = [[0; VERIFY_TILE_BYTES]; VERIFY_SHARDS];
        let groups = self.parity_rows.chunks(VERIFY_SHARDS).zip(parity.chunks(VERIFY_SHARDS));
        for (rows, parity) in groups {
            let mut outputs = tiles.each_mut().map(|tile| &mut tile[..tile_bytes]);
            let outputs = &mut outputs[..rows.len()];
            self.kernel.multiply(rows, &inputs[..data.len()], outputs);
            if outputs.iter().zip(parity).any(|(made, shard)| **made != shard[range.clone()]) {
                return false;
            }
        }
        true
    }

    /// The row that makes parity shard `p`.
    pub(crate) fn parity_row(&self, p: usize) -> &Row {
        &self.parity_rows[p]
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodecError::NoDataShards => write!(f, "an erasure code needs at least one data shard"),
            CodecError::TooManyShards { shards } => {
                write!(f, "an erasure code of {shards} shards; at most {SHARDS_MAX} are supported")
            }
        }
    }
}

impl std::error::Error for CodecError {}
