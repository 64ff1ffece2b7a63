//! A disk that lies: at one operation of a workload a write is lost, torn, or falls on another file, or a sync does nothing, and the disk says
//! "done"; or bytes rot while the machine is off. What was acknowledged may be gone then, and nothing else may be wrong: after the power
//! cut that lets the lie be seen, the store shows all of it, or says what is not there (a loss, a place that is damaged, a file that it
//! does not start with), and whatever it shows is what was there once. It never panics. // row B19
//!
//! One lie leaves no trace: a write or a sync of the log that did nothing, where the power is cut before anything later reaches the disk. Then
//! the store is what it was before, exactly, and such states are counted apart.
//!
//! Of a store of two partitions the one or the other has a disk of its own for message files ([`world::machine`]), which lies like the others.

use super::driver::{Driver, Seen};
use super::random::mix_all;
use super::workload::{Generator, Mix, Step};
use super::world::{self, Dump};
use super::{enumerate, number, threads};
use crate::harness::total;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use storedd::disk::{Fault, OpKind, Persist, SimDisk};
use storedd::error::StoreError;
use storedd::store::Options;

/// Steps of a workload.
const STEPS: usize = 40;
/// Of so many lies one is tried; STOREDD_LIES_SHARE sets another number, and 1 has all of them tried.
const SHARE: u64 = 12;
/// Places that rot, for each workload; STOREDD_ROT sets another number.
const ROT: u64 = 300;

/// When the power is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// Behind the step in which the disk lied.
    AtOnce,
    /// Behind all of the workload, and a seal.
    Later,
    /// Behind a stop in order.
    Stopped,
}

/// What came of a lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Came {
    /// All is there, and nothing is said.
    Same,
    /// All is there, and what is wrong is said.
    Healed,
    /// All is there, of a snapshot or of the log from creation on, and that is said.
    RolledBack,
    /// Something is not there, and that is said.
    Told,
    /// No start, which says why.
    Refused,
    /// A start; what cannot be read says so.
    Unreadable,
    /// An earlier state of the store, exactly: nothing on the disk says that there was more.
    Untraced,
}

impl Came {
    fn word(self) -> &'static str {
        match self {
            Came::Same => "the same",
            Came::Healed => "healed",
            Came::RolledBack => "rolled back",
            Came::Told => "told",
            Came::Refused => "refused",
            Came::Unreadable => "unreadable and said so",
            Came::Untraced => "without a trace",
        }
    }
}

/// How often what came.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<(String, Came), u64>);

impl Tally {
    pub(super) fn add(&mut self, what: &str, came: Came) {
        *self.0.entry((what.to_owned(), came)).or_default() += 1;
    }

    pub(super) fn print(&self, rig: &str, seeds: &str) {
        let names: BTreeSet<&String> = self.0.keys().map(|(what, _)| what).collect();
        for name in names {
            let of = self.0.iter().filter(|((what, _), _)| what == name);
            let counts: Vec<String> = of.map(|((_, came), n)| format!("{n} {}", came.word())).collect();
            total(&format!("{rig}: {name}, {seeds}: {}; 0 silent, 0 panics", counts.join(", ")));
        }
    }
}

/// What could ever be seen.
#[derive(Default, Clone)]
pub(super) struct Past {
    states: Vec<Dump>,
    /// Sums over the bytes that a UID of a mailbox ever had.
    bytes: BTreeMap<(u64, u32), BTreeSet<u64>>,
}

impl Past {
    pub(super) fn add(&mut self, seen: &Seen) {
        for (mailbox, shelf) in &seen.dump.mail {
            for (uid, (_, sum)) in shelf {
                self.bytes.entry((*mailbox, *uid)).or_default().insert(*sum);
            }
        }
        if self.states.last() != Some(&seen.dump) {
            self.states.push(seen.dump.clone());
        }
    }
}

/// Starts what a power cut left and judges it.
pub(super) fn judge(image: &SimDisk, options: &Options, past: &Past, may_vanish: bool) -> Result<Came, String> {
    let looked = catch_unwind(AssertUnwindSafe(|| look(image, options, past, may_vanish)));
    looked.unwrap_or_else(|panic| Err(format!("panic: {}", enumerate::text(&*panic))))
}

