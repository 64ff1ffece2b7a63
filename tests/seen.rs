//! What each user has seen in mailboxes that are not his.

use crate::harness::{TestStore, until};
use serde_json::{Value, json};

const NEWS: &str = "shared/news";

/// A mailbox that three users share, with so many messages, and the rights of each.
fn shared(store: &TestStore, messages: u32) {
    for (user, rights) in [("ann", "lrs"), ("bob", "lrswt"), ("eve", "lr"), ("joe", "")] {
        store.ctl(&["user", "add", user]).expect(0);
        if user == "ann" {
            store.ctl(&["mailbox", "create", NEWS]).expect(0);
        }
        if !rights.is_empty() {
            store.ctl(&["acl", "set", NEWS, user, rights]).expect(0);
        }
    }
    (0..messages).for_each(|n| {
        let text = format!("Subject: {n}\n\nx\n").into_bytes();
        assert_eq!(store.ctl_with(&["message", "deliver", NEWS], Some(&text)).status, 0);
    });
}

fn flags(store: &TestStore, user: Option<&str>) -> Vec<Value> {
    let mut args = vec!["message", "list", NEWS];
    args.extend(user.iter().flat_map(|user| ["--as", user]));
    store.json(&args).as_array().unwrap().iter().map(|m| m["flags"].clone()).collect()
}

fn unseen(store: &TestStore, user: &str) -> u64 {
    store.json(&["mailbox", "show", NEWS, "--as", user])["unseen"].as_u64().unwrap()
}

/// Sets or takes away a flag as a user; the exit status.
fn mark(store: &TestStore, user: &str, uids: &str, change: &[&str]) -> i32 {
    let args: Vec<&str> = [&["message", "flags", NEWS, uids][..], change, &["--as", user]].concat();
    store.ctl(&args).status
}

const SEEN: [&str; 2] = ["--add", "\\Seen"];
const UNSEEN: [&str; 2] = ["--remove", "\\Seen"];

// rows 113, 114: what one has seen is new to the others; rights decide who may note what; it survives a kill, a checkpoint and new
// names, and goes with its user
#[test]
fn everybody_has_seen_what_he_has_seen() {
    let store = TestStore::new();
    let daemon = store.start();
    shared(&store, 4);
    let (seen, not) = (json!(["\\Seen"]), json!([]));
    let before = store.json(&["mailbox", "show", NEWS]);
    assert_eq!(mark(&store, "ann", "1,2,4", &SEEN), 0);
    assert_eq!(mark(&store, "ann", "2", &UNSEEN), 0);
    assert_eq!(mark(&store, "bob", "3", &SEEN), 0);
    let all = |store: &TestStore| {
        assert_eq!(flags(store, Some("ann")), [&seen, &not, &not, &seen].map(Clone::clone));
        assert_eq!(flags(store, Some("bob")), [&not, &not, &seen, &not].map(Clone::clone));
        for nobody in [None, Some("eve")] {
            assert_eq!(flags(store, nobody), [&not; 4].map(Clone::clone), "{nobody:?}");
        }
        assert_eq!((unseen(store, "ann"), unseen(store, "bob"), unseen(store, "eve")), (2, 3, 4));
    };
    all(&store);
    let after = store.json(&["mailbox", "show", NEWS]);
    for key in ["unseen", "highest_modseq"] {
        assert_eq!(before[key], after[key], "a flag of one reader changes nothing for the others: {key}");
    }
    // eve may read and note nothing; joe sees no such mailbox; bob may do more.
    assert_eq!(mark(&store, "eve", "1", &SEEN), 77);
    assert_eq!(mark(&store, "ann", "1", &["--add", "\\Flagged"]), 77);
    assert_eq!(mark(&store, "ann", "1", &["--add", "\\Deleted"]), 77);
    assert_eq!(mark(&store, "joe", "1", &SEEN), 68);
    assert_eq!(mark(&store, "nobody", "1", &SEEN), 67);
    assert_eq!(mark(&store, "ann", "9", &SEEN), 68);
    store.ctl(&["message", "list", NEWS, "--as", "joe"]).expect(68);
    all(&store);
    assert_eq!(mark(&store, "bob", "1", &["--add", "\\Seen", "--add", "\\Flagged", "--add", "$k"]), 0);
    assert_eq!(flags(&store, Some("bob"))[0], json!(["\\Seen", "\\Flagged", "$k"]));
    assert_eq!(flags(&store, Some("eve"))[0], json!(["\\Flagged", "$k"]));
    assert_eq!(mark(&store, "bob", "1", &["--remove", "\\Seen", "--remove", "\\Flagged", "--remove", "$k"]), 0);
    all(&store);
    // In his own mailbox the flag is that of the message.
    store.ctl_with(&["message", "deliver", "user/joe/INBOX"], Some(b"x")).expect(0);
    store.ctl(&["message", "flags", "user/joe/INBOX", "1", "--add", "\\Seen", "--as", "joe"]).expect(0);
    assert_eq!(store.json(&["message", "list", "user/joe/INBOX"])[0]["flags"], seen);

    daemon.kill();
    let daemon = store.start();
    all(&store);
    store.ctl(&["checkpoint"]).expect(0);
    daemon.kill();
    let daemon = store.start();
    all(&store);
    // A user takes it along, and it stays with the mailbox.
    store.ctl(&["user", "rename", "bob", "bert"]).expect(0);
    store.ctl(&["mailbox", "rename", NEWS, "shared/old"]).expect(0);
    store.ctl(&["mailbox", "rename", "shared/old", NEWS]).expect(0);
    assert_eq!((unseen(&store, "bert"), unseen(&store, "ann")), (3, 2));
    store.ctl(&["user", "delete", "ann", "--yes"]).expect(0);
    store.ctl(&["user", "add", "ann"]).expect(0);
    store.ctl(&["acl", "set", NEWS, "ann", "lr"]).expect(0);
    assert_eq!(unseen(&store, "ann"), 4, "somebody else");
    assert_eq!(daemon.stop(), 0);
    store.storedd(&["test"]).expect(0);
}

