//! What somebody at a terminal gets: completions with the names of the store, "did you mean", colours, `status --watch`.

use crate::harness::{PATIENCE, Run, TestStore, run};
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Instant;

const STORECTL: &str = env!("CARGO_BIN_EXE_storectl");

/// What bash would offer for a line with the cursor at its end.
fn offered(store: &TestStore, line: &str, words: &[&str]) -> Vec<String> {
    offered_instead(store, line, words, words.last().unwrap())
}

/// As bash splits it itself, and the part that it puts the chosen one in the place of.
fn offered_instead(store: &TestStore, line: &str, words: &[&str], part: &str) -> Vec<String> {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let script = format!(
        "source <(storectl completions bash); compopt() {{ :; }}; COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=({}); COMP_CWORD={}; \
         _storectl storectl '{part}' prev; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        quoted.join(" "),
        words.len() - 1
    );
    let bin = std::path::Path::new(STORECTL).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", &script]).env("PATH", path).current_dir(store.data.parent().unwrap());
    run(&mut bash, None).expect(0).out.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// `storectl` on a terminal of its own; what that shows.
fn on_a_terminal(store: &TestStore, args: &[&str], env: &[(&str, &str)]) -> Run {
    let mut words = vec![STORECTL.to_owned(), "--data-dir".to_owned(), store.data.display().to_string()];
    words.extend(args.iter().map(|arg| (*arg).to_owned()));
    let line = shlex::try_join(words.iter().map(String::as_str)).unwrap();
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").env_remove("NO_COLOR").envs(env.iter().copied());
    run(&mut script, None)
}

// row B16
#[test]
fn completions_know_the_names_of_the_store() {
    let store = TestStore::new();
    let daemon = store.start();
    for user in ["joe@example.org", "jane", "bob"] {
        store.ctl(&["user", "add", user]).expect(0);
    }
    for name in ["user/jane/Zwei Wörter", "user/jane/`id`!", "user/jane/{a,b}[c]#~"] {
        store.ctl(&["mailbox", "create", name]).expect(0);
    }
    let line = |rest: &str| format!("storectl --data-dir store {rest}");
    let words = |rest: &[&'static str]| [&["storectl", "--data-dir", "store"], rest].concat();

    assert_eq!(offered(&store, &line("mailb"), &words(&["mailb"])), ["mailbox"]);
    assert_eq!(offered(&store, &line("user show j"), &words(&["user", "show", "j"])), ["jane", "joe@example.org"]);
    let split = words(&["user", "show", "joe", "@", "exa"]);
    assert_eq!(offered_instead(&store, &line("user show joe@exa"), &split, "@exa"), ["@example.org"]);
    assert_eq!(offered(&store, &line("mailbox show u"), &words(&["mailbox", "show", "u"])), ["user/"]);
    let mailboxes = words(&["mailbox", "show", "user/jane/"]);
    let found = offered(&store, &line("mailbox show user/jane/"), &mailboxes);
    // What a shell would act on is put on the line quoted.
    let quoted = [r"user/jane/Zwei\ Wörter", r"user/jane/\`id\`\!", r"user/jane/\{a\,b\}\[c\]#~"];
    assert_eq!(found, [&["user/jane/INBOX"][..], &quoted].concat());
    let partition = words(&["user", "add", "x", "--partition", ""]);
    assert_eq!(offered(&store, &line("user add x --partition "), &partition), ["primary"]);

    // Without a daemon there are still the verbs, and nobody waits for one that does not move.
    daemon.signal(rustix::process::Signal::STOP);
    let begun = Instant::now();
    assert_eq!(offered(&store, &line("user show j"), &words(&["user", "show", "j"])), [""; 0]);
    assert!(begun.elapsed() < PATIENCE / 2);
    daemon.kill();
    assert_eq!(offered(&store, &line("user show j"), &words(&["user", "show", "j"])), [""; 0]);
    assert_eq!(offered(&store, &line("user sh"), &words(&["user", "sh"])), ["show"]);
}

#[test]
fn a_mistyped_name_is_answered_with_the_nearest() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["user", "add", "joe@example.org"]).expect(0);
    store.ctl(&["mailbox", "create", "user/joe@example.org/Projects"]).expect(0);
    for (words, status, expected) in [
        (&["user", "show", "jeo@example.org"][..], 67, "no such user: jeo@example.org; did you mean joe@example.org?"),
        (&["mailbox", "create", "user/jo@example.org/x"], 67, "did you mean joe@example.org?"),
        (&["acl", "get", "user/joe@example.org/Projcets"], 68, "did you mean user/joe@example.org/Projects?"),
    ] {
        let shown = on_a_terminal(&store, words, &[]).expect(status);
        assert!(shown.out.contains(expected), "{shown:?}");
        let script = store.ctl(words).expect(status);
        assert!(!script.err.contains("did you mean"), "scripts are answered at once: {script:?}");
    }
    let shown = on_a_terminal(&store, &["user", "show", "bob"], &[]).expect(67);
    assert!(!shown.out.contains("did you mean"), "{shown:?}");
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let store = TestStore::new();
    let _daemon = store.start();
    let green = "\u{1b}[32mready\u{1b}[0m";
    assert!(on_a_terminal(&store, &["status"], &[]).expect(0).out.contains(green));
    for no in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let shown = on_a_terminal(&store, &["status"], &[no]).expect(0);
        assert!(shown.out.contains("ready") && !shown.out.contains('\u{1b}'), "{no:?}: {shown:?}");
    }
    assert!(!store.ctl(&["status"]).expect(0).out.contains('\u{1b}'), "nor for a pipe");
}

/// Frames follow each other in place; elsewhere than on a terminal they are told apart by an empty line.
#[test]
fn a_watch_draws_over_what_it_drew() {
    let store = TestStore::new();
    let _daemon = store.start();
    let line = format!("stty rows 6 cols 40; exec {STORECTL} --data-dir {} status --watch", store.data.display());
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = script.spawn().unwrap();
    let mut shown = Vec::new();
    let mut out = child.stdout.take().unwrap();
    while shown.windows(3).filter(|bytes| bytes == b"\x1b[H").count() < 3 {
        let mut bytes = [0; 4096];
        let count = out.read(&mut bytes).unwrap();
        assert!(count > 0, "it ended: {}", String::from_utf8_lossy(&shown));
        shown.extend_from_slice(&bytes[..count]);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let shown = String::from_utf8_lossy(&shown);
    let frame = shown.split("\x1b[H").nth(1).unwrap();
    assert_eq!(frame.matches("\r\n").count(), 5, "five lines and the cursor in six rows: {frame:?}");
    assert!(frame.contains("state:") && !frame.contains("\x1b[2J") && frame.ends_with("\x1b[J\x1b[?7h"), "{frame:?}");
}
