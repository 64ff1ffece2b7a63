//! What was asked for by name and is not there is said, and never taken for done.

use super::as_of::now;
use super::{backup, count, deliver, message, restore, sample, text};
use crate::harness::TestStore;
use serde_json::json;
use storectl::archive::content::{Close, Mailbox, Message, User};
use storectl::archive::{Options, Writer};

// row 127: a name that was typed wrong, or a user who lies on another partition by now, gave an archive of nothing, with 0, in the place of the one that
// had his mail
#[test]
fn an_object_that_takes_nothing_replaces_no_archive() {
    let (store, _daemon) = sample();
    store.ctl(&["partition", "add", "second", text(&store.beside("second"))]).expect(0);
    store.ctl(&["user", "add", "zoe", "--partition", "second"]).expect(0);
    let file = store.beside("mail.sda");
    let refused = |object: &str, code: i32| {
        backup(&store, &file, &["ann"]);
        let before = std::fs::read(&file).unwrap();
        let run = store.ctl(&["backup", "-f", text(&file), object]).expect(code);
        assert!(run.err.contains(if code == 67 { "no such user" } else { object }), "{object}: {}", run.err);
        assert_eq!(std::fs::read(&file).unwrap(), before, "{object}");
    };
    for object in
        ["/primary/user/ann/Wrok", "/primary/user/zoe", "/second/ann", "/primary/shared/nwes", "user/ann/Wrok"]
    {
        refused(object, 68);
    }
    refused("/primary/user/nobody", 67);
    store.ctl(&["backup", "--stage", text(&store.beside("stage")), "/second/user/ann"]).expect(68);
    // What is asked for as a whole may be empty, and INBOX is a name in any case.
    store.ctl(&["partition", "add", "third", text(&store.beside("third"))]).expect(0);
    for (objects, mailboxes) in
        [(["/third"], 0), (["/third/shared"], 0), (["/third/user"], 0), (["/primary/user/ann/inbox"], 1)]
    {
        assert_eq!(backup(&store, &file, &objects)["objects"], mailboxes, "{objects:?}");
    }
}

// row 130: of several objects one that was typed wrong was not mentioned if another was there; and `user/ann/inbox` was found by a backup and by no
// restore
#[test]
fn an_object_of_which_the_archive_has_nothing_is_named() {
    let (store, _daemon) = sample();
    let file = store.beside("mail.sda");
    backup(&store, &file, &["/"]);
    let to = TestStore::new();
    let _to = to.start();
    for (n, objects) in
        [["ann", "bbo"], ["user/ann/INBOX", "/primary/user/bob/Wrok"], ["/second", "ann"]].into_iter().enumerate()
    {
        let missing = *objects.iter().find(|object| !object.contains("ann")).unwrap();
        for dry in [true, false] {
            let done = restore(&to, &file, &[&objects[..], if dry { &["--dry-run"] } else { &[] }].concat(), 1);
            assert_eq!(done["unrestorable"][0]["object"], missing, "{done}");
            assert_eq!(count(&done, "unrestorable"), 1, "{done}");
            assert_eq!(count(&done, "restored") + count(&done, "skipped"), 1, "{n}: {done}");
        }
    }
    for object in ["user/bob/inbox", "/primary/user/eve/Inbox", "/primary/ann/inbox"] {
        let done = restore(&to, &file, &[object], 0);
        assert_eq!(count(&done, "restored") + count(&done, "skipped"), 1, "{object}: {done}");
    }
}

