//! Where a store lies.

use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::partition::Roots;
use crate::snapshot::{Place, Shelf};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

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
    /// Partitions of the configuration: name -> root directory.
    pub partitions: BTreeMap<String, PathBuf>,
    /// Where new snapshots lie.
    pub snapshots: Place,
}

impl Disks {
    /// Where new snapshots lie; its directory is made if it is not there.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn shelf(&self) -> Result<Shelf> {
        match &self.snapshots {
            Place::Below(base) => Ok(Shelf::new(self.data.clone(), base)),
            Place::At(path) => {
                let disk = self.roots.make(path);
                let disk = disk.map_err(|e| StoreError::io("make directory", path.display().to_string(), e))?;
                Ok(Shelf::new(disk, ""))
            }
        }
    }

    /// Every directory that may hold snapshots and can be opened: that of the configuration, and the usual one, so that those
    /// taken before the configuration named another are still there.
    #[must_use]
    pub fn shelves(&self) -> Vec<Shelf> {
        self.shelves_or_why().into_iter().filter_map(Result::ok).collect()
    }

    /// As [`Disks::shelves`]; in place of one that cannot be opened, why.
    pub(super) fn shelves_or_why(&self) -> Vec<Result<Shelf>> {
        let usual = Place::default();
        let places = [&self.snapshots, &usual];
        let places = &places[..if self.snapshots == usual { 1 } else { 2 }];
        let open = |place: &&Place| match place {
            Place::Below(base) => Ok(Shelf::new(self.data.clone(), base)),
            Place::At(path) => match self.roots.open(path) {
                Ok(disk) => Ok(Shelf::new(disk, "")),
                Err(e) => Err(StoreError::io("open directory", path.display().to_string(), e)),
            },
        };
        places.iter().map(open).collect()
    }
}
