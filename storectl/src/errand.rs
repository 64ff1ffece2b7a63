//! What this program does itself (imports, exports, batches) as a job of the daemon: others see how far it is, and may
//! have it ended.
//!
//! # Operation
//! [`run`] names the errand of this run. The work says how far it is ([`size`], [`advance`]), and asks whether to go on ([`check`])
//! between two pieces. If it takes longer than [`LONG`] a thread of its own makes it a job over a connection of its own, tells
//! the daemon a few times a second, and learns there whether somebody wants it to end. Work that is over before
//! is nobody's business.
//!
//! With `--detach` a second process does the work: it has no terminal and no parent. This one waits for the number of
//! its job, prints it and ends.
//!
//! # Invariants
//! * The work never waits for its job: a daemon that knows no errands has the work done all the same.
//! * What was acknowledged stays; whoever runs the same command again goes on where it was ended.

use crate::ask;
use crate::cli::Global;
use crate::exit::{DONE, Outcome, PARTLY, Stop};
use crate::render::{self, Style};
use crate::socket::Environment;
use proto::{BackupWork, Client, Code, Errand, Job, Reply, Request, Told};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Work that lasts so long is seen as a job.
const LONG: Duration = Duration::from_secs(1);
/// Between two words to the daemon.
const TELL: Duration = Duration::from_millis(250);
/// No number of pieces.
const UNKNOWN: u64 = u64::MAX;
/// Set for the process that does the work of `--detach`.
const DETACHED: &str = "STOREDD_DETACHED";

/// How the errand of this run is.
#[derive(Debug)]
struct State {
    errand: Errand,
    done: AtomicU64,
    total: AtomicU64,
    item: Mutex<String>,
    /// Number of its job; 0: it is none yet.
    job: AtomicU64,
    cancelled: AtomicBool,
    told: Mutex<Told>,
    over: Mutex<bool>,
    ended: Condvar,
}

/// One run has one errand, if any.
static ERRAND: OnceLock<State> = OnceLock::new();

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// So many pieces are to be done.
pub fn size(total: u64) {
    if let Some(state) = ERRAND.get() {
        state.total.store(total, Ordering::Relaxed);
    }
}

