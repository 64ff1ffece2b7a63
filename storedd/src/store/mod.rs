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
pub mod adopt;
mod archived;
mod checkpoint;
mod coming;
mod commit;
mod committer;
mod counts;
pub mod decision;
mod disks;
mod facts;
mod fallback;
mod first;
mod going_back;
mod health;
mod held;
mod hot;
mod identity;
mod ids;
mod install;
mod look;
mod mail;
mod manual;
mod marker;
mod marks;
mod moment;
mod named;
mod names;
mod options;
mod overlay;
mod past;
mod peruser;
pub mod plan;
mod queue;
mod record;
mod recount;
mod recovery;
mod repair;
mod replace;
mod replay;
mod report;
mod reset;
mod retention;
mod segments;
mod shelved;
mod sorted;
mod stats;
mod still;
#[cfg(test)]
mod tests;
mod until;
pub mod upgrade;
mod view;
mod write;

pub use archived::WithArchive;
pub use checkpoint::CheckpointDone;
pub use coming::Coming;
pub use commit::{Answer, CommitError, Committed};
pub use counts::Counts;
pub use disks::Disks;
pub use fallback::Wanted;
pub use going_back::note_replaced;
pub use health::CheckpointHealth;
pub use install::Behind;
pub use look::{Found, OnProgress, Progress, look};
pub use mail::{
    Bygone, Examined, Fate, Given, Healed, IndexesHeld, Leftover, Listed, MailFinding, Moving, Order, READERS,
    RECOVERED, Repair, Sick, Traces, Track,
};
pub use manual::Plan;
pub use marker::{LAYOUT_VERSION, Marker};
pub use marks::keep_clear;
pub use moment::Moment;
pub use options::{Options, Triggers};
pub use past::Known;
pub use recovery::{exit_of, log_version, open, set_failed_mark, take_lock, take_lock_in};
pub use report::{CameBack, Finding, Lost, Report};
pub use reset::LogReset;
pub use retention::{ArchiveGap, Choosable, Lagging, LogHold};
pub use segments::{Retired, SegmentLine};
pub use stats::{Histogram, Quantiles, Stats};
pub use until::Point;
pub use view::View;

