//! Partitions between the file system, the configuration and the database.

use crate::error::Result;
use crate::lsn::Micros;
use crate::model::{Command, Rows, Table};
use crate::partition::{PartitionId, places};
use crate::site::Site;
use crate::store::{CommitError, Store};
use std::collections::BTreeSet;
use std::sync::Mutex;

/// Makes the roots of a partition that no row of the database names yet, and remembers their paths in the data directory
/// (paths never go into log records). Returns its id.
///
/// # Errors
/// If the root is another's, holds something else, or cannot be made.
pub fn add(store: &Store, name: &str, site: &Site, fresh: PartitionId, now: Micros) -> Result<PartitionId> {
    let data = &*store.disks().data;
    store.partitions().add(name, site.clone());
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
    remembered.insert(name.to_owned(), site.clone());
    places::write(data, &remembered)?;
    Ok(id)
}

/// Brings partitions into the database that it does not have; at every start, and while an adoption is due.
///
/// What the roll knows is taken back as it was, whether or not its disk is there. What the configuration names beyond that is made; but
/// not if the database was lost: then it is taken if it is found, for a disk that is not mounted is no new partition.
///
/// # Errors
/// If a root cannot be made, or a command fails.
pub fn register(store: &Store, random: impl Fn() -> PartitionId, now: Micros) -> Result<(), CommitError> {
    let (is_due, roll) = (store.due().is_due(), store.partitions().enrolled());
    let wanted: BTreeSet<String> = match is_due {
        true => store.partitions().list().into_iter().map(|(name, _)| name).chain(roll.keys().cloned()).collect(),
        false => store.disks().partitions.keys().cloned().collect(),
    };
    for name in wanted {
        if store.view().contains(Table::Partitions, name.as_bytes())? {
            continue;
        }
        let id = match roll.get(&name) {
            Some(known) => known.id,
            None if !is_due => store.partitions().prepare(&name, random(), now)?,
            None => match store.partitions().identify(&name) {
                Ok(id) => id,
                // Named by nothing but a file that forgets nobody: it was taken out.
                Err(_) if !roll.is_empty() && !store.disks().partitions.contains_key(&name) => {
                    store.partitions().forget(&name);
                    continue;
                }
                Err(state) => {
                    not_registered(&name, &state.why().unwrap_or_default());
                    continue;
                }
            },
        };
        match store.commit(Command::PartitionAdd { name: name.clone(), id: id.0 }) {
            Ok(_) => {
                store.partitions().expect(&name, id);
                tracing::info!(event = "partition_registered", partition = name, %id);
            }
            // Two names for one root.
            Err(CommitError::Refused(why)) if is_due => not_registered(&name, &why.to_string()),
            Err(e) => return Err(e),
        }
    }
    if !is_due {
        forget_removed(store)?;
    }
    Ok(())
}

/// Partitions that neither the database nor the configuration has: they were taken out of the store, or never came into it. Their paths stay
/// remembered, for a store that goes back to a time when it had them.
fn forget_removed(store: &Store) -> Result<()> {
    let (view, partitions) = (store.view(), store.partitions());
    for (name, _) in partitions.list() {
        if !store.disks().partitions.contains_key(&name) && !view.contains(Table::Partitions, name.as_bytes())? {
            partitions.forget(&name);
        }
    }
    Ok(())
}

fn not_registered(name: &str, why: &str) {
    tracing::error!(
        event = "partition_not_registered",
        partition = name,
        why,
        "the database was lost: mount its disk, or, if there is none, storectl partition add"
    );
}
