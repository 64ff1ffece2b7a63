//! What a checkpoint writes to partitions: everything that memory holds of messages, home by home.
//!
//! The walk goes over the frozen rows once to learn which homes they touch, and then home by home, so that no more than one home's
//! messages are held beside them.

use super::source::{Disks, away, place};
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn};
use crate::model::mail::{BodyRow, MessageRow, message_key, messages_of, split_key};
use crate::model::message::{Message, State};
use crate::model::name::owner_of;
use crate::model::quota::roots_above;
use crate::model::rows::{IdRow, MailboxRow, Row, TombstoneRow, UserView, id_key, split};
use crate::model::user::SHARED_DIRECTORY;
use crate::model::{Folder, LogPlace, Rows, Table};
use crate::partition::Partitions;
use crate::partition::apply::{self, HomeRun, MailboxRun, Source, Supply, Target};
use crate::partition::index::{Head, Run, Stamped};
use crate::partition::manifest::MirroredRows;
use crate::partition::tree::{self, Home, Place};
use crate::planted::{self, Bug};
use crate::store::overlay::Overlay;
use crate::store::view::View;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

/// Which moment is written down.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Moment {
    /// Everything up to here.
    pub(in crate::store) upto: Lsn,
    /// Epoch of that LSN.
    pub(in crate::store) epoch: Epoch,
    /// The checkpoint before.
    pub(in crate::store) committed: Lsn,
    /// The oldest checkpoint that a reader still looks at.
    pub(in crate::store) keep_from: Lsn,
    /// An attempt before this one may have been broken off.
    pub(in crate::store) is_replay: bool,
}

/// What is to be taken away after the commit.
#[derive(Debug, Default)]
pub(in crate::store) struct Written {
    purged: Vec<(String, Place, u32)>,
    staged: BTreeSet<(String, u64)>,
    /// Message files made.
    pub(in crate::store) files: u64,
}

impl Written {
    /// After the commit: takes away what nobody needs any more. What cannot be taken away now stays until a later check.
    pub(in crate::store) fn finish(&self, partitions: &Partitions) {
        let purged = self.purged.iter().map(|(partition, place, uid)| (partition, Ok((place, *uid))));
        let staged = self.staged.iter().map(|(partition, number)| (partition, Err(*number)));
        for (partition, what) in purged.chain(staged) {
            let Some(disk) = partitions.disk(partition) else { continue };
            let done = match what {
                Ok((place, uid)) => crate::partition::bodies::remove(&*disk, place, uid),
                Err(number) => crate::partition::bodies::unstage(&*disk, number),
            };
            if let Err(e) = done {
                tracing::warn!(event = "message_file_stays", partition, error = %e, "a check will find it");
            }
        }
    }
}

/// Mailboxes by home, by partition.
type Touched = BTreeMap<String, BTreeMap<Home, BTreeSet<u64>>>;

/// Writes what `overlay` holds of messages at a moment; `view` shows that moment. Durable when it returns.
///
/// # Errors
/// Those of the disks, and a partition that is not there: nothing is lost, all of it is written again.
pub(in crate::store) fn write(view: &View, overlay: &Overlay, moment: Moment, disks: &Disks<'_>) -> Result<Written> {
    let touched = touched(view, overlay, moment.upto)?;
    let mut written = Written::default();
    for (partition, homes) in touched {
        if disks.partitions.path(&partition).is_none() {
            // A store beside the live one has none: what lies there is not its business.
            continue;
        }
        let disk = disks.partitions.disk(&partition).ok_or_else(|| away(&partition))?;
        let target = Target {
            disk: &*disk,
            store: disks.partitions.store_id(),
            keep_from: moment.keep_from,
            durable: moment.committed,
            is_replay: moment.is_replay,
        };
        let mut writer =
            Writer { view, overlay, moment, disks, partition: &partition, target, first: HashMap::new(), written };
        for (home, mailboxes) in homes {
            writer.home(home, &mailboxes)?;
        }
        written = writer.written;
        if planted::on(Bug::MailRemovedBeforeSync) {
            written.finish(disks.partitions);
        }
        if !planted::on(Bug::MailNotSynced) {
            disk.sync_tree().map_err(|e| StoreError::io("sync", disk.display(""), e))?;
        }
    }
    Ok(written)
}

/// Takes key and row; `None`: it is gone.
type EachChanged<'a> = &'a mut dyn FnMut(&[u8], Option<&[u8]>) -> Result<()>;

/// Calls `each` with the newest state of every row of a table that changed.
fn each_changed(
    overlay: &Overlay,
    table: Table,
    (start, end): (Bound<&[u8]>, Option<&[u8]>),
    upto: Lsn,
    each: EachChanged<'_>,
) -> Result<()> {
    let mut cursor = overlay.range(table, start, upto);
    while cursor.key().is_some_and(|key| end.is_none_or(|end| key < end)) {
        cursor.with_current(|key, row| each(key, row)).transpose()?;
        cursor.advance();
    }
    Ok(())
}

