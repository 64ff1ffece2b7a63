//! Mailbox by mailbox: index, manifest and files brought to agree.

use super::{Done, Scope, lock};
use crate::error::{Result, StoreError};
use crate::jobs::registry::Context;
use crate::model::rows::{MailboxRow, Row};
use crate::model::{Folder, Rows, Table};
use crate::partition::survey::Depth;
use crate::partition::tree::Home;
use crate::store::adopt::{Changed, Reconciled, Wanted};
use crate::store::{
    Examined, Fate, Finding, Healed, Leftover, MailFinding, Order, READERS, Repair, Sick, Store, Traces,
};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{Bound, ControlFlow};
use std::sync::{Mutex, PoisonError};

/// Mailboxes of one home that a thread looks at before it takes others: their mirrors are read together.
const AT_ONCE: usize = 64;
/// Damaged messages for which everything is searched at once.
const SICK_AT_ONCE: usize = 10_000;
/// Files that wait for the checkpoint that has them moved.
const LEFTOVERS_AT_ONCE: usize = 10_000;

/// Mailboxes of one home.
type Group = (Folder<'static>, Vec<u64>);

/// The mailboxes that are meant, by where they lie.
fn groups(store: &Store, scope: &Scope) -> Result<VecDeque<Group>> {
    let (view, mut homes) = (store.view(), BTreeMap::<(String, String), Vec<u64>>::new());
    let mut failed = Ok(());
    view.scan(Table::Mailboxes, Bound::Unbounded, &mut |key, row| {
        if !scope.means(key) {
            return ControlFlow::Continue(());
        }
        let at = MailboxRow::decode(key, row).and_then(|row| store.folder(&view, key, &row));
        match at {
            Ok(of) if scope.partition.as_deref().is_none_or(|wanted| wanted == of.partition) => {
                homes.entry((of.partition.into_owned(), of.home.into_owned())).or_default().push(of.mailbox);
                ControlFlow::Continue(())
            }
            Ok(_) => ControlFlow::Continue(()),
            Err(e) => {
                failed = Err(e);
                ControlFlow::Break(())
            }
        }
    })?;
    failed?;
    let mut groups = VecDeque::new();
    for ((partition, home), ids) in homes {
        let of = Folder { partition: Cow::Owned(partition), home: Cow::Owned(home), mailbox: 0 };
        groups.extend(ids.chunks(AT_ONCE).map(|ids| (of.clone(), ids.to_vec())));
    }
    Ok(groups)
}

/// What several threads share.
#[derive(Default)]
struct Shared {
    left: VecDeque<Group>,
    looked: u64,
    done: Done,
    /// Mailboxes of which findings were kept back until now.
    looked_at: BTreeSet<u64>,
    failed: Option<StoreError>,
    waiting: Waiting,
}

/// What is done for many mailboxes at once, because it takes a pass over the log, or a checkpoint.
#[derive(Default)]
struct Waiting {
    /// Messages without good bytes near by, each with the finding that tells of it.
    sick: Vec<(Sick, MailFinding)>,
    /// Files that are shown elsewhere by now.
    leftovers: Vec<Leftover>,
}

impl Waiting {
    fn is_much(&self) -> bool {
        self.sick.len() >= SICK_AT_ONCE || self.leftovers.len() >= LEFTOVERS_AT_ONCE
    }
}

/// Has every mailbox that is meant looked at and repaired, as `repair` says: index, manifest and files brought to agree.
///
/// # Errors
/// [`StoreError::Busy`] if it was ended early; those of the store.
pub fn indexes(store: &Store, scope: &Scope, repair: Repair, ctx: &Context) -> Result<Done> {
    behind(store, scope, repair, ctx, Done::default())
}

/// The same, behind what was done before.
pub(super) fn behind(store: &Store, scope: &Scope, repair: Repair, ctx: &Context, mut before: Done) -> Result<Done> {
    let left = groups(store, scope)?;
    let checked = std::mem::take(&mut before.checked);
    let total = left.iter().map(|(_, ids)| ids.len() as u64).sum();
    let traces = Traces::of(left.iter().flat_map(|(_, ids)| ids.iter().copied()));
    let held: BTreeSet<u64> = before.held();
    let shared = Mutex::new(Shared { left, done: before, ..Shared::default() });
    let take = |id, examined: Result<Option<Examined>>| {
        let mut now = lock(&shared);
        now.looked += 1;
        ctx.progress(now.looked, Some(total), "mailboxes", "");
        match examined {
            Ok(None) => {}
            Ok(Some(mut examined)) => {
                if held.contains(&id) {
                    now.looked_at.insert(id);
                }
                now.waiting.sick.append(&mut examined.take_sick());
                now.waiting.leftovers.append(&mut examined.leftovers);
                one(&mut now.done, Some(examined), repair);
            }
            Err(e @ StoreError::Poisoned { .. }) => return Err(e),
            Err(e) => now.done.finding(Finding {
                r#where: format!("mailbox {id}"),
                what: "not looked at".to_owned(),
                expected: "a readable mailbox".to_owned(),
                found: e.to_string(),
            }),
        }
        let waiting = if now.waiting.is_much() { std::mem::take(&mut now.waiting) } else { Waiting::default() };
        drop(now);
        let healed = work_off(store, scope, repair, ctx, waiting)?;
        tell_healed(&mut lock(&shared).done, healed, repair);
        Ok(())
    };
    let work = || {
        loop {
            let next = {
                let mut shared = lock(&shared);
                if shared.failed.is_some() { None } else { shared.left.pop_front() }
            };
            let Some((of, ids)) = next else { return };
            let ended = |_| ended(ctx);
            let (depth, traces) = (Depth::Lengths, Some(&traces));
            let order = Order { depth, repair, pace: &ended, traces, readers: READERS, track: None };
            if let Err(e) = store.examine_home(&of, &ids, &order, &mut |id, examined| take(id, examined)) {
                lock(&shared).failed.get_or_insert(e);
            }
        }
    };
    std::thread::scope(|threads| (0..scope.jobs.max(1)).for_each(|_| drop(threads.spawn(work))));
    let Shared { mut done, looked_at, failed, waiting, .. } =
        shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(e) = failed {
        return Err(e);
    }
    tell_healed(&mut done, work_off(store, scope, repair, ctx, waiting)?, repair);
    done.tell_held(&looked_at);
    done.checked = done.checked.max(checked);
    Ok(done)
}

/// What became of a damaged message.
type Tried = (Sick, MailFinding, Healed);

/// Looks everywhere for bytes that are gone, and has what is shown elsewhere go.
fn work_off(
    store: &Store,
    scope: &Scope,
    repair: Repair,
    ctx: &Context,
    Waiting { sick, leftovers }: Waiting,
) -> Result<Vec<Tried>> {
    let (sick, findings): (Vec<Sick>, Vec<MailFinding>) = sick.into_iter().unzip();
    let healed = match sick.is_empty() {
        true => Vec::new(),
        false => store.heal(&sick, repair > Repair::Nothing, scope.archive.as_deref(), &|_| ended(ctx))?,
    };
    if repair > Repair::Nothing {
        store.settle(&leftovers)?;
    }
    Ok(sick.into_iter().zip(findings).zip(healed).map(|((sick, finding), healed)| (sick, finding, healed)).collect())
}

fn tell_healed(done: &mut Done, tried: Vec<Tried>, repair: Repair) {
    for (sick, mut finding, healed) in tried {
        if healed == Healed::Yes {
            done.change(Changed { what: sick.mailbox.clone(), action: sick.put_back() });
        }
        finding.fate = healed.fate();
        tell(done, &sick.mailbox, finding, repair);
    }
}

/// An error if the job is to end.
fn ended(ctx: &Context) -> Result<()> {
    match ctx.is_cancelled() {
        true => Err(StoreError::Busy { why: "ended early".to_owned() }),
        false => Ok(()),
    }
}

/// Looks at one mailbox; bytes that are gone are looked for everywhere, and what was shown elsewhere goes.
pub(super) fn repaired(
    store: &Store,
    scope: &Scope,
    id: u64,
    repair: Repair,
    traces: Option<&Traces>,
    ctx: &Context,
) -> Result<Option<Examined>> {
    let ended = |_| ended(ctx);
    let order = Order { depth: Depth::Lengths, repair, pace: &ended, traces, readers: READERS, track: None };
    let Some(mut examined) = store.examine(id, &order)? else { return Ok(None) };
    let waiting = Waiting { sick: examined.take_sick(), leftovers: std::mem::take(&mut examined.leftovers) };
    let tried = work_off(store, scope, repair, ctx, waiting)?;
    for (sick, finding, healed) in tried {
        if healed == Healed::Yes {
            examined.changes.push(sick.put_back());
        }
        examined.findings.push(MailFinding { fate: healed.fate(), ..finding });
    }
    Ok(Some(examined))
}

/// Brings the mailboxes of a home up to date that is of an older time than the database, and looks at it again.
pub(super) fn bring_up_to_date(
    store: &Store,
    scope: &Scope,
    (partition, home): (&str, &Home),
    (wanted, older): (Wanted<'_>, BTreeSet<u64>),
    ctx: &Context,
) -> Result<Reconciled> {
    let traces = Traces::of(older.iter().copied());
    let mut changes = Vec::new();
    for id in &older {
        let Some(examined) = repaired(store, scope, *id, Repair::Provable, Some(&traces), ctx)? else { continue };
        let what = examined.mailbox;
        changes.extend(examined.changes.into_iter().map(|action| Changed { what: what.clone(), action }));
    }
    store.settle_home(partition, home, &older, wanted)?;
    store.checkpoint()?;
    let mut found = store.reconcile(partition, home, Wanted { is_up_to_date: true, ..wanted })?;
    changes.append(&mut found.changes);
    found.changes = changes;
    Ok(found)
}

pub(super) fn one(done: &mut Done, examined: Option<Examined>, repair: Repair) {
    let Some(examined) = examined else { return };
    done.checked += 1;
    for action in examined.changes {
        done.change(Changed { what: examined.mailbox.clone(), action });
    }
    examined.findings.into_iter().for_each(|finding| tell(done, &examined.mailbox, finding, repair));
    for fate in examined.unlisted.into_values() {
        match fate {
            Fate::Mended => {}
            Fate::Mendable if repair == Repair::Nothing => done.changes_total += 1,
            _ => done.findings_total += 1,
        }
    }
}

fn tell(done: &mut Done, mailbox: &str, f: MailFinding, repair: Repair) {
    match f.fate {
        Fate::Mended => {}
        // What a run would do that may.
        Fate::Mendable if repair == Repair::Nothing => {
            let action = format!("{}: {}, expected {}", f.what, f.found, f.expected);
            done.change(Changed { what: mailbox.to_owned(), action });
        }
        _ => {
            let (what, expected, found) = (f.what.to_owned(), f.expected, f.found);
            done.finding(Finding { r#where: f.place, what, expected, found });
        }
    }
}
