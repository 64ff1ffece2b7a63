//! Files that somebody exchanged, put back, moved or lost, and limits that the system sets.

use crate::harness::{PATIENCE, TestStore, run};
use serde_json::Value;
use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A store with a user, stopped.
fn stopped() -> TestStore {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    assert_eq!(daemon.stop(), 0);
    store
}

fn report(store: &TestStore) -> Value {
    store.json(&["recover", "--report"])
}

/// What the last start found in the file `name`.
fn finding(store: &TestStore, name: &str) -> Value {
    let report = report(store);
    let findings = report["findings"].as_array().unwrap();
    let about = |f: &&Value| f["where"].as_str().unwrap().contains(name);
    findings.iter().find(about).unwrap_or_else(|| panic!("nothing about {name}: {report}")).clone()
}

// An old copy of the control file is valid in itself, but its marks are below numbers that are in use: ids of mailboxes,
// and with them their directories, were given out twice.
#[test]
fn an_old_control_file_makes_no_number_twice() {
    let store = stopped();
    let control = store.data.join("CONTROL");
    let old = std::fs::read(&control).unwrap();
    for checkpoint in [false, true] {
        let daemon = store.start();
        for n in 0..5 {
            store.ctl(&["mailbox", "create", &format!("user/joe/{checkpoint}{n}")]).expect(0);
        }
        store.ctl(&["mailbox", "delete", "--yes", &format!("user/joe/{checkpoint}4")]).expect(0);
        if checkpoint {
            store.ctl(&["checkpoint"]).expect(0);
        }
        daemon.kill();
        std::fs::write(&control, &old).unwrap();
        let daemon = store.start();
        assert!(finding(&store, "CONTROL")["what"].as_str().unwrap().contains("old copy"));
        store.ctl(&["mailbox", "create", &format!("user/joe/{checkpoint}new")]).expect(0);
        let list = store.json(&["mailbox", "list"]);
        let list = list.as_array().unwrap();
        for number in ["id", "uidvalidity"] {
            let all: BTreeSet<u64> = list.iter().map(|m| m[number].as_u64().unwrap()).collect();
            assert_eq!(all.len(), list.len(), "{number} given out twice: {list:?}");
        }
        assert_eq!(daemon.stop(), 0);
        store.storedd(&["test"]).expect(0);
    }
}

// The control file of another store was taken for this one's.
#[test]
fn the_control_file_of_another_store_is_refused() {
    let (store, other) = (stopped(), stopped());
    let control = store.data.join("CONTROL");
    let own = std::fs::read(&control).unwrap();
    std::fs::copy(other.data.join("CONTROL"), &control).unwrap();
    let before = store.tree();
    for verb in [&[][..], &["recover"], &["recover", "--dry-run"]] {
        let refused = store.storedd(verb).expect(65);
        assert!(refused.err.contains("CONTROL: store id"), "{refused:?}");
    }
    assert_eq!(store.tree(), before);
    std::fs::write(&control, own).unwrap();
    let _daemon = store.start();
    assert_eq!(report(&store)["decision"], "clean");
}

// Without the control file nobody knows whether a last segment is missing; a start without both said that all was well.
#[test]
fn a_lost_control_file_is_no_secret() {
    let store = stopped();
    std::fs::remove_file(store.data.join("CONTROL")).unwrap();
    let before = store.tree();
    let refused = store.storedd(&["recover"]).expect(2);
    assert!(refused.err.contains("missing") && refused.err.contains("CONTROL"), "{refused:?}");
    let after: Vec<_> = store.tree().into_iter().filter(|(name, _)| name != "failed-recovery").collect();
    assert_eq!(after, before);
    std::fs::remove_file(store.data.join("failed-recovery")).unwrap();
    let _daemon = store.start();
    assert_eq!(finding(&store, "CONTROL")["what"], "missing");
    assert_eq!(report(&store)["possible_loss"], true);
    store.ctl(&["mailbox", "create", "user/joe/new"]).expect(0);
}

