//! The evidence of a start: what lies there, collected without writing a byte (I7), and reduced to what the decision needs.

use super::Disks;
use super::decision::{self, Candidate, Decision, Evidence, Origin, Policy, Problem, Verdict};
use super::fallback::{Chosen, Fallback, Snapshots, Wanted};
use super::held;
use super::identity::{self, Identity};
use super::marker::Marker;
use super::marks;
use super::recovery::{DB_FILE, FAILED_MARK};
use super::report::Finding;
use super::upgrade;
use crate::db::{self, Db};
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn, Micros, StoreId};
use crate::wal::{self, Control, ControlState, Depth, Reach, Stop, Survey};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Bad places of the log that a report names.
const FINDINGS_MAX: usize = 100;
/// What a finding says of a log file that the archive has.
const FROM_ARCHIVE: &str = "taken from the log archive";
/// Missing files that are named.
const NAMES_MAX: usize = 10_000;

/// How far a start is, for `status`, systemd and a person who waits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// `database`, `log`, `snapshot`, `copy`, `replay`.
    pub phase: &'static str,
    /// Done, 0.0 to 1.0, within the phase.
    pub done: f64,
    /// In a phase that goes through the log: which segment it is at, and of how many (row 36).
    pub logs: Option<(u64, u64)>,
}

impl Progress {
    /// So much of a phase.
    #[must_use]
    pub fn of(phase: &'static str, done: f64) -> Progress {
        Progress { phase, done, logs: None }
    }
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {:.0} %", self.phase, self.done * 100.0)?;
        match self.logs {
            Some((at, of)) => write!(f, ", log {at} of {of}"),
            None => Ok(()),
        }
    }
}

/// Told about progress now and then.
pub type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// What lies there, collected without writing.
pub struct Found {
    pub(super) marker: Option<Marker>,
    /// The marker is not there, or damaged, and is to be written.
    pub(super) marker_lost: bool,
    pub(super) control: Option<ControlState>,
    /// What is wrong if this is a store without a control file.
    pub(super) control_gone: Option<StoreError>,
    pub(super) live: Option<Result<db::Examined>>,
    pub(super) survey: Option<Survey>,
    pub(super) findings: Vec<Finding>,
    /// What may take the database's place; nothing was looked for as long as it is good and the log behind it leads on.
    pub(super) fallback: Option<Chosen>,
    /// The highest LSN of which a snapshot, if they were looked at, or a partition says that it was durable.
    proven: Lsn,
    /// Places of snapshots that could not be read.
    unreadable: Vec<String>,
    failed_before: bool,
    /// No slot of the control file is damaged.
    control_whole: bool,
}

/// Collects the evidence for a start; changes nothing (I7).
///
/// # Errors
/// What a start cannot work around: a marker that is lost, unreadable disks, foreign or newer files.
pub fn look(disks: &Disks, progress: &OnProgress) -> Result<Found> {
    look_as(disks, Identity { marker: identity::read(disks)?, lost: None }, None, progress)
}

/// The same for a person who puts a snapshot in place: the database that is there is not looked at.
///
/// # Errors
/// As [`look`], but for the database.
pub(super) fn look_for(disks: &Disks, wanted: &Wanted, progress: &OnProgress) -> Result<Found> {
    look_as(disks, Identity { marker: identity::read(disks)?, lost: None }, Some(wanted), progress)
}

/// The same for a person who recovers: a marker that is lost is deduced from the files themselves.
///
/// # Errors
/// As [`look`]; files that name no store or several.
pub fn look_closely(disks: &Disks, now: Micros, progress: &OnProgress) -> Result<Found> {
    look_as(disks, identity::read_or_deduce(disks, now)?, None, progress)
}

