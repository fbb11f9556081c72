//! MD5 of 1 to 64 streams side by side, for every kind of lanes, interleaved in one run.
//!
//! Invariants: each figure is the median over rounds in which all contenders take turns; bytes counted are those
//! of all streams. Run it pinned to one core: `taskset -c 1 cargo run --release -p perf --bin md5`.
//! Not here: correctness (the tests of `shardstore-erasure`).

use std::hint::black_box;
use std::time::Duration;

use shardstore_erasure::md5::{Lanes, Md5State, update_many_with};

const STREAM_COUNTS: [usize; 9] = [1, 2, 4, 8, 12, 16, 24, 32, 64];
const STREAM_BYTES: usize = 1 << 20;
const ROUNDS: usize = 15;

fn main() {
    let most = STREAM_COUNTS.iter().copied().max().expect("a list of counts");
    let streams: Vec<Vec<u8>> = (0..most).map(stream_of_noise).collect();
    let mut cases = Vec::new();
    for lanes in Lanes::available() {
        cases.extend(STREAM_COUNTS.map(|count| Case { lanes, count, times: Vec::new() }));
    }
    for _ in 0..ROUNDS {
        for case in &mut cases {
            case.run_once(&streams);
        }
    }
    report(&mut cases);
}

/// A number of streams on one kind of lanes, and how long each round took.
struct Case {
    lanes: Lanes,
    count: usize,
    times: Vec<Duration>,
}

impl Case {
    fn run_once(&mut self, streams: &[Vec<u8>]) {
        let mut states = vec![Md5State::new(); self.count];
        let mut turn: Vec<(&mut Md5State, &[u8])> =
            states.iter_mut().zip(streams).map(|(state, bytes)| (state, bytes.as_slice())).collect();
        let start = now();
        update_many_with(self.lanes, black_box(&mut turn));
        self.times.push(start.elapsed());
        black_box(states);
    }

    fn gb_per_s(&mut self) -> f64 {
        self.times.sort();
        (self.count * STREAM_BYTES) as f64 / self.times[self.times.len() / 2].as_secs_f64() / 1e9
    }
}

/// Bytes without a pattern, the same at each run.
fn stream_of_noise(index: usize) -> Vec<u8> {
    let mut state = index as u64 + 1;
    let mut stream = Vec::with_capacity(STREAM_BYTES);
    while stream.len() < STREAM_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        stream.extend(state.to_le_bytes());
    }
    stream
}

#[expect(clippy::print_stdout, reason = "the record of a benchmark is its output")]
fn report(cases: &mut [Case]) {
    for case in cases {
        let gb_per_s = case.gb_per_s();
        println!("{:<8} {:>2} streams {gb_per_s:>7.2} GB/s", case.lanes.name(), case.count);
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time; it is no product code")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}