// A database behind a symbolic link was taken for a damaged one: the link went to removed/, and the store started empty.
#[test]
fn a_database_behind_a_link_is_refused_not_given_up() {
    let store = stopped();
    let (database, elsewhere) = (store.data.join("mboxlist/mboxlist.redb"), store.beside("elsewhere.redb"));
    std::fs::rename(&database, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &database).unwrap();
    for verb in [&[][..], &["recover"]] {
        let refused = store.storedd(verb).expect(74);
        assert!(refused.err.contains("mboxlist.redb") && refused.err.contains("symbolic link"), "{refused:?}");
    }
    assert!(std::fs::symlink_metadata(&database).unwrap().is_symlink(), "nothing was moved");
    std::fs::rename(&elsewhere, &database).unwrap();
    let _daemon = store.start();
    store.ctl(&["user", "show", "joe"]).expect(0);
    assert_eq!(report(&store)["decision"], "clean");
}

// The report of a start that lost something, or that did not need what is damaged, did not name the damaged place.
#[test]
fn every_damaged_place_of_the_log_is_in_the_report() {
    let store = TestStore::new();
    let daemon = store.start();
    for n in 0..20 {
        store.ctl(&["user", "add", &format!("u{n}")]).expect(0);
    }
    daemon.kill();
    let flip = |at: usize| {
        let log = store.data.join("mboxlist/log.0000000001");
        let mut bytes = std::fs::read(&log).unwrap();
        bytes[at] ^= 0x40;
        std::fs::write(&log, &bytes).unwrap();
    };
    flip(100);
    let daemon = store.start();
    let header = finding(&store, "log.0000000001");
    assert!(header["where"].as_str().unwrap().contains("offset") && header["found"] != "", "{header}");
    assert_eq!(report(&store)["lost"], Value::Null);
    assert!(daemon.log().contains("event=finding"), "{}", daemon.log());
    daemon.kill();
    flip(4096 + 700);
    let _daemon = store.start();
    assert!(report(&store)["lost"].is_object());
    finding(&store, "log.0000000001: offset 4");
}

/// Starts the daemon under a limit of the shell's `ulimit`.
fn limited(store: &TestStore, limit: &str, config: &Path) -> Command {
    let mut command = Command::new("sh");
    let script = format!("ulimit {limit}; exec \"$0\" --data-dir \"$1\" --config \"$2\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_storedd")]).arg(&store.data).arg(config).stdin(Stdio::null());
    command
}

fn small_segments(store: &TestStore) -> std::path::PathBuf {
    let config = store.beside("storedd.toml");
    std::fs::write(&config, "[log]\nsegment_size = \"1MiB\"\nspares = 1\n").unwrap();
    config
}

// Idle connections took every file that the process may have open, and the log failed for want of one.
#[test]
fn connections_never_take_the_files_of_the_log() {
    let store = TestStore::new();
    let mut command = limited(&store, "-n 64", &small_segments(&store));
    let log = std::fs::File::create(store.beside("daemon.log")).unwrap();
    let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let mut daemon = store.daemon(child);
    daemon.wait_ready();
    store.ctl(&["user", "add", "joe"]).expect(0);
    let mut client = daemon.client();
    let _idle: Vec<_> = (0..100).filter_map(|_| UnixStream::connect(&daemon.socket).ok()).collect();
    // More than a segment, over a connection that was there before.
    let long = ["x".repeat(240), "y".repeat(240), "z".repeat(240)].join("/");
    for n in 0..2000 {
        let command = proto::Command::MailboxCreate { name: format!("user/joe/{long}/{n}"), partition: None };
        let done = client.call(&proto::Request::Change { command, dry_run: false });
        done.unwrap_or_else(|e| panic!("{e}\n{}", daemon.log()));
    }
    assert!(store.data.join("mboxlist/log.0000000002").exists());
    assert_eq!(daemon.stop(), 0);
}

