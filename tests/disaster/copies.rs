//! Complete copies that are damaged, broken off, or of a store with a past.

use super::*;

// row 146: one bad message in a copy kept the whole host from coming back, for ever
#[test]
fn messages_that_are_damaged_in_a_copy_are_left_out_and_come_back_from_an_archive() {
    let (store, daemon) = store();
    let archive = store.beside("mail.sda");
    store.ctl(&["backup", "-f", text(&archive)]).expect(0);
    let (copy, _) = complete(&store, "copy");
    let before = contents(&store);
    assert_eq!(daemon.stop(), 0);
    lose_everything(&store);
    let root = copy.join("partition");
    let (shared, rotten, gone) =
        (message_files(&root, "shared"), message_files(&root, "joe 2"), message_files(&root, "ann 3"));
    // Two names of one file in one partition, one of them a file of its own by now, as some programs copy them.
    assert_eq!(shared.len(), 3);
    let twins: Vec<&PathBuf> = shared.iter().filter(|path| path.starts_with(root.join("primary"))).collect();
    let bytes = std::fs::read(twins[0]).unwrap();
    let flip = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[20] ^= 1;
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let list = std::fs::read_to_string(copy.join("FILES")).unwrap();
    let first = twins.iter().find(|path| {
        let name = path.strip_prefix(&copy).unwrap().display().to_string();
        list.lines().any(|line| line.starts_with("file") && line.ends_with(&name))
    });
    flip(first.unwrap());
    flip(&rotten[0]);
    std::fs::remove_file(&gone[0]).unwrap();
    let bad = [first.unwrap(), &rotten[0], &gone[0]];
    let told = store.ctl(&["restore-db", "--dry-run", text(&copy)]).expect(1);
    assert!(bad.iter().all(|path| told.err.contains(text(path))), "{told:?}");
    assert!(!store.data.exists() && !store.beside("second").exists());
    let run = store.ctl(&["--json", "restore-db", "--yes", text(&copy)]).expect(1);
    let said = run.json();
    assert_eq!(said["left_out"].as_array().unwrap().len(), 3, "{said}");
    assert!(bad.iter().all(|path| run.err.contains(text(path))), "{run:?}");
    let daemon = store.start();
    // What is lost is named, and nothing else is.
    let checked = store.ctl(&["--json", "check", "--all", "--deep"]).expect(2).json();
    assert_eq!(checked["lost"], 2, "{checked}");
    assert_eq!(store.ctl(&["message", "show", "user/joe/INBOX", "1", "--raw"]).expect(0).out.as_bytes(), bytes);
    let healed = store.ctl(&["--json", "restore", "-f", text(&archive), "--yes", "--heal"]).expect(0).json();
    assert_eq!(healed["healed"].as_array().unwrap().len(), 2, "{healed}");
    is_clean(&store);
    assert_eq!(contents(&store), before);
    assert_eq!(daemon.stop(), 0);
}

// row 146: the copy of a store that had given history up once could not be put back: `not a path inside the store: ""`
#[test]
fn a_copy_of_a_store_that_went_back_once_is_put_back() {
    let (store, daemon) = store();
    store.ctl(&["snapshot", "take"]).expect(0);
    let lsn = store.json(&["status"])["applied_lsn"].as_u64().unwrap();
    deliver(&store, &["user/joe/INBOX"], &message("given up", 100));
    assert_eq!(daemon.stop(), 0);
    store.storedd(&["recover", "--until-lsn", &lsn.to_string(), "--yes"]).expect(0);
    let daemon = store.start();
    assert!(store.data.join("given-up").is_file());
    // What came behind the point lies in `Recovered` when that is done.
    until("the adoption is done", || (!store.data.join("adoption-due").exists()).then_some(()));
    let before = contents(&store);
    let (copy, _) = complete(&store, "copy");
    assert_eq!(daemon.stop(), 0);
    lose_everything(&store);
    store.ctl(&["restore-db", "--dry-run", text(&copy)]).expect(0);
    store.ctl(&["restore-db", "--yes", text(&copy)]).expect(0);
    let daemon = store.start();
    assert_eq!(contents(&store), before);
    is_clean(&store);
    assert_eq!(daemon.stop(), 0);
}

// row 85: `status` forgot with each start that there was a backup, and never knew of a complete copy
#[test]
fn status_knows_of_the_last_backup_behind_a_start() {
    let store = TestStore::new();
    let age = || store.json(&["status"])["backup_age"].as_f64();
    let daemon = store.start();
    assert_eq!(age(), None);
    store.ctl(&["backup-db", text(&store.beside("media"))]).expect(0);
    assert!(age().is_some());
    assert_eq!(daemon.stop(), 0);
    let daemon = store.start();
    let before = age().expect("known behind a start");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    complete(&store, "copy");
    assert!(age().unwrap() < before + 1.0, "that of the complete copy");
    daemon.kill();
    let daemon = store.start();
    assert!(age().is_some());
    assert_eq!(daemon.stop(), 0);
}

