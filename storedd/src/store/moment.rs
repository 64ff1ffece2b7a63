//! One moment of all mailboxes, to be looked at for hours.
//!
//! A view keeps pages of the database from being reused and a whole overlay in memory; it is for one request. A moment keeps neither:
//! what was in memory of messages is copied out of it, after a checkpoint, when that is little; below it are the indexes, which go
//! on holding what they said at that checkpoint as long as the moment is there (`Bases`). Rows of the database are to be read when
//! it is made, from the view that comes with it.
//!
//! # Invariants
//! * What it shows of a mailbox does not change, whatever is written meanwhile. Messages that are purged meanwhile lose their
//!   files; they had been expunged for long.

use super::Store;
use super::mail::{self, Listed, Upto};
use super::view::View;
use crate::error::Result;
use crate::lsn::{Epoch, Lsn, Micros};
use crate::model::rows::MailboxRow;
use crate::model::{Folder, Rows};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A moment. The indexes keep what they said until it is dropped.
#[derive(Debug)]
pub struct Moment {
    lsn: Lsn,
    epoch: Epoch,
    time: Micros,
    indexed_upto: Lsn,
    /// What was in memory, of the mailboxes of which anything was.
    changed: BTreeMap<u64, Upto>,
    /// Alone for being counted.
    _kept: Arc<()>,
}

impl Moment {
    /// Everything up to here is in it, and nothing behind.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Epoch of that LSN.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// When it was made: no message that it does not have was saved before this.
    #[must_use]
    pub fn time(&self) -> Micros {
        self.time
    }
}

impl Store {
    /// A moment, and the view of it: for its rows, and to be dropped soon.
    ///
    /// # Errors
    /// If the checkpoint before it fails, for then it might be much that is in memory.
    pub fn moment(&self) -> Result<(Moment, View)> {
        // What is planned behind the checkpoint, and so all that the view does not show, is later than this.
        let time = self.env.now();
        self.checkpoint()?;
        // The view itself keeps what the indexes say, until the moment does.
        let kept = Arc::new(());
        let view = self.view();
        self.bases.keep(view.indexed_upto(), &kept);
        let of = |id| Ok((id, Upto::of(&view, id)?));
        let changed = mail::changed_mailboxes(&view)?.into_iter().map(of).collect::<Result<_>>()?;
        let moment = Moment {
            lsn: view.lsn(),
            epoch: self.epoch,
            time,
            indexed_upto: view.indexed_upto(),
            changed,
            _kept: kept,
        };
        Ok((moment, view))
    }

    /// The messages of a mailbox at a moment, of which `row` is its row.
    ///
    /// # Errors
    /// As [`Store::messages`].
    pub fn messages_at(&self, moment: &Moment, of: &Folder<'_>, row: &MailboxRow) -> Result<Listed> {
        if row.uidnext <= 1 {
            return Ok(Listed { messages: BTreeMap::new() });
        }
        match moment.changed.get(&of.mailbox) {
            Some(upto) => self.messages_upto(of, row, upto),
            // No message has changed since the checkpoint: so neither have the counts and the modseq of its row.
            None => {
                let (indexed, settled) = (moment.indexed_upto, Some(row.clone()));
                self.messages_upto(of, row, &Upto { indexed, settled, changed: BTreeMap::new() })
            }
        }
    }
}
