//! The system's disk.
//!
//! # Operation
//! The root directory is opened once and held; every call starts at that descriptor, so a root that is renamed or
//! replaced later is not mistaken for the store. Directories are resolved with `openat2` (`RESOLVE_BENEATH`,
//! `RESOLVE_NO_SYMLINKS`, `RESOLVE_NO_MAGICLINKS`); where the kernel or a sandbox does not offer that call, component
//! by component with `O_NOFOLLOW`. The last component is opened relative to its directory with `O_NOFOLLOW`.
//! Only regular files are opened; a FIFO or device planted in the store neither blocks nor is read.

use super::claim::{Claim, Part, claim};
use super::{Access, Disk, DiskFile, Entry, Kind, Lock, Space, Stamp, check_path, parent};
use rustix::fs::{AtFlags, Dir, DirEntry, FileType, FlockOperation, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::{Errno, retry_on_intr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DIR_MODE: Mode = Mode::RWXU;
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Longest text of a lock's owner that is read back, in bytes.
const OWNER_LIMIT: usize = 4096;

/// A directory tree of the system, held open by its root.
#[derive(Debug)]
pub struct RealDisk {
    root: OwnedFd,
    path: PathBuf,
    claim: Part,
}

/// A directory on the way to a name: the root itself or one opened for this call.
#[derive(Debug)]
enum Place<'a> {
    Root(BorrowedFd<'a>),
    Opened(OwnedFd),
}

impl AsFd for Place<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Place::Root(fd) => *fd,
            Place::Opened(fd) => fd.as_fd(),
        }
    }
}

impl RealDisk {
    /// Opens the tree below `root`, which must be a directory (or a symbolic link to one).
    ///
    /// # Errors
    /// Those of `open`: `NotFound`, `NotADirectory`, `PermissionDenied`, ...
    pub fn new(root: impl Into<PathBuf>) -> io::Result<RealDisk> {
        let path = root.into();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = retry_on_intr(|| rustix::fs::open(&path, flags, Mode::empty()))?;
        Ok(RealDisk { root, path, claim: Part::default() })
    }

    /// Makes a root directory and those above it that are missing, mode 0700, and makes their names durable. An
    /// existing directory is fine and stays as it is.
    ///
    /// # Errors
    /// Those of `mkdir`, `open`, `fsync`.
    pub fn create_root(root: impl AsRef<Path>) -> io::Result<()> {
        let root = root.as_ref();
        // Not by making it, which waits on a disk that takes no writes, also where there is nothing to make.
        if RealDisk::new(root).is_ok() {
            return Ok(());
        }
        match rustix::fs::mkdir(root, DIR_MODE) {
            Ok(()) => {}
            Err(Errno::EXIST) => return RealDisk::new(root).map(drop),
            Err(Errno::NOENT) => {
                let above = root.parent().filter(|p| !p.as_os_str().is_empty()).ok_or(Errno::NOENT)?;
                RealDisk::create_root(above)?;
                rustix::fs::mkdir(root, DIR_MODE)?;
            }
            Err(e) => return Err(e.into()),
        }
        let above = root.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        RealDisk::new(above)?.sync_dir("")
    }

    /// Opens a directory of the tree; no component may be a symbolic link.
    fn dir(&self, dir: &str, flags: OFlags) -> io::Result<Place<'_>> {
        if dir.is_empty() {
            return Ok(Place::Root(self.root.as_fd()));
        }
        check_path(dir)?;
        let flags = flags | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&self.root, dir, flags, Mode::empty(), resolve) {
                Ok(fd) => return Ok(Place::Opened(fd)),
                // EAGAIN: something was renamed while the kernel walked.
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(Errno::NOSYS | Errno::PERM) => return self.walk(dir, flags).map(Place::Opened),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// What `openat2` does, where there is none.
    fn walk(&self, dir: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let mut at = Place::Root(self.root.as_fd());
        let steps = dir.split('/').count();
        for (step, name) in dir.split('/').enumerate() {
            let flags = if step + 1 == steps { flags } else { OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC };
            let fd = retry_on_intr(|| rustix::fs::openat(&at, name, flags | OFlags::NOFOLLOW, Mode::empty()));
            at = Place::Opened(match fd {
                // O_DIRECTORY meets the link itself; openat2 says ELOOP.
                Err(Errno::NOTDIR) if is_symlink(&at, name) => return Err(Errno::LOOP.into()),
                other => other?,
            });
        }
        match at {
            Place::Opened(fd) => Ok(fd),
            Place::Root(_) => Err(Errno::INVAL.into()),
        }
    }

    /// The directory a path lies in, and its last component.
    fn place<'a, 'p>(&'a self, path: &'p str) -> io::Result<(Place<'a>, &'p str)> {
        check_path(path)?;
        let above = parent(path);
        let name = if above.is_empty() { path } else { &path[above.len() + 1..] };
        Ok((self.dir(above, OFlags::PATH)?, name))
    }

    fn open_at(&self, path: &str, flags: OFlags) -> io::Result<RealFile> {
        let (dir, name) = self.place(path)?;
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = retry_on_intr(|| rustix::fs::openat(&dir, name, flags, FILE_MODE))?;
        match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
            FileType::RegularFile => Ok(RealFile { fd }),
            FileType::Directory => Err(Errno::ISDIR.into()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
        }
    }
}

