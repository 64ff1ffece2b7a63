//! What hangs: disks that do not answer for a while, readers of messages that stop reading, clients that dribble or take every
//! connection there is.

use crate::harness::alarms::{alarm, cleared, raised};
use crate::harness::disks::Disk;
use crate::harness::{Daemon, PATIENCE, Run, TestStore, until};
use proto::{Client, Request, Timeouts};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn start(store: &TestStore, text: &str) -> Daemon {
    let config = store.beside("stalls.toml");
    std::fs::write(&config, text).unwrap();
    store.start_with(&["--config", config.to_str().unwrap()])
}

// rows 97, 109, 110, B7: a checkpoint that hangs, and changes that pile up in memory behind it, are alarms that name the cause;
// `status` answers, and it goes on by itself.
#[test]
fn a_database_disk_that_does_not_answer() {
    let store = TestStore::new();
    let Some(disk) = Disk::mount(&store) else { return };
    let text = format!(
        "[store]\ndb_dir = {:?}\n[log]\nsegment_size = \"1MiB\"\n[checkpoint]\ninterval = \"1h\"\noverlay_bytes = \"1MiB\"\n\
         overlay_bytes_max = \"4MiB\"\n[alarm]\ncheckpoint_duration = \"1s\"\nlog_bytes = \"2MiB\"\n",
        disk.at.join("db")
    );
    let daemon = start(&store, &text);
    let disk = disk;
    store.ctl(&["user", "add", "joe"]).expect(0);
    disk.hangs(true);
    let checkpoint = store.begin(&["checkpoint"]);
    let slow = raised(&store, "checkpoint_slow");
    assert!(slow["cause"].as_str().unwrap().contains("does not answer"), "{slow}");
    let begun = Instant::now();
    store.ctl(&["status"]).expect(0);
    assert!(begun.elapsed() < Duration::from_secs(5), "row 109: {:?}", begun.elapsed());
    let name = "x".repeat(200);
    let lines: String = (0..20_000).map(|n| format!("mailbox create user/joe/{name}-{n}\n")).collect();
    let refused = store.ctl_with(&["batch", "-"], Some(lines.as_bytes())).expect(1);
    assert!(refused.out.contains("changes come faster than the checkpoint writes them"), "{:.300}", refused.out);
    raised(&store, "overlay");
    raised(&store, "log_bytes");
    disk.hangs(false);
    Run::of(checkpoint).expect(0);
    store.ctl(&["checkpoint"]).expect(0);
    for name in ["checkpoint_slow", "overlay", "log_bytes"] {
        cleared(&store, name);
    }
    store.ctl(&["mailbox", "create", "user/joe/again"]).expect(0);
    assert_eq!(daemon.stop(), 0);
}

// rows 109, 110, 111, B7: a change that waits for the log's disk is an alarm, and is done when the disk is back.
#[test]
fn a_log_disk_that_does_not_answer() {
    let store = TestStore::new();
    let Some(disk) = Disk::mount(&store) else { return };
    let text = format!(
        "[store]\nlog_dir = {:?}\n[log]\nsegment_size = \"1MiB\"\n[alarm]\nrequest_wait = \"1s\"\n",
        disk.at.join("log")
    );
    let daemon = start(&store, &text);
    // Answers again before the daemon is ended, also when this fails: a process that waits for a disk does not end.
    let disk = disk;
    // However long ago the last change was: the disk may hang in the seal that follows it. A change that was planned behind a seal
    // that hung was seen by nobody.
    for (n, rest) in [0, 95, 110, 300].into_iter().enumerate() {
        store.ctl(&["user", "add", &format!("joe{n}")]).expect(0);
        std::thread::sleep(Duration::from_millis(rest));
        disk.hangs(true);
        let (begun, change) = (Instant::now(), store.begin(&["user", "add", &format!("zoe{n}")]));
        raised(&store, "stalled_request");
        eprintln!("{rest} ms after a change: an alarm after {:?}", begun.elapsed());
        disk.hangs(false);
        Run::of(change).expect(0);
        cleared(&store, "stalled_request");
    }
    disk.hangs(true);
    let change = store.begin(&["user", "add", "ann"]);
    let stalled = raised(&store, "stalled_request");
    assert_eq!(stalled["severity"], "critical", "{stalled}");
    assert!(store.json(&["status"])["oldest_wait"].as_f64() > Some(1.0));
    // Whoever does not want to wait need not, and nothing is lost by it.
    store.ctl(&["--timeout", "1s", "user", "add", "eve"]).expect(69);
    store.ctl(&["user", "list"]).expect(0);
    disk.hangs(false);
    Run::of(change).expect(0);
    cleared(&store, "stalled_request");
    let users = store.json(&["user", "list"]).to_string();
    assert!(users.contains("ann") && users.contains("eve"), "{users}");
    assert_eq!(daemon.stop(), 0);
}

