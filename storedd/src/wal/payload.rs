//! Payloads of records. The only file of the log that names `bincode`.
//!
//! # Purpose
//! Turns changes into the payload of a transaction record, and back without copying keys or rows.
//!
//! # Format
//! bincode 2 standard encoding (little-endian, variable-length integers) of
//! * transaction: the number of changes, then each change:
//!   variant (0 put, 1 remove), table number `u8`, key bytes, for a put the row bytes;
//!   Variant 2 is a message: partition, home and mailbox id, the encoded message, and where its bytes come from (0 as before, 1 the
//!   n-th body of this record, 2 a staged file: partition, number, 3 another message: partition, home, mailbox id, UID);
//! * transaction with bodies, little-endian: length of what stands before the bodies, without these 4 bytes (`u32`), number of bodies
//!   (`u16`), for each its length and CRC-32 (`u32` each), the changes as above, the bodies;
//! * fork: parent epoch, LSN reached, first LSN, number of the segment before.
//!
//! The variable-length form costs about 5 bytes a change where bincode's legacy form costs 24. The types here mirror the
//! model's on purpose: what stands on disk is the table's own number, not its place in the Rust enum.
//!
//! # Invariants
//! * The record's checksum covers everything before the bodies, so their checksums too; each body is judged by its own.
//! * Decoding is bounded by the payload: nothing is allocated by a length that was read, and every byte must be used.
//! * An unknown variant or table is an error, never skipped; so is a table whose rows follow from others and are not logged.

use super::record::NUMBER_MAX;
use crate::checksum::Crc;
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn};
use crate::model::message::{BYTES_MAX, FIXED_BYTES};
use crate::model::table::KEY_BYTES_MAX;
use crate::model::{BodySource, Change, Folder, Table};
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;

/// No payload is longer, so nothing in it can be.
const LIMIT: usize = super::record::PAYLOAD_BYTES_MAX;

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<LIMIT>()
}

/// A change as it stands on disk.
#[derive(Serialize, Deserialize)]
enum DiskChange<'a> {
    Put {
        table: u8,
        #[serde(borrow, serialize_with = "as_bytes")]
        key: &'a [u8],
        #[serde(borrow, serialize_with = "as_bytes")]
        row: &'a [u8],
    },
    Remove {
        table: u8,
        #[serde(borrow, serialize_with = "as_bytes")]
        key: &'a [u8],
    },
    Message {
        #[serde(borrow)]
        of: Folder<'a>,
        #[serde(borrow, serialize_with = "as_bytes")]
        message: &'a [u8],
        #[serde(borrow)]
        body: BodySource<'a>,
    },
}

