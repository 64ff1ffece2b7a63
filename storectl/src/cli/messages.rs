//! Verbs about messages.

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
    /// Those that were expunged and can be brought back
    #[arg(long)]
    pub expunged: bool,
}

/// `message show`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct MessageShowArgs {
    /// Full name
    #[arg(value_name = "MAILBOX")]
    pub name: String,
    /// UID, as `message list` shows it
    #[arg(value_name = "UID")]
    pub uid: u32,
    /// The bytes of the message and nothing else
    #[arg(long)]
    pub raw: bool,
}
