//! Alarms as an administrator meets them: raised and cleared, told to a command, the journal and `status`.

use crate::harness::alarms::{cleared, raised};
use crate::harness::disks::Disk;
use crate::harness::{TestStore, until};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Writes a configuration; gives its path.
pub fn configured(store: &TestStore, text: &str) -> String {
    let config = store.beside("storedd.toml");
    std::fs::write(&config, text).unwrap();
    config.to_str().unwrap().to_owned()
}

/// So many mailboxes with long names, by `batch`.
pub fn grow(store: &TestStore, from: u32, count: u32) {
    let name = "x".repeat(220);
    let lines: String = (from..from + count).map(|n| format!("mailbox create user/joe/{name}-{n}\n")).collect();
    store.ctl_with(&["batch", "-"], Some(lines.as_bytes())).expect(0);
}

/// A program that writes down what it is told.
fn scribe(store: &TestStore) -> (PathBuf, PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    let (program, paper) = (store.beside("scribe"), store.beside("told"));
    let text = format!("#!/bin/sh\necho \"$@ $STOREDD_ALARM_SEVERITY $STOREDD_ALARM_CAUSE\" >>{}\n", paper.display());
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    (program, paper)
}

const SLOW: &str = "[log]\nsegment_size = \"1MiB\"\n[checkpoint]\ninterval = \"1h\"\nlog_bytes = \"1TiB\"\n";

// rows 97, 98, 100: log that accumulates is told with number and reason, by every road; the limit can be changed; bulk
// work can silence it.
#[test]
fn log_growth_is_an_alarm_everywhere() {
    let store = TestStore::new();
    let (program, paper) = scribe(&store);
    let text = |max_log: u32| format!("{SLOW}[alarm]\nmax_log = {max_log}\ncommand = {program:?}\n");
    let config = configured(&store, &text(2));
    let daemon = store.start_with(&["--config", &config]);
    store.ctl(&["user", "add", "joe"]).expect(0);
    grow(&store, 0, 9000);

    let found = raised(&store, "log_segments");
    assert!(found["value"].as_f64() > found["limit"].as_f64(), "{found}");
    assert_eq!((found["severity"].as_str(), found["limit"].as_f64()), (Some("warning"), Some(2.0)), "{found}");
    let cause = found["cause"].as_str().unwrap();
    assert!(cause.contains("recovery") && cause.contains("bulk work: storectl"), "{cause}");
    for key in ["subject", "since", "message", "unit", "rate", "time_to_full", "next"] {
        assert!(found.get(key).is_some(), "{key}: {found}");
    }
    let shown = store.ctl(&["status"]).expect(0).out;
    assert!(shown.contains("ALARM log_segments, warning") && shown.contains("  cause: "), "{shown}");
    assert!(daemon.log().contains("event=alarm_raised alarm=log_segments"), "{}", daemon.log());
    assert!(store.ctl(&["metrics"]).expect(0).out.contains("storedd_alarms{name=\"log_segments\"} 1\n"));
    let told = |what: &str| {
        let read = || std::fs::read_to_string(&paper).ok().filter(|told| told.contains(what));
        until(&format!("the command is told: {what}"), read)
    };
    assert!(told("raised log_segments").contains(" warning "));

    let window = store.json(&["maintenance", "start", "--for", "1h", "--reason", "import"]);
    assert_eq!((&window["active"], &window["reason"]), (&Value::Bool(true), &"import".into()), "{window}");
    assert_eq!(store.json(&["status"])["maintenance"]["reason"], "import");
    raised(&store, "log_segments");
    configured(&store, &text(1000));
    cleared(&store, "log_segments");
    told("cleared log_segments");
    configured(&store, &text(2));
    store.ctl(&["maintenance", "start", "--for", "0s"]).expect(65);
    assert_eq!(store.json(&["maintenance", "stop"])["active"], false);
    raised(&store, "log_segments");

    configured(&store, &text(1000));
    cleared(&store, "log_segments");
    configured(&store, &text(2));
    raised(&store, "log_segments");
    store.ctl(&["checkpoint"]).expect(0);
    cleared(&store, "log_segments");
    until("the journal says so", || daemon.log().contains("event=alarm_cleared alarm=log_segments").then_some(()));
    assert_eq!(daemon.stop(), 0, "an alarm alone restarts nothing");
}

