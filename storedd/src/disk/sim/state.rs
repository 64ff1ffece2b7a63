//! The machine: nodes, names, and what of both is not synced yet.

use super::content::{Content, is_zero};
use super::fault::{Gate, Way};
use super::moment::Moment;
use crate::disk::{check_path, parent};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::sync::Arc;

/// Identity of a node; a rename keeps it.
pub(super) type Id = u64;
pub(super) type Names = BTreeMap<Arc<str>, Id>;

#[derive(Debug)]
pub(super) enum Body {
    File(File),
    Dir(Dir),
    /// The target, relative to the root of the same disk.
    Symlink(String),
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) body: Body,
    /// Live names.
    pub(super) links: u32,
    /// Open files.
    pub(super) handles: u32,
    pub(super) disk: usize,
}

/// Bytes as they would be read after a crash that kept nothing unsynced, bytes as they are read now, and the changes
/// between the two, oldest first.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) durable: Content,
    pub(super) live: Content,
    pub(super) pending: Vec<DataOp>,
    /// A failed sync dropped changes: `live` shows bytes that no sync will ever write.
    pub(super) dropped: bool,
}

#[derive(Debug, Clone)]
pub(super) struct DataOp {
    pub(super) seq: u64,
    pub(super) change: DataChange,
}

#[derive(Debug, Clone)]
pub(super) enum DataChange {
    Write(u64, Arc<[u8]>),
    Zeros(u64, u64),
    SetLen(u64),
}

impl DataChange {
    pub(super) fn of_write(offset: u64, bytes: &[u8]) -> DataChange {
        match is_zero(bytes) {
            true => DataChange::Zeros(offset, bytes.len() as u64),
            false => DataChange::Write(offset, bytes.into()),
        }
    }

    pub(super) fn apply(&self, content: &mut Content) {
        match self {
            DataChange::Write(offset, bytes) => content.write(*offset, bytes),
            DataChange::Zeros(offset, len) => content.write_zeros(*offset, *len),
            DataChange::SetLen(len) => content.set_len(*len),
        }
    }
}

impl File {
    pub(super) fn write(&mut self, seq: u64, offset: u64, bytes: &[u8]) {
        self.live.write(offset, bytes);
        self.pending.push(DataOp { seq, change: DataChange::of_write(offset, bytes) });
    }

    /// Of what is written, no more than `kept` will ever be on the disk; the length is that of a whole write.
    pub(super) fn write_in_part(&mut self, seq: u64, offset: u64, bytes: &[u8], kept: &[u8]) {
        let (before, end) = (self.live.len(), offset + bytes.len() as u64);
        self.live.write(offset, bytes);
        if end > before {
            self.pending.push(DataOp { seq, change: DataChange::SetLen(end) });
        }
        if !kept.is_empty() {
            self.pending.push(DataOp { seq, change: DataChange::of_write(offset, kept) });
        }
        self.dropped = true;
    }

    pub(super) fn set_len(&mut self, seq: u64, len: u64) {
        self.live.set_len(len);
        self.pending.push(DataOp { seq, change: DataChange::SetLen(len) });
    }

    /// What a sync does that goes this way.
    pub(super) fn sync(&mut self, way: &Way) {
        match way {
            Way::Whole => self.promote(),
            Way::Drop(_) => {
                self.dropped |= !self.pending.is_empty();
                self.pending.clear();
            }
            Way::Part(..) | Way::Lie(_) => {}
        }
    }

    /// Makes all changes durable.
    fn promote(&mut self) {
        let durable = self.durable.len();
        let cuts = self.pending.iter().any(|op| matches!(op.change, DataChange::SetLen(len) if len < durable));
        for op in std::mem::take(&mut self.pending) {
            match op.change {
                // The usual case shares the pages instead of writing the bytes twice.
                DataChange::Write(offset, bytes) if !self.dropped && !cuts => {
                    self.durable.adopt(&self.live, offset..offset + bytes.len() as u64);
                }
                DataChange::SetLen(_) if !self.dropped && !cuts => self.durable.set_len(self.live.len()),
                change => change.apply(&mut self.durable),
            }
        }
    }
}