fn look(image: &SimDisk, options: &Options, past: &Past, may_vanish: bool) -> Result<Came, String> {
    let now = past.states.last().ok_or("nothing was ever there")?;
    let env = world::env(7, 3600);
    let (store, report) = match world::open(image, &env, options) {
        Ok(opened) => opened,
        Err(StoreError::Bug(what)) => return Err(format!("a start takes itself for wrong: {what}")),
        Err(_) => return Ok(Came::Refused),
    };
    // That something may be missing is said of every end that was never finished; of what was sealed that is too little.
    let is_told = report.lost.is_some()
        || (report.possible_loss && may_vanish)
        || !report.findings.is_empty()
        || !["clean", "replay"].contains(&report.decision.as_str())
        || store.due().is_due()
        || !store.partitions().behind().is_empty();
    let dump = world::dump(&store, &store.view());
    // Whatever was read, it goes on: the checkpoint may fail, and nothing worse.
    let _ = store.checkpoint();
    let again = world::dump(&store, &store.view());
    drop(store);
    for dump in [&dump, &again].into_iter().flatten() {
        for (mailbox, shelf) in &dump.mail {
            for (uid, (_, sum)) in shelf {
                let ever = past.bytes.get(&(*mailbox, *uid));
                if ever.is_some_and(|ever| !ever.contains(sum)) {
                    return Err(format!("mailbox {mailbox} UID {uid} shows bytes that it never had"));
                }
            }
        }
    }
    match dump {
        Err(StoreError::Bug(what)) => Err(format!("reading takes itself for wrong: {what}")),
        Err(_) => Ok(Came::Unreadable),
        Ok(shown) if shown == *now => Ok(match report.decision.as_str() {
            "rollback" | "rebuild" => Came::RolledBack,
            _ if is_told => Came::Healed,
            _ => Came::Same,
        }),
        Ok(_) if is_told => Ok(Came::Told),
        Ok(shown) if may_vanish && past.states.contains(&shown) => Ok(Came::Untraced),
        Ok(shown) => {
            let rows = |a: &Dump, b: &Dump| a.rows.iter().filter(|row| !b.rows.contains(row)).count();
            Err(format!(
                "silent: {}, {} rows are new or others, {} are gone, mail {}",
                report.summary(),
                rows(&shown, now),
                rows(now, &shown),
                differences(&shown, now)
            ))
        }
    }
}

/// Where mail is not what it is to be, for people.
fn differences(shown: &Dump, now: &Dump) -> String {
    let mailboxes: BTreeSet<&u64> = shown.mail.keys().chain(now.mail.keys()).collect();
    let mut all = Vec::new();
    for id in mailboxes {
        let (here, there) = (shown.mail.get(id), now.mail.get(id));
        let uids: BTreeSet<&u32> = here.into_iter().chain(there).flat_map(|shelf| shelf.keys()).collect();
        for uid in uids {
            let (found, expected) = (here.and_then(|shelf| shelf.get(uid)), there.and_then(|shelf| shelf.get(uid)));
            if found != expected {
                all.push(format!("mailbox {id} UID {uid}: {found:?}, expected {expected:?}"));
            }
        }
    }
    if all.is_empty() { "the same".to_owned() } else { format!("differs: {}", all.join("; ")) }
}

/// A workload with one lie in it; what is found behind each cut.
struct Trial {
    seed: u64,
    n: u64,
    fault: Fault,
    place: String,
}

impl Trial {
    fn run(&self, tally: &Mutex<Tally>) -> Result<(), String> {
        let options = options(self.seed);
        let mut found = Vec::new();
        run(self.seed, Some((self.n, self.fault)), &mut |cut, machine, past| {
            let image = machine.image(Persist::Nothing);
            let may_vanish = cut == Cut::AtOnce && self.place.contains(" sim:log/");
            found.push((cut, judge(&image, &options, past, may_vanish)));
        })?;
        for (cut, came) in found {
            let came = came.map_err(|e| format!("power cut {cut:?}: {e}"))?;
            tally.lock().unwrap().add(&format!("{:?}", self.fault), came);
        }
        Ok(())
    }
}

fn options(seed: u64) -> Options {
    world::options(seed)
}

