//! A copy of a store beside the live one, on the same host: what lies in the live store's partitions is the live store's.

use crate::harness::mail::{assert_inbox, deliver, message};
use crate::harness::{Daemon, TestStore, text, until};
use std::path::PathBuf;

const EVE: &str = "user/eve/INBOX";

/// A store with eve on a partition that was added with its path, two mails in it, and the bytes of them.
fn live() -> (TestStore, Daemon, Vec<Vec<u8>>) {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["partition", "add", "far", text(&store.beside("far"))]).expect(0);
    store.ctl(&["user", "add", "eve", "--partition", "far"]).expect(0);
    let sent = vec![message("one", 2000), message("two", 200_000)];
    sent.iter().for_each(|mail| deliver(&store, &[EVE], mail));
    store.ctl(&["checkpoint"]).expect(0);
    (store, daemon, sent)
}

fn backup(store: &TestStore) -> PathBuf {
    let dir = store.beside("media");
    PathBuf::from(store.json(&["backup-db", text(&dir)])["path"].as_str().expect("a path"))
}

// row 146: a backup that was restored beside its store, as to prove it, opened the partitions of that store by their paths, and wrote there
#[test]
fn a_copy_of_a_store_leaves_the_partitions_of_the_live_one_alone() {
    let (store, daemon, mut sent) = live();
    let backup = backup(&store);
    // What the live store has and the copy has not.
    let later = message("behind the backup", 20_000);
    deliver(&store, &[EVE], &later);
    store.ctl(&["checkpoint"]).expect(0);
    sent.push(later);

    let copy = TestStore::new();
    copy.ctl(&["restore-db", "--yes", text(&backup)]).expect(0);
    let second = copy.start();
    let shown = copy.json(&["partition", "show", "far"]);
    assert_eq!(shown["state"], "foreign", "{shown}");
    let why = shown.to_string();
    assert!(why.contains("in use by another storedd") && why.contains(&daemon.child.id().to_string()), "{shown}");
    until("an alarm", || {
        let alarms = copy.json(&["status"])["alarms"].clone();
        alarms.to_string().contains("in use by another storedd").then_some(())
    });
    // Mail for it is refused for now, or waits in the log; nothing of it gets there.
    let late = copy.ctl_with(&["message", "deliver", EVE], Some(&message("of the copy", 3000)));
    assert!([0, 75].contains(&late.status), "{late:?}");
    copy.ctl(&["user", "add", "of-the-copy"]).expect(0);
    copy.ctl(&["checkpoint"]).expect(0);
    assert_eq!(copy.ctl(&["message", "list", EVE]).status, 75);

    let three = message("three", 5000);
    deliver(&store, &[EVE], &three);
    sent.push(three);
    store.ctl(&["checkpoint"]).expect(0);
    assert_eq!(second.stop(), 0);
    assert_inbox(&store, EVE, &sent);
    let checked = store.json(&["check", "--all", "--deep"]);
    assert_eq!(checked["findings"], serde_json::json!([]), "{checked}");
    assert_eq!(daemon.stop(), 0);
    let daemon = store.start();
    assert_inbox(&store, EVE, &sent);
    assert_eq!(daemon.stop(), 0);
}

// row 146: with places of its own a complete copy is proven beside the live store; without them it is refused before anything is put anywhere
#[test]
fn a_complete_copy_is_proven_beside_the_live_store() {
    let (store, daemon, sent) = live();
    let (copy, media) = (TestStore::new(), store.beside("complete"));
    store.ctl(&["backup", "--complete", text(&media)]).expect(0);
    let refused = copy.ctl(&["restore-db", "--yes", text(&media)]).expect(75);
    assert!(refused.err.contains("in use by another storedd"), "{refused:?}");
    assert!(!copy.data.join("partition/primary/PARTITION").exists() && !copy.data.join("RESTORING").exists());
    let config = copy.beside("scratch.toml");
    let place = |name: &str| format!("[partition.{name}]\npath = \"{}\"\n", copy.beside(name).display());
    let places = format!("{}{}", place("primary"), place("far"));
    std::fs::write(&config, places).unwrap();
    copy.ctl(&["--config", text(&config), "restore-db", "--yes", text(&media)]).expect(0);
    let scratch = copy.start_with(&["--config", text(&config)]);
    assert_inbox(&copy, EVE, &sent);
    assert_eq!(scratch.stop(), 0);
    assert_inbox(&store, EVE, &sent);
    assert_eq!(daemon.stop(), 0);
}
