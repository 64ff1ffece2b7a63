//! Mailboxes into archives and back, through the built programs.

mod as_of;
mod asked;
mod dates;
mod empty;
mod follow;
mod gone;
mod heal;
mod kills;
mod narrow;
mod rows;
mod work;

use crate::harness::mail::{deliver, message};
use crate::harness::{Daemon, Run, TestStore, total};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn summary(run: Run, status: i32) -> Value {
    run.expect(status).json()
}

/// Everything that is to come back of the mailboxes: names, UIDVALIDITY, UIDNEXT, rights, and of messages all but modseq.
fn contents(store: &TestStore) -> Value {
    let mut all = store.json(&["mailbox", "list"]);
    for mailbox in all.as_array_mut().unwrap() {
        let mut messages = store.json(&["message", "list", mailbox["name"].as_str().unwrap()]);
        messages.as_array_mut().unwrap().iter_mut().for_each(|m| drop(m.as_object_mut().unwrap().remove("modseq")));
        let mailbox = mailbox.as_object_mut().unwrap();
        mailbox.insert("all".to_owned(), messages);
        for other in ["id", "path"] {
            mailbox.remove(other);
        }
    }
    all
}

/// `from` piped into `to`; what the second says, with --json.
fn pipe(from: &TestStore, objects: &[&str], to: &TestStore, options: &[&str]) -> Run {
    let ctl = |store: &TestStore, args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_storectl"));
        command.arg("--data-dir").arg(&store.data).args(args);
        command
    };
    let mut saves = ctl(from, &[&["backup", "-f", "-"], objects].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let archive = saves.stdout.take().unwrap();
    let restores = ctl(to, &[&["--json", "restore", "-f", "-", "--yes"], options].concat())
        .current_dir(to.beside("."))
        .stdin(archive)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let run = Run::of(restores);
    assert!(saves.wait().unwrap().success());
    run
}

/// A store in which Ann, Bob and Eve have one message together, and Bob a folder with ten, flags, dates and rights.
fn sample() -> (TestStore, Daemon) {
    let store = TestStore::new();
    let daemon = store.start();
    for user in ["ann", "bob", "eve"] {
        store.ctl(&["user", "add", user, "--quota", "1GiB", "--messages", "1000"]).expect(0);
    }
    deliver(&store, &["user/ann/INBOX", "user/bob/INBOX", "user/eve/INBOX"], &message("together", 3000));
    store.ctl(&["mailbox", "create", "user/bob/Work/Äpfel"]).expect(0);
    for n in 0..10 {
        let (name, size) = (format!("m{n}"), if n == 5 { 1_200_000 } else { 500 * n + 60 });
        let date = format!("20{:02}-01-02T03:04:05.678901Z", 10 + n);
        let to = ["user/bob/Work/Äpfel", "--flags", "\\Seen $Work", "--internal-date", &date];
        deliver(&store, &to, &message(&name, size));
    }
    store.ctl(&["message", "expunge", "user/bob/Work/Äpfel", "3,4"]).expect(0);
    store.ctl(&["acl", "set", "user/bob/Work/Äpfel", "anyone", "lrs"]).expect(0);
    store.ctl(&["subscribe", "bob", "user/bob/Work/Äpfel"]).expect(0);
    store.ctl(&["mailbox", "create", "shared/news"]).expect(0);
    deliver(&store, &["shared/news"], &message("news", 700));
    (store, daemon)
}

fn backup(store: &TestStore, file: &Path, args: &[&str]) -> Value {
    summary(store.ctl(&[&["--json", "backup", "-f", text(file)], args].concat()), 0)
}

fn restore(store: &TestStore, file: &Path, args: &[&str], status: i32) -> Value {
    summary(store.ctl(&[&["--json", "restore", "-f", text(file), "--yes"], args].concat()), status)
}

fn count(value: &Value, key: &str) -> usize {
    value[key].as_array().unwrap().len()
}

/// How many names the file of each message has.
fn links(store: &TestStore) -> Vec<u64> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(&path, found),
                false if path.extension().is_some_and(|e| e == "msg") => found.push(path),
                false => {}
            }
        }
    }
    store.ctl(&["checkpoint"]).expect(0);
    let mut found = Vec::new();
    walk(&store.data.join("partition"), &mut found);
    let mut links: Vec<u64> = found.iter().map(|path| path.metadata().unwrap().nlink()).collect();
    links.sort_unstable();
    links
}

