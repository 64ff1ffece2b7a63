//! Stores of an older version, through the built programs: refused, upgraded, made ready for the version before, killed on the way.

#[path = "upgrade/fixture.rs"]
mod fixture;

use crate::harness::{Run, TestStore, run, typed};
use fixture::{Fixture, KILLED, KILLED_2, STOPPED, STOPPED_2};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A store of an older version in the place of a test's store.
fn store_of(fixture: Fixture) -> TestStore {
    let store = TestStore::new();
    fixture.unpack(&store.data);
    store
}

/// What `make.sh` had the old programs list, as this program lists it.
fn listed(store: &TestStore) -> Value {
    let mut mailboxes = store.json(&["mailbox", "list"]);
    for mailbox in mailboxes.as_array_mut().unwrap() {
        let kept = ["name", "id", "partition", "uidvalidity", "uidnext", "messages", "acl"];
        mailbox.as_object_mut().unwrap().retain(|key, _| kept.contains(&key.as_str()));
    }
    let mut quotas = store.json(&["quota", "list"]);
    for quota in quotas.as_array_mut().unwrap() {
        quota.as_object_mut().unwrap().retain(|key, _| ["root", "storage", "messages"].contains(&key.as_str()));
    }
    json!({
        "mailboxes": mailboxes,
        "quotas": quotas,
        "subscriptions": store.json(&["subscriptions", "zoe"]),
        "users": store.json(&["user", "list"]),
    })
}

fn expected(fixture: Fixture) -> Value {
    serde_json::from_str(fixture.listed).unwrap()
}

fn database(store: &TestStore) -> Vec<u8> {
    std::fs::read(store.data.join("mboxlist/mboxlist.redb")).unwrap()
}

/// Starts the daemon, which must end by itself with this status; what it said.
pub fn does_not_start(store: &TestStore, status: i32) -> String {
    let mut daemon = store.spawn(&[]);
    assert_eq!(daemon.wait(), status, "{}", daemon.log());
    daemon.log()
}

/// A start of the upgraded store, and everything it shows.
fn shows(store: &TestStore, fixture: Fixture) {
    let daemon = store.start();
    assert_eq!(listed(store), expected(fixture));
    assert_eq!(store.json(&["recover", "--report"])["lost"], Value::Null);
    // Numbers go on where they were: no mailbox gets one that another has.
    let created = store.json(&["mailbox", "create", "shared/after"]);
    let highest = |key: &str| {
        let all = expected(fixture)["mailboxes"].as_array().unwrap().clone();
        all.iter().map(|m| m[key].as_u64().unwrap()).max().unwrap()
    };
    assert!(created["id"].as_u64().unwrap() > highest("id"), "{created}");
    assert!(created["uidvalidity"].as_u64().unwrap() > highest("uidvalidity"), "{created}");
    store.ctl(&["mailbox", "delete", "shared/after", "--yes"]).expect(0);
    assert_eq!(daemon.stop(), 0);
    store.storedd(&["test"]).expect(0);
}

/// Format version of a log file.
fn log_version(store: &TestStore, file: &str) -> u32 {
    let bytes = std::fs::read(store.data.join("mboxlist").join(file)).unwrap();
    u32::from_le_bytes(bytes[8..12].try_into().unwrap())
}

fn line_of<'r>(run: &'r Run, part: &str) -> &'r str {
    run.out.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("no line with {part}: {run:?}"))
}

