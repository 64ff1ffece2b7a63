//! What a person does to a stopped store (recover, catastrophic recovery, a point in time, a new log), crashed at every operation, in
//! every way that a disk may behave, and once more in the second attempt: the store is as it was, or as it was to be. // row 35

use super::driver::{Driver, Seen};
use super::enumerate::{Crash, WAYS};
use super::workload::{Generator, Mix, Step};
use super::world::{self, Dump};
use super::{number, point, random::mix_all};
use crate::harness::total;
use std::path::Path;
use std::sync::Arc;
use storedd::db::Db;
use storedd::disk::{Disk, Moment, Persist, SimDisk};
use storedd::error::StoreError;
use storedd::lsn::Lsn;
use storedd::store::decision::Policy;
use storedd::store::{self, OnProgress, Options, Plan, Point};

/// Steps of the workload before.
const STEPS: usize = 60;
/// The disk of the log archive.
const ARCHIVE: &str = "archive";
/// Of so many ways in which a disk may behave in a crash one is looked at; STOREDD_MANUAL_SHARE sets another number.
const SHARE: u64 = 16;
/// Of so many crashes of a verb one is followed by a second attempt that is crashed too.
const AGAIN: u64 = 300;

#[derive(Debug, Clone, Copy)]
enum Verb {
    Recover,
    Catastrophic,
    Until(Lsn),
    /// The same, where only the log archive leads there.
    Archived(Lsn),
    Reset,
}

/// A stopped store, and what it holds.
struct Stopped {
    seed: u64,
    machine: SimDisk,
    options: Options,
    seen: Vec<Seen>,
}

/// Works for a while, without checkpoints in the second half if they are to stay away, and is killed.
fn stopped(seed: u64) -> Stopped {
    worked(seed, false, &mut |nth, _| (nth < STEPS).then_some(nth <= STEPS / 2))
}

/// Works, without any checkpoint, until there are three segments, and is killed.
fn with_segments(seed: u64) -> Stopped {
    worked(seed, false, &mut |_, machine| machine.disk("log").peek("log.0000000003").is_err().then_some(false))
}

/// Works, with checkpoints, until there are three segments, and is killed while a backup holds all of the log.
fn with_held_log(seed: u64) -> Stopped {
    worked(seed, true, &mut |nth, machine| {
        (nth < STEPS || machine.disk("log").peek("log.0000000003").is_err()).then_some(true)
    })
}

/// Works as long as `goes_on` says so, with checkpoints where it says so, and is killed. With `held` a backup runs all the time.
fn worked(seed: u64, held: bool, goes_on: &mut dyn FnMut(usize, &SimDisk) -> Option<bool>) -> Stopped {
    let options = Options { segment_size: 32 << 10, overlay_bytes_max: 8 << 20, ..world::options(seed) };
    let mut driver = Driver::first_start(world::machine(seed), world::env(seed, 0), options.clone()).unwrap();
    let hold = held.then(|| driver.store().unwrap().hold_log("backup: one that does not end", u64::MAX));
    let mut generator = Generator::new(seed, Mix::of(seed));
    let mut seen = Vec::new();
    for nth in 0.. {
        let Some(checkpoints) = goes_on(nth, &driver.machine) else { break };
        let step = generator.step(&driver.now.model);
        // The backup ends with its process.
        if held && matches!(step, Step::Reopen | Step::Kill) {
            continue;
        }
        if !checkpoints && matches!(step, Step::Checkpoint | Step::Reopen) {
            continue;
        }
        let did = driver.act(&step).unwrap_or_else(|e| panic!("seed {seed}, {step:?}: {e}"));
        seen.extend(did.seen);
    }
    assert!(hold.is_none_or(|hold| hold.check().is_ok()));
    driver.drop_store();
    let machine = driver.machine.moment().killed();
    Stopped { seed, machine, options, seen }
}

fn quiet() -> OnProgress {
    Arc::new(|_| {})
}

