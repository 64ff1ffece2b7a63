//! Verbs on a stopped store: the `storedd` beside this program does them, with the same options. It holds the store's
//! lock while it does, so a living daemon makes it refuse (75).

use crate::cli::{Global, LogResetArgs, RecoverRun, RestoreDbArgs, SnapshotInstallArgs, TestArgs};
use crate::confirm;
use crate::exit::{Outcome, Stop};
use proto::{Code, Report};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The words of `storedd recover`.
#[must_use]
pub fn recover(run: &RecoverRun) -> Vec<OsString> {
    let mut words = vec!["recover".into()];
    let mut flag = |set: bool, word: &str| words.extend(set.then(|| word.into()));
    flag(run.all, "--final");
    flag(run.catastrophic, "--catastrophic");
    flag(run.accept_loss, "--accept-loss");
    flag(run.yes, "--yes");
    flag(run.dry_run, "--dry-run");
    flag(run.verbose, "--verbose");
    if let Some(lsn) = run.until_lsn {
        words.extend(["--until-lsn".into(), lsn.to_string().into()]);
    }
    if let Some(time) = run.until_time {
        words.extend(["--until-time".into(), rfc3339(time.micros(jiff::Timestamp::now())).into()]);
    }
    words
}

/// A time as `storedd` takes it.
fn rfc3339(micros: u64) -> String {
    let time = i64::try_from(micros).ok().and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok());
    // Later than any calendar: the newest that there is.
    time.unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// The words of `storedd log reset`.
#[must_use]
pub fn log_reset(args: &LogResetArgs) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["log".into(), "reset".into()];
    words.extend(args.yes.then(|| "--yes".into()));
    words.extend(args.dry_run.then(|| "--dry-run".into()));
    words.extend(args.verbose.then(|| "--verbose".into()));
    words
}

/// The words of `storedd snapshot install`.
#[must_use]
pub fn snapshot_install(args: &SnapshotInstallArgs) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["snapshot".into(), "install".into()];
    let mut flag = |set: bool, word: &str| words.extend(set.then(|| word.into()));
    flag(args.leave_log, "--leave-log");
    flag(args.accept_loss, "--accept-loss");
    flag(args.yes, "--yes");
    flag(args.dry_run, "--dry-run");
    flag(args.verbose, "--verbose");
    if let Some(before) = args.before {
        words.extend(["--before".into(), rfc3339(before.micros(jiff::Timestamp::now())).into()]);
    }
    // Behind it nothing is an option.
    words.extend(args.id.iter().flat_map(|id| ["--".into(), id.into()]));
    words
}

/// The words of `storedd test`.
#[must_use]
pub fn test(args: &TestArgs) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["test".into()];
    words.extend(args.recover.then(|| "--recover".into()));
    words.extend(args.deadlocks.then(|| "--deadlocks".into()));
    words.extend(args.verbose.then(|| "--verbose".into()));
    words
}

/// The words of `storedd restore-db`; asks here, where it is needed.
///
/// # Errors
/// No consent.
pub fn restore_db(args: &RestoreDbArgs) -> Outcome<Vec<OsString>> {
    if !args.yes && !args.dry_run {
        confirm::consent("put the backup in the place of this store?")?;
    }
    let mut words: Vec<OsString> = vec!["restore-db".into()];
    words.push(if args.dry_run { "--dry-run" } else { "--yes" }.into());
    words.extend(args.other_store.then(|| "--other-store".into()));
    words.extend(args.verbose.then(|| "--verbose".into()));
    // Absolute, it is never taken for an option.
    words.push(std::path::absolute(&args.backup).unwrap_or_else(|_| args.backup.clone()).into());
    Ok(words)
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
    match command(&global, &["--check-config".into()], false) {
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
        let run = RecoverRun { all: true, verbose: true, yes: true, ..RecoverRun::default() };
        assert_eq!(recover(&run), ["recover", "--final", "--yes", "--verbose"]);
        let until_time = Some(crate::cli::Since::At(1_700_000_000_000_001));
        let run = RecoverRun { catastrophic: true, until_time, ..RecoverRun::default() };
        let words = ["recover", "--catastrophic", "--until-time", "2023-11-14T22:13:20.000001Z"];
        assert_eq!(recover(&run), words);
        assert_eq!(recover(&RecoverRun { until_lsn: Some(7), ..run })[2..4], ["--until-lsn", "7"]);
        assert_eq!(log_reset(&LogResetArgs { yes: true, ..LogResetArgs::default() }), ["log", "reset", "--yes"]);
        let args = SnapshotInstallArgs { id: Some("s".into()), leave_log: true, dry_run: true, ..Default::default() };
        assert_eq!(snapshot_install(&args), ["snapshot", "install", "--leave-log", "--dry-run", "--", "s"]);
        let args = TestArgs { deadlocks: true, recover: false, verbose: true };
        assert_eq!(test(&args), ["test", "--deadlocks", "--verbose"]);
        let global = Global { data_dir: Some("d".into()), json: true, ..Global::default() };
        assert_eq!(shared(&global), ["--data-dir", "d"]);
        assert_eq!(beside(Ok("/usr/bin/storectl".into())).unwrap(), Path::new("/usr/bin/storedd"));
    }
}
