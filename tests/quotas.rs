//! Quota roots and limits, through the built programs.

use crate::harness::{PATIENCE, TestStore};
use serde_json::{Value, json};
use std::time::Instant;

fn roots(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|q| q["root"].as_str().unwrap()).collect()
}

fn limits(quota: &Value) -> (&Value, &Value) {
    (&quota["storage"]["limit"], &quota["messages"]["limit"])
}

// row 117: limits are set, kept, taken away and shown, for users and mailboxes; they are there after a kill
#[test]
fn limits_of_users_and_mailboxes() {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe@example.org", "--quota", "1GiB"]).expect(0);
    store.ctl(&["user", "add", "ann"]).expect(0);
    store.ctl(&["mailbox", "create", "user/ann/Archive"]).expect(0);
    store.ctl(&["mailbox", "create", "user/ann/Archive/2026"]).expect(0);
    let set = store.ctl(&["quota", "set", "joe@example.org", "--messages", "500"]).expect(0);
    assert!(set.out.starts_with("set limits of joe@example.org: at most 500 messages (LSN "), "{set:?}");
    let quota = store.json(&["quota", "get", "user/joe@example.org"]);
    let shape = json!({"root": "user/joe@example.org", "storage": {"usage": 0, "limit": 1 << 30}, "messages": {"usage": 0, "limit": 500},
        "over_since": null, "grace_left": null});
    assert_eq!(quota, shape);
    let said = store.json(&["quota", "set", "joe@example.org", "--storage", "none", "--messages", "500"]);
    assert_eq!(said["changed"], true);
    let same = store.ctl(&["quota", "set", "joe@example.org", "--storage", "none"]).expect(0);
    assert!(same.out.starts_with("nothing to change"), "{same:?}");
    let dry = store.ctl(&["quota", "set", "joe@example.org", "--messages", "7", "--dry-run"]).expect(0);
    assert!(dry.out.starts_with("would set limits"), "{dry:?}");

    store.ctl(&["quota", "set", "user/ann/Archive", "--storage", "5MiB"]).expect(0);
    assert_eq!(store.json(&["quota", "get", "user/ann/Archive/2026"])["root"], "user/ann/Archive", "the nearest");
    assert_eq!(store.json(&["quota", "get", "user/ann/INBOX"])["root"], "user/ann");
    store.ctl(&["mailbox", "rename", "user/ann/Archive", "user/ann/Old"]).expect(0);
    daemon.kill();
    let _daemon = store.start();
    assert_eq!(limits(&store.json(&["quota", "get", "joe@example.org"])), (&Value::Null, &json!(500)));
    let list = store.json(&["quota", "list"]);
    assert_eq!(roots(&list), ["user/ann", "user/ann/Old", "user/joe@example.org"]);
    assert_eq!(limits(&list[1]), (&json!(5 << 20), &Value::Null));
    assert_eq!(roots(&store.json(&["quota", "list", "user/joe*"])), ["user/joe@example.org"]);
    assert_eq!(roots(&store.json(&["quota", "list", "user/%"])), ["user/ann", "user/joe@example.org"]);
    let table = store.ctl(&["quota", "list", "user/ann/*"]).expect(0).out;
    assert_eq!(table, "user/ann/Old\t0\t5242880\t0\t0\t-\t-\t-\ttaken\n");
    store.ctl(&["quota", "set", "user/ann/Old", "--storage", "none"]).expect(0);
    assert_eq!(store.json(&["quota", "get", "user/ann/Old/2026"])["root"], "user/ann");
    assert_eq!(roots(&store.json(&["quota", "list"])), ["user/ann", "user/joe@example.org"]);
}

