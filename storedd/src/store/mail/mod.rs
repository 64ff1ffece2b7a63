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
//! A partition that is not there, or fails, is left out by checkpoints; its changes wait in the log, and are brought to it when it is
//! back (`late`).
//! What is damaged or lost is judged and repaired mailbox by mailbox ([`mend`], with [`adopt`] for files and [`heal`] for bytes); bytes that
//! nobody in the store has any more may be brought ([`given`]).
//!
//! # Invariants
//! * Whoever writes to partitions holds the database's lock: a checkpoint, or a repair. Neither a commit nor a reader does.
//! * A message without a body row has a file, or had one when its view was made.
//! * No file is taken away before a commit without which it would be needed again.

mod adopt;
mod aftermath;
mod ailing;
mod anew;
mod bygone;
mod cache;
mod case;
mod doubt;
mod given;
mod heal;
mod late;
mod mend;
mod mirror;
mod read;
mod relocate;
mod removals;
mod source;
mod told;
mod trace;
mod write;
mod writer;

pub use adopt::RECOVERED;
pub(super) use aftermath::Written;
pub(super) use ailing::Ailing;
pub use bygone::Bygone;
pub(super) use cache::Indexes;
pub use cache::IndexesHeld;
pub(super) use doubt::Trusted;
pub use given::Given;
pub use heal::{Healed, Sick};
pub use mend::{Examined, Fate, Finding as MailFinding, Leftover, Order, READERS, Repair, Track};
pub(super) use mirror::{home_of, is_home, mailboxes_at, rows_at, user_home};
pub use read::Listed;
pub(super) use read::{Upto, changed_mailboxes};
pub use relocate::Moving;
pub(super) use relocate::lying;
pub(super) use removals::sweep;
pub(super) use source::Disks;
pub(super) use source::away;
pub use trace::Traces;
pub(super) use write::{Moment, write};

use crate::db::DbReader;
use crate::lsn::Lsn;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Somebody who may still look at the indexes as they were at an LSN; alive as long as it is.
#[derive(Debug)]
enum Looker {
    Base(Weak<DbReader>),
    Moment(Weak<()>),
}

impl Looker {
    fn is_there(&self) -> bool {
        match self {
            Looker::Base(reader) => reader.strong_count() > 0,
            Looker::Moment(kept) => kept.strong_count() > 0,
        }
    }
}

/// The moments at which readers may still look at indexes.
#[derive(Debug, Default)]
pub(super) struct Bases(Mutex<Vec<(Lsn, Looker)>>);

impl Bases {
    /// The oldest LSN that a view still shows the indexes at; this one is among them from now on.
    pub(super) fn oldest(&self, lsn: Lsn, reader: &Arc<DbReader>) -> Lsn {
        let mut bases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bases.retain(|(_, looker)| looker.is_there());
        if !bases.iter().any(|(known, looker)| *known == lsn && matches!(looker, Looker::Base(_))) {
            bases.push((lsn, Looker::Base(Arc::downgrade(reader))));
        }
        bases.iter().map(|(lsn, _)| *lsn).min().unwrap_or(lsn)
    }

    /// As long as `kept` is there, indexes go on saying what they say at this LSN.
    pub(super) fn keep(&self, lsn: Lsn, kept: &Arc<()>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((lsn, Looker::Moment(Arc::downgrade(kept))));
    }
}
