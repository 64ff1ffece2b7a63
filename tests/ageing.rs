//! Messages that grow old: the rules of the configuration, undelete, purge, and when the daemon does it by itself.

use crate::harness::{Daemon, TestStore, until};
use serde_json::{Value, json};
use std::path::PathBuf;

const INBOX: &str = "user/joe/INBOX";

/// A store whose daemon has this configuration.
fn start(store: &TestStore, config: &str) -> Daemon {
    let path = configure(store, config);
    store.start_with(&["--config", path.to_str().unwrap()])
}

fn configure(store: &TestStore, config: &str) -> PathBuf {
    let path = store.beside("ageing.toml");
    std::fs::write(&path, format!("[log]\nsegment_size = \"1MiB\"\n{config}")).unwrap();
    path
}

fn deliver(store: &TestStore, mailbox: &str, date: &str, flags: &str, bytes: usize) -> u64 {
    let mut text = format!("Subject: {date}\r\n\r\n").into_bytes();
    text.resize(bytes, b'x');
    let args = ["--json", "message", "deliver", mailbox, "--internal-date", date, "--flags", flags];
    store.ctl_with(&args, Some(&text)).expect(0).json()[0]["uid"].as_u64().unwrap()
}

fn uids(store: &TestStore, mailbox: &str, more: &[&str]) -> Vec<u64> {
    let all: Vec<&str> = ["message", "list", mailbox].iter().chain(more).copied().collect();
    store.json(&all).as_array().unwrap().iter().map(|m| m["uid"].as_u64().unwrap()).collect()
}

/// What a run did, without sizes: mailbox, rule, action, messages.
fn lines(done: &Value) -> Vec<(String, String, String, u64)> {
    let text = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
    let line = |l: &Value| (text(l, "mailbox"), text(l, "rule"), text(l, "action"), l["messages"].as_u64().unwrap());
    done["lines"].as_array().unwrap().iter().map(line).collect()
}

fn line(mailbox: &str, rule: &str, action: &str, messages: u64) -> (String, String, String, u64) {
    (mailbox.to_owned(), rule.to_owned(), action.to_owned(), messages)
}

const RULES: &str = "
[expire.boss]
mailboxes = 'user/boss/*'
action = 'keep'
[expire.trash]
mailboxes = 'user/%/Trash'
keep_messages = 2
action = 'discard'
[expire.old]
mailboxes = 'user/*'
older_than = '30d'
seen = true
action = 'move'
move_to = 'Archive/Old'
[expire.large]
larger_than = '100KiB'
action = 'report'
[expire.gone]
mailboxes = 'user/%/Archive/*'
older_than = '3650d'
action = 'discard'
";

const OLD: &str = "2020-01-02T03:04:05Z";
const ANCIENT: &str = "2000-01-02T03:04:05Z";
const NEW: &str = "2100-01-02T03:04:05Z";

