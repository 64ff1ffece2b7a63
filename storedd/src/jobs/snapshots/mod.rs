//! Snapshots taken, verified and rotated while the store runs.
//!
//! # Operation
//! A [`Keeper`] does one thing at a time, on the thread that asks, as a job; commits go on meanwhile. **Taking** makes a checkpoint, so that
//! the newest state is in the database, and copies what one read transaction sees, row by row, in order, paced. **Verifying** looks
//! at the copy as at a database that nobody knows (`verify.rs`). **Rotation** removes what is too old. [`Keeper::due`] says what
//! is to be done now, [`Keeper::attend`] does it.
//!
//! # Invariants
//! * What cannot be read, or does not pass its verification, never pushes out what did: the newest snapshot whose every byte is as
//!   it was when it passed is never removed by rotation.
//! * The newest one is that of the highest epoch and LSN, never that of the latest time: a clock that was ahead once ends nothing.
//! * What another version of the program wrote is not judged here: it keeps its mark, and only a person removes it.
//! * A failure leaves the older snapshots and the store as they were. One of reading proves nothing: a snapshot that passed keeps its mark.

#[cfg(test)]
pub(crate) mod tests;
mod verify;

pub use verify::{Finding, Verified};

use crate::db;
use crate::disk::Stamp;
use crate::env::Env;
use crate::error::{Result, StoreError, exit};
use crate::jobs::registry::Context;
use crate::lsn::Micros;
use crate::snapshot::{self, Depth, GoOn, Manifest, Shelf, Snapshot, TableSum};
use crate::store::{Marker, Phase, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The first snapshot of a new store is taken so long after its first start.
const FIRST_AFTER: Duration = Duration::from_secs(600);
/// After a failure it is tried again so much later, or at the next interval if that is sooner.
const AGAIN_AFTER: Duration = Duration::from_secs(600);
/// A snapshot from before an upgrade is kept so long, whatever the number of snapshots to be kept.
const WAY_BACK_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Places are looked at again so much later.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Cache of a database that is written or looked at, in bytes.
const CACHE_BYTES: usize = 32 << 20;
/// A file that nobody has written to for so long shows by its times whether somebody does.
const AT_REST: Duration = Duration::from_secs(2);

/// How snapshots are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Time between two.
    pub interval: Duration,
    /// How many are kept; at least 2.
    pub keep: usize,
    /// Verify what is not verified yet.
    pub verify: bool,
    /// Bytes written in a second, at the most.
    pub pace: u64,
}

/// Something that is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// The next snapshot, and the removal of those that are too old.
    Take,
    /// The verification of one that was taken without.
    Verify(String),
}

impl Due {
    /// The verb by which a person would ask for it.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Due::Take => "snapshot take",
            Due::Verify(_) => "snapshot verify",
        }
    }
}

/// A snapshot that was taken.
#[derive(Debug, Clone)]
pub struct Taken {
    /// As it lies there.
    pub snapshot: Snapshot,
    /// How long that took, verification included.
    pub duration: Duration,
    /// What its verification found, if it was asked for.
    pub verified: Option<Verified>,
}

/// What is known without looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ages {
    /// When the newest one was taken.
    pub newest: Option<Micros>,
    /// When the newest valid one was taken.
    pub valid: Option<Micros>,
}

#[derive(Debug, Default)]
struct Memory {
    ages: Ages,
    /// Since when nothing is tried again after a failure, by the monotone clock.
    failed: Option<Duration>,
    /// Those that did not pass; not verified again by themselves.
    bad: BTreeSet<String>,
    /// Those whose every byte was read, by directory, and what the file system said of them then.
    read: BTreeMap<String, [Stamp; 2]>,
    /// When all places were looked at last, by the monotone clock.
    looked: Option<Duration>,
}

