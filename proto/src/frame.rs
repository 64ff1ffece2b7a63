//! # Purpose
//! Cuts a byte stream into frames and back. Pure: bytes in, frames out, no I/O; both ends of the socket use it.
//!
//! # Format
//! A frame is a header of 28 bytes and a payload. Numbers are little-endian.
//!
//! ```text
//! offset  bytes  field
//!      0      4  magic: "SDPF"
//!      4      2  version: 1
//!      6      1  kind: 1 request, 2 reply, 3 part of a reply, 4 error, 5 ping
//!      7      1  flags: none is defined, must be 0
//!      8      4  length of the payload, at most 8 MiB
//!     12      8  request id: chosen by the client, from 1; 0 = the connection itself
//!     20      4  CRC-32 of the payload
//!     24      4  CRC-32 of the 24 bytes before
//!     28         payload: one bincode value (see `codec.rs`); nothing in a ping
//! ```
//!
//! Both checksums are CRC-32 (IEEE) started at 0x5344_5046, so that zeros never look like a frame.
//!
//! # Operation
//! A client sends *request* frames, each with an id of its own choice, and may send more before the answers come. Each
//! request is answered, under its id, by any number of *part* frames and then by one *reply* or one *error*; answers of
//! different requests come in any order. A *ping* is answered by a ping with the same id. An *error* under id 0 speaks
//! of the connection, and is the last frame before it is closed.
//!
//! # Invariants
//! * The header of every version has this length, magic, version, id and header checksum in these places, and the payload
//!   of an error frame is a [`crate::Failure`] of version 1: so an end that does not speak a version can say so.
//! * A length is looked at only after the header's checksum has been proven, and is compared with the reader's limit before
//!   a byte is waited for or memory is taken.
//! * A change of one byte anywhere in a frame is noticed.

/// First bytes of every frame.
pub const MAGIC: [u8; 4] = *b"SDPF";
/// Version of the protocol: frame, requests and replies together.
pub const VERSION: u16 = 1;
/// Bytes of a header.
pub const HEADER_BYTES: usize = 28;
/// No payload is longer.
pub const PAYLOAD_BYTES_MAX: u32 = 8 << 20;
/// Longest payload of a request, unless the daemon is configured otherwise.
pub const REQUEST_BYTES_DEFAULT: u32 = 1 << 20;
/// The id under which an error speaks of the connection itself.
pub const CONNECTION_ID: u64 = 0;

const CRC_START: u32 = 0x5344_5046;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A [`crate::Request`].
    Request = 1,
    /// A [`crate::Reply`], the last frame of an answer.
    Reply = 2,
    /// A [`crate::Reply`] that more frames of the same answer follow.
    Part = 3,
    /// A [`crate::Failure`], the last frame of an answer.
    Error = 4,
    /// Nothing; answered by the same.
    Ping = 5,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        [Kind::Request, Kind::Reply, Kind::Part, Kind::Error, Kind::Ping].into_iter().find(|k| *k as u8 == byte)
    }
}

/// One frame, borrowed from the bytes it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it carries.
    pub kind: Kind,
    /// Which request it belongs to.
    pub id: u64,
    /// The encoded value.
    pub payload: &'a [u8],
}

/// Bytes that are not a frame. The stream cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first bytes are not the magic.
    #[error("not a frame of this protocol: starts with {found:02x?}, expected {MAGIC:02x?}")]
    Magic {
        /// What was there.
        found: [u8; 4],
    },
    /// The header's checksum is wrong.
    #[error("damaged frame header: checksum {found:08x}, expected {expected:08x}")]
    HeaderChecksum {
        /// What the header says.
        found: u32,
        /// What its bytes give.
        expected: u32,
    },
    /// Another version of the protocol.
    #[error("protocol version {found}, expected {VERSION}")]
    Version {
        /// What the frame says.
        found: u16,
        /// The frame's id.
        id: u64,
    },
    /// A kind that this version does not know.
    #[error("frame of unknown kind {found}, expected 1 to 5")]
    Kind {
        /// What the frame says.
        found: u8,
        /// The frame's id.
        id: u64,
    },
    /// A flag that this version does not know.
    #[error("frame with unknown flags {found:#04x}, expected 0")]
    Flags {
        /// What the frame says.
        found: u8,
        /// The frame's id.
        id: u64,
    },
    /// The payload is longer than allowed.
    #[error("frame of {length} bytes, at most {limit} are allowed")]
    TooLong {
        /// What the frame says.
        length: u64,
        /// What is allowed here.
        limit: u32,
        /// The frame's id.
        id: u64,
    },
    /// The payload's checksum is wrong.
    #[error("damaged frame payload: checksum {found:08x}, expected {expected:08x}")]
    PayloadChecksum {
        /// What the header says.
        found: u32,
        /// What the payload gives.
        expected: u32,
        /// The frame's id.
        id: u64,
    },
}

