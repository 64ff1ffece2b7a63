//! The keeper on a simulated disk: stopped at every operation, and on a disk that is full.

use super::*;
use crate::disk::{Disk, Fault, Persist, SimDisk};
use crate::env::SimEnv;
use crate::model::{Command, Rows, Table};
use crate::partition::Roots;
use crate::store::decision::Policy;
use crate::store::{Disks, OnProgress, Options};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) const SETTINGS: Settings =
    Settings { interval: Duration::from_secs(86_400), keep: 2, verify: true, pace: 1 << 40 };

#[derive(Debug)]
struct SimRoots(SimDisk);

impl Roots for SimRoots {
    fn open(&self, path: &Path) -> std::io::Result<Arc<dyn Disk>> {
        Ok(Arc::new(self.0.disk(&path.display().to_string())))
    }

    fn make(&self, path: &Path) -> std::io::Result<Arc<dyn Disk>> {
        self.open(path)
    }
}

/// Opens the store of this machine at a second of its life.
fn open(machine: &SimDisk, second: u64) -> crate::error::Result<(Arc<Store>, Arc<SimEnv>)> {
    let disk = |name: &str| -> Arc<dyn Disk> { Arc::new(machine.disk(name)) };
    let disks = Disks {
        data: disk("data"),
        db: disk("db"),
        log: disk("log"),
        roots: Arc::new(SimRoots(machine.clone())),
        partitions: BTreeMap::new(),
        snapshots: Default::default(),
    };
    open_on(disks, second, 1 << 20)
}

fn open_on(disks: Disks, second: u64, segment_size: u64) -> crate::error::Result<(Arc<Store>, Arc<SimEnv>)> {
    let env = Arc::new(SimEnv::new(Micros(1_800_000_000_000_000 + second * 1_000_000), 7));
    let options = Options { segment_size, inline_limit: 512, spares: 0, database_cache: 1 << 20, ..Options::default() };
    let policy = Policy::default();
    let progress: OnProgress = Arc::new(|_| {});
    let lock = crate::store::take_lock(&disks)?;
    let (store, _) = crate::store::open(disks, env.clone(), options, lock, policy, &progress)?;
    Ok((store, env))
}

/// Starts it, with its keeper.
pub(crate) fn start(machine: &SimDisk, second: u64) -> (Arc<Store>, Keeper, Arc<SimEnv>) {
    let (store, env) = open(machine, second).unwrap();
    let keeper = Keeper::new(store.clone(), env.clone()).unwrap();
    (store, keeper, env)
}

/// Does what is due.
fn tick(keeper: &Keeper, settings: &Settings) {
    while let Some(due) = keeper.due(settings) {
        drop(keeper.attend(&due, settings, &Context::idle()));
    }
}

pub(crate) fn change(store: &Store, name: &str) -> bool {
    let mut id = [0; 16];
    id[..name.len()].copy_from_slice(name.as_bytes());
    store.commit(Command::PartitionAdd { name: name.to_owned(), id }).is_ok()
}

/// A machine whose store has two verified snapshots and was stopped; their names.
fn with_two() -> (SimDisk, Vec<String>) {
    let machine = SimDisk::new();
    let (store, keeper, _) = start(&machine, 0);
    let ids = ["a", "b"].map(|name| {
        assert!(change(&store, name));
        keeper.take(&SETTINGS, true, &Context::idle()).unwrap().snapshot.id
    });
    store.close().unwrap();
    (machine.image(Persist::Nothing), ids.to_vec())
}