fn is_symlink(dir: impl AsFd, name: &str) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Symlink)
}

/// Describes one name; `None` if it is not there.
fn entry(dir: impl AsFd, name: &str) -> io::Result<Option<Entry>> {
    let stat = |flags| match rustix::fs::statat(&dir, name, flags) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    };
    let Some(found) = stat(AtFlags::SYMLINK_NOFOLLOW)? else { return Ok(None) };
    let kind = kind(&found);
    let len = match kind {
        Kind::File => length(&found),
        Kind::Symlink => stat(AtFlags::empty()).ok().flatten().map_or(0, |target| length(&target)),
        Kind::Dir | Kind::Other => 0,
    };
    Ok(Some(Entry { name: name.to_owned(), kind, len }))
}

/// Calls `each` with everything in a directory but itself and the one above.
fn for_each_name(dir: impl AsFd, each: &mut dyn FnMut(&DirEntry) -> io::Result<()>) -> io::Result<()> {
    for found in Dir::read_from(&dir)? {
        let found = found?;
        if !matches!(found.file_name().to_bytes(), b"." | b"..") {
            each(&found)?;
        }
    }
    Ok(())
}

/// A name that is no text: nothing of the store.
fn strange(found: &DirEntry) -> Entry {
    Entry { name: found.file_name().to_string_lossy().into_owned(), kind: Kind::Other, len: 0 }
}

fn kind(stat: &Stat) -> Kind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Symlink,
        _ => Kind::Other,
    }
}

fn length(stat: &Stat) -> u64 {
    if kind(stat) == Kind::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 }
}

impl Disk for RealDisk {
    fn open(&self, path: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let flags = match access {
            Access::Read => OFlags::RDONLY | OFlags::NOFOLLOW,
            Access::ReadFollow => OFlags::RDONLY,
            Access::Write => OFlags::RDWR | OFlags::NOFOLLOW,
            Access::CreateNew => OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CREATE | OFlags::EXCL,
        };
        Ok(Arc::new(self.open_at(path, flags)?))
    }

