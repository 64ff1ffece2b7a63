//! Each reader of bytes from outside goes through its corpus and the neighbours of that: [`targets`]. The fuzzer itself is `.ci/fuzz`.

#[path = "fuzz/targets.rs"]
mod targets;

use crate::harness::total;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Neighbours of each entry of a corpus.
const NEIGHBOURS: usize = 400;

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), std::fs::read(&file).unwrap())).collect()
}

/// A small generator with a seed of its own; the same neighbours in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n.max(1)
    }
}

/// One of the ways in which bytes go wrong.
fn changed(bytes: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..1 + dice.below(3) {
        let at = dice.below(out.len());
        match dice.below(7) {
            0 if !out.is_empty() => out[at] ^= 1 << dice.below(8),
            1 if !out.is_empty() => out[at] = [0, 1, 0x7f, 0x80, 0xff, b'\n', b'/'][dice.below(7)],
            2 => out.truncate(at),
            3 => out.insert(at, dice.below(256) as u8),
            4 if !out.is_empty() => _ = out.drain(at..(at + 1 + dice.below(8)).min(out.len())),
            5 => out.extend_from_within(at..),
            _ => {
                let from = dice.below(other.len());
                out.splice(at..at, other[from..(from + 16).min(other.len())].iter().copied());
            }
        }
        out.truncate(1 << 16);
    }
    out
}

// row B17, S24: any bytes are an error or what was written, and never a panic: frames, requests, names, log, indexes, archives,
// configuration, messages, sessions
#[test]
fn any_bytes_are_read_or_refused() {
    let mut runs = Vec::new();
    for (name, target) in targets::TARGETS {
        let (entries, mut dice, mut count) = (corpus(name), Dice(42), 0);
        assert!(entries.len() >= 3, "{name}: too little to begin with");
        let mut goes = |bytes: &[u8], what: &str| {
            count += 1;
            if catch_unwind(AssertUnwindSafe(|| target(bytes))).is_err() {
                panic!("{name}: {what}: {:?}", bytes.escape_ascii().to_string());
            }
        };
        for (nth, (file, bytes)) in entries.iter().enumerate() {
            goes(bytes, &file.display().to_string());
            let other = &entries[(nth + 1) % entries.len()].1;
            (0..NEIGHBOURS)
                .for_each(|n| goes(&changed(bytes, other, &mut dice), &format!("{} changed, {n}", file.display())));
        }
        runs.push(format!("{name} {count}"));
    }
    total(&format!("corpora and their neighbours: {}, 0 violations", runs.join(", ")));
}
