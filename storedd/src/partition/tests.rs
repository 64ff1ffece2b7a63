//! Tests of partitions: rows 115, 116, 17.

use super::*;
use crate::disk;
use crate::lsn::{Epoch, Lsn, Micros};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const STORE: StoreId = StoreId([7; 16]);
const ID: PartitionId = PartitionId([9; 16]);
const NOW: Micros = Micros(1_700_000_000_000_000);
const JOE: &str = "=user/01/00/=joe@example.org~1";

fn at(dir: &tempfile::TempDir) -> Partitions {
    let partitions = Partitions::new(Arc::new(RealRoots), STORE);
    partitions.add("primary", dir.path().join("deep/primary"));
    partitions
}

fn identity() -> Identity {
    Identity { store_id: STORE, id: ID, created: NOW, name: "primary".to_owned(), is_split: false }
}

#[test]
fn identity_bytes() {
    let bytes = identity().encode();
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let expected = concat!(
        "534470617274494401000000070707070707070707070707070707070909090909090909090909090909090900401e18",
        "240a0600077072696d617279000000000000000000000000000000000000000000000000000000000000000000000000",
        "000000000000000000000000000000000000000000000000000000002b2400aa"
    );
    assert_eq!(&hex[..256], expected.replacen("01000000", "02000000", 1).replace("2b2400aa", "138fa8a8"));
    assert!(bytes.len() == 1536 && bytes[128..].iter().all(|b| *b == 0));
    assert_eq!(Identity::decode(&bytes, "f").unwrap(), identity());
    // What version 1 wrote is read.
    let old: Vec<u8> = (0..128).map(|n| u8::from_str_radix(&expected[2 * n..2 * n + 2], 16).unwrap()).collect();
    assert_eq!(Identity::decode(&old, "f").unwrap(), identity());
}

#[test]
fn what_was_applied_is_noted_and_a_torn_note_hides_only_itself() {
    let (dir, at) = (tempfile::tempdir().unwrap(), |lsn| Applied { epoch: Epoch(3), lsn: Lsn(lsn) });
    let root = RealDisk::new(dir.path()).unwrap();
    // A file of version 1 says nothing, and becomes one of version 2.
    let mut old = identity().encode();
    old.truncate(128);
    old[8] = 1;
    let crc = crate::checksum::Crc::seeded(b"SDpartID").add(&old[..124]).value();
    old[124..].copy_from_slice(&crc.to_le_bytes());
    disk::replace(&root, identity::FILE, &old).unwrap();
    assert_eq!(identity::applied(&root).unwrap(), None);
    identity::note_applied(&root, at(7)).unwrap();
    assert_eq!(identity::applied(&root).unwrap(), Some(at(7)));
    assert_eq!(Identity::read(&root).unwrap(), Some(identity()));
    let bytes = || disk::read_small(&root, identity::FILE, 4096).unwrap();
    let slot = "010000000000000003000000000000000700000000000000fa4629ad";
    assert_eq!(bytes()[512..540].iter().map(|b| format!("{b:02x}")).collect::<String>(), slot);
    for lsn in 8..12 {
        let before = bytes();
        identity::note_applied(&root, at(lsn)).unwrap();
        let (after, whole) = (bytes(), before.len());
        assert_eq!(identity::applied(&root).unwrap(), Some(at(lsn)));
        for cut in 0..whole {
            let torn = [&after[..cut], &before[cut..]].concat();
            disk::replace(&root, identity::FILE, &torn).unwrap();
            let found = identity::applied(&root).unwrap();
            assert!(found == Some(at(lsn)) || found == Some(at(lsn - 1)), "{lsn}: cut at {cut}: {found:?}");
        }
        disk::replace(&root, identity::FILE, &after).unwrap();
    }
}

#[test]
fn every_damaged_byte_of_an_identity_is_noticed() {
    let good = identity().encode();
    for at in 0..128 {
        for value in [good[at] ^ 1, good[at] ^ 0x80, 0, 0xff] {
            let mut bytes = good.clone();
            bytes[at] = value;
            assert!(bytes == good || Identity::decode(&bytes, "f").is_err(), "byte {at} = {value:02x}");
        }
        assert!(Identity::decode(&good[..at], "f").is_err(), "cut at {at}");
    }
    let mut newer = good;
    newer[8] = 4;
    assert!(matches!(Identity::decode(&newer, "f"), Err(StoreError::Foreign { what: "format version", .. })));
}

