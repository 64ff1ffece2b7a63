//! Journals of a home made anew from what counts in them, and from the database.

use super::write::{Moment, repair};
use crate::error::Result;
use crate::partition::tree::{Home, Place};
use crate::store::Store;
use crate::store::checkpoint::applied;

impl Store {
    /// Makes the indexes of these mailboxes anew, and the manifest of their home: without what was given up. The writer of partitions
    /// calls it, while no checkpoint is at work.
    ///
    /// # Errors
    /// [`crate::error::StoreError::Busy`] if the partition is not there; those of the disks.
    pub(in crate::store) fn anew(&self, partition: &str, home: &Home, places: &[Place]) -> Result<()> {
        let view = self.settled_view();
        let keep_from = self.bases.oldest(view.at, &view.base.db);
        let moment = Moment {
            upto: view.at,
            epoch: self.epoch,
            committed: applied(&view.base.db),
            keep_from,
            is_replay: false,
            is_piece: false,
            can_wait: false,
            seen_since: None,
        };
        repair(&view, moment, &self.mail_disks(), partition, |target, supply| {
            for place in places {
                target.index_settled(place, supply)?;
            }
            target.manifest_anew(home, supply)
        })
    }
}
