//! Going back with mail, through the built programs: to a snapshot, to a point, and by itself. What is shown is the state at the point and
//! what came afterwards, also when the database is lost later and only the partitions know.

use crate::harness::{Daemon, TestStore, until};
use serde_json::{Value, json};
use std::path::PathBuf;

const INBOX: &str = "user/joe/INBOX";
const WORK: &str = "user/joe/Work";
const NEWS: &str = "shared/news";
const RECOVERED: &str = "user/joe/Recovered";

fn text(n: usize) -> Vec<u8> {
    format!("Subject: message {n}\r\nFrom: ann@example.org\r\n\r\nThe {n}th.\r\n").into_bytes()
}

fn deliver(store: &TestStore, to: &str, n: usize) -> u64 {
    let done = store.ctl_with(&["--json", "message", "deliver", to], Some(&text(n))).expect(0).json();
    done[0]["uid"].as_u64().unwrap()
}

fn deliver_all(store: &TestStore, to: &str, numbers: std::ops::RangeInclusive<usize>) {
    for n in numbers {
        deliver(store, to, n);
    }
}

/// Names, rights, UIDs, flags, deletions: all but marks and sums that going back moves, and the folder of what was given up.
fn seen(store: &TestStore) -> Value {
    let mut mailboxes = store.json(&["mailbox", "list", "--long"]);
    let all = mailboxes.as_array_mut().unwrap();
    all.retain(|mailbox| !mailbox["name"].as_str().unwrap().ends_with("/Recovered"));
    for mailbox in all.iter_mut() {
        let mailbox = mailbox.as_object_mut().unwrap();
        for mark in ["uidnext", "highestmodseq", "highest_modseq", "modseq"] {
            mailbox.remove(mark);
        }
    }
    let names: Vec<String> = all.iter().map(|mailbox| mailbox["name"].as_str().unwrap().to_owned()).collect();
    let messages: Vec<Value> = names.iter().map(|name| store.json(&["message", "list", name])).collect();
    let deleted: Vec<Value> = names.iter().map(|name| store.json(&["message", "list", name, "--expunged"])).collect();
    for (name, messages) in names.iter().zip(&messages) {
        for message in messages.as_array().unwrap() {
            let uid = message["uid"].to_string();
            let shown = store.ctl(&["message", "show", name, &uid, "--raw"]).expect(0);
            assert!(shown.out.starts_with("Subject: message "), "{name} {uid}: {shown:?}");
        }
    }
    let users: Vec<Value> =
        store.json(&["user", "list"]).as_array().unwrap().iter().map(|user| user["user"].clone()).collect();
    json!({"mailboxes": mailboxes, "messages": messages, "deleted": deleted, "users": users})
}

fn settled(store: &TestStore) {
    until("the adoption", || (!store.data.join("adoption-due").exists()).then_some(()));
}

fn start(store: &TestStore) -> Daemon {
    let daemon = store.start();
    settled(store);
    daemon
}

fn database(store: &TestStore) -> PathBuf {
    store.data.join("mboxlist/mboxlist.redb")
}

/// Ways to go back.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// The snapshot, and the log behind it is left.
    Snapshot,
    /// The LSN of the snapshot.
    Point,
    /// An LSN between the snapshot and the end.
    Between,
    /// The snapshot, and the log behind it is replayed: nothing is given up.
    Replayed,
    /// The database is no good, and a start takes the snapshot and the log.
    ByItself,
}

/// Mail of two users and a shared mailbox: flagged, expunged; gives the snapshot of it.
fn before_the_point(store: &TestStore) -> Value {
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["mailbox", "create", WORK]).expect(0);
    store.ctl(&["mailbox", "create", "user/joe/Empty"]).expect(0);
    store.ctl(&["mailbox", "create", NEWS]).expect(0);
    deliver_all(store, INBOX, 1..=8);
    deliver_all(store, WORK, 9..=10);
    deliver(store, NEWS, 11);
    store.ctl(&["message", "flags", INBOX, "1,2,3", "--add", "\\Flagged", "--add", "$Work"]).expect(0);
    store.ctl(&["message", "expunge", INBOX, "4,5"]).expect(0);
    store.ctl(&["checkpoint"]).expect(0);
    let snapshot = store.json(&["snapshot", "take", "--verify"]);
    assert!(snapshot["id"].is_string(), "{snapshot}");
    snapshot
}

/// What is to be given up: mail, flags, deletions, mailboxes, a user; most of it in the partitions, the last of it in the log alone.
fn behind_the_point(store: &TestStore) {
    deliver_all(store, INBOX, 12..=16);
    store.ctl(&["message", "flags", INBOX, "1,2", "--remove", "\\Flagged", "--add", "\\Seen"]).expect(0);
    store.ctl(&["message", "expunge", INBOX, "6,7"]).expect(0);
    store.ctl(&["mailbox", "undelete", INBOX, "--uid", "4"]).expect(0);
    store.ctl(&["mailbox", "rename", "user/joe/Empty", "user/joe/Full"]).expect(0);
    deliver(store, "user/joe/Full", 17);
    store.ctl(&["mailbox", "create", "user/joe/Later"]).expect(0);
    deliver(store, "user/joe/Later", 18);
    store.ctl(&["mailbox", "delete", WORK, "--yes"]).expect(0);
    store.ctl(&["user", "add", "eve"]).expect(0);
    deliver(store, "user/eve/INBOX", 19);
    store.ctl(&["checkpoint"]).expect(0);
    deliver(store, NEWS, 20);
    store.ctl(&["message", "flags", INBOX, "3", "--add", "\\Answered"]).expect(0);
}

