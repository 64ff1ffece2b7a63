//! A home beside the database: what is to be done so that both say the same.

use super::truth::{Limits, Look, ProvenUser};
use super::{Changed, Plan, Reconciled, Wanted};
use crate::error::Result;
use crate::model::keys::id_key;
use crate::model::name::key_text;
use crate::model::rows::{IdRow, PastRow, QuotaRow, Row};
use crate::model::{Command, LimitChange, Rows, Table};
use crate::partition::manifest::MirroredRows;
use crate::partition::tree::Place;
use crate::store::commit::lock;
use crate::store::mail;
use crate::store::report::Finding;
use crate::store::view::View;
use crate::store::{Base, Store};
use std::sync::Arc;

/// Names that one transaction brings.
const NAMES_AT_ONCE: usize = 1000;
/// Findings of one home that are kept one by one.
pub(super) const FINDINGS: usize = 1000;

/// A comparison under way.
pub(super) struct Comparing<'a> {
    pub(super) store: &'a Store,
    pub(super) look: &'a Look<'a>,
    pub(super) wanted: Wanted<'a>,
    /// As it is now.
    pub(super) view: View,
    /// As the last checkpoint left it: what the partition is of one moment with.
    pub(super) base: Arc<Base>,
    pub(super) plan: Plan,
    pub(super) found: Reconciled,
}

impl<'a> Comparing<'a> {
    pub(super) fn of(store: &'a Store, look: &'a Look<'a>, wanted: Wanted<'a>, base: Arc<Base>) -> Comparing<'a> {
        let (plan, found) = Default::default();
        Comparing { store, look, wanted, view: store.view(), base, plan, found }
    }

    /// The order matters: a mailbox needs its user, a root its mailbox.
    pub(super) fn compare(&mut self) -> Result<()> {
        let user = self.look.user()?;
        let name = self.user(&user)?;
        if self.plan.again || self.found.is_deferred {
            return Ok(());
        }
        if self.wanted.users {
            self.names(&user)?;
        }
        let look = self.look;
        let upto = self.base.db.meta().applied_lsn;
        look.mailboxes(name.as_deref(), upto, &mut |proven| self.mailbox(proven, name.as_deref()))?;
        if !self.plan.older.is_empty() {
            self.plan.commands.clear();
            self.found.strangers.clear();
            return Ok(());
        }
        if self.wanted.users {
            // The mailboxes that are roots are there by then.
            user.roots.iter().try_for_each(|(key, limits)| self.limits(key, *limits))?;
        }
        self.manifest(name.as_deref())
    }

    /// A manifest that is missing, not whole, or lacks rows (an older program wrote fewer) is made again from what the database knows, and
    /// the indexes; where something is adopted, the next checkpoint does that.
    fn manifest(&mut self, user: Option<&str>) -> Result<()> {
        let (rows, reading) = self.look.rows()?;
        if !self.wanted.dry_run && self.found.checked > 0 {
            self.store.due.read_manifest(user.unwrap_or(self.look.home.path()), &reading);
        }
        if !self.plan.commands.is_empty() || !self.wanted.users {
            return Ok(());
        }
        let action = match (reading.is_there, reading.is_whole()) {
            (true, true) if self.lacks(&rows)? => "manifest completed",
            (true, true) => return Ok(()),
            (true, false) => "manifest made again",
            (false, _) if mail::is_home(&*self.base.db, self.look.partition, self.look.home)? => "manifest made again",
            (false, _) => return Ok(()),
        };
        let what = user.unwrap_or(self.look.home.path()).to_owned();
        self.found.changes.push(Changed { what, action: action.to_owned() });
        if self.wanted.dry_run {
            return Ok(());
        }
        let _writer = lock(&self.store.db);
        self.store.remirror(&self.base.db, (self.look.partition, self.look.disk), self.look.home)
    }

    /// True if a whole manifest does not know of something that every checkpoint writes to it.
    fn lacks(&self, rows: &MirroredRows) -> Result<bool> {
        let (db, at) = (&*self.base.db, (self.look.partition, self.look.home));
        // Shared mailboxes are on several partitions, and their limits where they are; what names stood for lies with mailboxes.
        let own =
            |table: &Table| matches!(table, Table::Users | Table::Quotas | Table::Subscriptions) && !self.is_shared();
        let lacks_row = |row: &(Table, Vec<u8>)| rows.get(row).is_none_or(|known| known.value.is_none());
        if mail::rows_at(db, at.0, at.1)?.iter().any(|row| own(&row.0) && lacks_row(row)) {
            return Ok(true);
        }
        let heads = self.look.known_mailboxes()?;
        Ok(mail::mailboxes_at(db, at.0, at.1)?.iter().any(|id| heads.get(id).is_none_or(Option::is_some)))
    }

    /// What names stood for, as far as the database does not know it.
    fn names(&mut self, proven: &ProvenUser) -> Result<()> {
        let mut lacking = Vec::new();
        for (key, row) in &proven.past {
            let known = self.view.get(Table::Past, key)?;
            let known = known.map(|known| PastRow::decode(key, &known)).transpose()?;
            if known.is_none_or(|known| known.uidvalidity < row.uidvalidity) {
                lacking.push((key.clone(), row.clone()));
            }
        }
        for names in lacking.chunks(NAMES_AT_ONCE) {
            let what = names.first().map_or_else(String::new, |(key, _)| key_text(key));
            let action = format!("what it stood for added, and {} more names", names.len() - 1);
            self.plan.commands.push((Command::AdoptNames(names.to_vec()), Changed { what, action }));
        }
        Ok(())
    }

    /// Limits that the database has otherwise, or not at all.
    pub(super) fn limits(&mut self, key: &[u8], limits: Limits) -> Result<()> {
        let known = self.view.get(Table::Quotas, key)?;
        if known != self.base.db.get(Table::Quotas, key)? {
            return Ok(());
        }
        let known = known.map(|row| QuotaRow::decode(key, &row)).transpose()?;
        let now = known.map(|row| (row.storage_limit, row.message_limit));
        if now.unwrap_or_default() == limits {
            return Ok(());
        }
        let change = |limit: Option<u64>| limit.map_or(LimitChange::Remove, LimitChange::To);
        let root = crate::model::QuotaRoot::from_key(key).map_or_else(|| key_text(key), |root| root.to_string());
        let command = Command::QuotaSet { root: root.clone(), storage: change(limits.0), messages: change(limits.1) };
        self.plan.commands.push((command, Changed { what: root, action: "limits corrected".to_owned() }));
        Ok(())
    }

    pub(super) fn finding(&mut self, place: &Place, what: &str, expected: &str, found: String) {
        let r#where = self.look.disk.display(&place.path());
        let (what, expected) = (what.to_owned(), expected.to_owned());
        self.retold(place, Finding { r#where, what, expected, found });
    }

    /// A finding that a look at the indexes tells again if it is still so.
    pub(super) fn retold(&mut self, place: &Place, finding: Finding) {
        if self.found.findings.len() < FINDINGS {
            self.found.retold.insert(self.found.findings.len(), place.id);
            self.found.findings.push(finding);
        }
    }
}

/// Key and row of a mailbox, deleted or not.
pub(in crate::store) fn known(rows: &dyn Rows, id: u64) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
    let key = id_key(id);
    let Some(row) = rows.get(Table::Ids, &key)? else { return Ok(None) };
    let at = IdRow::decode(&key, &row)?;
    let key = at.key.as_bytes().to_vec();
    Ok(rows.get(at.table(), &key)?.map(|row| (key, row)))
}