/// Keeps the snapshots of a store.
pub struct Keeper {
    store: Arc<Store>,
    env: Arc<dyn Env>,
    created: Micros,
    /// One job at a time.
    turn: Mutex<()>,
    memory: Mutex<Memory>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("memory", &self.memory).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keeper {
    /// Keeps the snapshots of `store`.
    ///
    /// # Errors
    /// If the marker of the store cannot be read.
    pub fn new(store: Arc<Store>, env: Arc<dyn Env>) -> Result<Keeper> {
        let created = Marker::read(&*store.disks().data)?.map_or(Micros(0), |marker| marker.created);
        let (turn, memory) = Default::default();
        Ok(Keeper { store, env, created, turn, memory })
    }

    /// What is known without looking.
    #[must_use]
    pub fn ages(&self) -> Ages {
        lock(&self.memory).ages
    }

    /// Every snapshot, oldest first, each looked at to its last byte; what was looked at before and was not written to since is not
    /// read again.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn list(&self) -> Result<Vec<Snapshot>> {
        Ok(self.look(Depth::Bytes)?.into_iter().map(|(_, snapshot)| snapshot).collect())
    }

    fn shelves(&self) -> Vec<Shelf> {
        self.store.disks().shelves(self.store.store_id())
    }

    fn look(&self, depth: Depth) -> Result<Vec<(Shelf, Snapshot)>> {
        let mut all = Vec::new();
        for shelf in self.shelves() {
            for id in shelf.list()? {
                let snapshot = self.read(&shelf, &id, depth)?;
                all.push((shelf.clone(), snapshot));
            }
        }
        snapshot::sort(&mut all, self.env.now(), |(_, snapshot)| snapshot);
        Ok(all)
    }

    /// The texts of all that can be read now, oldest first: a place that cannot be read is an alarm, and nothing of it is removed.
    fn look_where_possible(&self) -> Vec<(Shelf, Snapshot)> {
        let mut all = Vec::new();
        for shelf in self.shelves() {
            for id in shelf.list().unwrap_or_default() {
                all.extend(shelf.read(&id, Depth::Texts).ok().map(|snapshot| (shelf.clone(), snapshot)));
            }
        }
        snapshot::sort(&mut all, self.env.now(), |(_, snapshot)| snapshot);
        all
    }

    /// As [`Shelf::read`]; bytes that were good, and were not written to since, are not read again.
    fn read(&self, shelf: &Shelf, id: &str, depth: Depth) -> Result<Snapshot> {
        let stamps = shelf.stamps(id).filter(|_| depth == Depth::Bytes);
        let Some(stamps) = stamps else { return shelf.read(id, depth) };
        let path = shelf.disk().display(&shelf.path(id, ""));
        if lock(&self.memory).read.get(&path) == Some(&stamps) {
            return shelf.read(id, Depth::Texts);
        }
        let snapshot = shelf.read(id, depth)?;
        // A write within one tick of the kernel's clock changes no time.
        let rests =
            |s: &Stamp| s.changed.saturating_add(AT_REST.as_nanos() as i128) < i128::from(self.env.now().0) * 1000;
        let mut memory = lock(&self.memory);
        if snapshot.problems.is_empty() && stamps.iter().all(rests) && shelf.stamps(id) == Some(stamps) {
            memory.read.insert(path, stamps);
        } else {
            memory.read.remove(&path);
        }
        Ok(snapshot)
    }

    fn shelf_of(&self, id: &str) -> Result<Shelf> {
        let mut last = None;
        for shelf in self.shelves() {
            match shelf.read(id, Depth::Texts) {
                Ok(_) => return Ok(shelf),
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| StoreError::Bug("a store without a place for snapshots".to_owned())))
    }

