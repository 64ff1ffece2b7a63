//! Bytes that somebody brings for messages that are there without theirs. // rows 131, B9

use super::mail::{JOE, PRIMARY, Step, open_mail, row, take, text, user};
use super::*;
use crate::disk::OpKind;
use crate::mail::{Intake, inline};
use crate::model::command::Incoming;
use crate::partition::PartitionId;
use crate::partition::bodies::{Body, compare};
use crate::partition::survey::{Depth, What};
use crate::partition::tree::{Home, Place};
use std::collections::BTreeSet;

const SIZE: usize = 3000;

/// Joe's INBOX with six messages that are too long for the log, all of them in files.
fn filled() -> (SimDisk, Arc<Store>) {
    let machine = SimDisk::new();
    let store = open_mail(&machine).unwrap();
    store.partitions().prepare(PRIMARY, PartitionId([1; 16]), Micros(1)).unwrap();
    let mut steps =
        vec![Step::Do(Command::PartitionAdd { name: PRIMARY.to_owned(), id: [1; 16] }), Step::Do(user("joe"))];
    steps.extend((1..=6).map(|n| Step::Deliver(n, SIZE, vec![JOE])));
    steps.extend([Step::Checkpoint, Step::Checkpoint]);
    for step in steps {
        assert!(take(&store, &step));
    }
    (machine, store)
}

fn place(store: &Store) -> Place {
    let view = store.view();
    let (name, row) = row(&view, JOE).unwrap();
    let of = store.folder(&view, name.key(), &row).unwrap();
    Home::parse(&of.home).unwrap().mailbox(of.mailbox)
}

fn staged(store: &Arc<Store>, n: usize) -> Arc<Incoming> {
    let mut intake = Intake::new(store, PRIMARY);
    intake.add(&text(n, SIZE)).unwrap();
    intake.finish().unwrap()
}

fn sick(store: &Store, depth: Depth, doubted: &[u32]) -> Vec<(u32, What)> {
    let doubted: BTreeSet<u32> = doubted.iter().copied().collect();
    store.sick(place(store).id, depth, &doubted).unwrap().into_iter().collect()
}

// rows 131, B9, I7: what is gone or shorter is seen at a glance, other bytes where they are doubted, were met by a reader, or are all read
#[test]
fn messages_without_their_bytes_are_told_and_get_them() {
    let (machine, store) = filled();
    let (disk, place) = (machine.disk(PRIMARY), place(&store));
    assert_eq!(sick(&store, Depth::Bytes, &[1, 2]), []);
    disk.erase(&place.message(1)).unwrap();
    disk.truncate(&place.message(2), 100).unwrap();
    [3, 4, 5].iter().for_each(|uid| disk.damage(&place.message(*uid), 40, 1).unwrap());
    let before = machine.tree_hash();
    let seen = [(1, What::FileMissing), (2, What::FileLength)];
    assert_eq!(sick(&store, Depth::Lengths, &[6]), seen);
    assert_eq!(sick(&store, Depth::Lengths, &[3]), [&seen[..], &[(3, What::FileBytes)]].concat());
    let all: Vec<(u32, What)> = [&seen[..], &[3, 4, 5].map(|uid| (uid, What::FileBytes))].concat();
    assert_eq!(sick(&store, Depth::Bytes, &[]), all);
    assert_eq!(machine.tree_hash(), before, "a look changes nothing");
    let view = store.view();
    let (name, row) = row(&view, JOE).unwrap();
    let of_joe = store.folder(&view, name.key(), &row).unwrap();
    let message = store.messages(&view, &of_joe, &row).unwrap().messages.remove(&4).unwrap();
    assert!(store.message_bytes(&view, &of_joe, &message).is_err());
    assert_eq!(sick(&store, Depth::Lengths, &[]), [&seen[..], &[(4, What::FileBytes)]].concat(), "a reader met it");
    let brought: Vec<(u32, Arc<Incoming>)> = vec![
        (1, Arc::new(inline(text(1, SIZE)))),
        (2, staged(&store, 2)),
        (3, staged(&store, 4)),
        (4, staged(&store, 4)),
        (6, staged(&store, 6)),
        (7, staged(&store, 7)),
    ];
    let given = store.give_back(place.id, &brought).unwrap();
    assert_eq!(given, [Given::Back, Given::Back, Given::Others, Given::Back, Given::Back, Given::Gone]);
    assert_eq!(sick(&store, Depth::Lengths, &[3, 4]), [(3, What::FileBytes)]);
    assert_eq!(disk.list(".staging").unwrap().len(), 0, "nothing stays staged");
    let read = store.message_bytes(&store.view(), &of_joe, &message).unwrap();
    assert_eq!(read, text(4, SIZE));
    // None of it went that stood in the place of something else.
    assert_eq!(disk.list(".quarantine").unwrap().len(), 2);
}

