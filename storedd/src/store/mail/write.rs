//! What a checkpoint writes to partitions: everything that memory holds of messages, home by home.
//!
//! The walk goes over the frozen rows once to learn which homes they touch ([`super::mirror`]), and then home by home, so that no
//! more than one home's messages are held beside them.

use super::aftermath::Written;
use super::mirror::{Homes, touched};
use super::source::{Disks, away};
use super::told::told;
use super::writer::Writer;
use crate::db::DbReader;
use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn};
use crate::partition::apply::{self, Supply, Target};
use crate::partition::tree::{Home, Place};
use crate::partition::{Applied, Partitions, identity};
use crate::planted::{self, Bug};
use crate::store::Store;
use crate::store::overlay::Overlay;
use crate::store::view::{Base, View};
use std::collections::HashMap;
use std::sync::Arc;

/// Which moment is written down.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Moment {
    /// Everything up to here.
    pub(in crate::store) upto: Lsn,
    /// Epoch of that LSN.
    pub(in crate::store) epoch: Epoch,
    /// The checkpoint before: every partition holds everything up to there that is not behind.
    pub(in crate::store) committed: Applied,
    /// The oldest checkpoint that a reader still looks at.
    pub(in crate::store) keep_from: Lsn,
    /// An attempt before this one may have been broken off.
    pub(in crate::store) is_replay: bool,
    /// A piece of a replay: the log goes on behind it.
    pub(in crate::store) is_piece: bool,
    /// Memory can wait for a partition that is full: its mail is read from there meanwhile.
    pub(in crate::store) can_wait: bool,
    /// What users have seen is written, too, as far as it changed at this time (microseconds since 1970) or later.
    pub(in crate::store) seen_since: Option<u64>,
}

/// Writes what `overlay` holds of messages at a moment; `view` shows that moment. When it returns it is durable, or the partition
/// counts as behind and the log as its only place: one that is not there, or fails, stops no other. Nothing of one that is behind can be
/// read, so one that is full is waited for as long as memory has room.
///
/// # Errors
/// Those of the log, the database and the data directory: nothing is lost, all of it is written again.
pub(in crate::store) fn write(view: &View, overlay: &Overlay, moment: Moment, disks: &Disks<'_>) -> Result<Written> {
    let mut written = Written::default();
    let partitions = disks.partitions;
    for (partition, homes) in touched(view, overlay, moment.upto, moment.seen_since)? {
        if partitions.site(&partition).is_none() {
            // A store beside the live one has none: what lies there is not its business.
            continue;
        }
        if partitions.is_behind(&partition).is_some() {
            partitions.lacks_from(&partition, moment.committed);
            written.removals.mailboxes.extend(gone_in(view, &partition, &homes)?);
            continue;
        }
        let gone = gone_in(view, &partition, &homes)?;
        let done = match partitions.open(&partition) {
            Some(disk) => write_partition(view, overlay, moment, disks, (&partition, &*disk), homes, false),
            None => Err(Failed::Partition(away(&partition))),
        };
        match done {
            Ok(of_partition) => written.add(of_partition),
            Err(Failed::Partition(e @ StoreError::NoSpace { .. })) if moment.can_wait => return Err(e),
            Err(Failed::Partition(e)) => {
                written.removals.mailboxes.extend(gone);
                partitions.fall_behind(&partition, moment.committed, &e.to_string());
            }
            Err(Failed::Store(e)) => return Err(e),
        }
    }
    note(partitions, moment)?;
    Ok(written)
}

/// The mailboxes that are gone for good from a partition that is left out: where they lay is not told any more when it is back.
fn gone_in(view: &View, partition: &str, homes: &Homes) -> Result<Vec<(String, Place)>> {
    let mut gone = Vec::new();
    for (home, due) in homes {
        for id in &due.mailboxes {
            if told(view, *id)?.is_none_or(|told| told.row.partition != partition) {
                gone.push((partition.to_owned(), home.mailbox(*id)));
            }
        }
    }
    Ok(gone)
}

/// Notes up to where each partition holds everything, in its own file where it is there, in the data directory where it is behind.
fn note(partitions: &Partitions, moment: Moment) -> Result<()> {
    let upto = Applied { epoch: moment.epoch, lsn: moment.upto };
    for (name, _) in partitions.list() {
        if let Some(disk) = partitions.disk(&name)
            && let Err(e) = partitions.tell(&name, &*disk).and_then(|()| identity::note_applied(&*disk, upto))
        {
            partitions.fall_behind(&name, moment.committed, &e.to_string());
        }
    }
    if planted::on(Bug::BehindNotNoted) {
        return Ok(());
    }
    // IMPORTANT: before the commit, behind which no start replays what they lack.
    partitions.note_behind()
}

