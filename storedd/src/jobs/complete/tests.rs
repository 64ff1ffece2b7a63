//! A complete copy on a simulated disk, stopped at every operation: what is taken for whole is whole.

#![allow(clippy::disallowed_methods, reason = "files whose numbers go to others are of a real disk")]

use super::*;
use crate::disk::{Persist, RealDisk, SimDisk};
use crate::env::{Env, SimEnv};
use crate::jobs::restore::{self, Plan, Spot, Target};
use crate::lsn::Epoch;
use crate::mail::Intake;
use crate::model::command::{Delivery, Selection, Target as Addressee};
use crate::model::message::{Flags, Message, State};
use crate::model::rows::{MailboxRow, Row};
use crate::model::{Command, MailboxName, Rows, Table};
use crate::partition::Roots;
use crate::partition::bodies::Body;
use crate::partition::identity::Applied;
use crate::partition::index::{Index, Run, Stamped};
use crate::partition::past::{self, GivenUp, Stretch};
use crate::partition::tree::{Home, Place};
use crate::store::decision::Policy;
use crate::store::{self, Disks, OnProgress, Options};
use std::collections::BTreeSet;

const PRIMARY: &str = "primary";
const COPY: &str = "copy";

#[derive(Debug)]
struct SimRoots(SimDisk);

impl Roots for SimRoots {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        Ok(Arc::new(self.0.disk(&path.display().to_string())))
    }

    fn make(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        self.open(path)
    }
}

/// Where the database and the log lie, below the data directory.
fn target(machine: &SimDisk) -> Target {
    let data: Arc<dyn Disk> = Arc::new(machine.disk("data"));
    Target { db: Spot { parent: data.clone(), name: "mboxlist".to_owned() }, data, log: None }
}

fn open(machine: &SimDisk) -> Arc<Store> {
    let target = target(machine);
    target.data.create_dir("mboxlist").and_then(|()| target.data.sync_dir("")).unwrap();
    let disks = Disks {
        data: target.data.clone(),
        db: target.db.disk(),
        log: target.db.disk(),
        roots: Arc::new(SimRoots(machine.clone())),
        partitions: [(PRIMARY.to_owned(), PRIMARY.into())].into(),
        snapshots: Default::default(),
    };
    let options = Options {
        segment_size: 64 << 10,
        spares: 0,
        database_cache: 1 << 20,
        id_block: 4,
        inline_limit: 600,
        ..Options::default()
    };
    let progress: OnProgress = Arc::new(|_| {});
    let lock = store::take_lock(&disks).unwrap();
    let env = Arc::new(SimEnv::new(Micros(1_800_000_000_000_000), 7));
    store::open(disks, env, options, lock, Policy::default(), &progress).unwrap().0
}

fn deliver(store: &Arc<Store>, bytes: usize, to: &[&str]) {
    let mut intake = Intake::new(store, PRIMARY);
    intake.add(&vec![b'x'; bytes]).unwrap();
    let message = intake.finish().unwrap();
    let to = to.iter().map(|name| Addressee { name: (*name).to_owned(), or: None }).collect();
    let delivery =
        Delivery { message, to, flags: Flags::NONE, keywords: BTreeSet::new(), internal_us: None, each: false };
    store.commit(Command::Deliver(delivery)).unwrap();
}

/// A store with two users, messages that are files, and one that is only staged.
fn store_with_mail(machine: &SimDisk) -> Arc<Store> {
    let store = open(machine);
    let id = store.partitions().prepare(PRIMARY, PartitionId([1; 16]), Micros(1)).unwrap();
    store.commit(Command::PartitionAdd { name: PRIMARY.to_owned(), id: id.0 }).unwrap();
    for user in ["joe", "ann"] {
        let add = Command::UserAdd { user: user.to_owned(), partition: None, quota_bytes: None, quota_messages: None };
        store.commit(add).unwrap();
    }
    deliver(&store, 100, &["user/joe/INBOX", "user/ann/INBOX"]);
    deliver(&store, 5000, &["user/joe/INBOX"]);
    store.checkpoint().unwrap();
    let of = Selection { name: "user/joe/INBOX".to_owned(), uids: vec![2], ..Selection::default() };
    store.commit(Command::MessageExpunge { of }).unwrap();
    deliver(&store, 3000, &["user/ann/INBOX"]);
    store
}

fn copy(store: &Arc<Store>) -> Result<Done> {
    let settings = Settings {
        directory: None,
        interval: Duration::from_secs(86_400),
        keep: 2,
        pace: 1 << 40,
        log_bytes: 1 << 30,
        keep_free: 0,
        config: "# nothing\n".to_owned(),
    };
    let backups = Backups::new(store.clone(), Arc::new(SimEnv::new(Micros(1_800_000_100_000_000), 8)))?;
    let wanted = Wanted { settings: &settings, configuration: Vec::new() };
    take(store, &backups, Path::new(COPY), &wanted, &Context::idle())
}

