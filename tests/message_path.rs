//! Partitions whose message files lie on another disk than their indexes (`message_path`), through the built programs.

mod copies;

use crate::check::named;
use crate::harness::mail::{assert_inbox, deliver, message, wait_for_partition};
use crate::harness::{Daemon, Run, TestStore, run, text};
use crate::reconstruct::adopted;
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const EVE: &str = "user/eve/INBOX";
const WORK: &str = "user/eve/Work";
const JOE: &str = "user/joe/INBOX";

/// A directory on another file system than `beside`, if this machine has one.
fn other_disk(beside: &Path) -> tempfile::TempDir {
    let here = std::fs::metadata(beside).unwrap().dev();
    let is_other = |dir: &&str| std::fs::metadata(dir).is_ok_and(|found| found.dev() != here);
    let dirs = ["/dev/shm", env!("CARGO_TARGET_TMPDIR"), "/tmp"];
    tempfile::tempdir_in(dirs.into_iter().find(is_other).unwrap_or("/tmp")).unwrap()
}

/// A store with joe on `primary`, all of it in one directory, and eve on `far`: indexes beside the store, message files on another disk.
struct Split {
    store: TestStore,
    index: PathBuf,
    messages: PathBuf,
    sent: Vec<Vec<u8>>,
    _disk: tempfile::TempDir,
}

impl Split {
    fn new(config: &str) -> (Split, Daemon) {
        let mut store = TestStore::new();
        store.small_logs = false;
        let disk = other_disk(store.data.parent().unwrap());
        let (index, messages) = (store.beside("far"), disk.path().join("messages"));
        std::fs::write(store.beside("split.toml"), format!("[log]\nsegment_size = \"1MiB\"\n{config}")).unwrap();
        let split = Split { store, index, messages, sent: Vec::new(), _disk: disk };
        let daemon = split.start();
        split.ctl(&["partition", "add", "far", text(&split.index), "--message-path", text(&split.messages)], 0);
        split.ctl(&["user", "add", "joe"], 0);
        split.ctl(&["user", "add", "eve", "--partition", "far"], 0);
        split.ctl(&["mailbox", "create", WORK], 0);
        (split, daemon)
    }

    fn start(&self) -> Daemon {
        self.store.start_with(&["--config", text(&self.store.beside("split.toml"))])
    }

    fn ctl(&self, args: &[&str], status: i32) -> Run {
        self.store.ctl(args).expect(status)
    }

    fn deliver(&mut self, to: &[&str], bytes: usize) {
        let message = message(self.sent.len(), bytes);
        deliver(&self.store, to, &message);
        if to.contains(&EVE) {
            self.sent.push(message);
        }
    }

    fn show(&self) -> Value {
        self.store.json(&["partition", "show", "far"])
    }

    fn wait_for(&self, state: &str) {
        wait_for_partition(&self.store, "far", state);
    }

    fn assert_all_there(&self) {
        assert_inbox(&self.store, EVE, &self.sent);
    }

    /// Nothing lies on the disk where it does not belong.
    fn assert_apart(&self) {
        assert_eq!(named(&self.index, ".msg"), Vec::<PathBuf>::new());
        for name in ["store.idx", "manifest", "PARTITION"] {
            assert_eq!(named(&self.messages, name), Vec::<PathBuf>::new());
        }
    }
}

