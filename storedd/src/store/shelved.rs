//! Which snapshots there are, place by place, as far as the places can be read.
//!
//! # Invariants
//! * What cannot be read now counts as what it was when it was read last: one error of a disk gives up no log, and nothing that indexes keep.
//! * What was never read may be anything: until it was, all log is kept that the budget allows (I4), and indexes keep every state.

use super::disks::SnapshotPlace;
use super::retention::Choosable;
use crate::error::{Result, StoreError};
use crate::lsn::{Lsn, StoreId};
use crate::snapshot::{Depth, Shelf, Snapshot, lsn_of};
use std::collections::BTreeMap;
use std::io;

/// What is known of the snapshots of a store.
#[derive(Debug, Clone, Default)]
pub(super) struct Shelved(BTreeMap<String, OfPlace>);

/// What is known of one place.
#[derive(Debug, Clone, Default)]
struct OfPlace {
    /// By name; `None`: it was never read.
    snapshots: Option<BTreeMap<String, Known>>,
    /// What of it could not be read the last time.
    why: Option<String>,
}

/// What is known of one snapshot.
#[derive(Debug, Clone)]
enum Known {
    /// What it was when it was read last.
    Read {
        /// It is of this store.
        is_ours: bool,
        /// It is valid, too.
        choosable: Option<Choosable>,
        /// Where it stands.
        lsn: Lsn,
    },
    /// It could not be read yet; where it stands, as its name says.
    Unread(Lsn),
}

impl Shelved {
    /// Looks at every place again. What cannot be read stays what it was.
    pub(super) fn look(&self, places: Vec<SnapshotPlace>, store: StoreId) -> Shelved {
        let look = |place: SnapshotPlace| {
            let before = self.0.get(&place.name).cloned().unwrap_or_default();
            let seen = match place.shelf.and_then(|shelf| Ok((shelf.list()?, shelf))) {
                Ok((ids, shelf)) => before.seen(&shelf, &ids, store),
                // No snapshot was ever taken there.
                Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound && !place.was_used => {
                    return None;
                }
                // It is away.
                Err(StoreError::Refused { message, hint, .. }) => {
                    OfPlace { why: Some(format!("{message}; {hint}")), ..before }
                }
                Err(e) => OfPlace { why: Some(e.to_string()), ..before },
            };
            Some((place.name, seen))
        };
        Shelved(places.into_iter().filter_map(look).collect())
    }

    /// Those that a rollback may choose, the oldest first.
    pub(super) fn choosable(&self) -> Vec<Choosable> {
        let of = |known: &Known| match known {
            Known::Read { choosable, .. } => choosable.clone(),
            Known::Unread(_) => None,
        };
        let mut all: Vec<Choosable> = self.each().filter_map(of).collect();
        all.sort_by(|a, b| (a.epoch, a.lsn, &a.id).cmp(&(b.epoch, b.lsn, &b.id)));
        all
    }

    /// Where those stand that are, or may be, of this store: one that was not verified yet may still be. `None`: nobody knows.
    pub(super) fn moments(&self) -> Option<Vec<Lsn>> {
        let of = |known: &Known| match known {
            Known::Read { is_ours, lsn, .. } => is_ours.then_some(*lsn),
            Known::Unread(lsn) => Some(*lsn),
        };
        let is_known = self.0.values().all(|place| place.snapshots.is_some());
        is_known.then(|| self.each().filter_map(of).collect())
    }

    /// The LSN behind which somebody may want log of whom nothing could be read yet.
    pub(super) fn unread(&self) -> Option<Lsn> {
        let of = |known: &Known| match known {
            Known::Unread(lsn) => Some(*lsn),
            Known::Read { .. } => None,
        };
        match self.0.values().any(|place| place.snapshots.is_none()) {
            true => Some(Lsn::ZERO),
            false => self.each().filter_map(of).min(),
        }
    }

    /// Places that could not be read wholly, and why.
    pub(super) fn troubles(&self) -> Vec<(String, String)> {
        let of = |(name, place): (&String, &OfPlace)| Some((name.clone(), place.why.clone()?));
        self.0.iter().filter_map(of).collect()
    }

    fn each(&self) -> impl Iterator<Item = &Known> {
        self.0.values().filter_map(|place| place.snapshots.as_ref()).flat_map(BTreeMap::values)
    }
}

impl OfPlace {
    /// The place, of which these are the snapshots now.
    fn seen(self, shelf: &Shelf, ids: &[String], store: StoreId) -> OfPlace {
        let (mut before, mut why) = (self.snapshots.unwrap_or_default(), None);
        let mut snapshots = BTreeMap::new();
        for id in ids {
            let known = match readable(shelf.read(id, Depth::Texts)) {
                Ok(snapshot) => Known::of(snapshot, store),
                // It went meanwhile.
                Err(StoreError::Refused { .. }) => continue,
                Err(e) => {
                    why = why.or(Some(e.to_string()));
                    before.remove(id).unwrap_or(Known::Unread(lsn_of(id).unwrap_or_default()))
                }
            };
            snapshots.insert(id.clone(), known);
        }
        OfPlace { snapshots: Some(snapshots), why }
    }
}

impl Known {
    fn of(snapshot: Snapshot, store: StoreId) -> Known {
        let is_ours = snapshot.manifest.as_ref().is_some_and(|manifest| manifest.store_id == store);
        let (lsn, time) = (snapshot.lsn, snapshot.time());
        let at = snapshot.at().filter(|_| is_ours && snapshot.valid);
        let choosable = at.map(|(epoch, lsn)| Choosable { time, epoch, lsn, id: snapshot.id });
        Known::Read { is_ours, choosable, lsn }
    }
}

/// A snapshot of which a file could not be read is not one in which something is wrong.
fn readable(read: Result<Snapshot>) -> Result<Snapshot> {
    let snapshot = read?;
    match snapshot.unread() {
        Some(e) => Err(e.clone()),
        None => Ok(snapshot),
    }
}
