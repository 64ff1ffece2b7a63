//! The write-out of what users have seen in mailboxes of others, to the manifests of these users.
//!
//! The log and the database have it with every change; manifests, from which a store is made again when both are lost, get it when
//! somebody asks for it, with the next checkpoint. A mark in the data directory says that one is under way: a crash may leave half a
//! frame in manifests that the log alone would give the next checkpoint no reason to touch, so that one does it again.

use super::Store;
use super::checkpoint::CheckpointDone;
use crate::disk::{self, Disk};
use crate::error::{Result, StoreError};
use crate::lsn::Micros;
use std::io;
use std::sync::atomic::Ordering;

/// Since when, in microseconds since 1970, as decimal digits.
const MARK: &str = "dbdata/peruser";
const MARK_BYTES_MAX: u64 = 32;
/// Nothing is to be written out.
pub(super) const NOTHING: u64 = u64::MAX;

/// What the last run was at when it ended; one that cannot be read is all.
pub(super) fn under_way(data: &dyn Disk) -> u64 {
    match disk::read_small(data, MARK, MARK_BYTES_MAX) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => NOTHING,
        Err(_) => 0,
        Ok(text) => String::from_utf8_lossy(&text).trim().parse().unwrap_or(0),
    }
}

impl Store {
    /// Makes a checkpoint that also writes to the manifests of users what they have seen in mailboxes of others, as far as that
    /// changed at `since` or later.
    ///
    /// # Errors
    /// As [`Store::checkpoint`]; a later checkpoint writes it.
    pub fn write_out_seen(&self, since: Micros) -> Result<CheckpointDone> {
        let data = &*self.disks.data;
        let fail = |op, path: &str, e| StoreError::io(op, data.display(path), e);
        let since = since.0.min(self.seen_since.load(Ordering::Acquire));
        data.create_dir("dbdata").map_err(|e| fail("create", "dbdata", e))?;
        data.sync_dir("").map_err(|e| fail("sync", "", e))?;
        disk::replace(data, MARK, since.to_string().as_bytes()).map_err(|e| fail("write", MARK, e))?;
        // IMPORTANT: after the mark is durable.
        self.seen_since.fetch_min(since, Ordering::AcqRel);
        let done = self.checkpoint()?;
        match data.remove(MARK) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(fail("remove", MARK, e)),
            _ => Ok(done),
        }
    }
}
