//! What a client does itself is a job, too: it is seen, cancelled, and taken up where it was ended.

use crate::harness::{Daemon, PATIENCE, Run, TestStore, until};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Instant;

const INBOX: &str = "user/joe/INBOX";

fn house() -> (TestStore, Daemon) {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    (store, daemon)
}

/// A Maildir of so many messages.
/// More than are brought over before a client hears that it is cancelled.
const MANY: usize = 12_000;

fn maildir(store: &TestStore, messages: usize) -> PathBuf {
    let dir = store.beside("Maildir");
    for part in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(dir.join(part)).unwrap();
    }
    for n in 0..messages {
        std::fs::write(dir.join(format!("cur/{n:05}.x.y:2,S")), format!("Subject: {n}\r\n\r\nx\r\n")).unwrap();
    }
    dir
}

/// Makes every delivery to the INBOX wait until the child is killed.
fn held(store: &TestStore) -> Child {
    let mark = store.beside("held");
    let script = format!("touch {}; exec sleep 60", mark.display());
    let holder = store.begin(&["locks", "hold", INBOX, "--for", "60s", "--", "sh", "-c", &script]);
    until("the mailbox is held", || mark.exists().then_some(()));
    std::fs::remove_file(mark).unwrap();
    holder
}

fn release(store: &TestStore, mut holder: Child) {
    holder.kill().unwrap();
    holder.wait().unwrap();
    until("the lease is gone", || store.json(&["locks"])["held"].as_array().unwrap().is_empty().then_some(()));
}

fn job(store: &TestStore, verb: &str) -> Value {
    until(verb, || store.json(&["jobs"]).as_array()?.iter().find(|job| job["verb"] == verb).cloned())
}

fn id(job: &Value) -> String {
    job["id"].to_string()
}

fn count(store: &TestStore) -> u64 {
    store.json(&["mailbox", "show", INBOX])["messages"].as_u64().unwrap()
}

fn import(dir: &Path) -> Vec<&str> {
    vec!["--json", "import", "maildir", dir.to_str().unwrap(), "--user", "joe"]
}

#[test]
fn an_import_is_a_job_and_cancelled_it_keeps_what_it_has() {
    let (store, _daemon) = house();
    let dir = maildir(&store, MANY);
    let holder = held(&store);
    let imports = store.begin(&import(&dir));
    let seen = job(&store, "import maildir");
    assert_eq!(
        (&seen["state"], &seen["unit"], &seen["pid"]),
        (&json!("running"), &json!("messages"), &json!(imports.id()))
    );
    let told = until("how far it is is told", || {
        Some(store.json(&["jobs", "show", &id(&seen)]))
            .filter(|job| job["total"] == MANY && job["done"].as_u64() > Some(0))
    });
    assert_eq!(told["item"], INBOX);
    let cancels = store.begin(&["jobs", "cancel", &id(&seen)]);
    until("it is to end", || (store.json(&["jobs", "show", &id(&seen)])["state"] == "ending").then_some(()));
    release(&store, holder);
    let ended = Run::of(imports);
    assert_eq!(ended.status, 75, "{ended:?}");
    assert!(ended.err.contains("(import maildir) was cancelled behind") && ended.err.contains("next:"), "{ended:?}");
    let cancelled = Run::of(cancels);
    assert_eq!(cancelled.status, 0, "{cancelled:?}");
    assert_eq!(store.json(&["jobs", "show", &id(&seen)])["state"], "cancelled");
    // What was brought over stays, and the same command brings the rest.
    let left = count(&store);
    assert!(0 < left && left < MANY as u64, "{left}");
    let again = store.ctl(&import(&dir)).expect(0).json();
    assert_eq!((&again["unchanged"], &again["messages"]), (&json!(left), &json!(MANY as u64 - left)), "{again}");
    assert_eq!(count(&store), MANY as u64);
}

