//! Recovery: all of a start, from taking the lock to a store that answers. It reads from top to bottom.
//!
//! ```text
//!  1  take the lock                                   one owner; a dead owner's lock is free
//!  2  read the marker                                 which store, which layout; see `identity`
//!  3  look at the control file, database, log         evidence; not one byte is written, see `look`
//!     and, where they do not suffice, the snapshots   see `fallback`
//!  4  decide                                          pure, see `decision`
//!     say what is lost, if anything is                a report, before anything is given up
//!  5  put the database in place                       a bad one is moved to removed/, see `replace`
//!  6  replay the log behind it into the overlay       memory only: no database write before READY
//!  7  go on with the log                              a torn tail is cut (kept in quarantine) and zeroed durably
//!  8  report
//! ```
//!
//! A crash at any point of it leaves a directory from which the next start reaches the same state.

use super::account::{Phases, begin_report, finish_report};
use super::adopt;
use super::commit::Planner;
use super::decision::{self, Candidate, Decision, Origin, Policy, Verdict};
use super::first::first_start;
use super::going_back::{self, Numbers};
use super::ids::IdSource;
use super::look::{Found, OnProgress, look};
use super::marks;
use super::repair;
use super::replace;
use super::replay::{Replay, Replayed};
use super::report::Report;
use super::view::Base;
use super::{Disks, Options, Parts, Store};
use crate::db::Db;
use crate::disk::{Disk, Lock};
use crate::env::Env;
use crate::error::{Result, StoreError, exit};
use crate::lsn::{Epoch, Lsn, Micros, StoreId};
use crate::model::rows::{PartitionRow, Row};
use crate::model::{Rows, Table};
use crate::partition::roll::{self, Roll};
use crate::partition::{Applied, PartitionId, Partitions, places};
use crate::planted::{self, Bug};
use crate::site::Site;
use crate::wal::{self, Control, Settings, Stop};
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

/// The database file below the database directory.
pub(crate) const DB_FILE: &str = "mboxlist.redb";
/// Lock file below the data directory.
pub(crate) const LOCK_FILE: &str = "lock";
/// Left by a manual recovery that failed; outside `mboxlist/` so that putting files back does not remove it.
pub(crate) const FAILED_MARK: &str = "failed-recovery";

/// Takes the store lock; the owner's pid is named if another process has it.
///
/// # Errors
/// [`StoreError::Locked`], or an I/O error.
pub fn take_lock(disks: &Disks) -> Result<Box<dyn Lock>> {
    take_lock_in(&*disks.data)
}

/// As [`take_lock`], where only the data directory is open.
///
/// # Errors
/// As [`take_lock`].
pub fn take_lock_in(data: &dyn Disk) -> Result<Box<dyn Lock>> {
    let owner = std::process::id().to_string();
    data.lock(LOCK_FILE, &owner).map_err(|e| match e.kind() {
        std::io::ErrorKind::WouldBlock => StoreError::Locked { pid: owner_of(&e) },
        _ => StoreError::io("lock", data.display(LOCK_FILE), e),
    })
}

fn owner_of(e: &std::io::Error) -> String {
    let text = e.to_string();
    let pid: String = text.chars().filter(char::is_ascii_digit).collect();
    if pid.is_empty() { "unknown".to_owned() } else { pid }
}

/// Opens a store: the whole story of a start.
///
/// # Errors
/// Lock held, foreign or newer files, unreadable disk, a refusal of the decision. Nothing was changed then.
pub fn open(
    disks: Disks,
    env: Arc<dyn Env>,
    options: Options,
    lock: Box<dyn Lock>,
    policy: Policy,
    progress: &OnProgress,
) -> Result<(Arc<Store>, Report)> {
    let clock = Phases::start(&*env);
    let found = look(&disks, progress)?;
    let clock = clock.mark("look");
    let decision = decision::decide(&found.evidence(&disks), policy)?;
    if !policy.strict {
        found.expect_schema(&disks)?;
    }
    found.tell_historic(decision.candidate.base_lsn);
    let clock = clock.mark("decide");
    act(Opening { disks, env: env.clone(), options, lock, policy, verb: None, progress }, &found, &decision, clock)
}

/// What a store is opened with.
pub(super) struct Opening<'a> {
    pub(super) disks: Disks,
    pub(super) env: Arc<dyn Env>,
    pub(super) options: Options,
    pub(super) lock: Box<dyn Lock>,
    /// By which it was decided.
    pub(super) policy: Policy,
    /// The verb of a person; a start has none.
    pub(super) verb: Option<&'static str>,
    pub(super) progress: &'a OnProgress,
}

