//! A host that is lost with everything on it, and what `backup --complete` brings back, through the built programs.

use crate::docs;
use crate::harness::mail::{deliver, message};
use crate::harness::{Daemon, Run, TestStore, total, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Everything that is to come back: mailboxes with their numbers, rights and messages, users with limits and subscriptions.
fn contents(store: &TestStore) -> Value {
    let mut boxes = store.json(&["mailbox", "list"]);
    for mailbox in boxes.as_array_mut().unwrap() {
        let name = mailbox["name"].as_str().unwrap().to_owned();
        let messages = store.json(&["message", "list", &name]);
        let uids: Vec<u64> = messages.as_array().unwrap().iter().map(|m| m["uid"].as_u64().unwrap()).collect();
        let bytes: Vec<_> = uids
            .iter()
            .map(|uid| store.ctl(&["message", "show", &name, &uid.to_string(), "--raw"]).expect(0).out)
            .collect();
        let mailbox = mailbox.as_object_mut().unwrap();
        mailbox.insert("all".to_owned(), json!([messages, bytes]));
        // Where a host is rebuilt its paths are others, and numbers may skip.
        mailbox.remove("path");
        mailbox.remove("uidnext");
    }
    let about = |user: &str| {
        let user = store.json(&["user", "show", user]);
        json!([user["quota"]["storage"]["limit"], user["subscriptions"]])
    };
    let users = ["joe", "ann"].map(about);
    json!([boxes, users])
}

/// Two partitions, users on both, a message that two of one partition share, one that is flagged, one that is gone, a shared mailbox.
fn store() -> (TestStore, Daemon) {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["partition", "add", "second", text(&store.beside("second"))]).expect(0);
    store.ctl(&["user", "add", "joe", "--quota", "1GiB"]).expect(0);
    store.ctl(&["user", "add", "ann", "--partition", "second"]).expect(0);
    store.ctl(&["mailbox", "create", "user/joe/Work/Äpfel"]).expect(0);
    store.ctl(&["mailbox", "create", "shared/news"]).expect(0);
    store.ctl(&["subscribe", "joe", "user/joe/Work/Äpfel"]).expect(0);
    store.ctl(&["acl", "set", "user/joe/Work/Äpfel", "ann", "lrs"]).expect(0);
    deliver(&store, &["user/joe/INBOX", "user/joe/Work/Äpfel", "user/ann/INBOX"], &message("shared", 3000));
    for n in 0..5 {
        deliver(&store, &["user/joe/INBOX"], &message(format!("joe {n}"), 2000));
        deliver(&store, &["user/ann/INBOX"], &message(format!("ann {n}"), 200_000));
    }
    deliver(&store, &["shared/news"], &message("news", 700));
    store.ctl(&["message", "flags", "user/joe/INBOX", "2", "--add", "\\Flagged", "--add", "$Work"]).expect(0);
    store.ctl(&["message", "expunge", "user/joe/INBOX", "3"]).expect(0);
    (store, daemon)
}

fn complete(store: &TestStore, name: &str) -> (PathBuf, Value) {
    let dir = store.beside(name);
    let said = store.json(&["backup", "--complete", text(&dir)]);
    (dir, said)
}

/// An empty host: the disks are empty, and `second` is to lie where it lay.
fn lose_everything(store: &TestStore) {
    std::fs::remove_dir_all(&store.data).unwrap();
    std::fs::remove_dir_all(store.beside("second")).unwrap();
}

fn lose_what_is_there(store: &TestStore) {
    for dir in [store.data.clone(), store.beside("second")] {
        if let Err(e) = std::fs::remove_dir_all(&dir) {
            assert_eq!(e.kind(), std::io::ErrorKind::NotFound, "{e}");
        }
    }
}

