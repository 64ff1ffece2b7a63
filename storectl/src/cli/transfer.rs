//! `import maildir|mbox` and `export`: mail that goes to other programs and comes from them.

use super::jobs::Detach;
use crate::mail::mbox::Dialect;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// `import maildir`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
Folders become mailboxes of the user, which are made where they are missing. Flags,
keywords (dovecot-keywords), subscriptions and dates (those of the files) are kept,
UIDs are new. A message that its mailbox has already is left alone, so a second run
adds nothing, and a run that was broken off is taken up by running it again. The
user must exist. Exit code 1: something was not taken, or not wholly; it is named.

Example: storectl import maildir /home/joe/Maildir --user joe@example.org")]
pub struct ImportMaildirArgs {
    /// The Maildir: the directory that holds cur and new
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Whose mail it becomes
    #[arg(long, value_name = "USER")]
    pub user: String,
    /// Say what would be done, change no byte
    #[arg(long)]
    pub dry_run: bool,
    /// `--detach`.
    #[command(flatten)]
    pub detach: Detach,
}

/// `import mbox`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
Flags (Status, X-Status, X-Keywords) and dates (the 'From ' lines) are kept, and the
headers that hold them are taken out. A message that the mailbox has already is left
alone, so a second run adds nothing. The user must exist.

Example: storectl import mbox /var/mail/joe --user joe@example.org --dialect mboxo")]
pub struct ImportMboxArgs {
    /// The file; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where to
    #[command(flatten)]
    pub place: Place,
    /// How lines that begin with 'From ' were written
    #[arg(long, value_enum, default_value_t = DialectName::Mboxrd)]
    pub dialect: DialectName,
    /// Say what would be done, change no byte
    #[arg(long)]
    pub dry_run: bool,
    /// `--detach`.
    #[command(flatten)]
    pub detach: Detach,
}

/// `export`.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum ExportVerb {
    /// All mailboxes of a user as a Maildir++
    Maildir(ExportMaildirArgs),
    /// One mailbox as an mbox
    Mbox(ExportMboxArgs),
}

/// `export maildir`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
Each message is compared with its digest before it is written, byte for byte as it is
stored. A message that is there already is not written again; its flags are corrected.
So a second run brings the directory up to date, and a run that was broken off is taken
up by running it again. Nothing is removed: what was expunged since stays. The directory
must be yours alone, and empty or made by an export of the same user (its file
storedd-export says whose it is); else nothing is written, and the exit code is 73.

Example: storectl export maildir ./joe --user joe@example.org")]
pub struct ExportMaildirArgs {
    /// The directory; it is made
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Whose mail
    #[arg(long, value_name = "USER")]
    pub user: String,
    /// `--detach`.
    #[command(flatten)]
    pub detach: Detach,
}

/// `export mbox`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
The file has its name when it is whole. What a dialect cannot say of a message (mboxo and
mboxrd: that its last line has no end; mboxo and mboxcl: a line that begins with '>From ')
is named, and the exit code is then 1.

Example: storectl export mbox joe.mbox --user joe@example.org --folder Work")]
pub struct ExportMboxArgs {
    /// The file; there must be none by this name
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where from
    #[command(flatten)]
    pub place: Place,
    /// How lines that begin with 'From ' are written
    #[arg(long, value_enum, default_value_t = DialectName::Mboxrd)]
    pub dialect: DialectName,
    /// `--detach`.
    #[command(flatten)]
    pub detach: Detach,
}

/// One mailbox of a user.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Place {
    /// Whose mailbox
    #[arg(long, value_name = "USER")]
    pub user: String,
    /// Which of them
    #[arg(long, value_name = "FOLDER", default_value = "INBOX")]
    pub folder: String,
}

impl Place {
    /// Its full name.
    #[must_use]
    pub fn mailbox(&self) -> String {
        format!("user/{}/{}", self.user, self.folder)
    }
}

/// The dialects of mbox, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DialectName {
    /// '>' before 'From '
    Mboxo,
    /// '>' before 'From ' and before '>From '
    Mboxrd,
    /// As mboxo, with Content-Length
    Mboxcl,
    /// Content-Length alone
    Mboxcl2,
}

impl DialectName {
    /// The dialect.
    #[must_use]
    pub fn dialect(self) -> Dialect {
        match self {
            DialectName::Mboxo => Dialect::Mboxo,
            DialectName::Mboxrd => Dialect::Mboxrd,
            DialectName::Mboxcl => Dialect::Mboxcl,
            DialectName::Mboxcl2 => Dialect::Mboxcl2,
        }
    }
}
