//! The store on a simulated disk: crashed at every operation of a workload, in every way that the rules of a disk allow, and
//! again in the start that follows. // row B19
//!
//! # What is looked at
//! A seed gives a workload (`workload`). It is run once, and the machine is kept at each of its operations (`record`); every
//! state that a crash there can leave is started (`enumerate`), and must show everything acknowledged, and of what was
//! being done a prefix of whole commands (`recover`), as an independent model says it (`model`, `driver`).
//!
//! Some of these starts are recorded and crashed at each of their operations. Of the stores that came up some go on: callers
//! ask again for what they got no answer to, others for other things, the store is killed or stopped, and started. What
//! some of them do is recorded, and crashed at each of its operations, in the work and in the starts; most often where the
//! first start cut a torn rest of the log, because there new records are written over the place of old ones.
//!
//! # How to run it
//! ```text
//! cargo test --test store crash                                  the short run, as in the README's test command
//! STOREDD_CRASH_STATES=200000 cargo test --profile crash --test store crash::every     so many states at least
//! STOREDD_CRASH_SEED=7 ...                                       other workloads
//! STOREDD_CRASH_REPLAY=... cargo test --test store crash::replay -- --ignored --nocapture     one state again
//! STOREDD_CRASH_TRACE=1 STOREDD_CRASH_REPLAY=...                  with every step
//! cargo test --features planted-bugs planted                     the test of the test
//! ```

mod deeds;
mod driver;
mod enumerate;
mod faults;
mod full;
mod lies;
mod lives;
mod mail;
mod manual;
mod model;
#[cfg(feature = "planted-bugs")]
mod planted;
mod point;
mod random;
mod rebuilt;
mod record;
mod recover;
mod rollback;
mod schema;
mod sweep;
mod tally;
mod workload;
mod world;

use crate::harness::{say, total};
use enumerate::Enumeration;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use tally::{Depth, Leg, Totals, Violation};

/// Steps of a workload.
const STEPS: usize = 120;
/// States of the short run: some of every workload; the long one goes further, and is optimised.
const STATES: u64 = 4_000;
/// Workloads of a run: at least one of each mix.
const RUNS: u64 = 4;
/// Of a million states of a workload, so many are looked at to learn how many it has, with their second crashes and lives.
const PILOT: u64 = 10_000;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.replace('_', "").parse().ok()).unwrap_or(default)
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Looks at the crashes of one run; with `only`, at one state of it in full.
fn look_at(run: &record::Run, steps: usize, depth: Depth, only: Option<&[Leg]>) -> (Totals, Vec<Violation>) {
    let stop = AtomicBool::new(false);
    let origin = (run.seed, steps);
    Enumeration { run, origin, trail: Vec::new(), only, depth, stop: &stop }.all(threads())
}

// row B19, row 19, row 20, row 21, row 35; I1 to I6
#[test]
#[expect(clippy::disallowed_methods, reason = "how long it took is for people")]
fn every_crash_of_a_run_is_survived() {
    let wanted = number("STOREDD_CRASH_STATES", STATES);
    let first = number("STOREDD_CRASH_SEED", 1);
    let (begun, mut totals) = (Instant::now(), Totals::default());
    let runs = number("STOREDD_CRASH_RUNS", RUNS);
    let looked = |run: &record::Run, share| {
        let depth = Depth { share, ..Depth::of(wanted) };
        let (looked, violations) = look_at(run, STEPS, depth, None);
        match violations.first() {
            Some(violation) => panic!("{looked}\n{violation}"),
            None => looked,
        }
    };
    for seed in first.. {
        let run = record::record(seed, STEPS).unwrap_or_else(|e| panic!("seed {seed}, without a crash: {e}"));
        // Each workload has its share of the states; one that has fewer leaves the rest to those that follow.
        let left = wanted.saturating_sub(totals.all()) / (first + runs).saturating_sub(seed).max(1);
        let share = left * PILOT / looked(&run, PILOT).all().max(1);
        totals += looked(&run, share.clamp(PILOT, 1_000_000));
        if totals.all() >= wanted && totals.runs >= runs {
            break;
        }
    }
    assert!(totals.rolled_back > 0, "no start went back to a snapshot: {totals}");
    let seconds = begun.elapsed().as_secs_f64();
    total(&format!("crash test: seeds {first}..{}, 0 violations, {seconds:.0} s, {totals}", first + totals.runs));
}

/// One state again, as a failure printed it.
#[test]
#[ignore = "a tool, not a check: run by hand with STOREDD_CRASH_REPLAY set to the line that a failure printed"]
fn replay() {
    let text = std::env::var("STOREDD_CRASH_REPLAY").expect("STOREDD_CRASH_REPLAY is not set");
    let parsed = || {
        let mut parts = text.splitn(3, ':');
        let (seed, steps) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some((seed, steps, tally::trail(parts.next()?)?))
    };
    let (seed, steps, trail) = parsed().unwrap_or_else(|| panic!("{text:?} is not SEED:STEPS:CRASH[:CRASH]..."));
    let run = record::record(seed, steps).unwrap();
    let (totals, violations) = look_at(&run, steps, Depth::USUAL, Some(&trail));
    match violations.first() {
        None if totals.all() == trail.len() as u64 => say(&format!("{text}: all is well")),
        None => panic!("{text}: there is no such state"),
        Some(violation) => panic!("{violation}"),
    }
}
