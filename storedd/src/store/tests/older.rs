//! A partition that is put back as an older copy of itself, and what brings it up to date. // rows 85, 111, 146

use super::mail::{ANN, JOE, PRIMARY, Seen, Step, of, row, seen, take};
use super::*;
use crate::disk::{Kind, Stuck, create_all};
use crate::model::command::Marks;
use crate::model::message::Flags;
use crate::partition::{Applied, PartitionId, identity};
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Instant;

const FAR: &str = "far";
const ARCHIVE: &str = "archive";

/// Partitions of a simulated machine, and an archive that may be away.
#[derive(Debug)]
struct Places {
    machine: SimDisk,
    is_archive_there: AtomicBool,
    /// No file of the archive can be read as long as somebody holds it.
    hangs: Arc<Mutex<()>>,
    /// How often the archive was opened.
    opened: AtomicUsize,
}

impl Roots for Places {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        let name = path.display().to_string();
        if name == ARCHIVE && !self.is_archive_there.load(Ordering::Relaxed) {
            return Err(io::Error::other("stale file handle"));
        }
        let disk = self.machine.disk(&name);
        if name == ARCHIVE {
            self.opened.fetch_add(1, Ordering::Relaxed);
            return Ok(Arc::new(Stuck::new(disk, self.hangs.clone())));
        }
        Ok(Arc::new(disk))
    }

    fn make(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        self.open(path)
    }
}

fn places(machine: &SimDisk, is_archive_there: bool) -> Arc<Places> {
    let (hangs, opened) = Default::default();
    Arc::new(Places { machine: machine.clone(), is_archive_there: AtomicBool::new(is_archive_there), hangs, opened })
}

fn open_at(machine: &SimDisk, archive: Option<bool>) -> Arc<Store> {
    let archive_path = archive.map(|_| ARCHIVE.into());
    let options = Options { archive: archive_path, ..options() };
    open_in(machine, places(machine, archive == Some(true)), options)
}

