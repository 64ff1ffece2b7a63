//! What a start does, says, and asks for: progress, the backlog of the log, the commands that it prints.

use crate::harness::{PATIENCE, TestStore, run, typed};
use crate::numbers::{metrics, value};
use proto::{Client, Code, Reply, Request, Timeouts};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// A configuration file beside the store.
fn configured(store: &TestStore, text: &str) -> PathBuf {
    let file = store.beside("storedd.toml");
    std::fs::write(&file, text).unwrap();
    file
}

/// Waits until something is so.
#[track_caller]
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Rights of one mailbox after another, long ones: `count` changes of about `count / 30` KiB each at the end.
fn rights(count: usize) -> String {
    let long = "x".repeat(200);
    (0..count).map(|n| format!("acl set user/joe/INBOX {n}{long} lrs\n")).collect()
}

// row 42: more log than the limit is said at the start, and a checkpoint works it off although none is due.
#[test]
fn a_start_works_off_more_log_than_the_limit() {
    let store = TestStore::new();
    let idle = "[log]\nsegment_size = \"1MiB\"\n[checkpoint]\ninterval = \"86400s\"\nreplay_target = \"3600s\"\n";
    let config = configured(&store, &format!("{idle}[alarm]\nmax_log = 2\n"));
    let args = ["--config", config.to_str().unwrap()];
    let daemon = store.start_with(&args);
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl_with(&["batch", "-"], Some(rights(250).as_bytes())).expect(0);
    let segments = || store.json(&["log", "list", "--all"]).as_array().unwrap().len();
    let before = segments();
    assert!(before > 3, "{before} segments are no backlog");
    assert!(!daemon.log().contains("warn event=log_backlog"));
    daemon.kill();
    let daemon = store.start_with(&args);
    let told = daemon.log();
    let line = told.lines().rfind(|line| line.contains("event=log_backlog")).unwrap();
    assert!(line.contains(" warn ") && line.contains("max_log=2"), "{line}");
    until("the log is worked off", || segments() <= 3);
    let status = store.json(&["status"]);
    assert_eq!(status["checkpoint_lsn"], status["applied_lsn"], "{status}");
    // Within the limit nothing is done ahead of time.
    store.ctl(&["acl", "set", "user/joe/INBOX", "ann", "lrs"]).expect(0);
    daemon.kill();
    let daemon = store.start_with(&args);
    let told = daemon.log();
    let line = told.lines().rfind(|line| line.contains("event=log_backlog")).unwrap();
    assert!(line.contains(" info ") && line.contains("segments=1"), "{line}");
}

// row 42: one old change is too old, however few segments there are.
#[test]
fn a_start_works_off_log_that_is_too_old() {
    let store = TestStore::new();
    let config = configured(
        &store,
        "[checkpoint]\ninterval = \"86400s\"\nreplay_target = \"3600s\"\n[alarm]\nmax_log_age = \"1s\"\n",
    );
    let args = ["--config", config.to_str().unwrap()];
    let daemon = store.start_with(&args);
    store.ctl(&["user", "add", "joe"]).expect(0);
    daemon.kill();
    std::thread::sleep(Duration::from_millis(2100));
    let daemon = store.start_with(&args);
    let told = daemon.log();
    let line = told.lines().rfind(|line| line.contains("event=log_backlog")).unwrap();
    assert!(line.contains(" warn ") && line.contains("max_log_age_seconds=1"), "{line}");
    until("a checkpoint", || store.json(&["status"])["checkpoint_lsn"].as_u64().unwrap() > 0);
}

