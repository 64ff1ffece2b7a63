//! The rules: from facts and limits to readings, one for each thing that can be wrong.

use super::facts::{DamageFacts, Done, Facts, Limits, PlaceFacts, SnapshotFacts};
use super::trend::{Trend, time_left};
use super::{Name, Severity};
use crate::lsn::Micros;
use crate::partition::FULL_BELOW;
use crate::store::{Lagging, Phase, PutBack, rfc3339};
use std::collections::BTreeMap;
use std::time::Duration;

/// A place that was not seen for so long does not answer.
pub const NO_ANSWER: Duration = Duration::from_secs(15);

/// How a value stands to its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// At its limit or past it.
    Bad,
    /// Neither: what was stays.
    Between,
    /// Good.
    Good,
}

/// One value held against one limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    pub name: Name,
    pub subject: String,
    pub standing: Standing,
    pub severity: Severity,
    pub message: String,
    pub cause: String,
    pub value: f64,
    pub limit: f64,
    pub unit: &'static str,
    pub rate: Option<f64>,
    pub time_to_full: Option<f64>,
    pub next: &'static str,
}

impl Reading {
    /// A condition that is there or not.
    fn flag(name: Name, message: String, cause: String, next: &'static str) -> Reading {
        Reading {
            name,
            subject: String::new(),
            standing: Standing::Bad,
            severity: Severity::Critical,
            message,
            cause,
            value: 1.0,
            limit: 1.0,
            unit: "",
            rate: None,
            time_to_full: None,
            next,
        }
    }

    /// A value that must stay below `limit`, and is good again at nine tenths of it.
    fn ceiling(name: Name, value: f64, limit: f64, unit: &'static str) -> Reading {
        let standing = match () {
            () if value >= limit => Standing::Bad,
            () if value > limit * 0.9 => Standing::Between,
            () => Standing::Good,
        };
        let (message, cause) = Default::default();
        let severity = Severity::Warning;
        Reading { standing, severity, value, limit, unit, ..Reading::flag(name, message, cause, "storectl status") }
    }

    fn subject(self, subject: impl Into<String>) -> Reading {
        Reading { subject: subject.into(), ..self }
    }

    fn says(self, message: String, cause: String, next: &'static str) -> Reading {
        Reading { message, cause, next, ..self }
    }

    fn grows(self, rate: Option<f64>, time_to_full: Option<f64>) -> Reading {
        Reading { rate, time_to_full, ..self }
    }
}

/// What was seen before, as far as the rules need it.
#[derive(Debug, Default)]
pub struct History {
    log: Trend,
    overlay: Trend,
    free: BTreeMap<String, Trend>,
    /// Since when there are changes that the database does not have, and its LSN then.
    behind: Option<(Duration, u64)>,
}

impl History {
    pub fn add(&mut self, facts: &Facts) {
        let at = facts.uptime;
        self.log.add(at, facts.log.bytes as f64);
        self.overlay.add(at, facts.overlay_bytes as f64);
        self.free.retain(|name, _| facts.places.iter().any(|place| place.name == *name));
        for place in &facts.places {
            if let Some(space) = place.space {
                self.free.entry(place.name.clone()).or_default().add(at, space.free as f64);
            }
        }
        let checkpoint = &facts.checkpoint;
        self.behind = match self.behind {
            _ if !checkpoint.owes => None,
            Some((since, lsn)) if lsn == checkpoint.lsn => Some((since, lsn)),
            _ => Some((at, checkpoint.lsn)),
        };
    }

    /// How long the oldest change has been waiting for the database.
    pub fn behind(&self, uptime: Duration) -> Duration {
        self.behind.map_or(Duration::ZERO, |(since, _)| uptime.saturating_sub(since))
    }

    /// Bytes a second that a place loses, and the seconds until `left` bytes are used up.
    pub fn filling(&self, place: &str, left: u64) -> (Option<f64>, Option<f64>) {
        let rate = self.free.get(place).and_then(Trend::recent).map(|rate| -rate);
        (rate, rate.and_then(|rate| time_left(left as f64, rate)))
    }

