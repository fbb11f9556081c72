//! AVX-512: 16 lanes.
//!
//! A step is a chain of VPTERNLOGD, VPADDD, VPROLD and VPADDD, 4 cycles in all, in which both 512-bit ports start
//! the 6 instructions of the step and its share of the transposition: a second set of lanes would find no gaps
//! (measured: 9 % more in cache, a third less from memory).
//!
//! Invariants: memory is reached through references only.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_loadu_si512, _mm512_rol_epi32, _mm512_set1_epi32, _mm512_setzero_si512,
    _mm512_shuffle_i32x4, _mm512_storeu_si512, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use super::lanes::Work;
use super::rounds::{CONSTANTS, STEPS, WORDS};
use super::share::{self, LaneWords};
use super::{INPUT_BYTES, Input};

/// Lanes of a set.
pub(super) const WIDTH: usize = 16;

/// The mixing functions of the rounds as truth tables over (b, c, d).
const F: i32 = 0xCA;
const G: i32 = 0xE4;
const H: i32 = 0x96;
const I: i32 = 0x39;

/// Proof that the CPU has AVX-512F.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn new() -> Option<Avx512> {
        is_x86_feature_detected!("avx512f").then_some(Avx512(()))
    }

    /// Advances each of up to [`WIDTH`] streams by `inputs` inputs, not dropping them from the work.
    pub(super) fn compress(self, live: &mut [Work<'_>], inputs: usize) {
        // SAFETY: `self` exists, so the CPU has the feature that this is compiled for.
        unsafe { compress(live, inputs) }
    }
}

#[target_feature(enable = "avx512f")]
fn compress(live: &mut [Work<'_>], inputs: usize) {
    let ([mut words], [sources]) = share::load::<WIDTH, 1>(live, inputs);
    let mut state = [_mm512_setzero_si512(); 4];
    for (state, lanes) in state.iter_mut().zip(&words) {
        *state = load_lanes(lanes);
    }
    for input in 0..inputs {
        let mut message = [_mm512_setzero_si512(); STEPS];
        for (row, source) in message.iter_mut().zip(&sources) {
            *row = load_input(&source[input]);
        }
        message = transpose(message);
        let mut next = state;
        round::<F, 7, 12, 17, 22>(&mut next, &message, 0);
        round::<G, 5, 9, 14, 20>(&mut next, &message, 1);
        round::<H, 4, 11, 16, 23>(&mut next, &message, 2);
        round::<I, 6, 10, 15, 21>(&mut next, &message, 3);
        for (state, next) in state.iter_mut().zip(next) {
            *state = _mm512_add_epi32(*state, next);
        }
    }
    for (lanes, state) in words.iter_mut().zip(state) {
        store_lanes(lanes, state);
    }
    share::unload::<WIDTH>(&[words], live);
}

/// Sixteen steps with the mixing function `MIX` and rotations by `R0` to `R3` in turn.
#[inline]
#[target_feature(enable = "avx512f")]
fn round<const MIX: i32, const R0: i32, const R1: i32, const R2: i32, const R3: i32>(
    [a, b, c, d]: &mut [__m512i; 4],
    message: &[__m512i; STEPS],
    round: usize,
) {
    for i in (0..STEPS).step_by(4) {
        let early = |i: usize| (CONSTANTS[round][i].cast_signed(), message[WORDS[round][i]]);
        step::<MIX, R0>(a, *b, *c, *d, early(i));
        step::<MIX, R1>(d, *a, *b, *c, early(i + 1));
        step::<MIX, R2>(c, *d, *a, *b, early(i + 2));
        step::<MIX, R3>(b, *c, *d, *a, early(i + 3));
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn step<const MIX: i32, const ROTATION: i32>(
    a: &mut __m512i,
    b: __m512i,
    c: __m512i,
    d: __m512i,
    (constant, word): (i32, __m512i),
) {
    let early = _mm512_add_epi32(_mm512_add_epi32(*a, _mm512_set1_epi32(constant)), word);
    let sum = _mm512_add_epi32(early, _mm512_ternarylogic_epi32::<MIX>(b, c, d));
    *a = _mm512_add_epi32(b, _mm512_rol_epi32::<ROTATION>(sum));
}

/// Sixteen words of a stream each become sixteen words of a lane each.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: [__m512i; WIDTH]) -> [__m512i; WIDTH] {
    let mut quads = rows;
    for (quads, rows) in quads.as_chunks_mut::<4>().0.iter_mut().zip(rows.as_chunks::<4>().0) {
        let low = [_mm512_unpacklo_epi32(rows[0], rows[1]), _mm512_unpacklo_epi32(rows[2], rows[3])];
        let high = [_mm512_unpackhi_epi32(rows[0], rows[1]), _mm512_unpackhi_epi32(rows[2], rows[3])];
        *quads = [
            _mm512_unpacklo_epi64(low[0], low[1]),
            _mm512_unpackhi_epi64(low[0], low[1]),
            _mm512_unpacklo_epi64(high[0], high[1]),
            _mm512_unpackhi_epi64(high[0], high[1]),
        ];
    }
    let mut columns = rows;
    for i in 0..4 {
        let even = [
            _mm512_shuffle_i32x4::<0x88>(quads[i], quads[i + 4]),
            _mm512_shuffle_i32x4::<0x88>(quads[i + 8], quads[i + 12]),
        ];
        let odd = [
            _mm512_shuffle_i32x4::<0xDD>(quads[i], quads[i + 4]),
            _mm512_shuffle_i32x4::<0xDD>(quads[i + 8], quads[i + 12]),
        ];
        columns[i] = _mm512_shuffle_i32x4::<0x88>(even[0], even[1]);
        columns[i + 4] = _mm512_shuffle_i32x4::<0x88>(odd[0], odd[1]);
        columns[i + 8] = _mm512_shuffle_i32x4::<0xDD>(even[0], even[1]);
        columns[i + 12] = _mm512_shuffle_i32x4::<0xDD>(odd[0], odd[1]);
    }
    columns
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_input(input: &Input) -> __m512i {
    const _: () = assert!(INPUT_BYTES == size_of::<__m512i>());
    // SAFETY: `input` is 64 readable bytes; the instruction needs no alignment.
    unsafe { _mm512_loadu_si512(input.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_lanes(lanes: &[u32; WIDTH]) -> __m512i {
    // SAFETY: `lanes` is 64 readable bytes; the instruction needs no alignment.
    unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_lanes(lanes: &mut [u32; WIDTH], value: __m512i) {
    // SAFETY: `lanes` is 64 bytes borrowed for writing; the instruction needs no alignment.
    unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), value) }
}

const _: () = assert!(size_of::<LaneWords<WIDTH>>() == 4 * size_of::<__m512i>());
