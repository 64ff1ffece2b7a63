//! The files a user names: the only place of the client that opens any.

#![expect(clippy::disallowed_methods, reason = "files of the user, not of the store")]

use crate::exit::{Outcome, Stop};
use proto::Code;
use std::fs::File;
use std::io::{self, Read, Write};
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

/// A new file, which has its name when it is whole.
#[derive(Debug)]
pub struct Fresh {
    to: PathBuf,
    path: PathBuf,
    file: File,
    put: bool,
}

impl Fresh {
    /// Begins a file that is to be at `to`, where nothing may be.
    ///
    /// # Errors
    /// Something is there (73); the directory may not be written (77), and the like.
    pub fn at(to: &Path) -> Outcome<Fresh> {
        use std::os::unix::fs::OpenOptionsExt;
        if to.symlink_metadata().is_ok() {
            let text = format!("{} is there already", to.display());
            return Err(Stop::hint(Code::Exists, text, "give another name, or move it away"));
        }
        let mut name = std::ffi::OsString::from(".");
        name.push(to.file_name().unwrap_or_default());
        name.push(format!(".{}", std::process::id()));
        let path = to.with_file_name(name);
        let file = File::options().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|e| unwritten(&path, &e))?;
        Ok(Fresh { to: to.to_owned(), path, file, put: false })
    }

    /// Gives it its name, durably; what came there meanwhile stays.
    ///
    /// # Errors
    /// Those of the system.
    pub fn put(mut self) -> Outcome<()> {
        let fail = |e: io::Error| unwritten(&self.to, &e);
        self.file.sync_all().map_err(fail)?;
        std::fs::hard_link(&self.path, &self.to).map_err(fail)?;
        std::fs::remove_file(&self.path).map_err(fail)?;
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
