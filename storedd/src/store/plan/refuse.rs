//! Every refusal of the planner, in one place: what, where, found, expected, and the next command to type.

use super::PlanError;
use crate::model::command::RefusalKind;
use crate::model::message::{KEYWORDS_MAX, State};
use crate::model::quota::RootError;
use crate::model::rights::RightsError;
use crate::model::seen::RUNS_MAX;
use crate::model::user::PartitionNameError;
use crate::model::{MailboxName, NameError, QuotaRoot, Refusal, Usage, UserIdError};
use std::fmt::Display;

fn refusal(kind: RefusalKind, message: String, hint: Option<String>) -> PlanError {
    PlanError::Refused(Refusal { kind, message, hint })
}

/// A word as a shell reads it back.
fn word(text: impl Display) -> String {
    let text = text.to_string();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/@.-_+:,=".contains(&b) || b >= 0x80;
    if !text.is_empty() && text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// What was typed, cut so that a message stays readable; control characters escaped.
fn typed(text: &str) -> String {
    const SHOWN: usize = 200;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

pub(super) fn bad_user(text: &str, why: UserIdError) -> PlanError {
    let hint = "user ids look like joe@example.org".to_owned();
    refusal(RefusalKind::BadInput, format!("bad user id {}: {why}", typed(text)), Some(hint))
}

pub(super) fn bad_name(text: &str, why: &NameError) -> PlanError {
    refusal(RefusalKind::BadInput, format!("bad mailbox name {}: {why}", typed(text)), why.hint())
}

/// A mailbox that would get a bad name by the renaming of one above it, or of its user.
pub(super) fn bad_new_name(from: &str, why: &NameError) -> PlanError {
    refusal(RefusalKind::BadInput, format!("the new name of {} would be bad: {why}", typed(from)), None)
}

pub(super) fn bad_rights(name: &MailboxName, why: &RightsError) -> PlanError {
    let hint = Some(format!("storectl acl get {}", word(name)));
    refusal(RefusalKind::BadInput, format!("rights of {name}: {why}"), hint)
}

pub(super) fn bad_modseq(name: &MailboxName, found: u64, most: u64) -> PlanError {
    refusal(
        RefusalKind::BadInput,
        format!("{name}: found modification sequence {found}, expected at most {most}"),
        None,
    )
}

pub(super) fn bad_partition(text: &str, why: PartitionNameError) -> PlanError {
    refusal(RefusalKind::BadInput, format!("bad partition name {}: {why}", typed(text)), None)
}

pub(super) fn bad_root(text: &str, why: &RootError) -> PlanError {
    match why {
        RootError::User(why) => bad_user(text, *why),
        RootError::Mailbox(why) => bad_name(text, why),
    }
}

pub(super) fn no_quota_root(root: &QuotaRoot, nearest: Option<&str>) -> PlanError {
    let (found, hint) = match nearest {
        Some(nearest) => (format!("it counts in {nearest}"), format!("storectl quota recalc {}", word(nearest))),
        None => ("it counts in none".to_owned(), format!("storectl quota set {} --storage SIZE", word(root))),
    };
    refusal(RefusalKind::NotFound, format!("{root} is no quota root: {found}"), Some(hint))
}

pub(super) fn over_quota(name: &MailboxName, root: &str, usage: Usage) -> PlanError {
    let message = format!("{name} would take the quota root {root} over its limit, to {usage}");
    refusal(RefusalKind::OverQuota, message, Some(format!("storectl quota get {}", word(root))))
}

pub(super) fn no_right(user: &str, name: &MailboxName, right: char) -> PlanError {
    let hint = Some(format!("storectl acl my {} {}", word(name), word(user)));
    refusal(RefusalKind::NotPermitted, format!("{user} lacks the right {right} on {name}"), hint)
}

pub(super) fn seen_here_and_there(user: &str, name: &MailboxName) -> PlanError {
    let message = format!("{user} has seen messages of {name} here and there, in more than {RUNS_MAX} places");
    refusal(RefusalKind::TooLarge, message, Some("mark a stretch of messages as seen".to_owned()))
}

/// A message that comes back wants a UID that cannot be its own.
pub(super) fn uid_taken(name: &MailboxName, uid: u32) -> PlanError {
    let hint = Some("let it have the next one".to_owned());
    refusal(RefusalKind::Exists, format!("UID {uid} of {name} is another message's"), hint)
}

/// There is no such message in this state.
pub(super) fn no_message(name: &MailboxName, uid: u32, state: State) -> PlanError {
    let (what, option) = if state == State::Live { ("message", "") } else { ("expunged message", " --expunged") };
    let hint = Some(format!("storectl message list {}{option}", word(name)));
    refusal(RefusalKind::NotFound, format!("no {what} {uid} in {name}"), hint)
}

/// The mailbox that had the message was replaced by another of its name.
pub(super) fn other_message(mailbox: &str, uid: u32) -> PlanError {
    let message = format!("message {uid} in {mailbox} is another one than the archive has: the mailbox was replaced");
    refusal(RefusalKind::NotFound, message, None)
}

pub(super) fn too_many_keywords(name: &MailboxName, uid: u32) -> PlanError {
    let message = format!("message {uid} in {name} would have more than {KEYWORDS_MAX} keywords");
    refusal(RefusalKind::BadInput, message, Some("remove some: --remove KEYWORD".to_owned()))
}

pub(super) fn uids_used_up(name: &MailboxName) -> PlanError {
    let hint = Some("deliver into a new mailbox".to_owned());
    refusal(RefusalKind::NotPermitted, format!("{name} has given every UID that there is"), hint)
}

pub(super) fn too_many_mailboxes(user: &str, limit: u64) -> PlanError {
    let message = format!("{user} would have more than {limit} mailboxes, which limits.mailboxes_per_user allows");
    let list = word(format!("user/{user}/*"));
    let hint = format!("delete one of them (storectl mailbox list {list}), or raise the limit in the configuration");
    refusal(RefusalKind::OverQuota, message, Some(hint))
}

pub(super) fn no_user(user: &str) -> PlanError {
    refusal(RefusalKind::NoUser, format!("no such user: {user}"), Some(format!("storectl user add {}", word(user))))
}

pub(super) fn no_mailbox(name: &MailboxName) -> PlanError {
    let above = match name.owner() {
        Some(user) => format!("user/{user}/*"),
        None => "shared*".to_owned(),
    };
    let hint = Some(format!("storectl mailbox list {}", word(above)));
    refusal(RefusalKind::NotFound, format!("no such mailbox: {name}"), hint)
}

pub(super) fn no_partition(name: &str) -> PlanError {
    let hint = Some("storectl partition list".to_owned());
    refusal(RefusalKind::NotFound, format!("no such partition: {}", typed(name)), hint)
}

/// What comes for a partition that is away is in the log alone, and enough of that is kept for it.
pub(super) fn closed(name: &MailboxName, partition: &str) -> PlanError {
    let message =
        format!("{name} lies on partition {partition}, which is away, and as much log is kept for it as may be");
    refusal(RefusalKind::Busy, message, Some(format!("storectl partition show {partition}")))
}

pub(super) fn no_entry(name: &MailboxName, identifier: &str) -> PlanError {
    let hint = Some(format!("storectl acl get {}", word(name)));
    refusal(RefusalKind::NotFound, format!("{name} has no entry for {}", typed(identifier)), hint)
}

pub(super) fn user_exists(user: &str) -> PlanError {
    let hint = Some(format!("storectl user show {}", word(user)));
    refusal(RefusalKind::Exists, format!("user {user} exists already"), hint)
}

/// The name is taken. If what was typed is another spelling of it in Unicode, that is bad input: whoever typed it
/// means, or will later see, two mailboxes.
pub(super) fn mailbox_exists(name: &MailboxName) -> PlanError {
    let hint = Some(format!("storectl mailbox show {}", word(name)));
    if name.was_renormalised() {
        let message = format!("the name differs only by Unicode normalisation from the mailbox {name}");
        return refusal(RefusalKind::BadInput, message, hint);
    }
    refusal(RefusalKind::Exists, format!("mailbox {name} exists already"), hint)
}

/// An imported mailbox is there and differs from the list.
pub(super) fn import_differs(name: &MailboxName, what: &str, here: &str, list: &str) -> PlanError {
    let hint = Some(format!("storectl mailbox show {}", word(name)));
    let message = format!("mailbox {name} exists already, with {what} {here}; the list says {list}");
    refusal(RefusalKind::Exists, message, hint)
}

pub(super) fn partition_exists(name: &str, what: &str) -> PlanError {
    let hint = Some("storectl partition list".to_owned());
    refusal(RefusalKind::Exists, format!("a partition with this {what} exists already: {name}"), hint)
}

pub(super) fn partition_used(name: &str, by: &str) -> PlanError {
    refusal(RefusalKind::Busy, format!("partition {name} is in use by {by}"), None)
}

pub(super) fn partition_read(name: &str) -> PlanError {
    let message = format!("partition {name} holds mail that the next checkpoint brings to another partition");
    refusal(RefusalKind::Busy, message, Some("storectl checkpoint, and again".to_owned()))
}

pub(super) fn partition_may_be_read(name: &str, behind: &str) -> PlanError {
    let message = format!("partition {name} may hold mail that partition {behind} lacks, which is not up to date");
    refusal(RefusalKind::Busy, message, Some(format!("storectl partition show {behind}")))
}

/// A message was staged where nothing is any more.
pub(super) fn staged_nowhere(partition: &str) -> PlanError {
    let message = format!("partition {partition} was removed while the message was sent");
    refusal(RefusalKind::Busy, message, Some("send it again".to_owned()))
}

pub(super) fn into_itself(from: &MailboxName, to: &MailboxName) -> PlanError {
    refusal(RefusalKind::BadInput, format!("{to} lies below {from}: a mailbox cannot be moved into itself"), None)
}

pub(super) fn inbox_stays(user: &str, verb: &str) -> PlanError {
    let hint = match verb {
        "deleted" => format!("to remove the user with all mail: storectl user delete {}", word(user)),
        _ => format!("move its messages, or rename the user: storectl user rename {} NEW", word(user)),
    };
    refusal(RefusalKind::NotPermitted, format!("every user has an INBOX; that of {user} cannot be {verb}"), Some(hint))
}

pub(super) fn too_large(bytes_max: usize) -> PlanError {
    let message = format!("one transaction holds at most {bytes_max} bytes, and this is more");
    let hint = "do it in parts: the mailboxes below first, or fewer lines in a batch".to_owned();
    refusal(RefusalKind::TooLarge, message, Some(hint))
}

pub(super) fn root_too_large(root: &str, most: usize) -> PlanError {
    let message =
        format!("{root} covers more than {most} mailboxes, and the same transaction changes what counts in it");
    let hint = format!("storectl quota set {} by itself, before or after", word(root));
    refusal(RefusalKind::TooLarge, message, Some(hint))
}

pub(super) fn nested() -> PlanError {
    refusal(RefusalKind::BadInput, "an atomic batch inside an atomic batch".to_owned(), None)
}

/// Names the command of a batch that was refused.
pub(super) fn nth(error: PlanError, command: usize) -> PlanError {
    match error {
        PlanError::Refused(Refusal { kind, message, hint }) => {
            refusal(kind, format!("command {command} of the batch: {message}; nothing of the batch was done"), hint)
        }
        other => other,
    }
}