/// Why a partition was not written to.
pub(super) enum Failed {
    /// It failed itself, or another that it needs something of. The others go on.
    Partition(StoreError),
    /// The log or the database did.
    Store(StoreError),
}

impl Failed {
    /// A failure while a partition was written to: its own if that says a file of it.
    fn of(disk: &dyn Disk, e: StoreError) -> Failed {
        let root = disk.display("");
        let is_its = match &e {
            StoreError::Io { path: file, .. } | StoreError::Corrupt { file, .. } | StoreError::Foreign { file, .. } => {
                file.starts_with(&root)
            }
            StoreError::NoSpace { what } => what.contains(&root),
            // Another partition, of which it has a copy.
            StoreError::Busy { .. } => true,
            _ => false,
        };
        if is_its { Failed::Partition(e) } else { Failed::Store(e) }
    }
}

/// Writes to one partition what `overlay` holds of the homes given, durably. With `is_late`, the database below `view` is of that moment
/// itself.
pub(super) fn write_partition(
    view: &View,
    overlay: &Overlay,
    moment: Moment,
    disks: &Disks<'_>,
    (partition, disk): (&str, &dyn Disk),
    homes: Homes,
    is_late: bool,
) -> Result<Written, Failed> {
    let target = Target {
        disk,
        store: disks.partitions.owner(),
        keep_from: moment.keep_from,
        durable: moment.committed.lsn,
        is_replay: moment.is_replay,
        distrusts: is_late,
        is_piece: moment.is_piece,
    };
    let (first, written) = (HashMap::new(), Written::default());
    let mut writer = Writer { view, overlay, moment, disks, partition, target, first, written, is_late };
    for (home, due) in homes {
        let done = writer.home(&home, &due).or_else(|e| writer.home_cleared(&home, &due, e));
        done.map_err(|e| Failed::of(disk, e))?;
    }
    let written = writer.written;
    if planted::on(Bug::MailRemovedBeforeSync) {
        written.removals.perform(disks.partitions, view);
    }
    let skipped = if is_late { Bug::LateMailNotSynced } else { Bug::MailNotSynced };
    if !planted::on(skipped)
        && let Err(e) = disk.sync_tree()
    {
        // IMPORTANT: never tried again: after a failed sync the page cache may lie.
        disks.partitions.fail(partition, format!("a sync failed: {e}"));
        return Err(Failed::Partition(StoreError::io("sync", disk.display(""), e)));
    }
    Ok(written)
}

/// Has a partition repaired, with what the database says at `moment`, which `view` shows, as memory's part of it: nothing.
///
/// # Errors
/// A partition that is not there; those of `work`.
pub(super) fn repair<R>(
    view: &View,
    moment: Moment,
    disks: &Disks<'_>,
    partition: &str,
    work: impl FnOnce(Target<'_>, &dyn Supply) -> Result<R>,
) -> Result<R> {
    let disk = disks.partitions.disk(partition).ok_or_else(|| away(partition))?;
    let target = Target {
        disk: &*disk,
        store: disks.partitions.owner(),
        keep_from: moment.keep_from,
        durable: moment.committed.lsn,
        is_replay: false,
        distrusts: false,
        is_piece: false,
    };
    let (overlay, first, written, is_late) = (&*view.base.active, HashMap::new(), Written::default(), false);
    work(target, &Writer { view, overlay, moment, disks, partition, target, first, written, is_late })
}

impl Store {
    /// Makes a manifest anew, as of the last checkpoint; while none is at work.
    pub(in crate::store) fn remirror(
        &self,
        db: &Arc<DbReader>,
        (partition, disk): (&str, &dyn Disk),
        home: &Home,
    ) -> Result<()> {
        let upto = Applied { epoch: db.meta().epoch, lsn: db.meta().applied_lsn };
        let overlay = Arc::new(Overlay::sized(0));
        let base = Base { active: overlay.clone(), frozen: None, db: db.clone(), names: None };
        let view = View { base: Arc::new(base), at: upto.lsn };
        let keep_from = self.bases.oldest(upto.lsn, db);
        let moment = Moment {
            upto: upto.lsn,
            epoch: upto.epoch,
            committed: upto,
            keep_from,
            is_replay: false,
            is_piece: false,
            can_wait: false,
            seen_since: None,
        };
        let target = Target {
            disk,
            store: self.partitions.owner(),
            keep_from,
            durable: upto.lsn,
            is_replay: false,
            distrusts: false,
            is_piece: false,
        };
        let (disks, first, written) = (self.mail_disks(), HashMap::new(), Written::default());
        let writer = Writer {
            view: &view,
            overlay: &overlay,
            moment,
            disks: &disks,
            partition,
            target,
            first,
            written,
            is_late: false,
        };
        apply::remirror(target, home, &writer)
    }
}