/// One more piece is done.
pub fn advance() {
    if let Some(state) = ERRAND.get() {
        state.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// What is worked on now.
pub fn at(item: &str) {
    if let Some(state) = ERRAND.get() {
        item.clone_into(&mut lock(&state.item));
    }
}

/// Whether to go on. Where it is asked everything that was sent may be left to the daemon.
///
/// # Errors
/// Somebody wants it to end (75).
pub fn check() -> Outcome<()> {
    match ERRAND.get() {
        Some(state) if state.cancelled.load(Ordering::Acquire) => Err(state.cancelled()),
        _ => Ok(()),
    }
}

/// True in the process to which the work was left.
pub fn is_left() -> bool {
    std::env::var_os(DETACHED).is_some()
}

/// How far work is that says so itself; true if this run has an errand, which is told then.
///
/// # Errors
/// As [`check`].
pub fn is_told(work: &BackupWork) -> Outcome<bool> {
    let Some(state) = ERRAND.get() else { return Ok(false) };
    state.done.store(work.done, Ordering::Relaxed);
    state.total.store(work.total.unwrap_or(UNKNOWN), Ordering::Relaxed);
    at(&work.item);
    check().map(|()| true)
}

/// What it came to, as this program prints it.
pub fn told(json: &impl serde::Serialize, lines: &[String]) {
    if let Some(state) = ERRAND.get() {
        // What has no JSON is told in words alone.
        let json = serde_json::to_string(json).unwrap_or_default();
        *lock(&state.told) = Told { lines: lines.to_vec(), json, partly: false };
    }
}

impl State {
    fn cancelled(&self) -> Stop {
        let (id, done) = (self.job.load(Ordering::Relaxed), self.done.load(Ordering::Relaxed));
        let (verb, unit) = (self.errand.verb(), self.errand.unit());
        let stays = match self.errand {
            Errand::Backup => "the archive was not whole, and is gone",
            _ => "what was done until then stays",
        };
        let text = format!("job {id} ({verb}) was cancelled behind {done} {unit}; {stays}");
        let again = match self.errand {
            Errand::Batch => "run the lines that have no result",
            Errand::Backup => "run the same command again",
            _ => "run the same command again: what is there already is left as it is",
        };
        Stop::hint(Code::Busy, text, again)
    }

    fn progress(&self, id: u64) -> Request {
        let total = Some(self.total.load(Ordering::Relaxed)).filter(|total| *total != UNKNOWN);
        Request::JobAdvance { id, done: self.done.load(Ordering::Relaxed), total, item: lock(&self.item).clone() }
    }

    /// Sleeps so long; true if the work is over before.
    fn sleep(&self, time: Duration) -> bool {
        let over = lock(&self.over);
        let (over, _) =
            self.ended.wait_timeout_while(over, time, |over| !*over).unwrap_or_else(PoisonError::into_inner);
        *over
    }

    /// Tells the daemon until the work is over; gives the connection, to say what it came to.
    fn attend(&self, mut client: Client, id: u64) -> Option<Client> {
        while !self.sleep(TELL) {
            let Ok(Reply::Job(job)) = client.call(&self.progress(id)) else { return None };
            if job.state != "running" && job.state != "paused" {
                self.cancelled.store(true, Ordering::Release);
            }
        }
        Some(client)
    }
}

/// Makes the work a job; its connection and number.
fn begin(client: &mut Client, errand: Errand) -> Outcome<Job> {
    match client.call(&Request::JobAttend { errand }).map_err(|e| Stop::Failed(e.failure()))? {
        Reply::Job(job) => Ok(*job),
        other => Err(Stop::new(Code::Protocol, format!("the daemon gave an answer to something else: {other:?}"))),
    }
}

/// Does work that is an errand; gives its exit code.
///
/// # Errors
/// Those of the work; with `--detach` those of its beginning.
pub fn run(
    global: &Global,
    environment: &Environment,
    style: Style,
    errand: Errand,
    detach: bool,
    work: impl FnOnce() -> Outcome<u8>,
) -> Outcome<u8> {
    let is_detached = detach && is_left();
    if detach && !is_detached {
        return leave(style);
    }
    let state = ERRAND.get_or_init(|| State {
        errand,
        done: AtomicU64::new(0),
        total: AtomicU64::new(UNKNOWN),
        item: Mutex::default(),
        job: AtomicU64::new(0),
        cancelled: AtomicBool::new(false),
        told: Mutex::default(),
        over: Mutex::new(false),
        ended: Condvar::new(),
    });
    let attending = match is_detached {
        true => attend_detached(global, environment, state)?,
        false => attend_if_long(global, environment, state)?,
    };
    let end = work();
    *lock(&state.over) = true;
    state.ended.notify_all();
    // A thread that died has told nobody; the work is done all the same.
    if let Ok(Some(mut client)) = attending.join() {
        let id = state.job.load(Ordering::Relaxed);
        let (failure, partly) = match &end {
            Err(stop) => (stop.failure().cloned(), true),
            Ok(code) => (None, *code != DONE),
        };
        let told = Told { partly, ..lock(&state.told).clone() };
        // As above.
        let _ = client.call(&state.progress(id));
        let _ = client.call(&Request::JobEnd { id, told: told.cut(), failure });
    }
    end
}

/// The thread that tells the daemon, as soon as the work has lasted a while.
fn attend_if_long(
    global: &Global,
    environment: &Environment,
    state: &'static State,
) -> Outcome<JoinHandle<Option<Client>>> {
    let (global, environment) = (global.clone(), environment.clone());
    spawn(move || {
        if state.sleep(LONG) {
            return None;
        }
        // A daemon that cannot be asked, or knows no errands, is no reason to end the work.
        let mut client = ask::connect(&global, &environment, false).ok()?;
        let job = begin(&mut client, state.errand).ok()?;
        state.job.store(job.id, Ordering::Relaxed);
        state.attend(client, job.id)
    })
}

/// The same at once, and says the number of the job; from then on nobody listens to this process.
fn attend_detached(
    global: &Global,
    environment: &Environment,
    state: &'static State,
) -> Outcome<JoinHandle<Option<Client>>> {
    let failed = |what: &str, e: &dyn std::fmt::Display| Stop::new(Code::Io, format!("{what}: {e}"));
    // A process that leads its group already has no terminal to leave.
    let _ = rustix::process::setsid();
    let mut client = ask::connect(global, environment, false)?;
    let job = begin(&mut client, state.errand)?;
    state.job.store(job.id, Ordering::Relaxed);
    let out = &mut std::io::stdout();
    serde_json::to_writer(&mut *out, &job).map_err(|e| failed("standard output", &e))?;
    writeln!(out).and_then(|()| out.flush()).map_err(|e| failed("standard output", &e))?;
    let null = crate::files::null().map_err(|e| failed("/dev/null", &e))?;
    for put in [rustix::stdio::dup2_stdin, rustix::stdio::dup2_stdout, rustix::stdio::dup2_stderr] {
        put(&null).map_err(|e| failed("/dev/null", &e))?;
    }
    spawn(move || state.attend(client, job.id))
}

fn spawn(work: impl FnOnce() -> Option<Client> + Send + 'static) -> Outcome<JoinHandle<Option<Client>>> {
    let spawned = std::thread::Builder::new().name("errand".to_owned()).spawn(work);
    spawned.map_err(|e| Stop::new(Code::Io, format!("no thread could be had: {e}")))
}

/// Leaves the work to another process and prints its job.
fn leave(style: Style) -> Outcome<u8> {
    let failed = |e: std::io::Error| Stop::new(Code::Io, format!("the program that is to do the work: {e}"));
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).env(DETACHED, "1").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().ok_or_else(|| failed(std::io::ErrorKind::BrokenPipe.into()))?);
    out.read_line(&mut line).map_err(failed)?;
    match serde_json::from_str::<Job>(&line) {
        Ok(job) => {
            let text = format!("job {} ({}) goes on: storectl jobs follow {}", job.id, job.verb, job.id);
            render::summary(&mut render::stdout(), style, &job, &[text])?;
            Ok(DONE)
        }
        // It has said on standard error what was wrong; with --json also here.
        Err(_) => {
            out.read_to_string(&mut line).map_err(failed)?;
            render::text(&mut render::stdout(), &line)?;
            let status = child.wait().map_err(failed)?;
            Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(PARTLY))
        }
    }
}
