//! Commits in process: every engine, 1 to 256 clients, interleaved rounds.

use crate::clients::{self, Form, Plan};
use crate::device;
use crate::engines::fjall::Fjall;
use crate::engines::lmdb::Lmdb;
use crate::engines::raw::Raw;
use crate::engines::redb::Redb;
use crate::engines::sqlite::{self, Sqlite};
use crate::engines::storedd::Storedd;
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

/// Record sizes where storedd is left out, as it makes them.
const RECORDS: [usize; 3] = [200, 300, 400];

/// Every engine on one device, loaded.
pub struct Engines {
    /// All of them, storedd and the raw group commit first.
    pub all: Vec<Arc<dyn Engine>>,
    /// storedd, for its door.
    pub storedd: Option<Arc<Storedd>>,
    /// The raw group commit, for its door.
    pub raw: Option<Arc<Raw>>,
    /// Sizes of rows and records.
    pub shape: Arc<Shape>,
}

fn timed<T>(name: &str, load: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let start = Instant::now();
    let loaded = load().map_err(|e| Failure::new(format!("{name}: {e}")))?;
    println!("  {name} loaded in {:.1} s", start.elapsed().as_secs_f64());
    Ok(loaded)
}

/// Makes and loads the store, and learns from it what its rows and records are.
fn load_storedd(dir: &Path, settings: &Settings) -> Result<(Arc<Storedd>, Shape), Failure> {
    let world = World::new(settings.rows, Arc::new(Shape::new([0; 3])?));
    let storedd = Storedd::open(&dir.join("storedd"), &world)?;
    storedd.load()?;
    let shape = Shape::new(storedd.record_sizes()?)?;
    let (rows, peers) = (storedd.row_sizes()?, [shape.user.len(), shape.mailbox.len(), shape.past.len()]);
    // Numbers take as many bytes as they need: a small store's rows are a little shorter.
    if rows.iter().zip(peers).any(|(row, peer)| row.abs_diff(peer) > 10) {
        return Err(Failure::new(format!("rows have {rows:?} bytes, those of the peers {peers:?}")));
    }
    Ok((Arc::new(storedd), shape))
}

/// Makes and loads every engine that is wanted.
///
/// # Errors
/// Those of the engines.
pub fn load(dir: &Path, settings: &Settings) -> Result<Engines, Failure> {
    let (storedd, shape) = if settings.wants("storedd") {
        let (storedd, shape) = timed("storedd", || load_storedd(dir, settings))?;
        (Some(storedd), shape)
    } else {
        (None, Shape::new(RECORDS)?)
    };
    let shape = Arc::new(shape);
    let world = World::new(settings.rows, Arc::clone(&shape));
    let mut engines = Engines { all: Vec::new(), storedd, raw: None, shape };
    engines.all.extend(engines.storedd.iter().map(|s| Arc::clone(s) as Arc<dyn Engine>));
    let fresh = || World::new(world.rows, Arc::clone(&world.shape));
    if settings.wants("raw") {
        let raw = timed("raw", || Ok(Arc::new(Raw::open(&dir.join("raw"), &fresh())?)))?;
        engines.all.push(Arc::clone(&raw) as Arc<dyn Engine>);
        engines.raw = Some(raw);
    }
    let path = dir.join("sqlite.db");
    if settings.wants("sqlite") {
        timed("sqlite", || sqlite::load(&path, &world))?;
        engines.all.push(Arc::new(Sqlite::per_thread(&path, &world)));
        engines.all.push(Arc::new(Sqlite::mutex(&path, &world)?));
        engines.all.push(Arc::new(Sqlite::group(&path, &world)?));
    }
    if settings.wants("lmdb") {
        engines.all.push(Arc::new(timed("lmdb", || Lmdb::load(&dir.join("lmdb"), &fresh()))?));
    }
    if settings.wants("fjall") {
        engines.all.push(Arc::new(timed("fjall", || Fjall::load(&dir.join("fjall"), &fresh()))?));
    }
    if settings.wants("redb") {
        engines.all.push(Arc::new(timed("redb", || Redb::load(&dir.join("redb"), &fresh()))?));
    }
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
    engines: &[Arc<dyn Engine>],
    settings: &Settings,
    round: usize,
) -> Result<(), Failure> {
    for clients in settings.clients.iter().copied().filter(|_| settings.mix(Mix::MIXED)) {
        for engine in engines {
            for form in forms(&**engine, clients) {
                let plan = settings.plan(*form, clients, Mix::MIXED);
                measure(report, device, &**engine, &plan, round)?;
            }
        }
    }
    for mix in [Mix::CREATE, Mix::ACL, Mix::RENAME].into_iter().filter(|m| !settings.quick && settings.mix(*m)) {
        for engine in engines.iter().filter(|e| e.has_callbacks()) {
            measure(report, device, &**engine, &settings.plan(Form::Callback, 64, mix), round)?;
        }
    }
    Ok(())
}
