//! The tables of the mboxlist database and the one way to read them.

use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::ops::{Bound, ControlFlow};

/// One table. The number stands in log records and in the overlay and is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Table {
    /// User id -> `UserRow`.
    Users = 1,
    /// Mailbox key (see `model::name`) -> `MailboxRow`.
    Mailboxes = 2,
    /// Mailbox key -> `PastRow`: what a name stood for before; keeps UIDVALIDITY from repeating (I6). Mailbox key, 0x02,
    /// mailbox id -> `TombstoneRow`: a deleted mailbox.
    Past = 3,
    /// Quota root (`user`, 0x01, user id; or a mailbox key) -> `QuotaRow`.
    Quotas = 4,
    /// User id, 0x02, mailbox key -> `SubscriptionRow`.
    Subscriptions = 5,
    /// Identifier, 0x02, mailbox key -> `RightsRow`: who may do what in which mailbox beside its owner.
    Rights = 6,
    /// Partition name -> `PartitionRow`.
    Partitions = 7,
    /// Mailbox id in 16 hexadecimal digits -> `IdRow`: which row speaks of the mailbox. Follows from the others, see
    /// [`super::ids`]: it stands in no log record.
    Ids = 8,
    /// User id, 0x02, mailbox id in 16 hexadecimal digits -> `SeenRow`: what a user has seen in a mailbox that is not his.
    Seen = 9,
    /// Mailbox id in 16 hexadecimal digits, 0x02, UID in 8 -> the state of a message ([`super::mail::MessageRow`]). Only in memory, as
    /// is its number: checkpoints write it to partitions, and log records hold it in a form of their own.
    Messages = 10,
    /// The same key -> where the bytes of a message are that has no file yet ([`super::mail::BodyRow`]). Only in memory.
    Bodies = 11,
}

impl Table {
    /// Every table of the database, in key order of the overlay and of a checkpoint.
    pub const ALL: [Table; 9] = [
        Table::Users,
        Table::Mailboxes,
        Table::Past,
        Table::Quotas,
        Table::Subscriptions,
        Table::Rights,
        Table::Partitions,
        Table::Ids,
        Table::Seen,
    ];

    /// Those, and behind them those that are only in memory.
    pub const IN_MEMORY: [Table; 11] = [
        Table::Users,
        Table::Mailboxes,
        Table::Past,
        Table::Quotas,
        Table::Subscriptions,
        Table::Rights,
        Table::Partitions,
        Table::Ids,
        Table::Seen,
        Table::Messages,
        Table::Bodies,
    ];

    /// Whether the database has it.
    #[must_use]
    pub fn is_stored(self) -> bool {
        !matches!(self, Table::Messages | Table::Bodies)
    }

    /// Whether log records hold its rows; those of the others follow from them.
    #[must_use]
    pub fn is_logged(self) -> bool {
        self.is_stored() && self != Table::Ids
    }

    /// The table of the database with this number.
    #[must_use]
    pub fn from_number(n: u8) -> Option<Table> {
        Table::ALL.into_iter().find(|t| *t as u8 == n)
    }

    /// Name as shown to people and used inside the database file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Table::Users => "users",
            Table::Mailboxes => "mailboxes",
            Table::Past => "past",
            Table::Quotas => "quotas",
            Table::Subscriptions => "subscriptions",
            Table::Rights => "rights",
            Table::Partitions => "partitions",
            Table::Ids => "ids",
            Table::Seen => "seen",
            Table::Messages => "messages",
            Table::Bodies => "bodies",
        }
    }
}

/// Longest key in bytes. Keys hold no zero byte.
pub const KEY_BYTES_MAX: usize = 2048;

/// What a scan calls with key and row; it goes on until this breaks.
pub type EachRow<'a> = &'a mut (dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a);