// row 146: one bad message in a copy kept the whole host from coming back, for ever
#[test]
fn messages_that_are_damaged_in_a_copy_are_left_out_and_come_back_from_an_archive() {
    let (store, daemon) = store();
    let archive = store.beside("mail.sda");
    store.ctl(&["backup", "-f", text(&archive)]).expect(0);
    let (copy, _) = complete(&store, "copy");
    let before = contents(&store);
    assert_eq!(daemon.stop(), 0);
    lose_everything(&store);
    let root = copy.join("partition");
    let (shared, rotten, gone) =
        (message_files(&root, "shared"), message_files(&root, "joe 2"), message_files(&root, "ann 3"));
    // Two names of one file in one partition, one of them a file of its own by now, as some programs copy them.
    assert_eq!(shared.len(), 3);
    let twins: Vec<&PathBuf> = shared.iter().filter(|path| path.starts_with(root.join("primary"))).collect();
    let bytes = std::fs::read(twins[0]).unwrap();
    let flip = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[20] ^= 1;
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let list = std::fs::read_to_string(copy.join("FILES")).unwrap();
    let first = twins.iter().find(|path| {
        let name = path.strip_prefix(&copy).unwrap().display().to_string();
        list.lines().any(|line| line.starts_with("file") && line.ends_with(&name))
    });
    flip(first.unwrap());
    flip(&rotten[0]);
    std::fs::remove_file(&gone[0]).unwrap();
    let bad = [first.unwrap(), &rotten[0], &gone[0]];
    let told = store.ctl(&["restore-db", "--dry-run", text(&copy)]).expect(1);
    assert!(bad.iter().all(|path| told.err.contains(text(path))), "{told:?}");
    assert!(!store.data.exists() && !store.beside("second").exists());
    let run = store.ctl(&["--json", "restore-db", "--yes", text(&copy)]).expect(1);
    let said = run.json();
    assert_eq!(said["left_out"].as_array().unwrap().len(), 3, "{said}");
    assert!(bad.iter().all(|path| run.err.contains(text(path))), "{run:?}");
    let daemon = store.start();
    // What is lost is named, and nothing else is.
    let checked = store.ctl(&["--json", "check", "--all", "--deep"]).expect(2).json();
    assert_eq!(checked["lost"], 2, "{checked}");
    assert_eq!(store.ctl(&["message", "show", "user/joe/INBOX", "1", "--raw"]).expect(0).out.as_bytes(), bytes);
    let healed = store.ctl(&["--json", "restore", "-f", text(&archive), "--yes", "--heal"]).expect(0).json();
    assert_eq!(healed["healed"].as_array().unwrap().len(), 2, "{healed}");
    is_clean(&store);
    assert_eq!(contents(&store), before);
    assert_eq!(daemon.stop(), 0);
}

fn is_clean(store: &TestStore) {
    let checked = store.json(&["check", "--all", "--deep"]);
    assert_eq!(checked["findings"], json!([]), "{checked}");
}

/// Number of names of each file below a directory, by inode.
fn links(dir: &Path) -> BTreeMap<u64, u64> {
    let (mut all, mut dirs) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                dirs.push(entry.path());
            } else {
                *all.entry(meta.ino()).or_default() += 1;
            }
        }
    }
    all
}

// rows 85, 146: everything of a host is in one directory, and one command makes the same store of it where nothing is
#[test]
fn a_host_that_is_lost_is_made_again_from_its_complete_copy() {
    let (store, daemon) = store();
    let before = contents(&store);
    // What the log alone has goes along, too; and what lies staged.
    deliver(&store, &["user/ann/INBOX"], &message("late", 400_000));
    let (copy, said) = complete(&store, "copy");
    assert_eq!(said["partitions"], json!(["primary", "second"]), "{said}");
    assert_eq!((&said["messages"], &said["copies"], &said["skipped"]), (&json!(14), &json!(1), &json!([])), "{said}");
    assert!(copy.join("COMPLETE").is_file() && !copy.join("INCOMPLETE").exists() && !copy.join("FILES.new").exists());
    assert_eq!(links(&copy.join("partition/primary")).values().filter(|n| **n == 2).count(), 1);
    let with_late = contents(&store);
    assert_ne!(before, with_late);
    deliver(&store, &["user/joe/INBOX"], &message("too late", 100));
    daemon.kill();
    lose_everything(&store);
    let tell = store.ctl(&["restore-db", "--dry-run", text(&copy)]).expect(0).out;
    assert!(tell.contains("the copy is good") && tell.contains("would put partition second into"), "{tell}");
    assert!(!store.data.exists() && !store.beside("second").exists());
    store.ctl(&["restore-db", "--yes", text(&copy)]).expect(0);
    let daemon = store.start();
    assert_eq!(contents(&store), with_late);
    is_clean(&store);
    store.ctl(&["reconstruct", "-m"]).expect(0);
    assert_eq!(contents(&store), with_late);
    assert_eq!(links(&store.data.join("partition/primary")).values().filter(|n| **n == 2).count(), 1);
    // It goes on.
    let uidnext = store.json(&["mailbox", "show", "user/ann/INBOX"])["uidnext"].as_u64().unwrap();
    deliver(&store, &["user/ann/INBOX"], &message("new", 100));
    assert!(store.json(&["mailbox", "show", "user/ann/INBOX"])["uidnext"].as_u64().unwrap() > uidnext);
    assert_eq!(daemon.stop(), 0);
}

