//! Damage to each kind of file of a store that is switched off: bytes flipped, zeroed and set, the file cut, pages zeroed and exchanged, the file
//! taken away, replaced by an older copy of itself, by another of its kind, by nothing. What comes of it is one of: the same, healed,
//! rolled back, told, refused, unreadable; and never silent, a panic or a hang. // row B19
//!
//! ```text
//! STOREDD_SWEEP=100000 cargo test --profile crash --test store crash::sweep -- --nocapture     so many places of each kind of file
//! ```

use super::driver::Driver;
use super::lies::{Past, Tally, all, files, judge};
use super::random::mix_all;
use super::workload::{Generator, Mix, Step};
use super::{number, world};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use storedd::disk::{Persist, SimDisk};
use storedd::store::Options;

/// Steps of the workload, before and behind the copy that is older.
const STEPS: usize = 35;
/// Places of each kind of file.
const PLACES: u64 = 40;
/// A start that takes so long hangs.
const LIMIT: Duration = Duration::from_secs(60);
const PAGE: u64 = 4096;

/// A store that was stopped, how it was before, and what was ever seen of it.
struct Golden {
    options: Options,
    machine: SimDisk,
    older: SimDisk,
    past: Past,
}

fn golden(seed: u64) -> Golden {
    let options = world::options(seed);
    let mut driver = Driver::first_start(world::machine(seed), world::env(seed, 0), options.clone()).unwrap();
    let (mut generator, mut past, mut older) = (Generator::new(seed, Mix::of(seed)), Past::default(), None);
    past.add(&driver.now);
    for nth in 0..2 * STEPS {
        let step = match nth {
            // Some of the log leads on from the snapshot, and some from the checkpoint.
            STEPS => Step::Snapshot,
            _ if nth + 8 > 2 * STEPS => Step::Commit(generator.command(&driver.now.model)),
            _ => generator.step(&driver.now.model),
        };
        let did = driver.act(&step).unwrap_or_else(|e| panic!("seed {seed}, step {nth}, {step:?}: {e}"));
        did.seen.iter().for_each(|seen| past.add(seen));
        past.add(&driver.now);
        if nth == STEPS + 1 {
            older = Some(driver.machine.image(Persist::Everything));
        }
    }
    driver.act(&Step::Seal).unwrap();
    driver.drop_store();
    Golden { options, machine: driver.machine.image(Persist::Nothing), older: older.unwrap(), past }
}

/// Which kind of file a path is.
fn kind(path: &str) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap_or_default();
    Some(match name {
        _ if name.starts_with("log.") => "log segment",
        _ if name.starts_with("spare.") => "spare segment",
        "CONTROL" => "control file",
        "STORE" => "marker",
        "mboxlist.redb" if path.contains("/snapshots/") => "database of a snapshot",
        "mboxlist.redb" => "database",
        "MANIFEST" | ".snaptime" | ".verified" => "texts of a snapshot",
        "store.idx" => "index",
        "manifest" => "manifest of a user",
        "PARTITION" => "identity of a partition",
        "MESSAGES" => "identity of a disk of messages",
        "partitions" => "list of partitions",
        _ if name.ends_with(".msg") && path.contains("-messages/") => "message on a disk of its own",
        _ if name.ends_with(".msg") => "message",
        _ => return None,
    })
}

/// Ways in which a whole file goes wrong.
const WHOLE: [&str; 6] = ["gone", "empty", "older", "exchanged", "cut to half", "longer"];