// rows 132, 133, 137: backup piped into restore reproduces the mailboxes on another store, with one file for one message; a
// second run adds nothing (row 139)
#[test]
fn a_pipe_from_store_to_store_brings_identical_mailboxes() {
    let (from, _one) = sample();
    let to = TestStore::new();
    let _two = to.start();
    let done = summary(pipe(&from, &["/"], &to, &[]), 0);
    assert_eq!((count(&done, "restored"), count(&done, "skipped"), count(&done, "unrestorable")), (12, 0, 0), "{done}");
    assert_eq!(contents(&from), contents(&to));
    for user in ["ann", "bob", "eve"] {
        let about = |store: &TestStore| {
            let user = store.json(&["user", "show", user]);
            json!([user["quota"], user["subscriptions"], user["mailboxes"]])
        };
        assert_eq!(about(&from), about(&to));
    }
    assert_eq!(links(&to), [1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 3]);
    let before = contents(&to);
    let again = summary(pipe(&from, &["/"], &to, &[]), 0);
    assert_eq!((count(&again, "restored"), count(&again, "skipped")), (0, 12), "{again}");
    assert_eq!(contents(&to), before);
    // UIDs go on behind those of the archive.
    deliver(&to, &["user/bob/Work/Äpfel"], &message("later", 100));
    let list = to.json(&["message", "list", "user/bob/Work/Äpfel"]);
    assert_eq!(list.as_array().unwrap().last().unwrap()["uid"], json!(11));
}

// rows 134, 135, 137: the three worked examples of partial restore, from a file and from a pipe
#[test]
fn linked_messages_come_back_as_the_three_examples_say() {
    let (store, _daemon) = sample();
    let (all, part) = (store.beside("all.sda"), store.beside("part.sda"));
    let saved = backup(&store, &all, &["/"]);
    assert_eq!(
        (saved["objects"].as_u64(), saved["messages"].as_u64(), saved["copies"].as_u64()),
        (Some(5), Some(10), Some(2))
    );
    let whole = contents(&store);
    let delete =
        |users: &[&str]| users.iter().for_each(|user| drop(store.ctl(&["user", "delete", user, "--yes"]).expect(0)));
    // 1: B and C saved, deleted, restored: one file, two names.
    assert_eq!(backup(&store, &part, &["bob", "eve"])["copies"].as_u64(), Some(1));
    delete(&["bob", "eve"]);
    let done = restore(&store, &part, &[], 0);
    assert_eq!((count(&done, "restored"), count(&done, "unrestorable")), (10, 0), "{done}");
    assert_eq!(contents(&store), whole);
    // 2: everything saved, A deleted and restored.
    delete(&["ann"]);
    assert_eq!(count(&restore(&store, &all, &["/primary/user/ann"], 0), "restored"), 1);
    assert_eq!(contents(&store), whole);
    // 3: A and B deleted, B restored from a file: what A had is found in it.
    delete(&["ann", "bob"]);
    assert_eq!(count(&restore(&store, &all, &["/primary/user/bob"], 0), "restored"), 9);
    assert_eq!(store.json(&["mailbox", "list", "user/ann/*"]), json!([]));
    // From a pipe it is written down, and restored by a second run.
    delete(&["bob"]);
    let archive = std::fs::read(&all).unwrap();
    let piped = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_storectl"));
        command.arg("--data-dir").arg(&store.data).args(["--json", "restore", "-f", "-", "--yes"]).args(args);
        crate::harness::run(command.current_dir(store.beside(".")), Some(&archive))
    };
    let first = piped(&["/primary/user/bob"]).expect(1);
    assert!(first.err.contains("/primary/user/ann/INBOX 1 is to be restored first"), "{}", first.err);
    let (done, name) = (first.json(), references(&store));
    assert_eq!((count(&done, "restored"), count(&done, "unrestorable")), (8, 1));
    assert_eq!(count(&summary(piped(&["-r", &name]), 0), "restored"), 1);
    assert_eq!(count(&summary(piped(&["ann"]), 0), "restored"), 1);
    assert_eq!(contents(&store), whole);
    // Restored together, nothing is missing.
    delete(&["ann", "bob"]);
    assert_eq!(count(&summary(piped(&["ann", "bob"]), 0), "unrestorable"), 0);
    assert_eq!(contents(&store), whole);
}

