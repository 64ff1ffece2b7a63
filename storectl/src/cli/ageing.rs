//! Verbs about messages that grow old: `expire`, `purge`.

use super::jobs::Detach;
use clap::Args;

/// `expire`, `purge`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct AgeingArgs {
    /// Say what would be done, mailbox by mailbox, and change nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// `--detach`.
    #[command(flatten)]
    pub detach: Detach,
}

/// Ends the help of `expire`.
pub(super) const EXPIRE_HELP: &str = "\
The rules are the sections [expire.NAME] of the configuration; the daemon does
this every night by itself, at ageing.start. What a rule discards is expunged:
`mailbox undelete` brings it back until it is purged.

Exits 1 if some mailbox was left alone, which is told with the reason.";

/// Ends the help of `purge`.
pub(super) const PURGE_HELP: &str = "\
Messages that were expunged, and mailboxes that were deleted, longer ago than
ageing.cleanup_age go for good: nothing brings them back but a backup. The
daemon does this by itself, as ageing.purge_interval says.

Exits 1 if some mailbox was left alone, which is told with the reason.";

/// Ends the help of `peruser`.
pub(super) const PERUSER_HELP: &str = "\
The log and the database have it with every change; the partitions, from which
a store is made again when both are lost, get it every hour by themselves, as
mail.peruser_interval says.";
