//! Indexes of an older time, and what a checkpoint writes behind them. Rows 121, 126, B3; I8.

use super::mail::{JOE, PRIMARY, Step, of, open_mail, seen, take};
use super::mend::{filled, place};
use super::*;
use crate::model::command::Marks;
use crate::model::message::Flags;
use crate::partition::index::Index;

/// A store that was closed and whose directory of joe is of before some flags were set; counts are as they were.
fn put_back() -> (SimDisk, mail::Seen) {
    let (machine, store) = filled();
    let (disk, place) = (machine.disk(PRIMARY), place(&store, JOE));
    let files = [place.index(), place.home.manifest()];
    let older = files.each_ref().map(|path| disk.peek(path).unwrap());
    let add = Marks { flags: Flags::FLAGGED, ..Marks::default() };
    assert!(take(&store, &Step::Do(Command::MessageFlags { of: of(JOE, &[1, 3, 5]), add, remove: Marks::default() })));
    store.checkpoint().unwrap();
    let wanted = seen(&store, "before");
    drop(store);
    for (path, bytes) in files.iter().zip(&older) {
        disk.erase(path).unwrap();
        disk.plant(path, bytes).unwrap();
    }
    (machine, wanted)
}

fn rights(store: &Arc<Store>) {
    let (name, identifier, rights) = (JOE.to_owned(), "ann".to_owned(), "lr".to_owned());
    let set = Command::AclSet { name, identifier, rights };
    assert!(take(store, &Step::Do(set)));
}

/// What changes between the look and the checkpoint, or could not be brought up to date: a head behind it would have said that nothing is missing
/// before it, and the flags of the older time were served.
#[test]
fn a_head_is_not_written_behind_an_older_index() {
    for is_garbage in [false, true] {
        let (machine, wanted) = put_back();
        let store = open_mail(&machine).unwrap();
        let (disk, place) = (machine.disk(PRIMARY), place(&store, JOE));
        if is_garbage {
            disk.erase(&place.index()).unwrap();
            disk.plant(&place.index(), &[b'!'; 999]).unwrap();
        }
        store.trust(place.id);
        rights(&store);
        store.checkpoint().unwrap();
        let index = Index::new(&disk, store.partitions().owner(), &place).read().unwrap();
        let settled = mail::row(&store.view(), JOE).unwrap().1.highest_modseq;
        let reached = index.highest_modseq(store.checkpoint_lsn());
        assert!(!index.reading.is_whole() || reached < settled, "{is_garbage}: {reached} of {settled}");
        drop(store);
        let store = open_mail(&machine.image(Persist::Everything)).unwrap();
        assert_eq!(seen(&store, "after"), wanted, "{is_garbage}: the log has them");
    }
}

/// Whoever changes anything in such a mailbox has it brought up to date first.
#[test]
fn an_older_index_is_brought_up_to_date_before_a_checkpoint_writes_to_it() {
    let (machine, wanted) = put_back();
    let store = open_mail(&machine).unwrap();
    let (disk, place) = (machine.disk(PRIMARY), place(&store, JOE));
    rights(&store);
    store.checkpoint().unwrap();
    let index = Index::new(&disk, store.partitions().owner(), &place);
    let settled = mail::row(&store.view(), JOE).unwrap().1.highest_modseq;
    assert_eq!(index.last_modseq().unwrap(), Some(settled));
    assert!(index.reading().unwrap().is_whole());
    assert_eq!(seen(&store, "after"), wanted);
}
