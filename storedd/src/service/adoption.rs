//! The adoption that a start has left to be done: the database learns from the partitions what it has lost, as a job. Whoever is asked for
//! meanwhile comes first.

use super::Daemon;
use super::reconstruct::reply;
use crate::control::convert::failure;
use crate::error::StoreError;
use crate::jobs::partitions;
use crate::jobs::reconstruct::{self, Done, Scope};
use crate::jobs::registry::{Context, Kind};
use crate::leases::Scope as LeaseScope;
use crate::model::Command;
use crate::model::name::owner_of;
use crate::model::user::SHARED_DIRECTORY;
use crate::partition::PartitionId;
use crate::partition::tree::Home;
use crate::store::Store;
use crate::store::adopt::Wanted;
use proto::{Code, Failure, Reply, Request};
use std::collections::BTreeSet;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

/// The adoption after a start.
const ADOPT: Kind = Kind::new("adopt", super::jobs::RECONSTRUCTS);
/// Shortest pause after an adoption in whose way something was, and the first of those that grow.
const PAUSE: Duration = Duration::from_secs(5);
/// How often the pause is doubled: to 85 minutes.
const DOUBLED_MAX: u32 = 10;

/// What an adoption that is not finished waits for, before it begins again.
#[derive(Debug, Default)]
pub(super) struct Awaited {
    /// Partitions that were away: one of them is there.
    partitions: BTreeSet<String>,
    /// Something was in the way that may pass: the uptime at which it is tried again.
    again: Option<Duration>,
    /// Nothing begins before this uptime: a partition that comes and goes would have everything looked at each time.
    not_before: Duration,
    /// How often in a row something was in the way.
    tries: u32,
}

impl Awaited {
    /// It ended at `now`, and is not finished: these partitions were away; `hindered`: something was in the way that may pass by itself.
    fn ended(&mut self, now: Duration, away: BTreeSet<String>, hindered: bool) {
        self.partitions = away;
        (self.tries, self.again, self.not_before) = match hindered {
            true => {
                let pause = PAUSE * (1 << self.tries.min(DOUBLED_MAX));
                (self.tries.saturating_add(1), Some(now + pause), now + PAUSE)
            }
            false => (0, None, now),
        };
    }

    /// True when it is to begin again.
    fn is_over(&self, now: Duration, is_there: impl Fn(&str) -> bool) -> bool {
        let may_go_on = self.again.is_some_and(|at| at <= now) || self.partitions.iter().any(|name| is_there(name));
        may_go_on && self.not_before <= now
    }

    /// It begins.
    fn begins(&mut self) {
        self.partitions.clear();
        self.again = None;
    }
}

/// Whom a request names.
#[derive(Debug, Default)]
pub(super) struct Named<'a> {
    users: BTreeSet<&'a str>,
    /// Mailboxes that belong to nobody.
    shared: bool,
}

impl<'a> Named<'a> {
    pub(super) fn users(users: impl IntoIterator<Item = &'a str>) -> Named<'a> {
        Named { users: users.into_iter().collect(), shared: false }
    }

    /// Of a mailbox's name only its owner is of interest, also where it is a pattern.
    fn mailbox(&mut self, name: &'a str) {
        match name.strip_prefix("user/") {
            Some(rest) => self.user(rest.split('/').next().unwrap_or_default()),
            // A pattern that begins with a wildcard means them, too.
            None => self.shared |= name.starts_with("shared") || name.starts_with(['*', '%']),
        }
    }

    fn user(&mut self, user: &'a str) {
        if crate::model::user::check_user(user).is_ok() {
            self.users.insert(user);
        }
    }
}

impl Daemon {
    /// Begins the adoption that a start has left to be done, as a job; nothing if there is none.
    pub fn adopt(self: &Arc<Daemon>) {
        if !self.is_adopting() {
            return;
        }
        let daemon = self.clone();
        match self.jobs.start(ADOPT, super::jobs::itself(), move |ctx: &Context| daemon.adopt_all(ctx)) {
            Ok(id) => tracing::info!(event = "adoption_begun", job = id, "users are served meanwhile"),
            Err(e) => {
                tracing::warn!(event = "adoption_not_begun", error = %e, "storectl reconstruct -m");
                self.awaited().ended(self.env.uptime(), BTreeSet::new(), true);
            }
        }
    }

