//! The file `PARTITION` in the root of a partition: whose directory this is.
//!
//! # Format
//! 128 bytes, little-endian, version 1:
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 8 | magic `SDpartID` |
//! | 8 | 4 | version |
//! | 12 | 16 | store id |
//! | 28 | 16 | partition id |
//! | 44 | 8 | created, microseconds since 1970 UTC |
//! | 52 | 1 | length of the name, 1 to 64 |
//! | 53 | 64 | name, the rest zero |
//! | 117 | 7 | zero |
//! | 124 | 4 | CRC-32 of the bytes before, seeded with the magic |
//!
//! # Operation
//! Written once, by [`super::Partitions::prepare`], through a candidate and a rename; never changed.

use crate::checksum::Crc;
use crate::disk::{self, Disk};
use crate::error::{Result, StoreError};
use crate::lsn::{Micros, StoreId};
use std::fmt;
use std::io;

/// Name of the file.
pub const FILE: &str = "PARTITION";
/// Version that this program writes, and the only one it reads.
pub const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"SDpartID";
const BYTES: usize = 128;
const NAME_AT: usize = 53;
const NAME_BYTES: usize = crate::config::PARTITION_NAME_MAX;
const CRC_AT: usize = BYTES - 4;
const _: () = assert!(NAME_AT + NAME_BYTES < CRC_AT);

/// Identity of a partition: 16 random bytes, shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionId(pub [u8; 16]);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The store it belongs to.
    pub store_id: StoreId,
    /// The partition it is.
    pub id: PartitionId,
    /// When it was made.
    pub created: Micros,
    /// The name it was made under.
    pub name: String,
}

impl Identity {
    /// The bytes of the file. A longer name than 64 bytes is cut; the configuration allows none.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; BYTES];
        let name = &self.name.as_bytes()[..self.name.len().min(NAME_BYTES)];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..28].copy_from_slice(&self.store_id.0);
        bytes[28..44].copy_from_slice(&self.id.0);
        bytes[44..52].copy_from_slice(&self.created.0.to_le_bytes());
        bytes[52] = u8::try_from(name.len()).unwrap_or(0);
        bytes[NAME_AT..NAME_AT + name.len()].copy_from_slice(name);
        let crc = Crc::seeded(&MAGIC).add(&bytes[..CRC_AT]).value();
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the bytes of the file; `file` names it in errors.
    ///
    /// # Errors
    /// [`StoreError::Foreign`] for another version, [`StoreError::Corrupt`] for anything else that is not as written.
    pub fn decode(bytes: &[u8], file: &str) -> Result<Identity> {
        let corrupt = |offset: u64, what: &str, found: String, expected: String| StoreError::Corrupt {
            file: file.to_owned(),
            offset,
            what: what.to_owned(),
            found,
            expected,
        };
        if bytes.len() < 12 || bytes[..8] != MAGIC {
            let found = format!("{:02x?}", &bytes[..bytes.len().min(8)]);
            return Err(corrupt(0, "magic", found, format!("{MAGIC:02x?}")));
        }
        let version = u32::from_le_bytes(array(bytes, 8));
        if version != VERSION {
            return Err(StoreError::Foreign {
                file: file.to_owned(),
                what: "format version",
                found: version.to_string(),
                expected: VERSION.to_string(),
            });
        }
        if bytes.len() != BYTES {
            return Err(corrupt(0, "length", bytes.len().to_string(), BYTES.to_string()));
        }
        let found = u32::from_le_bytes(array(bytes, CRC_AT));
        let expected = Crc::seeded(&MAGIC).add(&bytes[..CRC_AT]).value();
        if found != expected {
            return Err(corrupt(CRC_AT as u64, "checksum", format!("{found:08x}"), format!("{expected:08x}")));
        }
        let length = usize::from(bytes[52]);
        let (name, rest) = bytes[NAME_AT..CRC_AT].split_at(length.min(NAME_BYTES));
        let name = std::str::from_utf8(name).ok().filter(|n| (1..=NAME_BYTES).contains(&length) && n.len() == length);
        let Some(name) = name.filter(|_| rest.iter().all(|b| *b == 0)) else {
            return Err(corrupt(52, "name", format!("{length} bytes"), format!("1 to {NAME_BYTES}, then zeros")));
        };
        Ok(Identity {
            store_id: StoreId(array(bytes, 12)),
            id: PartitionId(array(bytes, 28)),
            created: Micros(u64::from_le_bytes(array(bytes, 44))),
            name: name.to_owned(),
        })
    }

    /// Reads the file in the root of `root`; `None` if there is none.
    ///
    /// # Errors
    /// As [`Identity::decode`], and those of the disk.
    pub fn read(root: &dyn Disk) -> Result<Option<Identity>> {
        match disk::read_small(root, FILE, 4096) {
            Ok(bytes) => Identity::decode(&bytes, &root.display(FILE)).map(Some),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(StoreError::io("read", root.display(FILE), e)),
        }
    }

    /// Writes the file, durably.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn write(&self, root: &dyn Disk) -> Result<()> {
        disk::replace(root, FILE, &self.encode()).map_err(|e| StoreError::io("write", root.display(FILE), e))
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}