// S20
#[test]
fn a_partition_is_prepared_once_and_missing_without_its_identity() {
    let dir = tempfile::tempdir().unwrap();
    let partitions = at(&dir);
    assert_eq!(partitions.state("primary").word(), "missing");
    assert_eq!(partitions.state("none").word(), "missing");
    assert_eq!(partitions.prepare("primary", ID, NOW).unwrap(), ID);
    assert_eq!(partitions.prepare("primary", PartitionId([1; 16]), NOW).unwrap(), ID);
    assert!(partitions.state("primary").is_ok());
    partitions.ensure_user_dir("primary", JOE).unwrap();
    assert!(dir.path().join("deep/primary").join(JOE).is_dir());

    let root = RealDisk::new(dir.path().join("deep/primary")).unwrap();
    root.rename("PARTITION", "kept").unwrap();
    let state = partitions.state("primary");
    assert!(state.word() == "missing" && state.why().unwrap().ends_with("PARTITION is not there"), "{state:?}");
    let error = partitions.prepare("primary", ID, NOW).unwrap_err();
    assert!(error.to_string().contains("is not empty"), "{error}");
    root.rename("kept", "PARTITION").unwrap();
    assert!(partitions.state("primary").is_ok());
}

#[test]
fn a_foreign_root_is_never_written() {
    let dir = tempfile::tempdir().unwrap();
    at(&dir).prepare("primary", ID, NOW).unwrap();
    let other = Partitions::new(Arc::new(RealRoots), StoreId([8; 16]));
    other.add("primary", dir.path().join("deep/primary"));
    assert_eq!(other.state("primary").word(), "foreign");
    assert!(matches!(other.prepare("primary", ID, NOW), Err(StoreError::Foreign { what: "store id", .. })));
    assert_eq!(other.ensure_user_dir("primary", JOE).unwrap_err().word(), "foreign");
    assert!(other.disk("primary").is_none());

    let swapped = at(&dir);
    swapped.expect("primary", PartitionId([3; 16]));
    assert_eq!(swapped.state("primary").word(), "foreign");
    swapped.add("other", dir.path().join("deep/primary"));
    assert!(matches!(swapped.prepare("other", ID, NOW), Err(StoreError::Foreign { what: "partition", .. })));
    assert!(!dir.path().join("deep/primary/=user").exists());
}

#[test]
fn what_a_missing_partition_owes_is_made_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let partitions = at(&dir);
    partitions.prepare("primary", ID, NOW).unwrap();
    partitions.add("away", dir.path().join("away"));
    partitions.prepare("away", PartitionId([2; 16]), NOW).unwrap();
    let top = RealDisk::new(dir.path()).unwrap();
    top.rename("away", "elsewhere").unwrap();
    assert_eq!(partitions.state("away").word(), "missing");
    assert_eq!(partitions.ensure_user_dir("away", JOE).unwrap_err().word(), "missing");
    partitions.ensure_user_dir("primary", JOE).unwrap();
    let left = partitions.sync_pending();
    assert!(left.len() == 1 && left[0].0 == "away" && left[0].1.word() == "missing", "{left:?}");
    top.rename("elsewhere", "away").unwrap();
    assert_eq!(partitions.sync_pending(), []);
    assert!(dir.path().join("away").join(JOE).is_dir());
    let found = partitions.list().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(found, ["away", "primary"]);
    partitions.remove("away");
    assert_eq!(partitions.site("away"), None);
}

#[test]
fn a_path_given_anew_keeps_the_expected_identity() {
    let dir = tempfile::tempdir().unwrap();
    let partitions = at(&dir);
    partitions.prepare("primary", ID, NOW).unwrap();
    partitions.add("moved", dir.path().join("other"));
    partitions.prepare("moved", PartitionId([4; 16]), NOW).unwrap();
    partitions.add("primary", dir.path().join("other"));
    assert_eq!(partitions.state("primary").word(), "foreign");
}

/// A disk that counts syncs of directories and can be told to fail or to be full.
#[derive(Debug, Default)]
struct Probe {
    each: AtomicUsize,
    tree: AtomicUsize,
    fail: AtomicBool,
    full: AtomicBool,
    no_tree: AtomicBool,
}

#[derive(Debug)]
struct Probed(RealDisk, Arc<Probe>);

#[derive(Debug)]
struct ProbedRoots(Arc<Probe>);

impl Roots for ProbedRoots {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        Ok(Arc::new(Probed(RealDisk::new(path)?, Arc::clone(&self.0))))
    }

    fn make(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        RealDisk::create_root(path)?;
        self.open(path)
    }
}

