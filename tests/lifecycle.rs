//! The daemon's life: start, ready, one owner, stop, state file, offline verbs.

use crate::harness::{TestStore, run};
use proto::{Reply, Request};
use rustix::process::Signal;
use std::process::Command;

// row 1, row 2, row 14
#[test]
fn a_start_makes_a_store_and_status_says_so() {
    let store = TestStore::new();
    store.ctl(&["status"]).expect(3);
    store.ctl(&["health"]).expect(69);
    let daemon = store.start();
    let status = store.json(&["status"]);
    assert_eq!(status["state"], "ready");
    assert_eq!(status["pid"], daemon.child.id());
    assert_eq!(status["repair_recommended"], false);
    assert_eq!(status["alarms"], serde_json::json!([]));
    for key in ["store_id", "version", "applied_lsn", "synced_lsn", "checkpoint_lsn", "checkpoint_age", "snapshot_age"]
    {
        assert!(status.get(key).is_some(), "{key}: {status}");
    }
    store.ctl(&["health"]).expect(0);
    let state = std::fs::read_to_string(store.data.join("state")).unwrap();
    assert!(state.contains("state=ready") && state.contains(&format!("pid={}", daemon.child.id())), "{state}");
}

// row 12, row 40: a second owner, and every offline verb, is refused while the first lives, with its pid.
#[test]
fn one_owner_only() {
    let store = TestStore::new();
    let daemon = store.start();
    let pid = daemon.child.id().to_string();
    for args in [&[][..], &["recover"], &["recover", "--dry-run"], &["test"], &["test", "-lv"]] {
        let refused = store.storedd(args).expect(75);
        assert!(refused.err.contains(&pid), "{args:?}: {refused:?}");
    }
    for args in [&["recover"][..], &["test"]] {
        let refused = store.ctl(args).expect(75);
        assert!(refused.err.contains(&pid), "{args:?}: {refused:?}");
    }
    assert_eq!(store.json(&["status"])["pid"], daemon.child.id());
    daemon.kill();
    // A dead owner's lock and socket never block a start.
    let _again = store.start();
}

// R7: the log fails where nobody waits for an answer, at the seal of a store that rests: the process ends all the same.
#[test]
fn a_log_that_fails_while_nobody_asks_ends_the_daemon() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let store = TestStore::new();
    let config = store.beside("storedd.toml");
    std::fs::write(&config, "[log]\nseal_idle = \"3s\"\n").unwrap();
    // A file may then not be written beyond its first page; the signal that comes with it is not for this test.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_storedd")]);
    let mut daemon = store.spawn_by(command, &["--config", config.to_str().unwrap()]);
    daemon.wait_ready();
    store.ctl(&["user", "add", "joe"]).expect(0);
    let page = Rlimit { current: Some(4096), maximum: None };
    prlimit(Some(Pid::from_child(&daemon.child)), Resource::Fsize, page).unwrap();
    assert_eq!(daemon.wait(), 71, "{}", daemon.log());
    let _again = store.start();
    store.ctl(&["user", "show", "joe"]).expect(0);
}

// S22, row 5: a stop leaves no socket and no lock, and the next start has nothing to replay.
#[test]
fn sigterm_and_shutdown_stop_cleanly() {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    assert_eq!(daemon.stop(), 0);
    assert!(!store.data.join("control.sock").exists());
    let mut daemon = store.start();
    assert_eq!(store.json(&["recover", "--report"])["decision"], "clean");
    store.ctl(&["shutdown"]).expect(0);
    assert_eq!(daemon.wait(), 0);
    let state = std::fs::read_to_string(store.data.join("state")).unwrap();
    assert!(state.contains("state=stopped"), "{state}");
    store.start();
}

// row 6: a client that hangs does not hold the stop up beyond its limit.
#[test]
fn a_hung_client_does_not_block_a_stop() {
    let store = TestStore::new();
    let daemon = store.start();
    let _idle = daemon.client();
    let _raw = std::os::unix::net::UnixStream::connect(&daemon.socket).unwrap();
    assert_eq!(daemon.stop(), 0);
}