// rows 89, 90, 92, 96: wherever it is stopped, what counts as valid passes its verification, and a good one is there.
#[test]
fn stopped_at_every_operation_of_taking_rotating_and_deleting() {
    let (base, ids) = with_two();
    let (mut n, mut finished) = (0, 0);
    while finished < 2 {
        n += 1;
        let machine = base.image(Persist::Everything);
        let (store, keeper, _) = start(&machine, 1000);
        machine.crash_at(machine.ops() + n);
        let changed = change(&store, "c");
        let taken = keeper.take(&SETTINGS, true, &Context::idle());
        let pruned = keeper.prune(&SETTINGS, &Context::idle());
        let deleted = keeper.delete(&ids[1]);
        finished += usize::from(!machine.is_crashed());
        for persist in [Persist::Nothing, Persist::Everything] {
            let case = format!("stopped at {n}, {persist:?}");
            let after = machine.image(persist);
            let (store, keeper, _) = start(&after, 2000);
            let listed = keeper.list().unwrap();
            let valid: Vec<_> = listed.iter().filter(|s| s.valid).collect();
            assert!(!valid.is_empty(), "{case}: no good one is left: {listed:?}");
            assert!(listed.iter().all(|s| s.problems.is_empty()), "{case}: {listed:?}");
            for snapshot in valid {
                let verified = keeper.verify(Some(&snapshot.id), false, &Context::idle()).unwrap();
                assert!(verified[0].findings.is_empty(), "{case}: {verified:?}");
            }
            if let Ok(taken) = &taken {
                let there = listed.iter().find(|s| s.id == taken.snapshot.id);
                assert!(there.is_some_and(|s| s.valid), "{case}: a snapshot that was promised is gone");
                assert!(changed);
            }
            if deleted.is_ok() {
                assert!(listed.iter().all(|s| s.id != ids[1]), "{case}: deleted, and there again");
            }
            if let Ok(removed) = &pruned {
                assert!(listed.iter().all(|s| !removed.contains(&s.id)), "{case}: removed, and there again");
            }
            // The next one works, and clears what was left.
            keeper.take(&SETTINGS, true, &Context::idle()).unwrap_or_else(|e| panic!("{case}: {e}"));
            let data = after.disk("data");
            let left = data.list("dbdata/snapshots").unwrap();
            assert!(left.iter().all(|e| snapshot::lsn_of(&e.name).is_some()), "{case}: {left:?}");
            drop(store);
        }
    }
    assert!(n > 40, "{n} operations");
}

// row 96: a full disk, at every operation: an error, and everything as it was; the store goes on.
#[test]
fn a_full_disk_takes_nothing_away() {
    let (base, ids) = with_two();
    let mut failed = 0;
    for n in 1..200 {
        let machine = base.image(Persist::Everything);
        let (store, keeper, _) = start(&machine, 1000);
        // Behind the checkpoint that comes first: where its control file cannot be written the log takes no more.
        let before = machine.ops();
        store.checkpoint().unwrap();
        let checkpoint = machine.ops() - before;
        let at = machine.ops() + checkpoint + n;
        machine.fail_at(at, Fault::NoSpaceForever);
        let taken = keeper.take(&SETTINGS, true, &Context::idle());
        machine.heal();
        if machine.ops() < at {
            break;
        }
        failed += usize::from(taken.is_err());
        let listed = keeper.list().unwrap();
        let valid = |id: &str| listed.iter().any(|s| s.id == id && s.valid);
        assert!(ids.iter().all(|id| valid(id)), "no space at {n}: {listed:?}");
        assert!(change(&store, "c"), "no space at {n}");
        keeper.take(&SETTINGS, true, &Context::idle()).unwrap_or_else(|e| panic!("no space at {n}: {e}"));
    }
    assert!(failed > 10, "{failed} failures");
}

