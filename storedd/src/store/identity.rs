//! The marker is gone or damaged: whose files are these?
//!
//! # Purpose
//! The marker says which store a directory is, before any other byte of it is believed. Without it a start refuses: it must not guess.
//! A person who says `recover` has the files themselves asked, and the marker is made again.
//!
//! # Operation
//! Control file, database and every log segment carry the store's id under a checksum of their own. Those that are whole must name
//! the same store; damaged ones say nothing here, and what follows names them.
//!
//! # Invariants
//! * Looking changes nothing (I7); the marker is written when recovery has decided that it goes on.
//! * A marker of a newer layout is never replaced.

use super::Disks;
use super::first;
use super::marker::{self, Marker};
use super::recovery::DB_FILE;
use super::report::Finding;
use crate::db::Db;
use crate::error::{Result, StoreError, exit};
use crate::lsn::{Micros, StoreId};
use crate::wal::{self, CONTROL_FILE, Control, Owner};
use std::collections::BTreeMap;

/// The command that makes the marker again.
const WAY_BACK: &str =
    "put the named file back, or have it made again from the files that name their store: storedd recover";

/// The marker, as it was read or as it must have been.
pub(super) struct Identity {
    pub(super) marker: Option<Marker>,
    /// It is to be written: what was wrong with the one there.
    pub(super) lost: Option<Finding>,
}

/// Reads the marker for a start. `None`: there was no store.
///
/// # Errors
/// A damaged one, and one that is missing beside files of a store; newer, unreadable.
pub(super) fn read(disks: &Disks) -> Result<Option<Marker>> {
    match lost(disks)? {
        (marker, None) => Ok(marker),
        (_, Some(e)) => {
            Err(StoreError::Refused { message: e.to_string(), hint: WAY_BACK.to_owned(), exit: exit::DAMAGED })
        }
    }
}

/// Reads the marker, or deduces it.
///
/// # Errors
/// As [`read`], where the files name no store, or more than one.
pub(super) fn read_or_deduce(disks: &Disks, now: Micros) -> Result<Identity> {
    let (marker, problem) = lost(disks)?;
    let Some(problem) = problem else { return Ok(Identity { marker, lost: None }) };
    let owners = owners(disks)?;
    let mut named: BTreeMap<[u8; 16], Vec<String>> = BTreeMap::new();
    for owner in &owners {
        named.entry(owner.store_id.0).or_default().push(owner.file.clone());
    }
    let store = match named.len() {
        0 => return Err(problem),
        1 => owners[0].store_id,
        _ => return Err(several(disks, &named)),
    };
    let created = owners.iter().map(|o| o.created).filter(|at| at.0 > 0).min().unwrap_or(now);
    let mut lost = Finding::of(&problem);
    lost.expected = format!("store {store}, as {} say; the marker was made again", files(&named[&store.0]));
    Ok(Identity { marker: Some(Marker { store_id: store, created }), lost: Some(lost) })
}

/// The marker; or why there is none although this is a store.
fn lost(disks: &Disks) -> Result<(Option<Marker>, Option<StoreError>)> {
    match Marker::read(&*disks.data) {
        Ok(None) if first::is_in_use(disks)? => {
            Ok((None, Some(StoreError::Missing { files: vec![disks.data.display(marker::FILE)] })))
        }
        Err(e @ StoreError::Corrupt { .. }) => Ok((None, Some(e))),
        read => Ok((read?, None)),
    }
}

/// Every file that names its store.
fn owners(disks: &Disks) -> Result<Vec<Owner>> {
    let mut owners = Vec::new();
    let unknown = Micros(0);
    if let Some(state) = Control::load(&*disks.data)?.state {
        owners.push(Owner { file: disks.data.display(CONTROL_FILE), store_id: state.store_id, created: unknown });
    }
    let there = disks.db.stat(DB_FILE).map_err(|e| StoreError::io("stat", disks.db.display(DB_FILE), e))?;
    if there.is_some() {
        match Db::examine(&disks.db, DB_FILE, None, None) {
            Ok(meta) => {
                owners.push(Owner { file: disks.db.display(DB_FILE), store_id: meta.store_id, created: unknown });
            }
            Err(e @ (StoreError::Io { .. } | StoreError::Foreign { .. })) => return Err(e),
            Err(_) => {}
        }
    }
    for mut owner in wal::owners(&*disks.log)? {
        owner.file = disks.log.display(&owner.file);
        owners.push(owner);
    }
    Ok(owners)
}

fn several(disks: &Disks, named: &BTreeMap<[u8; 16], Vec<String>>) -> StoreError {
    let stores = named.iter().map(|(id, of)| format!("store {}: {}", StoreId(*id), files(of)));
    let all = stores.collect::<Vec<_>>().join("; ");
    StoreError::Refused {
        message: format!("{} is lost, and the files are of several stores: {all}", disks.data.display(marker::FILE)),
        hint: "move the files of the other store away, then run: storedd recover".to_owned(),
        exit: exit::DAMAGED,
    }
}

/// A few names; a list of hundreds of segments tells nobody more.
fn files(all: &[String]) -> String {
    const SHOWN: usize = 4;
    let shown = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if all.len() > SHOWN { format!("{shown} and {} more", all.len() - SHOWN) } else { shown }
}
