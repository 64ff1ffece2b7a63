//! The log archive through the built programs.

use crate::harness::{Daemon, PATIENCE, TestStore};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Instant;

fn fill(store: &TestStore, round: usize) {
    let lines: String = (0..4000).map(|n| format!("mailbox create user/joe/{round}-{n}\n")).collect();
    store.ctl_with(&["batch", "-"], Some(lines.as_bytes())).expect(0);
}

fn start(store: &TestStore, archive: &Path) -> Daemon {
    let config = store.beside("archive.toml");
    let text = format!(
        "[log]\nsegment_size = \"1MiB\"\n[snapshot]\nlog_bytes = 0\n[archive]\npath = {:?}\nmax_lag = \"1s\"\n",
        archive.display().to_string()
    );
    std::fs::write(&config, text).unwrap();
    store.start_with(&["--config", config.to_str().unwrap()])
}

fn until(what: &str, mut there: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !there() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

// row B13, I4: full log files go to the archive as they are; the log waits for it; its lag is told, and is an alarm
#[test]
fn full_log_files_are_archived_and_the_log_waits_for_it() {
    let store = TestStore::new();
    let archive = store.beside("archive");
    let daemon = start(&store, &archive);
    store.ctl(&["user", "add", "joe"]).expect(0);
    (0..3).for_each(|round| fill(&store, round));
    let id = store.json(&["status"])["store_id"].as_str().unwrap().to_owned();
    let dir = archive.join(&id);
    until("nothing waits for the archive", || {
        let state = &store.json(&["status"])["archive"];
        state["lag_seconds"] == 0.0 && state["archived_lsn"].as_u64().unwrap() > 1000
    });
    let sealed: Vec<Value> = store.json(&["log", "list"]).as_array().unwrap().clone();
    for line in sealed.iter().rev().skip(1) {
        let name = line["file"].as_str().unwrap();
        let (ours, theirs) = (store.data.join("mboxlist").join(name), dir.join(name));
        assert_eq!(std::fs::read(ours).unwrap(), std::fs::read(theirs).unwrap(), "{name}");
    }
    store.ctl(&["checkpoint"]).expect(0);
    let metrics = store.ctl(&["metrics"]).expect(0).out;
    assert!(
        metrics.contains("storedd_archive_lag_seconds 0") && metrics.contains("storedd_archive_lag_lsns "),
        "{metrics}"
    );
    // An archive that cannot be written: the log waits, and it is an alarm, until it can.
    let away = store.beside("away");
    std::fs::rename(&archive, &away).unwrap();
    std::fs::write(&archive, b"").unwrap();
    (3..6).for_each(|round| fill(&store, round));
    store.ctl(&["checkpoint"]).expect(0);
    until("an alarm", || {
        store.json(&["status"])["alarms"].as_array().unwrap().iter().any(|alarm| alarm["name"] == "archive_lag")
    });
    let kept = store.ctl(&["log", "list"]).expect(0).out;
    assert!(kept.contains("archive: not archived yet"), "{kept}");
    std::fs::remove_file(&archive).unwrap();
    std::fs::rename(&away, &archive).unwrap();
    let before = files(&dir).len();
    until("it goes on", || store.json(&["status"])["archive"]["lag_seconds"] == 0.0);
    assert!(files(&dir).len() > before, "{:?}", files(&dir));
    store.ctl(&["checkpoint"]).expect(0);
    until("the log is given back", || store.json(&["log", "list"]).as_array().unwrap().len() <= 3);
    // A recovery reads archived files that are linked into the log (rows 29, 34).
    let kept: Vec<PathBuf> = files(&dir);
    assert_eq!(daemon.stop(), 0);
    for file in &kept {
        let link = store.data.join("mboxlist").join(file.file_name().unwrap());
        if !link.exists() {
            std::os::unix::fs::symlink(file, link).unwrap();
        }
    }
    std::fs::remove_file(store.data.join("mboxlist/mboxlist.redb")).unwrap();
    let bytes: Vec<Vec<u8>> = kept.iter().map(|file| std::fs::read(file).unwrap()).collect();
    let _daemon = start(&store, &archive);
    assert_eq!(store.json(&["recover", "--report"])["lost"], Value::Null);
    assert_eq!(store.json(&["mailbox", "list"]).as_array().unwrap().len(), 6 * 4000 + 1);
    let after: Vec<Vec<u8>> = kept.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert!(bytes == after, "the archive is never written");
}

/// Copies the store, and gives the arguments that name its archive.
fn again(store: &TestStore, archive: &Path) -> (TestStore, [String; 2]) {
    let copy = TestStore::new();
    let done = std::process::Command::new("cp").arg("-a").arg(&store.data).arg(&copy.data).status().unwrap();
    assert!(done.success());
    let config = copy.beside("archive.toml");
    let text = format!("[log]\nsegment_size = \"1MiB\"\n[archive]\npath = {:?}\n", archive.display().to_string());
    std::fs::write(&config, text).unwrap();
    let args = ["--config".to_owned(), config.to_str().unwrap().to_owned()];
    (copy, args)
}

/// Runs `storedd` on the copy; without its database where that is asked for.
fn recovers(store: &TestStore, args: &[String; 2], words: &[&str], status: i32) -> crate::harness::Run {
    let all: Vec<&str> = args.iter().map(String::as_str).chain(words.iter().copied()).collect();
    store.storedd(&all).expect(status)
}

// rows 22, 25, 33, B13: what the log has not any more, or not whole, a recovery by hand and a drill read from the archive by themselves; a
// dry run copies nothing, and the archive is never written.
#[test]
fn a_recovery_by_hand_reads_the_archive() {
    let store = TestStore::new();
    let archive = store.beside("archive");
    let daemon = start(&store, &archive);
    store.ctl(&["user", "add", "joe"]).expect(0);
    let snapshot = store.json(&["snapshot", "take", "--verify"]);
    (0..3).for_each(|round| fill(&store, round));
    let point = store.json(&["mailbox", "create", "user/joe/point"])["lsn"].to_string();
    let at_point = store.json(&["mailbox", "list"]).as_array().unwrap().len();
    (3..6).for_each(|round| fill(&store, round));
    let all = store.json(&["mailbox", "list"]).as_array().unwrap().len();
    until("nothing waits for the archive", || store.json(&["status"])["archive"]["lag_seconds"] == 0.0);
    // Behind a newer snapshot the log of the older one is given back.
    let newer = store.json(&["snapshot", "take", "--verify"]);
    let first = store.data.join("mboxlist/log.0000000001");
    until("the log is given back", || {
        store.ctl(&["checkpoint"]).expect(0);
        !first.exists()
    });
    store.ctl(&["snapshot", "delete", newer["id"].as_str().unwrap(), "--yes"]).expect(0);
    // The log behind the only snapshot is gone from the store; a drill is good nevertheless.
    let drilled = store.json(&["drill"]);
    assert_eq!((&drilled["verdict"], &drilled["compared"]), (&"good".into(), &true.into()), "{drilled}");
    assert!(drilled["source"].as_str().unwrap().ends_with(snapshot["id"].as_str().unwrap()), "{drilled}");
    assert_eq!(daemon.stop(), 0);
    let archived = || {
        let read = |dir: &Path| files(dir).into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap()));
        files(&archive).iter().flat_map(|dir| read(dir)).collect::<Vec<_>>()
    };
    let before = archived();
    let count = |store: &TestStore| store.json(&["mailbox", "list"]).as_array().unwrap().len();

    // The database is lost.
    let (copy, args) = again(&store, &archive);
    std::fs::remove_file(copy.data.join("mboxlist/mboxlist.redb")).unwrap();
    copy.storedd(&["recover", "--catastrophic", "--dry-run"]).expect(2);
    let tree = copy.tree();
    let planned = recovers(&copy, &args, &["recover", "--catastrophic", "--dry-run"], 0);
    assert!(
        planned.err.contains("taken from the log archive") && planned.err.contains("log.0000000001"),
        "{planned:?}"
    );
    assert!(copy.tree() == tree, "a dry run changes nothing");
    recovers(&copy, &args, &["recover", "--catastrophic"], 0);
    let up = start(&copy, &archive);
    assert_eq!((count(&copy), &copy.json(&["recover", "--report"])["lost"]), (all, &Value::Null));
    assert_eq!(up.stop(), 0);

    // So are the snapshots: the archive has the log from its beginning.
    let (copy, args) = again(&store, &archive);
    std::fs::remove_file(copy.data.join("mboxlist/mboxlist.redb")).unwrap();
    std::fs::remove_dir_all(copy.data.join("dbdata/snapshots")).unwrap();
    recovers(&copy, &args, &["recover", "--catastrophic"], 0);
    let up = start(&copy, &archive);
    assert_eq!(count(&copy), all);
    assert_eq!(up.stop(), 0);

    // A point that only the archive leads to; and once more without the archive's first file.
    let (copy, args) = again(&store, &archive);
    copy.storedd(&["recover", "--until-lsn", &point, "--yes"]).expect(65);
    recovers(&copy, &args, &["recover", "--until-lsn", &point, "--yes"], 0);
    let up = start(&copy, &archive);
    assert_eq!(count(&copy), at_point);
    assert_eq!(up.stop(), 0);
    assert!(archived() == before, "the archive is never written");
    let gone = &before[0].0;
    let bytes = std::fs::read(gone).unwrap();
    std::fs::remove_file(gone).unwrap();
    let (copy, args) = again(&store, &archive);
    let tree = copy.tree();
    recovers(&copy, &args, &["recover", "--until-lsn", &point, "--yes"], 65);
    assert!(copy.tree() == tree);
    // One byte of it changed: it is not what the log was, and nothing goes on over it.
    let mut bad = bytes.clone();
    bad[500_000] ^= 1;
    std::fs::write(gone, bad).unwrap();
    recovers(&copy, &args, &["recover", "--until-lsn", &point, "--yes"], 65);
    assert!(copy.tree() == tree);
    // An archive of another store, or one that cannot be read, is said, and stands in the way of nothing that needs none of it.
    let mut other = bytes.clone();
    other[16] ^= 1;
    let sum = storedd::checksum::Crc::seeded(b"log segment header").add(&other[..4092]).value();
    other[4092..4096].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(gone, other).unwrap();
    let refused = recovers(&copy, &args, &["recover", "--until-lsn", &point, "--yes"], 65);
    assert!(refused.err.contains("store id"), "{refused:?}");
    std::fs::write(gone, bytes).unwrap();
}

