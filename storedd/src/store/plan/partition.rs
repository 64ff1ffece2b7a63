//! Partitions: named places for messages. // row 115

use super::{Plan, Planner, refuse};
use crate::error::Result;
use crate::model::rows::{MailboxView, PartitionRow, Row, TombstoneRow, UserView, readable_key, split};
use crate::model::user::check_partition;
use crate::model::{Outcome, Table};
use crate::partition::Partitions;
use crate::planted::{self, Bug};
use std::ops::ControlFlow;

impl Planner<'_> {
    pub(super) fn partition_add(&mut self, name: &str, id: &[u8; 16]) -> Plan<Outcome> {
        check_partition(name).map_err(|why| refuse::bad_partition(name, why))?;
        if self.draft.contains(Table::Partitions, name.as_bytes())? {
            return Err(refuse::partition_exists(name, "name"));
        }
        let same = |key: &[u8], row: &[u8]| Ok(PartitionRow::decode(key, row)?.id == *id);
        if let Some(key) = self.first_where(Table::Partitions, same)? {
            return Err(refuse::partition_exists(&String::from_utf8_lossy(&key), "identity"));
        }
        self.draft.put(name.as_bytes().to_vec(), &PartitionRow { id: *id, created_us: self.now.0 })?;
        Ok(Outcome::Done)
    }

    /// Looks at every user, mailbox and tombstone unless it finds one on the partition: about a second for a million.
    /// A partition that is worth removing is removed once.
    pub(super) fn partition_remove(&mut self, name: &str) -> Plan<Outcome> {
        if !self.draft.contains(Table::Partitions, name.as_bytes())? {
            return Err(refuse::no_partition(name));
        }
        let users = |key: &[u8], row: &[u8]| Ok(UserView::decode(key, row)?.partition == name);
        let mailboxes = |key: &[u8], row: &[u8]| Ok(MailboxView::decode(key, row)?.partition == name);
        let deleted = |key: &[u8], row: &[u8]| {
            Ok(split(key).is_some() && TombstoneRow::decode(key, row)?.mailbox.partition == name)
        };
        let by = if let Some(user) = self.first_where(Table::Users, users)? {
            Some(format!("user {}", readable_key(Table::Users, &user)))
        } else if let Some(mailbox) = self.first_where(Table::Mailboxes, mailboxes)? {
            Some(format!("mailbox {}", readable_key(Table::Mailboxes, &mailbox)))
        } else {
            self.first_where(Table::Past, deleted)?.map(|key| readable_key(Table::Past, &key))
        };
        if let Some(by) = by {
            return Err(refuse::partition_used(name, &by));
        }
        self.check_nobody_needs(name)?;
        self.draft.remove(Table::Partitions, name.as_bytes().to_vec())?;
        Ok(Outcome::Done)
    }

    /// Refused while somebody may have to read there although nobody lies there any more: a checkpoint, of messages that it writes elsewhere,
    /// or a partition that lacks some of them.
    fn check_nobody_needs(&self, name: &str) -> Plan<()> {
        if planted::on(Bug::NeededPartitionRemoved) {
            return Ok(());
        }
        if self.draft.reads_in(name)? {
            return Err(refuse::partition_read(name));
        }
        // IMPORTANT: after the look at memory. What a checkpoint takes out of it meanwhile, it has noted here before.
        let behind = self.policy.partitions.map(Partitions::behind).unwrap_or_default();
        match behind.into_keys().find(|other| other != name) {
            Some(other) => Err(refuse::partition_may_be_read(name, &other)),
            None => Ok(()),
        }
    }

    /// The first key whose row is such.
    fn first_where(&self, table: Table, is_such: impl Fn(&[u8], &[u8]) -> Result<bool>) -> Result<Option<Vec<u8>>> {
        let mut found = Ok(None);
        self.draft.scan(table, b"", &mut |key, row| match is_such(key, row) {
            Ok(false) => ControlFlow::Continue(()),
            Ok(true) => {
                found = Ok(Some(key.to_vec()));
                ControlFlow::Break(())
            }
            Err(e) => {
                found = Err(e);
                ControlFlow::Break(())
            }
        })?;
        found
    }
}