/// Does one kind of damage, the `nth` of this file; says what it did. `None`: it would change nothing.
fn damage(golden: &Golden, image: &SimDisk, path: &str, twin: &str, nth: u64) -> Option<String> {
    let split = |path: &str| {
        path.strip_prefix("sim:").and_then(|p| p.split_once('/')).map(|(d, f)| (d.to_owned(), f.to_owned()))
    };
    let (disk, file) = split(path)?;
    let (disk, older) = (image.disk(&disk), golden.older.disk(&disk));
    let bytes = disk.peek(&file).ok()?;
    let salt = mix_all(&[nth, bytes.len() as u64, path.len() as u64]);
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    if let Some(way) = WHOLE.get(usize::try_from(nth).ok()?) {
        match *way {
            "gone" => disk.erase(&file).ok()?,
            "empty" => disk.truncate(&file, 0).ok()?,
            "older" => disk.plant(&file, &older.peek(&file).ok().filter(|old| *old != bytes)?).ok()?,
            "exchanged" => {
                let (twin_disk, twin) = split(twin)?;
                disk.plant(&file, &image.disk(&twin_disk).peek(&twin).ok().filter(|other| *other != bytes)?).ok()?;
            }
            "cut to half" => disk.truncate(&file, bytes.len() as u64 / 2).ok()?,
            _ => disk.poke(&file, bytes.len() as u64, &[7; 100]).ok()?,
        }
        return Some((*way).to_owned());
    }
    let pages = bytes.len() as u64 / PAGE;
    let at = *used.get((salt % (used.len().max(1) as u64)) as usize)? as u64;
    match nth % 8 {
        // A page is the unit in which disks forget and mistake.
        0 if pages > 1 => {
            let page = at / PAGE;
            disk.poke(&file, page * PAGE, &vec![0; PAGE.min(bytes.len() as u64 - page * PAGE) as usize]).ok()?;
            Some(format!("page {page} zeroed"))
        }
        1 if pages > 1 => {
            let (a, b) = ((at / PAGE).min(pages - 1), mix_all(&[salt, 1]) % pages);
            let page = |n: u64| bytes[(n * PAGE) as usize..((n + 1) * PAGE) as usize].to_vec();
            if page(a) == page(b) {
                return None;
            }
            disk.poke(&file, a * PAGE, &page(b)).ok()?;
            disk.poke(&file, b * PAGE, &page(a)).ok()?;
            Some(format!("pages {a} and {b} exchanged"))
        }
        2 => {
            disk.truncate(&file, at).ok()?;
            Some(format!("cut to {at} bytes"))
        }
        way => {
            let old = bytes[at as usize];
            let new = match way % 3 {
                0 => old ^ (1 << (salt >> 8 & 7)),
                1 => 0,
                _ => 0xff,
            };
            disk.poke(&file, at, &[new]).ok().filter(|()| new != old)?;
            Some(format!("byte {at}: {old:02x} became {new:02x}"))
        }
    }
}

/// Ends the tests with the name of a place that takes too long.
struct Watch(Mutex<BTreeMap<String, Instant>>);

impl Watch {
    fn over<T>(&self, place: &str, work: impl FnOnce() -> T) -> T {
        self.0.lock().unwrap().insert(place.to_owned(), Instant::now());
        let done = work();
        self.0.lock().unwrap().remove(place);
        done
    }

    fn look(&self) {
        let hanging = self.0.lock().unwrap().iter().find(|(_, since)| since.elapsed() > LIMIT).map(|(p, _)| p.clone());
        if let Some(place) = hanging {
            crate::harness::say(&format!("HANG: {place}"));
            std::process::exit(101);
        }
    }
}

// row B19, row 38, row B9
#[test]
fn damage_to_every_kind_of_file_is_judged() {
    let (first, seeds) = (number("STOREDD_CRASH_SEED", 1), number("STOREDD_SWEEP_SEEDS", 2));
    let places = number("STOREDD_SWEEP", PLACES);
    let (tally, watch) = (Mutex::new(Tally::default()), Watch(Mutex::default()));
    let mut kinds = BTreeSet::new();
    for seed in first..first + seeds {
        let golden = golden(seed);
        let mut of_kind: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (path, _) in files(&golden.machine) {
            if let Some(kind) = kind(&path) {
                of_kind.entry(kind).or_default().push(path);
            }
        }
        kinds.extend(of_kind.keys().copied());
        let mut work = Vec::new();
        for (kind, paths) in &of_kind {
            // The whole ways for the first files of a kind, then places spread over all of them.
            for nth in 0..places {
                let which = if nth < WHOLE.len() as u64 { 0 } else { mix_all(&[seed, nth]) };
                work.push((*kind, &paths[(which % paths.len() as u64) as usize], paths.last().unwrap(), nth));
            }
        }
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    watch.look();
                    std::thread::sleep(Duration::from_millis(200));
                }
            });
            let swept = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                all(&work, |(kind, path, twin, nth)| {
                    let image = golden.machine.image(Persist::Nothing);
                    let Some(what) = damage(&golden, &image, path, twin, *nth) else { return Ok(()) };
                    let place = format!("seed {seed}, {path}: {what} (place {nth})");
                    let came = watch.over(&place, || judge(&image, &golden.options, &golden.past, false));
                    tally.lock().unwrap().add(kind, came.map_err(|e| format!("{e}\n  {place}"))?);
                    Ok(())
                });
            }));
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            if let Err(panic) = swept {
                std::panic::resume_unwind(panic);
            }
        });
    }
    // Of the first seed the first partition has a disk of its own for messages, of the second the second one has.
    let of_both = ["identity of a disk of messages", "message on a disk of its own", "message"];
    assert!(
        kinds.len() >= 12 && of_both[..if seeds > 1 { 3 } else { 2 }].iter().all(|k| kinds.contains(k)),
        "{kinds:?}"
    );
    tally.into_inner().unwrap().print("sweep", &format!("seeds {first}..{}", first + seeds));
}
