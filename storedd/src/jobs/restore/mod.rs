//! A backup put in the place of a store, while no daemon runs.
//!
//! # Operation
//! [`Plan::make`] looks at backup and store and changes nothing: everything in the backup is read, the database to its last row, the log to
//! its last record. [`Plan::run`] then
//!
//! 1. copies it beside the store (`<dir>.restore`, `restore.new/` in the data directory), begins a new epoch behind its last
//!    record, and looks at all that again;
//! 2. writes what is to be done into `RESTORE`, a sealed text in the data directory: from then on there is a way forward only;
//! 3. gives the old directories and files their names `<name>.asof<date>`, puts the new ones in their places, and removes `RESTORE`.
//!
//! Where there is no store yet, `RESTORING` stands in the data directory from before the first copy until the third step is done ([`begin`]): no start
//! makes a store there meanwhile, which would have nothing to do with the one that is to come back.
//!
//! What was broken off before 2 has changed nothing; what was broken off later is finished by [`finish`], which every start calls. The
//! recovery that a restore ends with is a start's; see `offline.rs`.
//!
//! # Format
//! ```text
//! storedd-restore 1
//! suffix asof20261122
//! database 1
//! log 0
//! CONTROL 1
//! STORE 1
//! partitions.toml 0
//! crc 01234567
//! ```
//! 1: something of that name is to be put aside; 0: there is nothing of that name, or an empty directory. `log` is absent where the log lies
//! beside the database.
//!
//! # Invariants
//! * Until the backup lies there as a whole and was looked at, nothing of the store is touched; after that nothing of it is removed.
//! * No LSN, id or UIDVALIDITY that the store may have given is given again (I3, I6): marks are the higher ones of both control files; where
//!   the store's is not there, they are moved clear of what may have been.

mod swap;
#[cfg(test)]
pub(in crate::jobs) mod tests;

pub use swap::{BEGUN, JOURNAL, begin, begun, finish, is_pending};

use super::backups::logs;
use crate::db::{self, Db};
use crate::disk::copy::{self, From};
use crate::disk::{Below, Disk};
use crate::env::Env;
use crate::error::{Result, StoreError, exit};
use crate::lsn::{Lsn, Micros, StoreId};
use crate::model;
use crate::partition::places;
use crate::snapshot::{Backup, BackupManifest, DB_FILE};
use crate::store::{self, Marker, keep_clear, rfc3339};
use crate::wal::{self, Control, ControlState, Depth, Part, Proof, Settings};
use std::collections::BTreeSet;
use std::sync::Arc;
use swap::{Journal, STAGED};

/// Cache of a database that is looked at, in bytes.
const CACHE_BYTES: usize = 32 << 20;
/// Names of mailboxes that are told as changed later.
const NAMES_MAX: usize = 20;

/// A directory by the one it lies in, so that it can get another name.
#[derive(Debug, Clone)]
pub struct Spot {
    /// The disk in whose root it lies.
    pub parent: Arc<dyn Disk>,
    /// Its name there.
    pub name: String,
}

impl Spot {
    /// The directory as a disk.
    #[must_use]
    pub fn disk(&self) -> Arc<dyn Disk> {
        self.named(&self.name)
    }

    fn named(&self, name: &str) -> Arc<dyn Disk> {
        Arc::new(Below::new(self.parent.clone(), name))
    }

    fn staged(&self) -> String {
        format!("{}{STAGED}", self.name)
    }

    fn is_there(&self, name: &str) -> Result<bool> {
        let found = self.parent.stat(name).map_err(|e| StoreError::io("stat", self.parent.display(name), e))?;
        Ok(found.is_some())
    }

    /// True if it is there and not empty.
    fn is_used(&self) -> Result<bool> {
        Ok(self.is_there(&self.name)?
            && !self
                .parent
                .list(&self.name)
                .map_err(|e| StoreError::io("list", self.parent.display(&self.name), e))?
                .is_empty())
    }
}

/// Where a store is, or is to be.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its data directory.
    pub data: Arc<dyn Disk>,
    /// The directory of its database.
    pub db: Spot,
    /// That of its log; `None` if that is the same.
    pub log: Option<Spot>,
}

impl Target {
    fn log(&self) -> &Spot {
        self.log.as_ref().unwrap_or(&self.db)
    }

