//! Crashes, faults, full disks, locks, damage: the controls of the simulated machine. // row B19

use super::tests::{found, settled};
use super::*;
use crate::disk::{read_small, replace};
use std::io::ErrorKind;

fn error<T>(result: io::Result<T>) -> Errno {
    Errno::from_io_error(&result.err().expect("a failure")).expect("a system error")
}

// row B19
#[test]
fn the_nth_operation_crashes_and_all_after_it() {
    let disk = SimDisk::new();
    let other = disk.disk("other");
    let file = settled(&disk, "f", b"old");
    let lock = disk.lock("lock", "1").unwrap();
    assert_eq!(disk.ops(), 4);
    disk.crash_torn_at(5, 2);
    assert_eq!(file.write_at(0, b"new").unwrap_err().to_string(), "crashed");
    assert!(disk.is_crashed());
    assert_eq!(file.write_at(0, b"new").unwrap_err().kind(), ErrorKind::Other);
    let mut buf = [0];
    assert!(file.read_at(0, &mut buf).is_err() && file.len().is_err() && file.sync_data().is_err());
    assert!(other.open("x", Access::CreateNew).is_err() && other.list("").is_err() && disk.stat("f").is_err());
    assert!(disk.lock("lock2", "2").is_err() && disk.free_bytes().is_err());
    assert_eq!(disk.peek("f").unwrap(), b"ned");
    let image = disk.image(Persist::Everything);
    assert_eq!((image.ops(), image.peek("f").unwrap()), (0, b"ned".to_vec()));
    drop(image.lock("lock", "3").unwrap());
    drop(lock);
    // Not executed at all.
    let image = disk.image(Persist::Nothing);
    image.crash_at(1);
    assert!(image.remove("f").is_err());
    assert_eq!(image.image(Persist::Everything).peek("f").unwrap(), b"old");
}

// row B19: data, log and database disks stop at the same moment
#[test]
fn disks_of_a_machine_crash_together() {
    let data = SimDisk::new().disk("data");
    let log = data.disk("log");
    settled(&data, "same", b"data");
    settled(&log, "same", b"log");
    log.open("same", Access::Write).unwrap().write_at(0, b"LOG").unwrap();
    let image = data.image(Persist::Nothing);
    assert_eq!(
        (image.peek("same").unwrap(), image.disk("log").peek("same").unwrap()),
        (b"data".to_vec(), b"log".to_vec())
    );
    assert_eq!(data.image(Persist::Everything).disk("log").peek("same").unwrap(), b"LOG");
    assert_eq!(log.display("same"), "sim:log/same");
    assert_eq!(data.ops(), log.ops());
}

// row B19
#[test]
fn faults_at_the_nth_operation() {
    let fresh = || {
        let disk = SimDisk::new();
        let file = settled(&disk, "f", b"0000");
        (disk, file)
    };
    let (disk, file) = fresh();
    for (fault, errno) in [(Fault::Eio, Errno::IO), (Fault::NoSpace, Errno::NOSPC), (Fault::Eintr, Errno::INTR)] {
        disk.fail_at(disk.ops() + 1, fault);
        assert_eq!(error(file.write_at(0, b"1111")), errno);
        assert_eq!(disk.peek("f").unwrap(), b"0000");
    }
    file.write_at(0, b"2222").unwrap();
    for (fault, errno) in [(Fault::EioForever, Errno::IO), (Fault::NoSpaceForever, Errno::NOSPC)] {
        disk.fail_at(disk.ops() + 1, fault);
        assert_eq!((error(file.sync_data()), error(disk.remove("f"))), (errno, errno));
        assert_eq!(error(disk.open("g", Access::CreateNew)), errno);
        disk.heal();
    }
    disk.fail_at(disk.ops() + 1, Fault::ShortWrite);
    assert_eq!(error(file.write_at(0, b"3333")), Errno::IO);
    assert_eq!(disk.peek("f").unwrap(), b"3322");
    disk.fail_at(disk.ops() + 1, Fault::ShortWrite);
    file.sync_data().unwrap();
    assert_eq!(found(&disk, Persist::Nothing, "f").unwrap(), b"3322");
}

