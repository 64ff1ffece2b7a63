//! `storedd log reset`: goes on from a good database with a new log (row 39).

use super::begin::{self, Manner, Question};
use super::narrate::tell_missing;
use super::test::problems_of;
use super::{Ended, complain};
use crate::config::Config;
use crate::error::{StoreError, exit};
use crate::place;
use crate::store::decision::{Decision, Origin, Policy};
use crate::store::{self, Plan, Progress, Report};
use serde_json::json;
use verbs::LogReset;

const QUESTION: Question = Question {
    message: "log reset leaves the old log behind; it needs --yes",
    hint: "see what it would do: storedd log reset --dry-run",
};

/// `storedd log reset`; the exit status.
#[must_use]
pub fn log_reset(config: &Config, args: &LogReset) -> u8 {
    reset(config, args).unwrap_or_else(|ended| complain(&ended, args.json, config))
}

fn reset(config: &Config, args: &LogReset) -> Result<u8, Ended> {
    let manner = Manner { consents: args.yes, dry_run: args.dry_run, verbose: args.verbose };
    QUESTION.begin(manner)?;
    // What can be read of the old log is taken; what cannot is what a reset gives up.
    let policy = Policy { strict: true, accept_loss: true, ..Policy::default() };
    let (plan, narrate) = begin::plan(config, manner, |disks, lock, told| Plan::strict(disks, lock, policy, told))?;
    let decision = plan.decision()?.clone();
    tell_missing(plan.found().findings());
    narrate(Progress::of("verify", 0.0));
    verify(&plan, config, &decision)?;
    plan.expect_log_not_needed()?;
    let report = Report { possible_loss: plan.is_doubtful(), ..plan.report(&*place::env())? };
    let old: Vec<String> =
        plan.found().survey().map_or(Vec::new(), |s| s.segments.iter().map(|s| s.file.clone()).collect());
    if args.dry_run {
        tell_plan(&decision, &report, &old, args.json);
        return Ok(status(&report));
    }
    QUESTION.ask(manner, || {
        tell_plan(&decision, &report, &old, false);
        Ok(())
    })?;
    let possible_loss = report.possible_loss;
    let (store, done) = plan.carry_out(place::env(), place::options(config), "log reset", &narrate)?;
    narrate(Progress::of("checkpoint", 0.0));
    let reset = store.reset_log()?;
    let report = Report { possible_loss, epoch: reset.epoch.0, ..done };
    tell_done(&report, &reset, args.json);
    Ok(status(&report))
}

/// Known or suspected: never 0.
fn status(report: &Report) -> u8 {
    if report.lost.is_some() || report.possible_loss { exit::DAMAGED } else { exit::OK }
}

/// The database must be good to the last row before anything else is given up.
fn verify(plan: &Plan, config: &Config, decision: &Decision) -> Result<(), Ended> {
    let problems = plan.look_inside(&place::options(config), problems_of)??;
    if decision.candidate.origin != Origin::Live {
        return Err(StoreError::Refused {
            message: "a snapshot and the log behind it lead further than the database".to_owned(),
            hint: "storedd recover --catastrophic".to_owned(),
            exit: exit::DAMAGED,
        }
        .into());
    }
    match problems {
        0 => Ok(()),
        problems => Err(StoreError::Refused {
            message: format!("the database has {problems} faults; a new log would not make it good"),
            hint: "storedd recover --catastrophic".to_owned(),
            exit: exit::DAMAGED,
        }
        .into()),
    }
}

fn lost_words(report: &Report) -> String {
    match &report.lost {
        Some(lost) => format!("LSN {} to {}, {}", lost.from_lsn, lost.to_lsn, lost.how_many()),
        None if report.possible_loss => {
            "nothing that is known; what was done last may have stood in a log file that is not there, or damaged"
                .to_owned()
        }
        None => "nothing".to_owned(),
    }
}

fn tell_plan(decision: &Decision, report: &Report, old: &[String], json: bool) {
    if json {
        let reached = decision.candidate.reach.0;
        println!(
            "{}",
            json!({
                "dry_run": true, "reached_lsn": reached, "lost": report.lost, "possible_loss": report.possible_loss,
                "set_aside": old, "findings": report.findings,
            })
        );
        return;
    }
    println!("the database is good, at LSN {}", decision.candidate.base_lsn);
    println!("would replay the log to LSN {}", decision.candidate.reach);
    println!("would move to quarantine/: {}", if old.is_empty() { "nothing".to_owned() } else { old.join(", ") });
    println!("would be lost: {}", lost_words(report));
    println!("nothing was changed");
}

fn tell_done(report: &Report, reset: &store::LogReset, json: bool) {
    if json {
        println!(
            "{}",
            json!({
                "reached_lsn": reset.fork.reached.0, "first_lsn": reset.fork.first.0, "epoch": report.epoch,
                "file": reset.file, "lost": report.lost, "possible_loss": report.possible_loss,
                "quarantined": report.quarantined.iter().chain(&reset.quarantined).collect::<Vec<_>>(),
            })
        );
        return;
    }
    println!("the database holds everything up to LSN {}", reset.fork.reached);
    println!("new log: {}, from LSN {}, epoch {}", reset.file, reset.fork.first, report.epoch);
    println!("lost: {}", lost_words(report));
    for file in report.quarantined.iter().chain(&reset.quarantined) {
        println!("kept for analysis: {file}");
    }
}
