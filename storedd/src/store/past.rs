//! The log as somebody reads it who has the mailboxes of an earlier moment and wants those of a later one.
//!
//! # Invariants
//! * Nothing is left out silently: if the log does not lead from the one moment to the other, that is an error which says where it ends.
//! * What is not acknowledged yet is not told.

use super::Store;
use crate::disk::Disk;
use crate::error::{Result, StoreError, exit};
use crate::lsn::{Epoch, Lsn, Micros};
use crate::model::Change;
use crate::wal::{self, Depth, Stop};

/// A moment of the store's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Everything up to this LSN is in it.
    pub lsn: Lsn,
    /// Its epoch.
    pub epoch: Epoch,
    /// When its last change was made; zero if it is not known.
    pub time: Micros,
}

impl Store {
    /// Calls `each` with every change behind `from` that was made by `until`, in order; gives the moment that this leads to. `log`: that
    /// of the store, or one with more of it.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the log does not lead there; those of the disk and of `each`.
    pub fn changes_since(
        &self,
        log: &dyn Disk,
        from: Known,
        until: Micros,
        each: &mut dyn FnMut(Change<'_>) -> Result<()>,
    ) -> Result<Known> {
        let newest = self.published_lsn();
        if until > self.env.now() {
            return Err(refused(until, "it lies in the future".to_owned()));
        }
        let survey = wal::survey(log, self.store_id, wal::Proof::default(), Depth::From(from.lsn))?;
        let reach = survey.reach(from.epoch, from.lsn);
        let is_ours = from.lsn <= newest && !matches!(reach.stop, Stop::OtherHistory | Stop::Behind { .. });
        let (mut reached, mut is_there) = (from, is_ours && reach.lsn >= newest);
        wal::replay(log, &survey, from.epoch, from.lsn, reach.lsn.min(newest), &mut |record| {
            is_there |= record.time > until;
            if record.time > until {
                return Ok(());
            }
            reached = Known { lsn: record.lsn, epoch: record.epoch, time: record.time };
            record.for_each_change(each)
        })?;
        if is_there { Ok(reached) } else { Err(refused(until, broken_off(from, &reach.stop))) }
    }
}

/// Why the log behind a moment leads no further.
fn broken_off(from: Known, stop: &Stop) -> String {
    let why = match stop {
        Stop::OtherHistory => "the store went on from an earlier state than that".to_owned(),
        Stop::Before { first, file } => format!("the log begins at LSN {first}, and {file} before it is gone"),
        Stop::Missing(files) => format!("{} of the log is gone", files.join(", ")),
        Stop::Damaged { file, damage } => format!("{file} is damaged at offset {}: {}", damage.offset, damage.what),
        Stop::Newer { file, .. } => format!("{file} was written by a newer program"),
        Stop::Behind { last } => format!("the log ends at LSN {last}"),
        Stop::End | Stop::Torn => "the log ends before".to_owned(),
    };
    format!("from LSN {} of epoch {} on: {why}", from.lsn, from.epoch)
}

fn refused(until: Micros, why: String) -> StoreError {
    StoreError::Refused {
        message: format!("the log does not lead to {}; {why}", super::rfc3339(until)),
        hint: "what there is: storectl log list --all; a log archive ([archive] path) keeps all of it".to_owned(),
        exit: exit::BAD_INPUT,
    }
}
