//! The file `PARTITION` in the root of a partition: whose directory this is, and up to where it holds everything.
//!
//! # Format
//! 1536 bytes, little-endian, version 2, or 3 for a partition whose message files have a root of their own: the identity, and two slots, at 512 and at 1024, that say what was applied. The rest is zero.
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
//! A slot; one of zeros says nothing:
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 8 | generation, from 1, plus one at each slot written |
//! | 8 | 8 | epoch |
//! | 16 | 8 | LSN |
//! | 24 | 4 | CRC-32 of the bytes before, seeded with the magic and the partition id |
//!
//! Version 1 is the identity alone. Who wrote it let no checkpoint pass that a partition was not there for. A program that knows nothing of
//! a second root refuses version 3 by its number, and so never takes messages for lost that lie elsewhere.
//!
//! The second root has a file `MESSAGES`: the same 128 bytes with the magic `SDmsgsID` and version 1. By the partition's id both belong
//! together, wherever they are mounted.
//!
//! # Operation
//! The identity is written once, by [`super::Partitions::prepare`], through a candidate and a rename, and never changed; a file of version 1
//! is replaced likewise by the first [`note_applied`]. Of the slots the valid one with the highest generation counts; a write goes to
//! the other one, and a sync follows: so one that is torn hides nothing but itself.

use crate::checksum::Crc;
use crate::disk::{self, Access, Disk};
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn, Micros, StoreId};
use std::fmt;
use std::io;
use std::ops::RangeInclusive;

/// Name of the file.
pub const FILE: &str = "PARTITION";
/// Name of the one in the root of message files, if that is another.
pub const FILE_MESSAGES: &str = "MESSAGES";
/// Version that this program writes.
pub const VERSION: u32 = 2;
/// Version that it writes for a partition with two roots.
pub const VERSION_SPLIT: u32 = 3;
/// The oldest version that it reads.
pub const VERSION_OLDEST: u32 = 1;

const MAGIC: [u8; 8] = *b"SDpartID";
const MAGIC_MESSAGES: [u8; 8] = *b"SDmsgsID";
const VERSION_MESSAGES: u32 = 1;
/// Bytes of the identity, and of a file of version 1.
const BYTES: usize = 128;
/// Bytes of the file.
const FILE_BYTES: usize = 1536;
/// Where the slots stand: in sectors of their own.
const SLOTS: [usize; 2] = [512, 1024];
const SLOT_BYTES: usize = 28;
const SLOT_CRC_AT: usize = SLOT_BYTES - 4;
const NAME_AT: usize = 53;
const NAME_BYTES: usize = crate::config::PARTITION_NAME_MAX;
const CRC_AT: usize = BYTES - 4;
const _: () = assert!(NAME_AT + NAME_BYTES < CRC_AT);

/// Identity of a partition: 16 random bytes, shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionId(pub [u8; 16]);

impl PartitionId {
    /// Reads what [`fmt::Display`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<PartitionId> {
        let is_hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| is_hex)?;
        Some(PartitionId(number.to_be_bytes()))
    }
}

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

/// Up to where a partition holds everything: a moment of the store's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Epoch of the LSN.
    pub epoch: Epoch,
    /// LSN.
    pub lsn: Lsn,
}

impl Applied {
    /// Nothing, as far as is known.
    pub const NOTHING: Applied = Applied { epoch: Epoch(0), lsn: Lsn::ZERO };

    /// True if something may have happened between this moment and a later one.
    #[must_use]
    pub fn is_before(self, other: Applied) -> bool {
        self.lsn < other.lsn
    }
}

/// What the file says of whose it is.
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
    /// Message files have a root of their own.
    pub is_split: bool,
}

