//! Tests of partitions with two roots: rows 115, 116.

use super::super::tree::{Home, STAGING, candidate, staged};
use super::super::{RealRoots, Roots};
use super::*;
use crate::disk::{Persist, RealDisk, SimDisk, create_all};
use crate::lsn::StoreId;
use crate::partition::bodies::{self, Body};
use crate::partition::mend;

const STORE: StoreId = StoreId([7; 16]);
const ID: PartitionId = PartitionId([9; 16]);
const NOW: Micros = Micros(1_700_000_000_000_000);
const JOE: &str = "=user/01/00/=joe@example.org~1";

fn site(dir: &tempfile::TempDir) -> Site {
    Site { path: dir.path().join("a"), messages: Some(dir.path().join("b/c")) }
}

fn partitions(site: impl Into<Site>) -> Partitions {
    let partitions = Partitions::new(Arc::new(RealRoots), STORE);
    partitions.add("primary", site);
    partitions
}

fn sim() -> (SimDisk, SimDisk, Split) {
    let machine = SimDisk::new();
    let (index, messages) = (machine.disk("index"), machine.disk("messages"));
    (index.clone(), messages.clone(), Split::new(Arc::new(index), Arc::new(messages)))
}

#[test]
fn every_path_leads_to_one_root_and_directories_above_both_to_both() {
    let home = Home::parse(JOE).unwrap();
    let place = home.mailbox(12);
    let index = [home.manifest(), place.index(), candidate(&place.index()), candidate(&home.manifest())];
    let names =
        ["PARTITION", "PARTITION.new", "given-up", "=shared/manifest", "=shared/5/store.idx"].map(str::to_owned);
    let kept =
        [".quarantine/12-store.idx", ".quarantine/12-store.idx-99", ".quarantine/1-manifest-99"].map(str::to_owned);
    for path in index.iter().chain(&names).chain(&kept).chain(&[".quarantine/5-mailbox-0/store.idx".to_owned()]) {
        assert_eq!(tree::side(path), Side::Index, "{path}");
    }
    let messages = [place.message(1), staged(7), candidate(&place.message(1)), format!("{}/00", place.path())];
    let names = [
        "MESSAGES",
        "MESSAGES.new",
        "=shared/5/00/1.msg",
        "=shared/5/00",
        ".quarantine/12-1-0",
        ".quarantine/staged-7",
    ]
    .map(str::to_owned);
    for path in messages.iter().chain(&names).chain(&[".quarantine/5-mailbox-0/00/1.msg".to_owned()]) {
        assert_eq!(tree::side(path), Side::Messages, "{path}");
    }
    let dirs = ["", "=user", "=user/01", "=user/01/00", JOE, "=shared", "=shared/5", STAGING, ".quarantine"];
    for path in dirs.iter().map(|dir| (*dir).to_owned()).chain([place.path(), ".quarantine/5-mailbox-0".to_owned()]) {
        assert_eq!(tree::side(&path), Side::Both, "{path}");
    }
}

