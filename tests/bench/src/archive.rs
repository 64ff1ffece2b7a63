//! Backup and restore of mailboxes, beside programs that save trees of files, and what users feel of it.
//!
//! # Operation
//! One store of so many messages of real sizes ([`crate::corpus`]). Round by round, with warm caches, each program saves all of it, and
//! what it wrote is synced: `storectl backup`, `tar | zstd` of the partition with one thread and with all, `restic` (which also cuts and
//! encrypts). Once, `storectl restore` into an empty store, and unpacking the tar; once, what has changed when 1 % came. `doveadm backup`
//! saves the same messages, one user after another and as many at once as there are processors, from a Dovecot that was filled with them.
//!
//! Then users deliver and read at a steady rate, without a backup and while one runs at its default pace, by turns.

use crate::corpus::Corpus;
use crate::daemon::{Daemon, Place};
use crate::engines::Failure;
use crate::hist::Histogram;
use crate::job::Random;
use crate::lmtp::{self, Session};
use crate::reconstruct::{USERS, deliver, each_user, fill_peer, filled, held};
use crate::report::{Goal, Report, median, number};
use crate::scan::cool;
use crate::servers::{self, Server, beside};
use crate::settings::Settings;
use proto::Request;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Rounds at most.
const ROUNDS: usize = 3;
/// What zstd tries: the default of both programs.
const LEVEL: &str = "3";
/// Users who deliver at a time, and as many who read.
const AT_ONCE: usize = 8;
/// Between two messages of one of them.
const THINK: Duration = Duration::from_millis(20);
/// Shortest time for which they are watched.
const WATCHED: Duration = Duration::from_secs(8);

