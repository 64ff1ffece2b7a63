//! What a view shows of messages: the rows of the view, and below them what the index of the mailbox says up to its checkpoint.

use super::source::{Disks, away, place};
use super::write::folder;
use crate::error::{Result, StoreError};
use crate::model::command::{Known, Selection};
use crate::model::mail::{BodyRow, MessageRow, message_key, messages_of};
use crate::model::message::{Message, State};
use crate::model::rows::{MailboxRow, Row};
use crate::model::{Command, Folder, MailboxName, Rows, Table, Usage};
use crate::partition::bodies::clear_staging;
use crate::partition::index::{History, Index};
use crate::partition::manifest::Manifest;
use crate::store::Store;
use crate::store::view::View;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};

/// The messages of a mailbox at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// By UID; those that were expunged and can be brought back are among them, those that are gone for good are not.
    pub messages: BTreeMap<u32, Message>,
    /// They are as many, and as large, as the mailbox's row says. If not, index and mirror have both lost something.
    pub is_whole: bool,
}

impl Store {
    pub(in crate::store) fn mail_disks(&self) -> Disks<'_> {
        Disks { partitions: &self.partitions, log: &*self.disks.log }
    }

    /// Longest message that travels in its record, in bytes; a longer one is staged.
    #[must_use]
    pub fn inline_limit(&self) -> usize {
        // Beside it stand the changes of those who get it.
        self.options.inline_limit.min(crate::wal::payload_bytes_max(self.options.segment_size) / 4)
    }

    /// A number for a staged file.
    #[must_use]
    pub fn staging_number(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.env.random();
        u64::from_le_bytes([a, b, c, d, e, f, g, h]) >> 1
    }

    /// Takes away what was staged and never delivered. For a start: nobody stages anything yet, and every record is known that could
    /// name such a file.
    pub(in crate::store) fn clear_staging(&self) {
        if self.hold {
            return;
        }
        let mut wanted: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        let told = self.view().scan(Table::Bodies, Bound::Unbounded, &mut |_, row| {
            if let Ok(BodyRow::Staged { partition, number }) = BodyRow::decode(row) {
                wanted.entry(partition.into_owned()).or_default().insert(number);
            }
            ControlFlow::Continue(())
        });
        for (name, _) in self.partitions.list() {
            let Some(disk) = self.partitions.disk(&name) else { continue };
            let none = BTreeSet::new();
            let cleared = told.clone().and_then(|()| clear_staging(&*disk, wanted.get(&name).unwrap_or(&none)));
            match cleared {
                Ok(0) => {}
                Ok(files) => tracing::info!(event = "staging_cleared", partition = name, files),
                Err(e) => tracing::warn!(event = "staging_not_cleared", partition = name, error = %e),
            }
        }
    }

    /// Where the messages of the mailbox with this key and row lie.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn folder(&self, view: &View, key: &[u8], row: &MailboxRow) -> Result<Folder<'static>> {
        folder(view, key, row)
    }

    /// The messages of a mailbox whose row in the same view is `row`.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if its partition is not there; those of the disk.
    pub fn messages(&self, view: &View, of: &Folder<'_>, row: &MailboxRow) -> Result<Listed> {
        if row.uidnext <= 1 {
            return Ok(Listed { messages: BTreeMap::new(), is_whole: true });
        }
        let changed = changed(view, of.mailbox)?;
        let first = join(self.indexed(view, of, false)?, &changed);
        if is_whole(&first, row) {
            return Ok(Listed { messages: shown(first), is_whole: true });
        }
        let both = join(self.indexed(view, of, true)?, &changed);
        let is_whole = is_whole(&both, row);
        if !is_whole {
            tracing::warn!(
                event = "mailbox_incomplete", mailbox = of.mailbox, expected = %row.usage(), found = %usage(&both),
                "index and mirror do not hold what the database counts"
            );
        }
        Ok(Listed { messages: shown(both), is_whole })
    }

    /// One message of a mailbox; `None` if there is none, or not any more.
    ///
    /// # Errors
    /// As [`Store::messages`].
    pub fn message(&self, view: &View, of: &Folder<'_>, row: &MailboxRow, uid: u32) -> Result<Option<Message>> {
        if let Some(found) = view.get(Table::Messages, &message_key(of.mailbox, uid))? {
            return Ok(Some(MessageRow::decode(&found)?.message()?).filter(|m| m.state != State::Purged));
        }
        Ok(self.messages(view, of, row)?.messages.remove(&uid))
    }

    /// Has a command know what it has to know of messages. Reads indexes: not for a thread that must not wait for a disk.
    ///
    /// # Errors
    /// As [`Store::messages`].
    pub fn prepare(&self, mut command: Command) -> Result<Command> {
        let view = self.view();
        for selection in command.selections_mut() {
            selection.known = self.known(&view, selection)?;
        }
        Ok(command)
    }

    fn known(&self, view: &View, selection: &Selection) -> Result<Known> {
        // What is no mailbox is refused by the planner.
        let Ok(name) = MailboxName::parse(&selection.name) else { return Ok(Known::default()) };
        let Some(row) = view.get(Table::Mailboxes, name.key())? else { return Ok(Known::default()) };
        let row = MailboxRow::decode(name.key(), &row)?;
        let of = folder(view, name.key(), &row)?;
        let mut states = self.messages(view, &of, &row)?.messages;
        if !selection.uids.is_empty() {
            states.retain(|uid, _| selection.uids.contains(uid));
        }
        Ok(Known { mailbox: row.id, indexed_upto: view.indexed_upto(), modseq: row.highest_modseq, states })
    }

    /// The bytes of a message, compared with their digest.
    ///
    /// # Errors
    /// As [`Store::messages`]; [`StoreError::Corrupt`] if they are not what they were.
    pub fn message_bytes(&self, view: &View, of: &Folder<'_>, message: &Message) -> Result<Vec<u8>> {
        self.mail_disks().bytes(view, of, message)
    }

    /// What the index says at the checkpoint of a view; with `mirrored`, also what its mirror says.
    fn indexed(&self, view: &View, of: &Folder<'_>, mirrored: bool) -> Result<BTreeMap<u32, Message>> {
        let disk = self.partitions.disk(&of.partition).ok_or_else(|| away(&of.partition))?;
        let (place, upto) = (place(of)?, view.indexed_upto());
        let read = Index::new(&*disk, self.store_id, &place).read();
        let mut history = match read {
            // What is not understood may be damage that a checksum did not see; its twin is asked.
            Err(StoreError::Corrupt { .. }) if mirrored => History::default(),
            other => other?,
        };
        if mirrored {
            history.merge(Manifest::new(&*disk, self.store_id, &place.home).mailbox(place.id)?);
        }
        Ok(history.at(upto).map(|m| (m.value.uid, m.value.clone())).collect())
    }
}