    /// Bytes a second by which the log grows, and the seconds until it has `limit` bytes.
    pub fn log_growth(&self, bytes: u64, limit: u64) -> (Option<f64>, Option<f64>) {
        let rate = self.log.recent();
        (rate, rate.and_then(|rate| time_left(limit.saturating_sub(bytes) as f64, rate)))
    }

    /// A place that fills now, and has been filling for minutes, is full in so many seconds.
    fn foreseen(&self, place: &str, free: u64) -> Option<f64> {
        let trend = self.free.get(place)?;
        let left = |rate: f64| time_left(free as f64, -rate);
        Some(left(trend.recent()?)?.max(left(trend.lasting()?)?))
    }
}

/// Everything that can be read from the facts.
pub fn read(facts: &Facts, limits: &Limits, history: &History) -> Vec<Reading> {
    let mut out = Vec::new();
    out.extend(phase(&facts.phase));
    out.extend(disks(&facts.places).filter_map(|(place, names)| room(place, &names, facts, limits, history)));
    out.extend(facts.places.iter().filter_map(there));
    out.extend(facts.lagging.iter().map(|partition| behind(partition, history)));
    out.extend(checkpoint(facts, limits, history));
    out.extend(log(facts, limits, history));
    out.push(overlay(facts, history));
    out.extend(facts.stamps.iter().map(stamp));
    out.extend(facts.chores.iter().map(|chore| self::chore(chore, limits)));
    out.extend(facts.done.iter().filter_map(|done| ahead(done, facts.now)));
    out.push(waiting(facts, limits));
    out.extend(snapshots(facts, limits));
    out.extend(copies(facts, limits));
    out.extend(damage(facts));
    out.extend(facts.log.put_back.as_ref().map(put_back));
    out.extend(facts.repair.as_ref().map(|why| Reading {
        severity: Severity::Warning,
        ..Reading::flag(
            Name::RepairRecommended,
            "a start had to give something up, or may have".to_owned(),
            why.clone(),
            "storectl recover --report",
        )
    }));
    out
}

/// Whether changes are taken.
pub fn phase(phase: &Phase) -> Option<Reading> {
    match phase {
        Phase::Ready => None,
        Phase::ReadOnly(why) => Some(Reading::flag(
            Name::ReadOnly,
            "no changes are taken".to_owned(),
            why.clone(),
            "storectl recover --report",
        )),
        Phase::Poisoned => Some(Reading::flag(
            Name::Poisoned,
            "the log failed: no changes are taken until a restart".to_owned(),
            "a write or a sync of the log failed".to_owned(),
            "systemctl restart storedd",
        )),
    }
}

/// Each disk once, by its first place, with the names of all places on it.
fn disks(places: &[PlaceFacts]) -> impl Iterator<Item = (&PlaceFacts, String)> {
    let same = |a: &PlaceFacts, b: &PlaceFacts| match (a.space, b.space) {
        (Some(a), Some(b)) => a.id == b.id && a.id != 0,
        _ => false,
    };
    places.iter().enumerate().filter_map(move |(at, place)| {
        if places[..at].iter().any(|before| same(before, place)) {
            return None;
        }
        let others = places[at + 1..].iter().filter(|other| same(place, other));
        let names: Vec<&str> = std::iter::once(place).chain(others).map(|p| p.name.as_str()).collect();
        Some((place, names.join(", ")))
    })
}

