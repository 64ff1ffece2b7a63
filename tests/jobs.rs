//! Long-running work: it goes on without its client, is followed, cancelled, held still by a freeze, and cut off by a crash.

use crate::harness::{Daemon, PATIENCE, Run, TestStore};
use serde_json::Value;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

/// A store whose snapshots take some seconds each.
fn slow() -> (TestStore, Daemon) {
    slow_with("")
}

fn slow_with(more: &str) -> (TestStore, Daemon) {
    let store = TestStore::new();
    let config = store.beside("slow.toml");
    let text = format!("[log]\nsegment_size = \"1MiB\"\n[snapshot]\npace = \"1MiB\"\nverify = false\n{more}");
    std::fs::write(&config, text).unwrap();
    let daemon = store.start_with(&["--config", config.to_str().unwrap()]);
    store.ctl(&["user", "add", "joe"]).expect(0);
    let lines: String = (0..8000).map(|n| format!("mailbox create user/joe/{n:05}-{}\n", "x".repeat(200))).collect();
    store.ctl_with(&["batch", "-"], Some(lines.as_bytes())).expect(0);
    (store, daemon)
}

fn begin(store: &TestStore) -> u64 {
    store.json(&["snapshot", "take", "--detach"])["id"].as_u64().unwrap()
}

fn show(store: &TestStore, id: u64) -> Value {
    store.json(&["jobs", "show", &id.to_string()])
}

/// Waits until a job is as wanted.
fn until(store: &TestStore, id: u64, wanted: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let jobs = store.json(&["jobs"]);
        if let Some(job) = jobs.as_array().unwrap().iter().find(|job| job["id"] == id && wanted(job)) {
            return job.clone();
        }
        assert!(begun.elapsed() < PATIENCE, "{jobs}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn at_work(job: &Value) -> bool {
    job["state"] == "running" && job["done"].as_u64() > Some(0)
}

/// Waits until a snapshot is being taken; gives the number of that job.
fn taking(store: &TestStore) -> u64 {
    crate::harness::until("a snapshot is being taken", || {
        let jobs = store.json(&["jobs"]);
        let found = jobs.as_array()?.iter().find(|job| job["verb"] == "snapshot take" && at_work(job))?;
        found["id"].as_u64()
    })
}

fn interrupt(child: &Child) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), rustix::process::Signal::INT).unwrap();
}

#[test]
fn a_job_goes_on_without_its_client_and_is_followed_by_others() {
    let (store, daemon) = slow();
    let id = begin(&store);
    let job = until(&store, id, at_work);
    assert_eq!((&job["verb"], &job["unit"], &job["ended"]), (&"snapshot take".into(), &"rows".into(), &Value::Null));
    assert!(job["total"].as_u64() > job["done"].as_u64(), "{job}");
    assert!(store.json(&["jobs"]).as_array().unwrap().iter().any(|job| job["id"] == id));
    let table = store.ctl(&["jobs", "list"]).expect(0).out;
    assert!(table.contains("snapshot take") && table.contains("running"), "{table}");
    // Followed: how far it is, line by line, and at last what it ended with.
    let lines = store.ctl(&["--json", "jobs", "follow", &id.to_string()]).expect(0).out;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (last, way) = lines.split_last().unwrap();
    assert!(way.iter().all(|job| job["id"] == id) && way.len() > 1, "{lines:?}");
    assert!(last["path"].is_string() && last["lsn"].is_u64(), "{last}");
    assert_eq!(show(&store, id)["state"], "done");
    // Also afterwards, and as text.
    let told = store.ctl(&["jobs", "follow", &id.to_string()]).expect(0).out;
    assert!(told.contains(last["id"].as_str().unwrap()), "{told}");
    for verb in ["show", "follow", "cancel"] {
        store.ctl(&["jobs", verb, "4711"]).expect(68);
    }
    store.ctl(&["jobs", "cancel", &id.to_string()]).expect(68);
    let log = daemon.log();
    assert!(log.contains("event=job_begun") && log.contains("event=job_ended"), "{log}");
}

#[test]
fn a_checkpoint_and_the_counting_of_quotas_go_on_without_their_client() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["user", "add", "joe", "--quota", "1GiB"]).expect(0);
    let counted = store.json(&["quota", "recalc", "--detach"])["id"].as_u64().unwrap();
    let written = store.json(&["checkpoint", "--detach"])["id"].as_u64().unwrap();
    for id in [counted, written] {
        until(&store, id, |job| job["state"] == "done");
    }
    let told = store.ctl(&["--json", "jobs", "follow", &written.to_string()]).expect(0).out;
    let done: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert!(done["lsn"].is_u64() && done["retired"].is_array(), "{told}");
    store.ctl(&["jobs", "follow", &counted.to_string()]).expect(0);
    assert_eq!(
        (&show(&store, counted)["verb"], &show(&store, written)["verb"]),
        (&"quota recalc".into(), &"checkpoint".into())
    );
    // One root is a change and no job, and a plan is nobody's.
    store.ctl(&["quota", "recalc", "joe", "--detach"]).expect(64);
    store.ctl(&["quota", "recalc", "--dry-run", "--detach"]).expect(64);
}