// row 115: bodies on one disk, all else on the other; short and long ones, copies by hard link, expunged and purged, over a kill
#[test]
fn bodies_lie_on_one_disk_and_all_else_on_the_other() {
    let (mut split, daemon) = Split::new("[ageing]\ncleanup_age = '0s'\n");
    for bytes in [300, 4000, 100_000] {
        split.deliver(&[EVE, JOE], bytes);
        split.deliver(&[EVE, WORK], bytes + 1);
    }
    split.ctl(&["message", "copy", EVE, "1", WORK], 0);
    split.ctl(&["message", "flags", EVE, "2", "--add", "\\Flagged"], 0);
    split.ctl(&["checkpoint"], 0);
    split.assert_all_there();
    split.assert_apart();
    let files = named(&split.messages, ".msg");
    assert_eq!(files.len(), 6 + 4, "{files:?}");
    let links = files.iter().map(|file| std::fs::metadata(file).unwrap().nlink()).collect::<Vec<_>>();
    assert_eq!(
        links.iter().filter(|links| **links == 2).count(),
        8,
        "one file for the copies of one message: {links:?}"
    );
    for sent in &split.sent {
        assert!(files.iter().any(|file| std::fs::read(file).unwrap() == *sent), "a plain file, as it came");
    }
    assert_eq!((named(&split.index, "store.idx").len(), named(&split.index, "manifest").len()), (2, 1));
    // What people and scripts are told.
    let shown = split.show();
    assert_eq!((&shown["state"], &shown["path"]), (&json!("ok"), &json!(text(&split.index))), "{shown}");
    assert_eq!(
        (&shown["messages"]["state"], &shown["messages"]["path"]),
        (&json!("ok"), &json!(text(&split.messages)))
    );
    assert!(shown["messages"]["free_bytes"].as_u64().unwrap() > 0, "{shown}");
    assert_eq!(split.store.json(&["partition", "show", "primary"])["messages"], Value::Null);
    let human = split.ctl(&["partition", "show", "far"], 0).out;
    assert!(human.contains("messages in") && human.contains(text(&split.messages)), "{human}");
    assert!(split.ctl(&["partition", "list"], 0).out.contains(text(&split.messages)));
    let dirs = split.ctl(&["hashdir", "eve", "--absolute"], 0).out;
    let dirs: Vec<&str> = dirs.lines().collect();
    assert!(dirs.len() == 2 && dirs.iter().all(|dir| Path::new(dir).is_dir()), "{dirs:?}");
    split.ctl(&["check", "--all", "--deep"], 0);
    daemon.kill();
    let daemon = split.start();
    split.assert_all_there();
    split.ctl(&["message", "expunge", WORK, "1"], 0);
    split.ctl(&["checkpoint"], 0);
    split.ctl(&["purge"], 0);
    split.ctl(&["checkpoint"], 0);
    assert_eq!(named(&split.messages, ".msg").len(), 6 + 3, "what is purged has no file");
    split.ctl(&["mailbox", "delete", WORK, "--yes"], 0);
    split.ctl(&["purge"], 0);
    split.ctl(&["checkpoint"], 0);
    assert_eq!(named(&split.messages, ".msg").len(), 6);
    assert_eq!(named(&split.index, "store.idx").len(), 1, "its directories go on both disks");
    assert_eq!(daemon.stop(), 0);
    let _daemon = split.start();
    split.assert_all_there();
    split.ctl(&["check", "--all", "--deep"], 0);
}

// rows 111, 115, 116: either of the two away, or another's: the partition is away, nothing is made in its place, and nothing is lost
#[test]
fn either_root_away_is_the_partition_away() {
    let (mut split, daemon) = Split::new("");
    split.deliver(&[EVE, JOE], 3000);
    split.deliver(&[EVE], 100_000);
    split.ctl(&["checkpoint"], 0);
    let (index, messages) = (split.index.clone(), split.messages.clone());
    for (root, own) in [(&messages, "missing"), (&index, "ok")] {
        let away = root.with_extension("away");
        std::fs::rename(root, &away).unwrap();
        split.wait_for("missing");
        assert_eq!(split.show()["messages"]["state"], own);
        let why = split.show()["why"].as_str().unwrap().to_owned();
        assert!(why.contains(text(root)), "{why}");
        // An empty mount point is nothing to write to.
        std::fs::create_dir(root).unwrap();
        split.deliver(&[EVE, JOE], 500);
        split.deliver(&[EVE], 90_000);
        split.ctl(&["checkpoint"], 0);
        let refused = split.ctl(&["message", "list", EVE], 75);
        assert!(refused.err.contains("partition far"), "{refused:?}");
        split.ctl(&["message", "list", JOE], 0);
        assert!(std::fs::read_dir(root).unwrap().next().is_none(), "something was made in {}", root.display());
        std::fs::remove_dir(root).unwrap();
        std::fs::rename(&away, root).unwrap();
        split.wait_for("ok");
        split.assert_all_there();
    }
    // Full on the one disk, started without it.
    daemon.kill();
    let away = messages.with_extension("away");
    std::fs::rename(&messages, &away).unwrap();
    let daemon = split.start();
    assert_eq!(split.show()["state"], "missing");
    split.deliver(&[EVE], 700);
    assert_eq!(daemon.stop(), 0);
    let mut other = std::fs::read(away.join("MESSAGES")).unwrap();
    std::fs::rename(&away, &messages).unwrap();
    // A symbolic link in place of a directory of messages leads nowhere.
    let _daemon = split.start();
    split.wait_for("ok");
    split.assert_all_there();
    split.ctl(&["checkpoint"], 0);
    split.assert_apart();
    other[30] ^= 1;
    std::fs::write(messages.join("MESSAGES"), &other).unwrap();
    split.wait_for("missing");
    other[30] ^= 1;
    std::fs::write(messages.join("MESSAGES"), &other).unwrap();
    split.wait_for("ok");
    split.ctl(&["check", "--all", "--deep"], 0);
}

