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
        let is_before = |at: Micros| at < nightly || at.is_ahead_of(now);
        if may(Due::Expire) && is_before(last.expire.unwrap_or(self.created)) {
            return Some(Due::Expire);
        }
        let is_past = |at: Option<Micros>, interval: Duration| {
            now.since(at.unwrap_or(self.created)).is_none_or(|passed| passed >= interval)
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
    use crate::disk::SimDisk;
    use crate::env::Env;
    use crate::jobs::registry::Context;
    use crate::jobs::restore::tests::{add, env, start, users};
    use crate::model::Command;

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

    const SECOND: u64 = 1_000_000;
    const YEARS: u64 = 10 * 365 * 86_400;

    fn settings() -> Settings {
        let hour = Duration::from_secs(3600);
        let (rules, start, pace) = (Vec::new(), Duration::ZERO, u64::MAX);
        Settings { rules, start, pace, cleanup_age: 24 * hour, purge_interval: 24 * hour, peruser_interval: hour }
    }

    // A clock that was ahead once, by years, ended every run until it came there again.
    #[test]
    fn what_was_done_at_a_time_that_did_not_come_yet_is_due() {
        let machine = SimDisk::new();
        let (store, _) = start(&machine, false, 0).unwrap();
        let env = env(90_000);
        let ageing = Ageing::new(store, env.clone()).unwrap();
        let settings = settings();
        let all = |at| Last { expire: Some(at), purge: Some(at), peruser: Some(at) };
        let now = env.now();
        assert_eq!(ageing.due(&settings, all(now)), None);
        assert_eq!(ageing.due(&settings, all(Micros(now.0 + 50 * SECOND))), None, "clocks are corrected");
        let ahead = Micros(now.0 + YEARS * SECOND);
        assert_eq!(ageing.due(&settings, all(ahead)), Some(Due::Expire));
        assert_eq!(ageing.due(&settings, Last { expire: Some(now), ..all(ahead) }), Some(Due::Purge));
        let done = Last { peruser: Some(ahead), ..all(now) };
        assert_eq!(ageing.due(&settings, done), Some(Due::Peruser));
    }

    // What was deleted while the clock was ahead is not purged before its time, and is named.
    #[test]
    fn what_was_deleted_at_a_time_that_did_not_come_yet_is_kept_and_named() {
        let machine = SimDisk::new();
        let (store, _) = start(&machine, false, YEARS).unwrap();
        add(&store, "p");
        users(&store, 0..1);
        let name = "user/u0@example.org/gone".to_owned();
        store.commit(Command::MailboxCreate { name: name.clone(), partition: None }).unwrap();
        store.commit(Command::MailboxDelete { name: name.clone() }).unwrap();
        store.close().unwrap();
        drop(store);
        let (store, _) = start(&machine, false, 100).unwrap();
        let purge = |second: u64| {
            let ageing = Ageing::new(store.clone(), env(second)).unwrap();
            let hands = |command: Command| Ok(store.commit(command).unwrap().outcome);
            ageing.purge(&settings(), false, &Context::idle(), &hands).unwrap()
        };
        let told = purge(200 * 86_400);
        assert_eq!((told.lines.len(), told.problems_total), (0, 1), "{told:?}");
        assert!(told.problems[0].starts_with("user/u0@example.org/gone: it was deleted at 20"), "{told:?}");
        let told = purge(YEARS + 2 * 86_400);
        assert_eq!((told.lines.len(), told.problems_total), (1, 0), "{told:?}");
    }
}
