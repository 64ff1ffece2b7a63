//! What the planner reads again and again: the rows of users, kept beside it.
//!
//! Nearly every command asks whether the owner of a name is there and where his mailboxes lie. The cache is part of the
//! planner's state: only its holder reads and changes it, and it shows what is planned, as the planner's view does.
//!
//! It has two generations: a row that is used moves to the young one; when that is full it becomes the old one, and what
//! was not used meanwhile goes. So it holds between one and two times [`GENERATION`] rows.

use super::view::View;
use crate::error::Result;
use crate::model::table::EachRow;
use crate::model::{Change, Rows, Table};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Bound;

/// Rows of one generation; some 10 MiB.
const GENERATION: usize = 1 << 15;

/// Row by user; `None`: there is no such user.
type Generation = HashMap<Box<[u8]>, Option<Box<[u8]>>>;

/// See the page.
#[derive(Debug, Default)]
pub(super) struct HotUsers {
    young: Generation,
    old: Generation,
}

impl HotUsers {
    fn find(&mut self, key: &[u8]) -> Option<&Option<Box<[u8]>>> {
        if !self.young.contains_key(key) {
            let (key, row) = self.old.remove_entry(key)?;
            self.put(key, row);
        }
        self.young.get(key)
    }

    fn put(&mut self, key: Box<[u8]>, row: Option<Box<[u8]>>) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, row);
    }

    /// Takes over what a planned transaction does to users.
    pub(super) fn follow(&mut self, change: &Change<'_>) {
        let (table, key, row) = match change {
            Change::Put { table, key, row } => (*table, key, Some(Box::from(&row[..]))),
            Change::Remove { table, key } => (*table, key, None),
        };
        if table == Table::Users {
            self.put(Box::from(&key[..]), row);
        }
    }
}

/// The planner's view with its cache before it.
pub(super) struct Hot<'a> {
    pub(super) view: &'a View,
    pub(super) users: &'a RefCell<HotUsers>,
}

impl Hot<'_> {
    fn user<R>(&self, key: &[u8], see: impl Fn(Option<&[u8]>) -> R) -> Result<R> {
        let mut users = self.users.borrow_mut();
        if let Some(row) = users.find(key) {
            return Ok(see(row.as_deref()));
        }
        let row = self.view.get(Table::Users, key)?;
        users.put(key.into(), row.as_deref().map(Into::into));
        Ok(see(row.as_deref()))
    }
}

impl Rows for Hot<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match table {
            Table::Users => self.user(key, |row| row.map(<[u8]>::to_vec)),
            _ => self.view.get(table, key),
        }
    }

    fn contains(&self, table: Table, key: &[u8]) -> Result<bool> {
        match table {
            Table::Users => self.user(key, |row| row.is_some()),
            _ => self.view.contains(table, key),
        }
    }

    fn scan(&self, table: Table, start: Bound<&[u8]>, each: EachRow<'_>) -> Result<()> {
        self.view.scan(table, start, each)
    }

    fn scan_until(&self, table: Table, start: Bound<&[u8]>, end: &[u8], each: EachRow<'_>) -> Result<()> {
        self.view.scan_until(table, start, end, each)
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
        assert_eq!(users.find(&old), Some(&None));
        users.follow(&Change::Remove { table: Table::Quotas, key: Cow::Borrowed(&0usize.to_be_bytes()) });
        assert!(users.find(&0usize.to_be_bytes()).unwrap().is_some());
    }
}