#[test]
fn a_client_that_dies_or_hangs_keeps_no_job() {
    let (store, _daemon) = house();
    let dir = maildir(&store, 20);
    let holder = held(&store);
    let mut imports = store.begin(&import(&dir));
    let dies = job(&store, "import maildir");
    imports.kill().unwrap();
    imports.wait().unwrap();
    let gone = until("it is noticed", || {
        Some(store.json(&["jobs", "show", &id(&dies)])).filter(|job| job["state"] == "failed")
    });
    assert!(gone["error"]["message"].as_str().unwrap().contains("its client went away"), "{gone}");
    // One that is stopped cannot say that it ends, and keeps nobody waiting.
    let imports = store.begin(&import(&dir));
    let hangs = until("the next job", || {
        store.json(&["jobs"]).as_array()?.iter().find(|job| job["state"] == "running").cloned()
    });
    let pid = rustix::process::Pid::from_child(&imports);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let begun = Instant::now();
    assert_eq!(store.json(&["jobs", "cancel", &id(&hangs)])["state"], "cancelled");
    assert!(begun.elapsed() < PATIENCE);
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    release(&store, holder);
    let ended = Run::of(imports);
    assert!(
        [0, 75].contains(&ended.status),
        "all of it was on its way already, or it learns that it is to end: {ended:?}"
    );
}

#[test]
fn a_batch_is_a_job_and_cancelled_it_says_so() {
    let (store, _daemon) = house();
    let mut batch = store.begin_with_input(&["--json", "batch", "-"]);
    let mut input = batch.stdin.take().unwrap();
    input.write_all(b"mailbox create user/joe/A\nmailbox create user/joe/B\n").unwrap();
    input.flush().unwrap();
    let seen = job(&store, "batch");
    until("its lines are counted", || (store.json(&["jobs", "show", &id(&seen)])["done"] == 2).then_some(()));
    assert_eq!(store.json(&["jobs", "cancel", &id(&seen)])["state"], "cancelled");
    let ended = Run::of(batch);
    drop(input);
    assert_eq!((ended.status, ended.out.lines().count()), (75, 3), "two results and why it ended: {ended:?}");
    assert!(ended.err.contains("run the lines that have no result"), "{ended:?}");
    assert_eq!(store.json(&["mailbox", "list"]).as_array().unwrap().len(), 3);
}

#[test]
fn with_detach_another_process_does_it_and_its_end_is_kept() {
    let (store, _daemon) = house();
    let dir = maildir(&store, 30);
    let begun = store.ctl(&[&import(&dir)[..], &["--detach"]].concat()).expect(0).json();
    assert_eq!(begun["verb"], "import maildir");
    let followed = store.ctl(&["--json", "jobs", "follow", &id(&begun)]).expect(0).out;
    let end: Value = serde_json::from_str(followed.lines().last().unwrap()).unwrap();
    assert_eq!((&end["messages"], &end["unchanged"]), (&json!(30), &json!(0)), "{end}");
    let told = store.ctl(&["jobs", "follow", &id(&begun)]).expect(0).out;
    assert!(told.contains("imported 30 messages"), "{told}");
    // What it left is whole, and a failure is kept as well.
    let out = store.beside("out");
    let left = ["--json", "export", "maildir", out.to_str().unwrap(), "--user", "joe", "--detach"];
    let left = store.ctl(&left).expect(0).json();
    store.ctl(&["jobs", "follow", &id(&left)]).expect(0);
    assert_eq!(std::fs::read_dir(out.join("cur")).unwrap().count(), 30);
    let fails = store.ctl(&["--json", "import", "mbox", "/nonexistent", "--user", "joe", "--detach"]).expect(0).json();
    store.ctl(&["jobs", "follow", &id(&fails)]).expect(66);
    assert_eq!(store.json(&["jobs", "show", &id(&fails)])["state"], "failed");
    // What ends with this program cannot be left to another.
    store.ctl(&["import", "mbox", "-", "--user", "joe", "--detach"]).expect(64);
}

