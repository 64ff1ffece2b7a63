//! What a start does, says, and asks for: progress, the backlog of the log, the commands that it prints.

use crate::harness::{PATIENCE, TestStore};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A configuration file beside the store.
fn configured(store: &TestStore, text: &str) -> PathBuf {
    let file = store.beside("storedd.toml");
    std::fs::write(&file, text).unwrap();
    file
}

/// Waits until something is so.
#[track_caller]
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Rights of one mailbox after another, long ones: `count` changes of about `count / 30` KiB each at the end.
fn rights(count: usize) -> String {
    let long = "x".repeat(200);
    (0..count).map(|n| format!("acl set user/joe/INBOX {n}{long} lrs\n")).collect()
}

// row 42: more log than the limit is said at the start, and a checkpoint works it off although none is due.
#[test]
fn a_start_works_off_more_log_than_the_limit() {
    let store = TestStore::new();
    let idle = "[log]\nsegment_size = \"1MiB\"\n[checkpoint]\ninterval = \"86400s\"\nreplay_target = \"3600s\"\n";
    let config = configured(&store, &format!("{idle}[alarm]\nmax_log = 2\n"));
    let args = ["--config", config.to_str().unwrap()];
    let daemon = store.start_with(&args);
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl_with(&["batch", "-"], Some(rights(250).as_bytes())).expect(0);
    let segments = || store.json(&["log", "list", "--all"]).as_array().unwrap().len();
    let before = segments();
    assert!(before > 3, "{before} segments are no backlog");
    assert!(!daemon.log().contains("warn event=log_backlog"));
    daemon.kill();
    let daemon = store.start_with(&args);
    let told = daemon.log();
    let line = told.lines().rfind(|line| line.contains("event=log_backlog")).unwrap();
    assert!(line.contains(" warn ") && line.contains("max_log=2"), "{line}");
    until("the log is worked off", || segments() <= 3);
    let status = store.json(&["status"]);
    assert_eq!(status["checkpoint_lsn"], status["applied_lsn"], "{status}");
    // Within the limit nothing is done ahead of time.
    store.ctl(&["acl", "set", "user/joe/INBOX", "ann", "lrs"]).expect(0);
    daemon.kill();
    let daemon = store.start_with(&args);
    let told = daemon.log();
    let line = told.lines().rfind(|line| line.contains("event=log_backlog")).unwrap();
    assert!(line.contains(" info ") && line.contains("segments=1"), "{line}");
}

// row 42: one old change is too old, however few segments there are.
#[test]
fn a_start_works_off_log_that_is_too_old() {
    let store = TestStore::new();
    let config = configured(
        &store,
        "[checkpoint]\ninterval = \"86400s\"\nreplay_target = \"3600s\"\n[alarm]\nmax_log_age = \"1s\"\n",
    );
    let args = ["--config", config.to_str().unwrap()];
    let daemon = store.start_with(&args);
    store.ctl(&["user", "add", "joe"]).expect(0);
    daemon.kill();
    std::thread::sleep(Duration::from_millis(2100));
    let daemon = store.start_with(&args);
    let told = daemon.log();
    let line = told.lines().rfind(|line| line.contains("event=log_backlog")).unwrap();
    assert!(line.contains(" warn ") && line.contains("max_log_age_seconds=1"), "{line}");
    until("a checkpoint", || store.json(&["status"])["checkpoint_lsn"].as_u64().unwrap() > 0);
}
