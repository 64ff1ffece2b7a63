//! The scrub: what is damaged is found without being asked for, healed while its bytes are somewhere, and an alarm where they are not.

use crate::check::{filled, named, outgrow_log};
use crate::harness::alarms::{alarm, cleared, raised};
use crate::harness::{Daemon, PATIENCE, TestStore, until};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Instant;

fn configure(store: &TestStore, config: &str) -> PathBuf {
    let path = store.beside("scrub.toml");
    std::fs::write(&path, format!("[log]\nsegment_size = \"1MiB\"\n{config}")).unwrap();
    path
}

fn start(store: &TestStore, config: &str) -> Daemon {
    store.start_with(&["--config", configure(store, config).to_str().unwrap()])
}

fn reload(store: &TestStore, config: &str) {
    configure(store, config);
    store.ctl(&["config", "reload"]).expect(0);
}

fn scrub(store: &TestStore) -> Value {
    store.json(&["status"])["scrub"].clone()
}

fn number(store: &TestStore, key: &str) -> u64 {
    scrub(store)[key].as_u64().unwrap()
}

fn flip(file: &Path, at: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[at] ^= 4;
    std::fs::write(file, bytes).unwrap();
}

fn whole_pass(store: &TestStore) {
    until("a whole pass of the scrub", || scrub(store)["last_age"].as_f64());
}

const OFF: &str = "[scrub]\ninterval = \"0s\"\n";
const OFTEN: &str = "[scrub]\ninterval = \"1s\"\npace = \"64MiB\"\n";
const RARELY: &str = "[scrub]\ninterval = \"1h\"\npace = \"64MiB\"\n";

// row B9: a bit that was flipped in a message is found without anybody asking, healed from where its bytes are, else listed and an alarm,
// which is cleared when somebody has looked again
#[test]
fn damage_is_found_by_itself_and_healed_or_told() {
    let store = TestStore::new();
    let daemon = start(&store, OFF);
    filled(&store);
    let partition = store.data.join("partition/primary");
    let file = |user: &str| {
        let home = named(&partition, "1.msg").into_iter().find(|p| p.to_string_lossy().contains(&format!("={user}")));
        home.unwrap()
    };
    let (ann, joe) = (file("ann"), file("joe"));
    let (good, lost) = (std::fs::read(&ann).unwrap(), std::fs::read(&joe).unwrap());
    // Ann's first message lies in another folder of hers, too; Joe's lies nowhere else.
    store.ctl_with(&["message", "deliver", "user/ann/Work"], Some(&good)).expect(0);
    outgrow_log(&store);
    flip(&ann, 31);
    flip(&joe, 32);
    let bad = std::fs::read(&joe).unwrap();
    assert_eq!(scrub(&store)["state"], "off");
    assert!(scrub(&store)["last_age"].is_null() && alarm(&store, "damage").is_none());

    reload(&store, OFTEN);
    let damage = raised(&store, "damage");
    assert_eq!((&damage["severity"], &damage["value"]), (&Value::from("critical"), &Value::from(1.0)), "{damage}");
    assert!(damage["cause"].as_str().unwrap().contains(joe.file_name().unwrap().to_str().unwrap()), "{damage}");
    whole_pass(&store);
    assert_eq!(std::fs::read(&ann).unwrap(), good, "healed");
    assert_eq!(std::fs::read(&joe).unwrap(), bad, "what cannot be healed is left as it is");
    assert_eq!(number(&store, "damaged"), 1);
    assert!(daemon.log().contains("event=message_healed"));
    let human = store.ctl(&["status"]).expect(0).out;
    assert!(human.contains("; 1 place damaged"), "{human}");
    let metrics = store.ctl(&["metrics"]).expect(0).out;
    assert!(metrics.contains("\nstoredd_scrub_damaged 1\n") && metrics.contains("storedd_alarms{name=\"damage\"} 1"));

    // It outlives a crash, also while nobody scrubs.
    reload(&store, OFF);
    daemon.kill();
    let daemon = start(&store, RARELY);
    raised(&store, "damage");
    let found = store.ctl(&["--json", "check", "--all", "--deep"]).expect(2).json();
    assert_eq!((&found["lost"], &found["scrub"]["damaged"]), (&Value::from(1), &Value::from(1)), "{found}");
    raised(&store, "damage");
    std::fs::write(&joe, &lost).unwrap();
    // A look at lengths alone is no proof.
    store.ctl(&["check", "--all"]).expect(0);
    assert_eq!(number(&store, "damaged"), 1);
    let checked = store.ctl(&["check", "user/joe/INBOX", "--deep"]).expect(0).out;
    assert!(checked.contains("the scrub, which does this all the time"), "{checked}");
    cleared(&store, "damage");
    until("it is noted", || {
        std::fs::read_to_string(store.data.join("dbdata/scrub")).ok()?.contains("\"damage\":[]").then_some(())
    });
    daemon.kill();
    let _daemon = start(&store, RARELY);
    assert_eq!(number(&store, "damaged"), 0);
}

