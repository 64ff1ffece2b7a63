//! `STORE`: the identity of a data directory.
//!
//! # Purpose
//! Says that this directory is a store, which one, and in which layout, before any other byte of it is believed.
//!
//! # Format (64 bytes, little-endian)
//! | offset | bytes | meaning |
//! |---|---|---|
//! | 0 | 8 | magic `STOREDD\n` |
//! | 8 | 4 | layout version, now 1 |
//! | 12 | 16 | store id |
//! | 28 | 8 | created, microseconds since 1970 UTC |
//! | 36 | 24 | zero |
//! | 60 | 4 | CRC-32 over bytes 0 to 59 |
//!
//! # Operation
//! Written once, by the first start, as its *last* step: a first start that was interrupted begins again from nothing.
//!
//! # Invariants
//! A newer layout, or one whose numbers are turned round, is refused and nothing is touched. A marker that is damaged says nothing, and
//! can be made again (`identity.rs`).

use crate::checksum::Crc;
use crate::disk::{self, Disk};
use crate::error::{Result, StoreError, exit};
use crate::lsn::{Micros, StoreId};
use std::io;

/// File name in the data directory.
pub(crate) const FILE: &str = "STORE";
/// Layout version that this program writes.
pub const LAYOUT_VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"STOREDD\n";
const BYTES: usize = 64;

/// Identity of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    /// Store id.
    pub store_id: StoreId,
    /// When it was created.
    pub created: Micros,
}

fn crc(bytes: &[u8]) -> u32 {
    Crc::seeded(b"STORE").add(bytes).value()
}

/// True of a marker as a machine would leave it that writes numbers the other way round: with its sum as such a machine writes it, or
/// with the magic itself taken for a number. Neither is damage, so the marker is not made again over it.
fn is_turned_round(bytes: &[u8; BYTES]) -> bool {
    let sum = u32::from_be_bytes([bytes[60], bytes[61], bytes[62], bytes[63]]);
    bytes[..8].iter().rev().eq(MAGIC) || (&bytes[..8] == MAGIC && bytes[8] == 0 && sum == crc(&bytes[..60]))
}

