//! What a test does to a simulated machine beside using it.

use super::content::Content;
use super::fault::{Fault, OpKind};
use super::image::Persist;
use super::state::{Body, File, Id, State};
use super::{Kind, Machine, SimDisk, mix};
use crate::checksum::Crc;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::{Arc, Mutex};

impl Default for SimDisk {
    fn default() -> Self {
        SimDisk::new()
    }
}

/// The machine.
impl SimDisk {
    /// The disk with the empty name of a new machine.
    #[must_use]
    pub fn new() -> SimDisk {
        let mut state = State::default();
        let disk = state.disk("");
        SimDisk { machine: Machine(Arc::new(Mutex::new(state))), disk }
    }

    /// The disk of this name of the same machine; new and empty if there is none.
    #[must_use]
    pub fn disk(&self, name: &str) -> SimDisk {
        SimDisk { machine: self.machine.clone(), disk: self.state().disk(name) }
    }

    /// True if the machine has a disk of this name.
    #[must_use]
    pub fn has_disk(&self, name: &str) -> bool {
        self.state().disks.iter().any(|disk| disk.name == name)
    }

    /// The whole machine as it is found after a crash at this moment, as another machine; this one is not changed. The
    /// answer is this same disk of it. Its operations are numbered from 1 again, it has no faults and no locks.
    #[must_use]
    pub fn image(&self, persist: Persist) -> SimDisk {
        let image = self.state().image(persist);
        SimDisk { machine: Machine(Arc::new(Mutex::new(image))), disk: self.disk }
    }

    /// Every call from the `n`-th operation on fails with kind `Other` and the text "crashed"; the `n`-th is not done.
    pub fn crash_at(&self, n: u64) {
        self.crash_torn_at(n, 0);
    }

    /// The same, but if the `n`-th operation is a write, its first `bytes` bytes are written (and not synced).
    pub fn crash_torn_at(&self, n: u64, bytes: u64) {
        self.state().gate.crash = Some((n, bytes));
    }

    /// True once the crash has come.
    #[must_use]
    pub fn is_crashed(&self) -> bool {
        self.state().gate.crashed
    }

    /// The `n`-th operation meets this fault. One fault an operation; several operations may have one.
    pub fn fail_at(&self, n: u64, fault: Fault) {
        self.state().gate.faults.insert(n, fault);
    }

    /// Ends all faults, also those that last.
    pub fn heal(&self) {
        self.state().gate.heal();
    }

    /// Number of operations so far, of all disks of the machine.
    #[must_use]
    pub fn ops(&self) -> u64 {
        self.state().gate.ops
    }

    /// Starts recording operations, or stops and forgets them.
    pub fn set_trace(&self, on: bool) {
        self.state().gate.trace = on.then(Vec::new);
    }

    /// The recorded operations, oldest first: what and where (a file's path is the one it was opened by).
    #[must_use]
    pub fn op_kinds(&self) -> Vec<(OpKind, String)> {
        self.state().gate.trace.clone().unwrap_or_default()
    }

    /// Number of unsynced changes: 0 means that every [`Persist`] gives the same image.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.state().unsynced()
    }
}

/// This disk.
impl SimDisk {
    /// Leaves `bytes` (in whole pages of 4096) for more writes: one that needs more writes what fits and fails with ENOSPC.
    pub fn set_free_bytes(&self, bytes: u64) {
        let disk = &mut self.state().disks[self.disk];
        disk.capacity = Some(disk.used + bytes);
    }

    /// Ends the bound of [`SimDisk::set_free_bytes`].
    pub fn set_unbounded(&self) {
        self.state().disks[self.disk].capacity = None;
    }

    /// Refuses (EROFS) or allows changes.
    pub fn set_read_only(&self, on: bool) {
        self.state().disks[self.disk].read_only = on;
    }

    /// Reads of this file fail with EIO, or no longer; also in images.
    ///
    /// # Errors
    /// No such file.
    pub fn set_unreadable(&self, path: &str, on: bool) -> io::Result<()> {
        let mut state = self.state();
        let id = state.find_file(self.disk, path, false)?;
        if on {
            state.unreadable.insert(id)
        } else {
            state.unreadable.remove(&id)
        };
        Ok(())
    }
}

/// Bytes and names changed behind the store's back: durably, not counted, not recorded. For files without unsynced
/// changes; an unsynced one may cover the new bytes after a crash.
impl SimDisk {
    /// Flips the bits of `xor` in the byte at `offset`.
    ///
    /// # Errors
    /// No such file, or an offset behind its end.
    pub fn damage(&self, path: &str, offset: u64, xor: u8) -> io::Result<()> {
        self.alter(path, |content| {
            let mut byte = [0];
            if offset >= content.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            content.read(offset, &mut byte);
            content.write(offset, &[byte[0] ^ xor]);
            Ok(())
        })
    }

    /// Overwrites bytes, growing the file if needed.
    ///
    /// # Errors
    /// No such file.
    pub fn poke(&self, path: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.alter(path, |content| {
            content.write(offset, bytes);
            Ok(())
        })
    }

    /// Cuts or grows a file.
    ///
    /// # Errors
    /// No such file.
    pub fn truncate(&self, path: &str, len: u64) -> io::Result<()> {
        self.alter(path, |content| {
            content.set_len(len);
            Ok(())
        })
    }

