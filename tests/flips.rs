//! One flipped bit in every region of every kind of file: what a start and `recover` make of it. Through the built programs; the
//! table is in `docs/damage-matrix.md`, beside that of [`crate::matrix`].

use crate::harness::TestStore;
use crate::matrix::{Came, ENTRIES, again, change, database, documented, killed, last_log, log, start};
use std::fmt::Write as _;
use std::path::PathBuf;

/// A region of a file in which one bit is flipped: offset and mask.
struct Region {
    name: &'static str,
    file: fn(&TestStore) -> PathBuf,
    at: fn(&[u8]) -> Vec<usize>,
}

fn snapshot(store: &TestStore, file: &str) -> PathBuf {
    let dir = std::fs::read_dir(store.data.join("dbdata/snapshots")).unwrap().next().unwrap().unwrap();
    dir.path().join(file)
}

/// Offsets spread over the bytes that are not zero.
fn spread(bytes: &[u8], count: usize) -> Vec<usize> {
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    (0..count).map(|n| used[(used.len() - 1) * n / count.max(1)]).collect()
}

/// Offset of the last record's head: the magic of a record, and behind its record only zeros.
fn last_record(bytes: &[u8]) -> usize {
    let end = bytes.iter().rposition(|b| *b != 0).unwrap();
    (4096..end).rev().find(|at| bytes[*at..].starts_with(&[0xd5, 0xf1])).unwrap()
}

const REGIONS: [Region; 12] = [
    Region {
        name: "log: header page",
        file: |store| log(store, last_log(store)),
        // Magic, version, checksum of the record before, store, epoch, number, previous, LSNs, length, time, padding, CRC.
        at: |_| vec![0, 8, 12, 16, 32, 40, 48, 56, 64, 72, 80, 2000, 4092],
    },
    Region {
        name: "log: head of the first record",
        file: |store| log(store, last_log(store)),
        at: |_| [0, 2, 3, 6, 14, 18, 26, 30, 34].map(|at| 4096 + at).to_vec(),
    },
    Region {
        name: "log: head of the last record",
        file: |store| log(store, last_log(store)),
        at: |bytes| [0, 2, 3, 6, 14, 18, 26, 30, 34].map(|at| last_record(bytes) + at).to_vec(),
    },
    Region {
        name: "log: payloads",
        file: |store| log(store, last_log(store)),
        at: |bytes| spread(&bytes[4096..], 8).iter().map(|at| at + 4096).collect(),
    },
    Region {
        name: "log: zeros behind the last record",
        file: |store| log(store, last_log(store)),
        at: |bytes| vec![last_record(bytes) + 200, bytes.len() - 1],
    },
    Region { name: "log before the checkpoint", file: |store| log(store, 1), at: |bytes| spread(bytes, 6) },
    Region { name: "database: pages", file: database, at: |bytes| spread(bytes, 16) },
    Region {
        name: "CONTROL: both slots",
        file: |store| store.data.join("CONTROL"),
        at: |_| [0, 8, 12, 16, 24, 40, 48, 56, 64, 72, 80, 88, 4092].iter().flat_map(|at| [*at, at + 4096]).collect(),
    },
    Region { name: "STORE", file: |store| store.data.join("STORE"), at: |_| vec![0, 8, 12, 28, 40, 60] },
    Region { name: "snapshot: MANIFEST", file: |store| snapshot(store, "MANIFEST"), at: |bytes| spread(bytes, 6) },
    Region { name: "snapshot: database", file: |store| snapshot(store, "mboxlist.redb"), at: |bytes| spread(bytes, 4) },
    Region { name: "snapshot: .verified", file: |store| snapshot(store, ".verified"), at: |bytes| spread(bytes, 3) },
];

// row 38: one flipped bit, anywhere: no panic, no hang, nothing lost without a word
#[test]
fn one_flipped_bit_in_every_region() {
    let (template, _) = killed();
    let mut table = String::from(
        "| region | flips | start: nothing lost | loss stated | refused | recover: nothing lost | damage named | refused |\n|---|---|---|---|---|---|---|---|\n",
    );
    for region in &REGIONS {
        let offsets = (region.at)(&std::fs::read((region.file)(&template)).unwrap());
        let (mut starts, mut recovers) = ([0; 3], [0; 3]);
        for (nth, at) in offsets.iter().enumerate() {
            let context = format!("{}, byte {at}", region.name);
            let flipped = || {
                let store = again(&template, true);
                change(&(region.file)(&store), |bytes| bytes[*at] ^= 1 << (nth % 8));
                store
            };
            let store = flipped();
            match start(&store) {
                Came::Up { entries, lost: false, .. } => {
                    assert_eq!(entries, ENTRIES, "{context}: lost in silence");
                    starts[0] += 1;
                }
                Came::Up { .. } => starts[1] += 1,
                Came::Refused(status, said) => {
                    assert!([2, 65].contains(&status), "{context}: {status}: {said}");
                    starts[2] += 1;
                }
            }
            let store = flipped();
            let before = store.tree();
            let run = store.storedd(&["recover"]);
            match run.status {
                0 | 1 => {
                    let Came::Up { entries, .. } = start(&store) else { panic!("{context}: no start after {run:?}") };
                    assert_eq!(entries, ENTRIES, "{context}: {run:?}");
                    recovers[run.status as usize] += 1;
                }
                2 | 65 => {
                    let after: Vec<_> =
                        store.tree().into_iter().filter(|(name, _)| name != "failed-recovery").collect();
                    assert!(after == before, "{context}: a refusal changed something");
                    let name = (region.file)(&store).file_name().unwrap().to_string_lossy().into_owned();
                    assert!(run.err.contains(&name), "{context}: the file is not named: {run:?}");
                    recovers[2] += 1;
                }
                _ => panic!("{context}: {run:?}"),
            }
        }
        let mut counts: Vec<String> = [starts, recovers].concat().iter().map(usize::to_string).collect();
        if region.name == "database: pages" {
            // Which pages are in use differs from run to run.
            assert_eq!(recovers[0] + recovers[2], offsets.len(), "{counts:?}");
            (counts[3], counts[5]) = ("those in unused pages".to_owned(), "the others".to_owned());
        }
        let counts = counts.join(" | ");
        writeln!(table, "| {} | {} | {counts} |", region.name, offsets.len()).unwrap();
    }
    eprintln!("{table}");
    documented("flips", &table);
}
