//! Verbs about copies of the store: `backup-db`, `restore-db`, `drill`.

use super::jobs::Detach;
use clap::Args;
use std::path::PathBuf;

/// `backup-db`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
Makes DIR/MSDB_Backup_<time>/, with which the mailbox list comes back
(restore-db): database, log, identity, configuration. The store goes on
meanwhile. The daemon writes it, so its user needs the right to write to DIR.

Messages lie in the partitions and are not in it, but for those that the log
still has. With mail: storectl backup --complete DIR for the whole host,
storectl backup -f FILE / for users and folders.

Example: storectl backup-db /media/backup")]
pub struct BackupDbArgs {
    /// The directory in which it is made; made itself if it is not there
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Say each step: checkpoint, tables, which logs, logs
    #[arg(long, short)]
    pub verbose: bool,
    /// `--detach`.
    #[command(flatten)]
    pub detach: Detach,
}

/// `drill`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
The live store goes on and is not touched. The daemon makes drills by itself, as
drill.interval says; status and metrics tell the age of the last good one.

rpo_seconds: changes of so many seconds would have been lost
rto_seconds: from the beginning of the copy to a store that was ready

Example: storectl drill")]
pub struct DrillArgs {
    /// `--detach`.
    #[command(flatten)]
    pub detach: Detach,
}
