//! Notices that the configuration file has changed. The only file that names `notify`.
//!
//! The directory is watched, not the file: editors and configuration managers put a new file in its place, and a watch
//! on the old one would see nothing more. Reading the file makes events of its own, so what counts is whether its bytes
//! differ from those seen last. This is a convenience; SIGHUP works where there are no events (NFS, FUSE).

use crate::config::FILE_BYTES_MAX;
use crate::disk::outside;
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Events are taken together until there is none for so long ...
const QUIET: Duration = Duration::from_millis(300);
/// ... but no more than so many times in a row.
const QUIET_TURNS_MAX: u32 = 20;

/// Watches as long as it lives.
#[derive(Debug)]
pub struct FileWatch {
    _watcher: RecommendedWatcher,
}

/// Calls `changed` after the content of `path` changed, on a thread of its own. A file that is away, or being written, is
/// not a change; when it is back with other bytes, it is.
///
/// # Errors
/// If the directory cannot be watched; the text says why.
pub fn watch(path: &Path, changed: impl FnMut() + Send + 'static) -> io::Result<FileWatch> {
    let path = std::path::absolute(path)?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    let (tell, events) = channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if event.is_ok_and(|e| counts(e.kind)) {
            let _ = tell.send(());
        }
    })
    .map_err(to_io)?;
    watcher.watch(dir, RecursiveMode::NonRecursive).map_err(to_io)?;
    // Read after the watch began, so that no change falls between the two.
    let seen = read(&path);
    let run = move || follow(&path, seen, &events, changed);
    std::thread::Builder::new().name("reload".to_owned()).spawn(run)?;
    Ok(FileWatch { _watcher: watcher })
}

/// Opening and reading are no changes.
fn counts(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

fn follow(path: &Path, mut seen: Option<Vec<u8>>, events: &Receiver<()>, mut changed: impl FnMut()) {
    while events.recv().is_ok() {
        for _ in 0..QUIET_TURNS_MAX {
            match events.recv_timeout(QUIET) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        let now = read(path);
        if now.is_some() && now != seen {
            seen = now;
            changed();
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

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        assert!(watch(Path::new("/nonexistent/dir/storedd.toml"), || {}).is_err());
    }
}
