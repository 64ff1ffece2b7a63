//! Do the tables agree with each other?
//!
//! # Purpose
//! The rules that every transaction keeps, looked at from outside, row by row. It reads, and changes nothing (I7). Used
//! by `storedd test` and by every test of the planner. That a row's bytes are those written is the database's own check.
//!
//! # Rules
//! * A user has an INBOX, a quota root and a partition that is registered. A mailbox has an owner who is there (unless
//!   it is shared) and a partition that is registered. Keys are in their one form.
//! * The table of rights holds exactly the entries of all mailboxes, without those of their owners. Identifiers are in
//!   their one form, rights are letters and digits.
//! * No number is given to two users, mailboxes or deleted mailboxes. No two partitions have one identity.
//! * A mailbox's UIDVALIDITY is above what its name had before, or it is the same mailbox with the same one (I6).
//! * A quota root is a user or a mailbox that is there, a mailbox only with a limit; its usage is the sum over the
//!   mailboxes that count in it (I9).
//! * The table of ids names the row of every mailbox and every deleted mailbox, and no other.
//! * A subscription belongs to a user. Its mailbox need not be there (RFC 9051 6.3.7).

use super::name::{MailboxName, owner_of};
use super::quota::{Counted, QuotaRoot, Tally};
use super::rights;
use super::rows::{
    IdRow, MailboxView, PartitionRow, PastRow, QuotaRow, RightsRow, Row, SubscriptionRow, TombstoneRow, UserView,
    id_key, id_of, joined, quota_key, readable_key, split,
};
use super::seen::SeenRow;
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
    check_while(rows, &mut |_| true)
}

/// As [`check`]. `each` is called now and then with the rows looked at so far; an answer of `false` ends it.
///
/// # Errors
/// As [`check`], and [`StoreError::Busy`] if `each` ended it.
pub fn check_while(rows: &dyn Rows, each: &mut dyn FnMut(u64) -> bool) -> Result<Report> {
    let mut checker = Checker {
        rows,
        goes_on: each,
        report: Report::default(),
        partitions: BTreeSet::new(),
        ids: Vec::new(),
        rights_found: 0,
        ids_found: 0,
        owner: None,
        tally: Tally::default(),
    };
    checker.partitions()?;
    checker.each(Table::Users, Checker::user)?;
    checker.each(Table::Mailboxes, Checker::mailbox)?;
    checker.sums()?;
    checker.each(Table::Past, Checker::past)?;
    checker.each(Table::Quotas, Checker::quota)?;
    checker.each(Table::Subscriptions, Checker::subscription)?;
    checker.each(Table::Seen, Checker::seen)?;
    checker.rights()?;
    checker.other_ids()?;
    checker.numbers();
    Ok(checker.report)
}

