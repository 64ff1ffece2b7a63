//! The daemon's life as its operator drives it: `shutdown`, `restart`, `health --wait`, `recover --accept-loss`.
//!
//! # Operation
//! The daemon answers at once and closes the connection when its store has stopped; what comes then is looked at from
//! outside: the process, and the socket on which a new start answers as soon as it recovers.

use crate::ask::{connect, is_not_running, unconnected};
use crate::cli::Global;
use crate::confirm;
use crate::exit::{DONE, Outcome, Stop};
use crate::render::{self, Style};
use crate::socket::{self, Environment};
use proto::{Client, ClientError, Code, Done, Failure, Reply, Request};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};
use std::io::Write;
use std::time::{Duration, Instant};

/// Longest wait of `restart` for a ready store, unless `--timeout` says otherwise: a recovery may have to come first.
const READY: Duration = Duration::from_secs(300);
/// Between two looks at a daemon that is waited for.
const LOOK: Duration = Duration::from_millis(50);

/// `shutdown`: comes back when the process is gone. The connection is closed when this client's work is done; the daemon
/// may still wait for others (`[stop] timeout`) and make a checkpoint that takes as long as it takes. So there is no limit
/// but `--timeout`.
///
/// # Errors
/// Those of the daemon; a process that is still there when `--timeout` is over (75).
pub fn shutdown(
    global: &Global,
    environment: &Environment,
    style: Style,
    out: &mut dyn Write,
    now: bool,
) -> Outcome<u8> {
    end(global, environment, style, out, &Request::Shutdown { now })
}

/// `drain`: comes back when everybody has left, or the limit has passed, and the process is gone.
///
/// # Errors
/// As [`shutdown`].
pub fn drain(
    global: &Global,
    environment: &Environment,
    style: Style,
    out: &mut dyn Write,
    wait: Option<Duration>,
) -> Outcome<u8> {
    let wait_ms = wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    end(global, environment, style, out, &Request::Drain { wait_ms })
}

fn end(
    global: &Global,
    environment: &Environment,
    style: Style,
    out: &mut dyn Write,
    request: &Request,
) -> Outcome<u8> {
    let (pid, process, reply) = stop_by(global, environment, request)?;
    if !process.is_gone_within(global.timeout.filter(|limit| !limit.is_zero())) {
        return Err(Stop::hint(
            Code::Busy,
            format!("process {pid} is stopping, and still there"),
            format!("it ends when others are answered and the checkpoint is made; look at it with: ps {pid}"),
        ));
    }
    let text = [format!("stopped (process {pid})")];
    match reply {
        Reply::Done(done) => render::summary(out, style, &done, &text)?,
        _ => render::summary(out, style, &Done { done: true }, &text)?,
    }
    Ok(DONE)
}

/// Asks for an end, or for an end and a new start; comes back when the store has stopped.
fn stop_by(global: &Global, environment: &Environment, request: &Request) -> Outcome<(u32, Process, Reply)> {
    let failed = |e: ClientError| Stop::Failed(e.failure());
    let mut client = connect(global, environment, true)?;
    let pid = match client.call(&Request::Status).map_err(failed)? {
        Reply::Status(status) => status.pid,
        other => return Err(Stop::new(Code::Protocol, format!("the daemon answered status with {other:?}"))),
    };
    let process = Process::of(pid);
    let reply = client.call(request).map_err(failed)?;
    wait_for_close(&mut client)?;
    Ok((pid, process, reply))
}

/// `restart`: comes back when the store is ready again.
///
/// # Errors
/// As [`shutdown`]; a daemon that ends instead, or is not ready in time (69).
pub fn restart(global: &Global, environment: &Environment, style: Style, out: &mut dyn Write) -> Outcome<u8> {
    again(global, environment, false)?;
    render::summary(out, style, &Done { done: true }, &["restarted; the store is ready".to_owned()])?;
    Ok(DONE)
}

/// `recover --accept-loss` while a daemon runs: what its start lost is known, and no repair is recommended any more; one that holds the
/// store read-only starts again and gives up what it cannot reach.
///
/// # Errors
/// No consent; as [`restart`].
pub fn accept_loss(global: &Global, environment: &Environment, consented: bool) -> Outcome<()> {
    if !consented {
        confirm::consent("give up the acknowledged changes that cannot be reached?")?;
    }
    let failed = |e: ClientError| Stop::Failed(e.failure());
    match connect(global, environment, true)?.call(&Request::AcceptLoss).map_err(failed)? {
        Reply::Done(Done { done: true }) => Ok(()),
        _ => again(global, environment, true),
    }
}

/// True if a daemon answers on the socket.
///
/// # Errors
/// No socket can be named.
pub fn is_running(global: &Global, environment: &Environment) -> Outcome<bool> {
    let path = socket::path(global, environment)?;
    match socket::connect(&path, global.timeout, false) {
        Err(e) => Ok(!is_not_running(&e)),
        Ok(_) => Ok(true),
    }
}

fn again(global: &Global, environment: &Environment, accept_loss: bool) -> Outcome<()> {
    let (_, process, _) = stop_by(global, environment, &Request::Restart { accept_loss })?;
    let is_ready = |_: &mut Client| Ok(());
    until_ready(global, environment, limit(global), &|| process.is_gone_within(Some(Duration::ZERO)), &is_ready)
}

fn limit(global: &Global) -> Option<Duration> {
    match global.timeout {
        Some(Duration::ZERO) => None,
        given => Some(given.unwrap_or(READY)),
    }
}

