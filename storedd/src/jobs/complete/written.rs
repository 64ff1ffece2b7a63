//! What a complete copy wrote of the messages that came and went meanwhile, until it is compared with their indexes.
//!
//! # Format
//! A file of the copy while it is made, [`DRAFT`]: for each message its UID (4 bytes, little-endian) and 16 bytes of its digest, mailbox after
//! mailbox. Where those of a mailbox stand is held in memory, so that a hundred million messages need no more of it than their mailboxes do.

use super::tree::Tag;
use crate::disk::{Access, Disk, DiskFile};
use crate::error::{Result, StoreError};
use crate::partition::tree::Place;
use std::collections::HashMap;
use std::sync::Arc;

/// Its name in the copy.
const DRAFT: &str = "DIGESTS.new";
const RECORD: usize = 4 + size_of::<Tag>();

/// Digests by partition, mailbox and UID.
pub(super) struct Written {
    disk: Arc<dyn Disk>,
    file: Arc<dyn DiskFile>,
    at: u64,
    /// Where the records of a mailbox begin, and how many they are.
    of: HashMap<(usize, Place), (u64, usize)>,
}

impl Written {
    pub(super) fn begin(disk: &Arc<dyn Disk>) -> Result<Written> {
        let file = disk.open(DRAFT, Access::CreateNew);
        let file = file.map_err(|e| StoreError::io("create", disk.display(DRAFT), e))?;
        Ok(Written { disk: disk.clone(), file, at: 0, of: HashMap::new() })
    }

    /// Adds a mailbox.
    ///
    /// # Errors
    /// Those of the disk.
    pub(super) fn add(&mut self, partition: usize, place: Place, messages: &[(u32, Tag)]) -> Result<()> {
        let record = |(uid, tag): &(u32, Tag)| uid.to_le_bytes().into_iter().chain(*tag);
        let bytes: Vec<u8> = messages.iter().flat_map(record).collect();
        self.file.write_at(self.at, &bytes).map_err(|e| StoreError::io("write", self.disk.display(DRAFT), e))?;
        self.of.insert((partition, place), (self.at, messages.len()));
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Those of a mailbox; none if it was not added.
    ///
    /// # Errors
    /// Those of the disk.
    pub(super) fn of(&self, partition: usize, place: &Place) -> Result<HashMap<u32, Tag>> {
        let Some((at, count)) = self.of.get(&(partition, place.clone())) else { return Ok(HashMap::new()) };
        let mut bytes = vec![0; count * RECORD];
        self.file.read_at(*at, &mut bytes).map_err(|e| StoreError::io("read", self.disk.display(DRAFT), e))?;
        let record = |record: &[u8]| {
            let uid = u32::from_le_bytes(std::array::from_fn(|n| record[n]));
            (uid, std::array::from_fn(|n| record[4 + n]))
        };
        Ok(bytes.chunks_exact(RECORD).map(record).collect())
    }

    /// Takes the file out of the copy.
    ///
    /// # Errors
    /// Those of the disk.
    pub(super) fn end(self) -> Result<()> {
        let removed = self.disk.remove(DRAFT).and_then(|()| self.disk.sync_dir(""));
        removed.map_err(|e| StoreError::io("remove", self.disk.display(DRAFT), e))
    }
}