// row 3, row 36, row 2: while a start recovers, its state and progress can be asked, and what needs the store is told
// to wait instead of hanging.
#[test]
fn progress_can_be_asked_during_a_recovery() {
    let store = TestStore::new();
    let config = configured(&store, "[checkpoint]\ninterval = \"86400s\"\nreplay_target = \"3600s\"\n");
    let args = ["--config", config.to_str().unwrap()];
    let daemon = store.start_with(&args);
    let users: String = (0..12_000).map(|n| format!("user add user{n}\n")).collect();
    store.ctl_with(&["batch", "-"], Some(users.as_bytes())).expect(0);
    daemon.kill();
    let mut daemon = store.spawn(&args);
    let (mut percents, mut refused) = (Vec::new(), 0);
    until("ready", || {
        assert!(daemon.child.try_wait().unwrap().is_none(), "{}", daemon.log());
        let Ok(mut client) = Client::connect(&daemon.socket, "test", Timeouts::default()) else { return false };
        let Reply::Status(status) = client.call(&Request::Status).unwrap() else { panic!("no status") };
        if status.state == "recovering" {
            percents.push(status.percent);
            match client.call(&Request::UserShow { user: "user1".to_owned() }) {
                Err(e) => {
                    let failure = e.failure();
                    assert_eq!((failure.code, failure.message.as_str()), (Code::Unavailable, "recovering"));
                    refused += 1;
                }
                // Ready in between.
                Ok(reply) => assert!(matches!(reply, Reply::UserDetail(_)), "{reply:?}"),
            }
        }
        status.state == "ready"
    });
    assert!(!percents.is_empty() && refused > 0, "the recovery was too short to be seen: {}", daemon.log());
    until("users are counted", || !store.json(&["status"])["users"].is_null());
    assert_eq!(store.json(&["status"])["users"], 12_000);
}

// row 4: a store that cannot come up ends the start with its code, and what waits for it is not begun.
#[test]
fn a_failed_start_stops_the_chain() {
    let store = TestStore::new();
    store.start().stop();
    std::fs::write(store.data.join("STORE"), b"not a store").unwrap();
    let mut daemon = store.spawn(&[]);
    assert_eq!(daemon.wait(), 2, "{}", daemon.log());
    let script = "\"$0\" --data-dir \"$2\" health --wait 500ms && echo begun; \"$1\" --data-dir \"$2\" && echo begun";
    let (ctl, storedd) = (env!("CARGO_BIN_EXE_storectl"), env!("CARGO_BIN_EXE_storedd"));
    let ran = run(Command::new("sh").args(["-c", script, ctl, storedd]).arg(&store.data), None);
    assert_eq!((ran.status, ran.out.as_str()), (2, ""), "{ran:?}");
    // What can come up is waited for, from before its daemon is there.
    let fresh = TestStore::new();
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| fresh.ctl(&["health", "--wait", "60s"]));
        std::thread::sleep(Duration::from_millis(100));
        let _daemon = fresh.start();
        waiting.join().unwrap()
    });
    waiting.expect(0);
}

// row 9: the same process, data and options; ready when the command returns; refused while the configuration is bad.
#[test]
fn a_restart_comes_back_with_everything() {
    let store = TestStore::new();
    let config = configured(&store, "[messages]\nlevel = \"info\"\n");
    let mut daemon = store.start_with(&["--config", config.to_str().unwrap()]);
    store.ctl(&["user", "add", "joe"]).expect(0);
    let before = store.json(&["status"]);
    std::fs::write(&config, "[log]\nspares = \"many\"\n").unwrap();
    let refused = store.ctl(&["restart"]).expect(78);
    assert!(refused.err.contains("storedd.toml:2: log.spares"), "{refused:?}");
    assert_eq!(store.json(&["status"])["pid"], before["pid"]);
    std::fs::write(&config, "[log]\nspares = 3\n").unwrap();
    store.ctl(&["restart"]).expect(0);
    let after = store.json(&["status"]);
    assert_eq!((&after["state"], &after["pid"]), (&"ready".into(), &before["pid"]), "{after}");
    assert_eq!(after["store_id"], before["store_id"]);
    assert_eq!(store.json(&["user", "show", "joe"])["user"], "joe");
    assert_eq!(store.json(&["config", "show"])["log.spares"], 3);
    let reports = store.json(&["recover", "--report", "--last", "5"]);
    let decisions: Vec<&str> = reports.as_array().unwrap().iter().map(|r| r["decision"].as_str().unwrap()).collect();
    assert_eq!(decisions, ["clean", "first start"]);
    for _ in 0..3 {
        assert_eq!(store.json(&["restart"])["done"], true);
    }
    store.ctl(&["shutdown"]).expect(0);
    assert_eq!(daemon.wait(), 0);
    store.ctl(&["restart"]).expect(69);
}

