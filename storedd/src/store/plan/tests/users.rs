use super::*;
use crate::model::rows::{PastRow, TombstoneRow, tombstone_key};

// rows 114, 115, 119: a user is rows in three tables, and all of them or none
#[test]
fn a_new_user_has_an_inbox_and_a_quota_root() {
    let mut world = World::new();
    let outcome = world.ok(Command::UserAdd {
        user: "joe@example.org".into(),
        partition: Some("archive".into()),
        quota_bytes: Some(2 << 30),
        quota_messages: None,
    });
    let inbox = world.mailbox("user/joe@example.org/INBOX").unwrap();
    let name = "user/joe@example.org/INBOX".to_owned();
    assert_eq!(outcome, Outcome::Created { name, id: inbox.id, uidvalidity: inbox.uidvalidity });
    assert_eq!(world.acl("user/joe@example.org/INBOX"), entries(&[("joe@example.org", "lrswipkxtea")]));
    assert_eq!((inbox.partition.as_str(), inbox.uidnext, inbox.highest_modseq), ("archive", 1, 1));
    let user = world.user("joe@example.org").unwrap();
    assert_eq!(user.partition, "archive");
    assert!(user.directory.ends_with(&format!("/=joe@example.org~{}", user.id)), "{}", user.directory);
    assert_eq!(world.quota("joe@example.org").storage_limit, Some(2 << 30));
    assert_eq!(world.keys(Table::Rights), Vec::<String>::new());
}

#[test]
fn users_that_are_refused() {
    let mut world = World::with_users();
    let exists = world.refused(user_add("joe"), RefusalKind::Exists);
    assert_eq!(exists.hint.as_deref(), Some("storectl user show joe"));
    for bad in ["", "..", "a b", "joe@", "a/b", "anyone", "-joe", "j\u{f6}", "a\u{0}"] {
        world.refused(user_add(bad), RefusalKind::BadInput);
        world.refused(user_rename("joe", bad), RefusalKind::BadInput);
        world.refused(user_delete(bad), RefusalKind::BadInput);
    }
    let nowhere = Command::UserAdd {
        user: "eve".into(),
        partition: Some("moon".into()),
        quota_bytes: None,
        quota_messages: None,
    };
    world.refused(nowhere, RefusalKind::NotFound);
    let unknown = world.refused(user_delete("eve"), RefusalKind::NoUser);
    assert_eq!(unknown.message, "no such user: eve");
    assert_eq!(unknown.hint.as_deref(), Some("storectl user add eve"));
    world.refused(user_rename("eve", "eva"), RefusalKind::NoUser);
    world.refused(user_rename("joe", "ann@example.org"), RefusalKind::Exists);
    world.refused(user_rename("joe", "joe"), RefusalKind::Exists);
    assert_eq!(world.keys(Table::Users), ["ann@example.org", "joe"]);
}

/// A store in which joe has mailboxes, rights of all kinds, subscriptions, and mail.
fn lived_in() -> World {
    let mut world = World::with_users();
    world.ok(create("user/joe/A"));
    world.ok(create("user/joe/A/\u{c4}"));
    world.ok(create("user/ann@example.org/B"));
    world.ok(create("shared/news"));
    world.ok(acl_set("user/joe/A", "ann@example.org", "lr"));
    world.ok(acl_set("user/joe/A", "-joe", "x"));
    world.ok(acl_set("user/ann@example.org/B", "joe", "lrs"));
    world.ok(acl_set("user/ann@example.org/B", "-joe", "t"));
    world.ok(acl_set("shared/news", "joe", "lrsi"));
    world.ok(acl_set("shared/news", "anyone", "l"));
    world.ok(subscribe("joe", "user/joe/A"));
    world.ok(subscribe("joe", "shared/news"));
    world.ok(subscribe("ann@example.org", "user/joe/A"));
    world.deliver("user/joe/A", 100);
    world.deliver("user/joe/INBOX", 11);
    world
}

