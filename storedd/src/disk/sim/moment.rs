//! The machine at each of its operations: one recorded run gives every crash of it.

use super::fault::{Gate, OpKind};
use super::image::Persist;
use super::state::{Body, DataChange, DataOp, Dir, DiskState, File, Id, Node, State};
use super::{Machine, SimDisk};
use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};

/// An operation that is about to be done, and the machine just before it. A crash there is what
/// [`SimDisk::crash_at`] with its number gives, without running everything before it again.
#[derive(Debug)]
pub struct Moment {
    /// Number of the operation.
    pub n: u64,
    /// What; `None` for a moment that was asked for between two operations.
    pub kind: Option<OpKind>,
    /// Where.
    pub path: String,
    state: State,
    write: Option<(Id, DataChange)>,
}

impl Moment {
    /// Length in bytes of a write; 0 for other operations.
    #[must_use]
    pub fn write_bytes(&self) -> u64 {
        match &self.write {
            Some((_, DataChange::Write(_, bytes))) => bytes.len() as u64,
            Some((_, DataChange::Zeros(_, len))) => *len,
            _ => 0,
        }
    }

    /// The same moment with the first `bytes` bytes of the write done (and not synced).
    #[must_use]
    pub fn torn(&self, bytes: u64) -> Moment {
        let mut state = self.state.copy();
        if let Some((id, change)) = &self.write
            && let Some(change) = first(change, bytes)
        {
            let (seq, disk) = (state.next_seq(), state.nodes.get(id).map_or(0, |node| node.disk));
            if let Ok(file) = state.file(*id) {
                let before = file.live.space();
                change.apply(&mut file.live);
                file.pending.push(DataOp { seq, change });
                let grown = file.live.space() - before;
                state.disks[disk].used += grown;
            }
        }
        Moment { n: self.n, kind: self.kind, path: self.path.clone(), state, write: None }
    }

    /// The machine that is found after a crash at this moment, as [`SimDisk::image`]. The answer is its disk with the
    /// empty name.
    #[must_use]
    pub fn image(&self, persist: Persist) -> SimDisk {
        SimDisk { machine: Machine(Arc::new(Mutex::new(self.state.image(persist)))), disk: 0 }
    }

    /// The machine that a new process finds after this one was killed at this moment: nothing is lost, and nothing is
    /// any more durable than it was. The answer is its disk with the empty name.
    #[must_use]
    pub fn killed(&self) -> SimDisk {
        let mut state = self.state.copy();
        state.nodes.values_mut().for_each(|node| node.handles = 0);
        SimDisk { machine: Machine(Arc::new(Mutex::new(state))), disk: 0 }
    }

    /// Number of unsynced changes: 0 means that every [`Persist`] gives the same image.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.state.unsynced()
    }
}

/// The first `bytes` bytes of a write.
fn first(change: &DataChange, bytes: u64) -> Option<DataChange> {
    match change {
        _ if bytes == 0 => None,
        DataChange::Write(offset, all) => {
            let end = all.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
            Some(DataChange::Write(*offset, all[..end].into()))
        }
        DataChange::Zeros(offset, len) => Some(DataChange::Zeros(*offset, bytes.min(*len))),
        DataChange::SetLen(_) => None,
    }
}

/// Moments.
impl SimDisk {
    /// Starts keeping a [`Moment`] of each operation, or stops and forgets them.
    pub fn set_recording(&self, on: bool) {
        self.state().moments = on.then(Vec::new);
    }

