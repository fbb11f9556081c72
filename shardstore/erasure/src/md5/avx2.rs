//! AVX2: sets of 8 lanes, one or two sets side by side.
//!
//! Without a rotation or a three-way logic instruction a step is a chain of 6 or 7 instructions; a second set of
//! lanes fills the gaps.
//!
//! Invariants: memory is reached through references only.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_and_si256, _mm256_andnot_si256, _mm256_loadu_si256, _mm256_or_si256,
    _mm256_permute2x128_si256, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_sllv_epi32, _mm256_srlv_epi32,
    _mm256_storeu_si256, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64, _mm256_unpacklo_epi32,
    _mm256_unpacklo_epi64, _mm256_xor_si256,
};

use super::lanes::Work;
use super::rounds::{CONSTANTS, STEPS, WORDS};
use super::share::{self, LaneWords};
use super::{INPUT_BYTES, Input};

/// Lanes of a set.
pub(super) const WIDTH: usize = 8;

/// One word of each lane, for each set.
type Sets<const SETS: usize> = [__m256i; SETS];

/// Proof that the CPU has AVX2.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn new() -> Option<Avx2> {
        is_x86_feature_detected!("avx2").then_some(Avx2(()))
    }

    /// Advances each of `live` by `inputs` inputs, not dropping them from the work.
    pub(super) fn compress(self, live: &mut [Work<'_>], inputs: usize) {
        if live.len() <= WIDTH {
            // SAFETY: `self` exists, so the CPU has the feature that this is compiled for.
            unsafe { compress_sets::<1>(live, inputs) }
        } else {
            // SAFETY: `self` exists, so the CPU has the feature that this is compiled for.
            unsafe { compress_sets::<2>(live, inputs) }
        }
    }
}

