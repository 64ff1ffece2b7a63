//! Messages through the built programs: in, listed, read, in files that any tool reads.

use crate::harness::TestStore;
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A message of about so many bytes that is no text throughout.
fn message(subject: &str, bytes: usize) -> Vec<u8> {
    let mut all = format!("Subject: {subject}\r\nFrom: joe@example.org\r\n\r\n").into_bytes();
    let mut n = 0u32;
    while all.len() < bytes {
        all.extend_from_slice(&n.wrapping_mul(2_654_435_761).to_le_bytes());
        n += 1;
    }
    all
}

fn deliver(store: &TestStore, args: &[&str], message: &[u8]) -> Value {
    let all: Vec<&str> = ["--json", "message", "deliver"].iter().chain(args).copied().collect();
    store.ctl_with(&all, Some(message)).expect(0).json()
}

/// The bytes that `message show --raw` gives.
fn raw(store: &TestStore, mailbox: &str, uid: u64) -> Vec<u8> {
    let out = Command::new(env!("CARGO_BIN_EXE_storectl"))
        .arg("--data-dir")
        .arg(&store.data)
        .args(["message", "show", mailbox, &uid.to_string(), "--raw"])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
    out.stdout
}

/// Every message file below the store, with its bytes.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "msg") {
            found.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

fn usage(store: &TestStore, root: &str) -> (u64, u64) {
    let quota = store.json(&["quota", "get", root]);
    (quota["storage"]["usage"].as_u64().unwrap(), quota["messages"]["usage"].as_u64().unwrap())
}

// rows 46, 117: what was delivered is listed and read at once, from the log; after a checkpoint from a plain file; after a kill too
#[test]
fn a_message_goes_in_and_comes_out_byte_for_byte() {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe@example.org"]).expect(0);
    let inbox = "user/joe@example.org/INBOX";
    // Empty, short, with a header alone, as long as a record takes, longer than that, longer than a request.
    let sizes = [60, 4 << 10, 64 << 10, (64 << 10) + 1, 3 << 20];
    let mut sent = vec![Vec::new(), b"no header end".to_vec()];
    sent.extend(sizes.iter().map(|bytes| message("any", *bytes)));
    for (n, bytes) in sent.iter().enumerate() {
        let date = ["--flags", "\\seen $Work", "--internal-date", "2026-01-02T03:04:05Z"];
        let args: Vec<&str> = if n == 0 { vec![inbox] } else { [&[inbox][..], &date[..]].concat() };
        let done = deliver(&store, &args, bytes);
        assert_eq!(done[0]["uid"], json!(n + 1), "{done}");
        assert_eq!((&done[0]["mailbox"], &done[0]["size"]), (&json!(inbox), &json!(bytes.len())));
        assert_eq!(done[0]["digest"].as_str().unwrap().len(), 64);
    }
    let all_back = |store: &TestStore| {
        let list = store.json(&["message", "list", inbox]);
        let list = list.as_array().unwrap();
        assert_eq!(list.len(), sent.len());
        for (line, bytes) in list.iter().zip(&sent) {
            assert_eq!(line["size"], json!(bytes.len()));
            assert_eq!(raw(store, inbox, line["uid"].as_u64().unwrap()), *bytes);
        }
        assert_eq!(list[1]["flags"], json!(["\\Seen", "$Work"]));
        assert_eq!(list[1]["internal_date"], "2026-01-02T03:04:05.000000Z");
        assert_eq!(list[0]["flags"], json!([]));
        let bytes: usize = sent.iter().map(Vec::len).sum();
        let shown = store.json(&["mailbox", "show", inbox]);
        assert_eq!((&shown["messages"], &shown["bytes"]), (&json!(sent.len()), &json!(bytes)));
        assert_eq!((&shown["unseen"], &shown["uidnext"]), (&json!(1), &json!(sent.len() + 1)));
        assert_eq!(usage(store, "joe@example.org"), (bytes as u64, sent.len() as u64));
    };
    all_back(&store);
    let short = |found: &[(PathBuf, Vec<u8>)]| found.iter().filter(|(_, b)| b.len() <= 64 << 10).count();
    assert_eq!(short(&files(&store.data)), 0, "short ones are in the log and nowhere else");
    daemon.kill();
    let daemon = store.start();
    all_back(&store);
    store.ctl(&["checkpoint"]).expect(0);
    all_back(&store);
    let mut found: Vec<_> = files(&store.data).into_iter().map(|(_, bytes)| bytes).collect();
    found.sort();
    let mut expected = sent.clone();
    expected.sort();
    assert_eq!(found, expected, "one plain file each, and none left on its way in");
    daemon.kill();
    let daemon = store.start();
    all_back(&store);
    let shown = store.ctl(&["message", "show", inbox, "3"]).expect(0).out;
    assert!(shown.contains("uid") && shown.contains("Subject: any"), "{shown}");
    assert_eq!(daemon.stop(), 0);
    let _daemon = store.start();
    all_back(&store);
    let dump = store.json(&["log", "dump"]);
    assert!(!dump.to_string().contains("Subject"), "a dump holds no content");
    store.ctl(&["log", "verify"]).expect(0);
}

