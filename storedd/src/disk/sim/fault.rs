//! What can go wrong at the n-th operation.

use super::mix;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io;

/// A fault of the disk at one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// EIO; nothing is done. The next operation works again.
    Eio,
    /// EIO at this and at every later operation.
    EioForever,
    /// ENOSPC; nothing is done. A sync may say this too (delayed allocation).
    NoSpace,
    /// ENOSPC at this and at every later operation.
    NoSpaceForever,
    /// A write ends with EIO after its first half. Other operations are not touched.
    ShortWrite,
    /// A `sync_data` or `sync_tree` answers EIO and what was to be synced is dropped: it still reads back, it counts as clean, and a
    /// second sync answers "done" without having written it (as Linux does). Other operations are not touched.
    SyncDropsData,
    /// EINTR; nothing is done. `RealDisk` repeats interrupted writes itself, so this is what an interrupted sync says.
    Eintr,
    /// A lie: a write is told as done, and reads back until the machine stops; its bytes never reach the disk. Other operations are not
    /// touched, here and below.
    LostWrite,
    /// A lie: as [`Fault::LostWrite`], but for its first half (in whole sectors, where it has two).
    TornWrite,
    /// A lie: as [`Fault::LostWrite`], and the bytes are written over those of another file of the disk, where there is one.
    MisdirectedWrite,
    /// A lie: a sync is told as done; nothing is any more durable than it was. A later sync is honest.
    LyingSync,
}

impl Fault {
    /// Those in which the disk says that it did what it did not do.
    pub const LIES: [Fault; 4] = [Fault::LostWrite, Fault::TornWrite, Fault::MisdirectedWrite, Fault::LyingSync];
}

/// An operation that changes a disk or its durable state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OpKind {
    /// `open` with `CreateNew`.
    Create,
    /// `write_at`.
    Write,
    /// `set_len`.
    SetLen,
    /// `sync_data`.
    SyncData,
    /// `rename`.
    Rename,
    /// `remove`.
    Remove,
    /// `create_dir`.
    CreateDir,
    /// `remove_dir`.
    RemoveDir,
    /// `sync_dir`.
    SyncDir,
    /// `link`.
    Link,
    /// `sync_tree`.
    SyncTree,
}

/// How an operation that was let through is to be done.
#[derive(Debug)]
pub(super) enum Way {
    Whole,
    /// Only this share of a write's bytes, then this error.
    Part(Share, io::Error),
    /// Forget what was to be synced, then this error.
    Drop(io::Error),
    /// Say that it is done, and do this instead.
    Lie(Lie),
}

/// What is done with a write, or a sync, that is told as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    Nothing,
    Half,
    Elsewhere,
}

impl Way {
    pub(super) fn result(self) -> io::Result<()> {
        match self {
            Way::Whole | Way::Lie(_) => Ok(()),
            Way::Part(_, e) | Way::Drop(e) => Err(e),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Share {
    Bytes(u64),
    Half,
}

/// Counts the operations and decides which of them fail.
#[derive(Debug, Default)]
pub(super) struct Gate {
    pub(super) ops: u64,
    pub(super) crash: Option<(u64, u64)>,
    pub(super) crashed: bool,
    pub(super) faults: BTreeMap<u64, Fault>,
    pub(super) trace: Option<Vec<(OpKind, String)>>,
    forever: Option<Errno>,
}

pub(super) fn crashed() -> io::Error {
    io::Error::other("crashed")
}

impl Gate {
    /// Refuses every call after the crash.
    pub(super) fn alive(&self) -> io::Result<()> {
        if self.crashed { Err(crashed()) } else { Ok(()) }
    }

    /// Counts one operation and says how it is done.
    pub(super) fn pass(&mut self, kind: OpKind, path: impl FnOnce() -> String) -> io::Result<Way> {
        self.alive()?;
        self.ops += 1;
        if let Some(trace) = &mut self.trace {
            trace.push((kind, path()));
        }
        if let Some((at, bytes)) = self.crash
            && self.ops >= at
        {
            self.crashed = true;
            return match kind {
                OpKind::Write if self.ops == at => Ok(Way::Part(Share::Bytes(bytes), crashed())),
                _ => Err(crashed()),
            };
        }
        if let Some(errno) = self.forever {
            return Err(errno.into());
        }
        match self.faults.get(&self.ops) {
            None => Ok(Way::Whole),
            Some(Fault::Eio) => Err(Errno::IO.into()),
            Some(Fault::NoSpace) => Err(Errno::NOSPC.into()),
            Some(Fault::Eintr) => Err(Errno::INTR.into()),
            Some(Fault::EioForever) => Err(self.forever.insert(Errno::IO).to_owned().into()),
            Some(Fault::NoSpaceForever) => Err(self.forever.insert(Errno::NOSPC).to_owned().into()),
            Some(Fault::ShortWrite) if kind == OpKind::Write => Ok(Way::Part(Share::Half, Errno::IO.into())),
            Some(Fault::SyncDropsData) if matches!(kind, OpKind::SyncData | OpKind::SyncTree) => {
                Ok(Way::Drop(Errno::IO.into()))
            }
            Some(Fault::LostWrite) if kind == OpKind::Write => Ok(Way::Lie(Lie::Nothing)),
            Some(Fault::TornWrite) if kind == OpKind::Write => Ok(Way::Lie(Lie::Half)),
            Some(Fault::MisdirectedWrite) if kind == OpKind::Write => Ok(Way::Lie(Lie::Elsewhere)),
            Some(Fault::LyingSync) if matches!(kind, OpKind::SyncData | OpKind::SyncTree | OpKind::SyncDir) => {
                Ok(Way::Lie(Lie::Nothing))
            }
            Some(_) => Ok(Way::Whole),
        }
    }

    /// The same for an operation that has no parts.
    pub(super) fn pass_whole(&mut self, kind: OpKind, path: impl FnOnce() -> String) -> io::Result<()> {
        self.pass(kind, path)?.result()
    }

    /// Ends the faults that last.
    pub(super) fn heal(&mut self) {
        self.forever = None;
        self.faults.clear();
    }
}

/// Random numbers that depend on the seed and on what is asked, not on the order of asking.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// A number for `(what, part)`.
    pub(super) fn roll(self, what: u64, part: u64) -> u64 {
        mix(mix(mix(self.0) ^ what) ^ part)
    }
}
