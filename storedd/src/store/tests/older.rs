//! A partition that is put back as an older copy of itself, and what brings it up to date. // rows 85, 111, 146

use super::mail::{ANN, JOE, PRIMARY, Seen, Step, of, row, seen, take};
use super::*;
use crate::disk::{Kind, create_all};
use crate::model::command::Marks;
use crate::model::message::Flags;
use crate::partition::{Applied, PartitionId, identity};
use std::io;
use std::sync::atomic::AtomicBool;

const FAR: &str = "far";
const ARCHIVE: &str = "archive";

/// Partitions of a simulated machine, and an archive that may be away.
#[derive(Debug)]
struct Places {
    machine: SimDisk,
    is_archive_there: AtomicBool,
}

impl Roots for Places {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        let name = path.display().to_string();
        if name == ARCHIVE && !self.is_archive_there.load(Ordering::Relaxed) {
            return Err(io::Error::other("stale file handle"));
        }
        Ok(Arc::new(self.machine.disk(&name)))
    }

    fn make(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        self.open(path)
    }
}

fn open_at(machine: &SimDisk, archive: Option<bool>) -> Arc<Store> {
    let partitions = [PRIMARY, FAR].map(|name| (name.to_owned(), name.into()));
    let is_archive_there = AtomicBool::new(archive == Some(true));
    let roots = Arc::new(Places { machine: machine.clone(), is_archive_there });
    let disks = Disks { partitions: partitions.into(), roots, ..disks(machine) };
    let env = Arc::new(SimEnv::new(Micros(1_800_000_000_000_000), 7));
    let lock = take_lock(&disks).unwrap();
    let archive = archive.map(|_| ARCHIVE.into());
    let options = Options { inline_limit: 600, segment_size: 64 << 10, spares: 0, archive, ..options() };
    let progress: OnProgress = Arc::new(|_| {});
    open(disks, env, options, lock, START, &progress).unwrap().0
}

/// Joe on one partition, Ann on the other, with mail, in files.
fn filled() -> (SimDisk, Arc<Store>) {
    let machine = SimDisk::new();
    let store = open_at(&machine, None);
    let user = |user: &str, partition: &str| Command::UserAdd {
        user: user.to_owned(),
        partition: Some(partition.to_owned()),
        quota_bytes: Some(1 << 30),
        quota_messages: None,
    };
    for (name, n) in [(PRIMARY, 1), (FAR, 2)] {
        store.partitions().prepare(name, PartitionId([n; 16]), Micros(1)).unwrap();
        assert!(take(&store, &Step::Do(Command::PartitionAdd { name: name.to_owned(), id: [n; 16] })));
    }
    assert!(take(&store, &Step::Do(user("joe", PRIMARY))) && take(&store, &Step::Do(user("ann", FAR))));
    deliver(&store, 1..4);
    (machine, store)
}

/// Some messages for both, each in a transaction of its own; and a checkpoint.
fn deliver(store: &Arc<Store>, which: std::ops::Range<usize>) {
    for n in which {
        assert!(take(store, &Step::Deliver(n, 400, vec![JOE, ANN])));
    }
    assert!(take(store, &Step::Checkpoint));
}

fn copy_dir(from: &SimDisk, to: &SimDisk, dir: &str) {
    for entry in from.list(dir).unwrap() {
        let path = if dir.is_empty() { entry.name } else { format!("{dir}/{}", entry.name) };
        match entry.kind {
            Kind::Dir => {
                create_all(to, &path).unwrap();
                copy_dir(from, to, &path);
            }
            _ => to.plant(&path, &from.peek(&path).unwrap()).unwrap(),
        }
    }
}

/// Puts the far partition of `older` in the place of that of `machine`.
fn put_back(machine: &SimDisk, older: &SimDisk) {
    let (root, from) = (machine.disk(FAR), older.disk(FAR));
    root.list("").unwrap().iter().for_each(|entry| root.erase(&entry.name).unwrap());
    copy_dir(&from, &root, "");
}

/// Takes the far partition away, or brings it back, and says so to a store that runs.
fn mount(machine: &SimDisk, is_there: bool, store: Option<&Store>) {
    let root = machine.disk(FAR);
    let (from, to) = if is_there { ("kept", "PARTITION") } else { ("PARTITION", "kept") };
    root.rename(from, to).unwrap();
    root.sync_dir("").unwrap();
    let word = store.map(|store| store.partitions().state(FAR).word());
    assert!(word.is_none_or(|word| (word == "missing") != is_there), "{word:?}");
}

fn holds(machine: &SimDisk) -> Applied {
    identity::applied(&machine.disk(FAR)).unwrap().unwrap()
}

/// Everything is there, and nobody thinks that something is missing.
fn is_whole(store: &Store, expected: &Seen, what: &str) {
    store.checkpoint().unwrap();
    assert!(store.partitions().behind().is_empty(), "{what}: {:?}", store.partitions().behind());
    assert_eq!(store.repair_recommended(), None, "{what}");
    let now = seen(store, what);
    assert!(now == *expected, "{what}: {:?} instead of {:?}", now.keys().count(), expected.keys().count());
}

fn flagged(store: &Arc<Store>) {
    let add = Marks { flags: Flags::SEEN, ..Marks::default() };
    let flags = Command::MessageFlags { of: of(ANN, &[1]), add, remove: Marks::default() };
    assert!(take(store, &Step::Do(flags)));
}

