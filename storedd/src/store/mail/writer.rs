//! A checkpoint's work on one partition, home by home; and what a repair of it takes from the database.

use super::aftermath::Written;
use super::mirror::{self, Due, each_changed};
use super::source::Disks;
use super::told::{Told, told};
use super::write::Moment;
use crate::error::{Result, StoreError};
use crate::model::mail::{BodyRow, MessageRow, message_key, messages_of, split_key};
use crate::model::message::{Digest, Message, State};
use crate::model::quota::roots_above;
use crate::model::rows::tombstone_key;
use crate::model::{Folder, LogPlace, Rows, Table};
use crate::partition::apply::{self, HomeRun, MailboxRun, Source, Supply, Target};
use crate::partition::index::{Head, Run, Stamped};
use crate::partition::manifest::MirroredRows;
use crate::partition::mend;
use crate::partition::tree::{self, Home, Place};
use crate::store::overlay::Overlay;
use crate::store::view::View;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

/// Mailboxes of a home that are applied together.
const MAILBOXES_AT_ONCE: usize = 4096;

/// A checkpoint's work on one partition.
pub(super) struct Writer<'a> {
    pub(super) view: &'a View,
    pub(super) overlay: &'a Overlay,
    pub(super) moment: Moment,
    pub(super) disks: &'a Disks<'a>,
    pub(super) partition: &'a str,
    pub(super) target: Target<'a>,
    /// Which message has the file of a body of the log: those that share it get further names of it.
    pub(super) first: HashMap<(LogPlace, Digest), (Place, u32)>,
    pub(super) written: Written,
    /// It brings what the partition lacks.
    pub(super) is_late: bool,
}

