//! Measures storedd beside its peers, interleaved in one run, and prints ratios.
//!
//! `cargo run --release -p storedd-bench` runs everything (`--quick` for three minutes, `--help` for the rest). It prints
//! tables and the goals of the project with *pass* or *SHORT*, and writes `bench.json` and `bench.svg`. Nothing here is a
//! timed test: the exit status says only whether everything could be measured.

mod archive;
mod clients;
mod commits;
mod corpus;
mod daemon;
mod delivery;
mod device;
mod door;
mod engines;
mod goals;
mod group;
mod hist;
mod job;
mod lmtp;
mod machine;
mod plot;
mod reads;
mod reconstruct;
mod report;
mod restart;
mod scan;
mod servers;
mod settings;
mod shape;
mod side;
mod snapshots;
mod socket;
mod sustained;

use clap::Parser;
use door::Doors;
use engines::Failure;
use report::Report;
use settings::Settings;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// As in the daemon.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    device::sharpen_sleep();
    if let Some(status) = daemon::as_another() {
        return status;
    }
    match run(&Settings::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("storedd-bench: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: &Settings) -> Result<(), Failure> {
    let beside = std::env::current_exe()?.parent().map_or_else(|| PathBuf::from("."), PathBuf::from);
    let real = settings.dir.clone().unwrap_or_else(|| beside.clone());
    let out = settings.out.clone().unwrap_or_else(|| beside.join("bench"));
    std::fs::create_dir_all(&out)?;
    let machine = machine::describe(&real);
    println!("{machine:#}");
    let mut report = Report::default();
    for device in &settings.devices {
        let (device, root, delay) = match device.as_str() {
            "controlled" => ("controlled", PathBuf::from("/dev/shm"), Duration::from_micros(settings.sync_us)),
            _ => ("real", real.clone(), Duration::ZERO),
        };
        match tempfile::Builder::new().prefix("storedd-bench-").tempdir_in(&root) {
            Ok(dir) => on_device(&mut report, device, delay, dir.path(), settings)?,
            Err(e) => report.skip(format!("{device} device: no directory in {}: {e}", root.display())),
        }
        device::control(Duration::ZERO);
    }
    if settings.is_asked("side") {
        let dir = tempfile::Builder::new().prefix("storedd-bench-").tempdir_in(&real)?;
        let cpu = machine["cpu"].as_str().unwrap_or_default();
        let load = machine["load_before"].as_str().and_then(|load| load.split(' ').next()).unwrap_or_default();
        let disk = machine["real_disk"].as_str().and_then(|disk| disk.split(" (").next()).unwrap_or_default();
        let about = format!("{cpu}, {} cores, {disk}, load {load} before it", machine["cores"]);
        side::run(&mut report, dir.path(), settings, &about)?;
    }
    report.skip("G3: PostgreSQL, Berkeley DB and Cyrus are not part of this program");
    println!("{}{}", report.tables(), report.goal_lines());
    std::fs::write(out.join("bench.json"), format!("{:#}\n", report.json(&machine, &settings.json())))?;
    let name = machine["cpu"].as_str().unwrap_or_default();
    if let Some(svg) = plot::svg(&report, name) {
        std::fs::write(out.join("bench.svg"), svg)?;
    }
    println!("written: {} and bench.svg", out.join("bench.json").display());
    Ok(())
}

/// Everything on one device. Loading and opening is done at full speed.
fn on_device(
    report: &mut Report,
    device: &'static str,
    delay: Duration,
    dir: &Path,
    settings: &Settings,
) -> Result<(), Failure> {
    let shape = {
        device::control(Duration::ZERO);
        let engines = commits::load(dir, settings)?;
        let doors = match (&engines.storedd, &engines.raw) {
            (Some(storedd), Some(raw)) if settings.section("socket") => Some(Doors::open(dir, storedd, raw)?),
            _ => None,
        };
        device::control(delay);
        for round in 0..settings.rounds {
            println!("  {device}: round {} of {}", round + 1, settings.rounds);
            if settings.section("commits") {
                commits::round(report, device, &engines.all, settings, round)?;
            }
            if let Some(doors) = &doors {
                doors.round(report, device, settings, round)?;
            }
            if settings.section("reads") {
                reads::round(report, device, &engines.all, settings, round)?;
            }
        }
        if settings.section("sustained") {
            println!("  {device}: sustained");
            let mut runs = BTreeMap::new();
            for engine in engines.all.iter().filter(|e| sustained::ENGINES.contains(&e.name())) {
                runs.insert(engine.name(), sustained::run(report, device, &**engine, settings)?);
            }
            if let Some(storedd) = runs.get("storedd") {
                goals::sustained(report, device, storedd, runs.get("raw"));
            }
        }
        if let Some(storedd) = engines.storedd.as_ref().filter(|_| settings.section("snapshots")) {
            println!("  {device}: snapshots");
            snapshots::run(report, device, storedd, dir, settings)?;
        }
        Arc::clone(&engines.shape)
    };
    goals::commits(report, device);
    goals::counted(report, device);
    goals::reads(report, device);
    if device == "real" && settings.section("restart") && settings.wants("storedd") {
        println!("  {device}: restarts");
        restart::run(report, dir, settings, &shape)?;
    }
    if device == "real" && settings.section("delivery") {
        println!("  {device}: delivery");
        delivery::run(report, dir, settings)?;
    }
    if device == "real" && settings.section("reconstruct") {
        println!("  {device}: reconstruct");
        reconstruct::run(report, dir, settings)?;
    }
    if device == "real" && settings.section("archive") {
        println!("  {device}: archive");
        archive::run(report, dir, settings)?;
    }
    Ok(())
}
