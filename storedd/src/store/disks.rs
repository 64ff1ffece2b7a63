//! Where a store lies.
//!
//! # Format
//! `dbdata/snapshot-places`, a sealed text (`sealed.rs`) of kind `storedd-snapshot-places`: a line `place PATH` for each place beside the
//! usual one in which snapshots were taken, the last one last; paths below the data directory are relative to it.
//!
//! # Invariants
//! * A place of snapshots that was used and is not there, or does not say that it is this store's, is away, never empty: nothing is written there
//!   (`snapshot/place.rs`).

use crate::disk::{self, Disk};
use crate::error::{Result, StoreError, exit};
use crate::lsn::StoreId;
use crate::partition::Roots;
use crate::sealed::{Lines, seal};
use crate::site::Site;
use crate::snapshot::{PLACE_FILE, Place, Shelf, Standing};
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
    /// Where new snapshots of `store` lie. A place that is used for the first time is made, says from then on whose it is, and is remembered, so that
    /// those in it are found when the configuration names another.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if it is away: it was used, and what lies there is not it. Then nothing was written there. Those of the disk.
    pub fn shelf(&self, store: StoreId) -> Result<Shelf> {
        let place = &self.snapshots;
        if *place == Place::default() {
            return self.open(place);
        }
        // Where that is not known it may have been.
        let was_used = self.read_places().map_or(true, |known| known.contains(place));
        let shelf = match place {
            Place::At(path) if !was_used => {
                let disk = self.roots.make(path);
                let disk = disk.map_err(|e| StoreError::io("make directory", path.display().to_string(), e))?;
                Shelf::new(disk, "")
            }
            _ if was_used => self.there(place, store)?,
            _ => self.open(place)?,
        };
        if shelf.standing(store)? != Standing::Marked {
            shelf.mark_place(store)?;
        }
        // Behind the mark: one that is remembered and not marked is away.
        self.remember_place()?;
        Ok(shelf)
    }

    /// Has places that are known by their snapshots alone say whose they are, and forgets earlier ones in which nothing is left. What cannot be
    /// done now is done later.
    pub fn tend_places(&self, store: StoreId) {
        let Ok(known) = self.read_places() else { return };
        let is_left = |place: &&Place| {
            let Ok(shelf) = self.open(place) else { return true };
            match shelf.standing(store) {
                Ok(Standing::Marked) => {}
                Ok(Standing::Adopted) => {
                    if let Err(e) = shelf.mark_place(store) {
                        tracing::warn!(event = "snapshot_place_not_marked", error = %e);
                        return true;
                    }
                }
                _ => return true,
            }
            **place == self.snapshots || shelf.list().map_or(true, |ids| !ids.is_empty())
        };
        let left: Vec<Place> = known.iter().filter(is_left).cloned().collect();
        if left.len() < known.len()
            && let Err(e) = self.note_places(&left)
        {
            tracing::warn!(event = "snapshot_places", error = %e, "an earlier place in which nothing is left is not forgotten");
        }
    }

    fn open(&self, place: &Place) -> Result<Shelf> {
        match place {
            Place::Below(base) => Ok(Shelf::new(self.data.clone(), base)),
            Place::At(path) => match self.roots.open(path) {
                Ok(disk) => Ok(Shelf::new(disk, "")),
                Err(e) => Err(StoreError::io("open directory", path.display().to_string(), e)),
            },
        }
    }

    /// A place in which snapshots were taken, if it is what it was.
    fn there(&self, place: &Place, store: StoreId) -> Result<Shelf> {
        let why = match self.open(place) {
            Ok(shelf) => match shelf.standing(store)? {
                Standing::Marked | Standing::Adopted => return Ok(shelf),
                Standing::Unknown { why } => why,
            },
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                "it is not there".to_owned()
            }
            Err(e) => return Err(e),
        };
        let shown = self.shown(place);
        Err(StoreError::Refused {
            message: format!("the place of snapshots {shown} is away: {why}"),
            hint: format!(
                "mount the disk that belongs there; to begin anew in an empty directory make an empty file there: truncate -s 0 '{shown}/{PLACE_FILE}'"
            ),
            exit: exit::BUSY,
        })
    }

    fn shown(&self, place: &Place) -> String {
        match place {
            Place::Below(path) => self.data.display(path),
            Place::At(path) => path.display().to_string(),
        }
    }

    /// Every directory that may hold snapshots of `store`, is not away and can be opened: that of the configuration, those of earlier ones, and the usual one.
    #[must_use]
    pub fn shelves(&self, store: StoreId) -> Vec<Shelf> {
        self.shelves_or_why(store).into_iter().filter_map(Result::ok).collect()
    }

    /// As [`Disks::shelves`]; in place of one that cannot be opened, why.
    pub(super) fn shelves_or_why(&self, store: StoreId) -> Vec<Result<Shelf>> {
        self.snapshot_places(store).into_iter().map(|place| place.shelf).collect()
    }

    /// Every place that may hold snapshots. Where it cannot be read which there were, that is one place that cannot be read.
    pub(super) fn snapshot_places(&self, store: StoreId) -> Vec<SnapshotPlace> {
        let (known, unread) = match self.read_places() {
            Ok(known) => (known, None),
            Err(e @ StoreError::Io { .. }) => (Vec::new(), Some(e)),
            Err(e) => (not_known(&e), None),
        };
        let place = |place: &Place| {
            let is_known = known.contains(place);
            let shelf = if is_known { self.there(place, store) } else { self.open(place) };
            SnapshotPlace { name: self.shown(place), shelf, was_used: is_known || unread.is_some() }
        };
        let usual = Place::default();
        let others = known.iter().rev().chain([&usual]).filter(|other| **other != self.snapshots);
        let mut all: Vec<SnapshotPlace> = [&self.snapshots].into_iter().chain(others).map(place).collect();
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
        self.note_places(&places[places.len().saturating_sub(PLACES_MAX)..])
    }

    fn note_places(&self, places: &[Place]) -> Result<()> {
        let lines = places.iter().filter_map(|place| Some(format!("place {}\n", place.text()?)));
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

    const STORE: StoreId = StoreId([7; 16]);

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
            drop(at(&machine, below(n)).shelf(STORE).unwrap());
            drop(at(&machine, Place::default()).shelf(STORE).unwrap());
        }
        drop(at(&machine, below(9)).shelf(STORE).unwrap());
        let known = at(&machine, Place::default()).places();
        assert_eq!(known, [4, 5, 6, 7, 8, 10, 11, 9].map(below));
        // Those of this one, the others newest first, the usual one.
        assert_eq!(at(&machine, below(5)).shelves(STORE).len(), 1 + 7 + 1);
        let before = machine.tree_hash();
        machine.disk("data").damage(PLACES, 40, 1).unwrap();
        assert!(at(&machine, Place::default()).places().is_empty());
        assert_eq!(at(&machine, Place::default()).shelves(STORE).len(), 1);
        machine.disk("data").damage(PLACES, 40, 1).unwrap();
        assert_eq!(machine.tree_hash(), before);
        // Whatever stops the note of one more, the others are known.
        for n in 1.. {
            let machine = machine.image(Persist::Everything);
            machine.crash_at(machine.ops() + n);
            let done = at(&machine, below(99)).shelf(STORE).is_ok();
            let after = machine.image(Persist::Nothing);
            let known = at(&after, Place::default()).places();
            assert!(known.contains(&below(9)), "operation {n}: {known:?}");
            assert!(known.contains(&below(99)) || !done, "operation {n}");
            // Nothing that a stop leaves is taken for a disk that is away.
            assert!(at(&after, below(99)).shelf(STORE).is_ok(), "operation {n}");
            if done {
                break;
            }
        }
    }
}