/// Seconds of every program, round by round.
type Times = Vec<(&'static str, f64)>;

fn of(times: &Times, what: &str) -> f64 {
    median(times.iter().filter(|(name, _)| *name == what).map(|(_, seconds)| *seconds))
}

/// Runs a shell command; seconds.
fn shell(command: &str) -> Result<f64, Failure> {
    let begun = Instant::now();
    let mut run = Command::new("bash");
    run.args(["-o", "pipefail", "-c", command]).stdin(Stdio::null()).stdout(Stdio::null());
    let output = run.output()?;
    match output.status.success() {
        true => Ok(begun.elapsed().as_secs_f64()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(Failure::new(format!("{command}: {}: {}", output.status, said.lines().last().unwrap_or_default())))
        }
    }
}

/// True if a program can be run.
fn has(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// `storectl backup` into a file, whole and as fast as it goes; seconds.
fn backup(place: &Place, to: &Path, more: &[&str]) -> Result<f64, Failure> {
    let begun = Instant::now();
    let file = to.display().to_string();
    let done = place.ctl(&[&["backup", "--level", LEVEL, "--pace", "0", "-f", &file], more].concat())?;
    let seconds = begun.elapsed().as_secs_f64();
    match done["skipped"].as_array().is_some_and(Vec::is_empty) {
        true => Ok(seconds),
        false => Err(Failure::new(format!("backup left something out: {done}"))),
    }
}

/// Everything as it is, each by its own.
fn round(place: &Place, dir: &Path, times: &mut Times, round: usize) -> Result<(), Failure> {
    let (tree, to) = (place.data(), dir.join("saved"));
    let (tree, to) = (tree.display(), to.display());
    let tar = |threads: &str| {
        format!("tar -C {tree} -cf - partition | zstd -{LEVEL} -q {threads} -f -o {to}.tzst && sync {to}.tzst")
    };
    let archive = dir.join("full.sda");
    times.push(("storedd", backup(place, &archive, &["/"])?));
    if has("zstd") {
        times.push(("tar | zstd", shell(&tar(""))?));
        times.push(("tar | zstd -T0", shell(&tar("-T0"))?));
    }
    if has("restic") {
        let _ = fs::remove_dir_all(dir.join("restic"));
        let seconds = shell(&format!("{} init -q && {} backup -q {tree}/partition", restic(dir), restic(dir)))?;
        times.push(("restic", seconds));
    }
    let shown = times.iter().rev().take(4).rev().map(|(what, seconds)| format!("{what} {} s", number(*seconds)));
    println!("  archive: round {}: {}", round + 1, shown.collect::<Vec<_>>().join(", "));
    Ok(())
}

fn restic(dir: &Path) -> String {
    format!("RESTIC_PASSWORD=bench restic --no-cache -r {}", dir.join("restic").display())
}

/// The first of all with cold caches.
fn cold(report: &mut Report, place: &Place, dir: &Path, messages: u64) -> Result<(), Failure> {
    let all_cold = cool(&place.data())?;
    let ours = backup(place, &dir.join("full.sda"), &["/"])?;
    cool(&place.data())?;
    // `tar cf /dev/null` reads nothing.
    let tar = shell(&format!("tar -C {} -cf - partition | cat > /dev/null", place.data().display()))?;
    let names = if all_cold { "" } else { ", names and sizes warm" };
    report.figure(format!("archive: backup with cold caches{names}"), messages as f64 / ours, "/s");
    let what = format!("real: backup with cold caches{names}, messages a second, over tar to /dev/null");
    report.goals.push(Goal { name: "G16", what, value: tar / ours, bound: 1.5, at_least: true, unit: "x" });
    Ok(())
}

/// Into an empty store, and out of the tar.
fn restore(report: &mut Report, dir: &Path, messages: u64) -> Result<(), Failure> {
    let other = servers::store_place(dir.join("other"), servers::free_port()?)?;
    let daemon = other.start()?;
    let begun = Instant::now();
    other.ctl(&["restore", "--yes", "-f", &dir.join("full.sda").display().to_string()])?;
    other.ctl(&["checkpoint"])?;
    let seconds = begun.elapsed().as_secs_f64();
    let now = held(&other)?;
    other.stop(daemon)?;
    fs::remove_dir_all(dir.join("other"))?;
    if now != messages {
        return Err(Failure::new(format!("{now} of {messages} messages were restored")));
    }
    report.figure("archive: restore into an empty store, until a checkpoint", messages as f64 / seconds, "/s");
    if has("zstd") {
        let to = dir.join("unpacked").display().to_string();
        let from = dir.join("saved.tzst").display().to_string();
        let tar = shell(&format!("mkdir {to} && zstd -d -q -c {from} | tar -C {to} -xf - && sync -f {to}"))?;
        fs::remove_dir_all(&to)?;
        report.figure("archive: zstd -d | tar x, synced", messages as f64 / tar, "/s");
        report.figure("archive: restore over unpacking the tar", seconds / tar, "x");
    }
    Ok(())
}

/// One message in a hundred more; what was there is not saved again.
fn incremental(report: &mut Report, place: &Place, dir: &Path, port: u16, messages: u64) -> Result<(), Failure> {
    deliver(port, &Corpus::load()?, messages, messages + messages / 100)?;
    place.ctl(&["checkpoint"])?;
    let full = dir.join("full.sda").display().to_string();
    let ours = backup(place, &dir.join("more.sda"), &["--since-archive", &full, "/"])?;
    report.figure("archive: incremental, 1 % came: storedd", ours, "s");
    if has("restic") {
        let seconds = shell(&format!("{} backup -q {}/partition", restic(dir), place.data().display()))?;
        report.figure("archive: incremental, 1 % came: restic", seconds, "s");
    }
    Ok(())
}

/// What users feel: latencies of deliveries and of reads.
#[derive(Default)]
struct Felt {
    deliveries: Histogram,
    reads: Histogram,
}

/// Users who deliver and read at a steady rate, until `during` is over and the shortest time has gone by.
fn users(
    place: &Place,
    port: u16,
    messages: u64,
    during: impl FnOnce() -> Result<(), Failure>,
) -> Result<Felt, Failure> {
    let stop = AtomicBool::new(false);
    let paced = |mut act: Box<dyn FnMut() -> Result<(), Failure> + '_>| -> Result<Histogram, Failure> {
        let mut latency = Histogram::default();
        while !stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            act()?;
            latency.record(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
            std::thread::sleep(THINK.saturating_sub(begun.elapsed()));
        }
        Ok(latency)
    };
    let delivers = |n: usize| {
        let (mut session, mut random) = (Session::open(port)?, Random::new(n as u64 + 77));
        let text = lmtp::message(4096, &mut random);
        paced(Box::new(move || session.deliver(&lmtp::user(random.below(USERS)), &text)))
    };
    let reads = |n: usize| {
        let (mut client, mut random) = (place.client()?, Random::new(n as u64 + 177));
        paced(Box::new(move || {
            let name = format!("user/{}/INBOX", lmtp::user(random.below(USERS)));
            let uid = u32::try_from(1 + random.below(messages / USERS)).unwrap_or(1);
            client.call(&Request::MessageBytes { name, uid })?;
            Ok(())
        }))
    };
    std::thread::scope(|scope| {
        let (delivers, reads) = (&delivers, &reads);
        let all: Vec<_> =
            (0..AT_ONCE).map(|n| (scope.spawn(move || delivers(n)), scope.spawn(move || reads(n)))).collect();
        let begun = Instant::now();
        let done = during();
        std::thread::sleep(WATCHED.saturating_sub(begun.elapsed()));
        stop.store(true, Ordering::Relaxed);
        let mut felt = Felt::default();
        for (delivery, read) in all {
            felt.deliveries.merge(&delivery.join().map_err(|_| Failure::new("a deliverer panicked"))??);
            felt.reads.merge(&read.join().map_err(|_| Failure::new("a reader panicked"))??);
        }
        done.map(|()| felt)
    })
}

/// p99 while a backup runs at its default pace, over p99 without.
fn beside_users(report: &mut Report, place: &Place, dir: &Path, port: u16, settings: &Settings) -> Result<(), Failure> {
    let ms = |h: &Histogram| h.quantile(0.99) as f64 / 1e6;
    let mut found: [Vec<(f64, f64)>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..settings.rounds.min(ROUNDS) {
        let without = users(place, port, settings.archived, || Ok(()))?;
        let file = dir.join("paced.sda").display().to_string();
        let with = users(place, port, settings.archived, || place.ctl(&["backup", "-f", &file, "/"]).map(drop))?;
        found[0].push((ms(&without.deliveries), ms(&with.deliveries)));
        found[1].push((ms(&without.reads), ms(&with.reads)));
    }
    for (what, found) in ["deliveries", "reads"].iter().zip(found) {
        report.figure(format!("archive: p99 of {what}, no backup"), median(found.iter().map(|f| f.0)), "ms");
        report.figure(format!("archive: p99 of {what}, paced backup"), median(found.iter().map(|f| f.1)), "ms");
        let value = median(found.iter().map(|(without, with)| with / without));
        let what = format!("real: p99 of {what} while a paced backup runs, over p99 without");
        report.goals.push(Goal { name: "G16", what, value, bound: 2.0, at_least: false, unit: "x" });
    }
    Ok(())
}

/// `doveadm backup` of the same messages into an empty directory, one user after another and several at once; seconds of the better.
fn doveadm(report: &mut Report, dir: &Path, corpus: &Corpus, settings: &Settings) -> Result<Option<f64>, Failure> {
    let Some(work) = &settings.peers else {
        report.skip("archive: no doveadm; see --peers");
        return Ok(None);
    };
    let server = Server::peer("dovecot", work, dir, USERS, None)?;
    fill_peer("dovecot", work, dir, corpus, settings.archived)?;
    let save = "doveadm -c /srv/peer/dovecot.conf backup -u {}@example.org mdbox:/srv/peer/copy/{}";
    let seconds = |command: &str| -> Result<f64, Failure> {
        let begun = Instant::now();
        beside("dovecot", work, command)?;
        Ok(begun.elapsed().as_secs_f64())
    };
    let ready = "rm -rf /srv/peer/copy && mkdir -m 777 /srv/peer/copy";
    beside("dovecot", work, ready)?;
    let several = seconds(&format!("{} && sync -f /srv/peer/copy", each_user(save)))?;
    report.figure("archive: doveadm backup, as many users at once as processors", several, "s");
    deliver(server.port, corpus, settings.archived, settings.archived + settings.archived / 100)?;
    report.figure("archive: incremental, 1 % came: doveadm backup", seconds(&each_user(save))?, "s");
    Ok(Some(several))
}

/// Measures it.
///
/// # Errors
/// If a program does not come up, or leaves something out.
pub fn run(report: &mut Report, dir: &Path, settings: &Settings) -> Result<(), Failure> {
    let (dir, corpus, messages) = (dir.join("archive"), Corpus::load()?, settings.archived);
    fs::create_dir_all(&dir)?;
    let port = servers::free_port()?;
    let (place, daemon): (Place, Daemon) = filled(&dir, &corpus, messages, port)?;
    cold(report, &place, &dir, messages)?;
    let mut times = Times::new();
    for n in 0..settings.rounds.min(ROUNDS) {
        round(&place, &dir, &mut times, n)?;
    }
    restore(report, &dir, messages)?;
    incremental(report, &place, &dir, port, messages)?;
    let _ = fs::remove_dir_all(dir.join("restic"));
    beside_users(report, &place, &dir, port, settings)?;
    place.stop(daemon)?;
    fs::remove_dir_all(&dir)?;
    fs::create_dir_all(&dir)?;
    let doveadm = doveadm(report, &dir, &corpus, settings)?;
    fs::remove_dir_all(&dir)?;
    let ours = of(&times, "storedd");
    for what in ["storedd", "tar | zstd", "tar | zstd -T0", "restic"] {
        match of(&times, what) {
            seconds if seconds > 0.0 => report.figure(format!("archive: everything, warm: {what}"), seconds, "s"),
            _ => report.skip(format!("archive: {what} is not installed")),
        }
    }
    let mut goal = |over: &str, value: f64, bound| {
        let what = format!("real: backup, seconds over those of {over}");
        report.goals.push(Goal { name: "G16", what, value, bound, at_least: false, unit: "x" });
    };
    if of(&times, "tar | zstd") > 0.0 {
        goal("tar | zstd", ours / of(&times, "tar | zstd"), 1.2);
    }
    if let Some(doveadm) = doveadm {
        goal("doveadm backup", ours / doveadm, 1.0);
    }
    Ok(())
}
