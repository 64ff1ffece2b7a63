//! Work that leaves room for others: so many bytes in a second, and a word to the daemon now and then.

use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// Between two words to the daemon.
const TELL: SignedDuration = SignedDuration::from_millis(500);
/// What is not slept for: a sleep is never exact.
const LEAST: Duration = Duration::from_millis(5);
/// Longest sleep: then somebody looks whether the work is to end.
const LONGEST: Duration = Duration::from_millis(500);

/// How fast something is done.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// None: as fast as it goes.
    bytes_per_second: Option<u64>,
    since: Timestamp,
    bytes: u64,
    told: Option<Timestamp>,
}

impl Pace {
    /// So many bytes in a second; 0 is as fast as it goes.
    pub fn new(bytes_per_second: u64) -> Pace {
        let bytes_per_second = Some(bytes_per_second).filter(|bytes| *bytes > 0);
        Pace { bytes_per_second, since: Timestamp::now(), bytes: 0, told: None }
    }

    /// So many bytes more; how long to sleep now.
    pub fn step(&mut self, bytes: u64) -> Duration {
        let Some(rate) = self.bytes_per_second else { return Duration::ZERO };
        self.bytes = self.bytes.saturating_add(bytes);
        let now = Timestamp::now();
        let due = Duration::try_from_secs_f64(self.bytes as f64 / rate as f64).unwrap_or(Duration::MAX);
        let gone = Duration::try_from(now.duration_since(self.since)).unwrap_or_default();
        if gone > due.saturating_add(LONGEST) {
            // What was not used is not saved up.
            (self.since, self.bytes) = (now, 0);
        }
        let ahead = due.saturating_sub(gone);
        if ahead < LEAST { Duration::ZERO } else { ahead }
    }

    /// Sleeps for as long as so many bytes may take, in pieces, and calls `tell` beside it from time to time.
    ///
    /// # Errors
    /// Those of `tell`.
    pub fn sleep<E>(&mut self, bytes: u64, mut tell: impl FnMut() -> Result<(), E>) -> Result<(), E> {
        let mut left = self.step(bytes);
        loop {
            if self.is_due() {
                tell()?;
            }
            if left.is_zero() {
                return Ok(());
            }
            let piece = left.min(LONGEST);
            std::thread::sleep(piece);
            left -= piece;
        }
    }

    fn is_due(&mut self) -> bool {
        let now = Timestamp::now();
        let is_due = self.told.is_none_or(|told| now.duration_since(told) >= TELL);
        if is_due {
            self.told = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_kept_and_none_costs_nothing() {
        let mut free = Pace::new(0);
        assert_eq!(free.step(u64::MAX), Duration::ZERO);
        let mut slow = Pace::new(1000);
        let first = slow.step(100);
        assert!(first > Duration::from_millis(50) && first <= Duration::from_millis(100), "{first:?}");
        assert!(slow.step(10_000) > Duration::from_secs(9));
        assert!(Pace::new(1).step(u64::MAX) > Duration::from_secs(1 << 60));
    }

    #[test]
    fn somebody_is_told_at_once_and_not_every_time() {
        let (mut pace, mut told) = (Pace::new(0), 0);
        for _ in 0..100 {
            let tell = || {
                told += 1;
                Ok::<_, ()>(())
            };
            pace.sleep(1, tell).unwrap();
        }
        assert_eq!(told, 1);
    }
}
