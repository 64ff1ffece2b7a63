//! What a repair has found out comes into the rows: counts, UIDs, messages that are there after all. // rows 122, 127, 163; I9

use super::{Plan, PlanError, Planner, refuse};
use crate::model::command::{Mend, Salvage};
use crate::model::message::{Message, State};
use crate::model::rows::MailboxRow;
use crate::model::{BodySource, Outcome, Table, Usage};

impl Planner<'_> {
    /// Counts a mailbox as it was found, and takes messages in under the UIDs that their files have.
    pub(super) fn mend(&mut self, mend: &Mend) -> Plan<Outcome> {
        let mut opened = self.open_mailbox(&mend.name)?;
        if opened.row.id != mend.mailbox || opened.row.highest_modseq != mend.modseq {
            return Err(PlanError::Stale);
        }
        let before = opened.row.clone();
        let Usage { bytes, messages } = mend.usage;
        opened.row = MailboxRow { bytes, messages, unseen: mend.unseen, ..opened.row };
        let modseq = before.highest_modseq + u64::from(!mend.adopt.is_empty());
        let mut last_uid = mend.last_uid;
        for message in &mend.adopt {
            if self.draft.message(before.id, message.uid)?.is_some() {
                return Err(PlanError::Stale);
            }
            let message = Message { state: State::Live, expunged_us: 0, modseq, ..message.clone() };
            self.draft.put_message(&opened.of, &message, BodySource::Kept)?;
            opened.come(&message);
            last_uid = last_uid.max(message.uid);
        }
        let uidnext = before.uidnext.max(last_uid.saturating_add(1));
        let row = MailboxRow { uidnext, highest_modseq: modseq, ..opened.row };
        if row == before {
            return Ok(Outcome::Unchanged);
        }
        self.charge_usage(opened.name.key(), before.usage(), Usage::minus)?;
        self.charge_usage(opened.name.key(), row.usage(), Usage::plus)?;
        self.draft.put(opened.name.key().to_vec(), &row)?;
        Ok(Outcome::Done)
    }

    /// Copies files that no mailbox knows into one that shows them.
    pub(super) fn salvage(&mut self, salvage: &Salvage) -> Plan<Outcome> {
        let name = self.name(&salvage.to)?;
        // Where nobody knows what mailbox it was, no other gets its directory.
        self.ids.note_object_id(salvage.of.mailbox)?;
        if !self.draft.contains(Table::Mailboxes, name.key())? {
            self.mailbox_create(&salvage.to, Some(&salvage.of.partition))?;
        }
        let mut done = Vec::with_capacity(salvage.found.len());
        for message in &salvage.found {
            let into = self.open_mailbox(&salvage.to)?;
            if into.row.uidnext == u32::MAX {
                return Err(refuse::uids_used_up(&into.name));
            }
            let body = BodySource::Copy { of: salvage.of.clone(), uid: message.uid };
            let arrives = Message { state: State::Live, expunged_us: 0, saved_us: self.now.0, ..message.clone() };
            done.push(Ok(self.arrive(into, arrives, body)?));
        }
        Ok(Outcome::Delivered(done))
    }
}
