//! Where the bytes of a message are: in the log, in a staged file, with another message, or in a file of its own.

use crate::disk::{Access, Disk};
use crate::error::{Result, StoreError};
use crate::model::mail::{BodyRow, message_key};
use crate::model::message::Message;
use crate::model::{Folder, LogPlace, Rows, Table};
use crate::partition::Partitions;
use crate::partition::bodies::{self, Body};
use crate::partition::tree::{Home, Place};
use crate::wal;
use std::io;

/// Most messages that a chain of copies may lead through before one has a file.
const CHAIN_MAX: usize = 100_000;

/// Where bytes may lie.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Disks<'a> {
    pub(in crate::store) partitions: &'a Partitions,
    pub(in crate::store) log: &'a dyn Disk,
}

/// The place of a mailbox below its partition's root.
pub(in crate::store) fn place(of: &Folder<'_>) -> Result<Place> {
    let home = Home::parse(&of.home).ok_or_else(|| StoreError::Bug(format!("{:?} is no directory", of.home)))?;
    Ok(home.mailbox(of.mailbox))
}

fn is_missing(result: &Result<Vec<u8>>) -> bool {
    matches!(result, Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound)
}

/// A partition that is not there.
pub(super) fn away(partition: &str) -> StoreError {
    StoreError::Busy { why: format!("partition {partition} is not there: storectl partition show {partition}") }
}

impl Disks<'_> {
    /// The bytes of a message as `rows` know it, compared with their digest.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if the partition is not there; those of the disk; [`StoreError::Corrupt`] for other bytes.
    pub(in crate::store) fn bytes(&self, rows: &dyn Rows, of: &Folder<'_>, message: &Message) -> Result<Vec<u8>> {
        let body = Body { size: message.size, digest: message.digest };
        let (mut at, mut uid) = (of.clone().into_owned(), message.uid);
        // What stands nearer to the message is looked at again if the way leads nowhere: a checkpoint may have given it a file meanwhile.
        for _ in 0..CHAIN_MAX {
            let row = rows.get(Table::Bodies, &message_key(at.mailbox, uid))?;
            let found = match row.as_deref().map(BodyRow::decode).transpose()? {
                Some(BodyRow::Copy { of, uid: origin }) => {
                    (at, uid) = (of.into_owned(), origin);
                    continue;
                }
                Some(BodyRow::Logged(place)) => self.logged(place, body),
                Some(BodyRow::Staged { partition, number }) => self.staged(&partition, number, body),
                None => self.file(&at, uid, body),
            };
            if !is_missing(&found) {
                return found;
            }
            let of_origin = self.file(&at, uid, body);
            return if is_missing(&of_origin) { self.file(of, message.uid, body) } else { of_origin };
        }
        Err(StoreError::Bug(format!("copies of message {uid} of mailbox {} without an end", at.mailbox)))
    }

    fn file(&self, of: &Folder<'_>, uid: u32, body: Body) -> Result<Vec<u8>> {
        let disk = self.partitions.disk(&of.partition).ok_or_else(|| away(&of.partition))?;
        bodies::read(&*disk, &place(of)?, uid, body)
    }

    fn staged(&self, partition: &str, number: u64, body: Body) -> Result<Vec<u8>> {
        let disk = self.partitions.disk(partition).ok_or_else(|| away(partition))?;
        bodies::read_staged(&*disk, number, body)
    }

    /// What the log holds at a place; a segment that was given up is not there.
    fn logged(&self, place: LogPlace, body: Body) -> Result<Vec<u8>> {
        let name = wal::file_name(place.segment);
        let io = |e| StoreError::io("read", self.log.display(&name), e);
        let mut bytes = vec![0; usize::try_from(body.size).unwrap_or(0)];
        self.log.open(&name, Access::Read).and_then(|file| file.read_at(place.offset, &mut bytes)).map_err(io)?;
        let found = Body::of(&bytes);
        if found == body {
            return Ok(bytes);
        }
        Err(StoreError::Corrupt {
            file: self.log.display(&name),
            offset: place.offset,
            what: "digest of a message".to_owned(),
            found: found.digest.to_string(),
            expected: body.digest.to_string(),
        })
    }
}
