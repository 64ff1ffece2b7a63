//! The rules of durability of the simulated disk, one by one. // row B19

use super::*;
use crate::disk::{parent, read_small, replace};

/// A file of which everything is durable.
pub(super) fn settled(disk: &SimDisk, path: &str, bytes: &[u8]) -> Arc<dyn DiskFile> {
    let file = disk.open(path, Access::CreateNew).unwrap();
    file.write_at(0, bytes).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(parent(path)).unwrap();
    file
}

pub(super) fn found(disk: &SimDisk, persist: Persist, path: &str) -> Option<Vec<u8>> {
    disk.image(persist).peek(path).ok()
}

// row B19
#[test]
fn unsynced_bytes_are_lost_and_synced_ones_are_not() {
    let disk = SimDisk::new();
    let file = settled(&disk, "f", b"old old");
    file.write_at(0, b"new").unwrap();
    file.write_at(7, b"er").unwrap();
    assert_eq!(disk.peek("f").unwrap(), b"new older");
    assert_eq!(found(&disk, Persist::Nothing, "f").unwrap(), b"old old");
    assert_eq!(found(&disk, Persist::NamesWithoutData, "f").unwrap(), b"old old");
    assert_eq!(found(&disk, Persist::Everything, "f").unwrap(), b"new older");
    assert_eq!(found(&disk, Persist::DataWithoutNames, "f").unwrap(), b"new older");
    assert_eq!(found(&disk, Persist::NewestOnly, "f").unwrap(), b"old older");
    assert_eq!(found(&disk, Persist::SizeWithoutBytes, "f").unwrap(), b"old old\0\0");
    let prefixes: std::collections::BTreeSet<_> =
        (0..50).map(|seed| found(&disk, Persist::Prefix(seed), "f").unwrap()).collect();
    assert_eq!(prefixes.into_iter().collect::<Vec<_>>(), [&b"new old"[..], b"new older", b"old old"]);
    file.sync_data().unwrap();
    assert_eq!(disk.unsynced(), 0);
    for persist in Persist::all(7) {
        assert_eq!(found(&disk, persist, "f").unwrap(), b"new older", "{persist:?}");
    }
}

// row B19
#[test]
fn a_name_needs_its_directory_synced_and_only_that() {
    let disk = SimDisk::new();
    let file = disk.open("f", Access::CreateNew).unwrap();
    file.write_at(0, b"bytes").unwrap();
    file.sync_data().unwrap();
    assert_eq!(found(&disk, Persist::Nothing, "f"), None);
    assert_eq!(found(&disk, Persist::DataWithoutNames, "f"), None);
    assert_eq!(found(&disk, Persist::NamesWithoutData, "f").unwrap(), b"bytes");
    disk.sync_dir("").unwrap();
    assert_eq!(found(&disk, Persist::Nothing, "f").unwrap(), b"bytes");

    let file = disk.open("g", Access::CreateNew).unwrap();
    file.write_at(0, b"bytes").unwrap();
    disk.sync_dir("").unwrap();
    assert_eq!(found(&disk, Persist::Nothing, "g").unwrap(), b"");
    assert_eq!(found(&disk, Persist::SizeWithoutBytes, "g").unwrap(), [0; 5]);

    disk.remove("f").unwrap();
    assert_eq!(found(&disk, Persist::Nothing, "f").unwrap(), b"bytes");
    assert_eq!(found(&disk, Persist::Everything, "f"), None);
    disk.sync_dir("").unwrap();
    assert_eq!(found(&disk, Persist::Nothing, "f"), None);
}

// row B19
#[test]
fn a_file_in_an_unsynced_directory_is_lost_with_it() {
    let disk = SimDisk::new();
    disk.create_dir("d").unwrap();
    settled(&disk, "d/f", b"bytes");
    assert_eq!(found(&disk, Persist::Nothing, "d/f"), None);
    disk.sync_dir("").unwrap();
    assert_eq!(found(&disk, Persist::Nothing, "d/f").unwrap(), b"bytes");
    disk.remove("d/f").unwrap();
    disk.remove_dir("d").unwrap();
    assert_eq!(found(&disk, Persist::Nothing, "d/f").unwrap(), b"bytes");
    disk.sync_dir("").unwrap();
    assert_eq!(disk.image(Persist::Nothing).list("").unwrap(), []);
}

