//! Verbs about what the store holds: users, mailboxes, rights, subscriptions, quota, partitions.

use super::jobs::Detach;
use super::values::{parse_messages_limit, parse_size, parse_storage_limit};
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
    /// Have a user and all mail lie on another partition, while everything goes on
    Move(UserMoveArgs),
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
    /// Most bytes the user may store, as 500MB or 2GiB [default: quota.default_storage of the configuration]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub quota: Option<u64>,
    /// Most messages the user may store [default: quota.default_messages of the configuration]
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

/// `user move`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct UserMoveArgs {
    /// User id
    #[arg(value_name = "USER")]
    pub user: String,
    /// Name of the partition
    #[arg(long, value_name = "PARTITION")]
    pub to: String,
    /// `--detach`.
    #[command(flatten)]
    pub detach: Detach,
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
    Show(MailboxShowArgs),
    /// Bring a deleted mailbox back, or expunged messages of one that is there
    Undelete(super::MailboxUndeleteArgs),
}

/// A mailbox.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct MailboxName {
    /// Full name, as user/joe@example.org/Projects
    #[arg(value_name = "MAILBOX")]
    pub name: String,
}

/// `mailbox show`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct MailboxShowArgs {
    /// Full name, as user/joe@example.org/Projects
    #[arg(value_name = "MAILBOX", required_unless_present = "id")]
    pub name: Option<String>,
    /// By its number, as the names of directories have it
    #[arg(long, value_name = "N", conflicts_with = "name")]
    pub id: Option<u64>,
    /// Only if this user may see it; anonymous: who has not said who he is
    #[arg(long = "as", value_name = "USER")]
    pub viewer: Option<String>,
}

impl MailboxShowArgs {
    /// The mailbox as a request names it.
    #[must_use]
    pub fn wanted(self) -> String {
        self.name.or(self.id.map(|id| format!("id:{id}"))).unwrap_or_default()
    }
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
#[command(
    after_help = "With --deleted: name, id, UIDVALIDITY, messages, bytes, when it was deleted, from when on a purge takes it
for good. Of several that had one name, `mailbox undelete` brings back the one deleted last.

Examples:
  storectl mailbox list 'user/joe*' --long
  storectl mailbox list --deleted 'user/joe/*'"
)]
pub struct MailboxListArgs {
    /// IMAP pattern: * stands for anything, % for anything but /
    #[arg(value_name = "PATTERN", default_value = "*")]
    pub pattern: String,
    /// Only those this user may see (his own, or by the right l); anonymous: who has not said who he is
    #[arg(long = "as", value_name = "USER")]
    pub viewer: Option<String>,
    /// Id, UIDVALIDITY, messages, bytes, partition, path and rights beside the name
    #[arg(long, short = 'l')]
    pub long: bool,
    /// Deleted mailboxes that can still be brought back, the oldest of a name first
    #[arg(long, conflicts_with_all = ["viewer", "long"])]
    pub deleted: bool,
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
    /// What an identifier has in any case, and what it can be given
    Rights(AclRightsArgs),
    /// What a user may do, all entries taken together
    My(AclMyArgs),
}

/// `acl rights`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct AclRightsArgs {
    /// Full name
    #[arg(value_name = "MAILBOX")]
    pub name: String,
    /// User id, `anyone`, `group:NAME`, or one of them after a -
    #[arg(value_name = "IDENTIFIER", allow_hyphen_values = true)]
    pub identifier: String,
}

/// `acl my`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "Members of groups are not known here: entries for groups do not count.")]
pub struct AclMyArgs {
    /// Full name
    #[arg(value_name = "MAILBOX")]
    pub name: String,
    /// User id; anonymous: who has not said who he is
    #[arg(value_name = "USER")]
    pub user: String,
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
    /// Letters of RFC 4314: l r s w i p k x t e a (the older c stands for k x, d for t e)
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

/// `subscriptions`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct SubscriptionsArgs {
    /// User id, as joe or joe@example.org
    #[arg(value_name = "USER")]
    pub user: String,
    /// Only those that lead nowhere, with the reason: missing, or hidden from the user
    #[arg(long)]
    pub missing: bool,
}

