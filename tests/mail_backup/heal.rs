//! Messages that are there without their bytes, and an archive that has them.

use super::{backup, contents, count, deliver, message, pipe, references, restore, summary, text};
use crate::harness::{Daemon, TestStore};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) const ANN: &str = "user/ann/INBOX";
pub(super) const BOB: &str = "user/bob/INBOX";

/// The file of a message.
pub(super) fn file_of(store: &TestStore, mailbox: &str, uid: u32) -> PathBuf {
    fn walk(dir: &Path, name: &str) -> Option<PathBuf> {
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).find_map(|path| match path.is_dir() {
            true => walk(&path, name),
            false => path.file_name().is_some_and(|found| found == name).then_some(path),
        })
    }
    let shown = store.json(&["mailbox", "show", mailbox]);
    let dir = store.data.join("partition/primary").join(shown["path"].as_str().unwrap());
    walk(&dir, &format!("{uid}.msg")).unwrap_or_else(|| panic!("{mailbox} {uid} has no file"))
}

/// Ann has six messages that are too long for the log, two of them with Bob, in files; all of it is in an archive.
pub(super) fn saved() -> (TestStore, Daemon, PathBuf) {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "ann"]).expect(0);
    store.ctl(&["user", "add", "bob"]).expect(0);
    for n in 0..6 {
        let to: &[&str] = if n < 2 { &[ANN, BOB] } else { &[ANN] };
        deliver(&store, to, &message(format!("m{n}"), 90_000 + 1000 * n));
    }
    store.ctl(&["message", "flags", ANN, "2,3", "--add", "\\Flagged", "--add", "$Work"]).expect(0);
    store.ctl(&["checkpoint"]).expect(0);
    let file = store.beside("all.sda");
    backup(&store, &file, &["/"]);
    (store, daemon, file)
}

fn uids(done: &Value, key: &str) -> Vec<(u64, u64)> {
    let pair = |one: &Value| (one["uid"].as_u64().unwrap(), one["new_uid"].as_u64().unwrap());
    done[key].as_array().unwrap().iter().map(pair).collect()
}

fn is_whole(store: &TestStore, before: &Value) {
    assert_eq!(contents(store), *before);
    let checked = store.ctl(&["--json", "check", "--all", "--deep"]).expect(0).json();
    assert_eq!(checked["findings"], json!([]), "{checked}");
}

// rows 131, 139: a message whose row is there and whose bytes are lost was skipped as one that the mailbox has, in the night in which the archive
// alone had them
#[test]
fn lost_bytes_come_back_to_the_message_that_is_there() {
    let (store, daemon, file) = saved();
    let before = contents(&store);
    std::fs::remove_file(file_of(&store, ANN, 3)).unwrap();
    std::fs::write(file_of(&store, ANN, 4), b"half").unwrap();
    // Of the two names of one file that of Ann is gone.
    std::fs::remove_file(file_of(&store, ANN, 1)).unwrap();
    let tried = summary(store.ctl(&["--json", "restore", "-f", text(&file), "--dry-run"]), 0);
    assert_eq!(uids(&tried, "healed"), [(1, 1), (3, 3), (4, 4)], "{tried}");
    assert_eq!((count(&tried, "restored"), count(&tried, "skipped")), (0, 5), "{tried}");
    assert_eq!(std::fs::read(file_of(&store, ANN, 4)).unwrap(), b"half", "a dry run changes nothing");
    store.ctl(&["check", "--all"]).expect(2);
    let told = store.ctl(&["restore", "-f", text(&file), "--yes", "--query", "uid:3"]).expect(0).out;
    assert!(told.contains("put back the bytes of user/ann/INBOX 3") && told.contains("1 healed"), "{told}");
    let done = restore(&store, &file, &[], 0);
    assert_eq!(uids(&done, "healed"), [(1, 1), (4, 4)], "{done}");
    assert_eq!((count(&done, "restored"), count(&done, "skipped")), (0, 6), "{done}");
    is_whole(&store, &before);
    assert_eq!(count(&restore(&store, &file, &[], 0), "healed"), 0, "a second run changes nothing");
    // What stood in its place is kept.
    let kept: Vec<_> = std::fs::read_dir(store.data.join("partition/primary/.quarantine")).unwrap().collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(std::fs::read_dir(store.data.join("partition/primary/.staging")).unwrap().count(), 0);
    assert_eq!(daemon.stop(), 0);
}

// What was expunged can be brought back, so its bytes come back too; and messages with the same bytes get them all
#[test]
fn expunged_messages_and_further_ones_with_the_same_bytes_are_healed_too() {
    let (store, daemon, file) = saved();
    store.ctl(&["message", "expunge", ANN, "3"]).expect(0);
    deliver(&store, &[ANN], &message("m3", 93_000));
    store.ctl(&["checkpoint"]).expect(0);
    let before = contents(&store);
    [3, 4, 7].iter().for_each(|uid| std::fs::remove_file(file_of(&store, ANN, *uid)).unwrap());
    let done = restore(&store, &file, &["--heal"], 0);
    assert_eq!(uids(&done, "healed"), [(3, 3), (4, 4), (4, 7)], "{done}");
    is_whole(&store, &before);
    store.ctl(&["mailbox", "undelete", ANN, "--uid", "3"]).expect(0);
    is_whole(&store, &contents(&store));
    assert_eq!(daemon.stop(), 0);
}

