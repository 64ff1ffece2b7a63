//! The mailboxes of a store, one after the other, on no view that lasts; and one of them, as it is now.

use super::{Result, Work};
use crate::error::StoreError;
use crate::lsn::Lsn;
use crate::model::command::{Known, Selection};
use crate::model::message::Message;
use crate::model::name::key_text;
use crate::model::rows::{MailboxRow, Row};
use crate::model::{Rows, Table};
use crate::store::{Store, View};
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

/// Rows that are read from one view.
const PAGE: usize = 500;

/// A key and its row.
pub(super) type Pair = (Vec<u8>, Vec<u8>);

/// The next rows of a table behind a key; none: that was the last one.
pub(super) fn page(store: &Store, table: Table, after: &[u8]) -> Result<Vec<Pair>> {
    let start = if after.is_empty() { Bound::Unbounded } else { Bound::Excluded(after) };
    let mut found = Vec::new();
    store.view().scan(table, start, &mut |key, row| {
        found.push((key.to_vec(), row.to_vec()));
        if found.len() < PAGE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(found)
}

/// A mailbox and its messages as they were read.
pub(super) struct Opened {
    pub(super) name: String,
    row: MailboxRow,
    upto: Lsn,
    /// By UID; those that are gone for good are not among them.
    pub(super) messages: BTreeMap<u32, Message>,
}

/// The row of the mailbox with this key, as it is in a view.
pub(super) fn row(view: &View, key: &[u8]) -> Result<Option<MailboxRow>> {
    view.get(Table::Mailboxes, key)?.map(|row| MailboxRow::decode(key, &row)).transpose()
}

impl Work<'_> {
    /// Reads the messages of a mailbox; `None` where that cannot be done, which is told.
    pub(super) fn open(&mut self, view: &View, key: &[u8], row: MailboxRow) -> Result<Option<Opened>> {
        let name = key_text(key);
        let listed = self.store.folder(view, key, &row).and_then(|of| self.store.messages(view, &of, &row));
        let upto = view.indexed_upto();
        match listed {
            Ok(listed) => Ok(Some(Opened { name, row, upto, messages: listed.messages })),
            Err(e @ StoreError::Poisoned { .. }) => Err(e),
            Err(e) => {
                self.told.problem(&name, &e.to_string());
                Ok(None)
            }
        }
    }
}

impl Opened {
    /// These messages, if each is still as it was read.
    pub(super) fn select(&self, uids: &[u32]) -> Selection {
        let states = uids.iter().filter_map(|uid| Some((*uid, self.messages.get(uid)?.clone())));
        let known = Known {
            mailbox: self.row.id,
            indexed_upto: self.upto,
            modseq: self.row.highest_modseq,
            states: states.collect(),
        };
        Selection { name: self.name.clone(), uids: uids.to_vec(), known, exactly: true }
    }
}