/// Does what the verb does, from the lock to the end.
fn run(verb: Verb, machine: &SimDisk, options: &Options, salt: u64) -> Result<(), StoreError> {
    let disks = world::disks(machine);
    let env = world::env(salt, 7200);
    let lock = store::take_lock(&disks)?;
    let (catastrophic, accept_loss) = (matches!(verb, Verb::Catastrophic), matches!(verb, Verb::Reset));
    let policy = Policy { strict: true, catastrophic, accept_loss, ..Policy::default() };
    let point = if let Verb::Until(lsn) | Verb::Archived(lsn) = verb { Some(Point::Lsn(lsn)) } else { None };
    let archive = matches!(verb, Verb::Archived(_)).then_some(Path::new(ARCHIVE));
    let plan = match verb {
        Verb::Reset => Plan::strict(disks, lock, policy, &quiet())?,
        _ => Plan::recover(disks, &*env, lock, policy, point, archive, &quiet())?,
    };
    plan.decision()?;
    let (store, report) = plan.carry_out(env, options.clone(), "test", &quiet())?;
    if let Some(lost) = report.lost {
        return Err(StoreError::Bug(format!("something is lost: {lost:?}")));
    }
    match verb {
        Verb::Reset => store.reset_log().map(drop),
        _ => store.close(),
    }
}

/// Goes back to a point.
pub(super) fn go_back(machine: &SimDisk, options: &Options, to: Lsn, salt: u64) -> Result<(), StoreError> {
    run(Verb::Until(to), machine, options, salt)
}

/// Starts the store as the daemon does; what it shows.
fn show(machine: &SimDisk, options: &Options, salt: u64) -> Result<Dump, String> {
    let (shown, report) = point::start(machine, options, salt)?;
    match report.lost {
        Some(_) => Err(format!("the start says that something is lost: {report:?}")),
        None => Ok(shown),
    }
}

/// What a look at a verb has seen.
#[derive(Debug, Default, Clone, Copy)]
struct Looked {
    operations: usize,
    states: u64,
    again: u64,
    old: u64,
    new: u64,
}

struct Trial<'a> {
    of: &'a Stopped,
    verb: Verb,
    old: Dump,
    new: Dump,
    looked: Looked,
}

impl Trial<'_> {
    /// The operations of the verb on this machine, which must come to its end.
    fn moments(&self, machine: &SimDisk, salt: u64) -> Result<Vec<Moment>, String> {
        machine.set_recording(true);
        let ran = run(self.verb, machine, &self.of.options, salt);
        let mut moments = machine.take_moments();
        machine.set_recording(false);
        ran.map_err(|e| format!("{:?} did not come to its end: {e}", self.verb))?;
        moments.push(machine.moment());
        Ok(moments)
    }

    /// Every crash of the verb.
    fn all(&mut self, machine: &SimDisk) -> Result<(), String> {
        let moments = self.moments(machine, self.of.seed)?;
        self.looked.operations = moments.len() - 1;
        let share = number("STOREDD_MANUAL_SHARE", SHARE).max(1);
        for moment in &moments {
            let half = moment.write_bytes() / 2;
            for torn in [0, half].into_iter().take(1 + usize::from(half > 0)) {
                let cut = moment.torn(torn);
                let moment = if torn == 0 { moment } else { &cut };
                for way in 0..if moment.unsynced() == 0 { 1 } else { WAYS } {
                    let crash = Crash { n: moment.n, torn, way };
                    let salt = crash.salt(self.of.seed);
                    if way > 0 && !salt.is_multiple_of(share) {
                        continue;
                    }
                    self.crash(crash, moment, salt)
                        .map_err(|e| format!("{crash} at {:?} {}: {e}", moment.kind, moment.path))?;
                }
            }
        }
        Ok(())
    }

    fn image(&self, crash: Crash, moment: &Moment) -> SimDisk {
        match crash.persist(self.of.seed) {
            None => moment.killed(),
            Some(persist) => moment.image(persist),
        }
    }

    fn crash(&mut self, crash: Crash, moment: &Moment, salt: u64) -> Result<(), String> {
        self.legal(&self.image(crash, moment), moment.kind.is_none(), salt)?;
        self.looked.states += 1;
        // The person types the same command again, and it is crashed again; then it comes to its end.
        let image = self.image(crash, moment);
        if !salt.is_multiple_of(AGAIN) {
            run(self.verb, &image, &self.of.options, salt).map_err(|e| format!("the second attempt: {e}"))?;
            return self.legal(&image, true, salt).map_err(|e| format!("behind the second attempt: {e}"));
        }
        let again = self.moments(&image, mix_all(&[salt, 1]))?;
        for moment in &again {
            for way in [0, 1 + (mix_all(&[salt, moment.n]) as usize) % (WAYS - 1)] {
                let crash = Crash { n: moment.n, torn: 0, way };
                self.looked.again += 1;
                self.legal(&self.image(crash, moment), moment.kind.is_none(), salt)
                    .map_err(|e| format!("and {crash} of the second attempt: {e}"))?;
            }
        }
        Ok(())
    }

    /// Old or new, and new when all was done.
    fn legal(&mut self, image: &SimDisk, done: bool, salt: u64) -> Result<(), String> {
        let shown = show(image, &self.of.options, salt)?;
        let is_new = match self.verb {
            Verb::Until(_) | Verb::Archived(_) => point::is_at(&shown, &self.new, &self.old),
            _ if shown == self.new => Ok(()),
            _ => Err("something else".to_owned()),
        };
        match (is_new, shown == self.old && !done) {
            (Ok(()), _) => self.looked.new += 1,
            (_, true) => self.looked.old += 1,
            (Err(e), false) => return Err(format!("neither what was nor what was to be: {e}")),
        }
        Ok(())
    }
}

