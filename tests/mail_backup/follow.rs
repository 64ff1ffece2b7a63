//! Names that change between an archive and the one that follows it.

use super::{backup, contents, count, deliver, message, restore, text};
use crate::harness::TestStore;
use serde_json::json;

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
        deliver(&from, &[&name], &message(format!("new {name}"), 300));
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

// row 136: of the archive before only heads are read, whatever its size; all of it where its index is gone, and one of which less is known
// than it holds is refused
#[test]
fn an_archive_follows_one_by_its_index_or_by_all_of_it() {
    let from = TestStore::new();
    let _one = from.start();
    from.ctl(&["user", "add", "ann"]).expect(0);
    let inbox = "user/ann/INBOX";
    deliver(&from, &[inbox], &message("large", 200_000));
    (0..3).for_each(|n| deliver(&from, &[inbox], &message(format!("m{n}"), 500)));
    let base = from.beside("base.sda");
    backup(&from, &base, &["/"]);
    let whole = std::fs::read(&base).unwrap();
    from.ctl(&["message", "expunge", inbox, "2"]).expect(0);
    from.ctl(&["message", "flags", inbox, "3", "--add", "\\Flagged"]).expect(0);
    deliver(&from, &[inbox], &message("new", 500));
    let next = from.beside("next.sda");
    let follows = |flipped: &[usize], status: i32| {
        let mut bytes = whole.clone();
        flipped.iter().for_each(|at| bytes[*at] ^= 0x10);
        std::fs::write(&base, bytes).unwrap();
        let _ = std::fs::remove_file(&next);
        let done =
            from.ctl(&["--json", "backup", "-f", text(&next), "--since-archive", text(&base), "/"]).expect(status);
        if status > 0 {
            assert!(done.err.contains("is damaged") && done.err.contains("without --since-archive"), "{}", done.err);
            return;
        }
        let done = done.json();
        assert_eq!((&done["messages"], &done["copies"]), (&json!(1), &json!(1)), "{flipped:?}: {done}");
        std::fs::write(&base, &whole).unwrap();
        let to = TestStore::new();
        let _two = to.start();
        restore(&to, &base, &[], 0);
        restore(&to, &next, &[], 0);
        assert_eq!(contents(&to), contents(&from), "{flipped:?}");
    };
    let (in_a_message, in_the_footer) = (whole.len() / 2, whole.len() - 17);
    follows(&[], 0);
    follows(&[in_a_message], 0);
    follows(&[in_the_footer], 0);
    follows(&[in_a_message, in_the_footer], 65);
}
