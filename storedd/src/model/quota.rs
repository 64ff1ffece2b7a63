//! Quota roots (RFC 9208): where usage is counted and limited.
//!
//! # Rules
//! A root is a user or a mailbox. It covers the mailboxes of that user, or the mailbox and all below it. A mailbox counts
//! in one root, the nearest: its own, else that of the nearest mailbox above it that has one, else its owner's. A shared
//! mailbox may have none. Every user is a root, with or without limits; a mailbox is one as long as a limit is set, and
//! what it covers counts nowhere else meanwhile.
//!
//! # Format
//! The key of a mailbox's root is the mailbox's key; that of a user's root is `user`, 0x01, user id, which is no mailbox's.
//! So what lies above a mailbox is what its key begins with, up to a separator.

use super::name::{MailboxName, NameError, SEPARATOR, key_text, owner_of, subtree_end};
use super::rows::{MailboxView, quota_key};
use super::table::{Rows, Table};
use super::user::{UserId, UserIdError};
use crate::error::Result;
use std::fmt;
use std::ops::{Bound, ControlFlow};

/// The top of all users' names: a prefix of their keys, and no root.
const USERS: &[u8] = b"user";
/// The top of shared names, which is a mailbox.
const SHARED: &str = "shared";

/// Why text names no quota root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// It stands for a user.
    #[error(transparent)]
    User(#[from] UserIdError),
    /// It stands for a mailbox.
    #[error(transparent)]
    Mailbox(#[from] NameError),
}

/// A user or mailbox that is, or could be, a quota root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuotaRoot {
    /// All mailboxes of a user.
    User(UserId),
    /// A mailbox and all below it.
    Mailbox(MailboxName),
}

impl QuotaRoot {
    /// Reads `joe`, `user/joe` (the user) or the full name of a mailbox. `shared` alone is the mailbox; a user of that id
    /// is `user/shared`.
    ///
    /// # Errors
    /// If it is no user id, or no mailbox name.
    pub fn parse(text: &str) -> Result<QuotaRoot, RootError> {
        let bare = text.strip_prefix("user/").unwrap_or(text);
        let is_user = !bare.contains('/') && text != SHARED;
        Ok(if is_user { QuotaRoot::User(UserId::parse(bare)?) } else { QuotaRoot::Mailbox(MailboxName::parse(text)?) })
    }

    /// The root whose key this is; `None` if the bytes are no such key.
    #[must_use]
    pub fn from_key(key: &[u8]) -> Option<QuotaRoot> {
        if let Some(name) = MailboxName::from_key(key) {
            return Some(QuotaRoot::Mailbox(name));
        }
        let user = std::str::from_utf8(key.strip_prefix(USERS)?.strip_prefix(&[SEPARATOR])?).ok()?;
        UserId::parse(user).ok().map(QuotaRoot::User)
    }

    /// The key in the table of quotas.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        match self {
            QuotaRoot::User(user) => quota_key(user.as_str()),
            QuotaRoot::Mailbox(name) => name.key().to_vec(),
        }
    }
}

impl fmt::Display for QuotaRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&key_text(&self.key()))
    }
}

/// What a limit is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LimitChange {
    /// What it is.
    #[default]
    Keep,
    /// No limit.
    Remove,
    /// So much; may be less than what is used.
    To(u64),
}

impl LimitChange {
    /// The limit afterwards.
    #[must_use]
    pub fn of(self, limit: Option<u64>) -> Option<u64> {
        match self {
            LimitChange::Keep => limit,
            LimitChange::Remove => None,
            LimitChange::To(limit) => Some(limit),
        }
    }
}

/// What counts in a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes of messages.
    pub bytes: u64,
    /// Messages.
    pub messages: u64,
}

impl Usage {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Usage) -> Usage {
        let bytes = self.bytes.saturating_add(other.bytes);
        Usage { bytes, messages: self.messages.saturating_add(other.messages) }
    }

    /// This without the other.
    #[must_use]
    pub fn minus(self, other: Usage) -> Usage {
        let bytes = self.bytes.saturating_sub(other.bytes);
        Usage { bytes, messages: self.messages.saturating_sub(other.messages) }
    }

    /// True if it is nothing.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Usage::default()
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, {} messages", self.bytes, self.messages)
    }
}