/// The file of references that a restore has left.
fn references(store: &TestStore) -> String {
    let entries = std::fs::read_dir(store.beside(".")).unwrap();
    let mut names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.find(|name| name.starts_with("references-")).expect("a file of references")
}

// rows 131, 142: each form of object takes exactly its mailboxes; folders left out come when they are named
#[test]
fn objects_groups_and_folders_left_out() {
    let store = TestStore::new();
    let groups = store.beside("backup-groups.conf");
    std::fs::write(&groups, "early=[a-c].*\nlate=.*e\n").unwrap();
    let config = store.beside("storedd.toml");
    let text_of = format!("[backup]\ngroups = {:?}\nexclude = \"Trash%Bulk Mail\"\n", text(&groups));
    std::fs::write(&config, &text_of).unwrap();
    let daemon = store.start_with(&["--config", text(&config)]);
    for user in ["ann", "bob", "eve"] {
        store.ctl(&["user", "add", user]).expect(0);
        store.ctl(&["mailbox", "create", &format!("user/{user}/Trash")]).expect(0);
    }
    store.ctl(&["mailbox", "create", "shared/news"]).expect(0);
    let file = store.beside("x.sda");
    let objects = |words: &[&str]| -> Vec<String> {
        backup(&store, &file, words);
        let table = store.ctl(&["--json", "restore", "-f", text(&file), "-t"]).expect(0).out;
        let lines = table.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter_map(|line| Some(line["mailbox"]["object"].as_str()?.to_owned())).collect()
    };
    assert_eq!(
        objects(&["/"]),
        ["/primary/shared/news", "/primary/early/ann/INBOX", "/primary/early/bob/INBOX", "/primary/late/eve/INBOX"]
    );
    assert_eq!(objects(&["/primary/early"]), ["/primary/early/ann/INBOX", "/primary/early/bob/INBOX"]);
    assert_eq!(objects(&["/primary/user/eve"]), ["/primary/late/eve/INBOX"]);
    assert_eq!(objects(&["/primary/late/eve/Trash"]), ["/primary/late/eve/Trash"]);
    assert_eq!(objects(&["bob"]), ["/primary/early/bob/INBOX"]);
    for (word, status) in [("/second", 68), ("nobody", 67), ("user/ann/None", 68), ("/primary/user/no body", 65)] {
        store.ctl(&["backup", "-f", text(&store.beside("none")), word]).expect(status);
    }
    assert!(!store.beside("none").exists());
    // row 141: a wrong line is told with its number
    std::fs::write(&groups, "early=[a-c].*\nnothing\nlate=(\n").unwrap();
    let refused = store.ctl(&["backup", "-f", text(&file), "/"]).expect(78);
    assert!(refused.err.contains(":2:") && refused.err.contains(":3:"), "{}", refused.err);
    drop(daemon);
}