impl Disk for Probed {
    fn open(&self, path: &str, access: crate::disk::Access) -> io::Result<Arc<dyn crate::disk::DiskFile>> {
        self.0.open(path, access)
    }
    fn stat(&self, path: &str) -> io::Result<Option<crate::disk::Entry>> {
        self.0.stat(path)
    }
    fn list(&self, dir: &str) -> io::Result<Vec<crate::disk::Entry>> {
        self.0.list(dir)
    }
    fn create_dir(&self, dir: &str) -> io::Result<()> {
        if self.1.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.create_dir(dir)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.link(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.0.remove(path)
    }
    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.0.remove_dir(dir)
    }
    fn sync_dir(&self, _dir: &str) -> io::Result<()> {
        self.1.each.fetch_add(1, Ordering::SeqCst);
        if self.1.fail.load(Ordering::SeqCst) { Err(io::Error::other("injected")) } else { Ok(()) }
    }
    fn sync_tree(&self) -> io::Result<()> {
        if self.1.no_tree.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.1.tree.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
    fn free_bytes(&self) -> io::Result<u64> {
        if self.1.full.load(Ordering::SeqCst) { Ok(5) } else { self.0.free_bytes() }
    }
    fn lock(&self, path: &str, owner: &str) -> io::Result<Box<dyn crate::disk::Lock>> {
        self.0.lock(path, owner)
    }
    fn display(&self, path: &str) -> String {
        self.0.display(path)
    }
}

fn probed() -> (tempfile::TempDir, Arc<Probe>, Partitions) {
    let dir = tempfile::tempdir().unwrap();
    let probe = Arc::new(Probe::default());
    let partitions = Partitions::new(Arc::new(ProbedRoots(Arc::clone(&probe))), STORE);
    partitions.add("primary", dir.path());
    partitions.prepare("primary", ID, NOW).unwrap();
    probe.each.store(0, Ordering::SeqCst);
    (dir, probe, partitions)
}

#[test]
fn few_directories_are_synced_one_by_one_and_many_as_a_tree() {
    let (_dir, probe, partitions) = probed();
    let syncs = || (probe.each.swap(0, Ordering::SeqCst), probe.tree.swap(0, Ordering::SeqCst));
    partitions.ensure_user_dir("primary", JOE).unwrap();
    assert_eq!(partitions.sync_pending(), []);
    assert_eq!(syncs(), (4, 0), "the root, =user, 01 and 00");
    partitions.sync_pending();
    assert_eq!(syncs(), (0, 0));
    // There already, and synced again: whoever made it may not have synced it.
    partitions.ensure_user_dir("primary", JOE).unwrap();
    partitions.sync_pending();
    assert_eq!(syncs(), (4, 0));
    let many = |group: &str| {
        for n in 0..40 {
            partitions.ensure_user_dir("primary", &format!("=user/{n:02x}/{group}/=u~{n}")).unwrap();
        }
        partitions.sync_pending();
        syncs()
    };
    assert_eq!(many("00"), (0, 1));
    probe.no_tree.store(true, Ordering::SeqCst);
    assert_eq!(many("01"), (2 + 40 + 80, 0), "every directory that holds users or groups of them");
}

#[test]
fn a_failed_sync_is_not_repeated() {
    let (_dir, probe, partitions) = probed();
    partitions.ensure_user_dir("primary", JOE).unwrap();
    probe.fail.store(true, Ordering::SeqCst);
    assert_eq!(partitions.sync_pending()[0].1.word(), "missing");
    probe.fail.store(false, Ordering::SeqCst);
    assert_eq!(partitions.state("primary").why().unwrap(), "a sync failed: injected");
    assert!(partitions.ensure_user_dir("primary", JOE).is_err());
}

// Row 162.
#[test]
fn a_full_partition_says_so_and_goes_on_when_there_is_room() {
    let (dir, probe, partitions) = probed();
    probe.full.store(true, Ordering::SeqCst);
    assert_eq!(partitions.state("primary"), State::Full { free: 5 });
    assert_eq!(partitions.ensure_user_dir("primary", JOE), Err(State::Full { free: 5 }));
    assert_eq!(partitions.sync_pending(), [("primary".to_owned(), State::Full { free: 5 })]);
    probe.full.store(false, Ordering::SeqCst);
    assert_eq!(partitions.sync_pending(), []);
    assert!(dir.path().join(JOE).is_dir());
}

#[test]
fn places_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let data = RealDisk::new(dir.path()).unwrap();
    assert_eq!(places::read(&data).unwrap(), BTreeMap::new());
    let split = Site { path: "/c".into(), messages: Some("/disk b/c".into()) };
    let places = [("a", "/mnt/a \"b\"".into()), ("b-2", "/b".into()), ("c", split)];
    let map = BTreeMap::from(places.map(|(name, site)| (name.to_owned(), site)));
    places::write(&data, &map).unwrap();
    assert_eq!(places::read(&data).unwrap(), map);
    let text = String::from_utf8(crate::disk::read_small(&data, places::FILE, 4096).unwrap()).unwrap();
    assert!(text.contains("[partition.b-2]\npath = \"/b\"\n"), "{text}");
    assert!(places::write(&data, &BTreeMap::from([("r".to_owned(), "relative".into())])).is_err());
    let half = "[partition.a]\npath = '/a'\nmessage_path = 'rel'";
    for bad in
        [half, "[partition.a]\npath = 1", "[partition.a]\npath = 'rel'", "partition = 1", "[x", "[partition]\na = 1"]
    {
        crate::disk::replace(&data, places::FILE, bad.as_bytes()).unwrap();
        assert!(matches!(places::read(&data), Err(StoreError::Corrupt { .. })), "{bad}");
    }
}

