//! The table of leases and waits: a state machine without clocks and without threads.

mod graph;

use super::{Cut, Leases, OnLease, OnPass, Pass, Scope, Tally};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Most leases and waits at a time.
const MOST: usize = 10_000;

/// Who holds or waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// Number of the connection.
    pub connection: u64,
    /// Process at its other end.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// What it calls itself.
    pub client: String,
    /// What it asked for.
    pub verb: &'static str,
}

/// A lease as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its number.
    pub id: u64,
    /// What.
    pub scope: Scope,
    /// By whom.
    pub who: Who,
    /// Since when.
    pub age: Duration,
    /// Until its deadline.
    pub left: Option<Duration>,
    /// Why.
    pub reason: String,
    /// Writing stands still.
    pub freeze: bool,
    /// How many wait for it.
    pub waiters: u64,
}

/// Who waits, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Who.
    pub who: Who,
    /// For what.
    pub scopes: Vec<Scope>,
    /// For a lease; else to make a change.
    pub wants_lease: bool,
    /// Since when.
    pub age: Duration,
    /// Until it is refused.
    pub left: Duration,
    /// Numbers of the leases in its way.
    pub leases: Vec<u64>,
    /// Processes that wait for the same and came before it.
    pub behind: Vec<i32>,
}

/// Why something was not granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Blocked {
    /// It would wait for itself.
    #[error("deadlock: {circle}")]
    Deadlock {
        /// Who waits for whom, in words.
        circle: String,
    },
    /// The limit has passed.
    #[error("waited {} s for {what}: {by}", waited.as_secs())]
    TooLong {
        /// What was waited for.
        what: String,
        /// Who is in the way.
        by: String,
        /// How long.
        waited: Duration,
    },
    /// Too many wait.
    #[error("{MOST} leases and waits are there, the most allowed")]
    TooMany,
    /// The daemon stops.
    #[error("draining: nothing new is begun")]
    Closing,
    /// The client has left.
    #[error("the client is gone")]
    Gone,
    /// No lease of that number.
    #[error("no lease {0} is held (any more)")]
    Unknown(u64),
    /// It is another's.
    #[error("lease {id} is held by process {pid} of user {uid}")]
    NotYours {
        /// The lease.
        id: u64,
        /// Its holder's process.
        pid: i32,
        /// Its holder's user.
        uid: u32,
    },
    /// A connection that holds or waits for something cannot act for another.
    #[error("this connection holds or waits for something itself")]
    Engaged,
}

/// What somebody wants, and how it is told.
pub(super) enum Want {
    Lease { length: Option<Duration>, reason: String, freeze: bool, done: OnLease },
    Pass(OnPass),
}

/// A wish with who has it.
pub(super) struct Wanted {
    pub(super) who: Who,
    pub(super) scopes: Vec<Scope>,
    pub(super) wait: Duration,
    pub(super) want: Want,
}

struct Wait {
    wanted: Wanted,
    party: u64,
    since: Duration,
}

impl Wait {
    fn wants_lease(&self) -> bool {
        matches!(self.wanted.want, Want::Lease { .. })
    }

    fn overlaps(&self, scopes: &[Scope]) -> bool {
        Scope::any_overlap(&self.wanted.scopes, scopes)
    }

    fn what(&self) -> String {
        self.wanted.scopes.first().map_or_else(String::new, ToString::to_string)
    }
}

struct Lease {
    who: Who,
    party: u64,
    scope: Scope,
    since: Duration,
    deadline: Option<Duration>,
    reason: String,
    freeze: bool,
}

impl Lease {
    /// In the way of this party and these scopes.
    fn blocks(&self, party: u64, scopes: &[Scope]) -> bool {
        (self.party != party || self.freeze) && scopes.iter().any(|scope| scope.overlaps(&self.scope))
    }
}

/// An answer that is told when the table is free again.
pub(super) enum Told {
    Lease(OnLease, Result<Held, Blocked>),
    Pass(OnPass, Result<u64, Blocked>),
}

impl Told {
    pub(super) fn tell(self, leases: &Arc<Leases>) {
        match self {
            Told::Lease(done, answer) => done(answer),
            Told::Pass(done, answer) => {
                done(answer.map(|number| Pass { leases: leases.clone(), noted: Some(number) }));
            }
        }
    }
}

