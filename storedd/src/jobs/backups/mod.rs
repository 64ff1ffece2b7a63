//! The backups of a store: taken while it runs, by hand or when one is due, and the oldest removed.
//!
//! # Operation
//! The sequence, which the steps of [`Done`] show:
//!
//! 1. **checkpoint**, so that the newest state is in the database; the log behind the one before is held from now on (I4);
//! 2. **tables**: what one read transaction sees, row by row into a new file;
//! 3. **which logs**: those that lead from that database to the newest change that was answered by now;
//! 4. **logs**: copied, the last one up to that change, synced, and read again; control file, identity, configuration;
//! 5. everything is looked at as a store that nobody knows, the manifest is written, and the directory gets its name;
//! 6. the hold is given up, and what nobody needs of the log is removed.
//!
//! # Invariants
//! * Log is given up only when its copies are durable and were read again. A backup that fails gives up nothing, and leaves nothing that
//!   has a backup's name.
//! * Commits go on.

mod noted;

use super::pace::Pace;
use super::registry::Context;
use crate::db::{self, Db};
use crate::disk::Disk;
use crate::disk::copy::{self, From};
use crate::env::Env;
use crate::error::{Result, StoreError};
use crate::lsn::{Lsn, Micros};
use crate::partition::places;
use crate::planted::{self, Bug};
use crate::snapshot::{Backup, BackupManifest, DB_FILE, GoOn, TableSum};
use crate::store::{LogHold, Marker, Phase, Store, View, rfc3339};
use crate::wal::{self, CONTROL_FILE, ControlState, Depth, Part, Proof, Reach};
use noted::{Noted, Of};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The configuration in a backup.
pub const CONFIG_FILE: &str = "storedd.toml";
/// Cache of a database that is written or looked at, in bytes.
const CACHE_BYTES: usize = 32 << 20;
/// After a failure it is tried again so much later, or at the next interval if that is sooner.
const AGAIN_AFTER: Duration = Duration::from_secs(600);
/// The first scheduled backup of a new store is taken so long after its first start.
const FIRST_AFTER: Duration = Duration::from_secs(600);

/// How backups are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where scheduled ones go; `None`: there are none.
    pub directory: Option<PathBuf>,
    /// Time between two scheduled ones.
    pub interval: Duration,
    /// How many of this store are kept there.
    pub keep: usize,
    /// Bytes written in a second, at the most.
    pub pace: u64,
    /// Bytes of log that may be kept for one that runs.
    pub log_bytes: u64,
    /// Bytes that stay free on a disk of the store, if one is made there.
    pub keep_free: u64,
    /// The configuration in effect, as text.
    pub config: String,
}

/// A backup that was taken.
#[derive(Debug, Clone)]
pub struct Done {
    /// Its directory as a person would type it.
    pub path: String,
    /// What it says of itself.
    pub manifest: BackupManifest,
    /// How long that took.
    pub duration: Duration,
    /// Log segments given up because of it.
    pub removed: Vec<String>,
    /// What was done, in order, for people.
    pub steps: Vec<String>,
}

/// What is known of backups without looking.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Last {
    /// When the newest complete one was begun.
    pub taken: Option<Micros>,
    /// Its directory.
    pub path: String,
    /// Why the last attempt failed, if it did.
    pub failure: Option<String>,
}

#[derive(Debug, Default)]
struct Memory {
    last: Last,
    /// Since when nothing is tried again after a failure, by the monotone clock.
    failed: Option<Duration>,
    looked: bool,
}

/// Takes the backups of a store.
pub struct Backups {
    store: Arc<Store>,
    env: Arc<dyn Env>,
    marker: Marker,
    /// One at a time.
    turn: Mutex<()>,
    memory: Mutex<Memory>,
    /// When the newest one of any kind was taken, wherever it lies; as in the file.
    newest: Noted,
    /// The same of those that have all mail.
    mail: Noted,
}

impl std::fmt::Debug for Backups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backups").field("memory", &self.memory).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One that is being taken.
struct Taking<'a> {
    backups: &'a Backups,
    hold: LogHold,
    pace: Pace,
    steps: Vec<String>,
    each: &'a mut dyn FnMut(&str),
}

impl Taking<'_> {
    fn step(&mut self, text: String) {
        tracing::debug!(event = "backup_step", "{text}");
        (self.each)(&text);
        self.steps.push(text);
    }
}

