//! What a person does to a stopped store: recovers it, goes back to a point, tests it.
//!
//! # Operation
//! A [`Plan`] is made without writing a byte (I7) and can be shown (`--dry-run`) or carried out: both see the same decision.
//!
//! # Invariants
//! * Whatever a start would work around is refused here, unless the person has said otherwise; what is refused changes nothing.

use super::account::{Phases, begin_report};
use super::archived::{self, WithArchive};
use super::decision::{self, Candidate, Decision, Policy, Verdict};
use super::fallback::Wanted;
use super::install::{self, Behind};
use super::look::{Found, OnProgress, look, look_closely};
use super::overlay::Overlay;
use super::recovery::{DB_FILE, Opening, act};
use super::report::Report;
use super::reset;
use super::until::{self, Point};
use super::view::{Base, View};
use super::{Disks, Options, Store};
use crate::disk::Lock;
use crate::env::Env;
use crate::error::{Result, StoreError, exit};
use crate::lsn::Lsn;
use std::path::Path;
use std::sync::Arc;

/// What will be done to a stopped store. It holds the store's lock.
pub struct Plan {
    disks: Disks,
    lock: Box<dyn Lock>,
    found: Found,
    policy: Policy,
    decision: Result<Decision>,
    archived: Option<Archived>,
}

/// What a decision needs of the log archive.
struct Archived {
    with: WithArchive,
    /// Log files, oldest first.
    files: Vec<String>,
    point: Option<Point>,
}

impl Plan {
    /// Looks at the store and decides, for a recovery: a marker that is lost is deduced from the files themselves, and a point
    /// wins over the policy. Where the log that is there does not suffice, `archive`, the directory of the log archive, is looked at too, for a
    /// point and for a catastrophic recovery; what is needed of it is copied when the plan is carried out.
    ///
    /// # Errors
    /// Unreadable disks, foreign or newer files, a point out of reach. A refusal of the decision is told by [`Plan::decision`], so
    /// that what was found can be shown first.
    pub fn recover(
        disks: Disks,
        env: &dyn Env,
        lock: Box<dyn Lock>,
        policy: Policy,
        point: Option<Point>,
        archive: Option<&Path>,
        progress: &OnProgress,
    ) -> Result<Plan> {
        let mut found = look_closely(&disks, env.now(), progress)?;
        let mut unreadable = None;
        if let Some(path) = archive.filter(|_| point.is_some() || !found.suffices(&disks, policy)) {
            match archived::WithArchive::beside(&disks, path, &found) {
                Ok(Some(with)) => {
                    if let Some(plan) = Plan::archived(&disks, env, (policy, point), with, &mut unreadable, progress)? {
                        let (found, decision, archived) = plan;
                        let decision = Ok(decision);
                        return Ok(Plan { disks, lock, found, policy, decision, archived: Some(archived) });
                    }
                }
                Ok(None) => {}
                Err(e) => unreadable = Some(e),
            }
            // It is not the store; without it there may be a way, too.
            if let Some(e) = &unreadable {
                found.note(e);
            }
        }
        // A point out of reach may be one to which the archive leads.
        let decided = decide(&disks, &mut found, policy, point, progress).map_err(|e| unreadable.unwrap_or(e));
        let decision = decided?;
        Ok(Plan { disks, lock, found, policy, decision, archived: None })
    }

    /// Looks again, with the archive; `None` if nothing of it is needed, or it does not help: one that cannot be read is a finding.
    fn archived(
        disks: &Disks,
        env: &dyn Env,
        (policy, point): (Policy, Option<Point>),
        with: WithArchive,
        unreadable: &mut Option<StoreError>,
        progress: &OnProgress,
    ) -> Result<Option<(Found, Decision, Archived)>> {
        let both = Disks { log: Arc::new(with.clone()), ..disks.clone() };
        let mut found = match look_closely(&both, env.now(), progress) {
            Ok(found) => found,
            Err(e) => {
                *unreadable = Some(e);
                return Ok(None);
            }
        };
        let Ok(decision) = decide(&both, &mut found, policy, point, progress)? else { return Ok(None) };
        let files: Vec<String> = found.needed(&decision).into_iter().filter(|file| with.serves(file)).collect();
        if files.is_empty() {
            return Ok(None);
        }
        files.iter().for_each(|file| found.note_archived(both.log.display(file), disks.log.display(file)));
        Ok(Some((found, decision, Archived { with, files, point })))
    }

    /// Looks at the store and decides, for verbs that make up for nothing.
    ///
    /// # Errors
    /// As [`Plan::recover`]; a marker that is lost.
    pub fn strict(disks: Disks, lock: Box<dyn Lock>, policy: Policy, progress: &OnProgress) -> Result<Plan> {
        let found = look(&disks, progress)?;
        let decision = decision::decide(&found.evidence(&disks), policy).map_err(StoreError::from);
        Ok(Plan { disks, lock, found, policy, decision, archived: None })
    }

    /// Whoever is going to leave the log behind asks first, before anything is changed.
    ///
    /// # Errors
    /// [`StoreError::Refused`] that names a partition which lacks changes and is not there to take them from this log.
    pub fn expect_log_not_needed(&self) -> Result<()> {
        self.found.marker.as_ref().map_or(Ok(()), |marker| reset::expect_not_needed(&self.disks, marker.store_id))
    }