// rows 29, 38: a log file that is damaged in the store and whole in the archive costs nothing; the damaged one is kept.
#[test]
fn a_damaged_log_file_is_replaced_from_the_archive() {
    let store = TestStore::new();
    let archive = store.beside("archive");
    let config = store.beside("archive.toml");
    let path = archive.display().to_string();
    let text = format!(
        "[log]\nsegment_size = \"1MiB\"\n[checkpoint]\ninterval = \"86400s\"\nreplay_target = \"3600s\"\n[archive]\npath = {path:?}\n"
    );
    std::fs::write(&config, text).unwrap();
    let args = ["--config".to_owned(), config.to_str().unwrap().to_owned()];
    let daemon = store.start_with(&[&args[0], &args[1]]);
    store.ctl(&["user", "add", "joe"]).expect(0);
    (0..4).for_each(|round| fill(&store, round));
    until("nothing waits for the archive", || store.json(&["status"])["archive"]["lag_seconds"] == 0.0);
    let all = store.json(&["mailbox", "list"]).as_array().unwrap().len();
    std::thread::sleep(std::time::Duration::from_millis(1200));
    daemon.kill();
    let file = store.data.join("mboxlist/log.0000000001");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[400_000] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    recovers(&store, &args, &["recover"], 2);
    recovers(&store, &args, &["recover", "--catastrophic"], 0);
    let kept = store.data.join("mboxlist/quarantine/log.0000000001");
    assert!(std::fs::read(kept).unwrap() == bytes, "the damaged one is kept");
    let _daemon = store.start_with(&[&args[0], &args[1]]);
    assert_eq!(store.json(&["mailbox", "list"]).as_array().unwrap().len(), all);
    assert_eq!(store.json(&["recover", "--report"])["lost"], Value::Null);
}