#[target_feature(enable = "avx2")]
fn compress_sets<const SETS: usize>(live: &mut [Work<'_>], inputs: usize) {
    let (mut words, sources) = share::load::<WIDTH, SETS>(live, inputs);
    let mut state = [[_mm256_setzero_si256(); SETS]; 4];
    for (set, words) in words.iter().enumerate() {
        for (state, lanes) in state.iter_mut().zip(words) {
            state[set] = load_lanes(lanes);
        }
    }
    for input in 0..inputs {
        let mut message = [[_mm256_setzero_si256(); STEPS]; SETS];
        for (message, sources) in message.iter_mut().zip(&sources) {
            for (half, words) in message.as_chunks_mut::<WIDTH>().0.iter_mut().enumerate() {
                for (row, source) in words.iter_mut().zip(sources) {
                    *row = load_half(&source[input], half);
                }
                *words = transpose(*words);
            }
        }
        let mut next = state;
        round::<0, 7, 12, 17, 22, SETS>(&mut next, &message);
        round::<1, 5, 9, 14, 20, SETS>(&mut next, &message);
        round::<2, 4, 11, 16, 23, SETS>(&mut next, &message);
        round::<3, 6, 10, 15, 21, SETS>(&mut next, &message);
        for (state, next) in state.iter_mut().zip(next) {
            for (state, next) in state.iter_mut().zip(next) {
                *state = _mm256_add_epi32(*state, next);
            }
        }
    }
    for (set, words) in words.iter_mut().enumerate() {
        for (state, lanes) in state.iter().zip(words) {
            store_lanes(lanes, state[set]);
        }
    }
    share::unload::<WIDTH>(&words, live);
}

/// Sixteen steps of round `ROUND`, with rotations by `R0` to `R3` in turn.
#[inline]
#[target_feature(enable = "avx2")]
fn round<
    const ROUND: usize,
    const R0: i32,
    const R1: i32,
    const R2: i32,
    const R3: i32,
    const SETS: usize,
>(
    [a, b, c, d]: &mut [Sets<SETS>; 4],
    message: &[[__m256i; STEPS]; SETS],
) {
    for i in (0..STEPS).step_by(4) {
        step::<ROUND, R0, SETS>(a, *b, *c, *d, message, i);
        step::<ROUND, R1, SETS>(d, *a, *b, *c, message, i + 1);
        step::<ROUND, R2, SETS>(c, *d, *a, *b, message, i + 2);
        step::<ROUND, R3, SETS>(b, *c, *d, *a, message, i + 3);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn step<const ROUND: usize, const ROTATION: i32, const SETS: usize>(
    a: &mut Sets<SETS>,
    b: Sets<SETS>,
    c: Sets<SETS>,
    d: Sets<SETS>,
    message: &[[__m256i; STEPS]; SETS],
    i: usize,
) {
    let constant = _mm256_set1_epi32(CONSTANTS[ROUND][i].cast_signed());
    for set in 0..SETS {
        let early = _mm256_add_epi32(_mm256_add_epi32(a[set], constant), message[set][WORDS[ROUND][i]]);
        let sum = _mm256_add_epi32(early, mix::<ROUND>(b[set], c[set], d[set]));
        a[set] = _mm256_add_epi32(b[set], rotate::<ROTATION>(sum));
    }
}

/// The functions F, G, H and I of RFC 1321, written so that `b`, which comes last, enters late.
#[inline]
#[target_feature(enable = "avx2")]
fn mix<const ROUND: usize>(b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    match ROUND {
        0 => _mm256_xor_si256(_mm256_and_si256(_mm256_xor_si256(c, d), b), d),
        1 => _mm256_or_si256(_mm256_andnot_si256(d, c), _mm256_and_si256(d, b)),
        2 => _mm256_xor_si256(_mm256_xor_si256(c, d), b),
        _ => {
            let not_d = _mm256_xor_si256(d, _mm256_set1_epi32(-1));
            _mm256_xor_si256(c, _mm256_or_si256(not_d, b))
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotate<const ROTATION: i32>(value: __m256i) -> __m256i {
    let up = _mm256_sllv_epi32(value, _mm256_set1_epi32(ROTATION));
    let down = _mm256_srlv_epi32(value, _mm256_set1_epi32(32 - ROTATION));
    _mm256_or_si256(up, down)
}

/// Eight words of a stream each become eight words of a lane each.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(rows: [__m256i; WIDTH]) -> [__m256i; WIDTH] {
    let mut quads = rows;
    for (quads, rows) in quads.as_chunks_mut::<4>().0.iter_mut().zip(rows.as_chunks::<4>().0) {
        let low = [_mm256_unpacklo_epi32(rows[0], rows[1]), _mm256_unpacklo_epi32(rows[2], rows[3])];
        let high = [_mm256_unpackhi_epi32(rows[0], rows[1]), _mm256_unpackhi_epi32(rows[2], rows[3])];
        *quads = [
            _mm256_unpacklo_epi64(low[0], low[1]),
            _mm256_unpackhi_epi64(low[0], low[1]),
            _mm256_unpacklo_epi64(high[0], high[1]),
            _mm256_unpackhi_epi64(high[0], high[1]),
        ];
    }
    let mut columns = rows;
    for i in 0..4 {
        columns[i] = _mm256_permute2x128_si256::<0x20>(quads[i], quads[i + 4]);
        columns[i + 4] = _mm256_permute2x128_si256::<0x31>(quads[i], quads[i + 4]);
    }
    columns
}

/// Half 0 or 1 of `input`.
#[inline]
#[target_feature(enable = "avx2")]
fn load_half(input: &Input, half: usize) -> __m256i {
    let half: &[u8; INPUT_BYTES / 2] = &input.as_chunks().0[half];
    // SAFETY: `half` is 32 readable bytes; the instruction needs no alignment.
    unsafe { _mm256_loadu_si256(half.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_lanes(lanes: &[u32; WIDTH]) -> __m256i {
    // SAFETY: `lanes` is 32 readable bytes; the instruction needs no alignment.
    unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_lanes(lanes: &mut [u32; WIDTH], value: __m256i) {
    // SAFETY: `lanes` is 32 bytes borrowed for writing; the instruction needs no alignment.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), value) }
}

const _: () = assert!(size_of::<LaneWords<WIDTH>>() == 4 * size_of::<__m256i>());