/// Does what was decided, and says so.
pub(super) fn act(
    opening: Opening<'_>,
    found: &Found,
    decision: &Decision,
    clock: Phases<'_>,
) -> Result<(Arc<Store>, Report)> {
    let Opening { disks, env, options, lock, policy, verb, progress } = opening;
    let mut report = begin_report(&disks, found, decision, env.now());
    report.verb = verb.map(str::to_owned);
    // What is given up is said before it is: after the fork no later start can see that something is missing (I8).
    let gives_up = matches!(decision.verdict, Verdict::Lossy | Verdict::Until);
    let begun = gives_up.then(|| report.begin(&*disks.data)).transpose()?;
    let was_due = adopt::is_noted(&*disks.data);
    let numbers = numbers_behind(&disks, found, decision);
    if gives_up {
        let control = found.control.as_ref();
        let loss = adopt::Loss {
            from: decision.candidate.reach,
            checkpoint: control.map_or(Lsn::ZERO, |control| control.checkpoint_lsn),
            known: control.map_or(Lsn(u64::MAX), |_| found.evidence(&disks).known),
            clean: match &numbers {
                Some(numbers) => numbers.is_whole,
                None => control.is_some_and(|control| control.clean && control.checkpoint_lsn == control.durable_lsn),
            },
        };
        adopt::note(&*disks.data, loss)?;
    }
    let repair = repair::note(&disks, env.now(), found, decision, policy)?;
    let parts = if decision.verdict == Verdict::FirstStart {
        first_start(&disks, &*env, &options, lock, found.marker)?
    } else {
        restart(&disks, &env, &options, lock, found, (decision, numbers), &mut report, progress)?
    };
    let clock = clock.mark("act");
    finish_report(&mut report, decision, &parts, clock, &options.named, repair);
    // A store comes up on a full disk; a loss is on disk already.
    if let Err(e) = report.finish(&*disks.data, begun.as_deref(), options.reports, env.now()) {
        tracing::warn!(event = "no_report", error = %e, "the report of this start could not be written");
    }
    if decision.verdict != Verdict::Hold {
        clear_failed_mark(&disks)?;
    }
    for found in &report.findings {
        tracing::warn!(
            event = "finding",
            place = found.r#where,
            found = found.found,
            expected = found.expected,
            "{}",
            found.what
        );
    }
    tracing::info!(event = "recovered", decision = report.decision, summary = report.summary());
    let store = Store::assemble(disks, env, options, parts, decision.verdict, report.summary())?;
    if was_due {
        store.due.is_continued();
    }
    expect_partitions(&store)?;
    if decision.verdict != Verdict::Hold && !planted::on(Bug::OlderPartitionTrusted) {
        // Before anybody reads.
        store.doubt_older();
    }
    store.clear_staging();
    if verb.is_none() && decision.verdict != Verdict::Hold {
        // Before anybody changes anything; what a person opens a store for changes no mailbox.
        store.outgrow()?;
    }
    // Before the first segment is retired.
    store.follow_snapshots();
    store.judge_lagging();
    Ok((store, report))
}

/// The numbers that were given behind the point to which a person goes back.
fn numbers_behind(disks: &Disks, found: &Found, decision: &Decision) -> Option<Numbers> {
    let survey = found.survey.as_ref().filter(|_| decision.verdict == Verdict::Until)?;
    Some(Numbers::behind(&*disks.log, survey, decision.candidate.reach))
}

/// Tells the partitions which identity the database knows for each of them. One that the configuration does not name any more is away:
/// what comes for it waits in the log. A store beside the live one has no partitions, and what lies in them is not its business.
fn expect_partitions(store: &Store) -> Result<()> {
    let has_partitions = !store.disks.partitions.is_empty();
    let known = partitions_in(&store.view())?;
    // A database that was lost has forgotten partitions that come back.
    if !store.due.is_due() {
        store.partitions.forget_strangers(|name| known.contains_key(name));
    }
    for (name, id) in known {
        if has_partitions && store.partitions.site(&name).is_none() {
            tracing::error!(
                event = "partition_without_path",
                partition = name,
                "its mail waits until its section is in the configuration again and the daemon is started again"
            );
            store.partitions.add(&name, Site::nowhere());
        }
        store.partitions.expect(&name, id);
    }
    Ok(())
}

