//! `store.idx`: what a mailbox is and the state of every message in it.
//!
//! # Purpose
//! With it, a partition can give back a mailbox of which the database knows nothing: names, rights, UIDs, flags, dates and
//! deletions.
//!
//! # Format
//! A journal ([`super::journal`]) with the magic `SdIndex1`, whose subject is the mailbox id. Its frames:
//!
//! | kind | payload |
//! |---|---|
//! | 1 | [`Head`]: what the database knows of the mailbox |
//! | 2 | `model::message::Message`: the state of one message from now on |
//!
//! A head is, little-endian: version (1) and three zero bytes, when the mailbox was deleted (8 bytes, microseconds since
//! 1970, 0: it is not), then five texts, each a length in 4 bytes and that many bytes: key of the name, directory of the
//! owner, key of the quota root (empty: none), the mailbox's row (`model::rows`), and its keywords, each a length in one byte
//! and its text.
//!
//! # Operation
//! A checkpoint appends one run to each index, made of the newest state of what changed ([`Index::write`]). A state is taken in
//! full, so a frame that comes twice is harmless (I5). [`Index::read`] gives the [`History`]: all frames that are there, of
//! which [`History::at`] shows one moment. Two histories of one mailbox, from the index and from its mirror, are merged
//! frame by frame, because a frame is right or it is not.
//!
//! # Invariants
//! * Of two states of a message the one with the higher LSN counts.
//! * A head stands behind the changes that its modseq counts: whoever reads it in a journal without a gap has them all. An index whose
//!   heads tell less than the database's row is older than that, however whole it is.
//! * [`Index::rewrite`] keeps what any moment from `keep_from` on shows, and what each moment shows to which somebody may go back
//!   (`Past::moments`), heads too. A purged message is left out once its file is gone and none of those shows it; that its UID is never given
//!   again is the head's matter (UIDNEXT). The newest change of each such moment stays, purged or not.

use super::journal::{AppendError, Format, Journal, NewFrame, Reading, Size, Writer};
use super::past::Owner;
use super::tree::Place;
use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn};
use crate::model::message::{Message, State, check_keyword};
use crate::model::rows::{MailboxRow, Row};
use crate::model::user::SHARED_DIRECTORY;
use std::collections::BTreeSet;

const FORMAT: Format = Format { magic: b"SdIndex1", version: 1 };
pub(super) const KIND_HEAD: u8 = 1;
pub(super) const KIND_MESSAGE: u8 = 2;
const HEAD_VERSION: u8 = 1;
/// Most bytes of keywords in a head.
pub const HEAD_KEYWORD_BYTES_MAX: usize = 32 << 10;
/// An index that has grown by less is not written anew.
pub const OVERGROWN_BYTES: u64 = 64 << 10;

/// What the database knows of a mailbox, as its partition repeats it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Key of its name, as last known.
    pub name: Vec<u8>,
    /// Directory of its owner, [`SHARED_DIRECTORY`] for none.
    pub owner: String,
    /// Key of the quota root it counts in; empty: none.
    pub quota_root: Vec<u8>,
    /// When it was deleted, microseconds since 1970; 0: it is not.
    pub deleted_us: u64,
    /// Keywords in use, as many as fit [`HEAD_KEYWORD_BYTES_MAX`]: what a message has stands in its own frame.
    pub keywords: Vec<String>,
    /// Its row: id, partition, UIDVALIDITY, UIDNEXT, highest modseq, counts, rights.
    pub row: MailboxRow,
}

