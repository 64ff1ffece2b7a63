//! Disks that run full while mail comes in: what does not fit is refused for the time being, nothing that was acknowledged is lost, nothing
//! is there that was refused, and it goes on by itself when there is room. // B7, row 162

use crate::harness::disks::SmallDisk;
use crate::harness::lmtp::Lmtp;
use crate::harness::{Daemon, TestStore, total, until};
use std::collections::BTreeSet;

/// How often a disk is filled.
fn rounds() -> usize {
    std::env::var("STOREDD_FULL_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(3)
}

/// A store whose data, or whose only partition, lies on a small disk.
struct Small {
    store: TestStore,
    config: String,
    /// The mount point.
    disk: SmallDisk,
    /// What was acknowledged.
    kept: BTreeSet<Vec<u8>>,
    refused: usize,
    number: usize,
}

impl Small {
    fn new(on: &str) -> Option<Small> {
        let store = TestStore::new();
        let (at, room) = (store.data.join(on), 400 << 20);
        let Some(disk) = SmallDisk::mount(at, room) else {
            eprintln!("skipped: mounting a small file system needs root");
            return None;
        };
        let config = store.beside("storedd.toml");
        let text = "[log]\nsegment_size = \"1MiB\"\nspares = 0\n[checkpoint]\noverlay_bytes = \"1MiB\"\nlog_bytes = \"2MiB\"\n";
        std::fs::write(&config, text).unwrap();
        let config = config.to_str().unwrap().to_owned();
        Some(Small { store, config, disk, kept: BTreeSet::new(), refused: 0, number: 0 })
    }

    fn start(&self) -> Daemon {
        self.store.start_with(&["--config", &self.config])
    }

    /// Leaves about so many bytes free.
    fn fill(&self, left: u64) {
        let fs = rustix::fs::statvfs(&self.disk.0).unwrap();
        let size = (fs.f_bavail * fs.f_frsize).saturating_sub(left);
        let file = std::fs::File::create(self.disk.0.join("ballast")).unwrap();
        // A checkpoint may take some of it meanwhile.
        let _ = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size.max(1));
    }

    fn make_room(&self) {
        std::fs::remove_file(self.disk.0.join("ballast")).unwrap();
    }

    /// One message, every other one through LMTP; true if it was stored.
    fn deliver(&mut self, bytes: usize) -> bool {
        self.number += 1;
        let mut text = format!("Subject: {}\r\n\r\n", self.number).into_bytes();
        text.resize(text.len() + bytes, b'a' + (self.number % 26) as u8);
        text.extend_from_slice(b"\r\n");
        let stored = if self.number.is_multiple_of(2) {
            let run = self.store.ctl_with(&["message", "deliver", "user/joe/INBOX"], Some(&text));
            assert!([0, 75].contains(&run.status), "{run:?}");
            run.status == 0
        } else {
            let reply = self.through_lmtp(&text);
            assert!(["250 ", "451 4.3", "452 4.3"].iter().any(|good| reply.starts_with(good)), "{reply}");
            text = [b"Return-Path: <sender@example.net>\r\n", &text[..]].concat();
            reply.starts_with("250 ")
        };
        if stored {
            self.kept.insert(text);
        } else {
            self.refused += 1;
        }
        stored
    }

    /// The last reply of a transaction: it may be refused at any command.
    fn through_lmtp(&self, text: &[u8]) -> String {
        let mut session = Lmtp::unix(&self.store.data.join("lmtp.sock"));
        for line in ["MAIL FROM:<sender@example.net>", "RCPT TO:<joe>"] {
            let reply = session.ask(line);
            if !reply.starts_with("250 ") {
                return reply;
            }
        }
        let reply = session.ask("DATA");
        if !reply.starts_with("354 ") {
            return reply;
        }
        session.send(&crate::harness::lmtp::stuffed(text));
        session.reply()
    }

    /// Fills the disk in the middle of deliveries, waits for a refusal, makes room, waits until it goes on by itself.
    fn round(&mut self, n: usize) {
        let sizes = [3000, 3000, 200_000, 3000, 1_500_000];
        for k in 0..4 {
            self.deliver(sizes[(n + k) % 5]);
        }
        // Anywhere between nothing and a few segments.
        self.fill((n as u64 % 7) * (700 << 10));
        until("it is refused", || (0..20).any(|k| !self.deliver(sizes[(n + k) % 5])).then_some(()));
        assert_eq!(self.store.json(&["status"])["state"], "ready");
        // What a checkpoint cannot write stays in the log.
        self.store.ctl(&["checkpoint"]);
        // Reads go on.
        self.store.ctl(&["message", "list", "user/joe/INBOX"]).expect(0);
        self.make_room();
        until("it goes on by itself", || self.deliver(sizes[n % 5]).then_some(()));
    }

    /// Everything acknowledged is there, and nothing else.
    fn look(&self) {
        let list = self.store.json(&["message", "list", "user/joe/INBOX"]);
        let mut there = BTreeSet::new();
        for message in list.as_array().unwrap() {
            let run = std::process::Command::new(env!("CARGO_BIN_EXE_storectl"))
                .arg("--data-dir")
                .arg(&self.store.data)
                .args(["message", "show", "user/joe/INBOX", &message["uid"].to_string(), "--raw"])
                .output()
                .unwrap();
            assert!(run.status.success(), "{run:?}");
            assert!(there.insert(run.stdout), "one message twice");
        }
        assert!(there == self.kept, "{} there, {} acknowledged", there.len(), self.kept.len());
        let bytes: usize = self.kept.iter().map(Vec::len).sum();
        let quota = self.store.json(&["quota", "get", "joe"]);
        assert_eq!(quota["storage"]["usage"], bytes as u64, "I9");
    }
}

/// Fills the disk again and again, kills the daemon at the end, and looks at everything; gives how much was stored and refused.
fn again_and_again(on: &str) -> Option<(usize, usize)> {
    let mut small = Small::new(on)?;
    let daemon = small.start();
    small.store.ctl(&["user", "add", "joe"]).expect(0);
    for n in 0..rounds() {
        small.round(n);
    }
    small.look();
    until("the partition holds everything again", || {
        small.store.ctl(&["checkpoint"]);
        (small.store.json(&["partition", "list"])[0]["state"] == "ok").then_some(())
    });
    small.look();
    daemon.kill();
    let daemon = small.start();
    small.look();
    small.store.ctl(&["checkpoint"]).expect(0);
    small.look();
    small.store.ctl(&["log", "verify"]).expect(0);
    assert_eq!(daemon.stop(), 0);
    small.store.storedd(&["test", "--config", &small.config]).expect(0);
    let (kept, refused) = (small.kept.len(), small.refused);
    total(&format!("full disk under messages ({on:?}): {} rounds, {kept} kept, {refused} refused, 0 lost", rounds()));
    Some((kept, refused))
}

// B7, row 162, B14: the disk of the log, and of everything else. STOREDD_FULL_ROUNDS: how often.
#[test]
fn mail_that_fills_the_disk_of_the_log_is_refused_for_a_while() {
    let Some((kept, refused)) = again_and_again("") else { return };
    assert!(kept > rounds() && refused >= rounds());
}

// B7, row 162, B14: the disk of a partition: the log has room, and still nothing is lost, and nothing waits for ever
#[test]
fn mail_that_fills_the_disk_of_a_partition_is_refused_for_a_while() {
    let Some((kept, refused)) = again_and_again("partition") else { return };
    assert!(kept > rounds() && refused >= rounds());
}
