//! A complete copy on a simulated disk, stopped at every operation: what is taken for whole is whole.

use super::*;
use crate::disk::{Persist, SimDisk};
use crate::env::SimEnv;
use crate::jobs::restore;
use crate::mail::Intake;
use crate::model::Command;
use crate::model::command::{Delivery, Selection, Target};
use crate::model::message::Flags;
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

fn open(machine: &SimDisk) -> Arc<Store> {
    let disk = |name: &str| -> Arc<dyn Disk> { Arc::new(machine.disk(name)) };
    let disks = Disks {
        data: disk("data"),
        db: disk("db"),
        log: disk("log"),
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
    let to = to.iter().map(|name| Target { name: (*name).to_owned(), or: None }).collect();
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
