//! A database that is lost comes back from partitions and log, with everything; what is lost for good is said. // rows 46, 48, 120, 126, B3

use super::mail::{PRIMARY, Step, open_mail, steps, take};
use super::mirror::changes;
use super::*;
use crate::model::keys::split;
use crate::model::rows::{MailboxRow, Row};
use crate::model::{Rows, Table};
use crate::partition::PartitionId;
use crate::partition::tree::{self, Home};
use crate::store::adopt::{Reconciled, Wanted};
use std::collections::BTreeSet;
use std::ops::{Bound, ControlFlow};

/// Every row that a database has, and every message of every mailbox with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct World {
    pub(super) rows: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    pub(super) messages: BTreeMap<(u64, u32), (String, Vec<u8>)>,
}

pub(super) fn world(store: &Store) -> World {
    let view = store.view();
    let (mut rows, mut messages) = (BTreeMap::new(), BTreeMap::new());
    for table in Table::ALL {
        view.scan(table, Bound::Unbounded, &mut |key, row| {
            rows.insert((table, key.to_vec()), row.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    for ((_, key), row) in rows.iter().filter(|((table, _), _)| *table == Table::Mailboxes) {
        let row = MailboxRow::decode(key, row).unwrap();
        let of = store.folder(&view, key, &row).unwrap();
        let listed = store.messages(&view, &of, &row).unwrap();
        let live = listed.messages.values().filter(|m| m.is_live());
        assert_eq!(
            (live.clone().count() as u64, live.map(|m| m.size).sum::<u64>()),
            (row.messages, row.bytes),
            "{row:?}"
        );
        for (uid, message) in listed.messages {
            let bytes = store.message_bytes(&view, &of, &message).unwrap();
            let state = format!("{:?} {:?} {} {}", message.state, message.flags, message.modseq, message.internal_us);
            messages.insert((row.id, uid), (state, bytes));
        }
    }
    World { rows, messages }
}

/// Without what a loss without proof of the end may move: UIDNEXT and modification sequence.
pub(super) fn without_marks(mut world: World) -> World {
    for ((table, key), bytes) in &mut world.rows {
        if *table == Table::Mailboxes {
            let row = MailboxRow::decode(key, bytes).unwrap();
            *bytes = MailboxRow { uidnext: 1, highest_modseq: 1, ..row }.encode().unwrap();
        }
        if *table == Table::Past && split(key).is_some() {
            bytes.clear();
        }
    }
    world
}

pub(super) fn begin(machine: &SimDisk) -> Arc<Store> {
    let store = open_mail(machine).unwrap();
    store.partitions().prepare(PRIMARY, PartitionId([1; 16]), Micros(1)).unwrap();
    store
}

pub(super) fn all() -> Vec<Step> {
    steps().into_iter().chain(changes()).collect()
}

fn everything(dry_run: bool) -> Wanted<'static> {
    Wanted { dry_run, mailboxes: &|_| true, users: true, is_up_to_date: false }
}

/// What a job does.
pub(super) fn reconcile_all(store: &Arc<Store>, dry_run: bool) -> Reconciled {
    if !store.view().contains(Table::Partitions, PRIMARY.as_bytes()).unwrap() {
        let id = store.partitions().prepare(PRIMARY, PartitionId([9; 16]), Micros(1)).unwrap();
        store.commit(Command::PartitionAdd { name: PRIMARY.to_owned(), id: id.0 }).unwrap();
    }
    let mut all = Reconciled::default();
    let mut homes = store.homes(PRIMARY).unwrap();
    for _ in 0..2 {
        let mut deferred = Vec::new();
        for home in homes {
            let done = store.reconcile(PRIMARY, &home, everything(dry_run)).unwrap();
            if done.is_deferred {
                deferred.push(home);
            }
            all.checked += done.checked;
            all.changes.extend(done.changes);
            all.findings.extend(done.findings);
            all.strangers.extend(done.strangers);
        }
        homes = deferred;
    }
    all
}

pub(super) fn lose(machine: &SimDisk, what: &[&str]) {
    for place in what {
        let disk = machine.disk(place);
        for entry in disk.list("").unwrap() {
            if entry.kind == crate::disk::Kind::File {
                disk.remove(&entry.name).unwrap();
            }
        }
        disk.sync_dir("").unwrap();
    }
}

pub(super) fn lose_journals(machine: &SimDisk, indexes: bool, manifests: bool) {
    let disk = machine.disk(PRIMARY);
    tree::homes(&disk, &mut |home: Home| {
        if manifests {
            disk.remove(&home.manifest()).unwrap();
        }
        for place in tree::mailboxes(&disk, &home)? {
            if indexes {
                disk.remove(&place.index()).unwrap();
            }
        }
        Ok(())
    })
    .unwrap();
    disk.sync_tree().unwrap();
}

fn stop(machine: &SimDisk, store: Arc<Store>, is_clean: bool) -> SimDisk {
    if is_clean {
        store.close().unwrap();
    }
    drop(store);
    machine.clone()
}

/// What was there before, what is there after, and what was done.
fn lost_and_found(is_clean: bool, lose_it: &dyn Fn(&SimDisk)) -> (World, World, Reconciled, Arc<Store>, SimDisk) {
    let machine = SimDisk::new();
    let store = begin(&machine);
    assert!(all().iter().all(|step| take(&store, step)));
    let before = world(&store);
    let machine = stop(&machine, store, is_clean);
    lose_it(&machine);
    let store = open_mail(&machine).unwrap();
    let done = reconcile_all(&store, false);
    let after = world(&store);
    (before, after, done, store, machine)
}

// rows 48, 111
#[test]
fn a_disk_that_comes_between_registering_and_looking_is_awaited() {
    use crate::jobs::reconstruct::{Scope, run};
    use crate::jobs::registry::Context;
    let machine = SimDisk::new();
    let store = begin(&machine);
    assert!(all().iter().all(|step| take(&store, step)));
    let machine = stop(&machine, store, true);
    lose(&machine, &["db", "log"]);
    let store = open_mail(&machine).unwrap();
    let home = store.homes(PRIMARY).unwrap().remove(0);
    assert!(matches!(store.reconcile(PRIMARY, &home, everything(false)), Err(StoreError::Busy { .. })));
    let done = run(&store, &Scope { jobs: 1, ..Scope::default() }, &Context::idle()).unwrap();
    assert!(done.away.contains(PRIMARY) && !done.is_complete(), "{done:?}");
    assert_eq!((done.changes_total, store.due().is_due()), (0, true));
    // A plan needs no row.
    let plan = run(&store, &Scope { jobs: 1, dry_run: true, ..Scope::default() }, &Context::idle()).unwrap();
    assert!(plan.changes_total > 0 && plan.is_complete(), "{plan:?}");
    // A home that does not read holds up no other; it may read soon, and that is said, for the partition is there.
    let id = store.partitions().prepare(PRIMARY, PartitionId([9; 16]), Micros(1)).unwrap();
    store.commit(Command::PartitionAdd { name: PRIMARY.to_owned(), id: id.0 }).unwrap();
    let (disk, manifest) = (machine.disk(PRIMARY), store.homes(PRIMARY).unwrap().pop().unwrap().manifest());
    disk.rename(&manifest, "aside").unwrap();
    disk.create_dir(&manifest).unwrap();
    let done = run(&store, &Scope { jobs: 1, ..Scope::default() }, &Context::idle()).unwrap();
    assert!(done.failed == 1 && done.away.is_empty() && done.is_hindered && !done.is_complete(), "{done:?}");
    disk.remove_dir(&manifest).unwrap();
    disk.rename("aside", &manifest).unwrap();
    let done = run(&store, &Scope { jobs: 1, ..Scope::default() }, &Context::idle()).unwrap();
    assert!(done.is_complete() && !done.is_hindered, "{done:?}");
}

fn differences(before: &World, after: &World) -> Vec<String> {
    let mut found = Vec::new();
    let keys: BTreeSet<_> = before.rows.keys().chain(after.rows.keys()).collect();
    for key in keys {
        let (a, b) = (before.rows.get(key), after.rows.get(key));
        if a != b {
            let shown = |row: Option<&Vec<u8>>| {
                row.map_or("none".to_owned(), |row| {
                    crate::model::rows::json(key.0, &key.1, row).unwrap_or_else(|_| "?".to_owned())
                })
            };
            found.push(format!("{:?} {:?}: {} -> {}", key.0, String::from_utf8_lossy(&key.1), shown(a), shown(b)));
        }
    }
    let keys: BTreeSet<_> = before.messages.keys().chain(after.messages.keys()).collect();
    for key in keys {
        let (a, b) = (before.messages.get(key), after.messages.get(key));
        if a != b {
            found.push(format!("message {key:?}: {:?} -> {:?}", a.map(|m| &m.0), b.map(|m| &m.0)));
        }
    }
    found
}

pub(super) fn assert_same(before: &World, after: &World, what: &str) {
    let found = differences(before, after);
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn a_lost_database_comes_back_from_partitions() {
    // Stopped cleanly: whatever else is lost, one twin proves all of it.
    for (what, indexes, manifests, log) in [
        ("database", false, false, false),
        ("database and indexes", true, false, false),
        ("database and log", false, false, true),
        ("database, indexes and log", true, false, true),
    ] {
        let (before, after, done, store, machine) = lost_and_found(true, &|machine| {
            lose(machine, &["db"]);
            lose_journals(machine, indexes, manifests);
            if log {
                lose(machine, &["log"]);
            }
        });
        assert_same(&before, &after, what);
        assert!(done.findings.is_empty(), "{what}: {:?}", done.findings);
        assert!(done.strangers.is_empty(), "{what}");
        store.checkpoint().unwrap();
        super::mirror::assert_mirrored(&store, &machine, what);
        assert_same(&before, &world(&store), what);
        let again = reconcile_all(&store, false);
        assert_eq!(again.changes, [], "{what}: a second run changes nothing");
        store.adoption_done(&[], 0).unwrap();
        drop(store);
        let store = open_mail(&machine).unwrap();
        assert!(!store.due().is_due());
        assert_same(&before, &world(&store), what);
    }
}

#[test]
fn what_only_the_log_knows_is_brought_back_too() {
    let (before, after, done, store, machine) = lost_and_found(false, &|machine| lose(machine, &["db"]));
    assert_same(&before, &after, "killed");
    assert!(done.findings.is_empty(), "{:?}", done.findings);
    assert!(!before.messages.is_empty());
    store.checkpoint().unwrap();
    super::mirror::assert_mirrored(&store, &machine, "killed");
    assert_same(&before, &world(&store), "after a checkpoint");
}

#[test]
fn without_the_log_what_came_after_the_last_checkpoint_is_lost_and_its_uids_are_skipped() {
    let machine = SimDisk::new();
    let store = begin(&machine);
    let steps = all();
    assert!(steps.iter().all(|step| take(&store, step)));
    store.checkpoint().unwrap();
    let before = world(&store);
    assert!(take(&store, &Step::Deliver(9, 200, vec!["user/joseph/INBOX"])));
    drop(store);
    lose(&machine, &["db", "log"]);
    let store = open_mail(&machine).unwrap();
    reconcile_all(&store, false);
    let after = world(&store);
    assert_same(&without_marks(before.clone()), &without_marks(after), "but for marks");
    let name = crate::model::MailboxName::parse("user/joseph/INBOX").unwrap();
    let uidnext = |world: &World| {
        MailboxRow::decode(name.key(), &world.rows[&(Table::Mailboxes, name.key().to_vec())]).unwrap().uidnext
    };
    assert!(uidnext(&world(&store)) > uidnext(&before) + 1000);
}

fn read(machine: &SimDisk, path: &str) -> Vec<u8> {
    let file = machine.open(path, crate::disk::Access::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

// row 46: mailboxes and users made after the copy of the database come back, those deleted after it go, those renamed have their new names
#[test]
fn a_database_of_the_past_learns_what_came_after_it() {
    let machine = SimDisk::new();
    let store = begin(&machine);
    let (before, after): (Vec<Step>, Vec<Step>) = (steps(), changes());
    assert!(before.iter().all(|step| take(&store, step)));
    store.checkpoint().unwrap();
    drop(store);
    let store = open_mail(&machine).unwrap();
    store.checkpoint().unwrap();
    let old = read(&machine.disk("db"), "mboxlist.redb");
    assert!(after.iter().all(|step| take(&store, step)));
    let before = world(&store);
    store.close().unwrap();
    drop(store);
    lose(&machine, &["db", "log"]);
    let disk = machine.disk("db");
    let file = disk.open("mboxlist.redb", crate::disk::Access::CreateNew).unwrap();
    file.write_at(0, &old).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir("").unwrap();
    let store = open_mail(&machine).unwrap();
    assert!(store.due().is_due());
    let planned = reconcile_all(&store, true);
    assert!(planned.changes.len() > 5, "{planned:?}");
    let done = reconcile_all(&store, false);
    assert_same(&without_past(before), &without_past(world(&store)), "of the past");
    assert!(done.findings.is_empty(), "{:?}", done.findings);
    store.checkpoint().unwrap();
    assert_eq!(reconcile_all(&store, false).changes, [], "a second run changes nothing");
}

/// Without when mailboxes were deleted and what names stood for beside: a user who is renamed again leaves names again.
fn without_past(mut world: World) -> World {
    world.rows.retain(|(table, _), _| *table != Table::Past);
    world
}

// rows 18, 20, 21: an adoption may end anywhere; the next start goes on with it, and the end is the same
#[test]
fn every_crash_of_an_adoption_leaves_one_that_is_finished() {
    let machine = SimDisk::new();
    let store = begin(&machine);
    assert!(all().iter().all(|step| take(&store, step)));
    let before = world(&store);
    drop(store);
    lose(&machine, &["db"]);
    lose_journals(&machine, true, false);
    machine.set_recording(true);
    finish(&machine, &before, "without a crash");
    let moments = machine.take_moments();
    let (mut states, step) = (0, (moments.len() / 60).max(1));
    for moment in moments.iter().step_by(step) {
        for persist in [Persist::Nothing, Persist::RandomTorn(moment.n), Persist::NamesWithoutData] {
            let what = format!("operation {} {:?} {}: {persist:?}", moment.n, moment.kind, moment.path);
            let found = moment.torn(moment.write_bytes() / 2).image(persist);
            // And once more, somewhere in what the next start does.
            found.set_recording(true);
            finish(&found, &before, &what);
            let again = found.take_moments();
            if let Some(second) = again.get(usize::try_from(moment.n).unwrap() * 7 % again.len().max(1)) {
                let what = format!("{what}, then operation {} {:?} {}", second.n, second.kind, second.path);
                finish(&second.image(Persist::RandomTorn(second.n)), &before, &what);
            }
            states += 1;
        }
    }
    assert!(states > 120, "{states}");
}

fn finish(machine: &SimDisk, before: &World, what: &str) {
    let store = open_mail(machine).unwrap_or_else(|e| panic!("{what}: {e}"));
    let done = reconcile_all(&store, false);
    assert!(done.findings.is_empty(), "{what}: {:?}", done.findings);
    assert_same(before, &world(&store), what);
    store.adoption_done(&[], 0).unwrap_or_else(|e| panic!("{what}: {e}"));
    drop(store);
}

// rows 46, 120: whoever is asked for comes first with the directories that are his, and with nobody else's: neither that of a user whose name his
// begins with, be it in the same directory, nor one whose long name is cut to the same letters, nor one of which only the log speaks
#[test]
fn a_home_is_that_of_the_whole_name() {
    use crate::model::user::{UserId, directory};
    let bucket = |user: &str| directory(&UserId::parse(user).unwrap(), 1).rsplit_once('/').unwrap().0.to_owned();
    let beside_bob = (0..).map(|n| format!("bob{n}")).find(|user| bucket(user) == bucket("bob")).unwrap();
    let long = ["a", "b"].map(|end| format!("{}{end}", "x".repeat(210)));
    let users = ["bob", &beside_bob, "bobby", &long[0], &long[1]];
    let machine = SimDisk::new();
    let store = begin(&machine);
    assert!(take(&store, &Step::Do(Command::PartitionAdd { name: PRIMARY.to_owned(), id: [1; 16] })));
    assert!(users.iter().all(|user| take(&store, &Step::Do(super::mail::user(user)))));
    let inboxes = users.map(|user| &*format!("user/{user}/INBOX").leak());
    let deliver = |store: &Arc<Store>, round: usize| {
        inboxes.iter().zip(1..).for_each(|(inbox, n)| {
            assert!(take(store, &Step::Deliver(10 * round + n, 100, vec![inbox])));
        });
    };
    deliver(&store, 0);
    let homes = users.map(|user| home_of(&store, user));
    let named = |store: &Store, what: &str| {
        for (user, home) in users.iter().zip(&homes) {
            assert_eq!(store.homes_named(PRIMARY, user).unwrap(), std::slice::from_ref(home), "{what}: {user}");
        }
        assert_eq!(store.homes_named(PRIMARY, "bo").unwrap(), []);
    };
    store.checkpoint().unwrap();
    named(&store, "the database knows them");
    drop(store);
    lose(&machine, &["db", "log"]);
    let store = open_mail(&machine).unwrap();
    named(&store, "only the partition knows them");
    reconcile_all(&store, false);
    store.adoption_done(&[], 0).unwrap();
    store.checkpoint().unwrap();
    drop(store);
    // The log that is set aside names all of them, without the order of directories.
    let store = open_mail(&machine).unwrap();
    deliver(&store, 1);
    drop(store);
    lose(&machine, &["db"]);
    spoil_the_beginning_of_the_log(&machine);
    let store = open_mail(&machine).unwrap();
    assert!(store.due().is_due());
    named(&store, "partition and log");
}

/// The first record that is left of the log is no good any more: what is behind it is set aside by the next start. Gives the number of segments.
pub(super) fn spoil_the_beginning_of_the_log(machine: &SimDisk) -> usize {
    let log = machine.disk("log");
    let mut segments: Vec<String> = log.list("").unwrap().into_iter().map(|e| e.name).collect();
    segments.retain(|name| crate::wal::file_number(name).is_some());
    segments.sort();
    log.damage(&segments[0], crate::wal::SEGMENT_HEADER_BYTES + 45, 1).unwrap();
    segments.len()
}

/// The home of a user of these tests.
pub(super) fn home_of(store: &Store, user: &str) -> Home {
    let row = store.view().get(Table::Users, user.as_bytes()).unwrap().unwrap();
    let row = crate::model::rows::UserRow::decode(user.as_bytes(), &row).unwrap();
    Home::parse(&row.directory).unwrap()
}
