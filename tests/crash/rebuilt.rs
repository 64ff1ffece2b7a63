//! What the files that are there must suffice for.

use super::driver::Driver;
use super::workload::{Generator, Mix, Step};
use super::world::{self, dump};
use storedd::disk::{Disk, Persist, SimDisk};
use storedd::store::Options;

/// A store after a workload in which no segment was retired, or after one in which many were.
pub(super) fn worked(seed: u64, segment_size: u64) -> Result<(Driver, Options), String> {
    let options = Options { segment_size, overlay_bytes_max: 8 << 20, ..world::options(seed) };
    let started = Driver::first_start(world::machine(seed), world::env(seed, 0), options.clone());
    let mut driver = started.map_err(|e| e.to_string())?;
    let mut generator = Generator::new(seed, Mix::of(seed));
    for _ in 0..100 {
        let step = generator.step(&driver.now.model);
        let did = driver.act(&step).map_err(|e| format!("{step:?}: {e}"))?;
        if let Some(e) = did.errors().next() {
            return Err(format!("{step:?}: {e}"));
        }
    }
    Ok((driver, options))
}

fn show(machine: &SimDisk, options: &Options) -> (world::Dump, storedd::store::Report) {
    let (store, report) = world::open(machine, &world::env(3, 50), options).unwrap();
    (dump(&store, &store.view()).unwrap(), report)
}

// row 22: every change is in the log
#[test]
fn the_whole_log_gives_the_database_back() {
    for seed in 1..=6 {
        let (mut driver, options) = worked(seed, 16 << 20).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        driver.drop_store();
        let image = driver.machine.image(Persist::Nothing);
        image.disk("db").erase("mboxlist.redb").unwrap();
        let (shown, report) = show(&image, &options);
        assert_eq!((report.decision.as_str(), &report.lost), ("rebuild", &None), "seed {seed}");
        assert!(shown == driver.now.dump, "seed {seed}");
        // And it stays.
        assert!(show(&image.image(Persist::Nothing), &options).0 == driver.now.dump, "seed {seed}");
    }
}

// row 32: no log before the checkpoint, and nothing put aside, is needed
#[test]
fn a_crash_needs_only_what_the_checkpoint_left() {
    for seed in 1..=6 {
        let (mut driver, options) = worked(seed, 32 << 10).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        driver.act(&Step::Checkpoint).unwrap();
        let kept: Vec<String> = {
            let store = driver.store().unwrap();
            let needed = store.segments().into_iter().filter(|line| line.active || !line.kept_for.is_empty());
            needed.map(|line| line.segment.file).collect()
        };
        driver.drop_store();
        let image = driver.machine.image(Persist::Nothing);
        let log = image.disk("log");
        for entry in log.list("").unwrap() {
            if !kept.contains(&entry.name) {
                log.erase(&entry.name).unwrap();
            }
        }
        for place in ["dbdata/reports", "stored.ckp", "stored.lcu"] {
            let _ = image.disk("data").erase(place);
        }
        let _ = image.disk("db").erase("removed");
        let (shown, report) = show(&image, &options);
        assert_eq!(report.lost, None, "seed {seed}: {report:?}");
        assert!(shown == driver.now.dump, "seed {seed}");
    }
}

// row 35: a start that is ended at any moment leaves what a second start needs, and no lock
#[test]
fn a_start_that_is_interrupted_is_done_again() {
    let (mut driver, options) = worked(3, 32 << 10).unwrap();
    driver.drop_store();
    let image = driver.machine.image(Persist::RandomTorn(5));
    let expected = show(&image.image(Persist::Nothing), &options).0;
    image.set_recording(true);
    show(&image, &options);
    let moments = image.take_moments();
    assert!(moments.len() > 5, "{moments:?}");
    for moment in moments {
        assert!(show(&moment.killed(), &options).0 == expected, "operation {} {}", moment.n, moment.path);
    }
}