/// True if `usage` is at least `percent` hundredths of the limit. Nothing is at or over a limit that is not there; a limit
/// of 0 is always reached.
#[must_use]
pub fn is_at(usage: u64, limit: Option<u64>, percent: u32) -> bool {
    limit.is_some_and(|limit| u128::from(usage) * 100 >= u128::from(limit) * u128::from(percent))
}

/// The keys of the roots in which a mailbox may count, nearest first: its own key, those above it, its owner's.
pub fn roots_above(mailbox: &[u8]) -> impl Iterator<Item = &[u8]> {
    let shorter = |key: &&[u8]| key.iter().rposition(|b| *b == SEPARATOR).map(|end| &mailbox[..end]);
    std::iter::successors(Some(mailbox), shorter).take_while(|key| *key != USERS)
}

/// True if what lies under `mailbox` may count in `root`.
pub(crate) fn covers(root: &[u8], mailbox: &[u8]) -> bool {
    mailbox.strip_prefix(root).is_some_and(|rest| rest.first().is_none_or(|b| *b == SEPARATOR))
}

/// A root and what the mailboxes add up to that count in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Its key.
    pub root: Vec<u8>,
    /// The sum.
    pub usage: Usage,
}

/// Adds mailboxes up to what their roots hold (I9), in one pass: it remembers the roots above the last mailbox and nothing
/// else.
#[derive(Debug, Default)]
pub struct Tally {
    open: Vec<Counted>,
}