/// Copies every segment that is full into an archive, and stops the store in order, so that it gives them back.
fn archive(of: &Stopped) -> SimDisk {
    let machine = of.machine.moment().killed();
    let store = Db::examine(&world::disks(&machine).db, "mboxlist.redb", None, None).unwrap().store_id;
    let (log, archive) = (machine.disk("log"), machine.disk(ARCHIVE));
    archive.create_dir(&store.to_string()).unwrap();
    for file in ["log.0000000001", "log.0000000002"] {
        archive.plant(&format!("{store}/{file}"), &log.peek(file).unwrap()).unwrap();
    }
    let (opened, _) = world::open(&machine, &world::env(of.seed, 3600), &of.options).unwrap();
    opened.close().unwrap();
    drop(opened);
    assert!(log.stat("log.0000000001").unwrap().is_none(), "{:?}", log.list(""));
    // The archive is durable.
    machine.image(Persist::Everything)
}

/// What was seen of one store, verb by verb; or what is wrong.
pub(super) fn look_at(seed: u64) -> Result<Vec<String>, String> {
    let of = stopped(seed);
    let (full, middle) = (&of.seen[of.seen.len() - 1], &of.seen[of.seen.len() * 2 / 3]);
    let mut said = Vec::new();
    for verb in [Verb::Recover, Verb::Reset, Verb::Until(middle.lsn), Verb::Catastrophic] {
        let machine = of.machine.moment().killed();
        if let Verb::Catastrophic = verb {
            // From creation on: only where no segment was retired.
            if !machine.disk("log").list("").unwrap().iter().any(|e| e.name == "log.0000000001") {
                continue;
            }
            machine.disk("db").erase("mboxlist.redb").unwrap();
        }
        let new = if let Verb::Until(_) = verb { middle.dump.clone() } else { full.dump.clone() };
        let mut trial = Trial { of: &of, verb, old: full.dump.clone(), new, looked: Looked::default() };
        trial.all(&machine).map_err(|e| format!("seed {seed}, {verb:?}: {e}"))?;
        let looked = trial.looked;
        assert!(looked.operations > 5 && looked.states > 10, "{verb:?}: {looked:?}");
        if let Verb::Until(_) = verb {
            assert!(looked.old > 0 && looked.new > 0, "{looked:?}");
        }
        said.push(format!("{verb:?} {looked:?}"));
    }
    Ok(said)
}