impl Identity {
    /// The bytes of a file that says nothing of what was applied. A longer name than 64 bytes is cut; the configuration allows none.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.head(MAGIC, if self.is_split { VERSION_SPLIT } else { VERSION });
        bytes.resize(FILE_BYTES, 0);
        bytes
    }

    fn head(&self, magic: [u8; 8], version: u32) -> Vec<u8> {
        let mut bytes = vec![0; BYTES];
        let name = &self.name.as_bytes()[..self.name.len().min(NAME_BYTES)];
        bytes[..8].copy_from_slice(&magic);
        bytes[8..12].copy_from_slice(&version.to_le_bytes());
        bytes[12..28].copy_from_slice(&self.store_id.0);
        bytes[28..44].copy_from_slice(&self.id.0);
        bytes[44..52].copy_from_slice(&self.created.0.to_le_bytes());
        bytes[52] = u8::try_from(name.len()).unwrap_or(0);
        bytes[NAME_AT..NAME_AT + name.len()].copy_from_slice(name);
        let crc = Crc::seeded(&magic).add(&bytes[..CRC_AT]).value();
        bytes[CRC_AT..BYTES].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the bytes of the file; `file` names it in errors.
    ///
    /// # Errors
    /// [`StoreError::Foreign`] for another version, [`StoreError::Corrupt`] for anything else that is not as written.
    pub fn decode(bytes: &[u8], file: &str) -> Result<Identity> {
        let (version, identity) = read_head(bytes, file, MAGIC, VERSION_OLDEST..=VERSION_SPLIT)?;
        expect_length(bytes, file, if version == 1 { BYTES } else { FILE_BYTES })?;
        Ok(Identity { is_split: version == VERSION_SPLIT, ..identity })
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

    /// Reads what the root of message files says of whose it is; `None` if it says nothing.
    ///
    /// # Errors
    /// As [`Identity::decode`], and those of the disk.
    pub fn read_messages(root: &dyn Disk) -> Result<Option<Identity>> {
        let shown = root.display(FILE_MESSAGES);
        let bytes = match disk::read_small(root, FILE_MESSAGES, 4096) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(|e| StoreError::io("read", shown.clone(), e))?,
        };
        let (_, identity) = read_head(&bytes, &shown, MAGIC_MESSAGES, VERSION_MESSAGES..=VERSION_MESSAGES)?;
        expect_length(&bytes, &shown, BYTES)?;
        Ok(Some(Identity { is_split: true, ..identity }))
    }

    /// Has the root of message files say so, durably.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn write_messages(&self, root: &dyn Disk) -> Result<()> {
        let bytes = self.head(MAGIC_MESSAGES, VERSION_MESSAGES);
        disk::replace(root, FILE_MESSAGES, &bytes).map_err(|e| StoreError::io("write", root.display(FILE_MESSAGES), e))
    }
}

fn corrupt(file: &str, offset: usize, what: &str, found: String, expected: String) -> StoreError {
    StoreError::Corrupt { file: file.to_owned(), offset: offset as u64, what: what.to_owned(), found, expected }
}

fn expect_length(bytes: &[u8], file: &str, length: usize) -> Result<()> {
    if bytes.len() == length {
        return Ok(());
    }
    Err(corrupt(file, 0, "length", bytes.len().to_string(), length.to_string()))
}

/// Version and identity from the first 128 bytes of a file.
fn read_head(bytes: &[u8], file: &str, magic: [u8; 8], versions: RangeInclusive<u32>) -> Result<(u32, Identity)> {
    if bytes.len() < 12 || bytes[..8] != magic {
        let found = format!("{:02x?}", &bytes[..bytes.len().min(8)]);
        return Err(corrupt(file, 0, "magic", found, format!("{magic:02x?}")));
    }
    let version = u32::from_le_bytes(array(bytes, 8));
    if !versions.contains(&version) {
        return Err(StoreError::Foreign {
            file: file.to_owned(),
            what: "format version",
            found: version.to_string(),
            expected: format!("{} to {}", versions.start(), versions.end()),
        });
    }
    if bytes.len() < BYTES {
        return Err(corrupt(file, 0, "length", bytes.len().to_string(), format!("at least {BYTES}")));
    }
    let found = u32::from_le_bytes(array(bytes, CRC_AT));
    let expected = Crc::seeded(&magic).add(&bytes[..CRC_AT]).value();
    if found != expected {
        return Err(corrupt(file, CRC_AT, "checksum", format!("{found:08x}"), format!("{expected:08x}")));
    }
    let length = usize::from(bytes[52]);
    let (name, rest) = bytes[NAME_AT..CRC_AT].split_at(length.min(NAME_BYTES));
    let name = std::str::from_utf8(name).ok().filter(|n| (1..=NAME_BYTES).contains(&length) && n.len() == length);
    let Some(name) = name.filter(|_| rest.iter().all(|b| *b == 0)) else {
        return Err(corrupt(file, 52, "name", format!("{length} bytes"), format!("1 to {NAME_BYTES}, then zeros")));
    };
    let identity = Identity {
        store_id: StoreId(array(bytes, 12)),
        id: PartitionId(array(bytes, 28)),
        created: Micros(u64::from_le_bytes(array(bytes, 44))),
        name: name.to_owned(),
        is_split: false,
    };
    Ok((version, identity))
}

