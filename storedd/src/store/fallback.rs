//! Snapshots that can take the place of a database that is bad or gone.
//!
//! # Operation
//! A start reads no snapshot as long as the live database is good and the log behind it leads on ([`super::look::look`]).
//! Otherwise the texts of all of them are read; from what they say and from the survey of the log follows how far each would lead.
//! Then they are looked at to the last byte, furthest reach first, newest first among equals, until one passes: no other could
//! win against it. Whatever is passed over before that is a finding.
//!
//! # Invariants
//! * A snapshot is chosen only if it has both its marks, every byte is as it was when it was verified, it opens (through a layer that
//!   keeps writes in memory), and it is of this store, of a schema that this program reads, and of a history that was not given up.
//! * What a manifest says was durable was durable, also if its snapshot cannot be taken: a start that ends before that LSN has
//!   lost something.
//! * Looking changes nothing (I7).

use super::Disks;
use super::look::{OnProgress, Progress};
use super::report::Finding;
use crate::db::{self, Db};
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn, Micros, StoreId};
use crate::snapshot::{self, DB_FILE, Depth, Manifest, Shelf, Snapshot};
use crate::wal::{Reach, Stop, Survey};
use std::cmp::Reverse;
use std::sync::Arc;

/// A snapshot, and the shelf it lies on.
#[derive(Debug)]
struct Listed {
    shelf: Shelf,
    snapshot: Snapshot,
}

/// What a finding of a snapshot that is not taken says.
pub(super) const PASSED_OVER: &str = "snapshot passed over";
/// The same of one that another version of the program wrote: nothing is wrong with it.
pub(super) const OF_ANOTHER_VERSION: &str = "snapshot passed over, of another version";

/// Which snapshots are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The best there is.
    Any,
    /// This one.
    Id(String),
    /// One taken by then.
    Before(Micros),
}

impl Wanted {
    pub(super) fn is(&self, manifest: &Manifest) -> bool {
        match self {
            Wanted::Any => true,
            Wanted::Id(id) => *id == snapshot::id(manifest.time, manifest.lsn),
            Wanted::Before(time) => manifest.time <= *time,
        }
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wanted::Any => f.write_str("at all"),
            Wanted::Id(id) => f.write_str(id),
            Wanted::Before(time) => write!(f, "from before {}", super::rfc3339(*time)),
        }
    }
}

/// The snapshots there are, by their texts.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    listed: Vec<Listed>,
    /// Places that could not be read; what they hold might have been better.
    unreadable: Vec<String>,
    findings: Vec<Finding>,
}

/// A snapshot that passed its check.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) id: String,
    pub(super) manifest: Manifest,
    pub(super) shelf: Shelf,
    /// What its pages were when they were looked at.
    pub(super) examined: db::Examined,
}

/// What came of looking for one.
#[derive(Debug, Default)]
pub(super) struct Fallback {
    pub(super) chosen: Option<Chosen>,
    pub(super) unreadable: Vec<String>,
    /// Why others were passed over.
    pub(super) findings: Vec<Finding>,
}

impl Snapshots {
    /// Reads the texts of every snapshot of this store. What cannot be read is noted.
    pub(super) fn read(disks: &Disks, store_id: StoreId) -> Snapshots {
        let mut all = Snapshots::default();
        for shelf in disks.shelves_or_why(store_id) {
            match shelf.and_then(|shelf| Ok((shelf.list()?, shelf))) {
                Ok((ids, shelf)) => ids.iter().for_each(|id| all.add(&shelf, id, store_id)),
                // One that was never made has none.
                Err(e) if is_not_there(&e) => all.findings.push(Finding::of(&e)),
                Err(e) => all.cannot_read(&e),
            }
        }
        all
    }

    fn add(&mut self, shelf: &Shelf, id: &str, store_id: StoreId) {
        match shelf.read(id, Depth::Texts) {
            Ok(snapshot) => match &snapshot.manifest {
                Some(manifest) if manifest.store_id != store_id => {
                    let found = format!("store {}", manifest.store_id);
                    self.findings.push(passed_over(&snapshot.path, found, format!("store {store_id}")));
                }
                _ => self.listed.push(Listed { shelf: shelf.clone(), snapshot }),
            },
            Err(e) => self.cannot_read(&e),
        }
    }

    fn cannot_read(&mut self, e: &StoreError) {
        self.unreadable.push(e.to_string());
        self.findings.push(Finding::of(e));
    }

    /// The highest LSN of which a manifest says that it was durable.
    pub(super) fn proven(&self) -> Option<Lsn> {
        self.listed.iter().filter_map(|l| l.snapshot.manifest.as_ref()).map(|m| m.lsn).max()
    }

    /// Epoch and LSN of each one that may be chosen by what its texts say.
    pub(super) fn places(&self) -> Vec<(Epoch, Lsn)> {
        let valid = self.listed.iter().filter(|l| l.snapshot.valid);
        valid.filter_map(|l| l.snapshot.manifest.as_ref()).map(|m| (m.epoch, m.lsn)).collect()
    }

    /// The highest LSN of those that were taken by `time`.
    pub(super) fn last_by(&self, time: Micros) -> Option<Lsn> {
        let valid = self.listed.iter().filter(|l| l.snapshot.valid);
        valid.filter_map(|l| l.snapshot.manifest.as_ref()).filter(|m| m.time <= time).map(|m| m.lsn).max()
    }