/// Takes a root that no further mailbox counts in.
pub type EachRoot<'a> = &'a mut (dyn FnMut(Counted) + 'a);

impl Tally {
    /// For the mailboxes that a root covers, whether or not a mailbox of its own name is among them.
    #[must_use]
    pub fn within(root: &[u8]) -> Tally {
        Tally { open: vec![Counted { root: root.to_vec(), usage: Usage::default() }] }
    }

    /// Counts the next mailbox in order of keys. A root is looked for in `rows` where it can begin: at the first mailbox
    /// of a user, and at each mailbox.
    ///
    /// # Errors
    /// Those of `rows`.
    pub fn add(&mut self, rows: &dyn Rows, mailbox: &[u8], usage: Usage, each: EachRoot<'_>) -> Result<()> {
        while let Some(done) = self.open.pop_if(|root| !covers(&root.root, mailbox)) {
            each(done);
        }
        let owner = owner_of(mailbox).filter(|_| self.open.is_empty()).map(quota_key);
        for root in owner.iter().map(Vec::as_slice).chain([mailbox]) {
            let open = self.open.last().is_some_and(|nearest| nearest.root == root);
            if !open && rows.contains(Table::Quotas, root)? {
                self.open.push(Counted { root: root.to_vec(), usage: Usage::default() });
            }
        }
        if let Some(nearest) = self.open.last_mut() {
            nearest.usage = nearest.usage.plus(usage);
        }
        Ok(())
    }

    /// There are no more mailboxes.
    pub fn finish(self, each: EachRoot<'_>) {
        self.open.into_iter().rev().for_each(each);
    }
}

/// What the mailboxes add up to that count in a root; a mailbox that is to be one may be still to come. `None` if it covers
/// more than `most`.
///
/// # Errors
/// Those of `rows`.
pub(crate) fn usage_of(rows: &dyn Rows, root: &[u8], most: usize) -> Result<Option<Usage>> {
    let (mut tally, mut sum, mut seen, mut ended) = (Tally::within(root), Usage::default(), 0, Ok(()));
    let mut each = |counted: Counted| {
        if counted.root == root {
            sum = counted.usage;
        }
    };
    rows.scan_until(Table::Mailboxes, Bound::Included(root), &subtree_end(root), &mut |key, row| {
        seen += 1;
        if seen > most {
            return ControlFlow::Break(());
        }
        ended = MailboxView::decode(key, row).and_then(|row| tally.add(rows, key, row.usage(), &mut each));
        if ended.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    ended?;
    tally.finish(&mut each);
    Ok((seen <= most).then_some(sum))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::table::MapRows;

    fn root(text: &str) -> QuotaRoot {
        QuotaRoot::parse(text).unwrap()
    }

    #[test]
    fn roots_are_users_and_mailboxes() {
        for (text, shown) in [
            ("joe", "user/joe"),
            ("user/joe@example.org", "user/joe@example.org"),
            ("user/joe/inbox", "user/joe/INBOX"),
            ("shared", "shared"),
            ("user/shared", "user/shared"),
            ("shared/news", "shared/news"),
        ] {
            assert_eq!(root(text).to_string(), shown);
            assert_eq!(QuotaRoot::from_key(&root(text).key()), Some(root(text)), "{text}");
        }
        assert!(matches!(root("user/shared"), QuotaRoot::User(_)));
        for bad in ["", "user/", "user", "user/a b", "joe/", "other/x", "user/joe/", "shared/", "*", "-joe", "a\u{0}"] {
            let is_user_called_user = bad == "user";
            assert_eq!(QuotaRoot::parse(bad).is_err(), !is_user_called_user, "{bad:?}");
        }
        for key in [&b"user"[..], b"user\x01", b"user\x01-x", b"other", b"user\x01a/b", b"\xff"] {
            assert_eq!(QuotaRoot::from_key(key), None, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn the_nearest_root_comes_first() {
        let above = |key| roots_above(key).map(key_text).collect::<Vec<_>>();
        assert_eq!(above(b"user\x01joe\x01A\x01B"), ["user/joe/A/B", "user/joe/A", "user/joe"]);
        assert_eq!(above(b"shared\x01a"), ["shared/a", "shared"]);
        assert_eq!(above(b"shared"), ["shared"]);
    }

    #[test]
    fn percentages_do_not_overflow() {
        assert!(is_at(u64::MAX, Some(u64::MAX), 100) && !is_at(u64::MAX - 1, Some(u64::MAX), 100));
        assert!(is_at(9, Some(10), 90) && !is_at(8, Some(10), 90) && !is_at(u64::MAX, None, 0));
        assert!(is_at(0, Some(0), u32::MAX) && is_at(0, Some(5), 0) && !is_at(1, Some(u64::MAX), u32::MAX));
    }

    // row 114, I9
    #[test]
    fn each_mailbox_counts_once_in_the_nearest_root() {
        let mut rows = MapRows::default();
        for key in ["ann", "joe", "joe/A", "joe/A/B"] {
            rows.0.insert((Table::Quotas, format!("user/{key}").replace('/', "\u{1}").into_bytes()), Vec::new());
        }
        rows.0.insert((Table::Quotas, b"shared\x01n".to_vec()), Vec::new());
        let (mut tally, mut found) = (Tally::default(), Vec::new());
        let mailboxes = [
            ("shared/a", 1),
            ("shared/n", 2),
            ("shared/n/x", 4),
            ("shared/nn", 8),
            ("user/ann/INBOX", 16),
            ("user/joe/A", 32),
            ("user/joe/A/B", 64),
            ("user/joe/A/B/C", 128),
            ("user/joe/A/D", 256),
            ("user/joe/AA", 512),
            ("user/zoe/X", u64::MAX),
        ];
        let mut each = |counted: Counted| found.push((key_text(&counted.root), counted.usage.bytes));
        for (name, bytes) in mailboxes {
            let usage = Usage { bytes, messages: 1 };
            tally.add(&rows, name.replace('/', "\u{1}").as_bytes(), usage, &mut each).unwrap();
        }
        tally.finish(&mut each);
        let expected =
            [("shared/n", 6), ("user/ann", 16), ("user/joe/A/B", 192), ("user/joe/A", 288), ("user/joe", 512)];
        assert_eq!(found, expected.map(|(root, bytes)| (root.to_owned(), bytes)));
        let all = Usage { bytes: u64::MAX, messages: 2 };
        assert_eq!(all.plus(all), Usage { bytes: u64::MAX, messages: 4 });
        assert_eq!(Usage::default().minus(all), Usage::default());
    }
}
