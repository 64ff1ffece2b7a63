//! Recovery by hand, through the built programs: what is missing is named and nothing changed, the ways back, and what a start
//! makes of a store that a person has tried to recover.

use crate::harness::{Daemon, Run, TestStore};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) fn log(store: &TestStore, number: u64) -> PathBuf {
    store.data.join(format!("mboxlist/log.{number:010}"))
}

pub(crate) fn database(store: &TestStore) -> PathBuf {
    store.data.join("mboxlist/mboxlist.redb")
}

/// Names of all mailboxes with what must never change: id and UIDVALIDITY.
pub(crate) fn mailboxes(store: &TestStore) -> BTreeSet<(String, u64, u64)> {
    let list = store.json(&["mailbox", "list"]);
    let of = |m: &Value| {
        (m["name"].as_str().unwrap().to_owned(), m["id"].as_u64().unwrap(), m["uidvalidity"].as_u64().unwrap())
    };
    list.as_array().unwrap().iter().map(of).collect()
}

pub(crate) fn create(store: &TestStore, names: impl IntoIterator<Item = String>) {
    let lines: String = names.into_iter().map(|name| format!("mailbox create user/joe/{name}\n")).collect();
    store.ctl_with(&["batch", "-"], Some(lines.as_bytes())).expect(0);
}

/// Options that keep checkpoints away, so that a kill leaves everything to the log, and the log whole.
pub(crate) fn no_checkpoints(store: &TestStore) -> [String; 2] {
    let config = store.beside("no-checkpoints.toml");
    let text = "[log]\nsegment_size = \"1MiB\"\n[checkpoint]\ninterval = \"86400s\"\nreplay_target = \"3600s\"\n";
    std::fs::write(&config, text).unwrap();
    ["--config".to_owned(), config.to_str().unwrap().to_owned()]
}

pub(crate) fn start(store: &TestStore) -> Daemon {
    let [option, file] = no_checkpoints(store);
    store.start_with(&[&option, &file])
}

/// Changes until the log has so many segments; ends with a rest, so that the log is sealed and the control file knows.
pub(crate) fn fill(store: &TestStore, segments: u64) {
    let long = "x".repeat(200);
    let mut round = 0;
    while !log(store, segments).exists() {
        let lines: String = (0..60).map(|n| format!("acl set user/joe/INBOX {round}-{n}{long} lrs\n")).collect();
        store.ctl_with(&["batch", "-"], Some(lines.as_bytes())).expect(0);
        round += 1;
        assert!(round < 100, "the log does not grow");
    }
    std::thread::sleep(Duration::from_millis(1200));
}

/// A killed store whose log has four segments, the first of which holds a checkpoint.
pub(crate) fn killed_with_four_logs() -> (TestStore, BTreeSet<(String, u64, u64)>) {
    let store = TestStore::new();
    let daemon = start(&store);
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["checkpoint"]).expect(0);
    create(&store, (0..50).map(|n| format!("m{n}")));
    fill(&store, 4);
    create(&store, ["last".to_owned()]);
    std::thread::sleep(Duration::from_millis(1200));
    let all = mailboxes(&store);
    daemon.kill();
    (store, all)
}

/// Every file that can be said to be a table or a log.
pub(crate) fn tables_and_logs(store: &TestStore) -> Vec<(String, Vec<u8>)> {
    store.tree().into_iter().filter(|(name, _)| name != "failed-recovery").collect()
}

pub(crate) fn names_exactly(run: &Run, files: &[&Path]) {
    let said = run.json()["error"]["message"].as_str().unwrap().to_owned();
    for file in files {
        assert!(said.contains(file.file_name().unwrap().to_str().unwrap()), "{said}");
    }
    assert_eq!(said.matches("log.0").count() + said.matches("mboxlist.redb").count(), files.len(), "{said}");
}

