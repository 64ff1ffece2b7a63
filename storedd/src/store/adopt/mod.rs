//! Reconstruct: the database and the partitions brought to agree, home by home, while the store runs.
//!
//! # Purpose
//! A database may be lost, or be of the past; what lies in a partition knows better ([`truth`]). The other way round, a mailbox whose directory
//! was taken away by hand is no mailbox any more.
//!
//! # Operation
//! [`Store::reconcile`] looks at one home while no checkpoint is at work: then what is durable in the partition and the
//! database file are of one moment. It compares, gives the checkpoint free again, and submits commands that say what the database
//! knew; if that is not so any more, it makes a checkpoint and looks again. Commits go on all the time; nobody waits but a
//! checkpoint, for one home. The log needs nothing new: what is adopted are rows like all others, so a crash at any point leaves
//! something that the next run finishes (I5).
//!
//! After a start that gave something up, the log that it set aside is looked at too ([`salvage`]), and the rest of the adoption stands in a
//! mark in the data directory ([`due`]) until it is finished.
//!
//! # Invariants
//! * That a partition or a home is not there is never a deletion. A mailbox is taken off the list only if its home is there and its
//!   directory is not; then it is a deleted one, which can be brought back.
//! * No number in use is given again (I6): ids and UIDVALIDITYs that are found move the marks of the control file, UIDNEXT lies above
//!   every UID that any frame or file has.
//! * A file of which nothing is proven never comes into the mailbox in which it lies: it is shown in the folder `Recovered` of the user whose
//!   directory it is, and if nobody knows who that is it is named, and stays where it is.
//! * Nothing is adopted of a home that is of an older time than the database ([`older`]).
//! * With `dry_run` not one byte is changed.

mod back;
mod behind;
mod compare;
mod due;
mod lodgers;
mod mailbox;
mod older;
mod salvage;
mod truth;
mod twofold;
mod user;

pub(super) use compare::known;
pub use due::Due;
pub(super) use due::{Loss, distrust, is_noted, note};
pub(super) use mailbox::before;

use super::Store;
use super::commit::CommitError;
use super::mail::away;
use super::report::Finding;
use crate::error::{Result, StoreError};
use crate::model::command::RefusalKind;
use crate::model::keys::split;
use crate::model::message::Message;
use crate::model::{Command, Outcome, Rows, Table};
use crate::partition::tree::{Home, Place};
use compare::Comparing;
use std::collections::{BTreeMap, BTreeSet};
use truth::Look;

/// How often a home is looked at again because it changed meanwhile.
const ROUNDS: usize = 6;

/// What to do, and to what.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// Only look.
    pub dry_run: bool,
    /// Mailboxes, by the key of their name.
    pub mailboxes: &'a (dyn Fn(&[u8]) -> bool + Sync),
    /// The user, limits and subscriptions too: nobody asked for some mailboxes only.
    pub users: bool,
    /// What was of an older time than the database was brought up to date, as far as the log reaches.
    pub is_up_to_date: bool,
}

impl std::fmt::Debug for Wanted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wanted").field("dry_run", &self.dry_run).finish_non_exhaustive()
    }
}

/// One thing that was done, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Mailbox or user, readable.
    pub what: String,
    /// What.
    pub action: String,
}

/// What came of one home.
#[derive(Debug, Default)]
pub struct Reconciled {
    /// Mailboxes looked at.
    pub checked: u64,
    /// What was done.
    pub changes: Vec<Changed>,
    /// What could not be proven, or is gone.
    pub findings: Vec<Finding>,
    /// Those of them, by their place in the list, that a look at the indexes tells again if they are still so, with the number of the mailbox.
    pub retold: BTreeMap<usize, u64>,
    /// Files of which nothing is known: for the `Recovered` folder of this user.
    pub strangers: Vec<Stranger>,
    /// Messages that a history took away which was given up.
    lost_behind: Vec<Finding>,
    /// The home is of an older time than the database, and nothing was adopted: indexes of these mailboxes are to be looked at, and then
    /// [`Store::settle_home`] is.
    pub older: BTreeSet<u64>,
    /// Somebody has to come first: a mailbox of a user who is not adopted yet.
    pub is_deferred: bool,
}