// row B19: a failed sync drops the bytes, the next one claims success
#[test]
fn a_sync_that_failed_has_dropped_the_bytes() {
    let disk = SimDisk::new();
    let file = settled(&disk, "f", b"old");
    file.write_at(0, b"new").unwrap();
    disk.fail_at(disk.ops() + 1, Fault::SyncDropsData);
    assert_eq!(error(file.sync_data()), Errno::IO);
    file.sync_data().unwrap();
    assert_eq!(disk.peek("f").unwrap(), b"new", "the page cache still shows it");
    for persist in Persist::all(1) {
        assert_eq!(found(&disk, persist, "f").unwrap(), b"old", "{persist:?}");
    }
    file.write_at(3, b"er").unwrap();
    assert_eq!(found(&disk, Persist::Everything, "f").unwrap(), b"older");
    file.sync_data().unwrap();
    assert_eq!(found(&disk, Persist::Nothing, "f").unwrap(), b"older");
}

// row B19
#[test]
fn a_full_disk_takes_what_fits() {
    let disk = SimDisk::new();
    let other = disk.disk("other");
    let file = settled(&disk, "f", &[1; 4096]);
    disk.set_free_bytes(8192);
    assert_eq!(disk.free_bytes().unwrap(), 8192);
    let failed = file.write_at(4096, &[2; 10_000]).unwrap_err();
    assert!(crate::error::is_no_space(&failed));
    assert_eq!((file.len().unwrap(), disk.free_bytes().unwrap()), (12_288, 0));
    file.write_at(0, &[3; 12_288]).unwrap();
    file.sync_data().unwrap();
    file.set_len(1 << 20).unwrap();
    assert_eq!(error(file.write_at(1 << 19, b"x")), Errno::NOSPC, "a hole needs space when it is written");
    settled(&other, "f", &[1; 100_000]);
    file.set_len(5000).unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 4096);
    // An open file keeps its space.
    disk.remove("f").unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 4096);
    drop(file);
    assert_eq!(disk.free_bytes().unwrap(), 12_288);
    assert_eq!(disk.image(Persist::Nothing).free_bytes().unwrap(), 0);
    disk.set_unbounded();
    settled(&disk, "g", &[0; 100_000]);
}

// I7
#[test]
fn a_read_only_disk_refuses_changes() {
    let disk = SimDisk::new();
    let file = settled(&disk, "f", b"x");
    let before = (disk.tree_hash(), disk.ops());
    disk.set_read_only(true);
    for refused in [
        disk.open("f", Access::Write).map(drop),
        disk.open("g", Access::CreateNew).map(drop),
        disk.remove("f"),
        disk.rename("f", "g"),
        disk.create_dir("d"),
        disk.lock("lock", "1").map(drop),
        file.write_at(0, b"y"),
        file.set_len(0),
    ] {
        assert_eq!(error(refused), Errno::ROFS);
    }
    let reader = disk.open("f", Access::Read).unwrap();
    let mut buf = [0];
    reader.read_at(0, &mut buf).unwrap();
    disk.set_read_only(false);
    assert_eq!(error(reader.write_at(0, b"y")), Errno::BADF);
    assert_eq!((disk.tree_hash(), disk.ops()), before);
    disk.set_unreadable("f", true).unwrap();
    assert_eq!(error(reader.read_at(0, &mut buf)), Errno::IO);
    assert_eq!(error(read_small(&disk.image(Persist::Nothing), "f", 9)), Errno::IO);
}

#[test]
fn locks_exclude_and_end() {
    let disk = SimDisk::new();
    let lock = disk.lock("lock", "pid 17\n").unwrap();
    let refused = disk.clone().lock("lock", "18").unwrap_err();
    assert_eq!((refused.kind(), refused.to_string().as_str()), (ErrorKind::WouldBlock, "pid 17"));
    drop(disk.image(Persist::Everything).lock("lock", "19").unwrap());
    drop(lock);
    let lock = disk.lock("lock", "18").unwrap();
    assert_eq!(disk.peek("lock").unwrap(), b"18");
    disk.remove("lock").unwrap();
    let second = disk.lock("lock", "20").unwrap();
    drop(lock);
    assert!(disk.lock("lock", "21").is_err());
    drop(second);
    assert_eq!(disk.ops(), 1, "locking is not an operation");
}

