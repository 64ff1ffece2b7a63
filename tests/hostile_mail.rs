//! Mail and names that mean harm, and partitions in which somebody has planted links: a clear answer, bounded memory, nothing stored but
//! what was said, nothing read or written elsewhere.

use crate::harness::lmtp::{Lmtp, stuffed};
use crate::harness::{Daemon, TestStore, until};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

const INBOX: &str = "user/joe/INBOX";

/// The most memory that the daemon ever had, in KiB.
fn peak(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn raw(store: &TestStore, mailbox: &str, uid: usize) -> (i32, Vec<u8>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_storectl"));
    command.arg("--data-dir").arg(&store.data).args(["message", "show", mailbox, &uid.to_string(), "--raw"]);
    let done = command.env_remove("STOREDD_SOCKET").output().unwrap();
    (done.status.code().unwrap(), done.stdout)
}

fn session(store: &TestStore) -> Lmtp {
    Lmtp::unix(&store.data.join("lmtp.sock"))
}

/// Messages that have hurt others.
fn hostile() -> Vec<Vec<u8>> {
    let part = b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n";
    let parts = [b"Content-Type: multipart/mixed; boundary=b\r\n\r\n".to_vec(), part.repeat(10_000)].concat();
    let addresses = [b"To: ".to_vec(), b"a@b.example, ".repeat(100_000), b"\r\n\r\nx\r\n".to_vec()].concat();
    let headers = [b"X: y\r\n".repeat(200_000), b"\r\nx\r\n".to_vec()].concat();
    vec![
        b"\0\0\0\r\n\0\r\n".to_vec(),
        b"Subject: a\rb\nc\r\r\n\n\r\n.\rx\n.\n..\r\n".to_vec(),
        b"\r\n".to_vec(),
        b"no header, no end of it\r\n".to_vec(),
        vec![0xff; 5000].into_iter().chain(*b"\r\n").collect(),
        parts,
        addresses,
        headers,
    ]
}

// S12, B14, row 46: every byte is kept, whatever it says, through each door
#[test]
fn hostile_messages_are_bytes_like_others() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    let mut expected = Vec::new();
    for message in hostile() {
        store.ctl_with(&["message", "deliver", INBOX], Some(&message)).expect(0);
        expected.push(message.clone());
        let reply = session(&store).deliver(&["joe"], &message).remove(0);
        assert!(reply.starts_with("250 "), "{reply}");
        expected.push([b"Return-Path: <sender@example.net>\r\n", &message[..]].concat());
    }
    for when in ["from the log", "from files"] {
        for (n, bytes) in expected.iter().enumerate() {
            assert!(raw(&store, INBOX, n + 1) == (0, bytes.clone()), "{when}: message {}", n + 1);
            store.ctl(&["message", "show", INBOX, &(n + 1).to_string()]).expect(0);
        }
        store.ctl(&["checkpoint"]).expect(0);
    }
    assert_eq!(store.json(&["message", "list", INBOX]).as_array().unwrap().len(), expected.len());
}

// S12, B14, row 46: a header line of 100 MB goes to a file piece by piece, and takes no memory on its way
#[test]
fn a_line_of_100_megabytes_takes_no_memory() {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl_with(&["message", "deliver", INBOX], Some(b"first\r\n")).expect(0);
    let before = peak(&daemon);
    let message = [b"Subject: ".to_vec(), vec![b'a'; 100_000_000], b"\r\n".to_vec()].concat();
    store.ctl_with(&["message", "deliver", INBOX], Some(&message)).expect(0);
    let mut lmtp = session(&store);
    assert!(lmtp.begin(&["joe"]).iter().all(|reply| reply.starts_with("250 ")));
    assert!(lmtp.ask("DATA").starts_with("354 "));
    for piece in stuffed(&message).chunks(1 << 20) {
        lmtp.send(piece);
    }
    let reply = lmtp.reply();
    assert!(reply.starts_with("250 "), "{reply}");
    store.ctl(&["checkpoint"]).expect(0);
    let grown = peak(&daemon) - before;
    assert!(grown < 48 << 10, "{grown} KiB more");
    let list = store.json(&["message", "list", INBOX]);
    assert_eq!(list[1]["size"], message.len() as u64, "{list}");
    assert_eq!(list[2]["size"], message.len() as u64 + 35, "{list}");
}

/// Everything below a directory: names, what they are, bytes.
fn tree(dir: &Path) -> Vec<(PathBuf, String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
        let bytes = if kind.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        found.push((path.clone(), format!("{kind:?}"), bytes));
        if kind.is_dir() {
            found.extend(tree(&path));
        }
    }
    found.sort();
    found
}

// S7: names are names: none becomes a path, none is another one
#[test]
fn hostile_names_lead_nowhere() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    let long = "x".repeat(5000);
    let before = store.json(&["mailbox", "list"]);
    let mut lmtp = session(&store);
    for name in [
        "../joe",
        "joe/../joe",
        "/etc/passwd",
        "..",
        ".",
        "~",
        "joe%00",
        "%2e%2e/joe",
        "=joe~1",
        "*",
        "user/joe/INBOX",
        &long[..200],
    ] {
        for user in [name.to_owned(), format!("{name}@example.org")] {
            lmtp.ask("MAIL FROM:<sender@example.net>");
            let reply = lmtp.ask(&format!("RCPT TO:<{user}>"));
            assert!(reply.starts_with('5'), "{user}: {reply}");
            lmtp.ask("RSET");
        }
    }
    for name in [
        "user/joe/../ann",
        "user/joe/./x",
        "user/../joe/INBOX",
        "/etc/passwd",
        "user/joe//x",
        "user/joe/a\u{1}b",
        "user/joe/%",
        "user/joe/*",
        "../../x",
        "user/joe",
        "",
        &format!("user/joe/{long}"),
    ] {
        for words in [&["message", "deliver", name][..], &["mailbox", "create", name], &["message", "list", name]] {
            let run = store.ctl_with(words, Some(b"text\r\n"));
            assert!([64, 65, 67, 68].contains(&run.status), "{words:?}: {run:?}");
        }
    }
    assert_eq!(store.json(&["mailbox", "list"]), before, "nothing was made");
    assert_eq!(store.json(&["message", "list", INBOX]).as_array().unwrap().len(), 0);
}

