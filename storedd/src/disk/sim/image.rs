//! What is found on the disks after a crash.

use super::content::Content;
use super::fault::Dice;
use super::state::{Body, DataChange, DataOp, Dir, DiskState, File, Id, Names, Node, State};
use std::collections::HashSet;

/// Which unsynced changes survive a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Persist {
    /// None.
    Nothing,
    /// All.
    Everything,
    /// All names, no bytes and no lengths.
    NamesWithoutData,
    /// All bytes and lengths, no names.
    DataWithoutNames,
    /// The oldest ones; how many, the seed says.
    Prefix(u64),
    /// Of each file and of each directory the newest one (and those it builds on).
    NewestOnly,
    /// All names and lengths, no bytes: what was not there before reads as zero.
    SizeWithoutBytes,
    /// By the seed: any subset of the name changes, any pieces of the writes, cut at sectors or at any byte; of what did
    /// not survive the length may have.
    RandomTorn(u64),
}

impl Persist {
    /// One of each kind; the seed goes to those that take one.
    #[must_use]
    pub fn all(seed: u64) -> [Persist; 8] {
        [
            Persist::Nothing,
            Persist::Everything,
            Persist::NamesWithoutData,
            Persist::DataWithoutNames,
            Persist::Prefix(seed),
            Persist::NewestOnly,
            Persist::SizeWithoutBytes,
            Persist::RandomTorn(seed),
        ]
    }
}

const SECTOR: u64 = 512;

/// A [`Persist`] decided for one moment of one machine.
struct Survival {
    persist: Persist,
    names: NamesKept,
    /// The number of the last change that survives in a prefix.
    last: u64,
}

/// What of the names survives.
enum NamesKept {
    None,
    All,
    These(HashSet<(Id, u64)>),
}

impl State {
    /// The machine after a crash at this moment and a restart.
    pub(super) fn image(&self, persist: Persist) -> State {
        let survival = self.survival(persist);
        let mut image = State { last_id: self.last_id, ..State::default() };
        for (at, disk) in self.disks.iter().enumerate() {
            let DiskState { ref name, root, capacity, .. } = *disk;
            image.disks.push(DiskState { name: name.clone(), root, capacity, used: 0, read_only: false });
            image.nodes.insert(root, Node { body: Body::Dir(Dir::default()), links: 0, handles: 0, disk: at });
        }
        for at in 0..self.disks.len() {
            let mut todo = vec![self.disks[at].root];
            while let Some(dir) = todo.pop() {
                todo.extend(self.copy_dir(dir, at, &survival, &mut image));
            }
        }
        image.unreadable = self.unreadable.iter().filter(|id| image.nodes.contains_key(*id)).copied().collect();
        image
    }

    /// Copies one directory with its files; the answer is its directories.
    fn copy_dir(&self, dir: Id, disk: usize, survival: &Survival, image: &mut State) -> Vec<Id> {
        let Some(Node { body: Body::Dir(source), .. }) = self.nodes.get(&dir) else { return Vec::new() };
        let mut names = surviving_names(dir, source, &survival.names);
        let mut inner = Vec::new();
        names.retain(|_, id| {
            if let Some(known) = image.nodes.get_mut(id) {
                // A second name of the same file.
                known.links += 1;
                return true;
            }
            let body = match self.nodes.get(id).map(|n| &n.body) {
                Some(Body::File(file)) => {
                    let durable = content(file, survival);
                    image.disks[disk].used += durable.space();
                    Body::File(File { live: durable.clone(), durable, ..File::default() })
                }
                Some(Body::Dir(_)) => {
                    inner.push(*id);
                    Body::Dir(Dir::default())
                }
                Some(Body::Symlink(target)) => Body::Symlink(target.clone()),
                None => return false,
            };
            image.nodes.insert(*id, Node { body, links: 1, handles: 0, disk });
            true
        });
        if let Some(Node { body: Body::Dir(copy), .. }) = image.nodes.get_mut(&dir) {
            *copy = Dir { live: names.clone(), durable: names, pending: Vec::new() };
        }
        inner
    }

    fn survival(&self, persist: Persist) -> Survival {
        let last = if let Persist::Prefix(seed) = persist { self.prefix(seed) } else { 0 };
        let names = match persist {
            Persist::Nothing | Persist::DataWithoutNames => NamesKept::None,
            Persist::Everything | Persist::NamesWithoutData | Persist::SizeWithoutBytes => NamesKept::All,
            Persist::Prefix(_) => NamesKept::These(self.close_over(|_, seq| seq <= last, true)),
            Persist::NewestOnly => {
                let newest = self.nodes.values().filter_map(|n| match &n.body {
                    Body::Dir(dir) => dir.pending.last().map(|op| op.seq),
                    _ => None,
                });
                let newest: HashSet<u64> = newest.collect();
                NamesKept::These(self.close_over(|_, seq| newest.contains(&seq), true))
            }
            Persist::RandomTorn(seed) => {
                let dice = Dice(seed);
                NamesKept::These(self.close_over(|_, seq| survives(dice, seq, 0), true))
            }
        };
        Survival { persist, names, last }
    }