// row 18, row 20, row 23, row 28: kill -9, start again, everything is there; the report says what was done.
#[test]
fn a_kill_costs_nothing_and_is_reported() {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe@example.org"]).expect(0);
    store.ctl(&["mailbox", "create", "user/joe@example.org/Sent"]).expect(0);
    let holds = || {
        let status = store.json(&["status"]);
        (status["users"].as_u64(), status["mailboxes"].as_u64())
    };
    assert_eq!(holds(), (Some(1), Some(2)), "the numbers are of this moment, not of the last checkpoint");
    daemon.kill();
    let _daemon = store.start();
    store.ctl(&["checkpoint"]).expect(0);
    assert_eq!(holds(), (Some(1), Some(2)));
    let report = store.json(&["recover", "--report"]);
    assert_eq!(report["decision"], "replay");
    assert_eq!(report["base"], "live");
    assert_eq!(report["lost"], serde_json::Value::Null);
    assert_eq!(report["possible_loss"], false);
    assert_eq!(report["replayed"].as_u64().unwrap(), report["reached_lsn"].as_u64().unwrap());
    assert_eq!(store.json(&["mailbox", "list"]).as_array().unwrap().len(), 2);
    let all = store.json(&["recover", "--report", "--last", "5"]);
    assert_eq!(all.as_array().unwrap().len(), 2, "one report for each start: {all}");
}

// row 24, row 26, row 55, row 56, row 59, row 60, row 61: recover and test on a stopped store.
#[test]
fn recover_and_test_on_a_stopped_store() {
    let store = TestStore::new();
    let fresh = store.storedd(&["test", "-v"]).expect(0);
    assert!(fresh.out.contains("table mailboxes: 0 rows"), "{fresh:?}");
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    daemon.kill();
    let before = store.tree();
    let plan = store.storedd(&["recover", "--dry-run", "--json"]).expect(0).json();
    assert_eq!(plan["decision"], "replay");
    assert_eq!(store.tree(), before, "I7: a dry run changes nothing");
    let done = store.storedd(&["recover", "--final"]).expect(0);
    assert!(done.out.lines().filter(|l| l.ends_with("... done")).count() >= 3, "{done:?}");
    assert!(store.ctl(&["recover", "-v"]).expect(0).out.contains("nothing lost"));
    let daemon = store.start();
    store.ctl(&["user", "add", "eve"]).expect(0);
    daemon.kill();
    let tested = store.storedd(&["test", "-rlv", "--json"]).expect(0).json();
    assert_eq!(tested["ok"], true);
    assert_eq!(
        store.storedd(&["recover", "--dry-run", "--json"]).expect(0).json()["decision"],
        "clean",
        "it recovered"
    );
}

// row 62: a test ends in time beside a daemon that hangs, or when it is interrupted; then the run with -r works.
#[test]
fn a_test_never_hangs_with_what_it_tests() {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    daemon.signal(Signal::STOP);
    // Of a running store only deadlocks are asked for, and a daemon that does not answer has a time limit.
    let begun = std::time::Instant::now();
    store.ctl(&["--timeout", "2s", "test", "-l"]).expect(69);
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
    let pid = daemon.child.id().to_string();
    for refused in [store.storedd(&["test", "-l"]), store.ctl(&["test", "-r"]), store.ctl(&["test"])] {
        assert!(refused.status == 75 && refused.err.contains(&pid), "{refused:?}");
    }
    let mut waits = std::process::Command::new(env!("CARGO_BIN_EXE_storectl"));
    let mut waits = waits.arg("--data-dir").arg(&store.data).args(["--timeout", "1h", "test", "-l"]).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(waits.try_wait().unwrap(), None, "it waits");
    rustix::process::kill_process(rustix::process::Pid::from_child(&waits), Signal::INT).unwrap();
    let ended = crate::harness::until("Ctrl-C ends it", || waits.try_wait().unwrap());
    assert!(!ended.success(), "{ended}");
    daemon.kill();
    let tested = store.ctl(&["test", "-rlv"]).expect(0);
    assert!(tested.out.contains("the store is good"), "{tested:?}");
}