    /// The best one of those that are `wanted`: which leads furthest, and of these the newest.
    pub(super) fn choose(self, survey: &Survey, wanted: &dyn Fn(&Manifest) -> bool, progress: &OnProgress) -> Fallback {
        let Snapshots { listed, unreadable, findings } = self;
        let mut fallback = Fallback { chosen: None, unreadable, findings };
        let mut reached: Vec<(Lsn, Listed)> = Vec::new();
        for listed in listed {
            match may_be_chosen(&listed.snapshot, survey) {
                Ok((manifest, reach)) if wanted(manifest) => reached.push((reach.lsn, listed)),
                Ok(_) => {}
                Err(e) => fallback.pass_over(&listed.snapshot, &e),
            }
        }
        reached.sort_by_key(|(reach, l)| Reverse((*reach, l.snapshot.at(), l.snapshot.id.clone())));
        for (_, Listed { shelf, snapshot }) in reached {
            match examine(&shelf, &snapshot.id, survey.store_id, progress) {
                Ok((manifest, examined)) => {
                    fallback.chosen = Some(Chosen { id: snapshot.id, manifest, shelf, examined });
                    break;
                }
                Err(e) => fallback.pass_over(&snapshot, &e),
            }
        }
        fallback
    }
}

/// The newest valid snapshot of a schema that this program reads: for who meets a database that a newer program wrote (row 53).
pub(super) fn newest_readable(disks: &Disks, store_id: StoreId) -> Option<Snapshot> {
    let readable = |m: &Manifest| db::reads(m.schema);
    let all = Snapshots::read(disks, store_id).listed.into_iter().map(|listed| listed.snapshot);
    all.filter(|s| s.valid && s.manifest.as_ref().is_some_and(readable)).max_by_key(Snapshot::at)
}

impl Fallback {
    fn pass_over(&mut self, snapshot: &Snapshot, e: &StoreError) {
        if let StoreError::Io { .. } = e {
            self.unreadable.push(e.to_string());
        }
        let finding = match e {
            StoreError::Foreign { file, what, found, expected } => Finding {
                r#where: file.clone(),
                what: OF_ANOTHER_VERSION.to_owned(),
                expected: expected.clone(),
                found: format!("{what} {found}"),
            },
            StoreError::Refused { message, hint, .. } => passed_over(&snapshot.path, message.clone(), hint.clone()),
            e => passed_over(&snapshot.path, e.to_string(), "a snapshot that is whole".to_owned()),
        };
        self.findings.push(finding);
    }
}

fn is_not_there(e: &StoreError) -> bool {
    matches!(e, StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

fn passed_over(path: &str, found: String, expected: String) -> Finding {
    Finding { r#where: path.to_owned(), what: PASSED_OVER.to_owned(), expected, found }
}

/// Why it is not one to be chosen, as found and expected.
fn not_this(found: &str, expected: &str) -> StoreError {
    StoreError::Refused { message: found.to_owned(), hint: expected.to_owned(), exit: crate::error::exit::DAMAGED }
}

/// What its texts say against it, or how far it would lead.
fn may_be_chosen<'s>(snapshot: &'s Snapshot, survey: &Survey) -> Result<(&'s Manifest, Reach)> {
    if let Some(problem) = snapshot.problems.first() {
        return Err(problem.clone());
    }
    let Some(manifest) = snapshot.manifest.as_ref().filter(|_| snapshot.valid) else {
        return Err(not_this("it has not passed a verification", "a .verified that speaks of this MANIFEST"));
    };
    if !db::reads(manifest.schema) {
        return Err(StoreError::Foreign {
            file: snapshot.path.clone(),
            what: db::SCHEMA,
            found: manifest.schema.to_string(),
            expected: format!("{} to {}", db::SCHEMA_OLDEST, db::SCHEMA_VERSION),
        });
    }
    let reach = survey.reach(manifest.epoch, manifest.lsn);
    if reach.stop == Stop::OtherHistory {
        let found = format!("LSN {} of epoch {} is of a history that was given up", manifest.lsn, manifest.epoch);
        return Err(not_this(&found, "a snapshot of the present history"));
    }
    Ok((manifest, reach))
}

/// Looks at every byte, and at the database as at one that nobody knows.
fn examine(shelf: &Shelf, id: &str, store: StoreId, progress: &OnProgress) -> Result<(Manifest, db::Examined)> {
    progress(Progress::of("snapshot", 0.0));
    let Snapshot { manifest, valid, problems, .. } = shelf.read(id, Depth::Bytes)?;
    if let Some(problem) = problems.into_iter().next() {
        return Err(problem);
    }
    let Some(manifest) = manifest.filter(|_| valid) else {
        return Err(not_this("it changed while it was looked at", "a snapshot that nobody changes"));
    };
    let progress = progress.clone();
    let told: db::Progress = Arc::new(move |done| progress(Progress::of("snapshot", done)));
    let path = shelf.path(id, DB_FILE);
    let examined = Db::examine_for_open(shelf.disk(), &path, Some(store), Some(told))?;
    let meta = &examined.meta;
    if (meta.applied_lsn, meta.epoch) != (manifest.lsn, manifest.epoch) {
        let found = format!("a database at LSN {} of epoch {}", meta.applied_lsn, meta.epoch);
        return Err(not_this(&found, &format!("LSN {} of epoch {}", manifest.lsn, manifest.epoch)));
    }
    Ok((manifest, examined))
}
