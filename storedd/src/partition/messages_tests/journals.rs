//! Indexes and manifests: bytes, damage, growth.

use super::*;
use crate::partition::manifest::Mirror;
use crate::partition::past::{Owner, Past};

// row B3: golden, these bytes exist on disks
#[test]
fn bytes_of_an_index_and_of_a_manifest() {
    let disk = SimDisk::new();
    let one = Run { head: Some(stamped(10, head(5, "user\u{1}crowe"))), messages: vec![stamped(11, message(1, 3, 2))] };
    index(&disk, 5).write_new(&one).unwrap();
    let mut entries = Entries::default();
    entries.row(Table::Users, b"crowe", &stamped(9, Some(b"row".to_vec()))).unwrap();
    entries.run(5, &one).unwrap();
    entries.gone(stamped(12, 6));
    manifest(&disk).append_new(&entries).unwrap();
    let hex = |path: &str| -> String { disk.peek(path).unwrap().iter().map(|b| format!("{b:02x}")).collect() };
    let expected = concat!(
        "5364496e6465783101000000000000000707070707070707070707070707070705000000000000000100000000000000",
        "5801000000000000000000003fa31d27a7d30200580000000b0000000000000001000000000000000100000000000000",
        "3513c8c5cbcc50620101000001000000020000000000000068020000000000000c000000030000000000000001000000",
        "000000000000000000000000cd3ceb3d814aea24410c73d34642937ddf24ccf3e8df06f383c3adac60125e8400000000",
        "a7d301006b0000000a0000000000000001000000000000000200000000000000d313d6c59ef26d7e0100000000000000",
        "000000000a000000757365720163726f7765140000003d757365722f66362f37392f3d63726f77657e310a0000007573",
        "65720163726f77651d0000000105077072696d6172791109040302010500010563726f7765036c727306000000052457",
        "6f726b0000000000"
    );
    assert_eq!(hex(&place(5).index()), expected);
    let expected = concat!(
        "53644d616e69663101000000000000000707070707070707070707070707070701000000000000000100000000000000",
        "d00100000000000000000000713c81b5a7d303000b000000090000000000000001000000000000000100000000000000",
        "7c87c5b90c9ce94801050063726f7765726f770000000000a7d30200600000000b000000000000000100000000000000",
        "0200000000000000b304bc9f93f59f9c0500000000000000010100000100000002000000000000006802000000000000",
        "0c000000030000000000000001000000000000000000000000000000cd3ceb3d814aea24410c73d34642937ddf24ccf3",
        "e8df06f383c3adac60125e8400000000a7d30100730000000a0000000000000001000000000000000300000000000000",
        "58952d864849128305000000000000000100000000000000000000000a000000757365720163726f7765140000003d75",
        "7365722f66362f37392f3d63726f77657e310a000000757365720163726f77651d0000000105077072696d6172791109",
        "040302010500010563726f7765036c7273060000000524576f726b0000000000a7d30400080000000c00000000000000",
        "01000000000000000400000000000000a244d82a36bb62640600000000000000"
    );
    assert_eq!(hex(&home().manifest()), expected);
}

#[test]
fn what_was_written_is_read() {
    let disk = SimDisk::new();
    let history = settled(&disk);
    assert!(history.reading.is_whole(), "{:?}", history.reading);
    assert_eq!((history.reading.frames, history.reading.last_lsn, history.reading.generation), (9, Lsn(31), Some(1)));
    assert_eq!(history.head, headed(31, 9));
    assert_eq!(
        states(&history),
        [(1, 11, State::Live), (2, 30, State::Expunged), (3, 13, State::Live), (4, 31, State::Live)]
    );
    let then: Vec<_> = history.at(Lsn(20)).map(|m| (m.value.uid, m.value.flags.has(Flags::SEEN))).collect();
    assert_eq!(then, [(1, false), (2, true), (3, false)], "a view of an earlier moment");
    assert_eq!(
        (history.highest_modseq(ALL), history.highest_modseq(Lsn(15)), history.highest_modseq(Lsn(1))),
        (9, 4, 0)
    );
}

