//! Manifests say what the database says, after every kind of change, and wherever the machine stops.

use super::mail::{PRIMARY, Step, of, open_mail, steps, take};
use super::*;
use crate::model::quota::LimitChange;
use crate::model::rows::{MailboxRow, PastRow, QuotaRow, Row, SubscriptionRow, TombstoneRow, UserRow, split};
use crate::model::seen::SeenRow;
use crate::model::{Rows, Table};
use crate::partition::PartitionId;
use crate::partition::index::Head;
use crate::partition::manifest::Manifest;
use crate::partition::tree;
use std::collections::BTreeSet;
use std::ops::{Bound, ControlFlow};

type Row3 = (Table, Vec<u8>, String);

/// What the manifests of a partition know: heads of mailboxes that are not gone, and rows.
fn in_manifests(machine: &SimDisk, store: &Store) -> (BTreeMap<u64, Head>, BTreeSet<Row3>) {
    let disk = machine.disk(PRIMARY);
    let (mut heads, mut rows) = (BTreeMap::new(), BTreeSet::new());
    tree::homes(&disk, &mut |home| {
        let manifest = Manifest::new(&disk, store.store_id(), &home);
        let ids = manifest.mailboxes()?.into_iter().filter(|(_, gone)| gone.is_none()).map(|(id, _)| id).collect();
        manifest.heads(&ids, &mut |id, head| {
            assert!(heads.insert(id, head.value).is_none(), "mailbox {id} twice");
            Ok(())
        })?;
        assert_eq!(ids.iter().filter(|id| !heads.contains_key(*id)).count(), 0, "a mailbox without a head");
        let (found, reading) = manifest.rows()?;
        assert!(!reading.is_there || reading.is_whole(), "{}", reading.problem());
        for ((table, key), row) in found {
            let Some(row) = row.value else { continue };
            let text = shown(table, &key, &row).unwrap();
            // What a name stood for is told by every home in which a mailbox lay that had it; the highest UIDVALIDITY counts.
            let known: Option<Row3> = rows.range((table, key.clone(), String::new())..).next().cloned();
            match known.filter(|known| (known.0, &known.1) == (table, &key)) {
                Some(_) if table != Table::Past => panic!("a row in two homes: {text}"),
                Some(known) if known.2 > text => {}
                Some(known) => {
                    rows.remove(&known);
                    rows.insert((table, key, text));
                }
                None => drop(rows.insert((table, key, text))),
            }
        }
        Ok(())
    })
    .unwrap();
    (heads, rows)
}

/// What of a row is told again.
fn shown(table: Table, key: &[u8], row: &[u8]) -> Option<String> {
    Some(match table {
        Table::Users => format!("{:?}", UserRow::decode(key, row).unwrap()),
        Table::Quotas => {
            let row = QuotaRow::decode(key, row).unwrap();
            format!("{:?} {:?}", row.storage_limit, row.message_limit)
        }
        Table::Subscriptions => format!("{:?}", SubscriptionRow::decode(key, row).unwrap()),
        Table::Seen => format!("{:?}", SeenRow::decode(key, row).unwrap()),
        Table::Past if split(key).is_none() => format!("{:?}", PastRow::decode(key, row).unwrap()),
        _ => return None,
    })
}