/// The names of a directory; as with a file's bytes.
#[derive(Debug, Default)]
pub(super) struct Dir {
    pub(super) durable: Names,
    pub(super) live: Names,
    pub(super) pending: Vec<NameOp>,
}

#[derive(Debug, Clone)]
pub(super) struct NameOp {
    /// Both halves of a rename between two directories have the same number.
    pub(super) seq: u64,
    pub(super) id: Id,
    pub(super) change: NameChange,
}

#[derive(Debug, Clone)]
pub(super) enum NameChange {
    Add(Arc<str>),
    Del(Arc<str>),
    /// A rename in the same directory: atomic.
    Move(Arc<str>, Arc<str>),
    /// The new half of a rename from another directory.
    In(Arc<str>, Id),
    /// The old half of a rename into another directory.
    Out(Arc<str>, Id),
}

impl NameOp {
    pub(super) fn apply(&self, names: &mut Names) {
        if let NameChange::Del(name) | NameChange::Out(name, _) | NameChange::Move(name, _) = &self.change
            && names.get(name) == Some(&self.id)
        {
            names.remove(name);
        }
        if let NameChange::Add(name) | NameChange::In(name, _) | NameChange::Move(_, name) = &self.change {
            names.insert(name.clone(), self.id);
        }
    }

    fn names(&self) -> [&Arc<str>; 2] {
        match &self.change {
            NameChange::Add(n) | NameChange::Del(n) | NameChange::In(n, _) | NameChange::Out(n, _) => [n, n],
            NameChange::Move(a, b) => [a, b],
        }
    }
}

#[derive(Debug)]
pub(super) struct DiskState {
    pub(super) name: String,
    pub(super) root: Id,
    /// Space in bytes; `None` is without bound.
    pub(super) capacity: Option<u64>,
    pub(super) used: u64,
    pub(super) read_only: bool,
}

impl DiskState {
    pub(super) fn free(&self) -> u64 {
        self.capacity.map_or(super::UNBOUNDED, |capacity| capacity.saturating_sub(self.used))
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) nodes: HashMap<Id, Node>,
    pub(super) disks: Vec<DiskState>,
    pub(super) gate: Gate,
    pub(super) locks: HashSet<Id>,
    pub(super) unreadable: BTreeSet<Id>,
    pub(super) last_id: Id,
    pub(super) seq: u64,
    pub(super) swept: usize,
    /// Kept by each operation, if wanted.
    pub(super) moments: Option<Vec<Moment>>,
}

/// Where a path leads: its directory, its last component, and the node there if there is one.
#[derive(Debug)]
pub(super) struct Spot {
    pub(super) dir: Id,
    pub(super) name: Arc<str>,
    pub(super) node: Option<Id>,
}

impl State {
    pub(super) fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    pub(super) fn add_node(&mut self, disk: usize, body: Body) -> Id {
        self.last_id += 1;
        self.nodes.insert(self.last_id, Node { body, links: 0, handles: 0, disk });
        self.last_id
    }

    /// The disk of this name, new if there is none.
    pub(super) fn disk(&mut self, name: &str) -> usize {
        if let Some(at) = self.disks.iter().position(|d| d.name == name) {
            return at;
        }
        let at = self.disks.len();
        let root = self.add_node(at, Body::Dir(Dir::default()));
        self.disks.push(DiskState { name: name.to_owned(), root, capacity: None, used: 0, read_only: false });
        at
    }

