//! Many lives of one store: it works, crashes anywhere, starts, works, crashes ... What one life leaves behind is what
//! the next one starts from, so that old segments, spares, quarantines and reserved numbers of many starts meet.

use super::driver::{Driver, Seen, check_store};
use super::enumerate;
use super::model::Tables;
use super::random::{Random, mix_all};
use super::workload::{Generator, Mix};
use super::{number, threads, world};
use crate::harness::total;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use storedd::disk::{Persist, SimDisk};

/// Crashes in one chain.
const LIVES: u64 = 12;

/// One chain; the answer is the number of changes that were acknowledged.
fn chain(seed: u64) -> Result<u64, String> {
    let mut random = Random::new(mix_all(&[seed, 11]));
    let options = world::options(seed);
    let mut machine = world::machine(seed);
    let (mut now, mut history) = (Seen::nothing(&options), super::driver::History::default());
    let (mut undecided, mut required) = (Vec::new(), 0);
    let mut acknowledged = 0;
    for life in 0..LIVES {
        let what = |e: String| format!("life {life}: {e}");
        // Somewhere in the start, in the work, or not before the end of this life.
        let span = [30, 300, 2000][random.below(3)];
        machine.crash_torn_at(1 + random.below(span) as u64, random.below(5000) as u64);
        let env = world::env(mix_all(&[seed, life]), random.below(100_000) as i64 - 30_000);
        let store = match world::open(&machine, &env, &options) {
            Ok((store, report)) => {
                if let Some(lost) = report.lost {
                    return Err(what(format!("something is lost: {lost:?}")));
                }
                Some(store)
            }
            Err(_) if machine.is_crashed() => None,
            Err(e) => return Err(what(format!("the store does not come up: {e}"))),
        };
        if let Some(store) = store {
            // Reading works as long as the machine does.
            let shown = world::dump(&store, &store.view()).map_err(|e| e.to_string()).and_then(|dump| {
                let tables = Tables::read(&store.view(), &dump.mail)?;
                check_store(&store)?;
                Ok((tables, dump))
            });
            let (tables, dump) = match shown {
                Ok(shown) => shown,
                Err(_) if machine.is_crashed() => {
                    machine = after_crash(&machine, &mut random);
                    continue;
                }
                Err(e) => return Err(what(e)),
            };
            let model = now.model.after_some(&undecided, required, &tables).map_err(what)?;
            let lsn = store.published_lsn();
            if lsn < now.lsn {
                return Err(what(format!("I3: LSN {lsn} after LSN {}", now.lsn)));
            }
            let mut driver = Driver::of(machine.clone(), env, options.clone(), store, Seen { dump, model, lsn });
            driver.answered = lsn;
            driver.history = std::mem::take(&mut history);
            driver.history.note(&tables, 0).map_err(what)?;
            acknowledged += work(&mut driver, &mut random, seed).map_err(what)?;
            driver.drop_store();
            (now, history) = (driver.now, driver.history);
            (undecided, required) = (driver.undecided, driver.required);
        }
        machine = after_crash(&machine, &mut random);
    }
    Ok(acknowledged)
}

/// Works until the crash, or for a while.
fn work(driver: &mut Driver, random: &mut Random, seed: u64) -> Result<u64, String> {
    let mut generator = Generator::new(random.next(), Mix::of(seed));
    let mut acknowledged = 0;
    for _ in 0..5 + random.below(60) {
        let step = generator.step(&driver.now.model);
        let did = driver.act(&step).map_err(|e| format!("{step:?}: {e}"))?;
        if driver.machine.is_crashed() {
            return Ok(acknowledged);
        }
        if let Some(e) = did.errors().find(|e| e.code() != "busy") {
            return Err(format!("{step:?} failed: {e}"));
        }
        acknowledged += did.seen.len() as u64;
    }
    Ok(acknowledged)
}

fn after_crash(machine: &SimDisk, random: &mut Random) -> SimDisk {
    let moment = machine.moment();
    if random.once_in(6) { moment.killed() } else { moment.image(Persist::all(random.next())[random.below(8)]) }
}

// row B19, row 18, row 20, row 21; I3, I6 over many starts
#[test]
fn many_lives_of_one_store() {
    let (first, chains) = (number("STOREDD_CRASH_SEED", 1), number("STOREDD_CRASH_CHAINS", 80));
    let (next, failed, acknowledged) = (AtomicU64::new(first), Mutex::new(None), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + chains || failed.lock().unwrap().is_some() {
                        return;
                    }
                    let ran = catch_unwind(AssertUnwindSafe(|| chain(seed)));
                    let ran = ran.unwrap_or_else(|panic| Err(format!("panic: {}", enumerate::text(&*panic))));
                    match ran {
                        Ok(count) => drop(acknowledged.fetch_add(count, Ordering::Relaxed)),
                        Err(what) => *failed.lock().unwrap() = Some(format!("{what}\n  seed {seed}")),
                    }
                }
            });
        }
    });
    if let Some(what) = failed.into_inner().unwrap() {
        panic!("{what}\n  replay: STOREDD_CRASH_CHAINS=1 STOREDD_CRASH_SEED=... cargo test --test store crash::lives");
    }
    let acknowledged = acknowledged.into_inner();
    total(&format!("lives: {chains} stores of {LIVES} lives, {acknowledged} acknowledged changes, 0 violations"));
}
