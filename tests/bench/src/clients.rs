//! Closed-loop clients: each has one operation under way and starts the next when it is answered.
//!
//! # Forms
//! * [`Form::Callback`]: an answer calls back; the client's next operation is then queued for one of two driver threads. The
//!   cheapest form: an answer costs no thread switch. Same for every engine that answers by callback.
//! * [`Form::Threads`]: one blocking thread per client.

use crate::engines::{Engine, Failure};
use crate::hist::Histogram;
use crate::job::{Mix, Script};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// How clients wait for their answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// Callbacks and two driver threads.
    Callback,
    /// A thread per client.
    Threads,
}

impl Form {
    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Form::Callback => "callback",
            Form::Threads => "threads",
        }
    }
}

/// One measurement.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How clients wait.
    pub form: Form,
    /// How many.
    pub clients: usize,
    /// Counted time.
    pub time: Duration,
    /// Time before it that is not counted.
    pub warm_up: Duration,
    /// What they do.
    pub mix: Mix,
}

/// What came out of it.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// Operations answered in the counted time.
    pub ops: u64,
    /// Counted time in seconds.
    pub seconds: f64,
    /// Their latencies.
    pub latency: Histogram,
    /// Operations answered with an error, at any time.
    pub failed: u64,
    /// The first error.
    pub error: Option<String>,
}

impl Run {
    /// Operations per second.
    pub fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.ops as f64 / self.seconds } else { 0.0 }
    }
}

/// An answer slower than the threshold of a [`Watch`].
#[derive(Debug, Clone, Copy)]
pub struct Slow {
    /// When it was submitted.
    pub from: Instant,
    /// When it was answered.
    pub to: Instant,
}

/// Notes every answer slower than `threshold`.
#[derive(Debug)]
pub struct Watch {
    /// From here on an answer is noted.
    pub threshold: Duration,
    /// The notes.
    pub slow: Mutex<Vec<Slow>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Client {
    script: Script,
    started: Instant,
    latency: Histogram,
}

struct Ready {
    queue: Vec<usize>,
    idle: usize,
    live: usize,
}

/// All clients of one measurement.
pub struct Board {
    clients: Vec<Mutex<Client>>,
    ready: Mutex<Ready>,
    wake: Condvar,
    failed: AtomicU64,
    error: Mutex<Option<String>>,
    count_from: Instant,
    count_to: Instant,
    watch: Option<Arc<Watch>>,
}

/// Where one answer goes.
pub enum Done {
    /// To a client of a board.
    Client(Arc<Board>, usize),
    /// To a waiting thread.
    Waiter(Arc<Waiter>),
}

/// A thread that waits for one answer.
pub struct Waiter {
    thread: Thread,
    answer: Mutex<Option<Result<(), Failure>>>,
}

impl Done {
    /// Delivers the answer.
    pub fn answer(self, result: Result<(), Failure>) {
        match self {
            Done::Client(board, client) => board.answered(client, result),
            Done::Waiter(waiter) => {
                *lock(&waiter.answer) = Some(result);
                waiter.thread.unpark();
            }
        }
    }
}

/// Starts something that is answered by callback, and waits for the answer in this thread.
///
/// # Errors
/// The answer's.
pub fn wait(start: impl FnOnce(Done)) -> Result<(), Failure> {
    let waiter = Arc::new(Waiter { thread: std::thread::current(), answer: Mutex::new(None) });
    start(Done::Waiter(Arc::clone(&waiter)));
    loop {
        if let Some(result) = lock(&waiter.answer).take() {
            return result;
        }
        std::thread::park();
    }
}

impl Board {
    fn answered(&self, client: usize, result: Result<(), Failure>) {
        let now = Instant::now();
        if let Err(e) = result {
            self.failed.fetch_add(1, Ordering::Relaxed);
            lock(&self.error).get_or_insert_with(|| e.to_string());
        } else {
            self.note(&mut lock(&self.clients[client]), now);
        }
        let mut ready = lock(&self.ready);
        ready.queue.push(client);
        let wake = ready.idle > 0;
        ready.idle -= usize::from(wake);
        // Not under the lock, on which the woken thread would at once wait.
        drop(ready);
        if wake {
            self.wake.notify_one();
        }
    }

