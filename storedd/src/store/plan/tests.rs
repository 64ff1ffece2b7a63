//! Tests of the planner: each rule by an example, and a random workload against an independent model.

mod broken;
mod import;
mod mailboxes;
mod quotas;
mod random;
mod rights;
mod simple;
mod users;

use super::{Counts, Ids, Limits, PlanError, Planned, Policy, plan_with};
use crate::error::Result;
use crate::lsn::Micros;
use crate::model::command::RefusalKind;
use crate::model::ids::Derived;
use crate::model::name::MailboxName;
use crate::model::quota::{Usage, roots_above};
use crate::model::rights::Acl;
use crate::model::rows::{MailboxRow, PartitionRow, QuotaRow, Row, UserRow, quota_key};
use crate::model::table::MapRows;
use crate::model::{Change, Command, Outcome, Refusal, Rows, Table, check};
use crate::wal::payload;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::{Bound, ControlFlow};

/// Numbers, one after the other.
#[derive(Debug, Default)]
pub(super) struct Counter {
    object: u64,
    uidvalidity: u32,
    noted: Vec<u32>,
}

impl Ids for Counter {
    fn note_object_id(&mut self, used: u64) -> Result<()> {
        self.object = self.object.max(used);
        Ok(())
    }

    fn next_object_id(&mut self) -> Result<u64> {
        self.object += 1;
        Ok(self.object)
    }

    fn next_uidvalidity(&mut self, above: u32) -> Result<u32> {
        self.uidvalidity = self.uidvalidity.max(above) + 1;
        Ok(self.uidvalidity)
    }

    fn note_uidvalidity(&mut self, used: u32) -> Result<()> {
        self.noted.push(used);
        self.uidvalidity = self.uidvalidity.max(used);
        Ok(())
    }
}

/// A store that is nothing but rows.
#[derive(Debug)]
pub(super) struct World {
    rows: MapRows,
    ids: Counter,
    now: u64,
    transaction_bytes_max: usize,
    limits: Limits,
    /// Whether every change is followed by a check of all rules.
    checked: bool,
}

