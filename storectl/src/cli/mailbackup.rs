//! `backup`: mailboxes into an archive.

use super::jobs::Detach;
use clap::{ArgGroup, Args};
use proto::Failure;
use std::path::PathBuf;

/// Bytes of a block, by which the blocking factor counts.
pub const BLOCK_BYTES: usize = 512;

/// `backup`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(group = ArgGroup::new("to").args(["file", "stage", "complete"]).required(true))]
#[command(group = ArgGroup::new("base").args(["since", "since_archive"]))]
#[command(after_help = "\
Objects: / (everything, and if none is given), /partition, /partition/group,
/partition/group/user, /partition/group/user/folder, or a user id. Groups come from the
file that backup.groups names; the group user is everybody. Folders of backup.exclude
are left out unless they are named.

All of it is as it was at one moment; nobody waits. A message that several mailboxes
have stands in the archive once. A file has its name only when it is whole; an archive
that was there before stays until then. Exit code 1: messages could not be read; they
are named.

Of the archive that --since-archive names only what its index leads to is read, so a
message that is damaged in it counts as one that it has. With --verify-base every
message in it is compared with its checksum; what is damaged is named, and what the
store still has of that is taken again (exit code 1). It does not read archives that
this one follows.

With --complete the daemon writes the directory, so its user needs the right to; commits
and reads go on. Until it is whole a file INCOMPLETE says that it is not, and nothing
restores it. All of it is put back on an empty host by storectl restore-db DIR.

Examples:
  storectl backup -f /media/backup/monday.sda /
  storectl backup -f - /primary/user/joe@example.org | ssh other storectl restore -f - --yes
  storectl backup -f tuesday.sda --since-archive monday.sda /
  storectl backup -f sunday.sda --since-archive saturday.sda --verify-base /
  storectl backup --stage /var/backups/mail && restic backup /var/backups/mail
  storectl backup --complete /media/backup/host
  storectl backup -f may.sda -d 20260501:131000 /primary/groupA")]
pub struct BackupArgs {
    /// Where to: a file, a device, or - for standard output
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Where to: a directory, with a file PARTITION/GROUP.sda for each group, for a program that saves files
    #[arg(long, value_name = "DIR", conflicts_with_all = ["since", "since_archive"])]
    pub stage: Option<PathBuf>,
    /// Where to: a directory that is empty or not there, for everything a host needs: database, log, partitions, configuration
    #[arg(long, value_name = "DIR", conflicts_with_all = [
        "since", "since_archive", "ignore_links", "list", "jobs", "level", "blocking_factor", "pace", "objects",
    ])]
    pub complete: Option<PathBuf>,
    /// `--detach`.
    #[command(flatten)]
    pub detach: Detach,
    /// Only messages that came since then: YYYYMMDD[:HHMMSS] (local time), or RFC 3339
    #[arg(long, short = 'd', value_name = "TIME", value_parser = super::values::parse_backup_since)]
    pub since: Option<jiff::Timestamp>,
    /// Only what changed since that archive was made: new messages, flags, what is gone
    #[arg(long, value_name = "FILE")]
    pub since_archive: Option<PathBuf>,
    /// With --since-archive: read all of that archive, and take again what is damaged in it
    #[arg(long, requires = "since_archive")]
    pub verify_base: bool,
    /// Each message as often as mailboxes have it
    #[arg(long, short)]
    pub ignore_links: bool,
    /// More objects, one a line; - is standard input
    #[arg(long, short = 'u', value_name = "LIST")]
    pub list: Option<PathBuf>,
    /// Threads that compress; if not given: one for a backup that is paced, else the processors of this machine
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: Option<u16>,
    /// How much zstd tries, 1 to 19; 0 compresses nothing
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(i32).range(0..=19))]
    pub level: i32,
    /// Fill the last block of a device or pipe up to so many times 512 bytes
    #[arg(long, short = 'b', value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub blocking_factor: u32,
    /// Bytes of messages in a second, at the most; 0: as fast as it goes; not given: as backup.pace says
    #[arg(long, value_name = "SIZE", value_parser = super::parse_size)]
    pub pace: Option<u64>,
    /// What to take
    #[arg(value_name = "OBJECT")]
    pub objects: Vec<String>,
}

impl BackupArgs {
    /// Whether it goes on without this program.
    ///
    /// # Errors
    /// It is asked for, and the archive or the list is a pipe (64).
    pub fn detaches(&self) -> Result<bool, Failure> {
        self.detach.of(self.file.as_deref()).and(self.detach.of(self.list.as_deref()))
    }
}