impl FrameError {
    /// The id of the frame at fault, [`CONNECTION_ID`] when it cannot be known.
    #[must_use]
    pub fn id(&self) -> u64 {
        match *self {
            FrameError::Magic { .. } | FrameError::HeaderChecksum { .. } => CONNECTION_ID,
            FrameError::Version { id, .. }
            | FrameError::Kind { id, .. }
            | FrameError::Flags { id, .. }
            | FrameError::TooLong { id, .. }
            | FrameError::PayloadChecksum { id, .. } => id,
        }
    }
}

/// Appends one frame to `out`.
///
/// # Errors
/// [`FrameError::TooLong`] if the payload is over [`PAYLOAD_BYTES_MAX`]; `out` is then as it was.
pub fn put(out: &mut Vec<u8>, kind: Kind, id: u64, payload: &[u8]) -> Result<(), FrameError> {
    let start = begin(out);
    out.extend_from_slice(payload);
    finish(out, start, kind, id)
}

/// Reserves a header in `out`; the payload is then appended by the caller, and [`finish`] fills the header in.
pub(crate) fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.resize(start + HEADER_BYTES, 0);
    start
}

/// Writes the header of the frame that [`begin`] started and whose payload is everything behind it.
pub(crate) fn finish(out: &mut Vec<u8>, start: usize, kind: Kind, id: u64) -> Result<(), FrameError> {
    let (header, payload) = out[start..].split_at_mut(HEADER_BYTES);
    let length = match u32::try_from(payload.len()) {
        Ok(length) if length <= PAYLOAD_BYTES_MAX => length,
        _ => {
            let length = payload.len() as u64;
            out.truncate(start);
            return Err(FrameError::TooLong { length, limit: PAYLOAD_BYTES_MAX, id });
        }
    };
    header[0..4].copy_from_slice(&MAGIC);
    header[4..6].copy_from_slice(&VERSION.to_le_bytes());
    header[6] = kind as u8;
    header[7] = 0;
    header[8..12].copy_from_slice(&length.to_le_bytes());
    header[12..20].copy_from_slice(&id.to_le_bytes());
    header[20..24].copy_from_slice(&crc(payload).to_le_bytes());
    let sum = crc(&header[..24]);
    header[24..28].copy_from_slice(&sum.to_le_bytes());
    Ok(())
}

/// Looks at the start of `bytes` for one frame: `None` while it is not complete. The frame's bytes are the first
/// [`HEADER_BYTES`] and its payload. Wrong bytes are reported as soon as they can be told, complete or not.
///
/// # Errors
/// [`FrameError`]; nothing behind it can be read any more.
pub fn parse(bytes: &[u8], limit: u32) -> Result<Option<Frame<'_>>, FrameError> {
    let seen = bytes.len().min(MAGIC.len());
    if bytes[..seen] != MAGIC[..seen] {
        let mut found = [0; 4];
        found[..seen].copy_from_slice(&bytes[..seen]);
        return Err(FrameError::Magic { found });
    }
    let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else { return Ok(None) };
    let (kind, id, length, sum) = read_header(header, limit)?;
    let Some(payload) = rest.get(..length) else { return Ok(None) };
    let expected = crc(payload);
    if sum != expected {
        return Err(FrameError::PayloadChecksum { found: sum, expected, id });
    }
    Ok(Some(Frame { kind, id, payload }))
}