// row 136: a full archive and three that follow it, with deletions and a renaming between, bring everything once; one that is
// missing is told, by name
#[test]
fn archives_that_follow_each_other_bring_everything_once() {
    let (store, _one) = sample();
    let file = |n: usize| store.beside(&format!("{n}.sda"));
    backup(&store, &file(0), &["/"]);
    let follow = |n: usize| backup(&store, &file(n), &["--since-archive", text(&file(n - 1)), "/"]);
    deliver(&store, &["user/bob/INBOX", "user/bob/Work/Äpfel"], &message("first", 900));
    store.ctl(&["message", "flags", "user/bob/Work/Äpfel", "1", "--add", "\\Flagged", "--remove", "\\Seen"]).expect(0);
    store.ctl(&["message", "expunge", "user/bob/Work/Äpfel", "2,5"]).expect(0);
    let first = follow(1);
    assert_eq!(
        (first["messages"].as_u64(), first["copies"].as_u64()),
        (Some(1), Some(2)),
        "one new, its twin, one flag"
    );
    store.ctl(&["mailbox", "rename", "user/bob/Work/Äpfel", "user/bob/Obst"]).expect(0);
    deliver(&store, &["user/bob/Obst"], &message("second", 400));
    follow(2);
    store.ctl(&["mailbox", "create", "user/eve/New"]).expect(0);
    deliver(&store, &["user/eve/New"], &message("third", 40_000));
    store.ctl(&["message", "expunge", "user/ann/INBOX", "1"]).expect(0);
    follow(3);
    let to = TestStore::new();
    let _two = to.start();
    restore(&to, &file(0), &[], 0);
    // The second behind the first that is missing.
    let refused = to.ctl(&["restore", "-f", text(&file(2)), "--yes", "/primary/user/bob"]).expect(65);
    assert!(
        refused.err.contains("/primary/user/bob/Obst: the archive before this one is not restored"),
        "{}",
        refused.err
    );
    for n in [1, 2, 3] {
        restore(&to, &file(n), &[], 0);
    }
    assert_eq!(contents(&to), contents(&store));
    // A row of archives that is restored again changes nothing.
    restore(&to, &file(3), &[], 0);
    assert_eq!(contents(&to), contents(&store));
    // By time: what came since.
    let since = store.json(&["message", "list", "user/eve/New"])[0]["internal_date"].as_str().unwrap().to_owned();
    let late = backup(&store, &store.beside("late.sda"), &["-d", &since, "/"]);
    assert_eq!(late["messages"].as_u64(), Some(1));
}

// rows 138, 139, 140, 145: into a mailbox that is there come new UIDs, what it has is left out, nobody else is touched
#[test]
fn a_mailbox_that_is_there_gets_new_uids_and_no_duplicates() {
    let (store, _daemon) = sample();
    let file = store.beside("all.sda");
    backup(&store, &file, &["/"]);
    let (inbox, folder) = ("user/bob/INBOX", "user/bob/Work/Äpfel");
    let before = contents(&store);
    store.ctl(&["message", "expunge", folder, "1,6"]).expect(0);
    deliver(&store, &[folder], &message("newer", 100));
    let tried = store.ctl(&["--json", "restore", "-f", text(&file), "--dry-run"]).expect(0).json();
    assert_eq!((count(&tried, "restored"), count(&tried, "skipped")), (2, 10), "{tried}");
    let done = restore(&store, &file, &[], 0);
    let uids: Vec<_> =
        done["restored"].as_array().unwrap().iter().map(|r| (r["uid"].as_u64(), r["new_uid"].as_u64())).collect();
    assert_eq!(uids, [(Some(1), Some(12)), (Some(6), Some(13))]);
    let list = store.json(&["message", "list", folder]);
    let digests = |list: &Value| -> Vec<String> {
        let mut all: Vec<_> =
            list.as_array().unwrap().iter().map(|m| m["digest"].as_str().unwrap().to_owned()).collect();
        all.sort();
        all
    };
    let mut expected = digests(&before.as_array().unwrap().iter().find(|m| m["name"] == folder).unwrap()["all"]);
    expected.push(store.json(&["message", "list", folder])[6]["digest"].as_str().unwrap().to_owned());
    expected.sort();
    assert_eq!(digests(&list), expected);
    assert_eq!(count(&restore(&store, &file, &[], 0), "restored"), 0, "a second run");
    // -i appends all the same; -n makes another folder; --into one of that name; --query picks.
    assert_eq!(count(&restore(&store, &file, &["-i", inbox], 0), "restored"), 1);
    assert_eq!(store.json(&["message", "list", inbox]).as_array().unwrap().len(), 2);
    let beside = restore(&store, &file, &["-n", inbox], 0);
    assert!(beside["mailboxes"][0].as_str().unwrap().starts_with("user/bob/INBOX.20"), "{beside}");
    let picked =
        ["--into", "Found", "--query", r"from:m5 larger:1MiB flag:\seen since:2014-01-01 before:2016-01-01", "bob"];
    let found = restore(&store, &file, &picked, 0);
    assert_eq!((count(&found, "restored"), &found["mailboxes"]), (1, &json!(["user/bob/Found"])));
    // Other names.
    let map = store.beside("map");
    std::fs::write(&map, "bob=joe\nuser/bob/Work=user/joe/Old\n").unwrap();
    restore(&store, &file, &["-m", text(&map), "bob"], 0);
    assert_eq!(store.json(&["message", "list", "user/joe/Old/Äpfel"]).as_array().unwrap().len(), 8);
    assert!(store.json(&["acl", "get", "user/joe/Old/Äpfel"])["acl"]["joe"].is_string());
    for (args, status) in [(vec!["nobody"], 68), (vec!["--query", "from", "bob"], 64)] {
        store.ctl(&[&["restore", "-f", text(&file), "--yes"][..], &args].concat()).expect(status);
    }
    store.ctl(&["restore", "-f", text(&file)]).expect(64);
    store.ctl(&["restore", "-f", text(&store.beside("none.sda")), "--yes"]).expect(66);
}