/// Runs the workload, and shows the machine at each moment at which the power may be cut.
fn run(
    seed: u64,
    lie: Option<(u64, Fault)>,
    each: &mut dyn FnMut(Cut, &SimDisk, &Past),
) -> Result<Vec<(OpKind, String)>, String> {
    let machine = world::machine(seed);
    match lie {
        Some((n, fault)) => machine.fail_at(n, fault),
        None => machine.set_trace(true),
    }
    let started = Driver::first_start(machine.clone(), world::env(seed, 0), options(seed));
    let mut driver = started.map_err(|e| format!("the first start: {e}"))?;
    let (mut generator, mut past) = (Generator::new(seed, Mix::of(seed)), Past::default());
    past.add(&driver.now);
    let mut has_lied = false;
    for nth in 0..STEPS {
        let mut step = generator.step(&driver.now.model);
        if matches!(step, Step::Kill) {
            // A process that is killed says nothing of disks.
            step = Step::Checkpoint;
        }
        let did = driver.act(&step).map_err(|e| format!("step {nth}, {step:?}: {e}"))?;
        did.seen.iter().for_each(|seen| past.add(seen));
        past.add(&driver.now);
        if lie.is_some_and(|(n, _)| !has_lied && machine.ops() >= n) {
            has_lied = true;
            each(Cut::AtOnce, &machine, &past);
        }
    }
    driver.act(&Step::Seal).map_err(|e| format!("the seal: {e}"))?;
    each(Cut::Later, &machine, &past);
    let store = driver.store().ok_or("no store")?.clone();
    store.close().map_err(|e| format!("the stop: {e}"))?;
    drop(store);
    driver.drop_store();
    each(Cut::Stopped, &machine, &past);
    Ok(machine.op_kinds())
}

/// What a disk can say falsely of an operation of this kind.
fn lies_of(kind: OpKind) -> &'static [Fault] {
    match kind {
        OpKind::Write => &[Fault::LostWrite, Fault::TornWrite, Fault::MisdirectedWrite],
        OpKind::SyncData | OpKind::SyncDir | OpKind::SyncTree => &[Fault::LyingSync],
        _ => &[],
    }
}

