//! The daemon as the doors see it: state, changes, queries. What the control door asks comes through [`Handle`].

mod adoption;
mod ageing;
mod at_work;
mod backup;
mod backup_heal;
mod backup_past;
mod backups;
mod check;
mod exposition;
mod handle;
mod health;
mod holding;
pub mod jobs;
mod lists;
mod logs;
mod mail_door;
mod messages;
mod modes;
mod moves;
mod numbers;
mod quotas;
mod reconstruct;
mod reload;
mod scrub;
mod sight;
mod snapshots;
mod taking;
pub mod watch;

pub use handle::Handle;
pub(crate) use numbers::percent;

use crate::config::Config;
use crate::control::convert::failure;
use crate::control::{Counters, Peer, State};
use crate::disk::outside;
use crate::env::Env;
use crate::jobs::copies::Copies;
use crate::jobs::expire::Ageing;
use crate::jobs::scrub::Scrubber;
use crate::jobs::snapshots::Keeper;
use crate::leases::Leases;
use crate::lmtp;
use crate::model::{Rows, Table};
use crate::partition::PartitionId;
use crate::site::Site;
use crate::store::{Answer, CommitError, Phase, Progress, Report, Store, View};
use proto::{Code, Failure, Reply};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::Duration;
use watch::Watch;

/// What the doors and the threads tell the daemon's event loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A client asked for the end; with `now` without waiting for requests in flight.
    Stop {
        /// Do not wait.
        now: bool,
    },
    /// A client asked for a new start; checked before.
    Restart {
        /// The start gives up what it cannot reach.
        accept_loss: bool,
    },
    /// The log failed.
    Poisoned,
    /// The configuration file may have changed.
    Reload,
    /// Log has been in excess for too long: a restart is to work it off.
    Excess(String),
}

/// The daemon, shared by all connections.
pub struct Daemon {
    config: RwLock<Arc<Config>>,
    env: Arc<dyn Env>,
    started: Duration,
    store: OnceLock<Arc<Store>>,
    watch: OnceLock<Arc<Watch>>,
    keeper: OnceLock<Arc<Keeper>>,
    copies: OnceLock<Arc<Copies>>,
    ageing: OnceLock<Arc<Ageing>>,
    scrubber: OnceLock<Arc<Scrubber>>,
    /// Seconds that the start took, and the records it replayed.
    started_with: OnceLock<(f64, u64)>,
    progress: Mutex<Progress>,
    draining: AtomicBool,
    poison_told: AtomicBool,
    events: Sender<Event>,
    counters: Arc<Counters>,
    begun_at: crate::lsn::Micros,
    /// One reload at a time; what puts a configuration into effect outside the daemon.
    apply: Mutex<reload::Apply>,
    leases: Arc<Leases>,
    modes: modes::Modes,
    jobs: jobs::Jobs,
    senders: messages::Senders,
    readers: backup::Readers,
    clients: at_work::Clients,
    /// What the door for mail counts.
    mail: Arc<lmtp::Counters>,
    mail_closer: OnceLock<lmtp::Closer>,
    /// What an adoption waits for.
    awaited: Mutex<adoption::Awaited>,
}

impl Daemon {
    /// A daemon that has no store yet: it recovers.
    #[must_use]
    pub fn new(config: Config, env: Arc<dyn Env>, events: Sender<Event>, counters: Arc<Counters>) -> Daemon {
        let jobs = jobs::Jobs::new(env.clone());
        jobs.set_limits(Daemon::job_limits(&config));
        Daemon {
            config: RwLock::new(Arc::new(config)),
            started: env.uptime(),
            begun_at: env.now(),
            leases: Arc::new(Leases::new(env.clone())),
            modes: modes::Modes::default(),
            senders: messages::Senders::default(),
            readers: backup::Readers::default(),
            clients: at_work::Clients::default(),
            jobs,
            env,
            store: OnceLock::new(),
            watch: OnceLock::new(),
            awaited: Mutex::default(),
            keeper: OnceLock::new(),
            copies: OnceLock::new(),
            ageing: OnceLock::new(),
            scrubber: OnceLock::new(),
            started_with: OnceLock::new(),
            progress: Mutex::new(Progress::of("start", 0.0)),
            draining: AtomicBool::new(false),
            poison_told: AtomicBool::new(false),
            events,
            counters,
            apply: Mutex::new(Box::new(|_| ())),
            mail: Arc::default(),
            mail_closer: OnceLock::new(),
        }
    }

