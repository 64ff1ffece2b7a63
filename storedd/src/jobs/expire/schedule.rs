//! When a run is due.

use super::purge::Calm;
use super::{Ageing, Settings, lock};
use crate::lsn::Micros;
use crate::store::Phase;
use std::time::Duration;

const DAY_US: u64 = 86_400_000_000;
/// After a failure it is tried again so much later.
const AGAIN_AFTER: Duration = Duration::from_secs(600);

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// The rules of ageing.
    Expire,
    /// The removal of what was taken away.
    Purge,
    /// The write-out of what users have seen in mailboxes of others.
    Peruser,
}

/// When each was done last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Last {
    /// The rules of ageing.
    pub expire: Option<Micros>,
    /// The purge.
    pub purge: Option<Micros>,
    /// The write-out.
    pub peruser: Option<Micros>,
}

#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) calm: Calm,
    /// When the last run failed, by the monotone clock.
    failed: [Option<Duration>; 3],
}

impl Memory {
    fn failed(&mut self, what: Due) -> &mut Option<Duration> {
        &mut self.failed[what as usize]
    }
}

impl Ageing {
    /// What is to be done now, given when each was done last.
    #[must_use]
    pub fn due(&self, settings: &Settings, last: Last) -> Option<Due> {
        if self.store.phase() != Phase::Ready {
            return None;
        }
        let (now, uptime) = (self.env.now(), self.env.uptime());
        let mut memory = lock(&self.memory);
        let mut may = |what| memory.failed(what).is_none_or(|at| uptime.saturating_sub(at) >= AGAIN_AFTER);
        let nightly = last_start(now, settings.start);
        if may(Due::Expire) && last.expire.unwrap_or(self.created) < nightly {
            return Some(Due::Expire);
        }
        let is_past = |at: Option<Micros>, interval: Duration| {
            u128::from(now.0.saturating_sub(at.unwrap_or(self.created).0)) >= interval.as_micros()
        };
        if may(Due::Purge) && is_past(last.purge, settings.purge_interval) {
            return Some(Due::Purge);
        }
        (may(Due::Peruser) && is_past(last.peruser, settings.peruser_interval)).then_some(Due::Peruser)
    }

    /// It failed now; it is not due again for a while.
    pub fn failed(&self, what: Due) {
        self.ended(what, false);
    }

    pub(super) fn ended(&self, what: Due, well: bool) {
        *lock(&self.memory).failed(what) = (!well).then(|| self.env.uptime());
    }
}

/// The last moment at or before `now` that lies so long after a midnight, UTC.
fn last_start(now: Micros, start: Duration) -> Micros {
    let start = u64::try_from(start.as_micros()).unwrap_or(0) % DAY_US;
    let today = now.0 - now.0 % DAY_US + start;
    Micros(if today <= now.0 { today } else { today.saturating_sub(DAY_US) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_night_begins_at_its_hour() {
        let hour = 3_600_000_000;
        let eleven = Duration::from_secs(23 * 3600);
        let at = |day: u64, hours: u64| Micros(day * DAY_US + hours * hour);
        assert_eq!(last_start(at(10, 22), eleven), at(9, 23));
        assert_eq!(last_start(at(10, 23), eleven), at(10, 23));
        assert_eq!(last_start(at(11, 1), eleven), at(10, 23));
        assert_eq!(last_start(at(10, 0), Duration::ZERO), at(10, 0));
        assert_eq!(last_start(Micros(5), eleven), Micros(0));
    }
}
