//! Work that is more than one command (ageing, a purge, a move to another partition, mail that comes back, what users have seen, snapshots,
//! repairs), crashed at each of its operations, in every way that a disk may behave, and once more in the start and the second attempt
//! behind the crash. // row B19
//!
//! Of a store that was whole, a start behind the crash shows exactly one of the states through which the work went: not one before the
//! last sync of the log, which is what was promised, and none that it had not come to. Of a store that was damaged before, it never shows
//! anything else than what was there, and what was mended stays. Then the work is asked for again, and comes to the end to which it comes without a crash; and no
//! file is left that nobody knows.

mod acts;
mod back;
mod essence;
mod mends;
mod stage;

use super::driver::check_store;
use super::enumerate::{Crash, WAYS};
use super::mail;
use super::model::Tables;
use super::number;
use super::random::mix_all;
use super::world::{Dump, disk_of_messages};
use crate::harness::total;
use essence::{Essence, essence};
use stage::{Base, Stage, base, begin};
use storedd::disk::{Moment, OpKind, SimDisk};

/// States of one deed that are looked at; STOREDD_DEED_STATES sets another number, and a large one has all of them looked at.
const STATES: u64 = 200;
/// Of so many crashes one is crashed again.
const AGAIN: u64 = 40;
/// Second crashes behind one.
const SECOND: usize = 12;

/// What must hold of a machine, of the store that it had, and of what is shown there.
type Also = fn(&SimDisk, &Base, &Dump) -> Result<(), String>;

/// Work on a store.
#[derive(Clone, Copy)]
struct Deed {
    name: &'static str,
    /// What befalls the stopped store before the work, which mends it.
    harm: Option<fn(&Base)>,
    act: fn(&Stage) -> Result<(), String>,
    /// What else must hold of a machine on which the work was stopped.
    also: Option<Also>,
}

/// What a test of the rig does to every machine that a crash leaves.
type Sabotage<'a> = Option<&'a dyn Fn(&SimDisk)>;

/// What was looked at.
#[derive(Debug, Default, Clone, Copy)]
struct Looked {
    operations: usize,
    /// Different states through which the work goes, the first and the last among them.
    steps: usize,
    states: u64,
    again: u64,
}

/// What a crash at an operation may leave visible.
struct Chain {
    /// What can be seen one after the other.
    shown: Vec<Dump>,
    /// Which of it a process that is killed at the operation leaves, by the order of moments.
    killed: Vec<usize>,
    /// The oldest of it that may be visible: what was promised by then.
    promised: Vec<usize>,
}

struct Trial<'a> {
    deed: Deed,
    base: &'a Base,
    sabotage: Sabotage<'a>,
    /// What the store holds when all is done.
    end: Essence,
    looked: Looked,
}

/// Does the work on a store that is there, and everything that is behind it.
fn done(stage: &Stage, deed: Deed) -> Result<Dump, String> {
    (deed.act)(stage).map_err(|e| format!("the work: {e}"))?;
    stage.store.checkpoint().map_err(|e| format!("the checkpoint behind it: {e}"))?;
    check_store(&stage.store)?;
    stage.dump()
}

impl Chain {
    /// Follows what the moments show, one after the other.
    fn of(moments: &[Moment], base: &Base) -> Result<Chain, String> {
        let mut chain = Chain { shown: Vec::new(), killed: Vec::new(), promised: Vec::new() };
        let mut promised = 0;
        for moment in moments {
            let shown = begin(&moment.killed(), base, moment.n)?.dump()?;
            if chain.shown.last() != Some(&shown) {
                chain.shown.push(shown);
            }
            let at = chain.shown.len() - 1;
            chain.promised.push(promised);
            chain.killed.push(at);
            if moment.kind == Some(OpKind::SyncData) && moment.path.contains("log.0") {
                promised = at;
            }
        }
        Ok(chain)
    }

    fn legal(&self, nth: usize) -> &[Dump] {
        let last = self.killed[nth].max(self.killed.get(nth + 1).copied().unwrap_or_default());
        &self.shown[self.promised[nth]..=last]
    }
}