/// Kind, id, length and payload checksum of a header that is proven whole and allowed.
fn read_header(header: &[u8], limit: u32) -> Result<(Kind, u64, usize, u32), FrameError> {
    let (found, expected) = (u32_at(header, 24), crc(&header[..24]));
    if found != expected {
        return Err(FrameError::HeaderChecksum { found, expected });
    }
    let id = u64::from(u32_at(header, 12)) | u64::from(u32_at(header, 16)) << 32;
    let version = u16::from_le_bytes([header[4], header[5]]);
    if version != VERSION {
        return Err(FrameError::Version { found: version, id });
    }
    let kind = Kind::from_byte(header[6]).ok_or(FrameError::Kind { found: header[6], id })?;
    if header[7] != 0 {
        return Err(FrameError::Flags { found: header[7], id });
    }
    let length = u32_at(header, 8);
    let limit = limit.min(PAYLOAD_BYTES_MAX);
    if length > limit {
        return Err(FrameError::TooLong { length: u64::from(length), limit, id });
    }
    Ok((kind, id, length as usize, u32_at(header, 20)))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn crc(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(CRC_START);
    hasher.update(bytes);
    hasher.finalize()
}

/// Bytes as they arrive, and the frames in them. Holds at most what was put in; a declared length reserves nothing.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    start: usize,
}