/// What the log told to run, newest start only.
fn told_to_run(log: &str) -> Vec<String> {
    let begun = log.rfind("event=start ").unwrap();
    let steps = log[begun..].lines().filter(|line| line.contains("event=next_step"));
    steps.map(|line| line.split_once("run: ").unwrap().1.trim_end_matches('"').to_owned()).collect()
}

// row 15, row 16, row 49: a start that needs somebody writes what it found and the commands to run; typed as they stand,
// they repair the store. The directory's name needs quotes.
#[test]
fn the_commands_in_the_log_do_the_repair() {
    let mut store = TestStore::new();
    store.data = store.beside("my store");
    let config = configured(
        &store,
        "[recovery]\non_loss = \"hold\"\n[messages]\ndirectory = \"messages\"\n[checkpoint]\ninterval = \"86400s\"\n",
    );
    let args = ["--config", config.to_str().unwrap()];
    let daemon = store.start_with(&args);
    for user in ["ann", "joe", "zoe"] {
        store.ctl(&["user", "add", user]).expect(0);
    }
    std::thread::sleep(Duration::from_millis(300));
    daemon.kill();
    // Damage in the middle of the log: the seal behind it proves that it was durable.
    let log = store.data.join("mboxlist/log.0000000001");
    let mut bytes = std::fs::read(&log).unwrap();
    let joe = bytes.windows(3).rposition(|w| w == b"joe").unwrap();
    bytes[joe] ^= 1;
    std::fs::write(&log, &bytes).unwrap();

    let daemon = store.start_with(&args);
    assert_eq!(store.json(&["status"])["state"], "read-only");
    store.ctl(&["user", "add", "eve"]).expect(69);
    let kept = std::fs::read_to_string(store.data.join("messages/storedd.log")).unwrap();
    assert!(kept.contains("event=recovered") && kept.contains("event=finding"), "{kept}");
    let steps = told_to_run(&kept);
    assert_eq!(steps, told_to_run(&daemon.log()), "stderr says the same");
    assert_eq!(steps.len(), 2, "{steps:?}");
    assert_eq!(store.json(&["recover", "--report"])["next_steps"], serde_json::json!(steps));
    let shown = typed(&steps[0]).expect(0);
    assert!(shown.out.contains("in user/zoe/INBOX"), "{shown:?}");
    let before = std::fs::read(&log).unwrap();
    assert_eq!(before, bytes, "what is held is not changed");
    typed(&steps[1]).expect(2);

    assert_eq!(store.json(&["status"])["state"], "ready");
    let report = store.json(&["recover", "--report"]);
    assert_eq!(report["decision"], "lossy");
    assert!(report["lost"]["mailboxes"].as_array().unwrap().contains(&"user/zoe/INBOX".into()), "{report}");
    store.ctl(&["user", "show", "ann"]).expect(0);
    store.ctl(&["user", "add", "joe"]).expect(0);
    // What was accepted is accepted once: the next loss is held again, and there is none to accept now.
    store.ctl(&["recover", "--accept-loss", "--yes"]).expect(68);
    store.ctl(&["restart"]).expect(0);
    assert_eq!(store.json(&["recover", "--report"])["decision"], "clean");
    assert_eq!(told_to_run(&daemon.log()), Vec::<String>::new());
}

// row 16: what a refused command names as the next one reaches the same store.
#[test]
fn a_hint_can_be_copied() {
    let store = TestStore::new();
    let daemon = store.start();
    let refused = store.ctl(&["mailbox", "create", "user/joe/Work"]).expect(67);
    let next = refused.err.lines().find_map(|line| line.trim().strip_prefix("next: ")).unwrap();
    typed(next).expect(0);
    store.ctl(&["mailbox", "create", "user/joe/Work"]).expect(0);
    drop(daemon);
    let refused = store.ctl(&["user", "list"]).expect(69);
    assert!(refused.err.contains(&format!("storedd --data-dir {}", store.data.display())), "{refused:?}");
}

