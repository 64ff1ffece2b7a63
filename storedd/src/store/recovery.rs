//! Recovery: all of a start, from taking the lock to a store that answers. It reads from top to bottom.
//!
//! ```text
//!  1  take the lock                                   one owner; a dead owner's lock is free
//!  2  read the marker                                 which store, which layout
//!  3  look at the control file, database, log         evidence; not one byte is written
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
use super::commit::Planner;
use super::decision::{self, Candidate, Decision, Evidence, Origin, Policy, Verdict};
use super::fallback::{Chosen, Fallback, Snapshots};
use super::first::first_start;
use super::ids::IdSource;
use super::marker::Marker;
use super::marks;
use super::repair;
use super::replace;
use super::replay::{Replay, Replayed};
use super::report::{Finding, Report};
use super::view::Base;
use super::{Disks, Options, Parts, Store};
use crate::db::{self, Db};
use crate::disk::{Disk, Lock};
use crate::env::Env;
use crate::error::{Result, StoreError, exit};
use crate::lsn::{Epoch, Lsn, Micros, StoreId};
use crate::model::rows::{PartitionRow, Row};
use crate::model::{Rows, Table};
use crate::partition::{PartitionId, Partitions, places};
use crate::planted::{self, Bug};
use crate::wal::{self, Control, ControlState, Depth, Reach, Settings, Stop, Survey};
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

/// The database file below the database directory.
pub(crate) const DB_FILE: &str = "mboxlist.redb";
/// Lock file below the data directory.
pub(crate) const LOCK_FILE: &str = "lock";
/// Left by a manual recovery that failed; outside `mboxlist/` so that putting files back does not remove it.
pub(crate) const FAILED_MARK: &str = "failed-recovery";

/// Bad places of the log that a report names.
const FINDINGS_MAX: usize = 100;

/// How far a start is, for `status`, systemd and a person who waits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// `database`, `log`, `snapshot`, `copy`, `replay`.
    pub phase: &'static str,
    /// Done, 0.0 to 1.0, within the phase.
    pub done: f64,
}

/// Told about progress now and then.
pub type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// What lies there, collected without writing.
pub struct Found {
    marker: Option<Marker>,
    control: Option<ControlState>,
    /// What is wrong if this is a store without a control file.
    control_gone: Option<StoreError>,
    live: Option<Result<db::Examined>>,
    pub(super) survey: Option<Survey>,
    pub(super) findings: Vec<Finding>,
    /// What may take the database's place; nothing was looked for as long as it is good and the log behind it leads on.
    fallback: Option<Chosen>,
    /// The highest LSN of which a snapshot says that it was durable, if they were looked at.
    proven: Lsn,
    /// Places of snapshots that could not be read.
    unreadable: Vec<String>,
    failed_before: bool,
}

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

/// Collects the evidence; changes nothing (I7).
///
/// # Errors
/// What a start cannot work around: unreadable disks, foreign or newer files.
pub fn look(disks: &Disks, progress: &OnProgress) -> Result<Found> {
    let marker = Marker::read(&*disks.data)?;
    let loaded = Control::load(&*disks.data)?;
    let mut findings: Vec<Finding> = loaded.problems.iter().map(Finding::of).collect();
    progress(Progress { phase: "database", done: 0.0 });
    let live = look_at_database(disks, marker.as_ref(), progress)?;
    match (&live, &marker) {
        (Some(Err(e)), _) => findings.push(Finding::of(e)),
        (None, Some(_)) => findings.push(Finding::of(&StoreError::Missing { files: vec![disks.db.display(DB_FILE)] })),
        _ => {}
    }
    progress(Progress { phase: "log", done: 0.0 });
    let control_gone = marker.as_ref().and_then(|_| marks::gone(disks, &loaded));
    if let Some(e @ StoreError::Missing { .. }) = &control_gone {
        findings.push(Finding::of(e));
    }
    let failed_before = disks.data.stat(FAILED_MARK).map_err(|e| StoreError::io("stat", FAILED_MARK, e))?.is_some();
    let (control, survey, unreadable) = (loaded.state, None, Vec::new());
    let mut found = Found {
        marker,
        control,
        control_gone,
        live,
        survey,
        findings,
        fallback: None,
        proven: Lsn::ZERO,
        unreadable,
        failed_before,
    };
    if let Some(marker) = found.marker {
        found.look_at_log(disks, marker.store_id, progress)?;
    }
    Ok(found)
}

