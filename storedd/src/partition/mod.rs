//! Partitions: named directory trees for messages, one best for each disk.
//!
//! # Purpose
//! A partition may be full, not mounted, or another store's; that is a state which people see, and never an error that
//! stops the others.
//!
//! # Format
//! The identity file: [`identity`]. Paths added at run time: [`places`]. Below the root lie `=user/<xx>/<yy>/=<token>/`,
//! one directory for each user; the path is made by the model and never changes. What lies in it: [`tree`]; the bytes of messages:
//! [`bodies`]; what is known of them: [`index`], and its twin [`manifest`], both of them journals ([`journal`], [`frame`]). Which partitions
//! lack changes that were made while they were away: [`behind`]. Which there are, should the database be lost: [`roll`]. Which history of the
//! store counts: [`past`]. Message files may have a root of their own, on another disk: [`split`].
//!
//! # Operation
//! [`Partitions::add`] makes a name known and touches nothing. [`Partitions::prepare`] makes the root and its identity;
//! it is for a partition that no row of the database names yet, because a known partition without its identity file is
//! *missing* (its disk is not mounted), never empty. [`Partitions::ensure_user_dir`] makes a directory without a sync, and
//! [`Partitions::follow`] does so where a disk that does not answer must hold up nobody; [`Partitions::sync_pending`] makes all of them durable, before the checkpoint commits the rows that name them. What a
//! checkpoint writes to one home stands in [`apply`], what is to be found there in [`survey`], what a
//! repair does in [`mend`].
//!
//! # Invariants
//! * Nothing is written to a root whose identity was not read and found to be that of this store and partition.
//! * Nothing is written to a root that another process has open as a partition ([`Disk::claim`]): a copy of a store beside it names the same
//!   places, and both would write.
//! * A directory of a user is made again whenever it is asked for; so none is ever lost for good.
//! * A sync that failed is not repeated: the partition is missing until the next start.

pub mod apply;
pub mod behind;
pub mod bodies;
pub mod covers;
mod desk;
mod directories;
pub mod frame;
pub mod identity;
pub mod index;
pub mod journal;
pub mod manifest;
pub mod mend;
#[cfg(test)]
mod messages_tests;
pub mod past;
pub mod places;
mod reading;
pub mod roll;
pub mod split;
mod staging;
mod state;
pub mod survey;
#[cfg(test)]
mod tests;
pub mod tree;

pub use behind::Behind;
pub use identity::{Applied, Identity, PartitionId};
pub use past::{GivenUp, Owner, Past};
pub use state::State;

use crate::disk::{Disk, RealDisk, Space};
use crate::error::{Result, StoreError, exit};
use crate::lsn::{Micros, StoreId};
use crate::site::Site;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Free bytes below which a partition counts as full; at most a 20th of its disk ([`Space::reserve`]).
pub const FULL_BELOW: u64 = 16 << 20;
const NO_PATH: &str = "no path is configured for it";

/// How a root directory is opened; injected, so that tests can use disks in memory.
pub trait Roots: Send + Sync + std::fmt::Debug {
    /// Opens an existing directory.
    ///
    /// # Errors
    /// Those of the system.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn Disk>>;
    /// Makes a directory, and those above it, if it is not there, and opens it.
    ///
    /// # Errors
    /// Those of the system.
    fn make(&self, path: &Path) -> io::Result<Arc<dyn Disk>>;
    /// Whether a call may take for ever, so that nobody may wait for it who others wait for.
    fn may_hang(&self) -> bool {
        false
    }
}

/// Root directories of the system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealRoots;

impl Roots for RealRoots {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        Ok(Arc::new(RealDisk::new(path)?))
    }

    fn make(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        RealDisk::create_root(path)?;
        self.open(path)
    }

    fn may_hang(&self) -> bool {
        true
    }
}

/// The partitions that this process knows of.
#[derive(Debug)]
pub struct Partitions {
    roots: Arc<dyn Roots>,
    store_id: StoreId,
    past: Past,
    known: RwLock<BTreeMap<String, Arc<Partition>>>,
    behind: Mutex<behind::Register>,
    roll: Mutex<roll::Register>,
}

#[derive(Debug)]
struct Partition {
    name: String,
    site: Site,
    inner: Mutex<Inner>,
    desk: desk::Desk,
}

#[derive(Debug, Default)]
struct Inner {
    /// Open and with the right identity.
    disk: Option<Arc<dyn Disk>>,
    /// What the database calls it; `None` until told.
    expected: Option<PartitionId>,
    /// Directories with names that are not durable yet.
    pending: BTreeSet<String>,
    /// More than [`SYNC_EACH_MAX`] of them: the whole tree.
    pending_tree: bool,
    /// Directories of users that could not be made.
    owed: BTreeSet<String>,
    /// A sync failed.
    failed: Option<String>,
    /// What its root says of history that was given up.
    told: Option<GivenUp>,
}

