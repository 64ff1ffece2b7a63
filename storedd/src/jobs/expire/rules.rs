//! Which messages of a mailbox the rules of ageing catch.
//!
//! # Operation
//! The rules are looked at in their order; a message belongs to the first one that catches it. A rule catches what all its
//! conditions fit; its limits then spare the newest of those, by UID: so many of them, and as many as have so many bytes together.
//! Only messages that are live are looked at.

use crate::config::{ExpireAction, ExpireRule};
use crate::lsn::Micros;
use crate::model::MailboxName;
use crate::model::message::{Flags, Message, State};
use crate::model::name::owner_of;
use crate::model::pattern::Pattern;

/// The rules of a configuration, ready to be asked.
#[derive(Debug)]
pub struct Rules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    said: ExpireRule,
    pattern: Pattern,
}

/// A message that a rule has caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caught {
    /// Which message.
    pub uid: u32,
    /// Its size in bytes.
    pub size: u64,
    /// Which rule: its place in the order.
    pub rule: usize,
}

impl Rules {
    /// Makes them ready.
    ///
    /// # Errors
    /// The option and what is wrong with it, if a pattern or a folder cannot be one.
    pub fn new(said: &[ExpireRule]) -> Result<Rules, (String, String)> {
        let ready = said.iter().map(|rule| {
            let wrong = |key: &str, e: &dyn std::fmt::Display| (format!("expire.{}.{key}", rule.name), e.to_string());
            let pattern = Pattern::parse(&rule.mailboxes).map_err(|e| wrong("mailboxes", &e))?;
            if rule.action == ExpireAction::Move {
                MailboxName::parse(&format!("user/x/{}", rule.move_to)).map_err(|e| wrong("move_to", &e))?;
            }
            Ok(Rule { said: rule.clone(), pattern })
        });
        ready.collect::<Result<_, _>>().map(Rules)
    }

    /// A rule by its place in the order.
    #[must_use]
    pub fn get(&self, rule: usize) -> Option<&ExpireRule> {
        self.0.get(rule).map(|rule| &rule.said)
    }

    /// Where a rule moves messages of the mailbox with this key: a folder of the same owner. `None`: it moves none.
    #[must_use]
    pub fn target(&self, rule: usize, key: &[u8]) -> Option<MailboxName> {
        self.0.get(rule).and_then(|rule| rule.target(key))
    }

    /// True if some rule could catch messages of the mailbox with this key in this partition: others need not be opened.
    #[must_use]
    pub fn concern(&self, key: &[u8], partition: &str) -> bool {
        self.0.iter().any(|rule| rule.said.action != ExpireAction::Keep && rule.covers(key, partition))
    }

    /// What the rules catch among the messages of a mailbox, given in the order of their UIDs. Those to be kept are not in it.
    #[must_use]
    pub fn judge(&self, key: &[u8], partition: &str, messages: &[&Message], now: Micros) -> Vec<Caught> {
        let mut left: Vec<&Message> = messages.iter().filter(|m| m.state == State::Live).copied().collect();
        let mut all = Vec::new();
        for (at, rule) in self.0.iter().enumerate().filter(|(_, rule)| rule.covers(key, partition)) {
            let caught = rule.catch(&left, now);
            left.retain(|m| caught.binary_search(&m.uid).is_err());
            if rule.said.action != ExpireAction::Keep {
                let by_uid = |uid: &u32| messages.binary_search_by_key(uid, |m| m.uid).ok();
                let sized = caught.iter().filter_map(by_uid).filter_map(|n| messages.get(n));
                all.extend(sized.map(|m| Caught { uid: m.uid, size: m.size, rule: at }));
            }
        }
        all
    }
}

impl Rule {
    fn covers(&self, key: &[u8], partition: &str) -> bool {
        self.said.partition.as_deref().is_none_or(|wanted| wanted == partition)
            && self.pattern.matches(key)
            // What is where it should go stays there, for later rules to judge.
            && self.target(key).is_none_or(|target| target.key() != key)
    }

    fn target(&self, key: &[u8]) -> Option<MailboxName> {
        if self.said.action != ExpireAction::Move {
            return None;
        }
        let top = owner_of(key).map_or_else(|| "shared".to_owned(), |owner| format!("user/{owner}"));
        MailboxName::parse(&format!("{top}/{}", self.said.move_to)).ok()
    }

