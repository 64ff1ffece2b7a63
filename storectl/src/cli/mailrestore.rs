//! `restore`: mailboxes out of an archive.

use super::jobs::Detach;
use clap::Args;
use proto::{Code, Failure};
use std::path::PathBuf;

/// `restore`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(disable_help_flag = true)]
#[command(after_help = "\
Objects as for backup; none is everything that the archive has. A mailbox that is not
there comes back with its UIDVALIDITY, its UIDs and rights, its owner too. In one that
is there, messages that it has already (same bytes, same date) are left out, others
get new UIDs, which are printed; deliveries to it wait meanwhile. Everybody else works.
A message that is there, but whose file is gone or has another length, or is known to be
damaged, gets its bytes back under its own UID, and keeps its flags; --deep reads all of
them to find more, and with --heal nothing else is done.

The archives of a row are restored in their order, the full one first. Hold the
delivery to a mailbox that is missing, or create it before, until the last one is
restored.

A reference to a message that was not restored is looked up in the archive. That needs a
file; from a pipe such references are written to a file, and restored by a second run
with -r.

Exit code 1: something was not restored; it is named. 65: nothing could be.

Examples:
  storectl restore -f monday.sda -t
  storectl restore -f monday.sda --yes /primary/user/joe@example.org
  storectl restore -f monday.sda --yes --into Restored --query 'from:ann since:2026-11-01' joe@example.org")]
pub struct RestoreArgs {
    /// The archive; - is standard input
    #[arg(long, short, value_name = "FILE")]
    pub file: PathBuf,
    /// Do not ask
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Print what the archive holds: every mailbox and message; restore nothing
    #[arg(long, short = 't', conflicts_with = "header")]
    pub table: bool,
    /// Print what the archive is: which store, which moment; restore nothing
    #[arg(long, short = 'h')]
    pub header: bool,
    /// Put the messages of a mailbox that is there into a new one beside it, with a date behind its name
    #[arg(long, short, conflicts_with = "into")]
    pub new_folder: bool,
    /// Restore messages also if the mailbox has them
    #[arg(long, short)]
    pub ignore_duplicates: bool,
    /// Only give bytes back to messages that are there without them; nothing else comes, and nobody waits
    #[arg(long, conflicts_with_all = ["table", "header", "new_folder", "ignore_duplicates", "into", "as_of"])]
    pub heal: bool,
    /// Read the bytes of the messages that are there: those that are damaged get theirs back
    #[arg(long)]
    pub deep: bool,
    /// Names to change, lines OLD=NEW: user ids, or full names of mailboxes with all below them
    #[arg(long, short, value_name = "FILE")]
    pub map: Option<PathBuf>,
    /// The references that a first run could not restore, and nothing else
    #[arg(long, short, value_name = "FILE")]
    pub references: Option<PathBuf>,
    /// Put all messages of a user into this folder
    #[arg(long, value_name = "FOLDER")]
    pub into: Option<String>,
    /// Only messages that meet all of: from: to: subject: (text in the header), since: before: (dates), larger: smaller:
    /// (sizes), uid: (1,4-9), flag:
    #[arg(long, value_name = "QUERY")]
    pub query: Option<String>,
    /// What was there at this time: the archive, which must be of that time or an earlier one, and what the log of the store says behind it.
    /// YYYYMMDD[:HHMMSS] (local time), RFC 3339, or a time ago (10m)
    #[arg(long, value_name = "TIME", value_parser = super::values::parse_backup_since, conflicts_with_all = ["table", "header", "references", "alone"])]
    pub as_of: Option<jiff::Timestamp>,
    /// Do not take away what an incremental archive says is gone; with --as-of, leave nothing out that was deleted behind the archive
    #[arg(long)]
    pub skip_deletes: bool,
    /// Restore an incremental archive although those before it were not
    #[arg(long)]
    pub alone: bool,
    /// Bytes of messages in a second, at the most, so that the disks are left to the store; 0: as fast as it goes
    #[arg(long, value_name = "SIZE", value_parser = super::parse_size, default_value = "0")]
    pub pace: u64,
    /// Say what would be restored, change no byte
    #[arg(long)]
    pub dry_run: bool,
    /// `--detach`.
    #[command(flatten)]
    pub detach: Detach,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
    /// What to restore
    #[arg(value_name = "OBJECT")]
    pub objects: Vec<String>,
}

impl RestoreArgs {
    /// Whether it goes on without this program.
    ///
    /// # Errors
    /// It is asked for, and a file that it reads is a pipe, or the archive is only to be shown (64).
    pub fn detaches(&self) -> Result<bool, Failure> {
        if self.detach.detach && (self.table || self.header) {
            return Err(Failure::new(Code::Usage, "--detach is for what is restored: -t and -h only show an archive"));
        }
        let files = [Some(&self.file), self.map.as_ref(), self.references.as_ref()];
        files.into_iter().try_fold(self.detach.detach, |_, file| self.detach.of(file.map(PathBuf::as_path)))
    }
}
