//! Leases and freezes as clients ask for them, and the picture of who holds what.

use super::Daemon;
use crate::control::convert::failure;
use crate::control::{Answered, OnPassage, Passage, Peer};
use crate::leases::{Blocked, Cut, Held, Pass, Scope, Waiting, Who, Wish};
use crate::model::Command;
use proto::{Code, Done, Failure, Lock, LockWait, Locks, Reply, Request};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A lease ends after so long if nothing else was said.
const LENGTH: Duration = Duration::from_secs(300);
/// Longest lease.
const LENGTH_MAX: Duration = Duration::from_secs(86_400);
/// Longest freeze: whoever takes a picture of a file system is done by then, and no client waits longer.
pub(super) const FREEZE_MAX: Duration = Duration::from_secs(60);
/// Longest wait for a broken lease to end: its connection is gone at once, what it had under way comes to its end.
const BREAK: Duration = Duration::from_secs(10);
/// Longest wait for jobs to come to a place where they can stand still.
const REST: Duration = Duration::from_secs(10);
/// Between two looks at a lease that is waited for.
const LOOK: Duration = Duration::from_millis(20);

impl Daemon {
    /// See [`crate::control::Service::pass`].
    pub(super) fn pass(
        &self,
        peer: &Peer,
        verb: &'static str,
        command: &Command,
        later: &mut dyn FnMut() -> OnPassage,
    ) -> Passage {
        self.pass_within(peer, verb, command, self.config().limits.wait, later)
    }

    /// The same, with another longest wait.
    pub(super) fn pass_within(
        &self,
        peer: &Peer,
        verb: &'static str,
        command: &Command,
        wait: Duration,
        later: &mut dyn FnMut() -> OnPassage,
    ) -> Passage {
        let who = who(peer, verb);
        let later = || {
            let passed = later();
            let told: crate::leases::OnPass = Box::new(move |answer| passed(answer.map_err(|e| blocked(&e))));
            told
        };
        match self.leases.pass(&who, || Scope::of(command), wait, later) {
            Some(pass) => Passage::Open(Some(pass)),
            None => Passage::Later,
        }
    }

    /// Waits on this thread until a change may go that is made here for a client.
    ///
    /// # Errors
    /// It may not: who is in the way stays there.
    pub(super) fn pass_here(
        &self,
        peer: &Peer,
        verb: &'static str,
        command: &Command,
    ) -> Result<Option<Pass>, Failure> {
        let (tell, told) = channel();
        let mut later = || -> OnPassage {
            let tell = tell.clone();
            Box::new(move |passed| drop(tell.send(passed)))
        };
        match self.pass(peer, verb, command, &mut later) {
            Passage::Open(pass) => Ok(pass),
            Passage::Later => {
                drop(tell);
                told.recv().map_err(|_| blocked(&Blocked::Closing))?.map(Some)
            }
        }
    }

    /// See [`crate::control::Service::hold`].
    pub(super) fn hold(self: &Arc<Daemon>, peer: &Peer, request: &Request, cut: Cut, done: Answered) {
        match request {
            Request::LockTake { resource, for_ms, wait_ms, reason } => {
                let scope = match Scope::parse(resource) {
                    Ok(scope) => scope,
                    Err(why) => return done(Err(Failure::new(Code::BadInput, why))),
                };
                let length = for_ms.map_or(LENGTH, Duration::from_millis);
                if length.is_zero() || length > LENGTH_MAX {
                    return done(Err(Failure::new(
                        Code::BadInput,
                        "a lease lasts more than nothing and at most a day",
                    )));
                }
                let wait = wait_ms.map_or(self.config().limits.wait, Duration::from_millis);
                let wish = Wish { scope, length: Some(length), wait, reason: reason.clone(), freeze: false };
                let told = move |answer: Result<Held, Blocked>| done(granted(answer));
                self.leases.take(&who(peer, request.verb()), wish, cut, Box::new(told));
            }
            Request::LockJoin { id } => {
                let joined = self.leases.join(&who(peer, request.verb()), *id, cut);
                done(joined.map(|()| Reply::Done(Done { done: true })).map_err(|e| blocked(&e)));
            }
            Request::Freeze { for_ms, reason } => {
                self.freeze(&who(peer, request.verb()), Duration::from_millis(*for_ms), reason, cut, done);
            }
            Request::ReadOnly { on, reason } => self.set_read_only(peer, *on, reason, cut, done),
            other => done(Err(Failure::new(Code::Bug, format!("{} waits for nobody", other.verb())))),
        }
    }

