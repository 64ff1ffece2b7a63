//! The log of a stopped store, with what the archive has of it.
//!
//! # Operation
//! [`WithArchive`] shows the log directory, and in it the archive's copy of every log file that is not there, or is damaged there. A person's
//! recovery looks at that and decides. What the decision needs of the archive is then copied into the log directory ([`WithArchive::bring`]),
//! and the recovery goes on with the log directory alone, as if the files had been there.
//!
//! # Invariants
//! * Looking changes nothing (I7); the archive is never written.
//! * A copy is read again and compared before it gets its name; a damaged file keeps a name in quarantine before another one gets its own.
//! * A crash leaves log files more than before, each whole: the same command leads to the same end.

use super::Disks;
use super::look::Found;
use crate::disk::copy::{self, From};
use crate::disk::{Access, Below, Disk, DiskFile, Entry, Kind, Lock, Space, Stamp};
use crate::error::{Result, StoreError};
use crate::lsn::StoreId;
use crate::wal;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Behind the name of a log file that is being copied.
const DRAFT: &str = ".archived";

/// A log directory and an archive of it, to be looked at.
#[derive(Debug, Clone)]
pub struct WithArchive {
    log: Arc<dyn Disk>,
    archive: Arc<dyn Disk>,
    /// Log files that are the archive's.
    served: BTreeSet<String>,
}

impl WithArchive {
    /// The directory of `store` in the archive `root`, beside `log`; it serves what `log` does not have, and `instead` of what it has.
    ///
    /// # Errors
    /// Those of the disks. An archive in which this store has no directory serves nothing.
    pub fn new(
        log: Arc<dyn Disk>,
        root: Arc<dyn Disk>,
        store: StoreId,
        instead: &BTreeSet<String>,
    ) -> Result<WithArchive> {
        let archive: Arc<dyn Disk> = Arc::new(Below::new(root, store.to_string()));
        let names = |disk: &dyn Disk| match disk.list("") {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            Err(e) => Err(StoreError::io("list", disk.display(""), e)),
            Ok(all) => {
                let named = |e: &Entry| wal::file_number(&e.name).is_some() && e.kind != Kind::Dir;
                Ok(all.into_iter().filter(named).map(|e| e.name).collect::<BTreeSet<_>>())
            }
        };
        let there = names(&*log)?;
        let served = names(&*archive)?.into_iter().filter(|f| !there.contains(f) || instead.contains(f)).collect();
        Ok(WithArchive { log, archive, served })
    }

    /// As [`WithArchive::new`], by what was found of the log: the archive at `path` serves instead of what is damaged. `None` if it serves
    /// nothing.
    pub(super) fn beside(disks: &Disks, path: &Path, found: &Found) -> Result<Option<WithArchive>> {
        let (Some(store), Some(survey)) = (found.store_id(), found.survey()) else { return Ok(None) };
        let root = match disks.roots.open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            root => root.map_err(|e| StoreError::io("open directory", path.display().to_string(), e))?,
        };
        let damaged = survey.segments.iter().filter(|s| !s.damages.is_empty()).map(|s| s.file.clone()).collect();
        let with = WithArchive::new(disks.log.clone(), root, store, &damaged)?;
        Ok((!with.served.is_empty()).then_some(with))
    }

    /// True of a log file that is the archive's.
    #[must_use]
    pub fn serves(&self, file: &str) -> bool {
        self.served.contains(file)
    }

    fn of_file(&self, path: &str) -> &dyn Disk {
        if self.serves(path) { &*self.archive } else { &*self.log }
    }

    /// Copies these files, which the archive serves, into the log directory, durably. Gives the names under which damaged ones are kept.
    ///
    /// # Errors
    /// Those of the disks; what was copied by then stays.
    pub(super) fn bring(&self, files: &[String]) -> Result<Vec<String>> {
        let fail = |op, path: &str| {
            let path = self.log.display(path);
            move |e: io::Error| StoreError::io(op, path, e)
        };
        for entry in self.log.list("").map_err(fail("list", ""))? {
            if entry.name.strip_suffix(DRAFT).and_then(wal::file_number).is_some() {
                self.log.remove(&entry.name).map_err(fail("remove", &entry.name))?;
            }
        }
        let mut kept = Vec::new();
        for file in files {
            let draft = format!("{file}{DRAFT}");
            let from = From { disk: &*self.archive, path: file, end: None };
            let copied = copy::copy(from, &*self.log, &draft, &mut |_| Ok(()));
            if let Err(e) = copied {
                // Best effort: the next attempt removes it first of all.
                drop(self.log.remove(&draft));
                return Err(e);
            }
            match self.log.stat(file).map_err(fail("stat", file))? {
                // Of a link only the link is replaced.
                Some(entry) if entry.kind == Kind::File => kept.push(wal::keep_aside(&*self.log, file)?),
                _ => {}
            }
            self.log.rename(&draft, file).map_err(fail("rename", &draft))?;
            tracing::info!(event = "from_archive", file = self.log.display(file), archive = self.archive.display(file));
        }
        self.log.sync_dir("").map_err(fail("sync", ""))?;
        Ok(kept)
    }
}

/// Nothing is ever written through it: what is not the archive's goes to the log directory.
impl Disk for WithArchive {
    fn open(&self, path: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        match (self.serves(path), access) {
            (true, Access::Read | Access::ReadFollow) => self.archive.open(path, Access::ReadFollow),
            (true, _) => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            (false, _) => self.log.open(path, access),
        }
    }

    fn stat(&self, path: &str) -> io::Result<Option<Entry>> {
        self.of_file(path).stat(path)
    }

    fn stamp(&self, path: &str) -> io::Result<Option<Stamp>> {
        self.of_file(path).stamp(path)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        let mut all = self.log.list(dir)?;
        if dir.is_empty() && !self.served.is_empty() {
            all.retain(|entry| !self.serves(&entry.name));
            all.extend(self.archive.list("")?.into_iter().filter(|entry| self.serves(&entry.name)));
            all.sort_by(|a, b| a.name.cmp(&b.name));
        }
        Ok(all)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.log.create_dir(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.log.rename(from, to)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.log.link(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.log.remove(path)
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.log.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.log.sync_dir(dir)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.log.free_bytes()
    }

    fn space(&self) -> io::Result<Space> {
        self.log.space()
    }

    fn lock(&self, path: &str, owner: &str) -> io::Result<Box<dyn Lock>> {
        self.log.lock(path, owner)
    }

    fn display(&self, path: &str) -> String {
        self.of_file(path).display(path)
    }
}
