//! The sustained run: 64 clients for half a minute, readers running, and the time counted until everything put off is
//! done. It shows what checkpoints cost, and whom.

use crate::clients::{self, Form, Run, Watch};
use crate::device;
use crate::engines::{Engine, Failure};
use crate::job::{Mix, Random};
use crate::report::{self, Report};
use crate::settings::Settings;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Answers slower than this are looked at one by one.
const SLOW: Duration = Duration::from_millis(10);
/// Lookups a second of the two readers together.
const READS: u64 = 10_000;

/// Engines that are run: storedd, its limit, and the two fastest peers.
pub const ENGINES: [&str; 4] = ["raw", "storedd", "lmdb-group", "fjall-group"];

/// What a sustained run showed.
#[derive(Debug)]
pub struct Sustained {
    /// Commits a second, the drain counted.
    pub rate: f64,
    /// Median latency in microseconds, then 99 %, 99.9 %, longest.
    pub latency_us: [f64; 4],
    /// The longest answer in milliseconds that overlapped a checkpoint.
    pub slowest_in_checkpoint: f64,
}

/// Looks up mailboxes at a fixed pace until told to stop.
fn read(engine: &dyn Engine, seed: u64, stop: &AtomicBool, done: &AtomicU64) -> Result<(), Failure> {
    let mut random = Random::new(seed);
    while !stop.load(Ordering::Relaxed) {
        let next = Instant::now() + Duration::from_millis(10);
        // A reader of its own for each turn: a long-lived one would pin an old state of the database.
        let Some(mut reader) = engine.reader()? else { return Ok(()) };
        for _ in 0..READS / 2 / 100 {
            let name = crate::job::mailbox_name(random.below(engine.world().users()) * crate::job::PER_USER, 0);
            reader.lookup(&crate::job::key_of(&name))?;
            done.fetch_add(1, Ordering::Relaxed);
        }
        drop(reader);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// Notes when a checkpoint is under way, to the millisecond.
fn watch_checkpoints(engine: &dyn Engine, stop: &AtomicBool, seen: &Mutex<Vec<(Instant, Instant)>>) {
    let mut since: Option<Instant> = None;
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        match (engine.checkpointing(), since) {
            (true, None) => since = Some(now),
            (false, Some(from)) => {
                seen.lock().unwrap_or_else(PoisonError::into_inner).push((from, now));
                since = None;
            }
            _ => {}
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    if let Some(from) = since {
        seen.lock().unwrap_or_else(PoisonError::into_inner).push((from, Instant::now()));
    }
}

/// Runs one engine, and notes what it showed.
///
/// # Errors
/// Those of the engine.
pub fn run(
    report: &mut Report,
    device: &'static str,
    engine: &dyn Engine,
    settings: &Settings,
) -> Result<Sustained, Failure> {
    let mut plan = settings.plan(Form::Callback, 64, Mix::MIXED);
    plan.time = Duration::from_secs_f64(settings.sustained);
    plan.warm_up = Duration::ZERO;
    let watch = Arc::new(Watch { threshold: SLOW, slow: Mutex::new(Vec::new()) });
    let (stop, reads, checkpoints) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::new(Vec::new()));
    let start = Instant::now();
    let syncs = device::syncs();
    let (run, seconds): (Run, f64) = std::thread::scope(|scope| {
        let readers: Vec<_> = (1..=2)
            .map(|seed| {
                scope.spawn({
                    let (stop, reads) = (&stop, &reads);
                    move || read(engine, seed, stop, reads)
                })
            })
            .collect();
        scope.spawn(|| watch_checkpoints(engine, &stop, &checkpoints));
        let run = clients::run(engine, &plan, Some(Arc::clone(&watch)));
        let settled = engine.settle();
        let seconds = start.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().map_err(|_| Failure::new("a reader panicked"))??;
        }
        settled.map(|()| (run, seconds))
    })?;
    if let Some(error) = run.error {
        return Err(Failure::new(format!("{}: {} failed: {error}", engine.name(), run.failed)));
    }
    let checkpoints = checkpoints.into_inner().unwrap_or_else(PoisonError::into_inner);
    let slow = watch.slow.lock().unwrap_or_else(PoisonError::into_inner);
    let ms = |d: Duration| d.as_secs_f64() * 1000.0;
    let in_checkpoint = slow.iter().filter(|s| checkpoints.iter().any(|(from, to)| s.from < *to && s.to > *from));
    let slowest_in_checkpoint = in_checkpoint.map(|s| ms(s.to - s.from)).fold(0.0, f64::max);
    let out = Sustained {
        rate: run.ops as f64 / seconds,
        latency_us: report::latencies(&Run { error: None, ..run.clone() }),
        slowest_in_checkpoint,
    };
    let name = format!("{device}, {} sustained {:.0} s", engine.name(), settings.sustained);
    let longest = checkpoints.iter().map(|(from, to)| ms(*to - *from)).fold(0.0, f64::max);
    report.figure(format!("{name}: commits, drain counted"), out.rate, "/s");
    report.figure(format!("{name}: drain after it"), seconds - run.seconds, "s");
    report.figure(format!("{name}: lookups beside it"), reads.load(Ordering::Relaxed) as f64 / seconds, "/s");
    for (what, us) in ["p50", "p99", "p99.9", "longest"].into_iter().zip(out.latency_us) {
        report.figure(format!("{name}: answer, {what}"), us / 1000.0, "ms");
    }
    report.figure(format!("{name}: answers over {} ms", SLOW.as_millis()), slow.len() as f64, "");
    report.figure(format!("{name}: syncs"), (device::syncs() - syncs) as f64, "");
    if engine.has_checkpoints() {
        report.figure(format!("{name}: checkpoints"), checkpoints.len() as f64, "");
        report.figure(format!("{name}: longest checkpoint"), longest, "ms");
        report.figure(format!("{name}: longest answer during a checkpoint"), slowest_in_checkpoint, "ms");
    }
    Ok(out)
}
