//! The store on a simulated disk: the verbs, and the pipeline under many threads.

mod adopt;
mod coming;
mod doubt;
mod given;
mod losses;
mod mail;
mod mend;
mod mirror;
mod moves;
mod older;
mod partitions;
mod recount;
mod remnants;
mod strays;
mod trouble;

use super::decision::Policy;
use super::*;
use crate::checksum::Crc;
use crate::disk::{Disk, Fault, Persist, SimDisk};
use crate::env::SimEnv;
use crate::model::command::RefusalKind;
use crate::model::{Command, Outcome, Table};
use crate::partition::Roots;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Partitions on a simulated machine.
#[derive(Debug)]
struct SimRoots(SimDisk);

impl Roots for SimRoots {
    fn open(&self, path: &Path) -> std::io::Result<Arc<dyn Disk>> {
        Ok(Arc::new(self.0.disk(&path.display().to_string())))
    }

    fn make(&self, path: &Path) -> std::io::Result<Arc<dyn Disk>> {
        self.open(path)
    }
}

fn disks(machine: &SimDisk) -> Disks {
    let disk = |name: &str| -> Arc<dyn Disk> { Arc::new(machine.disk(name)) };
    Disks {
        data: disk("data"),
        db: disk("db"),
        log: disk("log"),
        roots: Arc::new(SimRoots(machine.clone())),
        partitions: BTreeMap::new(),
        snapshots: Default::default(),
    }
}

fn options() -> Options {
    Options {
        segment_size: 1 << 20,
        spares: 1,
        database_cache: 1 << 20,
        seal_idle: Duration::from_millis(2),
        ..Options::default()
    }
}

fn start_with(machine: &SimDisk, options: Options, policy: Policy) -> Result<(Arc<Store>, Report)> {
    let disks = disks(machine);
    let env = Arc::new(SimEnv::new(Micros(1_800_000_000_000_000), 7));
    let lock = take_lock(&disks)?;
    let progress: OnProgress = Arc::new(|_| {});
    open(disks, env, options, lock, policy, &progress)
}

const START: Policy = Policy { strict: false, hold_on_loss: false, accept_loss: false, catastrophic: false };

fn start(machine: &SimDisk) -> (Arc<Store>, Report) {
    start_with(machine, options(), START).unwrap()
}

fn add(name: &str) -> Command {
    // An identity belongs to one partition.
    let mut id = [0; 16];
    id[..4].copy_from_slice(&Crc::seeded(b"test").add(name.as_bytes()).value().to_le_bytes());
    id[4..8].copy_from_slice(&Crc::seeded(b"again").add(name.as_bytes()).value().to_le_bytes());
    Command::PartitionAdd { name: name.to_owned(), id }
}

fn names(store: &Store) -> Vec<String> {
    let mut out = Vec::new();
    let mut each = |key: &[u8], _: &[u8]| {
        out.push(String::from_utf8(key.to_vec()).unwrap());
        std::ops::ControlFlow::Continue(())
    };
    store.view().scan(Table::Partitions, std::ops::Bound::Unbounded, &mut each).unwrap();
    out
}

// row 1, row 18: I2 on the way through a crash that keeps only what was synced.
#[test]
fn a_commit_survives_the_crash_right_behind_it() {
    let machine = SimDisk::new();
    let (store, report) = start(&machine);
    assert_eq!(report.decision, "first start");
    let first = store.commit(add("a")).unwrap();
    assert_eq!(first.lsn, Lsn(1));
    let refused = store.commit(add("a")).unwrap_err();
    assert!(matches!(refused, CommitError::Refused(r) if r.kind == RefusalKind::Exists));
    assert_eq!(store.commit(add("b")).unwrap().lsn, Lsn(2));
    assert_eq!(names(&store), ["a", "b"]);
    assert_eq!(store.stats().answered.load(Ordering::Relaxed), 3, "a refusal is an answer");

    let after = machine.image(Persist::Nothing);
    drop(store);
    let (store, report) = start(&after);
    assert_eq!((report.decision.as_str(), report.replayed, report.lost), ("replay", 2, None));
    assert_eq!(names(&store), ["a", "b"]);
    assert_eq!(store.commit(add("c")).unwrap().lsn, Lsn(3), "I3");
}

// row 63, row 64, row 32: after a checkpoint the log before it is not needed.
#[test]
fn a_checkpoint_moves_the_base_and_a_clean_stop_leaves_nothing_to_replay() {
    let machine = SimDisk::new();
    let (store, _) = start(&machine);
    for n in 0..100 {
        store.commit(add(&format!("p{n}"))).unwrap();
    }
    let before = store.view();
    let done = store.checkpoint().unwrap();
    assert_eq!((done.lsn, done.rows), (Lsn(100), 100));
    store.commit(add("q")).unwrap();
    assert_eq!(names(&store).len(), 101);
    assert!(before.get(Table::Partitions, b"q").unwrap().is_none(), "a view shows its moment");
    assert!(before.get(Table::Partitions, b"p7").unwrap().is_some());
    store.close().unwrap();
    let after = machine.image(Persist::Nothing);
    drop(store);
    let (store, report) = start(&after);
    assert_eq!((report.decision.as_str(), report.replayed), ("clean", 0));
    assert_eq!(names(&store).len(), 101);
}

