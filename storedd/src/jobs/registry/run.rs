//! The life of a job behind the verbs: begun when it is its turn, told of, ended, forgotten.

use super::{Begin, Context, Cut, End, Entry, Job, Jobs, Kind, State, Table, Watcher, Work, record};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// A job that has just ended.
pub(super) struct Ended<R, E> {
    job: Job,
    watchers: Vec<Watcher<R, E>>,
    end: Result<R, E>,
}

impl<R: End, E: End + From<Cut> + std::fmt::Display> Jobs<R, E> {
    /// Begins whatever may begin.
    pub(super) fn schedule(&self) {
        while let Some((id, work)) = self.begin_next() {
            if let Some(work) = work {
                self.spawn(id, work);
            } else {
                self.0.changed.notify_all();
            }
        }
    }

    /// The next job that may begin; it runs from now on.
    fn begin_next(&self) -> Option<(u64, Option<Work<R, E>>)> {
        let limits = self.limits();
        let mut table = self.table();
        let here = |entry: &&Entry<R, E>| {
            entry.attended.is_none() && [State::Running, State::Ending].contains(&entry.job.state)
        };
        let running = || table.jobs.values().filter(here);
        if self.0.gate.is_closed() {
            return None;
        }
        let is_room = running().filter(|entry| !entry.kind.is_background).count() < limits.running.max(1);
        let free = |lane: Option<&str>| lane.is_none() || running().all(|entry| entry.kind.lane != lane);
        let may = |kind: Kind| (is_room || kind.is_background) && free(kind.lane);
        let at = table.waiting.iter().position(|id| table.jobs.get(id).is_some_and(|entry| may(entry.kind)))?;
        let id = table.waiting.remove(at)?;
        let entry = table.jobs.get_mut(&id)?;
        entry.job.state = State::Running;
        entry.began = self.0.env.uptime();
        let work = match entry.begin.take() {
            Some(Begin::Spawn(work)) => Some(work),
            _ => None,
        };
        let Job { verb, asker, .. } = &entry.job;
        tracing::info!(event = "job_begun", id, verb, pid = asker.pid, uid = asker.uid, client = asker.client);
        Some((id, work))
    }

    fn spawn(&self, id: u64, work: Work<R, E>) {
        let jobs = self.clone();
        let spawned = std::thread::Builder::new().name(format!("job-{id}")).spawn(move || drop(jobs.work(id, work)));
        if let Err(e) = spawned {
            let verb = self.get(id).map(|job| job.verb).unwrap_or_default();
            drop(self.end(id, Err(Cut::NoThread { id, verb, text: e.to_string() }.into())));
        }
    }

