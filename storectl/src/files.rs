//! The files a user names: the only place of the client that opens any.

#![expect(clippy::disallowed_methods, reason = "files of the user, not of the store")]

use crate::exit::{Outcome, Stop};
use proto::Code;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// True for `-`, which stands for standard input.
#[must_use]
pub fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// The file to read from; `-` is standard input.
///
/// # Errors
/// No such file (66), not readable (77, 74).
pub fn open(path: &Path) -> Outcome<Box<dyn Read + Send>> {
    if is_stdin(path) {
        return Ok(Box::new(io::stdin()));
    }
    let file = File::open(path).map_err(|e| failed(path, &e))?;
    let about = file.metadata().map_err(|e| failed(path, &e))?;
    if about.is_dir() {
        return Err(failed(path, &io::Error::from(io::ErrorKind::IsADirectory)));
    }
    Ok(Box::new(file))
}

/// True of what ends with this program, or with the one at its other end: standard input and output under any name, and pipes.
#[must_use]
pub fn ends_with_program(path: &Path) -> bool {
    let of_process = ["/dev/std", "/dev/fd/", "/proc/self/"];
    is_stdin(path)
        || path.to_str().is_some_and(|path| of_process.iter().any(|start| path.starts_with(start)))
        || path.metadata().is_ok_and(|about| about.file_type().is_fifo())
}

/// Where nothing is read and everything written is gone.
///
/// # Errors
/// There is no `/dev/null`.
pub fn null() -> io::Result<File> {
    File::options().read(true).write(true).open("/dev/null")
}

/// A second look at a file that can be sought in; `None` for standard input, pipes and devices.
///
/// # Errors
/// As [`open`].
pub fn open_seekable(path: &Path) -> Outcome<Option<File>> {
    if is_stdin(path) || is_special(path) {
        return Ok(None);
    }
    File::open(path).map(Some).map_err(|e| failed(path, &e))
}

/// All of the file, at most `limit` bytes of it.
///
/// # Errors
/// As [`open`]; longer than `limit` (65).
pub fn read(path: &Path, limit: u64) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(limit + 1).read_to_end(&mut bytes).map_err(|e| failed(path, &e))?;
    match bytes.len() as u64 {
        length if length > limit => {
            Err(Stop::new(Code::BadInput, format!("{} is longer than {limit} bytes", path.display())))
        }
        _ => Ok(bytes),
    }
}

/// A file that is to take another's place: written beside it, with its mode and owner, and gone unless it was put.
#[derive(Debug)]
pub struct Replacement {
    of: PathBuf,
    path: PathBuf,
    put: bool,
}

impl Replacement {
    /// Writes `bytes` beside `file` (beside what it links to, if it is a link) and makes them durable.
    ///
    /// # Errors
    /// The directory may not be written (77), no space (75), and the like.
    pub fn beside(file: &Path, bytes: &[u8]) -> Outcome<Replacement> {
        use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
        let of = file.canonicalize().map_err(|e| failed(file, &e))?;
        let about = of.metadata().map_err(|e| failed(&of, &e))?;
        let mut name = std::ffi::OsString::from(".");
        name.push(of.file_name().unwrap_or_default());
        name.push(format!(".{}", std::process::id()));
        let path = of.with_file_name(name);
        let fail = |e: io::Error| unwritten(&path, &e);
        let mode = about.mode() & 0o7777;
        let mut new = File::options().write(true).create_new(true).mode(mode).open(&path).map_err(fail)?;
        let replacement = Replacement { of, path: path.clone(), put: false };
        new.set_permissions(about.permissions()).map_err(fail)?;
        // Root writes a file of somebody else; others own what they may write.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::fchown(&new, Some(about.uid()), Some(about.gid())).map_err(fail)?;
        }
        new.write_all(bytes).and_then(|()| new.sync_all()).map_err(fail)?;
        Ok(replacement)
    }

    /// Where it lies until it is put.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the other's place, durably.
    ///
    /// # Errors
    /// Those of the system.
    pub fn put(mut self) -> Outcome<()> {
        let fail = |e: io::Error| unwritten(&self.of, &e);
        std::fs::rename(&self.path, &self.of).map_err(fail)?;
        self.put = true;
        let dir = self.of.parent().unwrap_or(Path::new("/"));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| unwritten(&self.of, &e))
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.put {
            // A copy that stays behind is only a copy.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// True for what is there and neither a file nor a directory: a device, a pipe.
#[must_use]
pub fn is_special(path: &Path) -> bool {
    path.metadata().is_ok_and(|about| !about.is_file() && !about.is_dir())
}

/// True for a disk: what was on it before an archive was written is still there behind that.
#[must_use]
pub fn is_block_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    path.metadata().is_ok_and(|about| about.file_type().is_block_device())
}

/// Makes a directory that only its owner may look into, if it is not there.
///
/// # Errors
/// Those of the system.
pub fn make_dir(dir: &Path) -> Outcome<()> {
    use std::os::unix::fs::DirBuilderExt;
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(e) => Err(unwritten(dir, &e)),
        Ok(()) => {
            let above = dir.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(above).and_then(|above| above.sync_all()).map_err(|e| unwritten(dir, &e))
        }
    }
}

