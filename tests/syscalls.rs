//! Every system call with which the delivered daemon changes a store goes wrong once: the process is killed before it or in the middle of
//! it, it does half of its work, it fails, the disk is broken from then on. Nothing acknowledged is lost, nothing is half there, and the daemon starts again by itself.
//! // row 18, row 20, row 21, B11
//!
//! Three lives are gone through: a first start, a day's work, and a recovery. The ordinary run has each kind of call on each kind of file
//! go wrong in two ways; `STOREDD_CALLS=all` has each call in each way, and `STOREDD_CALLS=<life>:<call>:<fault>` one again.

use crate::harness::tracer::{Fault, Script, Seen, Traced};
use crate::harness::{Daemon, PATIENCE, TestStore, total, until};
use crate::ledger::account::{Account, Folder, Op, inbox};
use crate::ledger::doors::Session;
use crate::ledger::{Ledger, check};
use crate::mail_kills::OFTEN;
use nix::sys::signal::Signal;
use proto::client::{Client, Timeouts};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

const FAULTS: [(&str, Fault); 6] = [
    ("kill", Fault::Kill),
    ("torn", Fault::Torn),
    ("short", Fault::Short),
    ("eio", Fault::Fails(EIO)),
    ("enospc", Fault::Fails(ENOSPC)),
    ("breaks", Fault::Breaks(EIO)),
];

/// One life of a daemon, on a copy of the same store each time.
struct Life {
    name: &'static str,
    store: TestStore,
    /// The store at its begin; nothing for a first start.
    before: Option<PathBuf>,
    /// What clients were told before.
    told: Account,
    /// What is asked for meanwhile.
    asks: fn(&TestStore, &Path, &mut Ledger) -> Option<()>,
}

fn users() -> Vec<String> {
    ["joe", "ann"].map(str::to_owned).to_vec()
}

fn letter(name: &str, size: usize) -> Vec<u8> {
    let mut bytes = format!("Subject: {name}\r\n\r\n").into_bytes();
    bytes.resize(bytes.len() + size, b'x');
    bytes.extend_from_slice(b"\r\n");
    bytes
}

fn deliver(to: &[&str], name: &str, size: usize) -> Op {
    Op::Deliver { to: to.iter().map(|name| (*name).to_owned()).collect(), bytes: letter(name, size) }
}

/// Everything that changes mail, a checkpoint, a snapshot and a roll of the log among it.
fn work(store: &TestStore, socket: &Path, ledger: &mut Ledger) -> Option<()> {
    let mut client = Client::connect(socket, "calls", Timeouts::default()).ok()?;
    let (joe, ann, a) = (inbox("joe"), inbox("ann"), "user/joe/a".to_owned());
    let mut asks = |ledger: &mut Ledger, op: Op| ledger.ask(op, |op| op.ask(&mut client).ok());
    // Refused, it is not there to be worked on.
    let there = |ledger: &Ledger, name: &str, uid: u32| ledger.told[name].live.contains_key(&uid);
    asks(ledger, deliver(&[&joe], "one", 300))?;
    asks(ledger, deliver(&[&joe, &ann], "two", 90_000))?;
    let mut session = Session::begin(&store.data.join("lmtp.sock"))?;
    ledger.ask(Op::Lmtp { to: users(), bytes: letter("three", 4000) }, |op| session.ask_for(op))?;
    if there(ledger, &joe, 1) {
        asks(ledger, Op::Flag { name: joe.clone(), uid: 1, flag: r"\Flagged", set: true })?;
        asks(ledger, Op::Copy { name: joe.clone(), uids: vec![1], to: a.clone(), remove: false })?;
    }
    store.ctl(&["checkpoint"]);
    if there(ledger, &joe, 2) {
        asks(ledger, Op::Copy { name: joe.clone(), uids: vec![2], to: a.clone(), remove: true })?;
    }
    if there(ledger, &joe, 1) {
        asks(ledger, Op::Expunge { name: joe.clone(), uids: vec![1] })?;
    }
    store.ctl(&["snapshot", "create"]);
    asks(ledger, Op::Rename { from: a, to: "user/joe/b".to_owned() })?;
    if ledger.told[&joe].expunged.contains_key(&1) {
        asks(ledger, Op::Undelete { name: joe.clone(), uids: vec![1] })?;
    }
    asks(ledger, deliver(&[&joe], "four", 700_000))?;
    asks(ledger, deliver(&[&ann], "five", 60_000))?;
    store.ctl(&["checkpoint"]);
    asks(ledger, deliver(&[&ann], "six", 10))
}

