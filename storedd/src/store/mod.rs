//! The heart: one deep module with few verbs.
//!
//! # Purpose
//! [`open`] a store (recovering it), [`Store::commit`] or [`Store::submit`] commands, take a [`Store::view`] of one
//! moment, [`Store::checkpoint`], [`Store::close`]. Everything that changes the store goes through one planner, is in
//! one log, and is acknowledged only when it is on disk.
//!
//! # Operation
//! The store starts no threads of its own: whoever opens it runs [`Store::run_committer`] (two of them),
//! [`Store::run_checkpointer`] and [`Store::run_spares`] where it wants concurrency, or calls the verbs one by one (as
//! the simulation does).
//!
//! # Invariants
//! I1 to I9 of ARCHITECTURE.md; where each is asserted says the page of the file concerned.

mod account;
mod checkpoint;
mod commit;
mod committer;
mod counts;
pub mod decision;
mod first;
mod health;
mod hot;
mod ids;
mod marker;
mod marks;
mod names;
mod overlay;
pub mod plan;
mod queue;
mod recovery;
mod replay;
mod report;
mod retention;
mod sorted;
mod stats;
mod still;
#[cfg(test)]
mod tests;
mod view;

pub use checkpoint::CheckpointDone;
pub use commit::{Answer, CommitError, Committed};
pub use counts::Counts;
pub use health::CheckpointHealth;
pub use marker::{LAYOUT_VERSION, Marker};
pub use recovery::{Found, OnProgress, Progress, exit_of, look, open, set_failed_mark, take_lock};
pub use report::{Finding, Lost, Report};
pub use stats::{Histogram, Quantiles, Stats};
pub use view::View;

use crate::db::Db;
use crate::disk::{Disk, Lock};
use crate::env::Env;
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn, Micros, StoreId};
use crate::model::rows::{Row, UserRow};
use crate::model::{Rows, Table};
use crate::partition::{Partitions, Roots};
use crate::snapshot::{self, Place, Shelf};
use crate::wal::{self, Control, Log, Segments, Spares};
use arc_swap::ArcSwap;
use commit::{LogSide, Planner, lock};
use decision::Verdict;
use ids::Blocks;
use queue::Queue;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;
use view::Base;

/// Where a store lies.
#[derive(Debug, Clone)]
pub struct Disks {
    /// Data directory: `STORE`, `lock`, `CONTROL`, reports.
    pub data: Arc<dyn Disk>,
    /// Database directory.
    pub db: Arc<dyn Disk>,
    /// Log directory.
    pub log: Arc<dyn Disk>,
    /// How root directories of partitions are opened.
    pub roots: Arc<dyn Roots>,
    /// Partitions of the configuration: name -> root directory.
    pub partitions: BTreeMap<String, PathBuf>,
    /// Where new snapshots lie.
    pub snapshots: snapshot::Place,
}

impl Disks {
    /// Where new snapshots lie; its directory is made if it is not there.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn shelf(&self) -> Result<Shelf> {
        match &self.snapshots {
            Place::Below(base) => Ok(Shelf::new(self.data.clone(), base)),
            Place::At(path) => {
                let disk = self.roots.make(path);
                let disk = disk.map_err(|e| StoreError::io("make directory", path.display().to_string(), e))?;
                Ok(Shelf::new(disk, ""))
            }
        }
    }

    /// Every directory that may hold snapshots and can be opened: that of the configuration, and the usual one, so that those
    /// taken before the configuration named another are still there.
    #[must_use]
    pub fn shelves(&self) -> Vec<Shelf> {
        let usual = Place::default();
        let places = [&self.snapshots, &usual];
        let places = &places[..if self.snapshots == usual { 1 } else { 2 }];
        let open = |place: &&Place| match place {
            Place::Below(base) => Some(Shelf::new(self.data.clone(), base)),
            Place::At(path) => self.roots.open(path).ok().map(|disk| Shelf::new(disk, "")),
        };
        places.iter().filter_map(open).collect()
    }
}

