//! Mail comes in from Maildir and mbox, and goes out, through the built programs.

use crate::harness::TestStore;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

fn corpus() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mail/eml");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 50);
    paths
}

/// A Maildir++ with the real messages, in three folders, with flags, keywords and dates.
fn maildir(dir: &Path) {
    for folder in ["", ".My Folder", ".Entw&APw-rfe.2026"] {
        for name in ["cur", "new", "tmp"] {
            std::fs::create_dir_all(dir.join(folder).join(name)).unwrap();
        }
        std::fs::write(dir.join(folder).join("dovecot-keywords"), "0 $Work\n1 later\n").unwrap();
    }
    for (n, path) in corpus().iter().enumerate() {
        let folder = ["", ".My Folder", ".Entw&APw-rfe.2026"][n % 3];
        let flags = [":2,", ":2,S", ":2,FRSa", ":2,DTab"][n % 4];
        let to = dir.join(folder).join("cur").join(format!("{}.M{n}.mx{flags}", 1_000_000_000 + n));
        std::fs::copy(path, &to).unwrap();
        let time = UNIX_EPOCH + Duration::from_micros(1_000_000_000_000_000 + n as u64 * 86_400_000_007);
        std::fs::File::options().write(true).open(&to).unwrap().set_modified(time).unwrap();
    }
    std::fs::write(dir.join("subscriptions"), "V\t2\n\nEntw&APw-rfe\t2026\n").unwrap();
}

/// Digests, flags and dates of every mailbox of a user.
fn contents(store: &TestStore, user: &str) -> BTreeMap<String, Vec<(String, String, String)>> {
    let mailboxes = store.json(&["mailbox", "list", &format!("user/{user}/*")]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |name: &str| {
        let list = store.json(&["message", "list", name]);
        let one = |m: &Value| {
            let mut flags: Vec<String> = m["flags"].as_array().unwrap().iter().map(text).collect();
            flags.sort();
            (text(&m["digest"]), flags.join(" "), text(&m["internal_date"]))
        };
        let mut all: Vec<_> = list.as_array().unwrap().iter().map(one).collect();
        all.sort();
        all
    };
    let name = |mailbox: &Value| text(&mailbox["name"]);
    mailboxes.as_array().unwrap().iter().map(|m| (name(m).replacen(user, "U", 1), of(&name(m)))).collect()
}

/// Every file of a Maildir by its folder and bytes, with flags and date.
fn files(dir: &Path) -> Vec<(String, Vec<u8>, String, u128)> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let folder = entry.unwrap().file_name().into_string().unwrap();
        let cur = if folder == "cur" { dir.join("cur") } else { dir.join(&folder).join("cur") };
        if folder != "cur" && !folder.starts_with('.') {
            continue;
        }
        for message in std::fs::read_dir(&cur).unwrap() {
            let message = message.unwrap();
            let name = message.file_name().into_string().unwrap();
            let flags = name.split(":2,").nth(1).unwrap().to_owned();
            let time = message.metadata().unwrap().modified().unwrap().duration_since(UNIX_EPOCH).unwrap();
            out.push((folder.clone(), std::fs::read(message.path()).unwrap(), flags, time.as_micros()));
        }
    }
    out.sort();
    out
}

// row B18: the corpus goes in and comes out byte for byte, with flags, keywords, dates and folders; a second run changes nothing
// A folder whose name no file system takes ended the export: those behind it did not come.
#[test]
fn a_folder_with_a_name_too_long_for_a_maildir_is_named_and_the_others_come() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    let long = format!("user/joe/{}/{}", "a".repeat(200), "b".repeat(100));
    for name in [&*long, "user/joe/z"] {
        store.ctl(&["mailbox", "create", name]).expect(0);
        store.ctl_with(&["message", "deliver", name], Some(b"Subject: x\r\n\r\nhello\r\n")).expect(0);
    }
    let to = store.beside("out");
    let done = store.ctl(&["--json", "export", "maildir", to.to_str().unwrap(), "--user", "joe"]).expect(1);
    let told: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(told["refused"].as_array().unwrap().len(), 1, "{told}");
    assert_eq!((told["refused"][0]["source"].as_str(), told["messages"].as_u64()), (Some(&*long), Some(1)), "{told}");
    assert_eq!(to.join(".z/cur").read_dir().unwrap().count(), 1);
}

