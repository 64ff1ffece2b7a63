//! Going back by hand, through the built programs: a new log for a good database, and the store as it was at a point in time. What
//! came later is kept aside.

use crate::harness::TestStore;
use crate::manual::*;
use std::collections::BTreeSet;
use std::time::Duration;

// rows 39, 40, 34, 29: a new log for a good database; everything that was is kept aside, and a link's target is not touched
#[test]
fn log_reset_goes_on_without_the_old_log() {
    let (store, all) = killed_with_four_logs();
    let daemon = start(&store);
    store.storedd(&["log", "reset", "--yes"]).expect(75);
    store.ctl(&["log", "reset", "--yes"]).expect(75);
    let first_lsn = store.json(&["status"])["applied_lsn"].as_u64().unwrap();
    assert_eq!(daemon.stop(), 0);
    let kept = (1..10).map(|n| log(&store, n)).find(|file| file.exists()).unwrap();
    let target = store.beside("elsewhere");
    std::fs::rename(&kept, &target).unwrap();
    std::os::unix::fs::symlink(&target, &kept).unwrap();
    let linked = std::fs::read(&target).unwrap();
    let before = store.tree();
    assert!(store.storedd(&["log", "reset"]).expect(64).err.contains("--yes"));
    let dry = store.storedd(&["log", "reset", "--dry-run"]).expect(0);
    assert!(dry.out.contains("would be lost: nothing") && dry.out.contains("log.0"), "{dry:?}");
    assert_eq!(store.tree(), before);
    let done = store.ctl(&["--json", "log", "reset", "--yes"]).expect(0).json();
    assert!(done["first_lsn"].as_u64().unwrap() > first_lsn, "{done}");
    assert!(std::fs::read(&target).unwrap() == linked, "the target of a link was touched");
    let aside = std::fs::read_dir(store.data.join("mboxlist/quarantine")).unwrap().count();
    assert!(aside >= 1 && done["quarantined"].as_array().unwrap().len() == aside, "{done}");
    let _daemon = start(&store);
    assert_eq!(store.json(&["recover", "--report"])["decision"], "clean");
    assert_eq!(mailboxes(&store), all);
    create(&store, ["new".to_owned()]);
    let new = mailboxes(&store);
    let numbers: BTreeSet<u64> = new.iter().map(|(_, _, uidvalidity)| *uidvalidity).collect();
    assert_eq!(numbers.len(), new.len(), "a UIDVALIDITY was given twice");
    assert_eq!(store.json(&["log", "list", "--all"]).as_array().unwrap().len(), 1);
}

// rows 39, 28: all logs gone is an error, log reset the explicit way out; what may be lost is said, and is no success
#[test]
fn all_logs_gone_is_an_error_and_log_reset_the_way_out() {
    for clean in [true, false] {
        let store = TestStore::new();
        let daemon = start(&store);
        store.ctl(&["user", "add", "joe"]).expect(0);
        store.ctl(&["checkpoint"]).expect(0);
        if clean {
            assert_eq!(daemon.stop(), 0);
        } else {
            create(&store, ["lost".to_owned()]);
            daemon.kill();
        }
        std::fs::remove_file(log(&store, 1)).unwrap();
        for verb in [&["recover", "--json"][..], &["recover", "-c", "--json"]] {
            let refused = store.storedd(verb).expect(2);
            names_exactly(&refused, &[&log(&store, 1)]);
            assert!(refused.err.contains("log reset"), "{refused:?}");
        }
        let status = if clean { 0 } else { 2 };
        store.storedd(&["log", "reset", "--dry-run"]).expect(status);
        let done = store.storedd(&["log", "reset", "--yes", "--json"]).expect(status).json();
        assert_eq!(done["lost"].is_null(), clean, "{done}");
        let _daemon = start(&store);
        store.ctl(&["user", "show", "joe"]).expect(0);
        store.ctl(&["user", "add", "eve"]).expect(0);
    }
}

// row 39: a database that is no good is not given a new log
#[test]
fn log_reset_refuses_a_bad_database() {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    assert_eq!(daemon.stop(), 0);
    std::fs::write(database(&store), vec![7; 100_000]).unwrap();
    let before = store.tree();
    let refused = store.storedd(&["log", "reset", "--yes"]).expect(2);
    assert!(refused.err.contains("mboxlist.redb") && refused.err.contains("--catastrophic"), "{refused:?}");
    assert_eq!(store.tree(), before);
}

