//! Long-running work: every piece of it is a job that can be seen, followed and cancelled, and that goes on when the client
//! that asked for it goes away.
//!
//! # Operation
//! ```text
//! let id = jobs.start(Kind::new("drill", None), asker, |ctx| {
//!     for (n, item) in work.enumerate() {
//!         ctx.progress(n, Some(total), "files", item);          // cheap: as often as you like
//!         if ctx.cancelled() {                                  // often: it is also where a freeze makes the job wait
//!             return Err(...);                                  // after tidying up; what is told is that it was cancelled
//!         }
//!     }
//!     Ok(reply)
//! })?;
//! jobs.watch(id, Box::new(|job, end| ...));                     // told of its progress, and once of its end
//! ```
//! A job has a thread of its own. So many run at a time beside those of the background, and one in each [`Kind::lane`]; others wait, and where too many wait
//! the next is refused. [`Jobs::run`] does work that is a job, too, on the thread that asks. What it ends with is kept, for a
//! bounded number of jobs and a bounded time. What a client does itself is a job as well ([`Jobs::attend`]). Which jobs run is noted in a small file, so that the start after a crash can say
//! what was cut off.
//!
//! # Invariants
//! * A job ends once, and whoever watches it is told once, whatever happens: also when its work panics.
//! * While somebody holds a [`Pause`] every job that runs here is inside [`Context::cancelled`], and none begins.
//! * Nothing waits for a job under the lock.

mod attended;
mod context;
mod job;
mod record;
mod run;
#[cfg(test)]
mod tests;

pub use context::{Context, Progress};
pub use job::{Asker, Cut, Job, Kind, Limits, Refused, State, Unknown};

use crate::disk::Disk;
use crate::env::Env;
use attended::Attended;
use context::{Control, Gate};
use record::Record;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

/// What jobs end with: something that can be told more than once.
pub trait End: Clone + Send + Sync + 'static {}
impl<T: Clone + Send + Sync + 'static> End for T {}

/// Told how a job is, at most a few times a second, and once with its end; must return at once. False: not any more.
pub type Watcher<R, E> = Box<dyn FnMut(&Job, Option<&Result<R, E>>) -> bool + Send>;

type Work<R, E> = Box<dyn FnOnce(&Context) -> Result<R, E> + Send>;

/// What begins a job whose turn has come.
enum Begin<R, E> {
    /// A thread for this work.
    Spawn(Work<R, E>),
    /// The thread that waits for it.
    Here,
}

struct Entry<R, E> {
    kind: Kind,
    job: Job,
    begin: Option<Begin<R, E>>,
    /// When it began to work, by the monotone clock.
    began: Duration,
    control: Arc<Control>,
    watchers: Vec<Watcher<R, E>>,
    end: Option<Result<R, E>>,
    /// Who works on it, if that is a client.
    attended: Option<Attended>,
}

struct Table<R, E> {
    next: u64,
    jobs: BTreeMap<u64, Entry<R, E>>,
    waiting: VecDeque<u64>,
    stopping: bool,
}

struct Inner<R, E> {
    env: Arc<dyn Env>,
    limits: RwLock<Limits>,
    table: Mutex<Table<R, E>>,
    /// A job has begun or ended.
    changed: Condvar,
    gate: Arc<Gate>,
    record: Mutex<Record>,
}

/// The jobs of a daemon. `R` and `E` are what they end with.
pub struct Jobs<R: End, E: End>(Arc<Inner<R, E>>);

impl<R: End, E: End> Clone for Jobs<R, E> {
    fn clone(&self) -> Self {
        Jobs(self.0.clone())
    }
}

impl<R: End, E: End> std::fmt::Debug for Jobs<R, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs").finish_non_exhaustive()
    }
}

/// While it lives no job works.
#[derive(Debug)]
pub struct Pause(Arc<Gate>, Arc<dyn Wake>);

/// Begins what has waited.
trait Wake: Send + Sync {
    fn wake(&self);
}

impl std::fmt::Debug for dyn Wake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wake")
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        self.0.open();
        self.1.wake();
    }
}

impl<R: End, E: End + From<Cut> + std::fmt::Display> Wake for Jobs<R, E> {
    fn wake(&self) {
        self.schedule();
    }
}

impl<R: End, E: End + From<Cut> + std::fmt::Display> Jobs<R, E> {
    /// No jobs yet.
    #[must_use]
    pub fn new(env: Arc<dyn Env>) -> Jobs<R, E> {
        let table = Table { next: 1, jobs: BTreeMap::new(), waiting: VecDeque::new(), stopping: false };
        Jobs(Arc::new(Inner {
            env,
            limits: RwLock::default(),
            table: Mutex::new(table),
            changed: Condvar::new(),
            gate: Arc::default(),
            record: Mutex::default(),
        }))
    }