// row B9: each frame is judged alone; row 121: nothing damaged is given out
#[test]
fn every_flipped_bit_of_an_index_is_noticed_and_costs_one_frame() {
    let disk = SimDisk::new();
    let good = settled(&disk);
    let path = place(5).index();
    let len = disk.peek(&path).unwrap().len() as u64;
    for at in 0..len {
        for bit in 0..8 {
            disk.damage(&path, at, 1 << bit).unwrap();
            let found = index(&disk, 5).read().unwrap();
            assert!(!found.reading.is_whole(), "byte {at} bit {bit}");
            let lost = good.reading.frames - found.reading.frames;
            assert!(lost <= 1 && (lost == 1 || at < 64), "byte {at} bit {bit}: {lost} frames lost");
            assert!(found.messages.iter().all(|m| good.messages.contains(m)), "byte {at} bit {bit}: made up");
            let run = Run { head: None, messages: vec![stamped(40, message(5, 5, 10))] };
            if found.reading.bad_end || at < 64 {
                assert!(matches!(index(&disk, 5).write(&run), Err(AppendError::Unsound(_))), "byte {at} bit {bit}");
            }
            disk.damage(&path, at, 1 << bit).unwrap();
        }
    }
    assert_eq!(index(&disk, 5).read().unwrap(), good);
}

// row B9
#[test]
fn every_truncation_of_an_index_is_noticed() {
    let disk = SimDisk::new();
    let good = settled(&disk);
    let path = place(5).index();
    let bytes = disk.peek(&path).unwrap();
    let mut boundaries = 0;
    for cut in 0..bytes.len() {
        disk.plant(&path, &bytes[..cut]).unwrap();
        let found = index(&disk, 5).read().unwrap();
        assert!(found.messages.iter().all(|m| good.messages.contains(m)), "cut at {cut}");
        if found.reading.is_whole() {
            // Between two frames: nothing in the file can tell, but what the mailbox is known to have reached.
            boundaries += 1;
            assert!(found.highest_modseq(ALL) < good.highest_modseq(ALL), "cut at {cut}");
        } else {
            let run = Run { head: None, messages: vec![stamped(40, message(5, 5, 10))] };
            assert!(matches!(index(&disk, 5).write(&run), Err(AppendError::Unsound(_))), "cut at {cut}");
        }
    }
    assert_eq!(boundaries, good.reading.frames);
}

// row B3: a frame that one of the twins lost is in the other
#[test]
fn damaged_twins_make_one_whole_mailbox() {
    let disk = SimDisk::new();
    let good = settled(&disk);
    let mut entries = Entries::default();
    entries.run(5, &Run { head: good.head.clone(), messages: good.messages.clone() }).unwrap();
    entries.run(6, &run(6, 2)).unwrap();
    manifest(&disk).append_new(&entries).unwrap();
    disk.sync_tree().unwrap();
    let (path, mirror) = (place(5).index(), home().manifest());
    let lengths = [&path, &mirror].map(|p| disk.peek(p).unwrap().len() as u64);
    let mut seed = 1u64;
    let mut below = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    let (mut both, mut rounds) = (0, 0);
    for _ in 0..400 {
        let fork = disk.image(Persist::Nothing);
        for (path, len) in [(&path, lengths[0]), (&mirror, lengths[1])] {
            for _ in 0..below(3) {
                fork.damage(path, below(len), 1 << below(8)).unwrap();
            }
        }
        let (mut found, twin) = (index(&fork, 5).read().unwrap(), manifest(&fork).mailbox(5).unwrap());
        let union: BTreeSet<_> = found.messages.iter().chain(&twin.messages).map(|m| (m.value.uid, m.lsn)).collect();
        let complete = union.len() == good.messages.len();
        found.merge(twin);
        assert!(found.messages.iter().all(|m| good.messages.contains(m)));
        assert_eq!(complete, found.messages == good.messages);
        both += u64::from(!complete);
        rounds += 1;
    }
    assert!(both * 10 < rounds, "{both} of {rounds}: only what both lost is lost");
}

// row 154: another store's, another mailbox's and a newer index are refused and left as they are
#[test]
fn those_of_others_count_nothing_and_newer_ones_are_refused() {
    let disk = SimDisk::new();
    settled(&disk);
    let bytes = disk.peek(&place(5).index()).unwrap();
    let other = Index::new(&disk, StoreId([8; 16]), &place(5));
    let found = other.read().unwrap();
    assert!(found.messages.is_empty() && found.head.is_none() && found.reading.is_damaged(Lsn::ZERO));
    assert_eq!(found.reading.problem(), format!("a file of store {STORE}"));
    disk.create_dir(&place(6).path()).unwrap();
    disk.plant(&place(6).index(), &bytes).unwrap();
    let found = index(&disk, 6).read().unwrap();
    assert!(found.messages.is_empty() && found.reading.problem() == "the file of number 5, not of 6");
    let mut newer = bytes.clone();
    newer[8] = 2;
    let crc = crate::checksum::Crc::seeded(b"SdIndex1").add(&newer[..60]).value();
    newer[60..64].copy_from_slice(&crc.to_le_bytes());
    disk.plant(&place(5).index(), &newer).unwrap();
    assert!(matches!(index(&disk, 5).read(), Err(StoreError::Foreign { what: "format version", .. })));
    let more = Run { head: None, messages: vec![stamped(40, message(5, 5, 10))] };
    assert!(matches!(index(&disk, 5).write(&more), Err(AppendError::Failed(StoreError::Foreign { .. }))));
    assert!(matches!(
        index(&disk, 5).rewrite(&History::default(), ALL, &|_| Ok(true)),
        Err(StoreError::Foreign { .. })
    ));
    assert_eq!(disk.peek(&place(5).index()).unwrap(), newer);
}

