//! Files that no state of a message belongs to: given back, taken in, or shown where their owner finds them; and what that changes in rows.

use super::case::{Case, Counted, Eye};
use super::mend::{COUNTS, Examined, Fate, Leftover, Repair, is_body};
use super::told::told;
use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::model::command::{Mend, Salvage};
use crate::model::message::{Digest, Flags, Message, State};
use crate::model::name::owner_of;
use crate::model::rows::{MailboxRow, Row};
use crate::model::{Command, Folder, MailboxName, Rows, Table};
use crate::partition::bodies::{self, Body};
use crate::partition::mend;
use crate::partition::survey::{Depth, What};
use crate::partition::tree::Place;
use crate::planted::{self, Bug};
use crate::store::Store;
use crate::store::commit::{CommitError, lock};
use std::collections::{BTreeMap, BTreeSet};

/// Last component of the name of the mailbox that shows what could not be proven to belong elsewhere.
pub const RECOVERED: &str = "Recovered";
/// Messages of one command, at the most.
const AT_ONCE: usize = 5000;
/// What one of them takes in a record: its state, where it lies, where its bytes are.
const MESSAGE_BYTES: usize = 512;
/// No door takes a longer message (`lmtp.max_message`): a longer file stays a finding.
const STRAY_BYTES_MAX: u64 = 1 << 30;
/// A file with a UID so far above all others does not move them.
const UID_JUMP_MAX: u32 = 1 << 20;

impl Store {
    /// Bytes that a repair puts into one transaction: far below what fits into a record, which the length of log files limits.
    pub(in crate::store) fn piece_bytes(&self) -> usize {
        crate::wal::payload_bytes_max(self.options.segment_size) / 2
    }

    /// Messages that a repair puts into one transaction.
    pub(in crate::store) fn piece(&self) -> usize {
        (self.piece_bytes() / MESSAGE_BYTES).clamp(1, AT_ONCE)
    }

    /// The files that nothing knows, as messages.
    pub(super) fn strangers(&self, case: &Case, readers: usize) -> Vec<Message> {
        let unknown: Vec<u32> = case.survey.strays.iter().copied().collect();
        let read = bodies::each_by_several(&unknown, readers, |uid| self.stray(&*case.disk, &case.place, *uid));
        read.into_iter().flatten().collect()
    }

    /// A file that nothing knows, as a message; `None` if it cannot be read: it stays a finding.
    fn stray(&self, disk: &dyn Disk, place: &Place, uid: u32) -> Option<Message> {
        let path = place.message(uid);
        let read = || Ok((bodies::look(disk, place, uid, STRAY_BYTES_MAX)?, disk.stamp(&path)?));
        let fail = |e: &std::io::Error| {
            tracing::warn!(event = "stray_file_unreadable", file = disk.display(&path), error = %e);
        };
        let ((Body { size, digest }, header_size), stamp) = read().inspect_err(fail).ok()?;
        let modified = stamp.and_then(|stamp| u64::try_from(stamp.modified / 1000).ok());
        let internal_us = modified.unwrap_or_else(|| self.env.now().0);
        Some(Message {
            uid,
            state: State::Live,
            flags: Flags::NONE,
            keywords: BTreeSet::new(),
            modseq: 0,
            size,
            header_size,
            internal_us,
            saved_us: internal_us,
            expunged_us: 0,
            digest,
        })
    }

