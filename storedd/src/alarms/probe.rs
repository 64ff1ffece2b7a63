//! Looks at disks and partitions on threads of its own, and remembers what it saw.
//!
//! A file system whose disk or server does not answer holds whoever asks it, for ever perhaps. So each place has a thread
//! that asks once a second and leaves its answer where everybody may read it, with the time of asking: what everybody
//! reads is at most old. The threads are never waited for.

use super::facts::PlaceFacts;
use crate::disk::{Disk, Space};
use crate::env::Env;
use crate::store::Store;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// Time between two looks at one place.
const PERIOD: Duration = Duration::from_secs(1);

/// A place that has not answered for so long is not asked by others.
const SILENT: Duration = Duration::from_secs(5);

/// Names of the places that the store itself needs, as alarms and metrics have them.
const DATA: &str = "data";
const DATABASE: &str = "database";
const LOG: &str = "log";
/// The name of a partition as a place begins so.
const PARTITION: &str = "partition ";

/// What was seen of one place.
#[derive(Debug, Clone)]
struct Seen {
    path: String,
    space: Option<Space>,
    /// `ok`, `full`, `behind`, `missing`, `foreign`.
    state: &'static str,
    /// What is wrong with it.
    why: Option<String>,
    /// The same, if it is not there.
    trouble: Option<String>,
    at: Duration,
    /// It has answered.
    answered: bool,
}

/// Shared with the threads; a place that is no longer in it has lost its thread.
#[derive(Debug, Default)]
struct Shared {
    places: Mutex<BTreeMap<String, Seen>>,
    database_bytes: Mutex<u64>,
}

impl Shared {
    fn places(&self) -> MutexGuard<'_, BTreeMap<String, Seen>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Remembers how every disk and partition of a store was seen last.
#[derive(Debug)]
pub struct Prober {
    store: Arc<Store>,
    env: Arc<dyn Env>,
    shared: Arc<Shared>,
}

/// A partition as it was seen last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionSeen {
    /// Its name.
    pub name: String,
    /// `ok`, `full`, `behind`, `missing`, `foreign`.
    pub state: &'static str,
    /// What is wrong; empty if nothing is.
    pub why: String,
    /// It has not answered for some time.
    pub is_silent: bool,
}

impl Prober {
    /// Nothing is looked at before [`Prober::follow`].
    #[must_use]
    pub fn new(store: Arc<Store>, env: Arc<dyn Env>) -> Prober {
        Prober { store, env, shared: Arc::default() }
    }

    /// Sees to it that every place there is now has a thread, and no other. To be called again and again: partitions
    /// come and go.
    ///
    /// # Errors
    /// If no thread can be made; the place is then tried again by the next call.
    pub fn follow(&self) -> io::Result<()> {
        let disks = self.store.disks();
        let partitions = self.store.partitions().list();
        let mut wanted: Vec<(String, String)> = vec![
            (DATA.to_owned(), disks.data.display("")),
            (DATABASE.to_owned(), disks.db.display("")),
            (LOG.to_owned(), disks.log.display("")),
        ];
        wanted.extend(partitions.into_iter().map(|(name, site)| (format!("{PARTITION}{name}"), site.to_string())));
        let fresh: Vec<String> = {
            let mut places = self.shared.places();
            places.retain(|name, _| wanted.iter().any(|(wanted, _)| wanted == name));
            wanted.retain(|(name, _)| !places.contains_key(name));
            let begin = |(name, path): (String, String)| {
                let at = self.env.uptime();
                let seen = Seen { path, space: None, state: "ok", why: None, trouble: None, at, answered: false };
                places.insert(name.clone(), seen);
                name
            };
            wanted.into_iter().map(begin).collect()
        };
        for name in fresh {
            self.start(name.clone()).inspect_err(|_| drop(self.shared.places().remove(&name)))?;
        }
        Ok(())
    }

    fn start(&self, name: String) -> io::Result<()> {
        let (store, shared, env) = (Arc::downgrade(&self.store), Arc::downgrade(&self.shared), self.env.clone());
        let run = move || {
            while look(&name, &store, &shared, &*env) {
                std::thread::sleep(PERIOD)
            }
        };
        std::thread::Builder::new().name("probe".to_owned()).spawn(run).map(drop)
    }

    /// True if every place has answered at least once.
    #[must_use]
    pub fn all_answered(&self) -> bool {
        self.shared.places().values().all(|seen| seen.answered)
    }

    /// Every place as it was seen last.
    #[must_use]
    pub fn places(&self) -> Vec<PlaceFacts> {
        let now = self.env.uptime();
        let places = self.shared.places();
        let fact = |(name, seen): (&String, &Seen)| PlaceFacts {
            name: name.clone(),
            path: seen.path.clone(),
            space: seen.space,
            trouble: seen.trouble.clone(),
            age: now.saturating_sub(seen.at),
            vital: !name.starts_with(PARTITION),
        };
        places.iter().map(fact).collect()
    }

