//! Offline verbs: `recover` and `test` on a stopped store. They take the store's lock, so they refuse while a daemon
//! lives, and they are strict: what a start would work around they refuse, name the files, and change nothing.

use crate::cli::{Recover, Test};
use crate::config::Config;
use crate::db;
use crate::error::{StoreError, exit};
use crate::place;
use crate::store::decision::{self, Decision, Origin, Policy};
use crate::store::{self, Found, Progress, Report};
use serde_json::json;
use std::io::IsTerminal;
use std::sync::Arc;

/// An offline verb that ended before its end: what to say, and the exit status.
struct Ended {
    code: &'static str,
    message: String,
    hint: Option<String>,
    exit: u8,
}

impl From<StoreError> for Ended {
    fn from(e: StoreError) -> Ended {
        Ended { code: e.code(), message: e.to_string(), hint: e.hint(), exit: e.exit() }
    }
}

/// Says on both streams why a verb ended.
fn complain(ended: &Ended, json: bool, config: &Config) -> u8 {
    let hint = ended.hint.as_ref().map(|hint| proto::naming::complete(hint, &place::named(config)));
    eprintln!("storedd: {}", ended.message);
    if let Some(hint) = &hint {
        eprintln!("  next: {hint}");
    }
    if json {
        println!("{}", json!({"error": {"code": ended.code, "message": ended.message, "hint": hint}}));
    }
    ended.exit
}

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

fn survive_file_limit() -> Result<(), StoreError> {
    crate::signals::survive_file_limit().map_err(|e| StoreError::io("install", "signal handlers", e))
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

/// Progress on stderr, every two seconds at the most, so that a long recovery does not look hung (row 36).
fn narrator(verbose: bool) -> store::OnProgress {
    let clock = place::env();
    let last = std::sync::Mutex::new((clock.uptime(), ""));
    Arc::new(move |Progress { phase, done }| {
        let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = clock.uptime();
        let new_phase = last.1 != phase && verbose;
        if new_phase || now.saturating_sub(last.0).as_secs() >= 2 {
            *last = (now, phase);
            // The first word of a phase is that it begins.
            let part = if new_phase { "begun".to_owned() } else { format!("{:.0} %", done * 100.0) };
            eprintln!("{phase}: {part}");
        }
    })
}

fn confirmed(question: &str) -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    eprint!("{question}");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).is_ok() && matches!(line.trim(), "y" | "Y" | "yes")
}

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
