//! What a look at a mailbox finds. // rows 123, 163, B9

use super::*;
use crate::partition::survey::{self, Above, Depth, Look, Survey, What};
use std::cell::Cell;

/// A mailbox with three messages (the second expunged), its mirror, their files; all durable.
fn whole() -> SimDisk {
    let disk = SimDisk::new();
    let mut all = run(5, 3);
    all.messages[1].value.state = State::Expunged;
    index(&disk, 5).write_new(&all).unwrap();
    let mut entries = Entries::default();
    entries.run(5, &all).unwrap();
    manifest(&disk).append_new(&entries).unwrap();
    for uid in 1..=3 {
        bodies::put(&disk, &place(5), uid, &text(uid), Body::of(&text(uid))).unwrap();
    }
    disk.sync_tree().unwrap();
    disk
}

fn look(disk: &SimDisk, depth: Depth) -> Survey {
    let before = disk.tree();
    let mirror = manifest(disk).mailbox(5).unwrap();
    let look = Look { disk, store: STORE.into(), depth, durable: ALL, pace: &|_| Ok(()), readers: 1, within: None };
    let survey = survey::mailbox(look, &place(5), mirror, &Above::default()).unwrap();
    assert_eq!(disk.tree(), before, "I7");
    survey
}

fn found(disk: &SimDisk, depth: Depth) -> Vec<(What, Option<u32>)> {
    look(disk, depth).findings.into_iter().map(|f| (f.what, f.uid)).collect()
}

#[test]
fn a_whole_mailbox_has_no_findings() {
    let survey = look(&whole(), Depth::Bytes);
    assert_eq!((survey.findings, survey.messages), (vec![], 3));
    assert_eq!(survey.bytes, (1..=3).map(|n| text(n).len() as u64).sum::<u64>());
}

#[test]
fn each_finding_is_found_at_its_depth() {
    type Harm = fn(&SimDisk);
    let nothing = vec![];
    let harms: [(Harm, What, Option<u32>, Depth); 11] = [
        (|d| d.erase(&place(5).index()).unwrap(), What::IndexMissing, None, Depth::Names),
        (|d| d.damage(&place(5).index(), 3, 1).unwrap(), What::IndexBad, None, Depth::Names),
        (|d| d.damage(&home().manifest(), 3, 1).unwrap(), What::MirrorBad, None, Depth::Names),
        (|d| d.erase(&home().manifest()).unwrap(), What::MirrorMissing, None, Depth::Names),
        (|d| d.erase(&place(5).message(2)).unwrap(), What::FileMissing, Some(2), Depth::Names),
        (|d| d.erase(&place(5).message(1)).unwrap(), What::FileMissing, Some(1), Depth::Names),
        (|d| d.plant(&place(5).message(9), b"x").unwrap(), What::FileUnknown, Some(9), Depth::Names),
        (|d| d.truncate(&place(5).message(3), 4).unwrap(), What::FileLength, Some(3), Depth::Lengths),
        (|d| d.damage(&place(5).message(3), 4, 1).unwrap(), What::FileBytes, Some(3), Depth::Bytes),
        (|d| d.set_unreadable(&place(5).message(3), true).unwrap(), What::FileUnreadable, Some(3), Depth::Bytes),
        (
            |d| {
                d.erase(&place(5).message(3)).unwrap();
                d.plant_symlink(&place(5).message(3), "PARTITION").unwrap();
            },
            What::FileUnreadable,
            Some(3),
            Depth::Names,
        ),
    ];
    for (harm, what, uid, from) in harms {
        for depth in [Depth::Names, Depth::Lengths, Depth::Bytes] {
            let disk = whole();
            harm(&disk);
            let expected = if depth >= from { vec![(what, uid)] } else { nothing.clone() };
            assert_eq!(found(&disk, depth), expected, "{what:?} {depth:?}");
        }
    }
}

#[test]
fn twins_that_differ_are_told_up_to_what_is_durable() {
    let disk = whole();
    let more = Run { head: headed(40, 50), messages: vec![stamped(40, message(1, 1, 50))] };
    index(&disk, 5).write(&more).unwrap();
    disk.sync_tree().unwrap();
    assert_eq!(found(&disk, Depth::Names), [(What::TwinsDiffer, Some(1))]);
    let mirror = manifest(&disk).mailbox(5).unwrap();
    let look = Look {
        disk: &disk,
        store: STORE.into(),
        depth: Depth::Names,
        durable: Lsn(39),
        pace: &|_| Ok(()),
        readers: 1,
        within: None,
    };
    let survey = survey::mailbox(look, &place(5), mirror, &Above::default()).unwrap();
    assert_eq!(survey.findings, [], "the checkpoint that writes it is under way");
    assert_eq!(survey.history.highest_modseq(ALL), 50);
}

#[test]
fn a_file_of_a_purged_message_is_left_over() {
    let disk = whole();
    let mut purged = message(3, 3, 9);
    purged.state = State::Purged;
    let last = Run { head: None, messages: vec![stamped(40, purged)] };
    index(&disk, 5).write(&last).unwrap();
    let mut entries = Entries::default();
    entries.run(5, &last).unwrap();
    manifest(&disk).append(&entries).unwrap();
    assert_eq!(found(&disk, Depth::Bytes), [(What::FileLeft, Some(3))]);
    bodies::remove(&disk, &place(5), 3).unwrap();
    assert_eq!(found(&disk, Depth::Bytes), []);
}

#[test]
fn a_survey_is_paced_and_can_be_ended() {
    let disk = whole();
    let calls = Cell::new(0);
    let pace = |_: u64| {
        calls.set(calls.get() + 1);
        if calls.get() == 2 { Err(StoreError::Busy { why: "cancelled".to_owned() }) } else { Ok(()) }
    };
    let look = Look {
        disk: &disk,
        store: STORE.into(),
        depth: Depth::Bytes,
        durable: ALL,
        pace: &pace,
        readers: 1,
        within: None,
    };
    let ended = survey::mailbox(look, &place(5), History::default(), &Above::default()).unwrap_err();
    assert!(matches!(ended, StoreError::Busy { .. }) && calls.get() == 2);
}
