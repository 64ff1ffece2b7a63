//! Where a store lies.
//!
//! # Format
//! `dbdata/snapshot-places`, a sealed text (`sealed.rs`) of kind `storedd-snapshot-places`: a line `place PATH` for each place beside the
//! usual one in which snapshots were taken, the last one last; paths below the data directory are relative to it.

use crate::disk::{self, Disk};
use crate::error::{Result, StoreError};
use crate::partition::Roots;
use crate::sealed::{Lines, seal};
use crate::site::Site;
use crate::snapshot::{Place, Shelf};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Where snapshots were taken.
const PLACES: &str = "dbdata/snapshot-places";
const PLACES_KIND: &str = "storedd-snapshot-places";
/// So many are remembered.
const PLACES_MAX: usize = 8;
const PLACES_BYTES_MAX: u64 = 64 << 10;

/// Where a store lies.
#[derive(Debug, Clone)]
pub struct Disks {
    /// Data directory: `STORE`, `lock`, `CONTROL`, reports.
    pub data: Arc<dyn Disk>,
    /// Database directory.
    pub db: Arc<dyn Disk>,
    /// Log directory.
    pub log: Arc<dyn Disk>,
    /// How root directories of partitions are opened.
    pub roots: Arc<dyn Roots>,
    /// Partitions of the configuration: name -> where it lies.
    pub partitions: BTreeMap<String, Site>,
    /// Where new snapshots lie.
    pub snapshots: Place,
}

impl Disks {
    /// Where new snapshots lie; its directory is made if it is not there, and is remembered, so that those in it are found when the
    /// configuration names another.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn shelf(&self) -> Result<Shelf> {
        self.remember_place()?;
        match &self.snapshots {
            Place::Below(base) => Ok(Shelf::new(self.data.clone(), base)),
            Place::At(path) => {
                let disk = self.roots.make(path);
                let disk = disk.map_err(|e| StoreError::io("make directory", path.display().to_string(), e))?;
                Ok(Shelf::new(disk, ""))
            }
        }
    }

    /// Every directory that may hold snapshots and can be opened: that of the configuration, those of earlier ones, and the usual one.
    #[must_use]
    pub fn shelves(&self) -> Vec<Shelf> {
        self.shelves_or_why().into_iter().filter_map(Result::ok).collect()
    }

    /// As [`Disks::shelves`]; in place of one that cannot be opened, why.
    pub(super) fn shelves_or_why(&self) -> Vec<Result<Shelf>> {
        self.snapshot_places().into_iter().map(|place| place.shelf).collect()
    }

    /// Every place that may hold snapshots. An earlier one that is gone holds nothing. Where it cannot be read which there were, that is one
    /// place that cannot be read.
    pub(super) fn snapshot_places(&self) -> Vec<SnapshotPlace> {
        let open = |place: &Place| match place {
            Place::Below(base) => Ok(Shelf::new(self.data.clone(), base)),
            Place::At(path) => match self.roots.open(path) {
                Ok(disk) => Ok(Shelf::new(disk, "")),
                Err(e) => Err(StoreError::io("open directory", path.display().to_string(), e)),
            },
        };
        let is_gone = |opened: &Result<Shelf>| matches!(opened, Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound);
        let (known, unread) = match self.read_places() {
            Ok(known) => (known, None),
            Err(e @ StoreError::Io { .. }) => (Vec::new(), Some(e)),
            Err(e) => (not_known(&e), None),
        };
        let shown = |place: &Place| match place {
            Place::Below(path) => self.data.display(path),
            Place::At(path) => path.display().to_string(),
        };
        let was_used = |place: &Place| unread.is_some() || known.contains(place);
        let place = |place: &Place| SnapshotPlace { name: shown(place), shelf: open(place), was_used: was_used(place) };
        let usual = Place::default();
        let others = known.iter().rev().chain([&usual]).filter(|other| **other != self.snapshots);
        let others = others.map(place).filter(|other| !is_gone(&other.shelf));
        let mut all: Vec<SnapshotPlace> = [place(&self.snapshots)].into_iter().chain(others).collect();
        all.extend(unread.map(|e| SnapshotPlace { name: self.data.display(PLACES), shelf: Err(e), was_used: true }));
        all
    }

    /// Places in which snapshots were taken, beside the usual one. A file that cannot be read names none: that is said, and those of the
    /// configuration and the usual one are still looked at.
    fn places(&self) -> Vec<Place> {
        self.read_places().unwrap_or_else(|e| not_known(&e))
    }

    fn read_places(&self) -> Result<Vec<Place>> {
        let shown = self.data.display(PLACES);
        let bytes = match disk::read_small(&*self.data, PLACES, PLACES_BYTES_MAX) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            bytes => bytes.map_err(|e| StoreError::io("read", &shown, e))?,
        };
        let mut lines = Lines::open(PLACES_KIND, &bytes, &shown)?;
        let mut places = Vec::new();
        while let Some(line) = lines.next() {
            let path = line.strip_prefix("place ").ok_or_else(|| lines.wrong("place"))?;
            let is_absolute = Path::new(path).is_absolute();
            places.push(if is_absolute { Place::At(path.into()) } else { Place::Below(path.to_owned()) });
        }
        Ok(places)
    }

    fn remember_place(&self) -> Result<()> {
        let mut places = self.places();
        // What no line can hold is found as long as the configuration names it.
        let named = self.snapshots.text().is_some_and(|text| !text.contains('\n'));
        if self.snapshots == Place::default() || !named || places.last() == Some(&self.snapshots) {
            return Ok(());
        }
        places.retain(|place| *place != self.snapshots);
        places.push(self.snapshots.clone());
        let known = &places[places.len().saturating_sub(PLACES_MAX)..];
        let lines = known.iter().filter_map(|place| Some(format!("place {}\n", place.text()?)));
        let fail = |e| StoreError::io("write", self.data.display(PLACES), e);
        disk::create_all(&*self.data, disk::parent(PLACES)).map_err(fail)?;
        disk::replace(&*self.data, PLACES, &seal(PLACES_KIND, &lines.collect::<String>())).map_err(fail)?;
        self.data.sync_dir("").map_err(fail)
    }
}

