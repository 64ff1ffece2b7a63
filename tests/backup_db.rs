//! Backups of the database through the built programs: taken while the store runs, carried away, put back.

use crate::harness::{Daemon, Run, TestStore, typed, until};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn backup(store: &TestStore, dir: &Path) -> Value {
    store.json(&["backup-db", dir.to_str().unwrap()])
}

fn path(backup: &Value) -> PathBuf {
    backup["path"].as_str().unwrap().into()
}

fn restore(store: &TestStore, backup: &Path) -> Run {
    store.ctl(&["restore-db", "--yes", backup.to_str().unwrap()])
}

fn users(store: &TestStore) -> Vec<String> {
    let listed = store.json(&["user", "list"]);
    listed.as_array().unwrap().iter().map(|user| user["user"].as_str().unwrap().to_owned()).collect()
}

fn add(store: &TestStore, names: &[&str]) {
    for name in names {
        store.ctl(&["user", "add", name]).expect(0);
    }
}

/// So many changes that a log file of the test's size is full.
fn fill(store: &TestStore, round: usize) {
    let lines: String = (0..4000).map(|n| format!("mailbox create user/joe/{round}-{n}\n")).collect();
    store.ctl_with(&["batch", "-"], Some(lines.as_bytes())).expect(0);
}

fn segments(store: &TestStore) -> Vec<Value> {
    store.json(&["log", "list"]).as_array().unwrap().clone()
}

/// A store with joe and ann, and a backup of it.
fn with_backup() -> (TestStore, Daemon, PathBuf) {
    let store = TestStore::new();
    let daemon = store.start();
    add(&store, &["joe", "ann"]);
    let taken = backup(&store, &store.beside("media"));
    (store, daemon, path(&taken))
}

// rows 69, 70, 71, 72, 85: named by time, in the sequence of the contract, with all it takes, and two never collide
#[test]
fn a_backup_is_taken_in_its_sequence_and_holds_everything() {
    let (store, _daemon, first) = with_backup();
    let media = store.beside("media");
    assert_eq!(first.parent().unwrap(), media);
    assert!(first.file_name().unwrap().to_str().unwrap().starts_with("MSDB_Backup_20"));
    for file in ["STORE", "CONTROL", "MANIFEST", "mboxlist.redb", "log.0000000001", "storedd.toml"] {
        assert!(first.join(file).is_file(), "{file}");
    }
    let shown = store.ctl(&["backup-db", "--verbose", media.to_str().unwrap()]).expect(0).out;
    let steps = [
        "checkpoint: ",
        "tables: ",
        "logs needed: ",
        "log log.0000000001: ",
        "checked: ",
        "complete: ",
        "logs removed: ",
    ];
    let places: Vec<_> =
        steps.iter().map(|step| shown.find(step).unwrap_or_else(|| panic!("{step}: {shown}"))).collect();
    assert!(places.is_sorted(), "{shown}");
    assert_eq!(std::fs::read_dir(&media).unwrap().count(), 2);
    // Two at once are two.
    std::thread::scope(|scope| {
        let both = [0, 1].map(|_| scope.spawn(|| path(&backup(&store, &media))));
        let [a, b] = both.map(|taken| taken.join().unwrap());
        assert_ne!(a, b);
    });
    let config = std::fs::read_to_string(first.join("storedd.toml")).unwrap();
    assert!(config.contains("data_dir = ") && config.contains("segment_size = "), "{config}");
}

// rows 65, 67, 73: log rolls over and checkpoints are made meanwhile; what the backup needs stays until it has it, and goes then
#[test]
fn a_backup_under_load_is_whole_and_gives_log_back() {
    let store = TestStore::new();
    let config = store.beside("slow.toml");
    std::fs::write(&config, "[log]\nsegment_size = \"1MiB\"\n[backup]\npace = \"1MiB\"\n[snapshot]\nlog_bytes = 0\n")
        .unwrap();
    let daemon = store.start_with(&["--config", config.to_str().unwrap()]);
    add(&store, &["joe"]);
    fill(&store, 0);
    let media = store.beside("media");
    let (taken, held) = std::thread::scope(|scope| {
        let running = scope.spawn(|| backup(&store, &media));
        let kept = |s: &Value| {
            s["kept_for"].as_array().unwrap().iter().any(|why| why.as_str().unwrap().starts_with("backup: "))
        };
        let (mut round, mut held) = (1, false);
        while !running.is_finished() {
            held |= segments(&store).iter().any(kept);
            if held {
                fill(&store, round);
                store.ctl(&["checkpoint"]).expect(0);
                round += 1;
            }
        }
        (running.join().unwrap(), held)
    });
    assert!(held, "no segment said that a backup needs it");
    assert!(taken["reached_lsn"].as_u64() >= taken["lsn"].as_u64(), "{taken}");
    store.ctl(&["checkpoint"]).expect(0);
    assert!(segments(&store).len() <= 3, "{:?}", segments(&store));
    let before = store.json(&["mailbox", "list"]).as_array().unwrap().len();
    assert_eq!(daemon.stop(), 0);
    restore(&store, &path(&taken)).expect(0);
    let _daemon = store.start();
    let after = store.json(&["mailbox", "list"]).as_array().unwrap().len();
    assert!((4000..=before).contains(&after), "{after} of {before}");
    store.ctl(&["log", "verify"]).expect(0);
    store.ctl(&["quota", "recalc", "--dry-run"]).expect(0);
}

