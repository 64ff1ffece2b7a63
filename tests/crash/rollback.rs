//! A start that puts a snapshot in place of the database, stopped at each of its operations, and the start after it too: with the whole
//! log, and with a log that has a hole, where something is lost once and the same for ever.

use super::driver::{Driver, Seen, check_store};
use super::enumerate::{Crash, WAYS};
use super::random::mix_all;
use super::workload::{Generator, Mix, PARTITIONS, Step};
use super::world::{self, Dump};
use super::{number, point};
use crate::harness::total;
use storedd::disk::{Disk, Moment, Persist, SimDisk};
use storedd::env::{Env, SimEnv};
use storedd::lsn::Micros;
use storedd::store::{Behind, Options, Report};

/// One in so many starts that came after a crash is crashed at each of its operations.
const AGAIN: u64 = 150;

/// A store with two snapshots and changes behind them, killed; some of its segments were retired. And what the newer snapshot holds.
fn killed(seed: u64) -> Result<(Driver, Options, Seen), String> {
    let options = Options { segment_size: 32 << 10, ..world::options(seed) };
    let started = Driver::first_start(world::machine(seed), world::env(seed, 0), options.clone());
    let mut driver = started.map_err(|e| e.to_string())?;
    let mut generator = Generator::new(seed, Mix::of(seed));
    let mut taken = driver.now.clone();
    for nth in 0..120 {
        let step = match nth {
            60 | 90 => Step::Snapshot,
            _ => generator.step(&driver.now.model),
        };
        let did = driver.act(&step).map_err(|e| format!("{step:?}: {e}"))?;
        if let Some(e) = did.errors().find(|e| e.code() != "busy") {
            return Err(format!("{step:?}: {e}"));
        }
        if let Step::Snapshot = step {
            taken = driver.now.clone();
        }
        driver.env.set_now(Micros(driver.env.now().0 + 1_000_000));
    }
    driver.drop_store();
    Ok((driver, options, taken))
}

/// What a start shows, and its report; whatever it shows must agree in itself.
fn start(machine: &SimDisk, options: &Options, salt: u64) -> Result<(Dump, Report, u64), String> {
    let env: std::sync::Arc<SimEnv> = world::env(salt, 3600);
    let (store, report) = world::open(machine, &env, options).map_err(|e| format!("it does not come up: {e}"))?;
    check_store(&store)?;
    let dump = world::dump(&store, &store.view()).map_err(|e| e.to_string())?;
    Ok((dump, report, store.published_lsn().0))
}

/// Every image that a crash at this moment can leave.
fn images(moment: &Moment, seed: u64, most: usize) -> impl Iterator<Item = (Crash, SimDisk)> {
    let ways = if moment.unsynced() == 0 { 1 } else { WAYS };
    (0..ways.min(most)).map(move |way| {
        let crash = Crash { n: moment.n, torn: 0, way };
        let image = crash.persist(seed).map_or_else(|| moment.killed(), |persist| moment.image(persist));
        (crash, image)
    })
}

/// Records a start of this machine and starts what each crash in it leaves; every so many of these are recorded and crashed too.
/// Gives the number of starts.
fn crashed_everywhere(
    machine: &SimDisk,
    options: &Options,
    seed: u64,
    again: u64,
    good: &dyn Fn(&SimDisk, &Dump, &Report) -> Result<(), String>,
) -> Result<u64, String> {
    machine.set_recording(true);
    let (dump, report, _) = start(machine, options, seed)?;
    good(machine, &dump, &report)?;
    let mut moments = machine.take_moments();
    machine.set_recording(false);
    moments.push(machine.moment());
    let mut starts = 1;
    for moment in &moments {
        for (crash, image) in images(moment, seed, WAYS) {
            let salt = crash.salt(seed);
            let context = |e: String| format!("crash {crash} at {:?} {}: {e}", moment.kind, moment.path);
            if again > 0 && salt.is_multiple_of(again) {
                starts += crashed_everywhere(&image, options, salt, 0, good).map_err(context)?;
            } else {
                let (dump, report, _) = start(&image, options, salt).map_err(context)?;
                good(&image, &dump, &report).map_err(context)?;
                starts += 1;
            }
        }
    }
    Ok(starts)
}

