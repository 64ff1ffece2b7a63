//! Numbers as Prometheus and `stats` show them; the listener that serves them; the dashboard and the rules that use them.

use crate::alarms::configured;
use crate::harness::lmtp::Lmtp;
use crate::harness::{Daemon, PATIENCE, TestStore, until};
use proto::{Command, Request};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Samples of an exposition: the text before the number, and the number. Panics where it is not one.
fn parsed(text: &str) -> Vec<(String, f64)> {
    let (mut family, mut kind) = (String::new(), String::new());
    let mut seen = std::collections::BTreeSet::new();
    let mut samples = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(seen.insert(name.to_owned()) && help.ends_with('.'), "{line}");
            family = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, word) = rest.split_once(' ').unwrap();
            assert!(name == family && ["counter", "gauge", "histogram"].contains(&word), "{line}");
            assert_eq!(word == "counter", name.ends_with("_total"), "{line}");
            kind = word.to_owned();
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let bare = name.split('{').next().unwrap();
            let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(suffixes.iter().any(|suffix| bare == format!("{family}{suffix}")), "{line} in {family}");
            assert!(bare.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{line}");
            samples.push((name.to_owned(), value.parse().unwrap_or_else(|e| panic!("{line}: {e}"))));
        }
    }
    assert_eq!(samples.iter().map(|(name, _)| name).collect::<std::collections::BTreeSet<_>>().len(), samples.len());
    samples
}

/// The number of a sample.
pub fn value(samples: &[(String, f64)], name: &str) -> f64 {
    samples.iter().find(|(found, _)| found == name).unwrap_or_else(|| panic!("no {name}")).1
}

/// Every sample there is.
pub fn metrics(store: &TestStore) -> Vec<(String, f64)> {
    parsed(&store.ctl(&["metrics"]).expect(0).out)
}

// row B15: counters, gauges and histograms hang together, and say what happened.
#[test]
fn metrics_say_what_happened() {
    let store = TestStore::new();
    let textfile = store.beside("storedd.prom");
    let config = configured(&store, &format!("[metrics]\ntextfile = {textfile:?}\n"));
    let _daemon = store.start_with(&["--config", &config]);
    for user in ["joe", "ann", "ann"] {
        drop(store.ctl(&["user", "add", user]));
    }
    store.ctl(&["checkpoint"]).expect(0);
    let samples = until("disks are seen", || {
        let samples = metrics(&store);
        samples.iter().any(|(name, _)| name == "storedd_disk_free_bytes{place=\"log\"}").then_some(samples)
    });
    let get = |name: &str| value(&samples, name);
    assert_eq!(get("storedd_state{state=\"ready\"}"), 1.0);
    assert_eq!(get("storedd_state{state=\"recovering\"}"), 0.0);
    // Two users, and the partition.
    assert_eq!(get("storedd_transactions_total{outcome=\"committed\"}"), 3.0);
    assert_eq!(get("storedd_transactions_total{outcome=\"refused\"}"), 1.0);
    assert_eq!(get("storedd_refusals_total{code=\"exists\"}"), 1.0);
    assert_eq!(get("storedd_requests_total{verb=\"change\"}"), 3.0);
    assert_eq!(get("storedd_checkpoints_total{outcome=\"done\"}"), 1.0);
    assert!(get("storedd_checkpoint_lsn") > 0.0 && get("storedd_checkpoint_lsn") <= get("storedd_applied_lsn"));
    assert_eq!(get("storedd_checkpoint_behind_seconds"), 0.0);
    assert_eq!(get("storedd_partition_state{partition=\"primary\",state=\"ok\"}"), 1.0);
    assert!(get("storedd_disk_free_bytes{place=\"data\"}") <= get("storedd_disk_size_bytes{place=\"data\"}"));
    for family in ["commit_duration_seconds", "log_sync_duration_seconds", "checkpoint_duration_seconds"] {
        let bucket = format!("storedd_{family}_bucket{{le=\"");
        let buckets: Vec<f64> = samples.iter().filter(|(n, _)| n.starts_with(&bucket)).map(|(_, v)| *v).collect();
        assert!(buckets.len() > 10 && buckets.is_sorted(), "{family}: {buckets:?}");
        let count = get(&format!("storedd_{family}_count"));
        assert!(count > 0.0 && buckets.last() == Some(&count), "{family}");
        assert!(get(&format!("storedd_{family}_sum")) > 0.0, "{family}");
    }
    let written = until("the textfile is written", || std::fs::read_to_string(&textfile).ok());
    assert_eq!(value(&parsed(&written), "storedd_state{state=\"poisoned\"}"), 0.0);
}

