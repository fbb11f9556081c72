//! How long a member's writes take, and from when on it counts as silent.
//! Invariants: the deadline is max(250 ms, 10 x p99) of the last thousands of writes; old writes fade.

use std::time::Duration;

/// The least that a member may be silent before it is replaced.
const DEADLINE_MIN: Duration = Duration::from_millis(250);
/// The most: a drive that always takes seconds is no member.
const DEADLINE_MAX: Duration = Duration::from_secs(10);
/// Past this many samples every count is halved.
const SAMPLES_MAX: u32 = 4096;
/// The deadline is worked out again after this many samples.
const REFRESH_SAMPLES: u32 = 64;
/// Quarter octaves of microseconds: 4 x 32 reach over an hour.
const BUCKET_COUNT: usize = 128;

/// A fading histogram of write times.
pub(crate) struct Latency {
    counts: [u32; BUCKET_COUNT],
    total: u32,
    since_refresh: u32,
    deadline: Duration,
}

impl Latency {
    pub(crate) fn new() -> Latency {
        Latency { counts: [0; BUCKET_COUNT], total: 0, since_refresh: 0, deadline: DEADLINE_MIN }
    }

    pub(crate) fn note(&mut self, took: Duration) {
        self.counts[bucket_of(took)] += 1;
        self.total += 1;
        self.since_refresh += 1;
        if self.total >= SAMPLES_MAX {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
        if self.since_refresh >= REFRESH_SAMPLES {
            self.since_refresh = 0;
            self.deadline = (self.p99() * 10).clamp(DEADLINE_MIN, DEADLINE_MAX);
        }
    }

    /// How long the next write may take.
    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The upper edge of the bucket that holds the 99th percentile.
    fn p99(&self) -> Duration {
        let mut above = 0;
        for (bucket, count) in self.counts.iter().enumerate().rev() {
            above += count;
            if above * 100 > self.total {
                return upper_edge(bucket);
            }
        }
        Duration::ZERO
    }
}

fn bucket_of(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(4);
    let octave = 63 - micros.leading_zeros();
    let quarter = (micros >> (octave - 2)) & 3;
    let bucket = u64::from(octave - 2) * 4 + quarter;
    usize::try_from(bucket).map_or(BUCKET_COUNT - 1, |bucket| bucket.min(BUCKET_COUNT - 1))
}

fn upper_edge(bucket: usize) -> Duration {
    let (octave, quarter) = (bucket / 4 + 2, bucket % 4);
    Duration::from_micros((5 + quarter as u64) << (octave - 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_is_ten_times_the_slow_writes_and_never_under_250_ms() {
        let mut latency = Latency::new();
        for _ in 0..1_000 {
            latency.note(Duration::from_micros(80));
        }
        assert_eq!(latency.deadline(), DEADLINE_MIN);
        for _ in 0..3_000 {
            latency.note(Duration::from_millis(60));
        }
        assert!(latency.deadline() >= Duration::from_millis(600));
        assert!(latency.deadline() <= Duration::from_millis(800));
        for _ in 0..50_000 {
            latency.note(Duration::from_micros(80));
        }
        assert_eq!(latency.deadline(), DEADLINE_MIN, "old writes fade");
    }

    #[test]
    fn every_time_has_a_bucket_whose_edge_is_above_it() {
        for micros in (0..2_000).chain([1 << 20, 1 << 30, (1 << 31) + 12345]) {
            let took = Duration::from_micros(micros);
            assert!(upper_edge(bucket_of(took)) > took, "{micros}");
        }
        bucket_of(Duration::MAX);
    }
}