impl Head {
    /// The encoded head.
    ///
    /// # Errors
    /// [`StoreError::Bug`] if the row cannot be encoded.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut keywords = Vec::new();
        for keyword in self.keywords.iter().filter(|k| check_keyword(k).is_ok()) {
            if keywords.len() + keyword.len() >= HEAD_KEYWORD_BYTES_MAX {
                break;
            }
            keywords.push(u8::try_from(keyword.len()).unwrap_or(u8::MAX));
            keywords.extend_from_slice(keyword.as_bytes());
        }
        let row = self.row.encode()?;
        let mut out = vec![HEAD_VERSION, 0, 0, 0];
        out.extend_from_slice(&self.deleted_us.to_le_bytes());
        for text in [&self.name[..], self.owner.as_bytes(), &self.quota_root, &row, &keywords] {
            out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
            out.extend_from_slice(text);
        }
        Ok(out)
    }

    /// Reads an encoded head; every byte must be used.
    ///
    /// # Errors
    /// What was found, as text.
    pub fn decode(bytes: &[u8]) -> Result<Head, String> {
        let fixed = bytes.first_chunk::<12>().ok_or_else(|| format!("a head of {} bytes", bytes.len()))?;
        if fixed[..4] != [HEAD_VERSION, 0, 0, 0] {
            return Err(format!("version {:02x?} of a head", &fixed[..4]));
        }
        let mut rest = &bytes[12..];
        let mut text = || {
            let (len, more) = rest.split_first_chunk::<4>()?;
            let (text, more) = more.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
            rest = more;
            Some(text)
        };
        let texts = [text(), text(), text(), text(), text()];
        let ([Some(name), Some(owner), Some(root), Some(row), Some(mut words)], []) = (texts, rest) else {
            return Err(format!("a head with {} bytes behind it", rest.len()));
        };
        let owner = std::str::from_utf8(owner).map_err(|e| e.to_string())?.to_owned();
        let row = MailboxRow::decode(name, row).map_err(|e| e.to_string())?;
        let mut keywords = Vec::new();
        while let Some((len, more)) = words.split_first() {
            let (word, more) = more.split_at_checked(usize::from(*len)).ok_or("a keyword that ends too early")?;
            let word = std::str::from_utf8(word).ok().filter(|w| check_keyword(w).is_ok()).ok_or("a bad keyword")?;
            keywords.push(word.to_owned());
            words = more;
        }
        let deleted_us = u64::from_le_bytes(std::array::from_fn(|n| fixed[4 + n]));
        Ok(Head { name: name.to_vec(), owner, quota_root: root.to_vec(), deleted_us, keywords, row })
    }

    /// True if it belongs to no user.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.owner == SHARED_DIRECTORY
    }
}

/// Something, and the record that made it so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamped<T> {
    /// LSN of the record.
    pub lsn: Lsn,
    /// Epoch of that LSN.
    pub epoch: Epoch,
    /// What.
    pub value: T,
}

/// What a checkpoint writes to one mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Run {
    /// What it is, if that changed.
    pub head: Option<Stamped<Head>>,
    /// Messages that changed.
    pub messages: Vec<Stamped<Message>>,
}

impl Run {
    /// True if there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.head.is_none() && self.messages.is_empty()
    }

    fn frames(&self) -> Result<Vec<NewFrame>> {
        let head = self.head.as_ref().map(head_frame);
        self.messages.iter().map(message_frame).chain(head).collect()
    }
}

fn head_frame(head: &Stamped<Head>) -> Result<NewFrame> {
    Ok(NewFrame { kind: KIND_HEAD, lsn: head.lsn, epoch: head.epoch, payload: head.value.encode()? })
}

fn message_frame(message: &Stamped<Message>) -> Result<NewFrame> {
    let mut payload = Vec::new();
    message.value.put(&mut payload)?;
    Ok(NewFrame { kind: KIND_MESSAGE, lsn: message.lsn, epoch: message.epoch, payload })
}

/// Every state of a mailbox that was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// The newest head.
    pub head: Option<Stamped<Head>>,
    /// Heads before it, in no order; those that count, [`History::reached`] tells.
    pub older: Vec<Stamped<Head>>,
    /// By UID and LSN, no two with the same ones.
    pub messages: Vec<Stamped<Message>>,
    /// How well it could be read.
    pub reading: Reading,
    /// Highest modseq that each head told, with the head's LSN: all changes up to it stand before that head. Empty if something is missing.
    pub reached: Vec<(Lsn, u64)>,
}

impl History {
    /// Takes a head, if it is newer than the one that is known.
    pub fn take_head(&mut self, head: Stamped<Head>) {
        self.reached.push((head.lsn, head.value.row.highest_modseq));
        match &self.head {
            Some(known) if known.lsn > head.lsn => self.older.push(head),
            Some(known) if known.lsn == head.lsn => self.head = Some(head),
            _ => self.older.extend(self.head.replace(head)),
        }
    }

    /// All of it was read, this well.
    pub(super) fn finish(&mut self, reading: Reading) {
        if !reading.is_whole() {
            self.reached.clear();
            self.older.clear();
        }
        self.reading = reading;
        self.sort();
    }

    /// Forgets what was said up to `lsn`.
    pub(super) fn forget(&mut self, lsn: Lsn) {
        self.messages.retain(|m| m.lsn > lsn);
        self.reached.retain(|(at, _)| *at > lsn);
        self.older.retain(|head| head.lsn > lsn);
        self.head = self.head.take().filter(|head| head.lsn > lsn);
    }

