//! What a checkpoint writes to partitions: everything that memory holds of messages, home by home.
//!
//! The walk goes over the frozen rows once to learn which homes they touch ([`super::mirror`]), and then home by home, so that no
//! more than one home's messages are held beside them.

use super::mirror::{self, Due, Homes, each_changed, touched};
use super::removals::{self, Removals};
use super::source::{Disks, away};
use crate::db::DbReader;
use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn};
use crate::model::mail::{BodyRow, MessageRow, message_key, messages_of, split_key};
use crate::model::message::{Message, State};
use crate::model::name::owner_of;
use crate::model::quota::roots_above;
use crate::model::rows::{IdRow, MailboxRow, Row, TombstoneRow, UserView, id_key, split, tombstone_key};
use crate::model::user::SHARED_DIRECTORY;
use crate::model::{Folder, LogPlace, Rows, Table};
use crate::partition::apply::{self, HomeRun, MailboxRun, Source, Supply, Target};
use crate::partition::index::{Head, Run, Stamped};
use crate::partition::manifest::MirroredRows;
use crate::partition::tree::{self, Home, Place};
use crate::partition::{Applied, Partitions, identity};
use crate::planted::{self, Bug};
use crate::store::Store;
use crate::store::overlay::Overlay;
use crate::store::view::{Base, View};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

/// Mailboxes of a home that are applied together.
const MAILBOXES_AT_ONCE: usize = 4096;

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

/// What was written, and what is to be taken away after the commit.
#[derive(Debug, Default)]
pub(in crate::store) struct Written {
    removals: Removals,
    /// They are noted, so that they outlive a crash.
    noted: bool,
    /// Message files made.
    pub(in crate::store) files: u64,
}

impl Written {
    /// With what was written elsewhere.
    pub(in crate::store) fn add(&mut self, other: Written) {
        self.removals.add(other.removals);
        self.files += other.files;
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
        if partitions.path(&partition).is_none() {
            // A store beside the live one has none: what lies there is not its business.
            continue;
        }
        if partitions.is_behind(&partition).is_some() {
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
        writer.home(&home, &due).map_err(|e| Failed::of(disk, e))?;
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

/// Where the messages of a mailbox lie.
pub(super) fn folder(rows: &dyn Rows, key: &[u8], row: &MailboxRow) -> Result<Folder<'static>> {
    let home = match &row.home {
        Some(home) => home.clone(),
        None => owner_directory(rows, key)?,
    };
    Ok(Folder { partition: Cow::Owned(row.partition.clone()), home: Cow::Owned(home), mailbox: row.id })
}

/// The directory of the owner of a mailbox.
fn owner_directory(rows: &dyn Rows, key: &[u8]) -> Result<String> {
    let Some(owner) = owner_of(key) else { return Ok(SHARED_DIRECTORY.to_owned()) };
    let row = rows.get(Table::Users, owner.as_bytes())?;
    let row = row.ok_or_else(|| StoreError::Bug(format!("a mailbox of {owner}, who is no user")))?;
    Ok(UserView::decode(owner.as_bytes(), &row)?.directory.to_owned())
}

/// What was ever told of a mailbox: its key, its row, when it was deleted.
pub(super) struct Told {
    pub(super) key: Vec<u8>,
    pub(super) row: MailboxRow,
    /// Directory of its owner; of a deleted one the home in which it lies.
    pub(super) owner: String,
    pub(super) deleted_us: u64,
}

/// What the rows say of the mailbox with this number; `None` if it is gone for good.
pub(super) fn told(rows: &dyn Rows, id: u64) -> Result<Option<Told>> {
    let key = id_key(id);
    let Some(row) = rows.get(Table::Ids, &key)? else { return Ok(None) };
    let at = IdRow::decode(&key, &row)?;
    let key = at.key.as_bytes();
    let Some(bytes) = rows.get(at.table(), key)? else { return Ok(None) };
    match split(key) {
        None => {
            let row = MailboxRow::decode(key, &bytes)?;
            Ok(Some(Told { key: key.to_vec(), owner: owner_directory(rows, key)?, row, deleted_us: 0 }))
        }
        Some((name, _)) => {
            let TombstoneRow { deleted_us, directory, mailbox } = TombstoneRow::decode(key, &bytes)?;
            let owner = directory.rsplit_once('/').map_or(SHARED_DIRECTORY, |(home, _)| home).to_owned();
            Ok(Some(Told { key: name.to_vec(), row: mailbox, owner, deleted_us }))
        }
    }
}

/// A checkpoint's work on one partition.
struct Writer<'a> {
    view: &'a View,
    overlay: &'a Overlay,
    moment: Moment,
    disks: &'a Disks<'a>,
    partition: &'a str,
    target: Target<'a>,
    /// Which message has the file of a body of the log: those that share it get further names of it.
    first: HashMap<LogPlace, (Place, u32)>,
    written: Written,
    /// It brings what the partition lacks.
    is_late: bool,
}

impl Writer<'_> {
    /// Writes one home, so many mailboxes at once that they and their frames stay within bounds.
    fn home(&mut self, home: &Home, due: &Due) -> Result<()> {
        let mut is_new = self.is_new_home(home, due)?;
        let mut rows = MirroredRows::new();
        for (table, key) in &due.rows {
            let value = mirror::value(self.view, (self.partition, home), *table, key)?;
            if *table == Table::Users && value.is_none() {
                self.written.removals.homes.insert((self.partition.to_owned(), home.clone()));
            }
            rows.insert((*table, key.clone()), self.stamped_as(*table, key, value));
        }
        let mut pieces = due.mailboxes.chunks(MAILBOXES_AT_ONCE);
        let mut piece = pieces.next().unwrap_or_default();
        loop {
            let rows = std::mem::take(&mut rows);
            let mut run = HomeRun { is_new, rows, ..HomeRun::nothing(home) };
            for id in piece {
                match self.mailbox(home.mailbox(*id))? {
                    Some(mailbox) => run.mailboxes.push(mailbox),
                    None => run.gone.push(self.stamped(*id)),
                }
            }
            self.apply(&run)?;
            is_new = false;
            match pieces.next() {
                Some(next) => piece = next,
                None => return Ok(()),
            }
        }
    }