// row 146: the copy of a store that had given history up once could not be put back: `not a path inside the store: ""`
#[test]
fn a_copy_of_a_store_that_went_back_once_is_put_back() {
    let (store, daemon) = store();
    store.ctl(&["snapshot", "take"]).expect(0);
    let lsn = store.json(&["status"])["applied_lsn"].as_u64().unwrap();
    deliver(&store, &["user/joe/INBOX"], &message("given up", 100));
    assert_eq!(daemon.stop(), 0);
    store.storedd(&["recover", "--until-lsn", &lsn.to_string(), "--yes"]).expect(0);
    let daemon = store.start();
    assert!(store.data.join("given-up").is_file());
    // What came behind the point lies in `Recovered` when that is done.
    until("the adoption is done", || (!store.data.join("adoption-due").exists()).then_some(()));
    let before = contents(&store);
    let (copy, _) = complete(&store, "copy");
    assert_eq!(daemon.stop(), 0);
    lose_everything(&store);
    store.ctl(&["restore-db", "--dry-run", text(&copy)]).expect(0);
    store.ctl(&["restore-db", "--yes", text(&copy)]).expect(0);
    let daemon = store.start();
    assert_eq!(contents(&store), before);
    is_clean(&store);
    assert_eq!(daemon.stop(), 0);
}

// row 85: `status` forgot with each start that there was a backup, and never knew of a complete copy
#[test]
fn status_knows_of_the_last_backup_behind_a_start() {
    let store = TestStore::new();
    let age = || store.json(&["status"])["backup_age"].as_f64();
    let daemon = store.start();
    assert_eq!(age(), None);
    store.ctl(&["backup-db", text(&store.beside("media"))]).expect(0);
    assert!(age().is_some());
    assert_eq!(daemon.stop(), 0);
    let daemon = store.start();
    let before = age().expect("known behind a start");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    complete(&store, "copy");
    assert!(age().unwrap() < before + 1.0, "that of the complete copy");
    daemon.kill();
    let daemon = store.start();
    assert!(age().is_some());
    assert_eq!(daemon.stop(), 0);
}

// row 146: a start behind a restore that had failed made a new store in its data directory, and the restore was refused from then on
#[test]
fn a_start_behind_a_restore_that_failed_makes_no_store() {
    let (store, daemon) = store();
    let before = contents(&store);
    let (copy, _) = complete(&store, "copy");
    assert_eq!(daemon.stop(), 0);
    lose_everything(&store);
    // Where the database is to be staged lies something that no restore removes.
    std::fs::create_dir_all(store.data.join("mboxlist.restore/in the way")).unwrap();
    store.ctl(&["restore-db", "--yes", text(&copy)]).expect(74);
    let mut refused = store.spawn(&[]);
    assert_eq!(refused.wait(), 75);
    let (said, again) = (refused.log(), format!("restore-db --yes {}", text(&copy)));
    assert!(said.contains("was broken off") && said.contains(&again), "{said}");
    assert!(!store.data.join("STORE").exists() && !store.data.join("CONTROL").exists());
    let offline = store.ctl(&["recover"]).expect(75);
    assert!(offline.err.contains(&again), "{offline:?}");
    std::fs::remove_dir_all(store.data.join("mboxlist.restore")).unwrap();
    store.ctl(&["restore-db", "--yes", text(&copy)]).expect(0);
    assert!(!store.data.join("RESTORING").exists());
    let daemon = store.start();
    assert_eq!(contents(&store), before);
    assert_eq!(daemon.stop(), 0);
}