// I7: what changes the tree shows in its hash
#[test]
fn damage_helpers_and_hash() {
    let disk = SimDisk::new();
    let log = disk.disk("log");
    settled(&disk, "f", &[5; 9000]);
    let first = disk.tree_hash();
    let same = |other: &SimDisk| other.tree_hash() == first;
    assert!(same(&disk.image(Persist::Nothing)) && same(&log));
    disk.damage("f", 8999, 0x10).unwrap();
    assert!(!same(&disk));
    assert_eq!(disk.image(Persist::Nothing).peek("f").unwrap()[8999], 0x15);
    disk.damage("f", 8999, 0x10).unwrap();
    assert!(same(&disk));
    assert_eq!(disk.damage("f", 9000, 1).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    disk.truncate("f", 8999).unwrap();
    assert!(!same(&disk));
    disk.poke("f", 8999, &[5]).unwrap();
    assert!(same(&disk));
    log.plant("x", b"1").unwrap();
    assert!(!same(&disk));
    log.erase("x").unwrap();
    assert!(same(&disk));
    disk.create_dir("d").unwrap();
    assert!(!same(&disk));
    disk.plant("d/f", b"1").unwrap();
    disk.erase("d").unwrap();
    assert!(same(&disk));
    disk.lock("lock", "1").unwrap();
    assert!(!same(&disk));
    assert_eq!(disk.ops(), 5, "only the file made first and the directory");
}

#[test]
fn symbolic_links_as_on_the_real_disk() {
    let disk = SimDisk::new();
    settled(&disk, "target", b"seven b");
    disk.plant_symlink("link", "target").unwrap();
    disk.plant_symlink("dangling", "nowhere").unwrap();
    for image in [disk.clone(), disk.image(Persist::Nothing)] {
        assert_eq!(error(image.open("link", Access::Read)), Errno::LOOP);
        assert_eq!(error(image.open("link", Access::Write)), Errno::LOOP);
        assert_eq!(error(image.open("link", Access::CreateNew)), Errno::EXIST);
        assert_eq!(error(image.lock("link", "1")), Errno::LOOP);
        assert_eq!(error(image.list("link")), Errno::LOOP);
        assert_eq!(image.open("link", Access::ReadFollow).unwrap().len().unwrap(), 7);
        let entries: Vec<_> = image.list("").unwrap().into_iter().map(|e| (e.name, e.kind, e.len)).collect();
        let expected = [("dangling", Kind::Symlink, 0), ("link", Kind::Symlink, 7), ("target", Kind::File, 7)];
        assert_eq!(entries, expected.map(|(name, kind, len)| (name.to_owned(), kind, len)));
    }
}

#[test]
fn the_trace_says_what_was_done() {
    let log = SimDisk::new().disk("log");
    log.set_trace(true);
    replace(&log, "f", b"x").unwrap();
    let expected = [
        (OpKind::Create, "sim:log/f.new"),
        (OpKind::Write, "sim:log/f.new"),
        (OpKind::SyncData, "sim:log/f.new"),
        (OpKind::Rename, "sim:log/f.new -> f"),
        (OpKind::SyncDir, "sim:log/"),
    ];
    assert_eq!(log.op_kinds(), expected.map(|(kind, path)| (kind, path.to_owned())));
}

#[test]
fn files_nobody_can_reach_are_forgotten() {
    let disk = SimDisk::new();
    for n in 0..5000 {
        let file = disk.open("f", Access::CreateNew).unwrap();
        file.write_at(0, &[n as u8; 100]).unwrap();
        disk.remove("f").unwrap();
        disk.sync_dir("").unwrap();
    }
    assert!(disk.state().nodes.len() < 1100);
}

/// A store of three mebibytes: segments, a database, small files, some of it unsynced.
fn small_store() -> SimDisk {
    let disk = SimDisk::new();
    settled(&disk, "log.0000000001", &vec![0; 1 << 20]);
    settled(&disk, "spare.0", &vec![0; 1 << 20]);
    let database: Vec<u8> = (0..1 << 20).map(|n: u32| mix(n.into()) as u8).collect();
    let database = settled(&disk, "mboxlist.redb", &database);
    for n in 0..20 {
        settled(&disk, &format!("small.{n}"), &[n; 500]);
    }
    let log = disk.open("log.0000000001", Access::Write).unwrap();
    for n in 0..10u8 {
        log.write_at(4096 + u64::from(n) * 700, &[n + 1; 700]).unwrap();
        database.write_at(u64::from(n) * 40_960, &[n + 1; 4096]).unwrap();
    }
    disk.rename("small.1", "small.2").unwrap();
    disk
}

/// Shows the rate: `cargo test --release -p storedd-core images_share_pages -- --nocapture`.
#[test]
#[expect(clippy::disallowed_methods, reason = "measures real time")]
fn images_share_pages() {
    let disk = small_store();
    let start = std::time::Instant::now();
    let rounds = 500;
    for seed in 0..rounds {
        for persist in Persist::all(seed) {
            assert_eq!(disk.image(persist).stat("spare.0").unwrap().unwrap().len, 1 << 20);
        }
    }
    let per_second = (8 * rounds) as f64 / start.elapsed().as_secs_f64();
    println!("{per_second:.0} images a second");
    let image = disk.image(Persist::RandomTorn(1));
    let (theirs, ours) = (disk.state(), image.state());
    for (id, node) in &ours.nodes {
        let (Body::File(copy), Body::File(original)) = (&node.body, &theirs.nodes[id].body) else { continue };
        assert!(copy.durable.shares(&original.durable) > copy.durable.len().div_ceil(4096).saturating_sub(30));
    }
}

// row B19: a disk that lies: what reads back is right until the machine stops, and then it is not
#[test]
fn lies_show_after_a_restart() {
    let written = |fault: Fault| {
        let disk = SimDisk::new();
        let (file, other) = (settled(&disk, "f", &[1; 2048]), settled(&disk, "g", &[2; 2048]));
        disk.fail_at(disk.ops() + 1, fault);
        file.write_at(0, &[7; 1024]).unwrap();
        file.sync_data().unwrap();
        let mut bytes = [0; 1024];
        file.read_at(0, &mut bytes).unwrap();
        assert_eq!(bytes, [7; 1024], "{fault:?}: it reads back");
        other.read_at(0, &mut bytes).unwrap();
        assert_eq!(bytes, [2; 1024], "{fault:?}: so does what it fell on");
        let image = disk.image(Persist::Everything);
        (image.peek("f").unwrap(), image.peek("g").unwrap())
    };
    let (f, g) = ([1; 2048].to_vec(), [2; 2048].to_vec());
    let half = [[7; 512].to_vec(), [1; 1536].to_vec()].concat();
    let hit = [[7; 1024].to_vec(), [2; 1024].to_vec()].concat();
    assert_eq!(written(Fault::LostWrite), (f.clone(), g.clone()));
    assert_eq!(written(Fault::TornWrite), (half, g));
    assert_eq!(written(Fault::MisdirectedWrite), (f, hit));
    // A sync that lies; the next one is honest.
    let disk = SimDisk::new();
    let file = settled(&disk, "f", b"old");
    disk.fail_at(disk.ops() + 2, Fault::LyingSync);
    file.write_at(0, b"new").unwrap();
    file.sync_data().unwrap();
    assert_eq!(disk.image(Persist::Nothing).peek("f").unwrap(), b"old");
    file.sync_data().unwrap();
    assert_eq!(disk.image(Persist::Nothing).peek("f").unwrap(), b"new");
    // A file that grows has its length, and zeros.
    disk.fail_at(disk.ops() + 1, Fault::LostWrite);
    file.write_at(3, b"more").unwrap();
    file.sync_data().unwrap();
    assert_eq!(disk.image(Persist::Nothing).peek("f").unwrap(), b"new\0\0\0\0");
}
