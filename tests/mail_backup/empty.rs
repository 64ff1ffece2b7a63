//! Messages without a byte, as old Maildirs have them, among others.

use super::{backup, contents, restore, text};
use crate::harness::TestStore;

// rows 50, 135, I8: where an empty message stands in the log the next one begins, and that got a name of the empty file
#[test]
fn a_message_behind_an_empty_one_has_its_bytes() {
    let from = TestStore::new();
    let _one = from.start();
    from.ctl(&["user", "add", "joe"]).expect(0);
    let maildir = from.beside("maildir");
    for dir in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(maildir.join(dir)).unwrap();
    }
    for (n, bytes) in
        [&b""[..], b"Subject: one\r\n\r\nOne.\r\n", b"", b"Subject: two\r\n\r\nTwo.\r\n"].iter().enumerate()
    {
        std::fs::write(maildir.join(format!("cur/{n}.host:2,S")), bytes).unwrap();
    }
    from.ctl(&["import", "maildir", text(&maildir), "--user", "joe"]).expect(0);
    let check = |store: &TestStore| {
        store.ctl(&["checkpoint"]).expect(0);
        store.ctl(&["check", "--all", "--deep"]).expect(0);
    };
    check(&from);
    let file = from.beside("joe.sda");
    backup(&from, &file, &["/"]);
    let to = TestStore::new();
    let _two = to.start();
    restore(&to, &file, &["/"], 0);
    check(&to);
    assert_eq!(contents(&to), contents(&from));
    // References to the same bytes are further names of the same file.
    to.ctl(&["message", "copy", "user/joe/INBOX", "1,2,3,4", "user/joe/INBOX"]).expect(0);
    check(&to);
}
