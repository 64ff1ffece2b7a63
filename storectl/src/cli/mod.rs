//! # Purpose
//! The command line as types: verbs, options and help texts, once, for the shell, for the lines of a batch and for
//! the completions. Nothing here does anything; `commands.rs` turns a verb into a request.

mod ageing;
mod backups;
mod check;
mod holding;
mod jobs;
mod mailbackup;
mod mailrestore;
mod messages;
mod objects;
mod reconstruct;
mod service;
mod transfer;
mod values;

pub use ageing::*;
pub use backups::*;
pub use check::*;
pub use holding::*;
pub use jobs::*;
pub use mailbackup::*;
pub use mailrestore::*;
pub use messages::*;
pub use objects::*;
pub use reconstruct::*;
pub use service::*;
pub use transfer::*;
pub use values::*;

use crate::exit;
use clap::{Args, CommandFactory, Parser, Subcommand};
use service::RESTART_HELP;
use std::path::PathBuf;
use verbs::{DowngradeVerb, PrepareUpgrade, RestoreDb, Test, Upgrade, parse_duration};

/// Ends the help of every verb, so that the table itself stands in one place.
const SEE_TABLE: &str = "Exit codes and more: storectl --help";

/// Drives a storedd mail store: asks the daemon over its control socket and prints the answer.
///
/// Results go to standard output, everything else to standard error. When standard output is no terminal, tables are one
/// record a line, fields separated by tabs, without a heading; --json prints one JSON document with stable keys.
#[derive(Debug, Clone, PartialEq, Parser)]
#[command(name = "storectl", version, propagate_version = true, arg_required_else_help = true, max_term_width = 120)]
pub struct Cli {
    /// Options that stand before or after any verb.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options that stand before or after any verb.
#[derive(Debug, Clone, PartialEq, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Data directory of the store: talk to its DIR/control.sock
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Control socket [default: --data-dir, $STOREDD_SOCKET, --config, /run/storedd/control.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Configuration file: names the socket, and is handed to `storedd` by recover and test [env: STOREDD_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON: one document, or one object a line for `batch` and `--watch`
    #[arg(long, global = true, overrides_with = "json")]
    pub json: bool,
    /// Longest wait for an answer, as 30, 30s or 5m; 0 waits for ever [default: 60s; none for long work]
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<std::time::Duration>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum Verb {
    /// State, LSNs, ages, alarms; exits 0 if the daemon runs, 3 if not
    Status(StatusArgs),
    /// The exit code: 0 ready, 69 not, or no room or partition for mail; a word about partitions that cannot be used
    Health(HealthArgs),
    /// Counters, group sizes, latencies, database, log
    Stats,
    /// Every number, in the text format of Prometheus
    Metrics,
    /// Make the database durable by itself, return when it is
    Checkpoint(CheckpointArgs),
    /// A time in which bulk work is expected: no alarms, no restart for the log it piles up
    #[command(subcommand)]
    Maintenance(MaintenanceVerb),
    /// The write-ahead log: list, verify, dump
    #[command(subcommand)]
    Log(LogVerb),
    /// Copies of the database to go back to
    #[command(subcommand)]
    Snapshot(SnapshotVerb),
    /// Copy the mailbox list and its log into a directory of its own, while it goes on; no mail
    BackupDb(BackupDbArgs),
    /// Put a backup in the place of a stopped store, and recover it
    #[command(after_help = "\
Runs the `storedd` beside storectl, which refuses (75) while a daemon lives. The
backup is checked to its last byte before anything is touched. The directories
that are there get the name <dir>.asof<date>; then comes a recovery, with whose
status it ends. What was changed after the backup is named, and is not in it.

Examples:
  storectl restore-db --dry-run /media/backup/MSDB_Backup_20261122T182000.123Z
  storectl restore-db --yes /media/backup/MSDB_Backup_20261122T182000.123Z")]
    RestoreDb(RestoreDb),
    /// Restore the newest snapshot or backup into a scratch directory, and hold it against the live store; exits 1 if it is bad
    Drill(DrillArgs),
    /// Bring database and partitions to agree, from what indexes, manifests, log and files prove
    Reconstruct(ReconstructArgs),
    /// Look whether rows, indexes, manifests, files and log agree; changes nothing
    Check(CheckArgs),
    /// Recover a stopped store, or show what the last start did (--report)
    Recover(RecoverArgs),
    /// Open, check and close a stopped store: 0 good, 1 bad
    #[command(after_help = "\
Runs the `storedd` beside storectl, which refuses (75) while a daemon lives; but
--deadlocks is then answered by the daemon: who waits for whom, 1 if somebody
has waited for longer than the limit.

Example: storectl --data-dir ./store test -lv")]
    Test(Test),
    /// Make a stopped store ready for the next version: everything in the database, nothing temporary left
    #[command(after_help = "\
Runs the `storedd` beside storectl, which refuses (75) while a daemon lives. Run
it with the version that is to be replaced; twice is harmless.

Example: storectl --data-dir ./store prepare-upgrade")]
    PrepareUpgrade(PrepareUpgrade),
    /// Bring a stopped store of an older version to this one
    #[command(after_help = "\
Recovers, takes a verified snapshot, makes a copy of the new schema, validates it
and puts it in place. Stopped anywhere, the old or the new one is whole.

Example: storectl --data-dir ./store upgrade --dry-run")]
    Upgrade(Upgrade),
    /// Make a stopped store ready for the version before, or take that back
    #[command(subcommand)]
    Downgrade(DowngradeVerb),
    /// Users
    #[command(subcommand)]
    User(UserVerb),
    /// Mailboxes
    #[command(subcommand)]
    Mailbox(MailboxVerb),
    /// Messages: deliver, list, show
    #[command(subcommand)]
    Message(MessageVerb),
    /// Rights on mailboxes (RFC 4314)
    #[command(subcommand)]
    Acl(AclVerb),
    /// Subscribe a user to a mailbox
    Subscribe(SubscribeArgs),
    /// End a subscription
    Unsubscribe(SubscribeArgs),
    /// Mailboxes a user is subscribed to
    Subscriptions(SubscriptionsArgs),
    /// Limits and usage
    #[command(subcommand)]
    Quota(QuotaVerb),
    /// Places where messages are stored
    #[command(subcommand)]
    Partition(PartitionVerb),
    /// The directory of a user
    Hashdir(HashdirArgs),
    /// The configuration in force
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Run many commands over one connection, a result line each
    Batch(BatchArgs),
    /// Do to old messages what the rules of the configuration say
    #[command(after_help = ageing::EXPIRE_HELP)]
    Expire(AgeingArgs),
    /// Give up for good what was expunged or deleted long enough ago
    #[command(after_help = ageing::PURGE_HELP)]
    Purge(AgeingArgs),
    /// Write out to the partitions what users have seen in mailboxes of others
    #[command(after_help = ageing::PERUSER_HELP)]
    Peruser(Detach),
    /// Bring mailboxes and mail in from other programs
    #[command(subcommand)]
    Import(ImportVerb),
    /// Give mail to other programs
    #[command(subcommand)]
    Export(ExportVerb),
    /// Long-running work: what is at work, how far it is, what it ended with
    Jobs(JobsArgs),
    /// Who holds what, and who waits for it
    Locks(LocksArgs),
    /// Have everything on disk and nothing written while a command runs, for a snapshot of the file system
    Freeze(FreezeArgs),
    /// Take no changes, by an operator's will
    #[command(subcommand)]
    ReadOnly(ReadOnlyVerb),
    /// Let those who are connected finish and leave, refuse new work, then stop
    Drain(DrainArgs),
    /// Stop the daemon: finish what is in flight, checkpoint, stop
    Shutdown(ShutdownArgs),
    /// Stop the store and start it again in the same process, with the configuration read anew; returns when it is ready
    #[command(after_help = RESTART_HELP)]
    Restart,
    /// Save mailboxes into an archive: everything, partitions, groups, users, folders
    Backup(BackupArgs),
    /// Bring mailboxes and messages back from an archive
    Restore(RestoreArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

/// One line of a batch: a verb with its arguments, nothing before it.
#[derive(Debug, Clone, PartialEq, Parser)]
#[command(name = "storectl", no_binary_name = true, disable_help_subcommand = true)]
pub struct Line {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The whole definition, with the texts that stand at the end of each help page.
#[must_use]
pub fn definition() -> clap::Command {
    let long = format!("{EXAMPLES}\n\n{}", exit::table());
    foot(Cli::command()).after_help(EXAMPLES).after_long_help(long)
}

/// Adds the pointer to the exit codes below the help of every verb that brings no text of its own.
fn foot(command: clap::Command) -> clap::Command {
    command.mut_subcommands(|verb| {
        let text = match verb.get_after_help() {
            Some(own) => format!("{own}\n\n{SEE_TABLE}"),
            None => SEE_TABLE.to_owned(),
        };
        foot(verb).after_help(text)
    })
}

const EXAMPLES: &str = "\
Examples:
  storectl status
  storectl user add joe@example.org --quota 2GiB
  storectl mailbox create user/joe@example.org/Projects
  storectl mailbox list 'user/joe*' --json
  storectl --data-dir ./store recover --report
  generate-commands | storectl batch --json -

Environment:
  STOREDD_SOCKET  control socket, if neither --socket nor --data-dir is given
  STOREDD_CONFIG  configuration file, if --config is not given
  NO_COLOR        no colours, also on a terminal";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        let words = shlex::split(line).expect("a line that splits");
        Cli::try_parse_from(std::iter::once("storectl".to_owned()).chain(words))
    }

    #[test]
    fn the_definition_is_consistent() {
        definition().debug_assert();
        use clap::CommandFactory;
        Line::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_or_after_the_verb() {
        let before = parse("--data-dir d --json mailbox list user/*").unwrap();
        let after = parse("mailbox list user/* --json --data-dir d").unwrap();
        let between = parse("--json mailbox --data-dir d list user/*").unwrap();
        assert_eq!(before, after);
        assert_eq!(before, between);
        assert!(before.global.json);
        assert!(parse("--json status --json").unwrap().global.json);
    }

    #[test]
    fn short_flags_of_test_bundle() {
        let cli = parse("test -lrv").unwrap();
        assert_eq!(cli.verb, Verb::Test(Test { deadlocks: true, recover: true, verbose: true, json: false }));
    }

    #[test]
    fn rights_and_identifiers_may_begin_with_a_hyphen() {
        let cli = parse("acl set user/joe/INBOX -anyone -w --json").unwrap();
        assert!(cli.global.json);
        let Verb::Acl(AclVerb::Set(set)) = cli.verb else { panic!("acl set") };
        assert_eq!((set.identifier.as_str(), set.rights.as_str()), ("-anyone", "-w"));
    }

    #[test]
    fn a_mailbox_list_without_pattern_lists_everything() {
        assert_eq!(parse("mailbox list").unwrap(), parse("mailbox list '*'").unwrap());
    }

    #[test]
    fn help_ends_with_the_exit_codes() {
        let help = definition().render_long_help().to_string();
        for (code, meaning) in exit::TABLE {
            assert!(help.contains(&format!("{code:>2}  {}", meaning.split(':').next().unwrap())), "{code} {meaning}");
        }
    }

    #[test]
    fn help_and_version_are_everywhere() {
        use clap::error::ErrorKind;
        for verb in ["", "status", "user", "user add", "import cyrus-list"] {
            assert_eq!(parse(&format!("{verb} --help")).unwrap_err().kind(), ErrorKind::DisplayHelp, "{verb}");
            assert_eq!(parse(&format!("{verb} --version")).unwrap_err().kind(), ErrorKind::DisplayVersion, "{verb}");
        }
    }

    #[test]
    fn a_wrong_verb_is_answered_with_the_right_one() {
        let error = parse("mailbxo list").unwrap_err().to_string();
        assert!(error.contains("'mailbox'"), "{error}");
    }
}
