//! What a start tells of itself: the report before anything is given up, what is lost, how long each part took.

use super::decision::{Candidate, Decision, Verdict};
use super::look::Found;
use super::report::{Finding, Lost, Report};
use super::{Disks, Parts};
use crate::env::Env;
use crate::lsn::{Lsn, Micros};
use crate::model::{Change, Table};
use crate::wal::{self, Reach};
use std::collections::BTreeSet;
use std::time::Duration;

/// What can be said before anything is done.
pub(super) fn begin_report(disks: &Disks, found: &Found, decision: &Decision, now: Micros) -> Report {
    let mut report = Report {
        started: super::rfc3339(now),
        decision: decision.verdict.name().to_owned(),
        base: decision.candidate.origin.name(),
        base_lsn: decision.candidate.base_lsn.0,
        reached_lsn: decision.candidate.reach.0,
        findings: found.findings.clone(),
        ..Report::default()
    };
    let behind = decision.lost.map(|(from, to)| lost(disks, found, decision, from, to));
    match decision.verdict {
        Verdict::Until => report.findings.extend(behind.map(|lost| set_aside(disks, &lost))),
        _ => report.lost = behind,
    }
    report
}

/// What a person has given up is not lost: it was asked for, and is kept.
fn set_aside(disks: &Disks, behind: &Lost) -> Finding {
    let mut what = format!("set aside as was asked: {}", behind.how_many());
    if !behind.mailboxes.is_empty() {
        what.push_str(&format!(", in {}", behind.mailboxes.join(", ")));
    }
    Finding {
        r#where: format!("LSN {} to {}", behind.from_lsn, behind.to_lsn),
        what,
        expected: format!("kept in {}", disks.log.display(wal::QUARANTINE)),
        found: "records behind the point".to_owned(),
    }
}

/// What can still be said of the lost records: those behind the damage that are readable. Only where these are all that there were is their
/// number the number of what is lost.
fn lost(disks: &Disks, found: &Found, decision: &Decision, from: Lsn, to: Lsn) -> Lost {
    let mut mailboxes = BTreeSet::new();
    let (mut readable, mut seen) = (0, 0);
    if let Some(survey) = &found.survey {
        let Candidate { epoch, base_lsn, reach: lsn, .. } = decision.candidate;
        let reach = Reach { lsn, ..survey.reach(epoch, base_lsn) };
        let outcome = wal::salvage(&*disks.log, survey, &reach, &mut |record| {
            seen += u64::from(record.lsn >= from && record.lsn <= to);
            readable += u64::from(record.is_transaction());
            record.for_each_change(&mut |change| {
                let (Change::Put { table, key, .. } | Change::Remove { table, key }) = &change else { return Ok(()) };
                if *table == Table::Mailboxes && mailboxes.len() < LOST_MAILBOXES_MAX {
                    mailboxes.insert(crate::model::name::key_text(key));
                }
                Ok(())
            })
        });
        if let Err(e) = outcome {
            tracing::warn!(event = "salvage", error = %e, "not all lost records could be looked at");
        }
    }
    Lost {
        from_lsn: from.0,
        to_lsn: to.0,
        transactions: readable,
        transactions_at_least: seen != (to.0 - from.0).saturating_add(1),
        mailboxes: mailboxes.into_iter().collect(),
    }
}

/// Names of lost mailboxes that a report lists.
const LOST_MAILBOXES_MAX: usize = 1000;

/// What is known when everything is done, and the commands to type next; `repair`: this start recommends one.
pub(super) fn finish_report(
    report: &mut Report,
    decision: &Decision,
    parts: &Parts,
    clock: Phases<'_>,
    named: &str,
    repair: bool,
) {
    report.epoch = parts.control.state().epoch.0;
    report.phases = clock.marks.iter().map(|(name, d)| ((*name).to_owned(), d.as_secs_f64())).collect();
    report.duration = clock.total().as_secs_f64();
    let steps: &[&str] = match decision.verdict {
        Verdict::Hold => &["recover --report", "recover --accept-loss --yes"],
        Verdict::Lossy if repair => &["recover --report", "reconstruct -m", "recover --accept-loss --yes"],
        _ if repair => &["recover --report", "recover --accept-loss --yes"],
        Verdict::Lossy => &["recover --report"],
        // Nothing is lost; but what has damaged the database may have damaged more.
        Verdict::Rollback | Verdict::Rebuild => &["snapshot verify --all"],
        // Older snapshots lead to the history that was left.
        Verdict::Until => &["snapshot take --verify"],
        _ => &[],
    };
    report.next_steps.extend(steps.iter().map(|step| format!("storectl {named}{step}")));
}

/// How long each part of a start took.
pub(super) struct Phases<'a> {
    env: &'a dyn Env,
    begun: Duration,
    last: Duration,
    marks: Vec<(&'static str, Duration)>,
}

impl<'a> Phases<'a> {
    pub(super) fn start(env: &'a dyn Env) -> Phases<'a> {
        let now = env.uptime();
        Phases { env, begun: now, last: now, marks: Vec::new() }
    }

    pub(super) fn mark(mut self, name: &'static str) -> Phases<'a> {
        let now = self.env.uptime();
        self.marks.push((name, now.saturating_sub(self.last)));
        self.last = now;
        self
    }

    fn total(&self) -> Duration {
        self.env.uptime().saturating_sub(self.begun)
    }
}