    fn awaited(&self) -> MutexGuard<'_, Awaited> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn adopt_all(&self, ctx: &Context) -> Result<Reply, Failure> {
        let done = self.adopt_once(ctx);
        match &done {
            Ok(done) => self.awaited().ended(self.env.uptime(), done.away.clone(), done.is_hindered),
            // Somebody wants it to end.
            Err(_) if ctx.cancelled() => {}
            Err(_) => self.awaited().ended(self.env.uptime(), BTreeSet::new(), true),
        }
        done.map(reply)
    }

    fn adopt_once(&self, ctx: &Context) -> Result<Done, Failure> {
        let store = self.store()?;
        self.register_partitions(store)?;
        let ended = || match ctx.cancelled() {
            true => Err(StoreError::Busy { why: "ended early".to_owned() }),
            false => Ok(()),
        };
        store.learn_lodgers(&ended).map_err(|e| failure(&e))?;
        let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let scope = Scope { jobs, archive: self.archived_log(store), ..Scope::default() };
        let done = reconstruct::run(store, &scope, ctx).map_err(|e| failure(&e))?;
        tracing::info!(
            event = "adopted",
            mailboxes = done.checked,
            changes = done.changes_total,
            not_proven = done.findings_total,
            partitions_away = done.away.len(),
            "what the partitions hold is in the database"
        );
        if done.is_complete() {
            store.adoption_done(&done.findings, done.findings_total).map_err(|e| failure(&e))?;
        }
        Ok(done)
    }

    /// Goes on with an adoption when a partition is there for which it waits, or what was in its way may have passed.
    pub fn keep_adopting(self: &Arc<Daemon>) {
        let Some(watch) = self.watch.get() else { return };
        let seen = watch.prober().partitions();
        let is_there = |name: &str| seen.iter().any(|p| p.name == name && ["ok", "full"].contains(&p.state));
        let mut awaited = self.awaited();
        if awaited.is_over(self.env.uptime(), is_there) {
            awaited.begins();
            drop(awaited);
            self.adopt();
        }
    }

    pub(super) fn register_partitions(&self, store: &Store) -> Result<(), Failure> {
        let registered = partitions::register(store, || PartitionId(self.env.random()), self.env.now());
        registered.map_err(|e| Failure::new(Code::Unavailable, e.to_string()))
    }

    /// While an adoption is due: has what these have in partitions adopted at once, ahead of the rest.
    ///
    /// # Errors
    /// If it cannot be decided now whether there is such a user.
    pub(super) fn adopt_first(&self, named: &Named<'_>) -> Result<(), Failure> {
        let Ok(store) = self.store() else { return Ok(()) };
        if !self.is_adopting() {
            return Ok(());
        }
        for user in &named.users {
            let Some(homes) = store.homes_to_adopt(user).map_err(|e| failure(&e))? else {
                let why = format!("the database was lost, and it is being found out where {user} is");
                return Err(Failure::new(Code::Busy, why).with_hint("try again; how far it is: storectl jobs"));
            };
            adopt_homes(store, &homes).map_err(|e| failure(&e))?;
        }
        if let (Some(home), true) = (Home::parse(SHARED_DIRECTORY), named.shared) {
            let there = store.partitions().list().into_iter().map(|(partition, _)| partition);
            let homes: Vec<_> = there
                .filter(|partition| store.partitions().disk(partition).is_some())
                .map(|partition| (partition, home.clone()))
                .collect();
            adopt_homes(store, &homes).map_err(|e| failure(&e))?;
        }
        Ok(())
    }

    /// [`Daemon::adopt_first`] for those whom a command names.
    pub(super) fn adopt_named(&self, command: &Command) -> Result<(), Failure> {
        if !self.is_adopting() {
            return Ok(());
        }
        let (mut users, mut shared) = (Vec::new(), false);
        for scope in LeaseScope::of(command) {
            match scope {
                LeaseScope::User(user) | LeaseScope::Account(user) => users.push(user),
                LeaseScope::Mailbox(key) | LeaseScope::Tree(key) => match owner_of(&key) {
                    Some(user) => users.push(user.to_owned()),
                    None => shared = true,
                },
                LeaseScope::Store | LeaseScope::Apart => {}
            }
        }
        self.adopt_first(&Named { shared, ..Named::users(users.iter().map(String::as_str)) })
    }

