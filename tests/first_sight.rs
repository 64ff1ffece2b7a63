//! What somebody sees who uses the product for the first time: what is empty says so, what is wrong says what to type.

use crate::check::{filled, named};
use crate::harness::{TestStore, text, typed};

/// Where a list is empty standard output stays so, for scripts; standard error says what that means.
#[test]
fn lists_that_are_empty_say_so() {
    let store = TestStore::new();
    let _daemon = store.start();
    let empty = |words: &str, said: &str| {
        let words = shlex::split(words).unwrap();
        let run = store.ctl(&words.iter().map(String::as_str).collect::<Vec<_>>()).expect(0);
        assert!(run.out.is_empty() && run.err.lines().count() == 1 && run.err.contains(said), "{words:?}: {run:?}");
    };
    empty("jobs", "no jobs");
    empty("snapshot list", "no snapshots; take one: storectl snapshot take");
    empty("user list", "no user");
    store.ctl(&["user", "add", "joe"]).expect(0);
    empty("purge", "nothing is old enough; 1 mailbox looked at");
    empty("expire --dry-run", "nothing is old enough");
    empty("quota report", "no quota root has used quota.warn_percent of a limit");
    empty("quota report --over 50", "no quota root has used 50 % of a limit");
    empty("mailbox list 'user/ann*'", "no mailbox matches user/ann*");
    empty("mailbox list 'joe*'", "names begin with user/ or shared/: storectl mailbox list 'user/joe*'");
    empty("mailbox list user/joe", "storectl mailbox list 'user/joe/*'");
    empty("mailbox list --deleted", "no deleted mailbox that could be brought back");
    empty("message list user/joe/INBOX", "no messages in user/joe/INBOX");
    empty("message list user/joe/INBOX --expunged", "no expunged messages in user/joe/INBOX");
    let run = store.ctl(&["--json", "jobs"]).expect(0);
    assert!(run.json().is_array() && run.err.is_empty(), "{run:?}");
    let run = store.ctl(&["--json", "mailbox", "list", "joe*"]).expect(0);
    assert_eq!((run.out.as_str(), run.err.as_str()), ("[]\n", ""));
    assert!(store.ctl(&["mailbox", "list"]).expect(0).err.is_empty());
}

// One is one, a tab in a header is a blank, and what can be mended says by which command.
#[test]
fn findings_are_counted_in_words_and_name_the_next_command() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["user", "add", "eve"]).expect(0);
    let said = store.ctl(&["check"]).expect(0).out;
    assert!(said.contains("1 mailbox, 0 messages, 0 bytes read; 0 findings, 0 lost"), "{said}");
    let said = store.ctl(&["reconstruct", "-n"]).expect(0).out;
    assert!(said.contains("1 mailbox, 0 changes, 0 not proven"), "{said}");
    let message = b"Subject: a\r\n\tb\tc\x1b[2J\r\n\r\nx\r\n";
    store.ctl_with(&["message", "deliver", "user/eve/INBOX"], Some(message)).expect(0);
    let shown = store.ctl(&["message", "show", "user/eve/INBOX", "1"]).expect(0).out;
    assert!(shown.contains("Subject: a\n\tb\tc\\u{1b}[2J\n"), "{shown}");
    let archive = store.beside("one.sda");
    store.ctl(&["backup", "-f", text(&archive), "/"]).expect(0);
    let listed = store.ctl(&["restore", "-f", text(&archive), "-t"]).expect(0);
    assert!(format!("{listed:?}").contains("1 mailbox, 1 message, 0 references, "), "{listed:?}");

    filled(&store);
    let partition = store.data.join("partition/primary");
    let files = named(&partition, ".msg");
    std::fs::remove_file(files.iter().find(|file| text(file).contains("=joe")).unwrap()).unwrap();
    for scope in [&[][..], &["--partition", "primary"], &["user/joe/*"]] {
        let said = store.ctl(&[&["check"], scope].concat()).expect(1).out;
        assert!(said.contains("; 1 finding, 0 lost\n  next: storectl "), "{said}");
    }
    let said = store.ctl(&["check", "user/joe/*"]).expect(1).out;
    let next = said.split("  next: ").nth(1).unwrap().lines().next().unwrap();
    assert!(next.ends_with(" reconstruct 'user/joe/*'"), "{next}");
    typed(next).expect(0);
    assert!(!store.ctl(&["check"]).expect(0).out.contains("next:"));
}

