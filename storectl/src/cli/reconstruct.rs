//! `reconstruct`.

use super::jobs::Detach;
use clap::Args;

/// `reconstruct`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
Everybody goes on reading and getting mail meanwhile. What an index, its mirror
in the manifest, the log and the files prove is put back: names, rights, flags,
UIDs, UIDVALIDITY, deletions. What nothing proves goes to the user's folder
Recovered. It may be ended at any time and begun again; the end is the same.

Exit status: 0 done; 1 done, and some things could not be proven; with -n: 1 if
anything would change.

Examples:
  storectl reconstruct -m                the whole store
  storectl reconstruct -m -n -u joe      what would be done for joe
  storectl reconstruct -m -p primary     one partition; others may run beside it
  storectl reconstruct -r 'user/joe/*'   the indexes of joe's mailboxes
  storectl reconstruct -q                only the sums of quotas")]
pub struct ReconstructArgs {
    /// The database from the partitions: adds what it lacks, takes away what is gone, corrects sums
    #[arg(short = 'm', long)]
    pub database: bool,
    /// The indexes of mailboxes from their mirrors, the log and the message files
    #[arg(short = 'r', long)]
    pub index: bool,
    /// As -r, also where index and database agree
    #[arg(short = 'f', long)]
    pub force: bool,
    /// Only the sums of quota roots
    #[arg(short = 'q', long)]
    pub quotas: bool,
    /// Say what would be done, change no byte
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// List the mailboxes and where they lie
    #[arg(short = 'l', long)]
    pub list: bool,
    /// Only this partition
    #[arg(short = 'p', long, value_name = "PARTITION")]
    pub partition: Option<String>,
    /// Only this user
    #[arg(short = 'u', long, value_name = "USER")]
    pub user: Option<String>,
    /// Threads; as many as there are processors unless said
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub jobs: Option<u32>,
    /// Full names, or patterns with `*` and `%`
    #[arg(value_name = "MAILBOX")]
    pub mailboxes: Vec<String>,
    /// `--detach`.
    #[command(flatten)]
    pub detach: Detach,
}

impl ReconstructArgs {
    /// What the daemon is asked. Without any of -m, -r, -f, -q: the database and the indexes.
    #[must_use]
    pub fn asked(&self) -> proto::Reconstruct {
        let none = !(self.database || self.index || self.force || self.quotas);
        proto::Reconstruct {
            database: self.database || none,
            index: self.index || self.force || none,
            fill: self.force,
            quotas: self.quotas || self.database || none,
            dry_run: self.dry_run,
            list: self.list,
            partition: self.partition.clone(),
            user: self.user.clone(),
            mailboxes: self.mailboxes.clone(),
            jobs: self.jobs,
        }
    }
}
