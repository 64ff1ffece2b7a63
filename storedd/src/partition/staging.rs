//! Messages on their way in that are too long for the log: a file in the staging directory of their partition, under a number that is
//! used once, durable before the record that names it is written.
//!
//! # Invariants
//! * What no record names is taken away by a start, and by whoever staged it if nothing comes of it.

use super::bodies::{Body, Hasher, failed, is, unlink};
use super::tree;
use crate::disk::{Access, Disk, DiskFile, create_all};
use crate::error::{Result, StoreError};
use crate::planted::{self, Bug};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// A message on its way in, too long for the log. Dropped before [`Staging::finish`], it takes its file along.
#[derive(Debug)]
pub struct Staging {
    disk: Arc<dyn Disk>,
    number: u64,
    file: Arc<dyn DiskFile>,
    hasher: Hasher,
    done: bool,
}

/// Begins to stage a message. Numbers are never used twice.
///
/// # Errors
/// Those of the disk.
pub fn stage(disk: Arc<dyn Disk>, number: u64) -> Result<Staging> {
    let path = tree::staged(number);
    let open = || disk.open(&path, Access::CreateNew);
    let file = match open() {
        Err(e) if is(&e, io::ErrorKind::NotFound) => {
            create_all(&*disk, tree::STAGING).map_err(failed("make", &*disk, tree::STAGING))?;
            open()
        }
        done => done,
    };
    let file = file.map_err(failed("create", &*disk, &path))?;
    Ok(Staging { disk, number, file, hasher: Hasher::default(), done: false })
}

impl Staging {
    /// Bytes so far.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "one that is begun is never empty")]
    pub fn len(&self) -> u64 {
        self.hasher.size()
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn add(&mut self, bytes: &[u8]) -> Result<()> {
        let at = self.hasher.size();
        self.file.write_at(at, bytes).map_err(failed("write", &*self.disk, &tree::staged(self.number)))?;
        self.hasher.add(bytes);
        Ok(())
    }

    /// Leaves it to the next sync of the tree to make it durable: nothing may name it before.
    #[must_use]
    pub fn leave(mut self) -> Body {
        self.done = true;
        self.hasher.body()
    }

    /// Makes it durable; only then may a record name it.
    ///
    /// # Errors
    /// Those of the disk; the file is then taken away.
    pub fn finish(self) -> Result<Body> {
        let (body, unsynced) = self.unsynced();
        sync_staged(vec![unsynced])?;
        Ok(body)
    }

    /// All of it is written, and [`sync_staged`] makes it durable with others.
    #[must_use]
    pub fn unsynced(mut self) -> (Body, Unsynced) {
        self.done = true;
        let (disk, number, file) = (self.disk.clone(), self.number, self.file.clone());
        (self.hasher.body(), Unsynced { disk, number, file })
    }
}

/// A staged message that is not durable yet: no record may name it.
#[derive(Debug)]
pub struct Unsynced {
    disk: Arc<dyn Disk>,
    number: u64,
    file: Arc<dyn DiskFile>,
}

impl Unsynced {
    fn sync(&self) -> Result<()> {
        match planted::on(Bug::StagedNotSynced) {
            true => Ok(()),
            false => self.file.sync_data().map_err(failed("sync", &*self.disk, &tree::staged(self.number))),
        }
    }
}

/// Makes staged messages durable, with one sync of their directory. Their bytes are synced at the same time: a file system writes its journal
/// once for several.
///
/// # Errors
/// Those of the disks; the files are then taken away, all of them.
pub fn sync_staged(all: Vec<Unsynced>) -> Result<()> {
    let done = sync_each(&all).and_then(|()| {
        let mut disks: Vec<&Arc<dyn Disk>> = Vec::new();
        for one in &all {
            if !disks.iter().any(|disk| Arc::ptr_eq(disk, &one.disk)) {
                disks.push(&one.disk);
            }
        }
        disks.into_iter().try_for_each(|disk| {
            disk.sync_dir(tree::STAGING).map_err(failed("sync", &**disk, tree::STAGING))?;
            // An attempt to make the directory may have ended before its name was durable.
            disk.sync_dir("").map_err(failed("sync", &**disk, ""))
        })
    });
    if done.is_err() {
        // What stays is taken away by the next start.
        all.iter().for_each(|one| drop(one.disk.remove(&tree::staged(one.number))));
    }
    done
}

fn sync_each(all: &[Unsynced]) -> Result<()> {
    sync_by(all, &std::thread::Builder::new)
}

/// Each by a thread of its own, as far as there are any; the others by this one.
fn sync_by(all: &[Unsynced], thread: &dyn Fn() -> std::thread::Builder) -> Result<()> {
    let [first, others @ ..] = all else { return Ok(()) };
    std::thread::scope(|scope| {
        let begun: Vec<_> = others.iter().map(|one| thread().spawn_scoped(scope, || one.sync())).collect();
        let mut done = first.sync();
        for (one, thread) in others.iter().zip(begun) {
            let synced = match thread {
                Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                Err(_) => one.sync(),
            };
            done = done.and(synced);
        }
        done
    })
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.done {
            // What stays is taken away by the next start.
            let _ = self.disk.remove(&tree::staged(self.number));
        }
    }
}

