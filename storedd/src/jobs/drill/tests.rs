//! Drills on a simulated disk: what they find, stopped at every operation, and when they are due.

use super::*;
use crate::db::Db;
use crate::disk::{Persist, SimDisk};
use crate::env::SimEnv;
use crate::jobs::restore::tests::{add, env, start, users};
use crate::jobs::snapshots::{self, Keeper};
use std::path::Path;

fn settings(backups: Option<&str>) -> Settings {
    Settings {
        directory: None,
        interval: Duration::from_secs(7 * 86_400),
        pace: 1 << 40,
        log_bytes: 1 << 30,
        keep_free: 0,
        backups: backups.map(PathBuf::from),
        archive: None,
    }
}

fn take(store: &Arc<Store>) -> String {
    let settings = snapshots::Settings { interval: Duration::from_secs(86_400), keep: 3, verify: true, pace: 1 << 40 };
    Keeper::new(store.clone(), env(5)).unwrap().take(&settings, true, &Context::idle()).unwrap().snapshot.id
}

fn driller(store: &Arc<Store>, env: &Arc<SimEnv>) -> Driller {
    let backups = Arc::new(Backups::new(store.clone(), env.clone()).unwrap());
    Driller::new(store.clone(), backups, env.clone()).unwrap()
}

/// A store with a snapshot, and log files behind it.
fn with_snapshot() -> (SimDisk, Arc<Store>, String) {
    let machine = SimDisk::new();
    let (store, _) = start(&machine, false, 0).unwrap();
    add(&store, "p");
    users(&store, 0..20);
    let id = take(&store);
    users(&store, 20..800);
    (machine, store, id)
}

// rows 84, B1: a good one says so, with numbers, durably; a row that differs would be seen.
#[test]
fn a_good_drill_is_good_and_is_remembered() {
    let (machine, store, id) = with_snapshot();
    let driller = driller(&store, &env(100));
    assert_eq!(driller.last(), (None, None));
    let drilled = driller.drill(&settings(None), &Context::idle()).unwrap();
    assert!(drilled.good && drilled.compared && drilled.problems.is_empty(), "{drilled:?}");
    assert!(drilled.source.contains(&id) && drilled.rto > 0.0 && drilled.rpo == 0.0, "{drilled:?}");
    assert_eq!((drilled.reached_lsn, drilled.live_lsn), (store.published_lsn().0, store.published_lsn().0));
    assert!(drilled.replayed > 700 && drilled.rows > 2000);
    let data = machine.disk("data");
    assert!(data.list("dbdata/drill").unwrap().is_empty(), "the scratch directory is empty again");
    // A start remembers.
    store.close().unwrap();
    drop((driller, store));
    let machine = machine.image(Persist::Nothing);
    let (store, _) = start(&machine, false, 200).unwrap();
    let again = self::driller(&store, &env(300));
    assert_eq!(again.last(), (Some(drilled.clone()), Some(Micros(drilled.begun_us))));
    for _ in 0..25 {
        again.drill(&settings(None), &Context::idle()).unwrap();
    }
    assert_eq!(machine.disk("data").list("dbdata/drills").unwrap().len(), 20);
}

#[test]
fn totals_tell_any_difference() {
    let (_, store, _) = with_snapshot();
    let totals = || Totals::of(&store.view(), &Context::idle()).unwrap().unwrap();
    let (before, same) = (totals(), totals());
    assert!(before.differences(&same).is_empty());
    users(&store, 900..901);
    let after = totals();
    let told: Vec<String> = after.differences(&before).into_iter().map(|(what, ..)| what).collect();
    for what in ["table users: number of rows", "table mailboxes: digest", "sum of UIDVALIDITYs"] {
        assert!(told.iter().any(|t| t == what), "{what}: {told:?}");
    }
}

