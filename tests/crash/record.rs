//! One run of a workload, with the machine at each of its operations and what may be visible after a crash there.

use super::driver::{Came, Did, Driver, History, Seen, changes};
use super::random::{Random, mix_all};
use super::recover::Up;
use super::workload::{Generator, Mix, Step};
use super::world;
use storedd::disk::{Moment, SimDisk};
use storedd::model::Command;
use storedd::store::Options;

/// The operations of one step, and what may be seen after a crash at one of them.
#[derive(Debug)]
pub(super) struct Stretch {
    /// For people.
    step: String,
    commands: Vec<Command>,
    rollback: bool,
    /// Number of its last operation.
    last: u64,
    /// Index of what could be seen when it began.
    before: usize,
    /// Number of the operation after which something was answered, and the index of what can be seen since.
    answers: Vec<(u64, usize)>,
}

/// A recorded run.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) seed: u64,
    pub(super) options: Options,
    pub(super) moments: Vec<Moment>,
    /// Everything that could ever be seen, in order.
    pub(super) seen: Vec<Seen>,
    stretches: Vec<Stretch>,
    pub(super) history: History,
    /// A database was damaged in it: starts may go back to a snapshot.
    pub(super) rolls_back: bool,
}

impl Run {
    /// Indices of what may be seen after a crash at this operation: everything answered before it, and any prefix of what
    /// was being done.
    pub(super) fn legal(&self, n: u64) -> std::ops::RangeInclusive<usize> {
        let stretch = &self.stretches[self.stretch(n)];
        let answered = stretch.answers.iter().filter(|(ops, _)| *ops < n).map(|(_, nth)| *nth).max();
        let last = stretch.answers.last().map_or(stretch.before, |(_, nth)| *nth);
        answered.unwrap_or(stretch.before)..=last
    }

    /// Index of the step that does this operation.
    pub(super) fn stretch(&self, n: u64) -> usize {
        self.stretches.partition_point(|stretch| stretch.last < n).min(self.stretches.len() - 1)
    }

    /// True if the step that does this operation has the database damaged before its start.
    pub(super) fn is_rollback(&self, n: u64) -> bool {
        self.stretches[self.stretch(n)].rollback
    }

    /// What the step that does this operation was asked for.
    pub(super) fn asked(&self, n: u64) -> &[Command] {
        &self.stretches[self.stretch(n)].commands
    }

    /// The step that does this operation, for people.
    pub(super) fn step(&self, n: u64) -> &str {
        &self.stretches[self.stretch(n)].step
    }
}

/// Runs a workload from the first start to the last step.
pub(super) fn record(seed: u64, steps: usize) -> Result<Run, String> {
    let (machine, options) = (world::machine(seed), world::options(seed));
    machine.set_recording(true);
    let mut driver = Driver::first_start(machine.clone(), world::env(seed, 0), options)
        .map_err(|e| format!("the first start: {e}"))?;
    let mut run = Run::of(seed, &driver, "the first start");
    let mut generator = Generator::new(seed, Mix::with_rollbacks(seed));
    for nth in 0..steps {
        let step = generator.step(&driver.now.model);
        run.act(&mut driver, &step).map_err(|e| format!("step {nth}, {e}"))?;
    }
    Ok(run.end(driver))
}

/// What a store does that came up after a crash: callers ask once more for what they got no answer to, others for other
/// things. Short records, in the segment that the crash may have torn.
pub(super) fn life(up: Up, before: &Run, image: &SimDisk, salt: u64, asked: &[Command]) -> Result<Run, String> {
    let mut driver = up.driver(before, image);
    let mut run = Run::of(salt, &driver, "the start");
    run.history = driver.history.clone();
    run.rolls_back = before.rolls_back;
    image.set_recording(true);
    let mut random = Random::new(mix_all(&[salt, 9]));
    let mut generator = Generator::new(mix_all(&[salt, 10]), Mix::commands(50));
    let mut steps: Vec<Step> = asked.iter().take(3).cloned().map(Step::Commit).collect();
    steps.push(generator.step(&driver.now.model));
    let rest = [Step::Kill, Step::Reopen, Step::Checkpoint, Step::Seal, Step::PrepareSpares];
    steps.push(rest[random.below(5)].clone());
    steps.push(generator.step(&driver.now.model));
    for step in &steps {
        run.act(&mut driver, step).map_err(|e| format!("after the start, {e}"))?;
    }
    let run = run.end(driver);
    image.set_recording(false);
    Ok(run)
}

impl Run {
    /// A run that begins with what this store shows.
    fn of(seed: u64, driver: &Driver, what: &str) -> Run {
        let (step, last) = (what.to_owned(), driver.machine.ops());
        Run {
            seed,
            options: driver.options.clone(),
            moments: Vec::new(),
            seen: vec![driver.now.clone()],
            stretches: vec![Stretch {
                step,
                commands: Vec::new(),
                rollback: false,
                last,
                before: 0,
                answers: Vec::new(),
            }],
            history: History::default(),
            rolls_back: false,
        }
    }

    fn act(&mut self, driver: &mut Driver, step: &Step) -> Result<(), String> {
        let did = driver.act(step).map_err(|e| format!("{step:?}: {e}"))?;
        self.add(step, did, driver.machine.ops()).map_err(|e| format!("{step:?}: {e}"))
    }

    /// The machine of the driver was recording.
    fn end(mut self, mut driver: Driver) -> Run {
        driver.drop_store();
        self.moments = driver.machine.take_moments();
        // What is found when nothing more is done.
        self.moments.push(driver.machine.moment());
        self
    }

    fn add(&mut self, step: &Step, did: Did, last: u64) -> Result<(), String> {
        // A full overlay is no fault of a disk.
        if let Some(e) = did.errors().find(|e| e.code() != "busy") {
            return Err(format!("failed without a fault: {e}"));
        }
        let before = self.seen.len() - 1;
        let done = did.told.iter().filter(|(came, _)| matches!(came, Came::Done(outcome, _) if changes(outcome)));
        let answers = done.enumerate().map(|(nth, (_, ops))| (*ops, before + 1 + nth)).collect();
        for seen in did.seen {
            self.history.note(&seen.model.tables, self.seen.len())?;
            self.seen.push(seen);
        }
        let rollback = matches!(step, Step::Rollback(_));
        self.rolls_back |= rollback;
        let commands = step.commands().into_iter().cloned().collect();
        let step = format!("{step:?}").chars().take(300).collect();
        self.stretches.push(Stretch { step, commands, rollback, last, before, answers });
        Ok(())
    }
}
