//! Rights and subscriptions.

use super::mailbox::Owner;
use super::{Plan, Planner, refuse};
use crate::model::rights;
use crate::model::rows::{MailboxRow, SubscriptionRow, joined};
use crate::model::{MailboxName, Outcome, Table};

impl Planner<'_> {
    pub(super) fn acl_set(&mut self, name: &str, identifier: &str, request: &str) -> Plan<Outcome> {
        let (name, row) = self.named(name)?;
        let identifier = rights::identifier(identifier).map_err(|why| refuse::bad_rights(&name, &why))?;
        let current = row.acl.get(&identifier).map(String::as_str);
        let rights = rights::changed(current, request).map_err(|why| refuse::bad_rights(&name, &why))?;
        if current.unwrap_or_default() == rights {
            return Ok(Outcome::Unchanged);
        }
        if current.is_none() {
            rights::check_entries(row.acl.len() + 1).map_err(|why| refuse::bad_rights(&name, &why))?;
        }
        self.change_acl(name.key(), row, |acl| {
            if rights.is_empty() {
                acl.remove(&identifier);
            } else {
                acl.insert(identifier, rights);
            }
        })?;
        Ok(Outcome::Done)
    }

    pub(super) fn acl_delete(&mut self, name: &str, identifier: &str) -> Plan<Outcome> {
        let (name, row) = self.named(name)?;
        let identifier = rights::identifier(identifier).map_err(|why| refuse::bad_rights(&name, &why))?;
        if !row.acl.contains_key(&identifier) {
            return Err(refuse::no_entry(&name, &identifier));
        }
        self.change_acl(name.key(), row, |acl| {
            acl.remove(&identifier);
        })?;
        Ok(Outcome::Done)
    }

    /// A mailbox that is there, of an owner who is there.
    fn named(&self, name: &str) -> Plan<(MailboxName, MailboxRow)> {
        let name = self.name(name)?;
        self.check_owner(&name)?;
        let row = self.mailbox(&name)?;
        Ok((name, row))
    }

    pub(super) fn check_owner(&self, name: &MailboxName) -> Plan<()> {
        match name.owner() {
            Some(user) if !self.draft.contains(Table::Users, user.as_bytes())? => Err(refuse::no_user(user)),
            _ => Ok(()),
        }
    }

    pub(super) fn subscribe(&mut self, user: &str, name: &str) -> Plan<Outcome> {
        let (key, name) = self.subscription(user, name)?;
        self.check_owner(&name)?;
        if !self.draft.contains(Table::Mailboxes, name.key())? {
            return Err(refuse::no_mailbox(&name));
        }
        if self.draft.contains(Table::Subscriptions, &key)? {
            return Ok(Outcome::Unchanged);
        }
        self.draft.put(key, &SubscriptionRow { since_us: self.now.0 })?;
        Ok(Outcome::Done)
    }

    pub(super) fn unsubscribe(&mut self, user: &str, name: &str) -> Plan<Outcome> {
        let (key, _) = self.subscription(user, name)?;
        if !self.draft.contains(Table::Subscriptions, &key)? {
            return Ok(Outcome::Unchanged);
        }
        self.draft.remove(Table::Subscriptions, key)?;
        Ok(Outcome::Done)
    }

    /// The owner's subscriptions follow mailboxes that he keeps. Those of others stay as they are: they are names (RFC
    /// 9051 6.3.7), and to find them one would look at every user. Those of mailboxes that are gone stay, too.
    pub(super) fn subscriptions_follow(&mut self, names: &[(Vec<u8>, Vec<u8>)], old: &Owner, new: &Owner) -> Plan<()> {
        let Some(user) = old.user.as_ref().filter(|_| old.user == new.user) else { return Ok(()) };
        let mut moved = Vec::new();
        for (old, new) in names {
            let key = joined(user.as_bytes(), old);
            if let Some(row) = self.draft.read::<SubscriptionRow>(&key)? {
                self.draft.remove(Table::Subscriptions, key)?;
                moved.push((joined(user.as_bytes(), new), row));
            }
        }
        moved.into_iter().try_for_each(|(key, row)| self.draft.put(key, &row))
    }

    fn subscription(&self, user: &str, name: &str) -> Plan<(Vec<u8>, MailboxName)> {
        let user = self.user_id(user)?;
        let name = self.name(name)?;
        let user = user.as_str().as_bytes();
        if !self.draft.contains(Table::Users, user)? {
            return Err(refuse::no_user(&String::from_utf8_lossy(user)));
        }
        Ok((joined(user, name.key()), name))
    }
}