fn copy_tree(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

// rows 85, 111, B13: a partition is put back from an older copy, and the log does not go back to it any more: the archive has what it lacks
#[test]
fn a_partition_put_back_is_brought_up_to_date_from_the_archive() {
    let store = TestStore::new();
    let (archive, root, copy) = (store.beside("archive"), store.beside("second"), store.beside("copy"));
    let daemon = start(&store, &archive);
    store.ctl(&["partition", "add", "second", root.to_str().unwrap()]).expect(0);
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["user", "add", "ann", "--partition", "second"]).expect(0);
    let inbox = "user/ann/INBOX";
    let deliver = |from: usize| {
        for n in from..from + 10 {
            let message = format!("Subject: {n}\r\n\r\nthe {n}th\r\n");
            store.ctl_with(&["message", "deliver", inbox], Some(message.as_bytes())).expect(0);
        }
    };
    deliver(0);
    assert_eq!(daemon.stop(), 0);
    copy_tree(&root, &copy);
    let daemon = start(&store, &archive);
    deliver(10);
    store.ctl(&["message", "flags", inbox, "3,13", "--add", "\\Flagged"]).expect(0);
    store.ctl(&["message", "expunge", inbox, "4,14"]).expect(0);
    (0..6).for_each(|round| fill(&store, round));
    deliver(20);
    until("nothing waits for the archive", || store.json(&["status"])["archive"]["lag_seconds"] == 0.0);
    let first = store.data.join("mboxlist/log.0000000001");
    until("the log is given back", || {
        store.ctl(&["checkpoint"]).expect(0);
        !first.exists()
    });
    let list = || store.json(&["message", "list", inbox]);
    let before = list();
    assert_eq!((daemon.stop(), before.as_array().unwrap().len()), (0, 28));
    std::fs::remove_dir_all(&root).unwrap();
    copy_tree(&copy, &root);
    let _daemon = start(&store, &archive);
    store.ctl(&["checkpoint"]).expect(0);
    let state = store.json(&["partition", "show", "second"])["state"].clone();
    assert_eq!((&state, list()), (&Value::from("ok"), before), "{state}");
    let checked = store.ctl(&["--json", "check", "--all", "--deep"]).expect(0).json();
    assert_eq!(checked["findings"], serde_json::json!([]), "{checked}");
}
