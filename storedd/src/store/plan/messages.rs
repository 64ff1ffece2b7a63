//! Messages: what comes in, changes, goes. Each touches the mailbox's row, and the row of the quota root it counts in (I9).

use super::{Plan, PlanError, Planner, refuse};
use crate::model::command::{Delivered, Delivery, IncomingBytes, RefusalKind, Target};
use crate::model::message::{Flags, Message, State};
use crate::model::rows::MailboxRow;
use crate::model::{BodySource, Folder, MailboxName, Outcome, Refusal, Usage};
use std::borrow::Cow;

/// A mailbox that messages come to or change in.
struct Opened {
    name: MailboxName,
    row: MailboxRow,
    of: Folder<'static>,
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
                    done.push(Err(why))
                }
                Err(e) => return Err(e),
            }
        }
        Ok(Outcome::Delivered(done))
    }

    /// Refuses before it changes anything.
    fn deliver_one(&mut self, delivery: &Delivery, target: &Target) -> Plan<Delivered> {
        let Opened { name, mut row, of } = match (self.open_mailbox(&target.name), &target.or) {
            (Err(PlanError::Refused(Refusal { kind: RefusalKind::NotFound, .. })), Some(or)) => {
                self.open_mailbox(or)?
            }
            (found, _) => found?,
        };
        let message = &delivery.message;
        let uid = row.uidnext;
        let Some(uidnext) = uid.checked_add(1) else { return Err(refuse::uids_used_up(&name)) };
        let usage = Usage { bytes: message.size, messages: 1 };
        self.check_room(&name, usage)?;
        let body = match (self.draft.body(message)?, &message.bytes) {
            (Some(n), _) => BodySource::Inline(n),
            (None, IncomingBytes::Staged { partition, number }) => {
                BodySource::Staged { partition: Cow::Owned(partition.clone()), number: *number }
            }
            (None, IncomingBytes::Inline { .. }) => return Err(refuse::too_large(0)),
        };
        row.uidnext = uidnext;
        row.highest_modseq += 1;
        let arrived = Message {
            uid,
            state: State::Live,
            flags: delivery.flags,
            keywords: delivery.keywords.clone(),
            modseq: row.highest_modseq,
            size: message.size,
            header_size: message.header_size,
            internal_us: delivery.internal_us.unwrap_or(self.now.0),
            saved_us: self.now.0,
            expunged_us: 0,
            digest: message.digest,
        };
        self.draft.put_message(&of, &arrived, body)?;
        let delivered = Delivered {
            mailbox: name.to_string(),
            uid,
            uidvalidity: row.uidvalidity,
            size: message.size,
            digest: message.digest,
        };
        self.count_in(&name, row, &arrived)?;
        Ok(delivered)
    }

    /// The mailbox with this name, which must be there, and its owner too.
    fn open_mailbox(&self, text: &str) -> Plan<Opened> {
        let name = self.name(text)?;
        let owner = self.owner_of_name(&name)?;
        let row = self.mailbox(&name)?;
        let home = row.home.clone().unwrap_or(owner.directory);
        let of = Folder { partition: Cow::Owned(row.partition.clone()), home: Cow::Owned(home), mailbox: row.id };
        Ok(Opened { name, row, of })
    }

    /// A live message counts in its mailbox and in the quota root above it.
    fn count_in(&mut self, name: &MailboxName, mut row: MailboxRow, message: &Message) -> Plan<()> {
        row.messages += 1;
        row.bytes = row.bytes.saturating_add(message.size);
        row.unseen += u64::from(!message.flags.has(Flags::SEEN));
        self.charge_usage(name.key(), Usage { bytes: message.size, messages: 1 }, Usage::plus)?;
        self.draft.put(name.key().to_vec(), &row)
    }
}