// row B10: one sync serves all who deliver at that time, across users; each step of a commit has its histogram.
#[test]
fn one_sync_serves_many_deliverers() {
    const DELIVERERS: usize = 16;
    const MESSAGES: usize = 25;
    let store = TestStore::new();
    let _daemon = store.start();
    (0..DELIVERERS).for_each(|n| _ = store.ctl(&["user", "add", &format!("u{n}")]).expect(0));
    let counts = || {
        let samples = metrics(&store);
        ["plan", "log_sync", "commit"].map(|step| value(&samples, &format!("storedd_{step}_duration_seconds_count")))
    };
    let before = counts();
    std::thread::scope(|scope| {
        for n in 0..DELIVERERS {
            let mut session = Lmtp::unix(&store.data.join("lmtp.sock"));
            scope.spawn(move || {
                for _ in 0..MESSAGES {
                    assert_eq!(session.deliver(&[&format!("u{n}")], b"x\r\n"), ["250 2.0.0 stored"]);
                }
            });
        }
    });
    let messages = (DELIVERERS * MESSAGES) as f64;
    let [plans, syncs, commits] = std::array::from_fn(|step| counts()[step] - before[step]);
    assert!(plans > 0.0 && commits >= messages, "{plans} plans, {commits} commits");
    assert!(syncs < messages, "{syncs} syncs for {messages} messages");
}

/// What a listener answers to these bytes; `None` if it closed without an answer.
fn asked(address: &str, request: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer).filter(|answer| !answer.is_empty())
}

fn address(daemon: &Daemon) -> String {
    let log = daemon.log();
    let line = log.lines().rfind(|line| line.contains("event=metrics ")).unwrap_or_else(|| panic!("{log}"));
    line.split("address=").nth(1).unwrap().split(' ').next().unwrap().to_owned()
}

// row B15: the listener serves one thing, and clients that dribble keep nobody out.
#[test]
fn the_metrics_listener_serves_scrapes_and_survives_the_rest() {
    let store = TestStore::new();
    let config = configured(&store, "[metrics]\nlisten = \"127.0.0.1:0\"\n");
    let daemon = store.start_with(&["--config", &config]);
    let address = address(&daemon);
    let scrape = || {
        let answer = asked(&address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("text/plain; version=0.0.4"), "{head}");
        value(&parsed(body), "storedd_connections")
    };
    scrape();
    assert!(asked(&address, b"GET /etc/passwd HTTP/1.1\r\n\r\n").unwrap().starts_with("HTTP/1.1 404"));
    assert!(asked(&address, b"POST /metrics HTTP/1.1\r\n\r\n").unwrap().starts_with("HTTP/1.1 405"));
    let long = [b"GET /metrics HTTP/1.1\r\n".as_slice(), &[b'x'; 20_000]].concat();
    assert!(asked(&address, &long).is_none_or(|answer| answer.starts_with("HTTP/1.1 431")));

    let mut slow: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(&address).unwrap()).collect();
    for byte in b"GET /metr" {
        for stream in &mut slow {
            // The oldest have been closed to make room.
            drop(stream.write_all(&[*byte]));
        }
        let begun = Instant::now();
        scrape();
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
    store.ctl(&["health"]).expect(0);
    drop(slow);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_listener_that_others_reach_must_be_asked_for() {
    let store = TestStore::new();
    let check = |text: &str| {
        let config = configured(&store, text);
        store.storedd(&["--config", &config, "--check-config"])
    };
    let refused = check("[metrics]\nlisten = \"0.0.0.0:9464\"\n").expect(78);
    assert!(refused.err.contains("listen_anywhere"), "{refused:?}");
    check("[metrics]\nlisten = \"0.0.0.0:9464\"\nlisten_anywhere = true\n").expect(0);
    check("[metrics]\nlisten = \"localhost\"\n").expect(78);
    check("[metrics]\ntextfile = \"/tmp/x.txt\"\n").expect(78);
    check("[alarm]\ncommand = \"mail.sh\"\n").expect(78);
    check("[disk]\nbulk_reserve = \"1MiB\"\n").expect(78);
    // Without a reserve a disk that is full once is never worked off.
    check("[disk]\nreserve = \"0B\"\n").expect(78);
    check("[disk]\nreserve = \"1MiB\"\n").expect(0);
}

/// Names of metrics in a text.
fn names(text: &str) -> std::collections::BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("storedd_")).map(str::to_owned).collect()
}

