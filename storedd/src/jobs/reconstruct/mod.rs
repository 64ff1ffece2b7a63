//! Reconstruct as a job: every home of the partitions, by several threads, one home each.
//!
//! It may be ended between two homes and begun again; what was done stays done, and the end is the same.

mod indexes;
mod strays;

pub use indexes::indexes;

use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::jobs::registry::Context;
use crate::model::name::{key_text, owner_of, user_prefix};
use crate::model::pattern::Pattern;
use crate::model::rows::{MailboxRow, Row, UserView};
use crate::model::{Rows, Table};
use crate::partition::tree::Home;
use crate::store::adopt::{Changed, Reconciled, Wanted};
use crate::store::{Finding, Repair, Store};
use indexes::one;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use strays::{give_inboxes, show};

/// Changes and findings that are kept one by one; the log of the daemon has all.
pub const KEPT: usize = 10_000;

/// What to look at, and how.
#[derive(Debug, Default)]
pub struct Scope {
    /// Only this partition.
    pub partition: Option<String>,
    /// Only this user.
    pub user: Option<String>,
    /// Only mailboxes that match one of them; empty: all.
    pub mailboxes: Vec<Pattern>,
    /// Only look.
    pub dry_run: bool,
    /// Threads; at least 1.
    pub jobs: usize,
    /// The log, with what an archive has of it: bytes that are gone are looked for there, too.
    pub archive: Option<Arc<dyn Disk>>,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Done {
    /// Mailboxes looked at.
    pub checked: u64,
    /// The first [`KEPT`].
    pub changes: Vec<Changed>,
    /// How many.
    pub changes_total: u64,
    /// The first [`KEPT`].
    pub findings: Vec<Finding>,
    /// How many.
    pub findings_total: u64,
    /// Partitions that were not there, so that nothing of them was looked at.
    pub away: BTreeSet<String>,
    /// Homes that could not be looked at.
    pub failed: u64,
    /// Some of them because of something that may pass by itself: a partition that came and went, a disk that did not read.
    pub is_hindered: bool,
    held: Held,
}

/// Findings about mailboxes whose indexes are still to be looked at, which tells again what is still so.
#[derive(Debug, Default)]
struct Held {
    /// The first [`KEPT`].
    findings: Vec<(u64, Finding)>,
    /// How many further ones there are of each mailbox.
    more: BTreeMap<u64, u64>,
}

impl Done {
    /// Adds a change, and says it in the log.
    pub fn change(&mut self, change: Changed) {
        tracing::info!(event = "reconstructed", what = change.what, action = change.action);
        self.changes_total += 1;
        if self.changes.len() < KEPT {
            self.changes.push(change);
        }
    }

    /// Adds a finding, and says it in the log.
    pub fn finding(&mut self, finding: Finding) {
        let Finding { r#where, what, expected, found } = &finding;
        tracing::warn!(event = "not_proven", place = r#where, what, expected, found);
        self.findings_total += 1;
        if self.findings.len() < KEPT {
            self.findings.push(finding);
        }
    }

    /// Keeps a finding back, until the indexes of its mailbox were looked at.
    fn hold(&mut self, mailbox: u64, finding: Finding) {
        match self.held.findings.len() < KEPT {
            true => self.held.findings.push((mailbox, finding)),
            false => *self.held.more.entry(mailbox).or_default() += 1,
        }
    }

    /// The mailboxes of which findings are kept back.
    fn held(&self) -> BTreeSet<u64> {
        self.held.findings.iter().map(|(mailbox, _)| *mailbox).chain(self.held.more.keys().copied()).collect()
    }

    /// Findings that were kept back of mailboxes at whose indexes nobody has looked.
    fn tell_held(&mut self, looked_at: &BTreeSet<u64>) {
        let Held { findings, more } = std::mem::take(&mut self.held);
        let others = findings.into_iter().filter(|(mailbox, _)| !looked_at.contains(mailbox));
        others.for_each(|(_, finding)| self.finding(finding));
        self.findings_total += more.iter().filter(|(id, _)| !looked_at.contains(id)).map(|(_, n)| n).sum::<u64>();
    }

    /// True if everything that was to be looked at was.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.away.is_empty() && self.failed == 0
    }

    fn add(&mut self, home: Reconciled) {
        self.checked += home.checked;
        home.changes.into_iter().for_each(|change| self.change(change));
        for (n, finding) in home.findings.into_iter().enumerate() {
            match home.retold.get(&n) {
                Some(mailbox) => self.hold(*mailbox, finding),
                None => self.finding(finding),
            }
        }
    }
}

impl Scope {
    /// True if nothing is left out.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.partition.is_none() && self.user.is_none() && self.mailboxes.is_empty()
    }

