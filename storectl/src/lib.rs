//! # Purpose
//! The client of storedd: turns a command line into requests, calls the daemon, prints the answers, ends with a code.
//! It never opens the store; what it tells comes from the daemon, or from the `storedd` it runs on a stopped store.
//!
//! # Operation
//! `cli` (words to verbs) -> `commands` (verbs to requests) -> `ask`, `batch`, `import` (requests to answers) ->
//! `render` (answers to text) -> exit code (`exit`).

pub mod archive;
mod ask;
mod backup;
mod batch;
mod cli;
mod commands;
mod complete;
mod configuration;
mod confirm;
mod cyrus;
mod deliver;
mod errand;
mod exit;
#[cfg(test)]
mod fake;
mod files;
mod follow;
mod holding;
mod import;
mod job;
mod keep;
mod later;
mod life;
mod mail;
mod names;
mod offline;
mod pace;
mod pipe;
mod remark;
mod render;
mod restore;
mod socket;
mod suggest;
mod uids;
mod usage;

use clap::FromArgMatches;
use cli::{Cli, CompletionsArgs};
use commands::Plan;
use exit::{DONE, Outcome, PARTLY, Stop};
use proto::Errand;
use render::{Style, ink, notes};
use socket::Environment;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

/// Does what the arguments say (the first is the program's name); gives the exit code of the table in `--help`.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    match complete::answered(&args) {
        Ok(false) => {}
        Ok(true) => return ExitCode::from(DONE),
        // A shell shows nothing of it; what was typed stays.
        Err(_) => return ExitCode::from(PARTLY),
    }
    let parsed = cli::definition().try_get_matches_from(&args).and_then(|m| Cli::from_arg_matches(&m));
    let (json, outcome) = match parsed {
        Ok(cli) => {
            render::name_store(&cli.global);
            (cli.global.json, act(cli))
        }
        Err(error) => (args.iter().any(|arg| arg == "--json"), unparsed(&error)),
    };
    ExitCode::from(outcome.unwrap_or_else(|stop| end(stop, json)))
}

/// Tells why a run ended early; gives its exit code.
fn end(stop: Stop, json: bool) -> u8 {
    let (failure, json) = match stop {
        Stop::Unread => return DONE,
        Stop::Failed(failure) => {
            notes::failure(&failure);
            (failure, json)
        }
        Stop::Usage(text, failure) => {
            notes::text(&text);
            (failure, json)
        }
        // A list that has begun stays cut off: an error behind it would make it neither.
        Stop::Broken(failure) => {
            notes::failure(&failure);
            (failure, false)
        }
    };
    let out = &mut render::stdout();
    let told = if json { render::error(out, &failure).and_then(|()| out.flush()) } else { Ok(()) };
    match told.map_err(|e| Stop::output(&e)) {
        Err(Stop::Failed(unwritten)) => unwritten.code.exit(),
        _ => failure.code.exit(),
    }
}

/// Help and version are results; anything else that could not be parsed is a failure.
fn unparsed(error: &clap::Error) -> Outcome<u8> {
    let text = error.render().to_string();
    if usage::is_asked_for(error) {
        render::text(&mut render::stdout(), &text)?;
        return Ok(DONE);
    }
    match later::failure(error) {
        Some(failure) => Err(Stop::Failed(failure)),
        None => Err(Stop::Usage(text, usage::failure(error))),
    }
}

