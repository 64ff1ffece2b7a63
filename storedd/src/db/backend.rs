//! What redb reads and writes through: a file of a [`crate::disk::Disk`]. Locks are not delegated: one process owns the
//! store.

use super::guard::caught;
use super::sums::Sums;
use crate::disk::DiskFile;
use crate::error::{Result, StoreError};
use crate::planted::{self, Bug};
use redb::StorageBackend;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Called with a number of bytes that were just written, from the thread that writes; may sleep. False: the writing ends, as if
/// the disk had failed; only for files that nobody relies on yet.
pub type Pace = Arc<dyn Fn(u64) -> bool + Send + Sync>;

/// After so many bytes written they are synced, and [`Pace`] is called.
pub const BURST_BYTES: u64 = 2 << 20;

/// Most writes remembered, to leave out the second of two equal ones.
const PAGES_MAX: usize = 1 << 20;

/// What one opening of the file met, and the file's name for messages.
#[derive(Debug)]
pub(super) struct Health {
    file: String,
    first: Mutex<Option<StoreError>>,
    abandoned: AtomicBool,
    sync_failed: AtomicBool,
    written: AtomicU64,
    len: AtomicU64,
}

/// Why something inside redb did not go well.
#[derive(Debug)]
pub(super) enum Failed {
    Redb(redb::Error),
    Store(StoreError),
}

impl From<StoreError> for Failed {
    fn from(e: StoreError) -> Failed {
        Failed::Store(e)
    }
}

macro_rules! failed_from {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for Failed {
            fn from(e: redb::$error) -> Failed {
                Failed::Redb(e.into())
            }
        }
    )*};
}
failed_from!(DatabaseError, TransactionError, TableError, StorageError, CommitError, CursorError);

impl Health {
    pub(super) fn new(file: String) -> Health {
        Health {
            file,
            first: Mutex::new(None),
            abandoned: AtomicBool::new(false),
            sync_failed: AtomicBool::new(false),
            written: AtomicU64::new(0),
            len: AtomicU64::new(0),
        }
    }

    /// Name of the file for messages.
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// Bytes written since the file was opened.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    pub(super) fn set_file_bytes(&self, len: u64) {
        self.len.store(len, Ordering::Relaxed);
    }

    /// Length of the file.
    pub(super) fn file_bytes(&self) -> u64 {
        self.len.load(Ordering::Relaxed)
    }

    /// From now on nothing is written: redb's handle may be dropped and leaves the file as it is.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    /// True if a sync failed: what reads back may then not be on the disk.
    pub(super) fn sync_failed(&self) -> bool {
        self.sync_failed.load(Ordering::Acquire)
    }

    /// Refuses every change after a failed sync: redb forgives some failed writes, and a later sync would say "done" for
    /// bytes that the failed one dropped.
    pub(super) fn check_writable(&self) -> io::Result<()> {
        match self.abandoned.load(Ordering::Acquire) || self.sync_failed() {
            true => Err(io::Error::other("the file is no longer written")),
            false => Ok(()),
        }
    }

    /// Syncs `file`, once and for all if it fails.
    pub(super) fn sync(&self, file: &dyn DiskFile) -> io::Result<()> {
        if planted::on(Bug::DatabaseNotSynced) {
            return Ok(());
        }
        file.sync_data().inspect_err(|e| {
            self.sync_failed.store(true, Ordering::Release);
            self.note("sync", e);
        })
    }

    /// Remembers the first failure of the file, because redb answers `PreviousIo` after it.
    pub(super) fn note(&self, op: &'static str, e: &io::Error) -> StoreError {
        let error = if e.kind() == io::ErrorKind::UnexpectedEof {
            super::corrupt(&self.file, "length", format!("{} bytes", self.file_bytes()), "more")
        } else {
            let copy = e.raw_os_error().map(io::Error::from_raw_os_error);
            StoreError::io(op, &self.file, copy.unwrap_or_else(|| io::Error::new(e.kind(), e.to_string())))
        };
        self.first().get_or_insert(error).clone()
    }

    /// A block of the file is not what it was.
    pub(super) fn note_changed(&self, offset: u64) -> io::Error {
        let error = StoreError::Corrupt {
            file: self.file.clone(),
            offset,
            what: "page".to_owned(),
            found: "other bytes".to_owned(),
            expected: "what was there when it was checked or written".to_owned(),
        };
        let text = error.to_string();
        self.first().get_or_insert(error);
        io::Error::new(io::ErrorKind::InvalidData, text)
    }

    /// Somebody wants the work on it to end.
    pub(super) fn note_ended(&self) -> io::Error {
        self.first().get_or_insert(StoreError::Busy { why: format!("the work on {} was ended", self.file) });
        io::Error::other("ended")
    }

    fn first(&self) -> MutexGuard<'_, Option<StoreError>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs something that lets redb read the file; a panic in it is an error.
    pub(super) fn run<T>(&self, op: &'static str, f: impl FnOnce() -> Result<T, Failed>) -> Result<T> {
        match caught(f) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(failed)) => Err(self.explain(op, failed)),
            Err(panic) => Err(self.panicked(op, &panic)),
        }
    }

    #[cold]
    pub(super) fn panicked(&self, op: &'static str, panic: &str) -> StoreError {
        self.broken(op, format!("panic: {panic}"))
    }

    #[cold]
    pub(super) fn explain(&self, op: &'static str, failed: Failed) -> StoreError {
        use redb::Error as E;
        let error = match failed {
            Failed::Store(e) => return e,
            Failed::Redb(e) => e,
        };
        if let (E::Io(_) | E::PreviousIo | E::TransactionPoisoned, Some(first)) = (&error, &*self.first()) {
            return first.clone();
        }
        match error {
            E::Io(e) if !matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
                StoreError::io(op, &self.file, e)
            }
            E::PreviousIo | E::DatabaseClosed => {
                StoreError::Busy { why: format!("{} was closed or failed; look again", self.file) }
            }
            other => self.broken(op, other.to_string()),
        }
    }

    fn broken(&self, op: &'static str, found: String) -> StoreError {
        if let Some(first) = &*self.first() {
            return first.clone();
        }
        super::corrupt(&self.file, &format!("database, at {op}"), found, "a whole database")
    }
}