/// The room of a disk: critical where something is refused for want of it.
fn room(place: &PlaceFacts, names: &str, facts: &Facts, limits: &Limits, history: &History) -> Option<Reading> {
    let space = place.space?;
    let refused = space.reserve(if place.vital { limits.reserve } else { FULL_BELOW });
    let bulk = if place.vital { limits.bulk(space) } else { refused };
    let warned = limits.warned(space).max(bulk);
    let (rate, time_to_full) = history.filling(&place.name, space.free);
    let soon = history.foreseen(&place.name, space.free).filter(|left| *left < limits.full_within.as_secs_f64());
    let (limit, severity, what) = match space.free {
        free if free < refused && place.vital => (refused, Severity::Critical, "changes are refused"),
        free if free < refused => (refused, Severity::Critical, "the partition counts as full"),
        free if free < bulk => (bulk, Severity::Critical, "bulk work is refused"),
        _ => (warned, Severity::Warning, "nothing is refused yet"),
    };
    let standing = match () {
        () if space.free < warned || soon.is_some() => Standing::Bad,
        () if (space.free as f64) < warned as f64 * 1.1 => Standing::Between,
        () => Standing::Good,
    };
    let writer = facts.bulk.as_ref().map(|b| format!("; bulk work: {}, {} changes", b.who, b.changes));
    let cause = match soon {
        Some(left) if space.free >= warned => format!("at this rate it is full in {left:.0} seconds"),
        _ => format!("{what} until there is room again"),
    } + &writer.unwrap_or_default();
    let message = format!("{} of {} bytes are free on the disk of {} ({names})", space.free, space.total, place.path);
    let reading = Reading::ceiling(Name::DiskSpace, space.free as f64, limit as f64, "bytes").subject(&place.name);
    Some(
        Reading { standing, severity, ..reading.says(message, cause, "free space there, or make the disk larger") }
            .grows(rate, time_to_full),
    )
}

/// Whether a place is what it should be, and answers.
fn there(place: &PlaceFacts) -> Option<Reading> {
    let silent = place.age >= NO_ANSWER;
    let trouble = place.trouble.clone();
    if !silent && trouble.is_none() {
        return None;
    }
    let cause = if silent { format!("it has not answered for {} seconds", place.age.as_secs()) } else { String::new() };
    let cause = trouble.filter(|_| !silent).unwrap_or(cause);
    let message = format!("{} at {} cannot be used", place.name, place.path);
    Some(Reading::flag(Name::Partition, message, cause, "storectl partition list").subject(&place.name))
}

/// A partition that lacks changes: from its limit on it takes no more mail.
fn behind(lagging: &Lagging, history: &History) -> Reading {
    let Lagging { partition, upto, log_bytes, log_bytes_max, is_closed, why } = lagging;
    let (rate, time_to_full) = history.log_growth(*log_bytes, *log_bytes_max);
    let what = match is_closed {
        true => "it takes no more mail, and the log that is kept for it goes on growing with that of others",
        false => "it takes mail and is not read",
    };
    let message =
        format!("partition {partition} lacks what came behind LSN {upto}; {log_bytes} bytes of log are kept for it");
    let cause = if why.is_empty() { what.to_owned() } else { format!("{what}: {why}") };
    let severity = if *is_closed { Severity::Critical } else { Severity::Warning };
    let reading = Reading::ceiling(Name::PartitionBehind, *log_bytes as f64, *log_bytes_max as f64, "bytes");
    Reading {
        standing: Standing::Bad,
        severity,
        ..reading.subject(partition).says(message, cause, "storectl partition list")
    }
    .grows(rate, time_to_full)
}

/// What nothing near could heal: whoever asks for it is refused.
fn damage(facts: &Facts) -> Option<Reading> {
    let DamageFacts { count, first } = &facts.damage;
    let message = match count {
        0 => return None,
        1 => "something is damaged, and nothing near has what it was".to_owned(),
        count => format!("{count} places are damaged, and nothing near has what was there"),
    };
    let more = if *count > 1 { format!("; {} more", count - 1) } else { String::new() };
    let reading = Reading::flag(Name::Damage, message, format!("{first}{more}"), "storectl check --all --deep");
    Some(Reading { value: *count as f64, unit: "places", ..reading })
}

