use super::*;
use crate::model::LimitChange::{Keep, Remove, To};
use crate::model::command::Recalculated;
use crate::model::quota::{QuotaRoot, Usage};
use crate::model::{LimitChange, MailboxName};
use crate::store::plan::Limits;

fn quota_set(root: &str, storage: LimitChange, messages: LimitChange) -> Command {
    Command::QuotaSet { root: root.into(), storage, messages }
}

fn recalc(root: &str) -> Command {
    Command::QuotaRecalc { root: root.into() }
}

/// Limits and usage of storage of every root.
fn roots(world: &World) -> Vec<(String, Option<u64>, u64)> {
    let mut found = Vec::new();
    for (root, row) in all(world) {
        found.push((root, row.storage_limit, row.storage_usage));
    }
    found
}

fn all(world: &World) -> Vec<(String, QuotaRow)> {
    let key = |root: &str| QuotaRoot::parse(root).unwrap().key();
    let row = |root: &String| {
        QuotaRow::decode(&key(root), &world.rows.get(Table::Quotas, &key(root)).unwrap().unwrap()).unwrap()
    };
    world.keys(Table::Quotas).into_iter().map(|root| (root.clone(), row(&root))).collect()
}

fn list(roots: &[(&str, Option<u64>, u64)]) -> Vec<(String, Option<u64>, u64)> {
    roots.iter().map(|(root, limit, usage)| ((*root).to_owned(), *limit, *usage)).collect()
}

/// joe with mail: INBOX 1, A 10, A/B 100, A/B/C 1000, Z 10000; shared/n 5, shared/n/x 50.
fn with_mail() -> World {
    let mut world = World::with_users();
    for (name, bytes) in [
        ("user/joe/INBOX", 1),
        ("user/joe/A", 10),
        ("user/joe/A/B", 100),
        ("user/joe/A/B/C", 1000),
        ("user/joe/Z", 10_000),
        ("shared/n", 5),
        ("shared/n/x", 50),
    ] {
        if !name.ends_with("INBOX") {
            world.ok(create(name));
        }
        world.deliver(name, bytes);
    }
    world
}

// rows 114, 117
#[test]
fn limits_are_set_kept_and_taken_away() {
    let mut world = World::with_users();
    assert_eq!(world.ok(quota_set("joe", To(1 << 40), Keep)), Outcome::Done);
    assert_eq!(world.ok(quota_set("user/joe", Keep, To(0))), Outcome::Done);
    let row = world.quota("joe");
    assert_eq!((row.storage_limit, row.message_limit), (Some(1 << 40), Some(0)));
    assert_eq!(world.ok(quota_set("joe", To(1 << 40), Keep)), Outcome::Unchanged);
    assert_eq!(world.ok(quota_set("joe", Keep, Keep)), Outcome::Unchanged);
    world.ok(quota_set("joe", Remove, To(u64::MAX)));
    world.ok(quota_set("joe", Keep, Remove));
    assert_eq!((world.quota("joe").storage_limit, world.quota("joe").message_limit), (None, None));
    assert_eq!(world.ok(quota_set("user/joe/inbox", Remove, Remove)), Outcome::Unchanged, "was no root, is none");
    world.refused(quota_set("eve", To(1), Keep), RefusalKind::NoUser);
    world.refused(quota_set("user/eve/x", To(1), Keep), RefusalKind::NoUser);
    world.refused(quota_set("user/joe/x", To(1), Keep), RefusalKind::NotFound);
    world.refused(quota_set("shared", To(1), Keep), RefusalKind::NotFound);
    for bad in ["", "user/", "a b", "joe/x", "user/joe/", "shared/*", &"x".repeat(5000), &"shared/x".repeat(5000)] {
        world.refused(quota_set(bad, To(1), Keep), RefusalKind::BadInput);
        world.refused(recalc(bad), RefusalKind::BadInput);
    }
    assert_eq!(world.keys(Table::Quotas), ["user/ann@example.org", "user/joe"]);
}

// row 114, I9: a mailbox counts in the nearest root, whatever roots come and go
#[test]
fn a_mailbox_becomes_a_root_and_is_none_again() {
    let mut world = with_mail();
    let ann = ("user/ann@example.org", None, 0);
    assert_eq!(roots(&world), list(&[ann, ("user/joe", None, 11_111)]));
    world.ok(quota_set("user/joe/A", To(50), Keep));
    assert_eq!(roots(&world), list(&[ann, ("user/joe", None, 10_001), ("user/joe/A", Some(50), 1110)]));
    world.ok(quota_set("user/joe/A/B/C", To(7), To(1)));
    world.ok(quota_set("shared/n", To(9), Keep));
    let nested = [
        ("shared/n", Some(9), 55),
        ann,
        ("user/joe", None, 10_001),
        ("user/joe/A", Some(50), 110),
        ("user/joe/A/B/C", Some(7), 1000),
    ];
    assert_eq!(roots(&world), list(&nested));
    // Between two roots.
    world.ok(quota_set("user/joe/A/B", Keep, To(3)));
    assert_eq!(roots(&world)[3..5], list(&[("user/joe/A", Some(50), 10), ("user/joe/A/B", None, 100)]));
    world.ok(quota_set("user/joe/A/B", Keep, Remove));
    assert_eq!(roots(&world), list(&nested));
    world.ok(quota_set("user/joe/A", Remove, Keep));
    world.ok(quota_set("shared/n", Remove, Keep));
    assert_eq!(roots(&world), list(&[ann, ("user/joe", None, 10_111), ("user/joe/A/B/C", Some(7), 1000)]));
    world.ok(delete("user/joe/A/B/C"));
    assert_eq!(roots(&world), list(&[ann, ("user/joe", None, 10_111)]), "deleted mail counts nowhere");
    // A root that is deleted leaves what lay below to the root above.
    world.ok(quota_set("user/joe/A", To(1), Keep));
    world.ok(delete("user/joe/A"));
    assert_eq!(roots(&world), list(&[ann, ("user/joe", None, 10_101)]));
    world.ok(user_delete("joe"));
    assert_eq!(roots(&world), list(&[ann]));
}