impl Backups {
    /// Takes backups of `store`.
    ///
    /// # Errors
    /// If the marker of the store cannot be read.
    pub fn new(store: Arc<Store>, env: Arc<dyn Env>) -> Result<Backups> {
        let marker = Marker::of_open(&*store.disks().data)?;
        let (turn, memory) = Default::default();
        let noted = |of| Noted::read(of, &*store.disks().data);
        let (newest, mail) = (noted(Of::Any), noted(Of::Mail));
        Ok(Backups { store, env, marker, turn, memory, newest, mail })
    }

    /// When the newest one was taken that is known, of any kind: also before the last start.
    #[must_use]
    pub fn newest(&self) -> Option<Micros> {
        self.last().taken.max(self.newest.newest())
    }

    /// Notes that one was taken, so that the next start knows it.
    pub(super) fn note(&self, taken: Micros) {
        self.newest.note(&*self.store.disks().data, taken);
    }

    /// When the newest one was taken that has all mail; `None` if none is known.
    #[must_use]
    pub fn newest_of_mail(&self) -> Option<Micros> {
        self.mail.newest()
    }

    /// Notes that one was taken that has all mail. May wait for the disk.
    pub fn note_mail(&self, taken: Micros) {
        self.mail.note(&*self.store.disks().data, taken);
    }

    /// What is known without looking.
    #[must_use]
    pub fn last(&self) -> Last {
        lock(&self.memory).last.clone()
    }

    /// The clock by which they are taken.
    pub(super) fn clock(&self) -> &dyn Env {
        &*self.env
    }

    /// Takes a backup into a new directory below `dir`, which is made if it is not there. The context is told each step.
    ///
    /// # Errors
    /// If the store is damaged, the disk is full or fails, more log would have to be kept than allowed, or it was ended: then there is no
    /// such backup, and the log is as it was.
    pub fn take(&self, dir: &Path, settings: &Settings, context: &Context) -> Result<Done> {
        let mut done = 0;
        self.take_told(dir, settings, context, &mut |step| {
            done += 1;
            context.progress(done, None, "steps", step);
        })
    }

    /// As [`Backups::take`]; `each` is told each step.
    pub(super) fn take_told(
        &self,
        dir: &Path,
        settings: &Settings,
        context: &Context,
        each: &mut dyn FnMut(&str),
    ) -> Result<Done> {
        let _turn = lock(&self.turn);
        let begun = self.env.uptime();
        let taken = self.take_now(dir, settings, context, each);
        let mut memory = lock(&self.memory);
        match &taken {
            Ok(done) => {
                let Done { path, manifest, removed, .. } = done;
                let (lsn, reached) = (manifest.lsn.0, manifest.reached.0);
                let seconds = (self.env.uptime() - begun).as_secs_f64();
                tracing::info!(event = "backup", path, lsn, reached, removed = removed.len(), seconds);
                let last = Last { taken: Some(manifest.time), path: path.clone(), failure: None };
                (memory.last, memory.failed) = (last, None);
            }
            Err(e) => {
                tracing::error!(event = "backup_failed", dir = %dir.display(), error = %e, "there is no new backup");
                memory.last.failure = Some(e.to_string());
                memory.failed = Some(self.env.uptime());
            }
        }
        drop(memory);
        if let Ok(done) = &taken {
            self.note(done.manifest.time);
        }
        taken.map(|done| Done { duration: self.env.uptime() - begun, ..done })
    }

    fn take_now(&self, dir: &Path, settings: &Settings, context: &Context, each: &mut dyn FnMut(&str)) -> Result<Done> {
        let target = self.store.disks().roots.make(dir);
        let target = target.map_err(|e| StoreError::io("make directory", dir.display().to_string(), e))?;
        self.expect_room(&*target, settings.keep_free)?;
        let (_, identity) = self.marker.file();
        Backup::clear(&target, &identity)?;
        let hold = self.store.hold_log(&format!("backup: one to {} is being taken", dir.display()), settings.log_bytes);
        let mut taking =
            Taking { backups: self, hold, pace: Pace::new(settings.pace, context), steps: Vec::new(), each };
        let done = self.store.checkpoint()?;
        taking.step(format!("checkpoint: LSN {}", done.lsn));
        let (backup, manifest) = taking.make(&target, &settings.config, context, None)?;
        let Taking { hold, mut steps, each, .. } = taking;
        drop(hold);
        // The backup is there whatever comes of this; the next checkpoint does it again.
        let removed = self.store.clean_log().unwrap_or_else(|e| {
            tracing::warn!(event = "log_not_cleaned", error = %e);
            Vec::new()
        });
        let last = match removed.len() {
            0 => "logs removed: none".to_owned(),
            _ => format!("logs removed: {}", removed.join(", ")),
        };
        each(&last);
        steps.push(last);
        Ok(Done { path: backup.shown(), manifest, duration: Duration::ZERO, removed, steps })
    }