/// redb's view of a file that it may write.
pub(super) struct FileBackend {
    file: Arc<dyn DiskFile>,
    health: Arc<Health>,
    sums: Arc<Sums>,
    pace: Option<Pace>,
    burst: Mutex<Burst>,
}

/// What was written lately.
#[derive(Debug, Default)]
struct Burst {
    /// Bytes since the last sync of any kind.
    bytes: u64,
    /// Offset and length of each write since redb's last sync.
    pages: HashMap<u64, usize>,
}

impl std::fmt::Debug for FileBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileBackend").field("file", &self.health.file).finish_non_exhaustive()
    }
}

impl FileBackend {
    /// `sums` is what is known of the file; reads are compared with it.
    pub(super) fn new(
        file: Arc<dyn DiskFile>,
        health: Arc<Health>,
        sums: Arc<Sums>,
        pace: Option<Pace>,
    ) -> FileBackend {
        FileBackend { file, health, sums, pace, burst: Mutex::default() }
    }

    fn burst(&self) -> MutexGuard<'_, Burst> {
        self.burst.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if these bytes were written to this place since redb's last sync. A commit larger than half of redb's cache
    /// writes its pages early, reads them back for their checksums, and writes them again.
    fn is_there(&self, offset: u64, data: &[u8]) -> bool {
        if self.burst().pages.get(&offset) != Some(&data.len()) {
            return false;
        }
        let mut there = vec![0; data.len()];
        self.file.read_at(offset, &mut there).is_ok() && there == data
    }

    /// Spreads a checkpoint over the time it takes: without a sync now and then, the last one meets all bytes at once, and
    /// the syncs of the log wait behind it. Measured beside a checkpoint of 232 MiB, longest wait of a 4 KiB append: without 140 ms,
    /// every 16 MiB 50, every 4 MiB 20, every 1 MiB 10; several times that while the disk was busy otherwise. Smaller bursts make
    /// the checkpoint longer: 2.1 s at 4 MiB, 2.4 at 2, 2.7 at 1.
    fn written(&self, offset: u64, len: usize) -> io::Result<()> {
        self.health.written.fetch_add(len as u64, Ordering::Relaxed);
        let full = {
            let mut burst = self.burst();
            burst.bytes += len as u64;
            if burst.pages.len() >= PAGES_MAX {
                burst.pages.clear();
            }
            burst.pages.insert(offset, len);
            if burst.bytes < BURST_BYTES {
                return Ok(());
            }
            std::mem::take(&mut burst.bytes)
        };
        self.health.sync(&*self.file)?;
        match &self.pace {
            Some(pace) if !pace(full) => Err(self.health.note_ended()),
            _ => Ok(()),
        }
    }

    fn noted<T>(&self, op: &'static str, outcome: io::Result<T>) -> io::Result<T> {
        outcome.inspect_err(|e| {
            self.health.note(op, e);
        })
    }
}

