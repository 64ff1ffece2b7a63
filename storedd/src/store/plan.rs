//! The planner: what a command changes, or why it is refused.
//!
//! # Purpose
//! A pure decision over the rows of one moment: no disk, no clock but the time handed in, no numbers but those of
//! [`Ids`]. Everything that can be refused is refused here, before a byte is written.
//!
//! # Operation
//! A command is planned on a draft over the rows, which sees its own changes. So an atomic batch is its commands planned
//! one after the other on one draft; the first refusal refuses all of it. What is left on the draft is the
//! transaction: at most one change a key, in order of table and key.
//!
//! # Invariants
//! * The tables agree with each other after every transaction; [`crate::model::check`] says how, and finds where not.
//! * I6: a mailbox takes a name only with a UIDVALIDITY above all that the name has had, or if it is the one mailbox
//!   that had the highest. A mailbox that leaves a name leaves a row in `Past`.
//! * A refused command changes nothing. Numbers it was given are not used again.

mod acl;
mod adopt;
mod draft;
mod import;
mod mailbox;
mod mend;
mod messages;
mod partition;
mod quota;
mod refuse;
mod restore;
mod seen;
#[cfg(test)]
mod tests;
mod user;

use super::counts::Counts;
use crate::error::{Result, StoreError};
use crate::lsn::{Micros, StoreId};
use crate::model::command::Incoming;
use crate::model::{Command, Outcome, Refusal, Rows, Transaction};
use crate::partition::Partitions;
use draft::Draft;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Where the numbers come from that are never given twice.
pub trait Ids {
    /// A number for a user or a mailbox.
    ///
    /// # Errors
    /// If no more numbers can be reserved.
    fn next_object_id(&mut self) -> Result<u64>;
    /// A number that a partition proves to be in use is not given to anyone else.
    ///
    /// # Errors
    /// As [`Ids::next_object_id`].
    fn note_object_id(&mut self, used: u64) -> Result<()>;
    /// A UIDVALIDITY above all given so far and above `above`.
    ///
    /// # Errors
    /// If there is none, or no more can be reserved.
    fn next_uidvalidity(&mut self, above: u32) -> Result<u32>;
    /// Another server's UIDVALIDITY is used; it is not given to anyone else.
    ///
    /// # Errors
    /// As [`Ids::next_uidvalidity`].
    fn note_uidvalidity(&mut self, used: u32) -> Result<()>;
}

/// Numbers for a dry run: nobody sees them again, and no real one is used up.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unissued(u64);

impl Ids for Unissued {
    fn next_object_id(&mut self) -> Result<u64> {
        self.0 += 1;
        Ok(self.0)
    }

    fn note_object_id(&mut self, _used: u64) -> Result<()> {
        Ok(())
    }

    fn next_uidvalidity(&mut self, above: u32) -> Result<u32> {
        Ok(above.saturating_add(1))
    }

    fn note_uidvalidity(&mut self, _used: u32) -> Result<()> {
        Ok(())
    }
}

/// Limits that the configuration sets; they may change while the store is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Most mailboxes of one user, INBOX among them; 0: no limit.
    pub mailboxes_per_user: u32,
    /// Bytes that a new user may store for whom nothing else is said; `None`: no limit.
    pub default_storage: Option<u64>,
    /// Messages, likewise.
    pub default_messages: Option<u64>,
    /// How long mail is still taken for a quota root that is over a limit; 0: not at all.
    pub grace: std::time::Duration,
}

/// Partitions that take no more mail until they have what they lack.
pub type Closed = Option<Arc<BTreeSet<String>>>;

/// What the configuration decides, and how the store is.
#[derive(Debug, Clone)]
pub struct Policy<'a> {
    /// Partition of new users and shared mailboxes for whom none is named.
    pub default_partition: &'a str,
    /// Most bytes of one transaction as it is logged.
    pub transaction_bytes_max: usize,
    /// Limits.
    pub limits: Limits,
    /// Partitions that take no more mail.
    pub closed: Closed,
    /// Which store it is.
    pub store: Option<StoreId>,
    /// Who knows which partitions lack changes.
    pub partitions: Option<&'a Partitions>,
}

impl Default for Policy<'_> {
    fn default() -> Self {
        Policy {
            default_partition: "primary",
            transaction_bytes_max: 15 << 20,
            limits: Limits::default(),
            closed: None,
            store: None,
            partitions: None,
        }
    }
}

/// A command that can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// What to write; empty if nothing has to be changed.
    pub changes: Transaction,
    /// The bodies that the changes name by number.
    pub bodies: Vec<Arc<Incoming>>,
    /// What to answer once it is durable.
    pub outcome: Outcome,
    /// Users and mailboxes that come (or go, below 0).
    pub counts: Counts,
    /// By how much the number of each user's mailboxes changes.
    pub come: Come,
}

/// Mailboxes that come to a user (or leave him, below 0).
pub type Come = BTreeMap<String, i64>;