    /// Looks at the store, and decides to put this snapshot in place of its database.
    ///
    /// # Errors
    /// No such snapshot, one that is no good, a loss that nobody has given up; unreadable disks, foreign or newer files.
    pub fn install(
        disks: Disks,
        lock: Box<dyn Lock>,
        wanted: &Wanted,
        behind: Behind,
        progress: &OnProgress,
    ) -> Result<Plan> {
        let (found, decision) = install::decide(&disks, wanted, behind, progress)?;
        let accept_loss = behind == Behind::Replayed { accept_loss: true };
        let policy = Policy { strict: true, accept_loss, ..Policy::default() };
        Ok(Plan { disks, lock, found, policy, decision: Ok(decision), archived: None })
    }

    /// What was found.
    #[must_use]
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// What will be done.
    ///
    /// # Errors
    /// Why nothing will be done.
    pub fn decision(&self) -> Result<&Decision> {
        self.decision.as_ref().map_err(Clone::clone)
    }

    /// Notes that this recovery was refused: the next start holds until one succeeds (row 31).
    ///
    /// # Errors
    /// Those of the disk.
    pub fn remember_failure(&self, why: &StoreError) -> Result<()> {
        super::set_failed_mark(&self.disks, &why.to_string())
    }

    /// The report as it would begin.
    ///
    /// # Errors
    /// As [`Plan::decision`].
    pub fn report(&self, env: &dyn Env) -> Result<Report> {
        Ok(begin_report(&self.disks, &self.found, self.decision()?, env.now()))
    }

    /// True if nobody can say whether something came behind what will be taken.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.decision.as_ref().is_ok_and(|decision| self.found.is_doubtful(decision))
    }

    /// True if nothing needs to be done: the database alone is the store, and no file is bad.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        let clean = |d: &Decision| d.verdict == Verdict::Clean && !d.cut && !d.fork;
        self.decision.as_ref().is_ok_and(clean) && !self.found.marker_lost
    }

    /// Shows the database file alone to `each`; not a byte of it changes.
    ///
    /// # Errors
    /// If there is none that is good.
    pub fn look_inside<T>(&self, options: &Options, each: impl FnOnce(&View) -> T) -> Result<T> {
        let Some(Ok(examined)) = &self.found.live else {
            return Err(StoreError::Refused {
                message: format!("{} is not there, or no good", self.disks.db.display(DB_FILE)),
                hint: "storedd recover --catastrophic".to_owned(),
                exit: exit::DAMAGED,
            });
        };
        // It must outlive its reader.
        let db = examined.open_to_read(&self.disks.db, DB_FILE, options.database())?;
        let reader = Arc::new(db.reader()?);
        let base = Base { active: Arc::new(Overlay::sized(0)), frozen: None, db: reader, names: None };
        Ok(each(&View { base: Arc::new(base), at: Lsn(u64::MAX) }))
    }

    /// Does it. `verb`: what the person typed, for the report.
    ///
    /// # Errors
    /// As [`Plan::decision`]; those of the disks. After a crash the same command leads to the same end.
    pub fn carry_out(
        self,
        env: Arc<dyn Env>,
        options: Options,
        verb: &'static str,
        progress: &OnProgress,
    ) -> Result<(Arc<Store>, Report)> {
        let Plan { disks, lock, mut found, policy, decision, archived } = self;
        let mut decision = decision?;
        let same = env.clone();
        let clock = Phases::start(&*same);
        if let Some(archived) = archived {
            (found, decision) = archived.bring(&disks, &*env, policy, (found, decision), progress)?;
        }
        act(Opening { disks, env, options, lock, policy, verb: Some(verb), progress }, &found, &decision, clock)
    }
}

impl Archived {
    /// Has the files where the log is, and looks at that alone: it must lead to the same end.
    fn bring(
        self,
        disks: &Disks,
        env: &dyn Env,
        policy: Policy,
        (planned, decision): (Found, Decision),
        progress: &OnProgress,
    ) -> Result<(Found, Decision)> {
        let Archived { with, files, point } = self;
        with.bring(&files)?;
        let mut found = look_closely(disks, env.now(), progress)?;
        let same = |a: &Candidate, b: &Candidate| {
            (&a.origin, a.base_lsn, a.epoch, a.reach) == (&b.origin, b.base_lsn, b.epoch, b.reach)
        };
        match decide(disks, &mut found, policy, point, progress)? {
            Ok(again) if same(&again.candidate, &decision.candidate) => {
                found.findings.extend(planned.of_archive());
                Ok((found, again))
            }
            _ => Err(StoreError::Refused {
                message: format!("{} changed while it was recovered from the archive", disks.log.display("")),
                hint: "storedd recover --dry-run -v".to_owned(),
                exit: exit::BUSY,
            }),
        }
    }
}

/// The decision of a recovery by hand. A point that cannot be reached is told at once.
fn decide(
    disks: &Disks,
    found: &mut Found,
    policy: Policy,
    point: Option<Point>,
    progress: &OnProgress,
) -> Result<Result<Decision>> {
    let chosen = match point {
        Some(point) => until::decide(disks, found, point, progress)?,
        None => None,
    };
    Ok(match chosen {
        Some(decision) => Ok(decision),
        None => decision::decide(&found.evidence(disks), policy).map_err(StoreError::from),
    })
}
