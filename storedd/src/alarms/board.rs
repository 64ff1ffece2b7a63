//! The board: which alarms are on, since when, and what became of them.

use super::facts::{Facts, Limits};
use super::rules::{self, History, Reading, Standing};
use super::{Alarm, Name, Severity};
use crate::lsn::Micros;
use crate::store::Phase;
use std::collections::BTreeMap;
use std::time::Duration;

/// An alarm is cleared when its reading has been good for so long.
pub const CALM: Duration = Duration::from_secs(3);

/// What happened to an alarm.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// It is on from now.
    Raised(Alarm),
    /// It was on, and has become critical, or no longer is.
    Severity(Alarm),
    /// It is over; the alarm is as it was last.
    Cleared(Alarm),
}

impl Change {
    /// The alarm.
    #[must_use]
    pub fn alarm(&self) -> &Alarm {
        match self {
            Change::Raised(alarm) | Change::Severity(alarm) | Change::Cleared(alarm) => alarm,
        }
    }
}

/// What an evaluation comes to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Verdict {
    /// What changed.
    pub changes: Vec<Change>,
    /// Set when log has been in excess for too long and does not shrink: the daemon is to end, so that it is started
    /// again.
    pub restart: Option<String>,
}

/// A time in which bulk work is expected: no alarm is raised about the log it piles up, and nothing is restarted for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maintenance {
    /// Until then, for people.
    pub until: Micros,
    /// The same by the monotone clock: it lasts no longer, however the other is set.
    pub ends: Duration,
    /// Why, in the words of whoever began it.
    pub reason: String,
    /// Who began it.
    pub who: String,
}

#[derive(Debug)]
struct Lit {
    alarm: Alarm,
    /// Its reading has been good since.
    good_since: Option<Duration>,
}

/// How an excess of log develops.
#[derive(Debug, Clone, Copy)]
struct Excess {
    /// The least bytes seen since it began.
    least: u64,
    /// When that was.
    since: Duration,
}

/// Alarms and their history.
#[derive(Debug, Default)]
pub struct Board {
    history: History,
    lit: BTreeMap<(Name, String), Lit>,
    maintenance: Option<Maintenance>,
    excess: Option<Excess>,
}

impl Board {
    /// A board on which the failure of the log is on that ended the run before, so that its end is told, too.
    #[must_use]
    pub fn after_poison(now: Micros) -> Board {
        let mut board = Board::default();
        if let Some(reading) = rules::phase(&Phase::Poisoned) {
            let lit = Lit { alarm: alarm(&reading, reading.severity, now), good_since: None };
            board.lit.insert((reading.name, reading.subject), lit);
        }
        board
    }

    /// Compares facts with limits. Its only clock is that of the facts.
    pub fn evaluate(&mut self, facts: &Facts, limits: &Limits) -> Verdict {
        if self.maintenance.as_ref().is_some_and(|m| m.until <= facts.now || m.ends <= facts.uptime) {
            self.maintenance = None;
        }
        self.history.add(facts);
        let mut readings = rules::read(facts, limits, &self.history);
        // One that was on before stays on until it is good: nothing is told as over that is not.
        let was_lit = |r: &Reading| self.lit.contains_key(&(r.name, r.subject.clone()));
        readings.retain(|r| self.maintenance.is_none() || !r.name.is_of_bulk_work() || was_lit(r));
        let mut changes = Vec::new();
        for reading in &readings {
            self.compare(reading, facts, &mut changes);
        }
        self.calm(&readings, facts.uptime, &mut changes);
        Verdict { changes, restart: self.restart(facts, limits) }
    }

