//! GFNI + AVX-512: 64 products per instruction, up to 8 outputs per pass over the inputs.
//!
//! A product is one GF2P8AFFINEQB with the factor's bit matrix. The sums of 2 x 64 bytes of each output stay in
//! registers while the inputs stream by, so an input is read once for every 8 outputs, and an output is written
//! once and never read. 2 x 8 sums, 2 inputs and a factor need 19 of the 32 registers.
//!
//! Invariants: memory is reached through references only; the tail is masked, so no byte past a shard is touched.

use std::arch::x86_64::{
    __m512i, _mm512_gf2p8affine_epi64_epi8, _mm512_loadu_si512, _mm512_mask_storeu_epi8,
    _mm512_maskz_loadu_epi8, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_storeu_si512, _mm512_xor_si512,
};

use crate::galois;
use crate::matrix::{Row, SHARDS_MAX};

/// Bytes of a register.
const VECTOR_BYTES: usize = 64;

/// Registers of each shard in one step.
const VECTORS: usize = 2;

/// Bytes of each shard in one step.
const STEP_BYTES: usize = VECTORS * VECTOR_BYTES;

/// Outputs of one pass; see the module.
const OUTPUTS_MAX: usize = 8;

/// `BIT_MATRICES[factor]`: multiplication by `factor` as the 8x8 bit matrix of GF2P8AFFINEQB. 2 KiB.
///
/// Byte `7 - i` of the word is the row that makes bit `i` of the product: its bit `j` says whether bit `j` of
/// the input takes part. Source: Intel SDM, GF2P8AFFINEQB.
static BIT_MATRICES: [u64; 256] = bit_matrices();

/// Proof that the CPU has GFNI, AVX-512F and AVX-512BW.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Gfni512(());

impl Gfni512 {
    pub(super) fn new() -> Option<Gfni512> {
        let has_all = is_x86_feature_detected!("gfni")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw");
        has_all.then_some(Gfni512(()))
    }

    /// See [`super::Kernel::multiply`], which has checked counts and lengths.
    pub(super) fn multiply(self, rows: &[Row], inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
        for (rows, outputs) in rows.chunks(OUTPUTS_MAX).zip(outputs.chunks_mut(OUTPUTS_MAX)) {
            // SAFETY: `self` exists, so the CPU has the features that `pass` is compiled for.
            unsafe { pass(rows, inputs, outputs) }
        }
    }
}

#[target_feature(enable = "gfni,avx512f,avx512bw")]
fn pass(rows: &[Row], inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
    match rows.len() {
        1 => pass_of::<1>(rows, inputs, outputs),
        2 => pass_of::<2>(rows, inputs, outputs),
        3 => pass_of::<3>(rows, inputs, outputs),
        4 => pass_of::<4>(rows, inputs, outputs),
        5 => pass_of::<5>(rows, inputs, outputs),
        6 => pass_of::<6>(rows, inputs, outputs),
        7 => pass_of::<7>(rows, inputs, outputs),
        8 => pass_of::<8>(rows, inputs, outputs),
        count => unreachable!("a pass of {count} outputs"),
    }
}

#[target_feature(enable = "gfni,avx512f,avx512bw")]
fn pass_of<const OUTPUTS: usize>(rows: &[Row], inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
    let factors = factors::<OUTPUTS>(rows, inputs.len());
    let len_bytes = outputs[0].len();
    let whole_bytes = len_bytes - len_bytes % STEP_BYTES;
    for at_bytes in (0..whole_bytes).step_by(STEP_BYTES) {
        let mut sums = [[_mm512_setzero_si512(); VECTORS]; OUTPUTS];
        for (input, factors) in inputs.iter().zip(&factors) {
            let values = [load(input, at_bytes), load(input, at_bytes + VECTOR_BYTES)];
            for (sum, &factor) in sums.iter_mut().zip(factors) {
                let factor = _mm512_set1_epi64(factor);
                for (sum, value) in sum.iter_mut().zip(values) {
                    *sum = add_product(*sum, value, factor);
                }
            }
        }
        for (output, sum) in outputs.iter_mut().zip(sums) {
            store(output, at_bytes, sum[0]);
            store(output, at_bytes + VECTOR_BYTES, sum[1]);
        }
    }
    for at_bytes in (whole_bytes..len_bytes).step_by(VECTOR_BYTES) {
        let mut sums = [_mm512_setzero_si512(); OUTPUTS];
        for (input, factors) in inputs.iter().zip(&factors) {
            let value = load_tail(&input[at_bytes..]);
            for (sum, &factor) in sums.iter_mut().zip(factors) {
                *sum = add_product(*sum, value, _mm512_set1_epi64(factor));
            }
        }
        for (output, sum) in outputs.iter_mut().zip(sums) {
            store_tail(&mut output[at_bytes..], sum);
        }
    }
}

