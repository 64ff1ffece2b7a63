//! Which partitions lack changes that the database has, and from which moment on: they were not there, or failed, when a checkpoint
//! wrote to the others. What they lack is in the log, and nowhere else.
//!
//! # Format
//! `behind` in the data directory, text sealed with a checksum ([`crate::sealed`]), a line for each partition:
//! ```text
//! storedd-behind 1
//! store 0123456789abcdef0123456789abcdef
//! partition archive 0 4711
//! crc 01234567
//! ```
//! The partition holds everything up to that epoch and LSN. There is no file as long as there is no such partition.
//!
//! # Operation
//! A checkpoint that leaves a partition out notes it ([`Partitions::note_behind`]) before the database's commit, which is what makes the log
//! the only place. What is behind is not read, as if it were not there ([`Partitions::disk`]): its indexes would lie. Once it has caught up
//! its own `PARTITION` file says so first, and then it is struck out here.
//!
//! # Invariants
//! * As long as a partition stands in the file, the log behind its moment is kept (I4).
//! * A file that cannot be understood counts as: every partition lacks whatever the log holds. Doing that again is harmless (I5).

use super::identity::Applied;
use super::{Partitions, State};
use crate::disk::{self, Disk};
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn};
use crate::sealed::{self, Lines};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

/// Name of the file.
pub const FILE: &str = "behind";
const KIND: &str = "storedd-behind";
const BYTES_MAX: u64 = 1 << 20;
/// Longest pause between two attempts to have a partition catch up.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A partition that lacks changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// It holds everything up to here.
    pub upto: Applied,
    /// What was in the way when it was tried last.
    pub why: String,
    /// Its own file alone says so: whether it lacks anything is looked for.
    is_doubtful: bool,
    tries: u32,
    /// Not tried again before this uptime.
    next: Duration,
}

/// Those that there are, and what the file says of them.
#[derive(Debug, Default)]
pub(super) struct Register {
    now: BTreeMap<String, Behind>,
    noted: BTreeMap<String, Applied>,
    data: Option<Arc<dyn Disk>>,
}