// row B1: one missing log, one flipped byte, a manifest of another store: three messages, each names the file.
#[test]
fn each_fault_is_found_and_named() {
    let (machine, store, id) = with_snapshot();
    let driller = driller(&store, &env(100));
    let mut told = Vec::new();
    let mut drill = |file: &str, case: &str| {
        let drilled = driller.drill(&settings(None), &Context::idle()).unwrap();
        assert!(!drilled.good && !drilled.problems.is_empty(), "{case}: {drilled:?}");
        assert!(drilled.problems[0].file.ends_with(file), "{case}: {drilled:?}");
        told.push(drilled.problems[0].what.clone());
    };
    let log = store.disks().log.clone();
    let segments = store.segments();
    assert!(segments.len() > 3, "{}", segments.len());
    let file = segments[1].segment.file.clone();
    log.rename(&file, "elsewhere").unwrap();
    drill(&file, "a log is missing");
    log.rename("elsewhere", &file).unwrap();
    let data = machine.disk("data");
    let database = format!("dbdata/snapshots/{id}/{DB_FILE}");
    data.damage(&database, 30_000, 1).unwrap();
    drill(DB_FILE, "a byte was flipped");
    data.damage(&database, 30_000, 1).unwrap();
    // Another store's, as it would be with the same number of changes.
    let other = SimDisk::new();
    let (strange, _) = start(&other, false, 1).unwrap();
    add(&strange, "p");
    users(&strange, 0..20);
    let theirs = take(&strange);
    let manifest = format!("dbdata/snapshots/{id}/{MANIFEST}");
    let ours = data.peek(&manifest).unwrap();
    let bytes = other.disk("data").peek(&format!("dbdata/snapshots/{theirs}/{MANIFEST}")).unwrap();
    data.remove(&manifest).unwrap();
    data.plant(&manifest, &bytes).unwrap();
    drill(MANIFEST, "a manifest of another store");
    data.remove(&manifest).unwrap();
    data.plant(&manifest, &ours).unwrap();
    told.sort();
    told.dedup();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(driller.drill(&settings(None), &Context::idle()).unwrap().good);
}

// No log is kept for a snapshot that was never verified; where it was the only copy, the drill named a log file as missing that had been
// retired in order.
#[test]
fn a_retired_log_is_not_missed_behind_a_snapshot_that_was_never_verified() {
    let machine = SimDisk::new();
    let (store, _) = start(&machine, false, 0).unwrap();
    add(&store, "p");
    users(&store, 0..20);
    let taking = snapshots::Settings { interval: Duration::from_secs(86_400), keep: 3, verify: false, pace: 1 << 40 };
    let taken = Keeper::new(store.clone(), env(5)).unwrap().take(&taking, false, &Context::idle()).unwrap();
    let driller = driller(&store, &env(100));
    assert!(driller.drill(&settings(None), &Context::idle()).unwrap().good, "the log is still there");
    users(&store, 20..800);
    store.checkpoint().unwrap();
    assert!(store.segments()[0].segment.first_lsn > taken.snapshot.lsn.next(), "{:?}", store.segments());
    let e = driller.drill(&settings(None), &Context::idle()).unwrap_err();
    assert_eq!(e.exit(), exit::NOT_FOUND);
    assert!(e.to_string().contains(&taken.snapshot.id) && e.to_string().contains("never verified"), "{e}");
}

// A backup whose log the live log continues is brought to the present; else to its own end.
#[test]
fn a_backup_is_drilled_with_what_log_there_is() {
    let machine = SimDisk::new();
    let (store, _) = start(&machine, false, 0).unwrap();
    add(&store, "p");
    users(&store, 0..20);
    let settings = settings(Some("media"));
    let taken = crate::jobs::backups::Settings {
        directory: None,
        interval: Duration::from_secs(86_400),
        keep: 2,
        pace: 1 << 40,
        log_bytes: 1 << 30,
        keep_free: 0,
        config: String::new(),
    };
    let driller = driller(&store, &env(100));
    assert!(matches!(
        driller.drill(&settings, &Context::idle()),
        Err(StoreError::Refused { exit: exit::NOT_FOUND, .. })
    ));
    driller.backups.take(Path::new("media"), &taken, &Context::idle()).unwrap();
    users(&store, 20..40);
    let drilled = driller.drill(&settings, &Context::idle()).unwrap();
    assert!(drilled.good && drilled.compared && drilled.source.starts_with("backup "), "{drilled:?}");
    assert_eq!(drilled.reached_lsn, store.published_lsn().0);
    // The log goes, and with it the way to the present.
    users(&store, 40..800);
    store.checkpoint().unwrap();
    users(&store, 800..1500);
    store.checkpoint().unwrap();
    let drilled = driller.drill(&settings, &Context::idle()).unwrap();
    assert!(drilled.good && !drilled.compared && drilled.rpo > 0.0, "{drilled:?}");
    assert!(drilled.reached_lsn < store.published_lsn().0);
}

