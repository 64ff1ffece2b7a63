//! What the store holds against people: `docs/security.md`, and those of its tests that have no other home.

use crate::harness::{TestStore, until};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Everything below a directory.
fn below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if std::fs::symlink_metadata(&path).unwrap().is_dir() {
            found.extend(below(&path));
        }
        found.push(path);
    }
    found
}

/// A store with mail in files, in the log, and a snapshot.
fn lived_in(store: &TestStore) -> crate::harness::Daemon {
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl_with(&["message", "deliver", "user/joe/INBOX"], Some(b"Subject: one\r\n\r\nzirkumflex\r\n")).expect(0);
    store.ctl(&["checkpoint"]).expect(0);
    store.ctl(&["snapshot", "take", "--verify"]).expect(0);
    store.ctl_with(&["message", "deliver", "user/joe/INBOX"], Some(b"Subject: two\r\n\r\nzirkumflex\r\n")).expect(0);
    daemon
}

// S11: nobody but the owner can read or write anything, whatever the umask; a directory in which others could exchange files is refused
#[test]
fn all_of_a_store_is_private_and_one_that_is_not_is_refused() {
    let store = TestStore::new();
    let daemon = lived_in(&store);
    for path in below(&store.data) {
        let stat = std::fs::symlink_metadata(&path).unwrap();
        let (mode, is_socket) = (stat.mode() & 0o777, stat.mode() & 0o170_000 == 0o140_000);
        // The sockets are for the groups that may come in; their directory and the kernel see to the rest.
        let most = if is_socket { 0o660 } else { 0o750 };
        assert_eq!(mode & !most, 0, "{}: {mode:o}", path.display());
        assert!(is_socket || mode & 0o020 == 0, "{}: {mode:o}", path.display());
    }
    assert_eq!(daemon.stop(), 0);
    for (dir, mode) in [("", 0o707), ("", 0o770), ("mboxlist", 0o720)] {
        let dir = store.data.join(dir);
        let before = std::fs::metadata(&dir).unwrap().permissions();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(mode)).unwrap();
        for verb in [&[][..], &["recover"], &["test"]] {
            let refused = store.storedd(verb).expect(77);
            assert!(
                refused.err.contains(&format!("mode {mode:04o}")) && refused.err.contains("chmod go-w"),
                "{refused:?}"
            );
        }
        std::fs::set_permissions(&dir, before).unwrap();
    }
    let _daemon = store.start();
}

// S16: the database of yesterday is whole, and of this store
#[test]
fn an_older_database_is_not_taken_for_the_newest() {
    for log_is_gone in [false, true] {
        let store = TestStore::new();
        let daemon = lived_in(&store);
        assert_eq!(daemon.stop(), 0);
        let database = store.data.join("mboxlist/mboxlist.redb");
        let old = std::fs::read(&database).unwrap();
        let daemon = store.start();
        (0..5).for_each(|n| drop(store.ctl(&["mailbox", "create", &format!("user/joe/{n}")]).expect(0)));
        store.ctl(&["checkpoint"]).expect(0);
        assert_eq!(daemon.stop(), 0);
        std::fs::write(&database, old).unwrap();
        if log_is_gone {
            for path in below(&store.data.join("mboxlist")) {
                if path.file_name().unwrap().to_string_lossy().starts_with("log.") {
                    std::fs::remove_file(path).unwrap();
                }
            }
        }
        let refused = store.storedd(&["recover", "--dry-run"]);
        assert_eq!(refused.status == 0, !log_is_gone, "{refused:?}");
        let _daemon = store.start();
        let report = store.json(&["recover", "--report"]);
        let mailboxes = store.json(&["mailbox", "list", "user/joe/*"]).as_array().unwrap().len();
        let is_said = report["lost"].is_object() || report["possible_loss"] == true;
        assert!(is_said == log_is_gone, "{report}");
        assert!(mailboxes == 6 || is_said, "{mailboxes} mailboxes: {report}");
    }
}

// S17: what people write to each other stands in no log
#[test]
fn no_line_of_the_log_shows_a_message() {
    let store = TestStore::new();
    let daemon = lived_in(&store);
    store.ctl(&["message", "show", "user/joe/INBOX", "1"]).expect(0);
    store.ctl(&["check", "--all", "--deep"]).expect(0);
    // One that is damaged is spoken of, too.
    let is_message = |path: &PathBuf| path.extension().is_some_and(|end| end == "msg");
    let file = below(&store.data.join("partition")).into_iter().find(is_message).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 4;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    store.ctl(&["message", "show", "user/joe/INBOX", "1", "--raw"]);
    store.ctl(&["check", "--all", "--deep"]);
    let log = daemon.log();
    assert!(log.contains("verb=\"message"), "it says who did what: {log}");
    assert!(!log.contains("zirkumfle") && !log.contains("Subject"), "{log}");
}