/// One of the slots: its generation, and what it says.
type Slot = (u64, Applied);

/// The slots of a file of this partition; `None` for one that says nothing, or was torn.
fn slots(bytes: &[u8], id: PartitionId) -> [Option<Slot>; 2] {
    SLOTS.map(|at| {
        let slot = bytes.get(at..at + SLOT_BYTES)?;
        let number = |at| u64::from_le_bytes(array(slot, at));
        let good = u32::from_le_bytes(array(slot, SLOT_CRC_AT)) == slot_crc(slot, id) && number(0) > 0;
        good.then(|| (number(0), Applied { epoch: Epoch(number(8)), lsn: Lsn(number(16)) }))
    })
}

fn slot_crc(slot: &[u8], id: PartitionId) -> u32 {
    Crc::seeded(&MAGIC).add(&id.0).add(&slot[..SLOT_CRC_AT]).value()
}

fn encode_slot((generation, applied): Slot, id: PartitionId) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SLOT_BYTES);
    for number in [generation, applied.epoch.0, applied.lsn.0] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&[0; 4]);
    let crc = slot_crc(&bytes, id);
    bytes[SLOT_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn read_file(root: &dyn Disk) -> Result<(Vec<u8>, Identity)> {
    let shown = root.display(FILE);
    let bytes = disk::read_small(root, FILE, 4096).map_err(|e| StoreError::io("read", shown.clone(), e))?;
    let identity = Identity::decode(&bytes, &shown)?;
    Ok((bytes, identity))
}

/// Up to where the partition with this root holds everything; `None` if its file does not say so.
///
/// # Errors
/// As [`Identity::decode`], and those of the disk.
pub fn applied(root: &dyn Disk) -> Result<Option<Applied>> {
    let (bytes, identity) = read_file(root)?;
    Ok(slots(&bytes, identity.id).into_iter().flatten().max_by_key(|slot| slot.0).map(|slot| slot.1))
}

/// Notes durably up to where the partition with this root holds everything. It must be durable there already.
///
/// # Errors
/// As [`applied`]. What the file said before, it says still.
pub fn note_applied(root: &dyn Disk, applied: Applied) -> Result<()> {
    let (mut bytes, identity) = read_file(root)?;
    let slots = slots(&bytes, identity.id);
    let newest = slots.iter().flatten().map(|slot| slot.0).max().unwrap_or(0);
    // The one that does not count, or says nothing.
    let nth = usize::from(slots[0].is_some_and(|slot| slot.0 == newest));
    let slot = encode_slot((newest + 1, applied), identity.id);
    let io = |e| StoreError::io("write", root.display(FILE), e);
    if bytes.len() == FILE_BYTES {
        let file = root.open(FILE, Access::Write).map_err(io)?;
        return file.write_at(SLOTS[nth] as u64, &slot).and_then(|()| file.sync_data()).map_err(io);
    }
    bytes = identity.encode();
    bytes[SLOTS[nth]..SLOTS[nth] + SLOT_BYTES].copy_from_slice(&slot);
    disk::replace(root, FILE, &bytes).map_err(io)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}
