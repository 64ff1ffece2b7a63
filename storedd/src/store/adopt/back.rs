//! What came back of a loss, told where the loss is told.
//!
//! # Purpose
//! A start that takes a database which is not all that there was calls the rest lost, for it knows no better. The adoption behind it does: when
//! every home was looked at, the report of that start, `status` and the mark of a repair say what came back, and name as missing only what is.
//!
//! # Operation
//! Counted is what commands of the adoption bring, in memory. What was brought before a restart is not counted, and the numbers are told as
//! the least. Not back is what homes could not prove, what stood in a manifest that was not there, and what the log had that neither a
//! partition nor the part that was set aside has.

use super::due::{Due, Loss};
use super::mailbox::{UNKNOWN_FILE, before};
use super::salvage::Salvage;
use crate::lsn::Lsn;
use crate::model::Command;
use crate::store::Store;
use crate::store::report::{self, CameBack, Finding, Report};
use std::collections::BTreeSet;

/// Things that did not come back, and are named one by one.
const NOT_BACK_KEPT: usize = 100;

/// What an adoption has brought so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) mailboxes: u64,
    pub(super) messages: u64,
    /// It goes on with one that a restart has cut off.
    pub(super) is_continued: bool,
    /// Homes whose manifest was missing or not whole.
    pub(super) without_manifest: BTreeSet<String>,
}

/// Mailboxes and messages that a command brings.
pub(super) fn brought(command: &Command) -> (u64, u64) {
    let Command::AdoptMailbox(adopted) = command else { return (0, 0) };
    let was = adopted.known.as_ref().and_then(|(key, row)| before(key, row).ok());
    match was.filter(|(_, _, deleted_us)| *deleted_us == 0) {
        _ if adopted.deleted_us > 0 => (0, 0),
        Some((_, was, _)) => (0, adopted.row.messages.saturating_sub(was.messages)),
        None => (1, adopted.row.messages),
    }
}

/// Records that neither partitions nor the log that was set aside have.
fn unproven(loss: Loss, salvage: &Salvage) -> Option<String> {
    if loss.clean {
        return None;
    }
    if loss.known == Lsn(u64::MAX) {
        return Some("what was changed last: nothing tells how far the store had come".to_owned());
    }
    let gaps = salvage.gaps(loss.from.max(loss.checkpoint), loss.known);
    let shown =
        |(first, last): &(Lsn, Lsn)| if first == last { first.to_string() } else { format!("{first} to {last}") };
    let gaps: Vec<String> = gaps.iter().take(NOT_BACK_KEPT).map(shown).collect();
    let (all, what) = (gaps.join(", "), "what was changed with them, as far as no partition had it yet");
    (!gaps.is_empty()).then(|| format!("records of LSN {all}: {what}"))
}

impl Due {
    /// What came back, as far as this process knows, and what did not; `None` if no adoption is due.
    fn came_back(&self, time: String, findings: &[Finding], total: u64) -> Option<(Lsn, CameBack)> {
        let (loss, tally, salvage) = self.tally()?;
        let manifests = tally.without_manifest.iter().map(|home| {
            format!("limits, subscriptions and what names stood for of {home}: its manifest was missing or damaged")
        });
        let mut not_back: Vec<String> = unproven(loss, &salvage).into_iter().chain(manifests).collect();
        let (unknown, missing): (Vec<_>, Vec<_>) = findings.iter().partition(|finding| finding.what == UNKNOWN_FILE);
        let mut not_back_total = not_back.len() as u64 + total - unknown.len() as u64;
        not_back.extend(missing.iter().map(|of| format!("{}: {}", of.r#where, of.what).replace('\n', " ")));
        if !unknown.is_empty() {
            let n = unknown.len();
            not_back.push(format!("{n} message files of which nothing else is known: see the folder Recovered"));
            not_back_total += 1;
        }
        not_back.truncate(NOT_BACK_KEPT);
        let Tally { mailboxes, messages, is_continued: at_least, .. } = tally;
        Some((loss.from, CameBack { time, mailboxes, messages, at_least, not_back, not_back_total }))
    }
}

impl Store {
    /// Tells what came back, in the report of the start that called it lost, in `status`, and in the mark of a repair. What cannot be written is
    /// in the journal.
    pub(super) fn tell_what_came_back(&self, findings: &[Finding], total: u64) {
        let now = self.env.now();
        let Some((from, back)) = self.due.came_back(crate::store::rfc3339(now), findings, total) else { return };
        tracing::info!(event = "came_back", mailboxes = back.mailboxes, messages = back.messages, "{}", back.words());
        let disk = &*self.disks.data;
        let told = report::came_back(disk, from, &back, now).and_then(|is_told| {
            if !is_told {
                return Ok(());
            }
            if let Some(last) = Report::load(disk, 1, now)?.first().filter(|last| last.came_back.is_some()) {
                *super::super::commit::lock(&self.summary) = last.summary();
            }
            match self.repair_recommended() {
                Some(_) => self.recommend_repair(&format!("of what was lost before, {}", back.words())),
                None => Ok(()),
            }
        });
        if let Err(e) = told {
            tracing::warn!(event = "no_report", error = %e, "what came back could not be written to the report");
        }
    }
}