/// Takes staged messages away that no record names: those of `wanted` stay. For a start, when the whole log is known, and for what a
/// checkpoint has settled. Gives how many.
///
/// # Errors
/// Those of the disk.
pub fn clear_staging(disk: &dyn Disk, wanted: &BTreeSet<u64>) -> Result<u64> {
    let mut cleared = 0;
    for number in tree::staged_numbers(disk)?.into_iter().filter(|number| !wanted.contains(number)) {
        unlink(disk, &tree::staged(number))?;
        cleared += 1;
    }
    Ok(cleared)
}

/// Takes indexes and manifests away that a crash cut off while they were made anew: what they were made from is in its place. For a
/// start, when nobody makes one. Gives how many.
///
/// # Errors
/// Those of the disk.
pub fn clear_candidates(disk: &dyn Disk) -> Result<u64> {
    let candidates = tree::candidates(disk)?;
    candidates.iter().try_for_each(|path| unlink(disk, path))?;
    Ok(candidates.len() as u64)
}

/// Moves staged messages that are not of `wanted` into the quarantine. Gives how many.
///
/// # Errors
/// Those of the disk.
pub fn set_staging_aside(disk: &dyn Disk, wanted: &BTreeSet<u64>) -> Result<u64> {
    let mut moved = 0;
    for number in tree::staged_numbers(disk)?.into_iter().filter(|number| !wanted.contains(number)) {
        let (from, to) = (tree::staged(number), format!("{}/staged-{number}", tree::QUARANTINE));
        let io = |e| StoreError::io("set aside", disk.display(&from), e);
        create_all(disk, tree::QUARANTINE).and_then(|()| disk.rename(&from, &to)).map_err(io)?;
        disk.sync_dir(tree::QUARANTINE).and_then(|()| disk.sync_dir(tree::STAGING)).map_err(io)?;
        moved += 1;
    }
    Ok(moved)
}

/// Takes one staged message away that has its place.
///
/// # Errors
/// Those of the disk.
pub fn unstage(disk: &dyn Disk, number: u64) -> Result<()> {
    unlink(disk, &tree::staged(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Persist, SimDisk};

    #[test]
    fn without_a_thread_the_caller_syncs() {
        let machine = SimDisk::new();
        let disk: Arc<dyn Disk> = Arc::new(machine.disk("primary"));
        let stage = |number: u64| {
            let mut staging = stage(disk.clone(), number).unwrap();
            staging.add(format!("message {number}").as_bytes()).unwrap();
            staging.unsynced().1
        };
        let all: Vec<Unsynced> = (1..=4).map(stage).collect();
        // No machine has room for such a stack.
        let none = || std::thread::Builder::new().stack_size(1 << 47);
        assert!(none().spawn(|| ()).is_err(), "a thread all the same");
        sync_by(&all, &none).unwrap();
        disk.sync_dir(tree::STAGING).unwrap();
        disk.sync_dir("").unwrap();
        let after = machine.image(Persist::Nothing).disk("primary");
        for number in 1..=4 {
            assert_eq!(after.peek(&tree::staged(number)).unwrap(), format!("message {number}").as_bytes());
        }
    }
}
