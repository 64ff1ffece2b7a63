//! The head of a frame.
//!
//! # Format
//! 64 bytes, numbers little-endian:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | `F5 73 64 61` |
//! | 4 | 1 | version, 1 |
//! | 5 | 1 | kind, see the page of the archive |
//! | 6 | 1 | how the payload is packed: 0 as it is, 1 zstd (one frame of RFC 8878) |
//! | 7 | 1 | zero |
//! | 8 | 16 | id of the archive, random |
//! | 24 | 8 | number of the frame, from 0 |
//! | 32 | 8 | offset of the frame from the beginning of the archive |
//! | 40 | 4 | bytes of the payload as it is stored |
//! | 44 | 4 | bytes of the payload before it was packed |
//! | 48 | 8 | first 8 bytes of the BLAKE3 of the stored payload |
//! | 56 | 8 | first 8 bytes of the BLAKE3 of the 56 bytes before |
//!
//! # Invariants
//! * Lengths are followed only after the head's own checksum was found right, and never beyond their limits.

use super::{RAW_BYTES_MAX, STORED_BYTES_MAX};

/// What a frame begins with.
pub const MAGIC: [u8; 4] = [0xF5, b's', b'd', b'a'];
/// Bytes of a head.
pub const HEAD_BYTES: usize = 64;
/// Version of the format.
pub const VERSION: u8 = 1;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the page of the archive says what each is")]
pub enum Kind {
    Archive = 1,
    User = 2,
    Mailbox = 3,
    Message = 4,
    More = 5,
    Reference = 6,
    Close = 7,
    Index = 8,
    End = 9,
    Moves = 10,
}

impl Kind {
    const ALL: [Kind; 10] = [
        Kind::Archive,
        Kind::User,
        Kind::Mailbox,
        Kind::Message,
        Kind::More,
        Kind::Reference,
        Kind::Close,
        Kind::Index,
        Kind::End,
        Kind::Moves,
    ];

    /// The kind with this number.
    #[must_use]
    pub fn of(byte: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// How a payload is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Packing {
    /// As it is.
    Plain = 0,
    /// By zstd.
    Zstd = 1,
}

/// Id of an archive.
pub type ArchiveId = [u8; 16];

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What it is.
    pub kind: Kind,
    /// How its payload is packed.
    pub packing: Packing,
    /// Of which archive.
    pub archive: ArchiveId,
    /// Its number, from 0.
    pub number: u64,
    /// Where it begins.
    pub offset: u64,
    /// Bytes of the payload as it is stored.
    pub stored: u32,
    /// Bytes of the payload before it was packed.
    pub raw: u32,
    /// Checksum of the stored payload.
    pub payload_sum: [u8; 8],
}

/// Why bytes are no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// They do not begin like one, or their checksum is another.
    #[error("no frame")]
    None,
    /// A head that this program is too old for.
    #[error("a frame of version {0}, and this program reads up to {VERSION}")]
    Newer(u8),
    /// The checksum is right and what stands there is not.
    #[error("a frame with {0}")]
    Wrong(&'static str),
}

/// The checksum of `bytes`.
#[must_use]
pub fn sum(bytes: &[u8]) -> [u8; 8] {
    let mut sum = [0; 8];
    sum.copy_from_slice(&blake3::hash(bytes).as_bytes()[..8]);
    sum
}

impl Head {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut out = [0; HEAD_BYTES];
        out[..4].copy_from_slice(&MAGIC);
        out[4..8].copy_from_slice(&[VERSION, self.kind as u8, self.packing as u8, 0]);
        out[8..24].copy_from_slice(&self.archive);
        out[24..32].copy_from_slice(&self.number.to_le_bytes());
        out[32..40].copy_from_slice(&self.offset.to_le_bytes());
        out[40..44].copy_from_slice(&self.stored.to_le_bytes());
        out[44..48].copy_from_slice(&self.raw.to_le_bytes());
        out[48..56].copy_from_slice(&self.payload_sum);
        let check = sum(&out[..56]);
        out[56..].copy_from_slice(&check);
        out
    }

    /// Reads a head.
    ///
    /// # Errors
    /// If it is none, or one of a newer version.
    pub fn decode(bytes: &[u8; HEAD_BYTES]) -> Result<Head, HeadError> {
        if bytes[..4] != MAGIC || sum(&bytes[..56]) != bytes[56..] {
            return Err(HeadError::None);
        }
        if bytes[4] != VERSION {
            return Err(HeadError::Newer(bytes[4]));
        }
        let part = |at: usize| -> [u8; 8] { std::array::from_fn(|n| bytes[at + n]) };
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|n| bytes[at + n]));
        let head = Head {
            kind: Kind::of(bytes[5]).ok_or(HeadError::Wrong("an unknown kind"))?,
            packing: match bytes[6] {
                0 => Packing::Plain,
                1 => Packing::Zstd,
                _ => return Err(HeadError::Wrong("an unknown packing")),
            },
            archive: std::array::from_fn(|n| bytes[8 + n]),
            number: u64::from_le_bytes(part(24)),
            offset: u64::from_le_bytes(part(32)),
            stored: word(40),
            raw: word(44),
            payload_sum: part(48),
        };
        if head.stored as usize > STORED_BYTES_MAX || head.raw as usize > RAW_BYTES_MAX {
            return Err(HeadError::Wrong("a length over the limit"));
        }
        if head.number == u64::MAX {
            return Err(HeadError::Wrong("a number over the limit"));
        }
        if head.packing == Packing::Plain && head.stored != head.raw {
            return Err(HeadError::Wrong("two lengths"));
        }
        Ok(head)
    }

    /// Where the next frame begins.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(HEAD_BYTES as u64).saturating_add(u64::from(self.stored))
    }
}

/// Packs a payload; as it is where packing does not make it shorter, or level 0 asks for none.
#[must_use]
pub fn pack(payload: Vec<u8>, level: i32) -> (Packing, Vec<u8>) {
    if level == 0 || payload.len() < 64 {
        return (Packing::Plain, payload);
    }
    thread_local! {
        static PACKER: std::cell::RefCell<Option<(i32, zstd::bulk::Compressor<'static>)>> = const { std::cell::RefCell::new(None) };
    }
    let packed = PACKER.with_borrow_mut(|kept| {
        if kept.as_ref().is_none_or(|(known, _)| *known != level) {
            *kept = zstd::bulk::Compressor::new(level).ok().map(|packer| (level, packer));
        }
        kept.as_mut().and_then(|(_, packer)| packer.compress(&payload).ok())
    });
    match packed {
        Some(packed) if packed.len() < payload.len() => (Packing::Zstd, packed),
        _ => (Packing::Plain, payload),
    }
}

/// Unpacks a payload whose checksum was found right.
///
/// # Errors
/// If it is not what its head says.
pub fn unpack(head: &Head, stored: Vec<u8>) -> Result<Vec<u8>, &'static str> {
    let raw = match head.packing {
        Packing::Plain => stored,
        Packing::Zstd => zstd::bulk::decompress(&stored, head.raw as usize).map_err(|_| "it cannot be unpacked")?,
    };
    if raw.len() == head.raw as usize { Ok(raw) } else { Err("it has another length unpacked") }
}
