//! Verbs about the daemon itself: status, log, recovery, configuration, batch, import, shutdown, completions.

use super::jobs::Detach;
use super::transfer::{ImportMaildirArgs, ImportMboxArgs};
use super::values::parse_renaming;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use verbs::{LogReset, Recover, Since, SnapshotInstall, parse_duration, parse_since};

/// `status`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct StatusArgs {
    /// Print again every two seconds until interrupted
    #[arg(long)]
    pub watch: bool,
    /// Do not ask the daemon: what files and the system say of one that hangs; takes no lock, changes nothing
    #[arg(long, short = 'n', conflicts_with = "watch")]
    pub no_lock: bool,
}

/// `health`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "Example, before what depends on the store: storectl health --wait 90s && start-the-front-ends")]
pub struct HealthArgs {
    /// Wait so long for a store that is ready, also for one whose daemon is not there yet
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub wait: Option<std::time::Duration>,
}

/// Below the help of `restart`.
pub(super) const RESTART_HELP: &str = "\
Changes the program too, where a package has replaced it. Refused (78) while the
configuration file has a fault, so that a running store is not lost to it; waits
five minutes, or --timeout, and ends with 69 if the store is not ready then.";

/// `maintenance`.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum MaintenanceVerb {
    /// Begin one, or give the one that there is another end
    Start(MaintenanceStartArgs),
    /// End it
    Stop,
    /// Whether there is one, until when, and why
    Status,
}

/// `maintenance start`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "Example: storectl maintenance start --for 2h --reason 'import of the old server'")]
pub struct MaintenanceStartArgs {
    /// How long, as 30m, 2h or 1d; at most a week
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    pub length: std::time::Duration,
    /// Why; for `status` and the journal
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
}

/// `log`.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum LogVerb {
    /// Each segment, and why it is kept
    List(LogListArgs),
    /// Read every record and check it; exits 1 on findings
    Verify,
    /// Print records and what they change
    Dump(LogDumpArgs),
    /// On a stopped store: verify the database, and go on from it with a new log; the old one is set aside
    #[command(after_help = "\
For a log that cannot be repaired or is not there any more. What can be read of it
is taken first; what cannot is given up, and said (then the exit code is 2). Old
log files go to quarantine/, none is deleted. Refused (75) while a daemon lives.

Example: storectl --data-dir ./store log reset --dry-run")]
    Reset(LogReset),
}

/// `log list`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct LogListArgs {
    /// Only the names of segments that nobody needs any more
    #[arg(long, conflicts_with = "all")]
    pub removable: bool,
    /// Every segment of the live epoch chain (the default)
    #[arg(long)]
    pub all: bool,
    /// Absolute paths instead of names
    #[arg(long)]
    pub absolute: bool,
}

/// `log dump`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
With --json --follow each record is one line.

Examples:
  storectl log dump --since 2h --user joe@example.org
  storectl log dump --since 0s --follow")]
pub struct LogDumpArgs {
    /// First LSN
    #[arg(long, value_name = "LSN")]
    pub from: Option<u64>,
    /// Last LSN
    #[arg(long, value_name = "LSN")]
    pub to: Option<u64>,
    /// Only records from then on: RFC 3339, or a time ago (30m, 2h, 1d)
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    pub since: Option<Since>,
    /// Only records that touch this mailbox
    #[arg(long, value_name = "MAILBOX")]
    pub mailbox: Option<String>,
    /// Only records that touch this user
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Go on with what comes, until interrupted, or --to is reached
    #[arg(long)]
    pub follow: bool,
}

/// `snapshot`.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum SnapshotVerb {
    /// Copy the database as it is now, while the store goes on
    Take(SnapshotTakeArgs),
    /// Each snapshot, oldest first
    List,
    /// Check snapshots to the last row; exits 1 on findings
    Verify(SnapshotVerifyArgs),
    /// Remove those that are more than the configuration wants
    Prune(SnapshotPruneArgs),
    /// Remove one
    Delete(SnapshotDeleteArgs),
    /// On a stopped store: put one in place of the database, and replay the log behind it
    #[command(after_help = "\
The database that is there, be it what it may, goes to removed/. Exits 2, and changes
nothing, when the log behind the snapshot does not lead to the end, unless the loss is
accepted. Refused (75) while a daemon lives.

Example: storectl --data-dir ./store snapshot install --before 2d --dry-run")]
    Install(SnapshotInstall),
}

/// `checkpoint`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct CheckpointArgs {
    /// `--detach`.
    #[command(flatten)]
    pub detach: Detach,
}

/// `snapshot take`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "Example: storectl snapshot take --verify")]
pub struct SnapshotTakeArgs {
    /// Return when it is verified, too; without it the daemon verifies it afterwards, as snapshot.verify says
    #[arg(long)]
    pub verify: bool,
    /// `--detach`.
    #[command(flatten)]
    pub detach: Detach,
}

/// `snapshot verify`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "Example: storectl snapshot verify --all")]
pub struct SnapshotVerifyArgs {
    /// Its name, as `snapshot list` shows it [default: the newest]
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// All of them
    #[arg(long, conflicts_with = "id")]
    pub all: bool,
    /// `--detach`.
    #[command(flatten)]
    pub detach: Detach,
}