// row 37, row 68: a bulk load leaves hundreds of logs. A start replays those behind the last checkpoint, all of them and no
// others; a checkpoint that comes by itself leaves a few.
#[test]
fn a_start_replays_hundreds_of_logs() {
    const USERS: usize = 4;
    const ENTRIES: usize = 300;
    let store = TestStore::new();
    let put_off = "[log]\nsegment_size = \"1MiB\"\n[checkpoint]\ninterval = \"86400s\"\nreplay_target = \"3600s\"\n\
                   overlay_bytes = \"4GiB\"\noverlay_bytes_max = \"8GiB\"\nlog_bytes = \"16GiB\"\n";
    let config = configured(&store, &format!("{put_off}[alarm]\nmax_log = 100000\n"));
    let args = ["--config", config.to_str().unwrap()];
    let daemon = store.start_with(&args);
    let long = "x".repeat(200);
    // Rows of 60 KiB: each change writes one.
    let change = |n: usize| {
        (format!("user/u{}/INBOX", n % USERS), format!("{}{long}", n / USERS % ENTRIES), n / USERS / ENTRIES)
    };
    let line = |n: usize| {
        let (mailbox, who, round) = change(n);
        format!("acl set {mailbox} {who} {}\n", &"lrswi"[..=round % 5])
    };
    (0..USERS).for_each(|n| _ = store.ctl(&["user", "add", &format!("u{n}")]).expect(0));
    let first: String = (0..USERS * ENTRIES).map(line).collect();
    store.ctl_with(&["batch", "-"], Some(first.as_bytes())).expect(0);
    let base = store.json(&["checkpoint"])["lsn"].as_u64().unwrap();
    let changes = USERS * ENTRIES..USERS * ENTRIES * 4;
    let rest: String = changes.clone().map(line).collect();
    store.ctl_with(&["batch", "-"], Some(rest.as_bytes())).expect(0);
    let segments = || store.json(&["log", "list", "--all"]).as_array().unwrap().len();
    let before = segments();
    assert!(before >= 200, "{before} segments are not hundreds");
    daemon.kill();

    let daemon = store.start_with(&args);
    let report = store.json(&["recover", "--report"]);
    assert_eq!(report["base_lsn"].as_u64(), Some(base), "{report}");
    let (reached, replayed) = (report["reached_lsn"].as_u64().unwrap(), report["replayed"].as_u64().unwrap());
    assert_eq!(replayed, reached - base, "{report}");
    assert!(replayed >= changes.len() as u64, "{report}");
    assert!(segments() >= 200, "no checkpoint came yet");
    let right = |n: usize| {
        let (mailbox, who, round) = change(n);
        (store.json(&["acl", "get", &mailbox])["acl"][&who].clone(), "lrswi"[..=round % 5].to_owned())
    };
    for n in changes.clone().rev().take(USERS).chain([USERS * ENTRIES * 3, USERS * ENTRIES * 3 + 601]) {
        let (found, expected) = right(n);
        assert_eq!(found, expected.as_str(), "change {n}");
    }
    daemon.kill();

    // With the usual limits a checkpoint follows by itself, and the next start has next to nothing to replay.
    std::fs::write(&config, "[log]\nsegment_size = \"1MiB\"\n").unwrap();
    let daemon = store.start_with(&args);
    until("few segments are left", || segments() <= 3);
    daemon.kill();
    let daemon = store.start_with(&args);
    let report = store.json(&["recover", "--report"]);
    assert!(report["base_lsn"].as_u64().unwrap() >= reached && report["replayed"].as_u64().unwrap() < 10, "{report}");
    drop(daemon);
}

