//! What people read: messages of the daemon, answers on the terminal, what is refused and with which next step.

use crate::harness::TestStore;
use serde_json::Value;

// The messages of the daemon have one form: words, and quotes only around what needs them.
#[test]
fn messages_are_words() {
    let store = TestStore::new();
    let mut daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["mailbox", "create", "user/joe/Zwei Wörter"]).expect(0);
    store.ctl(&["user", "add", "joe"]).expect(73);
    store.ctl(&["shutdown"]).expect(0);
    assert_eq!(daemon.wait(), 0);
    let log = daemon.log();
    let ends = |end: &str| assert!(log.lines().any(|line| line.ends_with(end)), "no line ends with {end}:\n{log}");
    ends("verb=\"user add\" target=joe outcome=exists");
    ends("verb=shutdown outcome=done");
    ends("event=ready state=ready");
    ends("event=stopping reason=asked");
    assert!(log.contains("target=\"user/joe/Zwei Wörter\" outcome=done lsn="), "{log}");
    assert!(!log.contains("\\\""), "nothing is quoted twice:\n{log}");
    for line in log.lines() {
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && rest.split(' ').nth(1).unwrap().starts_with("event="), "{line}");
    }
}

// `status` never shows rows of the last checkpoint as if they were those of now.
#[test]
fn status_says_what_its_numbers_count() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    let text = store.ctl(&["status"]).expect(0).out;
    assert!(text.contains("changes after LSN 0 not yet counted\n"), "{text}");
    let at = store.json(&["checkpoint"])["lsn"].as_u64().unwrap();
    let text = store.ctl(&["status"]).expect(0).out;
    // A seal may have been written since.
    assert!(text.contains("1 mailbox, 1 partition, 0 past names, 1 quota, 0 rights, "), "{at}: {text}");
    assert!(!text.contains("after LSN 0"), "{text}");
}

// A dry run names no number that the real run would not give.
#[test]
fn a_dry_run_promises_no_numbers() {
    let store = TestStore::new();
    let _daemon = store.start();
    let text = store.ctl(&["user", "add", "joe", "--dry-run"]).expect(0).out;
    assert_eq!(text, "would add user joe (user/joe/INBOX)\n");
    let said = store.json(&["user", "add", "joe", "--dry-run"]);
    assert_eq!((&said["id"], &said["uidvalidity"]), (&Value::Null, &Value::Null), "{said}");
    store.ctl(&["user", "show", "joe"]).expect(67);
}

// row 161: what is planned is told from what is mistyped, with 64 and a next step, in every form.
#[test]
fn planned_verbs_are_refused_with_a_next_step() {
    let store = TestStore::new();
    let _daemon = store.start();
    for words in ["mailbox orphans", "mailbox expunge x"] {
        let words: Vec<&str> = words.split(' ').collect();
        let refused = store.ctl(&words).expect(64);
        assert!(refused.out.is_empty() && refused.err.contains("is planned, and not in version"), "{refused:?}");
        assert!(refused.err.contains("\n  next: "), "{refused:?}");
        let json = store.ctl(&[&["--json"], &words[..]].concat()).expect(64).json();
        assert_eq!(json["error"]["code"], "usage");
    }
    let batch = store.ctl_with(&["--json", "batch", "-"], Some(b"mailbox orphans\n")).expect(1).json();
    assert!(batch["error"]["message"].as_str().unwrap().starts_with("mailbox orphans is planned"), "{batch}");
    let mistyped = store.ctl(&["mailbxo"]).expect(64);
    assert!(mistyped.err.contains("'mailbox'") && !mistyped.err.contains("planned"), "{mistyped:?}");
}

// Every verb of both programs is known where commands in messages are completed.
#[test]
fn commands_with_any_verb_are_completed() {
    let store = TestStore::new();
    for (program, help) in [("storectl", store.ctl(&["--help"])), ("storedd", store.storedd(&["--help"]))] {
        let help = help.expect(0).out;
        let verbs = help.split("Commands:\n").nth(1).unwrap().lines().take_while(|line| !line.is_empty());
        let verbs = verbs.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
        // These two have no store to be named.
        let verbs: Vec<&str> = verbs.filter(|verb| !["", "help", "demo"].contains(verb)).collect();
        assert!(verbs.len() > 1, "{program}: {verbs:?}");
        for verb in verbs {
            let completed = proto::naming::complete(&format!("{program} {verb}"), "--socket s ");
            assert_eq!(completed, format!("{program} --socket s {verb}"));
        }
    }
}

// A bad character is shown as it was typed.
#[test]
fn a_bad_character_is_shown() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    let refused = store.ctl(&["mailbox", "create", "user/joe/a%b"]).expect(65);
    assert!(refused.err.contains("'%' may not stand in a mailbox name"), "{refused:?}");
    let refused = store.ctl(&["mailbox", "create", "user/joe/a\u{1b}b"]).expect(65);
    assert!(refused.err.contains("U+001B may not stand in a mailbox name"), "{refused:?}");
}

// row 56: `test` says in words what its status says, and that it made a store where none was: a mistyped directory.
#[test]
fn test_answers_in_words() {
    let store = TestStore::new();
    let made = store.storedd(&["test"]).expect(0);
    assert_eq!(made.out, "the store is good\n");
    assert!(made.err.contains("there was no store in ") && made.err.contains("an empty one was made"), "{made:?}");
    let again = store.ctl(&["test"]).expect(0);
    assert_eq!((again.out.as_str(), again.err.as_str()), ("the store is good\n", ""));
}

// `--check-config` names the file it found good.
#[test]
fn a_good_configuration_is_named() {
    let store = TestStore::new();
    let file = store.beside("good.toml");
    std::fs::write(&file, "[log]\nspares = 1\n").unwrap();
    let name = file.to_str().unwrap();
    let good = store.storedd(&["--check-config", "--config", name]).expect(0);
    assert_eq!(good.out, format!("the configuration is good: {name}\n"));
}

// No line of a help text is broken again by a terminal of 80 columns.
#[test]
fn texts_of_help_fit_a_terminal() {
    let store = TestStore::new();
    for words in ["batch --help", "import cyrus-list --help", "recover --help", "test --help"] {
        let help = store.ctl(&words.split(' ').collect::<Vec<_>>()).expect(0).out;
        let text = help.split_once("Global options:").unwrap().1.split_once("\n\n").unwrap().1;
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{words}: {text}");
    }
}
