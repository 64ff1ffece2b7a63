//! Every verb asked in every role. A thread of the test becomes another user to ask; that needs root.

use super::*;
use crate::control::access::{Groups, Role};
use proto::Command as Asked;
use proto::{Window, Work};
use rustix::process::{Gid, Uid};

const NOBODY: u32 = 65534;

fn s(text: &str) -> String {
    text.to_owned()
}

/// One change of each kind and the least role that may ask for it.
fn changes() -> Vec<(Asked, Role)> {
    let user_add = Asked::UserAdd { user: s("u"), partition: None, quota_bytes: None, quota_messages: None };
    let import = Asked::ImportMailbox { name: s("m"), partition: None, uidvalidity: 1, acl: Default::default() };
    vec![
        (user_add, Role::Admin),
        (Asked::UserDelete { user: s("u") }, Role::Admin),
        (Asked::UserRename { user: s("u"), to: s("v") }, Role::Admin),
        (Asked::MailboxCreate { name: s("m"), partition: None }, Role::Admin),
        (Asked::MailboxDelete { name: s("m") }, Role::Admin),
        (Asked::MailboxRename { from: s("m"), to: s("n") }, Role::Admin),
        (Asked::AclSet { name: s("m"), identifier: s("i"), rights: s("l") }, Role::Admin),
        (Asked::AclDelete { name: s("m"), identifier: s("i") }, Role::Admin),
        (Asked::Subscribe { user: s("u"), name: s("m") }, Role::Admin),
        (Asked::Unsubscribe { user: s("u"), name: s("m") }, Role::Admin),
        (Asked::PartitionAdd { name: s("dry"), path: s("/p"), message_path: None }, Role::Owner),
        (Asked::PartitionRemove { name: s("p") }, Role::Owner),
        (import, Role::Admin),
        (Asked::QuotaSet { root: s("u"), storage: proto::Limit::At(1), messages: proto::Limit::Keep }, Role::Admin),
        (Asked::QuotaRecalc { root: s("u") }, Role::Admin),
        (
            Asked::MessageDeliver {
                to: vec![s("m")],
                flags: vec![],
                internal_us: None,
                body: proto::Body::Inline(vec![1]),
            },
            Role::Admin,
        ),
        (Asked::MessageFlags { name: s("m"), uids: vec![1], add: vec![s("$a")], remove: vec![] }, Role::Admin),
        (Asked::MessageExpunge { name: s("m"), uids: vec![1] }, Role::Admin),
        (Asked::MessageCopy { name: s("m"), uids: vec![1], to: s("n"), remove: false }, Role::Admin),
        (Asked::MailboxUndelete { name: s("m"), uids: vec![1] }, Role::Admin),
        (
            Asked::MailboxReturn(proto::MailboxReturn {
                name: s("m"),
                partition: None,
                store: s("s"),
                id: 1,
                uidvalidity: 1,
                uidnext: 1,
                highest_modseq: 1,
                acl: std::collections::BTreeMap::new(),
            }),
            Role::Admin,
        ),
        (
            Asked::MessageReturn(proto::MessageReturn { name: s("m"), from: String::new(), messages: vec![] }),
            Role::Admin,
        ),
        (
            Asked::MessageFlagsAs { user: s("u"), name: s("m"), uids: vec![1], add: vec![], remove: vec![s("a")] },
            Role::Admin,
        ),
    ]
}

