//! The fire drill: the newest snapshot or backup and the log behind it made into a store in a scratch directory, started, and held
//! against the live store at the same LSN.
//!
//! # Operation
//! 1. The live store's [`Totals`] are read from a view at LSN n; commits go on.
//! 2. The newest copy there is, snapshot or backup, is looked at to its last byte; a bad one is what a drill is to find, so no
//!    other is tried instead. (A snapshot that nobody has verified yet is passed over where there is another.)
//! 3. It is copied into the scratch directory with the log that leads from it to n (I4: a hold keeps that meanwhile; what the log has not any
//!    more comes from the archive, as a recovery would take it), and started as a recovery by hand: nothing is worked around. Where the log does not lead from a *backup* to n any more, that backup is brought to where
//!    its own log ends, and held against its own manifest only.
//! 4. Every row and every rule between tables is checked; at n its totals must be those of the live store.
//! 5. The directory is removed; what came out is written to `dbdata/drills/`, one JSON file for each drill.
//!
//! # What the numbers mean
//! `rpo`: what would be lost in seconds if the live database were gone: from a snapshot or backup whose log leads to the present nothing; from
//! a backup alone everything after its last record. `rto`: how long the copying and the start took.
//!
//! # Invariants
//! * Nothing outside the scratch directory and `dbdata/drills/` is written.
//! * No more is written than fits while `[disk] bulk_reserve` stays free.

mod record;
mod scratch;
#[cfg(test)]
mod tests;
mod totals;

pub use record::{Drilled, Problem};
pub use totals::Totals;

use super::backups::{Backups, control_of, logs};
use super::pace::Pace;
use super::registry::Context;
use super::restore;
use crate::db;
use crate::disk::Disk;
use crate::disk::copy::{self, From};
use crate::env::Env;
use crate::error::{Result, StoreError, exit};
use crate::lsn::{Epoch, Lsn, Micros};
use crate::model;
use crate::snapshot::{
    self, Backup, BackupManifest, DB_FILE, Depth, GoOn, MANIFEST, Manifest, Shelf, Snapshot, VERIFIED,
};
use crate::store::{LogHold, Marker, Phase, Store, View, WithArchive};
use crate::wal::{ControlState, Part, Reach};
use scratch::Scratch;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Findings that are kept of one drill.
const PROBLEMS_MAX: usize = 100;
/// After a drill that could not be made it is tried again so much later.
const AGAIN_AFTER: Duration = Duration::from_secs(3600);
/// The first scheduled one of a new store comes so long after its first start: there must be something to drill with.
const FIRST_AFTER: Duration = Duration::from_secs(1800);

/// How drills are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where the scratch directory is; `None`: in `dbdata/drill` of the store.
    pub directory: Option<PathBuf>,
    /// Time between two scheduled ones; zero: there are none.
    pub interval: Duration,
    /// Bytes written in a second, at the most.
    pub pace: u64,
    /// Bytes of log that may be kept for one that runs.
    pub log_bytes: u64,
    /// Bytes that stay free on the disk of the scratch directory.
    pub keep_free: u64,
    /// Where backups are.
    pub backups: Option<PathBuf>,
    /// The log archive, which has what the log has not any more.
    pub archive: Option<PathBuf>,
}

/// Drills a store.
pub struct Driller {
    store: Arc<Store>,
    backups: Arc<Backups>,
    env: Arc<dyn Env>,
    marker: Marker,
    /// One at a time.
    turn: Mutex<()>,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    last: Option<Drilled>,
    /// When the last good one began.
    good: Option<Micros>,
    /// Since when nothing is tried again after one that could not be made, by the monotone clock.
    failed: Option<Duration>,
}

impl std::fmt::Debug for Driller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driller").field("memory", &self.memory).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a copy stands in the history of the store; of one place those that are not stamped ahead of now come later.
type Place = (Epoch, Lsn, bool, Micros);

/// What a drill begins with.
enum Source {
    Snapshot(Shelf, String, Option<Manifest>),
    Backup(Backup, BackupManifest),
}

/// A state of the database, and the log that leads on from it.
struct Base {
    lsn: Lsn,
    /// Disk and path of the database.
    database: (Arc<dyn Disk>, String),
    /// Where each log file is copied from.
    logs: Vec<(Arc<dyn Disk>, Part)>,
    reach: Reach,
    control: ControlState,
    /// The live store's totals can be held against it.
    to_present: bool,
}