    /// Shows files of a directory of which nobody knows what mailbox it was in the folder [`RECOVERED`] of `user` (none: in that of shared
    /// mailboxes), with flags and dates as far as they are known. What was done, and what is left for [`Store::settle`].
    ///
    /// # Errors
    /// What refuses it: there is no such user. Those of the store.
    pub fn show_loose(
        &self,
        of: &Folder<'static>,
        user: Option<&str>,
        files: &[(u32, Option<Message>)],
    ) -> Result<Examined> {
        let place = super::source::place(of)?;
        let disk = self.partitions.disk(&of.partition).ok_or_else(|| super::source::away(&of.partition))?;
        let mut examined = Examined { mailbox: disk.display(&place.path()), ..Examined::default() };
        for files in files.chunks(AT_ONCE) {
            let found = files.iter().filter_map(|(uid, known)| {
                let stray = self.stray(&*disk, &place, *uid)?;
                let is_it = |known: &&Message| (known.size, known.digest) == (stray.size, stray.digest);
                Some(known.as_ref().filter(is_it).cloned().unwrap_or(stray))
            });
            self.salvage(of, user, &found.collect::<Vec<_>>(), &mut examined)?;
        }
        Ok(examined)
    }

    /// Gives files under wrong names to the messages that lack them, by digest.
    pub(super) fn put_in_place(&self, case: &Case, unknown: &mut Vec<Message>, examined: &mut Examined) -> Result<()> {
        let lacking = case.uids(&[What::FileMissing]);
        let mut lacking: BTreeMap<Digest, u32> =
            lacking.iter().filter_map(|uid| Some((case.message(*uid)?.digest, *uid))).collect();
        let mut left = Vec::new();
        for stranger in std::mem::take(unknown) {
            let Some(uid) = lacking.remove(&stranger.digest) else {
                if !self.is_spare(case, &stranger, examined)? {
                    left.push(stranger);
                }
                continue;
            };
            let writer = lock(&self.db);
            if self.is_stray(case, stranger.uid)? && !bodies::is_there(&*case.disk, &case.place, uid)? {
                mend::rename(&*case.disk, &case.place, stranger.uid, uid)?;
                examined.changes.push(format!("message {uid}: its file had the name of {}", stranger.uid));
                examined.fate(|of, what| of == Some(uid) && is_body(what), Fate::Mended);
                examined.fate_of_strays(&[stranger.uid].into(), Fate::Mended);
            }
            drop(writer);
        }
        *unknown = left;
        Ok(())
    }

    /// True if a file that was looked at is still there, and still nobody's: the mailbox may have given its UID to a message since. To be asked
    /// as the one who writes to the partition.
    fn is_stray(&self, case: &Case, uid: u32) -> Result<bool> {
        if !bodies::is_there(&*case.disk, &case.place, uid)? {
            return Ok(false);
        }
        if planted::on(Bug::StrayNotLookedAtAgain) {
            return Ok(true);
        }
        let now = told(&self.view(), case.row.id)?;
        if now.as_ref().is_some_and(|now| now.row == case.row) {
            return Ok(true);
        }
        let none = BTreeSet::new();
        let eye = Eye { depth: Depth::Names, deep: &none, pace: &|_| Ok(()), readers: 1, within: None };
        let now = self.case(case.row.id, eye, None)?;
        Ok(now.is_some_and(|now| now.place == case.place && now.message(uid).is_none()))
    }

    /// Moves a file into the quarantine that has the bytes of a message which has a good file, where all messages are known: as a repair
    /// leaves it that was broken off while it gave a file another name. True if it did.
    fn is_spare(&self, case: &Case, stranger: &Message, examined: &mut Examined) -> Result<bool> {
        let body = Body { size: stranger.size, digest: stranger.digest };
        let is_good = |uid| bodies::compare(&*case.disk, &case.place, uid, body).is_ok_and(|found| found == body);
        let same = case.survey.known.iter().map(|m| &m.value).filter(|m| m.digest == stranger.digest);
        let Some(twin) = same.map(|m| m.uid).find(|uid| case.is_proven() && is_good(*uid)) else { return Ok(false) };
        let writer = lock(&self.db);
        if !self.is_stray(case, stranger.uid)? {
            return Ok(true);
        }
        mend::set_aside(&*case.disk, &case.place, stranger.uid)?;
        drop(writer);
        examined.changes.push(format!("file {}: the same as message {twin}, moved to the quarantine", stranger.uid));
        examined.fate_of_strays(&[stranger.uid].into(), Fate::Mended);
        Ok(true)
    }