// A new store: nothing is wrong, and nothing is said to be empty that holds something.
#[test]
fn status_of_a_new_store_is_no_riddle() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    let line = |key: &str| {
        let said = store.ctl(&["status"]).expect(0).out;
        let found = said.lines().find_map(|line| line.strip_prefix(key)).map(|rest| rest.trim().to_owned());
        found.unwrap_or_else(|| panic!("no {key} in {said}"))
    };
    assert_eq!((line("alarms:").as_str(), line("holds:").as_str()), ("none", "1 mailbox of 1 user"));
    assert_eq!(line("in the database:"), "nothing before the first checkpoint; changes after LSN 0 not yet counted");
    store.ctl(&["checkpoint"]).expect(0);
    assert!(line("in the database:").contains("1 mailbox, "), "{}", line("in the database:"));
}

/// A message in joe's INBOX for each of so many UIDs.
fn deliver(store: &TestStore, count: usize) {
    for n in 1..=count {
        let message = format!("Subject: {n}\r\n\r\n{n}\r\n");
        store.ctl_with(&["message", "deliver", "user/joe/INBOX"], Some(message.as_bytes())).expect(0);
    }
}

// rows 117, 119: a range takes the UIDs that are there; one that is named must be there
#[test]
fn uids_are_taken_in_ranges() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["mailbox", "create", "user/joe/Work"]).expect(0);
    deliver(&store, 9);
    let inbox = "user/joe/INBOX";
    let uids = |mailbox: &str, args: &[&str]| -> Vec<u64> {
        let list = store.json(&[&["message", "list", mailbox], args].concat());
        list.as_array().unwrap().iter().map(|m| m["uid"].as_u64().unwrap()).collect()
    };
    store.ctl(&["message", "expunge", inbox, "4-6"]).expect(0);
    assert_eq!((uids(inbox, &[]), uids(inbox, &["--expunged"])), (vec![1, 2, 3, 7, 8, 9], vec![4, 5, 6]));
    store.ctl(&["message", "flags", inbox, "3:7,9", "--add", "\\Seen"]).expect(0);
    let list = store.json(&["message", "list", inbox]);
    let seen = list.as_array().unwrap().iter().filter(|m| m["flags"][0] == "\\Seen");
    assert_eq!(seen.map(|m| m["uid"].as_u64().unwrap()).collect::<Vec<_>>(), [3, 7, 9]);
    store.ctl(&["message", "copy", inbox, "8:*", "user/joe/Work"]).expect(0);
    store.ctl(&["message", "move", inbox, "1-2", "user/joe/Work", "--dry-run"]).expect(0);
    store.ctl(&["message", "move", inbox, "1-2", "user/joe/Work"]).expect(0);
    assert_eq!((uids(inbox, &[]), uids("user/joe/Work", &[])), (vec![3, 7, 8, 9], vec![1, 2, 3, 4]));
    store.ctl(&["mailbox", "undelete", inbox, "--uid", "5-6"]).expect(0);
    assert_eq!(uids(inbox, &["--expunged"]), [1, 2, 4]);

    // Nothing in a range is never everything, and one that is named and is not there refuses the rest, as ever.
    store.ctl(&["mailbox", "undelete", inbox, "--uid", "5-9"]).expect(68);
    assert_eq!(uids(inbox, &["--expunged"]), [1, 2, 4]);
    let refused = store.ctl(&["message", "expunge", inbox, "20-30"]).expect(68);
    assert!(refused.err.contains("no message of user/joe/INBOX is in that range"), "{refused:?}");
    store.ctl(&["message", "expunge", inbox, "5-9,20"]).expect(68);
    assert_eq!(uids(inbox, &[]), [3, 5, 6, 7, 8, 9]);
    for (typed, said) in [
        ("4-x", "is no UID; write them as"),
        ("9-4", "write it as 4-9"),
        ("1-2000000", "more than 1000000 UIDs"),
        ("first", "is no UID"),
    ] {
        let refused = store.ctl(&["message", "expunge", inbox, typed]).expect(64);
        assert!(refused.err.contains(said) && !refused.err.contains("invalid digit"), "{refused:?}");
    }
    assert!(!store.ctl(&["message", "show", inbox, "x"]).expect(64).err.contains("invalid digit"));
    let batch = store.ctl_with(&["batch", "-"], Some(b"message expunge user/joe/INBOX 5-9\n")).expect(1);
    assert!(batch.out.contains("write the UIDs with commas") && uids(inbox, &[]).len() == 6, "{batch:?}");
}

