//! Crashes and failing disks: what is found afterwards is the state before or the state after, never another one.

use super::*;
use crate::disk::{Fault, Persist, SimDisk};

const OLD: Lsn = Lsn(10);
const NEW: Lsn = Lsn(20);

fn as_disk(sim: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(sim.clone())
}

/// The rows at [`OLD`], and the change to [`NEW`]: replaced, removed and new ones.
fn rows(lsn: Lsn) -> Vec<Row> {
    let mut rows = BTreeMap::new();
    let mut dice = Dice(lsn.0);
    for i in 0..60 {
        let table = Table::ALL[dice.below(7) as usize];
        let row = (lsn == OLD || i % 3 > 0).then(|| vec![lsn.0 as u8; dice.below(600) as usize]);
        rows.insert((table, format!("{:02}", dice.below(40)).into_bytes()), row);
    }
    rows.into_iter().map(|((t, k), r)| (t, k, r)).collect()
}

fn model(lsn: Lsn) -> Model {
    let mut model = Model::new();
    let all = if lsn == NEW { [rows(OLD), rows(NEW)].concat() } else { rows(OLD) };
    for (table, key, row) in all {
        match row {
            Some(row) => model.insert((table, key), row),
            None => model.remove(&(table, key)),
        };
    }
    model
}

/// A disk with a database at [`OLD`], all durable, operations numbered from 1.
fn at_old() -> SimDisk {
    let sim = SimDisk::new();
    let disk = as_disk(&sim);
    Db::create(&disk, FILE, STORE, Epoch(0), Lsn::ZERO).unwrap();
    let db = Db::open(&disk, FILE, small()).unwrap();
    db.apply(OLD, Epoch(0), rows(OLD)).unwrap();
    drop(db);
    sim.image(Persist::Nothing)
}

/// What a start finds. Looking changes nothing (I7).
fn found(sim: &SimDisk, case: &str) -> Lsn {
    let disk = as_disk(sim);
    let before = sim.tree_hash();
    let meta = Db::examine(&disk, FILE, Some(STORE), None).unwrap_or_else(|e| panic!("{case}: {e}"));
    assert_eq!(sim.tree_hash(), before, "{case}");
    let db = Db::open(&disk, FILE, small()).unwrap_or_else(|e| panic!("{case}: {e}"));
    assert_eq!(db.reader().unwrap().meta(), &meta, "{case}");
    assert!(meta.applied_lsn == OLD || meta.applied_lsn == NEW, "{case}: {}", meta.applied_lsn);
    assert!(content(&db) == model(meta.applied_lsn), "{case}: content of LSN {}", meta.applied_lsn);
    meta.applied_lsn
}

/// Replaying the same rows brings the new state from either.
fn replayed(sim: &SimDisk, case: &str) {
    let db = Db::open(&as_disk(sim), FILE, small()).unwrap();
    db.apply(NEW, Epoch(0), rows(NEW)).unwrap_or_else(|e| panic!("{case}: {e}"));
    drop(db);
    assert_eq!(found(&sim.image(Persist::Nothing), case), NEW, "{case}");
}

// row 57: a crash in the creation leaves no database or a whole one, and creation works the next time.
#[test]
fn a_crash_at_every_operation_of_create() {
    let mut n = 0;
    loop {
        n += 1;
        let mut done = false;
        for (i, persist) in Persist::all(n).into_iter().enumerate() {
            let sim = SimDisk::new();
            sim.crash_torn_at(n, if i % 2 == 0 { 0 } else { n * 37 % 600 });
            let created = Db::create(&as_disk(&sim), FILE, STORE, Epoch(2), Lsn(5));
            assert_eq!(created.is_err(), sim.is_crashed());
            done = created.is_ok();
            let image = sim.image(persist);
            let disk = as_disk(&image);
            let case = format!("crash at {n}, {persist:?}");
            if image.stat(FILE).unwrap().is_none() {
                assert!(!done, "{case}: created, and gone");
                Db::create(&disk, FILE, STORE, Epoch(2), Lsn(5)).unwrap_or_else(|e| panic!("{case}: {e}"));
            }
            let meta = Db::examine(&disk, FILE, Some(STORE), None).unwrap_or_else(|e| panic!("{case}: {e}"));
            assert_eq!(meta, Meta::empty(SCHEMA_VERSION, STORE, Epoch(2), Lsn(5)), "{case}");
        }
        if done {
            break;
        }
    }
    assert!(n > 10, "{n} operations");
}

