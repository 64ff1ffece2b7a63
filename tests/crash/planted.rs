//! The test of the tests: each fault that is planted into the store must be caught, or they prove nothing.
//!
//! `storedd::planted` says which test must catch which fault; each runs in a process of its own, with the one fault in it.

use super::tally::Depth;
use super::{STEPS, enumerate, look_at, record};
use storedd::planted::{Bug, Rig, hunt};

/// Workloads tried.
const SEEDS: u64 = 8;

#[test]
fn planted_faults_are_caught() {
    hunt::all(|rig| match rig {
        Rig::Suite(test) => Some(test),
        Rig::Library(_) => None,
    });
}

#[test]
#[ignore = "it fails if a fault is planted: planted_faults_are_caught runs it, once for each"]
fn workloads_show_something() {
    let depth = Depth { again: 30_000, go_on: 100_000, lives: 1000, lives_if_cut: 50_000, ..Depth::USUAL };
    let mut runs = Vec::new();
    for seed in 1..=SEEDS {
        match std::panic::catch_unwind(|| record::record(seed, STEPS)) {
            Ok(Ok(run)) => runs.push(run),
            Ok(Err(what)) => panic!("{what}, without a crash, seed {seed}"),
            Err(panic) => panic!("panic {}, seed {seed}", enumerate::text(&*panic)),
        }
    }
    for run in runs {
        let (totals, violations) = look_at(&run, STEPS, depth, None);
        if let Some(violation) = violations.first() {
            panic!("{violation}\n  after {totals}");
        }
    }
}

// A fault that is planted nowhere is caught by nobody; one that stands twice is two.
#[test]
fn every_planted_fault_stands_in_the_store_once() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("storedd/src");
    let (mut sources, mut dirs) = (String::new(), vec![root.clone()]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                _ if path.is_dir() => dirs.push(path),
                Some(end) if end == "rs" && path != root.join("planted.rs") => {
                    sources += &std::fs::read_to_string(&path).unwrap();
                }
                _ => {}
            }
        }
    }
    for bug in Bug::ALL {
        let name = format!("Bug::{bug:?}");
        let found = sources.match_indices(&name).filter(|(at, _)| {
            let behind = sources[at + name.len()..].chars().next();
            behind.is_none_or(|c| !c.is_alphanumeric())
        });
        assert!(found.count() > 0, "{bug:?} is planted nowhere");
        assert!(!bug.rigs().is_empty(), "{bug:?} stands in no list: no test must catch it");
    }
}
