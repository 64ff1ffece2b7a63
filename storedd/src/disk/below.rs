//! A directory of a disk as a disk of its own.

use super::{Access, Disk, DiskFile, Entry, Kind, Lock, Space};
use std::io;
use std::sync::Arc;

/// The tree below a directory of another disk. What is asked of it goes to that disk, so the directory may be renamed and made
/// again: it is found by its name at each call.
#[derive(Debug, Clone)]
pub struct Below {
    disk: Arc<dyn Disk>,
    base: String,
}

impl Below {
    /// The directory `base` of `disk`; it need not be there.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, base: impl Into<String>) -> Below {
        Below { disk, base: base.into() }
    }

    fn at(&self, path: &str) -> String {
        if path.is_empty() { self.base.clone() } else { format!("{}/{path}", self.base) }
    }
}

impl Disk for Below {
    fn open(&self, path: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(&self.at(path), access)
    }

    fn stat(&self, path: &str) -> io::Result<Option<Entry>> {
        if path.is_empty() {
            return Ok(Some(Entry { name: String::new(), kind: Kind::Dir, len: 0 }));
        }
        self.disk.stat(&self.at(path))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        self.disk.list(&self.at(dir))
    }

    fn names(&self, dir: &str) -> io::Result<Vec<Entry>> {
        self.disk.names(&self.at(dir))
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.create_dir(&self.at(dir))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(&self.at(from), &self.at(to))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.link(&self.at(from), &self.at(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(&self.at(path))
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.remove_dir(&self.at(dir))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.sync_dir(&self.at(dir))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }

    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }

    fn lock(&self, path: &str, owner: &str) -> io::Result<Box<dyn Lock>> {
        self.disk.lock(&self.at(path), owner)
    }

    fn display(&self, path: &str) -> String {
        self.disk.display(&self.at(path))
    }
}