#[test]
fn a_rewrite_shows_every_moment_that_is_kept() {
    let disk = SimDisk::new();
    let mut history = settled(&disk);
    let mut purged = message(3, 3, 11);
    purged.state = State::Purged;
    history.messages.push(stamped(32, purged));
    history.sort();
    // By its modseq it is known that nothing newer is missing.
    index(&disk, 5).rewrite(&history, ALL, &|_| Ok(false)).unwrap();
    assert_eq!(states(&index(&disk, 5).read().unwrap()).len(), 4, "purged, and the newest change");
    history.messages.push(stamped(33, message(4, 4, 12)));
    history.sort();
    let moments = |history: &History, at: u64| history.at(Lsn(at)).cloned().collect::<Vec<_>>();
    let size = index(&disk, 5).rewrite(&history, Lsn(20), &|_| Ok(false)).unwrap();
    let kept = index(&disk, 5).read().unwrap();
    assert_eq!((size.generation, size.base, kept.reading.generation), (3, size.len, Some(3)));
    assert!(kept.reading.is_whole());
    for at in 20..40 {
        assert_eq!(moments(&kept, at), moments(&history, at), "at {at}");
    }
    index(&disk, 5).rewrite(&history, ALL, &|uid| Ok(uid != 3)).unwrap();
    let newest = index(&disk, 5).read().unwrap();
    assert_eq!(states(&newest).iter().map(|m| m.0).collect::<Vec<_>>(), [1, 2, 4], "purged and gone");
    index(&disk, 5).rewrite(&history, ALL, &|_| Ok(true)).unwrap();
    assert_eq!(states(&index(&disk, 5).read().unwrap()).len(), 4, "purged, its file still there");
    let more = Run { head: None, messages: vec![stamped(40, message(5, 5, 10))] };
    let size = index(&disk, 5).write(&more).unwrap();
    assert!(size.len > size.base && !size.is_overgrown(0) && size.is_overgrown(0) == (size.len > 2 * size.base));
}

/// Going back, an adoption and the return of a mailbox raise its modseq without a message. Rows 120, B3.
#[test]
fn a_journal_that_is_made_anew_knows_how_far_it_reached() {
    let disk = SimDisk::new();
    let mut history = settled(&disk);
    history.take_head(headed(25, 12).unwrap());
    history.take_head(headed(40, 20).unwrap());
    history.messages.push(stamped(40, message(5, 5, 20)));
    history.sort();
    let past = Past::default();
    let owner = Owner { store: STORE, past: &past };
    let (index, manifest) = (Index::new(&disk, owner, &place(5)), Manifest::new(&disk, owner, &home()));
    let anew = |keep_from: u64| {
        index.rewrite(&history, Lsn(keep_from), &|_| Ok(true)).unwrap();
        let mirrored = |mirror: &mut Mirror<'_, '_>| mirror.put(5, &history);
        manifest.rewrite(&MirroredRows::new(), Lsn(keep_from), &mut { mirrored }).unwrap();
        [index.read().unwrap(), manifest.mailbox(5).unwrap()]
    };
    let reached = |history: &History, at: u64| history.highest_modseq(Lsn(at));
    for found in anew(40) {
        assert_eq!(found.head, history.head);
        assert_eq!(
            [10, 20, 28, 40].map(|at| reached(&found, at)),
            [4, 8, 12, 20],
            "nobody knows which moments are kept"
        );
        assert_eq!(found.at(Lsn(20)).collect::<Vec<_>>(), history.at(Lsn(20)).collect::<Vec<_>>());
    }
    past.keep(vec![Lsn(28)]);
    for found in anew(32) {
        assert_eq!([28, 32, 40].map(|at| reached(&found, at)), [12, 12, 20], "a moment somebody may go back to");
        assert_eq!(found.at(Lsn(28)).collect::<Vec<_>>(), history.at(Lsn(28)).collect::<Vec<_>>());
        assert_eq!(found.older.len(), 2, "LSN 25, and 31, from which on all is kept");
    }
    // Whoever has lost something says nothing of what came before it.
    history.reached.clear();
    index.rewrite(&history, Lsn(32), &|_| Ok(true)).unwrap();
    assert!(index.read().unwrap().older.is_empty());
}

