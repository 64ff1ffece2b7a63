//! What a start had to give up, in figures and words that are true.

use crate::harness::{TestStore, until};
use crate::reconstruct::{adopted, fill, named, remove, text};
use serde_json::{Value, json};
use std::time::Duration;

/// Waits until the log ends in a seal and the control file notes it: from then on everybody knows how far it went.
fn rested(store: &TestStore) {
    until("a seal", || {
        let dump = store.json(&["log", "dump"]);
        (dump.as_array().unwrap().last().unwrap()["kind"] == "seal").then_some(())
    });
    std::thread::sleep(Duration::from_secs(1));
}

// rows 28, I8: a loss was told as "1 transaction" where nobody knows how many there were
#[test]
fn how_many_transactions_were_lost_is_said_as_far_as_it_is_known() {
    let store = TestStore::new();
    let daemon = store.start();
    for n in 0..20 {
        store.ctl(&["user", "add", &format!("u{n}")]).expect(0);
    }
    assert_eq!(daemon.stop(), 0);
    remove(&store, &["database", "log"]);
    let unknown = "an unknown number of transactions";
    let planned = store.storedd(&["recover", "--accept-loss", "--dry-run", "--json"]).json();
    assert_eq!(
        (&planned["lost"]["transactions"], &planned["lost"]["transactions_at_least"]),
        (&json!(0), &json!(true))
    );
    let daemon = store.start();
    let report = store.json(&["recover", "--report"]);
    let lost = &report["lost"];
    assert_eq!((&lost["transactions"], &lost["transactions_at_least"]), (&json!(0), &json!(true)), "{report}");
    let range = format!("LSN 1 to {}, {unknown}", lost["to_lsn"]);
    let words = store.ctl(&["recover", "--report"]).expect(0).out;
    assert!(words.contains(&range), "{words}");
    let status = store.json(&["status"])["last_start"].as_str().unwrap().to_owned();
    assert!(status.contains(&range), "{status}");
    assert_eq!(daemon.stop(), 0);
}

// rows 28, 39: the damaged record is one of those that are gone, and those behind it can be counted: there are no fewer
#[test]
fn of_a_damaged_log_the_readable_transactions_are_the_least_that_is_lost() {
    let store = TestStore::new();
    let daemon = store.start();
    for n in 0..20 {
        store.ctl(&["user", "add", &format!("u{n}")]).expect(0);
    }
    rested(&store);
    daemon.kill();
    let log = store.data.join("mboxlist/log.0000000001");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[4096 + 700] ^= 0x40;
    std::fs::write(&log, &bytes).unwrap();
    let reset = store.storedd(&["log", "reset", "--dry-run"]);
    let plan = store.storedd(&["log", "reset", "--dry-run", "--json"]).json();
    let least = plan["lost"]["transactions"].as_u64().unwrap();
    assert!(least > 10 && plan["lost"]["transactions_at_least"] == true, "{plan}");
    assert!(reset.out.contains(&format!(", at least {least} transactions\n")), "{}", reset.out);
    let done = store.storedd(&["recover", "--accept-loss", "--yes"]).expect(2);
    assert!(done.out.contains(&format!(", at least {least} transactions,")), "{}", done.out);
    let daemon = store.start();
    assert_eq!(daemon.stop(), 0);
}

/// How many mailboxes there are, and messages in them.
fn held(store: &TestStore) -> (u64, u64) {
    let mailboxes = store.json(&["mailbox", "list"]);
    let mailboxes = mailboxes.as_array().unwrap();
    (mailboxes.len() as u64, mailboxes.iter().map(|one| one["messages"].as_u64().unwrap()).sum())
}