impl Driller {
    /// Drills `store`.
    ///
    /// # Errors
    /// If the marker of the store, or what earlier drills have left, cannot be read.
    pub fn new(store: Arc<Store>, backups: Arc<Backups>, env: Arc<dyn Env>) -> Result<Driller> {
        let marker = Marker::of_open(&*store.disks().data)?;
        let known = record::load(&*store.disks().data, env.now())?;
        let good = known.iter().rev().find(|drilled| drilled.good).map(|drilled| Micros(drilled.begun_us));
        let memory = Memory { last: known.into_iter().next_back(), good, failed: None };
        Ok(Driller { store, backups, env, marker, turn: Mutex::default(), memory: Mutex::new(memory) })
    }

    /// The last one, and when the last good one began.
    #[must_use]
    pub fn last(&self) -> (Option<Drilled>, Option<Micros>) {
        let memory = lock(&self.memory);
        (memory.last.clone(), memory.good)
    }

    /// True if the next scheduled one is to be made now; to be asked about once a second.
    #[must_use]
    pub fn is_due(&self, settings: &Settings) -> bool {
        if settings.interval.is_zero() || self.store.phase() != Phase::Ready {
            return false;
        }
        let memory = lock(&self.memory);
        if memory.failed.is_some_and(|at| self.env.uptime().saturating_sub(at) < AGAIN_AFTER.min(settings.interval)) {
            return false;
        }
        let now = self.env.now();
        match &memory.last {
            Some(last) => now.since(Micros(last.begun_us)).is_none_or(|passed| passed >= settings.interval),
            None => {
                let age = now.since(self.marker.created).unwrap_or_else(|| self.env.uptime());
                age >= FIRST_AFTER.max(settings.interval.min(Duration::from_secs(86_400)))
            }
        }
    }

    /// Makes a drill with the newest snapshot or backup, and notes what came out. A bad one is no error.
    ///
    /// # Errors
    /// If there is neither snapshot nor backup, no room, a disk that fails, or it was ended: then nobody knows.
    pub fn drill(&self, settings: &Settings, context: &Context) -> Result<Drilled> {
        let _turn = lock(&self.turn);
        let drilled = self.drill_now(settings, context).and_then(|drilled| {
            record::write(&*self.store.disks().data, &drilled)?;
            Ok(drilled)
        });
        let mut memory = lock(&self.memory);
        match &drilled {
            Ok(drilled) => {
                let Drilled { good, source, rpo, rto, reached_lsn, .. } = drilled;
                tracing::info!(event = "drill", good, source, rpo, rto, reached_lsn);
                for Problem { file, what, found, expected } in drilled.problems.iter().take(20) {
                    tracing::error!(event = "drill_bad", file, found, expected, "{what}");
                }
                memory.good = drilled.good.then_some(Micros(drilled.begun_us)).or(memory.good);
                (memory.last, memory.failed) = (Some(drilled.clone()), None);
            }
            Err(e) => {
                tracing::error!(event = "drill_failed", error = %e, "nobody knows whether a restore would succeed");
                memory.failed = Some(self.env.uptime());
            }
        }
        drilled
    }

    fn drill_now(&self, settings: &Settings, context: &Context) -> Result<Drilled> {
        let begun = (self.env.now(), self.env.uptime());
        let (source, _hold) = self.newest(settings)?;
        context.progress(0, None, "steps", "the live store");
        let view = self.store.view();
        let live = Totals::of(&view, context)?.ok_or_else(ended)?;
        let at = view.lsn();
        drop(view);
        let mut drilled = Drilled::begin(begun.0, source.name(), at);
        context.progress(1, None, "steps", &drilled.source);
        let from = self.env.uptime();
        match self.prove(&source, settings, at, context, &mut drilled) {
            Ok((restored, to_present)) => {
                if to_present {
                    let database = restored.1;
                    drilled.problems.extend(restored.0.differences(&live).into_iter().map(
                        |(what, found, expected)| Problem {
                            file: database.clone(),
                            what: format!("{what} at LSN {at}"),
                            found,
                            expected,
                        },
                    ));
                }
                drilled.rows = restored.0.rows();
                drilled.compared = to_present;
            }
            Err(
                e @ (StoreError::Busy { .. }
                | StoreError::NoSpace { .. }
                | StoreError::Bug(_)
                | StoreError::Locked { .. }),
            ) => {
                return Err(e);
            }
            Err(e) => drilled.problems.push(Problem::of(&e)),
        }
        drilled.problems.truncate(PROBLEMS_MAX);
        drilled.good = drilled.problems.is_empty();
        drilled.duration = (self.env.uptime() - from).as_secs_f64();
        Ok(drilled)
    }