    fn spots(&self) -> impl Iterator<Item = &Spot> {
        std::iter::once(&self.db).chain(&self.log)
    }
}

/// Changes of the store that are not in the backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Later {
    /// First LSN.
    pub from: Lsn,
    /// Last LSN that anything names.
    pub to: Lsn,
    /// Those that could be read.
    pub transactions: u64,
    /// Mailboxes that they touch; the first twenty.
    pub mailboxes: Vec<String>,
}

/// What lies where the backup is to go.
#[derive(Debug)]
struct Present {
    store_id: Option<StoreId>,
    control: Option<ControlState>,
    /// Its log, if that can be read.
    survey: Option<wal::Survey>,
    /// The highest LSN that anything names.
    known: Lsn,
    later: Option<Later>,
}

/// What a restore is going to do.
#[derive(Debug)]
pub struct Plan {
    backup: Backup,
    /// What the backup says of itself.
    pub manifest: BackupManifest,
    control: ControlState,
    parts: Vec<Part>,
    present: Present,
    journal: Journal,
}

impl Plan {
    /// Looks at backup and store; changes nothing (I7). A backup of another store is taken for an empty place; for another one only
    /// with `other_store`.
    ///
    /// # Errors
    /// 64 for what is no backup; what is wrong with it; 65 for one of another store.
    pub fn make(backup: Backup, target: &Target, other_store: bool, now: Micros) -> Result<Plan> {
        let (manifest, control, parts) = look(&backup)?;
        let present = look_at_target(target, &manifest)?;
        if let Some(there) = present.store_id.filter(|there| *there != manifest.store_id && !other_store) {
            return Err(StoreError::Refused {
                message: format!(
                    "{} is a backup of the store {}, and {} is the store {there}",
                    backup.shown(),
                    manifest.store_id,
                    target.data.display("")
                ),
                hint: "name an empty data directory, or put this store aside for it: --other-store".to_owned(),
                exit: exit::BAD_INPUT,
            });
        }
        let has_places = manifest.files.iter().any(|file| file.name == places::FILE);
        let journal = Journal::make(target, now, has_places)?;
        Ok(Plan { backup, manifest, control, parts, present, journal })
    }

    /// What the store has and the backup has not; `None` if nothing is known of such changes.
    #[must_use]
    pub fn later(&self) -> Option<&Later> {
        self.present.later.as_ref()
    }

    /// Old name and new name of what is put aside.
    #[must_use]
    pub fn aside(&self, target: &Target) -> Vec<(String, String)> {
        self.journal.aside(target)
    }

    /// What it is going to do, in order, for people.
    #[must_use]
    pub fn steps(&self, target: &Target) -> Vec<String> {
        let BackupManifest { lsn, reached, until, .. } = &self.manifest;
        let mut steps = vec![format!("copy {}: database at LSN {lsn}, log up to LSN {reached}", self.backup.shown())];
        steps.extend(self.aside(target).into_iter().map(|(from, to)| format!("rename {from} to {to}")));
        steps.push(format!("put the copies in their places, as of {}", rfc3339(*until)));
        steps.push("recover, in a new epoch".to_owned());
        steps
    }

    /// Does it, up to the recovery, which is the caller's. Gives true when the copies are in their places.
    ///
    /// # Errors
    /// Those of the disks; what is wrong with a copy. As long as [`is_pending`] says no, nothing of the store was touched.
    pub fn run(&self, target: &Target, env: &dyn Env, segment_bytes: u64, each: &mut dyn FnMut(&str)) -> Result<()> {
        swap::clear(target)?;
        if let Err(e) = self.stage(target, env, segment_bytes, each) {
            // What cannot be removed now is removed before the next one.
            drop(swap::clear(target));
            return Err(e);
        }
        each("copied and checked");
        self.note_numbers(target)?;
        self.journal.write(target)?;
        finish(target)?;
        each("the copies are in their places");
        Ok(())
    }

