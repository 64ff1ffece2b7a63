//! The daemon: it rises in phases and falls in reverse.
//!
//! ```text
//!  1  messages, configuration (checked before)      exit 78
//!  2  directories, lock                             exit 74, 77, 75 with the owner's pid
//!  3  signals, control door                         status is answered from here on: `recovering`
//!  4  recovery                                      progress in STATUS=, more time asked for
//!  5  partitions, threads                           committers, checkpointer, spares, heartbeat
//!  6  READY                                         a request would be answered now
//!  7  the event loop                                until a signal, a client or a failed log ends it
//!  8  drain, door closed, threads joined, store closed, state file
//! ```
//!
//! A restart goes through 8 and then becomes the program again that it was started as: same process, same options, the
//! configuration read anew. The service manager sees a reload, not an end.

use crate::config::Config;
use crate::control::{Counters, Door, Listener};
use crate::error::{StoreError, exit};
use crate::metrics::textfile::Textfile;
use crate::partition::PartitionId;
use crate::place;
use crate::service::watch::Watch;
use crate::service::{Daemon, Event, Handle};
use crate::signals::{self, Signal};
use crate::startup::{self, MORE_TIME, Startup};
use crate::statefile::{Act, STOPPED, StateFile};
use crate::store::{self, Phase, Store};
use crate::systemd::{self, Handed};
use crate::threads::Threads;
use crate::{descriptors, jobs, lmtp, logging, metrics, reload};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Who may connect: the owner and the group; the door then asks the kernel who it is.
const SOCKET_MODE: u32 = 0o660;
/// Longest wait for jobs to tidy up at the end.
const JOBS_END: Duration = Duration::from_secs(10);
/// Longest wait for the state file at the end.
const STATE_PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether state file and stamps have to say something else.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Runs the daemon; the exit status of the program.
#[must_use]
pub fn run(config: Config) -> u8 {
    let handed = systemd::handed_sockets();
    let level = logging::start(&config.messages);
    // A package that replaces the program while it runs makes this name stand for the new one.
    let program = std::env::current_exe().unwrap_or_else(|_| "storedd".into());
    let named = place::named(&config);
    let handed = handed.map_err(|e| StoreError::io("take", "the sockets of the service manager", e));
    let ended = handed.and_then(|handed| Ok((rise(config, &level, &handed)?, handed)));
    let ended = ended.inspect(|_| level.flush());
    match ended {
        Ok((Exit::Status(status), _)) => status,
        Ok((Exit::Again { accept_loss }, handed)) => again(&program, accept_loss, &handed),
        Err(e) => {
            let hint = e.hint().map(|hint| proto::naming::complete(&hint, &named));
            tracing::error!(event = "start_failed", code = e.code(), hint, "{e}");
            systemd::stopping(&e.to_string());
            level.flush();
            e.exit()
        }
    }
}

/// How the daemon ends.
enum Exit {
    /// The program ends with this status.
    Status(u8),
    /// It starts again.
    Again {
        /// The start gives up what it cannot reach.
        accept_loss: bool,
    },
}

/// Set for the one start that follows a client's `recover --accept-loss`.
const ACCEPT_LOSS: &str = "STOREDD_ACCEPT_LOSS";

/// Becomes the program again that this process was started as; comes back only if that fails.
fn again(program: &std::path::Path, accept_loss: bool, handed: &Handed) -> u8 {
    use std::os::unix::process::CommandExt;
    let mut command = std::process::Command::new(program);
    command.args(std::env::args_os().skip(1)).env_remove(ACCEPT_LOSS);
    if accept_loss {
        command.env(ACCEPT_LOSS, std::process::id().to_string());
    }
    let error = match handed.hand_on(&mut command) {
        Ok(()) => command.exec(),
        Err(e) => e,
    };
    tracing::error!(event = "restart_failed", program = ?command.get_program(), %error, hint = "systemctl start storedd");
    exit::BUG
}