    /// Counts, adoption, salvage.
    pub(super) fn mend_rows(
        &self,
        case: &Case,
        repair: Repair,
        mut unknown: Vec<Message>,
        examined: &mut Examined,
    ) -> Result<bool> {
        let counted = case.counted();
        let adds_up = case.adds_up() && counted.usage.plus(Counted::of(&unknown).usage) == case.row.usage();
        if adds_up && counted.unseen == case.row.unseen {
            unknown.iter_mut().for_each(|message| message.flags = Flags::SEEN);
        }
        let (adopt, salvage) = match repair {
            Repair::Force => (unknown, Vec::new()),
            _ if adds_up => (unknown, Vec::new()),
            Repair::Recover => (Vec::new(), unknown),
            Repair::Nothing | Repair::Provable => (Vec::new(), Vec::new()),
        };
        let row_is_wrong = counted.usage != case.row.usage() || counted.unseen != case.row.unseen;
        let recount = (case.is_row_wrong() && !case.lacks()) || (repair >= Repair::Recover && row_is_wrong);
        let near = salvage.iter().map(|m| m.uid).filter(|uid| *uid < case.row.uidnext.saturating_add(UID_JUMP_MAX));
        let last_uid = near.max().unwrap_or(0).max(counted.last_uid);
        let counted = match case.lacks() && adopt.is_empty() && repair < Repair::Recover {
            // Numbers move on; that messages are missing goes on being told.
            true => Counted { usage: case.row.usage(), unseen: case.row.unseen, ..counted },
            false => counted,
        };
        if recount || !adopt.is_empty() || last_uid >= case.row.uidnext {
            if !self.adopt(case, counted, last_uid, &adopt)? {
                return Ok(true);
            }
            if row_is_wrong {
                let fate =
                    if (case.is_row_wrong() && !case.lacks()) || adds_up { Fate::Mended } else { Fate::Unproven };
                examined.fate(|_, what| what == COUNTS, fate);
                examined.changes.push(format!("counted again: {}", counted.usage.plus(Counted::of(&adopt).usage)));
            }
            for message in &adopt {
                examined.changes.push(format!("message {}: its file was taken in", message.uid));
            }
            examined.fate_of_strays(&adopt.iter().map(|message| message.uid).collect(), Fate::Mended);
        }
        let key = case.name.replace('/', "\u{1}");
        self.salvage(&case.of, owner_of(key.as_bytes()), &salvage, examined)?;
        Ok(false)
    }

    /// Submits what the mailbox holds; false if it has changed since it was looked at.
    fn adopt(&self, case: &Case, counted: Counted, last_uid: u32, adopt: &[Message]) -> Result<bool> {
        let mut mend = Mend {
            name: case.name.clone(),
            mailbox: case.row.id,
            modseq: case.row.highest_modseq,
            usage: counted.usage,
            unseen: counted.unseen,
            last_uid,
            adopt: Vec::new(),
        };
        let mut pieces = adopt.chunks(self.piece());
        loop {
            mend.adopt = pieces.next().unwrap_or_default().to_vec();
            match self.commit(Command::Mend(mend.clone())) {
                Ok(_) => {}
                Err(CommitError::Stale) => return Ok(false),
                Err(e) => return Err(refused(e)),
            }
            let more = Counted::of(&mend.adopt);
            mend.modseq += u64::from(!mend.adopt.is_empty());
            mend.usage = mend.usage.plus(more.usage);
            mend.unseen += more.unseen;
            if pieces.len() == 0 {
                return Ok(true);
            }
        }
    }

