//! A change in one sentence.

use super::words::{bytes, counted, printable};
use proto::{Changed, Command, Limit};

/// What a change did, would do, or found nothing to do.
#[must_use]
pub fn sentence(command: &Command, dry_run: bool, changed: &Changed) -> String {
    let (done, plain, object) = words(command);
    let object = printable(&object).into_owned();
    if !changed.changed {
        return format!("nothing to change: {plain} {object}");
    }
    let mut text = if dry_run { format!("would {plain} {object}") } else { format!("{done} {object}") };
    let mut details = Vec::new();
    if let Some(name) = changed.name.as_ref().filter(|name| !object.contains(name.as_str())) {
        details.push(printable(name).into_owned());
    }
    // A dry run uses up no numbers: those it was planned with are not the ones to come.
    if let Some(id) = changed.id.filter(|_| !dry_run) {
        details.push(format!("id {id}"));
    }
    if let Some(uidvalidity) = changed.uidvalidity.filter(|_| !dry_run) {
        details.push(format!("UIDVALIDITY {uidvalidity}"));
    }
    if let Some(mailboxes) = changed.mailboxes {
        details.push(counted(mailboxes, "mailbox"));
    }
    if let Some(messages) = changed.messages {
        details.push(counted(messages, "message"));
    }
    if !dry_run && changed.lsn > 0 {
        details.push(format!("LSN {}", changed.lsn));
    }
    if !details.is_empty() {
        text.push_str(&format!(" ({})", details.join(", ")));
    }
    text
}

/// What `user move` did.
#[must_use]
pub fn moved(user: &str, to: &str, changed: &Changed) -> String {
    let (user, to) = (printable(user), printable(to));
    if !changed.changed {
        return format!("nothing to move: user {user} lies on {to} already");
    }
    let mailboxes = counted(changed.mailboxes.unwrap_or(0), "mailbox");
    format!("moved user {user} to {to} ({mailboxes}, LSN {})", changed.lsn)
}

/// Messages of a mailbox.
fn of(uids: &[u32], name: &str) -> String {
    match uids {
        [one] => format!("message {one} of {name}"),
        many => format!("{} messages of {name}", many.len()),
    }
}

/// What was done, what to do, with what.
fn words(command: &Command) -> (&'static str, &'static str, String) {
    match command {
        Command::UserAdd { user, .. } => ("added user", "add user", user.clone()),
        Command::UserDelete { user } => ("deleted user", "delete user", user.clone()),
        Command::UserRename { user, to } => ("renamed user", "rename user", format!("{user} to {to}")),
        Command::MailboxCreate { name, .. } => ("created mailbox", "create mailbox", name.clone()),
        Command::MailboxDelete { name } => ("deleted mailbox", "delete mailbox", name.clone()),
        Command::MailboxRename { from, to } => ("renamed mailbox", "rename mailbox", format!("{from} to {to}")),
        Command::AclSet { name, identifier, rights } => {
            ("set rights", "set rights", format!("{rights} for {identifier} on {name}"))
        }
        Command::AclDelete { name, identifier } => {
            ("deleted rights of", "delete rights of", format!("{identifier} on {name}"))
        }
        Command::Subscribe { user, name } => ("subscribed", "subscribe", format!("{user} to {name}")),
        Command::Unsubscribe { user, name } => ("unsubscribed", "unsubscribe", format!("{user} from {name}")),
        Command::PartitionAdd { name, path, message_path } => {
            let messages = message_path.as_ref().map(|path| format!(", messages in {path}")).unwrap_or_default();
            ("added partition", "add partition", format!("{name} at {path}{messages}"))
        }
        Command::PartitionRemove { name } => ("removed partition", "remove partition", name.clone()),
        Command::ImportMailbox { name, .. } => ("imported mailbox", "import mailbox", name.clone()),
        Command::QuotaSet { root, storage, messages } => {
            let limit = |limit: &Limit, what: &str, show: fn(u64) -> String| match limit {
                Limit::Keep => None,
                Limit::None => Some(format!("no limit of {what}")),
                Limit::At(at) => Some(format!("at most {}", show(*at))),
            };
            let set = [limit(storage, "storage", bytes), limit(messages, "messages", |n| counted(n, "message"))];
            let set: Vec<String> = set.into_iter().flatten().collect();
            ("set limits of", "set limits of", format!("{root}: {}", set.join(", ")))
        }
        Command::QuotaRecalc { root } => ("counted again", "count again", root.clone()),
        Command::MessageFlagsAs { name, uids, user, .. } => {
            ("set flags of", "set flags of", format!("{} as {user}", of(uids, name)))
        }
        Command::MessageFlags { name, uids, .. } => ("set flags of", "set flags of", of(uids, name)),
        Command::MessageExpunge { name, uids } => ("expunged", "expunge", of(uids, name)),
        Command::MessageCopy { name, uids, to, remove: false } => {
            ("copied", "copy", format!("{} to {to}", of(uids, name)))
        }
        Command::MessageCopy { name, uids, to, remove: true } => {
            ("moved", "move", format!("{} to {to}", of(uids, name)))
        }
        Command::MailboxUndelete { name, uids } if uids.is_empty() => ("brought back", "bring back", name.clone()),
        Command::MailboxUndelete { name, uids } => ("brought back", "bring back", of(uids, name)),
        Command::MailboxReturn(of) => ("restored mailbox", "restore mailbox", of.name.clone()),
        Command::MessageReturn(back) => ("restored messages of", "restore messages of", back.name.clone()),
        Command::MessageDeliver { to, .. } => ("delivered to", "deliver to", to.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed() -> Changed {
        Changed { lsn: 9, changed: true, name: None, id: None, uidvalidity: None, mailboxes: None, messages: None }
    }

    #[test]
    fn sentences() {
        let create = Command::MailboxCreate { name: "user/joe/inbox".into(), partition: None };
        let made = Changed { name: Some("user/joe/INBOX".into()), id: Some(4), uidvalidity: Some(17), ..changed() };
        assert_eq!(
            sentence(&create, false, &made),
            "created mailbox user/joe/inbox (user/joe/INBOX, id 4, UIDVALIDITY 17, LSN 9)"
        );
        assert_eq!(sentence(&create, true, &made), "would create mailbox user/joe/inbox (user/joe/INBOX)");
        let delete = Command::UserDelete { user: "joe".into() };
        let gone = Changed { mailboxes: Some(3), lsn: 0, ..changed() };
        assert_eq!(sentence(&delete, true, &gone), "would delete user joe (3 mailboxes)");
        let nothing = Changed { changed: false, lsn: 0, ..changed() };
        assert_eq!(sentence(&delete, false, &nothing), "nothing to change: delete user joe");
        let acl = Command::AclSet { name: "shared/a".into(), identifier: "ann\n".into(), rights: "lrs".into() };
        assert_eq!(sentence(&acl, false, &changed()), "set rights lrs for ann\\u{a} on shared/a (LSN 9)");
    }
}