    pub(super) fn sort(&mut self) {
        self.messages.sort_by_key(|m| (m.value.uid, m.lsn));
        // Of frames written twice the later one stays.
        self.messages.dedup_by(|later, earlier| {
            let same = (later.value.uid, later.lsn) == (earlier.value.uid, earlier.lsn);
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
    }

    /// Adds what another one knows; how this one was read stays.
    pub fn merge(&mut self, other: History) {
        // The head of a journal that has lost something says nothing of what it has.
        let reached = self.reached.len();
        other.head.into_iter().for_each(|head| self.take_head(head));
        self.reached.truncate(reached);
        self.reached.extend(other.reached);
        self.older.extend(other.older);
        self.messages.extend(other.messages);
        self.sort();
    }

    /// The messages at one moment, by UID: of each the newest state at or below `upto`, expunged and purged ones too.
    pub fn at(&self, upto: Lsn) -> impl Iterator<Item = &Stamped<Message>> {
        let groups = self.messages.chunk_by(|a, b| a.value.uid == b.value.uid);
        groups.filter_map(move |states| states.iter().rev().find(|m| m.lsn <= upto))
    }

    /// The state of one message at a moment, as [`History::at`] has it.
    #[must_use]
    pub fn state(&self, uid: u32, upto: Lsn) -> Option<&Stamped<Message>> {
        let from = self.messages.partition_point(|m| m.value.uid < uid);
        let states = self.messages[from..].iter().take_while(|m| m.value.uid == uid && m.lsn <= upto);
        states.last()
    }

    /// Highest modseq of which everything up to it is there, at or below `upto`; 0 if there is nothing. The heads tell; of a moment of which
    /// none is kept, the messages do. A mailbox whose row says more has lost changes.
    #[must_use]
    pub fn highest_modseq(&self, upto: Lsn) -> u64 {
        let told = self.reached.iter().filter(|(lsn, _)| *lsn <= upto).map(|(_, modseq)| *modseq);
        told.max().unwrap_or_else(|| self.newest_message(upto))
    }

    /// The heads that a journal goes on having which is made anew: the newest, and what the moments of which [`Kept`] knows show, as far as
    /// nothing was missing where they stood.
    pub(super) fn kept_heads(&self, kept: &Kept) -> Vec<&Stamped<Head>> {
        let told: BTreeSet<Lsn> = self.reached.iter().map(|(lsn, _)| *lsn).collect();
        let mut older: Vec<&Stamped<Head>> = self.older.iter().filter(|head| told.contains(&head.lsn)).collect();
        older.sort_by_key(|head| head.lsn);
        older.dedup_by_key(|head| head.lsn);
        older.extend(&self.head);
        kept.of(older.len(), &|n| older[n].lsn).into_iter().map(|n| older[n]).collect()
    }

    /// The states of messages that it goes on having, of one message after the other.
    pub(super) fn kept_messages(&self, kept: &Kept) -> impl Iterator<Item = Vec<&Stamped<Message>>> {
        let groups = self.messages.chunk_by(|a, b| a.value.uid == b.value.uid);
        groups.map(|states| kept.of(states.len(), &|n| states[n].lsn).into_iter().map(|n| &states[n]).collect())
    }

    fn newest_message(&self, upto: Lsn) -> u64 {
        self.at(upto).map(|m| m.value.modseq).max().unwrap_or(0)
    }

    /// True if everything up to `durable` is there, the last of it with this modseq (0: nothing is). What a crash tore behind that is no
    /// damage: the next checkpoint writes it again.
    #[must_use]
    pub fn is_sound(&self, durable: Lsn, modseq: u64) -> bool {
        let Reading { is_there, generation, .. } = self.reading;
        // The last frame of a checkpoint is the head.
        let is_newest = |head: &Stamped<Head>| head.lsn > durable || head.value.row.highest_modseq >= modseq;
        let has_all = self.newest_message(durable) >= modseq && self.head.as_ref().is_some_and(is_newest);
        let reaches = modseq == 0 || (generation.is_some() && has_all);
        is_there && (self.reading.is_whole() || (reaches && !self.reading.is_damaged(durable)))
    }
}

/// What is to be known of a history of a mailbox that was given up: numbers that were given in it, and what it took away.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Forsaken {
    /// Frames of it.
    pub frames: u64,
    /// No UID from here on was given.
    pub uidnext: u32,
    /// Highest modseq.
    pub modseq: u64,
    /// Messages that were purged: their files may be gone.
    pub purged: BTreeSet<u32>,
    /// All of them were, with the mailbox.
    pub is_gone: bool,
}

impl Forsaken {
    pub(super) fn take(&mut self, kind: u8, payload: &[u8]) -> Result<(), String> {
        self.frames += 1;
        match kind {
            KIND_HEAD => {
                let row = Head::decode(payload)?.row;
                (self.uidnext, self.modseq) = (self.uidnext.max(row.uidnext), self.modseq.max(row.highest_modseq));
            }
            KIND_MESSAGE => {
                let message = Message::decode(payload)?;
                self.uidnext = self.uidnext.max(message.uid.saturating_add(1));
                self.modseq = self.modseq.max(message.modseq);
                self.purged.extend((message.state == State::Purged).then_some(message.uid));
            }
            // Of a manifest.
            _ => self.is_gone = true,
        }
        Ok(())
    }

