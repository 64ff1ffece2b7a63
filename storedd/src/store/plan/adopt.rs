//! What a partition proves, brought into the database: users, mailboxes, and messages that only the log had.
//!
//! Each command says what the database knew when it was compared with the partition; if that is not so any more, it is
//! [`PlanError::Stale`] and nothing is changed: who asked compares again.

use super::{Plan, PlanError, Planner, refuse};
use crate::model::adopt::{AdoptedBody, AdoptedMailbox, AdoptedNames, AdoptedUser};
use crate::model::name::{key_text, owner_of};
use crate::model::rows::{
    IdRow, MailboxRow, PastRow, QuotaRow, Row, SubscriptionRow, TombstoneRow, UserRow, id_key, joined, quota_key,
    split, tombstone_key,
};
use crate::model::seen::SeenRow;
use crate::model::{BodySource, Folder, MailboxName, Outcome, Table, Usage};
use std::borrow::Cow;

impl Planner<'_> {
    /// Adds a user whom the database does not have, as he was, and what of his it lacks.
    pub(super) fn adopt_user(&mut self, adopted: &AdoptedUser) -> Plan<Outcome> {
        let user = self.user_id(&adopted.user)?;
        let user = user.as_str();
        let known: Option<UserRow> = self.draft.read(user.as_bytes())?;
        if known != adopted.known {
            return Err(PlanError::Stale);
        }
        let mut changed = false;
        if known.is_none() {
            let row = &adopted.row;
            if !self.draft.contains(Table::Partitions, row.partition.as_bytes())? {
                return Err(refuse::no_partition(&row.partition));
            }
            self.ids.note_object_id(row.id)?;
            self.draft.put(user.as_bytes().to_vec(), row)?;
            let (storage_limit, message_limit) = adopted.limits;
            let quota = QuotaRow { storage_limit, message_limit, ..QuotaRow::default() };
            self.draft.put(quota_key(user), &quota)?;
            self.counts.users += 1;
            changed = true;
        }
        for (mailbox, since_us) in &adopted.subscriptions {
            let key = joined(user.as_bytes(), mailbox);
            if !self.draft.contains(Table::Subscriptions, &key)? {
                self.draft.put(key, &SubscriptionRow { since_us: *since_us })?;
                changed = true;
            }
        }
        for (key, seen) in &adopted.seen {
            let known: Option<SeenRow> = self.draft.read(key)?;
            if known.is_none_or(|known| known.changed_us < seen.changed_us) {
                self.draft.put(key.clone(), seen)?;
                changed = true;
            }
        }
        Ok(if changed { Outcome::Done } else { Outcome::Unchanged })
    }

    /// Adds what names stood for, where that is more than is known.
    pub(super) fn adopt_names(&mut self, adopted: &AdoptedNames) -> Plan<Outcome> {
        let mut outcome = Outcome::Unchanged;
        for (name, past) in adopted {
            self.ids.note_uidvalidity(past.uidvalidity)?;
            let known: Option<PastRow> = self.draft.read(name)?;
            if known.is_none_or(|known| known.uidvalidity < past.uidvalidity) {
                self.draft.put(name.clone(), past)?;
                outcome = Outcome::Done;
            }
        }
        Ok(outcome)
    }

    /// Makes the database know a mailbox as its partition does.
    pub(super) fn adopt_mailbox(&mut self, adopted: &AdoptedMailbox) -> Plan<Outcome> {
        let AdoptedMailbox { key, home, row, deleted_us, .. } = adopted;
        let name = self.name(&key_text(key))?;
        if !self.draft.contains(Table::Partitions, row.partition.as_bytes())? {
            return Err(refuse::no_partition(&row.partition));
        }
        let known = self.known_mailbox(row.id)?;
        if known != adopted.known {
            return Err(PlanError::Stale);
        }
        self.ids.note_object_id(row.id)?;
        self.ids.note_uidvalidity(row.uidvalidity)?;
        let of =
            Folder { partition: Cow::Owned(row.partition.clone()), home: Cow::Owned(home.clone()), mailbox: row.id };
        let mut row = row.clone();
        let mut taken = key.clone();
        if *deleted_us > 0 {
            self.forget(known)?;
            let place = tombstone_key(key, row.id);
            let directory = format!("{home}/{}", row.id);
            self.draft.put(id_key(row.id), &IdRow::of(&place))?;
            self.draft.put(place, &TombstoneRow { deleted_us: *deleted_us, directory, mailbox: row })?;
        } else {
            let owner = self.owner_of_name(&name)?;
            row.home = (*home != owner.directory).then(|| home.clone());
            match known {
                Some((at, old)) if at == *key => self.replace(key, &MailboxRow::decode(key, &old)?, &row)?,
                known => {
                    self.forget(known)?;
                    taken = self.free_name(&name, row.id)?;
                    self.take(&taken, row, owner.user.as_deref())?;
                }
            }
        }
        for message in &adopted.messages {
            let body = match &message.body {
                AdoptedBody::Kept => BodySource::Kept,
                AdoptedBody::Logged(incoming) => {
                    self.draft.body(incoming)?.map_or(BodySource::Kept, BodySource::Inline)
                }
                AdoptedBody::Staged { partition, number } => {
                    BodySource::Staged { partition: Cow::Owned(partition.clone()), number: *number }
                }
            };
            self.draft.put_message(&of, &message.state, body)?;
        }
        let (id, uidvalidity) = (adopted.row.id, adopted.row.uidvalidity);
        Ok(Outcome::Created { name: key_text(&taken), id, uidvalidity })
    }

    /// Key and row of the mailbox with this id, deleted or not.
    fn known_mailbox(&self, id: u64) -> Plan<Option<(Vec<u8>, Vec<u8>)>> {
        let Some(at) = self.draft.read::<IdRow>(&id_key(id))? else { return Ok(None) };
        let key = at.key.as_bytes().to_vec();
        Ok(self.draft.get(at.table(), &key)?.map(|row| (key, row)))
    }

    /// The mailbox leaves where it is known, for it is known better.
    fn forget(&mut self, known: Option<(Vec<u8>, Vec<u8>)>) -> Plan<()> {
        let Some((at, row)) = known else { return Ok(()) };
        if split(&at).is_some() {
            return self.draft.remove(Table::Past, at);
        }
        let row = MailboxRow::decode(&at, &row)?;
        self.dissolve_root(&at)?;
        let owner = owner_of(&at).map(str::to_owned);
        self.leave(&at, &row, owner.as_deref())
    }

    /// The mailbox stays where it is, and is another.
    fn replace(&mut self, key: &[u8], old: &MailboxRow, new: &MailboxRow) -> Plan<()> {
        self.turn_rights(key, &old.acl, &new.acl, owner_of(key))?;
        self.charge(key, old, Usage::minus)?;
        self.charge(key, new, Usage::plus)?;
        self.draft.put(key.to_vec(), new)
    }

    /// The name itself, if nobody has it or a mailbox that never had a message: that one makes room, and leaves no trace. Else
    /// one that says which mailbox it is.
    fn free_name(&mut self, name: &MailboxName, id: u64) -> Plan<Vec<u8>> {
        let key = name.key();
        match self.draft.read::<MailboxRow>(key)? {
            None => Ok(key.to_vec()),
            Some(other) if other.uidnext <= 1 && other.messages == 0 => {
                let past: Option<PastRow> = self.draft.read(key)?;
                let owner = self.owner_of_name(name)?;
                self.bury(key, &other, &owner)?;
                match past {
                    Some(past) => self.draft.put(key.to_vec(), &past)?,
                    None => self.draft.remove(Table::Past, key.to_vec())?,
                }
                Ok(key.to_vec())
            }
            Some(_) => {
                let mut beside = key.to_vec();
                beside.extend_from_slice(format!("-{id}").as_bytes());
                match self.draft.contains(Table::Mailboxes, &beside)? {
                    false => Ok(beside),
                    true => Err(refuse::mailbox_exists(name)),
                }
            }
        }
    }
}