/// How a store works; the defaults are those of the configuration.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of one log segment; a power of two, at least 1 MiB.
    pub segment_size: u64,
    /// Prepared segments kept ready.
    pub spares: usize,
    /// Bytes that the log leaves free on its disk; at most a 20th of it.
    pub reserve: u64,
    /// The log is sealed after resting this long.
    pub seal_idle: Duration,
    /// Commands that may wait in the queue; more are answered busy.
    pub queue_max: usize,
    /// A checkpoint begins at this overlay size in bytes.
    pub overlay_bytes: usize,
    /// Changes are answered busy at this overlay size in bytes.
    pub overlay_bytes_max: usize,
    /// A checkpoint begins this long after the last one, if anything changed.
    pub checkpoint_interval: Duration,
    /// A checkpoint begins when the log since the last one has this many bytes.
    pub checkpoint_log_bytes: u64,
    /// A checkpoint begins before a replay would take longer than this.
    pub replay_target: Duration,
    /// Cache of the database in bytes.
    pub database_cache: usize,
    /// Numbers reserved ahead by one write of the control file.
    pub id_block: u32,
    /// Start-up reports kept.
    pub reports: usize,
    /// Partition of new users for whom none is named.
    pub default_partition: String,
    /// The options that name this store in commands that a report tells to run, each with a blank behind it.
    pub named: String,
    /// Bytes of log that may be kept for snapshots; [`Store::set_snapshot_log`] changes them.
    pub snapshot_log_bytes: u64,
    /// Limits at the start; [`Store::set_limits`] changes them.
    pub limits: plan::Limits,
}

/// Records a start replays in a second, at the least, on the machines this was measured on.
const REPLAY_RECORDS_PER_SECOND: u64 = 200_000;

impl Default for Options {
    fn default() -> Self {
        Options {
            segment_size: 64 << 20,
            spares: 2,
            reserve: 0,
            seal_idle: Duration::from_millis(100),
            queue_max: 100_000,
            overlay_bytes: 128 << 20,
            overlay_bytes_max: 512 << 20,
            checkpoint_interval: Duration::from_secs(60),
            checkpoint_log_bytes: 256 << 20,
            replay_target: Duration::from_secs(5),
            database_cache: 256 << 20,
            id_block: 1 << 14,
            reports: 100,
            default_partition: "primary".to_owned(),
            named: String::new(),
            snapshot_log_bytes: 1 << 30,
            limits: plan::Limits::default(),
        }
    }
}

impl Options {
    /// What the planner needs of the configuration.
    fn policy(&self, limits: plan::Limits) -> plan::Policy<'_> {
        // A record holds a little more than the planner counts.
        let most = wal::payload_bytes_max(self.segment_size) / 16 * 15;
        plan::Policy { default_partition: &self.default_partition, transaction_bytes_max: most, limits }
    }

    fn id_blocks(&self) -> Blocks {
        Blocks { object_ids: u64::from(self.id_block), uidvalidities: self.id_block }
    }

    fn database(&self) -> crate::db::Options {
        crate::db::Options { cache_bytes: self.database_cache, pace: None }
    }

    fn replay_records_max(&self) -> u64 {
        (self.replay_target.as_millis() as u64).saturating_mul(REPLAY_RECORDS_PER_SECOND) / 1000
    }
}

/// Whether changes are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Yes.
    Ready,
    /// No, for this reason; it may pass.
    ReadOnly(String),
    /// The log failed; no more in this process.
    Poisoned,
}

/// Why no changes are taken.
#[derive(Debug, Default)]
struct ReadOnly {
    /// The store's own reason.
    cause: Option<String>,
    /// Somebody's.
    asked: Option<String>,
}

/// A retired log segment, by file name.
pub type Retired = String;

/// One line of `log list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentLine {
    /// What the log says of it.
    pub segment: wal::SegmentInfo,
    /// Records are appended to it.
    pub active: bool,
    /// LSN of its last record so far; `None` while it is empty.
    pub last_lsn: Option<Lsn>,
    /// Why it is kept; empty: it may be removed.
    pub kept_for: Vec<String>,
}

/// What recovery hands over.
pub(crate) struct Parts {
    pub(crate) lock: Box<dyn Lock>,
    pub(crate) store_id: StoreId,
    pub(crate) control: Arc<Control>,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) db: Db,
    pub(crate) log: Option<Log>,
    pub(crate) base: Base,
    pub(crate) reached: Lsn,
    pub(crate) checkpoint: Lsn,
}

#[derive(Debug, Default)]
struct CheckpointerFlags {
    stop: bool,
    asked: bool,
    /// Whether or not one is due.
    at_once: bool,
}

#[derive(Debug, Default)]
struct Checkpointer {
    flags: Mutex<CheckpointerFlags>,
    wake: Condvar,
}

/// The parts of a running log that need no turn.
struct Running {
    segments: Arc<Segments>,
    spares: Arc<Spares>,
}

