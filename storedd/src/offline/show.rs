//! What a verb on a stopped store found, will do, and did, for people and for scripts.

use crate::lsn::Lsn;
use crate::store::decision::{Candidate, Decision, Origin, Verdict};
use crate::store::{Found, Report};
use crate::wal::End;
use serde_json::json;

/// A plan as one JSON document.
pub(super) fn plan_json(decision: &Decision, report: &Report) -> serde_json::Value {
    let set_aside = decision.lost.filter(|_| decision.verdict == Verdict::Until);
    json!({
        "dry_run": true,
        "decision": decision.verdict.name(),
        "base": decision.candidate.origin.name(),
        "base_lsn": decision.candidate.base_lsn.0,
        "reached_lsn": decision.candidate.reach.0,
        "cut": decision.cut,
        "lost": report.lost,
        "set_aside": set_aside.map(|(from, to)| json!({"from_lsn": from.0, "to_lsn": to.0})),
        "findings": report.findings,
    })
}

/// A plan in words.
pub(super) fn plan(decision: &Decision, report: &Report) {
    let Candidate { origin, base_lsn, reach, .. } = &decision.candidate;
    println!("decision: {}", decision.verdict.name());
    println!("would take the {} database at LSN {base_lsn}", origin.name());
    println!("would replay to LSN {reach}");
    if *origin != Origin::Live {
        println!("would move the live database, if there is one, to removed/");
    }
    if decision.cut {
        println!("would cut the torn tail of the log and keep it in quarantine/");
    }
    match (decision.lost, decision.verdict) {
        (Some((from, to)), Verdict::Until) => {
            println!("would set aside LSN {from} to {to}, in quarantine/");
            let about = report.findings.iter().filter(|f| f.what.starts_with("set aside"));
            about.for_each(|finding| println!("  {}", finding.what));
        }
        (Some((from, to)), _) => println!("would give up LSN {from} to {to}"),
        (None, _) => {}
    }
    if decision.fork {
        println!("would go on in a new epoch of the log");
    }
    println!("nothing was changed");
}

/// What was found, segment by segment, on stderr.
pub(super) fn describe(found: &Found) {
    match found.live_meta() {
        Some(meta) => eprintln!("database: good, LSN {}, {} rows", meta.applied_lsn, meta.rows()),
        None => eprintln!("database: not usable"),
    }
    let Some(survey) = found.survey() else { return };
    for segment in &survey.segments {
        let (first, last) = (segment.runs.first(), segment.runs.last());
        let range = first.zip(last).filter(|(f, l)| f.first_lsn <= l.last_lsn);
        let range = range.map(|(f, l)| format!("LSN {} to {}", f.first_lsn, l.last_lsn));
        eprintln!("{}: {}, ends {:?}", segment.file, range.unwrap_or_else(|| "no records".to_owned()), segment.end);
    }
}

/// What a recovery redoes and undoes (row 26).
pub(super) struct Redo {
    /// First and last log file.
    logs: Option<(String, String)>,
    first: Lsn,
    /// Where the first record stands.
    start: Option<(String, u64)>,
    /// Whole transactions of writes that were never finished.
    undone: u64,
    /// A log file is damaged.
    pub(super) damaged: bool,
}

impl Redo {
    /// Before it is done.
    pub(super) fn of(found: &Found, decision: &Decision) -> Redo {
        let Candidate { epoch, base_lsn, .. } = decision.candidate;
        let survey = found.survey();
        let live = || survey.into_iter().flat_map(|s| &s.segments).filter(|s| s.live());
        let torn = |end: &End| if let End::Torn { records, .. } = end { *records } else { 0 };
        Redo {
            logs: live().next().zip(live().next_back()).map(|(first, last)| (first.file.clone(), last.file.clone())),
            first: base_lsn.next(),
            start: survey.and_then(|s| s.position(epoch, base_lsn)),
            undone: live().map(|s| torn(&s.end)).sum(),
            damaged: live().any(|s| !s.damages.is_empty()),
        }
    }

    /// After it is done, on stderr.
    pub(super) fn show(&self, report: &Report, checkpoint: Lsn) {
        match &self.logs {
            Some((first, last)) if first == last => eprintln!("log: {first}"),
            Some((first, last)) => eprintln!("log: {first} to {last}"),
            None => eprintln!("log: there was none"),
        }
        match &self.start {
            Some((file, offset)) if report.replayed > 0 => {
                eprintln!("started from: LSN {}, {file} offset {offset}", self.first);
            }
            _ => eprintln!("started from: LSN {}, nothing to replay", self.first),
        }
        eprintln!(
            "redone: {} transactions, {} records to LSN {}",
            report.transactions, report.replayed, report.reached_lsn
        );
        eprintln!("undone: {} transactions, {} bytes of unfinished writes", self.undone, report.cut_bytes);
        eprintln!("checkpoint: LSN {checkpoint}");
    }
}
