//! A disk in memory by the weakest rules that POSIX allows.
//!
//! # Purpose
//! The store runs on it in tests: crashed at every operation, found again in any state that the rules allow, with faults
//! at the n-th call. A seed repeats any failure.
//!
//! # Operation
//! A machine has one or more disks ([`SimDisk::disk`]); they crash together. Each file has its durable bytes, its live
//! bytes and an ordered list of the unsynced changes between the two; each directory the same of its names. `sync_data`
//! promotes the bytes of one file and not its name, `sync_dir` the names of one directory and not their bytes. A rename
//! keeps the file's identity and with it its unsynced bytes. [`SimDisk::image`] is the machine after a crash: the durable
//! state plus those unsynced changes that a [`Persist`] lets survive.
//!
//! # Invariants
//! * Live state = durable state + all unsynced changes in order, unless a failed sync dropped some ([`Fault`]).
//! * Each unsynced write survives in any pieces, independently of all others.
//! * A rename within a directory is atomic. A rename between directories never loses the file: its old name is gone
//!   durably only if the new one is durable; a sync of the new directory alone can leave both names.
//! * A name has one history: a change of it that survives has the earlier ones with it, so that a name that was used again
//!   never destroys the file that was moved away from it. A directory is in one place, always.
//! * After a crash every call on the old machine fails; locks are gone.
//!
//! Operations (of all disks of the machine together) are numbered from 1: create, write, `set_len`, `sync_data`, rename,
//! link, remove, `create_dir`, `remove_dir`, `sync_dir`, `sync_tree`. A call that is refused for an ordinary reason (no such name, read-only
//! disk), or has nothing to do, is not counted.

mod content;
mod control;
mod fault;
mod image;
mod moment;
mod state;

pub use fault::{Fault, OpKind};
pub use image::Persist;
pub use moment::Moment;

use super::{Access, Disk, DiskFile, Entry, Kind, Lock};
use content::FILE_LIMIT;
use fault::{Lie, Share, Way};
use rustix::io::Errno;
use state::{Body, DataChange, Dir, File, Id, NameChange, NameOp, State};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Free bytes of a disk that nobody bounded.
const UNBOUNDED: u64 = 1 << 40;
/// What a disk writes wholly or not at all, in bytes.
const SECTOR: usize = 512;

/// A handle of one disk of a simulated machine; clones are handles of the same disk.
#[derive(Clone)]
pub struct SimDisk {
    machine: Machine,
    disk: usize,
}

#[derive(Clone)]
struct Machine(Arc<Mutex<State>>);

impl Machine {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.display(""))
    }
}

