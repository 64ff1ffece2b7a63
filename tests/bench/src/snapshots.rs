//! Snapshots: what one costs those who commit meanwhile, and how long taking and verifying take beside copying the same bytes.
//!
//! # Operation
//! storedd alone, 64 clients with callbacks. A round: commits for a while, a snapshot with commits until it is done, commits for a
//! while; then, with nobody there, a snapshot, its verification, and a copy of its files by the system, synced, as `cp` and `sync`
//! would do it. Commits during a snapshot are counted in windows that ended before it did. The first checkpoint, which belongs to
//! taking, counts as taking.

use crate::clients::{self, Form};
use crate::engines::storedd::Storedd;
use crate::engines::{Engine, Failure};
use crate::job::Mix;
use crate::report::{Goal, Report, median};
use crate::settings::Settings;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use storedd::jobs::registry::Context;
use storedd::jobs::snapshots::{Keeper, Settings as Kept};
use storedd::place;

/// Windows of commits before and after a snapshot.
const WINDOWS: usize = 5;

/// What one round showed.
#[derive(Debug, Default)]
struct Round {
    /// Commits a second without a snapshot.
    alone: f64,
    /// Commits a second during one; 0 if it was over before the first window was.
    during: f64,
    /// Seconds of taking one while others commit, and with nobody there.
    busy: f64,
    quiet: f64,
    /// Seconds of verifying it, and of copying its files.
    verify: f64,
    copy: f64,
    /// Bytes of it.
    bytes: u64,
}

fn seconds<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<(f64, T), Failure> {
    let begun = Instant::now();
    let done = work()?;
    Ok((begun.elapsed().as_secs_f64(), done))
}

/// Commits for a window; their rate.
fn window(engine: &Storedd, settings: &Settings) -> Result<f64, Failure> {
    let mut plan = settings.plan(Form::Callback, 64, Mix::MIXED);
    plan.warm_up = Duration::ZERO;
    let run = clients::run(engine, &plan, None);
    match &run.error {
        Some(error) => Err(Failure::new(format!("{} commits failed: {error}", run.failed))),
        None => Ok(run.rate()),
    }
}

/// Copies the files of a directory, and syncs them.
fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        fs::copy(entry.path(), &to)?;
        File::open(&to)?.sync_all()?;
    }
    Ok(File::open(to)?.sync_all()?)
}

fn round(engine: &Storedd, keeper: &Keeper, dir: &Path, settings: &Settings) -> Result<Round, Failure> {
    // As the daemon takes it, but that rotation is not measured: every snapshot stays until the end of the run.
    let paced = Kept { keep: 367, ..place::snapshot_settings(&engine.config) };
    let fast = Kept { pace: u64::MAX, ..paced };
    let ctx = Context::idle();
    let mut rates = Vec::new();
    for _ in 0..WINDOWS {
        rates.push(window(engine, settings)?);
    }
    let over = AtomicBool::new(false);
    let (busy, during) = std::thread::scope(|scope| {
        let taking = scope.spawn(|| {
            let taken = seconds(|| Ok(keeper.take(&paced, false, &ctx)?));
            over.store(true, Ordering::Release);
            taken
        });
        let mut during = Vec::new();
        while !over.load(Ordering::Acquire) {
            let rate = window(engine, settings)?;
            if !over.load(Ordering::Acquire) {
                during.push(rate);
            }
        }
        let (busy, _) = taking.join().map_err(|_| Failure::new("taking a snapshot panicked"))??;
        Ok::<_, Failure>((busy, during))
    })?;
    for _ in 0..WINDOWS {
        rates.push(window(engine, settings)?);
    }
    engine.settle()?;
    let (quiet, taken) = seconds(|| Ok(keeper.take(&fast, false, &ctx)?))?;
    let (verify, verified) = seconds(|| Ok(keeper.verify(Some(&taken.snapshot.id), false, &ctx)?))?;
    if verified.iter().any(|v| !v.findings.is_empty()) {
        return Err(Failure::new(format!("snapshot {} did not pass its verification", taken.snapshot.id)));
    }
    let from = engine.config.snapshot.directory.join(&taken.snapshot.id);
    let to = dir.join("copy");
    let (copy, ()) = seconds(|| copy(&from, &to))?;
    fs::remove_dir_all(&to)?;
    let mean = |rates: &[f64]| rates.iter().sum::<f64>() / rates.len().max(1) as f64;
    Ok(Round { alone: mean(&rates), during: mean(&during), busy, quiet, verify, copy, bytes: taken.snapshot.bytes })
}

/// Measures it.
///
/// # Errors
/// Those of the store.
pub fn run(
    report: &mut Report,
    device: &'static str,
    engine: &Arc<Storedd>,
    dir: &Path,
    settings: &Settings,
) -> Result<(), Failure> {
    let keeper = Keeper::new(Arc::clone(&engine.store), place::env())?;
    let mut rounds = Vec::new();
    for _ in 0..settings.rounds {
        rounds.push(round(engine, &keeper, dir, settings)?);
    }
    let of = |f: fn(&Round) -> f64| median(rounds.iter().map(f).filter(|x| x.is_finite() && *x > 0.0));
    let name = format!("{device}, snapshot of {} mailboxes", settings.rows);
    report.figure(format!("{name}: bytes"), of(|r| r.bytes as f64) / 1e6, "MB");
    report.figure(format!("{name}: taking it"), of(|r| r.quiet), "s");
    report.figure(format!("{name}: taking it while 64 commit"), of(|r| r.busy), "s");
    report.figure(format!("{name}: verifying it"), of(|r| r.verify), "s");
    report.figure(format!("{name}: copying and syncing its files"), of(|r| r.copy), "s");
    let mut goal = |what: &str, value, bound, at_least| {
        report.goals.push(Goal { name: "G12", what: format!("{name}: {what}"), value, bound, at_least, unit: "x" });
    };
    goal(
        "taking and verifying it, over copying and syncing its files",
        of(|r| (r.quiet + r.verify) / r.copy),
        3.5,
        false,
    );
    goal("commits during it, over those without", of(|r| r.during / r.alone), 0.7, true);
    Ok(())
}
