//! `storedd recover`: makes a stopped store consistent from the files present, or refuses and names what is missing.

use super::narrate::narrator;
use super::{Ended, complain, confirmed, survive_file_limit};
use crate::cli::Recover;
use crate::config::Config;
use crate::error::{StoreError, exit};
use crate::place;
use crate::store::decision::{self, Decision, Origin, Policy};
use crate::store::{self, Found, Report};
use serde_json::json;
use std::sync::Arc;

/// `storedd recover`; the exit status.
#[must_use]
pub fn recover(config: &Config, args: &Recover) -> u8 {
    let result = match args {
        Recover { report: true, .. } => show_reports(config, args),
        Recover { dry_run: true, .. } => dry_run(config, args),
        _ => recover_now(config, args),
    };
    result.unwrap_or_else(|ended| complain(&ended, args.json, config))
}

fn policy(args: &Recover) -> Policy {
    Policy { strict: true, hold_on_loss: false, accept_loss: args.accept_loss }
}

/// What the last starts found and did, from the files they left. Reads only, so it needs no lock.
fn show_reports(config: &Config, args: &Recover) -> Result<u8, Ended> {
    let disks = place::open_existing(config)?;
    let reports = Report::load(&*disks.data, args.last.unwrap_or(1) as usize)?;
    let Some(newest) = reports.first() else {
        return Err(Ended {
            code: "not_found",
            message: format!("no report of a start in {}", disks.data.display("")),
            hint: Some("storedd test -v".to_owned()),
            exit: exit::NOT_FOUND,
        });
    };
    match (args.json, args.last) {
        (true, None) => println!("{}", json!(newest)),
        (true, Some(_)) => println!("{}", json!(reports)),
        (false, _) => reports.iter().for_each(|report| println!("{}: {}", report.started, report.summary())),
    }
    Ok(exit::OK)
}

fn dry_run(config: &Config, args: &Recover) -> Result<u8, Ended> {
    let disks = place::open_existing(config)?;
    let lock = store::take_lock(&disks)?;
    let found = store::look(&disks, &narrator(args.verbose))?;
    let decision = decision::decide(&found.evidence(&disks), policy(args));
    drop(lock);
    if args.verbose {
        describe(&found);
    }
    let decision =
        decision.map_err(|r| Ended { code: "refused", message: r.message, hint: Some(r.hint), exit: r.exit })?;
    if args.json {
        println!("{}", plan_json(&decision));
    } else {
        print_plan(&decision);
    }
    Ok(u8::from(decision.lost.is_some()) * exit::DAMAGED)
}

fn plan_json(decision: &Decision) -> serde_json::Value {
    json!({
        "dry_run": true,
        "decision": decision.verdict.name(),
        "base": decision.candidate.origin.name(),
        "base_lsn": decision.candidate.base_lsn.0,
        "reached_lsn": decision.candidate.reach.0,
        "cut": decision.cut,
        "lost": decision.lost.map(|(from, to)| json!({"from_lsn": from.0, "to_lsn": to.0})),
    })
}

fn print_plan(decision: &Decision) {
    let candidate = &decision.candidate;
    println!("decision: {}", decision.verdict.name());
    println!("would take the {} database at LSN {}", candidate.origin.name(), candidate.base_lsn);
    println!("would replay to LSN {}", candidate.reach);
    if candidate.origin == Origin::Empty {
        println!("would move the live database to removed/");
    }
    if decision.cut {
        println!("would cut the torn tail of the log and keep it in quarantine/");
    }
    if let Some((from, to)) = decision.lost {
        println!("would give up LSN {from} to {to}");
    }
    println!("nothing was changed");
}

/// What was found, segment by segment, on stderr.
fn describe(found: &Found) {
    match found.live_meta() {
        Some(meta) => eprintln!("database: good, LSN {}, {} rows", meta.applied_lsn, meta.rows()),
        None => eprintln!("database: not usable"),
    }
    if let Some(survey) = found.survey() {
        for segment in &survey.segments {
            let (first, last) = (segment.runs.first(), segment.runs.last());
            let range = first.zip(last).filter(|(f, l)| f.first_lsn <= l.last_lsn);
            let range = range.map(|(f, l)| format!("LSN {} to {}", f.first_lsn, l.last_lsn));
            eprintln!("{}: {}, ends {:?}", segment.file, range.unwrap_or_else(|| "no records".to_owned()), segment.end);
        }
        for problem in survey.problems() {
            eprintln!("{problem}");
        }
    }
}

fn recover_now(config: &Config, args: &Recover) -> Result<u8, Ended> {
    if args.accept_loss && !args.yes && !confirmed("Give up what cannot be reached? [y/N] ") {
        return Err(Ended {
            code: "usage",
            message: "--accept-loss gives up acknowledged changes; it needs --yes".to_owned(),
            hint: Some("storedd recover --dry-run -v".to_owned()),
            exit: exit::USAGE,
        });
    }
    place::finish_restore(config)?;
    let disks = place::open_existing(config)?;
    survive_file_limit()?;
    let interrupted = crate::signals::listen(|_| {}).map_err(|e| StoreError::io("install", "signal handlers", e))?;
    let narrate = narrator(args.verbose);
    let on_progress: store::OnProgress = Arc::new(move |progress| {
        if interrupted.is_set() {
            // Recovery replays into memory: nothing needs to be undone, and the next one starts from the same files.
            eprintln!("storedd: interrupted; run the same command again");
            std::process::exit(130);
        }
        narrate(progress);
    });
    let lock = store::take_lock(&disks)?;
    let opened = store::open(disks.clone(), place::env(), place::options(config), lock, policy(args), &on_progress);
    let (store, report) = match opened {
        Ok(opened) => opened,
        Err(e) => {
            // Remembered, so that the next start does not work around what was refused here (row 31).
            if matches!(e, StoreError::Refused { .. }) {
                store::set_failed_mark(&disks, &e.to_string())?;
            }
            return Err(e.into());
        }
    };
    step(args, "recover");
    store.close()?;
    step(args, "checkpoint");
    if args.all {
        place::remove_temporary(config)?;
        step(args, "remove temporary files");
    }
    print_report(&report, args);
    Ok(store::exit_of(&report))
}

fn step(args: &Recover, what: &str) {
    if args.all && !args.json {
        println!("{what} ... done");
    }
}

fn print_report(report: &Report, args: &Recover) {
    if args.json {
        println!("{}", serde_json::to_value(report).unwrap_or_default());
        return;
    }
    println!("{}", report.summary());
    for file in &report.quarantined {
        println!("kept for analysis: {file}");
    }
    if args.verbose {
        for phase in ["look", "decide", "act"] {
            if let Some(seconds) = report.phases.get(phase) {
                eprintln!("{phase}: {seconds:.3} s");
            }
        }
        for finding in &report.findings {
            eprintln!("found: {}: {}", finding.r#where, finding.what);
        }
    }
}
