//! `manifest`: what is known of everything in one home (the directory of a user, or that of shared mailboxes).
//!
//! # Purpose
//! The twin of every `store.idx` below it, and of the rows of the database that are the user's: if one of them is lost,
//! the other still proves it.
//!
//! # Format
//! A journal ([`super::journal`]) with the magic `SdManif1`, whose subject is the user's number, 0 for shared mailboxes. Its
//! frames, integers little-endian:
//!
//! | kind | payload |
//! |---|---|
//! | 1 | mailbox id (8 bytes), head as in `store.idx` |
//! | 2 | mailbox id, message as in `store.idx` |
//! | 3 | table number (1 byte), length of the key (2 bytes), key, row; nothing behind the key: the row is gone |
//! | 4 | mailbox id: the mailbox is gone for good, with what was said of it before |
//!
//! # Operation
//! It grows by what a checkpoint writes to the indexes of that home, in one write ([`Manifest::append`]), so its cost is
//! that of the change, whatever the size of the home. It is made anew when it has doubled ([`Manifest::rewrite`]), from
//! histories that are given one mailbox at a time: 1,000,000 messages are some 130 MB on disk, written once in 1,000,000
//! changes, with one mailbox in memory.
//!
//! # Invariants
//! * Reading holds what is asked for and no more: one mailbox, or the rows.
//! * Of two frames about the same thing the one with the higher LSN counts.

use super::index::{Forsaken, Head, History, KIND_HEAD, KIND_MESSAGE, Kept, Run, Stamped, strange};
use super::journal::{AppendError, Format, Journal, NewFrame, Reading, Size, Writer};
use super::past::Owner;
use super::tree::Home;
use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::lsn::Lsn;
use crate::model::Table;
use crate::model::message::{Digest, Message};
use crate::model::table::KEY_BYTES_MAX;
use std::collections::{BTreeMap, BTreeSet};

const FORMAT: Format = Format { magic: b"SdManif1", version: 1 };
const KIND_ROW: u8 = 3;
const KIND_GONE: u8 = 4;
/// A manifest that has grown by less is not written anew.
pub const OVERGROWN_BYTES: u64 = 1 << 20;

/// Most places that [`Manifest::find`] gives.
const FOUND_MAX: usize = 100_000;

/// Rows by table and key; `None`: it is gone.
pub type MirroredRows = BTreeMap<(Table, Vec<u8>), Stamped<Option<Vec<u8>>>>;

/// By mailbox: the stamp of the newest frame about it, and whether that says that it is gone.
pub type Newest = BTreeMap<u64, (Stamped<()>, bool)>;

/// The manifest of one home.
#[derive(Debug, Clone)]
pub struct Manifest<'d> {
    journal: Journal<'d>,
}

/// Frames for a manifest, in the order in which they are to stand.
#[derive(Debug, Default)]
pub struct Entries(Vec<NewFrame>);

impl Entries {
    /// Adds what a checkpoint writes to a mailbox.
    ///
    /// # Errors
    /// [`StoreError::Bug`] if something in it breaks a limit.
    pub fn run(&mut self, mailbox: u64, run: &Run) -> Result<()> {
        for message in &run.messages {
            self.0.push(message_frame(mailbox, message)?);
        }
        self.0.extend(run.head.as_ref().map(|head| head_frame(mailbox, head)).transpose()?);
        Ok(())
    }

    /// Adds a row of the database, or that it is gone.
    ///
    /// # Errors
    /// [`StoreError::Bug`] for an empty row, or a key longer than any.
    pub fn row(&mut self, table: Table, key: &[u8], row: &Stamped<Option<Vec<u8>>>) -> Result<()> {
        self.0.push(row_frame(table, key, row)?);
        Ok(())
    }

    /// Adds that a mailbox is gone for good.
    pub fn gone(&mut self, mailbox: Stamped<u64>) {
        self.0.push(gone_frame(&mailbox));
    }