// rows 86, 93: the first one some time after the first start, the next after the interval; a failure is not tried every second.
#[test]
fn one_is_taken_when_it_is_due() {
    let machine = SimDisk::new();
    let (store, keeper, env) = start(&machine, 0);
    let at = |second: u64| env.set_now(Micros(1_800_000_000_000_000 + second * 1_000_000));
    let count = || keeper.list().unwrap().len();
    let settings = Settings { keep: 3, ..SETTINGS };
    at(590);
    tick(&keeper, &settings);
    assert_eq!((count(), keeper.ages()), (0, Ages::default()));
    at(601);
    tick(&keeper, &settings);
    let first = keeper.ages();
    assert_eq!((count(), first.newest, first.valid), (1, first.valid, first.newest));
    at(601 + 86_000);
    tick(&keeper, &settings);
    assert_eq!(count(), 1);
    for day in 1..6 {
        at(700 + day * 86_500);
        assert!(change(&store, &format!("p{day}")));
        tick(&keeper, &settings);
    }
    assert_eq!(count(), 3, "three are kept");
    let listed = keeper.list().unwrap();
    assert!(listed.iter().all(|s| s.valid), "{listed:?}");
    assert!(keeper.ages().newest > first.newest);
}

// It was said that no snapshot was taken when it was there and only its verification had ended.
#[test]
fn one_whose_verification_was_ended_is_there_and_said_to_be() {
    let machine = SimDisk::new();
    let (store, keeper, _) = start(&machine, 0);
    assert!((0..20).all(|n| change(&store, &format!("p{n}"))));
    let (mut before, mut behind) = (0, 0);
    for asked in 0.. {
        let listed = |keeper: &Keeper| keeper.list().unwrap().len();
        let had = listed(&keeper);
        let why = match keeper.take(&SETTINGS, true, &Context::cancelled_after(asked)) {
            Ok(taken) => {
                assert!(taken.snapshot.valid);
                break;
            }
            Err(StoreError::Busy { why }) => why,
            Err(e) => panic!("asked {asked} times: {e}"),
        };
        match listed(&keeper) - had {
            0 => before += 1,
            _ => behind += 1,
        }
        let is_there = listed(&keeper) > had;
        let last = keeper.list().unwrap().pop().map(|s| s.id).unwrap_or_default();
        let said = format!("snapshot {last} was taken, and is not verified: ");
        assert_eq!(why.starts_with(&said), is_there, "asked {asked} times: {why}");
    }
    assert!(before > 0 && behind > 2, "{before} {behind}");
}

// A clock that was ahead once, by years: the snapshot of then is the newest no longer than until there is one of a higher LSN, pushes
// none out, and ends none.
#[test]
fn a_clock_that_was_ahead_once_ends_nothing() {
    const YEARS: u64 = 10 * 365 * 86_400;
    let machine = SimDisk::new();
    let (store, keeper, env) = start(&machine, 0);
    let at = |second: u64| env.set_now(Micros(1_800_000_000_000_000 + second * 1_000_000));
    let ids = |keeper: &Keeper| -> Vec<String> { keeper.list().unwrap().into_iter().map(|s| s.id).collect() };
    let once = |keeper: &Keeper| {
        let due = keeper.due(&SETTINGS).expect("one is due");
        assert_eq!(due, Due::Take);
        keeper.attend(&due, &SETTINGS, &Context::idle()).unwrap();
        assert_eq!(keeper.due(&SETTINGS), None, "it is done");
    };
    assert!(change(&store, "a"));
    at(YEARS);
    once(&keeper);
    let ahead = ids(&keeper);
    // Nothing was changed since: of the same LSN, that of a time which did not come yet is the older one.
    at(700);
    once(&keeper);
    let [first, second] = <[String; 2]>::try_from(ids(&keeper)).unwrap();
    assert!(first == ahead[0] && second < first, "{first} {second}");
    assert_eq!(store.newest_snapshot().unwrap().id, second);
    at(700 + 86_300);
    assert_eq!(keeper.due(&SETTINGS), None);
    at(700 + 86_500);
    assert!(change(&store, "b"));
    once(&keeper);
    let kept = ids(&keeper);
    assert!(kept.len() == 2 && kept[0] == second && kept[1] > second, "{kept:?}: the newest two by LSN");
    // The same if there are changes between, for a keeper that was just started.
    assert!(change(&store, "c"));
    at(YEARS);
    once(&keeper);
    at(800 + 86_500);
    assert!(change(&store, "d"));
    let keeper = Keeper::new(store.clone(), env.clone()).unwrap();
    once(&keeper);
    let last = ids(&keeper).pop().unwrap();
    assert!(keeper.ages().newest < Some(Micros(1_800_000_000_000_000 + YEARS * 1_000_000)));
    assert_eq!(store.newest_snapshot().unwrap().id, last);
    assert_eq!(keeper.verify(None, false, &Context::idle()).unwrap()[0].id, last);
    at(800 + 2 * 86_500);
    assert!(change(&store, "e"));
    once(&keeper);
    assert!(ids(&keeper).contains(&last), "what is of a time that did not come yet pushes nothing out");
}