/// A well-mixed number (splitmix64).
fn mix(seed: u64) -> u64 {
    let n = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

impl State {
    /// Ready for a change of this disk, or the reason why not.
    fn writable(&self, disk: usize) -> io::Result<()> {
        self.gate.alive()?;
        if self.disks[disk].read_only { Err(Errno::ROFS.into()) } else { Ok(()) }
    }

    fn full_path(&self, disk: usize, path: &str) -> String {
        format!("sim:{}/{path}", self.disks[disk].name)
    }

    /// Counts an operation that happens whole or not at all.
    fn pass(&mut self, disk: usize, kind: OpKind, path: &str) -> io::Result<()> {
        self.remember(disk, kind, path, None);
        let State { gate, disks, .. } = self;
        gate.pass_whole(kind, || format!("sim:{}/{path}", disks[disk].name))
    }

    fn entry(&mut self, name: &str, id: Id) -> Entry {
        let (kind, len) = match self.nodes.get(&id).map(|n| &n.body) {
            Some(Body::File(file)) => (Kind::File, file.live.len()),
            Some(Body::Dir(_)) => (Kind::Dir, 0),
            Some(Body::Symlink(target)) => {
                let (target, disk) = (target.clone(), self.nodes[&id].disk);
                let found = self.find_file(disk, &target, false).and_then(|id| Ok(self.file(id)?.live.len()));
                (Kind::Symlink, found.unwrap_or(0))
            }
            None => (Kind::Other, 0),
        };
        Entry { name: name.to_owned(), kind, len }
    }

    fn add_name(&mut self, dir: Id, name: &Arc<str>, id: Id) -> io::Result<()> {
        let seq = self.next_seq();
        self.change_name(dir, NameOp { seq, id, change: NameChange::Add(name.clone()) })?;
        self.link(id, true);
        Ok(())
    }

    fn remove_name(&mut self, dir: Id, name: &Arc<str>, id: Id) -> io::Result<()> {
        let seq = self.next_seq();
        self.change_name(dir, NameOp { seq, id, change: NameChange::Del(name.clone()) })?;
        self.link(id, false);
        Ok(())
    }
}

impl SimDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.machine.state()
    }

    fn handle(&self, state: &mut State, id: Id, path: &str, writable: bool) -> Arc<dyn DiskFile> {
        if let Some(node) = state.nodes.get_mut(&id) {
            node.handles += 1;
        }
        Arc::new(SimFile { machine: self.machine.clone(), disk: self.disk, id, path: path.to_owned(), writable })
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.gate.alive()?;
        if access != Access::CreateNew {
            let id = state.find_file(self.disk, path, access == Access::ReadFollow)?;
            if access == Access::Write {
                state.writable(self.disk)?;
            }
            return Ok(self.handle(&mut state, id, path, access == Access::Write));
        }
        let spot = state.find(self.disk, path)?;
        if spot.node.is_some() {
            return Err(Errno::EXIST.into());
        }
        state.writable(self.disk)?;
        state.pass(self.disk, OpKind::Create, path)?;
        let id = state.add_node(self.disk, Body::File(File::default()));
        state.add_name(spot.dir, &spot.name, id)?;
        Ok(self.handle(&mut state, id, path, true))
    }

    fn stat(&self, path: &str) -> io::Result<Option<Entry>> {
        let mut state = self.state();
        state.gate.alive()?;
        if path.is_empty() {
            return Ok(Some(Entry { name: String::new(), kind: Kind::Dir, len: 0 }));
        }
        match state.find(self.disk, path) {
            Ok(spot) => Ok(spot.node.map(|id| state.entry(&spot.name, id))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        let mut state = self.state();
        state.gate.alive()?;
        let dir = state.find_dir(self.disk, dir)?;
        let names = state.dir(dir)?.live.clone();
        Ok(names.iter().map(|(name, id)| state.entry(name, *id)).collect())
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state();
        state.gate.alive()?;
        let spot = state.find(self.disk, dir)?;
        match spot.node {
            Some(id) if state.dir(id).is_ok() => return Ok(()),
            Some(_) => return Err(Errno::EXIST.into()),
            None => state.writable(self.disk)?,
        }
        state.pass(self.disk, OpKind::CreateDir, dir)?;
        let id = state.add_node(self.disk, Body::Dir(Dir::default()));
        state.add_name(spot.dir, &spot.name, id)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.gate.alive()?;
        let (old, new) = (state.find(self.disk, from)?, state.find(self.disk, to)?);
        let id = old.node.ok_or(Errno::NOENT)?;
        let below = |path: &str, above: &str| path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'));
        if below(to, from) {
            return Err(Errno::INVAL.into());
        }
        if below(from, to) {
            return Err(Errno::NOTEMPTY.into());
        }
        if new.node == Some(id) {
            return Ok(());
        }
        if let Some(target) = new.node {
            match (state.dir(id).is_ok(), state.dir(target)) {
                (true, Ok(dir)) if !dir.live.is_empty() => return Err(Errno::NOTEMPTY.into()),
                (true, Err(_)) => return Err(Errno::NOTDIR.into()),
                (false, Ok(_)) => return Err(Errno::ISDIR.into()),
                (true, Ok(_)) | (false, Err(_)) => {}
            }
        }
        state.writable(self.disk)?;
        state.pass(self.disk, OpKind::Rename, &format!("{from} -> {to}"))?;
        let seq = state.next_seq();
        if old.dir == new.dir {
            state.change_name(old.dir, NameOp { seq, id, change: NameChange::Move(old.name, new.name) })?;
        } else {
            state.change_name(old.dir, NameOp { seq, id, change: NameChange::Out(old.name, new.dir) })?;
            state.change_name(new.dir, NameOp { seq, id, change: NameChange::In(new.name, old.dir) })?;
        }
        new.node.into_iter().for_each(|replaced| state.link(replaced, false));
        Ok(())
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.gate.alive()?;
        let (old, new) = (state.find(self.disk, from)?, state.find(self.disk, to)?);
        let id = old.node.ok_or(Errno::NOENT)?;
        match state.nodes.get(&id).map(|n| &n.body) {
            Some(Body::Symlink(_)) => return Err(Errno::LOOP.into()),
            _ if new.node.is_some() => return Err(Errno::EXIST.into()),
            Some(Body::Dir(_)) => return Err(Errno::PERM.into()),
            Some(Body::File(_)) | None => {}
        }
        state.writable(self.disk)?;
        state.pass(self.disk, OpKind::Link, &format!("{from} -> {to}"))?;
        state.add_name(new.dir, &new.name, id)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        state.gate.alive()?;
        let spot = state.find(self.disk, path)?;
        let id = spot.node.ok_or(Errno::NOENT)?;
        if state.dir(id).is_ok() {
            return Err(Errno::ISDIR.into());
        }
        state.writable(self.disk)?;
        state.pass(self.disk, OpKind::Remove, path)?;
        state.remove_name(spot.dir, &spot.name, id)
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state();
        state.gate.alive()?;
        let spot = state.find(self.disk, dir)?;
        let id = spot.node.ok_or(Errno::NOENT)?;
        match state.dir(id) {
            Ok(dir) if dir.live.is_empty() => {}
            Ok(_) => return Err(Errno::NOTEMPTY.into()),
            Err(_) => return Err(Errno::NOTDIR.into()),
        }
        state.writable(self.disk)?;
        state.pass(self.disk, OpKind::RemoveDir, dir)?;
        state.remove_name(spot.dir, &spot.name, id)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state();
        state.gate.alive()?;
        let id = state.find_dir(self.disk, dir)?;
        state.remember(self.disk, OpKind::SyncDir, dir, None);
        let State { gate, disks, .. } = &mut *state;
        match gate.pass(OpKind::SyncDir, || format!("sim:{}/{dir}", disks[self.disk].name))? {
            Way::Whole => {}
            way => return way.result(),
        }
        state.promote_names(id)?;
        state.sweep();
        Ok(())
    }

    fn sync_tree(&self) -> io::Result<()> {
        let mut state = self.state();
        state.gate.alive()?;
        state.remember(self.disk, OpKind::SyncTree, "", None);
        let State { gate, disks, .. } = &mut *state;
        let way = gate.pass(OpKind::SyncTree, || format!("sim:{}/", disks[self.disk].name))?;
        state.sync_disk(self.disk, way)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state();
        state.gate.alive()?;
        Ok(state.disks[self.disk].free())
    }

    fn lock(&self, path: &str, owner: &str) -> io::Result<Box<dyn Lock>> {
        let mut state = self.state();
        state.writable(self.disk)?;
        let spot = state.find(self.disk, path)?;
        let id = match spot.node {
            Some(id) => id,
            None => {
                let id = state.add_node(self.disk, Body::File(File::default()));
                state.add_name(spot.dir, &spot.name, id)?;
                id
            }
        };
        let seq = state.next_seq();
        let held = state.locks.contains(&id);
        let file = state.file(id)?;
        if held {
            let mut text = vec![0; file.live.len() as usize];
            file.live.read(0, &mut text);
            return Err(io::Error::new(io::ErrorKind::WouldBlock, String::from_utf8_lossy(&text).trim().to_owned()));
        }
        let before = file.live.space();
        file.set_len(seq, 0);
        file.write(seq, 0, owner.as_bytes());
        let after = file.live.space();
        let disk = &mut state.disks[self.disk];
        disk.used = disk.used + after - before;
        state.locks.insert(id);
        Ok(Box::new(SimLock { machine: self.machine.clone(), id }))
    }

    fn display(&self, path: &str) -> String {
        self.state().full_path(self.disk, path)
    }
}

struct SimLock {
    machine: Machine,
    id: Id,
}

impl std::fmt::Debug for SimLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "lock on node {}", self.id)
    }
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.machine.state().locks.remove(&self.id);
    }
}