#[test]
fn frames_of_any_length_are_followed() {
    let disk = SimDisk::new();
    let mut long = run(5, 1);
    let acl = (0..3000).map(|n| (format!("user{n:0>60}"), "lrswi".to_owned())).collect();
    long.head.as_mut().unwrap().value.row.acl = acl;
    index(&disk, 5).write_new(&run(5, 1)).unwrap();
    long.messages.clear();
    index(&disk, 5).write(&long).unwrap();
    index(&disk, 5).write(&run(5, 2)).unwrap();
    for _ in 0..3 {
        index(&disk, 5).write(&long).unwrap();
    }
    let found = index(&disk, 5).read().unwrap();
    assert!(found.reading.is_whole() && found.reading.frames == 2 + 1 + 3 + 3, "{:?}", found.reading);
    let huge = "x".repeat(2000);
    let acl = (0..1000).map(|n| (format!("{n}{huge}"), String::new())).collect();
    long.head.as_mut().unwrap().value.row.acl = acl;
    assert!(index(&disk, 5).write(&long).is_err(), "longer than a frame may be");
    assert_eq!(index(&disk, 5).read().unwrap(), found);
}

#[test]
fn a_manifest_knows_rows_and_mailboxes() {
    let disk = SimDisk::new();
    let mut entries = Entries::default();
    entries.row(Table::Users, b"crowe", &stamped(5, Some(b"one".to_vec()))).unwrap();
    entries.row(Table::Subscriptions, b"crowe\x02b", &stamped(5, Some(b"two".to_vec()))).unwrap();
    entries.run(5, &run(5, 3)).unwrap();
    entries.run(6, &run(6, 1)).unwrap();
    manifest(&disk).append_new(&entries).unwrap();
    let mut more = Entries::default();
    more.row(Table::Users, b"crowe", &stamped(20, Some(b"three".to_vec()))).unwrap();
    more.row(Table::Subscriptions, b"crowe\x02b", &stamped(20, None)).unwrap();
    more.gone(stamped(21, 6));
    manifest(&disk).append(&more).unwrap();
    assert_eq!(manifest(&disk).mailboxes().unwrap(), [(5, None), (6, Some(stamped(21, 6)))].into());
    let gone = manifest(&disk).mailbox(6).unwrap();
    assert!(gone.messages.is_empty() && gone.head.is_none());
    assert_eq!(states(&manifest(&disk).mailbox(5).unwrap()).len(), 3);
    let (rows, reading) = manifest(&disk).rows().unwrap();
    assert!(reading.is_whole());
    assert_eq!(rows[&(Table::Users, b"crowe".to_vec())], stamped(20, Some(b"three".to_vec())));
    assert_eq!(rows[&(Table::Subscriptions, b"crowe\x02b".to_vec())].value, None);
    let history = manifest(&disk).mailbox(5).unwrap();
    manifest(&disk).rewrite(&rows, Lsn(u64::MAX), &mut |mirror| mirror.put(5, &history)).unwrap();
    let (again, _) = manifest(&disk).rows().unwrap();
    assert_eq!(again.len(), 1, "a row that is gone is not written again");
    assert_eq!(states(&manifest(&disk).mailbox(5).unwrap()), states(&history));
    assert!(entries.row(Table::Users, b"k", &stamped(1, Some(Vec::new()))).is_err());
}

// row B9
#[test]
fn every_flipped_bit_of_a_manifest_is_noticed() {
    let disk = SimDisk::new();
    let mut entries = Entries::default();
    entries.row(Table::Users, b"crowe", &stamped(5, Some(b"one".to_vec()))).unwrap();
    entries.run(5, &run(5, 2)).unwrap();
    entries.gone(stamped(21, 6));
    manifest(&disk).append_new(&entries).unwrap();
    disk.sync_tree().unwrap();
    let good = manifest(&disk).mailbox(5).unwrap();
    let path = home().manifest();
    for at in 0..disk.peek(&path).unwrap().len() as u64 {
        for bit in 0..8 {
            disk.damage(&path, at, 1 << bit).unwrap();
            let (rows, reading) = manifest(&disk).rows().unwrap();
            let found = manifest(&disk).mailbox(5).unwrap();
            assert!(!reading.is_whole() && reading.frames + 1 >= good.reading.frames, "byte {at} bit {bit}");
            assert!(found.messages.iter().all(|m| good.messages.contains(m)) && rows.len() <= 1, "byte {at} bit {bit}");
            disk.damage(&path, at, 1 << bit).unwrap();
        }
    }
}
