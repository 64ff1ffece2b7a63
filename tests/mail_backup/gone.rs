//! Mailboxes and users that are deleted or renamed while a restore is at work, before each of its requests: what was for them is named, and
//! everything else comes.

use super::heal::{ANN, BOB, file_of, saved};
use super::kills::{Proxy, ctl};
use super::{backup, contents, count, deliver, message, restore, sample, text};
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
    meanwhile_does(store, n, args, || store.ctl(deed).status)
}

fn meanwhile_does<T>(store: &TestStore, n: usize, args: &[&str], deed: impl FnOnce() -> T) -> Option<(T, Run)> {
    let proxy = Proxy::before(store, n);
    let client = ctl(&proxy.path, store, &[&["--json", "restore", "--yes", "-f"], args].concat());
    if !proxy.pass(n) {
        Run::of(client).expect(0);
        return None;
    }
    let done = deed();
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

// row 138: what a reference stands for was looked up by name and UID alone: where the mailbox was replaced by another of its name, its new mail
// came to others
#[test]
fn a_mailbox_that_is_replaced_meanwhile_gives_nobody_its_new_mail() {
    const WORK: &str = "user/ann/Work";
    let from = TestStore::new();
    let _one = from.start();
    for user in ["ann", "bob"] {
        from.ctl(&["user", "add", user]).expect(0);
    }
    from.ctl(&["mailbox", "create", WORK]).expect(0);
    (0..3).for_each(|n| deliver(&from, &[WORK, BOB], &message(format!("both{n}"), 500)));
    let file = from.beside("both.sda");
    backup(&from, &file, &["/"]);
    let digests = |store: &TestStore, name: &str| -> Vec<Value> {
        let all = store.json(&["message", "list", name]);
        all.as_array().unwrap().iter().map(|message| message["digest"].clone()).collect()
    };
    let mut replaced = 0;
    for n in 2.. {
        let to = TestStore::new();
        let _two = start(&to);
        let replace = || {
            let done = to.ctl(&["mailbox", "rename", WORK, "user/ann/Old"]).status;
            if done == 0 {
                to.ctl(&["mailbox", "create", WORK]).expect(0);
                (0..3).for_each(|n| deliver(&to, &[WORK], &message(format!("new{n}"), 500)));
            }
            done
        };
        let Some((done, run)) = meanwhile_does(&to, n, &[text(&file)], replace) else { break };
        let told = run.json();
        let at = format!("before frame {n}, renamed: {done}: {told}");
        assert!([0, 1].contains(&run.status), "{at}");
        assert!(
            told["unrestorable"].as_array().unwrap().iter().all(|one| one["object"] != "/primary/user/bob/INBOX"),
            "{at}"
        );
        assert_eq!(digests(&to, BOB), digests(&from, BOB), "{at}");
        // What came before it was renamed is what Bob's messages were to be copied from.
        replaced += i32::from(done == 0 && digests(&to, "user/ann/Old").len() == 3);
    }
    assert!(replaced > 0, "never replaced between the two");
}
