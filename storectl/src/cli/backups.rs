//! Verbs about copies of the store: `backup-db`, `restore-db`, `drill`.

use super::jobs::Detach;
use clap::Args;
use std::path::PathBuf;

/// `backup-db`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
Makes DIR/MSDB_Backup_<time>/, which holds all it takes to have the store again
(restore-db): database, log, identity, configuration. The store goes on
meanwhile. The daemon writes it, so its user needs the right to write to DIR.

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

/// `restore-db`.
#[derive(Debug, Clone, PartialEq, Default, Args)]
#[command(after_help = "\
Runs the `storedd` beside storectl, which refuses (75) while a daemon lives. The
backup is checked to its last byte before anything is touched. The directories
that are there get the name <dir>.asof<date>; then comes a recovery, with whose
status it ends. What was changed after the backup is named, and is not in it.

Examples:
  storectl restore-db --dry-run /media/backup/MSDB_Backup_20261122T182000.123Z
  storectl restore-db --yes /media/backup/MSDB_Backup_20261122T182000.123Z")]
pub struct RestoreDbArgs {
    /// The backup: the directory MSDB_Backup_... that backup-db made
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
    /// Say more: files, phases
    #[arg(long, short)]
    pub verbose: bool,
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
