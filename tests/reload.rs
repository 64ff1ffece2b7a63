//! The configuration while the daemon runs: read again in every way a file can change, shown, set, checked.

use crate::harness::{Daemon, PATIENCE, TestStore};
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn started(text: &str) -> (TestStore, PathBuf, Daemon) {
    let store = TestStore::new();
    let file = store.beside("storedd.toml");
    fs::write(&file, text).unwrap();
    let daemon = store.start_with(&["--config", file.to_str().unwrap()]);
    (store, file, daemon)
}

#[track_caller]
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The four ways a configuration comes in.
#[derive(Debug, Clone, Copy)]
enum Way {
    InPlace,
    Rename,
    LinkSwap,
    Signal,
}

/// Sets the flag when dropped.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Gives the file another text. With a signal the file lies where nobody watches it.
fn change(way: Way, daemon: &Daemon, file: &Path, text: &str) {
    let beside = |name: &str| file.with_file_name(name);
    match way {
        Way::InPlace => fs::write(file, text).unwrap(),
        Way::Signal => {
            fs::write(file, text).unwrap();
            daemon.signal(Signal::HUP);
        }
        Way::Rename => {
            fs::write(beside("new"), text).unwrap();
            fs::rename(beside("new"), file).unwrap();
        }
        Way::LinkSwap => {
            let version = beside(&format!("v{}", fs::read_dir(file.parent().unwrap()).unwrap().count()));
            fs::create_dir(&version).unwrap();
            fs::write(version.join("storedd.toml"), text).unwrap();
            std::os::unix::fs::symlink(version, beside("data.new")).unwrap();
            fs::rename(beside("data.new"), beside("data")).unwrap();
        }
    }
}

// row 160, B16: each way, with good and with bad files, while clients change the store: nothing asked is lost, a bad file
// changes nothing and every fault of it is named.
#[test]
fn every_way_of_reloading_under_load_loses_no_request() {
    for way in [Way::InPlace, Way::Rename, Way::LinkSwap, Way::Signal] {
        let store = TestStore::new();
        let file = store.beside("storedd.toml");
        let watch = format!("[reload]\nwatch = {}\n", !matches!(way, Way::Signal));
        let good = |level: &str| format!("{watch}[messages]\nlevel = \"{level}\"\n");
        if matches!(way, Way::LinkSwap) {
            fs::create_dir(store.beside("v0")).unwrap();
            fs::write(store.beside("v0/storedd.toml"), good("info")).unwrap();
            std::os::unix::fs::symlink("v0", store.beside("data")).unwrap();
            std::os::unix::fs::symlink("data/storedd.toml", &file).unwrap();
        } else {
            fs::write(&file, good("info")).unwrap();
        }
        let daemon = store.start_with(&["--config", file.to_str().unwrap()]);
        let level = || store.json(&["config", "show"])["messages.level"].clone();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Also when the test fails, or the load would go on for ever.
            let _ends = Ends(&done);
            let load = scope.spawn(|| {
                let mut client = daemon.client();
                let mut asked = 0;
                while !done.load(Ordering::Relaxed) {
                    let user = format!("u{asked}");
                    let command =
                        proto::Command::UserAdd { user, partition: None, quota_bytes: None, quota_messages: None };
                    client.call(&proto::Request::Change { command, dry_run: false }).unwrap();
                    asked += 1;
                }
                asked
            });
            change(way, &daemon, &file, &good("debug"));
            until(&format!("{way:?} in force"), || level() == "debug");
            let bad = format!("{watch}[messages]\nlevel = \"loud\"\n[log]\nspares = 99\n");
            change(way, &daemon, &file, &bad);
            until(&format!("{way:?} refused"), || daemon.log().matches("event=reload_refused").count() >= 2);
            assert_eq!(level(), "debug", "{way:?}");
            change(way, &daemon, &file, &format!("{}[log]\nspares = 5\n", good("warn")));
            until(&format!("{way:?} good again"), || level() == "warn");
            done.store(true, Ordering::Relaxed);
            let asked: u64 = load.join().unwrap();
            assert!(asked > 0);
            assert_eq!(store.json(&["status"])["users"], asked, "{way:?}");
        });
        let log = daemon.log();
        assert!(log.contains("spares") && log.contains("effect=restart"), "{way:?}: {log}");
        assert!(log.contains("storedd.toml:4") && log.contains("storedd.toml:6"), "{way:?}: {log}");
        assert_eq!(store.json(&["config", "show"])["log.spares"], 2, "waits for a restart");
        assert_eq!(daemon.stop(), 0);
    }
}

