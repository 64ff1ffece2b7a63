//! The fire drill through the built programs.

use crate::harness::alarms::{cleared, raised};
use crate::harness::{Daemon, TestStore};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn fill(store: &TestStore, round: usize) {
    let lines: String = (0..4000).map(|n| format!("mailbox create user/joe/{round}-{n}\n")).collect();
    store.ctl_with(&["batch", "-"], Some(lines.as_bytes())).expect(0);
}

/// A store with a snapshot and several log files behind it; the snapshot's directory.
fn with_snapshot() -> (TestStore, Daemon, PathBuf) {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    let taken = store.json(&["snapshot", "take", "--verify"]);
    (0..3).for_each(|round| fill(&store, round));
    store.ctl(&["checkpoint"]).expect(0);
    let dir = taken["path"].as_str().unwrap().into();
    (store, daemon, dir)
}

/// What must not change: database, snapshots, identity, and the log files that are full.
fn live(store: &TestStore) -> Vec<(String, Vec<u8>)> {
    let mut tree = store.tree();
    let last = tree.iter().map(|(name, _)| name).filter(|name| name.starts_with("mboxlist/log.")).max().cloned();
    let kept = |name: &str| {
        name.starts_with("mboxlist/log.")
            || name.starts_with("dbdata/snapshots")
            || name == "mboxlist/mboxlist.redb"
            || name == "STORE"
    };
    tree.retain(|(name, _)| kept(name) && Some(name) != last.as_ref());
    tree
}

fn bad(store: &TestStore, file: &Path) -> Value {
    let run = store.ctl(&["--json", "drill"]);
    assert_eq!(run.status, 1, "{run:?}");
    let found = run.json();
    assert_eq!(found["verdict"], "bad", "{found}");
    let named = found["findings"][0]["file"].as_str().unwrap();
    assert!(named.ends_with(file.file_name().unwrap().to_str().unwrap()), "{found}");
    found["findings"][0].clone()
}

// rows 84, B1: the newest snapshot and the log behind it are a store that is the live one's like; what it took is told
#[test]
fn a_drill_proves_the_newest_snapshot() {
    let (store, _daemon, dir) = with_snapshot();
    let before = live(&store);
    let drilled = store.json(&["drill"]);
    assert_eq!((&drilled["verdict"], &drilled["compared"]), (&"good".into(), &true.into()), "{drilled}");
    assert!(drilled["source"].as_str().unwrap().ends_with(dir.file_name().unwrap().to_str().unwrap()), "{drilled}");
    assert!(drilled["rto_seconds"].as_f64().unwrap() > 0.0 && drilled["rpo_seconds"] == 0.0, "{drilled}");
    assert_eq!(drilled["reached_lsn"], drilled["live_lsn"]);
    assert!(drilled["replayed"].as_u64().unwrap() > 10_000, "{drilled}");
    assert!(live(&store) == before, "the live store is not touched");
    assert_eq!(std::fs::read_dir(store.data.join("dbdata/drill")).unwrap().count(), 0, "nothing is left");
    assert_eq!(std::fs::read_dir(store.data.join("dbdata/drills")).unwrap().count(), 1);
    let shown = store.ctl(&["drill"]).expect(0).out;
    assert!(shown.contains("verdict") && shown.contains("rto"), "{shown}");
}

// row B1: three faults, three messages, each with its file, status 1, and the live store is untouched
#[test]
fn a_drill_finds_each_fault() {
    let (store, daemon, dir) = with_snapshot();
    let mut told = Vec::new();
    // One missing log, a full one: that which is being written would get its name back.
    let log = store.data.join("mboxlist/log.0000000001");
    let away = store.beside("away");
    std::fs::rename(&log, &away).unwrap();
    let before = live(&store);
    told.push(bad(&store, &log)["what"].clone());
    assert!(live(&store) == before, "the live store is not touched");
    std::fs::rename(&away, &log).unwrap();
    // One flipped byte in a snapshot.
    let database = dir.join("mboxlist.redb");
    let whole = std::fs::read(&database).unwrap();
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&database, bytes).unwrap();
    told.push(bad(&store, &database)["what"].clone());
    std::fs::write(&database, whole).unwrap();
    // A manifest of another store, of another LSN.
    let other = TestStore::new();
    let strange = other.start();
    let theirs = other.json(&["snapshot", "take"]);
    let manifest = dir.join("MANIFEST");
    let ours = std::fs::read(&manifest).unwrap();
    std::fs::copy(Path::new(theirs["path"].as_str().unwrap()).join("MANIFEST"), &manifest).unwrap();
    let found = bad(&store, &manifest);
    assert_eq!(found["what"], "store id", "{found}");
    told.push(found["what"].clone());
    drop(strange);
    std::fs::write(&manifest, ours).unwrap();
    assert!(told[0] != told[1] && told[1] != told[2] && told[0] != told[2], "{told:?}");
    assert!(daemon.log().contains("event=drill_bad"));
    raised(&store, "drill_bad");
    assert_eq!(store.json(&["drill"])["verdict"], "good");
    cleared(&store, "drill_bad");
}

// rows 81, 84, B1: a backup that is newer than every snapshot is what is drilled; one byte of it that changed is found
#[test]
fn a_drill_proves_the_newest_backup() {
    let store = TestStore::new();
    let (config, media) = (store.beside("media.toml"), store.beside("media"));
    let text = format!("[log]\nsegment_size = \"1MiB\"\n[backup]\ndirectory = {:?}\n", media.display().to_string());
    std::fs::write(&config, text).unwrap();
    let _daemon = store.start_with(&["--config", config.to_str().unwrap()]);
    store.ctl(&["drill"]).expect(68);
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.json(&["snapshot", "take"]);
    let backup = store.json(&["backup-db", media.to_str().unwrap()]);
    store.ctl(&["user", "add", "ann"]).expect(0);
    let drilled = store.json(&["drill"]);
    assert!(drilled["source"].as_str().unwrap().ends_with(backup["path"].as_str().unwrap()), "{drilled}");
    assert_eq!((&drilled["verdict"], &drilled["compared"]), (&"good".into(), &true.into()), "{drilled}");
    let config = Path::new(backup["path"].as_str().unwrap()).join("storedd.toml");
    let mut bytes = std::fs::read(&config).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&config, bytes).unwrap();
    bad(&store, &config);
}