struct Checker<'a> {
    rows: &'a dyn Rows,
    /// Told of the rows so far; `false` ends the check.
    goes_on: &'a mut dyn FnMut(u64) -> bool,
    report: Report,
    partitions: BTreeSet<String>,
    /// Every number given to a user, a mailbox or a deleted mailbox.
    ids: Vec<u64>,
    /// Rows of the table of rights that a mailbox's row asks for.
    rights_found: u64,
    /// Rows of the table of ids that mailboxes and tombstones ask for.
    ids_found: u64,
    /// The owner of the mailbox looked at, and whether he is there.
    owner: Option<(String, bool)>,
    tally: Tally,
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
            if self.report.rows.is_multiple_of(1024) && !(self.goes_on)(self.report.rows) {
                ended = Err(StoreError::Busy { why: "the check was ended".to_owned() });
                return ControlFlow::Break(());
            }
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
        self.charge(key, &row)?;
        self.owner(key, owner)?;
        self.ids.push(row.id);
        self.id(key, row.id)?;
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
        for &(who, letters) in &row.acl {
            if !letters.bytes().all(|b| b.is_ascii_alphanumeric())
                || rights::identifier(who).ok().as_deref() != Some(who)
            {
                let found = format!("{who:?} {letters:?}");
                self.add(Table::Mailboxes, key, "entry of rights", found, "an identifier and its rights");
            }
        }
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

    /// Keys come in order, so those of one owner come together: he is looked for once.
    fn owner(&mut self, key: &[u8], owner: Option<&str>) -> Result<()> {
        let Some(user) = owner else { return Ok(()) };
        let known = self.owner.take().filter(|(known, _)| known == user);
        let (user, there) = match known {
            Some(known) => known,
            None => (user.to_owned(), self.rows.contains(Table::Users, user.as_bytes())?),
        };
        if !there {
            self.add(Table::Mailboxes, key, "owner", format!("no user {user}"), "one who is there");
        }
        self.owner = Some((user, there));
        Ok(())
    }

    /// Counts a mailbox in its quota root. Keys come in order, as the tally needs them.
    fn charge(&mut self, key: &[u8], row: &MailboxView<'_>) -> Result<()> {
        let (rows, mut closed) = (self.rows, Vec::new());
        self.tally.add(rows, key, row.usage(), &mut |root| closed.push(root))?;
        closed.iter().try_for_each(|root| self.counted(root))
    }

    fn sums(&mut self) -> Result<()> {
        let mut closed = Vec::new();
        std::mem::take(&mut self.tally).finish(&mut |root| closed.push(root));
        closed.iter().try_for_each(|root| self.counted(root))
    }

    /// The usage of a root is the sum over the mailboxes that count in it (I9).
    fn counted(&mut self, Counted { root, usage }: &Counted) -> Result<()> {
        let Some(row) = self.rows.get(Table::Quotas, root)? else { return Ok(()) };
        // A row that cannot be decoded is found where its table is looked at.
        if let Ok(row) = QuotaRow::decode(root, &row)
            && row.usage() != *usage
        {
            self.add(Table::Quotas, root, "usage", row.usage(), &usage.to_string());
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
        self.id(key, tombstone.mailbox.id)?;
        self.partition(TABLE, key, &tombstone.mailbox.partition);
        if id != format!("{:016x}", tombstone.mailbox.id).as_bytes() {
            self.add(TABLE, key, "number", tombstone.mailbox.id, "that of its key");
        }
        // By what the name was, or by the mailbox that has it again with the UIDVALIDITY of before, from a backup.
        let past = self.rows.get(TABLE, name)?.map(|row| PastRow::decode(name, &row)).transpose()?;
        let now = self.rows.get(Table::Mailboxes, name)?;
        // A row that cannot be decoded is found where its table is looked at.
        let now = now.and_then(|row| Some(MailboxView::decode(name, &row).ok()?.uidvalidity));
        let remembered = past.map(|past| past.uidvalidity).max(now);
        if remembered.is_none_or(|remembered| remembered < tombstone.mailbox.uidvalidity) {
            self.add(TABLE, key, "UIDVALIDITY", tombstone.mailbox.uidvalidity, "remembered for the name");
        }
        Ok(())
    }

    fn quota(&mut self, key: &[u8], row: &[u8]) -> Result<()> {
        let row = QuotaRow::decode(key, row)?;
        match QuotaRoot::from_key(key) {
            Some(QuotaRoot::User(user)) => {
                if !self.rows.contains(Table::Users, user.as_str().as_bytes())? {
                    self.add(Table::Quotas, key, "quota root", "no such user", "one who is there");
                }
            }
            Some(QuotaRoot::Mailbox(name)) => {
                if !self.rows.contains(Table::Mailboxes, name.key())? {
                    self.add(Table::Quotas, key, "quota root", "no such mailbox", "one that is there");
                }
                if row.storage_limit.is_none() && row.message_limit.is_none() {
                    self.add(Table::Quotas, key, "quota root", "no limit", "one for a mailbox that is a root");
                }
            }
            None => self.add(Table::Quotas, key, "key", format!("{key:?}"), "user id or mailbox name"),
        }
        Ok(())
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

    /// The mailbox may be deleted, and gone for good: then the row goes with the next write-out.
    fn seen(&mut self, key: &[u8], row: &[u8]) -> Result<()> {
        let (user, id) = split(key).unwrap_or((key, b""));
        if !self.rows.contains(Table::Users, user)? {
            self.add(Table::Seen, key, "seen state", "no such user", "one who is there");
        }
        if id_of(id).is_none() {
            self.add(Table::Seen, key, "key", format!("{key:?}"), "user id and mailbox id");
        }
        let row = SeenRow::decode(key, row)?;
        if !row.is_sound() {
            self.add(Table::Seen, key, "runs of UIDs", "others", "in order, apart, not empty");
        }
        Ok(())
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

    /// The table of ids names this row for the mailbox.
    fn id(&mut self, key: &[u8], id: u64) -> Result<()> {
        if !self.rows.has(Table::Ids) {
            return Ok(());
        }
        let id = id_key(id);
        let row = self.rows.get(Table::Ids, &id)?;
        self.ids_found += u64::from(row.is_some());
        // A row that cannot be decoded is a finding where the mailbox's own is looked at: it is found from there only.
        let found = row.map(|row| IdRow::decode(&id, &row)).transpose()?.map(|row| row.key);
        if found.as_deref().map(str::as_bytes) != Some(key) {
            let found = found.map_or_else(|| "none".to_owned(), |key| super::name::key_text(key.as_bytes()));
            self.add(Table::Ids, &id, "key", found, &super::name::key_text(key));
        }
        Ok(())
    }

    /// Those that a mailbox or a tombstone asks for were looked at; there are others only if there are more.
    fn other_ids(&mut self) -> Result<()> {
        if !self.rows.has(Table::Ids) {
            return Ok(());
        }
        let mut count = 0;
        self.rows.scan(Table::Ids, Bound::Unbounded, &mut |_, _| {
            count += 1;
            ControlFlow::Continue(())
        })?;
        if count == self.ids_found {
            self.report.rows += count;
            return Ok(());
        }
        self.each(Table::Ids, Checker::other_id)
    }

    fn other_id(&mut self, key: &[u8], row: &[u8]) -> Result<()> {
        let named = IdRow::decode(key, row)?;
        let (table, named) = (named.table(), named.key.into_bytes());
        let due = match (self.rows.get(table, &named)?, table) {
            (Some(row), Table::Mailboxes) => id_key(MailboxView::decode(&named, &row)?.id) == key,
            (Some(_), _) => split(&named).is_some_and(|(_, id)| id == key),
            (None, _) => false,
        };
        if !due {
            self.add(Table::Ids, key, "key", super::name::key_text(&named), "none: no mailbox has this number");
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