    fn note(&self, client: &mut Client, now: Instant) {
        if now >= self.count_from && now < self.count_to {
            let took = now - client.started;
            client.latency.record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
            if let Some(watch) = self.watch.as_ref().filter(|w| took >= w.threshold) {
                lock(&watch.slow).push(Slow { from: client.started, to: now });
            }
        }
    }

    /// The clients that may start an operation, into `batch`; false when all have ended.
    fn next(&self, batch: &mut Vec<usize>) -> bool {
        batch.clear();
        let mut ready = lock(&self.ready);
        loop {
            if !ready.queue.is_empty() {
                std::mem::swap(batch, &mut ready.queue);
                return true;
            }
            if ready.live == 0 {
                return false;
            }
            ready.idle += 1;
            ready = self.wake.wait(ready).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A driver thread: starts operations until all clients have ended.
    fn drive(self: &Arc<Self>, engine: &dyn Engine) {
        let mut batch = Vec::with_capacity(self.clients.len());
        while self.next(&mut batch) {
            batch.drain(..).for_each(|id| self.start(id, engine));
        }
    }

    /// Starts a client's next operation, or ends the client.
    fn start(self: &Arc<Self>, id: usize, engine: &dyn Engine) {
        let now = Instant::now();
        if now >= self.count_to {
            let mut ready = lock(&self.ready);
            ready.live -= 1;
            if ready.live == 0 {
                self.wake.notify_all();
            }
            return;
        }
        let mut client = lock(&self.clients[id]);
        client.started = now;
        let op = client.script.next_op();
        drop(client);
        engine.submit(op, Done::Client(Arc::clone(self), id));
    }

    fn block(&self, id: usize, engine: &dyn Engine) {
        let mut session = match engine.session() {
            Ok(session) => session,
            Err(e) => return self.fail(&e),
        };
        let mut client = lock(&self.clients[id]);
        loop {
            client.started = Instant::now();
            if client.started >= self.count_to {
                return;
            }
            let op = client.script.next_op();
            match session.perform(op) {
                Ok(()) => self.note(&mut client, Instant::now()),
                Err(e) => self.fail(&e),
            }
        }
    }

    fn fail(&self, e: &Failure) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        lock(&self.error).get_or_insert_with(|| e.to_string());
    }
}

/// Runs the clients of one measurement against an engine.
pub fn run(engine: &dyn Engine, plan: &Plan, watch: Option<Arc<Watch>>) -> Run {
    let count_from = Instant::now() + plan.warm_up;
    let count_to = count_from + plan.time;
    let board = Arc::new(Board {
        clients: (0..plan.clients)
            .map(|id| {
                let script = Script::new(engine.world(), plan.mix, id, plan.clients);
                Mutex::new(Client { script, started: Instant::now(), latency: Histogram::default() })
            })
            .collect(),
        ready: Mutex::new(Ready { queue: (0..plan.clients).collect(), idle: 0, live: plan.clients }),
        wake: Condvar::new(),
        failed: AtomicU64::new(0),
        error: Mutex::new(None),
        count_from,
        count_to,
        watch,
    });
    std::thread::scope(|scope| {
        let board = &board;
        match plan.form {
            Form::Callback => (0..plan.clients.min(2)).for_each(|_| drop(scope.spawn(|| board.drive(engine)))),
            Form::Threads => (0..plan.clients).for_each(|id| drop(scope.spawn(move || board.block(id, engine)))),
        }
    });
    let mut out = Run { seconds: plan.time.as_secs_f64(), ..Run::default() };
    for client in &board.clients {
        out.latency.merge(&lock(client).latency);
    }
    out.ops = out.latency.count();
    out.failed = board.failed.load(Ordering::Relaxed);
    out.error = lock(&board.error).take();
    out
}