// row 117: which roots have reached a limit; a script reads the roots and nothing else
#[test]
fn full_roots_are_reported() {
    let store = TestStore::new();
    let config = store.beside("storedd.toml");
    std::fs::write(&config, "[quota]\nwarn_percent = 100\n").unwrap();
    let _daemon = store.start_with(&["--config", config.to_str().unwrap()]);
    store.ctl(&["user", "add", "joe", "--quota", "1GiB"]).expect(0);
    store.ctl(&["user", "add", "full", "--messages", "0"]).expect(0);
    store.ctl(&["user", "add", "free"]).expect(0);
    assert_eq!(roots(&store.json(&["quota", "report"])), ["user/full"], "a limit of 0 is always reached");
    assert_eq!(roots(&store.json(&["quota", "report", "--over", "0"])), ["user/full", "user/joe"]);
    assert_eq!(
        store.ctl(&["quota", "report", "--over", "4294967295"]).expect(0).out,
        "user/full\t0\t-\t-\t0\t0\t100\t-\ttaken\n"
    );
    for bad in ["-1", "4294967296", "x", ""] {
        store.ctl(&["quota", "report", "--over", bad]).expect(64);
    }
}

// I9: usage is counted again from the mailboxes; where nothing is wrong nothing is written
#[test]
fn usage_is_counted_again() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["mailbox", "create", "user/joe/A"]).expect(0);
    let committed = || store.json(&["stats"])["committed"].clone();
    let before = committed();
    for words in [&["quota", "recalc"][..], &["quota", "recalc", "joe"], &["quota", "recalc", "user/joe", "--dry-run"]]
    {
        assert_eq!(store.json(words), json!([]), "{words:?}");
        assert_eq!(store.ctl(words).expect(0).out, "");
    }
    assert_eq!(committed(), before);
    let none = store.ctl(&["--json", "quota", "recalc", "user/joe/A"]).expect(68).json();
    assert!(none["error"]["hint"].as_str().unwrap().ends_with(" quota recalc user/joe"), "{none}");
    store.ctl(&["quota", "recalc", "nobody"]).expect(67);
}

// row 117: wrong input is refused and changes nothing
#[test]
fn hostile_limits_and_names() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    let state = || (store.json(&["quota", "list"]), store.json(&["stats"])["committed"].clone());
    let before = state();
    for (option, values) in [
        ("--storage", &["-1", "18446744073709551616", "99999999999TiB", "", "much", "1e9", "NONE", "0x10"][..]),
        ("--messages", &["-1", "18446744073709551616", "1GiB", "", "1.5", "∞"]),
    ] {
        for value in values {
            store.ctl(&["quota", "set", "joe", option, value]).expect(64);
            store.ctl(&["quota", "set", "joe", &format!("{option}={value}")]).expect(64);
        }
    }
    store.ctl(&["quota", "set", "joe"]).expect(64);
    let (long, deep) = ("x".repeat(100_000), format!("user/joe{}", "/d".repeat(500)));
    for root in ["", "user/", "a b", "joe/INBOX", "user/joe/", "user/joe/*", "shared/\u{1}", "-joe", &long, &deep] {
        store.ctl(&["quota", "set", "--storage", "1", "--", root]).expect(65);
        store.ctl(&["quota", "get", "--", root]).expect(65);
        store.ctl(&["quota", "recalc", "--", root]).expect(65);
    }
    for (root, status) in [("eve", 67), ("user/eve/x", 67), ("user/joe/x", 68), ("shared", 68), ("shared/x", 68)] {
        store.ctl(&["quota", "set", root, "--storage", "1"]).expect(status);
        store.ctl(&["quota", "get", root]).expect(status);
        store.ctl(&["quota", "recalc", root]).expect(status);
    }
    store.ctl(&["quota", "list", &"*".repeat(2001)]).expect(65);
    assert_eq!(state(), before);
    store
        .ctl(&["quota", "set", "joe", "--storage", "18446744073709551615", "--messages", "18446744073709551615"])
        .expect(0);
    assert_eq!(limits(&store.json(&["quota", "get", "joe"])), (&json!(u64::MAX), &json!(u64::MAX)));
}