// rows 46, 117: several mailboxes share one file; who is unknown, what is not there, what is full refuses all of it
#[test]
fn several_mailboxes_share_one_stored_copy() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["user", "add", "ann", "--quota", "10000"]).expect(0);
    store.ctl(&["mailbox", "create", "shared/news"]).expect(0);
    let boxes = ["user/joe/INBOX", "user/ann/INBOX", "shared/news", "user/joe/INBOX"];
    let text = message("for all", 5000);
    let done = deliver(&store, &boxes, &text);
    let uids: Vec<_> = done.as_array().unwrap().iter().map(|d| d["uid"].as_u64().unwrap()).collect();
    assert_eq!(uids, [1, 1, 1, 2]);
    let long = message("long and for two", 100_000);
    let done = deliver(&store, &["user/joe/INBOX", "shared/news"], &long);
    assert_eq!((&done[0]["uid"], &done[1]["uid"]), (&json!(3), &json!(2)));

    let refused = |boxes: &[&str], text: &[u8], status: i32, word: &str| {
        let before = store.json(&["mailbox", "list"]);
        let all: Vec<&str> = ["message", "deliver"].iter().chain(boxes).copied().collect();
        let run = store.ctl_with(&all, Some(text)).expect(status);
        assert!(run.err.contains(word), "{run:?}");
        assert_eq!(store.json(&["mailbox", "list"]), before, "all or none");
    };
    refused(&["user/joe/INBOX", "user/bob/INBOX"], &text, 67, "no such user: bob");
    refused(&["user/joe/INBOX", "user/joe/Lost"], &text, 68, "no such mailbox: user/joe/Lost");
    refused(&["user/joe/INBOX", "user/ann/INBOX"], &message("much", 5001), 75, "user/ann over its limit");
    refused(&["user/joe/INBOX", "user/ann/INBOX"], &long, 75, "user/ann over its limit");
    refused(&["a\u{7}b"], &text, 65, "bad mailbox name");
    store.ctl_with(&["message", "deliver", "user/joe/INBOX", "--flags", "\\Nope"], Some(b"x")).expect(65);
    store.ctl(&["message", "show", "user/joe/INBOX", "9"]).expect(68);
    assert_eq!(usage(&store, "ann"), (text.len() as u64, 1));

    store.ctl(&["checkpoint"]).expect(0);
    let found = files(&store.data);
    let inodes: std::collections::BTreeSet<_> = found.iter().map(|(path, _)| path.metadata().unwrap().ino()).collect();
    assert_eq!((found.len(), inodes.len()), (6, 2), "{found:?}");
    for (mailbox, uid, bytes) in [("user/ann/INBOX", 1, &text), ("user/joe/INBOX", 2, &text), ("shared/news", 2, &long)]
    {
        assert_eq!(raw(&store, mailbox, uid), *bytes);
    }
}

fn uids(store: &TestStore, args: &[&str]) -> Vec<u64> {
    let all: Vec<&str> = ["message", "list"].iter().chain(args).copied().collect();
    store.json(&all).as_array().unwrap().iter().map(|m| m["uid"].as_u64().unwrap()).collect()
}

