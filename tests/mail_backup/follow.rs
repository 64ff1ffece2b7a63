//! Names that change between an archive and the one that follows it.

use super::{backup, contents, count, deliver, message, restore, text};
use crate::harness::TestStore;
use serde_json::{Value, json};
use std::path::Path;

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

// row 136: a message that is damaged in the archive before counted as one that it has: it was in no archive, night after night
#[test]
fn what_is_damaged_in_the_archive_before_is_taken_again() {
    let from = TestStore::new();
    let _one = from.start();
    from.ctl(&["user", "add", "ann"]).expect(0);
    from.ctl(&["user", "add", "bob"]).expect(0);
    let (inbox, other) = ("user/ann/INBOX", "user/bob/INBOX");
    (0..6).for_each(|n| deliver(&from, &[inbox, other], &message(format!("both {n}"), 60_000)));
    (0..3).for_each(|n| deliver(&from, &[inbox], &message(format!("short {n}"), 500)));
    from.ctl(&["message", "flags", inbox, "2,3,4,8", "--add", "$Work"]).expect(0);
    let (base, next, last) = (from.beside("base.sda"), from.beside("next.sda"), from.beside("last.sda"));
    backup(&from, &base, &["/"]);
    let whole = std::fs::read(&base).unwrap();
    from.ctl(&["message", "expunge", inbox, "7"]).expect(0);
    deliver(&from, &[inbox], &message("new", 500));
    let follow = |file: &Path, args: &[&str], status: i32| {
        let args = [&["--json", "backup", "-f", text(file), "--since-archive"], args, &["/"]].concat();
        from.ctl(&args).expect(status)
    };
    let prove = |bytes: &[u8], status: i32| {
        std::fs::write(&base, bytes).unwrap();
        follow(&next, &[text(&base), "--verify-base"], status)
    };
    let clean = prove(&whole, 0).json();
    assert_eq!((&clean["messages"], &clean["base_damage"]), (&json!(1), &Value::Null), "{clean}");
    // Damage in a message, of the size of a few; the end, or half of it, is missing.
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let cases = [
        flipped(whole.len() / 4),
        flipped(whole.len() / 2),
        whole[..whole.len() / 2].to_vec(),
        whole[..whole.len() - 200].to_vec(),
    ];
    for (n, bytes) in cases.iter().enumerate() {
        std::fs::write(&base, bytes).unwrap();
        if n < 2 {
            // Nobody looks at it.
            assert_eq!(follow(&next, &[text(&base)], 0).json()["messages"], 1);
        }
        let run = prove(bytes, 1);
        assert!(run.err.contains("of "), "{}", run.err);
        let done = run.json();
        let named: Vec<&Value> = done["base_damage"].as_array().unwrap().iter().collect();
        assert!(named.iter().any(|one| one["object"].as_str().unwrap().starts_with("bytes ")), "{done}");
        if n < 2 {
            // Of two names of the same bytes both are lost.
            let of = |object: &str| named.iter().filter(|one| one["object"] == object && one["uid"].is_u64()).count();
            assert_eq!((of("/primary/user/ann/INBOX"), of("/primary/user/bob/INBOX")), (1, 1), "case {n}: {done}");
            // And, in the second round, other flags.
            assert_eq!((&done["messages"], &done["copies"]), (&json!(2), &json!(1 + n)), "case {n}: {done}");
        }
        let to = TestStore::new();
        let _two = to.start();
        restore(&to, &base, &[], 1);
        restore(&to, &next, &[], 0);
        // Each in the place that it had.
        assert_eq!(contents(&to), contents(&from), "case {n}");
        // And the next one in the row finds what it looks for.
        let flags = from.ctl(&["message", "flags", inbox, "2", "--add", "\\Flagged"]);
        flags.expect(0);
        backup(&from, &last, &["--since-archive", text(&next), "/"]);
        restore(&to, &last, &[], 0);
        assert_eq!(contents(&to), contents(&from), "case {n}");
        from.ctl(&["message", "flags", inbox, "2", "--remove", "\\Flagged"]).expect(0);
    }
    // Without its head nothing is known of it.
    let refused = prove(&whole[whole.len() / 3..], 65);
    assert!(refused.err.contains("without --since-archive"), "{}", refused.err);
    from.ctl(&["backup", "-f", text(&next), "--verify-base", "/"]).expect(64);
}

// row 136: a mailbox that an operator had made before the archives came kept what was expunged between the two, with 0 and without a word
#[test]
fn a_mailbox_that_was_there_before_follows_or_is_said_to_keep_what_is_gone() {
    let inbox = "user/ann/INBOX";
    for is_dense in [true, false] {
        let (from, to) = (TestStore::new(), TestStore::new());
        let (_one, _two) = (from.start(), to.start());
        from.ctl(&["user", "add", "ann"]).expect(0);
        (0..5).for_each(|n| deliver(&from, &[inbox], &message(format!("m{n}"), 500)));
        from.ctl(&["message", "expunge", inbox, if is_dense { "5" } else { "1" }]).expect(0);
        let (full, next) = (from.beside("full.sda"), from.beside("next.sda"));
        backup(&from, &full, &["/"]);
        from.ctl(&["message", "expunge", inbox, "3"]).expect(0);
        from.ctl(&["message", "flags", inbox, "4", "--add", "\\Flagged"]).expect(0);
        deliver(&from, &[inbox], &message("new", 500));
        backup(&from, &next, &["--since-archive", text(&full), "/"]);

        to.ctl(&["user", "add", "ann"]).expect(0);
        // So that its UIDVALIDITY is another one on the fastest machine, too.
        to.ctl(&["user", "delete", "ann", "--yes"]).expect(0);
        to.ctl(&["user", "add", "ann"]).expect(0);
        let uidvalidity = |store: &TestStore| store.json(&["mailbox", "show", inbox])["uidvalidity"].clone();
        assert_ne!(uidvalidity(&from), uidvalidity(&to));
        restore(&to, &full, &[], 0);
        let messages = |store: &TestStore| -> Vec<(Value, Value)> {
            let all = store.json(&["message", "list", inbox]);
            all.as_array().unwrap().iter().map(|one| (one["digest"].clone(), one["flags"].clone())).collect()
        };
        if !is_dense {
            let told = to.ctl(&["restore", "-f", text(&next), "--yes"]).expect(1);
            let all = format!("{}{}", told.out, told.err);
            assert!(all.contains("1 message more than the archive (5 and 4)"), "{told:?}");
            assert!(all.contains("1 with other flags") && all.contains("into an empty store"), "{told:?}");
            assert_eq!(messages(&to).len(), 5);
            // Said again, as long as it is so; and not where nobody asked for it.
            assert_eq!(count(&restore(&to, &next, &[], 1), "unrestorable"), 1);
            restore(&to, &next, &["--skip-deletes"], 0);
            // What it says to type does it.
            let third = TestStore::new();
            let _three = third.start();
            restore(&third, &full, &[], 0);
            restore(&third, &next, &[], 0);
            let whole = third.beside("whole.sda");
            backup(&third, &whole, &["/"]);
            to.ctl(&["user", "delete", "ann", "--yes"]).expect(0);
            restore(&to, &whole, &[], 0);
            assert_eq!(messages(&to), messages(&from));
            continue;
        }
        restore(&to, &next, &[], 0);
        assert_eq!(messages(&to), messages(&from), "{is_dense}");
        restore(&to, &next, &[], 0);
        assert_eq!(messages(&to), messages(&from), "{is_dense}: a second run changes nothing");
    }
}
