//! Verbs about what the store holds: users, mailboxes, rights, subscriptions, quota, partitions.

use super::values::parse_size;
use clap::{Args, Subcommand};

/// For verbs that change something: plan only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Args)]
pub struct DryRun {
    /// Say what would be done, change no byte
    #[arg(long)]
    pub dry_run: bool,
}

/// For verbs that destroy something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Args)]
pub struct Consent {
    /// Do not ask; needed where nobody can be asked
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Plan only.
    #[command(flatten)]
    pub dry: DryRun,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct UserName {
    /// User id, as joe or joe@example.org
    #[arg(value_name = "USER")]
    pub user: String,
}

/// `user`.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum UserVerb {
    /// Make a user and the INBOX
    Add(UserAddArgs),
    /// Remove a user with all mailboxes
    Delete(UserDeleteArgs),
    /// Give a user another id; mailboxes and subscriptions follow
    Rename(UserRenameArgs),
    /// Users with partition and number of mailboxes
    List(UserListArgs),
    /// One user
    Show(UserName),
}

/// `user add`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "Example: storectl user add joe@example.org --quota 2GiB")]
pub struct UserAddArgs {
    /// User id, as joe or joe@example.org
    #[arg(value_name = "USER")]
    pub user: String,
    /// Partition for the mailboxes [default: the default partition]
    #[arg(long, value_name = "PARTITION")]
    pub partition: Option<String>,
    /// Most bytes the user may store, as 500MB or 2GiB [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub quota: Option<u64>,
    /// Most messages the user may store [default: no limit]
    #[arg(long, value_name = "N")]
    pub messages: Option<u64>,
    /// Plan only.
    #[command(flatten)]
    pub dry: DryRun,
}

/// `user delete`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct UserDeleteArgs {
    /// User id
    #[arg(value_name = "USER")]
    pub user: String,
    /// Ask or not.
    #[command(flatten)]
    pub consent: Consent,
}

/// `user rename`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct UserRenameArgs {
    /// User id
    #[arg(value_name = "USER")]
    pub user: String,
    /// New user id
    #[arg(value_name = "TO")]
    pub to: String,
    /// Plan only.
    #[command(flatten)]
    pub dry: DryRun,
}

/// `user list`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct UserListArgs {
    /// Only users that match; * stands for anything
    #[arg(value_name = "PATTERN")]
    pub pattern: Option<String>,
}

/// `mailbox`.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum MailboxVerb {
    /// Make a mailbox; the parent need not exist
    Create(MailboxCreateArgs),
    /// Remove one mailbox
    Delete(MailboxDeleteArgs),
    /// Rename a mailbox and everything below it
    Rename(MailboxRenameArgs),
    /// Mailboxes that match
    List(MailboxListArgs),
    /// One mailbox
    Show(MailboxName),
}

/// A mailbox.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct MailboxName {
    /// Full name, as user/joe@example.org/Projects
    #[arg(value_name = "MAILBOX")]
    pub name: String,
}

/// `mailbox create`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "Example: storectl mailbox create user/joe@example.org/Projects")]
pub struct MailboxCreateArgs {
    /// Full name: user/USER/FOLDER... or shared/FOLDER...
    #[arg(value_name = "MAILBOX")]
    pub name: String,
    /// Partition for a mailbox below shared/ [default: the default partition]
    #[arg(long, value_name = "PARTITION")]
    pub partition: Option<String>,
    /// Plan only.
    #[command(flatten)]
    pub dry: DryRun,
}

/// `mailbox delete`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct MailboxDeleteArgs {
    /// Full name
    #[arg(value_name = "MAILBOX")]
    pub name: String,
    /// Ask or not.
    #[command(flatten)]
    pub consent: Consent,
}

