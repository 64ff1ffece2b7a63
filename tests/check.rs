//! `check`, and what readers are shown of a store that is damaged.

use crate::harness::TestStore;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The files below a directory with this name, or ending in it.
pub fn named(dir: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with(".quarantine") {
            found.extend(named(&path, name));
        } else if path.is_file() && path.to_string_lossy().ends_with(name) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn text(user: &str, n: usize) -> Vec<u8> {
    format!("Subject: number {n} of {user}\r\n\r\n{}\r\n", "some text ".repeat(20 + n)).into_bytes()
}

/// Two users with four messages in each of two mailboxes, some of them flagged; all of it in files.
pub fn filled(store: &TestStore) {
    for user in ["ann", "joe"] {
        store.ctl(&["user", "add", user]).expect(0);
        store.ctl(&["mailbox", "create", &format!("user/{user}/Work")]).expect(0);
        for (n, folder) in ["INBOX", "Work"].iter().enumerate() {
            let name = format!("user/{user}/{folder}");
            for m in 0..4 {
                store.ctl_with(&["message", "deliver", &name], Some(&text(user, n * 4 + m))).expect(0);
            }
            store.ctl(&["message", "flags", &name, "2,3", "--add", "\\Flagged", "--add", "$Kept"]).expect(0);
            store.ctl(&["message", "expunge", &name, "4"]).expect(0);
        }
    }
    store.ctl(&["checkpoint"]).expect(0);
}

fn flip(file: &Path, at: usize, bit: u8) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[at] ^= 1 << bit;
    std::fs::write(file, bytes).unwrap();
}

fn check(store: &TestStore, args: &[&str], status: i32) -> Value {
    let all: Vec<&str> = ["--json", "check"].iter().chain(args).copied().collect();
    store.ctl(&all).expect(status).json()
}

/// What is to become of each finding.
fn fates(checked: &Value) -> Vec<&str> {
    checked["findings"].as_array().unwrap().iter().map(|f| f["fate"].as_str().unwrap()).collect()
}