    /// Makes everything beside the store.
    fn stage(&self, target: &Target, env: &dyn Env, segment_bytes: u64, each: &mut dyn FnMut(&str)) -> Result<()> {
        for spot in target.spots() {
            let (parent, dir) = (&spot.parent, spot.staged());
            parent.create_dir(&dir).map_err(|e| StoreError::io("create", parent.display(&dir), e))?;
        }
        let (from, db, log) =
            (self.backup.as_disk(), target.db.named(&target.db.staged()), target.log().named(&target.log().staged()));
        let go_on = &mut |_| Ok(());
        copy::copy(From { disk: &*from, path: DB_FILE, end: None }, &*db, DB_FILE, go_on)?;
        each(DB_FILE);
        for part in &self.parts {
            copy::copy(From { disk: &*from, path: &part.file, end: part.end }, &*log, &part.file, go_on)?;
            each(&part.file);
        }
        let data = swap::files(target)?;
        let (marker, bytes) = (Marker::read(&*from)?).ok_or_else(|| missing(&*from, "STORE"))?.file();
        crate::disk::replace(&*data, marker, &bytes).map_err(|e| StoreError::io("write", data.display(marker), e))?;
        if self.journal.brings(places::FILE) {
            places::write(&*data, &places::read(&*from)?)?;
        }
        self.begin_epoch(&data, &log, env, segment_bytes)?;
        for disk in [&db, &log, &data] {
            disk.sync_dir("").map_err(|e| StoreError::io("sync", disk.display(""), e))?;
        }
        for parent in target.spots().map(|spot| &spot.parent).chain([&target.data]) {
            parent.sync_dir("").map_err(|e| StoreError::io("sync", parent.display(""), e))?;
        }
        Ok(())
    }

    /// Writes the control file, and forks the log behind its last record.
    fn begin_epoch(&self, data: &Arc<dyn Disk>, log: &Arc<dyn Disk>, env: &dyn Env, segment_bytes: u64) -> Result<()> {
        let BackupManifest { store_id, lsn, epoch, reached, .. } = self.manifest;
        let state = self.marks();
        let proof = Proof { control: Some(state.clone()), ..Proof::default() };
        let survey = wal::survey(&**log, store_id, proof, Depth::From(lsn))?;
        let reach = wal::reach_until(&**log, &survey, epoch, lsn, reached)?;
        let control = Arc::new(Control::create(&**data, state)?);
        let version = store::log_version(self.manifest.schema);
        let settings = Settings { segment_bytes, spares: 0, reserve: 0, version };
        let begun = wal::fork(log, &control, settings, &survey, &reach, env.now())?;
        let first = begun.done.fork.map_or(Lsn::ZERO, |fork| fork.first);
        drop(begun);
        let (_, reach) = logs(&**log, &control.state(), lsn, epoch, first)?;
        match reach.whole() && reach.lsn == first {
            true => Ok(()),
            false => {
                Err(StoreError::Bug(format!("the new epoch begins at LSN {first}, the log leads to {}", reach.lsn)))
            }
        }
    }

    /// Before the store's own log is put aside: which numbers it has given that the backup does not know. A restore that is broken off here leaves
    /// notes of an epoch that never began; or, where the log cannot say it, an adoption that finds nothing to do.
    fn note_numbers(&self, target: &Target) -> Result<()> {
        let began = Control::load(&*swap::files(target)?)?.state.map(|state| state.epoch);
        let began = began.ok_or_else(|| StoreError::Bug("a copy without a control file".to_owned()))?;
        let log = target.log().disk();
        // Without a control file nobody knows how far the log led.
        let known = self.present.control.as_ref().map(ControlState::proves);
        let there = self.present.survey.as_ref().filter(|_| known.is_some()).map(|survey| (&*log, survey));
        store::note_replaced(&*target.data, began, there, self.manifest.reached, known.unwrap_or_default())
    }

    /// What may have been counted by anybody.
    fn marks(&self) -> ControlState {
        let mut state = self.control.clone();
        match &self.present.control {
            Some(there) => {
                state.epoch = state.epoch.max(there.epoch);
                state.highest_segment = state.highest_segment.max(there.highest_segment);
                state.durable_lsn = state.durable_lsn.max(there.proves()).max(self.present.known);
                state.uidvalidity_high = state.uidvalidity_high.max(there.uidvalidity_high);
                state.object_id_high = state.object_id_high.max(there.object_id_high);
            }
            None => keep_clear(&mut state),
        }
        state
    }
}

/// Looks at a backup as a restore does, and changes nothing.
///
/// # Errors
/// As [`Plan::make`].
pub fn verify(backup: &Backup) -> Result<BackupManifest> {
    Ok(look(backup)?.0)
}

