//! The threads that work for a store: started after recovery, ended and waited for before the store is closed.

use crate::error::StoreError;
use crate::jobs::copies::Copies;
use crate::jobs::expire::Ageing;
use crate::jobs::registry::Context;
use crate::jobs::scrub::Scrubber;
use crate::jobs::snapshots::Keeper;
use crate::leases::Leases;
use crate::service::watch::{Excess, Watch};
use crate::service::{Daemon, Event};
use crate::store::Store;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks at the deadlines of leases and waits.
const SWEEP: Duration = Duration::from_millis(100);

/// The threads that work for the store.
pub(crate) struct Threads {
    store: Arc<Store>,
    handles: Vec<JoinHandle<()>>,
    /// Ends the threads that do not wait for the store.
    stop: Arc<AtomicBool>,
}

impl Threads {
    pub(crate) fn start(store: &Arc<Store>) -> Result<Threads, StoreError> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Threads { store: store.clone(), handles: Vec::new(), stop: stop.clone() };
        for n in 0..2 {
            let store = store.clone();
            threads.spawn(&format!("commit-{n}"), move || store.run_committer())?;
        }
        let checkpointed = store.clone();
        threads.spawn("checkpoint", move || checkpointed.run_checkpointer())?;
        let spared = store.clone();
        threads.spawn("spares", move || prepare_spares(&spared, &stop))?;
        Ok(threads)
    }

    /// Starts the thread that measures, judges, and raises alarms.
    pub(crate) fn watch(
        &mut self,
        watch: &Arc<Watch>,
        daemon: &Arc<Daemon>,
        events: &Sender<Event>,
    ) -> Result<(), StoreError> {
        let (watch, daemon, events, stop) = (watch.clone(), daemon.clone(), events.clone(), self.stop.clone());
        let excess = move |Excess(why)| drop(events.send(Event::Excess(why)));
        self.spawn("watch", move || watch.run(&stop, || daemon.config(), excess))
    }

    /// Starts the thread that takes, verifies and removes snapshots when that is due.
    pub(crate) fn keep(&mut self, keeper: &Arc<Keeper>, daemon: &Arc<Daemon>) -> Result<(), StoreError> {
        let (keeper, daemon, stop) = (keeper.clone(), daemon.clone(), self.stop.clone());
        self.spawn("snapshots", move || {
            while !stop.load(Ordering::Acquire) {
                daemon.keep_adopting();
                daemon.keep_snapshots(&keeper);
                pause(&stop);
            }
        })
    }

    /// Starts the threads that take backups and make drills when they are due, and that archive the log.
    pub(crate) fn copy(&mut self, copies: &Arc<Copies>, daemon: &Arc<Daemon>) -> Result<(), StoreError> {
        let (due, daemon_of, stop) = (copies.clone(), daemon.clone(), self.stop.clone());
        self.spawn("copies", move || {
            while !stop.load(Ordering::Acquire) {
                daemon_of.keep_copies(&due);
                pause(&stop);
            }
        })?;
        let (archiver, daemon) = (Arc::downgrade(&copies.archiver), Arc::downgrade(daemon));
        let stop = self.stop.clone();
        // Nobody waits for it, and it holds nothing that a stop needs: the archive may hang.
        let archive = move || {
            while !stop.load(Ordering::Acquire) {
                let settings = daemon.upgrade().map(|daemon| crate::place::archive_settings(&daemon.config()));
                let (Some(archiver), Some(settings)) = (archiver.upgrade(), settings) else { return };
                archiver.tick(&settings, &Context::idle());
                drop(archiver);
                pause(&stop);
            }
        };
        let spawned = std::thread::Builder::new().name("archive".to_owned()).spawn(archive);
        spawned.map(drop).map_err(|e| StoreError::io("start", "thread archive", e))
    }

    /// Starts the thread that ages and purges messages when that is due.
    pub(crate) fn age(&mut self, ageing: &Arc<Ageing>, daemon: &Arc<Daemon>) -> Result<(), StoreError> {
        let (ageing, daemon, stop) = (ageing.clone(), daemon.clone(), self.stop.clone());
        self.spawn("ageing", move || {
            while !stop.load(Ordering::Acquire) {
                daemon.keep_ageing(&ageing);
                pause(&stop);
            }
        })
    }

    /// Starts the thread that scrubs the store.
    pub(crate) fn scrub(&mut self, scrubber: &Arc<Scrubber>, daemon: &Arc<Daemon>) -> Result<(), StoreError> {
        let (scrubber, daemon, stop) = (scrubber.clone(), daemon.clone(), self.stop.clone());
        self.spawn("scrub", move || {
            while !stop.load(Ordering::Acquire) {
                daemon.keep_scrub(&scrubber);
                pause(&stop);
            }
            scrubber.settle();
        })
    }

    /// Starts the thread that ends leases at their deadline and waits at their limit.
    pub(crate) fn sweep(&mut self, leases: &Arc<Leases>) -> Result<(), StoreError> {
        let (leases, stop) = (leases.clone(), self.stop.clone());
        self.spawn("leases", move || {
            while !stop.load(Ordering::Acquire) {
                leases.sweep();
                std::thread::sleep(SWEEP);
            }
        })
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
        let handle = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        self.handles.push(handle.map_err(|e| StoreError::io("start", format!("thread {name}"), e))?);
        Ok(())
    }

    /// True if one of them has ended, which none does by itself.
    pub(crate) fn one_died(&self) -> bool {
        self.handles.iter().any(JoinHandle::is_finished)
    }

    pub(crate) fn join(self) {
        self.stop.store(true, Ordering::Release);
        self.store.stop_committers();
        self.store.stop_checkpointer();
        for handle in self.handles {
            if handle.join().is_err() {
                tracing::error!(event = "thread_panicked");
            }
        }
    }
}

/// About a second, unless all is to stop.
fn pause(stop: &AtomicBool) {
    for _ in 0..20 {
        if !stop.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Keeps empty segments ready. Where they cannot be made that is said once, until one could be made again.
fn prepare_spares(store: &Store, stop: &AtomicBool) {
    let mut failed = false;
    while !stop.load(Ordering::Acquire) {
        match store.prepare_spares() {
            Ok(true) => failed = false,
            Ok(false) => std::thread::sleep(Duration::from_millis(10)),
            Err(e) => {
                if !failed {
                    tracing::warn!(event = "no_spare", error = %e, "no empty log segment could be prepared");
                }
                failed = true;
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }
}