/// `quota`.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum QuotaVerb {
    /// Limits and usage of a user, or of the root in which a mailbox counts
    Get(QuotaGetArgs),
    /// Set limits; the first one makes a mailbox a root of its own
    Set(QuotaSetArgs),
    /// Quota roots with limits and usage
    List(QuotaListArgs),
    /// Count usage again from the mailboxes; says what was wrong
    Recalc(QuotaRecalcArgs),
    /// Quota roots that have reached a part of a limit
    Report(QuotaReportArgs),
}

/// `quota get`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct QuotaGetArgs {
    /// A user id, or a mailbox name
    #[arg(value_name = "ROOT")]
    pub root: String,
}

/// `quota set`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    group = clap::ArgGroup::new("limits").required(true).multiple(true).args(["storage", "messages"]),
    after_help = "A mailbox with a limit is a root: it and all below it count there, and nowhere else, until
both limits are none. A limit below what is used is taken; nothing is removed.

Example: storectl quota set joe@example.org --storage 2GiB --messages none"
)]
pub struct QuotaSetArgs {
    /// A user id, or a mailbox name
    #[arg(value_name = "ROOT")]
    pub root: String,
    /// Most bytes, as 500MB or 2GiB; none: no limit [default: as it is]
    #[arg(long, value_name = "SIZE", value_parser = parse_storage_limit)]
    pub storage: Option<proto::Limit>,
    /// Most messages; none: no limit [default: as it is]
    #[arg(long, value_name = "N", value_parser = parse_messages_limit)]
    pub messages: Option<proto::Limit>,
    /// Plan only.
    #[command(flatten)]
    pub dry: DryRun,
}

/// `quota list`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "Example: storectl quota list 'user/*@example.org'")]
pub struct QuotaListArgs {
    /// Only roots that match, as user/joe or shared/news; * stands for anything, % for anything but /
    #[arg(value_name = "PATTERN", default_value = "*")]
    pub pattern: String,
}

/// `quota recalc`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "With --dry-run the exit code is 1 if usage of a root is wrong. Counting all roots is a job: storectl jobs."
)]
#[command(group(clap::ArgGroup::new("one way").args(["root", "detach"])), group(clap::ArgGroup::new("for real").args(["dry_run", "detach"])))]
pub struct QuotaRecalcArgs {
    /// A user id, or a mailbox that is a root [default: all roots]
    #[arg(value_name = "ROOT")]
    pub root: Option<String>,
    /// Plan only.
    #[command(flatten)]
    pub dry: DryRun,
    /// `--detach`.
    #[command(flatten)]
    pub detach: Detach,
}

/// `quota report`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "Example: storectl quota report --over 100 --json")]
pub struct QuotaReportArgs {
    /// Roots that have used so many per cent of a limit, or more [default: quota.warn_percent of the configuration]
    #[arg(long, value_name = "PERCENT")]
    pub over: Option<u32>,
}

/// `partition`.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum PartitionVerb {
    /// Partitions with path, free space, users, mailboxes, state
    List,
    /// Make a partition in an empty or absent directory, or in two
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
#[command(after_help = "\
Examples:
  storectl partition add disk2 /srv/mail2
  storectl partition add disk3 /srv/fast/index3 --message-path /srv/large/mail3")]
pub struct PartitionAddArgs {
    /// Name of the partition
    #[arg(value_name = "PARTITION")]
    pub name: String,
    /// Its directory; a relative one is taken from the working directory
    #[arg(value_name = "PATH")]
    pub path: String,
    /// Directory for the message files, on another disk; indexes and all else lie in PATH [default: PATH]
    #[arg(long, value_name = "PATH")]
    pub message_path: Option<String>,
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