// rows 28, 29, 30, 31: whichever log is missing is named, nothing is changed, and with the file back the same command succeeds
#[test]
fn missing_logs_are_named_and_nothing_is_changed() {
    let (store, all) = killed_with_four_logs();
    let away = store.beside("away");
    std::fs::create_dir(&away).unwrap();
    let last = (1..10).take_while(|n| log(&store, *n).exists()).last().unwrap();
    let sets: [Vec<u64>; 4] = [vec![1], vec![2], vec![last], (1..=last).collect()];
    for verb in [&["recover"][..], &["recover", "--catastrophic"]] {
        for gone in &sets {
            let files: Vec<PathBuf> = gone.iter().map(|n| log(&store, *n)).collect();
            for file in &files {
                std::fs::rename(file, away.join(file.file_name().unwrap())).unwrap();
            }
            let before = tables_and_logs(&store);
            let refused = store.storedd(&[verb, &["--json"]].concat()).expect(2);
            names_exactly(&refused, &files.iter().map(PathBuf::as_path).collect::<Vec<_>>());
            // On stderr neither.
            let named = |n: &u64| refused.err.contains(&format!("log.{n:010}"));
            assert!((1..=last).all(|n| named(&n) == gone.contains(&n)), "{gone:?}: {refused:?}");
            assert_eq!(tables_and_logs(&store), before, "{verb:?} {gone:?}");
            for file in &files {
                std::fs::rename(away.join(file.file_name().unwrap()), file).unwrap();
            }
        }
    }
    // What failed is remembered, although everything is back: the store is shown, and nothing is changed.
    let daemon = start(&store);
    assert_eq!(store.json(&["status"])["state"], "read-only");
    store.ctl(&["user", "add", "eve"]).expect(69);
    drop(daemon);
    store.storedd(&["recover"]).expect(0);
    let _daemon = start(&store);
    assert_eq!(mailboxes(&store), all);
    store.ctl(&["user", "add", "eve"]).expect(0);
}

// rows 25, 33: an old copy of the database and all logs since; one of them missing is named
#[test]
fn an_old_copy_of_the_database_and_all_logs_since_are_the_newest_state() {
    let (store, all) = killed_with_four_logs();
    let old = std::fs::read(database(&store)).unwrap();
    store.storedd(&["recover"]).expect(0);
    // The checkpoint has retired nothing that the copy needs: there is one segment more at the most.
    let kept: Vec<u64> = (1..10).filter(|n| log(&store, *n).exists()).collect();
    std::fs::write(database(&store), old).unwrap();
    if kept.first() != Some(&1) {
        let refused = store.storedd(&["recover", "--catastrophic", "--json"]).expect(2);
        assert!(refused.json()["error"]["message"].as_str().unwrap().contains("log.0"), "{refused:?}");
        return;
    }
    store.storedd(&["recover", "--catastrophic"]).expect(0);
    let _daemon = start(&store);
    assert_eq!(mailboxes(&store), all);
}

// rows 25, 22: a database that is lost is made again only with --catastrophic, from a complete log or from a snapshot
#[test]
fn a_lost_database_comes_back_with_catastrophic_alone() {
    let (store, all) = killed_with_four_logs();
    std::fs::remove_file(database(&store)).unwrap();
    let before = tables_and_logs(&store);
    let refused = store.storedd(&["recover", "--json"]).expect(2);
    names_exactly(&refused, &[&database(&store)]);
    assert!(refused.err.contains("recover --catastrophic"), "{refused:?}");
    assert_eq!(tables_and_logs(&store), before);
    let done = store.storedd(&["recover", "-cv", "--json"]).expect(0);
    assert_eq!(done.json()["decision"], "rebuild");
    let daemon = start(&store);
    assert_eq!(mailboxes(&store), all);
    // From a snapshot, when the log behind creation is gone.
    let taken = store.json(&["snapshot", "take", "--verify"]);
    create(&store, ["later".to_owned()]);
    let all = mailboxes(&store);
    daemon.kill();
    std::fs::write(database(&store), b"noise").unwrap();
    let refused = store.storedd(&["recover", "--json"]).expect(2);
    assert!(refused.err.contains("recover --catastrophic"), "{refused:?}");
    let done = store.storedd(&["recover", "--catastrophic", "--json"]).expect(0);
    assert_eq!((&done.json()["decision"], &done.json()["base"]), (&"rollback".into(), &taken["id"]));
    let _daemon = start(&store);
    assert_eq!(mailboxes(&store), all);
}

// Retired logs were named as missing when the database alone was.
#[test]
fn a_lost_database_is_the_only_file_that_is_named() {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    fill(&store, 3);
    store.ctl(&["checkpoint"]).expect(0);
    assert!(!log(&store, 1).exists());
    assert_eq!(daemon.stop(), 0);
    std::fs::remove_file(database(&store)).unwrap();
    for verb in [&["recover", "--json"][..], &["recover", "--catastrophic", "--json"]] {
        names_exactly(&store.storedd(verb).expect(2), &[&database(&store)]);
    }
}