// row B5: no more log gathers than a start replays within its time; a checkpoint comes by itself, whatever else is put off.
#[test]
fn checkpoints_keep_a_start_within_its_time() {
    const CHANGES: usize = 25_000;
    let store = TestStore::new();
    let text = |target: &str| {
        format!(
            "[checkpoint]\ninterval = \"86400s\"\nreplay_target = \"{target}\"\noverlay_bytes = \"4GiB\"\n\
             overlay_bytes_max = \"8GiB\"\nlog_bytes = \"16GiB\"\n"
        )
    };
    let config = configured(&store, &text("3600s"));
    let _daemon = store.start_with(&["--config", config.to_str().unwrap()]);
    store.ctl(&["user", "add", "joe"]).expect(0);
    let lines: String = (0..CHANGES).map(|n| format!("acl set user/joe/INBOX ann {}\n", &"lrs"[..=n % 3])).collect();
    store.ctl_with(&["batch", "-"], Some(lines.as_bytes())).expect(0);
    let checkpoints = || value(&metrics(&store), "storedd_checkpoints_total{outcome=\"done\"}");
    assert_eq!(checkpoints(), 0.0, "nothing asks for one");
    // A tenth of a second is some 20,000 records.
    std::fs::write(&config, text("100ms")).unwrap();
    store.ctl(&["config", "reload"]).expect(0);
    until("a checkpoint comes", || checkpoints() > 0.0);
    assert!(value(&metrics(&store), "storedd_checkpoint_lsn") >= CHANGES as f64);
}

// row 108: names of log files have ten digits and rise, also behind a loss of all of them, of the database too, and a log made anew.
#[test]
fn numbers_of_log_files_never_begin_again() {
    let store = TestStore::new();
    let numbers = || -> Vec<u64> {
        let lines = store.json(&["log", "list", "--all"]);
        let files = lines.as_array().unwrap().iter().map(|line| line["file"].as_str().unwrap().to_owned());
        files
            .map(|file| {
                let digits = file.strip_prefix("log.").unwrap_or_else(|| panic!("{file}")).to_owned();
                assert!(digits.len() == 10 && digits.bytes().all(|b| b.is_ascii_digit()), "{file}");
                digits.parse().unwrap()
            })
            .collect()
    };
    let files = |wanted: &str| -> Vec<std::path::PathBuf> {
        let all = std::fs::read_dir(store.data.join("mboxlist")).unwrap().map(|entry| entry.unwrap().path());
        all.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(wanted)).collect()
    };
    let mut highest = 0;
    let rises = |highest: &mut u64| {
        let now = numbers();
        assert!(now.is_sorted() && now.first() > Some(highest), "{now:?} behind {highest}");
        *highest = now[now.len() - 1];
    };
    let mut daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    for lost in ["log.", "log.", "mboxlist.redb"] {
        let lines: String = (0..4000).map(|n| format!("mailbox create user/joe/{highest}-{n:0200}\n")).collect();
        store.ctl_with(&["batch", "-"], Some(lines.as_bytes())).expect(0);
        highest = numbers().into_iter().max().unwrap();
        daemon.kill();
        files("log.").iter().chain(&files(lost)).for_each(|path| drop(std::fs::remove_file(path)));
        daemon = store.start();
        if store.ctl(&["user", "show", "joe"]).status != 0 {
            store.ctl(&["user", "add", "joe"]).expect(0);
        }
        rises(&mut highest);
    }
    assert_eq!(daemon.stop(), 0);
    store.ctl(&["log", "reset", "--yes"]).expect(0);
    let daemon = store.start();
    rises(&mut highest);
    assert_eq!(daemon.stop(), 0);
}

// row 11: after a kill and after a stop in order alike, the first answer a client gets is of a store that was recovered.
#[test]
fn nobody_is_served_before_the_store_is_consistent() {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    let lines: String = (0..2000).map(|n| format!("mailbox create user/joe/{n}\n")).collect();
    let file = store.beside("lines");
    std::fs::write(&file, lines).unwrap();
    store.ctl(&["batch", file.to_str().unwrap()]).expect(0);
    let whole = store.json(&["mailbox", "list"]);
    daemon.kill();
    for decision in ["replay", "clean"] {
        std::thread::scope(|scope| {
            // It asks from before the daemon is there.
            let first = scope.spawn(|| {
                crate::harness::until("an answer", || {
                    let run = store.ctl(&["--json", "mailbox", "list"]);
                    (run.status == 0).then(|| run.json())
                })
            });
            let daemon = store.start();
            assert_eq!(first.join().unwrap(), whole);
            let report = store.json(&["recover", "--report"]);
            assert!(report.to_string().contains(&format!("\"decision\":\"{decision}\"")), "{report}");
            assert_eq!(daemon.stop(), 0);
        });
    }
}