// row 146: a message comes, another goes, a user and a mailbox go while it is copied: it is of one moment all the same
#[test]
fn a_complete_copy_of_a_busy_store_is_of_one_moment() {
    let (store, daemon) = store();
    for n in 0..40 {
        store.ctl(&["user", "add", &format!("u{n}")]).expect(0);
        deliver(&store, &[&format!("user/u{n}/INBOX")], &message(format!("u{n}"), 1000));
    }
    let stop = AtomicBool::new(false);
    let (copy, added) = std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) && n < 2000 {
                deliver(&store, &["user/joe/INBOX", "user/ann/INBOX"], &message(format!("busy {n}"), 1500));
                if n < 40 {
                    store.ctl(&["user", "delete", &format!("u{n}"), "--yes"]).expect(0);
                }
                if n % 5 == 4 {
                    store.ctl(&["purge"]).expect(0);
                    store.ctl(&["checkpoint"]).expect(0);
                }
                n += 1;
            }
            n
        });
        let (copy, _) = complete(&store, "copy");
        stop.store(true, Ordering::Relaxed);
        (copy, busy.join().unwrap())
    });
    assert!(added > 0);
    daemon.kill();
    lose_everything(&store);
    store.ctl(&["restore-db", "--yes", text(&copy)]).expect(0);
    let daemon = store.start();
    is_clean(&store);
    // Of one moment: what was delivered to two is with both, or with none.
    let busy = |user: &str| store.json(&["message", "list", &format!("user/{user}/INBOX")]).as_array().unwrap().len();
    assert_eq!(busy("joe") - 5, busy("ann") - 6);
    store.ctl(&["reconstruct", "-m"]).expect(0);
    let recovered = store.json(&["mailbox", "list"]);
    let found: Vec<_> =
        recovered.as_array().unwrap().iter().filter(|m| m["name"].as_str().unwrap().contains("Recovered")).collect();
    assert_eq!(found, Vec::<&Value>::new());
    assert_eq!(daemon.stop(), 0);
}

/// The files of messages of a partition whose bytes begin so, by path.
fn message_files(root: &Path, has: &str) -> Vec<PathBuf> {
    let (mut found, mut dirs) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => dirs.push(path),
                false
                    if path.extension().is_some_and(|end| end == "msg")
                        && String::from_utf8_lossy(&std::fs::read(&path).unwrap()).contains(has) =>
                {
                    found.push(path);
                }
                false => {}
            }
        }
    }
    found.sort();
    found
}

// row 146: a copy of a store in which a message was damaged and another was gone said that all was well, with 0
#[test]
fn a_copy_of_a_damaged_store_names_what_is_damaged_and_ends_with_1() {
    let (store, daemon) = store();
    store.ctl(&["checkpoint"]).expect(0);
    let root = store.data.join("partition/primary");
    let (rotten, lost) = (message_files(&root, "joe 1"), message_files(&root, "joe 4"));
    let (rotten, lost) = (&rotten[0], &lost[0]);
    let mut bytes = std::fs::read(rotten).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(rotten, &bytes).unwrap();
    std::fs::remove_file(lost).unwrap();
    let copy = store.beside("copy");
    let said = store.ctl(&["backup", "--complete", text(&copy), "--json"]).expect(1);
    let said: Value = serde_json::from_str(&said.out).unwrap();
    let named: Vec<&str> = said["skipped"].as_array().unwrap().iter().map(|f| f["object"].as_str().unwrap()).collect();
    assert_eq!(named.len(), 2, "{said}");
    let list = std::fs::read_to_string(copy.join("UNREADABLE")).unwrap();
    for path in [rotten, lost] {
        assert!(named.contains(&text(path)) && list.contains(text(path)), "{said} {list}");
    }
    assert!(std::fs::read_to_string(copy.join("FILES")).unwrap().contains(" UNREADABLE\n"));
    // Who puts it back is told, too.
    let told = store.ctl(&["restore-db", "--dry-run", text(&copy)]).expect(1);
    assert!(told.err.contains(text(rotten)) && told.err.contains(text(lost)), "{told:?}");
    assert_eq!(daemon.stop(), 0);
}

