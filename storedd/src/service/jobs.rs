//! Long-running work as clients ask for it: begun as a job, listed, followed, cancelled.

use super::Daemon;
use crate::control::access::Role;
use crate::control::convert::failure;
use crate::control::{Answered, Events, Peer};
use crate::jobs::copies::Copies;
use crate::jobs::registry::{Asker, Context, Cut, Job, Kind, Limits, Refused, State, Unknown, Watcher};
use crate::jobs::snapshots::Keeper;
use crate::place;
use crate::store::rfc3339;
use proto::{Code, Done, Errand, Failure, Reply, Request, Work};
use std::sync::Arc;

/// The jobs of the daemon: each ends with what its client is answered.
pub type Jobs = crate::jobs::registry::Jobs<Reply, Failure>;

/// Longest text of what a job works on that is told, in characters.
const ITEM_CHARS: usize = 200;
/// Jobs that wait for others to end.
const WAITING: usize = 16;
/// The number of no connection: what a job does is nobody's, and ends with nobody's.
pub(super) const NOBODYS: u64 = u64::MAX;
/// They use the place where snapshots lie, or read and write the same one.
const SNAPSHOTS: Option<&str> = Some("snapshots");

/// They hold log, and write to the same media.
const BACKUPS: Option<&str> = Some("backups");
/// One joins the other: they end one after the other, and both find everything done.
pub(super) const RECONSTRUCTS: Option<&str> = Some("reconstruct");
/// They use the same scratch directory.
const DRILLS: Option<&str> = Some("drills");

/// They change the same messages.
pub(super) const AGEING: Option<&str> = Some("ageing");

impl From<Cut> for Failure {
    fn from(cut: Cut) -> Failure {
        let (code, hint) = match &cut {
            Cut::Cancelled { .. } | Cut::Left { .. } | Cut::Gone { .. } => (Code::Busy, "run it again"),
            Cut::Refused(Refused::Full { .. }) => (Code::Busy, "try again; what is at work: storectl jobs"),
            Cut::Refused(Refused::Stopping) => (Code::Busy, "try again after the restart"),
            Cut::NoThread { .. } => (Code::Busy, "try again"),
            Cut::Panicked { .. } => (Code::Bug, "the log of the daemon says where"),
        };
        Failure::new(code, cut.to_string()).with_hint(hint)
    }
}

fn unknown(e: Unknown) -> Failure {
    Failure::new(Code::NotFound, e.to_string()).with_hint("storectl jobs")
}

/// The daemon as one who asks for a job.
pub(super) fn itself() -> Asker {
    let pid = i32::try_from(std::process::id()).unwrap_or_default();
    Asker { pid, uid: rustix::process::geteuid().as_raw(), client: "storedd".to_owned() }
}

/// A client as one who asks for a job.
pub(super) fn asker(peer: &Peer) -> Asker {
    Asker { pid: peer.pid, uid: peer.uid, client: peer.client.clone() }
}

/// What kind of job this work is.
fn kind(work: &Work) -> Kind {
    let lane = match work {
        Work::SnapshotTake { .. } | Work::SnapshotVerify { .. } | Work::SnapshotPrune => SNAPSHOTS,
        Work::BackupDb { .. } | Work::BackupComplete { .. } => BACKUPS,
        Work::Drill => DRILLS,
        Work::Reconstruct(_) => RECONSTRUCTS,
        Work::QuotaRecalc => super::quotas::RECALC.lane,
        Work::Expire { .. } | Work::Purge { .. } | Work::Peruser => AGEING,
        Work::Check(_) => None,
        Work::UserMove { .. } => super::moves::MOVES,
        Work::Checkpoint => None,
    };
    Kind::new(work.request().verb(), lane)
}

impl Daemon {
    /// The jobs.
    #[must_use]
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// How many jobs the configuration allows.
    pub(super) fn job_limits(config: &crate::config::Config) -> Limits {
        let options = &config.jobs;
        let (running, kept) = (options.running as usize, options.kept as usize);
        Limits { running, waiting: WAITING, kept, kept_for: options.kept_for }
    }