#[test]
fn two_roots_are_one_tree() {
    let (index, messages, split) = sim();
    let place = Home::parse(JOE).unwrap().mailbox(12);
    create_all(&split, &place.path()).unwrap();
    split.open(&place.index(), Access::CreateNew).unwrap().write_at(0, b"index").unwrap();
    let body = Body::of(b"bytes");
    bodies::put(&split, &place, 1, b"bytes", body).unwrap();
    assert_eq!(
        (index.peek(&place.index()).unwrap(), messages.peek(&place.message(1)).unwrap()),
        (b"index".to_vec(), b"bytes".to_vec())
    );
    assert_eq!(index.stat(&place.message(1)).unwrap(), None);
    assert_eq!(messages.stat(&place.index()).unwrap(), None);
    let names = |dir: &str| split.names(dir).unwrap().into_iter().map(|entry| entry.name).collect::<Vec<_>>();
    assert_eq!(names(&place.path()), ["00", "store.idx"]);
    assert_eq!(names(JOE), ["12"], "one that is in both is one");
    assert_eq!(
        (place.uids(&split).unwrap(), split.list("nowhere").unwrap_err().kind()),
        (vec![1], io::ErrorKind::NotFound)
    );
    // Of one file a second name, in the root where it is.
    let other = Home::parse(JOE).unwrap().mailbox(13);
    bodies::twin(&split, (&place, 1), (&other, 5), body).unwrap();
    assert_eq!(bodies::read(&split, &other, 5, body).unwrap(), b"bytes");
    assert!(messages.stat(&other.message(5)).unwrap().is_some() && index.stat(&other.message(5)).unwrap().is_none());
    let crossing = split.rename(&place.index(), &other.message(6)).unwrap_err();
    assert_eq!(crossing.kind(), io::ErrorKind::CrossesDevices);
    // The quarantine is on the root where the file was.
    let kept = mend::set_aside(&split, &other, 5).unwrap().unwrap();
    assert!(kept.contains("sim:messages/.quarantine/13-5-0"), "{kept}");
    let kept = mend::set_mailbox_aside(&split, &place).unwrap();
    assert!(kept.ends_with(".quarantine/12-mailbox-0"), "{kept}");
    assert!(messages.stat(".quarantine/12-mailbox-0/00/1.msg").unwrap().is_some());
    assert!(index.stat(".quarantine/12-mailbox-0/store.idx").unwrap().is_some());
    assert_eq!(names(JOE), ["13"]);
    mend::clear(&split, &other).unwrap();
    assert_eq!((names(JOE), index.list(JOE).unwrap().len(), messages.list(JOE).unwrap().len()), (vec![], 0, 0));
    // A directory that one root lacks, as a crash may leave it.
    create_all(&messages, &place.path()).unwrap();
    assert_eq!(names(JOE), ["12"]);
    split.sync_dir(&place.path()).unwrap();
    split.remove_dir(&place.path()).unwrap();
    assert_eq!(split.remove_dir(&place.path()).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn the_room_is_that_of_the_disk_with_less() {
    let (index, messages, split) = sim();
    messages.set_free_bytes(5000);
    assert_eq!(split.free_bytes().unwrap(), 5000);
    index.set_free_bytes(1000);
    assert_eq!((split.free_bytes().unwrap(), State::of(split.space().unwrap()).word()), (1000, "full"));
}

#[test]
fn a_sync_of_the_tree_is_one_of_both() {
    let (index, messages, split) = sim();
    create_all(&split, JOE).unwrap();
    split.open("PARTITION", Access::CreateNew).unwrap();
    split.open(&staged(1), Access::CreateNew).unwrap_err();
    create_all(&split, STAGING).unwrap();
    split.open(&staged(1), Access::CreateNew).unwrap();
    split.sync_tree().unwrap();
    let after = index.image(Persist::Nothing);
    assert!(
        after.disk("index").stat("PARTITION").unwrap().is_some() && after.disk("index").stat(JOE).unwrap().is_some()
    );
    assert!(after.disk("messages").stat(&staged(1)).unwrap().is_some());
    drop(messages);
}

#[test]
fn golden_bytes_and_damage_of_both_identities() {
    let dir = tempfile::tempdir().unwrap();
    let partitions = partitions(site(&dir));
    assert_eq!(partitions.prepare("primary", ID, NOW).unwrap(), ID);
    let read = |path: &str, file: &str| {
        crate::disk::read_small(&RealDisk::new(dir.path().join(path)).unwrap(), file, 4096).unwrap()
    };
    let (first, second) = (read("a", "PARTITION"), read("b/c", "MESSAGES"));
    assert_eq!((&first[..8], first[8], first.len()), (&b"SDpartID"[..], 3, 1536));
    let hex: String = second.iter().map(|b| format!("{b:02x}")).collect();
    let expected = concat!(
        "53446d7367734944010000000707070707070707070707070707070709090909090909090909090909090909",
        "00401e18240a0600077072696d617279"
    );
    assert!(hex.starts_with(expected) && second.len() == 128, "{hex}");
    assert!(partitions.state("primary").is_ok() && partitions.message_state("primary").unwrap().is_ok());
    let root = RealDisk::new(dir.path().join("b/c")).unwrap();
    for at in 0..second.len() {
        let mut bad = second.clone();
        bad[at] ^= 1;
        crate::disk::replace(&root, "MESSAGES", &bad).unwrap();
        let (state, own) = (partitions.state("primary"), partitions.message_state("primary").unwrap());
        assert!(["missing", "foreign"].contains(&state.word()) && own.word() == state.word(), "byte {at}: {state:?}");
        assert!(partitions.disk("primary").is_none());
    }
}

#[test]
fn either_root_away_or_anothers_is_the_partition_away_and_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let partitions = partitions(site(&dir));
    partitions.prepare("primary", ID, NOW).unwrap();
    partitions.ensure_user_dir("primary", JOE).unwrap();
    assert!(dir.path().join("a").join(JOE).is_dir() && dir.path().join("b/c").join(JOE).is_dir());
    let top = RealDisk::new(dir.path()).unwrap();
    for (root, own) in [("b/c", "missing"), ("a", "ok")] {
        top.rename(root, "away").unwrap();
        let state = partitions.state("primary");
        assert_eq!(state.word(), "missing", "{root}: {state:?}");
        assert_eq!(partitions.message_state("primary").unwrap().word(), own);
        assert_eq!(partitions.ensure_user_dir("primary", JOE).unwrap_err().word(), "missing");
        // The mount point without the disk: an empty directory.
        top.create_dir(root).unwrap();
        let state = partitions.state("primary");
        assert!(state.word() == "missing" && state.why().unwrap().ends_with("is not there"), "{root}: {state:?}");
        assert!(partitions.disk("primary").is_none());
        assert_eq!(top.list(root).unwrap(), [], "nothing is made in its place");
        top.remove_dir(root).unwrap();
        top.rename("away", root).unwrap();
        assert!(partitions.state("primary").is_ok());
    }
    // The second root of another partition, and of another store.
    let two = Site { path: dir.path().join("d"), messages: Some(dir.path().join("e")) };
    partitions.add("second", two.clone());
    partitions.prepare("second", PartitionId([2; 16]), NOW).unwrap();
    let swapped = Site { messages: two.messages.clone(), ..site(&dir) };
    partitions.add("primary", swapped);
    let state = partitions.state("primary");
    assert!(
        state.word() == "foreign" && state.why().unwrap().contains("the messages of partition second"),
        "{state:?}"
    );
    let other = Partitions::new(Arc::new(RealRoots), StoreId([8; 16]));
    other.add("second", two);
    assert_eq!(other.message_state("second").unwrap().word(), "foreign");
    assert!(matches!(other.prepare("second", ID, NOW), Err(StoreError::Foreign { .. })));
}

#[test]
fn another_layout_than_the_root_has_is_refused_with_the_next_command() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, both) = (Site::from(dir.path().join("a")), site(&dir));
    partitions(plain.clone()).prepare("primary", ID, NOW).unwrap();
    // As before there were two roots.
    let bytes = crate::disk::read_small(&RealDisk::new(dir.path().join("a")).unwrap(), "PARTITION", 4096).unwrap();
    assert_eq!(bytes[8], 2);
    let changed = partitions(both.clone());
    let state = changed.state("primary");
    assert!(state.word() == "foreign" && state.why().unwrap().contains("storectl user move"), "{state:?}");
    let refused = changed.prepare("primary", ID, NOW).unwrap_err();
    assert!(
        matches!(&refused, StoreError::Refused { hint, .. } if hint.contains("storectl partition add NEW")),
        "{refused}"
    );
    assert!(!dir.path().join("b").exists(), "nothing is made");

    let dir = tempfile::tempdir().unwrap();
    partitions(site(&dir)).prepare("primary", ID, NOW).unwrap();
    let plain = partitions(dir.path().join("a"));
    let state = plain.state("primary");
    assert!(state.word() == "foreign" && state.why().unwrap().contains("no message_path says where"), "{state:?}");
    assert!(plain.prepare("primary", ID, NOW).unwrap_err().to_string().contains("no message_path"));
    // A directory that holds something is none for messages.
    let full = Site { path: dir.path().join("x"), messages: Some(dir.path().to_path_buf()) };
    let refused = partitions(full).prepare("primary", ID, NOW).unwrap_err();
    assert!(refused.to_string().contains("is not empty"), "{refused}");
}