fn look_at_database(
    disks: &Disks,
    marker: Option<&Marker>,
    progress: &OnProgress,
) -> Result<Option<Result<db::Examined>>> {
    let there = disks.db.stat(DB_FILE).map_err(|e| StoreError::io("stat", disks.db.display(DB_FILE), e))?;
    match there {
        None => return Ok(None),
        // The database itself may be whole behind it: neither followed, for a rename would replace the link, nor given up.
        Some(entry) if entry.kind == crate::disk::Kind::Symlink => {
            return Err(StoreError::io("open", disks.db.display(DB_FILE), rustix::io::Errno::LOOP.into()));
        }
        Some(_) => {}
    }
    let progress = progress.clone();
    let told: db::Progress = Arc::new(move |done| progress(Progress { phase: "database", done }));
    let examined = Db::examine_for_open(&disks.db, DB_FILE, marker.map(|m| m.store_id), Some(told));
    match examined {
        // A start does not work around these: the file is fine, it is the disk, the program or the place that is not.
        Err(e @ (StoreError::Io { .. } | StoreError::Foreign { .. })) => Err(e),
        examined => Ok(Some(examined)),
    }
}

impl Found {
    /// Surveys the log; and, where the database and the log do not suffice, looks for a snapshot.
    fn look_at_log(&mut self, disks: &Disks, store_id: StoreId, progress: &OnProgress) -> Result<()> {
        marks::refuse_foreign(disks, self.control.as_ref(), store_id)?;
        let database = self.live_meta().map(|meta| (meta.epoch, meta.applied_lsn));
        // What a snapshot holds was durable: the survey is told before it judges an end of the log as torn.
        let mut snapshots = database.is_none().then(|| Snapshots::read(disks, store_id));
        let proven = snapshots.as_ref().and_then(Snapshots::proven);
        let applied_lsn = database.map(|(_, lsn)| lsn).max(proven);
        let proof = wal::Proof { control: self.control.clone(), applied_lsn };
        let mut survey = wal::survey(&*disks.log, store_id, proof, Depth::All)?;
        wal::accept(&survey)?;
        if let Some((epoch, lsn)) = database.filter(|(epoch, lsn)| !survey.reach(*epoch, *lsn).whole()) {
            self.findings.push(Finding {
                r#where: disks.db.display(DB_FILE),
                what: "the log does not lead on from the database".to_owned(),
                expected: "the whole log behind it".to_owned(),
                found: format!("a database at LSN {lsn} of epoch {epoch}"),
            });
            let all = Snapshots::read(disks, store_id);
            survey.proof.applied_lsn = survey.proof.applied_lsn.max(all.proven());
            snapshots = Some(all);
        }
        self.findings.extend(survey.problems().iter().take(FINDINGS_MAX).map(Finding::of));
        if let Some(snapshots) = snapshots {
            self.proven = snapshots.proven().unwrap_or_default();
            let Fallback { chosen, unreadable, findings } = snapshots.choose(&survey, &|_| true, progress);
            (self.fallback, self.unreadable) = (chosen, unreadable);
            self.findings.extend(findings);
        }
        self.survey = Some(survey);
        Ok(())
    }