/// Each path is a disk of one simulated machine.
#[derive(Debug)]
struct SimRoots(crate::disk::SimDisk);

impl Roots for SimRoots {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        Ok(Arc::new(self.0.disk(&path.to_string_lossy())))
    }

    fn make(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        self.open(path)
    }
}

fn simulated(machine: &crate::disk::SimDisk) -> Partitions {
    let partitions = Partitions::new(Arc::new(SimRoots(machine.clone())), STORE);
    partitions.add("primary", Path::new("/p"));
    partitions
}

/// One partition with one user, or as far as the machine lets it come; true if all of it was said to be durable.
fn workload(machine: &crate::disk::SimDisk, id: PartitionId) -> bool {
    let partitions = simulated(machine);
    let prepared = partitions.prepare("primary", id, NOW).is_ok();
    prepared && partitions.ensure_user_dir("primary", JOE).is_ok() && partitions.sync_pending().is_empty()
}

// row 18, row 115
#[test]
fn a_crash_at_any_operation_leaves_a_partition_or_none_and_never_half_of_one() {
    let whole = crate::disk::SimDisk::new();
    assert!(workload(&whole, ID));
    let mut states = 0;
    for n in 1..=whole.ops() + 1 {
        let machine = crate::disk::SimDisk::new();
        machine.crash_at(n);
        let done = workload(&machine, ID);
        assert_eq!(done, n > whole.ops());
        for persist in crate::disk::Persist::all(n) {
            let after = machine.image(persist);
            let state = simulated(&after).state("primary");
            assert!(matches!(state.word(), "ok" | "missing"), "{n} {persist:?}: {state:?}");
            if done {
                assert!(state.is_ok(), "{persist:?}: {state:?}");
                assert!(after.disk("/p").stat(JOE).unwrap().is_some(), "{persist:?}");
            }
            let fresh = PartitionId([n.to_le_bytes()[0]; 16]);
            assert!(workload(&after, fresh), "{n} {persist:?}: a second attempt goes through");
            let found = Identity::read(&after.disk("/p")).unwrap().unwrap().id;
            assert_eq!(found, if state.is_ok() { ID } else { fresh }, "an identity that is there is kept");
            states += 1;
        }
    }
    println!("{states} states");
}

// row 111: what is left out of a partition that is only looked at is lacking from that moment on, whatever its own file says; and for one that was taken out
// of the store no log is kept
#[test]
fn what_is_left_out_while_it_is_looked_at_is_lacking() {
    let dir = tempfile::tempdir().unwrap();
    let (partitions, applied) = (at(&dir), |lsn| Applied { epoch: Epoch(1), lsn: Lsn(lsn) });
    partitions.doubt("primary", applied(10));
    assert_eq!((partitions.is_behind("primary"), partitions.is_surely_behind("primary")), (Some(applied(10)), None));
    partitions.lacks_from("primary", applied(90));
    assert_eq!(partitions.is_surely_behind("primary"), Some(applied(90)));
    partitions.lacks_from("primary", applied(95));
    assert_eq!(partitions.is_surely_behind("primary"), Some(applied(90)), "it lacks no less");
    partitions.forget("primary");
    assert!(partitions.behind().is_empty() && partitions.needs_log().is_empty());
}