/// As [`verify`]; with the control file and the log files that lead to its end. Ended by [`StoreError::Busy`] if the backup does not
/// go on ([`Backup::goes_on`]).
pub(super) fn look(backup: &Backup) -> Result<(BackupManifest, ControlState, Vec<Part>)> {
    let (manifest, disk) = (backup.read()?, backup.as_disk());
    let control = Control::load(&*disk)?.state.filter(|state| state.store_id == manifest.store_id);
    let control = control.ok_or_else(|| missing(&*disk, wal::CONTROL_FILE))?;
    let (parts, _) = logs(&*disk, &control, manifest.lsn, manifest.epoch, manifest.reached)?;
    look_inside(backup, manifest.store_id)?;
    Ok((manifest, control, parts))
}

fn missing(disk: &dyn Disk, file: &str) -> StoreError {
    StoreError::Missing { files: vec![disk.display(file)] }
}

/// The database of a backup, to its last row and the rules between tables.
fn look_inside(backup: &Backup, store_id: StoreId) -> Result<()> {
    let (disk, path) = (backup.disk(), backup.path(DB_FILE));
    let asked = backup.clone();
    let examined = Db::examine_while(disk, &path, Some(store_id), move || asked.goes_on())?;
    let database = examined.open_to_read(disk, &path, db::Options { cache_bytes: CACHE_BYTES, pace: None })?;
    let reader = database.reader()?;
    let shown = disk.display(&path);
    let wrong = |what: String, found: String, expected: String| StoreError::Corrupt {
        file: shown.clone(),
        offset: 0,
        what,
        found,
        expected,
    };
    let rows = db::check(&reader, &mut |_| backup.goes_on());
    if !backup.goes_on() {
        return Err(StoreError::Busy { why: format!("the work on {shown} was ended") });
    }
    if let Some(f) = rows.findings.into_iter().next() {
        return Err(wrong(format!("table {}, {}: {}", f.table.name(), f.key, f.what), f.found, f.expected));
    }
    match model::check::check_while(&reader, &mut |_| backup.goes_on())?.findings.into_iter().next() {
        Some(f) => Err(wrong(format!("{}: {}", f.place, f.what), f.found, f.expected)),
        None => Ok(()),
    }
}

/// What lies there, as far as it can be read: a store that is beyond reading is what a restore is for.
fn look_at_target(target: &Target, manifest: &BackupManifest) -> Result<Present> {
    let mut present = Present { store_id: None, control: None, survey: None, known: Lsn::ZERO, later: None };
    present.store_id = match Marker::read(&*target.data) {
        Ok(marker) => marker.map(|marker| marker.store_id),
        Err(StoreError::Corrupt { .. }) => None,
        Err(e) => return Err(e),
    };
    if present.store_id.is_some_and(|there| there != manifest.store_id) {
        return Ok(present);
    }
    let loaded = Control::load(&*target.data);
    present.control = loaded.ok().and_then(|loaded| loaded.state).filter(|state| state.store_id == manifest.store_id);
    let log = target.log().disk();
    let proof = Proof { control: present.control.clone(), ..Proof::default() };
    let Ok(survey) = wal::survey(&*log, manifest.store_id, proof, Depth::From(manifest.reached)) else {
        return Ok(present);
    };
    present.known = survey.highest_lsn();
    if present.known > manifest.reached {
        let mut later =
            Later { from: manifest.reached.next(), to: present.known, transactions: 0, mailboxes: Vec::new() };
        let mut mailboxes = BTreeSet::new();
        // What of it cannot be read is named by its LSNs.
        let _ = wal::records(&*log, &survey, manifest.reached, Lsn(u64::MAX), &mut |record| {
            later.transactions += u64::from(record.is_transaction());
            record.for_each_change(&mut |change| {
                let (model::Change::Put { table, key, .. } | model::Change::Remove { table, key }) = &change else {
                    return Ok(());
                };
                if *table == model::Table::Mailboxes && mailboxes.len() < NAMES_MAX {
                    mailboxes.insert(model::name::key_text(key));
                }
                Ok(())
            })
        });
        later.mailboxes = mailboxes.into_iter().collect();
        // Seals behind the last change are no change.
        present.later = (later.transactions > 0 || survey.problems().iter().len() > 0).then_some(later);
    }
    present.survey = Some(survey);
    Ok(present)
}
