//! Rows of archives: what stands in a mailbox when each was restored behind the one before it, and what is said when one is missing, or when
//! users have changed the mailbox since.

use super::{backup, contents, count, deliver, digests_of, message, restore, text};
use crate::harness::{Daemon, TestStore};
use serde_json::{Value, json};
use std::path::PathBuf;

const INBOX: &str = "user/ann/INBOX";

/// Ann with messages m1 to m`n` in her INBOX.
fn ann(n: u32) -> (TestStore, Daemon) {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "ann"]).expect(0);
    (1..=n).for_each(|n| bring(&store, n));
    (store, daemon)
}

fn bring(store: &TestStore, n: u32) {
    deliver(store, &[INBOX], &message(format!("m{n}"), 700));
}

/// Archives of a store, each of which follows the one before.
struct Row<'a> {
    of: &'a TestStore,
    files: Vec<PathBuf>,
}

impl Row<'_> {
    fn of(store: &TestStore) -> Row<'_> {
        let mut row = Row { of: store, files: Vec::new() };
        row.next();
        row
    }

    fn next(&mut self) -> Value {
        let file = self.of.beside(&format!("row{}.sda", self.files.len()));
        let base = self.files.last().cloned();
        let args = match &base {
            None => vec!["/"],
            Some(base) => vec!["--since-archive", text(base), "/"],
        };
        let done = backup(self.of, &file, &args);
        self.files.push(file);
        done
    }

    /// Restores some of them in this order; the last may end with another status.
    fn restore(&self, to: &TestStore, which: &[usize], status: i32) -> Value {
        let (last, before) = which.split_last().unwrap();
        before.iter().for_each(|n| drop(restore(to, &self.files[*n], &[], 0)));
        restore(to, &self.files[*last], &[], status)
    }
}

fn flags(store: &TestStore, uid: u64) -> Value {
    let list = store.json(&["message", "list", INBOX]);
    let found = list.as_array().unwrap().iter().find(|m| m["uid"].as_u64() == Some(uid));
    found.map_or(Value::Null, |m| m["flags"].clone())
}

fn uids(store: &TestStore, name: &str) -> Vec<u64> {
    store.json(&["message", "list", name]).as_array().unwrap().iter().map(|m| m["uid"].as_u64().unwrap()).collect()
}

fn uidnext(store: &TestStore) -> u64 {
    store.json(&["mailbox", "show", INBOX])["uidnext"].as_u64().unwrap()
}

// rows 136, 137, I6: what was brought back between two archives has its own UID again, and no UID is another message's; later flags find it
#[test]
fn what_was_brought_back_between_two_archives_keeps_its_uid() {
    let (from, _one) = ann(4);
    from.ctl(&["message", "expunge", INBOX, "3"]).expect(0);
    let mut row = Row::of(&from);
    from.ctl(&["mailbox", "undelete", INBOX, "--uid", "3"]).expect(0);
    bring(&from, 5);
    row.next();
    from.ctl(&["message", "flags", INBOX, "3,5", "--add", "\\Flagged"]).expect(0);
    row.next();
    let to = TestStore::new();
    let _two = to.start();
    row.restore(&to, &[0, 1], 0);
    assert_eq!(uids(&to, INBOX), [1, 2, 3, 4, 5]);
    row.restore(&to, &[2], 0);
    assert_eq!(contents(&to), contents(&from));
    row.restore(&to, &[2, 1, 0, 2], 0);
    assert_eq!(contents(&to), contents(&from), "once more nothing changes");
    assert_eq!(to.json(&["check", "--all", "--deep"])["findings"], json!([]));
}

// I6: where a message cannot have its UID it gets one that no message of the archive has; the others keep theirs
#[test]
fn a_message_that_is_renumbered_takes_no_uid_of_the_archive() {
    let (from, _one) = ann(4);
    from.ctl(&["message", "expunge", INBOX, "3"]).expect(0);
    let mut row = Row::of(&from);
    from.ctl(&["mailbox", "undelete", INBOX, "--uid", "3"]).expect(0);
    bring(&from, 5);
    bring(&from, 6);
    row.next();
    let to = TestStore::new();
    let _two = to.start();
    row.restore(&to, &[0], 0);
    to.ctl(&["message", "flags", INBOX, "1", "--add", "\\Seen"]).expect(0);
    deliver(&to, &[INBOX], &message("its own", 200));
    let done = row.restore(&to, &[1], 0);
    let renumbered: Vec<_> =
        done["restored"].as_array().unwrap().iter().map(|r| (r["uid"].as_u64(), r["new_uid"].as_u64())).collect();
    assert_eq!(renumbered, [(Some(3), Some(3)), (Some(5), Some(7)), (Some(6), Some(6))]);
    assert_eq!(flags(&to, 1), json!(["\\Seen"]), "the user's own");
    let there = digests_of(&contents(&to));
    assert!(digests_of(&contents(&from)).iter().all(|digest| there.contains(digest)) && there.len() == 7);
}