    /// True if there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn head_frame(mailbox: u64, head: &Stamped<Head>) -> Result<NewFrame> {
    let payload = [&mailbox.to_le_bytes()[..], &head.value.encode()?].concat();
    Ok(NewFrame { kind: KIND_HEAD, lsn: head.lsn, epoch: head.epoch, payload })
}

fn message_frame(mailbox: u64, message: &Stamped<Message>) -> Result<NewFrame> {
    let mut payload = mailbox.to_le_bytes().to_vec();
    message.value.put(&mut payload)?;
    Ok(NewFrame { kind: KIND_MESSAGE, lsn: message.lsn, epoch: message.epoch, payload })
}

fn gone_frame(mailbox: &Stamped<u64>) -> NewFrame {
    let payload = mailbox.value.to_le_bytes().to_vec();
    NewFrame { kind: KIND_GONE, lsn: mailbox.lsn, epoch: mailbox.epoch, payload }
}

fn row_frame(table: Table, key: &[u8], row: &Stamped<Option<Vec<u8>>>) -> Result<NewFrame> {
    let bytes = row.value.as_deref().unwrap_or_default();
    if key.len() > KEY_BYTES_MAX || row.value.as_ref().is_some_and(Vec::is_empty) {
        return Err(StoreError::Bug(format!("a row of {} with a key of {} bytes", table.name(), key.len())));
    }
    let len = u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes();
    let payload = [&[table as u8][..], &len, key, bytes].concat();
    Ok(NewFrame { kind: KIND_ROW, lsn: row.lsn, epoch: row.epoch, payload })
}

/// What a frame is about, its content not looked at yet.
enum About<'a> {
    Mailbox(u64, u8, &'a [u8]),
    Row(Table, &'a [u8], &'a [u8]),
}

fn about(kind: u8, payload: &[u8]) -> Result<About<'_>, String> {
    let short = || format!("kind {kind} with {} bytes", payload.len());
    match kind {
        KIND_HEAD | KIND_MESSAGE | KIND_GONE => {
            let (id, rest) = payload.split_first_chunk::<8>().ok_or_else(short)?;
            Ok(About::Mailbox(u64::from_le_bytes(*id), kind, rest))
        }
        KIND_ROW => {
            let ([table, low, high], rest) = payload.split_first_chunk::<3>().ok_or_else(short)?;
            let (key, row) = rest.split_at_checked(usize::from(u16::from_le_bytes([*low, *high]))).ok_or_else(short)?;
            let table = Table::from_number(*table).ok_or_else(|| format!("table {table}"))?;
            Ok(About::Row(table, key, row))
        }
        other => Err(format!("kind {other}")),
    }
}

