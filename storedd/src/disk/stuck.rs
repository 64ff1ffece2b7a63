//! A disk in memory that hangs as long as a test holds its gate: in reads and in syncs of files.

use super::{Access, Disk, DiskFile, Entry, Lock, SimDisk};
use std::io;
use std::sync::{Arc, Mutex};

/// See the page.
#[derive(Debug)]
pub(crate) struct Stuck {
    disk: SimDisk,
    gate: Arc<Mutex<()>>,
}

#[derive(Debug)]
struct StuckFile {
    file: Arc<dyn DiskFile>,
    gate: Arc<Mutex<()>>,
}

impl Stuck {
    /// This disk behind this gate.
    pub(crate) fn new(disk: SimDisk, gate: Arc<Mutex<()>>) -> Stuck {
        Stuck { disk, gate }
    }
}

impl Disk for Stuck {
    fn open(&self, path: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(StuckFile { file: self.disk.open(path, access)?, gate: self.gate.clone() }))
    }

    fn stat(&self, path: &str) -> io::Result<Option<Entry>> {
        self.disk.stat(path)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        self.disk.list(dir)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.link(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }

    fn lock(&self, path: &str, owner: &str) -> io::Result<Box<dyn Lock>> {
        self.disk.lock(path, owner)
    }

    fn display(&self, path: &str) -> String {
        self.disk.display(path)
    }
}

impl DiskFile for StuckFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        drop(self.gate.lock());
        self.file.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        drop(self.gate.lock());
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}