/// Mailboxes and messages that came back, as the report of the last start has it, and what did not.
fn back(report: &Value) -> ((u64, u64), Vec<String>) {
    let back = &report["came_back"];
    let not: Vec<String> = back["not_back"]
        .as_array()
        .unwrap_or_else(|| panic!("{report}"))
        .iter()
        .map(|s| s.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(back["not_back_total"], not.len(), "{report}");
    ((back["mailboxes"].as_u64().unwrap(), back["messages"].as_u64().unwrap()), not)
}

/// What `recover --report`, `status` and the alarm say.
fn told(store: &TestStore) -> (String, String, String) {
    let words = store.ctl(&["recover", "--report"]).expect(0).out;
    let status = store.json(&["status"])["last_start"].as_str().unwrap().to_owned();
    let alarm = until("the alarm", || {
        let status = store.json(&["status"]);
        let cause = |alarm: &Value| alarm["cause"].as_str().unwrap().to_owned();
        let is_it = |alarm: &&Value| alarm["name"] == "repair_recommended" && cause(alarm).contains("back");
        status["alarms"].as_array().unwrap().iter().find(is_it).map(cause)
    });
    (words, status, alarm)
}

// rows 45, 48, I8: database and log were gone, all came back from the partitions, and report, status and alarm went on saying that it was lost
#[test]
fn a_loss_from_which_all_came_back_is_told_so() {
    let store = TestStore::new();
    let daemon = store.start();
    fill(&store);
    let before = held(&store);
    assert_eq!(daemon.stop(), 0);
    remove(&store, &["database", "log"]);
    let daemon = store.start();
    adopted(&store);
    assert_eq!(held(&store), before);
    let report = store.json(&["recover", "--report"]);
    assert_eq!(back(&report), (before, Vec::new()), "{report}");
    assert_eq!(report["came_back"]["at_least"], false, "{report}");
    let steps = report["next_steps"].to_string();
    assert!(!steps.contains("reconstruct") && steps.contains("--accept-loss"), "{steps}");
    let (words, status, alarm) = told(&store);
    let counts = format!("{} mailboxes, {} messages", before.0, before.1);
    let nothing = "nothing else is known to be missing";
    assert!(words.contains(&counts) && words.contains("nothing that is known"), "{words}");
    assert!(status.contains(&counts) && status.contains(nothing) && !status.contains("LOST"), "{status}");
    assert!(alarm.contains(&counts) && alarm.contains(nothing), "{alarm}");
    // It is as true behind a restart, and of a stopped store.
    assert_eq!(daemon.stop(), 0);
    let reports = store.storedd(&["recover", "--report"]).expect(0).out;
    assert!(reports.contains(nothing), "{reports}");
    let daemon = store.start();
    assert_eq!(store.json(&["recover", "--report"])["lost"], Value::Null);
    assert_eq!(back(&store.json(&["recover", "--report", "--last", "2"])[1]), (before, Vec::new()));
    assert_eq!(daemon.stop(), 0);
}

// rows 45, 48, I8: of what came back only in part the rest is named, and no more
#[test]
fn of_a_loss_from_which_most_came_back_the_rest_is_named() {
    let store = TestStore::new();
    let daemon = store.start();
    fill(&store);
    store.ctl_with(&["message", "deliver", "user/ann/INBOX"], Some(&text(1))).expect(0);
    store.ctl(&["checkpoint"]).expect(0);
    let before = held(&store);
    store.ctl(&["user", "add", "late"]).expect(0);
    rested(&store);
    daemon.kill();
    let mut manifests = Vec::new();
    named(&store.data.join("partition/primary"), &["manifest"], &mut manifests);
    let of_ann = manifests.iter().find(|path| path.to_string_lossy().contains("=ann")).unwrap();
    std::fs::remove_file(of_ann).unwrap();
    remove(&store, &["database", "log"]);
    let daemon = store.start();
    adopted(&store);
    let report = store.json(&["recover", "--report"]);
    let (came, not) = back(&report);
    assert!(came.1 == before.1 && came.0 >= before.0 - 1, "{report}");
    assert!(not.iter().any(|what| what.starts_with("records of LSN ")), "{not:?}");
    assert!(not.iter().any(|what| what.contains("limits, subscriptions") && what.contains("ann")), "{not:?}");
    let (words, status, alarm) = told(&store);
    for what in &not {
        assert!(
            words.contains(what) && status.contains(what) && alarm.contains(what),
            "{what}: {words} {status} {alarm}"
        );
    }
    assert_eq!(daemon.stop(), 0);
}