/// The partitions that a database has.
pub(super) fn partitions_in(rows: &dyn Rows) -> Result<BTreeMap<String, PartitionId>> {
    let (mut found, mut failed) = (BTreeMap::new(), Ok(()));
    rows.scan(Table::Partitions, Bound::Unbounded, &mut |key, row| match PartitionRow::decode(key, row) {
        Ok(row) => {
            found.insert(String::from_utf8_lossy(key).into_owned(), PartitionId(row.id));
            ControlFlow::Continue(())
        }
        Err(e) => {
            failed = Err(e);
            ControlFlow::Break(())
        }
    })?;
    failed.map(|()| found)
}

/// The partitions of the configuration, and those added at run time: where these lie is known twice.
pub(super) fn partitions(disks: &Disks, store_id: StoreId) -> Result<Arc<Partitions>> {
    let partitions = Partitions::new(disks.roots.clone(), store_id);
    let roll = roll::read(&*disks.data, store_id).unwrap_or_else(|e| {
        tracing::warn!(event = "partition_roll", error = %e, "the next checkpoint writes it anew");
        Roll::new()
    });
    let places = match places::read(&*disks.data) {
        Err(e @ StoreError::Corrupt { .. }) if roll.values().any(|of| of.site.is_some()) => {
            tracing::error!(event = "partition_places", error = %e, "partitions are where they were when it was written last");
            BTreeMap::new()
        }
        places => places?,
    };
    let enrolled = roll.iter().filter_map(|(name, of)| Some((name, of.site.as_ref()?)));
    for (name, site) in enrolled.chain(&places).chain(&disks.partitions) {
        partitions.add(name, site.clone());
    }
    partitions.recall(roll);
    partitions.remember(disks.data.clone())?;
    Ok(Arc::new(partitions))
}

/// Format version of the log segments that a store of this schema makes: one of an older schema is one for an older program.
#[must_use]
pub fn log_version(schema: u32) -> u32 {
    match schema {
        ..2 => 1,
        2 => 2,
        _ => wal::VERSION,
    }
}

/// How the log goes on behind a database of this schema.
pub(super) fn settings(options: &Options, schema: u32) -> Settings {
    let version = log_version(schema);
    Settings { segment_bytes: options.segment_size, spares: options.spares, reserve: options.reserve, version }
}