// row 146: nothing is written into a directory that holds something, nothing incomplete or damaged is put back, and what was broken off goes on
#[test]
fn an_incomplete_or_damaged_copy_is_refused_and_a_restore_that_was_broken_off_goes_on() {
    let (store, daemon) = store();
    let full = store.beside("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("mine"), "mine").unwrap();
    let refused = store.ctl(&["backup", "--complete", text(&full)]).expect(73);
    assert!(refused.err.contains("not empty"), "{}", refused.err);
    assert_eq!(std::fs::read_dir(&full).unwrap().count(), 1);
    let inside = store.data.join("partition/primary/copy");
    store.ctl(&["backup", "--complete", text(&inside)]).expect(65);
    let (copy, _) = complete(&store, "copy");
    let before = contents(&store);
    store.ctl(&["backup", "--complete", text(&copy)]).expect(73);
    assert_eq!(daemon.stop(), 0);
    // A partition that is there stays; so does what another has put where one is to lie.
    let kept = store.ctl(&["restore-db", "--dry-run", text(&copy)]).expect(0).out;
    assert!(kept.contains("leave partition second as it is"), "{kept}");
    lose_everything(&store);
    std::fs::create_dir(store.beside("second")).unwrap();
    std::fs::write(store.beside("second").join("mine"), "mine").unwrap();
    store.ctl(&["restore-db", "--yes", text(&copy)]).expect(73);
    std::fs::remove_dir_all(store.beside("second")).unwrap();
    // A byte of an index: it is named, and nothing is there.
    let list = std::fs::read_to_string(copy.join("FILES")).unwrap();
    let lines: Vec<&str> = list.lines().filter(|line| line.starts_with("file") && line.ends_with(".idx")).collect();
    let victim = copy.join(lines.last().unwrap().split(' ').nth(3).unwrap());
    let bytes = std::fs::read(&victim).unwrap();
    let mut bad = bytes.clone();
    bad[17] ^= 1;
    std::fs::write(&victim, &bad).unwrap();
    for args in [["restore-db", "--dry-run", text(&copy)], ["restore-db", "--yes", text(&copy)]] {
        let refused = store.ctl(&args);
        assert!(refused.status > 1 && refused.err.contains(text(&victim)), "{refused:?}");
        assert!(!store.data.exists() && !store.beside("second").exists());
    }
    // Broken off in the middle.
    let begun = [store.data.join("partition/primary"), store.beside("second")];
    std::fs::write(&victim, &bytes).unwrap();
    let mut after = 2_000;
    while !begun.iter().any(|root| root.join(".restoring").is_file() && !root.join("PARTITION").exists()) {
        lose_what_is_there(&store);
        cut_off(&store, &["restore-db", "--yes", text(&copy)], after);
        after += 1_000;
        assert!(after < 2_000_000, "it was never cut off in the middle");
    }
    // The same command goes on.
    std::fs::write(copy.join("INCOMPLETE"), "").unwrap();
    let refused = store.ctl(&["restore-db", "--yes", text(&copy)]).expect(65);
    assert!(refused.err.contains("incomplete"), "{}", refused.err);
    std::fs::remove_file(copy.join("INCOMPLETE")).unwrap();
    store.ctl(&["restore-db", "--yes", text(&copy)]).expect(0);
    assert!(begun.iter().all(|root| !root.join(".restoring").exists() && root.join("PARTITION").is_file()));
    let daemon = store.start();
    assert_eq!(contents(&store), before);
    is_clean(&store);
    assert_eq!(daemon.stop(), 0);
}

/// Runs a command and kills it after a while; true if it had not ended by itself.
fn cut_off(store: &TestStore, args: &[&str], micros: u64) -> bool {
    let mut child = store.begin(args);
    std::thread::sleep(std::time::Duration::from_micros(micros));
    let ended = child.try_wait().unwrap().is_some();
    drop(child.kill());
    child.wait().unwrap();
    !ended
}

// SIGKILL of the daemon while it copies, and of the restore while it puts back: never a copy that is not whole and is taken for one, and the same command
// goes on
#[test]
fn killed_at_any_moment_a_copy_is_refused_or_whole_and_a_restore_goes_on() {
    let rounds: u64 = std::env::var("STOREDD_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let (store, mut daemon) = store();
    let before = contents(&store);
    let (mut refused, mut whole, mut cut) = (0, 0, 0);
    for round in 0..rounds {
        let copy = store.beside(&format!("copy{round}"));
        let mut client = store.begin(&["backup", "--complete", text(&copy)]);
        std::thread::sleep(std::time::Duration::from_micros(150_000 * round / rounds));
        daemon.kill();
        client.wait().unwrap();
        if copy.join("COMPLETE").exists() && !copy.join("INCOMPLETE").exists() {
            whole += 1;
        } else {
            let run = store.ctl(&["restore-db", "--yes", text(&copy)]);
            assert!(matches!(run.status, 64..=66), "{run:?}");
            refused += 1;
        }
        daemon = store.start();
        is_clean(&store);
    }
    let (copy, _) = complete(&store, "copy");
    daemon.kill();
    for round in 0..rounds {
        lose_everything(&store);
        if round % 2 == 0 {
            // Killed while it was saying whose files are to come.
            let root = store.data.join("partition/primary");
            std::fs::create_dir_all(&root).unwrap();
            std::fs::write(root.join(".restoring.new"), "half a li").unwrap();
        }
        let args = ["restore-db", "--yes", text(&copy)];
        let mut after = 10_000 + 10_000 * round / rounds;
        while cut_off(&store, &args, after) {
            (after, cut) = (after + after / 2, cut + 1);
            assert!(after < 60_000_000);
        }
        let done: Run = store.ctl(&args);
        // What was finished is a store like any other: its database is put aside for the same one.
        assert_eq!(done.status, 0, "{done:?}");
        let daemon = store.start();
        assert_eq!(contents(&store), before, "round {round}");
        is_clean(&store);
        assert_eq!(daemon.stop(), 0);
    }
    total(&format!(
        "complete copies: the daemon killed {rounds} times ({refused} incomplete and refused, {whole} whole), restores cut off {cut} times in {rounds} rounds and gone on with"
    ));
}

/// Copies by hand what `wanted` says of the files below a directory, as they are now.
fn copy_by_hand(from: &Path, to: &Path, wanted: &dyn Fn(&str) -> bool) {
    let mut dirs = vec![PathBuf::new()];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = std::fs::read_dir(from.join(&dir)) else { continue };
        for entry in entries.flatten() {
            let path = dir.join(entry.file_name());
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => dirs.push(path),
                Ok(kind) if kind.is_file() && wanted(path.to_str().unwrap()) => {
                    std::fs::create_dir_all(to.join(&dir)).unwrap();
                    // One that goes meanwhile is not copied.
                    drop(std::fs::copy(entry.path(), to.join(&path)));
                }
                _ => {}
            }
        }
    }
}