    pub(super) fn file(&mut self, id: Id) -> io::Result<&mut File> {
        match self.nodes.get_mut(&id).map(|n| &mut n.body) {
            Some(Body::File(file)) => Ok(file),
            Some(Body::Dir(_)) => Err(Errno::ISDIR.into()),
            Some(Body::Symlink(_)) => Err(Errno::LOOP.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    pub(super) fn dir(&mut self, id: Id) -> io::Result<&mut Dir> {
        match self.nodes.get_mut(&id).map(|n| &mut n.body) {
            Some(Body::Dir(dir)) => Ok(dir),
            Some(Body::File(_)) => Err(Errno::NOTDIR.into()),
            Some(Body::Symlink(_)) => Err(Errno::LOOP.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    /// The directory at `path`; `""` is the root.
    pub(super) fn find_dir(&mut self, disk: usize, path: &str) -> io::Result<Id> {
        let mut at = self.disks[disk].root;
        if !path.is_empty() {
            check_path(path)?;
            for name in path.split('/') {
                at = self.dir(at)?.live.get(name).copied().ok_or(Errno::NOENT)?;
            }
        }
        self.dir(at)?;
        Ok(at)
    }

    pub(super) fn find(&mut self, disk: usize, path: &str) -> io::Result<Spot> {
        check_path(path)?;
        let above = parent(path);
        let name = if above.is_empty() { path } else { &path[above.len() + 1..] };
        let dir = self.find_dir(disk, above)?;
        let node = self.dir(dir)?.live.get(name).copied();
        Ok(Spot { dir, name: name.into(), node })
    }

    /// The file at `path`, through symbolic links if `follow`.
    pub(super) fn find_file(&mut self, disk: usize, path: &str, follow: bool) -> io::Result<Id> {
        let id = self.find(disk, path)?.node.ok_or(Errno::NOENT)?;
        match self.nodes.get(&id).map(|n| &n.body) {
            Some(Body::Symlink(target)) if follow => {
                let target = target.clone();
                self.find_file(disk, &target, false)
            }
            _ => self.file(id).map(|_| id),
        }
    }

    /// One name change: visible now, durable after a sync of the directory.
    pub(super) fn change_name(&mut self, dir: Id, op: NameOp) -> io::Result<()> {
        let dir = self.dir(dir)?;
        op.apply(&mut dir.live);
        dir.pending.push(op);
        Ok(())
    }

    /// Counts a live name more or less; space of a file that nobody can reach any more is free again.
    pub(super) fn link(&mut self, id: Id, more: bool) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.links = if more { node.links + 1 } else { node.links - 1 };
        }
        self.release(id);
    }

    pub(super) fn release(&mut self, id: Id) {
        let Some(Node { links: 0, handles: 0, disk, body: Body::File(file) }) = self.nodes.get_mut(&id) else { return };
        self.disks[*disk].used -= file.live.space();
        // Names that a crash may bring back refer to the durable bytes only.
        file.live = Content::default();
        file.dropped = true;
    }

    /// Makes the names of one directory durable.
    pub(super) fn promote_names(&mut self, dir: Id) -> io::Result<()> {
        let plain = |op: &NameOp| !matches!(op.change, NameChange::In(..) | NameChange::Out(..));
        let this = self.dir(dir)?;
        if this.pending.iter().all(plain) {
            this.durable = this.live.clone();
            this.pending.clear();
            return Ok(());
        }
        let kept = self.close_over(|at, _| at == dir, false);
        for (id, node) in &mut self.nodes {
            if let Body::Dir(dir) = &mut node.body {
                let mut pending = std::mem::take(&mut dir.pending);
                pending.retain(|op| {
                    let keep = kept.contains(&(*id, op.seq));
                    if keep {
                        op.apply(&mut dir.durable);
                    }
                    !keep
                });
                dir.pending = pending;
            }
        }
        Ok(())
    }

    /// Bytes that were meant for the file `meant` fall on those of another file of the disk that is as long: on the disk, and not in memory.
    pub(super) fn hit_another(&mut self, disk: usize, meant: Id, offset: u64, bytes: &[u8], seq: u64) {
        let others = self.nodes.iter_mut().filter(|(id, node)| **id != meant && node.disk == disk && node.links > 0);
        let mut files: Vec<(Id, &mut File)> = others
            .filter_map(|(id, node)| match &mut node.body {
                Body::File(file) if file.durable.len() > 0 => Some((*id, file)),
                _ => None,
            })
            .collect();
        files.sort_by_key(|(id, _)| *id);
        if files.is_empty() {
            return;
        }
        let nth = (seq % files.len() as u64) as usize;
        let file = &mut *files[nth].1;
        let offset = if offset < file.durable.len() { offset } else { offset % file.durable.len() };
        let room = usize::try_from(file.durable.len() - offset).unwrap_or(usize::MAX);
        file.durable.write(offset, &bytes[..bytes.len().min(room)]);
        file.dropped = true;
    }

    /// A sync of all bytes and names of a disk.
    pub(super) fn sync_disk(&mut self, disk: usize, way: Way) -> io::Result<()> {
        if let Way::Lie(_) = way {
            return Ok(());
        }
        let mut dirs = Vec::new();
        for (id, node) in self.nodes.iter_mut().filter(|(_, node)| node.disk == disk) {
            match &mut node.body {
                Body::File(file) => file.sync(&way),
                Body::Dir(dir) if !dir.pending.is_empty() => dirs.push(*id),
                Body::Dir(_) | Body::Symlink(_) => {}
            }
        }
        way.result()?;
        dirs.into_iter().try_for_each(|dir| self.promote_names(dir))?;
        self.sweep();
        Ok(())
    }

    /// The unsynced name changes (directory, number) that survive if the chosen ones do: a name has one history, so
    /// an earlier change of it survives with a later one (and what it was moved to or from with it); the old half of a
    /// rename between directories never without the new half, and of a directory not the other way round either.
    /// With `atomic` that holds for files too.
    pub(super) fn close_over(&self, chosen: impl Fn(Id, u64) -> bool, atomic: bool) -> HashSet<(Id, u64)> {
        let mut all: Vec<(Id, &NameOp)> = Vec::new();
        for (id, node) in &self.nodes {
            if let Body::Dir(dir) = &node.body {
                all.extend(dir.pending.iter().map(|op| (*id, op)));
            }
        }
        // Newest first; of the two halves of a rename the old one first, because it draws the new one in.
        all.sort_by_key(|(_, op)| (std::cmp::Reverse(op.seq), matches!(op.change, NameChange::In(..))));
        let is_dir = |id: Id| matches!(self.nodes.get(&id), Some(Node { body: Body::Dir(_), .. }));
        let (mut kept, mut names) = (HashSet::new(), HashSet::new());
        for (dir, op) in all {
            let drawn = op.names().iter().any(|name| names.contains(&(dir, *name)));
            if !drawn && !chosen(dir, op.seq) && !kept.contains(&(dir, op.seq)) {
                continue;
            }
            kept.insert((dir, op.seq));
            names.extend(op.names().map(|name| (dir, name)));
            match op.change {
                NameChange::Out(_, to) => {
                    kept.insert((to, op.seq));
                }
                // Its old half came before it in this walk; what that one draws in comes after.
                NameChange::In(_, from) if (atomic || is_dir(op.id)) && self.has_pending(from, op.seq) => {
                    kept.insert((from, op.seq));
                    names.extend(self.pending_name(from, op.seq).map(|name| (from, name)));
                }
                _ => {}
            }
        }
        kept
    }

    fn pending_name(&self, dir: Id, seq: u64) -> Option<&Arc<str>> {
        let Some(Node { body: Body::Dir(dir), .. }) = self.nodes.get(&dir) else { return None };
        dir.pending.iter().find(|op| op.seq == seq).map(|op| op.names()[0])
    }

    fn has_pending(&self, dir: Id, seq: u64) -> bool {
        self.pending_name(dir, seq).is_some()
    }

    /// Forgets nodes that no name, live or durable or pending, and no open file leads to.
    pub(super) fn sweep(&mut self) {
        if self.nodes.len() < 2 * self.swept + 1000 {
            return;
        }
        let mut todo: Vec<Id> = self.disks.iter().map(|d| d.root).collect();
        todo.extend(self.nodes.iter().filter(|(_, n)| n.handles > 0).map(|(id, _)| *id));
        let mut reached: HashSet<Id> = HashSet::new();
        while let Some(id) = todo.pop() {
            if reached.insert(id)
                && let Some(Node { body: Body::Dir(dir), .. }) = self.nodes.get(&id)
            {
                todo.extend(dir.durable.values().chain(dir.live.values()));
                todo.extend(dir.pending.iter().map(|op| op.id));
            }
        }
        self.nodes.retain(|id, _| reached.contains(id));
        self.swept = self.nodes.len();
    }
}