/// Every start but the first.
#[expect(clippy::too_many_arguments, reason = "the story's one act; each argument is one thing it was told before")]
fn restart(
    disks: &Disks,
    env: &Arc<dyn Env>,
    options: &Options,
    lock: Box<dyn Lock>,
    found: &Found,
    (decision, numbers): (&Decision, Option<Numbers>),
    report: &mut Report,
    progress: &OnProgress,
) -> Result<Parts> {
    let (Some(marker), Some(survey)) = (&found.marker, &found.survey) else {
        return Err(StoreError::Bug("a restart without a marker".to_owned()));
    };
    if found.marker_lost {
        marker.write(&*disks.data)?;
    }
    let Candidate { epoch, base_lsn, reach: wanted, .. } = decision.candidate;
    let reach = match decision.verdict {
        Verdict::Until => wal::reach_until(&*disks.log, survey, epoch, base_lsn, wanted)?,
        _ => survey.reach(epoch, base_lsn),
    };
    assert_eq!(reach.lsn, wanted, "the decision was made on this survey");
    let db = put_database_in_place(disks, env.now(), marker.store_id, decision, found, options, report, progress)?;
    let partitions = partitions(disks, marker.store_id)?;
    let hold = decision.verdict == Verdict::Hold;
    let began = survey.next_epoch();
    going_back::learn(&*disks.data, &partitions, Epoch(began.0 - 1), hold)?;
    let bytes_max = if hold { usize::MAX } else { options.overlay_bytes_max };
    let makes = (!hold).then_some(&*partitions);
    let replay = Replay {
        disk: &*disks.log,
        data: &*disks.data,
        survey,
        db: &db,
        partitions: makes,
        from: (epoch, base_lsn),
        reach: reach.lsn,
        overlay_bytes: options.overlay_bytes,
        bytes_max,
        progress,
    };
    let replay = match decision.candidate.origin {
        Origin::Snapshot(_) if planted::on(Bug::RollbackWithoutLog) => Replay { reach: base_lsn, ..replay },
        _ => replay,
    };
    let Replayed { overlay, stats: replayed, checkpoint, mut used, oldest } = replay.run()?;
    if decision.fork {
        // What is given up has used numbers too.
        used.records_behind(&*disks.log, survey, reach.lsn);
    }
    report.oldest_replayed = oldest.map(super::rfc3339);
    report.replayed = replayed.records;
    report.transactions = replayed.transactions;
    report.replayed_bytes = replayed.bytes;
    // Without the control file nobody knows whether the last segment is the last one that there was.
    report.possible_loss =
        found.is_doubtful(decision) || (reach.stop == Stop::Torn && decision.verdict != Verdict::Until);
    let reader = Arc::new(db.reader()?);
    let schema = reader.meta().schema;
    let base = Base { active: Arc::new(overlay), frozen: None, db: reader, names: None };
    let (control, raised) =
        marks::open_control(disks, marker.store_id, found.control.clone(), &base, base_lsn, used, hold)?;
    let control = Arc::new(control);
    // An old control file does not know what came last, either.
    if let Some(raised) = raised {
        if !hold {
            repair::add(disks, env.now(), &format!("{}: {}", raised.r#where, raised.what))?;
        }
        report.possible_loss = true;
        report.findings.push(raised);
    }
    if decision.fork && !hold {
        let behind = numbers.map(|numbers| (Applied { epoch: reach.epoch, lsn: reach.lsn }, numbers));
        going_back::note(&*disks.data, &partitions, began, behind)?;
    }
    let log = match (hold, decision.fork) {
        (true, _) => None,
        (false, false) => Some(wal::resume(&disks.log, &control, settings(options, schema), survey, &reach)?),
        (false, true) => Some(wal::fork(&disks.log, &control, settings(options, schema), survey, &reach, env.now())?),
    };
    if let Some(log) = &log {
        if decision.fork {
            going_back::learn(&*disks.data, &partitions, control.state().epoch, hold)?;
        }
        report.cut_bytes = log.done.cut.as_ref().map_or(0, |c| c.bytes);
        let cut = log.done.cut.iter().filter_map(|c| c.kept.clone());
        report.quarantined.extend(cut.chain(log.done.quarantined.iter().cloned()).map(|f| disks.log.display(&f)));
    }
    Ok(Parts { lock, store_id: marker.store_id, control, partitions, db, log, base, reached: reach.lsn, checkpoint })
}

#[expect(clippy::too_many_arguments, reason = "as its only caller")]
fn put_database_in_place(
    disks: &Disks,
    now: Micros,
    store_id: StoreId,
    decision: &Decision,
    found: &Found,
    options: &Options,
    report: &mut Report,
    progress: &OnProgress,
) -> Result<Db> {
    let (db, aside) = match (&decision.candidate.origin, &found.live, &found.fallback) {
        (Origin::Live, Some(Ok(examined)), _) => {
            return examined.open(&disks.db, DB_FILE, options.database());
        }
        (Origin::Snapshot(id), _, Some(chosen)) if *id == chosen.id => {
            replace::with_snapshot(disks, chosen, now, options.database(), progress)?
        }
        (Origin::Empty, ..) => replace::with_nothing(disks, store_id, now, options.database())?,
        (origin, ..) => return Err(StoreError::Bug(format!("no database {} was looked at", origin.name()))),
    };
    report.quarantined.extend(aside);
    Ok(db)
}

fn clear_failed_mark(disks: &Disks) -> Result<()> {
    match disks.data.remove(FAILED_MARK) {
        Ok(()) => disks.data.sync_dir("").map_err(|e| StoreError::io("sync", disks.data.display(FAILED_MARK), e)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(StoreError::io("remove", disks.data.display(FAILED_MARK), e)),
    }
}

/// Remembers that a manual recovery failed; the next start is `hold` until one succeeds (row 31).
///
/// # Errors
/// Those of the disk.
pub fn set_failed_mark(disks: &Disks, why: &str) -> Result<()> {
    crate::disk::replace(&*disks.data, FAILED_MARK, why.as_bytes())
        .map_err(|e| StoreError::io("write", disks.data.display(FAILED_MARK), e))
}

/// Exit status of a start that ended with this report.
#[must_use]
pub fn exit_of(report: &Report) -> u8 {
    if report.lost.is_some() { exit::DAMAGED } else { exit::OK }
}

/// Builds the planner of an opened store.
pub(crate) fn planner(
    encoder: Option<wal::Encoder>,
    reached: Lsn,
    control: &Arc<Control>,
    env: &Arc<dyn Env>,
    options: &Options,
) -> Planner {
    Planner::new(encoder, reached, IdSource::new(control.clone(), env.clone(), options.id_blocks()))
}
