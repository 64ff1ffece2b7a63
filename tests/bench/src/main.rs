//! Measures storedd beside its peers, interleaved in one run, and prints ratios.
//!
//! `cargo run --release -p storedd-bench` runs everything (`--quick` for two minutes, `--help` for the rest). It prints
//! tables and the goals of the project with *pass* or *SHORT*, and writes `bench.json` and `bench.svg`. Nothing here is a
//! timed test: the exit status says only whether everything could be measured.

mod clients;
mod commits;
mod device;
mod engines;
mod goals;
mod group;
mod hist;
mod job;
mod machine;
mod plot;
mod reads;
mod report;
mod settings;
mod shape;
mod sustained;

use clap::Parser;
use engines::Failure;
use report::Report;
use settings::Settings;
use shape::Shape;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

fn main() -> ExitCode {
    device::sharpen_sleep();
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
    let shape = Arc::new(Shape::new([190, 300, 320])?);
    let mut report = Report::default();
    for device in &settings.devices {
        let (device, root, delay) = match device.as_str() {
            "controlled" => ("controlled", PathBuf::from("/dev/shm"), Duration::from_micros(settings.sync_us)),
            "real" => ("real", real.clone(), Duration::ZERO),
            other => return Err(Failure::new(format!("--devices {other}: expected controlled or real"))),
        };
        let Ok(dir) = tempfile::Builder::new().prefix("storedd-bench-").tempdir_in(&root) else {
            report.skip(format!("{device} device: no directory can be made in {}", root.display()));
            continue;
        };
        device::control(Duration::ZERO);
        let engines = commits::load(dir.path(), settings, &shape)?;
        device::control(delay);
        for round in 0..settings.rounds {
            println!("  {device}: round {} of {}", round + 1, settings.rounds);
            if settings.section("commits") {
                commits::round(&mut report, device, &engines, settings, round)?;
            }
            if settings.section("reads") {
                reads::round(&mut report, device, &engines, settings, round)?;
            }
        }
        if settings.section("sustained") {
            println!("  {device}: sustained");
            let mut runs = BTreeMap::new();
            for engine in engines.iter().filter(|e| sustained::ENGINES.contains(&e.name())) {
                runs.insert(engine.name(), sustained::run(&mut report, device, &**engine, settings)?);
            }
            if let Some(storedd) = runs.get("storedd") {
                goals::sustained(&mut report, device, storedd, runs.get("raw"));
            }
        }
        goals::commits(&mut report, device);
        goals::counted(&mut report, device);
        goals::reads(&mut report, device);
        device::control(Duration::ZERO);
    }
    println!("{}{}", report.tables(), report.goal_lines());
    std::fs::write(out.join("bench.json"), format!("{:#}\n", report.json(&machine, &settings.json())))?;
    let name = machine["cpu"].as_str().unwrap_or_default();
    if let Some(svg) = plot::svg(&report, name) {
        std::fs::write(out.join("bench.svg"), svg)?;
    }
    println!("written: {}", out.join("bench.json").display());
    Ok(())
}
