//! Messages between the log and the partitions.
//!
//! # Operation
//! A state of a message is a row in memory from its record on (`model::mail`): planners, views and replays treat it like any row.
//! A checkpoint writes these rows to partitions before the database's commit ([`write()`]): message files, indexes, mirrors, one sync
//! for each partition; what nobody needs any more goes after the commit ([`Written::finish`]). A crash before the commit finds all
//! of it in the log again (I5).
//!
//! A reader takes the rows of its view, and below them what the index says up to the checkpoint of that view ([`read`]).
//!
//! # Invariants
//! * A message without a body row has a file, or had one when its view was made.
//! * No file is taken away before a commit without which it would be needed again.

mod read;
mod source;
mod write;

pub use read::Listed;
pub(super) use source::Disks;
pub(super) use write::{Moment, Written, write};

use crate::db::DbReader;
use crate::lsn::Lsn;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The databases that readers may still look at.
#[derive(Debug, Default)]
pub(super) struct Bases(Mutex<Vec<(Lsn, Weak<DbReader>)>>);

impl Bases {
    /// The oldest LSN that a view still shows the indexes at; this one is among them from now on.
    pub(super) fn oldest(&self, lsn: Lsn, reader: &Arc<DbReader>) -> Lsn {
        let mut bases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bases.retain(|(_, reader)| reader.strong_count() > 0);
        if !bases.iter().any(|(known, _)| *known == lsn) {
            bases.push((lsn, Arc::downgrade(reader)));
        }
        bases.iter().map(|(lsn, _)| *lsn).min().unwrap_or(lsn)
    }
}