// A system flag whose backslash the shell has taken is no keyword.
#[test]
fn a_system_flag_without_its_backslash_is_refused() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    deliver(&store, 1);
    let inbox = "user/joe/INBOX";
    let flags = || store.json(&["message", "list", inbox])[0]["flags"].clone();
    for flag in ["Seen", "seen", "ANSWERED", "Draft"] {
        let refused = store.ctl(&["message", "flags", inbox, "1", "--add", flag]).expect(65);
        assert!(refused.err.contains("backslash") && refused.err.contains("'\\"), "{refused:?}");
    }
    let refused = store.ctl_with(&["message", "deliver", inbox, "--flags", "$Work Flagged"], Some(b"x")).expect(65);
    assert!(refused.err.contains("'\\Flagged'"), "{refused:?}");
    store.ctl_with(&["batch", "-"], Some(b"message flags user/joe/INBOX 1 --add Seen\n")).expect(1);
    assert_eq!(flags().as_array().unwrap().len(), 0);
    store.ctl(&["message", "flags", inbox, "1", "--add", "\\seen", "--add", "Seen2"]).expect(0);
    assert_eq!(flags(), serde_json::json!(["\\Seen", "Seen2"]));
    // What is there by that name, from another program, can be taken away.
    store.ctl(&["message", "flags", inbox, "1", "--remove", "Flagged"]).expect(0);
}

// Rights may come before their user, and a mistyped id is told.
#[test]
fn rights_for_nobody_are_given_with_a_word() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["user", "add", "ann"]).expect(0);
    let set = |who: &str| store.ctl(&["acl", "set", "user/joe/INBOX", who, "lrs"]).expect(0).err;
    assert!(set("anne").contains("there is no user anne yet") && set("-eve").contains("no user eve yet"));
    for known in ["ann", "-ann", "anyone", "joe", "group:staff"] {
        assert_eq!(set(known), "", "{known}");
    }
    assert_eq!(store.json(&["acl", "get", "user/joe/INBOX"])["acl"]["anne"], "lrs");
}

// What was done is said in a sentence, with how much it was.
#[test]
fn changes_say_what_they_did() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    deliver(&store, 4);
    let said = |words: &str| {
        let words = shlex::split(words).unwrap();
        store.ctl(&words.iter().map(String::as_str).collect::<Vec<_>>()).expect(0).out
    };
    let begins = |words: &str, sentence: &str| {
        let said = said(words);
        assert!(said.starts_with(sentence) && said.lines().count() == 1, "{words}: {said}");
    };
    said("message expunge user/joe/INBOX 1-3");
    begins("mailbox undelete user/joe/INBOX --uid 3", "brought back message 3 of user/joe/INBOX (1 message, LSN ");
    begins("mailbox undelete user/joe/INBOX --dry-run", "would bring back user/joe/INBOX (2 messages)");
    begins("mailbox undelete user/joe/INBOX", "brought back user/joe/INBOX (2 messages, LSN ");
    begins("mailbox undelete user/joe/INBOX", "nothing to change: bring back user/joe/INBOX");
    said("mailbox create user/joe/Work");
    said("message copy user/joe/INBOX 1-4 user/joe/Work");
    said("mailbox delete user/joe/Work --yes");
    let back = said("mailbox undelete user/joe/Work");
    assert!(back.starts_with("brought back user/joe/Work (id ") && back.contains(", 4 messages, LSN "), "{back}");
    said("message expunge user/joe/Work 1");
    assert_eq!(store.json(&["mailbox", "undelete", "user/joe/Work"])["messages"], 1);

    begins("quota set joe --storage 2GiB", "set limits of joe: at most 2.0 GiB (LSN ");
    begins(
        "quota set joe --storage none --messages 1",
        "set limits of joe: no limit of storage, at most 1 message (LSN ",
    );
    begins("user move joe --to primary", "nothing to move: user joe lies on primary already");
    let disk2 = store.beside("disk2");
    store.ctl(&["partition", "add", "disk2", text(&disk2)]).expect(0);
    begins("user move joe --to disk2", "moved user joe to disk2 (2 mailboxes, LSN ");
}

