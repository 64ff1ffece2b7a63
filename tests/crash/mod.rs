//! The store on a simulated disk: crashed at every operation of a workload, in every way that the rules of a disk allow, and
//! again in the start that follows. // row B19
//!
//! # What is looked at
//! A seed gives a workload (`workload`). It is run once, and the machine is kept at each of its operations (`record`); every
//! state that a crash there can leave is started (`enumerate`), and must show everything acknowledged, and of what was
//! being done a prefix of whole commands (`recover`), as an independent model says it (`model`, `driver`).
//!
//! # How to run it
//! ```text
//! cargo test --test store crash                                  the short run, as in the README's test command
//! STOREDD_CRASH_STATES=200000 cargo test --test store crash::every     so many states at least
//! STOREDD_CRASH_SEED=7 ...                                       other workloads
//! STOREDD_CRASH_REPLAY=... cargo test --test store crash::replay -- --ignored --nocapture     one crash again
//! cargo test --features planted-bugs planted                     the test of the test
//! ```

mod driver;
mod enumerate;
mod faults;
mod full;
mod lives;
mod model;
#[cfg(feature = "planted-bugs")]
mod planted;
mod random;
mod rebuilt;
mod record;
mod recover;
mod workload;
mod world;

use enumerate::{Crash, Depth, Enumeration, Totals, Violation};
use std::io::Write;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Steps of a workload.
const STEPS: usize = 120;
/// States of the short run.
const STATES: u64 = 30_000;

/// A line that is shown also where a test passes.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.replace('_', "").parse().ok()).unwrap_or(default)
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Looks at the crashes of one run.
fn look_at(run: &record::Run, steps: usize, depth: Depth) -> (Totals, Vec<Violation>) {
    let stop = AtomicBool::new(false);
    Enumeration { run, steps, depth, stop: &stop }.all(threads())
}

// row B19, row 19, row 20, row 21, row 35; I1 to I6
#[test]
#[expect(clippy::disallowed_methods, reason = "how long it took is for people")]
fn every_crash_of_a_run_is_survived() {
    let wanted = number("STOREDD_CRASH_STATES", STATES);
    let first = number("STOREDD_CRASH_SEED", 1);
    let (begun, mut totals) = (Instant::now(), Totals::default());
    for seed in first.. {
        // The more states are wanted, the more starts are crashed again; in a long run all of them.
        let again = (wanted / 5).min(1_000_000);
        let run = record::record(seed, STEPS).unwrap_or_else(|e| panic!("seed {seed}, without a crash: {e}"));
        let (looked, violations) = look_at(&run, STEPS, Depth { again, go_on: 60_000 });
        totals += looked;
        if let Some(violation) = violations.first() {
            panic!("{totals}\n{violation}");
        }
        if totals.states + totals.states_again >= wanted && totals.runs >= number("STOREDD_CRASH_RUNS", 4) {
            break;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    say(&format!("crash test: seeds {first}..{}, {totals}, 0 violations, {seconds:.0} s", first + totals.runs));
}

/// One crash again, as a failure printed it.
#[test]
#[ignore = "replays one crash: STOREDD_CRASH_REPLAY=SEED:STEPS:CRASH[:CRASH]"]
fn replay() {
    let text = std::env::var("STOREDD_CRASH_REPLAY").expect("STOREDD_CRASH_REPLAY is not set");
    let mut parts = text.split(':');
    let mut part = || parts.next().unwrap_or_else(|| panic!("{text:?} is not SEED:STEPS:CRASH[:CRASH]"));
    let (seed, steps) = (part().parse().unwrap(), part().parse().unwrap());
    let crash = |text: &str| {
        let numbers: Vec<u64> = text.split('.').map(|n| n.parse().unwrap()).collect();
        Crash { n: numbers[0], torn: numbers[1], way: numbers[2] as usize }
    };
    let first = crash(part());
    let again = parts.next().map(crash);
    let run = record::record(seed, steps).unwrap();
    let (stop, depth) = (AtomicBool::new(false), Depth { again: 0, go_on: 1_000_000 });
    match (Enumeration { run: &run, steps, depth, stop: &stop }).one(first, again) {
        Ok(()) => say(&format!("{text}: all is well")),
        Err(violation) => panic!("{violation}"),
    }
}
