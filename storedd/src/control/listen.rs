//! The socket's place in the file system.
//!
//! # Operation
//! The socket is bound under a temporary name in the same directory, gets its mode while nobody can connect to it yet (it
//! does not listen), listens, and is then renamed: so under its name there is at every moment the old socket or a new one
//! that works, never one that is open to others. A name that is in use is replaced only if it is a socket of this user
//! that nobody listens on; the caller holds the store's lock by then, so that it is a dead daemon's.
//!
//! # Invariants
//! * Mode 0660 at most, never for others.
//! * Whoever may write the directory could put another socket there: it must belong to root or this user, and be writable
//!   by nobody else (or have the sticky bit).
//! * A socket that the service manager made stays the service manager's: its name is never removed here.

use crate::error::{Result, StoreError, exit};
use proto::client::SOCKET_PATH_BYTES_MAX as PATH_BYTES_MAX;
use rustix::fs::{AtFlags, FileType, Mode, Stat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Connections that wait in the kernel to be accepted.
const BACKLOG: i32 = 1024;
/// Name under which the socket is bound first, in the same directory.
const TEMPORARY: &str = ".sock.new";

/// A listening socket. Its name goes when it is dropped, or when the door that got it closes.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    /// None for a socket that was handed over.
    unlink: Option<Unlink>,
}

/// Removes the name if it still is this socket's.
#[derive(Debug)]
pub(crate) struct Unlink {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for Unlink {
    fn drop(&mut self) {
        if let Ok(Some(stat)) = look(&self.path)
            && (stat.st_dev, stat.st_ino) == (self.device, self.inode)
        {
            // A name that is left behind is taken for a dead daemon's by the next start.
            let _ = rustix::fs::unlink(&self.path);
        }
    }
}

impl Listener {
    /// Listens at `path` with `mode` (of which only bits of 0660 count). The store's lock must be held.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the path is too long, the directory can be written by others, another process listens
    /// there, or something lies there that is not a dead socket of this user; [`StoreError::Io`] from the system.
    pub fn bind(path: &Path, mode: u32) -> Result<Listener> {
        let mode = Mode::from_raw_mode(mode & 0o660);
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let temporary = directory.join(TEMPORARY);
        check_length(path, &temporary)?;
        check_directory(&directory)?;
        check_present(path)?;
        let error = |op| move |e: Errno| StoreError::io(op, shown(path), e.into());
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(error("socket"))?;
        remove_leftover(&temporary)?;
        // Linux makes the file with the mode of the socket, less the umask.
        rustix::fs::fchmod(&socket, mode).map_err(error("chmod"))?;
        let address = SocketAddrUnix::new(&temporary).map_err(error("bind"))?;
        rustix::net::bind(&socket, &address).map_err(error("bind"))?;
        let listening = finish(&socket, &temporary, path, mode);
        let stat = listening.inspect_err(|_| {
            // The first error is the one to tell.
            let _ = rustix::fs::unlink(&temporary);
        })?;
        let unlink = Unlink { path: path.to_owned(), device: stat.st_dev, inode: stat.st_ino };
        Ok(Listener { socket, unlink: Some(unlink) })
    }

    /// Listens on a socket that the service manager made and listens on already. It must be the one at `path`, and not be
    /// open to others.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if it does not listen, has another name, or is open to others; [`StoreError::Io`] from the
    /// system.
    pub fn inherit(handed: &UnixListener, path: &Path) -> Result<Listener> {
        let io = |op| move |e: io::Error| StoreError::io(op, shown(path), e);
        let address = handed.local_addr().map_err(io("getsockname"))?;
        let found = address.as_pathname().map_or_else(|| "a socket without a path".to_owned(), shown);
        let listens = rustix::net::sockopt::socket_acceptconn(handed).map_err(|e| io("getsockopt")(e.into()))?;
        if address.as_pathname() != Some(path) || !listens {
            let state = if listens { "" } else { ", which does not listen" };
            return Err(refused(
                format!("the service manager handed over {found}{state}; expected {}, listening", shown(path)),
                "make ListenStream= of the socket unit and the socket of the configuration the same path",
                exit::CONFIG,
            ));
        }
        let mode = rustix::fs::stat(path).map_err(|e| StoreError::io("stat", shown(path), e.into()))?.st_mode & 0o7777;
        if mode & 0o007 != 0 {
            return Err(refused(
                format!("socket {found}: mode {mode:04o}, expected 0660 at most"),
                "give the socket unit SocketMode=0660",
                exit::NOT_PERMITTED,
            ));
        }
        let socket = handed.try_clone().map_err(io("dup"))?;
        socket.set_nonblocking(true).map_err(io("fcntl"))?;
        Ok(Listener { socket: socket.into(), unlink: None })
    }

