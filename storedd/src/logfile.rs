//! The message log: a file that is bounded, for hosts whose journal is not kept or not read.
//!
//! `storedd.log` is what is written; at its limit it becomes `storedd.log.1`, that one `.2`, and so on. A message that
//! cannot be written is dropped, and the first such failure is said on stderr: a disk under the messages that is full, or does
//! not answer, must not stop the store. So they are written by a thread of their own ([`crate::logsink`]).

use crate::disk::outside;
use crate::logsink::Target;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Name of the file in its directory.
pub const FILE: &str = "storedd.log";

/// So many lines are dropped between two attempts at a file that cannot be opened or renamed.
const LINES_SKIPPED: u32 = 100;

/// An open message log.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    limit: u64,
    kept: u32,
    open: Mutex<Open>,
    /// The name is to be opened again before the next line.
    stale: AtomicBool,
}

#[derive(Debug, Default)]
struct Open {
    file: Option<File>,
    len: u64,
    complained: bool,
    /// Lines to drop before the next attempt at what has failed.
    skip: u32,
}

impl LogFile {
    /// The log in `directory`, of at most `kept` files of about `limit` bytes each; `None` if the directory is empty. Nothing is
    /// opened before the first line.
    #[must_use]
    pub fn open(directory: &Path, limit: u64, kept: u32) -> Option<LogFile> {
        if directory.as_os_str().is_empty() {
            return None;
        }
        let (open, stale) = Default::default();
        Some(LogFile { path: directory.join(FILE), limit, kept, open, stale })
    }

    /// Has the file opened by its name before the next line; never waits for a disk.
    pub fn reopen(&self) {
        self.stale.store(true, Ordering::Release);
    }

    /// Opens the file if it is not; one that cannot be opened is tried again now and then, not at every line.
    fn ensure(&self, open: &mut Open) {
        if open.file.is_some() || !open.may_try() {
            return;
        }
        match outside::append(&self.path) {
            Ok((file, len)) => *open = Open { file: Some(file), len, ..Open::default() },
            Err(e) => self.failed(open, &e),
        }
    }

    /// Says the first failure in a row; the lines until the next attempt are dropped.
    fn failed(&self, open: &mut Open, e: &io::Error) {
        if !std::mem::replace(&mut open.complained, true) {
            eprintln!("storedd: messages are not written to {}: {e}", self.path.display());
        }
        open.skip = LINES_SKIPPED;
    }

    fn append(&self, line: &[u8]) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if self.stale.swap(false, Ordering::AcqRel) {
            open.file = None;
        }
        self.ensure(&mut open);
        if open.file.is_some() && open.len > 0 && open.len + line.len() as u64 > self.limit {
            if !open.may_try() {
                return;
            }
            if let Err(e) = outside::rotate(&self.path, self.kept) {
                return self.failed(&mut open, &e);
            }
            open.file = None;
            self.ensure(&mut open);
        }
        let Some(file) = &mut open.file else { return };
        match file.write_all(line) {
            Ok(()) => open.len += line.len() as u64,
            Err(e) => self.failed(&mut open, &e),
        }
    }
}

impl Open {
    /// True if the last failure lies far enough back.
    fn may_try(&mut self) -> bool {
        self.skip = self.skip.saturating_sub(1);
        self.skip == 0
    }
}

/// Behind a [`crate::logsink::Sink`] a disk that does not answer costs messages and nothing else.
impl Target for Arc<LogFile> {
    fn write(&self, lines: &[u8]) -> io::Result<()> {
        self.append(lines);
        Ok(())
    }

    /// A file always says that it has room, and may hold its writer all the same.
    fn has_room(&self) -> bool {
        false
    }
}

/// One line at a time, whole.
impl Write for &LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.append(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests look at files")]
mod tests {
    use super::*;

    fn text(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn files_are_bounded_in_size_and_number() {
        let dir = tempfile::tempdir().unwrap();
        let log = LogFile::open(&dir.path().join("a/b"), 10, 3).unwrap();
        for n in 0..9 {
            (&log).write_all(format!("line{n}\n").as_bytes()).unwrap();
        }
        let at = |name: &str| text(&dir.path().join("a/b").join(name));
        assert_eq!(
            (at("storedd.log"), at("storedd.log.1"), at("storedd.log.2")),
            ("line8\n".into(), "line7\n".into(), "line6\n".into())
        );
        assert_eq!(std::fs::read_dir(dir.path().join("a/b")).unwrap().count(), 3);
        // A line longer than the limit is written whole, and a new process goes on behind what is there.
        drop(log);
        let log = LogFile::open(&dir.path().join("a/b"), 30, 3).unwrap();
        (&log).write_all(b"a line that is longer than all\n").unwrap();
        assert_eq!(at("storedd.log"), "a line that is longer than all\n");
        assert_eq!(at("storedd.log.1"), "line8\n");
    }

    #[test]
    fn a_file_that_was_moved_away_is_left_behind_by_a_reopen() {
        let dir = tempfile::tempdir().unwrap();
        let log = LogFile::open(dir.path(), 1000, 3).unwrap();
        (&log).write_all(b"one\n").unwrap();
        std::fs::rename(dir.path().join(FILE), dir.path().join("moved")).unwrap();
        (&log).write_all(b"two\n").unwrap();
        log.reopen();
        (&log).write_all(b"three\n").unwrap();
        assert_eq!(text(&dir.path().join("moved")), "one\ntwo\n");
        assert_eq!(text(&dir.path().join(FILE)), "three\n");
    }

    // A rotation whose new file could not be opened was done again at every line, until no old file was left.
    #[test]
    fn what_cannot_be_opened_or_renamed_costs_no_old_file_and_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let log = LogFile::open(dir.path(), 10, 3).unwrap();
        (&log).write_all(b"first\n").unwrap();
        // Where the second file would go lies a directory that is not empty: renaming fails.
        std::fs::create_dir_all(dir.path().join("storedd.log.1/x")).unwrap();
        std::fs::create_dir_all(dir.path().join("storedd.log.2/x")).unwrap();
        (0..50).for_each(|_| (&log).write_all(b"dropped\n").unwrap());
        assert_eq!(text(&dir.path().join(FILE)), "first\n");
        for name in ["storedd.log.1", "storedd.log.2"] {
            std::fs::remove_dir_all(dir.path().join(name)).unwrap();
        }
        let moved = (0..LINES_SKIPPED).any(|_| {
            (&log).write_all(b"later\n").unwrap();
            dir.path().join("storedd.log.1").exists()
        });
        assert!(moved, "it is tried again");
        assert_eq!(text(&dir.path().join("storedd.log.1")), "first\n");
        assert!(text(&dir.path().join(FILE)).starts_with("later\n"));
        // A new file that cannot be made: the old ones stay what they are.
        drop(log);
        let log = LogFile::open(dir.path(), 10, 3).unwrap();
        std::fs::remove_file(dir.path().join(FILE)).unwrap();
        std::fs::create_dir(dir.path().join(FILE)).unwrap();
        log.reopen();
        (0..50).for_each(|_| (&log).write_all(b"dropped\n").unwrap());
        assert_eq!(text(&dir.path().join("storedd.log.1")), "first\n");
    }

    #[test]
    fn a_directory_that_cannot_be_is_no_failure_of_the_store() {
        let log = LogFile::open(Path::new("/proc/none"), 1000, 3).unwrap();
        (&log).write_all(b"lost\n").unwrap();
        assert!(LogFile::open(Path::new(""), 1000, 3).is_none());
    }
}
