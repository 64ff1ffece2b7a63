//! A database that is lost comes back from partitions and log, with everything; what is lost for good is said. // rows 46, 48, 120, 126, B3

use super::mail::{PRIMARY, Step, open_mail, steps, take};
use super::mirror::changes;
use super::*;
use crate::model::keys::split;
use crate::model::rows::{MailboxRow, Row};
use crate::model::{Rows, Table};
use crate::partition::PartitionId;
use crate::partition::index::{History, Index};
use crate::partition::manifest::{Manifest, MirroredRows};
use crate::partition::tree::{self, Home};
use crate::store::adopt::{Reconciled, Wanted};
use std::collections::BTreeSet;
use std::ops::{Bound, ControlFlow};

/// Every row that a database has, and every message of every mailbox with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct World {
    rows: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    messages: BTreeMap<(u64, u32), (String, Vec<u8>)>,
}

fn world(store: &Store) -> World {
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
fn without_marks(mut world: World) -> World {
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

fn begin(machine: &SimDisk) -> Arc<Store> {
    let store = open_mail(machine).unwrap();
    store.partitions().prepare(PRIMARY, PartitionId([1; 16]), Micros(1)).unwrap();
    store
}

fn all() -> Vec<Step> {
    steps().into_iter().chain(changes()).collect()
}

fn everything(dry_run: bool) -> Wanted<'static> {
    Wanted { dry_run, mailboxes: &|_| true, users: true }
}

/// What a job does.
fn reconcile_all(store: &Arc<Store>, dry_run: bool) -> Reconciled {
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

fn lose(machine: &SimDisk, what: &[&str]) {
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

fn lose_journals(machine: &SimDisk, indexes: bool, manifests: bool) {
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

fn assert_same(before: &World, after: &World, what: &str) {
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
        store.adoption_done().unwrap();
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
    store.adoption_done().unwrap_or_else(|e| panic!("{what}: {e}"));
    drop(store);
}

/// The home of a user of these tests.
fn home_of(store: &Store, user: &str) -> Home {
    let row = store.view().get(Table::Users, user.as_bytes()).unwrap().unwrap();
    let row = crate::model::rows::UserRow::decode(user.as_bytes(), &row).unwrap();
    Home::parse(&row.directory).unwrap()
}

// row 126: a manifest of an older program is whole and knows of no rows and empty mailboxes: it is completed, once
#[test]
fn a_manifest_that_lacks_rows_is_completed() {
    let machine = SimDisk::new();
    let store = begin(&machine);
    assert!(all().iter().all(|step| take(&store, step)));
    store.checkpoint().unwrap();
    let (disk, home) = (machine.disk(PRIMARY), home_of(&store, "joseph"));
    let manifest = Manifest::new(&disk, store.store_id(), &home);
    let places = tree::mailboxes(&disk, &home).unwrap();
    let ids = places.iter().map(|place| place.id).collect();
    let histories = manifest.histories(&ids).unwrap();
    let told = || {
        let rows = manifest.rows().unwrap().0.into_iter().filter(|(_, row)| row.value.is_some());
        rows.map(|(key, _)| key).filter(|(table, _)| *table != Table::Past).collect::<Vec<_>>()
    };
    let rows = told();
    assert!(rows.len() > 3, "{rows:?}");
    manifest
        .rewrite(&MirroredRows::new(), &mut |mirror| histories.iter().try_for_each(|(id, h)| mirror.put(*id, h)))
        .unwrap();
    let before = world(&store);
    let what = |done: &Reconciled| done.changes.iter().map(|c| (c.what.clone(), c.action.clone())).collect::<Vec<_>>();
    let completed = [("joseph".to_owned(), "manifest completed".to_owned())];
    let bytes = machine.tree_hash();
    assert_eq!(what(&reconcile_all(&store, true)), completed);
    assert_eq!(machine.tree_hash(), bytes, "I7");
    assert_eq!(what(&reconcile_all(&store, false)), completed);
    assert_eq!(what(&reconcile_all(&store, false)), []);
    assert_eq!(told(), rows);
    assert_same(&before, &world(&store), "completed");
}

// B3: index and manifest have lost what a mailbox was, and not its messages: these are shown with their flags, to the user of the directory (it
// still has his first name)
#[test]
fn messages_of_a_mailbox_without_a_name_are_shown_with_their_flags() {
    let machine = SimDisk::new();
    let store = begin(&machine);
    assert!(all().iter().all(|step| take(&store, step)));
    let before = world(&store);
    let home = home_of(&store, "joseph");
    let inbox = crate::model::MailboxName::inbox("joseph");
    let id = MailboxRow::decode(inbox.key(), &before.rows[&(Table::Mailboxes, inbox.key().to_vec())]).unwrap().id;
    store.close().unwrap();
    let id_of_store = store.store_id();
    drop(store);
    lose(&machine, &["db", "log"]);
    lose_journals(&machine, false, true);
    let (disk, place) = (machine.disk(PRIMARY), home.mailbox(id));
    let index = Index::new(&disk, id_of_store, &place);
    let history = History { head: None, ..index.read().unwrap() };
    index.rewrite(&history, crate::lsn::Lsn::ZERO, &|_| Ok(true)).unwrap();
    let store = open_mail(&machine).unwrap();
    let done = reconcile_all(&store, false);
    let strangers: Vec<_> = done.strangers.iter().filter(|s| s.place.id == id).collect();
    assert!(!strangers.is_empty() && strangers.iter().all(|s| !s.is_at_home && s.user.as_deref() == Some("joe")));
    let of = crate::model::Folder { partition: PRIMARY.into(), home: home.path().to_owned().into(), mailbox: id };
    let files: Vec<_> = strangers.iter().map(|s| (s.uid, s.known.clone())).collect();
    let shown = store.show_loose(&of, Some("joe"), &files).unwrap();
    store.settle(&shown.leftovers).unwrap();
    let told = |world: &World, id: u64| {
        let of_it = world.messages.iter().filter(|((mailbox, _), _)| *mailbox == id);
        // Without its modification sequence, which is another's.
        let mut told: Vec<_> = of_it
            .map(|(_, (state, bytes))| {
                let mut words: Vec<&str> = state.split(' ').collect();
                words.remove(words.len() - 2);
                (words[1..].join(" "), bytes.clone())
            })
            .collect();
        told.sort();
        told
    };
    let after = world(&store);
    let name = crate::model::MailboxName::parse("user/joe/Recovered").unwrap();
    let row = MailboxRow::decode(name.key(), &after.rows[&(Table::Mailboxes, name.key().to_vec())]).unwrap();
    assert!(row.id > id, "its number is not given again");
    assert_eq!(told(&after, row.id), told(&before, id));
    assert!(disk.stat(&place.path()).unwrap().is_none(), "files and index are in the quarantine");
    assert!(reconcile_all(&store, false).strangers.iter().all(|s| s.place.id != id));
    // Once more, as after a crash before the files were moved: nothing is shown twice.
    assert!(store.show_loose(&of, Some("joe"), &files).unwrap().leftovers.is_empty());
}

// B3: the log leads to a part of what the partition knows; the first checkpoint of the new history writes that part, and does not hide the rest
#[test]
fn a_start_that_reaches_a_part_of_the_log_hides_nothing_that_came_later() {
    let (machine, name) = (SimDisk::new(), "user/joe/Work");
    let store = begin(&machine);
    let limit = |bytes| Command::QuotaSet {
        root: "joe".to_owned(),
        storage: crate::model::LimitChange::To(bytes),
        messages: crate::model::LimitChange::Keep,
    };
    let rights = |rights: &str| {
        let (identifier, rights) = ("ann".to_owned(), rights.to_owned());
        Command::AclSet { name: name.to_owned(), identifier, rights }
    };
    let early = [
        Command::PartitionAdd { name: PRIMARY.to_owned(), id: [1; 16] },
        Command::UserAdd { user: "joe".to_owned(), partition: None, quota_bytes: Some(1 << 20), quota_messages: None },
        Command::UserAdd { user: "ann".to_owned(), partition: None, quota_bytes: None, quota_messages: None },
        Command::MailboxCreate { name: name.to_owned(), partition: None },
        Command::MailboxCreate { name: "user/joe/Old".to_owned(), partition: None },
        rights("lrs"),
    ];
    let late = [
        limit(1 << 21),
        rights("lrswi"),
        Command::MailboxDelete { name: "user/joe/Old".to_owned() },
        Command::Subscribe { user: "joe".to_owned(), name: name.to_owned() },
    ];
    let run = |commands: &[Command]| commands.iter().for_each(|c| assert!(take(&store, &Step::Do(c.clone())), "{c:?}"));
    run(&early);
    assert!(take(&store, &Step::Deliver(1, 100, vec![name])));
    let reached = store.published_lsn();
    run(&late);
    store.checkpoint().unwrap();
    let (before, store_id) = (world(&store), store.store_id());
    drop(store);
    lose(&machine, &["db"]);
    // The record behind what came early.
    let log = machine.disk("log");
    let survey = crate::wal::survey(&log, store_id, crate::wal::Proof::default(), crate::wal::Depth::All).unwrap();
    let mut place = None;
    crate::wal::records(&log, &survey, reached, crate::lsn::Lsn(u64::MAX), &mut |record| {
        place.get_or_insert((record.file.to_owned(), record.offset));
        Ok(())
    })
    .unwrap();
    let (file, offset) = place.unwrap();
    log.damage(&file, offset + 45, 1).unwrap();
    let store = open_mail(&machine).unwrap();
    assert!(store.due().is_due());
    // What was cut off is lost, too: the partition is the only witness.
    for entry in log.list("quarantine").unwrap() {
        log.remove(&format!("quarantine/{}", entry.name)).unwrap();
    }
    reconcile_all(&store, false);
    assert_same(&without_marks(before), &without_marks(world(&store)), "what came later");
}

// B3: what the log alone has is more than many transactions hold: all of it comes
#[test]
fn much_that_only_the_log_knows_comes_in_pieces() {
    let machine = SimDisk::new();
    let store = begin(&machine);
    assert!(take(&store, &Step::Do(Command::PartitionAdd { name: PRIMARY.to_owned(), id: [1; 16] })));
    assert!(take(&store, &Step::Do(super::mail::user("joe"))));
    store.checkpoint().unwrap();
    for n in 0..400 {
        assert!(take(&store, &Step::Deliver(n, 500, vec![super::mail::JOE])));
    }
    let before = world(&store);
    drop(store);
    lose(&machine, &["db"]);
    // The beginning of the log is gone: what is left of it is set aside.
    let log = machine.disk("log");
    let mut segments: Vec<String> = log.list("").unwrap().into_iter().map(|e| e.name).collect();
    segments.retain(|name| crate::wal::file_number(name).is_some());
    segments.sort();
    assert!(segments.len() > 3);
    let first = &segments[0];
    log.damage(first, crate::wal::SEGMENT_HEADER_BYTES + 45, 1).unwrap();
    let store = open_mail(&machine).unwrap();
    let done = reconcile_all(&store, false);
    assert!(done.findings.is_empty(), "{:?}", done.findings);
    let after = world(&store);
    assert_eq!((before.messages.len(), after.messages.len()), (400, 400));
    assert_same(&without_marks(before), &without_marks(after), "in pieces");
}