/// Every user, limit, subscription, past name and mailbox of the database stands in a manifest, and nothing else.
pub(super) fn assert_mirrored(store: &Store, machine: &SimDisk, what: &str) {
    let (mut heads, mut rows) = in_manifests(machine, store);
    // It lags, see below.
    rows.retain(|(table, ..)| *table != Table::Seen);
    let (view, mut expected) = (store.view(), BTreeSet::new());
    for table in [Table::Users, Table::Mailboxes, Table::Past, Table::Quotas, Table::Subscriptions] {
        view.scan(table, Bound::Unbounded, &mut |key, row| {
            let (name, mailbox, deleted_us) = match (table, split(key)) {
                (Table::Mailboxes, _) => (key.to_vec(), MailboxRow::decode(key, row).unwrap(), 0),
                (Table::Past, Some((name, _))) => {
                    let row = TombstoneRow::decode(key, row).unwrap();
                    (name.to_vec(), row.mailbox, row.deleted_us)
                }
                _ => {
                    expected.insert((table, key.to_vec(), shown(table, key, row).unwrap()));
                    return ControlFlow::Continue(());
                }
            };
            let head = heads.remove(&mailbox.id).unwrap_or_else(|| panic!("{what}: no head of {mailbox:?}"));
            assert_eq!((head.name, head.row, head.deleted_us), (name, mailbox, deleted_us), "{what}");
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    assert_eq!(heads, BTreeMap::new(), "{what}: mailboxes that the database does not have");
    assert_eq!(rows, expected, "{what}");
}

/// After a write-out the manifests say what every user has seen, and nothing else; gives the number of rows.
fn assert_seen_mirrored(store: &Store, machine: &SimDisk, what: &str) -> usize {
    let (_, mut rows) = in_manifests(machine, store);
    rows.retain(|(table, ..)| *table == Table::Seen);
    let mut expected = BTreeSet::new();
    let mut each = |key: &[u8], row: &[u8]| {
        expected.insert((Table::Seen, key.to_vec(), shown(Table::Seen, key, row).unwrap()));
        ControlFlow::Continue(())
    };
    store.view().scan(Table::Seen, Bound::Unbounded, &mut each).unwrap();
    assert_eq!(rows, expected, "{what}");
    rows.len()
}

pub(super) fn changes() -> Vec<Step> {
    let text = str::to_owned;
    let create = |name: &str| Step::Do(Command::MailboxCreate { name: text(name), partition: None });
    let rename = |from: &str, to: &str| Step::Do(Command::MailboxRename { from: text(from), to: text(to) });
    let delete = |name: &str| Step::Do(Command::MailboxDelete { name: text(name) });
    let subscribe = |name: &str| Step::Do(Command::Subscribe { user: text("joe"), name: text(name) });
    let limit = |root: &str, bytes| {
        let (storage, messages) = (LimitChange::To(bytes), LimitChange::Keep);
        Step::Do(Command::QuotaSet { root: text(root), storage, messages })
    };
    let rights = |name: &str| {
        let (identifier, rights) = (text("ann"), text("lrs"));
        Step::Do(Command::AclSet { name: text(name), identifier, rights })
    };
    vec![
        create("user/joe/Work"),
        create("user/joe/Work/Old"),
        create("shared/news"),
        create("shared/news/2026"),
        subscribe("user/joe/Work"),
        subscribe("shared/news"),
        limit("shared/news", 1 << 20),
        rights("user/joe/Work"),
        Step::Checkpoint,
        limit("joe", 1 << 22),
        limit("user/joe/Work", 1 << 21),
        rename("user/joe/Work", "user/joe/Play"),
        delete("user/joe/Play/Old"),
        delete("shared/news/2026"),
        Step::Deliver(50, 200, vec!["user/joe/Play"]),
        Step::Checkpoint,
        Step::Do(Command::UserRename { user: text("joe"), to: text("joseph") }),
        Step::Do(Command::Undelete { of: of("shared/news/2026", &[]) }),
        rename("user/joseph/Play", "user/ann/Play"),
        Step::Checkpoint,
        Step::Do(Command::UserDelete { user: text("ann") }),
        Step::Do(Command::UserAdd { user: text("ann"), partition: None, quota_bytes: None, quota_messages: None }),
        Step::Checkpoint,
        // Within one interval: he comes, is renamed, and goes.
        Step::Do(Command::UserAdd { user: text("eve"), partition: None, quota_bytes: Some(5), quota_messages: None }),
        create("user/eve/Work"),
        Step::Do(Command::UserRename { user: text("eve"), to: text("eva") }),
        Step::Do(Command::UserDelete { user: text("eva") }),
        Step::Checkpoint,
    ]
}

// rows 124 to 126: what the database is made from again
#[test]
fn manifests_say_what_the_database_says_after_every_change() {
    let machine = SimDisk::new();
    let store = open_mail(&machine).unwrap();
    store.partitions().prepare(PRIMARY, PartitionId([1; 16]), Micros(1)).unwrap();
    let all: Vec<Step> = steps().into_iter().chain(changes()).collect();
    let (mut checkpoints, mut seen) = (0, Vec::new());
    for (n, step) in all.iter().enumerate() {
        assert!(take(&store, step), "step {n}");
        if matches!(step, Step::Checkpoint) {
            assert_mirrored(&store, &machine, &format!("step {n}"));
            checkpoints += 1;
        }
        if matches!(step, Step::WriteOut) {
            seen.push(assert_seen_mirrored(&store, &machine, &format!("step {n}")));
        }
    }
    assert!(checkpoints > 8);
    assert!(take(&store, &Step::WriteOut));
    seen.push(assert_seen_mirrored(&store, &machine, "at last"));
    assert_eq!(seen, [1, 0], "she was deleted meanwhile");
    // A manifest that is lost is made again with the next change, from what else is known.
    let disk = machine.disk(PRIMARY);
    let mut lost = Vec::new();
    tree::homes(&disk, &mut |home| {
        disk.remove(&home.manifest()).unwrap();
        lost.push(home);
        Ok(())
    })
    .unwrap();
    assert!(lost.len() >= 3, "{lost:?}");
    for user in ["joseph", "ann"] {
        let name = format!("user/{user}/New");
        assert!(take(&store, &Step::Do(Command::MailboxCreate { name, partition: None })));
    }
    assert!(take(&store, &Step::Do(Command::MailboxCreate { name: "shared/x".to_owned(), partition: None })));
    assert!(take(&store, &Step::Checkpoint));
    let (heads, rows) = in_manifests(&machine, &store);
    let live = heads.values().filter(|head| head.deleted_us == 0).count();
    let mut mailboxes = 0;
    store
        .view()
        .scan(Table::Mailboxes, Bound::Unbounded, &mut |_, _| {
            mailboxes += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(live, mailboxes);
    assert!(rows.iter().filter(|(table, ..)| *table == Table::Users).count() == 2, "{rows:?}");
}

// rows 18, 20, 21, 46: the same wherever the machine stops
#[test]
fn every_crash_leaves_manifests_that_the_next_checkpoint_makes_true() {
    let machine = SimDisk::new();
    let store = open_mail(&machine).unwrap();
    store.partitions().prepare(PRIMARY, PartitionId([1; 16]), Micros(1)).unwrap();
    machine.set_recording(true);
    let all: Vec<Step> = steps().into_iter().take(7).chain(changes()).collect();
    assert!(all.iter().all(|step| take(&store, step)));
    let moments = machine.take_moments();
    drop(store);
    let (mut states, step) = (0, (moments.len() / 120).max(1));
    for moment in moments.iter().step_by(step) {
        for persist in [Persist::Nothing, Persist::RandomTorn(moment.n), Persist::NamesWithoutData] {
            let what = format!("operation {} {:?} {}: {persist:?}", moment.n, moment.kind, moment.path);
            let found = moment.torn(moment.write_bytes() / 2).image(persist);
            let store = open_mail(&found).unwrap_or_else(|e| panic!("{what}: {e}"));
            store.checkpoint().unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_mirrored(&store, &found, &what);
            states += 1;
        }
    }
    assert!(states > 250, "{states}");
}