// row 146: files copied by hand in the order snapshots, database, indexes, messages, configuration, with the store at work in between
#[test]
fn files_copied_by_hand_in_the_order_of_the_manual_are_accepted_and_repaired() {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["user", "add", "ann"]).expect(0);
    let work = |step: usize| {
        for n in 0..3 {
            deliver(&store, &["user/joe/INBOX", "user/ann/INBOX"], &message(format!("{step} {n}"), 1000 + 100_000 * n));
        }
        store.ctl(&["message", "flags", "user/joe/INBOX", &(1 + 3 * step).to_string(), "--add", "\\Flagged"]).expect(0);
        store.ctl(&["message", "expunge", "user/joe/INBOX", &(2 + 3 * step).to_string()]).expect(0);
        store.ctl(&["mailbox", "create", &format!("user/joe/made{step}")]).expect(0);
        deliver(&store, &[&format!("user/joe/made{step}")], &message("made", 500));
        store.ctl(&["checkpoint"]).expect(0);
        // Not in any database yet.
        deliver(&store, &["user/ann/INBOX"], &message(format!("late {step}"), 700));
    };
    work(0);
    store.ctl(&["snapshot", "take", "--verify"]).expect(0);
    store.ctl(&["checkpoint"]).expect(0);
    let copy = TestStore::new();
    let take = |wanted: &dyn Fn(&str) -> bool| copy_by_hand(&store.data, &copy.data, wanted);
    let is_message = |path: &str| path.starts_with("partition/") && path.ends_with(".msg");
    take(&|path| path.starts_with("dbdata/"));
    work(1);
    take(&|path| path.starts_with("mboxlist/") || path == "STORE" || path == "CONTROL");
    let at_database = contents(&store);
    work(2);
    take(&|path| path.starts_with("partition/") && !is_message(path));
    work(3);
    take(&is_message);
    work(4);
    daemon.kill();
    let daemon = copy.start();
    let report = copy.json(&["recover", "--report"]);
    // The partition has what the copied log has not: that is said, and numbers that it holds are not given again.
    assert_eq!(report["decision"], "lossy", "{report}");
    assert!(
        report["findings"].to_string().contains("the partition holds changes that the log does not have"),
        "{report}"
    );
    let mended = copy.ctl(&["reconstruct", "-m"]);
    assert!(mended.status <= 1, "{mended:?}");
    // Everything that the database and its log know is there, as the indexes know it, or as the log does.
    let boxes = copy.json(&["mailbox", "list"]);
    for name in ["user/joe/INBOX", "user/ann/INBOX", "user/joe/made0", "user/joe/made1", "user/joe/made2"] {
        assert!(boxes.as_array().unwrap().iter().any(|m| m["name"] == *name), "{name}: {boxes}");
    }
    let of = |all: &Value, name: &str| -> BTreeMap<u64, String> {
        let mailbox = all[0].as_array().unwrap().iter().find(|m| m["name"] == *name).unwrap().clone();
        let (messages, bytes) = (&mailbox["all"][0], &mailbox["all"][1]);
        let pairs = messages.as_array().unwrap().iter().zip(bytes.as_array().unwrap());
        pairs.map(|(m, b)| (m["uid"].as_u64().unwrap(), b.as_str().unwrap().to_owned())).collect()
    };
    let now = contents_of(&copy, &["user/joe/INBOX", "user/ann/INBOX"]);
    for name in ["user/joe/INBOX", "user/ann/INBOX"] {
        let (had, has) = (of(&at_database, name), of(&now, name));
        for (uid, bytes) in &had {
            assert_eq!(has.get(uid), Some(bytes), "{name} {uid}");
        }
    }
    is_clean(&copy);
    assert_eq!(daemon.stop(), 0);
}

