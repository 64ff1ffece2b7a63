//! Every crash of a recorded run, and every crash of the starts after them.

use super::random::mix_all;
use super::record::Run;
use super::recover::{Legal, recover};
use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use storedd::disk::{Moment, OpKind, Persist, SimDisk};

/// What the next process finds: the machine as it was when the last one was killed, or what a power cut left.
const WAYS: usize = 11;

/// A crash: at which operation, how much of it was done, and what survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crash {
    pub(super) n: u64,
    /// Bytes of the write that were done; 0: none.
    pub(super) torn: u64,
    pub(super) way: usize,
}

impl Crash {
    fn salt(self, seed: u64) -> u64 {
        mix_all(&[seed, self.n, self.torn, self.way as u64])
    }

    fn persist(self, seed: u64) -> Option<Persist> {
        let salt = self.salt(seed);
        match self.way {
            0 => None,
            way @ 1..9 => Some(Persist::all(salt)[way - 1]),
            _ => Some(Persist::RandomTorn(salt)),
        }
    }

    /// The machine that is found afterwards. `moment` is that of `torn`.
    fn image(self, seed: u64, moment: &Moment) -> SimDisk {
        match self.persist(seed) {
            None => moment.killed(),
            Some(persist) => moment.image(persist),
        }
    }
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.n, self.torn, self.way)
    }
}

/// How much is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Depth {
    /// Of a million states, so many are crashed again at each operation of their start.
    pub(super) again: u64,
    /// Of a million states, so many go on with a workload of their own.
    pub(super) go_on: u64,
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Runs, each with a seed of its own.
    pub(super) runs: u64,
    /// Operations of the workloads.
    pub(super) operations: u64,
    /// Crashes: operation, part of it done, policy.
    pub(super) crashes: u64,
    /// Of them, those that left the machine in a state of its own; each was started.
    pub(super) states: u64,
    /// Operations of starts at which the machine was crashed again.
    pub(super) operations_again: u64,
    /// Second crashes.
    pub(super) crashes_again: u64,
    /// Their states; each was started.
    pub(super) states_again: u64,
    /// States that went on with a workload.
    pub(super) went_on: u64,
    /// Changes they took.
    pub(super) changes: u64,
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, o: Totals) {
        self.runs += o.runs;
        self.operations += o.operations;
        self.crashes += o.crashes;
        self.states += o.states;
        self.operations_again += o.operations_again;
        self.crashes_again += o.crashes_again;
        self.states_again += o.states_again;
        self.went_on += o.went_on;
        self.changes += o.changes;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} runs, {} operations, {} crashes -> {} states; {} operations of starts, {} second crashes -> {} states; \
             {} states recovered in all, {} of them went on with {} changes",
            self.runs,
            self.operations,
            self.crashes,
            self.states,
            self.operations_again,
            self.crashes_again,
            self.states_again,
            self.states + self.states_again,
            self.went_on,
            self.changes
        )
    }
}

/// A crash after which something did not hold.
#[derive(Debug, Clone)]
pub(super) struct Violation {
    pub(super) seed: u64,
    pub(super) steps: usize,
    pub(super) crash: Crash,
    pub(super) again: Option<Crash>,
    /// The operation, and what was being done.
    pub(super) place: String,
    pub(super) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { seed, steps, crash, again, place, what } = self;
        writeln!(f, "{what}")?;
        writeln!(f, "  seed {seed}, {place}")?;
        writeln!(f, "  operation {}, {} bytes of it done, policy {:?}", crash.n, crash.torn, crash.persist(*seed))?;
        let mut replay = format!("{seed}:{steps}:{crash}");
        if let Some(again) = again {
            let persist = again.persist(crash.salt(*seed));
            writeln!(
                f,
                "  then operation {} of the start, {} bytes of it done, policy {persist:?}",
                again.n, again.torn
            )?;
            replay = format!("{replay}:{again}");
        }
        write!(
            f,
            "  replay: STOREDD_CRASH_REPLAY={replay} cargo test --test store crash::replay -- --nocapture --ignored"
        )
    }
}

/// Images that were looked at already, with what was legal then.
#[derive(Default)]
struct Known(HashMap<u64, Vec<(SimDisk, Legal)>>);