impl Writer<'_> {
    /// Writes one home, so many mailboxes at once that they and their frames stay within bounds.
    pub(super) fn home(&mut self, home: &Home, due: &Due) -> Result<()> {
        let mut is_new = self.is_new_home(home, due)?;
        let mut rows = MirroredRows::new();
        for (table, key) in &due.rows {
            let value = mirror::value(self.view, (self.partition, home), *table, key)?;
            if *table == Table::Users && value.is_none() {
                self.written.removals.homes.insert((self.partition.to_owned(), home.clone()));
            }
            rows.insert((*table, key.clone()), self.stamped_as(*table, key, value));
        }
        let mut pieces = due.mailboxes.chunks(MAILBOXES_AT_ONCE);
        let mut piece = pieces.next().unwrap_or_default();
        loop {
            let rows = std::mem::take(&mut rows);
            let mut run = HomeRun { is_new, rows, ..HomeRun::nothing(home) };
            for id in piece {
                match self.mailbox(home.mailbox(*id))? {
                    Some(mailbox) => run.mailboxes.push(mailbox),
                    None => run.gone.push(self.stamped(*id)),
                }
            }
            self.apply(&run)?;
            is_new = false;
            match pieces.next() {
                Some(next) => piece = next,
                None => return Ok(()),
            }
        }
    }

    /// [`Writer::home`] again, where something was in the way that is no directory or file of the store's: a planted link is the matter of
    /// that home, and not of the partition. `e` is what came of the first attempt.
    pub(super) fn home_cleared(&mut self, home: &Home, due: &Due, e: StoreError) -> Result<()> {
        if !matches!(e, StoreError::Io { .. }) {
            return Err(e);
        }
        match mend::clear_way(self.target.disk, home, &due.mailboxes) {
            Ok(kept) if !kept.is_empty() => {
                tracing::error!(
                    event = "strange_entries_set_aside",
                    partition = self.partition,
                    home = home.path(),
                    kept = ?kept,
                    error = %e,
                    "what lay behind them is looked for elsewhere: storectl check, storectl reconstruct -r"
                );
                let before = std::mem::replace(&mut self.target.is_replay, true);
                let done = self.home(home, due);
                self.target.is_replay = before;
                done
            }
            _ => Err(e),
        }
    }

    fn apply(&mut self, run: &HomeRun) -> Result<()> {
        let applied = apply::apply(self.target, run, self)?;
        self.written.files += applied.files;
        if !applied.bodiless.is_empty() {
            let (home, messages) = (run.home.path(), applied.bodiless.len());
            if self.target.is_piece {
                tracing::warn!(event = "messages_without_bytes", home, messages, "unless they are purged further on");
            } else {
                tracing::error!(event = "messages_without_bytes", home, messages, "nothing has their bytes");
            }
            self.written.bodiless.extend(applied.bodiless);
        }
        let gone = run.gone.iter().map(|gone| (self.partition.to_owned(), run.home.mailbox(gone.value)));
        self.written.removals.mailboxes.extend(gone);
        if !run.gone.is_empty() {
            self.written.removals.homes.insert((self.partition.to_owned(), run.home.clone()));
        }
        if applied.replaced > 0 || !applied.repaired.is_empty() || !applied.incomplete.is_empty() {
            let incomplete: Vec<_> = applied.incomplete.iter().map(Place::path).collect();
            tracing::warn!(
                event = "mail_repaired", partition = self.partition, home = run.home.path(), files = applied.replaced,
                journals = ?applied.repaired, incomplete = ?incomplete, "damaged or lost; made again"
            );
        }
        Ok(())
    }

    fn stamped<T>(&self, value: T) -> Stamped<T> {
        Stamped { lsn: self.moment.upto, epoch: self.moment.epoch, value }
    }

    /// [`Writer::stamped`] for what follows from a row. One that a replay brought is as old as what that led to: where a start could not
    /// reach all of the log, the partition may know something newer, and must not be told that this is.
    fn stamped_as<T>(&self, table: Table, key: &[u8], value: T) -> Stamped<T> {
        let lsn = self.overlay.replayed_upto(table, key, self.moment.upto).unwrap_or(self.moment.upto);
        Stamped { lsn, ..self.stamped(value) }
    }

    /// True if no checkpoint has written anything to the home: so that it has no manifest is no loss.
    fn is_new_home(&self, home: &Home, due: &Due) -> Result<bool> {
        let (disk, before, at) = (self.target.disk, self.view.database(), (self.partition, home));
        let manifest = home.manifest();
        if disk.stat(&manifest).map_err(|e| StoreError::io("stat", disk.display(&manifest), e))?.is_some() {
            return Ok(false);
        }
        if self.is_late {
            // The database says nothing of how it was: no mailbox of it has an index.
            return Ok(tree::mailboxes(disk, home)?.is_empty());
        }
        let mut users = due.rows.iter().filter(|(table, _)| *table == Table::Users).peekable();
        if users.peek().is_some() {
            // Without a walk over all users: thousands of them may be new.
            for (table, key) in users {
                if mirror::value(before, at, *table, key)?.is_some() {
                    return Ok(false);
                }
            }
        } else if !mirror::rows_at(before, at.0, home)?.is_empty()
            || !mirror::mailboxes_at(before, at.0, home)?.is_empty()
        {
            return Ok(false);
        }
        Ok(tree::mailboxes(disk, home)?.is_empty())
    }

    /// What changed in one mailbox; `None` if it is gone from the partition for good.
    fn mailbox(&mut self, place: Place) -> Result<Option<MailboxRun>> {
        let Some(head) = self.head(&place)? else {
            self.gone(&place)?;
            return Ok(None);
        };
        if head.value.row.partition != self.partition {
            // It lies on another partition since.
            return Ok(None);
        }
        let (start, end) = messages_of(place.id);
        let (mut messages, mut sources) = (Vec::new(), BTreeMap::new());
        let (overlay, upto) = (self.overlay, self.moment.upto);
        each_changed(overlay, Table::Messages, (Bound::Included(&start), Some(&end)), upto, &mut |_, row| {
            let Some(row) = row else { return Ok(()) };
            let row = MessageRow::decode(row)?;
            let message = row.message()?;
            match message.state {
                State::Purged => self.purged(&place, message.uid)?,
                _ => sources
                    .extend(self.source(&place, message.uid, message.digest)?.map(|source| (message.uid, source))),
            }
            messages.push(Stamped { lsn: row.lsn, epoch: row.epoch, value: message });
            Ok(())
        })?;
        let ((is_new, settled), is_bare) = (self.is_new(&place)?, messages.is_empty() && head.value.row.uidnext <= 1);
        let run = Run { head: Some(head), messages };
        Ok(Some(MailboxRun { place, is_new, is_bare, settled, run, sources }))
    }

    /// A mailbox is gone for good, and what was staged for it since the last checkpoint.
    fn gone(&mut self, place: &Place) -> Result<()> {
        let (start, end) = messages_of(place.id);
        let (overlay, upto) = (self.overlay, self.moment.upto);
        each_changed(overlay, Table::Messages, (Bound::Included(&start), Some(&end)), upto, &mut |key, _| {
            split_key(key).map_or(Ok(()), |(id, uid)| self.not_wanted(id, uid))
        })
    }

    /// A message may have come and gone between two checkpoints.
    fn not_wanted(&mut self, id: u64, uid: u32) -> Result<()> {
        if let Some(row) = self.row(id, uid)?
            && let BodyRow::Staged { partition, number } = BodyRow::decode(&row)?
        {
            self.written.removals.staged.insert((partition.into_owned(), number));
        }
        Ok(())
    }

    fn purged(&mut self, place: &Place, uid: u32) -> Result<()> {
        self.not_wanted(place.id, uid)?;
        let messages = &mut self.written.removals.messages;
        messages.entry((self.partition.to_owned(), place.clone())).or_default().insert(uid);
        Ok(())
    }

    /// True if no checkpoint has written anything of the mailbox; else what its row counted at the last one, if it lay here.
    fn is_new(&self, place: &Place) -> Result<(bool, Option<u64>)> {
        if self.is_late {
            // Its first message comes now.
            return Ok((self.row(place.id, 1)?.is_some(), None));
        }
        let before = told(self.view.database(), place.id)?.filter(|told| told.row.uidnext > 1);
        let Some(Told { row, owner, .. }) = before else { return Ok((true, None)) };
        let lay_here = row.partition == self.partition && row.home.as_deref().unwrap_or(&owner) == place.home.path();
        Ok((false, lay_here.then_some(row.highest_modseq)))
    }

    /// What memory says of where a message's bytes are; nothing if it has a file.
    fn row(&self, mailbox: u64, uid: u32) -> Result<Option<Vec<u8>>> {
        let key = message_key(mailbox, uid);
        let hash = crate::store::names::hash(Table::Bodies, &key);
        Ok(self.overlay.get(Table::Bodies, &key, hash, self.moment.upto).flatten())
    }

    /// Where the file of a message is to come from; `None` if it has one.
    fn source(&mut self, place: &Place, uid: u32, digest: Digest) -> Result<Option<Source>> {
        let Some(mut row) = self.row(place.id, uid)? else { return Ok(None) };
        loop {
            let next = match BodyRow::decode(&row)? {
                BodyRow::Logged(at) => {
                    // Where an empty message stands the next one begins.
                    if let Some((place, uid)) = self.first.get(&(at, digest)) {
                        return Ok(Some(Source::Twin(place.clone(), *uid)));
                    }
                    self.first.insert((at, digest), (place.clone(), uid));
                    return Ok(Some(Source::Log));
                }
                BodyRow::Staged { partition, number } => {
                    let here = partition == self.partition;
                    self.written.removals.staged.insert((partition.into_owned(), number));
                    return Ok(Some(if here { Source::Staged(number) } else { Source::Log }));
                }
                BodyRow::Copy { of, .. } if of.partition != self.partition => return Ok(Some(Source::Log)),
                BodyRow::Copy { of, uid } => match self.row(of.mailbox, uid)? {
                    Some(next) => next,
                    // It had a file before this checkpoint, which goes after it at the earliest.
                    None => return Ok(Some(Source::Twin(super::source::place(&of)?, uid))),
                },
            };
            row = next;
        }
    }
}

