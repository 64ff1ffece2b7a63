//! What a lease holds and what a change touches.

use crate::model::Command;
use crate::model::command::Target;
use crate::model::name::{MailboxName, key_text, owner_of, subtree_end};
use crate::model::quota::QuotaRoot;
use crate::model::user::UserId;
use std::fmt;

/// A part of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    Store,
    /// A user with all mailboxes.
    User(String),
    /// What belongs to a user beside the mailboxes: limits, subscriptions.
    Account(String),
    /// One mailbox, by its key.
    Mailbox(Vec<u8>),
    /// A mailbox and everything below it, by its key.
    Tree(Vec<u8>),
    /// What is in nobody's way but that of who holds everything.
    Apart,
}

impl Scope {
    /// What a person names: `/`, a user id, or the full name of a mailbox.
    ///
    /// # Errors
    /// Why it is none of them.
    pub fn parse(text: &str) -> Result<Scope, String> {
        if text == "/" {
            Ok(Scope::Store)
        } else if text.contains('/') {
            let name = MailboxName::parse(text).map_err(|e| format!("{text:?} is no mailbox name: {e}"))?;
            Ok(Scope::Mailbox(name.key().to_vec()))
        } else {
            let user = UserId::parse(text).map_err(|e| format!("{text:?} is no user id: {e}"))?;
            Ok(Scope::User(user.as_str().to_owned()))
        }
    }

    /// One mailbox, by its full name; a name that is none is nobody's.
    #[must_use]
    pub fn of_mailbox(name: &str) -> Scope {
        MailboxName::parse(name).map_or(Scope::Apart, |name| Scope::Mailbox(name.key().to_vec()))
    }

    /// Where a message for one addressee may go.
    pub fn of_target(target: &Target) -> impl Iterator<Item = Scope> {
        std::iter::once(&target.name).chain(&target.or).map(|name| Scope::of_mailbox(name))
    }

    /// What a change touches. A name that is none touches nothing: the planner refuses it.
    #[must_use]
    pub fn of(command: &Command) -> Vec<Scope> {
        let user = |id: &str| UserId::parse(id).map_or(Scope::Apart, |user| Scope::User(user.as_str().to_owned()));
        let account = |id: &str| UserId::parse(id).map_or(Scope::Apart, |u| Scope::Account(u.as_str().to_owned()));
        let key = |name: &str| MailboxName::parse(name).map(|name| name.key().to_vec());
        let mailbox = Scope::of_mailbox;
        let tree = |name: &str| key(name).map_or(Scope::Apart, Scope::Tree);
        match command {
            Command::UserAdd { user: id, .. }
            | Command::UserDelete { user: id }
            | Command::UserMove { user: id, .. } => vec![user(id)],
            Command::UserRename { user: id, to } => vec![user(id), user(to)],
            Command::MailboxCreate { name, .. }
            | Command::MailboxDelete { name }
            | Command::AclSet { name, .. }
            | Command::AclDelete { name, .. }
            | Command::ImportMailbox { name, .. } => vec![mailbox(name)],
            Command::MailboxRename { from, to } => vec![tree(from), tree(to)],
            Command::Subscribe { user, .. } | Command::Unsubscribe { user, .. } => vec![account(user)],
            // A deleted mailbox is nobody's.
            Command::PartitionAdd { .. } | Command::PartitionRemove { .. } | Command::MailboxPurge { .. } => {
                vec![Scope::Apart]
            }
            Command::QuotaSet { root, .. } | Command::QuotaRecalc { root } => vec![match QuotaRoot::parse(root) {
                Ok(QuotaRoot::User(id)) => account(id.as_str()),
                Ok(QuotaRoot::Mailbox(name)) => Scope::Mailbox(name.key().to_vec()),
                Err(_) => Scope::Apart,
            }],
            Command::SeenForget { user, .. } => vec![account(user)],
            Command::MessageFlags { of, .. }
            | Command::MessageFlagsAs { of, .. }
            | Command::MessageExpunge { of }
            | Command::Undelete { of }
            | Command::MessagePurge { of } => vec![mailbox(&of.name)],
            Command::MessageCopy { of, to, .. } => vec![mailbox(&of.name), mailbox(to)],
            Command::Deliver(delivery) => delivery.to.iter().flat_map(Scope::of_target).collect(),
            Command::Mend(mend) => vec![mailbox(&mend.name)],
            Command::Salvage(salvage) => vec![mailbox(&salvage.to)],
            Command::MailboxReturns(of) => vec![mailbox(&of.name)],
            Command::MessagesReturn(back) => vec![mailbox(&back.into.name)],
            Command::AdoptUser(adopted) => vec![account(&adopted.user)],
            Command::AdoptNames(_) => vec![Scope::Apart],
            Command::AdoptMailbox(adopted) => vec![Scope::Mailbox(adopted.key.clone())],
            Command::Atomic(commands) => commands.iter().flat_map(Scope::of).collect(),
        }
    }

