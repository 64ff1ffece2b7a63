//! Indexes and manifests that are whole and of something else: a wrong copy by hand, a check of the file system that has swapped files.

use super::{INBOX, WORK, text};
use crate::harness::{TestStore, until};
use serde_json::{Value, json};
use std::path::PathBuf;

const ANN: &str = "user/ann/INBOX";

fn shown(store: &TestStore) -> Vec<Value> {
    [INBOX, WORK, ANN].iter().map(|name| store.json(&["message", "list", name])).collect()
}

/// Two users, three mailboxes, and the directory of each.
fn filled() -> (TestStore, [PathBuf; 3]) {
    let store = TestStore::new();
    let daemon = store.start();
    for user in ["joe", "ann"] {
        store.ctl(&["user", "add", user]).expect(0);
    }
    store.ctl(&["mailbox", "create", WORK]).expect(0);
    for (n, name) in [INBOX, WORK, WORK, ANN, ANN, ANN].iter().enumerate() {
        store.ctl_with(&["message", "deliver", name], Some(&text(n))).expect(0);
    }
    store.ctl(&["message", "flags", WORK, "1", "--add", "\\Flagged"]).expect(0);
    store.ctl(&["checkpoint"]).expect(0);
    let dir = |name: &str| {
        let shown = store.json(&["mailbox", "show", name]);
        store.data.join("partition/primary").join(shown["path"].as_str().unwrap())
    };
    let dirs = [INBOX, WORK, ANN].map(dir);
    assert_eq!(daemon.stop(), 0);
    (store, dirs)
}

fn swap(one: &PathBuf, other: &PathBuf) {
    let bytes = [one, other].map(|path| std::fs::read(path).unwrap());
    std::fs::write(one, &bytes[1]).unwrap();
    std::fs::write(other, &bytes[0]).unwrap();
}

// rows 126, 163, B3, I8: such a file stopped all mail of its partition until somebody removed it
#[test]
fn a_file_of_another_is_set_aside_and_made_anew() {
    let (index, manifest) = ("store.idx", "../manifest");
    for (one, other) in [((0, index), (1, index)), ((0, manifest), (2, manifest)), ((1, index), (2, index))] {
        for is_first_read in [true, false] {
            let (store, dirs) = filled();
            let daemon = store.start();
            let wanted = shown(&store);
            assert_eq!(daemon.stop(), 0);
            swap(&dirs[one.0].join(one.1), &dirs[other.0].join(other.1));
            let _daemon = store.start();
            if is_first_read {
                until("what was mended at the first access", || {
                    let read = [INBOX, WORK, ANN].iter().all(|name| store.ctl(&["message", "list", name]).status == 0);
                    read.then_some(())
                });
                assert_eq!(shown(&store), wanted, "{one:?} {other:?}");
            }
            for name in [INBOX, WORK, ANN] {
                store.ctl_with(&["message", "deliver", name], Some(&text(9))).expect(0);
            }
            store.ctl(&["checkpoint"]).expect(0);
            until("all of them", || {
                let counts = [2, 3, 4];
                let all = [INBOX, WORK, ANN].iter().zip(counts).all(|(name, n)| {
                    let run = store.ctl(&["--json", "message", "list", name]);
                    run.status == 0 && run.json().as_array().unwrap().len() == n
                });
                all.then_some(())
            });
            for (now, before) in shown(&store).iter().zip(&wanted) {
                let before = before.as_array().unwrap();
                assert_eq!(now.as_array().unwrap()[..before.len()], before[..], "{one:?} {other:?}");
            }
            store.ctl(&["reconstruct", "-m", "-r"]).expect(0);
            let checked = store.ctl(&["--json", "check", "--all", "--deep"]).expect(0).json();
            assert_eq!(checked["findings"], json!([]));
            let kept = std::fs::read_dir(store.data.join("partition/primary/.quarantine")).unwrap().count();
            assert!(kept >= 2, "both are kept: {kept}");
        }
    }
}