fn go_back(store: &TestStore, way: Way, snapshot: &Value, between: u64) {
    let id = snapshot["id"].as_str().unwrap();
    let until = |lsn: &str| drop(store.storedd(&["recover", "--until-lsn", lsn, "--yes"]).expect(0));
    match way {
        Way::Snapshot => drop(store.ctl(&["snapshot", "install", id, "--leave-log", "--yes"]).expect(0)),
        Way::Replayed => drop(store.ctl(&["snapshot", "install", id, "--yes"]).expect(0)),
        Way::Point => until(&snapshot["lsn"].to_string()),
        Way::Between => until(&between.to_string()),
        Way::ByItself => std::fs::write(database(store), vec![7; 100_000]).unwrap(),
    }
}

// rows 43, 46, 52, 95, 126; I6, I8: back by each way; what is shown is the state at the point and what came afterwards, after a checkpoint,
// after a restart, and when the database is lost; what was delivered behind the point is in Recovered
#[test]
fn mail_goes_back_to_the_point_and_stays_there() {
    for way in [Way::Snapshot, Way::Point, Way::Between, Way::Replayed, Way::ByItself] {
        let store = TestStore::new();
        let daemon = store.start();
        let snapshot = before_the_point(&store);
        let at_snapshot = seen(&store);
        store.ctl(&["message", "flags", INBOX, "8", "--add", "\\Draft"]).expect(0);
        let (at_between, between) = (seen(&store), store.json(&["status"])["applied_lsn"].as_u64());
        behind_the_point(&store);
        let at_end = seen(&store);
        match way {
            // Known to the log alone.
            Way::Between | Way::ByItself => daemon.kill(),
            _ => assert_eq!(daemon.stop(), 0),
        }
        let between = between.unwrap_or_else(|| snapshot["lsn"].as_u64().unwrap() + 1);
        go_back(&store, way, &snapshot, between);
        let daemon = start(&store);
        let expected = match way {
            Way::Snapshot | Way::Point => at_snapshot,
            Way::Between => at_between,
            Way::Replayed | Way::ByItself => at_end,
        };
        assert_eq!(seen(&store), expected, "{way:?}");
        let gives_up = !matches!(way, Way::Replayed | Way::ByItself);
        assert_eq!(store.data.join("given-up").exists(), gives_up, "{way:?}");
        if gives_up {
            // Five of INBOX, one of Empty; that of Later lies in the quarantine with its mailbox.
            let shown = store.json(&["message", "list", RECOVERED]);
            assert_eq!(shown.as_array().map(Vec::len), Some(6), "{way:?}: {shown}");
        }
        // No UID is given again.
        assert_eq!(deliver(&store, INBOX, 21), 14, "{way:?}");
        store.ctl(&["message", "flags", INBOX, "2", "--add", "later"]).expect(0);
        store.ctl(&["message", "expunge", INBOX, "3"]).expect(0);
        store.ctl(&["mailbox", "create", "user/joe/New"]).expect(0);
        let expected = seen(&store);
        store.ctl(&["checkpoint"]).expect(0);
        assert_eq!(seen(&store), expected, "{way:?}: after a checkpoint");
        let plan = store.ctl(&["--json", "reconstruct", "-m", "-n"]).expect(0).json();
        assert_eq!((&plan["changes"], &plan["findings"]), (&json!([]), &json!([])), "{way:?}");
        store.ctl(&["check", "--all", "--deep"]).expect(0);
        assert_eq!(daemon.stop(), 0);
        let daemon = start(&store);
        assert_eq!(seen(&store), expected, "{way:?}: after a restart");
        // Without the snapshots the database is what partitions and log know.
        for snapshot in store.json(&["snapshot", "list"]).as_array().unwrap() {
            store.ctl(&["snapshot", "delete", snapshot["id"].as_str().unwrap(), "--yes"]).expect(0);
        }
        assert_eq!(daemon.stop(), 0);
        std::fs::remove_file(database(&store)).unwrap();
        if gives_up {
            // The partition says it, too.
            std::fs::remove_file(store.data.join("given-up")).unwrap();
        }
        let daemon = start(&store);
        assert_eq!(seen(&store), expected, "{way:?}: without the database");
        let plan = store.ctl(&["--json", "reconstruct", "-m", "-n"]).expect(0).json();
        assert_eq!(plan["changes"], json!([]), "{way:?}: {plan}");
        assert!(deliver(&store, INBOX, 22) > 14, "{way:?}");
        assert_eq!(daemon.stop(), 0);
    }
}