/// A little, so that a recovery is followed by something.
fn little(_: &TestStore, socket: &Path, ledger: &mut Ledger) -> Option<()> {
    let mut client = Client::connect(socket, "calls", Timeouts::default()).ok()?;
    ledger.ask(deliver(&[&inbox("joe")], "after", 100), |op| op.ask(&mut client).ok())
}

/// A user and a message, who may not be there if the start was the last that was.
fn first(store: &TestStore, socket: &Path, ledger: &mut Ledger) -> Option<()> {
    if store.ctl(&["user", "add", "joe"]).status != 0 {
        return None;
    }
    ledger.users = vec!["joe".to_owned()];
    ledger.told.insert(inbox("joe"), Folder::new());
    little(store, socket, ledger)
}

impl Life {
    fn new(name: &'static str) -> Life {
        let store = TestStore::new();
        std::fs::write(store.beside("often.toml"), OFTEN).unwrap();
        let mut life = Life { name, store, before: None, told: Account::new(), asks: first };
        if name == "first" {
            return life;
        }
        let daemon = life.start();
        for user in users() {
            life.store.ctl(&["user", "add", &user]).expect(0);
            life.told.insert(inbox(&user), Folder::new());
        }
        life.store.ctl(&["mailbox", "create", "user/joe/a"]).expect(0);
        life.told.insert("user/joe/a".to_owned(), Folder::new());
        life.asks = work;
        if name == "recovery" {
            let mut ledger = life.ledger();
            work(&life.store, &daemon.socket, &mut ledger).unwrap();
            daemon.kill();
            (life.told, life.asks) = (ledger.told, little);
        } else {
            assert_eq!(daemon.stop(), 0);
        }
        let before = life.store.beside("before");
        std::fs::rename(&life.store.data, &before).unwrap();
        life.before = Some(before);
        life
    }

    fn ledger(&self) -> Ledger {
        let users = if self.told.is_empty() { Vec::new() } else { users() };
        Ledger { users, told: self.told.clone(), open: None, done: 0 }
    }

    fn start(&self) -> Daemon {
        self.store.start_with(&["--config", self.store.beside("often.toml").to_str().unwrap()])
    }