    /// Keeps the log behind the source until this is dropped.
    fn hold(&self, source: &Source, settings: &Settings) -> LogHold {
        let why = format!("drill: one with {} is being made", source.name());
        self.store.hold_log_behind(source.lsn(), &why, settings.log_bytes)
    }

    /// The newest snapshot or backup, good or bad, with the log behind it held.
    fn newest(&self, settings: &Settings) -> Result<(Source, LogHold)> {
        let mut passed = String::new();
        for source in self.newest_first(settings)? {
            let hold = self.hold(&source, settings);
            if self.leads_on(&source)? {
                return Ok((source, hold));
            }
            passed = format!("; {} was never verified, so no log was kept for it", source.name());
        }
        Err(StoreError::Refused {
            message: format!("there is no snapshot and no backup to drill with{passed}"),
            hint: "storectl snapshot take --verify".to_owned(),
            exit: exit::NOT_FOUND,
        })
    }

    /// False of a snapshot that was never verified and behind which the log has been retired: that is no fault of anything.
    fn leads_on(&self, source: &Source) -> Result<bool> {
        let Source::Snapshot(shelf, id, Some(Manifest { store_id, lsn, .. })) = source else { return Ok(true) };
        let kept = || self.store.segments().first().is_some_and(|oldest| oldest.segment.first_lsn <= lsn.next());
        Ok(is_marked(shelf, id)? || *store_id != self.store.store_id() || kept())
    }

    /// For each place of snapshots the newest one, and the newest backup; newest first.
    fn newest_first(&self, settings: &Settings) -> Result<impl Iterator<Item = Source>> {
        let mut all: Vec<(Place, Source)> = Vec::new();
        let now = self.env.now();
        let place = |epoch, lsn, time: Micros| (epoch, lsn, !time.is_ahead_of(now), time);
        for shelf in self.store.disks().shelves(self.store.store_id()) {
            let mut waiting = None;
            let read = shelf.list()?.into_iter().map(|id| shelf.read(&id, Depth::Texts));
            let mut read: Vec<Snapshot> = read.collect::<Result<_>>()?;
            snapshot::sort(&mut read, now, |snapshot| snapshot);
            let mut epoch = read.iter().filter_map(Snapshot::at).map(|(epoch, _)| epoch).max().unwrap_or_default();
            for Snapshot { id, lsn, manifest, problems, .. } in read.into_iter().rev() {
                // One that does not say lies beside those behind it.
                epoch = manifest.as_ref().map_or(epoch, |m| m.epoch);
                let at = place(epoch, lsn, manifest.as_ref().map_or(Micros(0), |m| m.time));
                let source = (at, Source::Snapshot(shelf.clone(), id.clone(), manifest));
                // No log is kept for one that was never verified, and no start takes it.
                if is_marked(&shelf, &id)? || !problems.is_empty() {
                    waiting = Some(source);
                    break;
                }
                waiting = waiting.or(Some(source));
            }
            all.extend(waiting);
        }
        if let Some(dir) = &settings.backups
            && let Some((backup, manifest)) = self.backups.ours(dir)?.pop()
        {
            all.push((place(manifest.epoch, manifest.lsn, manifest.time), Source::Backup(backup, manifest)));
        }
        all.sort_by(|(a, _), (b, _)| b.cmp(a));
        Ok(all.into_iter().map(|(_, source)| source))
    }