#[test]
fn a_maildir_goes_in_and_comes_out() {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe@example.org"]).expect(0);
    let (from, to) = (store.beside("in"), store.beside("out"));
    maildir(&from);
    let count = corpus().len();
    let import = ["import", "maildir", from.to_str().unwrap(), "--user", "joe@example.org"];
    let dry = store.json(&[&import[..], &["--dry-run"]].concat());
    assert_eq!((dry["messages"].as_u64(), dry["dry_run"].as_bool()), (Some(count as u64), Some(true)));
    let said = store.json(&import);
    assert_eq!((said["messages"].as_u64(), said["unchanged"].as_u64()), (Some(count as u64), Some(0)), "{said}");
    let names = ["user/joe@example.org/Entw\u{fc}rfe/2026", "user/joe@example.org/My Folder"];
    assert_eq!(said["mailboxes"], serde_json::json!(names));
    let before = contents(&store, "joe@example.org");
    assert_eq!(before.values().map(Vec::len).sum::<usize>(), count);
    daemon.kill();

    let _daemon = store.start();
    let again = store.json(&import);
    assert_eq!((again["messages"].as_u64(), again["unchanged"].as_u64()), (Some(0), Some(count as u64)), "{again}");
    assert_eq!(contents(&store, "joe@example.org"), before);
    assert_eq!(store.json(&["subscriptions", "joe@example.org"]), serde_json::json!([names[0]]));

    let export = ["export", "maildir", to.to_str().unwrap(), "--user", "joe@example.org"];
    assert_eq!(store.json(&export)["messages"].as_u64(), Some(count as u64));
    assert!(files(&from) == files(&to), "bytes, flags and dates");
    assert_eq!(store.json(&export)["unchanged"].as_u64(), Some(count as u64));
    assert!(files(&from) == files(&to));

    store.ctl(&["user", "add", "ann"]).expect(0);
    store.ctl(&["import", "maildir", to.to_str().unwrap(), "--user", "ann"]).expect(0);
    assert_eq!(contents(&store, "ann"), before);
}

// row B18: the same by way of an mbox, in each dialect that can say it
#[test]
fn an_mbox_goes_in_and_comes_out() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    for (n, path) in corpus().iter().enumerate() {
        let date = format!("2026-01-01T00:{:02}:00Z", n % 60);
        let flags = if n % 2 == 0 { "\\Seen $Work" } else { "\\Flagged" };
        let deliver = ["message", "deliver", "user/joe/INBOX", "--flags", flags, "--internal-date", &date];
        store.ctl_with(&deliver, Some(&std::fs::read(path).unwrap())).expect(0);
    }
    let before = contents(&store, "joe").remove("user/U/INBOX").unwrap();
    for (dialect, status) in [("mboxo", 1), ("mboxrd", 1), ("mboxcl", 0), ("mboxcl2", 0)] {
        let file = store.beside(dialect);
        let export = ["--json", "export", "mbox", file.to_str().unwrap(), "--user", "joe", "--dialect", dialect];
        let said = store.ctl(&export).expect(status).json();
        // One of the real messages ends within a line, which the first two cannot say.
        assert_eq!(said["not_kept"].as_array().unwrap().len(), usize::from(status == 1), "{dialect}: {said}");
        store.ctl(&["user", "add", dialect]).expect(0);
        let import = ["import", "mbox", file.to_str().unwrap(), "--user", dialect, "--dialect", dialect];
        store.ctl(&import).expect(0);
        let after = contents(&store, dialect).remove("user/U/INBOX").unwrap();
        let differ = before.iter().filter(|one| !after.contains(one)).count();
        assert_eq!((after.len(), differ), (before.len(), usize::from(status == 1)), "{dialect}");
        assert_eq!(store.json(&import)["messages"].as_u64(), Some(0), "a second run adds nothing");
    }
    let taken = store.ctl(&["export", "mbox", store.beside("mboxcl").to_str().unwrap(), "--user", "joe"]);
    assert_eq!(taken.status, 73, "{taken:?}");
}

