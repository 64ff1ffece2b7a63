//! Snapshots through the built programs: taken, listed, verified, damaged, removed.

use crate::alarms::grow;
use crate::harness::alarms::{cleared, raised};
use crate::harness::{PATIENCE, TestStore, until};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Instant;

fn list(store: &TestStore) -> Vec<Value> {
    store.json(&["snapshot", "list"]).as_array().unwrap().clone()
}

fn take(store: &TestStore) -> Value {
    store.json(&["snapshot", "take", "--verify"])
}

fn id(snapshot: &Value) -> &str {
    snapshot["id"].as_str().unwrap()
}

fn dir(snapshot: &Value) -> PathBuf {
    snapshot["path"].as_str().unwrap().into()
}

/// A store with users and a verified snapshot.
fn with_snapshot() -> (TestStore, crate::harness::Daemon, Value) {
    let store = TestStore::new();
    let daemon = store.start();
    for user in ["joe", "ann"] {
        store.ctl(&["user", "add", user]).expect(0);
    }
    let taken = take(&store);
    (store, daemon, taken)
}

// rows 87, 88, 89, 90, 91, 94: where it lies, what is in it, and that it is one to go back to
#[test]
fn a_snapshot_is_taken_verified_and_listed() {
    let (store, _daemon, taken) = with_snapshot();
    assert_eq!((&taken["verified"], &taken["schema_version"]), (&true.into(), &3.into()), "{taken}");
    let dir = dir(&taken);
    assert!(dir.starts_with(store.data.join("dbdata/snapshots")), "{taken}");
    for file in ["mboxlist.redb", "MANIFEST", ".snaptime", ".verified"] {
        assert!(dir.join(file).is_file(), "{file}");
    }
    assert_eq!(taken["lsn"], store.json(&["status"])["checkpoint_lsn"]);
    assert!(store.json(&["status"])["snapshot_age"].as_f64().unwrap() < 60.0);
    let listed = list(&store);
    assert_eq!(listed.len(), 1);
    for key in ["id", "path", "time", "lsn", "size", "verified", "schema_version"] {
        assert_eq!(listed[0][key], taken[key], "{key}");
    }
    let verified = store.json(&["snapshot", "verify", "--all"]);
    assert_eq!((&verified[0]["ok"], &verified[0]["findings"]), (&true.into(), &Value::Array(vec![])), "{verified}");
    assert_eq!(verified[0]["zero_loss"], true, "{verified}");
    // One without is verified by the daemon itself soon after.
    store.ctl(&["user", "add", "eve"]).expect(0);
    let second = store.json(&["snapshot", "take"]);
    let begun = Instant::now();
    while list(&store)[1]["verified"] != true {
        assert!(begun.elapsed() < PATIENCE, "{second}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(store.ctl(&["snapshot", "list"]).expect(0).out.contains(id(&second)));
    assert_eq!(store.ctl(&["snapshot", "verify", "20200101T000000.000Z-1"]).status, 68);
}

/// Damages one file in one way; gives back what it was.
fn damage(file: &Path, way: &str) -> Vec<u8> {
    let whole = std::fs::read(file).unwrap();
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    match way {
        "flip" => bytes[middle] ^= 1,
        "cut" => bytes.truncate(middle),
        "empty" => bytes.clear(),
        _ => {
            std::fs::remove_file(file).unwrap();
            return whole;
        }
    }
    std::fs::write(file, bytes).unwrap();
    whole
}

// rows 89, 91: what was damaged is found, named, and not valid any more; put back it is
#[test]
fn damage_of_every_file_is_found_and_named() {
    let store = TestStore::new();
    // The daemon verifies by itself what is not, and may do so at any moment: it gives a damaged mark back before anybody has looked.
    let config = store.beside("by-hand.toml");
    std::fs::write(&config, "[log]\nsegment_size = \"1MiB\"\n[jobs]\nschedule = false\n").unwrap();
    let _daemon = store.start_with(&["--config", config.to_str().unwrap()]);
    store.ctl(&["user", "add", "joe"]).expect(0);
    let taken = take(&store);
    for name in ["mboxlist.redb", "MANIFEST", ".snaptime", ".verified"] {
        for way in ["flip", "cut", "empty", "missing"] {
            let file = dir(&taken).join(name);
            let whole = damage(&file, way);
            // A mark that is missing is that of a snapshot nobody has verified.
            if (name, way) != (".verified", "missing") {
                let listed = list(&store);
                assert_eq!(listed[0]["verified"], false, "{name} {way}: {listed:?}");
                let run = store.ctl(&["--json", "snapshot", "verify", id(&taken)]);
                assert_eq!(run.status, 1, "{name} {way}: {run:?}");
                let found = run.json();
                assert_eq!(found[0]["ok"], false);
                let named = found[0]["findings"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|f| f["file"].as_str().unwrap().ends_with(name));
                assert!(named, "{name} {way}: {found}");
            }
            std::fs::write(&file, whole).unwrap();
            store.ctl(&["snapshot", "verify", id(&taken)]).expect(0);
            assert_eq!(list(&store)[0]["verified"], true, "{name} {way}");
        }
    }
}

// row 68, I4: the log behind a valid snapshot stays, and says why; without the snapshot it goes.
#[test]
fn the_log_behind_a_snapshot_is_kept() {
    let (store, daemon, taken) = with_snapshot();
    let segments = || store.json(&["log", "list"]).as_array().unwrap().clone();
    let mut round = 0;
    while segments().len() < 4 {
        let lines: String = (0..2000).map(|n| format!("mailbox create user/joe/{round}-{n}\n")).collect();
        store.ctl_with(&["batch", "-"], Some(lines.as_bytes())).expect(0);
        store.ctl(&["checkpoint"]).expect(0);
        round += 1;
        assert!(round < 50);
    }
    let named =
        |s: &Value| s["kept_for"].as_array().unwrap().iter().any(|why| why.as_str().unwrap().contains(id(&taken)));
    assert!(segments().iter().all(named), "{:?}", segments());
    assert_eq!(store.json(&["snapshot", "verify", id(&taken)])[0]["zero_loss"], true);
    // Also over a start, whose checkpoint retires what nobody wants.
    assert_eq!(daemon.stop(), 0);
    let _daemon = store.start();
    assert!(segments().len() >= 4 && named(&segments()[0]), "{:?}", segments());
    store.ctl(&["snapshot", "delete", "--yes", id(&taken)]).expect(0);
    store.ctl(&["user", "add", "eve"]).expect(0);
    store.ctl(&["checkpoint"]).expect(0);
    assert!(segments().len() < 3, "{:?}", segments());
}

// row 92: rotation keeps what is good, whatever came after it
#[test]
fn rotation_never_removes_the_newest_good_one() {
    let store = TestStore::new();
    let config = store.beside("keep.toml");
    std::fs::write(&config, "[log]\nsegment_size = \"1MiB\"\n[snapshot]\nkeep = 2\nverify = false\n").unwrap();
    let _daemon = store.start_with(&["--config", config.to_str().unwrap()]);
    let good = take(&store);
    for user in ["a", "b", "c"] {
        store.ctl(&["user", "add", user]).expect(0);
        let later = store.json(&["snapshot", "take", "--verify"]);
        damage(&dir(&later).join("mboxlist.redb"), "flip");
    }
    store.ctl(&["snapshot", "prune"]).expect(64);
    assert_eq!(list(&store).len(), 4);
    let removed = store.json(&["snapshot", "prune", "--yes"]);
    assert!(!removed["removed"].as_array().unwrap().is_empty(), "{removed}");
    let left = list(&store);
    assert!(left.len() >= 2 && id(&left[0]) == id(&good), "{left:?}");
    assert_eq!(left[0]["verified"], true);
    store.ctl(&["snapshot", "delete", id(&left[1])]).expect(64);
    store.ctl(&["snapshot", "delete", "--yes", id(&left[1])]).expect(0);
    store.ctl(&["snapshot", "delete", "--yes", id(&left[1])]).expect(68);
    assert_eq!(list(&store).len(), left.len() - 1);
}

// row 96: no room or no rights: an error, no half directory, the old ones kept, and the store goes on
#[test]
fn a_snapshot_that_cannot_be_written_leaves_everything_as_it_was() {
    let store = TestStore::new();
    let place = store.beside("elsewhere");
    let config = store.beside("elsewhere.toml");
    let text = format!("[log]\nsegment_size = \"1MiB\"\n[snapshot]\ndirectory = {:?}\n", place.display().to_string());
    std::fs::write(&config, text).unwrap();
    let daemon = store.start_with(&["--config", config.to_str().unwrap()]);
    let first = take(&store);
    // row 87: on another disk, too
    assert!(dir(&first).starts_with(&place), "{first}");
    // A file where the directory must be: nothing can be made there, whoever asks.
    let aside = store.beside("aside");
    std::fs::rename(&place, &aside).unwrap();
    std::fs::write(&place, b"").unwrap();
    let refused = store.ctl(&["snapshot", "take"]);
    assert!(refused.status > 1 && refused.err.contains("elsewhere"), "{refused:?}");
    assert!(daemon.log().contains("event=snapshot_failed"), "{}", daemon.log());
    store.ctl(&["user", "add", "joe"]).expect(0);
    std::fs::remove_file(&place).unwrap();
    std::fs::rename(&aside, &place).unwrap();
    assert_eq!(id(&list(&store)[0]), id(&first));
    // What a crash left is no snapshot, and is gone after the next one.
    let half = place.join("20200101T000000.000Z-1.new");
    std::fs::create_dir(&half).unwrap();
    std::fs::write(half.join("mboxlist.redb.copy"), b"half").unwrap();
    assert_eq!(list(&store).len(), 1);
    take(&store);
    assert!(!half.exists());
    assert_eq!(list(&store).len(), 2);
}

/// A configuration beside the store, with these lines behind the size of its log files.
fn configured(store: &TestStore, more: &str) -> String {
    let config = store.beside("snapshots.toml");
    std::fs::write(&config, format!("[log]\nsegment_size = \"1MiB\"\n{more}")).unwrap();
    config.to_str().unwrap().to_owned()
}

// row 87: another place, relative or absolute: a reload says that it waits for a restart, and takes nothing away; after the restart new ones lie
// there, and the old ones are still listed, verified, and gone back to.
#[test]
fn another_place_loses_no_snapshot() {
    let store = TestStore::new();
    let config = configured(&store, "");
    let daemon = store.start_with(&["--config", &config]);
    store.ctl(&["user", "add", "joe"]).expect(0);
    let first = take(&store);
    let there = store.beside("other disk/snapshots");
    let mut all = vec![first.clone()];
    for (place, dir) in
        [("more/snapshots".to_owned(), store.data.join("more/snapshots")), (there.display().to_string(), there)]
    {
        configured(&store, &format!("[snapshot]\ndirectory = {place:?}\nkeep = 5\n"));
        let told = store.ctl(&["config", "reload"]).expect(0);
        assert!(told.out.contains("snapshot.directory") && told.out.contains("restart"), "{told:?}");
        let before = take(&store);
        assert!(!self::dir(&before).starts_with(&dir), "not before the restart");
        store.ctl(&["restart"]).expect(0);
        let taken = take(&store);
        assert!(self::dir(&taken).starts_with(&dir), "{taken}");
        let verified = store.json(&["snapshot", "verify", "--all"]);
        all.extend([before, taken]);
        let is_good = |s: &Value| verified.as_array().unwrap().iter().any(|v| v["id"] == s["id"] && v["ok"] == true);
        assert!(all.iter().all(is_good), "{verified}");
    }
    // Going back to one in the second place, and to one in the first, for there is none in the others.
    let middle = all.iter().find(|s| self::dir(s).starts_with(store.data.join("more"))).unwrap().clone();
    for snapshot in list(&store).iter().filter(|s| ![id(&first), id(&middle)].contains(&id(s))) {
        store.ctl(&["snapshot", "delete", "--yes", id(snapshot)]).expect(0);
    }
    store.ctl(&["user", "add", "ann"]).expect(0);
    let mut daemon = daemon;
    for wanted in [&middle, &first] {
        daemon.kill();
        std::fs::remove_file(store.data.join("mboxlist/mboxlist.redb")).unwrap();
        daemon = store.start_with(&["--config", &config]);
        let report = store.json(&["recover", "--report"]);
        assert_eq!((&report["base"], &report["lost"]), (&wanted["id"], &Value::Null), "{report}");
        store.ctl(&["snapshot", "delete", "--yes", id(wanted)]).expect(0);
    }
    // A place that is not there any more is no place.
    std::fs::remove_dir_all(store.data.join("more")).unwrap();
    assert!(list(&store).is_empty());
}

// rows 86, 93: the daemon takes them by itself, the first one soon after the start of a store that has none, while clients go on; interval and
// number are options with ranges.
#[test]
fn the_daemon_takes_them_by_itself() {
    let store = TestStore::new();
    let config = configured(&store, "[snapshot]\ninterval = \"60s\"\nkeep = 367\n");
    let daemon = store.start_with(&["--config", &config]);
    store.ctl(&["user", "add", "joe"]).expect(0);
    assert!(list(&store).is_empty(), "not within ten minutes of the first start");
    assert_eq!(daemon.stop(), 0);
    // An hour ago it was made.
    let marker = store.data.join("STORE");
    let mut bytes = std::fs::read(&marker).unwrap();
    let created = u64::from_le_bytes(bytes[28..36].try_into().unwrap()) - 3_600_000_000;
    bytes[28..36].copy_from_slice(&created.to_le_bytes());
    let sum = storedd::checksum::Crc::seeded(b"STORE").add(&bytes[..60]).value();
    bytes[60..].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(&marker, bytes).unwrap();
    let _daemon = store.start_with(&["--config", &config]);
    let begun = Instant::now();
    let mut changes = 0;
    while list(&store).first().is_none_or(|snapshot| snapshot["verified"] != true) {
        assert!(begun.elapsed() < PATIENCE, "none is taken");
        store.ctl(&["mailbox", "create", &format!("user/joe/{changes}")]).expect(0);
        changes += 1;
    }
    let jobs = store.json(&["jobs"]);
    assert!(jobs.to_string().contains("snapshot take"), "{jobs}");
    for (option, value) in [("interval", "\"59s\""), ("interval", "\"46081m\""), ("keep", "1"), ("keep", "368")] {
        let bad = store.beside("bad.toml");
        std::fs::write(&bad, format!("[snapshot]\n{option} = {value}\n")).unwrap();
        let refused = store.storedd(&["--config", bad.to_str().unwrap(), "--check-config"]).expect(78);
        assert!(refused.err.contains(option) && refused.err.contains("bad.toml:2"), "{refused:?}");
    }
}

// row 44, row 43: where the place of the snapshots cannot be read, and something would be lost without one, a start refuses, and changes
// nothing; with the place back it goes back to it and loses nothing. What cannot be read but is not needed stops nobody.
#[test]
fn a_place_that_cannot_be_read_is_not_taken_for_an_empty_one() {
    let store = TestStore::new();
    let (place, aside) = (store.beside("elsewhere"), store.beside("aside"));
    let config = configured(&store, &format!("[snapshot]\ndirectory = {:?}\n", place.display().to_string()));
    let start = || store.spawn(&["--config", &config]);
    let mut daemon = start();
    daemon.wait_ready();
    store.ctl(&["user", "add", "joe"]).expect(0);
    let mut round = 0;
    while !store.data.join("mboxlist/log.0000000002").exists() {
        let lines: String = (0..2000).map(|n| format!("mailbox create user/joe/{round}-{n}\n")).collect();
        store.ctl_with(&["batch", "-"], Some(lines.as_bytes())).expect(0);
        round += 1;
    }
    let taken = take(&store);
    store.ctl(&["user", "add", "ann"]).expect(0);
    let held = store.json(&["mailbox", "list"]);
    daemon.kill();
    let hide = || {
        std::fs::rename(&place, &aside).unwrap();
        std::fs::write(&place, b"no directory").unwrap();
    };
    let show = || {
        std::fs::remove_file(&place).unwrap();
        std::fs::rename(&aside, &place).unwrap();
    };
    hide();
    let mut daemon = start();
    daemon.wait_ready();
    assert_eq!(store.json(&["mailbox", "list"]), held, "with a good database nobody needs it");
    daemon.kill();
    std::fs::remove_file(store.data.join("mboxlist/mboxlist.redb")).unwrap();
    let _ = std::fs::remove_file(store.data.join("mboxlist/log.0000000001"));
    let before = store.tree();
    let mut daemon = start();
    assert_eq!(daemon.wait(), 74, "{}", daemon.log());
    let log = daemon.log();
    assert!(log.contains("elsewhere") && log.contains("event=start_failed"), "{log}");
    assert!(store.tree() == before, "a refused start changes nothing");
    show();
    let mut daemon = start();
    daemon.wait_ready();
    let report = store.json(&["recover", "--report"]);
    assert_eq!((&report["base"], &report["lost"]), (&taken["id"], &Value::Null), "{report}");
    assert_eq!(store.json(&["mailbox", "list"]), held);
}

/// Puts an empty directory where the disk of the snapshots was mounted, and back.
struct Mount {
    place: PathBuf,
    disk: PathBuf,
}

impl Mount {
    fn goes(&self) {
        std::fs::rename(&self.place, &self.disk).unwrap();
        std::fs::create_dir(&self.place).unwrap();
    }

    fn comes(&self) {
        std::fs::remove_dir(&self.place).expect("nothing was written where the disk is not mounted");
        std::fs::rename(&self.disk, &self.place).unwrap();
    }

    fn is_bare(&self) -> bool {
        std::fs::read_dir(&self.place).unwrap().next().is_none()
    }
}

// rows 68, 87, 92, 95: a disk of snapshots that is not mounted leaves an empty directory. It counted as a place without snapshots: new ones were
// written below the mount point, and a start gave up the log behind those on the disk, without a word.
#[test]
fn a_disk_of_snapshots_that_is_not_mounted_is_away_and_not_empty() {
    let store = TestStore::new();
    let mount = Mount { place: store.beside("mnt"), disk: store.beside("disk") };
    let config = configured(&store, &format!("[snapshot]\ndirectory = {:?}\n", mount.place.display().to_string()));
    let start = || store.start_with(&["--config", &config]);
    let daemon = start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    let taken = take(&store);
    assert!(mount.place.join("SNAPSHOTS").is_file());

    mount.goes();
    let alarm = raised(&store, "snapshot_place");
    assert_eq!(alarm["subject"], mount.place.display().to_string());
    let why = alarm["cause"].as_str().unwrap();
    assert!(why.contains("is away") && why.contains("mount the disk") && why.contains("truncate -s 0"), "{alarm}");
    let refused = store.ctl(&["snapshot", "take"]).expect(75);
    assert!(refused.err.contains("is away") && refused.err.contains("mount the disk"), "{refused:?}");
    let listed = store.ctl(&["snapshot", "list", "--json"]).expect(0);
    assert!(listed.json().as_array().unwrap().is_empty() && listed.err.contains("is away"), "{listed:?}");
    store.ctl(&["snapshot", "prune", "--yes"]).expect(0);
    assert!(mount.is_bare());
    // Also behind a start, which has never seen the disk, and where the directory is gone, too.
    assert_eq!(daemon.stop(), 0);
    let daemon = start();
    let numbers = || -> Vec<Value> { store.json(&["log", "list", "--all"]).as_array().unwrap().clone() };
    let (mut from, first) = (0, numbers()[0]["first_lsn"].clone());
    while numbers().len() < 4 {
        grow(&store, from, 2000);
        store.ctl(&["checkpoint"]).expect(0);
        from += 2000;
    }
    assert_eq!(numbers()[0]["first_lsn"], first, "{:?}", numbers());
    assert!(numbers()[0]["kept_for"].to_string().contains("may be snapshots"), "{:?}", numbers());
    assert!(mount.is_bare());
    std::fs::remove_dir(&mount.place).unwrap();
    let refused = store.ctl(&["snapshot", "take"]).expect(75);
    assert!(refused.err.contains("is away") && !mount.place.exists(), "{refused:?}");
    std::fs::create_dir(&mount.place).unwrap();

    // Mounted again it is what it was, and the log behind it leads on.
    mount.comes();
    assert_eq!(store.json(&["snapshot", "verify", id(&taken)])[0]["zero_loss"], true);
    cleared(&store, "snapshot_place");
    assert_eq!(store.ctl(&["snapshot", "list"]).expect(0).err, "");

    // Another disk, in which somebody wants to begin anew: what the alarm says, typed.
    mount.goes();
    store.ctl(&["snapshot", "take"]).expect(75);
    let why = raised(&store, "snapshot_place")["cause"].as_str().unwrap().to_owned();
    let typed = &why[why.find("truncate").unwrap()..];
    assert!(std::process::Command::new("sh").args(["-c", typed]).status().unwrap().success());
    let anew = take(&store);
    assert!(dir(&anew).starts_with(&mount.place));
    cleared(&store, "snapshot_place");
    assert!(std::fs::read_to_string(mount.place.join("SNAPSHOTS")).unwrap().contains("\nstore "));

    // A place from before there was such a file is known by its snapshots, and gets one.
    assert_eq!(daemon.stop(), 0);
    std::fs::remove_file(mount.place.join("SNAPSHOTS")).unwrap();
    let _daemon = start();
    assert_eq!(list(&store).len(), 1);
    until("it says whose it is", || mount.place.join("SNAPSHOTS").is_file().then_some(()));
    assert_eq!(crate::harness::alarms::alarm(&store, "snapshot_place"), None);
}

// row 87: an earlier place whose disk is not mounted is away as well, as long as anything lies there; when its last snapshot is gone it is forgotten.
#[test]
fn an_earlier_place_is_away_or_forgotten() {
    let store = TestStore::new();
    let mount = Mount { place: store.beside("mnt"), disk: store.beside("disk") };
    let config = configured(&store, &format!("[snapshot]\ndirectory = {:?}\n", mount.place.display().to_string()));
    let daemon = store.start_with(&["--config", &config]);
    store.ctl(&["user", "add", "joe"]).expect(0);
    let old = take(&store);
    configured(&store, "[snapshot]\ndirectory = \"more\"\n");
    assert_eq!(daemon.stop(), 0);
    mount.goes();
    let daemon = store.start_with(&["--config", &config]);
    assert_eq!(raised(&store, "snapshot_place")["subject"], mount.place.display().to_string());
    let new = take(&store);
    assert!(dir(&new).starts_with(store.data.join("more")) && mount.is_bare(), "{new}");
    mount.comes();
    store.ctl(&["snapshot", "delete", "--yes", id(&old)]).expect(0);
    cleared(&store, "snapshot_place");
    assert_eq!(daemon.stop(), 0);
    std::fs::remove_dir_all(&mount.place).unwrap();
    let _daemon = store.start_with(&["--config", &config]);
    store.ctl(&["snapshot", "verify", "--all"]).expect(0);
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(crate::harness::alarms::alarm(&store, "snapshot_place"), None);
    assert_eq!(list(&store).len(), 1);
}

// row 90, B7: a snapshot behind which the log is gone is named for as long as it is there.
#[test]
fn a_snapshot_without_its_log_is_an_alarm() {
    let store = TestStore::new();
    let config = crate::alarms::configured(&store, "[log]\nsegment_size = \"1MiB\"\n[snapshot]\nlog_bytes = 0\n");
    let _daemon = store.start_with(&["--config", &config]);
    store.ctl(&["user", "add", "joe"]).expect(0);
    let old = take(&store);
    grow(&store, 0, 12_000);
    let new = take(&store);
    store.ctl(&["checkpoint"]).expect(0);
    assert_eq!(raised(&store, "snapshot_log")["subject"], old["id"]);
    store.ctl(&["snapshot", "delete", id(&old), "--yes"]).expect(0);
    cleared(&store, "snapshot_log");
    assert_eq!(list(&store).len(), 1, "{new}");
}
