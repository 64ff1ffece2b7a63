//! Who holds what: leases, waits, deadlocks, dead holders; a store that is drained, frozen, read-only.

use crate::harness::{Daemon, PATIENCE, Run, TestStore};
use proto::{Client, Code, Command as Asked, Reply, Request};
use serde_json::Value;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Within this a dead client must have been noticed (row 101).
const SOON: Duration = Duration::from_secs(2);

/// Far below any deadline that would set somebody free as well, and far above what a busy machine adds.
const NOT_BY_TIME: Duration = Duration::from_secs(20);

/// Some of these may meet a machine that is busy with other tests; one of them must be soon.
const ROUNDS: usize = 5;

/// A store with joe and his mailboxes A and B.
fn house() -> (TestStore, Daemon) {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    for name in ["A", "B"] {
        store.ctl(&["mailbox", "create", &format!("user/joe/{name}")]).expect(0);
    }
    (store, daemon)
}

/// Waits until `locks` shows something; gives it.
fn until(store: &TestStore, what: &str, shown: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let locks = store.json(&["locks"]);
        if shown(&locks) {
            return locks;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: {locks}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn count(locks: &Value, list: &str) -> usize {
    locks[list].as_array().unwrap().len()
}

fn take(client: &mut Client, resource: &str) -> Result<u64, Code> {
    let request =
        Request::LockTake { resource: resource.to_owned(), for_ms: None, wait_ms: None, reason: "test".to_owned() };
    match client.call(&request) {
        Ok(Reply::Lock(lock)) => Ok(lock.id),
        Ok(other) => panic!("{other:?}"),
        Err(e) => Err(e.failure().code),
    }
}

fn rights(mailbox: &str) -> Request {
    let (name, identifier, rights) = (mailbox.to_owned(), "anyone".to_owned(), "l".to_owned());
    Request::Change { command: Asked::AclSet { name, identifier, rights }, dry_run: false }
}

// row 107: what can be seen of a daemon that hangs, without asking it, without a lock, and without a change.
#[test]
fn a_daemon_that_hangs_is_seen_from_outside() {
    let (store, daemon) = house();
    store.ctl(&["checkpoint"]).expect(0);
    let pid = daemon.child.id();
    let seen = store.json(&["status", "-n"]);
    assert_eq!(
        (&seen["state"], &seen["process"], &seen["lock_holder"]),
        (&"ready".into(), &"runs".into(), &pid.into())
    );
    daemon.signal(rustix::process::Signal::STOP);
    crate::harness::until("it has stopped", || {
        (store.json(&["status", "--no-lock"])["process"] == "stopped by a signal").then_some(())
    });
    store.ctl(&["--timeout", "1s", "status"]).expect(69);
    let before = store.tree();
    let told = store.ctl(&["status", "-n"]).expect(0).out;
    assert!(told.contains(&format!("process {pid}")) && told.contains("last checkpoint"), "{told}");
    assert_eq!(store.tree(), before);
    daemon.kill();
    let gone = store.ctl(&["--json", "status", "-n"]).expect(3).json();
    assert_eq!((&gone["process"], &gone["lock_holder"]), (&"gone".into(), &serde_json::Value::Null), "{gone}");
    assert_eq!(gone["state"], "ready", "it could not say that it ended");
}

// row 107, B6
#[test]
fn who_holds_what_is_listed_with_owner_and_age() {
    let (store, _daemon) = house();
    assert!(store.ctl(&["locks"]).expect(0).out.contains("nothing is held"));
    let mark = store.beside("go");
    let script = format!("until [ -e {} ]; do sleep 0.05; done; exit 7", mark.display());
    let words = ["locks", "hold", "user/joe/A", "--reason", "an experiment", "--", "sh", "-c", &script];
    let holder = store.begin(&words);
    until(&store, "held", |l| count(l, "held") == 1);
    let change = store.begin(&["acl", "set", "user/joe/A", "anyone", "l"]);
    let locks = until(&store, "waits", |l| count(l, "waiting") == 1);
    let (held, waiting) = (&locks["held"][0], &locks["waiting"][0]);
    assert_eq!(held["resource"], "user/joe/A");
    assert_eq!(held["pid"], holder.id());
    assert_eq!((held["verb"].as_str(), held["waiters"].as_u64()), (Some("locks hold"), Some(1)));
    assert_eq!((&held["reason"], &waiting["wants"]), (&"an experiment".into(), &"change".into()));
    assert_eq!((&waiting["pid"], &waiting["locks"][0]), (&change.id().into(), &held["id"]));
    // Twice: what stays has the greater age.
    let again = store.json(&["locks"]);
    assert!(again["held"][0]["age"].as_f64() > held["age"].as_f64());
    let words = store.ctl(&["locks", "--why-stuck"]).expect(0).out;
    assert!(words.contains(&format!("process {} of user", change.id())), "{words}");
    assert!(words.contains(&format!("held by process {}", holder.id())), "{words}");
    // row 58
    let told = store.ctl(&["test", "--deadlocks"]).expect(0).out;
    assert!(told.contains(&format!("held by process {}", holder.id())), "{told}");
    std::fs::write(mark, "").unwrap();
    assert_eq!(Run::of(holder).status, 7, "the status of the command");
    Run::of(change).expect(0);
    assert_eq!(count(&store.json(&["locks"]), "held"), 0);
}

#[test]
fn a_command_under_a_lease_acts_for_its_holder() {
    let (store, _daemon) = house();
    let ctl = env!("CARGO_BIN_EXE_storectl");
    let data = store.data.to_str().unwrap();
    let words = ["locks", "hold", "user/joe/A", "--", ctl, "--data-dir", data, "mailbox", "delete", "-y", "user/joe/A"];
    store.ctl(&words).expect(0);
    store.ctl(&["mailbox", "show", "user/joe/A"]).expect(68);
    // A deadline that passes is told, and the command's own status is not.
    store.ctl(&["locks", "hold", "user/joe/B", "--for", "100ms", "--", "sleep", "0.5"]).expect(75);
}

// row 101, row 102
#[test]
fn what_a_dead_client_held_is_free_within_two_seconds() {
    let (store, daemon) = house();
    let mut took = Vec::new();
    while took.len() < ROUNDS && took.iter().all(|took| *took >= SOON) {
        let (mut holder, change) = held_and_wanted(&store, "60s");
        let begun = Instant::now();
        signal(&holder, "KILL");
        Run::of(change).expect(0);
        took.push(begun.elapsed());
        holder.wait().unwrap();
        has_said(&daemon, "holder_gone", holder.id());
    }
    assert!(took.iter().any(|took| *took < SOON), "{took:?}");
}

// row 101, row 102: it cannot say anything itself; who waits is told whom he waits for, and its deadline sets him free
#[test]
fn what_a_stopped_client_holds_is_free_at_its_deadline() {
    let (store, daemon) = house();
    let (mut holder, change) = held_and_wanted(&store, "10s");
    signal(&holder, "STOP");
    let named = store.ctl(&["locks", "--why-stuck"]).expect(0).out;
    assert!(named.contains(&format!("held by process {}", holder.id())), "{named}");
    Run::of(change).expect(0);
    holder.kill().unwrap();
    holder.wait().unwrap();
    has_said(&daemon, "lease_expired", holder.id());
}

/// A command that holds joe for at most so long, and one that waits for him.
fn held_and_wanted(store: &TestStore, deadline: &str) -> (Child, Child) {
    let holder = store.begin(&["locks", "hold", "joe", "--for", deadline, "--", "sleep", "60"]);
    until(store, "held", |l| count(l, "held") == 1);
    let change = store.begin(&["acl", "set", "user/joe/A", "anyone", "l"]);
    until(store, "waits", |l| count(l, "waiting") == 1);
    (holder, change)
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// The daemon named this event, with the client and what it held.
fn has_said(daemon: &Daemon, event: &str, pid: u32) {
    let (log, pid) = (daemon.log(), format!("pid={pid}"));
    let line = log.lines().find(|l| l.contains(event) && l.contains(&pid));
    let line = line.unwrap_or_else(|| panic!("{event} {pid}: {log}"));
    assert!(line.contains("held=joe") && line.contains("uid="), "{line}");
}

// row 104, row 58
#[test]
fn two_clients_that_wait_for_each_other_have_exactly_one_victim() {
    let (store, daemon) = house();
    let (mut one, mut two) = (daemon.client(), daemon.client());
    let (a, _b) = (take(&mut one, "user/joe/A").unwrap(), take(&mut two, "user/joe/B").unwrap());
    let waits = std::thread::spawn(move || (take(&mut one, "user/joe/B"), one));
    until(&store, "waits", |l| count(l, "waiting") == 1);
    let begun = Instant::now();
    let failure = two.call(&rights("user/joe/A")).unwrap_err().failure();
    assert!(begun.elapsed() < NOT_BY_TIME, "{:?}", begun.elapsed());
    assert_eq!(failure.code, Code::Busy);
    let pid = std::process::id();
    assert!(failure.message.contains("deadlock") && failure.message.contains(&format!("process {pid}")), "{failure}");
    assert!(failure.message.contains("user/joe/A") && failure.message.contains("user/joe/B"), "{failure}");
    assert_eq!(count(&store.json(&["locks"]), "waiting"), 1, "the other waits on");
    drop(two);
    let (granted, mut one) = waits.join().unwrap();
    assert!(granted.is_ok());
    one.call(&Request::LockRelease { id: a }).unwrap();
    assert_eq!(store.json(&["locks"])["deadlocks"], 1);
    assert!(daemon.log().contains("event=deadlock") || daemon.log().contains("deadlock"));
    // The same by two commands that run commands.
    let ctl = env!("CARGO_BIN_EXE_storectl");
    let data = store.data.to_str().unwrap().to_owned();
    drop(one);
    until(&store, "free", |l| count(l, "held") == 0);
    let (mark, ready) = (store.beside("go"), |name: &str| store.beside(name));
    let both = [("joe", "ann", "first"), ("ann", "joe", "second")].map(|(held, wanted, name)| {
        let script = format!(
            "touch {}; until [ -e {} ]; do sleep 0.05; done; exec {ctl} --data-dir {data} locks hold {wanted} -- true",
            ready(name).display(),
            mark.display()
        );
        store.begin(&["locks", "hold", held, "--", "sh", "-c", &script])
    });
    until(&store, "both held", |l| count(l, "held") == 2);
    std::fs::write(&mark, "").unwrap();
    let mut ended = both.map(|child| Run::of(child).status);
    ended.sort_unstable();
    assert_eq!(ended, [0, 75]);
}

// row 110
#[test]
fn a_wait_has_a_limit_that_names_who_is_in_the_way() {
    let (store, daemon) = house();
    let config = store.beside("wait.toml");
    drop(daemon);
    std::fs::write(&config, "[log]\nsegment_size = \"1MiB\"\n[limits]\nwait = \"300ms\"\n").unwrap();
    let daemon = store.start_with(&["--config", config.to_str().unwrap()]);
    let mut holder = daemon.client();
    take(&mut holder, "user/joe/A").unwrap();
    let run = store.ctl(&["mailbox", "rename", "user/joe/A", "user/joe/C"]).expect(75);
    let pid = std::process::id().to_string();
    assert!(run.err.contains("user/joe/A") && run.err.contains(&pid), "{run:?}");
    let log = daemon.log();
    let line = log.lines().find(|l| l.contains("waited_too_long")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("user/joe/A") && line.contains(&format!("process {pid}")), "{line}");
    // The rest of the store is open meanwhile, and so is the subtree of nobody's concern.
    store.ctl(&["acl", "set", "user/joe/B", "anyone", "l"]).expect(0);
    store.ctl(&["user", "delete", "-y", "joe"]).expect(75);
}

// row B6: a break only when the holder cannot commit any more
#[test]
fn a_broken_holder_is_cut_first() {
    let (store, daemon) = house();
    let mut holder = daemon.client();
    let id = take(&mut holder, "joe").unwrap().to_string();
    store.ctl(&["locks", "break", &id]).expect(64);
    store.ctl(&["locks", "break", "99999", "--yes"]).expect(68);
    store.ctl(&["locks", "break", &id, "--yes"]).expect(0);
    assert!(holder.call(&rights("user/joe/A")).is_err(), "its connection is gone");
    store.ctl(&["acl", "set", "user/joe/A", "anyone", "l"]).expect(0);
    assert!(daemon.log().contains("lease_broken"));
}

// row B12
#[test]
fn a_copy_of_a_frozen_store_needs_nothing() {
    let (store, daemon) = house();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (flag, mut writer) = (stop.clone(), daemon.client());
    let writing = std::thread::spawn(move || {
        let mut done = 0u32;
        while !flag.load(std::sync::atomic::Ordering::Relaxed) {
            let name = format!("user/joe/w{done}");
            let command = Asked::MailboxCreate { name, partition: None };
            writer.call(&Request::Change { command, dry_run: false }).unwrap();
            done += 1;
        }
        done
    });
    let other = TestStore::new();
    let script = format!(
        "{} --data-dir {} --json mailbox list > {}; cp -a {} {}",
        env!("CARGO_BIN_EXE_storectl"),
        store.data.display(),
        store.beside("listed").display(),
        store.data.display(),
        other.data.display()
    );
    std::thread::sleep(Duration::from_millis(200));
    store.ctl(&["freeze", "--for", "20s", "--reason", "snapshot", "--", "sh", "-c", &script]).expect(0);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(writing.join().unwrap() > 0);
    let listed: Value = serde_json::from_slice(&std::fs::read(store.beside("listed")).unwrap()).unwrap();
    let _copy = other.start();
    let report = other.json(&["recover", "--report"]);
    assert_eq!(
        (report["replayed"].as_u64(), report["findings"].as_array().map(Vec::len)),
        (Some(0), Some(0)),
        "{report}"
    );
    assert_eq!(other.json(&["mailbox", "list"]).as_array().map(Vec::len), listed.as_array().map(Vec::len));
    assert!(listed.as_array().unwrap().len() > 3, "changes were under way");
    store.ctl(&["mailbox", "create", "user/joe/after"]).expect(0);
    assert!(daemon.log().contains("frozen") && daemon.log().contains("thawed"));
}

// row B12
#[test]
fn a_freeze_ends_with_its_time_or_its_client() {
    let (store, _daemon) = house();
    store.ctl(&["freeze", "--for", "100ms", "--", "sleep", "1"]).expect(75);
    store.ctl(&["freeze", "--for", "2m", "--", "true"]).expect(65);
    store.ctl(&["freeze", "--for", "5s", "--", "sh", "-c", "exit 3"]).expect(3);
    // Without a command it was refused (64).
    let begun = Instant::now();
    let alone = store.ctl(&["freeze", "--for", "700ms"]).expect(0);
    assert!(
        begun.elapsed() >= Duration::from_millis(700) && alone.err.contains("nothing is written for"),
        "{}",
        alone.err
    );
    store.ctl(&["acl", "set", "user/joe/A", "anyone", "lr"]).expect(0);
    let mut holder = store.begin(&["freeze", "--for", "50s", "--", "sleep", "50"]);
    until(&store, "frozen", |l| l["held"][0]["left"].is_number());
    let change = store.begin(&["acl", "set", "user/joe/A", "anyone", "l"]);
    until(&store, "waits", |l| count(l, "waiting") == 1);
    store.ctl(&["mailbox", "show", "user/joe/A"]).expect(0);
    store.ctl(&["status"]).expect(0);
    holder.kill().unwrap();
    let begun = Instant::now();
    holder.wait().unwrap();
    Run::of(change).expect(0);
    assert!(begun.elapsed() < NOT_BY_TIME, "{:?}", begun.elapsed());
}

// row 7
#[test]
fn a_drain_lets_those_who_are_there_finish() {
    let (store, mut daemon) = house();
    let mut there = daemon.client();
    let drain = store.begin(&["drain"]);
    let begun = Instant::now();
    while store.json(&["status"])["state"] != "draining" {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(10));
    }
    // New work is refused, questions are answered.
    let refused = store.ctl(&["mailbox", "create", "user/joe/late"]).expect(75);
    assert!(refused.err.contains("draining"), "{refused:?}");
    store.ctl(&["health"]).expect(69);
    store.ctl(&["mailbox", "list"]).expect(0);
    // Who was there goes on until it leaves.
    for n in 0..50 {
        let command = Asked::MailboxCreate { name: format!("user/joe/m{n}"), partition: None };
        there.call(&Request::Change { command, dry_run: false }).unwrap();
    }
    drop(there);
    Run::of(drain).expect(0);
    assert_eq!(daemon.wait(), 0);
    let _again = store.start();
    assert_eq!(store.json(&["recover", "--report"])["decision"], "clean");
    assert_eq!(store.json(&["mailbox", "list"]).as_array().unwrap().len(), 53);
}

// row 7, row 8
#[test]
fn a_drain_waits_no_longer_than_said() {
    let (store, mut daemon) = house();
    let _idle = daemon.client();
    store.ctl(&["drain", "--wait", "300ms"]).expect(0);
    assert_eq!(daemon.wait(), 0);
    assert!(daemon.log().contains("drain_limit"));
}

#[test]
fn read_only_is_an_operators_will_and_lifts_nothing_else() {
    let (store, daemon) = house();
    store.ctl(&["read-only", "on", "--reason", "moving house"]).expect(0);
    let status = store.json(&["status"]);
    assert_eq!(status["state"], "read-only");
    store.ctl(&["mailbox", "create", "user/joe/no"]).expect(69);
    store.ctl(&["mailbox", "list"]).expect(0);
    store.ctl(&["read-only", "off"]).expect(0);
    store.ctl(&["mailbox", "create", "user/joe/yes"]).expect(0);
    store.ctl(&["read-only", "on"]).expect(0);
    assert_eq!(daemon.stop(), 0);
    let _again = store.start();
    assert_eq!(store.json(&["status"])["state"], "ready");
}
