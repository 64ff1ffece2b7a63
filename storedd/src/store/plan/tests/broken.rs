//! The checker finds what is planted. (That it finds nothing else is part of every other test.)

use super::*;
use crate::model::rows::{IdRow, PastRow, RightsRow, SubscriptionRow, TombstoneRow, id_key, joined, tombstone_key};

fn store() -> World {
    let mut world = World::with_users();
    world.ok(create("user/joe/x"));
    world.ok(acl_set("user/joe/x", "anyone", "lr"));
    world.ok(create("user/joe/gone"));
    world.ok(delete("user/joe/gone"));
    world.ok(subscribe("joe", "user/joe/x"));
    world
}

fn key(name: &str) -> Vec<u8> {
    MailboxName::parse(name).unwrap().key().to_vec()
}

fn remove(world: &mut World, table: Table, key: Vec<u8>) {
    world.rows.apply(&[Change::Remove { table, key: Cow::Owned(key) }]);
}

fn edit<R: Row>(world: &mut World, key: Vec<u8>, change: impl FnOnce(&mut R)) {
    let mut row = R::decode(&key, &world.rows.get(R::TABLE, &key).unwrap().unwrap()).unwrap();
    change(&mut row);
    world.put(key, &row);
}

/// What the checker says of each rule that is broken.
fn findings(damage: impl FnOnce(&mut World)) -> Vec<String> {
    let mut world = store();
    world.check("nothing");
    damage(&mut world);
    let before = world.rows.clone();
    let report = check::check(&world.rows).unwrap();
    assert_eq!(before, world.rows); // I7
    assert_eq!(report.total, report.findings.len() as u64);
    report.findings.iter().map(|f| format!("{}: {}: {}", f.place, f.what, f.found)).collect()
}

// row 114
#[test]
fn every_broken_rule_is_found() {
    let joe = || b"joe".to_vec();
    let x = || key("user/joe/x");
    let cases = [
        (findings(|w| remove(w, Table::Quotas, quota_key("joe"))), "table users, joe: quota root: none"),
        (findings(|w| remove(w, Table::Partitions, b"primary".to_vec())), "table users, joe: partition: primary"),
        (findings(|w| remove(w, Table::Users, joe())), "table mailboxes, user/joe/x: owner: no user joe"),
        (findings(|w| remove(w, Table::Users, joe())), "table quotas, user/joe: quota root: no such user"),
        (
            findings(|w| remove(w, Table::Users, joe())),
            "table subscriptions, joe: user/joe/x: subscription: no such user",
        ),
        (
            findings(|w| remove(w, Table::Rights, joined(b"anyone", &x()))),
            "table rights, anyone: user/joe/x: rights: none",
        ),
        (
            findings(|w| w.put(joined(b"anyone", &x()), &RightsRow { rights: "l".into() })),
            "table rights, anyone: user/joe/x: rights: l",
        ),
        (
            findings(|w| w.put(joined(b"eve", &x()), &RightsRow { rights: "l".into() })),
            "table rights, eve: user/joe/x: rights: an entry",
        ),
        (
            findings(|w| w.put(joined(b"joe", &x()), &RightsRow { rights: "l".into() })),
            "table rights, joe: user/joe/x: rights: an entry",
        ),
        (
            findings(|w| {
                let id = w.mailbox("user/joe/INBOX").unwrap().id;
                edit::<MailboxRow>(w, x(), |row| row.id = id);
            }),
            "users, mailboxes and deleted mailboxes: number: 2 twice",
        ),
        (
            findings(|w| edit::<MailboxRow>(w, x(), |row| row.uidvalidity = 0)),
            "table mailboxes, user/joe/x: numbers: UIDVALIDITY 0, UIDNEXT 1",
        ),
        (
            findings(|w| w.put(x(), &PastRow { uidvalidity: 5000, mailbox_id: 99 })),
            "table mailboxes, user/joe/x: UIDVALIDITY: 1003 of mailbox 5",
        ),
        (
            findings(|w| edit::<PastRow>(w, key("user/joe/gone"), |row| row.uidvalidity = 1)),
            "table past, user/joe/gone: deleted mailbox 6: UIDVALIDITY: 1004",
        ),
        (
            findings(|w| {
                edit::<TombstoneRow>(w, tombstone_key(&key("user/joe/gone"), 6), |row| row.mailbox.id = 60);
            }),
            "table past, user/joe/gone: deleted mailbox 6: number: 60",
        ),
        (
            findings(|w| edit::<QuotaRow>(w, quota_key("joe"), |row| row.storage_usage = 1)),
            "table quotas, user/joe: usage: 1 bytes, 0 messages",
        ),
        (
            findings(|w| {
                let row = w.quota("joe");
                w.put(key("user/joe/gone"), &row);
            }),
            "table quotas, user/joe/gone: quota root: no such mailbox",
        ),
        (
            findings(|w| {
                let row = w.quota("joe");
                w.put(x(), &row);
            }),
            "table quotas, user/joe/x: quota root: no limit",
        ),
        (
            findings(|w| {
                let row = w.quota("joe");
                w.put(b"other".to_vec(), &row);
            }),
            "table quotas, other: key: [111,",
        ),
        (
            findings(|w| {
                edit::<MailboxRow>(w, x(), |row| drop(row.acl.insert("jo\u{308}".into(), "l".into())));
            }),
            "table mailboxes, user/joe/x: entry of rights: \"jo",
        ),
        (
            findings(|w| {
                edit::<MailboxRow>(w, x(), |row| drop(row.acl.insert("eve".into(), "l!".into())));
            }),
            "table mailboxes, user/joe/x: entry of rights: \"eve\" \"l!\"",
        ),
        (
            findings(|w| edit::<PartitionRow>(w, b"archive".to_vec(), |row| row.id = [1; 16])),
            "table partitions, primary: identity: that of archive",
        ),
        (findings(|w| remove(w, Table::Mailboxes, key("user/joe/INBOX"))), "table users, joe: INBOX: none"),
        (
            findings(|w| w.put(b"joe\x02nonsense".to_vec(), &SubscriptionRow { since_us: 0 })),
            "table subscriptions, joe: nonsense: key: [106, 111, 101, 2, 110, 111, 110, 115, 101, 110, 115, 101]",
        ),
        (
            findings(|w| {
                w.rows.0.insert((Table::Mailboxes, x()), vec![1, 2, 3]);
            }),
            "table mailboxes, user/joe/x: row: ",
        ),
        (findings(|w| w.put(id_key(5), &IdRow::of(&key("user/joe/y")))), "table ids, mailbox 5: key: user/joe/y"),
        (findings(|w| remove(w, Table::Ids, id_key(5))), "table ids, mailbox 5: key: none"),
        (findings(|w| remove(w, Table::Ids, id_key(6))), "table ids, mailbox 6: key: none"),
        (findings(|w| w.put(id_key(77), &IdRow::of(&x()))), "table ids, mailbox 77: key: user/joe/x"),
        (findings(|w| w.put(id_key(77), &IdRow::of(b"?"))), "table ids, mailbox 77: key: ?"),
    ];
    for (found, expected) in cases {
        assert!(found.iter().any(|f| f.starts_with(expected)), "expected {expected}\nfound {found:#?}");
    }
}
