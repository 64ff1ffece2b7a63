//! Whose log this is, for a store that does not know its own name any more.

use super::segment::{self, Header, HeaderProblem, PAGE};
use crate::disk::{Access, Disk};
use crate::error::{Result, StoreError};
use crate::lsn::{Micros, StoreId};

/// What a segment says of its store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The segment file.
    pub file: String,
    /// Whose it is.
    pub store_id: StoreId,
    /// When it was made.
    pub created: Micros,
}

/// Every segment whose header page is whole, with what it says. The others say nothing here: a survey names them.
///
/// # Errors
/// Those of the disk.
pub fn owners(disk: &dyn Disk) -> Result<Vec<Owner>> {
    let entries = disk.list("").map_err(|e| StoreError::io("list", disk.display(""), e))?;
    let mut owners = Vec::new();
    for (file, number) in entries.into_iter().filter_map(|e| segment::file_number(&e.name).map(|n| (e.name, n))) {
        let fail = |op, e| StoreError::io(op, disk.display(&file), e);
        let opened = match disk.open(&file, Access::ReadFollow) {
            // A link that leads nowhere.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            opened => opened.map_err(|e| fail("open", e))?,
        };
        if opened.len().map_err(|e| fail("length of", e))? < PAGE as u64 {
            continue;
        }
        let mut page = vec![0; PAGE];
        opened.read_at(0, &mut page).map_err(|e| fail("read", e))?;
        // The page is asked for a store that nobody is; what it answers instead is covered by its checksum.
        let Err(HeaderProblem::Foreign { found, .. }) = Header::parse(&page, StoreId([0; 16]), number) else {
            continue;
        };
        if let Ok(header) = Header::parse(&page, found, number) {
            owners.push(Owner { file, store_id: found, created: header.created });
        }
    }
    Ok(owners)
}
