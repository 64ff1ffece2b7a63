//! Checkpoint: make the database durable up to an LSN, so that the log before it is not needed for a start.
//!
//! Commits go on meanwhile. The overlay that took changes until now is frozen at LSN n and a new one takes its place
//! (one pointer, under the planner's lock); when everything up to n is synced the partitions are synced, the frozen
//! overlay is written to the database in key order as one durable transaction that also stores `applied_lsn = n`
//! (I5), a new read transaction is published, the control file notes n, and log segments that nobody needs are retired
//! (I4).
//!
//! A failed write of the database is *undecided*: it is reopened, its applied_lsn compared, tried once more. If that
//! fails too, the store takes no changes until a later attempt succeeds; reads go on from the frozen overlay, and the
//! log still holds everything.

use super::commit::{lock, try_lock};
use super::mail::{self, Moment};
use super::named;
use super::names::Names;
use super::overlay::{Newest, Overlay};
use super::peruser::NOTHING;
use super::recovery::partitions_in;
use super::stats::add;
use super::view::{Base, Frozen, View};
use super::{Retired, Store};
use crate::db::DbReader;
use crate::error::Result;
use crate::lsn::Lsn;
use crate::model::{Rows, Table};
use crate::partition::roll::{Enrolled, Roll};
use crate::partition::{Applied, PartitionId};
use crate::planted::{self, Bug};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What a checkpoint did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointDone {
    /// The database is durable by itself up to here.
    pub lsn: Lsn,
    /// How long it took.
    pub duration: Duration,
    /// Log segments retired by it.
    pub retired: Vec<Retired>,
    /// Rows written or removed.
    pub rows: u64,
}

impl CheckpointDone {
    /// This one and the next as one.
    fn then(mut self, next: CheckpointDone) -> CheckpointDone {
        self.lsn = next.lsn;
        self.duration += next.duration;
        self.retired.extend(next.retired);
        self.rows += next.rows;
        self
    }
}

impl Store {
    /// Makes the database durable up to the newest synced LSN and returns when it is. Checkpoints queue up behind
    /// each other.
    ///
    /// # Errors
    /// If the log is poisoned, or the database could not be written twice in a row.
    pub fn checkpoint(&self) -> Result<CheckpointDone> {
        self.look_before_writing();
        // In this order: who has the gate shared may take the other.
        let _alone = self.gate.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut db = lock(&self.db);
        // Of messages, the log has the bytes.
        self.keep_log_named(lock(&self.log));
        if let Some(poison) = self.poison.get() {
            // What the log did not take must not reach the database, and nothing else is urgent before the restart.
            return Err(poison.clone());
        }
        let begun = self.env.uptime();
        let running = self.health.begin(begun);
        // What an earlier checkpoint could not write goes first, and is not all that there is.
        let left = if self.checkpointing() { self.checkpoint_locked(&mut db).map(Some) } else { Ok(None) };
        let result = left.and_then(|left| {
            let done = self.checkpoint_locked(&mut db)?;
            Ok(match left {
                Some(left) => left.then(done),
                None => done,
            })
        });
        match &result {
            Ok(done) => {
                add(&self.stats.checkpoints, 1);
                self.stats.checkpoint.record(done.duration);
                self.health.done();
                self.clear_read_only();
                tracing::debug!(event = "checkpoint", lsn = %done.lsn, rows = done.rows, seconds = done.duration.as_secs_f64());
            }
            Err(e) => {
                add(&self.stats.checkpoints_failed, 1);
                self.poison_if_control_failed();
                self.health.failed(e);
                tracing::error!(event = "checkpoint_failed", error = %e, seconds = (self.env.uptime() - begun).as_secs_f64());
            }
        }
        drop(running);
        result
    }

