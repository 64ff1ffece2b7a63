//! Latencies in buckets of at most 3 % width.

const SUB_BITS: u32 = 5;

/// How often which latency was seen, in nanoseconds.
#[derive(Debug, Clone)]
pub struct Histogram {
    buckets: Vec<u32>,
    count: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: vec![0; bucket_of(u64::MAX) + 1], count: 0, max: 0 }
    }
}

/// Values below 32 have a bucket each; above, every power of two is cut in 32.
fn bucket_of(ns: u64) -> usize {
    let shift = (64 - ns.leading_zeros()).saturating_sub(SUB_BITS + 1);
    ((u64::from(shift) << SUB_BITS) + (ns >> shift)) as usize
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket >> SUB_BITS).saturating_sub(1);
    let low = bucket - (shift << SUB_BITS);
    ((low + 1) << shift).wrapping_sub(1)
}

impl Histogram {
    /// Adds one latency.
    pub fn record(&mut self, ns: u64) {
        self.buckets[bucket_of(ns)] += 1;
        self.count += 1;
        self.max = self.max.max(ns);
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Histogram) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// Observations.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The largest, in nanoseconds.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The latency in nanoseconds that a share `q` (0 to 1) of all observations does not exceed; 0 without any.
    pub fn quantile(&self, q: f64) -> u64 {
        let wanted = (self.count as f64 * q).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, n) in self.buckets.iter().enumerate() {
            seen += u64::from(*n);
            if seen >= wanted {
                return upper(bucket).min(self.max);
            }
        }
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_ordered_and_narrow() {
        let mut last = 0;
        for ns in (0..1000).chain([4095, 4096, 1 << 20, (1 << 40) + 12345, u64::MAX]) {
            let bucket = bucket_of(ns);
            assert!(bucket >= last && upper(bucket) >= ns, "{ns}");
            assert!(upper(bucket) - ns <= ns / 32 + 1, "{ns}");
            last = bucket;
        }
    }

    #[test]
    fn quantiles() {
        let mut h = Histogram::default();
        (1..=1000).for_each(|n| h.record(n * 1000));
        assert!((495_000..=520_000).contains(&h.quantile(0.5)), "{}", h.quantile(0.5));
        assert_eq!(h.quantile(1.0), 1_000_000);
        assert_eq!(Histogram::default().quantile(0.5), 0);
    }
}