// rows 18, 131: bytes that were brought are in their place or not, never half of them, at every crash; what stood there has a name; and what was answered stays
#[test]
fn bytes_that_were_brought_are_there_or_not_at_every_crash() {
    let (machine, store) = filled();
    let (disk, at) = (machine.disk(PRIMARY), place(&store));
    disk.erase(&at.message(1)).unwrap();
    [2, 3].iter().for_each(|uid| disk.damage(&at.message(*uid), 40, 1).unwrap());
    let spoiled = [2, 3].map(|uid| disk.peek(&at.message(uid)).unwrap());
    let all = [1, 2, 3];
    let brought = |store: &Arc<Store>| -> Vec<(u32, Arc<Incoming>)> {
        vec![(1, Arc::new(inline(text(1, SIZE)))), (2, staged(store, 2)), (3, Arc::new(inline(text(3, SIZE))))]
    };
    machine.set_recording(true);
    assert_eq!(store.give_back(at.id, &brought(&store)).unwrap(), [Given::Back; 3]);
    let moments = machine.take_moments();
    let found = |machine: &SimDisk, uid: u32| {
        let path = at.message(uid);
        machine.disk(PRIMARY).stat(&path).unwrap().map(|_| machine.disk(PRIMARY).peek(&path).unwrap())
    };
    let good = |uid: u32| Some(text(uid as usize, SIZE));
    for persist in Persist::all(7) {
        let after = machine.image(persist);
        all.iter().for_each(|uid| assert_eq!(found(&after, *uid), good(*uid), "{persist:?}: {uid} was answered"));
    }
    drop(store);
    assert!(moments.len() > 8, "{}", moments.len());
    for moment in &moments {
        for persist in Persist::all(moment.n) {
            let what = format!("operation {} {:?} {}: {persist:?}", moment.n, moment.kind, moment.path);
            let image = moment.torn(moment.write_bytes() / 2).image(persist);
            let before = [None, Some(spoiled[0].clone()), Some(spoiled[1].clone())];
            for (uid, before) in all.into_iter().zip(before) {
                let now = found(&image, uid);
                assert!(now == before || now == good(uid), "{what}: {uid} is {now:?}");
            }
            let kept = image.disk(PRIMARY).list(".quarantine").unwrap_or_default();
            let is_kept = |bytes: &[u8]| {
                let names = kept.iter().map(|entry| format!(".quarantine/{}", entry.name));
                names.into_iter().any(|name| image.disk(PRIMARY).peek(&name).unwrap() == bytes)
            };
            for (uid, spoiled) in [2, 3].into_iter().zip(&spoiled) {
                let is_there = found(&image, uid).as_ref() == Some(spoiled) || is_kept(spoiled);
                assert!(is_there, "{what}: what stood in the place of {uid} is gone");
            }
            let store = open_mail(&image).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(store.give_back(at.id, &brought(&store)).unwrap(), [Given::Back; 3], "{what}");
            let body = |uid: u32| Body::of(&text(uid as usize, SIZE));
            let holds = |uid: u32| compare(&image.disk(PRIMARY), &at, uid, body(uid)).unwrap() == body(uid);
            assert!((1..=6).all(holds), "{what}");
            assert_eq!(image.disk(PRIMARY).list(".staging").unwrap().len(), 0, "{what}");
        }
    }
}

// A sync that fails is not asked again: the partition is away until the next start, and nobody is told that the bytes are back
#[test]
fn a_sync_that_fails_takes_the_partition_away() {
    let mut failed = 0;
    for nth in 1..30 {
        let (machine, store) = filled();
        let at = place(&store);
        machine.disk(PRIMARY).erase(&at.message(1)).unwrap();
        machine.set_trace(true);
        machine.fail_at(machine.ops() + nth, Fault::Eio);
        let given = store.give_back(at.id, &[(1, Arc::new(inline(text(1, SIZE))))]);
        let kinds = machine.op_kinds();
        let Some((OpKind::SyncTree, path)) = kinds.get(usize::try_from(nth).unwrap() - 1) else { continue };
        assert!(given.is_err(), "operation {nth}, {path}");
        assert!(store.partitions().disk(PRIMARY).is_none(), "operation {nth}, {path}");
        failed += 1;
    }
    assert_eq!(failed, 2, "two syncs, each failed once");
}
