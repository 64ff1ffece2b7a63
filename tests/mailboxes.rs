//! Users, mailboxes, rights, partitions, batch and import, through `storectl`.

use crate::harness::TestStore;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect()
}

fn error_code(run: &crate::harness::Run) -> String {
    run.json()["error"]["code"].as_str().unwrap().to_owned()
}

// row 114, row 118, row 119: INBOX first, then folders; a second creation is an error without damage.
#[test]
fn mailboxes_are_created_listed_and_shown() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["mailbox", "create", "user/joe@example.org/x"]).expect(67);
    store.ctl(&["user", "add", "joe@example.org", "--quota", "2GiB"]).expect(0);
    store.ctl(&["user", "add", "joe@example.org"]).expect(73);
    store.ctl(&["mailbox", "create", "user/joe@example.org/inbox"]).expect(73);
    store.ctl(&["mailbox", "create", "user/joe@example.org/Projekte/Äpfel"]).expect(0);
    store.ctl(&["mailbox", "create", "user/joe@example.org/Projekte/A\u{308}pfel"]).expect(65);
    store.ctl(&["mailbox", "create", "user/joe@example.org/projekte"]).expect(0);
    let list = store.json(&["mailbox", "list"]);
    let expected =
        ["user/joe@example.org/INBOX", "user/joe@example.org/Projekte/Äpfel", "user/joe@example.org/projekte"];
    assert_eq!(names(&list), expected);
    for key in ["name", "id", "partition", "path", "uidvalidity", "uidnext", "messages", "bytes", "acl"] {
        assert!(list[0].get(key).is_some(), "{key}");
    }
    assert_eq!(list[0]["acl"]["joe@example.org"], "lrswipkxtea");
    let shown = store.json(&["mailbox", "show", "user/joe@example.org/INBOX"]);
    assert_eq!((&shown["messages"], &shown["unseen"], &shown["flags"]), (&json!(0), &json!(0), &json!([])));
    assert!(shown["highest_modseq"].as_u64().is_some());
    assert_eq!(
        store.json(&["user", "list"])[0],
        json!({"user": "joe@example.org", "partition": "primary", "mailboxes": 3})
    );
    let quota = store.json(&["quota", "get", "joe@example.org"]);
    assert_eq!(quota["storage"], json!({"usage": 0, "limit": 2u64 << 30}));
    for (pattern, count) in
        [("*", 3), ("user/joe*", 3), ("user/%/INBOX", 1), ("user/joe@example.org/%", 2), ("shared/*", 0)]
    {
        assert_eq!(store.json(&["mailbox", "list", pattern]).as_array().unwrap().len(), count, "{pattern}");
    }
}

// row 115, row 116: users have a partition and a directory that is there.
#[test]
fn hashdir_names_a_directory_that_exists() {
    let store = TestStore::new();
    let _daemon = store.start();
    let second = store.beside("second");
    store.ctl(&["partition", "add", "second", second.to_str().unwrap()]).expect(0);
    store.ctl(&["partition", "add", "second", second.to_str().unwrap()]).expect(73);
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["user", "add", "eve", "--partition", "second"]).expect(0);
    store.ctl(&["user", "add", "bob", "--partition", "third"]).expect(68);
    for (user, root) in [("joe", store.data.join("partition/primary")), ("eve", second.clone())] {
        let hashdir = store.ctl(&["hashdir", user, "--absolute"]).expect(0).out;
        let path = Path::new(hashdir.trim());
        assert!(path.is_dir() && path.starts_with(&root), "{hashdir}");
        let relative = store.ctl(&["hashdir", user]).expect(0).out;
        assert_eq!(root.join(relative.trim()), path);
        assert!(relative.starts_with("=user/"), "{relative}");
    }
    store.ctl(&["hashdir", "nobody"]).expect(67);
    let partitions = store.json(&["partition", "list"]);
    assert_eq!(partitions.as_array().unwrap().len(), 2);
    assert_eq!(
        (&partitions[1]["name"], &partitions[1]["users"], &partitions[1]["state"]),
        (&json!("second"), &json!(1), &json!("ok"))
    );
    store.ctl(&["partition", "remove", "second"]).expect(75);
}

