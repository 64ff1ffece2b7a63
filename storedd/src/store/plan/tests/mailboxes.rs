use super::*;

// row 119
#[test]
fn mailboxes_are_created_once() {
    let mut world = World::with_users();
    let Outcome::Created { name, id, uidvalidity } = world.ok(create("user/joe/Projekte/\u{c4}pfel")) else {
        panic!("not created")
    };
    assert_eq!(name, "user/joe/Projekte/\u{c4}pfel", "the parent need not exist");
    let row = world.mailbox(&name).unwrap();
    assert_eq!((row.id, row.uidvalidity, row.partition.as_str()), (id, uidvalidity, "primary"));
    assert_eq!(world.acl(&name), entries(&[("joe", "lrswipkxtea")]));
    let again = world.refused(create(&name), RefusalKind::Exists);
    assert_eq!(again.hint.as_deref(), Some("storectl mailbox show user/joe/Projekte/\u{c4}pfel"));
    world.refused(create("user/joe/inbox"), RefusalKind::Exists);
    world.refused(create("user/joe/INBOX"), RefusalKind::Exists);
    world.ok(create("user/joe/projekte"));
    world.ok(create("user/joe/Projekte"));
}

// row 119: two spellings of one name in Unicode are one name; asking for the second is bad input
#[test]
fn names_that_differ_by_normalisation_only() {
    let mut world = World::with_users();
    world.ok(create("user/joe/\u{c4}"));
    let twin = world.refused(create("user/joe/A\u{308}"), RefusalKind::BadInput);
    assert!(twin.message.contains("differs only by Unicode normalisation"), "{twin}");
    world.ok(create("user/joe/B"));
    world.refused(rename("user/joe/B", "user/joe/A\u{308}"), RefusalKind::BadInput);
    // a name typed so is found, and a new one typed so is stored normalised
    world.ok(acl_set("user/joe/A\u{308}", "anyone", "l"));
    let Outcome::Created { name, .. } = world.ok(create("user/joe/O\u{308}")) else { panic!("not created") };
    assert_eq!(name, "user/joe/\u{d6}");
}

// row 119
#[test]
fn bad_and_unknown_names_change_nothing() {
    let mut world = World::with_users();
    for bad in
        ["", "user", "user/joe", "user/joe/", "user/joe/a%b", "user/joe/*", "x/y", "user/joe/..", "user/joe/a\nb"]
    {
        world.refused(create(bad), RefusalKind::BadInput);
        world.refused(delete(bad), RefusalKind::BadInput);
        world.refused(rename(bad, "user/joe/x"), RefusalKind::BadInput);
        world.refused(rename("user/joe/x", bad), RefusalKind::BadInput);
        world.refused(acl_set(bad, "anyone", "l"), RefusalKind::BadInput);
        world.refused(subscribe("joe", bad), RefusalKind::BadInput);
        world.refused(import(bad, 1, &[]), RefusalKind::BadInput);
    }
    for command in [
        create("user/eve/x"),
        delete("user/eve/x"),
        rename("user/eve/x", "user/joe/x"),
        rename("user/joe/INBOX", "user/eve/x"),
        acl_set("user/eve/x", "anyone", "l"),
        acl_delete("user/eve/x", "anyone"),
        subscribe("joe", "user/eve/x"),
        subscribe("eve", "user/joe/INBOX"),
        unsubscribe("eve", "user/joe/INBOX"),
    ] {
        world.refused(command, RefusalKind::NoUser);
    }
    for command in [
        delete("user/joe/x"),
        rename("user/joe/x", "user/joe/y"),
        acl_set("user/joe/x", "anyone", "l"),
        acl_delete("user/joe/x", "anyone"),
        subscribe("joe", "user/joe/x"),
        Command::MailboxCreate { name: "user/joe/x".into(), partition: Some("moon".into()) },
    ] {
        world.refused(command, RefusalKind::NotFound);
    }
    let hint = world.refused(delete("user/joe/a b"), RefusalKind::NotFound).hint;
    assert_eq!(hint.as_deref(), Some("storectl mailbox list 'user/joe/*'"));
}

#[test]
fn a_shared_mailbox_inherits_the_rights_above_it() {
    let mut world = World::new();
    world.ok(create("shared/news"));
    assert_eq!(world.acl("shared/news"), entries(&[]));
    world.ok(acl_set("shared/news", "anyone", "lrs"));
    world.ok(create("shared/news/a/b"));
    assert_eq!(world.acl("shared/news/a/b"), entries(&[("anyone", "lrs")]));
    world.ok(create("shared"));
    assert_eq!(world.keys(Table::Rights), ["anyone: shared/news", "anyone: shared/news/a/b"]);
}

