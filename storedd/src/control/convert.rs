//! Between the words of the wire and the words of the store, written out in both directions: no type crosses this border
//! by derive, so that either side can change alone.

use super::service::Committed;
use crate::error::StoreError;
use crate::lsn::Lsn;
use crate::model::command::{
    Delivered, Delivery, Incoming, IncomingBytes, Known, Marks, Recalculated, RefusalKind, Returning, ReturningBody,
    ReturningMailbox, ReturningMessages, Selection, Target,
};
use crate::model::message::{Digest, parse_flags};
use crate::model::{Command, LimitChange, Outcome, Refusal};
use crate::site::Site;
use proto::{Changed, Code, Failure, Reply};
use std::sync::Arc;

/// Gives the id of the partition whose root is a path, preparing the root if need be.
pub type PartitionId<'a> = dyn FnMut(&str, &Site) -> Result<[u8; 16], Failure> + 'a;

/// What a client asked, as the planner reads it.
///
/// # Errors
/// Those of `partition`, which is asked for `partition add` alone.
pub fn command(asked: proto::Command, partition: &mut PartitionId<'_>) -> Result<Command, Failure> {
    use proto::Command as Asked;
    Ok(match asked {
        Asked::UserAdd { user, partition, quota_bytes, quota_messages } => {
            Command::UserAdd { user, partition, quota_bytes, quota_messages }
        }
        Asked::UserDelete { user } => Command::UserDelete { user },
        Asked::UserRename { user, to } => Command::UserRename { user, to },
        Asked::MailboxCreate { name, partition } => Command::MailboxCreate { name, partition },
        Asked::MailboxDelete { name } => Command::MailboxDelete { name },
        Asked::MailboxRename { from, to } => Command::MailboxRename { from, to },
        Asked::AclSet { name, identifier, rights } => Command::AclSet { name, identifier, rights },
        Asked::AclDelete { name, identifier } => Command::AclDelete { name, identifier },
        Asked::Subscribe { user, name } => Command::Subscribe { user, name },
        Asked::Unsubscribe { user, name } => Command::Unsubscribe { user, name },
        Asked::PartitionAdd { name, path, message_path } => {
            let id = partition(&name, &Site { path: path.into(), messages: message_path.map(Into::into) })?;
            Command::PartitionAdd { name, id }
        }
        Asked::PartitionRemove { name } => Command::PartitionRemove { name },
        Asked::ImportMailbox { name, partition, uidvalidity, acl } => {
            Command::ImportMailbox { name, partition, uidvalidity, acl }
        }
        Asked::QuotaSet { root, storage, messages } => {
            Command::QuotaSet { root, storage: limit(storage), messages: limit(messages) }
        }
        Asked::QuotaRecalc { root } => Command::QuotaRecalc { root },
        Asked::MessageDeliver { to, flags, internal_us, body } => {
            Command::Deliver(delivery(to, &flags, internal_us, body)?)
        }
        Asked::MessageFlagsAs { user, name, uids, add, remove } => {
            let (add, remove) = (marks(&add)?, marks(&remove)?);
            Command::MessageFlagsAs { user, of: selection(name, uids), add, remove }
        }
        Asked::MessageFlags { name, uids, add, remove } => {
            Command::MessageFlags { of: selection(name, uids), add: marks(&add)?, remove: marks(&remove)? }
        }
        Asked::MessageExpunge { name, uids } => Command::MessageExpunge { of: selection(name, uids) },
        Asked::MessageCopy { name, uids, to, remove } => Command::MessageCopy { of: selection(name, uids), to, remove },
        Asked::MailboxUndelete { name, uids } => Command::Undelete { of: selection(name, uids) },
        Asked::MailboxReturn(of) => Command::MailboxReturns(Box::new(ReturningMailbox {
            name: of.name,
            partition: of.partition,
            id: of.id,
            store: of.store,
            uidvalidity: of.uidvalidity,
            uidnext: of.uidnext,
            highest_modseq: of.highest_modseq,
            acl: of.acl,
        })),
        Asked::MessageReturn(back) => Command::MessagesReturn(Box::new(messages_return(back)?)),
    })
}

fn selection(name: String, uids: Vec<u32>) -> Selection {
    Selection { name, uids, known: Known::default(), exactly: false }
}

fn marks(flags: &[String]) -> Result<Marks, Failure> {
    let (flags, keywords) =
        parse_flags(flags.iter().map(String::as_str)).map_err(|why| Failure::new(Code::BadInput, why))?;
    Ok(Marks { flags, keywords })
}

fn messages_return(back: proto::MessageReturn) -> Result<ReturningMessages, Failure> {
    let (mut uids, mut copied, mut messages) = (Vec::new(), Vec::new(), Vec::with_capacity(back.messages.len()));
    for message in back.messages {
        uids.extend(message.uid);
        let body = match message.body {
            proto::ReturningBody::Inline(bytes) => ReturningBody::Bytes(Arc::new(crate::mail::inline(bytes))),
            proto::ReturningBody::Sent(number) => ReturningBody::Bytes(Arc::new(announced(number))),
            proto::ReturningBody::Copy(uid) => {
                copied.push(uid);
                ReturningBody::Copy(uid, None)
            }
            proto::ReturningBody::Same { uid, digest } => {
                copied.push(uid);
                ReturningBody::Copy(uid, Some(Digest(digest)))
            }
        };
        let (internal_us, saved_us) = (message.internal_us, message.saved_us);
        messages.push(Returning { uid: message.uid, marks: marks(&message.flags)?, internal_us, saved_us, body });
    }
    Ok(ReturningMessages { into: selection(back.name, uids), from: selection(back.from, copied), messages })
}