// I6: UIDs of messages that came and went between two archives are given to none here, and the next archive is not refused for them
#[test]
fn messages_that_came_and_went_between_two_archives_leave_their_uids() {
    let (from, _one) = ann(2);
    let mut row = Row::of(&from);
    bring(&from, 3);
    from.ctl(&["message", "expunge", INBOX, "3"]).expect(0);
    row.next();
    bring(&from, 4);
    row.next();
    let to = TestStore::new();
    let _two = to.start();
    row.restore(&to, &[0, 1], 0);
    assert_eq!(uidnext(&to), 4);
    row.restore(&to, &[2], 0);
    assert_eq!(contents(&to), contents(&from));
}

// rows 136, 142: a folder that the configuration leaves out is not gone; one that is gone is named, and before it is done, too
#[test]
fn what_is_only_left_out_is_not_taken_for_gone() {
    let from = TestStore::new();
    let config = from.beside("storedd.toml");
    std::fs::write(&config, "").unwrap();
    let _one = from.start_with(&["--config", text(&config)]);
    from.ctl(&["user", "add", "ann"]).expect(0);
    for name in ["user/ann/Trash", "user/ann/Old", "user/ann/Gone"] {
        from.ctl(&["mailbox", "create", name]).expect(0);
        deliver(&from, &[name], &message(name, 300));
    }
    let mut row = Row::of(&from);
    std::fs::write(&config, "[backup]\nexclude = \"Trash\"\n").unwrap();
    from.ctl(&["config", "reload"]).expect(0);
    from.ctl(&["mailbox", "rename", "user/ann/Old", "user/ann/New"]).expect(0);
    from.ctl(&["mailbox", "delete", "user/ann/Gone", "--yes"]).expect(0);
    row.next();
    let to = TestStore::new();
    let _two = to.start();
    row.restore(&to, &[0], 0);
    let before = contents(&to);
    let told = ["deleted user/ann/Gone", "renamed user/ann/Old to user/ann/New"];
    let tried = to.ctl(&["restore", "-f", text(&row.files[1]), "--dry-run"]).expect(0);
    told.iter().for_each(|line| assert!(tried.out.contains(&format!("would have {line}")), "{line}: {}", tried.out));
    assert_eq!(contents(&to), before, "nothing was done");
    let done = to.ctl(&["restore", "-f", text(&row.files[1]), "--yes"]).expect(0);
    told.iter().for_each(|line| assert!(done.out.contains(line), "{line}: {}", done.out));
    assert_eq!(contents(&to), contents(&from), "Trash is still there");
    assert_eq!(uids(&to, "user/ann/Trash"), [1]);
}

// row 138: over the mailbox that was saved, an archive that follows another undoes nothing that its user has done since
#[test]
fn what_the_user_did_since_is_not_undone() {
    let (store, _one) = ann(4);
    store.ctl(&["mailbox", "create", "user/ann/Work"]).expect(0);
    deliver(&store, &["user/ann/Work"], &message("work", 300));
    let mut row = Row::of(&store);
    store.ctl(&["message", "flags", INBOX, "1", "--add", "\\Flagged"]).expect(0);
    store.ctl(&["message", "expunge", INBOX, "2"]).expect(0);
    store.ctl(&["mailbox", "delete", "user/ann/Work", "--yes"]).expect(0);
    row.next();
    store.ctl(&["message", "flags", INBOX, "1", "--remove", "\\Flagged"]).expect(0);
    store.ctl(&["mailbox", "undelete", INBOX, "--uid", "2"]).expect(0);
    store.ctl(&["mailbox", "undelete", "user/ann/Work"]).expect(0);
    let whole = contents(&store);
    row.restore(&store, &[0, 1], 0);
    assert_eq!(contents(&store), whole);
    // On another store the same: what was done there behind the last archive stays, and it is said.
    let to = TestStore::new();
    let _two = to.start();
    row.restore(&to, &[0, 1], 0);
    let changes: [&[&str]; 2] =
        [&["message", "flags", INBOX, "1", "--remove", "\\Flagged"], &["mailbox", "undelete", INBOX, "--uid", "2"]];
    for change in changes {
        to.ctl(change).expect(0);
        let there = contents(&to);
        let again = to.ctl(&["restore", "-f", text(&row.files[1]), "--yes"]).expect(0);
        assert!(again.err.contains("user/ann/INBOX is not as the archive before this one left it"), "{}", again.err);
        assert_eq!(contents(&to), there);
        to.ctl(&["message", "flags", INBOX, "1", "--add", "\\Flagged"]).expect(0);
    }
}