/// The rows once the log record of these changes was replayed, twice as after a crash in a recovery.
fn replayed(mut rows: MapRows, changes: &[Change<'_>]) -> MapRows {
    let mut record = Vec::new();
    payload::put_transaction(changes, &mut record).unwrap();
    let mut derived = Derived::default();
    for _ in 0..2 {
        derived.begin();
        for change in payload::changes(&record).unwrap() {
            let change = change.unwrap();
            let id = derived.follow(&change).unwrap().map(|(key, row)| match row {
                Some(row) => Change::Put { table: Table::Ids, key: key.into(), row: row.into() },
                None => Change::Remove { table: Table::Ids, key: key.into() },
            });
            rows.apply(&[change]);
            rows.apply(id.as_slice());
        }
    }
    rows
}

impl World {
    /// A store with the partitions `primary` and `archive`.
    fn new() -> World {
        let ids = Counter { object: 0, uidvalidity: 1000, noted: Vec::new() };
        let (rows, limits) = Default::default();
        let mut world = World { rows, ids, now: 1, transaction_bytes_max: 15 << 20, limits, checked: true };
        for (name, n) in [("primary", 1), ("archive", 2)] {
            assert_eq!(world.run(&Command::PartitionAdd { name: name.into(), id: [n; 16] }), Ok(Outcome::Done));
        }
        world
    }

    /// With users joe and ann@example.org.
    fn with_users() -> World {
        let mut world = World::new();
        world.ok(user_add("joe"));
        world.ok(user_add("ann@example.org"));
        world
    }

    fn plan(&mut self, command: &Command) -> std::result::Result<Planned, Refusal> {
        self.now += 1;
        let transaction_bytes_max = self.transaction_bytes_max;
        let policy = Policy { transaction_bytes_max, limits: self.limits, ..Policy::default() };
        match plan_with(&policy, command, &self.rows, &mut self.ids, Micros(self.now)) {
            Ok(planned) => Ok(planned),
            Err(PlanError::Refused(refusal)) => Err(refusal),
            Err(e) => panic!("{command:?}: {e}"),
        }
    }

    /// Plans and applies, and looks at everything that must hold after any command.
    fn run(&mut self, command: &Command) -> std::result::Result<Outcome, Refusal> {
        let Planned { changes, outcome, counts, come, .. } = self.plan(command)?;
        let keys: BTreeSet<_> = changes.iter().map(|c| place(c)).collect();
        assert_eq!(keys.len(), changes.len(), "one change a key: {command:?}");
        assert!(changes.iter().map(|c| place(c)).is_sorted());
        if outcome == Outcome::Unchanged {
            assert!(changes.is_empty(), "{command:?}");
        }
        if self.checked {
            let there = |rows: &MapRows, table| rows.0.keys().filter(|(t, _)| *t == table).count() as i64;
            let mut after = self.rows.clone();
            after.apply(&changes);
            let [users, mailboxes] = [Table::Users, Table::Mailboxes].map(|t| there(&after, t) - there(&self.rows, t));
            assert_eq!(counts, Counts { users, mailboxes }, "{command:?}");
            for (user, by) in come {
                let of = |rows: &MapRows| rows.mailboxes_of(&user).unwrap() as i64;
                assert_eq!(of(&after) - of(&self.rows), by, "{command:?}: {user}");
            }
        }
        let before = self.rows.clone();
        self.rows.apply(&changes);
        if self.checked {
            assert_eq!(
                replayed(before, &changes),
                self.rows,
                "{command:?}: a replay of its record gives the same rows"
            );
            let once = self.rows.clone();
            self.rows.apply(&changes);
            assert_eq!(once, self.rows, "applying twice is harmless"); // I5
            self.check(&format!("{command:?}"));
        }
        Ok(outcome)
    }

    fn check(&self, after: &str) {
        let report = check::check(&self.rows).unwrap();
        assert!(report.findings.is_empty(), "after {after}: {:#?}", report.findings);
    }

    fn ok(&mut self, command: Command) -> Outcome {
        self.run(&command).unwrap_or_else(|r| panic!("{command:?}: {r}"))
    }

    /// The command is refused so, and changes nothing.
    fn refused(&mut self, command: Command, kind: RefusalKind) -> Refusal {
        let before = self.rows.clone();
        match self.run(&command) {
            Ok(outcome) => panic!("{command:?}: {outcome:?}"),
            Err(refusal) => {
                assert_eq!(refusal.kind, kind, "{command:?}: {refusal}");
                assert_eq!(before, self.rows);
                refusal
            }
        }
    }

    fn mailbox(&self, name: &str) -> Option<MailboxRow> {
        let key = MailboxName::parse(name).unwrap();
        let row = self.rows.get(Table::Mailboxes, key.key()).unwrap()?;
        Some(MailboxRow::decode(key.key(), &row).unwrap())
    }

    fn user(&self, user: &str) -> Option<UserRow> {
        let row = self.rows.get(Table::Users, user.as_bytes()).unwrap()?;
        Some(UserRow::decode(user.as_bytes(), &row).unwrap())
    }

    fn acl(&self, name: &str) -> Vec<(String, String)> {
        self.mailbox(name).unwrap().acl.into_iter().collect()
    }

    /// The readable keys of a table.
    fn keys(&self, table: Table) -> Vec<String> {
        let mut keys = Vec::new();
        self.rows
            .scan(table, Bound::Unbounded, &mut |key, _| {
                keys.push(crate::model::rows::readable_key(table, key));
                ControlFlow::Continue(())
            })
            .unwrap();
        keys
    }

    /// As a delivery will do it: messages arrive, and the quota root counts them.
    fn deliver(&mut self, name: &str, bytes: u64) {
        let key = MailboxName::parse(name).unwrap();
        let mut row = self.mailbox(name).unwrap();
        row.messages += 1;
        row.bytes += bytes;
        row.uidnext += 1;
        self.put(key.key().to_vec(), &row);
        for root in roots_above(key.key()) {
            if let Some(quota) = self.rows.get(Table::Quotas, root).unwrap() {
                let quota = QuotaRow::decode(root, &quota).unwrap();
                let usage = quota.usage().plus(Usage { bytes, messages: 1 });
                self.put(root.to_vec(), &quota.with_usage(usage));
                break;
            }
        }
    }

    fn quota(&self, user: &str) -> QuotaRow {
        let key = quota_key(user);
        QuotaRow::decode(&key, &self.rows.get(Table::Quotas, &key).unwrap().unwrap()).unwrap()
    }

    fn put<R: Row>(&mut self, key: Vec<u8>, row: &R) {
        let row = Cow::Owned(row.encode().unwrap());
        self.rows.apply(&[Change::Put { table: R::TABLE, key: Cow::Owned(key), row }]);
    }
}

fn place<'a>(change: &'a Change<'_>) -> (Table, &'a [u8]) {
    match change {
        Change::Put { table, key, .. } | Change::Remove { table, key } => (*table, key.as_ref()),
        Change::Message { .. } => (Table::Messages, b""),
    }
}

fn user_add(user: &str) -> Command {
    Command::UserAdd { user: user.into(), partition: None, quota_bytes: None, quota_messages: None }
}

fn user_delete(user: &str) -> Command {
    Command::UserDelete { user: user.into() }
}

fn user_rename(user: &str, to: &str) -> Command {
    Command::UserRename { user: user.into(), to: to.into() }
}

fn create(name: &str) -> Command {
    Command::MailboxCreate { name: name.into(), partition: None }
}

fn delete(name: &str) -> Command {
    Command::MailboxDelete { name: name.into() }
}

fn rename(from: &str, to: &str) -> Command {
    Command::MailboxRename { from: from.into(), to: to.into() }
}

fn acl_set(name: &str, identifier: &str, rights: &str) -> Command {
    Command::AclSet { name: name.into(), identifier: identifier.into(), rights: rights.into() }
}

fn acl_delete(name: &str, identifier: &str) -> Command {
    Command::AclDelete { name: name.into(), identifier: identifier.into() }
}

fn subscribe(user: &str, name: &str) -> Command {
    Command::Subscribe { user: user.into(), name: name.into() }
}

fn unsubscribe(user: &str, name: &str) -> Command {
    Command::Unsubscribe { user: user.into(), name: name.into() }
}

fn import(name: &str, uidvalidity: u32, acl: &[(&str, &str)]) -> Command {
    let acl: Acl = acl.iter().map(|(who, rights)| ((*who).to_owned(), (*rights).to_owned())).collect();
    Command::ImportMailbox { name: name.into(), partition: None, uidvalidity, acl }
}

fn entries(acl: &[(&str, &str)]) -> Vec<(String, String)> {
    acl.iter().map(|(who, rights)| ((*who).to_owned(), (*rights).to_owned())).collect()
}