// row B18: what is in the way of an import is named, and takes nothing with it
#[test]
fn an_import_names_what_it_could_not_take() {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe", "--messages", "10"]).expect(0);
    let from = store.beside("in");
    maildir(&from);
    std::os::unix::fs::symlink("/etc/hostname", from.join("new/1.link")).unwrap();
    let import = ["--json", "import", "maildir", from.to_str().unwrap(), "--user", "joe"];
    let said = store.ctl(&import).expect(1).json();
    assert_eq!(said["messages"].as_u64(), Some(10), "{said}");
    assert_eq!(said["refused"].as_array().unwrap().len(), corpus().len() - 10 + 1);
    store.ctl(&["quota", "set", "joe", "--messages", "none"]).expect(0);
    let said = store.ctl(&import).expect(1).json();
    assert_eq!((said["unchanged"].as_u64(), said["refused"].as_array().unwrap().len()), (Some(10), 1), "{said}");

    assert_eq!(store.ctl(&["import", "maildir", from.to_str().unwrap(), "--user", "nobody"]).status, 67);
    assert_eq!(store.ctl(&["import", "maildir", "/nonexistent", "--user", "joe"]).status, 66);
    daemon.kill();
    assert_eq!(store.ctl(&import[1..]).status, 69);
}

// A link that somebody has put into the tree leads nowhere: nothing is written where it points to, the folder is named, and the others are written.
#[test]
fn an_export_writes_nothing_through_a_link() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    for name in ["user/joe/A", "user/joe/B", "user/joe/C"] {
        store.ctl(&["mailbox", "create", name]).expect(0);
        store.ctl_with(&["message", "deliver", name], Some(b"Subject: x\r\n\r\n")).expect(0);
    }
    let (out, victim) = (store.beside("out"), store.beside("victim"));
    std::fs::create_dir_all(out.join(".B")).unwrap();
    // As an export of the same user has left it.
    std::fs::write(out.join("storedd-export"), "user joe\n").unwrap();
    std::fs::create_dir(&victim).unwrap();
    std::os::unix::fs::symlink(&victim, out.join(".A")).unwrap();
    std::os::unix::fs::symlink(&victim, out.join(".B/tmp")).unwrap();
    let run = store.ctl(&["export", "maildir", out.to_str().unwrap(), "--user", "joe"]).expect(1);
    assert!(
        run.err.contains("user/joe/A") && run.err.contains("user/joe/B") && !run.err.contains("user/joe/C"),
        "{run:?}"
    );
    assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(out.join(".C/cur")).unwrap().count(), 1);
    // Nor is a file written into that has a second name elsewhere.
    let tmp = out.join("tmp/subscriptions");
    std::fs::write(victim.join("precious"), b"precious").unwrap();
    std::fs::hard_link(victim.join("precious"), &tmp).unwrap();
    store.ctl(&["export", "maildir", out.to_str().unwrap(), "--user", "joe"]).expect(1);
    assert_eq!(std::fs::read(victim.join("precious")).unwrap(), b"precious");
}

// A time that means something else than was said is refused: an unknown time zone is not UTC, and no offset has 25 hours.
#[test]
fn a_time_in_a_zone_that_is_not_known_is_refused() {
    let store = TestStore::new();
    let as_of = |zone: &str, time: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_storectl"));
        command.arg("--data-dir").arg(&store.data).env("TZ", zone);
        command.args(["restore", "-f", "nowhere.sda", "--as-of", time, "user/joe"]);
        crate::harness::run(&mut command, None)
    };
    for (zone, time) in [("Nowhere/Atlantis", "20260101:120000"), ("UTC", "2026-01-01T12:00:00+25:00")] {
        let run = as_of(zone, time);
        assert!(run.status == 64 && run.err.contains(time), "{zone} {time}: {run:?}");
    }
    for (zone, time) in [("UTC", "20260101:120000"), ("Nowhere/Atlantis", "2026-01-01T12:00:00+05:30")] {
        assert_ne!(as_of(zone, time).status, 64, "{zone} {time}");
    }
}
