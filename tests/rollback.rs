//! A start whose database is bad or gone, through the built programs: it takes a snapshot and the log behind it, and says so.

use crate::harness::{Daemon, PATIENCE, TestStore, typed, until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;

fn database(store: &TestStore) -> PathBuf {
    store.data.join("mboxlist/mboxlist.redb")
}

fn take(store: &TestStore) -> Value {
    store.json(&["snapshot", "take", "--verify"])
}

fn id(snapshot: &Value) -> &str {
    snapshot["id"].as_str().unwrap()
}

fn report(store: &TestStore) -> Value {
    store.json(&["recover", "--report"])
}

/// Names of all mailboxes with what must never change: id and UIDVALIDITY.
pub fn mailboxes(store: &TestStore) -> BTreeSet<(String, u64, u64)> {
    let list = store.json(&["mailbox", "list"]);
    let of = |m: &Value| {
        (m["name"].as_str().unwrap().to_owned(), m["id"].as_u64().unwrap(), m["uidvalidity"].as_u64().unwrap())
    };
    list.as_array().unwrap().iter().map(of).collect()
}

fn add(store: &TestStore, users: std::ops::Range<u32>) {
    let lines: String = users.map(|n| format!("user add u{n}\nmailbox create user/u{n}/Sent\n")).collect();
    store.ctl_with(&["batch", "-"], Some(lines.as_bytes())).expect(0);
}

/// A store with changes before a snapshot, behind it, and behind a second one.
fn with_two() -> (TestStore, Daemon, [Value; 2]) {
    let store = TestStore::new();
    let daemon = store.start();
    add(&store, 0..5);
    let first = take(&store);
    add(&store, 5..10);
    let second = take(&store);
    add(&store, 10..15);
    (store, daemon, [first, second])
}

/// Flips a bit of every page: many are unused.
fn flip(file: &std::path::Path) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes.iter_mut().skip(100).step_by(4096).for_each(|byte| *byte ^= 1);
    std::fs::write(file, bytes).unwrap();
}

// rows 43, 47, 49, B2: whatever happens to the database, the newest snapshot and the log behind it are the database again
#[test]
fn a_bad_database_is_replaced_and_nothing_is_lost() {
    let (store, mut daemon, [_, second]) = with_two();
    let mut expected = mailboxes(&store);
    type Damage = fn(&std::path::Path);
    let ways: [(&str, Damage); 5] = [
        ("flip", flip),
        ("cut", |file| std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(5000).unwrap()),
        ("empty", |file| std::fs::write(file, b"").unwrap()),
        ("zero", |file| std::fs::write(file, vec![0; std::fs::read(file).unwrap().len()]).unwrap()),
        ("missing", |file| std::fs::remove_file(file).unwrap()),
    ];
    for (nth, (way, damage)) in ways.into_iter().enumerate() {
        daemon.kill();
        damage(&database(&store));
        daemon = store.start();
        let report = report(&store);
        assert_eq!(report["decision"], "rollback", "{way}: {report}");
        assert_eq!(report["base"], id(&second), "{way}: {report}");
        assert_eq!((&report["base_lsn"], &report["lost"]), (&second["lsn"], &Value::Null), "{way}: {report}");
        assert!(mailboxes(&store) == expected, "{way}");
        // The bad one is kept for analysis; one that was gone is not there.
        let aside = std::fs::read_dir(store.data.join("mboxlist/removed")).unwrap().count();
        assert_eq!(aside, nth + usize::from(way != "missing"), "{way}");
        add(&store, 100 + nth as u32..101 + nth as u32);
        expected = mailboxes(&store);
    }
    assert_eq!(daemon.stop(), 0);
    store.storedd(&["test"]).expect(0);
    let _daemon = store.start();
    assert_eq!(report(&store)["decision"], "clean");
    assert!(mailboxes(&store) == expected);
}

