//! Backups and restores on a simulated disk: stopped at every operation, twice, and on a disk that is full.

use super::*;
use crate::disk::{Fault, Persist, SimDisk};
use crate::env::SimEnv;
use crate::jobs::backups::{self, Backups};
use crate::jobs::registry::Context;
use crate::model::{Command, Rows, Table};
use crate::partition::Roots;
use crate::store::decision::Policy;
use crate::store::{self, Disks, OnProgress, Options, Store};
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::time::Duration;

const MEDIA: &str = "media";
const DAY: u64 = 86_400;

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

pub(in crate::jobs) fn env(second: u64) -> Arc<SimEnv> {
    Arc::new(SimEnv::new(Micros(1_800_000_000_000_000 + second * 1_000_000), second + 7))
}

/// Database and log below the data directory, or the log on a disk of its own.
fn target(machine: &SimDisk, apart: bool) -> Target {
    let data: Arc<dyn Disk> = Arc::new(machine.disk("data"));
    let log = apart.then(|| Spot { parent: Arc::new(machine.disk("logs")), name: "log".to_owned() });
    Target { db: Spot { parent: data.clone(), name: "mboxlist".to_owned() }, data, log }
}

fn disks(machine: &SimDisk, apart: bool) -> Disks {
    let target = target(machine, apart);
    for spot in target.spots() {
        spot.parent.create_dir(&spot.name).unwrap();
        spot.parent.sync_dir("").unwrap();
    }
    Disks {
        data: target.data.clone(),
        db: target.db.disk(),
        log: target.log().disk(),
        roots: Arc::new(SimRoots(machine.clone())),
        partitions: BTreeMap::new(),
        snapshots: Default::default(),
    }
}

/// A start as the daemon's.
pub(in crate::jobs) fn start(machine: &SimDisk, apart: bool, second: u64) -> Result<(Arc<Store>, store::Report)> {
    finish(&target(machine, apart))?;
    let disks = disks(machine, apart);
    let options =
        Options { segment_size: 32 << 10, spares: 0, database_cache: 1 << 20, id_block: 4, ..Options::default() };
    let policy = Policy::default();
    let progress: OnProgress = Arc::new(|_| {});
    let lock = store::take_lock(&disks)?;
    store::open(disks, env(second), options, lock, policy, &progress)
}

pub(in crate::jobs) fn add(store: &Store, name: &str) {
    let mut id = [0; 16];
    id[..name.len()].copy_from_slice(name.as_bytes());
    store.commit(Command::PartitionAdd { name: name.to_owned(), id }).unwrap();
}

pub(in crate::jobs) fn users(store: &Store, names: std::ops::Range<u32>) {
    for n in names {
        let user = format!("u{n}@example.org");
        store
            .commit(Command::UserAdd { user, partition: Some("p".into()), quota_bytes: None, quota_messages: None })
            .unwrap();
    }
}

/// Every row of every table.
fn rows(store: &Store) -> Vec<(Table, Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    for table in Table::ALL {
        let mut each = |key: &[u8], row: &[u8]| {
            all.push((table, key.to_vec(), row.to_vec()));
            ControlFlow::Continue(())
        };
        store.view().scan(table, Bound::Unbounded, &mut each).unwrap();
    }
    all
}

fn settings() -> backups::Settings {
    backups::Settings {
        directory: None,
        interval: Duration::from_secs(DAY),
        keep: 2,
        pace: 1 << 40,
        log_bytes: 1 << 30,
        keep_free: 0,
        config: "# nothing\n".to_owned(),
    }
}

fn take(store: &Arc<Store>, second: u64) -> Result<backups::Done> {
    let backups = Backups::new(store.clone(), env(second))?;
    backups.take(Path::new(MEDIA), &settings(), &Context::idle())
}

fn newest(machine: &SimDisk) -> Option<Backup> {
    let media: Arc<dyn Disk> = Arc::new(machine.disk(MEDIA));
    let name = Backup::list(&*media).unwrap().pop()?;
    Some(Backup::at(media, &name))
}

fn restore(machine: &SimDisk, apart: bool, second: u64) -> Result<()> {
    let target = target(machine, apart);
    let plan = Plan::make(newest(machine).expect("a backup"), &target, false, env(second).now())?;
    plan.run(&target, &*env(second), 32 << 10, &mut |_| {})
}

