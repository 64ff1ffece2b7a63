//! A moment between an archive and now: from the archive and the log behind it.

use super::{backup, contents, count, deliver, message, restore, text};
use crate::harness::{Daemon, TestStore};
use proto::{Body, Command, Reply, Request};
use serde_json::{Value, json};
use std::path::Path;

const INBOX: &str = "user/ann/INBOX";

fn start(store: &TestStore, config: &str) -> Daemon {
    let path = store.beside("as-of.toml");
    std::fs::write(&path, format!("[ageing]\ncleanup_age = '0s'\n{config}")).unwrap();
    store.start_with(&["--config", text(&path)])
}

/// Many short messages into one mailbox, each another.
fn many(daemon: &Daemon, to: &str, subjects: impl Iterator<Item = String>) {
    let (mut pipeline, mut answers) = daemon.client().pipeline(64).unwrap();
    let reader = std::thread::spawn(move || {
        while let Some((_, answer)) = answers.next().unwrap() {
            assert!(matches!(answer, Ok(Reply::Delivered(_))), "{answer:?}");
        }
    });
    for subject in subjects {
        let body = Body::Inline(message(&subject, 300));
        let command = Command::MessageDeliver { to: vec![to.to_owned()], flags: Vec::new(), internal_us: None, body };
        pipeline.submit(&Request::Change { command, dry_run: false }).unwrap();
    }
    pipeline.finish().unwrap();
    reader.join().unwrap();
}

/// Now, a moment behind everything that was answered and before everything that comes.
pub(super) fn now() -> String {
    let pause = || std::thread::sleep(std::time::Duration::from_millis(5));
    pause();
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = storedd::store::rfc3339(storedd::lsn::Micros(u64::try_from(since.as_micros()).unwrap()));
    pause();
    now
}

fn digests(store: &TestStore, name: &str) -> Vec<String> {
    let list = store.json(&["message", "list", name]);
    let mut all: Vec<String> =
        list.as_array().unwrap().iter().map(|m| m["digest"].as_str().unwrap().to_owned()).collect();
    all.sort();
    all
}

fn as_of(store: &TestStore, file: &Path, at: &str, args: &[&str], status: i32) -> Value {
    restore(store, file, &[&["--as-of", at], args].concat(), status)
}

// row B4: of 10,000 (here fewer) a twentieth is expunged and purged and some come new; what was there before comes back, what is new stays, a
// second run adds nothing. On a second store, which has no log of the first, the archive alone does it.
// STOREDD_AS_OF=10000 for all of them.
#[test]
fn what_was_purged_comes_back_and_what_is_new_stays() {
    let all: u32 = std::env::var("STOREDD_AS_OF").ok().and_then(|n| n.parse().ok()).unwrap_or(400);
    let (gone, new) = (all / 20, all / 200 + 1);
    let (one, two) = (TestStore::new(), TestStore::new());
    let (first, second) = (start(&one, ""), start(&two, ""));
    let file = one.beside("all.sda");
    one.ctl(&["user", "add", "ann"]).expect(0);
    many(&first, INBOX, (0..all).map(|n| format!("m{n}")));
    backup(&one, &file, &["/"]);
    restore(&two, &file, &[], 0);
    let then = now();
    for (store, daemon) in [(&one, &first), (&two, &second)] {
        let before = digests(store, INBOX);
        store
            .ctl(&["message", "expunge", INBOX, &(1..=gone).map(|n| n.to_string()).collect::<Vec<_>>().join(",")])
            .expect(0);
        store.ctl(&["purge"]).expect(0);
        store.ctl(&["checkpoint"]).expect(0);
        many(daemon, INBOX, (0..new).map(|n| format!("new{n}")));
        assert_eq!(store.json(&["mailbox", "undelete", INBOX]).as_array().map_or(0, Vec::len), 0, "they are purged");
        let tried = as_of(store, &file, &then, &["--dry-run"], 0);
        assert_eq!(count(&tried, "restored"), gone as usize);
        let done = as_of(store, &file, &then, &[], 0);
        let counts = ["restored", "skipped", "unrestorable"].map(|key| count(&done, key));
        assert_eq!(counts, [gone as usize, (all - gone) as usize, 0]);
        assert_eq!(done["as_of"]["asked"].as_str().unwrap()[..19], then[..19]);
        let after = digests(store, INBOX);
        assert_eq!(after.len(), (all + new) as usize);
        assert!(before.iter().all(|digest| after.binary_search(digest).is_ok()));
        let again = as_of(store, &file, &then, &[], 0);
        assert_eq!((count(&again, "restored"), digests(store, INBOX)), (0, after));
    }
    let told = two.ctl(&["restore", "-f", text(&file), "--yes", "--as-of", &then]).expect(0);
    assert!(told.err.contains("whose log is not here"), "{}", told.err);
}

