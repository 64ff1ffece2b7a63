//! Partitions that go away and come back while the daemon runs, through the built programs.

use crate::harness::mail::{assert_inbox, message, wait_for_partition};
use crate::harness::{Daemon, TestStore, until};
use serde_json::{Value, json};
use std::path::PathBuf;

const EVE: &str = "user/eve/INBOX";
const JOE: &str = "user/joe/INBOX";

/// A store with joe on `primary` and eve on `far`, which lies beside it.
struct Two {
    store: TestStore,
    far: PathBuf,
    /// What was delivered to eve.
    sent: Vec<Vec<u8>>,
}

impl Two {
    fn new(config: &str) -> (Two, Daemon) {
        let mut store = TestStore::new();
        store.small_logs = false;
        let file = store.beside("two.toml");
        std::fs::write(&file, format!("[log]\nsegment_size = \"1MiB\"\n{config}")).unwrap();
        let two = Two { far: store.beside("far"), store, sent: Vec::new() };
        let daemon = two.start();
        two.store.ctl(&["partition", "add", "far", two.far.to_str().unwrap()]).expect(0);
        two.store.ctl(&["user", "add", "joe"]).expect(0);
        two.store.ctl(&["user", "add", "eve", "--partition", "far"]).expect(0);
        (two, daemon)
    }

    fn start(&self) -> Daemon {
        self.store.start_with(&["--config", self.store.beside("two.toml").to_str().unwrap()])
    }

    /// Delivers to some mailboxes; gives the status.
    fn try_deliver(&mut self, to: &[&str], bytes: usize) -> i32 {
        let message = message(self.sent.len(), bytes);
        let args: Vec<&str> = ["message", "deliver"].iter().chain(to).copied().collect();
        let status = self.store.ctl_with(&args, Some(&message)).status;
        if status == 0 && to.contains(&EVE) {
            self.sent.push(message);
        }
        status
    }

    fn deliver(&mut self, to: &[&str], bytes: usize) {
        assert_eq!(self.try_deliver(to, bytes), 0);
    }

    fn checkpoint(&self) {
        self.store.ctl(&["checkpoint"]).expect(0);
    }

    /// Takes the partition away, and waits until that is seen.
    fn take_away(&self) {
        std::fs::rename(&self.far, self.store.beside("unplugged")).unwrap();
        self.wait_for("missing");
    }

    fn bring_back(&self) {
        std::fs::rename(self.store.beside("unplugged"), &self.far).unwrap();
    }

    fn show(&self) -> Value {
        self.store.json(&["partition", "show", "far"])
    }

    fn wait_for(&self, state: &str) {
        wait_for_partition(&self.store, "far", state);
    }

    /// Everything that eve was sent is there with its bytes.
    fn assert_all_there(&self) {
        assert_inbox(&self.store, EVE, &self.sent);
        self.store.ctl(&["message", "list", JOE]).expect(0);
    }

    fn alarm(&self) -> Option<Value> {
        let status = self.store.json(&["status"]);
        status["alarms"].as_array()?.iter().find(|alarm| alarm["name"] == "partition_behind").cloned()
    }

    /// Why the oldest log file is kept.
    fn oldest_kept_for(&self) -> (u64, String) {
        let list = self.store.json(&["log", "list", "--all"]);
        (list[0]["first_lsn"].as_u64().unwrap(), list[0]["kept_for"].to_string())
    }
}

