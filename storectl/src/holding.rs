//! `locks hold` and `freeze`: something is held by the daemon for this connection while a command runs.
//!
//! # Operation
//! The lease lives as long as the connection, which says every second that it is there. A command that runs under a lease
//! finds its number in the environment ([`LEASE`]); a `storectl` in it then acts for the holder.

use crate::ask::connect;
use crate::cli::{FreezeArgs, Global, HeldRun, LockHoldArgs};
use crate::exit::{DONE, Outcome, Stop};
use crate::render::{self, Style, notes, words};
use crate::socket::{self, Environment};
use proto::{Client, ClientError, Code, Done, Lock, Reply, Request};
use std::ffi::OsString;
use std::io::Write;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

pub use crate::socket::LEASE;

/// Between two looks at the command.
const LOOK: Duration = Duration::from_millis(20);
/// After so many looks the daemon is told that this program is there.
const LOOKS: u32 = 50;

/// `locks hold`.
///
/// # Errors
/// It was not granted; the command cannot be run; the lease ended before the command did (75).
pub fn hold(global: &Global, environment: &Environment, args: LockHoldArgs) -> Outcome<u8> {
    let LockHoldArgs { resource, length, wait, run: HeldRun { reason, command } } = args;
    let request = Request::LockTake { resource, for_ms: length.map(millis), wait_ms: wait.map(millis), reason };
    let path = socket::path(global, environment)?;
    run(global, environment, &request, &command, |command, lock| {
        command.env(LEASE, socket::lease_word(lock.id, &path));
    })
}

/// `freeze`.
///
/// # Errors
/// As [`hold`].
pub fn freeze(
    global: &Global,
    environment: &Environment,
    style: Style,
    out: &mut dyn Write,
    args: &FreezeArgs,
) -> Outcome<u8> {
    let request = Request::Freeze { for_ms: millis(args.length), reason: args.reason.clone() };
    if args.command.is_empty() {
        stand_still(global, environment, &request, args.length)?;
        render::summary(out, style, &Done { done: true }, &[])?;
        return Ok(DONE);
    }
    run(global, environment, &request, &args.command, |_, _| ())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Holds it for a time, for whoever does something elsewhere meanwhile.
fn stand_still(global: &Global, environment: &Environment, request: &Request, length: Duration) -> Outcome<()> {
    let mut client = connect(global, environment, true)?;
    let lock = take(&mut client, request)?;
    notes::note(&format!(
        "nothing is written for {}, or until this is interrupted",
        words::duration(length.as_secs_f64())
    ));
    let mut left = length;
    while !left.is_zero() {
        let piece = left.min(LOOK * LOOKS);
        std::thread::sleep(piece);
        left -= piece;
        if let Err(e) = client.ping() {
            return Err(ended(request, &e));
        }
    }
    // It may have ended by itself just now.
    let _ = client.call(&Request::LockRelease { id: lock.id });
    Ok(())
}

fn take(client: &mut Client, request: &Request) -> Outcome<Lock> {
    match client.call(request).map_err(|e| Stop::Failed(e.failure()))? {
        Reply::Lock(lock) => Ok(lock),
        other => Err(Stop::new(Code::Protocol, format!("the daemon answered {} with {other:?}", request.verb()))),
    }
}

fn run(
    global: &Global,
    environment: &Environment,
    request: &Request,
    words: &[OsString],
    prepare: impl FnOnce(&mut Command, &Lock),
) -> Outcome<u8> {
    let mut client = connect(global, environment, true)?;
    let lock = take(&mut client, request)?;
    let Some((program, arguments)) = words.split_first() else {
        return Err(Stop::new(Code::Usage, "no command to run"));
    };
    let mut command = Command::new(program);
    command.args(arguments);
    prepare(&mut command, &lock);
    let child = command.spawn().map_err(|e| {
        // The end of the connection gives back what was held.
        Stop::hint(Code::NoInput, format!("{} cannot be run: {e}", program.display()), "give a command behind --")
    })?;
    let status = wait(&mut client, child)?;
    match client.call(&Request::LockRelease { id: lock.id }) {
        Ok(_) => Ok(code(status)),
        Err(e) => Err(ended(request, &e)),
    }
}

/// Waits for the command and keeps the connection awake.
fn wait(client: &mut Client, mut child: Child) -> Outcome<ExitStatus> {
    let failed = |e: std::io::Error| Stop::new(Code::Io, format!("the command cannot be waited for: {e}"));
    let mut lost = false;
    loop {
        for _ in 0..LOOKS {
            if let Some(status) = child.try_wait().map_err(failed)? {
                return Ok(status);
            }
            std::thread::sleep(LOOK);
        }
        if !lost && let Err(e) = client.ping() {
            lost = true;
            notes::note(&format!("nothing is held any more, the command goes on: {e}"));
        }
    }
}

/// What was held ended before the command did.
fn ended(request: &Request, error: &ClientError) -> Stop {
    let failure = error.failure();
    let what = match request {
        Request::Freeze { .. } => "the freeze ended before the command did: what it copied is no good",
        _ => "the lease ended before the command did",
    };
    Stop::hint(Code::Busy, format!("{what} ({failure})"), "run it again with a longer --for")
}

/// As a shell tells it.
fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
