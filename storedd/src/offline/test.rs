//! `storedd test`: opens a stopped store, checks every row, closes it.

use super::narrate::narrator;
use super::{Ended, complain, survive_file_limit};
use crate::cli::Test;
use crate::config::Config;
use crate::db;
use crate::error::exit;
use crate::place;
use crate::store::decision::Policy;
use crate::store::{self, Report};
use serde_json::json;

/// `storedd test`; 0 good, 1 bad, or the status of what kept it from testing.
#[must_use]
pub fn test(config: &Config, args: &Test) -> u8 {
    match test_now(config, args) {
        Ok(true) => exit::OK,
        Ok(false) => exit::FINDINGS,
        Err(ended) => {
            let busy = matches!(ended.exit, exit::BUSY | exit::NOT_PERMITTED | exit::CONFIG);
            complain(&ended, args.json, config);
            // 0 good, 1 bad; only where nothing could be tested is it neither.
            if busy { ended.exit } else { exit::FINDINGS }
        }
    }
}

fn test_now(config: &Config, args: &Test) -> Result<bool, Ended> {
    // Nothing there: make it (row 56). Something there: never make up for what is missing (row 57).
    place::finish_restore(config)?;
    let disks = place::open_or_make(config)?;
    survive_file_limit()?;
    let strict = Policy { strict: true, hold_on_loss: false, accept_loss: false };
    let lock = store::take_lock(&disks)?;
    let (store, report) = store::open(disks, place::env(), place::options(config), lock, strict, &narrator(false))?;
    if report.decision == "first start" {
        eprintln!("storedd: there was no store in {}: an empty one was made", config.store.data_dir.display());
    }
    let mut problems = check(&store, args)?;
    if args.recover || report.replayed > 0 || report.decision == "first start" {
        store.close()?;
    }
    if report.replayed > 0 && !args.recover {
        eprintln!("storedd: the store was not closed cleanly; {} records were recovered", report.replayed);
    }
    if args.deadlocks && !args.json {
        println!("waiting transactions: 0, deadlocks: 0 (a stopped store has none; of a live one: storectl stats)");
    }
    if args.json {
        let found = json!({"ok": problems == 0, "problems": problems, "waiting": 0, "deadlocks": 0, "report": report});
        println!("{found}");
    } else if args.verbose {
        print_state(&store, &report);
    }
    problems += u64::from(report.lost.is_some());
    match problems {
        _ if args.json => {}
        0 => println!("the store is good"),
        _ => {
            let next = proto::naming::complete("storedd recover --dry-run -v", &place::named(config));
            println!("the store is bad: {problems} problems, named on stderr; next: {next}");
        }
    }
    Ok(problems == 0)
}

/// Every row and every rule between tables; the number of problems, each named on stderr.
fn check(store: &store::Store, args: &Test) -> Result<u64, Ended> {
    let view = store.view();
    let rows = db::check(view.database(), &mut |_| true);
    for f in &rows.findings {
        eprintln!(
            "storedd: {} table {}, {}: {}: found {}, expected {}",
            f.file,
            f.table.name(),
            f.key,
            f.what,
            f.found,
            f.expected
        );
    }
    let rules = crate::model::check::check(&view)?;
    for finding in &rules.findings {
        eprintln!("storedd: {finding}");
    }
    if args.verbose && !args.json {
        println!("checked {} rows", rows.rows);
    }
    Ok(rows.total + rules.total)
}

fn print_state(store: &store::Store, report: &Report) {
    println!("state: {}", if report.replayed == 0 { "clean" } else { "recovered" });
    println!("last start: {}", report.summary());
    println!("store id: {}", store.store_id());
    println!("epoch: {}", store.epoch());
    println!("checkpoint LSN: {}", store.checkpoint_lsn());
    for (table, rows) in store.database_rows() {
        println!("table {}: {rows} rows", table.name());
    }
    for line in store.segments() {
        println!("log {}: {} bytes, {}", line.segment.file, line.segment.bytes, line.kept_for.join("; "));
    }
}