    /// Works, and notes beginning and end, both on this thread: the disk of the note may not answer, which costs nobody else.
    pub(super) fn work(&self, id: u64, work: impl FnOnce(&Context) -> Result<R, E>) -> Result<R, E> {
        let (control, verb) = match self.table().jobs.get(&id) {
            Some(entry) => (entry.control.clone(), entry.job.verb.clone()),
            None => (Arc::default(), String::new()),
        };
        self.note();
        let jobs = self.clone();
        let context = Context::new(id, control, self.0.gate.clone(), self.0.env.clone(), move || jobs.tell(id));
        let end = catch_unwind(AssertUnwindSafe(|| work(&context)));
        let end = end.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().copied();
            let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text");
            tracing::error!(event = "job_panicked", id, verb, panic = text);
            Err(Cut::Panicked { id, verb: verb.clone(), text: text.to_owned() }.into())
        });
        let end = self.end(id, end);
        self.note();
        end
    }

    /// Notes the end of a job and tells those who watch; gives what is told.
    pub(super) fn end(&self, id: u64, end: Result<R, E>) -> Result<R, E> {
        let mut table = self.table();
        let Some(ended) = self.close(&mut table, id, end.clone()) else { return end };
        drop(table);
        self.after(ended)
    }

    /// Notes the end of a job that has not ended yet.
    pub(super) fn close(&self, table: &mut Table<R, E>, id: u64, end: Result<R, E>) -> Option<Ended<R, E>> {
        let entry = table.jobs.get_mut(&id).filter(|entry| !entry.job.state.is_over())?;
        self.look(entry);
        let (state, end) = match end {
            Ok(reply) => (State::Done, Ok(reply)),
            Err(_) if entry.control.is_cancelled() => {
                let verb = entry.job.verb.clone();
                (State::Cancelled, Err(Cut::Cancelled { id, verb }.into()))
            }
            Err(e) => (State::Failed, Err(e)),
        };
        (entry.job.state, entry.job.paused) = (state, false);
        entry.job.ended = Some(self.0.env.now());
        entry.end = Some(end.clone());
        let (job, watchers) = (entry.job.clone(), std::mem::take(&mut entry.watchers));
        table.waiting.retain(|waiting| *waiting != id);
        Some(Ended { job, watchers, end })
    }

    /// What follows the end of a job, without the lock.
    pub(super) fn after(&self, Ended { job, watchers, end }: Ended<R, E>) -> Result<R, E> {
        let Job { id, verb, state, .. } = &job;
        let (word, seconds) = (state.word(), job.lasted.as_secs_f64());
        match &end {
            Err(e) if *state == State::Failed => {
                tracing::error!(event = "job_ended", id, verb, state = word, seconds, error = %e);
            }
            _ => tracing::info!(event = "job_ended", id, verb, state = word, seconds),
        }
        for mut watcher in watchers {
            watcher(&job, Some(&end));
        }
        self.forget();
        self.0.changed.notify_all();
        self.schedule();
        end
    }

    /// Tells those who watch how far a job is.
    pub(super) fn tell(&self, id: u64) {
        let mut table = self.table();
        let Some(entry) = table.jobs.get_mut(&id) else { return };
        self.look(entry);
        let (job, mut watchers) = (entry.job.clone(), std::mem::take(&mut entry.watchers));
        drop(table);
        watchers.retain_mut(|watcher| watcher(&job, None));
        let mut table = self.table();
        let Some(entry) = table.jobs.get_mut(&id) else { return };
        match entry.end.clone() {
            None => entry.watchers.append(&mut watchers),
            // It was ended by another thread meanwhile, which did not see these.
            Some(end) => {
                let job = entry.job.clone();
                drop(table);
                for mut watcher in watchers {
                    watcher(&job, Some(&end));
                }
            }
        }
    }

    /// Brings what is known of a job up to date.
    pub(super) fn look(&self, entry: &mut Entry<R, E>) {
        if entry.job.state.is_over() {
            return;
        }
        entry.job.progress = entry.control.progress();
        entry.job.paused = self.0.gate.is_closed();
        if entry.job.state != State::Waiting {
            entry.job.lasted = self.0.env.uptime().saturating_sub(entry.began);
        }
    }

    /// Forgets the oldest that are over, where there are more than is kept or they are too old.
    pub(super) fn forget(&self) {
        let (limits, now) = (self.limits(), self.0.env.now());
        let mut table = self.table();
        let is_old = |job: &Job| {
            job.ended.is_some_and(|ended| Duration::from_micros(now.0.saturating_sub(ended.0)) > limits.kept_for)
        };
        let over: Vec<(u64, bool)> =
            table.jobs.values().map(|e| &e.job).filter(|j| j.state.is_over()).map(|j| (j.id, is_old(j))).collect();
        let too_many = over.len().saturating_sub(limits.kept);
        for (n, (id, old)) in over.into_iter().enumerate() {
            if n < too_many || old {
                table.jobs.remove(&id);
            }
        }
    }

    /// Notes which jobs run. May wait for the disk.
    pub(super) fn note(&self) {
        // Held while it is written, so that the file never goes back to an older text.
        let mut record = self.0.record.lock().unwrap_or_else(PoisonError::into_inner);
        let table = self.table();
        let running = table.jobs.values().map(|entry| &entry.job);
        let running = running.filter(|job| !job.state.is_over() && job.state != State::Waiting);
        let text = record::text(table.next, running);
        drop(table);
        record.write(&text);
    }
}