impl Reconciled {
    /// What was found of these files was put right since.
    pub fn mended(&mut self, files: &BTreeSet<String>) {
        let retold = std::mem::take(&mut self.retold);
        for (n, finding) in std::mem::take(&mut self.findings).into_iter().enumerate() {
            if files.contains(&finding.r#where) {
                continue;
            }
            self.retold.extend(retold.get(&n).map(|mailbox| (self.findings.len(), *mailbox)));
            self.findings.push(finding);
        }
    }
}

/// A message file of which nothing is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// Partition.
    pub partition: String,
    /// Directory of its mailbox.
    pub place: Place,
    /// UID of its name.
    pub uid: u32,
    /// The database knows the mailbox in which it lies.
    pub is_at_home: bool,
    /// What is known of the message, where that is so little that nobody knows its mailbox.
    pub known: Option<Message>,
    /// Whose it is: his `Recovered` folder gets it. `None`: nobody's.
    pub user: Option<String>,
}

/// What one look at a home came to.
#[derive(Default)]
struct Plan {
    commands: Vec<(Command, Changed)>,
    /// Something has changed since the last checkpoint, or there is more to come: look again behind the next one.
    again: bool,
    /// There is more than one transaction holds.
    is_piece: bool,
    /// Mailboxes of which the partition is of an older time than the database: nothing else is planned.
    older: BTreeSet<u64>,
}

/// The user to whom a row belongs.
fn owner_in(table: Table, key: &[u8]) -> Option<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match table {
        Table::Users => Some(text(key)),
        Table::Subscriptions | Table::Seen => split(key).map(|(who, _)| text(who)),
        Table::Quotas | Table::Past | Table::Mailboxes => {
            let rest = key.strip_prefix(b"user\x01")?;
            rest.split(|b| *b == crate::model::name::SEPARATOR).next().map(text)
        }
        _ => None,
    }
}

impl Store {
    /// The homes of a partition: those that are there, and those of which only the log speaks that was set aside.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if the partition is not there; those of its disk.
    pub fn homes(&self, partition: &str) -> Result<Vec<Home>> {
        let disk = self.partitions.disk(partition).ok_or_else(|| away(partition))?;
        let mut homes = Vec::new();
        crate::partition::tree::homes(&*disk, &mut |home| {
            homes.push(home);
            Ok(())
        })?;
        homes.extend(crate::partition::tree::strange_homes(&*disk)?);
        homes.extend(self.due.salvage(self)?.homes(partition).iter().filter_map(|home| Home::parse(home)));
        homes.sort();
        homes.dedup();
        Ok(homes)
    }

    /// That a partition can be adopted from: a disk that has come since the partitions were registered has no row yet, and nobody can be
    /// said to live on it.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if not; those of the database.
    pub fn check_registered(&self, partition: &str) -> Result<()> {
        match self.view().contains(Table::Partitions, partition.as_bytes())? {
            true => Ok(()),
            false => Err(StoreError::Busy { why: format!("partition {partition} has only just come back") }),
        }
    }

    /// Brings the database to know what a home proves.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if the partition is not there or not registered, or its mailboxes change faster than they can be looked at; those of the
    /// disks; what refuses a command.
    pub fn reconcile(&self, partition: &str, home: &Home, wanted: Wanted<'_>) -> Result<Reconciled> {
        let mut done = Reconciled::default();
        if !wanted.dry_run {
            self.check_registered(partition)?;
        }
        if !wanted.dry_run && self.due.begins() {
            // What indexes say of the history that was left is visible only below a checkpoint of the new one.
            self.checkpoint()?;
            self.due.begun();
        }
        self.clear_behind(partition, home, wanted, &mut done)?;
        let mut rounds = 0;
        loop {
            let (mut plan, found) = self.look_at(partition, home, wanted)?;
            (done.checked, done.strangers) = (found.checked, found.strangers);
            (done.findings, done.retold) = (found.findings, found.retold);
            done.findings.extend(done.lost_behind.iter().cloned());
            done.is_deferred = found.is_deferred;
            done.changes.extend(found.changes);
            if !plan.older.is_empty() {
                if wanted.dry_run {
                    done.changes.extend(older::would(self, &plan.older)?);
                } else {
                    done.older = self.to_bring_up_to_date(partition, home, plan.older, wanted)?;
                }
                return Ok(done);
            }
            if wanted.dry_run {
                done.changes.extend(plan.commands.into_iter().map(|(_, changed)| changed));
                return Ok(done);
            }
            let before = done.changes.len();
            for (command, changed) in std::mem::take(&mut plan.commands) {
                plan.again |= self.submit_one(command, changed, &mut done)?;
            }
            if !plan.again {
                return Ok(done);
            }
            // What comes piece by piece takes as many rounds as there are pieces.
            rounds += usize::from(!plan.is_piece || done.changes.len() == before);
            if rounds == ROUNDS {
                return Err(StoreError::Busy { why: format!("{home} changes all the time") });
            }
            self.checkpoint()?;
        }
    }

