//! Partitions give back what the database has lost: the index-loss experiment, adoption, and `reconstruct`.

mod changed;
mod older;
mod swapped;

use crate::harness::{TestStore, until};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const INBOX: &str = "user/joe/INBOX";
const WORK: &str = "user/joe/Work";

/// A message.
pub fn text(n: usize) -> Vec<u8> {
    format!("Subject: message {n}\r\nFrom: ann@example.org\r\n\r\nThe {n}th.\r\n").into_bytes()
}

/// Files below a directory with one of these names.
pub fn named(dir: &Path, names: &[&str], found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            named(&path, names, found);
        } else if names.iter().any(|name| path.file_name().is_some_and(|n| n == *name)) {
            found.push(path);
        }
    }
}

/// Loses parts of a stopped store.
pub fn remove(store: &TestStore, what: &[&str]) {
    if what.contains(&"database") {
        std::fs::remove_file(store.data.join("mboxlist/mboxlist.redb")).unwrap();
    }
    if what.contains(&"log") {
        for entry in std::fs::read_dir(store.data.join("mboxlist")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with("log.") || name.starts_with("spare.") {
                std::fs::remove_file(path).unwrap();
            }
        }
    }
    for (word, file) in [("index", "store.idx"), ("mirror", "manifest")] {
        if what.contains(&word) {
            let mut found = Vec::new();
            named(&store.data.join("partition"), &[file], &mut found);
            assert!(!found.is_empty());
            found.iter().for_each(|path| std::fs::remove_file(path).unwrap());
        }
    }
}

/// A user with limits, rights, subscriptions and two mailboxes; 30 messages, of which 10 are flagged and 10 expunged.
pub fn fill(store: &TestStore) {
    store.ctl(&["user", "add", "joe", "--quota", "1GiB"]).expect(0);
    store.ctl(&["user", "add", "ann"]).expect(0);
    store.ctl(&["mailbox", "create", WORK]).expect(0);
    store.ctl(&["mailbox", "create", "user/joe/Empty"]).expect(0);
    store.ctl(&["mailbox", "create", "shared/news"]).expect(0);
    store.ctl(&["acl", "set", WORK, "ann", "lrs"]).expect(0);
    store.ctl(&["subscribe", "joe", WORK]).expect(0);
    for n in 1..=30 {
        store.ctl_with(&["message", "deliver", INBOX], Some(&text(n))).expect(0);
    }
    store.ctl_with(&["message", "deliver", WORK, "shared/news"], Some(&text(31))).expect(0);
    let uids = |from: usize| (from..from + 10).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    store.ctl(&["message", "flags", INBOX, &uids(1), "--add", "\\Flagged", "--add", "$Work"]).expect(0);
    store.ctl(&["message", "expunge", INBOX, &uids(11)]).expect(0);
    store.ctl(&["mailbox", "create", "user/joe/Old"]).expect(0);
    store.ctl(&["mailbox", "delete", "user/joe/Old", "--yes"]).expect(0);
}

/// Everything that a client can see, but for marks that a loss may move.
pub fn seen(store: &TestStore) -> Value {
    let mut mailboxes = store.json(&["mailbox", "list", "--long"]);
    for mailbox in mailboxes.as_array_mut().unwrap() {
        mailbox.as_object_mut().unwrap().remove("uidnext");
    }
    let messages: Vec<Value> =
        [INBOX, WORK, "shared/news"].iter().map(|name| store.json(&["message", "list", name])).collect();
    json!({
        "mailboxes": mailboxes,
        "messages": messages,
        "users": store.json(&["user", "list"]),
        "quota": store.json(&["quota", "get", "joe"]),
        "subscriptions": store.json(&["subscriptions", "joe"]),
    })
}

/// Waits until an adoption has ended well.
pub fn adopted(store: &TestStore) {
    until("the adoption", || {
        let jobs = store.json(&["jobs", "list"]);
        let all = jobs.as_array().unwrap().clone();
        all.iter().find(|job| job["verb"] == "adopt" && !job["ended"].is_null()).map(|job| {
            assert_eq!(job["state"], "done", "{job}");
        })
    });
}

