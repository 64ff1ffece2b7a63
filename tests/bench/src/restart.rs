//! Restarts of the real daemon after `kill -9`.
//!
//! # Operation
//! A file is *cold* when its pages were dropped from the page cache; `cat` is reading it once in steps of 1 MiB.
//! The settings let the log grow to the size that is asked for before a checkpoint; with the default ones it never does.

use crate::clients::{Form, Plan};
use crate::daemon::Place;
use crate::device;
use crate::engines::Failure;
use crate::job::{self, Mix, PER_USER, World};
use crate::machine;
use crate::report::{Goal, Report, median};
use crate::settings::Settings;
use crate::shape::Shape;
use crate::socket::{self, Ask};
use proto::{Client, Command, Reply, Request};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Starts measured of each kind.
const STARTS: usize = 5;

/// A log as long as asked, and no checkpoint before it.
const CONFIG: &str = "[checkpoint]\ninterval = \"24h\"\noverlay_bytes = \"16GiB\"\noverlay_bytes_max = \"32GiB\"\n\
                      log_bytes = \"64GiB\"\nreplay_target = \"1h\"\n[messages]\nlevel = \"warn\"\n";

/// Makes the users and mailboxes through the socket, a user at a time, 64 under way.
fn load(client: &mut Client, world: &World) -> Result<(), Failure> {
    let mut under_way = VecDeque::new();
    let answer = |client: &mut Client, under_way: &mut VecDeque<u64>| -> Result<(), Failure> {
        let Some(_) = under_way.pop_front() else { return Ok(()) };
        match client.receive()? {
            Some((_, Ok(_))) | None => Ok(()),
            Some((_, Err(failure))) => Err(Failure::new(failure.to_string())),
        }
    };
    for user in 0..world.users() {
        let add =
            Command::UserAdd { user: job::user_id(user), partition: None, quota_bytes: None, quota_messages: None };
        let create =
            |folder| Command::MailboxCreate { name: job::mailbox_name(user * PER_USER + folder, 0), partition: None };
        let commands = std::iter::once(add).chain((1..PER_USER).map(create)).collect();
        under_way.push_back(client.send(&Request::Atomic { commands })?);
        if under_way.len() >= 64 {
            answer(client, &mut under_way)?;
        }
    }
    while !under_way.is_empty() {
        answer(client, &mut under_way)?;
    }
    client.call(&Request::Checkpoint)?;
    Ok(())
}

fn log_bytes(client: &mut Client) -> Result<u64, Failure> {
    match client.call(&Request::Stats)? {
        Reply::Stats(stats) => Ok(stats.log_bytes),
        other => Err(Failure::new(format!("stats answered with {other:?}"))),
    }
}

/// What the last start took for each of its phases.
fn phases(report: &mut Report, client: &mut Client) -> Result<(), Failure> {
    let Reply::Reports(reports) = client.call(&Request::RecoverReport { last: 1 })? else { return Ok(()) };
    for start in reports {
        for (phase, seconds) in start.phases {
            report.figure(format!("restart: of that, {phase}"), seconds, "s");
        }
        report.figure("restart: records replayed", start.replayed as f64, "");
    }
    Ok(())
}

fn forget(files: &[PathBuf]) -> Result<(), Failure> {
    for file in files {
        device::forget_cached(&File::open(file)?);
    }
    Ok(())
}

/// Seconds to read files once from the device.
fn cat_cold(files: &[PathBuf]) -> Result<f64, Failure> {
    forget(files)?;
    let mut step = vec![0; 1 << 20];
    let start = Instant::now();
    for file in files {
        let mut file = File::open(file)?;
        while file.read(&mut step)? > 0 {}
    }
    Ok(start.elapsed().as_secs_f64())
}