/// True in the one start that a client's `recover --accept-loss` asked for: the variable names this very process.
fn loss_is_accepted() -> bool {
    std::env::var(ACCEPT_LOSS).is_ok_and(|pid| pid == std::process::id().to_string())
}

fn rise(config: Config, level: &logging::LevelHandle, handed: &Handed) -> Result<Exit, StoreError> {
    let env = place::env();
    tracing::info!(event = "start", version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), data_dir = %config.store.data_dir.display());
    let files = descriptors::allow_many();
    signals::survive_file_limit().map_err(|e| StoreError::io("install", "signal handlers", e))?;
    let (events, inbox) = channel();
    let stop = listen(&events)?;
    let counters = Arc::new(Counters::default());
    let daemon = Arc::new(Daemon::new(config.clone(), env.clone(), events.clone(), counters.clone()));
    // From before the first look at a disk, which may not answer.
    let startup = Startup::begin(&daemon, &env, stop, config.recovery.stall_limit)?;
    place::finish_restore(&config)?;
    let disks = place::open_or_make(&config)?;
    let lock = store::take_lock(&disks)?;

    let level = level.clone();
    daemon.on_reload(Box::new(move |config| {
        level.set(config.messages.level);
        level.reopen();
    }));
    let runtime = runtime()?;
    let (handed, mail) = handed.told_apart(&config.lmtp.socket).map_err(two_controls)?;
    let listener = match handed {
        Some(handed) => Listener::inherit(handed, &config.control.socket)?,
        None => Listener::bind(&config.control.socket, SOCKET_MODE)?,
    };
    let (sessions, files) = descriptors::share(&config, files);
    let door = runtime.block_on(async {
        Door::open(listener, Arc::new(Handle(daemon.clone())), descriptors::limits(&config, files), counters)
    });
    let door = door.map_err(|e| StoreError::io("listen", config.control.socket.display().to_string(), e))?;
    let mail = daemon.open_mail_door(&runtime, sessions, mail)?;
    let socket = config.control.socket.display().to_string();
    let state = Arc::new(StateFile::new(disks.data.clone(), env.clone(), std::process::id(), &socket));
    state.start().map_err(|e| StoreError::io("start", "the thread of the state file", e))?;
    state.set_state("recovering");
    let textfile = publish_metrics(&config, &daemon, &runtime);
    tracing::info!(event = "listening", socket = %config.control.socket.display(), handed_over = handed.is_some());

    let on_progress = startup.on_progress();
    let policy = store::decision::Policy { accept_loss: loss_is_accepted(), ..place::policy(&config) };
    let lock = startup::upgraded(&config, &disks, &env, lock, &on_progress)?;
    let (store, report) = store::open(disks, env.clone(), place::options(&config), lock, policy, &on_progress)?;
    jobs::partitions::register(&store, || PartitionId(env.random()), env.now()).or_else(|e| match e {
        // A store that is held read-only registers nothing.
        store::CommitError::Failed(StoreError::Busy { .. }) => Ok(()),
        store::CommitError::Failed(e) => Err(e),
        other => Err(StoreError::Bug(other.to_string())),
    })?;
    startup.end();
    let mut threads = Threads::start(&store)?;
    let limits = jobs::backlog::Limits { segments: config.alarm.max_log, age: config.alarm.max_log_age };
    jobs::backlog::work_off(&store, &report, limits, env.now());
    let watch = Arc::new(Watch::new(store.clone(), env.clone(), state.clone(), daemon.leases().clone(), &config));
    watch.begin(&config);
    threads.watch(&watch, &daemon, &events)?;
    let keeper = Arc::new(jobs::snapshots::Keeper::new(store.clone(), env.clone())?);
    threads.keep(&keeper, &daemon)?;
    daemon.set_keeper(keeper);
    let copies = Arc::new(jobs::copies::Copies::new(&store, &env)?);
    threads.copy(&copies, &daemon)?;
    watch.set_copies(copies.clone());
    daemon.set_copies(copies);
    let ageing = Arc::new(jobs::expire::Ageing::new(store.clone(), env.clone())?);
    threads.age(&ageing, &daemon)?;
    daemon.set_ageing(ageing);
    let scrubber = Arc::new(jobs::scrub::Scrubber::new(store.clone(), env.clone())?);
    threads.scrub(&scrubber, &daemon)?;
    watch.set_scrubber(scrubber.clone());
    daemon.set_scrubber(scrubber);
    threads.sweep(daemon.leases())?;
    if !store.is_held() {
        daemon.jobs().remember_in(store.disks().data.clone());
    }
    daemon.set_watch(watch, &report);
    daemon.set_store(store.clone());
    daemon.adopt();

    let word = daemon_state(&daemon);
    state.set_state(word);
    say_ready(word, &report);
    let ended = event_loop(&daemon, &store, &state, &threads, &inbox, &events)?;
    textfile.into_iter().for_each(Textfile::end);
    fall(&daemon, &store, &state, (runtime, door, mail), threads, ended)
}

