//! What drills came to, on disk: `dbdata/drills/<time>.json`, the newest twenty.

use crate::disk::{self, Disk};
use crate::error::{Result, StoreError};
use crate::lsn::{Lsn, Micros};
use crate::store::rfc3339;
use serde::{Deserialize, Serialize};
use std::io;

const DIR: &str = "dbdata/drills";
/// Records kept.
const KEPT: usize = 20;
/// Longest record that is read.
const BYTES_MAX: u64 = 4 << 20;

/// Something that was not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// What was looked at.
    pub what: String,
    /// What is there.
    pub found: String,
    /// What should be there.
    pub expected: String,
}

impl Problem {
    /// What an error says.
    pub(super) fn of(e: &StoreError) -> Problem {
        let (file, what, found, expected) = match e.clone() {
            StoreError::Corrupt { file, offset, what, found, expected } => {
                let what = if offset > 0 { format!("{what} at offset {offset}") } else { what };
                (file, what, found, expected)
            }
            StoreError::Foreign { file, what, found, expected } => (file, what.to_owned(), found, expected),
            StoreError::Missing { files } => {
                (files.join(", "), "missing".to_owned(), "nothing".to_owned(), "a file".to_owned())
            }
            StoreError::Io { op, path, source } => {
                (path, op.to_owned(), source.to_string(), "a readable file".to_owned())
            }
            other => (String::new(), other.to_string(), String::new(), String::new()),
        };
        Problem { file, what, found, expected }
    }
}

/// What a drill came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drilled {
    /// When it began; RFC 3339, UTC.
    pub begun: String,
    /// The same, in microseconds since 1970 UTC.
    pub begun_us: u64,
    /// The restored store is what it should be.
    pub good: bool,
    /// `snapshot` or `backup`, and its directory.
    pub source: String,
    /// LSN of its database.
    pub base_lsn: u64,
    /// LSN to which its log led.
    pub reached_lsn: u64,
    /// LSN of the live store that it was held against.
    pub live_lsn: u64,
    /// The live store's totals at that LSN were held against it.
    pub compared: bool,
    /// Records replayed.
    pub replayed: u64,
    /// Bytes copied.
    pub bytes: u64,
    /// Rows in it.
    pub rows: u64,
    /// Seconds of changes that would have been lost.
    pub rpo: f64,
    /// Seconds from the beginning of the copy to a store that is ready.
    pub rto: f64,
    /// Seconds that the drill took.
    pub duration: f64,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

impl Drilled {
    pub(super) fn begin(now: Micros, source: String, live: Lsn) -> Drilled {
        Drilled {
            begun: rfc3339(now),
            begun_us: now.0,
            good: false,
            source,
            base_lsn: 0,
            reached_lsn: 0,
            live_lsn: live.0,
            compared: false,
            replayed: 0,
            bytes: 0,
            rows: 0,
            rpo: 0.0,
            rto: 0.0,
            duration: 0.0,
            problems: Vec::new(),
        }
    }
}

/// Those that can be read, oldest first.
pub(super) fn load(data: &dyn Disk, now: Micros) -> Result<Vec<Drilled>> {
    Ok(in_order(data, now)?.into_iter().filter_map(|(_, drilled)| drilled).collect())
}

/// Each with the name of its file, oldest first: by the live store's LSN, which no clock sets, and of one LSN those last that are
/// not stamped ahead of `now`. What cannot be read is the oldest.
fn in_order(data: &dyn Disk, now: Micros) -> Result<Vec<(String, Option<Drilled>)>> {
    let read = |name: String| {
        let bytes = disk::read_small(data, &format!("{DIR}/{name}"), BYTES_MAX).ok();
        let drilled = bytes.and_then(|bytes| serde_json::from_slice::<Drilled>(&bytes).ok());
        (name, drilled)
    };
    let mut all: Vec<_> = names(data)?.into_iter().map(read).collect();
    all.sort_by_key(|(_, drilled)| {
        drilled.as_ref().map(|d| (d.live_lsn, !Micros(d.begun_us).is_ahead_of(now), d.begun_us))
    });
    Ok(all)
}

/// Writes one durably, and removes the oldest.
pub(super) fn write(data: &dyn Disk, drilled: &Drilled) -> Result<()> {
    let fail = |op, path: &str, e| StoreError::io(op, data.display(path), e);
    for dir in ["dbdata", DIR] {
        data.create_dir(dir).map_err(|e| fail("create", dir, e))?;
    }
    for dir in ["", "dbdata"] {
        data.sync_dir(dir).map_err(|e| fail("sync", dir, e))?;
    }
    let text = serde_json::to_vec_pretty(drilled).map_err(|e| StoreError::Bug(format!("drill: {e}")))?;
    let path = format!("{DIR}/{}.json", drilled.begun);
    disk::replace(data, &path, &text).map_err(|e| fail("write", &path, e))?;
    let all = in_order(data, Micros(drilled.begun_us))?;
    for (old, _) in &all[..all.len().saturating_sub(KEPT)] {
        let path = format!("{DIR}/{old}");
        data.remove(&path).map_err(|e| fail("remove", &path, e))?;
    }
    Ok(())
}

fn names(data: &dyn Disk) -> Result<Vec<String>> {
    match data.list(DIR) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(StoreError::io("list", data.display(DIR), e)),
        Ok(entries) => Ok(entries.into_iter().map(|e| e.name).filter(|name| name.ends_with(".json")).collect()),
    }
}