/// See the page.
#[derive(Default)]
pub(super) struct Table {
    next: u64,
    leases: BTreeMap<u64, Lease>,
    /// By number, so in the order of coming.
    waits: BTreeMap<u64, Wait>,
    /// Changes that are under way: party and what they touch.
    passes: BTreeMap<u64, (u64, Vec<Scope>)>,
    /// Connections that act for another.
    parties: BTreeMap<u64, u64>,
    /// How connections are cut.
    cuts: BTreeMap<u64, Cut>,
    told: Vec<Told>,
    tally: Tally,
    closed: bool,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.leases.len() + self.waits.len()
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn party(&self, connection: u64) -> u64 {
        self.parties.get(&connection).copied().unwrap_or(connection)
    }

    pub(super) fn take_answers(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    pub(super) fn know(&mut self, connection: u64, cut: Cut) {
        self.cuts.insert(connection, cut);
    }

    pub(super) fn knows(&self, connection: u64) -> bool {
        self.cuts.contains_key(&connection)
    }

    /// Notes a change as under way, if nothing is in its way.
    pub(super) fn note_pass(&mut self, who: &Who, scopes: &[Scope]) -> Option<u64> {
        let party = self.party(who.connection);
        if !self.parties_before(u64::MAX, party, scopes, false).is_empty() {
            return None;
        }
        let number = self.number();
        self.passes.insert(number, (party, scopes.to_vec()));
        Some(number)
    }

    pub(super) fn passed(&mut self, number: u64) {
        self.passes.remove(&number);
    }

    /// Queues a wish, unless that closes a circle; [`Table::settle`] grants it if nothing is in its way.
    pub(super) fn ask(&mut self, wanted: Wanted, now: Duration) {
        let party = self.party(wanted.who.connection);
        let wait = Wait { wanted, party, since: now };
        let refused = if self.closed {
            Some(Blocked::Closing)
        } else if self.len() >= MOST {
            Some(Blocked::TooMany)
        } else {
            self.circle(&wait, now)
        };
        match refused {
            Some(why) => {
                if let Blocked::Deadlock { circle } = &why {
                    self.tally.deadlocks += 1;
                    let who = &wait.wanted.who;
                    tracing::warn!(
                        event = "deadlock",
                        pid = who.pid,
                        uid = who.uid,
                        verb = who.verb,
                        circle,
                        "refused"
                    );
                }
                self.refuse(wait, why);
            }
            None => {
                let number = self.number();
                self.waits.insert(number, wait);
            }
        }
    }

    fn refuse(&mut self, wait: Wait, why: Blocked) {
        self.told.push(match wait.wanted.want {
            Want::Lease { done, .. } => Told::Lease(done, Err(why)),
            Want::Pass(done) => Told::Pass(done, Err(why)),
        });
    }

    /// Grants whatever can be granted, in order. `alone`: no change is under way that is not in the table.
    pub(super) fn settle(&mut self, now: Duration, alone: bool) {
        let numbers: Vec<u64> = self.waits.keys().copied().collect();
        for number in numbers {
            let Some(wait) = self.waits.get(&number) else { continue };
            let (party, lease) = (wait.party, wait.wants_lease());
            let scopes = &wait.wanted.scopes;
            let under_way = |(of, touched): &(u64, Vec<Scope>)| *of != party && Scope::any_overlap(touched, scopes);
            if !self.parties_before(number, party, scopes, lease).is_empty()
                || (lease && (!alone || self.passes.values().any(under_way)))
            {
                continue;
            }
            if let Some(wait) = self.waits.remove(&number) {
                self.grant(number, wait, now);
            }
        }
    }

    fn grant(&mut self, number: u64, wait: Wait, now: Duration) {
        let Wait { wanted: Wanted { who, mut scopes, want, .. }, party, .. } = wait;
        match want {
            Want::Pass(done) => {
                self.passes.insert(number, (party, scopes));
                self.told.push(Told::Pass(done, Ok(number)));
            }
            Want::Lease { length, reason, freeze, done } => {
                let scope = scopes.pop().unwrap_or(Scope::Apart);
                let deadline = length.map(|length| now + length);
                let lease = Lease { who, party, scope, since: now, deadline, reason, freeze };
                self.leases.insert(number, lease);
                let held = self.held(number, now);
                self.told.push(Told::Lease(done, held));
            }
        }
    }

    fn held(&self, id: u64, now: Duration) -> Result<Held, Blocked> {
        let lease = self.leases.get(&id).ok_or(Blocked::Unknown(id))?;
        let waits = self.waits.values().filter(|w| lease.blocks(w.party, &w.wanted.scopes));
        Ok(Held {
            id,
            scope: lease.scope.clone(),
            who: lease.who.clone(),
            age: now.saturating_sub(lease.since),
            left: lease.deadline.map(|deadline| deadline.saturating_sub(now)),
            reason: lease.reason.clone(),
            freeze: lease.freeze,
            waiters: waits.count() as u64,
        })
    }

    pub(super) fn is_held(&self, id: u64) -> bool {
        self.leases.contains_key(&id)
    }

    pub(super) fn release(&mut self, connection: u64, id: u64) -> Result<(), Blocked> {
        let party = self.party(connection);
        let lease = self.leases.get(&id).ok_or(Blocked::Unknown(id))?;
        if lease.party != party {
            return Err(Blocked::NotYours { id, pid: lease.who.pid, uid: lease.who.uid });
        }
        self.leases.remove(&id);
        Ok(())
    }

    pub(super) fn set_deadline(&mut self, id: u64, deadline: Duration) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.deadline = Some(deadline);
        }
    }

    pub(super) fn join(&mut self, who: &Who, id: u64) -> Result<(), Blocked> {
        let lease = self.leases.get(&id).ok_or(Blocked::Unknown(id))?;
        if who.uid != 0 && who.uid != lease.who.uid {
            return Err(Blocked::NotYours { id, pid: lease.who.pid, uid: lease.who.uid });
        }
        let party = lease.party;
        let own = self.leases.values().any(|l| l.who.connection == who.connection);
        if own || self.waits.values().any(|w| w.wanted.who.connection == who.connection) {
            return Err(Blocked::Engaged);
        }
        self.parties.insert(who.connection, party);
        Ok(())
    }

    /// Cuts all connections of the party that holds a lease.
    pub(super) fn cut(&self, id: u64, now: Duration) -> Result<Held, Blocked> {
        let held = self.held(id, now)?;
        let party = self.party(held.who.connection);
        self.cuts.iter().filter(|(c, _)| self.party(**c) == party).for_each(|(_, cut)| cut());
        Ok(held)
    }

    /// Gives what the connection held.
    pub(super) fn gone(&mut self, connection: u64, now: Duration) -> Vec<Held> {
        let of_it: Vec<u64> =
            self.leases.iter().filter(|(_, l)| l.who.connection == connection).map(|(id, _)| *id).collect();
        let held = of_it.iter().filter_map(|id| self.held(*id, now).ok()).collect();
        of_it.iter().for_each(|id| drop(self.leases.remove(id)));
        self.refuse_all(|wait| wait.wanted.who.connection == connection, |_| Blocked::Gone);
        self.cuts.remove(&connection);
        self.parties.remove(&connection);
        held
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
        self.refuse_all(|_| true, |_| Blocked::Closing);
    }

    fn refuse_all(&mut self, which: impl Fn(&Wait) -> bool, why: impl Fn(&Wait) -> Blocked) {
        let numbers: Vec<u64> = self.waits.iter().filter(|(_, wait)| which(wait)).map(|(n, _)| *n).collect();
        for number in numbers {
            if let Some(wait) = self.waits.remove(&number) {
                let why = why(&wait);
                self.refuse(wait, why);
            }
        }
    }

    /// Refuses who has waited too long; gives the leases that ended at their deadline.
    pub(super) fn sweep(&mut self, now: Duration) -> Vec<Held> {
        let late: Vec<u64> =
            self.waits.iter().filter(|(_, w)| now >= w.since + w.wanted.wait).map(|(number, _)| *number).collect();
        for number in late {
            let by = self.in_the_way(number, now);
            let Some(wait) = self.waits.remove(&number) else { continue };
            let (what, waited, who) = (wait.what(), now.saturating_sub(wait.since), &wait.wanted.who);
            self.tally.too_long += 1;
            let (pid, uid, verb) = (who.pid, who.uid, who.verb);
            tracing::warn!(
                event = "waited_too_long",
                pid,
                uid,
                verb,
                what,
                seconds = waited.as_secs_f64(),
                by,
                "refused"
            );
            self.refuse(wait, Blocked::TooLong { what, by, waited });
        }
        let over = |lease: &&Lease| lease.deadline.is_some_and(|deadline| now >= deadline);
        let over: Vec<u64> = self.leases.iter().filter(|(_, lease)| over(lease)).map(|(id, _)| *id).collect();
        let ended: Vec<Held> = over.iter().filter_map(|id| self.held(*id, now).ok()).collect();
        over.iter().for_each(|id| drop(self.leases.remove(id)));
        self.tally.expired += ended.len() as u64;
        ended
    }
}