/// An open store.
pub struct Store {
    disks: Disks,
    env: Arc<dyn Env>,
    options: Options,
    store_id: StoreId,
    /// That of the control file, which is busy while its disk is.
    epoch: Epoch,
    control: Arc<Control>,
    partitions: Arc<Partitions>,
    /// `None` in a store that is held read-only.
    running: Option<Running>,
    queue: Mutex<Queue>,
    /// Signalled for an idle committer.
    work: Condvar,
    /// Signalled for the leader that waits.
    turn: Condvar,
    planner: Mutex<Planner>,
    log: Mutex<LogSide>,
    db: Mutex<Db>,
    base: ArcSwap<Base>,
    limits: ArcSwap<plan::Limits>,
    appended: AtomicU64,
    synced: AtomicU64,
    published: AtomicU64,
    checkpoint_lsn: AtomicU64,
    last_checkpoint: AtomicU64,
    last_retired: AtomicU64,
    /// Log bytes written when the last checkpoint began.
    logged_before: AtomicU64,
    poison: OnceLock<StoreError>,
    read_only: Mutex<ReadOnly>,
    /// It stands still, see there.
    still: AtomicBool,
    hold: bool,
    checkpointer: Checkpointer,
    holds: retention::Holds,
    health: health::Health,
    stats: Stats,
    counter: counts::Counter,
    /// Where this run began.
    began_at: Lsn,
    summary: String,
    _lock: Box<dyn Lock>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("store_id", &self.store_id)
            .field("published", &self.published)
            .finish_non_exhaustive()
    }
}

impl Store {
    fn assemble(
        disks: Disks,
        env: Arc<dyn Env>,
        options: Options,
        parts: Parts,
        verdict: Verdict,
        summary: String,
    ) -> Result<Arc<Store>> {
        let Parts { lock, store_id, control, partitions, db, log, base, reached, checkpoint } = parts;
        assert!(checkpoint <= reached, "I1: checkpoint <= published");
        let (encoder, log, running) = match log {
            Some(Log { encoder, mut writer, segments, spares, .. }) => {
                // Nothing is to be written yet; the sync makes the proof that what is there is durable.
                let durable = writer.sync()?;
                (
                    Some(encoder),
                    LogSide { writer: Some(writer), durable: Some(durable) },
                    Some(Running { segments, spares }),
                )
            }
            None => (None, LogSide { writer: None, durable: None }, None),
        };
        let last = encoder.as_ref().map_or(reached, |e| Lsn(e.next_lsn().0 - 1));
        let planner = recovery::planner(encoder, reached, &control, &env, &options);
        Ok(Arc::new(Store {
            running,
            store_id,
            epoch: control.state().epoch,
            control,
            partitions,
            queue: Mutex::default(),
            work: Condvar::new(),
            turn: Condvar::new(),
            planner: Mutex::new(planner),
            log: Mutex::new(log),
            db: Mutex::new(db),
            base: ArcSwap::from_pointee(base),
            limits: ArcSwap::from_pointee(options.limits),
            appended: AtomicU64::new(last.0),
            synced: AtomicU64::new(last.0),
            published: AtomicU64::new(last.0),
            checkpoint_lsn: AtomicU64::new(checkpoint.0),
            last_checkpoint: AtomicU64::new(0),
            last_retired: AtomicU64::new(0),
            logged_before: AtomicU64::new(0),
            poison: OnceLock::new(),
            read_only: Mutex::new(ReadOnly {
                cause: (verdict == Verdict::Hold)
                    .then(|| "held after a loss; see storectl recover --report".to_owned()),
                asked: None,
            }),
            still: AtomicBool::new(false),
            hold: verdict == Verdict::Hold,
            checkpointer: Checkpointer::default(),
            holds: retention::Holds::new(options.snapshot_log_bytes),
            health: health::Health::default(),
            stats: Stats::default(),
            counter: counts::Counter::default(),
            began_at: last,
            summary,
            _lock: lock,
            disks,
            env,
            options,
        }))
    }

    /// One moment of the database: everything published until now.
    #[must_use]
    pub fn view(&self) -> View {
        loop {
            let base = self.base.load_full();
            let at = Lsn(self.published.load(Ordering::Acquire));
            // If a checkpoint replaced the base meanwhile, `at` may lie in an overlay that this base does not know.
            if Arc::ptr_eq(&base, &self.base.load()) {
                return View { base, at };
            }
        }
    }

