//! Messages: what comes in, changes, goes. Each touches the mailbox's row, and the row of the quota root it counts in (I9).
//!
//! What changes or goes must be known first: memory has what changed since the last checkpoint, and for the rest the command brings
//! what the index said ([`Known`]). That holds if no checkpoint was made since, or nothing in the mailbox has changed; else the
//! command is [`PlanError::Stale`], is read for again and comes back. So no index is read while others wait to be planned.

use super::{Plan, PlanError, Planner, refuse};
use crate::model::command::{
    Delivered, Delivery, Incoming, IncomingBytes, Known, Marks, RefusalKind, Selection, Target,
};
use crate::model::message::{Flags, KEYWORDS_MAX, Message, State};
use crate::model::name::JOINT;
use crate::model::rows::{MailboxRow, Row, TombstoneRow, id_key, joined, split, tombstone_key};
use crate::model::{BodySource, Folder, MailboxName, Outcome, Refusal, Rows, Table, Usage};
use crate::planted::{self, Bug};
use std::borrow::Cow;
use std::sync::Arc;

/// A mailbox that messages come to or change in.
pub(super) struct Opened {
    pub(super) name: MailboxName,
    pub(super) row: MailboxRow,
    pub(super) of: Folder<'static>,
}

fn usage(message: &Message) -> Usage {
    Usage { bytes: message.size, messages: 1 }
}

impl Opened {
    /// What a message adds to the counts of its mailbox.
    pub(super) fn come(&mut self, message: &Message) {
        self.row.messages += 1;
        self.row.bytes = self.row.bytes.saturating_add(message.size);
        self.row.unseen += u64::from(!message.flags.has(Flags::SEEN));
    }

    fn go(&mut self, message: &Message) {
        self.row.messages = self.row.messages.saturating_sub(1);
        self.row.bytes = self.row.bytes.saturating_sub(message.size);
        self.row.unseen = self.row.unseen.saturating_sub(u64::from(!message.flags.has(Flags::SEEN)));
    }
}

