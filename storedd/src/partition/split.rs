//! A partition with two roots: bodies on one disk, indexes on another (`message_path`).
//!
//! # Purpose
//! Whoever reads or writes a partition has one [`Disk`] and one set of paths, and does not know whether it is split: [`Split`] leads each
//! path to the root where it belongs ([`tree::side`]).
//!
//! # Operation
//! Directories above files of both are made, listed, synced and removed in both roots; one that is in one root alone is there. Links and renames
//! stay within a root, because whatever is linked or renamed is a message before and after, or none. [`Disk::sync_tree`] is done when both roots
//! are synced; a crash in between leaves what a crash within one sync leaves: the commit has not come, and the log has it all.
//!
//! # Invariants
//! * One of the roots away, foreign or unreadable: the partition is; nothing is made in its place.
//! * Both roots carry the same partition id: the second one in the file `MESSAGES` ([`super::identity`]), written before the first one says
//!   that there is a partition.

use super::identity::{self, Identity, PartitionId};
use super::tree::{self, Side};
use super::{FULL_BELOW, Partitions, State, expect_free, expect_free_to_make, foreign, refuse_unless_empty, refused};
use crate::disk::{Access, Disk, DiskFile, Entry, Kind, Lock, Space, Stamp};
use crate::error::{Result, StoreError};
use crate::lsn::Micros;
use crate::planted::{self, Bug};
use crate::site::Site;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Tells the number of a file in the second root from the same one in the first.
const OF_MESSAGES: u64 = 1 << 63;

/// Two roots as one tree.
#[derive(Debug)]
pub struct Split {
    index: Arc<dyn Disk>,
    messages: Arc<dyn Disk>,
}

fn is_missing<T>(done: &io::Result<T>) -> bool {
    matches!(done, Err(e) if e.kind() == io::ErrorKind::NotFound)
}

impl Split {
    /// Of these roots.
    #[must_use]
    pub fn new(index: Arc<dyn Disk>, messages: Arc<dyn Disk>) -> Split {
        Split { index, messages }
    }

    /// The root where a path leads somewhere; `None` if that may be either.
    fn root(&self, path: &str) -> Option<&dyn Disk> {
        match tree::side(path) {
            Side::Index => Some(&*self.index),
            Side::Messages => Some(&*self.messages),
            Side::Both => None,
        }
    }

    /// Asks the root where a path leads; where that may be either the second one, if nothing is in the first.
    fn ask<T>(&self, path: &str, ask: impl Fn(&dyn Disk) -> io::Result<T>) -> io::Result<T> {
        match self.root(path) {
            Some(root) => ask(root),
            None => match ask(&*self.index) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => ask(&*self.messages),
                done => done,
            },
        }
    }

    /// As [`Split::ask`], for what gives nothing where nothing is.
    fn find<T>(&self, path: &str, ask: impl Fn(&dyn Disk) -> io::Result<Option<T>>) -> io::Result<Option<T>> {
        match self.root(path) {
            Some(root) => ask(root),
            None => ask(&*self.index)?.map_or_else(|| ask(&*self.messages), |found| Ok(Some(found))),
        }
    }

    /// Does something in the root where a path leads, or in both, the second one first; that it is missing in one of them is fine.
    fn each(&self, path: &str, act: impl Fn(&dyn Disk) -> io::Result<()>) -> io::Result<()> {
        if let Some(root) = self.root(path) {
            return act(root);
        }
        let second = act(&*self.messages);
        if second.is_err() && !is_missing(&second) {
            return second;
        }
        let first = act(&*self.index);
        if is_missing(&first) { second } else { first }
    }

    fn merged(&self, dir: &str, list: impl Fn(&dyn Disk) -> io::Result<Vec<Entry>>) -> io::Result<Vec<Entry>> {
        if let Some(root) = self.root(dir) {
            return list(root);
        }
        let (first, second) = (list(&*self.index), list(&*self.messages));
        if is_missing(&first) {
            return second;
        }
        if is_missing(&second) {
            return first;
        }
        let mut all: BTreeMap<String, Entry> = BTreeMap::new();
        for entry in second?.into_iter().chain(first?) {
            let is_known_dir = all.get(&entry.name).is_some_and(|known| known.kind == Kind::Dir);
            if !is_known_dir {
                all.insert(entry.name.clone(), entry);
            }
        }
        Ok(all.into_values().collect())
    }

    /// Between names of one root only.
    fn within(&self, from: &str, to: &str, act: impl Fn(&dyn Disk) -> io::Result<()>) -> io::Result<()> {
        let (old, new) = (tree::side(from), tree::side(to));
        if old == Side::Both || old == new {
            return self.each(from, act);
        }
        let message = format!("{from} and {to} lie in different roots");
        Err(io::Error::new(io::ErrorKind::CrossesDevices, message))
    }
}