// I5
#[test]
fn a_crash_at_every_operation_of_a_checkpoint() {
    let old = at_old();
    let (mut n, mut states, mut new) = (0, 0, 0);
    loop {
        n += 1;
        let mut crashed = false;
        for (i, persist) in Persist::all(n).into_iter().enumerate() {
            let sim = old.image(Persist::Nothing);
            sim.crash_torn_at(n, if i % 2 == 0 { 0 } else { n * 37 % 600 });
            let db = Db::open(&as_disk(&sim), FILE, small());
            let applied = db.and_then(|db| db.apply(NEW, Epoch(0), rows(NEW)));
            crashed = sim.is_crashed();
            let case = format!("crash at {n}, {persist:?}");
            let image = sim.image(persist);
            let lsn = found(&image, &case);
            assert!(lsn == NEW || applied.is_err(), "{case}: committed, and gone");
            states += 1;
            new += u32::from(lsn == NEW);
            if n % 4 == 0 {
                replayed(&image, &case);
            }
        }
        if !crashed {
            break;
        }
    }
    assert!(n > 20 && new > 8 && new < states, "{n} operations, {new} of {states} new");
}

#[test]
fn a_crash_while_opening_after_a_crash() {
    let old = at_old();
    let sim = old.image(Persist::Nothing);
    let db = Db::open(&as_disk(&sim), FILE, small()).unwrap();
    let opened = sim.ops();
    drop(db);
    for first in (opened..opened + 200).step_by(7) {
        let sim = old.image(Persist::Nothing);
        sim.crash_at(first);
        let _ = Db::open(&as_disk(&sim), FILE, small()).and_then(|db| db.apply(NEW, Epoch(0), rows(NEW)));
        let crashed = sim.is_crashed();
        let image = sim.image(Persist::RandomTorn(first));
        let lsn = found(&image.image(Persist::Nothing), "first crash");
        for second in 1.. {
            let sim = image.image(Persist::Nothing);
            sim.crash_at(second);
            let opened = Db::open(&as_disk(&sim), FILE, small()).map(drop);
            for persist in [Persist::Nothing, Persist::Everything, Persist::RandomTorn(second)] {
                let case = format!("crash at {first}, again at {second}, {persist:?}");
                assert_eq!(found(&sim.image(persist), &case), lsn, "{case}");
            }
            if opened.is_ok() {
                break;
            }
        }
        if !crashed {
            break;
        }
    }
}

const FAULTS: [Fault; 7] = [
    Fault::Eio,
    Fault::EioForever,
    Fault::NoSpace,
    Fault::NoSpaceForever,
    Fault::ShortWrite,
    Fault::SyncDropsData,
    Fault::Eintr,
];

// A failed commit is undecided: it is found done or not done, and what is found stays after a crash.
#[test]
fn a_failure_of_every_operation_of_a_checkpoint() {
    let old = at_old();
    let mut failed = 0;
    for fault in FAULTS {
        for n in 1.. {
            let sim = old.image(Persist::Nothing);
            let case = format!("{fault:?} at {n}");
            let Ok(mut db) = Db::open(&as_disk(&sim), FILE, small()) else { panic!("{case}: open") };
            let before = sim.ops();
            sim.fail_at(before + n, fault);
            let applied = db.apply(NEW, Epoch(0), rows(NEW));
            if applied.is_ok() && sim.ops() < before + n {
                break;
            }
            sim.heal();
            let found_lsn = match &applied {
                Ok(applied) => applied.meta.applied_lsn,
                Err(e) => {
                    failed += 1;
                    let expected: &[&str] = match fault {
                        Fault::NoSpace | Fault::NoSpaceForever => &["no_space"],
                        _ => &["io"],
                    };
                    assert!(expected.contains(&e.code()), "{case}: {e}");
                    assert_eq!(db.apply(NEW, Epoch(0), rows(NEW)).unwrap_err().code(), "busy", "{case}");
                    db.reopen().unwrap_or_else(|e| panic!("{case}: {e}")).applied_lsn
                }
            };
            // Whoever builds on what was found here must find at least that after a crash.
            let lsn = found(&sim.image(Persist::Nothing), &case);
            assert!(lsn == found_lsn, "{case}: found {found_lsn}, after a crash {lsn}");
            assert!(content(&db) == model(found_lsn), "{case}");
            db.apply(NEW, Epoch(0), rows(NEW)).unwrap_or_else(|e| panic!("{case}: {e}"));
            drop(db);
            assert_eq!(found(&sim.image(Persist::Nothing), &case), NEW, "{case}");
        }
    }
    assert!(failed > 100, "{failed}");
}