    /// Whether a mailbox with this key is meant.
    #[must_use]
    pub fn means(&self, key: &[u8]) -> bool {
        self.user.as_deref().is_none_or(|user| owner_of(key) == Some(user))
            && (self.mailboxes.is_empty() || self.mailboxes.iter().any(|pattern| pattern.matches(key)))
    }

    /// The homes to look at, of one partition.
    fn homes(&self, store: &Store, partition: &str) -> Result<Vec<Home>> {
        let owners: BTreeSet<Option<&str>> = self.mailboxes.iter().map(owner_meant).collect();
        let users: Vec<&str> = match &self.user {
            Some(user) => vec![user],
            None if !owners.is_empty() && owners.iter().all(Option::is_some) => owners.into_iter().flatten().collect(),
            None => return store.homes(partition),
        };
        let mut homes = Vec::new();
        for user in users {
            homes.extend(homes_of(store, partition, user)?);
        }
        Ok(homes)
    }
}

/// The one user whose mailboxes a pattern can mean; `None`: more than one, or shared ones.
fn owner_meant(pattern: &Pattern) -> Option<&str> {
    let prefix = pattern.literal().unwrap_or_else(|| pattern.key_prefix());
    let user = owner_of(prefix)?;
    // `user/jo*` means more users than one.
    let whole = pattern.literal().is_some() || prefix.len() > user_prefix(user).len() - 1;
    whole.then_some(user)
}

/// The homes on a partition in which mail of a user may lie: that of his row, and those of his name.
///
/// # Errors
/// Those of database and disk.
pub fn homes_of(store: &Store, partition: &str, user: &str) -> Result<Vec<Home>> {
    let row = store.view().get(Table::Users, user.as_bytes())?;
    let mut homes = store.homes_named(partition, user)?;
    if store.due().is_due() {
        let lodges = store.lodges(user)?.unwrap_or_default().into_iter();
        homes.extend(lodges.filter(|(at, _)| at == partition).map(|(_, home)| home));
    }
    if let Some(row) = row {
        let row = UserView::decode(user.as_bytes(), &row)?;
        homes.extend(Home::parse(row.directory).filter(|_| row.partition == partition));
    }
    homes.sort();
    homes.dedup();
    Ok(homes)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Homes under way.
struct Queue {
    left: VecDeque<(String, Home)>,
    /// Those that wait for others to be done first.
    deferred: Vec<(String, Home)>,
    done: Done,
    looked: u64,
    failed: Option<StoreError>,
}

/// Brings database and partitions to agree, as far as `scope` says.
///
/// # Errors
/// [`StoreError::Busy`] if it was ended early; those of the disks and of the store.
pub fn run(store: &Store, scope: &Scope, ctx: &Context) -> Result<Done> {
    let mut done = database(store, scope, ctx)?;
    done.tell_held(&BTreeSet::new());
    Ok(done)
}

/// [`run`], and then [`indexes`]. What the one finds missing and the other puts back is no finding.
///
/// # Errors
/// As theirs.
pub fn run_with_indexes(store: &Store, scope: &Scope, repair: Repair, ctx: &Context) -> Result<Done> {
    let done = database(store, scope, ctx)?;
    indexes::behind(store, scope, repair, ctx, done)
}

fn database(store: &Store, scope: &Scope, ctx: &Context) -> Result<Done> {
    let mut left = VecDeque::new();
    let mut done = Done::default();
    let wanted_partition = |name: &str| scope.partition.as_deref().is_none_or(|wanted| wanted == name);
    for (name, _) in store.partitions().list().into_iter().filter(|(name, _)| wanted_partition(name)) {
        let registered = if scope.dry_run { Ok(()) } else { store.check_registered(&name) };
        match registered.and_then(|()| scope.homes(store, &name)) {
            Ok(homes) => left.extend(homes.into_iter().map(|home| (name.clone(), home))),
            Err(StoreError::Busy { why }) => {
                done.finding(Finding {
                    r#where: format!("partition {name}"),
                    what: "not looked at".to_owned(),
                    expected: "a partition that is there".to_owned(),
                    found: why,
                });
                done.away.insert(name);
            }
            Err(e) => return Err(e),
        }
    }
    let total = left.len() as u64;
    let queue = Mutex::new(Queue { left, deferred: Vec::new(), done, looked: 0, failed: None });
    for _ in 0..2 {
        std::thread::scope(|threads| {
            for _ in 0..scope.jobs.max(1) {
                threads.spawn(|| work(store, scope, ctx, &queue, total));
            }
        });
        let mut queue = lock(&queue);
        if let Some(e) = queue.failed.take() {
            return Err(e);
        }
        // Those to whom their mailboxes belong are there by now.
        queue.left = std::mem::take(&mut queue.deferred).into();
    }
    let Queue { mut done, left, .. } = queue.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (partition, home) in left {
        done.finding(Finding {
            r#where: format!("{partition}: {home}"),
            what: "mailboxes of a user who is nowhere".to_owned(),
            expected: "his manifest".to_owned(),
            found: "none".to_owned(),
        });
    }
    if !scope.dry_run && scope.partition.is_none() && done.changes_total > 0 && done.is_complete() {
        give_inboxes(store, scope, &mut done)?;
    }
    Ok(done)
}

fn work(store: &Store, scope: &Scope, ctx: &Context, queue: &Mutex<Queue>, total: u64) {
    let (dry_run, users) = (scope.dry_run, scope.mailboxes.is_empty());
    let wanted = Wanted { dry_run, mailboxes: &|key| scope.means(key), users, is_up_to_date: false };
    loop {
        let (partition, home) = {
            let mut queue = lock(queue);
            if queue.failed.is_some() {
                return;
            }
            let Some(next) = queue.left.pop_front() else { return };
            queue.looked += 1;
            ctx.progress(queue.looked.min(total), Some(total), "homes", next.1.path());
            next
        };
        if ctx.cancelled() {
            lock(queue).failed.get_or_insert(StoreError::Busy { why: "ended early".to_owned() });
            return;
        }
        let mut result = store.reconcile(&partition, &home, wanted);
        if let Ok(found) = &mut result
            && !found.older.is_empty()
        {
            let older = std::mem::take(&mut found.older);
            result = indexes::bring_up_to_date(store, scope, (&partition, &home), (wanted, older), ctx);
        }
        let shown = match &mut result {
            Ok(found) if !scope.dry_run => {
                let (shown, mended) = show(store, scope, &found.strangers, ctx);
                found.mended(&mended);
                shown
            }
            _ => Vec::new(),
        };
        let mut queue = lock(queue);
        shown.into_iter().for_each(|examined| one(&mut queue.done, examined, Repair::Recover));
        match result {
            Ok(found) => {
                if found.is_deferred {
                    queue.deferred.push((partition, home));
                } else if !scope.dry_run && scope.mailboxes.is_empty() {
                    store.due().done(&partition, &home);
                }
                queue.done.add(found);
            }
            // Damage of one home, or a partition that went away, stops no other.
            Err(
                e @ (StoreError::Corrupt { .. }
                | StoreError::Foreign { .. }
                | StoreError::Io { .. }
                | StoreError::Busy { .. }),
            ) => {
                if store.partitions().disk(&partition).is_none() {
                    queue.done.away.insert(partition.clone());
                }
                queue.done.failed += 1;
                queue.done.is_hindered |= matches!(e, StoreError::Io { .. } | StoreError::Busy { .. });
                let r#where = format!("{partition}: {home}");
                let (what, expected) = ("not looked at".to_owned(), "a readable home".to_owned());
                queue.done.finding(Finding { r#where, what, expected, found: e.to_string() });
            }
            Err(e) => {
                queue.failed.get_or_insert(e);
            }
        }
    }
}

/// The mailboxes that are meant, and where they lie.
///
/// # Errors
/// If the database cannot be read.
pub fn list(store: &Store, scope: &Scope) -> Result<Done> {
    let (view, mut done) = (store.view(), Done::default());
    let mut failed = Ok(());
    view.scan(Table::Mailboxes, Bound::Unbounded, &mut |key, row| {
        if !scope.means(key) {
            return ControlFlow::Continue(());
        }
        let line = MailboxRow::decode(key, row).and_then(|row| {
            let of = store.folder(&view, key, &row)?;
            Ok((row.partition.clone(), format!("{}/{}", of.home, of.mailbox)))
        });
        match line {
            Ok((partition, path)) => {
                if scope.partition.as_deref().is_none_or(|wanted| wanted == partition) {
                    done.checked += 1;
                    if done.changes.len() < KEPT {
                        done.changes.push(Changed { what: key_text(key), action: format!("in {partition}/{path}") });
                    }
                }
                ControlFlow::Continue(())
            }
            Err(e) => {
                failed = Err(e);
                ControlFlow::Break(())
            }
        }
    })?;
    done.changes_total = done.checked;
    failed.map(|()| done)
}
