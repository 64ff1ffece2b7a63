//! A database that is lost comes back from the partitions while users are served: from several of them, also from those that are not there
//! just then; and whoever is asked for comes first.

use crate::harness::lmtp::Lmtp;
use crate::harness::{Daemon, TestStore, until};
use crate::reconstruct::{adopted, remove, text};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const STORED: &str = "250 2.0.0 stored";

/// A store with joe on the usual partition, sue on one of the configuration, eve on one that was added at run time.
struct Three {
    store: TestStore,
}

impl Three {
    fn new() -> (Three, Daemon) {
        let mut store = TestStore::new();
        store.small_logs = false;
        let config = format!(
            "[log]\nsegment_size = \"1MiB\"\n[partition.primary]\n[partition.second]\npath = \"{}\"\n",
            store.beside("second").display()
        );
        std::fs::write(store.beside("three.toml"), config).unwrap();
        let three = Three { store };
        let daemon = three.start();
        three.store.ctl(&["partition", "add", "far", three.path("far").to_str().unwrap()]).expect(0);
        for (user, partition) in [("joe", "primary"), ("sue", "second"), ("eve", "far")] {
            three.store.ctl(&["user", "add", user, "--partition", partition, "--quota", "1GiB"]).expect(0);
            for n in 0..3 {
                let to = format!("user/{user}/INBOX");
                three.store.ctl_with(&["message", "deliver", &to], Some(&text(n))).expect(0);
            }
        }
        (three, daemon)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.store.beside(name)
    }

    fn start(&self) -> Daemon {
        self.store.start_with(&["--config", self.path("three.toml").to_str().unwrap()])
    }

    fn take_away(&self, name: &str) {
        std::fs::rename(self.path(name), self.path(&format!("{name}.unplugged"))).unwrap();
    }

    fn bring_back(&self, name: &str) {
        std::fs::rename(self.path(&format!("{name}.unplugged")), self.path(name)).unwrap();
    }

    /// Names and identities of partitions.
    fn partitions(&self) -> Value {
        let mut list = self.store.json(&["partition", "list"]);
        for partition in list.as_array_mut().unwrap() {
            partition.as_object_mut().unwrap().retain(|key, _| ["name", "id", "path"].contains(&key.as_str()));
        }
        list
    }

    fn state(&self, name: &str) -> Value {
        self.store.json(&["partition", "show", name])["state"].clone()
    }

    fn mail(&self, user: &str) -> Value {
        self.store.json(&["message", "list", &format!("user/{user}/INBOX")])
    }

    fn rcpt(&self, user: &str) -> String {
        Lmtp::unix(&self.store.data.join("lmtp.sock")).begin(&[user]).remove(0)
    }

    fn is_due(&self) -> bool {
        self.store.data.join("adoption-due").exists()
    }
}

