//! A group on its way to disk: append, one sync, publish, answer; or the failure of all of it.

use super::Store;
use super::commit::{Group, LogSide, Planned, lock};
use super::stats::add;
use crate::error::StoreError;
use crate::lsn::Lsn;
use crate::wal::Synced;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

impl Store {
    /// Writes a group: append, sync, publish, answer. The one function whose order is the promise of the product.
    pub(super) fn write(&self, mut log: MutexGuard<'_, LogSide>, mut group: Group) {
        if crate::planted::on(crate::planted::Bug::AckBeforeSync) {
            for planned in group.planned.drain(..) {
                planned.waiter.answer(planned.answer);
            }
        }
        let failed = self.append_and_sync(&mut log, &group).err();
        if failed.is_none() && group.records > 0 {
            let synced = log.durable.map_or(Lsn::ZERO, Synced::lsn);
            self.synced.store(synced.0, Ordering::Release);
            // IMPORTANT: published only after the sync; readers see nothing that could still be lost (I2).
            self.counter.add(group.counts);
            self.published.store(group.last.0.max(self.published.load(Ordering::Acquire)), Ordering::Release);
        }
        let durable = log.durable;
        let leader = {
            let mut queue = lock(&self.queue);
            (queue.syncing, queue.at_work) = (false, None);
            if group.records > 0 {
                let was = std::mem::replace(&mut queue.unsealed, group.records > group.seals);
                if queue.unsealed && !was && queue.call_idle() {
                    // Somebody has to look at the clock from now on.
                    self.work.notify_one();
                }
            }
            std::mem::take(&mut queue.leader_sleeps)
        };
        // The next leader may take the log side from here on; not before `syncing` says so, or it would be cleared for him.
        drop(log);
        if leader {
            self.turn.notify_one();
        }
        match failed {
            None => {
                self.partitions_follow(&group.user_rows);
                self.answer(group.planned, durable);
            }
            Some(cause) => self.fail(group.planned, &cause),
        }
    }

    fn append_and_sync(&self, log: &mut LogSide, group: &Group) -> Result<(), StoreError> {
        if group.pieces.is_empty() {
            return self.poison.get().map_or(Ok(()), |e| Err(e.clone()));
        }
        if let Some(e) = self.poison.get() {
            return Err(e.clone());
        }
        let begun = self.env.uptime();
        let Some(writer) = &mut log.writer else {
            return Err(StoreError::Bug("a group for a log that is read-only".to_owned()));
        };
        let result = writer.write(&group.pieces).and_then(|()| writer.sync());
        match result {
            Ok(token) => {
                log.durable = Some(token);
                debug_assert_eq!(token.lsn(), group.last, "a sync covers the whole group");
                self.stats.sync.record(self.env.uptime().saturating_sub(begun));
                self.stats.count_group(group.records - group.seals);
                add(&self.stats.seals, group.seals);
                add(&self.stats.log_bytes, group.pieces.iter().map(|p| p.bytes.len() as u64).sum());
                add(&self.stats.log_payload_bytes, group.payload_bytes);
                Ok(())
            }
            Err(e) => {
                let cause = match e {
                    StoreError::Poisoned { .. } => e.clone(),
                    _ => StoreError::Poisoned { cause: e.to_string() },
                };
                let _ = self.poison.set(cause.clone());
                tracing::error!(event = "log_failed", error = %e, "the log failed; no more changes until a restart");
                Err(cause)
            }
        }
    }

    /// Sends the answers of a group. The token is the proof that everything they say is durable.
    fn answer(&self, planned: Vec<Planned>, durable: Option<Synced>) {
        let now = self.env.uptime();
        let mut committed = 0;
        add(&self.stats.answered, planned.len() as u64);
        for Planned { waiter, since, answer, recorded } in planned {
            if let Ok(done) = &answer {
                assert!(durable.is_some_and(|d| done.lsn <= d.lsn()), "I2: an answer needs its record synced");
                committed += u64::from(recorded);
                self.stats.commit.record(now.saturating_sub(since));
            }
            waiter.answer(answer);
        }
        add(&self.stats.committed, committed);
    }

    fn fail(&self, planned: Vec<Planned>, cause: &StoreError) {
        add(&self.stats.aborted, planned.len() as u64);
        add(&self.stats.answered, planned.len() as u64);
        for Planned { waiter, .. } in planned {
            // Undecided, refusals too: they may rest on a change planned before them that is lost now.
            waiter.answer(Err(cause.clone().into()));
        }
    }
}
