//! How many users and mailboxes there are at this moment: what everybody who looks at a store wants to know first, so it
//! costs nobody a scan.
//!
//! The planner says with each transaction how it changes the two numbers. What they were at the start is counted once,
//! beside the work: the database knows its rows, and for each row that the replay brought it is looked up whether the
//! database has it.

use super::view::Base;
use crate::error::Result;
use crate::lsn::Lsn;
use crate::model::Table;
use std::ops::Bound;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

/// Users and mailboxes, or how many more (or fewer) there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Users.
    pub users: i64,
    /// Mailboxes.
    pub mailboxes: i64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, by: Counts) {
        self.users += by.users;
        self.mailboxes += by.mailboxes;
    }
}

/// See the page.
#[derive(Debug, Default)]
pub(super) struct Counter {
    at_start: OnceLock<Counts>,
    users: AtomicI64,
    mailboxes: AtomicI64,
}

impl Counter {
    /// Transactions are durable and about to be visible.
    pub(super) fn add(&self, by: Counts) {
        self.users.fetch_add(by.users, Ordering::Relaxed);
        self.mailboxes.fetch_add(by.mailboxes, Ordering::Relaxed);
    }

    /// The numbers now; `None` until they were counted.
    pub(super) fn now(&self) -> Option<Counts> {
        self.at_start.get().map(|start| Counts {
            users: start.users + self.users.load(Ordering::Relaxed),
            mailboxes: start.mailboxes + self.mailboxes.load(Ordering::Relaxed),
        })
    }

    /// Counts what there was at the start, which had reached LSN `reached`; nothing if `base` is no longer that of the
    /// start, because an earlier attempt failed: then the numbers stay unknown, which is better than wrong.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub(super) fn learn(&self, base: &Base, reached: Lsn) -> Result<()> {
        let of_the_start = base.frozen.is_none() && base.db.meta().applied_lsn <= reached;
        if of_the_start && self.at_start.get().is_none() {
            let start = Counts {
                users: rows_at(base, Table::Users, reached)?,
                mailboxes: rows_at(base, Table::Mailboxes, reached)?,
            };
            let _ = self.at_start.set(start);
        }
        Ok(())
    }
}

fn rows_at(base: &Base, table: Table, at: Lsn) -> Result<i64> {
    let mut rows = i64::try_from(base.db.meta().table(table).rows).unwrap_or(i64::MAX);
    let mut replayed = base.active.range(table, Bound::Unbounded, at);
    while let Some((there, key)) = replayed.with_current(|key, row| (row.is_some(), key.to_vec())) {
        rows += i64::from(there) - i64::from(base.database_contains(table, &key)?);
        replayed.advance();
    }
    Ok(rows)
}