/// A stopped store that was backed up and changed since; the rows of both moments.
type Rowed = Vec<(Table, Vec<u8>, Vec<u8>)>;
fn with_backup(apart: bool) -> (SimDisk, Rowed, Rowed) {
    let machine = SimDisk::new();
    let (store, _) = start(&machine, apart, 0).unwrap();
    add(&store, "p");
    users(&store, 0..5);
    // The log behind the checkpoint is in the backup, too.
    let backups = Backups::new(store.clone(), env(1)).unwrap();
    let (during, mut told) = (store.clone(), 0);
    let mut each = |_: &str| {
        told += 1;
        if told == 2 {
            users(&during, 5..9);
        }
    };
    backups.take_told(Path::new(MEDIA), &settings(), &Context::idle(), &mut each).unwrap();
    let then = rows(&store);
    users(&store, 9..12);
    let now = rows(&store);
    store.close().unwrap();
    (machine.image(Persist::Nothing), then, now)
}

// rows 69, 71, 74, 78, 79, 83: what was answered when the logs were asked for is there, in a new epoch, and what came later is named.
#[test]
fn a_backup_under_changes_comes_back_as_it_was() {
    for apart in [false, true] {
        let (machine, then, _) = with_backup(apart);
        let control = Control::load(&*target(&machine, apart).data).unwrap().state.unwrap();
        for nth in 1..3 {
            let place = target(&machine, apart);
            let plan = Plan::make(newest(&machine).unwrap(), &place, false, env(100).now()).unwrap();
            if nth == 1 {
                let later = plan.later().unwrap();
                assert_eq!(later.from, plan.manifest.reached.next());
                assert!(later.transactions == 3 && later.mailboxes.iter().any(|m| m.contains("u11")), "{later:?}");
            }
            let aside = plan.aside(&place);
            plan.run(&place, &*env(100), 32 << 10, &mut |_| {}).unwrap();
            let day = if nth == 1 { "asof20270115" } else { "asof20270115-2" };
            assert_eq!(aside.len(), if apart { 4 } else { 3 });
            assert!(aside.iter().all(|(from, to)| *to == format!("{from}.{day}")), "{aside:?}");
            assert!(place.db.parent.stat(&format!("mboxlist.{day}")).unwrap().is_some());
            let (store, report) = start(&machine, apart, 200).unwrap();
            assert_eq!((report.decision.as_str(), &report.lost), ("replay", &None));
            assert_eq!(rows(&store), then);
            assert!(store.epoch() > control.epoch);
            assert!(store.published_lsn() > control.durable_lsn, "I3");
            let after = store.control_state();
            assert!(
                after.uidvalidity_high >= control.uidvalidity_high && after.object_id_high >= control.object_id_high
            );
            users(&store, 20..22);
            store.close().unwrap();
        }
    }
}

// row 74, I6: on a machine that knows nothing of the store, numbers are kept clear of what may have been given since.
#[test]
fn a_backup_comes_up_where_nothing_is() {
    let (machine, then, _) = with_backup(false);
    let before = Control::load(&*newest(&machine).unwrap().as_disk()).unwrap().state.unwrap();
    let place = Target {
        data: Arc::new(machine.disk("new")),
        db: Spot { parent: Arc::new(machine.disk("new")), name: "m".into() },
        log: None,
    };
    let plan = Plan::make(newest(&machine).unwrap(), &place, false, env(100).now()).unwrap();
    assert!(plan.later().is_none() && plan.aside(&place).is_empty());
    plan.run(&place, &*env(100), 32 << 10, &mut |_| {}).unwrap();
    let there = Disks { data: place.data.clone(), db: place.db.disk(), log: place.db.disk(), ..disks(&machine, false) };
    let options = Options { segment_size: 32 << 10, spares: 0, database_cache: 1 << 20, ..Options::default() };
    let strict = Policy { strict: true, ..Policy::default() };
    let lock = store::take_lock(&there).unwrap();
    let (store, _) = store::open(there, env(200), options, lock, strict, &(Arc::new(|_| {}) as OnProgress)).unwrap();
    assert_eq!(rows(&store), then);
    let after = store.control_state();
    assert!(
        after.uidvalidity_high > before.uidvalidity_high + 1000 && after.object_id_high > before.object_id_high + 1000
    );
    assert!(
        after.highest_segment > before.highest_segment + 1000
            && store.published_lsn().0 > before.durable_lsn.0 + (1 << 30)
    );
}

// row 77 of another kind: a backup of one store is not put over another.
#[test]
fn another_store_is_not_replaced_unasked() {
    let (machine, _, _) = with_backup(false);
    let other = SimDisk::new();
    start(&other, false, 1).unwrap().0.close().unwrap();
    let place = target(&other, false);
    let refused = Plan::make(newest(&machine).unwrap(), &place, false, env(1).now()).unwrap_err();
    assert!(
        matches!(&refused, StoreError::Refused { exit: exit::BAD_INPUT, message, .. } if message.contains("is the store")),
        "{refused}"
    );
    Plan::make(newest(&machine).unwrap(), &place, true, env(1).now()).unwrap();
}

