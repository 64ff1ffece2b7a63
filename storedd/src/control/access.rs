//! Who may ask what: one table from verbs to roles, and how a caller gets a role.
//!
//! # Roles
//! | role | who | may |
//! |---|---|---|
//! | reader | members of `[access] reader_group` | ask: state, lists, reports, limits |
//! | admin | members of `[access] admin_group` | also change users, mailboxes, rights and quotas, and make a checkpoint |
//! | owner | root and the user the daemon runs as | everything |
//!
//! A role may do what those above it in this table may. Anybody else is not let in at all.
//!
//! # Operation
//! The kernel says who the other end of a connection is (`SO_PEERCRED`: the process that connected, which cannot be
//! forged); its groups are those the system's user database gives that user, looked up once for each connection.
//!
//! # Invariants
//! Every verb is in the table: the match has no other arm, so a verb that is added is not compiled before it has a role.

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use proto::{Command, Request, Window};
use std::ffi::CString;

/// What a caller may do; see the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Asks.
    Reader,
    /// Changes what is in the store.
    Admin,
    /// Does everything.
    Owner,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Role; 3] = [Role::Reader, Role::Admin, Role::Owner];

    /// Its name in messages.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Role::Reader => "reader",
            Role::Admin => "admin",
            Role::Owner => "owner",
        }
    }
}

/// The groups of the configuration; an empty name is nobody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Groups {
    /// Whose members are admins.
    pub admin: String,
    /// Whose members are readers.
    pub reader: String,
}

/// The least role that may make this request.
#[must_use]
pub fn least(request: &Request) -> Role {
    match request {
        Request::Hello { .. }
        | Request::Status
        | Request::Health
        | Request::Stats
        | Request::LogList { .. }
        | Request::RecoverReport { .. }
        | Request::UserList { .. }
        | Request::UserShow { .. }
        | Request::MailboxList { .. }
        | Request::MailboxListDeleted { .. }
        | Request::MailboxShow { .. }
        | Request::AclGet { .. }
        | Request::Subscriptions { .. }
        | Request::PartitionList
        | Request::PartitionShow { .. }
        | Request::Hashdir { .. }
        | Request::QuotaGet { .. }
        | Request::QuotaList { .. }
        | Request::QuotaReport { .. }
        | Request::AclRights { .. }
        | Request::AclMy { .. }
        | Request::MailboxListAs { .. }
        | Request::MailboxShowAs { .. }
        | Request::SubscriptionsMissing { .. }
        | Request::ConfigShow { .. }
        | Request::Metrics
        | Request::SnapshotList
        | Request::Locks
        | Request::Maintenance { window: Window::Show } => Role::Reader,
        // They read the whole log, which shows who did what and when.
        Request::LogVerify | Request::LogDump { .. } | Request::Checkpoint => Role::Admin,
        Request::Maintenance { window: Window::Start { .. } | Window::Stop } => Role::Admin,
        Request::QuotaRecalc { .. } => Role::Admin,
        // What people write to each other.
        Request::MessageSend { .. }
        | Request::MessageList { .. }
        | Request::MessageListAs { .. }
        | Request::MessageListExpunged { .. }
        | Request::MessageShow { .. }
        | Request::MessageBytes { .. }
        | Request::Backup(_) => Role::Admin,
        Request::SnapshotTake { .. } | Request::SnapshotVerify { .. } => Role::Admin,
        // It fills disk and time of the store; what it tells are sums.
        Request::Drill => Role::Admin,
        // They do what the configuration says and no more, as they would at night.
        Request::Expire { .. } | Request::Purge { .. } | Request::Peruser => Role::Admin,
        Request::Reconstruct(_) => Role::Admin,
        Request::Check(_) => Role::Reader,
        // Whoever may make users on a partition may.
        Request::UserMove { .. } => Role::Admin,
        // It writes everything the store knows to where the client says, with the daemon's rights.
        Request::BackupDb { .. } | Request::BackupComplete { .. } => Role::Owner,
        Request::JobStart { work, .. } => least(&work.request()),
        Request::Jobs | Request::JobShow { .. } | Request::JobFollow { .. } => Role::Reader,
        // What the work itself asks for needs its own roles.
        Request::JobAttend { .. } | Request::JobAdvance { .. } | Request::JobEnd { .. } => Role::Reader,
        // Of others than himself only by the owner; see `service/jobs.rs`.
        Request::JobCancel { .. } => Role::Admin,
        // They take ways back away.
        Request::SnapshotPrune | Request::SnapshotDelete { .. } => Role::Owner,
        Request::LockTake { .. } | Request::LockRelease { .. } | Request::LockJoin { .. } => Role::Admin,
        // They concern everybody: a connection that is cut, a store that stands still.
        Request::LockBreak { .. } | Request::Freeze { .. } | Request::Drain { .. } | Request::ReadOnly { .. } => {
            Role::Owner
        }
        Request::Shutdown { .. } | Request::Restart { .. } | Request::ConfigReload { .. } | Request::AcceptLoss => {
            Role::Owner
        }
        Request::Change { command, .. } => of_command(command),
        Request::Atomic { commands } => commands.iter().map(of_command).max().unwrap_or(Role::Admin),
    }
}

