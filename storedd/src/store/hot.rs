//! What the planner reads again and again: the rows of users, and how many mailboxes each has, kept beside it.
//!
//! Nearly every command asks whether the owner of a name is there and where his mailboxes lie. The cache is part of the
//! planner's state: only its holder reads and changes it, and it shows what is planned, as the planner's view does.
//!
//! A user's mailboxes are counted when the number is first asked for, which is never where nothing limits it, and then kept:
//! the planner says with each transaction who got and lost how many. So the number is in memory alone, follows from the
//! rows, and a start has nothing to bring back; a command that is refused, or finds no room in the log, changes neither.
//!
//! It has two generations: what is used moves to the young one; when that is full it becomes the old one, and what
//! was not used meanwhile goes. So it holds between one and two times [`GENERATION`] users.

use super::plan::Come;
use super::recount::{AT_ONCE, Recount};
use super::view::View;
use crate::error::Result;
use crate::model::quota::Usage;
use crate::model::table::EachRow;
use crate::model::{Change, Rows, Table};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Bound;

/// Users of one generation; some 10 MiB.
const GENERATION: usize = 1 << 15;

/// What is known of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    /// `None`: there is no such user.
    row: Option<Box<[u8]>>,
    /// Number of his mailboxes; `None` until somebody asked.
    mailboxes: Option<u64>,
}

type Generation = HashMap<Box<[u8]>, Known>;

/// See the page.
#[derive(Debug, Default)]
pub(super) struct HotUsers {
    young: Generation,
    old: Generation,
}

impl HotUsers {
    fn find(&mut self, key: &[u8]) -> Option<&mut Known> {
        if !self.young.contains_key(key) {
            let (key, known) = self.old.remove_entry(key)?;
            self.put(key, known);
        }
        self.young.get_mut(key)
    }

    fn put(&mut self, key: Box<[u8]>, known: Known) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, known);
    }

    /// Takes over what a planned transaction does to users.
    pub(super) fn follow(&mut self, change: &Change<'_>) {
        let (table, key, row) = match change {
            Change::Put { table, key, row } => (*table, key, Some(Box::from(&row[..]))),
            Change::Remove { table, key } => (*table, key, None),
            Change::Message { .. } => return,
        };
        if table == Table::Users {
            match self.find(key) {
                Some(known) => known.row = row,
                None => self.put(Box::from(&key[..]), Known { row, mailboxes: None }),
            }
        }
    }

    /// Takes over by how much a planned transaction changes the numbers of mailboxes.
    pub(super) fn count(&mut self, come: &Come) {
        for (user, by) in come {
            if let Some(count) = self.find(user.as_bytes()).and_then(|known| known.mailboxes.as_mut()) {
                *count = count.saturating_add_signed(*by);
            }
        }
    }
}

/// The planner's view with its cache before it.
pub(super) struct Hot<'a> {
    pub(super) view: &'a View,
    pub(super) users: &'a RefCell<HotUsers>,
    /// The root that was counted for the command that is planned.
    pub(super) recount: Option<&'a Recount>,
}

impl Hot<'_> {
    fn user<R>(&self, key: &[u8], see: impl Fn(&mut Known) -> R) -> Result<R> {
        let mut users = self.users.borrow_mut();
        if let Some(known) = users.find(key) {
            return Ok(see(known));
        }
        let row = self.view.get(Table::Users, key)?;
        let mut known = Known { row: row.map(Into::into), mailboxes: None };
        let seen = see(&mut known);
        users.put(key.into(), known);
        Ok(seen)
    }
}

impl Rows for Hot<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match table {
            Table::Users => self.user(key, |known| known.row.as_deref().map(<[u8]>::to_vec)),
            _ => self.view.get(table, key),
        }
    }

    fn contains(&self, table: Table, key: &[u8]) -> Result<bool> {
        match table {
            Table::Users => self.user(key, |known| known.row.is_some()),
            _ => self.view.contains(table, key),
        }
    }

    fn scan(&self, table: Table, start: Bound<&[u8]>, each: EachRow<'_>) -> Result<()> {
        self.view.scan(table, start, each)
    }

    fn scan_until(&self, table: Table, start: Bound<&[u8]>, end: &[u8], each: EachRow<'_>) -> Result<()> {
        self.view.scan_until(table, start, end, each)
    }

    fn counted(&self, root: &[u8]) -> Option<Usage> {
        self.recount.and_then(|recount| recount.usage(root))
    }

    fn counts_at_once(&self) -> usize {
        AT_ONCE
    }

    fn indexed_upto(&self) -> crate::lsn::Lsn {
        self.view.indexed_upto()
    }

    fn mailboxes_of(&self, user: &str) -> Result<u64> {
        if let Some(count) = self.user(user.as_bytes(), |known| known.mailboxes)? {
            return Ok(count);
        }
        let count = self.view.mailboxes_of(user)?;
        self.user(user.as_bytes(), |known| known.mailboxes = Some(count))?;
        Ok(count)
    }

    fn has(&self, table: Table) -> bool {
        self.view.has(table)
    }

    fn may_lie_below(&self, mailbox: &[u8]) -> bool {
        self.view.may_lie_below(mailbox)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    #[test]
    fn used_rows_stay_and_changes_are_seen() {
        let mut users = HotUsers::default();
        let put = |n: usize| Change::Put {
            table: Table::Users,
            key: Cow::Owned(n.to_be_bytes().to_vec()),
            row: Cow::Owned(n.to_le_bytes().to_vec()),
        };
        for n in 0..GENERATION * 3 {
            users.follow(&put(n));
            assert!(users.find(&0usize.to_be_bytes()).is_some(), "used all the time");
        }
        assert!(users.find(&1usize.to_be_bytes()).is_none(), "not used since");
        assert!(users.young.len() + users.old.len() <= GENERATION * 2);
        // A change of a row that lies in the old generation hides it.
        let old = *users.old.keys().next().unwrap().first_chunk::<8>().unwrap();
        users.follow(&Change::Remove { table: Table::Users, key: Cow::Borrowed(&old) });
        assert_eq!(users.find(&old).unwrap().row, None);
        users.follow(&Change::Remove { table: Table::Quotas, key: Cow::Borrowed(&0usize.to_be_bytes()) });
        assert!(users.find(&0usize.to_be_bytes()).unwrap().row.is_some());
    }

    // row 117
    #[test]
    fn a_number_that_is_known_follows_and_none_is_made_up() {
        let mut users = HotUsers::default();
        let put = |user: &'static str, row: &'static [u8]| Change::Put {
            table: Table::Users,
            key: Cow::Borrowed(user.as_bytes()),
            row: Cow::Borrowed(row),
        };
        users.follow(&put("joe", b"1"));
        users.count(&Come::from([("joe".to_owned(), 1), ("ann".to_owned(), 1)]));
        assert_eq!(users.find(b"joe").unwrap().mailboxes, None, "nobody has counted");
        assert_eq!(users.find(b"ann"), None);
        users.find(b"joe").unwrap().mailboxes = Some(7);
        users.follow(&put("joe", b"2"));
        users.count(&Come::from([("joe".to_owned(), -3)]));
        assert_eq!(users.find(b"joe"), Some(&mut Known { row: Some(Box::from(*b"2")), mailboxes: Some(4) }));
        for n in 0..GENERATION * 2 {
            users.follow(&Change::Remove { table: Table::Users, key: Cow::Owned(n.to_be_bytes().to_vec()) });
        }
        assert_eq!(users.find(b"joe"), None, "not used for long");
    }
}