// rows 46, 48, 126, B3: 10 flagged, 10 expunged; then index, database, both, and all of it with the log deleted: flags 10 of 10, none of
// the expunged returns, UIDVALIDITY and UIDs as before
#[test]
fn the_index_loss_experiment() {
    for (is_clean, what) in [
        (true, &["index"][..]),
        (true, &["mirror"]),
        (true, &["database"]),
        (true, &["database", "index"]),
        (true, &["database", "mirror"]),
        (true, &["database", "log"]),
        (true, &["database", "index", "log"]),
        (false, &["index"]),
        (false, &["database"]),
        (false, &["database", "index"]),
    ] {
        let store = TestStore::new();
        let daemon = store.start();
        fill(&store);
        // So much that the first log file is not needed any more: the log alone does not give the database back.
        for n in 0..40 {
            let long = [text(n), vec![b'x'; 50_000]].concat();
            store.ctl_with(&["message", "deliver", "user/ann/INBOX"], Some(&long)).expect(0);
        }
        store.ctl(&["checkpoint"]).expect(0);
        // Known to the log alone where the daemon is killed.
        store.ctl_with(&["message", "deliver", INBOX], Some(&text(32))).expect(0);
        store.ctl(&["message", "flags", INBOX, "21", "--add", "\\Seen"]).expect(0);
        let before = seen(&store);
        match is_clean {
            true => assert_eq!(daemon.stop(), 0),
            false => daemon.kill(),
        }
        remove(&store, what);
        let daemon = store.start();
        let lost_database = what.contains(&"database");
        if lost_database {
            adopted(&store);
            assert_eq!(store.json(&["recover", "--report"])["decision"], "lossy", "{what:?}");
        }
        // Limits, subscriptions and mailboxes that never had a message stand in database and manifest alone.
        let proven = |seen: Value| match what {
            ["database", "mirror"] => json!({"messages": seen["messages"]}),
            _ => seen,
        };
        let (before, after) = (proven(before), proven(seen(&store)));
        assert_eq!(after, before, "{what:?}, clean {is_clean}");
        let flagged = after["messages"][0].as_array().unwrap();
        let count =
            |flag: &str| flagged.iter().filter(|m| m["flags"].as_array().unwrap().contains(&json!(flag))).count();
        assert_eq!((flagged.len(), count("\\Flagged"), count("$Work")), (21, 10, 10), "{what:?}");
        let run = store.ctl(&["--json", "reconstruct", "-m"]).expect(0).json();
        assert_eq!(run["findings"], json!([]), "{what:?}: {run}");
        assert_eq!(proven(seen(&store)), before, "{what:?}: after a reconstruct");
        let again = store.ctl(&["--json", "reconstruct", "-m", "-n"]).expect(0).json();
        assert_eq!(again["changes"], json!([]), "{what:?}: {again}");
        assert!(again["checked"].as_u64().unwrap() >= 4, "{again}");
        // What comes now has a UID that nothing had.
        let next = store.ctl_with(&["--json", "message", "deliver", INBOX], Some(&text(33))).expect(0).json();
        assert!(next[0]["uid"].as_u64().unwrap() >= 32, "{what:?}: {next}");
        assert_eq!(daemon.stop(), 0);
        assert_eq!(store.start().stop(), 0, "{what:?}");
    }
}

