//! Indexes are looked at before the first checkpoint since the start writes to them.
//!
//! # Purpose
//! Somebody may have put an older copy of a directory back while nobody looked. A head that is written behind what it holds would say that
//! nothing is missing before it ([`crate::partition::index`]); and what the log has of that would be released some day.
//!
//! # Operation
//! The newest head of an index must count the changes that the mailbox had at the last checkpoint, or more. It is the last frame, so that is one
//! read for a mailbox that is written to, once in the life of a daemon. One that counts less is judged, and brought up to date from the log, before
//! anything is written to it. What comes between that look and the checkpoint is looked at before the next one.

use super::mirror::{each_changed, each_with_mail};
use super::told::{Told, told};
use crate::error::{Result, StoreError};
use crate::model::mail::MessageRow;
use crate::model::rows::{MailboxRow, Row, TombstoneRow, split};
use crate::model::{Folder, Rows, Table};
use crate::partition::index::Index;
use crate::store::Store;
use crate::store::commit::lock;
use crate::store::view::View;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::ops::Bound;
use std::sync::Mutex;

/// Mailboxes whose indexes are no older than the database.
#[derive(Debug, Default)]
pub(in crate::store) struct Trusted(Mutex<HashSet<u64>>);

impl Store {
    /// Looks at the indexes to which the next checkpoint will write, as far as that was not done. What cannot be looked at now is looked at
    /// before the next one.
    pub(in crate::store) fn look_before_writing(&self) {
        let view = self.view();
        match changed(&view) {
            Ok(ids) => self.look_at_indexes(&ids),
            Err(e) => tracing::warn!(event = "indexes_not_looked_at", error = %e),
        }
    }

    /// Looks at the indexes of these mailboxes.
    pub(in crate::store) fn look_at_indexes(&self, ids: &BTreeSet<u64>) {
        let view = self.view();
        let unknown: Vec<u64> = {
            let trusted = lock(&self.trusted.0);
            ids.iter().copied().filter(|id| !trusted.contains(id)).collect()
        };
        for id in unknown {
            match self.look_at_index(&view, id) {
                Ok(()) => drop(lock(&self.trusted.0).insert(id)),
                // The partition is away or behind: nothing is written to it.
                Err(StoreError::Busy { .. }) => {}
                Err(e) => tracing::warn!(event = "index_not_looked_at", mailbox = id, error = %e),
            }
        }
    }

    fn look_at_index(&self, view: &View, id: u64) -> Result<()> {
        let Some(Told { row, owner, .. }) = told(view.database(), id)? else { return Ok(()) };
        if row.uidnext <= 1 {
            return Ok(());
        }
        let home = row.home.clone().unwrap_or(owner);
        let of = Folder { partition: Cow::Borrowed(&row.partition), home: Cow::Owned(home), mailbox: id };
        let place = super::source::place(&of)?;
        let disk = self.partitions.disk(&of.partition).ok_or_else(|| super::source::away(&of.partition))?;
        let index = Index::new(&*disk, self.partitions.owner(), &place);
        if index.last_modseq()?.is_some_and(|modseq| modseq >= row.highest_modseq) {
            return Ok(());
        }
        let history = index.read()?;
        let upto = view.indexed_upto();
        // Behind what is durable a crash leaves gaps, which the checkpoint fills.
        if !history.reading.is_damaged(upto) && history.highest_modseq(upto) >= row.highest_modseq {
            return Ok(());
        }
        tracing::warn!(event = "index_of_an_older_time", mailbox = id, expected = row.highest_modseq);
        self.mend_one(id)
    }
}

/// The mailboxes of which something has changed since the last checkpoint.
fn changed(view: &View) -> Result<BTreeSet<u64>> {
    let mut ids = BTreeSet::new();
    let overlay = &view.base.active;
    each_with_mail(overlay, view.at, &mut |row: &MessageRow<'_>| {
        ids.insert(row.of.mailbox);
        Ok(())
    })?;
    let all = (Bound::Unbounded, None);
    each_changed(overlay, Table::Mailboxes, all, view.at, &mut |key, row| {
        ids.extend(row.map(|row| MailboxRow::decode(key, row)).transpose()?.map(|row| row.id));
        Ok(())
    })?;
    each_changed(overlay, Table::Past, all, view.at, &mut |key, row| {
        if let (Some(row), true) = (row, split(key).is_some()) {
            ids.insert(TombstoneRow::decode(key, row)?.mailbox.id);
        }
        Ok(())
    })?;
    Ok(ids)
}