/// One run of bytes instead of a sequence of numbers: the same on disk, and one copy.
fn as_bytes<S: Serializer>(bytes: &&[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// Why a payload is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: found {found}, expected {expected}")]
pub struct PayloadProblem {
    /// Which part.
    pub what: &'static str,
    /// What was there.
    pub found: String,
    /// What should have been there.
    pub expected: String,
}

fn problem(what: &'static str, found: impl ToString, expected: impl ToString) -> PayloadProblem {
    PayloadProblem { what, found: found.to_string(), expected: expected.to_string() }
}

/// Appends the payload of a transaction to `out`; its length is checked when it is pushed, not here.
///
/// # Errors
/// [`StoreError::Bug`] if a change cannot be encoded; `out` then holds a part of it.
pub fn put_transaction(changes: &[Change<'_>], out: &mut Vec<u8>) -> Result<()> {
    // What follows from the rest is derived again when the record is replayed.
    let is_logged = |change: &&Change<'_>| match change {
        Change::Put { table, .. } | Change::Remove { table, .. } => table.is_logged(),
        Change::Message { .. } => true,
    };
    let logged = || changes.iter().filter(is_logged);
    put(&(logged().count() as u64), out)?;
    logged().try_for_each(|change| match change {
        Change::Message { of, message, body } => {
            put(&DiskChange::Message { of: of.clone(), message, body: body.clone() }, out)
        }
        Change::Put { table, key, row } => put(&DiskChange::Put { table: *table as u8, key, row }, out),
        Change::Remove { table, key } => put(&DiskChange::Remove { table: *table as u8, key }, out),
    })
}

/// The checksum of a body, by which the log judges it.
#[must_use]
pub fn body_crc(bytes: &[u8]) -> u32 {
    Crc::seeded(b"message body").add(bytes).value()
}

/// Appends the payload of a transaction with bodies: of each its bytes, and what [`body_crc`] says of them, which is computed where no
/// lock is held.
///
/// # Errors
/// As [`put_transaction`]; [`StoreError::Bug`] for more bodies than a record holds.
pub fn put_bodied(changes: &[Change<'_>], bodies: &[(&[u8], u32)], out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    let Ok(count) = u16::try_from(bodies.len()) else {
        return Err(StoreError::Bug(format!("{} bodies in one record", bodies.len())));
    };
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&count.to_le_bytes());
    for (bytes, crc) in bodies {
        out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&crc.to_le_bytes());
    }
    put_transaction(changes, out)?;
    let before = u32::try_from(out.len() - start - LENGTH_BYTES).unwrap_or(u32::MAX);
    out[start..start + LENGTH_BYTES].copy_from_slice(&before.to_le_bytes());
    bodies.iter().for_each(|(bytes, _)| out.extend_from_slice(bytes));
    Ok(())
}

/// Bytes of the length in front of what stands before the bodies.
const LENGTH_BYTES: usize = 4;
/// Bytes of the number of bodies, and of what is said of each.
const COUNT_BYTES: usize = 2;
const ENTRY_BYTES: usize = 8;

/// What the checksum of a record with bodies covers; all of it if that makes no sense, so that nothing is left out.
pub(super) fn before_bodies(payload: &[u8]) -> &[u8] {
    let len = payload.first_chunk::<LENGTH_BYTES>().and_then(|len| usize::try_from(u32::from_le_bytes(*len)).ok());
    len.and_then(|len| payload.get(..LENGTH_BYTES.checked_add(len)?)).unwrap_or(payload)
}

/// A body within a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyAt {
    /// Offset in the payload.
    pub at: usize,
    /// Bytes.
    pub len: usize,
    /// What [`body_crc`] should say of them.
    pub crc: u32,
}

/// A payload with bodies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bodied<'a> {
    /// The changes, for [`changes`].
    pub changes: &'a [u8],
    /// In order.
    pub bodies: Vec<BodyAt>,
}

/// Takes a payload with bodies apart; does not look into the bodies.
///
/// # Errors
/// If it is none.
pub fn bodied(payload: &[u8]) -> Result<Bodied<'_>, PayloadProblem> {
    let before = before_bodies(payload);
    let short = || problem("transaction with bodies", format_args!("{} bytes", payload.len()), "more");
    let (count, mut rest) =
        before.get(LENGTH_BYTES..).and_then(|b| b.split_first_chunk::<COUNT_BYTES>()).ok_or_else(short)?;
    let (mut bodies, mut at) = (Vec::new(), before.len());
    for _ in 0..u16::from_le_bytes(*count) {
        let (entry, more) = rest.split_first_chunk::<ENTRY_BYTES>().ok_or_else(short)?;
        let [a, b, c, d, crc @ ..] = *entry;
        let len = usize::try_from(u32::from_le_bytes([a, b, c, d])).map_err(|_| short())?;
        bodies.push(BodyAt { at, len, crc: u32::from_le_bytes(crc) });
        at = at.checked_add(len).filter(|end| *end <= payload.len()).ok_or_else(short)?;
        rest = more;
    }
    match payload.len() - at {
        0 => Ok(Bodied { changes: rest, bodies }),
        more => Err(problem("transaction with bodies", format_args!("{more} bytes behind the last"), "none")),
    }
}

