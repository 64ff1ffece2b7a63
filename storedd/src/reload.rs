//! Notices that the configuration file has changed. The only file that names `notify`.
//!
//! Directories are watched, not the file: editors and configuration managers put a new file in its place, and a watch on
//! the old one would see nothing more. Where symbolic links lead to the file, the directory of each is watched too, so that
//! a link that is swapped anywhere on the way is noticed. Reading the file makes events of its own, so what counts is whether its bytes
//! differ from those seen last. This is a convenience; SIGHUP works where there are no events (NFS, FUSE).

use crate::config::FILE_BYTES_MAX;
use crate::disk::outside;
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// Events are taken together until there is none for so long ...
const QUIET: Duration = Duration::from_millis(300);
/// ... but no more than so many times in a row.
const QUIET_TURNS_MAX: u32 = 20;

/// Watches as long as it lives.
#[derive(Debug)]
pub struct FileWatch {
    _watched: Arc<Mutex<Watched>>,
}

/// What is watched now.
#[derive(Debug)]
struct Watched {
    watcher: RecommendedWatcher,
    dirs: BTreeSet<PathBuf>,
}

impl Watched {
    /// Watches the directories on the way to `path`, and no others.
    fn follow(&mut self, path: &Path) -> notify::Result<()> {
        let dirs = outside::directories_to(path);
        for gone in self.dirs.difference(&dirs) {
            // A directory that was removed is watched no more.
            let _ = self.watcher.unwatch(gone);
        }
        let mut result = Ok(());
        self.dirs.retain(|dir| dirs.contains(dir));
        // Only what is new: a directory in which files change all the time keeps the watcher from listening to us.
        for dir in dirs {
            if !self.dirs.contains(&dir) {
                match self.watcher.watch(&dir, RecursiveMode::NonRecursive) {
                    Ok(()) => drop(self.dirs.insert(dir)),
                    Err(e) => result = Err(e),
                }
            }
        }
        result
    }
}

/// Calls `changed` after the content of `path` changed, on a thread of its own. A file that is away, or being written, is
/// not a change; when it is back with other bytes, it is.
///
/// # Errors
/// If the directory cannot be watched; the text says why.
pub fn watch(path: &Path, changed: impl FnMut() + Send + 'static) -> io::Result<FileWatch> {
    let path = std::path::absolute(path)?;
    let (tell, events) = channel();
    let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if event.is_ok_and(|e| counts(e.kind)) {
            let _ = tell.send(());
        }
    })
    .map_err(to_io)?;
    let mut watched = Watched { watcher, dirs: BTreeSet::new() };
    watched.follow(&path).map_err(to_io)?;
    let watched = Arc::new(Mutex::new(watched));
    let weak = Arc::downgrade(&watched);
    // Read after the watch began, so that no change falls between the two.
    let seen = read(&path);
    let run = move || follow(&path, seen, &events, &weak, changed);
    std::thread::Builder::new().name("reload".to_owned()).spawn(run)?;
    Ok(FileWatch { _watched: watched })
}

/// Opening and reading are no changes.
fn counts(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

fn follow(
    path: &Path,
    mut seen: Option<Vec<u8>>,
    events: &Receiver<()>,
    watched: &Weak<Mutex<Watched>>,
    mut changed: impl FnMut(),
) {
    while events.recv().is_ok() {
        for _ in 0..QUIET_TURNS_MAX {
            match events.recv_timeout(QUIET) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        let mut look = || {
            let now = read(path);
            if now.is_some() && now != seen {
                seen = now;
                changed();
            }
        };
        look();
        if let Some(watched) = watched.upgrade() {
            // What cannot be watched now is away; when it is back, its directory says so.
            let _ = watched.lock().unwrap_or_else(PoisonError::into_inner).follow(path);
            // Directories that were not watched until now may have changed meanwhile.
            look();
        }
    }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    outside::read(path, FILE_BYTES_MAX).ok()
}

fn to_io(e: notify::Error) -> io::Error {
    match e.kind {
        notify::ErrorKind::Io(e) => e,
        kind => io::Error::other(format!("{kind:?}")),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test makes its own files")]
mod tests {
    use super::*;
    use std::fs;

    const LONG: Duration = Duration::from_secs(10);
    const SHORT: Duration = Duration::from_millis(900);

    #[test]
    fn every_way_of_changing_a_file_is_noticed_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("storedd.toml");
        fs::write(&path, "a").unwrap();
        let (tell, heard) = channel();
        let watch = watch(&path, move || tell.send(()).unwrap()).unwrap();

        fs::write(&path, "b").unwrap();
        heard.recv_timeout(LONG).expect("written in place");
        fs::write(dir.path().join("new"), "c").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        heard.recv_timeout(LONG).expect("replaced");
        assert!(heard.recv_timeout(SHORT).is_err(), "reading is no change");

        fs::write(&path, "c").unwrap();
        fs::write(dir.path().join("other"), "x").unwrap();
        assert!(heard.recv_timeout(SHORT).is_err(), "the same bytes, and another file");

        fs::remove_file(&path).unwrap();
        assert!(heard.recv_timeout(SHORT).is_err(), "away is not changed");
        std::os::unix::fs::symlink(dir.path().join("other"), &path).unwrap();
        heard.recv_timeout(LONG).expect("now a link to other bytes");
        drop(watch);
    }

    // The file is a link into a directory that is itself a link, as configuration managers lay it out.
    #[test]
    fn a_link_swapped_on_the_way_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        for (version, text) in [("v1", "a"), ("v2", "b"), ("v3", "c")] {
            fs::create_dir_all(dir.path().join("versions").join(version)).unwrap();
            fs::write(dir.path().join("versions").join(version).join("storedd.toml"), text).unwrap();
        }
        fs::create_dir(dir.path().join("etc")).unwrap();
        let (current, path) = (dir.path().join("versions/current"), dir.path().join("etc/storedd.toml"));
        let swap = |to: &str| {
            std::os::unix::fs::symlink(to, dir.path().join("versions/new")).unwrap();
            fs::rename(dir.path().join("versions/new"), &current).unwrap();
        };
        swap("v1");
        std::os::unix::fs::symlink("../versions/current/storedd.toml", &path).unwrap();
        let (tell, heard) = channel();
        let watch = watch(&path, move || tell.send(()).unwrap()).unwrap();
        swap("v2");
        heard.recv_timeout(LONG).expect("swapped");
        swap("v3");
        heard.recv_timeout(LONG).expect("swapped again");
        fs::write(dir.path().join("versions/v3/storedd.toml"), "d").unwrap();
        heard.recv_timeout(LONG).expect("written in place behind the links");
        drop(watch);
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        assert!(watch(Path::new("/nonexistent/dir/storedd.toml"), || {}).is_err());
    }
}