// rows 43, 162: a disk that is full while the snapshot is copied into the place of a bad database: the start is refused, the bad database and the
// snapshot stay where they are, and with room again the same start goes back and loses nothing.
#[test]
fn a_full_disk_stops_a_rollback_and_changes_nothing() {
    let base = SimDisk::new();
    let (store, keeper, _) = start(&base, 0);
    assert!(change(&store, "a"));
    keeper.take(&SETTINGS, true, &Context::idle()).unwrap();
    assert!(change(&store, "b"));
    store.seal().unwrap();
    drop((keeper, store));
    let base = base.image(Persist::Nothing);
    let database = base.disk("db").peek("mboxlist.redb").unwrap();
    base.disk("db").erase("mboxlist.redb").unwrap();
    base.disk("db").plant("mboxlist.redb", &vec![0xd5; database.len()]).unwrap();
    let names = |store: &Store| {
        let mut names = Vec::new();
        let each = &mut |key: &[u8], _: &[u8]| {
            names.push(String::from_utf8_lossy(key).into_owned());
            std::ops::ControlFlow::Continue(())
        };
        store.view().scan(Table::Partitions, std::ops::Bound::Unbounded, each).unwrap();
        names
    };
    let mut refused = 0;
    for room in (0..).map(|n: u64| n * (16 << 10)) {
        let machine = base.image(Persist::Everything);
        let bad = machine.disk("db").peek("mboxlist.redb").unwrap();
        assert_ne!(bad, database);
        machine.disk("db").set_free_bytes(room);
        let opened = open(&machine, 100);
        machine.disk("db").set_unbounded();
        let refusal = match opened {
            Ok(_) => break,
            Err(e) => e,
        };
        assert!(matches!(refusal, StoreError::NoSpace { .. }), "{room} bytes free: {refusal}");
        refused += 1;
        let machine = machine.image(Persist::Nothing);
        assert!(machine.disk("db").peek("mboxlist.redb").unwrap() == bad, "{room} bytes free: the bad one stays");
        let (store, _) = open(&machine, 200).unwrap();
        assert_eq!(names(&store), ["a", "b"], "{room} bytes free");
    }
    assert!(refused > 2, "{refused}");
}

/// A directory for snapshots on a disk that fails when it is told to.
#[derive(Debug)]
struct Shaky {
    machine: SimDisk,
    fails: AtomicBool,
}

impl Shaky {
    fn fails(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }
}

impl Roots for Shaky {
    fn open(&self, path: &Path) -> std::io::Result<Arc<dyn Disk>> {
        match self.fails.load(Ordering::SeqCst) {
            true => Err(rustix::io::Errno::IO.into()),
            false => Ok(Arc::new(self.machine.disk(&path.display().to_string()))),
        }
    }

    fn make(&self, path: &Path) -> std::io::Result<Arc<dyn Disk>> {
        self.open(path)
    }
}

/// A place on another disk, with a snapshot and several log files behind it.
struct Elsewhere {
    roots: Arc<Shaky>,
    store: Arc<Store>,
    keeper: Keeper,
    env: Arc<SimEnv>,
}

const FAR: &str = "/far";
const SEGMENT: u64 = 16 << 10;