// row 126, I7: -n says what would be done and changes no byte; then it is done, and a line is printed for each change
#[test]
fn a_dry_run_plans_and_changes_nothing() {
    let store = TestStore::new();
    let daemon = store.start();
    fill(&store);
    store.ctl(&["checkpoint"]).expect(0);
    let before = seen(&store);
    // A mailbox whose directory is taken away is no mailbox any more.
    let shown = store.json(&["mailbox", "show", WORK]);
    std::fs::remove_dir_all(store.data.join("partition/primary").join(shown["path"].as_str().unwrap())).unwrap_or_else(
        |_| {
            std::fs::remove_dir_all(shown["path"].as_str().unwrap()).unwrap();
        },
    );
    let tree = |store: &TestStore| {
        let mut files = store.tree();
        files.retain(|(name, _)| name.contains("partition") || name.ends_with(".redb"));
        files
    };
    let bytes = tree(&store);
    let plan = store.ctl(&["--json", "reconstruct", "-m", "-n"]).expect(1).json();
    assert_eq!(tree(&store), bytes, "not a byte");
    let of_work = |run: &Value| {
        let changes = run["changes"].as_array().unwrap().clone();
        changes.iter().find(|c| c["mailbox"] == WORK).map(|c| c["action"].as_str().unwrap().to_owned())
    };
    assert!(of_work(&plan).is_some_and(|action| action.contains("removed")), "{plan}");
    let run = store.ctl(&["--json", "reconstruct", "-m"]).expect(1).json();
    assert_eq!(of_work(&run), of_work(&plan), "{run}");
    assert!(!run["findings"].as_array().unwrap().is_empty(), "its message is lost, and said so: {run}");
    store.ctl(&["mailbox", "show", WORK]).expect(68);
    assert_ne!(seen_names(&store), names(&before));
    let again = store.ctl(&["--json", "reconstruct", "-m", "-n"]).json();
    assert_eq!(again["changes"], json!([]), "{again}");
    assert_eq!(daemon.stop(), 0);
}

fn names(seen: &Value) -> Vec<String> {
    let all = seen["mailboxes"].as_array().unwrap();
    all.iter().map(|mailbox| mailbox["name"].as_str().unwrap().to_owned()).collect()
}

fn seen_names(store: &TestStore) -> Vec<String> {
    let all = store.json(&["mailbox", "list"]);
    all.as_array().unwrap().iter().map(|mailbox| mailbox["name"].as_str().unwrap().to_owned()).collect()
}

// rows 50, 51, 120: a store without its database serves at once; who is looked at or gets mail is there first
#[test]
fn a_user_is_adopted_when_he_is_looked_at() {
    let store = TestStore::new();
    let daemon = store.start();
    fill(&store);
    let before = seen(&store);
    assert_eq!(daemon.stop(), 0);
    remove(&store, &["database", "log"]);
    let daemon = store.start();
    // The first thing that anybody asks, whether or not the adoption has come to him.
    let next = store.ctl_with(&["--json", "message", "deliver", INBOX], Some(&text(40))).expect(0).json();
    let inbox = before["mailboxes"].as_array().unwrap().iter().find(|mailbox| mailbox["name"] == INBOX).unwrap();
    assert_eq!(next[0]["uidvalidity"], inbox["uidvalidity"], "{next}");
    assert_eq!(next[0]["uid"], 31);
    store.ctl(&["mailbox", "show", WORK]).expect(0);
    adopted(&store);
    assert_eq!(store.json(&["message", "list", INBOX]).as_array().unwrap().len(), 21);
    let report = store.json(&["recover", "--report"]);
    assert_eq!(report["decision"], "lossy", "{report}");
    assert_eq!(daemon.stop(), 0);
}

// rows 124, 125, 127, 129: partition, user, patterns; one thread or several: the same end
#[test]
fn scopes_restrict_and_threads_agree() {
    let store = TestStore::new();
    let daemon = store.start();
    fill(&store);
    store.ctl(&["checkpoint"]).expect(0);
    let checked = |args: &[&str]| {
        let all: Vec<&str> = ["--json", "reconstruct", "-m"].iter().chain(args).copied().collect();
        store.ctl(&all).expect(0).json()["checked"].as_u64().unwrap()
    };
    let all = checked(&["--jobs", "1"]);
    assert_eq!(checked(&["--jobs", "8"]), all);
    assert_eq!(checked(&["-p", "primary"]), all);
    let joe = checked(&["-u", "joe"]);
    assert!(joe >= 3 && joe < all, "{joe} of {all}");
    assert_eq!(checked(&["user/joe/W*"]), 1);
    assert_eq!(checked(&["shared/*"]), 1);
    store.ctl(&["reconstruct", "-m", "-p", "nowhere"]).expect(68);
    store.ctl(&["reconstruct", "-m", "-u", "nobody"]).expect(67);
    let listed = store.ctl(&["--json", "reconstruct", "-l", "-u", "joe"]).expect(0).json();
    assert_eq!(listed["checked"], 3, "{listed}");
    assert_eq!(store.ctl(&["--json", "reconstruct", "-q"]).expect(0).json()["changes"], json!([]));
    assert_eq!(daemon.stop(), 0);
}

