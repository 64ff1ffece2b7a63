//! Files of another version, through the built programs: each kind is refused by its name, with what was found, what this program
//! knows, and what to do; none is opened for use, overwritten or removed.

use crate::harness::{Run, TestStore, typed, until};
use crate::upgrade::does_not_start;
use redb::ReadableTable;
use serde_json::{Value, json};
use std::path::Path;
use storedd::checksum::Crc;
use storedd::db::SCHEMA_VERSION;

/// A version that no program writes yet.
const LATER: u32 = 9;

/// Puts a later version into a file whose checksum covers `covered` bytes and stands behind them.
fn of_later(path: &Path, seed: &[u8], covered: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[8..12].copy_from_slice(&LATER.to_le_bytes());
    let crc = Crc::seeded(seed).add(&bytes[..covered]).value();
    bytes[covered..covered + 4].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(path, bytes).unwrap();
}

/// The same of a sealed text, which begins with its kind and its version.
pub fn text_of_later(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();
    let kind = first.split(' ').next().unwrap();
    let body = &rest[..rest.rfind("crc ").unwrap()];
    let text = format!("{kind} {LATER}\n{body}");
    let crc = Crc::seeded(kind.as_bytes()).add(text.as_bytes()).value();
    std::fs::write(path, format!("{text}crc {crc:08x}\n")).unwrap();
}

/// The same of a database, where the record of its tables begins with the schema.
fn database_of_later(path: &Path) {
    const META: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("meta");
    let db = redb::Database::open(path).unwrap();
    let txn = db.begin_write().unwrap();
    {
        let mut meta = txn.open_table(META).unwrap();
        let mut value = meta.get(&b"state"[..]).unwrap().unwrap().value().to_vec();
        let sum = value.len() - 4;
        value[1..5].copy_from_slice(&LATER.to_le_bytes());
        // Table 0, the length of the key, the key; then what stands before the sum (`db/envelope.rs`).
        let crc = Crc::seeded(&[0, 5, 0, 0, 0]).add(b"state").add(&value[..sum]).value();
        value[sum..].copy_from_slice(&crc.to_le_bytes());
        meta.insert(&b"state"[..], value.as_slice()).unwrap();
    }
    txn.commit().unwrap();
}

/// A store with something in it, stopped.
fn stopped() -> TestStore {
    let store = TestStore::new();
    let daemon = store.start();
    store.json(&["user", "add", "ann"]);
    assert_eq!(daemon.stop(), 0);
    store
}

fn says(run: &Run, words: &[&str]) {
    words.iter().for_each(|word| assert!(run.err.contains(word), "{word:?} is not said: {run:?}"));
}

// row 150, row 156: each file that a start reads names its version, and one that is not known is refused by the file's name.
#[test]
fn a_later_format_is_refused_by_name() {
    let cases: [(&str, &[u8], usize, [&str; 3]); 3] = [
        ("STORE", b"STORE", 60, ["store/STORE", "layout version is 9", "expects 1"]),
        ("CONTROL", b"control slot", 4092, ["store/CONTROL", "format version is 9", "expects 1"]),
        (
            "mboxlist/log.0000000001",
            b"log segment header",
            4092,
            ["log.0000000001", "format version is 9", "expects 1 to 3"],
        ),
    ];
    for (file, seed, covered, words) in cases {
        let store = stopped();
        of_later(&store.data.join(file), seed, covered);
        let before = store.tree();
        let log = does_not_start(&store, 65);
        words.iter().for_each(|word| assert!(log.contains(word), "{file}: {word:?}: {log}"));
        for verb in [
            &["upgrade"][..],
            &["prepare-upgrade"],
            &["recover"],
            &["recover", "--catastrophic"],
            &["downgrade", "enable", "--yes"],
            &["log", "reset", "--yes"],
        ] {
            let refused = store.storedd(verb).expect(65);
            says(&refused, &words);
            says(&refused, &["use the program that wrote this one"]);
        }
        assert!(store.tree() == before, "{file}");
    }
}

