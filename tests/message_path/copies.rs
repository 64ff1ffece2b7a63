//! Complete copies of partitions with two roots: both are in it, both are put back, and never one beside another one that it does not fit.

use super::{EVE, JOE, Split, WORK};
use crate::check::named;
use crate::harness::{Daemon, Run, TestStore, text};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Everything that eve and joe have: names, messages, and what is known of them.
fn contents(store: &TestStore) -> Value {
    let of = |mailbox: &str| {
        json!([store.json(&["mailbox", "show", mailbox])["uidvalidity"], store.json(&["message", "list", mailbox])])
    };
    json!([EVE, WORK, JOE].map(of))
}

impl Split {
    /// Some mail of each kind, and a complete copy; then more of it, which the log alone has behind the copy.
    fn with_copy() -> (Split, Daemon, PathBuf) {
        let (mut split, daemon) = Split::new("");
        for bytes in [400, 90_000, 5000] {
            split.deliver(&[EVE, WORK, JOE], bytes);
            split.deliver(&[EVE], bytes + 1);
        }
        split.ctl(&["message", "flags", EVE, "2", "--add", "\\Flagged", "--add", "$Work"], 0);
        split.ctl(&["message", "expunge", WORK, "1"], 0);
        split.ctl(&["checkpoint"], 0);
        split.deliver(&[EVE, JOE], 120_000);
        let copy = split.store.beside("copy");
        let said = split.store.json(&["backup", "--complete", text(&copy)]);
        assert_eq!((&said["partitions"], &said["skipped"]), (&json!(["far", "primary"]), &json!([])), "{said}");
        let far = copy.join("partition/far");
        assert!(far.join("PARTITION").is_file() && far.join("MESSAGES").is_file(), "both identities are in it");
        assert_eq!((named(&far, "store.idx").len(), named(&far, "manifest").len()), (2, 1));
        assert!(named(&far, ".msg").len() >= 6 + 3, "{:?}", named(&far, ".msg"));
        (split, daemon, copy)
    }

    fn restore(&self, args: &[&str], copy: &Path, status: i32) -> Run {
        let config = self.store.beside("split.toml");
        let args = [&["--config", text(&config), "restore-db"], args, &[text(copy)]].concat();
        self.store.storedd(&args).expect(status)
    }

    /// A partition that was put back learns with the next checkpoint what came behind the copy.
    fn start_and_catch_up(&self) -> Daemon {
        let daemon = self.start();
        self.ctl(&["checkpoint"], 0);
        self.wait_for("ok");
        daemon
    }

    fn assert_whole(&self, before: &Value, what: &str) {
        assert_eq!(contents(&self.store), *before, "{what}");
        self.assert_all_there();
        self.assert_apart();
        for root in [&self.index, &self.messages] {
            assert!(!root.join(".restoring").exists(), "{what}: {}", root.display());
        }
        let checked = self.store.json(&["check", "--all", "--deep"]);
        assert_eq!(checked["findings"], json!([]), "{what}");
    }
}