// row 111: a partition taken away under the running daemon stops no other; what comes for it meanwhile is in the log, also over a kill and a
// start without it, and in its files as soon as it is back; only then the log goes.
#[test]
fn a_partition_that_is_away_stops_nothing_and_loses_nothing() {
    let (mut two, daemon) = Two::new("");
    two.deliver(&[EVE, JOE], 4000);
    two.deliver(&[EVE], 100_000);
    two.checkpoint();
    two.assert_all_there();
    two.take_away();
    // A checkpoint with nothing for it.
    two.deliver(&[JOE], 1000);
    two.checkpoint();
    assert_eq!(two.show()["behind_lsn"], Value::Null, "it lacks nothing yet");
    // Short, long, for both.
    for n in 0..8 {
        two.deliver(&[EVE, JOE], 400 + n);
        two.deliver(&[EVE], 90_000);
    }
    two.store.ctl(&["message", "copy", JOE, "1", EVE]).expect(0);
    two.sent.push(two.sent[0].clone());
    two.checkpoint();
    let shown = two.show();
    assert!(shown["behind_lsn"].as_u64().unwrap() > 0 && shown["state"] == "missing", "{shown}");
    // It is not read, and says why; the other is.
    for refused in
        [&["message", "list", EVE][..], &["message", "show", EVE, "1"], &["message", "flags", EVE, "1", "--add", "x"]]
    {
        let run = two.store.ctl(refused).expect(75);
        assert!(run.err.contains("partition far"), "{run:?}");
    }
    assert_eq!(two.store.json(&["message", "list", JOE]).as_array().unwrap().len(), 10);
    let alarm = until("an alarm", || two.alarm());
    assert_eq!((&alarm["subject"], &alarm["severity"]), (&json!("far"), &json!("warning")), "{alarm}");
    // More than a log file of other mail: none is given up that holds what it lacks.
    for _ in 0..40 {
        two.deliver(&[JOE], 60_000);
    }
    two.checkpoint();
    let (first, kept_for) = two.oldest_kept_for();
    assert!(kept_for.contains("partition far"), "{kept_for}");
    daemon.kill();
    let daemon = two.start();
    two.deliver(&[EVE], 5000);
    two.checkpoint();
    assert_eq!((two.show()["state"].clone(), two.oldest_kept_for().0), (json!("missing"), first));
    // The log is all that has it.
    assert_eq!(daemon.stop(), 0);
    for how in ["--dry-run", "--yes"] {
        let reset = two.store.ctl(&["log", "reset", how]);
        assert!(reset.status == 75 && reset.err.contains("partition far"), "{how}: {reset:?}");
    }
    let daemon = two.start();
    two.bring_back();
    two.wait_for("ok");
    two.assert_all_there();
    two.checkpoint();
    assert!(two.oldest_kept_for().0 > first, "{:?}", two.oldest_kept_for());
    assert_eq!(two.show()["behind_lsn"], Value::Null);
    assert!(!two.store.data.join("behind").exists());
    daemon.kill();
    let _daemon = two.start();
    two.assert_all_there();
}

// row 111, row 158, B8: the way back to the version before begins the log anew. As long as a partition is away that lacks what this log alone has,
// that is refused, and said before; it took the log away, and mail that was acknowledged was nowhere.
#[test]
fn no_way_back_takes_the_log_from_a_partition_that_is_away() {
    let (mut two, daemon) = Two::new("");
    two.deliver(&[EVE], 4000);
    two.checkpoint();
    two.take_away();
    two.deliver(&[EVE, JOE], 5000);
    two.deliver(&[EVE], 90_000);
    assert_eq!(daemon.stop(), 0);
    let before = two.store.tree();
    let planned = two.store.ctl(&["downgrade", "validate"]).expect(1);
    let said =
        planned.out.lines().find(|line| line.starts_with("in the way: partition far holds everything up to LSN"));
    assert!(said.is_some_and(|line| line.contains("partition list")), "{planned:?}");
    assert!(
        two.store.ctl(&["--json", "downgrade", "validate"]).expect(1).json()["obstacles"][0]
            .to_string()
            .contains("partition far")
    );
    assert!(two.store.tree() == before, "validate changes nothing");
    let refused = two.store.ctl(&["downgrade", "enable", "--yes"]).expect(75);
    assert!(
        refused.err.contains("partition far holds everything") && refused.err.contains("partition list"),
        "{refused:?}"
    );
    // The store is as it was, and its log is there.
    let daemon = two.start();
    assert_eq!(two.show()["state"], "missing");
    two.bring_back();
    two.wait_for("ok");
    two.assert_all_there();
    assert_eq!(daemon.stop(), 0);
    two.store.ctl(&["downgrade", "validate"]).expect(0);
    assert_eq!(two.store.json(&["downgrade", "enable", "--yes"])["schema_version"], 2);
    two.store.ctl(&["downgrade", "cancel"]).expect(0);
    let _daemon = two.start();
    two.assert_all_there();
}

