//! Every crash of a recorded run, every crash of the starts after them, and every crash of the lives that begin with them.

use super::random::mix_all;
use super::record::{self, Run};
use super::recover::{Legal, recover};
use super::tally::{Depth, Leg, Place, Totals, Violation};
use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use storedd::disk::{Moment, OpKind, Persist, SimDisk};

/// What the next process finds: the machine as it was when the last one was killed, or what a power cut left.
pub(super) const WAYS: usize = 11;

/// A crash: at which operation, how much of it was done, and what survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crash {
    pub(super) n: u64,
    /// Bytes of the write that were done; 0: none.
    pub(super) torn: u64,
    pub(super) way: usize,
}

impl Crash {
    pub(super) fn salt(self, seed: u64) -> u64 {
        mix_all(&[seed, self.n, self.torn, self.way as u64])
    }

    pub(super) fn persist(self, seed: u64) -> Option<Persist> {
        let salt = self.salt(seed);
        match self.way {
            0 => None,
            way @ 1..9 => Some(Persist::all(salt)[way - 1]),
            _ => Some(Persist::RandomTorn(salt)),
        }
    }

    /// What survives, in a word.
    pub(super) fn name(way: usize) -> String {
        let name = Crash { n: 0, torn: 0, way }.persist(0).map_or("Killed".to_owned(), |p| format!("{p:?}"));
        name.split('(').next().unwrap_or_default().to_owned()
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

/// True for so many of a million salts.
fn chance(of_million: u64, salt: u64, what: u64) -> bool {
    mix_all(&[salt, what]) % 1_000_000 < of_million
}

/// A look at the crashes of one run.
pub(super) struct Enumeration<'a> {
    pub(super) run: &'a Run,
    /// Seed and steps of the workload with which it all began.
    pub(super) origin: (u64, usize),
    /// The crashes before this run; none if it is that workload.
    pub(super) trail: Vec<Leg>,
    /// Only the state to which these crashes lead, looked at in full.
    pub(super) only: Option<&'a [Leg]>,
    pub(super) depth: Depth,
    pub(super) stop: &'a AtomicBool,
}

/// What came of a state.
struct Looked {
    /// Index of what it shows.
    nth: usize,
    /// What it did then, if that is to be crashed too.
    life: Option<Run>,
}

/// What is done with a state that came up.
#[derive(Clone, Copy)]
enum Then {
    Nothing,
    /// What the salt says.
    Chance,
    GoOn,
    Live,
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
        violations.sort_by_key(|v: &Violation| (v.trail.len(), v.trail[0].1.n));
        (totals, violations)
    }

