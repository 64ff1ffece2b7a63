//! Quota roots: limits, and where usage is counted. // rows 114, 117; I9

use super::{Plan, PlanError, Planner, refuse};
use crate::model::command::Recalculated;
use crate::model::name::key_text;
use crate::model::quota::{roots_above, usage_of};
use crate::model::rows::{MailboxRow, QuotaRow, quota_key};
use crate::model::{LimitChange, MailboxName, Outcome, QuotaRoot, Table, Usage};

/// A root and its row.
pub(super) type Root = (Vec<u8>, QuotaRow);

impl Planner<'_> {
    /// Sets limits. One below what is used is taken (RFC 9208 3.1.1): nothing more comes in, nothing goes.
    pub(super) fn quota_set(&mut self, root: &str, storage: LimitChange, messages: LimitChange) -> Plan<Outcome> {
        let root = self.quota_root(root)?;
        let key = root.key();
        let row = self.draft.read::<QuotaRow>(&key)?;
        let had = row.as_ref().map(|row| (row.storage_limit, row.message_limit));
        let (had_storage, had_messages) = had.unwrap_or_default();
        let (storage_limit, message_limit) = (storage.of(had_storage), messages.of(had_messages));
        let unlimited = storage_limit.is_none() && message_limit.is_none();
        match row {
            _ if had == Some((storage_limit, message_limit)) => return Ok(Outcome::Unchanged),
            None if unlimited => return Ok(Outcome::Unchanged),
            Some(_) if unlimited && matches!(root, QuotaRoot::Mailbox(_)) => self.dissolve_root(&key)?,
            Some(row) => self.put_root(key, QuotaRow { storage_limit, message_limit, ..row })?,
            None => self.begin_root(key, QuotaRow { storage_limit, message_limit, ..QuotaRow::default() })?,
        }
        Ok(Outcome::Done)
    }

    /// A job that counts the whole store asks root by root.
    pub(super) fn quota_recalc(&mut self, root: &str) -> Plan<Outcome> {
        let root = self.quota_root(root)?;
        let key = root.key();
        let Some(row) = self.draft.read::<QuotaRow>(&key)? else {
            let nearest = self.root_at_or_above(&key)?.map(|(key, _)| key_text(&key));
            return Err(refuse::no_quota_root(&root, nearest.as_deref()));
        };
        let (from, to) = (row.usage(), self.counted(&key)?);
        if from == to {
            return Ok(Outcome::Recalculated(Vec::new()));
        }
        self.put_root(key, row.with_usage(to))?;
        Ok(Outcome::Recalculated(vec![Recalculated { root: root.to_string(), from, to }]))
    }

    /// A user or mailbox that is there.
    fn quota_root(&self, text: &str) -> Plan<QuotaRoot> {
        let root = QuotaRoot::parse(text).map_err(|why| refuse::bad_root(text, &why))?;
        match &root {
            QuotaRoot::User(user) => drop(self.user_row(user.as_str())?),
            QuotaRoot::Mailbox(name) => {
                self.check_owner(name)?;
                drop(self.mailbox(name)?);
            }
        }
        Ok(root)
    }

    /// What the mailboxes add up to that count in a root. Others wait meanwhile, so a large root is to be counted before.
    fn counted(&self, root: &[u8]) -> Plan<Usage> {
        match self.draft.counted_before(root) {
            Some((Some(usage), _)) => Ok(usage),
            Some((None, most)) => {
                usage_of(&self.draft, root, most)?.ok_or_else(|| PlanError::Uncounted { root: root.to_vec() })
            }
            None => {
                let most = self.draft.counts_at_most();
                usage_of(&self.draft, root, most)?.ok_or_else(|| refuse::root_too_large(&key_text(root), most))
            }
        }
    }

    fn root_at_or_above(&self, key: &[u8]) -> Plan<Option<Root>> {
        for root in roots_above(key) {
            if let Some(row) = self.draft.read::<QuotaRow>(root)? {
                return Ok(Some((root.to_vec(), row)));
            }
        }
        Ok(None)
    }

    /// The root in which a mailbox counts that has none of its own.
    pub(super) fn root_above(&self, key: &[u8]) -> Plan<Option<Root>> {
        roots_above(key).nth(1).map_or(Ok(None), |above| self.root_at_or_above(above))
    }

    fn change_root_above(&mut self, key: &[u8], change: impl FnOnce(Usage) -> Usage) -> Plan<()> {
        if let Some((root, row)) = self.root_above(key)? {
            let usage = change(row.usage());
            if usage != row.usage() {
                self.put_root(root, row.with_usage(usage))?;
            }
        }
        Ok(())
    }

    /// Usage follows a mailbox that comes or goes (I9).
    pub(super) fn charge(&mut self, key: &[u8], row: &MailboxRow, change: fn(Usage, Usage) -> Usage) -> Plan<()> {
        self.charge_usage(key, row.usage(), change)
    }

    /// Usage follows what comes into a mailbox or goes (I9).
    pub(super) fn charge_usage(&mut self, key: &[u8], by: Usage, change: fn(Usage, Usage) -> Usage) -> Plan<()> {
        if by.is_zero() {
            return Ok(());
        }
        if let Some((root, quota)) = self.root_at_or_above(key)? {
            let usage = change(quota.usage(), by);
            self.put_root(root, quota.with_usage(usage))?;
        }
        Ok(())
    }

    /// A mailbox is a root no longer, if it was one: what counted in it counts in the root above.
    pub(super) fn dissolve_root(&mut self, key: &[u8]) -> Plan<()> {
        if let Some(row) = self.draft.read::<QuotaRow>(key)? {
            self.draft.remove(Table::Quotas, key.to_vec())?;
            self.change_root_above(key, |above| above.plus(row.usage()))?;
        }
        Ok(())
    }

    /// A mailbox (or user) becomes a root: what it covers counted above it until now.
    fn begin_root(&mut self, key: Vec<u8>, row: QuotaRow) -> Plan<()> {
        self.draft.put(key.clone(), &row)?;
        let usage = self.counted(&key)?;
        self.change_root_above(&key, |above| above.minus(usage))?;
        self.put_root(key, row.with_usage(usage))
    }

    /// Mailboxes (or a user) take their roots along. To be called while nothing counts in them: when all mailboxes have
    /// left their names and none has taken a new one. Something may lie below the new names already.
    pub(super) fn move_roots<'k>(&mut self, keys: impl Iterator<Item = (&'k [u8], &'k [u8])>) -> Plan<()> {
        let mut moved = Vec::new();
        for (old, new) in keys {
            if let Some(row) = self.draft.read::<QuotaRow>(old)? {
                moved.push((new.to_vec(), row));
                self.draft.remove(Table::Quotas, old.to_vec())?;
            }
        }
        moved.into_iter().try_for_each(|(new, row)| self.begin_root(new, row))
    }

    /// Mailboxes have come to `name` from elsewhere: refused if the root above, which was `before`, grew beyond a limit.
    pub(super) fn check_quota(&self, name: &MailboxName, before: Option<Root>) -> Plan<()> {
        let Some((root, before)) = before else { return Ok(()) };
        let Some(now) = self.draft.read::<QuotaRow>(&root)? else { return Ok(()) };
        let over = |used: u64, was: u64, limit: Option<u64>| used > was && limit.is_some_and(|limit| used > limit);
        if over(now.storage_usage, before.storage_usage, now.storage_limit)
            || over(now.message_usage, before.message_usage, now.message_limit)
        {
            return Err(refuse::over_quota(name, &key_text(&root), now.usage()));
        }
        Ok(())
    }

    /// The row of a root, with the time since when it is over a limit.
    fn put_root(&mut self, key: Vec<u8>, row: QuotaRow) -> Plan<()> {
        self.draft.put(key, &row.settled(self.now.0))
    }

    /// Refused if so much more in a mailbox were beyond a limit of the root in which it counts.
    pub(super) fn check_room(&self, name: &MailboxName, by: Usage) -> Plan<()> {
        match self.root_at_or_above(name.key())? {
            Some((root, row)) if row.is_over(row.usage().plus(by)) => {
                Err(refuse::over_quota(name, &key_text(&root), row.usage().plus(by)))
            }
            _ => Ok(()),
        }
    }

    /// The same for mail that comes in: within the time of grace it is taken all the same.
    pub(super) fn check_room_for_mail(&self, name: &MailboxName, by: Usage) -> Plan<()> {
        let grace = self.policy.limits.grace.as_micros();
        match self.root_at_or_above(name.key())? {
            Some((root, row)) if row.is_over(row.usage().plus(by)) => {
                let since = if row.over_since_us > 0 { row.over_since_us } else { self.now.0 };
                // A clock that was set back shortens no time of grace.
                match u128::from(self.now.0.saturating_sub(since)) < grace {
                    true => Ok(()),
                    false => Err(refuse::over_quota(name, &key_text(&root), row.usage().plus(by))),
                }
            }
            _ => Ok(()),
        }
    }

    /// A mailbox came to this user: refused if that is one too many. Users who had more when the limit was set keep them.
    pub(super) fn check_mailboxes_of(&self, user: &str) -> Plan<()> {
        let limit = u64::from(self.policy.limits.mailboxes_per_user);
        if limit == 0 {
            return Ok(());
        }
        let planned = self.come.get(user).copied().unwrap_or(0);
        let count = self.draft.mailboxes_before(user)?.saturating_add_signed(planned);
        if count > limit { Err(refuse::too_many_mailboxes(user, limit)) } else { Ok(()) }
    }

    /// The root of a new user.
    pub(super) fn new_user_root(&mut self, user: &str, storage: Option<u64>, messages: Option<u64>) -> Plan<()> {
        let limits = &self.policy.limits;
        let row = QuotaRow {
            storage_limit: storage.or(limits.default_storage),
            message_limit: messages.or(limits.default_messages),
            ..QuotaRow::default()
        };
        self.draft.put(quota_key(user), &row)
    }
}
