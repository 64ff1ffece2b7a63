//! Partitions between the file system, the configuration and the database.

use crate::error::Result;
use crate::lsn::Micros;
use crate::model::{Command, Rows, Table};
use crate::partition::{PartitionId, places};
use crate::store::{CommitError, Store};
use std::path::Path;
use std::sync::Mutex;

/// Makes the root of a partition that no row of the database names yet, and remembers its path in the data directory
/// (paths never go into log records). Returns its id.
///
/// # Errors
/// If the root is another's, holds something else, or cannot be made.
pub fn add(store: &Store, name: &str, path: &Path, fresh: PartitionId, now: Micros) -> Result<PartitionId> {
    let data = &*store.disks().data;
    store.partitions().add(name, path);
    let id = match store.partitions().prepare(name, fresh, now) {
        Ok(id) => id,
        Err(e) => {
            store.partitions().remove(name);
            return Err(e);
        }
    };
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut remembered = places::read(data)?;
    remembered.insert(name.to_owned(), path.to_path_buf());
    places::write(data, &remembered)?;
    Ok(id)
}

/// Brings the partitions of the configuration that the database does not know into it; at every start.
///
/// # Errors
/// If a root cannot be made, or the command fails.
pub fn register_configured(store: &Store, random: impl Fn() -> PartitionId, now: Micros) -> Result<(), CommitError> {
    for name in store.disks().partitions.keys() {
        if store.view().contains(Table::Partitions, name.as_bytes())? {
            continue;
        }
        let id = store.partitions().prepare(name, random(), now)?;
        store.commit(Command::PartitionAdd { name: name.clone(), id: id.0 })?;
        tracing::info!(event = "partition_registered", partition = name);
    }
    Ok(())
}