    /// As [`Backups::take`], of the moment of a view that was taken since `hold`, and in `target` itself; log is given up by the caller.
    pub(super) fn take_of(
        &self,
        view: &View,
        target: &Arc<dyn Disk>,
        hold: LogHold,
        settings: &Settings,
        context: &Context,
        each: &mut dyn FnMut(&str),
    ) -> Result<(Backup, BackupManifest)> {
        let pace = Pace::new(settings.pace, context);
        let mut taking = Taking { backups: self, hold, pace, steps: Vec::new(), each };
        taking.make(target, &settings.config, context, Some(view))
    }

    /// A backup must not take the room that the store needs to go on.
    fn expect_room(&self, target: &dyn Disk, keep_free: u64) -> Result<()> {
        let space = |disk: &dyn Disk| disk.space().map_err(|e| StoreError::io("stat", disk.display(""), e));
        let there = space(target)?;
        let disks = self.store.disks();
        let mut shared = false;
        for disk in [&disks.data, &disks.db, &disks.log] {
            shared |= there.id != 0 && space(&**disk)?.id == there.id;
        }
        let log: u64 = self.store.segments().iter().map(|line| line.segment.bytes).sum();
        let wanted = self.store.database_bytes().saturating_add(log);
        let kept = if shared { there.at_most(keep_free, 10) } else { 0 };
        if there.free >= wanted.saturating_add(kept) {
            return Ok(());
        }
        let what = format!(
            "a backup in {}: it wants up to {wanted} bytes, {} are free, {kept} are kept",
            target.display(""),
            there.free
        );
        Err(StoreError::NoSpace { what })
    }

    /// Where the next scheduled one is to go, if it is to be taken now; to be asked about once a second.
    #[must_use]
    pub fn due(&self, settings: &Settings) -> Option<PathBuf> {
        let dir = settings.directory.clone()?;
        if !lock(&self.memory).looked {
            self.look(&dir);
        }
        (self.store.phase() == Phase::Ready && self.is_due(settings)).then_some(dir)
    }

    /// Takes a scheduled one, and removes the oldest. A failure is said, and tried again later.
    ///
    /// # Errors
    /// What was said.
    pub fn attend(&self, dir: &Path, settings: &Settings, context: &Context) -> Result<Done> {
        let done = self.take(dir, settings, context)?;
        if let Err(e) = self.prune(dir, settings.keep, context) {
            tracing::error!(event = "backup_not_removed", error = %e);
        }
        Ok(done)
    }

    /// Learns when the newest one there was taken.
    fn look(&self, dir: &Path) {
        let (newest, now) = (self.ours(dir).unwrap_or_default().pop(), self.env.now());
        let mut memory = lock(&self.memory);
        memory.looked = true;
        let is_newer = |m: &BackupManifest, last| m.time > last && !m.time.is_ahead_of(now);
        if let Some((backup, manifest)) = newest.filter(|(_, m)| memory.last.taken.is_none_or(|last| is_newer(m, last)))
        {
            memory.last = Last { taken: Some(manifest.time), path: backup.shown(), failure: None };
        }
    }

