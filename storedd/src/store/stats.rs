//! Counters and latency histograms of the store; cheap enough for the commit path (a few relaxed additions).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A histogram of durations with 8 steps for each doubling: a value is known to about 9 %.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[AtomicU64; 64 * 8]>,
    sum: AtomicU64,
    max: AtomicU64,
}

/// How many observations lie below some bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Below {
    /// Bound in microseconds, and the observations that are smaller.
    pub below: Vec<(u64, u64)>,
    /// All observations.
    pub count: u64,
    /// Their sum in microseconds.
    pub sum: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            buckets: Box::new([const { AtomicU64::new(0) }; 64 * 8]),
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
        }
    }
}

fn bucket_of(micros: u64) -> usize {
    if micros < 8 {
        return micros as usize;
    }
    let exponent = 63 - micros.leading_zeros() as usize;
    (exponent - 2) * 8 + ((micros >> (exponent - 3)) & 7) as usize
}

fn upper_end(bucket: usize) -> u64 {
    if bucket < 8 {
        return bucket as u64;
    }
    let exponent = bucket / 8 + 2;
    ((8 + (bucket as u64 % 8) + 1) << (exponent - 3)) - 1
}

/// What a histogram says at one moment, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quantiles {
    /// Observations.
    pub count: u64,
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// Largest, exact.
    pub max: u64,
}

impl Histogram {
    /// Adds an observation.
    pub fn record(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(micros).min(64 * 8 - 1)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(micros, Ordering::Relaxed);
        self.max.fetch_max(micros, Ordering::Relaxed);
    }

    /// Exact numbers of the observations below the powers of two with these exponents, in microseconds.
    #[must_use]
    pub fn below(&self, exponents: std::ops::RangeInclusive<u32>) -> Below {
        let counts: Vec<u64> = self.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect();
        let upto = |exponent: u32| counts[..bucket_of(1 << exponent)].iter().sum();
        Below {
            below: exponents.map(|exponent| (1 << exponent, upto(exponent))).collect(),
            count: counts.iter().sum(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }

    /// Quantiles of everything observed so far.
    #[must_use]
    pub fn quantiles(&self) -> Quantiles {
        let counts: Vec<u64> = self.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        let max = self.max.load(Ordering::Relaxed);
        let at = |per_mille: u64| {
            let rank = (count * per_mille).div_ceil(1000).max(1);
            let mut seen = 0;
            for (bucket, n) in counts.iter().enumerate() {
                seen += n;
                if seen >= rank {
                    return upper_end(bucket).min(max);
                }
            }
            max
        };
        if count == 0 {
            return Quantiles::default();
        }
        Quantiles { count, p50: at(500), p90: at(900), p99: at(990), p999: at(999), max }
    }
}

/// Everything the store counts.
#[derive(Debug, Default)]
pub struct Stats {
    /// Commands planned.
    pub begun: AtomicU64,
    /// Commands whose record is durable and visible.
    pub committed: AtomicU64,
    /// Commands answered, whatever the answer.
    pub answered: AtomicU64,
    /// Commands that ended with a failure of the log or of a read.
    pub aborted: AtomicU64,
    /// Commands refused.
    pub refused: AtomicU64,
    /// Commands that had nothing to change.
    pub unchanged: AtomicU64,
    /// Groups written, one sync each.
    pub groups: AtomicU64,
    /// Records in them.
    pub group_records: AtomicU64,
    /// Largest group in records.
    pub group_max: AtomicU64,
    /// Groups by size: bucket i counts groups of at most 2^i records.
    pub group_sizes: [AtomicU64; 20],
    /// Seal records written.
    pub seals: AtomicU64,
    /// One log sync, write included.
    pub sync: Histogram,
    /// Submission to answer.
    pub commit: Histogram,
    /// Planning one group.
    pub plan: Histogram,
    /// Bytes appended to the log.
    pub log_bytes: AtomicU64,
    /// Payload bytes among them.
    pub log_payload_bytes: AtomicU64,
    /// Checkpoints done.
    pub checkpoints: AtomicU64,
    /// Checkpoints failed.
    pub checkpoints_failed: AtomicU64,
    /// One checkpoint.
    pub checkpoint: Histogram,
}

impl Stats {
    pub(crate) fn count_group(&self, records: u64) {
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.group_records.fetch_add(records, Ordering::Relaxed);
        self.group_max.fetch_max(records, Ordering::Relaxed);
        let bucket = (64 - (records.max(1) - 1).leading_zeros() as usize).min(self.group_sizes.len() - 1);
        self.group_sizes[bucket].fetch_add(1, Ordering::Relaxed);
    }
}

/// Adds one, relaxed.
pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_falls_into_a_bucket_that_holds_it() {
        for micros in (0..5000).chain([1 << 20, (1 << 40) + 7, u64::MAX / 3]) {
            let bucket = bucket_of(micros);
            assert!(upper_end(bucket) >= micros, "{micros}");
            assert!(bucket == 0 || upper_end(bucket - 1) < micros, "{micros}");
        }
    }

    #[test]
    fn quantiles_are_within_a_tenth() {
        let h = Histogram::default();
        for micros in 1..=1000 {
            h.record(Duration::from_micros(micros));
        }
        let q = h.quantiles();
        assert_eq!(q.count, 1000);
        assert!((500..=560).contains(&q.p50), "{q:?}");
        assert!((990..=1000).contains(&q.p99), "{q:?}");
        assert_eq!(q.max, 1000);
    }

    #[test]
    fn bounds_are_exact() {
        let h = Histogram::default();
        for micros in [63, 64, 65, 127, 128, 5_000_000] {
            h.record(Duration::from_micros(micros));
        }
        let found = h.below(6..=8);
        assert_eq!(found.below, [(64, 1), (128, 4), (256, 5)]);
        assert_eq!((found.count, found.sum), (6, 5_000_447));
    }

    #[test]
    fn group_sizes_fall_into_powers_of_two() {
        let s = Stats::default();
        for records in [1, 2, 3, 4, 5, 64, 65] {
            s.count_group(records);
        }
        let sizes: Vec<u64> = s.group_sizes.iter().map(|n| n.load(Ordering::Relaxed)).collect();
        assert_eq!(&sizes[..8], &[1, 1, 2, 1, 0, 0, 1, 1]);
    }
}
