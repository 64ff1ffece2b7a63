//! What a view shows of messages: the rows of the view, and below them what the index of the mailbox says up to its checkpoint.

use super::cache::{IndexesHeld, Loaded};
use super::case::{Counted, Standing, settled};
use super::heal::Sick;
use super::mend::{Examined, Order, Repair};
use super::source::{Disks, away, place};
use super::told::{folder, told};
use crate::disk::Disk;
use crate::error::{Result, StoreError, exit};
use crate::lsn::Lsn;
use crate::model::command::{Known, Selection};
use crate::model::mail::{BodyRow, MessageRow, message_key, messages_of, split_key};
use crate::model::message::{Message, State};
use crate::model::rows::{MailboxRow, Row};
use crate::model::{Command, Folder, MailboxName, Rows, Table, Usage};
use crate::partition::bodies::{clear_candidates, clear_staging, set_staging_aside};
use crate::partition::index::History;
use crate::partition::manifest::Manifest;
use crate::partition::survey::Depth;
use crate::store::Store;
use crate::store::view::View;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

/// The messages of a mailbox at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// By UID; those that were expunged and can be brought back are among them, those that are gone for good are not.
    pub messages: BTreeMap<u32, Message>,
}

/// Clears a partition of staged files, but for those with these numbers.
type Clear = fn(&dyn Disk, &BTreeSet<u64>) -> Result<u64>;