// row 111: when as much log is kept for it as may be, it takes no more mail: refused for now, never taken and lost. The other goes on.
#[test]
fn a_partition_for_which_enough_log_is_kept_takes_no_more_mail() {
    let (mut two, _daemon) = Two::new("partition_bytes = \"2MiB\"\n");
    two.deliver(&[EVE], 1000);
    two.checkpoint();
    two.take_away();
    let mut taken = 0;
    while two.try_deliver(&[EVE], 60_000) == 0 {
        taken += 1;
        two.checkpoint();
        assert!(taken < 200, "{}", two.show());
    }
    assert!(taken > 20, "{taken}");
    let refused = two.store.ctl_with(&["message", "deliver", EVE], Some(b"Subject: no\r\n\r\n")).expect(75);
    assert!(refused.err.contains("partition far") && refused.err.contains("partition show far"), "{refused:?}");
    // By LMTP the sender keeps it; the same message is taken for the others.
    let mut lmtp = crate::harness::lmtp::Lmtp::unix(&two.store.data.join("lmtp.sock"));
    let replies = lmtp.deliver(&["eve", "joe"], &message(999, 3000));
    assert!(replies[0].starts_with("451 4.3.") && replies[1].starts_with("250 "), "{replies:?}");
    two.deliver(&[JOE], 60_000);
    until("a critical alarm", || (two.alarm()?["severity"] == "critical").then_some(()));
    two.bring_back();
    two.wait_for("ok");
    // It is there a moment before it takes mail.
    until("it takes mail again", || (two.try_deliver(&[EVE], 1000) == 0).then_some(()));
    two.assert_all_there();
}

// row 115: a user moves to another partition with everything, flags, UIDs and deleted mailboxes too, while mail comes in; nothing stays where he
// lay, and the partition that nobody uses any more can be removed.
#[test]
fn a_user_moves_to_another_partition_while_mail_comes_in() {
    let (mut two, daemon) = Two::new("");
    for n in 0..20 {
        two.deliver(&[EVE], 300 + n);
    }
    two.deliver(&[EVE], 100_000);
    two.store.ctl(&["message", "flags", EVE, "3", "--add", "\\Flagged", "--add", "$Work"]).expect(0);
    two.store.ctl(&["mailbox", "create", "user/eve/Old"]).expect(0);
    two.store.ctl_with(&["message", "deliver", "user/eve/Old"], Some(b"Subject: old\r\n\r\n")).expect(0);
    two.store.ctl(&["mailbox", "delete", "user/eve/Old", "--yes"]).expect(0);
    let before = two.store.json(&["message", "list", EVE]);
    two.store.ctl(&["user", "move", "nobody", "--to", "primary"]).expect(67);
    two.store.ctl(&["user", "move", "eve", "--to", "nowhere"]).expect(68);
    two.store.ctl(&["partition", "remove", "far"]).expect(75);
    let moving = two.store.begin(&["user", "move", "eve", "--to", "primary"]);
    for n in 0..10 {
        two.deliver(&[EVE], 500 + n);
    }
    crate::harness::Run::of(moving).expect(0);
    assert_eq!(two.store.json(&["user", "show", "eve"])["partition"], "primary");
    two.assert_all_there();
    let after = two.store.json(&["message", "list", EVE]);
    assert_eq!(after.as_array().unwrap()[..21], before.as_array().unwrap()[..], "UIDs, flags, dates");
    let files = run_find(&two.far);
    assert!(!files.contains(".msg") && !files.contains("store.idx"), "{files}");
    two.store.ctl(&["user", "move", "eve", "--to", "primary"]).expect(0);
    two.store.ctl(&["mailbox", "undelete", "user/eve/Old"]).expect(0);
    assert_eq!(two.store.json(&["message", "list", "user/eve/Old"]).as_array().unwrap().len(), 1);
    two.store.ctl(&["partition", "remove", "far"]).expect(0);
    daemon.kill();
    let _daemon = two.start();
    two.assert_all_there();
}