/// `snapshot prune`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct SnapshotPruneArgs {
    /// Do not ask
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// `--detach`.
    #[command(flatten)]
    pub detach: Detach,
}

/// `snapshot delete`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct SnapshotDeleteArgs {
    /// Its name, as `snapshot list` shows it
    #[arg(value_name = "ID")]
    pub id: String,
    /// Do not ask
    #[arg(long, short = 'y')]
    pub yes: bool,
}

/// `recover`.
#[derive(Debug, Clone, PartialEq, Default, Args)]
#[command(after_help = "\
Without --report this runs the `storedd` beside storectl, which refuses (75)
while a daemon lives.

Examples:
  storectl recover --report
  storectl --data-dir ./store recover --final
  storectl recover --until-time 2026-11-22T10:00:00Z --dry-run")]
pub struct RecoverArgs {
    /// Show what the last start found and did (also while the daemon runs)
    #[arg(long)]
    pub report: bool,
    /// The last N starts, newest first
    #[arg(long, value_name = "N", requires = "report", value_parser = clap::value_parser!(u32).range(1..))]
    pub last: Option<u32>,
    /// What makes the run of `storedd recover`.
    #[command(flatten)]
    pub run: Recover,
}

/// `config`.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum ConfigVerb {
    /// Every option with its value
    Show(ConfigShowArgs),
    /// The value of one option
    Get(ConfigGetArgs),
    /// Write one option into the configuration file, checked before, and have it read again
    Set(ConfigSetArgs),
    /// Check the configuration file and name every fault with its line (0 or 78)
    Check(ConfigCheckArgs),
    /// Read the configuration file again: what changed, what waits for a restart
    Reload(ConfigReloadArgs),
}

/// `config get`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct ConfigGetArgs {
    /// Section and key, as in log.spares
    #[arg(value_name = "OPTION")]
    pub option: String,
    /// The built-in default instead of the value in force
    #[arg(long)]
    pub defaults: bool,
}

/// `config set`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
Comments and order of the file are kept. A file that would have a fault is not
written (78).

Examples:
  storectl config set messages.level debug
  storectl config set checkpoint.interval 30s")]
pub struct ConfigSetArgs {
    /// Section and key, as in log.spares
    #[arg(value_name = "OPTION")]
    pub option: String,
    /// The value, with or without the quotes of TOML
    #[arg(value_name = "VALUE", allow_hyphen_values = true, required_unless_present = "default")]
    pub value: Option<String>,
    /// Remove the option from the file, so that its default holds
    #[arg(long, conflicts_with = "value")]
    pub default: bool,
    /// Say what would change, write nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,
}

/// `config check`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct ConfigCheckArgs {
    /// The file [default: --config, or the daemon's]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// `config reload`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct ConfigReloadArgs {
    /// Say what would change, change nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,
}

/// `config show`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct ConfigShowArgs {
    /// The built-in defaults instead of the values in force
    #[arg(long)]
    pub defaults: bool,
}

/// `batch`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
Each line is a verb with its arguments, quoted as in a shell; empty lines and
# comments are skipped. Results come in order, each as soon as it is done, also
while the input stays open. A refused line does not stop the others; the exit
code is 1 if any was refused, 69 if the connection was interrupted (then nothing
is sent again).

Examples:
  printf 'user add joe\\nmailbox create user/joe/Work\\n' | storectl batch -
  storectl batch --atomic changes.txt")]
pub struct BatchArgs {
    /// All lines in one transaction: all of them or none
    #[arg(long)]
    pub atomic: bool,
    /// Where the lines are; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub file: PathBuf,
}

/// `import`.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum ImportVerb {
    /// The mailbox list of a Cyrus server, as `ctl_mboxlist -d` writes it
    CyrusList(CyrusListArgs),
    /// A Maildir++: all mail of a user
    Maildir(ImportMaildirArgs),
    /// An mbox: one file with many messages
    Mbox(ImportMboxArgs),
}

/// `import cyrus-list`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
Names, UIDVALIDITY and rights are kept. Entries marked deleted are left out.
A partition that does not exist here becomes the default partition. A second run
changes nothing.

Example: storectl import cyrus-list mboxlist.json --map-partition default=disk2")]
pub struct CyrusListArgs {
    /// The list; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Put the mailboxes of partition OLD on NEW; may be given several times
    #[arg(long, value_name = "OLD=NEW", value_parser = parse_renaming)]
    pub map_partition: Vec<(String, String)>,
    /// `--detach`.
    #[command(flatten)]
    pub detach: Detach,
    /// Say what would be done, change no byte
    #[arg(long)]
    pub dry_run: bool,
}

/// `shutdown`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
It comes back when the process is gone: others are answered first, at most for
[stop] timeout, and a checkpoint is made. With --timeout it waits no longer than
that and ends with status 75; the daemon stops all the same.

Example: storectl shutdown")]
pub struct ShutdownArgs {
    /// Do not wait for what is in flight and do not checkpoint; the next start replays the log
    #[arg(long)]
    pub now: bool,
}

/// `completions`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "Example: storectl completions bash > /etc/bash_completion.d/storectl")]
pub struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Shells with completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// GNU Bash.
    Bash,
    /// Z shell.
    Zsh,
    /// fish.
    Fish,
}
