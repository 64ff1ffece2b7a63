//! Mail comes in by LMTP, through the built daemon and real sockets.

use crate::harness::disks::Disk;
use crate::harness::lmtp::Lmtp;
use crate::harness::{Daemon, TestStore, run, until};
use rustix::process::Signal;
use serde_json::Value;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

/// What stands before every message of these tests.
const RETURN_PATH: &[u8] = b"Return-Path: <sender@example.net>\r\n";

const STORED: &str = "250 2.0.0 stored";

/// A store with a configuration of the test's own.
fn configured(store: &TestStore, lmtp: &str) -> Daemon {
    let config = store.beside("storedd.toml");
    std::fs::write(&config, format!("[log]\nsegment_size = \"1MiB\"\n[lmtp]\n{lmtp}\n")).unwrap();
    store.start_with(&["--config", config.to_str().unwrap()])
}

fn session(store: &TestStore) -> Lmtp {
    Lmtp::unix(&store.data.join("lmtp.sock"))
}

/// The UIDs of a mailbox.
fn uids(store: &TestStore, mailbox: &str) -> Vec<u64> {
    let list = store.json(&["message", "list", mailbox]);
    list.as_array().unwrap().iter().map(|m| m["uid"].as_u64().unwrap()).collect()
}

/// The bytes of a message.
fn raw(store: &TestStore, mailbox: &str, uid: u64) -> Vec<u8> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_storectl"));
    command.arg("--data-dir").arg(&store.data).args(["message", "show", mailbox, &uid.to_string(), "--raw"]);
    let output = command.env_remove("STOREDD_SOCKET").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// The bytes of the only message of a mailbox.
fn only(store: &TestStore, mailbox: &str) -> Vec<u8> {
    let uids = uids(store, mailbox);
    assert_eq!(uids.len(), 1, "{mailbox}");
    raw(store, mailbox, uids[0])
}

fn with_sender(message: &[u8]) -> Vec<u8> {
    [RETURN_PATH, message].concat()
}

// B14: one reply for each recipient; what was answered with 250 is there after a kill; several recipients are one file
#[test]
fn a_message_is_stored_before_it_is_answered() {
    let store = TestStore::new();
    let daemon = store.start();
    for user in ["joe@example.org", "ann@example.org", "poor@example.org"] {
        store.ctl(&["user", "add", user]).expect(0);
    }
    store.ctl(&["quota", "set", "poor@example.org", "--storage", "50B"]).expect(0);
    let mut lmtp = session(&store);
    let message = b"Subject: hello\r\n\r\n.dots\r\n..\r\n8-bit \xe4\xf6, NUL \0, bare \n and \r here\r\n";
    let replies = lmtp.begin(&["joe@example.org", "nobody@example.org", "poor@example.org", "Ann@EXAMPLE.org"]);
    assert_eq!(replies, ["250 2.1.5 ok", "550 5.1.1 no such recipient here", "250 2.1.5 ok", "250 2.1.5 ok"]);
    assert!(lmtp.ask("DATA").starts_with("354 "));
    lmtp.send(&crate::harness::lmtp::stuffed(message));
    assert_eq!([lmtp.reply(), lmtp.reply(), lmtp.reply()], [STORED, "452 4.2.2 the mailbox is full", STORED]);
    daemon.kill();

    let _daemon = store.start();
    assert_eq!(only(&store, "user/joe@example.org/INBOX"), with_sender(message));
    assert_eq!(only(&store, "user/ann@example.org/INBOX"), with_sender(message));
    assert!(uids(&store, "user/poor@example.org/INBOX").is_empty());
    store.ctl(&["checkpoint"]).expect(0);
    let (files, inodes) = message_files(&store);
    assert_eq!((files, inodes), (2, 1), "a stored copy for all");
    let quota = store.json(&["quota", "get", "ann@example.org"]);
    assert_eq!(quota["storage"]["usage"], (RETURN_PATH.len() + message.len()) as u64, "each entry counts (I9)");
}

/// Message files below the partition, and how many different ones.
fn message_files(store: &TestStore) -> (usize, usize) {
    let partition = store.data.join("partition/primary");
    let found = run(Command::new("find").arg(partition).args(["-name", "*.msg"]), None).out;
    let mut inodes: Vec<u64> = found.lines().map(|path| std::fs::metadata(path).unwrap().ino()).collect();
    let files = inodes.len();
    inodes.sort_unstable();
    inodes.dedup();
    (files, inodes.len())
}

