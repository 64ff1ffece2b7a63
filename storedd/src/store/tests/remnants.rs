//! What comes back where a part of the evidence is gone as well: a manifest without rows, a mailbox without a name, a log that leads to a part, or
//! that holds more than a transaction. // rows 46, 126, B3

use super::adopt::{
    World, all, assert_same, begin, home_of, lose, lose_journals, reconcile_all, spoil_the_beginning_of_the_log,
    without_marks, world,
};
use super::mail::{PRIMARY, Step, open_mail, take};
use super::*;
use crate::model::rows::{MailboxRow, Row};
use crate::partition::index::{History, Index};
use crate::partition::manifest::{Manifest, MirroredRows};
use crate::partition::tree;
use crate::store::adopt::Reconciled;

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
        .rewrite(&MirroredRows::new(), Lsn(u64::MAX), &mut |mirror| {
            histories.iter().try_for_each(|(id, h)| mirror.put(*id, h))
        })
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
    let history = History { head: None, older: Vec::new(), ..index.read().unwrap() };
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
    assert!(spoil_the_beginning_of_the_log(&machine) > 3);
    let store = open_mail(&machine).unwrap();
    let done = reconcile_all(&store, false);
    assert!(done.findings.is_empty(), "{:?}", done.findings);
    let after = world(&store);
    assert_eq!((before.messages.len(), after.messages.len()), (400, 400));
    assert_same(&without_marks(before), &without_marks(after), "in pieces");
}