    fn compare(&mut self, reading: &Reading, facts: &Facts, changes: &mut Vec<Change>) {
        let key = (reading.name, reading.subject.clone());
        match (self.lit.get_mut(&key), reading.standing) {
            (Some(lit), standing) => {
                if standing != Standing::Good {
                    lit.good_since = None;
                }
                let before = lit.alarm.severity;
                let severity = if standing == Standing::Good { before } else { reading.severity };
                lit.alarm = alarm(reading, severity, lit.alarm.since);
                if severity != before {
                    changes.push(Change::Severity(lit.alarm.clone()));
                }
            }
            (None, Standing::Bad) => {
                let alarm = alarm(reading, reading.severity, facts.now);
                changes.push(Change::Raised(alarm.clone()));
                self.lit.insert(key, Lit { alarm, good_since: None });
            }
            (None, _) => {}
        }
    }

    /// Clears what has been good for long enough; a condition that is no longer read is good.
    fn calm(&mut self, readings: &[Reading], now: Duration, changes: &mut Vec<Change>) {
        self.lit.retain(|(name, subject), lit| {
            let read = readings.iter().find(|r| r.name == *name && r.subject == *subject);
            if read.is_some_and(|r| r.standing != Standing::Good) {
                return true;
            }
            let since = *lit.good_since.get_or_insert(now);
            let over = now.saturating_sub(since) >= CALM;
            if over {
                changes.push(Change::Cleared(lit.alarm.clone()));
            }
            !over
        });
    }

    /// Whether the log has been in excess without getting less for so long that a restart is due.
    fn restart(&mut self, facts: &Facts, limits: &Limits) -> Option<String> {
        let (count, bytes) = (facts.log.segments, facts.log.bytes);
        let too_much = count > limits.log_segments || bytes >= limits.log_bytes;
        if !too_much || self.maintenance.is_some() {
            self.excess = None;
            return None;
        }
        let fresh = Excess { least: bytes, since: facts.uptime };
        let excess = self.excess.get_or_insert(fresh);
        if bytes < excess.least {
            // A backlog that shrinks is being worked off.
            *excess = fresh;
        }
        let after = limits.restart_after?;
        let stuck = facts.uptime.saturating_sub(excess.since);
        (stuck >= after).then(|| {
            format!("{count} log segments, {bytes} bytes, have not become fewer for {} seconds", stuck.as_secs())
        })
    }

    /// The alarms that are on, worst first.
    #[must_use]
    pub fn alarms(&self) -> Vec<Alarm> {
        let lit = |name: Name| self.lit.values().filter(move |lit| lit.alarm.name == name);
        let mut all: Vec<Alarm> = Name::ALL.into_iter().flat_map(lit).map(|lit| lit.alarm.clone()).collect();
        all.sort_by_key(|alarm| std::cmp::Reverse(alarm.severity));
        all
    }

    /// Begins, changes or (with `None`) ends the time in which bulk work is expected.
    pub fn set_maintenance(&mut self, maintenance: Option<Maintenance>) {
        self.maintenance = maintenance;
    }

    /// The time in which bulk work is expected, if there is one at `now`.
    #[must_use]
    pub fn maintenance(&self, now: Micros) -> Option<&Maintenance> {
        self.maintenance.as_ref().filter(|m| m.until > now)
    }

    /// Bytes a second that a place loses, and seconds until its `free` bytes are used up.
    #[must_use]
    pub fn filling(&self, place: &str, free: u64) -> (Option<f64>, Option<f64>) {
        self.history.filling(place, free)
    }

    /// Bytes a second by which the log grows, and seconds until it has `limit` bytes.
    #[must_use]
    pub fn log_growth(&self, bytes: u64, limit: u64) -> (Option<f64>, Option<f64>) {
        self.history.log_growth(bytes, limit)
    }

    /// How long the oldest change has been waiting for the database.
    #[must_use]
    pub fn behind(&self, uptime: Duration) -> Duration {
        self.history.behind(uptime)
    }
}

fn alarm(reading: &Reading, severity: Severity, since: Micros) -> Alarm {
    Alarm {
        name: reading.name,
        subject: reading.subject.clone(),
        severity,
        since,
        message: reading.message.clone(),
        cause: reading.cause.clone(),
        value: reading.value,
        limit: reading.limit,
        unit: reading.unit,
        rate: reading.rate,
        time_to_full: reading.time_to_full,
        next: reading.next,
    }
}