// row 44: what is damaged, unverified, incomplete or of another version is passed over, and named
#[test]
fn what_is_not_good_is_passed_over_and_named() {
    for way in ["flip", "unverified", "incomplete", "version"] {
        let (store, daemon, [first, second]) = with_two();
        let expected = mailboxes(&store);
        daemon.kill();
        let dir = PathBuf::from(second["path"].as_str().unwrap());
        match way {
            "flip" => flip(&dir.join("mboxlist.redb")),
            "unverified" => std::fs::remove_file(dir.join(".verified")).unwrap(),
            "incomplete" => std::fs::remove_file(dir.join("MANIFEST")).unwrap(),
            _ => crate::versions::text_of_later(&dir.join("MANIFEST")),
        }
        flip(&database(&store));
        let daemon = store.start();
        let report = report(&store);
        assert_eq!((&report["decision"], &report["base"]), (&"rollback".into(), &first["id"]), "{way}: {report}");
        assert_eq!(report["lost"], Value::Null, "{way}: {report}");
        assert!(mailboxes(&store) == expected, "{way}");
        let passed = if way == "version" { "snapshot passed over, of another version" } else { "snapshot passed over" };
        let about = |f: &&Value| f["what"] == passed && f["where"].as_str().unwrap().contains(id(&second));
        assert_eq!(report["findings"].as_array().unwrap().iter().filter(about).count(), 1, "{way}: {report}");
        assert!(daemon.log().contains("snapshot passed over"), "{way}");
    }
}

// An old copy of the database is good in itself; behind it the log is gone. A start took it, and gave up everything since.
#[test]
fn an_old_copy_of_the_database_does_not_win_against_a_snapshot() {
    let store = TestStore::new();
    let daemon = store.start();
    add(&store, 0..5);
    assert_eq!(daemon.stop(), 0);
    let old = std::fs::read(database(&store)).unwrap();
    let daemon = store.start();
    // Until the log behind the old copy is retired.
    let mut round = 0;
    while store.data.join("mboxlist/log.0000000001").exists() {
        let lines: String = (0..2000).map(|n| format!("mailbox create user/u0/{round}-{n}\n")).collect();
        store.ctl_with(&["batch", "-"], Some(lines.as_bytes())).expect(0);
        store.ctl(&["checkpoint"]).expect(0);
        round += 1;
        assert!(round < 50);
    }
    let taken = take(&store);
    add(&store, 10..15);
    let expected = mailboxes(&store);
    daemon.kill();
    std::fs::write(database(&store), old).unwrap();
    let _daemon = store.start();
    let report = report(&store);
    assert_eq!((&report["decision"], &report["base"]), (&"rollback".into(), &taken["id"]), "{report}");
    assert_eq!(report["lost"], Value::Null, "{report}");
    assert!(mailboxes(&store) == expected);
}

fn repair_recommended(store: &TestStore) -> bool {
    store.json(&["status"])["repair_recommended"].as_bool().unwrap()
}

