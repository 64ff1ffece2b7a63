//! The log archive through the built programs.

use crate::harness::{Daemon, PATIENCE, TestStore};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Instant;

fn fill(store: &TestStore, round: usize) {
    let lines: String = (0..4000).map(|n| format!("mailbox create user/joe/{round}-{n}\n")).collect();
    store.ctl_with(&["batch", "-"], Some(lines.as_bytes())).expect(0);
}

fn start(store: &TestStore, archive: &Path) -> Daemon {
    let config = store.beside("archive.toml");
    let text = format!(
        "[log]\nsegment_size = \"1MiB\"\n[snapshot]\nlog_bytes = 0\n[archive]\npath = {:?}\nmax_lag = \"1s\"\n",
        archive.display().to_string()
    );
    std::fs::write(&config, text).unwrap();
    store.start_with(&["--config", config.to_str().unwrap()])
}

fn until(what: &str, mut there: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !there() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

// row B13, I4: full log files go to the archive as they are; the log waits for it; its lag is told, and is an alarm
#[test]
fn full_log_files_are_archived_and_the_log_waits_for_it() {
    let store = TestStore::new();
    let archive = store.beside("archive");
    let daemon = start(&store, &archive);
    store.ctl(&["user", "add", "joe"]).expect(0);
    (0..3).for_each(|round| fill(&store, round));
    let id = store.json(&["status"])["store_id"].as_str().unwrap().to_owned();
    let dir = archive.join(&id);
    until("nothing waits for the archive", || {
        let state = &store.json(&["status"])["archive"];
        state["lag_seconds"] == 0.0 && state["archived_lsn"].as_u64().unwrap() > 1000
    });
    let sealed: Vec<Value> = store.json(&["log", "list"]).as_array().unwrap().clone();
    for line in sealed.iter().rev().skip(1) {
        let name = line["file"].as_str().unwrap();
        let (ours, theirs) = (store.data.join("mboxlist").join(name), dir.join(name));
        assert_eq!(std::fs::read(ours).unwrap(), std::fs::read(theirs).unwrap(), "{name}");
    }
    store.ctl(&["checkpoint"]).expect(0);
    let metrics = store.ctl(&["metrics"]).expect(0).out;
    assert!(
        metrics.contains("storedd_archive_lag_seconds 0") && metrics.contains("storedd_archive_lag_lsns "),
        "{metrics}"
    );
    // An archive that cannot be written: the log waits, and it is an alarm, until it can.
    let away = store.beside("away");
    std::fs::rename(&archive, &away).unwrap();
    std::fs::write(&archive, b"").unwrap();
    (3..6).for_each(|round| fill(&store, round));
    store.ctl(&["checkpoint"]).expect(0);
    until("an alarm", || {
        store.json(&["status"])["alarms"].as_array().unwrap().iter().any(|alarm| alarm["name"] == "archive_lag")
    });
    let kept = store.ctl(&["log", "list"]).expect(0).out;
    assert!(kept.contains("archive: not archived yet"), "{kept}");
    std::fs::remove_file(&archive).unwrap();
    std::fs::rename(&away, &archive).unwrap();
    let before = files(&dir).len();
    until("it goes on", || store.json(&["status"])["archive"]["lag_seconds"] == 0.0);
    assert!(files(&dir).len() > before, "{:?}", files(&dir));
    store.ctl(&["checkpoint"]).expect(0);
    until("the log is given back", || store.json(&["log", "list"]).as_array().unwrap().len() <= 3);
    // A recovery reads archived files that are linked into the log (rows 29, 34).
    let kept: Vec<PathBuf> = files(&dir);
    assert_eq!(daemon.stop(), 0);
    for file in &kept {
        let link = store.data.join("mboxlist").join(file.file_name().unwrap());
        if !link.exists() {
            std::os::unix::fs::symlink(file, link).unwrap();
        }
    }
    std::fs::remove_file(store.data.join("mboxlist/mboxlist.redb")).unwrap();
    let bytes: Vec<Vec<u8>> = kept.iter().map(|file| std::fs::read(file).unwrap()).collect();
    let _daemon = start(&store, &archive);
    assert_eq!(store.json(&["recover", "--report"])["lost"], Value::Null);
    assert_eq!(store.json(&["mailbox", "list"]).as_array().unwrap().len(), 6 * 4000 + 1);
    let after: Vec<Vec<u8>> = kept.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert!(bytes == after, "the archive is never written");
}
