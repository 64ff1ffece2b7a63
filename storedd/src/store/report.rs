//! The report of a start: what was found, decided, replayed, cut and lost. One JSON file per start in
//! `dbdata/reports/`, kept by count; the field names are those of `recover --report`.

use crate::disk::{self, Disk};
use crate::error::{Result, StoreError};
use crate::lsn::{Lsn, Micros};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;

/// Directory of the reports below the data directory.
pub(crate) const DIR: &str = "dbdata/reports";
/// A report larger than this is not read.
const BYTES_MAX: u64 = 4 << 20;

/// What is known to be lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// First lost LSN.
    pub from_lsn: u64,
    /// Last LSN that is known to have been durable.
    pub to_lsn: u64,
    /// How many transactions; those that could still be read, if nobody knows of all.
    pub transactions: u64,
    /// There may have been more transactions: not every record of the range could be read. So does a report of an older program say.
    #[serde(default = "unknown")]
    pub transactions_at_least: bool,
    /// Mailboxes touched by lost records that could still be read.
    pub mailboxes: Vec<String>,
}

fn unknown() -> bool {
    true
}

impl Lost {
    /// How many transactions, in words.
    #[must_use]
    pub fn how_many(&self) -> String {
        match (self.transactions, self.transactions_at_least) {
            (0, true) => "an unknown number of transactions".to_owned(),
            (n, at_least) => {
                let (least, s) = (if at_least { "at least " } else { "" }, if n == 1 { "" } else { "s" });
                format!("{least}{n} transaction{s}")
            }
        }
    }
}

/// What came back of a loss, when everything was looked at that may have had it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CameBack {
    /// When that was (RFC 3339).
    pub time: String,
    /// Mailboxes that came back.
    pub mailboxes: u64,
    /// Messages in them, and in others.
    pub messages: u64,
    /// There were more: what came back before a restart was not counted.
    pub at_least: bool,
    /// What is not back, the first of it.
    pub not_back: Vec<String>,
    /// How much that is.
    pub not_back_total: u64,
}

/// Things that did not come back, and are named in one line.
const NOT_BACK_SHOWN: usize = 3;

impl CameBack {
    /// In words.
    #[must_use]
    pub fn words(&self) -> String {
        let many = |n: u64, one: &str, more: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {more}") };
        let back = match (self.mailboxes + self.messages, self.at_least) {
            (0, false) => "nothing came back from partitions".to_owned(),
            (0, true) => "what came back from partitions was not counted, for a restart came between".to_owned(),
            (_, at_least) => format!(
                "{}{}, {} came back from partitions",
                if at_least { "at least " } else { "" },
                many(self.mailboxes, "mailbox", "mailboxes"),
                many(self.messages, "message", "messages")
            ),
        };
        let shown: Vec<&str> = self.not_back.iter().take(NOT_BACK_SHOWN).map(String::as_str).collect();
        match (shown.is_empty(), self.not_back_total.saturating_sub(shown.len() as u64)) {
            (true, _) => format!("{back}; nothing else is known to be missing"),
            (false, 0) => format!("{back}; not back: {}", shown.join("; ")),
            (false, more) => format!("{back}; not back: {}; and {more} more", shown.join("; ")),
        }
    }
}

/// One thing noticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// File and offset, or table and key.
    pub r#where: String,
    /// Which structure.
    pub what: String,
    /// What should have been there.
    pub expected: String,
    /// What was there.
    pub found: String,
}

/// What a finding says of a file that is not there.
const MISSING: &str = "missing";

impl Finding {
    /// True if it names files that are not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.what == MISSING
    }

    /// What an error says.
    pub(super) fn of(e: &StoreError) -> Finding {
        match e {
            StoreError::Corrupt { file, offset, what, found, expected } => Finding {
                r#where: format!("{file}: offset {offset}"),
                what: what.clone(),
                expected: expected.clone(),
                found: found.clone(),
            },
            StoreError::Missing { files } => Finding {
                r#where: files.join(", "),
                what: MISSING.to_owned(),
                expected: "a file".to_owned(),
                found: "nothing".to_owned(),
            },
            e => Finding { r#where: String::new(), what: e.to_string(), expected: String::new(), found: String::new() },
        }
    }
}