/// One request of each kind and the least role that may make it; each change as such, as a dry run and in a transaction.
fn requests() -> Vec<(Request, Role)> {
    let mut all = vec![
        (Request::Status, Role::Reader),
        (Request::Health, Role::Reader),
        (Request::Stats, Role::Reader),
        (Request::Checkpoint, Role::Admin),
        (Request::LogList { all: true }, Role::Reader),
        (Request::LogVerify, Role::Admin),
        (Request::LogDump { from: None, to: None, since_us: None, mailbox: None, user: None }, Role::Admin),
        (Request::RecoverReport { last: 1 }, Role::Reader),
        (Request::UserList { pattern: None }, Role::Reader),
        (Request::UserShow { user: s("u") }, Role::Reader),
        (Request::MailboxList { pattern: s("*") }, Role::Reader),
        (Request::MailboxShow { name: s("m") }, Role::Reader),
        (Request::AclGet { name: s("m") }, Role::Reader),
        (Request::Subscriptions { user: s("u") }, Role::Reader),
        (Request::PartitionList, Role::Reader),
        (Request::PartitionShow { name: s("p") }, Role::Reader),
        (Request::Hashdir { user: s("u"), absolute: false }, Role::Reader),
        (Request::QuotaGet { root: s("u") }, Role::Reader),
        (Request::QuotaList { pattern: s("*") }, Role::Reader),
        (Request::QuotaReport { over: None }, Role::Reader),
        (Request::QuotaRecalc { dry_run: false }, Role::Admin),
        (Request::AclRights { name: s("m"), identifier: s("i") }, Role::Reader),
        (Request::AclMy { name: s("m"), user: s("u") }, Role::Reader),
        (Request::MailboxListAs { user: s("u"), pattern: s("*") }, Role::Reader),
        (Request::MailboxShowAs { user: s("u"), name: s("m") }, Role::Reader),
        (Request::SubscriptionsMissing { user: s("u") }, Role::Reader),
        (Request::ConfigShow { defaults: false }, Role::Reader),
        (Request::Shutdown { now: true }, Role::Owner),
        (Request::Restart { accept_loss: false }, Role::Owner),
        (Request::Maintenance { window: Window::Start { seconds: 1, reason: s("r") } }, Role::Admin),
        (Request::Maintenance { window: Window::Stop }, Role::Admin),
        (Request::Maintenance { window: Window::Show }, Role::Reader),
        (Request::Metrics, Role::Reader),
        (Request::ConfigReload { dry_run: true }, Role::Owner),
        (Request::SnapshotTake { verify: true }, Role::Admin),
        (Request::SnapshotList, Role::Reader),
        (Request::SnapshotVerify { id: None, all: true }, Role::Admin),
        (Request::BackupDb { dir: s("/b") }, Role::Owner),
        (Request::BackupComplete { dir: s("/b") }, Role::Owner),
        (Request::Drill, Role::Admin),
        (Request::Reconstruct(proto::Reconstruct::default()), Role::Admin),
        (Request::SnapshotPrune, Role::Owner),
        (Request::SnapshotDelete { id: s("i") }, Role::Owner),
        (Request::JobStart { work: Work::SnapshotTake { verify: true }, detach: true }, Role::Admin),
        (Request::JobStart { work: Work::SnapshotVerify { id: None, all: true }, detach: false }, Role::Admin),
        (Request::JobStart { work: Work::SnapshotPrune, detach: false }, Role::Owner),
        (Request::JobStart { work: Work::QuotaRecalc, detach: true }, Role::Admin),
        (Request::JobStart { work: Work::Checkpoint, detach: true }, Role::Admin),
        (Request::Jobs, Role::Reader),
        (Request::JobShow { id: 1 }, Role::Reader),
        (Request::JobCancel { id: 1 }, Role::Admin),
        (Request::JobFollow { id: 1 }, Role::Reader),
        (Request::JobAttend { errand: proto::Errand::Batch }, Role::Reader),
        (Request::JobAdvance { id: 1, done: 1, total: None, item: s("i") }, Role::Reader),
        (Request::JobEnd { id: 1, told: proto::Told::default(), failure: None }, Role::Reader),
        (Request::LockTake { resource: s("m"), for_ms: None, wait_ms: None, reason: s("r") }, Role::Admin),
        (Request::LockRelease { id: 1 }, Role::Admin),
        (Request::Locks, Role::Reader),
        (Request::LockBreak { id: 1 }, Role::Owner),
        (Request::LockJoin { id: 1 }, Role::Admin),
        (Request::Freeze { for_ms: 1, reason: s("r") }, Role::Owner),
        (Request::Drain { wait_ms: None }, Role::Owner),
        (Request::ReadOnly { on: true, reason: s("r") }, Role::Owner),
        (Request::AcceptLoss, Role::Owner),
        (Request::MessageSend { number: None, to: s("m"), bytes: vec![1], last: true }, Role::Admin),
        (Request::MessageList { name: s("m"), expunged: false }, Role::Admin),
        (Request::MessageShow { name: s("m"), uid: 1 }, Role::Admin),
        (Request::MessageBytes { name: s("m"), uid: 1 }, Role::Admin),
        (Request::Expire { dry_run: false }, Role::Admin),
        (Request::Purge { dry_run: true }, Role::Admin),
        (Request::Check(proto::Check::default()), Role::Reader),
        (Request::Backup(proto::BackupAsk::Messages { mailbox: 1 }), Role::Admin),
        (Request::Backup(proto::BackupAsk::Sick { name: s("m"), deep: true }), Role::Admin),
        (Request::MessageListAs { user: s("u"), name: s("m") }, Role::Admin),
        (Request::Peruser, Role::Admin),
        (Request::MailboxListDeleted { pattern: s("*") }, Role::Reader),
        (Request::MessageListExpunged { name: s("m") }, Role::Admin),
        (Request::UserMove { user: s("u"), to: s("p") }, Role::Admin),
    ];
    // As a job each needs what it needs else.
    let jobs: Vec<_> = all.iter().filter_map(|(request, role)| Some((Work::of(request)?, *role))).collect();
    for (work, role) in jobs {
        all.extend([true, false].map(|detach| (Request::JobStart { work: work.clone(), detach }, role)));
    }
    for (command, role) in changes() {
        all.push((Request::Atomic { commands: vec![command.clone()] }, role));
        all.extend([true, false].map(|dry_run| (Request::Change { command: command.clone(), dry_run }, role)));
    }
    all
}

