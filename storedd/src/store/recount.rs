//! The sum of a large quota root, counted beside the commits.
//!
//! # Purpose
//! A root may cover a million mailboxes (`shared`, above all). Counted by the planner it would make everybody wait for
//! seconds; so the planner counts a few itself ([`AT_ONCE`]) and asks for the rest to be counted first.
//!
//! # Operation
//! Under the planner's lock the root is *followed*: from then on the planner adds up what each transaction changes
//! in it. Then a view is taken that shows everything planned up to there, and its mailboxes are counted, which stops
//! nobody. What the root holds at any moment after that is what was counted, and what came since the view.
//!
//! # Invariants
//! * Of the changes behind the view each is added once; of those that the view shows, none.
//! * If a root begins or ends below the one that is followed, what counts in it is not known any more, and it is counted again.
//! * One root is counted at a time, and followed for no longer than its command takes.

use super::commit::lock;
use super::view::View;
use super::{Phase, Store};
use crate::error::Result;
use crate::lsn::Lsn;
use crate::model::quota::{Usage, covers, roots_above, usage_of};
use crate::model::rows::MailboxView;
use crate::model::{Change, Rows, Table};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// So many mailboxes are counted under the planner's lock: some milliseconds.
pub(super) const AT_ONCE: usize = if cfg!(test) { 8 } else { 10_000 };
/// Between two looks at whether a group was synced.
const STEP: Duration = Duration::from_millis(1);

/// By how much what a root holds has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Delta {
    bytes: i128,
    messages: i128,
}

impl Delta {
    fn add(&mut self, other: Delta) {
        self.bytes += other.bytes;
        self.messages += other.messages;
    }

    fn between(from: Usage, to: Usage) -> Delta {
        let less = |to: u64, from: u64| i128::from(to) - i128::from(from);
        Delta { bytes: less(to.bytes, from.bytes), messages: less(to.messages, from.messages) }
    }

    fn on(self, usage: Usage) -> Usage {
        let sum = |by: i128, to: u64| u64::try_from((i128::from(to) + by).max(0)).unwrap_or(u64::MAX);
        Usage { bytes: sum(self.bytes, usage.bytes), messages: sum(self.messages, usage.messages) }
    }
}

/// What is added up of the transactions since a root is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Since {
    /// As long as it is not known what the view will show: each with its LSN.
    Each(Vec<(Lsn, Delta)>),
    /// The view is taken: everything behind it.
    Sum(Delta),
    /// It is not known any more.
    Lost,
}

/// A root that is followed.
#[derive(Debug)]
pub(super) struct Recount {
    root: Vec<u8>,
    since: Since,
    /// What the view has, when that is counted.
    counted: Option<Usage>,
}

impl Recount {
    fn of(root: &[u8]) -> Recount {
        Recount { root: root.to_vec(), since: Since::Each(Vec::new()), counted: None }
    }

    /// What the root holds now; `None` if it was not counted, or that is not known any more.
    pub(super) fn usage(&self, root: &[u8]) -> Option<Usage> {
        match &self.since {
            Since::Sum(delta) if self.root == root => self.counted.map(|counted| delta.on(counted)),
            _ => None,
        }
    }

    /// Takes over what a planned transaction does; `before` is as it was.
    pub(super) fn follow(&mut self, changes: &[Change<'_>], before: &dyn Rows, lsn: Lsn) {
        if let Err(e) = self.add_up(changes, before, lsn) {
            tracing::debug!(event = "recount_lost", error = %e);
            self.since = Since::Lost;
        }
    }

    fn add_up(&mut self, changes: &[Change<'_>], before: &dyn Rows, lsn: Lsn) -> Result<()> {
        for change in changes {
            let (table, key, row) = match change {
                Change::Put { table, key, row } => (*table, key.as_ref(), Some(row.as_ref())),
                Change::Remove { table, key } => (*table, key.as_ref(), None),
                Change::Message { .. } => continue,
            };
            if !covers(&self.root, key) {
                continue;
            }
            match table {
                Table::Quotas if key != self.root && before.contains(table, key)? != row.is_some() => {
                    self.since = Since::Lost;
                }
                Table::Mailboxes if self.counts(key, before)? => {
                    let usage = |row: Option<&[u8]>| match row {
                        Some(row) => MailboxView::decode(key, row).map(|row| row.usage()),
                        None => Ok(Usage::default()),
                    };
                    let was = before.get(table, key)?;
                    self.add(lsn, Delta::between(usage(was.as_deref())?, usage(row)?));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// True if no root between has the mailbox.
    fn counts(&self, mailbox: &[u8], rows: &dyn Rows) -> Result<bool> {
        for above in roots_above(mailbox).take_while(|above| *above != self.root) {
            if rows.contains(Table::Quotas, above)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn add(&mut self, lsn: Lsn, delta: Delta) {
        match &mut self.since {
            _ if delta == Delta::default() => {}
            Since::Each(each) => each.push((lsn, delta)),
            Since::Sum(sum) => sum.add(delta),
            Since::Lost => {}
        }
    }

    /// The view that is counted shows everything up to `at`.
    fn is_counted_from(&mut self, at: Lsn) {
        if let Since::Each(each) = &self.since {
            let mut sum = Delta::default();
            each.iter().filter(|(lsn, _)| *lsn > at).for_each(|(_, delta)| sum.add(*delta));
            self.since = Since::Sum(sum);
        }
    }
}

/// As long as it lives the root is followed.
pub(super) struct Followed<'a>(&'a Store);

impl Drop for Followed<'_> {
    fn drop(&mut self) {
        lock(&self.0.planner).recount = None;
    }
}

impl Store {
    /// Counts what a root holds, beside everything, so that the planner knows it as long as what this gives lives. The
    /// caller holds [`Store::counting`].
    ///
    /// # Errors
    /// Those of the view; the store failed meanwhile.
    pub(super) fn count_aside(&self, root: &[u8]) -> Result<Followed<'_>> {
        let planned = {
            let mut planner = lock(&self.planner);
            planner.recount = Some(Recount::of(root));
            planner.last_lsn()
        };
        let followed = Followed(self);
        let view = self.view_from(planned)?;
        let recount = |change: &dyn Fn(&mut Recount)| lock(&self.planner).recount.iter_mut().for_each(change);
        recount(&|recount| recount.is_counted_from(view.lsn()));
        let usage = usage_of(&view, root, usize::MAX)?;
        recount(&|recount| recount.counted = usage);
        Ok(followed)
    }

    /// A view that shows everything up to `planned`, which is waited for.
    fn view_from(&self, planned: Lsn) -> Result<View> {
        while Lsn(self.published.load(Ordering::Acquire)) < planned {
            self.poison_if_a_leader_died();
            if self.phase() == Phase::Poisoned {
                return Err(self.poison_error());
            }
            std::thread::sleep(STEP);
        }
        Ok(self.view())
    }
}
