//! Verbs about messages.

use super::objects::DryRun;
use crate::uids::{self, Uids};
use clap::{Args, Subcommand};

/// `message`.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum MessageVerb {
    /// Put the message on standard input into one mailbox or several; several share one stored copy
    Deliver(MessageDeliverArgs),
    /// Messages of a mailbox
    List(MessageListArgs),
    /// One message: what is known of it, or with --raw its bytes
    Show(MessageShowArgs),
    /// Add flags, take flags away
    Flags(MessageFlagsArgs),
    /// Take messages away; `mailbox undelete` brings them back until they are purged
    Expunge(MessageUidsArgs),
    /// Copy messages into another mailbox of any partition; they share one stored copy where they can
    Copy(MessageCopyArgs),
    /// Copy messages and expunge them where they were, in one transaction
    Move(MessageCopyArgs),
}

/// `message flags`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    group = clap::ArgGroup::new("change").required(true).multiple(true).args(["add", "remove"]),
    after_help = "Example: storectl message flags user/joe/INBOX 4,7-12 --add '\\Flagged' --remove '$Work'"
)]
pub struct MessageFlagsArgs {
    /// Which.
    #[command(flatten)]
    pub of: MessageUidsArgs,
    /// A system flag with its backslash, or a keyword
    #[arg(long, value_name = "FLAG")]
    pub add: Vec<String>,
    /// A system flag with its backslash, or a keyword
    #[arg(long, value_name = "FLAG")]
    pub remove: Vec<String>,
    /// With the rights of this user; in a mailbox that is not his, \Seen is his own
    #[arg(long = "as", value_name = "USER")]
    pub actor: Option<String>,
}

/// Messages of a mailbox.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct MessageUidsArgs {
    /// Full name
    #[arg(value_name = "MAILBOX")]
    pub name: String,
    /// UIDs, as `message list` shows them, with commas between them; 4-9 are those that are there, 4:* those from 4 on
    #[arg(value_name = "UID[,UID...]", value_delimiter = ',', num_args = 1, required = true, value_parser = uids::parse)]
    pub uids: Vec<Uids>,
    /// Plan only.
    #[command(flatten)]
    pub dry: DryRun,
}

/// `message copy`, `message move`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct MessageCopyArgs {
    /// Which.
    #[command(flatten)]
    pub of: MessageUidsArgs,
    /// Full name of the other mailbox
    #[arg(value_name = "TO")]
    pub to: String,
}

/// `mailbox undelete`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "A mailbox that was deleted comes back with its messages, their UIDs and flags.
Of a mailbox that is there, its expunged messages come back.")]
pub struct MailboxUndeleteArgs {
    /// Full name
    #[arg(value_name = "MAILBOX")]
    pub name: String,
    /// These messages and no others; 4-9 are those that are there, 4:* those from 4 on
    #[arg(long = "uid", value_name = "UID", value_delimiter = ',', num_args = 1.., value_parser = uids::parse)]
    pub uids: Vec<Uids>,
    /// Plan only.
    #[command(flatten)]
    pub dry: DryRun,
}

/// `message deliver`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "The bytes are stored as they come; all mailboxes get the message, or none.

Example: storectl message deliver user/joe@example.org/INBOX --flags '\\Seen $Work' < message.eml")]
pub struct MessageDeliverArgs {
    /// Full names, as user/joe@example.org/INBOX
    #[arg(value_name = "MAILBOX", required = true)]
    pub to: Vec<String>,
    /// System flags with their backslash and keywords, with blanks between them
    #[arg(long, value_name = "FLAGS", default_value = "", hide_default_value = true)]
    pub flags: String,
    /// When it came first, as 2026-11-22T10:00:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    pub internal_date: Option<jiff::Timestamp>,
}

/// `message list`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct MessageListArgs {
    /// Full name
    #[arg(value_name = "MAILBOX")]
    pub name: String,
    /// Those that were expunged and can be brought back, since when, and until when
    #[arg(long)]
    pub expunged: bool,
    /// As this user sees them: what he may read, with his own \Seen
    #[arg(long = "as", value_name = "USER", conflicts_with = "expunged")]
    pub viewer: Option<String>,
}

/// `message show`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct MessageShowArgs {
    /// Full name
    #[arg(value_name = "MAILBOX")]
    pub name: String,
    /// UID, as `message list` shows it
    #[arg(value_name = "UID", value_parser = uids::parse_one)]
    pub uid: u32,
    /// The bytes of the message and nothing else
    #[arg(long)]
    pub raw: bool,
}