// row 45: a start that lost something says so, names the next command, and `status` goes on saying so until somebody has acted
#[test]
fn a_loss_recommends_a_repair_until_somebody_has_acted() {
    let (store, daemon, [_, second]) = with_two();
    // A record of another group proves that those before it were durable.
    store.ctl(&["user", "add", "last"]).expect(0);
    daemon.kill();
    flip(&database(&store));
    let log = store.data.join("mboxlist/log.0000000001");
    let mut bytes = std::fs::read(&log).unwrap();
    let end = bytes.iter().rposition(|b| *b != 0).unwrap();
    bytes[end - 700] ^= 1;
    std::fs::write(&log, &bytes).unwrap();
    let mut daemon = store.start();
    let report = report(&store);
    assert_eq!((&report["decision"], &report["base"]), (&"lossy".into(), &second["id"]), "{report}");
    let (from, base) = (report["lost"]["from_lsn"].as_u64().unwrap(), report["base_lsn"].as_u64().unwrap());
    assert!(from > base && report["reached_lsn"].as_u64().unwrap() + 1 == from, "{report}");
    let steps: Vec<&str> = report["next_steps"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
    assert!(steps.len() == 3 && steps[1].contains("reconstruct -m"), "{steps:?}");
    assert!(steps[2].contains("recover --accept-loss --yes"), "{steps:?}");
    assert!(steps.iter().all(|step| daemon.log().contains(step)), "{}", daemon.log());
    // Everything in front of the bad place is there; names of what was made before the snapshot keep their numbers.
    store.ctl(&["user", "show", "u9"]).expect(0);
    for clean in [true, false] {
        assert!(repair_recommended(&store));
        let begun = std::time::Instant::now();
        while !store.json(&["status"])["alarms"].to_string().contains("repair_recommended") {
            assert!(begun.elapsed() < PATIENCE);
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        if clean {
            assert_eq!(daemon.stop(), 0);
        } else {
            daemon.kill();
        }
        daemon = store.start();
    }
    store.ctl(&["recover", "--accept-loss"]).expect(64);
    assert!(repair_recommended(&store));
    // Exactly what was told to be typed; the loss is known, and that is no success.
    typed(steps[2]).expect(2);
    assert!(!repair_recommended(&store));
    store.ctl(&["recover", "--accept-loss", "--yes"]).expect(68);
    daemon.kill();
    let _daemon = store.start();
    assert!(!repair_recommended(&store));
}

// row 45: what lost nothing recommends no repair, and names what to look at
#[test]
fn a_rollback_that_lost_nothing_recommends_no_repair() {
    let (store, daemon, _) = with_two();
    assert_eq!(daemon.stop(), 0);
    flip(&database(&store));
    let daemon = store.start();
    assert!(!repair_recommended(&store));
    let report = report(&store);
    assert_eq!(report["next_steps"].as_array().unwrap().len(), 1, "{report}");
    let step = report["next_steps"][0].as_str().unwrap();
    assert!(step.ends_with("snapshot verify --all") && daemon.log().contains(step), "{step}");
    typed(step).expect(0);
}

// rows 95, 49, 40: one command puts a snapshot in place; what was there is kept; nothing is lost, and a living daemon keeps it out
#[test]
fn a_snapshot_is_installed_by_one_command() {
    let (store, daemon, [first, second]) = with_two();
    let expected = mailboxes(&store);
    let busy = store.ctl(&["snapshot", "install", id(&first), "--yes"]).expect(75);
    assert!(busy.err.contains(&daemon.child.id().to_string()), "{busy:?}");
    assert_eq!(daemon.stop(), 0);
    let before = store.tree();
    store.ctl(&["snapshot", "install", id(&first)]).expect(64);
    store.ctl(&["snapshot", "install", "20200101T000000.000Z-1", "--yes"]).expect(68);
    let plan = store.storedd(&["snapshot", "install", id(&first), "--dry-run", "--json"]).expect(0).json();
    assert_eq!((&plan["decision"], &plan["base"]), (&"rollback".into(), &first["id"]), "{plan}");
    assert_eq!((&plan["base_lsn"], &plan["lost"]), (&first["lsn"], &Value::Null), "{plan}");
    assert!(store.tree() == before, "a dry run, and what is refused, change nothing");
    let done = store.ctl(&["snapshot", "install", id(&first), "--yes"]).expect(0);
    assert!(done.out.contains(id(&first)) && done.out.contains("removed/"), "{done:?}");
    let daemon = store.start();
    assert!(mailboxes(&store) == expected);
    assert_eq!(daemon.stop(), 0);
    // By its time, and over a database that nothing else would replace.
    flip(&database(&store));
    store.storedd(&["recover"]).expect(2);
    let at = second["time"].as_str().unwrap();
    let done = store.ctl(&["--json", "snapshot", "install", "--before", at, "--yes"]).expect(0).json();
    assert_eq!((&done["base"], &done["lost"]), (&second["id"], &Value::Null), "{done}");
    let daemon = store.start();
    assert!(mailboxes(&store) == expected);
    assert_eq!(daemon.stop(), 0);
    // One that is no good is refused, and named.
    flip(&PathBuf::from(first["path"].as_str().unwrap()).join("mboxlist.redb"));
    let refused = store.ctl(&["snapshot", "install", id(&first), "--yes"]).expect(2);
    assert!(refused.err.contains(id(&first)) && refused.err.contains("checksum"), "{refused:?}");
}

// rows 52, 95; I6: the log behind is left where a person says so; what was there once is not there again, and no number is given twice
#[test]
fn a_snapshot_is_installed_without_the_log_behind_it() {
    let (store, daemon, [first, _]) = with_two();
    let all = mailboxes(&store);
    assert_eq!(daemon.stop(), 0);
    let plan = store.storedd(&["snapshot", "install", id(&first), "--leave-log", "--dry-run"]).expect(0);
    assert!(plan.out.contains("would set aside LSN"), "{plan:?}");
    store.ctl(&["snapshot", "install", id(&first), "--leave-log", "--yes"]).expect(0);
    let daemon = store.start();
    let left = mailboxes(&store);
    assert!(left.is_subset(&all) && left.iter().any(|m| m.0.contains("user/u4/")), "{left:?}");
    assert!(!left.iter().any(|m| m.0.contains("user/u5/")), "{left:?}");
    add(&store, 5..10);
    let given = all.difference(&left).map(|m| m.2).collect::<BTreeSet<_>>();
    let again = mailboxes(&store);
    assert!(again.difference(&left).all(|m| !given.contains(&m.2)), "{again:?}");
    assert_eq!(daemon.stop(), 0);
    store.storedd(&["test"]).expect(0);
}

// row 52: the files of a snapshot directory, copied by hand in place of the database directory, give a store that starts
#[test]
fn the_files_of_a_snapshot_are_put_in_place_by_hand() {
    let (store, daemon, [_, second]) = with_two();
    let expected = mailboxes(&store);
    assert_eq!(daemon.stop(), 0);
    let from = PathBuf::from(second["path"].as_str().unwrap());
    let copy = || {
        for entry in std::fs::read_dir(&from).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), store.data.join("mboxlist").join(entry.file_name())).unwrap();
        }
    };
    copy();
    let daemon = store.start();
    assert_eq!(report(&store)["decision"], "replay");
    assert!(mailboxes(&store) == expected, "with the log beside it nothing is lost");
    assert_eq!(daemon.stop(), 0);
    // The whole directory, log and all, gives way.
    std::fs::rename(store.data.join("mboxlist"), store.beside("mboxlist.old")).unwrap();
    std::fs::create_dir(store.data.join("mboxlist")).unwrap();
    copy();
    let _daemon = store.start();
    store.ctl(&["user", "show", "u9"]).expect(0);
    // row 46: who came after the snapshot is known to the partition, and comes back from there.
    until("u10 is adopted", || (store.ctl(&["user", "show", "u10"]).status == 0).then_some(()));
    let report = report(&store);
    assert!(report["lost"].is_object() && repair_recommended(&store), "{report}");
    store.ctl(&["user", "add", "new"]).expect(0);
}