// rows 113, 117: the rules discard, move, report and keep, by pattern, age, size, count and flag; a dry run says the same and
// changes nothing; a second run finds nothing left; the stamp and status say when
#[test]
fn rules_do_what_they_say_and_a_dry_run_says_it_first() {
    let store = TestStore::new();
    let daemon = start(&store, RULES);
    for user in ["joe", "boss"] {
        store.ctl(&["user", "add", user]).expect(0);
        store.ctl(&["mailbox", "create", &format!("user/{user}/Trash")]).expect(0);
    }
    for (date, flags, bytes) in [
        (OLD, "\\Seen", 100),
        (OLD, "", 100),
        (NEW, "\\Seen", 100),
        (ANCIENT, "\\Seen \\Flagged $k", 5000),
        (NEW, "", 200 << 10),
    ] {
        deliver(&store, INBOX, date, flags, bytes);
    }
    (0..5).for_each(|_| assert!(deliver(&store, "user/joe/Trash", NEW, "", 50) > 0));
    (0..5).for_each(|_| assert!(deliver(&store, "user/boss/Trash", OLD, "\\Seen", 50) > 0));
    store.ctl(&["checkpoint"]).expect(0);
    let first = [
        line(INBOX, "old", "move", 2),
        line(INBOX, "large", "report", 1),
        line("user/joe/Trash", "trash", "discard", 3),
    ];
    let before = store.json(&["stats"])["committed"].clone();
    for _ in 0..2 {
        let told = store.json(&["expire", "--dry-run"]);
        assert_eq!(lines(&told), first, "{told}");
        assert_eq!((&told["dry_run"], &told["problems_total"]), (&json!(true), &json!(0)));
    }
    assert_eq!(store.json(&["stats"])["committed"], before);
    assert_eq!(uids(&store, INBOX, &[]), [1, 2, 3, 4, 5]);
    assert_eq!(store.json(&["status"])["expire_age"], Value::Null);
    assert!(!store.data.join("stored.exp").exists());

    let done = store.json(&["expire"]);
    assert_eq!(lines(&done), first, "{done}");
    assert_eq!(done["lines"][0]["to"], "user/joe/Archive/Old");
    assert_eq!(done["lines"][0]["bytes"], 5100);
    assert_eq!(uids(&store, INBOX, &[]), [2, 3, 5]);
    assert_eq!(uids(&store, INBOX, &["--expunged"]), [1, 4]);
    let moved = store.json(&["message", "list", "user/joe/Archive/Old"]);
    assert_eq!(
        (&moved[1]["flags"], &moved[1]["internal_date"]),
        (&json!(["\\Seen", "\\Flagged", "$k"]), &json!("2000-01-02T03:04:05.000000Z"))
    );
    assert_eq!(uids(&store, "user/joe/Trash", &[]), [4, 5], "the newest stay");
    assert_eq!(uids(&store, "user/boss/Trash", &[]).len(), 5, "kept by the first rule");
    assert!(store.json(&["status"])["expire_age"].as_f64().unwrap() < 60.0);
    until("the stamp", || {
        let stamp = std::fs::read_to_string(store.data.join("stored.exp")).ok();
        stamp.filter(|stamp| stamp.ends_with("Z\n"))
    });
    let jobs = store.json(&["jobs"]);
    assert!(jobs.as_array().unwrap().iter().any(|job| job["verb"] == "expire" && job["state"] == "done"), "{jobs}");

    // What lies where it was moved is judged by the rules below.
    let again = store.json(&["expire"]);
    assert_eq!(lines(&again), [line("user/joe/Archive/Old", "gone", "discard", 1), line(INBOX, "large", "report", 1)]);
    assert_eq!(lines(&store.json(&["expire"])), [line(INBOX, "large", "report", 1)]);
    // By hand, for people, and through the log of the daemon.
    let said = store.ctl(&["expire"]).expect(0);
    assert!(said.out.contains(INBOX) && said.out.contains("report"), "{said:?}");
    assert!(daemon.log().contains("event=aged"), "{}", daemon.log());
    daemon.kill();
    let _daemon = start(&store, RULES);
    assert_eq!(uids(&store, INBOX, &[]), [2, 3, 5]);
}

// rows 117, B20: what a rule discarded comes back; a mailbox that cannot be aged is told, the others go on
#[test]
fn what_cannot_be_done_is_told_and_the_rest_is_done() {
    let store = TestStore::new();
    let config = "[limits]\nwait = '0s'\n[expire.all]\nmailboxes = 'user/*'\nolder_than = '1d'\naction = 'move'\nmove_to = 'Full'\n";
    let _daemon = start(&store, config);
    for user in ["ann", "joe"] {
        store.ctl(&["user", "add", user]).expect(0);
        store.ctl(&["mailbox", "create", &format!("user/{user}/Full")]).expect(0);
        deliver(&store, &format!("user/{user}/INBOX"), OLD, "", 1000);
    }
    // A folder that takes nothing.
    store.ctl(&["quota", "set", "user/ann/Full", "--messages", "0"]).expect(0);
    let run = store.ctl(&["--json", "expire"]).expect(1);
    let done = run.json();
    assert_eq!(lines(&done), [line(INBOX, "all", "move", 1)]);
    assert!(done["problems"][0].as_str().unwrap().starts_with("user/ann/INBOX: "), "{done}");
    assert_eq!(uids(&store, "user/ann/INBOX", &[]), [1], "it stays where it was");
    store.ctl(&["mailbox", "undelete", INBOX, "--uid", "1"]).expect(0);
    assert_eq!(uids(&store, INBOX, &[]), [1]);
}