// rows 77, 78, 79, 83: refused while the store lives; old directories are kept, also twice a day; what is not in the backup is said
#[test]
fn a_restore_keeps_what_was_there_and_says_what_is_not_in_the_backup() {
    let (store, daemon, first) = with_backup();
    let refused = restore(&store, &first);
    assert_eq!(refused.status, 75, "{refused:?}");
    assert!(refused.err.contains(&daemon.child.id().to_string()), "{refused:?}");
    add(&store, &["eve"]);
    let uidvalidity = store.json(&["mailbox", "show", "user/eve/INBOX"])["uidvalidity"].as_u64().unwrap();
    assert_eq!(daemon.stop(), 0);
    store.ctl(&["restore-db", first.to_str().unwrap()]).expect(64);
    let tree = store.tree();
    let dry = store.ctl(&["restore-db", "--dry-run", first.to_str().unwrap()]).expect(0);
    assert!(dry.out.contains("would rename") && dry.out.contains("nothing was changed"), "{dry:?}");
    assert_eq!(store.tree(), tree, "a dry run changes no byte");
    for nth in 1..3 {
        let run = store.ctl(&["--json", "restore-db", "--yes", first.to_str().unwrap()]).expect(0);
        let told = run.json();
        let old = PathBuf::from(told["aside"][0]["to"].as_str().unwrap());
        assert!(old.join("mboxlist.redb").is_file() && old.to_str().unwrap().contains("mboxlist.asof20"), "{told}");
        assert_eq!(old.to_str().unwrap().ends_with("-2"), nth == 2, "{told}");
        assert_eq!(told["report"]["lost"], Value::Null);
        if nth == 1 {
            let named = told["later"]["mailboxes"].as_array().unwrap();
            assert!(named.iter().any(|name| name == "user/eve/INBOX"), "{told}");
        }
        let daemon = store.start();
        assert_eq!(users(&store), ["ann", "joe"]);
        // I6: whatever eve's mailbox was called with, it is never given again.
        add(&store, &["eve"]);
        let again = store.json(&["mailbox", "show", "user/eve/INBOX"])["uidvalidity"].as_u64().unwrap();
        assert!(again > uidvalidity, "{again} after {uidvalidity}");
        assert_eq!(daemon.stop(), 0);
    }
}

// row 79: where the recovery of what was restored fails, the way back is printed with its status, and leads back as it is printed
#[test]
fn the_way_back_leads_back() {
    let (store, daemon, first) = with_backup();
    add(&store, &["eve"]);
    assert_eq!(daemon.stop(), 0);
    // What a recovery that succeeds removes cannot be removed: it is a directory, and not empty.
    let mark = store.data.join("failed-recovery");
    std::fs::create_dir(&mark).unwrap();
    std::fs::write(mark.join("note"), b"").unwrap();
    let run = store.ctl(&["restore-db", "--yes", first.to_str().unwrap()]).expect(74);
    assert!(run.err.contains("failed-recovery"), "{run:?}");
    let (_, way) = run.err.split_once("cannot be recovered. The way back:\n").unwrap_or_else(|| panic!("{run:?}"));
    let commands: Vec<&str> = way.lines().map_while(|line| line.strip_prefix("  mv ")).collect();
    assert!(!commands.is_empty(), "{way}");
    std::fs::remove_dir_all(&mark).unwrap();
    for command in commands {
        typed(&format!("mv {command}")).expect(0);
    }
    let _daemon = store.start();
    assert_eq!(users(&store), ["ann", "eve", "joe"]);
}