/// Rows as they are at one moment. Implemented by the store's views and by a plain map in tests.
pub trait Rows {
    /// The row stored under `key`.
    ///
    /// # Errors
    /// If the database cannot be read or the row is damaged.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Calls `each` with key and row, in key order, from `start` until it breaks or the table ends.
    ///
    /// # Errors
    /// As [`Rows::get`].
    fn scan(&self, table: Table, start: Bound<&[u8]>, each: EachRow<'_>) -> Result<()>;

    /// [`Rows::scan`] up to, and without, `end`. An implementation need not look behind it, be it at rows that are gone.
    ///
    /// # Errors
    /// As [`Rows::get`].
    fn scan_until(&self, table: Table, start: Bound<&[u8]>, end: &[u8], each: EachRow<'_>) -> Result<()> {
        self.scan(table, start, &mut |key, row| if key < end { each(key, row) } else { ControlFlow::Break(()) })
    }

    /// True if the row is there; cheaper than [`Rows::get`] where the implementation can answer without reading it.
    ///
    /// # Errors
    /// As [`Rows::get`].
    fn contains(&self, table: Table, key: &[u8]) -> Result<bool> {
        Ok(self.get(table, key)?.is_some())
    }

    /// Up to where the indexes of mailboxes speak, of which this shows the rest: the LSN of the last checkpoint.
    fn indexed_upto(&self) -> crate::lsn::Lsn {
        crate::lsn::Lsn::ZERO
    }

    /// False if the implementation has no such table: that of a database of an older schema, which is not upgraded yet.
    fn has(&self, _table: Table) -> bool {
        true
    }

    /// How many mailboxes a user has. Bounded by their number; an implementation may know it without counting.
    ///
    /// # Errors
    /// As [`Rows::get`].
    fn mailboxes_of(&self, user: &str) -> Result<u64> {
        let (start, end) = (super::name::user_prefix(user), super::name::subtree_end(&super::rows::quota_key(user)));
        let mut count = 0;
        self.scan_until(Table::Mailboxes, Bound::Included(&start), &end, &mut |_, _| {
            count += 1;
            ControlFlow::Continue(())
        })?;
        Ok(count)
    }

    /// What a quota root holds, where that was counted before somebody asks.
    fn counted(&self, _root: &[u8]) -> Option<super::quota::Usage> {
        None
    }

    /// So many mailboxes may be counted while whoever else wants to change something waits.
    fn counts_at_once(&self) -> usize {
        usize::MAX
    }

    /// False only if no mailbox lies below the mailbox with this key; where the implementation knows it without a scan.
    fn may_lie_below(&self, _mailbox: &[u8]) -> bool {
        true
    }
}

/// Rows in a plain map, for tests.
#[cfg(test)]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MapRows(pub(crate) std::collections::BTreeMap<(Table, Vec<u8>), Vec<u8>>);

#[cfg(test)]
impl MapRows {
    /// What the overlay does with a record: one state for each key.
    pub(crate) fn apply(&mut self, changes: &[super::change::Change<'_>]) {
        use super::change::Change;
        for change in changes {
            match change {
                Change::Put { table, key, row } => {
                    self.0.insert((*table, key.to_vec()), row.to_vec());
                }
                Change::Remove { table, key } => {
                    self.0.remove(&(*table, key.to_vec()));
                }
                Change::Message { of, message, .. } => {
                    let uid = super::message::Message::decode(message).expect("planned").uid;
                    let key = super::mail::message_key(of.mailbox, uid);
                    let row = super::mail::MessageRow::encode(crate::lsn::Lsn(0), crate::lsn::Epoch(0), of, message);
                    self.0.insert((Table::Messages, key), row);
                }
            }
        }
    }
}

#[cfg(test)]
impl Rows for MapRows {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.0.get(&(table, key.to_vec())).cloned())
    }

    fn scan(&self, table: Table, start: Bound<&[u8]>, each: EachRow<'_>) -> Result<()> {
        let start = match start {
            Bound::Included(key) => Bound::Included((table, key.to_vec())),
            Bound::Excluded(key) => Bound::Excluded((table, key.to_vec())),
            Bound::Unbounded => Bound::Included((table, Vec::new())),
        };
        for ((_, key), row) in self.0.range((start, Bound::Unbounded)).take_while(|((t, _), _)| *t == table) {
            if each(key, row).is_break() {
                break;
            }
        }
        Ok(())
    }
}
