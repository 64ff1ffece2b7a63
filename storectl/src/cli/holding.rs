//! Verbs about who holds what, and about a store that takes nothing for a while.

use clap::{Args, Subcommand};
use std::ffi::OsString;
use std::time::Duration;
use verbs::parse_duration;

/// `locks`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct LocksArgs {
    /// Say in words who waits for whom
    #[arg(long)]
    pub why_stuck: bool,
    /// What else.
    #[command(subcommand)]
    pub verb: Option<LocksVerb>,
}

/// `locks ...`.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum LocksVerb {
    /// Take a lease away: its holder's connection is cut, and what it had under way comes to its end
    Break(LockBreakArgs),
    /// Hold a mailbox, a user or everything while a command runs; ends with its status
    Hold(LockHoldArgs),
}

/// `locks break`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct LockBreakArgs {
    /// Number of the lease
    #[arg(value_name = "ID")]
    pub id: u64,
    /// Do not ask; needed where nobody can be asked
    #[arg(long, short = 'y')]
    pub yes: bool,
}

/// `locks hold`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
Changes of others to it wait meanwhile, and are refused (75) after the limit of
the configuration; the command itself may change it with storectl. Ends with 75
if the lease ended before the command did.

Example: storectl locks hold user/joe/Work --for 10m -- ./work-on-it")]
pub struct LockHoldArgs {
    /// A mailbox (user/joe/Work), a user (joe), or / for everything
    #[arg(value_name = "MAILBOX")]
    pub resource: String,
    /// The lease ends after so long, whatever the command does [default: 5m]
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    pub length: Option<Duration>,
    /// Wait so long for it [default: limits.wait of the configuration]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub wait: Option<Duration>,
    /// What runs meanwhile, and why.
    #[command(flatten)]
    pub run: HeldRun,
}

/// What runs while something is held.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct HeldRun {
    /// Why; for `locks` and the journal
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// What to run
    #[arg(value_name = "COMMAND", last = true, required = true, num_args = 1..)]
    pub command: Vec<OsString>,
}

/// `freeze`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
While the command runs everything is on disk and nothing is written; reads go
on, changes wait. Ends with the command's status, or with 75 if the time was up
before it ended: what it copied then is no good.

Without a command everything stands still for that time, or until it is
interrupted; a line says when that begins.

Example: storectl freeze --for 10s -- lvcreate -s -n mail-snap -L 1G vg/mail")]
pub struct FreezeArgs {
    /// The freeze ends after so long, whatever the command does; at most 60s
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    pub length: Duration,
    /// Why; for `locks` and the journal
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// What to run
    #[arg(value_name = "COMMAND", last = true, num_args = 1..)]
    pub command: Vec<OsString>,
}

/// `drain`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
Who is connected goes on, also with changes, until it leaves; who comes later
may ask, and is refused changes (75). Comes back when the process is gone.
Example: storectl drain --wait 10m")]
pub struct DrainArgs {
    /// Stop after so long, whoever is still there [default: stop.drain of the configuration]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub wait: Option<Duration>,
}

/// `read-only`.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum ReadOnlyVerb {
    /// Take no changes until it is switched off, or the daemon starts again
    On(ReadOnlyArgs),
    /// Take changes again; what the store itself has closed stays closed
    Off,
}

/// `read-only on`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct ReadOnlyArgs {
    /// Why; for `status` and the journal
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
}