    fn checkpoint_locked(&self, db: &mut crate::db::Db) -> Result<CheckpointDone> {
        let begun = self.env.uptime();
        self.learn_counts();
        let frozen = self.freeze();
        self.wait_published(frozen.upto)?;
        assert!(frozen.upto.0 <= self.published.load(Ordering::Acquire), "I1: checkpoint <= published");
        self.partitions_sync();
        self.sweep();
        let mail = self.write_mail(&frozen)?;
        self.enrol_partitions(&frozen);
        if planted::on(Bug::RetiredBeforeCommit) {
            self.retire(frozen.upto)?;
        }
        let rows = self.write_frozen(db, &frozen)?;
        let reader = Arc::new(db.reader()?);
        assert_eq!(reader.meta().applied_lsn, frozen.upto, "I1: applied_lsn is the checkpoint");
        let base = self.base.load();
        let names = base.names.clone().filter(|names| !names.is_overfull()).or_else(|| learn_names(&reader));
        self.base.store(Arc::new(Base { active: base.active.clone(), frozen: None, db: reader, names }));
        self.mail_attempted.store(false, Ordering::Release);
        mail.finish(&*self.disks.data, &self.partitions, &self.committed(), self.applied());
        self.checkpoint_lsn.store(frozen.upto.0, Ordering::Release);
        self.last_checkpoint.store(self.env.now().0, Ordering::Release);
        let durable = Lsn(self.synced.load(Ordering::Acquire));
        self.control.update(|state| {
            state.checkpoint_lsn = frozen.upto;
            state.durable_lsn = state.durable_lsn.max(durable);
        })?;
        let retired = self.retire(frozen.upto)?;
        Ok(CheckpointDone { lsn: frozen.upto, duration: self.env.uptime() - begun, retired, rows })
    }