    /// Every partition as it was seen last.
    #[must_use]
    pub fn partitions(&self) -> Vec<PartitionSeen> {
        let now = self.env.uptime();
        let places = self.shared.places();
        let known = |(name, seen): (&String, &Seen)| {
            let (name, why) = (name.strip_prefix(PARTITION)?.to_owned(), seen.why.clone().unwrap_or_default());
            Some(PartitionSeen { name, state: seen.state, why, is_silent: now.saturating_sub(seen.at) > SILENT })
        };
        places.iter().filter_map(known).collect()
    }

    /// True if a partition has not answered for some time.
    #[must_use]
    pub fn is_silent(&self, partition: &str) -> bool {
        let now = self.env.uptime();
        let seen = self.shared.places().get(&format!("{PARTITION}{partition}")).map(|seen| seen.at);
        seen.is_some_and(|at| now.saturating_sub(at) > SILENT)
    }

    /// Length of the database file when it was seen last.
    #[must_use]
    pub fn database_bytes(&self) -> u64 {
        *self.shared.database_bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at one place and leaves what it saw; false if nobody wants to know any more.
fn look(name: &str, store: &Weak<Store>, shared: &Weak<Shared>, env: &dyn Env) -> bool {
    let Some(store) = store.upgrade() else { return false };
    let (space, state, why) = match name {
        DATA => room(&*store.disks().data),
        LOG => room(&*store.disks().log),
        DATABASE => room(&*store.disks().db),
        partition => {
            let (state, space) = store.partitions().look(partition.strip_prefix(PARTITION).unwrap_or(partition));
            (space, state.word(), state.why())
        }
    };
    let database = (name == DATABASE).then(|| store.database_bytes());
    drop(store);
    let Some(shared) = shared.upgrade() else { return false };
    if let Some(bytes) = database {
        *shared.database_bytes.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
    }
    let mut places = shared.places();
    let Some(seen) = places.get_mut(name) else { return false };
    seen.trouble = why.clone().filter(|_| space.is_none());
    (seen.space, seen.state, seen.why) = (space, state, why);
    (seen.at, seen.answered) = (env.uptime(), true);
    true
}

fn room(disk: &dyn Disk) -> (Option<Space>, &'static str, Option<String>) {
    match disk.space() {
        Ok(space) => (Some(space), "ok", None),
        Err(e) => (None, "missing", Some(e.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use crate::env::RealEnv;
    use crate::partition::{RealRoots, Roots};
    use crate::store::decision::Policy;
    use crate::store::{Disks, Options};
    use std::path::Path;
    use std::sync::Condvar;

    /// Directories of the system that do not answer while a mount hangs.
    #[derive(Debug, Default)]
    struct Mount {
        hangs: Mutex<bool>,
        back: Condvar,
    }

    impl Mount {
        fn answer(&self) {
            *self.hangs.lock().unwrap() = false;
            self.back.notify_all();
        }
    }

    impl Roots for Mount {
        fn open(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
            drop(self.back.wait_while(self.hangs.lock().unwrap(), |hangs| *hangs).unwrap());
            RealRoots.open(path)
        }

        fn make(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
            RealRoots.make(path)
        }
    }

    fn until(mut done: impl FnMut() -> bool) {
        for _ in 0..3000 {
            if done() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it does not come");
    }

    #[test]
    fn a_mount_that_hangs_holds_up_nobody_but_its_own_thread() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(dir.path()).unwrap());
        let mount = Arc::new(Mount::default());
        let (data, db, log) = (disk.clone(), disk.clone(), disk);
        let disks =
            Disks { data, db, log, roots: mount.clone(), partitions: BTreeMap::new(), snapshots: Default::default() };
        let env: Arc<dyn Env> = Arc::new(RealEnv::default());
        let options = Options { segment_size: 1 << 20, spares: 0, ..Options::default() };
        let policy = Policy::default();
        let lock = crate::store::take_lock(&disks).unwrap();
        let progress: crate::store::OnProgress = Arc::new(|_| {});
        let (store, _) = crate::store::open(disks, env.clone(), options, lock, policy, &progress).unwrap();
        store.partitions().add("far", dir.path().join("far"));

        *mount.hangs.lock().unwrap() = true;
        let prober = Prober::new(store, env);
        prober.follow().unwrap();
        let seen = |name: &str| prober.places().into_iter().find(|place| place.name == name).unwrap();
        until(|| ["data", "database", "log"].iter().all(|name| seen(name).space.is_some()));
        let first = seen("partition far").age;
        until(|| seen("partition far").age > first + PERIOD);
        assert!(!prober.all_answered() && seen("partition far").trouble.is_none());
        until(|| seen("log").age < PERIOD);
        until(|| prober.is_silent("far"));
        assert!(!prober.is_silent("near"));

        mount.answer();
        until(|| seen("partition far").trouble.is_some());
        let [far] = &prober.partitions()[..] else { panic!("one partition") };
        assert_eq!((far.name.as_str(), far.state, far.is_silent), ("far", "missing", false));
        assert!(far.why.contains("far"), "{far:?}");
        prober.store.partitions().remove("far");
        prober.follow().unwrap();
        assert_eq!(prober.places().len(), 3, "what is gone is forgotten");
    }
}
