//! The shelf on a simulated disk: what is valid, and what is not any more.

use super::*;
use crate::disk::SimDisk;
use crate::lsn::Epoch;

const STORE: StoreId = StoreId([7; 16]);

fn shelf(machine: &SimDisk) -> Shelf {
    Shelf::new(Arc::new(machine.disk("data")), "dbdata/snapshots")
}

fn draft(lsn: u64) -> Manifest {
    let (tables, files) = Default::default();
    let time = Micros(1_800_000_000_000_000 + lsn * 1000);
    Manifest { store_id: STORE, lsn: Lsn(lsn), epoch: Epoch(0), time, schema: 1, tables, files }
}

/// Puts a snapshot there whose database is a few bytes, and marks it.
fn put(shelf: &Shelf, lsn: u64) -> Result<String> {
    let manifest = draft(lsn);
    let id = id(manifest.time, manifest.lsn);
    let path = shelf.begin(&id)?;
    let file = shelf.disk.open(&path, Access::CreateNew).map_err(|e| shelf.failed("create", &path, e))?;
    file.write_at(0, b"rows").and_then(|()| file.sync_data()).map_err(|e| shelf.failed("write", &path, e))?;
    shelf.finish(&id, manifest)?;
    shelf.mark(&id, Micros(1))?;
    Ok(id)
}

// S15, rows 88, 89, 90: valid is what has both marks, and nothing that changed since.
#[test]
fn a_byte_that_changes_and_a_file_that_goes_make_it_invalid_and_are_named() {
    let machine = SimDisk::new();
    let shelf = shelf(&machine);
    let id = put(&shelf, 42).unwrap();
    assert_eq!(shelf.list().unwrap(), std::slice::from_ref(&id));
    let found = shelf.read(&id, Depth::Bytes).unwrap();
    assert!(found.valid && found.problems.is_empty() && found.lsn == Lsn(42), "{found:?}");
    for name in [DB_FILE, MANIFEST, SNAPTIME, VERIFIED] {
        let path = shelf.path(&id, name);
        let whole = disk::read_small(&*shelf.disk, &path, 1 << 20).unwrap();
        let put_back = |bytes: &[u8]| disk::replace(&*shelf.disk, &path, bytes).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            put_back(&flipped);
            let found = shelf.read(&id, Depth::Bytes).unwrap();
            assert!(!found.valid, "{name} byte {at}");
            assert!(found.problems.iter().any(|p| p.to_string().contains(name)), "{name}: {:?}", found.problems);
        }
        put_back(&whole[..whole.len() - 1]);
        assert!(!shelf.read(&id, Depth::Texts).unwrap().valid, "{name} cut");
        shelf.disk.remove(&path).unwrap();
        let found = shelf.read(&id, Depth::Texts).unwrap();
        assert!(!found.valid, "{name} gone");
        // Without the mark it is one that was not verified.
        assert_eq!(found.problems.is_empty(), name == VERIFIED, "{:?}", found.problems);
        put_back(&whole);
        assert!(shelf.read(&id, Depth::Bytes).unwrap().valid);
    }
    shelf.unmark(&id).unwrap();
    assert!(!shelf.read(&id, Depth::Bytes).unwrap().valid);
    shelf.remove(&id).unwrap();
    assert!(shelf.list().unwrap().is_empty());
    assert!(matches!(shelf.remove(&id), Err(StoreError::Refused { exit: exit::NOT_FOUND, .. })));
}

// rows 58, 97, B12: between two pieces of a file it is asked whether to go on; there it stands still, and there it ends.
#[test]
fn a_file_that_is_read_whole_is_left_in_the_middle() {
    use std::sync::Mutex;
    use std::sync::mpsc::channel;
    let machine = SimDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(machine.disk("data"));
    let bytes: Vec<u8> = (0..5 * CHUNK + 1).map(|n| (n % 251) as u8).collect();
    disk.open("long", Access::CreateNew).unwrap().write_at(0, &bytes).unwrap();
    let read = |go_on: GoOn| sum(&*disk, "long", "long", STORE, &go_on);
    let whole = read(GoOn::default()).unwrap();

    let (asks, asked) = channel();
    let (answers, answered) = channel();
    let answered = Mutex::new(answered);
    let go_on = GoOn::asking(move || {
        asks.send(()).unwrap();
        answered.lock().unwrap().recv().unwrap()
    });
    let reader = std::thread::scope(|scope| {
        let reader = scope.spawn(|| read(go_on));
        for _ in 0..3 {
            asked.recv().unwrap();
            answers.send(true).unwrap();
        }
        asked.recv().unwrap();
        // Nobody answers: it is in the middle, and goes neither on nor back.
        assert!(asked.recv_timeout(std::time::Duration::from_millis(50)).is_err() && !reader.is_finished());
        (0..3).for_each(|_| answers.send(true).unwrap());
        reader.join().unwrap().unwrap()
    });
    assert_eq!((reader.crc, reader.bytes), (whole.crc, bytes.len() as u64), "as if nothing had been");

    let left = std::sync::atomic::AtomicUsize::new(3);
    let go_on = GoOn::asking(move || left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) > 1);
    let ended = read(go_on).unwrap_err();
    assert!(matches!(&ended, StoreError::Busy { why } if why.contains("long was ended")), "{ended}");
}

#[test]
fn names_sort_by_age_and_nothing_else_is_taken_for_one() {
    let early = id(Micros(1_800_000_000_000_000), Lsn(9));
    let late = id(Micros(1_800_000_000_001_000), Lsn(10));
    assert_eq!(early, "20270115T080000.000Z-9");
    assert!(early < late && lsn_of(&late) == Some(Lsn(10)));
    for other in ["", "x", "20270115T080000.000Z", "20270115T080000.000Z-", "20270115T080000.000Z-9.new", "../etc-1"] {
        assert_eq!(lsn_of(other), None, "{other}");
    }
    let machine = SimDisk::new();
    assert!(matches!(shelf(&machine).read("../x", Depth::Texts), Err(StoreError::Refused { .. })));
}

// S15: a mark that somebody made, or took from another snapshot, makes nothing valid
#[test]
fn a_mark_that_was_made_elsewhere_vouches_for_nothing() {
    let machine = SimDisk::new();
    let shelf = shelf(&machine);
    let (one, two) = (put(&shelf, 42).unwrap(), put(&shelf, 43).unwrap());
    let read = |id: &str, file| disk::read_small(&*shelf.disk, &shelf.path(id, file), 1 << 20).unwrap();
    let write = |id: &str, file, bytes: &[u8]| disk::replace(&*shelf.disk, &shelf.path(id, file), bytes).unwrap();
    let (own, others) = (read(&one, VERIFIED), read(&two, VERIFIED));
    for mark in [&[][..], b"verified\n", &others] {
        write(&one, VERIFIED, mark);
        assert!(!shelf.read(&one, Depth::Bytes).unwrap().valid, "{:?}", mark.escape_ascii().to_string());
    }
    write(&one, VERIFIED, &own);
    assert!(shelf.read(&one, Depth::Bytes).unwrap().valid);
    // Manifest and mark of the other one, whole: the name says which it is.
    for file in [MANIFEST, SNAPTIME, VERIFIED, DB_FILE] {
        write(&one, file, &read(&two, file));
    }
    assert!(!shelf.read(&one, Depth::Bytes).unwrap().valid);
}