fn two_controls(places: String) -> StoreError {
    StoreError::Refused {
        message: format!(
            "the service manager handed over {places}; expected one control socket, and lmtp.socket of the configuration"
        ),
        hint: "make ListenStream= of storedd-lmtp.socket and lmtp.socket the same path".to_owned(),
        exit: exit::CONFIG,
    }
}

/// Opens the ways out for the numbers. A listener or a file that cannot be had is said, and no reason to be without mail.
fn publish_metrics(config: &Config, daemon: &Arc<Daemon>, runtime: &Runtime) -> Option<Textfile> {
    let page = Handle(daemon.clone());
    let served = page.clone();
    if let Some(address) = config.metrics_address() {
        match metrics::listen::start(runtime.handle(), address, Arc::new(move || served.metrics())) {
            Ok(address) => tracing::info!(event = "metrics", %address),
            Err(e) => tracing::error!(event = "metrics_not_served", %address, error = %e),
        }
    }
    let daemon = daemon.clone();
    let path = move || daemon.config().metrics.textfile.clone();
    let started = metrics::textfile::start(path, move || page.metrics());
    started.inspect_err(|e| tracing::error!(event = "metrics_textfile", error = %e)).ok()
}

/// The runtime of the doors; the store's own threads are not in it.
fn runtime() -> Result<Runtime, StoreError> {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("door").enable_all().build();
    built.map_err(|e| StoreError::io("start", "the runtime of the doors", e))
}

fn daemon_state(daemon: &Arc<Daemon>) -> &'static str {
    use crate::control::Service;
    Handle(daemon.clone()).state().word()
}

fn say_ready(word: &str, report: &store::Report) {
    systemd::ready(&format!("{word}; {}", report.summary()));
    tracing::info!(event = "ready", state = word);
    for step in &report.next_steps {
        tracing::warn!(event = "next_step", "run: {step}");
    }
}

fn listen(events: &Sender<Event>) -> Result<signals::StopFlag, StoreError> {
    let events = events.clone();
    signals::listen(move |signal| {
        let event = match signal {
            Signal::Stop(name) => {
                tracing::info!(event = "signal", name);
                Event::Stop { now: false }
            }
            Signal::Reload => Event::Reload,
        };
        // The loop is gone only when the process ends anyway.
        drop(events.send(event));
    })
    .map_err(|e| StoreError::io("install", "signal handlers", e))
}

/// The state at the end of the process, which waits for it to be written, though not for ever.
fn last_word(state: &StateFile, word: &str) {
    state.set_state(word);
    if !state.settle(STATE_PATIENCE) {
        tracing::warn!(event = "state_file", owed = ?state.late(), "the state file does not say how this ended");
    }
}