/// A message and where it goes. One that was sent before is looked for where it was taken in, see [`sent`].
fn delivery(
    to: Vec<String>,
    flags: &[String],
    internal_us: Option<u64>,
    body: proto::Body,
) -> Result<Delivery, Failure> {
    if to.is_empty() {
        return Err(Failure::new(Code::BadInput, "a message for no mailbox"));
    }
    let Marks { flags, keywords } = marks(flags)?;
    let message = match body {
        proto::Body::Inline(bytes) => crate::mail::inline(bytes),
        proto::Body::Sent(number) => announced(number),
    };
    let to = to.into_iter().map(|name| Target { name, or: None }).collect();
    Ok(Delivery { message: Arc::new(message), to, flags, keywords, internal_us, each: false })
}

/// Stands for a message that its connection has sent before.
fn announced(number: u64) -> Incoming {
    let bytes = IncomingBytes::Staged { partition: String::new(), number };
    Incoming { size: 0, digest: Digest::default(), header_size: 0, bytes }
}

/// The number of a message that its connection has sent before, where a command names one and not the message.
#[must_use]
pub fn sent(message: &Incoming) -> Option<u64> {
    match &message.bytes {
        IncomingBytes::Staged { partition, number } if partition.is_empty() => Some(*number),
        _ => None,
    }
}

fn limit(asked: proto::Limit) -> LimitChange {
    match asked {
        proto::Limit::Keep => LimitChange::Keep,
        proto::Limit::None => LimitChange::Remove,
        proto::Limit::At(limit) => LimitChange::To(limit),
    }
}

/// Several commands as one transaction.
///
/// # Errors
/// As [`command`].
pub fn atomic(asked: Vec<proto::Command>, partition: &mut PartitionId<'_>) -> Result<Command, Failure> {
    let commands: Result<_, _> = asked.into_iter().map(|one| command(one, partition)).collect();
    Ok(Command::Atomic(commands?))
}

/// The answer to a change.
#[must_use]
pub fn reply(committed: Committed) -> Reply {
    let lsn = committed.lsn;
    match committed.outcome {
        Outcome::Each(outcomes) => {
            let mut all = Vec::with_capacity(outcomes.len());
            flatten(lsn, outcomes, &mut all);
            Reply::Each(all)
        }
        Outcome::Recalculated(roots) => {
            Reply::Recalculated(roots.into_iter().map(|root| recalculated(lsn, root)).collect())
        }
        Outcome::Delivered(all) => Reply::Delivered(all.into_iter().flatten().map(delivered).collect()),
        outcome => Reply::Changed(changed(lsn, outcome)),
    }
}

fn delivered(done: Delivered) -> proto::Delivered {
    let Delivered { mailbox, uid, uidvalidity, size, digest } = done;
    proto::Delivered { mailbox, uid, uidvalidity, size, digest: digest.to_string() }
}

/// A quota root that was counted again.
#[must_use]
pub fn recalculated(lsn: Lsn, Recalculated { root, from, to }: Recalculated) -> proto::Recalculated {
    let storage = proto::Correction { from: from.bytes, to: to.bytes };
    let messages = proto::Correction { from: from.messages, to: to.messages };
    proto::Recalculated { root, storage, messages, lsn: lsn.0 }
}

/// One answer for each command; a transaction within a transaction counts as its commands.
fn flatten(lsn: Lsn, outcomes: Vec<Outcome>, all: &mut Vec<Changed>) {
    for outcome in outcomes {
        match outcome {
            Outcome::Each(inner) => flatten(lsn, inner, all),
            outcome => all.push(changed(lsn, outcome)),
        }
    }
}

fn changed(lsn: Lsn, outcome: Outcome) -> Changed {
    let done =
        Changed { lsn: lsn.0, changed: true, name: None, id: None, uidvalidity: None, mailboxes: None, messages: None };
    match outcome {
        Outcome::Done | Outcome::Each(_) | Outcome::Delivered(_) => done,
        Outcome::Recalculated(roots) if roots.is_empty() => Changed { lsn: 0, changed: false, ..done },
        Outcome::Recalculated(_) => done,
        Outcome::Unchanged => Changed { lsn: 0, changed: false, ..done },
        Outcome::Created { name, id, uidvalidity } => {
            Changed { name: Some(name), id: Some(id), uidvalidity: Some(uidvalidity), ..done }
        }
        Outcome::Returned(messages) => Changed { messages: Some(messages), ..done },
        Outcome::MailboxReturned { name, id, uidvalidity, messages } => {
            Changed { name: Some(name), id: Some(id), uidvalidity: Some(uidvalidity), messages: Some(messages), ..done }
        }
        Outcome::Mailboxes(count) => Changed { mailboxes: Some(count), ..done },
    }
}