    pub(crate) fn into_tokio(self) -> io::Result<(tokio::net::UnixListener, Option<Unlink>)> {
        let listener = UnixListener::from(self.socket);
        Ok((tokio::net::UnixListener::from_std(listener)?, self.unlink))
    }
}

/// Everything between the bound temporary name and the listening final one.
fn finish(socket: &OwnedFd, temporary: &Path, path: &Path, mode: Mode) -> Result<Stat> {
    let error = |op| move |e: Errno| StoreError::io(op, shown(path), e.into());
    rustix::fs::chmod(temporary, mode).map_err(error("chmod"))?;
    let stat = rustix::fs::lstat(temporary).map_err(error("stat"))?;
    rustix::net::listen(socket, BACKLOG).map_err(error("listen"))?;
    rustix::fs::rename(temporary, path).map_err(error("rename"))?;
    Ok(stat)
}

fn check_length(path: &Path, temporary: &Path) -> Result<()> {
    let bytes = path.as_os_str().len().max(temporary.as_os_str().len());
    if bytes <= PATH_BYTES_MAX {
        return Ok(());
    }
    Err(refused(
        format!("socket {}: a path of {bytes} bytes, at most {PATH_BYTES_MAX} are possible", shown(path)),
        "give a shorter one with --socket",
        exit::CONFIG,
    ))
}

fn check_directory(directory: &Path) -> Result<()> {
    let stat = rustix::fs::stat(directory).map_err(|e| StoreError::io("stat", shown(directory), e.into()))?;
    let user = rustix::process::geteuid().as_raw();
    let others = stat.st_mode & 0o022 != 0 && stat.st_mode & 0o1000 == 0;
    if others || (stat.st_uid != user && stat.st_uid != 0) {
        return Err(refused(
            format!(
                "directory {} of the socket: mode {:04o}, owner {}; expected to be writable by user {user} alone",
                shown(directory),
                stat.st_mode & 0o7777,
                stat.st_uid
            ),
            format!("run: chmod go-w {0}; or give a socket elsewhere with --socket", shown(directory)),
            exit::NOT_PERMITTED,
        ));
    }
    Ok(())
}

/// Looks at what lies where the socket is to be.
fn check_present(path: &Path) -> Result<()> {
    let Some(stat) = look(path)? else { return Ok(()) };
    let found = FileType::from_raw_mode(stat.st_mode);
    if found != FileType::Socket {
        return Err(refused(
            format!("{}: found {found:?}, expected nothing or a dead socket", shown(path)),
            "remove it, or give another path with --socket",
            exit::EXISTS,
        ));
    }
    let user = rustix::process::geteuid().as_raw();
    if stat.st_uid != user {
        return Err(refused(
            format!("{}: a socket of user {}, expected one of user {user}", shown(path), stat.st_uid),
            "remove it, or give another path with --socket",
            exit::EXISTS,
        ));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => Ok(()),
        Ok(_) => Err(refused(
            format!("{}: another process listens there", shown(path)),
            "stop it, or give another path with --socket",
            exit::BUSY,
        )),
        Err(e) => Err(StoreError::io("connect", shown(path), e)),
    }
}

/// What a name stands for, links not followed.
fn look(path: &Path) -> Result<Option<Stat>> {
    match rustix::fs::statat(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(StoreError::io("stat", shown(path), e.into())),
    }
}

/// A start that was killed between bind and rename leaves the temporary name.
fn remove_leftover(temporary: &Path) -> Result<()> {
    match rustix::fs::unlink(temporary) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(StoreError::io("remove", shown(temporary), e.into())),
    }
}