// S22: A write beyond `ulimit -f` ended the daemon by a signal, without a word.
#[test]
fn a_limit_of_the_file_size_is_refused_like_a_full_disk() {
    let store = TestStore::new();
    let refused = run(&mut limited(&store, "-f 8", &small_segments(&store)), None);
    assert!(refused.status > 0, "ended by a signal: {refused:?}");
    assert!(refused.err.contains("no space"), "{refused:?}");
    let _daemon = store.start();
}

// A start on a full disk was refused because its report could not be written.
#[test]
fn a_start_on_a_full_disk_serves_what_is_there() {
    let store = TestStore::new();
    let Some(_disk) = crate::harness::disks::SmallDisk::mount(store.data.clone(), 8 << 20) else {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    };
    let config = small_segments(&store);
    let args = ["--config", config.to_str().unwrap()];
    let daemon = store.start_with(&args);
    store.ctl(&["user", "add", "joe"]).expect(0);
    daemon.kill();
    let ballast = store.data.join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    drop(file);
    let daemon = store.start_with(&args);
    store.ctl(&["user", "show", "joe"]).expect(0);
    assert!(daemon.log().contains("event=no_report"), "{}", daemon.log());
    std::fs::remove_file(&ballast).unwrap();
    let begun = std::time::Instant::now();
    while store.ctl(&["user", "add", "jim"]).status != 0 {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(daemon.stop(), 0);
}

// The whole log and the control file are gone, and nothing names a file that should be there: what the database holds is
// served, and said not to be all there may have been.
#[test]
fn a_database_alone_comes_up() {
    let store = TestStore::new();
    let config = store.beside("storedd.toml");
    std::fs::write(&config, "[log]\nsegment_size = \"1MiB\"\n").unwrap();
    let args = ["--config", config.to_str().unwrap()];
    let daemon = store.start_with(&args);
    store.ctl(&["user", "add", "joe"]).expect(0);
    let input: String = (0..10_000).map(|n| format!("mailbox create user/joe/{n}\n")).collect();
    store.ctl_with(&["batch", "-"], Some(input.as_bytes())).expect(0);
    store.ctl(&["checkpoint"]).expect(0);
    assert_eq!(daemon.stop(), 0);
    std::fs::remove_file(store.data.join("CONTROL")).unwrap();
    for file in std::fs::read_dir(store.data.join("mboxlist")).unwrap() {
        let path = file.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("log.") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let daemon = store.start_with(&args);
    let report = report(&store);
    assert_eq!((report["decision"].as_str(), report["epoch"].as_u64()), (Some("lossy"), Some(1)), "{report}");
    assert_eq!(store.json(&["mailbox", "list"]).as_array().unwrap().len(), 10_001);
    store.ctl(&["mailbox", "create", "user/joe/new"]).expect(0);
    assert_eq!(daemon.stop(), 0);
    store.storedd(&["test"]).expect(0);
}

// An older copy of the last segment looks like a log that ended there; the control file knows better.
#[test]
fn an_older_copy_of_the_last_segment_is_a_loss_that_is_said() {
    let store = stopped();
    let segment = store.data.join("mboxlist/log.0000000001");
    let old = std::fs::read(&segment).unwrap();
    let daemon = store.start();
    store.ctl(&["mailbox", "create", "user/joe/gone"]).expect(0);
    // The log is sealed as soon as it rests, and the control file notes it.
    let sealed = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        let dump = store.json(&["log", "dump"]);
        dump.as_array().unwrap().last().unwrap()["kind"] == "seal"
    });
    assert!(sealed);
    std::thread::sleep(Duration::from_secs(1));
    daemon.kill();
    std::fs::write(&segment, old).unwrap();
    let _daemon = store.start();
    let report = report(&store);
    assert!(!report["lost"].is_null(), "{report}");
}