    /// The moments kept since the last time, oldest first.
    #[must_use]
    pub fn take_moments(&self) -> Vec<Moment> {
        self.state().moments.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The machine as it is now.
    #[must_use]
    pub fn moment(&self) -> Moment {
        let state = self.state();
        Moment { n: state.gate.ops + 1, kind: None, path: String::new(), state: state.copy(), write: None }
    }

    /// True if nothing that can be read on any disk differs. Fast where both come from the same moment.
    #[must_use]
    pub fn is_same(&self, other: &SimDisk) -> bool {
        if Arc::ptr_eq(&self.machine.0, &other.machine.0) {
            return true;
        }
        // The lower address first, so that two threads never wait for each other.
        let turned = Arc::as_ptr(&self.machine.0) > Arc::as_ptr(&other.machine.0);
        let (a, b) = if turned { (other.state(), self.state()) } else { (self.state(), other.state()) };
        let (mine, theirs) = (a.contents(), b.contents());
        mine.len() == theirs.len()
            && mine.iter().zip(&theirs).all(|(a, b)| {
                a.0 == b.0
                    && match (a.1, b.1) {
                        (Some(Body::File(a)), Some(Body::File(b))) => a.live.is_same(&b.live),
                        (Some(Body::Symlink(a)), Some(Body::Symlink(b))) => a == b,
                        (Some(Body::Dir(_)), Some(Body::Dir(_))) | (None, None) => true,
                        _ => false,
                    }
            })
    }

    /// A number that is equal for equal machines (see [`SimDisk::is_same`]) and differs for most others; cheap.
    #[must_use]
    pub fn sketch(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (path, body) in self.state().contents() {
            path.hash(&mut hasher);
            if let Some(Body::File(file)) = body {
                file.live.sketch(&mut hasher);
            }
        }
        hasher.finish()
    }
}

impl State {
    /// Keeps a copy of the machine, if that was asked for and the operation will be counted.
    pub(super) fn remember(&mut self, disk: usize, kind: OpKind, path: &str, write: Option<(Id, DataChange)>) {
        if self.moments.is_none() || self.gate.crashed {
            return;
        }
        let (n, path) = (self.gate.ops + 1, self.full_path(disk, path));
        let moment = Moment { n, kind: Some(kind), path, state: self.copy(), write };
        self.moments.get_or_insert_default().push(moment);
    }

    /// The same machine, durable and live, without faults, locks and open files.
    fn copy(&self) -> State {
        let disks = self.disks.iter().map(|d| DiskState {
            name: d.name.clone(),
            root: d.root,
            capacity: d.capacity,
            used: d.used,
            read_only: d.read_only,
        });
        State {
            nodes: self.nodes.iter().map(|(id, node)| (*id, node.copy())).collect(),
            disks: disks.collect(),
            gate: Gate::default(),
            locks: HashSet::new(),
            unreadable: self.unreadable.clone(),
            last_id: self.last_id,
            seq: self.seq,
            swept: self.swept,
            moments: None,
        }
    }

    pub(super) fn unsynced(&self) -> usize {
        let pending = self.nodes.values().map(|node| match &node.body {
            Body::File(file) => file.pending.len(),
            Body::Dir(dir) => dir.pending.len(),
            Body::Symlink(_) => 0,
        });
        pending.sum()
    }

    /// Every live path with what it leads to.
    fn contents(&self) -> BTreeMap<String, Option<&Body>> {
        let mut all = BTreeMap::new();
        for (at, disk) in self.disks.iter().enumerate() {
            let mut todo = vec![(disk.root, self.full_path(at, ""))];
            while let Some((dir, path)) = todo.pop() {
                let Some(Node { body: Body::Dir(dir), .. }) = self.nodes.get(&dir) else { continue };
                for (name, id) in &dir.live {
                    let path = format!("{path}{name}");
                    let body = self.nodes.get(id).map(|n| &n.body);
                    if let Some(Body::Dir(_)) = body {
                        todo.push((*id, format!("{path}/")));
                    }
                    all.insert(path, body);
                }
            }
        }
        all
    }
}

impl Node {
    fn copy(&self) -> Node {
        let body = match &self.body {
            Body::File(file) => Body::File(File {
                durable: file.durable.clone(),
                live: file.live.clone(),
                pending: file.pending.clone(),
                dropped: file.dropped,
            }),
            Body::Dir(dir) => {
                Body::Dir(Dir { durable: dir.durable.clone(), live: dir.live.clone(), pending: dir.pending.clone() })
            }
            Body::Symlink(target) => Body::Symlink(target.clone()),
        };
        Node { body, links: self.links, handles: self.handles, disk: self.disk }
    }
}
