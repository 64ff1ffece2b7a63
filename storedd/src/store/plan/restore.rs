//! Mail that comes back from a backup: a mailbox with its UIDVALIDITY, messages under their UIDs, dates and flags.
//!
//! # Invariants
//! * I6: a mailbox comes back with its UIDVALIDITY only if its name never had a higher one; if it had this one, the backup is
//!   of this store, so it was the same mailbox, and new messages get UIDs behind all that it may have given.
//! * A message takes a UID that the mailbox has no message under, in whatever state. Whoever restores asks for UIDs in a
//!   mailbox that he has made for it, or behind UIDNEXT.
//! * What comes back counts in its quota root (I9), and is not refused for it: it was there before.

use super::messages::Opened;
use super::{Plan, Planner, refuse};
use crate::model::command::{ReturningBody, ReturningMailbox, ReturningMessages, Selection};
use crate::model::message::{Message, State};
use crate::model::rights;
use crate::model::rows::{IdRow, MailboxRow, PastRow, Row, TombstoneRow, id_key};
use crate::model::{BodySource, MailboxName, Outcome, Table};

/// How far UIDNEXT jumps past that of the backup where nothing tells what the mailbox has given since.
const UIDS_UNTOLD: u32 = 1_000_000;

/// Highest modification sequence that a mailbox comes back with: clients count up to 2^63 (RFC 7162, 3.1), and it goes on from there.
const MODSEQ_MAX: u64 = 1 << 62;

