//! The metadata engine beside redb and fjall: point reads, scans and durable commits over a million rows, in one run.
//!
//! Invariants: one core does all of it, clients and engine; rows are 300 bytes; everything read is hot; every commit is
//! durable on one real drive before its client goes on. The engine's runs lie in memory, as in a warm page cache: what
//! a page cache adds to a block read is measured with the server.
//! Usage: `flock /tmp/heavy.lock cargo run --release -p perf --example metadata -- DIRECTORY [CPU] [SECONDS] [ENGINE]`.
//! Not here: correctness (the tests of `fdb-schema`).
#![allow(clippy::print_stdout, reason = "a command-line tool")]
#![allow(clippy::cast_precision_loss, reason = "figures of a report")]

mod embedded;
mod peers;

use std::path::PathBuf;
use std::time::Duration;

/// Rows loaded before anything is measured.
const ROWS: u32 = 1_000_000;
const VALUE_BYTES: usize = 260;
const SCAN_ROWS: usize = 1_000;
const CLIENTS: usize = 64;
const COMMIT_ROWS: usize = 5;
const POINT_READS: usize = 200_000;
const SCANS: usize = 2_000;

/// Where, on which core and for how long.
#[derive(Clone)]
struct Setup {
    directory: PathBuf,
    cpu: Option<usize>,
    commit_time: Duration,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory =
        PathBuf::from(arguments.next().expect("usage: metadata DIRECTORY [CPU] [SECONDS] [ENGINE]"));
    let cpu = arguments.next().map(|text| text.parse().expect("a CPU number"));
    let seconds = arguments.next().map_or(10, |text| text.parse().expect("seconds of commits"));
    let setup = Setup { directory, cpu, commit_time: Duration::from_secs(seconds) };
    println!("{ROWS} rows of 300 bytes; {CLIENTS} clients, {COMMIT_ROWS} rows a commit, {seconds} s");
    let only = arguments.next();
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    if wanted("embedded") {
        embedded::run(&setup);
    }
    if wanted("redb") {
        peers::redb(&setup);
    }
    if wanted("fjall") {
        peers::fjall(&setup);
    }
}

/// The key of row `n`: 40 bytes, like an object's, 1,000 to a directory.
fn key(n: u32) -> Vec<u8> {
    format!("\u{2}bucket01/dataset-{:04}/sample-{n:010}", n / 1_000).into_bytes()
}

/// Rows in an order without locality.
fn shuffled() -> Vec<u32> {
    let mut rows: Vec<u32> = (0..ROWS).collect();
    fastrand::Rng::with_seed(7).shuffle(&mut rows);
    rows
}

fn value(n: u32) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(u64::from(n));
    (0..VALUE_BYTES).map(|_| rng.u8(..)).collect()
}

/// Times of one kind of operation.
#[derive(Default)]
struct Times {
    nanos: Vec<u64>,
}

impl Times {
    fn note(&mut self, time: Duration) {
        self.nanos.push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Microseconds at a quantile; 1.0 is the worst.
    fn at(&mut self, quantile: f64) -> f64 {
        self.nanos.sort_unstable();
        let last = self.nanos.len().saturating_sub(1);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index of a report")]
        let index = (last as f64 * quantile).round() as usize;
        self.nanos.get(index).copied().unwrap_or(0) as f64 / 1_000.0
    }

    fn mean(&self) -> f64 {
        self.nanos.iter().sum::<u64>() as f64 / self.nanos.len().max(1) as f64 / 1_000.0
    }

    fn report(&mut self, engine: &str, what: &str) {
        println!(
            "{engine:8} {what:34} mean {:9.2} us, p50 {:9.2}, p99 {:9.2}, p99.9 {:9.2}, worst {:9.2}, n {}",
            self.mean(),
            self.at(0.5),
            self.at(0.99),
            self.at(0.999),
            self.at(1.0),
            self.nanos.len()
        );
    }
}

fn report_rate(engine: &str, what: &str, count: u64, time: Duration) {
    println!("{engine:8} {what:34} {:.0}/s", count as f64 / time.as_secs_f64());
}

/// Time that this thread had the processor, in microseconds: what a figure is on a machine with nothing else to do.
fn cpu_us() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos: u64 = text.split_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0);
    nanos as f64 / 1_000.0
}

fn report_cpu(engine: &str, what: &str, cpu_us: f64, count: usize) {
    println!("{engine:8} {what:34} {:.2} us of processor each", cpu_us / count.max(1) as f64);
}

/// The time that benchmarks measure by.
#[allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}