/// True if there is a copy that counts as whole, which then is.
fn is_whole(machine: &SimDisk, what: &str) -> bool {
    match Found::at(Arc::new(machine.disk(COPY))) {
        Err(StoreError::Refused { .. }) | Ok(None) => false,
        Err(e) => panic!("{what}: {e}"),
        Ok(Some(found)) => {
            let (_, unfit) = found.verify().unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(unfit, [], "{what}");
            restore::verify(&found.backup()).unwrap_or_else(|e| panic!("{what}: {e}"));
            true
        }
    }
}

#[test]
fn a_copy_stopped_at_every_operation_is_refused_or_whole() {
    let (mut n, mut whole, mut not) = (0, 0, 0);
    loop {
        n += 1;
        let machine = SimDisk::new();
        let store = store_with_mail(&machine);
        machine.crash_at(machine.ops() + n);
        let done = copy(&store);
        let crashed = machine.is_crashed();
        for persist in [Persist::Nothing, Persist::Everything] {
            let is_whole = is_whole(&machine.image(persist), &format!("stopped at {n}, {persist:?}"));
            assert!(is_whole || done.is_err(), "stopped at {n}, {persist:?}: what was answered is not there");
            (whole, not) = (whole + usize::from(is_whole), not + usize::from(!is_whole));
        }
        if !crashed {
            let Done { manifest, skipped, .. } = done.unwrap();
            assert_eq!((manifest.tally.messages, manifest.tally.mailboxes), (4, 2));
            assert!(skipped.is_empty());
            break;
        }
    }
    assert!(not > 50 && whole >= 2, "{whole} whole, {not} not");
}

// A byte of any file of a copy, another one than was written: it is named
#[test]
fn every_file_of_a_copy_is_looked_at() {
    let machine = SimDisk::new();
    copy(&store_with_mail(&machine)).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(machine.disk(COPY));
    let found = Found::at(disk.clone()).unwrap().unwrap();
    let mut list = Reader::open(&disk, FILES, found.manifest.list).unwrap();
    let mut paths = vec![FILES.to_owned()];
    while let Some(entry) = list.next().unwrap() {
        paths.push(entry.path().to_owned());
    }
    assert!(paths.len() > 6, "{paths:?}");
    for path in paths {
        let damaged = machine.image(Persist::Everything);
        let file = damaged.disk(COPY).open(&path, Access::Write).unwrap();
        let mut byte = [0];
        file.read_at(0, &mut byte).unwrap();
        file.write_at(0, &[byte[0] ^ 1]).unwrap();
        let found = Found::at(Arc::new(damaged.disk(COPY))).unwrap().unwrap();
        let refused = match found.verify() {
            Ok((_, unfit)) => {
                assert!(path.ends_with(".msg") && unfit.len() == 1, "{path}: {unfit:?}");
                unfit[0].why.clone()
            }
            Err(e) => e.to_string(),
        };
        assert!(refused.contains(&path), "{path}: {refused}");
    }
}

/// A partition whose files have numbers, beside a copy of it.
struct Beside {
    partition: Arc<dyn Disk>,
    out: Arc<dyn Disk>,
    dir: tempfile::TempDir,
}

impl Beside {
    fn new() -> Beside {
        let dir = tempfile::tempdir().unwrap();
        let root = |name: &str| -> Arc<dyn Disk> {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).unwrap();
            Arc::new(RealDisk::new(&path).unwrap())
        };
        Beside { partition: root("partition"), out: root("copy"), dir }
    }

    fn path(&self, place: &Place, uid: u32) -> PathBuf {
        self.dir.path().join("partition").join(place.message(uid))
    }

    fn put(&self, place: &Place, uid: u32, bytes: &[u8]) {
        let path = self.path(place, uid);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Another name for a file.
    fn link(&self, from: (&Place, u32), to: (&Place, u32)) {
        let (from, to) = (self.path(from.0, from.1), self.path(to.0, to.1));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::hard_link(from, to).unwrap();
    }

    /// The index of a mailbox that has these messages.
    fn index(&self, place: &Place, all: &[(u32, &[u8])]) {
        let message = |(uid, bytes): &(u32, &[u8])| Stamped {
            lsn: Lsn(5),
            epoch: Epoch(1),
            value: Message {
                uid: *uid,
                state: State::Live,
                flags: Flags::NONE,
                keywords: BTreeSet::new(),
                modseq: u64::from(*uid),
                size: bytes.len() as u64,
                header_size: 0,
                internal_us: 1,
                saved_us: 1,
                expunged_us: 0,
                digest: Body::of(bytes).digest,
            },
        };
        let run = Run { head: None, messages: all.iter().map(message).collect() };
        Index::new(&*self.partition, StoreId([5; 16]), place).write_new(&run).unwrap();
    }

    fn copied(&self, place: &Place, uid: u32) -> Vec<u8> {
        std::fs::read(self.dir.path().join("copy").join(PARTITIONS).join(PRIMARY).join(place.message(uid))).unwrap()
    }
}

