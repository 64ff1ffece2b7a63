//! Files that nothing knows, and files that are not what their names say. Rows 18, 111, 128, 163.

use super::mail::{JOE, PRIMARY, Step, of, open_mail, row, seen, take, text};
use super::mend::{RECOVERED_OF_JOE, WORK, examine_as, fates, filled, place};
use super::*;
use crate::partition::bodies::Body;

// row 163: a file that nothing knows.
#[test]
fn a_strange_file_is_found_shown_in_recovered_and_kept() {
    let (machine, store) = filled();
    let (disk, place) = (machine.disk(PRIMARY), place(&store, JOE));
    let before = seen(&store, "before");
    disk.plant(&place.message(77), b"Subject: whose?\r\n\r\n").unwrap();
    for repair in [Repair::Nothing, Repair::Provable] {
        let found = fates(&examine_as(&store, JOE, repair));
        assert_eq!(found, [("unknown message file", Some(77), Fate::Unproven)], "{repair:?}");
    }
    for _again in 0..2 {
        let done = examine_as(&store, JOE, Repair::Recover);
        assert_eq!(done.leftovers.len(), 1, "as long as it was not settled");
        assert_eq!(row(&store.view(), RECOVERED_OF_JOE).unwrap().1.messages, 1, "it is shown once");
    }
    let kept = store.settle(&examine_as(&store, JOE, Repair::Recover).leftovers).unwrap();
    assert!(kept[0].contains(".quarantine/"), "{kept:?}");
    assert_eq!(fates(&examine_as(&store, JOE, Repair::Nothing)), []);
    assert_eq!(seen(&store, "after"), before, "INBOX is as it was");
    let next = row(&store.view(), JOE).unwrap().1.uidnext;
    assert!(next > 77, "{next}: a UID that a file had is not given again");
    let bytes = disk.open(&super::mend::place(&store, RECOVERED_OF_JOE).message(1), crate::disk::Access::Read).unwrap();
    assert_eq!(bytes.len().unwrap(), 19);
}

// row 163: a file under a wrong name goes to the message that lacks it.
#[test]
fn a_file_with_a_wrong_name_is_given_its_own() {
    let (machine, store) = filled();
    let (disk, place) = (machine.disk(PRIMARY), place(&store, JOE));
    let before = seen(&store, "before");
    disk.rename(&place.message(3), &place.message(900)).unwrap();
    let done = examine_as(&store, JOE, Repair::Provable);
    assert!(done.findings.iter().all(|f| f.fate == Fate::Mended), "{done:?}");
    assert_eq!((seen(&store, "after"), fates(&examine_as(&store, JOE, Repair::Nothing))), (before, vec![]));
}

// rows 18, 111: a link in the place of a directory is set aside by the checkpoint that meets it. The partition is not behind for it, nobody
// else waits, nothing behind it is touched; and a crash anywhere in that loses nothing.
#[test]
fn a_planted_link_is_the_matter_of_one_home() {
    let (machine, store) = filled();
    let (disk, place) = (machine.disk(PRIMARY), place(&store, WORK));
    assert!(take(&store, &Step::Deliver(50, 70, vec![WORK])));
    assert!(take(&store, &Step::Deliver(51, 70, vec!["user/ann/INBOX"])));
    let before = seen(&store, "before");
    disk.rename(&place.path(), "was").unwrap();
    disk.sync_dir("").and_then(|()| disk.sync_dir(place.home.path())).unwrap();
    disk.plant_symlink(&place.path(), "was").unwrap();
    let outside = disk.list("was").unwrap();
    machine.set_recording(true);
    assert!(take(&store, &Step::Checkpoint));
    assert!(store.partitions().behind().is_empty(), "{:?}", store.partitions().behind());
    let kept = disk.list(".quarantine").unwrap();
    assert!(kept.iter().any(|entry| entry.kind == crate::disk::Kind::Symlink), "{kept:?}");
    let moments = machine.take_moments();
    assert_eq!(seen(&store, "after"), before, "its bytes were with another message");
    assert_eq!(disk.list("was").unwrap(), outside);
    drop(store);
    for moment in moments.iter().step_by((moments.len() / 60).max(1)) {
        for persist in [Persist::Nothing, Persist::RandomTorn(moment.n), Persist::NamesWithoutData] {
            let what = format!("operation {} {:?} {}: {persist:?}", moment.n, moment.kind, moment.path);
            let found = moment.torn(moment.write_bytes() / 2).image(persist);
            let store = open_mail(&found).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert!(take(&store, &Step::Checkpoint), "{what}");
            assert!(store.partitions().behind().is_empty(), "{what}");
            assert_eq!(seen(&store, &what), before, "{what}");
            assert_eq!(found.disk(PRIMARY).list("was").unwrap(), outside, "{what}");
        }
    }
}