// I4, row 65: a crash at any operation of a checkpoint finds the log that it needs.
#[test]
fn a_checkpoint_gives_no_log_back_that_a_crash_needs() {
    let (machine, small) = (SimDisk::new(), Options { segment_size: 32 << 10, ..options() });
    let (store, _) = start_with(&machine, small.clone(), START).unwrap();
    let mut rows = 0;
    while store.segments().len() < 4 {
        store.commit(add(&format!("p{rows}"))).unwrap();
        rows += 1;
    }
    machine.set_recording(true);
    store.checkpoint().unwrap();
    assert!(store.segments().len() < 4, "some were given back");
    for moment in machine.take_moments() {
        for persist in [Persist::Nothing, Persist::Everything] {
            let (store, report) = start_with(&moment.image(persist), small.clone(), START).unwrap();
            let what = format!("operation {} {:?} {}, {persist:?}", moment.n, moment.kind, moment.path);
            assert_eq!((names(&store).len(), report.lost), (rows, None), "{what}");
        }
    }
}

// I8: whatever a start gives up is said in a report, wherever that start is killed.
#[test]
fn without_the_control_file_an_odd_import_uses_no_numbers_up() {
    let machine = SimDisk::new();
    let (store, _) = start(&machine);
    store.commit(add("p")).unwrap();
    let (partition, acl) = (Some("p".to_owned()), BTreeMap::new());
    let import = |name: &str, uidvalidity| {
        let (name, partition, acl) = (name.to_owned(), partition.clone(), acl.clone());
        Command::ImportMailbox { name, partition, uidvalidity, acl }
    };
    store.commit(import("shared/odd", u32::MAX - 1)).unwrap();
    store.commit(import("shared/usual", 1_900_000_000)).unwrap();
    let after = machine.image(Persist::Nothing);
    drop(store);
    after.disk("data").erase("CONTROL").unwrap();
    let (store, report) = start(&after);
    assert_eq!(report.lost, None);
    let created = store.commit(Command::MailboxCreate { name: "shared/new".to_owned(), partition }).unwrap();
    let Outcome::Created { uidvalidity, .. } = created.outcome else { panic!("{created:?}") };
    assert!((1_900_000_001..2_000_000_000).contains(&uidvalidity), "{uidvalidity}");
}

// row 64: a checkpoint that goes on is no reason for another one right behind it; one that failed is.
#[test]
fn a_checkpoint_is_due_after_one_that_failed_and_not_during_one() {
    let machine = SimDisk::new();
    let (store, _) = start(&machine);
    store.commit(add("a")).unwrap();
    let now = || store.env.uptime();
    assert!(!store.checkpoint_is_due(now()));
    let db = commit::lock(&store.db);
    store.freeze();
    assert!(!store.checkpoint_is_due(now()), "somebody is at it");
    drop(db);
    assert!(store.checkpoint_is_due(now()), "nobody is, and it is still frozen");
    store.checkpoint().unwrap();
    assert!(!store.checkpoint_is_due(now()));
}

// row 64: what came after a checkpoint that failed is part of the next one, and of a clean stop.
#[test]
fn a_checkpoint_covers_what_came_after_one_that_failed() {
    let machine = SimDisk::new();
    let (store, _) = start(&machine);
    for round in ["a", "b"] {
        store.commit(add(&format!("{round}1"))).unwrap();
        store.freeze();
        let last = store.commit(add(&format!("{round}2"))).unwrap().lsn;
        let done = store.checkpoint().unwrap();
        assert_eq!((done.lsn, done.rows), (last, 2));
    }
    store.commit(add("c1")).unwrap();
    store.freeze();
    store.commit(add("c2")).unwrap();
    store.close().unwrap();
    let after = machine.image(Persist::Nothing);
    drop(store);
    let (store, report) = start(&after);
    assert_eq!((report.decision.as_str(), names(&store).len()), ("clean", 6));
}

// A range ends where it ends in every layer, also where only rows that are gone lie behind it.
#[test]
fn a_range_is_what_a_scan_shows_of_it_in_every_layer() {
    let machine = SimDisk::new();
    let (store, _) = start(&machine);
    let name = |n: u32| format!("p{n:02}");
    let mut seed = 3u32;
    let mut below = |n: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 16) % n
    };
    for round in 0..60 {
        for _ in 0..10 {
            let name = name(below(40));
            let there = store.view().contains(Table::Partitions, name.as_bytes()).unwrap();
            store.commit(if there { Command::PartitionRemove { name } } else { add(&name) }).unwrap();
        }
        match round % 4 {
            0 => drop(store.checkpoint().unwrap()),
            2 => drop(store.freeze()),
            _ => {}
        }
        let all = names(&store);
        for _ in 0..20 {
            let (from, to) = (name(below(42)), name(below(42)));
            let mut shown = Vec::new();
            let mut each = |key: &[u8], _: &[u8]| {
                shown.push(String::from_utf8(key.to_vec()).unwrap());
                std::ops::ControlFlow::Continue(())
            };
            let start = std::ops::Bound::Included(from.as_bytes());
            store.view().scan_until(Table::Partitions, start, to.as_bytes(), &mut each).unwrap();
            let expected: Vec<_> = all.iter().filter(|n| from <= **n && **n < to).cloned().collect();
            assert_eq!(shown, expected, "round {round}: {from} to {to}");
        }
    }
}