// row 140: an archive that follows another, into a mailbox that is missing, warns
#[test]
fn an_archive_of_a_part_into_nothing_warns() {
    let (from, _one) = sample();
    let file = from.beside("part.sda");
    backup(&from, &file, &["-d", "20200101:000000", "/"]);
    let to = TestStore::new();
    let _two = to.start();
    let done = to.ctl(&["restore", "-f", text(&file), "--yes"]).expect(0);
    assert!(done.err.contains("hold the delivery to it, or create it before"), "{}", done.err);
}

// Damage costs what it touches and is told: cuts and flips anywhere, the rest comes back, nothing wrong does
#[test]
fn a_damaged_archive_gives_back_the_rest() {
    let (from, _one) = sample();
    let file = from.beside("all.sda");
    backup(&from, &file, &["/"]);
    let whole = std::fs::read(&file).unwrap();
    let good: Vec<String> = digests_of(&contents(&from));
    let to = TestStore::new();
    let _two = to.start();
    let damaged = to.beside("damaged.sda");
    let mut random = 0x5eed_u64;
    let rounds = if std::env::var_os("STOREDD_ARCHIVE_ALL").is_some() { 300 } else { 16 };
    let mut came = 0;
    for n in 0..rounds {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = (random >> 20) as usize % (whole.len() - 100);
        let mut bytes = whole.clone();
        match n % 2 {
            0 => bytes[at] ^= 1 << (n % 8),
            _ => bytes.truncate(at),
        }
        std::fs::write(&damaged, &bytes).unwrap();
        let run = to.ctl(&["--json", "restore", "-f", text(&damaged), "--yes"]);
        assert!([1, 65].contains(&run.status), "{run:?}");
        let list = to.json(&["mailbox", "list"]);
        for mailbox in list.as_array().unwrap() {
            let messages = to.json(&["message", "list", mailbox["name"].as_str().unwrap()]);
            for message in messages.as_array().unwrap() {
                assert!(good.contains(&message["digest"].as_str().unwrap().to_owned()), "{message}");
            }
        }
        for user in ["ann", "bob", "eve"] {
            to.ctl(&["user", "delete", user, "--yes"]);
        }
        let done = run.json();
        came += if run.status == 1 { count(&done, "restored") } else { 0 };
        if n == 0 {
            assert!(count(&done, "restored") + 3 >= 12, "one flip costs a message and what refers to it: {done}");
        }
    }
    total(&format!(
        "archives damaged and restored through the programs: {rounds}; {came} messages came back, all of them right"
    ));
    // No archive at all.
    std::fs::write(&damaged, "From joe Mon Nov 23 00:00:00 2026\n\nhello\n").unwrap();
    to.ctl(&["restore", "-f", text(&damaged), "--yes"]).expect(65);
    to.ctl(&["backup", "-f", text(&damaged), "/"]).expect(73);
}

fn digests_of(contents: &Value) -> Vec<String> {
    let messages = contents.as_array().unwrap().iter().flat_map(|mailbox| mailbox["all"].as_array().unwrap());
    messages.map(|message| message["digest"].as_str().unwrap().to_owned()).collect()
}