impl<'d> Manifest<'d> {
    /// That of `home`; nothing is opened.
    #[must_use]
    pub fn new(disk: &'d dyn Disk, owner: impl Into<Owner<'d>>, home: &Home) -> Manifest<'d> {
        Manifest { journal: Journal::new(disk, home.manifest(), FORMAT, owner, home.number()) }
    }

    /// Its path as a person would type it.
    #[must_use]
    pub fn display(&self) -> String {
        self.journal.display()
    }

    /// Appends; durable after the next sync of the tree.
    ///
    /// # Errors
    /// [`AppendError`]; all but [`AppendError::Failed`] ask for a [`Manifest::rewrite`]. A part may have been written.
    pub fn append(&self, entries: &Entries) -> Result<Size, AppendError> {
        self.journal.append(&entries.0)
    }

    /// [`Manifest::append`] for a home that may have no manifest yet: then it is made.
    ///
    /// # Errors
    /// As [`Manifest::append`].
    pub fn append_new(&self, entries: &Entries) -> Result<Size, AppendError> {
        self.journal.append_new(&entries.0)
    }

    /// How well it can be read, its content not looked at.
    ///
    /// # Errors
    /// Those of the disk, [`StoreError::Foreign`] for a newer version.
    pub fn reading(&self) -> Result<Reading> {
        self.journal.read(&mut |_| Ok(()))
    }

    fn each(&self, each: &mut dyn FnMut(Stamped<About<'_>>) -> Result<(), String>) -> Result<Reading> {
        self.journal.read(&mut |frame| {
            let (lsn, epoch) = (frame.lsn, frame.epoch);
            about(frame.kind, frame.payload)
                .and_then(|value| each(Stamped { lsn, epoch, value }))
                .map_err(|found| strange(&self.display(), lsn, found))
        })
    }

    /// What it knows of one mailbox.
    ///
    /// # Errors
    /// As `Index::read`.
    pub fn mailbox(&self, id: u64) -> Result<History> {
        Ok(self.histories(&[id].into())?.remove(&id).unwrap_or_default())
    }

    /// What it knows of some mailboxes, in one pass: a history for each.
    ///
    /// # Errors
    /// As `Index::read`.
    pub fn histories(&self, ids: &BTreeSet<u64>) -> Result<BTreeMap<u64, History>> {
        let mut found: BTreeMap<u64, History> = ids.iter().map(|id| (*id, History::default())).collect();
        let reading = self.each(&mut |Stamped { lsn, epoch, value }| {
            let About::Mailbox(id, kind, bytes) = value else { return Ok(()) };
            let Some(history) = found.get_mut(&id) else { return Ok(()) };
            match kind {
                KIND_HEAD => history.take_head(Stamped { lsn, epoch, value: Head::decode(bytes)? }),
                KIND_MESSAGE => history.messages.push(Stamped { lsn, epoch, value: Message::decode(bytes)? }),
                _ => history.forget(lsn),
            }
            Ok(())
        })?;
        found.values_mut().for_each(|history| history.finish(reading.clone()));
        Ok(found)
    }

    /// What it says of a history that was given up, by mailbox.
    ///
    /// # Errors
    /// As `Index::read`.
    pub fn given_up(&self) -> Result<BTreeMap<u64, Forsaken>> {
        let mut found: BTreeMap<u64, Forsaken> = BTreeMap::new();
        self.journal.read_given_up(&mut |frame| {
            let taken = about(frame.kind, frame.payload).and_then(|about| match about {
                About::Mailbox(id, kind, bytes) => found.entry(id).or_default().take(kind, bytes),
                About::Row(..) => Ok(()),
            });
            taken.map_err(|found| strange(&self.display(), frame.lsn, found))
        })?;
        Ok(found)
    }

    /// Where it knows of messages with these digests: digest, mailbox id, UID. They may have gone since.
    ///
    /// # Errors
    /// As `Index::read`.
    pub fn find(&self, digests: &BTreeSet<Digest>) -> Result<Vec<(Digest, u64, u32)>> {
        let mut found = Vec::new();
        self.each(&mut |Stamped { value, .. }| {
            if let About::Mailbox(id, KIND_MESSAGE, bytes) = value {
                let message = Message::decode(bytes)?;
                if digests.contains(&message.digest) && found.len() < FOUND_MAX {
                    found.push((message.digest, id, message.uid));
                }
            }
            Ok(())
        })?;
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// The mailboxes it knows of; of those that are gone, since when.
    ///
    /// # Errors
    /// As `Index::read`.
    pub fn mailboxes(&self) -> Result<BTreeMap<u64, Option<Stamped<u64>>>> {
        let (found, _) = self.newest()?;
        let gone = |(id, (stamp, gone)): (u64, (Stamped<()>, bool))| {
            (id, gone.then_some(Stamped { lsn: stamp.lsn, epoch: stamp.epoch, value: id }))
        };
        Ok(found.into_iter().map(gone).collect())
    }

    /// The newest frame about each mailbox it knows of, and whether that says that it is gone; and how well it could be read.
    ///
    /// # Errors
    /// As `Index::read`.
    pub fn newest(&self) -> Result<(Newest, Reading)> {
        let mut found = Newest::new();
        let reading = self.each(&mut |Stamped { lsn, epoch, value }| {
            if let About::Mailbox(id, kind, _) = value {
                let now = (Stamped { lsn, epoch, value: () }, kind == KIND_GONE);
                match found.get_mut(&id) {
                    Some(known) if known.0.lsn > lsn => {}
                    Some(known) => *known = now,
                    None => drop(found.insert(id, now)),
                }
            }
            Ok(())
        })?;
        Ok((found, reading))
    }

    /// Calls `each` with the newest head of each of these mailboxes of which it has one, in no order; so that a million of them
    /// need not be in memory at once.
    ///
    /// # Errors
    /// As `Index::read`; those of `each`.
    pub fn heads(&self, of: &BTreeSet<u64>, each: &mut dyn FnMut(u64, Stamped<Head>) -> Result<()>) -> Result<()> {
        let mut newest: BTreeMap<u64, Lsn> = BTreeMap::new();
        self.each(&mut |Stamped { lsn, value, .. }| {
            if let About::Mailbox(id, KIND_HEAD, _) = value
                && of.contains(&id)
            {
                let known = newest.entry(id).or_insert(lsn);
                *known = lsn.max(*known);
            }
            Ok(())
        })?;
        let mut failed = Ok(());
        self.each(&mut |Stamped { lsn, epoch, value }| {
            let About::Mailbox(id, KIND_HEAD, bytes) = value else { return Ok(()) };
            if failed.is_ok() && newest.get(&id) == Some(&lsn) {
                newest.remove(&id);
                failed = each(id, Stamped { lsn, epoch, value: Head::decode(bytes)? });
            }
            Ok(())
        })?;
        failed
    }

    /// The newest state of every row it knows of, and how well it could be read.
    ///
    /// # Errors
    /// As `Index::read`.
    pub fn rows(&self) -> Result<(MirroredRows, Reading)> {
        let mut rows = MirroredRows::new();
        let reading = self.each(&mut |Stamped { lsn, epoch, value }| {
            let About::Row(table, key, row) = value else { return Ok(()) };
            let value = (!row.is_empty()).then(|| row.to_vec());
            let known = rows.entry((table, key.to_vec())).or_insert(Stamped { lsn, epoch, value: None });
            if known.lsn <= lsn {
                *known = Stamped { lsn, epoch, value };
            }
            Ok(())
        })?;
        Ok((rows, reading))
    }

    /// Makes the manifest anew: durable when it returns. Rows that are gone are left out; of mailboxes every moment from `keep_from` on shows
    /// what it showed, and each to which somebody may go back, as in `Index::rewrite`.
    ///
    /// # Errors
    /// Those of the disk and of `histories`, which puts one mailbox after the other; the old one is then still there unless
    /// the rename was done.
    pub fn rewrite(
        &self,
        rows: &MirroredRows,
        keep_from: Lsn,
        histories: &mut dyn FnMut(&mut Mirror<'_, '_>) -> Result<()>,
    ) -> Result<Size> {
        self.journal.rewrite(&mut |writer| {
            for ((table, key), row) in rows.iter().filter(|(_, row)| row.value.is_some()) {
                writer.put(&row_frame(*table, key, row)?)?;
            }
            let moments = self.journal.past().moments();
            histories(&mut Mirror { writer, kept: Kept { keep_from, moments } })
        })
    }
}

/// Takes mailboxes for a manifest that is made anew.
#[derive(Debug)]
pub struct Mirror<'m, 'j> {
    writer: &'m mut Writer<'j>,
    kept: Kept,
}

impl Mirror<'_, '_> {
    /// Writes the states of a mailbox that any moment shows which is kept; purged messages too, as long as its index knows them.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn put(&mut self, mailbox: u64, history: &History) -> Result<()> {
        for kept in history.kept_messages(&self.kept) {
            kept.into_iter().try_for_each(|m| self.writer.put(&message_frame(mailbox, m)?))?;
        }
        history.kept_heads(&self.kept).into_iter().try_for_each(|head| self.writer.put(&head_frame(mailbox, head)?))
    }

    /// Writes what a mailbox is that never had a message.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn head(&mut self, mailbox: u64, head: &Stamped<Head>) -> Result<()> {
        self.writer.put(&head_frame(mailbox, head)?)
    }

    /// Writes that a mailbox is gone for good.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn gone(&mut self, mailbox: &Stamped<u64>) -> Result<()> {
        self.writer.put(&gone_frame(mailbox))
    }
}