    /// See [`crate::control::Service::job`].
    pub(super) fn job(self: &Arc<Daemon>, peer: &Peer, request: &Request, events: Events, done: Answered) {
        let (id, how) = match request {
            Request::JobCancel { id } => match self.cancel_job(peer, *id) {
                Ok(()) => (*id, How::AsJob),
                Err(e) => return done(Err(e)),
            },
            Request::JobFollow { id } => (*id, How::Followed(events)),
            request => {
                let Some(work) = Work::of(request) else {
                    return done(Err(Failure::new(Code::Bug, format!("{} is no job", request.verb()))));
                };
                let id = match self.begin_job(peer, work) {
                    Ok(id) => id,
                    Err(e) => return done(Err(e)),
                };
                match request {
                    Request::JobStart { detach: true, .. } => return done(self.job_show(id)),
                    Request::JobStart { detach: false, .. } => (id, How::Followed(events)),
                    _ => (id, How::Awaited),
                }
            }
        };
        // Dropped without an end it answers, too.
        let _ = self.jobs.watch(id, watcher(how, Told { id, done: Some(done) }));
    }

    fn begin_job(self: &Arc<Daemon>, peer: &Peer, work: Work) -> Result<u64, Failure> {
        // It goes on without the connection.
        let (daemon, peer) = (self.clone(), Peer { connection: NOBODYS, ..peer.clone() });
        let begun = self.jobs.start(kind(&work), asker(&peer), move |ctx| daemon.work(&peer, &work, ctx));
        begun.map_err(|e| Failure::from(Cut::Refused(e)))
    }

    /// Does the work of a job.
    fn work(&self, peer: &Peer, work: &Work, ctx: &Context) -> Result<Reply, Failure> {
        match work {
            Work::SnapshotTake { verify } => self.snapshot_take(*verify, ctx),
            Work::SnapshotVerify { id, all } => self.snapshot_verify(id.as_deref(), *all, ctx),
            Work::SnapshotPrune => self.snapshot_prune(ctx),
            Work::BackupDb { dir } => self.backup_db(dir, ctx),
            Work::BackupComplete { dir } => self.backup_complete(dir, ctx),
            Work::Drill => self.drill(ctx),
            Work::Reconstruct(wanted) => self.reconstruct(peer, wanted, ctx),
            Work::QuotaRecalc => self.quota_recalc_alone(peer, ctx),
            Work::Checkpoint => self.checkpoint(),
            Work::Expire { dry_run } => self.expire(peer, *dry_run, ctx),
            Work::Purge { dry_run } => self.purge(peer, *dry_run, ctx),
            Work::Check(wanted) => self.check(wanted, ctx),
            Work::Peruser => self.peruser(peer, ctx),
            Work::UserMove { user, to } => self.user_move(peer, user, to, ctx),
        }
    }

    /// True if what is due is done by itself: not where timers do it, and not when the daemon is about to stop.
    pub(super) fn keeps_schedule(&self) -> bool {
        self.config().jobs.schedule && !self.modes.is_leaving()
    }

    /// Does what is due about snapshots, as a job.
    pub fn keep_snapshots(&self, keeper: &Keeper) {
        // Also where timers do what is due.
        keeper.look_again();
        if !self.keeps_schedule() {
            return;
        }
        let settings = self.snapshot_settings();
        let Some(due) = keeper.due(&settings) else { return };
        let kind = Kind::new(due.verb(), SNAPSHOTS);
        let work = |ctx: &Context| {
            keeper.attend(&due, &settings, ctx).map_err(|e| failure(&e))?;
            Ok(Reply::Done(Done { done: true }))
        };
        // How it ended is in the log, and with the job.
        drop(self.jobs.run(kind, itself(), work));
    }

    /// Takes a backup, and makes a drill, if one is due, each as a job.
    pub fn keep_copies(&self, copies: &Copies) {
        if !self.keeps_schedule() {
            return;
        }
        let config = self.config();
        let (backups, drills) = (place::backup_settings(&config), place::drill_settings(&config));
        let done = || Ok(Reply::Done(Done { done: true }));
        // How they ended is in the log, and with the job.
        if let Some(dir) = copies.backups.due(&backups) {
            let work = |ctx: &Context| {
                copies.backups.attend(&dir, &backups, ctx).map_err(|e| failure(&e)).and_then(|_| done())
            };
            drop(self.jobs.run(Kind::new("backup-db", BACKUPS), itself(), work));
        }
        if copies.driller.is_due(&drills) {
            let work = |ctx: &Context| copies.driller.drill(&drills, ctx).map_err(|e| failure(&e)).and_then(|_| done());
            drop(self.jobs.run(Kind::new("drill", DRILLS), itself(), work));
        }
    }

    /// `jobs list`.
    pub(super) fn job_list(&self) -> Reply {
        Reply::Jobs(self.jobs.list().into_iter().map(|job| self.wire(job)).collect())
    }