    /// Notes how far recovery is.
    pub fn set_progress(&self, progress: Progress) {
        *self.progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = progress;
    }

    /// Recovery is done: from now on there is a store.
    pub fn set_store(&self, store: Arc<Store>) {
        let first = self.store.set(store.clone()).is_ok();
        assert!(first, "a daemon opens one store");
        // A reload during the recovery found no store to tell.
        let config = self.config();
        store.set_limits(crate::place::limits(&config));
        store.set_triggers(crate::place::options(&config).triggers());
        store.set_snapshot_log(config.snapshot.log_bytes);
        store.set_partition_log(config.log.partition_bytes);
    }

    /// Has the store watched; to be called before [`Daemon::set_store`], with what the start found.
    pub fn set_watch(&self, watch: Arc<Watch>, report: &Report) {
        let first = self.watch.set(watch).is_ok() && self.started_with.set((report.duration, report.replayed)).is_ok();
        assert!(first, "a store is watched once");
    }

    /// Who keeps the snapshots; to be called before [`Daemon::set_store`].
    pub fn set_keeper(&self, keeper: Arc<Keeper>) {
        let first = self.keeper.set(keeper).is_ok();
        assert!(first, "a store has one keeper of its snapshots");
    }

    /// Who makes copies of the store; to be called before [`Daemon::set_store`].
    pub fn set_copies(&self, copies: Arc<Copies>) {
        let first = self.copies.set(copies).is_ok();
        assert!(first, "copies of a store are made by one");
    }

