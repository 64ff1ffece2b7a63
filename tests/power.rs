//! Power cuts of a real file system under load: what it had in memory is gone, its journal is replayed at the next mount, and what was
//! acknowledged is there. The ledger lies elsewhere. // row 18, row 20, row 21
//!
//! `STOREDD_CUTS`: how often. A control without syncs shows that the rig sees a loss.

use crate::harness::disks::Disk;
use crate::harness::tracer::{Script, Traced};
use crate::harness::{PATIENCE, TestStore, total, until};
use crate::ledger::{Load, begin, check};
use crate::mail_kills::OFTEN;
use nix::sys::signal::Signal;
use proto::client::{Client, Timeouts};
use proto::{Command as Change, Request};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A store on a file system of its own.
fn store_on(kind: &str) -> Option<(TestStore, Disk, String)> {
    let mut store = TestStore::new();
    let disk = Disk::of(kind, &store, store.beside("disk"))?;
    store.data = disk.at.join("store");
    let config = disk.at.with_file_name("often.toml");
    std::fs::write(&config, OFTEN).unwrap();
    Some((store, disk, config.to_str().unwrap().to_owned()))
}

fn cuts(kind: &str) {
    let cuts: usize = std::env::var("STOREDD_CUTS").ok().and_then(|n| n.parse().ok()).unwrap_or(15);
    let Some((store, disk, config)) = store_on(kind) else { return };
    let args = ["--config", config.as_str()];
    let mut daemon = store.start_with(&args);
    let (mut done, mut open, mut files) = (0, 0, 0);
    for round in 0..cuts {
        let when = format!("{kind}, cut {round}");
        let load = Load::start(&store, &daemon, begin(&store, round), round);
        std::thread::sleep(Duration::from_millis(40 + 37 * (round as u64 % 11)));
        disk.loses_power();
        daemon.kill();
        let mut ledgers = load.ended();
        done += ledgers.iter().map(|ledger| ledger.done).sum::<usize>();
        open += ledgers.iter().filter(|ledger| ledger.open.is_some()).count();
        disk.mended();
        daemon = store.start_with(&args);
        files += check(&store, &daemon.socket, &mut ledgers, &when);
        let report = store.json(&["recover", "--report"]);
        assert_eq!(report["lost"], Value::Null, "{when}: {report}");
    }
    assert_eq!(daemon.stop(), 0);
    store.storedd(&["test", "--config", &config]).expect(0);
    assert!(files > 0 && done > files / 2, "{done} {files}");
    total(&format!(
        "power cuts of {kind}: {cuts}, {done} acknowledged, {open} undecided, {files} messages there, 0 lost, 0 twice"
    ));
}

#[test]
fn nothing_is_lost_when_the_power_goes_on_ext4() {
    cuts("ext4");
}

#[test]
#[ignore = "needs mkfs.xfs: .ci/proof runs it; by hand: cargo test --test store power -- --include-ignored"]
fn nothing_is_lost_when_the_power_goes_on_xfs() {
    cuts("xfs");
}

/// Creates mailboxes until the daemon answers no more; how many it acknowledged.
fn creates(socket: &Path, most: usize) -> usize {
    let mut client = Client::connect(socket, "power", Timeouts::default()).unwrap();
    let mut create = |n| {
        let command = Change::MailboxCreate { name: format!("user/joe/{n}"), partition: None };
        client.call(&Request::Change { command, dry_run: false })
    };
    (0..most).take_while(|n| create(*n).is_ok()).count()
}

/// True if everything acknowledged is there after a cut.
fn survives(script: Script) -> Option<bool> {
    let (store, disk, config) = store_on("ext4")?;
    let args = ["--config", config.as_str()];
    let daemon = store.start_with(&args);
    store.ctl(&["user", "add", "joe"]).expect(0);
    assert_eq!(daemon.stop(), 0);
    rustix::fs::sync();
    let mut command = Command::new(env!("CARGO_BIN_EXE_storedd"));
    command.args(args).arg("--data-dir").arg(&store.data).env_remove("NOTIFY_SOCKET");
    let log = std::fs::File::create(store.beside("traced.log")).unwrap();
    let daemon = Traced::start(&command, &store.data, script, log)?;
    let socket = store.data.join("control.sock");
    until("it is not ready", || {
        let client = Client::connect(&socket, "power", Timeouts::default()).ok()?;
        (client.hello().state == "ready").then_some(())
    });
    let created = creates(&socket, 200);
    assert_eq!(created, 200);
    disk.loses_power();
    daemon.signal(Signal::SIGKILL);
    let seen = daemon.ended();
    assert_eq!(seen.hit.is_some(), matches!(script, Script::NoSyncs));
    disk.mended();
    let mut daemon = store.spawn(&args);
    let begun = std::time::Instant::now();
    while daemon.child.try_wait().unwrap().is_none() && begun.elapsed() < PATIENCE {
        if Client::connect(&socket, "power", Timeouts::default()).is_ok_and(|c| c.hello().state == "ready") {
            let there = store.json(&["mailbox", "list", "user/joe/*"]).as_array().unwrap().len();
            return Some(there == created + 1);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Some(false)
}

// The rig is believed because it sees what a disk that lies about syncs loses, and nothing else.
#[test]
fn a_disk_that_lies_about_syncs_is_seen_to_lose() {
    let (Some(honest), Some(lying)) = (survives(Script::Count), survives(Script::NoSyncs)) else { return };
    assert!(honest, "an honest disk lost something");
    assert!(!lying, "nothing was lost without syncs");
}
