//! What redb reads and writes through: a file of a [`crate::disk::Disk`].
//!
//! [`FileBackend`] writes to the file. [`ShadowBackend`] keeps every write in memory and lets the file alone, so that redb
//! may repair what it likes while evidence is gathered (I7). Locks are not delegated: one process owns the store.

use super::guard::caught;
use crate::disk::DiskFile;
use crate::error::{Result, StoreError};
use redb::StorageBackend;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Called with a number of bytes that were just written, from the thread that writes; may sleep.
pub type Pace = Arc<dyn Fn(u64) + Send + Sync>;

/// After so many bytes written they are synced, and [`Pace`] is called.
pub const BURST_BYTES: u64 = 2 << 20;

/// Most writes remembered, to leave out the second of two equal ones.
const PAGES_MAX: usize = 1 << 20;

/// Most bytes a [`ShadowBackend`] keeps; a check of a whole file rewrites a few pages.
const SHADOW_BYTES_MAX: usize = 256 << 20;

const BLOCK: u64 = 4096;

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
    fn check_writable(&self) -> io::Result<()> {
        match self.abandoned.load(Ordering::Acquire) || self.sync_failed() {
            true => Err(io::Error::other("the file is no longer written")),
            false => Ok(()),
        }
    }

    /// Syncs `file`, once and for all if it fails.
    pub(super) fn sync(&self, file: &dyn DiskFile) -> io::Result<()> {
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
    pub(super) fn new(file: Arc<dyn DiskFile>, health: Arc<Health>, pace: Option<Pace>) -> FileBackend {
        FileBackend { file, health, pace, burst: Mutex::default() }
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
        if let Some(pace) = &self.pace {
            pace(full);
        }
        Ok(())
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
        self.health.len.store(len, Ordering::Relaxed);
        Ok(len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.noted("read", self.file.read_at(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.health.check_writable()?;
        self.noted("set the length of", self.file.set_len(len))?;
        self.health.len.store(len, Ordering::Relaxed);
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
        self.noted("write", self.file.write_at(offset, data))?;
        self.written(offset, data.len())
    }
}

/// redb's view of a file that stays as it is: what it writes is kept in memory.
pub(super) struct ShadowBackend {
    file: Arc<dyn DiskFile>,
    health: Arc<Health>,
    shadow: RwLock<Shadow>,
}

#[derive(Debug)]
struct Shadow {
    /// Length as redb sees it.
    len: u64,
    /// Bytes of the file that are still to be seen; what lies behind was cut, or was never there, and is zero.
    below: u64,
    /// Written blocks by number.
    blocks: BTreeMap<u64, Box<[u8]>>,
}

impl std::fmt::Debug for ShadowBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShadowBackend").field("file", &self.health.file).finish_non_exhaustive()
    }
}

impl ShadowBackend {
    /// Over a file of `len` bytes.
    pub(super) fn new(file: Arc<dyn DiskFile>, len: u64, health: Arc<Health>) -> ShadowBackend {
        health.len.store(len, Ordering::Relaxed);
        ShadowBackend { file, health, shadow: RwLock::new(Shadow { len, below: len, blocks: BTreeMap::new() }) }
    }

    /// Reads what the file has of the range; zeros behind its end.
    fn read_below(&self, below: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = usize::try_from(below.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        let (file, rest) = out.split_at_mut(there);
        rest.fill(0);
        if file.is_empty() {
            return Ok(());
        }
        self.file.read_at(offset, file).inspect_err(|e| {
            self.health.note("read", e);
        })
    }
}

/// The bytes of `block` that lie in the range, as (place in the range, place in the block).
fn overlap(block: u64, offset: u64, len: u64) -> (Range<usize>, Range<usize>) {
    let start = (block * BLOCK).max(offset);
    let end = (block * BLOCK + BLOCK).min(offset + len);
    let within = |base: u64| (start - base) as usize..(end - base) as usize;
    (within(offset), within(block * BLOCK))
}

impl StorageBackend for ShadowBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.shadow.read().unwrap_or_else(PoisonError::into_inner).len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let shadow = self.shadow.read().unwrap_or_else(PoisonError::into_inner);
        let len = out.len() as u64;
        let end = offset.checked_add(len).filter(|end| *end <= shadow.len);
        let Some(end) = end else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        self.read_below(shadow.below, offset, out)?;
        for (block, bytes) in shadow.blocks.range(offset / BLOCK..end.div_ceil(BLOCK)) {
            let (to, from) = overlap(*block, offset, len);
            out[to].copy_from_slice(&bytes[from]);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.health.check_writable()?;
        let mut shadow = self.shadow.write().unwrap_or_else(PoisonError::into_inner);
        shadow.below = shadow.below.min(len);
        shadow.blocks.split_off(&len.div_ceil(BLOCK));
        if let Some(last) = shadow.blocks.get_mut(&(len / BLOCK)) {
            last[(len % BLOCK) as usize..].fill(0);
        }
        shadow.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.health.check_writable()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.health.check_writable()?;
        let mut shadow = self.shadow.write().unwrap_or_else(PoisonError::into_inner);
        let len = data.len() as u64;
        let end = offset.checked_add(len).filter(|end| *end <= shadow.len);
        let Some(end) = end else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        for number in offset / BLOCK..end.div_ceil(BLOCK) {
            let (from, to) = overlap(number, offset, len);
            if !shadow.blocks.contains_key(&number) {
                if shadow.blocks.len() * BLOCK as usize >= SHADOW_BYTES_MAX {
                    let text = format!("the repair would rewrite more than {SHADOW_BYTES_MAX} bytes");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
                let mut block = vec![0; BLOCK as usize].into_boxed_slice();
                self.read_below(shadow.below, number * BLOCK, &mut block)?;
                shadow.blocks.insert(number, block);
            }
            if let Some(block) = shadow.blocks.get_mut(&number) {
                block[to].copy_from_slice(&data[from]);
            }
        }
        Ok(())
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

    // I7: redb sees what it wrote, the file never does.
    #[test]
    fn a_shadow_is_a_file_in_memory() {
        let sim = SimDisk::new();
        let mut model: Vec<u8> = (0..30_000u32).map(|i| (i % 251) as u8).collect();
        let shadow = ShadowBackend::new(file(&sim, &model), model.len() as u64, Arc::new(Health::new("f".to_owned())));
        let before = sim.tree_hash();
        let mut seed = 1u64;
        let mut below = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        for round in 0..3000u64 {
            let (offset, len) = (below(50_000), below(10_000));
            let end = offset + len;
            match below(10) {
                0 => {
                    shadow.set_len(end).unwrap();
                    model.resize(end as usize, 0);
                }
                1..5 => {
                    let data = vec![(round % 255) as u8 + 1; len as usize];
                    let outcome = shadow.write(offset, &data);
                    assert_eq!(outcome.is_ok(), end <= model.len() as u64);
                    if outcome.is_ok() {
                        model[offset as usize..end as usize].copy_from_slice(&data);
                    }
                }
                _ => {
                    let mut out = vec![0xee; len as usize];
                    let outcome = shadow.read(offset, &mut out);
                    assert_eq!(outcome.is_ok(), end <= model.len() as u64);
                    if outcome.is_ok() {
                        assert!(out == model[offset as usize..end as usize], "round {round}");
                    }
                }
            }
            assert_eq!(shadow.len().unwrap(), model.len() as u64);
        }
        assert!(shadow.read(u64::MAX, &mut [0; 2]).is_err() && shadow.write(u64::MAX, &[0; 2]).is_err());
        assert_eq!((sim.tree_hash(), sim.ops()), (before, 0));
    }

    // A second sync says "done" of bytes that the failed one dropped; it must not be asked.
    #[test]
    fn nothing_is_written_after_a_failed_sync() {
        let sim = SimDisk::new();
        let health = Arc::new(Health::new("f".to_owned()));
        let backend = FileBackend::new(file(&sim, b""), Arc::clone(&health), None);
        sim.fail_at(2, Fault::SyncDropsData);
        backend.write(0, b"lost").unwrap();
        backend.sync_data().unwrap_err();
        assert!(backend.sync_data().is_err() && backend.write(0, b"x").is_err() && backend.set_len(9).is_err());
        assert_eq!(sim.ops(), 2);
        assert_eq!(health.first().as_ref().map(StoreError::code), Some("io"));
    }

    #[test]
    fn bursts_are_synced_as_they_come() {
        let sim = SimDisk::new();
        sim.set_trace(true);
        let paced = Arc::new(AtomicU64::new(0));
        let pace: Pace = {
            let paced = Arc::clone(&paced);
            Arc::new(move |bytes| _ = paced.fetch_add(bytes, Ordering::Relaxed))
        };
        let backend = FileBackend::new(file(&sim, b""), Arc::new(Health::new("f".to_owned())), Some(pace));
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
}