// rows 74, 75: carried away, into a place that knows nothing; the log on another disk
#[test]
fn a_backup_comes_up_elsewhere() {
    let (store, daemon, first) = with_backup();
    assert_eq!(daemon.stop(), 0);
    let elsewhere = TestStore::new();
    let carried = elsewhere.beside("carried");
    std::fs::rename(&first, &carried).unwrap();
    let config = elsewhere.beside("apart.toml");
    let log = elsewhere.beside("disk2/log");
    let text = format!("[store]\nlog_dir = {:?}\n[log]\nsegment_size = \"1MiB\"\n", log.display().to_string());
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    elsewhere.ctl(&["--config", config, "restore-db", "--yes", carried.to_str().unwrap()]).expect(0);
    let named = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    assert!(std::fs::read_dir(&log).unwrap().map(named).any(|name| name.starts_with("log.")));
    let daemon = elsewhere.start_with(&["--config", config]);
    assert_eq!(users(&elsewhere), ["ann", "joe"]);
    let id = |store: &TestStore| store.json(&["status"])["store_id"].clone();
    let this = id(&elsewhere);
    add(&elsewhere, &["eve"]);
    assert_eq!(daemon.stop(), 0);
    // Another store is not replaced unasked.
    let daemon = store.start();
    assert_eq!(id(&store), this);
    drop(daemon);
    let other = TestStore::new();
    drop(other.start());
    let tree = other.tree();
    let refused = restore(&other, &carried);
    assert!(refused.status == 65 && refused.err.contains("--other-store"), "{refused:?}");
    assert_eq!(other.tree(), tree);
    other.ctl(&["restore-db", "--yes", "--other-store", carried.to_str().unwrap()]).expect(0);
    let _daemon = other.start();
    assert_eq!(users(&other), ["ann", "joe"]);
}

// row 76: one argument, and it is a backup
#[test]
fn what_is_no_backup_is_a_wrong_argument() {
    let (store, daemon, first) = with_backup();
    assert_eq!(daemon.stop(), 0);
    let tree = store.tree();
    let text = first.to_str().unwrap();
    store.ctl(&["restore-db", "--yes"]).expect(64);
    store.ctl(&["restore-db", "--yes", text, text]).expect(64);
    store.ctl(&["restore-db", "--yes", store.beside("").to_str().unwrap()]).expect(64);
    store.ctl(&["restore-db", "--yes", store.beside("nothing").to_str().unwrap()]).expect(66);
    std::fs::rename(first.join("log.0000000001"), store.beside("log")).unwrap();
    store.ctl(&["restore-db", "--yes", text]).expect(64);
    std::fs::rename(store.beside("log"), first.join("log.0000000001")).unwrap();
    // Damage of any file is found before anything is touched.
    for file in ["STORE", "CONTROL", "MANIFEST", "mboxlist.redb", "log.0000000001", "storedd.toml"] {
        let path = first.join(file);
        let whole = std::fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let refused = restore(&store, &first);
        assert!(refused.status == 2 && refused.err.contains(file), "{file}: {refused:?}");
        std::fs::remove_file(&path).unwrap();
        let refused = restore(&store, &first);
        assert!([2, 64].contains(&refused.status), "{file}: {refused:?}");
        std::fs::write(&path, whole).unwrap();
    }
    assert_eq!(store.tree(), tree);
    restore(&store, &first).expect(0);
}

// row 73: a medium that cannot be written: an error, nothing that looks complete, no log given up; never in the store itself
#[test]
fn a_backup_that_cannot_be_written_leaves_nothing() {
    let (store, daemon, _) = with_backup();
    let file = store.beside("file");
    std::fs::write(&file, b"").unwrap();
    let refused = store.ctl(&["backup-db", file.to_str().unwrap()]);
    assert!(refused.status > 1 && refused.err.contains("file"), "{refused:?}");
    for own in ["", "mboxlist", "mboxlist/x", "partition/primary", "dbdata/snapshots"] {
        let refused = store.ctl(&["backup-db", store.data.join(own).to_str().unwrap()]);
        assert!(refused.status == 65, "{own}: {refused:?}");
    }
    let log = daemon.log();
    assert!(log.contains("event=backup_failed"), "{log}");
    // Through a symbolic link to a directory elsewhere, it lies there.
    let (real, link) = (store.beside("real"), store.beside("link"));
    std::fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    backup(&store, &link);
    assert_eq!(std::fs::read_dir(&real).unwrap().count(), 1);
}