// row 114, I9
#[test]
fn roots_follow_their_mailboxes() {
    let mut world = with_mail();
    world.ok(quota_set("user/joe/A/B", To(5000), To(7)));
    world.ok(rename("user/joe/A", "user/ann@example.org/From joe"));
    let moved = [
        ("user/ann@example.org", None, 10),
        ("user/ann@example.org/From joe/B", Some(5000), 1100),
        ("user/joe", None, 10_001),
    ];
    assert_eq!(roots(&world), list(&moved));
    world.ok(user_rename("ann@example.org", "eve"));
    world.ok(quota_set("shared/n", To(90), Keep));
    world.ok(rename("user/eve/From joe/B", "shared/n/x/B"));
    let all = [
        ("shared/n", Some(90), 55),
        ("shared/n/x/B", Some(5000), 1100),
        ("user/eve", None, 10),
        ("user/joe", None, 10_001),
    ];
    assert_eq!(roots(&world), list(&all));
    world.ok(rename("shared/n/x", "shared/o"));
    world.ok(delete("shared/n"));
    world.ok(rename("shared/o/B", "shared/n"));
    assert_eq!(roots(&world)[..2], list(&[("shared/n", Some(5000), 1100), ("user/eve", None, 10)]));
}

// I9: a root that comes to a name covers what lay below that name before
#[test]
fn a_root_that_comes_covers_what_it_finds() {
    let mut world = with_mail();
    world.ok(create("shared/B/x"));
    world.ok(create("shared"));
    world.deliver("shared/B/x", 3);
    world.ok(quota_set("shared", To(5), Keep));
    world.ok(quota_set("user/joe/Z", To(6), Keep));
    assert_eq!(roots(&world)[0], list(&[("shared", Some(5), 58)])[0]);
    world.ok(rename("user/joe/Z", "shared/B"));
    assert_eq!(roots(&world)[..2], list(&[("shared", Some(5), 55), ("shared/B", Some(6), 10_003)]));
}

// row 117: what would take the root above over its limit does not come in; a limit below what is there takes nothing away
#[test]
fn mailboxes_do_not_move_into_a_full_root() {
    let mut world = with_mail();
    world.ok(quota_set("ann@example.org", To(1000), Keep));
    let full = world.refused(rename("user/joe/Z", "user/ann@example.org/Z"), RefusalKind::OverQuota);
    assert_eq!(full.kind.exit(), 75);
    assert_eq!(full.hint.as_deref(), Some("storectl quota get user/ann@example.org"));
    world.ok(quota_set("ann@example.org", To(100_000), To(0)));
    world.refused(rename("user/joe/Z", "user/ann@example.org/Z"), RefusalKind::OverQuota);
    world.ok(create("user/joe/empty"));
    world.ok(rename("user/joe/empty", "user/ann@example.org/empty"));
    world.ok(quota_set("joe", To(1), Keep));
    world.ok(rename("user/joe/Z", "user/joe/Y"));
    world.ok(quota_set("user/joe/A", To(1), Keep));
    world.ok(rename("user/joe/A", "user/joe/B"));
    world.ok(quota_set("ann@example.org", To(10_000), Remove));
    world.ok(rename("user/joe/Y", "user/ann@example.org/Z"));
}

