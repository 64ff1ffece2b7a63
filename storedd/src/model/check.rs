//! Do the tables agree with each other?
//!
//! # Purpose
//! The rules that every transaction keeps, looked at from outside, row by row. It reads, and changes nothing (I7). Used
//! by `storedd test` and by every test of the planner. That a row's bytes are those written is the database's own check.
//!
//! # Rules
//! * A user has an INBOX, a quota root and a partition that is registered. A mailbox has an owner who is there (unless
//!   it is shared) and a partition that is registered. Keys are in their one form.
//! * The table of rights holds exactly the entries of all mailboxes, without those of their owners.
//! * No number is given to two users, mailboxes or deleted mailboxes. No two partitions have one identity.
//! * A mailbox's UIDVALIDITY is above what its name had before, or it is the same mailbox with the same one (I6).
//! * A quota root belongs to a user, and its usage is the sum over his mailboxes (I9).
//! * A subscription belongs to a user. Its mailbox need not be there (RFC 9051 6.3.7).

use super::name::{MailboxName, owner_of};
use super::rows::{
    MailboxView, PartitionRow, PastRow, QuotaRow, RightsRow, Row, SubscriptionRow, TombstoneRow, UserView, joined,
    quota_key, readable_key, split,
};
use super::table::{Rows, Table};
use super::user::check_user;
use crate::error::{Result, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::{Bound, ControlFlow};

/// Most findings that a report lists; the rest is counted.
pub const FINDINGS_MAX: usize = 1000;

/// Two rows that do not agree, or one that cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Table and key.
    pub place: String,
    /// Which rule.
    pub what: &'static str,
    /// What is there.
    pub found: String,
    /// What should be there.
    pub expected: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: found {}, expected {}", self.place, self.what, self.found, self.expected)
    }
}

/// What [`check`] saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Rows read.
    pub rows: u64,
    /// The first 1,000 findings.
    pub findings: Vec<Finding>,
    /// Number of all findings.
    pub total: u64,
}

/// Looks at every row of every table. Needs memory for one number per user and mailbox.
///
/// # Errors
/// If rows cannot be read at all. A row that cannot be decoded is a finding.
pub fn check(rows: &dyn Rows) -> Result<Report> {
    let mut checker = Checker {
        rows,
        report: Report::default(),
        partitions: BTreeSet::new(),
        ids: Vec::new(),
        rights_found: 0,
        owner: Charged::default(),
    };
    checker.partitions()?;
    checker.each(Table::Users, Checker::user)?;
    checker.each(Table::Mailboxes, Checker::mailbox)?;
    checker.close_owner()?;
    checker.each(Table::Past, Checker::past)?;
    checker.each(Table::Quotas, Checker::quota)?;
    checker.each(Table::Subscriptions, Checker::subscription)?;
    checker.rights()?;
    checker.numbers();
    Ok(checker.report)
}

struct Checker<'a> {
    rows: &'a dyn Rows,
    report: Report,
    partitions: BTreeSet<String>,
    /// Every number given to a user, a mailbox or a deleted mailbox.
    ids: Vec<u64>,
    /// Rows of the table of rights that a mailbox's row asks for.
    rights_found: u64,
    owner: Charged,
}

/// What the mailboxes of the owner looked at now add up to.
#[derive(Default)]
struct Charged {
    user: Option<String>,
    exists: bool,
    bytes: u64,
    messages: u64,
}