// row 114: nothing of a deleted user stays, except that his names remember
#[test]
fn deleting_a_user_removes_all_of_him() {
    let mut world = lived_in();
    let inbox = world.mailbox("user/joe/INBOX").unwrap();
    let directory = world.user("joe").unwrap().directory;
    assert_eq!(world.ok(user_delete("joe")), Outcome::Mailboxes(3));
    assert_eq!(world.keys(Table::Users), ["ann@example.org"]);
    assert_eq!(world.keys(Table::Mailboxes), ["shared/news", "user/ann@example.org/B", "user/ann@example.org/INBOX"]);
    assert_eq!(world.keys(Table::Quotas), ["user/ann@example.org"]);
    assert_eq!(world.keys(Table::Rights), ["anyone: shared/news"]);
    assert_eq!(world.keys(Table::Subscriptions), ["ann@example.org: user/joe/A"]);
    assert_eq!(world.acl("user/ann@example.org/B"), entries(&[("ann@example.org", "lrswipkxtea")]));
    assert_eq!(world.acl("shared/news"), entries(&[("anyone", "l")]));

    let key = MailboxName::inbox("joe");
    let past = world.rows.get(Table::Past, key.key()).unwrap().unwrap();
    let past = PastRow::decode(key.key(), &past).unwrap();
    assert_eq!(past, PastRow { uidvalidity: inbox.uidvalidity, mailbox_id: inbox.id });
    let key = tombstone_key(key.key(), inbox.id);
    let tombstone = TombstoneRow::decode(&key, &world.rows.get(Table::Past, &key).unwrap().unwrap()).unwrap();
    assert_eq!(tombstone.directory, format!("{directory}/{}", inbox.id));
    assert_eq!((tombstone.mailbox.id, tombstone.mailbox.bytes), (inbox.id, 11));

    // I6: he comes back as someone else
    world.ok(user_add("joe"));
    let again = world.mailbox("user/joe/INBOX").unwrap();
    assert!(again.uidvalidity > inbox.uidvalidity && again.id > inbox.id);
    assert_eq!(world.quota("joe").storage_usage, 0);
    assert_ne!(world.user("joe").unwrap().directory, directory);
}

// row 114: what refers to a user follows him
#[test]
fn renaming_a_user_takes_everything_along() {
    let mut world = lived_in();
    let before = world.mailbox("user/joe/A").unwrap();
    let user = world.user("joe").unwrap();
    assert_eq!(world.ok(user_rename("joe", "joe.smith@example.org")), Outcome::Mailboxes(3));
    assert_eq!(world.user("joe"), None);
    assert_eq!(world.user("joe.smith@example.org"), Some(user), "same number, same directory"); // row 116
    let after = world.mailbox("user/joe.smith@example.org/A").unwrap();
    assert_eq!((after.id, after.uidvalidity, after.bytes), (before.id, before.uidvalidity, before.bytes));
    assert_eq!(after.home, None);
    assert_eq!(
        world.acl("user/joe.smith@example.org/A"),
        entries(&[
            ("-joe.smith@example.org", "x"),
            ("ann@example.org", "lr"),
            ("joe.smith@example.org", "lrswipkxtea")
        ])
    );
    assert!(world.mailbox("user/joe.smith@example.org/A/\u{c4}").is_some());
    assert_eq!(
        world.keys(Table::Rights),
        [
            "-joe.smith@example.org: user/ann@example.org/B",
            "-joe.smith@example.org: user/joe.smith@example.org/A",
            "ann@example.org: user/joe.smith@example.org/A",
            "anyone: shared/news",
            "joe.smith@example.org: shared/news",
            "joe.smith@example.org: user/ann@example.org/B",
        ]
    );
    assert_eq!(
        world.keys(Table::Subscriptions),
        [
            "ann@example.org: user/joe/A",
            "joe.smith@example.org: shared/news",
            "joe.smith@example.org: user/joe.smith@example.org/A",
        ],
        "what others subscribed to is theirs (RFC 9051 6.3.7)"
    );
    assert_eq!(world.quota("joe.smith@example.org").storage_usage, 111);

    // I6: the old names are remembered, and going back gives back the old UIDVALIDITY
    world.ok(user_rename("joe.smith@example.org", "joe"));
    assert_eq!(world.mailbox("user/joe/A").unwrap().uidvalidity, before.uidvalidity);
}

#[test]
fn a_rename_that_makes_a_bad_name_is_refused_whole() {
    let mut world = World::with_users();
    let deep = format!("user/joe/{}", ["a".repeat(240).as_str(); 4].join("/"));
    world.ok(create(&deep));
    let refusal = world.refused(user_rename("joe", &"j".repeat(100)), RefusalKind::BadInput);
    assert!(refusal.message.contains("at most 1000"), "{refusal}");
}

