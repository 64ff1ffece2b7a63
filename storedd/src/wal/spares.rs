//! Segment files made ahead, so that an append never makes the file grow and never meets a full disk.
//!
//! # Purpose
//! A sync of a file that grows writes its size too, and costs half as much again; a file that is all there before the
//! first record cannot run out of space. So the log writes only into files that were written full of zeros and synced
//! before. Segments that nobody needs any more are zeroed and used again.
//!
//! # Format
//! `spare.<n>`: a complete spare. Behind its first page it is zeros to its full length, durably so. The first page may
//! hold anything: it is rewritten before use. `spare.<n>.new`: being made; worth nothing after a crash. `spare.fork`: a
//! spare that a fork was preparing; `spare.back`: a copy of a segment whose name was taken away. Both are worth nothing after a crash.
//!
//! # Operation
//! A spare is written in steps of 1 MiB with a sync each, so that a sync of the log behind one of them waits for 1 MiB
//! at most, then renamed, then the directory is synced. A retired segment is renamed to `spare.<n>.new` and the
//! directory synced before the first zero is written, so that no file named like a segment is ever without its header.
//!
//! # Invariants
//! * No file gets the name `spare.<n>` before its content is durable, so the name alone vouches for it.
//! * A symbolic link is never zeroed and never becomes a spare: only the link is removed.

use super::segment::SEGMENT_HEADER_BYTES;
use crate::disk::{Access, Disk, Kind as FileKind};
use crate::error::{Result, StoreError};
use crate::planted::{self, Bug};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

/// Bytes written between two syncs.
pub(super) const STEP_BYTES: u64 = 1 << 20;
/// A copy of the segment being written, until it has that segment's name.
pub(super) const BACK_FILE: &str = "spare.back";
/// A spare under preparation for a fork.
pub(super) const FORK_FILE: &str = "spare.fork";

/// The stock of spare files; shared by the writer, which takes from it, and a background thread, which fills it.
#[derive(Debug)]
pub struct Spares {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    wanted: usize,
    /// Bytes that stay free on the disk: a spare that is not needed to start does not take them.
    reserve: u64,
    stock: Mutex<Stock>,
    /// Held while a spare is made ahead.
    pace: Mutex<()>,
}

#[derive(Debug, Default)]
struct Stock {
    /// Complete ones.
    ready: Vec<u64>,
    /// How many of them are promised to records already encoded or about to be.
    reserved: usize,
    /// Retired segments under the name `spare.<n>.new`, to be zeroed.
    retired: VecDeque<u64>,
    /// Being made.
    making: usize,
    /// Number of the next one.
    next: u64,
}

fn ready_name(number: u64) -> String {
    format!("spare.{number}")
}

fn making_name(number: u64) -> String {
    format!("spare.{number}.new")
}

/// Makes the names of the log's directory durable.
pub(super) fn sync_names(disk: &dyn Disk) -> Result<()> {
    if planted::on(Bug::NoDirectorySync) {
        return Ok(());
    }
    disk.sync_dir("").map_err(|e| StoreError::io("sync", disk.display(""), e))
}