// What is over quota is over quota for every message that follows: ten of them are named, the rest is counted.
#[test]
fn an_import_over_quota_is_told_in_few_lines() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["user", "add", "joe", "--messages", "5"]).expect(0);
    let maildir = store.beside("maildir");
    for name in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(maildir.join(name)).unwrap();
    }
    for n in 0..40 {
        std::fs::write(maildir.join(format!("cur/{n}.x:2,")), format!("Subject: {n}\r\n\r\n{n}\r\n")).unwrap();
    }
    let run = store.ctl(&["import", "maildir", text(&maildir), "--user", "joe"]).expect(1);
    assert_eq!(run.err.lines().filter(|line| line.contains("refused ")).count(), 10, "{run:?}");
    assert!(run.err.contains("and 25 more refused; --json names them all"), "{run:?}");
    assert!(run.out.contains("imported 5 messages") && run.out.contains("35 refused"), "{run:?}");
    let all = store.ctl(&["--json", "import", "maildir", text(&maildir), "--user", "joe"]).expect(1).json();
    assert_eq!(all["refused"].as_array().unwrap().len(), 35, "{all}");
}

/// The files below a directory, and their bytes.
fn files(dir: &std::path::Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    named(dir, "").into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

// row B18: the mail of two users never gets into one directory; what is there is left as it is, and the next command is one that works
#[test]
fn an_export_keeps_out_of_a_directory_of_others() {
    let store = TestStore::new();
    let _daemon = store.start();
    for user in ["joe", "ann"] {
        store.ctl(&["user", "add", user]).expect(0);
    }
    deliver(&store, 3);
    let out = store.beside("out dir");
    let export = |user: &str, dir: &std::path::Path| store.ctl(&["export", "maildir", text(dir), "--user", user]);
    let said = export("joe", &out).expect(0).out;
    assert!(said.starts_with("exported 3 messages") && !said.contains("made"), "{said}");
    let before = files(&out);
    let refused = export("ann", &out).expect(73);
    assert!(refused.err.contains("holds the mail of joe; that of ann is not put among it"), "{refused:?}");
    assert_eq!(files(&out), before);
    let next = refused.err.split("  next: ").nth(1).unwrap().trim();
    typed(next).expect(0);
    assert!(store.beside("out dir-ann").join("cur").exists(), "{next}");

    // What was expunged stays, what is new comes.
    store.ctl(&["message", "expunge", "user/joe/INBOX", "1"]).expect(0);
    deliver(&store, 1);
    let said = export("joe", &out).expect(0).out;
    assert!(said.starts_with("exported 1 message ") && said.contains("2 unchanged"), "{said}");
    assert_eq!(std::fs::read_dir(out.join("cur")).unwrap().count(), 4);

    // A directory that is there may be empty, or a Maildir without mail.
    let empty = store.beside("empty");
    std::fs::create_dir(&empty).unwrap();
    export("joe", &empty).expect(0);
    let usual = store.beside("usual");
    ["cur", "new", "tmp"].iter().for_each(|name| std::fs::create_dir_all(usual.join(name)).unwrap());
    export("joe", &usual).expect(0);
    let other = store.beside("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("notes.txt"), "mine").unwrap();
    let refused = export("joe", &other).expect(73);
    assert!(refused.err.contains("is not empty, and no export has made it"), "{refused:?}");
    assert_eq!(std::fs::read_dir(&other).unwrap().count(), 1);
}
