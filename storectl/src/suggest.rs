//! "Did you mean": the name in the store that is nearest to one that is not there, for somebody at a terminal.

use crate::cli::Global;
use crate::exit::Stop;
use crate::names::{self, Kind};
use crate::socket::Environment;
use proto::{Code, Command, Request};
use std::io::IsTerminal;

/// Names that are compared, at most.
const MOST: usize = 5_000;

/// Adds the nearest name to a failure that says that there is no such user or mailbox. Scripts are not asked to wait for it.
#[must_use]
pub fn add(stop: Stop, global: &Global, environment: &Environment, request: &Request) -> Stop {
    if !std::io::stderr().is_terminal() {
        return stop;
    }
    let Stop::Failed(mut failure) = stop else { return stop };
    let list = |kind, prefix: &str| names::starting(global, environment, kind, prefix, MOST);
    if let Some(nearest) = wrong(failure.code, request).and_then(|(kind, typed)| find(kind, typed, &list)) {
        failure.message.push_str(&format!("; did you mean {nearest}?"));
    }
    Stop::Failed(failure)
}

/// What was not found.
fn wrong(code: Code, request: &Request) -> Option<(Kind, &str)> {
    let name = named(request)?;
    let is_mailbox = name.contains('/');
    match code {
        Code::NoUser if is_mailbox => Some((Kind::Users, name.strip_prefix("user/")?.split('/').next()?)),
        Code::NoUser => Some((Kind::Users, name)),
        // What is missing where a mailbox is to be made is its partition.
        Code::NotFound if is_mailbox && request.verb() != "mailbox create" => Some((Kind::Mailboxes, name)),
        _ => None,
    }
}

/// The user or the mailbox that a request is about.
fn named(request: &Request) -> Option<&str> {
    Some(match request {
        Request::UserShow { user } | Request::Subscriptions { user } | Request::Hashdir { user, .. } => user,
        Request::MailboxShow { name } | Request::AclGet { name } => name,
        Request::QuotaGet { root } => root,
        Request::Change { command, .. } => match command {
            Command::UserDelete { user } | Command::UserRename { user, .. } => user,
            Command::MailboxDelete { name } | Command::MailboxCreate { name, .. } => name,
            Command::MailboxRename { from, .. } => from,
            Command::AclSet { name, .. } | Command::AclDelete { name, .. } => name,
            _ => return None,
        },
        _ => return None,
    })
}

/// The nearest name that there is: among users with the same first letter, among mailboxes of the same owner.
fn find(kind: Kind, typed: &str, list: &dyn Fn(Kind, &str) -> Vec<String>) -> Option<String> {
    let prefix = match kind {
        Kind::Mailboxes => {
            let end = typed.match_indices('/').nth(1).map_or(typed.find('/')?, |(at, _)| at);
            &typed[..=end]
        }
        _ => &typed[..typed.chars().next()?.len_utf8()],
    };
    nearest(typed, prefix, list(kind, prefix))
}

/// The name with the fewest letters typed wrong behind `prefix`, few in proportion to what was typed.
#[must_use]
pub fn nearest(typed: &str, prefix: &str, names: Vec<String>) -> Option<String> {
    // Something else is missing then: an entry, a partition.
    if names.iter().any(|name| name == typed) {
        return None;
    }
    let tail = |name: &str| name.strip_prefix(prefix).unwrap_or(name).to_lowercase();
    let typed = tail(typed);
    let few = 1 + typed.chars().count() / 4;
    let measured = names.into_iter().map(|name| (strsim::osa_distance(&typed, &tail(&name)), name));
    measured.filter(|(distance, _)| *distance <= few).min().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(kind: Kind, prefix: &str) -> Vec<String> {
        let all: &[&str] = match kind {
            Kind::Users => &["jane", "joe", "joe@example.org", "johanna"],
            _ => &["user/joe/INBOX", "user/joe/Projekte/Äpfel", "user/joe/Sent", "shared/news"],
        };
        all.iter().filter(|name| name.starts_with(prefix)).map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_nearest_name_is_found_and_a_stranger_has_none() {
        let find = |kind, typed| find(kind, typed, &there);
        let user = |typed| find(Kind::Users, typed);
        assert_eq!(user("jeo").as_deref(), Some("joe"));
        assert_eq!(user("joe@exmaple.org").as_deref(), Some("joe@example.org"));
        assert_eq!(user("jonathan.smith"), None);
        assert_eq!(user("zoe"), None, "only names with the same first letter are looked at");
        assert_eq!(user(""), None);
        let mailbox = |typed| find(Kind::Mailboxes, typed);
        assert_eq!(mailbox("user/joe/sent").as_deref(), Some("user/joe/Sent"));
        assert_eq!(mailbox("user/joe/Projekte/Apfel").as_deref(), Some("user/joe/Projekte/Äpfel"));
        assert_eq!(mailbox("user/joe/Archive"), None);
        assert_eq!(mailbox("user/joe/Sent"), None, "it is there");
        assert_eq!(mailbox("shared/nwes").as_deref(), Some("shared/news"));
    }

    #[test]
    fn what_is_missing_is_told_by_the_request() {
        let show = |name: &str| Request::MailboxShow { name: name.to_owned() };
        assert_eq!(wrong(Code::NotFound, &show("user/joe/Snt")), Some((Kind::Mailboxes, "user/joe/Snt")));
        assert_eq!(wrong(Code::NoUser, &show("user/jeo/Sent")), Some((Kind::Users, "jeo")));
        assert_eq!(wrong(Code::NoUser, &Request::UserShow { user: "jeo".into() }), Some((Kind::Users, "jeo")));
        assert_eq!(wrong(Code::Busy, &show("user/joe/Snt")), None);
    }
}