/// The answer to a dry run: it uses up no ids and no UIDVALIDITY, so those it was planned with are not the ones to come.
#[must_use]
pub fn without_numbers(reply: Reply) -> Reply {
    match reply {
        Reply::Changed(changed) => Reply::Changed(Changed { id: None, uidvalidity: None, ..changed }),
        other => other,
    }
}

/// Why a command was not done.
#[must_use]
pub fn refusal(refusal: Refusal) -> Failure {
    let code = match refusal.kind {
        RefusalKind::BadInput | RefusalKind::TooLarge => Code::BadInput,
        RefusalKind::NoUser => Code::NoUser,
        RefusalKind::NotFound => Code::NotFound,
        RefusalKind::Exists => Code::Exists,
        RefusalKind::Busy => Code::Busy,
        RefusalKind::OverQuota => Code::OverQuota,
        RefusalKind::NotPermitted => Code::NotPermitted,
    };
    Failure { code, message: refusal.message, hint: refusal.hint }
}

/// Why the store could not do something.
#[must_use]
pub fn failure(error: &StoreError) -> Failure {
    let code = Code::from_exit(error.exit()).unwrap_or(Code::Bug);
    Failure { code, message: error.to_string(), hint: error.hint() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::exit;

    fn no_partition(_: &str, _: &Site) -> Result<[u8; 16], Failure> {
        Err(Failure::new(Code::Bug, "not asked for"))
    }

    #[test]
    fn a_partition_gets_its_id_and_nothing_else_asks_for_one() {
        let message_path = Some("/m".to_owned());
        let path = "/p".to_owned();
        let asked = || proto::Command::PartitionAdd {
            name: "p".to_owned(),
            path: path.clone(),
            message_path: message_path.clone(),
        };
        let got = command(asked(), &mut |name, site| {
            assert_eq!((name, site), ("p", &Site { path: "/p".into(), messages: Some("/m".into()) }));
            Ok([7; 16])
        });
        assert_eq!(got, Ok(Command::PartitionAdd { name: "p".to_owned(), id: [7; 16] }));
        let refused = atomic(vec![asked()], &mut |_, _| Err(Failure::new(Code::Io, "no such directory")));
        assert_eq!(refused.unwrap_err().code, Code::Io);
        let delete = proto::Command::UserDelete { user: "u".to_owned() };
        let expected = Command::Atomic(vec![Command::UserDelete { user: "u".to_owned() }]);
        assert_eq!(atomic(vec![delete], &mut no_partition), Ok(expected));
    }

    #[test]
    fn outcomes_become_replies() {
        let reply = |outcome| reply(Committed { lsn: Lsn(7), outcome });
        let done =
            Changed { lsn: 7, changed: true, name: None, id: None, uidvalidity: None, mailboxes: None, messages: None };
        let unchanged = Changed { lsn: 0, changed: false, ..done.clone() };
        assert_eq!(reply(Outcome::Done), Reply::Changed(done.clone()));
        assert_eq!(reply(Outcome::Unchanged), Reply::Changed(unchanged.clone()));
        assert_eq!(reply(Outcome::Mailboxes(3)), Reply::Changed(Changed { mailboxes: Some(3), ..done.clone() }));
        let created = Outcome::Created { name: "n".to_owned(), id: 1, uidvalidity: 2 };
        let expected = Changed { name: Some("n".to_owned()), id: Some(1), uidvalidity: Some(2), ..done.clone() };
        assert_eq!(reply(created), Reply::Changed(expected));
        let each = Outcome::Each(vec![Outcome::Done, Outcome::Each(vec![Outcome::Unchanged]), Outcome::Done]);
        assert_eq!(reply(each), Reply::Each(vec![done.clone(), unchanged, done]));
    }

    #[test]
    fn errors_keep_their_exit_status_text_and_hint() {
        let busy = StoreError::Busy { why: "w".to_owned() };
        assert_eq!(failure(&busy), Failure::new(Code::Busy, "busy: w").with_hint("try again"));
        for status in [exit::DAMAGED, exit::UNAVAILABLE, exit::LOG_FAILED, exit::CONFIG] {
            let error = StoreError::Refused { message: "m".to_owned(), hint: "h".to_owned(), exit: status };
            assert_eq!(failure(&error).code.exit(), status);
        }
        let kinds = [
            (RefusalKind::BadInput, 65),
            (RefusalKind::TooLarge, 65),
            (RefusalKind::NoUser, 67),
            (RefusalKind::NotFound, 68),
            (RefusalKind::Exists, 73),
            (RefusalKind::Busy, 75),
            (RefusalKind::OverQuota, 75),
            (RefusalKind::NotPermitted, 77),
        ];
        for (kind, status) in kinds {
            let got = refusal(Refusal { kind, message: "m".to_owned(), hint: Some("h".to_owned()) });
            assert_eq!((got.code.exit(), got.hint.as_deref()), (status, Some("h")));
        }
    }
}