// the marker comes back from the files that name the store, when a person says so and not before
#[test]
fn a_lost_marker_is_made_again_by_recover_alone() {
    for damage in ["gone", "noise", "flip"] {
        let store = TestStore::new();
        let daemon = store.start();
        store.ctl(&["user", "add", "joe"]).expect(0);
        let id = store.json(&["status"])["store_id"].clone();
        daemon.kill();
        let marker = store.data.join("STORE");
        match damage {
            "gone" => std::fs::remove_file(&marker).unwrap(),
            "noise" => std::fs::write(&marker, b"noise").unwrap(),
            _ => {
                let mut bytes = std::fs::read(&marker).unwrap();
                bytes[20] ^= 1;
                std::fs::write(&marker, bytes).unwrap();
            }
        }
        let before = store.tree();
        let mut daemon = store.spawn(&[]);
        assert_eq!(daemon.wait(), 2);
        assert!(daemon.log().contains("STORE") && daemon.log().contains("storedd --data-dir"), "{}", daemon.log());
        store.storedd(&["recover", "--dry-run"]).expect(0);
        store.storedd(&["test"]).expect(1);
        store.storedd(&["log", "reset", "--yes"]).expect(2);
        assert_eq!(store.tree(), before);
        let done = store.storedd(&["recover"]).expect(0);
        assert!(done.err.contains("the marker was made again"), "{done:?}");
        let _daemon = store.start();
        assert_eq!(store.json(&["status"])["store_id"], id);
        store.ctl(&["user", "show", "joe"]).expect(0);
    }
}

// files of two stores in one directory name no store
#[test]
fn a_marker_is_not_guessed_from_files_of_two_stores() {
    let (store, other) = (TestStore::new(), TestStore::new());
    for one in [&store, &other] {
        let daemon = one.start();
        one.ctl(&["user", "add", "joe"]).expect(0);
        assert_eq!(daemon.stop(), 0);
    }
    std::fs::remove_file(store.data.join("STORE")).unwrap();
    std::fs::copy(other.data.join("CONTROL"), store.data.join("CONTROL")).unwrap();
    let before = store.tree();
    let refused = store.storedd(&["recover"]).expect(2);
    assert!(refused.err.contains("several stores") && refused.err.contains("CONTROL"), "{refused:?}");
    assert_eq!(store.tree(), before);
}

// A start called a loss what the database holds, because the end of the log was damaged.
#[test]
fn a_log_that_is_damaged_after_a_clean_stop_is_no_loss() {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    let all = mailboxes(&store);
    assert_eq!(daemon.stop(), 0);
    // The last record: behind it are only zeros.
    let mut bytes = std::fs::read(log(&store, 1)).unwrap();
    let end = bytes.iter().rposition(|b| *b != 0).unwrap();
    bytes[end - 10] ^= 1;
    std::fs::write(log(&store, 1), bytes).unwrap();
    let done = store.storedd(&["recover", "--dry-run"]).expect(0);
    assert!(done.err.contains("log.0000000001"), "{done:?}");
    let daemon = store.start();
    let report = store.json(&["recover", "--report"]);
    assert_eq!((report["decision"].as_str(), report["lost"].is_null()), (Some("clean"), true), "{report}");
    assert_eq!(report["possible_loss"], false, "{report}");
    assert!(report["findings"].to_string().contains("log.0000000001"), "{report}");
    assert_eq!(mailboxes(&store), all);
    create(&store, ["new".to_owned()]);
    assert_eq!(daemon.stop(), 0);
    store.storedd(&["test"]).expect(0);
}

// row 38: damage that costs nothing is named with file and offset, and is no plain success
#[test]
fn damage_before_the_checkpoint_is_a_finding() {
    let store = TestStore::new();
    let daemon = start(&store);
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["user", "add", "ann"]).expect(0);
    store.ctl(&["checkpoint"]).expect(0);
    create(&store, ["m".to_owned()]);
    daemon.kill();
    let mut bytes = std::fs::read(log(&store, 1)).unwrap();
    bytes[4096 + 60] ^= 1;
    std::fs::write(log(&store, 1), bytes).unwrap();
    let done = store.storedd(&["recover"]).expect(1);
    assert!(done.err.contains("log.0000000001: offset 4096"), "{done:?}");
    let _daemon = start(&store);
    store.ctl(&["mailbox", "show", "user/joe/m"]).expect(0);
}

