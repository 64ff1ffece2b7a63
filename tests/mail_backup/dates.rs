//! Archives by date (`-d`): what came since, however it came.

use super::as_of::now;
use super::{backup, count, deliver, message, restore, text};
use crate::harness::TestStore;
use serde_json::Value;

const INBOX: &str = "user/ann/INBOX";

/// What came into their mailboxes since: messages and references.
fn since(store: &TestStore, name: &str, time: &str) -> u64 {
    let done = backup(store, &store.beside(name), &["-d", time]);
    done["messages"].as_u64().unwrap() + done["copies"].as_u64().unwrap()
}

// What is undeleted was in no archive of the row: one had it not, for it was expunged, and the next one not, for it had been saved before
#[test]
fn what_was_undeleted_since_is_in_the_next_one() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["user", "add", "ann"]).expect(0);
    (0..3).for_each(|n| deliver(&store, &[INBOX], &message(format!("m{n}"), 300)));
    store.ctl(&["message", "expunge", INBOX, "2"]).expect(0);
    backup(&store, &store.beside("full"), &["/"]);
    let then = now();
    assert_eq!(since(&store, "none", &then), 0);
    store.ctl(&["mailbox", "undelete", INBOX, "--uid", "2"]).expect(0);
    assert_eq!(since(&store, "one", &then), 1);
    assert_eq!(since(&store, "later", &now()), 0);
}

// A mailbox that a restore has made has the times of the archive, so that what came with it counted as saved before
#[test]
fn what_came_back_with_its_mailbox_is_in_the_next_one() {
    let (from, to) = (TestStore::new(), TestStore::new());
    let (_one, _two) = (from.start(), to.start());
    from.ctl(&["user", "add", "ann"]).expect(0);
    (0..3).for_each(|n| deliver(&from, &[INBOX], &message(format!("m{n}"), 300)));
    let file = from.beside("full");
    backup(&from, &file, &["/"]);
    let then = now();
    assert_eq!(count(&restore(&to, &file, &[], 0), "restored"), 3);
    let list =
        |store: &TestStore| -> Vec<Value> { store.json(&["message", "list", INBOX]).as_array().unwrap().clone() };
    assert_eq!(list(&from).len(), list(&to).len());
    assert_eq!(since(&to, "one", &then), 3);
    assert_eq!((since(&from, "here", &then), since(&to, "later", &now())), (0, 0));
}

// An archive of a history that was given up is none to go on from: what it calls unchanged may be something else by now
#[test]
fn an_archive_of_a_history_that_was_given_up_is_not_followed() {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "ann"]).expect(0);
    deliver(&store, &[INBOX], &message("before".to_owned(), 300));
    let snapshot = store.json(&["snapshot", "take", "--verify"]);
    let (kept, given_up) = (store.beside("kept"), store.beside("given-up"));
    backup(&store, &kept, &["/"]);
    let lsn = backup(&store, &store.beside("again"), &["/"])["lsn"].as_u64().unwrap();
    (0..3).for_each(|n| deliver(&store, &[INBOX], &message(format!("behind{n}"), 300)));
    backup(&store, &given_up, &["/"]);
    assert_eq!(daemon.stop(), 0);
    assert!(snapshot["lsn"].as_u64().unwrap() <= lsn, "{snapshot}");
    store.storedd(&["recover", "--until-lsn", &lsn.to_string(), "--yes"]).expect(0);
    let _daemon = store.start();
    (0..5).for_each(|n| deliver(&store, &[INBOX], &message(format!("other{n}"), 300)));
    let next = store.beside("next");
    let refused = store.ctl(&["backup", "-f", text(&next), "--since-archive", text(&given_up)]).expect(65);
    let why = "cannot be followed: the store has gone back behind LSN";
    assert!(refused.err.contains(why) && refused.err.contains("make a full backup"), "{refused:?}");
    assert!(!next.exists(), "nothing is left of it");
    let done = backup(&store, &next, &["--since-archive", text(&kept)]);
    assert!(done["messages"].as_u64().unwrap() >= 5, "{done}");
}
