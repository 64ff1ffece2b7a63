//! Commit: how a command becomes durable.
//!
//! # The order of durability
//! plan (everything that can be refused is refused here) -> append the group -> one sync -> publish -> answer.
//!
//! # Operation
//! Commands wait in a queue. Whoever holds the *planner* (one thread at a time) is the leader: it takes what waits, plans
//! each command on top of everything planned before, synced or not, and adds its record to the open group. As soon as
//! the *log side* is free the leader takes it, gives the planner away, writes the group, syncs once, publishes and
//! answers. So group n+1 is planned while group n is being synced, and a group is closed at the last possible moment.
//!
//! The leader is the calling thread itself when nobody else leads ([`Store::commit`]; a single client pays no thread
//! switch), else one of two committer threads ([`Store::run_committer`]).
//!
//! The planner inserts new row versions into the overlay at once, at their own LSN. Nobody sees them before that LSN is
//! published, and it is published only after the sync (I2).
//!
//! # Failure
//! A failed write or sync of the log poisons the store: no retry (after a failed sync the page cache may lie), every
//! waiting command gets the same error, reads go on at the last published LSN, the process is expected to exit.
//!
//! # Invariants
//! * I1 `checkpoint <= published <= synced <= appended`.
//! * I2 an answer "done" for LSN n needs a [`Synced`] token at or past n, which only the success path of a sync makes.
//! * Outside the leader the open group is empty: a group never waits for a leader.

use super::counts::Counts;
use super::hot::{Hot, HotUsers};
use super::ids::IdSource;
use super::plan::{self, PlanError};
use super::queue::{Pending, Slot, Waiter};
use super::record::{Record, apply, places, put_payload};
use super::recount::Recount;
use super::stats::add;
use super::view::View;
use super::{Phase, Store, Triggers};
use crate::error::StoreError;
use crate::lsn::{Lsn, Micros};
use crate::model::{Change, Command, Outcome, Refusal, Table};
use crate::wal::{Encoder, Kind, Piece, Synced, Writer};
use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

/// A command that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// LSN of its record; for a command that had nothing to change, the LSN up to which it looked.
    pub lsn: Lsn,
    /// What it did.
    pub outcome: Outcome,
}

/// A command that was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// It may not be; nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What it brings of messages does not hold any more; [`Store::commit`] has it read again.
    #[error("the messages have changed since they were read")]
    Stale,
    /// This quota root is to be counted before; [`Store::commit`] does.
    #[error("the quota root {} is to be counted first", crate::model::name::key_text(.0))]
    Uncounted(Vec<u8>),
    /// It could not be.
    #[error(transparent)]
    Failed(#[from] StoreError),
}

/// What comes back for a command.
pub type Answer = Result<Committed, CommitError>;

/// A planned command that waits for its group.
pub(super) struct Planned {
    pub(super) waiter: Waiter,
    pub(super) since: Duration,
    pub(super) answer: Answer,
    /// The command made a record.
    pub(super) recorded: bool,
}

/// Commands planned together and synced together.
#[derive(Default)]
pub(super) struct Group {
    pub(super) pieces: Vec<Piece>,
    pub(super) planned: Vec<Planned>,
    /// Keys and rows of users that were added or changed: their directories follow.
    pub(super) user_rows: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) counts: Counts,
    pub(super) last: Lsn,
    pub(super) records: u64,
    pub(super) payload_bytes: u64,
    pub(super) seals: u64,
}

/// What the leader owns.
pub(crate) struct Planner {
    /// `None` in a store that is held read-only.
    pub(crate) encoder: Option<Encoder>,
    reached: Lsn,
    pub(crate) ids: IdSource,
    users: RefCell<HotUsers>,
    /// The quota root that is being counted.
    pub(super) recount: Option<Recount>,
    pub(super) group: Group,
    /// The last record is a seal (or nothing was written in this run).
    pub(super) sealed: bool,
    scratch: Vec<u8>,
}