/// The messages that the rows of a view know.
fn changed(view: &View, mailbox: u64) -> Result<BTreeMap<u32, Message>> {
    let (start, end) = messages_of(mailbox);
    let (mut found, mut failed) = (BTreeMap::new(), Ok(()));
    view.scan_until(Table::Messages, Bound::Included(&start), &end, &mut |_, row| match MessageRow::decode(row)
        .and_then(|row| row.message())
    {
        Ok(message) => {
            found.insert(message.uid, message);
            ControlFlow::Continue(())
        }
        Err(e) => {
            failed = Err(e);
            ControlFlow::Break(())
        }
    })?;
    failed.map(|()| found)
}

fn join(mut below: BTreeMap<u32, Message>, above: &BTreeMap<u32, Message>) -> BTreeMap<u32, Message> {
    below.extend(above.iter().map(|(uid, message)| (*uid, message.clone())));
    below
}

fn usage(messages: &BTreeMap<u32, Message>) -> Usage {
    let live = messages.values().filter(|m| m.is_live());
    live.fold(Usage::default(), |sum, m| sum.plus(Usage { bytes: m.size, messages: 1 }))
}

fn is_whole(messages: &BTreeMap<u32, Message>, row: &MailboxRow) -> bool {
    usage(messages) == row.usage()
}

fn shown(mut messages: BTreeMap<u32, Message>) -> BTreeMap<u32, Message> {
    messages.retain(|_, m| m.state != State::Purged);
    messages
}