// row B4: a mailbox that was deleted when the archive was made, or had a name that was not asked for, and was there at the moment, was left out without a word
#[test]
fn a_mailbox_that_the_archive_cannot_have_is_named() {
    let (store, _daemon) = sample();
    let exclude = store.ctl(&["config", "set", "backup.exclude", "Trash"]);
    assert_eq!(exclude.status, 0, "{exclude:?}");
    for name in ["user/ann/Old", "user/ann/Trash", "user/eve/Work"] {
        store.ctl(&["mailbox", "create", name]).expect(0);
        deliver(&store, &[name], &message(name, 300));
    }
    store.ctl(&["mailbox", "delete", "user/ann/Old", "--yes"]).expect(0);
    let file = store.beside("mail.sda");
    backup(&store, &file, &["ann"]);
    store.ctl(&["mailbox", "undelete", "user/ann/Old"]).expect(0);
    store.ctl(&["mailbox", "rename", "user/eve/Work", "user/ann/Work"]).expect(0);
    deliver(&store, &["user/ann/Trash", "user/ann/INBOX"], &message("behind", 300));
    let then = now();
    let done = restore(&store, &file, &["--as-of", &then], 1);
    let mut named: Vec<_> =
        done["unrestorable"].as_array().unwrap().iter().map(|one| one["object"].as_str().unwrap()).collect();
    named.sort_unstable();
    assert_eq!(named, ["/primary/user/ann/Old", "/primary/user/ann/Work"], "{done}");
    // What was not asked for is not missed.
    assert_eq!(count(&restore(&store, &file, &["--as-of", &then, "user/ann/INBOX"], 0), "unrestorable"), 0);
}

/// An archive that somebody made by hand, of one mailbox.
fn crafted(modseq: u64, size: Option<u64>) -> Vec<u8> {
    let (time, id) = ("2026-11-01T00:00:00Z", "0123456789abcdef0123456789abcdef");
    let about = json!({"program": "hand", "store": id, "id": id, "epoch": 0, "lsn": 1, "time": time, "objects": ["/"], "single_copy": true});
    let options = Options { level: 3, jobs: 1, block_bytes: 1 };
    let mut writer = Writer::new(Vec::new(), options, &serde_json::from_value(about).unwrap()).unwrap();
    let user = json!({"user": "eve", "partition": "primary", "subscriptions": []});
    writer.user(&serde_json::from_value::<User>(user).unwrap()).unwrap();
    let mailbox = json!({"object": "/primary/user/eve/INBOX", "name": "user/eve/INBOX", "id": "9", "partition": "primary", "uidvalidity": 9,
        "uidnext": 5, "highest_modseq": modseq, "acl": {}});
    writer.mailbox(&serde_json::from_value::<Mailbox>(mailbox).unwrap()).unwrap();
    let bytes = b"\r\n";
    let digest = "00".repeat(32);
    let message = json!({"uid": 1, "size": bytes.len(), "digest": digest, "date": time, "saved": time, "modseq": 1, "mailbox": "user/eve/INBOX", "begins": 2});
    let message = Message { size: size.unwrap_or(bytes.len() as u64), ..serde_json::from_value(message).unwrap() };
    writer.message(&message, bytes).unwrap();
    writer.close(&Close { messages: 1, ..Close::default() }).unwrap();
    writer.finish().unwrap().1
}

// S13: numbers in an archive that somebody made by hand: one overflowed in the daemon, one ended the restore with a bug
#[test]
fn what_no_store_gives_is_refused() {
    let store = TestStore::new();
    let daemon = store.start();
    let file = store.beside("crafted.sda");
    let try_it = |bytes: &[u8], args: &[&str], code: i32, what: &str| {
        std::fs::write(&file, bytes).unwrap();
        let begun = std::time::Instant::now();
        let run = store.ctl(&[&["restore", "-f", text(&file), "--yes"], args].concat()).expect(code);
        assert!(run.err.contains(what), "{what}: {}", run.err);
        assert!(begun.elapsed().as_secs() < 100, "{what}");
    };
    try_it(&crafted(u64::MAX, None), &[], 65, "modification sequence");
    assert_eq!(store.json(&["user", "list"]), json!([]));
    try_it(&crafted(1, Some(u64::MAX)), &["--pace", "1"], 1, "no message has more than");
    store.ctl(&["status"]).expect(0);
    assert_eq!(daemon.stop(), 0);
}