// S20, row 115: run-time partitions are there after a restart; a missing root is a state, not a crash.
#[test]
fn a_missing_partition_is_a_state() {
    let store = TestStore::new();
    let daemon = store.start();
    let second = store.beside("second");
    store.ctl(&["partition", "add", "second", second.to_str().unwrap()]).expect(0);
    store.ctl(&["user", "add", "eve", "--partition", "second"]).expect(0);
    assert_eq!(daemon.stop(), 0);
    std::fs::rename(&second, store.beside("elsewhere")).unwrap();
    let _daemon = store.start();
    let shown = store.json(&["partition", "show", "second"]);
    assert_eq!((&shown["state"], &shown["free_bytes"]), (&json!("missing"), &Value::Null));
    let status = store.json(&["status"]);
    assert_eq!(status["state"], "ready");
    assert!(status["alarms"][0]["message"].as_str().unwrap().contains("second"), "{status}");
    store.ctl(&["user", "add", "joe"]).expect(0);
    assert!(!second.exists(), "a missing root is never made up");
}

// row 114, I6: rename of subtrees in one transaction, delete with tombstone, UIDVALIDITY never repeats for a name.
#[test]
fn names_never_repeat_a_uidvalidity() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    for name in ["a", "a/b", "a/b/c", "a-b"] {
        store.ctl(&["mailbox", "create", &format!("user/joe/{name}")]).expect(0);
    }
    let before = store.json(&["mailbox", "show", "user/joe/a/b"]);
    store.ctl(&["mailbox", "rename", "user/joe/a", "user/joe/z"]).expect(0);
    let list = store.json(&["mailbox", "list", "user/joe/*"]);
    assert_eq!(names(&list), ["user/joe/INBOX", "user/joe/a-b", "user/joe/z", "user/joe/z/b", "user/joe/z/b/c"]);
    let after = store.json(&["mailbox", "show", "user/joe/z/b"]);
    assert_eq!((&after["id"], &after["uidvalidity"]), (&before["id"], &before["uidvalidity"]));
    store.ctl(&["mailbox", "rename", "user/joe/z", "user/joe/a-b"]).expect(73);
    store.ctl(&["mailbox", "rename", "user/joe/z", "user/joe/z/b/deep"]).expect(65);
    store.ctl(&["mailbox", "rename", "user/joe/nope", "user/joe/x"]).expect(68);
    let mut seen = Vec::new();
    for _ in 0..3 {
        store.ctl(&["mailbox", "create", "user/joe/again"]).expect(0);
        seen.push(store.json(&["mailbox", "show", "user/joe/again"])["uidvalidity"].as_u64().unwrap());
        store.ctl(&["mailbox", "delete", "user/joe/again"]).expect(64);
        store.ctl(&["mailbox", "delete", "user/joe/again", "--dry-run"]).expect(0);
        store.ctl(&["mailbox", "delete", "user/joe/again", "--yes"]).expect(0);
    }
    assert!(seen.windows(2).all(|w| w[0] < w[1]), "{seen:?}");
    store.ctl(&["user", "delete", "joe", "--yes"]).expect(0);
    assert_eq!(store.json(&["mailbox", "list"]), json!([]));
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["mailbox", "create", "user/joe/again"]).expect(0);
    let now = store.json(&["mailbox", "show", "user/joe/again"])["uidvalidity"].as_u64().unwrap();
    assert!(now > seen[2], "I6 also across the user: {now} {seen:?}");
}

#[test]
fn rights_are_stored_and_shown() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["acl", "set", "user/joe/INBOX", "eve", "lrs"]).expect(0);
    store.ctl(&["acl", "set", "user/joe/INBOX", "eve", "+i"]).expect(0);
    assert_eq!(store.json(&["acl", "get", "user/joe/INBOX"])["acl"]["eve"], "lrsi");
    store.ctl(&["acl", "set", "user/joe/INBOX", "eve", "lrZ"]).expect(65);
    store.ctl(&["acl", "delete", "user/joe/INBOX", "eve"]).expect(0);
    assert_eq!(store.json(&["acl", "get", "user/joe/INBOX"])["acl"].get("eve"), None);
    store.ctl(&["subscribe", "joe", "user/joe/INBOX"]).expect(0);
    assert_eq!(store.json(&["subscriptions", "joe"]), json!(["user/joe/INBOX"]));
    store.ctl(&["unsubscribe", "joe", "user/joe/INBOX"]).expect(0);
    assert_eq!(store.json(&["subscriptions", "joe"]), json!([]));
}

