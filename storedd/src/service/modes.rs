//! What the operator has told the daemon: to let its clients leave and stop, to take no changes.

use super::Daemon;
use super::holding::blocked;
use crate::control::{Answered, Peer};
use crate::leases::{Blocked, Cut, Held, Scope, Who, Wish};
use proto::{Done, Reply};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// See the page.
#[derive(Debug, Default)]
pub(super) struct Modes {
    leaving: AtomicBool,
    people: Mutex<People>,
}

/// Who is connected, and until when that is waited for.
#[derive(Debug, Default)]
struct People {
    there: BTreeSet<u64>,
    until: Option<Duration>,
}

impl Modes {
    fn people(&self) -> MutexGuard<'_, People> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True from when a drain was asked for.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// A connection greets; false: it comes after the drain began.
    pub(super) fn greeted(&self, connection: u64) -> bool {
        let mut people = self.people();
        people.until.is_none() && people.there.insert(connection)
    }

    /// A connection has ended.
    pub(super) fn gone(&self, connection: u64) {
        self.people().there.remove(&connection);
    }

    /// Begins a drain, or gives the one that there is another limit. Who asks is not waited for.
    fn leave(&self, by: u64, until: Duration) -> usize {
        let mut people = self.people();
        people.there.remove(&by);
        people.until = Some(until);
        self.leaving.store(true, Ordering::Release);
        people.there.len()
    }

    /// How many are still there, if everybody has left and no job is at work, or the limit has passed.
    fn drained(&self, now: Duration, jobs: usize) -> Option<usize> {
        if !self.is_leaving() {
            return None;
        }
        let people = self.people();
        let late = people.until.is_some_and(|until| now >= until);
        (people.there.len() + jobs == 0 || late).then_some(people.there.len() + jobs)
    }
}

impl Daemon {
    /// `drain`.
    pub(super) fn begin_drain(&self, peer: &Peer, wait_ms: Option<u64>) -> Reply {
        let wait = wait_ms.map_or(self.config().stop.drain, Duration::from_millis);
        let connected = self.modes.leave(peer.connection, self.env.uptime().saturating_add(wait));
        if let Some(mail) = self.mail_closer.get() {
            mail.finish();
        }
        tracing::info!(event = "draining", connected, seconds = wait.as_secs(), uid = peer.uid, pid = peer.pid);
        Reply::Done(Done { done: true })
    }

    /// True once a drain has come to its end: the daemon is to stop.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        match self.modes.drained(self.env.uptime(), self.jobs.unfinished()) {
            Some(left @ 1..) => {
                tracing::warn!(
                    event = "drain_limit",
                    left,
                    "the limit has passed; connections and jobs that are left are cut off"
                );
                true
            }
            Some(0) => true,
            None => false,
        }
    }

    /// `read-only on|off`. What was under way is on disk when this answers.
    pub(super) fn set_read_only(self: &Arc<Daemon>, peer: &Peer, on: bool, reason: &str, cut: Cut, done: Answered) {
        let why = on.then(|| match reason {
            "" => format!("user {} has asked for it", peer.uid),
            reason => format!("user {} has asked for it: {reason}", peer.uid),
        });
        let Peer { connection, pid, uid, client, .. } = peer.clone();
        let who = Who { connection, pid, uid, client, verb: "read-only" };
        let wait = self.config().limits.wait;
        let wish = Wish { scope: Scope::Store, length: None, wait, reason: reason.to_owned(), freeze: false };
        let daemon = self.clone();
        let told = move |answer: Result<Held, Blocked>| {
            done(answer.map_err(|e| blocked(&e)).and_then(|held| {
                tracing::warn!(event = "read_only", on, uid, pid, why);
                let set = daemon.store().map(|store| store.close_to_changes(why));
                daemon.leases.release(connection, held.id).map_err(|e| blocked(&e))?;
                set.map(|()| Reply::Done(Done { done: true }))
            }))
        };
        self.leases.take(&who, wish, cut, Box::new(told));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_waits_for_those_who_are_there_and_no_longer_than_said() {
        let modes = Modes::default();
        let at = Duration::from_secs;
        assert!(modes.greeted(1) && modes.greeted(2));
        assert_eq!(modes.drained(at(0), 0), None);
        assert_eq!(modes.leave(2, at(10)), 1, "who asks is not waited for");
        assert!(!modes.greeted(3), "late");
        assert_eq!(modes.drained(at(1), 0), None);
        assert_eq!(modes.drained(at(10), 0), Some(1), "the limit");
        modes.gone(3);
        modes.gone(1);
        assert_eq!(modes.drained(at(1), 1), None, "a job");
        assert_eq!(modes.drained(at(1), 0), Some(0));
    }
}