/// Every mailbox is somebody's.
struct All;

impl Rows for All {
    fn get(&self, _: Table, _: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(Some(Vec::new()))
    }

    fn scan(&self, _: Table, _: std::ops::Bound<&[u8]>, _: crate::model::table::EachRow<'_>) -> Result<()> {
        Ok(())
    }
}

// row 146: a copy said that it was complete and held another message's bytes, where that had got the number of a file that went while it was made, and
// half a message, where that had been seen while it was written; and what was damaged in the store was copied with a checksum of its own, and not named
#[test]
fn what_was_copied_while_files_came_and_went_is_as_the_index_has_it_or_named() {
    let beside = Beside::new();
    let place = |home: &str| Home::parse(home).unwrap().mailbox(3);
    let (ann, joe) = (place("=user/aa/01/=ann~1"), place("=user/bb/01/=joe~2"));
    let (old, new, whole, half) = (b"what was purged", b"another's bytes", b"half and half", b"half");
    beside.put(&joe, 1, old);
    beside.link((&joe, 1), (&joe, 2));
    beside.put(&joe, 3, b"stays");
    beside.put(&ann, 7, half);
    beside.put(&ann, 8, b"rotteN");
    beside.put(&ann, 9, b"of no index");
    let context = Context::idle();
    let pace = Pace::new(1 << 40, &context);
    let mut copying = Copying::begin(&beside.out, &pace, &context).unwrap();
    copying.messages(0, PRIMARY, &*beside.partition).unwrap();
    // The number of the file goes to another message, of the same length and within one tick of the clock.
    let modified = std::fs::metadata(beside.path(&joe, 1)).unwrap().modified().unwrap();
    beside.put(&joe, 1, new);
    std::fs::File::options().write(true).open(beside.path(&joe, 1)).unwrap().set_modified(modified).unwrap();
    beside.link((&joe, 1), (&ann, 5));
    beside.link((&joe, 1), (&ann, 6));
    for uid in [1, 2] {
        std::fs::remove_file(beside.path(&joe, uid)).unwrap();
    }
    beside.put(&ann, 7, whole);
    beside.index(&ann, &[(5, new), (6, new), (7, whole), (8, b"rotten"), (10, b"lost")]);
    beside.index(&joe, &[(3, b"stays")]);
    copying.hurry();
    let truth = Truth { owner: StoreId([5; 16]).into(), upto: Lsn(5), rows: &All };
    copying.rest(0, PRIMARY, &beside.partition, &truth).unwrap();
    let ((bytes, crc), tally, skipped) = copying.finish().unwrap();
    assert_eq!([5, 6].map(|uid| beside.copied(&ann, uid)), [new, new].map(|bytes| bytes.to_vec()));
    assert_eq!((beside.copied(&ann, 7), beside.copied(&joe, 3)), (whole.to_vec(), b"stays".to_vec()));
    assert_eq!((tally.messages, tally.copies, tally.mailboxes), (5, 1, 2));
    let named: Vec<_> = skipped.iter().map(|(path, why)| (path.rsplit('/').next().unwrap(), &why[..])).collect();
    assert!(
        matches!(named[..], [("10.msg", "the store has lost it"), ("8.msg", why)] if why.contains("damaged")),
        "{named:?}"
    );
    let mut list = Reader::open(&beside.out, FILES, (bytes, crc)).unwrap();
    let mut entries = 0;
    while let Some(entry) = list.next().unwrap() {
        entries += usize::from(entry.path().ends_with(".msg"));
    }
    assert_eq!(entries, 6);
}

/// A note of the data directory that only a complete copy has.
const NOTE: &str = "removals/copy-joe";
const NOTED: &[u8] = b"what lies there of joe is a copy\n";

/// What can be seen: users, UIDs, states, bytes.
type Seen = Vec<(String, u32, State, Vec<u8>)>;

fn seen(store: &Store, what: &str) -> Seen {
    let view = store.view();
    let mut all = Seen::new();
    for user in ["joe", "ann"] {
        let name = MailboxName::inbox(user);
        let row = view.get(Table::Mailboxes, name.key()).unwrap().unwrap_or_else(|| panic!("{what}: no {name}"));
        let row = MailboxRow::decode(name.key(), &row).unwrap();
        let of = store.folder(&view, name.key(), &row).unwrap();
        for (uid, message) in store.messages(&view, &of, &row).unwrap_or_else(|e| panic!("{what}: {e}")).messages {
            let bytes = store.message_bytes(&view, &of, &message).unwrap_or_else(|e| panic!("{what}: {uid}: {e}"));
            all.push((user.to_owned(), uid, message.state, bytes));
        }
    }
    all
}