/// `wanted`: which snapshot takes the place of the database, where that is decided already.
fn look_as(disks: &Disks, identity: Identity, wanted: Option<&Wanted>, progress: &OnProgress) -> Result<Found> {
    let Identity { marker, lost } = identity;
    let loaded = Control::load(&*disks.data)?;
    let mut findings: Vec<Finding> = loaded.problems.iter().map(Finding::of).collect();
    let marker_lost = lost.is_some();
    findings.extend(lost);
    progress(Progress::of("database", 0.0));
    let live = match wanted {
        Some(_) => None,
        None => look_at_database(disks, marker.as_ref(), progress)?,
    };
    match (&live, &marker) {
        (Some(Err(e)), _) => findings.push(Finding::of(e)),
        (None, Some(_)) if wanted.is_none() => {
            findings.push(Finding::of(&StoreError::Missing { files: vec![disks.db.display(DB_FILE)] }))
        }
        _ => {}
    }
    progress(Progress::of("log", 0.0));
    let control_gone = marker.as_ref().and_then(|_| marks::gone(disks, &loaded));
    if let Some(e @ StoreError::Missing { .. }) = &control_gone {
        findings.push(Finding::of(e));
    }
    let failed_before = disks.data.stat(FAILED_MARK).map_err(|e| StoreError::io("stat", FAILED_MARK, e))?.is_some();
    let (control_whole, control, survey, unreadable) = (loaded.problems.is_empty(), loaded.state, None, Vec::new());
    let mut found = Found {
        marker,
        marker_lost,
        control,
        control_gone,
        live,
        survey,
        findings,
        fallback: None,
        proven: Lsn::ZERO,
        unreadable,
        failed_before,
        control_whole,
    };
    if let Some(marker) = found.marker {
        found.look_at_log(disks, marker.store_id, wanted.unwrap_or(&Wanted::Any), progress)?;
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
    let told: db::Progress = Arc::new(move |done| progress(Progress::of("database", done)));
    let examined = Db::examine_for_open(&disks.db, DB_FILE, marker.map(|m| m.store_id), Some(told));
    match examined {
        // A start does not work around these: the file is fine, it is the disk, the program or the place that is not.
        Err(StoreError::Foreign { file, what, found, expected }) if what == db::SCHEMA => {
            Err(upgrade::newer(disks, marker, &file, &found, &expected))
        }
        Err(e @ (StoreError::Io { .. } | StoreError::Foreign { .. })) => Err(e),
        examined => Ok(Some(examined)),
    }
}

impl Found {
    /// Surveys the log; and, where the database and the log do not suffice, looks for a snapshot.
    fn look_at_log(&mut self, disks: &Disks, store_id: StoreId, wanted: &Wanted, progress: &OnProgress) -> Result<()> {
        marks::refuse_foreign(disks, self.control.as_ref(), store_id)?;
        let database = self.live_meta().map(|meta| (meta.epoch, meta.applied_lsn));
        // What a snapshot holds was durable: the survey is told before it judges an end of the log as torn.
        let mut snapshots = database.is_none().then(|| Snapshots::read(disks, store_id));
        let proven = snapshots.as_ref().and_then(Snapshots::proven);
        let held = held::most(disks, store_id, self.epoch())?;
        let held_lsn = held.as_ref().map(|held| held.lsn);
        let applied_lsn = database.map(|(_, lsn)| lsn).max(proven).max(held_lsn);
        let proof = wal::Proof { control: self.control.clone(), applied_lsn, control_whole: self.control_whole };
        let mut told = |at: u64, of: u64| {
            progress(Progress { logs: Some((at, of)), ..Progress::of("log", at as f64 / of.max(1) as f64) });
        };
        let mut survey = wal::survey_told(&*disks.log, store_id, proof, Depth::All, &mut told)?;
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
        self.findings.extend(survey.strangers().map(|stranger| Finding {
            r#where: disks.log.display(&stranger.file),
            what: "an empty file with the name of a log file; it never held anything".to_owned(),
            expected: "nothing, as the control file says".to_owned(),
            found: "0 bytes".to_owned(),
        }));
        if let (Some(held), Some((epoch, lsn))) = (&held, database) {
            let reach = survey.reach(epoch, lsn).lsn;
            self.findings.extend((held.lsn > reach).then(|| held.finding(reach)));
        }
        if let Some(snapshots) = snapshots {
            self.proven = snapshots.proven().unwrap_or_default();
            let Fallback { chosen, unreadable, findings } =
                snapshots.choose(&survey, &|manifest| wanted.is(manifest), progress);
            (self.fallback, self.unreadable) = (chosen, unreadable);
            self.findings.extend(findings);
        }
        self.proven = self.proven.max(held_lsn.unwrap_or_default());
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
        evidence.control_problem = self.control_gone.as_ref().map(|e| match e {
            StoreError::Missing { files } => Problem::Missing(files.join(", ")),
            e => Problem::Damaged(e.to_string()),
        });
        evidence.live_problem = match &self.live {
            Some(Ok(_)) => None,
            Some(Err(e)) => Some(Problem::Damaged(e.to_string())),
            None => Some(Problem::Missing(disks.db.display(DB_FILE))),
        };
        evidence.unreadable.clone_from(&self.unreadable);
        let live = self.live_meta().map(|meta| (Origin::Live, meta.epoch, meta.applied_lsn));
        let snapshot = self.fallback.as_ref();
        let snapshot = snapshot.map(|c| (Origin::Snapshot(c.id.clone()), c.manifest.epoch, c.manifest.lsn));
        let empty = (Origin::Empty, Epoch(0), Lsn::ZERO);
        for (origin, epoch, base_lsn) in live.into_iter().chain(snapshot).chain([empty]) {
            let reach = survey.reach(epoch, base_lsn);
            let resumes = reach.whole() && reach.lsn >= self.proven;
            let whole = resumes || (origin == Origin::Live && self.covers(survey, base_lsn, &reach.stop));
            evidence.candidates.push(Candidate { origin, base_lsn, epoch, reach: reach.lsn, whole, resumes });
        }
        if let Some(best) = decision::best(&evidence.candidates) {
            evidence.torn = best.resumes && survey.reach(best.epoch, best.base_lsn).stop == Stop::Torn;
        }
        // What a manual recovery names: what keeps the database from going on; where there is none, the best in its place.
        let named = evidence.candidates.iter().find(|c| c.origin == Origin::Live);
        if let Some(named) = named.or(decision::best(&evidence.candidates)).cloned() {
            let reach = survey.reach(named.epoch, named.base_lsn);
            // Gaps and damage before the checkpoint are no obstacle: recovery needs no log from there (row 32).
            if !reach.whole() {
                self.name_obstacles(&mut evidence, disks, &named, &reach);
            }
        }
        evidence
    }

    /// True if the database holds everything of which anything says that it ever was durable, although the log does not lead
    /// on from it: what is bad or gone of the log lies at or before its LSN.
    fn covers(&self, survey: &Survey, applied: Lsn, stop: &Stop) -> bool {
        // Without the control file nobody knows what came last.
        if self.control.is_none() || survey.highest_lsn() > applied || self.proven > applied {
            return false;
        }
        match stop {
            _ if self.stopped_within(applied) => true,
            Stop::Damaged { damage, .. } => damage.lsn.is_some_and(|lsn| lsn <= applied),
            Stop::Behind { .. } => survey.missing.is_empty(),
            _ => false,
        }
    }

    /// True if nobody can say whether something came behind what a decision takes: the control file is gone; or the end of the
    /// log is bad, nothing names what stood there, and the stop was no clean one.
    pub(super) fn is_doubtful(&self, decision: &Decision) -> bool {
        let Decision { verdict, candidate, lost, .. } = decision;
        let behind = lost.is_none() && !candidate.resumes && !self.stopped_within(candidate.base_lsn);
        match verdict {
            // What is behind the point is set aside, whatever it was.
            Verdict::FirstStart | Verdict::Until => false,
            _ => behind || self.control_gone.is_some(),
        }
    }

    /// True if the store was stopped in order and nothing behind `applied` was durable then: nothing can have followed.
    pub(super) fn stopped_within(&self, applied: Lsn) -> bool {
        self.control.as_ref().is_some_and(|control| control.clean && control.proves() <= applied)
    }

    /// Names every file that keeps the log from leading on from `base`, and no other (row 29).
    fn name_obstacles(&self, evidence: &mut Evidence, disks: &Disks, base: &Candidate, reach: &Reach) {
        let Some(survey) = &self.survey else { return };
        let before = |s: &&wal::SegmentEvidence| {
            s.live() && s.known().is_some_and(|header| header.first_lsn <= base.base_lsn.next())
        };
        // The segment that holds the LSN of the base, where it is there; nothing before it is needed.
        let holds = survey.segments.iter().filter(before).map(|s| s.number).max().unwrap_or(0);
        let mut missing: BTreeSet<u64> =
            survey.missing.iter().flat_map(Clone::clone).filter(|number| *number > holds).take(NAMES_MAX).collect();
        let number = |file: &String| wal::file_number(file);
        match &reach.stop {
            Stop::Missing(files) => missing.extend(files.iter().filter_map(number).filter(|n| *n > holds)),
            // Segments that were retired are not missed, unless an old copy of the database was put back.
            Stop::Before { file, .. } if base.origin == Origin::Live => {
                let last = number(file).unwrap_or(0);
                let first =
                    if base.base_lsn == Lsn::ZERO { last.saturating_sub(NAMES_MAX as u64).max(1) } else { last };
                missing.extend(first..=last);
            }
            _ => {}
        }
        evidence.missing.extend(missing.into_iter().map(|n| disks.log.display(&wal::file_name(n))));
        // A database that is proven to hold everything needs nothing of what is damaged.
        if base.origin == Origin::Live && base.whole && self.stopped_within(base.base_lsn) {
            return;
        }
        let problems = survey.problems();
        let damaged = problems.iter().filter(|p| !matches!(p, StoreError::Missing { .. }));
        evidence.damaged.extend(damaged.map(ToString::to_string));
        match &reach.stop {
            Stop::Behind { last } => evidence.damaged.push(format!("the log ends at LSN {last}, before the database")),
            Stop::OtherHistory => {
                evidence.damaged.push("the log and the database are of different histories".to_owned());
            }
            _ => {}
        }
    }

    /// Says of each log file of an older version whether it is read (row 151).
    pub(super) fn tell_historic(&self, base: Lsn) {
        for historic in self.survey.iter().flat_map(|survey| survey.historic(base)) {
            let wal::Historic { file, version, is_read } = historic;
            let what = if is_read { "reading" } else { "skipping" };
            tracing::info!(
                event = "historic_log",
                file,
                version,
                "{what} log file {file}: historic log version {version}"
            );
        }
    }

    /// True if what is there leads to everything that is known: no catastrophic recovery needs more.
    pub(super) fn suffices(&self, disks: &Disks, policy: Policy) -> bool {
        let decided = decision::decide(&self.evidence(disks), policy);
        !policy.catastrophic || decided.is_ok_and(|d| d.lost.is_none() && d.candidate.whole)
    }

    /// The log files that lead on from what this decision takes, oldest first; those behind a point too: until history has been cut there,
    /// a crash must find the store as it was.
    pub(super) fn needed(&self, decision: &Decision) -> Vec<String> {
        let Some(survey) = &self.survey else { return Vec::new() };
        let Candidate { epoch, base_lsn, .. } = decision.candidate;
        let reach = survey.reach(epoch, base_lsn);
        survey.stretch(epoch, base_lsn, &reach).into_iter().map(|part| part.file).collect()
    }

    /// Notes something that is no obstacle.
    pub(super) fn note(&mut self, e: &StoreError) {
        self.findings.push(Finding::of(e));
    }

    pub(super) fn note_archived(&mut self, archive: String, file: String) {
        let (what, found) = (FROM_ARCHIVE.to_owned(), "a whole copy".to_owned());
        self.findings.push(Finding {
            r#where: archive,
            what,
            expected: format!("{file}, which is missing or damaged"),
            found,
        });
    }

    /// What [`Found::note_archived`] has noted.
    pub(super) fn of_archive(self) -> impl Iterator<Item = Finding> {
        self.findings.into_iter().filter(|finding| finding.what == FROM_ARCHIVE)
    }

    /// Everything noticed.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Store id, if this is a store.
    #[must_use]
    pub fn store_id(&self) -> Option<StoreId> {
        self.marker.map(|m| m.store_id)
    }

    /// The epoch, as far as it is known.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        let control = self.control.as_ref().map(|control| control.epoch);
        control.max(self.live_meta().map(|meta| meta.epoch)).unwrap_or_default()
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