impl Partitions {
    fn register(&self) -> MutexGuard<'_, Register> {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads which partitions were behind when the store stopped, and keeps that file from now on. To be called when all names are
    /// known.
    ///
    /// # Errors
    /// [`StoreError::Foreign`] if the file is another store's or a newer program's, or those of the disk.
    pub fn remember(&self, data: Arc<dyn Disk>) -> Result<()> {
        let noted = match disk::read_small(&*data, FILE, BYTES_MAX) {
            Ok(bytes) => match self.parse(&bytes, &data.display(FILE)) {
                Err(e @ StoreError::Corrupt { .. }) => {
                    tracing::error!(event = "behind_unreadable", error = %e, "partitions take all that the log holds once more");
                    self.list().into_iter().map(|(name, _)| (name, Applied::NOTHING)).collect()
                }
                noted => noted?,
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(e) => return Err(StoreError::io("read", data.display(FILE), e)),
        };
        let mut register = self.register();
        register.now = noted.iter().map(|(name, upto)| (name.clone(), Behind::at(*upto, String::new()))).collect();
        register.noted = noted;
        register.data = Some(data);
        Ok(())
    }

    fn parse(&self, bytes: &[u8], file: &str) -> Result<BTreeMap<String, Applied>> {
        let mut lines = Lines::open(KIND, bytes, file)?;
        let store = lines.store()?;
        if store != self.store_id() {
            let (found, expected) = (store.to_string(), self.store_id().to_string());
            return Err(StoreError::Foreign { file: file.to_owned(), what: "store id", found, expected });
        }
        let mut noted = BTreeMap::new();
        while let Some(line) = lines.next() {
            let one = || {
                let mut words = line.strip_prefix("partition ")?.split(' ');
                let (name, epoch, lsn) = (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
                words.next().is_none().then(|| (name.to_owned(), Applied { epoch: Epoch(epoch), lsn: Lsn(lsn) }))
            };
            noted.extend([one().ok_or_else(|| lines.wrong("partition"))?]);
        }
        Ok(noted)
    }

    /// Makes the file say what is so, durably. The log of a partition that it names no more may go.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn note_behind(&self) -> Result<()> {
        // Only who checkpoints comes here, and who asks how partitions are does not wait for this disk.
        let (now, data) = {
            let register = self.register();
            let now = register.now.iter().map(|(name, b)| (name.clone(), b.upto)).collect::<BTreeMap<_, _>>();
            match &register.data {
                Some(data) if register.noted != now => (now, data.clone()),
                _ => return Ok(()),
            }
        };
        let io = |e| StoreError::io("write", data.display(FILE), e);
        if now.is_empty() {
            data.remove(FILE).and_then(|()| data.sync_dir("")).map_err(io)?;
        } else {
            let lines = now.iter().map(|(name, at)| format!("partition {name} {} {}\n", at.epoch, at.lsn));
            let text: String = std::iter::once(format!("store {}\n", self.store_id())).chain(lines).collect();
            disk::replace(&*data, FILE, &sealed::seal(KIND, &text)).map_err(io)?;
        }
        self.register().noted = now;
        Ok(())
    }

    /// The partitions that lack changes, by name.
    #[must_use]
    pub fn behind(&self) -> BTreeMap<String, Behind> {
        self.register().now.clone()
    }

    /// Up to where a partition holds everything that lacks changes; `None`: it lacks none.
    #[must_use]
    pub fn is_behind(&self, name: &str) -> Option<Applied> {
        self.register().now.get(name).map(|behind| behind.upto)
    }

    /// [`Partitions::is_behind`] for one of which more than its own file says so.
    #[must_use]
    pub fn is_surely_behind(&self, name: &str) -> Option<Applied> {
        self.register().now.get(name).filter(|behind| !behind.is_doubtful).map(|behind| behind.upto)
    }

    /// A partition of which nobody noted that it lacks changes says that it holds everything up to `upto` only: it counts as behind until
    /// somebody has looked whether it lacks any.
    pub fn doubt(&self, name: &str, upto: Applied) {
        let why = "its own file says so; what it lacks is looked for".to_owned();
        tracing::warn!(
            event = "partition_older",
            partition = name,
            lsn = upto.lsn.0,
            "it is not read before that is known"
        );
        self.register().now.entry(name.to_owned()).or_insert(Behind { is_doubtful: true, ..Behind::at(upto, why) });
    }

    /// The oldest moment behind which a partition, or its line in the file, needs the log.
    #[must_use]
    pub fn needs_log(&self) -> Vec<(String, Applied)> {
        let register = self.register();
        let mut needs: BTreeMap<String, Applied> = register.noted.clone();
        for (name, behind) in &register.now {
            let at = needs.entry(name.clone()).or_insert(behind.upto);
            if behind.upto.is_before(*at) {
                *at = behind.upto;
            }
        }
        needs.into_iter().collect()
    }

    /// Changes are left out of a partition of which it is not known yet whether it lacked any before: from now on it surely lacks what comes behind
    /// `upto`. Whether it lacks more is told by its own file, and looked for when it is there.
    pub fn lacks_from(&self, name: &str, upto: Applied) {
        if let Some(behind) = self.register().now.get_mut(name).filter(|behind| behind.is_doubtful) {
            (behind.upto, behind.is_doubtful) = (upto, false);
        }
    }

    /// A partition lacks what comes behind `upto`, if it does not lack more already.
    pub fn fall_behind(&self, name: &str, upto: Applied, why: &str) {
        let mut register = self.register();
        let behind = register.now.entry(name.to_owned()).or_insert_with(|| {
            tracing::warn!(
                event = "partition_behind",
                partition = name,
                lsn = upto.lsn.0,
                why,
                "its changes wait in the log"
            );
            Behind::at(upto, String::new())
        });
        why.clone_into(&mut behind.why);
        behind.is_doubtful = false;
        if upto.is_before(behind.upto) {
            behind.upto = upto;
        }
    }

    /// A partition holds everything again.
    pub fn caught_up(&self, name: &str) {
        if self.register().now.remove(name).is_some() {
            tracing::info!(event = "partition_caught_up", partition = name);
        }
    }

    /// Nobody needs what a partition lacks.
    pub(super) fn lacks_nothing(&self, name: &str) {
        self.register().now.remove(name);
    }

    /// Of a store that was opened: a machine that stopped between the removal of a partition and the next note of who is behind left a line of one that
    /// is not in the store any more; it counts no more. `exists` says of a name whether the store has that partition.
    pub fn forget_strangers(&self, exists: impl Fn(&str) -> bool) {
        self.register().now.retain(|name, _| {
            let stays = exists(name);
            if !stays {
                tracing::warn!(event = "behind_of_nobody", partition = name, "it was taken out of the store");
            }
            stays
        });
    }

    /// It was tried to have a partition catch up, in vain; it is tried again after a pause that grows.
    pub fn not_yet(&self, name: &str, uptime: Duration, why: &str) {
        if let Some(behind) = self.register().now.get_mut(name) {
            behind.tries = behind.tries.saturating_add(1);
            behind.next = uptime + Duration::from_secs(1 << behind.tries.min(6)).min(PAUSE_MAX);
            why.clone_into(&mut behind.why);
            tracing::warn!(event = "partition_not_caught_up", partition = name, tries = behind.tries, why);
        }
    }

    /// True if a partition that lacks changes may be tried now.
    #[must_use]
    pub fn may_catch_up(&self, name: &str, uptime: Duration) -> bool {
        self.register().now.get(name).is_none_or(|behind| behind.next <= uptime)
    }

    /// True if a partition that lacks changes is there, as far as it was looked at, and it is time to try it. Asks no disk.
    #[must_use]
    pub fn can_catch_up(&self, uptime: Duration) -> bool {
        let due = |(name, behind): (&String, &Behind)| (behind.next <= uptime).then(|| name.clone());
        let names: Vec<String> = self.register().now.iter().filter_map(due).collect();
        names.iter().any(|name| self.find(name).is_some_and(|partition| partition.inner().disk.is_some()))
    }

    /// It was not there, and is now: nothing keeps it from being tried at once.
    pub(super) fn is_back(&self, name: &str) {
        if let Some(behind) = self.register().now.get_mut(name) {
            (behind.tries, behind.next) = (0, Duration::ZERO);
        }
    }

    /// How a partition that is there is seen: one that lacks changes is not to be read.
    pub(super) fn shown(&self, name: &str, state: State) -> State {
        match (self.register().now.get(name), state) {
            (Some(Behind { upto, why, .. }), State::Ok { free } | State::Full { free }) => {
                let at = format!("it holds everything up to LSN {} and takes the rest from the log", upto.lsn);
                State::Behind { free, why: if why.is_empty() { at } else { format!("{at}: {why}") } }
            }
            (_, state) => state,
        }
    }

    /// The tree of a partition that is there, also of one that lacks changes: for those who bring them.
    #[must_use]
    pub fn open(&self, name: &str) -> Option<Arc<dyn Disk>> {
        let partition = self.find(name)?;
        let mut inner = partition.inner();
        if inner.disk.is_none() {
            self.probe(&partition, &mut inner);
        }
        inner.disk.clone()
    }

    /// The tree of a partition that is there (full ones included) and lacks nothing.
    #[must_use]
    pub fn disk(&self, name: &str) -> Option<Arc<dyn Disk>> {
        let disk = self.open(name)?;
        self.is_behind(name).is_none().then_some(disk)
    }

    /// A sync of a partition failed: what it said to hold may be lost, so it is not there until the next start.
    pub fn fail(&self, name: &str, why: String) {
        if let Some(partition) = self.find(name) {
            let mut inner = partition.inner();
            (inner.failed, inner.disk) = (Some(why), None);
        }
    }
}

impl Behind {
    fn at(upto: Applied, why: String) -> Behind {
        Behind { upto, why, is_doubtful: false, tries: 0, next: Duration::ZERO }
    }
}
