//! Verbs on a stopped store. They take the store's lock, so they refuse while a daemon lives, and they are strict: what a start
//! would work around they refuse, name the files, and change nothing.

mod begin;
mod install;
mod narrate;
mod recover;
mod reset;
mod restore;
mod show;
mod status;
mod test;
mod upgrade;

pub use install::snapshot_install;
pub use recover::recover;
pub use reset::log_reset;
pub use restore::restore_db;
pub use status::status;
pub use test::test;
pub use upgrade::{downgrade, prepare, upgrade, wants_upgrade};

use crate::config::Config;
use crate::error::StoreError;
use crate::lsn::Micros;
use crate::place;
use crate::signals::Signal;
use serde_json::json;
use std::io::IsTerminal;

/// An offline verb that ended before its end: what to say, and the exit status.
struct Ended {
    code: &'static str,
    message: String,
    hint: Option<String>,
    exit: u8,
}

impl From<StoreError> for Ended {
    fn from(e: StoreError) -> Ended {
        Ended { code: e.code(), message: e.to_string(), hint: e.hint(), exit: e.exit() }
    }
}

/// Says on both streams why a verb ended.
/// A point in time that was settled when the program began.
fn moment(time: verbs::Since) -> Micros {
    Micros(time.micros_before(0))
}

fn complain(ended: &Ended, json: bool, config: &Config) -> u8 {
    let hint = ended.hint.as_ref().map(|hint| proto::naming::complete(hint, &place::named(config)));
    eprintln!("storedd: {}", ended.message);
    if let Some(hint) = &hint {
        eprintln!("  next: {hint}");
    }
    if json {
        println!("{}", json!({"error": {"code": ended.code, "message": ended.message, "hint": hint}}));
    }
    ended.exit
}

/// From here on SIGINT and SIGTERM end the verb at once and say so (row 35). Nothing needs to be undone: whatever is written is
/// written so that a process may be killed at any instruction, and the lock goes with the process.
fn interruptible() -> Result<(), StoreError> {
    let end = |signal| {
        // The terminal may be gone; the verb goes on.
        let Signal::Stop(name) = signal else { return };
        eprintln!(
            "storedd: {name}: interrupted; the store is as it was or as it was to be, run the same command again"
        );
        std::process::exit(if name == "SIGINT" { 130 } else { 143 });
    };
    crate::signals::listen(end).map(drop).map_err(|e| StoreError::io("install", "signal handlers", e))
}

fn survive_file_limit() -> Result<(), StoreError> {
    crate::signals::survive_file_limit().map_err(|e| StoreError::io("install", "signal handlers", e))
}

/// True if somebody can be asked.
fn is_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

fn confirmed(question: &str) -> bool {
    if !is_terminal() {
        return false;
    }
    eprint!("{question}");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).is_ok() && matches!(line.trim(), "y" | "Y" | "yes")
}