    /// The number of the last change that survives in a prefix; each possible prefix is equally likely.
    fn prefix(&self, seed: u64) -> u64 {
        let mut all = vec![0];
        for node in self.nodes.values() {
            match &node.body {
                Body::File(file) => all.extend(file.pending.iter().map(|op| op.seq)),
                Body::Dir(dir) => all.extend(dir.pending.iter().map(|op| op.seq)),
                Body::Symlink(_) => {}
            }
        }
        all.sort_unstable();
        all.dedup();
        all[(Dice(seed).roll(0, 0) % all.len() as u64) as usize]
    }
}

fn content(file: &File, survival: &Survival) -> Content {
    let mut content = file.durable.clone();
    let all = file.pending.iter();
    match survival.persist {
        Persist::Nothing | Persist::NamesWithoutData => {}
        Persist::Everything | Persist::DataWithoutNames if !file.dropped => content = file.live.clone(),
        Persist::Everything | Persist::DataWithoutNames => all.for_each(|op| op.change.apply(&mut content)),
        Persist::Prefix(_) => {
            all.take_while(|op| op.seq <= survival.last).for_each(|op| op.change.apply(&mut content));
        }
        Persist::NewestOnly => all.rev().take(1).for_each(|op| op.change.apply(&mut content)),
        Persist::SizeWithoutBytes => all.for_each(|op| size_only(&op.change, &mut content)),
        Persist::RandomTorn(seed) => all.for_each(|op| torn(op, Dice(seed), &mut content)),
    }
    content
}

fn surviving_names(id: Id, dir: &Dir, kept: &NamesKept) -> Names {
    match kept {
        NamesKept::None => dir.durable.clone(),
        NamesKept::All => dir.live.clone(),
        NamesKept::These(kept) => {
            let mut names = dir.durable.clone();
            dir.pending.iter().filter(|op| kept.contains(&(id, op.seq))).for_each(|op| op.apply(&mut names));
            names
        }
    }
}

/// Grows or cuts as the change does; bytes that it adds are zero, bytes that were there stay.
fn size_only(change: &DataChange, content: &mut Content) {
    let end = match *change {
        DataChange::SetLen(len) => return content.set_len(len),
        DataChange::Zeros(offset, len) => offset + len,
        DataChange::Write(offset, ref bytes) => offset + bytes.len() as u64,
    };
    if end > content.len() {
        content.set_len(end);
    }
}

/// One change in eight survives, or every second, or all but one in eight: the seed says which.
fn survives(dice: Dice, seq: u64, part: u64) -> bool {
    let of_eight = [1, 4, 7][(dice.roll(0, 1) % 3) as usize];
    dice.roll(seq, part) % 8 < of_eight
}

/// Applies the pieces of a change that survive. A later piece over a lost earlier one is how writes that were reordered
/// look afterwards; an older one over a newer one is not, because a sector's writes reach the medium in order.
fn torn(op: &DataOp, dice: Dice, content: &mut Content) {
    let (offset, len) = match op.change {
        DataChange::SetLen(len) => {
            return if survives(dice, op.seq, 0) {
                content.set_len(len)
            };
        }
        DataChange::Zeros(offset, len) => (offset, len),
        DataChange::Write(offset, ref bytes) => (offset, bytes.len() as u64),
    };
    if dice.roll(op.seq, 1).is_multiple_of(2) {
        size_only(&op.change, content);
    }
    let cut = dice.roll(op.seq, 2) % (len + 1);
    let by_sector = !dice.roll(op.seq, 3).is_multiple_of(4);
    let (mut start, mut piece) = (0, 4);
    while start < len {
        let next_sector = (offset + start) / SECTOR * SECTOR + SECTOR - offset;
        let end = match by_sector {
            true => next_sector.min(len),
            false if start < cut => cut,
            false => len,
        };
        if survives(dice, op.seq, piece) {
            match &op.change {
                DataChange::Write(_, bytes) => content.write(offset + start, &bytes[start as usize..end as usize]),
                _ => content.write_zeros(offset + start, end - start),
            }
        }
        (start, piece) = (end, piece + 1);
    }
}