// row 99: with the option on, an excess that stays ends the daemon with a status that a service manager restarts.
#[test]
fn an_excess_that_stays_ends_the_daemon_where_that_is_asked_for() {
    let store = TestStore::new();
    let more = "[alarm]\nmax_log = 2\nrestart_on_excess = true\nrestart_after = \"2s\"\n";
    let config = configured(&store, &format!("{SLOW}{more}"));
    let args = ["--config", config.as_str()];
    let mut daemon = store.start_with(&args);
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["maintenance", "start", "--for", "1h"]).expect(0);
    grow(&store, 0, 9000);
    std::thread::sleep(Duration::from_secs(4));
    store.ctl(&["health"]).expect(0);
    store.ctl(&["maintenance", "stop"]).expect(0);
    assert_eq!(daemon.wait(), 75);
    assert!(daemon.log().contains("event=log_excess "), "{}", daemon.log());
    let _daemon = store.start_with(&args);
    let mailboxes = || store.json(&["status"])["mailboxes"].as_u64();
    assert_eq!(until("they are counted", mailboxes), 9001, "nothing is lost by it");
}

// row B7: a log that cannot be written ends the daemon, which tells so before it is gone; the next start recovers, and tells that.
#[test]
fn a_log_that_cannot_be_written_is_told_of_before_the_end() {
    let store = TestStore::new();
    let Some(disk) = Disk::mount(&store) else { return };
    let (program, paper) = scribe(&store);
    let text = format!(
        "[store]\nlog_dir = {:?}\n[log]\nsegment_size = \"1MiB\"\n[alarm]\ncommand = {program:?}\n",
        disk.at.join("log")
    );
    let config = configured(&store, &text);
    let told = |what: &str| std::fs::read_to_string(&paper).unwrap_or_default().contains(what);
    let mut daemon = store.start_with(&["--config", &config]);
    store.ctl(&["user", "add", "joe"]).expect(0);
    disk.breaks();
    let failed = store.ctl(&["user", "add", "ann"]).expect(71);
    assert!(failed.err.contains("log"), "{failed:?}");
    assert_eq!(daemon.wait(), 71);
    let log = daemon.log();
    let raised = log.lines().find(|line| line.contains("event=alarm_raised alarm=poisoned"));
    assert!(raised.is_some_and(|line| line.contains("severity=critical")), "{log}");
    assert!(told("raised poisoned"), "{log}");
    store.ctl(&["status"]).expect(3);

    disk.mended();
    let daemon = store.start_with(&["--config", &config]);
    until("it is told that it is over", || told("cleared poisoned").then_some(()));
    cleared(&store, "poisoned");
    assert!(store.json(&["user", "list"]).to_string().contains("joe"), "what was acknowledged is there");
    store.ctl(&["user", "add", "eve"]).expect(0);
    assert_eq!(daemon.stop(), 0);
    // Told once: the start after a good end has nothing to tell of it.
    drop(std::fs::remove_file(&paper));
    let daemon = store.start_with(&["--config", &config]);
    std::thread::sleep(Duration::from_secs(4));
    assert!(!told("poisoned"));
    assert_eq!(daemon.stop(), 0);
}