fn open_in(machine: &SimDisk, roots: Arc<Places>, options: Options) -> Arc<Store> {
    let partitions = [PRIMARY, FAR].map(|name| (name.to_owned(), name.into()));
    let disks = Disks { partitions: partitions.into(), roots, ..disks(machine) };
    let env = Arc::new(SimEnv::new(Micros(1_800_000_000_000_000), 7));
    let lock = take_lock(&disks).unwrap();
    let options = Options { inline_limit: 600, segment_size: 64 << 10, spares: 0, ..options };
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
    root.sync_tree().unwrap();
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

/// How many messages Ann has.
fn ann(store: &Store) -> Result<usize> {
    let view = store.view();
    let (name, row) = row(&view, ANN).unwrap();
    let of = store.folder(&view, name.key(), &row)?;
    store.messages(&view, &of, &row).map(|listed| listed.messages.len())
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

/// A machine whose far partition is an older copy of itself, to which the log does not go back and the archive does; the copy, and what is to
/// be seen.
fn archived() -> (SimDisk, SimDisk, Seen) {
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
    (machine, older, expected)
}

// rows 85, 146, B13: the log does not go back to the copy, and the archive does: what the copy lacks is read there; an archive that is away is waited for
#[test]
fn an_older_copy_is_brought_up_to_date_from_the_archive() {
    let (machine, older, expected) = archived();
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

// rows 85, 146: an archive that hangs while a segment of it is read holds no checkpoint up for long; as long as it hangs nobody asks it again, and no
// further thread waits for it
#[test]
#[expect(clippy::disallowed_methods, reason = "how long it takes is what is tested")]
fn an_archive_that_hangs_holds_no_checkpoint() {
    let (machine, older, expected) = archived();
    let roots = places(&machine, true);
    let hanging = roots.hangs.lock().unwrap();
    let store = open_in(&machine, roots.clone(), Options { archive: Some(ARCHIVE.into()), ..options() });
    let begun = Instant::now();
    store.checkpoint().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let why = format!("{:?}", store.partitions().state(FAR));
    assert!(why.contains("does not answer"), "{why}");
    assert_eq!((store.partitions().is_behind(FAR), holds(&machine)), (Some(holds(&older)), holds(&older)));
    assert_eq!(roots.opened.load(Ordering::Relaxed), 1);
    let again = Instant::now();
    for _ in 0..20 {
        let failed = store.log_with_archive().unwrap_err();
        assert!(failed.to_string().contains("does not answer"), "{failed}");
    }
    assert!(again.elapsed() < Duration::from_secs(10), "{:?}", again.elapsed());
    assert_eq!(roots.opened.load(Ordering::Relaxed), 1, "nobody opened it again");
    drop(hanging);
    let back = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        store.log_with_archive().is_ok()
    });
    assert!(back, "it answers again");
    drop(store);
    is_whole(&open_at(&machine, Some(true)), &expected, "as soon as it answers");
}

// rows 85, 111, 146: a long message was on the lost disk alone: a repair is recommended before the partition counts as one that has caught up, also
// where what it lacks comes in pieces of which that message is in the first; one that is purged further on is no loss
#[test]
fn what_was_on_the_lost_disk_alone_is_told_wherever_the_machine_stops() {
    let (machine, store) = filled();
    let older = machine.image(Persist::Everything);
    let hold = store.hold_log("test", u64::MAX);
    for n in [100, 101] {
        assert!(take(&store, &Step::Deliver(n, 3000, vec![ANN])));
    }
    assert!(take(&store, &Step::Checkpoint));
    let mut next = 200;
    while store.segments().len() < 5 {
        deliver(&store, next..next + 40);
        next += 40;
        assert!(next < 5000);
    }
    for command in
        [Command::MessageExpunge { of: of(ANN, &[5]) }, Command::MessagePurge { of: of(ANN, &[5]) }].map(Step::Do)
    {
        assert!(take(&store, &command));
    }
    assert!(take(&store, &Step::Checkpoint));
    drop(hold);
    drop(store);
    put_back(&machine, &older);
    // A piece is a segment or two.
    let open = |machine: &SimDisk| {
        open_in(machine, places(machine, false), Options { overlay_bytes_max: 64 << 10, ..options() })
    };
    let check = |store: &Store, what: &str| {
        store.checkpoint().unwrap();
        assert!(store.partitions().behind().is_empty(), "{what}: {:?}", store.partitions().behind());
        let why = store.repair_recommended().unwrap_or_else(|| panic!("{what}: nothing is recommended"));
        assert!(why.contains(": 1 messages that came behind LSN"), "{what}: {why}");
    };
    machine.set_recording(true);
    let store = open(&machine);
    assert!(store.segments().len() >= 5);
    check(&store, "at first");
    let moments = machine.take_moments();
    drop(store);
    let tells = |n: usize| {
        let path = &moments[n].path;
        path.contains("PARTITION") || path.contains("repair-recommended")
    };
    let (every, mut states, mut told) = (moments.len() / 20, 0, 0);
    for (n, moment) in moments.iter().enumerate() {
        if n % every != 0 && !tells(n) && !(n > 0 && tells(n - 1)) {
            continue;
        }
        for persist in [Persist::Nothing, Persist::RandomTorn(moment.n)] {
            let what = format!("operation {} {:?} {}: {persist:?}", moment.n, moment.kind, moment.path);
            let found = moment.torn(moment.write_bytes() / 2).image(persist);
            told += usize::from(tells(n));
            check(&open(&found), &what);
            states += 1;
        }
    }
    assert!(states > 50 && told > 8, "{states}, {told}");
}

// rows 85, 111: an older copy that was put back while nobody ran is behind from the start on, wherever the machine stops: nothing of it is shown before it
// took what it lacks, and that waits for no change
#[test]
fn an_older_copy_is_behind_from_the_start_on() {
    let (machine, store) = filled();
    let older = machine.image(Persist::Everything);
    flagged(&store);
    deliver(&store, 4..8);
    deliver(&store, 8..9);
    let expected = seen(&store, "before");
    drop(store);
    put_back(&machine, &older);
    let check = |machine: &SimDisk, what: &str| {
        let store = open_at(machine, None);
        let is_older = holds(machine).lsn < store.checkpoint_lsn();
        if is_older {
            assert_eq!(store.partitions().is_behind(FAR), Some(holds(machine)), "{what}");
            assert!(matches!(ann(&store), Err(StoreError::Busy { .. })), "{what}: {:?}", ann(&store));
            assert!(store.checkpoint_is_due(store.env.uptime()), "{what}: it need not wait for a change");
            let lagging = store.lagging();
            assert!(lagging.len() == 1 && lagging[0].why.contains("its own file says so"), "{what}: {lagging:?}");
        }
        is_whole(&store, &expected, what);
        is_older
    };
    machine.set_recording(true);
    assert!(check(&machine, "at first"));
    let moments = machine.take_moments();
    let mut older = 0;
    for moment in &moments {
        for persist in [Persist::Nothing, Persist::RandomTorn(moment.n)] {
            let what = format!("operation {} {:?} {}: {persist:?}", moment.n, moment.kind, moment.path);
            older += usize::from(check(&moment.torn(moment.write_bytes() / 2).image(persist), &what));
        }
    }
    assert!(moments.len() > 40 && older > 20 && older < moments.len() * 2, "{older} of {}", moments.len());
}

// rows 85, 111: a partition that was away while nothing changed there lacks nothing, though its file is older than the log goes back
#[test]
fn what_was_away_while_nothing_changed_lacks_nothing() {
    let (machine, store) = filled();
    let expected = seen(&store, "before").into_iter().filter(|((mailbox, _), _)| mailbox == ANN).count();
    mount(&machine, false, Some(&store));
    let first = |store: &Store| store.segments().first().unwrap().segment.first_lsn;
    let mut next = 10;
    while first(&store).0 <= holds_away(&machine).lsn.0 + 1 {
        for n in next..next + 100 {
            assert!(take(&store, &Step::Deliver(n, 400, vec![JOE])));
        }
        assert!(take(&store, &Step::Checkpoint));
        store.clean_log().unwrap();
        next += 100;
        assert!(next < 3000);
    }
    assert!(store.partitions().behind().is_empty());
    drop(store);
    mount(&machine, true, None);
    let store = open_at(&machine, None);
    assert_eq!(store.partitions().is_behind(FAR), Some(holds(&machine)), "until somebody has looked");
    store.checkpoint().unwrap();
    assert_eq!((ann(&store).unwrap(), store.repair_recommended()), (expected, None));
    assert!(store.partitions().behind().is_empty());
    assert_eq!(holds(&machine).lsn, store.checkpoint_lsn());
}

/// [`holds`] of a partition that is away.
fn holds_away(machine: &SimDisk) -> Applied {
    let beside = machine.image(Persist::Everything);
    mount(&beside, true, None);
    holds(&beside)
}
