//! AVX2: 32 products per two PSHUFB, up to 4 outputs per pass over the inputs.
//!
//! A product is the XOR of two look-ups in tables of 16, one per nibble. The sums of 32 bytes of each output
//! stay in registers while the inputs stream by.
//!
//! Invariants: memory is reached through references only; the tail goes to the scalar kernel.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_loadu_si128, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_loadu_si256,
    _mm256_set1_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi64, _mm256_storeu_si256,
    _mm256_xor_si256,
};

use crate::galois::NIBBLE_PRODUCTS;
use crate::kernel::scalar;
use crate::matrix::{Row, SHARDS_MAX};

/// Bytes of a register, and of each shard in one step.
const VECTOR_BYTES: usize = 32;

/// Outputs of one pass: 4 sums, 2 x 2 nibbles and tables leave none of the 16 registers to spill.
const OUTPUTS_MAX: usize = 4;

/// Proof that the CPU has AVX2.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn new() -> Option<Avx2> {
        is_x86_feature_detected!("avx2").then_some(Avx2(()))
    }

    /// See [`super::Kernel::multiply`], which has checked counts and lengths.
    pub(super) fn multiply(self, rows: &[Row], inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
        let len_bytes = outputs[0].len();
        let whole_bytes = len_bytes - len_bytes % VECTOR_BYTES;
        for (rows, outputs) in rows.chunks(OUTPUTS_MAX).zip(outputs.chunks_mut(OUTPUTS_MAX)) {
            // SAFETY: `self` exists, so the CPU has the feature that `pass` is compiled for.
            unsafe { pass(rows, inputs, outputs, whole_bytes) }
        }
        if whole_bytes < len_bytes {
            multiply_tail(rows, inputs, outputs, whole_bytes);
        }
    }
}

fn multiply_tail(rows: &[Row], inputs: &[&[u8]], outputs: &mut [&mut [u8]], at_bytes: usize) {
    let mut input_tails: [&[u8]; SHARDS_MAX] = [&[]; SHARDS_MAX];
    for (tail, input) in input_tails.iter_mut().zip(inputs) {
        *tail = &input[at_bytes..];
    }
    for (row, output) in rows.iter().zip(outputs) {
        let row = std::slice::from_ref(row);
        scalar::multiply(row, &input_tails[..inputs.len()], &mut [&mut output[at_bytes..]]);
    }
}

#[target_feature(enable = "avx2")]
fn pass(rows: &[Row], inputs: &[&[u8]], outputs: &mut [&mut [u8]], whole_bytes: usize) {
    match rows.len() {
        1 => pass_of::<1>(rows, inputs, outputs, whole_bytes),
        2 => pass_of::<2>(rows, inputs, outputs, whole_bytes),
        3 => pass_of::<3>(rows, inputs, outputs, whole_bytes),
        4 => pass_of::<4>(rows, inputs, outputs, whole_bytes),
        count => unreachable!("a pass of {count} outputs"),
    }
}

#[target_feature(enable = "avx2")]
fn pass_of<const OUTPUTS: usize>(
    rows: &[Row],
    inputs: &[&[u8]],
    outputs: &mut [&mut [u8]],
    whole_bytes: usize,
) {
    let tables = tables::<OUTPUTS>(rows, inputs.len());
    let nibble = _mm256_set1_epi8(15);
    for at_bytes in (0..whole_bytes).step_by(VECTOR_BYTES) {
        let mut sums = [_mm256_setzero_si256(); OUTPUTS];
        for (input, tables) in inputs.iter().zip(&tables) {
            let value = load(input, at_bytes);
            let low = _mm256_and_si256(value, nibble);
            let high = _mm256_and_si256(_mm256_srli_epi64::<4>(value), nibble);
            for (sum, [low_products, high_products]) in sums.iter_mut().zip(tables) {
                let low = _mm256_shuffle_epi8(load_table(low_products), low);
                let high = _mm256_shuffle_epi8(load_table(high_products), high);
                *sum = _mm256_xor_si256(*sum, _mm256_xor_si256(low, high));
            }
        }
        for (output, sum) in outputs.iter_mut().zip(sums) {
            store(output, at_bytes, sum);
        }
    }
}

/// The nibble tables of each input's factors, in the order in which a pass needs them.
fn tables<const OUTPUTS: usize>(
    rows: &[Row],
    inputs: usize,
) -> [[&'static [[u8; 16]; 2]; OUTPUTS]; SHARDS_MAX] {
    let mut tables = [[&NIBBLE_PRODUCTS[0]; OUTPUTS]; SHARDS_MAX];
    for (input, tables) in tables.iter_mut().enumerate().take(inputs) {
        for (table, row) in tables.iter_mut().zip(rows) {
            *table = &NIBBLE_PRODUCTS[usize::from(row[input])];
        }
    }
    tables
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_table(table: &[u8; 16]) -> __m256i {
    let pointer: *const __m128i = table.as_ptr().cast();
    // SAFETY: `table` is 16 readable bytes; the instruction needs no alignment.
    let table = unsafe { _mm_loadu_si128(pointer) };
    _mm256_broadcastsi128_si256(table)
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(shard: &[u8], at_bytes: usize) -> __m256i {
    let window: &[u8; VECTOR_BYTES] = shard[at_bytes..].first_chunk().expect("a whole vector");
    // SAFETY: `window` is 32 readable bytes; the instruction needs no alignment.
    unsafe { _mm256_loadu_si256(window.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(shard: &mut [u8], at_bytes: usize, value: __m256i) {
    let window: &mut [u8; VECTOR_BYTES] = shard[at_bytes..].first_chunk_mut().expect("a whole vector");
    // SAFETY: `window` is 32 bytes borrowed for writing; the instruction needs no alignment.
    unsafe { _mm256_storeu_si256(window.as_mut_ptr().cast(), value) }
}