// row 90: a partition that was added and removed while the daemon ran is removed also behind a restart, however the daemon ended.
#[test]
fn a_partition_that_was_removed_does_not_come_back() {
    let store = TestStore::new();
    let mut daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    let place = store.beside("px");
    store.ctl(&["partition", "add", "px", place.to_str().unwrap()]).expect(0);
    store.ctl(&["partition", "remove", "px"]).expect(0);
    for how in ["kill", "stop", "gone"] {
        match how {
            "kill" => daemon.kill(),
            _ => assert_eq!(daemon.stop(), 0),
        }
        if how == "gone" {
            std::fs::remove_dir_all(&place).unwrap();
        }
        daemon = store.start();
        assert_eq!(store.json(&["partition", "list"]).as_array().unwrap().len(), 1, "{how}");
        let run = store.ctl(&["reconstruct", "-m"]);
        assert!(run.status == 0 && !format!("{run:?}").contains("px"), "{how}: {run:?}");
        assert_eq!(store.json(&["status"])["alarms"], json!([]), "{how}");
    }
    // And its name is free.
    store.ctl(&["partition", "add", "px", place.to_str().unwrap()]).expect(0);
}

fn run_find(dir: &std::path::Path) -> String {
    crate::harness::run(std::process::Command::new("find").arg(dir), None).out
}