// row 140: an archive of the row that was not restored is noticed by name, also if no new mail came with it
#[test]
fn an_archive_that_is_missing_in_the_row_is_named() {
    let (from, _one) = ann(4);
    from.ctl(&["message", "expunge", INBOX, "3"]).expect(0);
    let mut row = Row::of(&from);
    from.ctl(&["message", "flags", INBOX, "1", "--add", "\\Flagged"]).expect(0);
    from.ctl(&["mailbox", "undelete", INBOX, "--uid", "3"]).expect(0);
    row.next();
    from.ctl(&["message", "flags", INBOX, "2", "--add", "\\Seen"]).expect(0);
    row.next();
    let to = TestStore::new();
    let _two = to.start();
    row.restore(&to, &[0], 0);
    let there = contents(&to);
    let refused = to.ctl(&["--json", "restore", "-f", text(&row.files[2]), "--yes"]);
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(
        refused.err.contains("/primary/user/ann/INBOX: UID 3 of it: in an archive before this one"),
        "{}",
        refused.err
    );
    assert!(refused.err.contains("user/ann/INBOX is not as the archive before this one left it"), "{}", refused.err);
    assert_eq!(contents(&to), there);
    // In order, all of it.
    row.restore(&to, &[1, 2], 0);
    assert_eq!(contents(&to), contents(&from));
    assert_eq!(count(&row.restore(&to, &[1], 0), "unrestorable"), 0, "an earlier one again");
    assert_eq!(contents(&to), contents(&from));
}

// row 137: with -n, too, a mailbox that is not there comes back under its name, with its UIDVALIDITY
#[test]
fn a_new_folder_is_made_only_where_the_name_is_taken() {
    let (from, _one) = ann(2);
    let row = Row::of(&from);
    let to = TestStore::new();
    let _two = to.start();
    restore(&to, &row.files[0], &["-n"], 0);
    assert_eq!(contents(&to), contents(&from));
}

// A mailbox that could not be listed when the archive was made is told to whoever looks into it or restores it, and does not come back empty
#[test]
fn a_mailbox_that_could_not_be_listed_does_not_come_back_empty() {
    let (from, one) = ann(2);
    let (second, aside) = (from.beside("second"), from.beside("aside"));
    from.ctl(&["partition", "add", "second", text(&second)]).expect(0);
    from.ctl(&["user", "add", "bob", "--partition", "second"]).expect(0);
    deliver(&from, &["user/bob/INBOX"], &message("bob's", 300));
    from.ctl(&["checkpoint"]).expect(0);
    drop(one);
    std::fs::rename(&second, &aside).unwrap();
    let _one = from.start();
    let file = from.beside("part.sda");
    let made = from.ctl(&["--json", "backup", "-f", text(&file), "/"]).expect(1);
    assert_eq!(count(&made.json(), "skipped"), 1, "{made:?}");
    let to = TestStore::new();
    let _two = to.start();
    let done = restore(&to, &file, &[], 1);
    assert_eq!((count(&done, "restored"), count(&done, "unrestorable")), (2, 1), "{done}");
    assert_eq!(done["unrestorable"][0]["object"], "/second/user/bob/INBOX");
    assert_eq!(to.json(&["mailbox", "list", "user/bob/*"]), json!([]));
    let shown = to.ctl(&["restore", "-t", "-f", text(&file)]).expect(1);
    assert!(shown.out.contains("/second/user/bob/INBOX\tnot in the archive to its end"), "{}", shown.out);
}