    fn apply(&mut self, run: &HomeRun) -> Result<()> {
        let applied = apply::apply(self.target, run, self)?;
        self.written.files += applied.files;
        if applied.bodiless > 0 {
            tracing::warn!(
                event = "messages_without_bytes",
                home = run.home.path(),
                messages = applied.bodiless,
                "they are purged further on"
            );
        }
        let gone = run.gone.iter().map(|gone| (self.partition.to_owned(), run.home.mailbox(gone.value)));
        self.written.removals.mailboxes.extend(gone);
        if !run.gone.is_empty() {
            self.written.removals.homes.insert((self.partition.to_owned(), run.home.clone()));
        }
        if applied.replaced > 0 || !applied.repaired.is_empty() || !applied.incomplete.is_empty() {
            let incomplete: Vec<_> = applied.incomplete.iter().map(Place::path).collect();
            tracing::warn!(
                event = "mail_repaired", partition = self.partition, home = run.home.path(), files = applied.replaced,
                journals = ?applied.repaired, incomplete = ?incomplete, "damaged or lost; made again"
            );
        }
        Ok(())
    }

    fn stamped<T>(&self, value: T) -> Stamped<T> {
        Stamped { lsn: self.moment.upto, epoch: self.moment.epoch, value }
    }

    /// [`Writer::stamped`] for what follows from a row. One that a replay brought is as old as what that led to: where a start could not
    /// reach all of the log, the partition may know something newer, and must not be told that this is.
    fn stamped_as<T>(&self, table: Table, key: &[u8], value: T) -> Stamped<T> {
        let lsn = self.overlay.replayed_upto(table, key, self.moment.upto).unwrap_or(self.moment.upto);
        Stamped { lsn, ..self.stamped(value) }
    }

    /// True if no checkpoint has written anything to the home: so that it has no manifest is no loss.
    fn is_new_home(&self, home: &Home, due: &Due) -> Result<bool> {
        let (disk, before, at) = (self.target.disk, self.view.database(), (self.partition, home));
        let manifest = home.manifest();
        if disk.stat(&manifest).map_err(|e| StoreError::io("stat", disk.display(&manifest), e))?.is_some() {
            return Ok(false);
        }
        if self.is_late {
            // The database says nothing of how it was: no mailbox of it has an index.
            return Ok(tree::mailboxes(disk, home)?.is_empty());
        }
        let mut users = due.rows.iter().filter(|(table, _)| *table == Table::Users).peekable();
        if users.peek().is_some() {
            // Without a walk over all users: thousands of them may be new.
            for (table, key) in users {
                if mirror::value(before, at, *table, key)?.is_some() {
                    return Ok(false);
                }
            }
        } else if !mirror::rows_at(before, at.0, home)?.is_empty()
            || !mirror::mailboxes_at(before, at.0, home)?.is_empty()
        {
            return Ok(false);
        }
        Ok(tree::mailboxes(disk, home)?.is_empty())
    }

    /// What changed in one mailbox; `None` if it is gone from the partition for good.
    fn mailbox(&mut self, place: Place) -> Result<Option<MailboxRun>> {
        let Some(head) = self.head(&place)? else {
            self.gone(&place)?;
            return Ok(None);
        };
        if head.value.row.partition != self.partition {
            // It lies on another partition since.
            return Ok(None);
        }
        let (start, end) = messages_of(place.id);
        let (mut messages, mut sources) = (Vec::new(), BTreeMap::new());
        let (overlay, upto) = (self.overlay, self.moment.upto);
        each_changed(overlay, Table::Messages, (Bound::Included(&start), Some(&end)), upto, &mut |_, row| {
            let Some(row) = row else { return Ok(()) };
            let row = MessageRow::decode(row)?;
            let message = row.message()?;
            match message.state {
                State::Purged => self.purged(&place, message.uid)?,
                _ => sources.extend(self.source(&place, message.uid)?.map(|source| (message.uid, source))),
            }
            messages.push(Stamped { lsn: row.lsn, epoch: row.epoch, value: message });
            Ok(())
        })?;
        let (is_new, is_bare) = (self.is_new(&place)?, messages.is_empty() && head.value.row.uidnext <= 1);
        let run = Run { head: Some(head), messages };
        Ok(Some(MailboxRun { place, is_new, is_bare, run, sources }))
    }