impl Checker<'_> {
    fn add(&mut self, table: Table, key: &[u8], what: &'static str, found: impl fmt::Display, expected: &str) {
        let place = format!("table {}, {}", table.name(), readable_key(table, key));
        self.push(place, what, found.to_string(), expected.to_owned());
    }

    fn push(&mut self, place: String, what: &'static str, found: String, expected: String) {
        self.report.total += 1;
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.findings.push(Finding { place, what, found, expected });
        }
    }

    /// Calls `look` for every row. A row that cannot be decoded is a finding; other errors end the check.
    fn each(&mut self, table: Table, look: fn(&mut Self, &[u8], &[u8]) -> Result<()>) -> Result<()> {
        let rows = self.rows;
        let mut ended = Ok(());
        rows.scan(table, Bound::Unbounded, &mut |key, row| {
            self.report.rows += 1;
            match look(self, key, row) {
                Ok(()) => ControlFlow::Continue(()),
                Err(e @ (StoreError::Corrupt { .. } | StoreError::Foreign { .. })) => {
                    self.add(table, key, "row", e, "a row that can be decoded");
                    ControlFlow::Continue(())
                }
                Err(e) => {
                    ended = Err(e);
                    ControlFlow::Break(())
                }
            }
        })?;
        ended
    }

    fn partitions(&mut self) -> Result<()> {
        let mut by_id: BTreeMap<[u8; 16], Vec<u8>> = BTreeMap::new();
        let mut all = Vec::new();
        self.rows.scan(Table::Partitions, Bound::Unbounded, &mut |key, row| {
            all.push((key.to_vec(), PartitionRow::decode(key, row)));
            ControlFlow::Continue(())
        })?;
        for (key, row) in all {
            self.report.rows += 1;
            self.partitions.insert(String::from_utf8_lossy(&key).into_owned());
            match row {
                Ok(row) => {
                    if let Some(other) = by_id.insert(row.id, key.clone()) {
                        let other = String::from_utf8_lossy(&other).into_owned();
                        self.add(Table::Partitions, &key, "identity", format!("that of {other}"), "one of its own");
                    }
                }
                Err(e) => self.add(Table::Partitions, &key, "row", e, "a row that can be decoded"),
            }
        }
        Ok(())
    }

    fn partition(&mut self, table: Table, key: &[u8], partition: &str) {
        if !self.partitions.contains(partition) {
            self.add(table, key, "partition", partition, "one that is registered");
        }
    }

    fn user(&mut self, key: &[u8], row: &[u8]) -> Result<()> {
        let Some(user) = std::str::from_utf8(key).ok().filter(|user| check_user(user).is_ok()) else {
            self.add(Table::Users, key, "key", format!("{key:?}"), "a user id");
            return Ok(());
        };
        let row = UserView::decode(key, row)?;
        self.ids.push(row.id);
        self.partition(Table::Users, key, row.partition);
        if !self.rows.contains(Table::Mailboxes, MailboxName::inbox(user).key())? {
            self.add(Table::Users, key, "INBOX", "none", "one for every user");
        }
        if !self.rows.contains(Table::Quotas, &quota_key(user))? {
            self.add(Table::Users, key, "quota root", "none", "one for every user");
        }
        Ok(())
    }

    fn mailbox(&mut self, key: &[u8], row: &[u8]) -> Result<()> {
        const TABLE: Table = Table::Mailboxes;
        if MailboxName::from_key(key).is_none() {
            self.add(TABLE, key, "key", format!("{key:?}"), "a mailbox name");
            return Ok(());
        }
        let row = MailboxView::decode(key, row)?;
        let owner = owner_of(key);
        self.charge(owner, &row)?;
        if let (Some(owner), false) = (owner, self.owner.exists) {
            self.add(TABLE, key, "owner", format!("no user {owner}"), "one who is there");
        }
        self.ids.push(row.id);
        self.partition(TABLE, key, row.partition);
        if row.uidvalidity == 0 || row.uidnext == 0 {
            let found = format!("UIDVALIDITY {}, UIDNEXT {}", row.uidvalidity, row.uidnext);
            self.add(TABLE, key, "numbers", found, "none that is 0");
        }
        if let Some(past) = self.rows.get(Table::Past, key)? {
            let past = PastRow::decode(key, &past)?;
            let same = past.uidvalidity == row.uidvalidity && past.mailbox_id == row.id;
            if past.uidvalidity >= row.uidvalidity && !same {
                let found = format!("{} of mailbox {}", row.uidvalidity, row.id);
                let expected = format!("above {} of mailbox {}", past.uidvalidity, past.mailbox_id);
                self.add(TABLE, key, "UIDVALIDITY", found, &expected);
            }
        }
        self.entries(key, &row, owner)
    }

    /// Every entry but the owner's has its row in the table of rights.
    fn entries(&mut self, key: &[u8], row: &MailboxView<'_>, owner: Option<&str>) -> Result<()> {
        for &(who, rights) in row.acl.iter().filter(|(who, _)| Some(*who) != owner) {
            let other = joined(who.as_bytes(), key);
            let found = match self.rows.get(Table::Rights, &other)? {
                Some(row) => {
                    self.rights_found += 1;
                    RightsRow::decode(&other, &row)?.rights
                }
                None => "none".to_owned(),
            };
            if found != rights {
                self.add(Table::Rights, &other, "rights", found, rights);
            }
        }
        Ok(())
    }

    /// Adds a mailbox to its owner's sum. Keys come in order, so those of one owner come together.
    fn charge(&mut self, owner: Option<&str>, row: &MailboxView<'_>) -> Result<()> {
        if self.owner.user.as_deref() != owner {
            self.close_owner()?;
            let exists = match owner {
                Some(user) => self.rows.contains(Table::Users, user.as_bytes())?,
                None => false,
            };
            self.owner = Charged { user: owner.map(str::to_owned), exists, bytes: 0, messages: 0 };
        }
        self.owner.bytes = self.owner.bytes.saturating_add(row.bytes);
        self.owner.messages = self.owner.messages.saturating_add(row.messages);
        Ok(())
    }

    fn close_owner(&mut self) -> Result<()> {
        let Charged { user: Some(user), bytes, messages, .. } = std::mem::take(&mut self.owner) else { return Ok(()) };
        let key = quota_key(&user);
        let Some(row) = self.rows.get(Table::Quotas, &key)? else { return Ok(()) };
        let row = QuotaRow::decode(&key, &row)?;
        if (row.storage_usage, row.message_usage) != (bytes, messages) {
            let found = format!("{} bytes, {} messages", row.storage_usage, row.message_usage);
            self.add(Table::Quotas, &key, "usage", found, &format!("{bytes} bytes, {messages} messages"));
        }
        Ok(())
    }

    fn past(&mut self, key: &[u8], row: &[u8]) -> Result<()> {
        const TABLE: Table = Table::Past;
        let (name, id) = match split(key) {
            Some((name, id)) => (name, Some(id)),
            None => (key, None),
        };
        if MailboxName::from_key(name).is_none() {
            self.add(TABLE, key, "key", format!("{key:?}"), "a mailbox name");
            return Ok(());
        }
        let Some(id) = id else {
            if PastRow::decode(key, row)?.uidvalidity == 0 {
                self.add(TABLE, key, "UIDVALIDITY", 0, "not 0");
            }
            return Ok(());
        };
        let tombstone = TombstoneRow::decode(key, row)?;
        self.ids.push(tombstone.mailbox.id);
        self.partition(TABLE, key, &tombstone.mailbox.partition);
        if id != format!("{:016x}", tombstone.mailbox.id).as_bytes() {
            self.add(TABLE, key, "number", tombstone.mailbox.id, "that of its key");
        }
        let past = self.rows.get(TABLE, name)?.map(|row| PastRow::decode(name, &row)).transpose()?;
        if past.is_none_or(|past| past.uidvalidity < tombstone.mailbox.uidvalidity) {
            self.add(TABLE, key, "UIDVALIDITY", tombstone.mailbox.uidvalidity, "remembered for the name");
        }
        Ok(())
    }

    fn quota(&mut self, key: &[u8], row: &[u8]) -> Result<()> {
        let user = key.strip_prefix(b"user\x01").unwrap_or_default();
        if !self.rows.contains(Table::Users, user)? {
            self.add(Table::Quotas, key, "quota root", "no such user", "one who is there");
        }
        QuotaRow::decode(key, row).map(drop)
    }

    fn subscription(&mut self, key: &[u8], row: &[u8]) -> Result<()> {
        let (user, name) = split(key).unwrap_or((key, b""));
        if !self.rows.contains(Table::Users, user)? {
            self.add(Table::Subscriptions, key, "subscription", "no such user", "one who is there");
        }
        if MailboxName::from_key(name).is_none() {
            self.add(Table::Subscriptions, key, "key", format!("{key:?}"), "user id and mailbox name");
        }
        SubscriptionRow::decode(key, row).map(drop)
    }

    /// Those that a mailbox asks for were looked at; there are others only if there are more.
    fn rights(&mut self) -> Result<()> {
        let mut count = 0;
        self.rows.scan(Table::Rights, Bound::Unbounded, &mut |_, _| {
            count += 1;
            ControlFlow::Continue(())
        })?;
        if count == self.rights_found {
            self.report.rows += count;
            return Ok(());
        }
        self.each(Table::Rights, Checker::right)
    }

    fn right(&mut self, key: &[u8], _row: &[u8]) -> Result<()> {
        let (who, name) = split(key).unwrap_or((key, b""));
        let row = self.rows.get(Table::Mailboxes, name)?;
        let row = row.as_deref().map(|row| MailboxView::decode(name, row)).transpose()?;
        let who = std::str::from_utf8(who).unwrap_or_default();
        let due = owner_of(name) != Some(who) && row.is_some_and(|row| row.acl.iter().any(|(w, _)| *w == who));
        if !due {
            self.add(Table::Rights, key, "rights", "an entry", "none, as in the mailbox's row");
        }
        Ok(())
    }

    fn numbers(&mut self) {
        self.ids.sort_unstable();
        let ids = std::mem::take(&mut self.ids);
        let twice = ids.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| format!("{} twice", pair[0]));
        for found in twice.chain(ids.first().filter(|id| **id == 0).map(|_| "0".to_owned())) {
            let place = "users, mailboxes and deleted mailboxes".to_owned();
            self.push(place, "number", found, "every number once, none of them 0".to_owned());
        }
    }
}