    /// Takes a snapshot, and verifies it if asked to.
    ///
    /// # Errors
    /// If the database is damaged, or the disk is full or fails: then there is no new snapshot, and the old ones are as they were. If it was
    /// taken, and its verification ended or could not be made: then it is there, not verified.
    pub fn take(&self, settings: &Settings, verify: bool, ctx: &Context) -> Result<Taken> {
        let _turn = lock(&self.turn);
        let begun = self.env.uptime();
        let mut there = None;
        let done = self.take_now(settings, ctx).and_then(|(shelf, id)| {
            there = Some(id.clone());
            let verified = verify.then(|| self.verify_now(&shelf, &id, ctx)).transpose()?;
            Ok(Taken { snapshot: shelf.read(&id, Depth::Texts)?, duration: self.env.uptime() - begun, verified })
        });
        let done = done.map_err(|e| match (e, &there) {
            (StoreError::Busy { why }, Some(id)) => {
                StoreError::Busy { why: format!("snapshot {id} was taken, and is not verified: {why}") }
            }
            (e, _) => e,
        });
        self.remember();
        match &done {
            Ok(Taken { snapshot, duration, .. }) => {
                lock(&self.memory).failed = None;
                let seconds = duration.as_secs_f64();
                tracing::info!(
                    event = "snapshot",
                    id = snapshot.id,
                    bytes = snapshot.bytes,
                    valid = snapshot.valid,
                    seconds
                );
            }
            Err(e) => {
                lock(&self.memory).failed = Some(self.env.uptime());
                match there {
                    Some(id) => tracing::error!(event = "snapshot_not_verified", id, error = %e),
                    None => {
                        tracing::error!(event = "snapshot_failed", error = %e, "no snapshot was taken; the older ones are kept");
                    }
                }
            }
        }
        done
    }

    fn take_now(&self, settings: &Settings, ctx: &Context) -> Result<(Shelf, String)> {
        let shelf = asking(&self.store.disks().shelf(self.store.store_id())?, ctx);
        self.store.checkpoint()?;
        let view = self.store.view();
        let reader = view.database();
        let meta = reader.meta().clone();
        let time = self.env.now();
        let id = snapshot::id(time, meta.applied_lsn);
        let path = shelf.begin(&id)?;
        let total = Some(rows(&meta));
        let mut each = |rows| {
            ctx.progress(rows, total, "rows", "copy");
            !ctx.cancelled()
        };
        let copied = db::copy(reader, shelf.disk(), &path, paced(settings.pace, ctx), &mut each);
        let tables = meta.all().iter().map(|&table| {
            let db::TableMeta { rows, digest } = *meta.table(table);
            TableSum { name: table.name().to_owned(), rows, digest }
        });
        let manifest = Manifest {
            store_id: meta.store_id,
            lsn: meta.applied_lsn,
            epoch: meta.epoch,
            time,
            schema: meta.schema,
            tables: tables.collect(),
            files: Vec::new(),
        };
        match copied.and_then(|_| shelf.finish(&id, manifest)) {
            Ok(_) => {
                // What indexes show at that moment is kept for the view until it is kept for the snapshot.
                self.store.follow_snapshots();
                drop(view);
                Ok((shelf, id))
            }
            Err(e) => {
                // What cannot be removed now is removed before the next one.
                drop(shelf.clear());
                Err(e)
            }
        }
    }

    /// Verifies one snapshot, the newest one, or all of them, oldest first; notes at each whether it passed.
    ///
    /// # Errors
    /// If there is no such snapshot; if its mark cannot be written; if one cannot be read (74), which then counts as what it did, when the
    /// others were looked at. What is wrong with a snapshot is a finding.
    pub fn verify(&self, id: Option<&str>, all: bool, ctx: &Context) -> Result<Vec<Verified>> {
        let _turn = lock(&self.turn);
        let wanted = match id {
            Some(id) => vec![(self.shelf_of(id)?, id.to_owned())],
            None => {
                let listed = self.look(Depth::Texts)?;
                let skipped = if all { 0 } else { listed.len().saturating_sub(1) };
                listed.into_iter().skip(skipped).map(|(shelf, snapshot)| (shelf, snapshot.id)).collect()
            }
        };
        if wanted.is_empty() && !all {
            return Err(none());
        }
        let verified: Vec<Result<Verified>> =
            wanted.iter().map(|(shelf, id)| self.verify_now(shelf, id, ctx)).collect();
        self.remember();
        verified.into_iter().collect()
    }

    fn verify_now(&self, shelf: &Shelf, id: &str, ctx: &Context) -> Result<Verified> {
        let verified = verify::verify(&self.store, shelf, id, ctx).inspect_err(|e| {
            tracing::error!(event = "snapshot_not_judged", id, error = %e, "it counts as what it did before");
        })?;
        if verified.findings.is_empty() {
            shelf.mark(id, self.env.now())?;
            lock(&self.memory).bad.remove(id);
            tracing::info!(event = "snapshot_verified", id, rows = verified.rows, zero_loss = verified.zero_loss);
        } else {
            lock(&self.memory).bad.insert(id.to_owned());
            if !is_strange(&shelf.read(id, Depth::Texts)?) {
                shelf.unmark(id)?;
            }
            for Finding { file, table, key, what, found, expected } in verified.findings.iter().take(20) {
                tracing::error!(event = "snapshot_bad", id, file, table, key, found, expected, "{what}");
            }
        }
        Ok(verified)
    }

