//! Starts that have lost something, and stores that are held for it.

use super::*;

#[test]
fn a_loss_is_reported_also_by_a_start_that_is_killed_right_behind_it() {
    let machine = SimDisk::new();
    let (store, _) = start(&machine);
    (0..3).for_each(|n| drop(store.commit(add(&format!("p{n}"))).unwrap()));
    store.seal().unwrap();
    let machine = machine.image(Persist::Nothing);
    drop(store);
    damage_record(&machine, 2);
    let mut died = 0;
    loop {
        let killed = machine.image(Persist::Everything);
        killed.crash_at(killed.ops() + died + 1);
        let ended = start_with(&killed, options(), START).is_ok();
        for persist in [Persist::Nothing, Persist::Everything] {
            let after = killed.image(persist);
            let (store, _) = start(&after);
            let reports = Report::load(&after.disk("data"), 100, Micros(u64::MAX)).unwrap();
            assert!(reports.iter().any(|r| r.lost.is_some()), "killed at operation {died} of a start: {reports:?}");
            drop(store);
        }
        if ended {
            break;
        }
        died += 1;
    }
    assert!(died > 20, "{died}");
}

/// Damages the n-th record of the first segment, from 1.
fn damage_record(machine: &SimDisk, n: usize) {
    let (log, file) = (machine.disk("log"), "log.0000000001");
    let bytes = log.peek(file).unwrap();
    let begins = |at: &usize| bytes[*at..].starts_with(&[0xd5, 0xf1]);
    let at = (4096..bytes.len()).filter(begins).nth(n - 1).unwrap();
    log.damage(file, at as u64 + 20, 0xff).unwrap();
}

// I2 after a loss: what is acknowledged in the new epoch is kept, wherever the damage was.
#[test]
fn what_comes_after_a_loss_is_kept() {
    for damaged in 1..=4 {
        let machine = SimDisk::new();
        let (store, _) = start(&machine);
        (1..=4).for_each(|n| drop(store.commit(add(&format!("p{n}"))).unwrap()));
        store.seal().unwrap();
        let machine = machine.image(Persist::Nothing);
        drop(store);
        damage_record(&machine, damaged);
        let (store, report) = start(&machine);
        assert_eq!((report.decision.as_str(), report.reached_lsn), ("lossy", damaged as u64 - 1));
        store.commit(add("new")).unwrap();
        let after = machine.image(Persist::Nothing);
        drop(store);
        let (store, report) = start(&after);
        assert_eq!((report.decision.as_str(), report.lost), ("replay", None), "damage of record {damaged}");
        assert_eq!((names(&store).len(), names(&store)[0].as_str()), (damaged, "new"));
    }
}

// row 28: held, a store is read and nothing of it is changed: it is the evidence.
#[test]
fn a_held_store_changes_no_byte_of_the_store() {
    let machine = SimDisk::new();
    let mut there = disks(&machine);
    there.partitions.insert("p".to_owned(), "mail".into());
    let open_it = |machine: &SimDisk, policy| {
        let there = Disks { partitions: there.partitions.clone(), ..disks(machine) };
        let (env, lock) = (Arc::new(SimEnv::new(Micros(1_800_000_000_000_000), 7)), take_lock(&there)?);
        open(there, env, options(), lock, policy, &(Arc::new(|_| {}) as OnProgress))
    };
    let (store, _) = open_it(&machine, START).unwrap();
    let id = store.partitions().prepare("p", crate::partition::PartitionId([3; 16]), Micros(1)).unwrap();
    store.commit(Command::PartitionAdd { name: "p".to_owned(), id: id.0 }).unwrap();
    store.checkpoint().unwrap();
    let (user, partition) = ("joe".to_owned(), Some("p".to_owned()));
    store.commit(Command::UserAdd { user, partition, quota_bytes: None, quota_messages: None }).unwrap();
    store.commit(add("q")).unwrap();
    store.seal().unwrap();
    // The directory of the user is not durable yet.
    let after = machine.image(Persist::Nothing);
    drop(store);
    damage_record(&after, 3);
    // With the control file, and without: held, it is not made again.
    for gone in [false, true] {
        let after = after.image(Persist::Everything);
        if gone {
            after.disk("data").erase(crate::wal::CONTROL_FILE).unwrap();
        }
        held_and_unchanged(&after, &open_it);
    }
}

type Open<'a> = &'a dyn Fn(&SimDisk, Policy) -> crate::error::Result<(Arc<Store>, Report)>;

fn held_and_unchanged(after: &SimDisk, open_it: Open<'_>) {
    let before = after.tree();
    let (store, report) = open_it(after, Policy { hold_on_loss: true, ..START }).unwrap();
    assert_eq!((report.decision.as_str(), report.replayed), ("hold", 1));
    assert!(matches!(store.phase(), Phase::ReadOnly(_)));
    assert_eq!(names(&store), ["p"]);
    assert!(store.view().contains(Table::Users, b"joe").unwrap());
    store.close().unwrap();
    drop(store);
    let now = after.tree();
    let changed: Vec<_> = now.keys().chain(before.keys()).filter(|k| now.get(*k) != before.get(*k)).collect();
    // What was found is written down all the same.
    let told = |path: &str| path.ends_with("lock") || path.contains("dbdata/reports/");
    assert!(changed.iter().all(|path| told(path)), "{changed:?}");
}

// A disk without room for a report is no reason not to serve.