// rows 65, 67, 73; I4: wherever it is stopped there is a whole backup or none, the store has everything, and no log went that is not copied.
#[test]
fn a_backup_stopped_at_every_operation() {
    let (base, _, now) = with_backup(false);
    let (mut n, mut finished) = (0, 0);
    while finished < 2 {
        n += 1;
        let machine = base.image(Persist::Everything);
        let (store, _) = start(&machine, false, 1000).unwrap();
        machine.crash_at(machine.ops() + n);
        let taken = take(&store, 1001);
        finished += usize::from(!machine.is_crashed());
        for persist in [Persist::Nothing, Persist::Everything] {
            let case = format!("stopped at {n}, {persist:?}");
            let after = machine.image(persist);
            let (store, report) = start(&after, false, 2000).unwrap_or_else(|e| panic!("{case}: {e}"));
            assert!(report.lost.is_none() && rows(&store) == now, "{case}: {report:?}");
            let media: Arc<dyn Disk> = Arc::new(after.disk(MEDIA));
            let names = Backup::list(&*media).unwrap();
            for name in &names {
                verify(&Backup::at(media.clone(), name)).unwrap_or_else(|e| panic!("{case}: {name}: {e}"));
            }
            assert!(names.len() == 2 || taken.is_err(), "{case}: a backup that was promised is gone");
            // Twice: stopped again at another place, and then it works and clears what was left.
            let again = after.image(Persist::Everything);
            drop(store);
            let (store, _) = start(&again, false, 3000).unwrap();
            again.crash_at(again.ops() + 1 + n * 7 % 40);
            drop(take(&store, 3001));
            let last = again.image(persist);
            let (store, _) = start(&last, false, 4000).unwrap_or_else(|e| panic!("{case}, again: {e}"));
            take(&store, 4001).unwrap_or_else(|e| panic!("{case}, again: {e}"));
            let left = last.disk(MEDIA).list("").unwrap();
            assert!(left.iter().all(|e| !e.name.ends_with(".new")), "{case}: {left:?}");
            verify(&newest(&last).unwrap()).unwrap();
        }
    }
    assert!(n > 40, "{n} operations");
}

// row 73: a full medium, at every operation: an error, no backup, and no log is given up.
#[test]
fn a_full_medium_gives_up_nothing() {
    let (base, _, now) = with_backup(false);
    let mut failed = 0;
    for n in 1..400 {
        let machine = base.image(Persist::Everything);
        let (store, _) = start(&machine, false, 1000).unwrap();
        let segments =
            |store: &Store| -> Vec<String> { store.segments().into_iter().map(|s| s.segment.file).collect() };
        let mut before = Vec::new();
        for round in 0..3 {
            users(&store, 100 + round * 100..200 + round * 100);
            before = segments(&store);
        }
        let backups = Backups::new(store.clone(), env(1001)).unwrap();
        let mut at = 0;
        let mut each = |step: &str| {
            // Behind the checkpoint: where that has no room no backup begins.
            if step.starts_with("checkpoint") {
                at = machine.ops() + n;
                machine.fail_at(at, Fault::NoSpaceForever);
            }
        };
        let taken = backups.take_told(Path::new(MEDIA), &settings(), &Context::idle(), &mut each);
        machine.heal();
        if machine.ops() < at {
            break;
        }
        let left = segments(&store);
        match &taken {
            Ok(done) => assert!(done.removed.iter().all(|file| !left.contains(file))),
            Err(e) => {
                failed += 1;
                assert!(before.iter().all(|file| left.contains(file)), "no space at {n}, {e}: {before:?}, {left:?}");
                // Only the sync of its name may be what failed.
                let media: Arc<dyn Disk> = Arc::new(machine.disk(MEDIA));
                for name in Backup::list(&*media).unwrap() {
                    verify(&Backup::at(media.clone(), &name)).unwrap_or_else(|e| panic!("no space at {n}: {e}"));
                }
                assert!(backups.last().failure.is_some());
            }
        }
        assert!(rows(&store).len() > now.len());
        // The medium is the machine's: the log may have met the full disk, too.
        drop((backups, store));
        let (store, _) = start(&machine, false, 1100).unwrap();
        users(&store, 500..501);
        take(&store, 1202).unwrap_or_else(|e| panic!("no space at {n}, then: {e}"));
    }
    assert!(failed > 10, "{failed} failures");
}