// What came, went, was renamed and flagged behind the archive and before the moment is as it was then; what was done later is not. On a
// store that has lost it all, by the log alone; what was purged too, if the log has its bytes
#[test]
fn the_log_leads_from_an_archive_to_a_moment() {
    let store = TestStore::new();
    let _daemon = start(&store, "");
    let file = store.beside("base.sda");
    for user in ["ann", "bob"] {
        store.ctl(&["user", "add", user]).expect(0);
    }
    store.ctl(&["mailbox", "create", "user/ann/Work"]).expect(0);
    store.ctl(&["mailbox", "create", "user/ann/Old"]).expect(0);
    for n in 0..4 {
        deliver(&store, &[INBOX, "user/ann/Work"], &message(format!("m{n}"), 400));
    }
    deliver(&store, &["user/ann/Old"], &message("old", 100));
    backup(&store, &file, &["ann"]);
    // Between the two: a twin for two mailboxes, one of them new; a flag, an expunge, a renaming, a deletion, a new user.
    store.ctl(&["mailbox", "create", "user/ann/New"]).expect(0);
    deliver(&store, &[INBOX, "user/ann/New"], &message("twin", 900));
    deliver(&store, &[INBOX], &message("long", 300_000));
    store.ctl(&["message", "flags", INBOX, "1", "--add", "\\Flagged"]).expect(0);
    store.ctl(&["message", "expunge", INBOX, "2"]).expect(0);
    store.ctl(&["purge"]).expect(0);
    store.ctl(&["mailbox", "rename", "user/ann/Work", "user/ann/Play"]).expect(0);
    store.ctl(&["mailbox", "delete", "user/ann/Old", "--yes"]).expect(0);
    deliver(&store, &["user/bob/INBOX"], &message("not of the archive", 50));
    let (then, whole) = (now(), contents(&store));
    // Later.
    store.ctl(&["message", "flags", INBOX, "1", "--remove", "\\Flagged"]).expect(0);
    store.ctl(&["message", "expunge", INBOX, "1,5"]).expect(0);
    deliver(&store, &[INBOX], &message("later", 100));
    store.ctl(&["mailbox", "create", "user/ann/Later"]).expect(0);
    store.ctl(&["purge"]).expect(0);
    store.ctl(&["user", "delete", "ann", "--yes"]).expect(0);
    store.ctl(&["checkpoint"]).expect(0);
    let done = as_of(&store, &file, &then, &[], 0);
    assert_eq!(count(&done, "unrestorable"), 0, "{done}");
    let of_ann = |all: &Value| -> Vec<Value> {
        let all = all.as_array().unwrap().iter().filter(|m| m["name"].as_str().unwrap().starts_with("user/ann/"));
        all.cloned()
            .map(|mut mailbox| {
                // UIDs go on behind those that were given later.
                mailbox.as_object_mut().unwrap().remove("uidnext");
                mailbox
            })
            .collect()
    };
    assert_eq!(of_ann(&contents(&store)), of_ann(&whole));
    assert_eq!(count(&as_of(&store, &file, &then, &[], 0), "restored"), 0);
    // With --skip-deletes what was deleted between the two comes too.
    as_of(&store, &file, &then, &["--skip-deletes"], 0);
    assert_eq!(digests(&store, "user/ann/Old").len(), 1);
    assert_eq!(digests(&store, INBOX).len(), 6);
}

// What cannot be answered is refused, and the reason says what is missing
#[test]
fn what_the_log_and_the_archive_cannot_answer_is_refused() {
    let store = TestStore::new();
    let _daemon = start(&store, "[log]\nsegment_size = '1MiB'\n");
    store.ctl(&["user", "add", "ann"]).expect(0);
    let (base, next, early) = (store.beside("base.sda"), store.beside("next.sda"), now());
    deliver(&store, &[INBOX], &message("first", 400));
    backup(&store, &base, &["/"]);
    backup(&store, &next, &["--since-archive", text(&base), "/"]);
    let refused = |file: &Path, at: &str, what: &str| {
        let run = store.ctl(&["restore", "-f", text(file), "--yes", "--as-of", at]).expect(65);
        assert!(run.err.contains(what), "{}", run.err);
    };
    refused(&base, &early, "which is later than");
    refused(&base, "2190-01-01T00:00:00Z", "it lies in the future");
    refused(&next, &now(), "only what changed behind another");
    // The log between the two is retired.
    let then = now();
    for n in 0..6 {
        deliver(&store, &[INBOX], &message(format!("more{n}"), 200_000));
    }
    for n in 0..40 {
        deliver(&store, &[INBOX], &message(format!("short{n}"), 60_000));
    }
    store.ctl(&["checkpoint"]).expect(0);
    assert!(store.json(&["log", "list", "--all"])[0]["first_lsn"].as_u64().unwrap() > 20, "it goes on elsewhere");
    refused(&base, &then, "the log begins at LSN");
    let before = contents(&store);
    refused(&base, &now(), "the log begins at LSN");
    assert_eq!(contents(&store), before);
}

// row B4: down to one message, into another folder, with a map; the log archive serves what the log has retired
#[test]
fn one_message_of_a_moment_from_the_log_archive() {
    let store = TestStore::new();
    let archive = store.beside("log-archive");
    let daemon = start(&store, &format!("[archive]\npath = {:?}\n[log]\nsegment_size = '1MiB'\n", text(&archive)));
    store.ctl(&["user", "add", "ann"]).expect(0);
    let base = store.beside("base.sda");
    backup(&store, &base, &["/"]);
    deliver(&store, &[INBOX], &message("wanted", 3_000));
    let then = now();
    store.ctl(&["message", "expunge", INBOX, "1"]).expect(0);
    store.ctl(&["purge"]).expect(0);
    many(&daemon, INBOX, (0..6_000).map(|n| format!("filler{n}")));
    crate::harness::until("the log to be archived and retired", || {
        store.ctl(&["checkpoint"]).expect(0);
        let first = store.json(&["log", "list", "--all"])[0]["first_lsn"].as_u64().unwrap();
        (first > 100).then_some(())
    });
    let query = ["--query", "subject:wanted", "--into", "Found"];
    let done = as_of(&store, &base, &then, &query, 0);
    assert_eq!(done["restored"][0]["mailbox"], json!("user/ann/Found"), "{done}");
    assert_eq!(digests(&store, "user/ann/Found").len(), 1);
    assert_eq!(count(&as_of(&store, &base, &then, &query, 0), "restored"), 0);
}