// rows 85, 115, 146: a complete copy has both roots, and a host that lost everything has both again, each on its disk, one file for the copies of one
// message
#[test]
fn a_complete_copy_has_both_roots_and_puts_both_back() {
    let (split, daemon, copy) = Split::with_copy();
    let before = contents(&split.store);
    let links = |root: &Path| {
        let mut links: Vec<u64> = named(root, ".msg").iter().map(|f| std::fs::metadata(f).unwrap().nlink()).collect();
        links.sort_unstable();
        links
    };
    split.ctl(&["checkpoint"], 0);
    let names = links(&split.messages);
    assert!(names.contains(&2), "{names:?}");
    daemon.kill();
    let lose = || {
        for root in [&split.store.data, &split.index, &split.messages] {
            std::fs::remove_dir_all(root).unwrap();
        }
    };
    lose();
    let told = split.restore(&["--dry-run"], &copy, 0).out;
    assert!(told.contains("would put partition far into") && told.contains(text(&split.messages)), "{told}");
    assert!(!split.index.exists() && !split.messages.exists(), "nothing was made");
    // Something else lies where message files are to lie.
    std::fs::create_dir(&split.messages).unwrap();
    std::fs::write(split.messages.join("mine"), "mine").unwrap();
    let refused = split.restore(&["--yes"], &copy, 73);
    assert!(refused.err.contains(text(&split.messages)) && refused.err.contains("mine"), "{refused:?}");
    assert!(!split.index.exists() && split.messages.join("mine").is_file());
    std::fs::remove_file(split.messages.join("mine")).unwrap();
    split.restore(&["--yes"], &copy, 0);
    let daemon = split.start();
    split.assert_whole(&before, "all of it");
    split.ctl(&["checkpoint"], 0);
    assert_eq!(links(&split.messages), names, "one file for the copies of one message");
    daemon.kill();
    let spoil = |victim: &Path| {
        let bytes = std::fs::read(victim).unwrap();
        let mut bad = bytes.clone();
        bad[40] ^= 1;
        std::fs::write(victim, bad).unwrap();
        bytes
    };
    // A byte of a message is another one, of one name of a file that has no other: it is named, and everything else comes.
    lose();
    let files = named(&copy.join("partition/far"), ".msg");
    let victim = files.into_iter().rfind(|file| std::fs::metadata(file).unwrap().nlink() == 1).unwrap();
    let bytes = spoil(&victim);
    let partly = split.restore(&["--yes"], &copy, 1);
    assert!(format!("{partly:?}").contains(text(&victim)), "{partly:?}");
    assert_eq!(named(&split.messages, ".msg").len(), names.len() - 1);
    std::fs::write(&victim, bytes).unwrap();
    // A byte of an index: it is named, nothing is changed, and put right the same command does it.
    lose();
    let victim = named(&copy.join("partition/far"), "store.idx").pop().unwrap();
    let bytes = spoil(&victim);
    let refused = split.restore(&["--yes"], &copy, 2);
    assert!(refused.err.contains(text(&victim)), "{refused:?}");
    assert!(!split.index.exists() && !split.messages.exists(), "nothing was made");
    std::fs::write(&victim, bytes).unwrap();
    split.restore(&["--yes"], &copy, 0);
    let daemon = split.start();
    split.assert_whole(&before, "gone on with");
    assert_eq!(daemon.stop(), 0);
}

// rows 85, 115, 146: one disk of the two, or both, with the store itself still there: what came behind the copy comes from the log, and one root is
// never put back beside another one that it does not fit
#[test]
fn a_partition_with_two_roots_is_put_back_alone() {
    let (mut split, daemon, copy) = Split::with_copy();
    let one = ["--partition", "far", "--yes"];
    split.deliver(&[EVE, JOE], 700);
    split.deliver(&[EVE], 60_000);
    split.ctl(&["message", "flags", EVE, "1", "--add", "\\Seen"], 0);
    split.ctl(&["checkpoint"], 0);
    let before = contents(&split.store);
    // With one of the disks away there is no copy that has all.
    let away = split.messages.with_extension("away");
    std::fs::rename(&split.messages, &away).unwrap();
    split.wait_for("missing");
    let refused = split.ctl(&["backup", "--complete", text(&split.store.beside("other"))], 75);
    assert!(refused.err.contains("partition far"), "{refused:?}");
    std::fs::rename(&away, &split.messages).unwrap();
    split.wait_for("ok");
    assert_eq!(daemon.stop(), 0);
    // Both.
    std::fs::remove_dir_all(&split.index).unwrap();
    std::fs::remove_dir_all(&split.messages).unwrap();
    split.restore(&one, &copy, 0);
    let daemon = split.start_and_catch_up();
    split.assert_whole(&before, "both");
    assert_eq!(daemon.stop(), 0);
    // That of the messages: what the copy has does not fit the indexes, which are newer.
    std::fs::remove_dir_all(&split.messages).unwrap();
    for args in [&["--partition", "far", "--dry-run"][..], &one, &["--yes"]] {
        let refused = split.restore(args, &copy, 73);
        assert!(refused.err.contains(text(&split.index)) && refused.err.contains("put the directory"), "{refused:?}");
    }
    assert!(!split.messages.exists() && !split.index.join(".restoring").exists(), "nothing is changed");
    // Another partition is put back all the same.
    let primary = split.store.data.join("partition/primary");
    std::fs::remove_dir_all(&primary).unwrap();
    split.restore(&["--partition", "primary", "--yes"], &copy, 0);
    std::fs::rename(&split.index, split.index.with_extension("aside")).unwrap();
    split.restore(&one, &copy, 0);
    let daemon = split.start_and_catch_up();
    split.assert_whole(&before, "the messages");
    assert_eq!(daemon.stop(), 0);
    // That of the indexes: the messages are there, and stay.
    std::fs::remove_dir_all(&split.index).unwrap();
    split.restore(&one, &copy, 0);
    let daemon = split.start_and_catch_up();
    split.assert_whole(&before, "the indexes");
    assert_eq!(daemon.stop(), 0);
}