/// Each path is a disk of one simulated machine.
#[derive(Debug)]
struct SimRoots(SimDisk);

impl Roots for SimRoots {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        Ok(Arc::new(self.0.disk(&path.to_string_lossy())))
    }

    fn make(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        self.open(path)
    }
}

fn workload(machine: &SimDisk, id: PartitionId) -> (Partitions, bool) {
    let partitions = Partitions::new(Arc::new(SimRoots(machine.clone())), STORE);
    partitions.add("primary", Site { path: "/a".into(), messages: Some("/b".into()) });
    let prepared = partitions.prepare("primary", id, NOW).is_ok();
    let done = prepared && partitions.ensure_user_dir("primary", JOE).is_ok() && partitions.sync_pending().is_empty();
    (partitions, done)
}

// row 18, row 115
#[test]
fn a_crash_at_any_operation_leaves_a_split_partition_or_none() {
    let whole = SimDisk::new();
    assert!(workload(&whole, ID).1);
    let mut states = 0;
    for n in 1..=whole.ops() + 1 {
        let machine = SimDisk::new();
        machine.crash_at(n);
        let (_, done) = workload(&machine, ID);
        assert_eq!(done, n > whole.ops());
        for persist in Persist::all(n) {
            let after = machine.image(persist);
            if done {
                let found = [after.disk("/a").stat(JOE).unwrap(), after.disk("/b").stat(JOE).unwrap()];
                assert!(found.iter().all(Option::is_some), "{persist:?}: {found:?}");
            }
            let (partitions, again) = workload(&after, PartitionId([n.to_le_bytes()[0]; 16]));
            assert!(again, "{n} {persist:?}: a second attempt goes through");
            assert!(partitions.state("primary").is_ok() && partitions.message_state("primary").unwrap().is_ok());
            states += 1;
        }
    }
    println!("{states} states");
}