/// Bytes of log that hold records: whole segments but the last, of which only a part is written.
fn grow_log(place: &Place, world: &Arc<World>, bytes: u64) -> Result<u64, Failure> {
    let mut client = place.client()?;
    let before = log_bytes(&mut client)?;
    loop {
        let time = Duration::from_millis(200);
        let plan = Plan { form: Form::Callback, clients: 64, time, warm_up: Duration::ZERO, mix: Mix::MIXED };
        let run = socket::run(&place.socket(), world, &plan, 8, Ask::Changes)?;
        if let Some(error) = run.error {
            return Err(Failure::new(format!("{} changes failed: {error}", run.failed)));
        }
        let grown = log_bytes(&mut client)? - before;
        if grown >= bytes {
            return Ok(grown);
        }
    }
}

/// Restarts after `kill -9`: with an empty log (G9), then with one of `--log-mib` (G10, G11).
///
/// # Errors
/// If the daemon does not come up, or the disk fails.
pub fn run(report: &mut Report, dir: &Path, settings: &Settings, shape: &Arc<Shape>) -> Result<(), Failure> {
    let place = Place::new(dir.join("restart"), CONFIG)?;
    let world = World::new(settings.rows, Arc::clone(shape));
    let daemon = place.start()?;
    let begun = Instant::now();
    load(&mut place.client()?, &world)?;
    report.figure("restart: rows", world.rows as f64, "");
    report.figure("restart: load through the socket, checkpoint included", begun.elapsed().as_secs_f64(), "s");
    drop(daemon);

    let database = place.files("mboxlist.redb")?;
    let (mut cold, mut warm, mut read) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        read.push(cat_cold(&database)?);
        warm.push(place.start()?.ready.as_secs_f64());
        forget(&database)?;
        cold.push(place.start()?.ready.as_secs_f64());
    }
    let bytes = database.iter().filter_map(|f| fs::metadata(f).ok()).map(|m| m.len()).sum::<u64>();
    report.figure("restart: database file", bytes as f64 / 1048576.0, "MiB");
    report.figure("restart: reading it cold", median(read), "s");
    let [warm, cold] = [median(warm), median(cold)];
    report.figure("restart: READY after kill -9 with an empty log, database warm", warm, "s");
    report.figure("restart: the same, database cold", cold, "s");
    let what = format!("READY after kill -9, empty log, integrity check included, {} rows", world.rows);
    report.goals.push(Goal { name: "G9", what, value: warm, bound: 0.4, at_least: false, unit: "s" });

    let daemon = place.start()?;
    let grown = grow_log(&place, &world, settings.log_mib << 20)?;
    drop(daemon);
    replayed(report, &place, grown)
}

fn replayed(report: &mut Report, place: &Place, grown: u64) -> Result<(), Failure> {
    let log = place.files("log.")?;
    let mib = grown as f64 / 1048576.0;
    report.figure("restart: log behind the last checkpoint", mib, "MiB");
    let (mut cats, mut readies) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        cats.push(cat_cold(&log)?);
        forget(&log)?;
        readies.push(place.start()?.ready.as_secs_f64());
    }
    let (cat, ready) = (median(cats), median(readies));
    forget(&log)?;
    let begun = Instant::now();
    let daemon = place.start()?;
    let resident = machine::resident(daemon.child.id());
    let mut client = place.client()?;
    client.call(&Request::Checkpoint)?;
    let applied = begun.elapsed().as_secs_f64();
    report.figure("restart: reading that log cold", cat, "s");
    report.figure("restart: READY after kill -9 with that log, cold", ready, "s");
    phases(report, &mut client)?;
    report.figure("restart: all of it in the database", applied, "s");
    report.figure("restart: memory of the daemon when READY", resident as f64 / 1048576.0, "MiB");
    let name = if mib < 900.0 { "G10" } else { "G11" };
    let mut goal = |what: &str, value, bound| {
        let what = format!("restart with {mib:.0} MiB of log: {what}");
        report.goals.push(Goal { name, what, value, bound, at_least: false, unit: "x" });
    };
    goal("READY less 50 ms, over `cat` of it cold", (ready - 0.05).max(0.0) / cat, 5.0);
    goal("applied, over the same", applied / cat, if name == "G10" { 12.0 } else { 9.0 });
    Ok(())
}
