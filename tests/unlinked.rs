//! Files of the store that somebody removes or replaces under the daemon that has them open.

use crate::alarms::grow;
use crate::harness::alarms::{cleared, raised};
use crate::harness::{TestStore, text, until};
use std::path::{Path, PathBuf};

/// Delivers one message.
fn deliver(store: &TestStore, text: &str) -> i32 {
    store.ctl_with(&["message", "deliver", "user/joe/INBOX"], Some(text.as_bytes())).status
}

// row 2: the lock holds without its file, against every verb that changes the store and against a second daemon.
#[test]
fn a_lock_file_that_was_removed_lets_nobody_in() {
    let store = TestStore::new();
    // It must not write by itself while it is looked at whether others did.
    let quiet = store.beside("first.toml");
    std::fs::write(&quiet, "[checkpoint]\ninterval = \"1h\"\n").unwrap();
    let daemon = store.start_with(&["--config", text(&quiet)]);
    let pid = daemon.child.id().to_string();
    store.ctl(&["user", "add", "joe"]).expect(0);
    assert_eq!(deliver(&store, "one"), 0);
    std::fs::remove_file(store.data.join("lock")).unwrap();
    // A moment after a change the daemon seals its log, and notes that.
    let before = until("the daemon rests", || {
        let seen = store.tree();
        std::thread::sleep(std::time::Duration::from_millis(500));
        (store.tree() == seen).then_some(seen)
    });
    for verb in [&["test"][..], &["recover"], &["log", "reset", "--yes"], &["recover", "--catastrophic"]] {
        let run = store.storedd(verb).expect(75);
        assert!(run.err.contains(&pid), "{verb:?} does not name {pid}: {run:?}");
    }
    // Nothing else of it is in the way of the second one.
    let config = store.beside("second.toml");
    let (control, mail) = (store.beside("second.sock"), store.beside("second-lmtp.sock"));
    std::fs::write(&config, format!("[lmtp]\nsocket = {:?}\n", text(&mail))).unwrap();
    let args = ["--config", text(&config), "--socket", text(&control)];
    assert_eq!(store.spawn(&args).at(&control).wait(), 75);
    assert_eq!(store.tree(), before);
    assert_eq!(store.storedd(&["status", "--json"]).expect(0).json()["lock_holder"].to_string(), pid);
    assert_eq!(deliver(&store, "two"), 0);
    daemon.kill();
    // Whose end frees it, whichever that is.
    store.storedd(&["test"]).expect(0);
    let daemon = store.start();
    assert_eq!(store.json(&["mailbox", "show", "user/joe/INBOX"])["messages"], 2);
    assert_eq!(daemon.stop(), 0);
}

/// The log file being written.
fn log_file(store: &TestStore) -> PathBuf {
    store.data.join("mboxlist/log.0000000001")
}

/// A store with three messages that the database has, and a daemon on it.
fn begun() -> (TestStore, crate::harness::Daemon) {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    (0..3).for_each(|n| assert_eq!(deliver(&store, &format!("{n}")), 0));
    store.ctl(&["checkpoint"]).expect(0);
    (store, daemon)
}

/// The next start has all six messages, and says that nothing was lost.
fn nothing_is_lost(store: &TestStore) {
    let _daemon = store.start();
    assert_eq!(store.json(&["message", "list", "user/joe/INBOX"]).as_array().unwrap().len(), 6);
    store.ctl(&["check", "--all", "--deep"]).expect(0);
    let report = store.ctl(&["recover", "--report"]).expect(0);
    assert!(report.out.contains("nothing") && !report.out.contains("finding"), "{report:?}");
}

fn removed(file: &Path) {
    std::fs::remove_file(file).unwrap();
}

fn replaced(file: &Path) {
    let older = file.with_file_name("older");
    std::fs::copy(file, &older).unwrap();
    std::fs::rename(older, file).unwrap();
}

// row 2: mail is acknowledged into a file that has no name any more: it has it again within a second or two, and what was acknowledged
// before and afterwards is found by the start behind a kill.
#[test]
fn a_log_file_that_was_removed_or_replaced_has_its_name_again() {
    for (what, act) in [("removed", removed as fn(&Path)), ("replaced", replaced)] {
        let (store, daemon) = begun();
        (0..2).for_each(|n| assert_eq!(deliver(&store, &format!("before {n}")), 0));
        act(&log_file(&store));
        assert_eq!(deliver(&store, "after"), 0);
        until("the file is put back", || daemon.log().contains("event=log_file_put_back").then_some(()));
        assert!(log_file(&store).exists(), "{what}");
        let aside = store.data.join("mboxlist/quarantine/log.0000000001");
        assert_eq!(aside.exists(), what == "replaced", "{what}");
        let alarm = raised(&store, "log_put_back");
        assert_eq!((&alarm["subject"], &alarm["severity"]), (&text(&log_file(&store)).into(), &"warning".into()));
        assert_eq!(alarm["cause"].as_str().unwrap().contains(text(&aside)), what == "replaced", "{alarm}");
        daemon.kill();
        nothing_is_lost(&store);
    }
}

// row B7: that it was put back is an alarm, which ends when the next log file is begun; before, one line of the journal said so.
#[test]
fn a_log_file_that_was_put_back_is_an_alarm_until_the_next_one() {
    let (store, daemon) = begun();
    removed(&log_file(&store));
    assert_eq!(raised(&store, "log_put_back")["next"], "storectl log verify");
    store.ctl(&["log", "verify"]).expect(0);
    store.ctl(&["checkpoint"]).expect(0);
    assert_eq!(raised(&store, "log_put_back")["subject"], text(&log_file(&store)));
    grow(&store, 0, 4000);
    cleared(&store, "log_put_back");
    until("the journal says so", || daemon.log().contains("event=alarm_cleared alarm=log_put_back").then_some(()));
    assert_eq!(daemon.stop(), 0);
}

// row 2: nobody had time to notice.
#[test]
fn a_stop_saves_what_stands_in_a_log_file_without_a_name() {
    let (store, daemon) = begun();
    (0..3).for_each(|n| assert_eq!(deliver(&store, &format!("more {n}")), 0));
    removed(&log_file(&store));
    assert_eq!(daemon.stop(), 0);
    nothing_is_lost(&store);
}