/// Nothing is lost, this time.
fn put_back(back: &PutBack) -> Reading {
    let PutBack { file, aside } = back;
    let message = format!(
        "{file} was removed or replaced while it was being written; it was put back, and nothing of it is lost"
    );
    let found = aside.as_ref().map(|aside| format!("; what lay in its place lies in {aside}")).unwrap_or_default();
    let cause = format!("somebody, or a program, works in the directory of the log{found}");
    let reading = Reading::flag(Name::LogPutBack, message, cause, "storectl log verify").subject(file);
    Reading { severity: Severity::Warning, ..reading }
}

fn checkpoint(facts: &Facts, limits: &Limits, history: &History) -> Vec<Reading> {
    let checkpoint = &facts.checkpoint;
    let error = checkpoint.error.clone().unwrap_or_else(|| "see the journal: event=checkpoint_failed".to_owned());
    let mut out = Vec::new();
    if checkpoint.failures > 0 {
        let message = "the database could not be written; changes stay in log and memory".to_owned();
        let failed = Reading::flag(Name::CheckpointFailed, message, error, "storectl checkpoint");
        out.push(Reading { value: checkpoint.failures as f64, unit: "failures", ..failed });
    }
    let behind = history.behind(facts.uptime).as_secs_f64();
    let age = Reading::ceiling(Name::CheckpointAge, behind, limits.checkpoint_age.as_secs_f64(), "seconds");
    out.push(age.says(
        format!("the oldest change has been waiting for the database for {behind:.0} seconds"),
        accumulates(facts),
        "storectl checkpoint",
    ));
    let took = checkpoint.running.unwrap_or_default().as_secs_f64();
    let slow = Reading::ceiling(Name::CheckpointSlow, took, limits.checkpoint_duration.as_secs_f64(), "seconds");
    out.push(slow.says(
        format!("a checkpoint has been running for {took:.0} seconds"),
        format!("the database's disk is slow or does not answer{}", bulk(facts)),
        "storectl stats",
    ));
    out
}

fn log(facts: &Facts, limits: &Limits, history: &History) -> [Reading; 2] {
    let (count, bytes) = (facts.log.segments, facts.log.bytes);
    let (rate, _) = history.log_growth(bytes, 0);
    let log_disk = facts.places.iter().find(|place| place.name == "log").and_then(|place| place.space);
    let full = rate.zip(log_disk).and_then(|(rate, space)| time_left(space.free as f64, rate));
    let cause = accumulates(facts);
    // A count has no tenths: good again is what is allowed.
    let standing = if count > limits.log_segments { Standing::Bad } else { Standing::Good };
    let many = Reading::ceiling(Name::LogSegments, count as f64, limits.log_segments as f64, "segments");
    let many = Reading { standing, ..many };
    let long = Reading::ceiling(Name::LogBytes, bytes as f64, limits.log_bytes as f64, "bytes");
    [
        many.says(
            format!("{count} log segments are kept, more than {}", limits.log_segments),
            cause.clone(),
            "storectl log list",
        )
        .grows(None, full),
        long.says(format!("{bytes} bytes of log are kept"), cause, "storectl log list").grows(rate, full),
    ]
}

/// Why log accumulates.
fn accumulates(facts: &Facts) -> String {
    let checkpoint = &facts.checkpoint;
    let why = match (&checkpoint.error, checkpoint.running) {
        (Some(error), _) if checkpoint.failures > 0 => format!("the checkpoint fails: {error}"),
        (_, Some(time)) => format!("a checkpoint has been running for {} seconds", time.as_secs()),
        _ if facts.log.kept_for.is_empty() => "no checkpoint was due yet".to_owned(),
        _ => format!("the oldest segment is kept for {}", facts.log.kept_for.join(" and ")),
    };
    why + &bulk(facts)
}

fn bulk(facts: &Facts) -> String {
    facts.bulk.as_ref().map(|b| format!("; bulk work: {}, {} changes", b.who, b.changes)).unwrap_or_default()
}