// rows 130, B20: until the purge one command brings expunged messages and deleted mailboxes back, with UIDs, flags, bytes
// and UIDVALIDITY; after it nothing does, the files are gone, and no UID is given twice
#[test]
fn what_was_taken_away_comes_back_until_the_purge() {
    let store = TestStore::new();
    let daemon = start(&store, "[ageing]\ncleanup_age = '7d'\n");
    store.ctl(&["user", "add", "joe"]).expect(0);
    let work = "user/joe/Work";
    store.ctl(&["mailbox", "create", work]).expect(0);
    for mailbox in [INBOX, work] {
        (1..=3).for_each(|_| assert!(deliver(&store, mailbox, OLD, "\\Flagged $k", 400) > 0));
    }
    let show = |mailbox: &str| store.json(&["mailbox", "show", mailbox]);
    let (before, was) = (store.json(&["message", "list", work]), show(work));
    store.ctl(&["message", "expunge", INBOX, "1,2"]).expect(0);
    store.ctl(&["mailbox", "delete", work, "--yes"]).expect(0);
    assert_eq!(store.json(&["quota", "get", "joe"])["messages"]["usage"], 1);
    store.ctl(&["checkpoint"]).expect(0);
    // A purge finds nothing that is old enough.
    assert_eq!(lines(&store.json(&["purge"])), []);
    store.ctl(&["mailbox", "undelete", work]).expect(0);
    store.ctl(&["mailbox", "undelete", INBOX, "--uid", "2"]).expect(0);
    let now = show(work);
    for key in ["id", "uidvalidity", "uidnext", "messages", "bytes"] {
        assert_eq!(now[key], was[key], "{key}");
    }
    assert_eq!(store.json(&["message", "list", work]), before);
    assert_eq!((uids(&store, INBOX, &[]), uids(&store, INBOX, &["--expunged"])), (vec![2, 3], vec![1]));
    assert_eq!(store.json(&["quota", "get", "joe"])["messages"]["usage"], 5);

    store.ctl(&["mailbox", "delete", work, "--yes"]).expect(0);
    configure(&store, "[ageing]\ncleanup_age = '0s'\n");
    store.ctl(&["config", "reload"]).expect(0);
    let dry = store.json(&["purge", "--dry-run"]);
    let expected = [line(work, "", "remove", 3), line(INBOX, "", "purge", 1)];
    assert_eq!(lines(&dry), expected, "{dry}");
    assert_eq!(uids(&store, INBOX, &["--expunged"]), [1]);
    assert_eq!(lines(&store.json(&["purge"])), expected);
    assert_eq!(lines(&store.json(&["purge"])), []);
    store.ctl(&["mailbox", "undelete", work]).expect(68);
    store.ctl(&["mailbox", "undelete", INBOX, "--uid", "1"]).expect(68);
    store.ctl(&["mailbox", "undelete", INBOX]).expect(0);
    assert_eq!((uids(&store, INBOX, &[]), uids(&store, INBOX, &["--expunged"])), (vec![2, 3], vec![]));
    assert!(store.json(&["status"])["purge_age"].as_f64().unwrap() < 60.0);
    store.ctl(&["checkpoint"]).expect(0);
    let inbox = PathBuf::from(show(INBOX)["path"].as_str().unwrap());
    assert!(
        !inbox.join("00/1.msg").exists() && inbox.join("00/2.msg").exists(),
        "the file of a purged message is gone"
    );
    // Names and UIDs go on.
    store.ctl(&["mailbox", "create", work]).expect(0);
    assert!(show(work)["uidvalidity"].as_u64() > was["uidvalidity"].as_u64());
    assert_eq!(deliver(&store, INBOX, NEW, "", 10), 4);
    daemon.kill();
    let _daemon = start(&store, "");
    store.ctl(&["mailbox", "undelete", INBOX, "--uid", "1"]).expect(68);
    assert_eq!(uids(&store, INBOX, &[]), [2, 3, 4]);
}

/// Makes the daemon that starts next believe that both were done long ago.
fn long_ago(store: &TestStore) {
    let path = store.data.join("state");
    let mut text: String = std::fs::read_to_string(&path).unwrap();
    text = text
        .lines()
        .filter(|l| !l.starts_with("expire=") && !l.starts_with("purge="))
        .map(|l| format!("{l}\n"))
        .collect();
    std::fs::write(&path, text + "expire=2026-01-01T00:00:00Z\npurge=2026-01-01T00:00:00Z\n").unwrap();
}

