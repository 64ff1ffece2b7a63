//! How far the scrub is, and what is damaged: `dbdata/scrub` in the data directory.
//!
//! # Format
//! Text sealed with a checksum ([`crate::sealed`]), with one line of JSON: the pass under way (when it began, the mark behind which it goes on,
//! counts, which mailboxes behind the mark are done and up to which message the next one is), the last whole one, and what is damaged. It may be lost or old: then a pass begins at the beginning, or goes on from an
//! earlier place, and finds what is damaged again.

use super::strange;
use crate::disk::{self, Disk};
use crate::error::{Result, StoreError};
use crate::jobs::check::Within;
use crate::lsn::Micros;
use crate::sealed::{self, Lines};
use crate::store::MailFinding;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

const FILE: &str = "dbdata/scrub";
const KIND: &str = "storedd-scrub";
/// Longest file that is read.
const BYTES_MAX: u64 = 16 << 20;
/// Damage that is remembered.
const DAMAGE_MAX: usize = 1000;

/// What a pass has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Mailboxes looked at, deleted ones among them.
    pub mailboxes: u64,
    /// Messages in them.
    pub messages: u64,
    /// Bytes of files read.
    pub bytes: u64,
    /// Findings.
    pub found: u64,
    /// Those of them that were repaired.
    pub healed: u64,
}

/// Something that is damaged, and that nothing near could heal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// Number of its mailbox; 0: none.
    pub mailbox: u64,
    /// File, or mailbox.
    pub place: String,
    /// Which message, where it is about one.
    pub uid: Option<u32>,
    /// What it is about.
    pub what: String,
    /// What is there.
    pub found: String,
    /// What should be.
    pub expected: String,
    /// When it was found first, microseconds since 1970.
    pub since_us: u64,
}

impl Damage {
    fn of(mailbox: u64, finding: MailFinding, since_us: u64) -> Damage {
        let MailFinding { place, uid, what, expected, found, .. } = finding;
        Damage { mailbox, place, uid, what: what.to_owned(), found, expected, since_us }
    }
}

/// A pass under way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pass {
    pub(super) begun_us: u64,
    /// See [`crate::jobs::check::Scope::mark`].
    pub(super) mark: String,
    /// Up to that mark.
    pub(super) counts: Counts,
    /// How far it is behind it.
    #[serde(default)]
    pub(super) within: Within,
}

/// A whole pass.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) begun_us: u64,
    pub(super) ended_us: u64,
    pub(super) counts: Counts,
}

/// See the page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) pass: Option<Pass>,
    pub(super) last: Option<Ended>,
    pub(super) damage: Vec<Damage>,
}

impl Record {
    /// What was left; nothing if there is no file.
    pub(super) fn read(data: &dyn Disk) -> Result<Record> {
        let file = data.display(FILE);
        let bytes = match disk::read_small(data, FILE, BYTES_MAX) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Record::default()),
            bytes => bytes.map_err(|e| StoreError::io("read", file.clone(), e))?,
        };
        let mut lines = Lines::open(KIND, &bytes, &file)?;
        let line = lines.next().unwrap_or_default();
        let record = serde_json::from_str(line).map_err(|e| strange(&file, &e.to_string()))?;
        lines.end()?;
        Ok(record)
    }

    /// Writes it durably.
    pub(super) fn write(&self, data: &dyn Disk) -> Result<()> {
        let fail = |op, path: &str, e| StoreError::io(op, data.display(path), e);
        data.create_dir("dbdata").map_err(|e| fail("create", "dbdata", e))?;
        let line = serde_json::to_string(self).map_err(|e| StoreError::Bug(format!("record of the scrub: {e}")))?;
        disk::replace(data, FILE, &sealed::seal(KIND, &format!("{line}\n"))).map_err(|e| fail("write", FILE, e))
    }

    /// What was met is damaged, too; true if that was not known.
    pub(super) fn add(&mut self, met: &BTreeMap<u64, Vec<MailFinding>>, now: Micros) -> bool {
        let before = self.damage.len();
        for (mailbox, finding) in met.iter().flat_map(|(id, met)| met.iter().map(move |one| (*id, one))) {
            let is_it = |known: &Damage| {
                known.mailbox == mailbox
                    && known.uid == finding.uid
                    && (known.uid.is_some() || known.place == finding.place)
            };
            if self.damage.len() < DAMAGE_MAX && !self.damage.iter().any(is_it) {
                self.damage.push(Damage::of(mailbox, finding.clone(), now.0));
            }
        }
        self.damage.len() != before
    }

    /// Of the mailboxes that were looked at, and of those in which something was found, only that is damaged.
    pub(super) fn take(&mut self, looked_at: &BTreeSet<u64>, found: &BTreeMap<u64, Vec<MailFinding>>, now: Micros) {
        let is_known = |id: &u64| looked_at.contains(id) || found.get(id).is_some_and(|found| !found.is_empty());
        let (before, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.damage).into_iter().partition(|damage| is_known(&damage.mailbox));
        self.damage = others;
        for (mailbox, finding) in found.iter().flat_map(|(id, found)| found.iter().map(move |f| (*id, f))) {
            if self.damage.len() == DAMAGE_MAX {
                break;
            }
            let MailFinding { place, uid, what, .. } = finding;
            let same = before.iter().find(|known| known.place == *place && known.uid == *uid && known.what == *what);
            let since_us = same.map_or(now.0, |known| known.since_us);
            self.damage.push(Damage::of(mailbox, finding.clone(), since_us));
        }
    }
}