// row 53, row 150, row 156: a database that a later program wrote is neither opened nor replaced; the command that goes back to the
// snapshot from before is printed, and does that.
#[test]
fn a_later_database_is_refused_with_the_way_back() {
    let store = stopped();
    let database = store.data.join("mboxlist/mboxlist.redb");
    let good = std::fs::read(&database).unwrap();
    database_of_later(&database);
    let before = store.tree();
    let expects = format!("mboxlist.redb: schema version is 9, this program expects 1 to {SCHEMA_VERSION}");
    let log = does_not_start(&store, 65);
    assert!(log.contains(&expects) && log.contains("no snapshot is there"), "{log}");
    for verb in [&["recover"][..], &["recover", "--catastrophic"], &["upgrade"], &["prepare-upgrade"], &["test"]] {
        let refused = store.storedd(verb);
        assert_eq!(refused.status, if verb[0] == "test" { 1 } else { 65 }, "{refused:?}");
        says(&refused, &[&expects, "downgrade enable"]);
    }
    assert!(store.tree() == before);

    std::fs::write(&database, good).unwrap();
    let daemon = store.start();
    let snapshot = store.json(&["snapshot", "take", "--verify"]);
    store.json(&["mailbox", "create", "shared/behind"]);
    let held = store.json(&["mailbox", "list"]);
    assert_eq!(daemon.stop(), 0);
    database_of_later(&database);
    let log = does_not_start(&store, 65);
    assert!(log.contains(&expects), "{log}");
    let hint = log.rsplit("or go back: ").next().unwrap().split('"').next().unwrap();
    assert!(hint.ends_with(&format!("snapshot install {} --yes", snapshot["id"].as_str().unwrap())), "{hint}");
    typed(hint).expect(0);
    let _daemon = store.start();
    assert_eq!(store.json(&["mailbox", "list"]), held, "the log behind the snapshot leads on");
}

// row 44, row 91, row 150: a snapshot of a later version is named, put in place by nobody, and kept: the program that wrote it can use it.
#[test]
fn a_later_snapshot_is_refused_by_name_and_kept() {
    for (file, found, expected) in [
        ("MANIFEST", "format version 9", "1"),
        (".snaptime", "format version 9", "1"),
        ("", "schema version 9", "1 to 3"),
    ] {
        let store = TestStore::new();
        let daemon = store.start();
        let snapshot = store.json(&["snapshot", "take", "--verify"]);
        let (id, dir) = (snapshot["id"].as_str().unwrap(), snapshot["path"].as_str().unwrap());
        match file {
            "" => schema_of_later(Path::new(dir)),
            file => text_of_later(&Path::new(dir).join(file)),
        }
        let its =
            |store: &TestStore| -> Vec<_> { store.tree().into_iter().filter(|(name, _)| name.contains(id)).collect() };
        let before = its(&store);

        let verified = store.ctl(&["--json", "snapshot", "verify", id]).expect(1).json();
        let findings = verified[0]["findings"].as_array().unwrap();
        let about =
            |f: &&Value| f["file"].as_str().unwrap().ends_with(file) && f["expected"].as_str() == Some(expected);
        assert!(findings.iter().filter(about).count() >= 1, "{file}: {verified}");
        let good = store.json(&["snapshot", "take", "--verify"]);
        for _ in 0..5 {
            store.json(&["mailbox", "list"]);
            store.json(&["snapshot", "take", "--verify"]);
        }
        store.ctl(&["snapshot", "prune", "--yes"]).expect(0);
        assert!(its(&store) == before, "{file}: neither unmarked nor removed");
        assert_eq!(daemon.stop(), 0);

        let refused = store.storedd(&["snapshot", "install", id, "--yes"]).expect(65);
        says(&refused, &[id, file, found, expected, "use the program that wrote it"]);
        assert!(its(&store) == before, "{file}");
        // A start that needs one takes another.
        std::fs::remove_file(store.data.join("mboxlist/mboxlist.redb")).unwrap();
        let _daemon = store.start();
        let report = store.json(&["recover", "--report"]);
        assert_eq!((&report["decision"], &report["lost"]), (&json!("rollback"), &Value::Null), "{good}: {report}");
        assert_ne!(report["base"], id);
    }
}

