//! `storedd test`: opens a stopped store, checks every row, closes it.

use super::narrate::{narrator, tell_findings};
use super::{Ended, complain, interruptible, survive_file_limit};
use crate::config::Config;
use crate::db;
use crate::error::exit;
use crate::model::Table;
use crate::place;
use crate::store::decision::Policy;
use crate::store::{self, Plan, Report, SegmentLine, Store, View};
use serde_json::json;
use verbs::Test;

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
    survive_file_limit()?;
    interruptible()?;
    // Nothing there: make it (row 56). Something there: never make up for what is missing (row 57).
    place::finish_restore(config)?;
    let disks = place::open_or_make(config)?;
    let strict = Policy { strict: true, ..Policy::default() };
    let (narrate, env) = (narrator(false), place::env());
    let lock = store::take_lock(&disks)?;
    let plan = Plan::strict(disks.clone(), lock, strict, &narrate)?;
    tell_findings(plan.found().findings());
    plan.decision()?;
    // A store that was stopped in order is looked at and not touched, and no start is made of it.
    let (tested, mut report) = if plan.is_nothing() {
        let problems = plan.look_inside(&place::options(config), problems_of)??;
        (Tested::still(&plan, problems), plan.report(&*env)?)
    } else {
        let (store, report) = plan.carry_out(env, place::options(config), "test", &narrate)?;
        let problems = problems_of(&store.view())?;
        store.close()?;
        (Tested::opened(&store, problems), report)
    };
    if report.decision == "first start" {
        eprintln!("storedd: there was no store in {}: an empty one was made", config.store.data_dir.display());
    }
    if report.replayed > 0 && !args.recover {
        eprintln!("storedd: the store was not closed cleanly; {} records were recovered", report.replayed);
    }
    if args.deadlocks && !args.json {
        println!("waiting transactions: 0, deadlocks: 0 (a stopped store has none; of a live one: storectl stats)");
    }
    let problems = tested.problems + u64::from(report.lost.is_some());
    if args.json {
        let found = json!({"ok": problems == 0, "problems": problems, "waiting": 0, "deadlocks": 0, "report": report});
        println!("{found}");
        return Ok(problems == 0);
    }
    if args.verbose {
        println!("checked {} rows", tested.tables.iter().map(|(_, rows)| rows).sum::<u64>());
        // What a person asks for is how it came up last, not this look.
        if let Some(last) =
            Report::load(&*disks.data, 1, place::env().now())?.into_iter().next().filter(|_| report.decision == "clean")
        {
            report = last;
        }
        tested.show(&report);
    }
    match problems {
        0 => println!("the store is good"),
        _ => {
            let next = proto::naming::complete("storedd recover --dry-run -v", &place::named(config));
            println!("the store is bad: {problems} problems, named on stderr; next: {next}");
        }
    }
    Ok(problems == 0)
}

/// A store as it was tested, for `-v` (row 60).
struct Tested {
    problems: u64,
    state: &'static str,
    store_id: String,
    epoch: u64,
    checkpoint: u64,
    tables: Vec<(&'static str, u64)>,
    logs: Vec<String>,
}

impl Tested {
    /// One that was only looked at.
    fn still(plan: &Plan, problems: u64) -> Tested {
        let found = plan.found();
        let meta = found.live_meta();
        let rows = |table: Table| meta.map_or(0, |meta| meta.table(table).rows);
        let segments = found.survey().into_iter().flat_map(|survey| &survey.segments).filter(|s| s.live());
        Tested {
            problems,
            state: "clean",
            store_id: found.store_id().map(|id| id.to_string()).unwrap_or_default(),
            epoch: found.epoch().0,
            checkpoint: meta.map_or(0, |meta| meta.applied_lsn.0),
            tables: Table::ALL.into_iter().map(|table| (table.name(), rows(table))).collect(),
            logs: segments.map(|s| format!("{}: {} bytes", s.file, s.bytes)).collect(),
        }
    }

    /// One that was opened, and stopped again.
    fn opened(store: &Store, problems: u64) -> Tested {
        let line = |line: SegmentLine| {
            format!("{}: {} bytes, {}", line.segment.file, line.segment.bytes, line.kept_for.join("; "))
        };
        Tested {
            problems,
            state: "recovered",
            store_id: store.store_id().to_string(),
            epoch: store.epoch().0,
            checkpoint: store.checkpoint_lsn().0,
            tables: store.database_rows().into_iter().map(|(table, rows)| (table.name(), rows)).collect(),
            logs: store.segments().into_iter().map(line).collect(),
        }
    }

    fn show(&self, last: &Report) {
        println!("state: {}", self.state);
        println!("last start: {}", last.summary());
        println!("store id: {}", self.store_id);
        println!("epoch: {}", self.epoch);
        println!("checkpoint LSN: {}", self.checkpoint);
        for (table, rows) in &self.tables {
            println!("table {table}: {rows} rows");
        }
        for log in &self.logs {
            println!("log {log}");
        }
    }
}

/// Every row and every rule between tables; the number of faults, each named on stderr.
pub(super) fn problems_of(view: &View) -> Result<u64, Ended> {
    let rows = db::check(view.database(), &mut |_| true);
    for f in &rows.findings {
        let (file, table) = (&f.file, f.table.name());
        eprintln!("storedd: {file} table {table}, {}: {}: found {}, expected {}", f.key, f.what, f.found, f.expected);
    }
    let rules = crate::model::check::check(view)?;
    for finding in &rules.findings {
        eprintln!("storedd: {finding}");
    }
    Ok(rows.total + rules.total)
}