// row 128: a message that was purged since it was looked at, and that memory has forgotten by now, gets no file
#[test]
fn what_was_purged_since_it_was_looked_at_gets_no_file() {
    let (machine, store) = filled();
    let (disk, place, view) = (machine.disk(PRIMARY), place(&store, JOE), store.view());
    let (name, row) = row(&view, JOE).unwrap();
    let of_joe = store.folder(&view, name.key(), &row).unwrap();
    let sick = |uid: u32, body: Vec<u8>| Sick {
        mailbox: JOE.to_owned(),
        of: of_joe.clone(),
        uid,
        file: place.message(uid),
        body: Body::of(&body),
    };
    [1, 2].iter().for_each(|uid| disk.erase(&place.message(*uid)).unwrap());
    let all = [sick(1, text(1, 100)), sick(2, text(2, 200))];
    assert!(take(&store, &Step::Do(Command::MessagePurge { of: of(JOE, &[2]) })));
    assert!(take(&store, &Step::Checkpoint) && take(&store, &Step::Checkpoint));
    assert_eq!(store.heal(&all, true, None, &|_| Ok(())).unwrap(), [Healed::Yes, Healed::Gone]);
    assert!(disk.stat(&place.message(2)).unwrap().is_none() && disk.stat(&place.message(1)).unwrap().is_some());
    assert_eq!(disk.list(".staging").unwrap().len(), 0);
    assert_eq!(fates(&examine_as(&store, JOE, Repair::Nothing)), []);
}

// row 163: a file that nothing knows has the UID that the mailbox gives next: the checkpoint that writes that message took it away.
#[test]
fn a_stray_file_in_the_way_of_a_message_is_kept() {
    for size in [100, 5000] {
        let (machine, store) = filled();
        let (disk, place) = (machine.disk(PRIMARY), place(&store, JOE));
        let next = row(&store.view(), JOE).unwrap().1.uidnext;
        disk.plant(&place.message(next), b"Subject: whose?\r\n\r\n").unwrap();
        machine.set_recording(true);
        assert!(take(&store, &Step::Deliver(8, size, vec![JOE])));
        let acknowledged = machine.ops();
        assert!(take(&store, &Step::Checkpoint));
        let moments = machine.take_moments();
        assert_eq!(seen(&store, "after")[&(JOE.to_owned(), next)].2, text(8, size));
        let kept = disk.list(".quarantine").unwrap();
        assert_eq!(kept.len(), 1, "{kept:?}");
        assert_eq!(disk.peek(&format!(".quarantine/{}", kept[0].name)).unwrap(), b"Subject: whose?\r\n\r\n");
        assert_eq!(fates(&examine_as(&store, JOE, Repair::Nothing)), []);
        drop(store);
        for moment in moments.iter().filter(|moment| moment.n > acknowledged) {
            for persist in [Persist::Nothing, Persist::RandomTorn(moment.n), Persist::NamesWithoutData] {
                let what = format!("operation {} {:?} {}: {persist:?}", moment.n, moment.kind, moment.path);
                let found = moment.torn(moment.write_bytes() / 2).image(persist);
                let store = open_mail(&found).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert!(take(&store, &Step::Checkpoint), "{what}");
                assert_eq!(seen(&store, &what)[&(JOE.to_owned(), next)].2, text(8, size), "{what}");
                let disk = found.disk(PRIMARY);
                let kept = disk.list(".quarantine").unwrap();
                let is_it = |name: &str| disk.peek(name).unwrap() == b"Subject: whose?\r\n\r\n";
                assert!(kept.iter().any(|entry| is_it(&format!(".quarantine/{}", entry.name))), "{what}");
            }
        }
    }
}

// row 163: a repair finds a file that nothing knows, and before it moves it the mailbox gives that UID to a message, which a checkpoint writes:
// the repair took the message for the file, and moved it away.
#[test]
fn a_stray_that_became_a_message_is_left_alone() {
    for lacks in [true, false] {
        let (machine, store) = filled();
        let (disk, place) = (machine.disk(PRIMARY), place(&store, JOE));
        let next = row(&store.view(), JOE).unwrap().1.uidnext;
        let of_third = disk.peek(&place.message(3)).unwrap();
        disk.plant(&place.message(next), &of_third).unwrap();
        if lacks {
            disk.erase(&place.message(3)).unwrap();
        }
        let arrives = || assert!(take(&store, &Step::Deliver(8, 400, vec![JOE])) && take(&store, &Step::Checkpoint));
        let changes = store.put_in_place_after(place.id, arrives);
        assert_eq!(changes, Vec::<String>::new(), "without its file: {lacks}");
        assert_eq!(disk.peek(&place.message(next)).unwrap(), text(8, 400), "without its file: {lacks}");
        let kept = disk.list(".quarantine").unwrap();
        assert_eq!(kept.len(), 1, "{kept:?}");
        assert_eq!(disk.peek(&format!(".quarantine/{}", kept[0].name)).unwrap(), of_third);
    }
}
