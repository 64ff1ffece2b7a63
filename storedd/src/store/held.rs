//! What partitions say of how far the log led: a checkpoint notes in each, after the sync of what it says, up to where it holds everything, and
//! nothing gets there that is not durable in the log. So a log that ends before has lost something: files were put back that were copied at
//! different moments, the log first. Numbers that partitions hold already must not be given again (I3), which a new epoch sees to; what they
//! know beyond the log comes back by the adoption that follows a loss.

use super::Disks;
use super::recovery::partitions;
use super::report::Finding;
use crate::disk::Disk;
use crate::error::Result;
use crate::lsn::{Epoch, Lsn, StoreId};
use crate::partition::identity::{self, Identity};
use crate::partition::in_use;
use crate::partition::past::GivenUp;

/// A partition that says how far the log led.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// Its file.
    file: String,
    /// It holds everything up to here.
    pub(super) lsn: Lsn,
}

impl Held {
    /// What is noticed if the log ends before.
    pub(super) fn finding(&self, reach: Lsn) -> Finding {
        Finding {
            r#where: self.file.clone(),
            what: "the partition holds changes that the log does not have".to_owned(),
            expected: format!("a log that leads to LSN {}", self.lsn),
            found: format!("one that ends at LSN {reach}"),
        }
    }
}

/// The partition that says most, of the history that ends in `epoch` or a later one; `None` if none says anything. One that is away, or cannot
/// be read, says nothing. Writes nothing (I7).
///
/// # Errors
/// If it cannot be read where partitions lie.
pub(super) fn most(disks: &Disks, store_id: StoreId, epoch: Epoch) -> Result<Option<Held>> {
    let mut most: Option<Held> = None;
    // What was noted for an epoch that never began is not given up.
    let given_up = |disk: &dyn Disk| GivenUp::read(disk, store_id).ok().flatten().unwrap_or_default().begun(epoch);
    for (_, site) in partitions(disks, store_id)?.list() {
        let Ok(root) = disks.roots.open(&site.path) else { continue };
        // What another process goes on writing says nothing of this store's log.
        if in_use(&*root).is_some() {
            continue;
        }
        let Ok(Some(Identity { store_id: found, .. })) = Identity::read(&*root) else { continue };
        let Ok(Some(applied)) = identity::applied(&*root) else { continue };
        // What of it was given up says nothing of the history that went on.
        let counts = given_up(&*disks.data).counts_up_to(given_up(&*root).counts_up_to(applied));
        if found == store_id && counts == applied && applied.epoch >= epoch {
            let held = Held { file: root.display(identity::FILE), lsn: applied.lsn };
            most = most.filter(|most| most.lsn >= held.lsn).or(Some(held));
        }
    }
    Ok(most)
}