// rows 46, 48, 111, 120: the database and the log are gone, and two of three disks are not mounted: nothing is made anew in their places; who
// lives there is told to come back, so that no mail bounces; when they are there the adoption goes on by itself, and all is as it was.
#[test]
fn partitions_that_are_away_are_waited_for() {
    for without in [&[][..], &["dbdata/partitions"], &["partitions.toml"]] {
        let (three, daemon) = Three::new();
        let before: Vec<Value> = ["joe", "sue", "eve"].iter().map(|user| three.mail(user)).collect();
        let partitions = three.partitions();
        assert_eq!(daemon.stop(), 0);
        remove(&three.store, &["database", "log"]);
        without.iter().for_each(|file| std::fs::remove_file(three.store.data.join(file)).unwrap());
        three.take_away("second");
        three.take_away("far");
        let daemon = three.start();
        until("what is there", || (three.store.ctl(&["user", "show", "joe"]).status == 0).then_some(()));
        assert_eq!(three.mail("joe"), before[0], "{without:?}");
        if without != ["dbdata/partitions"] {
            assert_eq!(three.partitions(), partitions, "{without:?}: known beside the database");
            assert_eq!((three.state("second"), three.state("far")), (json!("missing"), json!("missing")));
        }
        assert!(!three.path("second").exists() && !three.path("far").exists(), "nothing was made");
        // What it has is not all there was: a restart in between knows it, too.
        three.store.ctl(&["checkpoint"]).expect(0);
        daemon.kill();
        let daemon = three.start();
        assert_eq!(three.rcpt("joe"), "250 2.1.5 ok");
        for user in ["eve", "sue", "nobody"] {
            assert_eq!(three.rcpt(user), "451 4.3.2 mailboxes are being brought back; try again later");
        }
        three.bring_back("far");
        until("eve", || (three.store.ctl(&["user", "show", "eve"]).status == 0).then_some(()));
        assert_eq!(three.mail("eve"), before[2], "{without:?}");
        assert!(three.is_due() && three.rcpt("sue").starts_with("451 4.3."));
        // A restart in between waits on.
        daemon.kill();
        let daemon = three.start();
        three.bring_back("second");
        until("the end of the adoption", || (!three.is_due()).then_some(()));
        // The sender's queue tries again, and it lands.
        let mut lmtp = Lmtp::unix(&three.store.data.join("lmtp.sock"));
        assert_eq!(lmtp.deliver(&["eve", "sue", "joe"], &text(50)), [STORED; 3]);
        assert!(three.rcpt("nobody").starts_with("550 5.1.1"));
        for (user, before) in ["joe", "sue", "eve"].iter().zip(&before) {
            let after = three.mail(user);
            let (after, before) = (after.as_array().unwrap(), before.as_array().unwrap());
            assert_eq!(after[..before.len()], before[..], "{without:?}: {user}");
            assert_eq!(after.len(), before.len() + 1, "{without:?}: {user}");
        }
        assert_eq!(three.partitions(), partitions, "{without:?}");
        let run = three.store.ctl(&["--json", "reconstruct", "-m", "-n"]).expect(0).json();
        assert_eq!((&run["changes"], &run["findings"]), (&json!([]), &json!([])), "{run}");
        assert_eq!(daemon.stop(), 0);
    }
}

// rows 48, 111: a partition that comes and goes while it is being adopted is adopted all the same, without a restart, as soon as it stays
#[test]
fn a_partition_that_comes_and_goes_is_adopted_when_it_stays() {
    let (three, daemon) = Three::new();
    let users: String = (0..300).map(|n| format!("user add u{n} --partition far\n")).collect();
    three.store.ctl_with(&["batch", "-"], Some(users.as_bytes())).expect(0);
    three.store.ctl(&["checkpoint"]).expect(0);
    let before = three.mail("eve");
    assert_eq!(daemon.stop(), 0);
    remove(&three.store, &["database", "log"]);
    let daemon = three.start();
    for n in 0..5 {
        three.take_away("far");
        std::thread::sleep(std::time::Duration::from_millis(900 + 150 * n));
        three.bring_back("far");
        std::thread::sleep(std::time::Duration::from_millis(250 * n));
    }
    until("the end of the adoption", || (!three.is_due()).then_some(()));
    assert_eq!(three.mail("eve"), before);
    assert_eq!(three.store.json(&["user", "list"]).as_array().unwrap().len(), 303);
    let run = three.store.ctl(&["--json", "reconstruct", "-m", "-n"]).expect(0).json();
    assert_eq!((&run["changes"], &run["findings"]), (&json!([]), &json!([])), "{run}");
    assert_eq!(daemon.stop(), 0);
}

