//! Messages between the log and the partitions: what memory holds of them until a checkpoint has written it down.
//!
//! # Form
//! The key is the mailbox id in 16 hexadecimal digits, 0x02, the UID in 8: so one mailbox's messages stand together, in
//! order. Rows, native to this process and never on disk:
//! * [`MessageRow`]: LSN (8 bytes), epoch (8), where the mailbox lies (texts with 2 bytes of length), the encoded message;
//! * [`BodyRow`]: where the bytes are as long as they have no file.
//!
//! # Invariants
//! * A message whose state is newer than its file's keeps its body row: the two rows change apart.

use super::change::{BodySource, Folder, LogPlace};
use super::message::Message;
use super::name::JOINT;
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn};
use std::borrow::Cow;

/// Bytes of a mailbox id in a key.
const ID_BYTES: usize = 16;

/// The key of a message.
#[must_use]
pub fn message_key(mailbox: u64, uid: u32) -> Vec<u8> {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut key = Vec::with_capacity(ID_BYTES + 9);
    key.extend((0..16).rev().map(|n| HEX[(mailbox >> (4 * n) & 15) as usize]));
    key.push(JOINT);
    key.extend((0..8).rev().map(|n| HEX[(uid >> (4 * n) & 15) as usize]));
    key
}

/// What the keys of a mailbox's messages begin with, and what lies behind all of them.
#[must_use]
pub fn messages_of(mailbox: u64) -> (Vec<u8>, Vec<u8>) {
    let mut start = message_key(mailbox, 0);
    start.truncate(ID_BYTES + 1);
    let mut end = start.clone();
    end[ID_BYTES] = JOINT + 1;
    (start, end)
}

/// The mailbox id and the UID that a key stands for.
#[must_use]
pub fn split_key(key: &[u8]) -> Option<(u64, u32)> {
    let (id, uid) = key.split_at_checked(ID_BYTES)?;
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let uid = u32::from_str_radix(text(uid.strip_prefix(&[JOINT])?)?, 16).ok()?;
    Some((u64::from_str_radix(text(id)?, 16).ok()?, uid))
}

/// The state of a message, and what made it so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRow<'a> {
    /// LSN of the record.
    pub lsn: Lsn,
    /// Its epoch.
    pub epoch: Epoch,
    /// Where its mailbox lies.
    pub of: Folder<'a>,
    /// The encoded message.
    pub bytes: &'a [u8],
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_ne_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Reads what the functions of this page wrote.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_ne_bytes(self.bytes(8)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<Cow<'a, str>> {
        let len = u16::from_ne_bytes(self.bytes(2)?.try_into().ok()?);
        std::str::from_utf8(self.bytes(len.into())?).ok().map(Cow::Borrowed)
    }

    fn folder(&mut self) -> Option<Folder<'a>> {
        Some(Folder { mailbox: self.u64()?, partition: self.text()?, home: self.text()? })
    }
}

fn put_folder(of: &Folder<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&of.mailbox.to_ne_bytes());
    put_text(&of.partition, out);
    put_text(&of.home, out);
}

fn broken(what: &str) -> StoreError {
    StoreError::Bug(format!("a row of {what} in memory"))
}

impl<'a> MessageRow<'a> {
    /// The row of a message whose encoded form is `message`.
    #[must_use]
    pub fn encode(lsn: Lsn, epoch: Epoch, of: &Folder<'_>, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(28 + of.partition.len() + of.home.len() + message.len());
        out.extend_from_slice(&lsn.0.to_ne_bytes());
        out.extend_from_slice(&epoch.0.to_ne_bytes());
        put_folder(of, &mut out);
        out.extend_from_slice(message);
        out
    }

    /// Reads a row.
    ///
    /// # Errors
    /// [`StoreError::Bug`] if it is none.
    pub fn decode(bytes: &'a [u8]) -> Result<MessageRow<'a>> {
        let mut reader = Reader(bytes);
        let mut read = || Some((Lsn(reader.u64()?), Epoch(reader.u64()?), reader.folder()?));
        let (lsn, epoch, of) = read().ok_or_else(|| broken("messages"))?;
        Ok(MessageRow { lsn, epoch, of, bytes: reader.0 })
    }

    /// The message.
    ///
    /// # Errors
    /// [`StoreError::Bug`]: the planner encoded it, the log's checksum covered it.
    pub fn message(&self) -> Result<Message> {
        Message::decode(self.bytes).map_err(|found| broken(&format!("messages ({found})")))
    }
}

/// Where the bytes of a message are that has no file yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyRow<'a> {
    /// In the log.
    Logged(LogPlace),
    /// In a staged file of a partition.
    Staged {
        /// Name of the partition.
        partition: Cow<'a, str>,
        /// Number of the file.
        number: u64,
    },
    /// They are those of another message.
    Copy {
        /// Its mailbox.
        of: Folder<'a>,
        /// Its UID.
        uid: u32,
    },
}

