//! Single flipped bits in every kind of file of a store: all are detected or lie where nothing is kept, none is shown, and what
//! something else still proves is put back. // row B9
//!
//! ```text
//! STOREDD_FLIPS=1000 cargo test --test store bits -- --nocapture     so many
//! STOREDD_FLIPS_SEED=7 ...                                            others
//! ```

use crate::check::{filled, named};
use crate::harness::{Daemon, TestStore, total};
use proto::{Check, Reconstruct, Reply, Request};
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAILBOXES: [&str; 4] = ["user/ann/INBOX", "user/ann/Work", "user/joe/INBOX", "user/joe/Work"];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.replace('_', "").parse().ok()).unwrap_or(default)
}

/// Numbers from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from(z ^ (z >> 31)).unwrap_or(0) % most.max(1)
    }
}

/// What became of flips.
#[derive(Default)]
struct Tally {
    flips: u64,
    /// It was made good without a copy of ours.
    healed: u64,
    /// It was named, and nothing had the bytes.
    listed: u64,
    /// Nobody ever reads it.
    unused: u64,
}

type Table = BTreeMap<&'static str, Tally>;

/// What clients see: each mailbox's list, each message's bytes; `None`: an error.
type Seen = BTreeMap<String, Option<Vec<u8>>>;

fn seen(daemon: &Daemon) -> Seen {
    let mut client = daemon.client();
    let mut seen = Seen::new();
    for name in MAILBOXES.map(str::to_owned) {
        for expunged in [false, true] {
            let list = client.call(&Request::MessageList { name: name.clone(), expunged });
            let list = match list {
                Ok(Reply::Messages(list)) => list,
                _ => {
                    seen.insert(format!("{name} {expunged}"), None);
                    continue;
                }
            };
            for message in &list {
                let bytes = match client.call(&Request::MessageBytes { name: name.clone(), uid: message.uid }) {
                    Ok(Reply::MessageBytes(bytes)) => Some(bytes),
                    _ => None,
                };
                seen.insert(format!("{name} {}", message.uid), bytes);
            }
            seen.insert(format!("{name} {expunged}"), Some(format!("{list:?}").into_bytes()));
        }
    }
    seen
}

/// Nothing is shown that was not there before.
fn judge(before: &Seen, now: &Seen, what: &str) {
    for (of, shown) in now {
        if let Some(shown) = shown {
            assert_eq!(Some(shown), before[of].as_ref(), "{what}: {of} is shown otherwise than it was");
        }
    }
    for (of, _) in before.iter().filter(|(of, _)| !now.contains_key(*of)) {
        let mailbox = of.rsplit_once(' ').unwrap().0;
        let refused = [false, true].iter().any(|e| now.get(&format!("{mailbox} {e}")) == Some(&None));
        assert!(refused, "{what}: {of} is not shown, without an error");
    }
}

fn flip(file: &Path, at: usize, bit: usize) -> Vec<u8> {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[at] ^= 1 << bit;
    let open = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    open.write_all_at(&bytes[at..=at], at as u64).unwrap();
    bytes
}

fn findings(daemon: &Daemon) -> Vec<proto::CheckFinding> {
    match daemon.client().call(&Request::Check(Check { deep: true, ..Check::default() })) {
        Ok(Reply::Checked(checked)) => checked.findings,
        other => panic!("{other:?}"),
    }
}

/// What the log still has of the messages, and where they lie.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Log,
    /// It has forgotten them.
    OnlyFiles,
    /// And in files on a disk of their own.
    LogAndApart,
}