/// A verified snapshot whose database is of a later schema, as its manifest says.
fn schema_of_later(dir: &Path) {
    let database = dir.join("mboxlist.redb");
    database_of_later(&database);
    let seal = |file: &str, kind: &str, body: &str| {
        let text = format!("{kind} 1\n{body}");
        let crc = Crc::seeded(kind.as_bytes()).add(text.as_bytes()).value();
        std::fs::write(dir.join(file), format!("{text}crc {crc:08x}\n")).unwrap();
    };
    let manifest = std::fs::read_to_string(dir.join("MANIFEST")).unwrap();
    let store = manifest.lines().find_map(|line| line.strip_prefix("store ")).unwrap();
    let store: Vec<u8> = (0..16).map(|n| u8::from_str_radix(&store[2 * n..2 * n + 2], 16).unwrap()).collect();
    let bytes = std::fs::read(&database).unwrap();
    let crc = Crc::seeded(&store).add(b"mboxlist.redb").add(&bytes).value();
    let body = manifest.lines().skip(1).filter(|line| !line.starts_with("crc ")).map(|line| {
        match line.split(' ').next().unwrap() {
            "schema" => format!("schema {LATER}\n"),
            "file" => format!("file mboxlist.redb {} {crc:08x}\n", bytes.len()),
            _ => format!("{line}\n"),
        }
    });
    seal("MANIFEST", "storedd-snapshot", &body.collect::<String>());
    let sum = |file: &str| Crc::seeded(b"storedd-verified").add(&std::fs::read(dir.join(file)).unwrap()).value();
    let (manifest, snaptime) = (sum("MANIFEST"), sum(".snaptime"));
    seal(".verified", "storedd-verified", &format!("time 1\nmanifest {manifest:08x}\nsnaptime {snaptime:08x}\n"));
}

// row 150, row 154: a partition of a later version stops nothing but itself: it is named, nothing is made in it, nothing of it is taken
// for lost; with its own file it is there again.
#[test]
fn a_later_partition_is_refused_by_name() {
    let store = stopped();
    let file = store.data.join("partition/primary/PARTITION");
    let good = std::fs::read(&file).unwrap();
    of_later(&file, b"SDpartID", 124);
    let its = |store: &TestStore| -> Vec<_> {
        store.tree().into_iter().filter(|(name, _)| name.starts_with("partition/")).collect()
    };
    let before = its(&store);
    let daemon = store.start();
    let listed = store.json(&["partition", "list"]);
    assert_eq!(listed[0]["state"], "foreign", "{listed}");
    let words = ["PARTITION", "format version is 9", "this program expects 1 to 3", "use the program that wrote it"];
    let alarm = until("an alarm of the partition", || {
        let status = store.json(&["status"]);
        status["alarms"].as_array().unwrap().iter().find(|alarm| alarm["name"] == "partition").cloned()
    });
    words.iter().for_each(|word| assert!(alarm.to_string().contains(word), "{word}: {alarm}"));
    // What is to lie in it waits.
    let added = store.json(&["user", "add", "bob"]);
    store.ctl(&["checkpoint"]);
    assert_eq!(daemon.stop(), 0);
    assert!(its(&store) == before, "nothing is made in it");
    std::fs::write(&file, good).unwrap();
    let daemon = store.start();
    // It takes from the log what it lacks.
    until("it is as it should be", || (store.json(&["partition", "list"])[0]["state"] == "ok").then_some(()));
    let users = store.json(&["user", "list"]);
    assert_eq!((&users[0]["user"], &users[1]["user"]), (&json!("ann"), &json!("bob")), "{users} {added}");
    store.ctl(&["checkpoint"]).expect(0);
    assert_eq!(daemon.stop(), 0);
}

// row 159: every number is little-endian whatever the machine; a file whose beginning is turned round is refused by name. The marker is
// of another machine then, and is not made again as one that is damaged would be. (One page of a log file is damage like any other: no
// obstacle where nothing of it is needed.)
#[test]
fn a_file_of_another_byte_order_is_refused_by_name() {
    for (file, status) in [("STORE", 65), ("CONTROL", 2), ("mboxlist/mboxlist.redb", 2)] {
        let store = TestStore::new();
        assert_eq!(store.start().stop(), 0);
        let path = store.data.join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        let slots = if file == "CONTROL" { vec![0, 4096] } else { vec![0] };
        slots.iter().for_each(|at| bytes[*at..at + 8].reverse());
        std::fs::write(&path, bytes).unwrap();
        let before = store.tree();
        let refused = store.storedd(&["recover"]).expect(status);
        assert!(refused.err.contains(file.rsplit('/').next().unwrap()), "{file}: {refused:?}");
        assert!(file != "STORE" || refused.err.contains("byte order is big-endian"), "{refused:?}");
        let unmarked: Vec<_> = store.tree().into_iter().filter(|(name, _)| name != "failed-recovery").collect();
        assert!(unmarked == before, "{file}");
    }
}
