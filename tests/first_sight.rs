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
