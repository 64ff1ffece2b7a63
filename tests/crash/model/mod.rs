//! What must be visible, in plain maps, independent of the planner: its rules are written here a second time, from
//! the contract.
//!
//! A number that the store is free to choose is *fresh*: any number above all that were ever seen will do. Names are kept
//! as typed, with `/`.

mod messages;
mod numbers;
mod rules;
mod words;

use super::mail::{Filed, Shelf, Shelves, Shown};
use numbers::MatchUp;
use rules::Step;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};
use storedd::error::StoreError;
use storedd::model::command::RefusalKind;
use storedd::model::message::{Flags, State};
use storedd::model::name::key_text;
use storedd::model::rows::{
    MailboxRow, PartitionRow, PastRow, QuotaRow, Row, SubscriptionRow, TombstoneRow, UserRow, split,
};
use storedd::model::{Command, Outcome, Rows, Table};
use storedd::store::plan::Limits;

/// A number: one that was seen, or the n-th that this command issues. Issued ones are above all that were seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Number {
    Known(u64),
    Fresh(u32),
}

use Number::{Fresh, Known};

pub(super) type Acl = BTreeMap<String, String>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    id: Number,
    partition: String,
}

/// Limits of storage and messages.
pub(super) type QuotaLimits = (Option<u64>, Option<u64>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mailbox {
    id: Number,
    uidvalidity: Number,
    partition: String,
    acl: Acl,
    uidnext: u32,
    modseq: u64,
    /// By UID; those that were expunged are among them.
    mail: BTreeMap<u32, Letter>,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Letter {
    expunged: bool,
    flags: Flags,
    keywords: BTreeSet<String>,
    modseq: u64,
    internal_us: u64,
    size: u64,
    /// Over its bytes.
    sum: u64,
}

/// Bytes and messages.
type Usage = (u64, u64);

/// Everything that can be seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Tables {
    pub(super) users: BTreeMap<String, User>,
    pub(super) mailboxes: BTreeMap<String, Mailbox>,
    /// What a name stood for: UIDVALIDITY and mailbox.
    past: BTreeMap<String, (Number, Number)>,
    /// Deleted mailboxes by name and number, as they were.
    tombstones: BTreeMap<(String, Number), Mailbox>,
    pub(super) subscriptions: BTreeSet<(String, String)>,
    /// Limits of every quota root. What is used follows from the messages.
    pub(super) quotas: BTreeMap<String, QuotaLimits>,
    pub(super) partitions: BTreeMap<String, [u8; 16]>,
}

/// What can be seen, and the highest numbers that ever were.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub(super) tables: Tables,
    highest_id: u64,
    highest_uidvalidity: u64,
    limits: Limits,
}