    /// With what the twin says.
    #[must_use]
    pub fn and(mut self, other: Forsaken) -> Forsaken {
        self.frames += other.frames;
        (self.uidnext, self.modseq) = (self.uidnext.max(other.uidnext), self.modseq.max(other.modseq));
        self.purged.extend(other.purged);
        self.is_gone |= other.is_gone;
        self
    }
}

/// The index of one mailbox.
#[derive(Debug, Clone)]
pub struct Index<'d> {
    journal: Journal<'d>,
}

impl<'d> Index<'d> {
    /// That of the mailbox at `place`; nothing is opened.
    #[must_use]
    pub fn new(disk: &'d dyn Disk, owner: impl Into<Owner<'d>>, place: &Place) -> Index<'d> {
        Index { journal: Journal::new(disk, place.index(), FORMAT, owner, place.id) }
    }

    /// Its path as a person would type it.
    #[must_use]
    pub fn display(&self) -> String {
        self.journal.display()
    }

    /// Appends a run; durable after the next sync of the tree.
    ///
    /// # Errors
    /// [`AppendError`]; all but [`AppendError::Failed`] ask for a [`Index::rewrite`]. A part of the run may have been written.
    pub fn write(&self, run: &Run) -> Result<Size, AppendError> {
        self.journal.append(&run.frames()?)
    }

    /// [`Index::write`] behind a head that counts all changes up to this modseq, or more.
    ///
    /// # Errors
    /// As [`Index::write`]; [`AppendError::Older`] if the last frame is no such head.
    pub fn write_behind(&self, run: &Run, modseq: u64) -> Result<Size, AppendError> {
        let reaches = |frame: &NewFrame| self.reach_of(frame).is_some_and(|reached| reached >= modseq);
        self.journal.append_behind(&run.frames()?, &|last| last.is_some_and(reaches))
    }

    /// How far a head says that everything is there; `None` for what is none, or was given up.
    fn reach_of(&self, frame: &NewFrame) -> Option<u64> {
        let counts = frame.kind == KIND_HEAD && !self.journal.past().given_up().holds(frame.lsn, frame.epoch);
        let head = counts.then(|| Head::decode(&frame.payload).ok()).flatten();
        head.map(|head| head.row.highest_modseq)
    }

    /// [`Index::write`] for a mailbox that may have no index yet: then it is made.
    ///
    /// # Errors
    /// As [`Index::write`].
    pub fn write_new(&self, run: &Run) -> Result<Size, AppendError> {
        self.journal.append_new(&run.frames()?)
    }

    /// How well it can be read, its content not looked at.
    ///
    /// # Errors
    /// Those of the disk, [`StoreError::Foreign`] for a newer version.
    pub fn reading(&self) -> Result<Reading> {
        self.journal.read(&mut |_| Ok(()))
    }

    /// Highest modseq of its newest state, where one read tells it: [`History::highest_modseq`] of an index that ends with a head, as a
    /// checkpoint leaves it. `None`: it is to be read.
    ///
    /// # Errors
    /// Those of the disk, [`StoreError::Foreign`] for a newer version.
    pub fn last_modseq(&self) -> Result<Option<u64>> {
        // What is damaged in the midst of it is not seen: whoever reads it sees that.
        Ok(self.journal.tail()?.and_then(|frame| self.reach_of(&frame)))
    }

    /// Reads all of it. An index that is not there is an empty history without a generation.
    ///
    /// # Errors
    /// [`StoreError::Foreign`] for a newer version, [`StoreError::Corrupt`] for a good frame that this program
    /// does not understand, those of the disk.
    pub fn read(&self) -> Result<History> {
        let mut history = History::default();
        let reading = self.journal.read(&mut |frame| {
            let (lsn, epoch) = (frame.lsn, frame.epoch);
            let strange = |found: String| strange(&self.display(), lsn, found);
            match frame.kind {
                KIND_HEAD => {
                    let value = Head::decode(frame.payload).map_err(strange)?;
                    history.take_head(Stamped { lsn, epoch, value });
                }
                KIND_MESSAGE => {
                    let value = Message::decode(frame.payload).map_err(strange)?;
                    history.messages.push(Stamped { lsn, epoch, value });
                }
                other => return Err(strange(format!("kind {other}"))),
            }
            Ok(())
        })?;
        history.finish(reading);
        Ok(history)
    }

    /// What it says of a history that was given up.
    ///
    /// # Errors
    /// As [`Index::read`].
    pub fn given_up(&self) -> Result<Forsaken> {
        let mut forsaken = Forsaken::default();
        self.journal.read_given_up(&mut |frame| {
            let taken = forsaken.take(frame.kind, frame.payload);
            taken.map_err(|found| strange(&self.display(), frame.lsn, found))
        })?;
        Ok(forsaken)
    }

    /// Makes the index anew from a history: durable when it returns. Every moment from `keep_from` on shows what it showed, but for
    /// purged messages of which `has_file` says that the file is gone.
    ///
    /// # Errors
    /// Those of the disk and of `has_file`; the old index is then still there unless the rename was done.
    pub fn rewrite(&self, history: &History, keep_from: Lsn, has_file: &dyn Fn(u32) -> Result<bool>) -> Result<Size> {
        self.journal.rewrite(&mut |writer| self.fill(writer, history, keep_from, has_file))
    }

    /// [`Index::rewrite`] with a history in which something is missing, which the index then says ([`Journal::rewrite_short`]).
    ///
    /// # Errors
    /// As [`Index::rewrite`].
    pub fn rewrite_short(
        &self,
        history: &History,
        keep_from: Lsn,
        has_file: &dyn Fn(u32) -> Result<bool>,
    ) -> Result<Size> {
        self.journal.rewrite_short(&mut |writer| self.fill(writer, history, keep_from, has_file))
    }

    fn fill(
        &self,
        writer: &mut Writer<'_>,
        history: &History,
        keep_from: Lsn,
        has_file: &dyn Fn(u32) -> Result<bool>,
    ) -> Result<()> {
        let shown = Kept { keep_from, moments: self.journal.past().moments() };
        // By the newest change of a moment it is known later that none is missing.
        let moments = shown.moments.iter().flatten().copied().chain([keep_from]);
        let newest: BTreeSet<u64> = moments.map(|moment| history.newest_message(moment)).collect();
        for kept in history.kept_messages(&shown) {
            if let [only] = kept[..]
                && only.value.state == State::Purged
                && only.lsn <= keep_from
                && !newest.contains(&only.value.modseq)
                && !has_file(only.value.uid)?
            {
                continue;
            }
            kept.into_iter().try_for_each(|m| writer.put(&message_frame(m)?))?;
        }
        history.kept_heads(&shown).into_iter().try_for_each(|head| writer.put(&head_frame(head)?))
    }
}

