//! What the door counts.

use super::reply::Refused;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// All since the start, but for the first.
#[derive(Debug, Default)]
pub struct Counters {
    /// Sessions now.
    pub open: AtomicUsize,
    /// Sessions that were let in.
    pub sessions: AtomicU64,
    /// Connections that were sent away: too many, or no new work is taken.
    pub turned_away: AtomicU64,
    /// Sessions that were ended because the client said nothing for too long, or did not read.
    pub timed_out: AtomicU64,
    /// Messages that came whole.
    pub messages: AtomicU64,
    /// Bytes of them.
    pub bytes: AtomicU64,
    /// Recipients for whom a message was stored.
    pub delivered: AtomicU64,
    refused: [AtomicU64; WORDS.len()],
}

/// The words of [`Refused`].
const WORDS: [&str; 9] =
    ["unknown", "no_inbox", "over_quota", "not_ready", "no_space", "busy", "too_large", "failed", "unclear"];

impl Counters {
    /// Recipients that were refused, by why.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        WORDS.into_iter().zip(self.refused.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    pub(super) fn refusal(&self, refused: &Refused) {
        let at = WORDS.iter().position(|word| *word == refused.word());
        at.into_iter().for_each(|at| count(&self.refused[at]));
    }
}

/// Adds one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_is_counted() {
        let all = [
            Refused::Unknown,
            Refused::NoInbox,
            Refused::OverQuota,
            Refused::NotReady("x"),
            Refused::NoSpace,
            Refused::Busy,
            Refused::TooLarge,
            Refused::Failed,
            Refused::Unclear,
        ];
        let counters = Counters::default();
        all.iter().for_each(|refused| counters.refusal(refused));
        assert!(counters.refused().all(|(_, count)| count == 1));
        assert_eq!(counters.refused().count(), all.len());
    }
}