// rows 46, 115: a user who has moved, and a database that has gone back to before: the partition where he is says so, and he is there again with
// everything, each message once
#[test]
fn a_user_who_moved_is_found_where_he_is() {
    let (mut two, daemon) = Two::new("");
    for n in 0..5 {
        two.deliver(&[EVE], 300 + n);
    }
    two.store.ctl(&["mailbox", "create", "user/eve/Empty"]).expect(0);
    two.checkpoint();
    let taken = two.store.json(&["snapshot", "take", "--verify"]);
    let from = PathBuf::from(taken["path"].as_str().unwrap());
    two.store.ctl(&["user", "move", "eve", "--to", "primary"]).expect(0);
    let before = two.store.json(&["message", "list", EVE]);
    assert_eq!(daemon.stop(), 0);
    // The log goes, and the database is that of the snapshot.
    std::fs::rename(two.store.data.join("mboxlist"), two.store.beside("mboxlist.old")).unwrap();
    std::fs::create_dir(two.store.data.join("mboxlist")).unwrap();
    for entry in std::fs::read_dir(&from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), two.store.data.join("mboxlist").join(entry.file_name())).unwrap();
    }
    let _daemon = two.start();
    let partition = |store: &TestStore| store.json(&["user", "show", "eve"])["partition"].clone();
    until("he is where he was", || (partition(&two.store) == "primary").then_some(()));
    two.store.ctl(&["reconstruct"]).expect(0);
    let after = two.store.json(&["message", "list", EVE]);
    let told = |list: &Value| {
        list.as_array().unwrap().iter().map(|m| (m["uid"].clone(), m["digest"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(told(&after), told(&before));
    two.assert_all_there();
    let names = two.store.json(&["mailbox", "list", "user/eve/*"]);
    let names: Vec<_> = names
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (m["name"].as_str().unwrap(), m["partition"].as_str().unwrap()))
        .collect();
    assert_eq!(names, [("user/eve/Empty", "primary"), ("user/eve/INBOX", "primary")]);
    two.store.ctl(&["check", "--all", "--deep"]).expect(0);
}

// row 111: a partition that the configuration names no more is away like one whose disk is: what comes for it waits.
#[test]
fn a_partition_that_lost_its_section_loses_nothing() {
    let far = "far = { path = \"FAR\" }\n";
    let mut store = TestStore::new();
    store.small_logs = false;
    let (file, place) = (store.beside("two.toml"), store.beside("far"));
    let configure = |sections: &str| {
        let sections = sections.replace("FAR", place.to_str().unwrap());
        std::fs::write(&file, format!("[log]\nsegment_size = \"1MiB\"\n[partition]\nprimary = {{}}\n{sections}"))
            .unwrap();
    };
    configure(far);
    let two = Two { far: place.clone(), store, sent: Vec::new() };
    let mut two = two;
    let daemon = two.start();
    two.store.ctl(&["user", "add", "joe"]).expect(0);
    two.store.ctl(&["user", "add", "eve", "--partition", "far"]).expect(0);
    two.deliver(&[EVE, JOE], 4000);
    two.checkpoint();
    assert_eq!(daemon.stop(), 0);
    configure("");
    let daemon = two.start();
    let state = two.show();
    assert_eq!(
        (&state["state"], &state["why"]),
        (&json!("missing"), &json!("no path is configured for it")),
        "{state}"
    );
    let alarms = || two.store.json(&["status"])["alarms"].to_string();
    until("the alarm", || alarms().contains("partition far").then_some(()));
    for n in 0..4 {
        two.deliver(&[EVE, JOE], 500 + n);
        two.deliver(&[EVE], 90_000);
        two.checkpoint();
    }
    assert!(two.show()["behind_lsn"].is_u64(), "{}", two.show());
    assert_eq!(daemon.stop(), 0);
    configure(far);
    let daemon = two.start();
    two.wait_for("ok");
    two.assert_all_there();
    assert_eq!(daemon.stop(), 0);
}

// rows 2, 111: `health` said ready while no partition could be used. It says what cannot, and is not ready where nothing can.
#[test]
fn a_store_without_a_place_for_mail_is_not_healthy() {
    let (two, daemon) = Two::new("");
    let healthy = |value: u8| {
        until("the metrics say so", || {
            let text = two.store.ctl(&["metrics"]).expect(0).out;
            text.contains(&format!("\nstoredd_healthy {value}\n")).then_some(())
        });
    };
    assert_eq!(two.store.ctl(&["health"]).expect(0).out, "");
    healthy(1);
    two.take_away();
    let partly = until("it says which cannot be used", || {
        Some(two.store.ctl(&["health"])).filter(|run| run.out.contains("partition far cannot be used: missing"))
    });
    assert_eq!(partly.status, 0, "{partly:?}");
    let json = two.store.json(&["health"]);
    assert_eq!((&json["done"], &json["unusable"][0]["partition"]), (&json!(true), &json!("far")), "{json}");
    assert_eq!(two.store.json(&["health", "--wait", "5s"]), json);
    healthy(1);

    let (primary, aside) = (two.store.data.join("partition/primary"), two.store.beside("primary"));
    std::fs::rename(&primary, &aside).unwrap();
    std::fs::create_dir(&primary).unwrap();
    let refused = until("it is not ready", || Some(two.store.ctl(&["health"])).filter(|run| run.status == 69));
    for word in ["no partition can be used", "primary: missing", "far: missing", "partition list"] {
        assert!(refused.err.contains(word), "{refused:?}");
    }
    let json = two.store.ctl(&["--json", "health"]).expect(69).json();
    assert_eq!(json["error"]["code"], "unavailable", "{json}");
    assert!(json["error"]["message"].as_str().unwrap().contains("primary: missing"), "{json}");
    let waited = two.store.ctl(&["health", "--wait", "1s"]).expect(69);
    assert!(waited.err.contains("no partition can be used"), "{waited:?}");
    healthy(0);
    assert_eq!(two.store.json(&["status"])["state"], "ready", "what can be done is done");

    std::fs::remove_dir(&primary).unwrap();
    std::fs::rename(&aside, &primary).unwrap();
    two.bring_back();
    two.store.ctl(&["health", "--wait", "60s"]).expect(0);
    healthy(1);
    // A damaged identity is no partition either.
    for root in [&primary, &two.far] {
        let bytes = std::fs::read(root.join("PARTITION")).unwrap();
        std::fs::write(root.join("PARTITION"), &bytes[..100]).unwrap();
    }
    until("it is not ready", || (two.store.ctl(&["health"]).status == 69).then_some(()));
    drop(daemon);
}
