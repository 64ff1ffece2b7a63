use super::*;

// row 114: both tables of rights change together
#[test]
fn rights_are_set_added_removed_and_deleted() {
    let mut world = World::with_users();
    let name = "user/joe/INBOX";
    assert_eq!(world.ok(acl_set(name, "ann@example.org", "srl")), Outcome::Done);
    assert_eq!(world.ok(acl_set(name, "ann@example.org", "lrs")), Outcome::Unchanged);
    world.ok(acl_set(name, "ann@example.org", "+wi"));
    world.ok(acl_set(name, "-ann@example.org", "x"));
    world.ok(acl_set(name, "group:staff", "l"));
    assert_eq!(
        world.acl(name),
        entries(&[
            ("-ann@example.org", "x"),
            ("ann@example.org", "lrswi"),
            ("group:staff", "l"),
            ("joe", "lrswipkxtea")
        ])
    );
    assert_eq!(
        world.keys(Table::Rights),
        ["-ann@example.org: user/joe/INBOX", "ann@example.org: user/joe/INBOX", "group:staff: user/joe/INBOX"]
    );
    world.ok(acl_set(name, "ann@example.org", "-lrswi"));
    world.ok(acl_set(name, "group:staff", ""));
    assert_eq!(world.ok(acl_set(name, "group:staff", "-l")), Outcome::Unchanged);
    world.ok(acl_delete(name, "-ann@example.org"));
    assert_eq!(world.acl(name), entries(&[("joe", "lrswipkxtea")]));
    assert_eq!(world.keys(Table::Rights), Vec::<String>::new());
    let refusal = world.refused(acl_delete(name, "ann@example.org"), RefusalKind::NotFound);
    assert_eq!(refusal.hint.as_deref(), Some("storectl acl get user/joe/INBOX"));
    // the owner's entry is an entry like others, but not in the other table
    world.ok(acl_set(name, "joe", "-a"));
    world.ok(acl_delete(name, "joe"));
    assert_eq!(world.acl(name), entries(&[]));
}

#[test]
fn rights_that_are_refused() {
    let mut world = World::with_users();
    let name = "user/joe/INBOX";
    for (identifier, rights) in [("joe", "lrz"), ("joe", "L"), ("", "l"), ("-", "l"), ("a\u{2}b", "l"), ("a\tb", "l")] {
        world.refused(acl_set(name, identifier, rights), RefusalKind::BadInput);
    }
    world.refused(acl_set(name, &"a".repeat(256), "l"), RefusalKind::BadInput);
    world.refused(acl_delete(name, ""), RefusalKind::BadInput);
    world.checked = false;
    for n in 0..999 {
        world.ok(acl_set(name, &format!("u{n}"), "l"));
    }
    world.checked = true;
    world.refused(acl_set(name, "u999", "l"), RefusalKind::BadInput);
    world.ok(acl_set(name, "u998", "lr"));
}

#[test]
fn subscriptions() {
    let mut world = World::with_users();
    world.ok(create("user/joe/x"));
    assert_eq!(world.ok(subscribe("joe", "user/joe/x")), Outcome::Done);
    assert_eq!(world.ok(subscribe("joe", "user/joe/x")), Outcome::Unchanged);
    world.ok(subscribe("ann@example.org", "user/joe/inbox"));
    assert_eq!(world.keys(Table::Subscriptions), ["ann@example.org: user/joe/INBOX", "joe: user/joe/x"]);
    // RFC 9051 6.3.7: a deleted mailbox stays subscribed until the subscriber says otherwise
    world.ok(delete("user/joe/x"));
    assert_eq!(world.keys(Table::Subscriptions).len(), 2);
    assert_eq!(world.ok(unsubscribe("joe", "user/joe/x")), Outcome::Done);
    assert_eq!(world.ok(unsubscribe("joe", "user/joe/x")), Outcome::Unchanged);
    world.ok(user_delete("joe"));
    assert_eq!(world.ok(unsubscribe("ann@example.org", "user/joe/INBOX")), Outcome::Done);
}