/// A store with a message of two users that has its files, and a directory outside with a secret.
fn with_outside() -> (TestStore, Daemon, PathBuf, [PathBuf; 2]) {
    let store = TestStore::new();
    let daemon = store.start();
    let homes = ["joe", "ann"].map(|user| {
        store.ctl(&["user", "add", user]).expect(0);
        store.ctl_with(&["message", "deliver", &format!("user/{user}/INBOX")], Some(b"mine\r\n")).expect(0);
        PathBuf::from(store.ctl(&["hashdir", "--absolute", user]).expect(0).out.trim())
    });
    store.ctl(&["checkpoint"]).expect(0);
    let outside = store.beside("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), b"mine\r\n").unwrap();
    std::fs::write(outside.join("1.msg"), b"mine\r\n").unwrap();
    (store, daemon, outside, homes)
}

/// The only mailbox of a home.
fn mailbox(home: &Path) -> PathBuf {
    let mut dirs = std::fs::read_dir(home).unwrap().map(|entry| entry.unwrap().path());
    dirs.find(|path| path.is_dir()).unwrap()
}

/// Puts a link in the place of something.
fn linked(place: &Path, to: &Path) {
    std::fs::rename(place, place.with_extension("was")).unwrap();
    symlink(to, place).unwrap();
}

/// With a link in the place of what `which` finds in joe's home: nothing behind it is written, and when it is gone all mail is there.
fn link_leads_nowhere(which: &str, place: impl Fn(&Path) -> PathBuf, target: &str) {
    let (store, daemon, outside, [joe, _]) = with_outside();
    let before = tree(&outside);
    linked(&place(&joe), &outside.join(target));
    let shown = raw(&store, INBOX, 1);
    assert!(shown.0 != 0 && shown.1.is_empty() || shown == (0, b"mine\r\n".to_vec()), "{which}: {shown:?}");
    for n in 0..3 {
        // It may be taken (it stands in the log), or refused; it goes nowhere else.
        let run = store.ctl_with(&["message", "deliver", INBOX], Some(format!("more {n}\r\n").as_bytes()));
        assert!([0, 75].contains(&run.status), "{which}: {run:?}");
        store.ctl(&["checkpoint"]);
    }
    for words in [
        &["message", "list", INBOX][..],
        &["message", "flags", INBOX, "1", "--add", "\\Seen"],
        &["message", "expunge", INBOX, "2"],
    ] {
        let run = store.ctl(words);
        assert!(run.status != 70, "{which}: {run:?}");
    }
    store.ctl(&["checkpoint"]);
    assert_eq!(tree(&outside), before, "{which}");
    // It is the matter of that home alone.
    assert_eq!(raw(&store, "user/ann/INBOX", 1), (0, b"mine\r\n".to_vec()), "{which}");
    assert_eq!(store.json(&["partition", "show", "primary"])["state"], "ok", "{which}");
    store.ctl(&["health"]).expect(0);
    daemon.kill();
    let _daemon = store.start();
    assert_eq!(tree(&outside), before, "{which}: after a start");
    let place = place(&joe);
    if std::fs::symlink_metadata(&place).is_ok_and(|found| found.is_symlink()) {
        std::fs::remove_file(&place).unwrap();
        std::fs::rename(place.with_extension("was"), &place).unwrap();
    } else if place.with_extension("was").is_dir() {
        // It went on without what lay there, whose files are put back where they are missing.
        put_back(&place.with_extension("was"), &place);
    }
    until(&format!("{which}: all is read again"), || {
        store.ctl(&["checkpoint"]);
        let mine = (0, b"mine\r\n".to_vec());
        (raw(&store, INBOX, 1) == mine && raw(&store, "user/ann/INBOX", 1) == mine).then_some(())
    });
    assert_eq!(tree(&outside), before, "{which}: when all is well again");
}

/// Moves the files below a directory to where they are missing.
fn put_back(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, place) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        match path.is_dir() {
            true => put_back(&path, &place),
            false if place.exists() => {}
            false => std::fs::rename(&path, &place).unwrap(),
        }
    }
}

// S9: symbolic links in a partition
#[test]
fn links_in_a_partition_lead_nowhere() {
    /// The place below a home.
    type Below = fn(&Path) -> PathBuf;
    let places: [(&str, Below, &str); 5] = [
        ("home", |home| home.to_owned(), ""),
        ("mailbox", |home| mailbox(home), ""),
        ("group", |home| mailbox(home).join("00"), ""),
        ("message", |home| mailbox(home).join("00/1.msg"), "secret"),
        ("index", |home| mailbox(home).join("store.idx"), "secret"),
    ];
    for (which, place, target) in places {
        link_leads_nowhere(which, place, target);
    }
}