fn act(cli: Cli) -> Outcome<u8> {
    let Cli { global, verb } = cli;
    let style = Style::of_stdout(global.json);
    ink::allow(style.tty);
    let environment = Environment::of_process();
    let out = &mut render::stdout();
    match commands::plan(verb)? {
        Plan::Completions(args) => print_completions(out, &args),
        Plan::Recover(args) if args.accept_loss && !args.dry_run && life::is_running(&global, &environment)? => {
            life::accept_loss(&global, &environment, args.yes)?;
            // What was given up is told, and is no success.
            ask::report(&global, &environment, style, out, None).map(|_| 2)
        }
        Plan::Recover(args) => Err(offline::run(&global, &offline::words(&args))),
        Plan::Test(args) if args.deadlocks && !args.recover && life::is_running(&global, &environment)? => {
            ask::one(&global, &environment, style, out, &commands::locks(true))
        }
        Plan::Test(args) => Err(offline::run(&global, &offline::words(&args))),
        Plan::RestoreDb(args) => Err(offline::run(&global, &offline::restore_db(&args)?)),
        Plan::Job(request) => job::run(&global, &environment, style, out, &request),
        Plan::SnapshotInstall(args) => Err(offline::run(&global, &offline::words(&args))),
        Plan::LogReset(args) => Err(offline::run(&global, &offline::words(&args))),
        Plan::Follow(args) => follow::dump(&global, &environment, style, out, args),
        Plan::Offline(words) => Err(offline::run(&global, &words)),
        Plan::Ask(request) => {
            let code = ask::one(&global, &environment, style, out, &request)?;
            remark::add(&global, &environment, &request.request);
            Ok(code)
        }
        Plan::Pick(ask, wanted) => uids::run(&global, &environment, style, out, ask, &wanted),
        Plan::Report(last) => ask::report(&global, &environment, style, out, last),
        Plan::Watch => ask::watch(&global, &environment, style, out),
        Plan::Drain(args) => life::drain(&global, &environment, style, out, args.wait),
        Plan::Hold(args) => holding::hold(&global, &environment, args),
        Plan::Freeze(args) => holding::freeze(&global, &environment, style, out, &args),
        Plan::Shutdown { now } => life::shutdown(&global, &environment, style, out, now),
        Plan::ConfigGet(args) => configuration::get(&global, &environment, style, out, &args),
        Plan::ConfigSet(args) => configuration::set(&global, &environment, style, out, &args),
        Plan::ConfigCheck(args) => configuration::check(&global, &environment, &args),
        Plan::Restart => life::restart(&global, &environment, style, out),
        Plan::WaitReady(wait) => life::wait_ready(&global, &environment, style, out, wait),
        Plan::Transfer(transfer) => {
            let (errand, detach) = (transfer.errand(), transfer.detach()?);
            errand::run(&global, &environment, style, errand, detach, || {
                mail::transfer(&global, &environment, style, out, &transfer)
            })
        }
        // As long as its program is there each of them is a job by what it says to the daemon.
        Plan::Restore(args) => match args.detaches()? {
            true => {
                restore::ask_before(&args)?;
                errand::run(&global, &environment, style, Errand::Restore, true, || {
                    restore::run(&global, &environment, style, out, &args)
                })
            }
            false => restore::run(&global, &environment, style, out, &args),
        },
        Plan::Backup(args) => match args.detaches()? {
            true => errand::run(&global, &environment, style, Errand::Backup, true, || {
                backup::run(&global, &environment, style, out, &args)
            }),
            false => backup::run(&global, &environment, style, out, &args),
        },
        Plan::Import(args) => {
            let detach = args.detach.of(Some(&args.file))?;
            errand::run(&global, &environment, style, Errand::ImportCyrusList, detach, || {
                import::cyrus_list(&global, &environment, style, out, &args)
            })
        }
        Plan::Deliver(args) => deliver::run(&global, &environment, style, out, args, std::io::stdin().lock()),
        Plan::Batch(args) => {
            let input = files::open(&args.file)?;
            let client = ask::connect_bulk(&global, &environment)?;
            errand::run(&global, &environment, style, Errand::Batch, false, || {
                match batch::run(&args, input, client, style, out) {
                    // Lines that nobody reads the results of are not sent any more.
                    Err(Stop::Unread) => Ok(PARTLY),
                    ended => ended,
                }
            })
        }
    }
}

fn print_completions(out: &mut dyn Write, args: &CompletionsArgs) -> Outcome<u8> {
    let script = complete::script(args.shell).map_err(|e| Stop::output(&e))?;
    render::text(out, &String::from_utf8_lossy(&script))?;
    Ok(DONE)
}

/// The command line as clap knows it: what man pages are made of.
#[must_use]
pub fn definition() -> clap::Command {
    cli::definition()
}

/// The completion script for `bash`, `zsh` or `fish`; `None` for another shell.
#[must_use]
pub fn completions(shell: &str) -> Option<Vec<u8>> {
    let shell = <cli::Shell as clap::ValueEnum>::from_str(shell, false).ok()?;
    complete::script(shell).ok()
}
