//! Rebuilding lost shards of a stripe from any k known ones.
//!
//! Only the lost data shards are solved for: with e of them, e parity shards give an e x e system, so the usual
//! single loss costs one field inversion and k products before the first byte, and no table of inverted
//! matrices needs to be kept, bounded or shared.
//!
//! Invariants: the outcome does not depend on which k of the known shards are used; nothing is written unless
//! the whole request can be met.
//! Not here: deciding which shards to read; checking what is rebuilt (a page's CRC32C does).

use std::fmt;

use crate::codec::Codec;
use crate::matrix::{self, Matrix, Row, SHARDS_MAX};

/// Why shards cannot be rebuilt. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebuildError {
    /// Fewer than k shards are known: read more of them, or the stripe is lost.
    TooFewShards {
        /// Shards known, absent data shards of a short stripe included.
        known: usize,
        /// k.
        needed: usize,
    },
    /// A shard's index is not below k + m: the request does not fit this code.
    NoSuchShard {
        /// The index as given.
        index: usize,
    },
    /// A shard is listed twice, or both as present and as missing: the request contradicts itself.
    RepeatedShard {
        /// Its index.
        index: usize,
    },
    /// Shards differ in length: they are not of one stripe.
    LengthMismatch {
        /// The shard that differs from those before it.
        index: usize,
    },
    /// The stripe claims more data shards than k: its header is of another code.
    TooManyDataShards {
        /// The number it claims.
        claimed: usize,
        /// k.
        k: usize,
    },
}

impl Codec {
    /// Fills `missing` with the shards it names, data (0..k) or parity (k..k+m), from the shards in `present`.
    ///
    /// Shards `data_shards_present_in_stripe..k` of a short stripe are known to be zeros: they need not be in
    /// `present` (there they are ignored) and rebuild as zeros. The rest of the stripe may be in neither list.
    /// Cost: one pass over k shards for up to 8 missing ones; nothing is allocated.
    ///
    /// # Errors
    /// [`RebuildError`]; nothing has been written then.
    pub fn rebuild(
        &self,
        present: &[(usize, &[u8])],
        missing: &mut [(usize, &mut [u8])],
        data_shards_present_in_stripe: usize,
    ) -> Result<(), RebuildError> {
        let stripe = Stripe::new(self, present, missing, data_shards_present_in_stripe)?;
        let solution = Solution::new(self, &stripe)?;
        let mut rows = matrix::ZERO;
        let mut outputs: [&mut [u8]; SHARDS_MAX] = std::array::from_fn(|_| -> &mut [u8] { &mut [] });
        let count = missing.len();
        for ((row, output), (index, buffer)) in rows.iter_mut().zip(&mut outputs).zip(missing) {
            *row = solution.row(self, &stripe, *index);
            *output = buffer;
        }
        let mut inputs: [&[u8]; SHARDS_MAX] = [&[]; SHARDS_MAX];
        for (input, &index) in inputs.iter_mut().zip(solution.inputs.as_slice()) {
            *input = stripe.shards[index].expect("a solution takes its inputs from the known shards");
        }
        let inputs = &inputs[..solution.inputs.as_slice().len()];
        self.kernel().multiply(&rows[..count], inputs, &mut outputs[..count]);
        Ok(())
    }
}

/// What is known of a stripe, checked against the code and against itself.
struct Stripe<'a> {
    /// The shards at hand by index; absent data shards of a short stripe are not among them.
    shards: [Option<&'a [u8]>; SHARDS_MAX],
    data_pages: usize,
}

