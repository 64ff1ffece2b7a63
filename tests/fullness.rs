//! Disks that run full, and are worked off: what is refused, what goes on, what is kept, and how much time is told to be left.

use crate::alarms::{configured, grow};
use crate::harness::alarms::{cleared, raised};
use crate::harness::disks::SmallDisk;
use crate::harness::lmtp::Lmtp;
use crate::harness::{Daemon, TestStore, total, until};
use crate::numbers::{metrics, value};
use std::io::Write;
use std::time::{Duration, Instant};

/// A file that takes room, so that about `left` bytes are free.
fn ballast(store: &TestStore, left: u64) {
    let path = store.data.join("ballast");
    drop(std::fs::remove_file(&path));
    let fs = rustix::fs::statvfs(&store.data).unwrap();
    let mut file = std::fs::File::create(&path).unwrap();
    let mut size = (fs.f_bavail * fs.f_frsize).saturating_sub(left);
    while size > 0 {
        let step = size.min(64 << 10);
        if file.write_all(&vec![1; step as usize]).is_err() {
            return;
        }
        size -= step;
    }
}

fn unload(store: &TestStore) {
    std::fs::remove_file(store.data.join("ballast")).unwrap();
}

/// What creating a mailbox gives; its name is added to `kept` if it is there.
fn create(store: &TestStore, kept: &mut Vec<String>) -> i32 {
    let name = format!("user/joe/{}", kept.len());
    let status = store.ctl(&["mailbox", "create", &name]).status;
    if status == 0 {
        kept.push(name);
    }
    status
}

fn small_store() -> Option<(TestStore, SmallDisk, Vec<String>)> {
    let store = TestStore::new();
    let Some(disk) = SmallDisk::mount(store.data.clone(), 64 << 20) else {
        eprintln!("skipped: mounting a small file system needs root");
        return None;
    };
    let config = configured(&store, "[log]\nsegment_size = \"1MiB\"\nspares = 0\n");
    Some((store, disk, vec!["--config".to_owned(), config]))
}