fn refused(message: String, hint: impl Into<String>, exit: u8) -> StoreError {
    StoreError::Refused { message, hint: hint.into(), exit }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests lay out files")]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    fn directory() -> tempfile::TempDir {
        tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o700)).tempdir().unwrap()
    }

    fn text(result: Result<Listener>) -> (u8, String) {
        let error = result.unwrap_err();
        assert!(error.hint().is_some(), "{error}");
        (error.exit(), error.to_string())
    }

    #[test]
    fn the_socket_works_and_its_name_goes_with_it() {
        let dir = directory();
        let path = dir.path().join("s");
        let listener = Listener::bind(&path, 0o777).unwrap();
        UnixStream::connect(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o660, "0660 at most");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary name is left");
        drop(listener);
        assert!(!path.exists());
    }

    // S1
    /// Whoever looks in between sees no socket that is open to others, under any name.
    #[test]
    fn the_socket_is_never_wider_than_asked() {
        let dir = directory();
        let path = dir.path().join("s");
        let (stop, seen) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for name in ["s", TEMPORARY] {
                        if let Ok(found) = std::fs::symlink_metadata(dir.path().join(name)) {
                            assert_eq!(found.permissions().mode() & 0o117, 0, "{name}");
                            seen.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
            // As often as it takes to be watched: the thread may begin late.
            let mut made = 0;
            while !watch.is_finished() && (made < 500 || seen.load(Ordering::Relaxed) < 100) {
                drop(Listener::bind(&path, 0o660).unwrap());
                made += 1;
            }
            stop.store(true, Ordering::Relaxed);
            watch.join().unwrap();
        });
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
        let dir = directory();
        let path = dir.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let first = Listener::bind(&path, 0o600).unwrap();
        let (code, message) = text(Listener::bind(&path, 0o600));
        assert_eq!(code, exit::BUSY);
        assert!(message.contains("another process listens"), "{message}");
        UnixStream::connect(&path).unwrap();
        drop(first);
    }

    #[test]
    fn a_name_taken_over_by_another_is_left_alone() {
        let dir = directory();
        let path = dir.path().join("s");
        let first = Listener::bind(&path, 0o600).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(first);
        assert!(path.exists());
    }

    #[test]
    fn a_socket_that_is_handed_over_is_used_and_left_behind() {
        let dir = directory();
        let path = dir.path().join("s");
        let handed = UnixListener::bind(&path).unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o660);
        let _waits = UnixStream::connect(&path).unwrap();
        let listener = Listener::inherit(&handed, &path).unwrap();
        UnixListener::from(listener.socket).accept().unwrap();
        UnixStream::connect(&path).unwrap();

        let (code, message) = text(Listener::inherit(&handed, &dir.path().join("other")));
        assert_eq!(code, exit::CONFIG);
        assert!(message.contains(path.to_str().unwrap()), "{message}");
        mode(0o666);
        let (code, message) = text(Listener::inherit(&handed, &path));
        assert_eq!(code, exit::NOT_PERMITTED);
        assert!(message.contains("0666"), "{message}");
    }

    #[test]
    fn a_leftover_temporary_name_does_no_harm() {
        let dir = directory();
        drop(UnixListener::bind(dir.path().join(TEMPORARY)).unwrap());
        Listener::bind(&dir.path().join("s"), 0o600).unwrap();
    }

    // S1
    #[test]
    fn files_links_and_directories_are_never_replaced() {
        let dir = directory();
        let path = dir.path().join("s");
        std::fs::write(&path, b"mail").unwrap();
        assert_eq!(text(Listener::bind(&path, 0o600)).0, exit::EXISTS);
        assert_eq!(std::fs::read(&path).unwrap(), b"mail");
        std::fs::remove_file(&path).unwrap();
        symlink("/etc/passwd", &path).unwrap();
        assert_eq!(text(Listener::bind(&path, 0o600)).0, exit::EXISTS);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(text(Listener::bind(&path, 0o600)).0, exit::EXISTS);
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let dir = directory();
        let path = dir.path().join("s");
        let mode = |mode| std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        for bad in [0o770, 0o707] {
            mode(bad);
            let (code, message) = text(Listener::bind(&path, 0o600));
            assert_eq!(code, exit::NOT_PERMITTED);
            assert!(message.contains(&format!("{bad:04o}")), "{message}");
        }
        mode(0o1777);
        Listener::bind(&path, 0o600).unwrap();
    }

    #[test]
    fn too_long_a_path_is_named_with_the_limit() {
        let dir = directory();
        let (code, message) = text(Listener::bind(&dir.path().join("x".repeat(120)), 0o600));
        assert_eq!(code, exit::CONFIG);
        assert!(message.contains("at most 107"), "{message}");
        let room = PATH_BYTES_MAX - dir.path().as_os_str().len() - 1;
        let longest = dir.path().join("x".repeat(room));
        let _listener = Listener::bind(&longest, 0o600).unwrap();
        UnixStream::connect(&longest).unwrap();
    }

    #[test]
    fn a_missing_directory_is_an_error_of_the_system() {
        let dir = directory();
        let error = Listener::bind(&dir.path().join("no/s"), 0o600).unwrap_err();
        assert!(matches!(error, StoreError::Io { op: "stat", .. }), "{error}");
    }
}