// row B9: a pass goes on behind a kill where it was, each mailbox once; it is paced as the configuration says by then, and in nobody's way
#[test]
fn a_pass_goes_on_where_it_was() {
    let store = TestStore::new();
    let slow = "[jobs]\nrunning = 1\n[scrub]\ninterval = \"1h\"\npace = \"64KiB\"\n";
    let daemon = start(&store, OFF);
    store.ctl(&["user", "add", "joe"]).expect(0);
    let names: Vec<String> = (0..96).map(|n| format!("user/joe/{n:03}")).collect();
    let lines: String = names.iter().map(|name| format!("mailbox create {name}\n")).collect();
    store.ctl_with(&["batch", "-"], Some(lines.as_bytes())).expect(0);
    let mut deliver = vec!["message", "deliver", "user/joe/INBOX"];
    deliver.extend(names.iter().map(String::as_str));
    store.ctl_with(&deliver, Some(&[b'x'; 16 << 10])).expect(0);
    store.ctl(&["checkpoint"]).expect(0);
    assert_eq!(daemon.stop(), 0);

    // A pass takes 24 seconds; the store is old enough for one.
    let daemon = start(&store, &slow.replace("1h", "1s"));
    until("a mark", || (number(&store, "mailboxes") >= 32).then_some(()));
    assert_eq!(scrub(&store)["state"], "running");
    let jobs = store.json(&["jobs", "list"]);
    let job = jobs.as_array().unwrap().iter().find(|job| job["verb"] == "scrub").unwrap().clone();
    assert_eq!(job["state"], "running", "{job}");
    store.ctl(&["check", "user/joe/INBOX"]).expect(0);
    let begun = scrub(&store)["begun"].clone();
    // The mark is written every two seconds at the most.
    until("the mark is written", || {
        std::fs::read_to_string(store.data.join("dbdata/scrub")).ok()?.contains("\"mailboxes\":").then_some(())
    });
    daemon.kill();

    let _daemon = start(&store, slow);
    let now = scrub(&store);
    assert_eq!(now["begun"], begun, "{now}");
    let at = now["mailboxes"].as_u64().unwrap();
    assert!((16..97).contains(&at), "{now}");
    until("it goes on", || (scrub(&store)["state"] == "running").then_some(()));
    assert!(number(&store, "mailboxes") >= at);
    let before = Instant::now();
    reload(&store, RARELY);
    whole_pass(&store);
    assert!(before.elapsed() < PATIENCE);
    let done = scrub(&store);
    assert_eq!((&done["mailboxes"], &done["messages"]), (&Value::from(97), &Value::from(97)), "{done}");
    assert_eq!((&done["found"], &done["begun"]), (&Value::from(0), &Value::Null), "{done}");
    assert_eq!(done["bytes"].as_u64().unwrap(), 97 * (16 << 10));
    // Switched off it ends at once.
    reload(&store, &slow.replace("1h", "1s"));
    until("another pass", || (scrub(&store)["state"] == "running").then_some(()));
    reload(&store, OFF);
    until("it ends", || (scrub(&store)["state"] == "off").then_some(()));
}