// row 53, row 150, row 153, B8: a start says what to do and changes nothing; one command does it; nothing is lost.
#[test]
fn a_store_of_the_version_before_is_upgraded_by_one_command() {
    for fixture in [STOPPED, KILLED, STOPPED_2, KILLED_2] {
        let store = store_of(fixture);
        let before = store.tree();
        let said = does_not_start(&store, 78);
        let found = format!("schema version is {}", fixture.schema);
        assert!(said.contains(&format!("mboxlist.redb: {found}, this program writes 3")), "{said}");
        assert!(said.contains("upgrade"), "{said}");
        // So whoever puts the program in place can know it before.
        let checked = store.storedd(&["--check-config", "--with-store"]).expect(78);
        store.storedd(&["--check-config"]).expect(0);
        assert!(checked.err.contains(&found) && checked.err.contains(" upgrade"), "{checked:?}");
        assert!(store.tree() == before, "a refused start changes nothing");

        let planned = store.ctl(&["upgrade", "--dry-run"]).expect(0);
        assert!(line_of(&planned, "would do: copy").contains("schema 3"), "{planned:?}");
        assert!(store.tree() == before, "a dry run changes nothing");

        let done = store.ctl(&["upgrade"]).expect(0);
        for step in ["recover", "snapshot", "copy", "validate", "put in place"] {
            assert!(done.out.lines().any(|line| line == format!("{step} ... done")), "{step}: {done:?}");
        }
        let way_back = line_of(&done, "kept as it was").rsplit(' ').next().unwrap().to_owned();
        shows(&store, fixture);
        let again = store.ctl(&["upgrade"]).expect(0);
        line_of(&again, "already");

        // row 88, row 95: the snapshot from before it can be told from others.
        let daemon = store.start();
        let snapshots = store.json(&["snapshot", "list"]);
        let of =
            |s: &Value| s["id"] == way_back.as_str() && s["schema_version"] == fixture.schema && s["verified"] == true;
        assert!(snapshots.as_array().unwrap().iter().any(of), "{snapshots}");
        drop(daemon);
    }
}

// row 147, row 148, row 149: one line each, twice is harmless, and the -R-like form recovers nothing.
#[test]
fn a_store_is_prepared_for_an_upgrade() {
    let store = store_of(KILLED);
    std::fs::write(store.data.join("state"), "left by a daemon that was killed\n").unwrap();
    let unfinished =
        ["mboxlist.redb.converted", "mboxlist.redb.new"].map(|file| store.data.join("mboxlist").join(file));
    unfinished.iter().for_each(|file| std::fs::write(file, "half a copy").unwrap());
    let (log, before) = (store.data.join("mboxlist/log.0000000001"), database(&store));
    let logged = std::fs::read(&log).unwrap();
    let removed = store.ctl(&["prepare-upgrade", "-R"]).expect(0);
    assert!(removed.err.contains("warning: nothing is recovered"), "{removed:?}");
    assert!(!store.data.join("state").exists() && unfinished.iter().all(|file| !file.exists()));
    assert!(database(&store) == before && std::fs::read(&log).unwrap() == logged);

    let prepared = store.storedd(&["prepare-upgrade"]).expect(0);
    assert!(prepared.out.lines().count() >= 3, "{prepared:?}");
    assert!(prepared.out.lines().all(|line| line.ends_with(" ... done")), "{prepared:?}");
    assert!(database(&store) != before, "what the log holds is in the database now");
    let again = store.json(&["prepare-upgrade"]);
    assert_eq!((&again["schema_version"], &again["report"]["replayed"]), (&json!(1), &json!(0)), "{again}");
    does_not_start(&store, 78);
    store.ctl(&["upgrade"]).expect(0);
    shows(&store, KILLED);

    // It says why it fails, and a start and a stop mend it.
    let daemon = store.start();
    let refused = store.ctl(&["prepare-upgrade"]).expect(75);
    assert!(refused.err.contains("in use by process"), "{refused:?}");
    assert_eq!(daemon.stop(), 0);
    store.ctl(&["prepare-upgrade"]).expect(0);
}

// row 157: what a stopped and prepared store is, is a backup of it; the copy is upgraded like the original.
#[test]
fn a_copy_of_a_prepared_store_restores() {
    let store = store_of(STOPPED);
    let copy = TestStore::new();
    std::fs::create_dir_all(copy.data.join("mboxlist")).unwrap();
    for file in ["STORE", "CONTROL", "mboxlist/mboxlist.redb", "mboxlist/log.0000000001"] {
        std::fs::copy(store.data.join(file), copy.data.join(file)).unwrap();
    }
    copy.ctl(&["upgrade"]).expect(0);
    shows(&copy, STOPPED);
}