// A checkpoint that does not come, and a stamp that cannot be written.
#[test]
fn a_stalled_checkpoint_and_a_stale_stamp_are_alarms() {
    let store = TestStore::new();
    let config = configured(&store, &format!("{SLOW}[alarm]\nmax_log_age = \"1s\"\n"));
    let _daemon = store.start_with(&["--config", &config]);
    store.ctl(&["user", "add", "joe"]).expect(0);
    let found = raised(&store, "checkpoint_age");
    assert_eq!((found["unit"].as_str(), found["next"].as_str()), (Some("seconds"), Some("storectl checkpoint")));
    let obstacle = store.data.join("stored.ckp.new");
    std::fs::create_dir(&obstacle).unwrap();
    store.ctl(&["checkpoint"]).expect(0);
    cleared(&store, "checkpoint_age");
    assert_eq!(raised(&store, "stale_stamp")["subject"], "stored.ckp");
    std::fs::remove_dir(&obstacle).unwrap();
    cleared(&store, "stale_stamp");
}

// Every alarm that there is has its chapter.
#[test]
fn every_alarm_is_documented() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/alarms.md")).unwrap();
    for name in storedd::alarms::Name::ALL {
        assert!(text.contains(&format!("\n## {}\n", name.word())), "docs/alarms.md has no chapter {}", name.word());
    }
}

/// Makes a stopped store so much older: its marker says when it was made.
fn age(store: &TestStore, days: u64) {
    let file = store.data.join("STORE");
    let mut marker = std::fs::read(&file).unwrap();
    let made = u64::from_le_bytes(marker[28..36].try_into().unwrap());
    marker[28..36].copy_from_slice(&(made - days * 86_400_000_000).to_le_bytes());
    let sum = storedd::checksum::Crc::seeded(b"STORE").add(&marker[..60]).value();
    marker[60..].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(&file, marker).unwrap();
}

// rows 81, B1, B7: copies that nobody makes are told of, each with its age and the command that ends the alarm, which does
// what it says. The limits are those of the service; the store is made older.
#[test]
fn a_store_without_copies_says_how_old_they_are() {
    let store = TestStore::new();
    let backups = store.beside("backups");
    std::fs::create_dir(&backups).unwrap();
    let text = format!("[backup]\ndirectory = {backups:?}\n[jobs]\nschedule = false\n");
    let config = configured(&store, &text);
    let args = ["--config", config.as_str()];
    let daemon = store.start_with(&args);
    store.ctl(&["user", "add", "joe"]).expect(0);
    std::thread::sleep(Duration::from_secs(2));
    let names = ["snapshot_age", "backup_age", "drill_age"];
    for name in names {
        assert_eq!(crate::harness::alarms::alarm(&store, name), None, "a new store has time");
    }
    assert_eq!(daemon.stop(), 0);
    age(&store, 30);
    let daemon = store.start_with(&args);
    let place = backups.display().to_string();
    let drilled = ["drill".to_owned()];
    let taken = ["snapshot", "take", "--verify"].map(str::to_owned);
    let backed_up = ["backup-db".to_owned(), place];
    for (name, limit, cures) in [
        ("snapshot_age", 2.0 * 86_400.0, &taken[..]),
        ("backup_age", 172_800.0, &backed_up[..]),
        ("drill_age", 1_296_000.0, &drilled[..]),
    ] {
        let found = raised(&store, name);
        assert_eq!((found["severity"].as_str(), found["limit"].as_f64()), (Some("warning"), Some(limit)), "{found}");
        let days = found["value"].as_f64().unwrap() / 86_400.0;
        assert!((29.9..30.1).contains(&days), "{found}");
        let next = found["next"].as_str().unwrap();
        assert!(next.starts_with(&format!("storectl {}", cures[0])), "{found}");
        store.ctl(&cures.iter().map(String::as_str).collect::<Vec<_>>()).expect(0);
        cleared(&store, name);
        until("the journal says so", || {
            daemon.log().contains(&format!("event=alarm_cleared alarm={name}")).then_some(())
        });
    }
    // What is to be done every night was never done either.
    for stamp in ["stored.exp", "stored.pur", "stored.per"] {
        let status = store.json(&["status"]);
        let found = status["alarms"].as_array().unwrap().iter().find(|alarm| alarm["subject"] == stamp).unwrap();
        let verb = found["next"].as_str().unwrap().strip_prefix("storectl ").unwrap();
        store.ctl(&[verb]).expect(0);
    }
    cleared(&store, "stale_stamp");
    let status = store.json(&["status"]);
    assert!(
        status["snapshot_age"].as_f64().unwrap() < 600.0 && status["alarms"].as_array().unwrap().is_empty(),
        "{status}"
    );
    assert_eq!(daemon.stop(), 0);
}