    fn stat(&self, path: &str) -> io::Result<Option<Entry>> {
        if path.is_empty() {
            return Ok(Some(Entry { name: String::new(), kind: Kind::Dir, len: 0 }));
        }
        match self.place(path) {
            Ok((dir, name)) => entry(&dir, name),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn stamp(&self, path: &str) -> io::Result<Option<Stamp>> {
        let (dir, name) = match self.place(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            place => place?,
        };
        let stat = match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            stat => stat?,
        };
        if kind(&stat) != Kind::File {
            return Ok(None);
        }
        let time = |seconds, nanos| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Ok(Some(Stamp {
            inode: stat.st_ino,
            #[allow(clippy::useless_conversion, reason = "its width is the platform's")]
            links: u64::from(stat.st_nlink),
            len: length(&stat),
            modified: time(stat.st_mtime, stat.st_mtime_nsec),
            changed: time(stat.st_ctime, stat.st_ctime_nsec),
        }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        let place = self.dir(dir, OFlags::RDONLY)?;
        let (mut entries, mut asked) = (Vec::new(), Vec::new());
        for_each_name(&place, &mut |found| {
            match found.file_name().to_str() {
                Ok(name) => asked.push((found.ino(), name.to_owned())),
                Err(_) => entries.push(strange(found)),
            }
            Ok(())
        })?;
        // As they lie on the disk, so that it is read in one direction.
        asked.sort_unstable();
        for (_, name) in asked {
            // A name that vanished since is not listed.
            entries.extend(entry(&place, &name)?);
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn names(&self, dir: &str) -> io::Result<Vec<Entry>> {
        let place = self.dir(dir, OFlags::RDONLY)?;
        let mut entries = Vec::new();
        for_each_name(&place, &mut |found| {
            let kind = match found.file_type() {
                FileType::RegularFile => Kind::File,
                FileType::Directory => Kind::Dir,
                FileType::Symlink => Kind::Symlink,
                // Some file systems do not tell.
                FileType::Unknown => {
                    match found.file_name().to_str() {
                        Ok(name) => entries.extend(entry(&place, name)?),
                        Err(_) => entries.push(strange(found)),
                    }
                    return Ok(());
                }
                _ => Kind::Other,
            };
            match found.file_name().to_str() {
                Ok(name) => entries.push(Entry { name: name.to_owned(), kind, len: 0 }),
                Err(_) => entries.push(strange(found)),
            }
            Ok(())
        })?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let (place, name) = self.place(dir)?;
        match rustix::fs::mkdirat(&place, name, DIR_MODE) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) if entry(&place, name)?.is_some_and(|e| e.kind == Kind::Dir) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from_dir, from_name) = self.place(from)?;
        let (to_dir, to_name) = self.place(to)?;
        Ok(rustix::fs::renameat(&from_dir, from_name, &to_dir, to_name)?)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let (from_dir, from_name) = self.place(from)?;
        let (to_dir, to_name) = self.place(to)?;
        // The system would give a symbolic link itself a second name.
        if is_symlink(&from_dir, from_name) {
            return Err(Errno::LOOP.into());
        }
        Ok(rustix::fs::linkat(&from_dir, from_name, &to_dir, to_name, AtFlags::empty())?)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let (dir, name) = self.place(path)?;
        Ok(rustix::fs::unlinkat(&dir, name, AtFlags::empty())?)
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        let (place, name) = self.place(dir)?;
        Ok(rustix::fs::unlinkat(&place, name, AtFlags::REMOVEDIR)?)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.dir(dir, OFlags::RDONLY)?)?)
    }

    fn sync_tree(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.root)?)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.space()?.free)
    }

    fn space(&self) -> io::Result<Space> {
        let fs = rustix::fs::fstatvfs(&self.root)?;
        let bytes = |blocks: u64| blocks.saturating_mul(fs.f_frsize);
        Ok(Space { free: bytes(fs.f_bavail), total: bytes(fs.f_blocks), id: fs.f_fsid })
    }

    fn lock(&self, path: &str, owner: &str) -> io::Result<Box<dyn Lock>> {
        // First, because the file can be removed under the one who holds it, and the tree's root cannot.
        let claim = claim(self.root.as_fd(), &self.path)?;
        loop {
            let file = self.open_at(path, OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW)?;
            match retry_on_intr(|| rustix::fs::flock(&file.fd, FlockOperation::NonBlockingLockExclusive)) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(io::Error::new(io::ErrorKind::WouldBlock, file.owner())),
                Err(e) => return Err(e.into()),
            }
            // A lock on a file that somebody removed meanwhile would exclude nobody.
            if self.names_file(path, &file)? {
                file.write_owner(owner)?;
                return Ok(Box::new(RealLock { _file: file, _claim: claim }));
            }
        }
    }

    fn claim(&self) -> io::Result<()> {
        self.claim.take(&self.root, &self.path)
    }

    fn display(&self, path: &str) -> String {
        if path.is_empty() { self.path.display().to_string() } else { self.path.join(path).display().to_string() }
    }
}

impl RealDisk {
    /// True if `path` still stands for this very file.
    fn names_file(&self, path: &str, file: &RealFile) -> io::Result<bool> {
        let (dir, name) = self.place(path)?;
        let held = rustix::fs::fstat(&file.fd)?;
        match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) => Ok((named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }
}

/// Held by its open file description: the system gives it up when that is closed, by whatever end of the process.
#[derive(Debug)]
struct RealLock {
    _file: RealFile,
    _claim: Arc<Claim>,
}

impl Lock for RealLock {}

#[derive(Debug)]
struct RealFile {
    fd: OwnedFd,
}

impl RealFile {
    /// The text of a lock's owner; empty while the owner is just writing it.
    fn owner(&self) -> String {
        let mut bytes = vec![0; OWNER_LIMIT];
        let n = retry_on_intr(|| rustix::io::pread(&self.fd, &mut bytes[..], 0)).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..n]).trim().to_owned()
    }

    /// The text serves messages only, so a full disk does not keep a store from being opened: the text is left empty.
    fn write_owner(&self, owner: &str) -> io::Result<()> {
        self.set_len(0)?;
        match self.write_at(0, owner.as_bytes()) {
            Err(e) if crate::error::is_no_space(&e) => self.set_len(0),
            other => other,
        }
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            match rustix::io::pread(&self.fd, &mut buf[done..], offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match rustix::io::pwrite(&self.fd, &bytes[done..], offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Called once: not even an interrupted sync is repeated, because what became of the bytes is unknown.
    fn sync_data(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.fd)?)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(length(&rustix::fs::fstat(&self.fd)?))
    }

    fn inode(&self) -> io::Result<Option<u64>> {
        Ok(Some(rustix::fs::fstat(&self.fd)?.st_ino))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::ftruncate(&self.fd, len))?)
    }
}

#[cfg(test)]
#[path = "real_tests.rs"]
mod tests;