// row 111: a partition whose disk is gone for good keeps an adoption waiting until somebody takes it out of the store, also over a restart
#[test]
fn a_partition_that_is_gone_for_good_is_taken_out() {
    let (three, daemon) = Three::new();
    assert_eq!(daemon.stop(), 0);
    remove(&three.store, &["database", "log"]);
    three.take_away("far");
    let daemon = three.start();
    adopted(&three.store);
    assert_eq!(three.state("far"), json!("missing"));
    assert!(three.is_due() && three.rcpt("eve").starts_with("451 4.3."));
    three.store.ctl(&["partition", "remove", "far"]).expect(0);
    three.store.ctl(&["checkpoint"]).expect(0);
    daemon.kill();
    let daemon = three.start();
    until("the end of the adoption", || (!three.is_due()).then_some(()));
    three.store.ctl(&["partition", "show", "far"]).expect(68);
    assert!(three.rcpt("eve").starts_with("550 5.1.1"));
    assert_eq!(three.mail("sue").as_array().unwrap().len(), 3);
    assert_eq!(daemon.stop(), 0);
}

// row 120: a user who was renamed lives in a directory with his old name, and shared mailboxes in that of nobody: both are there when they
// are asked for, however many others wait
#[test]
fn renamed_users_and_shared_mailboxes_come_first_too() {
    let store = TestStore::new();
    let daemon = store.start();
    let users: String = (0..200).map(|n| format!("user add u{n}\nmailbox create user/u{n}/Work\n")).collect();
    store.ctl_with(&["batch", "-"], Some(users.as_bytes())).expect(0);
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["mailbox", "create", "shared/news"]).expect(0);
    for n in 0..3 {
        store.ctl_with(&["message", "deliver", "user/joe/INBOX", "shared/news"], Some(&text(n))).expect(0);
    }
    store.ctl(&["user", "rename", "joe", "zoe"]).expect(0);
    let list = |name: &str| store.ctl(&["--json", "message", "list", name]);
    let before = [list("user/zoe/INBOX").expect(0).json(), list("shared/news").expect(0).json()];
    assert_eq!(daemon.stop(), 0);
    for is_second in [false, true] {
        let mut asked = [("user/zoe/INBOX", &before[0]), ("shared/news", &before[1])];
        if is_second {
            asked.reverse();
        }
        remove(&store, &["database", "log"]);
        let daemon = store.start();
        for (name, before) in asked {
            let found = until("an answer", || Some(list(name)).filter(|run| run.status != 75));
            assert_eq!(&found.expect(0).json(), before, "{name}");
        }
        adopted(&store);
        store.ctl(&["user", "show", "joe"]).expect(67);
        assert_eq!(store.json(&["user", "list"]).as_array().unwrap().len(), 201);
        assert_eq!(daemon.stop(), 0);
    }
}

// rows 46, 120: a home that cannot be read holds up who may live there, and nobody else: others have their mail, and who is nobody is told so
#[test]
fn an_unreadable_home_holds_up_only_who_may_live_there() {
    let (three, daemon) = Three::new();
    let before: Vec<Value> = ["joe", "sue", "eve"].iter().map(|user| three.mail(user)).collect();
    assert_eq!(daemon.stop(), 0);
    remove(&three.store, &["database", "log"]);
    let is_his = |path: &PathBuf| path.ends_with("manifest") && path.to_string_lossy().contains("=joe");
    let manifest = files(&three.store.data.join("partition/primary")).into_iter().find(is_his).unwrap();
    std::fs::rename(&manifest, manifest.with_extension("was")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &manifest).unwrap();
    let daemon = three.start();
    let becomes = |user: &str, code: &str| until(user, || three.rcpt(user).starts_with(code).then_some(()));
    becomes("sue", "250 ");
    becomes("eve", "250 ");
    becomes("nobody", "550 5.1.1");
    assert!(three.is_due());
    assert_eq!(three.rcpt("joe"), "451 4.3.2 mailboxes are being brought back; try again later");
    assert_eq!((three.mail("sue"), three.mail("eve")), (before[1].clone(), before[2].clone()));
    std::fs::remove_file(&manifest).unwrap();
    std::fs::rename(manifest.with_extension("was"), &manifest).unwrap();
    becomes("joe", "250 ");
    // Nobody has to say that it reads again.
    until("the end of the adoption", || (!three.is_due()).then_some(()));
    assert_eq!(three.mail("joe"), before[0]);
    assert_eq!(daemon.stop(), 0);
}