impl Partitions {
    /// Knows no partition yet.
    #[must_use]
    pub fn new(roots: Arc<dyn Roots>, store_id: StoreId) -> Partitions {
        Partitions {
            roots,
            store_id,
            past: Past::default(),
            known: RwLock::default(),
            behind: Mutex::default(),
            roll: Mutex::default(),
        }
    }

    /// Whose partitions they are.
    #[must_use]
    pub fn store_id(&self) -> StoreId {
        self.store_id
    }

    /// Makes a name known, or gives it another place; touches no disk.
    pub fn add(&self, name: &str, site: impl Into<Site>) {
        let (inner, desk) = Default::default();
        let partition = Partition { name: name.to_owned(), site: site.into(), inner, desk };
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = known.insert(name.to_owned(), Arc::new(partition)) {
            let expected = before.inner().expected;
            known[name].inner().expected = expected;
        }
    }

    /// Tells the identity that the database has for a name; a root with another one is foreign.
    pub fn expect(&self, name: &str, id: PartitionId) {
        if let Some(partition) = self.find(name) {
            let mut inner = partition.inner();
            inner.expected = Some(id);
            inner.disk = None;
        }
    }

    /// Forgets a name; the directory stays as it is.
    pub fn remove(&self, name: &str) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Names, and where they lie.
    #[must_use]
    pub fn list(&self) -> Vec<(String, Site)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(name, p)| (name.clone(), p.site.clone())).collect()
    }

    /// Where a name lies.
    #[must_use]
    pub fn site(&self, name: &str) -> Option<Site> {
        self.find(name).map(|p| p.site.clone())
    }

    /// Makes the root of a known name with its identity; an identity that is there already is kept, so that doing it
    /// twice is harmless. Returns the partition's id: `fresh`, or the one that was there.
    ///
    /// # Errors
    /// [`StoreError::Foreign`] if the root is another store's or another partition's, [`StoreError::Refused`] if it
    /// holds something else or the name is not known, [`StoreError::Corrupt`] if its identity is damaged, or those of
    /// the disk.
    pub fn prepare(&self, name: &str, fresh: PartitionId, now: Micros) -> Result<PartitionId> {
        let Some(partition) = self.find(name) else {
            return Err(refused(format!("partition {name} has no path"), "storectl partition add NAME PATH"));
        };
        let mut inner = partition.inner();
        let site = &partition.site;
        let root = self.make_root(&site.path)?;
        expect_free_to_make(&*root, name)?;
        let identity = match Identity::read(&*root)? {
            Some(found) if found.store_id != self.store_id => {
                let (found, expected) = (found.store_id.to_string(), self.store_id.to_string());
                return Err(foreign(&*root, identity::FILE, "store id", found, expected));
            }
            Some(found) if found.name != name => {
                return Err(foreign(&*root, identity::FILE, "partition", found.name, name.to_owned()));
            }
            Some(found) => {
                self.expect_layout(site, &found)?;
                found
            }
            None => {
                refuse_unless_empty(&*root, identity::FILE)?;
                let (store_id, is_split) = (self.store_id, site.messages.is_some());
                let id = match &site.messages {
                    Some(path) => self.prepare_messages(path, name, fresh, now)?,
                    None => fresh,
                };
                let identity = Identity { store_id, id, created: now, name: name.to_owned(), is_split };
                identity.write(&*root)?;
                identity
            }
        };
        let disk = self.both_roots(site, root, &identity).map_err(|state| StoreError::Busy {
            why: format!("partition {name}: {}", state.why().unwrap_or_default()),
        })?;
        inner.expected = Some(identity.id);
        inner.disk = Some(disk);
        inner.failed = None;
        Ok(identity.id)
    }

    fn make_root(&self, path: &Path) -> Result<Arc<dyn Disk>> {
        self.roots.make(path).map_err(|e| StoreError::io("make", path.display().to_string(), e))
    }

    /// The identity of what lies where a partition is to lie; nothing is made.
    ///
    /// # Errors
    /// How it is, if it is not this partition of this store.
    pub fn identify(&self, name: &str) -> Result<PartitionId, State> {
        let missing = |why: String| State::Missing { why };
        let partition = self.find(name).ok_or_else(|| missing(NO_PATH.to_owned()))?;
        let (root, ..) = self.examine((name, &partition.site), None, None)?;
        match Identity::read(&*root) {
            Ok(Some(found)) => Ok(found.id),
            Ok(None) => Err(missing(format!("{} is not there", root.display(identity::FILE)))),
            Err(e) => Err(missing(e.to_string())),
        }
    }

    /// Looks at a partition now; see [`Partitions::look`].
    #[must_use]
    pub fn state(&self, name: &str) -> State {
        self.look(name).0
    }

    /// Looks at a partition now, and at the room of its disk, holding nothing meanwhile that a change or a checkpoint
    /// needs: its disk may not answer.
    #[must_use]
    pub fn look(&self, name: &str) -> (State, Option<Space>) {
        let Some(partition) = self.find(name) else {
            return (State::Missing { why: NO_PATH.to_owned() }, None);
        };
        let (expected, failed) = {
            let inner = partition.inner();
            (inner.expected, inner.failed.clone())
        };
        match self.examine((name, &partition.site), expected, failed) {
            Ok((root, space, state)) => {
                let mut inner = partition.inner();
                // Unless it was told meanwhile that it is another, or that a sync of it failed.
                if inner.expected == expected && inner.failed.is_none() && inner.disk.replace(root).is_none() {
                    drop(inner);
                    self.is_back(name);
                }
                (self.shown(name, state), Some(space))
            }
            Err(state) => {
                // Nothing more goes to a directory that lies where the disk was mounted.
                partition.inner().disk = None;
                (state, None)
            }
        }
    }

    fn find(&self, name: &str) -> Option<Arc<Partition>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Opens the root anew, so that a disk mounted, moved or taken away since is noticed.
    fn probe(&self, partition: &Partition, inner: &mut Inner) -> State {
        match self.examine((&partition.name, &partition.site), inner.expected, inner.failed.clone()) {
            Ok((root, _, state)) => {
                inner.disk = Some(root);
                state
            }
            Err(state) => {
                inner.disk = None;
                state
            }
        }
    }

    /// Opens the roots and reads what they are; the error is why they are not the partition that was expected.
    fn examine(
        &self,
        (name, site): (&str, &Site),
        expected: Option<PartitionId>,
        failed: Option<String>,
    ) -> Result<(Arc<dyn Disk>, Space, State), State> {
        let missing = |why: String| State::Missing { why };
        let unreadable = |e: io::Error| missing(format!("{}: {e}", site.path.display()));
        if let Some(why) = failed {
            return Err(missing(why));
        }
        if site.is_nowhere() {
            return Err(missing(NO_PATH.to_owned()));
        }
        let root = self.roots.open(&site.path).map_err(unreadable)?;
        let found = match Identity::read(&*root) {
            Ok(Some(found)) => found,
            Ok(None) => return Err(missing(format!("{} is not there", root.display(identity::FILE)))),
            Err(e @ StoreError::Foreign { .. }) => {
                return Err(State::Foreign { why: format!("{e}; use the program that wrote it") });
            }
            Err(e) => return Err(missing(e.to_string())),
        };
        if found.store_id != self.store_id {
            return Err(State::Foreign { why: format!("it belongs to store {}", found.store_id) });
        }
        if let Some(expected) = expected.filter(|expected| *expected != found.id) {
            let why = format!("it is partition {} ({}), expected {expected}", found.name, found.id);
            return Err(State::Foreign { why });
        }
        if found.name != name {
            return Err(State::Foreign { why: format!("it is partition {}, expected {name}", found.name) });
        }
        let disk = self.both_roots(site, root, &found)?;
        let space = disk.space().map_err(unreadable)?;
        Ok((disk, space, State::of(space)))
    }
}