// row 115: to and from a split partition a user moves with everything, between file systems, and nothing stays behind on either disk
#[test]
fn a_user_moves_to_and_from_a_split_partition() {
    let (mut split, daemon) = Split::new("");
    for n in 0..12 {
        split.deliver(&[EVE, WORK], 300 + n * 700);
    }
    split.deliver(&[EVE], 100_000);
    split.ctl(&["message", "flags", EVE, "3", "--add", "\\Flagged", "--add", "$Work"], 0);
    let before = split.store.json(&["message", "list", EVE]);
    for to in ["primary", "far", "primary"] {
        let moving = split.store.begin(&["user", "move", "eve", "--to", to]);
        split.deliver(&[JOE], 500);
        Run::of(moving).expect(0);
        split.ctl(&["checkpoint"], 0);
        assert_eq!(split.store.json(&["message", "list", EVE]), before, "UIDs, flags, dates");
        split.assert_all_there();
        split.assert_apart();
        let hers = |root: &Path| {
            let files = named(root, ".msg").into_iter().filter(|file| text(file).contains("=eve"));
            files.map(|file| std::fs::metadata(file).unwrap().nlink()).collect::<Vec<_>>()
        };
        let (far, primary) = (hers(&split.messages), hers(&split.store.data.join("partition/primary")));
        let (here, there) = if to == "far" { (far, primary) } else { (primary, far) };
        assert_eq!((here.len(), there.len()), (25, 0), "{to}: all of it here, and nothing where she lay");
        assert_eq!(here.iter().filter(|links| **links == 2).count(), 24, "{to}: one stored copy");
    }
    split.ctl(&["partition", "remove", "far"], 0);
    daemon.kill();
    let _daemon = split.start();
    split.assert_all_there();
    split.ctl(&["check", "--all", "--deep"], 0);
}

// rows 121, 124, B9: damage on either disk is found, told by its file, and mended; what is set aside lies on the disk where it was
#[test]
fn damage_on_either_disk_is_found_and_mended() {
    let (mut split, daemon) = Split::new("");
    for n in 0..6 {
        split.deliver(&[EVE, JOE], 800 + n);
    }
    split.ctl(&["checkpoint"], 0);
    let before = split.store.json(&["message", "list", EVE]);
    let files = named(&split.messages, ".msg");
    let mut bytes = std::fs::read(&files[2]).unwrap();
    bytes[100] ^= 4;
    std::fs::write(&files[2], bytes).unwrap();
    std::fs::write(files[0].with_file_name("77.msg"), b"Subject: whose?\r\n\r\n").unwrap();
    std::fs::remove_file(&named(&split.index, "store.idx")[0]).unwrap();
    std::os::unix::fs::symlink("/etc", split.messages.join("=user/link")).unwrap();
    let found = split.ctl(&["--json", "check", "--all", "--deep"], 1).json();
    let told = found["findings"].to_string();
    assert!(told.contains(text(&files[2])) && told.contains("77.msg") && told.contains("index missing"), "{told}");
    // The file of nobody is shown and said; the message with other bytes is put back by its first reader: Joe, on another disk, has it.
    let mended = split.ctl(&["reconstruct", "-m", "-r"], 1);
    assert!(mended.out.contains("index made again") && mended.out.contains("1 not proven"), "{mended:?}");
    split.ctl(&["checkpoint"], 0);
    assert_eq!(split.store.json(&["message", "list", EVE]), before);
    split.assert_all_there();
    assert!(!std::fs::read_dir(split.messages.join(".quarantine")).unwrap().map(|_| ()).collect::<Vec<_>>().is_empty());
    split.assert_apart();
    let recovered = split.store.json(&["mailbox", "list", "user/eve/*"]).to_string();
    assert!(recovered.contains("Recovered"), "the file that nobody knows is shown: {recovered}");
    split.ctl(&["check", "--all", "--deep"], 0);
    assert_eq!(daemon.stop(), 0);
}