    /// What commands are planned by from now on.
    #[must_use]
    pub fn policy(&self) -> plan::Policy<'_> {
        self.options.policy(**self.limits.load())
    }

    /// Puts other limits into effect. What was done under the old ones stays.
    pub fn set_limits(&self, limits: plan::Limits) {
        self.limits.store(Arc::new(limits));
    }

    /// Whether changes are taken.
    #[must_use]
    pub fn phase(&self) -> Phase {
        if self.poison.get().is_some() {
            return Phase::Poisoned;
        }
        let read_only = lock(&self.read_only);
        match read_only.cause.as_ref().or(read_only.asked.as_ref()) {
            Some(why) => Phase::ReadOnly(why.clone()),
            None => Phase::Ready,
        }
    }

    /// True if a loss was found that nobody has accepted yet: nothing is changed.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.hold
    }

    fn poison_error(&self) -> StoreError {
        self.poison.get().cloned().unwrap_or_else(|| StoreError::Bug("not poisoned".to_owned()))
    }

    /// After any failure: a control file that failed is a log that failed. It takes no more writes before it was read
    /// again, so without a restart no number could be reserved and no segment begun.
    fn poison_if_control_failed(&self) {
        if let Some(cause) = self.control.failure() {
            let first = self.poison.set(StoreError::Poisoned { cause: cause.clone() }).is_ok();
            if first {
                tracing::error!(event = "control_failed", error = cause, "no more changes until a restart");
            }
        }
    }

    pub(crate) fn set_read_only(&self, why: String) {
        lock(&self.read_only).cause = Some(why);
    }

    /// Takes no more changes for the reason that somebody gives, or takes them again with `None`. It lifts nothing but
    /// itself: neither a hold nor what a failed checkpoint has closed.
    pub fn close_to_changes(&self, why: Option<String>) {
        lock(&self.read_only).asked = why;
    }

    pub(crate) fn clear_read_only(&self) {
        if !self.hold {
            lock(&self.read_only).cause = None;
        }
    }

    /// Retires the log segments that nothing needs any more (I4).
    fn retire(&self, checkpoint: Lsn) -> Result<Vec<Retired>> {
        let Some(running) = &self.running else { return Ok(Vec::new()) };
        let held = self.holds.held(&running.segments.list());
        let upto = held.first().map_or(checkpoint, |oldest| oldest.lsn.min(checkpoint));
        let retired = running.segments.retire(upto)?;
        if !retired.is_empty() {
            self.last_retired.store(self.env.now().0, Ordering::Release);
        }
        Ok(retired)
    }

    /// The segments of the log, oldest first, each with the reasons why it is kept.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentLine> {
        let Some(running) = &self.running else { return Vec::new() };
        let checkpoint = self.checkpoint_lsn();
        let published = self.published_lsn();
        let list = running.segments.list();
        let held = self.holds.held(&list);
        list.into_iter()
            .map(|segment| {
                let active = segment.last_lsn.is_none();
                let last_lsn = segment.last_lsn.or((published >= segment.first_lsn).then_some(published));
                let mut kept_for = Vec::new();
                if active {
                    kept_for.push("active: records are appended to it".to_owned());
                }
                if last_lsn.is_some_and(|last| last > checkpoint) {
                    kept_for.push(format!("recovery: holds records after checkpoint LSN {checkpoint}"));
                }
                let wants = held.iter().find(|hold| last_lsn.is_some_and(|last| last > hold.lsn));
                kept_for.extend(
                    wants.map(|hold| format!("rollback: snapshot {} and the log behind it lose nothing", hold.id)),
                );
                SegmentLine { segment, active, last_lsn, kept_for }
            })
            .collect()
    }

    /// How many segments the log has.
    #[must_use]
    pub fn segment_count(&self) -> u64 {
        self.running.as_ref().map_or(0, |r| r.segments.list().len() as u64)
    }

    /// Every partition and how it is now.
    #[must_use]
    pub fn partition_states(&self) -> Vec<(String, crate::partition::State)> {
        let names = self.partitions.list();
        names
            .into_iter()
            .map(|(name, _)| {
                let state = self.partitions.state(&name);
                (name, state)
            })
            .collect()
    }

    /// One step of preparing empty segments; true if there may be more to do. Takes as long as writing one.
    ///
    /// # Errors
    /// If the log's disk is full or fails; commits go on while the current segment has room.
    pub fn prepare_spares(&self) -> Result<bool> {
        self.running.as_ref().map_or(Ok(false), |r| r.spares.prepare())
    }

    /// Makes the database durable up to everything, seals the log, notes a clean stop. The committers and the
    /// checkpointer must have been stopped.
    ///
    /// # Errors
    /// If any of it failed; the next start then replays the log.
    pub fn close(&self) -> Result<()> {
        self.stop_committers();
        self.stop_checkpointer();
        self.drain();
        if self.hold {
            return Ok(());
        }
        self.seal()?;
        self.checkpoint()?;
        let durable = Lsn(self.synced.load(Ordering::Acquire));
        self.control.update(|state| {
            state.clean = true;
            state.durable_lsn = durable;
        })
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Store id.
    #[must_use]
    pub fn store_id(&self) -> StoreId {
        self.store_id
    }

    /// Epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Highest LSN that readers see.
    #[must_use]
    pub fn published_lsn(&self) -> Lsn {
        Lsn(self.published.load(Ordering::Acquire))
    }

    /// Highest LSN on disk.
    #[must_use]
    pub fn synced_lsn(&self) -> Lsn {
        Lsn(self.synced.load(Ordering::Acquire))
    }

    /// LSN up to which the database file is durable by itself.
    #[must_use]
    pub fn checkpoint_lsn(&self) -> Lsn {
        Lsn(self.checkpoint_lsn.load(Ordering::Acquire))
    }

    /// When the last checkpoint and the last clean-up of the log ended; `None` if not in this process.
    #[must_use]
    pub fn last_times(&self) -> (Option<Micros>, Option<Micros>) {
        let time = |at: &AtomicU64| Some(Micros(at.load(Ordering::Acquire))).filter(|t| t.0 > 0);
        (time(&self.last_checkpoint), time(&self.last_retired))
    }

    /// What the start did, in one line.
    #[must_use]
    pub fn start_summary(&self) -> &str {
        &self.summary
    }

    /// How it works.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Where the store lies.
    #[must_use]
    pub fn disks(&self) -> &Disks {
        &self.disks
    }

    /// Users and mailboxes there are; `None` for a moment after a start, while they are counted.
    #[must_use]
    pub fn counts(&self) -> Option<Counts> {
        self.counter.now()
    }

    /// Rows per table in the database file, so as of the last checkpoint.
    #[must_use]
    pub fn database_rows(&self) -> Vec<(Table, u64)> {
        let base = self.base.load();
        Table::ALL.into_iter().map(|t| (t, base.db.meta().table(t).rows)).collect()
    }

    /// Length of the database file in bytes.
    #[must_use]
    pub fn database_bytes(&self) -> u64 {
        self.disks.db.stat(recovery::DB_FILE).ok().flatten().map_or(0, |e| e.len)
    }

    /// Partitions.
    #[must_use]
    pub fn partitions(&self) -> &Partitions {
        &self.partitions
    }

    fn partitions_follow(&self, user_rows: &[(Vec<u8>, Vec<u8>)]) {
        for (key, row) in user_rows {
            ensure_user_dir(&self.partitions, key, row);
        }
    }

    /// Makes the directories of users durable. A partition where that cannot be done now is a state that `status`
    /// shows, and no reason to stop the others: a user's directory is made again whenever it is needed.
    fn partitions_sync(&self) {
        for (name, state) in self.partitions.sync_pending() {
            tracing::warn!(event = "partition_not_synced", partition = name, state = state.word());
        }
    }
}

/// Makes the directory of the user whose row this is.
pub(crate) fn ensure_user_dir(partitions: &Partitions, key: &[u8], row: &[u8]) {
    let Ok(user) = UserRow::decode(key, row) else {
        // The planner wrote it, the log's checksum covered it; the database's check will name it.
        tracing::error!(event = "user_row_undecodable", bytes = row.len());
        return;
    };
    if let Err(state) = partitions.ensure_user_dir(&user.partition, &user.directory) {
        tracing::debug!(event = "user_directory_owed", partition = user.partition, state = state.word());
    }
}

/// A moment as RFC 3339, UTC, to the microsecond.
#[must_use]
pub fn rfc3339(at: Micros) -> String {
    i64::try_from(at.0)
        .ok()
        .and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok())
        .map_or_else(|| format!("{} us", at.0), |t| format!("{t:.6}"))
}

// A view must be able to move between the threads of the doors.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<View>();
    shared::<Store>();
};

// What planning and the doors read with.
const _: fn(&View) -> &dyn Rows = |view| view;
