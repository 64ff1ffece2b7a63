//! `storedd snapshot install`: a snapshot takes the place of the database of a stopped store.

use super::begin::{self, Manner, Question};
use super::{Ended, complain, moment, show};
use crate::config::Config;
use crate::error::exit;
use crate::place;
use crate::store::{self, Behind, Plan, Progress, Report, Wanted};
use serde_json::json;
use verbs::SnapshotInstall;

const QUESTION: Question = Question {
    message: "snapshot install replaces the database; it needs --yes",
    hint: "see what it would do: --dry-run",
};

/// `storedd snapshot install`; the exit status.
#[must_use]
pub fn snapshot_install(config: &Config, args: &SnapshotInstall) -> u8 {
    install(config, args).unwrap_or_else(|ended| complain(&ended, args.json, config))
}

fn install(config: &Config, args: &SnapshotInstall) -> Result<u8, Ended> {
    let manner = Manner { consents: args.yes, dry_run: args.dry_run, verbose: args.verbose };
    QUESTION.begin(manner)?;
    let wanted = match (&args.id, args.before) {
        (Some(id), _) => Wanted::Id(id.clone()),
        (None, Some(time)) => Wanted::Before(moment(time)),
        (None, None) => Wanted::Any,
    };
    let behind = if args.leave_log { Behind::Left } else { Behind::Replayed { accept_loss: args.accept_loss } };
    let (plan, narrate) =
        begin::plan(config, manner, |disks, lock, told| Plan::install(disks, lock, &wanted, behind, told))?;
    let decision = plan.decision()?.clone();
    let report = plan.report(&*place::env())?;
    // Suspected is no success either: without the control file nobody knows what came last.
    let doubtful = plan.is_doubtful();
    let status = |report: &Report| if doubtful { exit::DAMAGED } else { store::exit_of(report) };
    if args.dry_run {
        if args.json {
            println!("{}", show::plan_json(&decision, &report));
        } else {
            show::plan(&decision, &report);
        }
        return Ok(status(&report));
    }
    QUESTION.ask(manner, || {
        show::plan(&decision, &report);
        Ok(())
    })?;
    let (store, report) = plan.carry_out(place::env(), place::options(config), "snapshot install", &narrate)?;
    narrate(Progress::of("checkpoint", 0.0));
    store.close()?;
    if args.json {
        println!("{}", json!(report));
    } else {
        println!("{}", report.summary());
        for file in &report.quarantined {
            println!("kept for analysis: {file}");
        }
    }
    Ok(status(&report))
}