/// The files of a directory and their bytes.
fn bytes_of(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    named(dir, "").into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

// rows 123, 124: nothing found in a whole store; scopes; nothing is changed, whatever is found
#[test]
fn a_check_says_what_is_wrong_and_changes_nothing() {
    let store = TestStore::new();
    let daemon = store.start();
    filled(&store);
    let partition = store.data.join("partition/primary");
    let clean = check(&store, &["--all", "--deep"], 0);
    assert_eq!((&clean["checked"], &clean["messages"]), (&json!(4), &json!(16)), "{clean}");
    assert_eq!((&clean["findings"], &clean["changes"], &clean["lost"]), (&json!([]), &json!([]), &json!(0)));
    assert_eq!(check(&store, &[], 0)["bytes"], 0, "nothing is read that is not asked for");
    // One index, one file that is gone, one that is strange.
    flip(&named(&partition, "store.idx")[0], 300, 3);
    let files = named(&partition, ".msg");
    std::fs::remove_file(&files[1]).unwrap();
    std::fs::write(files[0].with_file_name("77.msg"), b"whose?").unwrap();
    let before = bytes_of(&partition);
    let found = check(&store, &["--all"], 1);
    assert_eq!(found["findings_total"], 3, "{found}");
    let said: Vec<_> = found["findings"].as_array().unwrap().iter().map(|f| f["what"].as_str().unwrap()).collect();
    assert!(said.contains(&"index damaged") && said.contains(&"message file missing"), "{said:?}");
    assert!(said.contains(&"unknown message file"), "{said:?}");
    for key in ["where", "what", "expected", "found", "fate"] {
        assert!(found["findings"][0][key].is_string(), "{key}");
    }
    let human = store.ctl(&["check"]).expect(1).out;
    assert!(human.contains("77.msg") && human.contains("3 findings, 0 lost"), "{human}");
    // The log has the file that is gone, and what the index says stands in the manifest, too.
    let mut fates = fates(&found);
    fates.sort_unstable();
    assert_eq!(fates, ["mendable", "mendable", "unproven"]);
    assert_eq!(bytes_of(&partition), before, "I7");
    // All of it lies in one home; the other is whole.
    let damaged = if files[0].to_string_lossy().contains("=ann") { "ann" } else { "joe" };
    let other = if damaged == "ann" { "joe" } else { "ann" };
    assert_eq!(check(&store, &[&format!("user/{other}/*"), "--deep"], 0)["checked"], 2);
    check(&store, &[&format!("user/{damaged}/*")], 1);
    check(&store, &["--partition", "primary", "--jobs", "4"], 1);
    store.ctl(&["check", "--partition", "none"]).expect(68);
    store.ctl(&["check", "user/joe/None"]).expect(68);
    store.ctl(&["check", "user/joe/INBOX", "--all"]).expect(64);
    assert!(store.ctl(&["jobs", "list"]).expect(0).out.contains("check"));
    daemon.stop();
}

fn raw(store: &TestStore, mailbox: &str, uid: u64) -> crate::harness::Run {
    store.ctl(&["message", "show", mailbox, &uid.to_string(), "--raw"])
}

/// Mailbox -> its messages as they are listed.
fn listed(store: &TestStore) -> Vec<Value> {
    let names = ["user/ann/INBOX", "user/ann/Work", "user/joe/INBOX", "user/joe/Work"];
    names
        .iter()
        .flat_map(|name| [vec![*name], vec![*name, "--expunged"]])
        .map(|args| store.json(&[&["message", "list"], &args[..]].concat()))
        .collect()
}

// row 121: a damaged index is never shown, and is repaired by its first reader; what nothing proves is an error that names the next step
#[test]
fn a_damaged_index_is_never_shown() {
    let store = TestStore::new();
    let daemon = store.start();
    filled(&store);
    let partition = store.data.join("partition/primary");
    let before = listed(&store);
    for (n, index) in named(&partition, "store.idx").iter().enumerate() {
        match n % 3 {
            0 => std::fs::remove_file(index).unwrap(),
            1 => flip(index, 30, 1),
            _ => flip(index, usize::try_from(index.metadata().unwrap().len()).unwrap() - 30, 1),
        }
    }
    assert_eq!(listed(&store), before, "flags, keywords, dates, UIDs, deletions");
    crate::harness::until("the indexes are whole again", || {
        let done = store.ctl(&["check", "--all", "--deep"]);
        (done.status == 0).then_some(())
    });
    assert!(daemon.log().contains("index_repaired"));
    // Both twins: the log has it.
    for gone in named(&partition, "store.idx").iter().chain(&named(&partition, "manifest")) {
        std::fs::remove_file(gone).unwrap();
    }
    assert_eq!(listed(&store), before, "from the log");
    daemon.stop();
}

/// Has the log forget what it said: other mail, until its files were used again.
pub fn outgrow_log(store: &TestStore) {
    store.ctl(&["user", "add", "bulk"]).expect(0);
    let big = vec![b'x'; 60 << 10];
    for _ in 0..40 {
        store.ctl_with(&["message", "deliver", "user/bulk/INBOX"], Some(&big)).expect(0);
    }
    store.ctl(&["checkpoint"]).expect(0);
}

// row B9: bytes are compared on every read; a message is healed from the log or from another file with its bytes, and is else an error
#[test]
fn a_damaged_message_is_never_shown() {
    let store = TestStore::new();
    let daemon = store.start();
    filled(&store);
    let partition = store.data.join("partition/primary");
    let file = |user: &str| {
        let home = named(&partition, "1.msg").into_iter().find(|p| p.to_string_lossy().contains(&format!("={user}")));
        home.unwrap()
    };
    let good = std::fs::read(file("ann")).unwrap();
    // The log still has it.
    flip(&file("ann"), 30, 2);
    assert_eq!(raw(&store, "user/ann/INBOX", 1).expect(0).out.as_bytes(), good);
    assert_eq!(std::fs::read(file("ann")).unwrap(), good, "put back");
    assert!(!bytes_of(&partition.join(".quarantine")).is_empty(), "what was there is kept");
    // Another file has it, and the log has not.
    store.ctl_with(&["message", "deliver", "user/ann/Work"], Some(&good)).expect(0);
    outgrow_log(&store);
    flip(&file("ann"), 31, 2);
    assert_eq!(raw(&store, "user/ann/INBOX", 1).expect(0).out.as_bytes(), good);
    // Nothing has it.
    flip(&file("joe"), 32, 2);
    let refused = raw(&store, "user/joe/INBOX", 1).expect(2);
    assert!(
        refused.out.is_empty() && refused.err.contains("1.msg") && refused.err.contains("check --all --deep"),
        "{refused:?}"
    );
    let found = check(&store, &["--all", "--deep"], 2);
    assert_eq!((fates(&found), &found["lost"]), (vec!["lost"], &json!(1)), "{found}");
    assert!(found["findings"][0]["where"].as_str().unwrap().ends_with("1.msg"));
    daemon.stop();
}
