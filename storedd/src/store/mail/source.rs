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
use std::sync::Arc;

/// Most messages that a chain of copies may lead through before one has a file.
const CHAIN_MAX: usize = 100_000;

/// Where bytes may lie.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Disks<'a> {
    pub(in crate::store) partitions: &'a Partitions,
    pub(in crate::store) log: &'a dyn Disk,
    /// A partition that lacks changes and is just brought them: what it has is read all the same.
    pub(in crate::store) late: Option<&'a str>,
}

/// The place of a mailbox below its partition's root.
pub(in crate::store) fn place(of: &Folder<'_>) -> Result<Place> {
    let home = Home::parse(&of.home).ok_or_else(|| StoreError::Bug(format!("{:?} is no directory", of.home)))?;
    Ok(home.mailbox(of.mailbox))
}

/// A partition that is not there, or lacks changes.
pub(in crate::store) fn away(partition: &str) -> StoreError {
    StoreError::Busy {
        why: format!("partition {partition} is not there, or not up to date: storectl partition show {partition}"),
    }
}

impl Disks<'_> {
    /// The bytes of a message as `rows` know it, compared with their digest.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if the partition is not there; those of the disk; [`StoreError::Corrupt`] for other bytes.
    pub(in crate::store) fn bytes(&self, rows: &dyn Rows, of: &Folder<'_>, message: &Message) -> Result<Vec<u8>> {
        self.bytes_of(rows, of, message.uid, Body { size: message.size, digest: message.digest })
    }

    /// As [`Disks::bytes`], of a message of which only UID and bytes are known.
    ///
    /// # Errors
    /// As there.
    pub(super) fn bytes_of(&self, rows: &dyn Rows, of: &Folder<'_>, uid: u32, body: Body) -> Result<Vec<u8>> {
        // The message, what it is a copy of, and so on.
        let mut chain = vec![(of.clone().into_owned(), uid)];
        let found = loop {
            let Some((at, uid)) = chain.last().filter(|_| chain.len() <= CHAIN_MAX) else {
                let what = format!("copies of message {uid} of mailbox {} without an end", of.mailbox);
                return Err(StoreError::Bug(what));
            };
            let row = rows.get(Table::Bodies, &message_key(at.mailbox, *uid))?;
            match row.as_deref().map(BodyRow::decode).transpose()? {
                Some(BodyRow::Copy { of, uid }) => chain.push((of.into_owned(), uid)),
                Some(BodyRow::Logged(place)) => break self.logged(place, body),
                Some(BodyRow::Staged { partition, number }) => break self.staged(&partition, number, body),
                None => break self.file(at, *uid, body),
            }
        };
        if found.is_ok() {
            return found;
        }
        // Any of them may have got a file: from a checkpoint made meanwhile, or from one that the database has not heard of because
        // it is older. Then what was staged is gone, and what was purged too.
        chain.iter().rev().map(|(of, uid)| self.file(of, *uid, body)).find(Result::is_ok).unwrap_or(found)
    }

    fn disk(&self, partition: &str) -> Result<Arc<dyn Disk>> {
        let disk = match self.late {
            Some(late) if late == partition => self.partitions.open(partition),
            _ => self.partitions.disk(partition),
        };
        disk.ok_or_else(|| match self.late {
            Some(_) if self.is_removed(partition) => StoreError::io("read", partition, io::ErrorKind::NotFound.into()),
            _ => away(partition),
        })
    }

    /// True of a partition that was taken out of the store: it is not waited for.
    fn is_removed(&self, partition: &str) -> bool {
        let enrolled = self.partitions.enrolled();
        self.partitions.site(partition).is_none() && !enrolled.is_empty() && !enrolled.contains_key(partition)
    }

    fn file(&self, of: &Folder<'_>, uid: u32, body: Body) -> Result<Vec<u8>> {
        let disk = self.disk(&of.partition)?;
        bodies::read(&*disk, &place(of)?, uid, body)
    }

    fn staged(&self, partition: &str, number: u64, body: Body) -> Result<Vec<u8>> {
        let disk = self.disk(partition)?;
        bodies::read_staged(&*disk, number, body)
    }

    /// What the log holds at a place; a segment that was given up is not there.
    pub(super) fn logged(&self, place: LogPlace, body: Body) -> Result<Vec<u8>> {
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