// B14: pipelining, chunks, and messages beyond the inline limit, which lie in files before they are answered
#[test]
fn messages_of_every_size_come_byte_for_byte() {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    let mut lmtp = session(&store);
    let long: Vec<u8> =
        (0..700_000u32).flat_map(|n| [b'a' + (n % 26) as u8, if n % 70 == 0 { b'\n' } else { b'x' }]).collect();
    let long = [&b"A: b\r\n\r\n"[..], &long, b"\r\n"].concat();
    let limit = [&b"A: b\r\n\r\n"[..], &b"y".repeat((64 << 10) - RETURN_PATH.len() - 10), b"\r\n"].concat();
    for message in [&b""[..], b"\r\n", b"A: b\r\n", &limit, &[&limit[..], b"\r\n"].concat(), &long] {
        assert_eq!(lmtp.deliver(&["joe"], message), [STORED], "{} bytes", message.len());
        let last = *uids(&store, "user/joe/INBOX").last().unwrap();
        assert!(raw(&store, "user/joe/INBOX", last) == with_sender(message), "{} bytes", message.len());
    }
    lmtp.send(b"MAIL FROM:<sender@example.net>\r\nRCPT TO:<joe>\r\nBDAT 8\r\nA: b\r\n\r\nBDAT 3 LAST\r\nend");
    assert_eq!(
        [lmtp.reply(), lmtp.reply(), lmtp.reply(), lmtp.reply()],
        ["250 2.1.0 ok", "250 2.1.5 ok", "250 2.0.0 ok", STORED]
    );
    assert_eq!(raw(&store, "user/joe/INBOX", 7), with_sender(b"A: b\r\n\r\nend"), "no line end is added to chunks");
    daemon.kill();
    let _daemon = store.start();
    assert_eq!(uids(&store, "user/joe/INBOX"), [1, 2, 3, 4, 5, 6, 7]);
    assert!(raw(&store, "user/joe/INBOX", 6) == with_sender(&long));
}

// B14: folders in addresses, case, and domains whose users have none
#[test]
fn addresses_find_their_mailboxes() {
    let store = TestStore::new();
    let _daemon = configured(&store, "local_domains = \"mail.example.org\"");
    for user in ["joe@example.org", "ann", "c+d@example.org"] {
        store.ctl(&["user", "add", user]).expect(0);
    }
    for mailbox in ["user/joe@example.org/Work/2026", "user/c+d@example.org/d"] {
        store.ctl(&["mailbox", "create", mailbox]).expect(0);
    }
    let mut lmtp = session(&store);
    for (address, mailbox) in [
        ("joe+Work/2026@example.org", "user/joe@example.org/Work/2026"),
        ("JOE+missing@Example.Org", "user/joe@example.org/INBOX"),
        ("joe+../../ann/INBOX@example.org", "user/joe@example.org/INBOX"),
        ("ann@mail.example.org", "user/ann/INBOX"),
        ("Ann", "user/ann/INBOX"),
        ("c+d@example.org", "user/c+d@example.org/INBOX"),
        ("c+d+d@example.org", "user/c+d@example.org/d"),
    ] {
        let before = uids(&store, mailbox).len();
        let known = address != "c+d+d@example.org";
        if known {
            assert_eq!(lmtp.deliver(&[address], b"x\r\n"), [STORED], "{address}");
        } else {
            // The first delimiter counts: there is no user c.
            assert!(lmtp.begin(&[address])[0].starts_with("550 5.1.1 "), "{address}");
            lmtp.ask("RSET");
        }
        assert_eq!(uids(&store, mailbox).len(), before + usize::from(known), "{address}");
    }
    for address in ["ann@example.org", "joe", "joe@mail.example.org", "user/joe@example.org/INBOX", "\"\"@example.org"]
    {
        let reply = lmtp.begin(&[address]).remove(0);
        assert!(reply.starts_with("550 5.1.1") || reply.starts_with("501 5.1.3"), "{address}: {reply}");
        lmtp.ask("RSET");
    }
    let replies = lmtp.deliver(&["joe@example.org", "joe+no@example.org"], b"one\r\n");
    assert_eq!(replies, [STORED, STORED]);
    assert_eq!(uids(&store, "user/joe@example.org/INBOX").len(), 3, "two addresses of one mailbox are one copy");
}

