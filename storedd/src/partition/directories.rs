//! Directories of users: made when they are asked for, without a sync, and durable before the commit of the rows that name them.

use super::{Inner, NO_PATH, Partition, Partitions, State};
use crate::disk::{Disk, create_all, parent};
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, PoisonError};

/// Up to so many directories are synced one by one; more of them as one tree, which costs one flush instead of thousands.
const SYNC_EACH_MAX: usize = 32;
/// Directories that could not be made and are tried again at the next checkpoint; further ones are made when asked for.
const OWED_MAX: usize = 65_536;

impl Partitions {
    /// Makes the directory of a user if it is not there; durable after the next [`Partitions::sync_pending`].
    ///
    /// # Errors
    /// The state of a partition where it cannot be made now; it is tried again by [`Partitions::sync_pending`].
    pub fn ensure_user_dir(&self, name: &str, dir: &str) -> Result<(), State> {
        let Some(partition) = self.find(name) else {
            return Err(State::Missing { why: NO_PATH.to_owned() });
        };
        let mut inner = partition.inner();
        let done = self.make_dir(&partition, &mut inner, dir);
        if done.is_err() && inner.owed.len() < OWED_MAX {
            inner.owed.insert(dir.to_owned());
        }
        done
    }

    /// Makes every directory durable that [`Partitions::ensure_user_dir`] made or found since the last time, after
    /// another attempt at those it could not make. Returns the partitions where something is left to do.
    pub fn sync_pending(&self) -> Vec<(String, State)> {
        let known: Vec<_> = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            known.iter().map(|(name, p)| (name.clone(), Arc::clone(p))).collect()
        };
        let mut left = Vec::new();
        for (name, partition) in known {
            partition.desk.settle();
            let (disk, dirs, tree) = {
                let mut inner = partition.inner();
                self.make_owed(&partition, &mut inner);
                let Some(disk) = inner.disk.clone() else {
                    // What waits goes on waiting until the partition is there again.
                    if inner.waits() {
                        left.push((name, State::Missing { why: "it was not there when it was looked at".to_owned() }));
                    }
                    continue;
                };
                (disk, std::mem::take(&mut inner.pending), std::mem::take(&mut inner.pending_tree))
            };
            if (tree || !dirs.is_empty())
                && let Err(e) = sync(&*disk, &dirs, tree)
            {
                let mut inner = partition.inner();
                inner.failed = Some(format!("a sync failed: {e}"));
                inner.disk = None;
            }
            let mut inner = partition.inner();
            if inner.failed.is_some() || !inner.owed.is_empty() {
                left.push((name, self.probe(&partition, &mut inner)));
            }
        }
        left
    }

    fn make_dir(&self, partition: &Partition, inner: &mut Inner, dir: &str) -> Result<(), State> {
        let disk = match inner.disk.clone() {
            Some(disk) => disk,
            None => {
                let state = self.probe(partition, inner);
                inner.disk.clone().ok_or(state)?
            }
        };
        match create_all(&*disk, dir) {
            Ok(()) => {
                inner.note(dir);
                Ok(())
            }
            Err(e) if crate::error::is_no_space(&e) => Err(State::Full { free: disk.free_bytes().unwrap_or(0) }),
            Err(e) => match self.probe(partition, inner) {
                State::Ok { .. } | State::Full { .. } => {
                    Err(State::Missing { why: format!("{}: {e}", disk.display(dir)) })
                }
                state => Err(state),
            },
        }
    }

    fn make_owed(&self, partition: &Partition, inner: &mut Inner) {
        while let Some(dir) = inner.owed.first().cloned() {
            if self.make_dir(partition, inner, &dir).is_err() {
                return;
            }
            inner.owed.remove(&dir);
        }
    }
}

impl Inner {
    /// Something is not durable, or not even made.
    fn waits(&self) -> bool {
        self.failed.is_some() || self.pending_tree || !self.pending.is_empty() || !self.owed.is_empty()
    }
    /// Notes that the name of `dir`, and the names of the directories above it, have to be made durable. Also for a
    /// directory that was there: the process that made it may have died before it synced.
    fn note(&mut self, dir: &str) {
        let mut at = dir;
        while !self.pending_tree && !at.is_empty() {
            at = parent(at);
            self.pending.insert(at.to_owned());
            if self.pending.len() > SYNC_EACH_MAX {
                self.pending_tree = true;
                self.pending.clear();
            }
        }
    }
}

/// Makes names durable: those of `dirs`, or of the whole tree. A directory that is gone has no names to keep.
fn sync(disk: &dyn Disk, dirs: &BTreeSet<String>, tree: bool) -> io::Result<()> {
    if tree {
        return match disk.sync_tree() {
            Err(e) if e.kind() == io::ErrorKind::Unsupported => sync_below(disk, "", 0),
            done => done,
        };
    }
    dirs.iter().try_for_each(|dir| sync_one(disk, dir))
}

fn sync_one(disk: &dyn Disk, dir: &str) -> io::Result<()> {
    match disk.sync_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// The directories that hold names of users or of their groups.
fn sync_below(disk: &dyn Disk, dir: &str, depth: u8) -> io::Result<()> {
    sync_one(disk, dir)?;
    if depth == 3 {
        return Ok(());
    }
    for entry in disk.list(dir)?.into_iter().filter(|e| e.kind == crate::disk::Kind::Dir) {
        let below = if dir.is_empty() { entry.name } else { format!("{dir}/{}", entry.name) };
        if below.starts_with("=user") {
            sync_below(disk, &below, depth + 1)?;
        }
    }
    Ok(())
}
