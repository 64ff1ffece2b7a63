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
//! * Golden bytes in the tests hold every request variant; a reordered or changed one fails there.

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
    use crate::{Body, Code, Command, Errand, Limit, Reconstruct, Told, Window, Work};
    use std::collections::BTreeMap;

    fn hex<T: Payload>(value: &T) -> String {
        let mut out = Vec::new();
        encode(value, &mut out).unwrap();
        out.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn s(text: &str) -> String {
        text.to_owned()
    }

    fn check() -> crate::Check {
        crate::Check { mailboxes: vec![s("m")], partition: Some(s("p")), deep: true, jobs: Some(2) }
    }

    /// One of each, in the order of the wire numbers.
    fn requests() -> Vec<Request> {
        vec![
            Request::Hello { version: 1, client: s("c") },
            Request::Status,
            Request::Health,
            Request::Stats,
            Request::Checkpoint,
            Request::LogList { all: true },
            Request::LogVerify,
            Request::LogDump { from: Some(1), to: None, since_us: Some(2), mailbox: Some(s("m")), user: Some(s("u")) },
            Request::RecoverReport { last: 3 },
            Request::UserList { pattern: Some(s("*")) },
            Request::UserShow { user: s("u") },
            Request::MailboxList { pattern: s("*") },
            Request::MailboxShow { name: s("m") },
            Request::AclGet { name: s("m") },
            Request::Subscriptions { user: s("u") },
            Request::PartitionList,
            Request::PartitionShow { name: s("p") },
            Request::Hashdir { user: s("u"), absolute: true },
            Request::QuotaGet { root: s("r") },
            Request::ConfigShow { defaults: true },
            Request::Shutdown { now: true },
            Request::Change { command: Command::UserDelete { user: s("u") }, dry_run: true },
            Request::Atomic { commands: vec![Command::UserDelete { user: s("u") }] },
            Request::Restart { accept_loss: true },
            Request::Maintenance { window: Window::Start { seconds: 5, reason: s("r") } },
            Request::Metrics,
            Request::QuotaList { pattern: s("*") },
            Request::QuotaReport { over: Some(90) },
            Request::QuotaRecalc { dry_run: true },
            Request::AclRights { name: s("m"), identifier: s("i") },
            Request::AclMy { name: s("m"), user: s("u") },
            Request::MailboxListAs { user: s("u"), pattern: s("*") },
            Request::MailboxShowAs { user: s("u"), name: s("m") },
            Request::SubscriptionsMissing { user: s("u") },
            Request::ConfigReload { dry_run: true },
            Request::SnapshotTake { verify: true },
            Request::SnapshotList,
            Request::SnapshotVerify { id: Some(s("i")), all: true },
            Request::SnapshotPrune,
            Request::SnapshotDelete { id: s("i") },
            Request::LockTake { resource: s("r"), for_ms: Some(1), wait_ms: None, reason: s("w") },
            Request::LockRelease { id: 1 },
            Request::Locks,
            Request::LockBreak { id: 2 },
            Request::LockJoin { id: 3 },
            Request::Freeze { for_ms: 4, reason: s("w") },
            Request::Drain { wait_ms: Some(5) },
            Request::ReadOnly { on: true, reason: s("w") },
            Request::AcceptLoss,
            Request::BackupDb { dir: s("/b") },
            Request::JobStart { work: Work::SnapshotVerify { id: Some(s("i")), all: true }, detach: true },
            Request::Jobs,
            Request::JobShow { id: 1 },
            Request::JobCancel { id: 2 },
            Request::JobFollow { id: 3 },
            Request::Drill,
            Request::MessageSend { number: Some(1), to: s("m"), bytes: vec![7], last: true },
            Request::MessageList { name: s("m"), expunged: true },
            Request::MessageShow { name: s("m"), uid: 5 },
            Request::MessageBytes { name: s("m"), uid: 6 },
            Request::Expire { dry_run: true },
            Request::Purge { dry_run: true },
            Request::Reconstruct(Reconstruct {
                database: true,
                user: Some(s("u")),
                jobs: Some(2),
                ..Reconstruct::default()
            }),
            Request::Check(check()),
            Request::Backup(crate::BackupAsk::Bytes { mailbox: 7, uids: vec![8] }),
            Request::MessageListAs { user: s("u"), name: s("m") },
            Request::Peruser,
            Request::UserMove { user: s("u"), to: s("p") },
            Request::JobAttend { errand: Errand::Batch },
            Request::JobAdvance { id: 1, done: 2, total: Some(3), item: s("i") },
            Request::JobEnd {
                id: 1,
                told: Told { lines: vec![s("l")], json: s("{}"), partly: true },
                failure: Some(Failure { code: Code::Busy, message: s("m"), hint: None }),
            },
            Request::BackupComplete { dir: s("/b") },
        ]
    }

    /// One of each, in the order of the wire numbers.
    fn commands() -> Vec<Command> {
        vec![
            Command::UserAdd { user: s("u"), partition: Some(s("p")), quota_bytes: Some(1), quota_messages: Some(2) },
            Command::UserDelete { user: s("u") },
            Command::UserRename { user: s("u"), to: s("v") },
            Command::MailboxCreate { name: s("m"), partition: None },
            Command::MailboxDelete { name: s("m") },
            Command::MailboxRename { from: s("m"), to: s("n") },
            Command::AclSet { name: s("m"), identifier: s("i"), rights: s("lrs") },
            Command::AclDelete { name: s("m"), identifier: s("i") },
            Command::Subscribe { user: s("u"), name: s("m") },
            Command::Unsubscribe { user: s("u"), name: s("m") },
            Command::PartitionAdd { name: s("p"), path: s("/p"), message_path: None },
            Command::PartitionRemove { name: s("p") },
            Command::ImportMailbox {
                name: s("m"),
                partition: None,
                uidvalidity: 7,
                acl: BTreeMap::from([(s("i"), s("lrs"))]),
            },
            Command::QuotaSet { root: s("r"), storage: Limit::At(9), messages: Limit::None },
            Command::QuotaRecalc { root: s("r") },
            Command::MessageDeliver {
                to: vec![s("m")],
                flags: vec![s("f")],
                internal_us: Some(1),
                body: Body::Sent(2),
            },
            Command::MessageFlags { name: s("m"), uids: vec![1], add: vec![s("a")], remove: vec![s("r")] },
            Command::MessageExpunge { name: s("m"), uids: vec![1] },
            Command::MessageCopy { name: s("m"), uids: vec![1], to: s("n"), remove: true },
            Command::MailboxUndelete { name: s("m"), uids: vec![1] },
            Command::MailboxReturn(crate::MailboxReturn {
                name: s("m"),
                partition: None,
                store: s("s"),
                id: 1,
                uidvalidity: 2,
                uidnext: 3,
                highest_modseq: 4,
                acl: BTreeMap::from([(s("i"), s("lrs"))]),
            }),
            Command::MessageReturn(crate::MessageReturn {
                name: s("m"),
                from: s("n"),
                messages: vec![crate::ReturningMessage {
                    uid: Some(1),
                    flags: vec![s("f")],
                    internal_us: 2,
                    saved_us: Some(3),
                    body: crate::ReturningBody::Copy(4),
                }],
            }),
            Command::MessageFlagsAs {
                user: s("u"),
                name: s("m"),
                uids: vec![1],
                add: vec![s("a")],
                remove: vec![s("r")],
            },
        ]
    }

    const GOLDEN_REQUESTS: [&str; Request::COUNT as usize] = [
        "000000000100010000000000000063",
        "01000000",
        "02000000",
        "03000000",
        "04000000",
        "0500000001",
        "06000000",
        "07000000010100000000000000000102000000000000000101000000000000006d01010000000000000075",
        "0800000003000000",
        "090000000101000000000000002a",
        "0a000000010000000000000075",
        "0b00000001000000000000002a",
        "0c00000001000000000000006d",
        "0d00000001000000000000006d",
        "0e000000010000000000000075",
        "0f000000",
        "10000000010000000000000070",
        "1100000001000000000000007501",
        "12000000010000000000000072",
        "1300000001",
        "1400000001",
        "150000000100000001000000000000007501",
        "16000000010000000000000001000000010000000000000075",
        "1700000001",
        "18000000000000000500000000000000010000000000000072",
        "19000000",
        "1a00000001000000000000002a",
        "1b000000015a000000",
        "1c00000001",
        "1d00000001000000000000006d010000000000000069",
        "1e00000001000000000000006d010000000000000075",
        "1f00000001000000000000007501000000000000002a",
        "2000000001000000000000007501000000000000006d",
        "21000000010000000000000075",
        "2200000001",
        "2300000001",
        "24000000",
        "250000000101000000000000006901",
        "26000000",
        "27000000010000000000000069",
        "2800000001000000000000007201010000000000000000010000000000000077",
        "290000000100000000000000",
        "2a000000",
        "2b0000000200000000000000",
        "2c0000000300000000000000",
        "2d0000000400000000000000010000000000000077",
        "2e000000010500000000000000",
        "2f00000001010000000000000077",
        "30000000",
        "3100000002000000000000002f62",
        "3200000001000000010100000000000000690101",
        "33000000",
        "340000000100000000000000",
        "350000000200000000000000",
        "360000000300000000000000",
        "37000000",
        "3800000001010000000000000001000000000000006d01000000000000000701",
        "3900000001000000000000006d01",
        "3a00000001000000000000006d05000000",
        "3b00000001000000000000006d06000000",
        "3c00000001",
        "3d00000001",
        "3e000000010000000000000101000000000000007500000000000000000102000000",
        "3f000000010000000000000001000000000000006d01010000000000000070010102000000",
        "40000000020000000700000000000000010000000000000008000000",
        "4100000001000000000000007501000000000000006d",
        "42000000",
        "43000000010000000000000075010000000000000070",
        "4400000005000000",
        "4500000001000000000000000200000000000000010300000000000000010000000000000069",
        "460000000100000000000000010000000000000001000000000000006c02000000000000007b7d01010b00000001000000000000006d00",
        "4700000002000000000000002f62",
    ];

    const GOLDEN_COMMANDS: [&str; 23] = [
        "0000000001000000000000007501010000000000000070010100000000000000010200000000000000",
        "01000000010000000000000075",
        "02000000010000000000000075010000000000000076",
        "0300000001000000000000006d00",
        "0400000001000000000000006d",
        "0500000001000000000000006d01000000000000006e",
        "0600000001000000000000006d01000000000000006903000000000000006c7273",
        "0700000001000000000000006d010000000000000069",
        "0800000001000000000000007501000000000000006d",
        "0900000001000000000000007501000000000000006d",
        "0a00000001000000000000007002000000000000002f7000",
        "0b000000010000000000000070",
        "0c00000001000000000000006d0007000000010000000000000001000000000000006903000000000000006c7273",
        "0d00000001000000000000007202000000090000000000000001000000",
        "0e000000010000000000000072",
        "0f000000010000000000000001000000000000006d010000000000000001000000000000006601010000000000000001000000\
         0200000000000000",
        "1000000001000000000000006d01000000000000000100000001000000000000000100000000000000610100000000000000\
         010000000000000072",
        "1100000001000000000000006d010000000000000001000000",
        "1200000001000000000000006d01000000000000000100000001000000000000006e01",
        "1300000001000000000000006d010000000000000001000000",
        "1400000001000000000000006d00010000000000000073010000000000000002000000030000000400000000000000010000000000000001000000000000006903000000000000006c7273",
        "1500000001000000000000006d01000000000000006e01000000000000000101000000010000000000000001000000000000006602000000000000000103000000000000000200000004000000",
        "1600000001000000000000007501000000000000006d010000000000000001000000010000000000000001000000000000006101\
         00000000000000010000000000000072",
    ];

    /// Fails when a variant is reordered, removed or changed: that is another protocol version.
    #[test]
    fn golden_bytes_of_every_request() {
        let requests = requests();
        assert_eq!(requests.len(), GOLDEN_REQUESTS.len());
        for (number, (request, golden)) in requests.iter().zip(GOLDEN_REQUESTS).enumerate() {
            assert_eq!(hex(request), golden, "{request:?}");
            assert_eq!(request.number() as usize, number, "{request:?}");
        }
    }

    #[test]
    fn golden_bytes_of_every_command() {
        for (command, golden) in commands().into_iter().zip(GOLDEN_COMMANDS) {
            let verb = command.verb();
            // The change's number, the command, the dry run.
            assert_eq!(hex(&Request::Change { command, dry_run: false }), format!("15000000{golden}00"), "{verb}");
        }
    }

    #[test]
    fn golden_bytes_of_every_work() {
        let works = [
            (Work::SnapshotTake { verify: true }, "0000000001"),
            (Work::SnapshotVerify { id: None, all: true }, "010000000001"),
            (Work::SnapshotPrune, "02000000"),
            (Work::BackupDb { dir: s("/b") }, "0300000002000000000000002f62"),
            (Work::Drill, "04000000"),
            (Work::QuotaRecalc, "05000000"),
            (Work::Checkpoint, "06000000"),
            (Work::Expire { dry_run: true }, "0700000001"),
            (Work::Purge { dry_run: true }, "0800000001"),
            (Work::Reconstruct(Reconstruct::default()), "090000000000000000000000000000000000000000"),
            (Work::Check(check()), "0a000000010000000000000001000000000000006d01010000000000000070010102000000"),
            (Work::Peruser, "0b000000"),
            (Work::UserMove { user: s("u"), to: s("p") }, "0c000000010000000000000075010000000000000070"),
            (Work::BackupComplete { dir: s("/b") }, "0d00000002000000000000002f62"),
        ];
        for (work, golden) in works {
            assert_eq!(Work::of(&work.request()).as_ref(), Some(&work));
            assert_eq!(hex(&Request::JobStart { work, detach: false }), format!("32000000{golden}00"));
        }
    }

    #[test]
    fn golden_bytes_of_every_errand() {
        for (number, errand) in Errand::ALL.into_iter().enumerate() {
            assert_eq!(hex(&Request::JobAttend { errand }), format!("44000000{number:02x}000000"));
        }
    }

    /// The answer to a peer of any version: it must never change.
    #[test]
    fn golden_bytes_of_a_failure() {
        let failure = Failure { code: Code::Protocol, message: s("m"), hint: Some(s("h")) };
        assert_eq!(hex(&failure), "0c00000001000000000000006d01010000000000000068");
        let numbers: Vec<_> = Code::ALL.iter().map(|code| Code::ALL.iter().position(|c| c == code)).collect();
        for (number, code) in Code::ALL.into_iter().enumerate() {
            let bytes = hex(&Failure { code, message: s(""), hint: None });
            assert!(bytes.starts_with(&format!("{number:02x}000000")), "{code:?} {bytes} {numbers:?}");
        }
    }

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