/// Files of the directories in `dir` whose names end so and begin with no dot.
///
/// # Errors
/// Those of the system.
pub fn list_below(dir: &Path, ending: &str) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = |dir: &Path| -> Outcome<Vec<PathBuf>> {
        let read = std::fs::read_dir(dir).and_then(|all| all.map(|entry| Ok(entry?.path())).collect());
        read.map_err(|e| failed(dir, &e))
    };
    for below in entries(dir)?.into_iter().filter(|path| path.is_dir()) {
        let is_one = |path: &PathBuf| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|n| n.ends_with(ending) && !n.starts_with('.'))
        };
        found.extend(entries(&below)?.into_iter().filter(is_one));
    }
    found.sort();
    Ok(found)
}

/// A device or a pipe that is written to.
#[derive(Debug)]
pub struct Stream(File);

impl Stream {
    /// Opens it.
    ///
    /// # Errors
    /// Those of the system.
    pub fn to(path: &Path) -> Outcome<Stream> {
        File::options().write(true).open(path).map(Stream).map_err(|e| unwritten(path, &e))
    }

    /// What was written is on the medium, as far as there is such a thing.
    ///
    /// # Errors
    /// Those of the system.
    pub fn sync(&self) -> io::Result<()> {
        match self.0.sync_all() {
            // Pipes and many devices have nothing to sync.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(()),
            done => done,
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A new file, which has its name when it is whole.
#[derive(Debug)]
pub struct Fresh {
    to: PathBuf,
    path: PathBuf,
    file: File,
    /// It takes the place of what is there.
    over: bool,
    put: bool,
}

impl Fresh {
    /// Begins a file that is to be at `to`, where nothing may be.
    ///
    /// # Errors
    /// Something is there (73); the directory may not be written (77), and the like.
    pub fn at(to: &Path) -> Outcome<Fresh> {
        if to.symlink_metadata().is_ok() {
            let text = format!("{} is there already", to.display());
            return Err(Stop::hint(Code::Exists, text, "give another name, or move it away"));
        }
        Fresh::beside(to, false)
    }

    /// Begins a file that takes the place of what is at `to`, once it is whole.
    ///
    /// # Errors
    /// As [`Fresh::at`], but for what is there.
    pub fn over(to: &Path) -> Outcome<Fresh> {
        Fresh::beside(to, true)
    }

    fn beside(to: &Path, over: bool) -> Outcome<Fresh> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut name = std::ffi::OsString::from(".");
        name.push(to.file_name().unwrap_or_default());
        name.push(format!(".{}", std::process::id()));
        let path = to.with_file_name(name);
        let file = File::options().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|e| unwritten(&path, &e))?;
        Ok(Fresh { to: to.to_owned(), path, file, over, put: false })
    }

    /// Gives it its name, durably; what came there meanwhile stays, unless it is to be replaced.
    ///
    /// # Errors
    /// Those of the system.
    pub fn put(mut self) -> Outcome<()> {
        let fail = |e: io::Error| unwritten(&self.to, &e);
        self.file.sync_all().map_err(fail)?;
        if self.over {
            std::fs::rename(&self.path, &self.to).map_err(fail)?;
        } else {
            std::fs::hard_link(&self.path, &self.to).map_err(fail)?;
            std::fs::remove_file(&self.path).map_err(fail)?;
        }
        self.put = true;
        let dir = self.to.parent().filter(|dir| *dir != Path::new("")).unwrap_or(Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| unwritten(&self.to, &e))
    }
}

impl Write for Fresh {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if !self.put {
            // Half a file under a name of its own is only half a file.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Why a file could not be written.
fn unwritten(path: &Path, error: &io::Error) -> Stop {
    let code = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Code::NotPermitted,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::Busy,
        io::ErrorKind::AlreadyExists => Code::Exists,
        _ => Code::Io,
    };
    let dir = path.parent().unwrap_or(Path::new("/")).display().to_string();
    Stop::hint(code, format!("{} cannot be written: {error}", path.display()), format!("look at it with: ls -ld {dir}"))
}

/// Why the file could not be read.
#[must_use]
pub fn failed(path: &Path, error: &io::Error) -> Stop {
    let name = if is_stdin(path) { "standard input".to_owned() } else { path.display().to_string() };
    let look = format!("look at it with: ls -l {name}");
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            Stop::hint(Code::NoInput, format!("no such file: {name}"), "check the name, or give - for standard input")
        }
        io::ErrorKind::IsADirectory => {
            Stop::hint(Code::NoInput, format!("{name} is a directory, expected a file"), look)
        }
        io::ErrorKind::PermissionDenied => Stop::hint(Code::NotPermitted, format!("{name} may not be read"), look),
        _ => Stop::new(Code::Io, format!("{name} cannot be read: {error}")),
    }
}