/// `mailbox rename`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct MailboxRenameArgs {
    /// Full name
    #[arg(value_name = "OLD")]
    pub from: String,
    /// New full name
    #[arg(value_name = "NEW")]
    pub to: String,
    /// Plan only.
    #[command(flatten)]
    pub dry: DryRun,
}

/// `mailbox list`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "Example: storectl mailbox list 'user/joe*' --long")]
pub struct MailboxListArgs {
    /// IMAP pattern: * stands for anything, % for anything but /
    #[arg(value_name = "PATTERN", default_value = "*")]
    pub pattern: String,
    /// Id, UIDVALIDITY, messages, bytes, partition, path and rights beside the name
    #[arg(long, short = 'l')]
    pub long: bool,
}

/// `acl`.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum AclVerb {
    /// Who may do what
    Get(MailboxName),
    /// Give an identifier rights: RIGHTS replaces, +RIGHTS adds, -RIGHTS takes away
    Set(AclSetArgs),
    /// Take an identifier off the list
    Delete(AclDeleteArgs),
}

/// `acl set`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "Example: storectl acl set user/joe/Work ann lrs")]
pub struct AclSetArgs {
    /// Full name
    #[arg(value_name = "MAILBOX")]
    pub name: String,
    /// User id, `anyone`, or one of them after a - for rights that are denied
    #[arg(value_name = "IDENTIFIER", allow_hyphen_values = true)]
    pub identifier: String,
    /// Letters of RFC 4314: l r s w i p k x t e a (and the older c d)
    #[arg(value_name = "RIGHTS", allow_hyphen_values = true)]
    pub rights: String,
    /// Plan only.
    #[command(flatten)]
    pub dry: DryRun,
}

/// `acl delete`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct AclDeleteArgs {
    /// Full name
    #[arg(value_name = "MAILBOX")]
    pub name: String,
    /// Identifier, as `acl get` prints it
    #[arg(value_name = "IDENTIFIER", allow_hyphen_values = true)]
    pub identifier: String,
    /// Plan only.
    #[command(flatten)]
    pub dry: DryRun,
}

/// `subscribe`, `unsubscribe`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct SubscribeArgs {
    /// User id
    #[arg(value_name = "USER")]
    pub user: String,
    /// Full name
    #[arg(value_name = "MAILBOX")]
    pub name: String,
    /// Plan only.
    #[command(flatten)]
    pub dry: DryRun,
}

/// `quota`.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum QuotaVerb {
    /// Limits and usage of one quota root
    Get(QuotaGetArgs),
}

/// `quota get`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct QuotaGetArgs {
    /// A user id, or a mailbox name
    #[arg(value_name = "ROOT")]
    pub root: String,
}

/// `partition`.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum PartitionVerb {
    /// Partitions with path, free space, users, mailboxes, state
    List,
    /// Make a partition in an empty or absent directory
    Add(PartitionAddArgs),
    /// One partition
    Show(PartitionName),
    /// Forget a partition that nothing lies on
    Remove(PartitionRemoveArgs),
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct PartitionName {
    /// Name of the partition
    #[arg(value_name = "PARTITION")]
    pub name: String,
}

/// `partition add`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "Example: storectl partition add disk2 /srv/mail2")]
pub struct PartitionAddArgs {
    /// Name of the partition
    #[arg(value_name = "PARTITION")]
    pub name: String,
    /// Its directory; a relative one is taken from the working directory
    #[arg(value_name = "PATH")]
    pub path: String,
    /// Plan only.
    #[command(flatten)]
    pub dry: DryRun,
}

/// `partition remove`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct PartitionRemoveArgs {
    /// Name of the partition
    #[arg(value_name = "PARTITION")]
    pub name: String,
    /// Plan only.
    #[command(flatten)]
    pub dry: DryRun,
}

/// `hashdir`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct HashdirArgs {
    /// User id
    #[arg(value_name = "USER")]
    pub user: String,
    /// The whole path instead of the part below the partition
    #[arg(long)]
    pub absolute: bool,
}
