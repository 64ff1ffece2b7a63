//! The test of the test: each fault that is planted into the store must be caught, or the crash test proves nothing.
//!
//! A planted fault is on for the whole process, so each has a process of its own.

use super::tally::Depth;
use super::{STEPS, enumerate, look_at, record};
use crate::harness::{say, total};
use std::process::Command;
use storedd::planted::{Bug, plant};

/// Which fault the child process plants.
const WHICH: &str = "STOREDD_PLANT";
/// Workloads tried.
const SEEDS: u64 = 8;

#[test]
fn planted_faults_are_caught() {
    let program = std::env::current_exe().unwrap();
    for bug in Bug::ALL.into_iter().chain(Bug::OF_RETURNS) {
        let mut child = Command::new(&program);
        child.args(["crash::planted::one_planted_fault", "--exact", "--ignored", "--nocapture"]);
        let done = child.env(WHICH, format!("{bug:?}")).output().unwrap();
        let text = String::from_utf8_lossy(&done.stderr).into_owned() + &String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "{bug:?} was not caught:\n{text}");
        let caught =
            text.split_once("caught: ").map_or("", |(_, rest)| rest).split("\ntest ").next().unwrap_or_default();
        assert!(!caught.is_empty(), "{bug:?}: {text}");
        total(&format!("planted {bug:?}, caught: {}", caught.trim_end()));
    }
}

#[test]
#[ignore = "a planted fault is on for its whole process: planted_faults_are_caught runs it, once for each"]
fn one_planted_fault() {
    let which = std::env::var(WHICH).unwrap();
    let bug = Bug::ALL.into_iter().chain(Bug::OF_RETURNS).find(|bug| format!("{bug:?}") == which).unwrap();
    plant(Some(bug));
    // Panics of the store are violations, not news.
    std::panic::set_hook(Box::new(|_| {}));
    // What only a person does, no start shows.
    if [Bug::SetAsideBeforeFork, Bug::ResetBeforeCheckpoint, Bug::GivenUpNotNoted].contains(&bug) {
        return match std::panic::catch_unwind(|| super::manual::look_at(1)) {
            Ok(Err(what)) => say(&format!("caught: {what}")),
            Err(panic) => say(&format!("caught: panic {}", enumerate::text(&*panic))),
            Ok(Ok(_)) => panic!("nothing is wrong with it"),
        };
    }
    let depth = Depth { again: 30_000, go_on: 100_000, lives: 1000, lives_if_cut: 50_000, ..Depth::USUAL };
    let mut runs = Vec::new();
    for seed in 1..=SEEDS {
        match std::panic::catch_unwind(|| record::record(seed, STEPS)) {
            Ok(Ok(run)) => runs.push(run),
            Ok(Err(what)) => return say(&format!("caught: {what}, without a crash, seed {seed}")),
            Err(panic) => return say(&format!("caught: panic {}, seed {seed}", enumerate::text(&*panic))),
        }
    }
    for run in runs {
        let (totals, violations) = look_at(&run, STEPS, depth, None);
        if let Some(violation) = violations.first() {
            return say(&format!("caught: {violation}\n  after {totals}"));
        }
    }
    drop(std::panic::take_hook());
    panic!("{SEEDS} workloads show nothing");
}
