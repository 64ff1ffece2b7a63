//! What a start had to give up, in figures and words that are true.

use crate::harness::{TestStore, until};
use crate::reconstruct::remove;
use serde_json::json;
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
    assert!(status.contains(&format!("LOST {range}")), "{status}");
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
