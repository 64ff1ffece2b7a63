//! The verbs on a stopped store, as a person types them to either program: `storedd` does them, `storectl` becomes a `storedd` with
//! the same words. Their options stand here and nowhere else, each beside the words that say it again.
//!
//! # Invariants
//! * What [`Words::words`] gives is parsed to the same options.
//! * A value that a user typed is never taken for an option.

mod time;
mod upgrade;

pub use time::{Since, parse_duration, parse_since};
pub use upgrade::{DowngradeEnable, DowngradeVerb, PrepareUpgrade, Upgrade};

use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

/// A verb that can be said again.
pub trait Words {
    /// Its words for `storedd`; a time before now is counted from `now`.
    fn words(&self, now: jiff::Timestamp) -> Vec<OsString>;
}

/// `verbs` and those of `flags` that are set.
fn said<'w>(verbs: &[&'w str], flags: &[(bool, &'w str)]) -> Vec<OsString> {
    let flags = flags.iter().filter(|(set, _)| *set).map(|(_, word)| *word);
    verbs.iter().copied().chain(flags).map(OsString::from).collect()
}

/// `recover`, without what only shows reports.
#[derive(Debug, Clone, PartialEq, Default, Args)]
#[group(id = "run", multiple = true, conflicts_with = "report")]
pub struct Recover {
    /// Recover, checkpoint, remove temporary files, one `... done` line each
    #[arg(long = "final")]
    pub all: bool,
    /// The database may be lost, or an old copy: from the best snapshot, or a complete log; nothing may be missing between
    #[arg(long, short = 'c')]
    pub catastrophic: bool,
    /// The store as it was right behind this LSN; what came later is set aside
    #[arg(long, value_name = "LSN", conflicts_with_all = ["until_time", "accept_loss"])]
    pub until_lsn: Option<u64>,
    /// The store as it was at this time: RFC 3339, or a time ago (30m, 2h, 1d)
    #[arg(long, value_name = "TIME", value_parser = parse_since, conflicts_with = "accept_loss")]
    pub until_time: Option<Since>,
    /// Take what can be reached and give the rest up; needs --yes
    #[arg(long)]
    pub accept_loss: bool,
    /// Do not ask
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Say what would be done, change no byte
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Say more: segments, phases
    #[arg(long, short)]
    pub verbose: bool,
    /// One JSON document on stdout; an option of the program.
    #[arg(skip)]
    pub json: bool,
}

impl Words for Recover {
    fn words(&self, now: jiff::Timestamp) -> Vec<OsString> {
        let flags = [
            (self.all, "--final"),
            (self.catastrophic, "--catastrophic"),
            (self.accept_loss, "--accept-loss"),
            (self.yes, "--yes"),
            (self.dry_run, "--dry-run"),
            (self.verbose, "--verbose"),
        ];
        let mut words = said(&["recover"], &flags);
        words.extend(self.until_lsn.map(|lsn| format!("--until-lsn={lsn}").into()));
        words.extend(self.until_time.map(|time| format!("--until-time={}", time.rfc3339(now)).into()));
        words
    }
}

/// `test`.
#[derive(Debug, Clone, PartialEq, Default, Args)]
pub struct Test {
    /// List waiting and deadlocked transactions (a stopped store has none); a deadlock is bad
    #[arg(long, short = 'l')]
    pub deadlocks: bool,
    /// Recover first
    #[arg(long, short)]
    pub recover: bool,
    /// Print the state of the store at the end
    #[arg(long, short)]
    pub verbose: bool,
    /// One JSON document on stdout; an option of the program.
    #[arg(skip)]
    pub json: bool,
}

impl Words for Test {
    fn words(&self, _now: jiff::Timestamp) -> Vec<OsString> {
        let flags = [(self.recover, "--recover"), (self.deadlocks, "--deadlocks"), (self.verbose, "--verbose")];
        said(&["test"], &flags)
    }
}

/// `restore-db`.
#[derive(Debug, Clone, PartialEq, Default, Args)]
pub struct RestoreDb {
    /// The backup: the directory MSDB_Backup_... that backup-db made, or one that backup --complete made
    #[arg(value_name = "BACKUP")]
    pub backup: PathBuf,
    /// Do not ask
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Check the backup, say what would be done, change no byte
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Put this store aside for a backup of another one
    #[arg(long)]
    pub other_store: bool,
    /// Of a complete copy put back this partition alone, and leave database and log as they are; may be given several times
    #[arg(long, value_name = "NAME", conflicts_with = "other_store")]
    pub partition: Vec<String>,
    /// Say more: files, phases
    #[arg(long, short)]
    pub verbose: bool,
    /// One JSON document on stdout; an option of the program.
    #[arg(skip)]
    pub json: bool,
}

impl Words for RestoreDb {
    fn words(&self, _now: jiff::Timestamp) -> Vec<OsString> {
        let flags = [
            (self.yes, "--yes"),
            (self.dry_run, "--dry-run"),
            (self.other_store, "--other-store"),
            (self.verbose, "--verbose"),
        ];
        let mut words = said(&["restore-db"], &flags);
        words.extend(self.partition.iter().flat_map(|name| ["--partition".into(), name.into()]));
        // Absolute, it is never taken for an option.
        words.push(std::path::absolute(&self.backup).unwrap_or_else(|_| self.backup.clone()).into());
        words
    }
}

/// `log reset`.
#[derive(Debug, Clone, PartialEq, Default, Args)]
pub struct LogReset {
    /// Do not ask
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Say what would be done, change no byte
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Say more: segments, phases
    #[arg(long, short)]
    pub verbose: bool,
    /// One JSON document on stdout; an option of the program.
    #[arg(skip)]
    pub json: bool,
}

impl Words for LogReset {
    fn words(&self, _now: jiff::Timestamp) -> Vec<OsString> {
        let flags = [(self.yes, "--yes"), (self.dry_run, "--dry-run"), (self.verbose, "--verbose")];
        said(&["log", "reset"], &flags)
    }
}

/// `snapshot install`.
#[derive(Debug, Clone, PartialEq, Default, Args)]
pub struct SnapshotInstall {
    /// Its name, as `storectl snapshot list` shows it
    #[arg(value_name = "ID", required_unless_present = "before", conflicts_with = "before")]
    pub id: Option<String>,
    /// The newest one taken by this time: RFC 3339, or a time ago (30m, 2h, 1d)
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    pub before: Option<Since>,
    /// Leave the log behind it: the store as the snapshot has it; what came later is set aside
    #[arg(long)]
    pub leave_log: bool,
    /// Replay as far as the log leads, and give the rest up
    #[arg(long, conflicts_with = "leave_log")]
    pub accept_loss: bool,
    /// Do not ask
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Say what would be done, change no byte
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Say more: segments, phases
    #[arg(long, short)]
    pub verbose: bool,
    /// One JSON document on stdout; an option of the program.
    #[arg(skip)]
    pub json: bool,
}

impl Words for SnapshotInstall {
    fn words(&self, now: jiff::Timestamp) -> Vec<OsString> {
        let flags = [
            (self.leave_log, "--leave-log"),
            (self.accept_loss, "--accept-loss"),
            (self.yes, "--yes"),
            (self.dry_run, "--dry-run"),
            (self.verbose, "--verbose"),
        ];
        let mut words = said(&["snapshot", "install"], &flags);
        words.extend(self.before.map(|time| format!("--before={}", time.rfc3339(now)).into()));
        // Behind it nothing is an option.
        words.extend(self.id.iter().flat_map(|id| ["--".into(), id.into()]));
        words
    }
}

#[cfg(test)]
mod tests;
