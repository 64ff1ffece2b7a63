//! What is asked about users, mailboxes, messages, rights, quotas and partitions.

use super::{Ask, Form, Plan, absolute, change, picked};
use crate::cli::{
    AclVerb, MailboxVerb, MessageCopyArgs, MessageListArgs, MessageUidsArgs, MessageVerb, PartitionVerb, QuotaVerb,
    UserVerb,
};
use proto::{Code, Command, Failure, Limit, Request};

pub(super) fn user(verb: UserVerb) -> Ask {
    match verb {
        UserVerb::Add(a) => {
            let (quota_bytes, quota_messages) = (a.quota, a.messages);
            change(
                Command::UserAdd { user: a.user, partition: a.partition, quota_bytes, quota_messages },
                a.dry.dry_run,
            )
        }
        UserVerb::Delete(a) => {
            let question = format!("delete the user {} with all mailboxes and messages?", a.user);
            change(Command::UserDelete { user: a.user }, a.consent.dry.dry_run)
                .question(!a.consent.yes && !a.consent.dry.dry_run, || question)
        }
        UserVerb::Rename(a) => change(Command::UserRename { user: a.user, to: a.to }, a.dry.dry_run),
        UserVerb::Move(a) => Ask::new(Request::UserMove { user: a.user, to: a.to }).long(),
        UserVerb::List(a) => Ask::new(Request::UserList { pattern: a.pattern }),
        UserVerb::Show(a) => Ask::new(Request::UserShow { user: a.user }),
    }
}

pub(super) fn mailbox(verb: MailboxVerb) -> Plan {
    Plan::Ask(match verb {
        MailboxVerb::Create(a) => {
            change(Command::MailboxCreate { name: a.name, partition: a.partition }, a.dry.dry_run)
        }
        MailboxVerb::Delete(a) => {
            let question = format!("delete the mailbox {} with all messages?", a.name);
            change(Command::MailboxDelete { name: a.name }, a.consent.dry.dry_run)
                .question(!a.consent.yes && !a.consent.dry.dry_run, || question)
        }
        MailboxVerb::Rename(a) => change(Command::MailboxRename { from: a.from, to: a.to }, a.dry.dry_run),
        MailboxVerb::List(a) => {
            let request = match a.viewer {
                _ if a.deleted => Request::MailboxListDeleted { pattern: a.pattern },
                Some(user) => Request::MailboxListAs { user, pattern: a.pattern },
                None => Request::MailboxList { pattern: a.pattern },
            };
            Ask::new(request).form(if a.long { Form::Long } else { Form::Plain })
        }
        MailboxVerb::Undelete(a) => {
            let name = a.name;
            return picked(a.uids, a.dry.dry_run, |uids| Command::MailboxUndelete { name, uids });
        }
        MailboxVerb::Show(a) => Ask::new(match a.viewer.clone() {
            Some(user) => Request::MailboxShowAs { user, name: a.wanted() },
            None => Request::MailboxShow { name: a.wanted() },
        }),
    })
}

fn copy(a: MessageCopyArgs, remove: bool) -> Plan {
    let MessageCopyArgs { of: MessageUidsArgs { name, uids, dry }, to } = a;
    picked(uids, dry.dry_run, |uids| Command::MessageCopy { name, uids, to, remove })
}

/// System flags, as they are written without the backslash that makes them such.
const SYSTEM: [&str; 6] = ["Seen", "Answered", "Flagged", "Deleted", "Draft", "Recent"];

/// Flags that are to be added.
///
/// # Errors
/// A keyword that looks like a system flag without its backslash: the shell has taken it, or nobody wrote it.
pub(super) fn check_flags<'a>(mut flags: impl Iterator<Item = &'a str>) -> Result<(), Failure> {
    let system = |flag: &str| SYSTEM.iter().find(|system| system.eq_ignore_ascii_case(flag));
    match flags.find_map(|flag| system(flag).map(|system| (flag, system))) {
        None => Ok(()),
        Some((flag, system)) => {
            let text = format!("{flag} would be a keyword; the system flag begins with a backslash");
            Err(Failure::new(Code::BadInput, text).with_hint(format!("write it in quotes: '\\{system}'")))
        }
    }
}

