//! How far a run came that was cut off: `dbdata/expire`, JSON. It may be lost or old: then the next run begins at the beginning.

use super::Result;
use crate::disk::{self, Disk};
use crate::error::StoreError;
use crate::lsn::Micros;
use crate::model::MailboxName;
use crate::model::name::key_text;
use serde::{Deserialize, Serialize};
use std::io;

const FILE: &str = "dbdata/expire";
/// Longest file that is read.
const BYTES_MAX: u64 = 16 << 10;
/// A run that began longer ago is not gone on with.
const OLD_US: u64 = 86_400_000_000;

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    begun: Micros,
    /// Key of the last mailbox that was done.
    pub(super) after: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    begun_us: u64,
    after: String,
}

impl Mark {
    pub(super) fn new(now: Micros) -> Mark {
        Mark { begun: now, after: Vec::new() }
    }

    /// How far the last run came, if it was cut off a short while ago.
    pub(super) fn read(data: &dyn Disk, now: Micros) -> Option<Mark> {
        let bytes = disk::read_small(data, FILE, BYTES_MAX).ok()?;
        let Written { begun_us, after } = serde_json::from_slice(&bytes).ok()?;
        let name = MailboxName::parse(&after).ok()?;
        let is_young = now.0.checked_sub(begun_us).is_some_and(|age| age < OLD_US);
        is_young.then(|| Mark { begun: Micros(begun_us), after: name.key().to_vec() })
    }

    pub(super) fn write(&self, data: &dyn Disk) -> Result<()> {
        let fail = |op, path: &str, e| StoreError::io(op, data.display(path), e);
        data.create_dir("dbdata").map_err(|e| fail("create", "dbdata", e))?;
        let written = Written { begun_us: self.begun.0, after: key_text(&self.after) };
        let text = serde_json::to_vec(&written).map_err(|e| StoreError::Bug(format!("mark of expire: {e}")))?;
        disk::replace(data, FILE, &text).map_err(|e| fail("write", FILE, e))
    }

    /// The run came to its end.
    pub(super) fn clear(data: &dyn Disk) -> Result<()> {
        match data.remove(FILE) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", data.display(FILE), e)),
            _ => Ok(()),
        }
    }
}