// Other bytes of the same length: found when every byte is read, or when the daemon has met them before
#[test]
fn damaged_bytes_come_back_when_they_are_known_or_looked_for() {
    let (store, daemon, file) = saved();
    let before = contents(&store);
    let spoil = |uid: u32| {
        let path = file_of(&store, ANN, uid);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[70_000] ^= 1;
        // As rot does it: with nothing that a look at the file would show.
        std::fs::write(&path, bytes).unwrap();
    };
    (3..=5).for_each(spoil);
    assert_eq!(count(&restore(&store, &file, &["--query", "uid:3"], 0), "healed"), 0);
    // Somebody wanted to read it.
    assert_ne!(store.ctl(&["message", "show", ANN, "4", "--raw"]).status, 0);
    let done = restore(&store, &file, &[], 0);
    assert_eq!(uids(&done, "healed"), [(4, 4)], "{done}");
    let done = restore(&store, &file, &["--deep"], 0);
    assert_eq!(uids(&done, "healed"), [(3, 3), (5, 5)], "{done}");
    is_whole(&store, &before);
    assert_eq!(daemon.stop(), 0);
}

// With --heal nothing else comes: neither what was deleted since, nor a mailbox that is gone
#[test]
fn healing_alone_brings_nothing_else_back() {
    let (store, daemon, file) = saved();
    store.ctl(&["message", "expunge", ANN, "5"]).expect(0);
    store.ctl(&["user", "delete", "bob", "--yes"]).expect(0);
    deliver(&store, &[ANN], &message("later", 300));
    store.ctl(&["checkpoint"]).expect(0);
    let before = contents(&store);
    [1, 6].iter().for_each(|uid| std::fs::remove_file(file_of(&store, ANN, *uid)).unwrap());
    let tried = summary(store.ctl(&["--json", "restore", "-f", text(&file), "--heal", "--dry-run"]), 0);
    assert_eq!(uids(&tried, "healed"), [(1, 1), (6, 6)], "{tried}");
    let done = restore(&store, &file, &["--heal"], 0);
    let counts = ["healed", "restored", "skipped", "mailboxes", "unrestorable"].map(|key| count(&done, key));
    assert_eq!(counts, [2, 0, 0, 0, 0], "{done}");
    is_whole(&store, &before);
    assert_eq!(daemon.stop(), 0);
}

// With -i what the mailbox has comes once more; what it lacks the bytes of is no such message
#[test]
fn with_duplicates_asked_for_lost_bytes_come_back_all_the_same() {
    let (store, daemon, file) = saved();
    std::fs::remove_file(file_of(&store, ANN, 6)).unwrap();
    let done = restore(&store, &file, &["-i", "--query", "uid:5,6", ANN], 0);
    assert_eq!((uids(&done, "healed"), count(&done, "restored")), (vec![(6, 6)], 1), "{done}");
    assert_eq!(store.json(&["message", "list", ANN]).as_array().unwrap().len(), 7);
    assert_eq!(daemon.stop(), 0);
}

// rows 134, 137: lost bytes that stand with another message of the archive: found in a file, from a pipe with the one they stand with, or in a second run
#[test]
fn lost_bytes_that_stand_elsewhere_in_the_archive_come_back() {
    let (store, daemon, file) = saved();
    let before = contents(&store);
    let lose = |mailboxes: &[&str]| {
        for mailbox in mailboxes {
            [1, 2].iter().for_each(|uid| std::fs::remove_file(file_of(&store, mailbox, *uid)).unwrap());
        }
    };
    // Both names, and the archive has the bytes once.
    lose(&[ANN, BOB]);
    let done = restore(&store, &file, &[], 0);
    assert_eq!((count(&done, "healed"), count(&done, "skipped")), (4, 4), "{done}");
    is_whole(&store, &before);
    lose(&[BOB]);
    assert_eq!(count(&restore(&store, &file, &["bob"], 0), "healed"), 2);
    is_whole(&store, &before);
    let archive = std::fs::read(&file).unwrap();
    let piped = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_storectl"));
        command.arg("--data-dir").arg(&store.data).args(["--json", "restore", "-f", "-", "--yes"]).args(args);
        crate::harness::run(command.current_dir(store.beside(".")), Some(&archive))
    };
    lose(&[ANN, BOB]);
    assert_eq!(count(&summary(piped(&[]), 0), "healed"), 4);
    is_whole(&store, &before);
    lose(&[BOB]);
    let first = piped(&["bob"]).expect(65);
    assert!(first.err.contains("2 references are in references-"), "{first:?}");
    let second = summary(piped(&["-r", &references(&store)]), 0);
    assert_eq!((count(&second, "healed"), count(&second, "restored")), (2, 0), "{second}");
    is_whole(&store, &before);
    assert_eq!(daemon.stop(), 0);
}

// A whole directory of message files, short and long ones, from another store that has the same mail: each gets its own bytes, however many go together
#[test]
fn a_directory_of_message_files_comes_back_from_a_pipe() {
    let (from, to) = (TestStore::new(), TestStore::new());
    let (_one, _two) = (from.start(), to.start());
    from.ctl(&["user", "add", "ann"]).expect(0);
    for n in 0..40 {
        deliver(&from, &[ANN], &message(format!("m{n}"), if n % 4 == 0 { 80_000 } else { 700 + n }));
    }
    summary(pipe(&from, &["/"], &to, &[]), 0);
    to.ctl(&["checkpoint"]).expect(0);
    let before = contents(&to);
    let dir = file_of(&to, ANN, 1).parent().unwrap().to_owned();
    std::fs::remove_dir_all(&dir).unwrap();
    let done = summary(pipe(&from, &["/"], &to, &[]), 0);
    assert_eq!((count(&done, "healed"), count(&done, "restored"), count(&done, "skipped")), (40, 0, 0), "{done}");
    is_whole(&to, &before);
}