use crate::db::Db;
use crate::disk::Lock;
use crate::env::Env;
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn, Micros, StoreId};
use crate::model::Rows;
use crate::model::rows::{Row, UserRow};
use crate::partition::Partitions;
pub use crate::wal::PutBack;
use crate::wal::{Control, Log, Segments, Spares};
use arc_swap::{ArcSwap, ArcSwapOption};
use commit::{LogSide, Planner, lock};
use decision::Verdict;
use queue::Queue;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, RwLock};
use view::Base;

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
    /// Held by whoever has a quota root followed.
    counting: Mutex<()>,
    log: Mutex<LogSide>,
    db: Mutex<Db>,
    base: ArcSwap<Base>,
    limits: ArcSwap<plan::Limits>,
    triggers: ArcSwap<Triggers>,
    /// Partitions that take no more mail, see `retention`.
    closed: ArcSwapOption<std::collections::BTreeSet<String>>,
    appended: AtomicU64,
    synced: AtomicU64,
    published: AtomicU64,
    checkpoint_lsn: AtomicU64,
    last_checkpoint: AtomicU64,
    last_retired: AtomicU64,
    /// Log bytes written when the last checkpoint began.
    logged_before: AtomicU64,
    /// Somebody may have begun to write to partitions what the next checkpoint writes.
    mail_attempted: AtomicBool,
    /// What the last run left to be taken away is gone.
    swept: AtomicBool,
    /// The next checkpoint writes out what users have seen since then; [`peruser::NOTHING`]: it does not.
    seen_since: AtomicU64,
    bases: mail::Bases,
    ailing: mail::Ailing,
    trusted: mail::Trusted,
    indexes: mail::Indexes,
    due: adopt::Due,
    /// Taken by a checkpoint, shared by those who look at partitions while none is at work.
    gate: RwLock<()>,
    poison: OnceLock<StoreError>,
    read_only: Mutex<ReadOnly>,
    /// Why a repair is recommended, see there.
    repair: Mutex<Option<String>>,
    /// It stands still, see there.
    still: AtomicBool,
    hold: bool,
    checkpointer: Checkpointer,
    holds: Arc<retention::Holds>,
    health: health::Health,
    stats: Stats,
    counter: counts::Counter,
    /// Where this run began.
    began_at: Lsn,
    summary: Mutex<String>,
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
        let seen_since = AtomicU64::new(peruser::under_way(&*disks.data));
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
            counting: Mutex::new(()),
            log: Mutex::new(log),
            db: Mutex::new(db),
            base: ArcSwap::from_pointee(base),
            limits: ArcSwap::from_pointee(options.limits),
            triggers: ArcSwap::from_pointee(options.triggers()),
            closed: ArcSwapOption::empty(),
            appended: AtomicU64::new(last.0),
            synced: AtomicU64::new(last.0),
            published: AtomicU64::new(last.0),
            checkpoint_lsn: AtomicU64::new(checkpoint.0),
            last_checkpoint: AtomicU64::new(0),
            last_retired: AtomicU64::new(0),
            logged_before: AtomicU64::new(0),
            mail_attempted: AtomicBool::new(true),
            swept: AtomicBool::new(false),
            seen_since,
            bases: mail::Bases::default(),
            ailing: mail::Ailing::default(),
            trusted: mail::Trusted::default(),
            indexes: mail::Indexes::new(options.index_cache),
            due: adopt::Due::of(&*disks.data),
            gate: RwLock::default(),
            poison: OnceLock::new(),
            read_only: Mutex::new(ReadOnly {
                cause: (verdict == Verdict::Hold)
                    .then(|| "held after a loss; see storectl recover --report".to_owned()),
                asked: None,
            }),
            repair: Mutex::new(repair::read(&*disks.data)),
            still: AtomicBool::new(false),
            hold: verdict == Verdict::Hold,
            checkpointer: Checkpointer::default(),
            holds: Arc::new(retention::Holds::new(&options)),
            health: health::Health::default(),
            stats: Stats::default(),
            counter: counts::Counter::default(),
            began_at: last,
            summary: Mutex::new(summary),
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
        let policy = self.options.policy(**self.limits.load(), self.closed.load_full());
        plan::Policy { store: Some(self.store_id), partitions: Some(&self.partitions), ..policy }
    }

    /// Puts other limits into effect. What was done under the old ones stays.
    pub fn set_limits(&self, limits: plan::Limits) {
        self.limits.store(Arc::new(limits));
    }

    /// Has checkpoints begin at other times from now on.
    pub fn set_triggers(&self, triggers: Triggers) {
        if **self.triggers.load() != triggers {
            self.triggers.store(Arc::new(triggers));
            self.wake_checkpointer();
        }
    }

    pub(super) fn triggers(&self) -> Triggers {
        **self.triggers.load()
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

    fn partitions_follow(&self, user_rows: &[(Vec<u8>, Vec<u8>)]) {
        let dirs: Vec<(String, String)> = user_rows.iter().filter_map(|(key, row)| user_dir(key, row)).collect();
        if !dirs.is_empty() {
            self.partitions.follow(dirs);
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

/// Partition and directory of the user whose row this is.
fn user_dir(key: &[u8], row: &[u8]) -> Option<(String, String)> {
    let Ok(user) = UserRow::decode(key, row) else {
        // The planner wrote it, the log's checksum covered it; the database's check will name it.
        tracing::error!(event = "user_row_undecodable", bytes = row.len());
        return None;
    };
    Some((user.partition.to_string(), user.directory.to_string()))
}

/// Makes the directory of the user whose row this is.
pub(crate) fn ensure_user_dir(partitions: &Partitions, key: &[u8], row: &[u8]) {
    let Some((partition, directory)) = user_dir(key, row) else { return };
    if let Err(state) = partitions.ensure_user_dir(&partition, &directory) {
        tracing::debug!(event = "user_directory_owed", partition, state = state.word());
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