impl Planner<'_> {
    /// Makes a mailbox anew as a backup knew it, and its owner. UIDVALIDITY is another one if I6 asks for it.
    pub(super) fn mailbox_returns(&mut self, of: &ReturningMailbox) -> Plan<Outcome> {
        let name = self.name(&of.name)?;
        if self.draft.contains(Table::Mailboxes, name.key())? {
            return self.goes_behind(&name, of);
        }
        if of.highest_modseq > MODSEQ_MAX {
            return Err(refuse::bad_modseq(&name, of.highest_modseq, MODSEQ_MAX));
        }
        let acl = rights::imported(&of.acl).map_err(|why| refuse::bad_rights(&name, &why))?;
        let partition =
            of.partition.as_deref().filter(|p| self.draft.contains(Table::Partitions, p.as_bytes()).unwrap_or(false));
        let partition = self.partition(partition, self.policy.default_partition)?;
        self.import_user(&name, &partition)?;
        let past: Option<PastRow> = self.draft.read(name.key())?;
        let given = match past.filter(|past| past.uidvalidity == of.uidvalidity) {
            Some(past) if self.policy.store.is_some_and(|store| store.to_string() == of.store) => {
                self.uidnext_of(past.mailbox_id, of)?
            }
            _ => None,
        };
        let (uidnext, created) = match given {
            Some(uidnext) => (uidnext, self.same_mailbox(&name, partition, of.uidvalidity, acl)?),
            None => (of.uidnext, self.new_mailbox(&name, partition, of.uidvalidity, acl)?),
        };
        let Outcome::Created { uidvalidity, .. } = created else { return Ok(created) };
        if uidvalidity == of.uidvalidity {
            self.ids.note_uidvalidity(uidvalidity)?;
            let row = self.mailbox(&name)?;
            let highest_modseq = row.highest_modseq.max(of.highest_modseq);
            self.draft.put(name.key().to_vec(), &MailboxRow { uidnext: uidnext.max(1), highest_modseq, ..row })?;
        }
        name.owner().map_or(Ok(()), |user| self.check_mailboxes_of(user))?;
        Ok(created)
    }

    /// A mailbox that is there, named by its number here and without a partition, gives no UID more that the backup may have given: what
    /// comes back has those, and whoever knows the mailbox that was saved has seen them (I6).
    fn goes_behind(&mut self, name: &MailboxName, of: &ReturningMailbox) -> Plan<Outcome> {
        let MailboxRow { id, uidvalidity, uidnext, .. } = self.mailbox(name)?;
        let is_here = self.policy.store.is_some_and(|store| store.to_string() == of.store);
        if of.partition.is_some() || !is_here || (id, uidvalidity) != (of.id, of.uidvalidity) {
            return Err(refuse::mailbox_exists(name));
        }
        let row = self.open_mailbox(&of.name)?.row;
        if uidnext < of.uidnext {
            self.draft.put(name.key().to_vec(), &MailboxRow { uidnext: of.uidnext, ..row })?;
        }
        Ok(Outcome::Created { name: name.to_string(), id, uidvalidity })
    }

    /// The mailbox that had this name and UIDVALIDITY before comes back under another number: its old directory keeps what it holds.
    fn same_mailbox(
        &mut self,
        name: &MailboxName,
        partition: String,
        uidvalidity: u32,
        acl: rights::Acl,
    ) -> Plan<Outcome> {
        // The name forgets it, for the number that it remembers is another from now on.
        self.draft.remove(Table::Past, name.key().to_vec())?;
        self.new_mailbox(name, partition, uidvalidity, acl)
    }

    /// The first UID that the mailbox which had the name last has never given, whether it was deleted or has another name now. `None`: it
    /// is gone for good, and was not the one of the backup.
    fn uidnext_of(&self, id: u64, of: &ReturningMailbox) -> Plan<Option<u32>> {
        let Some(at) = self.draft.read::<IdRow>(&id_key(id))? else {
            let untold = (id == of.id).then(|| of.uidnext.saturating_add(UIDS_UNTOLD));
            return Ok(untold);
        };
        let key = at.key.as_bytes();
        let Some(row) = self.draft.get(at.table(), key)? else { return Ok(None) };
        let row = match at.table() {
            Table::Past => TombstoneRow::decode(key, &row)?.mailbox,
            _ => MailboxRow::decode(key, &row)?,
        };
        Ok(Some(row.uidnext.max(of.uidnext)))
    }

    /// Messages come back into a mailbox: all of them or none.
    pub(super) fn messages_return(&mut self, back: &ReturningMessages) -> Plan<Outcome> {
        let mut done = Vec::with_capacity(back.messages.len());
        for returning in &back.messages {
            let mut into = self.open_mailbox(&back.into.name)?;
            if into.row.uidnext == u32::MAX {
                return Err(refuse::uids_used_up(&into.name));
            }
            let (size, header_size, digest, body) = match &returning.body {
                ReturningBody::Bytes(incoming) => {
                    (incoming.size, incoming.header_size, incoming.digest, self.body_of(incoming)?)
                }
                ReturningBody::Copy(uid, digest) => {
                    let (source, of) = self.copied(&back.from, *uid)?;
                    if digest.is_some_and(|digest| digest != source.digest) {
                        return Err(refuse::other_message(&back.from.name, *uid));
                    }
                    (source.size, source.header_size, source.digest, BodySource::Copy { of, uid: *uid })
                }
            };
            let uidnext = into.row.uidnext;
            if let Some(uid) = returning.uid {
                if uid == 0 || uid == u32::MAX || self.is_taken(&into, &back.into, uid)? {
                    return Err(refuse::uid_taken(&into.name, uid));
                }
                into.row.uidnext = uid;
            }
            let message = Message {
                uid: 0,
                state: State::Live,
                flags: returning.marks.flags,
                keywords: returning.marks.keywords.clone(),
                modseq: 0,
                size,
                header_size,
                internal_us: returning.internal_us,
                saved_us: returning.saved_us.unwrap_or(self.now.0),
                expunged_us: 0,
                digest,
            };
            let name = into.name.clone();
            done.push(Ok(self.arrive(into, message, body)?));
            if returning.uid.is_some_and(|uid| uid < uidnext) {
                let row = self.mailbox(&name)?;
                self.draft.put(name.key().to_vec(), &MailboxRow { uidnext, ..row })?;
            }
        }
        Ok(Outcome::Delivered(done))
    }

    fn copied(&self, from: &Selection, uid: u32) -> Plan<(Message, crate::model::Folder<'static>)> {
        let opened = self.open_mailbox(&from.name)?;
        let message = self.message(&opened, &from.known, uid)?.filter(Message::is_live);
        let message = message.ok_or_else(|| refuse::no_message(&opened.name, uid, State::Live))?;
        Ok((message, opened.of))
    }

    /// Whether a mailbox has a message under this UID, in whatever state.
    fn is_taken(&self, into: &Opened, of: &Selection, uid: u32) -> Plan<bool> {
        Ok(uid < into.row.uidnext && self.message(into, &of.known, uid)?.is_some())
    }
}