// row 117: every verb is a line of a batch, and what changes is one transaction with --atomic
#[test]
fn quotas_in_a_batch() {
    let store = TestStore::new();
    let _daemon = store.start();
    let lines = "user add joe\nquota set joe --storage 1MiB\nquota get joe\nquota list\nquota report --over 0\n\
        quota recalc\nquota recalc joe\nquota set eve --storage 1\nquota set joe\n";
    let run = store.ctl_with(&["--json", "batch", "-"], Some(lines.as_bytes())).expect(1);
    let said: Vec<Value> = run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(said[2]["storage"]["limit"], 1 << 20);
    assert_eq!((roots(&said[3]), roots(&said[4])), (vec!["user/joe"], vec!["user/joe"]));
    assert_eq!((&said[5], &said[6]), (&json!([]), &json!([])));
    assert_eq!((&said[7]["error"]["code"], &said[8]["error"]["code"]), (&json!("no_user"), &json!("usage")));

    let atomic = |lines: &str| store.ctl_with(&["--json", "batch", "--atomic", "-"], Some(lines.as_bytes()));
    atomic("quota set joe --storage 2MiB\nquota set joe --messages 1\nquota set eve --storage 1\n").expect(1);
    assert_eq!(limits(&store.json(&["quota", "get", "joe"])), (&json!(1 << 20), &Value::Null));
    let done = atomic("mailbox create user/joe/A\nquota set user/joe/A --storage 2MiB\nquota recalc user/joe/A\n");
    let said: Vec<Value> = done.expect(0).out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&said[1]["changed"], &said[2]["changed"]), (&json!(true), &json!(false)));
    assert_eq!(said[0]["lsn"], said[1]["lsn"]);
}

// row 117: the configuration gives new users their limits and every user a number of mailboxes; a reload changes both
#[test]
fn limits_of_the_configuration() {
    let store = TestStore::new();
    let config = store.beside("storedd.toml");
    let text = |storage: &str, mailboxes: u32| {
        format!(
            "[quota]\ndefault_storage = \"{storage}\"\ndefault_messages = 9\n[limits]\nmailboxes_per_user = {mailboxes}\n"
        )
    };
    std::fs::write(&config, text("1MiB", 3)).unwrap();
    let daemon = store.start_with(&["--config", config.to_str().unwrap()]);
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["user", "add", "ann", "--quota", "7MiB"]).expect(0);
    assert_eq!(limits(&store.json(&["quota", "get", "joe"])), (&json!(1 << 20), &json!(9)));
    assert_eq!(limits(&store.json(&["quota", "get", "ann"])), (&json!(7 << 20), &json!(9)));

    store.ctl(&["mailbox", "create", "user/joe/A"]).expect(0);
    store.ctl(&["mailbox", "create", "user/joe/A/B"]).expect(0);
    let full = store.ctl(&["--json", "mailbox", "create", "user/joe/C"]).expect(75);
    let said = full.json();
    assert_eq!(said["error"]["code"], "over_quota");
    assert!(said["error"]["hint"].as_str().unwrap().contains(" mailbox list 'user/joe/*'"), "{said}");
    store.ctl(&["mailbox", "create", "user/joe/C", "--dry-run"]).expect(75);
    store.ctl(&["mailbox", "create", "user/ann/A"]).expect(0);
    store.ctl(&["mailbox", "rename", "user/joe/A", "user/ann/B"]).expect(75);
    store.ctl(&["mailbox", "create", "shared/x"]).expect(0);
    let list = store.beside("list.json");
    let entry = |name: &str| json!({"name": name, "uidvalidity": "7", "acl": {}, "partition": "primary", "mbtype": ""});
    std::fs::write(&list, json!({"user.joe.D": entry("user.joe.D"), "shared.y": entry("shared.y")}).to_string())
        .unwrap();
    store.ctl(&["import", "cyrus-list", list.to_str().unwrap()]).expect(1);
    assert_eq!(store.json(&["mailbox", "list", "user/joe/*"]).as_array().unwrap().len(), 3);
    // The number is that of the rows, also after a kill.
    store.ctl(&["mailbox", "delete", "user/joe/A", "--yes"]).expect(0);
    daemon.kill();
    let _daemon = store.start_with(&["--config", config.to_str().unwrap()]);
    store.ctl(&["mailbox", "create", "user/joe/C"]).expect(0);
    store.ctl(&["mailbox", "create", "user/joe/D"]).expect(75);
    std::fs::write(&config, text("2MiB", 4)).unwrap();
    let begun = Instant::now();
    while store.ctl(&["mailbox", "create", "user/joe/D"]).status != 0 {
        assert!(begun.elapsed() < PATIENCE, "the new limit never came");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    store.ctl(&["mailbox", "create", "user/joe/E"]).expect(75);
    store.ctl(&["user", "add", "new"]).expect(0);
    assert_eq!(limits(&store.json(&["quota", "get", "new"])), (&json!(2 << 20), &json!(9)));
}

