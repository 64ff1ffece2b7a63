//! The goals of `quality.md`, section 1, against what was measured. A goal whose measurements were left out is left out.

use crate::report::{Goal, Key, Report};
use crate::sustained::Sustained;

/// Key of a measurement of the mix of changes.
fn key(device: &'static str, form: &'static str, clients: usize, depth: usize, engine: &'static str) -> Key {
    Key { device, form, mix: "mix", clients, depth, engine }
}

/// Notes a ratio as a goal, if both of it were measured.
fn ratio(report: &mut Report, name: &'static str, bound: f64, of: &Key, over: &Key) {
    let value = report.ratio(of, over);
    if value > 0.0 {
        let in_flight = if of.depth > 1 { format!(" x {} in flight", of.depth) } else { String::new() };
        let place = if of.form == over.form { String::new() } else { format!(" {}", over.form) };
        let what = format!(
            "{}: {} {}{in_flight} {}, {} over {}{place}",
            of.device,
            of.clients,
            if of.clients == 1 { "client" } else { "clients" },
            of.form,
            of.engine,
            over.engine
        );
        report.goals.push(Goal { name, what, value, bound, at_least: true, unit: "x" });
    }
}

/// Ratios of commits: G1, G2, G4, G5.
pub fn commits(report: &mut Report, device: &'static str) {
    let socket = |clients, depth, engine| key(device, "socket", clients, depth, engine);
    let callback = |engine| key(device, "callback", 64, 1, engine);
    let threads = |clients, engine| key(device, "threads", clients, 1, engine);
    ratio(report, "G1", 15.0, &socket(64, 1, "storedd"), &threads(64, "sqlite-conn"));
    ratio(report, "G2", 0.6, &socket(64, 1, "storedd"), &socket(64, 1, "raw"));
    for (peer, bound) in [("raw", 0.6), ("sqlite-group", 3.5), ("lmdb-group", 2.0), ("fjall-group", 1.1)] {
        ratio(report, "G2", bound, &callback("storedd"), &callback(peer));
    }
    ratio(report, "G4", 0.75, &socket(256, 1, "storedd"), &socket(256, 1, "raw"));
    ratio(report, "G4", 0.5, &socket(64, 8, "storedd"), &socket(64, 8, "raw"));
    ratio(report, "G5", 0.9, &threads(1, "storedd"), &threads(1, "raw"));
    ratio(report, "G5", 0.85, &threads(1, "storedd"), &threads(1, "sqlite-conn"));
    ratio(report, "G5", 0.9, &socket(1, 1, "storedd"), &socket(1, 1, "raw"));
}

/// Reads: G13.
pub fn reads(report: &mut Report, device: &'static str) {
    let read = |mix, engine| crate::reads::key(device, mix, engine);
    let lookup = |engine| Key { mix: "lookup", ..key(device, "socket", 64, 1, engine) };
    ratio(report, "G13", 0.9, &lookup("storedd"), &lookup("echo"));
    ratio(report, "G13", 0.45, &read("lookup", "storedd"), &read("lookup", "lmdb-group"));
    ratio(report, "G13", 1.8, &read("lookup", "storedd"), &read("lookup", "sqlite-conn"));
    let listing = report.medians().get(&read("list-all", "storedd")).map(|m| m.rate[0]);
    if let Some(value) = listing {
        let what = format!("{device}: listing all mailboxes in process");
        report.goals.push(Goal { name: "G13", what, value, bound: 1e6, at_least: true, unit: "/s" });
    }
}

/// The sustained run: G6, G7.
pub fn sustained(report: &mut Report, device: &'static str, storedd: &Sustained, raw: Option<&Sustained>) {
    let mut goal = |name, what: &str, value, bound, at_least, unit| {
        report.goals.push(Goal { name, what: format!("{device}: {what}"), value, bound, at_least, unit });
    };
    let [p50, p99, ..] = storedd.latency_us;
    goal("G6", "sustained, 64 clients, p99 over p50", p99 / p50, 5.0, false, "x");
    goal("G6", "the same, longest answer during a checkpoint", storedd.slowest_in_checkpoint, 50.0, false, "ms");
    if let Some(raw) = raw {
        goal(
            "G7",
            "sustained, drain counted, readers running, storedd over raw",
            storedd.rate / raw.rate,
            0.5,
            true,
            "x",
        );
    }
}

/// What an engine counted while it committed: G8.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counted {
    /// Groups written.
    pub groups: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes appended to the log.
    pub log_bytes: u64,
    /// Payload bytes among them.
    pub payload_bytes: u64,
    /// Syncs of log segments.
    pub log_syncs: u64,
}

impl Counted {
    /// Adds what was counted between two moments.
    pub fn add(&mut self, before: Counted, after: Counted) {
        self.groups += after.groups - before.groups;
        self.records += after.records - before.records;
        self.log_bytes += after.log_bytes - before.log_bytes;
        self.payload_bytes += after.payload_bytes - before.payload_bytes;
        self.log_syncs += after.log_syncs - before.log_syncs;
    }
}

/// Groups, syncs and bytes of the runs with 64 clients and callbacks: G8.
pub fn counted(report: &mut Report, device: &'static str) {
    for engine in ["storedd", "raw"] {
        let Some(sum) = report.counted.get(&(device, engine)).copied() else { continue };
        let ratio = |a: u64, b: u64| a as f64 / b.max(1) as f64;
        let group = ratio(sum.records, sum.groups) / 64.0;
        let (syncs, bytes) = (ratio(sum.log_syncs, sum.groups), ratio(sum.log_bytes, sum.payload_bytes));
        if engine == "raw" {
            report.figure(format!("{device}, raw, 64 clients: group over clients"), group, "x");
            continue;
        }
        let mut goal = |what: &str, value, bound, at_least, unit| {
            let what = format!("{device}: {engine}, 64 clients: {what}");
            report.goals.push(Goal { name: "G8", what, value, bound, at_least, unit });
        };
        // A group that begins a segment has two.
        goal("syncs of the log per group", syncs, 1.01, false, "");
        goal("log bytes over payload bytes", bytes, 1.15, false, "x");
        goal("group over clients", group, 0.5, true, "x");
    }
}