/// The report of one start.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Report {
    /// RFC 3339.
    pub started: String,
    /// Which one of this store it is, from 1: clocks are set back. 0: of a program that did not count them.
    #[serde(default)]
    pub number: u64,
    /// The verb of a person on a stopped store; a start has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verb: Option<String>,
    /// Seconds until ready.
    pub duration: f64,
    /// See [`super::decision::Verdict::name`].
    pub decision: String,
    /// `live`, `empty` or a snapshot id.
    pub base: String,
    /// Applied LSN of the base.
    pub base_lsn: u64,
    /// LSN reached.
    pub reached_lsn: u64,
    /// Epoch from now on.
    pub epoch: u64,
    /// Known loss, as the start saw it.
    pub lost: Option<Lost>,
    /// What came back of it since.
    #[serde(default)]
    pub came_back: Option<CameBack>,
    /// Whether something at the end is missing cannot be proven either way: the last unsealed group, or, without a
    /// control file, a last segment.
    pub possible_loss: bool,
    /// Records replayed.
    pub replayed: u64,
    /// Of them so many transactions.
    #[serde(default)]
    pub transactions: u64,
    /// Log bytes replayed.
    pub replayed_bytes: u64,
    /// When the oldest replayed transaction was made (RFC 3339); absent if none was.
    #[serde(default)]
    pub oldest_replayed: Option<String>,
    /// Bytes of a torn tail that were cut.
    pub cut_bytes: u64,
    /// Where cut or replaced bytes are kept.
    pub quarantined: Vec<String>,
    /// Everything noticed.
    pub findings: Vec<Finding>,
    /// Commands to type next.
    pub next_steps: Vec<String>,
    /// Seconds by phase.
    pub phases: BTreeMap<String, f64>,
}

impl Report {
    /// One line for the log and for `status`.
    #[must_use]
    pub fn summary(&self) -> String {
        let lost = match (&self.lost, &self.came_back, self.possible_loss) {
            (Some(l), Some(back), _) => {
                format!("gave up LSN {} to {}, {}: {}", l.from_lsn, l.to_lsn, l.how_many(), back.words())
            }
            (Some(l), None, _) => format!("LOST LSN {} to {}, {}", l.from_lsn, l.to_lsn, l.how_many()),
            (None, _, true) => "what came last may be incomplete".to_owned(),
            (None, _, false) => "nothing lost".to_owned(),
        };
        format!(
            "{}: base {} at LSN {}, {} records replayed to LSN {}, {} bytes cut, {lost}, {:.3} s",
            self.decision, self.base, self.base_lsn, self.replayed, self.reached_lsn, self.cut_bytes, self.duration
        )
    }

    /// Writes it durably under a name of its own, which it gives.
    pub(crate) fn begin(&self, disk: &dyn Disk) -> Result<String> {
        let fail = |op, e| StoreError::io(op, disk.display(DIR), e);
        disk.create_dir("dbdata").map_err(|e| fail("create", e))?;
        disk.create_dir(DIR).map_err(|e| fail("create", e))?;
        for dir in ["", "dbdata"] {
            disk.sync_dir(dir).map_err(|e| fail("sync", e))?;
        }
        let mut name = format!("{DIR}/{}.json", self.started);
        let mut n = 1;
        while disk.stat(&name).map_err(|e| fail("stat", e))?.is_some() {
            name = format!("{DIR}/{}-{n}.json", self.started);
            n += 1;
        }
        self.replace(disk, &name)?;
        Ok(name)
    }

    /// Writes it, in place of the one begun as `begun`, and removes the oldest beyond the number kept.
    pub(crate) fn finish(&self, disk: &dyn Disk, begun: Option<&str>, kept: usize, now: Micros) -> Result<()> {
        match begun {
            Some(name) => self.replace(disk, name)?,
            None => drop(self.begin(disk)?),
        }
        let all = all(disk, now)?;
        for (old, _) in all.iter().take(all.len().saturating_sub(kept)) {
            disk.remove(&format!("{DIR}/{old}")).map_err(|e| StoreError::io("remove", disk.display(DIR), e))?;
        }
        Ok(())
    }

    fn replace(&self, disk: &dyn Disk, name: &str) -> Result<()> {
        let before = read(disk, name).map(|before| before.number).filter(|number| *number > 0);
        let number = match before {
            Some(number) => number,
            None => all(disk, Micros::default())?.iter().map(number_of).max().unwrap_or_default() + 1,
        };
        let text = serde_json::to_vec_pretty(&Report { number, ..self.clone() })
            .map_err(|e| StoreError::Bug(format!("report: {e}")))?;
        disk::replace(disk, name, &text).map_err(|e| {
            // Best effort: half a report under another name is nobody's.
            let _ = disk.remove(&format!("{name}.new"));
            StoreError::io("write", disk.display(DIR), e)
        })
    }

