//! `storedd snapshot install`: a snapshot takes the place of the database of a stopped store.

use super::narrate::{narrator, tell_findings};
use super::show::{self, describe};
use super::{Ended, complain, confirmed, interruptible, is_terminal, survive_file_limit};
use crate::cli::SnapshotInstall;
use crate::config::Config;
use crate::error::exit;
use crate::place;
use crate::store::{self, Behind, Plan, Progress, Report, Wanted};
use serde_json::json;

/// `storedd snapshot install`; the exit status.
#[must_use]
pub fn snapshot_install(config: &Config, args: &SnapshotInstall) -> u8 {
    install(config, args).unwrap_or_else(|ended| complain(&ended, args.json, config))
}

fn install(config: &Config, args: &SnapshotInstall) -> Result<u8, Ended> {
    survive_file_limit()?;
    interruptible()?;
    if !args.yes && !args.dry_run && !is_terminal() {
        return Err(unconsented());
    }
    if !args.dry_run {
        place::finish_restore(config)?;
    }
    let disks = place::open_existing(config)?;
    let narrate = narrator(args.verbose);
    let lock = store::take_lock(&disks)?;
    let wanted = match (&args.id, args.before) {
        (Some(id), _) => Wanted::Id(id.clone()),
        (None, Some(time)) => Wanted::Before(time),
        (None, None) => Wanted::Any,
    };
    let behind = if args.leave_log { Behind::Left } else { Behind::Replayed { accept_loss: args.accept_loss } };
    let plan = Plan::install(disks, lock, &wanted, behind, &narrate)?;
    if args.verbose {
        describe(plan.found());
    }
    tell_findings(plan.found().findings());
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
    if !args.yes {
        show::plan(&decision, &report);
        if !confirmed("Go on? [y/N] ") {
            return Err(unconsented());
        }
    }
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

fn unconsented() -> Ended {
    Ended {
        code: "usage",
        message: "snapshot install replaces the database; it needs --yes".to_owned(),
        hint: Some("see what it would do: --dry-run".to_owned()),
        exit: exit::USAGE,
    }
}
