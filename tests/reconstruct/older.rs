//! A user's directory of an older time than the database: somebody has put a copy of it back while the daemon was down, and nobody has read
//! anything since. What the log holds comes back, whatever is done first.

use super::{INBOX, WORK, text};
use crate::harness::{TestStore, until};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

const MOVED: &str = "user/joe/Moved";

/// Copies a directory with all that is in it.
fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// What a mailbox shows, by the name that it has by now; without what a change of its own alters.
fn shown(store: &TestStore, name: &str) -> Value {
    let list = |args: &[&str]| {
        let mut all = store.json(&[&["message", "list", name], args].concat());
        for message in all.as_array_mut().unwrap() {
            let message = message.as_object_mut().unwrap();
            message.retain(|field, _| ["uid", "flags", "keywords", "digest", "size"].contains(&field.as_str()));
        }
        all
    };
    json!([store.json(&["mailbox", "show", name])["uidvalidity"], list(&[]), list(&["--expunged"])])
}

/// A user with two mailboxes and what they show; his directory was put back from a copy of before most of that. The daemon is down.
fn put_back() -> (TestStore, [Value; 2]) {
    let store = TestStore::new();
    let daemon = store.start();
    let other = store.beside("other");
    store.ctl(&["partition", "add", "other", other.to_str().unwrap()]).expect(0);
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["mailbox", "create", WORK]).expect(0);
    let deliver = |numbers: std::ops::RangeInclusive<usize>| {
        for n in numbers {
            store.ctl_with(&["message", "deliver", INBOX, WORK], Some(&text(n))).expect(0);
        }
    };
    deliver(1..=3);
    store.ctl(&["checkpoint"]).expect(0);
    let dir =
        store.data.join("partition/primary").join(store.json(&["mailbox", "show", WORK])["path"].as_str().unwrap());
    let (home, kept): (PathBuf, PathBuf) = (dir.parent().unwrap().to_owned(), store.beside("kept"));
    copy(&home, &kept);
    deliver(4..=7);
    for name in [INBOX, WORK] {
        store.ctl(&["message", "flags", name, "5", "--add", "\\Flagged"]).expect(0);
        store.ctl(&["message", "flags", name, "2", "--add", "\\Answered"]).expect(0);
        store.ctl(&["message", "expunge", name, "1,7"]).expect(0);
    }
    store.ctl(&["checkpoint"]).expect(0);
    let wanted = [INBOX, WORK].map(|name| shown(&store, name));
    assert_eq!(daemon.stop(), 0);
    copy(&kept, &home);
    (store, wanted)
}

// rows 126, 128, I8: who changed a row of such a mailbox, moved its user or had the database reconstructed made the older time final
#[test]
fn what_is_done_first_over_an_older_directory_loses_nothing() {
    let deeds: [&[&[&str]]; 8] = [
        &[&["reconstruct", "-m"]],
        &[&["acl", "set", WORK, "anyone", "lr"], &["checkpoint"], &["reconstruct", "-m", "-u", "joe"]],
        &[&["reconstruct", "-m"], &["user", "move", "joe", "--to", "other"]],
        &[&["user", "move", "joe", "--to", "other"]],
        &[&["user", "rename", "joe", "bob"], &["checkpoint"], &["user", "rename", "bob", "joe"]],
        &[&["mailbox", "rename", WORK, MOVED], &["checkpoint"], &["mailbox", "rename", MOVED, WORK]],
        &[&["mailbox", "delete", WORK, "--yes"], &["checkpoint"], &["mailbox", "undelete", WORK]],
        &[&["message", "flags", WORK, "2", "--add", "\\Answered"], &["checkpoint"], &["quota", "recalc"]],
    ];
    for deeds in deeds {
        let (store, wanted) = put_back();
        let daemon = store.start();
        for deed in deeds {
            store.ctl(deed).expect(0);
        }
        store.ctl(&["checkpoint"]).expect(0);
        assert_eq!([INBOX, WORK].map(|name| shown(&store, name)), wanted, "{deeds:?}");
        // A read brings back what a list shows; bytes follow.
        until("bytes that only the log has", || (store.ctl(&["check", "--all", "--deep"]).status == 0).then_some(()));
        daemon.kill();
        let _daemon = store.start();
        assert_eq!([INBOX, WORK].map(|name| shown(&store, name)), wanted, "{deeds:?}, after a kill");
    }
}

// rows 126, 128: with the log gone nobody knows what they were, and nobody is told that all is well
#[test]
fn what_an_older_directory_lacks_is_told_where_the_log_is_gone() {
    let (store, _) = put_back();
    super::remove(&store, &["log"]);
    let _daemon = store.start();
    let planned = store.ctl(&["--json", "reconstruct", "-m", "-n"]).expect(1).json();
    assert!(planned["changes"].as_array().unwrap().iter().any(|one| one["mailbox"] == WORK), "{planned}");
    let told = |args: &[&str], status: i32| -> Vec<Value> {
        let done = store.ctl(&[&["--json", "reconstruct"], args].concat()).expect(status).json();
        done["findings"].as_array().unwrap().clone()
    };
    let of = |told: &[Value]| told.iter().filter(|one| one["what"].as_str().unwrap().contains("older time")).count();
    let found = told(&["-m"], 1);
    assert_eq!(of(&found), 2, "{found:?}");
    assert_eq!(store.json(&["mailbox", "show", WORK])["messages"], 5, "as the database has it");
    // Whoever accepts what is left says so, and is told what it is.
    assert!(!told(&["-r"], 1).is_empty());
    assert_eq!(store.json(&["mailbox", "show", WORK])["messages"], 3);
    assert!(told(&["-m"], 0).is_empty());
    store.ctl(&["check", "--all", "--deep"]).expect(0);
}
