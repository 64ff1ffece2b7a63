//! A mailbox that has changed since the last checkpoint.

use super::{WORK, text};
use crate::harness::{Daemon, TestStore};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Joe has two messages in a folder, all in files.
fn filled() -> (TestStore, Daemon, [PathBuf; 2]) {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["mailbox", "create", WORK]).expect(0);
    (1..=2).for_each(|n| drop(store.ctl_with(&["message", "deliver", WORK], Some(&text(n))).expect(0)));
    store.ctl(&["checkpoint"]).expect(0);
    let shown = store.json(&["mailbox", "show", WORK]);
    let dir = store.data.join("partition/primary").join(shown["path"].as_str().unwrap());
    let journals = [dir.join("store.idx"), dir.parent().unwrap().join("manifest")];
    (store, daemon, journals)
}

/// What was done to the folder, or would be.
fn actions(done: &Value) -> Vec<String> {
    let changes = done["changes"].as_array().unwrap().iter().filter(|one| one["mailbox"] == WORK);
    changes.map(|one| one["action"].as_str().unwrap().to_owned()).collect()
}

// rows 126, 128, I7: one that had changed since was counted as looked at, and was not
#[test]
fn a_mailbox_that_has_just_changed_is_looked_at() {
    let (store, _daemon, [index, _]) = filled();
    std::fs::remove_file(&index).unwrap();
    store.ctl(&["acl", "set", WORK, "anyone", "lr"]).expect(0);
    let done = |args: &[&str], status: i32| {
        let done = store.ctl(&[&["--json", "reconstruct", "-m"], args].concat()).expect(status).json();
        assert_eq!(done["findings"], json!([]), "{done}");
        actions(&done)
    };
    let tree = || -> Vec<_> {
        let is_data = |name: &str| name.contains("partition") || name.ends_with(".redb");
        store.tree().into_iter().filter(|(name, _)| is_data(name)).collect()
    };
    let before = tree();
    let planned = done(&["-n"], 1);
    assert!(planned.len() == 1 && planned[0].contains("index made again"), "{planned:?}");
    assert!(tree() == before && !index.exists(), "a dry run changes nothing");
    assert_eq!(done(&[], 0), planned);
    assert!(index.exists());
    assert_eq!(done(&["-n"], 0), [""; 0]);
    store.ctl(&["check", "--all", "--deep"]).expect(0);
}
