//! That a repair is recommended: the mark of a start that lost something, or may have. It outlives restarts, until a person says that
//! the loss is known, or has what the partitions hold put back.
//!
//! # Format
//! `repair-recommended` below the data directory: text, a line for each such start, newest first: its time (RFC 3339), a blank, why.

use super::decision::{Decision, Policy, Verdict};
use super::look::Found;
use super::{Disks, Store, rfc3339};
use crate::disk::{self, Disk};
use crate::error::{Result, StoreError};
use crate::lsn::Micros;
use std::io;

/// The mark, below the data directory.
pub(super) const MARK: &str = "repair-recommended";
/// Starts that it names.
const LINES_MAX: usize = 20;
const BYTES_MAX: u64 = 64 << 10;

/// Notes durably, before anything is given up, that this start loses something or may do so; later it could not be seen any more. A
/// loss that a person accepts is known to somebody. True if there was something to note.
pub(super) fn note(disks: &Disks, now: Micros, found: &Found, decision: &Decision, policy: Policy) -> Result<bool> {
    let why = match decision.verdict {
        // What is behind a point that a person named is set aside, not lost.
        Verdict::FirstStart | Verdict::Hold | Verdict::Until => None,
        _ if policy.accept_loss => None,
        _ => decision.lost.map(|(from, to)| format!("LSN {from} to {to} were lost")).or_else(|| doubt(found, decision)),
    };
    why.map(|why| add(disks, now, &why)).transpose().map(|noted| noted.is_some())
}

/// Why something may be lost that nothing proves. A torn end of the log alone is what every crash may leave.
fn doubt(found: &Found, decision: &Decision) -> Option<String> {
    match (found.control_problem(), found.live_meta()) {
        (Some(problem), _) => {
            Some(format!("{problem}: a log file may be missing at the end, and nothing would say so"))
        }
        (None, None) if decision.cut => Some("the database was bad, and the log ends in a torn write".to_owned()),
        (None, _) if found.is_doubtful(decision) => {
            Some("the end of the log was bad, and what came last may have stood there".to_owned())
        }
        _ => None,
    }
}

/// Adds a line to the mark.
pub(super) fn add(disks: &Disks, now: Micros, why: &str) -> Result<()> {
    let before = read(&*disks.data).unwrap_or_default();
    let lines = std::iter::once(format!("{} {why}\n", rfc3339(now)));
    let text: String = lines.chain(before.lines().take(LINES_MAX - 1).map(|line| format!("{line}\n"))).collect();
    disk::replace(&*disks.data, MARK, text.as_bytes()).map_err(|e| StoreError::io("write", disks.data.display(MARK), e))
}

/// What the mark says; `None` if there is none. One that cannot be read says so.
pub(super) fn read(disk: &dyn Disk) -> Option<String> {
    match disk::read_small(disk, MARK, BYTES_MAX) {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => Some(format!("{}: {e}", disk.display(MARK))),
    }
}

impl Store {
    /// Why a repair is recommended, in one line; `None` if it is not.
    #[must_use]
    pub fn repair_recommended(&self) -> Option<String> {
        super::commit::lock(&self.repair).as_ref().map(|text| text.lines().next().unwrap_or_default().to_owned())
    }

    /// Recommends a repair, from now on and over starts.
    ///
    /// # Errors
    /// Those of the disk.
    pub(super) fn recommend_repair(&self, why: &str) -> Result<()> {
        add(&self.disks, self.env.now(), why)?;
        *super::commit::lock(&self.repair) = read(&*self.disks.data);
        Ok(())
    }

    /// What was lost is known, or was put back: takes the mark away. False if there is none.
    ///
    /// # Errors
    /// Those of the disk; the repair is then still recommended.
    pub fn repair_done(&self) -> Result<bool> {
        // Not held while the disk is asked: `status` reads it.
        if super::commit::lock(&self.repair).is_none() {
            return Ok(false);
        }
        let disk = &*self.disks.data;
        match disk.remove(MARK) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("remove", disk.display(MARK), e));
            }
            _ => {}
        }
        disk.sync_dir("").map_err(|e| StoreError::io("sync", disk.display(MARK), e))?;
        *super::commit::lock(&self.repair) = None;
        Ok(true)
    }
}
