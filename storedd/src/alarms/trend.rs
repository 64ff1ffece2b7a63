//! How fast a value changes: the slope of the line through its last readings (least squares).

use std::collections::VecDeque;
use std::time::Duration;

/// Readings kept: five minutes of one a second.
const KEPT: usize = 300;
/// The window of [`Trend::recent`]: long enough to even out segments and checkpoints, short enough to follow a change.
pub const RECENT: Duration = Duration::from_secs(15);
/// The window of [`Trend::lasting`].
pub const LASTING: Duration = Duration::from_secs(300);
/// Fewer readings say nothing.
const FEWEST: usize = 5;

/// The last readings of one value.
#[derive(Debug, Clone, Default)]
pub struct Trend {
    readings: VecDeque<(Duration, f64)>,
}

impl Trend {
    /// Adds a reading; one that is not later than the last is left out.
    pub fn add(&mut self, at: Duration, value: f64) {
        if self.readings.back().is_some_and(|(last, _)| *last >= at) {
            return;
        }
        if self.readings.len() >= KEPT {
            self.readings.pop_front();
        }
        self.readings.push_back((at, value));
    }

    /// Units a second over [`RECENT`]; `None` before there are enough readings.
    #[must_use]
    pub fn recent(&self) -> Option<f64> {
        self.slope(RECENT)
    }

    /// Units a second over [`LASTING`]; `None` before a fifth of it has been seen.
    #[must_use]
    pub fn lasting(&self) -> Option<f64> {
        let (first, last) = (self.readings.front()?.0, self.readings.back()?.0);
        if last.saturating_sub(first) < LASTING / 5 { None } else { self.slope(LASTING) }
    }

    fn slope(&self, window: Duration) -> Option<f64> {
        let begin = self.readings.back()?.0.saturating_sub(window);
        let within: Vec<(f64, f64)> = self
            .readings
            .iter()
            .filter(|(at, _)| *at >= begin)
            .map(|(at, value)| (at.saturating_sub(begin).as_secs_f64(), *value))
            .collect();
        if within.len() < FEWEST {
            return None;
        }
        let count = within.len() as f64;
        let (sum_t, sum_v) = within.iter().fold((0.0, 0.0), |(t, v), (at, value)| (t + at, v + value));
        let (mean_t, mean_v) = (sum_t / count, sum_v / count);
        let (above, below) = within.iter().fold((0.0, 0.0), |(above, below), (at, value)| {
            (above + (at - mean_t) * (value - mean_v), below + (at - mean_t) * (at - mean_t))
        });
        (below > 0.0).then(|| above / below)
    }
}

/// Seconds until `left` is used up by `rate` a second; `None` if it is not getting less.
#[must_use]
pub fn time_left(left: f64, rate: f64) -> Option<f64> {
    (rate > 0.0 && rate.is_finite()).then(|| (left / rate).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_steady_fill_is_known_also_after_a_long_rest_and_with_steps() {
        let mut trend = Trend::default();
        for second in 0..200 {
            trend.add(at(f64::from(second)), 5e6);
        }
        assert_eq!(trend.recent(), Some(0.0));
        // 1 MB a second, in blocks of 3 MB.
        for second in 0..20 {
            trend.add(at(f64::from(200 + second)), 5e6 + f64::from(second / 3) * 3e6);
        }
        let rate = trend.recent().unwrap();
        assert!((0.8e6..1.2e6).contains(&rate), "{rate}");
        assert!(trend.lasting().unwrap() < 0.2e6, "five minutes have seen less of it");
        assert!((80.0..125.0).contains(&time_left(1e8, rate).unwrap()));
    }

    #[test]
    fn what_says_nothing_says_nothing() {
        let mut trend = Trend::default();
        assert_eq!((trend.recent(), trend.lasting()), (None, None));
        for _ in 0..10 {
            trend.add(at(7.0), 1.0);
        }
        assert_eq!(trend.recent(), None, "one moment has no slope");
        for second in 8..40 {
            trend.add(at(f64::from(second)), 1.0);
        }
        assert!(trend.recent().is_some() && trend.lasting().is_none());
        assert_eq!(time_left(5.0, 0.0), None);
        assert_eq!(time_left(5.0, -1.0), None);
        assert_eq!(time_left(-5.0, 1.0), Some(0.0));
    }

    #[test]
    fn it_is_bounded() {
        let mut trend = Trend::default();
        (0..10_000).for_each(|n| trend.add(at(f64::from(n)), 0.0));
        assert_eq!(trend.readings.len(), KEPT);
    }
}
