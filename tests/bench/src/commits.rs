//! Commits in process: every engine, 1 to 256 clients, interleaved rounds.

use crate::clients::{self, Form, Plan};
use crate::device;
use crate::engines::fjall::Fjall;
use crate::engines::lmdb::Lmdb;
use crate::engines::raw::Raw;
use crate::engines::redb::Redb;
use crate::engines::sqlite::{self, Sqlite};
use crate::engines::{Engine, Failure};
use crate::goals::Counted;
use crate::job::{Mix, World};
use crate::machine;
use crate::report::{Cell, Cost, Key, Report};
use crate::settings::Settings;
use crate::shape::Shape;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Every engine on one device, loaded.
///
/// # Errors
/// Those of the engines.
pub fn load(dir: &Path, settings: &Settings, shape: &Arc<Shape>) -> Result<Vec<Box<dyn Engine>>, Failure> {
    let world = || World::new(settings.rows, Arc::clone(shape));
    let mut engines: Vec<Box<dyn Engine>> = Vec::new();
    let mut timed = |name: &str, load: &mut dyn FnMut() -> Result<Vec<Box<dyn Engine>>, Failure>| {
        if settings.wants(name) {
            let start = Instant::now();
            engines.extend(load().map_err(|e| Failure::new(format!("{name}: {e}")))?);
            println!("  {name} loaded in {:.1} s", start.elapsed().as_secs_f64());
        }
        Ok::<(), Failure>(())
    };
    timed("raw", &mut || Ok(vec![Box::new(Raw::open(&dir.join("raw"), &world())?)]))?;
    timed("sqlite", &mut || {
        let (path, world) = (dir.join("sqlite.db"), world());
        sqlite::load(&path, &world)?;
        Ok(vec![
            Box::new(Sqlite::per_thread(&path, &world)),
            Box::new(Sqlite::mutex(&path, &world)?),
            Box::new(Sqlite::group(&path, &world)?),
        ])
    })?;
    timed("lmdb", &mut || Ok(vec![Box::new(Lmdb::load(&dir.join("lmdb"), &world())?)]))?;
    timed("fjall", &mut || Ok(vec![Box::new(Fjall::load(&dir.join("fjall"), &world())?)]))?;
    timed("redb", &mut || Ok(vec![Box::new(Redb::load(&dir.join("redb"), &world())?)]))?;
    Ok(engines)
}

/// Measures one engine once, waits until it has settled, and notes it.
///
/// # Errors
/// Those of the engine.
pub fn measure(
    report: &mut Report,
    device: &'static str,
    engine: &dyn Engine,
    plan: &Plan,
    round: usize,
) -> Result<(), Failure> {
    let (syncs, cpu) = (device::syncs(), machine::cpu_seconds());
    let counted = || engine.counted().map(|c| Counted { log_syncs: device::log_syncs(), ..c });
    let before = counted();
    let run = clients::run(engine, plan, None);
    let (syncs, cpu) = (device::syncs() - syncs, machine::cpu_seconds() - cpu);
    if let (Form::Callback, 64, Mix::MIXED, Some(before), Some(after)) =
        (plan.form, plan.clients, plan.mix, before, counted())
    {
        report.counted.entry((device, engine.name())).or_default().add(before, after);
    }
    let start = Instant::now();
    engine.settle()?;
    let cost = Cost { drain: start.elapsed().as_secs_f64(), syncs, cpu };
    let key = Key {
        device,
        form: plan.form.name(),
        mix: plan.mix.name,
        clients: plan.clients,
        depth: 1,
        engine: engine.name(),
    };
    if let Some(error) = &run.error {
        println!("  {}: {} failed: {error}", engine.name(), run.failed);
    }
    report.cells.push(Cell::new(key, round, plan, &run, cost));
    Ok(())
}

/// The forms an engine is measured in.
fn forms(engine: &dyn Engine, clients: usize) -> &'static [Form] {
    match (engine.has_callbacks(), clients) {
        (false, _) => &[Form::Threads],
        (true, 1 | 64) => &[Form::Callback, Form::Threads],
        (true, _) => &[Form::Callback],
    }
}

/// One round of commits in process on one device.
///
/// # Errors
/// Those of the engines.
pub fn round(
    report: &mut Report,
    device: &'static str,
    engines: &[Box<dyn Engine>],
    settings: &Settings,
    round: usize,
) -> Result<(), Failure> {
    for clients in settings.clients.iter().copied() {
        for engine in engines {
            for form in forms(&**engine, clients) {
                let plan = settings.plan(*form, clients, Mix::MIXED);
                measure(report, device, &**engine, &plan, round)?;
            }
        }
    }
    for mix in [Mix::CREATE, Mix::ACL, Mix::RENAME].into_iter().filter(|_| !settings.quick) {
        for engine in engines.iter().filter(|e| e.has_callbacks()) {
            measure(report, device, &**engine, &settings.plan(Form::Callback, 64, mix), round)?;
        }
    }
    Ok(())
}