    /// Keeps everybody's changes away, has jobs rest, makes a checkpoint, and has the store stand still until the lease ends.
    fn freeze(self: &Arc<Daemon>, who: &Who, length: Duration, reason: &str, cut: Cut, done: Answered) {
        if length.is_zero() || length > FREEZE_MAX {
            let text = format!("a freeze lasts more than nothing and at most {} s", FREEZE_MAX.as_secs());
            return done(Err(Failure::new(Code::BadInput, text)));
        }
        let wait = self.config().limits.wait;
        // Its end is counted from when everything stands still.
        let wish = Wish { scope: Scope::Store, length: None, wait, reason: reason.to_owned(), freeze: true };
        let daemon = self.clone();
        let told = move |answer: Result<Held, Blocked>| match answer {
            Ok(held) => daemon.begin_freeze(held, length, done),
            Err(e) => done(Err(blocked(&e))),
        };
        self.leases.take(who, wish, cut, Box::new(told));
    }

    fn begin_freeze(self: Arc<Daemon>, held: Held, length: Duration, done: Answered) {
        let (leases, connection, id) = (self.leases.clone(), held.who.connection, held.id);
        // Answered once: when it stands still, or when it will not.
        let done = Arc::new(Mutex::new(Some(done)));
        let answer = {
            let done = done.clone();
            move |answer: Result<Reply, Failure>| {
                let done = done.lock().unwrap_or_else(PoisonError::into_inner).take();
                done.into_iter().for_each(|done| {
                    done(match &answer {
                        Ok(reply) => Ok(reply.clone()),
                        Err(failure) => Err(failure.clone()),
                    })
                });
            }
        };
        let refuse = answer.clone();
        let work = move || {
            let rest = || {
                self.jobs.pause(REST).map_err(|job| {
                    let text = format!("job {} ({}) does not come to rest", job.id, job.verb);
                    Failure::new(Code::Busy, text).with_hint(format!("try again, or: storectl jobs cancel {}", job.id))
                })
            };
            let still = self.store().and_then(|store| {
                let _rest = rest()?;
                let during = || {
                    self.leases.ends_in(id, length);
                    tracing::info!(event = "frozen", pid = held.who.pid, uid = held.who.uid, reason = held.reason);
                    answer(Ok(Reply::Lock(lock(&Held { left: Some(length), ..held.clone() }))));
                    while self.leases.is_held(id) {
                        std::thread::sleep(LOOK);
                    }
                };
                store.stand_still(during).map_err(|e| failure(&e))
            });
            match still {
                Ok(()) => tracing::info!(event = "thawed", pid = held.who.pid),
                Err(failure) => {
                    drop(self.leases.release(connection, id));
                    answer(Err(failure));
                }
            }
        };
        if let Err(e) = std::thread::Builder::new().name("freeze".to_owned()).spawn(work) {
            drop(leases.release(connection, id));
            refuse(Err(Failure::new(Code::Io, format!("no thread can be started: {e}"))));
        }
    }

    /// `locks`.
    pub(super) fn locks(&self) -> Reply {
        let picture = self.leases.picture();
        Reply::Locks(Box::new(Locks {
            held: picture.held.iter().map(lock).collect(),
            waiting: picture.waiting.iter().map(wait).collect(),
            deadlocks: picture.tally.deadlocks,
            waited_too_long: picture.tally.too_long,
            expired: picture.tally.expired,
            oldest_change: self.store.get().and_then(|s| s.oldest_wait()).map(|wait| wait.as_secs_f64()),
            limit: self.config().limits.wait.as_secs_f64(),
        }))
    }

