//! The claim of a process on a directory tree: a lock on its root directory, which another process finds and does not write there.
//!
//! # Operation
//! The lock is `flock` on the directory itself, so that nothing is written to it. It belongs to the process: whoever in it opens the same directory
//! again has a part in it, and the system gives it up when the last part is dropped, or the process ends by whatever means.
//!
//! # Limits
//! A file system without such locks, as NFS for directories, gives none: then nothing is known of others, which is said once for each place. A lock
//! on a disk that two hosts have mounted is not seen by the other host.

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A directory by its device and inode.
type Key = (u64, u64);

/// What this process holds. It stands for the process, as the system's lock does.
static HELD: Mutex<BTreeMap<Key, Weak<Claim>>> = Mutex::new(BTreeMap::new());
/// Places of which was said that they have no locks.
static TOLD: Mutex<BTreeSet<Key>> = Mutex::new(BTreeSet::new());

/// A part in the lock of this process.
#[derive(Debug)]
pub(super) struct Claim {
    /// Whose close gives the lock up; `None` where there are no locks.
    _lock: Option<OwnedFd>,
}

/// Claims the directory that is open as `root`; `path` is how messages name it.
///
/// # Errors
/// `WouldBlock`, with who has it, if another process does. Where it cannot be known, nobody does.
pub(super) fn claim(root: BorrowedFd<'_>, path: &Path) -> io::Result<Arc<Claim>> {
    let stat = rustix::fs::fstat(root)?;
    let key = (stat.st_dev, stat.st_ino);
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(claim) = held.get(&key).and_then(Weak::upgrade) {
        return Ok(claim);
    }
    held.retain(|_, claim| claim.strong_count() > 0);
    // Its own descriptor: the lock is one of what `open` gave, and not of the directory's other openers here.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = retry_on_intr(|| rustix::fs::openat(root, ".", flags, Mode::empty()))?;
    let lock = match retry_on_intr(|| rustix::fs::flock(&opened, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Some(opened),
        Err(Errno::WOULDBLOCK) => return Err(io::Error::new(io::ErrorKind::WouldBlock, holder(stat.st_ino))),
        Err(e) => {
            if TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(key) {
                let path = path.display().to_string();
                tracing::warn!(event = "no_locks", path, reason = %io::Error::from(e), "no lock is to be had there: two programs would not see each other");
            }
            None
        }
    };
    let claim = Arc::new(Claim { _lock: lock });
    held.insert(key, Arc::downgrade(&claim));
    Ok(claim)
}

/// Who has the lock of an inode, as far as the system says.
fn holder(inode: u64) -> String {
    let all = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let of = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, file, ..] = words[..] else { return None };
        let is_it = file.rsplit(':').next().and_then(|word| word.parse().ok()) == Some(inode);
        // 0: somebody outside of this container.
        is_it.then(|| pid.parse::<u32>().ok()).flatten().filter(|pid| *pid > 0)
    };
    match all.lines().find_map(of) {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

/// What a tree that was opened holds of the lock, once it is claimed.
#[derive(Debug, Default)]
pub(super) struct Part(std::sync::OnceLock<Arc<Claim>>);

impl Part {
    /// As [`claim`]; held as long as this value lives.
    pub(super) fn take(&self, root: impl AsFd, path: &Path) -> io::Result<()> {
        if self.0.get().is_none() {
            // Who was quicker has the same.
            drop(self.0.set(claim(root.as_fd(), path)?));
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "another process is a file opened beside")]
mod tests {
    use super::super::{Disk, RealDisk};
    use super::*;

    #[test]
    fn one_process_opens_a_tree_as_often_as_it_likes_and_gives_it_up_with_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second] = [0; 2].map(|_| RealDisk::new(dir.path()).unwrap());
        first.claim().and_then(|()| second.claim()).and_then(|()| first.claim()).unwrap();
        let other = std::fs::File::open(dir.path()).unwrap();
        let is_free = || rustix::fs::flock(&other, FlockOperation::NonBlockingLockExclusive);
        assert_eq!(is_free(), Err(Errno::WOULDBLOCK));
        drop(first);
        assert_eq!(is_free(), Err(Errno::WOULDBLOCK));
        drop(second);
        assert_eq!(is_free(), Ok(()));
        // Whoever else has it is named, and is asked again by the next one who opens it.
        let third = RealDisk::new(dir.path()).unwrap();
        let refused = third.claim().unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert!(refused.to_string().contains("process"), "{refused}");
        drop(other);
        third.claim().unwrap();
    }
}