    /// The evidence, reduced to what the decision needs.
    #[must_use]
    pub fn evidence(&self, disks: &Disks) -> Evidence {
        let Some(survey) = &self.survey else {
            return Evidence { fresh: true, ..Evidence::default() };
        };
        let mut evidence =
            Evidence { known: survey.highest_lsn(), failed_before: self.failed_before, ..Evidence::default() };
        match &self.control_gone {
            Some(StoreError::Missing { files }) => evidence.missing.extend(files.iter().cloned()),
            Some(e) => evidence.damaged.push(e.to_string()),
            None => {}
        }
        match &self.live {
            Some(Ok(_)) => {}
            Some(Err(e)) => evidence.live_problem = Some(e.to_string()),
            None => {
                evidence.missing.push(disks.db.display(DB_FILE));
                evidence.live_problem = Some(format!("{} is missing", disks.db.display(DB_FILE)));
            }
        }
        evidence.unreadable.clone_from(&self.unreadable);
        let live = self.live_meta().map(|meta| (Origin::Live, meta.epoch, meta.applied_lsn));
        let snapshot = self.fallback.as_ref();
        let snapshot = snapshot.map(|c| (Origin::Snapshot(c.id.clone()), c.manifest.epoch, c.manifest.lsn));
        let empty = (Origin::Empty, Epoch(0), Lsn::ZERO);
        for (origin, epoch, base_lsn) in live.into_iter().chain(snapshot).chain([empty]) {
            let reach = survey.reach(epoch, base_lsn);
            let whole = reach.whole() && reach.lsn >= self.proven;
            evidence.candidates.push(Candidate { origin, base_lsn, epoch, reach: reach.lsn, whole });
        }
        if let Some(best) = decision::best(&evidence.candidates) {
            evidence.torn = survey.reach(best.epoch, best.base_lsn).stop == Stop::Torn;
        }
        // What a manual recovery names: what keeps the database from going on; where there is none, the best in its place.
        let named = evidence.candidates.iter().find(|c| c.origin == Origin::Live);
        if let Some(Candidate { epoch, base_lsn, .. }) = named.or(decision::best(&evidence.candidates)) {
            let reach = survey.reach(*epoch, *base_lsn);
            // Gaps and damage before the checkpoint are no obstacle: recovery needs no log from there (row 32).
            if !reach.whole() {
                name_obstacles(&mut evidence, disks, survey, &reach);
            }
        }
        evidence
    }

    /// Store id, if this is a store.
    #[must_use]
    pub fn store_id(&self) -> Option<StoreId> {
        self.marker.map(|m| m.store_id)
    }

    /// What is wrong with the control file, if none could be believed.
    pub(super) fn control_problem(&self) -> Option<&StoreError> {
        self.control_gone.as_ref()
    }

    /// What the live database says of itself, if it is good.
    #[must_use]
    pub fn live_meta(&self) -> Option<&db::Meta> {
        self.live.as_ref().and_then(|l| l.as_ref().ok()).map(|examined| &examined.meta)
    }

    /// What was seen of the log; `None` if this is no store yet.
    #[must_use]
    pub fn survey(&self) -> Option<&Survey> {
        self.survey.as_ref()
    }
}

/// Names every file that keeps the log from leading on, and no other (row 29).
fn name_obstacles(evidence: &mut Evidence, disks: &Disks, survey: &Survey, reach: &Reach) {
    let mut missing = survey.missing_files();
    if let Stop::Before { file, .. } = &reach.stop
        && !missing.contains(file)
    {
        missing.insert(0, file.clone());
    }
    evidence.missing.extend(missing.iter().map(|f| disks.log.display(f)));
    evidence
        .damaged
        .extend(survey.problems().iter().filter(|p| !matches!(p, StoreError::Missing { .. })).map(ToString::to_string));
    match &reach.stop {
        Stop::Behind { last } => evidence.damaged.push(format!("the log ends at LSN {last}, before the database")),
        Stop::OtherHistory => evidence.damaged.push("the log and the database are of different histories".to_owned()),
        _ => {}
    }
}

/// Opens a store: the whole story.
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
    let decision = decision::decide(&found.evidence(&disks), policy).map_err(|r| StoreError::Refused {
        message: r.message,
        hint: r.hint,
        exit: r.exit,
    })?;
    let clock = clock.mark("decide");
    let mut report = begin_report(&disks, &found, &decision, env.now());
    // What is given up is said before it is: after the fork no later start can see that something is missing (I8).
    let begun = (decision.verdict == Verdict::Lossy).then(|| report.begin(&*disks.data)).transpose()?;
    let repair = repair::note(&disks, env.now(), &found, &decision, policy)?;
    let parts = if decision.verdict == Verdict::FirstStart {
        first_start(&disks, &*env, &options, lock, found.marker)?
    } else {
        restart(&disks, &env, &options, lock, &found, &decision, &mut report, progress)?
    };
    let clock = clock.mark("act");
    finish_report(&mut report, &decision, &parts, clock, &options.named, repair);
    // A store comes up on a full disk; a loss is on disk already.
    if let Err(e) = report.finish(&*disks.data, begun.as_deref(), options.reports) {
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
    expect_partitions(&store)?;
    // Before the first segment is retired.
    store.follow_snapshots();
    Ok((store, report))
}

