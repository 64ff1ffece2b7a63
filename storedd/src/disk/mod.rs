//! The only folder that touches the file system.
//!
//! # Purpose
//! One seam between the store and the disk: [`Disk`] is a directory tree, [`DiskFile`] an open file of it. [`RealDisk`]
//! is the system's, [`SimDisk`] one in memory with the weakest rules that POSIX allows, for tests.
//!
//! # Interface
//! A [`Disk`] has a root; every path is relative to it, with `/` between components, none of which may be empty, `.` or
//! `..` (so no name ever leaves the tree). Symbolic links are not followed, except by [`Disk::open`] with
//! [`Access::ReadFollow`]. New directories have mode 0700, new files 0600.
//!
//! # Rules of durability (what callers may rely on, and no more)
//! * Bytes written are durable after `sync_data` of that file returned; before, any part of them may survive.
//! * A name (created, renamed, removed) is durable after `sync_dir` of its directory returned.
//! * `sync_tree`, where there is one, is `sync_data` and `sync_dir` of everything in the tree.
//! * A rename within a directory is atomic. After a rename between directories sync the new one first, then the old one:
//!   in between a crash can leave both names.
//! * A sync that failed is never repeated.

mod below;
mod claim;
pub mod copy;
pub mod outside;
mod patient;
mod real;
mod sim;
#[cfg(test)]
mod stuck;

pub use below::Below;
pub use patient::Patience;
pub use real::RealDisk;
pub use sim::{Fault, Moment, OpKind, Persist, SimDisk};
#[cfg(test)]
pub(crate) use stuck::Stuck;

use crate::planted::{self, Bug};
use std::io;
use std::sync::Arc;

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Existing, read only; a symbolic link is refused.
    Read,
    /// Existing, read only; a symbolic link is followed.
    ReadFollow,
    /// Existing, read and write; a symbolic link is refused.
    Write,
    /// Read and write; must not exist.
    CreateNew,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// Anything else.
    Other,
}

/// One name in a directory, or the answer of [`Disk::stat`] (which follows a final symbolic link for `len` only).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The last component.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Length in bytes of a file.
    pub len: u64,
}

/// What the file system says of a file beside its bytes. As long as none of it changes, nobody has written to the file through the file
/// system; the times have the grain of the kernel's clock, so that only what was at rest for a while can be told by them. What
/// a disk does to bytes by itself is seen by reading alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Which file.
    pub inode: u64,
    /// Names that it has.
    pub links: u64,
    /// Length in bytes.
    pub len: u64,
    /// When its bytes were changed, in nanoseconds since 1970; any program can set it.
    pub modified: i128,
    /// When anything of it was changed, in nanoseconds since 1970; no program can set it.
    pub changed: i128,
}

/// An exclusive lock, held until dropped or until the process ends.
pub trait Lock: Send + Sync + std::fmt::Debug {}

/// The room on the disk below a [`Disk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that can still be written by this process.
    pub free: u64,
    /// Bytes of the whole file system; `u64::MAX` where that is not known.
    pub total: u64,
    /// Which file system: equal where two trees share their room; 0 where that is not known.
    pub id: u64,
}

impl Space {
    /// `bytes`, or `1 / part` of the whole if that is less: what is kept free must not be most of a small disk.
    #[must_use]
    pub fn at_most(self, bytes: u64, part: u64) -> u64 {
        bytes.min(self.total / part.max(1))
    }

    /// What a reserve of `bytes` comes to on this disk: at most a 20th of it.
    #[must_use]
    pub fn reserve(self, bytes: u64) -> u64 {
        self.at_most(bytes, 20)
    }
}