// S22: a pipe that nobody reads, a terminal that closes, a limit; and a stop under load is quick
#[test]
fn signals_that_end_others_end_no_daemon() {
    let store = TestStore::new();
    let daemon = lived_in(&store);
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.child.id())).unwrap();
    let mask = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    let kept = mask("SigIgn:") | mask("SigCgt:");
    for (signal, name) in [(13, "PIPE"), (25, "XFSZ"), (1, "HUP"), (2, "INT"), (15, "TERM")] {
        assert!(kept & (1 << (signal - 1)) != 0, "{name}: {status}");
    }
    for signal in [rustix::process::Signal::PIPE, rustix::process::Signal::XFSZ, rustix::process::Signal::HUP] {
        daemon.signal(signal);
    }
    until("it has reloaded", || daemon.log().contains("event=reload").then_some(()));
    store.ctl(&["user", "add", "ann"]).expect(0);
    // Under load; what the clients see of it is theirs to bear.
    let lines: String = (0..200_000).map(|n| format!("mailbox create user/ann/{n}\n")).collect();
    let file = store.beside("lines");
    std::fs::write(&file, lines).unwrap();
    let mut load = std::process::Command::new(env!("CARGO_BIN_EXE_storectl"));
    load.arg("--data-dir").arg(&store.data).args(["batch", "-"]).stdin(std::fs::File::open(&file).unwrap());
    let mut load = load.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    until("it works", || (store.json(&["status"])["mailboxes"].as_u64()? > 100).then_some(()));
    let begun = Instant::now();
    assert_eq!(daemon.stop(), 0);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    load.wait().unwrap();
    store.storedd(&["test"]).expect(0);
}

// S23
#[test]
fn dependencies_are_pinned_and_no_code_is_unsafe() {
    let read = |file: &str| std::fs::read_to_string(root().join(file)).unwrap();
    let workspace = read("Cargo.toml");
    assert!(workspace.contains("unsafe_code = \"forbid\""));
    for member in ["", "storedd/", "storectl/", "proto/", "verbs/"] {
        let manifest = read(&format!("{member}Cargo.toml"));
        assert!(manifest.contains("[lints]\nworkspace = true"), "{member}Cargo.toml does not forbid unsafe code");
    }
    for lock in ["Cargo.lock", "tests/fuzz/Cargo.lock"] {
        let registry = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
        let text = read(lock);
        let sources: Vec<&str> = text.lines().filter(|line| line.starts_with("source = ")).collect();
        assert!(sources.len() > 10 && sources.iter().all(|source| *source == registry), "{lock}: {sources:?}");
    }
    let ignored = read(".gitignore");
    assert!(!ignored.contains("Cargo.lock"));
    let ci = read(".ci/run");
    assert!(ci.contains("cargo deny check licenses bans sources"));
    assert!(ci.lines().filter(|line| line.starts_with("cargo test")).all(|line| line.contains("--locked")));
}

/// Which rules a line names that is a comment above a test.
fn rules(line: &str) -> impl Iterator<Item = u32> + '_ {
    let words = line.split(|c: char| !c.is_alphanumeric());
    words.filter_map(|word| word.strip_prefix('S')?.parse().ok().filter(|n| (1..=24).contains(n)))
}

// Each rule has tests that say so, and the page names exactly those.
#[test]
fn every_rule_has_its_tests() {
    let mut tests = std::collections::BTreeSet::new();
    for dir in ["storedd/src", "storectl/src", "proto/src", "verbs/src", "tests"] {
        for file in below(&root().join(dir)).into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs"))
        {
            let text = std::fs::read_to_string(&file).unwrap();
            let module = match file.file_stem().unwrap().to_str().unwrap() {
                "mod" => file.parent().unwrap().file_name().unwrap().to_str().unwrap(),
                stem => stem,
            };
            let (mut named, mut is_test) = (Vec::new(), false);
            for line in text.lines().map(str::trim_start) {
                if let Some(comment) = line.strip_prefix("// ") {
                    named.extend(rules(comment));
                } else if line.starts_with("#[") || line.starts_with("///") {
                    is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                } else {
                    let name =
                        line.trim_start_matches("async ").strip_prefix("fn ").and_then(|rest| rest.split('(').next());
                    if let (Some(name), true) = (name, is_test) {
                        tests.extend(named.iter().map(|rule| (*rule, format!("{module}::{name}"))));
                    }
                    (named, is_test) = (Vec::new(), false);
                }
            }
        }
    }
    let page = std::fs::read_to_string(root().join("docs/security.md")).unwrap();
    for rule in 1..=24 {
        let row = page.lines().find(|line| line.starts_with(&format!("| S{rule} |")));
        let row = row.unwrap_or_else(|| panic!("S{rule} stands in no row"));
        let of_page: std::collections::BTreeSet<&str> =
            row.split('`').skip(1).step_by(2).filter(|word| word.contains("::")).collect();
        let of_tests: std::collections::BTreeSet<&str> =
            tests.iter().filter(|(of, _)| *of == rule).map(|(_, test)| test.as_str()).collect();
        assert!(!of_tests.is_empty(), "S{rule} is named by no test");
        assert_eq!(of_page, of_tests, "S{rule}");
    }
}
