//! `storedd recover`: makes a stopped store consistent from the files present, or refuses and names what is missing.

use super::begin::{self, Manner, Question};
use super::narrate::tell_missing;
use super::{Ended, complain, moment, show};
use crate::cli::Recover;
use crate::config::Config;
use crate::error::exit;
use crate::lsn::Lsn;
use crate::place;
use crate::store::decision::{Policy, Verdict};
use crate::store::{self, Plan, Point, Progress, Report};
use serde_json::json;

/// `storedd recover`; the exit status.
#[must_use]
pub fn recover(config: &Config, args: &Recover) -> u8 {
    let result = match args {
        Recover { report: true, last, run } => show_reports(config, *last, run.json),
        Recover { run, .. } if run.dry_run => dry_run(config, run),
        Recover { run, .. } => recover_now(config, run),
    };
    result.unwrap_or_else(|ended| complain(&ended, args.run.json, config))
}

fn policy(args: &verbs::Recover) -> Policy {
    Policy { strict: true, hold_on_loss: false, accept_loss: args.accept_loss, catastrophic: args.catastrophic }
}

fn point(args: &verbs::Recover) -> Option<Point> {
    args.until_lsn.map(|lsn| Point::Lsn(Lsn(lsn))).or(args.until_time.map(|time| Point::Time(moment(time))))
}

/// What the last starts found and did, from the files they left. Reads only, so it needs no lock.
fn show_reports(config: &Config, last: Option<u32>, json: bool) -> Result<u8, Ended> {
    let disks = place::open_existing(config)?;
    let reports = Report::load(&*disks.data, last.unwrap_or(1) as usize, place::env().now())?;
    let Some(newest) = reports.first() else {
        return Err(Ended {
            code: "not_found",
            message: format!("no report of a start in {}", disks.data.display("")),
            hint: Some("storedd test -v".to_owned()),
            exit: exit::NOT_FOUND,
        });
    };
    match (json, last) {
        (true, None) => println!("{}", json!(newest)),
        (true, Some(_)) => println!("{}", json!(reports)),
        (false, _) => reports.iter().for_each(|report| println!("{}: {}", report.started, report.summary())),
    }
    Ok(exit::OK)
}

fn manner(args: &verbs::Recover) -> Manner {
    let gives_up = args.accept_loss || point(args).is_some();
    Manner { consents: args.yes || !gives_up, dry_run: args.dry_run, verbose: args.verbose }
}

/// Looks, decides, and says what was found.
fn plan(config: &Config, args: &verbs::Recover) -> Result<(Plan, store::OnProgress), Ended> {
    let archive = place::archive_settings(config).path;
    begin::plan(config, manner(args), |disks, lock, told| {
        Plan::recover(disks, &*place::env(), lock, policy(args), point(args), archive.as_deref(), told)
    })
}

fn dry_run(config: &Config, args: &verbs::Recover) -> Result<u8, Ended> {
    let (plan, _) = plan(config, args)?;
    let decision = plan.decision()?;
    tell_missing(plan.found().findings());
    let report = plan.report(&*place::env())?;
    if args.json {
        println!("{}", show::plan_json(decision, &report));
    } else {
        show::plan(decision, &report);
    }
    Ok(u8::from(report.lost.is_some() || plan.is_doubtful()) * exit::DAMAGED)
}

fn recover_now(config: &Config, args: &verbs::Recover) -> Result<u8, Ended> {
    question(args).begin(manner(args))?;
    let (plan, narrate) = plan(config, args)?;
    let decision = match plan.decision() {
        Ok(decision) => decision.clone(),
        Err(e) => {
            // Remembered, so that the next start does not work around what was refused here (row 31).
            plan.remember_failure(&e)?;
            return Err(e.into());
        }
    };
    tell_missing(plan.found().findings());
    question(args).ask(manner(args), || {
        show::plan(&decision, &plan.report(&*place::env())?);
        Ok(())
    })?;
    let (redo, doubtful) = (show::Redo::of(plan.found(), &decision), plan.is_doubtful());
    let verb = if args.catastrophic { "recover --catastrophic" } else { "recover" };
    let (store, report) = plan.carry_out(place::env(), place::options(config), verb, &narrate)?;
    step(args, "recover");
    narrate(Progress::of("checkpoint", 0.0));
    store.close()?;
    step(args, "checkpoint");
    if args.all {
        place::remove_temporary(config)?;
        step(args, "remove temporary files");
    }
    print_report(&report, args);
    if args.verbose {
        redo.show(&report, store.checkpoint_lsn());
    }
    Ok(status(&report, doubtful, redo.damaged, decision.verdict))
}

/// What was given up, or may have been, is status 2; damage that cost nothing is a finding (row 38).
fn status(report: &Report, doubtful: bool, damaged: bool, verdict: Verdict) -> u8 {
    match store::exit_of(report) {
        exit::OK if doubtful => exit::DAMAGED,
        exit::OK if damaged && verdict != Verdict::Until => exit::FINDINGS,
        status => status,
    }
}

fn question(args: &verbs::Recover) -> Question {
    if args.accept_loss {
        let message = "--accept-loss gives up acknowledged changes; it needs --yes";
        Question { message, hint: "storedd recover --dry-run -v" }
    } else {
        let message = "to go back to a point sets aside what came later; it needs --yes";
        Question { message, hint: "see what it would do: --dry-run" }
    }
}

fn step(args: &verbs::Recover, what: &str) {
    if args.all && !args.json {
        println!("{what} ... done");
    }
}

fn print_report(report: &Report, args: &verbs::Recover) {
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
    }
}
