//! A disk runs full at any byte: what does not fit is refused in words, reads go on, nothing is half-written, and the
//! store goes on by itself when there is space again. // row 162

use super::driver::{Did, Driver};
use super::random::mix_all;
use super::workload::{Generator, Mix, PARTITIONS, Step};
use super::world;
use super::{enumerate, number};
use crate::harness::total;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use storedd::disk::SimDisk;
use storedd::store::{Options, Phase};

/// Steps on a full disk.
const STEPS: usize = 40;
/// The smallest step in free space: a page.
const PAGE: u64 = 4096;

struct Trial {
    seed: u64,
    disk: &'static str,
    free: u64,
}

impl Trial {
    /// Whether anything was refused.
    fn run(&self) -> Result<bool, String> {
        let machine = world::machine(self.seed);
        let options = Options { overlay_bytes_max: 8 << 20, ..world::options(self.seed) };
        let started = Driver::first_start(machine.clone(), world::env(self.seed, 0), options);
        let mut driver = started.map_err(|e| format!("the first start: {e}"))?;
        let mut generator = Generator::new(mix_all(&[self.seed, 9]), Mix::of(self.seed));
        for _ in 0..10 {
            let step = generator.step(&driver.now.model);
            self.act(&mut driver, &step, "with space")?;
        }
        let full = machine.disk(self.disk);
        full.set_free_bytes(self.free);
        let mut refused = false;
        for _ in 0..STEPS {
            let step = generator.step(&driver.now.model);
            let did = driver.act(&step).map_err(|e| format!("{step:?}: {e}"))?;
            refused |= did.errors().next().is_some();
            if let Some(e) = did.errors().find(|e| !["no_space", "busy"].contains(&e.code())) {
                return Err(format!("{step:?} failed, and not for want of space: {e}"));
            }
            match driver.store().map(|store| store.phase()) {
                Some(Phase::Poisoned) => return Err(format!("{step:?} broke the log")),
                Some(_) => {}
                None => {
                    // A start that wants space says so, and comes up as soon as there is some.
                    full.set_unbounded();
                    driver.start().map_err(|e| format!("the start with space again: {e}"))?;
                    break;
                }
            }
        }
        self.goes_on(&mut driver, &full, &mut generator)?;
        Ok(refused)
    }

    fn goes_on(&self, driver: &mut Driver, full: &SimDisk, generator: &mut Generator) -> Result<(), String> {
        full.set_unbounded();
        // What the threads of a running store do by themselves.
        for step in [Step::PrepareSpares, Step::Checkpoint] {
            self.act(driver, &step, "with space again")?;
        }
        for _ in 0..3 {
            let step = Step::Commit(generator.command(&driver.now.model));
            self.act(driver, &step, "with space again")?;
        }
        for step in [Step::Kill, Step::Checkpoint, Step::Reopen] {
            self.act(driver, &step, "with space again")?;
        }
        Ok(())
    }

    /// Nothing may fail but for an overlay that is full.
    fn act(&self, driver: &mut Driver, step: &Step, when: &str) -> Result<Did, String> {
        let did = driver.act(step).map_err(|e| format!("{when}, {step:?}: {e}"))?;
        if let Some(e) = did.errors().find(|e| !e.to_string().contains("faster than the checkpoint")) {
            return Err(format!("{when}, {step:?} failed: {e}"));
        }
        Ok(did)
    }
}

// row 162
#[test]
fn a_disk_that_runs_full_refuses_and_goes_on_when_there_is_space() {
    let seeds = number("STOREDD_FULL_SEEDS", 1);
    let (mut trials, mut refused) = (0, BTreeMap::new());
    for seed in 1..=seeds {
        // Of the first seed the first partition has two disks.
        for disk in ["log", "db", "data", PARTITIONS[0], "primary-messages"] {
            for free in (0..40).map(|pages| pages * PAGE).chain((10..20).map(|more| more * 4 * PAGE)) {
                let trial = Trial { seed, disk, free };
                let ran = catch_unwind(AssertUnwindSafe(|| trial.run()));
                match ran.unwrap_or_else(|panic| Err(format!("panic: {}", enumerate::text(&*panic)))) {
                    Ok(was_refused) => *refused.entry(disk).or_insert(0) += u64::from(was_refused),
                    Err(what) => panic!("seed {seed}, {free} bytes free on disk {disk}: {what}"),
                }
                trials += 1;
            }
        }
    }
    assert!(refused["log"] > 0 && refused["db"] > 0, "the disks were not small enough: {refused:?}");
    total(&format!("full disks: {trials} sizes, too small were {refused:?}, 0 violations"));
}