// row 109: the numbers, who holds what, what is at work: from memory, whichever disk does not answer.
fn everybody_is_told(store: &TestStore) {
    let begun = Instant::now();
    for question in ["status", "locks", "stats", "jobs"] {
        store.ctl(&[question]).expect(0);
    }
    assert!(store.ctl(&["metrics"]).expect(0).out.contains("storedd_oldest_wait_seconds"));
    assert!(begun.elapsed() < Duration::from_secs(5), "row 109: {:?}", begun.elapsed());
}

// rows 109, B6, B7: where numbers are reserved and marks are kept; changes go on for a while, and those that do not are told of.
#[test]
fn a_data_directory_that_does_not_answer() {
    let store = TestStore::new();
    let Some(disk) = Disk::mount_at(&store, store.data.clone()) else { return };
    let elsewhere = ["db", "log"].map(|name| store.beside(name));
    let text = format!(
        "[store]\ndb_dir = {:?}\nlog_dir = {:?}\n[log]\nsegment_size = \"1MiB\"\n[alarm]\nrequest_wait = \"1s\"\n",
        elsewhere[0], elsewhere[1]
    );
    let daemon = start(&store, &text);
    let disk = disk;
    store.ctl(&["user", "add", "joe"]).expect(0);
    disk.hangs(true);
    // The state file waits, and is named; the daemon's own loop does not wait for it.
    store.ctl(&["read-only", "on", "--reason", "a look"]).expect(0);
    assert_eq!(raised(&store, "stale_stamp")["subject"], "state");
    daemon.signal(rustix::process::Signal::HUP);
    until("a reload", || daemon.log().contains("event=reloaded").then_some(()));
    store.ctl(&["read-only", "off"]).expect(0);
    // A job is noted there, too.
    let snapshot = store.begin(&["snapshot", "take"]);
    // Each rest is a seal that is noted there; what comes then finds nobody who could work.
    let mut changes = Vec::new();
    until("a change waits", || {
        changes.push(store.begin(&["user", "add", &format!("u{}", changes.len())]));
        std::thread::sleep(Duration::from_millis(250));
        alarm(&store, "stalled_request")
    });
    everybody_is_told(&store);
    disk.hangs(false);
    let count = changes.len();
    changes.into_iter().for_each(|change| drop(Run::of(change).expect(0)));
    Run::of(snapshot).expect(0);
    cleared(&store, "stalled_request");
    cleared(&store, "stale_stamp");
    assert_eq!(store.json(&["user", "list"]).as_array().unwrap().len(), count + 1);
    assert_eq!(daemon.stop(), 0);
}

// rows 109, 115, B7: a partition that does not answer holds up nobody else for longer than a moment, and not again.
#[test]
fn a_partition_that_does_not_answer() {
    let store = TestStore::new();
    let Some(disk) = Disk::mount(&store) else { return };
    let daemon = start(&store, "[log]\nsegment_size = \"1MiB\"\n[alarm]\ncheckpoint_duration = \"1s\"\n");
    let disk = disk;
    store.ctl(&["partition", "add", "far", disk.at.join("far").to_str().unwrap()]).expect(0);
    store.ctl(&["user", "add", "joe"]).expect(0);
    disk.hangs(true);
    let begun = Instant::now();
    for n in 0..5 {
        store.ctl(&["user", "add", &format!("far{n}"), "--partition", "far"]).expect(0);
        store.ctl(&["user", "add", &format!("near{n}")]).expect(0);
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    // Only what makes directories durable waits for it.
    let checkpoint = store.begin(&["checkpoint"]);
    raised(&store, "checkpoint_slow");
    everybody_is_told(&store);
    disk.hangs(false);
    Run::of(checkpoint).expect(0);
    cleared(&store, "checkpoint_slow");
    let there = store.ctl(&["hashdir", "far4", "--absolute"]).expect(0).out;
    until("the directory of far4", || Path::new(there.trim()).is_dir().then_some(()));
    assert_eq!(daemon.stop(), 0);
}

// rows 15, B7: messages that cannot be written to their file wait for it, and nothing else does.
#[test]
fn a_message_log_that_does_not_answer() {
    let store = TestStore::new();
    let Some(disk) = Disk::mount(&store) else { return };
    let text = format!("[log]\nsegment_size = \"1MiB\"\n[messages]\ndirectory = {:?}\n", disk.at.join("messages"));
    let daemon = start(&store, &text);
    let disk = disk;
    let file = disk.at.join("messages/storedd.log");
    until("the file", || file.exists().then_some(()));
    disk.hangs(true);
    let begun = Instant::now();
    (0..20).for_each(|n| drop(store.ctl(&["user", "add", &format!("u{n}")]).expect(0)));
    store.ctl(&["config", "reload"]).expect(0);
    store.ctl(&["checkpoint"]).expect(0);
    everybody_is_told(&store);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    disk.hangs(false);
    assert_eq!(daemon.stop(), 0);
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().filter(|line| line.contains("verb=\"user add\"")).count(), 20, "{text}");
}