    /// Ends a lease of the one who asks.
    pub(super) fn lock_release(&self, peer: &Peer, id: u64) -> Result<Reply, Failure> {
        let released = self.leases.release(peer.connection, id);
        released.map(|()| Reply::Done(Done { done: true })).map_err(|e| blocked(&e))
    }

    /// Cuts the holder's connection, and comes back when it cannot commit any more: the lease is free.
    pub(super) fn lock_break(&self, peer: &Peer, id: u64) -> Result<Reply, Failure> {
        let held = self.leases.cut(id).map_err(|e| blocked(&e))?;
        let (holder, scope) = (held.who.pid, &held.scope);
        tracing::warn!(event = "lease_broken", id, holder, held = %scope, by_pid = peer.pid, by_uid = peer.uid);
        for _ in 0..BREAK.div_duration_f64(LOOK) as u32 {
            if !self.leases.is_held(id) {
                return Ok(Reply::Lock(lock(&held)));
            }
            std::thread::sleep(LOOK);
        }
        let text = format!("the connection of process {holder} was cut, and lease {id} on {scope} has not ended");
        Err(Failure::new(Code::Busy, text).with_hint("storectl locks --why-stuck"))
    }
}

fn who(peer: &Peer, verb: &'static str) -> Who {
    let Peer { connection, pid, uid, client, .. } = peer;
    Who { connection: *connection, pid: *pid, uid: *uid, client: client.clone(), verb }
}

fn granted(answer: Result<Held, Blocked>) -> Result<Reply, Failure> {
    answer.map(|held| Reply::Lock(lock(&held))).map_err(|e| blocked(&e))
}

/// Why somebody does not get what he wants.
pub(super) fn blocked(why: &Blocked) -> Failure {
    let (code, hint) = match why {
        Blocked::Deadlock { .. } => (Code::Busy, "give back what you hold and try again"),
        Blocked::TooLong { .. } | Blocked::TooMany => {
            (Code::Busy, "try again; who is in the way: storectl locks --why-stuck")
        }
        Blocked::Closing => (Code::Busy, "try again after the restart"),
        Blocked::Gone => (Code::Unavailable, "connect again"),
        Blocked::Unknown(_) => (Code::NotFound, "storectl locks"),
        Blocked::NotYours { .. } => (Code::NotPermitted, "storectl locks break ID"),
        Blocked::Engaged => (Code::BadInput, "use a connection of its own"),
    };
    Failure::new(code, why.to_string()).with_hint(hint)
}

fn lock(held: &Held) -> Lock {
    Lock {
        id: held.id,
        resource: held.scope.to_string(),
        kind: if held.freeze { "freeze" } else { "lease" }.to_owned(),
        pid: held.who.pid,
        uid: held.who.uid,
        verb: held.who.verb.to_owned(),
        client: held.who.client.clone(),
        reason: held.reason.clone(),
        age: held.age.as_secs_f64(),
        left: held.left.map(|left| left.as_secs_f64()),
        waiters: held.waiters,
    }
}

fn wait(waiting: &Waiting) -> LockWait {
    let scopes: Vec<String> = waiting.scopes.iter().take(3).map(ToString::to_string).collect();
    LockWait {
        resource: scopes.join(", "),
        wants: if waiting.wants_lease { "lease" } else { "change" }.to_owned(),
        pid: waiting.who.pid,
        uid: waiting.who.uid,
        verb: waiting.who.verb.to_owned(),
        client: waiting.who.client.clone(),
        age: waiting.age.as_secs_f64(),
        left: waiting.left.as_secs_f64(),
        locks: waiting.leases.clone(),
        behind: waiting.behind.clone(),
    }
}
