//! The store as it was at a point: an LSN or a moment that a person names.
//!
//! # Operation
//! A moment becomes an LSN: that of the last record made by then, since times in the log never go back. Then the newest database at or
//! before it is looked for, among the live one, the snapshots, and nothing, from which the log leads there without a gap. What lies
//! behind the point is set aside (kept in quarantine, the live database in removed/), and history goes on in a new epoch.
//!
//! # Invariants
//! * Damage and gaps behind the point are no obstacle; any before it that cannot be gone around is, and the points that can be
//!   reached are named.
//! * Looking changes nothing (I7). A crash while it is carried out leaves the store as it was, or at the point: the first record of
//!   the new epoch is the moment between the two.

use super::Disks;
use super::decision::{Candidate, Decision, Origin, Verdict};
use super::fallback::Snapshots;
use super::look::{Found, OnProgress};
use crate::error::{Result, StoreError, exit};
use crate::lsn::{Epoch, Lsn, Micros};
use crate::wal::{self, Stop, Survey};

/// Where to go back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Right behind this LSN.
    Lsn(Lsn),
    /// With everything that was done by then.
    Time(Micros),
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Point::Lsn(lsn) => write!(f, "LSN {lsn}"),
            Point::Time(time) => f.write_str(&super::rfc3339(*time)),
        }
    }
}

/// LSNs that can be reached from one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Stretch {
    from: Lsn,
    to: Lsn,
}

/// Decides how to get to `point`; `None` if that is where the log ends, with nothing behind it to set aside.
///
/// # Errors
/// [`StoreError::Refused`] if the point cannot be reached, naming those that can; those of the disks.
pub(super) fn decide(
    disks: &Disks,
    found: &mut Found,
    point: Point,
    progress: &OnProgress,
) -> Result<Option<Decision>> {
    let (Some(marker), Some(survey)) = (found.marker, found.survey.clone()) else {
        return Err(refused(point, "there is no store".to_owned()));
    };
    if let Point::Lsn(lsn) = point
        && is_there(disks, &survey, lsn)?
    {
        return Ok(None);
    }
    let snapshots = Snapshots::read(disks, marker.store_id);
    let live = found.live_meta().map(|meta| (Origin::Live, meta.epoch, meta.applied_lsn));
    let bases: Vec<(Epoch, Lsn)> = live
        .iter()
        .map(|(_, epoch, lsn)| (*epoch, *lsn))
        .chain(snapshots.places())
        .chain([(Epoch(0), Lsn::ZERO)])
        .collect();
    let stretches = stretches(&survey, &bases);
    // Nothing is no point to go back to.
    let Some(lsn) = resolve(disks, &survey, &snapshots, point)?.filter(|lsn| *lsn > Lsn::ZERO) else {
        return Err(refused(point, reachable(disks, &survey, &stretches)?));
    };
    let leads = |epoch: Epoch, from: Lsn| from <= lsn && survey.reach(epoch, from).lsn >= lsn;
    let fallback = snapshots.choose(&survey, &|manifest| leads(manifest.epoch, manifest.lsn), progress);
    found.findings.extend(fallback.findings);
    found.fallback = fallback.chosen;
    let snapshot = found.fallback.as_ref().map(|c| (Origin::Snapshot(c.id.clone()), c.manifest.epoch, c.manifest.lsn));
    let all = live.into_iter().chain(snapshot).chain([(Origin::Empty, Epoch(0), Lsn::ZERO)]);
    // The newest leads there soonest; of two alike the first.
    let base = all.rev().filter(|(_, epoch, from)| leads(*epoch, *from)).max_by_key(|(_, _, from)| *from);
    let Some((origin, epoch, base_lsn)) = base else {
        return Err(refused(point, reachable(disks, &survey, &stretches)?));
    };
    let reach = survey.reach(epoch, base_lsn);
    if matches!(point, Point::Time(_)) && reach.lsn == lsn && !reach.whole() {
        // What is damaged may have been done by then, too.
        return Err(refused(point, reachable(disks, &survey, &stretches)?));
    }
    if reach.lsn == lsn && reach.whole() && survey.highest_lsn() <= lsn {
        return Ok(None);
    }
    // Between two epochs there are numbers that no record has.
    let at = last_record(disks, &survey, epoch, base_lsn, lsn)?;
    let candidate = Candidate { origin, base_lsn, epoch, reach: at, whole: true, resumes: false };
    let behind = (at.next(), survey.highest_lsn().max(at.next()));
    Ok(Some(Decision { verdict: Verdict::Until, candidate, lost: Some(behind), cut: false, fork: true }))
}

