//! What the work of a job sees of the registry: how to say how far it is, whether to go on, when to wait.

use crate::env::Env;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Those who watch a job are told of its progress so often at the most.
const TELL: Duration = Duration::from_millis(200);
/// Longest sleep before a look at whether to go on.
const STEP: Duration = Duration::from_millis(100);

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// Pieces done.
    pub done: u64,
    /// All pieces, if that is known.
    pub total: Option<u64>,
    /// What a piece is: `rows`, `bytes`, `files`.
    pub unit: &'static str,
    /// What is worked on.
    pub item: String,
}

/// The registry's end of a job.
#[derive(Debug, Default)]
pub(super) struct Control {
    cancelled: AtomicBool,
    progress: Mutex<Progress>,
}

impl Control {
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// So many of `total` pieces are done, and `item` is worked on; `unit`: what a piece is, if that is not known yet.
    pub(super) fn advance(&self, done: u64, total: Option<u64>, unit: Option<&'static str>, item: &str) {
        let mut progress = lock(&self.progress);
        (progress.done, progress.total, progress.unit) = (done, total, unit.unwrap_or(progress.unit));
        if progress.item != item {
            item.clone_into(&mut progress.item);
        }
    }

    pub(super) fn progress(&self) -> Progress {
        lock(&self.progress).clone()
    }
}

#[derive(Debug, Default)]
struct Closed {
    /// How many want it closed.
    by: usize,
    /// The jobs that wait at it.
    resting: BTreeSet<u64>,
}

/// Closed, it makes every job wait.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// As the lock below says; for those who pass often.
    closed: AtomicBool,
    state: Mutex<Closed>,
    changed: Condvar,
}

impl Gate {
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        state.by += 1;
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn open(&self) {
        let mut state = lock(&self.state);
        state.by -= 1;
        self.closed.store(state.by > 0, Ordering::Release);
        drop(state);
        self.changed.notify_all();
    }

    /// Waits for as long as it is closed, also if the job is cancelled meanwhile: tidying up is work, too.
    fn pass(&self, id: u64) {
        let mut state = lock(&self.state);
        while state.by > 0 {
            state.resting.insert(id);
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.resting.remove(&id);
    }

    /// True if the job waits at it.
    pub(super) fn rests(&self, id: u64) -> bool {
        lock(&self.state).resting.contains(&id)
    }

    /// Waits a moment, or until something changes.
    pub(super) fn wait(&self) {
        drop(self.changed.wait_timeout(lock(&self.state), STEP));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the work of a job gets. Work that is no job (a test, an offline verb) gets [`Context::idle`].
#[derive(Clone)]
pub struct Context {
    id: u64,
    control: Arc<Control>,
    gate: Arc<Gate>,
    env: Option<Arc<dyn Env>>,
    tell: Arc<dyn Fn() + Send + Sync>,
    /// When those who watch were told last, in microseconds by the monotone clock.
    told: Arc<AtomicU64>,
    /// How often it is still asked before it is cancelled; for tests.
    #[cfg(test)]
    left: Option<Arc<AtomicU64>>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Context {
    pub(super) fn new(
        id: u64,
        control: Arc<Control>,
        gate: Arc<Gate>,
        env: Arc<dyn Env>,
        tell: impl Fn() + Send + Sync + 'static,
    ) -> Context {
        Context {
            id,
            control,
            gate,
            env: Some(env),
            tell: Arc::new(tell),
            told: Arc::default(),
            #[cfg(test)]
            left: None,
        }
    }

    /// For work that nobody watches, pauses or cancels.
    #[must_use]
    pub fn idle() -> Context {
        let (control, gate, told) = Default::default();
        Context {
            id: 0,
            control,
            gate,
            env: None,
            tell: Arc::new(|| ()),
            told,
            #[cfg(test)]
            left: None,
        }
    }

    /// As [`Context::idle`], and cancelled once it was asked so often whether to go on.
    #[cfg(test)]
    pub fn cancelled_after(asked: u64) -> Context {
        Context { left: Some(Arc::new(AtomicU64::new(asked))), ..Context::idle() }
    }

    /// How often it was not asked any more; for [`Context::cancelled_after`].
    #[cfg(test)]
    pub fn left(&self) -> u64 {
        self.left.as_ref().map_or(0, |left| left.load(Ordering::Relaxed))
    }

    /// The number of the job; 0 for work that is none.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Says how far the work is: so many of `total` pieces, at `item`. May be called as often as is convenient.
    pub fn progress(&self, done: u64, total: Option<u64>, unit: &'static str, item: &str) {
        self.control.advance(done, total, Some(unit), item);
        self.tell_now_and_then();
    }

    fn tell_now_and_then(&self) {
        let Some(env) = &self.env else { return };
        let now = u64::try_from(env.uptime().as_micros()).unwrap_or(u64::MAX);
        let told = self.told.load(Ordering::Relaxed);
        let is_due = told == 0 || now.saturating_sub(told) >= TELL.as_micros() as u64;
        if is_due && self.told.compare_exchange(told, now.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            (self.tell)();
        }
    }

    /// True if somebody wants the work to end; never waits.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.control.is_cancelled()
    }

    /// True if the work is to end, as soon as it has tidied up. While somebody freezes the store it comes back after that:
    /// so ask often (many times a second), where nothing is half written, and hold no lock that a commit or a read needs.
    #[must_use]
    pub fn cancelled(&self) -> bool {
        #[cfg(test)]
        if let Some(left) = &self.left
            && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
        {
            self.control.cancel();
        }
        if self.gate.is_closed() {
            (self.tell)();
            self.gate.pass(self.id);
        }
        self.control.is_cancelled()
    }

    /// The opposite of [`Context::cancelled`], for those who ask without knowing jobs.
    pub fn going_on(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let context = self.clone();
        move || !context.cancelled()
    }

    /// Sleeps so long, unless the work is to end; gives what [`Context::cancelled`] says then.
    #[must_use]
    pub fn sleep(&self, mut time: Duration) -> bool {
        while !self.cancelled() && !time.is_zero() {
            let step = time.min(STEP);
            std::thread::sleep(step);
            time -= step;
            self.tell_now_and_then();
        }
        self.cancelled()
    }
}