// I6
#[test]
fn a_name_never_has_one_uidvalidity_twice() {
    let mut world = World::with_users();
    let mut last = 0;
    for _ in 0..3 {
        world.ok(create("user/joe/x"));
        let uidvalidity = world.mailbox("user/joe/x").unwrap().uidvalidity;
        assert!(uidvalidity > last);
        last = uidvalidity;
        world.ok(delete("user/joe/x"));
    }
    assert_eq!(world.keys(Table::Past).len(), 4, "the name, and a tombstone for each");
    // an import may not bring back what the name had, also not the last; another name may have it
    world.ok(import("user/joe/x", last - 1, &[]));
    assert!(world.mailbox("user/joe/x").unwrap().uidvalidity > last);
    for name in ["user/joe/y", "user/joe/z"] {
        world.ok(import(name, 5000, &[]));
        assert_eq!(world.mailbox(name).unwrap().uidvalidity, 5000);
        world.ok(delete(name));
        world.ok(import(name, 5000, &[]));
        assert!(world.mailbox(name).unwrap().uidvalidity > 5000);
    }
}

// I6
#[test]
fn a_renamed_mailbox_keeps_its_uidvalidity_where_the_name_allows() {
    let mut world = World::with_users();
    world.ok(create("user/joe/old"));
    world.ok(create("user/joe/young"));
    let old = world.mailbox("user/joe/old").unwrap();
    let young = world.mailbox("user/joe/young").unwrap();
    world.ok(delete("user/joe/young"));
    world.ok(rename("user/joe/old", "user/joe/fresh"));
    assert_eq!(world.mailbox("user/joe/fresh").unwrap().uidvalidity, old.uidvalidity);
    world.ok(rename("user/joe/fresh", "user/joe/old"));
    assert_eq!(world.mailbox("user/joe/old").unwrap(), old, "back where it was");
    // `young` had a higher one, so this mailbox needs a new one there
    world.ok(rename("user/joe/old", "user/joe/young"));
    let there = world.mailbox("user/joe/young").unwrap();
    assert_eq!(there.id, old.id);
    assert!(there.uidvalidity > young.uidvalidity);
    // another mailbox took the old name meanwhile: going back needs a new one, too
    world.ok(create("user/joe/old"));
    let other = world.mailbox("user/joe/old").unwrap();
    world.ok(rename("user/joe/old", "user/joe/elsewhere"));
    world.ok(rename("user/joe/young", "user/joe/old"));
    assert!(world.mailbox("user/joe/old").unwrap().uidvalidity > other.uidvalidity);
}

// row 119
#[test]
fn inbox_stays() {
    let mut world = World::with_users();
    let refusal = world.refused(delete("user/joe/inbox"), RefusalKind::NotPermitted);
    assert!(refusal.hint.unwrap().ends_with("storectl user delete joe"));
    let refusal = world.refused(rename("user/joe/INBOX", "user/joe/Old"), RefusalKind::NotPermitted);
    assert!(refusal.hint.unwrap().contains("storectl user rename joe NEW"));
    world.ok(create("user/joe/x"));
    world.refused(rename("user/joe/x", "user/joe/Inbox"), RefusalKind::Exists);
    world.ok(create("user/joe/inbox/Sub"));
    world.ok(rename("user/joe/INBOX/Sub", "user/joe/Sub"));
    world.ok(delete("user/joe/Sub"));
}

#[test]
fn a_rename_moves_the_whole_subtree() {
    let mut world = World::with_users();
    for name in ["A", "A/b", "A/b/c", "A b", "AA", "A!"] {
        world.ok(create(&format!("user/joe/{name}")));
    }
    assert_eq!(world.ok(rename("user/joe/A", "user/joe/Z/y")), Outcome::Mailboxes(3));
    assert_eq!(
        world.keys(Table::Mailboxes)[1..],
        [
            "user/joe/A b",
            "user/joe/A!",
            "user/joe/AA",
            "user/joe/INBOX",
            "user/joe/Z/y",
            "user/joe/Z/y/b",
            "user/joe/Z/y/b/c",
        ]
    );
    world.refused(rename("user/joe/Z/y", "user/joe/AA"), RefusalKind::Exists);
    world.refused(rename("user/joe/Z/y", "user/joe/Z/y"), RefusalKind::Exists);
    world.refused(rename("user/joe/Z/y", "user/joe/Z/y/b/x"), RefusalKind::BadInput);
    // a taken name further down refuses all of it
    world.ok(create("user/joe/N/b"));
    let refusal = world.refused(rename("user/joe/Z/y", "user/joe/N"), RefusalKind::Exists);
    assert_eq!(refusal.message, "mailbox user/joe/N/b exists already");
}