    /// Makes a store of the source and looks at it; gives its totals, the place of its database, and whether it is at `at`.
    fn prove(
        &self,
        source: &Source,
        settings: &Settings,
        at: Lsn,
        context: &Context,
        drilled: &mut Drilled,
    ) -> Result<((Totals, String), bool)> {
        let base = self.base(source, settings, at, context)?;
        let (base_lsn, reached) = (base.lsn, base.reach.lsn);
        (drilled.base_lsn, drilled.reached_lsn) = (base_lsn.0, reached.0);
        let scratch = self.scratch(&base, settings)?;
        let begun = self.env.uptime();
        let pace = Pace::new(settings.pace, context);
        let mut each = |bytes| pace.step(bytes);
        let files = scratch.files();
        context.progress(2, None, "steps", "copy");
        let (disk, path) = &base.database;
        drilled.bytes += copy::copy(From { disk: &**disk, path, end: None }, &*files, DB_FILE, &mut each)?;
        for (disk, part) in &base.logs {
            drilled.bytes +=
                copy::copy(From { disk: &**disk, path: &part.file, end: part.end }, &*files, &part.file, &mut each)?;
        }
        files.sync_dir("").map_err(|e| StoreError::io("sync", files.display(""), e))?;
        context.progress(3, None, "steps", "start");
        let (store, report) = scratch.open(&self.marker, &base.control, self.env.clone(), context)?;
        drilled.rto = (self.env.uptime() - begun).as_secs_f64();
        drilled.replayed = report.replayed;
        drilled.rpo = match base.to_present {
            true => 0.0,
            // A time that lies ahead is as far off as it is: nobody knows better, and it is not nothing.
            false => Duration::from_micros(self.env.now().0.abs_diff(base.reach.time.0)).as_secs_f64(),
        };
        if store.published_lsn() != reached {
            return Err(StoreError::Corrupt {
                file: scratch.database(),
                offset: 0,
                what: "LSN after the start".to_owned(),
                found: store.published_lsn().to_string(),
                expected: reached.to_string(),
            });
        }
        context.progress(4, None, "steps", "check");
        let view = store.view();
        check(&view, context, drilled)?;
        let totals = Totals::of(&view, context)?.ok_or_else(ended)?;
        Ok(((totals, scratch.database()), base.to_present))
    }

    /// Looks at a source to its last byte, and finds the log that leads on from it.
    fn base(&self, source: &Source, settings: &Settings, at: Lsn, context: &Context) -> Result<Base> {
        let live = &self.log(settings)?;
        let control = self.store.control_state();
        match source {
            Source::Snapshot(shelf, id, _) => {
                let read = shelf.asking(GoOn::asking(context.going_on())).read(id, Depth::Bytes)?;
                let shown = shelf.disk().display(&shelf.path(id, MANIFEST));
                let manifest = shelf.manifest(id)?;
                if manifest.store_id != self.store.store_id() {
                    return Err(StoreError::Foreign {
                        file: shown,
                        what: "store id",
                        found: manifest.store_id.to_string(),
                        expected: self.store.store_id().to_string(),
                    });
                }
                if let Some(problem) = read.problems.into_iter().next() {
                    return Err(problem);
                }
                let (parts, reach) = logs(&**live, &control, manifest.lsn, manifest.epoch, at)?;
                Ok(Base {
                    lsn: manifest.lsn,
                    database: (shelf.disk().clone(), shelf.path(id, DB_FILE)),
                    control: control_of(&control, &parts, manifest.lsn, &reach),
                    logs: parts.into_iter().map(|part| (live.clone(), part)).collect(),
                    reach,
                    to_present: true,
                })
            }
            Source::Backup(backup, _) => {
                let asking = backup.clone().asking(GoOn::asking(context.going_on()));
                let (manifest, own, parts) = restore::look(&asking)?;
                let disk = backup.as_disk();
                let (lsn, epoch) = (manifest.lsn, manifest.epoch);
                let mut all: Vec<(Arc<dyn Disk>, Part)> = parts.into_iter().map(|part| (disk.clone(), part)).collect();
                let (_, reach) = logs(&*disk, &own, lsn, epoch, manifest.reached)?;
                // Behind it the live log goes on, as long as it is kept: its last file is the backup's, grown.
                let more = logs(&**live, &control, manifest.reached, reach.epoch, at).ok();
                let more = more.filter(|(more, _)| more.first().map(|p| p.number) == all.last().map(|(_, p)| p.number));
                let (reach, to_present, state) = match more {
                    Some((more, reach)) => {
                        all.pop();
                        all.extend(more.into_iter().map(|part| (live.clone(), part)));
                        (reach, true, &control)
                    }
                    None => (reach, false, &own),
                };
                let parts: Vec<Part> = all.iter().map(|(_, part)| part.clone()).collect();
                let control = control_of(state, &parts, lsn, &reach);
                let database = (disk, DB_FILE.to_owned());
                Ok(Base { lsn, database, logs: all, reach, control, to_present })
            }
        }
    }