/// The least role that may ask for this change, also as a dry run.
#[must_use]
pub fn of_command(command: &Command) -> Role {
    match command {
        Command::UserAdd { .. }
        | Command::UserDelete { .. }
        | Command::UserRename { .. }
        | Command::MailboxCreate { .. }
        | Command::MailboxDelete { .. }
        | Command::MailboxRename { .. }
        | Command::AclSet { .. }
        | Command::AclDelete { .. }
        | Command::Subscribe { .. }
        | Command::Unsubscribe { .. }
        | Command::QuotaSet { .. }
        | Command::QuotaRecalc { .. }
        | Command::MessageDeliver { .. }
        | Command::MessageFlags { .. }
        | Command::MessageFlagsAs { .. }
        | Command::MessageExpunge { .. }
        | Command::MessageCopy { .. }
        | Command::MailboxUndelete { .. }
        | Command::MailboxReturn(_)
        | Command::MessageReturn(_)
        | Command::ImportMailbox { .. } => Role::Admin,
        // They name directories of the host, in which the daemon then writes.
        Command::PartitionAdd { .. } | Command::PartitionRemove { .. } => Role::Owner,
    }
}

/// The role of the user `uid` whose process has the group `gid`, at a daemon that runs as `owner`; `None`: not let in.
/// Asks the system's user database unless the user is an owner or no group is configured: it may block.
#[must_use]
pub fn role(uid: u32, gid: u32, owner: u32, groups: &Groups) -> Option<Role> {
    if uid == 0 || uid == owner {
        return Some(Role::Owner);
    }
    let mut member: Option<Vec<Gid>> = None;
    let mut is_in = |name: &str| {
        if name.is_empty() {
            return false;
        }
        let Ok(Some(group)) = Group::from_name(name) else { return false };
        group.gid.as_raw() == gid || member.get_or_insert_with(|| groups_of(uid)).contains(&group.gid)
    };
    if is_in(&groups.admin) {
        Some(Role::Admin)
    } else if is_in(&groups.reader) {
        Some(Role::Reader)
    } else {
        None
    }
}

/// The groups that the user database gives a user; none if it does not know him.
fn groups_of(uid: u32) -> Vec<Gid> {
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else { return Vec::new() };
    let Ok(name) = CString::new(user.name) else { return Vec::new() };
    getgrouplist(&name, user.gid).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_ordered() {
        assert!(Role::ALL.is_sorted() && Role::Reader < Role::Admin && Role::Admin < Role::Owner);
    }

    #[test]
    fn root_and_the_owner_are_owners_and_others_need_a_group() {
        let (none, root_group) = (Groups::default(), Groups { admin: "root".to_owned(), reader: String::new() });
        assert_eq!(role(0, 0, 1000, &none), Some(Role::Owner));
        assert_eq!(role(1000, 1000, 1000, &none), Some(Role::Owner));
        assert_eq!(role(65534, 65534, 1000, &none), None);
        assert_eq!(role(65534, 65534, 1000, &root_group), None);
        // The group of the process counts, whatever the user database says.
        assert_eq!(role(65534, 0, 1000, &root_group), Some(Role::Admin));
        let reader = Groups { admin: String::new(), reader: "root".to_owned() };
        assert_eq!(role(65534, 0, 1000, &reader), Some(Role::Reader));
        let unknown = Groups { admin: "no-such-group".to_owned(), reader: "no-such-group".to_owned() };
        assert_eq!(role(65534, 0, 1000, &unknown), None);
    }

    #[test]
    fn a_transaction_needs_what_its_strongest_command_needs() {
        let user = Command::UserDelete { user: "u".to_owned() };
        let partition = Command::PartitionRemove { name: "p".to_owned() };
        assert_eq!(least(&Request::Atomic { commands: vec![user.clone()] }), Role::Admin);
        assert_eq!(least(&Request::Atomic { commands: vec![user.clone(), partition, user] }), Role::Owner);
        assert_eq!(least(&Request::Atomic { commands: vec![] }), Role::Admin);
    }
}