// row 113: it is written out to the partitions every hour, or when somebody says so, with a stamp; what was seen in a mailbox that is
// gone for good is forgotten then
#[test]
fn what_was_seen_is_written_out() {
    let store = TestStore::new();
    let config = store.beside("peruser.toml");
    std::fs::write(&config, "[log]\nsegment_size = \"1MiB\"\n[ageing]\ncleanup_age = '0s'\n").unwrap();
    let daemon = store.start_with(&["--config", config.to_str().unwrap()]);
    shared(&store, 2);
    assert_eq!(store.json(&["status"])["peruser_age"], Value::Null);
    assert_eq!(mark(&store, "ann", "1", &SEEN), 0);
    let manifest = || {
        let user = store.json(&["hashdir", "ann"]);
        let path = store.data.join("partition/primary").join(user["directory"].as_str().unwrap()).join("manifest");
        std::fs::metadata(path).map_or(0, |file| file.len())
    };
    store.ctl(&["checkpoint"]).expect(0);
    assert_eq!(mark(&store, "ann", "2", &SEEN), 0);
    let before = manifest();
    store.ctl(&["checkpoint"]).expect(0);
    assert_eq!(manifest(), before, "a checkpoint alone writes nothing of it");
    store.ctl(&["peruser"]).expect(0);
    assert!(manifest() > before);
    assert!(store.json(&["status"])["peruser_age"].as_f64().unwrap() < 60.0);
    until("the stamp", || {
        let stamp = std::fs::read_to_string(store.data.join("stored.per")).ok();
        stamp.filter(|stamp| stamp.ends_with("Z\n"))
    });
    let rows = |store: &TestStore| store.json(&["status"])["tables"]["seen"].as_u64();
    assert_eq!(rows(&store), Some(1));
    store.ctl(&["mailbox", "delete", NEWS, "--yes"]).expect(0);
    store.ctl(&["purge"]).expect(0);
    store.ctl(&["peruser"]).expect(0);
    assert_eq!(rows(&store), Some(0));
    assert_eq!(daemon.stop(), 0);
    // By itself, when it is due.
    std::fs::write(&config, "[log]\nsegment_size = \"1MiB\"\n[mail]\nperuser_interval = '1s'\n").unwrap();
    let _daemon = store.start_with(&["--config", config.to_str().unwrap()]);
    until("a write-out by itself", || {
        let jobs = store.json(&["jobs"]);
        let found = jobs.as_array().unwrap().iter().any(|j| j["verb"] == "peruser" && j["client"] == "storedd");
        found.then_some(())
    });
}
