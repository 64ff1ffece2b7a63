//! The damage matrix: what a start, `recover` and `recover --catastrophic` make of each kind of damage, beside what Berkeley DB makes of
//! it. Through the built programs.
//!
//! The table is kept in `docs/damage-matrix.md`; a test holds the page equal to what is seen. To write it anew:
//! `STOREDD_WRITE_DOCS=1 cargo test --test store matrix::`.

use crate::harness::{Run, TestStore};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Acknowledged changes of the store that is damaged.
pub(crate) const ENTRIES: usize = 260;
/// After so many of them a checkpoint is made.
const CHECKPOINT_AT: usize = 160;

/// A store that was killed: a log of several segments from creation on, a checkpoint in the middle of it, a verified snapshot before
/// that. Its log is sealed, and the control file knows.
pub(crate) fn killed() -> (TestStore, u64) {
    let store = TestStore::new();
    let config = store.beside("matrix.toml");
    let text =
        "[log]\nsegment_size = \"1MiB\"\nspares = 1\n[checkpoint]\ninterval = \"86400s\"\nreplay_target = \"3600s\"\n";
    std::fs::write(&config, text).unwrap();
    let daemon = store.start_with(&["--config", config.to_str().unwrap()]);
    store.ctl(&["user", "add", "joe"]).expect(0);
    let long = "x".repeat(200);
    // Each change writes the whole list: the log grows quickly.
    let lines = |from: usize, to: usize| -> String {
        (from..to).map(|n| format!("acl set user/joe/INBOX {n}{long} lrs\n")).collect()
    };
    let set = |from, to| drop(store.ctl_with(&["batch", "-"], Some(lines(from, to).as_bytes())).expect(0));
    set(0, 20);
    store.json(&["snapshot", "take", "--verify"]);
    set(20, CHECKPOINT_AT);
    store.ctl(&["checkpoint"]).expect(0);
    set(CHECKPOINT_AT, ENTRIES);
    std::thread::sleep(Duration::from_millis(1300));
    daemon.kill();
    let last = last_log(&store);
    assert!((4..12).contains(&last) && log(&store, 1).exists(), "{last} segments");
    (store, last)
}

pub(crate) fn log(store: &TestStore, number: u64) -> PathBuf {
    store.data.join(format!("mboxlist/log.{number:010}"))
}

pub(crate) fn last_log(store: &TestStore) -> u64 {
    (1..100).take_while(|n| log(store, *n).exists()).last().unwrap()
}