// I1: a group is synced a moment before it is published, and a checkpoint that looks in between waits.
#[test]
fn a_checkpoint_waits_until_what_it_writes_is_published() {
    let machine = SimDisk::new();
    let (store, _) = start(&machine);
    let last = store.commit(add("a")).unwrap().lsn;
    store.published.store(0, Ordering::Release);
    let writer = store.clone();
    let publishes = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        writer.published.store(last.0, Ordering::Release);
    });
    assert_eq!(store.checkpoint().unwrap().lsn, last);
    publishes.join().unwrap();
}

// row 22: every change is in the log: without the database file the whole log gives the same content.
#[test]
fn without_the_database_the_whole_log_gives_it_back() {
    let machine = SimDisk::new();
    let (store, _) = start(&machine);
    for n in 0..50 {
        store.commit(add(&format!("p{n}"))).unwrap();
    }
    store.checkpoint().unwrap();
    store.commit(add("q")).unwrap();
    let after = machine.image(Persist::Nothing);
    drop(store);
    after.disk("db").erase("mboxlist.redb").unwrap();
    let strict = start_with(&after, options(), Policy { strict: true, ..START }).unwrap_err();
    assert_eq!(strict.exit(), crate::error::exit::DAMAGED);
    assert!(strict.to_string().contains("mboxlist.redb"), "row 57: {strict}");
    let (store, report) = start(&after);
    assert_eq!((report.decision.as_str(), report.lost, report.replayed), ("rebuild", None, 51));
    assert_eq!(names(&store).len(), 51);
}

// I2, R7: a failed sync is final; nobody is told "done", readers keep what was published, a restart recovers.
#[test]
fn many_threads_commit_through_one_log() {
    let machine = SimDisk::new();
    let (store, _) = start(&machine);
    let mut helpers = Vec::new();
    for _ in 0..2 {
        let store = store.clone();
        helpers.push(std::thread::spawn(move || store.run_committer()));
    }
    let checkpointed = store.clone();
    helpers.push(std::thread::spawn(move || checkpointed.run_checkpointer()));
    let mut clients = Vec::new();
    for client in 0..16 {
        let store = store.clone();
        clients.push(std::thread::spawn(move || {
            let mut last = Lsn::ZERO;
            for n in 0..100 {
                let name = format!("p{client}-{n}");
                let done = store.commit(add(&name)).unwrap();
                assert!(done.lsn > last, "I3");
                last = done.lsn;
                assert!(store.view().contains(Table::Partitions, name.as_bytes()).unwrap(), "I2: visible");
                if n % 25 == 24 {
                    store.checkpoint().unwrap();
                }
            }
        }));
    }
    for client in clients {
        client.join().unwrap();
    }
    let (sent, inbox) = std::sync::mpsc::channel();
    for n in 0..200 {
        let sent = sent.clone();
        store.submit(add(&format!("s{n}")), Box::new(move |answer| sent.send(answer.unwrap().lsn).unwrap()));
    }
    for _ in 0..200 {
        inbox.recv_timeout(Duration::from_secs(20)).unwrap();
    }
    store.stop_committers();
    store.stop_checkpointer();
    for helper in helpers {
        helper.join().unwrap();
    }
    assert_eq!(names(&store).len(), 1800);
    let crashed = machine.image(Persist::Nothing);
    drop(store);
    let (store, report) = start(&crashed);
    assert_eq!((names(&store).len(), report.lost), (1800, None));
}

// row 12: one owner only.
#[test]
fn a_second_owner_is_refused() {
    let machine = SimDisk::new();
    let (_store, _) = start(&machine);
    let refused = take_lock(&disks(&machine)).unwrap_err();
    assert!(matches!(&refused, StoreError::Locked { pid } if *pid == std::process::id().to_string()), "{refused}");
}

// I7: looking changes nothing.
#[test]
fn looking_leaves_every_byte_as_it_was() {
    let machine = SimDisk::new();
    let (store, _) = start(&machine);
    store.commit(add("a")).unwrap();
    let crashed = machine.image(Persist::Nothing);
    drop(store);
    let before = crashed.tree_hash();
    let progress: OnProgress = Arc::new(|_| {});
    let found = look(&disks(&crashed), &progress).unwrap();
    decision::decide(&found.evidence(&disks(&crashed)), START).unwrap();
    assert_eq!(crashed.tree_hash(), before);
}