/// The bit matrices of each input's factors, in the order in which a pass needs them.
fn factors<const OUTPUTS: usize>(rows: &[Row], inputs: usize) -> [[i64; OUTPUTS]; SHARDS_MAX] {
    let mut factors = [[0; OUTPUTS]; SHARDS_MAX];
    for (input, factors) in factors.iter_mut().enumerate().take(inputs) {
        for (factor, row) in factors.iter_mut().zip(rows) {
            *factor = BIT_MATRICES[usize::from(row[input])].cast_signed();
        }
    }
    factors
}

#[inline]
#[target_feature(enable = "gfni,avx512f")]
fn add_product(sum: __m512i, value: __m512i, factor: __m512i) -> __m512i {
    _mm512_xor_si512(sum, _mm512_gf2p8affine_epi64_epi8::<0>(value, factor))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(shard: &[u8], at_bytes: usize) -> __m512i {
    let window: &[u8; VECTOR_BYTES] = shard[at_bytes..].first_chunk().expect("a whole vector");
    // SAFETY: `window` is 64 readable bytes; the instruction needs no alignment.
    unsafe { _mm512_loadu_si512(window.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(shard: &mut [u8], at_bytes: usize, value: __m512i) {
    let window: &mut [u8; VECTOR_BYTES] = shard[at_bytes..].first_chunk_mut().expect("a whole vector");
    // SAFETY: `window` is 64 bytes borrowed for writing; the instruction needs no alignment.
    unsafe { _mm512_storeu_si512(window.as_mut_ptr().cast(), value) }
}

/// Up to a vector from the start of `rest`; bytes past its end read as zeros.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load_tail(rest: &[u8]) -> __m512i {
    // SAFETY: the mask has a bit for each byte of `rest` up to 64 and no more; masked bytes are not accessed.
    unsafe { _mm512_maskz_loadu_epi8(tail_mask(rest.len()), rest.as_ptr().cast()) }
}

/// Up to a vector to the start of `rest`; no byte past its end is written.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store_tail(rest: &mut [u8], value: __m512i) {
    // SAFETY: the mask has a bit for each byte of `rest` up to 64 and no more; masked bytes are not accessed.
    unsafe { _mm512_mask_storeu_epi8(rest.as_mut_ptr().cast(), tail_mask(rest.len()), value) }
}

/// A bit for each of the first `len_bytes` bytes of a vector, all 64 from there on.
fn tail_mask(len_bytes: usize) -> u64 {
    if len_bytes >= VECTOR_BYTES { u64::MAX } else { (1 << len_bytes) - 1 }
}

const fn bit_matrices() -> [u64; 256] {
    let mut table = [0; 256];
    let mut factor: u8 = 0;
    loop {
        let mut rows = [0u8; 8];
        let mut input_bit = 0;
        while input_bit < 8 {
            let product = galois::multiply(factor, 1 << input_bit);
            let mut output_bit = 0;
            while output_bit < 8 {
                rows[7 - output_bit] |= ((product >> output_bit) & 1) << input_bit;
                output_bit += 1;
            }
            input_bit += 1;
        }
        table[factor as usize] = u64::from_le_bytes(rows);
        if factor == u8::MAX {
            return table;
        }
        factor += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_matrices_give_the_product() {
        for factor in 0..=u8::MAX {
            let rows = BIT_MATRICES[usize::from(factor)].to_le_bytes();
            for x in 0..=u8::MAX {
                let product = galois::multiply(factor, x);
                for bit in 0..8 {
                    assert_eq!((rows[7 - bit] & x).count_ones() & 1, u32::from(product >> bit & 1));
                }
            }
        }
    }
}
