//! Backups and restores as work that others see, end and wait beside; and as files for other programs.

use super::{backup, contents, count, deliver, message, restore, sample, text};
use crate::harness::{Run, TestStore, until};
use serde_json::{Value, json};
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

fn job(store: &TestStore, verb: &str) -> Option<Value> {
    let jobs = store.json(&["jobs"]);
    jobs.as_array().unwrap().iter().rfind(|job| job["verb"] == verb).cloned()
}

// Both are jobs: they are listed with how far they are, take nobody's turn, and end when they are cancelled; what was there stays whole
#[test]
fn backup_and_restore_are_jobs_that_can_be_cancelled() {
    let (store, _daemon) = sample();
    let (file, slow) = (store.beside("all.sda"), store.beside("slow.sda"));
    backup(&store, &file, &["/"]);
    let running = |verb: &str| {
        until("the job to be at work", || {
            job(&store, verb).filter(|job| job["state"] == "running" && job["item"].as_str() != Some(""))
        })
    };
    for (verb, args) in [
        ("backup", vec!["backup", "-f", text(&slow), "--pace", "100KiB", "/"]),
        ("restore", vec!["restore", "-f", text(&file), "--yes", "-i", "--pace", "100KiB"]),
    ] {
        let client = store.begin(&args);
        let at_work = running(verb);
        assert!(
            at_work["unit"] == "messages" && at_work["client"].as_str().unwrap().starts_with("storectl"),
            "{at_work}"
        );
        // It holds up no other job.
        store.ctl(&["checkpoint"]).expect(0);
        let id = at_work["id"].to_string();
        store.ctl(&["jobs", "cancel", &id]).expect(0);
        let run = Run::of(client);
        assert_eq!(run.status, 75, "{run:?}");
        assert!(run.err.contains("was cancelled"), "{}", run.err);
        assert_eq!(store.json(&["jobs", "show", &id])["state"], "cancelled");
    }
    assert!(!slow.exists());
    backup(&store, &slow, &["/"]);
    assert_eq!(job(&store, "backup").unwrap()["state"], "done");
    // A client that is killed leaves no job behind.
    let mut client = store.begin(&["backup", "-f", text(&slow), "--pace", "100KiB", "/"]);
    let id = running("backup")["id"].to_string();
    client.kill().unwrap();
    client.wait().unwrap();
    until("the job to end", || (store.json(&["jobs", "show", &id])["state"] == "failed").then_some(()));
}

// A consumer that takes nothing for longer than the daemon waits for a client, and for longer than a connection may be idle
#[test]
fn a_consumer_that_pauses_ends_no_backup() {
    let store = TestStore::new();
    let config = store.beside("short.toml");
    std::fs::write(&config, "[control]\nidle_timeout = '1s'\nwrite_timeout = '1s'\n").unwrap();
    let _daemon = store.start_with(&["--config", text(&config)]);
    store.ctl(&["user", "add", "ann"]).expect(0);
    for n in 0..30 {
        deliver(&store, &["user/ann/INBOX"], &message(format!("m{n}"), 400_000));
    }
    let mut saves = Command::new(env!("CARGO_BIN_EXE_storectl"))
        .arg("--data-dir")
        .arg(&store.data)
        .args(["backup", "-f", "-", "--level", "0", "/"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(4));
    let mut archive = Vec::new();
    saves.stdout.take().unwrap().read_to_end(&mut archive).unwrap();
    let run = Run::of(saves);
    assert_eq!(run.status, 0, "{run:?}");
    let file = store.beside("piped.sda");
    std::fs::write(&file, archive).unwrap();
    store.ctl(&["restore", "-f", text(&file), "-t"]).expect(0);
    // A producer that pauses, likewise.
    store.ctl(&["user", "delete", "ann", "--yes"]).expect(0);
    let mut restores = Command::new(env!("CARGO_BIN_EXE_storectl"))
        .arg("--data-dir")
        .arg(&store.data)
        .args(["--json", "restore", "-f", "-", "--yes"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let archive = std::fs::read(&file).unwrap();
    let mut input = restores.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, &archive[..archive.len() / 2]).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    std::io::Write::write_all(&mut input, &archive[archive.len() / 2..]).unwrap();
    drop(input);
    let done = Run::of(restores).expect(0).json();
    assert_eq!(count(&done, "restored"), 30);
}

// rows 143, 144: group-wise files in a directory, saved and brought back by any tool (here tar); several backups at once do no harm
#[test]
fn groups_are_staged_for_another_program() {
    let store = TestStore::new();
    let groups = store.beside("backup-groups.conf");
    std::fs::write(&groups, "early=[a-c].*\nlate=.*e\n").unwrap();
    let config = store.beside("storedd.toml");
    std::fs::write(&config, format!("[backup]\ngroups = {:?}\n", text(&groups))).unwrap();
    let _daemon = store.start_with(&["--config", text(&config)]);
    for user in ["ann", "bob", "eve"] {
        store.ctl(&["user", "add", user]).expect(0);
    }
    deliver(&store, &["user/ann/INBOX", "user/bob/INBOX", "user/eve/INBOX"], &message("together", 3000));
    let (dir, tar) = (store.beside("stage"), store.beside("saved.tar"));
    let stage = || store.ctl(&["--json", "backup", "--stage", text(&dir), "/"]).expect(0);
    let staged = stage().json();
    let files = ["primary/early.sda", "primary/late.sda"].map(|name| dir.join(name));
    assert_eq!(staged["files"], json!(files.each_ref().map(|file| text(file))));
    assert_eq!(
        (staged["objects"].as_u64(), staged["messages"].as_u64(), staged["copies"].as_u64()),
        (Some(3), Some(2), Some(1))
    );
    let before = contents(&store);
    let tool = |args: &[&str]| assert!(Command::new("tar").args(args).status().unwrap().success());
    tool(&["-C", text(&store.beside(".")), "-cf", text(&tar), "stage"]);
    std::fs::remove_dir_all(&dir).unwrap();
    for user in ["ann", "bob", "eve"] {
        store.ctl(&["user", "delete", user, "--yes"]).expect(0);
    }
    tool(&["-C", text(&store.beside(".")), "-xf", text(&tar)]);
    for file in &files {
        restore(&store, file, &[], 0);
    }
    assert_eq!(contents(&store), before);
    // A group that is not there any more leaves its file, and that is said.
    store.ctl(&["user", "delete", "eve", "--yes"]).expect(0);
    let again = stage();
    assert!(again.err.contains("late.sda is of an earlier run"), "{}", again.err);
    assert_eq!(again.json()["stale"], json!([text(&files[1])]));
    // Ten at once.
    let all: Vec<_> = (0..10)
        .map(|n| store.begin(&["--json", "backup", "-f", text(&store.beside(&format!("{n}.sda"))), "/primary/early"]))
        .collect();
    for client in all {
        assert_eq!(Run::of(client).expect(0).json()["objects"], 2);
    }
    for args in [vec!["backup", "/"], vec!["backup", "-f", "x", "--stage", "y", "/"]] {
        store.ctl(&args).expect(64);
    }
}