// row 29, row 30, row 31, row 57: a missing file is named, nothing is changed, and putting it back heals.
#[test]
fn a_missing_log_or_database_is_named_and_nothing_changes() {
    for file in ["log.0000000001", "mboxlist.redb"] {
        let store = TestStore::new();
        let daemon = store.start();
        store.ctl(&["user", "add", "joe"]).expect(0);
        daemon.kill();
        let path = store.data.join("mboxlist").join(file);
        let aside = store.beside(file);
        std::fs::rename(&path, &aside).unwrap();
        let before = store.tree();
        let refused = store.storedd(&["recover", "--json"]).expect(2);
        let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(file), "{message}");
        assert_eq!(message.matches("mboxlist/").count(), 1, "no other file: {message}");
        let after: Vec<_> = store.tree().into_iter().filter(|(name, _)| name != "failed-recovery").collect();
        assert_eq!(after, before, "nothing is changed but the mark");
        assert!(store.storedd(&["test"]).expect(1).err.contains(file));
        // Remembered: until a recovery succeeds, a start is read-only or refused, never a silent way round.
        let mut held = store.spawn(&[]);
        if file == "log.0000000001" {
            held.wait_ready();
            assert_eq!(store.json(&["status"])["state"], "read-only");
            store.ctl(&["user", "add", "eve"]).expect(69);
            assert_eq!(held.stop(), 0);
        } else {
            assert_eq!(held.wait(), 2);
        }
        std::fs::rename(&aside, &path).unwrap();
        store.storedd(&["recover"]).expect(0);
        let _daemon = store.start();
        assert_eq!(store.json(&["status"])["state"], "ready");
        assert_eq!(store.json(&["user", "list"]).as_array().unwrap().len(), 1);
    }
}

// row 22, row 41: the database file is a view of the log.
#[test]
fn a_start_without_the_database_rebuilds_it_from_the_whole_log() {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["checkpoint"]).expect(0);
    store.ctl(&["mailbox", "create", "user/joe/a"]).expect(0);
    let before = store.json(&["mailbox", "list"]);
    daemon.kill();
    std::fs::remove_file(store.data.join("mboxlist/mboxlist.redb")).unwrap();
    let _daemon = store.start();
    let report = store.json(&["recover", "--report"]);
    assert_eq!((&report["decision"], &report["base"]), (&"rebuild".into(), &"empty".into()));
    assert_eq!(report["lost"], serde_json::Value::Null);
    assert_eq!(store.json(&["mailbox", "list"]), before);
}

// row 38: a flipped byte in the middle of the log is damage, said by file and offset, never a silent end.
#[test]
fn a_damaged_log_is_named_with_its_offset() {
    let store = TestStore::new();
    let daemon = store.start();
    for n in 0..20 {
        store.ctl(&["user", "add", &format!("u{n}")]).expect(0);
    }
    daemon.kill();
    let log = store.data.join("mboxlist/log.0000000001");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[4096 + 700] ^= 0x40;
    std::fs::write(&log, &bytes).unwrap();
    let before = store.tree();
    let refused = store.storedd(&["recover"]).expect(2);
    assert!(refused.err.contains("log.0000000001") && refused.err.contains("offset"), "{refused:?}");
    let after: Vec<_> = store.tree().into_iter().filter(|(name, _)| name != "failed-recovery").collect();
    assert_eq!(after, before);
    // The administrator takes what there is; the rest is kept, and counted.
    let lossy = store.storedd(&["recover", "--accept-loss", "--yes", "--json"]).expect(2).json();
    assert_eq!(lossy["decision"], "lossy");
    assert!(lossy["lost"]["transactions"].as_u64().unwrap() > 10, "{lossy}");
    assert!(!lossy["quarantined"].as_array().unwrap().is_empty(), "{lossy}");
    let _daemon = store.start();
    assert_eq!(store.json(&["status"])["epoch"], 1);
    store.ctl(&["user", "add", "after"]).expect(0);
}

// row 27, row 75, row 80: paths come from the configuration; table and log directories may be apart.
#[test]
fn directories_may_lie_apart() {
    let store = TestStore::new();
    let (config, log, db) = (store.beside("storedd.toml"), store.beside("log"), store.beside("db"));
    let text = format!(
        "[store]\nlog_dir = {log:?}\ndb_dir = {db:?}\n[log]\nsegment_size = \"1MiB\"\n[partition.primary]\npath = {:?}\n",
        store.beside("mail")
    );
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let daemon = store.start_with(&["--config", config]);
    store.ctl(&["user", "add", "joe"]).expect(0);
    assert!(log.join("log.0000000001").exists() && db.join("mboxlist.redb").exists());
    assert_eq!(std::fs::metadata(log.join("log.0000000001")).unwrap().len(), 1 << 20);
    assert_eq!(daemon.stop(), 0);
    store.storedd(&["test", "--config", config]).expect(0);
}