    /// True if the two have something in common.
    #[must_use]
    pub fn overlaps(&self, other: &Scope) -> bool {
        use Scope::{Account, Apart, Mailbox, Store, Tree, User};
        let below = |tree: &[u8], key: &[u8]| tree <= key && key < subtree_end(tree).as_slice();
        match (self, other) {
            (Store, _) | (_, Store) => true,
            (Apart, _) | (_, Apart) => false,
            (User(a) | Account(a), User(b) | Account(b)) => a == b,
            (User(user), Mailbox(key) | Tree(key)) | (Mailbox(key) | Tree(key), User(user)) => {
                owner_of(key) == Some(user)
            }
            (Account(_), Mailbox(_) | Tree(_)) | (Mailbox(_) | Tree(_), Account(_)) => false,
            (Mailbox(a), Mailbox(b)) => a == b,
            (Tree(tree), Mailbox(key)) | (Mailbox(key), Tree(tree)) => below(tree, key),
            (Tree(a), Tree(b)) => below(a, b) || below(b, a),
        }
    }

    /// True if any of these and any of those have something in common.
    #[must_use]
    pub fn any_overlap(these: &[Scope], those: &[Scope]) -> bool {
        these.iter().any(|a| those.iter().any(|b| a.overlaps(b)))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Store => f.write_str("/"),
            Scope::User(user) | Scope::Account(user) => f.write_str(user),
            Scope::Mailbox(key) | Scope::Tree(key) => f.write_str(&key_text(key)),
            Scope::Apart => f.write_str("(partitions)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlaps() {
        let scope = |text| Scope::parse(text).unwrap();
        let tree = |text| match scope(text) {
            Scope::Mailbox(key) => Scope::Tree(key),
            other => other,
        };
        let overlaps = |a: &Scope, b: &Scope| {
            assert_eq!(a.overlaps(b), b.overlaps(a), "{a:?} {b:?}");
            a.overlaps(b)
        };
        let (joe, work, deep) = (scope("joe"), scope("user/joe/Work"), scope("user/joe/Work/Deep"));
        assert!(overlaps(&joe, &work) && overlaps(&joe, &joe) && overlaps(&Scope::Store, &Scope::Apart));
        assert!(!overlaps(&joe, &scope("user/joel/Work")) && !overlaps(&joe, &scope("shared/joe")));
        assert!(!overlaps(&work, &deep) && overlaps(&tree("user/joe/Work"), &deep));
        assert!(!overlaps(&tree("user/joe/Work"), &scope("user/joe/Work2")));
        assert!(overlaps(&tree("user/joe/Work"), &tree("user/joe/Work/Deep")));
        assert!(overlaps(&Scope::Account("joe".into()), &joe) && !overlaps(&Scope::Account("joe".into()), &work));
        assert_eq!(scope("user/joe/inbox"), scope("user/joe/INBOX"), "names are normalised");
        for wrong in ["", "user/joe", "a b\n", "user//x"] {
            assert!(Scope::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    // A message goes to the INBOX if the folder is gone: who held the INBOX found mail in it.
    #[test]
    fn a_message_touches_the_mailbox_that_it_falls_back_to() {
        let to = Target { name: "user/joe/Work".to_owned(), or: Some("user/joe/INBOX".to_owned()) };
        let touched: Vec<Scope> = Scope::of_target(&to).collect();
        for (held, expected) in [("user/joe/Work", true), ("user/joe/INBOX", true), ("user/joe/Other", false)] {
            assert_eq!(Scope::any_overlap(&touched, &[Scope::parse(held).unwrap()]), expected, "{held}");
        }
    }

    #[test]
    fn a_rename_touches_what_it_moves_and_where_it_goes() {
        let rename = Command::MailboxRename { from: "user/joe/A".into(), to: "user/ann/B".into() };
        let touched = Scope::of(&Command::Atomic(vec![rename]));
        for (held, expected) in [("user/joe/A/x", true), ("ann", true), ("user/joe/B", false), ("/", true)] {
            assert_eq!(Scope::any_overlap(&touched, &[Scope::parse(held).unwrap()]), expected, "{held}");
        }
    }
}
