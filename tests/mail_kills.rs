//! SIGKILL of the real daemon under concurrent delivery through both doors, flags, copies, moves, expunges, renames and changes of
//! quotas, with what was acknowledged kept outside it. // row 18, row 20, row 21

use crate::harness::{TestStore, total};
use crate::ledger::{Ledger, Load, begin, check};
use std::time::Duration;

/// Small segments and checkpoints all the time, so that ends fall into rolls and checkpoints too.
pub const OFTEN: &str =
    "[log]\nsegment_size = \"1MiB\"\n[checkpoint]\noverlay_bytes = \"1MiB\"\nlog_bytes = \"1MiB\"\n";

// rows 18, 20, 21, 46, 117; I9. STOREDD_KILLS: how often.
#[test]
fn no_message_is_lost_when_the_daemon_is_killed() {
    let rounds: usize = std::env::var("STOREDD_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(10);
    let store = TestStore::new();
    let config = store.beside("storedd.toml");
    std::fs::write(&config, OFTEN).unwrap();
    let args = ["--config", config.to_str().unwrap()];
    let mut daemon = store.start_with(&args);
    let mut all: Vec<Ledger> = Vec::new();
    let (mut open, mut files) = (0, 0);
    for round in 0..rounds {
        let ledgers = begin(&store, round);
        let load = Load::start(&store, &daemon, ledgers, round);
        std::thread::sleep(Duration::from_millis(40 + 37 * (round as u64 % 11)));
        daemon.kill();
        let mut ledgers = load.ended();
        open += ledgers.iter().filter(|ledger| ledger.open.is_some()).count();
        daemon = store.start_with(&args);
        files += check(&store, &daemon.socket, &mut ledgers, &format!("round {round}"));
        let report = store.json(&["recover", "--report"]);
        assert_eq!(report["lost"], serde_json::Value::Null, "{report}");
        all.extend(ledgers);
    }
    assert_eq!(daemon.stop(), 0);
    store.storedd(&["test", "--config", config.to_str().unwrap()]).expect(0);
    let daemon = store.start_with(&args);
    assert_eq!(check(&store, &daemon.socket, &mut all, "at the end"), files);
    let done: usize = all.iter().map(|ledger| ledger.done).sum();
    assert!(files > 0 && done > files / 2, "{done} {files}");
    total(&format!(
        "kills under mail: {rounds}, {done} acknowledged, {open} undecided, {files} messages there, 0 lost, 0 twice, 0 orphans"
    ));
}