// row 160: set persists, checks the range, keeps what else is in the file, and says whether a restart is needed.
#[test]
fn an_option_is_set_shown_and_checked() {
    let (store, file, daemon) = started("# ours\n[messages]\nlevel = \"info\" # quiet\n");
    assert_eq!(store.json(&["config", "get", "messages.level"]), "info");
    assert_eq!(store.ctl(&["config", "get", "log.segment_size"]).expect(0).out, "64MiB\n");
    assert_eq!(store.json(&["config", "get", "log.spares", "--defaults"]), 2);
    let unknown = store.ctl(&["config", "get", "messages.spares"]).expect(65);
    assert!(unknown.err.contains("config get log.spares"), "{unknown:?}");

    let set = store.json(&["config", "set", "messages.level", "debug"]);
    assert_eq!(set["in_force"], true, "{set}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "# ours\n[messages]\nlevel = \"debug\" # quiet\n");
    assert_eq!(store.json(&["config", "get", "messages.level"]), "debug");

    let before = fs::read(&file).unwrap();
    for (option, value, place) in [("log.spares", "1000", "0 to 64"), ("log.segment_size", "3MiB", "a power of two")] {
        let refused = store.ctl(&["config", "set", option, value]).expect(78);
        assert!(refused.err.contains("storedd.toml") && refused.err.contains(place), "{refused:?}");
        assert_eq!(fs::read(&file).unwrap(), before);
    }
    for words in [&["log.spare", "--default"][..], &["log.spare", "1"]] {
        let refused = store.ctl(&[&["config", "set"], words].concat()).expect(65);
        assert!(refused.err.contains("config get log.spares"), "{refused:?}");
        assert_eq!(fs::read(&file).unwrap(), before);
    }
    assert_eq!(store.json(&["config", "set", "log.spares", "7", "--dry-run"])["dry_run"], true);
    assert_eq!(fs::read(&file).unwrap(), before);

    let set = store.ctl(&["config", "set", "log.spares", "7"]).expect(0);
    assert!(set.out.contains("storectl restart"), "{set:?}");
    let reloaded = store.json(&["config", "reload"]);
    assert_eq!(
        reloaded["pending"],
        serde_json::json!([{"option": "log.spares", "from": "2", "to": "7"}]),
        "{reloaded}"
    );
    assert_eq!(store.json(&["config", "get", "log.spares"]), 2);
    store.ctl(&["restart"]).expect(0);
    assert_eq!(store.json(&["config", "get", "log.spares"]), 7);
    assert_eq!(store.json(&["config", "reload"])["pending"], serde_json::json!([]));
    store.ctl(&["config", "set", "log.spares", "--default"]).expect(0);
    assert!(!fs::read_to_string(&file).unwrap().contains("spares"));

    store.ctl(&["config", "check"]).expect(0);
    fs::write(&file, "[messages]\nlevel = 7\n").unwrap();
    let bad = store.ctl(&["config", "check"]).expect(78);
    assert!(bad.err.contains("storedd.toml:2"), "{bad:?}");
    let bad = store.ctl(&["config", "reload"]).expect(78);
    assert!(bad.err.contains("storedd.toml:2: messages.level"), "{bad:?}");
    // The way out of a bad file is the same command.
    store.ctl(&["config", "set", "messages.level", "info"]).expect(0);
    // The command line, which named the directory, wins over the file.
    let given = store.json(&["config", "set", "control.socket", "/run/other.sock"]);
    assert_eq!(given["in_force"], false, "{given}");
    assert_eq!(store.json(&["config", "set", "control.socket", "--default"])["option"], "control.socket");
    // The same file by another name.
    std::os::unix::fs::symlink(&file, file.with_file_name("link.toml")).unwrap();
    let link = file.with_file_name("link.toml");
    let set = store.json(&["--config", link.to_str().unwrap(), "config", "set", "messages.level", "warn"]);
    assert_eq!(set["in_force"], true, "{set}");
    assert_eq!(daemon.stop(), 0);
    let mut none = TestStore::new();
    none.small_logs = false;
    let _daemon = none.start();
    none.ctl(&["config", "set", "log.spares", "3"]).expect(78);
}