// a mailbox may take a name that another one of the same move leaves
#[test]
fn a_rename_upwards_over_its_own_names() {
    let mut world = World::with_users();
    for name in ["a/b", "a/b/b", "a/b/b/b"] {
        world.ok(create(&format!("user/joe/{name}")));
    }
    let ids = |world: &World, names: [&str; 3]| names.map(|n| world.mailbox(n).unwrap().id);
    let before = ids(&world, ["user/joe/a/b", "user/joe/a/b/b", "user/joe/a/b/b/b"]);
    let lowest = world.mailbox("user/joe/a/b").unwrap().uidvalidity;
    world.ok(rename("user/joe/a/b", "user/joe/a"));
    assert_eq!(before, ids(&world, ["user/joe/a", "user/joe/a/b", "user/joe/a/b/b"]));
    assert!(world.mailbox("user/joe/a/b/b/b").is_none());
    assert!(world.mailbox("user/joe/a/b").unwrap().uidvalidity > lowest); // I6
}

// a mailbox that passes to another owner stays where it lies, and the new owner has all rights
#[test]
fn renames_between_owners() {
    let mut world = World::with_users();
    world.ok(create("user/joe/x"));
    world.ok(acl_set("user/joe/x", "group:staff", "lr"));
    world.deliver("user/joe/x", 100);
    let joes = world.user("joe").unwrap().directory;

    world.ok(rename("user/joe/x", "user/ann@example.org/x"));
    let row = world.mailbox("user/ann@example.org/x").unwrap();
    assert_eq!(row.home, Some(joes.clone()));
    assert_eq!(
        world.acl("user/ann@example.org/x"),
        entries(&[("ann@example.org", "lrswipkxtea"), ("group:staff", "lr")])
    );
    assert_eq!((world.quota("joe").storage_usage, world.quota("ann@example.org").storage_usage), (0, 100)); // I9

    world.ok(rename("user/ann@example.org/x", "shared/x"));
    let row = world.mailbox("shared/x").unwrap();
    assert_eq!(row.home, Some(joes.clone()));
    assert_eq!(row.directory(None), format!("{joes}/{}", row.id));
    assert_eq!(world.keys(Table::Rights), ["ann@example.org: shared/x", "group:staff: shared/x"]);
    assert_eq!(world.quota("ann@example.org").storage_usage, 0);

    world.ok(rename("shared/x", "user/joe/y"));
    let row = world.mailbox("user/joe/y").unwrap();
    assert_eq!(row.home, None, "it is home again");
    assert!(world.acl("user/joe/y").contains(&("joe".to_owned(), "lrswipkxtea".to_owned())));
    assert_eq!(world.quota("joe").storage_usage, 100);

    world.ok(create("shared/s"));
    world.ok(rename("shared/s", "user/joe/s"));
    assert_eq!(world.mailbox("user/joe/s").unwrap().home.as_deref(), Some("=shared"));
}

#[test]
fn an_atomic_batch_sees_itself_and_is_all_or_nothing() {
    let mut world = World::new();
    let batch = vec![
        user_add("joe"),
        create("user/joe/a"),
        create("user/joe/a/b"),
        rename("user/joe/a", "user/joe/c"),
        acl_set("user/joe/c/b", "anyone", "l"),
        delete("user/joe/c"),
        create("user/joe/c"),
        acl_set("user/joe/c", "joe", "+l"),
    ];
    let Outcome::Each(outcomes) = world.ok(Command::Atomic(batch)) else { panic!("not each") };
    assert_eq!(outcomes.len(), 8);
    assert_eq!(outcomes[3], Outcome::Mailboxes(2));
    assert_eq!(outcomes[7], Outcome::Unchanged);
    assert_eq!(world.keys(Table::Mailboxes), ["user/joe/INBOX", "user/joe/c", "user/joe/c/b"]);

    // what an earlier command removed is not there for a later one
    world.ok(Command::Atomic(vec![delete("user/joe/c/b"), create("user/joe/c/d"), rename("user/joe/c", "user/joe/e")]));
    assert_eq!(world.keys(Table::Mailboxes), ["user/joe/INBOX", "user/joe/e", "user/joe/e/d"]);
    world.ok(Command::Atomic(vec![rename("user/joe/e", "user/joe/f"), user_rename("joe", "jim"), user_add("joe")]));
    assert_eq!(world.keys(Table::Mailboxes), ["user/jim/INBOX", "user/jim/f", "user/jim/f/d", "user/joe/INBOX"]);

    let batch = vec![create("user/joe/x"), user_delete("joe"), create("user/joe/y")];
    let refusal = world.refused(Command::Atomic(batch), RefusalKind::NoUser);
    assert_eq!(refusal.message, "command 3 of the batch: no such user: joe; nothing of the batch was done");
    world.refused(Command::Atomic(vec![create("shared/x"), create("shared/x")]), RefusalKind::Exists);
    world.refused(Command::Atomic(vec![Command::Atomic(vec![])]), RefusalKind::BadInput);
    assert_eq!(world.ok(Command::Atomic(vec![])), Outcome::Each(vec![]));
}