// row 113: both run by themselves when they are due, and an alarm says when they have not for too long
#[test]
fn the_night_comes_by_itself_and_is_missed_with_an_alarm() {
    let store = TestStore::new();
    let rules = "[expire.old]\nolder_than = '1d'\naction = 'discard'\n";
    let daemon = start(&store, &format!("[jobs]\nschedule = false\n{rules}"));
    store.ctl(&["user", "add", "joe"]).expect(0);
    deliver(&store, INBOX, OLD, "", 10);
    assert_eq!(daemon.stop(), 0);
    long_ago(&store);
    let daemon = start(&store, &format!("[jobs]\nschedule = false\n{rules}"));
    let stale = |store: &TestStore| -> Vec<String> {
        let status = store.json(&["status"]);
        let alarms = status["alarms"].as_array().unwrap().iter().filter(|a| a["name"] == "stale_stamp");
        alarms.map(|a| a["subject"].as_str().unwrap().to_owned()).collect()
    };
    until("two stale stamps", || (stale(&store) == ["stored.exp", "stored.pur"]).then_some(()));
    assert_eq!(uids(&store, INBOX, &[]), [1], "nobody has asked for it");
    assert_eq!(daemon.stop(), 0);
    let _daemon = start(&store, rules);
    until("a night", || uids(&store, INBOX, &[]).is_empty().then_some(()));
    until("the stamps are new", || stale(&store).is_empty().then_some(()));
    let jobs = store.json(&["jobs"]);
    let by_itself = |verb: &str| jobs.as_array().unwrap().iter().any(|j| j["verb"] == verb && j["client"] == "storedd");
    assert!(by_itself("expire") && by_itself("purge"), "{jobs}");
}

// rows 117, 160: message verbs say first what they would do and change nothing; what flags a mailbox has; how long a message may be
// that travels in the log is an option
#[test]
fn verbs_say_first_and_options_hold() {
    let store = TestStore::new();
    let _daemon = start(&store, "[mail]\ninline_limit = '4KiB'\n");
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["mailbox", "create", "user/joe/Work"]).expect(0);
    assert_eq!(store.json(&["mailbox", "show", INBOX])["flags"], json!([]));
    let in_files = || {
        let mut found = 0;
        let mut dirs = vec![store.data.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
                match entry.file_type().unwrap() {
                    kind if kind.is_dir() => dirs.push(entry.path()),
                    _ => found += u32::from(entry.path().extension().is_some_and(|e| e == "msg")),
                }
            }
        }
        found
    };
    deliver(&store, INBOX, OLD, "\\Seen $Work", 4 << 10);
    assert_eq!(in_files(), 0, "in the log");
    deliver(&store, INBOX, OLD, "abc", (4 << 10) + 1);
    assert_eq!(in_files(), 1, "in a file");
    assert_eq!(store.json(&["config", "show"])["mail.inline_limit"], "4KiB");
    let all = |store: &TestStore| (uids(store, INBOX, &[]), uids(store, "user/joe/Work", &[]));
    let flags = store.json(&["mailbox", "show", INBOX])["flags"].clone();
    assert_eq!(flags, json!(["\\Seen", "$Work", "abc"]));
    let said = store.ctl(&["message", "expunge", INBOX, "1", "--dry-run"]).expect(0).out;
    assert!(said.starts_with("would expunge message 1"), "{said}");
    store.ctl(&["message", "move", INBOX, "1,2", "user/joe/Work", "--dry-run"]).expect(0);
    store.ctl(&["message", "flags", INBOX, "1", "--add", "\\Draft", "--dry-run"]).expect(0);
    store.ctl(&["message", "expunge", INBOX, "9", "--dry-run"]).expect(68);
    assert_eq!(all(&store), (vec![1, 2], vec![]));
    assert_eq!(store.json(&["message", "list", INBOX])[0]["flags"], json!(["\\Seen", "$Work"]));
    store.ctl(&["message", "expunge", INBOX, "1"]).expect(0);
    let said = store.ctl(&["mailbox", "undelete", INBOX, "--dry-run"]).expect(0).out;
    assert!(said.starts_with("would bring back"), "{said}");
    assert_eq!(all(&store), (vec![2], vec![]));
}

// A message that is undeleted counts as saved then: what a rule of ageing took is not taken again the next night.
#[test]
fn what_was_undeleted_has_its_time_anew() {
    let store = TestStore::new();
    let rule = "[expire.short]\nmailboxes = 'user/*'\nsaved_longer_than = '4s'\naction = 'discard'\n";
    let _daemon = start(&store, &format!("[jobs]\nschedule = false\n{rule}"));
    store.ctl(&["user", "add", "joe"]).expect(0);
    (0..2).for_each(|_| assert!(deliver(&store, INBOX, OLD, "", 100) > 0));
    store.ctl(&["message", "expunge", INBOX, "2"]).expect(0);
    std::thread::sleep(std::time::Duration::from_millis(4200));
    store.ctl(&["mailbox", "undelete", INBOX, "--uid", "2"]).expect(0);
    assert_eq!(lines(&store.json(&["expire"])), [line(INBOX, "short", "discard", 1)]);
    assert_eq!(uids(&store, INBOX, &[]), [2]);
}