// row B19
#[test]
fn a_rename_keeps_unsynced_bytes_and_is_atomic() {
    let disk = SimDisk::new();
    settled(&disk, "f", b"old");
    let file = disk.open("f.new", Access::CreateNew).unwrap();
    file.write_at(0, b"new").unwrap();
    disk.rename("f.new", "f").unwrap();
    assert_eq!(found(&disk, Persist::Nothing, "f").unwrap(), b"old");
    assert_eq!(found(&disk, Persist::Everything, "f").unwrap(), b"new");
    assert_eq!(found(&disk, Persist::NamesWithoutData, "f").unwrap(), b"");
    for seed in 0..200 {
        let image = disk.image(Persist::RandomTorn(seed));
        let names: Vec<_> = image.list("").unwrap().into_iter().map(|e| e.name).collect();
        assert!(names == ["f"] || names == ["f", "f.new"], "{names:?}");
    }
    disk.sync_dir("").unwrap();
    assert_eq!(found(&disk, Persist::Nothing, "f").unwrap(), b"");
    file.sync_data().unwrap();
    assert_eq!(found(&disk, Persist::Nothing, "f").unwrap(), b"new");
}

// row B19: the candidate-and-rename recipe of `replace` leaves the old or the new file at every crash point
#[test]
fn replace_leaves_old_or_new() {
    let first = SimDisk::new();
    replace(&first, "f", b"the old content").unwrap();
    for seed in 0..20 {
        for at in 1.. {
            let disk = first.image(Persist::Nothing);
            disk.crash_torn_at(at, seed);
            let done = replace(&disk, "f", b"newer").is_ok();
            for persist in Persist::all(seed) {
                let after = read_small(&disk.image(persist), "f", 100).unwrap();
                assert!(after == b"newer" || (!done && after == b"the old content"), "{persist:?} at {at}: {after:?}");
            }
            if done {
                assert_eq!(at, 6);
                break;
            }
        }
    }
}

// row B19: the same without one of the syncs is found out, so the disk is as weak as it should be
#[test]
fn a_forgotten_sync_shows() {
    for (skip, at_risk) in [("data", "empty or torn"), ("dir", "old after done")] {
        let disk = SimDisk::new();
        replace(&disk, "f", b"the old content").unwrap();
        let file = disk.open("f.new", Access::CreateNew).unwrap();
        file.write_at(0, b"newer").unwrap();
        if skip != "data" {
            file.sync_data().unwrap();
        }
        disk.rename("f.new", "f").unwrap();
        if skip != "dir" {
            disk.sync_dir("").unwrap();
        }
        let bad = Persist::all(3).into_iter().filter(|p| disk.image(*p).peek("f").unwrap() != b"newer").count();
        assert!(bad >= 3, "{at_risk}: {bad}");
    }
}

// row B19
#[test]
fn a_rename_between_directories_never_loses_the_file() {
    let disk = SimDisk::new();
    disk.create_dir("a").unwrap();
    disk.create_dir("b").unwrap();
    disk.sync_dir("").unwrap();
    settled(&disk, "a/f", b"x");
    settled(&disk, "b/g", b"replaced");
    disk.rename("a/f", "b/g").unwrap();
    let both = |disk: &SimDisk, persist| (found(disk, persist, "a/f"), found(disk, persist, "b/g"));
    let x = || Some(b"x".to_vec());
    let before = (x(), Some(b"replaced".to_vec()));
    assert_eq!(both(&disk, Persist::Nothing), before);
    for seed in 0..100 {
        let now = both(&disk, Persist::RandomTorn(seed));
        assert!(now == before || now == (None, x()), "{now:?}");
    }
    let saved = disk.image(Persist::Nothing);
    disk.sync_dir("b").unwrap();
    assert_eq!(both(&disk, Persist::Nothing), (x(), x()), "the old name may stay");
    assert_eq!(both(&disk, Persist::Everything), (None, x()));
    disk.sync_dir("a").unwrap();
    assert_eq!(both(&disk, Persist::Nothing), (None, x()));
    // The other directory alone brings the new name with it.
    saved.rename("a/f", "b/g").unwrap();
    saved.sync_dir("a").unwrap();
    assert_eq!(both(&saved, Persist::Nothing), (None, x()));
}

