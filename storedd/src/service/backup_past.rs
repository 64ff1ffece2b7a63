//! What a restore to an earlier moment asks for: what the log says behind an archive, and the bytes of messages that it names.

use super::Daemon;
use super::backup::{Pieces, line};
use super::lists::broken;
use crate::control::convert::failure;
use crate::control::{Listing, Parts};
use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::jobs::objects::Objects;
use crate::lsn::Micros;
use crate::model::message::{Digest, Message};
use crate::model::name::key_text;
use crate::model::rows::{MailboxRow, Row};
use crate::model::{Change, Folder, Table};
use crate::store::{Bygone, Known, Store, rfc3339};
use proto::{BackupBegun, BackupBygone, BackupChange, BackupFolder, BackupMailbox, BackupPart, Code, Failure, Reply};
use std::sync::Arc;

/// Messages whose bytes are looked for at once, at most: the log may have to be read for them.
const MESSAGES_MAX: usize = 1024;
/// Bytes of them, if they are several.
const BYTES_MAX: u64 = 16 << 20;

impl Daemon {
    /// The log of the store, with what an archive has of it.
    fn all_log(&self, store: &Store) -> Arc<dyn Disk> {
        self.archived_log(store).unwrap_or_else(|| store.disks().log.clone())
    }

    /// What changed between two moments.
    pub(super) fn backup_changes(&self, from: Known, until: Micros, parts: &mut Parts<'_>) -> Result<Reply, Failure> {
        let store = self.store()?;
        let objects = self.objects(&store.view(), &[])?;
        let budget = self.config().backup.log_bytes;
        let hold = store.hold_log_behind(from.lsn, "restore: one to an earlier moment reads it", budget);
        let log = self.all_log(store);
        let (mut stopped, wrap) = (None, |changes| Reply::Backup(BackupPart::Changes(changes)));
        let mut listing = Listing::new(wrap, parts);
        let reached = store.changes_since(&*log, from, until, &mut |change| {
            if stopped.is_none()
                && let Some(told) = told(&objects, &change)?
            {
                stopped = listing.push(told).err();
            }
            Ok(())
        });
        if let Some(stop) = stopped {
            return Err(stop.into());
        }
        let reached = reached.map_err(|e| failure(&e))?;
        let last = listing.finish();
        drop(hold);
        let time = if reached.time.0 == 0 { until } else { reached.time };
        let (store, lsn, epoch) = (store.store_id().to_string(), reached.lsn.0, reached.epoch.0);
        parts(last)?;
        Ok(Reply::Backup(BackupPart::Begun(BackupBegun { store, lsn, epoch, time: rfc3339(time) })))
    }

    /// The bytes of messages that may be gone.
    pub(super) fn backup_bygone(&self, all: &[BackupBygone], parts: &mut Parts<'_>) -> Result<Reply, Failure> {
        let bytes: u64 = all.iter().map(|one| one.size).fold(0, u64::saturating_add);
        if all.len() > MESSAGES_MAX || (all.len() > 1 && bytes > BYTES_MAX) {
            let text = format!("{} messages of {bytes} bytes, at most {MESSAGES_MAX} of {BYTES_MAX}", all.len());
            return Err(Failure::new(Code::BadInput, text));
        }
        let store = self.store()?;
        let wanted: Vec<Bygone> = all.iter().map(bygone).collect();
        let found = store.bygone_bytes(&*self.all_log(store), &wanted).map_err(broken)?;
        let mut pieces = Pieces::new(parts);
        all.iter().zip(found).try_for_each(|(one, found)| pieces.push(one.uid, found))?;
        Ok(pieces.finish())
    }
}

fn bygone(one: &BackupBygone) -> Bygone {
    let BackupFolder { mailbox, partition, home } = one.folder.clone();
    let of = Folder { mailbox, partition: partition.into(), home: home.into() };
    Bygone { of, uid: one.uid, size: one.size, digest: Digest(one.digest) }
}

/// A change in the words of a backup; `None` for one that is none of mailboxes or messages.
fn told(objects: &Objects, change: &Change<'_>) -> Result<Option<BackupChange>, StoreError> {
    Ok(match change {
        Change::Put { table: Table::Mailboxes, key, row } => {
            let row = MailboxRow::decode(key, row)?;
            let created_us = row.created_us;
            Some(BackupChange::Mailbox { mailbox: mailbox(key, row, objects), created_us })
        }
        Change::Remove { table: Table::Mailboxes, key } => Some(BackupChange::Nameless(key_text(key))),
        Change::Message { of, message, .. } => {
            let message =
                Message::decode(message).map_err(|found| StoreError::Bug(format!("a message in a record: {found}")))?;
            let (partition, home) = (of.partition.to_string(), of.home.to_string());
            let folder = BackupFolder { mailbox: of.mailbox, partition, home };
            Some(BackupChange::Message { folder, is_live: message.is_live(), message: line(&message) })
        }
        Change::Put { .. } | Change::Remove { .. } => None,
    })
}

fn mailbox(key: &[u8], row: MailboxRow, objects: &Objects) -> BackupMailbox {
    BackupMailbox {
        object: objects.path(key, &row.partition),
        name: key_text(key),
        id: row.id,
        partition: row.partition,
        uidvalidity: row.uidvalidity,
        uidnext: row.uidnext,
        highest_modseq: row.highest_modseq,
        messages: row.messages,
        bytes: row.bytes,
        acl: row.acl,
        quota: None,
        owner: None,
    }
}