// row 161: usage errors are 64, help is 0, for both programs.
#[test]
fn usage_is_64_and_help_is_0() {
    let store = TestStore::new();
    for args in [&["--nonsense"][..], &["recover", "--nonsense"], &["nonsense"]] {
        store.storedd(args).expect(64);
        let wrong = store.ctl(args).expect(64);
        assert!(wrong.out.is_empty(), "{wrong:?}");
    }
    for args in [&["--help"][..], &["--version"], &["recover", "--help"], &["test", "--help"]] {
        assert!(!store.storedd(args).expect(0).out.is_empty());
        assert!(!store.ctl(args).expect(0).out.is_empty());
    }
}

// row 17: what is needed only while the daemon runs may lie elsewhere, and is no part of the store: a reboot empties it.
#[test]
fn what_lies_in_the_runtime_directory_may_be_lost() {
    let store = TestStore::new();
    let runtime = store.beside("run");
    let config = store.beside("storedd.toml");
    // With --data-dir the socket lies there; a service names its directories in the configuration.
    std::fs::write(&config, format!("[store]\ndata_dir = {:?}\nruntime_dir = {runtime:?}\n", store.data)).unwrap();
    let start = || {
        std::fs::create_dir(&runtime).unwrap();
        let log = std::fs::File::create(store.beside("daemon.log")).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_storedd"));
        command.arg("--config").arg(&config).env_remove("NOTIFY_SOCKET").stdin(std::process::Stdio::null());
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut daemon = store.daemon(child).at(&runtime.join("control.sock"));
        daemon.wait_ready();
        daemon
    };
    let daemon = start();
    let add =
        proto::Command::UserAdd { user: "joe".to_owned(), partition: None, quota_bytes: None, quota_messages: None };
    daemon.client().call(&proto::Request::Change { command: add, dry_run: false }).unwrap();
    let sockets = |dir: &std::path::Path| {
        use std::os::unix::fs::FileTypeExt;
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        entries.filter(|entry| entry.file_type().unwrap().is_socket()).count()
    };
    assert!(sockets(&runtime) > 0 && sockets(&store.data) == 0, "no socket lies in the data directory");
    daemon.kill();
    std::fs::remove_dir_all(&runtime).unwrap();
    let daemon = start();
    let joe = daemon.client().call(&proto::Request::UserShow { user: "joe".to_owned() }).unwrap();
    assert!(matches!(joe, proto::Reply::UserDetail(_)), "{joe:?}");
    assert_eq!(daemon.stop(), 0);
}

// rows 1, 78: what must be refused at a start is refused with its own status and a next step.
#[test]
fn bad_places_and_configurations_are_refused() {
    let store = TestStore::new();
    let config = store.beside("bad.toml");
    std::fs::write(&config, "[log]\nsegment_size = 3\nnonsense = 1\n[nowhere]\nx = 1\n").unwrap();
    let bad = store.storedd(&["--check-config", "--config", config.to_str().unwrap()]).expect(78);
    for place in ["bad.toml:2", "bad.toml:3", "bad.toml:4"] {
        assert!(bad.err.contains(place), "{bad:?}");
    }
    store.storedd(&["--config", config.to_str().unwrap()]).expect(78);
    store.storedd(&["--config", "/does/not/exist.toml"]).expect(78);
    // A newer store, and another store's database.
    store.storedd(&["test"]).expect(0);
    let marker = std::fs::read(store.data.join("STORE")).unwrap();
    std::fs::write(store.data.join("STORE"), &marker[..40]).unwrap();
    assert!(store.storedd(&[]).expect(2).err.contains("STORE"));
    std::fs::write(store.data.join("STORE"), &marker).unwrap();
    let other = TestStore::new();
    other.storedd(&["test"]).expect(0);
    std::fs::copy(other.data.join("mboxlist/mboxlist.redb"), store.data.join("mboxlist/mboxlist.redb")).unwrap();
    let foreign = store.storedd(&[]).expect(65);
    assert!(foreign.err.contains("store id"), "{foreign:?}");
}