// rows 50, 129: a daemon that is killed in the middle of an adoption, again and again, goes on with it
#[test]
fn a_killed_adoption_goes_on() {
    let store = TestStore::new();
    let daemon = store.start();
    fill(&store);
    let users: String = (0..150).map(|n| format!("user add u{n}\nmailbox create user/u{n}/Work\n")).collect();
    store.ctl_with(&["batch", "-"], Some(users.as_bytes())).expect(0);
    for n in 0..20 {
        store.ctl_with(&["message", "deliver", &format!("user/u{n}/Work")], Some(&text(n))).expect(0);
    }
    let before = seen(&store);
    assert_eq!(daemon.stop(), 0);
    remove(&store, &["database", "log", "index"]);
    for n in 0..6 {
        let daemon = store.start();
        std::thread::sleep(std::time::Duration::from_millis(15 * n));
        daemon.kill();
    }
    let daemon = store.start();
    until("an adoption that is done", || (!store.data.join("adoption-due").exists()).then_some(()));
    assert_eq!(seen(&store), before);
    let run = store.ctl(&["--json", "reconstruct", "-m", "-n"]).expect(0).json();
    assert_eq!((&run["changes"], &run["findings"]), (&json!([]), &json!([])), "{run}");
    assert_eq!(daemon.stop(), 0);
}

// row 128: mail that comes while a reconstruct is at work is there afterwards
#[test]
fn mail_comes_in_while_it_is_at_work() {
    let store = TestStore::new();
    let daemon = store.start();
    fill(&store);
    std::thread::scope(|threads| {
        let deliveries = threads.spawn(|| {
            for n in 100..140 {
                store.ctl_with(&["message", "deliver", INBOX], Some(&text(n))).expect(0);
            }
        });
        while !deliveries.is_finished() {
            let run = store.ctl(&["--json", "reconstruct", "-m"]).expect(0).json();
            assert_eq!((&run["changes"], &run["findings"]), (&json!([]), &json!([])), "{run}");
        }
        deliveries.join().unwrap();
    });
    assert_eq!(store.json(&["message", "list", INBOX]).as_array().unwrap().len(), 60);
    store.ctl(&["reconstruct", "-m", "-r"]).expect(0);
    assert_eq!(daemon.stop(), 0);
}

/// Where the only message of a mailbox lies, among several below a directory.
fn file_of(partition: &Path, wanted: &[u8]) -> PathBuf {
    let mut left = vec![partition.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|kind| kind == "msg") && std::fs::read(&path).unwrap() == wanted {
                return path;
            }
        }
    }
    panic!("no such file below {}", partition.display());
}

// B9: bytes that are damaged and in no log any more are put back from the copy on another partition, and from the log archive
#[test]
fn bytes_come_back_from_another_partition_and_from_the_archive() {
    for is_archived in [false, true] {
        let store = TestStore::new();
        let config = store.beside("bytes.toml");
        let archive = match is_archived {
            true => {
                format!("[archive]\npath = {:?}\nmax_lag = \"1s\"\n", store.beside("archive").display().to_string())
            }
            false => String::new(),
        };
        std::fs::write(&config, format!("[log]\nsegment_size = \"1MiB\"\n[snapshot]\nlog_bytes = 0\n{archive}"))
            .unwrap();
        let daemon = store.start_with(&["--config", config.to_str().unwrap()]);
        store.ctl(&["partition", "add", "far", store.beside("far").to_str().unwrap()]).expect(0);
        store.ctl(&["user", "add", "joe"]).expect(0);
        store.ctl(&["user", "add", "eve", "--partition", "far"]).expect(0);
        let precious = [text(1), vec![b'p'; 3000]].concat();
        let to = if is_archived { &["user/joe/INBOX"][..] } else { &["user/joe/INBOX", "user/eve/INBOX"] };
        store.ctl_with(&[&["message", "deliver"], to].concat(), Some(&precious)).expect(0);
        let first = store.data.join("mboxlist/log.0000000001");
        for n in 0..2000 {
            let long = [text(n), vec![b'x'; 60_000]].concat();
            store.ctl_with(&["message", "deliver", "user/eve/INBOX"], Some(&long)).expect(0);
            if n % 10 == 9 {
                store.ctl(&["checkpoint"]).expect(0);
                if !first.exists() {
                    break;
                }
            }
        }
        assert!(!first.exists(), "the log has them no more");
        let file = file_of(&store.data.join("partition/primary"), &precious);
        let mut bytes = precious.clone();
        bytes[2000] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        // Nobody is shown them.
        let shown = store.ctl(&["message", "show", INBOX, "1", "--raw"]);
        assert!(shown.status != 0 && shown.out.is_empty(), "{shown:?}");
        let run = store.ctl(&["--json", "check", INBOX, "--deep"]).expect(1).json();
        assert_eq!(run["findings"][0]["fate"], "mendable", "{run}");
        // A file of another length is seen without reading all of them.
        std::fs::write(&file, b"cut").unwrap();
        let run = store.ctl(&["--json", "reconstruct", "-r", "-u", "joe"]).expect(0).json();
        assert!(run["changes"][0]["action"].as_str().unwrap().contains("put back"), "archive {is_archived}: {run}");
        assert_eq!(store.ctl(&["message", "show", INBOX, "1", "--raw"]).expect(0).out.into_bytes(), precious);
        assert_eq!(std::fs::read(&file).unwrap(), precious);
        assert_eq!(daemon.stop(), 0);
    }
}