impl Elsewhere {
    fn start(roots: Arc<Shaky>, second: u64) -> Elsewhere {
        let disk = |name: &str| -> Arc<dyn Disk> { Arc::new(roots.machine.disk(name)) };
        let disks = Disks {
            data: disk("data"),
            db: disk("db"),
            log: disk("log"),
            roots: roots.clone(),
            partitions: BTreeMap::new(),
            snapshots: snapshot::Place::At(FAR.into()),
        };
        let (store, env) = open_on(disks, second, SEGMENT).unwrap();
        let keeper = Keeper::new(store.clone(), env.clone()).unwrap();
        Elsewhere { roots, store, keeper, env }
    }

    /// With the name of the snapshot.
    fn new() -> (Elsewhere, Snapshot) {
        let far = Elsewhere::start(Arc::new(Shaky { machine: SimDisk::new(), fails: AtomicBool::new(false) }), 0);
        assert!(far.keeper.due(&SETTINGS).is_none() && far.store.snapshots_not_read().is_empty());
        assert!(change(&far.store, "first"));
        let taken = far.keeper.take(&SETTINGS, true, &Context::idle()).unwrap().snapshot;
        far.write_log("a");
        (far, taken)
    }

    /// More than three log files, all of it in the database.
    fn write_log(&self, prefix: &str) {
        for n in 0..700 {
            assert!(change(&self.store, &format!("{prefix}{n}")));
        }
        self.store.checkpoint().unwrap();
    }

    fn again(self, second: u64) -> Elsewhere {
        let roots = self.roots.clone();
        self.store.close().unwrap();
        drop(self);
        Elsewhere::start(roots, second)
    }

    fn oldest(&self) -> u64 {
        self.store.segments().first().unwrap().segment.first_lsn.0
    }

    /// Everything behind this snapshot is kept, and named so.
    fn assert_kept(&self, of: &Snapshot, case: &str) {
        self.store.clean_log().unwrap();
        assert!(self.oldest() <= of.lsn.0 + 1, "{case}: the log begins at {}", self.oldest());
        let kept = self.store.partitions().past().moments();
        assert!(kept.is_none_or(|kept| kept.contains(&of.lsn)), "{case}: indexes keep it no more");
    }

    fn chosen(&self) -> Option<String> {
        self.store.newest_snapshot().map(|newest| newest.id)
    }
}

// rows 68, 95: a place of snapshots that cannot be read for once gave up the log behind all snapshots in it, and no later success brought it back.
// What was known of it stays, also when it was never read in this life; an alarm names the place until it is read again.
#[test]
fn a_place_that_cannot_be_read_gives_up_no_log() {
    let (far, of) = Elsewhere::new();
    far.assert_kept(&of, "as it is");
    far.roots.fails(true);
    far.store.follow_snapshots();
    far.write_log("b");
    far.assert_kept(&of, "it fails");
    assert_eq!(far.chosen(), Some(of.id.clone()));
    let [(place, why)] = &far.store.snapshots_not_read()[..] else { panic!("no alarm") };
    assert!(place == FAR && why.contains(FAR), "{place} {why}");

    let far = far.again(1000);
    far.write_log("c");
    far.assert_kept(&of, "it was not read in this life");
    assert_eq!((far.chosen(), far.store.snapshots_not_read().len()), (None, 1));
    // It is looked at again by itself.
    far.roots.fails(false);
    far.env.set_now(Micros(1_800_000_000_000_000 + 1100 * 1_000_000));
    drop(far.keeper.due(&SETTINGS));
    assert_eq!((far.chosen(), far.store.snapshots_not_read()), (Some(of.id.clone()), Vec::new()));
    far.assert_kept(&of, "it is back");

    // Not without end: what may be there keeps as much as is allowed.
    far.roots.fails(true);
    let far = far.again(2000);
    far.store.set_snapshot_log(3 * SEGMENT);
    far.write_log("d");
    far.store.clean_log().unwrap();
    assert!(far.oldest() > of.lsn.0 + 1 && (4..=5).contains(&far.store.segments().len()), "{}", far.oldest());
    // And nothing is kept where nothing ever was.
    let fresh = Elsewhere::start(Arc::new(Shaky { machine: SimDisk::new(), fails: AtomicBool::new(false) }), 0);
    fresh.write_log("e");
    assert_eq!(fresh.store.segments().len(), 1);
}

