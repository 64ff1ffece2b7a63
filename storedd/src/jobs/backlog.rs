//! The log that a start found: how much of it a recovery still needs, held against the limits of the configuration.
//!
//! A store whose checkpoints kept failing, or that was killed amid bulk work, comes up with more log than it should have.
//! That is said, and worked off without anybody's help: the checkpointer begins at once instead of when the next is due
//! (row 42).

use crate::lsn::Micros;
use crate::store::{Report, Store};
use std::time::Duration;

/// How much log is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Segments that a recovery would read.
    pub segments: u32,
    /// Age of the oldest change that only the log holds.
    pub age: Duration,
}

/// The log that only a recovery needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Segments with records behind the checkpoint.
    pub segments: u64,
    /// Age of the oldest of these records.
    pub age: Duration,
}

impl Backlog {
    /// What the start described by `report` found.
    #[must_use]
    pub fn found(store: &Store, report: &Report, now: Micros) -> Backlog {
        let checkpoint = store.checkpoint_lsn();
        let needed = store.segments().iter().filter(|line| line.last_lsn.is_some_and(|last| last > checkpoint)).count();
        let oldest = report.oldest_replayed.as_deref().and_then(|at| at.parse::<jiff::Timestamp>().ok());
        let oldest = oldest.and_then(|at| u64::try_from(at.as_microsecond()).ok());
        let age = oldest.map_or(0, |oldest| now.0.abs_diff(oldest));
        Backlog { segments: needed as u64, age: Duration::from_micros(age) }
    }

    /// True if it is more than the limits allow.
    #[must_use]
    pub fn exceeds(&self, limits: Limits) -> bool {
        self.segments > u64::from(limits.segments) || self.age > limits.age
    }
}

/// Compares what the start found with the limits; says so and has it worked off where it is too much.
pub fn work_off(store: &Store, report: &Report, limits: Limits, now: Micros) {
    if store.is_held() {
        // Its log is evidence, and nothing of it goes before somebody has decided.
        return;
    }
    let found = Backlog::found(store, report, now);
    let (segments, age) = (found.segments, found.age.as_secs());
    if found.exceeds(limits) {
        tracing::warn!(
            event = "log_backlog",
            segments,
            max_log = limits.segments,
            age_seconds = age,
            max_log_age_seconds = limits.age.as_secs(),
            "more log than the limits allow; a checkpoint begins now and removes what is no longer needed"
        );
        store.checkpoint_soon();
    } else {
        tracing::info!(event = "log_backlog", segments, max_log = limits.segments, age_seconds = age);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_and_age_each_suffice_and_the_limit_itself_is_allowed() {
        let limits = Limits { segments: 16, age: Duration::from_secs(3600) };
        let exceeds = |segments, age| Backlog { segments, age: Duration::from_secs(age) }.exceeds(limits);
        assert!(!exceeds(0, 0));
        assert!(!exceeds(16, 3600));
        assert!(exceeds(17, 0));
        assert!(exceeds(1, 3601));
    }
}