// B8, row 158: the version before gets a store that it can read; taken back until somebody has opened it.
#[test]
fn a_downgrade_is_enabled_and_taken_back() {
    let store = store_of(STOPPED);
    store.ctl(&["upgrade"]).expect(0);
    shows(&store, STOPPED);
    let before = store.tree();
    let planned = store.ctl(&["downgrade", "validate"]).expect(0);
    line_of(&planned, "would do: put in place");
    store.ctl(&["downgrade", "enable"]).expect(64);
    assert!(store.tree() == before);
    assert_eq!(store.json(&["downgrade", "cancel"])["changed"], false);
    assert!(store.tree() == before);

    let enabled = store.json(&["downgrade", "enable", "--yes"]);
    assert_eq!((&enabled["from"], &enabled["schema_version"]), (&json!(3), &json!(2)), "{enabled}");
    // The log begins anew: one file, and what there was is kept.
    let logs: Vec<String> = std::fs::read_dir(store.data.join("mboxlist"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("log."))
        .collect();
    assert_eq!(logs.len(), 1, "{logs:?}");
    assert_eq!(log_version(&store, &logs[0]), 2);
    assert!(store.data.join("mboxlist/quarantine").read_dir().unwrap().count() >= 1);
    let said = does_not_start(&store, 78);
    assert!(said.contains("downgrade cancel"), "{said}");
    // A second time there is nothing to do.
    assert_eq!(store.json(&["downgrade", "enable", "--yes"])["changed"], false);

    store.ctl(&["downgrade", "cancel"]).expect(1);
    let upgraded = store.json(&["upgrade"]);
    assert_eq!(upgraded["schema_version"], 3);
    store.json(&["downgrade", "enable", "--yes"]);
    let back = store.json(&["downgrade", "cancel"]);
    assert_eq!((&back["changed"], &back["schema_version"], &back["snapshot"]), (&json!(true), &json!(3), &Value::Null));
    shows(&store, STOPPED);
}

/// Runs `storedd` with these words and kills it after a while; true if it was still at it.
fn killed_after(store: &TestStore, words: &[&str], after: Duration) -> bool {
    let mut child = Command::new(env!("CARGO_BIN_EXE_storedd"))
        .arg("--data-dir")
        .arg(&store.data)
        .args(words)
        .env_remove("STOREDD_CONFIG")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(after);
    let killed = child.try_wait().unwrap().is_none();
    let _ = child.kill();
    child.wait().unwrap();
    killed
}

// row 153, B8: SIGKILL at any moment, again and again, and the old or the new one is whole.
#[test]
fn killed_on_the_way_the_old_or_the_new_one_is_whole() {
    let store = store_of(KILLED);
    let mut killed = 0;
    for round in 0..30u64 {
        let words: &[&str] = if round % 2 == 0 { &["upgrade"] } else { &["downgrade", "enable", "--yes"] };
        killed += u32::from(killed_after(&store, words, Duration::from_millis(3 + round * 2)));
        let tested = store.storedd(&["test", "--json"]);
        assert_eq!(tested.status, 0, "round {round}: {tested:?}");
        let report = &tested.json()["report"];
        assert_eq!((&report["lost"], &report["base"]), (&Value::Null, &json!("live")), "round {round}");
    }
    assert!(killed >= 5, "{killed} of 30 rounds were killed");
    store.ctl(&["upgrade"]).expect(0);
    shows(&store, KILLED);
}

// row 95, B2: a snapshot from before the upgrade takes the place of a database that is lost behind it, and the log of both
// versions leads on.
#[test]
fn a_snapshot_from_before_the_upgrade_still_loses_nothing() {
    let store = store_of(STOPPED);
    store.ctl(&["upgrade"]).expect(0);
    let daemon = store.start();
    store.ctl(&["mailbox", "create", "shared/later"]).expect(0);
    let shown = listed(&store);
    daemon.kill();
    std::fs::remove_file(store.data.join("mboxlist/mboxlist.redb")).unwrap();
    let daemon = store.start();
    let report = store.json(&["recover", "--report"]);
    assert_eq!((&report["decision"], &report["lost"]), (&json!("rollback"), &Value::Null), "{report}");
    assert_eq!(listed(&store), shown);
    assert_eq!(daemon.stop(), 0);
    store.storedd(&["test"]).expect(0);
}

// row 153: with `upgrade = "automatic"` the daemon does it by itself; a store that was made ready for the version before is left alone.
#[test]
fn a_daemon_upgrades_by_itself_where_it_is_told_to() {
    let store = store_of(KILLED);
    let config = store.beside("storedd.toml");
    std::fs::write(&config, "[log]\nsegment_size = \"1MiB\"\n[recovery]\nupgrade = \"automatic\"\n").unwrap();
    let args = ["--config", config.to_str().unwrap()];
    store.storedd(&["--config", config.to_str().unwrap(), "--check-config", "--with-store"]).expect(0);
    let daemon = store.start_with(&args);
    assert_eq!(listed(&store), expected(KILLED));
    assert!(daemon.log().contains("event=schema_changed from=1 to=3"), "{}", daemon.log());
    assert_eq!(daemon.stop(), 0);
    store.ctl(&["downgrade", "enable", "--yes"]).expect(0);
    let mut daemon = store.spawn(&args);
    assert_eq!(daemon.wait(), 78, "{}", daemon.log());
    store.ctl(&["downgrade", "cancel"]).expect(0);
    drop(store.start_with(&args));
}

/// Runs the package's script as dpkg does behind an upgrade, on the store `config` speaks of, with a service manager that notes what it is
/// told; what the script said, and what it told.
fn package_is_upgraded(store: &TestStore, config: &Path) -> (Run, String) {
    let script = include_str!("../packaging/debian/postinst");
    let bin = store.beside("bin");
    std::fs::create_dir_all(&bin).unwrap();
    for tool in ["systemctl", "deb-systemd-invoke"] {
        let path = bin.join(tool);
        std::fs::write(&path, format!("#!/bin/sh\necho {tool} \"$@\" >>{}/told\n", bin.display())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let ours = Path::new(env!("CARGO_BIN_EXE_storedd")).parent().unwrap();
    let script = script
        .replace("/etc/storedd/storedd.toml", config.to_str().unwrap())
        .replace("/run/systemd/system", bin.to_str().unwrap());
    let mut sh = Command::new("sh");
    sh.args(["-c", &script, "postinst", "configure", "0.1.0-1"]);
    let path = format!("{}:{}:{}", bin.display(), ours.display(), std::env::var("PATH").unwrap());
    let ran = run(sh.env("PATH", path), None).expect(0);
    let told = std::fs::read_to_string(bin.join("told")).unwrap();
    std::fs::remove_file(bin.join("told")).unwrap();
    (ran, told)
}

// row 147, row 153, B8: a package that comes in at night upgrades no store and stops no daemon that could not come back; it says what a
// person types, and that works. Afterwards, and where the daemon may do it, the next package restarts it.
#[test]
fn a_package_restarts_nothing_that_would_not_come_back() {
    let restart = "deb-systemd-invoke restart storedd.service";
    let store = store_of(STOPPED);
    let config = store.beside("storedd.toml");
    let of = |more: &str| {
        let text = format!("[store]\ndata_dir = \"{}\"\n[log]\nsegment_size = \"1MiB\"\n{more}", store.data.display());
        std::fs::write(&config, text).unwrap();
    };
    of("");
    let before = store.tree();
    let (said, told) = package_is_upgraded(&store, &config);
    assert!(!told.contains(restart) && said.err.contains("runs on with the old program"), "{told} {said:?}");
    assert!(store.tree() == before);
    let line = said.err.lines().find_map(|line| line.trim().strip_prefix("runuser -u storedd -- ")).unwrap();
    of("[recovery]\nupgrade = \"automatic\"\n");
    assert!(package_is_upgraded(&store, &config).1.contains(restart));
    of("nonsense = 1\n");
    let (said, told) = package_is_upgraded(&store, &config);
    assert!(!told.contains(restart) && said.err.contains("When the configuration is good"), "{told} {said:?}");
    of("");
    typed(line).expect(0);
    assert!(package_is_upgraded(&store, &config).1.contains(restart));
    shows(&store, STOPPED);
}

// row 88, row 95: rotation leaves the way back; it goes when somebody says so.
#[test]
fn the_snapshot_from_before_the_upgrade_is_not_rotated_away() {
    let store = store_of(STOPPED);
    let done = store.json(&["upgrade"]);
    let way_back = done["snapshot"].as_str().unwrap();
    let daemon = store.start();
    for n in 0..6 {
        store.ctl(&["mailbox", "create", &format!("shared/n{n}")]).expect(0);
        store.json(&["snapshot", "take", "--verify"]);
    }
    store.ctl(&["snapshot", "prune", "--yes"]).expect(0);
    let left = store.json(&["snapshot", "list"]);
    let left = left.as_array().unwrap();
    assert_eq!(left.iter().filter(|s| s["schema_version"] == 3).count(), 3, "{left:?}");
    assert!(left.iter().any(|s| s["id"] == way_back && s["schema_version"] == 1), "{left:?}");
    store.ctl(&["snapshot", "delete", way_back, "--yes"]).expect(0);
    drop(daemon);
}

// What the table of ids is for: whoever knows a mailbox by its number, as its directory has it, finds its name; also of an upgraded
// store, and through renames, deletions and a crash.
#[test]
fn a_mailbox_is_found_by_its_number() {
    let store = store_of(KILLED);
    store.ctl(&["upgrade"]).expect(0);
    let daemon = store.start();
    let by_id = |id: &Value| store.json(&["mailbox", "show", "--id", &id.to_string()]);
    for mailbox in expected(KILLED)["mailboxes"].as_array().unwrap() {
        assert_eq!(by_id(&mailbox["id"])["name"], mailbox["name"]);
    }
    // user/ann/Older, which was user/ann/Old once: deleted before the kill.
    let gone = store.ctl(&["mailbox", "show", "--id", "9"]).expect(68);
    assert!(gone.err.contains("user/ann/Older: deleted mailbox 9"), "{gone:?}");
    store.ctl(&["mailbox", "show", "--id", "999999"]).expect(68);
    store.ctl(&["mailbox", "show", "--id", "8", "user/ann/Work"]).expect(64);
    store.ctl(&["mailbox", "show"]).expect(64);

    let created = store.json(&["mailbox", "create", "shared/first"]);
    store.ctl(&["mailbox", "rename", "shared/first", "shared/second"]).expect(0);
    assert_eq!(by_id(&created["id"])["name"], "shared/second");
    daemon.kill();
    let _daemon = store.start();
    assert_eq!(by_id(&created["id"])["name"], "shared/second", "a replay derives what no record holds");
    assert_eq!(store.json(&["acl", "get", &format!("id:{}", created["id"])])["name"], "shared/second");
}

// row 151, row 152: after the upgrade a new log is begun; those of the version before are skipped by name and left alone, and go by
// themselves when neither the database nor a snapshot needs them.
#[test]
fn logs_of_the_version_before_are_left_alone_until_nothing_needs_them() {
    let store = store_of(STOPPED);
    store.ctl(&["upgrade"]).expect(0);
    let old = store.data.join("mboxlist/log.0000000001");
    let before = std::fs::read(&old).unwrap();
    assert_eq!(log_version(&store, "log.0000000001"), 1);
    let daemon = store.start();
    let said = "skipping log file log.0000000001: historic log version 1";
    assert!(daemon.log().contains(said), "{}", daemon.log());
    store.ctl(&["mailbox", "create", "shared/new"]).expect(0);
    assert_eq!(log_version(&store, "log.0000000002"), 3);
    assert!(std::fs::read(&old).unwrap() == before);
    store.ctl(&["checkpoint"]).expect(0);
    assert!(std::fs::read(&old).unwrap() == before, "the way back needs it");

    let snapshots = store.json(&["snapshot", "list"]);
    for snapshot in snapshots.as_array().unwrap().iter().filter(|s| s["schema_version"] == 1) {
        store.ctl(&["snapshot", "delete", snapshot["id"].as_str().unwrap(), "--yes"]).expect(0);
    }
    store.json(&["snapshot", "take", "--verify"]);
    store.ctl(&["checkpoint"]).expect(0);
    assert!(!old.exists(), "{}", store.json(&["log", "list", "--all"]));
    drop(daemon);
}
