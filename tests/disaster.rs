//! A host that is lost with everything on it, and what `backup --complete` brings back, through the built programs.

mod copies;

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