// row B7
#[test]
fn a_store_that_somebody_closed_is_an_alarm() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["read-only", "on", "--reason", "an experiment"]).expect(0);
    let found = raised(&store, "read_only");
    assert!(found["cause"].as_str().unwrap().contains("an experiment"), "{found}");
    store.ctl(&["read-only", "off"]).expect(0);
    cleared(&store, "read_only");
}

/// A daemon whose messages nobody reads fills the pipe, and its commits go on.
#[test]
fn messages_that_nobody_reads_stop_no_commit() {
    let store = TestStore::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_storedd"));
    command.arg("--data-dir").arg(&store.data).env_remove("NOTIFY_SOCKET").env_remove("STOREDD_CONFIG");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut messages = child.stderr.take().unwrap();
    let mut daemon = store.daemon(child);
    daemon.wait_ready();
    store.ctl(&["user", "add", "joe"]).expect(0);
    // Each leaves an audit line of more than 100 bytes; a pipe takes 64 KiB.
    let lines: String = (0..3000).map(|n| format!("mailbox create user/joe/{n:060}\n")).collect();
    store.ctl_with(&["batch", "-"], Some(lines.as_bytes())).expect(0);
    store.ctl(&["checkpoint"]).expect(0);
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        messages.read_to_string(&mut text).unwrap();
        text
    });
    assert_eq!(daemon.stop(), 0);
    let text = reader.join().unwrap();
    let audited = text.lines().filter(|line| line.contains("verb=\"mailbox create\"")).count();
    assert_eq!(audited, 3000, "none was dropped: they fit the queue");
    assert!(text.lines().last().unwrap().contains("event=stopped"), "in order, to the last");
}

