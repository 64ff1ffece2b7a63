//! The two devices every engine is measured on.
//!
//! # Purpose
//! A shared disk swings fourfold within minutes, so ratios between engines mean something only on a device that treats
//! all of them alike. The *controlled device* is a directory in memory on which every sync takes a fixed time; the
//! *real disk* is a directory of a real file system, where nothing is changed and syncs are only counted.
//!
//! # Operation
//! This executable defines `fsync`, `fdatasync`, `msync` and `pwrite` itself. The linker takes these definitions for
//! everything linked into it: the standard library (redb, fjall) and the C code of SQLite and LMDB. On the controlled
//! device they sleep for the fixed time instead of asking the system; LMDB writes its meta page through a descriptor
//! opened with `O_DSYNC`, so a write to such a descriptor counts as a sync, too. storedd asks the kernel directly, past
//! the C library; it gets the same sleep from [`DelayDisk`], the same way at the same places.
//!
//! # Limits
//! There is no bandwidth limit, and syncs of different threads overlap freely. Ratios to the raw group commit (R) on the
//! same device mean something, absolute figures do not.
#![allow(unsafe_code)]

use libc::{c_int, c_void, off_t, size_t, ssize_t};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use storedd::disk::{Access, Disk, DiskFile, Entry, Lock};

static DELAY_NS: AtomicU64 = AtomicU64::new(0);
static SYNCS: AtomicU64 = AtomicU64::new(0);

/// Every sync takes `delay` from now on; zero: syncs go to the system.
pub fn control(delay: Duration) {
    DELAY_NS.store(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
}

/// Syncs since the program started, of all engines.
pub fn syncs() -> u64 {
    SYNCS.load(Ordering::Relaxed)
}

/// Lets sleeps of this thread, and of all threads it starts later, end within a microsecond or so of their time
/// instead of 50 us later.
pub fn sharpen_sleep() {
    // SAFETY: PR_SET_TIMERSLACK takes one integer and touches no memory.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64);
    }
}

/// The fixed time of one sync; returns false at once where syncs are real.
fn delayed() -> bool {
    SYNCS.fetch_add(1, Ordering::Relaxed);
    let ns = DELAY_NS.load(Ordering::Relaxed);
    if ns > 0 {
        std::thread::sleep(Duration::from_nanos(ns));
    }
    ns > 0
}

/// `fsync` of this executable.
#[unsafe(no_mangle)]
pub extern "C" fn fsync(fd: c_int) -> c_int {
    if delayed() {
        return 0;
    }
    // SAFETY: the system call takes a descriptor and touches no memory.
    unsafe { libc::syscall(libc::SYS_fsync, fd) as c_int }
}

/// `fdatasync` of this executable.
#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(fd: c_int) -> c_int {
    if delayed() {
        return 0;
    }
    // SAFETY: the system call takes a descriptor and touches no memory.
    unsafe { libc::syscall(libc::SYS_fdatasync, fd) as c_int }
}

/// `msync` of this executable.
///
/// # Safety
/// As the system's: the range is mapped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msync(address: *mut c_void, len: size_t, flags: c_int) -> c_int {
    if flags & libc::MS_SYNC != 0 && delayed() {
        return 0;
    }
    // SAFETY: passed on as it came.
    unsafe { libc::syscall(libc::SYS_msync, address, len, flags) as c_int }
}

/// `pwrite` of this executable: counts and delays writes to `O_DSYNC` descriptors.
///
/// # Safety
/// As the system's: `len` bytes are readable at `bytes`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(fd: c_int, bytes: *const c_void, len: size_t, offset: off_t) -> ssize_t {
    // SAFETY: passed on as it came; F_GETFL takes no argument and touches no memory.
    let (written, flags) = unsafe {
        let written = libc::syscall(libc::SYS_pwrite64, fd, bytes, len, offset) as ssize_t;
        (written, if written >= 0 { libc::fcntl(fd, libc::F_GETFL) } else { 0 })
    };
    if flags > 0 && flags & libc::O_DSYNC != 0 {
        delayed();
    }
    written
}

/// `pwrite64` of this executable, as [`pwrite`].
///
/// # Safety
/// As [`pwrite`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(fd: c_int, bytes: *const c_void, len: size_t, offset: off_t) -> ssize_t {
    // SAFETY: the same contract.
    unsafe { pwrite(fd, bytes, len, offset) }
}

/// Drops a file's pages from the page cache, so that the next reader reads the device. A hint; what is dirty stays.
pub fn forget_cached(file: &std::fs::File) {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open as long as `file` is borrowed; no memory is touched.
    unsafe {
        libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED);
    }
}

/// Syncs of log segments on all [`DelayDisk`]s.
static LOG_SYNCS: AtomicU64 = AtomicU64::new(0);

/// Syncs of files that are or become log segments, since the program started.
pub fn log_syncs() -> u64 {
    LOG_SYNCS.load(Ordering::Relaxed)
}

/// A store's disk whose syncs take the time of the device.
#[derive(Debug)]
pub struct DelayDisk {
    disk: Arc<dyn Disk>,
    /// Open files by name: whether each is a log segment by now (segments are spares that were renamed).
    segments: Mutex<HashMap<String, Arc<AtomicBool>>>,
}

#[derive(Debug)]
struct DelayFile {
    file: Arc<dyn DiskFile>,
    is_segment: Arc<AtomicBool>,
}

fn is_segment(path: &str) -> bool {
    storedd::wal::file_number(path).is_some()
}

impl DelayDisk {
    /// The same disk with other syncs.
    pub fn new(disk: Arc<dyn Disk>) -> DelayDisk {
        DelayDisk { disk, segments: Mutex::default() }
    }

    fn segments(&self) -> MutexGuard<'_, HashMap<String, Arc<AtomicBool>>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for DelayDisk {
    fn open(&self, path: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, access)?;
        let mut segments = self.segments();
        let flag = segments.entry(path.to_owned()).or_insert_with(|| Arc::new(AtomicBool::new(is_segment(path))));
        Ok(Arc::new(DelayFile { file, is_segment: Arc::clone(flag) }))
    }
    fn stat(&self, path: &str) -> io::Result<Option<Entry>> {
        self.disk.stat(path)
    }
    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        self.disk.list(dir)
    }
    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.create_dir(dir)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)?;
        let mut segments = self.segments();
        if let Some(flag) = segments.remove(from) {
            flag.store(is_segment(to), Ordering::Relaxed);
            segments.insert(to.to_owned(), flag);
        }
        Ok(())
    }
    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.link(from, to)
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.segments().remove(path);
        self.disk.remove(path)
    }
    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.remove_dir(dir)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        if delayed() { Ok(()) } else { self.disk.sync_dir(dir) }
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
    fn lock(&self, path: &str, owner: &str) -> io::Result<Box<dyn Lock>> {
        self.disk.lock(path, owner)
    }
    fn display(&self, path: &str) -> String {
        self.disk.display(path)
    }
}

impl DiskFile for DelayFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }
    fn sync_data(&self) -> io::Result<()> {
        LOG_SYNCS.fetch_add(u64::from(self.is_segment.load(Ordering::Relaxed)), Ordering::Relaxed);
        if delayed() { Ok(()) } else { self.file.sync_data() }
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn start_writeback(&self, offset: u64, len: u64) {
        self.file.start_writeback(offset, len);
    }
}
