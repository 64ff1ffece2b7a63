//! The bytes of every request, command, work and errand, as they are on the wire: a variant that is reordered, removed or changed fails here.

use crate::codec::{Payload, encode};
use crate::{Body, Code, Command, Errand, Failure, Limit, Reconstruct, Request, Told, Window, Work};
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
pub(crate) fn requests() -> Vec<Request> {
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
        Request::MailboxListDeleted { pattern: s("*") },
        Request::MessageListExpunged { name: s("m") },
    ]
}

/// One of each, in the order of the wire numbers.
pub(crate) fn commands() -> Vec<Command> {
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
        Command::MessageDeliver { to: vec![s("m")], flags: vec![s("f")], internal_us: Some(1), body: Body::Sent(2) },
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
        Command::MessageFlagsAs { user: s("u"), name: s("m"), uids: vec![1], add: vec![s("a")], remove: vec![s("r")] },
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
    "4800000001000000000000002a",
    "4900000001000000000000006d",
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