/// True if a database with these bytes was set aside.
fn is_kept(machine: &SimDisk, bytes: &[u8]) -> bool {
    let db = machine.disk("db");
    let aside = db.list("removed").unwrap_or_default();
    aside.iter().any(|entry| db.peek(&format!("removed/{}", entry.name)).is_ok_and(|there| there == bytes))
}

// rows 43, 47; I3, I6, I8: stopped anywhere, twice in a row, everything acknowledged is there
#[test]
fn a_rollback_is_stopped_anywhere_and_done_again() {
    let mut starts = 0;
    for seed in 1..=number("STOREDD_ROLLBACK_SEEDS", 1) {
        let (driver, options, _) = killed(seed).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        for way in 0..5 {
            let image = driver.machine.moment().killed();
            assert!(super::driver::damage(&image, way).unwrap(), "seed {seed}: no snapshot");
            let bad = image.disk("db").peek("mboxlist.redb").ok();
            let good = |machine: &SimDisk, dump: &Dump, report: &Report| match &report.lost {
                Some(lost) => Err(format!("lost: {lost:?}, {:?}", report.findings)),
                None if *dump != driver.now.dump => Err(format!("it shows something else: {}", report.summary())),
                None if bad.as_ref().is_some_and(|bad| !is_kept(machine, bad)) => {
                    Err("the bad database is nowhere".to_owned())
                }
                None => Ok(()),
            };
            let again = if way == (seed % 5) as usize { AGAIN } else { 0 };
            starts += crashed_everywhere(&image, &options, mix_all(&[seed, way as u64]), again, &good)
                .unwrap_or_else(|e| panic!("seed {seed}, way {way}: {e}"));
        }
    }
    total(&format!("rollback: {starts} starts, 0 violations"));
    assert!(starts > 500, "{starts}");
}

// rows 44, 45; I8: with a hole in the log the loss is said by the first start that could not be stopped from saying so, and it never
// becomes another one
#[test]
fn a_rollback_that_loses_something_is_stopped_anywhere() {
    let mut starts = 0;
    for seed in 1..=number("STOREDD_ROLLBACK_SEEDS", 1) {
        let (driver, options, _) = killed(seed).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let base = driver.machine.moment().killed();
        assert!(super::driver::damage(&base, 3).unwrap(), "seed {seed}: no snapshot");
        let log = base.disk("log");
        let names: Vec<String> = log.list("").unwrap().into_iter().map(|e| e.name).collect();
        let last = names.iter().rfind(|name| name.starts_with("log.")).unwrap();
        log.erase(last).unwrap();
        let (expected, report, reached) = start(&base.image(Persist::Nothing), &options, seed).unwrap();
        assert_eq!(report.decision, "lossy", "seed {seed}: {report:?}");
        let good = |image: &SimDisk, dump: &Dump, _: &Report| {
            let data = image.disk("data");
            let reports = Report::load(&data, 100, storedd::lsn::Micros(u64::MAX)).map_err(|e| e.to_string())?;
            let recommended = data.stat("repair-recommended").map_err(|e| e.to_string())?.is_some();
            match () {
                () if reports.iter().all(|r| r.lost.is_none()) => Err("no report says what is lost".to_owned()),
                () if !recommended => Err("no repair is recommended".to_owned()),
                () if *dump != expected => {
                    Err("it shows something else than the start that was not stopped".to_owned())
                }
                () => Ok(()),
            }
        };
        let options = Options { reports: 100, ..options };
        starts += crashed_everywhere(&base, &options, mix_all(&[seed, 9]), AGAIN, &good)
            .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert!(reached > report.reached_lsn, "a new history counts above everything that was ever used");
    }
    total(&format!("lossy rollback: {starts} starts, 0 violations"));
    assert!(starts > 100, "{starts}");
}

