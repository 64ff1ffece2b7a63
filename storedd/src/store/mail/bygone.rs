//! The bytes of messages that were there at an earlier moment, wherever they are now.

use super::heal::Sick;
use super::told::told;
use crate::disk::Disk;
use crate::error::Result;
use crate::model::Folder;
use crate::model::message::Digest;
use crate::partition::bodies::Body;
use crate::store::Store;
use std::collections::{BTreeMap, HashMap};

/// Longest message that is looked for: as much memory is set aside for it.
const BYTES_MAX: u64 = 1 << 30;

/// A message that may be expunged or purged by now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bygone {
    /// Where its mailbox lay.
    pub of: Folder<'static>,
    /// UID.
    pub uid: u32,
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of them.
    pub digest: Digest,
}

impl Store {
    /// Their bytes, in the same order; why not, of those that are nowhere any more. They are looked for where they lay, then in `log`, which is
    /// read once for all of them, then with other messages of the same home.
    ///
    /// # Errors
    /// Those of the log's disk.
    pub fn bygone_bytes(&self, log: &dyn Disk, all: &[Bygone]) -> Result<Vec<std::result::Result<Vec<u8>, String>>> {
        let (view, disks) = (self.view(), self.mail_disks());
        let body = |one: &Bygone| Body { size: one.size, digest: one.digest };
        let mut found: HashMap<Digest, Vec<u8>> = HashMap::new();
        for one in all.iter().filter(|one| one.size <= BYTES_MAX) {
            // Where they lay, and where the mailbox lies by now.
            let moved = told(&view, one.of.mailbox).ok().flatten().map(|told| Folder {
                partition: told.row.partition.into(),
                home: told.row.home.unwrap_or(told.owner).into(),
                mailbox: one.of.mailbox,
            });
            for of in std::iter::once(&one.of).chain(&moved) {
                if !found.contains_key(&one.digest)
                    && let Ok(bytes) = disks.bytes_of(&view, of, one.uid, body(one))
                {
                    found.insert(one.digest, bytes);
                }
            }
        }
        let missing = |found: &HashMap<Digest, Vec<u8>>| -> BTreeMap<Digest, u64> {
            all.iter()
                .filter(|one| one.size <= BYTES_MAX && !found.contains_key(&one.digest))
                .map(|one| (one.digest, one.size))
                .collect()
        };
        let wanted = missing(&found);
        self.logged_bodies(log, &wanted, &mut |digest, bytes| {
            found.insert(digest, bytes);
            Ok(())
        })?;
        let left = missing(&found);
        for one in all.iter().filter(|one| left.contains_key(&one.digest)) {
            let (mailbox, file) = (format!("mailbox {}", one.of.mailbox), String::new());
            let sick = Sick { mailbox, of: one.of.clone(), uid: one.uid, file, body: body(one) };
            // A home that cannot be read has nothing.
            if let Ok(Some(bytes)) = self.twin_at_home(&sick) {
                found.insert(one.digest, bytes);
            }
        }
        let gone = || "it was purged, and the log that is kept does not hold its bytes".to_owned();
        Ok(all.iter().map(|one| found.get(&one.digest).cloned().ok_or_else(gone)).collect())
    }
}
