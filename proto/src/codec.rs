//! # Purpose
//! Turns requests, replies and failures into payload bytes and back. The only file of the wire that names bincode (the
//! crate is unmaintained: it is pinned, and can be exchanged here in a day).
//!
//! # Format
//! bincode 2.0.1 through serde with `config::legacy()`, which is the format of bincode 1: little-endian numbers of fixed
//! size; a variant is its number as u32; strings, lists and maps start with their count as u64; an option is one byte 0 or
//! 1; no field names, no tags. So a change of a type is a new protocol version, except a variant added at the end.
//!
//! # Invariants
//! * Decoding takes at most [`frame::PAYLOAD_BYTES_MAX`] bytes, reserves nothing by a declared count, and consumes the whole
//!   payload: bytes left over are an error.
//! * Golden bytes in `request_golden.rs` and `reply_golden.rs` hold every variant; a reordered or changed one fails there.

use crate::frame::{self, FrameError, Kind};
use crate::{Failure, Reply, Request};
use serde::{Serialize, de::DeserializeOwned};

/// Bytes that are not the value that was expected, or a value that has no encoding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The payload is no such value.
    #[error("undecodable {what}: {cause}")]
    Undecodable {
        /// `request`, `reply`, `failure`.
        what: &'static str,
        /// What the decoder found.
        cause: String,
    },
    /// The value ended before the payload did.
    #[error("undecodable {what}: ends after {used} bytes of {length}")]
    Surplus {
        /// `request`, `reply`, `failure`.
        what: &'static str,
        /// Bytes of the value.
        used: usize,
        /// Bytes of the payload.
        length: usize,
    },
    /// A variant that this version does not know.
    #[error("unknown {what} number {found}, expected 0 to {last}")]
    Unknown {
        /// `request`, `reply`.
        what: &'static str,
        /// What the payload says.
        found: u32,
        /// Highest number known here.
        last: u32,
    },
    /// The value cannot be sent.
    #[error("{what} cannot be encoded: {cause}")]
    Unencodable {
        /// `request`, `reply`, `failure`.
        what: &'static str,
        /// Why.
        cause: String,
    },
}

/// A value that travels as a payload.
pub trait Payload: Serialize + DeserializeOwned {
    /// Word for messages.
    const WHAT: &'static str;
    /// How many variants are known, for enums whose first four bytes are the variant.
    const VARIANTS: Option<u32>;
}

impl Payload for Request {
    const WHAT: &'static str = "request";
    const VARIANTS: Option<u32> = Some(Request::COUNT);
}

impl Payload for Reply {
    const WHAT: &'static str = "reply";
    const VARIANTS: Option<u32> = Some(Reply::COUNT);
}

impl Payload for Failure {
    const WHAT: &'static str = "failure";
    const VARIANTS: Option<u32> = None;
}

const fn config() -> impl bincode::config::Config {
    bincode::config::legacy().with_limit::<{ frame::PAYLOAD_BYTES_MAX as usize }>()
}

/// Appends the encoding of `value` to `out`.
///
/// # Errors
/// [`CodecError::Unencodable`], which no value of this crate's types causes.
pub fn encode<T: Payload>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    match bincode::serde::encode_into_std_write(value, out, config()) {
        Ok(_) => Ok(()),
        Err(e) => Err(CodecError::Unencodable { what: T::WHAT, cause: e.to_string() }),
    }
}

/// The value that `payload` is the encoding of, the whole of it.
///
/// # Errors
/// [`CodecError::Unknown`] for a variant of a later version, else [`CodecError::Undecodable`] or [`CodecError::Surplus`].
pub fn decode<T: Payload>(payload: &[u8]) -> Result<T, CodecError> {
    if let (Some(count), Some(first)) = (T::VARIANTS, payload.first_chunk()) {
        let found = u32::from_le_bytes(*first);
        if found >= count {
            return Err(CodecError::Unknown { what: T::WHAT, found, last: count - 1 });
        }
    }
    match bincode::serde::decode_from_slice(payload, config()) {
        Ok((value, used)) if used == payload.len() => Ok(value),
        Ok((_, used)) => Err(CodecError::Surplus { what: T::WHAT, used, length: payload.len() }),
        Err(e) => Err(CodecError::Undecodable { what: T::WHAT, cause: e.to_string() }),
    }
}

