//! SIGKILL of the real program while a person's command changes a stopped store, and of the daemon while it drills: what is there is the
//! store as it was or as it was to be, and the same command leads to the end. (The simulation stops at every operation; here it is the
//! kernel's file system, and processes.)

use crate::harness::{Daemon, TestStore};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Kills of one command.
const KILLS: u32 = 10;

type Names = BTreeSet<(String, u64, u64)>;

fn names(store: &TestStore) -> Names {
    let listed = store.json(&["mailbox", "list"]);
    let of = |m: &Value| {
        (m["name"].as_str().unwrap().to_owned(), m["id"].as_u64().unwrap(), m["uidvalidity"].as_u64().unwrap())
    };
    listed.as_array().unwrap().iter().map(of).collect()
}

fn create(store: &TestStore, prefix: &str) {
    let lines: String = (0..200).map(|n| format!("mailbox create user/joe/{prefix}{n}\n")).collect();
    store.ctl_with(&["batch", "-"], Some(lines.as_bytes())).expect(0);
}

/// A killed store with a verified snapshot in its middle, and what it held then, at a point behind it, and at the end.
struct Template {
    store: TestStore,
    snapshot: String,
    point: String,
    /// At the snapshot, at the point, at the end.
    held: [Names; 3],
}

fn start(store: &TestStore) -> Daemon {
    let config = store.beside("no-checkpoints.toml");
    let text = "[log]\nsegment_size = \"1MiB\"\n[checkpoint]\ninterval = \"86400s\"\nreplay_target = \"3600s\"\n";
    std::fs::write(&config, text).unwrap();
    store.start_with(&["--config", config.to_str().unwrap()])
}

fn template() -> Template {
    let store = TestStore::new();
    let daemon = start(&store);
    store.ctl(&["user", "add", "joe"]).expect(0);
    create(&store, "first");
    let snapshot = store.json(&["snapshot", "take", "--verify"])["id"].as_str().unwrap().to_owned();
    let at_snapshot = names(&store);
    create(&store, "second");
    let point = store.json(&["mailbox", "create", "user/joe/point"])["lsn"].to_string();
    let at_point = names(&store);
    create(&store, "third");
    let all = names(&store);
    // The log is sealed and the control file knows.
    std::thread::sleep(Duration::from_millis(1200));
    daemon.kill();
    Template { store, snapshot, point, held: [at_snapshot, at_point, all] }
}

fn copied(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

/// The store of the template again, in a place of its own.
fn again(template: &Template) -> TestStore {
    let store = TestStore::new();
    copied(&template.store.data, &store.data);
    store
}

fn spawn(store: &TestStore, words: &[&str]) -> std::process::Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_storedd"));
    command.arg("--data-dir").arg(&store.data).args(words).env_remove("STOREDD_CONFIG");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Kills the command at moments spread over the time that it takes. Each time a start finds what it held before or what it is to hold, loses
/// nothing of it, and the command, given again on what the kill left, leads to the end.
fn killed_everywhere(template: &Template, words: &[&str], legal: [&Names; 2]) {
    let whole = again(template);
    let begun = Instant::now();
    assert!(spawn(&whole, words).wait().unwrap().success(), "{words:?}");
    let takes = begun.elapsed();
    let mut killed = 0;
    for nth in 0..KILLS {
        let case = format!("{words:?}, kill {nth} of {KILLS}");
        let store = again(template);
        let mut child = spawn(&store, words);
        std::thread::sleep(takes * nth / KILLS);
        killed += u32::from(child.try_wait().unwrap().is_none());
        // It may have ended.
        let _ = child.kill();
        child.wait().unwrap();

        let left = TestStore::new();
        copied(&store.data, &left.data);
        let daemon = start(&left);
        let found = names(&left);
        assert!(legal.iter().any(|held| **held == found), "{case}: {} mailboxes", found.len());
        assert_eq!(left.json(&["recover", "--report"])["lost"], Value::Null, "{case}");
        daemon.kill();

        let done = store.storedd(words);
        assert_eq!(done.status, 0, "{case}: {done:?}");
        let daemon = start(&store);
        assert!(names(&store) == *legal[1], "{case}");
        // It is one that takes changes.
        store.ctl(&["mailbox", "create", "user/joe/after"]).expect(0);
        assert_eq!(daemon.stop(), 0);
        store.storedd(&["test"]).expect(0);
    }
    assert!(killed >= KILLS / 3, "{words:?}: {killed} of {KILLS} came before the end");
}

// rows 30, 35: back to a point
#[test]
fn recover_until_is_killed() {
    let template = template();
    let [_, at_point, all] = &template.held;
    killed_everywhere(&template, &["recover", "--until-lsn", &template.point, "--yes"], [all, at_point]);
}

// rows 52, 95: a snapshot in the place of the database, with the log behind it, and without
#[test]
fn snapshot_install_is_killed() {
    let template = template();
    let [at_snapshot, _, all] = &template.held;
    let words = ["snapshot", "install", &template.snapshot, "--yes", "--leave-log"];
    killed_everywhere(&template, &words[..4], [all, all]);
    killed_everywhere(&template, &words, [all, at_snapshot]);
}

// row 84, B1: a drill that dies with its daemon leaves the store as it is; the next one removes what it left, and is good
#[test]
fn a_drill_is_killed() {
    let template = template();
    let [.., all] = &template.held;
    let store = again(&template);
    let mut daemon = start(&store);
    let begun = Instant::now();
    store.json(&["drill"]);
    let takes = begun.elapsed();
    let mut broken_off = 0;
    for nth in 0..KILLS {
        let mut ctl = Command::new(env!("CARGO_BIN_EXE_storectl"));
        ctl.arg("--data-dir").arg(&store.data).arg("drill").stdout(Stdio::null()).stderr(Stdio::null());
        let mut drill = ctl.spawn().unwrap();
        std::thread::sleep(takes * (nth + 1) / (KILLS + 1));
        daemon.kill();
        drill.wait().unwrap();
        let scratch = store.data.join("dbdata/drill");
        broken_off += u32::from(std::fs::read_dir(&scratch).unwrap().count() > 0);
        daemon = start(&store);
        assert!(names(&store) == *all, "kill {nth}");
        assert_eq!(store.json(&["recover", "--report"])["lost"], Value::Null, "kill {nth}");
        let drilled = store.json(&["drill"]);
        assert_eq!((&drilled["verdict"], &drilled["compared"]), (&"good".into(), &true.into()), "{drilled}");
        assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0, "kill {nth}: nothing is left");
    }
    assert!(broken_off > 0, "no kill fell into a drill");
    assert_eq!(daemon.stop(), 0);
}
