//! What is to be taken away behind a commit: noted before it, so that it outlives a crash, and done after it.

use super::removals::{self, Removals};
use super::told::told;
use crate::disk::Disk;
use crate::error::Result;
use crate::model::Rows;
use crate::partition::tree::Place;
use crate::partition::{Applied, Partitions};
use crate::planted::{self, Bug};
use std::collections::BTreeSet;

/// What was written, and what is to be taken away after the commit.
#[derive(Debug, Default)]
pub(in crate::store) struct Written {
    pub(super) removals: Removals,
    /// They are noted, so that they outlive a crash.
    noted: bool,
    /// Message files made.
    pub(in crate::store) files: u64,
    /// Messages whose bytes are nowhere any more, by place and UID.
    pub(super) bodiless: BTreeSet<(Place, u32)>,
}

impl Written {
    /// With what was written elsewhere.
    pub(in crate::store) fn add(&mut self, other: Written) {
        self.removals.add(other.removals);
        self.files += other.files;
        self.bodiless.extend(other.bodiless);
    }

    /// Of a partition that was brought what it lacks, before its own file says so: notes what is to be taken away there for the commit that told
    /// it, which is this one. It is carried out when nothing is behind any more, whatever becomes of the next checkpoint.
    pub(super) fn note_late(&mut self, data: &dyn Disk, at: Applied) {
        if planted::on(Bug::LateRemovalsNotNoted) {
            return;
        }
        match self.removals.note(data, at) {
            Ok(()) => self.removals = Removals::default(),
            Err(e) => {
                tracing::warn!(event = "removals_not_noted", error = %e, "a crash now leaves files of purged messages")
            }
        }
    }

    /// Where history goes on in another way than it did before, or is not told to its end yet: directories of mailboxes that are elsewhere by
    /// now, as these rows say, stay until a start knows for sure where they are. They are noted like copies that somebody may come to use.
    ///
    /// # Errors
    /// Those of the data directory and of the rows.
    pub(in crate::store) fn keep_moved(&mut self, data: &dyn Disk, rows: &dyn Rows, at: Applied) -> Result<()> {
        let (mut moved, mut gone) = (Removals::default(), Removals::default());
        for (partition, place) in std::mem::take(&mut self.removals.mailboxes) {
            let of = if told(rows, place.id)?.is_some() { &mut moved } else { &mut gone };
            of.mailboxes.insert((partition, place));
        }
        self.removals.mailboxes = gone.mailboxes;
        match moved.mailboxes.is_empty() {
            true => Ok(()),
            false => removals::note_copy(data, &format!("moved-{}-{}", at.epoch, at.lsn), &moved),
        }
    }

    /// Before the commit of this moment: notes what is to be taken away after it. A data directory without room stops nothing.
    pub(in crate::store) fn note(&mut self, data: &dyn Disk, partitions: &Partitions, at: Applied) {
        let mut wanted = self.removals.clone();
        if partitions.behind().is_empty() {
            // They go at once; after a crash a start takes away what no record names.
            wanted.staged.clear();
        }
        match wanted.note(data, at) {
            Ok(()) => self.noted = true,
            Err(e) => {
                tracing::warn!(event = "removals_not_noted", error = %e, "a crash now leaves files of purged messages")
            }
        }
    }

    /// After the commit of this moment, whose rows these are: takes away what nobody needs any more.
    ///
    /// Nothing goes as long as a partition is behind: it may need a file of another one for a copy that it lacks.
    pub(in crate::store) fn finish(self, data: &dyn Disk, partitions: &Partitions, rows: &dyn Rows, at: Applied) {
        if !partitions.behind().is_empty() {
            return;
        }
        if self.noted {
            self.removals.unstage(partitions);
        } else {
            self.removals.perform(partitions, rows);
        }
        removals::carry_out(data, partitions, rows, at);
    }
}