impl Known {
    /// True if this is the first of its kind.
    fn is_new(&mut self, image: &SimDisk, legal: &Legal) -> bool {
        let alike = self.0.entry(image.sketch()).or_default();
        if alike.iter().any(|(other, theirs)| theirs == legal && other.is_same(image)) {
            return false;
        }
        // A copy: the image itself is about to be started.
        alike.push((image.moment().killed(), legal.clone()));
        true
    }
}

/// The ways in which a crash at this moment can differ. All are counted.
fn ways(moment: &Moment, crashes: &mut u64) -> std::ops::Range<usize> {
    *crashes += WAYS as u64;
    0..if moment.unsynced() == 0 { 1 } else { WAYS }
}

/// Bytes of a write after which it may have been cut.
fn cuts(moment: &Moment, salt: u64, most: usize) -> Vec<u64> {
    let len = moment.write_bytes();
    let mut cuts = vec![0];
    if moment.kind != Some(OpKind::Write) || len < 2 {
        return cuts;
    }
    let any = 1 + mix_all(&[salt, 1]) % (len - 1);
    let sector = (1 + mix_all(&[salt, 2]) % len.div_ceil(512)) * 512;
    // In the head of a record, behind it, at a sector, nearly all, anywhere.
    let all = [any, sector, len - 1, 17, 38, 1];
    cuts.extend(all.into_iter().filter(|cut| *cut < len).take(most));
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

fn place(moment: &Moment) -> String {
    match moment.kind {
        Some(kind) => format!("{kind:?} {}", moment.path),
        None => "when all was done".to_owned(),
    }
}

/// A look at the crashes of one run.
pub(super) struct Enumeration<'a> {
    pub(super) run: &'a Run,
    pub(super) steps: usize,
    pub(super) depth: Depth,
    pub(super) stop: &'a AtomicBool,
}

