//! The disk fails at one operation of a workload: the store says so, acknowledges nothing that is lost, and holds
//! everything acknowledged after a restart.

use super::driver::{Driver, Seen, check_store};
use super::mail;
use super::model::Tables;
use super::random::mix_all;
use super::recover::Clock;
use super::workload::{Generator, Mix, Step};
use super::world;
use super::{number, threads};
use crate::harness::total;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use storedd::disk::{Fault, OpKind, Persist, SimDisk};
use storedd::error::StoreError;
use storedd::store::Options;

/// Steps of a workload.
const STEPS: usize = 26;
/// Of so many calls one fails; STOREDD_FAULT_SHARE sets another number.
const SHARE: u64 = 3;

/// What can happen to an operation of this kind.
fn faults_of(kind: OpKind) -> Vec<Fault> {
    let mut faults = vec![Fault::Eio, Fault::EioForever, Fault::NoSpace, Fault::NoSpaceForever, Fault::Eintr];
    match kind {
        OpKind::Write => faults.push(Fault::ShortWrite),
        OpKind::SyncData | OpKind::SyncTree => faults.push(Fault::SyncDropsData),
        _ => {}
    }
    faults
}

/// An error that tells what is the matter with a disk.
fn is_clear(e: &StoreError) -> bool {
    matches!(
        e,
        StoreError::Io { .. } | StoreError::NoSpace { .. } | StoreError::Poisoned { .. } | StoreError::Busy { .. }
    )
}

/// A run of one workload with one fault.
struct Trial {
    seed: u64,
    steps: usize,
    n: u64,
    fault: Fault,
}

impl Trial {
    fn run(&self) -> Result<(), String> {
        let (machine, options) = (world::machine(self.seed), world::options(self.seed));
        machine.fail_at(self.n, self.fault);
        let driver = self.work(&machine, &options)?;
        let (now, undecided, required) = driver.map_or((None, Vec::new(), 0), |mut driver| {
            driver.drop_store();
            (Some(driver.now), driver.undecided, driver.required)
        });
        let now = now.unwrap_or_else(|| Seen::nothing(&options));
        let may_be = |tables: &Tables| now.model.after_some(&undecided, required, tables);
        machine.heal();
        let after = machine.moment();
        // A power cut, before anybody could look.
        for persist in Persist::all(mix_all(&[self.seed, self.n])) {
            let context = |e: String| format!("after a power cut that left {persist:?}: {e}");
            restarted(&after.image(persist), &options, &may_be).map_err(context)?;
        }
        // A new process on the same machine; what it shows, it shows after a power cut too.
        let mut driver = restarted(&machine, &options, &may_be).map_err(|e| format!("after a restart: {e}"))?;
        let shown = driver.now.clone();
        let after = machine.moment();
        for persist in [Persist::Nothing, Persist::NewestOnly, Persist::RandomTorn(self.n)] {
            let same = |tables: &Tables| shown.model.after_some(&[], 0, tables);
            let context = |e: String| format!("after a restart, then a power cut that left {persist:?}: {e}");
            restarted(&after.image(persist), &options, &same).map_err(context)?;
        }
        let mut generator = Generator::new(mix_all(&[self.seed, self.n]), Mix::of(0));
        for step in [generator.step(&driver.now.model), Step::Checkpoint, Step::Reopen] {
            let did = driver.act(&step).map_err(|e| format!("after a restart, {step:?}: {e}"))?;
            if let Some(e) = did.errors().find(|e| e.code() != "busy") {
                return Err(format!("after a restart, {step:?} failed: {e}"));
            }
        }
        Ok(())
    }