// rows 85, 111: what was noted when it went is newer than what the copy holds: it takes all that the copy lacks, not only what came since it went
#[test]
fn an_older_copy_takes_all_that_it_lacks_and_not_what_was_noted() {
    let (machine, store) = filled();
    let older = machine.image(Persist::Everything);
    flagged(&store);
    deliver(&store, 4..8);
    deliver(&store, 8..9);
    let held = holds(&machine);
    mount(&machine, false, Some(&store));
    deliver(&store, 9..12);
    let noted = store.partitions().is_behind(FAR).unwrap();
    assert!(holds(&older).is_before(noted) && noted.lsn >= held.lsn, "{noted:?}");
    drop(store);
    let beside = machine.image(Persist::Everything);
    mount(&beside, true, None);
    let store = open_at(&beside, None);
    store.checkpoint().unwrap();
    let expected = seen(&store, "the partition itself");
    is_whole(&store, &expected, "the partition itself");
    put_back(&machine, &older);
    let store = open_at(&machine, None);
    is_whole(&store, &expected, "an older copy of it");
    assert_eq!(expected.keys().filter(|(mailbox, _)| mailbox == ANN).count(), 11);
}

// row 111: what was noted is older than what it holds: a crash came before it was struck out that it had caught up. The log behind the note is gone by then, and
// nobody needs it
#[test]
fn what_was_noted_before_it_caught_up_is_not_asked_for_again() {
    let (machine, store) = filled();
    mount(&machine, false, Some(&store));
    deliver(&store, 4..6);
    let data = machine.disk("data");
    let note = data.peek("behind").unwrap();
    let noted = store.partitions().is_behind(FAR).unwrap();
    mount(&machine, true, Some(&store));
    // Until the log behind the note is gone.
    let first = |store: &Store| store.segments().first().unwrap().segment.first_lsn;
    let mut next = 6;
    while first(&store).0 <= noted.lsn.0 + 1 {
        deliver(&store, next..next + 100);
        store.clean_log().unwrap();
        next += 100;
        assert!(next < 3000);
    }
    assert!(store.partitions().behind().is_empty() && noted.is_before(holds(&machine)));
    let expected = seen(&store, "before");
    drop(store);
    data.plant("behind", &note).unwrap();
    let store = open_at(&machine, None);
    assert_eq!(store.partitions().is_behind(FAR), Some(noted));
    is_whole(&store, &expected, "with an old note");
}

// rows 85, 146, B13: the log does not go back to the copy, and the archive does: what the copy lacks is read there; an archive that is away is waited for
#[test]
fn an_older_copy_is_brought_up_to_date_from_the_archive() {
    let (machine, store) = filled();
    let older = machine.image(Persist::Everything);
    flagged(&store);
    let (archive, log) = (machine.disk(ARCHIVE), machine.disk("log"));
    let dir = store.store_id().to_string();
    create_all(&archive, &dir).unwrap();
    let first = |store: &Store| store.segments().first().unwrap().segment.number;
    let (begun, mut next) = (first(&store), 4);
    while first(&store) < begun + 3 {
        for n in next..next + 40 {
            assert!(take(&store, &Step::Deliver(n, 400, vec![JOE, ANN])));
        }
        for line in store.segments().into_iter().filter(|line| !line.active) {
            archive.plant(&format!("{dir}/{}", line.segment.file), &log.peek(&line.segment.file).unwrap()).unwrap();
        }
        assert!(take(&store, &Step::Checkpoint));
        store.clean_log().unwrap();
        next += 40;
        assert!(next < 5000);
    }
    let expected = seen(&store, "before");
    drop(store);
    put_back(&machine, &older);
    let ann = |store: &Store| {
        let view = store.view();
        let (name, row) = row(&view, ANN).unwrap();
        let of = store.folder(&view, name.key(), &row).unwrap();
        store.messages(&view, &of, &row).map(|listed| listed.messages.len())
    };
    // The control: without the archive something is missing.
    let alone = open_at(&machine.image(Persist::Everything), None);
    alone.checkpoint().unwrap();
    assert!(ann(&alone).is_err(), "{:?}", ann(&alone));
    drop(alone);
    // It is away: nothing newer is written to the partition, and nothing of it is shown.
    let waiting = open_at(&machine, Some(false));
    waiting.checkpoint().unwrap();
    assert_eq!(waiting.partitions().is_behind(FAR), Some(holds(&older)));
    let why = waiting.partitions().state(FAR);
    assert!(format!("{why:?}").contains("stale file handle"), "{why:?}");
    assert!(take(&waiting, &Step::Deliver(9000, 400, vec![ANN])));
    waiting.checkpoint().unwrap();
    assert_eq!(holds(&machine), holds(&older));
    assert_eq!(waiting.repair_recommended(), None);
    drop(waiting);
    // And there again.
    let store = open_at(&machine, Some(true));
    store.checkpoint().unwrap();
    let mut with_later = expected.clone();
    let uid = with_later.keys().filter(|(mailbox, _)| mailbox == ANN).map(|(_, uid)| *uid).max().unwrap() + 1;
    let later = (crate::model::message::State::Live, Flags::NONE, mail::text(9000, 400));
    with_later.insert((ANN.to_owned(), uid), later);
    is_whole(&store, &with_later, "from the archive");
}
