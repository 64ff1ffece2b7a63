//! Mailbox by mailbox: index, manifest and files brought to agree.

use super::{Done, Scope, lock};
use crate::error::{Result, StoreError};
use crate::jobs::registry::Context;
use crate::model::rows::{MailboxRow, Row};
use crate::model::{Folder, Rows, Table};
use crate::partition::survey::Depth;
use crate::store::adopt::Changed;
use crate::store::{Examined, Fate, Finding, Order, Repair, Store, Traces};
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, ControlFlow};
use std::sync::{Mutex, PoisonError};

/// Mailboxes of one home that a thread looks at before it takes others: their mirrors are read together.
const AT_ONCE: usize = 64;

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
struct Shared {
    left: VecDeque<Group>,
    looked: u64,
    done: Done,
    failed: Option<StoreError>,
}

/// Has every mailbox that is meant looked at and repaired, as `repair` says: index, manifest and files brought to agree.
///
/// # Errors
/// [`StoreError::Busy`] if it was ended early; those of the store.
pub fn indexes(store: &Store, scope: &Scope, repair: Repair, ctx: &Context) -> Result<Done> {
    let left = groups(store, scope)?;
    let total = left.iter().map(|(_, ids)| ids.len() as u64).sum();
    let traces = Traces::of(left.iter().flat_map(|(_, ids)| ids.iter().copied()));
    let shared = Mutex::new(Shared { left, looked: 0, done: Done::default(), failed: None });
    let work = || {
        loop {
            let next = {
                let mut shared = lock(&shared);
                if shared.failed.is_some() { None } else { shared.left.pop_front() }
            };
            let Some((of, ids)) = next else { return };
            let ended = |_| ended(ctx);
            let order = Order { depth: Depth::Lengths, repair, pace: &ended, traces: Some(&traces) };
            let done = store.examine_home(&of, &ids, &order, &mut |id, examined| {
                let finished = examined.and_then(|examined| finish(store, scope, examined, repair, ctx));
                let mut shared = lock(&shared);
                shared.looked += 1;
                ctx.progress(shared.looked, Some(total), "mailboxes", "");
                match finished {
                    Ok(examined) => one(&mut shared.done, examined, repair),
                    Err(e @ StoreError::Poisoned { .. }) => return Err(e),
                    Err(e) => shared.done.finding(Finding {
                        r#where: format!("mailbox {id}"),
                        what: "not looked at".to_owned(),
                        expected: "a readable mailbox".to_owned(),
                        found: e.to_string(),
                    }),
                }
                Ok(())
            });
            if let Err(e) = done {
                lock(&shared).failed.get_or_insert(e);
            }
        }
    };
    std::thread::scope(|threads| (0..scope.jobs.max(1)).for_each(|_| drop(threads.spawn(work))));
    let Shared { done, failed, .. } = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(done), Err)
}

/// An error if the job is to end.
fn ended(ctx: &Context) -> Result<()> {
    match ctx.is_cancelled() {
        true => Err(StoreError::Busy { why: "ended early".to_owned() }),
        false => Ok(()),
    }
}

/// Looks at one mailbox; bytes that are gone are looked for everywhere.
pub(super) fn repaired(
    store: &Store,
    scope: &Scope,
    id: u64,
    repair: Repair,
    ctx: &Context,
) -> Result<Option<Examined>> {
    let ended = |_| ended(ctx);
    let order = Order { depth: Depth::Lengths, repair, pace: &ended, traces: None };
    let examined = store.examine(id, &order)?;
    finish(store, scope, examined, repair, ctx)
}

/// What a look at one mailbox leaves to do: bytes that are gone are looked for everywhere, and what was shown elsewhere goes.
fn finish(
    store: &Store,
    scope: &Scope,
    examined: Option<Examined>,
    repair: Repair,
    ctx: &Context,
) -> Result<Option<Examined>> {
    let Some(mut examined) = examined else { return Ok(None) };
    if !examined.sick.is_empty() {
        let sick = std::mem::take(&mut examined.sick);
        let healed = store.heal(&sick, repair > Repair::Nothing, scope.archive.as_deref(), &|_| ended(ctx))?;
        sick.iter().zip(healed).for_each(|(sick, healed)| examined.healed(sick, healed));
    }
    if repair > Repair::Nothing {
        store.settle(&examined.leftovers)?;
    }
    Ok(Some(examined))
}

pub(super) fn one(done: &mut Done, examined: Option<Examined>, repair: Repair) {
    let Some(examined) = examined else { return };
    done.checked += 1;
    for action in examined.changes {
        done.change(Changed { what: examined.mailbox.clone(), action });
    }
    for f in examined.findings {
        match f.fate {
            Fate::Mended => {}
            // What a run would do that may.
            Fate::Mendable if repair == Repair::Nothing => {
                let action = format!("{}: {}, expected {}", f.what, f.found, f.expected);
                done.change(Changed { what: examined.mailbox.clone(), action });
            }
            _ => {
                let (what, expected, found) = (f.what.to_owned(), f.expected, f.found);
                done.finding(Finding { r#where: f.place, what, expected, found });
            }
        }
    }
}