impl Inbox {
    /// The buffer to append arrived bytes to. Bytes of frames already taken are gone from it.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        &mut self.bytes
    }

    /// Bytes that arrived and are not yet taken as a frame.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives memory back, if nothing waits and more than `keep` bytes are held.
    pub fn shrink(&mut self, keep: usize) {
        if self.waiting() == 0 && self.bytes.capacity() > keep {
            *self = Inbox::default();
        }
    }

    /// Takes the next complete frame; see [`parse`].
    ///
    /// # Errors
    /// As [`parse`].
    pub fn next(&mut self, limit: u32) -> Result<Option<Frame<'_>>, FrameError> {
        let at = self.start;
        match parse(&self.bytes[at..], limit)? {
            None => Ok(None),
            Some(Frame { kind, id, payload }) => {
                let length = payload.len();
                self.start = at + HEADER_BYTES + length;
                Ok(Some(Frame { kind, id, payload: &self.bytes[at + HEADER_BYTES..self.start] }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u32 = REQUEST_BYTES_DEFAULT;

    fn frame(kind: Kind, id: u64, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, kind, id, payload).unwrap();
        out
    }

    /// A header with chosen fields and a right checksum.
    fn header(version: u16, kind: u8, flags: u8, length: u32, id: u64) -> Vec<u8> {
        let mut h = MAGIC.to_vec();
        h.extend(version.to_le_bytes());
        h.extend([kind, flags]);
        h.extend(length.to_le_bytes());
        h.extend(id.to_le_bytes());
        h.extend(0u32.to_le_bytes());
        let sum = crc(&h);
        h.extend(sum.to_le_bytes());
        h
    }

    #[test]
    fn golden_bytes() {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let got = frame(Kind::Request, 0x0102_0304_0506_0708, b"joe");
        assert_eq!(hex(&got), "5344504601000100030000000807060504030201a75ca1dac4967f6c6a6f65");
        assert_eq!(hex(&frame(Kind::Ping, 1, b"")), "534450460100050000000000010000000000000046504453e290baa8");
    }

    #[test]
    fn frames_come_back() {
        for kind in [Kind::Request, Kind::Reply, Kind::Part, Kind::Error, Kind::Ping] {
            let bytes = frame(kind, u64::MAX, b"payload");
            let got = parse(&bytes, LIMIT).unwrap().unwrap();
            assert_eq!(got, Frame { kind, id: u64::MAX, payload: b"payload" });
        }
    }

    #[test]
    fn a_cut_frame_is_waited_for() {
        let bytes = frame(Kind::Request, 7, &[9; 300]);
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut], LIMIT), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        let bytes = frame(Kind::Request, 7, b"a payload of some bytes");
        for at in 0..bytes.len() {
            for value in 0..=255u8 {
                let mut bad = bytes.clone();
                bad[at] = value;
                let got = parse(&bad, LIMIT);
                assert_eq!(got.is_err(), value != bytes[at], "byte {at} as {value:02x}: {got:?}");
            }
        }
    }

    #[test]
    fn zeros_are_no_frame() {
        assert!(parse(&[0; 64], LIMIT).is_err());
        assert!(parse(&[0], LIMIT).is_err());
    }

    #[test]
    fn wrong_magic_is_told_at_the_first_byte() {
        assert_eq!(parse(b"G", LIMIT), Err(FrameError::Magic { found: *b"G\0\0\0" }));
        assert_eq!(parse(b"SDPX", LIMIT), Err(FrameError::Magic { found: *b"SDPX" }));
    }

    // S4
    #[test]
    fn hostile_lengths_are_refused_with_the_header_alone() {
        for length in [LIMIT + 1, PAYLOAD_BYTES_MAX + 1, 1 << 31, u32::MAX] {
            let hostile = header(VERSION, 1, 0, length, 5);
            assert_eq!(
                parse(&hostile, LIMIT),
                Err(FrameError::TooLong { length: u64::from(length), limit: LIMIT, id: 5 })
            );
        }
        assert_eq!(parse(&header(VERSION, 1, 0, LIMIT, 5), LIMIT), Ok(None), "the limit itself is allowed");
        let hostile = header(VERSION, 1, 0, PAYLOAD_BYTES_MAX + 1, 5);
        let got = parse(&hostile, u32::MAX);
        assert!(matches!(got, Err(FrameError::TooLong { limit: PAYLOAD_BYTES_MAX, .. })), "{got:?}");
    }

    #[test]
    fn unknown_version_kind_and_flags_are_named() {
        assert_eq!(parse(&header(2, 1, 0, 0, 5), LIMIT), Err(FrameError::Version { found: 2, id: 5 }));
        assert_eq!(parse(&header(1, 0, 0, 0, 5), LIMIT), Err(FrameError::Kind { found: 0, id: 5 }));
        assert_eq!(parse(&header(1, 6, 0, 0, 5), LIMIT), Err(FrameError::Kind { found: 6, id: 5 }));
        assert_eq!(parse(&header(1, 1, 1, 0, 5), LIMIT), Err(FrameError::Flags { found: 1, id: 5 }));
    }

    #[test]
    fn too_long_a_payload_is_not_written() {
        let mut out = b"before".to_vec();
        let got = put(&mut out, Kind::Reply, 3, &vec![0; PAYLOAD_BYTES_MAX as usize + 1]);
        assert!(matches!(got, Err(FrameError::TooLong { id: 3, .. })), "{got:?}");
        assert_eq!(out, b"before");
    }

    #[test]
    fn inbox_gives_frames_in_whatever_pieces_they_come() {
        let mut stream = Vec::new();
        for id in 1..=50u64 {
            put(&mut stream, Kind::Request, id, &vec![id as u8; id as usize * 7]).unwrap();
        }
        for step in [1, 2, 3, 27, 28, 29, 1000, stream.len()] {
            let mut inbox = Inbox::default();
            let mut ids = Vec::new();
            for piece in stream.chunks(step) {
                inbox.buffer().extend_from_slice(piece);
                while let Some(frame) = inbox.next(LIMIT).unwrap() {
                    assert!(frame.payload.iter().all(|b| u64::from(*b) == frame.id));
                    ids.push(frame.id);
                }
            }
            assert_eq!(ids, (1..=50).collect::<Vec<_>>(), "step {step}");
            assert_eq!(inbox.waiting(), 0);
        }
    }

    #[test]
    fn inbox_gives_memory_back() {
        let mut inbox = Inbox::default();
        inbox.buffer().extend_from_slice(&frame(Kind::Request, 1, &[0; 100_000]));
        inbox.shrink(4096);
        assert!(inbox.capacity() > 100_000, "a waiting frame stays");
        assert!(inbox.next(LIMIT).unwrap().is_some());
        inbox.shrink(4096);
        assert_eq!(inbox.capacity(), 0);
    }
}