// row B19
#[test]
fn two_names_after_a_crash_are_one_file() {
    let disk = SimDisk::new();
    disk.create_dir("a").unwrap();
    disk.sync_dir("").unwrap();
    settled(&disk, "f", &[1; 5000]);
    disk.rename("f", "a/f").unwrap();
    disk.sync_dir("a").unwrap();
    let image = disk.image(Persist::Nothing);
    image.set_free_bytes(0);
    image.open("f", Access::Write).unwrap().write_at(0, b"22").unwrap();
    assert_eq!(image.peek("a/f").unwrap()[..3], [b'2', b'2', 1]);
    image.remove("f").unwrap();
    assert_eq!((image.peek("a/f").unwrap().len(), image.free_bytes().unwrap()), (5000, 0));
    image.remove("a/f").unwrap();
    assert_eq!(image.free_bytes().unwrap(), 8192);
}

// row B19
#[test]
fn a_directory_has_one_place() {
    for (old, new) in [("a", "b"), ("b", "a")] {
        let disk = SimDisk::new();
        let (from, to) = (format!("{old}/d"), format!("{new}/d"));
        for dir in ["a", "b", &from] {
            disk.create_dir(dir).unwrap();
        }
        settled(&disk, &format!("{from}/f"), b"x");
        disk.sync_dir(old).unwrap();
        disk.sync_dir("").unwrap();
        for synced in ["", old, new] {
            let fork = disk.image(Persist::Nothing);
            fork.rename(&from, &to).unwrap();
            fork.sync_dir(synced).unwrap();
            for persist in (0..20).flat_map(Persist::all) {
                let there = |dir: &str| found(&fork, persist, &format!("{dir}/f")).is_some();
                let places = (there(&from), there(&to));
                assert!(places.0 != places.1, "{places:?}");
                assert!(synced.is_empty() || places.1);
            }
        }
    }
}

// row B19: names that were used again: a surviving change never destroys a file whose own change is lost
#[test]
fn a_reused_name_has_one_history() {
    let disk = SimDisk::new();
    settled(&disk, "f", b"precious");
    disk.rename("f", "kept").unwrap();
    let file = disk.open("f", Access::CreateNew).unwrap();
    file.write_at(0, b"fresh").unwrap();
    file.sync_data().unwrap();
    for persist in (0..100).flat_map(Persist::all) {
        let image = disk.image(persist);
        let (old, new) = (image.peek("f").unwrap_or_default(), image.peek("kept").unwrap_or_default());
        assert!(old == b"precious" || new == b"precious", "{persist:?}: {old:?} {new:?}");
    }
}

// row B19
#[test]
fn torn_writes_are_cut_at_sectors_and_at_bytes() {
    let disk = SimDisk::new();
    let file = settled(&disk, "f", &[1; 4096]);
    file.write_at(100, &[2; 3000]).unwrap();
    let (mut sectors, mut bytes, mut gaps) = (0, 0, 0);
    for seed in 0..400 {
        let after = found(&disk, Persist::RandomTorn(seed), "f").unwrap();
        assert!(after.len() == 4096 && after[..100] == [1; 100] && after[3100..].iter().all(|b| *b == 1));
        let edges: Vec<usize> = (100..3099).filter(|n| after[*n] != after[n + 1]).map(|n| n + 1).collect();
        sectors += usize::from(!edges.is_empty() && edges.iter().all(|n| n.is_multiple_of(512)));
        bytes += usize::from(edges.len() == 1 && !edges[0].is_multiple_of(512));
        gaps += usize::from(edges.len() > 2);
        assert_eq!(after, found(&disk, Persist::RandomTorn(seed), "f").unwrap(), "a seed repeats");
    }
    assert!(sectors > 100 && bytes > 20 && gaps > 50, "{sectors} {bytes} {gaps}");
}

