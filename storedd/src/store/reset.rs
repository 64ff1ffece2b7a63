//! A new log for a database that is good: `log reset`.
//!
//! # Operation
//! The store is opened with everything that can be read of the old log, and stopped in order: the database then holds all of it. Then
//! the log begins afresh: one new segment in a new epoch, whose first record names the epoch before, the LSN reached and its own, above
//! every LSN that was ever used. Everything else goes to quarantine/; nothing is deleted, and the target of a link is not touched.
//!
//! # Invariants
//! * The moment is the rename of the new segment: a crash before it leaves the store with its old log, behind it with the new one.
//! * Marks of UIDVALIDITY and object ids stay as they are (I6).

use super::commit::lock;
use super::{Disks, Store, recovery};
use crate::error::{Result, StoreError, exit};
use crate::lsn::{Epoch, StoreId};
use crate::model::Table;
use crate::partition::{Applied, State, identity};
use crate::planted::{self, Bug};
use crate::wal::{self, Depth, Fork, Proof};
use std::sync::Arc;

/// What a reset did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogReset {
    /// Where the new epoch leaves the old one.
    pub fork: Fork,
    /// The new epoch.
    pub epoch: Epoch,
    /// The new log file.
    pub file: String,
    /// Where the old ones lie.
    pub quarantined: Vec<String>,
}

impl Store {
    /// Stops the store in order, and begins its log afresh. Nothing else may be done with it then.
    ///
    /// # Errors
    /// As [`Store::close`]; a store that is held; those of the disks. Then the old log is in force, or the new one.
    pub fn reset_log(self: Arc<Store>) -> Result<LogReset> {
        if self.hold {
            return Err(StoreError::Busy { why: "the store is held read-only".to_owned() });
        }
        if !planted::on(Bug::ResetBeforeCheckpoint) {
            self.close()?;
        }
        self.expect_log_not_needed()?;
        let applied = self.checkpoint_lsn();
        let state = self.control.state();
        let proof = Proof { control: Some(state.clone()), applied_lsn: Some(applied), ..Proof::default() };
        let disk = &self.disks.log;
        let survey = wal::survey(&**disk, self.store_id, proof, Depth::From(applied))?;
        let reach = survey.reach(state.epoch, applied);
        assert_eq!(reach.lsn, applied, "I1: the database holds everything after a close");
        let settings = recovery::settings(&self.options, self.schema());
        let log = wal::afresh(disk, &self.control, settings, &survey, &reach, self.env.now())?;
        let fork = log.done.fork.ok_or_else(|| StoreError::Bug("a log without its fork".to_owned()))?;
        // The fork record is synced, and nothing follows it: the database may say that it holds it.
        let epoch = self.control.state().epoch;
        let no_rows = std::iter::empty::<(Table, Vec<u8>, Option<Vec<u8>>)>();
        lock(&self.db).apply(fork.first, epoch, no_rows)?;
        self.take_along(Applied { epoch: state.epoch, lsn: applied }, Applied { epoch, lsn: fork.first });
        self.control.update(|state| {
            state.checkpoint_lsn = fork.first;
            state.clean = true;
        })?;
        let file = log.segments.list().last().map(|s| disk.display(&s.file)).unwrap_or_default();
        let quarantined = log.done.quarantined.iter().map(|file| disk.display(file)).collect();
        Ok(LogReset { fork, epoch, file, quarantined })
    }

    /// Whoever leaves a log behind asks first, of a store that was closed: for a partition that lacks changes it is all that has them (I4).
    ///
    /// # Errors
    /// [`StoreError::Refused`] that names the partition.
    pub(super) fn expect_log_not_needed(&self) -> Result<()> {
        self.partitions.needs_log().first().map_or(Ok(()), |(name, at)| Err(needed(name, *at)))
    }

    /// Partitions that hold everything up to the end of the old log hold everything up to the beginning of the new one. Of one that cannot be
    /// told, the next start looks what it lacks.
    fn take_along(&self, from: Applied, to: Applied) {
        for (name, _) in self.partitions.list() {
            let Some(disk) = self.partitions.disk(&name) else { continue };
            let noted = identity::applied(&*disk).and_then(|own| match own {
                Some(own) if own == from => identity::note_applied(&*disk, to),
                _ => Ok(()),
            });
            if let Err(e) = noted {
                tracing::warn!(event = "partition_not_noted", partition = name, error = %e, "the next start looks at it");
            }
        }
    }
}

/// Partitions that need the log of a stopped store: those that lack changes and are not there to take them from it. Writes nothing (I7).
pub(super) fn needed_by(disks: &Disks, store_id: StoreId) -> Result<Vec<(String, Applied)>> {
    let known = recovery::partitions(disks, store_id)?;
    // One that is there has what it lacks as soon as the store is recovered.
    let is_away = |name: &str| matches!(known.state(name), State::Missing { .. } | State::Foreign { .. });
    Ok(known.needs_log().into_iter().filter(|(name, _)| is_away(name)).collect())
}

/// As [`Store::expect_log_not_needed`], of a store that was not opened.
pub(super) fn expect_not_needed(disks: &Disks, store_id: StoreId) -> Result<()> {
    needed_by(disks, store_id)?.first().map_or(Ok(()), |(name, at)| Err(needed(name, *at)))
}

fn needed(name: &str, at: Applied) -> StoreError {
    StoreError::Refused { message: lacking(name, at), hint: have_back(name), exit: exit::BUSY }
}

/// What is said of a partition for which a log cannot be left behind.
pub(super) fn lacking(name: &str, at: Applied) -> String {
    format!("partition {name} holds everything up to LSN {} only, and this log is all that has the rest", at.lsn)
}

/// What to do then.
pub(super) fn have_back(name: &str) -> String {
    format!("have partition {name} back, start storedd until it caught up: storectl partition list")
}