/// How a user who is not the owner fares with each request: `None` if he is not even let in.
fn asked_by_nobody(house: &House) -> Option<Vec<bool>> {
    std::thread::scope(|scope| {
        let ask = || {
            let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            let mut client = match Client::connect(house.path(), "role", Timeouts::default()) {
                Ok(client) => client,
                Err(e) => {
                    assert_eq!(e.failure().code, Code::NotPermitted);
                    return None;
                }
            };
            let mut permitted = |request: &Request| match client.call(request) {
                Ok(_) => true,
                Err(e) => {
                    let failure = e.failure();
                    assert_eq!(failure.code, Code::NotPermitted, "{request:?}: {failure:?}");
                    assert!(failure.hint.is_some());
                    false
                }
            };
            Some(requests().iter().map(|(request, _)| permitted(request)).collect())
        };
        scope.spawn(ask).join().unwrap()
    })
}

// S2, row B17
#[test]
fn every_verb_needs_its_role() {
    // Without the greeting; whoever adds a verb adds it here.
    let kinds: std::collections::BTreeSet<_> = requests().iter().map(|(r, _)| r.number()).collect();
    assert_eq!(kinds.len(), Request::COUNT as usize - 1, "a request is not in the table");
    for (request, role) in requests() {
        assert_eq!(access::least(&request), role, "{request:?}");
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: becoming another user needs root");
        return;
    }
    let house = House::new(Limits::default());
    std::fs::set_permissions(house.path(), std::fs::Permissions::from_mode(0o666)).unwrap();
    let group = nix::unistd::Group::from_gid(nix::unistd::Gid::from_raw(NOBODY)).unwrap().unwrap().name;
    let none = String::new;
    for (groups, role) in [
        (Groups::default(), None),
        (Groups { admin: none(), reader: group.clone() }, Some(Role::Reader)),
        (Groups { admin: group.clone(), reader: none() }, Some(Role::Admin)),
        (Groups { admin: group.clone(), reader: group.clone() }, Some(Role::Admin)),
    ] {
        *house.fake.groups.lock().unwrap() = groups;
        let fared = asked_by_nobody(&house);
        let expected = role.map(|role| requests().iter().map(|(_, least)| role >= *least).collect::<Vec<_>>());
        assert_eq!(fared, expected, "{role:?}");
    }
    let mut owner = Client::connect(house.path(), "owner", Timeouts::default()).unwrap();
    for (request, _) in requests() {
        assert!(owner.call(&request).is_ok(), "{request:?}");
    }
}