    /// The reports of the newest `last` starts, newest first; of a store that only verbs have opened, theirs. Unreadable ones
    /// are passed over. `now`: those that say they are of later are the oldest, for the clock was wrong that they began by.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn load(disk: &dyn Disk, last: usize, now: Micros) -> Result<Vec<Report>> {
        let (mut starts, mut others) = (Vec::new(), Vec::new());
        for (_, report) in all(disk, now)?.into_iter().rev() {
            if starts.len() >= last {
                break;
            }
            if let Some(report) = report {
                let kept = if report.verb.is_none() { &mut starts } else { &mut others };
                kept.push(report);
            }
        }
        others.truncate(last);
        Ok(if starts.is_empty() { others } else { starts })
    }
}

/// Notes in the reports of the starts that lost something, and reached `from` at least, what came back since. False if there is none that does
/// not say so already.
///
/// # Errors
/// Those of the disk.
pub(super) fn came_back(disk: &dyn Disk, from: Lsn, back: &CameBack, now: Micros) -> Result<bool> {
    let mut is_told = false;
    for (name, report) in all(disk, now)?.into_iter().rev() {
        let Some(mut report) = report else { continue };
        if report.lost.is_none() || report.came_back.is_some() || report.reached_lsn < from.0 {
            continue;
        }
        report.came_back = Some(back.clone());
        // It is done.
        report.next_steps.retain(|step| !step.ends_with(" reconstruct -m"));
        report.replace(disk, &format!("{DIR}/{name}"))?;
        is_told = true;
    }
    Ok(is_told)
}

/// The name of its file, and the report if it can be read.
type Kept = (String, Option<Report>);

fn number_of((_, report): &Kept) -> u64 {
    report.as_ref().map_or(0, |report| report.number)
}

fn read(disk: &dyn Disk, name: &str) -> Option<Report> {
    serde_json::from_slice(&disk::read_small(disk, name, BYTES_MAX).ok()?).ok()
}

/// Oldest first: by their numbers; those without one before all others, by their times, and of them those of a time ahead of `now` first.
fn all(disk: &dyn Disk, now: Micros) -> Result<Vec<Kept>> {
    let is_ahead = |name: &str| {
        let time = name.split_inclusive('Z').next().and_then(|time| time.parse::<jiff::Timestamp>().ok());
        time.and_then(|time| u64::try_from(time.as_microsecond()).ok()).is_some_and(|at| Micros(at).is_ahead_of(now))
    };
    match disk.list(DIR) {
        Ok(entries) => {
            let names = entries.into_iter().map(|e| e.name).filter(|n| n.ends_with(".json"));
            let mut all: Vec<Kept> = names.map(|name| (name.clone(), read(disk, &format!("{DIR}/{name}")))).collect();
            all.sort_by_cached_key(|one| (number_of(one), !is_ahead(&one.0), one.0.clone()));
            Ok(all)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(StoreError::io("list", disk.display(DIR), e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;

    // A clock that was ahead once: the report of this start was not the last one, or was taken away for older ones.
    #[test]
    fn a_report_of_a_time_that_did_not_come_yet_is_not_the_last() {
        let disk = SimDisk::new().disk("data");
        let (now, ahead) = (Micros(1_800_000_000_000_000), Micros(2_100_000_000_000_000));
        let written = |at: u64| {
            let started = super::super::rfc3339(Micros(at));
            Report { started: started.clone(), ..Report::default() }.finish(&disk, None, 3, Micros(at)).unwrap();
            started
        };
        for second in 0..3 {
            written(ahead.0 + second * 1_000_000);
        }
        let started = || -> Vec<String> {
            Report::load(&disk, 10, now).unwrap().into_iter().map(|report| report.started).collect()
        };
        let first = written(now.0);
        assert_eq!((started().len(), &started()[0]), (3, &first));
        let second = written(now.0 + 30_000_000);
        assert_eq!(started()[..2], [second, first]);
    }

    // A clock that was set back: an older start, with nothing lost, was told as the last one.
    #[test]
    fn the_last_report_is_the_one_that_was_written_last() {
        let disk = SimDisk::new().disk("data");
        let now = Micros(1_800_000_000_000_000);
        for (nth, back) in [0_u64, 3600, 7200, 1800].into_iter().enumerate() {
            let started = super::super::rfc3339(Micros(now.0 - back * 1_000_000));
            let report = Report { started, replayed: nth as u64, ..Report::default() };
            let begun = report.begin(&disk).unwrap();
            report.finish(&disk, Some(&begun), 3, now).unwrap();
        }
        let told: Vec<(u64, u64)> =
            Report::load(&disk, 10, now).unwrap().iter().map(|report| (report.number, report.replayed)).collect();
        assert_eq!(told, [(4, 3), (3, 2), (2, 1)]);
    }
}