    /// The complete backups of this store in a directory, oldest first, as far as they can be read.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn ours(&self, dir: &Path) -> Result<Vec<(Backup, BackupManifest)>> {
        let target = match self.store.disks().roots.open(dir) {
            // Nothing was ever put there.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            target => target.map_err(|e| StoreError::io("open", dir.display().to_string(), e))?,
        };
        let all = Backup::list(&*target)?.into_iter().map(|name| Backup::at(target.clone(), &name));
        let known = all.filter_map(|backup| backup.manifest().ok().map(|manifest| (backup, manifest)));
        let mut ours: Vec<_> = known.filter(|(_, manifest)| manifest.store_id == self.store.store_id()).collect();
        let now = self.env.now();
        // By their place in history: a clock that was ahead once makes none of them the newest.
        ours.sort_by_key(|(_, m)| (m.epoch, m.reached, m.lsn, !m.time.is_ahead_of(now), m.time));
        Ok(ours)
    }

    /// Removes the oldest beyond `keep`, but never the newest of which every byte is as it was written.
    fn prune(&self, dir: &Path, keep: usize, context: &Context) -> Result<()> {
        let mut all = self.ours(dir)?;
        let newest = all.split_off(all.len().saturating_sub(keep.max(1)));
        if !newest
            .iter()
            .rev()
            .any(|(backup, _)| backup.clone().asking(GoOn::asking(context.going_on())).read().is_ok())
        {
            return Ok(());
        }
        for (backup, _) in all {
            let path = backup.shown();
            backup.drop_it()?;
            tracing::info!(event = "backup_removed", path);
        }
        Ok(())
    }

    fn is_due(&self, settings: &Settings) -> bool {
        let (last, failed) = {
            let memory = lock(&self.memory);
            (memory.last.taken, memory.failed)
        };
        if failed.is_some_and(|at| self.env.uptime().saturating_sub(at) < AGAIN_AFTER.min(settings.interval)) {
            return false;
        }
        let now = self.env.now();
        match last {
            Some(last) => now.since(last).is_none_or(|passed| passed >= settings.interval),
            None => {
                let age = now.since(self.marker.created).unwrap_or_else(|| self.env.uptime());
                age >= FIRST_AFTER.min(settings.interval)
            }
        }
    }
}

impl Taking<'_> {
    /// Makes one in `target`, of the moment of `view`, or of now.
    fn make(
        &mut self,
        target: &Arc<dyn Disk>,
        config: &str,
        context: &Context,
        view: Option<&View>,
    ) -> Result<(Backup, BackupManifest)> {
        let time = self.backups.env.now();
        let (_, identity) = self.backups.marker.file();
        let backup = Backup::begin(target, time, &identity)?.asking(GoOn::asking(context.going_on()));
        let made = self.fill(&backup, time, config, view).and_then(|manifest| backup.clone().finish(manifest));
        let (backup, manifest) = made.inspect_err(|_| {
            // What cannot be removed now is removed before the next one.
            drop(backup.drop_it());
        })?;
        self.step(format!("complete: {}", backup.shown()));
        Ok((backup, manifest))
    }

    /// Puts everything but the manifest into the directory, and looks at it.
    fn fill(&mut self, backup: &Backup, time: Micros, config: &str, view: Option<&View>) -> Result<BackupManifest> {
        let store = self.backups.store.clone();
        let meta = match view {
            Some(view) => self.tables(view, backup)?,
            None => self.tables(&store.view(), backup)?,
        };
        let reached = view.map_or_else(|| store.published_lsn(), View::lsn);
        let control = store.control_state();
        let survey = logs(&*store.disks().log, &control, meta.applied_lsn, meta.epoch, reached)?;
        let (parts, reach) = (&survey.0, &survey.1);
        let names: Vec<&str> = parts.iter().map(|part| part.file.as_str()).collect();
        self.step(format!("logs needed: {}, up to LSN {reached}", names.join(", ")));
        if planted::on(Bug::BackupReleasesLogEarly) {
            self.hold = store.hold_log("nothing", u64::MAX);
            store.checkpoint()?;
        }
        for part in parts {
            let from = From { disk: &*store.disks().log, path: &part.file, end: part.end };
            let (hold, pace) = (&self.hold, &self.pace);
            let mut each = |bytes| hold.check().and_then(|()| pace.step(bytes));
            let bytes = copy::copy(from, &**backup.disk(), &backup.path(&part.file), &mut each)?;
            self.step(format!("log {}: {bytes} bytes", part.file));
        }
        self.hold.check()?;
        // The numbers that were issued while all this was copied are reserved in it.
        let control = control_of(&store.control_state(), parts, meta.applied_lsn, reach);
        backup.put(CONTROL_FILE, &control.file())?;
        backup.put(CONFIG_FILE, config.as_bytes())?;
        let places = places::read(&*store.disks().data)?;
        if !places.is_empty() {
            places::write(&*backup.as_disk(), &places)?;
        }
        let until = reach.time;
        let manifest = manifest(&meta, time, reached, if until.0 == 0 { time } else { until });
        prove(backup, &manifest, &control)?;
        self.step(format!("checked: database and log lead to LSN {reached}, of {}", rfc3339(manifest.until)));
        Ok(manifest)
    }

    fn tables(&mut self, view: &View, backup: &Backup) -> Result<db::Meta> {
        let pace = self.pace.clone();
        let options = pace.database(CACHE_BYTES);
        let path = backup.path(DB_FILE);
        let meta = db::copy(view.database(), backup.disk(), &path, options, &mut |_| !pace.is_over())?;
        self.step(format!("tables: {DB_FILE} at LSN {}, {} rows", meta.applied_lsn, meta.rows()));
        Ok(meta)
    }
}