    /// Shows files that nothing knows in [`RECOVERED`], those that are not there already.
    fn salvage(
        &self,
        of: &Folder<'static>,
        user: Option<&str>,
        found: &[Message],
        examined: &mut Examined,
    ) -> Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        let to = user.map_or_else(|| format!("shared/{RECOVERED}"), |user| format!("user/{user}/{RECOVERED}"));
        let known = self.digests_of(&to)?;
        let new: Vec<Message> = found.iter().filter(|m| !known.contains(&m.digest)).cloned().collect();
        for piece in new.chunks(self.piece()) {
            let salvage = Salvage { of: of.clone(), found: piece.to_vec(), to: to.clone() };
            self.commit(Command::Salvage(salvage)).map_err(refused)?;
        }
        for message in found {
            examined.changes.push(format!("file {}: shown in {to}", message.uid));
            examined.leftovers.push(Leftover { of: of.clone(), uid: message.uid });
        }
        examined.fate_of_strays(&found.iter().map(|message| message.uid).collect(), Fate::Unproven);
        Ok(())
    }

    /// What a mailbox holds already; nothing if there is none.
    fn digests_of(&self, name: &str) -> Result<BTreeSet<Digest>> {
        let Ok(name) = MailboxName::parse(name) else { return Ok(BTreeSet::new()) };
        let view = self.view();
        let Some(row) = view.get(Table::Mailboxes, name.key())? else { return Ok(BTreeSet::new()) };
        let row = MailboxRow::decode(name.key(), &row)?;
        let of = self.folder(&view, name.key(), &row)?;
        Ok(self.messages(&view, &of, &row)?.messages.into_values().map(|m| m.digest).collect())
    }

    /// Makes what was shown in [`RECOVERED`] durable there, with a checkpoint, and moves the files it came from into the quarantine.
    /// Gives where they are.
    ///
    /// # Errors
    /// Those of the checkpoint and of the disks; the next repair does it again.
    pub fn settle(&self, leftovers: &[Leftover]) -> Result<Vec<String>> {
        if leftovers.is_empty() {
            return Ok(Vec::new());
        }
        self.checkpoint()?;
        let (mut kept, none) = (Vec::new(), BTreeSet::new());
        let eye = Eye { depth: Depth::Names, deep: &none, pace: &|_| Ok(()), readers: 1, within: None };
        for of_one in leftovers.chunk_by(|a, b| a.of == b.of) {
            let writer = lock(&self.db);
            // Somebody else may have taken them in meanwhile.
            let of = &of_one[0].of;
            let case = self.case(of.mailbox, eye, None)?;
            let Some(disk) = self.partitions.disk(&of.partition) else { continue };
            let place = super::source::place(of)?;
            let is_taken = |uid| case.as_ref().is_some_and(|case| case.place == place && case.message(uid).is_some());
            for Leftover { uid, .. } in of_one.iter().filter(|left| !is_taken(left.uid)) {
                kept.extend(mend::set_aside(&*disk, &place, *uid)?);
            }
            if case.is_none() {
                mend::clear(&*disk, &place)?;
            }
            drop(writer);
        }
        Ok(kept)
    }
}

#[cfg(test)]
impl Store {
    /// A repair that has looked at a mailbox, and goes on after something has happened. What it changed.
    pub(in crate::store) fn put_in_place_after(&self, mailbox: u64, happens: impl FnOnce()) -> Vec<String> {
        let (none, mut examined) = (BTreeSet::new(), Examined::default());
        let eye = Eye { depth: Depth::Names, deep: &none, pace: &|_| Ok(()), readers: 1, within: None };
        let case = self.case(mailbox, eye, None).unwrap().unwrap();
        let mut unknown = self.strangers(&case, 1);
        assert!(!unknown.is_empty());
        happens();
        self.put_in_place(&case, &mut unknown, &mut examined).unwrap();
        examined.changes
    }
}

fn refused(e: CommitError) -> StoreError {
    match e {
        CommitError::Failed(e) => e,
        CommitError::Stale | CommitError::Uncounted(_) => {
            StoreError::Busy { why: "the mailbox has changed meanwhile".to_owned() }
        }
        CommitError::Refused(refusal) => StoreError::Refused {
            exit: refusal.kind.exit(),
            message: refusal.message,
            hint: refusal.hint.unwrap_or_default(),
        },
    }
}