#[test]
fn control_c_leaves_a_job_to_the_daemon() {
    let (store, _daemon) = slow();
    let waits = store.begin(&["snapshot", "take"]);
    let id = taking(&store);
    interrupt(&waits);
    let left = Run::of(waits);
    assert_eq!(left.status, 1, "{left:?}");
    let (goes_on, next) = (format!("job {id} goes on"), format!("jobs follow {id}"));
    assert!(left.err.contains(&goes_on) && left.err.contains(&next), "{left:?}");
    until(&store, id, |job| job["state"] == "done");
    assert_eq!(store.json(&["snapshot", "list"]).as_array().unwrap().len(), 1);
}

#[test]
fn cancelled_a_job_ends_soon_and_one_that_waits_at_once() {
    let (store, _daemon) = slow();
    let waits = store.begin(&["snapshot", "take"]);
    let first = taking(&store).to_string();
    let second = begin(&store);
    assert_eq!(show(&store, second)["state"], "waiting");
    let begun = Instant::now();
    assert_eq!(store.json(&["jobs", "cancel", &second.to_string()])["state"], "cancelled");
    assert_eq!(store.json(&["jobs", "cancel", &first])["state"], "cancelled");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let waited = Run::of(waits);
    assert_eq!(waited.status, 75, "{waited:?}");
    assert!(waited.err.contains("was cancelled"), "{waited:?}");
    assert_eq!(store.json(&["snapshot", "list"]), Value::Array(vec![]), "nothing half done is left");
    assert!(std::fs::read_dir(store.data.join("dbdata/snapshots")).unwrap().next().is_none());
    // Twice is no error.
    store.ctl(&["jobs", "cancel", &first]).expect(0);
}

#[test]
fn so_many_wait_and_the_next_is_refused() {
    let (store, _daemon) = slow_with("[jobs]\nrunning = 1\n");
    let ids: Vec<u64> = (0..17).map(|_| begin(&store)).collect();
    let refused = store.ctl(&["snapshot", "take"]).expect(75);
    assert!(refused.err.contains("16 jobs wait already") && refused.err.contains("storectl"), "{refused:?}");
    for id in ids.iter().rev() {
        store.ctl(&["jobs", "cancel", &id.to_string()]).expect(0);
    }
    store.ctl(&["snapshot", "prune", "--yes"]).expect(0);
}

/// Every file with its length and time, without those that say how the daemon is.
fn files(root: &Path, out: &mut Vec<String>) {
    use std::os::unix::fs::MetadataExt;
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let about = std::fs::symlink_metadata(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if about.is_dir() {
            files(&path, out);
        } else if !["state", "state.new", "stored.ckp", "stored.lcu", "control.sock"].contains(&name.as_str()) {
            out.push(format!("{} {} {}.{}", path.display(), about.len(), about.mtime(), about.mtime_nsec()));
        }
    }
    out.sort();
}

// rows 58, B12: also a snapshot that is being taken stands still.
#[test]
fn a_freeze_holds_jobs_still() {
    let (store, _daemon) = slow();
    let id = begin(&store);
    until(&store, id, at_work);
    let (frozen, thaw) = (store.beside("frozen"), store.beside("thaw"));
    let script = format!("touch {}; until [ -e {} ]; do sleep 0.05; done", frozen.display(), thaw.display());
    let freeze = store.begin(&["freeze", "--for", "30s", "--", "sh", "-c", &script]);
    let begun = Instant::now();
    while !frozen.exists() {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(10));
    }
    let look = || {
        let mut out = Vec::new();
        files(&store.data, &mut out);
        out
    };
    let (before, paused) = (look(), show(&store, id));
    assert_eq!(paused["state"], "paused", "{paused}");
    let late = begin(&store);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(look(), before, "nothing is written");
    assert_eq!(show(&store, late)["ended"], Value::Null);
    std::fs::write(thaw, "").unwrap();
    let frozen = Run::of(freeze);
    assert_eq!(frozen.status, 0, "{frozen:?}");
    for id in [id, late] {
        assert_eq!(until(&store, id, |job| job["ended"].is_string())["state"], "done");
    }
}

#[test]
fn a_crash_cuts_jobs_off_and_a_stop_ends_them() {
    let (store, daemon) = slow();
    let config = store.beside("slow.toml");
    let id = begin(&store);
    until(&store, id, at_work);
    daemon.kill();
    let daemon = store.start_with(&["--config", config.to_str().unwrap()]);
    assert_eq!(show(&store, id)["state"], "gone");
    store.ctl(&["jobs", "follow", &id.to_string()]).expect(75);
    let log = daemon.log();
    assert!(log.lines().any(|l| l.contains("event=job_gone") && l.contains("snapshot take")), "{log}");
    // A stop does not wait for it, and whoever waits is told.
    let waits = store.begin(&["snapshot", "take"]);
    let second = taking(&store);
    let begun = Instant::now();
    assert_eq!(daemon.stop(), 0);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(Run::of(waits).status, 75);
    let daemon = store.start_with(&["--config", config.to_str().unwrap()]);
    assert_eq!(store.json(&["jobs"]), Value::Array(vec![]), "it ended in good order");
    assert!(begin(&store) > second, "numbers go on");
    drop(daemon);
}

#[test]
fn a_drain_waits_for_jobs() {
    let (store, mut daemon) = slow();
    let id = begin(&store);
    until(&store, id, at_work);
    store.ctl(&["drain"]).expect(0);
    assert_eq!(daemon.wait(), 0);
    let log = daemon.log();
    assert!(log.lines().any(|l| l.contains("event=job_ended") && l.contains("state=done")), "{log}");
}