impl Planner {
    pub(crate) fn new(encoder: Option<Encoder>, reached: Lsn, ids: IdSource) -> Planner {
        let (users, recount, group, scratch) = Default::default();
        Planner { encoder, reached, ids, users, recount, group, sealed: true, scratch }
    }

    /// LSN of the last record planned.
    pub(crate) fn last_lsn(&self) -> Lsn {
        self.encoder.as_ref().map_or(self.reached, |e| Lsn(e.next_lsn().0 - 1))
    }
}

/// What the one who writes owns.
pub(crate) struct LogSide {
    /// `None` in a store that is held read-only, as is the proof.
    pub(crate) writer: Option<Writer>,
    /// Proof of what is durable; renewed by each sync.
    pub(crate) durable: Option<Synced>,
}

/// Longest pause of one group while a checkpoint catches up.
const BRAKE_MAX: Duration = Duration::from_millis(20);
/// How often what a command knows of messages is read again.
const STALE_MAX: usize = 16;
/// A group is closed for planning at this size even while the log side is busy.
pub(super) const GROUP_BYTES_MAX: u64 = 8 << 20;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(e)) => Some(e.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

impl Store {
    /// Does a command and returns when it is durable and visible. The calling thread does the work itself if nobody
    /// else is at it.
    ///
    /// # Errors
    /// Refused, or failed; after [`StoreError::Poisoned`] the command is undecided until a restart.
    pub fn commit(&self, command: Command) -> Answer {
        if !command.is_tried_again() {
            return self.commit_once(command);
        }
        // Held for as long as a root is followed; what is counted is nobody else's.
        let mut counting = None;
        let mut followed = None;
        for _ in 0..STALE_MAX {
            let answer = self.commit_once(self.prepare(command.clone())?);
            drop(followed.take());
            match answer {
                Err(CommitError::Stale) => {}
                Err(CommitError::Uncounted(root)) => {
                    counting.get_or_insert_with(|| lock(&self.counting));
                    followed = Some(self.count_aside(&root)?);
                }
                answer => return answer,
            }
        }
        Err(StoreError::Busy { why: "what it is about changes faster than it can be read".to_owned() }.into())
    }

    /// [`Store::commit`] of a command that knows what it has to know; [`CommitError::Stale`] if that does not hold any more.
    ///
    /// # Errors
    /// As there.
    pub fn commit_once(&self, command: Command) -> Answer {
        let slot = Arc::new(Slot::default());
        let pending = Pending { command, waiter: Waiter::Thread(slot.clone()), since: self.env.uptime() };
        if let Some(planner) = try_lock(&self.planner) {
            lock(&self.queue).pending.push(pending);
            self.lead(planner);
            self.wake_for_rest();
        } else {
            self.enqueue(pending)?;
        }
        slot.wait()
    }

    /// Queues a command, one that selects messages as [`Store::prepare`] made it; `done` is called from the thread that synced it, so it must be short and must not block.
    pub fn submit(&self, command: Command, done: Box<dyn FnOnce(Answer) + Send>) {
        let pending = Pending { command, waiter: Waiter::Callback(done), since: self.env.uptime() };
        if let Err(e) = self.enqueue(pending) {
            // The pending command was consumed with its waiter answered.
            tracing::debug!(event = "submit_refused", error = %e);
        }
    }

    fn enqueue(&self, pending: Pending) -> Result<(), CommitError> {
        let mut queue = lock(&self.queue);
        if queue.pending.len() >= self.options.queue_max {
            drop(queue);
            let why = format!("{} commands wait already", self.options.queue_max);
            pending.waiter.answer(Err(StoreError::Busy { why }.into()));
            return Ok(());
        }
        queue.pending.push(pending);
        // A leader that waits for the log is woken for a handful, not for each: it is woken for the rest in any case
        // when the log side is free.
        let leader = queue.call_leader();
        let idle = !queue.leader_waits && queue.call_idle();
        drop(queue);
        if leader {
            self.turn.notify_one();
        } else if idle {
            self.work.notify_one();
        }
        Ok(())
    }

    /// After a caller led: if commands came in meanwhile, a committer thread takes over.
    fn wake_for_rest(&self) {
        let mut queue = lock(&self.queue);
        if !queue.pending.is_empty() && queue.call_idle() {
            drop(queue);
            self.work.notify_one();
        }
    }

    /// Plans and writes until this thread has written one group. See the page.
    pub(super) fn lead(&self, mut planner: MutexGuard<'_, Planner>) {
        loop {
            let batch = {
                let mut queue = lock(&self.queue);
                if planner.group.payload_bytes < GROUP_BYTES_MAX { queue.take() } else { Vec::new() }
            };
            self.plan_batch(&mut planner, batch);
            if planner.group.planned.is_empty() && planner.group.pieces.is_empty() {
                return;
            }
            if self.gather(&planner.group) {
                continue;
            }
            if let Some(log) = self.log_side(&planner.group) {
                let group = std::mem::take(&mut planner.group);
                lock(&self.queue).close_group();
                drop(planner);
                return self.write(log, group);
            }
        }
    }

    /// The log side, as soon as it is free; `None` if more commands came that can join the open group meanwhile.
    fn log_side(&self, group: &Group) -> Option<MutexGuard<'_, LogSide>> {
        if let Some(log) = try_lock(&self.log) {
            return Some(log);
        }
        let mut queue = lock(&self.queue);
        while queue.syncing && (!queue.is_enough() || group.payload_bytes >= GROUP_BYTES_MAX) {
            (queue.leader_waits, queue.leader_sleeps) = (true, true);
            queue = self.turn.wait(queue).unwrap_or_else(std::sync::PoisonError::into_inner);
            (queue.leader_waits, queue.leader_sleeps) = (false, false);
        }
        // What came meanwhile joins the group, if it has room; the log side stays free, because only leaders take it.
        let join = !queue.pending.is_empty() && group.payload_bytes < GROUP_BYTES_MAX;
        let busy = queue.syncing;
        drop(queue);
        // Not syncing: if it is held at all, then for a moment only.
        (!busy && !join).then(|| lock(&self.log))
    }

    fn plan_batch(&self, planner: &mut Planner, batch: Vec<Pending>) {
        if batch.is_empty() {
            return;
        }
        self.poison_if_a_leader_died();
        let begun = self.env.uptime();
        add(&self.stats.begun, batch.len() as u64);
        // Everything planned so far, synced or not; the base cannot be frozen meanwhile (that needs the planner).
        let view = View { base: self.base.load_full(), at: Lsn(u64::MAX) };
        let mut batch = batch.into_iter();
        for Pending { command, waiter, since } in batch.by_ref() {
            let records = planner.group.records;
            let answer = self.plan_one(planner, &view, &command);
            let recorded = planner.group.records > records;
            planner.group.planned.push(Planned { waiter, since, answer, recorded });
        }
        self.stats.plan.record(self.env.uptime().saturating_sub(begun));
        self.brake();
    }

    /// Slows commits while changes come faster than a checkpoint writes them: the nearer the overlay is to its hard
    /// limit, the longer each group waits, at most [`BRAKE_MAX`].
    fn brake(&self) {
        let base = self.base.load();
        let Triggers { overlay_bytes: soft, overlay_bytes_max: hard, .. } = self.triggers();
        let over = base.active.bytes().saturating_sub(soft);
        if over > 0 && base.frozen.is_some() {
            let room = hard.saturating_sub(soft).max(1);
            std::thread::sleep(BRAKE_MAX.mul_f64((over as f64 / room as f64).min(1.0)));
        }
    }

    fn plan_one(&self, planner: &mut Planner, view: &View, command: &Command) -> Answer {
        self.may_write()?;
        let now = self.env.now();
        let hot = Hot { view, users: &planner.users, recount: planner.recount.as_ref() };
        let planned = match plan::plan_with(&self.policy(), command, &hot, &mut planner.ids, now) {
            Ok(planned) => planned,
            Err(PlanError::Refused(refusal)) => {
                add(&self.stats.refused, 1);
                return Err(refusal.into());
            }
            Err(PlanError::Stale) => return Err(CommitError::Stale),
            Err(PlanError::Uncounted { root }) => return Err(CommitError::Uncounted(root)),
            Err(PlanError::Failed(e)) => {
                add(&self.stats.aborted, 1);
                self.poison_if_control_failed();
                return Err(e.into());
            }
        };
        if planned.changes.is_empty() {
            add(&self.stats.unchanged, 1);
            return Ok(Committed { lsn: planner.last_lsn(), outcome: planned.outcome });
        }
        planner.scratch.clear();
        let kind = put_payload(&planned, &mut planner.scratch)?;
        let durable = Lsn(self.synced.load(Ordering::Acquire));
        let Planner { encoder, group, scratch, .. } = &mut *planner;
        let lsn = self.encode(encoder, kind, scratch, now, durable, &mut group.pieces)?;
        let record = Record { lsn, epoch: self.epoch, bodies: places(encoder.as_ref(), kind, scratch)? };
        if let Some(recount) = &mut planner.recount {
            recount.follow(&planned.changes, view, lsn);
        }
        for change in &planned.changes {
            apply(&view.base.active, change, &record)?;
            planner.users.get_mut().follow(change);
            if let Change::Put { table: Table::Users, key, row } = change {
                planner.group.user_rows.push((key.to_vec(), row.to_vec()));
            }
        }
        planner.users.get_mut().count(&planned.come);
        let group = &mut planner.group;
        group.counts += planned.counts;
        group.last = lsn;
        group.records += 1;
        group.payload_bytes += planner.scratch.len() as u64;
        planner.sealed = false;
        self.appended.store(lsn.0, Ordering::Release);
        Ok(Committed { lsn, outcome: planned.outcome })
    }

    /// Encodes one record. An append never meets a full disk: the segment that a record may roll into is promised
    /// before the record is encoded, and that promise is where a full disk refuses the command.
    pub(super) fn encode(
        &self,
        encoder: &mut Option<Encoder>,
        kind: Kind,
        payload: &[u8],
        now: Micros,
        durable: Lsn,
        pieces: &mut Vec<Piece>,
    ) -> Result<Lsn, StoreError> {
        let (Some(encoder), Some(running)) = (encoder, &self.running) else {
            return Err(StoreError::Bug("a record for a store that is read-only".to_owned()));
        };
        let rolls = encoder.would_roll(payload.len());
        if rolls {
            running.spares.reserve()?;
        }
        encoder.push(kind, payload, now, durable, pieces).inspect_err(|_| {
            if rolls {
                running.spares.unreserve();
            }
        })
    }

    /// A leader that panicked may have encoded a record whose rows are not in the overlay, or written half a group: memory
    /// and log may differ, and only a restart finds out.
    pub(super) fn poison_if_a_leader_died(&self) {
        if self.planner.is_poisoned() || self.log.is_poisoned() {
            let cause = "a thread that committed has panicked".to_owned();
            if self.poison.set(StoreError::Poisoned { cause: cause.clone() }).is_ok() {
                tracing::error!(event = "log_failed", error = cause, "no more changes until a restart");
            }
        }
    }

    /// Whether a change may be planned now; the reason if not.
    fn may_write(&self) -> Result<(), StoreError> {
        match self.phase() {
            Phase::Ready => {}
            Phase::Poisoned => return Err(self.poison_error()),
            Phase::ReadOnly(why) => return Err(StoreError::Busy { why: format!("the store is read-only: {why}") }),
        }
        if self.base.load().active.bytes() >= self.triggers().overlay_bytes_max {
            self.wake_checkpointer();
            return Err(StoreError::Busy { why: "changes come faster than the checkpoint writes them".to_owned() });
        }
        Ok(())
    }
}