    /// The workload, until its end or until the store takes no more. `None`: there was no start.
    fn work(&self, machine: &SimDisk, options: &Options) -> Result<Option<Driver>, String> {
        let env = world::env(self.seed, 0);
        let mut driver = match Driver::first_start(machine.clone(), env, options.clone()) {
            Ok(driver) => driver,
            Err(e) if is_clear(&e) => return Ok(None),
            Err(e) => return Err(format!("the first start failed without saying why: {e}")),
        };
        let mut generator = Generator::new(self.seed, Mix::of(self.seed));
        for nth in 0..self.steps {
            let step = generator.step(&driver.now.model);
            let did = driver.act(&step).map_err(|e| format!("step {nth}, {step:?}: {e}"))?;
            if let Some(e) = did.errors().find(|e| !is_clear(e)) {
                return Err(format!("step {nth}, {step:?} failed without saying why: {e}"));
            }
            if driver.blind {
                // A partition failed: what was answered is looked at behind the next start.
                break;
            }
            if driver.is_poisoned() {
                self.stays_shut(&mut driver, &mut generator)?;
                break;
            }
            // Without its root nobody would add the partition.
            let no_root = matches!(step, Step::PreparePartition(_)) && !did.failed.is_empty();
            if driver.store().is_none() || no_root {
                break;
            }
        }
        Ok(Some(driver))
    }

    /// A store whose log failed takes nothing more, says why, and shows what it showed.
    fn stays_shut(&self, driver: &mut Driver, generator: &mut Generator) -> Result<(), String> {
        let undecided = driver.undecided.len();
        let command = Step::Commit(generator.command(&driver.now.model));
        for step in [command, Step::Seal, Step::Checkpoint, Step::PrepareSpares] {
            let did = driver.act(&step).map_err(|e| format!("after the log failed, {step:?}: {e}"))?;
            if !did.seen.is_empty() {
                return Err(format!("after the log failed, {step:?} was done"));
            }
        }
        driver.undecided.truncate(undecided);
        Ok(())
    }
}

/// Starts the store on a machine; it must show what may be shown.
fn restarted(
    machine: &SimDisk,
    options: &Options,
    may_be: &dyn Fn(&Tables) -> Result<super::model::Model, String>,
) -> Result<Driver, String> {
    let env = world::env(7, Clock::Later.seconds());
    let (store, report) =
        world::open(machine, &env, options).map_err(|e| format!("the store does not come up: {e}"))?;
    if let Some(lost) = report.lost {
        return Err(format!("something is lost: {lost:?}, findings {:?}", report.findings));
    }
    if !mail::can_be_read(&store) {
        return Err(format!("a partition stays behind: {:?}", store.partitions().behind()));
    }
    let view = store.view();
    let dump = world::dump(&store, &view).map_err(|e| e.to_string())?;
    let model = may_be(&Tables::read(&view, &dump.mail)?)?;
    let now = Seen { dump, model, lsn: store.published_lsn() };
    drop(view);
    check_store(&store)?;
    let answered = now.lsn;
    let mut driver = Driver::of(machine.clone(), env, options.clone(), store, now);
    driver.answered = answered;
    Ok(driver)
}

// row B19, row 20, row 21; I2: every call that can fail does, in every way
#[test]
fn every_operation_fails_once_and_for_good() {
    let (first, seeds) = (number("STOREDD_CRASH_SEED", 1), number("STOREDD_FAULT_SEEDS", 1));
    let share = number("STOREDD_FAULT_SHARE", SHARE).max(1) as usize;
    let mut trials = Vec::new();
    for seed in first..first + seeds {
        let (machine, options) = (world::machine(seed), world::options(seed));
        machine.set_trace(true);
        let trial = Trial { seed, steps: STEPS, n: u64::MAX, fault: Fault::Eio };
        trial.work(&machine, &options).unwrap();
        for (nth, (kind, path)) in machine.op_kinds().into_iter().enumerate().step_by(share) {
            for fault in faults_of(kind) {
                trials.push((Trial { seed, steps: STEPS, n: nth as u64 + 1, fault }, format!("{kind:?} {path}")));
            }
        }
    }
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                while let Some((trial, place)) = trials.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let ran = catch_unwind(AssertUnwindSafe(|| trial.run()));
                    let ran = ran.unwrap_or_else(|panic| Err(format!("panic: {}", super::enumerate::text(&*panic))));
                    if let Err(what) = ran {
                        let Trial { seed, n, fault, .. } = trial;
                        failed
                            .lock()
                            .unwrap()
                            .push(format!("{what}\n  seed {seed}, operation {n}, {place}, {fault:?}"));
                        if number("STOREDD_FAULTS_ALL", 0) == 0 {
                            next.store(trials.len(), Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {} faults:\n{}", failed.len(), trials.len(), failed.join("\n"));
    total(&format!("faults: seeds {first}..{}, {} failing calls, 0 violations", first + seeds, trials.len()));
}