// rows 52, 95; I3, I6: a snapshot that a person puts in place, stopped anywhere: the store is as it was or as it was to be, and the same
// command comes to the same end
#[test]
fn an_install_is_stopped_anywhere() {
    let mut starts = 0;
    for seed in 1..=number("STOREDD_ROLLBACK_SEEDS", 1) {
        let (driver, options, taken) = killed(seed).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let base = driver.machine.moment().killed();
        for behind in [Behind::Replayed { accept_loss: false }, Behind::Left] {
            let install = |machine: &SimDisk, salt: u64| -> Result<(), String> {
                let (store, report) =
                    world::install(machine, &world::env(salt, 3600), &options, behind).map_err(|e| e.to_string())?;
                check_store(&store)?;
                report.lost.map_or(Ok(()), |lost| Err(format!("lost: {lost:?}")))
            };
            let is_new = |shown: &Dump| match behind {
                Behind::Left => point::is_at(shown, &taken.dump, &driver.now.dump),
                Behind::Replayed { .. } if *shown == driver.now.dump => Ok(()),
                Behind::Replayed { .. } => Err("it shows something else".to_owned()),
            };
            let image = base.image(Persist::Nothing);
            image.set_recording(true);
            install(&image, seed).unwrap_or_else(|e| panic!("seed {seed}, {behind:?}: {e}"));
            let mut moments = image.take_moments();
            image.set_recording(false);
            moments.push(image.moment());
            for (nth, moment) in moments.iter().enumerate() {
                for (crash, image) in images(moment, seed, WAYS) {
                    let context =
                        format!("seed {seed}, {behind:?}, crash {crash} at {:?} {}", moment.kind, moment.path);
                    let salt = crash.salt(seed);
                    let (shown, report) =
                        point::start(&image, &options, salt).unwrap_or_else(|e| panic!("{context}: {e}"));
                    assert_eq!(report.lost, None, "{context}");
                    match is_new(&shown) {
                        Ok(()) => {}
                        Err(e) if nth + 1 == moments.len() => panic!("{context}: done, and not there: {e}"),
                        Err(e) => assert!(shown == driver.now.dump, "{context}: between: {e}"),
                    }
                    starts += 1;
                    if salt.is_multiple_of(7) {
                        let image = moment.killed();
                        install(&image, salt).unwrap_or_else(|e| panic!("{context}, again: {e}"));
                        let again = point::start(&image, &options, salt).and_then(|(shown, _)| is_new(&shown));
                        again.unwrap_or_else(|e| panic!("{context}: another end: {e}"));
                        starts += 2;
                    }
                }
            }
        }
    }
    total(&format!("install: {starts} starts, 0 violations"));
    assert!(starts > 100, "{starts}");
}

// rows 95, 141; I6, I8: partitions that are away while a person goes back, and while checkpoints are made in the new history, show the same when
// they are there again
#[test]
fn partitions_are_away_while_somebody_goes_back() {
    for seed in 1..=number("STOREDD_ROLLBACK_SEEDS", 1) + 2 {
        let (driver, options, taken) = killed(seed).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let machine = driver.machine.moment().killed();
        let mut away = Vec::new();
        for name in PARTITIONS {
            let disk = machine.disk(name);
            if let Ok(bytes) = disk.peek("PARTITION") {
                disk.erase("PARTITION").unwrap();
                away.push((disk, bytes));
            }
        }
        assert!(!away.is_empty(), "seed {seed}");
        let done = world::install(&machine, &world::env(seed, 3600), &options, Behind::Left);
        drop(done.unwrap_or_else(|e| panic!("seed {seed}: {e}")));
        let (store, report) = world::open(&machine, &world::env(seed, 5000), &options).unwrap();
        assert_eq!(report.lost, None, "seed {seed}");
        store.checkpoint().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert!(point::adopt(&store).is_err(), "seed {seed}: nobody can look at what is away");
        assert!(store.due().is_due(), "seed {seed}");
        drop(store);
        away.iter().for_each(|(disk, bytes)| disk.plant("PARTITION", bytes).unwrap());
        let (store, _) = world::open(&machine, &world::env(seed, 7000), &options).unwrap();
        store.checkpoint().unwrap();
        drop(store);
        for nth in 0..2 {
            let (shown, report) =
                point::start(&machine, &options, seed).unwrap_or_else(|e| panic!("seed {seed}, start {nth}: {e}"));
            assert_eq!(report.lost, None, "seed {seed}");
            let same = point::is_at(&shown, &taken.dump, &driver.now.dump);
            same.unwrap_or_else(|e| panic!("seed {seed}, start {nth}: {e}"));
        }
    }
}