// row 161: bad names are 65 with a JSON error, and change nothing.
#[test]
fn bad_names_are_refused_and_change_nothing() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    let state = || (store.json(&["mailbox", "list"]), store.json(&["stats"])["committed"].clone());
    let before = state();
    let long = format!("user/joe/{}", "x".repeat(256));
    let deep = format!("user/joe{}", "/d".repeat(40));
    for name in [
        "user/joe/",
        "/user/joe/a",
        "user/joe//a",
        "user/joe/a%b",
        "user/joe/a*b",
        "user/joe/..",
        "user/joe/.",
        "joe/a",
        "user/joe",
        "user/joe/a\u{7}b",
        "",
        &long,
        &deep,
        "user/joe/INBOX/../x",
    ] {
        let refused = store.ctl(&["--json", "mailbox", "create", name]);
        assert_eq!(refused.status, 65, "{name:?}: {refused:?}");
        assert_eq!(error_code(&refused), "bad_input");
        assert!(!refused.err.is_empty());
    }
    for user in ["", "..", "a b", "a/b", "a@b@c", "jöe", "a\n"] {
        store.ctl(&["user", "add", user]).expect(65);
    }
    for (args, status) in [
        (&["mailbox", "show", "user/joe/nope"][..], 68),
        (&["mailbox", "show", "user/nobody/x"], 67),
        (&["user", "show", "nobody"], 67),
        (&["acl", "get", "user/joe/nope"], 68),
        (&["partition", "show", "nope"], 68),
        (&["user", "delete", "nobody", "--yes"], 67),
        (&["mailbox", "delete", "user/joe/nope", "--yes"], 68),
    ] {
        store.ctl(args).expect(status);
    }
    assert_eq!(state(), before);
}

// The list of a real server: every entry, and nothing on the second run.
#[test]
fn a_cyrus_list_comes_in_whole_and_once() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/cyrus/mboxlist.json");
    let source: BTreeMap<String, Value> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let store = TestStore::new();
    let daemon = store.start();
    let first = store.json(&["import", "cyrus-list", file]);
    assert_eq!(first["imported"], source.len(), "{first}");
    let committed = store.json(&["stats"])["committed"].clone();
    let second = store.json(&["import", "cyrus-list", file]);
    assert_eq!((&second["imported"], &second["unchanged"]), (&json!(0), &json!(source.len())), "{second}");
    assert_eq!(store.json(&["stats"])["committed"], committed, "nothing was written");
    daemon.kill();
    let _daemon = store.start();
    let list = store.json(&["mailbox", "list"]);
    let there: BTreeMap<&str, &Value> =
        list.as_array().unwrap().iter().map(|m| (m["name"].as_str().unwrap(), m)).collect();
    assert_eq!(there.len(), source.len());
    for entry in source.values() {
        let name = independent_name(entry["name"].as_str().unwrap());
        let found = there.get(name.as_str()).unwrap_or_else(|| panic!("{name} of {entry}"));
        assert_eq!(found["uidvalidity"].to_string(), entry["uidvalidity"].as_str().unwrap());
        assert_eq!(found["acl"], entry["acl"], "{name}");
    }
    store.ctl(&["import", "cyrus-list", "/does/not/exist"]).expect(66);
    let bad = store.beside("bad.json");
    std::fs::write(&bad, "{not json").unwrap();
    store.ctl(&["import", "cyrus-list", bad.to_str().unwrap()]).expect(65);
}

/// The mapping of the contract, written a second time and plainly.
fn independent_name(cyrus: &str) -> String {
    let (domain, rest) = cyrus.split_once('!').map_or((None, cyrus), |(d, r)| (Some(d), r));
    let parts: Vec<String> = rest.split('.').map(|p| independent_utf7(&p.replace('^', "."))).collect();
    match (domain, parts[0].as_str()) {
        (_, "user") => {
            let user = domain.map_or_else(|| parts[1].clone(), |d| format!("{}@{d}", parts[1]));
            let folder = if parts.len() == 2 { "INBOX".to_owned() } else { parts[2..].join("/") };
            format!("user/{user}/{folder}")
        }
        (domain, first) => {
            let skip = usize::from(first == "shared" && parts.len() + usize::from(domain.is_some()) > 1);
            let middle: Vec<String> =
                domain.map(str::to_owned).into_iter().chain(parts[skip..].iter().cloned()).collect();
            if middle.is_empty() || (middle.len() == 1 && middle[0] == "shared") {
                "shared".to_owned()
            } else {
                format!("shared/{}", middle.join("/"))
            }
        }
    }
}

fn independent_utf7(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out += before;
        let (code, tail) = after.split_once('-').unwrap();
        rest = tail;
        if code.is_empty() {
            out.push('&');
            continue;
        }
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";
        let bits: String = code.chars().map(|c| format!("{:06b}", alphabet.find(c).unwrap())).collect();
        let units: Vec<u16> =
            (0..bits.len() / 16).map(|i| u16::from_str_radix(&bits[i * 16..i * 16 + 16], 2).unwrap()).collect();
        out += &String::from_utf16(&units).unwrap();
    }
    out + rest
}

