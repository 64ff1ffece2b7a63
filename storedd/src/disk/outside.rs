//! Paths that lie in no [`super::Disk`]: the configuration file, the message log, the socket, and whether a directory
//! could be where it is named.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Reads a file of at most `limit` bytes; symbolic links are followed.
///
/// # Errors
/// Those of the system; `InvalidData` if it is longer, or no regular file.
#[expect(clippy::disallowed_methods, reason = "disk/ is the home of the file system")]
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("more than {limit} bytes")));
    }
    Ok(bytes)
}

/// True if something is there, also a symbolic link that leads nowhere.
#[must_use]
pub fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Removes a file; that there is none is no error.
///
/// # Errors
/// Those of the system.
#[expect(clippy::disallowed_methods, reason = "disk/ is the home of the file system")]
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Why there is, and can be made, no directory that this process may write to; `None` if there is nothing against it.
/// `path` is absolute.
#[must_use]
pub fn obstacle(path: &Path) -> Option<String> {
    let mut existing = path;
    loop {
        match std::fs::metadata(existing) {
            Ok(meta) if meta.is_dir() => break,
            Ok(_) => return Some(format!("{} is not a directory", existing.display())),
            Err(e) if absent(&e) && !exists(existing) => match existing.parent() {
                Some(parent) => existing = parent,
                None => return Some(format!("{}: {e}", existing.display())),
            },
            Err(e) => return Some(format!("{}: {e}", existing.display())),
        }
    }
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(existing, access).err().map(|e| format!("{}: {e}", existing.display()))
}

/// The path with symbolic links resolved as far as it exists.
#[must_use]
pub fn resolved(path: &Path) -> PathBuf {
    let mut rest = Vec::new();
    let mut existing = path;
    loop {
        if let Ok(real) = existing.canonicalize() {
            return rest.iter().rev().fold(real, |path, name| path.join(name));
        }
        match (existing.parent(), existing.file_name()) {
            (Some(parent), Some(name)) => {
                rest.push(name);
                existing = parent;
            }
            _ => return path.to_path_buf(),
        }
    }
}

/// The directories in which a change may make `path` stand for another file: that of its last component, and those of the
/// symbolic links on the way.
#[must_use]
pub fn directories_to(path: &Path) -> std::collections::BTreeSet<PathBuf> {
    use std::path::Component;
    /// As many links as the system follows.
    const LINKS_MAX: usize = 40;
    let mut dirs = std::collections::BTreeSet::new();
    let mut rest: Vec<std::ffi::OsString> = Vec::new();
    let push = |rest: &mut Vec<std::ffi::OsString>, path: &Path| {
        rest.extend(path.components().rev().map(|c| c.as_os_str().to_owned()));
    };
    push(&mut rest, path);
    let (mut at, mut links) = (PathBuf::from("/"), 0);
    while let Some(name) = rest.pop() {
        match Path::new(&name).components().next() {
            Some(Component::RootDir) => at = PathBuf::from("/"),
            Some(Component::ParentDir) => drop(at.pop()),
            Some(Component::Normal(_)) => {
                let next = at.join(&name);
                match next.read_link() {
                    Ok(target) if links < LINKS_MAX => {
                        links += 1;
                        dirs.insert(at.clone());
                        push(&mut rest, &target);
                    }
                    _ => at = next,
                }
            }
            _ => {}
        }
    }
    dirs.extend(at.parent().map(Path::to_path_buf));
    dirs
}

fn absent(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Removes a socket file; nothing there is fine.
///
/// # Errors
/// Those of the system.
#[expect(clippy::disallowed_methods, reason = "disk/ is the home of the file system")]
pub fn remove_socket(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Opens a file to write behind its end, made with its directory if it is not there; its length.
///
/// # Errors
/// Those of the system; `InvalidInput` if it is no regular file.
pub fn append(path: &Path) -> io::Result<(std::fs::File, u64)> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    if let Some(dir) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
    }
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = std::fs::OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(nonblock).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok((file, meta.len()))
}

/// Gives `path` the name `path.1`, that one `path.2`, and so on; the one that would be number `kept` is replaced.
///
/// # Errors
/// Those of the system; a file that is not there is no error.
#[expect(clippy::disallowed_methods, reason = "disk/ is the home of the file system")]
pub fn rotate(path: &Path, kept: u32) -> io::Result<()> {
    let name = |number: u32| match number {
        0 => path.to_path_buf(),
        n => PathBuf::from(format!("{}.{n}", path.display())),
    };
    for number in (1..kept.max(2)).rev() {
        match std::fs::rename(name(number - 1), name(number)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// Replaces a file that everybody may read by one with these bytes: written beside it as `<name>.new`, then renamed. Not
/// synced: nothing depends on it.
///
/// # Errors
/// Those of the system; the old file is then still there.
#[expect(clippy::disallowed_methods, reason = "disk/ is the home of the file system")]
pub fn publish(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let candidate = Path::new(&name);
    match std::fs::remove_file(candidate) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(candidate);
    file?.write_all(bytes)?;
    std::fs::rename(candidate, path)
}

/// A process as the system shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Name of its program.
    pub name: String,
    /// Its state, a letter of `proc_pid_stat(5)`: `R` runs, `S` sleeps, `D` waits for a disk, `T` is stopped, `Z` has ended.
    pub state: char,
    /// Names of its threads that wait for a disk.
    pub waiting: Vec<String>,
}

/// The process of this number; `None` if there is none.
#[must_use]
pub fn process(pid: u32) -> Option<Process> {
    let stat = |path: PathBuf| {
        let text = std::fs::read_to_string(path.join("stat")).ok()?;
        // The name may hold anything, also brackets.
        let (name, rest) = text.split_once('(')?.1.rsplit_once(") ")?;
        Some((name.to_owned(), rest.chars().next()?))
    };
    let path = PathBuf::from(format!("/proc/{pid}"));
    let (name, state) = stat(path.clone())?;
    let threads = std::fs::read_dir(path.join("task")).into_iter().flatten().flatten();
    let waiting = threads.filter_map(|thread| stat(thread.path())).filter(|(_, state)| *state == 'D');
    Some(Process { name, state, waiting: waiting.map(|(name, _)| name).collect() })
}

/// The process that holds the lock on a file (`flock(2)`), as the system lists it; the lock is not touched.
#[must_use]
pub fn lock_holder(path: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    let inode = format!(":{}", std::fs::metadata(path).ok()?.ino());
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    // `1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF`
    let of_it = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let flock = words.next() == Some("FLOCK");
        let pid = words.nth(2)?.parse().ok()?;
        (flock && words.next()?.ends_with(&inode)).then_some(pid)
    };
    locks.lines().find_map(of_it)
}

/// Resident memory of this process in bytes; 0 where the system does not tell.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "disk/ is the home of the file system")]
pub fn resident_bytes() -> u64 {
    let statm = std::fs::read("/proc/self/statm");
    let pages =
        statm.ok().and_then(|t| String::from_utf8(t).ok()).and_then(|t| t.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}
