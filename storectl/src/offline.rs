//! Verbs on a stopped store: the `storedd` beside this program does them, with the same options. It holds the store's
//! lock while it does, so a living daemon makes it refuse (75).

use crate::cli::Global;
use crate::confirm;
use crate::exit::{Outcome, Stop};
use proto::{Code, Report};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use verbs::{RestoreDb, Words};

/// The words of a verb for `storedd`.
#[must_use]
pub fn words(verb: &impl Words) -> Vec<OsString> {
    verb.words(jiff::Timestamp::now())
}

/// The words of `storedd restore-db`; asks here, where it is needed.
///
/// # Errors
/// No consent.
pub fn restore_db(args: &RestoreDb) -> Outcome<Vec<OsString>> {
    if !args.yes && !args.dry_run {
        confirm::consent("put the backup in the place of this store?")?;
    }
    // Asked once.
    Ok(words(&RestoreDb { yes: !args.dry_run, ..args.clone() }))
}

/// Becomes `storedd` with these words; comes back only if that fails.
#[must_use]
pub fn run(global: &Global, words: &[OsString]) -> Stop {
    match command(global, words, global.json) {
        Ok(mut command) => not_run(&command.exec()),
        Err(stop) => stop,
    }
}

/// The reports of the last starts as `storedd` reads them from a stopped store; or the exit code it ended with, and what
/// it said.
///
/// # Errors
/// It cannot be run, or says something else than reports.
pub fn reports(global: &Global, last: u32) -> Outcome<Result<Vec<Report>, (u8, String)>> {
    let words = ["recover", "--report", "--last", &last.to_string()].map(OsString::from);
    let mut command = command(global, &words, true)?;
    let output = command.stderr(Stdio::inherit()).output().map_err(|e| not_run(&e))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.code() {
        Some(0) => serde_json::from_str(&said)
            .map(Ok)
            .map_err(|e| Stop::new(Code::Protocol, format!("storedd told something else than reports: {e}"))),
        code => Ok(Err((code.and_then(|code| u8::try_from(code).ok()).unwrap_or(Code::Bug.exit()), said))),
    }
}

/// Becomes `storedd --check-config`; comes back only if that fails.
#[must_use]
pub fn check_config(global: &Global, file: Option<&Path>) -> Stop {
    let global = Global { config: file.map(Path::to_path_buf).or_else(|| global.config.clone()), ..global.clone() };
    match command(&global, &["--check-config".into()], global.json) {
        Ok(mut command) => not_run(&command.exec()),
        Err(stop) => stop,
    }
}

/// What `storedd --check-config` says of a file: nothing, or its faults.
///
/// # Errors
/// It cannot be run.
pub fn checked(global: &Global, file: &Path) -> Outcome<Result<(), String>> {
    let global = Global { config: Some(file.to_path_buf()), socket: None, ..global.clone() };
    let output = command(&global, &["--check-config".into()], false)?.output().map_err(|e| not_run(&e))?;
    if output.status.success() {
        return Ok(Ok(()));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let faults = said.lines().filter_map(|line| line.strip_prefix("storedd: "));
    Ok(Err(faults.collect::<Vec<_>>().join("\n")))
}

fn not_run(error: &std::io::Error) -> Stop {
    Stop::hint(
        Code::Unavailable,
        format!("the storedd beside storectl cannot be run: {error}"),
        "install storedd beside storectl, or run it by hand with the same options",
    )
}

/// `storedd` with the options that both programs have in common, and these words.
fn command(global: &Global, words: &[OsString], json: bool) -> Outcome<Command> {
    let mut command = Command::new(beside(std::env::current_exe())?);
    command.args(shared(global)).args(words).args(json.then_some("--json"));
    Ok(command)
}

fn shared(global: &Global) -> Vec<OsString> {
    let mut words = Vec::new();
    for (option, path) in [("--data-dir", &global.data_dir), ("--config", &global.config), ("--socket", &global.socket)]
    {
        if let Some(path) = path {
            words.extend([option.into(), path.into()]);
        }
    }
    words
}

fn beside(this: std::io::Result<PathBuf>) -> Result<PathBuf, Stop> {
    this.ok().as_deref().and_then(Path::parent).map(|dir| dir.join("storedd")).ok_or_else(|| {
        Stop::hint(Code::Io, "this program's own place is unknown", "run storedd by hand with the same options")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_handed_on() {
        let global = Global { data_dir: Some("d".into()), json: true, ..Global::default() };
        assert_eq!(shared(&global), ["--data-dir", "d"]);
        assert_eq!(beside(Ok("/usr/bin/storectl".into())).unwrap(), Path::new("/usr/bin/storedd"));
    }
}