// row 117: within the time of grace mail is taken over a limit, which is told; then it is refused until there is room, and a new
// time of grace begins
#[test]
fn mail_is_taken_over_a_limit_for_the_time_of_grace() {
    let store = TestStore::new();
    let config = store.beside("grace.toml");
    let write = |grace: &str| std::fs::write(&config, format!("[quota]\ngrace = \"{grace}\"\n")).unwrap();
    write("1h");
    let daemon = store.start_with(&["--config", config.to_str().unwrap()]);
    store.ctl(&["user", "add", "joe", "--messages", "1"]).expect(0);
    let inbox = "user/joe/INBOX";
    let deliver = || store.ctl_with(&["message", "deliver", inbox], Some(b"x")).status;
    assert_eq!(deliver(), 0);
    let plain = store.json(&["quota", "get", "joe"]);
    assert_eq!((&plain["over_since"], &plain["grace_left"]), (&Value::Null, &Value::Null));
    assert_eq!((deliver(), deliver()), (0, 0), "within the time of grace");
    let over = store.json(&["quota", "get", "joe"]);
    assert_eq!(over["messages"]["usage"], 3);
    let left = over["grace_left"].as_u64().unwrap();
    assert!((3000..=3600).contains(&left), "{over}");
    let report = store.ctl(&["quota", "report"]).expect(0).out;
    assert!(report.contains("user/joe") && report.contains("taken for"), "{report}");
    // Only for mail: what is brought there by others needs room.
    store.ctl(&["message", "copy", inbox, "1", inbox]).expect(75);
    store.ctl(&["message", "expunge", inbox, "1"]).expect(0);
    store.ctl(&["mailbox", "undelete", inbox]).expect(75);
    // The time began when the limit was passed, also for the next program.
    daemon.kill();
    let daemon = store.start_with(&["--config", config.to_str().unwrap()]);
    let again = store.json(&["quota", "get", "joe"]);
    assert_eq!((&again["over_since"], &again["messages"]["usage"]), (&over["over_since"], &json!(2)));
    store.ctl(&["checkpoint"]).expect(0);
    write("0s");
    store.ctl(&["config", "reload"]).expect(0);
    assert_eq!(deliver(), 75);
    assert_eq!(store.json(&["quota", "get", "joe"])["grace_left"], 0);
    let report = store.ctl(&["quota", "report"]).expect(0).out;
    assert!(report.contains("refused"), "{report}");
    let mut lmtp = crate::harness::lmtp::Lmtp::unix(&store.data.join("lmtp.sock"));
    lmtp.ask("MAIL FROM:<>");
    lmtp.ask("RCPT TO:<joe>");
    lmtp.ask("DATA");
    lmtp.send(b"Subject: x\r\n\r\nx\r\n.\r\n");
    assert_eq!(lmtp.reply(), "452 4.2.2 the mailbox is full");
    store.ctl(&["message", "expunge", inbox, "2,3"]).expect(0);
    assert_eq!(store.json(&["quota", "get", "joe"])["over_since"], Value::Null);
    // A new time of grace, which ends.
    write("2s");
    store.ctl(&["config", "reload"]).expect(0);
    assert_eq!((deliver(), deliver()), (0, 0));
    let begun = Instant::now();
    while deliver() == 0 {
        assert!(begun.elapsed() < PATIENCE, "it never ends");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    // A limit that is raised ends it, one that is lowered begins it.
    store.ctl(&["quota", "set", "joe", "--messages", "1000"]).expect(0);
    assert_eq!(store.json(&["quota", "get", "joe"])["over_since"], Value::Null);
    store.ctl(&["quota", "set", "joe", "--messages", "1"]).expect(0);
    assert!(store.json(&["quota", "get", "joe"])["over_since"].is_string());
    assert_eq!(daemon.stop(), 0);
    store.storedd(&["test"]).expect(0);
}