/// True if history went on from there and nothing has been done since: the same was asked before, and was broken off behind the
/// moment.
fn is_there(disks: &Disks, survey: &Survey, lsn: Lsn) -> Result<bool> {
    let mut forks = survey.segments.iter().filter(|s| s.live()).flat_map(|s| &s.runs).filter_map(|run| run.fork);
    let Some(fork) = forks.next_back().filter(|fork| fork.reached == lsn) else { return Ok(false) };
    let mut changes = 0;
    wal::records(&*disks.log, survey, fork.first, Lsn(u64::MAX), &mut |record| {
        changes += u64::from(record.is_transaction());
        Ok(())
    })?;
    Ok(changes == 0)
}

/// The LSN of a point. `None` if it is before everything that is known.
fn resolve(disks: &Disks, survey: &Survey, snapshots: &Snapshots, point: Point) -> Result<Option<Lsn>> {
    let time = match point {
        Point::Lsn(lsn) => return Ok(Some(lsn)),
        Point::Time(time) => time,
    };
    let mut last = snapshots.last_by(time);
    wal::records(&*disks.log, survey, Lsn::ZERO, Lsn(u64::MAX), &mut |record| {
        if record.time <= time {
            last = last.max(Some(record.lsn));
        }
        Ok(())
    })?;
    Ok(last)
}

/// The last LSN up to `lsn` that a record has, on the way from `from`.
fn last_record(disks: &Disks, survey: &Survey, epoch: Epoch, from: Lsn, lsn: Lsn) -> Result<Lsn> {
    let mut last = from;
    let end = survey.reach(epoch, from).lsn;
    wal::replay(&*disks.log, survey, epoch, from, end, &mut |record| {
        if record.lsn <= lsn {
            last = record.lsn;
        }
        Ok(())
    })?;
    Ok(last)
}

/// What can be reached from these databases, oldest first; what overlaps is one.
fn stretches(survey: &Survey, bases: &[(Epoch, Lsn)]) -> Vec<Stretch> {
    let reached = bases.iter().map(|(epoch, from)| (from, survey.reach(*epoch, *from)));
    // A snapshot of a history that was given up leads nowhere.
    let ours = reached.filter(|(_, reach)| reach.stop != Stop::OtherHistory);
    let mut all: Vec<Stretch> = ours.map(|(from, reach)| Stretch { from: *from, to: reach.lsn }).collect();
    all.sort_unstable();
    let mut joined: Vec<Stretch> = Vec::new();
    for stretch in all {
        match joined.last_mut() {
            Some(last) if stretch.from <= last.to => last.to = last.to.max(stretch.to),
            _ => joined.push(stretch),
        }
    }
    joined.retain(|stretch| stretch.to > Lsn::ZERO);
    joined
}

/// The points that can be reached, in words.
fn reachable(disks: &Disks, survey: &Survey, stretches: &[Stretch]) -> Result<String> {
    let mut times: Vec<[Option<Micros>; 2]> = vec![[None; 2]; stretches.len()];
    wal::records(&*disks.log, survey, Lsn::ZERO, Lsn(u64::MAX), &mut |record| {
        for (stretch, [first, last]) in stretches.iter().zip(&mut times) {
            if (stretch.from..=stretch.to).contains(&record.lsn) {
                first.get_or_insert(record.time);
                *last = Some(record.time);
            }
        }
        Ok(())
    })?;
    let at = |time: Option<Micros>| time.map_or(String::new(), |time| format!(" ({})", super::rfc3339(time)));
    let all = stretches.iter().zip(times);
    let all = all.map(|(s, [first, last])| format!("LSN {}{} to LSN {}{}", s.from, at(first), s.to, at(last)));
    match all.collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => Ok("no point can be reached".to_owned()),
        some => Ok(format!("what can be reached: {some}")),
    }
}

fn refused(point: Point, reachable: String) -> StoreError {
    StoreError::Refused {
        message: format!("{point} cannot be reached; {reachable}"),
        hint: "name a point in between, and see first what would be done: storedd recover --dry-run".to_owned(),
        exit: exit::BAD_INPUT,
    }
}