const ALL: (Bound<&[u8]>, Option<&[u8]>) = (Bound::Unbounded, None);

/// The mailboxes of which something is to be written: those with messages that changed, and those whose row changed and of which a
/// partition knows. A mailbox that never had a message has no index.
fn touched(view: &View, overlay: &Overlay, upto: Lsn) -> Result<Touched> {
    let mut touched = Touched::new();
    let mut touch = |partition: &str, place: Place| {
        let homes = match touched.get_mut(partition) {
            Some(homes) => homes,
            None => touched.entry(partition.to_owned()).or_default(),
        };
        homes.entry(place.home).or_default().insert(place.id);
    };
    let mut last = None;
    each_changed(overlay, Table::Messages, ALL, upto, &mut |key, row| {
        let id = split_key(key).map(|(id, _)| id);
        if let (Some(row), true) = (row, last != id) {
            let row = MessageRow::decode(row)?;
            touch(&row.of.partition, place(&row.of)?);
            last = id;
        }
        Ok(())
    })?;
    each_changed(overlay, Table::Mailboxes, ALL, upto, &mut |key, row| {
        let Some(row) = row else { return Ok(()) };
        let row = MailboxRow::decode(key, row)?;
        if row.uidnext > 1 {
            touch(&row.partition, place(&folder(view, key, &row)?)?);
        }
        Ok(())
    })?;
    each_changed(overlay, Table::Past, ALL, upto, &mut |key, row| {
        let (Some(row), Some(_)) = (row, split(key)) else { return Ok(()) };
        let row = TombstoneRow::decode(key, row)?;
        if let (true, Some(place)) = (row.mailbox.uidnext > 1, Place::parse(&row.directory)) {
            touch(&row.mailbox.partition, place);
        }
        Ok(())
    })?;
    Ok(touched)
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
struct Told {
    key: Vec<u8>,
    row: MailboxRow,
    owner: String,
    deleted_us: u64,
}

/// What the rows say of the mailbox with this number; `None` if it is gone for good.
fn told(rows: &dyn Rows, id: u64) -> Result<Option<Told>> {
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
}

impl Writer<'_> {
    fn home(&mut self, home: Home, mailboxes: &BTreeSet<u64>) -> Result<()> {
        let mut run = HomeRun {
            home: home.clone(),
            is_new: false,
            mailboxes: Vec::new(),
            rows: MirroredRows::new(),
            gone: Vec::new(),
        };
        for id in mailboxes {
            let place = home.mailbox(*id);
            run.mailboxes.extend(self.mailbox(place)?);
        }
        run.is_new =
            run.mailboxes.iter().all(|mailbox| mailbox.is_new) && tree::mailboxes(self.target.disk, &home)?.is_empty();
        let applied = apply::apply(self.target, &run, self)?;
        self.written.files += applied.files;
        if applied.replaced > 0 || !applied.repaired.is_empty() || !applied.incomplete.is_empty() {
            let incomplete: Vec<_> = applied.incomplete.iter().map(Place::path).collect();
            tracing::warn!(
                event = "mail_repaired", partition = self.partition, home = home.path(), files = applied.replaced,
                journals = ?applied.repaired, incomplete = ?incomplete, "damaged or lost; made again"
            );
        }
        Ok(())
    }

    /// What changed in one mailbox; `None` if there is nothing to write.
    fn mailbox(&mut self, place: Place) -> Result<Option<MailboxRun>> {
        let (start, end) = messages_of(place.id);
        let (mut messages, mut sources) = (Vec::new(), BTreeMap::new());
        let (overlay, upto) = (self.overlay, self.moment.upto);
        each_changed(overlay, Table::Messages, (Bound::Included(&start), Some(&end)), upto, &mut |_, row| {
            let Some(row) = row else { return Ok(()) };
            let row = MessageRow::decode(row)?;
            let message = row.message()?;
            match message.state {
                State::Purged => self.written.purged.push((self.partition.to_owned(), place.clone(), message.uid)),
                _ => sources.extend(self.source(&place, message.uid)?.map(|source| (message.uid, source))),
            }
            messages.push(Stamped { lsn: row.lsn, epoch: row.epoch, value: message });
            Ok(())
        })?;
        let head = self.head(&place)?;
        let is_new = self.is_new(place.id)?;
        let run = Run { head, messages };
        Ok((!run.is_empty()).then_some(MailboxRun { place, is_new, run, sources }))
    }

    /// True if no checkpoint has written anything of the mailbox.
    fn is_new(&self, id: u64) -> Result<bool> {
        let before = self.view.database();
        Ok(told(before, id)?.is_none_or(|told| told.row.uidnext <= 1))
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
                    self.written.staged.insert((partition.into_owned(), number));
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
        let value = Head { name: key, owner, quota_root, deleted_us, keywords: Vec::new(), row };
        Ok(Some(Stamped { lsn: self.moment.upto, epoch: self.moment.epoch, value }))
    }

    fn rows(&self, _home: &Home) -> Result<MirroredRows> {
        Ok(MirroredRows::new())
    }
}