/// What `restore-db` does.
fn put_back(machine: &SimDisk) -> Result<()> {
    let (roots, target) = (Arc::new(SimRoots(machine.clone())), target(machine));
    restore::finish(&target)?;
    let found = Found::for_roots(Arc::new(machine.disk(COPY)), roots)?.expect("a copy");
    let work = found.work(&[(PRIMARY.to_owned(), PRIMARY.into())].into(), &[])?;
    let env = SimEnv::new(Micros(1_800_000_200_000_000), 9);
    let plan = Plan::make(found.backup(), &target, false, env.now())?;
    found.expect_indexes(&work)?;
    restore::begin(&*target.data, COPY)?;
    assert_eq!(found.put(&work, Some(&target.data), &mut |_| {})?.unfit, []);
    plan.run(&target, &env, 64 << 10, &mut |_| {})
}

/// All of the copy is there.
fn is_back(machine: &SimDisk, expected: &Seen, what: &str) {
    let data = machine.disk("data");
    assert_eq!(data.peek(NOTE).unwrap_or_default(), NOTED, "{what}");
    assert!(!data.peek(past::FILE).unwrap_or_default().is_empty(), "{what}");
    restore::finish(&target(machine)).unwrap_or_else(|e| panic!("{what}: {e}"));
    let store = open(machine);
    assert_eq!(seen(&store, what), *expected, "{what}");
    store.checkpoint().unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(store.partitions().behind().is_empty(), "{what}");
    assert_eq!(seen(&store, what), *expected, "{what}: after a checkpoint");
}

/// Where anything was put already, no start makes a new store.
fn is_no_first_start(machine: &SimDisk, what: &str) {
    let data = machine.disk("data");
    let put = ["data", PRIMARY].map(|disk| machine.disk(disk).list("").unwrap());
    let is_ours = |name: &str| name.starts_with(restore::BEGUN);
    if put.iter().flatten().any(|entry| !is_ours(&entry.name)) && data.stat("STORE").unwrap().is_none() {
        assert!(restore::is_pending(&data).unwrap() || restore::begun(&data).unwrap().is_some(), "{what}: {put:?}");
    }
}

// rows 85, 146: the power goes at any operation of a restore-db, and comes back with whatever of it was on the disks: the same command goes on and ends with all
// of the copy; and what was answered is there
#[test]
fn a_copy_that_is_put_back_is_whole_wherever_the_power_went() {
    let machine = SimDisk::new();
    let store = store_with_mail(&machine);
    machine.disk("data").create_dir("removals").unwrap();
    machine.disk("data").plant(NOTE, NOTED).unwrap();
    // A history that was given up, of which nothing is in this store.
    let behind = Applied { epoch: Epoch(0), lsn: Lsn(1 << 40) };
    GivenUp::NOTHING.and(Stretch { began: Epoch(1), behind }).write(&machine.disk("data"), store.store_id()).unwrap();
    copy(&store).unwrap();
    let expected = seen(&store, "before");
    assert_eq!(expected.len(), 4);
    drop(store);
    // A new machine, which has nothing but the copy.
    let machine = machine.image(Persist::Everything);
    for disk in ["data", PRIMARY] {
        let disk = machine.disk(disk);
        disk.list("").unwrap().iter().for_each(|entry| disk.erase(&entry.name).unwrap());
    }
    machine.set_recording(true);
    put_back(&machine).unwrap();
    let moments = machine.take_moments();
    for persist in Persist::all(5) {
        is_back(&machine.image(persist), &expected, &format!("answered, {persist:?}"));
    }
    let (mut states, step) = (0, (moments.len() / 120).max(1));
    for moment in moments.iter().step_by(step) {
        for persist in [
            Persist::Nothing,
            Persist::Everything,
            Persist::NamesWithoutData,
            Persist::DataWithoutNames,
            Persist::RandomTorn(moment.n),
        ] {
            let what = format!("operation {} {:?} {}: {persist:?}", moment.n, moment.kind, moment.path);
            let found = moment.torn(moment.write_bytes() / 2).image(persist);
            is_no_first_start(&found, &what);
            put_back(&found).unwrap_or_else(|e| panic!("{what}: {e}"));
            is_back(&found.image(Persist::Nothing), &expected, &what);
            states += 1;
        }
    }
    assert!(moments.len() > 100 && states > 400, "{states} states of {} operations", moments.len());
}