    /// A mailbox is gone for good, and what was staged for it since the last checkpoint.
    fn gone(&mut self, place: &Place) -> Result<()> {
        let (start, end) = messages_of(place.id);
        let (overlay, upto) = (self.overlay, self.moment.upto);
        each_changed(overlay, Table::Messages, (Bound::Included(&start), Some(&end)), upto, &mut |key, _| {
            split_key(key).map_or(Ok(()), |(id, uid)| self.not_wanted(id, uid))
        })
    }

    /// A message may have come and gone between two checkpoints.
    fn not_wanted(&mut self, id: u64, uid: u32) -> Result<()> {
        if let Some(row) = self.row(id, uid)?
            && let BodyRow::Staged { partition, number } = BodyRow::decode(&row)?
        {
            self.written.removals.staged.insert((partition.into_owned(), number));
        }
        Ok(())
    }

    fn purged(&mut self, place: &Place, uid: u32) -> Result<()> {
        self.not_wanted(place.id, uid)?;
        let messages = &mut self.written.removals.messages;
        messages.entry((self.partition.to_owned(), place.clone())).or_default().insert(uid);
        Ok(())
    }

    /// True if no checkpoint has written anything of the mailbox.
    fn is_new(&self, place: &Place) -> Result<bool> {
        if self.is_late {
            // Its first message comes now.
            return Ok(self.row(place.id, 1)?.is_some());
        }
        let before = told(self.view.database(), place.id)?;
        Ok(before.is_none_or(|told| told.row.uidnext <= 1))
    }

    /// What memory says of where a message's bytes are; nothing if it has a file.
    fn row(&self, mailbox: u64, uid: u32) -> Result<Option<Vec<u8>>> {
        let key = message_key(mailbox, uid);
        let hash = crate::store::names::hash(Table::Bodies, &key);
        Ok(self.overlay.get(Table::Bodies, &key, hash, self.moment.upto).flatten())
    }

    /// Where the file of a message is to come from; `None` if it has one.
    fn source(&mut self, place: &Place, uid: u32) -> Result<Option<Source>> {
        let Some(mut row) = self.row(place.id, uid)? else { return Ok(None) };
        loop {
            let next = match BodyRow::decode(&row)? {
                BodyRow::Logged(at) => {
                    if let Some((place, uid)) = self.first.get(&at) {
                        return Ok(Some(Source::Twin(place.clone(), *uid)));
                    }
                    self.first.insert(at, (place.clone(), uid));
                    return Ok(Some(Source::Log));
                }
                BodyRow::Staged { partition, number } => {
                    let here = partition == self.partition;
                    self.written.removals.staged.insert((partition.into_owned(), number));
                    return Ok(Some(if here { Source::Staged(number) } else { Source::Log }));
                }
                BodyRow::Copy { of, .. } if of.partition != self.partition => return Ok(Some(Source::Log)),
                BodyRow::Copy { of, uid } => match self.row(of.mailbox, uid)? {
                    Some(next) => next,
                    // It had a file before this checkpoint, which goes after it at the earliest.
                    None => return Ok(Some(Source::Twin(super::source::place(&of)?, uid))),
                },
            };
            row = next;
        }
    }
}

impl Supply for Writer<'_> {
    fn body(&self, place: &Place, message: &Message) -> Result<Vec<u8>> {
        let (partition, home) = (Cow::Borrowed(self.partition), Cow::Borrowed(place.home.path()));
        self.disks.bytes(self.view, &Folder { partition, home, mailbox: place.id }, message)
    }

    fn head(&self, place: &Place) -> Result<Option<Stamped<Head>>> {
        let Some(Told { key, row, owner, deleted_us }) = told(self.view, place.id)? else { return Ok(None) };
        let mut quota_root = Vec::new();
        for root in roots_above(&key) {
            if deleted_us == 0 && self.view.contains(Table::Quotas, root)? {
                quota_root = root.to_vec();
                break;
            }
        }
        let (table, place) = match deleted_us {
            0 => (Table::Mailboxes, key.clone()),
            _ => (Table::Past, tombstone_key(&key, row.id)),
        };
        let value = Head { name: key, owner, quota_root, deleted_us, keywords: Vec::new(), row };
        Ok(Some(self.stamped_as(table, &place, value)))
    }

    fn rows(&self, home: &Home) -> Result<MirroredRows> {
        let mut rows = MirroredRows::new();
        for (table, key) in mirror::rows_at(self.view, self.partition, home)? {
            let value = mirror::value(self.view, (self.partition, home), table, &key)?;
            rows.insert((table, key), self.stamped(value));
        }
        Ok(rows)
    }

    fn mailboxes(&self, home: &Home) -> Result<Vec<u64>> {
        mirror::mailboxes_at(self.view, self.partition, home)
    }
}