    fn chunk(&self, chunk: &[Moment], totals: &mut Totals) -> Result<(), Box<Violation>> {
        let mut known = Known::default();
        for moment in chunk {
            for torn in cuts(moment, mix_all(&[self.run.seed, moment.n]), self.depth.cuts) {
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

    /// True if this state is to be looked at: it is the next of those that are to be replayed, or the salt says so.
    fn wanted(&self, nth: usize, crash: Crash, of_million: u64, salt: u64) -> bool {
        match self.only {
            Some(only) => only.get(nth).is_some_and(|(_, wanted)| *wanted == crash),
            None => chance(of_million, salt, 4),
        }
    }

    fn crash(
        &self,
        crash: Crash,
        moment: &Moment,
        known: &mut Known,
        totals: &mut Totals,
    ) -> Result<(), Box<Violation>> {
        let (legal, salt) = (self.run.legal(crash.n), crash.salt(self.run.seed));
        if !self.wanted(0, crash, self.depth.share, salt) {
            return Ok(());
        }
        let image = crash.image(self.run.seed, moment);
        if !known.is_new(&image, &legal) {
            return Ok(());
        }
        totals.found(crash.way);
        totals.states += 1;
        let trail = [(if self.trail.is_empty() { Place::Work } else { Place::Life }, crash)];
        let again = match self.only {
            Some(only) => only.get(1).is_some_and(|(place, _)| *place == Place::Start),
            // A start that has more to do has more places to be stopped at.
            None if self.run.is_rollback(crash.n) => chance(self.depth.again.saturating_mul(10), salt, 5),
            None => chance(self.depth.again, salt, 5),
        };
        if again {
            self.again(trail, moment, &image, totals)
        } else {
            self.state(&trail, moment, &legal, &image, totals)
        }
    }

    /// Crashes of the start that followed a crash. What it had shown when it was done must be shown again.
    fn again(
        &self,
        first: [Leg; 1],
        moment: &Moment,
        image: &SimDisk,
        totals: &mut Totals,
    ) -> Result<(), Box<Violation>> {
        let crash = first[0].1;
        let (legal, salt) = (self.run.legal(crash.n), crash.salt(self.run.seed));
        let mut known = Known::default();
        known.is_new(image, &legal);
        image.set_recording(true);
        let looked = self.look(&first, &legal, image, Then::Nothing, totals);
        let nth = looked.map_err(|what| self.violation(&first, moment, what))?.nth;
        let mut starts = image.take_moments();
        image.set_recording(false);
        starts.push(image.moment());
        totals.operations_again += starts.len() as u64 - 1;
        for moment in &starts {
            let legal = if moment.kind.is_some() { legal.clone() } else { nth..=nth };
            for torn in cuts(moment, mix_all(&[salt, moment.n]), 2) {
                let cut = if torn == 0 { None } else { Some(moment.torn(torn)) };
                for way in ways(cut.as_ref().unwrap_or(moment), &mut totals.crashes_again) {
                    let crash = Crash { n: moment.n, torn, way };
                    if !self.wanted(1, crash, 1_000_000, salt) {
                        continue;
                    }
                    let image = crash.image(salt, cut.as_ref().unwrap_or(moment));
                    if known.is_new(&image, &legal) {
                        totals.found(way);
                        totals.states_again += 1;
                        self.state(&[first[0], (Place::Start, crash)], moment, &legal, &image, totals)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// One state: started, and perhaps what it does then is crashed too.
    fn state(
        &self,
        trail: &[Leg],
        moment: &Moment,
        legal: &Legal,
        image: &SimDisk,
        totals: &mut Totals,
    ) -> Result<(), Box<Violation>> {
        let then = match self.only {
            Some(only) if only.len() > trail.len() => Then::Live,
            Some(_) => Then::GoOn,
            None => Then::Chance,
        };
        let looked = self.look(trail, legal, image, then, totals);
        let looked = looked.map_err(|what| self.violation(trail, moment, what))?;
        let Some(life) = looked.life else { return Ok(()) };
        let later = Enumeration {
            run: &life,
            origin: self.origin,
            trail: [&self.trail, trail].concat(),
            only: self.only.map(|only| &only[trail.len()..]),
            depth: self.depth.later(),
            stop: self.stop,
        };
        let mut inner = Totals::default();
        let crashed = later.chunk(&life.moments, &mut inner);
        totals.add_life(life.moments.len() as u64 - 1, &inner);
        crashed
    }

    /// Starts the store; a panic is a violation too.
    fn look(
        &self,
        trail: &[Leg],
        legal: &Legal,
        image: &SimDisk,
        then: Then,
        totals: &mut Totals,
    ) -> Result<Looked, String> {
        let (salt, asked) = (salt_of(trail, self.run.seed), self.run.asked(trail[0].1.n));
        let looked = catch_unwind(AssertUnwindSafe(|| {
            let up = recover(self.run, legal, image, salt)?;
            let nth = up.nth;
            totals.rolled_back += u64::from(up.rolled_back);
            // What is written next lies upon a rest that was cut: worth more looks.
            let lives = if up.cut { self.depth.lives_if_cut } else { self.depth.lives };
            let then = match then {
                Then::Chance if chance(lives, salt, 8) => Then::Live,
                Then::Chance if chance(self.depth.go_on, salt, 6) => Then::GoOn,
                then => then,
            };
            let mut life = None;
            match then {
                Then::Live => life = Some(record::life(up, self.run, image, salt, asked)?),
                Then::GoOn => {
                    totals.went_on += 1;
                    totals.changes += up.goes_on(self.run, image, salt, asked)?;
                }
                // The machine is not wanted any more: nobody need tidy up.
                Then::Chance => image.crash_at(image.ops() + 1),
                Then::Nothing => {}
            }
            Ok(Looked { nth, life })
        }));
        looked.unwrap_or_else(|panic| Err(format!("panic: {}", text(&*panic))))
    }

    fn violation(&self, trail: &[Leg], moment: &Moment, what: String) -> Box<Violation> {
        let place = format!("at {}, in step {}", place(moment), self.run.step(trail[0].1.n));
        let trail = [&self.trail, trail].concat();
        Box::new(Violation { seed: self.origin.0, steps: self.origin.1, trail, place, what })
    }
}

/// Decides whatever is done with the state to which these crashes lead.
fn salt_of(trail: &[Leg], seed: u64) -> u64 {
    trail.iter().fold(seed, |seed, (_, crash)| crash.salt(seed))
}

/// What a panic said.
pub(super) fn text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied()).unwrap_or("?")
}