impl Enumeration<'_> {
    /// All of it, on so many threads. Ends at the first violation.
    pub(super) fn all(&self, threads: usize) -> (Totals, Vec<Violation>) {
        let moments = &self.run.moments;
        // The moments of one step together, so that equal images are looked at once.
        let mut chunks: Vec<&[Moment]> =
            moments.chunk_by(|a, b| self.run.stretch(a.n) == self.run.stretch(b.n)).collect();
        chunks.sort_by_key(|chunk| std::cmp::Reverse(chunk.len()));
        let (next, results) = (AtomicUsize::new(0), Mutex::new((Totals::default(), Vec::new())));
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some(chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let mut totals = Totals::default();
                        let violation = self.chunk(chunk, &mut totals).err();
                        let mut results = results.lock().unwrap();
                        results.0 += totals;
                        if let Some(violation) = violation {
                            self.stop.store(true, Ordering::Relaxed);
                            results.1.push(*violation);
                        }
                    }
                });
            }
        });
        let (mut totals, mut violations) = results.into_inner().unwrap();
        totals.runs = 1;
        totals.operations = moments.len() as u64 - 1;
        violations.sort_by_key(|v: &Violation| v.crash.n);
        (totals, violations)
    }

    fn chunk(&self, chunk: &[Moment], totals: &mut Totals) -> Result<(), Box<Violation>> {
        let mut known = Known::default();
        for moment in chunk {
            for torn in cuts(moment, mix_all(&[self.run.seed, moment.n]), 4) {
                let cut = if torn == 0 { None } else { Some(moment.torn(torn)) };
                for way in ways(cut.as_ref().unwrap_or(moment), &mut totals.crashes) {
                    if self.stop.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                    let crash = Crash { n: moment.n, torn, way };
                    self.crash(crash, cut.as_ref().unwrap_or(moment), &mut known, totals)?;
                }
            }
        }
        Ok(())
    }

    fn crash(
        &self,
        crash: Crash,
        moment: &Moment,
        known: &mut Known,
        totals: &mut Totals,
    ) -> Result<(), Box<Violation>> {
        let legal = self.run.legal(crash.n);
        let image = crash.image(self.run.seed, moment);
        if !known.is_new(&image, &legal) {
            return Ok(());
        }
        totals.states += 1;
        let salt = crash.salt(self.run.seed);
        let wanted = |of_million: u64, what: u64| mix_all(&[salt, what]) % 1_000_000 < of_million;
        let (again, go_on) = (wanted(self.depth.again, 5), wanted(self.depth.go_on, 6));
        let fail = |what: String| self.violation(crash, None, place(moment), what);
        if !again {
            return self.look(&legal, &image, salt, go_on, totals).map(drop).map_err(fail);
        }
        let before = image.moment().killed();
        image.set_recording(true);
        let nth = self.look(&legal, &image, salt, false, totals).map_err(fail)?;
        let mut starts = image.take_moments();
        image.set_recording(false);
        starts.push(image.moment());
        self.again(crash, &legal, nth, &before, &starts, totals)
    }

    /// Crashes of the start that followed a crash. What it had shown when it was done must be shown again.
    fn again(
        &self,
        first: Crash,
        legal: &Legal,
        nth: usize,
        before: &SimDisk,
        starts: &[Moment],
        totals: &mut Totals,
    ) -> Result<(), Box<Violation>> {
        let salt = first.salt(self.run.seed);
        let mut known = Known::default();
        known.is_new(before, legal);
        totals.operations_again += starts.len() as u64 - 1;
        for moment in starts {
            let legal = if moment.kind.is_some() { legal.clone() } else { nth..=nth };
            for torn in cuts(moment, mix_all(&[salt, moment.n]), 2) {
                let cut = if torn == 0 { None } else { Some(moment.torn(torn)) };
                for way in ways(cut.as_ref().unwrap_or(moment), &mut totals.crashes_again) {
                    let crash = Crash { n: moment.n, torn, way };
                    let image = crash.image(salt, cut.as_ref().unwrap_or(moment));
                    if !known.is_new(&image, &legal) {
                        continue;
                    }
                    totals.states_again += 1;
                    let salt = crash.salt(salt);
                    let go_on = mix_all(&[salt, 7]) % 1_000_000 < self.depth.go_on;
                    self.look(&legal, &image, salt, go_on, totals)
                        .map_err(|what| self.violation(first, Some(crash), place(moment), what))?;
                }
            }
        }
        Ok(())
    }

    /// Starts the store; a panic is a violation too.
    fn look(
        &self,
        legal: &Legal,
        image: &SimDisk,
        salt: u64,
        go_on: bool,
        totals: &mut Totals,
    ) -> Result<usize, String> {
        let looked = catch_unwind(AssertUnwindSafe(|| {
            let up = recover(self.run, legal, image, salt)?;
            let nth = up.nth;
            if go_on {
                totals.went_on += 1;
                totals.changes += up.goes_on(self.run, image, salt)?;
            }
            Ok(nth)
        }));
        looked.unwrap_or_else(|panic| Err(format!("panic: {}", text(&*panic))))
    }

    fn violation(&self, crash: Crash, again: Option<Crash>, place: String, what: String) -> Box<Violation> {
        let place = format!("at {place}, in step {}", self.run.step(crash.n));
        Box::new(Violation { seed: self.run.seed, steps: self.steps, crash, again, place, what })
    }

    /// One crash, and perhaps one of the start after it, looked at in full.
    pub(super) fn one(&self, crash: Crash, again: Option<Crash>) -> Result<(), Box<Violation>> {
        let moment = self.run.moments.iter().find(|m| m.n == crash.n);
        let Some(moment) = moment else {
            return Err(self.violation(crash, again, "nowhere".to_owned(), "there is no such operation".to_owned()));
        };
        let (legal, salt) = (self.run.legal(crash.n), crash.salt(self.run.seed));
        let image = crash.image(self.run.seed, &moment.torn(crash.torn));
        let mut totals = Totals::default();
        let Some(second) = again else {
            let looked = self.look(&legal, &image, salt, true, &mut totals);
            return looked.map(drop).map_err(|what| self.violation(crash, None, place(moment), what));
        };
        image.set_recording(true);
        let nth = self.look(&legal, &image, salt, false, &mut totals);
        let nth = nth.map_err(|what| self.violation(crash, None, place(moment), what))?;
        let mut starts = image.take_moments();
        image.set_recording(false);
        starts.push(image.moment());
        let Some(moment) = starts.iter().find(|m| m.n == second.n) else {
            return Err(self.violation(
                crash,
                again,
                "nowhere".to_owned(),
                "the start has no such operation".to_owned(),
            ));
        };
        let legal = if moment.kind.is_some() { legal } else { nth..=nth };
        let image = second.image(salt, &moment.torn(second.torn));
        let looked = self.look(&legal, &image, second.salt(salt), true, &mut totals);
        looked.map(drop).map_err(|what| self.violation(crash, again, place(moment), what))
    }
}

/// What a panic said.
pub(super) fn text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied()).unwrap_or("?")
}