pub(super) fn message(verb: MessageVerb) -> Result<Plan, Failure> {
    Ok(Plan::Ask(match verb {
        MessageVerb::Deliver(_) => return Err(Failure::new(Code::Bug, "a delivery is no single request")),
        MessageVerb::List(MessageListArgs { name, viewer: Some(user), .. }) => {
            Ask::new(Request::MessageListAs { user, name })
        }
        MessageVerb::List(a) if a.expunged => Ask::new(Request::MessageListExpunged { name: a.name }),
        MessageVerb::List(a) => Ask::new(Request::MessageList { name: a.name, expunged: false }),
        MessageVerb::Show(a) if a.raw => Ask::new(Request::MessageBytes { name: a.name, uid: a.uid }),
        MessageVerb::Flags(a) => {
            let (MessageUidsArgs { name, uids, dry }, add, remove) = (a.of, a.add, a.remove);
            check_flags(add.iter().map(String::as_str))?;
            return Ok(picked(uids, dry.dry_run, |uids| match a.actor {
                Some(user) => Command::MessageFlagsAs { user, name, uids, add, remove },
                None => Command::MessageFlags { name, uids, add, remove },
            }));
        }
        MessageVerb::Expunge(a) => {
            let name = a.name;
            return Ok(picked(a.uids, a.dry.dry_run, |uids| Command::MessageExpunge { name, uids }));
        }
        MessageVerb::Copy(a) => return Ok(copy(a, false)),
        MessageVerb::Move(a) => return Ok(copy(a, true)),
        MessageVerb::Show(a) => Ask::new(Request::MessageShow { name: a.name, uid: a.uid }),
    }))
}

pub(super) fn acl(verb: AclVerb) -> Ask {
    match verb {
        AclVerb::Get(a) => Ask::new(Request::AclGet { name: a.name }),
        AclVerb::Rights(a) => Ask::new(Request::AclRights { name: a.name, identifier: a.identifier }),
        AclVerb::My(a) => Ask::new(Request::AclMy { name: a.name, user: a.user }),
        AclVerb::Set(a) => {
            change(Command::AclSet { name: a.name, identifier: a.identifier, rights: a.rights }, a.dry.dry_run)
        }
        AclVerb::Delete(a) => change(Command::AclDelete { name: a.name, identifier: a.identifier }, a.dry.dry_run),
    }
}

pub(super) fn quota(verb: QuotaVerb) -> Ask {
    match verb {
        QuotaVerb::Get(a) => Ask::new(Request::QuotaGet { root: a.root }),
        QuotaVerb::Set(a) => {
            let [storage, messages] = [a.storage, a.messages].map(|limit| limit.unwrap_or(Limit::Keep));
            change(Command::QuotaSet { root: a.root, storage, messages }, a.dry.dry_run)
        }
        QuotaVerb::List(a) => Ask::new(Request::QuotaList { pattern: a.pattern }),
        QuotaVerb::Report(a) => Ask::new(Request::QuotaReport { over: a.over }),
        QuotaVerb::Recalc(a) => match a.root {
            Some(root) => change(Command::QuotaRecalc { root }, a.dry.dry_run),
            None => Ask::new(Request::QuotaRecalc { dry_run: a.dry.dry_run }).long(),
        },
    }
}

pub(super) fn partition(verb: PartitionVerb) -> Result<Ask, Failure> {
    Ok(match verb {
        PartitionVerb::List => Ask::new(Request::PartitionList),
        PartitionVerb::Show(a) => Ask::new(Request::PartitionShow { name: a.name }),
        PartitionVerb::Remove(a) => change(Command::PartitionRemove { name: a.name }, a.dry.dry_run),
        PartitionVerb::Add(a) => {
            let example = "storectl partition add NAME /PATH --message-path /PATH";
            let message_path = a.message_path.as_deref().map(|path| absolute(path, example)).transpose()?;
            let path = absolute(&a.path, "storectl partition add NAME /PATH")?;
            change(Command::PartitionAdd { name: a.name, path, message_path }, a.dry.dry_run)
        }
    })
}
