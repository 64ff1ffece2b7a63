//! A complete copy on a simulated disk, stopped at every operation: what is taken for whole is whole.

use super::*;
use crate::disk::{Persist, SimDisk};
use crate::env::{Env, SimEnv};
use crate::jobs::restore::{self, Plan, Spot, Target};
use crate::mail::Intake;
use crate::model::command::{Delivery, Selection, Target as Addressee};
use crate::model::message::{Flags, State};
use crate::model::rows::{MailboxRow, Row};
use crate::model::{Command, MailboxName, Rows, Table};
use crate::partition::Roots;
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
            found.verify().unwrap_or_else(|e| panic!("{what}: {e}"));
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
        let refused = found.verify().expect_err(&path).to_string();
        assert!(refused.contains(&path), "{path}: {refused}");
    }
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
    found.put(&work, Some(&target.data), &mut |_| {})?;
    plan.run(&target, &env, 64 << 10, &mut |_| {})
}

/// All of the copy is there.
fn is_back(machine: &SimDisk, expected: &Seen, what: &str) {
    assert_eq!(machine.disk("data").peek(NOTE).unwrap_or_default(), NOTED, "{what}");
    restore::finish(&target(machine)).unwrap_or_else(|e| panic!("{what}: {e}"));
    let store = open(machine);
    assert_eq!(seen(&store, what), *expected, "{what}");
    store.checkpoint().unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(store.partitions().behind().is_empty(), "{what}");
    assert_eq!(seen(&store, what), *expected, "{what}: after a checkpoint");
}

// rows 85, 146: the power goes at any operation of a restore-db, and comes back with whatever of it was on the disks: the same command goes on and ends with all
// of the copy; and what was answered is there
#[test]
fn a_copy_that_is_put_back_is_whole_wherever_the_power_went() {
    let machine = SimDisk::new();
    let store = store_with_mail(&machine);
    machine.disk("data").create_dir("removals").unwrap();
    machine.disk("data").plant(NOTE, NOTED).unwrap();
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
            put_back(&found).unwrap_or_else(|e| panic!("{what}: {e}"));
            is_back(&found.image(Persist::Nothing), &expected, &what);
            states += 1;
        }
    }
    assert!(moments.len() > 100 && states > 400, "{states} states of {} operations", moments.len());
}