pub(crate) fn database(store: &TestStore) -> PathBuf {
    store.data.join("mboxlist/mboxlist.redb")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, target) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_file() {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// A copy of the store, without its snapshots unless they are wanted.
pub(crate) fn again(template: &TestStore, snapshots: bool) -> TestStore {
    let store = TestStore::new();
    copy(&template.data, &store.data);
    if !snapshots {
        std::fs::remove_dir_all(store.data.join("dbdata/snapshots")).unwrap();
    }
    store
}

pub(crate) fn change(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(file).unwrap();
    change(&mut bytes);
    std::fs::write(file, bytes).unwrap();
}

/// Where the records of a log file end.
fn end(file: &Path) -> usize {
    std::fs::read(file).unwrap().iter().rposition(|b| *b != 0).unwrap()
}

/// A kind of damage, and what Berkeley DB does about it.
struct Kind {
    name: &'static str,
    /// `db_recover`, `db_recover -c`, and what the next program sees.
    berkeley: [&'static str; 3],
    snapshots: bool,
    damage: fn(&TestStore, u64),
}

const KINDS: [Kind; 17] = [
    Kind { name: "none (kill -9)", berkeley: ["0", "0", "all"], snapshots: false, damage: |_, _| () },
    Kind {
        name: "last log missing",
        berkeley: ["**0, no message**", "**0, no message**", "**139 of 6000 lost in silence**"],
        snapshots: false,
        damage: |store, last| std::fs::remove_file(log(store, last)).unwrap(),
    },
    Kind {
        name: "middle log missing",
        berkeley: ["1, PANIC, the file is not named", "the same", "3001 of 6000; nobody remembers"],
        snapshots: false,
        damage: |store, last| std::fs::remove_file(log(store, last - 1)).unwrap(),
    },
    Kind {
        name: "first log missing, older than the checkpoint",
        berkeley: ["0", "0", "all"],
        snapshots: false,
        damage: |store, _| std::fs::remove_file(log(store, 1)).unwrap(),
    },
    Kind {
        name: "log of the checkpoint and all before it missing",
        berkeley: ["1, the file is not named", "1", "3001 of 6000"],
        snapshots: false,
        damage: |store, last| (1..last).for_each(|n| std::fs::remove_file(log(store, n)).unwrap()),
    },
    Kind {
        name: "all logs missing",
        berkeley: ["**0**, a new log 1", "**0**", "EINVAL: no way out"],
        snapshots: false,
        damage: |store, last| (1..=last).for_each(|n| std::fs::remove_file(log(store, n)).unwrap()),
    },
    Kind {
        name: "torn tail of the last log",
        berkeley: ["0", "0", "what was complete"],
        snapshots: false,
        damage: |store, last| {
            let file = log(store, last);
            let end = end(&file);
            // A write that was never finished: a head, and half of what belongs to it.
            change(&file, |bytes| bytes[end + 20..end + 520].fill(0xd5));
        },
    },
    Kind {
        name: "byte flipped in a middle log",
        berkeley: ["1, checksum mismatch", "1", "DB_RUNRECOVERY"],
        snapshots: false,
        damage: |store, last| change(&log(store, last - 1), |bytes| bytes[500_000] ^= 1),
    },
    Kind {
        name: "bytes flipped in the middle of the last log",
        berkeley: ["**0, no message**", "**0, no message**", "**70 of 6000 lost in silence**"],
        snapshots: false,
        damage: |store, last| {
            let file = log(store, last);
            let middle = (4096 + end(&file)) / 2;
            change(&file, |bytes| bytes[middle..middle + 3].iter_mut().for_each(|b| *b ^= 1));
        },
    },
    Kind {
        name: "bad magic in the last log",
        berkeley: ["1, file named", "1", "DB_RUNRECOVERY"],
        snapshots: false,
        damage: |store, last| change(&log(store, last), |bytes| bytes[..8].fill(b'!')),
    },
    Kind {
        name: "zero-length next log",
        berkeley: ["0, file removed", "0", "all"],
        snapshots: false,
        damage: |store, last| std::fs::write(log(store, last + 1), b"").unwrap(),
    },
    Kind {
        name: "database missing, a snapshot there",
        berkeley: ["**0, no message**", "0, rebuilt", "**0 of 6000**; all with -c"],
        snapshots: true,
        damage: |store, _| std::fs::remove_file(database(store)).unwrap(),
    },
    Kind {
        name: "database and snapshots missing, all logs there",
        berkeley: ["0", "0, rebuilt", "**0 of 6000**; all with -c"],
        snapshots: false,
        damage: |store, _| std::fs::remove_file(database(store)).unwrap(),
    },
    Kind {
        name: "database truncated to zero",
        berkeley: ["1, unexpected type", "1", "EINVAL"],
        snapshots: false,
        damage: |store, _| std::fs::write(database(store), b"").unwrap(),
    },
    Kind {
        name: "first pages of the database overwritten",
        berkeley: ["**0**, \"Encrypted database\"", "0", "EINVAL; all with -c"],
        snapshots: false,
        damage: |store, _| change(&database(store), |bytes| bytes[..16384].fill(0x5a)),
    },
    Kind {
        name: "empty directory",
        berkeley: ["0, makes a log", "0", "nothing"],
        snapshots: false,
        damage: |store, _| {
            std::fs::remove_dir_all(&store.data).unwrap();
            std::fs::create_dir(&store.data).unwrap();
        },
    },
    Kind {
        name: "directory absent",
        berkeley: ["1", "1", "-"],
        snapshots: false,
        damage: |store, _| std::fs::remove_dir_all(&store.data).unwrap(),
    },
];

/// What a start came to.
#[derive(Debug)]
pub(crate) enum Came {
    /// It answers: decision, entries there, whether a loss is stated, whether one is called possible.
    Up { decision: String, entries: usize, lost: bool, possible: bool, held: bool },
    /// It ended with this status and said this.
    Refused(i32, String),
}

fn entries(store: &TestStore) -> usize {
    let acl = store.ctl(&["--json", "acl", "get", "user/joe/INBOX"]);
    match acl.status {
        0 => acl.json()["acl"].as_object().unwrap().len().saturating_sub(1),
        67 | 68 => 0,
        _ => panic!("{acl:?}"),
    }
}

/// Starts the daemon and looks at what it shows.
pub(crate) fn start(store: &TestStore) -> Came {
    let mut daemon = store.spawn(&[]);
    let begun = std::time::Instant::now();
    loop {
        if let Some(status) = daemon.child.try_wait().unwrap() {
            return Came::Refused(status.code().unwrap_or(-1), daemon.log());
        }
        let state = store.ctl(&["--json", "status"]);
        let state = if state.status == 0 { state.json()["state"].as_str().unwrap().to_owned() } else { String::new() };
        if ["ready", "read-only"].contains(&state.as_str()) {
            let report: Value = store.json(&["recover", "--report"]);
            let came = Came::Up {
                decision: report["decision"].as_str().unwrap().to_owned(),
                entries: entries(store),
                lost: !report["lost"].is_null(),
                possible: report["possible_loss"] == true,
                held: state == "read-only",
            };
            assert_eq!(daemon.stop(), 0);
            return came;
        }
        assert!(begun.elapsed() < crate::harness::PATIENCE, "{}", daemon.log());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A start in a few words; fails if anything acknowledged went away without a word.
fn told(kind: &str, came: &Came) -> String {
    match came {
        Came::Up { decision, entries, lost, possible, held } => {
            assert!(*entries == ENTRIES || *lost || decision == "first start", "{kind}: lost in silence: {came:?}");
            let what = match (*entries == ENTRIES, *lost, *possible) {
                (true, false, false) => "all there",
                (true, false, true) => "all there, possible loss stated",
                (true, true, _) => "all there, a loss is stated",
                (false, true, _) => "part, **the loss is stated**",
                (false, false, _) => "a new store",
            };
            format!("`{decision}`{}: {what}", if *held { " (held)" } else { "" })
        }
        Came::Refused(status, said) => {
            assert!(*status > 0, "{kind}: {said}");
            format!("{status}, nothing changed")
        }
    }
}

/// `recover` in a few words, with the rules of its exit status.
fn recovered(kind: &Kind, template: &TestStore, last: u64, verb: &[&str]) -> String {
    let store = again(template, kind.snapshots);
    (kind.damage)(&store, last);
    let there = store.data.exists();
    let before = if there { store.tree() } else { Vec::new() };
    let Run { status, out, err } = store.storedd(&[verb, &["--json"]].concat());
    let document: Value = serde_json::from_str(&out).unwrap_or(Value::Null);
    if status == 0 || status == 1 {
        let Came::Up { decision, entries, .. } = start(&store) else {
            panic!("{}: no start after {verb:?}", kind.name)
        };
        // Never 0 where something acknowledged is gone (row 28).
        let fresh = document["decision"] == "first start";
        assert!(entries == ENTRIES || fresh, "{}: {verb:?} said {status}, {entries} are left ({decision})", kind.name);
        let damaged = if status == 1 { "; damage that cost nothing is named" } else { "" };
        let what = if fresh { "a new store" } else { "all there" };
        return format!("{status}, `{}`: {what}{damaged}", document["decision"].as_str().unwrap());
    }
    let after = if store.data.exists() { store.tree() } else { Vec::new() };
    let after: Vec<_> = after.into_iter().filter(|(name, _)| name != "failed-recovery").collect();
    assert!(after == before, "{}: {verb:?} was refused and changed something", kind.name);
    let said = document["error"]["message"].as_str().unwrap_or(&err).to_owned();
    if before.is_empty() {
        assert!(status > 2, "{}: {verb:?}: {said}", kind.name);
        return format!("{status}, nothing changed");
    }
    assert_eq!(status, 2, "{}: {verb:?}: {said}", kind.name);
    // Every file that is gone is named, and no other (row 29).
    let gone: Vec<String> = template
        .tree()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("mboxlist/log.") || name == "mboxlist/mboxlist.redb")
        .filter(|name| !store.data.join(name).exists())
        .collect();
    for name in &gone {
        assert!(
            said.contains(name.trim_start_matches("mboxlist/")),
            "{}: {verb:?} does not name {name}: {said}",
            kind.name
        );
    }
    let named = said.matches("log.0").count() + said.matches("mboxlist.redb").count();
    assert!(named > 0 && (gone.is_empty() || named == gone.len()), "{}: {verb:?} names others: {said}", kind.name);
    let what = if gone.is_empty() {
        "the damaged file"
    } else if gone.len() == 1 {
        "the file"
    } else {
        "each file"
    };
    format!("2, names {what}, nothing changed")
}

// rows 21 to 33, 38: seventeen kinds of damage, three ways to meet each
#[test]
fn seventeen_kinds_of_damage() {
    let (template, last) = killed();
    let mut table = String::from(
        "| damage | Berkeley DB: recover | recover -c | the next program sees | storedd: start | recover | recover --catastrophic |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for kind in &KINDS {
        let store = again(&template, kind.snapshots);
        (kind.damage)(&store, last);
        let started = told(kind.name, &start(&store));
        let by_hand = recovered(kind, &template, last, &["recover"]);
        let catastrophic = recovered(kind, &template, last, &["recover", "--catastrophic"]);
        let [recover, recover_c, next] = kind.berkeley;
        let row = [kind.name, recover, recover_c, next, &started, &by_hand, &catastrophic];
        writeln!(table, "| {} |", row.join(" | ")).unwrap();
    }
    // What Berkeley DB cannot be asked in this way.
    let store = again(&template, false);
    let daemon = store.start();
    let live = ["recover", "recover --catastrophic"].map(|verb| {
        let words: Vec<&str> = verb.split(' ').collect();
        let refused = store.storedd(&words).expect(75);
        assert!(refused.err.contains("in use by process"), "{refused:?}");
        "75, names the process"
    });
    assert_eq!(store.spawn(&[]).wait(), 75, "a second daemon");
    assert_eq!(entries(&store), ENTRIES, "the live process goes on");
    assert_eq!(daemon.stop(), 0);
    let row =
        ["recover while a process works", "**0; the process dies: PANIC**", "the same", "-", "75", live[0], live[1]];
    writeln!(table, "| {} |", row.join(" | ")).unwrap();
    let early =
        again(&template, false).storedd(&["recover", "--until-time", "2001-01-01T00:00:00Z", "--yes"]).expect(65);
    assert!(early.err.contains("what can be reached: LSN 0 ("), "{early:?}");
    let row = [
        "to a point before the first record",
        "1, names the earliest time",
        "-",
        "-",
        "-",
        "65, names the earliest and the latest",
        "-",
    ];
    writeln!(table, "| {} |", row.join(" | ")).unwrap();
    eprintln!("{table}");
    documented("kinds", &table);
}

/// Holds a table of the page equal to what was seen, or writes it there.
pub(crate) fn documented(name: &str, table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/damage-matrix.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- {name}: made by tests/matrix.rs -->\n\n"), format!("\n<!-- end of {name} -->"));
    let from = text.find(&begin).unwrap_or_else(|| panic!("no {begin} in {}", path.display())) + begin.len();
    let to = from + text[from..].find(&end).unwrap();
    if std::env::var_os("STOREDD_WRITE_DOCS").is_some() {
        std::fs::write(&path, [&text[..from], table, &text[to..]].concat()).unwrap();
        return;
    }
    assert!(&text[from..to] == table, "{} is not what was seen; seen:\n{table}", path.display());
}
