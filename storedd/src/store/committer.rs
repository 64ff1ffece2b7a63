//! The committer threads: they lead when commands wait and nobody else does, and seal the log when it rests.

use super::Store;
use super::commit::{Planner, lock, try_lock};
use super::queue::Queue;
use crate::error::StoreError;
use crate::lsn::Lsn;
use crate::wal::{Kind, Synced};
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

impl Store {
    /// Writes a seal if the log rests unsealed: it states that everything before it is durable, so that later damage
    /// there cannot be taken for a torn tail. True if it wrote one.
    ///
    /// # Errors
    /// If the log is poisoned or its disk is full.
    pub fn seal(&self) -> Result<bool, StoreError> {
        let mut planner = lock(&self.planner);
        if planner.sealed || self.poison.get().is_some() {
            return Ok(false);
        }
        let log = lock(&self.log);
        let durable = log.durable.map_or(Lsn::ZERO, Synced::lsn);
        let Planner { encoder, group, .. } = &mut *planner;
        let lsn = self.encode(encoder, Kind::Seal, &[], self.env.now(), durable, &mut group.pieces)?;
        group.last = lsn;
        group.records += 1;
        group.seals += 1;
        planner.sealed = true;
        self.appended.store(lsn.0, Ordering::Release);
        lock(&self.queue).close_group();
        let group = std::mem::take(&mut planner.group);
        drop(planner);
        self.write(log, group);
        if let Some(e) = self.poison.get() {
            return Err(e.clone());
        }
        // Beside the log, too: an older copy of the last segment, put back in its place, looks whole.
        let durable = Lsn(self.synced.load(Ordering::Acquire));
        let noted = self.control.note(|state| state.durable_lsn = state.durable_lsn.max(durable));
        noted.inspect_err(|_| self.poison_if_control_failed())?;
        Ok(true)
    }

    /// A committer thread: leads whenever commands wait and nobody else does, seals when the log rests. Two of them
    /// keep the pipeline full. Returns after [`Store::stop_committers`].
    pub fn run_committer(&self) {
        let mut queue = lock(&self.queue);
        loop {
            if queue.stop {
                return;
            }
            if queue.pending.is_empty() || queue.leader_waits {
                queue.idle += 1;
                let timed_out;
                (queue, timed_out) = self.wait_for_work(queue);
                queue.idle -= 1;
                queue.called = queue.called.saturating_sub(1);
                if timed_out && queue.pending.is_empty() && !queue.syncing {
                    drop(queue);
                    if let Err(e) = self.seal_if_resting() {
                        tracing::debug!(event = "seal_refused", error = %e);
                    }
                    queue = lock(&self.queue);
                }
                continue;
            }
            drop(queue);
            self.lead(lock(&self.planner));
            queue = lock(&self.queue);
        }
    }

    /// Waits for a signal, and no longer than the seal may be put off; true if that time passed.
    fn wait_for_work<'q>(&self, queue: MutexGuard<'q, Queue>) -> (MutexGuard<'q, Queue>, bool) {
        if queue.unsealed {
            let waited = self.work.wait_timeout(queue, self.options.seal_idle);
            let (queue, timeout) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
            (queue, timeout.timed_out())
        } else {
            (self.work.wait(queue).unwrap_or_else(std::sync::PoisonError::into_inner), false)
        }
    }

    fn seal_if_resting(&self) -> Result<bool, StoreError> {
        // Not worth waiting for: if somebody plans, the log does not rest.
        match try_lock(&self.planner) {
            Some(planner) if !planner.sealed => drop(planner),
            _ => return Ok(false),
        }
        self.seal()
    }

    /// Ends [`Store::run_committer`]; commands that wait are done by the next leader, see [`Store::drain`].
    pub fn stop_committers(&self) {
        lock(&self.queue).stop = true;
        self.work.notify_all();
        self.turn.notify_all();
    }

    /// Does everything that waits.
    pub fn drain(&self) {
        while !lock(&self.queue).pending.is_empty() {
            self.lead(lock(&self.planner));
        }
        drop(lock(&self.log));
    }

    /// Commands that wait to be planned.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        lock(&self.queue).pending.len()
    }
}