// rows 117, 119, 130: flags, expunge, copy, move and undelete, before a checkpoint and after it, and after a kill
#[test]
fn messages_change_move_and_come_back() {
    let store = TestStore::new();
    let mut daemon = store.start();
    store.ctl(&["user", "add", "joe", "--quota", "20000"]).expect(0);
    store.ctl(&["mailbox", "create", "user/joe/Work"]).expect(0);
    let (inbox, work) = ("user/joe/INBOX", "user/joe/Work");
    let texts: Vec<Vec<u8>> = (0..5).map(|n| message(&format!("number {n}"), 1000 + n)).collect();
    texts.iter().for_each(|text| drop(deliver(&store, &[inbox], text)));
    let settle = |daemon: crate::harness::Daemon, how: usize| match how {
        0 => daemon,
        1 => {
            store.ctl(&["checkpoint"]).expect(0);
            daemon
        }
        _ => {
            daemon.kill();
            store.start()
        }
    };
    // Rounds with everything in memory, in files, and after a kill.
    for how in 0..3 {
        daemon = settle(daemon, how);
        let flags = |uid: usize| store.json(&["message", "list", inbox])[uid - 1]["flags"].clone();
        store.ctl(&["message", "flags", inbox, "1,2", "--add", "\\Seen", "--add", "$Work"]).expect(0);
        let same = store.ctl(&["message", "flags", inbox, "1,2", "--add", "\\seen"]).expect(0);
        assert!(same.out.starts_with("nothing to change"), "{same:?}");
        assert_eq!((flags(1), flags(3)), (json!(["\\Seen", "$Work"]), json!([])));
        assert_eq!(store.json(&["mailbox", "show", inbox])["unseen"], 3);
        store.ctl(&["message", "flags", inbox, "1,2", "--remove", "$Work", "--remove", "\\Seen"]).expect(0);
        assert_eq!((flags(1), store.json(&["mailbox", "show", inbox])["unseen"].clone()), (json!([]), json!(5)));

        let before = usage(&store, "joe");
        daemon = settle(daemon, how);
        store.ctl(&["message", "expunge", inbox, "2,4"]).expect(0);
        store.ctl(&["message", "expunge", inbox, "2"]).expect(68);
        store.ctl(&["message", "flags", inbox, "2", "--add", "\\Seen"]).expect(68);
        assert_eq!(uids(&store, &[inbox]), [1, 3, 5]);
        assert_eq!(uids(&store, &[inbox, "--expunged"]), [2, 4]);
        assert_eq!(usage(&store, "joe").1, before.1 - 2, "what is expunged does not count");
        daemon = settle(daemon, how);
        assert_eq!(raw(&store, inbox, 4), texts[3], "until it is purged it is there");
        store.ctl(&["mailbox", "undelete", inbox, "--uid", "4"]).expect(0);
        store.ctl(&["mailbox", "undelete", inbox, "--uid", "4"]).expect(68);
        store.ctl(&["mailbox", "undelete", inbox]).expect(0);
        assert_eq!((uids(&store, &[inbox]), usage(&store, "joe")), (vec![1, 2, 3, 4, 5], before));

        daemon = settle(daemon, how);
        let next = store.json(&["mailbox", "show", work])["uidnext"].as_u64().unwrap();
        let copied = store.json(&["message", "copy", inbox, "1,3", work]);
        assert_eq!(copied[0]["uid"], json!(next), "{copied}");
        let moved = store.json(&["message", "move", work, &next.to_string(), work]);
        assert_eq!(moved[0]["uid"], json!(next + 2), "a new UID in the same mailbox");
        assert_eq!(uids(&store, &[work]), [next + 1, next + 2]);
        daemon = settle(daemon, how);
        assert_eq!((raw(&store, work, next + 2), raw(&store, work, next + 1)), (texts[0].clone(), texts[2].clone()));
        store.ctl(&["message", "expunge", work, &format!("{},{}", next + 1, next + 2)]).expect(0);

        // A mailbox that is deleted comes back with everything.
        daemon = settle(daemon, how);
        store.ctl(&["message", "copy", inbox, "5", work]).expect(0);
        let shown = store.json(&["mailbox", "show", work]);
        store.ctl(&["mailbox", "delete", work, "--yes"]).expect(0);
        store.ctl(&["message", "list", work]).expect(68);
        assert_eq!(usage(&store, "joe"), before);
        daemon = settle(daemon, how);
        store.ctl(&["mailbox", "undelete", work]).expect(0);
        assert_eq!(store.json(&["mailbox", "show", work]), shown, "same id, UIDVALIDITY, UIDs, path");
        assert_eq!(raw(&store, work, next + 3), texts[4]);
        store.ctl(&["mailbox", "rename", work, "user/joe/Other"]).expect(0);
        daemon = settle(daemon, how);
        assert_eq!(raw(&store, "user/joe/Other", next + 3), texts[4]);
        store.ctl(&["mailbox", "rename", "user/joe/Other", work]).expect(0);
        store.ctl(&["message", "expunge", work, &(next + 3).to_string()]).expect(0);
        assert_eq!(usage(&store, "joe"), before);
        assert_eq!(store.json(&["quota", "recalc"]), json!([]), "I9");
    }
    // Undelete asks the quota again.
    store.ctl(&["message", "expunge", inbox, "1,2,3,4,5"]).expect(0);
    deliver(&store, &[inbox], &message("much", 18_000));
    let full = store.ctl(&["mailbox", "undelete", inbox]).expect(75);
    assert!(full.err.contains("over its limit"), "{full:?}");
    store.ctl(&["mailbox", "undelete", inbox, "--uid", "1"]).expect(0);
    drop(daemon);
}