impl Trial<'_> {
    fn all(&mut self) -> Result<(), String> {
        let recorded = self.base.machine.moment().killed();
        let moments = self.recorded(&recorded, self.base.seed)?;
        let chain = match self.deed.harm {
            None => Some(Chain::of(&moments, self.base)?),
            Some(_) => None,
        };
        self.looked.operations = moments.len() - 1;
        self.looked.steps = chain.as_ref().map_or(0, |chain| chain.shown.len());
        let every = moments.len() as u64 * WAYS as u64;
        let share = (every / number("STOREDD_DEED_STATES", STATES).max(1)).max(1);
        for (nth, moment) in moments.iter().enumerate() {
            let half = moment.write_bytes() / 2;
            for torn in [0, half].into_iter().take(1 + usize::from(half > 0)) {
                let cut = moment.torn(torn);
                let found = if torn == 0 { moment } else { &cut };
                for way in 0..if found.unsynced() == 0 { 1 } else { WAYS } {
                    let crash = Crash { n: moment.n, torn, way };
                    let salt = crash.salt(self.base.seed);
                    if !salt.is_multiple_of(share) && moment.kind.is_some() {
                        continue;
                    }
                    let legal = chain.as_ref().map(|chain| chain.legal(nth));
                    self.crash(crash, found, legal).map_err(|e| {
                        format!(
                            "{}, seed {}: {crash} at {:?} {}: {e}",
                            self.deed.name, self.base.seed, moment.kind, moment.path
                        )
                    })?;
                }
            }
        }
        Ok(())
    }

    /// The operations of the work, or of the start and the work if there is something to mend.
    fn recorded(&self, machine: &SimDisk, salt: u64) -> Result<Vec<Moment>, String> {
        machine.set_recording(self.deed.harm.is_some());
        let stage = begin(machine, self.base, salt)?;
        if self.deed.harm.is_none() {
            machine.set_recording(true);
        }
        done(&stage, self.deed)?;
        let mut moments = machine.take_moments();
        machine.set_recording(false);
        moments.push(machine.moment());
        Ok(moments)
    }

    fn image(&self, crash: Crash, moment: &Moment) -> SimDisk {
        let image = crash.persist(self.base.seed).map_or_else(|| moment.killed(), |persist| moment.image(persist));
        self.sabotage.inspect(|sabotage| sabotage(&image));
        image
    }

    fn crash(&mut self, crash: Crash, moment: &Moment, legal: Option<&[Dump]>) -> Result<(), String> {
        let salt = crash.salt(self.base.seed);
        self.looked.states += 1;
        let image = self.image(crash, moment);
        if let Some(legal) = legal {
            let shown = begin(&image, self.base, salt)?.dump()?;
            if !legal.contains(&shown) {
                return Err(format!("none of the {} states that it may show: {}", legal.len(), self.unlike(&shown)));
            }
            if let Some(also) = self.deed.also {
                also(&image, self.base, &shown)?;
            }
        }
        if self.deed.harm.is_some() && moment.kind.is_none() {
            let shown = begin(&image, self.base, salt)?.dump().map_err(|e| format!("behind its end: {e}"))?;
            let found = essence(&shown)?;
            if found != self.end {
                return Err(format!("it was done, and does not stay: {}", self.end.difference(&found)));
            }
        }
        if !mix_all(&[salt, 3]).is_multiple_of(AGAIN) {
            return self.finish(&image, salt);
        }
        image.set_recording(true);
        self.finish(&image, salt)?;
        let again = image.take_moments();
        image.set_recording(false);
        for second in again.iter().step_by((again.len() / SECOND).max(1)) {
            let way = 1 + (mix_all(&[salt, second.n]) as usize) % (WAYS - 1);
            let twice = Crash { n: second.n, torn: 0, way };
            self.looked.again += 1;
            self.finish(&self.image(twice, second), twice.salt(salt))
                .map_err(|e| format!("and {twice} at {:?} {} of what came then: {e}", second.kind, second.path))?;
        }
        Ok(())
    }

    /// The next start, the work once more, and what is left then.
    fn finish(&self, machine: &SimDisk, salt: u64) -> Result<(), String> {
        let stage = begin(machine, self.base, salt)?;
        match stage.dump() {
            Err(e) if self.deed.harm.is_none() => return Err(format!("before it is asked for again: {e}")),
            // What is damaged may be told, and never shown as something else.
            Err(_) => {}
            Ok(shown) if self.deed.harm.is_some() => {
                let (shown, whole) = (essence(&shown)?, &self.base.essence);
                if let Some((what, found, expected)) = shown.other_than(whole) {
                    return Err(format!("shown, and never was: {what}: {found}, and was {expected:?}"));
                }
            }
            Ok(_) => {}
        }
        let shown = done(&stage, self.deed).map_err(|e| format!("once more: {e}"))?;
        let found = essence(&shown)?;
        if found != self.end {
            return Err(format!("once more, and it comes to another end: {}", self.end.difference(&found)));
        }
        if self.deed.harm.is_none() {
            let tables = Tables::read(&stage.store.view(), &shown.mail)?;
            mail::look_at_files(machine, &tables.filed()).map_err(|e| format!("once more: {e}"))?;
        }
        Ok(())
    }

    fn unlike(&self, shown: &Dump) -> String {
        essence(shown).map_or_else(|e| e, |shown| format!("it is not the end: {}", self.end.difference(&shown)))
    }
}