    /// [`Daemon::adopt_first`] for those whom a query names.
    pub(super) fn adopt_asked(&self, request: &Request) -> Result<(), Failure> {
        if !self.is_adopting() {
            return Ok(());
        }
        let mut named = Named::default();
        match request {
            Request::UserShow { user }
            | Request::Subscriptions { user }
            | Request::Hashdir { user, .. }
            | Request::SubscriptionsMissing { user } => named.user(user),
            // What he may see of it.
            Request::MailboxListAs { user, .. } => {
                named.user(user);
                named.shared = true;
            }
            Request::MailboxShow { name }
            | Request::AclGet { name }
            | Request::AclRights { name, .. }
            | Request::MessageList { name, .. }
            | Request::MessageShow { name, .. }
            | Request::MessageBytes { name, .. }
            | Request::MailboxList { pattern: name }
            | Request::MailboxListDeleted { pattern: name }
            | Request::MessageListExpunged { name }
            | Request::MessageSend { to: name, .. } => named.mailbox(name),
            Request::AclMy { name, user } | Request::MailboxShowAs { user, name } => {
                named.user(user);
                named.mailbox(name);
            }
            Request::QuotaGet { root } if root.contains('/') => named.mailbox(root),
            Request::QuotaGet { root } => named.user(root),
            _ => return Ok(()),
        }
        self.adopt_first(&named)
    }

    /// True while an adoption is due: whoever is asked for may have to be looked for in the partitions first.
    pub(super) fn is_adopting(&self) -> bool {
        self.store().is_ok_and(|store| store.due().is_due() && !store.is_held())
    }

    /// True while nobody can say of one of these that there is no such user.
    pub(super) fn may_come(&self, users: &[&str]) -> bool {
        let may_come = |store: &Store| users.iter().any(|user| store.may_come(user).unwrap_or(true));
        self.is_adopting() && self.store().is_ok_and(|store| may_come(store))
    }

    /// True while an INBOX that is missing may still be brought back, or given.
    pub(super) fn may_get_inbox(&self) -> bool {
        self.is_adopting()
    }
}

fn adopt_homes(store: &Store, homes: &[(String, Home)]) -> Result<(), StoreError> {
    let wanted = Wanted { dry_run: false, mailboxes: &|_| true, users: true, is_up_to_date: false };
    // Twice: one may have to wait for the other.
    for _ in 0..2 {
        for (partition, home) in homes {
            if store.due().is_done(partition, home) {
                continue;
            }
            let found = store.reconcile(partition, home, wanted)?;
            for change in &found.changes {
                tracing::info!(event = "adopted_first", what = change.what, action = change.action);
            }
            if !found.is_deferred {
                store.due().done(partition, home);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> BTreeSet<String> {
        ["far".to_owned()].into()
    }

    #[test]
    fn an_adoption_begins_again_when_a_partition_is_there() {
        let mut awaited = Awaited::default();
        let now = Duration::from_secs(100);
        assert!(!awaited.is_over(now, |_| true), "nothing is waited for");
        awaited.ended(now, away(), false);
        assert!(!awaited.is_over(now * 100, |_| false) && !awaited.is_over(now, |name| name == "near"));
        assert!(awaited.is_over(now, |name| name == "far"));
        awaited.begins();
        assert!(!awaited.is_over(now * 100, |_| true), "it is at work");
        awaited.ended(now, BTreeSet::new(), false);
        assert!(!awaited.is_over(now * 100, |_| true), "it is finished, or needs somebody");
    }

    // row 111: a partition that has come back by the time the adoption ends leaves nothing by whose return it could be known
    #[test]
    fn an_adoption_begins_again_when_something_was_in_the_way() {
        let mut awaited = Awaited::default();
        let mut now = Duration::from_secs(100);
        for pause in [PAUSE, PAUSE * 2, PAUSE * 4] {
            awaited.ended(now, BTreeSet::new(), true);
            assert!(!awaited.is_over(now + pause - Duration::from_millis(1), |_| true));
            now += pause;
            assert!(awaited.is_over(now, |_| false));
            awaited.begins();
        }
        // Its return counts, but not each time when it comes and goes.
        awaited.ended(now, away(), true);
        assert!(!awaited.is_over(now, |_| true) && awaited.is_over(now + PAUSE, |_| true));
        assert!(!awaited.is_over(now + PAUSE, |_| false));
        for _ in 0..100 {
            awaited.ended(now, BTreeSet::new(), true);
        }
        assert!(awaited.is_over(now + Duration::from_secs(6000), |_| false));
        awaited.ended(now, away(), false);
        assert!(awaited.is_over(now, |_| true), "one that went in order");
    }
}
