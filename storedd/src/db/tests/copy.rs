//! Copies.

use super::*;
use crate::disk::{Persist, SimDisk};

fn source() -> (SimDisk, Arc<dyn Disk>, Db) {
    let sim = SimDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    Db::create(&disk, FILE, STORE, Epoch(0), Lsn::ZERO).unwrap();
    let db = Db::open(&disk, FILE, small()).unwrap();
    let rows = (0..3000).map(|i| put(Table::ALL[i / 500], &format!("{i:05}"), &i.to_string().repeat(20)));
    db.apply(Lsn(9), Epoch(2), rows).unwrap();
    (sim, disk, db)
}

#[test]
fn a_copy_is_the_moment_of_its_reader() {
    let (sim, disk, db) = source();
    let reader = db.reader().unwrap();
    db.apply(Lsn(10), Epoch(2), [put(Table::Users, "later", "row")]).unwrap();
    let before = sim.peek(FILE).unwrap();
    let mut seen = Vec::new();
    let meta = copy(&reader, &disk, "copy.redb", small(), &mut |rows| {
        seen.push(rows);
        true
    })
    .unwrap();
    assert_eq!(seen, [1024, 2048]);
    assert_eq!(&meta, reader.meta());
    assert!(sim.peek(FILE).unwrap() == before);
    let durable: Arc<dyn Disk> = Arc::new(sim.image(Persist::Nothing));
    assert_eq!(Db::examine(&durable, "copy.redb", Some(STORE), None).unwrap(), meta);
    let copied = content(&Db::open(&durable, "copy.redb", small()).unwrap());
    let mut all = content(&db);
    assert!(all.remove(&(Table::Users, b"later".to_vec())).is_some());
    assert!(copied == all);
    let e = copy(&reader, &disk, "copy.redb", small(), &mut |_| true).unwrap_err();
    assert_eq!(e.exit(), exit::EXISTS);
}

#[test]
fn a_copy_that_ends_early_leaves_nothing() {
    let (sim, disk, db) = source();
    let reader = db.reader().unwrap();
    let before = sim.tree_hash();
    let e = copy(&reader, &disk, "copy.redb", small(), &mut |rows| rows < 2000).unwrap_err();
    assert_eq!(e.code(), "busy");
    assert_eq!(sim.tree_hash(), before);
    sim.set_free_bytes(100_000);
    assert_eq!(copy(&reader, &disk, "copy.redb", small(), &mut |_| true).unwrap_err().code(), "no_space");
    assert_eq!(sim.tree_hash(), before);
}

#[test]
fn a_crash_in_a_copy_leaves_it_whole_or_absent() {
    let (sim, _, db) = source();
    drop(db);
    let sim = sim.image(Persist::Nothing);
    for n in (1..).step_by(3) {
        let machine = sim.image(Persist::Nothing);
        let disk: Arc<dyn Disk> = Arc::new(machine.clone());
        let db = Db::open(&disk, FILE, small()).unwrap();
        let reader = db.reader().unwrap();
        machine.crash_at(machine.ops() + n);
        let done = copy(&reader, &disk, "copy.redb", small(), &mut |_| true).is_ok();
        let persist = Persist::all(n)[n as usize % 8];
        let image: Arc<dyn Disk> = Arc::new(machine.image(persist));
        match Db::examine(&image, "copy.redb", Some(STORE), None) {
            Ok(meta) => assert_eq!(&meta, reader.meta(), "{n} {persist:?}"),
            Err(e) => assert!(e.code() == "missing" && !done, "{n} {persist:?}: {e}"),
        }
        if done {
            break;
        }
    }
}