// rows 46, 113: the database lost, and the list of where partitions lie: both roots are known, and all comes back from them
#[test]
fn a_lost_database_comes_back_from_both_roots() {
    let (mut split, daemon) = Split::new("");
    for n in 0..5 {
        split.deliver(&[EVE, WORK], 500 + n * 9000);
    }
    split.ctl(&["message", "flags", EVE, "2", "--add", "\\Flagged"], 0);
    split.ctl(&["checkpoint"], 0);
    let before = split.store.json(&["message", "list", EVE]);
    assert_eq!(daemon.stop(), 0);
    let places = std::fs::read_to_string(split.store.data.join("partitions.toml")).unwrap();
    assert!(places.contains("message_path"), "{places}");
    std::fs::remove_file(split.store.data.join("partitions.toml")).unwrap();
    for entry in std::fs::read_dir(split.store.data.join("mboxlist")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::remove_file(path).unwrap();
        }
    }
    let _daemon = split.start();
    adopted(&split.store);
    assert_eq!(split.show()["messages"]["path"], text(&split.messages));
    assert_eq!(split.store.json(&["message", "list", EVE]), before);
    split.assert_all_there();
    split.ctl(&["check", "--all", "--deep"], 0);
}

// row 133: mailboxes go into an archive from a split partition, and come back into one
#[test]
fn mailboxes_are_saved_from_and_brought_back_to_a_split_partition() {
    let (mut split, _daemon) = Split::new("");
    for n in 0..4 {
        split.deliver(&[EVE, WORK], 600 + n * 40_000);
    }
    let before = split.store.json(&["message", "list", EVE]);
    let file = split.store.beside("all.sda");
    split.ctl(&["backup", "-f", text(&file), "eve"], 0);
    for mailbox in [WORK, EVE] {
        split.ctl(&["message", "expunge", mailbox, "1,2"], 0);
    }
    split.ctl(&["restore", "-f", text(&file), "--yes"], 0);
    split.ctl(&["checkpoint"], 0);
    let digests = |list: &Value| {
        let mut all: Vec<_> = list.as_array().unwrap().iter().map(|m| m["digest"].to_string()).collect();
        all.sort();
        all
    };
    assert_eq!(digests(&split.store.json(&["message", "list", EVE])), digests(&before));
    assert_eq!(split.store.json(&["message", "list", WORK]).as_array().unwrap().len(), 4);
    split.assert_apart();
    split.ctl(&["check", "--all", "--deep"], 0);
}

