//! Files of the store that somebody removes or replaces under the daemon that has them open.

use crate::harness::{TestStore, text};

/// Delivers one message.
fn deliver(store: &TestStore, text: &str) -> i32 {
    store.ctl_with(&["message", "deliver", "user/joe/INBOX"], Some(text.as_bytes())).status
}

// row 2: the lock holds without its file, against every verb that changes the store and against a second daemon.
#[test]
fn a_lock_file_that_was_removed_lets_nobody_in() {
    let store = TestStore::new();
    let daemon = store.start();
    let pid = daemon.child.id().to_string();
    store.ctl(&["user", "add", "joe"]).expect(0);
    assert_eq!(deliver(&store, "one"), 0);
    std::fs::remove_file(store.data.join("lock")).unwrap();
    let before = store.tree();
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
