//! Random faults on the database, on one snapshot, or on both, with the log whole: each start becomes ready by itself, and everything
//! that was acknowledged is there. // row B2
//!
//! ```text
//! STOREDD_FAULTS=200 cargo test --test store faults -- --nocapture     so many
//! STOREDD_FAULTS_SEED=7 ...                                            others
//! STOREDD_FAULTS_MAILBOXES=100000 ...                                  a larger store
//! ```

use crate::harness::TestStore;
use crate::rollback::mailboxes;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const DATABASE: &str = "mboxlist/mboxlist.redb";

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.replace('_', "").parse().ok()).unwrap_or(default)
}

/// Numbers from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % most.max(1)
    }
}

/// A store with three snapshots, killed in the middle of its life, to be copied; older copies of its files; what it held.
struct Template {
    store: TestStore,
    /// Below the data directory: a file, and what it was once.
    older: Vec<(String, Vec<u8>)>,
    snapshots: Vec<PathBuf>,
    expected: BTreeSet<(String, u64, u64)>,
}

fn add(store: &TestStore, from: u64, count: u64) {
    let lines: String = (from..from + count).map(|n| format!("mailbox create user/u{}/m{n}\n", n % 10)).collect();
    store.ctl_with(&["batch", "-"], Some(lines.as_bytes())).expect(0);
}

fn template(size: u64) -> Template {
    let store = TestStore::new();
    let mut older = Vec::new();
    let mut daemon = store.start();
    for n in 0..10 {
        store.ctl(&["user", "add", &format!("u{n}")]).expect(0);
    }
    add(&store, 0, size);
    let mut next = size;
    // Until the first log is gone: no empty database leads to the present.
    while store.data.join("mboxlist/log.0000000001").exists() {
        add(&store, next, 2000);
        next += 2000;
        store.ctl(&["checkpoint"]).expect(0);
        assert!(next < size + 100_000);
    }
    let mut snapshots = Vec::new();
    for _ in 0..3 {
        assert_eq!(daemon.stop(), 0);
        older.push((DATABASE.to_owned(), std::fs::read(store.data.join(DATABASE)).unwrap()));
        daemon = store.start();
        let taken = store.json(&["snapshot", "take", "--verify"]);
        let dir = Path::new(taken["path"].as_str().unwrap()).strip_prefix(&store.data).unwrap().to_owned();
        older
            .push((dir.join("mboxlist.redb").display().to_string(), std::fs::read(store.data.join(DATABASE)).unwrap()));
        snapshots.push(dir);
        add(&store, next, 200);
        next += 200;
    }
    store.ctl(&["checkpoint"]).expect(0);
    add(&store, next, 100);
    let expected = mailboxes(&store);
    daemon.kill();
    Template { store, older, snapshots, expected }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, to) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &to);
        } else if kind.is_file() {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Does one thing to a file; says what.
fn spoil(data: &Path, file: &str, older: &[(String, Vec<u8>)], random: &mut Random) -> String {
    let path = data.join(file);
    let Ok(mut bytes) = std::fs::read(&path) else { return format!("{file} is gone already") };
    let len = bytes.len() as u64;
    let at = random.below(len) as usize;
    let what = match random.below(5) {
        0 => {
            bytes[at] ^= 1 << random.below(8);
            format!("bit of byte {at} flipped")
        }
        1 => {
            bytes.truncate(at);
            format!("cut to {at} bytes")
        }
        2 => {
            std::fs::remove_file(&path).unwrap();
            return format!("{file} deleted");
        }
        3 => {
            let end = (at + random.below(64 << 10) as usize).min(bytes.len());
            bytes[at..end].fill(0);
            format!("zeros from {at} to {end}")
        }
        _ => {
            // A text of a snapshot has no older copy; it gets another file's content.
            let known: Vec<&Vec<u8>> = older.iter().filter(|(of, _)| of == file).map(|(_, bytes)| bytes).collect();
            let any = &older[random.below(older.len() as u64) as usize].1;
            bytes.clone_from(if known.is_empty() { any } else { known[random.below(known.len() as u64) as usize] });
            "an older copy".to_owned()
        }
    };
    std::fs::write(&path, bytes).unwrap();
    format!("{file}: {what}")
}

// row B2, row 43, row 44
#[test]
fn no_random_fault_loses_anything_as_long_as_the_log_is_whole() {
    let (faults, seed) = (number("STOREDD_FAULTS", 24), number("STOREDD_FAULTS_SEED", 1));
    let template = template(number("STOREDD_FAULTS_MAILBOXES", 1000));
    let mut random = Random(seed);
    let mut decisions: BTreeMap<String, u64> = BTreeMap::new();
    let mut times: Vec<Duration> = Vec::new();
    for nth in 0..faults {
        let store = TestStore::new();
        copy(&template.store.data, &store.data);
        let snapshot = &template.snapshots[random.below(template.snapshots.len() as u64) as usize];
        let file = ["mboxlist.redb", "mboxlist.redb", "MANIFEST", ".snaptime", ".verified"][random.below(5) as usize];
        let of_snapshot = snapshot.join(file).display().to_string();
        let mut done = Vec::new();
        let which = random.below(3);
        for _ in 0..1 + random.below(2) {
            if which != 1 {
                done.push(spoil(&store.data, DATABASE, &template.older, &mut random));
            }
            if which != 0 {
                done.push(spoil(&store.data, &of_snapshot, &template.older, &mut random));
            }
        }
        #[expect(clippy::disallowed_methods, reason = "how long it took is for people")]
        let begun = Instant::now();
        let daemon = store.start();
        times.push(begun.elapsed());
        let report = store.json(&["recover", "--report"]);
        let context = format!("fault {nth} of seed {seed}, {done:?}: {report}");
        assert_eq!(report["lost"], serde_json::Value::Null, "{context}");
        assert_eq!(store.json(&["status"])["state"], "ready", "{context}");
        assert!(mailboxes(&store) == template.expected, "{context}");
        *decisions.entry(report["decision"].as_str().unwrap().to_owned()).or_default() += 1;
        if nth % 8 == 0 {
            assert_eq!(daemon.stop(), 0, "{context}");
            store.storedd(&["test"]).expect(0);
        }
    }
    times.sort_unstable();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    let line = format!(
        "random faults: {faults} (seed {seed}), {} mailboxes, 0 lost; {decisions:?}; ready after {median:.3?} (median), {longest:.3?} (longest)",
        template.expected.len()
    );
    let _ = writeln!(std::io::stderr(), "{line}");
    assert!(decisions.contains_key("rollback"), "{line}");
}