    /// The log, and beside it what the archive has: what a recovery would find.
    fn log(&self, settings: &Settings) -> Result<Arc<dyn Disk>> {
        let disks = self.store.disks();
        let Some(path) = &settings.archive else { return Ok(disks.log.clone()) };
        match disks.roots.open(path) {
            Ok(root) => {
                let with = WithArchive::new(disks.log.clone(), root, self.store.store_id(), &BTreeSet::new())?;
                Ok(Arc::new(with))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(disks.log.clone()),
            Err(e) => Err(StoreError::io("open directory", path.display().to_string(), e)),
        }
    }

    /// The scratch directory, if there is room for the store in it.
    fn scratch(&self, base: &Base, settings: &Settings) -> Result<Scratch> {
        let disks = self.store.disks();
        let disk = match &settings.directory {
            Some(dir) => {
                disks.roots.make(dir).map_err(|e| StoreError::io("make directory", dir.display().to_string(), e))?
            }
            None => below(&disks.data, &["dbdata", "drill"])?,
        };
        let scratch = Scratch::make(disk.clone())?;
        let len = |disk: &dyn Disk, path: &str| {
            let found = disk.stat(path).map_err(|e| StoreError::io("stat", disk.display(path), e))?;
            Ok::<u64, StoreError>(found.map_or(0, |entry| entry.len))
        };
        let mut bytes = len(&*base.database.0, &base.database.1)?;
        for (disk, part) in &base.logs {
            bytes += len(&**disk, &part.file)?;
        }
        // The start writes a log file and the rows of a checkpoint, too.
        let wanted = bytes.saturating_mul(2).saturating_add(8 << 20);
        let space = disk.space().map_err(|e| StoreError::io("stat", disk.display(""), e))?;
        if space.free < wanted.saturating_add(space.at_most(settings.keep_free, 10)) {
            let what = format!("a drill in {}: it wants {wanted} bytes, {} are free", disk.display(""), space.free);
            return Err(StoreError::NoSpace { what });
        }
        Ok(scratch)
    }
}

impl Source {
    fn name(&self) -> String {
        match self {
            Source::Snapshot(shelf, id, _) => format!("snapshot {}", shelf.disk().display(&shelf.path(id, ""))),
            Source::Backup(backup, _) => format!("backup {}", backup.shown()),
        }
        .trim_end_matches('/')
        .to_owned()
    }

    fn lsn(&self) -> Lsn {
        match self {
            Source::Snapshot(_, _, manifest) => manifest.as_ref().map_or(Lsn(u64::MAX), |m| m.lsn),
            Source::Backup(_, manifest) => manifest.reached,
        }
    }
}

/// True if the snapshot says that it passed a verification, be that true or not.
fn is_marked(shelf: &Shelf, id: &str) -> Result<bool> {
    let path = shelf.path(id, VERIFIED);
    let found = shelf.disk().stat(&path).map_err(|e| StoreError::io("stat", shelf.disk().display(&path), e))?;
    Ok(found.is_some())
}

fn ended() -> StoreError {
    StoreError::Busy { why: "the drill was ended".to_owned() }
}

/// Every row, and every rule between tables.
fn check(view: &View, context: &Context, drilled: &mut Drilled) -> Result<()> {
    let rows = db::check(view.database(), &mut |_| !context.cancelled());
    if context.cancelled() {
        return Err(ended());
    }
    drilled.problems.extend(rows.findings.into_iter().map(|f| Problem {
        file: f.file,
        what: format!("table {}, {}: {}", f.table.name(), f.key, f.what),
        found: f.found,
        expected: f.expected,
    }));
    let rules = model::check::check_while(view, &mut |_| !context.cancelled())?;
    drilled.problems.extend(rules.findings.into_iter().map(|f| Problem {
        file: f.place,
        what: f.what.to_owned(),
        found: f.found,
        expected: f.expected,
    }));
    Ok(())
}

/// A directory below another, made where it is not there.
fn below(disk: &Arc<dyn Disk>, path: &[&str]) -> Result<Arc<dyn Disk>> {
    let mut dir = String::new();
    for name in path {
        dir = if dir.is_empty() { (*name).to_owned() } else { format!("{dir}/{name}") };
        disk.create_dir(&dir).map_err(|e| StoreError::io("create", disk.display(&dir), e))?;
    }
    Ok(Arc::new(crate::disk::Below::new(disk.clone(), dir)))
}