// row 13: another user gets a clear refusal and changes nothing. Needs root to become that other user.
#[test]
fn another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: becoming another user needs root");
        return;
    }
    let store = TestStore::new();
    let daemon = store.start();
    use std::os::unix::fs::PermissionsExt;
    for dir in [store.data.parent().unwrap(), &store.data] {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::set_permissions(&daemon.socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    let copy = store.beside("storectl");
    std::fs::copy(env!("CARGO_BIN_EXE_storectl"), &copy).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&copy);
    let refused = run(command.arg("--data-dir").arg(&store.data).args(["user", "add", "eve"]), None).expect(77);
    assert!(refused.err.contains("not permitted") || refused.err.contains("uid 65534"), "{refused:?}");
    assert_eq!(store.json(&["user", "list"]), serde_json::json!([]));
}

// S2, S3, row B17: members of a configured group come in, each with what the role allows; the audit line says who asked.
#[test]
fn members_of_a_group_may_do_what_their_role_allows() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: becoming another user needs root");
        return;
    }
    let store = TestStore::new();
    let config = store.beside("storedd.toml");
    let access = |reader: &str, admin: &str| {
        let text =
            format!("[access]\nreader_group = \"{reader}\"\nadmin_group = \"{admin}\"\n[reload]\nwatch = false\n");
        std::fs::write(&config, text).unwrap();
    };
    access("nogroup", "");
    let daemon = store.start_with(&["--config", config.to_str().unwrap()]);
    use std::os::unix::fs::PermissionsExt;
    for path in [store.data.parent().unwrap(), &store.data] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::set_permissions(&daemon.socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    let copy = store.beside("storectl");
    // By another process: a file that this one has open for writing is open in every child that it forks meanwhile, and cannot
    // be run until they have become what they are to be.
    let copied = std::process::Command::new("cp").arg(env!("CARGO_BIN_EXE_storectl")).arg(&copy).status();
    assert!(copied.unwrap().success());
    let nobody = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&copy);
        run(command.arg("--socket").arg(&daemon.socket).args(args), None)
    };
    nobody(&["status"]).expect(0);
    nobody(&["mailbox", "list"]).expect(0);
    for refused in [&["user", "add", "eve"][..], &["checkpoint"], &["log", "dump"], &["shutdown"]] {
        let refused = nobody(refused).expect(77);
        assert!(refused.err.contains("needs the role"), "{refused:?}");
    }
    access("", "nogroup");
    daemon.signal(Signal::HUP);
    let begun = std::time::Instant::now();
    while nobody(&["user", "add", "eve"]).status != 0 {
        assert!(begun.elapsed() < crate::harness::PATIENCE, "{}", daemon.log());
    }
    nobody(&["checkpoint"]).expect(0);
    nobody(&["shutdown"]).expect(77);
    nobody(&["partition", "add", "p", "/tmp/p"]).expect(77);
    let log = daemon.log();
    let audit = |what: &str| log.lines().any(|line| line.contains("event=audit uid=65534") && line.contains(what));
    assert!(audit("verb=\"user add\" target=eve outcome=done"), "{log}");
    assert!(audit("verb=shutdown outcome=not_permitted"), "{log}");
}

// S22, row 161: reload names what is wrong and keeps the old configuration.
#[test]
fn a_bad_reload_changes_nothing() {
    let store = TestStore::new();
    let config = store.beside("storedd.toml");
    std::fs::write(&config, "[messages]\nlevel = \"debug\"\n[reload]\nwatch = false\n").unwrap();
    let daemon = store.start_with(&["--config", config.to_str().unwrap()]);
    std::fs::write(&config, "[messages]\nlevel = \"loud\"\n").unwrap();
    daemon.signal(Signal::HUP);
    let begun = std::time::Instant::now();
    while !daemon.log().contains("reload_refused") {
        assert!(begun.elapsed() < crate::harness::PATIENCE, "{}", daemon.log());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let mut client = daemon.client();
    let Reply::Config(values) = client.call(&Request::ConfigShow { defaults: false }).unwrap() else { panic!() };
    assert_eq!(values["messages.level"], "\"debug\"");
    assert_eq!(store.json(&["status"])["state"], "ready");
}
