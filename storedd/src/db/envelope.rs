//! # Purpose
//! What stands around each row inside the database, because redb compares no checksum when it reads.
//!
//! # Format
//! ```text
//! version u8 (1) | row bytes | checksum u32 LE
//! ```
//! The checksum is the seeded CRC-32 over: table number u8, key length u32 LE, key, version, row. So a row that stands under another key
//! or in another table is as wrong as one with a flipped bit. Table number 0 is the `meta` table.
//!
//! # Operation
//! [`seal`] on each write, [`open`] on each read. The version is that of the envelope; the row states its own.

use crate::checksum::Crc;
use crate::planted::{self, Bug};

/// The version written.
const VERSION: u8 = 1;

/// Bytes that the envelope adds.
pub(super) const OVERHEAD: usize = 5;

/// Why a value is not the row that was stored under the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Broken {
    /// Fewer bytes than an empty row takes.
    Short(usize),
    /// The checksum is another.
    Checksum { found: u32, expected: u32 },
    /// Whole, but of a version that is not known here.
    Version(u8),
}

impl Broken {
    /// What is there, in words.
    pub(super) fn found(&self) -> String {
        match self {
            Broken::Short(len) => format!("{len} bytes"),
            Broken::Checksum { found, .. } => format!("checksum {found:08x}"),
            Broken::Version(v) => format!("envelope version {v}"),
        }
    }

    /// What should be there, in words.
    pub(super) fn expected(&self) -> String {
        match self {
            Broken::Short(_) => format!("at least {OVERHEAD} bytes"),
            Broken::Checksum { expected, .. } => format!("checksum {expected:08x}"),
            Broken::Version(_) => format!("envelope version {VERSION}"),
        }
    }
}

/// Writes the value for `row` into `out`, replacing what is there.
pub(super) fn seal(table: u8, key: &[u8], row: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.push(VERSION);
    out.extend_from_slice(row);
    let crc = checksum(table, key, out);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// The row inside `value`, if it is what was stored under this key of this table.
pub(super) fn open<'a>(table: u8, key: &[u8], value: &'a [u8]) -> Result<&'a [u8], Broken> {
    let Some((body, crc)) = value.split_last_chunk::<4>().filter(|(body, _)| !body.is_empty()) else {
        return Err(Broken::Short(value.len()));
    };
    let (found, expected) = (u32::from_le_bytes(*crc), checksum(table, key, body));
    if found != expected && !planted::on(Bug::RowChecksumIgnored) {
        return Err(Broken::Checksum { found, expected });
    }
    match body.split_first() {
        Some((&VERSION, row)) => Ok(row),
        Some((&version, _)) => Err(Broken::Version(version)),
        None => Err(Broken::Short(value.len())),
    }
}

fn checksum(table: u8, key: &[u8], body: &[u8]) -> u32 {
    let mut head = [table, 0, 0, 0, 0];
    head[1..].copy_from_slice(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_le_bytes());
    Crc::seeded(&head).add(key).add(body).value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let mut out = Vec::new();
        seal(2, b"user\x01joe", b"row", &mut out);
        assert_eq!(out, [1, b'r', b'o', b'w', 246, 148, 147, 181]);
        assert_eq!(open(2, b"user\x01joe", &out), Ok(&b"row"[..]));
        seal(7, b"k", b"", &mut out);
        assert_eq!(out, [1, 207, 57, 246, 60]);
    }

    #[test]
    fn no_other_key_table_or_byte_passes() {
        let mut out = Vec::new();
        seal(2, b"key", b"row", &mut out);
        assert!(open(3, b"key", &out).is_err());
        assert!(open(2, b"kez", &out).is_err());
        assert!(open(2, b"ke", &out).is_err());
        for i in 0..out.len() {
            for bit in 0..8 {
                let mut damaged = out.clone();
                damaged[i] ^= 1 << bit;
                assert!(open(2, b"key", &damaged).is_err(), "byte {i} bit {bit}");
            }
            assert!(open(2, b"key", &out[..i]).is_err(), "cut to {i}");
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let body = [9, b'x'];
        let mut value = body.to_vec();
        value.extend_from_slice(&checksum(2, b"key", &body).to_le_bytes());
        assert_eq!(open(2, b"key", &value), Err(Broken::Version(9)));
    }
}