/// Compares every body with its checksum.
///
/// # Errors
/// The first that is not what was written.
pub(super) fn check_bodies(payload: &[u8]) -> Result<(), PayloadProblem> {
    bodied(payload)?.bodies.iter().try_for_each(|body| {
        let found = body_crc(&payload[body.at..body.at + body.len]);
        let words = |crc: u32| format!("{crc:08x}");
        if found == body.crc { Ok(()) } else { Err(problem("message body checksum", words(found), words(body.crc))) }
    })
}

fn put<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<()> {
    match bincode::serde::encode_into_std_write(value, out, bincode::config::standard()) {
        Ok(_) => Ok(()),
        Err(e) => Err(StoreError::Bug(format!("log payload not encodable: {e}"))),
    }
}

/// Reads one value from the front of `rest`.
fn take<'a, T: Deserialize<'a>>(rest: &mut &'a [u8], what: &'static str) -> Result<T, PayloadProblem> {
    match bincode::serde::borrow_decode_from_slice(rest, config()) {
        Ok((value, used)) => {
            *rest = rest.get(used..).unwrap_or_default();
            Ok(value)
        }
        Err(e) => Err(problem(what, e, "bincode of a known shape")),
    }
}

/// The changes of a transaction, borrowed from its payload; allocates nothing. Ends after the first problem.
#[derive(Debug, Clone)]
pub struct Changes<'a> {
    rest: &'a [u8],
    left: u64,
}

/// Reads the payload of a transaction record.
///
/// # Errors
/// If it does not begin with a number of changes that it can hold.
pub fn changes(payload: &[u8]) -> Result<Changes<'_>, PayloadProblem> {
    let mut rest = payload;
    let left: u64 = take(&mut rest, "number of changes")?;
    if left > rest.len() as u64 {
        return Err(problem("number of changes", left, format_args!("at most {}", rest.len())));
    }
    let changes = Changes { rest, left };
    match left {
        0 if !rest.is_empty() => Err(changes.trailing()),
        _ => Ok(changes),
    }
}

impl<'a> Changes<'a> {
    /// No changes.
    pub(super) fn none() -> Changes<'static> {
        Changes { rest: &[], left: 0 }
    }

    /// Number of changes still to come.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.left
    }

    fn trailing(&self) -> PayloadProblem {
        problem("transaction", format_args!("{} bytes behind it", self.rest.len()), "none")
    }

    fn read(&mut self) -> Result<Change<'a>, PayloadProblem> {
        let change = take(&mut self.rest, "change")?;
        if self.left == 1 && !self.rest.is_empty() {
            return Err(self.trailing());
        }
        Ok(match change {
            DiskChange::Put { table, key, row } => {
                Change::Put { table: known(table)?, key: sound(key)?, row: Cow::Borrowed(row) }
            }
            DiskChange::Remove { table, key } => Change::Remove { table: known(table)?, key: sound(key)? },
            DiskChange::Message { of, message, body } => {
                if !(FIXED_BYTES..=BYTES_MAX).contains(&message.len()) {
                    let expected = format_args!("{FIXED_BYTES} to {BYTES_MAX}");
                    return Err(problem("message length", message.len(), expected));
                }
                Change::Message { of, message: Cow::Borrowed(message), body }
            }
        })
    }
}

impl<'a> Iterator for Changes<'a> {
    type Item = Result<Change<'a>, PayloadProblem>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let change = self.read();
        self.left = if change.is_ok() { self.left - 1 } else { 0 };
        Some(change)
    }
}

fn known(table: u8) -> Result<Table, PayloadProblem> {
    Table::from_number(table)
        .filter(|table| table.is_logged())
        .ok_or_else(|| problem("table number", table, "a table that this program knows"))
}

fn sound(key: &[u8]) -> Result<Cow<'_, [u8]>, PayloadProblem> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(problem("key length", key.len(), format_args!("1 to {KEY_BYTES_MAX}")));
    }
    Ok(Cow::Borrowed(key))
}

/// Payload of a fork record: where the history of a new epoch leaves the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// Epoch of the history that is left.
    pub parent: Epoch,
    /// Last LSN of it that still counts.
    pub reached: Lsn,
    /// LSN of the fork record, above every LSN that the old history may have used.
    pub first: Lsn,
    /// Number of the segment that holds the LSN reached; 0 if there is none.
    pub previous: u64,
}