impl Partition {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a root is nobody else's business now: another process has it.
#[must_use]
pub fn in_use(root: &dyn Disk) -> Option<String> {
    let taken = root.claim().err().filter(|e| e.kind() == io::ErrorKind::WouldBlock)?;
    Some(format!("{} is in use by another storedd, {taken}", root.display("")))
}

fn expect_free(root: &dyn Disk) -> Result<(), State> {
    match in_use(root) {
        Some(why) => Err(State::Foreign {
            why: format!(
                "{why}: nothing is read or written there; stop that one, or give this store places of its own"
            ),
        }),
        None => Ok(()),
    }
}

fn expect_free_to_make(root: &dyn Disk, name: &str) -> Result<()> {
    in_use(root).map_or(Ok(()), |why| Err(StoreError::Busy { why: format!("partition {name}: {why}") }))
}

/// A root that holds something else than its identity `file` is not taken: it may be a partition that lost its identity, or no partition
/// at all.
fn refuse_unless_empty(root: &dyn Disk, file: &str) -> Result<()> {
    let own = ["lost+found", file, &format!("{file}.new")];
    let entries = root.list("").map_err(|e| StoreError::io("list", root.display(""), e))?;
    match entries.iter().find(|e| !own.contains(&e.name.as_str())) {
        None => Ok(()),
        Some(entry) => Err(refused(
            format!(
                "{} is not empty (it holds {}), and there is no {} file of it",
                root.display(""),
                entry.name,
                identity::FILE
            ),
            "give an empty directory, or put the PARTITION file back",
        )),
    }
}

fn refused(message: String, hint: &str) -> StoreError {
    StoreError::Refused { message, hint: hint.to_owned(), exit: exit::EXISTS }
}

fn foreign(root: &dyn Disk, file: &str, what: &'static str, found: String, expected: String) -> StoreError {
    StoreError::Foreign { file: root.display(file), what, found, expected }
}