    /// Lives it once, and gives what was seen and what clients know.
    fn live(&self, script: Script) -> Option<(Seen, Ledger)> {
        let data = &self.store.data;
        let _ = std::fs::remove_dir_all(data);
        match &self.before {
            Some(before) => copied(before, data),
            None => std::fs::create_dir(data).unwrap(),
        }
        let config = self.store.beside("often.toml");
        let log = std::fs::File::create(self.store.beside("traced.log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_storedd"));
        command.arg("--config").arg(config).arg("--data-dir").arg(data).env_remove("NOTIFY_SOCKET");
        let daemon = Traced::start(&command, data, script, log)?;
        let mut ledger = self.ledger();
        if ready(&daemon, &data.join("control.sock")) {
            let _ = (self.asks)(&self.store, &data.join("control.sock"), &mut ledger);
        }
        daemon.signal(Signal::SIGTERM);
        let begun = Instant::now();
        while !daemon.gone() {
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
        Some((daemon.ended(), ledger))
    }

    /// Lives it with a fault, then starts as ever and compares. Gives the call that went wrong, if there was one.
    fn fails(&self, call: u64, (fault, how): (&str, Fault)) -> Option<String> {
        let when = format!("STOREDD_CALLS={}:{call}:{fault}", self.name);
        let (seen, mut ledger) = self.live(Script::At(call, how)).unwrap();
        let hit = seen.hit?;
        let when = format!("{when} ({hit})");
        let daemon = self.start();
        if self.before.is_none() && ledger.users.is_empty() {
            self.store.ctl(&["user", "add", "ann"]).expect(0);
        } else {
            // One whose disk failed takes what it lacks from the log first.
            until("a partition does not catch up", || {
                let all = self.store.json(&["partition", "list"]);
                all.as_array().unwrap().iter().all(|partition| partition["state"] == "ok").then_some(())
            });
            check(&self.store, &daemon.socket, std::slice::from_mut(&mut ledger), &when);
        }
        let report = self.store.json(&["recover", "--report"]);
        assert_eq!(report["lost"], Value::Null, "{when}: {report}");
        assert_eq!(daemon.stop(), 0, "{when}");
        let config = self.store.beside("often.toml");
        self.store.storedd(&["test", "--config", config.to_str().unwrap()]).expect(0);
        Some(hit)
    }
}

fn ready(daemon: &Traced, socket: &Path) -> bool {
    let begun = Instant::now();
    while !daemon.gone() {
        let client = Client::connect(socket, "calls", Timeouts::default());
        if client.is_ok_and(|client| client.hello().state == "ready") {
            return true;
        }
        assert!(begun.elapsed() < PATIENCE, "neither ready nor gone");
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

fn copied(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

/// Which of the calls go wrong, and how.
fn chosen(life: &Life, seen: &Seen) -> Vec<(u64, (&'static str, Fault))> {
    let wish = std::env::var("STOREDD_CALLS").unwrap_or_default();
    if let [name, call, fault] = wish.split(':').collect::<Vec<_>>()[..] {
        let fault = FAULTS.into_iter().find(|(known, _)| *known == fault).expect("a fault");
        return (name == life.name).then(|| (call.parse().unwrap(), fault)).into_iter().collect();
    }
    let all = (1..=seen.calls.len() as u64).flat_map(|call| FAULTS.map(|fault| (call, fault)));
    let all = all.filter(|(call, fault)| {
        let name = seen.calls[*call as usize - 1].0;
        fault.0 != "short" || name.contains("write")
    });
    if wish == "all" {
        return all.collect();
    }
    // Killed, and one of the others in turn.
    let kind = |file: &str| file.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect::<String>();
    let mut known: BTreeSet<(&str, String)> = BTreeSet::new();
    let mut some = Vec::new();
    for (at, (name, file)) in seen.calls.iter().enumerate() {
        if known.insert((name, kind(file))) {
            some.extend([0, 1 + known.len() % (FAULTS.len() - 1)].map(|fault| (at as u64 + 1, FAULTS[fault])));
        }
    }
    some
}

fn go_through(name: &'static str) {
    let life = Life::new(name);
    let Some((seen, ledger)) = life.live(Script::Count) else { return };
    assert!(ledger.open.is_none() && ledger.done > 0, "without a fault all is done: {ledger:?}");
    let chosen = chosen(&life, &seen);
    let mut hits: BTreeMap<String, usize> = BTreeMap::new();
    for (call, fault) in &chosen {
        if let Some(hit) = life.fails(*call, *fault) {
            *hits.entry(hit.split(' ').next().unwrap().to_owned()).or_default() += 1;
        }
    }
    let hit: usize = hits.values().sum();
    total(&format!(
        "system calls, {name}: {} calls change the store; {hit} of {} faults met one: {hits:?}; 0 lost, 0 half there",
        seen.calls.len(),
        chosen.len()
    ));
}

#[test]
fn each_call_of_a_first_start_goes_wrong() {
    go_through("first");
}

#[test]
fn each_call_of_a_days_work_goes_wrong() {
    go_through("work");
}

#[test]
fn each_call_of_a_recovery_goes_wrong() {
    go_through("recovery");
}
