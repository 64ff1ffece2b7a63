use super::*;

// row 119: a list brings users along; a second run changes nothing
#[test]
fn imports_create_what_is_missing_and_can_be_repeated() {
    let mut world = World::new();
    let acl = [("joe@example.net", "lrswipkxtecdan"), ("cyrus", "lrswipkxtecda")];
    let list = [
        import("user/joe@example.net/INBOX", 1_795_311_962, &acl),
        import("user/joe@example.net/Projekte/\u{c4}pfel", 1_795_311_963, &acl),
        import("shared", 1_795_311_987, &[("anyone", "lrs")]),
        // a user of whom the list has no INBOX gets one
        import("user/ann/Sub", 7, &[("anyone", "lrs9")]),
        // a list that states no UIDVALIDITY
        import("shared/old", 0, &[]),
    ];
    for command in &list {
        assert!(matches!(world.run(command), Ok(Outcome::Created { .. })), "{command:?}");
    }
    let inbox = world.mailbox("user/joe@example.net/INBOX").unwrap();
    assert_eq!(inbox.uidvalidity, 1_795_311_962);
    assert_eq!(
        world.acl("user/joe@example.net/INBOX"),
        entries(&[("cyrus", "lrswipkxtecda"), ("joe@example.net", "lrswipkxtecdan")]),
        "letters stay as they are"
    );
    assert_eq!(world.acl("user/ann/Sub"), entries(&[("anyone", "lrs9")]));
    assert!(world.mailbox("user/ann/INBOX").is_some());
    assert_ne!(world.mailbox("shared/old").unwrap().uidvalidity, 0);
    assert_eq!(world.ids.noted, [1_795_311_962, 1_795_311_963, 1_795_311_987, 7], "no one else gets them");
    for command in &list {
        assert_eq!(world.run(command), Ok(Outcome::Unchanged), "{command:?}");
    }
}

#[test]
fn an_import_never_changes_a_mailbox() {
    let mut world = World::with_users();
    world.ok(import("user/joe/x", 77, &[("joe", "lrs")]));
    let refusal = world.refused(import("user/joe/x", 78, &[("joe", "lrs")]), RefusalKind::Exists);
    assert_eq!(refusal.message, "mailbox user/joe/x exists already, with UIDVALIDITY 77; the list says 78");
    let refusal = world.refused(import("user/joe/x", 77, &[("joe", "lr")]), RefusalKind::Exists);
    assert_eq!(refusal.message, "mailbox user/joe/x exists already, with rights joe lrs; the list says joe lr");
    world.refused(import("user/joe/x", 77, &[]), RefusalKind::Exists);
    world.refused(import("user/joe/INBOX", 77, &[]), RefusalKind::Exists);
}

#[test]
fn imports_that_are_refused() {
    let mut world = World::with_users();
    world.refused(import("user/j e/x", 1, &[]), RefusalKind::BadInput);
    world.refused(import("user/eve/x", 1, &[("eve", "l r")]), RefusalKind::BadInput);
    world.refused(import("user/eve/x", 1, &[("a\tb", "l")]), RefusalKind::BadInput);
    assert_eq!(world.user("eve"), None);
    let nowhere = Command::ImportMailbox {
        name: "user/eve/x".into(),
        partition: Some("moon".into()),
        uidvalidity: 1,
        acl: Acl::new(),
    };
    world.refused(nowhere, RefusalKind::NotFound);
    assert_eq!(world.user("eve"), None);
}

// row 115
#[test]
fn imports_go_to_their_partition() {
    let mut world = World::new();
    let on = |name: &str, partition: Option<&str>| Command::ImportMailbox {
        name: name.into(),
        partition: partition.map(str::to_owned),
        uidvalidity: 5,
        acl: Acl::new(),
    };
    world.ok(on("user/joe/INBOX", Some("archive")));
    world.ok(on("user/joe/a", None));
    world.ok(on("user/joe/b", Some("primary")));
    world.ok(on("shared/a", Some("archive")));
    let partition = |name: &str| world.mailbox(name).unwrap().partition;
    assert_eq!(world.user("joe").unwrap().partition, "archive");
    assert_eq!(partition("user/joe/INBOX"), "archive");
    assert_eq!(partition("user/joe/a"), "primary");
    assert_eq!(partition("user/joe/b"), "primary");
    assert_eq!(partition("shared/a"), "archive");
}
