//! Reed-Solomon of every kernel against memcpy, interleaved in one run.
//!
//! Invariants: each figure is the median over rounds in which all contenders take turns, so a slow spell of the
//! machine hits all alike; bytes counted are the k inputs. Run it pinned to one core:
//! `taskset -c 1 cargo run --release -p perf --bin erasure`.
//! Not here: correctness (the tests of `shardstore-erasure`).

use std::hint::black_box;
use std::time::Duration;

use shardstore_erasure::{Codec, Kernel, RebuildError};

const K: usize = 8;
const M: usize = 4;
const SHARD_BYTES: usize = 128 << 10;

/// Rounds of all contenders; each runs [`REPEATS`] times a round.
const ROUNDS: usize = 101;
const REPEATS: usize = 16;

fn main() {
    let data: Vec<Vec<u8>> = (0..K).map(shard_of_noise).collect();
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    let mut contenders = vec![memcpy(&data)];
    for kernel in Kernel::available() {
        contenders.extend(contenders_of(kernel, &data));
    }
    for _ in 0..ROUNDS {
        for contender in &mut contenders {
            contender.run_once();
        }
    }
    report(&contenders);
}

/// One kind of work over the same inputs, and how long it took in each round.
struct Contender<'a> {
    name: String,
    work: Box<dyn FnMut() + 'a>,
    times: Vec<Duration>,
}

impl<'a> Contender<'a> {
    fn new(name: String, work: impl FnMut() + 'a) -> Contender<'a> {
        Contender { name, work: Box::new(work), times: Vec::new() }
    }

    fn run_once(&mut self) {
        (self.work)();
        let start = now();
        for _ in 0..REPEATS {
            (self.work)();
        }
        self.times.push(start.elapsed());
    }

    /// GB of inputs per second, median.
    fn gb_per_s(&self) -> f64 {
        let mut times = self.times.clone();
        times.sort();
        (K * SHARD_BYTES * REPEATS) as f64 / times[times.len() / 2].as_secs_f64() / 1e9
    }
}

fn memcpy<'a>(data: &'a [&'a [u8]]) -> Contender<'a> {
    let mut copies = vec![vec![0; SHARD_BYTES]; K];
    Contender::new("memcpy of the inputs".into(), move || {
        for (copy, shard) in copies.iter_mut().zip(data) {
            copy.copy_from_slice(black_box(shard));
        }
        black_box(&mut copies);
    })
}

fn contenders_of<'a>(kernel: Kernel, data: &'a [&'a [u8]]) -> Vec<Contender<'a>> {
    let codec = Codec::with_kernel(K, M, kernel).expect("a code of 8+4");
    let mut parity = vec![vec![0; SHARD_BYTES]; M];
    encode(&codec, data, &mut parity);
    let name = kernel.name();
    let mut contenders = Vec::new();
    let encoder = codec.clone();
    let mut made = parity.clone();
    contenders.push(Contender::new(format!("{name} encode 8+4"), move || {
        encode(&encoder, black_box(data), &mut made);
        black_box(&mut made);
    }));
    for lost in [1, M] {
        let (codec, parity) = (codec.clone(), parity.clone());
        let mut made = vec![vec![0; SHARD_BYTES]; lost];
        contenders.push(Contender::new(format!("{name} rebuild {lost} of 8+4"), move || {
            rebuild(&codec, black_box(data), &parity, &mut made).expect("8 shards are known");
            black_box(&mut made);
        }));
    }
    let verifier = codec.clone();
    contenders.push(Contender::new(format!("{name} verify 8+4"), move || {
        let parity: Vec<&[u8]> = parity.iter().map(Vec::as_slice).collect();
        assert!(verifier.verify(black_box(data), &parity));
    }));
    contenders
}

fn encode(codec: &Codec, data: &[&[u8]], parity: &mut [Vec<u8>]) {
    let mut parity: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
    codec.encode(data, &mut parity);
}

/// Rebuilds the first `made.len()` data shards.
fn rebuild(
    codec: &Codec,
    data: &[&[u8]],
    parity: &[Vec<u8>],
    made: &mut [Vec<u8>],
) -> Result<(), RebuildError> {
    let known = data.iter().copied().chain(parity.iter().map(Vec::as_slice)).enumerate();
    let known: Vec<(usize, &[u8])> = known.skip(made.len()).collect();
    let mut missing: Vec<_> = made.iter_mut().map(Vec::as_mut_slice).enumerate().collect();
    codec.rebuild(&known, &mut missing, K)
}

/// Bytes without a pattern, the same at each run.
fn shard_of_noise(index: usize) -> Vec<u8> {
    let mut state = index as u64 + 1;
    let mut shard = Vec::with_capacity(SHARD_BYTES);
    while shard.len() < SHARD_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        shard.extend(state.to_le_bytes());
    }
    shard
}

#[expect(clippy::print_stdout, reason = "the record of a benchmark is its output")]
fn report(contenders: &[Contender<'_>]) {
    let memcpy = contenders[0].gb_per_s();
    for contender in contenders {
        let gb_per_s = contender.gb_per_s();
        println!("{:<32} {gb_per_s:>7.2} GB/s {:>6.2} x memcpy", contender.name, gb_per_s / memcpy);
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time; it is no product code")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}
