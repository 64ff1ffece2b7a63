//! One frame of a journal ([`super::journal`]): 40 bytes of header, then the payload, then zeros up to a multiple of 8.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 2 | magic |
//! | 2 | 1 | kind |
//! | 3 | 1 | zero |
//! | 4 | 4 | payload bytes |
//! | 8 | 8 | LSN that made it |
//! | 16 | 8 | epoch of that LSN |
//! | 24 | 8 | sequence number: that of the frame before, plus one |
//! | 32 | 4 | CRC-32 of the payload with its padding |
//! | 36 | 4 | CRC-32 of the 36 bytes before |
//!
//! Both checksums start from what the journal belongs to, and the header's also from its own place: a frame of another
//! file, or at another place, never validates, and a broken length is never followed.

use crate::checksum::Crc;
use crate::lsn::{Epoch, Lsn, StoreId};
use crate::planted::{self, Bug};

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 40;
/// Longest payload: a mailbox row of the longest kind and its names.
pub const PAYLOAD_BYTES_MAX: usize = (1 << 20) + (1 << 16);
/// Frames begin at multiples of this.
pub const ALIGN: usize = 8;
/// Not ASCII, not UTF-8.
pub(super) const MAGIC: [u8; 2] = [0xa7, 0xd3];
const CRC_AT: usize = 36;

/// Where the checksums of one journal start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seed(u32);

impl Seed {
    pub(super) fn new(magic: &[u8; 8], store: StoreId, subject: u64) -> Seed {
        Seed(Crc::seeded(magic).add(&store.0).add(&subject.to_le_bytes()).value())
    }

    fn header(self, offset: u64, header: &[u8]) -> u32 {
        Crc::resume(self.0).add(&offset.to_le_bytes()).add(header).value()
    }

    fn payload(self, padded: &[u8]) -> u32 {
        Crc::resume(self.0).add(padded).value()
    }
}

/// A frame, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is, see the journal's own page.
    pub kind: u8,
    /// LSN that made it.
    pub lsn: Lsn,
    /// Epoch of that LSN.
    pub epoch: Epoch,
    /// Sequence number.
    pub seq: u64,
    /// Its content.
    pub payload: &'a [u8],
}

/// What a header says once its checksum was found right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    kind: u8,
    len: usize,
    lsn: Lsn,
    epoch: Epoch,
    seq: u64,
    payload_crc: u32,
}

/// A length rounded up to where the next frame begins.
pub(super) const fn padded(len: usize) -> usize {
    len.next_multiple_of(ALIGN)
}

/// Appends a frame that will stand at `offset`. The payload is at most [`PAYLOAD_BYTES_MAX`] bytes.
pub(super) fn put(seed: Seed, offset: u64, frame: &Frame<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[frame.kind, 0]);
    out.extend_from_slice(&u32::try_from(frame.payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    for n in [frame.lsn.0, frame.epoch.0, frame.seq] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(frame.payload);
    out.resize(start + HEADER_BYTES + padded(frame.payload.len()), 0);
    let crc = seed.payload(&out[start + HEADER_BYTES..]);
    out[start + 32..start + CRC_AT].copy_from_slice(&crc.to_le_bytes());
    let crc = seed.header(offset, &out[start..start + CRC_AT]);
    out[start + CRC_AT..start + HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
}

impl Header {
    /// Reads the header at `offset` of its file; `None` if there is none.
    pub(super) fn read(seed: Seed, offset: u64, bytes: &[u8]) -> Option<Header> {
        let bytes = bytes.first_chunk::<HEADER_BYTES>()?;
        let four = |at: usize| u32::from_le_bytes(std::array::from_fn(|n| bytes[at + n]));
        let eight = |at: usize| u64::from_le_bytes(std::array::from_fn(|n| bytes[at + n]));
        let is_whole = four(CRC_AT) == seed.header(offset, &bytes[..CRC_AT]);
        if bytes[..2] != MAGIC || bytes[3] != 0 || !(is_whole || planted::on(Bug::FrameHeaderChecksumIgnored)) {
            return None;
        }
        let len = usize::try_from(four(4)).ok().filter(|len| *len <= PAYLOAD_BYTES_MAX)?;
        let (lsn, epoch) = (Lsn(eight(8)), Epoch(eight(16)));
        Some(Header { kind: bytes[2], len, lsn, epoch, seq: eight(24), payload_crc: four(32) })
    }

    /// Bytes of the whole frame.
    pub(super) fn frame_bytes(&self) -> usize {
        HEADER_BYTES + padded(self.len)
    }

    /// The frame, from its bytes with header and padding; `None` if its payload is not as written.
    pub(super) fn frame<'a>(&self, seed: Seed, bytes: &'a [u8]) -> Option<Frame<'a>> {
        let padded = bytes.get(HEADER_BYTES..self.frame_bytes())?;
        let Header { kind, lsn, epoch, seq, .. } = *self;
        let is_whole = seed.payload(padded) == self.payload_crc || planted::on(Bug::FramePayloadChecksumIgnored);
        is_whole.then(|| Frame { kind, lsn, epoch, seq, payload: &padded[..self.len] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId([7; 16]);

    #[test]
    fn golden_bytes_and_every_flip() {
        let seed = Seed::new(b"SdIndex\0", STORE, 5);
        let frame = Frame { kind: 2, lsn: Lsn(9), epoch: Epoch(1), seq: 3, payload: b"payload" };
        let mut bytes = Vec::new();
        put(seed, 64, &frame, &mut bytes);
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            concat!(
                "a7d30200070000000900000000000000010000000000000003000000000000004dcef414",
                "ed990385",
                "7061796c6f616400"
            )
        );
        let read = |bytes: &[u8], offset| {
            let header = Header::read(seed, offset, bytes)?;
            header.frame(seed, bytes).map(|f| (f.kind, f.lsn, f.seq, f.payload.to_vec()))
        };
        assert_eq!(read(&bytes, 64), Some((2, Lsn(9), 3, b"payload".to_vec())));
        assert_eq!(read(&bytes, 72), None, "at another place");
        assert!(Header::read(Seed::new(b"SdIndex\0", STORE, 6), 64, &bytes).is_none(), "of another mailbox");
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                assert_eq!(read(&bad, 64), None, "byte {at} bit {bit}");
            }
            assert_eq!(read(&bytes[..at], 64), None, "cut at {at}");
        }
    }
}