// row 146: a start behind a restore that had failed made a new store in its data directory, and the restore was refused from then on
#[test]
fn a_start_behind_a_restore_that_failed_makes_no_store() {
    let (store, daemon) = store();
    let before = contents(&store);
    let (copy, _) = complete(&store, "copy");
    assert_eq!(daemon.stop(), 0);
    lose_everything(&store);
    // Where the database is to be staged lies something that no restore removes.
    std::fs::create_dir_all(store.data.join("mboxlist.restore/in the way")).unwrap();
    store.ctl(&["restore-db", "--yes", text(&copy)]).expect(74);
    let mut refused = store.spawn(&[]);
    assert_eq!(refused.wait(), 75);
    let (said, again) = (refused.log(), format!("restore-db --yes {}", text(&copy)));
    assert!(said.contains("was broken off") && said.contains(&again), "{said}");
    assert!(!store.data.join("STORE").exists() && !store.data.join("CONTROL").exists());
    let offline = store.ctl(&["recover"]).expect(75);
    assert!(offline.err.contains(&again), "{offline:?}");
    std::fs::remove_dir_all(store.data.join("mboxlist.restore")).unwrap();
    store.ctl(&["restore-db", "--yes", text(&copy)]).expect(0);
    assert!(!store.data.join("RESTORING").exists());
    let daemon = store.start();
    assert_eq!(contents(&store), before);
    assert_eq!(daemon.stop(), 0);
}

/// The files of messages of a partition whose bytes begin so, by path.
fn message_files(root: &Path, has: &str) -> Vec<PathBuf> {
    let (mut found, mut dirs) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => dirs.push(path),
                false
                    if path.extension().is_some_and(|end| end == "msg")
                        && String::from_utf8_lossy(&std::fs::read(&path).unwrap()).contains(has) =>
                {
                    found.push(path);
                }
                false => {}
            }
        }
    }
    found.sort();
    found
}

// row 146: a copy of a store in which a message was damaged and another was gone said that all was well, with 0
#[test]
fn a_copy_of_a_damaged_store_names_what_is_damaged_and_ends_with_1() {
    let (store, daemon) = store();
    store.ctl(&["checkpoint"]).expect(0);
    let root = store.data.join("partition/primary");
    let (rotten, lost) = (message_files(&root, "joe 1"), message_files(&root, "joe 4"));
    let (rotten, lost) = (&rotten[0], &lost[0]);
    let mut bytes = std::fs::read(rotten).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(rotten, &bytes).unwrap();
    std::fs::remove_file(lost).unwrap();
    let copy = store.beside("copy");
    let said = store.ctl(&["backup", "--complete", text(&copy), "--json"]).expect(1);
    let said: Value = serde_json::from_str(&said.out).unwrap();
    let named: Vec<&str> = said["skipped"].as_array().unwrap().iter().map(|f| f["object"].as_str().unwrap()).collect();
    assert_eq!(named.len(), 2, "{said}");
    let list = std::fs::read_to_string(copy.join("UNREADABLE")).unwrap();
    for path in [rotten, lost] {
        assert!(named.contains(&text(path)) && list.contains(text(path)), "{said} {list}");
    }
    assert!(std::fs::read_to_string(copy.join("FILES")).unwrap().contains(" UNREADABLE\n"));
    // Who puts it back is told, too.
    let told = store.ctl(&["restore-db", "--dry-run", text(&copy)]).expect(1);
    assert!(told.err.contains(text(rotten)) && told.err.contains(text(lost)), "{told:?}");
    assert_eq!(daemon.stop(), 0);
}

