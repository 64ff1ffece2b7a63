//! Indexes are looked at before the first checkpoint since the start writes to them.
//!
//! # Purpose
//! Somebody may have put an older copy of a directory back while nobody looked. A head that is written behind what it holds would say that
//! nothing is missing before it ([`crate::partition::index`]); and what the log has of that would be released some day.
//!
//! # Operation
//! The newest head of an index must count the changes that the mailbox had at the last checkpoint, or more. It is the last frame, so that is one
//! read for a mailbox that is written to, once in the life of a daemon. One that counts less is judged, and brought up to date from the log, before
//! anything is written to it. The checkpoint itself compares the frame behind which it writes ([`crate::partition::apply`]): what was not looked at, or
//! could not be brought up to date, gets no head, and so goes on saying that it is of an older time.

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
        if self.hold || self.poison.get().is_some() {
            return;
        }
        match self.changed() {
            Ok(ids) => drop(self.look_at_indexes(&ids)),
            Err(e) => tracing::warn!(event = "indexes_not_looked_at", error = %e),
        }
    }

    /// Looks at the indexes of these mailboxes, and has brought up to date what is of an older time. Gives those of which that could not be done.
    pub(in crate::store) fn look_at_indexes(&self, ids: &BTreeSet<u64>) -> BTreeSet<u64> {
        let mut left = self.look_at_each(ids.iter().copied());
        if left.is_empty() {
            return left;
        }
        tracing::warn!(event = "indexes_of_an_older_time", mailboxes = left.len());
        // The last checkpoint of a daemon may release the log that proves it.
        self.mend_some(&left, false);
        left = self.look_at_each(left.into_iter());
        left
    }

    /// Those whose indexes are of an older time than the last checkpoint, or could not be looked at.
    fn look_at_each(&self, ids: impl Iterator<Item = u64>) -> BTreeSet<u64> {
        let view = self.view();
        let mut left = BTreeSet::new();
        for id in ids.filter(|id| !self.trusts(*id)) {
            match self.reaches(&view, id) {
                Ok(true) => drop(lock(&self.trusted.0).insert(id)),
                Ok(false) => drop(left.insert(id)),
                // The partition is away.
                Err(StoreError::Busy { .. }) => {}
                Err(e) => {
                    tracing::warn!(event = "index_not_looked_at", mailbox = id, error = %e);
                    left.insert(id);
                }
            }
        }
        left
    }

    fn trusts(&self, id: u64) -> bool {
        lock(&self.trusted.0).contains(&id)
    }

    /// True if the index of a mailbox holds everything up to the last checkpoint.
    fn reaches(&self, view: &View, id: u64) -> Result<bool> {
        let Some(Told { row, owner, .. }) = told(view.database(), id)? else { return Ok(true) };
        if row.uidnext <= 1 {
            return Ok(true);
        }
        let home = row.home.clone().unwrap_or(owner);
        let of = Folder { partition: Cow::Borrowed(&row.partition), home: Cow::Owned(home), mailbox: id };
        let place = super::source::place(&of)?;
        let disk = self.partitions.disk(&of.partition).ok_or_else(|| super::source::away(&of.partition))?;
        let index = Index::new(&*disk, self.partitions.owner(), &place);
        if index.last_modseq()?.is_some_and(|modseq| modseq >= row.highest_modseq) {
            return Ok(true);
        }
        let history = index.read()?;
        let upto = view.indexed_upto();
        // Behind what is durable a crash leaves gaps, which the checkpoint fills.
        let is_torn = history.reading.is_there && !history.reading.is_whole() && !history.reading.is_damaged(upto);
        Ok(is_torn || (history.reading.is_whole() && history.highest_modseq(upto) >= row.highest_modseq))
    }

    /// The mailboxes of which something has changed since the last checkpoint, and whose indexes nobody has looked at.
    fn changed(&self) -> Result<BTreeSet<u64>> {
        let view = self.view();
        let mut ids = BTreeSet::new();
        let mut add = |id: u64| {
            if !self.trusts(id) {
                ids.insert(id);
            }
        };
        let all = (Bound::Unbounded, None);
        // What an earlier checkpoint could not write is written first.
        let left = view.base.frozen.as_ref().map(|frozen| &frozen.overlay);
        for overlay in left.into_iter().chain([&view.base.active]) {
            each_with_mail(overlay, view.at, &mut |row: &MessageRow<'_>| {
                add(row.of.mailbox);
                Ok(())
            })?;
            each_changed(overlay, Table::Mailboxes, all, view.at, &mut |key, row| {
                row.map(|row| MailboxRow::decode(key, row)).transpose()?.into_iter().for_each(|row| add(row.id));
                Ok(())
            })?;
            each_changed(overlay, Table::Past, all, view.at, &mut |key, row| {
                if let (Some(row), true) = (row, split(key).is_some()) {
                    add(TombstoneRow::decode(key, row)?.mailbox.id);
                }
                Ok(())
            })?;
        }
        Ok(ids)
    }

    /// As if somebody had looked.
    #[cfg(test)]
    pub(in crate::store) fn trust(&self, mailbox: u64) {
        lock(&self.trusted.0).insert(mailbox);
    }
}
