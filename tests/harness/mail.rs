//! Messages that a test sends, and what must be there of them.

use super::{TestStore, until};
use std::fmt::Display;

/// A message of about so many bytes, whose sender is named like its subject; no two of different subjects are equal.
pub fn message(subject: impl Display, bytes: usize) -> Vec<u8> {
    let mut all = format!("From: {subject}@example.org\r\nSubject: {subject}\r\n\r\n").into_bytes();
    let mut n = 0u64;
    while all.len() < bytes {
        all.extend_from_slice(format!("{:x}\r\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).as_bytes());
        n += 1;
    }
    all
}

/// Delivers a message to mailboxes.
pub fn deliver(store: &TestStore, to: &[&str], message: &[u8]) {
    store.ctl_with(&[&["message", "deliver"], to].concat(), Some(message)).expect(0);
}

/// A mailbox has these messages and no others, in this order, byte for byte.
pub fn assert_inbox(store: &TestStore, mailbox: &str, sent: &[Vec<u8>]) {
    let list = store.json(&["message", "list", mailbox]);
    assert_eq!(list.as_array().unwrap().len(), sent.len(), "{list}");
    for (uid, sent) in (1..).zip(sent) {
        let raw = store.ctl(&["message", "show", mailbox, &uid.to_string(), "--raw"]).expect(0);
        assert_eq!(raw.out.as_bytes(), sent.as_slice(), "message {uid}");
    }
}

/// Waits until a partition is said to be so.
pub fn wait_for_partition(store: &TestStore, name: &str, state: &str) {
    until(state, || (store.json(&["partition", "show", name])["state"] == state).then_some(()));
}