    /// `jobs show`.
    pub(super) fn job_show(&self, id: u64) -> Result<Reply, Failure> {
        self.jobs.get(id).map(|job| Reply::Job(Box::new(self.wire(job)))).map_err(unknown)
    }

    /// Has a job end: whoever asked for it may, and the owner of the store.
    fn cancel_job(&self, peer: &Peer, id: u64) -> Result<(), Failure> {
        let job = self.jobs.get(id).map_err(unknown)?;
        if peer.role < Role::Owner && job.asker.uid != peer.uid {
            let text = format!("job {id} ({}) was asked for by user {}", job.verb, job.asker.uid);
            return Err(Failure::new(Code::NotPermitted, text).with_hint("run this as root: sudo storectl"));
        }
        match self.jobs.cancel(id).map_err(unknown)?.state {
            State::Done | State::Failed | State::Gone => {
                let text = format!("job {id} ({}) is over", job.verb);
                Err(Failure::new(Code::NotFound, text).with_hint(format!("storectl jobs show {id}")))
            }
            _ => Ok(()),
        }
    }

    /// A client does work itself, which is a job from now on.
    pub(super) fn job_attend(&self, peer: &Peer, errand: Errand) -> Result<Reply, Failure> {
        let begun = self.jobs.attend(errand.verb(), errand.unit(), asker(peer), peer.connection);
        self.job_show(begun.map_err(|e| Failure::from(Cut::Refused(e)))?)
    }

    /// It says how far it is: pieces done, and all.
    pub(super) fn job_advance(
        &self,
        peer: &Peer,
        id: u64,
        (done, total): (u64, Option<u64>),
        item: &str,
    ) -> Result<Reply, Failure> {
        let item: String = item.chars().take(ITEM_CHARS).collect();
        let job = self.jobs.advance(peer.connection, id, done, total, &item).map_err(unknown)?;
        Ok(Reply::Job(Box::new(self.wire(job))))
    }

    /// It says what its work came to.
    pub(super) fn job_end(
        &self,
        peer: &Peer,
        id: u64,
        told: &proto::Told,
        failure: Option<&Failure>,
    ) -> Result<Reply, Failure> {
        let end = failure.map_or_else(|| Ok(Reply::Told(Box::new(told.clone().cut()))), |e| Err(e.clone()));
        let job = self.jobs.attended(peer.connection, id, end).map_err(unknown)?;
        Ok(Reply::Job(Box::new(self.wire(job))))
    }

    fn wire(&self, job: Job) -> proto::Job {
        let error = match self.jobs.outcome(job.id) {
            Ok(Some(Err(e))) => Some(e),
            _ => None,
        };
        wire(job, error)
    }
}

/// What who asked is told.
enum How {
    /// Only what the work ends with.
    Awaited,
    /// How it goes on, and what it ends with.
    Followed(Events),
    /// The job, when it has ended.
    AsJob,
}

/// Who is answered once, if not with an end then by being dropped: the job was forgotten before it could be watched.
struct Told {
    id: u64,
    done: Option<Answered>,
}

impl Told {
    fn tell(&mut self, answer: Result<Reply, Failure>) {
        if let Some(done) = self.done.take() {
            done(answer);
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.tell(Err(unknown(Unknown(self.id))));
    }
}

fn watcher(mut how: How, mut told: Told) -> Watcher<Reply, Failure> {
    Box::new(move |job, end| {
        match (&mut how, end) {
            (How::Followed(events), None) => return events(Reply::Job(Box::new(wire(job.clone(), None)))),
            (How::Awaited | How::AsJob, None) => return true,
            (How::AsJob, Some(end)) => {
                told.tell(Ok(Reply::Job(Box::new(wire(job.clone(), end.clone().err())))));
            }
            (How::Awaited | How::Followed(_), Some(end)) => told.tell(end.clone()),
        }
        false
    })
}

fn wire(job: Job, error: Option<Failure>) -> proto::Job {
    let Job { id, verb, asker, state, paused, asked, ended, lasted, progress } = job;
    proto::Job {
        id,
        verb,
        state: if paused && !state.is_over() { "paused" } else { state.word() }.to_owned(),
        pid: asker.pid,
        uid: asker.uid,
        client: asker.client,
        asked: rfc3339(asked),
        ended: ended.map(rfc3339),
        duration: lasted.as_secs_f64(),
        done: progress.done,
        total: progress.total,
        unit: progress.unit.to_owned(),
        item: progress.item.chars().take(ITEM_CHARS).collect(),
        error,
    }
}
