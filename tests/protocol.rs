//! The client in docs/protocol.md is a whole program: it is run as it stands there, against a real daemon.

use crate::harness::TestStore;
use std::path::Path;
use std::process::{Command, Output};

const PAGE: &str = include_str!("../docs/protocol.md");
const MAILBOX: &str = "user/joe@example.org/Lists";

/// The only block of Python on the page.
fn example() -> &'static str {
    let (_, rest) = PAGE.split_once("```python\n").unwrap();
    rest.split_once("```").unwrap().0
}

#[test]
fn the_python_client_works_as_printed() {
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("skipped: python3 is not installed");
        return;
    }
    let store = TestStore::new();
    let daemon = store.start();
    let script = store.beside("client.py");
    std::fs::write(&script, example()).unwrap();
    let run = || -> Output {
        Command::new("python3").args([script.as_path(), &daemon.socket, Path::new(MAILBOX)]).output().unwrap()
    };

    let refused = run();
    assert!(!refused.status.success(), "the user is not there yet: {refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no such user"), "{refused:?}");

    store.json(&["user", "add", "joe@example.org"]);
    let done = run();
    assert!(done.status.success(), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stdout).contains(" is ready\ndone, LSN "), "{done:?}");
    assert_eq!(store.json(&["mailbox", "show", MAILBOX])["name"], MAILBOX);
}
