//! Verbs on a stopped store: the `storedd` beside this program does them, with the same options. It holds the store's
//! lock while it does, so a living daemon makes it refuse (75).

use crate::cli::{Global, RecoverRun, TestArgs};
use crate::exit::Stop;
use proto::Code;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The words of `storedd recover`.
#[must_use]
pub fn recover(run: &RecoverRun) -> Vec<OsString> {
    let mut words = vec!["recover".into()];
    let mut flag = |set: bool, word: &str| words.extend(set.then(|| word.into()));
    flag(run.last_act, "--final");
    flag(run.catastrophic, "--catastrophic");
    flag(run.accept_loss, "--accept-loss");
    flag(run.yes, "--yes");
    flag(run.dry_run, "--dry-run");
    if let Some(lsn) = run.until_lsn {
        words.extend(["--until-lsn".into(), lsn.to_string().into()]);
    }
    if let Some(time) = &run.until_time {
        words.extend(["--until-time".into(), time.into()]);
    }
    words.extend((0..run.verbose).map(|_| "-v".into()));
    words
}

/// The words of `storedd recover --report`.
#[must_use]
pub fn report(last: Option<u32>) -> Vec<OsString> {
    let mut words = vec!["recover".into(), "--report".into()];
    if let Some(last) = last {
        words.extend(["--last".into(), last.to_string().into()]);
    }
    words
}

/// The words of `storedd test`.
#[must_use]
pub fn test(args: &TestArgs) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["test".into()];
    words.extend(args.recover.then(|| "--recover".into()));
    words.extend(args.deadlocks.then(|| "--deadlocks".into()));
    words.extend((0..args.verbose).map(|_| "-v".into()));
    words
}

/// Becomes `storedd` with these words; comes back only if that fails.
#[must_use]
pub fn run(global: &Global, words: &[OsString]) -> Stop {
    let program = match beside(std::env::current_exe()) {
        Ok(program) => program,
        Err(stop) => return stop,
    };
    let error = Command::new(&program).args(shared(global)).args(words).exec();
    Stop::hint(
        Code::Unavailable,
        format!("{} cannot be run: {error}", program.display()),
        "install storedd beside storectl, or run it by hand with the same options",
    )
}

/// The options that both programs have in common, as the other one takes them.
fn shared(global: &Global) -> Vec<OsString> {
    let mut words = Vec::new();
    for (option, path) in [("--data-dir", &global.data_dir), ("--config", &global.config), ("--socket", &global.socket)]
    {
        if let Some(path) = path {
            words.extend([option.into(), path.into()]);
        }
    }
    words.extend(global.json.then(|| "--json".into()));
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
        let run = RecoverRun { last_act: true, until_lsn: Some(7), verbose: 2, yes: true, ..RecoverRun::default() };
        assert_eq!(recover(&run), ["recover", "--final", "--yes", "--until-lsn", "7", "-v", "-v"]);
        let args = TestArgs { deadlocks: true, recover: false, verbose: 1 };
        assert_eq!(test(&args), ["test", "--deadlocks", "-v"]);
        assert_eq!(report(Some(3)), ["recover", "--report", "--last", "3"]);
        let global = Global { data_dir: Some("d".into()), json: true, ..Global::default() };
        assert_eq!(shared(&global), ["--data-dir", "d", "--json"]);
        assert_eq!(beside(Ok("/usr/bin/storectl".into())).unwrap(), Path::new("/usr/bin/storedd"));
    }
}