/// Tells the partitions which identity the database knows for each of them.
fn expect_partitions(store: &Store) -> Result<()> {
    let mut rows = Vec::new();
    store.view().scan(Table::Partitions, Bound::Unbounded, &mut |key, row| {
        rows.push((String::from_utf8_lossy(key).into_owned(), PartitionRow::decode(key, row)));
        ControlFlow::Continue(())
    })?;
    for (name, row) in rows {
        store.partitions.expect(&name, PartitionId(row?.id));
    }
    Ok(())
}

/// The partitions of the configuration, and those added at run time.
pub(super) fn partitions(disks: &Disks, store_id: StoreId) -> Result<Arc<Partitions>> {
    let partitions = Partitions::new(disks.roots.clone(), store_id);
    for (name, path) in places::read(&*disks.data)?.iter().chain(&disks.partitions) {
        partitions.add(name, path);
    }
    Ok(Arc::new(partitions))
}

pub(super) fn settings(options: &Options) -> Settings {
    Settings { segment_bytes: options.segment_size, spares: options.spares, reserve: options.reserve }
}

/// Every start but the first.
#[expect(clippy::too_many_arguments, reason = "the story's one act; each argument is one thing it was told before")]
fn restart(
    disks: &Disks,
    env: &Arc<dyn Env>,
    options: &Options,
    lock: Box<dyn Lock>,
    found: &Found,
    decision: &Decision,
    report: &mut Report,
    progress: &OnProgress,
) -> Result<Parts> {
    let (Some(marker), Some(survey)) = (&found.marker, &found.survey) else {
        return Err(StoreError::Bug("a restart without a marker".to_owned()));
    };
    let Candidate { epoch, base_lsn, .. } = decision.candidate;
    let reach = survey.reach(epoch, base_lsn);
    assert_eq!(reach.lsn, decision.candidate.reach, "the decision was made on this survey");
    let db = put_database_in_place(disks, env.now(), marker.store_id, decision, found, options, report, progress)?;
    let partitions = partitions(disks, marker.store_id)?;
    let hold = decision.verdict == Verdict::Hold;
    let bytes_max = if hold { usize::MAX } else { options.overlay_bytes_max };
    let makes = (!hold).then_some(&*partitions);
    let replay = Replay {
        disk: &*disks.log,
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
    let Replayed { overlay, stats: replayed, checkpoint, used, oldest } = replay.run()?;
    report.oldest_replayed = oldest.map(super::rfc3339);
    report.replayed = replayed.records;
    report.replayed_bytes = replayed.bytes;
    // Without the control file nobody knows whether the last segment is the last one that there was.
    report.possible_loss = reach.stop == Stop::Torn || found.control_gone.is_some();
    let reader = Arc::new(db.reader()?);
    let base = Base { active: Arc::new(overlay), frozen: None, db: reader, names: None };
    let (control, raised) = marks::open_control(disks, marker.store_id, found.control.clone(), &base, base_lsn, used)?;
    let control = Arc::new(control);
    // An old control file does not know what came last, either.
    if let Some(raised) = raised {
        repair::add(disks, env.now(), &format!("{}: {}", raised.r#where, raised.what))?;
        report.possible_loss = true;
        report.findings.push(raised);
    }
    let log = match (hold, decision.fork) {
        (true, _) => None,
        (false, false) => Some(wal::resume(&disks.log, &control, settings(options), survey, &reach)?),
        (false, true) => Some(wal::fork(&disks.log, &control, settings(options), survey, &reach, env.now())?),
    };
    if let Some(log) = &log {
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
