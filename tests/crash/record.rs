//! One run of a workload, with the machine at each of its operations and what may be visible after a crash there.

use super::driver::{Came, Did, Driver, History, Seen, changes};
use super::workload::{Generator, Mix, Step};
use super::world;
use storedd::disk::Moment;
use storedd::store::Options;

/// The operations of one step, and what may be seen after a crash at one of them.
#[derive(Debug)]
pub(super) struct Stretch {
    /// For people.
    pub(super) step: String,
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

    /// The step that does this operation, for people.
    pub(super) fn step(&self, n: u64) -> &str {
        &self.stretches[self.stretch(n)].step
    }
}

/// Runs a workload from the first start to the last step.
pub(super) fn record(seed: u64, steps: usize) -> Result<Run, String> {
    let (machine, options) = (world::machine(), world::options(seed));
    machine.set_recording(true);
    let mut driver = Driver::first_start(machine.clone(), world::env(seed, 0), options.clone())
        .map_err(|e| format!("the first start: {e}"))?;
    let mut run = Run {
        seed,
        options,
        moments: Vec::new(),
        seen: vec![driver.now.clone()],
        stretches: vec![Stretch {
            step: "the first start".to_owned(),
            last: machine.ops(),
            before: 0,
            answers: vec![],
        }],
        history: History::default(),
    };
    let mut generator = Generator::new(seed, Mix::of(seed));
    for nth in 0..steps {
        let step = generator.step(&driver.now.model);
        let did = driver.act(&step).map_err(|e| format!("step {nth}, {step:?}: {e}"))?;
        run.add(&step, did, machine.ops()).map_err(|e| format!("step {nth}, {step:?}: {e}"))?;
    }
    driver.drop_store();
    run.moments = machine.take_moments();
    // What is found when nothing more is done.
    run.moments.push(machine.moment());
    Ok(run)
}

impl Run {
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
        let step = format!("{step:?}");
        self.stretches.push(Stretch { step: step.chars().take(300).collect(), last, before, answers });
        Ok(())
    }
}