#[test]
fn a_drill_stopped_at_every_operation_leaves_the_store_and_the_next_one_alone() {
    let (machine, store, _) = with_snapshot();
    store.close().unwrap();
    drop(store);
    let base = machine.image(Persist::Everything);
    let (mut n, mut finished) = (0, 0);
    while finished < 2 {
        n += 1;
        let machine = base.image(Persist::Everything);
        let (store, _) = start(&machine, false, 1000).unwrap();
        let driller = driller(&store, &env(1001));
        machine.crash_at(machine.ops() + n);
        let drilled = driller.drill(&settings(None), &Context::idle());
        finished += usize::from(!machine.is_crashed());
        assert!(drilled.as_ref().map_or(true, |d| d.good || machine.is_crashed()), "stopped at {n}: {drilled:?}");
        let after = machine.image([Persist::Nothing, Persist::Everything][n as usize % 2]);
        let (store, report) = start(&after, false, 2000).unwrap_or_else(|e| panic!("stopped at {n}: {e}"));
        assert!(report.lost.is_none(), "stopped at {n}: {report:?}");
        if n.is_multiple_of(7) {
            let again = self::driller(&store, &env(2001)).drill(&settings(None), &Context::idle()).unwrap();
            assert!(again.good, "stopped at {n}: {again:?}");
        }
    }
    assert!(n > 40, "{n} operations");
}

#[test]
fn one_is_made_when_it_is_due() {
    let (_, store, _) = with_snapshot();
    let env = env(0);
    let driller = driller(&store, &env);
    let at = |second: u64| env.set_now(Micros(1_800_000_000_000_000 + second * 1_000_000));
    let settings = settings(None);
    at(3600);
    assert!(!driller.is_due(&settings));
    at(90_000);
    assert!(driller.is_due(&settings) && !driller.is_due(&Settings { interval: Duration::ZERO, ..settings.clone() }));
    driller.drill(&settings, &Context::idle()).unwrap();
    at(90_000 + 6 * 86_400);
    assert!(!driller.is_due(&settings));
    at(90_000 + 8 * 86_400);
    assert!(driller.is_due(&settings));
}

const YEARS: u64 = 10 * 365 * 86_400;

// A clock that was ahead once: drills went on when it came there again; and what is drilled is the newest by LSN.
#[test]
fn a_clock_that_was_ahead_once_ends_no_drill() {
    let (machine, store, id) = with_snapshot();
    let clock = env(YEARS);
    let at = |second: u64| clock.set_now(Micros(1_800_000_000_000_000 + second * 1_000_000));
    let driller = self::driller(&store, &clock);
    let settings = settings(None);
    for _ in 0..25 {
        driller.drill(&settings, &Context::idle()).unwrap();
    }
    at(100_000);
    assert!(driller.is_due(&settings), "nobody knows how long ago the last one was");
    let drilled = driller.drill(&settings, &Context::idle()).unwrap();
    assert!(drilled.good && !driller.is_due(&settings), "{drilled:?}");
    // A start remembers it, though there are twenty that say they are of later.
    let again = self::driller(&store, &clock);
    assert_eq!(again.last(), (Some(drilled.clone()), Some(Micros(drilled.begun_us))));
    assert!(!again.is_due(&settings));
    assert_eq!(machine.disk("data").list("dbdata/drills").unwrap().len(), 20);
    // A snapshot of then, and a newer one.
    users(&store, 800..801);
    let keep = snapshots::Settings { interval: Duration::from_secs(86_400), keep: 5, verify: true, pace: 1 << 40 };
    let take = |second| {
        at(second);
        Keeper::new(store.clone(), clock.clone()).unwrap().take(&keep, true, &Context::idle()).unwrap().snapshot.id
    };
    let ahead = take(YEARS);
    users(&store, 801..802);
    let newest = take(100_100);
    assert!(id < newest && newest < ahead);
    let drilled = driller.drill(&settings, &Context::idle()).unwrap();
    assert!(drilled.good && drilled.source.contains(&newest), "{drilled:?}");
}

