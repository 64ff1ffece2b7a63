//! The file `SNAPSHOTS` in a place of snapshots: by it a place that is empty is told from one whose disk is not mounted.
//!
//! # Format
//! A sealed text (`sealed.rs`) of kind `storedd-snapshots`: a line `store ID` for each store that takes snapshots there. A file of no bytes
//! says that a person gives the directory to whoever had his snapshots there: they begin anew.
//!
//! # Operation
//! Where a disk is not mounted lies an empty directory, or none. So a place in which snapshots were taken, and that neither has this file
//! nor holds a snapshot of the store, is *away*, never empty. A place from before there was such a file is known by its snapshots.

use super::Shelf;
use crate::disk;
use crate::error::{Result, StoreError};
use crate::lsn::StoreId;
use crate::sealed::{Lines, seal};

/// Name of the file.
pub const PLACE_FILE: &str = "SNAPSHOTS";
const KIND: &str = "storedd-snapshots";
/// More stores than a host has.
const BYTES_MAX: u64 = 64 << 10;

/// What a place is to a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Its own: the file says so.
    Marked,
    /// Its own: a snapshot of it lies there, or a person says so. The file does not yet.
    Adopted,
    /// Nothing there says so.
    Unknown {
        /// What was found.
        why: String,
    },
}

impl Shelf {
    /// What this place is to `store`. Changes nothing (I7).
    ///
    /// # Errors
    /// Those of the disk: then nobody can say.
    pub fn standing(&self, store: StoreId) -> Result<Standing> {
        let unknown = |why: String| Standing::Unknown { why };
        let found = match self.marked()? {
            Marks::Stores(stores) if stores.contains(&store) => return Ok(Standing::Marked),
            Marks::Given => return Ok(Standing::Adopted),
            Marks::Stores(stores) => {
                let stores: Vec<String> = stores.iter().map(ToString::to_string).collect();
                unknown(format!("{} is of store {}", self.shown_place(), stores.join(", ")))
            }
            Marks::None => unknown(format!("{} is not there", self.shown_place())),
            Marks::Bad(e) => unknown(e.to_string()),
        };
        Ok(if self.holds_of(store)? { Standing::Adopted } else { found })
    }

    /// Has the place say that it is `store`'s, durably; the directory is made if it is not there. A crash leaves the old file or the new one.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn mark_place(&self, store: StoreId) -> Result<()> {
        self.make()?;
        let mut stores = match self.marked()? {
            Marks::Stores(stores) => stores,
            _ => Vec::new(),
        };
        stores.extend((!stores.contains(&store)).then_some(store));
        stores.sort_by_key(|store| store.0);
        let lines: String = stores.iter().map(|store| format!("store {store}\n")).collect();
        let path = self.place_file();
        disk::replace(&*self.disk, &path, &seal(KIND, &lines)).map_err(|e| self.failed("write", &path, e))
    }

    fn marked(&self) -> Result<Marks> {
        let path = self.place_file();
        match self.disk.stat(&path) {
            Ok(None) => return Ok(Marks::None),
            // Whoever made it: it need not be readable for that.
            Ok(Some(entry)) if entry.len == 0 => return Ok(Marks::Given),
            Ok(Some(_)) => {}
            Err(e) => return Err(self.failed("stat", &path, e)),
        }
        let bytes = disk::read_small(&*self.disk, &path, BYTES_MAX).map_err(|e| self.failed("read", &path, e))?;
        Ok(decode(&bytes, &self.shown_place()).map_or_else(Marks::Bad, Marks::Stores))
    }

    /// True if a snapshot of `store` lies there, whatever else is wrong with it.
    fn holds_of(&self, store: StoreId) -> Result<bool> {
        for id in self.list()? {
            match self.manifest(&id) {
                Ok(manifest) if manifest.store_id == store => return Ok(true),
                Err(e @ StoreError::Io { .. }) => return Err(e),
                _ => {}
            }
        }
        Ok(false)
    }

    fn place_file(&self) -> String {
        if self.base.is_empty() { PLACE_FILE.to_owned() } else { format!("{}/{PLACE_FILE}", self.base) }
    }

    fn shown_place(&self) -> String {
        self.disk.display(&self.place_file())
    }
}

/// What the file says.
#[derive(Debug)]
enum Marks {
    /// There is none.
    None,
    /// It is empty.
    Given,
    Stores(Vec<StoreId>),
    /// It is not what was written.
    Bad(StoreError),
}

fn decode(bytes: &[u8], shown: &str) -> Result<Vec<StoreId>> {
    let mut lines = Lines::open(KIND, bytes, shown)?;
    let mut stores = Vec::new();
    while let Some(line) = lines.next() {
        let id = line.strip_prefix("store ").and_then(StoreId::parse);
        stores.push(id.ok_or_else(|| lines.wrong("store"))?);
    }
    Ok(stores)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, SimDisk};
    use std::sync::Arc;

    const US: StoreId = StoreId([1; 16]);
    const OTHERS: StoreId = StoreId([2; 16]);

    #[test]
    fn the_bytes_are_these() {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new().disk("place"));
        let shelf = Shelf::new(disk.clone(), "");
        shelf.mark_place(OTHERS).unwrap();
        shelf.mark_place(US).unwrap();
        let text = String::from_utf8(disk::read_small(&*disk, PLACE_FILE, 4096).unwrap()).unwrap();
        let expected =
            "storedd-snapshots 1\nstore 01010101010101010101010101010101\nstore 02020202020202020202020202020202\ncrc ";
        assert_eq!(text.split_at(expected.len()).0, expected, "{text}");
    }

    // row 87
    #[test]
    fn a_place_is_known_by_what_it_says_and_what_it_holds() {
        let machine = SimDisk::new();
        let disk: Arc<dyn Disk> = Arc::new(machine.disk("place"));
        let shelf = Shelf::new(disk.clone(), "below/it");
        let why = |standing| match standing {
            Standing::Unknown { why } => why,
            standing => panic!("{standing:?}"),
        };
        assert!(why(shelf.standing(US).unwrap()).contains("SNAPSHOTS is not there"));
        shelf.mark_place(OTHERS).unwrap();
        assert!(why(shelf.standing(US).unwrap()).contains(&OTHERS.to_string()));
        shelf.mark_place(US).unwrap();
        assert_eq!(
            (shelf.standing(US).unwrap(), shelf.standing(OTHERS).unwrap()),
            (Standing::Marked, Standing::Marked)
        );
        machine.disk("place").damage("below/it/SNAPSHOTS", 30, 1).unwrap();
        assert!(why(shelf.standing(US).unwrap()).contains("checksum"));
        // Emptied by a person.
        disk.remove("below/it/SNAPSHOTS").unwrap();
        disk.open("below/it/SNAPSHOTS", crate::disk::Access::CreateNew).unwrap();
        assert_eq!(shelf.standing(US).unwrap(), Standing::Adopted);
        shelf.mark_place(US).unwrap();
        assert_eq!(shelf.standing(US).unwrap(), Standing::Marked);
        assert!(why(shelf.standing(OTHERS).unwrap()).contains(&US.to_string()));
    }
}