/// `health --wait`: comes back when the store takes changes.
///
/// # Errors
/// It does not within `limit` (69), or never will without somebody: it is read-only, or its log has failed.
pub fn wait_ready(
    global: &Global,
    environment: &Environment,
    style: Style,
    out: &mut dyn Write,
    wait: Duration,
) -> Outcome<u8> {
    let healthy = |client: &mut Client| client.call(&Request::Health).map_err(|e| e.failure());
    match until_ready(global, environment, Some(wait), &|| false, &healthy)? {
        Reply::Health(health) => render::summary(out, style, &health, &render::unusable(&health))?,
        _ => render::summary(out, style, &Done { done: true }, &[])?,
    }
    Ok(DONE)
}

#[expect(clippy::disallowed_methods, reason = "somebody waits by the clock on the wall; nothing is decided by it")]
fn until_ready<T>(
    global: &Global,
    environment: &Environment,
    limit: Option<Duration>,
    ended: &dyn Fn() -> bool,
    suffices: &dyn Fn(&mut Client) -> Result<T, Failure>,
) -> Outcome<T> {
    let path = socket::path(global, environment)?;
    let begun = Instant::now();
    loop {
        let failure = match socket::connect(&path, Some(Duration::from_secs(5)), false) {
            Ok(mut client) => match client.hello().state.as_str() {
                "ready" => match suffices(&mut client) {
                    Ok(found) => return Ok(found),
                    Err(failure) => failure,
                },
                state @ ("read-only" | "poisoned") => {
                    let failure = Failure::new(Code::Unavailable, format!("the store is {state}"));
                    return Err(Stop::Failed(failure.with_hint("storectl status")));
                }
                state => Failure::new(Code::Unavailable, state).with_hint("storectl status --watch"),
            },
            Err(e) if is_not_running(&e) => unconnected(global, &e),
            Err(e) => e.failure(),
        };
        if ended() {
            return Err(Stop::hint(
                Code::Unavailable,
                "the daemon has ended",
                "its messages say why: journalctl -u storedd, or where its standard error goes",
            ));
        }
        if limit.is_some_and(|limit| begun.elapsed() >= limit) {
            return Err(Stop::Failed(failure));
        }
        std::thread::sleep(LOOK);
    }
}

/// The daemon closes the connection when the store has stopped.
fn wait_for_close(client: &mut Client) -> Outcome<()> {
    loop {
        match client.ping() {
            Ok(()) => std::thread::sleep(LOOK),
            Err(ClientError::Lost { .. } | ClientError::Dismissed(_)) => return Ok(()),
            Err(e) => return Err(Stop::Failed(e.failure())),
        }
    }
}

/// A process that is waited for; `None` if it cannot be seen from here, which counts as gone.
#[derive(Debug)]
struct Process(Option<rustix::fd::OwnedFd>);

impl Process {
    fn of(pid: u32) -> Process {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        Process(pid.and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()))
    }

    /// Without a limit it waits until the process is gone.
    fn is_gone_within(&self, limit: Option<Duration>) -> bool {
        let Some(process) = &self.0 else { return true };
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let mut fds = [PollFd::new(process, PollFlags::IN)];
        loop {
            match rustix::event::poll(&mut fds, limit.as_ref()) {
                // A signal that was handled is no answer.
                Err(rustix::io::Errno::INTR) => {}
                polled => return matches!(polled, Ok(1..)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Act, Fake};
    use proto::Status;

    const JSON: Style = Style { json: true, tty: false };

    fn global(fake: &Fake) -> Global {
        Global { data_dir: Some(fake.dir()), ..Global::default() }
    }

    #[test]
    fn shutdown_comes_back_when_the_process_is_gone() {
        let mut process = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = process.id();
        let fake = Fake::start(move |request| match request {
            Request::Status => Act::Reply(Reply::Status(Box::new(Status { pid, ..Status::default() }))),
            _ => {
                process.kill().unwrap();
                process.wait().unwrap();
                Act::Last(Reply::Done(Done { done: true }))
            }
        });
        let mut out = Vec::new();
        let end = shutdown(&global(&fake), &Environment::default(), JSON, &mut out, true);
        assert_eq!(end.unwrap(), DONE);
        assert_eq!(out, b"{\"done\":true}\n");
        let asked: Vec<Request> = fake.asked.try_iter().collect();
        assert_eq!(asked, [Request::Status, Request::Shutdown { now: true }]);
    }

    /// A daemon that has closed the connection may have others to wait for: whoever asks waits as long as he said.
    #[test]
    fn a_process_that_stays_is_told_after_the_timeout() {
        let mut process = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = process.id();
        let fake = Fake::start(move |request| match request {
            Request::Status => Act::Reply(Reply::Status(Box::new(Status { pid, ..Status::default() }))),
            _ => Act::Last(Reply::Done(Done { done: true })),
        });
        let given = Global { timeout: Some(Duration::from_millis(200)), ..global(&fake) };
        let end = shutdown(&given, &Environment::default(), JSON, &mut Vec::new(), false);
        assert!(matches!(end, Err(Stop::Failed(f)) if f.code == Code::Busy), "not gone");
        let ends = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(500));
            process.kill().unwrap();
            process.wait().unwrap();
        });
        let end = shutdown(&global(&fake), &Environment::default(), JSON, &mut Vec::new(), false);
        ends.join().unwrap();
        assert_eq!(end.unwrap(), DONE);
    }

    #[test]
    fn nobody_waits_longer_than_he_said() {
        let dir = tempfile::tempdir().unwrap();
        let nobody = Global { data_dir: Some(dir.path().to_owned()), ..Global::default() };
        let end =
            until_ready(&nobody, &Environment::default(), Some(Duration::from_millis(120)), &|| false, &|_| Ok(()));
        assert!(matches!(end, Err(Stop::Failed(f)) if f.code == Code::Unavailable && f.hint.is_some()));
    }
}