#[test]
fn a_stop_waits_for_no_client() {
    let (store, daemon) = house();
    let mut batch = store.begin_with_input(&["batch", "-"]);
    job(&store, "batch");
    let begun = Instant::now();
    assert_eq!(daemon.stop(), 0);
    assert!(begun.elapsed() < PATIENCE);
    let input = batch.stdin.take();
    assert_eq!(Run::of(batch).status, 69);
    drop(input);
    let _daemon = store.start();
    assert_eq!(store.json(&["jobs"]), json!([]), "it ended in good order");
}

#[test]
fn a_backup_and_a_restore_are_left_to_another_process() {
    let (store, _daemon) = house();
    for n in 0..20 {
        let message = [format!("Subject: {n}\r\n\r\n").into_bytes(), vec![b'x'; 50_000]].concat();
        store.ctl_with(&["message", "deliver", INBOX], Some(&message)).expect(0);
    }
    let file = store.beside("all.sda");
    let file = file.to_str().unwrap();
    let followed = |words: &[&str], status: i32| -> (Value, Value) {
        let begun = store.ctl(&[&["--json"], words, &["--detach"]].concat()).expect(0).json();
        let told = store.ctl(&["--json", "jobs", "follow", &id(&begun)]).expect(status).out;
        (begun, told.lines().last().map_or(Value::Null, |line| serde_json::from_str(line).unwrap()))
    };
    let (job, saved) = followed(&["backup", "-f", file, "/"], 0);
    assert_eq!((&job["verb"], &job["unit"], &saved["messages"]), (&json!("backup"), &json!("messages"), &json!(20)));
    store.ctl(&["message", "expunge", INBOX, "1,2,3,4,5,6,7"]).expect(0);
    // There is nobody who could be asked.
    let asked = store.ctl(&["restore", "-f", file, "--detach"]).expect(64);
    assert!(asked.err.contains("say --yes"), "{asked:?}");
    let (job, back) = followed(&["restore", "-f", file, "--yes", INBOX], 0);
    assert_eq!((&job["verb"], back["restored"].as_array().unwrap().len()), (&json!("restore"), 7), "{back}");
    assert_eq!(count(&store), 20);
    let shown = store.json(&["jobs", "show", &id(&job)]);
    assert_eq!((&shown["state"], &shown["done"], &shown["total"]), (&json!("done"), &json!(20), &json!(20)), "{shown}");
    let told = store.ctl(&["jobs", "follow", &id(&job)]).expect(0).out;
    assert!(told.contains("restored 7 messages"), "{told}");
    assert_eq!(store.json(&["jobs"]).as_array().unwrap().iter().filter(|job| job["verb"] == "restore").count(), 1);
    let staged = store.beside("staged");
    let (_, staged_files) = followed(&["backup", "--stage", staged.to_str().unwrap(), "/"], 0);
    assert_eq!(staged_files["files"].as_array().unwrap().len(), 1, "{staged_files}");
    // One that is cancelled leaves no archive; one that fails says so.
    let slow = store.beside("slow.sda");
    let begun = ["--json", "backup", "-f", slow.to_str().unwrap(), "--pace", "100KiB", "--detach", "/"];
    let begun = store.ctl(&begun).expect(0).json();
    until("it is under way", || (store.json(&["jobs", "show", &id(&begun)])["done"].as_u64() > Some(0)).then_some(()));
    assert_eq!(store.json(&["jobs", "cancel", &id(&begun)])["state"], "cancelled");
    assert!(!slow.exists());
    followed(&["restore", "-f", "/nonexistent", "--yes"], 66);
    // What ends with this program, or with another, cannot be left to a third.
    let pipe = store.beside("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for words in [
        &["backup", "-f", "-", "/"][..],
        &["backup", "-f", "/dev/stdout", "/"],
        &["backup", "-f", pipe.to_str().unwrap(), "/"],
        &["backup", "-f", file, "-u", "-"],
        &["restore", "-f", "-", "--yes"],
        &["restore", "-f", pipe.to_str().unwrap(), "--yes"],
        &["restore", "-f", file, "-t"],
    ] {
        let refused = store.ctl(&[words, &["--detach"]].concat()).expect(64);
        assert!(refused.err.contains("--detach"), "{words:?}: {refused:?}");
    }
}
