//! Clients that mean harm or break, and disks that refuse.

use crate::harness::TestStore;
use crate::harness::disks::SmallDisk;
use proto::{Command, Reply, Request};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

fn works(store: &TestStore) {
    store.ctl(&["health"]).expect(0);
}

#[test]
fn garbage_oversized_and_half_frames_end_their_connection_only() {
    let store = TestStore::new();
    let daemon = store.start();
    let frames: [&[u8]; 5] = [b"GET / HTTP/1.1\r\n\r\n", &[0; 4096], &[0xff; 4096], b"\n", &[0x7f; 7]];
    for bytes in frames {
        let mut stream = UnixStream::connect(&daemon.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // The daemon may close before everything is written.
        drop(stream.write_all(bytes));
        drop(stream.shutdown(std::net::Shutdown::Write));
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        works(&store);
    }
    let mut client = daemon.client();
    assert!(matches!(client.call(&Request::Health), Ok(Reply::Done(_))), "others are served");
}

#[test]
fn idle_and_half_open_connections_keep_nobody_out() {
    let store = TestStore::new();
    let daemon = store.start();
    let half: Vec<UnixStream> = (0..200).map(|_| UnixStream::connect(&daemon.socket).unwrap()).collect();
    works(&store);
    let idle: Vec<_> = (0..1000).map(|_| daemon.client()).collect();
    works(&store);
    drop((half, idle));
    works(&store);
}

#[test]
fn a_client_that_never_reads_holds_nobody_up() {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    let input: String = (0..5000).map(|n| format!("mailbox create user/joe/{}-{n}\n", "x".repeat(200))).collect();
    store.ctl_with(&["batch", "-"], Some(input.as_bytes())).expect(0);
    let mut silent = daemon.client();
    for _ in 0..50 {
        silent.send(&Request::MailboxList { pattern: "*".to_owned() }).unwrap();
    }
    silent.flush().unwrap();
    for n in 0..20 {
        store.ctl(&["mailbox", "create", &format!("user/joe/more-{n}")]).expect(0);
    }
    let stats = store.json(&["stats"]);
    assert!(stats["resident_bytes"].as_u64().unwrap() < 600 << 20, "{}", stats["resident_bytes"]);
}

/// Kills a batch of many changes while it is at work; the process that it was.
fn killed_batch(store: &TestStore, attempt: u32) -> u32 {
    let lines = store.beside("lines");
    let text: String = (0..50_000).map(|n| format!("mailbox create user/joe/{attempt}-{n:0150}\n")).collect();
    std::fs::write(&lines, text).unwrap();
    let mailboxes = || store.json(&["status"])["mailboxes"].as_u64().unwrap();
    let before = mailboxes();
    let mut batch = std::process::Command::new(env!("CARGO_BIN_EXE_storectl"));
    batch.arg("--data-dir").arg(&store.data).args(["batch", "-"]).stdin(std::fs::File::open(&lines).unwrap());
    let mut batch = batch.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    crate::harness::until("it is at work", || (mailboxes() > before + 100).then_some(()));
    batch.kill().unwrap();
    batch.wait().unwrap();
    batch.id()
}

// row 101: a client that dies without a lease, in the middle of a request or with changes under way, is told of with its process.
#[test]
fn a_client_that_dies_is_told_of() {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    let line_of = |pid: u32| {
        let log = daemon.log();
        log.lines().find(|l| l.contains("event=client_gone") && l.contains(&format!("pid={pid} "))).map(str::to_owned)
    };
    let told = |pid: u32| crate::harness::until(&format!("process {pid} is told of"), || line_of(pid));
    // One that dies between an answer and its next line had nothing under way, and is not told of: then another one is killed.
    let line = (0..20).find_map(|attempt| {
        let pid = killed_batch(&store, attempt);
        (0..20).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            line_of(pid)
        })
    });
    let line = line.expect("none of 20 that were killed was told of");
    assert!(line.contains("uid=0") || !rustix::process::geteuid().is_root(), "{line}");
    // One that asks, and leaves as it should, is not.
    store.ctl(&["user", "list"]).expect(0);
    // In the middle of a request.
    let mut stream = std::os::unix::net::UnixStream::connect(&daemon.socket).unwrap();
    let mut bytes = Vec::new();
    let hello = Request::Hello { version: proto::frame::VERSION, client: "half".to_owned() };
    proto::codec::put(&mut bytes, proto::frame::Kind::Request, 1, &hello).unwrap();
    let whole = bytes.len();
    proto::codec::put(&mut bytes, proto::frame::Kind::Request, 2, &Request::UserShow { user: "joe".to_owned() })
        .unwrap();
    std::io::Write::write_all(&mut stream, &bytes[..whole + 5]).unwrap();
    drop(stream);
    assert!(told(std::process::id()).contains("client=half"));
    assert_eq!(daemon.log().matches("event=client_gone").count(), 2);
    let numbers = store.ctl(&["metrics"]).expect(0).out;
    assert!(numbers.contains("storedd_connections_total{result=\"gone\"} 2"), "{numbers}");
    assert_eq!(daemon.stop(), 0);
    store.storedd(&["test"]).expect(0);
}