// row B9: an index is read once for many messages that are asked for, and again when anybody has written to it; damage that came later is found
// by a check, and shown to nobody
#[test]
fn an_index_is_read_once_and_never_served_when_its_file_is_another() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    let inbox = "user/joe/INBOX";
    for n in 0..30 {
        deliver(&store, &[inbox], &message(&format!("number {n}"), 200));
    }
    store.ctl(&["checkpoint"]).expect(0);
    // What was written a moment ago is not believed to stay as it is.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let count = |name: &str| crate::numbers::value(&crate::numbers::metrics(&store), name);
    let shown = || (1..=30).map(|uid| raw(&store, inbox, uid)).collect::<Vec<_>>();
    let before = count("storedd_index_cache_read_total");
    let all = shown();
    assert!(count("storedd_index_cache_read_total") - before <= 2.0);
    assert!(count("storedd_index_cache_found_total") >= 28.0 && count("storedd_index_cache_bytes") > 3000.0);
    // A change shows at once, from memory; after a checkpoint from a file that was read again.
    store.ctl(&["message", "flags", inbox, "7", "--add", "\\Flagged"]).expect(0);
    let flags = || store.json(&["message", "show", inbox, "7"])["flags"].clone();
    assert_eq!(flags(), json!(["\\Flagged"]));
    store.ctl(&["checkpoint"]).expect(0);
    assert_eq!(flags(), json!(["\\Flagged"]));
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(shown(), all);
    let index = crate::check::named(&store.data.join("partition/primary"), "store.idx").pop().unwrap();
    let mut bytes = std::fs::read(&index).unwrap();
    bytes[300] ^= 8;
    std::fs::write(&index, bytes).unwrap();
    let found = store.ctl(&["--json", "check", inbox]).expect(1).json();
    assert_eq!(found["findings"][0]["what"], "index damaged", "{found}");
    assert_eq!(shown(), all);
    assert_eq!(flags(), json!(["\\Flagged"]));
}

// rows B20, I6: the INBOX that a user got who was added again was in the way of the one that he had
#[test]
fn a_user_who_was_deleted_by_mistake_gets_his_mail_back() {
    let store = TestStore::new();
    let mut daemon = store.start();
    let (inbox, work) = ("user/joe/INBOX", "user/joe/Work");
    store.ctl(&["user", "add", "joe", "--quota", "1MiB"]).expect(0);
    store.ctl(&["mailbox", "create", work]).expect(0);
    for name in [inbox, work, work] {
        store.ctl_with(&["message", "deliver", name], Some(b"Subject: one\r\n\r\nOne.\r\n")).expect(0);
    }
    store.ctl(&["message", "flags", work, "2", "--add", "\\Flagged"]).expect(0);
    store.ctl(&["message", "expunge", work, "1"]).expect(0);
    let seen = || {
        [inbox, work].map(|name| {
            let shown = store.json(&["mailbox", "show", name]);
            let numbers = ["id", "uidnext", "messages", "bytes"].map(|field| shown[field].clone());
            (numbers, store.json(&["message", "list", name]), store.json(&["message", "list", name, "--expunged"]))
        })
    };
    let before = seen();
    let uidvalidity = |name: &str| store.json(&["mailbox", "show", name])["uidvalidity"].as_u64().unwrap();
    for is_settled in [false, true] {
        let was = [inbox, work].map(uidvalidity);
        store.ctl(&["user", "delete", "joe", "--yes"]).expect(0);
        if is_settled {
            store.ctl(&["checkpoint"]).expect(0);
        }
        store.ctl(&["user", "add", "joe"]).expect(0);
        for name in [inbox, work] {
            store.ctl(&["mailbox", "undelete", name]).expect(0);
        }
        assert_eq!(seen(), before);
        // The name stood for another mailbox meanwhile.
        let now = [inbox, work].map(uidvalidity);
        assert!(now[0] > was[0] && now[1] == was[1], "{was:?}, {now:?}");
        daemon.kill();
        daemon = store.start();
        assert_eq!(seen(), before, "after a kill");
        assert_eq!(store.json(&["quota", "recalc"]), json!([]), "I9");
    }
    // One that has had mail stays where it is: expunged messages of it come back.
    store.ctl(&["user", "delete", "joe", "--yes"]).expect(0);
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl_with(&["message", "deliver", inbox], Some(b"Subject: two\r\n\r\nTwo.\r\n")).expect(0);
    let now = store.json(&["mailbox", "show", inbox]);
    store.ctl(&["mailbox", "undelete", inbox]).expect(0);
    assert_eq!(store.json(&["mailbox", "show", inbox]), now);
    store.ctl(&["checkpoint"]).expect(0);
    store.ctl(&["check", "--all", "--deep"]).expect(0);
}
