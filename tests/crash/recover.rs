//! What must hold after a crash: the store comes up by itself, shows what may be shown, and goes on.

use super::driver::{self, Driver, Seen};
use super::model::{Tables, difference};
use super::random::{Random, mix_all};
use super::record::Run;
use super::workload::{Generator, Mix, Step};
use super::world;
use std::ops::RangeInclusive;
use std::sync::Arc;
use storedd::disk::SimDisk;
use storedd::env::SimEnv;
use storedd::model::Command;
use storedd::store::Store;

/// Indices into [`Run::seen`].
pub(super) type Legal = RangeInclusive<usize>;

/// What the clock says after a crash.
#[derive(Debug, Clone, Copy)]
pub(super) enum Clock {
    Later,
    /// It was set back to the first start of the store.
    Back,
    /// It was set back to before that.
    FarBack,
}

impl Clock {
    fn of(salt: u64) -> Clock {
        [Clock::Later, Clock::Back, Clock::FarBack][(salt % 3) as usize]
    }

    /// Seconds since the first start.
    pub(super) fn seconds(self) -> i64 {
        match self {
            Clock::Later => 3600,
            Clock::Back => 0,
            Clock::FarBack => -100_000,
        }
    }
}

/// A store that came up.
pub(super) struct Up {
    store: Arc<Store>,
    env: Arc<SimEnv>,
    /// What it shows.
    pub(super) nth: usize,
    /// The start cut a torn rest of the log.
    pub(super) cut: bool,
    /// The start went back to a snapshot.
    pub(super) rolled_back: bool,
}

/// Starts the store on what a crash left. `salt` decides what the clock says meanwhile.
pub(super) fn recover(run: &Run, legal: &Legal, image: &SimDisk, salt: u64) -> Result<Up, String> {
    let env = world::env(salt, Clock::of(salt).seconds());
    let (store, report) =
        world::open(image, &env, &run.options).map_err(|e| format!("the store does not come up: {e}"))?;
    if let Some(lost) = &report.lost {
        return Err(format!("the start says that something is lost: {lost:?}; findings {:?}", report.findings));
    }
    let expected = match report.decision.as_str() {
        "first start" | "clean" | "replay" => true,
        "rollback" => run.rolls_back,
        _ => false,
    };
    if !expected {
        return Err(format!("the start took a crash for damage: {report:?}"));
    }
    let view = store.view();
    let dump = world::dump(&store, &view).map_err(|e| format!("reading after the start: {e}"))?;
    // A limit that is set and taken back looks like one that was never set: the LSN tells which it is.
    let published = store.published_lsn();
    let same = || legal.clone().rev().filter(|nth| run.seen[*nth].dump == dump);
    let Some(nth) = same().find(|nth| run.seen[*nth].lsn <= published) else {
        return match same().next() {
            Some(nth) => Err(format!("I3: the store is at LSN {published}, LSN {} is visible", run.seen[nth].lsn)),
            None => Err(wrong(run, legal, &dump, &Tables::read(&view, &dump.mail)?)),
        };
    };
    driver::check_store(&store)?;
    drop(view);
    Ok(Up { store, env, nth, cut: report.cut_bytes > 0, rolled_back: report.decision == "rollback" })
}

/// Says what is wrong with what a store shows.
fn wrong(run: &Run, legal: &Legal, dump: &world::Dump, tables: &Tables) -> String {
    let (from, to) = (legal.start(), legal.end());
    let what = match run.seen.iter().rposition(|seen| seen.dump == *dump) {
        Some(nth) if nth < *from => format!("{} acknowledged changes are lost", from - nth),
        Some(nth) => format!("{} changes are there that were not asked for yet", nth - to),
        None if from == to => "what is visible never was".to_owned(),
        None => "something unacknowledged is half visible".to_owned(),
    };
    format!("{what}: {}", difference(&run.seen[*from].model.tables, tables))
}

impl Up {
    /// The store, to be driven further.
    pub(super) fn driver(self, run: &Run, image: &SimDisk) -> Driver {
        let now: Seen = run.seen[self.nth].clone();
        let answered = now.lsn;
        let mut driver = Driver::of(image.clone(), self.env, run.options.clone(), self.store, now);
        driver.history = run.history.until(self.nth);
        driver.answered = answered;
        driver
    }

    /// The store goes on: it takes what was `asked` for once more and other changes, writes checkpoints, is killed, stops
    /// in order, starts again, and names no two mailboxes alike.
    pub(super) fn goes_on(self, run: &Run, image: &SimDisk, salt: u64, asked: &[Command]) -> Result<u64, String> {
        let mut driver = self.driver(run, image);
        let mut random = Random::new(mix_all(&[salt, 2]));
        let mut generator = Generator::new(mix_all(&[salt, 3]), Mix::commands(25));
        // Not all callers ask again; what the others had asked for must not come after all.
        let again = 1 + random.below(asked.len());
        let mut steps: Vec<Step> = asked.iter().take(again).cloned().map(Step::Commit).collect();
        if random.once_in(2) {
            steps.push(Step::Kill);
        }
        for _ in 0..1 + random.below(3) {
            steps.push(generator.step(&driver.now.model));
        }
        let rest = [Step::Seal, Step::PrepareSpares, Step::Checkpoint, Step::Kill, Step::Checkpoint];
        steps.push(rest[random.below(5)].clone());
        steps.push(Step::Reopen);
        let mut done = 0;
        for step in &steps {
            let did = driver.act(step).map_err(|e| format!("after the start, {step:?}: {e}"))?;
            if let Some(e) = did.errors().find(|e| e.code() != "busy") {
                return Err(format!("after the start, {step:?} failed: {e}"));
            }
            done += did.seen.len() as u64;
        }
        Ok(done)
    }
}