/// Why a value could not be put into a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// See [`CodecError`].
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// [`FrameError::TooLong`].
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Appends one whole frame with `value` in it to `out`.
///
/// # Errors
/// [`PutError`]; `out` is then as it was.
pub fn put<T: Payload>(out: &mut Vec<u8>, kind: Kind, id: u64, value: &T) -> Result<(), PutError> {
    let start = frame::begin(out);
    if let Err(e) = encode(value, out) {
        out.truncate(start);
        return Err(e.into());
    }
    Ok(frame::finish(out, start, kind, id)?)
}

/// Bytes that `value` takes inside a payload, as an element of a list too; for cutting long answers into parts.
#[must_use]
pub fn size<T: Serialize>(value: &T) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // A value that cannot be encoded counts what was encoded of it; `put` names the error.
    let _ = bincode::serde::encode_into_std_write(value, &mut count, config());
    count.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request_golden::{commands, requests};

    #[test]
    fn every_request_comes_back() {
        let changes = commands().into_iter().map(|command| Request::Change { command, dry_run: false });
        for request in requests().into_iter().chain(changes) {
            let mut bytes = Vec::new();
            encode(&request, &mut bytes).unwrap();
            assert_eq!(decode::<Request>(&bytes).unwrap(), request);
            assert_eq!(size(&request), bytes.len());
        }
    }

    #[test]
    fn surplus_bytes_are_refused() {
        for request in requests() {
            let mut bytes = Vec::new();
            encode(&request, &mut bytes).unwrap();
            bytes.push(0);
            let got = decode::<Request>(&bytes);
            assert_eq!(got, Err(CodecError::Surplus { what: "request", used: bytes.len() - 1, length: bytes.len() }));
        }
    }

    #[test]
    fn every_cut_is_refused() {
        for request in requests() {
            let mut bytes = Vec::new();
            encode(&request, &mut bytes).unwrap();
            for cut in 0..bytes.len() {
                assert!(decode::<Request>(&bytes[..cut]).is_err(), "{request:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn unknown_numbers_are_named() {
        for found in [Request::COUNT, 1000, u32::MAX] {
            let got = decode::<Request>(&found.to_le_bytes());
            assert_eq!(got, Err(CodecError::Unknown { what: "request", found, last: Request::COUNT - 1 }));
        }
    }

    // S4
    /// A list of 2^40 commands, a string of 2^62 bytes: refused, and nothing reserved for them.
    #[test]
    fn hostile_counts_are_refused() {
        for count in [1u64 << 24, 1 << 40, 1 << 62, u64::MAX] {
            for number in [22u32, 10, 0] {
                let mut bytes = number.to_le_bytes().to_vec();
                if number == 0 {
                    bytes.extend([1, 0]);
                }
                bytes.extend(count.to_le_bytes());
                let got = decode::<Request>(&bytes);
                assert!(matches!(got, Err(CodecError::Undecodable { .. })), "{got:?}");
            }
        }
    }

    #[test]
    fn a_frame_holds_its_value() {
        let mut out = b"x".to_vec();
        put(&mut out, Kind::Request, 9, &Request::Status).unwrap();
        let frame = frame::parse(&out[1..], 100).unwrap().unwrap();
        assert_eq!((frame.kind, frame.id), (Kind::Request, 9));
        assert_eq!(decode::<Request>(frame.payload), Ok(Request::Status));
    }

    #[test]
    fn a_value_too_long_for_a_frame_leaves_the_buffer_as_it_was() {
        let mut out = b"x".to_vec();
        let user = "u".repeat(frame::PAYLOAD_BYTES_MAX as usize);
        let got = put(&mut out, Kind::Request, 9, &Request::UserShow { user });
        assert!(matches!(got, Err(PutError::Frame(FrameError::TooLong { .. }))), "{got:?}");
        assert_eq!(out, b"x");
    }
}