impl Supply for Writer<'_> {
    fn body(&self, place: &Place, message: &Message) -> Result<Vec<u8>> {
        let (partition, home) = (Cow::Borrowed(self.partition), Cow::Borrowed(place.home.path()));
        self.disks.bytes(self.view, &Folder { partition, home, mailbox: place.id }, message)
    }

    fn head(&self, place: &Place) -> Result<Option<Stamped<Head>>> {
        let Some(Told { key, row, owner, deleted_us }) = told(self.view, place.id)? else { return Ok(None) };
        let mut quota_root = Vec::new();
        for root in roots_above(&key) {
            if deleted_us == 0 && self.view.contains(Table::Quotas, root)? {
                quota_root = root.to_vec();
                break;
            }
        }
        let (table, place) = match deleted_us {
            0 => (Table::Mailboxes, key.clone()),
            _ => (Table::Past, tombstone_key(&key, row.id)),
        };
        let value = Head { name: key, owner, quota_root, deleted_us, keywords: Vec::new(), row };
        Ok(Some(self.stamped_as(table, &place, value)))
    }

    fn rows(&self, home: &Home) -> Result<MirroredRows> {
        let mut rows = MirroredRows::new();
        for (table, key) in mirror::rows_at(self.view, self.partition, home)? {
            let value = mirror::value(self.view, (self.partition, home), table, &key)?;
            rows.insert((table, key), self.stamped(value));
        }
        Ok(rows)
    }

    fn mailboxes(&self, home: &Home) -> Result<Vec<u64>> {
        mirror::mailboxes_at(self.view, self.partition, home)
    }
}
