//! How much is looked at, what was, and what was found.

use super::enumerate::{Crash, WAYS};
use std::fmt;

/// How much is looked at. Shares are of a million states.
#[derive(Debug, Clone, Copy)]
pub(super) struct Depth {
    /// So many are looked at.
    pub(super) share: u64,
    /// So many are crashed again at each operation of their start.
    pub(super) again: u64,
    /// So many go on with a workload of their own, to its end.
    pub(super) go_on: u64,
    /// So many live on: what they do is recorded and crashed at each of its operations.
    pub(super) lives: u64,
    /// The same for those whose start cut a torn rest of the log.
    pub(super) lives_if_cut: u64,
    /// Bytes of each write after which it may have been cut: so many cases.
    pub(super) cuts: usize,
}

impl Depth {
    /// Every state; a few of them further.
    pub(super) const USUAL: Depth =
        Depth { share: 1_000_000, again: 10_000, go_on: 50_000, lives: 500, lives_if_cut: 20_000, cuts: 4 };

    /// As deep as so many states are worth: the more, the more starts and lives are crashed again.
    pub(super) fn of(states: u64) -> Depth {
        Depth {
            again: (states / 10).clamp(2_500, 100_000),
            lives: (states / 400).clamp(Depth::USUAL.lives, 10_000),
            lives_if_cut: (states / 10).clamp(Depth::USUAL.lives_if_cut, 200_000),
            ..Depth::USUAL
        }
    }

    /// How much of a life is looked at, if it began after a crash at this depth. Nothing lives a third time.
    pub(super) fn later(self) -> Depth {
        Depth { share: self.share * 3 / 10, again: self.again / 4, go_on: 400_000, lives: 0, lives_if_cut: 0, cuts: 2 }
    }
}

/// Where a crash came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the workload.
    Work,
    /// In the start after the crash before.
    Start,
    /// In what was done after that start.
    Life,
}

/// A crash on the way to a state.
pub(super) type Leg = (Place, Crash);

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
    /// States that lived on, to be crashed there.
    pub(super) lives: u64,
    /// Operations of these lives.
    pub(super) operations_life: u64,
    /// Their states, second crashes included; each was started.
    pub(super) states_life: u64,
    /// States that went on with a workload.
    pub(super) went_on: u64,
    /// Changes they took.
    pub(super) changes: u64,
    /// States whose start went back to a snapshot.
    pub(super) rolled_back: u64,
    /// All states, by what survived the crash.
    pub(super) ways: [u64; WAYS],
}

impl Totals {
    /// One state more.
    pub(super) fn found(&mut self, way: usize) {
        self.ways[way] += 1;
    }

    /// All states that were started.
    pub(super) fn all(&self) -> u64 {
        self.states + self.states_again + self.states_life
    }

    /// A life of so many operations, and what was found in it.
    pub(super) fn add_life(&mut self, operations: u64, inner: &Totals) {
        self.lives += 1 + inner.lives;
        self.operations_life += operations + inner.operations_life;
        self.states_life += inner.all();
        self.went_on += inner.went_on;
        self.changes += inner.changes;
        self.rolled_back += inner.rolled_back;
        self.add_ways(inner);
    }

    fn add_ways(&mut self, o: &Totals) {
        self.ways.iter_mut().zip(o.ways).for_each(|(mine, theirs)| *mine += theirs);
    }
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
        self.lives += o.lives;
        self.operations_life += o.operations_life;
        self.states_life += o.states_life;
        self.went_on += o.went_on;
        self.changes += o.changes;
        self.rolled_back += o.rolled_back;
        self.add_ways(&o);
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} states recovered: {} runs, {} operations, {} crashes -> {} states; {} operations of starts, {} second \
             crashes -> {} states; {} lives after a crash, {} operations -> {} states; {} states went on with {} changes; {} went back to a snapshot",
            self.all(),
            self.runs,
            self.operations,
            self.crashes,
            self.states,
            self.operations_again,
            self.crashes_again,
            self.states_again,
            self.lives,
            self.operations_life,
            self.states_life,
            self.went_on,
            self.changes,
            self.rolled_back
        )?;
        let mut ways: Vec<(String, u64)> = Vec::new();
        for (way, states) in self.ways.iter().enumerate() {
            let name = Crash::name(way);
            match ways.iter_mut().find(|(other, _)| *other == name) {
                Some((_, sum)) => *sum += states,
                None => ways.push((name, *states)),
            }
        }
        let ways: Vec<String> = ways.into_iter().map(|(name, states)| format!("{name} {states}")).collect();
        write!(f, "\n  by what survived: {}", ways.join(", "))
    }
}

/// A crash after which something did not hold.
#[derive(Debug, Clone)]
pub(super) struct Violation {
    pub(super) seed: u64,
    pub(super) steps: usize,
    /// The crashes that led to it.
    pub(super) trail: Vec<Leg>,
    /// The operation, and what was being done.
    pub(super) place: String,
    pub(super) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { seed, steps, trail, place, what } = self;
        writeln!(f, "{what}")?;
        writeln!(f, "  seed {seed}, {place}")?;
        let (mut replay, mut salt) = (format!("{seed}:{steps}"), *seed);
        for (place, crash) in trail {
            let (letter, of) = match place {
                Place::Work => ("", ""),
                Place::Start => ("s", " of the start"),
                Place::Life => ("l", " of what was done then"),
            };
            let (n, torn) = (crash.n, crash.torn);
            let survived = crash.persist(salt).map_or("everything but the process".to_owned(), |p| format!("{p:?}"));
            writeln!(f, "  operation {n}{of}, {torn} bytes of it done; what survived: {survived}")?;
            replay = format!("{replay}:{letter}{crash}");
            salt = crash.salt(salt);
        }
        let run = "cargo test --test store crash::replay -- --nocapture --ignored";
        write!(f, "  replay: STOREDD_CRASH_REPLAY={replay} {run}")
    }
}

/// Reads a trail as a violation prints it: `CRASH[:sCRASH][:lCRASH]...`
pub(super) fn trail(text: &str) -> Option<Vec<Leg>> {
    let leg = |text: &str| {
        let place = match text.chars().next()? {
            's' => Place::Start,
            'l' => Place::Life,
            _ => Place::Work,
        };
        let mut numbers = text.trim_start_matches(['s', 'l']).split('.').map(|n| n.parse::<u64>().ok());
        let mut next = || numbers.next().flatten();
        Some((place, Crash { n: next()?, torn: next()?, way: next()? as usize }))
    };
    text.split(':').map(leg).collect()
}