impl<'a> BodyRow<'a> {
    /// What a record says of a body; `bodies`: where each of its own bodies stands. `None`: nothing new.
    ///
    /// # Errors
    /// [`StoreError::Bug`] if the record has no such body.
    pub fn of(source: &'a BodySource<'_>, bodies: &[LogPlace]) -> Result<Option<BodyRow<'a>>> {
        Ok(Some(match source {
            BodySource::Kept => return Ok(None),
            BodySource::Inline(n) => {
                let place = usize::try_from(*n).ok().and_then(|n| bodies.get(n));
                BodyRow::Logged(*place.ok_or_else(|| StoreError::Bug(format!("a record without a body {n}")))?)
            }
            BodySource::Staged { partition, number } => {
                BodyRow::Staged { partition: Cow::Borrowed(partition), number: *number }
            }
            BodySource::Copy { of, uid } => {
                let (partition, home) = (Cow::Borrowed(&*of.partition), Cow::Borrowed(&*of.home));
                BodyRow::Copy { of: Folder { partition, home, mailbox: of.mailbox }, uid: *uid }
            }
        }))
    }

    /// The row.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(40);
        match self {
            BodyRow::Logged(at) => {
                out.push(1);
                out.extend_from_slice(&at.segment.to_ne_bytes());
                out.extend_from_slice(&at.offset.to_ne_bytes());
            }
            BodyRow::Staged { partition, number } => {
                out.push(2);
                out.extend_from_slice(&number.to_ne_bytes());
                put_text(partition, &mut out);
            }
            BodyRow::Copy { of, uid } => {
                out.push(3);
                out.extend_from_slice(&u64::from(*uid).to_ne_bytes());
                put_folder(of, &mut out);
            }
        }
        out
    }

    /// Reads a row.
    ///
    /// # Errors
    /// [`StoreError::Bug`] if it is none.
    pub fn decode(bytes: &'a [u8]) -> Result<BodyRow<'a>> {
        let mut reader = Reader(bytes);
        let mut read = || {
            let kind = reader.bytes(1)?[0];
            Some(match kind {
                1 => BodyRow::Logged(LogPlace { segment: reader.u64()?, offset: reader.u64()? }),
                2 => BodyRow::Staged { number: reader.u64()?, partition: reader.text()? },
                3 => BodyRow::Copy { uid: u32::try_from(reader.u64()?).ok()?, of: reader.folder()? },
                _ => return None,
            })
        };
        read().ok_or_else(|| broken("bodies"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_order_and_come_back() {
        let keys = [(1, 1), (1, 2), (1, u32::MAX), (2, 1), (255, 7), (256, 1), (u64::MAX, 3)];
        let made: Vec<_> = keys.iter().map(|(id, uid)| message_key(*id, *uid)).collect();
        assert!(made.is_sorted());
        assert_eq!(made[4], b"00000000000000ff\x0200000007");
        for (key, (id, uid)) in made.iter().zip(keys) {
            assert_eq!(split_key(key), Some((id, uid)));
            let (start, end) = messages_of(id);
            assert!(start <= *key && *key < end);
            assert!(!made.iter().any(|other| split_key(other).unwrap().0 != id && start <= *other && *other < end));
        }
    }

    #[test]
    fn rows_come_back() {
        let of = Folder { partition: "primary".into(), home: "=user/00/11/=joe~1".into(), mailbox: 77 };
        let row = MessageRow::encode(Lsn(5), Epoch(2), &of, b"message");
        let expected = MessageRow { lsn: Lsn(5), epoch: Epoch(2), of: of.clone(), bytes: b"message" };
        assert_eq!(MessageRow::decode(&row).unwrap(), expected);
        let place = LogPlace { segment: 4, offset: 4096 };
        for body in
            [BodyRow::Logged(place), BodyRow::Staged { partition: "p".into(), number: 9 }, BodyRow::Copy { of, uid: 8 }]
        {
            let bytes = body.encode();
            assert_eq!(BodyRow::decode(&bytes).unwrap(), body);
            assert!((0..bytes.len()).all(|cut| BodyRow::decode(&bytes[..cut]).is_err()));
        }
    }
}