// row B9: and within a large mailbox, too: behind a kill the messages that were found good are not read again, and the rest is
#[test]
fn a_pass_goes_on_within_a_large_mailbox() {
    let store = TestStore::new();
    let daemon = start(&store, OFF);
    store.ctl(&["user", "add", "joe"]).expect(0);
    let text = |n: u32| format!("Subject: {n}\r\n\r\n{}", "x".repeat(16 << 10)).into_bytes();
    for n in 0..96 {
        store.ctl_with(&["message", "deliver", "user/joe/INBOX"], Some(&text(n))).expect(0);
    }
    store.ctl(&["checkpoint"]).expect(0);
    assert_eq!(daemon.stop(), 0);
    let all = named(&store.data.join("partition/primary"), ".msg");
    let file = |uid: u32| all.iter().find(|p| p.ends_with(format!("{uid}.msg"))).unwrap().clone();

    // A pass takes 24 seconds; the store is old enough for one.
    let daemon = start(&store, "[scrub]\ninterval = \"1s\"\npace = \"64KiB\"\n");
    until("it is noted how far it is in the mailbox", || {
        let noted = std::fs::read_to_string(store.data.join("dbdata/scrub")).ok()?;
        let uid = noted.split("\"uid\":").nth(1)?.split(['}', ',']).next()?.parse::<u32>().ok()?;
        (16..60).contains(&uid).then_some(())
    });
    daemon.kill();
    // One that was read in this pass, and one that was not.
    flip(&file(2), 50);
    flip(&file(90), 50);
    let daemon = start(&store, RARELY);
    whole_pass(&store);
    let done = scrub(&store);
    assert_eq!((&done["messages"], &done["found"]), (&Value::from(96), &Value::from(1)), "{done}");
    assert_eq!(done["bytes"].as_u64().unwrap() / (16 << 10), 95, "what is damaged does not count as read: {done}");
    let log = daemon.log();
    assert!(log.contains("/90.msg") && !log.contains("/2.msg"), "{log}");
}

// row B9: whoever was refused damaged mail was told so, `check` said how many are lost, and there was no alarm before the scrub came by
#[test]
fn what_a_reader_or_a_check_meets_is_an_alarm() {
    let store = TestStore::new();
    let daemon = start(&store, OFF);
    filled(&store);
    outgrow_log(&store);
    let partition = store.data.join("partition/primary");
    let first = |user: &str| {
        let all = named(&partition, "1.msg").into_iter();
        all.filter(|path| path.to_string_lossy().contains(&format!("={user}"))).min().unwrap()
    };
    let joe = first("joe");
    let whole = std::fs::read(&joe).unwrap();
    std::fs::write(&joe, &whole[..whole.len() - 3]).unwrap();
    assert!(alarm(&store, "damage").is_none());
    store.ctl(&["message", "show", "user/joe/INBOX", "1"]).expect(2);
    let damage = raised(&store, "damage");
    assert_eq!(damage["value"], 1.0, "{damage}");
    // Met once more it is the same.
    store.ctl(&["message", "show", "user/joe/INBOX", "1"]).expect(2);
    store.ctl(&["check", "user/joe/INBOX"]).expect(2);
    store.ctl(&["check", "user/joe/INBOX", "--deep"]).expect(2);
    assert_eq!(number(&store, "damaged"), 1);
    // It outlives a start, and goes when somebody has looked.
    assert_eq!(daemon.stop(), 0);
    let daemon = start(&store, OFF);
    raised(&store, "damage");
    std::fs::write(&joe, &whole).unwrap();
    store.ctl(&["check", "user/joe/INBOX", "--deep"]).expect(0);
    cleared(&store, "damage");
    // A check that nobody read before: lengths alone.
    std::fs::write(&joe, &whole[..whole.len() - 3]).unwrap();
    store.ctl(&["check", "--all"]).expect(2);
    raised(&store, "damage");
    assert_eq!(daemon.stop(), 0);
}