// row 146: nothing is written into a directory that holds something, nothing incomplete or damaged is put back, and what was broken off goes on
#[test]
fn an_incomplete_or_damaged_copy_is_refused_and_a_restore_that_was_broken_off_goes_on() {
    let (store, daemon) = store();
    let full = store.beside("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("mine"), "mine").unwrap();
    let refused = store.ctl(&["backup", "--complete", text(&full)]).expect(73);
    assert!(refused.err.contains("not empty"), "{}", refused.err);
    assert_eq!(std::fs::read_dir(&full).unwrap().count(), 1);
    let inside = store.data.join("partition/primary/copy");
    store.ctl(&["backup", "--complete", text(&inside)]).expect(65);
    let (copy, _) = complete(&store, "copy");
    let before = contents(&store);
    store.ctl(&["backup", "--complete", text(&copy)]).expect(73);
    assert_eq!(daemon.stop(), 0);
    // A partition that is there stays; so does what another has put where one is to lie.
    let kept = store.ctl(&["restore-db", "--dry-run", text(&copy)]).expect(0).out;
    assert!(kept.contains("leave partition second as it is"), "{kept}");
    lose_everything(&store);
    std::fs::create_dir(store.beside("second")).unwrap();
    std::fs::write(store.beside("second").join("mine"), "mine").unwrap();
    store.ctl(&["restore-db", "--yes", text(&copy)]).expect(73);
    std::fs::remove_dir_all(store.beside("second")).unwrap();
    // A byte of an index: it is named, and nothing is there.
    let list = std::fs::read_to_string(copy.join("FILES")).unwrap();
    let lines: Vec<&str> = list.lines().filter(|line| line.starts_with("file") && line.ends_with(".idx")).collect();
    let victim = copy.join(lines.last().unwrap().split(' ').nth(3).unwrap());
    let bytes = std::fs::read(&victim).unwrap();
    let mut bad = bytes.clone();
    bad[17] ^= 1;
    std::fs::write(&victim, &bad).unwrap();
    for args in [["restore-db", "--dry-run", text(&copy)], ["restore-db", "--yes", text(&copy)]] {
        let refused = store.ctl(&args);
        assert!(refused.status > 1 && refused.err.contains(text(&victim)), "{refused:?}");
        assert!(!store.data.exists() && !store.beside("second").exists());
    }
    // Broken off in the middle.
    let begun = [store.data.join("partition/primary"), store.beside("second")];
    std::fs::write(&victim, &bytes).unwrap();
    let mut after = 2_000;
    while !begun.iter().any(|root| root.join(".restoring").is_file() && !root.join("PARTITION").exists()) {
        lose_what_is_there(&store);
        cut_off(&store, &["restore-db", "--yes", text(&copy)], after);
        after += 1_000;
        assert!(after < 2_000_000, "it was never cut off in the middle");
    }
    // The same command goes on.
    std::fs::write(copy.join("INCOMPLETE"), "").unwrap();
    let refused = store.ctl(&["restore-db", "--yes", text(&copy)]).expect(65);
    assert!(refused.err.contains("incomplete"), "{}", refused.err);
    std::fs::remove_file(copy.join("INCOMPLETE")).unwrap();
    store.ctl(&["restore-db", "--yes", text(&copy)]).expect(0);
    assert!(begun.iter().all(|root| !root.join(".restoring").exists() && root.join("PARTITION").is_file()));
    let daemon = store.start();
    assert_eq!(contents(&store), before);
    is_clean(&store);
    assert_eq!(daemon.stop(), 0);
}

/// Runs a command and kills it after a while; true if it had not ended by itself.
fn cut_off(store: &TestStore, args: &[&str], micros: u64) -> bool {
    let mut child = store.begin(args);
    std::thread::sleep(std::time::Duration::from_micros(micros));
    let ended = child.try_wait().unwrap().is_some();
    drop(child.kill());
    child.wait().unwrap();
    !ended
}

// SIGKILL of the daemon while it copies, and of the restore while it puts back: never a copy that is not whole and is taken for one, and the same command
// goes on
#[test]
fn killed_at_any_moment_a_copy_is_refused_or_whole_and_a_restore_goes_on() {
    let rounds: u64 = std::env::var("STOREDD_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let (store, mut daemon) = store();
    let before = contents(&store);
    let (mut refused, mut whole, mut cut) = (0, 0, 0);
    for round in 0..rounds {
        let copy = store.beside(&format!("copy{round}"));
        let mut client = store.begin(&["backup", "--complete", text(&copy)]);
        std::thread::sleep(std::time::Duration::from_micros(150_000 * round / rounds));
        daemon.kill();
        client.wait().unwrap();
        if copy.join("COMPLETE").exists() && !copy.join("INCOMPLETE").exists() {
            whole += 1;
        } else {
            let run = store.ctl(&["restore-db", "--yes", text(&copy)]);
            assert!(matches!(run.status, 64..=66), "{run:?}");
            refused += 1;
        }
        daemon = store.start();
        is_clean(&store);
    }
    let (copy, _) = complete(&store, "copy");
    daemon.kill();
    for round in 0..rounds {
        lose_everything(&store);
        if round % 2 == 0 {
            // Killed while it was saying whose files are to come.
            let root = store.data.join("partition/primary");
            std::fs::create_dir_all(&root).unwrap();
            std::fs::write(root.join(".restoring.new"), "half a li").unwrap();
        }
        let args = ["restore-db", "--yes", text(&copy)];
        let mut after = 10_000 + 10_000 * round / rounds;
        while cut_off(&store, &args, after) {
            (after, cut) = (after + after / 2, cut + 1);
            assert!(after < 60_000_000);
        }
        let done: Run = store.ctl(&args);
        // What was finished is a store like any other: its database is put aside for the same one.
        assert_eq!(done.status, 0, "{done:?}");
        let daemon = store.start();
        assert_eq!(contents(&store), before, "round {round}");
        is_clean(&store);
        assert_eq!(daemon.stop(), 0);
    }
    total(&format!(
        "complete copies: the daemon killed {rounds} times ({refused} incomplete and refused, {whole} whole), restores cut off {cut} times in {rounds} rounds and gone on with"
    ));
}