// B14: what cannot be stored now is to be tried again
#[test]
fn refusals_leave_the_mail_with_the_sender() {
    let store = TestStore::new();
    let daemon = configured(&store, "over_quota = \"bounce\"\nmax_message = \"64KiB\"\nmax_recipients = 100");
    store.ctl(&["user", "add", "joe", "--quota", "1KiB"]).expect(0);
    let mut lmtp = session(&store);
    assert_eq!(lmtp.deliver(&["joe"], &b"x".repeat(2000)), ["552 5.2.2 the mailbox is full"]);
    assert_eq!(lmtp.ask("MAIL FROM:<> SIZE=65537"), "552 5.3.4 the message is too large");
    assert_eq!(lmtp.deliver(&["joe"], &b"y".repeat(70_000)), ["552 5.3.4 the message is too large"]);
    assert_eq!(lmtp.deliver(&["joe"], b"small\r\n"), [STORED], "and the session goes on");

    store.ctl(&["read-only", "on"]).expect(0);
    assert_eq!(lmtp.begin(&["joe"]), ["451 4.3.2 the store takes no changes now"]);
    store.ctl(&["read-only", "off"]).expect(0);
    lmtp.ask("RSET");
    assert_eq!(lmtp.deliver(&["joe"], b"small\r\n"), [STORED]);

    let stats = store.json(&["stats"]);
    let lmtp_stats = &stats["lmtp"];
    assert_eq!((&lmtp_stats["delivered"], &lmtp_stats["sessions"]), (&Value::from(2), &Value::from(1)), "{stats}");
    assert_eq!(lmtp_stats["refused"]["over_quota"], 1);
    assert_eq!(lmtp_stats["refused"]["not_ready"], 1);
    assert!(daemon.log().contains("event=lmtp.refused"), "{}", daemon.log());
    assert!(store.ctl(&["stats"]).expect(0).out.contains("delivered to 2 recipients"));
}

// B14: a stop finishes what was begun and sends the others away
#[test]
fn a_stop_finishes_what_was_begun() {
    let store = TestStore::new();
    let mut daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    let (mut idle, mut busy) = (session(&store), session(&store));
    busy.begin(&["joe"]);
    assert!(busy.ask("DATA").starts_with("354 "));
    busy.send(b"A: b\r\n");
    daemon.signal(Signal::TERM);
    assert_eq!(idle.reply(), "421 4.3.2 the daemon stops; try again later");
    assert_eq!(idle.reply(), "", "and it is gone");
    busy.send(b"\r\nend\r\n.\r\n");
    assert_eq!(busy.reply(), STORED);
    assert!(busy.reply().starts_with("421 "));
    assert_eq!(daemon.wait(), 0);
    daemon = store.start();
    assert_eq!(only(&store, "user/joe/INBOX"), with_sender(b"A: b\r\n\r\nend\r\n"));

    // The same for a drain, which takes no new session.
    let (mut idle, mut busy) = (session(&store), session(&store));
    busy.begin(&["joe"]);
    let socket = store.data.join("control.sock");
    let drain = std::thread::spawn(move || {
        run(Command::new(env!("CARGO_BIN_EXE_storectl")).arg("--socket").arg(socket).arg("drain"), None)
    });
    assert!(idle.reply().starts_with("421 4.3.2 "));
    assert!(busy.ask("DATA").starts_with("354 "));
    busy.send(b"second\r\n.\r\n");
    assert_eq!(busy.reply(), STORED);
    assert_eq!(daemon.wait(), 0, "everybody has left");
    let drain = drain.join().unwrap();
    assert_eq!(drain.status, 0, "{drain:?}");
}