impl Tables {
    /// What the store shows.
    pub(super) fn read(rows: &dyn Rows, mail: &Shelves) -> Result<Tables, String> {
        let (mut tables, mut used) = (Tables::default(), BTreeMap::new());
        for table in Table::ALL {
            let mut result = Ok(());
            rows.scan(
                table,
                Bound::Unbounded,
                &mut |key, row| match tables.read_row(table, key, row, mail, &mut used) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(e) => {
                        result = Err(format!("table {}: {e}", table.name()));
                        ControlFlow::Break(())
                    }
                },
            )
            .map_err(|e| e.to_string())?;
            result?;
        }
        for (root, usage) in used {
            let found = tables.usage(&root);
            if found != usage {
                return Err(format!("I9: {root} says that {usage:?} is used, its messages are {found:?}"));
            }
        }
        Ok(tables)
    }

    fn read_row(
        &mut self,
        table: Table,
        key: &[u8],
        row: &[u8],
        mail: &Shelves,
        used: &mut BTreeMap<String, Usage>,
    ) -> Result<(), StoreError> {
        let text = || key_text(key);
        match table {
            Table::Users => {
                let UserRow { id, partition, .. } = UserRow::decode(key, row)?;
                self.users.insert(text(), User { id: Known(id), partition });
            }
            Table::Mailboxes => {
                self.mailboxes.insert(text(), Mailbox::of(MailboxRow::decode(key, row)?, mail)?);
            }
            Table::Past => match split(key) {
                None => {
                    let past = PastRow::decode(key, row)?;
                    self.past.insert(text(), (Known(past.uidvalidity.into()), Known(past.mailbox_id)));
                }
                Some((name, _)) => {
                    let mailbox = TombstoneRow::decode(key, row)?.mailbox;
                    self.tombstones.insert((key_text(name), Known(mailbox.id)), Mailbox::of(mailbox, mail)?);
                }
            },
            Table::Quotas => {
                let quota = QuotaRow::decode(key, row)?;
                self.quotas.insert(text(), (quota.storage_limit, quota.message_limit));
                used.insert(text(), (quota.storage_usage, quota.message_usage));
            }
            Table::Subscriptions => {
                SubscriptionRow::decode(key, row)?;
                let (user, mailbox) = split(key).unwrap_or((key, b"?"));
                self.subscriptions.insert((key_text(user), key_text(mailbox)));
            }
            // The cross-check holds them equal to what the mailboxes' rows say; nobody sees anything where there are no messages.
            Table::Seen | Table::Rights | Table::Ids | Table::Messages | Table::Bodies => {}
            Table::Partitions => {
                self.partitions.insert(text(), PartitionRow::decode(key, row)?.id);
            }
        }
        Ok(())
    }

    /// What lies in partitions once everything is written down.
    pub(super) fn filed(&self) -> Filed {
        let all = self.mailboxes.values().chain(self.tombstones.values());
        let sums = |mailbox: &Mailbox| mailbox.mail.iter().map(|(uid, letter)| (*uid, letter.sum)).collect();
        let shelf = |mailbox: &Mailbox| {
            (mailbox.id.known(), Shelf { partition: mailbox.partition.clone(), sums: sums(mailbox) })
        };
        all.map(shelf).collect()
    }

    /// Name, UIDVALIDITY and number of every mailbox.
    pub(super) fn identities(&self) -> impl Iterator<Item = (String, u64, u64)> {
        self.mailboxes.iter().map(|(name, m)| (name.clone(), m.uidvalidity.known(), m.id.known()))
    }
}

impl Mailbox {
    /// A row that agrees with its messages.
    fn of(row: MailboxRow, shelves: &Shelves) -> Result<Mailbox, StoreError> {
        let MailboxRow { id, uidvalidity, partition, acl, uidnext, highest_modseq: modseq, .. } = row;
        let shelf = shelves.get(&id).into_iter().flatten();
        let mail: BTreeMap<u32, Letter> = shelf.map(|(uid, shown)| (*uid, Letter::of(shown))).collect();
        let live = || mail.values().filter(|letter| !letter.expunged);
        let counts = (live().map(|l| l.size).sum(), live().count() as u64);
        let unseen = live().filter(|letter| !letter.flags.has(Flags::SEEN)).count() as u64;
        let numbers = mail.iter().all(|(uid, letter)| *uid < uidnext && letter.modseq <= modseq);
        if (counts, unseen, numbers) != ((row.bytes, row.messages), row.unseen, true) {
            let told = (row.bytes, row.messages, row.unseen, uidnext, modseq);
            return Err(StoreError::Bug(format!("mailbox {id}: the row says {told:?}, the messages are {mail:?}")));
        }
        let (id, uidvalidity) = (Known(id), Known(uidvalidity.into()));
        Ok(Mailbox { id, uidvalidity, partition, acl, uidnext, modseq, mail })
    }
}

impl Letter {
    fn of((message, sum): &Shown) -> Letter {
        Letter {
            expunged: message.state == State::Expunged,
            flags: message.flags,
            keywords: message.keywords.clone(),
            modseq: message.modseq,
            internal_us: message.internal_us,
            size: message.size,
            sum: *sum,
        }
    }
}

impl Number {
    fn known(self) -> u64 {
        match self {
            Known(n) => n,
            Fresh(_) => 0,
        }
    }
}

impl Model {
    /// Nothing, in a store with these limits.
    pub(super) fn new(limits: Limits) -> Model {
        Model { limits, ..Model::default() }
    }