// Twins in one mailbox come back from a pipe too; a message that was brought back between two archives is in the second
#[test]
fn twins_and_what_was_brought_back_are_not_left_out() {
    let store = TestStore::new();
    let _one = store.start();
    store.ctl(&["user", "add", "ann"]).expect(0);
    let inbox = "user/ann/INBOX";
    for n in [0, 0, 1] {
        deliver(&store, &[inbox], &message(format!("m{n}"), 900));
    }
    store.ctl(&["message", "expunge", inbox, "3"]).expect(0);
    let to = TestStore::new();
    let _two = to.start();
    let done = summary(pipe(&store, &["/"], &to, &[]), 0);
    assert_eq!((count(&done, "restored"), count(&done, "unrestorable")), (2, 0), "{done}");
    let (base, next) = (store.beside("base.sda"), store.beside("next.sda"));
    backup(&store, &base, &["/"]);
    store.ctl(&["mailbox", "undelete", inbox, "--uid", "3"]).expect(0);
    assert_eq!(backup(&store, &next, &["--since-archive", text(&base), "/"])["messages"], 1);
    restore(&to, &base, &[], 0);
    restore(&to, &next, &[], 0);
    assert_eq!(contents(&to), contents(&store), "UIDs, too");
}

// A flipped bit in the head of the archive or in its footer costs nothing but what it stands in; one in a frame that names changed
// flags takes no message away
#[test]
fn a_flipped_bit_takes_nothing_away() {
    let (store, _one) = sample();
    let (base, next) = (store.beside("base.sda"), store.beside("next.sda"));
    backup(&store, &base, &["/"]);
    let whole = std::fs::read(&base).unwrap();
    for at in [10, whole.len() - 17] {
        let to = TestStore::new();
        let _two = to.start();
        let mut bytes = whole.clone();
        bytes[at] ^= 0x80;
        let damaged = to.beside("damaged.sda");
        std::fs::write(&damaged, bytes).unwrap();
        let status = if at == 10 { 1 } else { 0 };
        assert_eq!(count(&restore(&to, &damaged, &[], status), "restored"), 12, "byte {at}");
    }
    let folder = "user/bob/Work/Äpfel";
    store.ctl(&["message", "flags", folder, "1", "--add", "\\Flagged"]).expect(0);
    backup(&store, &next, &["--since-archive", text(&base), "/"]);
    let bytes = std::fs::read(&next).unwrap();
    let to = TestStore::new();
    let _two = to.start();
    restore(&to, &base, &[], 0);
    let there = to.json(&["message", "list", folder]).as_array().unwrap().len();
    let damaged = to.beside("damaged.sda");
    for at in (0..bytes.len()).step_by(bytes.len() / 12) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        std::fs::write(&damaged, bytes).unwrap();
        to.ctl(&["restore", "-f", text(&damaged), "--yes"]);
        assert_eq!(to.json(&["message", "list", folder]).as_array().unwrap().len(), there, "byte {at}");
    }
}

// I6: a mailbox that comes back under a name goes on behind every UID that the mailbox which had it last has given
#[test]
fn uids_of_a_name_are_never_given_again() {
    let (store, _daemon) = sample();
    let file = store.beside("all.sda");
    backup(&store, &file, &["/"]);
    let (folder, aside) = ("user/bob/Work/Äpfel", "user/bob/Aside");
    let next = |name: &str| store.json(&["mailbox", "show", name])["uidnext"].as_u64().unwrap();
    let uidvalidity = |name: &str| store.json(&["mailbox", "show", name])["uidvalidity"].as_u64().unwrap();
    let was = uidvalidity(folder);
    let mut given = next(folder);
    for round in 0..3 {
        deliver(&store, &[folder], &message(format!("later {round}"), 100));
        given = given.max(next(folder));
        let to = format!("{aside} {round}");
        match round {
            1 => store.ctl(&["mailbox", "delete", folder, "--yes"]).expect(0),
            _ => store.ctl(&["mailbox", "rename", folder, &to]).expect(0),
        };
        restore(&store, &file, &[folder], 0);
        assert!(uidvalidity(folder) != was || next(folder) >= given, "round {round}: {} of {given}", next(folder));
        store.ctl(&["checkpoint"]).expect(0);
        let checked = store.ctl(&["--json", "check", "--all"]).expect(0).json();
        assert_eq!(checked["findings"], json!([]), "round {round}");
    }
    assert_eq!(store.json(&["message", "list", folder]).as_array().unwrap().len(), 8);
}