// row 110, B12: deliveries wait for a freeze, and for who holds the mailbox
#[test]
fn a_freeze_makes_deliveries_wait_and_refuses_none() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    let mut lmtp = session(&store);
    lmtp.begin(&["joe"]);
    assert!(lmtp.ask("DATA").starts_with("354 "));
    let socket = store.data.join("control.sock");
    let frozen = std::thread::spawn(move || {
        let script = "echo frozen; sleep 1";
        let mut command = Command::new(env!("CARGO_BIN_EXE_storectl"));
        run(command.arg("--socket").arg(socket).args(["freeze", "--for", "20s", "--", "sh", "-c", script]), None)
    });
    until("the store is frozen", || {
        let locks = store.json(&["locks"]);
        locks.to_string().contains("freeze").then_some(())
    });
    lmtp.send(b"x\r\n.\r\n");
    assert_eq!(lmtp.reply(), STORED);
    let frozen = frozen.join().unwrap();
    assert_eq!(frozen.status, 0, "{frozen:?}");
    assert_eq!(uids(&store, "user/joe/INBOX"), [1]);
}

// B6, B14: who holds a mailbox keeps a message from nobody else for longer than a change may wait
#[test]
fn a_held_mailbox_keeps_mail_from_its_own_user_alone() {
    let store = TestStore::new();
    let daemon = configured(&store, "[limits]\nwait = \"1s\"");
    for user in ["ann", "joe", "zoe"] {
        store.ctl(&["user", "add", user]).expect(0);
    }
    let mut holder = store.begin(&["locks", "hold", "user/joe/INBOX", "--for", "5m", "--", "sleep", "300"]);
    until("it is held", || store.json(&["locks"]).to_string().contains("user/joe/INBOX").then_some(()));
    let replies = session(&store).deliver(&["ann", "joe", "zoe"], b"x\r\n");
    assert_eq!([&replies[0], &replies[2]], [STORED, STORED]);
    assert!(replies[1].starts_with("451 4.3.2 "), "{replies:?}");
    assert_eq!((uids(&store, "user/ann/INBOX"), uids(&store, "user/joe/INBOX")), (vec![1], vec![]));
    holder.kill().unwrap();
    holder.wait().unwrap();
    until("it is free", || store.json(&["locks"])["held"].as_array().unwrap().is_empty().then_some(()));
    assert_eq!(session(&store).deliver(&["joe"], b"x\r\n"), [STORED]);
    // Each delivery is a line that says who got what under which LSN.
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("verb=\"lmtp deliver\"") && line.contains("user/joe/INBOX"));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    assert!(
        ["client=client.example", "outcome=done", "message=1", "lsn="].iter().all(|part| line.contains(part)),
        "{line}"
    );
}

// B14, RFC 4314: mail for a folder goes there as long as its owner has the right to post to it
#[test]
fn a_folder_that_nobody_may_post_to_gets_no_mail() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["mailbox", "create", "user/joe/Lists"]).expect(0);
    let mut lmtp = session(&store);
    assert_eq!(lmtp.deliver(&["joe+Lists"], b"1\r\n"), [STORED]);
    assert_eq!(uids(&store, "user/joe/Lists"), [1]);
    store.ctl(&["acl", "set", "user/joe/Lists", "joe", "lrswi"]).expect(0);
    assert_eq!(lmtp.deliver(&["joe+Lists"], b"2\r\n"), [STORED]);
    assert_eq!((uids(&store, "user/joe/Lists"), uids(&store, "user/joe/INBOX")), (vec![1], vec![1]));
    store.ctl(&["acl", "set", "user/joe/Lists", "anyone", "p"]).expect(0);
    assert_eq!(lmtp.deliver(&["joe+Lists"], b"3\r\n"), [STORED]);
    assert_eq!(uids(&store, "user/joe/Lists"), [1, 2]);
}