/// Every file below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { left.push(path) } else { found.push(path) }
        }
    }
    found
}

fn bodies(store: &TestStore, mailbox: &str) -> BTreeSet<Vec<u8>> {
    let list = store.json(&["message", "list", mailbox]);
    let uids = list.as_array().unwrap().iter().map(|message| message["uid"].to_string());
    uids.map(|uid| store.ctl(&["message", "show", mailbox, &uid, "--raw"]).expect(0).out.into_bytes()).collect()
}

// rows 41, 120, B3: nothing is left but message files. Each is shown in the folder `Recovered` of the user whose directory it is, none comes
// into an INBOX; mail comes in again; what belongs to nobody who is known is named and stays.
#[test]
fn messages_of_which_nothing_is_known_are_shown() {
    let store = TestStore::new();
    let daemon = store.start();
    crate::reconstruct::fill(&store);
    let long = "x".repeat(220);
    store.ctl(&["user", "add", &long]).expect(0);
    store.ctl_with(&["message", "deliver", &format!("user/{long}/INBOX")], Some(&text(99))).expect(0);
    assert_eq!(daemon.stop(), 0);
    remove(&store, &["database", "log", "index", "mirror"]);
    let partition = store.data.join("partition/primary");
    let is_message = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "msg");
    let before: Vec<PathBuf> = files(&partition).into_iter().filter(is_message).collect();
    let nobodys = before.iter().find(|path| path.to_string_lossy().contains("xxxx")).unwrap();
    let daemon = store.start();
    let all_of_joe: BTreeSet<Vec<u8>> = (1..=31).map(text).collect();
    for run in 0..2 {
        until("what is recovered", || {
            let shown = store.ctl(&["--json", "mailbox", "show", "user/joe/Recovered"]);
            (shown.status == 0 && shown.json()["messages"] == 31).then_some(())
        });
        adopted(&store);
        assert_eq!(bodies(&store, "user/joe/Recovered"), all_of_joe, "run {run}");
        assert_eq!(bodies(&store, "shared/Recovered"), [text(31)].into(), "run {run}");
        assert_eq!(store.json(&["message", "list", "user/joe/INBOX"]), json!([]));
        assert_eq!(names(&store, "user"), ["user/joe/INBOX", "user/joe/Recovered"], "run {run}");
        let again = store.ctl(&["--json", "reconstruct", "-m"]).expect(1).json();
        assert_eq!(again["changes"], json!([]), "{again}");
        let [finding] = &again["findings"].as_array().unwrap()[..] else { panic!("{again}") };
        assert_eq!(finding["where"], json!(nobodys), "{again}");
        assert!(finding["found"].as_str().unwrap().contains("it stays there"), "{again}");
        assert_eq!(std::fs::read(nobodys).unwrap(), text(99));
    }
    let mut lmtp = Lmtp::unix(&store.data.join("lmtp.sock"));
    assert_eq!(lmtp.deliver(&["joe"], &text(50)), [STORED]);
    // No number is given twice: a new mailbox has a directory of its own.
    store.ctl(&["user", "add", "new"]).expect(0);
    assert_eq!(lmtp.deliver(&["new"], &text(51)), [STORED]);
    store.ctl(&["checkpoint"]).expect(0);
    assert_eq!(bodies(&store, "user/new/INBOX").len(), 1);
    let check = store.ctl(&["--json", "check", "--all", "--deep"]).expect(1).json();
    let [finding] = &check["findings"].as_array().unwrap()[..] else { panic!("{check}") };
    assert!(finding["where"].as_str().unwrap().contains("xxxx"), "{check}");
    assert_eq!(daemon.stop(), 0);
}

fn names(store: &TestStore, tree: &str) -> Vec<String> {
    let all = store.json(&["mailbox", "list"]);
    let names = all.as_array().unwrap().iter().map(|mailbox| mailbox["name"].as_str().unwrap().to_owned());
    names.filter(|name| name.starts_with(tree)).collect()
}

