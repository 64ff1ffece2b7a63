//! Leases: who holds a part of the store for himself, who waits for it, and since when.
//!
//! # Purpose
//! A lease keeps changes of others away from a mailbox, a user, or the whole store while somebody works on it: a command
//! that must find it unchanged, a freeze for a snapshot of the file system. It never reaches into the store: a change that
//! has been let through here is planned and committed as any other.
//!
//! # Operation
//! A change *passes* ([`Leases::pass`]) and holds its [`Pass`] until it is answered. While nobody holds or wants a lease
//! that is one counter up and down. Otherwise it is looked at in the [`table`]: it waits behind leases of others that have
//! something in common with it, and behind those who want one since before it. A lease is granted when no such change is
//! under way any more. Nothing in here waits on a thread: whoever has to wait leaves a callback.
//!
//! [`Leases::sweep`], called ten times a second, ends leases at their deadline and waits at their limit.
//!
//! # Invariants
//! * Two parties never hold leases that have something in common, and no change passes one of another party.
//! * Who waits, waits in the order of coming among those with something in common.
//! * No wait closes a circle: who would close one is refused at once, so there is exactly one victim.
//! * Nothing outlives its connection ([`Leases::gone`]) but changes that are on their way to the log, and while one of them is,
//!   nobody else gets what it touches.
//!
//! A party is a connection together with those that joined it: a command that runs under a lease acts for its holder.

mod scope;
mod table;
#[cfg(test)]
mod tests;

pub use scope::Scope;
pub use table::{Blocked, Held, Waiting, Who};

use crate::env::Env;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use table::{Table, Want, Wanted};

/// Cuts the connection of a holder; returns at once.
pub type Cut = Box<dyn Fn() + Send>;
/// Takes the answer to a wish for a lease.
pub type OnLease = Box<dyn FnOnce(Result<Held, Blocked>) + Send>;
/// Takes the answer to a change that had to wait.
pub type OnPass = Box<dyn FnOnce(Result<Pass, Blocked>) + Send>;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Which part of the store.
    pub scope: Scope,
    /// It ends so long after it was granted; `None`: with its connection.
    pub length: Option<Duration>,
    /// Longest wait for it.
    pub wait: Duration,
    /// Why, in words of who wants it.
    pub reason: String,
    /// Keeps the changes of its own party away too.
    pub freeze: bool,
}

/// How often what happened; since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Circles that would have been closed.
    pub deadlocks: u64,
    /// Waits that ended at their limit.
    pub too_long: u64,
    /// Leases that ended at their deadline.
    pub expired: u64,
}

/// Everything held and wanted now.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    /// Leases, oldest first.
    pub held: Vec<Held>,
    /// Who waits, in order.
    pub waiting: Vec<Waiting>,
    /// See there.
    pub tally: Tally,
}

/// See the page.
pub struct Leases {
    env: Arc<dyn Env>,
    /// Changes that passed without a look at the table.
    fast: AtomicUsize,
    /// Leases and waits in the table.
    busy: AtomicUsize,
    table: Mutex<Table>,
}

impl std::fmt::Debug for Leases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leases").field("busy", &self.busy).field("fast", &self.fast).finish_non_exhaustive()
    }
}

/// A change that was let through; until this is dropped nobody gets a lease on what it touches.
#[derive(Debug)]
pub struct Pass {
    leases: Arc<Leases>,
    /// Its number in the table.
    noted: Option<u64>,
}

impl Drop for Pass {
    fn drop(&mut self) {
        match self.noted {
            Some(number) => self.leases.act(|table, _| table.passed(number)),
            None => self.leases.leave(),
        }
    }
}