    /// All bytes of a file.
    ///
    /// # Errors
    /// No such file.
    pub fn peek(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut state = self.state();
        let id = state.find_file(self.disk, path, true)?;
        let live = &state.file(id)?.live;
        let mut bytes = vec![0; live.len() as usize];
        live.read(0, &mut bytes);
        Ok(bytes)
    }

    /// Puts a file there, replacing one of that name. Its directory exists.
    ///
    /// # Errors
    /// No such directory, or a directory has the name.
    pub fn plant(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut content = Content::default();
        content.write(0, bytes);
        let space = content.space();
        let file = File { durable: content.clone(), live: content, ..File::default() };
        self.put(path, Body::File(file))?;
        self.state().disks[self.disk].used += space;
        Ok(())
    }

    /// Puts a symbolic link there; `target` is relative to the root of this disk.
    ///
    /// # Errors
    /// As [`SimDisk::plant`].
    pub fn plant_symlink(&self, path: &str, target: &str) -> io::Result<()> {
        self.put(path, Body::Symlink(target.to_owned()))
    }

    /// Takes a file away, or a directory with all below it.
    ///
    /// # Errors
    /// Nothing of that name.
    pub fn erase(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        let spot = state.find(self.disk, path)?;
        let id = spot.node.ok_or(Errno::NOENT)?;
        let dir = state.dir(spot.dir)?;
        dir.live.remove(&spot.name);
        dir.durable.remove(&spot.name);
        let mut todo = vec![id];
        while let Some(id) = todo.pop() {
            state.link(id, false);
            todo.extend(state.dir(id).into_iter().flat_map(|dir| dir.live.values().copied().collect::<Vec<_>>()));
        }
        Ok(())
    }

    fn put(&self, path: &str, body: Body) -> io::Result<()> {
        let mut state = self.state();
        let spot = state.find(self.disk, path)?;
        if let Some(replaced) = spot.node {
            if state.dir(replaced).is_ok() {
                return Err(Errno::ISDIR.into());
            }
            state.link(replaced, false);
        }
        let id = state.add_node(self.disk, body);
        let dir = state.dir(spot.dir)?;
        dir.live.insert(spot.name.clone(), id);
        dir.durable.insert(spot.name, id);
        state.link(id, true);
        Ok(())
    }

    fn alter(&self, path: &str, change: impl Fn(&mut Content) -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state();
        let id = state.find_file(self.disk, path, true)?;
        let file = state.file(id)?;
        let before = file.live.space();
        let clean = file.pending.is_empty() && !file.dropped;
        change(&mut file.live)?;
        if clean {
            file.durable = file.live.clone();
        } else {
            change(&mut file.durable)?;
        }
        let after = file.live.space();
        let disk = &mut state.disks[self.disk];
        disk.used = disk.used + after - before;
        Ok(())
    }
}

/// What a path of [`SimDisk::tree`] is: kind, length in bytes, checksum of the bytes (or of a link's target).
pub type Leaf = (Kind, u64, u64);

/// Comparing.
impl SimDisk {
    /// Everything that can be seen on all disks of the machine, by path; two trees are equal if and only if nothing
    /// differs (but for collisions of a checksum of 64 bits).
    #[must_use]
    pub fn tree(&self) -> BTreeMap<String, Leaf> {
        let state = self.state();
        let mut tree = BTreeMap::new();
        for (at, disk) in state.disks.iter().enumerate() {
            walk(&state, disk.root, &state.full_path(at, ""), &mut tree);
        }
        tree
    }

    /// One number for [`SimDisk::tree`], for "changed nothing" tests.
    #[must_use]
    pub fn tree_hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (path, (kind, len, sum)) in self.tree() {
            (path, kind as u8, len, sum).hash(&mut hasher);
        }
        hasher.finish()
    }
}

fn walk(state: &State, dir: Id, path: &str, tree: &mut BTreeMap<String, Leaf>) {
    let Some(Body::Dir(dir)) = state.nodes.get(&dir).map(|n| &n.body) else { return };
    for (name, id) in &dir.live {
        let path = format!("{path}{name}");
        let leaf = match state.nodes.get(id).map(|n| &n.body) {
            Some(Body::File(file)) => (Kind::File, file.live.len(), checksum(&file.live)),
            Some(Body::Symlink(target)) => (Kind::Symlink, 0, text_checksum(target)),
            Some(Body::Dir(_)) => {
                walk(state, *id, &format!("{path}/"), tree);
                (Kind::Dir, 0, 0)
            }
            None => (Kind::Other, 0, 0),
        };
        tree.insert(path, leaf);
    }
}

/// Two checksums of 32 bits side by side, one of them mixed with the place of each page.
fn checksum(content: &Content) -> u64 {
    let (mut whole, mut places) = (Crc::seeded(b"file"), 0u64);
    for (page, bytes) in content.nonzero() {
        whole = whole.add(&(page as u64).to_le_bytes()).add(bytes);
        places = mix(places ^ mix(page as u64) ^ u64::from(Crc::seeded(b"page").add(&bytes[..]).value()));
    }
    places << 32 | u64::from(whole.value())
}

fn text_checksum(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