// The same of backups: the next is due, what was taken then is not the newest, and pushes none out.
#[test]
fn a_clock_that_was_ahead_once_ends_no_backup() {
    let (_, store, _) = with_snapshot();
    let clock = env(YEARS);
    let at = |second: u64| clock.set_now(Micros(1_800_000_000_000_000 + second * 1_000_000));
    let dir = PathBuf::from("media");
    let settings = crate::jobs::backups::Settings {
        directory: Some(dir.clone()),
        interval: Duration::from_secs(86_400),
        keep: 1,
        pace: 1 << 40,
        log_bytes: 1 << 30,
        keep_free: 0,
        config: "# nothing\n".to_owned(),
    };
    let backups = Backups::new(store.clone(), clock.clone()).unwrap();
    let once = |backups: &Backups| {
        let dir = backups.due(&settings).expect("one is due");
        let done = backups.attend(&dir, &settings, &Context::idle()).unwrap();
        assert_eq!(backups.due(&settings), None, "it is done");
        done.manifest.time
    };
    let ahead = once(&backups);
    // The same instance, and one that was just started; nothing was changed since, and then something was.
    at(100_000);
    let (first, ours) = (once(&backups), || backups.ours(&dir).unwrap());
    assert_eq!(ours().iter().map(|(_, m)| m.time).collect::<Vec<_>>(), [first], "before {ahead:?}");
    at(YEARS);
    once(&backups);
    users(&store, 810..811);
    at(300_000);
    let started = Backups::new(store.clone(), clock.clone()).unwrap();
    let second = once(&started);
    assert_eq!(ours().iter().map(|(_, m)| m.time).collect::<Vec<_>>(), [second]);
}

// A drill on a backup looked at the whole database, its rows and its rules, and asked nobody whether to go on: a freeze waited for all of
// it, and it could not be cancelled.
#[test]
fn a_drill_on_a_backup_ends_wherever_it_is_cancelled() {
    let machine = SimDisk::new();
    let (store, _) = start(&machine, false, 0).unwrap();
    add(&store, "p");
    users(&store, 0..800);
    let backups = Backups::new(store.clone(), env(5)).unwrap();
    let settings = settings(Some("media"));
    let of = crate::jobs::backups::Settings {
        directory: None,
        interval: Duration::from_secs(86_400),
        keep: 1,
        pace: 1 << 40,
        log_bytes: 1 << 30,
        keep_free: 0,
        config: String::new(),
    };
    let dir = PathBuf::from("media");
    backups.take(&dir, &of, &Context::idle()).unwrap();
    let driller = self::driller(&store, &env(100));
    let all = Context::cancelled_after(1_000_000);
    assert!(driller.drill(&settings, &all).unwrap().good);
    let asked = 1_000_000 - all.left();
    // So often it ended before it had begun to write.
    let mut before = 0;
    for n in 0..asked {
        let (context, ops) = (Context::cancelled_after(n), machine.ops());
        let ended = driller.drill(&settings, &context);
        assert!(matches!(ended, Err(StoreError::Busy { .. })), "asked {n} times of {asked}: {ended:?}");
        before += u64::from(machine.ops() == ops);
    }
    // It is asked in each stretch of the look: the pages, the rows, the rules between them.
    let (backup, _) = backups.ours(&dir).unwrap().pop().unwrap();
    let asked = |look: &dyn Fn(&Backup)| {
        let context = Context::cancelled_after(1_000_000);
        look(&backup.clone().asking(GoOn::asking(context.going_on())));
        1_000_000 - context.left()
    };
    let files = asked(&|backup| drop(backup.read().unwrap()));
    let pages = asked(&|backup| {
        let asked = backup.clone();
        Db::examine_while(backup.disk(), &backup.path(DB_FILE), None, move || asked.goes_on()).unwrap();
    });
    let whole = asked(&|backup| drop(restore::look(backup).unwrap()));
    assert!(files > 0 && pages > 0 && whole >= files + pages + 2 * 2, "{whole}: {files} files, {pages} pages");
    assert!(before > whole, "{before}, and the look alone asks {whole} times");
}