    /// Submits what a look has come to. True if the database has changed since, and the home is to be looked at again.
    fn submit_one(&self, command: Command, mut changed: Changed, done: &mut Reconciled) -> Result<bool> {
        let brought = back::brought(&command);
        match self.commit(command) {
            Ok(committed) => {
                if let Outcome::Created { name, .. } = &committed.outcome
                    && *name != changed.what
                    && !changed.action.starts_with("removed")
                {
                    changed.action.push_str(&format!(", as {name}: the name was taken"));
                }
                if committed.outcome != Outcome::Unchanged {
                    self.due.brought(brought);
                    done.changes.push(changed);
                }
            }
            Err(CommitError::Stale | CommitError::Uncounted(_)) => return Ok(true),
            Err(CommitError::Refused(why)) if why.kind == RefusalKind::NoUser => done.is_deferred = true,
            Err(CommitError::Refused(why)) => done.findings.push(Finding {
                r#where: changed.what,
                what: changed.action,
                expected: "done".to_owned(),
                found: why.to_string(),
            }),
            Err(CommitError::Failed(e)) => return Err(e),
        }
        Ok(false)
    }

    /// Compares one home with the database while no checkpoint is at work.
    fn look_at(&self, partition: &str, home: &Home, wanted: Wanted<'_>) -> Result<(Plan, Reconciled)> {
        let salvage = self.due.salvage(self)?;
        let checkpoint = self.gate.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let base = self.base.load_full();
        let disk = self.partitions.disk(partition).ok_or_else(|| away(partition))?;
        if base.frozen.is_some() {
            drop(checkpoint);
            return match wanted.dry_run {
                true => Err(StoreError::Busy { why: "the last checkpoint failed".to_owned() }),
                false => {
                    self.checkpoint()?;
                    Ok((Plan { again: true, ..Plan::default() }, Reconciled::default()))
                }
            };
        }
        let look = Look { disk: &*disk, store: self.partitions.owner(), partition, home, salvage: &salvage };
        let mut comparing = Comparing::of(self, &look, wanted, base);
        comparing.compare()?;
        drop(checkpoint);
        Ok((comparing.plan, comparing.found))
    }

    /// The directories in which a user's mail may lie whom the database does not have: by his name, as he was first called. It is the whole
    /// path that is compared, for a name that is long is cut in it, and the directories above it stand for all of the name.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn homes_named(&self, partition: &str, user: &str) -> Result<Vec<Home>> {
        let Some(disk) = self.partitions.disk(partition) else { return Ok(Vec::new()) };
        let Ok(id) = crate::model::UserId::parse(user) else { return Ok(Vec::new()) };
        let directory = crate::model::user::directory(&id, 1);
        let Some((bucket, _)) = directory.rsplit_once('/') else { return Ok(Vec::new()) };
        let entries = match disk.list(bucket) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            entries => entries.map_err(|e| StoreError::io("list", disk.display(bucket), e))?,
        };
        let mut homes: Vec<Home> =
            entries.iter().filter_map(|e| Home::parse(&format!("{bucket}/{}", e.name))).collect();
        homes.extend(self.due.salvage(self)?.homes(partition).iter().filter_map(|home| Home::parse(home)));
        homes.retain(|home| home.path() == crate::model::user::directory(&id, home.number()));
        homes.sort();
        homes.dedup();
        Ok(homes)
    }
}