// rows 73, 78: kill -9 of the daemon during a backup, and of the restore: whole or nothing, old or new, and the next one works
#[test]
fn killed_in_the_middle() {
    let (store, daemon, first) = with_backup();
    let mut daemon = daemon;
    let media = store.beside("media");
    for millis in [0, 2, 5, 10, 20, 40] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_storectl"))
            .arg("--data-dir")
            .arg(&store.data)
            .args(["backup-db", media.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(millis));
        daemon.kill();
        child.wait().unwrap();
        daemon = store.start();
        add(&store, &[&format!("u{millis}")]);
    }
    let now = users(&store);
    backup(&store, &media);
    assert_eq!(daemon.stop(), 0);
    let left: Vec<_> = std::fs::read_dir(&media).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.iter().all(|dir| dir.join("MANIFEST").is_file()), "{left:?}");
    for dir in &left {
        store.ctl(&["restore-db", "--dry-run", dir.to_str().unwrap()]).expect(0);
    }
    // Then: the old one until it is the new one.
    let (mut old, mut new) = (0, 0);
    for micros in (0..60).map(|n| n * 1500) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_storedd"))
            .arg("--data-dir")
            .arg(&store.data)
            .args(["restore-db", "--yes", first.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_micros(micros));
        let _ = child.kill();
        child.wait().unwrap();
        let daemon = store.start();
        let found = users(&store);
        assert_eq!(daemon.stop(), 0);
        if found == ["ann", "joe"] {
            new += 1;
            break;
        }
        assert_eq!(found, now, "after {micros} us");
        old += 1;
    }
    assert!(old > 0, "{old} old, {new} new");
    restore(&store, &first).expect(0);
    let _daemon = store.start();
    assert_eq!(users(&store), ["ann", "joe"]);
}

// row 82: the directories of a store that was stopped, copied as files, are the store
#[test]
fn a_plain_copy_of_a_stopped_store_is_the_store() {
    let (store, daemon, _) = with_backup();
    assert_eq!(daemon.stop(), 0);
    let copy = TestStore::new();
    let copied = Command::new("cp").arg("-a").arg(&store.data).arg(&copy.data).status().unwrap();
    assert!(copied.success());
    let _daemon = copy.start();
    assert_eq!(users(&copy), ["ann", "joe"]);
    assert_eq!(copy.json(&["recover", "--report"])["decision"], "clean");
}

/// UID and digest of each message of joe's INBOX.
fn inbox(store: &TestStore) -> Vec<(u64, String)> {
    let listed = || Some(store.ctl(&["--json", "message", "list", "user/joe/INBOX"])).filter(|run| run.status != 75);
    let list = until("what was repaired is read", listed).expect(0).json();
    let told = |m: &Value| (m["uid"].as_u64().unwrap(), m["digest"].as_str().unwrap().to_owned());
    list.as_array().unwrap().iter().map(told).collect()
}

fn deliver(store: &TestStore, n: usize) {
    let text = format!("Subject: {n}\r\n\r\n{n}\r\n");
    store.ctl_with(&["message", "deliver", "user/joe/INBOX"], Some(text.as_bytes())).expect(0);
}

// rows 77, 146, I6, I8: mail that came behind a backup keeps its UIDs, also for the store that the backup is put over, or that comes up from it
// elsewhere beside the partitions as they are now: what comes next gets others, and nothing takes the place of anything
#[test]
fn no_uid_that_was_given_behind_a_backup_is_given_again() {
    for elsewhere in [false, true] {
        for log_is_lost in [false, true] {
            let (store, daemon, first) = with_backup();
            (1..=3).for_each(|n| deliver(&store, n));
            let second = path(&backup(&store, &store.beside("media")));
            (4..=6).for_each(|n| deliver(&store, n));
            store.ctl(&["checkpoint"]).expect(0);
            let given = inbox(&store);
            assert_eq!(daemon.stop(), 0);
            if log_is_lost {
                std::fs::remove_dir_all(store.data.join("mboxlist")).unwrap();
            }
            if elsewhere {
                let partition = store.data.join("partition");
                std::fs::rename(&partition, store.beside("partition")).unwrap();
                std::fs::remove_dir_all(&store.data).unwrap();
                std::fs::create_dir(&store.data).unwrap();
                std::fs::rename(store.beside("partition"), partition).unwrap();
            }
            // An older one first: what it is put over is what that left.
            for from in [&first, &second] {
                restore(&store, from).expect(0);
            }
            let daemon = store.start();
            deliver(&store, 7);
            store.ctl(&["reconstruct", "-m"]).expect(0);
            let now = inbox(&store);
            let said = format!("elsewhere {elsewhere}, without its log {log_is_lost}: {given:?}, then {now:?}");
            assert_eq!(now[..6], given[..], "{said}");
            assert!(now.len() == 7 && now[6].0 > 6, "{said}");
            store.ctl(&["check", "--all", "--deep"]).expect(0);
            assert_eq!(daemon.stop(), 0);
        }
    }
}