    /// The model after these commands, if `actual` is what can be seen then; else why it cannot be. `said`: what each
    /// command answered, where it did. Commands that are refused change nothing.
    pub(super) fn after(
        &self,
        commands: &[&Command],
        said: Option<&[Result<Outcome, RefusalKind>]>,
        actual: &Tables,
    ) -> Result<Model, String> {
        let mut step = Step::new(&self.tables, self.limits);
        let mut expected = Vec::new();
        for (nth, command) in commands.iter().enumerate() {
            let before = step.tables.clone();
            // Busy: the overlay is full, or it is larger than a log record takes. The model knows nothing of that.
            let excused = match said.map(|said| &said[nth]) {
                Some(Err(kind @ (RefusalKind::Busy | RefusalKind::TooLarge))) => Some(*kind),
                _ => None,
            };
            let plan = excused.map_or_else(|| step.run(command), Err);
            if plan.is_err() {
                step.tables = before;
            }
            expected.push(plan);
        }
        let mut match_up = MatchUp::new((self.highest_id, self.highest_uidvalidity));
        for (nth, said) in said.unwrap_or_default().iter().enumerate() {
            match_up.said(&expected[nth], said).map_err(|e| format!("{:?}: {e}", commands[nth]))?;
        }
        match_up.tables(&step.tables, actual)?;
        let known = match_up.resolve(step.tables, actual);
        if known != *actual {
            return Err(difference(&known, actual));
        }
        let mut model = Model { tables: known, ..*self };
        model.see();
        Ok(model)
    }

    /// The model after the longest prefix of commands nobody knows the fate of (but that the first `required` were done),
    /// if `actual` is what can be seen then.
    pub(super) fn after_some(&self, undecided: &[Command], required: usize, actual: &Tables) -> Result<Model, String> {
        let all: Vec<&Command> = undecided.iter().collect();
        let mut first = None;
        for count in (required..=all.len()).rev() {
            match self.after(&all[..count], None, actual) {
                Ok(model) => return Ok(model),
                Err(e) => first = Some(e),
            }
        }
        Err(first.unwrap_or_default())
    }

    /// Whether the command would be done, as far as that can be said without doing it.
    pub(super) fn would_do(&self, command: &Command) -> bool {
        Step::new(&self.tables, self.limits).run(command).is_ok()
    }

    fn see(&mut self) {
        let Tables { users, mailboxes, past, tombstones, .. } = &self.tables;
        let ids = users.values().map(|u| u.id).chain(mailboxes.values().map(|m| m.id));
        let ids = ids.chain(tombstones.keys().map(|(_, id)| *id));
        self.highest_id = ids.map(Number::known).max().unwrap_or(0).max(self.highest_id);
        let values = mailboxes.values().map(|m| m.uidvalidity).chain(past.values().map(|(v, _)| *v));
        self.highest_uidvalidity = values.map(Number::known).max().unwrap_or(0).max(self.highest_uidvalidity);
    }
}

/// The first few things that differ, as text.
pub(super) fn difference(expected: &Tables, actual: &Tables) -> String {
    fn lines(tables: &Tables) -> BTreeSet<String> {
        let Tables { users, mailboxes, past, tombstones, subscriptions, quotas, partitions } = tables;
        let users = users.iter().map(|(k, v)| format!("user {k}: {v:?}"));
        let mailboxes = mailboxes.iter().map(|(k, v)| format!("mailbox {k}: {v:?}"));
        let past = past.iter().map(|(k, v)| format!("past {k}: {v:?}"));
        let tombstones = tombstones.iter().map(|(k, v)| format!("tombstone {k:?}: {v:?}"));
        let subscriptions = subscriptions.iter().map(|s| format!("subscription {s:?}"));
        let partitions = partitions.iter().map(|(k, v)| format!("partition {k}: {v:?}"));
        let quotas = quotas.iter().map(|(k, v)| format!("quota {k}: {v:?}"));
        let all = users.chain(mailboxes).chain(past).chain(tombstones).chain(subscriptions);
        all.chain(partitions).chain(quotas).collect()
    }
    let (expected, actual) = (lines(expected), lines(actual));
    let gone = expected.difference(&actual).map(|line| format!("expected {line}"));
    let new = actual.difference(&expected).map(|line| format!("found {line}"));
    gone.chain(new).take(12).collect::<Vec<_>>().join("; ")
}