    /// Puts other limits into effect.
    pub fn set_limits(&self, limits: Limits) {
        *self.0.limits.write().unwrap_or_else(PoisonError::into_inner) = limits;
        self.schedule();
    }

    /// Notes in `disk` from now on which jobs run; says which ran when the daemon ended before, and did not end. Numbers go on
    /// from there.
    pub fn remember_in(&self, disk: Arc<dyn Disk>) {
        let (record, before) = Record::open(disk);
        let now = self.0.env.now();
        let mut table = self.table();
        table.next = table.next.max(before.next);
        for gone in before.running {
            let (id, verb) = (gone.id, gone.verb);
            tracing::warn!(event = "job_gone", id, verb, pid = gone.asker.pid, uid = gone.asker.uid, "it was cut off");
            let job =
                Job { state: State::Gone, ended: Some(now), ..Job::asked(id, verb.clone(), gone.asker, gone.asked) };
            let end = Some(Err(E::from(Cut::Gone { id, verb })));
            let kind = Kind::new("", None);
            let (control, watchers, began) = (Arc::default(), Vec::new(), Duration::ZERO);
            table.jobs.insert(id, Entry { kind, job, begin: None, began, control, watchers, end, attended: None });
        }
        drop(table);
        *self.0.record.lock().unwrap_or_else(PoisonError::into_inner) = record;
        self.note();
    }

    /// Begins a job, or has it wait for its turn; gives its number.
    ///
    /// # Errors
    /// Too many wait, or the daemon stops.
    pub fn start(
        &self,
        kind: Kind,
        asker: Asker,
        work: impl FnOnce(&Context) -> Result<R, E> + Send + 'static,
    ) -> Result<u64, Refused> {
        let id = self.enter(kind, asker, Begin::Spawn(Box::new(work)))?;
        self.schedule();
        Ok(id)
    }

    /// Does work that is a job on this thread, as soon as it is its turn.
    ///
    /// # Errors
    /// Those of the work; it was refused, cancelled or panicked.
    pub fn run(&self, kind: Kind, asker: Asker, work: impl FnOnce(&Context) -> Result<R, E>) -> Result<R, E> {
        let id = self.enter(kind, asker, Begin::Here).map_err(Cut::Refused)?;
        self.schedule();
        let mut table = self.table();
        loop {
            match table.jobs.get(&id).map(|entry| (entry.job.state, &entry.end)) {
                Some((State::Waiting, _)) => {
                    table = self.0.changed.wait(table).unwrap_or_else(PoisonError::into_inner);
                }
                Some((_, None)) => break,
                // Cancelled while it waited.
                Some((_, Some(end))) => return end.clone(),
                None => return Err(Cut::Cancelled { id, verb: kind.verb.to_owned() }.into()),
            }
        }
        drop(table);
        self.work(id, work)
    }

    fn enter(&self, kind: Kind, asker: Asker, begin: Begin<R, E>) -> Result<u64, Refused> {
        let limits = self.limits();
        let mut table = self.table();
        if table.stopping {
            return Err(Refused::Stopping);
        }
        if table.waiting.len() >= limits.waiting && !kind.is_background {
            return Err(Refused::Full { waiting: table.waiting.len() });
        }
        let id = table.next;
        table.next += 1;
        let job = Job::asked(id, kind.verb.to_owned(), asker, self.0.env.now());
        let (control, watchers, began) = (Arc::default(), Vec::new(), Duration::ZERO);
        let begin = Some(begin);
        table.jobs.insert(id, Entry { kind, job, begin, began, control, watchers, end: None, attended: None });
        table.waiting.push_back(id);
        Ok(id)
    }

    /// Has `watcher` told how the job goes on; at once how it is, or how it ended.
    ///
    /// # Errors
    /// There is no such job.
    pub fn watch(&self, id: u64, mut watcher: Watcher<R, E>) -> Result<(), Unknown> {
        let mut table = self.table();
        let entry = table.jobs.get_mut(&id).ok_or(Unknown(id))?;
        self.look(entry);
        let (job, end) = (entry.job.clone(), entry.end.clone());
        // Under the lock: an end that comes now must find it. A watcher returns at once and asks nothing here.
        if watcher(&job, end.as_ref()) && end.is_none() {
            entry.watchers.push(watcher);
        }
        Ok(())
    }