impl Fork {
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        put(self, &mut out)?;
        Ok(out)
    }

    pub(super) fn decode(mut payload: &[u8]) -> Result<Fork, PayloadProblem> {
        let fork: Fork = take(&mut payload, "fork")?;
        if !payload.is_empty() {
            return Err(problem("fork", format_args!("{} bytes behind it", payload.len()), "none"));
        }
        if fork.reached >= fork.first || fork.first.0 >= NUMBER_MAX {
            return Err(problem("first LSN of a fork", fork.first, format_args!("more than {}", fork.reached)));
        }
        Ok(fork)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Change<'static>> {
        vec![
            Change::Put { table: Table::Mailboxes, key: b"user\x01joe".as_slice().into(), row: vec![9; 300].into() },
            Change::Remove { table: Table::Partitions, key: b"old".as_slice().into() },
        ]
    }

    fn encoded(changes: &[Change<'_>]) -> Vec<u8> {
        let mut out = Vec::new();
        put_transaction(changes, &mut out).unwrap();
        out
    }

    fn decoded(payload: &[u8]) -> Result<Vec<Change<'_>>, PayloadProblem> {
        changes(payload)?.collect()
    }

    #[test]
    fn golden_bytes() {
        let changes = [
            Change::Put { table: Table::Users, key: b"joe".as_slice().into(), row: b"row".as_slice().into() },
            Change::Remove { table: Table::Partitions, key: b"old".as_slice().into() },
        ];
        assert_eq!(encoded(&changes), b"\x02\x00\x01\x03joe\x03row\x01\x07\x03old");
        let fork = Fork { parent: Epoch(1), reached: Lsn(100), first: Lsn(1_000_000), previous: 5 };
        assert_eq!(fork.encode().unwrap(), b"\x01\x64\xfc\x40\x42\x0f\x00\x05");
        assert_eq!(Fork::decode(&fork.encode().unwrap()), Ok(fork));
    }

    #[test]
    fn rows_that_follow_from_others_are_not_logged() {
        let id = Change::Put { table: Table::Ids, key: b"1".as_slice().into(), row: b"row".as_slice().into() };
        assert_eq!(encoded(&[sample(), vec![id.clone()]].concat()), encoded(&sample()));
        assert_eq!(encoded(&[id]), [0]);
    }

    #[test]
    fn changes_come_back_borrowed() {
        let payload = encoded(&sample());
        let back = decoded(&payload).unwrap();
        assert_eq!(back, sample());
        let Change::Put { key: Cow::Borrowed(_), row: Cow::Borrowed(_), .. } = &back[0] else {
            panic!("copied");
        };
    }

    #[test]
    fn anything_else_is_an_error() {
        let good = encoded(&sample());
        for cut in 0..good.len() {
            assert!(decoded(&good[..cut]).is_err(), "cut at {cut}");
        }
        let mut longer = good.clone();
        longer.push(0);
        assert!(decoded(&longer).is_err());
        assert!(decoded(&[0, 0]).is_err());
        assert_eq!(decoded(&[0]), Ok(vec![]));
        assert_eq!(decoded(b"\x01\x00\x63\x01k\x00").unwrap_err().what, "table number");
        assert_eq!(decoded(b"\x01\x00\x08\x01k\x00").unwrap_err().what, "table number", "one that is not logged");
        assert_eq!(decoded(b"\x01\x00\x01\x00\x00").unwrap_err().what, "key length");
        assert!(decoded(b"\x01\x03\x01\x01k").is_err(), "unknown variant");
        assert!(decoded(&[0xfd, 255, 255, 255, 255, 255, 255, 255, 255]).is_err(), "bogus count");
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                let _ = decoded(&bad); // must only not panic: the record's checksum is what notices
            }
        }
        assert!(Fork::decode(b"\x01\x64\x64\x05").is_err());
    }
}