/// Why a command is not done. Nothing was changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PlanError {
    /// It cannot be done as the store is, or not at all.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// What it brings of messages does not hold any more; it is to be read again.
    #[error("the messages have changed since they were read")]
    Stale,
    /// The quota root covers too much to be counted while others wait; it is to be counted before.
    #[error("the quota root {} is to be counted first", crate::model::name::key_text(root))]
    Uncounted {
        /// Its key.
        root: Vec<u8>,
    },
    /// The rows could not be read, or no number was to be had.
    #[error("{0}")]
    Failed(#[from] StoreError),
}

type Plan<T> = Result<T, PlanError>;

/// Plans a command with the default [`Policy`].
///
/// # Errors
/// [`PlanError`].
pub fn plan(command: &Command, rows: &dyn Rows, ids: &mut dyn Ids, now: Micros) -> Plan<Planned> {
    plan_with(&Policy::default(), command, rows, ids, now)
}

/// Plans a command: what it changes in `rows`, at the time `now`.
///
/// # Errors
/// [`PlanError`].
pub fn plan_with(
    policy: &Policy<'_>,
    command: &Command,
    rows: &dyn Rows,
    ids: &mut dyn Ids,
    now: Micros,
) -> Plan<Planned> {
    let draft = Draft::new(rows, policy.transaction_bytes_max);
    let mut planner = Planner { draft, ids, now, policy, counts: Counts::default(), come: Come::new() };
    let outcome = match command {
        Command::Atomic(commands) => planner.all(commands)?,
        one => planner.one(one)?,
    };
    let (changes, bodies) = planner.draft.finish();
    Ok(Planned { counts: planner.counts, come: planner.come, changes, bodies, outcome })
}

/// One command (or atomic batch) being planned.
struct Planner<'a> {
    draft: Draft<'a>,
    ids: &'a mut dyn Ids,
    now: Micros,
    policy: &'a Policy<'a>,
    counts: Counts,
    come: Come,
}

impl Planner<'_> {
    fn all(&mut self, commands: &[Command]) -> Plan<Outcome> {
        let mut outcomes = Vec::with_capacity(commands.len());
        for (at, command) in commands.iter().enumerate() {
            outcomes.push(self.one(command).map_err(|e| refuse::nth(e, at + 1))?);
        }
        Ok(Outcome::Each(outcomes))
    }

    fn one(&mut self, command: &Command) -> Plan<Outcome> {
        match command {
            Command::UserAdd { user, partition, quota_bytes, quota_messages } => {
                self.user_add(user, partition.as_deref(), *quota_bytes, *quota_messages)
            }
            Command::UserDelete { user } => self.user_delete(user),
            Command::UserRename { user, to } => self.user_rename(user, to),
            Command::UserMove { user, to, copied } => self.user_move(user, to, copied),
            Command::MailboxCreate { name, partition } => self.mailbox_create(name, partition.as_deref()),
            Command::MailboxDelete { name } => self.mailbox_delete(name),
            Command::MailboxRename { from, to } => self.mailbox_rename(from, to),
            Command::AclSet { name, identifier, rights } => self.acl_set(name, identifier, rights),
            Command::AclDelete { name, identifier } => self.acl_delete(name, identifier),
            Command::Subscribe { user, name } => self.subscribe(user, name),
            Command::Unsubscribe { user, name } => self.unsubscribe(user, name),
            Command::PartitionAdd { name, id } => self.partition_add(name, id),
            Command::PartitionRemove { name } => self.partition_remove(name),
            Command::ImportMailbox { name, partition, uidvalidity, acl } => {
                self.import_mailbox(name, partition.as_deref(), *uidvalidity, acl)
            }
            Command::QuotaSet { root, storage, messages } => self.quota_set(root, *storage, *messages),
            Command::QuotaRecalc { root } => self.quota_recalc(root),
            Command::Deliver(delivery) => self.deliver(delivery),
            Command::MessageFlags { of, add, remove } => self.message_flags(of, add, remove),
            Command::MessageFlagsAs { user, of, add, remove } => self.message_flags_as(user, of, add, remove),
            Command::SeenForget { user, mailbox } => self.seen_forget(user, *mailbox),
            Command::MessageExpunge { of } => self.message_expunge(of),
            Command::MessageCopy { of, to, remove } => self.message_copy(of, to, *remove),
            Command::Undelete { of } => self.undelete(of),
            Command::MessagePurge { of } => self.message_purge(of),
            Command::MailboxPurge { name, id, deleted_us } => self.mailbox_purge(name, *id, *deleted_us),
            Command::Mend(mend) => self.mend(mend),
            Command::Salvage(salvage) => self.salvage(salvage),
            Command::AdoptUser(adopted) => self.adopt_user(adopted),
            Command::AdoptNames(adopted) => self.adopt_names(adopted),
            Command::AdoptMailbox(adopted) => self.adopt_mailbox(adopted),
            Command::MailboxReturns(of) => self.mailbox_returns(of),
            Command::MessagesReturn(back) => self.messages_return(back),
            Command::Atomic(_) => Err(refuse::nested()),
        }
    }
}