impl Store {
    pub(in crate::store) fn mail_disks(&self) -> Disks<'_> {
        Disks { partitions: &self.partitions, log: &*self.disks.log, late: None }
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
        for (name, _) in self.partitions.list() {
            let Some(disk) = self.partitions.disk(&name) else { continue };
            if let Err(e) = clear_candidates(&*disk) {
                tracing::warn!(event = "staging_not_cleared", partition = name, error = %e);
            }
        }
        // So may a log that was set aside.
        if !self.due().is_due() {
            self.clear_unnamed("staging_cleared", clear_staging);
        }
    }

    /// Moves what was staged and is named by nothing but a history that was given up into the quarantine. For a start, likewise.
    pub(in crate::store) fn set_staging_aside(&self) {
        self.clear_unnamed("staging_set_aside", set_staging_aside);
    }

    fn clear_unnamed(&self, event: &'static str, clear: Clear) {
        // What a partition lacks may name any of them, in a record that was not replayed.
        if self.hold || !self.partitions.behind().is_empty() {
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
            match told.clone().and_then(|()| clear(&*disk, wanted.get(&name).unwrap_or(&none))) {
                Ok(0) => {}
                Ok(files) => tracing::info!(event = event, partition = name, files),
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

    /// The messages of a mailbox whose row in the same view is `row`. What index and mirror cannot prove together is repaired
    /// first, and nothing is shown of a mailbox where that is not possible: deliveries go on, for they read no index.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if its partition is not there, or if it was just repaired and is to be asked for again;
    /// [`StoreError::Corrupt`] if something is lost that nothing proves any more; those of the disk.
    pub fn messages(&self, view: &View, of: &Folder<'_>, row: &MailboxRow) -> Result<Listed> {
        if row.uidnext <= 1 {
            return Ok(Listed { messages: BTreeMap::new() });
        }
        self.messages_upto(of, row, &Upto::of(view, of.mailbox)?)
    }

    /// As [`Store::messages`], at the moment that `upto` tells.
    pub(in crate::store) fn messages_upto(&self, of: &Folder<'_>, row: &MailboxRow, upto: &Upto) -> Result<Listed> {
        let first = self.found(of, row, upto);
        if let Ok(Found { messages: Some(messages), .. }) = first {
            return Ok(Listed { messages });
        }
        if let Some(now) = self.moved(of)? {
            // What it was told of at any moment has come along.
            return self.messages_upto(&now, row, upto);
        }
        let first = first?;
        let repair = if self.hold { Repair::Nothing } else { Repair::Provable };
        let order = Order { depth: Depth::Names, repair, pace: &|_| Ok(()), traces: None, readers: 1, track: None };
        let examined = self.examine(of.mailbox, &order)?;
        let is_news = |sick: &Sick| !self.ailing.was_asked(sick);
        if examined.as_ref().is_some_and(|examined| examined.sick.iter().any(is_news)) {
            // Bytes are looked for while nobody waits.
            self.ails(of.mailbox);
        }
        match (self.found(of, row, upto)?.messages, examined) {
            (Some(messages), _) => Ok(Listed { messages }),
            (None, Some(examined)) if !examined.changes.is_empty() => {
                Err(StoreError::Busy { why: format!("{} was repaired just now", examined.mailbox) })
            }
            (None, Some(Examined { mailbox, .. })) => {
                let Found { file, usage, modseq, .. } = first;
                let known = |usage: Usage, modseq: u64| format!("{usage}, changes up to {modseq}");
                let settled = upto.settled.as_ref().map_or(0, |row| row.highest_modseq);
                let (found, expected) = (known(usage, modseq), known(row.usage(), settled));
                self.refused(of.mailbox, None, (&file, "messages of a mailbox"), (&found, &expected));
                Err(damaged(&file, "messages of a mailbox", &found, &expected, format!("storectl check '{mailbox}'")))
            }
            (None, None) => Err(StoreError::Busy { why: "the mailbox has just gone".to_owned() }),
        }
    }

    /// One message of a mailbox; `None` if there is none, or not any more.
    ///
    /// # Errors
    /// As [`Store::messages`].
    pub fn message(&self, view: &View, of: &Folder<'_>, row: &MailboxRow, uid: u32) -> Result<Option<Message>> {
        Ok(self.selected(view, of, row, &[uid])?.remove(&uid))
    }

    /// Some messages of a mailbox; those that are not there, or not any more, are not among them.
    pub(super) fn selected(
        &self,
        view: &View,
        of: &Folder<'_>,
        row: &MailboxRow,
        uids: &[u32],
    ) -> Result<BTreeMap<u32, Message>> {
        let (mut found, open) = self.near(view, of, row, uids)?;
        if !open.is_empty() {
            let mut all = self.messages(view, of, row)?.messages;
            found.extend(open.iter().filter_map(|uid| all.remove_entry(uid)));
        }
        Ok(found)
    }

    /// As [`Store::selected`], and nothing is repaired for it, so that it waits for nobody who writes: `None` where nothing proves what there is.
    pub(super) fn selected_as_is(
        &self,
        view: &View,
        of: &Folder<'_>,
        row: &MailboxRow,
        uids: &[u32],
    ) -> Result<Option<BTreeMap<u32, Message>>> {
        let (mut found, open) = self.near(view, of, row, uids)?;
        if !open.is_empty() {
            let Some(mut all) = self.found(of, row, &Upto::of(view, of.mailbox)?)?.messages else { return Ok(None) };
            found.extend(open.iter().filter_map(|uid| all.remove_entry(uid)));
        }
        Ok(Some(found))
    }

    /// What memory and an index that proves it say of some messages, purged ones not among them; and those of which neither does.
    fn near(
        &self,
        view: &View,
        of: &Folder<'_>,
        row: &MailboxRow,
        uids: &[u32],
    ) -> Result<(BTreeMap<u32, Message>, Vec<u32>)> {
        let (mut found, mut below) = (BTreeMap::new(), Vec::new());
        for uid in uids {
            match view.get(Table::Messages, &message_key(of.mailbox, *uid))? {
                Some(row) => drop(found.insert(*uid, MessageRow::decode(&row)?.message()?)),
                None => below.push(*uid),
            }
        }
        if row.uidnext <= 1 {
            below.clear();
        }
        if !below.is_empty()
            && let Some(index) = self.proven_index(view, of)?
        {
            let upto = view.indexed_upto();
            found.extend(below.drain(..).filter_map(|uid| Some((uid, index.message(uid, upto)?.clone()))));
        }
        found.retain(|_, message| message.state != State::Purged);
        Ok((found, below))
    }

    /// The index of a mailbox, if it alone proves what there was at the checkpoint below a view.
    fn proven_index(&self, view: &View, of: &Folder<'_>) -> Result<Option<Arc<Loaded>>> {
        let Some(settled) = settled(view, of.mailbox)? else { return Ok(None) };
        let Some(disk) = self.partitions.disk(&of.partition) else { return Ok(None) };
        let read = self.indexes.load((&of.partition, &*disk), self.partitions.owner(), &place(of)?, self.env.now());
        // What is wrong with it is told by whoever looks at its twin, too.
        Ok(read.ok().filter(|index| index.is_proven(view.indexed_upto(), &settled)))
    }

    /// The indexes that are held in memory.
    #[must_use]
    pub fn indexes_held(&self) -> IndexesHeld {
        self.indexes.held()
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
        let states = match &selection.uids[..] {
            [] => self.messages(view, &of, &row)?.messages,
            uids => self.selected(view, &of, &row, uids)?,
        };
        Ok(Known { mailbox: row.id, indexed_upto: view.indexed_upto(), modseq: row.highest_modseq, states })
    }

    /// The bytes of a message, compared with their digest. Bytes that are damaged or gone are put back, if a copy is near.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if the partition is not there; one with exit status [`exit::DAMAGED`] if no good bytes were found.
    pub fn message_bytes(&self, view: &View, of: &Folder<'_>, message: &Message) -> Result<Vec<u8>> {
        let mut found = self.mail_disks().bytes(view, of, message);
        if found.is_err()
            && let Some(now) = self.moved(of)?
        {
            found = self.mail_disks().bytes(view, &now, message);
        }
        let (what, expected) = match &found {
            Err(StoreError::Corrupt { found, .. }) => (found.clone(), message.digest.to_string()),
            Err(StoreError::Io { source, .. }) => (source.to_string(), format!("{} bytes", message.size)),
            _ => return found,
        };
        if let Some(bytes) = self.heal_on_read(of, message)? {
            return Ok(bytes);
        }
        let file = place(of)?.message(message.uid);
        let file = self.partitions.disk(&of.partition).map_or(file.clone(), |disk| disk.display(&file));
        self.refused(of.mailbox, Some(message.uid), (&file, "bytes of a message"), (&what, &expected));
        Err(damaged(&file, "bytes of a message", &what, &expected, "storectl check --all --deep".to_owned()))
    }

    /// Where a mailbox lies if that is another partition by now: what a reader was told may be older.
    fn moved(&self, of: &Folder<'_>) -> Result<Option<Folder<'static>>> {
        let Some(told) = told(&self.view(), of.mailbox)?.filter(|told| told.row.partition != of.partition) else {
            return Ok(None);
        };
        let home = told.row.home.unwrap_or(told.owner);
        Ok(Some(Folder { partition: Cow::Owned(told.row.partition), home: Cow::Owned(home), mailbox: of.mailbox }))
    }

    /// What index and memory say at a moment, if index and mirror prove that it is all.
    fn found(&self, of: &Folder<'_>, row: &MailboxRow, upto: &Upto) -> Result<Found> {
        let disk = self.partitions.disk(&of.partition).ok_or_else(|| away(&of.partition))?;
        let (place, Upto { indexed: durable, settled, changed }) = (place(of)?, upto);
        let durable = *durable;
        let loaded = match self.indexes.load((&of.partition, &*disk), self.partitions.owner(), &place, self.env.now()) {
            // What is not understood may be damage that a checksum did not see; its twin is asked.
            Err(StoreError::Corrupt { .. }) => Arc::default(),
            other => other?,
        };
        let history = &loaded.history;
        let known = |history: &History| {
            let mut known: BTreeMap<u32, Message> =
                history.at(durable).map(|m| (m.value.uid, m.value.clone())).collect();
            known.extend(changed.iter().map(|(uid, message)| (*uid, message.clone())));
            known.retain(|_, m| m.state != State::Purged);
            known
        };
        let alone = known(history);
        let usage = Counted::of(alone.values()).usage;
        let is_newest = settled.as_ref().is_none_or(|row| history.highest_modseq(durable) >= row.highest_modseq);
        if settled.is_none() || (history.reading.is_whole() && is_newest && usage == row.usage()) {
            return Ok(Found { messages: Some(alone), ..Found::default() });
        }
        let mirror = Manifest::new(&*disk, self.partitions.owner(), &place.home).mailbox(place.id)?;
        let mut history = history.clone();
        let of_mirror = mirror.reading.clone();
        let modseq = settled.as_ref().map_or(0, |row| row.highest_modseq);
        let is_sound = history.is_sound(durable, modseq) && mirror.is_sound(durable, modseq);
        history.merge(mirror);
        let both = known(&history);
        let standing = Standing {
            index: &history.reading,
            mirror: &of_mirror,
            usage: Counted::of(both.values()).usage,
            expected: row.usage(),
            modseq: history.highest_modseq(durable),
            settled: settled.as_ref(),
            durable,
            is_traced: false,
            is_followed: false,
        };
        if standing.is_proven() {
            if !is_sound {
                self.ails(of.mailbox);
            }
            return Ok(Found { messages: Some(both), ..Found::default() });
        }
        Ok(Found { messages: None, file: disk.display(&place.index()), usage: standing.usage, modseq: standing.modseq })
    }
}

/// Something that is damaged and cannot be repaired now.
fn damaged(file: &str, what: &str, found: &str, expected: &str, hint: String) -> StoreError {
    let message = format!("{file}: {what}: found {found}, expected {expected}");
    StoreError::Refused { message, hint, exit: exit::DAMAGED }
}

/// What is known at a moment of a mailbox, beside what its index says.
#[derive(Debug, Clone)]
pub(in crate::store) struct Upto {
    /// The checkpoint up to which the index speaks.
    pub(in crate::store) indexed: Lsn,
    /// The mailbox's row at that checkpoint.
    pub(in crate::store) settled: Option<MailboxRow>,
    /// The messages that changed since.
    pub(in crate::store) changed: BTreeMap<u32, Message>,
}

impl Upto {
    /// The moment of a view.
    pub(in crate::store) fn of(view: &View, mailbox: u64) -> Result<Upto> {
        let (settled, changed) = (settled(view, mailbox)?, changed(view, mailbox)?);
        Ok(Upto { indexed: view.indexed_upto(), settled, changed })
    }
}

/// What was found of the messages of a mailbox.
#[derive(Default)]
struct Found {
    /// All that are there, gone ones not among them; `None`: something may be missing.
    messages: Option<BTreeMap<u32, Message>>,
    file: String,
    usage: Usage,
    /// Newest change of the last checkpoint that is known.
    modseq: u64,
}

/// The messages that the rows of a view know.
pub(super) fn changed(view: &View, mailbox: u64) -> Result<BTreeMap<u32, Message>> {
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

/// The numbers of the mailboxes with messages that the rows of a view know.
pub(in crate::store) fn changed_mailboxes(view: &View) -> Result<BTreeSet<u64>> {
    let mut found = BTreeSet::new();
    view.scan(Table::Messages, Bound::Unbounded, &mut |key, _| {
        found.extend(split_key(key).map(|(id, _)| id));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}
