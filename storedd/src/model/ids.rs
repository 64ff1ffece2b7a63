//! The table of ids: which row speaks of a mailbox whose number is known.
//!
//! # Purpose
//! Directories, leases, tombstones and what is found in a partition name a mailbox by its number. One lookup gives its name.
//!
//! # Rule
//! A mailbox that is there has the row `id -> its key`, one that was deleted `id -> the key of its tombstone`, a number that
//! neither has has none. So the table follows from two others, and log records leave it out: that of a new mailbox would
//! have 192 bytes instead of 137. The planner writes its rows where a mailbox takes or leaves a name; a replay, and the upgrade of a database
//! that has no such table, derive them here.
//!
//! # Invariants
//! * Applying the derived rows of a transaction after its own gives the rows that the planner wrote with it; twice is
//!   harmless (I5).

use super::change::Change;
use super::rows::{IdRow, Row, id_key, id_of, mailbox_id, split};
use super::table::Table;
use crate::error::Result;

/// The rows of one transaction after the other, told change by change.
#[derive(Debug, Default)]
pub struct Derived {
    /// Mailboxes that the transaction under way put.
    put: Vec<u64>,
}

/// Key of a row of the table of ids, and the row; `None`: it goes.
pub type Entry = (Vec<u8>, Option<Vec<u8>>);

impl Derived {
    /// A transaction begins.
    pub fn begin(&mut self) {
        self.put.clear();
    }

    /// What its next change, in order of table and key, says of a number; `None`: nothing.
    ///
    /// # Errors
    /// If the row of a mailbox cannot be decoded.
    pub fn follow(&mut self, change: &Change<'_>) -> Result<Option<Entry>> {
        match change {
            Change::Put { table: Table::Mailboxes, key, row } => {
                let id = mailbox_id(key, row)?;
                self.put.push(id);
                Ok(Some((id_key(id), Some(IdRow::of(key).encode()?))))
            }
            Change::Put { table: Table::Past, key, .. } => {
                let Some(id) = buried(key) else { return Ok(None) };
                Ok(Some((id_key(id), Some(IdRow::of(key).encode()?))))
            }
            // Its name: the mailbox took another one, or left a tombstone.
            Change::Remove { table: Table::Past, key } => {
                Ok(buried(key).filter(|id| !self.put.contains(id)).map(|id| (id_key(id), None)))
            }
            _ => Ok(None),
        }
    }
}

/// The row of the table of ids that a row of another one asks for: for a table that is made anew.
///
/// # Errors
/// If the row of a mailbox cannot be decoded.
pub fn of_row(table: Table, key: &[u8], row: &[u8]) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
    let change = Change::Put { table, key: key.into(), row: row.into() };
    Ok(Derived::default().follow(&change)?.and_then(|(id, row)| Some((id, row?))))
}

/// The mailbox whose tombstone has this key.
fn buried(key: &[u8]) -> Option<u64> {
    split(key).and_then(|(_, id)| id_of(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rows::tombstone_key;
    use std::borrow::Cow;

    fn follow(changes: &[Change<'_>]) -> Vec<Entry> {
        let mut derived = Derived { put: vec![1, 2, 3] };
        derived.begin();
        changes.iter().filter_map(|change| derived.follow(change).unwrap()).collect()
    }

    fn mailbox(key: &str, id: u8) -> Change<'static> {
        // A row begins with its version and the number; what follows is not looked at.
        Change::Put { table: Table::Mailboxes, key: Cow::Owned(key.into()), row: Cow::Owned(vec![1, id, 9, 9]) }
    }

    fn dug_up(key: &str, id: u64) -> Change<'static> {
        Change::Remove { table: Table::Past, key: Cow::Owned(tombstone_key(key.as_bytes(), id)) }
    }

    #[test]
    fn a_tombstone_that_goes_takes_its_number_along_unless_a_mailbox_has_it() {
        assert_eq!(follow(&[dug_up("user\x01joe", 7)]), [(id_key(7), None)]);
        let row = IdRow::of(b"user\x01joe\x01x").encode().unwrap();
        assert_eq!(follow(&[mailbox("user\x01joe\x01x", 7), dug_up("user\x01joe", 7)]), [(id_key(7), Some(row))]);
    }

    #[test]
    fn what_a_name_was_before_has_no_number() {
        let past = Change::Put { table: Table::Past, key: b"user\x01joe".as_slice().into(), row: vec![1, 5, 7].into() };
        let gone = Change::Remove { table: Table::Mailboxes, key: b"user\x01joe".as_slice().into() };
        assert_eq!(follow(&[gone, past]), []);
    }

    #[test]
    fn a_row_of_another_version_is_an_error() {
        let newer = Change::Put { table: Table::Mailboxes, key: b"k".as_slice().into(), row: vec![2, 7].into() };
        assert_eq!(Derived::default().follow(&newer).unwrap_err().code(), "foreign");
    }
}
