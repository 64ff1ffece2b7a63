//! Mailboxes and users that are deleted or renamed while a restore is at work, before each of its requests: what was for them is named, and
//! everything else comes.

use super::heal::{ANN, BOB, file_of, saved};
use super::kills::{Proxy, ctl};
use super::{backup, contents, count, restore, sample, text};
use crate::harness::{Daemon, Run, TestStore};
use serde_json::Value;

/// With `[limits] wait` so short that who meets a lease is refused at once.
fn start(store: &TestStore) -> Daemon {
    let path = store.beside("gone.toml");
    std::fs::write(&path, "[limits]\nwait = '10ms'\n").unwrap();
    store.start_with(&["--config", text(&path)])
}

/// A restore, and something else that is done before its n-th frame: what came of both. `None`: it had fewer.
fn meanwhile(store: &TestStore, n: usize, args: &[&str], deed: &[&str]) -> Option<(i32, Run)> {
    let proxy = Proxy::before(store, n);
    let client = ctl(&proxy.path, store, &[&["--json", "restore", "--yes", "-f"], args].concat());
    if !proxy.pass(n) {
        Run::of(client).expect(0);
        return None;
    }
    let done = store.ctl(deed).status;
    proxy.pass_all();
    Some((done, Run::of(client)))
}

/// Objects that are told not to be restored.
fn told(done: &Value) -> Vec<&str> {
    done["unrestorable"].as_array().unwrap().iter().map(|one| one["object"].as_str().unwrap()).collect()
}

// rows 131, 135: a mailbox that was deleted or renamed between the look for it and the messages for it ended the whole run
#[test]
fn a_mailbox_that_goes_meanwhile_costs_no_other() {
    let (from, _one) = sample();
    let file = from.beside("all.sda");
    backup(&from, &file, &["/"]);
    let of = |store: &TestStore, without: &str| -> Vec<(Value, Vec<Value>)> {
        let all = contents(store).as_array().unwrap().clone();
        let others = all.into_iter().filter(|one| !one["name"].as_str().unwrap().starts_with(without));
        let digests = |one: &Value| one["all"].as_array().unwrap().iter().map(|m| m["digest"].clone()).collect();
        others.map(|one| (one["name"].clone(), digests(&one))).collect()
    };
    // Those that are there are held while they are restored; those that it makes are not.
    let deeds: [(&[&str], &str, &str, bool); 2] = [
        (&["user", "delete", "bob", "--yes"], "user/bob", "/bob", true),
        (&["mailbox", "rename", "shared/news", "shared/old"], "shared/", "/news", false),
    ];
    for (deed, without, object, are_there) in deeds {
        let mut costs = 0;
        for n in 2.. {
            let to = TestStore::new();
            let _two = start(&to);
            if are_there {
                to.ctl(&["user", "add", "bob"]).expect(0);
                to.ctl(&["mailbox", "create", "user/bob/Work/Äpfel"]).expect(0);
                to.ctl(&["mailbox", "create", "shared/news"]).expect(0);
            }
            let Some((_, run)) = meanwhile(&to, n, &[text(&file)], deed) else { break };
            let at = format!("{deed:?} before frame {n}, there: {are_there}");
            assert!([0, 1].contains(&run.status), "{at}: {run:?}");
            let done = run.json();
            assert_eq!(run.status == 1, count(&done, "unrestorable") > 0, "{at}: {done}");
            assert!(told(&done).iter().all(|one| one.contains(object)), "{at}: {done}");
            assert_eq!(of(&to, without), of(&from, without), "{at}: {done}");
            costs += run.status;
            let again = restore(&to, &file, &[], 0);
            assert_eq!(count(&again, "unrestorable"), 0, "{at}: {again}");
        }
        assert!(costs > 0, "{deed:?} never met it, there: {are_there}");
    }
}

// The same of one whose messages get lost bytes back, and of one that they are copied from
#[test]
fn a_mailbox_that_goes_while_it_is_healed_costs_no_other() {
    let deeds: [(&[&str], &str, &str); 3] = [
        (&["user", "delete", "bob", "--yes"], "/bob", ANN),
        (&["user", "rename", "bob", "rob"], "/bob", ANN),
        // The bytes of two messages of Bob come from hers.
        (&["user", "delete", "ann", "--yes"], "", BOB),
    ];
    for (deed, object, left) in deeds {
        let mut costs = 0;
        for n in 2.. {
            let (store, _daemon, file) = saved();
            [1, 2, 4].iter().for_each(|uid| std::fs::remove_file(file_of(&store, ANN, *uid)).unwrap());
            [1, 2].iter().for_each(|uid| std::fs::remove_file(file_of(&store, BOB, *uid)).unwrap());
            let Some((did, run)) = meanwhile(&store, n, &[text(&file), "--heal"], deed) else { break };
            let at = format!("{deed:?} before frame {n}");
            assert_eq!(did, 0, "{at}");
            assert!([0, 1].contains(&run.status), "{at}: {run:?}");
            let done = run.json();
            assert_eq!(run.status == 1, count(&done, "unrestorable") > 0, "{at}: {done}");
            assert!(told(&done).iter().all(|one| one.contains(object)), "{at}: {done}");
            costs += run.status;
            let again = restore(&store, &file, &["--heal"], 0);
            assert!(left == BOB || count(&again, "healed") == 0, "{at}: {again}");
            store.ctl(&["check", left, "--deep"]).expect(0);
        }
        assert!(costs > 0, "{deed:?} never met it");
    }
}