// rows 29, 46: a record in the middle of the log is damaged; the start goes on behind what leads there, sets the rest of that log file aside, and
// brings back from it what nothing else has: each message but the one of the damaged record
#[test]
fn what_was_cut_off_the_log_is_read() {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    for n in 1..=6 {
        store.ctl_with(&["message", "deliver", "user/joe/INBOX"], Some(&text(n))).expect(0);
    }
    store.ctl(&["message", "flags", "user/joe/INBOX", "5", "--add", "\\Flagged"]).expect(0);
    store.ctl(&["mailbox", "create", "user/joe/Late"]).expect(0);
    store.ctl_with(&["message", "deliver", "user/joe/Late"], Some(&text(7))).expect(0);
    daemon.kill();
    let log = store.data.join("mboxlist/log.0000000001");
    let mut bytes = std::fs::read(&log).unwrap();
    let wanted = b"The 3th.";
    let at = bytes.windows(wanted.len()).position(|window| window == wanted).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let daemon = store.start();
    assert_eq!(store.json(&["recover", "--report"])["decision"], "lossy");
    let kept = files(&store.data.join("mboxlist/quarantine"));
    assert!(kept.iter().any(|path| path.extension().is_some_and(|kind| kind == "cut")), "{kept:?}");
    adopted(&store);
    let left: BTreeSet<Vec<u8>> = [1, 2, 4, 5, 6].map(text).into();
    assert_eq!(bodies(&store, "user/joe/INBOX"), left);
    assert_eq!(bodies(&store, "user/joe/Late"), [text(7)].into());
    let list = store.json(&["message", "list", "user/joe/INBOX"]);
    let flagged = list.as_array().unwrap().iter().filter(|m| m["flags"] == json!(["\\Flagged"]));
    assert_eq!(flagged.map(|m| m["uid"].clone()).collect::<Vec<_>>(), [5]);
    assert_eq!(names(&store, "user"), ["user/joe/INBOX", "user/joe/Late"]);
    assert_eq!(daemon.stop(), 0);
}

// rows 46, 114: what users have seen in mailboxes of others comes back with them
#[test]
fn what_users_have_seen_comes_back() {
    for with_log in [false, true] {
        let store = TestStore::new();
        let daemon = store.start();
        for user in ["ann", "joe"] {
            store.ctl(&["user", "add", user]).expect(0);
        }
        for n in 0..5 {
            store.ctl_with(&["message", "deliver", "user/joe/INBOX"], Some(&text(n))).expect(0);
        }
        store.ctl(&["acl", "set", "user/joe/INBOX", "ann", "lrs"]).expect(0);
        let see = |uids: &str| {
            store.ctl(&["message", "flags", "user/joe/INBOX", uids, "--add", "\\Seen", "--as", "ann"]).expect(0);
        };
        see("1,2,4");
        // Written out to the partition; what comes then is in the log alone.
        store.ctl(&["peruser"]).expect(0);
        if with_log {
            see("5");
        }
        let before = store.json(&["message", "list", "user/joe/INBOX", "--as", "ann"]);
        match with_log {
            true => daemon.kill(),
            false => assert_eq!(daemon.stop(), 0),
        }
        match with_log {
            // The first log file is gone, so that the log alone is not the database.
            true => {
                remove(&store, &["database"]);
                let first = store.data.join("mboxlist/log.0000000001");
                let mut bytes = std::fs::read(&first).unwrap();
                bytes[5000] ^= 1;
                std::fs::write(&first, bytes).unwrap();
            }
            false => remove(&store, &["database", "log"]),
        }
        let daemon = store.start();
        adopted(&store);
        let after = store.json(&["message", "list", "user/joe/INBOX", "--as", "ann"]);
        assert_eq!(after, before, "with the log: {with_log}");
        let run = store.ctl(&["--json", "reconstruct", "-m", "-n"]).expect(0).json();
        assert_eq!((&run["changes"], &run["findings"]), (&json!([]), &json!([])), "{run}");
        assert_eq!(daemon.stop(), 0);
    }
}
