//! How long a drive's operations took lately: what counts as slow for this drive.
//! Invariants: the last thousands of operations count, older ones fade; a drive says nothing before its first 64.
//! Memory: 528 bytes. Not here: what is done about slowness (hedged reads, the deadline of a log member).

use std::time::Duration;

/// Past this many samples every count is halved.
const SAMPLES_MAX: u32 = 4096;
/// The percentile is worked out again after this many samples.
const REFRESH_SAMPLES: u32 = 64;
/// Quarter octaves of microseconds: 4 x 32 reach over an hour.
const BUCKET_COUNT: usize = 128;

/// A fading histogram of times.
#[derive(Clone)]
pub struct RecentLatency {
    counts: [u32; BUCKET_COUNT],
    total: u32,
    since_refresh: u32,
    p99: Option<Duration>,
}

impl Default for RecentLatency {
    fn default() -> RecentLatency {
        RecentLatency { counts: [0; BUCKET_COUNT], total: 0, since_refresh: 0, p99: None }
    }
}

impl RecentLatency {
    /// Adds one operation.
    pub fn note(&mut self, took: Duration) {
        self.counts[bucket_of(took)] += 1;
        self.total += 1;
        self.since_refresh += 1;
        if self.total >= SAMPLES_MAX {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
        if self.since_refresh >= REFRESH_SAMPLES {
            self.since_refresh = 0;
            self.p99 = Some(self.find_p99());
        }
    }

    /// The 99th percentile, at most a quarter above the true one; `None` if there were too few operations to say.
    pub fn p99(&self) -> Option<Duration> {
        self.p99
    }

    /// The upper edge of the bucket that holds the 99th percentile.
    fn find_p99(&self) -> Duration {
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
    fn the_percentile_follows_the_drive_and_forgets() {
        let mut latency = RecentLatency::default();
        for _ in 0..63 {
            latency.note(Duration::from_micros(80));
        }
        assert_eq!(latency.p99(), None);
        for _ in 0..1_000 {
            latency.note(Duration::from_micros(80));
        }
        let quick = latency.p99().expect("a thousand operations");
        assert!((80..=100).contains(&quick.as_micros()), "{quick:?}");
        for _ in 0..3_000 {
            latency.note(Duration::from_millis(60));
        }
        let slow = latency.p99().expect("more of them");
        assert!((60..=75).contains(&slow.as_millis()), "{slow:?}");
        for _ in 0..50_000 {
            latency.note(Duration::from_micros(80));
        }
        assert_eq!(latency.p99(), Some(quick), "old operations fade");
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