struct SimFile {
    machine: Machine,
    disk: usize,
    id: Id,
    path: String,
    writable: bool,
}

impl std::fmt::Debug for SimFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sim file {}", self.path)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.machine.state();
        if let Some(node) = state.nodes.get_mut(&self.id) {
            node.handles -= 1;
        }
        state.release(self.id);
    }
}

impl SimFile {
    fn pass(&self, state: &mut State, kind: OpKind, write: Option<(u64, &[u8])>) -> io::Result<Way> {
        if state.moments.is_some() {
            let change = write.map(|(offset, bytes)| (self.id, DataChange::of_write(offset, bytes)));
            state.remember(self.disk, kind, &self.path, change);
        }
        let State { gate, disks, .. } = state;
        gate.pass(kind, || format!("sim:{}/{}", disks[self.disk].name, self.path))
    }

    /// A write that reads back, and of which the disk never has what it says.
    fn write_falsely(&self, state: &mut State, offset: u64, bytes: &[u8], lie: Lie) -> io::Result<()> {
        let seq = state.next_seq();
        let half = match bytes.len() {
            len if len >= 2 * SECTOR => (len / 2).next_multiple_of(SECTOR),
            len => len / 2,
        };
        let kept = if lie == Lie::Half { &bytes[..half] } else { &[] };
        let file = state.file(self.id)?;
        let before = file.live.space();
        file.write_in_part(seq, offset, bytes, kept);
        let grown = file.live.space() - before;
        state.disks[self.disk].used += grown;
        if lie == Lie::Elsewhere {
            state.hit_another(self.disk, self.id, offset, bytes, seq);
        }
        Ok(())
    }