impl Disk for Split {
    fn open(&self, path: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.ask(path, |root| root.open(path, access))
    }

    fn stat(&self, path: &str) -> io::Result<Option<Entry>> {
        self.find(path, |root| root.stat(path))
    }

    fn stamp(&self, path: &str) -> io::Result<Option<Stamp>> {
        let found = self.find(path, |root| root.stamp(path))?;
        // Each disk has numbers of its own.
        let apart = |stamp: Stamp| Stamp { inode: stamp.inode ^ OF_MESSAGES, ..stamp };
        Ok(if tree::side(path) == Side::Messages { found.map(apart) } else { found })
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        self.merged(dir, |root| root.list(dir))
    }

    fn names(&self, dir: &str) -> io::Result<Vec<Entry>> {
        self.merged(dir, |root| root.names(dir))
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        match self.root(dir) {
            Some(root) => root.create_dir(dir),
            None => self.messages.create_dir(dir).and_then(|()| self.index.create_dir(dir)),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.within(from, to, |root| root.rename(from, to))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.within(from, to, |root| root.link(from, to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.each(path, |root| root.remove(path))
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.each(dir, |root| root.remove_dir(dir))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.each(dir, |root| root.sync_dir(dir))
    }

    fn sync_tree(&self) -> io::Result<()> {
        if !planted::on(Bug::SecondRootNotSynced) {
            self.messages.sync_tree()?;
        }
        self.index.sync_tree()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.space()?.free)
    }

    /// That of the root where it ends first.
    fn space(&self) -> io::Result<Space> {
        Ok(tighter(self.index.space()?, self.messages.space()?))
    }

    fn lock(&self, path: &str, owner: &str) -> io::Result<Box<dyn Lock>> {
        self.index.lock(path, owner)
    }

    fn display(&self, path: &str) -> String {
        self.root(path).unwrap_or(&*self.index).display(path)
    }
}

/// The disk that is full, or has less room.
fn tighter(a: Space, b: Space) -> Space {
    let key = |space: &Space| (space.free >= space.reserve(FULL_BELOW), space.free);
    if key(&b) < key(&a) { b } else { a }
}

impl Partitions {
    /// The tree of a partition whose first root is `index`, and its second one where the site has one.
    ///
    /// # Errors
    /// How the partition is, if the second root is not there, is another's, or the site says otherwise than the first root.
    pub(super) fn both_roots(
        &self,
        site: &Site,
        index: Arc<dyn Disk>,
        found: &Identity,
    ) -> Result<Arc<dyn Disk>, State> {
        expect_free(&*index)?;
        let Some(path) = &site.messages else {
            return match found.is_split {
                true => Err(State::Foreign { why: not_configured(&site.path) }),
                false => Ok(index),
            };
        };
        if !found.is_split {
            return Err(State::Foreign { why: not_split(&site.path, path) });
        }
        let messages = self.message_root(path, &found.name, Some(found.id))?;
        Ok(Arc::new(Split::new(index, messages)))
    }

    /// Opens the second root of a partition, and looks whose it is.
    fn message_root(&self, path: &Path, name: &str, id: Option<PartitionId>) -> Result<Arc<dyn Disk>, State> {
        let missing = |why: String| State::Missing { why: format!("message_path {}: {why}", path.display()) };
        let foreign = |why: String| State::Foreign { why: format!("message_path {}: {why}", path.display()) };
        let root = self.roots.open(path).map_err(|e| missing(e.to_string()))?;
        let found = match Identity::read_messages(&*root) {
            Ok(Some(found)) => found,
            Ok(None) => return Err(missing(format!("{} is not there", root.display(identity::FILE_MESSAGES)))),
            Err(e @ StoreError::Foreign { .. }) => return Err(foreign(format!("{e}; use the program that wrote it"))),
            Err(e) => return Err(missing(e.to_string())),
        };
        if found.store_id != self.store_id {
            return Err(foreign(format!("it belongs to store {}", found.store_id)));
        }
        if found.name != name || id.is_some_and(|id| id != found.id) {
            let is = format!("it has the messages of partition {} ({})", found.name, found.id);
            let expected = id.map(|id| format!(" ({id})")).unwrap_or_default();
            return Err(foreign(format!("{is}, expected {name}{expected}")));
        }
        expect_free(&*root)?;
        Ok(root)
    }

    /// How the second root of a partition is by itself, and where; `None`: it has none.
    #[must_use]
    pub fn message_state(&self, name: &str) -> Option<State> {
        let partition = self.find(name)?;
        let path = partition.site.messages.as_ref()?;
        let expected = partition.inner().expected;
        let space = self.message_root(path, name, expected).and_then(|root| {
            let why = |e| State::Missing { why: format!("message_path {}: {e}", path.display()) };
            root.space().map_err(why)
        });
        Some(space.map_or_else(|state| state, State::of))
    }

    /// Makes the second root of a partition that is to be, with its identity; gives the id: `fresh`, or that of an attempt before.
    pub(super) fn prepare_messages(
        &self,
        path: &Path,
        name: &str,
        fresh: PartitionId,
        now: Micros,
    ) -> Result<PartitionId> {
        let root = self.make_root(path)?;
        expect_free_to_make(&*root, name)?;
        refuse_unless_empty(&*root, identity::FILE_MESSAGES)?;
        match Identity::read_messages(&*root)? {
            Some(found) if found.store_id != self.store_id => {
                let (found, expected) = (found.store_id.to_string(), self.store_id.to_string());
                Err(foreign(&*root, identity::FILE_MESSAGES, "store id", found, expected))
            }
            Some(found) if found.name != name => {
                Err(foreign(&*root, identity::FILE_MESSAGES, "partition", found.name, name.to_owned()))
            }
            Some(found) => Ok(found.id),
            None => {
                let (store_id, name) = (self.store_id, name.to_owned());
                let identity = Identity { store_id, id: fresh, created: now, name, is_split: true };
                identity.write_messages(&*root).map(|()| fresh)
            }
        }
    }

    /// Refuses to take a root that is there with another layout than the site has.
    pub(super) fn expect_layout(&self, site: &Site, found: &Identity) -> Result<()> {
        match (&site.messages, found.is_split) {
            (None, true) => {
                Err(refused(not_configured(&site.path), "name the directory: --message-path PATH, or message_path"))
            }
            (Some(path), false) => Err(refused(not_split(&site.path, path), ANOTHER)),
            (None, false) => Ok(()),
            (Some(path), true) => self.message_root(path, &found.name, Some(found.id)).map(drop).map_err(|state| {
                refused(
                    state.why().unwrap_or_default(),
                    "mount it, or put its MESSAGES file back: storectl partition show NAME",
                )
            }),
        }
    }
}

const ANOTHER: &str = "storectl partition add NEW PATH --message-path PATH, then storectl user move USER --to NEW";

fn not_configured(path: &Path) -> String {
    format!(
        "the message files of the partition in {} lie in a directory of their own, and no message_path says where; set it in [partition.NAME] and restart",
        path.display()
    )
}

fn not_split(path: &Path, messages: &Path) -> String {
    format!(
        "the message files of the partition in {path} lie there, and message_path says {messages}; take message_path away and restart; to have messages there: {ANOTHER}",
        path = path.display(),
        messages = messages.display()
    )
}

#[cfg(test)]
#[path = "split_tests.rs"]
mod tests;