/// Something that goes on until it is told to end.
struct Dribble(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

impl Drop for Dribble {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
        self.1.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// So many clients that send one byte a second each, and come again when they are sent away.
fn dribble(socket: &Path, count: usize) -> Dribble {
    let mut hello = Vec::new();
    let request = Request::Hello { version: proto::frame::VERSION, client: "dribble".to_owned() };
    proto::codec::put(&mut hello, proto::frame::Kind::Request, 1, &request).unwrap();
    let connect = {
        let socket = socket.to_owned();
        move || {
            let stream = UnixStream::connect(&socket).unwrap();
            stream.set_nonblocking(true).unwrap();
            (stream, 0)
        }
    };
    let stop = Arc::new(AtomicBool::new(false));
    let ends = stop.clone();
    let thread = std::thread::spawn(move || {
        let mut clients: Vec<(UnixStream, usize)> = (0..count).map(|_| connect()).collect();
        while !ends.load(Ordering::SeqCst) {
            for client in &mut clients {
                let byte = hello[client.1 % hello.len()];
                match client.0.write_all(&[byte]) {
                    Ok(()) => client.1 += 1,
                    Err(_) => *client = connect(),
                }
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    Dribble(stop, Some(thread))
}

/// How long questions took that a client asked who came anew each time: the middle, the 99th of a hundred, the slowest.
fn asked(daemon: &Daemon, count: usize, pause: Duration) -> [Duration; 3] {
    let mut times: Vec<Duration> = (0..count)
        .map(|_| {
            std::thread::sleep(pause);
            let begun = Instant::now();
            let mut client = Client::connect(&daemon.socket, "good", Timeouts::default()).unwrap();
            client.call(&Request::Health).unwrap();
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    [count / 2, count * 99 / 100, count - 1].map(|at| times[at])
}

// S5: What others cost is what it takes longer beside them: the same questions are asked before and afterwards.
#[test]
fn two_hundred_dribbling_clients_delay_a_good_one_by_less_than_a_tenth_of_a_second() {
    let store = TestStore::new();
    let daemon = store.start();
    let pause = Duration::from_millis(10);
    let before = asked(&daemon, 300, pause);
    let dribble = dribble(&daemon.socket, 200);
    // So long that those who dribble are sent away for want of a greeting, all at once, and come again.
    let beside = asked(&daemon, 1200, pause);
    drop(dribble);
    let after = asked(&daemon, 300, pause);
    eprintln!("middle, 99 of 100, slowest: before {before:?}, beside 200 that dribble {beside:?}, after {after:?}");
    let alone = before[1].max(after[1]);
    assert!(beside[1] < alone + Duration::from_millis(100), "{before:?} {beside:?} {after:?}");
}

// S6: Connections are files: whoever takes them all keeps others out for a while, and no file from the log.
#[test]
fn descriptors_that_run_out_hurt_nobody_who_is_there() {
    let store = TestStore::new();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 160; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_storedd")]);
    let mut daemon = store.spawn_by(command, &[]);
    daemon.wait_ready();
    let mut there = daemon.client();
    let add = |name: &str| Request::Change {
        command: proto::Command::UserAdd {
            user: name.to_owned(),
            partition: None,
            quota_bytes: None,
            quota_messages: None,
        },
        dry_run: false,
    };
    there.call(&add("joe")).unwrap();
    let crowd: Vec<UnixStream> = (0..400).filter_map(|_| UnixStream::connect(&daemon.socket).ok()).collect();
    assert!(crowd.len() >= 150, "{}", crowd.len());
    for n in 0..50 {
        there.call(&add(&format!("u{n}"))).unwrap();
    }
    // It needs files of its own: a new log segment, the database's.
    there.call(&Request::Checkpoint).unwrap();
    drop(crowd);
    let begun = Instant::now();
    while store.ctl(&["health"]).status != 0 {
        assert!(begun.elapsed() < PATIENCE, "{}", daemon.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(store.json(&["user", "list"]).as_array().unwrap().len(), 51);
    drop(there);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn counting_all_quotas_again_waits_for_who_holds_them() {
    let store = TestStore::new();
    let _daemon = start(&store, "[log]\nsegment_size = \"1MiB\"\n[alarm]\nrequest_wait = \"1s\"\n");
    store.ctl(&["user", "add", "joe", "--quota", "1GiB"]).expect(0);
    // Nothing is wrong, so nobody is waited for; and it is a job.
    let held = store.begin(&["locks", "hold", "joe", "--reason", "an experiment", "--", "sleep", "60"]);
    until("held", || (!store.json(&["locks"])["held"].as_array().unwrap().is_empty()).then_some(()));
    store.ctl(&["quota", "recalc"]).expect(0);
    let jobs = store.json(&["jobs"]);
    assert_eq!((&jobs[0]["verb"], &jobs[0]["state"]), (&"quota recalc".into(), &"done".into()), "{jobs}");
    // One root by itself waits, and everybody can see for whom.
    let waits = store.begin(&["quota", "recalc", "joe"]);
    let stalled = raised(&store, "stalled_request");
    assert_eq!(stalled["severity"], "warning", "{stalled}");
    let cause = stalled["cause"].as_str().unwrap();
    assert!(cause.contains("joe has been held") && cause.contains("an experiment"), "{cause}");
    assert_eq!(stalled["next"], "storectl locks --why-stuck");
    assert!(store.json(&["status"])["oldest_wait"].as_f64() > Some(1.0));
    let locks = store.json(&["locks"]);
    assert_eq!(locks["waiting"][0]["verb"], "quota recalc", "{locks}");
    let mut held = held;
    held.kill().unwrap();
    held.wait().unwrap();
    Run::of(waits).expect(0);
    cleared(&store, "stalled_request");
}

#[test]
fn when_checkpoints_begin_can_be_changed_while_the_store_runs() {
    let store = TestStore::new();
    let text = |interval: &str| format!("[log]\nsegment_size = \"1MiB\"\n[checkpoint]\ninterval = \"{interval}\"\n");
    let daemon = start(&store, &text("1h"));
    store.ctl(&["user", "add", "joe"]).expect(0);
    let status = store.json(&["status"]);
    assert_ne!(status["checkpoint_lsn"], status["applied_lsn"], "{status}");
    std::fs::write(store.beside("stalls.toml"), text("1s")).unwrap();
    let reloaded = store.json(&["config", "reload"]);
    assert_eq!(reloaded["pending"], Value::Array(vec![]), "{reloaded}");
    until("a checkpoint by itself", || {
        let status = store.json(&["status"]);
        (status["checkpoint_lsn"] == status["applied_lsn"]).then_some(())
    });
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn numbers_that_nobody_writes_any_more_are_not_left_behind() {
    let store = TestStore::new();
    let file = store.beside("storedd.prom");
    let daemon = start(&store, &format!("[log]\nsegment_size = \"1MiB\"\n[metrics]\ntextfile = {file:?}\n"));
    until("the file", || file.exists().then_some(()));
    assert_eq!(daemon.stop(), 0);
    assert!(!file.exists());
}