/// What a journal that is made anew goes on showing.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    /// Every moment from here on.
    pub keep_from: Lsn,
    /// And each of these, in order; where nobody knows which these are, all.
    pub moments: Option<Vec<Lsn>>,
}

impl Kept {
    /// Which of the `states` of one thing, by LSN, are shown then.
    fn of(&self, states: usize, lsn: &dyn Fn(usize) -> Lsn) -> Vec<usize> {
        let Some(moments) = &self.moments else { return (0..states).collect() };
        let shown_at = |moment: Lsn| (0..states).rfind(|n| lsn(*n) <= moment);
        let from = shown_at(self.keep_from).unwrap_or(0);
        let mut kept: Vec<usize> =
            moments.iter().filter_map(|moment| shown_at(*moment)).filter(|n| *n < from).collect();
        kept.extend(from..states);
        // Moments are in order, and so is what they show.
        kept.dedup();
        kept
    }
}

/// A frame whose checksums are right and whose content is not understood: a newer program wrote it.
pub(super) fn strange(file: &str, lsn: Lsn, found: String) -> StoreError {
    StoreError::Corrupt {
        file: file.to_owned(),
        offset: 0,
        what: format!("frame of LSN {lsn}"),
        found,
        expected: "what this program knows".to_owned(),
    }
}
