//! Keys of the mboxlist database that are more than a name: how they are made, taken apart, and read by people.
//!
//! # Format
//! The table in [`super::rows`] says which key stands in which table. Parts are joined by 0x02, which no name holds; a
//! number is 16 hexadecimal digits, so that keys are in the order of numbers.

use super::name::{JOINT, key_text, owner_of};
use super::table::Table;

/// The key of a tombstone.
#[must_use]
pub fn tombstone_key(mailbox: &[u8], id: u64) -> Vec<u8> {
    joined(mailbox, &id_key(id))
}

/// The key of a mailbox in the table of ids.
#[must_use]
pub fn id_key(id: u64) -> Vec<u8> {
    format!("{id:016x}").into_bytes()
}

/// The mailbox id that a key of the table of ids, or the second part of a tombstone's, stands for.
#[must_use]
pub fn id_of(key: &[u8]) -> Option<u64> {
    let id = u64::from_str_radix(std::str::from_utf8(key).ok()?, 16).ok()?;
    (id_key(id) == key).then_some(id)
}

/// The key of a subscription, or of what was seen (`who` a user id), or of a row of rights (`who` an identifier).
#[must_use]
pub fn joined(who: &[u8], mailbox: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(who.len() + 1 + mailbox.len());
    key.extend_from_slice(who);
    key.push(JOINT);
    key.extend_from_slice(mailbox);
    key
}

/// The two parts of a key made by [`joined`] or [`tombstone_key`].
#[must_use]
pub fn split(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = key.iter().position(|b| *b == JOINT)?;
    Some((&key[..at], &key[at + 1..]))
}

/// The key of a user's quota root. Its readable form is `user/<uid>`.
#[must_use]
pub fn quota_key(user: &str) -> Vec<u8> {
    format!("user\u{1}{user}").into_bytes()
}

/// A key in readable form: names with `/`; the parts of a joined key with `: ` between them; a tombstone as
/// `name: deleted mailbox ID`.
#[must_use]
pub fn readable_key(table: Table, key: &[u8]) -> String {
    match (table, split(key)) {
        (Table::Past, Some((name, id))) => {
            let digits = || String::from_utf8_lossy(id).into_owned();
            format!("{}: deleted mailbox {}", key_text(name), id_of(id).map_or_else(digits, |id| id.to_string()))
        }
        (Table::Seen, Some((who, id))) => {
            let digits = || String::from_utf8_lossy(id).into_owned();
            format!("{}: mailbox {}", key_text(who), id_of(id).map_or_else(digits, |id| id.to_string()))
        }
        (Table::Ids, _) => id_of(key).map_or_else(|| key_text(key), |id| format!("mailbox {id}")),
        (_, Some((who, name))) => format!("{}: {}", key_text(who), key_text(name)),
        (_, None) => key_text(key),
    }
}

/// The mailbox key and the user id that a row speaks of, for `log dump --mailbox` and `--user`.
#[must_use]
pub fn subjects(table: Table, key: &[u8]) -> (Option<&[u8]>, Option<&str>) {
    let text = |bytes| std::str::from_utf8(bytes).ok();
    match (table, split(key)) {
        (Table::Users, _) => (None, text(key)),
        (Table::Quotas, _) => match owner_of(key) {
            None if key.starts_with(b"user\x01") => (None, key.strip_prefix(b"user\x01").and_then(text)),
            owner => (Some(key), owner),
        },
        (Table::Partitions | Table::Ids | Table::Messages | Table::Bodies, _) => (None, None),
        (Table::Past, Some((name, _))) => (Some(name), owner_of(name)),
        (Table::Mailboxes | Table::Past, _) => (Some(key), owner_of(key)),
        (Table::Subscriptions | Table::Rights, Some((who, name))) => (Some(name), text(who)),
        (Table::Seen, Some((who, _))) => (None, text(who)),
        (Table::Subscriptions | Table::Rights | Table::Seen, None) => (None, None),
    }
}