/// Does all of the work, on all processors; says what failed.
pub(super) fn all<T: Sync>(work: &[T], run: impl Fn(&T) -> Result<(), String> + Sync) {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                while let Some(one) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(what) = run(one) {
                        failed.lock().unwrap().push(what);
                        if number("STOREDD_LIES_ALL", 0) == 0 {
                            next.store(work.len(), Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), work.len(), failed.join("\n"));
}

// row B19, row 38, I8
#[test]
fn a_disk_that_lies_is_found_out() {
    let (first, seeds) = (number("STOREDD_CRASH_SEED", 1), number("STOREDD_LIES_SEEDS", 2));
    let share = number("STOREDD_LIES_SHARE", SHARE).max(1);
    let mut trials = Vec::new();
    for seed in first..first + seeds {
        let operations = run(seed, None, &mut |_, _, _| {}).unwrap_or_else(|e| panic!("seed {seed}, no lie: {e}"));
        for (nth, (kind, path)) in operations.into_iter().enumerate() {
            for (which, fault) in lies_of(kind).iter().enumerate() {
                let n = nth as u64 + 1;
                if mix_all(&[seed, n, which as u64]).is_multiple_of(share) {
                    trials.push(Trial { seed, n, fault: *fault, place: format!("{kind:?} {path}") });
                }
            }
        }
    }
    let tally = Mutex::new(Tally::default());
    all(&trials, |trial| {
        let Trial { seed, n, fault, place } = trial;
        trial.run(&tally).map_err(|e| format!("{e}\n  seed {seed}, operation {n}, {fault:?} {place}"))
    });
    tally.into_inner().unwrap().print("lies", &format!("seeds {first}..{}", first + seeds));
}

// row B19, row 38, row 50: a page of the database, an index, a message, while the store is at work: what it reads then is right or an error, a
// checkpoint that meets it does not end the process, and the next start knows what to do
#[test]
fn bytes_that_rot_under_a_running_store_are_found_out() {
    let seed = number("STOREDD_CRASH_SEED", 1);
    let (options, mut of) = (options(seed), Vec::new());
    let run = run(seed, None, &mut |cut, machine, past| {
        if cut == Cut::Stopped {
            of.push((machine.image(Persist::Nothing), past.clone()));
        }
    });
    run.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    let (machine, past) = of.pop().unwrap();
    let files = files(&machine);
    let rotten: Vec<&(String, u64)> =
        files.iter().filter(|(path, _)| !path.starts_with("sim:log/") && !path.contains("reports/")).collect();
    let work: Vec<u64> = (0..number("STOREDD_ROT", ROT)).collect();
    let tally = Mutex::new(Tally::default());
    all(&work, |nth| {
        let salt = mix_all(&[seed, *nth, 3]);
        // Every second place is one of the database.
        let database = rotten.iter().position(|(path, _)| path.ends_with("mboxlist.redb")).ok_or("no database")?;
        let which = if nth % 2 == 0 { database } else { (salt % rotten.len() as u64) as usize };
        let (path, len) = rotten[which];
        let place = format!("seed {seed}, place {nth}: {path}");
        let (disk, file) = path.strip_prefix("sim:").and_then(|p| p.split_once('/')).ok_or("no path")?;
        let image = machine.image(Persist::Nothing);
        let worked = catch_unwind(AssertUnwindSafe(|| -> Result<(), String> {
            let env = world::env(9, 1800);
            let (store, _) = world::open(&image, &env, &options).map_err(|e| e.to_string())?;
            // From here on, all over a page, or in one byte.
            let disk = image.disk(disk);
            let at = mix_all(&[salt, 1]) % len;
            let bytes = if nth % 4 < 2 { 1 } else { 4096.min(len - at) };
            (at..at + bytes).try_for_each(|at| disk.damage(file, at, 0x5a)).map_err(|e| e.to_string())?;
            let mut generator = Generator::new(salt, Mix::commands(10));
            let model = super::model::Model::new(options.limits);
            for _ in 0..4 {
                if let Step::Commit(command) = generator.step(&model) {
                    let _ = store.commit(command);
                }
            }
            let _ = world::dump(&store, &store.view());
            let _ = store.checkpoint();
            let _ = world::dump(&store, &store.view());
            Ok(())
        }));
        match worked {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return Err(format!("{place}: {e}")),
            Err(panic) => return Err(format!("{place}: panic: {}", enumerate::text(&*panic))),
        }
        // Changes came after what is known; what is shown of it must be what was there, and the start must not panic.
        let came = catch_unwind(AssertUnwindSafe(|| look(&image.image(Persist::Everything), &options, &past, true)));
        let came = match came {
            Ok(Ok(came)) => came,
            Ok(Err(e)) if e.starts_with("silent: ") => Came::Same,
            Ok(Err(e)) => return Err(format!("{place}: {e}")),
            Err(panic) => return Err(format!("{place}: the start: panic: {}", enumerate::text(&*panic))),
        };
        tally.lock().unwrap().add("rot under a running store", came);
        Ok(())
    });
    tally.into_inner().unwrap().print("lies", &format!("seed {seed}"));
}

/// Every file of a disk.
pub(super) fn files(machine: &SimDisk) -> Vec<(String, u64)> {
    let leaves =
        machine.tree().into_iter().filter(|(_, (kind, len, _))| *kind == storedd::disk::Kind::File && *len > 0);
    leaves.map(|(path, (_, len, _))| (path, len)).collect()
}

// row B19, row 38, row B9: a byte of any file, while the machine is off
#[test]
fn bytes_that_rot_are_found_out() {
    let (first, seeds) = (number("STOREDD_CRASH_SEED", 1), number("STOREDD_LIES_SEEDS", 2));
    let places = number("STOREDD_ROT", ROT);
    let mut tally = Tally::default();
    for seed in first..first + seeds {
        let (options, mut of) = (options(seed), Vec::new());
        let run = run(seed, None, &mut |cut, machine, past| {
            if cut == Cut::Later {
                of.push((machine.image(Persist::Nothing), past.clone()));
            }
        });
        run.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let (machine, past) = of.pop().unwrap();
        let files = files(&machine);
        let work: Vec<u64> = (0..places).collect();
        let counts = Mutex::new(Tally::default());
        all(&work, |nth| {
            let salt = mix_all(&[seed, *nth]);
            let (path, len) = &files[(salt % files.len() as u64) as usize];
            let (disk, file) = path.strip_prefix("sim:").and_then(|p| p.split_once('/')).ok_or("no path")?;
            let image = machine.image(Persist::Nothing);
            // Most bytes of a file are zeros behind its end, of which nobody thinks.
            let bytes = image.disk(disk).peek(file).map_err(|e| e.to_string())?;
            let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
            let at = match used.is_empty() {
                true => mix_all(&[salt, 1]) % len,
                false => used[(mix_all(&[salt, 1]) % used.len() as u64) as usize] as u64,
            };
            let xor = [1, 0x80, 0xff][(mix_all(&[salt, 2]) % 3) as usize];
            image.disk(disk).damage(file, at, xor).map_err(|e| e.to_string())?;
            let came = judge(&image, &options, &past, false)
                .map_err(|e| format!("{e}\n  seed {seed}, place {nth}: {path} byte {at} of {len}, xor {xor:02x}"))?;
            counts.lock().unwrap().add("rot", came);
            Ok(())
        });
        for (key, n) in counts.into_inner().unwrap().0 {
            *tally.0.entry(key).or_default() += n;
        }
    }
    tally.print("lies", &format!("seeds {first}..{}", first + seeds));
}
