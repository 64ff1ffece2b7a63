//! What was taken away and can be brought back, as somebody finds it who did not take it away.

use crate::harness::{TestStore, text};
use serde_json::{Value, json};
use std::time::Duration;

fn deliver(store: &TestStore, mailbox: &str, subject: &str) {
    let message = format!("Subject: {subject}\r\n\r\n{subject}\r\n");
    store.ctl_with(&["message", "deliver", mailbox], Some(message.as_bytes())).expect(0);
}

fn column(list: &Value, key: &str) -> Vec<Value> {
    list.as_array().unwrap().iter().map(|line| line[key].clone()).collect()
}

/// Microseconds since some day, of a time as `2026-11-24T00:51:00.123456Z`.
fn micros(time: &Value) -> i64 {
    let numbers: Vec<i64> =
        time.as_str().unwrap().split(['-', 'T', ':', '.', 'Z']).filter_map(|n| n.parse().ok()).collect();
    let [year, month, day, hour, minute, second, micros] = numbers[..] else { panic!("{time}") };
    // Days of the proleptic Gregorian calendar, with March as the first month.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    (((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + micros
}

// rows 130, B20: a user who was deleted by mistake: what is left is listed, with until when, and comes back name by name
#[test]
fn deleted_mailboxes_are_listed_until_the_purge() {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["user", "add", "ann"]).expect(0);
    let (work, news) = ("user/joe/Work", "shared/news");
    for name in [work, "user/ann/Old", news] {
        store.ctl(&["mailbox", "create", name]).expect(0);
        deliver(&store, name, name);
    }
    let was = store.json(&["mailbox", "show", work]);
    assert_eq!(store.json(&["mailbox", "list", "--deleted"]), json!([]));
    // Twice under one name: the one that was deleted first stands first.
    store.ctl(&["mailbox", "delete", work, "--yes"]).expect(0);
    std::thread::sleep(Duration::from_millis(5));
    store.ctl(&["mailbox", "create", work]).expect(0);
    store.ctl(&["user", "delete", "joe", "--yes"]).expect(0);
    store.ctl(&["mailbox", "delete", "user/ann/Old", "--yes"]).expect(0);
    let list = store.json(&["mailbox", "list", "--deleted", "user/joe*"]);
    assert_eq!(column(&list, "name"), [json!("user/joe/INBOX"), json!(work), json!(work)], "{list}");
    let first = &list[1];
    for key in ["name", "id", "uidvalidity", "messages", "bytes", "partition"] {
        assert_eq!(first[key], was[key], "{key}: {first}");
    }
    let week = 7 * 86_400 * 1_000_000;
    assert_eq!(micros(&first["purge_due"]) - micros(&first["deleted"]), week, "{first}");
    assert!(micros(&list[2]["deleted"]) > micros(&first["deleted"]));
    assert_eq!(
        column(&store.json(&["mailbox", "list", "--deleted"]), "name").len(),
        4,
        "all of them, and none that is there"
    );
    assert_eq!(store.json(&["mailbox", "list", "--deleted", "user/ann/%"])[0]["messages"], 1);

    // In a pipe: a line each, with tabs; and after a kill, from the database and from the log alike.
    let line = store.ctl(&["mailbox", "list", "--deleted", "user/ann/Old"]).expect(0).out;
    let cells: Vec<&str> = line.trim_end().split('\t').collect();
    assert_eq!((cells.len(), cells[0], cells[3]), (7, "user/ann/Old", "1"), "{line}");
    store.ctl(&["checkpoint"]).expect(0);
    daemon.kill();
    let _daemon = store.start();
    assert_eq!(store.json(&["mailbox", "list", "--deleted", "user/joe*"]), list);

    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["mailbox", "undelete", work]).expect(0);
    store.ctl(&["mailbox", "undelete", "user/joe/INBOX"]).expect(0);
    assert_eq!(
        store.json(&["mailbox", "show", "user/joe/INBOX"])["id"],
        list[0]["id"],
        "the INBOX takes its place again"
    );
    let left = store.json(&["mailbox", "list", "--deleted", "user/joe/Work"]);
    assert_eq!(column(&left, "id"), [first["id"].clone()], "the one that was deleted last came back");
    for (words, status) in [(&["--as", "joe"][..], 64), (&["--long"], 64)] {
        store.ctl(&[&["mailbox", "list", "--deleted"], words].concat()).expect(status);
    }
}

// row 130: since when and until when, of messages; and how the configuration moves the end
#[test]
fn expunged_messages_tell_until_when_they_come_back() {
    let store = TestStore::new();
    let config = store.beside("c.toml");
    std::fs::write(&config, "[ageing]\ncleanup_age = '1h'\n").unwrap();
    let _daemon = store.start_with(&["--config", text(&config)]);
    store.ctl(&["user", "add", "joe"]).expect(0);
    let inbox = "user/joe/INBOX";
    (1..=2).for_each(|n| deliver(&store, inbox, &n.to_string()));
    let before = store.json(&["message", "list", inbox]);
    store.ctl(&["message", "expunge", inbox, "2"]).expect(0);
    let list = store.json(&["message", "list", inbox, "--expunged"]);
    assert_eq!(column(&list, "uid"), [json!(2)]);
    for key in ["size", "internal_date", "flags", "digest"] {
        assert_eq!(list[0][key], before[1][key], "{key}");
    }
    assert_eq!(list[0]["expunged"], store.json(&["message", "show", inbox, "2"])["expunged"]);
    assert_eq!(micros(&list[0]["purge_due"]) - micros(&list[0]["expunged"]), 3_600_000_000, "{list}");
    let line = store.ctl(&["message", "list", inbox, "--expunged"]).expect(0).out;
    assert_eq!(line.trim_end().split('\t').nth(7), list[0]["purge_due"].as_str(), "{line}");
}