// rows 81, B7: an archive of mail that nobody takes any more is told of, from the first one on, also behind a restart; before, nothing told.
#[test]
fn a_store_whose_mail_is_not_backed_up_any_more_says_so() {
    let store = TestStore::new();
    let config = configured(&store, "[backup]\nmail_max_age = \"12s\"\n");
    let args = ["--config", config.as_str()];
    let daemon = store.start_with(&args);
    store.ctl(&["user", "add", "joe"]).expect(0);
    let archive = store.beside("mail.sda");
    let take = |object: &str| drop(store.ctl(&["backup", "-f", archive.to_str().unwrap(), object]).expect(0));
    take("joe");
    std::thread::sleep(Duration::from_secs(14));
    assert_eq!(crate::harness::alarms::alarm(&store, "mail_backup_age"), None, "nobody has ever taken all of it");
    take("/");
    let found = raised(&store, "mail_backup_age");
    assert_eq!((found["limit"].as_f64(), found["next"].as_str()), (Some(12.0), Some("storectl backup -f FILE /")));
    assert_eq!(daemon.stop(), 0);
    let daemon = store.start_with(&args);
    raised(&store, "mail_backup_age");
    assert!(store.ctl(&["metrics"]).expect(0).out.contains("\nstoredd_mail_backup_timestamp_seconds "));
    take("/");
    cleared(&store, "mail_backup_age");
    configured(&store, "[backup]\nmail_max_age = \"0s\"\n");
    store.ctl(&["config", "reload"]).expect(0);
    std::thread::sleep(Duration::from_secs(14));
    assert_eq!(crate::harness::alarms::alarm(&store, "mail_backup_age"), None);
    assert_eq!(daemon.stop(), 0);
}

// A clock that was ahead once: what was done then is named with its stamp, is due, and the alarm ends when it was done again.
#[test]
fn what_was_stamped_by_a_clock_that_was_ahead_is_named_and_due() {
    let store = TestStore::new();
    let config = configured(&store, "[jobs]\nschedule = false\n");
    let daemon = store.start_with(&["--config", &config]);
    for verb in ["expire", "purge", "peruser"] {
        store.ctl(&[verb]).expect(0);
    }
    assert_eq!(daemon.stop(), 0);
    let state = store.data.join("state");
    let text = std::fs::read_to_string(&state).unwrap();
    let later = |line: &str| match line.split_once('=') {
        Some((key @ ("expire" | "purge" | "peruser"), time)) => format!("{key}=21{}\n", &time[2..]),
        _ => format!("{line}\n"),
    };
    std::fs::write(&state, text.lines().map(later).collect::<String>()).unwrap();
    let daemon = store.start_with(&["--config", &config]);
    for verb in ["expire", "purge", "peruser"] {
        let status = store.json(&["status"]);
        let of = |alarm: &&serde_json::Value| alarm["name"] == "clock" && alarm["subject"] == verb;
        let found = status["alarms"].as_array().unwrap().iter().find(of).unwrap_or_else(|| panic!("{verb}: {status}"));
        assert!(found["message"].as_str().unwrap().contains(&format!("the last {verb} is stamped 21")), "{found}");
        assert_eq!(found["next"], format!("storectl {verb}"));
    }
    store.ctl(&["expire"]).expect(0);
    // The others by themselves.
    configured(&store, "");
    store.ctl(&["config", "reload"]).expect(0);
    cleared(&store, "clock");
    assert_eq!(daemon.stop(), 0);
}