/// The segments that lead from a database to `reached`, and how they end.
///
/// # Errors
/// If the log does not lead there: names what is missing or damaged.
pub(super) fn logs(
    disk: &dyn Disk,
    control: &ControlState,
    applied: Lsn,
    epoch: crate::lsn::Epoch,
    reached: Lsn,
) -> Result<(Vec<Part>, Reach)> {
    let proof = Proof { control: Some(control.clone()), ..Proof::default() };
    let survey = wal::survey(disk, control.store_id, proof, Depth::From(applied))?;
    wal::accept(&survey)?;
    let whole = survey.reach(epoch, applied);
    if whole.lsn < reached {
        return Err(no_way(disk, &survey, &whole, reached));
    }
    let reach = wal::reach_until(disk, &survey, epoch, applied, reached)?;
    Ok((survey.stretch(epoch, applied, &reach), reach))
}

/// Why a log does not lead to `reached`, by file.
fn no_way(disk: &dyn Disk, survey: &wal::Survey, reach: &Reach, reached: Lsn) -> StoreError {
    let missing = |files: Vec<String>| StoreError::Missing { files: files.iter().map(|f| disk.display(f)).collect() };
    match &reach.stop {
        wal::Stop::Missing(files) => missing(files.clone()),
        wal::Stop::Before { file, .. } => missing(vec![file.clone()]),
        wal::Stop::Damaged { file, damage } => damage.error(&disk.display(file)),
        _ => survey.problems().into_iter().next().unwrap_or_else(|| StoreError::Corrupt {
            file: disk.display(""),
            offset: 0,
            what: "end of the log".to_owned(),
            found: format!("LSN {}", reach.lsn),
            expected: format!("LSN {reached}"),
        }),
    }
}

/// The control file that stands beside these segments and no others.
pub(super) fn control_of(state: &ControlState, parts: &[Part], applied: Lsn, reach: &Reach) -> ControlState {
    let number = |part: Option<&Part>| part.map_or(state.highest_segment, |part| part.number);
    ControlState {
        generation: 0,
        epoch: reach.epoch,
        lowest_segment: number(parts.first()),
        highest_segment: number(parts.last()),
        checkpoint_lsn: applied,
        durable_lsn: reach.lsn,
        clean: false,
        ..state.clone()
    }
}

fn manifest(meta: &db::Meta, time: Micros, reached: Lsn, until: Micros) -> BackupManifest {
    let tables = meta.all().iter().map(|&table| {
        let db::TableMeta { rows, digest } = *meta.table(table);
        TableSum { name: table.name().to_owned(), rows, digest }
    });
    BackupManifest {
        store_id: meta.store_id,
        lsn: meta.applied_lsn,
        epoch: meta.epoch,
        reached,
        time,
        until,
        schema: meta.schema,
        tables: tables.collect(),
        files: Vec::new(),
    }
}

/// Looks at a copy as at a store that nobody knows: the structure of the database, and that the log leads to where it is said to.
///
/// # Errors
/// What is wrong with it.
pub(super) fn prove(backup: &Backup, manifest: &BackupManifest, control: &ControlState) -> Result<()> {
    let asked = backup.clone();
    let path = backup.path(DB_FILE);
    let meta = Db::examine_while(backup.disk(), &path, Some(manifest.store_id), move || asked.goes_on())?.meta;
    let said = manifest.tables.iter().zip(meta.all().iter().copied());
    let differs = said.into_iter().any(|(said, table)| {
        let held = meta.table(table);
        (said.name.as_str(), said.rows, said.digest) != (table.name(), held.rows, held.digest)
    });
    if differs || (meta.applied_lsn, meta.epoch) != (manifest.lsn, manifest.epoch) {
        return Err(StoreError::Corrupt {
            file: backup.disk().display(&path),
            offset: 0,
            what: "rows of all tables".to_owned(),
            found: format!("{} rows at LSN {}, or others", meta.rows(), meta.applied_lsn),
            expected: format!("those of LSN {}", manifest.lsn),
        });
    }
    logs(&*backup.as_disk(), control, manifest.lsn, manifest.epoch, manifest.reached).map(|_| ())
}