/// What a start finds: the store as it was, or the backup.
fn expect_old_or_new(machine: &SimDisk, apart: bool, then: &Rowed, now: &Rowed, case: &str) -> bool {
    let (store, report) = start(machine, apart, 9000).unwrap_or_else(|e| panic!("{case}: {e}"));
    assert!(report.lost.is_none(), "{case}: {report:?}");
    let found = rows(&store);
    assert!(found == *then || found == *now, "{case}: neither the old one nor the new one");
    let new = found == *then;
    assert_eq!(store.epoch().0 > 0, new, "{case}");
    users(&store, 40..41);
    store.close().unwrap();
    new
}

// rows 78, 79: wherever a restore is stopped, and stopped again while a start finishes it, the store is the old one or the new one.
#[test]
fn a_restore_stopped_at_every_operation_twice() {
    for apart in [false, true] {
        let (base, then, now) = with_backup(apart);
        let (mut n, mut finished, mut news, mut olds) = (0, 0, 0, 0);
        while finished < 2 {
            n += 1;
            let machine = base.image(Persist::Everything);
            machine.crash_at(machine.ops() + n);
            let done = restore(&machine, apart, 1000);
            finished += usize::from(!machine.is_crashed());
            for persist in [Persist::Nothing, Persist::Everything] {
                let case = format!("log apart {apart}, stopped at {n}, {persist:?}");
                let after = machine.image(persist);
                let new = expect_old_or_new(&after, apart, &then, &now, &case);
                assert!(new || done.is_err(), "{case}: a restore that was done is not there");
                (news, olds) = (news + usize::from(new), olds + usize::from(!new));
                if is_pending(&machine.image(persist).disk("data")).unwrap() {
                    for m in 1..200 {
                        let again = machine.image(persist);
                        again.crash_at(again.ops() + m);
                        drop(finish(&target(&again, apart)));
                        let over = !again.is_crashed();
                        let last = again.image([Persist::Nothing, Persist::Everything][m as usize % 2]);
                        assert!(
                            expect_old_or_new(&last, apart, &then, &now, &format!("{case}, and at {m}")),
                            "{case}, {m}"
                        );
                        if over {
                            break;
                        }
                    }
                }
            }
            // The same command again does it.
            let again = machine.image(Persist::Nothing);
            finish(&target(&again, apart)).unwrap();
            restore(&again, apart, 1500).unwrap_or_else(|e| panic!("stopped at {n}, again: {e}"));
            assert!(expect_old_or_new(&again, apart, &then, &now, "again"));
        }
        assert!(news > 5 && olds > 20, "{news} new, {olds} old");
    }
}

// A full disk before the exchange changes nothing; after it, the next start finishes it.
#[test]
fn a_restore_on_a_full_disk_is_not_begun() {
    let (base, then, now) = with_backup(false);
    let mut failed = 0;
    for n in 1..400 {
        let machine = base.image(Persist::Everything);
        let at = machine.ops() + n;
        machine.fail_at(at, Fault::NoSpaceForever);
        let done = restore(&machine, false, 1000);
        machine.heal();
        if machine.ops() < at {
            break;
        }
        failed += usize::from(done.is_err());
        let pending = is_pending(&machine.disk("data")).unwrap();
        let new = expect_old_or_new(&machine, false, &then, &now, &format!("no space at {n}"));
        assert!(new || !(pending || done.is_ok()), "no space at {n}");
    }
    assert!(failed > 10, "{failed}");
}

// row 67: a hold is bounded, and whoever has it is told.
#[test]
fn a_hold_on_the_log_is_broken_before_it_fills_the_disk() {
    let machine = SimDisk::new();
    let (store, _) = start(&machine, false, 0).unwrap();
    add(&store, "p");
    let hold = store.hold_log("backup: a test", 160 << 10);
    let grow = |from: u32| {
        users(&store, from..from + 300);
        store.checkpoint().unwrap();
    };
    grow(0);
    assert!(hold.check().is_ok());
    let held = store.segments();
    assert!(held.len() > 1 && held[0].kept_for.iter().any(|why| why.contains("a test")), "{held:?}");
    (1..6).for_each(|n| grow(n * 300));
    assert!(matches!(hold.check(), Err(StoreError::Busy { .. })));
    assert!(store.segments().len() < 3, "{:?}", store.segments());
    // One that ends gives the log back.
    let hold = store.hold_log("backup: another", 1 << 30);
    (6..9).for_each(|n| grow(n * 300));
    assert!(store.segments().len() > 3);
    drop(hold);
    assert!(!store.clean_log().unwrap().is_empty());
}