/// In partitions, while the daemon runs.
fn online(flips: u64, random: &mut Random, kept: Kept, table: &mut Table) {
    let mut store = TestStore::new();
    let messages = store.beside("messages");
    let daemon = if kept == Kept::LogAndApart {
        store.small_logs = false;
        let config = format!("[log]\nsegment_size = \"1MiB\"\n[partition.primary]\nmessage_path = {messages:?}\n");
        std::fs::write(store.beside("apart.toml"), config).unwrap();
        store.start_with(&["--config", store.beside("apart.toml").to_str().unwrap()])
    } else {
        store.start()
    };
    filled(&store);
    let has_log = kept != Kept::OnlyFiles;
    if !has_log {
        crate::check::outgrow_log(&store);
    }
    let partition = store.data.join("partition/primary");
    let (of_messages, name) = match kept {
        Kept::LogAndApart => (&messages, "message on a disk of its own"),
        _ => (&partition, "message"),
    };
    let before = seen(&daemon);
    assert!(before.len() == 24 && before.values().all(Option::is_some), "{}", before.len());
    for _ in 0..flips {
        let kinds =
            [(name, of_messages, ".msg"), ("index", &partition, "store.idx"), ("manifest", &partition, "manifest")];
        let (kind, root, end) = kinds[random.below(3)];
        let files: Vec<PathBuf> =
            named(root, end).into_iter().filter(|path| !path.to_string_lossy().contains("=bulk")).collect();
        let file = &files[random.below(files.len())];
        let good = std::fs::read(file).unwrap();
        let (at, bit) = (random.below(good.len()), random.below(8));
        let bad = flip(file, at, bit);
        let what = format!("{kind} {} byte {at} bit {bit}", file.display());
        judge(&before, &seen(&daemon), &what);
        let found = findings(&daemon);
        let is_named = found.iter().any(|f| f.r#where == file.display().to_string());
        assert!(is_named || std::fs::read(file).unwrap() != bad, "{what}: not detected: {found:?}");
        let repair = Reconstruct { index: true, ..Reconstruct::default() };
        drop(daemon.client().call(&Request::Reconstruct(repair)));
        let tally = table.entry(kind).or_default();
        tally.flips += 1;
        if findings(&daemon).is_empty() {
            tally.healed += 1;
        } else {
            assert!(kind == name && !has_log, "{what}: its bytes are in the log: {:?}", findings(&daemon));
            tally.listed += 1;
            println!("listed: {what}");
            std::fs::write(file, &good).unwrap();
        }
        assert_eq!(seen(&daemon), before, "{what}: afterwards");
    }
    drop(daemon);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else if path.is_file() {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// In the log and in the database, between a stop and a start.
fn offline(flips: u64, random: &mut Random, table: &mut Table) {
    let store = TestStore::new();
    let daemon = store.start();
    filled(&store);
    // Something that only the log has.
    store.ctl(&["message", "flags", MAILBOXES[0], "1", "--add", "\\Answered"]).expect(0);
    let before = seen(&daemon);
    daemon.kill();
    let kept = store.beside("kept");
    copy(&store.data, &kept);
    for _ in 0..flips {
        let kind = ["log", "database"][random.below(2)];
        let name = if kind == "log" { "mboxlist/log.0000000001" } else { "mboxlist/mboxlist.redb" };
        let file = store.data.join(name);
        let bytes = std::fs::read(&file).unwrap();
        // Most of both files are zeros that nothing has been written to yet.
        let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        let (at, bit) = (used[random.below(used.len())], random.below(8));
        flip(&file, at, bit);
        let what = format!("{kind} byte {at} bit {bit}");
        let mut daemon = store.spawn(&[]);
        daemon.wait_ready();
        let report = store.json(&["recover", "--report"]);
        let now = seen(&daemon);
        let lost = report["lost"] != serde_json::Value::Null || report["possible_loss"] == true;
        let found = findings(&daemon);
        if !lost {
            judge(&before, &now, &what);
        }
        let tally = table.entry(kind).or_default();
        tally.flips += 1;
        let is_told = lost || !found.is_empty() || report["decision"] != "replay" || report["cut_bytes"] != 0;
        match (now == before, is_told) {
            (true, false) => tally.unused += 1,
            (true, true) => tally.healed += 1,
            (false, told) => {
                assert!(told, "{what}: {report}");
                tally.listed += 1;
                println!("listed: {what}: {}", report["lost"]);
            }
        }
        daemon.kill();
        std::fs::remove_dir_all(&store.data).unwrap();
        copy(&kept, &store.data);
    }
}

// row B9: 1,000 single-bit flips, with the number in the environment
#[test]
fn a_flipped_bit_is_detected_and_never_shown() {
    let (flips, seed) = (number("STOREDD_FLIPS", 30), number("STOREDD_FLIPS_SEED", 1));
    println!("STOREDD_FLIPS={flips} STOREDD_FLIPS_SEED={seed}");
    let (mut random, mut table) = (Random(seed), Table::new());
    online(flips / 5, &mut random, Kept::Log, &mut table);
    online(flips * 2 / 5 - flips / 5, &mut random, Kept::LogAndApart, &mut table);
    online(flips / 5, &mut random, Kept::OnlyFiles, &mut table);
    offline(flips - flips * 2 / 5 - flips / 5, &mut random, &mut table);
    for (kind, t) in &table {
        let (flips, healed, listed, unused) = (t.flips, t.healed, t.listed, t.unused);
        total(&format!(
            "flipped bits, {kind}: {flips}, {healed} healed, {listed} told, {unused} in unused bytes, 0 served"
        ));
        assert!(t.unused == 0 || kind == &"database" || kind == &"log", "{kind}");
    }
    assert_eq!(table.values().map(|t| t.flips).sum::<u64>(), flips);
}