    /// Refuses new changes from now on, and those that wait for others.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.leases.close();
    }

    /// Who holds what.
    #[must_use]
    pub fn leases(&self) -> &Arc<Leases> {
        &self.leases
    }

    /// The state for those who were there before a drain began.
    fn inner_state(&self) -> State {
        let Some(store) = self.store.get() else { return State::Recovering };
        if self.draining.load(Ordering::Acquire) {
            return State::Draining;
        }
        match store.phase() {
            Phase::Ready => State::Ready,
            Phase::ReadOnly(_) => State::ReadOnly,
            Phase::Poisoned => State::Poisoned,
        }
    }

    /// The configuration in effect.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.config.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Puts another configuration into effect.
    pub fn set_config(&self, config: Config) {
        let (limits, snapshot_log) = (crate::place::limits(&config), config.snapshot.log_bytes);
        let partition_log = config.log.partition_bytes;
        let triggers = crate::place::options(&config).triggers();
        self.jobs.set_limits(Daemon::job_limits(&config));
        *self.config.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(config);
        // After it: who opens a store meanwhile takes the limits from there.
        if let Some(store) = self.store.get() {
            store.set_limits(limits);
            store.set_triggers(triggers);
            store.set_snapshot_log(snapshot_log);
            store.set_partition_log(partition_log);
        }
    }

    fn store(&self) -> Result<&Arc<Store>, Failure> {
        self.store.get().ok_or_else(|| Failure::new(Code::Unavailable, "recovering"))
    }

    fn watch(&self) -> Result<&Arc<Watch>, Failure> {
        self.watch.get().ok_or_else(|| Failure::new(Code::Unavailable, "recovering"))
    }

    fn view(&self) -> Result<View, Failure> {
        Ok(self.store()?.view())
    }

    fn checkpoint(&self) -> Result<Reply, Failure> {
        let done = self.store()?.checkpoint().map_err(|e| failure(&e))?;
        Ok(Reply::Checkpoint(proto::Checkpoint {
            lsn: done.lsn.0,
            duration: done.duration.as_secs_f64(),
            retired: done.retired,
        }))
    }

    fn reports(&self, last: u32) -> Result<Reply, Failure> {
        let store = self.store()?;
        let last = last.clamp(1, 1000) as usize;
        let reports = Report::load(&*store.disks().data, last, self.env.now()).map_err(|e| failure(&e))?;
        Ok(Reply::Reports(reports.into_iter().map(numbers::report).collect()))
    }

    fn config_values(&self, defaults: bool) -> Reply {
        Reply::Config(if defaults { Config::default_values() } else { self.config().values() })
    }

    /// Has the event loop stop the store and start again. What would keep the start from coming up is refused before
    /// anything stops.
    fn restart(&self, peer: &Peer, accept_loss: bool) -> Result<Reply, Failure> {
        if accept_loss && !self.store()?.is_held() {
            return Err(Failure::new(Code::NotFound, "nothing is held: no loss waits to be accepted")
                .with_hint("storectl recover --report"));
        }
        if let Some(Err(problems)) = self.config().again() {
            return Err(reload::refused(&problems));
        }
        tracing::info!(event = "restart_asked", uid = peer.uid, pid = peer.pid, accept_loss);
        drop(self.events.send(Event::Restart { accept_loss }));
        Ok(Reply::Done(proto::Done { done: true }))
    }

    /// What a start lost is known to somebody.
    fn accept_loss(&self, peer: &Peer) -> Result<Reply, Failure> {
        let store = self.store()?;
        if store.is_held() {
            return Ok(Reply::Done(proto::Done { done: false }));
        }
        if !store.repair_done().map_err(|e| failure(&e))? {
            return Err(
                Failure::new(Code::NotFound, "no loss waits to be accepted").with_hint("storectl recover --report")
            );
        }
        tracing::info!(event = "loss_accepted", uid = peer.uid, pid = peer.pid);
        Ok(Reply::Done(proto::Done { done: true }))
    }

    /// Tells the event loop once that the log failed; it ends the process, and the next start recovers.
    fn notice_poison(&self, answer: &Answer) {
        if let Err(CommitError::Failed(crate::error::StoreError::Poisoned { .. })) = answer
            && !self.poison_told.swap(true, Ordering::AcqRel)
        {
            // The loop is gone only when the process ends anyway.
            drop(self.events.send(Event::Poisoned));
        }
    }
}

impl Daemon {
    /// Makes the roots of a partition that is to be added; their paths are remembered before the command that follows is
    /// logged, for paths never go into the log; if that is refused, a prepared directory and a remembered path stay.
    fn prepare_partition(&self, name: &str, site: &Site, dry_run: bool) -> Result<[u8; 16], Failure> {
        let store = self.store()?;
        if crate::model::user::check_partition(name).is_err() {
            return Err(Failure::new(Code::BadInput, format!("{name:?} is no partition name")));
        }
        if let Some(path) = site.roots().find(|path| !path.is_absolute()) {
            let message = format!("{} is not an absolute path", path.display());
            return Err(Failure::new(Code::BadInput, message));
        }
        let real: Vec<_> = site.roots().map(outside::resolved).collect();
        if let [path, messages] = &real[..]
            && (path.starts_with(messages) || messages.starts_with(path))
        {
            let message =
                format!("{} and {} are one directory, or lie one in the other", path.display(), messages.display());
            let hint = "give message files a directory of their own, on another disk, or leave --message-path away";
            return Err(Failure::new(Code::BadInput, message).with_hint(hint));
        }
        let known = store.view().contains(Table::Partitions, name.as_bytes()).map_err(|e| failure(&e))?;
        let fresh = PartitionId(self.env.random());
        if known || dry_run {
            // The planner refuses a known one; nothing is touched.
            return Ok(fresh.0);
        }
        crate::jobs::partitions::add(store, name, site, fresh, self.env.now()).map(|id| id.0).map_err(|e| failure(&e))
    }
}