/// Why the loop ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Asked { now: bool },
    Restart { accept_loss: bool },
    Poisoned,
    ThreadDied,
    Excess,
}

impl Ended {
    /// The reason in the message `stopping`.
    fn word(&self) -> &'static str {
        match self {
            Ended::Asked { now: false } => "asked",
            Ended::Asked { now: true } => "asked_now",
            Ended::Restart { .. } => "restart",
            Ended::Poisoned => "log_failed",
            Ended::ThreadDied => "thread_died",
            Ended::Excess => "log_excess",
        }
    }
}

/// Whether the commit path moves: the watchdog is fed only while it does. Commands that wait while none is answered are a
/// hang. Answers count and not LSNs: a refusal, and a command that has nothing to change, are work too.
#[derive(Debug, Default)]
struct Pulse {
    answered: u64,
    since: Duration,
}

impl Pulse {
    /// So long it may stand still.
    const PATIENCE: Duration = Duration::from_secs(15);

    fn beats(&mut self, waiting: bool, answered: u64, now: Duration) -> bool {
        if !waiting || self.answered != answered {
            (self.answered, self.since) = (answered, now);
        }
        now.saturating_sub(self.since) < Pulse::PATIENCE
    }
}

fn event_loop(
    daemon: &Arc<Daemon>,
    store: &Arc<Store>,
    state: &StateFile,
    threads: &Threads,
    inbox: &Receiver<Event>,
    events: &Sender<Event>,
) -> Result<Ended, StoreError> {
    let _watch = watch(&daemon.config(), events);
    let (watched, env, mut pulse) = (store.clone(), place::env(), Pulse::default());
    let watchdog = systemd::watchdog(move || {
        let answered = watched.stats().answered.load(Ordering::Relaxed);
        // What stands still because somebody asked for it is not stuck.
        pulse.beats(watched.oldest_wait().is_some() && !watched.is_still(), answered, env.uptime())
    });
    watchdog.map_err(|e| StoreError::io("start", "watchdog thread", e))?;
    let mut seen = store.last_times();
    loop {
        match inbox.recv_timeout(HEARTBEAT) {
            Ok(Event::Stop { now }) => return Ok(Ended::Asked { now }),
            Ok(Event::Restart { accept_loss }) => return Ok(Ended::Restart { accept_loss }),
            Ok(Event::Poisoned) => return Ok(Ended::Poisoned),
            Ok(Event::Excess(why)) => {
                tracing::error!(
                    event = "log_excess",
                    why,
                    "too much log that does not become less: a restart is to work it off"
                );
                return Ok(Ended::Excess);
            }
            Ok(Event::Reload) => reload_config(daemon),
            // Nobody may be told by an answer: a seal failed, or a checkpoint, and the door lets no change in any more.
            _ if store.phase() == Phase::Poisoned => return Ok(Ended::Poisoned),
            // Without one of them the store would come to a halt later, and nobody would know why.
            _ if threads.one_died() => return Ok(Ended::ThreadDied),
            Err(RecvTimeoutError::Timeout) if daemon.is_drained() => return Ok(Ended::Asked { now: false }),
            Err(RecvTimeoutError::Timeout) => {
                daemon.jobs().end_silent();
                let times = store.last_times();
                if times.0 != seen.0 {
                    state.note(Act::Checkpoint);
                }
                if times.1 != seen.1 {
                    state.note(Act::LogCleanup);
                }
                seen = times;
                let word = daemon_state(daemon);
                if state.facts().state != word {
                    state.set_state(word);
                    systemd::status(word);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(Ended::Asked { now: false }),
        }
    }
}

fn watch(config: &Config, events: &Sender<Event>) -> Option<reload::FileWatch> {
    let file = config.file.as_ref().filter(|_| config.reload.watch)?;
    let events = events.clone();
    let tell = events.clone();
    match reload::watch(file, move || drop(tell.send(Event::Reload))) {
        Ok(watch) => {
            // It may have changed since it was read, before anybody watched.
            if config.again().is_some_and(|new| new.map_or(true, |new| !config.differences(&new).is_empty())) {
                drop(events.send(Event::Reload));
            }
            Some(watch)
        }
        Err(e) => {
            tracing::warn!(event = "not_watching", file = %file.display(), error = %e, "SIGHUP still reloads");
            None
        }
    }
}

/// Reads the configuration again, and tells the service manager when it is done; the log says how it went.
fn reload_config(daemon: &Arc<Daemon>) {
    systemd::reloading();
    // A refusal is in the log, with every fault and its line.
    drop(daemon.reload(false));
    systemd::ready(daemon_state(daemon));
}

fn fall(
    daemon: &Arc<Daemon>,
    store: &Arc<Store>,
    state: &StateFile,
    (runtime, door, mail): (Runtime, Door, Option<lmtp::Door>),
    threads: Threads,
    ended: Ended,
) -> Result<Exit, StoreError> {
    let config = daemon.config();
    tracing::info!(event = "stopping", reason = ended.word());
    match ended {
        Ended::Restart { .. } => systemd::reloading(),
        _ => systemd::stopping("stopping"),
    }
    daemon.drain();
    // Those who wait for a job are answered; what it has done so far is as after a crash.
    daemon.jobs().stop();
    state.set_state("draining");
    let patience = match ended {
        Ended::Asked { now: false } | Ended::Restart { .. } => config.stop.timeout,
        _ => Duration::ZERO,
    };
    systemd::extend(patience + MORE_TIME, "finishing requests in flight, then a checkpoint");
    runtime.block_on(async {
        let mail = async {
            if let Some(mail) = mail {
                mail.close(patience).await;
            }
        };
        tokio::join!(door.close(patience), mail);
    });
    let _ = daemon.jobs().join(JOBS_END);
    // Work that waits for a disk that does not answer must not keep the store from being closed.
    runtime.shutdown_timeout(Duration::from_secs(1));
    threads.join();
    if ended == Ended::ThreadDied {
        tracing::error!(event = "stopped", "a thread of the store ended; a restart recovers");
        last_word(state, "poisoned");
        return Ok(Exit::Status(exit::BUG));
    }
    if ended == Ended::Poisoned {
        tracing::error!(event = "stopped", "the log failed; a restart recovers");
        last_word(state, "poisoned");
        return Ok(Exit::Status(exit::LOG_FAILED));
    }
    match store.close() {
        Ok(()) => state.note(Act::Checkpoint),
        // What cannot be closed in good order is a reason to start again: that replays the log.
        Err(e) if matches!(ended, Ended::Excess | Ended::Restart { .. }) => {
            tracing::error!(event = "not_closed", error = %e, "the next start replays the log");
        }
        Err(e) => return Err(e),
    }
    last_word(state, STOPPED);
    if ended == Ended::Excess {
        return Ok(Exit::Status(exit::BUSY));
    }
    tracing::info!(event = "stopped", checkpoint_lsn = store.checkpoint_lsn().0);
    Ok(match ended {
        Ended::Restart { accept_loss } => Exit::Again { accept_loss },
        _ => Exit::Status(exit::OK),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_answers_moves_and_one_that_only_waits_does_not() {
        let mut pulse = Pulse::default();
        let at = Duration::from_secs;
        assert!(pulse.beats(false, 0, at(100)), "nobody waits");
        // An hour of refusals: always somebody waits, and always somebody is answered.
        assert!((1..3600).all(|n| pulse.beats(true, n, at(100 + n))));
        assert!(pulse.beats(true, 3599, at(3699 + 14)));
        assert!(!pulse.beats(true, 3599, at(3699 + 15)));
        assert!(pulse.beats(true, 3600, at(3699 + 16)), "slow, not dead");
    }
}