impl Planner<'_> {
    /// Puts a message into each mailbox it is for. With `each`, who is refused does not keep it from the others; a transaction that
    /// holds no more refuses it for all.
    pub(super) fn deliver(&mut self, delivery: &Delivery) -> Plan<Outcome> {
        let mut done = Vec::with_capacity(delivery.to.len());
        for target in &delivery.to {
            match self.deliver_one(delivery, target) {
                Ok(delivered) => done.push(Ok(delivered)),
                Err(PlanError::Refused(why)) if delivery.each && why.kind != RefusalKind::TooLarge => {
                    done.push(Err(why));
                }
                Err(e) => return Err(e),
            }
        }
        Ok(Outcome::Delivered(done))
    }

    fn deliver_one(&mut self, delivery: &Delivery, target: &Target) -> Plan<Delivered> {
        let opened = match (self.open_mailbox(&target.name), &target.or) {
            (Err(PlanError::Refused(Refusal { kind: RefusalKind::NotFound, .. })), Some(or)) => {
                self.open_mailbox(or)?
            }
            (found, _) => found?,
        };
        let message = &delivery.message;
        let arrives = Message {
            uid: 0,
            state: State::Live,
            flags: delivery.flags,
            keywords: delivery.keywords.clone(),
            modseq: 0,
            size: message.size,
            header_size: message.header_size,
            internal_us: delivery.internal_us.unwrap_or(self.now.0),
            saved_us: self.now.0,
            expunged_us: 0,
            digest: message.digest,
        };
        self.check_uids(&opened)?;
        self.check_room_for_mail(&opened.name, usage(&arrives))?;
        let body = self.body_of(message)?;
        self.arrive(opened, arrives, body)
    }

    /// Where the bytes of a message are that comes in.
    pub(super) fn body_of(&mut self, message: &Arc<Incoming>) -> Plan<BodySource<'static>> {
        Ok(match (self.draft.body(message)?, &message.bytes) {
            (Some(n), _) => BodySource::Inline(n),
            (None, IncomingBytes::Staged { partition, number }) => {
                if !self.draft.contains(Table::Partitions, partition.as_bytes())? {
                    return Err(refuse::staged_nowhere(partition));
                }
                BodySource::Staged { partition: Cow::Owned(partition.clone()), number: *number }
            }
            (None, IncomingBytes::Inline { .. }) => return Err(refuse::too_large(0)),
        })
    }

    /// Refused if a mailbox takes no such message more; nothing was changed then.
    fn check_arrival(&self, into: &Opened, message: &Message) -> Plan<()> {
        self.check_uids(into)?;
        self.check_room(&into.name, usage(message))
    }

    fn check_uids(&self, into: &Opened) -> Plan<()> {
        if into.row.uidnext == u32::MAX { Err(refuse::uids_used_up(&into.name)) } else { Ok(()) }
    }

    /// A message takes the next UID of a mailbox.
    pub(super) fn arrive(&mut self, mut into: Opened, message: Message, body: BodySource<'static>) -> Plan<Delivered> {
        let uid = into.row.uidnext;
        into.row.uidnext = uid.saturating_add(1);
        into.row.highest_modseq += 1;
        let message = Message { uid, modseq: into.row.highest_modseq, ..message };
        into.come(&message);
        self.draft.put_message(&into.of, &message, body)?;
        self.charge_usage(into.name.key(), usage(&message), Usage::plus)?;
        self.draft.put(into.name.key().to_vec(), &into.row)?;
        let (mailbox, uidvalidity) = (into.name.to_string(), into.row.uidvalidity);
        Ok(Delivered { mailbox, uid, uidvalidity, size: message.size, digest: message.digest })
    }

    /// The mailbox with this name, which must be there, and its owner too.
    pub(super) fn open_mailbox(&self, text: &str) -> Plan<Opened> {
        let name = self.name(text)?;
        let owner = self.owner_of_name(&name)?;
        let row = self.mailbox(&name)?;
        if self.policy.closed.as_ref().is_some_and(|closed| closed.contains(&row.partition)) {
            return Err(refuse::closed(&name, &row.partition));
        }
        let home = row.home.clone().unwrap_or(owner.directory);
        let of = Folder { partition: Cow::Owned(row.partition.clone()), home: Cow::Owned(home), mailbox: row.id };
        Ok(Opened { name, row, of })
    }

    /// A message of a mailbox as it is now; `None` if there is none.
    pub(super) fn message(&self, of: &Opened, known: &Known, uid: u32) -> Plan<Option<Message>> {
        if let Some(found) = self.draft.message(of.row.id, uid)? {
            return Ok(Some(found));
        }
        let holds = known.indexed_upto == self.draft.indexed_upto() || known.modseq == of.row.highest_modseq;
        if known.mailbox != of.row.id || !holds {
            return Err(PlanError::Stale);
        }
        Ok(known.states.get(&uid).cloned())
    }

    /// The messages that were asked for, each in this state.
    pub(super) fn selected(&self, of: &Opened, selection: &Selection, state: State) -> Plan<Vec<Message>> {
        let mut found = Vec::with_capacity(selection.uids.len());
        for uid in &selection.uids {
            match self.message(of, &selection.known, *uid)? {
                found if selection.exactly && found.as_ref() != selection.known.states.get(uid) => {
                    return Err(PlanError::Stale);
                }
                Some(message) if message.state == state => found.push(message),
                _ => return Err(refuse::no_message(&of.name, *uid, state)),
            }
        }
        found.sort_by_key(|message| message.uid);
        found.dedup_by_key(|message| message.uid);
        Ok(found)
    }

    /// Adds flags and takes some away.
    pub(super) fn message_flags(&mut self, selection: &Selection, add: &Marks, remove: &Marks) -> Plan<Outcome> {
        let mut opened = self.open_mailbox(&selection.name)?;
        let modseq = opened.row.highest_modseq + 1;
        let mut changed = false;
        for before in self.selected(&opened, selection, State::Live)? {
            let mut message = before.clone();
            message.flags = message.flags.without(remove.flags).with(add.flags);
            message.keywords.retain(|keyword| !remove.keywords.contains(keyword));
            message.keywords.extend(add.keywords.iter().cloned());
            if message.keywords.len() > KEYWORDS_MAX {
                return Err(refuse::too_many_keywords(&opened.name, message.uid));
            }
            if message == before {
                continue;
            }
            message.modseq = modseq;
            opened.go(&before);
            opened.come(&message);
            self.draft.put_message(&opened.of, &message, BodySource::Kept)?;
            changed = true;
        }
        self.touched(opened, changed, modseq)
    }

    /// Writes the row of a mailbox whose messages have changed.
    fn touched(&mut self, opened: Opened, changed: bool, modseq: u64) -> Plan<Outcome> {
        if !changed {
            return Ok(Outcome::Unchanged);
        }
        let row = MailboxRow { highest_modseq: modseq, ..opened.row };
        self.draft.put(opened.name.key().to_vec(), &row)?;
        Ok(Outcome::Done)
    }

    /// Takes messages away, so that they can be brought back until they are purged. They count no more.
    pub(super) fn message_expunge(&mut self, selection: &Selection) -> Plan<Outcome> {
        let opened = self.open_mailbox(&selection.name)?;
        let messages = self.selected(&opened, selection, State::Live)?;
        self.expunge(opened, messages)
    }

    fn expunge(&mut self, mut opened: Opened, messages: Vec<Message>) -> Plan<Outcome> {
        let modseq = opened.row.highest_modseq + 1;
        let changed = !messages.is_empty();
        for message in messages {
            opened.go(&message);
            if !planted::on(Bug::ExpungedStillCounts) {
                self.charge_usage(opened.name.key(), usage(&message), Usage::minus)?;
            }
            let gone = Message { state: State::Expunged, expunged_us: self.now.0.max(1), modseq, ..message };
            self.draft.put_message(&opened.of, &gone, BodySource::Kept)?;
        }
        self.touched(opened, changed, modseq)
    }

    /// Brings messages back under their UIDs, as far as the quota has room for them; without UIDs all that were expunged, or the
    /// mailbox itself if that was deleted.
    pub(super) fn undelete(&mut self, selection: &Selection) -> Plan<Outcome> {
        let name = self.name(&selection.name)?;
        self.check_owner(&name)?;
        if !self.draft.contains(Table::Mailboxes, name.key())? {
            return self.mailbox_undelete(&name, selection.uids.is_empty());
        }
        let mut opened = self.open_mailbox(&selection.name)?;
        if name.is_inbox() && opened.row.uidnext == 1 && selection.uids.is_empty() && self.left_last(&name)?.is_some() {
            return self.mailbox_undelete(&name, true);
        }
        let modseq = opened.row.highest_modseq + 1;
        let all = selection.uids.is_empty();
        let expunged = selection.known.states.values().filter(|m| m.state == State::Expunged);
        let uids = if all { expunged.map(|m| m.uid).collect() } else { selection.uids.clone() };
        let mut back = Vec::new();
        for uid in uids {
            match self.message(&opened, &selection.known, uid)? {
                Some(message) if message.state == State::Expunged => back.push(message),
                _ if all => {}
                _ => return Err(refuse::no_message(&opened.name, uid, State::Expunged)),
            }
        }
        back.sort_by_key(|message| message.uid);
        back.dedup_by_key(|message| message.uid);
        let count = back.len() as u64;
        for message in back {
            self.check_room(&opened.name, usage(&message))?;
            self.charge_usage(opened.name.key(), usage(&message), Usage::plus)?;
            opened.come(&message);
            // It counts as saved now: for the rules of ageing, which may have taken it, and for backups of what was saved since.
            let back = Message { state: State::Live, expunged_us: 0, saved_us: self.now.0, modseq, ..message };
            self.draft.put_message(&opened.of, &back, BodySource::Kept)?;
        }
        Ok(match self.touched(opened, count > 0, modseq)? {
            Outcome::Done => Outcome::Returned(count),
            unchanged => unchanged,
        })
    }

    /// The deleted mailbox that left this name last.
    fn left_last(&self, name: &MailboxName) -> Plan<Option<(Vec<u8>, TombstoneRow)>> {
        let mut newest: Option<(Vec<u8>, TombstoneRow)> = None;
        for (key, row) in
            self.draft.range(Table::Past, &joined(name.key(), b""), &[name.key(), &[JOINT + 1]].concat())?
        {
            if split(&key).is_some_and(|(of, _)| of == name.key()) {
                let row = TombstoneRow::decode(&key, &row)?;
                if newest.as_ref().is_none_or(|(_, known)| {
                    (known.deleted_us, known.mailbox.uidvalidity) < (row.deleted_us, row.mailbox.uidvalidity)
                }) {
                    newest = Some((key, row));
                }
            }
        }
        Ok(newest)
    }

    /// The mailbox that left this name last comes back, with its id and UIDVALIDITY, and so with its messages (I6). One that has the name by now and
    /// never had a message leaves it: the INBOX of a user who was deleted and added again.
    fn mailbox_undelete(&mut self, name: &MailboxName, whole: bool) -> Plan<Outcome> {
        let owner = self.owner_of_name(name)?;
        let left = self.left_last(name)?.filter(|_| whole);
        let Some((key, tombstone)) = left else { return Err(refuse::no_mailbox(name)) };
        if let Some(bare) = self.draft.get(Table::Mailboxes, name.key())? {
            let bare = MailboxRow::decode(name.key(), &bare)?;
            self.bury(name.key(), &bare, &owner)?;
        }
        let mut row = tombstone.mailbox;
        let home = tombstone.directory.rsplit_once('/').map(|(home, _)| home.to_owned());
        row.home = home.filter(|home| *home != owner.directory);
        self.check_room(name, row.usage())?;
        let (id, messages, partition) = (row.id, row.messages, row.partition.clone());
        if !self.draft.contains(Table::Partitions, partition.as_bytes())? {
            return Err(refuse::no_partition(&partition));
        }
        self.draft.remove(Table::Past, key)?;
        let uidvalidity = self.take(name.key(), row, owner.user.as_deref())?;
        owner.user.as_deref().map_or(Ok(()), |user| self.check_mailboxes_of(user))?;
        Ok(Outcome::MailboxReturned { name: name.to_string(), id, uidvalidity, messages })
    }

    /// Copies messages into a mailbox, where they get new UIDs and keep flags and date; with `remove` they are expunged where they
    /// were, in the same transaction.
    pub(super) fn message_copy(&mut self, selection: &Selection, to: &str, remove: bool) -> Plan<Outcome> {
        let from = self.open_mailbox(&selection.name)?;
        drop(self.open_mailbox(to)?);
        let messages = self.selected(&from, selection, State::Live)?;
        let of = from.of.clone();
        if remove {
            // First, so that what stays within one quota root needs no room there.
            self.expunge(from, messages.clone())?;
        }
        let mut done = Vec::with_capacity(messages.len());
        for message in messages {
            let into = self.open_mailbox(to)?;
            let body = BodySource::Copy { of: of.clone(), uid: message.uid };
            let arrives = Message { state: State::Live, saved_us: self.now.0, expunged_us: 0, ..message };
            self.check_arrival(&into, &arrives)?;
            done.push(Ok(self.arrive(into, arrives, body)?));
        }
        Ok(Outcome::Delivered(done))
    }

    /// Gives expunged messages up for good; their UIDs are never given again.
    pub(super) fn message_purge(&mut self, selection: &Selection) -> Plan<Outcome> {
        let opened = self.open_mailbox(&selection.name)?;
        let modseq = opened.row.highest_modseq + 1;
        let messages = self.selected(&opened, selection, State::Expunged)?;
        let changed = !messages.is_empty();
        for message in messages {
            let gone = Message { state: State::Purged, modseq, ..message };
            self.draft.put_message(&opened.of, &gone, BodySource::Kept)?;
        }
        self.touched(opened, changed, modseq)
    }

    /// Gives a deleted mailbox up for good, if it was deleted when it is said to have been. What its name was remembers it (I6); its directory goes after the
    /// checkpoint.
    pub(super) fn mailbox_purge(&mut self, text: &str, id: u64, deleted_us: Option<u64>) -> Plan<Outcome> {
        let name = self.name(text)?;
        let key = tombstone_key(name.key(), id);
        let Some(row) = self.draft.get(Table::Past, &key)? else { return Err(refuse::no_mailbox(&name)) };
        let found = TombstoneRow::decode(&key, &row)?.deleted_us;
        if deleted_us.is_some_and(|wanted| wanted != found) {
            return Err(PlanError::Stale);
        }
        self.draft.remove(Table::Past, key)?;
        self.draft.remove(Table::Ids, id_key(id))?;
        Ok(Outcome::Mailboxes(1))
    }
}