// B14: while a start has not found out what there is, the sender keeps the mail
#[test]
fn a_store_that_recovers_takes_no_mail_yet() {
    let store = TestStore::new();
    let Some(disk) = Disk::mount(&store) else { return };
    let config = store.beside("storedd.toml");
    let [db, log] = ["db", "log"].map(|name| disk.at.join(name));
    let text = format!("[store]\ndb_dir = {db:?}\nlog_dir = {log:?}\n[log]\nsegment_size = \"1MiB\"\n");
    std::fs::write(&config, text).unwrap();
    let args = ["--config", config.to_str().unwrap()];
    let daemon = store.start_with(&args);
    store.ctl(&["user", "add", "joe"]).expect(0);
    assert_eq!(session(&store).deliver(&["joe"], b"1\r\n"), [STORED]);
    daemon.kill();
    disk.hangs(true);
    let mut daemon = store.spawn(&args);
    // It goes first, also if the test fails: a process that waits for it cannot end.
    let disk = disk;
    until("the door is open", || std::os::unix::net::UnixStream::connect(store.data.join("lmtp.sock")).ok());
    let mut lmtp = session(&store);
    assert_eq!(lmtp.begin(&["joe"]), ["451 4.3.2 the store recovers; try again later"]);
    disk.hangs(false);
    daemon.wait_ready();
    until("it is taken", || lmtp.ask("RCPT TO:<joe>").starts_with("250").then_some(()));
    assert!(lmtp.ask("DATA").starts_with("354 "));
    lmtp.send(b"2\r\n.\r\n");
    assert_eq!(lmtp.reply(), STORED);
    assert_eq!(uids(&store, "user/joe/INBOX"), [1, 2]);
    drop(daemon);
}

// B14: a port of this host alone
#[test]
fn a_port_is_served_if_only_this_host_reaches_it() {
    let store = TestStore::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _daemon = configured(&store, &format!("socket = \"\"\nlisten = \"{free}\"\nmax_sessions = 1"));
    assert!(!store.data.join("lmtp.sock").exists());
    store.ctl(&["user", "add", "joe"]).expect(0);
    let mut lmtp = Lmtp::tcp(free);
    assert_eq!(lmtp.deliver(&["joe"], b"x\r\n"), [STORED]);
    let mut refused = String::new();
    std::io::Read::read_to_string(&mut std::net::TcpStream::connect(free).unwrap(), &mut refused).unwrap();
    assert_eq!(refused, "421 4.3.2 too many sessions; try again later\r\n");
    assert!(lmtp.ask("QUIT").starts_with("221 "));

    let bad = store.beside("bad.toml");
    for (text, named) in [
        ("listen = \"0.0.0.0:24\"", "lmtp.listen: other hosts reach 0.0.0.0:24"),
        ("listen = \"24\"", "lmtp.listen: found \"24\""),
        ("delimiter = \"ab\"", "lmtp.delimiter: found \"ab\""),
        ("over_quota = \"drop\"", "lmtp.over_quota"),
    ] {
        std::fs::write(&bad, format!("[lmtp]\n{text}\n")).unwrap();
        let said = store.storedd(&["--config", bad.to_str().unwrap(), "--check-config"]);
        assert_eq!(said.status, 78, "{said:?}");
        assert!((said.out.clone() + &said.err).contains(named), "{said:?}");
    }
    let _: SocketAddr = free;
}

// Hostile clients: nothing of them is stored, and a good one is served beside them.
#[test]
fn hostile_sessions_cost_only_themselves() {
    let store = TestStore::new();
    let _daemon = configured(&store, "max_sessions = 60");
    store.ctl(&["user", "add", "joe"]).expect(0);
    let _silent: Vec<_> = (0..50).map(|_| session(&store)).collect();
    let mut smuggler = session(&store);
    smuggler.begin(&["joe"]);
    assert!(smuggler.ask("DATA").starts_with("354 "));
    let smuggled = b"x\r\n\n.\r\nMAIL FROM:<evil@x>\r\nRCPT TO:<joe>\r\nDATA\r\nsmuggled\r\n\r.\r\n\n.\nQUIT\r\n";
    smuggler.send(smuggled);
    smuggler.send(b".\r\n");
    assert_eq!(smuggler.reply(), STORED);
    assert_eq!(only(&store, "user/joe/INBOX"), with_sender(smuggled), "one message, as it came");

    for bad in [&b"NOOP\nNOOP\r\n"[..], &b"x".repeat(100_000), b"\0\0\0\r\n\n"] {
        let mut lmtp = session(&store);
        lmtp.send(bad);
        let mut last = lmtp.reply();
        assert!(last.starts_with("500 5.5."), "{last}");
        while !last.is_empty() {
            last = lmtp.reply();
            assert!(last.is_empty() || last.starts_with("500 5.5.2 "), "{last}");
        }
    }
    let mut lmtp = session(&store);
    assert_eq!(lmtp.deliver(&["joe"], b"x\r\n"), [STORED]);
    assert_eq!(uids(&store, "user/joe/INBOX").len(), 2);
}