    /// Every job that is known, in the order in which they were asked for.
    #[must_use]
    pub fn list(&self) -> Vec<Job> {
        self.forget();
        let mut table = self.table();
        table.jobs.values_mut().for_each(|entry| self.look(entry));
        table.jobs.values().map(|entry| entry.job.clone()).collect()
    }

    /// One job.
    ///
    /// # Errors
    /// There is no such job.
    pub fn get(&self, id: u64) -> Result<Job, Unknown> {
        let mut table = self.table();
        let entry = table.jobs.get_mut(&id).ok_or(Unknown(id))?;
        self.look(entry);
        Ok(entry.job.clone())
    }

    /// What a job ended with; `None` while it has not.
    ///
    /// # Errors
    /// There is no such job.
    pub fn outcome(&self, id: u64) -> Result<Option<Result<R, E>>, Unknown> {
        self.table().jobs.get(&id).map(|entry| entry.end.clone()).ok_or(Unknown(id))
    }

    /// Has a job end as soon as it can; one that waits ends at once. Gives how it is then; one that is over stays as it is.
    ///
    /// # Errors
    /// There is no such job.
    pub fn cancel(&self, id: u64) -> Result<Job, Unknown> {
        let mut table = self.table();
        let entry = table.jobs.get_mut(&id).ok_or(Unknown(id))?;
        if entry.job.state.is_over() {
            return Ok(entry.job.clone());
        }
        entry.control.cancel();
        if entry.job.state == State::Waiting {
            let verb = entry.job.verb.clone();
            let ended = self.close(&mut table, id, Err(Cut::Cancelled { id, verb }.into()));
            drop(table);
            ended.into_iter().for_each(|ended| drop(self.after(ended)));
        } else {
            entry.job.state = State::Ending;
            drop(table);
            self.tell(id);
        }
        self.get(id)
    }

    /// Has every job wait at its next [`Context::cancelled`], and none begin, until what this gives is dropped. Comes back
    /// when all wait.
    ///
    /// # Errors
    /// The first job that did not get there within `limit`; then all go on.
    pub fn pause(&self, limit: Duration) -> Result<Pause, Box<Job>> {
        self.0.gate.close();
        let pause = Pause(self.0.gate.clone(), Arc::new(self.clone()));
        let begun = self.0.env.uptime();
        loop {
            let Some(busy) = self.at_work() else { return Ok(pause) };
            if self.0.env.uptime().saturating_sub(begun) >= limit {
                return Err(Box::new(busy));
            }
            self.0.gate.wait();
        }
    }

    /// A job that works here and does not rest at the gate.
    fn at_work(&self) -> Option<Job> {
        let mut table = self.table();
        let is = |entry: &&mut Entry<R, E>| {
            [State::Running, State::Ending].contains(&entry.job.state)
                && entry.attended.is_none()
                && !self.0.gate.rests(entry.job.id)
        };
        let busy = table.jobs.values_mut().find(is)?;
        self.look(busy);
        Some(busy.job.clone())
    }

    /// How many are at work or wait, those of the background left out.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        let waited_for = |entry: &&Entry<R, E>| !entry.job.state.is_over() && !entry.kind.is_background;
        self.table().jobs.values().filter(waited_for).count()
    }

    /// Begins no more jobs and has those that there are end.
    pub fn stop(&self) {
        let open: Vec<u64> = {
            let mut table = self.table();
            table.stopping = true;
            table.jobs.values().filter(|entry| !entry.job.state.is_over()).map(|entry| entry.job.id).collect()
        };
        open.into_iter().for_each(|id| drop(self.cancel(id)));
        self.stop_attended();
    }

    /// Waits until all have ended, after [`Jobs::stop`]; says which have not within `limit`, and gives false then.
    #[must_use]
    pub fn join(&self, limit: Duration) -> bool {
        let begun = self.0.env.uptime();
        let mut table = self.table();
        loop {
            let left: Vec<&Job> = table.jobs.values().map(|entry| &entry.job).filter(|j| !j.state.is_over()).collect();
            let passed = self.0.env.uptime().saturating_sub(begun);
            if left.is_empty() || passed >= limit {
                for job in &left {
                    tracing::warn!(event = "job_left", id = job.id, verb = job.verb, "it does not end; it is cut off");
                }
                let all = left.is_empty();
                drop(table);
                if all {
                    // Their threads may still be about to.
                    self.note();
                }
                return all;
            }
            (table, _) = self.0.changed.wait_timeout(table, limit - passed).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn limits(&self) -> Limits {
        *self.0.limits.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn table(&self) -> MutexGuard<'_, Table<R, E>> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