// batch: in order, refused lines said and gone past, an answer before the next line is written.
#[test]
fn batch_answers_line_by_line() {
    let store = TestStore::new();
    let daemon = store.start();
    let input = "user add joe --quota 1GiB\n# a comment\n\nmailbox create 'user/joe/two words'\nmailbox create user/nobody/x\nmailbox show user/joe/INBOX\n";
    let run = store.ctl_with(&["--json", "batch", "-"], Some(input.as_bytes())).expect(1);
    let lines: Vec<Value> = run.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 4, "{run:?}");
    assert_eq!(lines[2]["error"]["code"], "no_user");
    assert_eq!(lines[3]["name"], "user/joe/INBOX");
    let atomic = store.ctl_with(
        &["--json", "batch", "--atomic", "-"],
        Some(b"mailbox create user/joe/q\nmailbox create user/nobody/x\n"),
    );
    assert_ne!(atomic.status, 0, "{atomic:?}");
    store.ctl(&["mailbox", "show", "user/joe/q"]).expect(68);
    store
        .ctl_with(&["batch", "--atomic", "-"], Some(b"mailbox create user/joe/q\nmailbox create user/joe/r\n"))
        .expect(0);
    assert_eq!(store.json(&["mailbox", "list"]).as_array().unwrap().len(), 4);

    let mut child = Command::new(env!("CARGO_BIN_EXE_storectl"))
        .arg("--data-dir")
        .arg(&store.data)
        .args(["--json", "batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut stdin, mut answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let mut line = String::new();
    for n in 0..3 {
        writeln!(stdin, "mailbox create user/joe/i{n}").unwrap();
        line.clear();
        answers.read_line(&mut line).unwrap();
        assert!(line.contains(&format!("user/joe/i{n}")), "{line}");
    }
    daemon.kill();
    drop(writeln!(stdin, "mailbox create user/joe/late"));
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(69), "an interrupted batch ends with 69");
}

// row 64, row 66, row 67, row 68: checkpoint says its LSN; each segment says why it is kept; segments go by themselves.
#[test]
fn checkpoints_retire_segments_and_log_list_says_why() {
    let store = TestStore::new();
    let config = store.beside("storedd.toml");
    // No checkpoint but the one that is asked for.
    std::fs::write(&config, "[log]\nsegment_size = \"1MiB\"\n[checkpoint]\ninterval = \"1d\"\n").unwrap();
    let daemon = store.start_with(&["--config", config.to_str().unwrap()]);
    store.ctl(&["user", "add", "joe"]).expect(0);
    let input: String = (0..16_000).map(|n| format!("mailbox create user/joe/box-{n}\n")).collect();
    store.ctl_with(&["batch", "-"], Some(input.as_bytes())).expect(0);
    let before = store.json(&["log", "list", "--all"]);
    assert!(before.as_array().unwrap().len() >= 2, "{before}");
    assert!(before.as_array().unwrap().iter().all(|s| !s["kept_for"].as_array().unwrap().is_empty()), "{before}");
    let done = store.json(&["checkpoint"]);
    assert_eq!(done["lsn"].as_u64().unwrap(), store.json(&["status"])["checkpoint_lsn"].as_u64().unwrap());
    assert!(done["duration"].as_f64().unwrap() > 0.0);
    assert!(!done["retired"].as_array().unwrap().is_empty(), "{done}");
    let after = store.json(&["log", "list", "--all"]);
    assert_eq!(after.as_array().unwrap().len(), 1, "row 68: it settles: {after}");
    assert_eq!(store.json(&["log", "list", "--removable"]), json!([]));
    assert_eq!(store.json(&["log", "verify"])["findings"], json!([]));
    store.ctl(&["mailbox", "create", "user/joe/last"]).expect(0);
    let dump = store.json(&["log", "dump", "--mailbox", "user/joe/last"]);
    let text = dump.to_string();
    assert!(text.contains("user/joe/last"), "{text}");
    let stats = store.json(&["stats"]);
    assert!(stats["committed"].as_u64().unwrap() > 16_000 && stats["sync"]["count"].as_u64().unwrap() > 0, "{stats}");
    daemon.kill();
    let _again = store.start_with(&["--config", config.to_str().unwrap()]);
    assert_eq!(store.json(&["mailbox", "list"]).as_array().unwrap().len(), 16_002);
}