impl Marker {
    fn encode(&self) -> [u8; BYTES] {
        let mut out = [0u8; BYTES];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&LAYOUT_VERSION.to_le_bytes());
        out[12..28].copy_from_slice(&self.store_id.0);
        out[28..36].copy_from_slice(&self.created.0.to_le_bytes());
        let sum = crc(&out[..60]);
        out[60..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8], shown: &str) -> Result<Marker> {
        let corrupt = |what: &str, found: String, expected: String| StoreError::Corrupt {
            file: shown.to_owned(),
            offset: 0,
            what: what.to_owned(),
            found,
            expected,
        };
        let Ok(bytes) = <&[u8; BYTES]>::try_from(bytes) else {
            return Err(corrupt("length", format!("{} bytes", bytes.len()), format!("{BYTES} bytes")));
        };
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if is_turned_round(bytes) {
            return Err(StoreError::Foreign {
                file: shown.to_owned(),
                what: "byte order",
                found: "big-endian".to_owned(),
                expected: "little-endian".to_owned(),
            });
        }
        if &bytes[..8] != MAGIC {
            return Err(corrupt("magic", format!("{:02x?}", &bytes[..8]), format!("{MAGIC:02x?}")));
        }
        if number(60) != crc(&bytes[..60]) {
            return Err(corrupt("checksum", format!("{:08x}", number(60)), format!("{:08x}", crc(&bytes[..60]))));
        }
        if number(8) != LAYOUT_VERSION {
            return Err(StoreError::Foreign {
                file: shown.to_owned(),
                what: "layout version",
                found: number(8).to_string(),
                expected: LAYOUT_VERSION.to_string(),
            });
        }
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[12..28]);
        let mut created = [0; 8];
        created.copy_from_slice(&bytes[28..36]);
        Ok(Marker { store_id: StoreId(id), created: Micros(u64::from_le_bytes(created)) })
    }

    /// Its file: name and content.
    #[must_use]
    pub fn file(&self) -> (&'static str, Vec<u8>) {
        (FILE, self.encode().to_vec())
    }

    /// Reads it; `None` if there is none.
    ///
    /// # Errors
    /// Damaged, newer, unreadable.
    pub fn read(disk: &dyn Disk) -> Result<Option<Marker>> {
        match disk::read_small(disk, FILE, 4096) {
            Ok(bytes) => Marker::decode(&bytes, &disk.display(FILE)).map(Some),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(StoreError::io("read", disk.display(FILE), e)),
        }
    }

    /// Reads that of a store that is open: whoever opened it has read it before.
    ///
    /// # Errors
    /// As [`Marker::read`]; [`StoreError::Refused`] (74) if it is gone by now.
    pub fn of_open(disk: &dyn Disk) -> Result<Marker> {
        Marker::read(disk)?.ok_or_else(|| StoreError::Refused {
            message: format!(
                "{} is gone: it was there when the store was opened, so its directory was removed or exchanged since",
                disk.display(FILE)
            ),
            hint: "bring the directory back and start again; if it is lost: storedd restore-db DIR".to_owned(),
            exit: exit::IO,
        })
    }

    /// Writes it durably.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn write(&self, disk: &dyn Disk) -> Result<()> {
        disk::replace(disk, FILE, &self.encode()).map_err(|e| StoreError::io("write", disk.display(FILE), e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let marker = Marker { store_id: StoreId([7; 16]), created: Micros(0x0102_0304) };
        let bytes = marker.encode();
        assert_eq!(&bytes[..12], b"STOREDD\n\x01\0\0\0");
        assert_eq!(bytes[12..28], [7; 16]);
        assert_eq!(bytes[28..36], [4, 3, 2, 1, 0, 0, 0, 0]);
        assert_eq!(Marker::decode(&bytes, "STORE").unwrap(), marker);
        for i in 0..BYTES {
            let mut damaged = bytes;
            damaged[i] ^= 0x10;
            assert!(Marker::decode(&damaged, "STORE").is_err(), "byte {i}");
        }
    }

    #[test]
    fn a_newer_layout_is_refused_by_name() {
        let mut bytes = Marker { store_id: StoreId([7; 16]), created: Micros(1) }.encode();
        bytes[8] = 2;
        let sum = crc(&bytes[..60]);
        bytes[60..].copy_from_slice(&sum.to_le_bytes());
        let e = Marker::decode(&bytes, "STORE").unwrap_err();
        assert!(matches!(e, StoreError::Foreign { what: "layout version", .. }), "{e}");
    }

    // A directory that is removed under a start was told of as a bug of the program.
    #[test]
    fn a_store_that_goes_while_it_is_opened_is_no_bug() {
        let machine = crate::disk::SimDisk::new();
        let disk = machine.disk("data");
        let marker = Marker { store_id: StoreId([7; 16]), created: Micros(1) };
        marker.write(&disk).unwrap();
        assert_eq!(Marker::of_open(&disk).unwrap(), marker);
        disk.remove(FILE).unwrap();
        let gone = Marker::of_open(&disk).unwrap_err();
        assert_eq!(gone.exit(), exit::IO);
        assert!(gone.to_string().contains("STORE is gone") && gone.hint().is_some(), "{gone}");
    }

    // row 159
    #[test]
    fn numbers_of_another_byte_order_are_no_damage() {
        let good = Marker { store_id: StoreId([7; 16]), created: Micros(0x0102_0304) }.encode();
        let mut turned = good;
        turned[8..12].reverse();
        turned[28..36].reverse();
        let sum = crc(&turned[..60]);
        turned[60..].copy_from_slice(&sum.to_be_bytes());
        let mut magic = good;
        magic[..8].reverse();
        for bytes in [turned, magic] {
            let e = Marker::decode(&bytes, "STORE").unwrap_err();
            assert!(matches!(e, StoreError::Foreign { what: "byte order", .. }), "{e}");
        }
    }
}
