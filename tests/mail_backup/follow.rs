//! Names that change between an archive and the one that follows it.

use super::{backup, contents, count, deliver, message, restore, text};
use crate::harness::TestStore;

// A mailbox that was renamed or deleted, and a new one under its name: mail of the one never comes into the other
#[test]
fn a_name_that_another_mailbox_has_since_is_not_taken_for_the_old_one() {
    let (from, to) = (TestStore::new(), TestStore::new());
    let (_one, _two) = (from.start(), to.start());
    let (base, next) = (from.beside("base.sda"), from.beside("next.sda"));
    from.ctl(&["user", "add", "ann"]).expect(0);
    for name in ["A", "B", "C", "D", "E"] {
        let name = format!("user/ann/{name}");
        from.ctl(&["mailbox", "create", &name]).expect(0);
        deliver(&from, &[&name], &message(&name, 300));
    }
    backup(&from, &base, &["/"]);
    let rename = |old: &str, new: &str| {
        from.ctl(&["mailbox", "rename", &format!("user/ann/{old}"), &format!("user/ann/{new}")]).expect(0);
    };
    let create = |name: &str| {
        let name = format!("user/ann/{name}");
        from.ctl(&["mailbox", "create", &name]).expect(0);
        deliver(&from, &[&name], &message(&format!("new {name}"), 300));
    };
    rename("A", "A2");
    create("A");
    rename("B", "X");
    rename("C", "B");
    rename("X", "C");
    from.ctl(&["mailbox", "delete", "user/ann/D", "--yes"]).expect(0);
    create("D");
    rename("E", "F");
    backup(&from, &next, &["--since-archive", text(&base), "/"]);
    restore(&to, &base, &[], 0);
    let done = restore(&to, &next, &[], 0);
    // Whichever took a name with a lower UIDVALIDITY than the name has had is another mailbox for everybody (I6).
    assert_eq!((count(&done, "restored"), count(&done, "deleted_mailboxes")), (3, 2), "{done}");
    assert_eq!(contents(&to), contents(&from));
    restore(&to, &next, &[], 0);
    assert_eq!(contents(&to), contents(&from), "a second run changes nothing");
    // One that has newer mail here is kept, and what has its name in the archive lies beside it.
    let third = TestStore::new();
    let _three = third.start();
    restore(&third, &base, &[], 0);
    deliver(&third, &["user/ann/D"], &message("newer here", 100));
    let told = third.ctl(&["restore", "-f", text(&next), "--yes"]).expect(0);
    assert!(told.err.contains("user/ann/D is gone in the archive, and is kept here"), "{}", told.err);
    let list = |name: &str| third.json(&["message", "list", name]).as_array().unwrap().len();
    assert_eq!(list("user/ann/D"), 2);
    let names = third.json(&["mailbox", "list", "user/ann/D.*"]);
    assert_eq!(list(names[0]["name"].as_str().unwrap()), 1);
}

// A user with very many subscriptions and a mailbox with very many gaps fit into frames
#[test]
fn long_lists_stand_in_several_frames() {
    let (from, to) = (TestStore::new(), TestStore::new());
    let (_one, _two) = (from.start(), to.start());
    from.ctl(&["user", "add", "ann"]).expect(0);
    let mut lines = String::new();
    for n in 0..1500 {
        let name = format!("user/ann/{}/{n}", "x".repeat(200));
        lines += &format!("mailbox create {name}\nsubscribe ann {name}\n");
    }
    from.ctl_with(&["batch", "-"], Some(lines.as_bytes())).expect(0);
    let file = from.beside("all.sda");
    backup(&from, &file, &["ann"]);
    restore(&to, &file, &[], 0);
    let subscriptions = |store: &TestStore| store.json(&["user", "show", "ann"])["subscriptions"].clone();
    assert_eq!(subscriptions(&to), subscriptions(&from));
}