fn overlay(facts: &Facts, history: &History) -> Reading {
    let (held, most) = (facts.overlay_bytes as f64, facts.overlay_bytes_max as f64);
    let rate = history.overlay.recent();
    let full = rate.and_then(|rate| time_left(most - held, rate));
    Reading::ceiling(Name::Overlay, held, most * 0.8, "bytes")
        .says(
            format!("{held:.0} bytes of changes wait in memory for the database; at {most:.0} changes are refused"),
            accumulates(facts),
            "storectl stats",
        )
        .grows(rate, full)
}

/// A stamp is allowed to be late by one checkpoint's rename, not more.
const STAMP_LATE: f64 = 5.0;

fn stamp(stamp: &super::Stamp) -> Reading {
    let late = stamp.owed.as_secs_f64();
    Reading::ceiling(Name::StaleStamp, late, STAMP_LATE, "seconds").subject(stamp.file).says(
        format!("{} says less than what was done: it has not been written for {late:.0} seconds", stamp.file),
        "it could not be written; the journal says why: event=state_file".to_owned(),
        "ls -l the data directory",
    )
}

fn chore(chore: &super::facts::Chore, limits: &Limits) -> Reading {
    let age = chore.age.as_secs_f64();
    Reading::ceiling(Name::StaleStamp, age, limits.chore_age.as_secs_f64(), "seconds").subject(chore.file).says(
        format!("the last {} was {age:.0} seconds ago", chore.what),
        "it is switched off, was cut off or fails; storectl jobs and the journal say why: event=job_ended".to_owned(),
        chore.next,
    )
}

/// A stamp that did not come yet: how long ago it was done nobody knows.
fn ahead(done: &Done, now: Micros) -> Option<Reading> {
    let Done { what, at, next } = done;
    let message = format!("the last {what} is stamped {}, and the clock shows {}", rfc3339(*at), rfc3339(now));
    let cause = "the clock was ahead then, or is behind now; it is taken as due, and what is done now is stamped anew";
    let reading = Reading::flag(Name::Clock, message, cause.to_owned(), next);
    let (value, severity) = (at.0.saturating_sub(now.0) as f64 / 1e6, Severity::Warning);
    at.is_ahead_of(now).then(|| Reading { value, limit: 60.0, unit: "seconds", severity, ..reading.subject(*what) })
}

fn snapshots(facts: &Facts, limits: &Limits) -> Vec<Reading> {
    let SnapshotFacts { newest, age, without_log, not_read } = &facts.snapshots;
    let age = age.as_secs_f64();
    let message = match newest {
        Some(id) => format!("the newest snapshot that a rollback may choose, {id}, is {age:.0} seconds old"),
        None => "there is no snapshot that a rollback may choose".to_owned(),
    };
    let cause =
        "none was taken since, or none passed its verification: event=snapshot_failed or snapshot_bad in the journal";
    let old = Reading::ceiling(Name::SnapshotAge, age, limits.snapshot_age.as_secs_f64(), "seconds");
    let old = old.says(message, cause.to_owned(), "storectl snapshot take --verify");
    let mut out = vec![old];
    out.extend(without_log.iter().map(|id| {
        let message =
            format!("the log behind snapshot {id} is not kept: a rollback to it would lose what came after it");
        let cause = "it is longer than [snapshot] log_bytes allows, or it was retired before the snapshot was verified";
        let reading = Reading::flag(Name::SnapshotLog, message, cause.to_owned(), "storectl log list");
        Reading { severity: Severity::Warning, ..reading }.subject(id)
    }));
    out.extend(not_read.iter().map(|(place, why)| {
        let message =
            format!("the snapshots in {place} cannot be read; log is kept for them, up to [snapshot] log_bytes");
        let reading = Reading::flag(Name::SnapshotPlace, message, why.clone(), "storectl snapshot list");
        Reading { severity: Severity::Warning, ..reading }.subject(place)
    }));
    out
}