// row B19
#[test]
fn random_images_lose_the_first_write_and_keep_the_second() {
    let disk = SimDisk::new();
    let file = settled(&disk, "f", &[1; 8192]);
    file.write_at(0, &[2; 4096]).unwrap();
    file.write_at(4096, &[3; 4096]).unwrap();
    let without_first = |seed: &u64| {
        let after = found(&disk, Persist::RandomTorn(*seed), "f").unwrap();
        after[..4096] == [1; 4096] && after[4096..].contains(&3)
    };
    assert!((0..400).filter(without_first).count() > 5);
    assert_eq!(found(&disk, Persist::NewestOnly, "f").unwrap()[4095..4097], [1, 3]);
}

// row B19
#[test]
fn lengths_are_unsynced_changes_too() {
    let disk = SimDisk::new();
    let file = settled(&disk, "f", &[1; 6000]);
    file.set_len(100).unwrap();
    file.set_len(5000).unwrap();
    assert_eq!(found(&disk, Persist::Nothing, "f").unwrap(), [1; 6000]);
    file.sync_data().unwrap();
    let after = found(&disk, Persist::Nothing, "f").unwrap();
    assert!(after[..100] == [1; 100] && after[100..] == [0; 4900]);
    file.set_len(50).unwrap();
    file.write_at(60, &[7; 10]).unwrap();
    file.sync_data().unwrap();
    let after = found(&disk, Persist::Nothing, "f").unwrap();
    assert!(after[..50] == [1; 50] && after[50..60] == [0; 10] && after[60..] == [7; 10]);
}

// row B19
#[test]
fn a_second_name_needs_its_own_sync_and_is_the_same_file() {
    let disk = SimDisk::new();
    disk.create_dir("d").unwrap();
    disk.sync_dir("").unwrap();
    let file = settled(&disk, "f", b"bytes");
    disk.link("f", "d/g").unwrap();
    assert_eq!(disk.link("f", "d/g").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(disk.link("none", "d/h").unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(found(&disk, Persist::Nothing, "d/g"), None);
    disk.sync_dir("d").unwrap();
    assert_eq!(found(&disk, Persist::Nothing, "d/g").unwrap(), b"bytes");
    file.write_at(0, b"B").unwrap();
    file.sync_data().unwrap();
    disk.remove("f").unwrap();
    disk.sync_dir("").unwrap();
    assert_eq!(found(&disk, Persist::Nothing, "d/g").unwrap(), b"Bytes");
    assert_eq!(found(&disk, Persist::Everything, "f"), None);
}

// row B19
#[test]
fn a_sync_of_the_tree_is_a_sync_of_all_in_it() {
    let disk = SimDisk::new().disk("one");
    let other = disk.disk("other");
    let write = |disk: &SimDisk| {
        disk.create_dir("d").unwrap();
        disk.open("d/f", Access::CreateNew).unwrap().write_at(0, b"bytes").unwrap();
        disk.link("d/f", "g").unwrap();
    };
    write(&disk);
    write(&other);
    disk.fail_at(disk.ops() + 1, Fault::Eio);
    assert!(disk.sync_tree().is_err());
    assert_eq!(found(&disk, Persist::Nothing, "g"), None);
    disk.sync_tree().unwrap();
    for persist in Persist::all(3) {
        assert_eq!(found(&disk, persist, "d/f").unwrap(), b"bytes", "{persist:?}");
        assert_eq!(found(&disk, persist, "g").unwrap(), b"bytes", "{persist:?}");
    }
    assert_eq!(found(&other, Persist::Nothing, "g"), None, "another disk is not touched");
    disk.open("g", Access::Write).unwrap().write_at(0, b"B").unwrap();
    disk.fail_at(disk.ops() + 1, Fault::SyncDropsData);
    assert!(disk.sync_tree().is_err());
    disk.sync_tree().unwrap();
    assert_eq!(found(&disk, Persist::Everything, "d/f").unwrap(), b"bytes", "what a failed sync dropped stays so");
}
