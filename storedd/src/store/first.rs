//! The first start: a store is made where there is none. What a start finds that was in use is never taken for nothing.

use super::marker::{self, Marker};
use super::overlay::Overlay;
use super::recovery::{DB_FILE, partitions, settings};
use super::view::Base;
use super::{Disks, Options, Parts};
use crate::db::{Db, SCHEMA_VERSION};
use crate::disk::Lock;
use crate::env::Env;
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn, StoreId};
use crate::wal::{self, Control, ControlState};
use std::sync::Arc;

/// A new store. The marker comes last: before it there is no store, and an interrupted first start begins anew.
pub(super) fn first_start(
    disks: &Disks,
    env: &dyn Env,
    options: &Options,
    lock: Box<dyn Lock>,
    marker: Option<Marker>,
) -> Result<Parts> {
    assert!(marker.is_none(), "a store with a marker is no first start");
    refuse_leftovers(disks)?;
    let store_id = StoreId(env.random());
    let control = Arc::new(Control::create(&*disks.data, ControlState::new(store_id))?);
    Db::create(&disks.db, DB_FILE, store_id, Epoch(0), Lsn::ZERO)?;
    let log = wal::create(&disks.log, &control, settings(options, SCHEMA_VERSION), env.now())?;
    Marker { store_id, created: env.now() }.write(&*disks.data)?;
    let db = Db::open(&disks.db, DB_FILE, options.database())?;
    let reader = Arc::new(db.reader()?);
    Ok(Parts {
        lock,
        store_id,
        control,
        partitions: partitions(disks, store_id)?,
        db,
        log: Some(log),
        base: Base { active: Arc::new(Overlay::sized(options.overlay_bytes)), frozen: None, db: reader, names: None },
        reached: Lsn::ZERO,
        checkpoint: Lsn::ZERO,
    })
}

/// Without a marker there may be the leftovers of an interrupted first start, which are put aside, but nothing of a
/// store that was in use: then the marker is missing, and that is an error.
fn refuse_leftovers(disks: &Disks) -> Result<()> {
    if is_in_use(disks)? {
        return Err(StoreError::Missing { files: vec![disks.data.display(marker::FILE)] });
    }
    for file in segments(disks)? {
        remove_if_there(&*disks.log, &file)?;
    }
    for file in [DB_FILE.to_owned(), format!("{DB_FILE}.new")] {
        remove_if_there(&*disks.db, &file)?;
    }
    Ok(())
}

/// True if there is more than an interrupted first start can have left: a database or a log that holds anything. Changes
/// nothing (I7).
pub(super) fn is_in_use(disks: &Disks) -> Result<bool> {
    let database = disks.db.stat(DB_FILE).map_err(|e| StoreError::io("stat", DB_FILE, e))?;
    let used_db = database.is_some()
        && Db::examine(&disks.db, DB_FILE, None, None)
            .map_or(true, |meta| meta.applied_lsn > Lsn::ZERO || meta.rows() > 0);
    let segments = segments(disks)?;
    let first = wal::file_name(1);
    Ok(used_db || segments.iter().any(|s| *s != first) || has_records(disks, &segments)?)
}

fn segments(disks: &Disks) -> Result<Vec<String>> {
    let entries = disks.log.list("").map_err(|e| StoreError::io("list", disks.log.display(""), e))?;
    Ok(entries.into_iter().map(|e| e.name).filter(|n| wal::file_number(n).is_some()).collect())
}

/// True if the first segment of a log, of whatever store, holds anything behind its header.
fn has_records(disks: &Disks, segments: &[String]) -> Result<bool> {
    let Some(file) = segments.first() else { return Ok(false) };
    let fail = |e| StoreError::io("read", disks.log.display(file), e);
    let opened = disks.log.open(file, crate::disk::Access::ReadFollow).map_err(fail)?;
    let mut page = [0; 64];
    if opened.len().map_err(fail)? < wal::SEGMENT_HEADER_BYTES + page.len() as u64 {
        return Ok(false);
    }
    opened.read_at(wal::SEGMENT_HEADER_BYTES, &mut page).map_err(fail)?;
    Ok(page.iter().any(|b| *b != 0))
}

fn remove_if_there(disk: &dyn crate::disk::Disk, file: &str) -> Result<()> {
    match disk.remove(file) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(StoreError::io("remove", disk.display(file), e)),
    }
}
