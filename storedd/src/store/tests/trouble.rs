//! Disks that fail or are full while the store runs.

use super::*;

#[test]
fn a_store_starts_on_a_full_disk() {
    let machine = SimDisk::new();
    let (store, _) = start(&machine);
    store.commit(add("a")).unwrap();
    let after = machine.image(Persist::Nothing);
    drop(store);
    for disk in ["data", "db", "log"] {
        after.disk(disk).set_free_bytes(0);
    }
    let (store, report) = start(&after);
    assert_eq!((names(&store), report.lost), (vec!["a".to_owned()], None));
}

// I6: numbers go on above what is there, also where one odd import lies far above.

#[test]
fn a_failed_sync_poisons_and_a_restart_recovers() {
    let machine = SimDisk::new();
    let (store, _) = start(&machine);
    store.commit(add("a")).unwrap();
    machine.fail_at(machine.ops() + 2, Fault::SyncDropsData);
    let failed = store.commit(add("b")).unwrap_err();
    assert!(matches!(failed, CommitError::Failed(StoreError::Poisoned { .. })), "{failed}");
    assert_eq!(store.phase(), Phase::Poisoned);
    assert!(matches!(store.commit(add("c")), Err(CommitError::Failed(StoreError::Poisoned { .. }))));
    assert_eq!(names(&store), ["a"], "what was never synced is never shown");
    let after = machine.image(Persist::Everything);
    drop(store);
    let (store, _) = start(&after);
    assert!(names(&store).starts_with(&["a".to_owned()]));
    store.commit(add("d")).unwrap();
}

// I2: a refusal says something of what is visible, so none leaves that rests on a change which was not synced.
#[test]
fn a_refusal_that_rests_on_a_lost_change_is_undecided_too() {
    let machine = SimDisk::new();
    let (store, _) = start(&machine);
    machine.fail_at(machine.ops() + 2, Fault::SyncDropsData);
    let answers = Arc::new(Mutex::new(Vec::new()));
    for _ in 0..2 {
        let answers = answers.clone();
        store.submit(add("a"), Box::new(move |answer| answers.lock().unwrap().push(answer)));
    }
    store.drain();
    for answer in answers.lock().unwrap().iter() {
        assert!(matches!(answer, Err(CommitError::Failed(StoreError::Poisoned { .. }))), "{answer:?}");
    }
    assert_eq!((answers.lock().unwrap().len(), names(&store).len()), (2, 0));
}

// R7: a control file that cannot be written lets nothing more be reserved: that is said, and a restart recovers.
#[test]
fn a_failed_control_file_poisons_and_a_restart_recovers() {
    let machine = SimDisk::new();
    let (store, _) = start_with(&machine, Options { id_block: 1, ..options() }, START).unwrap();
    store.commit(add("p")).unwrap();
    machine.fail_at(machine.ops() + 1, Fault::Eio);
    let user = |user: &str| {
        let (user, partition) = (user.to_owned(), Some("p".to_owned()));
        Command::UserAdd { user, partition, quota_bytes: None, quota_messages: None }
    };
    let failed = store.commit(user("ann")).unwrap_err();
    assert!(matches!(&failed, CommitError::Failed(e) if e.to_string().contains("CONTROL")), "{failed}");
    assert_eq!(store.phase(), Phase::Poisoned);
    assert!(matches!(store.commit(add("q")), Err(CommitError::Failed(StoreError::Poisoned { .. }))));
    drop(store);
    let (store, _) = start(&machine);
    store.commit(user("ann")).unwrap();
    assert_eq!(names(&store), ["p"]);
}

// row 162: a full disk refuses, nothing is half-written, and service resumes when space returns.
#[test]
fn a_full_disk_refuses_and_space_heals_it() {
    let machine = SimDisk::new();
    let (store, _) = start_with(&machine, Options { spares: 0, ..options() }, START).unwrap();
    let log = machine.disk("log");
    log.set_free_bytes(0);
    let mut done = 0;
    let refused = loop {
        match store.commit(add(&format!("p{done}-{}", "x".repeat(50)))) {
            Ok(_) => done += 1,
            Err(e) => break e,
        }
        assert!(done < 50_000, "a 1 MiB segment must be full by now");
    };
    assert!(matches!(refused, CommitError::Failed(StoreError::NoSpace { .. })), "{refused}");
    assert_eq!(store.phase(), Phase::Ready);
    assert_eq!(names(&store).len(), done);
    log.set_unbounded();
    store.commit(add("after")).unwrap();
    drop(store);
    let (store, report) = start(&machine.image(Persist::Nothing));
    assert_eq!((names(&store).len(), report.lost), (done + 1, None));
}

// B10, I2, I3: many threads, two committers, checkpoints meanwhile; every answer is durable and visible.