impl Spares {
    /// Takes stock: keeps complete spares of the right length, removes everything else that is named like one.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn open(disk: Arc<dyn Disk>, segment_bytes: u64, wanted: usize, reserve: u64) -> Result<Spares> {
        let mut stock = Stock::default();
        let entries = disk.list("").map_err(|e| StoreError::io("list", disk.display(""), e))?;
        for entry in entries {
            let Some(rest) = entry.name.strip_prefix("spare.") else { continue };
            match rest.parse::<u64>() {
                Ok(number) if entry.kind == FileKind::File && entry.len == segment_bytes => {
                    stock.ready.push(number);
                    stock.next = stock.next.max(number.saturating_add(1));
                }
                _ if matches!(entry.kind, FileKind::File | FileKind::Symlink) => remove(disk.as_ref(), &entry.name)?,
                _ => {}
            }
        }
        Ok(Spares { disk, segment_bytes, wanted, reserve, stock: Mutex::new(stock), pace: Mutex::default() })
    }

    /// Length of each spare.
    #[must_use]
    pub fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// Complete spares that are promised to nobody.
    #[must_use]
    pub fn ready(&self) -> usize {
        let stock = self.lock();
        stock.ready.len().saturating_sub(stock.reserved)
    }

    /// Promises one spare to a record that begins a segment; makes one at once if there is none. Asked before the
    /// record is encoded, so that a full disk refuses the command instead of breaking the log. Which commands may still
    /// use what is left of a disk is decided before; a deletion may use all of it.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`] or another error of the disk; nothing is promised then.
    pub fn reserve(&self) -> Result<()> {
        if planted::on(Bug::LogSpaceNotReserved) {
            self.lock().reserved += 1;
            return Ok(());
        }
        loop {
            let mut stock = self.lock();
            if stock.ready.len() > stock.reserved {
                stock.reserved += 1;
                return Ok(());
            }
            drop(stock);
            self.make(0)?;
        }
    }

    /// Gives a promise back: the record was not encoded.
    pub fn unreserve(&self) {
        let mut stock = self.lock();
        stock.reserved = stock.reserved.saturating_sub(1);
    }

    /// Takes a spare, a promised one if there is a promise; gives its name. Makes one at once if there is none.
    pub(super) fn take(&self) -> Result<String> {
        loop {
            let mut stock = self.lock();
            if let Some(number) = stock.ready.pop() {
                stock.reserved = stock.reserved.saturating_sub(1);
                return Ok(ready_name(number));
            }
            drop(stock);
            self.make(0)?;
        }
    }

    /// One step of the background work: makes one spare if fewer than wanted are there. False if there was nothing to
    /// do. Takes as long as writing and syncing a segment.
    ///
    /// # Errors
    /// Those of the disk; a full one too. It may be called again later.
    pub fn prepare(&self) -> Result<bool> {
        let stock = self.lock();
        if stock.ready.len().saturating_sub(stock.reserved) + stock.making >= self.wanted {
            return Ok(false);
        }
        drop(stock);
        let _pace = self.pause();
        self.make(self.reserve)?;
        Ok(true)
    }

    /// Waits for the spare that is being made ahead, and has the next one wait until what this gives is dropped.
    pub fn pause(&self) -> MutexGuard<'_, ()> {
        self.pace.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes over files that the log needs no more, by name. As many as are wanted become spares, zeroed later by
    /// [`Spares::prepare`]; the rest is removed. Of a symbolic link only the link is removed.
    pub(super) fn recycle(&self, files: &[String]) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        for file in files {
            let entry = self.disk.stat(file).map_err(|e| StoreError::io("stat", self.disk.display(file), e))?;
            let Some(entry) = entry else { continue };
            match self.place_for(entry.kind) {
                Some(number) => {
                    let name = making_name(number);
                    self.disk.rename(file, &name).map_err(|e| StoreError::io("rename", self.disk.display(file), e))?;
                    // Zeroed only after its old name is durably gone.
                    if !planted::on(Bug::ZeroedUnderItsName) {
                        sync_names(self.disk.as_ref())?;
                    }
                    self.lock().retired.push_back(number);
                }
                None => remove(self.disk.as_ref(), file)?,
            }
        }
        if planted::on(Bug::ZeroedUnderItsName) {
            return Ok(());
        }
        sync_names(self.disk.as_ref())
    }

    /// The number under which a retired file becomes a spare; `None` if there are enough, or if it must not.
    fn place_for(&self, kind: FileKind) -> Option<u64> {
        let mut stock = self.lock();
        let held = stock.ready.len().saturating_sub(stock.reserved) + stock.making + stock.retired.len();
        (kind == FileKind::File && held < self.wanted).then(|| stock.number())
    }

    /// Makes one complete spare, from a retired segment if there is one; else only if `reserve` bytes stay free.
    fn make(&self, reserve: u64) -> Result<()> {
        let (number, retired) = {
            let mut stock = self.lock();
            stock.making += 1;
            let retired = stock.retired.pop_front();
            (retired.unwrap_or_else(|| stock.number()), retired.is_some())
        };
        let room = if retired || reserve == 0 { Ok(()) } else { self.has_room(reserve) };
        let made = room.and_then(|()| self.fill(number, retired));
        let mut stock = self.lock();
        stock.making -= 1;
        match made {
            Ok(()) => stock.ready.insert(0, number),
            Err(e) => {
                drop(stock);
                // Best effort: a half-made spare is removed at the next start at the latest.
                let _ = self.disk.remove(&making_name(number));
                return Err(e);
            }
        }
        Ok(())
    }

    fn has_room(&self, reserve: u64) -> Result<()> {
        let space = self.disk.space().map_err(|e| StoreError::io("stat", self.disk.display(""), e))?;
        let kept = space.reserve(reserve);
        if space.free >= self.segment_bytes.saturating_add(kept) {
            return Ok(());
        }
        let what = format!("a log segment of {} bytes: {} are free, {kept} are kept", self.segment_bytes, space.free);
        Err(StoreError::NoSpace { what })
    }

    fn fill(&self, number: u64, retired: bool) -> Result<()> {
        let name = making_name(number);
        let fail = |op: &'static str| {
            let path = self.disk.display(&name);
            move |e: io::Error| StoreError::io(op, path, e)
        };
        let access = if retired { Access::Write } else { Access::CreateNew };
        let file = self.disk.open(&name, access).map_err(fail("create"))?;
        if retired && file.len().map_err(fail("stat"))? > self.segment_bytes {
            file.set_len(self.segment_bytes).map_err(fail("cut"))?;
        }
        let zeros = vec![0; usize::try_from(STEP_BYTES.min(self.segment_bytes)).unwrap_or(0)];
        let mut at = 0;
        while at < self.segment_bytes {
            let step = zeros.len().min(usize::try_from(self.segment_bytes - at).unwrap_or(usize::MAX));
            file.write_at(at, &zeros[..step]).map_err(fail("write"))?;
            file.sync_data().map_err(fail("sync"))?;
            at += step as u64;
        }
        let ready = ready_name(number);
        self.disk.rename(&name, &ready).map_err(fail("rename"))?;
        sync_names(self.disk.as_ref())
    }

    fn lock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Stock {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }
}

/// Removes a file; one that is gone already is fine.
pub(super) fn remove(disk: &dyn Disk, file: &str) -> Result<()> {
    match disk.remove(file) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", disk.display(file), e)),
        _ => Ok(()),
    }
}

/// Writes the first page of a segment into the spare `file` and makes it durable.
pub(super) fn write_head(disk: &dyn Disk, file: &str, bytes: &[u8]) -> Result<Arc<dyn crate::disk::DiskFile>> {
    debug_assert!(bytes.len() as u64 >= SEGMENT_HEADER_BYTES);
    let fail = |op: &'static str| {
        let path = disk.display(file);
        move |e: io::Error| StoreError::io(op, path, e)
    };
    let handle = disk.open(file, Access::Write).map_err(fail("open"))?;
    handle.write_at(0, bytes).map_err(fail("write"))?;
    if !planted::on(Bug::SegmentNamedBeforeHeader) {
        handle.sync_data().map_err(fail("sync"))?;
    }
    Ok(handle)
}