/// LSN behind each of three stretches of work, and what there was.
type Mark = (u64, String, BTreeSet<(String, u64, u64)>);

fn mark(store: &TestStore) -> Mark {
    let lsn = store.json(&["status"])["applied_lsn"].as_u64().unwrap();
    let now = store.json(&["log", "dump"]).as_array().unwrap().last().unwrap()["time"].as_str().unwrap().to_owned();
    (lsn, now, mailboxes(store))
}

// until an LSN or a time, with a dry run that changes nothing; what came later is kept aside, and no number comes twice
#[test]
fn the_store_as_it_was_at_a_point() {
    for by_time in [false, true] {
        let store = TestStore::new();
        let daemon = start(&store);
        store.ctl(&["user", "add", "joe"]).expect(0);
        let mut marks: Vec<Mark> = Vec::new();
        for n in 0..3 {
            create(&store, (0..5).map(|m| format!("{n}-{m}")));
            marks.push(mark(&store));
            std::thread::sleep(Duration::from_millis(50));
        }
        daemon.kill();
        let (lsn, time, expected) = &marks[1];
        let point = if by_time {
            ["--until-time".to_owned(), time.clone()]
        } else {
            ["--until-lsn".to_owned(), lsn.to_string()]
        };
        let point = [point[0].as_str(), point[1].as_str()];
        let before = store.tree();
        assert!(store.storedd(&[&["recover"][..], &point].concat()).expect(64).err.contains("--yes"));
        let dry = store.ctl(&[&["recover"][..], &point, &["--dry-run"]].concat()).expect(0);
        assert!(dry.out.contains("would set aside LSN") && dry.out.contains("user/joe/2-0"), "{dry:?}");
        let plan = store.storedd(&[&["recover"][..], &point, &["--dry-run", "--json"]].concat()).expect(0).json();
        assert_eq!((plan["decision"].as_str(), plan["reached_lsn"].as_u64()), (Some("until"), Some(*lsn)), "{plan}");
        assert_eq!(store.tree(), before, "a dry run changes nothing");
        let done = store.storedd(&[&["recover"][..], &point, &["--yes", "--json"]].concat()).expect(0).json();
        assert_eq!((done["decision"].as_str(), done["lost"].is_null()), (Some("until"), true), "{done}");
        assert!(done["findings"].to_string().contains("set aside as was asked"), "{done}");
        assert!(!done["quarantined"].as_array().unwrap().is_empty(), "{done}");
        let daemon = start(&store);
        assert_eq!(&mailboxes(&store), expected);
        create(&store, ["2-0".to_owned()]);
        let again = mailboxes(&store).into_iter().find(|(name, ..)| name.ends_with("/2-0")).unwrap();
        let first = marks[2].2.iter().find(|(name, ..)| name.ends_with("/2-0")).unwrap();
        assert!(again.1 != first.1 && again.2 != first.2, "a mailbox that was given up came back as another");
        assert_eq!(daemon.stop(), 0);
        store.storedd(&["test"]).expect(0);
    }
}

// a point behind the live database: an older one is taken, here the newest snapshot before it, or a complete log
#[test]
fn a_point_before_the_database_is_reached_from_an_older_one() {
    for snapshot in [false, true] {
        let store = TestStore::new();
        let daemon = start(&store);
        store.ctl(&["user", "add", "joe"]).expect(0);
        let base = if snapshot { store.json(&["snapshot", "take", "--verify"])["id"].clone() } else { "empty".into() };
        create(&store, ["kept".to_owned()]);
        let (lsn, _, expected) = mark(&store);
        create(&store, ["given-up".to_owned()]);
        store.ctl(&["checkpoint"]).expect(0);
        assert_eq!(daemon.stop(), 0);
        let far = store.storedd(&["recover", "--until-lsn", "999999", "--yes"]).expect(65);
        assert!(far.err.contains("what can be reached: LSN 0"), "{far:?}");
        store.storedd(&["recover", "--until-time", "2001-01-01T00:00:00Z", "--yes"]).expect(65);
        let done = store.storedd(&["recover", "--until-lsn", &lsn.to_string(), "--yes", "--json"]).expect(0).json();
        assert_eq!(done["base"], base, "{done}");
        assert!(store.data.join("mboxlist/removed").exists());
        let _daemon = start(&store);
        assert_eq!(mailboxes(&store), expected);
        assert_eq!(store.json(&["status"])["state"], "ready");
    }
}