impl Leases {
    /// No leases.
    #[must_use]
    pub fn new(env: Arc<dyn Env>) -> Leases {
        Leases { env, fast: AtomicUsize::new(0), busy: AtomicUsize::new(0), table: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the table, grants what can be granted then, and tells those concerned.
    fn act<T>(self: &Arc<Leases>, work: impl FnOnce(&mut Table, Duration) -> T) -> T {
        let now = self.env.uptime();
        let (value, told) = {
            let mut table = self.lock();
            let value = work(&mut table, now);
            // From here on no change passes unseen; then those that did are counted.
            self.busy.store(table.len(), SeqCst);
            table.settle(now, self.fast.load(SeqCst) == 0);
            self.busy.store(table.len(), SeqCst);
            (value, table.take_answers())
        };
        told.into_iter().for_each(|answer| answer.tell(self));
        value
    }

    /// Lets a change through at once if nobody is in its way; else `later` is called when it may go, or must not. `None`:
    /// it waits, and nothing that comes behind it on its connection may overtake it.
    pub fn pass(
        self: &Arc<Leases>,
        who: &Who,
        scopes: impl FnOnce() -> Vec<Scope>,
        wait: Duration,
        later: impl FnOnce() -> OnPass,
    ) -> Option<Pass> {
        self.fast.fetch_add(1, SeqCst);
        if self.busy.load(SeqCst) == 0 {
            return Some(Pass { leases: self.clone(), noted: None });
        }
        self.leave();
        let scopes = scopes();
        self.act(|table, now| match table.note_pass(who, &scopes) {
            Some(number) => Some(Pass { leases: self.clone(), noted: Some(number) }),
            None => {
                table.ask(Wanted { who: who.clone(), scopes, wait, want: Want::Pass(later()) }, now);
                None
            }
        })
    }

    fn leave(self: &Arc<Leases>) {
        if self.fast.fetch_sub(1, SeqCst) == 1 && self.busy.load(SeqCst) > 0 {
            self.act(|_, _| ());
        }
    }

    /// Asks for a lease. `cut` ends the connection of who asks, should it be broken.
    pub fn take(self: &Arc<Leases>, who: &Who, wish: Wish, cut: Cut, done: OnLease) {
        let Wish { scope, length, wait, reason, freeze } = wish;
        let want = Want::Lease { length, reason, freeze, done };
        self.act(|table, now| {
            table.know(who.connection, cut);
            table.ask(Wanted { who: who.clone(), scopes: vec![scope], wait, want }, now);
        });
    }

    /// Ends a lease of the party of this connection.
    ///
    /// # Errors
    /// There is none of that number (any more), or it is another's.
    pub fn release(self: &Arc<Leases>, connection: u64, id: u64) -> Result<(), Blocked> {
        self.act(|table, _| table.release(connection, id))
    }

    /// Gives a lease another end, counted from now.
    pub fn ends_in(self: &Arc<Leases>, id: u64, length: Duration) {
        self.act(|table, now| table.set_deadline(id, now + length));
    }

    /// Has this connection act for the holder of a lease; `cut` ends it with the holder's.
    ///
    /// # Errors
    /// There is no such lease, another user holds it, or this connection holds or waits for something by itself.
    pub fn join(self: &Arc<Leases>, who: &Who, id: u64, cut: Cut) -> Result<(), Blocked> {
        self.act(|table, _| {
            table.join(who, id)?;
            table.know(who.connection, cut);
            Ok(())
        })
    }

    /// Cuts the connections of the holder of a lease. It ends, and is given to others, when they are gone and what they
    /// had under way is on disk or refused.
    ///
    /// # Errors
    /// There is no such lease.
    pub fn cut(&self, id: u64) -> Result<Held, Blocked> {
        let now = self.env.uptime();
        self.lock().cut(id, now)
    }

    /// True while there is such a lease.
    #[must_use]
    pub fn is_held(&self, id: u64) -> bool {
        self.lock().is_held(id)
    }

    /// A connection has ended: what it held is free, and what it waited for is not wanted any more.
    pub fn gone(self: &Arc<Leases>, connection: u64) {
        if self.busy.load(SeqCst) == 0 && !self.lock().knows(connection) {
            return;
        }
        let held = self.act(|table, now| table.gone(connection, now));
        for lease in held {
            tracing::warn!(
                event = "holder_gone",
                pid = lease.who.pid,
                uid = lease.who.uid,
                client = lease.who.client,
                held = %lease.scope,
                seconds = lease.age.as_secs_f64(),
                reason = lease.reason,
                "a client ended without giving back what it held; it is free"
            );
        }
    }

    /// Everybody who waits is refused from now on: the daemon stops.
    pub fn close(self: &Arc<Leases>) {
        self.act(|table, _| table.close());
    }

    /// Ends what has reached its time.
    pub fn sweep(self: &Arc<Leases>) {
        if self.busy.load(SeqCst) == 0 {
            return;
        }
        for lease in self.act(|table, now| table.sweep(now)) {
            tracing::warn!(
                event = "lease_expired",
                pid = lease.who.pid,
                uid = lease.who.uid,
                held = %lease.scope,
                seconds = lease.age.as_secs_f64(),
                reason = lease.reason,
                "a lease reached its deadline; it is free"
            );
        }
    }

    /// How long the oldest change that was not let through has been waiting, and who is in its way, in words.
    #[must_use]
    pub fn oldest_change(&self) -> Option<(Duration, String)> {
        if self.busy.load(SeqCst) == 0 {
            return None;
        }
        let now = self.env.uptime();
        self.lock().oldest_change(now)
    }

    /// Who holds and who waits.
    #[must_use]
    pub fn picture(&self) -> Picture {
        let now = self.env.uptime();
        self.lock().picture(now)
    }
}
