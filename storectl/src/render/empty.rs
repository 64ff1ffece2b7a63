//! What is said where a list has nothing to show: on standard error, so that a script gets an empty list.

use crate::commands::Ask;
use proto::naming::quoted;
use proto::{Reply, Request};

/// How many rows this part of a list has; `None` if it is no list that may be empty for a reason worth a word.
#[must_use]
pub fn rows(reply: &Reply) -> Option<usize> {
    Some(match reply {
        Reply::Users(x) => x.len(),
        Reply::Mailboxes(x) => x.len(),
        Reply::DeletedMailboxes(x) => x.len(),
        Reply::ExpungedMessages(x) => x.len(),
        Reply::Messages(x) => x.len(),
        Reply::Subscriptions(x) => x.len(),
        Reply::MissingSubscriptions(x) => x.len(),
        Reply::Quotas(x) => x.len(),
        Reply::Recalculated(x) => x.len(),
        Reply::Jobs(x) => x.len(),
        Reply::Snapshots(x) => x.len(),
        _ => return None,
    })
}

/// What an empty answer to this means; `None` where nothing needs to be said.
#[must_use]
pub fn sentence(ask: &Ask) -> Option<String> {
    let matching = |what: &str, pattern: &str| match pattern {
        "*" => format!("no {what}"),
        pattern => format!("no {what} matches {pattern}"),
    };
    Some(match &ask.request {
        Request::Jobs => "no jobs".to_owned(),
        Request::SnapshotList => "no snapshots; take one: storectl snapshot take".to_owned(),
        Request::UserList { pattern } => matching("user", pattern.as_deref().unwrap_or("*")),
        Request::MailboxList { pattern } => {
            let hint = misfit(pattern).map(|better| format!("; names begin with user/ or shared/: {better}"));
            matching("mailbox", pattern) + &hint.unwrap_or_default()
        }
        Request::MailboxListDeleted { pattern } => {
            let hint = misfit(pattern).map(|_| "; names begin with user/ or shared/".to_owned());
            matching("deleted mailbox that could be brought back", pattern) + &hint.unwrap_or_default()
        }
        Request::MailboxListAs { user, pattern } => format!("{} that {user} may see", matching("mailbox", pattern)),
        Request::MessageList { name, .. } | Request::MessageListAs { name, .. } => format!("no messages in {name}"),
        Request::MessageListExpunged { name } => format!("no expunged messages in {name} that could be brought back"),
        Request::Subscriptions { user } => format!("{user} has no subscriptions"),
        Request::SubscriptionsMissing { user } => format!("every subscription of {user} leads somewhere"),
        Request::QuotaList { pattern } => matching("quota root", pattern),
        Request::QuotaReport { over: Some(over) } => format!("no quota root has used {over} % of a limit"),
        Request::QuotaReport { over: None } => "no quota root has used quota.warn_percent of a limit".to_owned(),
        Request::QuotaRecalc { .. } => "every quota root was counted right".to_owned(),
        _ => return None,
    })
}

/// What to type instead of a pattern that no name can match.
fn misfit(pattern: &str) -> Option<String> {
    let list = |pattern: String| format!("storectl mailbox list {}", quoted(&pattern));
    let literal = pattern.split(['*', '%']).next().unwrap_or_default();
    let is_whole = literal.len() == pattern.len();
    let fits = ["user/", "shared/"].iter().any(|begin| literal.starts_with(begin) || begin.starts_with(literal));
    match literal.strip_prefix("user/") {
        // A user is no mailbox.
        Some(user) if is_whole && !user.is_empty() && !user.contains('/') => Some(list(format!("{pattern}/*"))),
        _ if !fits || (is_whole && literal == "user") => {
            let user = literal.split('/').next().unwrap_or_default();
            Some(list(if user == "user" { "user/*".to_owned() } else { format!("user/{user}*") }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_can_match_nothing_has_a_better_one() {
        let better = |pattern| misfit(pattern).map(|text| text.trim_start_matches("storectl mailbox list ").to_owned());
        assert_eq!(better("joe").as_deref(), Some("'user/joe*'"));
        assert_eq!(better("joe*").as_deref(), Some("'user/joe*'"));
        assert_eq!(better("joe/Work").as_deref(), Some("'user/joe*'"));
        assert_eq!(better("user/joe").as_deref(), Some("'user/joe/*'"));
        assert_eq!(better("user").as_deref(), Some("'user/*'"));
        for fits in ["*", "*joe", "user/joe*", "us*", "shared/x", "shared", "sha%", "user/joe/Work", "%/joe"] {
            assert_eq!(better(fits), None, "{fits}");
        }
    }
}