// row 26: the log's range, where it starts, what is redone and undone, the checkpoint
#[test]
fn recover_says_what_it_does() {
    let (store, _) = killed_with_four_logs();
    let done = store.storedd(&["recover", "-v"]).expect(0);
    for word in
        ["log: log.0000000001 to log.", "started from: LSN ", " offset ", "redone: ", "undone: 0 ", "checkpoint: LSN "]
    {
        assert!(done.err.contains(word), "{word}: {done:?}");
    }
    let redone = done.err.lines().find(|line| line.starts_with("redone: ")).unwrap();
    let transactions: u64 = redone.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(transactions > 50, "{redone}");
    let all = store.storedd(&["recover", "--final"]).expect(0);
    for step in ["recover ... done", "checkpoint ... done", "remove temporary files ... done"] {
        assert!(all.out.contains(step), "{all:?}");
    }
}

// row 35: ended at any moment, by Ctrl-C or by kill -9, it leaves no lock, and the next one succeeds
#[test]
fn a_recovery_that_is_ended_is_done_again() {
    use rustix::process::{Pid, Signal, kill_process};
    use std::process::{Command, Stdio};
    let (store, all) = killed_with_four_logs();
    let original = store.beside("original");
    let copy = |from: &Path, to: &Path| {
        let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
        assert!(done.success());
    };
    copy(&store.data, &original);
    let put_back = || {
        std::fs::remove_dir_all(&store.data).unwrap();
        copy(&original, &store.data);
    };
    let mut ended = 0;
    for verb in [&["recover"][..], &["recover", "--catastrophic"], &["recover", "--final"], &["log", "reset", "--yes"]]
    {
        for (nth, ms) in [0, 5, 15, 30, 60, 90].into_iter().enumerate() {
            put_back();
            let signal = [Signal::INT, Signal::KILL][nth % 2];
            let mut command = Command::new(env!("CARGO_BIN_EXE_storedd"));
            command.arg("--data-dir").arg(&store.data).args(verb).stdout(Stdio::null()).stderr(Stdio::piped());
            let child = command.spawn().unwrap();
            std::thread::sleep(Duration::from_millis(ms));
            // It may be done already.
            let _ = kill_process(Pid::from_child(&child), signal);
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            match output.status.code() {
                Some(130) => {
                    ended += 1;
                    assert!(said.contains("interrupted"), "{said}");
                }
                // Killed, or before it could say anything.
                None => ended += 1,
                Some(code) => assert_eq!(code, 0, "{said}"),
            }
            store.storedd(verb).expect(0);
            let daemon = start(&store);
            assert_eq!(store.json(&["recover", "--report"])["lost"], Value::Null);
            assert!(mailboxes(&store) == all, "{verb:?} after {ms} ms");
            daemon.kill();
        }
    }
    assert!(ended > 5, "{ended}");
}

// What was opened by hand counted as the last start.
#[test]
fn reports_are_those_of_starts() {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    daemon.kill();
    let of_start = store.storedd(&["recover", "--report", "--json"]).expect(0).json();
    assert_eq!(of_start["decision"], "first start");
    store.storedd(&["recover"]).expect(0);
    let before = store.tree();
    store.storedd(&["test", "-v"]).expect(0);
    assert_eq!(store.tree(), before, "a store that was stopped in order is tested without a write");
    assert_eq!(store.storedd(&["recover", "--report", "--json"]).expect(0).json(), of_start);
    let _daemon = store.start();
    let reports = store.json(&["recover", "--report", "--last", "9"]);
    let decisions: Vec<&str> = reports.as_array().unwrap().iter().map(|r| r["decision"].as_str().unwrap()).collect();
    assert_eq!(decisions, ["clean", "first start"]);
}

// what comes into the log is printed as it is acknowledged
#[test]
fn a_dump_follows_the_log() {
    use std::io::BufRead;
    use std::process::{Command, Stdio};
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    let mut command = Command::new(env!("CARGO_BIN_EXE_storectl"));
    command.arg("--data-dir").arg(&store.data).args(["--json", "log", "dump", "--follow", "--user", "joe"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    assert!(next().to_string().contains("joe"));
    store.ctl(&["user", "add", "ann"]).expect(0);
    store.ctl(&["mailbox", "create", "user/joe/new"]).expect(0);
    let record = next();
    assert!(record["changes"].to_string().contains("user/joe/new"), "{record}");
    assert_eq!(daemon.stop(), 0);
    assert_eq!(child.wait().unwrap().code(), Some(69));
    let dumped = store.start();
    let lsn = record["lsn"].to_string();
    let one = store.json(&["log", "dump", "--from", &lsn, "--to", &lsn]);
    assert_eq!(one.as_array().unwrap()[0]["lsn"], record["lsn"]);
    drop(dumped);
}