// row 128: while indexes are made again users read, and mail comes in by LMTP: nothing is refused, nothing is shown that was not sent, and all of it
// is in the index afterwards
#[test]
fn users_read_and_receive_while_indexes_are_made_again() {
    let store = TestStore::new();
    let daemon = store.start();
    fill(&store);
    store.ctl(&["checkpoint"]).expect(0);
    let before = seen(&store);
    let mut indexes = Vec::new();
    named(&store.data.join("partition"), &["store.idx"], &mut indexes);
    let sent: Vec<Vec<u8>> = (200..240).map(text).collect();
    std::thread::scope(|threads| {
        let deliveries = threads.spawn(|| {
            let mut lmtp = crate::harness::lmtp::Lmtp::unix(&store.data.join("lmtp.sock"));
            sent.iter().for_each(|text| assert_eq!(lmtp.deliver(&["joe"], text), ["250 2.0.0 stored"]));
        });
        let reader = threads.spawn(|| {
            for _ in 0..10 {
                let list = store.json(&["message", "list", INBOX]);
                assert!(list.as_array().unwrap().len() >= 20, "{list}");
                assert_eq!(store.json(&["message", "list", WORK]), before["messages"][1]);
                store.ctl(&["message", "show", INBOX, "1", "--raw"]).expect(0);
            }
        });
        while !(deliveries.is_finished() && reader.is_finished()) {
            for index in &indexes {
                let mut bytes = std::fs::read(index).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                std::fs::write(index, bytes).unwrap();
            }
            let run = store.ctl(&["--json", "reconstruct", "-r", "--jobs", "4"]).expect(0).json();
            assert_eq!(run["findings"], json!([]), "{run}");
        }
        deliveries.join().unwrap();
        reader.join().unwrap();
    });
    store.ctl(&["checkpoint"]).expect(0);
    assert_eq!(store.ctl(&["check", "--all", "--deep"]).expect(0).status, 0);
    let list = store.json(&["message", "list", INBOX]);
    assert_eq!(list.as_array().unwrap().len(), 20 + sent.len());
    assert_eq!(list.as_array().unwrap()[..20], before["messages"][0].as_array().unwrap()[..]);
    assert_eq!(daemon.stop(), 0);
}