    /// Freezes the active overlay, or returns the one that an earlier checkpoint could not write.
    pub(super) fn freeze(&self) -> Frozen {
        let planner = lock(&self.planner);
        let base = self.base.load();
        if let Some(frozen) = &base.frozen {
            return frozen.clone();
        }
        self.logged_before.store(self.stats.log_bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        let frozen = Frozen { overlay: base.active.clone(), upto: planner.last_lsn() };
        let next = Base {
            active: Arc::new(Overlay::sized(self.triggers().overlay_bytes)),
            frozen: Some(frozen.clone()),
            db: base.db.clone(),
            names: base.names.clone(),
        };
        self.base.store(Arc::new(next));
        frozen
    }

    /// Waits until everything up to `lsn` is synced and published, which comes last (I1). The group it belongs to is being
    /// written: no group waits without a leader.
    fn wait_published(&self, lsn: Lsn) -> Result<()> {
        while self.published.load(Ordering::Acquire) < lsn.0 {
            drop(lock(&self.log));
            if let Some(e) = self.poison.get() {
                return Err(e.clone());
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// What the database says, and nothing that came later.
    pub(super) fn committed(&self) -> View {
        let base = self.base.load();
        let only =
            Base { active: Arc::new(Overlay::sized(0)), frozen: None, db: base.db.clone(), names: base.names.clone() };
        View { at: base.db.meta().applied_lsn, base: Arc::new(only) }
    }

    fn applied(&self) -> Applied {
        applied(&self.base.load().db)
    }

    /// After a start, once: takes away what a commit left to be taken away before the machine stopped.
    pub(super) fn sweep(&self) {
        if !self.hold && !self.swept.swap(true, Ordering::AcqRel) {
            let (newest, committed) = (self.view(), self.committed());
            // A database that has forgotten something does not know who uses a copy.
            let at = Applied { epoch: self.epoch, lsn: newest.at };
            let newest = (!self.due.is_due()).then_some((&newest as &dyn Rows, at));
            mail::sweep(&*self.disks.data, &self.partitions, newest, (&committed, self.applied()));
        }
    }

    /// Writes the frozen rows of messages to their partitions, durably.
    fn write_mail(&self, frozen: &Frozen) -> Result<mail::Written> {
        let view = View { base: self.base.load_full(), at: frozen.upto };
        let committed = applied(&view.base.db);
        // A crash, or a checkpoint that failed, may have left a part of it.
        let is_replay = self.mail_attempted.swap(true, Ordering::AcqRel);
        let keep_from = self.bases.oldest(committed.lsn, &view.base.db);
        let mut late = self.catch_up(&view.base.db, keep_from);
        let since = self.seen_since.load(Ordering::Acquire);
        let seen_since = (since < NOTHING).then_some(since);
        let (upto, epoch) = (frozen.upto, self.epoch);
        let can_wait = self.overlay_bytes() < self.triggers().overlay_bytes_max / 2;
        let moment = Moment { upto, epoch, committed, keep_from, is_replay, is_piece: false, can_wait, seen_since };
        late.add(mail::write(&view, &frozen.overlay, moment, &self.mail_disks())?);
        // One that was asked for meanwhile is for the next checkpoint.
        let _ = self.seen_since.compare_exchange(since, NOTHING, Ordering::AcqRel, Ordering::Acquire);
        let at = Applied { epoch: moment.epoch, lsn: moment.upto };
        if self.due.is_due() {
            late.keep_moved(&*self.disks.data, &view, at)?;
        }
        late.note(&*self.disks.data, &self.partitions, at);
        Ok(late)
    }

    /// Has it written beside the database which partitions it is going to have. That is for the day on which the database is lost: a
    /// checkpoint does not fail for it.
    fn enrol_partitions(&self, frozen: &Frozen) {
        let view = View { base: self.base.load_full(), at: frozen.upto };
        let place = |(name, id): (String, PartitionId)| {
            let site = self.partitions.site(&name);
            let site = site.filter(|site| !site.is_nowhere() && !self.disks.partitions.contains_key(&name));
            (name, Enrolled { id, site })
        };
        let mut kept = Roll::new();
        if self.due.is_due() {
            // What could not be taken back yet. Where nobody knows what that is, nothing is written before all of it is there: a partition
            // that the file does not name counts as taken out of the store.
            kept = self.partitions.enrolled();
            if kept.is_empty() {
                return;
            }
        }
        let roll = partitions_in(&view).map(|all| {
            kept.extend(all.into_iter().map(place));
            kept
        });
        if let Err(e) = roll.and_then(|roll| self.partitions.enrol(&*self.disks.data, roll)) {
            tracing::warn!(event = "partition_roll", error = %e, "the next checkpoint tries again");
        }
    }

    fn write_frozen(&self, db: &mut crate::db::Db, frozen: &Frozen) -> Result<u64> {
        let epoch = self.control.state().epoch;
        let names = self.base.load().names.clone();
        // Before a reader can find the row in the file.
        let noted = |(table, key, row): &Newest| {
            if let (Some(names), Some(_)) = (&names, row) {
                names.note(*table, key);
            }
        };
        let mut attempts = 0;
        let cause = loop {
            let failed = match db.apply(frozen.upto, epoch, frozen.overlay.newest(frozen.upto).inspect(noted)) {
                Ok(applied) => return Ok(applied.rows_put + applied.rows_removed),
                Err(e) => e,
            };
            attempts += 1;
            match self.reopen(db) {
                Ok(lsn) if lsn == frozen.upto => return Ok(0),
                Ok(_) if attempts < 2 => {}
                Ok(_) => break failed,
                Err(e) => break e,
            }
        };
        self.set_read_only(format!("the checkpoint failed: {cause}"));
        Err(cause)
    }

    /// After a failed write of the database: opens it anew and gives readers the reopened file. Its applied LSN says
    /// whether the write happened. Readers get a file too that can be read and not be written.
    fn reopen(&self, db: &mut crate::db::Db) -> Result<Lsn> {
        let reopened = db.reopen();
        if let Ok(reader) = db.reader() {
            let base = self.base.load();
            let (active, frozen, names) = (base.active.clone(), base.frozen.clone(), base.names.clone());
            self.base.store(Arc::new(Base { active, frozen, db: Arc::new(reader), names }));
        }
        Ok(reopened?.applied_lsn)
    }

    /// True while a checkpoint writes the database.
    #[must_use]
    pub fn checkpointing(&self) -> bool {
        self.base.load().frozen.is_some()
    }

    /// Bytes of changes that only the log and the memory hold.
    #[must_use]
    pub fn overlay_bytes(&self) -> usize {
        let base = self.base.load();
        base.active.bytes() + base.frozen.as_ref().map_or(0, |f| f.overlay.bytes())
    }

    /// Row versions held in memory.
    #[must_use]
    pub fn overlay_entries(&self) -> usize {
        let base = self.base.load();
        base.active.entries() + base.frozen.as_ref().map_or(0, |f| f.overlay.entries())
    }

    /// The checkpointer: checkpoints when the overlay is full, when a replay of the log would take longer than its
    /// budget, or when the interval has passed and something changed. Returns after [`Store::stop_checkpointer`].
    pub fn run_checkpointer(&self) {
        self.learn_names();
        let db = lock(&self.db);
        self.sweep();
        drop(db);
        let mut last = self.env.uptime();
        let mut named = last;
        loop {
            let (stop, at_once) = {
                let flags = lock(&self.checkpointer.flags);
                let (mut flags, _) = self
                    .checkpointer
                    .wake
                    .wait_timeout_while(flags, Duration::from_millis(200), |f| !f.stop && !f.asked)
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                flags.asked = false;
                (flags.stop, std::mem::take(&mut flags.at_once))
            };
            if stop {
                return;
            }
            if self.env.uptime().saturating_sub(named) >= named::PERIOD && self.keep_log_named_if_idle() {
                named = self.env.uptime();
            }
            self.mend_ailing();
            if at_once || self.checkpoint_is_due(last) {
                last = self.env.uptime();
                if self.checkpoint().is_err() {
                    // The cause is logged; the frozen overlay stays and the next round tries again.
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
        }
    }

    pub(super) fn checkpoint_is_due(&self, last: Duration) -> bool {
        if self.poison.get().is_some() {
            return false;
        }
        // What is frozen while somebody else is at it was not left by a failure.
        let Some(_idle) = try_lock(&self.db) else { return false };
        let (base, triggers) = (self.base.load(), self.triggers());
        let age = self.env.uptime().saturating_sub(last);
        base.frozen.is_some()
            || self.partitions.can_catch_up(self.env.uptime())
            || base.active.bytes() >= triggers.overlay_bytes
            || base.active.entries() as u64 >= triggers.replay_records_max()
            || self.stats.log_bytes.load(Ordering::Relaxed) - self.logged_before.load(Ordering::Relaxed)
                >= triggers.log_bytes
            || (age >= triggers.interval && !base.active.is_empty())
    }

    /// After a start: learns which rows the database holds, so that lookups of others need not ask it.
    fn learn_names(&self) {
        let db = lock(&self.db);
        let base = self.base.load();
        if base.names.is_none() {
            let names = learn_names(&base.db);
            let (active, frozen, reader) = (base.active.clone(), base.frozen.clone(), base.db.clone());
            self.base.store(Arc::new(Base { active, frozen, db: reader, names }));
        }
        self.learn_counts();
        drop(db);
    }

    /// Counts what there was at the start, while the base is still that of the start.
    fn learn_counts(&self) {
        if let Err(e) = self.counter.learn(&self.base.load(), self.began_at) {
            tracing::warn!(event = "not_counted", error = %e, "status does not know how many mailboxes there are");
        }
    }

    /// Has the checkpointer make a checkpoint now, whether or not one is due; returns before it is made.
    pub fn checkpoint_soon(&self) {
        lock(&self.checkpointer.flags).at_once = true;
        self.wake_checkpointer();
    }

    pub(crate) fn wake_checkpointer(&self) {
        lock(&self.checkpointer.flags).asked = true;
        self.checkpointer.wake.notify_one();
    }

    /// Ends [`Store::run_checkpointer`].
    pub fn stop_checkpointer(&self) {
        lock(&self.checkpointer.flags).stop = true;
        self.checkpointer.wake.notify_all();
    }
}

/// Which moment a database is of.
pub(super) fn applied(db: &DbReader) -> Applied {
    let meta = db.meta();
    Applied { epoch: meta.epoch, lsn: meta.applied_lsn }
}

/// The names of all rows of the database; `None` if they cannot all be read, which those who need one will hear of.
fn learn_names(reader: &DbReader) -> Option<Arc<Names>> {
    let rows = reader.meta().rows();
    let names = Names::sized(usize::try_from(rows).unwrap_or(usize::MAX).saturating_add(1 << 16));
    for table in Table::ALL {
        for row in reader.range(table, Bound::Unbounded, Bound::Unbounded).ok()? {
            names.note(table, row.ok()?.key());
        }
    }
    Some(Arc::new(names))
}