    /// Removes what is too many: gives the names.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn prune(&self, settings: &Settings, ctx: &Context) -> Result<Vec<String>> {
        let _turn = lock(&self.turn);
        let pruned = self.prune_now(settings.keep, ctx);
        self.remember();
        pruned
    }

    fn prune_now(&self, keep: usize, ctx: &Context) -> Result<Vec<String>> {
        let all = self.look_where_possible();
        let mut kept = BTreeSet::new();
        // The program that wrote it knows whether it is of use; of what cannot be read nobody does.
        let all: Vec<_> = all.into_iter().filter(|(_, s)| !is_strange(s) && s.unread().is_none()).collect();
        let of = |wanted: &dyn Fn(&Snapshot) -> bool, most: usize| -> Vec<String> {
            all.iter().rev().filter(|(_, s)| wanted(s)).take(most).map(|(_, s)| s.id.clone()).collect()
        };
        kept.extend(of(&|s| s.valid, keep));
        // Not verified, but with nothing known against it; and one that is bad, for whoever wants to know why.
        kept.extend(of(&|s| !s.valid && s.problems.is_empty() && !lock(&self.memory).bad.contains(&s.id), keep));
        kept.extend(of(&|s| !s.problems.is_empty() || lock(&self.memory).bad.contains(&s.id), 1));
        kept.extend(self.way_back_kept(&all));
        for (shelf, snapshot) in all.iter().rev().filter(|(_, s)| s.valid) {
            if self.read(&asking(shelf, ctx), &snapshot.id, Depth::Bytes)?.valid {
                kept.insert(snapshot.id.clone());
                break;
            }
        }
        let mut removed = Vec::new();
        for (shelf, snapshot) in all.iter().filter(|(_, s)| !kept.contains(&s.id)) {
            shelf.remove(&snapshot.id)?;
            tracing::info!(event = "snapshot_removed", id = snapshot.id);
            removed.push(snapshot.id.clone());
        }
        Ok(removed)
    }

    /// The newest valid snapshot of an older schema: the way back from an upgrade, until there is a valid one of the schema in use and
    /// some time has passed.
    fn way_back_kept(&self, all: &[(Shelf, Snapshot)]) -> Option<String> {
        let schema = self.store.schema();
        let is_older = |s: &Snapshot| s.manifest.as_ref().is_some_and(|m| m.schema < schema);
        let (_, before) = all.iter().rev().find(|(_, s)| s.valid && is_older(s))?;
        let since = self.env.now().since(before.time());
        let replaced = all.iter().any(|(_, s)| s.valid && !is_older(s));
        (!replaced || since.is_none_or(|since| since < WAY_BACK_KEPT)).then(|| before.id.clone())
    }

    /// Removes one.
    ///
    /// # Errors
    /// If there is no such snapshot; those of the disk.
    pub fn delete(&self, id: &str) -> Result<()> {
        let _turn = lock(&self.turn);
        let deleted = self.shelf_of(id)?.remove(id);
        tracing::info!(event = "snapshot_deleted", id, ok = deleted.is_ok());
        self.remember();
        deleted
    }

    /// Learns anew what there is.
    fn remember(&self) {
        if self.store.phase() == Phase::Ready {
            self.store.disks().tend_places(self.store.store_id());
        }
        self.store.follow_snapshots();
        let listed = self.look_where_possible();
        let newest = |wanted: &dyn Fn(&Snapshot) -> bool| {
            listed.iter().rev().find(|(_, s)| s.manifest.is_some() && wanted(s)).map(|(_, s)| s.time())
        };
        let ages = Ages { newest: newest(&|_| true), valid: newest(&|s| s.valid && !is_strange(s)) };
        let mut memory = lock(&self.memory);
        memory.bad.retain(|id| listed.iter().any(|(_, s)| s.id == *id));
        memory.read.retain(|path, _| listed.iter().any(|(_, s)| path.trim_end_matches('/') == s.path));
        (memory.ages, memory.looked) = (ages, Some(self.env.uptime()));
    }

    /// Looks at the places again, if it is time: a disk may go or come at any moment. To be called about once a second.
    pub fn look_again(&self) {
        let looked = lock(&self.memory).looked;
        if looked.is_none_or(|at| self.env.uptime().saturating_sub(at) >= LOOK_AGAIN) {
            self.remember();
        }
    }

    /// What is to be done now, if anything; to be asked about once a second.
    #[must_use]
    pub fn due(&self, settings: &Settings) -> Option<Due> {
        self.look_again();
        if self.store.phase() != Phase::Ready || self.waits(settings) {
            return None;
        }
        if self.is_due(settings) {
            return Some(Due::Take);
        }
        settings.verify.then(|| self.not_verified().map(Due::Verify)).flatten()
    }

    /// Does it. A failure is said, and tried again later.
    ///
    /// # Errors
    /// What was said.
    pub fn attend(&self, due: &Due, settings: &Settings, ctx: &Context) -> Result<()> {
        match due {
            Due::Take => {
                let taken = self.take(settings, settings.verify, ctx);
                if let Err(e) = self.prune(settings, ctx) {
                    tracing::error!(event = "snapshot_not_removed", error = %e);
                }
                taken.map(drop)
            }
            Due::Verify(id) => self.verify(Some(id), false, ctx).map(drop).inspect_err(|e| {
                tracing::error!(event = "snapshot_not_verified", id, error = %e);
                // Nothing was found wrong with it: it is tried again.
                lock(&self.memory).failed = Some(self.env.uptime());
            }),
        }
    }

    /// The newest that was taken without, and has nothing known against it.
    fn not_verified(&self) -> Option<String> {
        let listed = self.look_where_possible();
        let bad = lock(&self.memory).bad.clone();
        let mut ids = listed.into_iter().rev().filter(|(_, s)| !s.valid).map(|(_, s)| s.id);
        ids.find(|id| !bad.contains(id))
    }

    fn is_due(&self, settings: &Settings) -> bool {
        let now = self.env.now();
        match self.ages().newest {
            Some(newest) => now.since(newest).is_none_or(|passed| passed >= settings.interval),
            None => now.since(self.created).unwrap_or_else(|| self.env.uptime()) >= FIRST_AFTER,
        }
    }

    /// True for some time after a failure.
    fn waits(&self, settings: &Settings) -> bool {
        let failed = lock(&self.memory).failed;
        failed.is_some_and(|at| self.env.uptime().saturating_sub(at) < AGAIN_AFTER.min(settings.interval))
    }
}

/// A shelf whose files are read whole as the job allows: it rests while the store is frozen, and ends when it is cancelled.
fn asking(shelf: &Shelf, ctx: &Context) -> Shelf {
    shelf.asking(GoOn::asking(ctx.going_on()))
}

/// Sleeps after each burst that was written, so that no more than `pace` bytes are written in a second.
fn paced(pace: u64, ctx: &Context) -> db::Options {
    let ctx = ctx.clone();
    let sleep = move |bytes: u64| !ctx.sleep(Duration::from_secs_f64(bytes as f64 / pace.max(1) as f64));
    db::Options { cache_bytes: CACHE_BYTES, pace: Some(Arc::new(sleep)) }
}

/// True of a snapshot that another version of the program wrote, and this one does not read.
fn is_strange(snapshot: &Snapshot) -> bool {
    snapshot.is_of_another_version() || snapshot.manifest.as_ref().is_some_and(|m| !db::reads(m.schema))
}

/// Rows of a database.
fn rows(meta: &db::Meta) -> u64 {
    meta.rows()
}

fn none() -> StoreError {
    StoreError::Refused {
        message: "there is no snapshot".to_owned(),
        hint: "storectl snapshot take --verify".to_owned(),
        exit: exit::NOT_FOUND,
    }
}
