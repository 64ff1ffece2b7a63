//! SIGKILL of the real daemon under load, with the ledger of acknowledgements outside it. // row 20, row 21

use crate::harness::{TestStore, total};
use proto::client::{Client, Timeouts};
use proto::{Command, Reply, Request};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const CLIENTS: usize = 8;

/// What clients were told, by mailbox name: id and UIDVALIDITY; and what they asked for and were not told.
#[derive(Default)]
struct Ledger {
    there: BTreeMap<String, (u64, u32)>,
    gone: BTreeSet<String>,
    open: BTreeSet<String>,
}

/// One client: creates mailboxes, deletes every third, renames every fifth, until the daemon is gone.
fn client(socket: &Path, round: usize, me: usize, ledger: &Mutex<Ledger>, stop: &AtomicBool) {
    let Ok(mut client) = Client::connect(socket, "kill test", Timeouts::default()) else { return };
    let mut change = |command: Command| client.call(&Request::Change { command, dry_run: false });
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("user/u{me}/r{round}/{n}");
        let renamed = format!("user/u{me}/r{round}/renamed-{n}");
        ledger.lock().unwrap().open.extend([name.clone(), renamed.clone()]);
        let Ok(Reply::Changed(done)) = change(Command::MailboxCreate { name: name.clone(), partition: None }) else {
            return;
        };
        let was = (done.id.unwrap(), done.uidvalidity.unwrap());
        ledger.lock().unwrap().there.insert(name.clone(), was);
        if n % 5 == 4 {
            // Undecided until answered: neither name is owed meanwhile.
            ledger.lock().unwrap().there.remove(&name);
            if change(Command::MailboxRename { from: name.clone(), to: renamed.clone() }).is_err() {
                return;
            }
            let mut ledger = ledger.lock().unwrap();
            ledger.gone.insert(name.clone());
            ledger.there.insert(renamed.clone(), was);
        } else if n % 3 == 2 {
            ledger.lock().unwrap().there.remove(&name);
            if change(Command::MailboxDelete { name: name.clone() }).is_err() {
                return;
            }
            ledger.lock().unwrap().gone.insert(name.clone());
        }
        let mut ledger = ledger.lock().unwrap();
        ledger.open.remove(&name);
        ledger.open.remove(&renamed);
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_daemon_is_killed() {
    let rounds: usize = std::env::var("STOREDD_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    let store = TestStore::new();
    let config = store.beside("storedd.toml");
    // Small segments and checkpoints all the time, so that kills fall into rolls and checkpoints too.
    let text = "[log]\nsegment_size = \"1MiB\"\n[checkpoint]\noverlay_bytes = \"1MiB\"\nlog_bytes = \"1MiB\"\n";
    std::fs::write(&config, text).unwrap();
    let args = ["--config", config.to_str().unwrap()];
    let daemon = store.start_with(&args);
    for me in 0..CLIENTS {
        store.ctl(&["user", "add", &format!("u{me}")]).expect(0);
    }
    let mut daemon = Some(daemon);
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut kept = 0;
    for round in 0..rounds {
        let running = daemon.take().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|me| {
                let (socket, ledger, stop) = (running.socket.clone(), ledger.clone(), stop.clone());
                std::thread::spawn(move || client(&socket, round, me, &ledger, &stop))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(60 + 37 * (round as u64 % 9)));
        running.kill();
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|c| c.join().unwrap());
        daemon = Some(store.start_with(&args));
        kept = check(&store, &mut ledger.lock().unwrap(), round);
    }
    assert_eq!(daemon.unwrap().stop(), 0);
    store.storedd(&["test", "--config", config.to_str().unwrap()]).expect(0);
    total(&format!("kills of commands: {rounds}, {kept} mailboxes owed and there, 0 lost, 0 half-visible"));
}

/// Everything owed is there as it was told; everything else that is there was at least asked for.
fn check(store: &TestStore, ledger: &mut Ledger, round: usize) -> usize {
    let listed = store.json(&["mailbox", "list"]);
    let there: BTreeMap<String, (u64, u32)> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|m| {
            let identity = (m["id"].as_u64().unwrap(), m["uidvalidity"].as_u64().unwrap() as u32);
            (m["name"].as_str().unwrap().to_owned(), identity)
        })
        .collect();
    for (name, identity) in &ledger.there {
        assert_eq!(there.get(name), Some(identity), "round {round}: acknowledged {name} is not there as it was told");
    }
    for name in there.keys().filter(|n| !n.ends_with("/INBOX")) {
        let asked = ledger.there.contains_key(name) || ledger.open.contains(name);
        assert!(asked, "round {round}: {name} is there and was deleted, renamed away or never asked for");
    }
    // What was undecided has now been decided, and must stay so.
    for (name, identity) in &there {
        if ledger.open.contains(name) {
            ledger.there.insert(name.clone(), *identity);
        }
    }
    ledger.open.clear();
    let report = store.json(&["recover", "--report"]);
    assert_eq!(report["lost"], serde_json::Value::Null, "{report}");
    ledger.there.len()
}