// rows 68, 95: the same for one snapshot of which a file cannot be read: it is what it was, and what it may be where nobody knows.
#[test]
fn a_snapshot_that_cannot_be_read_gives_up_no_log() {
    let (far, of) = Elsewhere::new();
    let (disk, file) = (far.roots.machine.disk(FAR), format!("{}/{}", of.id, snapshot::MANIFEST));
    disk.set_unreadable(&file, true).unwrap();
    far.store.follow_snapshots();
    far.assert_kept(&of, "it fails");
    assert_eq!((far.chosen(), far.store.snapshots_not_read().len()), (Some(of.id.clone()), 1));
    let far = far.again(1000);
    far.write_log("b");
    far.assert_kept(&of, "it was not read in this life");
    disk.set_unreadable(&file, false).unwrap();
    far.store.follow_snapshots();
    assert_eq!((far.chosen(), far.store.snapshots_not_read()), (Some(of.id.clone()), Vec::new()));
}

// rows 90, 92: a disk that does not give the bytes proves nothing about them. The verification took the mark away, so that a good snapshot could
// not be chosen any more, and rotation removed what could not be read; it is an error now, the others are looked at, and what passed stays valid.
#[test]
fn a_snapshot_that_cannot_be_read_is_not_judged() {
    let (machine, ids) = with_two();
    let (_store, keeper, env) = start(&machine, 1000);
    let disk = machine.disk("data");
    let valid = |id: &str| keeper.list().unwrap().iter().any(|s| s.id == id && s.valid);
    for file in [snapshot::DB_FILE, snapshot::MANIFEST, snapshot::VERIFIED] {
        let path = format!("dbdata/snapshots/{}/{file}", ids[0]);
        disk.set_unreadable(&path, true).unwrap();
        for all in [None, Some(&ids[0][..])] {
            let e = keeper.verify(all, all.is_none(), &Context::idle()).unwrap_err();
            assert!(e.exit() == exit::IO && e.to_string().contains(file), "{file}: {e}");
        }
        if file != snapshot::DB_FILE {
            let removed = keeper.prune(&Settings { keep: 1, ..SETTINGS }, &Context::idle()).unwrap();
            assert_eq!(removed, [""; 0], "{file}");
        }
        disk.set_unreadable(&path, false).unwrap();
        assert!(valid(&ids[0]) && valid(&ids[1]), "{file}");
    }
    // One that was taken without is tried again until it could be read.
    let taken = keeper.take(&SETTINGS, false, &Context::idle()).unwrap().snapshot.id;
    let path = format!("dbdata/snapshots/{taken}/{}", snapshot::DB_FILE);
    disk.set_unreadable(&path, true).unwrap();
    tick(&keeper, &SETTINGS);
    assert!(!valid(&taken));
    disk.set_unreadable(&path, false).unwrap();
    env.set_now(Micros(1_800_000_000_000_000 + 1700 * 1_000_000));
    tick(&keeper, &SETTINGS);
    assert!(valid(&taken));
    // What is proven to be wrong takes the mark away.
    disk.damage(&path, 8000, 1).unwrap();
    assert!(!keeper.verify(Some(&taken), false, &Context::idle()).unwrap()[0].findings.is_empty());
    disk.damage(&path, 8000, 1).unwrap();
    assert!(!valid(&taken));
}

// A verification that got no thread panicked, and with it the job; it looks at one thing after the other now.
#[test]
fn a_verification_needs_no_help() {
    let (machine, ids) = with_two();
    let (_store, keeper, _) = start(&machine, 1000);
    let verified = crate::beside::tests::alone(|| keeper.verify(Some(&ids[0]), false, &Context::idle())).unwrap();
    assert!(verified[0].findings.is_empty() && verified[0].rows > 0, "{verified:?}");
}