/// Copies of the store: backups, drills, archive.
fn copies(facts: &Facts, limits: &Limits) -> Vec<Reading> {
    let known = &facts.copies;
    let age = |at: Option<Micros>| {
        Duration::from_micros(facts.now.0.saturating_sub(at.unwrap_or(known.created).0)).as_secs_f64()
    };
    let never = |at: Option<Micros>, what: &str| match at {
        Some(_) => format!("there was no {what} since"),
        None => format!("there is no {what} yet"),
    };
    let mut out = Vec::new();
    if let Some(limit) = limits.backup_age {
        let old = age(known.backup);
        out.push(Reading::ceiling(Name::BackupAge, old, limit.as_secs_f64(), "seconds").says(
            format!("the newest backup is {old:.0} seconds old"),
            known.backup_failure.clone().unwrap_or_else(|| never(known.backup, "backup")),
            "storectl backup-db DIR",
        ));
    }
    // Who never took one keeps his mail otherwise.
    if let Some((limit, taken)) = limits.mail_backup_age.zip(known.mail_backup) {
        let old = age(Some(taken));
        out.push(Reading::ceiling(Name::MailBackupAge, old, limit.as_secs_f64(), "seconds").says(
            format!("the newest backup of all mail is {old:.0} seconds old"),
            "none has ended well since: journalctl -u storedd-mail, or whatever takes them here".to_owned(),
            "storectl backup -f FILE /",
        ));
    }
    if let Some(problem) = known.drill_problem.clone() {
        let message = "a restore of the newest snapshot or backup would not succeed".to_owned();
        out.push(Reading::flag(Name::DrillBad, message, problem, "storectl drill"));
    }
    if let Some(limit) = limits.drill_age {
        let old = age(known.drill);
        out.push(Reading::ceiling(Name::DrillAge, old, limit.as_secs_f64(), "seconds").says(
            format!("the last good drill is {old:.0} seconds old"),
            known.drill_problem.clone().unwrap_or_else(|| never(known.drill, "good drill")),
            "storectl drill",
        ));
    }
    if let Some((first, last)) = known.archive_gap {
        let message =
            format!("the archive lacks log files {first} to {last}: from a backup before them it leads no further");
        let cause = "they were not archived when more log waited than [archive] log_bytes allows, or were set aside";
        let reading = Reading::flag(Name::ArchiveGap, message, cause.to_owned(), "storectl backup-db DIR");
        let count = (last - first + 1) as f64;
        out.push(Reading { severity: Severity::Warning, value: count, unit: "segments", ..reading });
    }
    if let Some(waits) = known.archive_waits.map(|waits| waits.as_secs_f64()) {
        out.push(Reading::ceiling(Name::ArchiveLag, waits, limits.archive_wait.as_secs_f64(), "seconds").says(
            format!("a sealed log file has been waiting for the archive for {waits:.0} seconds"),
            known.archive_failure.clone().unwrap_or_else(|| "the archive is slow or does not answer".to_owned()),
            "storectl status",
        ));
    }
    out
}

fn waiting(facts: &Facts, limits: &Limits) -> Reading {
    let limit = limits.request_wait.as_secs_f64();
    let wait = facts.oldest_wait.unwrap_or_default();
    if let Some((held_up, by)) = facts.held_up.as_ref().filter(|(held_up, _)| *held_up > wait) {
        let wait = held_up.as_secs_f64();
        return Reading::ceiling(Name::StalledRequest, wait, limit, "seconds").says(
            format!("a change has been waiting for {wait:.0} seconds for somebody who holds what it touches"),
            by.clone(),
            "storectl locks --why-stuck",
        );
    }
    let wait = wait.as_secs_f64();
    let reading = Reading::ceiling(Name::StalledRequest, wait, limit, "seconds");
    let reading = Reading { severity: Severity::Critical, ..reading };
    reading.says(
        format!("a change has been waiting for its answer for {wait:.0} seconds"),
        format!("a disk of the store, of the log mostly, is slow or does not answer{}", bulk(facts)),
        "storectl stats",
    )
}