/// Digest and flags of every message of a mailbox, without the order.
fn digests(store: &TestStore, name: &str) -> Vec<String> {
    let messages = store.json(&["message", "list", name]);
    let one = |m: &Value| format!("{} {}", m["digest"].as_str().unwrap(), m["flags"]);
    let mut all: Vec<String> = messages.as_array().unwrap().iter().map(one).collect();
    all.sort();
    all
}

/// Removes the files below a directory whose names end so.
fn remove_files(dir: &Path, end: &str) -> usize {
    let mut removed = 0;
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            removed += remove_files(&entry.path(), end);
        } else if entry.file_name().to_str().unwrap().ends_with(end) {
            std::fs::remove_file(entry.path()).unwrap();
            removed += 1;
        }
    }
    removed
}

// rows 85, 146, 164: what docs/disaster.md has an administrator type for the four cases, typed as it stands
#[test]
fn disasters_are_overcome_as_told() {
    let store = TestStore::new();
    std::fs::create_dir(store.beside("media")).unwrap();
    let text_of = docs::page("disaster.md");
    let blocks = docs::blocks(&text_of, "sh disaster");
    let media = store.beside("media");
    let [save, look, one, several, partition, host]: [String; 6] =
        blocks.iter().map(|block| block.replace("/media/backup", text(&media))).collect::<Vec<_>>().try_into().unwrap();
    let typed = |what: &str, script: &str| docs::type_in(&store, &format!("disaster.md, {what}"), script, 0);
    typed("start", "systemctl start storedd");
    store.ctl(&["partition", "add", "disk2", text(&store.beside("disk2"))]).expect(0);
    for (user, partition) in [("joe", "primary"), ("ann", "primary"), ("eve", "disk2")] {
        store.ctl(&["user", "add", user, "--partition", partition]).expect(0);
        for n in 0..4 {
            // Two of them are longer than what travels in the log.
            deliver(&store, &[&format!("user/{user}/INBOX")], &message(format!("{user} {n}"), 1000 + n % 2 * 100_000));
        }
        store.ctl(&["message", "flags", &format!("user/{user}/INBOX"), "2", "--add", "\\Flagged"]).expect(0);
    }
    typed("save", &save);
    typed("look", &look);
    let inboxes = ["user/joe/INBOX", "user/ann/INBOX", "user/eve/INBOX"];
    let saved = contents_of(&store, &inboxes);
    let of_joe = digests(&store, "user/joe/INBOX");
    // One mailbox: emptied for good; newer mail stays.
    store.ctl(&["message", "expunge", "user/joe/INBOX", "1,2,3,4"]).expect(0);
    deliver(&store, &["user/joe/INBOX", "user/eve/INBOX"], &message("newer", 1000));
    typed("one mailbox", &one);
    let back = digests(&store, "user/joe/INBOX");
    assert!(back.len() == 5 && of_joe.iter().all(|digest| back.contains(digest)), "{back:?}");
    // Several of a partition: files of messages of one, and the index of another, are gone.
    store.ctl(&["checkpoint"]).expect(0);
    let before = contents_of(&store, &inboxes);
    let homes = store.data.join("partition/primary/=user");
    let hashdir = |user: &str| {
        let dir = store.ctl(&["hashdir", user]).expect(0).out;
        store.data.join("partition/primary").join(dir.trim())
    };
    assert!(homes.is_dir());
    assert!(remove_files(&hashdir("joe"), ".msg") >= 5);
    assert!(remove_files(&hashdir("ann"), "store.idx") >= 1);
    typed("several mailboxes", &several);
    assert_eq!(contents_of(&store, &inboxes), before);
    // A partition: the log leads on from the copy.
    std::fs::remove_dir_all(store.beside("disk2")).unwrap();
    typed("a partition", &partition);
    assert_eq!(contents_of(&store, &inboxes), before);
    is_clean(&store);
    // All of it.
    store.ctl(&["shutdown"]).expect(0);
    std::fs::remove_dir_all(&store.data).unwrap();
    std::fs::remove_dir_all(store.beside("disk2")).unwrap();
    typed("a whole host", &host);
    assert_eq!(contents_of(&store, &inboxes), saved);
    store.ctl(&["shutdown"]).expect(0);
}

/// Messages of these mailboxes as [`contents`] has them.
fn contents_of(store: &TestStore, names: &[&str]) -> Value {
    let one = |name: &&str| {
        let messages = store.json(&["message", "list", name]);
        let uids = messages.as_array().unwrap().iter().map(|m| m["uid"].as_u64().unwrap());
        let bytes: Vec<_> =
            uids.map(|uid| store.ctl(&["message", "show", name, &uid.to_string(), "--raw"]).expect(0).out).collect();
        json!({"name": name, "all": [messages, bytes]})
    };
    let all: Vec<Value> = names.iter().map(one).collect();
    json!([all])
}

// row 146: a client that goes leaves a job, and a job that is cancelled leaves what nothing restores
#[test]
fn a_complete_copy_is_a_job() {
    let (store, daemon) = store();
    let copy = store.beside("copy");
    let job = store.json(&["backup", "--complete", text(&copy), "--detach"]);
    let id = job["id"].as_u64().unwrap().to_string();
    until("the copy is whole", || copy.join("COMPLETE").exists().then_some(()));
    let job = store.json(&["jobs", "show", &id]);
    assert_eq!(job["verb"], "backup --complete", "{job}");
    assert_eq!(daemon.stop(), 0);
}
