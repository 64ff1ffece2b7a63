//! Users: add, delete, rename. Each touches every table that speaks of the user, in one transaction. // row 114

use super::mailbox::Owner;
use super::{Plan, PlanError, Planner, refuse};
use crate::model::name::{JOINT, user_prefix};
use crate::model::rights::OWNER_RIGHTS;
use crate::model::rows::{MailboxRow, Row, SubscriptionRow, TombstoneRow, UserRow, id_of, joined, quota_key, split};
use crate::model::seen::{SeenRow, seen_key};
use crate::model::user::{check_partition, directory};
use crate::model::{MailboxName, Outcome, Table, UserId};
use std::collections::BTreeMap;

impl Planner<'_> {
    pub(super) fn user_add(
        &mut self,
        user: &str,
        partition: Option<&str>,
        storage_limit: Option<u64>,
        message_limit: Option<u64>,
    ) -> Plan<Outcome> {
        let user = self.user_id(user)?;
        if self.draft.contains(Table::Users, user.as_str().as_bytes())? {
            return Err(refuse::user_exists(user.as_str()));
        }
        let partition = self.partition(partition, self.policy.default_partition)?;
        let row = self.new_user(&user, partition, storage_limit, message_limit)?;
        let acl = [(user.as_str().to_owned(), OWNER_RIGHTS.to_owned())].into();
        self.new_mailbox(&MailboxName::inbox(user.as_str()), row.partition, 0, acl)
    }

    /// The rows of a user, without mailboxes.
    pub(super) fn new_user(
        &mut self,
        user: &UserId,
        partition: String,
        storage_limit: Option<u64>,
        message_limit: Option<u64>,
    ) -> Plan<UserRow> {
        let id = self.ids.next_object_id()?;
        let row = UserRow { id, partition, created_us: self.now.0, directory: directory(user, id) };
        self.draft.put(user.as_str().as_bytes().to_vec(), &row)?;
        self.new_user_root(user.as_str(), storage_limit, message_limit)?;
        self.counts.users += 1;
        Ok(row)
    }

    pub(super) fn user_delete(&mut self, user: &str) -> Plan<Outcome> {
        let user = self.user_id(user)?;
        let user = user.as_str();
        let owner = self.owner(user)?;
        let mailboxes = self.mailboxes_of(user)?;
        for (key, row) in &mailboxes {
            self.bury(key, &MailboxRow::decode(key, row)?, &owner)?;
        }
        for (identifier, mailbox) in self.rights_elsewhere(user)? {
            if let Some(row) = self.draft.read(&mailbox)? {
                self.change_acl(&mailbox, row, |acl| drop(acl.remove(&identifier)))?;
            }
        }
        for (key, _) in self.rows_of(Table::Subscriptions, user)? {
            self.draft.remove(Table::Subscriptions, key)?;
        }
        for (key, _) in self.rows_of(Table::Seen, user)? {
            self.draft.remove(Table::Seen, key)?;
        }
        self.draft.remove(Table::Quotas, quota_key(user))?;
        self.draft.remove(Table::Users, user.as_bytes().to_vec())?;
        self.counts.users -= 1;
        Ok(Outcome::Mailboxes(mailboxes.len() as u64))
    }

    pub(super) fn user_rename(&mut self, user: &str, to: &str) -> Plan<Outcome> {
        let (user, to) = (self.user_id(user)?, self.user_id(to)?);
        let (user, to) = (user.as_str(), to.as_str());
        let row = self.user_row(user)?;
        if self.draft.contains(Table::Users, to.as_bytes())? {
            return Err(refuse::user_exists(to));
        }
        self.draft.remove(Table::Users, user.as_bytes().to_vec())?;
        self.draft.put(to.as_bytes().to_vec(), &row)?;
        let (from_prefix, to_prefix) = (user_prefix(user), user_prefix(to));
        let moved = self.moved(self.mailboxes_of(user)?, &from_prefix, &to_prefix)?;
        for (old, _, row) in &moved {
            self.leave(old, row, Some(user))?;
        }
        let (root, new_root) = (quota_key(user), quota_key(to));
        let roots = moved.iter().map(|(old, new, _)| (old.as_slice(), new.as_slice()));
        self.move_roots(roots.chain([(root.as_slice(), new_root.as_slice())]))?;
        let count = moved.len() as u64;
        for (_, new, mut row) in moved {
            rename_entry(&mut row.acl, user, to);
            self.take(&new, row, Some(to))?;
        }
        for (_, mailbox) in self.rights_elsewhere(user)? {
            if let Some(row) = self.draft.read(&mailbox)? {
                self.change_acl(&mailbox, row, |acl| rename_entry(acl, user, to))?;
            }
        }
        for (key, row) in self.rows_of(Table::Subscriptions, user)? {
            let mailbox = split(&key).map_or(&b""[..], |(_, mailbox)| mailbox);
            let mailbox = match mailbox.strip_prefix(from_prefix.as_slice()) {
                Some(rest) => [&to_prefix, rest].concat(),
                None => mailbox.to_vec(),
            };
            let row = SubscriptionRow::decode(&key, &row)?;
            self.draft.remove(Table::Subscriptions, key)?;
            self.draft.put(joined(to.as_bytes(), &mailbox), &row)?;
        }
        for (key, row) in self.rows_of(Table::Seen, user)? {
            let mailbox = split(&key).and_then(|(_, id)| id_of(id));
            // It says again, under this name, what was seen: the write-out is to find it.
            let mut row = SeenRow::decode(&key, &row)?;
            row.changed_us = self.now.0;
            self.draft.remove(Table::Seen, key)?;
            mailbox.map_or(Ok(()), |mailbox| self.draft.put(seen_key(to, mailbox), &row))?;
        }
        Ok(Outcome::Mailboxes(count))
    }

    /// The user, and every mailbox and deleted mailbox of his that lies on the partition where he lies, go to another one. Of all that
    /// there must be a copy already, of the newest state; else it is stale.
    pub(super) fn user_move(&mut self, user: &str, to: &str, copied: &BTreeMap<u64, u64>) -> Plan<Outcome> {
        let user = self.user_id(user)?;
        let user = user.as_str();
        let row = self.user_row(user)?;
        let to = self.partition(Some(to), "")?;
        for name in [&row.partition, &to] {
            if self.policy.closed.as_ref().is_some_and(|closed| closed.contains(name)) {
                return Err(refuse::closed(&MailboxName::inbox(user), name));
            }
        }
        if row.partition == to {
            return Ok(Outcome::Unchanged);
        }
        let mut found = BTreeMap::new();
        for (key, bytes) in self.mailboxes_of(user)? {
            let mailbox = MailboxRow::decode(&key, &bytes)?;
            if mailbox.partition == row.partition {
                found.insert(mailbox.id, mailbox.highest_modseq);
                self.draft.put(key, &MailboxRow { partition: to.clone(), ..mailbox })?;
            }
        }
        let (start, end) = (user_prefix(user), crate::model::name::subtree_end(&quota_key(user)));
        for (key, bytes) in self.draft.range(Table::Past, &start, &end)? {
            if split(&key).is_none() {
                continue;
            }
            let tombstone = TombstoneRow::decode(&key, &bytes)?;
            if tombstone.mailbox.partition == row.partition {
                found.insert(tombstone.mailbox.id, tombstone.mailbox.highest_modseq);
                let mailbox = MailboxRow { partition: to.clone(), ..tombstone.mailbox };
                self.draft.put(key, &TombstoneRow { mailbox, ..tombstone })?;
            }
        }
        if found != *copied {
            return Err(PlanError::Stale);
        }
        let count = found.len() as u64;
        self.draft.put(user.as_bytes().to_vec(), &UserRow { partition: to, ..row })?;
        Ok(Outcome::Mailboxes(count))
    }

    /// Identifier and mailbox key of every right, granted or taken away, that the user has in mailboxes of others.
    fn rights_elsewhere(&self, user: &str) -> Plan<Vec<(String, Vec<u8>)>> {
        let own = user_prefix(user);
        let mut found = Vec::new();
        for identifier in [user.to_owned(), format!("-{user}")] {
            for (key, _) in self.rows_of(Table::Rights, &identifier)? {
                match split(&key) {
                    Some((_, mailbox)) if !mailbox.starts_with(&own) => {
                        found.push((identifier.clone(), mailbox.to_vec()));
                    }
                    _ => {}
                }
            }
        }
        Ok(found)
    }

    /// Rows whose key begins with `who` and the joint.
    fn rows_of(&self, table: Table, who: &str) -> Plan<Vec<super::draft::Pair>> {
        let start = joined(who.as_bytes(), b"");
        let end = [who.as_bytes(), &[JOINT + 1]].concat();
        self.draft.range(table, &start, &end)
    }

    fn mailboxes_of(&self, user: &str) -> Plan<Vec<super::draft::Pair>> {
        let start = user_prefix(user);
        let end = crate::model::name::subtree_end(&quota_key(user));
        self.draft.range(Table::Mailboxes, &start, &end)
    }

    pub(super) fn user_id(&self, text: &str) -> Plan<UserId> {
        UserId::parse(text).map_err(|why| refuse::bad_user(text, why))
    }

    pub(super) fn user_row(&self, user: &str) -> Plan<UserRow> {
        self.draft.read(user.as_bytes())?.ok_or_else(|| refuse::no_user(user))
    }

    /// The owner of mailboxes `user/<user>/...`.
    pub(super) fn owner(&self, user: &str) -> Plan<Owner> {
        let row = self.user_row(user)?;
        Ok(Owner { user: Some(user.to_owned()), directory: row.directory })
    }

    /// The partition asked for, which must be there, or `default`, which must be too.
    pub(super) fn partition(&self, asked: Option<&str>, default: &str) -> Plan<String> {
        let name = asked.unwrap_or(default);
        if let Some(asked) = asked {
            check_partition(asked).map_err(|why| refuse::bad_partition(asked, why))?;
        }
        if !self.draft.contains(Table::Partitions, name.as_bytes())? {
            return Err(refuse::no_partition(name));
        }
        Ok(name.to_owned())
    }
}

/// Gives the entries of a user, positive and negative, to his new id. What the new id had is replaced: it was
/// meant for another user.
fn rename_entry(acl: &mut crate::model::rights::Acl, user: &str, to: &str) {
    for sign in ["", "-"] {
        if let Some(rights) = acl.remove(&format!("{sign}{user}")) {
            acl.insert(format!("{sign}{to}"), rights);
        }
    }
}