// row 35; log reset and a point in time are all or nothing
#[test]
fn what_a_person_does_is_all_or_nothing() {
    let seeds = 1..=number("STOREDD_MANUAL_SEEDS", 2);
    let said: Vec<String> = seeds.flat_map(|seed| look_at(seed).unwrap_or_else(|e| panic!("{e}"))).collect();
    total(&format!("by hand, crashed: {}", said.join("; ")));
}

// row 35, B13: so is a point to which only the archive leads: its files are copied, and history goes on there, or not
#[test]
fn a_point_in_the_archive_is_all_or_nothing() {
    let of = with_segments(1);
    let (full, early) = (&of.seen[of.seen.len() - 1], &of.seen[of.seen.len() / 3]);
    let machine = archive(&of);
    let (verb, old, new) = (Verb::Archived(early.lsn), full.dump.clone(), early.dump.clone());
    let mut trial = Trial { of: &of, verb, old, new, looked: Looked::default() };
    trial.all(&machine).unwrap_or_else(|e| panic!("{e}"));
    let looked = trial.looked;
    assert!(looked.operations > 50 && looked.old > 50 && looked.new > 50, "{looked:?}");
    total(&format!("from the archive, crashed: {looked:?}"));
}

// rows 35, 67: a backup was at work, and held the log from the beginning on, when the store was killed: what a person does then finds more
// log than the checkpoint needs, and is all or nothing as ever
#[test]
fn what_a_person_does_to_a_log_that_was_held_is_all_or_nothing() {
    let mut said = Vec::new();
    for seed in 1..=number("STOREDD_MANUAL_SEEDS", 1) {
        let of = with_held_log(seed);
        let checkpoint = Db::examine(&world::disks(&of.machine).db, "mboxlist.redb", None, None).unwrap().applied_lsn;
        let early = of.seen.iter().rfind(|seen| seen.lsn < checkpoint).expect("a change that is in the database");
        let full = &of.seen[of.seen.len() - 1];
        assert!(of.machine.disk("log").stat("log.0000000001").unwrap().is_some(), "it was held");
        for verb in [Verb::Recover, Verb::Until(early.lsn), Verb::Reset, Verb::Catastrophic] {
            let machine = of.machine.moment().killed();
            if let Verb::Catastrophic = verb {
                machine.disk("db").erase("mboxlist.redb").unwrap();
            }
            let new = if let Verb::Until(_) = verb { early.dump.clone() } else { full.dump.clone() };
            let mut trial = Trial { of: &of, verb, old: full.dump.clone(), new, looked: Looked::default() };
            trial.all(&machine).unwrap_or_else(|e| panic!("seed {seed}, {verb:?}: {e}"));
            let looked = trial.looked;
            assert!(looked.operations > 5 && looked.states > 10, "{verb:?}: {looked:?}");
            said.push(format!("{verb:?} {looked:?}"));
        }
    }
    total(&format!("by hand, with a log that was held, crashed: {}", said.join("; ")));
}

// rows 43, 67: a start without the database takes all of the log that was held
#[test]
fn a_rollback_takes_the_log_that_was_held() {
    for seed in 1..=number("STOREDD_MANUAL_SEEDS", 2) {
        let of = with_held_log(seed);
        for way in ["erased", "cut", "spoilt"] {
            let machine = of.machine.moment().killed();
            let db = machine.disk("db");
            match way {
                "erased" => db.erase("mboxlist.redb").unwrap(),
                "cut" => db.truncate("mboxlist.redb", 5000).unwrap(),
                _ => (0..4).for_each(|page| db.damage("mboxlist.redb", page * 4096 + 100, 1).unwrap()),
            }
            let shown = show(&machine, &of.options, seed).unwrap_or_else(|e| panic!("seed {seed}, {way}: {e}"));
            assert!(shown == of.seen[of.seen.len() - 1].dump, "seed {seed}, {way}: something else");
        }
    }
}