// row 115: the layout of a partition that is there is not changed by its configuration: told, with the next command, and all is there again
// when the configuration is as it was
#[test]
fn the_layout_is_not_changed_by_configuration() {
    let mut store = TestStore::new();
    store.small_logs = false;
    let disk = other_disk(store.data.parent().unwrap());
    let file = store.beside("layout.toml");
    let start = |primary: &str, second: &str| {
        let text = format!(
            "[log]\nsegment_size = \"1MiB\"\n[partition.primary]\n{primary}\n[partition.second]\npath = {:?}\n{second}\n",
            store.beside("second")
        );
        std::fs::write(&file, text).unwrap();
        store.start_with(&["--config", file.to_str().unwrap()])
    };
    let message_path = |name: &str| format!("message_path = {:?}", disk.path().join(name));
    let split = message_path("second");
    let daemon = start("", &split);
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["user", "add", "eve", "--partition", "second"]).expect(0);
    for mailbox in [JOE, EVE] {
        store.ctl_with(&["message", "deliver", mailbox], Some(&message(1, 2000))).expect(0);
    }
    store.ctl(&["checkpoint"]).expect(0);
    assert_eq!(named(&disk.path().join("second"), ".msg").len(), 1);
    assert_eq!(daemon.stop(), 0);

    // One that is whole is to be split.
    let daemon = start(&message_path("primary"), &split);
    let shown = store.json(&["partition", "show", "primary"]);
    assert_eq!(shown["state"], "foreign", "{shown}");
    let why = shown["why"].as_str().unwrap();
    assert!(why.contains("message_path") && why.contains("storectl user move"), "{why}");
    assert!(!disk.path().join("primary").exists(), "nothing is made");
    store.ctl(&["message", "list", JOE]).expect(75);
    store.ctl(&["message", "show", EVE, "1", "--raw"]).expect(0);
    assert_eq!(daemon.stop(), 0);

    // One that is split is to be whole.
    let daemon = start("", "");
    let shown = store.json(&["partition", "show", "second"]);
    assert_eq!(shown["state"], "foreign", "{shown}");
    assert!(shown["why"].as_str().unwrap().contains("no message_path says where"), "{shown}");
    store.ctl(&["message", "show", JOE, "1", "--raw"]).expect(0);
    assert_eq!(daemon.stop(), 0);

    // Elsewhere, where nothing of it lies; then where it has been moved to.
    let daemon = start("", &message_path("elsewhere"));
    assert_eq!(store.json(&["partition", "show", "second"])["state"], "missing");
    assert!(!disk.path().join("elsewhere").exists(), "nothing is made");
    assert_eq!(daemon.stop(), 0);
    std::fs::rename(disk.path().join("second"), disk.path().join("elsewhere")).unwrap();
    let daemon = start("", &message_path("elsewhere"));
    store.ctl(&["message", "show", EVE, "1", "--raw"]).expect(0);
    store.ctl(&["check", "--all", "--deep"]).expect(0);

    // At run time: one inside the other, a directory that holds something, one that is there already.
    let nested = store.beside("third");
    let add = |path: &Path, messages: &Path, status: i32| {
        store.ctl(&["partition", "add", "third", text(path), "--message-path", text(messages)]).expect(status).err
    };
    assert!(add(&nested, &nested.join("messages"), 65).contains("lie one in the other"));
    assert!(add(&nested, &nested, 65).contains("one directory"));
    assert!(add(&nested, &store.beside("second"), 73).contains("is not empty"));
    assert!(named(&store.beside("second"), "MESSAGES").is_empty());
    store
        .ctl(&[
            "--json",
            "partition",
            "add",
            "third",
            text(&nested),
            "--message-path",
            text(&disk.path().join("third")),
            "--dry-run",
        ])
        .expect(0);
    assert!(!disk.path().join("third").exists());
    drop(daemon);

    // In one file: two that share a directory.
    let text = "[partition.primary]\npath = \"/a\"\nmessage_path = \"/b\"\n[partition.x]\npath = \"/c\"\nmessage_path = \"/b/d\"\n";
    std::fs::write(&file, text).unwrap();
    let refused = store.storedd(&["--check-config", "--config", file.to_str().unwrap()]).expect(78);
    assert!(
        format!("{}{}", refused.out, refused.err)
            .contains("partition.x.message_path: /b/d is inside, or around, partition.primary.message_path"),
        "{refused:?}"
    );
}

/// An older program refuses a split partition by the name of its file: the version of that is one it does not know.
// row 115
#[test]
fn an_older_program_would_refuse_a_split_partition() {
    let (split, daemon) = Split::new("");
    assert_eq!(daemon.stop(), 0);
    let version = |root: &Path| std::fs::read(root.join("PARTITION")).unwrap()[8];
    assert_eq!((version(&split.index), version(&split.store.data.join("partition/primary"))), (3, 2));
    let listing = run(std::process::Command::new("find").arg(&split.messages).args(["-maxdepth", "1"]), None).out;
    assert!(listing.contains("MESSAGES"), "{listing}");
}