// rights that a name had before it became this user's go: they were meant for someone else
#[test]
fn a_renamed_user_keeps_his_rights_and_no_others_in_the_same_mailbox() {
    let mut world = World::with_users();
    world.ok(create("shared/x"));
    world.ok(acl_set("shared/x", "joe", "lr"));
    world.ok(acl_set("shared/x", "jim", "lrswipa"));
    world.ok(user_rename("joe", "jim"));
    assert_eq!(world.acl("shared/x"), entries(&[("jim", "lr")]));
}

// row 115
#[test]
fn partitions_come_and_go() {
    let mut world = World::with_users();
    let add = |name: &str, n| Command::PartitionAdd { name: name.into(), id: [n; 16] };
    let remove = |name: &str| Command::PartitionRemove { name: name.into() };
    world.ok(add("ssd", 9));
    world.refused(add("ssd", 10), RefusalKind::Exists);
    world.refused(add("other", 9), RefusalKind::Exists);
    for bad in ["", "..", "a/b", "a b", "-x"] {
        world.refused(add(bad, 11), RefusalKind::BadInput);
    }
    let used = world.refused(remove("primary"), RefusalKind::Busy);
    assert_eq!(used.message, "partition primary is in use by user ann@example.org");
    world.refused(remove("moon"), RefusalKind::NotFound);
    let on_ssd = Command::MailboxCreate { name: "shared/fast".into(), partition: Some("ssd".into()) };
    world.ok(on_ssd);
    assert!(world.refused(remove("ssd"), RefusalKind::Busy).message.ends_with("mailbox shared/fast"));
    world.ok(delete("shared/fast"));
    let used = world.refused(remove("ssd"), RefusalKind::Busy);
    assert!(used.message.contains("shared/fast: deleted mailbox"), "its messages are still there: {used}");
    world.ok(remove("archive"));
    let key = b"primary";
    let row = world.rows.get(Table::Partitions, key).unwrap().unwrap();
    assert_eq!(PartitionRow::decode(key, &row).unwrap().id, [1; 16]);
}

#[test]
fn what_one_transaction_cannot_hold_is_refused() {
    let mut world = World::with_users();
    for n in 0..40 {
        world.ok(create(&format!("user/joe/{n}")));
    }
    world.transaction_bytes_max = 5_000;
    world.refused(user_delete("joe"), RefusalKind::TooLarge);
    let refusal = world.refused(user_rename("joe", "jim"), RefusalKind::TooLarge);
    assert_eq!(refusal.message, "one transaction holds at most 5000 bytes, and this is more");
    world.refused(Command::Atomic((0..200).map(|n| create(&format!("shared/{n}"))).collect()), RefusalKind::TooLarge);
    world.ok(delete("user/joe/1"));
}

// row 116: a deleted mailbox came back and was deleted again after it was seen to be old: it was given up for good at once.
#[test]
fn a_mailbox_is_purged_only_if_it_was_deleted_when_it_is_said_to_be() {
    let mut world = World::with_users();
    world.ok(create("user/joe/Work"));
    let id = world.mailbox("user/joe/Work").unwrap().id;
    let name = MailboxName::parse("user/joe/Work").unwrap();
    let key = tombstone_key(name.key(), id);
    world.ok(delete("user/joe/Work"));
    let deleted_us = |world: &World| {
        TombstoneRow::decode(&key, &world.rows.get(Table::Past, &key).unwrap().unwrap()).unwrap().deleted_us
    };
    let first = deleted_us(&world);
    let back = crate::model::command::Selection { name: name.to_string(), ..Default::default() };
    world.ok(Command::Undelete { of: back });
    world.ok(delete("user/joe/Work"));
    let second = deleted_us(&world);
    assert!(second > first);
    let purge = |at| Command::MailboxPurge { name: name.to_string(), id, deleted_us: Some(at) };
    let stale = plan_with(&Policy::default(), &purge(first), &world.rows, &mut world.ids, Micros(99));
    assert!(matches!(stale, Err(PlanError::Stale)), "{stale:?}");
    world.ok(purge(second));
    world.refused(purge(second), RefusalKind::NotFound);
}
