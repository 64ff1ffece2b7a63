//! Users who move to another partition.

use super::mail::{JOE, PRIMARY, Seen, Step, take};
use super::partitions::{FAR, far_disks, open_far, with_far};
use super::*;
use crate::model::rows::{Row, UserRow};
use crate::partition::tree::{self, Home};
use std::collections::BTreeSet;

/// Joe with mail on the near partition, and the far one for him to move to.
fn before_a_move() -> (SimDisk, Arc<Store>) {
    let (machine, store) = with_far();
    assert!(take(&store, &Step::Do(super::mail::user("joe"))));
    assert!(take(&store, &Step::Deliver(1, 100, vec![JOE])));
    assert!(take(&store, &Step::Deliver(2, 3000, vec![JOE])));
    store.checkpoint().unwrap();
    (machine, store)
}

fn seen_of_joe(store: &Store, what: &str) -> Seen {
    mail::seen_in(store, &[(JOE, "joe")], what)
}

/// Where joe's messages have files: partitions and UIDs.
fn files_of_joe(machine: &SimDisk, store: &Store) -> BTreeSet<(&'static str, u32)> {
    let (_, row) = mail::row(&store.view(), JOE).unwrap();
    let user = store.view().get(Table::Users, b"joe").unwrap().unwrap();
    let home = Home::parse(&UserRow::decode(b"joe", &user).unwrap().directory).unwrap();
    let in_partition = |name: &'static str| {
        home.mailbox(row.id).uids(&machine.disk(name)).unwrap().into_iter().map(move |uid| (name, uid))
    };
    [PRIMARY, FAR].into_iter().flat_map(in_partition).collect()
}

// rows 115, 18: the sync of the record that moves a user fails. Whether he has moved is known after the next start, and not before: it was
// taken for refused, the copy went, and the record was there: he lay where nothing was.
#[test]
fn a_move_that_is_undecided_loses_nothing() {
    let (mut undecided, mut moved) = (0, BTreeSet::new());
    for later in 1..=3 {
        for persist in [Persist::Everything, Persist::Nothing] {
            let what = format!("operation {later} fails, {persist:?}");
            let (machine, store) = before_a_move();
            let before = seen_of_joe(&store, &what);
            let mut moving = store.begin_move("joe", FAR).unwrap().unwrap();
            let command = moving.copy(&mut |_, _| true).unwrap();
            machine.fail_at(machine.ops() + later, Fault::Eio);
            match store.commit(command) {
                Err(CommitError::Failed(StoreError::Poisoned { .. })) => undecided += 1,
                answer => {
                    answer.unwrap_or_else(|e| panic!("{what}: {e}"));
                    continue;
                }
            }
            moving.give_up();
            let found = machine.image(persist);
            drop(store);
            let store = open_far(&found).unwrap();
            assert_eq!(seen_of_joe(&store, &what), before, "{what}");
            store.checkpoint().unwrap();
            assert_eq!(seen_of_joe(&store, &what), before, "{what}: after a checkpoint");
            let files = files_of_joe(&found, &store);
            let lies = files.first().unwrap().0;
            assert_eq!(files, [(lies, 1), (lies, 2)].into(), "{what}: in one place");
            moved.insert(lies);
        }
    }
    assert!(undecided >= 2 && moved.len() == 2, "{undecided}, {moved:?}");
}

// row 115: a damaged message that is much longer than it was moves along as it is, and keeps nobody where he is.
#[test]
fn a_damaged_message_that_has_grown_moves_along() {
    let (machine, store) = before_a_move();
    let user = store.view().get(Table::Users, b"joe").unwrap().unwrap();
    let home = Home::parse(&UserRow::decode(b"joe", &user).unwrap().directory).unwrap();
    let path = home.mailbox(mail::row(&store.view(), JOE).unwrap().1.id).message(1);
    let disk = machine.disk(PRIMARY);
    disk.open(&path, crate::disk::Access::Write).unwrap().write_at(3 << 20, b"!").unwrap();
    let mut moving = store.begin_move("joe", FAR).unwrap().unwrap();
    let command = moving.copy(&mut |_, _| true).unwrap();
    store.commit(command).unwrap();
    store.checkpoint().unwrap();
    moving.done().unwrap();
    assert_eq!(machine.disk(FAR).peek(&path).unwrap().len(), (3 << 20) + 1);
    assert_eq!(files_of_joe(&machine, &store), [(FAR, 1), (FAR, 2)].into());
}

// rows 115, 18: the daemon was killed behind the record that moved a user, and he was deleted and purged before the next checkpoint: the
// database of before knew him where he had lain, and what lay in the new place stayed for a reconstruct to bring back.
#[test]
fn a_user_who_moved_before_a_crash_is_purged_where_he_lies() {
    for (second, persist) in [(false, Persist::Everything), (false, Persist::Nothing), (true, Persist::Everything)] {
        let what = format!("{second}, {persist:?}");
        let (machine, store) = before_a_move();
        let mut moving = store.begin_move("joe", FAR).unwrap().unwrap();
        let command = moving.copy(&mut |_, _| true).unwrap();
        store.commit(command).unwrap();
        // Nobody says that the move is done.
        let found = machine.image(persist);
        drop((moving, store));
        let mut store = open_far(&found).unwrap();
        store.sweep();
        let mut machine = found;
        if second {
            let found = machine.image(Persist::Everything);
            drop(store);
            store = open_far(&found).unwrap();
            store.sweep();
            machine = found;
        }
        assert_eq!(files_of_joe(&machine, &store).iter().filter(|(at, _)| *at == FAR).count(), 2, "{what}");
        assert!(take(&store, &Step::Do(Command::UserDelete { user: "joe".to_owned() })));
        for (name, id) in mail::tombstones(&store.view()) {
            assert!(take(&store, &Step::Do(Command::MailboxPurge { name, id, deleted_us: None })));
        }
        store.checkpoint().unwrap();
        let homes = |machine: &SimDisk| {
            let mut homes = Vec::new();
            for partition in [PRIMARY, FAR] {
                let each = &mut |home: Home| {
                    homes.push((partition, home.path().to_owned()));
                    Ok(())
                };
                tree::homes(&machine.disk(partition), each).unwrap();
            }
            homes
        };
        assert_eq!(homes(&machine), [], "{what}");
        drop(store);
        let store = open_far(&machine).unwrap();
        store.checkpoint().unwrap();
        assert_eq!(homes(&machine), [], "{what}: after a start");
        let notes = far_disks(&machine).data.list("removals").unwrap_or_default();
        assert!(notes.is_empty(), "{what}: {notes:?}");
    }
}