/// A place that may hold snapshots.
#[derive(Debug)]
pub(super) struct SnapshotPlace {
    /// As a person would type it.
    pub(super) name: String,
    /// It, or why it cannot be opened.
    pub(super) shelf: Result<Shelf>,
    /// Snapshots were taken there, as far as it is remembered.
    pub(super) was_used: bool,
}

fn not_known(e: &StoreError) -> Vec<Place> {
    tracing::warn!(event = "snapshot_places", error = %e, "earlier places of snapshots are not known");
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Persist, SimDisk};
    use crate::partition::RealRoots;

    fn at(machine: &SimDisk, place: Place) -> Disks {
        let disk = || -> Arc<dyn Disk> { Arc::new(machine.disk("data")) };
        let (data, db, log) = (disk(), disk(), disk());
        Disks { data, db, log, roots: Arc::new(RealRoots), partitions: BTreeMap::new(), snapshots: place }
    }

    // row 87
    #[test]
    fn earlier_places_are_remembered_and_are_a_few() {
        let machine = SimDisk::new();
        let below = |n: usize| Place::Below(format!("place {n}"));
        for n in 0..12 {
            drop(at(&machine, below(n)).shelf().unwrap());
            drop(at(&machine, Place::default()).shelf().unwrap());
        }
        drop(at(&machine, below(9)).shelf().unwrap());
        let known = at(&machine, Place::default()).places();
        assert_eq!(known, [4, 5, 6, 7, 8, 10, 11, 9].map(below));
        // Those of this one, the others newest first, the usual one.
        assert_eq!(at(&machine, below(5)).shelves().len(), 1 + 7 + 1);
        let before = machine.tree_hash();
        machine.disk("data").damage(PLACES, 40, 1).unwrap();
        assert!(at(&machine, Place::default()).places().is_empty());
        assert_eq!(at(&machine, Place::default()).shelves().len(), 1);
        machine.disk("data").damage(PLACES, 40, 1).unwrap();
        assert_eq!(machine.tree_hash(), before);
        // Whatever stops the note of one more, the others are known.
        for n in 1.. {
            let machine = machine.image(Persist::Everything);
            machine.crash_at(machine.ops() + n);
            let done = at(&machine, below(99)).shelf().is_ok();
            let after = machine.image(Persist::Nothing);
            let known = at(&after, Place::default()).places();
            assert!(known.contains(&below(9)), "operation {n}: {known:?}");
            assert!(known.contains(&below(99)) || !done, "operation {n}");
            if done {
                break;
            }
        }
    }
}