/// A directory tree.
pub trait Disk: Send + Sync + std::fmt::Debug {
    /// Opens a file.
    fn open(&self, path: &str, access: Access) -> io::Result<Arc<dyn DiskFile>>;
    /// What `path` is; `None` if nothing is there.
    fn stat(&self, path: &str) -> io::Result<Option<Entry>>;
    /// What tells whether a file was written to; `None` where that is not known, and where no file is.
    fn stamp(&self, _path: &str) -> io::Result<Option<Stamp>> {
        Ok(None)
    }
    /// The names in a directory (`""` is the root), sorted.
    fn list(&self, dir: &str) -> io::Result<Vec<Entry>>;
    /// The same without lengths, where they cost something: they are 0, or right.
    fn names(&self, dir: &str) -> io::Result<Vec<Entry>> {
        self.list(dir)
    }
    /// Makes one directory; an existing directory is fine.
    fn create_dir(&self, dir: &str) -> io::Result<()>;
    /// Gives a file or directory another name, replacing a file there. Within this tree only.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Gives a file a second name (a hard link). An existing name is `AlreadyExists`; a symbolic link or directory is refused.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file (or a symbolic link itself).
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, dir: &str) -> io::Result<()>;
    /// Makes the names in a directory durable (`""` is the root).
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// Makes everything below the root durable at once, where the implementation can do so cheaper than directory by
    /// directory; `Unsupported` where it cannot.
    fn sync_tree(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Bytes that can still be written by this process.
    fn free_bytes(&self) -> io::Result<u64>;
    /// The room there is, and of which disk.
    fn space(&self) -> io::Result<Space> {
        Ok(Space { free: self.free_bytes()?, total: u64::MAX, id: 0 })
    }
    /// Takes the lock file `path` (created if absent) without waiting and writes `owner` into it, and claims the tree ([`Disk::claim`]) as long as
    /// the lock is held: a lock file that somebody removed keeps nobody out.
    /// The error of kind `WouldBlock` carries the text that the present owner wrote, or what is known of it.
    fn lock(&self, path: &str, owner: &str) -> io::Result<Box<dyn Lock>>;
    /// Makes sure that no other process uses this tree, as long as this value lives. Nothing is written. Where there are no locks, nothing is known of
    /// others and it is granted.
    ///
    /// # Errors
    /// `WouldBlock` if another process has claimed it, with who that is.
    fn claim(&self) -> io::Result<()> {
        Ok(())
    }
    /// The path as a person would type it, for messages only.
    fn display(&self, path: &str) -> String;
}

/// An open file.
pub trait DiskFile: Send + Sync + std::fmt::Debug {
    /// Fills `buf` from `offset`; an end of file inside it is `UnexpectedEof`.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`, growing the file if needed.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes the content (and the length) durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// True if the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or grows the file; grown bytes are zero.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Which file it is, as [`Stamp::inode`]; `None` where that is not known.
    fn inode(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }
    /// Asks the system to start writing dirty bytes of the range in the background; a hint, no promise.
    fn start_writeback(&self, _offset: u64, _len: u64) {}
}

/// Reads a whole small file.
///
/// # Errors
/// Those of the disk; `InvalidData` if it is longer than `limit` bytes.
pub fn read_small(disk: &dyn Disk, path: &str, limit: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Access::Read)?;
    let len = file.len()?;
    if len > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{len} bytes, expected at most {limit}")));
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// Replaces a small file so that a crash leaves the old or the new one: candidate beside it, sync, rename, sync the
/// directory.
///
/// # Errors
/// Those of the disk; the old file is then still there unless the rename was done.
pub fn replace(disk: &dyn Disk, path: &str, bytes: &[u8]) -> io::Result<()> {
    replace_by(disk, &format!("{path}.new"), path, bytes)?;
    if planted::on(Bug::SmallFileNameNotSynced) {
        return Ok(());
    }
    disk.sync_dir(parent(path))
}

/// [`replace`] by way of another candidate, and without the sync of the directory, which is the caller's: until then a crash may leave the
/// old file, and never a part of the new one.
///
/// # Errors
/// As [`replace`].
pub fn replace_by(disk: &dyn Disk, candidate: &str, path: &str, bytes: &[u8]) -> io::Result<()> {
    match disk.remove(candidate) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let file = disk.open(candidate, Access::CreateNew)?;
    file.write_at(0, bytes)?;
    if !planted::on(Bug::SmallFileNotSynced) {
        file.sync_data()?;
    }
    disk.rename(candidate, path)
}

/// Makes `dir` and what is missing above it, without a sync. The root (`""`) is there.
///
/// # Errors
/// Those of the disk.
pub fn create_all(disk: &dyn Disk, dir: &str) -> io::Result<()> {
    if dir.is_empty() {
        return Ok(());
    }
    match disk.create_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && !parent(dir).is_empty() => {
            create_all(disk, parent(dir))?;
            disk.create_dir(dir)
        }
        done => done,
    }
}

/// Refuses a path that is empty, has a component that is empty, `.`, `..`, longer than 255 bytes, or contains NUL.
fn check_path(path: &str) -> io::Result<()> {
    let bad = |name: &str| name.is_empty() || name == "." || name == ".." || name.len() > 255 || name.contains('\0');
    if path.split('/').any(bad) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("not a path inside the store: {path:?}")));
    }
    Ok(())
}

/// The directory part of a path; `""` for a name in the root.
#[must_use]
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}
