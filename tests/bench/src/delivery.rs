//! Delivery through LMTP, beside Cyrus and Dovecot: real servers with durable settings, on one disk, the same client, rounds
//! interleaved.
//!
//! # Operation
//! A hundred users get mail, each a first message before anything is counted. Of storedd the time until a checkpoint has written
//! everything to its place counts as drain. Syncs are counted in a run of their own, under `strace`, with 16 sessions; of storedd
//! until that checkpoint is over.

use crate::clients::{Form, Run};
use crate::engines::Failure;
use crate::job::Mix;
use crate::lmtp;
use crate::report::{Cell, Cost, Goal, Key, Report};
use crate::servers::Server;
use crate::settings::Settings;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Users who get mail.
const USERS: u64 = 100;
/// Deliverers at a time.
const SESSIONS: [usize; 4] = [1, 8, 16, 64];
/// Sizes of messages in bytes, with their names.
const SIZES: [(usize, &str); 2] = [(4096, "4 KiB"), (65536, "64 KiB")];
/// Shortest counted time of one measurement.
const TIME: Duration = Duration::from_secs(2);

fn key(size: &'static str, sessions: usize, engine: &'static str) -> Key {
    Key { device: "real", form: "lmtp", mix: size, clients: sessions, depth: 1, engine }
}

/// One measurement of one server.
fn measure(
    report: &mut Report,
    server: &Server,
    (bytes, size): (usize, &'static str),
    sessions: usize,
    settings: &Settings,
    round: usize,
) -> Result<(), Failure> {
    let mut plan = settings.plan(Form::Threads, sessions, Mix::MIXED);
    (plan.time, plan.warm_up) = (plan.time.max(TIME), Duration::ZERO);
    let delivered = lmtp::run(server.port, sessions, USERS, bytes, plan.time)
        .map_err(|e| Failure::new(format!("{} with {sessions} sessions: {e}", server.name)))?;
    let begun = Instant::now();
    server.settle()?;
    let cost = Cost { drain: begun.elapsed().as_secs_f64(), ..Cost::default() };
    let run = Run { ops: delivered.messages, seconds: delivered.seconds, latency: delivered.latency, ..Run::default() };
    report.cells.push(Cell::new(key(size, sessions, server.name), round, &plan, &run, cost));
    Ok(())
}

/// Syncs a message with 16 sessions and 4 KiB.
fn syncs(server: &Server, trace: &Path) -> Result<f64, Failure> {
    // A call that another thread's cut in two has a second line.
    let calls = |text: String| text.lines().filter(|l| l.contains("sync") && !l.contains("resumed>")).count();
    let count = || Ok::<_, Failure>(calls(fs::read_to_string(trace)?));
    server.settle()?;
    let before = count()?;
    let delivered = lmtp::run(server.port, 16, USERS, SIZES[0].0, TIME)?;
    server.settle()?;
    std::thread::sleep(Duration::from_secs(1));
    Ok((count()? - before) as f64 / delivered.messages.max(1) as f64)
}

fn servers(dir: &Path, settings: &Settings, trace: Option<&Path>) -> Result<Vec<Server>, Failure> {
    fs::create_dir_all(dir)?;
    let mut servers = Vec::new();
    if settings.wants("storedd") {
        servers.push(Server::store(dir, USERS, trace)?);
    }
    for name in settings.peers.iter().flat_map(|_| ["cyrus", "dovecot"]) {
        let work = settings.peers.as_deref().unwrap_or(Path::new(""));
        servers.push(Server::peer(name, work, dir, USERS, trace)?);
    }
    Ok(servers)
}

/// Measures it.
///
/// # Errors
/// If a server does not come up, or refuses a message.
pub fn run(report: &mut Report, dir: &Path, settings: &Settings) -> Result<(), Failure> {
    let dir = dir.join("delivery");
    let running = servers(&dir.join("rates"), settings, None)?;
    for round in 0..settings.rounds {
        println!("  delivery: round {} of {}", round + 1, settings.rounds);
        for size in SIZES {
            for sessions in SESSIONS {
                for server in &running {
                    measure(report, server, size, sessions, settings, round)?;
                }
            }
        }
    }
    let names: Vec<&'static str> = running.iter().map(|s| s.name).collect();
    drop(running);
    for name in names {
        let (place, trace) = (dir.join(format!("syncs-{name}")), dir.join(format!("{name}.strace")));
        fs::create_dir_all(&place)?;
        let server = match (name, &settings.peers) {
            (name, Some(work)) if name != "storedd" => Server::peer(name, work, &place, USERS, Some(&trace))?,
            _ => Server::store(&place, USERS, Some(&trace))?,
        };
        let value = syncs(&server, &trace)?;
        let what = format!("real: {name}, 16 sessions of 4 KiB: syncs a message");
        match name {
            "storedd" => {
                report.goals.push(Goal { name: "G15", what, value, bound: 0.2, at_least: false, unit: "" });
            }
            _ => report.figure(what, value, ""),
        }
    }
    goals(report, settings.peers.as_ref());
    Ok(())
}

/// storedd over the better peer, round by round.
fn goals(report: &mut Report, peers: Option<&PathBuf>) {
    if peers.is_none() {
        report.skip("G15: no peers; see --peers");
        return;
    }
    for (sessions, bound) in [(1, 3.0), (16, 10.0), (64, 10.0)] {
        let over = |peer| report.ratio(&key("4 KiB", sessions, "storedd"), &key("4 KiB", sessions, peer));
        let value = f64::min(over("cyrus"), over("dovecot"));
        let what =
            format!("real: {sessions} sessions of 4 KiB through LMTP, storedd over the better of Cyrus and Dovecot");
        report.goals.push(Goal { name: "G15", what, value, bound, at_least: true, unit: "x" });
    }
}