/// Looks at the crashes of one deed.
fn look_at(deed: Deed, seed: u64, sabotage: Sabotage<'_>) -> Result<Looked, String> {
    let base = base(seed, deed.harm.is_some())?;
    if let Some(harm) = deed.harm {
        harm(&base);
    }
    let machine = base.machine.moment().killed();
    let end = essence(&done(&begin(&machine, &base, seed)?, deed)?)?;
    if deed.harm.is_some()
        && let Some((what, expected)) = end.lacks(&base.essence)
    {
        return Err(format!("{}, without a crash: {what} is lost: {expected}", deed.name));
    }
    let mut trial = Trial { deed, base: &base, sabotage, end, looked: Looked::default() };
    trial.all()?;
    Ok(trial.looked)
}

/// Looks at the crashes of one deed on so many stores as are wanted: two at least, for of one the first partition has a disk of its own for
/// message files, and of the other the second one has.
fn crashed_everywhere(deed: Deed) {
    let mut sum = Looked::default();
    for seed in 1..=number("STOREDD_DEED_SEEDS", 1).max(2) {
        let looked = look_at(deed, seed, None).unwrap_or_else(|e| panic!("{e}"));
        assert!(looked.operations > 5 && looked.states > 20, "{}: {looked:?}", deed.name);
        sum.operations += looked.operations;
        sum.steps += looked.steps;
        sum.states += looked.states;
        sum.again += looked.again;
    }
    let Looked { operations, steps, states, again } = sum;
    total(&format!(
        "deed {}, crashed: {operations} operations, {steps} states between, {states} crashes, {again} second crashes, 0 violations",
        deed.name
    ));
}

// The rig is believed because it sees what is gone: a message, the newest of the log, a file too many.
#[test]
fn what_is_gone_after_a_crash_is_seen() {
    let message = |machine: &SimDisk| {
        let path = stage::files(machine, "primary").into_iter().find(|path| path.ends_with(".msg"));
        path.into_iter().for_each(|path| disk_of_messages(machine, "primary").erase(&path).unwrap());
    };
    let log = |machine: &SimDisk| {
        let last = stage::files(machine, "log").into_iter().rfind(|path| path.starts_with("log.")).unwrap();
        machine.disk("log").truncate(&last, 4096).unwrap();
    };
    let extra = |machine: &SimDisk| {
        if let Some(path) = stage::files(machine, "primary").into_iter().find(|path| path.ends_with("/1.msg")) {
            disk_of_messages(machine, "primary").plant(&path.replace("/1.msg", "/999.msg"), b"whose is it?").unwrap();
        }
    };
    let all: [fn(&SimDisk); 3] = [message, log, extra];
    for (what, sabotage) in ["a message", "the log", "a file too many"].into_iter().zip(all) {
        let seen = look_at(acts::EXPIRE, 1, Some(&sabotage));
        let said = seen.expect_err(what);
        total(&format!("control of deeds, {what}: {}", said.chars().take(160).collect::<String>().replace('\n', " ")));
    }
}