    fn writable(&self, state: &State, end: Option<u64>) -> io::Result<()> {
        state.writable(self.disk)?;
        if !self.writable {
            return Err(Errno::BADF.into());
        }
        if end.is_none_or(|end| end > FILE_LIMIT) { Err(Errno::FBIG.into()) } else { Ok(()) }
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut state = self.machine.state();
        state.gate.alive()?;
        if state.unreadable.contains(&self.id) {
            return Err(Errno::IO.into());
        }
        let live = &state.file(self.id)?.live;
        if !buf.is_empty() && offset.checked_add(buf.len() as u64).is_none_or(|end| end > live.len()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        live.read(offset, buf);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.machine.state();
        self.writable(&state, offset.checked_add(bytes.len() as u64))?;
        if bytes.is_empty() {
            return Ok(());
        }
        let (share, mut then) = match self.pass(&mut state, OpKind::Write, Some((offset, bytes)))? {
            Way::Whole => (bytes.len() as u64, None),
            Way::Part(Share::Half, e) => (bytes.len() as u64 / 2, Some(e)),
            Way::Part(Share::Bytes(n), e) => (n.min(bytes.len() as u64), Some(e)),
            Way::Drop(e) => return Err(e),
            Way::Lie(lie) => return self.write_falsely(&mut state, offset, bytes, lie),
        };
        let (free, seq) = (state.disks[self.disk].free(), state.next_seq());
        let file = state.file(self.id)?;
        let before = file.live.space();
        let fits = file.live.fits(offset, share, free);
        if fits < share {
            then = Some(Errno::NOSPC.into());
        }
        if fits > 0 {
            file.write(seq, offset, &bytes[..fits as usize]);
        }
        let grown = file.live.space() - before;
        state.disks[self.disk].used += grown;
        then.map_or(Ok(()), Err)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.machine.state();
        state.gate.alive()?;
        let way = self.pass(&mut state, OpKind::SyncData, None)?;
        state.file(self.id)?.sync(&way);
        way.result()
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.machine.state();
        state.gate.alive()?;
        Ok(state.file(self.id)?.live.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.machine.state();
        self.writable(&state, Some(len))?;
        match self.pass(&mut state, OpKind::SetLen, None)? {
            Way::Whole => {}
            Way::Part(_, e) | Way::Drop(e) => return Err(e),
            Way::Lie(_) => {}
        }
        let seq = state.next_seq();
        let file = state.file(self.id)?;
        let before = file.live.space();
        file.set_len(seq, len);
        let freed = before - file.live.space();
        state.disks[self.disk].used -= freed;
        Ok(())
    }
}

#[cfg(test)]
mod differential;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_control;