impl StorageBackend for FileBackend {
    fn len(&self) -> io::Result<u64> {
        let len = self.noted("length of", self.file.len())?;
        self.health.set_file_bytes(len);
        Ok(len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.noted("read", self.file.read_at(offset, out))?;
        self.sums.check(offset, out).map_err(|at| self.health.note_changed(at))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.health.check_writable()?;
        self.noted("set the length of", self.file.set_len(len))?;
        self.sums.forget(len, u64::MAX);
        self.health.set_file_bytes(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.health.check_writable()?;
        *self.burst() = Burst::default();
        self.health.sync(&*self.file)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.health.check_writable()?;
        if self.is_there(offset, data) {
            return Ok(());
        }
        self.sums.forget(offset, data.len() as u64);
        self.noted("write", self.file.write_at(offset, data))?;
        self.sums.learn(offset, data);
        self.written(offset, data.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Access, Disk, Fault, SimDisk};

    fn file(sim: &SimDisk, bytes: &[u8]) -> Arc<dyn DiskFile> {
        sim.plant("f", bytes).unwrap();
        sim.open("f", Access::Write).unwrap()
    }

    // A second sync says "done" of bytes that the failed one dropped; it must not be asked.
    #[test]
    fn nothing_is_written_after_a_failed_sync() {
        let sim = SimDisk::new();
        let health = Arc::new(Health::new("f".to_owned()));
        let backend = FileBackend::new(file(&sim, b""), Arc::clone(&health), Arc::default(), None);
        sim.fail_at(2, Fault::SyncDropsData);
        backend.write(0, b"lost").unwrap();
        backend.sync_data().unwrap_err();
        assert!(backend.sync_data().is_err() && backend.write(0, b"x").is_err() && backend.set_len(9).is_err());
        assert_eq!(sim.ops(), 2);
        assert_eq!(health.first().as_ref().map(StoreError::code), Some("io"));
    }

    #[test]
    fn a_block_that_reads_otherwise_than_it_was_written_is_an_error() {
        let sim = SimDisk::new();
        let health = Arc::new(Health::new("f".to_owned()));
        let backend = FileBackend::new(file(&sim, &[0; 16384]), Arc::clone(&health), Arc::default(), None);
        let mut out = [0; 4096];
        backend.write(8192, &[7; 4096]).unwrap();
        sim.damage("f", 9000, 1).unwrap();
        backend.read(8192, &mut out).unwrap_err();
        let first = health.first().clone();
        assert!(matches!(first, Some(StoreError::Corrupt { offset: 8192, .. })), "{first:?}");
        // Cut and grown again it is a new block.
        backend.set_len(8192).unwrap();
        backend.set_len(16384).unwrap();
        backend.read(8192, &mut out).unwrap();
        assert_eq!(out, [0; 4096]);
    }

    #[test]
    fn bursts_are_synced_as_they_come() {
        let sim = SimDisk::new();
        sim.set_trace(true);
        let paced = Arc::new(AtomicU64::new(0));
        let pace: Pace = {
            let paced = Arc::clone(&paced);
            Arc::new(move |bytes| {
                paced.fetch_add(bytes, Ordering::Relaxed);
                true
            })
        };
        let backend =
            FileBackend::new(file(&sim, b""), Arc::new(Health::new("f".to_owned())), Arc::default(), Some(pace));
        let page = vec![1; BURST_BYTES as usize / 4];
        let at = |i: u64| i * page.len() as u64;
        for i in 0..9 {
            backend.write(at(i), &page).unwrap();
        }
        let syncs = || sim.op_kinds().iter().filter(|(kind, _)| *kind == crate::disk::OpKind::SyncData).count();
        assert_eq!((syncs(), paced.load(Ordering::Relaxed)), (2, 2 * BURST_BYTES));
        // The same bytes at the same place are not written again.
        let ops = sim.ops();
        backend.write(at(1), &page).unwrap();
        assert_eq!(sim.ops(), ops);
        backend.write(at(1), &page[1..]).unwrap();
        assert_eq!(sim.ops(), ops + 1);
    }

    #[test]
    fn a_pace_that_ends_the_writing_is_the_reason_that_is_told() {
        let (sim, health) = (SimDisk::new(), Arc::new(Health::new("f".to_owned())));
        let backend = FileBackend::new(file(&sim, b""), health.clone(), Arc::default(), Some(Arc::new(|_| false)));
        let page = vec![1; BURST_BYTES as usize];
        let failed = backend.write(0, &page).unwrap_err();
        assert_eq!(health.explain("write", Failed::Redb(redb::Error::Io(failed))).code(), "busy");
    }
}