// I9: usage that is wrong is put right, from the rows of the mailboxes alone
#[test]
fn wrong_usage_is_counted_again() {
    let mut world = with_mail();
    world.ok(quota_set("user/joe/A", To(50), Keep));
    assert_eq!(world.ok(recalc("joe")), Outcome::Recalculated(Vec::new()));
    for (root, usage) in [("joe", (7, 99)), ("user/joe/A", (0, 0))] {
        let key = QuotaRoot::parse(root).unwrap().key();
        let row = QuotaRow::decode(&key, &world.rows.get(Table::Quotas, &key).unwrap().unwrap()).unwrap();
        world.put(key, &row.with_usage(Usage { bytes: usage.0, messages: usage.1 }));
    }
    assert_eq!(check::check(&world.rows).unwrap().total, 2);
    world.checked = false;
    let wrong = |root: &str, from, to| {
        let usage = |(bytes, messages)| Usage { bytes, messages };
        Outcome::Recalculated(vec![Recalculated { root: root.into(), from: usage(from), to: usage(to) }])
    };
    let both = Command::Atomic(vec![recalc("user/joe/A"), recalc("user/joe"), recalc("joe")]);
    let expected = Outcome::Each(vec![
        wrong("user/joe/A", (0, 0), (1110, 3)),
        wrong("user/joe", (7, 99), (10_001, 2)),
        Outcome::Recalculated(Vec::new()),
    ]);
    assert_eq!(world.ok(both), expected);
    world.check("recalc");
    let none = world.refused(recalc("user/joe/A/B"), RefusalKind::NotFound);
    assert!(none.message.ends_with("it counts in user/joe/A"), "{none}");
    let none = world.refused(recalc("shared/n"), RefusalKind::NotFound);
    assert_eq!(none.hint.as_deref(), Some("storectl quota set shared/n --storage SIZE"));
}

// I9: a batch that makes, moves and takes away roots is as good as its commands one by one
#[test]
fn a_batch_sees_its_own_roots() {
    let mut world = with_mail();
    world.ok(Command::Atomic(vec![
        quota_set("user/joe/A/B", To(1), Keep),
        quota_set("user/joe/A", To(2), Keep),
        rename("user/joe/A", "shared/A"),
        quota_set("shared/A", Remove, Keep),
        create("shared"),
        quota_set("shared", To(3), Keep),
        recalc("shared"),
    ]));
    let expected = [
        ("shared", Some(3), 65),
        ("shared/A/B", Some(1), 1100),
        ("user/ann@example.org", None, 0),
        ("user/joe", None, 10_001),
    ];
    assert_eq!(roots(&world), list(&expected));
}

// row 117
#[test]
fn new_users_get_the_limits_of_the_configuration() {
    let mut world = World::new();
    world.limits = Limits { default_storage: Some(100), default_messages: Some(5), ..Limits::default() };
    let add = |user: &str, quota_bytes, quota_messages| {
        let user = user.into();
        Command::UserAdd { user, partition: None, quota_bytes, quota_messages }
    };
    world.ok(add("joe", None, None));
    world.ok(add("ann", Some(7), None));
    world.ok(import("user/eve/x", 5, &[]));
    let limits = |user: &str| (world.quota(user).storage_limit, world.quota(user).message_limit);
    assert_eq!(limits("joe"), (Some(100), Some(5)));
    assert_eq!(limits("ann"), (Some(7), Some(5)));
    assert_eq!(limits("eve"), (Some(100), Some(5)));
}

// row 117: create, import and rename into; what is there already stays, and moves
#[test]
fn a_user_has_at_most_so_many_mailboxes() {
    let mut world = World::new();
    world.limits.mailboxes_per_user = 3;
    world.ok(user_add("joe"));
    world.ok(user_add("joey"));
    world.ok(create("user/joe/A"));
    world.ok(create("user/joe/A/B"));
    let full = world.refused(create("user/joe/C"), RefusalKind::OverQuota);
    assert_eq!(full.kind.exit(), 75);
    assert!(full.message.contains("limits.mailboxes_per_user"), "{full}");
    world.refused(import("user/joe/C", 9, &[]), RefusalKind::OverQuota);
    assert_eq!(world.ok(import("user/joe/A", 0, &[("joe", "lrswipkxtea")])), Outcome::Unchanged);
    world.ok(create("user/joey/A"));
    world.refused(rename("user/joe/A", "user/joey/B"), RefusalKind::OverQuota);
    world.ok(rename("user/joe/A", "user/joe/Z"));
    world.ok(create("shared/x"));
    world.refused(rename("shared/x", "user/joe/x"), RefusalKind::OverQuota);
    world.ok(rename("user/joe/Z/B", "user/joey/B"));
    // In a batch each command counts what the ones before it did.
    let swap = |first, second| Command::Atomic(vec![first, second]);
    world.refused(swap(create("user/joe/1"), create("user/joe/2")), RefusalKind::OverQuota);
    world.ok(swap(delete("user/joe/Z"), create("user/joe/1")));
    world.ok(swap(create("user/joe/2"), user_rename("joe", "jim")));
    world.refused(create("user/jim/3"), RefusalKind::OverQuota);
    world.limits.mailboxes_per_user = 1;
    world.ok(user_add("new"));
    world.refused(import("user/other/x", 9, &[]), RefusalKind::OverQuota);
    world.ok(user_rename("jim", "joe"));
    world.ok(rename("user/joe/1", "user/joe/0"));
    world.ok(delete("user/joe/0"));
    world.refused(create("user/joe/0"), RefusalKind::OverQuota);
    world.limits.mailboxes_per_user = 0;
    world.ok(create("user/joe/0"));
    assert!(world.mailbox("user/joe/INBOX").is_some() && MailboxName::parse("user/joe/0").is_ok());
}