// rows 111, 146: a long message that came behind the copy was never in the log, and its file is lost with the disk: it is named, and everything else
// comes back
#[test]
fn a_long_message_behind_the_copy_is_named() {
    let (mut split, daemon, copy) = Split::with_copy();
    split.deliver(&[EVE], 700);
    let sent = split.sent.len();
    split.deliver(&[EVE], 200_000);
    split.deliver(&[EVE], 800);
    split.ctl(&["checkpoint"], 0);
    let before = contents(&split.store);
    assert_eq!(daemon.stop(), 0);
    std::fs::remove_dir_all(&split.index).unwrap();
    std::fs::remove_dir_all(&split.messages).unwrap();
    split.restore(&["--partition", "far", "--yes"], &copy, 0);
    let daemon = split.start_and_catch_up();
    let (lost, uid) = (format!("{}.msg", sent + 1), (sent + 1).to_string());
    let found = split.ctl(&["--json", "check", "--all", "--deep"], 2).json();
    let [finding] = &found["findings"].as_array().unwrap()[..] else { panic!("{found}") };
    assert!(finding.to_string().contains(&lost), "{found}");
    let refused = split.store.ctl(&["message", "show", EVE, &uid, "--raw"]);
    assert!(refused.status != 0 && refused.out.is_empty(), "{refused:?}");
    assert_eq!(contents(&split.store), before, "it is still there by name");
    for (uid, sent) in (1..).zip(&split.sent).filter(|(uid, _)| *uid != sent + 1) {
        let raw = split.ctl(&["message", "show", EVE, &uid.to_string(), "--raw"], 0);
        assert_eq!(raw.out.as_bytes(), sent.as_slice(), "message {uid}");
    }
    split.deliver(&[EVE], 100);
    split.ctl(&["checkpoint"], 0);
    assert_eq!(daemon.stop(), 0);
}

// row 146: a restore of two roots, killed again and again: never a partition before all of it is there, and the same command goes on
#[test]
fn a_restore_of_two_roots_is_gone_on_with() {
    let (split, daemon, copy) = Split::with_copy();
    let before = contents(&split.store);
    daemon.kill();
    for root in [&split.store.data, &split.index, &split.messages] {
        std::fs::remove_dir_all(root).unwrap();
    }
    let (mut cut, mut after, config) = (0, 2000, split.store.beside("split.toml"));
    loop {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_storedd"));
        command.args(["--data-dir", text(&split.store.data), "--config", text(&config)]);
        command.args(["restore-db", "--yes", text(&copy)]);
        let mut child =
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(after));
        let ended = child.try_wait().unwrap();
        drop(child.kill());
        child.wait().unwrap();
        if let Some(status) = ended {
            assert!(status.success(), "{status}");
            break;
        }
        let is_partition = split.index.join("PARTITION").exists();
        assert!(!is_partition || split.messages.join("MESSAGES").exists(), "cut off {cut} times");
        (cut, after) = (cut + 1, after + after / 3);
        assert!(after < 60_000_000);
    }
    assert!(cut > 0);
    let daemon = split.start();
    split.assert_whole(&before, "cut off");
    assert_eq!(daemon.stop(), 0);
}