impl<'a> Stripe<'a> {
    fn new(
        codec: &Codec,
        present: &[(usize, &'a [u8])],
        missing: &[(usize, &mut [u8])],
        data_pages: usize,
    ) -> Result<Stripe<'a>, RebuildError> {
        let k = codec.data_shards();
        if data_pages > k {
            return Err(RebuildError::TooManyDataShards { claimed: data_pages, k });
        }
        let mut seen = [false; SHARDS_MAX];
        let mut len_bytes = None;
        let mut shards = [None; SHARDS_MAX];
        let listed = present.iter().map(|&(index, shard)| (index, shard.len()));
        for (index, shard_bytes) in listed.chain(missing.iter().map(|(index, shard)| (*index, shard.len()))) {
            if index >= k + codec.parity_shards() {
                return Err(RebuildError::NoSuchShard { index });
            }
            if std::mem::replace(&mut seen[index], true) {
                return Err(RebuildError::RepeatedShard { index });
            }
            if *len_bytes.get_or_insert(shard_bytes) != shard_bytes {
                return Err(RebuildError::LengthMismatch { index });
            }
        }
        for &(index, shard) in present {
            if !(data_pages..k).contains(&index) {
                shards[index] = Some(shard);
            }
        }
        Ok(Stripe { shards, data_pages })
    }

    fn is_known(&self, index: usize) -> bool {
        self.shards[index].is_some()
    }
}

/// The lost data shards as sums over the inputs.
struct Solution {
    /// The shards to read: all known data shards, then one parity shard for each lost data shard.
    inputs: Indexes,
    /// Data shards that are neither known nor zero.
    lost: Indexes,
    /// Row `l` makes lost data shard `l` of the inputs.
    rows: Matrix,
}

impl Solution {
    fn new(codec: &Codec, stripe: &Stripe<'_>) -> Result<Solution, RebuildError> {
        let k = codec.data_shards();
        let mut inputs = Indexes::default();
        let mut lost = Indexes::default();
        for index in 0..stripe.data_pages {
            if stripe.is_known(index) { inputs.push(index) } else { lost.push(index) }
        }
        let data_known = inputs.as_slice().len();
        let parity = (k..k + codec.parity_shards()).filter(|&index| stripe.is_known(index));
        for index in parity.take(lost.as_slice().len()) {
            inputs.push(index);
        }
        let known = inputs.as_slice().len() + (k - stripe.data_pages);
        if known < k {
            return Err(RebuildError::TooFewShards { known, needed: k });
        }
        let rows = solve(codec, &inputs, data_known, &lost);
        Ok(Solution { inputs, lost, rows })
    }

    /// The row that makes shard `index` of the inputs.
    fn row(&self, codec: &Codec, stripe: &Stripe<'_>, index: usize) -> Row {
        let mut row = [0; SHARDS_MAX];
        if index < codec.data_shards() {
            if index < stripe.data_pages {
                row = self.rows[self.lost.position(index)];
            }
            return row;
        }
        let parity_row = codec.parity_row(index - codec.data_shards());
        for (factor, &input) in row.iter_mut().zip(self.inputs.as_slice()) {
            *factor = if input < codec.data_shards() { parity_row[input] } else { 0 };
        }
        for (lost_row, &lost) in self.rows.iter().zip(self.lost.as_slice()) {
            matrix::add_scaled(&mut row, parity_row[lost], lost_row);
        }
        row
    }
}

/// Solves the parity equations in `inputs[data_known..]` for the data shards in `lost`.
///
/// Parity q = sum of A[q][l] * lost l + sum of P[q][j] * known j, so lost = A^-1 * (parity + P * known).
fn solve(codec: &Codec, inputs: &Indexes, data_known: usize, lost: &Indexes) -> Matrix {
    let (known, parity) = inputs.as_slice().split_at(data_known);
    assert_eq!(parity.len(), lost.as_slice().len());
    let mut unknowns = matrix::ZERO;
    let mut knowns = matrix::ZERO;
    for (q, &index) in parity.iter().enumerate() {
        let parity_row = codec.parity_row(index - codec.data_shards());
        for (l, &lost) in lost.as_slice().iter().enumerate() {
            unknowns[q][l] = parity_row[lost];
        }
        for (j, &known) in known.iter().enumerate() {
            knowns[q][j] = parity_row[known];
        }
        knowns[q][data_known + q] = 1;
    }
    let inverted = matrix::invert(&unknowns, parity.len()).expect("any k rows of the code can be inverted");
    let mut rows = matrix::ZERO;
    for (row, factors) in rows.iter_mut().zip(&inverted).take(parity.len()) {
        for (knowns, &factor) in knowns.iter().zip(factors).take(parity.len()) {
            matrix::add_scaled(row, factor, knowns);
        }
    }
    rows
}

/// A short list of shard indexes.
#[derive(Default)]
struct Indexes {
    entries: [usize; SHARDS_MAX],
    count: usize,
}

impl Indexes {
    fn push(&mut self, index: usize) {
        self.entries[self.count] = index;
        self.count += 1;
    }

    fn as_slice(&self) -> &[usize] {
        &self.entries[..self.count]
    }

    fn position(&self, index: usize) -> usize {
        self.as_slice().iter().position(|&entry| entry == index).expect("a missing data shard is a lost one")
    }
}

impl fmt::Display for RebuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RebuildError::TooFewShards { known, needed } => {
                write!(f, "{known} shards of the stripe are known, {needed} are needed")
            }
            RebuildError::NoSuchShard { index } => write!(f, "the code has no shard {index}"),
            RebuildError::RepeatedShard { index } => write!(f, "shard {index} is listed twice"),
            RebuildError::LengthMismatch { index } => write!(f, "shard {index} differs in length"),
            RebuildError::TooManyDataShards { claimed, k } => {
                write!(f, "the stripe claims {claimed} data shards, the code has {k}")
            }
        }
    }
}

impl std::error::Error for RebuildError {}