// rows 154, 155: one command opens every index of a store; one of a version that this program does not know is named with what to do, left as it is,
// and stops no other
#[test]
fn one_command_opens_every_index() {
    let store = TestStore::new();
    let daemon = store.start();
    fill(&store);
    assert_eq!(daemon.stop(), 0);
    let mut indexes = Vec::new();
    named(&store.data.join("partition"), &["store.idx"], &mut indexes);
    let newer = indexes.iter().find(|path| path.to_string_lossy().contains("=shared")).unwrap();
    let mut bytes = std::fs::read(newer).unwrap();
    bytes[8..12].copy_from_slice(&77u32.to_le_bytes());
    let crc = storedd::checksum::Crc::seeded(&bytes[..8]).add(&bytes[..60]).value();
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(newer, &bytes).unwrap();
    let daemon = store.start();
    let check = store.ctl(&["--json", "check", "--all"]);
    assert_ne!(check.status, 0, "{check:?}");
    let run = store.ctl(&["--json", "reconstruct", "-r"]).expect(1).json();
    let named_it = |run: &Value| {
        let findings = run["findings"].as_array().unwrap().clone();
        findings.iter().any(|finding| finding["found"].as_str().unwrap().contains("77"))
    };
    assert!(named_it(&run), "{run}");
    assert_eq!(std::fs::read(newer).unwrap(), bytes, "left as it is");
    assert_eq!(store.json(&["message", "list", INBOX]).as_array().unwrap().len(), 20);
    assert_eq!(daemon.stop(), 0);
}

// A file that was found missing, and put back by the same run, was listed as not proven, and the run ended with 1
#[test]
fn what_is_put_back_in_the_same_run_is_no_finding() {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["user", "add", "ann"]).expect(0);
    let long = |n: usize| [text(n), vec![b'x'; 90_000]].concat();
    store.ctl_with(&["message", "deliver", INBOX, "user/ann/INBOX"], Some(&long(1))).expect(0);
    store.ctl_with(&["message", "deliver", INBOX], Some(&long(2))).expect(0);
    store.ctl(&["checkpoint"]).expect(0);
    let home = store.data.join("partition/primary").join(store.ctl(&["hashdir", "joe"]).expect(0).out.trim());
    let file = |name: &str| {
        let mut found = Vec::new();
        named(&home, &[name], &mut found);
        found.pop().unwrap_or_else(|| panic!("no {name}"))
    };
    let before = seen_messages(&store);
    let (first, second) = (file("1.msg"), file("2.msg"));
    // Ann has the same bytes.
    std::fs::remove_file(&first).unwrap();
    let plan = store.ctl(&["--json", "reconstruct", "-n"]).expect(1).json();
    assert_eq!((plan["findings_total"].as_u64(), plan["changes_total"].as_u64()), (Some(0), Some(1)), "{plan}");
    let run = store.ctl(&["--json", "reconstruct"]).expect(0).json();
    assert_eq!((&run["findings"], run["changes_total"].as_u64()), (&json!([]), Some(1)), "{run}");
    assert_eq!(seen_messages(&store), before);
    // It is there, under the name of another.
    std::fs::rename(&second, second.with_file_name("77.msg")).unwrap();
    let run = store.ctl(&["--json", "reconstruct"]).expect(0).json();
    assert_eq!(run["findings"], json!([]), "{run}");
    assert_eq!(seen_messages(&store), before);
    // What nobody has is told once, beside what is put back.
    std::fs::remove_file(&first).unwrap();
    std::fs::remove_file(&second).unwrap();
    let run = store.ctl(&["--json", "reconstruct"]).expect(1).json();
    assert_eq!(run["findings"].as_array().unwrap().len(), 1, "{run}");
    assert!(run["findings"][0]["where"].as_str().unwrap().ends_with("2.msg"), "{run}");
    assert!(first.is_file() && !second.exists());
    // Who asks for the database alone is told what is missing, of mailboxes that are as the database knows them.
    store.ctl(&["checkpoint"]).expect(0);
    let run = store.ctl(&["--json", "reconstruct", "-m"]).expect(1).json();
    assert_eq!(run["findings"].as_array().unwrap().len(), 1, "{run}");
    assert_eq!(daemon.stop(), 0);
}

/// The messages of Joe and Ann, with their bytes.
fn seen_messages(store: &TestStore) -> Value {
    let bytes = |name: &str, uid: u32| store.ctl(&["message", "show", name, &uid.to_string(), "--raw"]).expect(0).out;
    let lists = [INBOX, "user/ann/INBOX"].map(|name| store.json(&["message", "list", name]));
    json!([lists, bytes(INBOX, 1), bytes(INBOX, 2), bytes("user/ann/INBOX", 1)])
}