fn start(store: &TestStore, args: &[String]) -> Daemon {
    store.start_with(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

// row B7: first bulk work is refused, then changes, never reads, and what deletes goes on; it resumes by itself.
#[test]
fn a_disk_that_fills_refuses_step_by_step() {
    let Some((store, _disk, args)) = small_store() else { return };
    let daemon = start(&store, &args);
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["mailbox", "create", "user/joe/old"]).expect(0);
    let line: &[u8] = b"mailbox create user/joe/bulk\n";

    // A tenth of 64 MiB is kept from bulk work, a 20th from everybody.
    ballast(&store, 5 << 20);
    let refused = until("bulk work is refused", || {
        let run = store.ctl_with(&["--json", "batch", "-"], Some(line));
        drop(store.ctl(&["mailbox", "delete", "user/joe/bulk", "--yes"]));
        (run.status != 0).then_some(run)
    });
    assert!(refused.out.contains("no room for bulk work"), "{refused:?}");
    assert_eq!(refused.json()["error"]["code"], "busy");
    store.ctl(&["mailbox", "create", "user/joe/small"]).expect(0);
    assert_eq!(raised(&store, "disk_space")["severity"], "critical");

    ballast(&store, 2 << 20);
    let mut kept = Vec::new();
    let refused = until("changes are refused", || {
        let run = store.ctl(&["mailbox", "create", &format!("user/joe/{}", kept.len())]);
        kept.push(());
        (run.status != 0).then_some(run)
    });
    assert_eq!(refused.status, 75);
    assert!(
        refused.err.contains("no room for changes") && refused.err.contains("next: free space there"),
        "{refused:?}"
    );
    let found = raised(&store, "disk_space");
    assert!(found["cause"].as_str().unwrap().starts_with("changes are refused"), "{found}");
    let mut lmtp = Lmtp::unix(&store.data.join("lmtp.sock"));
    assert_eq!(lmtp.deliver(&["joe"], b"x\r\n"), ["451 4.3.1 the store is full"], "B14: the sender keeps it");
    store.ctl(&["mailbox", "delete", "user/joe/old", "--yes"]).expect(0);
    store.ctl(&["checkpoint"]).expect(0);
    assert!(store.json(&["mailbox", "list"]).as_array().unwrap().len() > 1, "reads go on");
    let sick = store.ctl(&["health"]).expect(69);
    assert!(sick.err.contains("no room for changes"), "{sick:?}");

    unload(&store);
    store.ctl(&["health", "--wait", "60s"]).expect(0);
    until("it goes on", || (store.ctl_with(&["batch", "-"], Some(line)).status == 0).then_some(()));
    cleared(&store, "disk_space");
    assert_eq!(lmtp.deliver(&["joe"], b"x\r\n"), ["250 2.0.0 stored"]);
    assert!(daemon.log().contains("event=room refused=bulk_work"), "{}", daemon.log());
    assert!(daemon.log().contains("event=room refused=changes"));
}

// rows B7, 162: a disk that runs full again and again costs nothing that was acknowledged. STOREDD_FULL_ROUNDS: how often.
#[test]
fn a_disk_that_is_full_again_and_again() {
    let Some((store, _disk, args)) = small_store() else { return };
    let rounds: u32 = std::env::var("STOREDD_FULL_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    let daemon = start(&store, &args);
    store.ctl(&["user", "add", "joe"]).expect(0);
    let mut kept = Vec::new();
    for round in 0..rounds {
        ballast(&store, 0);
        let refused = until("it is refused", || Some(create(&store, &mut kept)).filter(|status| *status != 0));
        assert_eq!(refused, 75, "round {round}");
        assert_eq!(store.json(&["status"])["state"], "ready");
        unload(&store);
        until("it goes on by itself", || (create(&store, &mut kept) == 0).then_some(()));
    }
    store.ctl(&["log", "verify"]).expect(0);
    daemon.kill();
    let daemon = start(&store, &args);
    let list = store.json(&["mailbox", "list"]).to_string();
    assert!(kept.iter().all(|name| list.contains(&format!("\"{name}\""))), "nothing acknowledged is lost");
    assert_eq!(daemon.stop(), 0);
    store.storedd(&["test"]).expect(0);
    total(&format!("full disk under commands: {rounds} rounds, {} mailboxes kept, 0 lost", kept.len()));
}

// row B7: a database that cannot be written raises alarms with the cause, and clears them when it can.
#[test]
fn a_checkpoint_that_fails_is_an_alarm_with_its_cause() {
    let store = TestStore::new();
    let place = store.beside("db");
    let Some(_disk) = SmallDisk::mount(place.clone(), 16 << 20) else {
        return eprintln!("skipped: mounting a small file system needs root");
    };
    let text = format!("[store]\ndb_dir = {place:?}\n[checkpoint]\ninterval = \"1h\"\n");
    let config = configured(&store, &text);
    let _daemon = store.start_with(&["--config", &config]);
    store.ctl(&["user", "add", "joe"]).expect(0);
    grow(&store, 0, 9000);
    let mut file = std::fs::File::create(place.join("ballast")).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    assert_ne!(store.ctl(&["checkpoint"]).status, 0);
    let found = raised(&store, "checkpoint_failed");
    assert!(found["cause"].as_str().unwrap().contains("no space"), "{found}");
    assert_eq!(raised(&store, "disk_space")["subject"], "database");
    drop(file);
    std::fs::remove_file(place.join("ballast")).unwrap();
    cleared(&store, "checkpoint_failed");
    cleared(&store, "disk_space");
    store.ctl(&["mailbox", "create", "user/joe/again"]).expect(0);
}

// row B7: the time that is left is known within a fifth while a small file system fills steadily.
#[test]
fn the_time_until_a_disk_is_full_is_told() {
    let Some((store, _disk, args)) = small_store() else { return };
    let _daemon = start(&store, &args);
    let mut file = std::fs::File::create(store.data.join("ballast")).unwrap();
    let (begun, mut written, mut seen) = (Instant::now(), 0u64, Vec::new());
    let rate = 1 << 20;
    let good = until("the time left is told within a fifth", || {
        // As much as is due by now: steady, however late this thread runs.
        let due = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
        while written < due {
            file.write_all(&[1; 4096]).unwrap();
            written += 4096;
        }
        if begun.elapsed() < Duration::from_secs(16) {
            return None;
        }
        let samples = metrics(&store);
        let left = value(&samples, "storedd_disk_free_bytes{place=\"data\"}") / rate as f64;
        let told = samples.iter().find(|(n, _)| n == "storedd_disk_time_to_full_seconds{place=\"data\"}")?.1;
        seen.push((told, left));
        assert!(begun.elapsed() < Duration::from_secs(45), "told and true: {seen:?}");
        ((told / left - 1.0).abs() < 0.2).then_some((told, left))
    });
    eprintln!("time to full: told {:.1} s, true {:.1} s", good.0, good.1);
}