    fn fits(&self, message: &Message, now: Micros) -> bool {
        let rule = &self.said;
        let is_past = |since_us: u64, age: std::time::Duration| {
            now.0.checked_sub(since_us).is_some_and(|passed| u128::from(passed) > age.as_micros())
        };
        rule.older_than.is_none_or(|age| is_past(message.internal_us, age))
            && rule.saved_longer_than.is_none_or(|age| is_past(message.saved_us, age))
            && rule.larger_than.is_none_or(|bytes| message.size > bytes)
            && rule.seen.is_none_or(|seen| message.flags.has(Flags::SEEN) == seen)
            && rule.deleted.is_none_or(|deleted| message.flags.has(Flags::DELETED) == deleted)
    }

    /// The UIDs that it catches, in order.
    fn catch(&self, messages: &[&Message], now: Micros) -> Vec<u32> {
        let mut fitting: Vec<&Message> = messages.iter().filter(|m| self.fits(m, now)).copied().collect();
        let limits = (self.said.keep_messages, self.said.keep_bytes);
        if limits != (None, None) {
            let (most, bytes) = (limits.0.map_or(u64::MAX, u64::from), limits.1.unwrap_or(u64::MAX));
            let mut sum = 0u64;
            let spared = fitting.iter().rev().zip(1..).take_while(|(m, n)| {
                sum = sum.saturating_add(m.size);
                *n <= most && sum <= bytes
            });
            let spared = spared.count();
            fitting.truncate(fitting.len() - spared);
        }
        fitting.into_iter().map(|m| m.uid).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::message::Digest;
    use std::collections::BTreeSet;
    use std::time::Duration;

    const DAY: u64 = 86_400_000_000;
    const NOW: Micros = Micros(1000 * DAY);

    /// A message of each UID, so many days old, with a size and flags.
    fn message(uid: u32, days: u64, size: u64, flags: Flags) -> Message {
        let at = NOW.0 - days * DAY;
        Message {
            uid,
            state: State::Live,
            flags,
            keywords: BTreeSet::new(),
            modseq: 1,
            size,
            header_size: 10,
            internal_us: at,
            saved_us: at,
            expunged_us: 0,
            digest: Digest::default(),
        }
    }

    fn rule(name: &str, change: impl FnOnce(&mut ExpireRule)) -> ExpireRule {
        let mut rule = ExpireRule { action: ExpireAction::Discard, ..ExpireRule::new(name) };
        change(&mut rule);
        rule
    }

    fn days(n: u64) -> Option<Duration> {
        Some(Duration::from_secs(n * 86_400))
    }

    fn caught(rules: &[ExpireRule], name: &str, messages: &[Message]) -> Vec<(u32, usize)> {
        let rules = Rules::new(rules).unwrap();
        let key = MailboxName::parse(name).unwrap();
        let messages: Vec<&Message> = messages.iter().collect();
        let found = rules.judge(key.key(), "primary", &messages, NOW);
        assert!(found.is_empty() || rules.concern(key.key(), "primary"), "{name}");
        found.into_iter().map(|c| (c.uid, c.rule)).collect()
    }

    #[test]
    fn every_condition_must_fit() {
        let old_and_seen = rule("r", |r| (r.older_than, r.seen) = (days(30), Some(true)));
        let messages = [
            message(1, 31, 1, Flags::SEEN),
            message(2, 31, 1, Flags::NONE),
            message(3, 30, 1, Flags::SEEN),
            message(4, 400, 1, Flags::SEEN.with(Flags::DELETED)),
        ];
        assert_eq!(caught(&[old_and_seen], "user/ann/INBOX", &messages), [(1, 0), (4, 0)]);
        let deleted = rule("r", |r| r.deleted = Some(true));
        assert_eq!(caught(&[deleted], "user/ann/INBOX", &messages), [(4, 0)]);
        let not_deleted = rule("r", |r| (r.deleted, r.larger_than) = (Some(false), Some(0)));
        assert_eq!(caught(&[not_deleted], "user/ann/INBOX", &messages).len(), 3);
        let size = rule("r", |r| r.larger_than = Some(1));
        assert_eq!(caught(&[size], "user/ann/INBOX", &messages), []);
    }

    #[test]
    fn saved_age_is_not_the_age_of_the_message() {
        let mut moved = message(1, 400, 1, Flags::NONE);
        moved.saved_us = NOW.0 - DAY;
        let saved = rule("r", |r| r.saved_longer_than = days(7));
        assert_eq!(caught(&[saved], "user/ann/INBOX", &[moved.clone()]), []);
        let old = rule("r", |r| r.older_than = days(7));
        assert_eq!(caught(&[old], "user/ann/INBOX", &[moved]), [(1, 0)]);
        // A date in the future is no age.
        let mut ahead = message(2, 0, 1, Flags::NONE);
        ahead.internal_us = NOW.0 + DAY;
        assert_eq!(caught(&[rule("r", |r| r.older_than = days(0))], "user/ann/INBOX", &[ahead]), []);
    }

    #[test]
    fn limits_spare_the_newest() {
        let messages: Vec<Message> = (1..=10).map(|uid| message(uid, 1, 100, Flags::NONE)).collect();
        let uids =
            |rules: &[ExpireRule]| caught(rules, "user/ann/INBOX", &messages).iter().map(|c| c.0).collect::<Vec<_>>();
        assert_eq!(uids(&[rule("r", |r| r.keep_messages = Some(3))]), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(uids(&[rule("r", |r| r.keep_messages = Some(0))]).len(), 10);
        assert_eq!(uids(&[rule("r", |r| r.keep_messages = Some(11))]), [0; 0]);
        assert_eq!(uids(&[rule("r", |r| r.keep_bytes = Some(250))]), [1, 2, 3, 4, 5, 6, 7, 8]);
        let both = rule("r", |r| (r.keep_messages, r.keep_bytes) = (Some(4), Some(250)));
        assert_eq!(uids(&[both]), [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn the_first_rule_that_catches_decides() {
        let messages: Vec<Message> = (1..=4).map(|uid| message(uid, u64::from(uid) * 10, 1, Flags::NONE)).collect();
        let rules = [
            rule("spare", |r| (r.mailboxes, r.action) = ("user/boss/*".to_owned(), ExpireAction::Keep)),
            rule("old", |r| r.older_than = days(35)),
            rule("told", |r| (r.older_than, r.action) = (days(15), ExpireAction::Report)),
        ];
        assert_eq!(caught(&rules, "user/ann/Work", &messages), [(4, 1), (2, 2), (3, 2)]);
        assert_eq!(caught(&rules, "user/boss/Work", &messages), []);
    }

    #[test]
    fn only_live_messages_of_what_the_rule_covers() {
        let mut gone = message(1, 99, 1, Flags::NONE);
        gone.state = State::Expunged;
        let messages = [gone, message(2, 99, 1, Flags::NONE)];
        let trash = rule("r", |r| (r.mailboxes, r.older_than) = ("user/%/Trash".to_owned(), days(9)));
        assert_eq!(caught(std::slice::from_ref(&trash), "user/ann/Trash", &messages), [(2, 0)]);
        assert_eq!(caught(std::slice::from_ref(&trash), "user/ann/Trash/Old", &messages), []);
        let elsewhere = rule("r", |r| (r.partition, r.older_than) = (Some("fast".to_owned()), days(9)));
        assert_eq!(caught(&[elsewhere], "user/ann/Trash", &messages), []);
    }

    // The configuration refuses what can be nobody's folder when it is read, in its own words; names of mailboxes are judged by the same rules.
    #[test]
    fn the_configuration_takes_the_folders_that_a_mailbox_can_have() {
        let user = format!("user/{}", "u".repeat(250));
        let (part, deep) = (|n: usize| "p".repeat(n), |n: usize| vec!["d"; n].join("/"));
        let more = [part(255), part(256), deep(30), deep(31), [part(250), part(250), part(198)].join("/")];
        let names = ["Archive", "Archive/Old", "a b", "\u{c4}rger", "inbox", "INBOX/x", "...", ".a", "a\u{200d}b"];
        let bad = [
            "/a",
            "a/",
            "a//b",
            ".",
            "a/..",
            "./b",
            "a*",
            "a%b",
            "a\u{7f}",
            "a\u{1}",
            "a\u{85}",
            "a\u{2028}b",
            "\u{2029}",
        ];
        for folder in names.into_iter().chain(bad).map(str::to_owned).chain(more) {
            let value: toml::Value = folder.clone().into();
            let text = format!("[expire.r]\nolder_than = '9d'\naction = 'move'\nmove_to = {value}\n");
            let read = crate::config::Config::from_text(&text, Some(std::path::Path::new("storedd.toml")), None, None);
            let can_be = MailboxName::parse(&format!("{user}/{folder}")).is_ok();
            assert_eq!(read.is_ok(), can_be, "{folder:?}: {read:?}");
            if let Err(problems) = read {
                let said = problems[0].to_string();
                assert!(said.starts_with("storedd.toml:4: expire.r.move_to: found "), "{said}");
                assert!(said.contains("expected a folder"), "{said}");
            }
        }
    }

    #[test]
    fn what_cannot_be_a_folder_is_named() {
        let bad = rule("r", |r| {
            (r.older_than, r.action, r.move_to) = (days(1), ExpireAction::Move, "a\u{7f}".to_owned());
        });
        assert_eq!(Rules::new(&[bad]).unwrap_err().0, "expire.r.move_to");
    }
}