// row B15: dashboard and alert rules speak of numbers that there are.
#[test]
fn dashboard_and_rules_name_numbers_that_there_are() {
    let store = TestStore::new();
    let _daemon = store.start();
    let exposition = store.ctl(&["metrics"]).expect(0).out;
    let known: Vec<&str> = exposition.lines().filter_map(|l| l.strip_prefix("# HELP ")?.split(' ').next()).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring");
    for file in ["grafana-dashboard.json", "alert-rules.yaml", "README.md"] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let used = names(&text);
        assert!(used.len() > 3, "{file} uses {used:?}");
        for name in used {
            let bare = ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s)).unwrap_or(&name);
            assert!(known.contains(&bare) || known.contains(&name.as_str()), "{file}: {name}");
        }
    }
    let dashboard: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("grafana-dashboard.json")).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.iter().all(|panel| panel["targets"].as_array().is_some_and(|t| !t.is_empty())), "{panels:?}");
    let rules = folder.join("alert-rules.yaml");
    match std::process::Command::new("promtool").args(["check", "rules"]).arg(&rules).output() {
        Ok(out) => assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr)),
        Err(e) => eprintln!("not checked by promtool: {e}"),
    }
    let mut promtool = std::process::Command::new("promtool");
    let promtool = promtool.args(["check", "metrics"]).stdin(std::process::Stdio::piped());
    if let Ok(mut child) = promtool.stdout(std::process::Stdio::piped()).spawn() {
        child.stdin.take().unwrap().write_all(exposition.as_bytes()).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    }
}

// rows 105, 106, 109: where log, checkpoint and waiting changes stand.
#[test]
fn stats_say_where_everything_stands() {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    let mut client = daemon.client();
    let command = Command::MailboxCreate { name: "user/joe/a".to_owned(), partition: None };
    client.call(&Request::Change { command, dry_run: false }).unwrap();
    // A seal may come between the two.
    let stats = until("both say the same", || {
        let stats = store.json(&["stats"]);
        (stats["last_lsn"] == store.json(&["status"])["applied_lsn"]).then_some(stats)
    });
    assert_eq!(stats["recovery_begins"], "log.0000000001");
    let last = stats["last_lsn"].as_u64();
    assert_eq!((&stats["oldest_wait"], &stats["queue"]), (&Value::Null, &0.into()));
    assert_eq!(stats["log_segments"], 1);
    assert!(stats["log_segment_bytes"].as_u64().unwrap() >= 1 << 20);
    store.ctl(&["checkpoint"]).expect(0);
    let stats = store.json(&["stats"]);
    assert!(stats["checkpoint_lsn"].as_u64() >= last, "{stats}");
    assert_eq!(stats["overlay_entries"], 0);
    let shown = store.ctl(&["stats"]).expect(0).out;
    for line in ["last LSN:", "at work:", "log kept:", "checkpoints:", "commit:"] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
}

// row 112: what is listed, read and counted again can be limited to one mailbox, user, pattern or partition, and numbers name the place.
#[test]
fn one_mailbox_one_user_one_partition() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["partition", "add", "far", store.beside("far").to_str().unwrap()]).expect(0);
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["user", "add", "ann", "--partition", "far"]).expect(0);
    store.ctl(&["mailbox", "create", "user/ann/A"]).expect(0);
    for (question, wanted, other) in [
        (&["mailbox", "list", "user/ann*"][..], "user/ann/A", "user/joe"),
        (&["user", "list", "j*"], "joe", "ann"),
        (&["log", "dump", "--mailbox", "user/ann/A"], "user/ann/A", "user/ann/INBOX"),
        (&["log", "dump", "--user", "joe"], "user/joe/INBOX", "ann"),
    ] {
        let said = store.ctl(question).expect(0).out;
        assert!(said.contains(wanted) && !said.contains(other), "{question:?}: {said}");
    }
    assert_eq!(store.json(&["partition", "show", "far"])["mailboxes"], 2);
    store.ctl(&["quota", "recalc", "ann"]).expect(0);
    store.ctl(&["quota", "recalc", "nobody"]).expect(67);
    let place = "storedd_disk_free_bytes{place=\"partition far\"}";
    until("the number of the place", || metrics(&store).iter().any(|(name, _)| name == place).then_some(()));
}