// rows 19, 43: the program itself is killed while it goes back, again and again; the next one goes on, and nothing is lost
#[test]
fn a_rollback_that_is_killed_is_done_by_the_next_start() {
    let (store, daemon, _) = with_two();
    let expected = mailboxes(&store);
    daemon.kill();
    let (mut ready, mut killed) = (0, 0);
    // Killed a little later each time, until some were killed before they were ready and some behind it.
    for delay in 0..60 {
        if ready >= 3 && killed >= 10 {
            break;
        }
        let file = database(&store);
        if file.exists() {
            flip(&file);
        }
        let mut daemon = store.spawn(&[]);
        std::thread::sleep(std::time::Duration::from_millis(delay * 2));
        assert_eq!(daemon.child.try_wait().unwrap(), None, "{}", daemon.log());
        let came_up = proto::Client::connect(&daemon.socket, "test", proto::client::Timeouts::default())
            .is_ok_and(|client| client.hello().state == "ready");
        *(if came_up { &mut ready } else { &mut killed }) += 1;
        daemon.kill();
    }
    assert!(killed >= 3, "{killed} killed in time, {ready} too late");
    let _daemon = store.start();
    assert!(mailboxes(&store) == expected);
    let reports = store.json(&["recover", "--report", "--last", "100"]);
    assert!(reports.as_array().unwrap().iter().all(|report| report["lost"].is_null()), "{reports}");
}

// row 28, row 95: without the control file nobody knows what came last, so putting a snapshot in place is no plain success
#[test]
fn an_install_that_may_have_lost_something_is_no_success() {
    let (store, daemon, [_, second]) = with_two();
    daemon.kill();
    let install = ["snapshot", "install", second["id"].as_str().unwrap(), "--yes"];
    store.storedd(&[&install[..], &["--dry-run"]].concat()).expect(0);
    std::fs::remove_file(store.data.join("CONTROL")).unwrap();
    store.storedd(&[&install[..], &["--dry-run"]].concat()).expect(2);
    store.storedd(&install).expect(2);
}