// A disk that can be read and no longer be written: readers go on with the old state, and writing begins again when the
// disk allows it.
#[test]
fn readers_go_on_when_the_file_can_no_longer_be_written() {
    for read_only in [true, false] {
        let sim = at_old();
        let mut db = Db::open(&as_disk(&sim), FILE, small()).unwrap();
        if read_only {
            sim.set_read_only(true);
        } else {
            sim.fail_at(sim.ops() + 1, Fault::EioForever);
        }
        let before = sim.tree();
        for _ in 0..2 {
            db.apply(NEW, Epoch(0), rows(NEW)).unwrap_err();
            if let Err(e) = db.reopen() {
                assert_eq!(e.code(), "io", "{e}");
                assert_eq!(db.apply(NEW, Epoch(0), rows(NEW)).unwrap_err().code(), "busy");
            }
            assert!(content(&db) == model(OLD));
        }
        assert_eq!(sim.tree(), before);
        sim.set_read_only(false);
        sim.heal();
        assert_eq!(db.reopen().unwrap().applied_lsn, OLD);
        db.apply(NEW, Epoch(0), rows(NEW)).unwrap();
        assert!(content(&db) == model(NEW));
        drop(db);
        assert_eq!(found(&sim.image(Persist::Nothing), "after"), NEW);
    }
}

// The disk fails while opening, or while the database is closed: an error, no panic, nothing lost.
#[test]
fn a_failure_of_every_operation_of_open_and_close() {
    let old = at_old();
    for fault in FAULTS {
        for n in 1.. {
            let sim = old.image(Persist::Nothing);
            let case = format!("{fault:?} at {n}");
            sim.fail_at(n, fault);
            let outcome = Db::open(&as_disk(&sim), FILE, small()).and_then(Db::close);
            let reached = sim.ops() >= n;
            sim.heal();
            assert!(
                outcome.is_err() || !reached || matches!(fault, Fault::ShortWrite | Fault::SyncDropsData),
                "{case}"
            );
            assert_eq!(found(&sim, &case), OLD, "{case}");
            replayed(&sim, &case);
            assert_eq!(found(&sim.image(Persist::Nothing), &case), NEW, "{case}");
            if !reached {
                break;
            }
        }
    }
}

#[test]
fn dropping_writes_nothing_and_neither_does_what_is_dropped_with_a_failure() {
    let sim = at_old();
    let mut db = Db::open(&as_disk(&sim), FILE, small()).unwrap();
    db.apply(NEW, Epoch(0), rows(NEW)).unwrap();
    let reader = db.reader().unwrap();
    let (ops, tree) = (sim.ops(), sim.tree_hash());
    drop(db);
    drop(reader);
    assert_eq!((sim.ops(), sim.tree_hash()), (ops, tree));
    db = Db::open(&as_disk(&sim), FILE, small()).unwrap();
    db.apply(Lsn(1), Epoch(0), rows(NEW)).unwrap_err();
    let ops = sim.ops();
    drop(db);
    assert_eq!(sim.ops(), ops);
}

#[test]
fn a_disk_that_cannot_be_read_is_an_io_error() {
    let sim = at_old();
    sim.set_unreadable(FILE, true).unwrap();
    assert_eq!(Db::examine(&as_disk(&sim), FILE, Some(STORE), None).unwrap_err().code(), "io");
    assert_eq!(Db::open(&as_disk(&sim), FILE, small()).unwrap_err().code(), "io");
    sim.set_unreadable(FILE, false).unwrap();
    assert_eq!(found(&sim, "readable again"), OLD);
}

// A checkpoint larger than half the cache writes its pages early; without care it would write each of them twice.
#[test]
fn a_large_checkpoint_writes_few_pages_twice() {
    let sim = SimDisk::new();
    let disk = as_disk(&sim);
    Db::create(&disk, FILE, STORE, Epoch(0), Lsn::ZERO).unwrap();
    let paced = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let pace: Pace = {
        let paced = Arc::clone(&paced);
        Arc::new(move |bytes| {
            paced.fetch_add(bytes, Ordering::Relaxed);
            true
        })
    };
    let rows = |lsn: u64, step| {
        let row = lsn.to_string().repeat(1000);
        (0..20_000).step_by(step).map(move |i| put(Table::Mailboxes, &format!("{i:06}"), &row))
    };
    let db = Db::open(&disk, FILE, Options::default()).unwrap();
    db.apply(Lsn(1), Epoch(0), rows(1, 1)).unwrap();
    drop(db);
    let written = |cache_bytes| {
        let sim = sim.image(Persist::Nothing);
        let options = Options { cache_bytes, pace: Some(Arc::clone(&pace)) };
        let db = Db::open(&as_disk(&sim), FILE, options).unwrap();
        let bytes = db.apply(Lsn(2), Epoch(0), rows(2, 5)).unwrap().bytes;
        drop(db);
        let db = Db::open(&as_disk(&sim.image(Persist::Nothing)), FILE, small()).unwrap();
        assert_eq!(content(&db).values().filter(|row| row[0] == b'2').count(), 4000);
        bytes
    };
    let (large, little) = (written(256 << 20), written(16 << 20));
    assert!(little < large + large * 2 / 5, "{little} bytes with a small cache, {large} with a large one");
    assert!(paced.load(Ordering::Relaxed) > (large + little) / 2, "paced");
}
