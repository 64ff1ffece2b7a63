//! The limit of everything that looks at a tree of files: listing it, asking for sizes, reading every byte, with as many threads as
//! a disk likes; and caches made cold before.

use crate::device;
use crate::engines::Failure;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// Threads of a scan: what gave the most on disks that were tried.
const THREADS: usize = 16;

/// Files of a tree, and their bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tree {
    /// Files.
    pub files: u64,
    /// Their lengths together.
    pub bytes: u64,
    /// Seconds that it took.
    pub seconds: f64,
}

/// Lists a tree and asks for the size of every file; with `read` reads them, too.
///
/// # Errors
/// Those of the file system.
pub fn scan(root: &Path, read: bool) -> Result<Tree, Failure> {
    let begun = Instant::now();
    let (files, bytes, busy) = (AtomicU64::new(0), AtomicU64::new(0), AtomicUsize::new(0));
    let left: Mutex<Vec<PathBuf>> = Mutex::new(vec![root.to_owned()]);
    let lock = || left.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let work = || -> Result<(), Failure> {
        let mut buffer = vec![0; 1 << 20];
        loop {
            let next = {
                let mut left = lock();
                let next = left.pop();
                // Counted under the lock, so that nobody leaves while another may still find directories.
                busy.fetch_add(usize::from(next.is_some()), Ordering::SeqCst);
                next
            };
            let Some(dir) = next else {
                if busy.load(Ordering::SeqCst) == 0 {
                    return Ok(());
                }
                std::thread::yield_now();
                continue;
            };
            let found = directory(&dir, read, &mut buffer, &mut |below| lock().push(below));
            busy.fetch_sub(1, Ordering::SeqCst);
            let (some, length) = found?;
            files.fetch_add(some, Ordering::Relaxed);
            bytes.fetch_add(length, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|t| t.join().map_err(|_| Failure::new("a thread of the scan panicked"))?)
    })?;
    let (files, bytes) = (files.into_inner(), bytes.into_inner());
    Ok(Tree { files, bytes, seconds: begun.elapsed().as_secs_f64() })
}

fn directory(dir: &Path, read: bool, buffer: &mut [u8], below: &mut dyn FnMut(PathBuf)) -> Result<(u64, u64), Failure> {
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            below(entry.path());
            continue;
        }
        let length = entry.metadata()?.len();
        (files, bytes) = (files + 1, bytes + length);
        if read {
            let mut file = File::open(entry.path())?;
            while file.read(buffer)? > 0 {}
        }
    }
    Ok((files, bytes))
}

/// Makes the caches cold for a tree, as far as this process may. True if names and sizes are cold, too; else only contents are.
///
/// # Errors
/// Those of the file system.
pub fn cool(root: &Path) -> Result<bool, Failure> {
    // Dirty pages are not dropped.
    let _ = std::process::Command::new("sync").arg("--file-system").arg(root).status();
    if fs::write("/proc/sys/vm/drop_caches", "3").is_ok() {
        return Ok(true);
    }
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => left.push(entry.path()),
                false => device::forget_cached(&File::open(entry.path())?),
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_met_once() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..300_usize {
            let below = dir.path().join(format!("{}/{}", n % 7, n % 11));
            fs::create_dir_all(&below).unwrap();
            fs::write(below.join(n.to_string()), vec![b'x'; n]).unwrap();
        }
        for read in [false, true] {
            let tree = scan(dir.path(), read).unwrap();
            assert_eq!((tree.files, tree.bytes), (300, 300 * 299 / 2));
        }
    }
}