// row 101: a client that dies in mid-request leaves nothing behind.
#[test]
fn a_client_that_vanishes_leaves_nothing_half_done() {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    for n in 0..50 {
        let mut client = daemon.client();
        let command = Command::MailboxCreate { name: format!("user/joe/{n}"), partition: None };
        client.send(&Request::Change { command, dry_run: false }).unwrap();
        client.flush().unwrap();
    }
    works(&store);
    assert_eq!(daemon.stop(), 0);
    store.storedd(&["test"]).expect(0);
}

#[test]
fn a_changed_protocol_version_is_76() {
    let store = TestStore::new();
    let daemon = store.start();
    let mut client = daemon.client();
    let answer = client.call(&Request::Hello { version: 999, client: "from the future".to_owned() });
    let failure = answer.unwrap_err().failure();
    assert!(failure.message.contains("version") || failure.message.contains("greet"), "{failure:?}");
    works(&store);
}

// row 162: on a full disk changes are refused with 75, reads go on, nothing acknowledged is lost, and it heals by itself.
#[test]
fn a_full_disk_refuses_and_heals() {
    let store = TestStore::new();
    let Some(_disk) = SmallDisk::mount(store.data.clone(), 24 << 20) else {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    };
    let config = store.beside("storedd.toml");
    std::fs::write(&config, "[log]\nsegment_size = \"1MiB\"\nspares = 1\n").unwrap();
    let args = ["--config", config.to_str().unwrap()];
    let daemon = store.start_with(&args);
    store.ctl(&["user", "add", "joe"]).expect(0);
    let ballast = store.data.join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while file.write_all(&[1; 65536]).is_ok() {}
    let mut client = daemon.client();
    let mut kept = Vec::new();
    let refused = loop {
        let name = format!("user/joe/{}-{}", "x".repeat(200), kept.len());
        let command = Command::MailboxCreate { name: name.clone(), partition: None };
        match client.call(&Request::Change { command, dry_run: false }) {
            Ok(_) => kept.push(name),
            Err(e) => break e.failure(),
        }
        assert!(kept.len() < 50_000, "the disk is full");
    };
    assert_eq!(refused.code.exit(), 75, "{refused:?}");
    assert!(store.json(&["mailbox", "list"]).as_array().unwrap().len() > kept.len(), "reads go on");
    drop(file);
    std::fs::remove_file(&ballast).unwrap();
    let begun = std::time::Instant::now();
    while store.ctl(&["mailbox", "create", "user/joe/healed"]).status != 0 {
        assert!(begun.elapsed() < crate::harness::PATIENCE);
        std::thread::sleep(Duration::from_millis(100));
    }
    daemon.kill();
    let _daemon = store.start_with(&args);
    let list = store.json(&["mailbox", "list"]).to_string();
    assert!(kept.iter().all(|name| list.contains(name.as_str())), "nothing acknowledged is lost");
}

#[test]
fn a_read_only_directory_is_refused_with_a_clear_word() {
    let store = TestStore::new();
    let Some(disk) = SmallDisk::mount(store.data.clone(), 200 << 20) else {
        eprintln!("skipped: mounting needs root");
        return;
    };
    store.storedd(&["test"]).expect(0);
    let remount = std::process::Command::new("mount").args(["-o", "remount,ro"]).arg(&disk.0).status().unwrap();
    assert!(remount.success());
    let refused = store.storedd(&[]);
    assert!([74, 77].contains(&refused.status) && refused.err.to_lowercase().contains("read-only"), "{refused:?}");
}
